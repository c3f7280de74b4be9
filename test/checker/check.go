package checker

import (
	"fmt"
	"sort"
	"strings"
	"time"
)

// Rules say what a run has to satisfy beyond what always holds.
type Rules struct {
	// CommitLag is how old a committed offset may be after a kill: the
	// broker's persist interval and a second.
	CommitLag time.Duration
	// Ordered producers send one message after another to one queue each, so
	// I5 holds for them.
	Ordered bool
	// Free are producers that have many messages under way at once, and are
	// not held to I5.
	Free map[int]bool
	// Expires: the broker deletes its oldest files, so that what lies below
	// the minimum offset of a queue is not lost.
	Expires bool
	// NoFaults: nothing was killed and nothing re-sent, so every acknowledged
	// message has exactly one copy.
	NoFaults bool
	// Once: no group changed its members and nothing failed, so that every
	// place is delivered to each group once at most.
	Once bool
	// Drained: every group has been allowed to consume to the end, so every
	// acknowledged message must have been delivered to each of Groups.
	Drained bool
	Groups  []string
	// Lookups: every acknowledged message was looked for by key and by id.
	Lookups bool
	// Resends is how often the client may have re-sent an attempt by itself,
	// with the same body.
	Resends int
	// PlannedSends and PlannedKills are what the test set out to do; a run
	// that did less than nine tenths of it proves nothing.
	PlannedSends, PlannedKills int
}

// Violation is one broken promise.
type Violation struct {
	Invariant string // "I1" ... "I9"
	What      string
	Event     int // index of the event that shows it
}

// Verdict is the outcome of Check.
type Verdict struct {
	Violations []Violation
	Unknown    string // why the run proves nothing, or ""
	events     []Event
	total      int // including those beyond the first of a kind
}

// maxPerInvariant limits how many violations of one kind are kept.
const maxPerInvariant = 20

// Valid says that the run proves what it was made for.
func (v *Verdict) Valid() bool { return len(v.Violations) == 0 && v.Unknown == "" }

// Has says whether an invariant was found broken.
func (v *Verdict) Has(invariant string) bool {
	for _, x := range v.Violations {
		if x.Invariant == invariant {
			return true
		}
	}
	return false
}

// String is the report: the violations and the 20 events around the first.
func (v *Verdict) String() string {
	if v.Valid() {
		return "valid"
	}
	if len(v.Violations) == 0 {
		return "unknown: " + v.Unknown
	}
	var b strings.Builder
	fmt.Fprintf(&b, "invalid: %d violations\n", v.total)
	for _, x := range v.Violations {
		fmt.Fprintf(&b, "%s: %s\n", x.Invariant, x.What)
	}
	at := v.Violations[0].Event
	fmt.Fprintf(&b, "events around the first (%s):\n", v.Violations[0].Invariant)
	for i := max(0, at-10); i < min(len(v.events), at+10); i++ {
		fmt.Fprintf(&b, "%7d %v\n", i, v.events[i])
	}
	return b.String()
}

type place struct {
	topic  string
	queue  int
	offset int64
}

type queue struct {
	topic string
	queue int
}

type groupQueue struct {
	group string
	queue
}

// judge holds the indexes over the events while they are checked.
type judge struct {
	rules   Rules
	events  []Event
	verdict *Verdict
	counts  map[string]int

	sent    map[Attempt]int // index of the send event
	tries   map[ID]int
	acks    map[Attempt]int
	refused map[Attempt]int
	nodes   []string                 // sweeps in the order they were made
	sweeps  map[string]map[place]int // per node: place -> sweep event
	ranges  map[string]map[queue]int // per node: queue -> range event
}

// Check judges the events recorded so far.
func (r *Run) Check(rules Rules) *Verdict { return check(r.Events(), rules) }

func check(events []Event, rules Rules) *Verdict {
	j := &judge{rules: rules, events: events, verdict: &Verdict{events: events}, counts: map[string]int{}}
	j.index()
	j.lost()
	j.phantom()
	j.agreement()
	j.contiguity()
	j.order()
	j.copies()
	j.progress()
	j.delivered()
	j.lookup()
	j.enough()
	return j.verdict
}

