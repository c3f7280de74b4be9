//go:build faults

package faults

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"gomq/test/checker"
	"gomq/test/goclient"
	"gomq/test/harness"
	"gomq/test/raw"
)

const (
	workTopic  = "Work"
	workQueues = 2
	workGroup  = "g-t27"
	workRetry  = "%RETRY%" + workGroup
	workDead   = "%DLQ%" + workGroup
	// workMost is the group's maxReconsumeTimes.
	workMost = 2
	// workPause is that of the levels 1 to 6 of laterLevels, and no other is used.
	workPause = time.Second
	// workLag is flushConsumerOffsetInterval and a second.
	workLag = 1300 * time.Millisecond
)

// workPlaces are the queues that the group consumes.
var workPlaces = []checker.Event{{Topic: workTopic, Queue: 0}, {Topic: workTopic, Queue: 1}, {Topic: workRetry}}

// work is messages and a group that consumes them, sends some of them back, and
// commits what it has dealt with. It goes on where the last cycle was cut off.
type work struct {
	t     testing.TB
	run   *checker.Run // the messages themselves, and the group's places
	addr  string
	seq   int64
	backs map[try]*sentBack // written by one consumer at a time
}

// try is a message as it is consumed after so many times in vain.
type try struct {
	key   string
	times int
}

// sentBack is what became of a try that was sent back.
type sentBack struct {
	begun int64 // the first time, ms
	tried int
	acked int // answered with SUCCESS
}

// fate is where a try is sent back to and with which level; "" when it succeeds.
// A quarter of the messages succeeds at once, one at the second try, one never,
// and one is given up at once.
func (x try) fate() (topic string, level int) {
	var seq int64
	if _, err := fmt.Sscan(x.key[strings.LastIndexByte(x.key, '-')+1:], &seq); err != nil {
		panic(err)
	}
	switch kind := seq % 4; {
	case kind == 1 && x.times == 0:
		return workRetry, 1
	case kind == 2 && x.times < workMost:
		return workRetry, 0 // the broker chooses: 3 and what was tried
	case kind == 2:
		return workDead, 0
	case kind == 3:
		return workDead, -1
	}
	return "", 0
}

// cycle produces and consumes until the broker is gone.
func (w *work) cycle() {
	slots, gone := make(chan struct{}, 64), make(chan struct{})
	go func() {
		defer close(gone)
		c, err := raw.Dial(w.addr)
		if err != nil {
			return
		}
		defer c.Close()
		if err := w.consume(c, nil, slots); !errors.Is(err, raw.ErrClosed) {
			w.t.Error(err)
		}
	}()
	w.produce(slots, gone)
	<-gone
}

// produce sends one message after another while there are slots for them, none
// twice.
func (w *work) produce(slots chan<- struct{}, gone <-chan struct{}) {
	c, err := raw.Dial(w.addr)
	if err != nil {
		return
	}
	defer c.Close()
	for {
		select {
		case slots <- struct{}{}:
		case <-gone:
			return
		}
		a := checker.Attempt{ID: checker.ID{Seq: w.seq}, N: 1}
		w.seq++
		switch code := send(w.run, c, a, workTopic, int(a.Seq/4%workQueues), 200); code {
		case raw.Success:
		case -1:
			return
		default:
			w.t.Errorf("%v was answered with code %d", a, code)
			return
		}
	}
}

// consume consumes until something fails or stop is closed. Each message of the
// topic gives a slot back.
func (w *work) consume(c *raw.Conn, stop <-chan struct{}, slots <-chan struct{}) error {
	at, err := w.places(c)
	for n := 0; err == nil; {
		select {
		case <-stop:
			return nil
		default:
			n, err = w.round(c, at, n == 0, slots)
		}
	}
	return err
}

