package trans

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"gomq/internal/message"
	"gomq/internal/protocol"
)

// restart is a clean one: the progress is written down, the desk forgets.
func (w *world) restart() {
	w.table.save()
	w.start()
}

func (w *world) progress(half, op int64) {
	w.Helper()
	h, _ := w.table.Query(halfTopic, group, Queue)
	o, _ := w.table.Query(opTopic, group, Queue)
	if h != half || o != op {
		w.Errorf("the progress is %d and %d, want %d and %d", h, o, half, op)
	}
}

func fixed(t *testing.T) *world { return newWorld(t, 1) }

// A message that wants to be left alone for a while is put back without a
// question, and its producer's word for the first offset ends the copy as well,
// after restarts too.
func TestImmuneIsEndedByItsFirstOffset(t *testing.T) {
	w := fixed(t)
	p := w.begin(message.Commit, 10*time.Minute)
	other := w.begin(message.Rollback, 10*time.Minute)
	for range 5 {
		w.later(time.Minute)
		if r := w.check(); r.Immune != 2 || r.Asked+r.Aside != 0 {
			t.Errorf("a round did %+v", r)
		}
	}
	w.progress(10, 0)
	w.restart()
	w.end(p, p.half, p.log, message.Commit, false)
	w.end(other, other.half, other.log, message.Rollback, false)
	w.restart()
	w.later(time.Minute)
	if r := w.check(); r.Ended != 2 || r.Immune+r.Asked+r.Aside != 0 {
		t.Errorf("after the end a round did %+v", r)
	}
	w.progress(12, 2)
	w.drain()
	w.judge()
	if n := w.in("T")[p.id]; n != 1 || p.asked+other.asked > 0 {
		t.Errorf("delivered %d times, asked %d and %d times", n, p.asked, other.asked)
	}
}

// Being left alone does not count as being asked.
func TestImmuneIsAskedAfterwards(t *testing.T) {
	w := fixed(t)
	w.limits.Most = 2
	p := w.begin(0, 10*time.Minute)
	for range 30 {
		w.later(time.Minute)
		w.check()
	}
	if p.asked != 2 || w.in(message.TopicCheckMax)[p.id] != 1 {
		t.Errorf("asked %d times, put aside %d times", p.asked, w.in(message.TopicCheckMax)[p.id])
	}
}

// A late word for the first half message, after the producer was asked about a
// copy, is the transaction's only one.
func TestLateEnd(t *testing.T) {
	w := fixed(t)
	p := w.begin(message.Commit, 0)
	w.later(7 * time.Second)
	w.check()
	first := w.asks[0]
	w.later(time.Minute)
	w.check()
	w.end(p, p.half, p.log, message.Commit, false)
	w.end(p, first.h.HalfOffset, first.h.LogOffset, message.Commit, true)
	w.answer(true)
	w.later(time.Minute)
	w.check()
	if n := w.in("T")[p.id]; n != 1 || p.asked != 2 {
		t.Errorf("delivered %d times, asked %d times", n, p.asked)
	}
	w.progress(3, 1)
}

// A half message born in the future is asked about, one whose file may soon go is
// put aside unasked.
func TestClocksAndAge(t *testing.T) {
	w := fixed(t)
	w.later(24 * time.Hour)
	future := w.begin(0, 0)
	w.later(-24 * time.Hour)
	future.born = w.clock.Add(-time.Hour)
	w.disk.recs[0].Place(0, 0, w.clock.Add(-time.Second).UnixMilli())
	if r := w.check(); r.Asked != 1 {
		t.Errorf("born in the future: %+v", r)
	}
	w = fixed(t)
	w.begin(0, 0)
	w.later(73 * time.Hour)
	if r := w.check(); r.Aside != 1 || r.Old != 1 || r.Asked != 0 {
		t.Errorf("an old one: %+v", r)
	}
	w.begin(0, 0)
	w.start() // it is from before
	w.later(time.Hour)
	w.clock = w.clock.Add(100 * time.Hour) // by hand
	if r := w.check(); r.Aside != 0 || r.Asked != 1 {
		t.Errorf("one of an hour, after the clock was set: %+v", r)
	}
}

