package checker

import (
	"fmt"
	"sort"
	"time"
)

// steps is the history of one group's place in one queue.
type steps struct {
	at     []time.Duration
	offset []int64
}

// committedBy is the highest offset that was accepted no later than t.
func (s *steps) committedBy(t time.Duration) int64 {
	high := int64(-1)
	for i, at := range s.at {
		if at <= t {
			high = max(high, s.offset[i])
		}
	}
	return high
}

// keep forgets what was committed later than t.
func (s *steps) keep(t time.Duration) {
	kept := steps{}
	for i, at := range s.at {
		if at <= t {
			kept.at, kept.offset = append(kept.at, at), append(kept.offset, s.offset[i])
		}
	}
	*s = kept
}

// I7: a group's place in a queue never falls but for a reset, is never beyond
// the end of the queue, and after a kill is not older than the persist
// interval allows; and what lies below it has been delivered.
//
// The bound on redelivery (part of I6) follows from the same history: after a
// kill no message is delivered again that lies below what was committed
// earlier than CommitLag before the kill.
func (j *judge) progress() {
	history := map[groupQueue]*steps{}
	floor := map[groupQueue]int64{} // what a place may not be below from now on
	polled := map[groupQueue]map[int64]bool{}
	ends := j.ends()
	for i, e := range j.events {
		gq := groupQueue{e.Group, queue{e.Topic, e.Queue}}
		switch e.Op {
		case OpKill:
			for gq, s := range history {
				s.keep(e.At - j.rules.CommitLag)
				floor[gq] = s.committedBy(e.At)
			}
		case OpReset:
			history[gq] = &steps{}
			floor[gq] = -1
		case OpPoll:
			if f, ok := floor[gq]; ok && e.Offset < f && polled[gq][e.Offset] {
				j.found("I6", i, "redelivery: group %s got %s/%d@%d again although %d had been committed long before the kill", e.Group, e.Topic, e.Queue, e.Offset, f)
			}
			if polled[gq] == nil {
				polled[gq] = map[int64]bool{}
			}
			polled[gq][e.Offset] = true
		case OpCommit, OpPlace:
			s := history[gq]
			if s == nil {
				s = &steps{}
				history[gq] = s
			}
			if f, ok := floor[gq]; ok && e.Offset < f {
				j.found("I7", i, "rewind: the place of group %s in %s/%d is %d, it was %d before", e.Group, e.Topic, e.Queue, e.Offset, f)
			}
			if end, ok := ends[gq.queue]; ok && e.Offset > end {
				j.found("I7", i, "overrun: the place of group %s in %s/%d is %d, the queue ends at %d", e.Group, e.Topic, e.Queue, e.Offset, end)
			}
			// A consumer that was behind a kill commits lower values again;
			// the broker's answers must not fall while it lives.
			if e.Op == OpPlace {
				floor[gq] = max(floor[gq], e.Offset)
			}
			s.at, s.offset = append(s.at, e.At), append(s.offset, e.Offset)
		}
	}
	j.skipped(history, polled)
}

// ends is where each queue ends in the final sweep.
func (j *judge) ends() map[queue]int64 {
	m := map[queue]int64{}
	for q, i := range j.ranges[j.last()] {
		m[q] = j.events[i].Max
	}
	return m
}

// skipped: no acknowledged message below a group's place has been left out.
func (j *judge) skipped(history map[groupQueue]*steps, polled map[groupQueue]map[int64]bool) {
	for a, i := range j.acks {
		e := j.events[i]
		for gq, s := range history {
			if gq.queue != (queue{e.Topic, e.Queue}) || polled[gq] == nil {
				continue
			}
			if e.Offset < s.committedBy(1<<62) && !polled[gq][e.Offset] {
				j.found("I7", i, "skipped: group %s is beyond %v at %s/%d@%d and never got it", gq.group, a, e.Topic, e.Queue, e.Offset)
			}
		}
	}
}

// delivered: once drained, each group has received every acknowledged message
// (the second half of I7).
func (j *judge) delivered() {
	if !j.rules.Drained {
		return
	}
	got := map[string]map[ID]bool{}
	for _, e := range j.events {
		if e.Op == OpPoll {
			if got[e.Group] == nil {
				got[e.Group] = map[ID]bool{}
			}
			got[e.Group][e.ID] = true
		}
	}
	for _, g := range j.rules.Groups {
		for a, i := range j.acks {
			if !got[g][a.ID] {
				j.found("I7", i, "skipped: group %s never got %v", g, a)
			}
		}
	}
}

// I9: every acknowledged message was found by its key and by its id.
func (j *judge) lookup() {
	if !j.rules.Lookups {
		return
	}
	type question struct {
		how string
		a   Attempt
	}
	answers := map[question]int{}
	for i, e := range j.events {
		if e.Op == OpLookup {
			answers[question{e.Note, e.Attempt}] = i
		}
	}
	for a, i := range j.acks {
		for _, how := range []string{"key", "id"} {
			k, ok := answers[question{how, a}]
			switch {
			case !ok:
				j.found("I9", i, "lookup: %v was never looked for by %s", a, how)
			case j.events[k].Status != 0:
				j.found("I9", k, "lookup: %v is not found by %s", a, how)
			case how == "id" && (j.events[k].Offset != j.events[i].Offset || j.events[k].Queue != j.events[i].Queue):
				j.found("I9", k, "lookup: the id of %v leads to %s/%d@%d", a, j.events[k].Topic, j.events[k].Queue, j.events[k].Offset)
			}
		}
	}
}

// enough: a run that did too little proves nothing.
func (j *judge) enough() {
	kills := 0
	for _, e := range j.events {
		if e.Op == OpKill {
			kills++
		}
	}
	switch {
	case len(j.acks) == 0:
		j.verdict.Unknown = "nothing was acknowledged"
	case len(j.nodes) == 0:
		j.verdict.Unknown = "there was no sweep"
	case 10*len(j.sent) < 9*j.rules.PlannedSends:
		j.verdict.Unknown = fmt.Sprintf("%d sends of %d planned", len(j.sent), j.rules.PlannedSends)
	case 10*kills < 9*j.rules.PlannedKills:
		j.verdict.Unknown = fmt.Sprintf("%d kills of %d planned", kills, j.rules.PlannedKills)
	}
	sort.SliceStable(j.verdict.Violations, func(a, b int) bool {
		return j.verdict.Violations[a].Invariant < j.verdict.Violations[b].Invariant
	})
}
