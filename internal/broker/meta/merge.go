package meta

import (
	"errors"
	"slices"
	"time"

	"gomq/internal/message"
	"gomq/internal/protocol"
)

// Offsets of a master and its slave are merged without asking which of the two is
// right: of two values for a queue the one with the newer step back counts, and of
// equal ones the larger. So the order of merges does not matter, what was committed
// at a slave while its master was away survives, and a deliberate reset outranks
// both (decisions.md, Replication). A step back is any commit below what is there,
// and the removal of a group.
//
// RocketMQ's own peers know no stamps: theirs are 0.

// place is a queue of a group.
type place struct {
	topic, group string
	queue        int32
}

// resets are the stamps, ms of whoever set back, never falling for a place.
type resets map[place]int64

const (
	// maxResets bounds the stamps; the oldest go first.
	maxResets = 200_000
	// futureReset is how far ahead of this clock a peer's stamp may be.
	futureReset = 24 * time.Hour
)

// mark notes a step back now.
func (r resets) mark(p place, now time.Time) {
	r.set(p, max(now.UnixMilli(), r[p]+1))
}

func (r resets) set(p place, stamp int64) {
	if len(r) >= maxResets && r[p] == 0 {
		r.forget()
	}
	r[p] = stamp
}

// forget drops the older half.
func (r resets) forget() {
	stamps := make([]int64, 0, len(r))
	for _, s := range r {
		stamps = append(stamps, s)
	}
	slices.Sort(stamps)
	middle := stamps[len(stamps)/2]
	for p, s := range r {
		if s <= middle {
			delete(r, p)
		}
	}
}

// table is the stamps as they are written.
func (r resets) table() protocol.OffsetTable {
	if len(r) == 0 {
		return nil
	}
	t := protocol.OffsetTable{}
	for p, stamp := range r {
		key := p.topic + "@" + p.group
		if t[key] == nil {
			t[key] = map[int32]int64{}
		}
		t[key][p.queue] = stamp
	}
	return t
}

// load takes stamps from the file.
func (r resets) load(t protocol.OffsetTable) {
	for key, queues := range t {
		topic, group, ok := splitKey(key)
		for queue, stamp := range queues {
			if ok && stamp > 0 {
				r.set(place{topic, group, queue}, stamp)
			}
		}
	}
}

// ErrFutureReset is why a peer's stamp is not believed: later ones would have to
// be later still.
var ErrFutureReset = errors.New("the reset of an offset is stamped more than a day ahead of this broker's clock")

// Merge takes a peer's offset and stamp for a queue and says whether they counted:
// they are newer than what is here, or the same. Errors: as Commit, and
// ErrFutureReset.
func (o *Offsets) Merge(topic, group string, queue int32, offset, stamp int64) (taken bool, err error) {
	switch {
	case queue < 0 || offset < 0:
		return false, ErrNegativeQueue
	case stamp < 0 || stamp > o.now().Add(futureReset).UnixMilli():
		return false, ErrFutureReset
	}
	if err := message.ValidTopic(topic); err != nil {
		return false, err
	}
	if err := message.ValidGroup(group); err != nil {
		return false, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	p := place{topic, group, queue}
	own, known := o.table[topic][group][queue]
	switch mine := o.resets[p]; {
	case stamp < mine, stamp == mine && known && offset < own:
		return false, nil
	case stamp > mine:
		o.resets.set(p, stamp)
		o.gen++
	}
	return true, o.put([]byte(topic), []byte(group), queue, offset)
}

// Stamp is when the offset of a queue was last set back, 0 when never.
func (o *Offsets) Stamp(topic, group string, queue int32) int64 {
	o.mu.RLock()
	defer o.mu.RUnlock()
	return o.resets[place{topic, group, queue}]
}

// Forget drops what group has in topic as if it had never been: a slave does that
// with what its master has removed.
func (o *Offsets) Forget(topic, group string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for queue := range o.table[topic][group] {
		delete(o.resets, place{topic, group, queue})
	}
	o.drop(topic, group)
}

// Stamped is a copy of everything with the stamps of steps back.
func (o *Offsets) Stamped() (offsets, stamps protocol.OffsetTable) {
	offsets, stamps, _ = o.snapshot()
	return offsets, stamps
}