// A progress behind the end of the queues, which a power failure can leave when
// another broker wrote it, goes back to their end.
func TestProgressBehindTheEnd(t *testing.T) {
	w := fixed(t)
	w.table.Commit(halfTopic, group, Queue, 100)
	w.table.Commit(opTopic, group, Queue, 50)
	w.check()
	w.progress(0, 0)
	p := w.begin(message.Commit, 0)
	w.later(time.Minute)
	w.check()
	w.answer(true)
	w.check()
	if w.in("T")[p.id] != 1 {
		t.Error("not delivered")
	}
}

// Nothing is written down before it is needed.
func TestNoTransactionsNoProgress(t *testing.T) {
	w := fixed(t)
	w.check()
	if len(w.table.live) != 0 {
		t.Errorf("progress %v", w.table.live)
	}
}

// One half message that cannot be put back does not hold up the others and is not
// lost without a word.
func TestCannotBePutBack(t *testing.T) {
	for _, asideToo := range []bool{false, true} {
		w := fixed(t)
		w.faults = true
		a, b := w.begin(0, 0), w.begin(0, 0)
		w.disk.big = func(m *message.Message) error {
			if string(m.Body) == strconv.Itoa(a.id) && (string(m.Topic) == message.TopicHalf || asideToo) {
				return errors.New("too large")
			}
			return nil
		}
		w.later(time.Minute)
		r := w.check()
		want := Report{From: 0, To: 2, Asked: 1, Aside: 1}
		if asideToo {
			want.Aside = 0
		}
		if r.To != want.To || r.Asked != want.Asked || r.Aside != want.Aside || b.asked != 1 || len(r.Problems) == 0 || !strings.Contains(r.Problems[0].Error(), "too large") {
			t.Errorf("aside too %v: %+v", asideToo, r)
		}
	}
}

// While the store takes nothing a round ends at once and nothing is passed.
func TestStoreTakesNothing(t *testing.T) {
	w := fixed(t)
	w.begin(0, 0)
	w.later(time.Minute)
	w.disk.fail = func() error { return errDisk }
	if r, err := w.desk.Check(context.Background(), w.limits); !errors.Is(err, errDisk) || r.To != 0 || len(w.asks) > 0 {
		t.Errorf("%+v %v, %d questions", r, err, len(w.asks))
	}
	w.disk.fail = func() error { return nil }
	if r := w.check(); r.Asked != 1 {
		t.Errorf("afterwards %+v", r)
	}
}

// When the producers' connections take no more questions a round ends, and those
// that have not been put back are not counted as asked about.
func TestTooManyQuestions(t *testing.T) {
	w := fixed(t)
	for range 1000 {
		w.begin(0, 0)
	}
	w.later(time.Minute)
	w.room = 100
	r := w.check()
	if r.Asked != 100 || r.Unasked == 0 || r.Unasked > mostAtOnce || r.To != int64(r.Asked+r.Unasked) {
		t.Errorf("%+v", r)
	}
	w.room = 1_000_000
	if again := w.check(); again.Asked != 1000 || again.From != r.To {
		t.Errorf("%+v", again)
	}
}

// Without its op record a committed message stays committed.
func TestOpRecordFails(t *testing.T) {
	w := fixed(t)
	w.disk.small = true // so that the two do not go together
	p, q := w.begin(message.Commit, 0), w.begin(message.Rollback, 0)
	puts := 0
	w.disk.fail = func() error {
		if puts++; puts == 2 || puts == 3 {
			return errDisk
		}
		return nil
	}
	w.end(p, p.half, p.log, message.Commit, false) // commit record, then no op record
	w.faults = true
	w.end(q, q.half, q.log, message.Rollback, false) // no op record
	w.later(time.Minute)
	if r := w.check(); r.Ended != 1 || r.Asked != 1 || p.asked != 0 || q.asked != 1 {
		t.Errorf("%+v, asked %d and %d times", r, p.asked, q.asked)
	}
	w.answer(true)
	w.drain()
	if w.in("T")[p.id] != 1 || w.in("T")[q.id] != 0 {
		t.Errorf("delivered %v", w.in("T"))
	}
}

