package broker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"gomq/internal/broker/delay"
	"gomq/internal/message"
	"gomq/internal/protocol"
	"gomq/internal/store"
)

// handClock is a clock that a test moves.
type handClock struct {
	mu  sync.Mutex
	now time.Time
}

func newHandClock() *handClock { return &handClock{now: time.UnixMilli(1_700_000_000_000)} }

func (c *handClock) time() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *handClock) pass(d time.Duration) {
	c.mu.Lock()
	c.now = c.now.Add(d)
	c.mu.Unlock()
}

func (r *rig) max(topic string, queue int32) int64 {
	return r.b.store.Queue([]byte(topic), queue).Max()
}

// moved waits until the first level counts so many messages as delivered, which it
// does after they can be pulled.
func (r *rig) moved(n int64) {
	r.Helper()
	r.eventually(fmt.Sprintf("the first level does not come to %d", n), func() bool { return r.b.delays.lines[0].line.Next() == n })
}

// A delayed message is stored where it waits, comes to its topic when it is due
// and not before, as it was sent; levels above the highest count as that. It
// survives a restart, which repeats nothing.
func TestDelayedMessages(t *testing.T) {
	for _, flush := range []FlushType{AsyncFlush, SyncFlush} {
		t.Run(string(flush), func(t *testing.T) { testDelayedMessages(t, flush) })
	}
}

func testDelayedMessages(t *testing.T, flush FlushType) {
	clock := newHandClock()
	with := seams{now: clock.time}
	r := runWith(t, func(o *Options) { o.MessageDelayLevel, o.FlushDiskType = "1s 1m 2h", flush }, with)
	r.create("T", 4)
	s := r.send("T", 3, "soon", "KEYS", "k", "WAIT", "true", "DELAY", "1", "TAGS", "A")
	if s.QueueID != 3 || s.QueueOffset != 0 || s.Code != protocol.Success {
		t.Errorf("answer %+v", s)
	}
	r.send("T", 2, "later", "DELAY", "2")
	r.send("T", 1, "clipped", "DELAY", "99")
	r.send("T", 0, "at once", "DELAY", "0")
	for _, l := range []struct {
		queue int32
		props string
	}{
		{0, "REAL_TOPIC\x01T\x02KEYS\x01k\x02CLUSTER\x01DefaultCluster\x02DELAY\x011\x02WAIT\x01true\x02TAGS\x01A\x02REAL_QID\x013"},
		{1, "REAL_TOPIC\x01T\x02CLUSTER\x01DefaultCluster\x02DELAY\x012\x02REAL_QID\x012"},
		{2, "REAL_TOPIC\x01T\x02CLUSTER\x01DefaultCluster\x02DELAY\x013\x02REAL_QID\x011"},
	} {
		_, list := r.pull(message.TopicSchedule, l.queue, 0, "*")
		if len(list) != 1 || string(list[0].Props()) != l.props {
			t.Fatalf("level %d: %d messages %q", l.queue+1, len(list), list)
		}
	}
	if r.max("T", 0) != 1 {
		t.Error("level 0 is no delay")
	}
	clock.pass(900 * time.Millisecond)
	r.send("T", 0, "another", "DELAY", "1")
	if r.max("T", 3) != 0 {
		t.Error("delivered too early")
	}
	clock.pass(200 * time.Millisecond)
	r.eventually("the first level is not delivered", func() bool { return r.max("T", 3) == 1 })
	_, list := r.pull("T", 3, 0, "A")
	m := list[0]
	if string(m.Body()) != "soon" || m.QueueID() != 3 || m.StoreTime() != clock.time().UnixMilli() ||
		string(m.Props()) != "REAL_TOPIC\x01T\x02KEYS\x01k\x02CLUSTER\x01DefaultCluster\x02DELAY\x011\x02WAIT\x01true\x02TAGS\x01A\x02REAL_QID\x013" {
		t.Errorf("delivered %q", m)
	}
	clock.pass(time.Second)
	r.eventually("what came later is not delivered", func() bool { return r.max("T", 0) == 2 })
	if r.max("T", 2) != 0 || r.max("T", 1) != 0 {
		t.Error("the longer levels were delivered with the first")
	}
	r.stop()
	if text, err := os.ReadFile(configFile(r.live.Load(), "delayOffset.json")); err != nil || string(text) != "{\n\t\"offsetTable\":{1:2\n\t}\n}" {
		t.Errorf("the progress is saved as %q %v", text, err)
	}
	clock.pass(time.Hour)
	r = runOn(t, *r.live.Load(), with)
	r.eventually("not delivered after the restart", func() bool { return r.max("T", 2) == 1 })
	if r.max("T", 3) != 1 || r.max("T", 0) != 2 || r.max("T", 1) != 0 {
		t.Error("the restart repeats something, or delivers too early")
	}
	clock.pass(time.Hour)
	r.eventually("the longest level is not delivered", func() bool { return r.max("T", 1) == 1 })
}

