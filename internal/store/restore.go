package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strconv"

	"gomq/internal/message"
	"gomq/internal/store/segment"
)

// measurePage is what is read of a queue's file at first.
const measurePage = 4096 / unitSize * unitSize

// measureQueues finds the ends of all queues, and the end of the newest record
// that any of them points to.
func (r *recovery) measureQueues() error {
	page := make([]byte, measurePage)
	var count census
	for _, q := range r.s.Queues() {
		if err := r.ctx.Err(); err != nil {
			return err
		}
		if err := r.measure(q, page); err != nil {
			return err
		}
		if q.found.First > 0 && r.s.log.Start() == 0 && r.rebuild == "" {
			r.rebuild = fmt.Sprintf("the first files of %s are missing", q)
		}
		if q.next > 0 {
			count.queues++
			count.entries += q.next
		}
	}
	if r.own && count != r.ck.count && r.rebuild == "" {
		r.rebuild = fmt.Sprintf("%d queues with %d entries were on the disk, %d with %d are", r.ck.count.queues, r.ck.count.entries, count.queues, count.entries)
	}
	return nil
}

// counts says whether the entry is one that the queue has: under a checkpoint of
// this store one of a record below it, of those nothing can be missing. Without
// one every entry counts.
func (r *recovery) counts(u unit) bool {
	return u.valid() && (!r.own || u.offset < r.ck.queue)
}

// measure finds q's end. It looks at the first page of the last file, and at
// single entries if that does not tell.
func (r *recovery) measure(q *Queue, page []byte) error {
	q.min.Store(-1) // to be found
	if q.found.N == 0 {
		return nil
	}
	if !r.own && !r.clean {
		return r.measureAll(q)
	}
	size := q.found.Size
	for i := q.found.N - 1; i >= 0; i-- {
		base := q.found.First + int64(i)*size
		n, last, first, err := r.measureFile(q, base, size, page)
		if err != nil {
			return err
		}
		if n == 0 && i > 0 {
			continue
		}
		q.next = (base + n*unitSize) / unitSize
		q.blocks = q.next * unitSize
		if n > 0 && !last.blank() {
			r.reach = max(r.reach, last.offset+int64(last.size))
		}
		if i == 0 && n > 0 && !first.blank() && first.offset >= r.s.log.Start() {
			q.min.Store(base / unitSize)
		}
		return nil
	}
	return nil
}

// measureFile counts the entries of one file and returns the first and the last.
func (r *recovery) measureFile(q *Queue, base, size int64, page []byte) (n int64, last, first unit, err error) {
	h, err := r.s.fs.OpenFile(filepath.Join(q.dir(), fmt.Sprintf("%020d", base)), os.O_RDONLY)
	if err != nil {
		return 0, unit{}, unit{}, err
	}
	defer h.Close()
	page = page[:min(int64(len(page)), size)]
	if err := readFull(h, page, 0); err != nil {
		return 0, unit{}, unit{}, err
	}
	inPage := len(page) / unitSize
	k := sort.Search(inPage, func(i int) bool { return !r.counts(readUnit(page[i*unitSize:])) })
	first = readUnit(page)
	if k < inPage || int64(len(page)) == size {
		if k > 0 {
			last = readUnit(page[(k-1)*unitSize:])
		}
		return int64(k), last, first, nil
	}
	var b [unitSize]byte
	read := func(i int64) unit {
		if err == nil {
			err = readFull(h, b[:], i*unitSize)
		}
		return readUnit(b[:])
	}
	k += sort.Search(int(size/unitSize)-inPage, func(i int) bool { return !r.counts(read(int64(inPage + i))) })
	last = read(int64(k - 1))
	return int64(k), last, first, err
}

