package store

import (
	"context"
	"fmt"
	"sync"
	"time"

	"gomq/internal/failpoint"
	"gomq/internal/message"
	"gomq/internal/store/segment"
)

// maxHanded bounds what is handed over in memory, in records. Beyond it the reader
// reads the log again.
const maxHanded = 128 << 10

// handover is what those who make records visible leave for those who come after
// them: the dispatcher, the indexer and the checkpoint.
type handover struct {
	limit int // maxHanded; a test may want less

	mu sync.Mutex // guards the rest
	horizon

	grown []*Queue // have grown since the dispatcher looked

	keyed []handed // for the indexer, in the order of the log
	keys  []int32
	lost  int64 // from here on the indexer has to read the log, -1 = no

	dirty []*Queue // have entries that are not synced
	names []*Queue // have files whose names are not synced

	kept     []kept // SYNC_FLUSH: appended and not yet visible
	keptKeys []int32
	keptLost int64 // from here on the flusher has to read the log, -1 = no
	keptEnd  int64 // end of what was not kept
}

// horizon is what is known of everything that is visible.
type horizon struct {
	end   int64 // offset in the log below which everything is visible
	time  int64 // store time of the last record below end
	last  int64 // its offset, -1 = there is none
	count census
}

// handed is a record for the indexer.
type handed struct {
	offset, time int64
	keys         int32
}

// kept is a record on its way to the disk.
type kept struct {
	q        *Queue
	at       int64 // in the queue
	u        unit
	time     int64
	keys     int32
	hasEntry bool
}

// census counts what the queues hold. It goes into the checkpoint, so that the
// loss of a queue's files is noticed.
type census struct {
	queues  int64 // that have had a message
	entries int64 // sum of their ends
}

// add counts the entry at off of a queue that ended at end. Where the log lacks
// some (a slave's may begin in the middle of a queue), their places count.
func (c *census) add(end, off int64) {
	if end == 0 {
		c.queues++
	}
	c.entries += off + 1 - end
}

func (c *census) drop(q *Queue) {
	if n := q.max.Load(); n > 0 {
		c.queues--
		c.entries -= n
	}
}

// note books an entry that has been written at offset off of q and shows it to
// readers. Held: hand.mu.
func (h *handover) note(q *Queue, off int64) {
	if q.gone.Load() {
		return
	}
	end := q.max.Load()
	h.count.add(end, off)
	if end == 0 && off > 0 {
		q.min.Store(off)
	}
	if !q.dirty {
		q.dirty, q.dirtyMin = true, off
		h.dirty = append(h.dirty, q)
	}
	q.max.Store(off + 1)
	if !q.noted.Load() {
		q.noted.Store(true)
		h.grown = append(h.grown, q)
	}
}

// index hands a record's keys over. Held: hand.mu.
func (h *handover) index(offset, time int64, keys []int32) {
	switch {
	case h.lost >= 0:
	case len(h.keyed) >= h.limit:
		h.lost = offset
	default:
		h.keyed = append(h.keyed, handed{offset: offset, time: time, keys: int32(len(keys))})
		h.keys = append(h.keys, keys...)
	}
}

// noteName books that q has new files. Held: the put lock.
func (s *Store) noteName(q *Queue) {
	s.hand.mu.Lock()
	if !q.newName {
		q.newName = true
		s.hand.names = append(s.hand.names, q)
	}
	s.hand.mu.Unlock()
}