// places asks where the group is, which is within each queue.
func (w *work) places(c *raw.Conn) (at []int64, err error) {
	for _, p := range workPlaces {
		n, err := c.Committed(workGroup, p.Topic, p.Queue)
		if err != nil {
			return nil, err
		}
		end, err := c.Offset(raw.MaxOffset, p.Topic, p.Queue)
		if err != nil {
			return nil, err
		}
		if n > end {
			w.t.Errorf("the group's place in %s/%d is %d, the queue ends at %d", p.Topic, p.Queue, n, end)
		}
		w.run.Add(checker.Event{Op: checker.OpPlace, Group: workGroup, Topic: p.Topic, Queue: p.Queue, Offset: n})
		at = append(at, max(n, 0))
	}
	return at, nil
}

// round pulls each queue once, deals with what it gets, commits, and says how
// many messages that was. After a round without any it lets the broker wait.
func (w *work) round(c *raw.Conn, at []int64, idle bool, slots <-chan struct{}) (n int, err error) {
	for i, place := range workPlaces {
		wait := time.Duration(0)
		if idle && i == 0 {
			wait = time.Millisecond
		}
		p, err := c.Pull(workGroup, place.Topic, place.Queue, at[i], 8, wait)
		if err != nil {
			return n, err
		}
		if p.Code == raw.PullNotFound {
			continue
		}
		if p.Code != raw.Success {
			return n, fmt.Errorf("pulling %s/%d at %d: code %d, min %d, max %d", place.Topic, place.Queue, at[i], p.Code, p.Min, p.Max)
		}
		for _, r := range p.Records {
			if place.Topic == workTopic {
				w.run.Polled(workGroup, goclient.RawRecord(r))
				select {
				case <-slots:
				default: // it was sent in another cycle
				}
			}
			if err := w.deal(c, r); err != nil {
				return n, err
			}
		}
		n += len(p.Records)
		at[i] = p.Next
		if err := c.Commit(workGroup, place.Topic, place.Queue, p.Next); err != nil {
			return n, err
		}
		w.run.Add(checker.Event{Op: checker.OpCommit, Group: workGroup, Topic: place.Topic, Queue: place.Queue, Offset: p.Next})
	}
	return n, nil
}

// deal does a message, or sends it back.
func (w *work) deal(c *raw.Conn, r *raw.Record) error {
	x := try{r.Keys(), r.Reconsumes}
	topic, level := x.fate()
	if topic == "" {
		return nil
	}
	b := w.backs[x]
	if b == nil {
		b = &sentBack{begun: time.Now().UnixMilli()}
		w.backs[x] = b
	}
	b.tried++
	if err := c.SendBack(workGroup, workTopic, r.PhyOffset, level, workMost); err != nil {
		return err
	}
	b.acked++
	return nil
}

// drain consumes until everything that was sent back has arrived and, after that,
// nothing is left in the queues. What has not come within half a minute is for
// judge to name.
func (w *work) drain() {
	w.t.Helper()
	c := dial(w.t, w.addr)
	at, err := w.places(c)
	if err != nil {
		w.t.Fatal(err)
	}
	late := time.Now().Add(30 * time.Second)
	harness.Eventually(w.t, 60*time.Second, "the group is at the end of its queues", func() bool {
		there := w.settled(c) || time.Now().After(late)
		total := 0
		for n := 1; n > 0; total += n {
			if n, err = w.round(c, at, false, nil); err != nil {
				w.t.Fatal(err)
			}
		}
		return there && total == 0
	})
}

// settled says whether every try that was sent back has arrived.
func (w *work) settled(c *raw.Conn) bool {
	got := map[try]int{}
	for _, r := range w.arrived(c) {
		got[try{r.Keys(), r.Reconsumes - 1}]++
	}
	for x, b := range w.backs {
		if got[x] < b.acked {
			return false
		}
	}
	return true
}

// arrived is all retries and dead letters.
func (w *work) arrived(c *raw.Conn) (all []*raw.Record) {
	for _, topic := range []string{workRetry, workDead} {
		list, err := c.Sweep(topic, 0)
		if err != nil {
			w.t.Fatal(err)
		}
		all = append(all, list...)
	}
	return all
}

