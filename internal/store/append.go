package store

import (
	"errors"
	"fmt"
	"syscall"
	"time"

	"go.uber.org/zap"

	"gomq/internal/failpoint"
	"gomq/internal/message"
	"gomq/internal/store/segment"
	"gomq/internal/watermark"
)

// touchAhead is how far beyond what is written through the mapping pages get memory.
const touchAhead = 256 << 10

// tail is the end of the log, where records are appended. Guarded by the put
// lock.
type tail struct {
	f       *segment.File // the file that is written, acquired; nil while the first cannot be made
	end     int64         // of f; at once off if there is no f
	off     int64         // of the next record
	time    int64         // store time of the last record, ms
	sparse  bool          // behind off blocks of f may be missing (Java made it)
	touched int64         // up to here, and from where it was opened, f's pages are in memory
}

// Append numbers the records of b, writes them to the end of the log and, under
// ASYNC_FLUSH, makes them visible. Where each lies, or why it was not stored,
// is in b.Placed. w, if not nil, is told when all of them are visible (which
// under SYNC_FLUSH means that they are on the disk), or that the deadline came
// first; a zero deadline means Options.SyncFlushTimeout from now. Under
// ASYNC_FLUSH that is before Append returns.
//
// An error is a *RefusedError and w is not told. Nothing was stored, unless its
// Unknown is set.
func (s *Store) Append(b *Batch, deadline time.Time, w watermark.Waiter) error {
	if w != nil && deadline.IsZero() {
		deadline = time.Now().Add(s.o.SyncFlushTimeout)
	}
	s.put.Lock()
	now := s.o.Now()
	s.heldSince.Store(now.UnixNano())
	err := s.appendNow(b, now, deadline, w)
	s.heldSince.Store(0)
	s.put.Unlock()
	s.metrics.append.Observe(s.o.Now().Sub(now).Seconds())
	return err
}

// appendNow is Append. Held: the put lock.
func (s *Store) appendNow(b *Batch, now time.Time, deadline time.Time, w watermark.Waiter) error {
	if err := s.CheckWritable(); err != nil {
		return err
	}
	if err := s.plan(b); err != nil {
		return err
	}
	if s.short {
		s.short = false
		s.zlog.Info("there is room for messages again")
	}
	s.tail.time = max(s.tail.time, now.UnixMilli())
	if err := s.write(b); err != nil {
		return s.failedAppend(err)
	}
	failpoint.Hit("afterAppend")
	if s.o.SyncFlush {
		s.keep(b) // before the flusher can see that there is something to sync
	}
	s.Appended.Advance(s.tail.off)
	s.lastTime.Store(s.tail.time)
	if !s.o.SyncFlush {
		if err := s.publishNow(b); err != nil {
			return s.failedAppend(err)
		}
	}
	if w != nil {
		s.Dispatched.When(s.tail.off, deadline, w)
	}
	return nil
}

// failedAppend ends the store while a batch is half written.
func (s *Store) failedAppend(err error) error {
	s.fail(err)
	return &RefusedError{Cause: CauseFailed, Err: err, Unknown: true}
}

// plan decides where each item goes and gets the files and blocks for all of
// them, so that nothing can run out of space while it is written. It changes
// nothing but the queues' next offsets, and not even those on an error. Held:
// the put lock.
func (s *Store) plan(b *Batch) error {
	if s.tail.sparse {
		if err := s.tail.f.Allocate(s.tail.off, s.tail.end); err != nil {
			return s.refuse(b, 0, s.o.CommitLogDir, err)
		}
		s.tail.sparse = false
	}
	off, end := s.tail.off, s.tail.end
	size := s.log.FileSize()
	for i := 0; i < len(b.items); {
		group := b.items[i:min(i+int(b.items[i].group), len(b.items))]
		var total int64
		var refuse error
		for j := range group {
			total += int64(group[j].size)
			if group[j].q.gone.Load() {
				refuse = ErrQueueGone
			}
		}
		if total+blankSize > size {
			refuse = ErrTooLarge
		}
		if refuse != nil {
			for j := range group {
				group[j].placed = Placed{Err: refuse}
			}
			i += len(group)
			continue
		}
		if total+blankSize > end-off {
			if err := s.follow(end); err != nil {
				return s.refuse(b, i, s.o.CommitLogDir, err)
			}
			off, end = end, end+size
		}
		for j := range group {
			it := &group[j]
			it.placed = Placed{Offset: off, Size: it.size}
			off += int64(it.size)
			if !it.counted {
				continue
			}
			it.placed.QueueOffset = it.q.next
			it.q.next++
			if it.q.next*unitSize > it.q.blocks {
				if err := it.q.reserve(it.q.next); err != nil {
					return s.refuse(b, i+j+1, it.q.dir(), err)
				}
			}
		}
		i += len(group)
	}
	return nil
}

