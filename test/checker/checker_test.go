package checker

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// world makes the events of a broker that keeps its promises: two producers
// with a queue each, retries of attempts whose fate is not known, a consumer
// group that commits, a kill in the middle, sweeps before and after, lookups.
// The time of the events is made up: one millisecond each.
type world struct {
	run    *Run
	stored map[queue][]Record
	phy    int64
	now    time.Duration
	placed map[queue]int64
}

const topic = "T"

func newWorld() *world {
	return &world{run: NewRun(rand.New(rand.NewPCG(1, 2))), stored: map[queue][]Record{}, placed: map[queue]int64{}}
}

// tick gives the events recorded since the last tick made-up times.
func (w *world) tick() {
	for i := range w.run.events {
		if e := &w.run.events[i]; e.At < 1<<40 {
			w.now += time.Millisecond
			e.At = 1<<40 + w.now
		}
	}
}

func (w *world) put(m Message, q int) (int64, string) {
	k := queue{topic, q}
	off := int64(len(w.stored[k]))
	w.phy += 300
	w.stored[k] = append(w.stored[k], Record{Topic: topic, Queue: q, Offset: off, Phy: w.phy, Key: m.Key, Tag: Tag, Note: m.Note, Body: m.Body})
	return off, "ID"
}

func (w *world) produce(from, to int64) {
	for seq := from; seq < to; seq++ {
		for p := range 2 {
			id := ID{Producer: p, Seq: seq}
			m := w.run.Begin(Attempt{ID: id, N: 1}, topic, p, 100)
			switch seq % 10 {
			case 3: // stored, but the answer was lost; sent again
				w.put(m, p)
				w.run.Unknown(m, "timeout")
				m = w.run.Begin(Attempt{ID: id, N: 2}, topic, p, 100)
			case 6: // refused, then sent again
				w.run.Refused(m, 2, "busy")
				m = w.run.Begin(Attempt{ID: id, N: 2}, topic, p, 100)
			}
			off, msgID := w.put(m, p)
			w.run.Acked(m, p, off, msgID)
			w.tick()
		}
	}
}

func (w *world) consume() {
	for q := range 2 {
		k := queue{topic, q}
		for off := w.placed[k]; off < int64(len(w.stored[k])); off++ {
			w.run.Polled("g", w.stored[k][off])
			w.run.Add(Event{Op: OpCommit, Group: "g", Topic: topic, Queue: q, Offset: off + 1})
			w.tick()
		}
		w.placed[k] = int64(len(w.stored[k]))
		w.run.Add(Event{Op: OpPlace, Group: "g", Topic: topic, Queue: q, Offset: w.placed[k]})
		w.tick()
	}
}

func (w *world) sweep(node string) {
	for q := range 2 {
		recs := w.stored[queue{topic, q}]
		w.run.Swept(node, topic, q, 0, int64(len(recs)), recs)
	}
	w.tick()
}

var testRules = Rules{CommitLag: 5 * time.Millisecond, Ordered: true, Drained: true, Groups: []string{"g"}, Lookups: true, PlannedSends: 100, PlannedKills: 1}

// good is the events of a whole run without a violation.
func good() []Event {
	w := newWorld()
	w.produce(0, 20)
	w.consume()
	w.sweep("before")
	w.produce(20, 30)
	w.run.Add(Event{Op: OpKill, Node: "broker", Note: "kill -9"})
	w.tick()
	w.produce(30, 60)
	w.consume()
	for _, a := range w.run.Acks() {
		rec := w.stored[queue{a.Topic, a.Queue}][a.Offset]
		w.run.Looked("key", a.Attempt, []Record{rec})
		w.run.Looked("id", a.Attempt, []Record{rec})
	}
	w.sweep("after")
	return w.run.Events()
}

func TestGoodRunIsValid(t *testing.T) {
	rules := testRules
	for _, rules.Once = range []bool{false, true} {
		if v := check(good(), rules); !v.Valid() {
			t.Fatal(v)
		}
	}
}

// find returns the index of the nth event that fits.
func find(t *testing.T, events []Event, nth int, fits func(Event) bool) int {
	t.Helper()
	for i, e := range events {
		if fits(e) {
			if nth == 0 {
				return i
			}
			nth--
		}
	}
	t.Fatal("no such event")
	return -1
}

func is(op Op, node string) func(Event) bool {
	return func(e Event) bool { return e.Op == op && e.Node == node }
}

func remove(events []Event, i int) []Event { return append(events[:i:i], events[i+1:]...) }

func insert(events []Event, i int, e Event) []Event {
	return append(events[:i:i], append([]Event{e}, events[i:]...)...)
}