// measureAll finds q's end as the original does after it was killed: entry by
// entry from the last but two files on (store.md section 9).
func (r *recovery) measureAll(q *Queue) error {
	l := q.list()
	files := l.Files()
	buf := make([]byte, 64<<10/unitSize*unitSize)
	before := int64(-1)
	for _, f := range files[max(0, len(files)-3):] {
		for at := f.Base(); at < f.End(); at += int64(len(buf)) {
			b := buf[:min(int64(len(buf)), f.End()-at)]
			if err := f.Pread(b, at); err != nil {
				return err
			}
			for i := 0; i < len(b); i += unitSize {
				u := readUnit(b[i:])
				if !u.valid() || !u.blank() && u.offset <= before {
					q.next = (at + int64(i)) / unitSize
					q.blocks = q.next * unitSize
					return nil
				}
				if !u.blank() {
					before = u.offset
					r.reach = max(r.reach, u.offset+int64(u.size))
				}
			}
		}
	}
	q.next, q.blocks = l.End()/unitSize, l.End()
	return nil
}

// restoreQueues makes the queues what the log says: entries that it does not bear
// out go, those that are missing come.
func (r *recovery) restoreQueues() error {
	s := r.s
	if r.rebuild == "" {
		for _, q := range s.Queues() {
			if err := r.cutQueue(q); err != nil {
				return err
			}
		}
		err := r.replayQueues(false)
		if err == nil {
			return r.finishQueues()
		}
		var bad *badRecord
		if !errors.Is(err, errInconsistent) && !errors.As(err, &bad) {
			return err
		}
		r.rebuild = err.Error()
		r.replay = s.log.Start()
		if err := r.readable(r.replay, min(r.from, r.end)); err != nil {
			return err
		}
	}
	if r.own {
		// Should this be interrupted, what the checkpoint says of the queues is not so
		// any more, nor is it once this has ended: the new files are not synced yet.
		r.ck.clean, r.ck.queue, r.ck.count = false, s.log.Start(), census{}
		if err := s.checkpoint.save(r.ck, r.java); err != nil {
			return err
		}
	}
	for _, q := range s.Queues() {
		var err error
		if r.past[q], err = r.agedOut(q); err != nil {
			return err
		}
		// What has aged out stays: it alone says which numbers have been given.
		if err := r.removeFrom(q, q.list().End()); err != nil {
			return err
		}
		if err := r.truncateQueue(q, r.past[q]); err != nil {
			return err
		}
		q.min.Store(-1)
	}
	if err := r.replayQueues(true); err != nil {
		return err
	}
	return r.finishQueues()
}

// agedOut is how many messages of q, as far as its files say, lie below the
// beginning of the log.
func (r *recovery) agedOut(q *Queue) (n int64, err error) {
	start := r.s.log.Start()
	l := q.list()
	if start == 0 || l.Len() == 0 {
		return 0, nil
	}
	lo, end := l.Start()/unitSize, l.End()/unitSize
	n = lo + int64(sort.Search(int(end-lo), func(i int) bool {
		u, e := q.unitAt(lo + int64(i))
		if e != nil {
			err = e
		}
		return !u.blank() && (!u.valid() || u.offset >= start)
	}))
	return n, err
}

// clear removes the files of q.
func (r *recovery) clear(q *Queue) error {
	s := r.s
	q.next, q.blocks = 0, 0
	q.min.Store(-1)
	if l := q.files.Swap(nil); l != nil {
		l.Close()
	}
	q.found = segment.Found{Size: s.queueFiles.Size}
	return r.removeFrom(q, 0)
}

// removeFrom removes the files of q that begin at or behind at.
func (r *recovery) removeFrom(q *Queue, at int64) error {
	s := r.s
	entries, err := s.fs.ReadDir(q.dir())
	if err != nil {
		return err
	}
	for _, e := range entries {
		if base, err := strconv.ParseInt(e.Name, 10, 64); err != nil || e.Dir || base < at {
			continue
		}
		r.cleared[q.dir()] = true
		if err := s.fs.Remove(filepath.Join(q.dir(), e.Name)); err != nil {
			return err
		}
	}
	return nil
}