func (j *judge) found(invariant string, event int, format string, args ...any) {
	j.verdict.total++
	if j.counts[invariant]++; j.counts[invariant] <= maxPerInvariant {
		j.verdict.Violations = append(j.verdict.Violations, Violation{invariant, fmt.Sprintf(format, args...), event})
	}
}

func (j *judge) index() {
	j.sent, j.tries, j.acks, j.refused = map[Attempt]int{}, map[ID]int{}, map[Attempt]int{}, map[Attempt]int{}
	j.sweeps, j.ranges = map[string]map[place]int{}, map[string]map[queue]int{}
	for i, e := range j.events {
		switch e.Op {
		case OpSend:
			j.sent[e.Attempt] = i
			j.tries[e.ID]++
		case OpAck:
			j.acks[e.Attempt] = i
		case OpRefused:
			j.refused[e.Attempt] = i
		case OpRange:
			if j.ranges[e.Node] == nil {
				j.nodes = append(j.nodes, e.Node)
				j.ranges[e.Node], j.sweeps[e.Node] = map[queue]int{}, map[place]int{}
			}
			j.ranges[e.Node][queue{e.Topic, e.Queue}] = i
		case OpSweep:
			j.sweeps[e.Node][place{e.Topic, e.Queue, e.Offset}] = i
		}
	}
}

// last is the name of the last sweep, the one of the quiet end.
func (j *judge) last() string {
	if len(j.nodes) == 0 {
		return ""
	}
	return j.nodes[len(j.nodes)-1]
}

// I1: every SEND_OK is in the final sweep at the place it was acknowledged
// for, with the bytes and properties that were sent.
func (j *judge) lost() {
	final := j.sweeps[j.last()]
	for a, i := range j.acks {
		e := j.events[i]
		if r, ok := j.ranges[j.last()][queue{e.Topic, e.Queue}]; ok && j.rules.Expires && e.Offset < j.events[r].Offset {
			continue
		}
		k, ok := final[place{e.Topic, e.Queue, e.Offset}]
		if !ok {
			j.found("I1", i, "lost: %v was acknowledged at %s/%d@%d and is not there", a, e.Topic, e.Queue, e.Offset)
			continue
		}
		got := j.events[k]
		if got.Attempt != a {
			j.found("I1", i, "lost: %v was acknowledged at %s/%d@%d, where %v is", a, e.Topic, e.Queue, e.Offset, got.Attempt)
		} else if s, ok := j.sent[a]; ok && j.events[s].Sum != got.Sum {
			j.found("I1", i, "lost: %v at %s/%d@%d has other bytes or properties than were sent", a, e.Topic, e.Queue, e.Offset)
		}
	}
}

// I2: everything that came out was put in: each attempt was begun, for this
// topic and queue, and not answered with a refusal; bodies verify.
func (j *judge) phantom() {
	for i, e := range j.events {
		switch e.Op {
		case OpBad:
			j.found("I2", i, "phantom: at %s/%d@%d: %s", e.Topic, e.Queue, e.Offset, e.Note)
		case OpPoll, OpSweep:
			s, ok := j.sent[e.Attempt]
			if !ok || e.Op == OpPoll && s > i {
				j.found("I2", i, "phantom: %v at %s/%d@%d was never sent", e.Attempt, e.Topic, e.Queue, e.Offset)
				continue
			}
			sent := j.events[s]
			if sent.Topic != e.Topic || sent.Queue >= 0 && sent.Queue != e.Queue {
				j.found("I2", i, "phantom: %v was sent to %s/%d and is in %s/%d", e.Attempt, sent.Topic, sent.Queue, e.Topic, e.Queue)
			}
			if sent.Sum != e.Sum {
				j.found("I2", i, "phantom: %v at %s/%d@%d differs from what was sent", e.Attempt, e.Topic, e.Queue, e.Offset)
			}
			if k, ok := j.refused[e.Attempt]; ok {
				j.found("I2", i, "phantom: %v at %s/%d@%d was refused with status %d", e.Attempt, e.Topic, e.Queue, e.Offset, j.events[k].Status)
			}
		}
	}
}

// I3: a place holds one attempt, for every acknowledgement, consumer and
// sweep, before and after a restart.
func (j *judge) agreement() {
	at := map[place]int{}
	for i, e := range j.events {
		if e.Op != OpAck && e.Op != OpPoll && e.Op != OpSweep {
			continue
		}
		p := place{e.Topic, e.Queue, e.Offset}
		first, ok := at[p]
		if !ok {
			at[p] = i
		} else if f := j.events[first]; f.Attempt != e.Attempt {
			j.found("I3", i, "disagreement: %s/%d@%d is %v (%s) and %v (%s)", p.topic, p.queue, p.offset, f.Attempt, f.Op, e.Attempt, e.Op)
		}
	}
}

