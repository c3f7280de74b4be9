package trans

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strconv"
	"testing"
	"time"

	"gomq/internal/chance"
	"gomq/internal/message"
	"gomq/internal/protocol"
)

// disk is a log in memory: what is behind durable is lost by a power failure.
type disk struct {
	now     func() time.Time
	recs    []message.Record // in order; the offset of a record is its number times a thousand
	queues  map[string][]int // topic -> numbers of records
	durable int
	fail    func() error // of the next Put
	big     func(m *message.Message) error
	small   bool // a file takes one message only
}

func newDisk(now func() time.Time) *disk {
	return &disk{now: now, queues: map[string][]int{}, fail: func() error { return nil }, big: func(*message.Message) error { return nil }}
}

var host = netip.MustParseAddrPort("127.0.0.1:10911")

func (d *disk) append(m message.Message) Placed {
	if !m.StoreHost.IsValid() {
		m.StoreHost = host
	}
	if !m.BornHost.IsValid() {
		m.BornHost = host
	}
	if m.BornTime == 0 {
		m.BornTime = d.now().UnixMilli()
	}
	b, err := message.AppendRecord(nil, &m)
	if err != nil {
		return Placed{Err: err}
	}
	topic := string(m.Topic)
	p := Placed{QueueOffset: int64(len(d.queues[topic])), Offset: int64(len(d.recs)) * 1000}
	message.Record(b).Place(p.QueueOffset, p.Offset, d.now().UnixMilli())
	d.queues[topic] = append(d.queues[topic], len(d.recs))
	d.recs = append(d.recs, b)
	return p
}

func (d *disk) Put(_ context.Context, msgs ...message.Message) ([]Placed, error) {
	if err := d.fail(); err != nil {
		return nil, err
	}
	out := make([]Placed, len(msgs))
	for i := range msgs {
		if err := d.big(&msgs[i]); err != nil {
			out[i].Err = err
			continue
		}
		out[i] = d.append(msgs[i])
	}
	return out, nil
}

func (d *disk) PutTogether(ctx context.Context, msgs ...message.Message) ([]Placed, error) {
	for i := range msgs {
		err := d.big(&msgs[i])
		if len(msgs) > 1 && d.small {
			err = errors.New("together they are too large")
		}
		if err != nil {
			out := make([]Placed, len(msgs))
			out[i].Err = err
			return out, nil
		}
	}
	return d.Put(ctx, msgs...)
}

func (d *disk) Record(offset int64) (message.Record, error) {
	if i := offset / 1000; offset >= 0 && offset%1000 == 0 && i < int64(len(d.recs)) {
		return append(message.Record(nil), d.recs[i]...), nil
	}
	return nil, ErrNoRecord
}

func (d *disk) Span(topic string) (int64, int64) { return 0, int64(len(d.queues[topic])) }

func (d *disk) Read(topic string, from int64, most int, fn func(r message.Record) bool) (int64, error) {
	q := d.queues[topic]
	for ; most > 0 && from < int64(len(q)); most-- {
		from++
		if !fn(d.recs[q[from-1]]) {
			break
		}
	}
	return from, nil
}

func (d *disk) Settle(context.Context) error {
	if err := d.fail(); err != nil {
		return err
	}
	d.durable = len(d.recs)
	return nil
}

// cut is a power failure.
func (d *disk) cut() {
	d.recs = d.recs[:d.durable]
	for topic, q := range d.queues {
		for len(q) > 0 && q[len(q)-1] >= d.durable {
			q = q[:len(q)-1]
		}
		d.queues[topic] = q
	}
}

// table is the progress, and what of it has been written down.
type table struct{ live, saved map[string]int64 }

func newTable() *table { return &table{map[string]int64{}, map[string]int64{}} }

func (t *table) Query(topic, group []byte, queue int32) (int64, bool) {
	off, ok := t.live[fmt.Sprintf("%s@%s/%d", topic, group, queue)]
	return off, ok
}

