package broker

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"gomq/internal/broker/delay"
	"gomq/internal/broker/meta"
	"gomq/internal/config"
	"gomq/internal/message"
	"gomq/internal/remoting"
	"gomq/internal/store"
	"gomq/internal/task"
)

// delayer delivers delayed messages when they are due (behaviour.md section 11).
// Each level has a goroutine of its own, so that what one has to catch up with
// delays no other. A master runs it; a slave's copy of the queues waits with it.
//
// A message is delivered at least once. After a kill, or a loss of power, those are
// delivered again that were delivered since the progress was last written:
// flushDelayOffsetInterval, and no more than maxRepeats and what comes while it is
// written. The progress on the disk never names a message as delivered whose copy
// is not on the disk.
type delayer struct {
	live  *config.Live[Options]
	log   *zap.Logger
	store *store.Store
	inner *inner
	table *meta.Delays
	stats *stats
	now   func() time.Time

	levels   delay.Levels
	lines    []*levelLine // of level 1, 2, ...
	fresh    atomic.Int64 // delivered since the progress was written
	saveSoon chan struct{}
}

// maxRepeats is how many messages are delivered before the progress is written
// ahead of its time.
const maxRepeats = 20_000

const (
	// deliverBytes bounds what one append delivers; a message that is longer goes
	// alone.
	deliverBytes = 1 << 20
	// deliverTries is how often a message that the disk does not give is asked for
	// until it is left out.
	deliverTries = 10
)

// levelLine is a level: its line and what its goroutine works with.
type levelLine struct {
	d     *delayer
	level int
	line  *delay.Line
	wake  chan struct{}

	entries []store.Entry
	read    []byte
	texts   []byte
	props   message.PropSet
	out     []innerMessage
	from    []int64 // offset in the queue of each of out
	tries   int     // of the entry at the front
}

// begin makes the lines: the log is what it was, or what a slave has given back of
// it, and takes no messages yet.
func (d *delayer) begin() {
	d.saveSoon = make(chan struct{}, 1)
	started := d.now()
	clock := delay.Clock{Stamp: d.store.Stamp, Passed: func() time.Duration { return d.now().Sub(started) }}
	n := len(d.levels)
	for _, q := range d.store.Queues() {
		// Messages of levels that the table has no more are delivered, too.
		if q.Topic() == message.TopicSchedule && q.Max() > 0 {
			n = min(max(n, int(q.ID())+1), delay.MaxLevels)
		}
	}
	if most := d.levels.Longest(); most >= d.live.Load().FileReservedTime {
		d.log.Warn("the longest delay of messageDelayLevel is not shorter than fileReservedTime: such messages may be deleted before they are due",
			zap.Duration("delay", most), zap.Duration("fileReservedTime", d.live.Load().FileReservedTime))
	}
	for level := 1; level <= n; level++ {
		x := &levelLine{d: d, level: level, wake: make(chan struct{}, 1)}
		x.line = delay.NewLine(d.levels.Of(level), d.table.Get(level), x.queue().Max(), clock)
		d.lines = append(d.lines, x)
	}
}

func (x *levelLine) queue() *store.Queue {
	return x.d.store.Queue([]byte(message.TopicSchedule), delay.QueueOf(x.level))
}

// start starts a goroutine for each level and one that writes the progress.
func (d *delayer) start(group *task.Group, every time.Duration) {
	for _, x := range d.lines {
		group.Go(fmt.Sprint("delay level ", x.level), x.run)
	}
	group.Go("saving of delay progress", func(ctx context.Context) error {
		t := time.NewTicker(every)
		defer t.Stop()
		for {
			select {
			case <-t.C:
			case <-d.saveSoon:
			case <-ctx.Done():
				return nil
			}
			if err := d.save(ctx); err != nil && ctx.Err() == nil {
				d.log.Error("the progress of delayed messages was not saved", zap.Error(err))
			}
		}
	})
}

// save writes the progress once everything that was delivered is on the disk.
func (d *delayer) save(ctx context.Context) error {
	d.note()
	end := d.store.Appended.Load() // behind the copies of all of these
	return d.table.Save(func() error {
		err := d.store.Durable.Wait(ctx, end)
		if err == nil {
			d.inner.waitCopied(ctx, end) // a slave asks for what is saved
		}
		return err
	})
}

// saveAtEnd is save for a store that has been closed and so has everything on the
// disk.
func (d *delayer) saveAtEnd() error {
	d.note()
	return d.table.Save(func() error { return nil })
}

// note puts the progress into the table.
func (d *delayer) note() {
	d.fresh.Store(0)
	for _, x := range d.lines {
		d.table.Set(x.level, x.line.Next())
	}
}

// arrived is told by the store's dispatcher that q has grown to max.
func (d *delayer) arrived(q *store.Queue, max int64) {
	if q.Topic() != message.TopicSchedule || int(q.ID()) >= len(d.lines) {
		return
	}
	x := d.lines[q.ID()]
	x.line.Arrived(max)
	select {
	case x.wake <- struct{}{}:
	default:
	}
}

// delayOffsets is GET_ALL_DELAY_OFFSET (45): how far the levels have come, as it is
// on the disk. A slave that has it has, but for what is on its way, the copies of
// what it calls delivered.
func (b *Broker) delayOffsets(*remoting.Call) (remoting.Response, error) {
	return remoting.Response{Body: b.delayed.Saved().Append(nil)}, nil
}

// progress is where each level is: the next offset that it delivers, and the end
// of its queue.
func (d *delayer) progress(fn func(level int, next, max int64)) {
	if d == nil {
		return
	}
	for _, x := range d.lines {
		fn(x.level, x.line.Next(), x.queue().Max())
	}
}

