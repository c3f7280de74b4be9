package store

import (
	"encoding/binary"
	"errors"
	"fmt"

	"gomq/internal/failpoint"
	"gomq/internal/message"
	"gomq/internal/store/segment"
)

// mostShipped bounds the size of a record, and of a blank, that AppendRaw waits
// for: more than any broker takes in one request.
const mostShipped = 32 << 20

// RawError is returned by AppendRaw for bytes that do not belong at the end of the
// log. Nothing of them was stored.
type RawError struct {
	Offset int64 // in the log
	Err    error
}

func (e *RawError) Error() string {
	return fmt.Sprintf("what should be appended at offset %d of the log does not belong there: %v", e.Offset, e.Err)
}

// Unwrap returns what is wrong.
func (e *RawError) Unwrap() error { return e.Err }

var (
	errGap     = errors.New("it does not continue the log")
	errHuge    = fmt.Errorf("the record says that it is larger than %d bytes", mostShipped)
	errBlank   = errors.New("the blank does not end with its file")
	errNoQueue = errors.New("it names a topic or a queue that cannot be")
)

// rawBatch is the records that AppendRaw is about to append; their bytes lie with
// the caller.
type rawBatch struct {
	Batch
	missing []int64 // entries that the log lacks in front of each item's
}

func (b *rawBatch) reset() {
	b.Reset()
	b.missing = b.missing[:0]
}

// FileSize is the size of each file of the log.
func (s *Store) FileSize() int64 { return s.log.FileSize() }

// Clean says whether the store had been closed when it was opened: what was
// appended last may be missing otherwise.
func (s *Store) Clean() bool { return s.clean }

// Empty says whether the log has never had a record: AppendRaw may then begin it
// anywhere.
func (s *Store) Empty() bool {
	s.put.Lock()
	defer s.put.Unlock()
	return s.empty()
}

// empty is Empty. Held: the put lock.
func (s *Store) empty() bool { return s.lastRecord < 0 && s.tail.off == s.log.Start() }

// ReadRaw copies the log's bytes from the offset from on into dst: as many as fit
// and lie below to, and never across the end of a file. Bytes that were not
// written lately are read with a system call. Errors: ErrNoRecord, when the log
// does not have that offset (any more), and those of the disk.
func (s *Store) ReadRaw(dst []byte, from, to int64) (int, error) {
	f := s.log.Find(from)
	end := s.Appended.Load()
	if f == nil || from >= end {
		return 0, fmt.Errorf("%w: %d, the log is [%d, %d)", ErrNoRecord, from, s.MinOffset(), end)
	}
	dst = dst[:max(min(int64(len(dst)), min(to, end)-from, f.End()-from), 0)]
	if from < end-s.hotLog {
		return len(dst), f.Pread(dst, from)
	}
	return len(dst), f.ReadAt(dst, from)
}

// AppendRaw appends the whole records at the front of p, which lie at the offset
// at in the log of another store whose files have the same size, and makes them
// visible as if they had been sent here. at must be the end of the log, or the
// beginning of a file if the log is empty. used says how much of p was appended:
// records and blanks of one file; what is left is the beginning of a record, of a
// blank, or of the next file, and is to be brought again with what follows.
//
// Errors: *RawError for bytes that do not belong there, *RefusedError while the
// store takes nothing. used bytes have been appended all the same.
func (s *Store) AppendRaw(at int64, p []byte) (used int, err error) {
	s.put.Lock()
	defer s.put.Unlock()
	s.heldSince.Store(s.o.Now().UnixNano())
	defer s.heldSince.Store(0)
	for used < len(p) {
		n, err := s.appendRaw(at+int64(used), p[used:])
		if n == 0 || err != nil {
			return used, err
		}
		used += n
	}
	return used, nil
}