// A broker that was killed delivers again what it had delivered since its progress
// was last written, and nothing is lost.
func TestDelayedAfterKill(t *testing.T) {
	clock := newHandClock()
	r := runWith(t, func(o *Options) { o.MessageDelayLevel, o.FlushDelayOffsetInterval = "1s", time.Hour }, seams{now: clock.time})
	r.create("T", 1)
	const n = 1500
	for i := range n {
		r.send("T", 0, fmt.Sprint(i), "DELAY", "1")
	}
	clock.pass(2 * time.Second)
	r.eventually("not all is delivered", func() bool { return r.max("T", 0) == n })
	r.moved(n)
	if err := r.b.delays.save(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		r.send("T", 0, fmt.Sprint(n+i), "DELAY", "1")
	}
	clock.pass(2 * time.Second)
	r.eventually("the rest is not delivered", func() bool { return r.max("T", 0) == n+10 })
	r.moved(n + 10)
	progress := configFile(r.live.Load(), "delayOffset.json")
	old, err := os.ReadFile(progress)
	if err != nil {
		t.Fatal(err)
	}
	r.stop()
	if err := os.WriteFile(progress, old, 0o600); err != nil {
		t.Fatal(err)
	}
	r = runOn(t, *r.live.Load(), seams{now: clock.time})
	r.eventually("nothing is repeated", func() bool { return r.max("T", 0) == n+20 })
	for at := int64(0); at < n+20; {
		p, list := r.pull("T", 0, at, "*")
		for i, m := range list {
			want := at + int64(i)
			if want >= n+10 {
				want -= 10
			}
			if string(m.Body()) != fmt.Sprint(want) {
				t.Fatalf("message %d is %s", at+int64(i), m.Body())
			}
		}
		at = p.NextBeginOffset
	}
}

// The progress on the disk never runs ahead of the copies on the disk.
func TestDelayProgressWaitsForDisk(t *testing.T) {
	clock := newHandClock()
	r := runWith(t, func(o *Options) { o.MessageDelayLevel, o.FlushIntervalCommitLog = "1s", time.Hour }, seams{now: clock.time})
	r.create("T", 1)
	r.send("T", 0, "x", "DELAY", "1")
	clock.pass(2 * time.Second)
	r.eventually("not delivered", func() bool { return r.max("T", 0) == 1 })
	r.moved(1)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := r.b.delays.save(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("saving while nothing is flushed: %v", err)
	}
	if got := r.b.delayed.Saved(); len(got) != 0 {
		t.Errorf("the disk has %v", got)
	}
	r.stop()
	if got := r.b.delayed.Saved(); got[1] != 1 {
		t.Errorf("after the stop the disk has %v", got)
	}
}

// Messages that can never be delivered are left out; those behind them are not
// held up, nor are those whose topic is gone.
func TestDelayedWithoutPlace(t *testing.T) {
	clock := newHandClock()
	r := runWith(t, func(o *Options) { o.MessageDelayLevel = "1s" }, seams{now: clock.time})
	r.create("Gone", 1)
	var msgs []innerMessage
	for _, props := range []string{"DELAY\x011", "DELAY\x011\x02REAL_TOPIC\x01a/b\x02REAL_QID\x010", "DELAY\x011\x02REAL_TOPIC\x01RMQ_SYS_TRANS_HALF_TOPIC\x02REAL_QID\x010",
		"DELAY\x011\x02REAL_TOPIC\x01T\x02REAL_QID\x01-1", "DELAY\x011\x02REAL_TOPIC\x01T\x02REAL_QID\x010"} {
		msgs = append(msgs, innerMessage{Message: message.Message{Topic: []byte(message.TopicSchedule), Body: []byte("x"), Props: []byte(props)}})
	}
	if _, err := r.b.inner.put(t.Context(), msgs); err != nil {
		t.Fatal(err)
	}
	r.send("Gone", 0, "x", "DELAY", "1")
	if err := r.c.DeleteTopic(t.Context(), r.addr, "Gone"); err != nil {
		t.Fatal(err)
	}
	clock.pass(2 * time.Second)
	r.eventually("the good one is not delivered", func() bool { return r.max("T", 0) == 1 })
	r.eventually("the one of a deleted topic is not stored", func() bool { return r.max("Gone", 0) == 1 })
	r.moved(6)
}