func (t *table) Commit(topic, group []byte, queue int32, offset int64) error {
	t.live[fmt.Sprintf("%s@%s/%d", topic, group, queue)] = offset
	return nil
}

func clone(m map[string]int64) map[string]int64 {
	c := map[string]int64{}
	for k, v := range m {
		c[k] = v
	}
	return c
}

func (t *table) save() { t.saved = clone(t.live) }
func (t *table) load() { t.live = clone(t.saved) }

// plan is what a transaction's producer has in mind and what has been seen of it.
type plan struct {
	id        int
	outcome   message.SysFlag // 0: it never says
	half, log int64           // as the producer was told
	born      time.Time
	immune    time.Duration
	asked     int
	answered  int // ends that succeeded
}

// world is the model: producers, a broker that may be killed, a clock.
type world struct {
	*testing.T
	rng    *rand.Rand
	clock  time.Time
	ran    time.Duration // by the clock that only runs forward
	set    bool          // the wall clock has been set
	odd    bool          // ... before the desk was made
	disk   *disk
	table  *table
	desk   *Desk
	limits Limits
	plans  []*plan
	asks   []question
	mute   bool // nobody is connected
	faults bool // there has been one: copies and repeated questions are allowed
	room   int  // questions that the connections still take
}

type question struct {
	h    protocol.CheckHeader
	plan *plan
}

func newWorld(t *testing.T, seed uint64) *world {
	w := &world{T: t, rng: rand.New(rand.NewPCG(seed, 7)), clock: time.UnixMilli(1_700_000_000_000), limits: Limits{TimeOut: 6 * time.Second, Most: 3, Reserved: 72 * time.Hour}}
	w.disk, w.table, w.room = newDisk(w.now), newTable(), 1_000_000
	w.start()
	return w
}

func (w *world) now() time.Time { return w.clock }

func (w *world) clocks() Clock {
	return Clock{Now: w.now, Passed: func() time.Duration { return w.ran }}
}

// later lets time pass.
func (w *world) later(d time.Duration) { w.clock, w.ran = w.clock.Add(d), w.ran+d }

func (w *world) start() {
	w.desk, w.odd = New(w.disk, w.table, w.ask, w.clocks()), w.set
	w.asks = nil
}

func (w *world) ask(group string, h *protocol.CheckHeader, body []byte) Reach {
	if w.mute {
		return Nobody
	}
	if w.room--; w.room < 0 {
		return Busy
	}
	r, err := message.ParseRecord(body, true)
	if err != nil || group != "PG" || string(r.Topic()) != "T" || r.Offset() != h.LogOffset || r.QueueOffset() != h.HalfOffset {
		w.Fatalf("asked group %s about %+v %q: %v", group, h, r, err)
	}
	id, _ := strconv.Atoi(string(r.Body()))
	p := w.plans[id]
	if age, least := w.clock.Sub(p.born), cmp.Or(p.immune, w.limits.TimeOut); age < least && !w.set {
		w.Errorf("transaction %d was asked about at the age of %v, not %v", id, age, least)
	}
	if h.MsgID != strconv.Itoa(id) || r.Flag() != int32(id) {
		w.Errorf("asked %+v about %q", h, r)
	}
	p.asked++
	w.asks = append(w.asks, question{*h, p})
	return Asked
}

// stamp is Stamp of a message whose text has all of its properties.
func stamp(m *message.Message) ([]byte, error) {
	var p message.PropSet
	p.Parse(m.Props)
	return Stamp(m, &p, nil)
}