// appendRaw is AppendRaw up to the end of a file, or to a record whose queue
// begins anew. Held: the put lock.
func (s *Store) appendRaw(at int64, p []byte) (used int, err error) {
	if err := s.Err(); err != nil {
		return 0, &RefusedError{Cause: CauseFailed, Err: err}
	}
	if s.closing.Load() {
		return 0, &RefusedError{Cause: CauseClosing}
	}
	if at != s.tail.off && !(s.empty() && at%s.log.FileSize() == 0) {
		return 0, &RawError{at, fmt.Errorf("%w, which ends at %d", errGap, s.tail.off)}
	}
	b := &s.raw
	b.reset()
	end := at - at%s.log.FileSize() + s.log.FileSize()
	if used, err = s.stageRaw(b, at, end, p); used == 0 {
		return 0, err // what is wrong comes again as the first of what is left
	}
	if err := s.roomRaw(b, at); err != nil {
		return 0, err
	}
	for i := range b.items {
		s.tail.time = max(s.tail.time, b.items[i].placed.StoreTime)
		s.lastRecord = b.items[i].placed.Offset
	}
	if err := s.writeRaw(p[:used]); err != nil {
		return 0, s.failedAppend(err)
	}
	failpoint.Hit("afterAppend")
	if s.o.SyncFlush {
		s.keep(&b.Batch)
	}
	s.Appended.Advance(s.tail.off)
	s.lastTime.Store(s.tail.time)
	if !s.o.SyncFlush {
		if err := s.publishNow(&b.Batch); err != nil {
			return 0, s.failedAppend(err)
		}
	}
	return used, nil
}

// CountRaw is how many messages p has, and the bytes of their records; p is what
// AppendRaw has appended.
func CountRaw(p []byte) (n, bytes int) {
	for len(p) >= blankSize {
		size := int(sizeWord(p))
		if binary.BigEndian.Uint32(p[4:]) == message.MagicMessage {
			n, bytes = n+1, bytes+size
		}
		if size < blankSize || size > len(p) {
			break
		}
		p = p[size:]
	}
	return n, bytes
}

// stageRaw puts the whole records at the front of p into b. An error is about the
// record at used.
func (s *Store) stageRaw(b *rawBatch, at, end int64, p []byte) (used int, err error) {
	for len(p)-used >= blankSize {
		off, have := at+int64(used), int64(len(p)-used)
		rest, size := end-off, sizeWord(p[used:])
		switch magic := binary.BigEndian.Uint32(p[used+4:]); {
		case magic == message.MagicBlank && (size != rest || size > mostShipped):
			return used, &RawError{off, fmt.Errorf("%w: %d bytes, %d are left", errBlank, size, rest)}
		case magic == message.MagicBlank && size <= have:
			return used + int(size), nil
		case magic == message.MagicMessage && size > mostShipped:
			return used, &RawError{off, errHuge}
		case magic == message.MagicMessage && size+blankSize > rest:
			return used, &RawError{off, fmt.Errorf("%w: a record of %d bytes, %d are left", message.ErrLength, size, rest)}
		case magic == message.MagicBlank, magic == message.MagicMessage && size > have:
			return used, nil // the rest is still to come
		}
		r, err := message.ParseRecord(p[used:], true)
		if err == nil && r.Offset() != off {
			err = fmt.Errorf("%w: %d", errMisplaced, r.Offset())
		}
		var anew bool
		if err == nil {
			anew, err = s.addRaw(b, off, r)
		}
		if err != nil {
			return used, &RawError{off, err}
		}
		if anew {
			return used, nil
		}
		used += len(r)
	}
	return used, nil
}

// addRaw puts one record into b. anew: its queue begins again with it, and the
// records before it have to be appended first.
func (s *Store) addRaw(b *rawBatch, off int64, r message.Record) (anew bool, err error) {
	var missing int64
	q, at := s.Queue(r.Topic(), r.QueueID()), r.QueueOffset()
	if q == nil {
		return false, fmt.Errorf("%w: %q, %d", errNoQueue, r.Topic(), r.QueueID())
	}
	tx := r.SysFlag() & message.TxMask
	it := item{q: q, size: r.Size(), group: 1, counted: tx == 0 || tx == message.Commit, placed: Placed{Offset: off, QueueOffset: at, StoreTime: r.StoreTime(), Size: r.Size()}}
	if it.counted {
		switch {
		case at < 0 || at > maxQueueOffset || q.next > 0 && at > q.next+mostMissing:
			return false, fmt.Errorf("%w: it says that it is number %d of %s, which has %d", errInconsistent, at, q, q.next)
		case at < q.next && len(b.items) > 0:
			return true, nil
		case at < q.next, q.next == 0 && at > 0 && q.list().Len() > 0:
			// The topic was deleted over there and has been made again.
			if it.q, err = s.remakeQueue(q); err != nil {
				return false, err
			}
		}
		// What the log lacks of a queue stays blank, as in recovery.
		missing = at - it.q.next
		it.q.next = at + 1
	}
	b.missing = append(b.missing, missing)
	noted := message.Note(r.Props())
	it.tags = it.q.code(r, noted.TagsCode())
	if s.o.IndexEnabled && tx != message.Rollback {
		before := len(b.keys)
		b.keys = appendNoted(b.keys, it.q.keyHash, noted)
		it.keys = int32(len(b.keys) - before)
	}
	b.items = append(b.items, it)
	return false, nil
}