// A round ends when it is told to, and the next one goes on.
func TestRoundEnds(t *testing.T) {
	w := fixed(t)
	for range 10 {
		w.begin(0, 0)
	}
	w.later(time.Minute)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if r, err := w.desk.Check(ctx, w.limits); err != nil || r.To != 0 {
		t.Errorf("%+v %v", r, err)
	}
	slow := New(w.disk, w.table, w.ask, Clock{Now: w.now, Passed: func() time.Duration { w.later(10 * time.Second); return w.ran }})
	from := int64(0)
	for range 20 {
		r, err := slow.Check(context.Background(), w.limits)
		if err != nil || r.From != from || r.To > from+6 {
			t.Fatalf("%+v %v", r, err)
		}
		if from = r.To; from >= 10 {
			return
		}
	}
	t.Errorf("after 20 rounds at %d", from)
}

// slowOps is a disk that takes 10 s for some op records.
type slowOps struct {
	*disk
	w *world
}

func (d slowOps) Read(topic string, from int64, most int, fn func(r message.Record) bool) (int64, error) {
	if topic == message.TopicOpHalf {
		d.w.later(10 * time.Second)
	}
	return d.disk.Read(topic, from, most, fn)
}

// While the op records have not all been read nobody is asked, and what they end
// is passed all the same.
func TestManyOpRecords(t *testing.T) {
	w := fixed(t)
	const n = 6000
	for range n {
		w.begin(message.Rollback, 0)
	}
	for _, p := range w.plans {
		if p.id != 3000 {
			w.end(p, p.half, p.log, message.Rollback, false)
		}
	}
	w.end(w.plans[3000], w.plans[3000].half, w.plans[3000].log, message.Rollback, false)
	w.later(time.Minute)
	// A desk that remembers nothing, on a disk that takes its time.
	if r, err := New(slowOps{w.disk, w}, w.table, w.ask, w.clocks()).Check(context.Background(), w.limits); err != nil || r.To != 3000 || len(w.asks) > 0 {
		t.Errorf("%+v %v, %d questions", r, err, len(w.asks))
	}
	w.start()
	if r := w.check(); r.To != n || len(w.asks) > 0 {
		t.Errorf("%+v, %d questions", r, len(w.asks))
	}
	w.progress(n, n)
}

// Op records of 4.9 and 5.x are understood; others are said, and passed.
func TestOpRecords(t *testing.T) {
	for _, c := range []struct {
		body, tag string
		want      string
		ok        bool
	}{
		{"7", "d", "[7]", true}, {"0,1,5,", "d", "[0 1 5]", true}, {"9223372036854775807", "d", "[9223372036854775807]", true},
		{"7", "x", "[]", false}, {"", "d", "[]", false}, {"-1", "d", "[]", false}, {"x", "d", "[]", false}, {"3,x", "d", "[3]", false}, {"9223372036854775808", "d", "[]", false},
	} {
		m := op(0)
		m.Body, m.Props = []byte(c.body), []byte("TAGS\x01"+c.tag)
		b, err := message.AppendRecord(nil, &m)
		if err != nil {
			t.Fatal(err)
		}
		got := []int64{}
		if ok := ended(b, func(half int64) { got = append(got, half) }); ok != c.ok || fmt.Sprint(got) != c.want {
			t.Errorf("%q with tag %s: %v %v", c.body, c.tag, got, ok)
		}
	}
	w := fixed(t)
	w.faults = true
	for range 4 {
		w.begin(0, 0)
	}
	for _, body := range []string{"rubbish", "0,2,", "3"} {
		m := op(0)
		m.Body = []byte(body)
		w.disk.append(m)
	}
	w.later(time.Minute)
	if r, err := w.desk.Check(context.Background(), w.limits); err != nil || r.Ended != 3 || r.Asked != 1 || len(r.Problems) != 1 {
		t.Errorf("%+v %v", r, err)
	}
	w.progress(4, 3)
}

// locked is a disk for several goroutines.
type locked struct {
	mu sync.Mutex
	*disk
}

func (l *locked) Put(ctx context.Context, msgs ...message.Message) ([]Placed, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.disk.Put(ctx, msgs...)
}

func (l *locked) PutTogether(ctx context.Context, msgs ...message.Message) ([]Placed, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.disk.PutTogether(ctx, msgs...)
}

func (l *locked) Record(offset int64) (message.Record, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.disk.Record(offset)
}