// cutQueue drops q's entries of records that the log does not have, and what lies
// behind its end.
func (r *recovery) cutQueue(q *Queue) error {
	if q.found.N == 0 {
		return nil
	}
	end := q.next
	if r.reach > r.end {
		lo := q.found.First / unitSize
		var err error
		n := sort.Search(int(end-lo), func(i int) bool {
			u, e := q.unitAt(lo + int64(i))
			if e != nil {
				err = e
			}
			return !u.blank() && u.offset >= r.end
		})
		if err != nil {
			return err
		}
		end = lo + int64(n)
	}
	if end == q.next && r.clean {
		return nil
	}
	return r.truncateQueue(q, end)
}

// truncateQueue makes end the end of q on the disk: what lies behind is removed,
// or zeroed if it is not zero.
func (r *recovery) truncateQueue(q *Queue, end int64) error {
	at := end * unitSize
	l := q.list()
	if at <= l.Start() {
		err := r.clear(q)
		q.next, q.blocks = end, at
		return err
	}
	q.next, q.blocks = end, at
	if err := l.Truncate(at); err != nil {
		return err
	}
	f := l.Find(at)
	if f == nil {
		return nil
	}
	zero, err := r.zeroBehind(f, at)
	if err != nil || zero {
		return err
	}
	return f.Zero(at, f.End())
}

// zeroBehind says whether the file is zero behind at. Blocks are allocated at most
// twice as far as there are entries, and no further than 1 MiB ahead; behind them
// there can be nothing.
func (r *recovery) zeroBehind(f *segment.File, at int64) (bool, error) {
	stop := min(at+min(max(at-f.Base()+2*leastBlocks, 2*leastBlocks), 2*mostBlocks), f.End())
	buf := make([]byte, min(64<<10, stop-at))
	for at < stop {
		b := buf[:min(int64(len(buf)), stop-at)]
		if err := f.Pread(b, at); err != nil {
			return false, err
		}
		if !isZero(b) {
			return false, nil
		}
		at += int64(len(b))
	}
	return true, nil
}

// replayQueues shows the queues the log from r.replay on. With anew set they were
// empty before, and what is missing in the log is filled with blank entries.
func (r *recovery) replayQueues(anew bool) error {
	s := r.s
	_, err := s.eachRecord(r.replay, r.end, false, func(at int64, rec message.Record) error {
		if err := r.ctx.Err(); err != nil {
			return err
		}
		tx := rec.SysFlag() & message.TxMask
		if tx != 0 && tx != message.Commit {
			return nil
		}
		q := s.Queue(rec.Topic(), rec.QueueID())
		if q == nil {
			return fmt.Errorf("the record at offset %d of the log names the topic %q and the queue %d, which cannot be", at, rec.Topic(), rec.QueueID())
		}
		u := unit{at, rec.Size(), q.code(rec, message.TagsCode(rec.Props()))}
		return r.place(q, rec.QueueOffset(), u, anew)
	})
	return err
}

// place puts the entry of a record into its queue if it is not there.
func (r *recovery) place(q *Queue, off int64, u unit, anew bool) error {
	first := q.list().Start() / unitSize
	if q.list().Len() == 0 {
		first = q.next
	}
	switch {
	case off < 0 || off > maxQueueOffset:
		return fmt.Errorf("%w: the record at %d says it is number %d of %s", errInconsistent, u.offset, off, q)
	case off > q.next && q.next == r.past[q]:
		return r.begin(q, off, u) // the log begins in the middle of the queue
	case off > q.next && !anew:
		return fmt.Errorf("%w: %s ends at %d, the record at %d is its number %d", errInconsistent, q, q.next, u.offset, off)
	case off > q.next+mostMissing:
		f := r.s.log.Find(u.offset)
		return &DamageError{File: f.Path(), Offset: u.offset, Until: r.end,
			Why: fmt.Sprintf("the record says that it is number %d of %s, which has %d", off, q, q.next)}
	case off > q.next:
		for q.next < off {
			if err := r.putNext(q, unit{size: blankUnit}); err != nil {
				return err
			}
		}
	case off < first && !anew:
		// Files go by age only when the log has none of their records any more.
		return fmt.Errorf("%w: %s begins at %d, the record at %d is its number %d", errInconsistent, q, first, u.offset, off)
	case off < first:
		if err := r.clear(q); err != nil {
			return err
		}
		return r.begin(q, off, u)
	case off < q.next:
		old, err := q.unitAt(off)
		if err != nil {
			return err
		}
		if !old.blank() && old.offset > u.offset {
			// Of a topic that was deleted and made again later; or a place that was
			// written for a record that is lost.
			return r.mustBe(q, off, old)
		}
		if old.offset != u.offset || old.blank() {
			// Made again: the queue begins anew, or goes on from there.
			if err := r.truncateQueue(q, off); err != nil {
				return err
			}
			break
		}
		next := q.next
		q.next = off
		err = r.putNext(q, u)
		q.next = next
		return err
	}
	return r.putNext(q, u)
}