// TestPlantedViolations changes one thing in a good run at a time. The
// invariant that is broken must be found, and named first unless another one
// with a lower number is broken by the same change.
func TestPlantedViolations(t *testing.T) {
	at := func(e Event, op Op, node string, q int, off int64) bool {
		return e.Op == op && e.Node == node && e.Queue == q && e.Offset == off
	}
	cases := []struct {
		name, invariant, says string
		rules                 func(*Rules)
		plant                 func(t *testing.T, events []Event) []Event
	}{
		{"lost", "I1", "is not there", nil, func(t *testing.T, ev []Event) []Event {
			// The last record of a queue is gone and the queue is shorter: no
			// gap, only the acknowledgement knows.
			i := find(t, ev, 0, func(e Event) bool { return e.Op == OpRange && e.Node == "after" && e.Queue == 1 })
			ev[i].Max--
			end := ev[i].Max
			return remove(ev, find(t, ev, 0, func(e Event) bool { return at(e, OpSweep, "after", 1, end) }))
		}},
		{"another message in its place", "I1", "where", nil, func(t *testing.T, ev []Event) []Event {
			a := find(t, ev, 3, is(OpSweep, "after"))
			b := find(t, ev, 5, is(OpSweep, "after"))
			ev[a].Attempt, ev[b].Attempt = ev[b].Attempt, ev[a].Attempt
			ev[a].Sum, ev[b].Sum = ev[b].Sum, ev[a].Sum
			return ev
		}},
		{"other properties", "I1", "other bytes or properties", nil, func(t *testing.T, ev []Event) []Event {
			ev[find(t, ev, 7, is(OpSweep, "after"))].Sum++
			return ev
		}},
		{"phantom", "I2", "was never sent", nil, func(t *testing.T, ev []Event) []Event {
			ev[find(t, ev, 4, func(e Event) bool { return e.Op == OpPoll })].Seq = 9999
			return ev
		}},
		{"delivered before it was sent", "I2", "was never sent", nil, func(t *testing.T, ev []Event) []Event {
			i := find(t, ev, 4, func(e Event) bool { return e.Op == OpPoll })
			return insert(remove(ev, i), 0, ev[i])
		}},
		{"refused and stored", "I2", "was refused", nil, func(t *testing.T, ev []Event) []Event {
			i := find(t, ev, 2, func(e Event) bool { return e.Op == OpUnknown })
			ev[i].Op, ev[i].Status = OpRefused, 14
			return ev
		}},
		{"in another queue", "I2", "was sent to", nil, func(t *testing.T, ev []Event) []Event {
			a := ev[find(t, ev, 0, func(e Event) bool { return at(e, OpSweep, "after", 1, 8) })]
			i := find(t, ev, 0, func(e Event) bool { return at(e, OpSweep, "after", 0, 8) })
			ev[i].Attempt, ev[i].Sum = a.Attempt, a.Sum
			return ev
		}},
		{"damaged body", "I2", "damaged", nil, func(t *testing.T, ev []Event) []Event {
			return append(ev, Event{Op: OpBad, Topic: topic, Note: "body of 1/2#1 is damaged"})
		}},
		{"disagreement over a restart", "I3", "disagreement", nil, func(t *testing.T, ev []Event) []Event {
			// Two attempts whose fate nobody knows have changed places: only a
			// comparison of the sweeps shows it.
			i := find(t, ev, 0, func(e Event) bool { return e.Op == OpSweep && e.Node == "before" && e.Seq == 3 && e.N == 1 })
			k := find(t, ev, 0, func(e Event) bool { return e.Op == OpSweep && e.Node == "before" && e.Seq == 13 && e.N == 1 })
			ev[i].Attempt, ev[k].Attempt = ev[k].Attempt, ev[i].Attempt
			ev[i].Sum, ev[k].Sum = ev[k].Sum, ev[i].Sum
			return ev
		}},
		{"two acknowledgements of one place", "I3", "disagreement", nil, func(t *testing.T, ev []Event) []Event {
			ev[find(t, ev, 5, func(e Event) bool { return e.Op == OpAck && e.Queue == 0 })].Offset = 2
			return ev
		}},
		{"gap", "I4", "has nothing at", nil, func(t *testing.T, ev []Event) []Event {
			// An attempt of unknown fate vanishes from the middle.
			return remove(ev, find(t, ev, 0, func(e Event) bool { return e.Op == OpSweep && e.Node == "after" && e.Seq == 13 && e.N == 1 }))
		}},
		{"log order", "I4", "log order", nil, func(t *testing.T, ev []Event) []Event {
			ev[find(t, ev, 8, is(OpSweep, "after"))].Phy = 1
			return ev
		}},
		{"beyond the end", "I4", "out of range", nil, func(t *testing.T, ev []Event) []Event {
			ev[find(t, ev, 0, is(OpRange, "before"))].Max--
			return ev
		}},
		{"order", "I5", "comes after", nil, func(t *testing.T, ev []Event) []Event {
			// Everything about the two messages is consistent, only their
			// order is not the one in which they were sent.
			swap := func(a Attempt) Attempt {
				switch {
				case a.Producer == 0 && a.Seq == 41:
					a.Seq = 42
				case a.Producer == 0 && a.Seq == 42:
					a.Seq = 41
				}
				return a
			}
			for i := range ev {
				ev[i].Attempt = swap(ev[i].Attempt)
			}
			return ev
		}},
		{"copies", "I6", "is stored 2 times", nil, func(t *testing.T, ev []Event) []Event {
			i := find(t, ev, 0, func(e Event) bool { return e.Op == OpRange && e.Node == "after" && e.Queue == 0 })
			k := find(t, ev, 10, func(e Event) bool { return e.Op == OpSweep && e.Node == "after" && e.Queue == 0 })
			e := ev[k]
			e.Offset, e.Phy = ev[i].Max, 1<<40
			ev[i].Max++
			return append(ev, e)
		}},
		{"copies without a fault", "I6", "although nothing failed", func(r *Rules) { r.NoFaults = true }, func(t *testing.T, ev []Event) []Event {
			return ev // the attempts of unknown fate were stored twice
		}},
		{"redelivery of what was committed", "I6", "redelivery", nil, func(t *testing.T, ev []Event) []Event {
			first := ev[find(t, ev, 0, func(e Event) bool { return e.Op == OpPoll && e.Offset == 3 })]
			return append(ev, first)
		}},
		{"delivered twice", "I6", "twice although", func(r *Rules) { r.Once = true }, func(t *testing.T, ev []Event) []Event {
			i := find(t, ev, 5, func(e Event) bool { return e.Op == OpPoll })
			return insert(ev, i+1, ev[i])
		}},
		{"offset falls", "I7", "rewind", nil, func(t *testing.T, ev []Event) []Event {
			i := find(t, ev, 3, func(e Event) bool { return e.Op == OpPlace })
			e := ev[i]
			e.Offset--
			return insert(ev, i+1, e)
		}},
		{"offset falls over a kill", "I7", "rewind", nil, func(t *testing.T, ev []Event) []Event {
			i := find(t, ev, 0, func(e Event) bool { return e.Op == OpKill })
			return insert(ev, i+1, Event{Op: OpPlace, At: ev[i].At, Group: "g", Topic: topic, Queue: 0, Offset: 2})
		}},
		{"offset beyond the end", "I7", "overrun", nil, func(t *testing.T, ev []Event) []Event {
			i := find(t, ev, 3, func(e Event) bool { return e.Op == OpPlace })
			ev[i].Offset += 5
			return ev
		}},
		{"skipped", "I7", "is beyond", func(r *Rules) { r.Drained = false }, func(t *testing.T, ev []Event) []Event {
			return remove(ev, find(t, ev, 9, func(e Event) bool { return e.Op == OpPoll && e.N == 1 && e.Seq%10 == 5 }))
		}},
		{"never delivered", "I7", "never got", nil, func(t *testing.T, ev []Event) []Event {
			var kept []Event
			for _, e := range ev {
				if e.Group == "" || e.Producer != 1 || e.Seq != 59 {
					kept = append(kept, e)
				}
			}
			return kept
		}},
		{"not found by key", "I9", "not found by key", nil, func(t *testing.T, ev []Event) []Event {
			ev[find(t, ev, 4, func(e Event) bool { return e.Op == OpLookup && e.Note == "key" })].Status = 1
			return ev
		}},
		{"id leads elsewhere", "I9", "leads to", nil, func(t *testing.T, ev []Event) []Event {
			ev[find(t, ev, 4, func(e Event) bool { return e.Op == OpLookup && e.Note == "id" })].Offset++
			return ev
		}},
		{"never looked for", "I9", "never looked for", nil, func(t *testing.T, ev []Event) []Event {
			return remove(ev, find(t, ev, 4, func(e Event) bool { return e.Op == OpLookup && e.Note == "id" }))
		}},
	}
	for _, c := range cases {
		t.Run(strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) {
			rules := testRules
			if c.rules != nil {
				c.rules(&rules)
			}
			v := check(c.plant(t, good()), rules)
			if !v.Has(c.invariant) {
				t.Fatalf("%s is not found broken: %v", c.invariant, v)
			}
			for _, x := range v.Violations {
				if x.Invariant == c.invariant && strings.Contains(x.What, c.says) {
					return
				}
			}
			t.Fatalf("no violation of %s says %q: %v", c.invariant, c.says, v)
		})
	}
}

