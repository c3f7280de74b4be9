package trans

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gomq/internal/failpoint"
	"gomq/internal/message"
)

// Limits are the rules of one round of checks.
type Limits struct {
	TimeOut  time.Duration // age of a half message at its first check (transactionTimeOut)
	Most     int           // questions before it is put aside (transactionCheckMax)
	Reserved time.Duration // age at which it is put aside unasked: its file may go (fileReservedTime)
}

// Report says what a round of checks has done.
type Report struct {
	From, To  int64 // the progress in half messages before and after
	Ended     int   // found to be ended
	Asked     int   // put back, and a producer asked
	Unasked   int   // put back, and no producer of the group could be asked
	Immune    int   // put back because they are too young to be asked about
	Aside     int   // put aside
	Old       int   // of those, because of their age alone
	Gone      int64 // missing: deleted by age, or damaged
	Problems  []error
	LastGroup string // a group of which nobody could be asked
}

const (
	// longest is how long each part of a round may take: reading op records, walking
	// half messages, counting op records that are done. The next round goes on.
	longest = time.Minute
	// window is how many half messages a round looks at, at most: one bit each.
	window = 1 << 23
	// mostLate bounds the op records of half messages below the progress that a
	// round keeps in mind.
	mostLate = 1 << 16
	// One Put stores at most so many copies and bytes.
	mostAtOnce, bytesAtOnce = 64, 1 << 20
	opsAtOnce               = 512
	mostProblems            = 8
)

// round is one Check on its way.
type round struct {
	d      *Desk
	ctx    context.Context
	l      Limits
	rep    Report
	base   int64          // the first half message looked at
	bits   []uint64       // ended, by distance from base
	late   map[int64]bool // ended half messages below base
	opFrom int64          // the progress in op records
	whole  bool           // every op record there was has been read
	busy   bool           // producers have more questions than their connections take
	acts   []act          // not carried out yet
	bytes  int            // of acts
}

// Check is one round: it walks the half messages from the progress on, passes
// those that were ended, and puts each that is old enough back at the end of
// their queue and asks its producer; those that have been asked about too often,
// or whose file is about to go, are put aside in TRANS_CHECK_MAX_TIME_TOPIC. It
// stops at the first that is too young. The progress is written down once
// everything that it stands on is durable, so that no half message is lost by a
// power failure; after a kill some may be checked twice.
//
// The error says why the round ended before its time; what it had done stays
// done, and counts once it is durable.
func (d *Desk) Check(ctx context.Context, l Limits) (Report, error) {
	r := &round{d: d, ctx: ctx, l: l, late: map[int64]bool{}}
	least, most := d.log.Span(message.TopicHalf)
	r.base = d.at(halfTopic, least, most)
	r.rep.From, r.rep.To = r.base, r.base
	opMin, opMost := d.log.Span(message.TopicOpHalf)
	r.opFrom = d.at(opTopic, opMin, opMost)
	r.bits = make([]uint64, (min(most-r.base, window)+63)/64)
	err := r.readOps(opMost)
	if err == nil {
		err = r.walk(r.base + min(most-r.base, window))
	}
	return r.rep, errors.Join(err, r.settle(opMost))
}

// at is the progress in a queue. Behind the end of the queue, which is where a
// power failure can leave it, it is the end.
func (d *Desk) at(topic []byte, least, most int64) int64 {
	off, ok := d.progress.Query(topic, group, Queue)
	if !ok {
		return least
	}
	return min(max(off, least), most)
}

// until says when a part of the round that begins now has to end.
func (r *round) until() (over func() bool) {
	begun := r.d.clock.Passed()
	return func() bool { return r.ctx.Err() != nil || r.d.clock.Passed()-begun > longest }
}

// readOps reads the op records up to most and notes what they end.
func (r *round) readOps(most int64) error {
	over := r.until()
	for at := r.opFrom; at < most; {
		if over() {
			return nil
		}
		next, err := r.d.log.Read(message.TopicOpHalf, at, opsAtOnce, func(rec message.Record) bool {
			if !ended(rec, r.mark) {
				r.problem(fmt.Errorf("the op record at %d of %s says nothing that is understood", rec.QueueOffset(), message.TopicOpHalf))
			}
			return rec.QueueOffset()+1 < most
		})
		if err != nil {
			return fmt.Errorf("reading %s at %d: %w", message.TopicOpHalf, at, err)
		}
		if next <= at {
			return nil
		}
		at = next
	}
	r.whole = true
	return nil
}

// mark notes that a half message was ended.
func (r *round) mark(half int64) {
	switch x := half - r.base; {
	case x >= 0 && x < int64(len(r.bits))*64:
		r.bits[x/64] |= 1 << (x % 64)
	case x < 0 && len(r.late) < mostLate:
		r.late[half] = true
	}
}