// begin sends a half message.
func (w *world) begin(outcome message.SysFlag, immune time.Duration) *plan {
	p := &plan{id: len(w.plans), outcome: outcome, born: w.clock, immune: immune}
	props := []byte("TRAN_MSG\x01true\x02PGROUP\x01PG\x02UNIQ_KEY\x01" + strconv.Itoa(p.id))
	if immune > 0 {
		props = message.AppendProp(props, message.PropImmunity, strconv.Itoa(int(immune/time.Second)))
	}
	m := message.Message{Topic: []byte("T"), QueueID: 2, Flag: int32(p.id), SysFlag: message.Prepared, BornTime: w.clock.UnixMilli(), Body: []byte(strconv.Itoa(p.id)), Props: props}
	if _, err := stamp(&m); err != nil {
		w.Fatal(err)
	}
	placed := w.disk.append(m)
	p.half, p.log = placed.QueueOffset, placed.Offset
	w.plans = append(w.plans, p)
	return p
}

// end is the producer's word about the half message at half.
func (w *world) end(p *plan, half, log int64, outcome message.SysFlag, check bool) {
	_, err := w.desk.End(context.Background(), &protocol.EndHeader{Group: []byte("PG"), HalfOffset: half, LogOffset: log, Outcome: int32(outcome), FromCheck: check})
	switch {
	case err == nil && outcome != 0:
		p.answered++
	case err != nil && !w.faults:
		w.Errorf("ending transaction %d: %v", p.id, err)
	}
}

func (w *world) check() Report {
	r, err := w.desk.Check(context.Background(), w.limits)
	if err != nil && !w.faults {
		w.Error(err)
	}
	if len(r.Problems) > 0 && !w.faults {
		w.Error(r.Problems)
	}
	half, _ := w.table.Query(halfTopic, group, Queue)
	if off, ok := w.table.Query(opTopic, group, Queue); ok && err == nil && off != w.opsDone(half) {
		w.Errorf("with %d half messages passed the progress in op records is %d, not %d", half, off, w.opsDone(half))
	}
	return r
}

// opsDone is the number of op records before the first that ends a half message
// which has not been passed.
func (w *world) opsDone(passed int64) int64 {
	q := w.disk.queues[message.TopicOpHalf]
	for i, n := range q {
		if half, _ := strconv.ParseInt(string(w.disk.recs[n].Body()), 10, 64); half >= passed {
			return int64(i)
		}
	}
	return int64(len(q))
}

// answer lets the producers answer what they were asked, some of it and some in
// vain.
func (w *world) answer(all bool) {
	asks := w.asks
	w.asks = nil
	w.rng.Shuffle(len(asks), func(i, j int) { asks[i], asks[j] = asks[j], asks[i] })
	for _, q := range asks {
		if !all && w.rng.IntN(4) == 0 {
			continue
		}
		w.end(q.plan, q.h.HalfOffset, q.h.LogOffset, q.plan.outcome, true)
	}
}

// in counts the records of each transaction in a topic.
func (w *world) in(topic string) map[int]int {
	n := map[int]int{}
	for _, i := range w.disk.queues[topic] {
		id, _ := strconv.Atoi(string(w.disk.recs[i].Body()))
		n[id]++
	}
	return n
}

// judge holds what there is in the end against the plans.
func (w *world) judge() {
	w.Helper()
	ends := 0
	for _, p := range w.plans {
		ends += min(p.answered, 1)
	}
	if ops := len(w.disk.queues[message.TopicOpHalf]); ops != ends && !w.faults {
		w.Errorf("%d op records for %d transactions that were ended", ops, ends)
	}
	delivered, aside, halves := w.in("T"), w.in(message.TopicCheckMax), w.in(message.TopicHalf)
	for _, p := range w.plans {
		d := delivered[p.id]
		switch {
		case halves[p.id] == 0:
			continue // lost with the power, before it was durable
		case p.outcome != message.Commit && d > 0:
			w.Errorf("transaction %d (outcome %d) was delivered", p.id, p.outcome)
		case p.outcome == message.Commit && d == 0 && aside[p.id] == 0:
			w.Errorf("transaction %d was lost", p.id)
		case p.outcome == message.Commit && p.answered > 0 && d == 0 && !w.faults:
			w.Errorf("transaction %d was committed and not delivered", p.id)
		case p.outcome == 0 && aside[p.id] == 0:
			w.Errorf("transaction %d, which nobody ended, is not put aside", p.id)
		case !w.faults && (d > 1 || aside[p.id] > 1 || p.asked > w.limits.Most):
			w.Errorf("transaction %d: delivered %d times, put aside %d times, asked %d times", p.id, d, aside[p.id], p.asked)
		case !w.faults && p.outcome == 0 && p.asked != w.limits.Most:
			w.Errorf("transaction %d was put aside after %d questions", p.id, p.asked)
		}
	}
	for _, topic := range []string{message.TopicHalf, message.TopicOpHalf} {
		if off, _ := w.table.Query([]byte(topic), group, Queue); off != int64(len(w.disk.queues[topic])) {
			w.Errorf("the progress in %s is %d of %d", topic, off, len(w.disk.queues[topic]))
		}
	}
}

