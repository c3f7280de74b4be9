package broker

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"gomq/internal/protocol"
)

// stats counts what passes: totals for the runtime information, and per topic and
// per topic and group for the metrics. What a Turn sends is folded into one
// addition a counter.
type stats struct {
	now     func() time.Time
	started time.Time

	stored  counters // messages, and the bytes of their records
	failed  atomic.Int64
	putMax  atomic.Int64 // ns, the longest append
	putTime [len(putBounds) + 1]atomic.Int64
	getMax  atomic.Int64 // ns, the longest read
	found   atomic.Int64 // pulls that found something
	missed  atomic.Int64 // pulls that found nothing
	out     counters     // messages pulled

	mu     sync.RWMutex // guards the maps, not what they point to
	topics map[string]*topicStats
	pairs  int

	sampled   samples
	spans     spans
	creations creations

	reachedQueues atomic.Int64 // see maxReached
}

// counters are a number of messages and the bytes of their records.
type counters struct{ n, bytes atomic.Int64 }

func (c *counters) add(n, bytes int) {
	c.n.Add(int64(n))
	c.bytes.Add(int64(bytes))
}

// topicStats is what is counted of one topic.
type topicStats struct {
	in     counters
	past   history
	sizes  [len(sizeBounds) + 1]atomic.Int64
	groups map[string]*groupStats // guarded by stats.mu
	tx     txStats
}

// groupStats is what a group has pulled of one topic.
type groupStats struct {
	out     counters
	past    history
	reached reached
	// Messages first sent to the topic that the group has sent back, and that became
	// its dead letters.
	back     counters
	backPast history
	dead     atomic.Int64
}

// putBounds are those of putMessageDistributeTime.
var putBounds = [...]time.Duration{0, 10 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond, 200 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2 * time.Second, 3 * time.Second, 4 * time.Second, 5 * time.Second, 10 * time.Second}

// sizeBounds are those of rocketmq_message_size.
var sizeBounds = [...]int{1 << 10, 4 << 10, 512 << 10, 1 << 20, 2 << 20, 4 << 20}

const (
	// maxPairs bounds the (topic, group) pairs that are counted apart; the rest is
	// counted under otherGroup.
	maxPairs   = 10_000
	otherGroup = "_other"
)

func newStats(now func() time.Time) *stats {
	s := &stats{now: now, started: now(), topics: map[string]*topicStats{}}
	s.sampled.day = now().Format(time.DateOnly)
	s.spans.begin(s.started)
	return s
}

// put counts a Turn that was appended.
func (s *stats) put(w *outgoing, took time.Duration) {
	n, bytes, failed := 0, 0, 0
	var run *protocol.TopicConfig
	var t *topicStats
	var sizes [len(sizeBounds) + 1]int64
	rn, rb := 0, 0
	flush := func() {
		if t == nil {
			return
		}
		t.in.add(rn, rb)
		for i := range sizes {
			if sizes[i] > 0 {
				t.sizes[i].Add(sizes[i])
				sizes[i] = 0
			}
		}
		rn, rb = 0, 0
	}
	for i := range w.staged {
		st := &w.staged[i]
		if st.topic != run {
			flush()
			run, t = st.topic, s.topic(st.topic.TopicName)
		}
		for k := range st.n {
			p := w.batch.Placed(st.first + k)
			if p.Err != nil {
				failed++
				continue
			}
			if st.dead != nil {
				st.dead.dead.Add(1)
			}
			rn, rb = rn+1, rb+int(p.Size)
			n, bytes = n+1, bytes+int(p.Size)
			sizes[sizeSlot(int(p.Size))]++
		}
	}
	flush()
	s.stored.add(n, bytes)
	if failed > 0 {
		s.putFailed(failed)
	}
	slot := 0
	for slot < len(putBounds) && took.Truncate(time.Millisecond) > putBounds[slot] {
		slot++
	}
	s.putTime[slot].Add(int64(n))
	raise(&s.putMax, int64(took))
}