// follow makes sure that there is a file behind the one that ends at end.
func (s *Store) follow(end int64) error {
	if s.log.Find(end) != nil {
		return nil
	}
	_, err := s.ahead.Take()
	return err
}

// refuse undoes the plan for the first n items. Held: the put lock.
func (s *Store) refuse(b *Batch, n int, path string, err error) error {
	for i := range n {
		it := &b.items[i]
		if it.counted && it.placed.Err == nil {
			it.q.next--
		}
	}
	if !isShortage(err) {
		s.fail(err)
		return s.CheckWritable()
	}
	if !s.short {
		s.short = true
		s.zlog.Error("there is no room for messages: they are refused until there is", zap.String("path", path), zap.Error(err))
	}
	return &RefusedError{Cause: CauseDiskFull, Path: path, Err: err}
}

// isShortage says whether an error can go away by itself, unlike one that says
// that the disk is bad.
func isShortage(err error) bool {
	for _, e := range []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT, syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// write stamps the planned records and writes them, as few pieces as possible.
// An error is the end of the store. Held: the put lock.
func (s *Store) write(b *Batch) error {
	if s.withoutMmap {
		return s.writePieces(b)
	}
	err := segment.Guard(func() error { return s.writePieces(b) })
	if err != nil {
		return fmt.Errorf("%s: %w", s.tail.f.Path(), err)
	}
	return nil
}

func (s *Store) writePieces(b *Batch) error {
	from, to := 0, 0 // the piece of b.buf that is due
	for i := range b.items {
		it := &b.items[i]
		if it.placed.Err != nil {
			continue
		}
		if at := s.tail.off + int64(to-from); it.at != to || it.placed.Offset != at || at >= s.tail.end {
			if err := s.piece(b.buf[from:to]); err != nil {
				return err
			}
			if it.placed.Offset >= s.tail.end {
				if err := s.roll(); err != nil {
					return err
				}
			}
			from, to = it.at, it.at
		}
		r := message.Record(b.buf[it.at : it.at+int(it.size)])
		r.Place(it.placed.QueueOffset, it.placed.Offset, s.tail.time)
		it.placed.StoreTime = s.tail.time
		s.lastRecord = it.placed.Offset
		if it.counted {
			it.tags = it.q.code(r, it.tags)
		}
		to += int(it.size)
	}
	return s.piece(b.buf[from:to])
}

// piece writes p at the end of the log.
func (s *Store) piece(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	at := s.tail.off - s.tail.f.Base()
	if s.withoutMmap {
		if _, err := s.tail.f.Writer().WriteAt(p, at); err != nil {
			return err
		}
	} else {
		if end := s.tail.off + int64(len(p)); end > s.tail.touched {
			var err error
			if s.tail.touched, err = s.tail.f.Touch(max(s.tail.touched, s.tail.off), end+touchAhead); err != nil {
				return err
			}
		}
		copy(s.tail.f.Bytes()[at:], p)
	}
	s.tail.off += int64(len(p))
	return nil
}

// roll fills the rest of the tail's file with a blank of which only the head is
// written (store.md section 2) and goes on in the next one, which plan has made
// sure of.
func (s *Store) roll() error {
	old, end := s.tail.f, s.tail.end
	if rest := end - s.tail.off; rest > 0 {
		var b [blankSize]byte
		if err := s.piece(message.AppendBlank(b[:0], int32(rest))); err != nil {
			return err
		}
	}
	failpoint.Hit("fileRoll")
	if err := s.openTail(s.log.Find(end), end); err != nil {
		return err
	}
	if old != nil {
		old.Release()
	}
	return nil
}

// openTail makes f the file that is appended to, from off on.
func (s *Store) openTail(f *segment.File, off int64) error {
	err := f.Acquire()
	if err == nil {
		err = f.Open()
	}
	if err != nil {
		return err
	}
	s.tail.f, s.tail.off, s.tail.end, s.tail.touched = f, off, f.End(), off
	return nil
}