// TestOffsetWithinLagMayFall: what was committed shortly before a kill may be
// lost, and messages are then delivered again.
func TestOffsetWithinLagMayFall(t *testing.T) {
	w := newWorld()
	w.produce(0, 10)
	w.consume()
	w.sweep("before")
	w.run.Add(Event{Op: OpKill, Node: "broker"})
	w.tick()
	rules := testRules
	rules.Lookups, rules.PlannedSends, rules.CommitLag = false, 0, time.Hour
	k := queue{topic, 0}
	w.placed[k] -= 2
	w.run.Add(Event{Op: OpPlace, Group: "g", Topic: topic, Queue: 0, Offset: w.placed[k]})
	w.consume()
	w.sweep("after")
	if v := check(w.run.Events(), rules); !v.Valid() {
		t.Fatal(v)
	}
	rules.CommitLag = 0
	if v := check(w.run.Events(), rules); !v.Has("I7") || !v.Has("I6") {
		t.Fatalf("without a lag: %v", v)
	}
}

// TestExpired: what is below the minimum offset may be gone when the broker
// deletes old files, and only then; what is above may not.
func TestExpired(t *testing.T) {
	cut := func() []Event {
		var kept []Event
		for _, e := range good() {
			if e.Op == OpRange && e.Node == "after" {
				e.Offset = 4
			}
			if e.Op != OpSweep || e.Node != "after" || e.Offset >= 4 {
				kept = append(kept, e)
			}
		}
		return kept
	}
	if v := check(cut(), testRules); !v.Has("I1") {
		t.Fatalf("the loss of old messages is not noticed: %v", v)
	}
	rules := testRules
	rules.Expires = true
	if v := check(cut(), rules); !v.Valid() {
		t.Fatal(v)
	}
	ev := cut()
	i := find(t, ev, 0, func(e Event) bool { return e.Op == OpRange && e.Node == "after" && e.Queue == 0 })
	ev[i].Max--
	end := ev[i].Max
	ev = remove(ev, find(t, ev, 0, func(e Event) bool { return e.Op == OpSweep && e.Node == "after" && e.Queue == 0 && e.Offset == end }))
	if v := check(ev, rules); !v.Has("I1") {
		t.Fatalf("a loss above the minimum is not noticed: %v", v)
	}
}