func sizeSlot(n int) int {
	for i, b := range sizeBounds {
		if n <= b {
			return i
		}
	}
	return len(sizeBounds)
}

func raise(m *atomic.Int64, v int64) {
	for {
		old := m.Load()
		if v <= old || m.CompareAndSwap(old, v) {
			return
		}
	}
}

// putFailed counts sends that were not stored.
func (s *stats) putFailed(n int) { s.failed.Add(int64(n)) }

// got counts a pull that found messages; next is where its queue goes on.
func (s *stats) got(topic, group string, n, bytes int, queue int32, next int64) {
	s.found.Add(1)
	s.out.add(n, bytes)
	g := s.group(topic, group)
	g.out.add(n, bytes)
	g.reached.set(s, queue, next)
}

// read takes note of how long a read took.
func (s *stats) read(took time.Duration) { raise(&s.getMax, int64(took)) }

// miss counts a pull that found none.
func (s *stats) miss() { s.missed.Add(1) }

func (s *stats) topic(name string) *topicStats {
	s.mu.RLock()
	t := s.topics[name]
	s.mu.RUnlock()
	if t != nil {
		return t
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.topicLocked(name)
}

// topicLocked makes a topic's counters. Held: mu.
func (s *stats) topicLocked(name string) *topicStats {
	t := s.topics[name]
	if t == nil {
		t = &topicStats{groups: map[string]*groupStats{}}
		s.topics[name] = t
	}
	return t
}

func (s *stats) group(topic, group string) *groupStats {
	s.mu.RLock()
	var g *groupStats
	if t := s.topics[topic]; t != nil {
		g = t.groups[group]
	}
	s.mu.RUnlock()
	if g != nil {
		return g
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.topicLocked(topic)
	if g = t.groups[group]; g != nil {
		return g
	}
	if s.pairs >= maxPairs {
		group = otherGroup
		if g = t.groups[group]; g != nil {
			return g
		}
	}
	s.pairs++
	g = &groupStats{}
	t.groups[group] = g
	return g
}

// forget drops a topic that was deleted.
func (s *stats) forget(topic string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.topics[topic]; t != nil {
		s.pairs -= len(t.groups)
		for _, g := range t.groups {
			g.reached.drop(s)
		}
		delete(s.topics, topic)
	}
}

// samples are the totals of the last ten minutes, one a second.
type samples struct {
	mu   sync.Mutex // guards all
	ring [601]sample
	n    int // samples taken
	day  string
	put  dayCount
	get  dayCount
}

type sample struct{ put, found, missed, out int64 }

// dayCount is a total at the last two midnights.
type dayCount struct{ yesterday, today int64 }

// tick takes a sample; it is called once a second.
func (s *stats) tick(context.Context) error {
	x := sample{s.stored.n.Load(), s.found.Load(), s.missed.Load(), s.out.n.Load()}
	m := &s.sampled
	m.mu.Lock()
	m.ring[m.n%len(m.ring)] = x
	m.n++
	n := m.n
	if day := s.now().Format(time.DateOnly); day != m.day {
		m.day = day
		m.put = dayCount{m.put.today, x.put}
		m.get = dayCount{m.get.today, x.out}
	}
	m.mu.Unlock()
	if n%10 == 0 {
		s.remember()
	}
	return nil
}

// rates gives "10s 60s 600s" of one total, messages a second.
func (m *samples) rates(of func(sample) int64) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	parts := make([]string, 0, 3)
	for _, span := range [...]int{10, 60, 600} {
		rate := 0.0
		if span = min(span, m.n-1); span > 0 {
			last, first := m.ring[(m.n-1)%len(m.ring)], m.ring[(m.n-1-span)%len(m.ring)]
			rate = float64(of(last)-of(first)) / float64(span)
		}
		parts = append(parts, fmt.Sprint(rate))
	}
	return strings.Join(parts, " ")
}

// days are the totals at midnight before last and at last midnight.
func (m *samples) days() (put, get dayCount) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.put, m.get
}