// publishNow makes a batch visible that has just been appended. Held: the put
// lock.
func (s *Store) publishNow(b *Batch) error {
	err := segment.Guard(func() error {
		for i := range b.items {
			it := &b.items[i]
			if !it.counted || it.placed.Err != nil {
				continue
			}
			if err := it.q.put(it.placed.QueueOffset, unit{it.placed.Offset, it.size, it.tags}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	h := &s.hand
	h.mu.Lock()
	keys := b.keys
	for i := range b.items {
		it := &b.items[i]
		mine := keys[:it.keys]
		keys = keys[it.keys:]
		if it.placed.Err != nil {
			continue
		}
		if it.counted {
			h.note(it.q, it.placed.QueueOffset)
		}
		h.index(it.placed.Offset, it.placed.StoreTime, mine)
	}
	h.end, h.time, h.last = s.tail.off, s.tail.time, s.lastRecord
	h.mu.Unlock()
	failpoint.Hit("dispatch")
	s.Dispatched.Advance(s.tail.off)
	return nil
}

// keep leaves a batch for the flusher. Held: the put lock.
func (s *Store) keep(b *Batch) {
	h := &s.hand
	h.mu.Lock()
	defer h.mu.Unlock()
	keys := b.keys
	for i := range b.items {
		it := &b.items[i]
		mine := keys[:it.keys]
		keys = keys[it.keys:]
		if it.placed.Err != nil {
			continue
		}
		if h.keptLost < 0 && len(h.kept) >= h.limit {
			h.keptLost = it.placed.Offset
		}
		if h.keptLost >= 0 {
			continue
		}
		h.kept = append(h.kept, kept{q: it.q, at: it.placed.QueueOffset, u: unit{it.placed.Offset, it.size, it.tags},
			time: it.placed.StoreTime, keys: it.keys, hasEntry: it.counted})
		h.keptKeys = append(h.keptKeys, mine...)
	}
	h.keptEnd = s.tail.off
}

// shower makes records visible once they are on the disk (SYNC_FLUSH). It
// belongs to the flusher.
type shower struct {
	s    *Store
	due  []kept
	keys []int32
}

// upTo makes everything visible that lies below end in the log.
func (w *shower) upTo(end, time int64) error {
	s, h := w.s, &w.s.hand
	h.mu.Lock()
	w.due, w.keys = append(w.due, h.kept...), append(w.keys, h.keptKeys...)
	h.kept, h.keptKeys = h.kept[:0], h.keptKeys[:0]
	lost := h.keptLost
	if lost >= 0 && lost < end {
		if h.keptEnd <= end {
			h.keptLost = -1
		} else {
			h.keptLost = end
		}
	}
	h.mu.Unlock()
	n := 0
	for n < len(w.due) && w.due[n].u.offset < end {
		n++
	}
	reached := end
	if lost >= 0 && lost < end {
		reached = lost
	}
	if err := w.show(w.due[:n], reached, time); err != nil {
		return err
	}
	w.due = w.due[:copy(w.due, w.due[n:])]
	if reached < end {
		if err := w.reread(reached, end); err != nil {
			return err
		}
	}
	failpoint.Hit("dispatch")
	s.Dispatched.Advance(end)
	return nil
}

// show writes the entries of some records and hands their keys over; then
// everything below end is visible.
func (w *shower) show(due []kept, end, time int64) error {
	err := segment.Guard(func() error {
		for i := range due {
			k := &due[i]
			if !k.hasEntry || k.q.gone.Load() {
				continue
			}
			if err := k.q.put(k.at, k.u); err != nil && !k.q.gone.Load() {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	h := &w.s.hand
	h.mu.Lock()
	defer h.mu.Unlock()
	var used int32
	for i := range due {
		k := &due[i]
		if k.hasEntry {
			h.note(k.q, k.at)
		}
		h.index(k.u.offset, k.time, w.keys[used:used+k.keys])
		used += k.keys
	}
	w.keys = w.keys[:copy(w.keys, w.keys[used:])]
	h.end, h.time = end, time
	if len(due) > 0 {
		h.last = due[len(due)-1].u.offset
	}
	return nil
}

// reread shows what was too much to be kept in memory, from the log.
func (w *shower) reread(from, to int64) error {
	var one [1]kept
	_, err := w.s.eachRecord(from, to, false, func(at int64, r message.Record) error {
		q := w.s.Queue(r.Topic(), r.QueueID())
		if q == nil {
			return fmt.Errorf("the record at %d names the topic %q", at, r.Topic())
		}
		one[0] = kept{q: q, at: r.QueueOffset(), u: unit{at, r.Size(), q.code(r, message.TagsCode(r.Props()))}, time: r.StoreTime()}
		tx := r.SysFlag() & message.TxMask
		one[0].hasEntry = tx == 0 || tx == message.Commit
		if w.s.o.IndexEnabled && tx != message.Rollback {
			before := len(w.keys)
			w.keys = appendKeyHashes(w.keys, q.keyHash, r.Props())
			one[0].keys = int32(len(w.keys) - before)
		}
		return w.show(one[:], at+int64(r.Size()), r.StoreTime())
	})
	return err
}

// wake is a waiter that wakes a goroutine of the store.
type wake chan struct{}

// Done wakes; it never blocks.
func (w wake) Done(error) {
	select {
	case w <- struct{}{}:
	default:
	}
}

// dispatch tells of queues that have grown, and the indexer of work.
func (s *Store) dispatch(ctx context.Context) error {
	w := make(wake, 1)
	var grown []*Queue
	for {
		seen := s.Dispatched.Load()
		h := &s.hand
		h.mu.Lock()
		grown, h.grown = h.grown, grown[:0]
		work := len(h.keyed)
		h.mu.Unlock()
		fn := s.onArrive.Load()
		for i, q := range grown {
			// First the flag, then the end: who raises it after that notes it again.
			q.noted.Store(false)
			if fn != nil {
				(*fn)(q, q.Max())
			}
			grown[i] = nil
		}
		s.indexWake.Done(nil)
		if work >= enough {
			s.indexNow.Done(nil)
		}
		s.Dispatched.When(seen+1, time.Time{}, w)
		select {
		case <-w:
		case <-ctx.Done():
			return nil
		}
		if s.failed.Load() != nil {
			return nil
		}
	}
}