// drain runs rounds until nothing is open any more.
func (w *world) drain() {
	w.mute = false
	w.disk.fail = func() error { return nil }
	for range 30 {
		w.later(20 * time.Minute)
		w.check()
		w.answer(true)
	}
	w.check()
}

var errDisk = errors.New("the disk does not want to")

// step is one thing that happens.
func (w *world) step(faults bool) {
	switch w.rng.IntN(12) {
	case 0, 1, 2, 3:
		outcome := []message.SysFlag{message.Commit, message.Commit, message.Rollback, 0}[w.rng.IntN(4)]
		var immune time.Duration
		if w.rng.IntN(4) == 0 {
			immune = time.Duration(1+w.rng.IntN(600)) * time.Second
		}
		p := w.begin(outcome, immune)
		if w.rng.IntN(3) > 0 {
			w.end(p, p.half, p.log, outcome, false)
		}
	case 4, 5: // late
		if len(w.plans) > 0 {
			p := w.plans[w.rng.IntN(len(w.plans))]
			if r, err := w.disk.Record(p.log); err == nil && string(r.Body()) == strconv.Itoa(p.id) && string(r.Topic()) == message.TopicHalf {
				w.end(p, p.half, p.log, p.outcome, false)
			}
		}
	case 6, 7:
		w.check()
	case 8:
		w.answer(false)
	case 9:
		w.later(time.Duration(w.rng.IntN(10_000)) * time.Millisecond)
	case 10:
		w.table.save()
	case 11:
		if !faults {
			return
		}
		w.faults = true
		switch w.rng.IntN(5) {
		case 4: // somebody sets the clock; nothing is put aside for that
			w.set = true
			w.clock = w.clock.Add(time.Duration(w.rng.IntN(20*365)-10*365) * 24 * time.Hour)
			if r := w.check(); r.Old > 0 && !w.odd {
				w.Errorf("%d half messages were put aside because the clock was set", r.Old)
			}
		case 0: // a kill
			w.table.load()
			w.start()
		case 1: // a power failure; what was sent and is not durable is as if never sent
			w.table.load()
			w.disk.cut()
			w.start()
		case 2:
			w.mute = !w.mute
		case 3:
			left := 1 + w.rng.IntN(4)
			w.disk.fail = func() error {
				if left--; left < 0 {
					return nil
				}
				return errDisk
			}
		}
	}
}

// Whatever happens and in whatever order: what is committed is delivered, what is
// rolled back never is, and what nobody ends is asked about as often as was said
// and put aside. Without kills and failures everything happens once.
func TestModel(t *testing.T) {
	for _, faults := range []bool{false, true} {
		for seed := range chance.Seeds(t, rand.Uint64(), 150) {
			t.Run(fmt.Sprintf("faults=%v/seed=%d", faults, seed), func(t *testing.T) {
				w := newWorld(t, seed)
				w.disk.small = seed%4 == 0
				for range 200 {
					w.step(faults)
				}
				w.drain()
				w.judge()
			})
		}
	}
}