// A level's backlog is delivered by itself: what another level has to deliver
// meanwhile is not held up, and messages of levels that the table has no more come,
// too.
func TestDelayLevelsAreIndependent(t *testing.T) {
	clock := newHandClock()
	r := runWith(t, func(o *Options) { o.MessageDelayLevel = "1s 2s 3s" }, seams{now: clock.time})
	r.create("T", 1)
	for i := range 3 {
		r.send("T", 0, "x", "DELAY", fmt.Sprint(i+1))
	}
	r.stop()
	o := *r.live.Load()
	o.MessageDelayLevel = "1s"
	clock.pass(time.Minute)
	r = runOn(t, o, seams{now: clock.time})
	r.eventually("not all levels are delivered", func() bool { return r.max("T", 0) == 3 })
}

// What a Java broker of 4.9.7 wrote when delayed messages came in and when they
// were delivered is, byte for byte, what gomq writes, but for the places and the
// time.
func TestDelayedAsTheOriginal(t *testing.T) {
	list := goldenRecords(t, "4.9.7-clean")
	levels, err := delay.ParseLevels(DefaultOptions().MessageDelayLevel)
	if err != nil {
		t.Fatal(err)
	}
	delivered := map[string]message.Record{}
	for _, r := range list {
		if _, ok := message.Prop(r.Props(), message.PropRealTopic); ok && string(r.Topic()) != message.TopicSchedule {
			delivered[uniq(r)+" "+fmt.Sprint(r.Reconsume())] = r
		}
	}
	in, out := 0, 0
	var p message.PropSet
	for _, r := range list {
		if string(r.Topic()) != message.TopicSchedule {
			continue
		}
		m := again(r)
		if _, err := delay.Restore(nil, &m.Message, &p); err != nil {
			t.Fatal(err)
		}
		if want := delivered[uniq(r)+" "+fmt.Sprint(r.Reconsume())]; want != nil {
			out++
			compareRecords(t, &m.Message, want)
		}
		// Back to what the client asked for, and in again.
		p.Parse(m.Props)
		for _, name := range []string{message.PropRealTopic, message.PropRealQueue} {
			p.Delete(name)
		}
		level := int(r.QueueID()) + 1
		levels.Divert(&m.Message, &p, level)
		m.Props = p.AppendTo(nil)
		in++
		compareRecords(t, &m.Message, r)
	}
	if in < 15 || out < 8 {
		t.Errorf("only %d records in and %d out were compared", in, out)
	}
}

func uniq(r message.Record) string {
	v, _ := message.Prop(r.Props(), message.PropUniqKey)
	return string(v)
}

// compareRecords holds a message against a record, places and store time aside.
func compareRecords(t *testing.T, m *message.Message, want message.Record) {
	t.Helper()
	b, err := message.AppendRecord(nil, m)
	if err != nil {
		t.Fatal(err)
	}
	got := message.Record(b)
	got.Place(want.QueueOffset(), want.Offset(), want.StoreTime())
	if string(got) != string(want) {
		t.Errorf("%s:\n got %s/%d %q\nwant %s/%d %q", uniq(want), got.Topic(), got.QueueID(), got.Props(), want.Topic(), want.QueueID(), want.Props())
	}
}

// goldenRecords are all records of the log of a golden store, in its order.
func goldenRecords(t *testing.T, name string) (list []message.Record) {
	t.Helper()
	root := unpack(t, name)
	s, err := store.Open(t.Context(), store.Options{Root: root}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for at := s.MinOffset(); at < s.MaxOffset(); {
		r, err := s.ReadRecord(at)
		if err != nil { // the end of a file
			at = (at/65536 + 1) * 65536
			continue
		}
		list = append(list, r)
		at += int64(r.Size())
	}
	return list
}

// The waiting messages of a Java broker's store are delivered by gomq.
func TestDelayedOfAJavaStore(t *testing.T) {
	for _, version := range []string{"4.9.7-clean", "4.5.2-clean"} {
		o := rigOptions(unpack(t, version))
		r := runOn(t, o, seams{})
		waiting := map[string]bool{}
		for level := range int32(18) {
			q := r.b.store.Queue([]byte(message.TopicSchedule), level)
			for at := int64(0); at < q.Max(); {
				p, list := r.pull(message.TopicSchedule, level, at, "*")
				for _, m := range list {
					if level >= 16 {
						waiting[uniq(m)] = true
					}
				}
				at = p.NextBeginOffset
			}
		}
		if len(waiting) < 5 {
			t.Fatalf("%s: only %d wait", version, len(waiting))
		}
		r.eventually("not everything is delivered", func() bool {
			for q := range int32(4) {
				for at := int64(0); at < r.max("GoldDelay", q); {
					p, list := r.pull("GoldDelay", q, at, "*")
					for _, m := range list {
						delete(waiting, uniq(m))
						if !strings.Contains(string(m.Props()), "REAL_TOPIC") {
							t.Errorf("%q", m.Props())
						}
					}
					at = p.NextBeginOffset
				}
			}
			return len(waiting) == 0
		})
	}
}