// judge holds what is stored against what was sent, sent back and committed, once
// everything has been drained after so many kills.
func (w *work) judge(kills int) {
	w.t.Helper()
	finish(w.t, w.run, w.addr, workTopic, workQueues, checker.Rules{CommitLag: workLag, Ordered: true, Drained: true, Groups: []string{workGroup},
		PlannedSends: 20 * kills, PlannedKills: kills})
	c := dial(w.t, w.addr)
	origins := map[string]*raw.Record{}
	for q := range workQueues {
		list, err := c.Sweep(workTopic, q)
		if err != nil {
			w.t.Fatal(err)
		}
		for _, r := range list {
			origins[r.Keys()] = r
		}
	}
	got := map[try]int{}
	total := map[string]int{}
	for _, r := range w.arrived(c) {
		x := try{r.Keys(), r.Reconsumes - 1}
		w.arrival(x, r, origins[r.Keys()])
		got[x]++
		total[r.Topic]++
	}
	for x, b := range w.backs {
		topic, _ := x.fate()
		most := b.tried
		if topic == workRetry {
			most *= 1 + kills // delayed messages may come again after each
		}
		if n := got[x]; n < b.acked || n > most {
			w.t.Errorf("%s was sent back to %s after %d times: %d tries, %d acknowledged; it arrived %d times", x.key, topic, x.times, b.tried, b.acked, n)
		}
	}
	// Nothing was committed that had not been dealt with.
	for _, a := range w.run.Acks() {
		for x := (try{key: w.run.Key(a.ID)}); ; x.times++ {
			topic, _ := x.fate()
			if topic != "" && got[x] == 0 {
				w.t.Errorf("%v was acknowledged and is not in %s after %d times", a.Attempt, topic, x.times)
			}
			if topic != workRetry {
				break
			}
		}
	}
	w.t.Logf("%d messages acknowledged, %d tries sent back, %d retries and %d dead letters", w.run.Count(checker.OpAck), len(w.backs), total[workRetry], total[workDead])
	if total[workRetry] == 0 || total[workDead] == 0 {
		w.t.Error("a run without retries or dead letters proves nothing")
	}
	w.held()
}

// arrival judges a retry or dead letter that a try has become; origin is the
// message that was first sent back.
func (w *work) arrival(x try, r, origin *raw.Record) {
	b := w.backs[x]
	if topic, _ := x.fate(); b == nil || topic != r.Topic {
		w.t.Errorf("nobody sent %s back to %s after %d times", x.key, r.Topic, x.times)
		return
	}
	if r.Topic == workRetry && r.StoreTime < b.begun+workPause.Milliseconds() {
		w.t.Errorf("%s came back %d ms after its try number %d", x.key, r.StoreTime-b.begun, x.times)
	}
	if origin == nil || string(r.Body) != string(origin.Body) || r.Props["ORIGIN_MESSAGE_ID"] != origin.ID || r.Props["RETRY_TOPIC"] != workTopic || r.Props["TAGS"] != origin.Props["TAGS"] {
		w.t.Errorf("%s/%d@%d is %+v, made of %+v", r.Topic, r.Queue, r.Offset, r, origin)
	}
}

// held makes sure that the last kill had something to judge: in each queue there
// was a commit that had to be on the disk.
func (w *work) held() {
	old := map[string]int{}
	events := w.run.Events()
	last := len(events) - 1
	for last > 0 && events[last].Op != checker.OpKill {
		last--
	}
	for i := last - 1; i >= 0 && events[i].Op != checker.OpKill; i-- {
		if e := events[i]; e.Op == checker.OpCommit && e.At <= events[last].At-workLag {
			old[fmt.Sprintf("%s/%d", e.Topic, e.Queue)]++
		}
	}
	w.t.Logf("commits that had to outlive the last kill: %v", old)
	if len(old) != len(workPlaces) {
		w.t.Errorf("no commit in %d queues had to outlive the last kill", len(workPlaces)-len(old))
	}
}