// mustBe checks that u is the entry of a record of this queue and number.
func (r *recovery) mustBe(q *Queue, off int64, u unit) error {
	w := walker{log: r.s.log}
	rec, _, err := w.at(u.offset)
	if err == nil && rec != nil && rec.Size() == u.size && string(rec.Topic()) == q.topic && rec.QueueID() == q.id && rec.QueueOffset() == off {
		return nil
	}
	return fmt.Errorf("%w: the entry of %s at %d points to %d, where its record is not", errInconsistent, q, off, u.offset)
}

// mostMissing is how many entries of a queue the log may lack between two of its
// records; a greater distance is a number that is not right.
const mostMissing = 1 << 16

// maxQueueOffset is beyond what a queue can have: its byte position is an i64.
const maxQueueOffset = 1<<63/unitSize/4 - 1

// begin starts a queue whose first known message is number off.
func (r *recovery) begin(q *Queue, off int64, u unit) error {
	if q.list().Len() > 0 {
		if err := r.clear(q); err != nil {
			return err
		}
	}
	q.next, q.blocks = off, off*unitSize
	q.min.Store(-1)
	return r.putNext(q, u)
}

// putNext writes the entry at q's end. It is written even if it is there: what
// was read may be in memory only.
func (r *recovery) putNext(q *Queue, u unit) error {
	if err := q.reserve(q.next + 1); err != nil {
		return err
	}
	if err := segment.Guard(func() error { return q.put(q.next, u) }); err != nil {
		return err
	}
	r.soil(q, q.next)
	q.next++
	return nil
}

// soil books that q's entries from off on, and its files' names, have to be made
// durable: what a killed process wrote need not be.
func (r *recovery) soil(q *Queue, off int64) {
	h := &r.s.hand
	if !q.dirty {
		q.dirty, q.dirtyMin = true, off
		h.dirty = append(h.dirty, q)
	}
	q.dirtyMin = min(q.dirtyMin, off)
	r.s.noteName(q)
}

// syncCleared makes durable that files were removed: they must not be back once
// the log has grown beyond what they point to. After an unclean stop that is done
// for all queues, because a recovery that was killed may have removed some.
func (r *recovery) syncCleared() error {
	if !r.clean {
		for _, q := range r.s.Queues() {
			r.cleared[q.dir()] = true
		}
	}
	for dir := range r.cleared {
		if err := r.s.fs.SyncDir(dir); err != nil {
			return err
		}
	}
	return nil
}

// finishQueues shows the ends of the queues to readers and finds their beginnings.
func (r *recovery) finishQueues() error {
	s := r.s
	if err := r.syncCleared(); err != nil {
		return err
	}
	s.hand.count = census{}
	for _, q := range s.Queues() {
		if !r.own && !r.clean && q.next > 0 && q.list().Len() > 0 {
			r.soil(q, q.list().Start()/unitSize)
		}
		q.max.Store(q.next)
		q.blocks = max(q.blocks, q.next*unitSize)
		if q.next > 0 {
			s.hand.count.queues++
			s.hand.count.entries += q.next
		}
		if q.min.Load() >= 0 {
			continue
		}
		if q.next == 0 || q.list().Len() == 0 {
			q.min.Store(q.next)
			continue
		}
		q.min.Store(q.list().Start() / unitSize)
		if err := q.correctMin(s.log.Start()); err != nil {
			return err
		}
	}
	return nil
}