// I4: the offsets of a queue go from its minimum to its maximum without a
// gap, and the place in the log rises with them.
func (j *judge) contiguity() {
	for _, node := range j.nodes {
		for q, i := range j.ranges[node] {
			e := j.events[i]
			phy := int64(-1)
			for off := e.Offset; off < e.Max; off++ {
				k, ok := j.sweeps[node][place{q.topic, q.queue, off}]
				if !ok {
					j.found("I4", i, "gap: %s/%d reaches from %d to %d and has nothing at %d (%s)", q.topic, q.queue, e.Offset, e.Max, off, node)
					continue
				}
				if j.events[k].Phy <= phy {
					j.found("I4", k, "log order: %s/%d@%d is at %d in the log, the one before at %d (%s)", q.topic, q.queue, off, j.events[k].Phy, phy, node)
				}
				phy = j.events[k].Phy
			}
		}
		for p, k := range j.sweeps[node] {
			i, ok := j.ranges[node][queue{p.topic, p.queue}]
			if !ok || p.offset < j.events[i].Offset || p.offset >= j.events[i].Max {
				j.found("I4", k, "out of range: %s/%d@%d (%s)", p.topic, p.queue, p.offset, node)
			}
		}
	}
}

// I5: a producer that sends one message after another to one queue finds them
// in that order, when later copies are left out.
func (j *judge) order() {
	if !j.rules.Ordered {
		return
	}
	type lane struct {
		queue
		producer int
	}
	for _, node := range j.nodes {
		var list []int
		for _, i := range j.sweeps[node] {
			list = append(list, i)
		}
		sort.Slice(list, func(x, y int) bool {
			a, b := j.events[list[x]], j.events[list[y]]
			if a.Topic != b.Topic {
				return a.Topic < b.Topic
			}
			if a.Queue != b.Queue {
				return a.Queue < b.Queue
			}
			return a.Offset < b.Offset
		})
		seen := map[ID]bool{}
		top := map[lane]int64{}
		for _, i := range list {
			e := j.events[i]
			if seen[e.ID] || j.rules.Free[e.Producer] {
				continue
			}
			seen[e.ID] = true
			l := lane{queue{e.Topic, e.Queue}, e.Producer}
			if high, ok := top[l]; ok && e.Seq < high {
				j.found("I5", i, "order: %v comes after sequence %d in %s/%d (%s)", e.Attempt, high, e.Topic, e.Queue, node)
				continue
			}
			top[l] = e.Seq
		}
	}
}

// I6: an attempt is stored once at most, so a message has no more copies than
// attempts; without faults and re-sending it has exactly one.
func (j *judge) copies() {
	if j.rules.Once {
		seen := map[groupQueue]map[int64]bool{}
		for i, e := range j.events {
			if e.Op != OpPoll {
				continue
			}
			gq := groupQueue{e.Group, queue{e.Topic, e.Queue}}
			if seen[gq] == nil {
				seen[gq] = map[int64]bool{}
			}
			if seen[gq][e.Offset] {
				j.found("I6", i, "redelivery: group %s got %s/%d@%d twice although nothing failed", e.Group, e.Topic, e.Queue, e.Offset)
			}
			seen[gq][e.Offset] = true
		}
	}
	for _, node := range j.nodes {
		count := map[Attempt]int{}
		copies := map[ID]int{}
		for _, i := range j.sweeps[node] {
			a := j.events[i].Attempt
			copies[a.ID]++
			if count[a]++; count[a] == 2+j.rules.Resends {
				j.found("I6", i, "copies: %v is stored %d times (%s)", a, count[a], node)
			}
		}
		if !j.rules.NoFaults || node != j.last() {
			continue
		}
		for a, i := range j.acks {
			if copies[a.ID] != 1 || j.tries[a.ID] != 1 {
				j.found("I6", i, "copies: %v was sent %d times and has %d copies although nothing failed", a.ID, j.tries[a.ID], copies[a.ID])
			}
		}
	}
}