// overdue is how long the message at the front of a level has been due, by the wall
// clock.
func (d *delayer) overdue(level int) time.Duration {
	x := d.lines[level-1]
	var e [1]store.Entry
	if next := x.line.Next(); next >= x.queue().Max() {
		return 0
	} else if _, err := d.store.Entries(x.queue(), next, e[:]); err != nil {
		return 0
	}
	return max(0, time.Duration(d.store.Stamp()-e[0].Code)*time.Millisecond)
}

// run is the goroutine of a level.
func (x *levelLine) run(ctx context.Context) error {
	t := time.NewTimer(0)
	defer t.Stop()
	for said := (time.Time{}); ; {
		wait, err := x.step(ctx)
		wake := x.wake
		if err != nil {
			wake = nil // what goes wrong does not get better by more messages
			if now := time.Now(); ctx.Err() == nil && now.Sub(said) > time.Minute {
				said = now
				x.d.log.Error("delayed messages are not delivered; it is tried again", zap.Int("level", x.level), zap.Int64("offset", x.line.Next()), zap.Error(err))
			}
		} else {
			said = time.Time{}
		}
		t.Reset(min(wait, time.Hour))
		select {
		case <-t.C:
		case <-wake:
		case <-ctx.Done():
			return nil
		}
	}
}

// step is Step; a panic is an error of it.
func (x *levelLine) step(ctx context.Context) (wait time.Duration, err error) {
	defer func() {
		if v := recover(); v != nil {
			wait, err = time.Second, fmt.Errorf("panic: %v\n%s", v, debug.Stack())
		}
	}()
	return x.line.Step(ctx, x)
}

// Bounds is part of delay.Queue.
func (x *levelLine) Bounds() (min, max int64) {
	q := x.queue()
	max = q.Max()
	return q.Min(), max
}

// Codes is part of delay.Queue.
func (x *levelLine) Codes(from int64, dst []int64) (int, error) {
	if len(x.entries) < len(dst) {
		x.entries = make([]store.Entry, len(dst))
	}
	n, err := x.d.store.Entries(x.queue(), from, x.entries[:len(dst)])
	for i := range n {
		dst[i] = x.entries[i].Code
	}
	return n, err
}

// Deliver is part of delay.Queue. Its entries are those that Codes has read.
func (x *levelLine) Deliver(ctx context.Context, from, to int64) (next int64, err error) {
	next, err = x.collect(from, to)
	defer x.forget()
	if len(x.out) > 0 {
		// A stop does not end the wait for the disk: the copies are in the log, and
		// would be made once more.
		if putErr := x.put(context.WithoutCancel(ctx)); putErr != nil {
			return from, putErr
		}
	}
	if n := len(x.out); n > 0 && x.d.live.Load().EnableScheduleMessageStats {
		x.d.stats.group(message.TopicSchedule, scheduleGroup).out.add(n, len(x.read))
	}
	if x.d.fresh.Add(next-from) > maxRepeats {
		select {
		case x.d.saveSoon <- struct{}{}:
		default:
		}
	}
	return next, err
}

// scheduleGroup is who delayed messages are counted for when they are delivered.
const scheduleGroup = "SCHEDULE_CONSUMER"

// collect reads the messages of the entries [from, to), or of some of them, and
// makes them what is delivered. next is behind the last of them; what can never be
// delivered is said and left out.
func (x *levelLine) collect(from, to int64) (next int64, err error) {
	next = from
	bytes := 0
	x.read = x.d.store.ReadEntries(x.read[:0], x.entries[:to-from], func(i int, r message.Record, rerr error) bool {
		lost := errors.Is(rerr, store.ErrNoRecord) || errors.Is(rerr, message.ErrCRC)
		if rerr != nil && !lost {
			if x.tries++; i > 0 || x.tries < deliverTries {
				err = fmt.Errorf("reading the message at %d of the log: %w", x.entries[i].Offset, rerr)
				return false
			}
		}
		x.tries = 0
		if rerr == nil {
			if bytes += len(r); bytes > deliverBytes && len(x.out) > 0 {
				return false
			}
			m := again(r)
			if x.texts, rerr = delay.Restore(x.texts, &m.Message, &x.props); rerr == nil {
				x.out = append(x.out, m)
				x.from = append(x.from, from+int64(i))
			}
		}
		if rerr != nil {
			x.drop(from+int64(i), rerr)
		}
		next = from + int64(i) + 1
		return true
	})
	return next, err
}

// put stores what was collected. A message that the store will never take is said
// and left out; one whose topic was deleted meanwhile is stored once more.
func (x *levelLine) put(ctx context.Context) error {
	msgs, from := x.out, x.from
	for {
		placed, err := x.d.inner.put(ctx, msgs)
		if err != nil {
			return err
		}
		n := 0
		for i, p := range placed {
			switch {
			case errors.Is(p.Err, store.ErrQueueGone):
				msgs[n], from[n] = msgs[i], from[i]
				n++
			case p.Err != nil:
				x.drop(from[i], p.Err)
			}
		}
		if n == 0 {
			return nil
		}
		msgs, from = msgs[:n], from[:n]
	}
}

// drop says that a message is not delivered.
func (x *levelLine) drop(offset int64, why error) {
	x.d.log.Error("a delayed message cannot be delivered and is left out; its record stays in the log", zap.Int("level", x.level), zap.Int64("offset", offset), zap.Error(why))
}

// forget lets go of what a delivery needed, and of buffers that it made large.
func (x *levelLine) forget() {
	clear(x.out)
	x.out, x.from, x.texts, x.read = x.out[:0], x.from[:0], x.texts[:0], x.read[:0]
	if cap(x.read) > 2*deliverBytes {
		x.read = nil
	}
}