// remakeQueue drops one queue and makes it again, empty. Held: the put lock.
func (s *Store) remakeQueue(q *Queue) (*Queue, error) {
	t := &s.queues
	t.mu.Lock()
	t.topics[q.topic][q.id] = nil
	t.mu.Unlock()
	s.forget([]*Queue{q})
	if err := s.fs.RemoveAll(q.dir()); err != nil {
		return nil, err
	}
	if err := s.fs.SyncDir(s.topicDir(q.topic)); err != nil {
		return nil, err
	}
	return s.makeQueue(q.topic, q.id, segment.Found{}), nil
}

// roomRaw gets files and blocks for what has been staged for the offset at. On an
// error nothing has changed but that there may be more room. Held: the put lock.
func (s *Store) roomRaw(b *rawBatch, at int64) (err error) {
	defer func() {
		if err == nil {
			return
		}
		for i := len(b.items) - 1; i >= 0; i-- {
			if it := &b.items[i]; it.counted {
				it.q.next = it.placed.QueueOffset - b.missing[i]
			}
		}
		if !isShortage(err) {
			s.fail(err)
		}
		err = &RefusedError{Cause: CauseDiskFull, Path: s.o.CommitLogDir, Err: err}
		if s.failed.Load() != nil {
			err = s.CheckWritable()
		}
	}()
	switch {
	case at != s.tail.off:
		if err = s.restartLog(at); err != nil {
			return err
		}
	case s.tail.f == nil || at == s.tail.end:
		if err = s.follow(at); err != nil {
			return err
		}
		if err = s.roll(); err != nil {
			return err
		}
	case s.tail.sparse:
		if err = s.tail.f.Allocate(s.tail.off, s.tail.end); err != nil {
			return err
		}
		s.tail.sparse = false
	}
	for i := range b.items {
		it := &b.items[i]
		if !it.counted {
			continue
		}
		if err := it.q.fill(it.placed.QueueOffset-b.missing[i], it.placed.QueueOffset); err != nil {
			return err
		}
	}
	return nil
}

// fill makes room for the entry at off and fills the places from end, where the
// queue ends, to there. A queue without any begins at off. Held: the put lock.
func (q *Queue) fill(end, off int64) error {
	if err := q.reserve(off + 1); err != nil || end == 0 || end == off {
		return err
	}
	return segment.Guard(func() error {
		for at := end; at < off; at++ {
			if err := q.put(at, unit{size: blankUnit}); err != nil {
				return err
			}
		}
		return nil
	})
}

// restartLog lets an empty log begin at the offset at. Held: the put lock.
func (s *Store) restartLog(at int64) error {
	if s.tail.f != nil {
		s.tail.f.Release()
		s.tail.f = nil
	}
	f, err := s.ahead.Restart(at)
	if err != nil {
		s.fail(fmt.Errorf("the log could not be begun at %d: %w", at, err))
		return err
	}
	return s.openTail(f, at)
}

// writeRaw writes p at the end of the log. An error is the end of the store. Held:
// the put lock.
func (s *Store) writeRaw(p []byte) error {
	write := func() error { return s.piece(p) }
	if !s.withoutMmap {
		inner := write
		write = func() error { return segment.Guard(inner) }
	}
	if err := write(); err != nil {
		return fmt.Errorf("%s: %w", s.tail.f.Path(), err)
	}
	return nil
}