// marked says whether an op record ends the half message.
func (r *round) marked(half int64) bool {
	if x := half - r.base; x >= 0 && x < int64(len(r.bits))*64 {
		return r.bits[x/64]&(1<<(x%64)) != 0
	}
	return r.late[half]
}

// walk looks at the half messages below end.
func (r *round) walk(end int64) error {
	at, over := r.base, r.until()
	for at < end && !over() && !r.busy {
		if r.marked(at) {
			r.rep.Ended++
			at++
			if len(r.acts) == 0 {
				r.rep.To = at
			}
			continue
		}
		rec, next, err := r.read(at)
		if err != nil {
			return err
		}
		if rec != nil {
			if !r.decide(rec) {
				break
			}
		} else {
			r.rep.Gone += next - at
		}
		at = next
		if len(r.acts) >= mostAtOnce || r.bytes > bytesAtOnce {
			if err := r.act(); err != nil {
				return err
			}
		}
		if len(r.acts) == 0 {
			r.rep.To = at
		}
	}
	if err := r.act(); err != nil {
		return err
	}
	r.rep.To = at
	return nil
}

// read is a copy of the half message at an offset, nil when it is gone, and the
// offset to go on with.
func (r *round) read(at int64) (rec message.Record, next int64, err error) {
	gap := int64(0)
	next, err = r.d.log.Read(message.TopicHalf, at, 1, func(x message.Record) bool {
		if gap = x.QueueOffset(); gap <= at {
			rec = append(message.Record(nil), x...)
		}
		return false
	})
	if gap > at {
		next = gap
	}
	if err == nil && next <= at {
		err = errors.New("nothing there")
	}
	if err != nil {
		return nil, at, fmt.Errorf("reading %s at %d: %w", message.TopicHalf, at, err)
	}
	return rec, next, nil
}

// decide says what is to be done with a half message that no op record ends;
// false: nothing yet, and the same goes for all behind it.
func (r *round) decide(rec message.Record) bool {
	root := r.d.ends.rootOf(rec)
	if r.d.ends.has(root) || r.marked(root) {
		r.rep.Ended++
		return true
	}
	age := r.d.now().Sub(time.UnixMilli(rec.BornTime()))
	old := r.d.age(rec) > r.l.Reserved
	if often := checks(rec) >= r.l.Most; often || old {
		if !often {
			r.rep.Old++
		}
		r.add(act{rec, root, putAside(rec), toAside})
		return true
	}
	least, own := immunity(rec, r.l.TimeOut)
	switch young := age >= 0 && age < least; {
	case young && own:
		r.add(act{rec, root, immune(rec), toWait})
	case young, !r.whole:
		return false
	default: // also what was born in the future, by a clock that was set or another's
		r.add(act{rec, root, asked(rec), toAsk})
	}
	return true
}

func (r *round) problem(err error) {
	if len(r.rep.Problems) < mostProblems {
		r.rep.Problems = append(r.rep.Problems, err)
	}
}

// settleWait bounds the waits for the disk that a broker that stops waits for as
// well.
const settleWait = 5 * time.Second

// settle writes the progress down once everything up to it is durable: the copies
// and what was put aside instead, and the ends that were passed.
func (r *round) settle(opMost int64) error {
	opTo, err := r.opsDone(opMost)
	if err != nil {
		return err
	}
	if r.rep.To == r.rep.From && opTo == r.opFrom && r.known() {
		return nil
	}
	failpoint.Hit("afterCheck")
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.ctx), settleWait)
	defer cancel()
	if err := r.d.log.Settle(ctx); err != nil {
		return fmt.Errorf("the progress of the checks is not written down: %w", err)
	}
	return errors.Join(r.d.progress.Commit(halfTopic, group, Queue, r.rep.To), r.d.progress.Commit(opTopic, group, Queue, opTo))
}

// known says whether the progress that is written down is right, or there is none
// and none is needed.
func (r *round) known() bool {
	half, ok := r.d.progress.Query(halfTopic, group, Queue)
	op, also := r.d.progress.Query(opTopic, group, Queue)
	return (!ok || half == r.rep.To) && (!also || op == r.opFrom)
}

// opsDone is the offset of the first op record that ends a half message which
// the progress has not reached.
func (r *round) opsDone(most int64) (int64, error) {
	at, open, over := r.opFrom, false, r.until()
	for at < most && !open && !over() {
		next, err := r.d.log.Read(message.TopicOpHalf, at, opsAtOnce, func(rec message.Record) bool {
			ended(rec, func(half int64) { open = open || half >= r.rep.To })
			if open {
				at = rec.QueueOffset()
			}
			return !open && rec.QueueOffset()+1 < most
		})
		if err != nil {
			return r.opFrom, fmt.Errorf("reading %s at %d: %w", message.TopicOpHalf, at, err)
		}
		if open {
			return at, nil
		}
		if next <= at {
			break
		}
		at = next
	}
	return at, nil
}