// Many ends of one transaction at a time are one.
func TestEndsAtATime(t *testing.T) {
	w := fixed(t)
	desk := New(&locked{disk: w.disk}, w.table, w.ask, w.clocks())
	for range 100 {
		p := w.begin(message.Commit, 0)
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				outcome := message.Commit
				if i == 0 {
					outcome = message.Rollback
				}
				_, err := desk.End(context.Background(), &protocol.EndHeader{Group: []byte("PG"), HalfOffset: p.half, LogOffset: p.log, Outcome: int32(outcome)})
				if err != nil && !errors.Is(err, ErrUnderWay) && !errors.Is(err, ErrCommitted) && !errors.Is(err, ErrRolledBack) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if n := w.in("T")[p.id]; n > 1 {
			t.Errorf("stored %d times", n)
		}
	}
	if n := len(w.disk.queues[message.TopicOpHalf]); n != 100 {
		t.Errorf("%d op records", n)
	}
}

// What a desk remembers is bounded.
func TestMemory(t *testing.T) {
	m := newMemory[int](3)
	for i := range int64(10) {
		m.put(i, int(i))
		m.put(i, int(i)+1)
	}
	if len(m.m) != 3 || len(m.order) != 3 || m.m[9] != 10 || m.m[7] != 8 {
		t.Errorf("%+v", m)
	}
}

func TestStamp(t *testing.T) {
	m := message.Message{Topic: []byte("T"), QueueID: 5, SysFlag: message.Prepared | message.Compressed, Props: []byte("REAL_QID\x019\x02a\x01b\x02REAL_TOPIC\x01X\x02TRAN_PREPARED_QUEUE_OFFSET\x013\x02TRANSACTION_CHECK_TIMES\x0115")}
	if _, err := stamp(&m); err != nil || string(m.Topic) != message.TopicHalf || m.QueueID != 0 || m.SysFlag != message.Compressed ||
		string(m.Props) != "a\x01b\x02REAL_TOPIC\x01T\x02REAL_QID\x015" {
		t.Errorf("%q %v", m.Props, err)
	}
	m = message.Message{Topic: []byte("T"), Props: []byte("a\x01" + strings.Repeat("x", message.MaxPropsLen-propsRoom))}
	if _, err := stamp(&m); err == nil {
		t.Error("no room is left and nothing was said")
	}
	// With the least room everything that is added later fits.
	m.Props = m.Props[:message.MaxPropsLen-propsRoom-len("\x02REAL_TOPIC\x01T\x02REAL_QID\x010")]
	if _, err := stamp(&m); err != nil {
		t.Fatal(err)
	}
	b, err := message.AppendRecord(nil, &m)
	if err != nil {
		t.Fatal(err)
	}
	message.Record(b).Place(1<<62, 1<<62, 0)
	for range 3 {
		for _, fn := range []func(message.Record) message.Message{immune, asked} {
			c := fn(b)
			if b, err = message.AppendRecord(nil, &c); err != nil {
				t.Fatal(err)
			}
		}
	}
	if checks(b) != 3 {
		t.Errorf("%d checks", checks(b))
	}
}

// A half message that is bound for nowhere, which no send makes, is not delivered
// anywhere, holds up nothing and is put aside.
func TestBoundForNowhere(t *testing.T) {
	for _, props := range []string{"", "REAL_TOPIC\x01a/b\x02REAL_QID\x010", "REAL_TOPIC\x01T", "REAL_TOPIC\x01T\x02REAL_QID\x01-1", "REAL_TOPIC\x01T\x02REAL_QID\x014294967296",
		"REAL_TOPIC\x01" + message.TopicHalf + "\x02REAL_QID\x010"} {
		w := fixed(t)
		w.faults = true
		placed := w.disk.append(message.Message{Topic: halfTopic, Body: []byte("0"), Props: []byte("PGROUP\x01PG\x02" + props)})
		w.begin(0, 0)
		_, err := w.desk.End(context.Background(), &protocol.EndHeader{Group: []byte("PG"), HalfOffset: placed.QueueOffset, LogOffset: placed.Offset, Outcome: int32(message.Commit)})
		if err == nil || len(w.disk.recs) != 2 {
			t.Errorf("%q: %v, %d records", props, err, len(w.disk.recs))
		}
		for range 5 {
			w.later(time.Minute)
			w.check()
		}
		if w.plans[0].asked != 3 || w.in(message.TopicCheckMax)[0] != 2 {
			t.Errorf("%q: the other one was asked about %d times; put aside %v", props, w.plans[0].asked, w.in(message.TopicCheckMax))
		}
	}
}
