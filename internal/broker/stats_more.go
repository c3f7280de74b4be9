package broker

import (
	"sync"
	"sync/atomic"
	"time"

	"gomq/internal/broker/trans"
	"gomq/internal/message"
)

// reached is how far a group has pulled the queues of a topic since the broker
// began: the offset behind what was handed out last. It tells messages that a
// consumer has in hand from those that wait here.
type reached struct {
	next atomic.Pointer[[]atomic.Int64] // by queue; 0 is not known
}

// maxReached bounds the queues that all groups together are remembered for.
const maxReached = 1 << 20

// set is called by every pull that found something.
func (r *reached) set(s *stats, queue int32, next int64) {
	list := r.next.Load()
	if list == nil || int(queue) >= len(*list) {
		if list = r.grow(s, list, int(queue)+1); list == nil {
			return
		}
	}
	(*list)[queue].Store(next)
}

// grow makes room for n queues. What another pull sets meanwhile may be lost until
// its next one.
func (r *reached) grow(s *stats, old *[]atomic.Int64, n int) *[]atomic.Int64 {
	had := 0
	if old != nil {
		had = len(*old)
	}
	n = max(n, had+min(had, 64))
	if s.reachedQueues.Add(int64(n-had)) > maxReached {
		s.reachedQueues.Add(int64(had - n))
		return nil
	}
	list := make([]atomic.Int64, n)
	for i := range had {
		list[i].Store((*old)[i].Load())
	}
	if !r.next.CompareAndSwap(old, &list) {
		s.reachedQueues.Add(int64(had - n))
		return nil // somebody else was faster; the next pull is remembered
	}
	return &list
}

// drop gives back what was counted for it.
func (r *reached) drop(s *stats) {
	if list := r.next.Load(); list != nil {
		s.reachedQueues.Add(-int64(len(*list)))
	}
}

// pulled is how far the group has pulled a queue of the topic, 0 when that is not
// known.
func (s *stats) pulled(topic, group string, queue int32) int64 {
	g := s.pair(topic, group)
	if g == nil {
		return 0
	}
	if list := g.reached.next.Load(); list != nil && int(queue) < len(*list) {
		return (*list)[queue].Load()
	}
	return 0
}

// creationBounds are those of rocketmq_topic_create_execution_time, in ms.
var creationBounds = [...]float64{10, 100, 1000, 3000, 5000}

// creation is a kind of topics or groups that were made.
type creation struct {
	group, failed, system bool
}

// creations are the times that it took to make topics and groups. It has one
// mutex.
type creations struct {
	mu    sync.Mutex
	times map[creation]*spread
}

// spread is a histogram over creationBounds.
type spread struct {
	n   uint64
	sum float64 // ms
	in  [len(creationBounds)]uint64
}

// made takes note of a topic or a group that was made, or could not be.
func (s *stats) made(group bool, name string, begun time.Time, err error, o *Options) {
	kind := creation{group: group, failed: err != nil, system: systemTopic(name, o)}
	if group {
		kind.system = systemGroup(name)
	}
	ms := float64(s.now().Sub(begun)) / float64(time.Millisecond)
	c := &s.creations
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.times == nil {
		c.times = map[creation]*spread{}
	}
	t := c.times[kind]
	if t == nil {
		t = &spread{}
		c.times[kind] = t
	}
	t.n++
	t.sum += ms
	for i, b := range creationBounds {
		if ms <= b {
			t.in[i]++
		}
	}
}

// each calls f with a copy of every kind's times.
func (c *creations) each(f func(creation, spread)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for k, t := range c.times {
		f(k, *t)
	}
}

// finishBounds are those of rocketmq_finish_message_latency.
var finishBounds = [...]time.Duration{10 * time.Millisecond, 100 * time.Millisecond, time.Second, 10 * time.Second, time.Minute, 10 * time.Minute, time.Hour}

// txStats are the transactions of a topic that were ended.
type txStats struct {
	committed, rolledBack atomic.Int64
	took                  [len(finishBounds) + 1]atomic.Int64
	tookAll               atomic.Int64 // ms
}

// ended takes note of a transaction.
func (t *topicStats) ended(e trans.Ended) {
	if e.Outcome == message.Commit {
		t.tx.committed.Add(1)
	} else {
		t.tx.rolledBack.Add(1)
	}
	i := 0
	for i < len(finishBounds) && e.Took > finishBounds[i] {
		i++
	}
	t.tx.took[i].Add(1)
	t.tx.tookAll.Add(e.Took.Milliseconds())
}