// TestFreeProducer: a producer with many messages under way is not held to I5.
func TestFreeProducer(t *testing.T) {
	ev := good()
	for i := range ev {
		if ev[i].Producer == 0 && (ev[i].Seq == 41 || ev[i].Seq == 42) {
			ev[i].Seq = 83 - ev[i].Seq
		}
	}
	if v := check(ev, testRules); !v.Has("I5") {
		t.Fatalf("%v", v)
	}
	rules := testRules
	rules.Free = map[int]bool{0: true}
	if v := check(ev, rules); !v.Valid() {
		t.Fatal(v)
	}
}

func TestTooLittleProvesNothing(t *testing.T) {
	for _, c := range []struct {
		says  string
		rules func(*Rules)
	}{
		{"sends of", func(r *Rules) { r.PlannedSends = 1000 }},
		{"kills of", func(r *Rules) { r.PlannedKills = 2 }},
	} {
		rules := testRules
		c.rules(&rules)
		if v := check(good(), rules); v.Valid() || !strings.Contains(v.Unknown, c.says) {
			t.Errorf("%s: %v", c.says, v)
		}
	}
	if v := check(nil, Rules{}); v.Valid() {
		t.Error("an empty run is valid")
	}
}

func TestBodyShowsForeignBytes(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	a := Attempt{ID: ID{Producer: 7, Seq: 1 << 40}, N: 3}
	b := body(42, a, 200, rng)
	if got, err := readBody(42, b); err != nil || got != a {
		t.Fatalf("%v, %v", got, err)
	}
	for i := range b {
		c := append([]byte(nil), b...)
		c[i] ^= 0x10
		if _, err := readBody(42, c); err == nil {
			t.Fatalf("a changed byte at %d is not noticed", i)
		}
	}
	for n := range b {
		if _, err := readBody(42, b[:n]); err == nil {
			t.Fatalf("a body cut to %d bytes is not noticed", n)
		}
	}
	if _, err := readBody(43, b); err == nil {
		t.Fatal("a message of another run is not noticed")
	}
}

// What a run's bodies draw is not taken from the caller's numbers: a test chooses
// the same whatever its senders did meanwhile, and needs no lock for it.
func TestRunDrawsForItself(t *testing.T) {
	quiet, busy := rand.New(rand.NewPCG(5, 6)), rand.New(rand.NewPCG(5, 6))
	NewRun(quiet)
	NewRun(busy).Begin(Attempt{}, "T", 0, 200)
	if a, b := quiet.Uint64(), busy.Uint64(); a != b {
		t.Errorf("after a message the caller draws %d, without one %d", b, a)
	}
}
