package store

import (
	"errors"
	"fmt"
	"slices"

	"gomq/internal/message"
)

// Entry is an entry of a queue as it lies on the disk (store.md section 4).
type Entry struct {
	Offset int64 // of the record in the log
	Size   int32 // of the record; what only fills a place has MaxInt32
	Code   int64 // the hash of the tags; in the schedule topic the due time, ms
}

// Entries reads the entries of a queue from an offset on into dst, as many as it
// has room for and readers see. n is 0 with an error when from is outside of
// [Min, Max) or the disk does not give them; it may wait for the disk.
func (s *Store) Entries(q *Queue, from int64, dst []Entry) (n int, err error) {
	end := min(q.Max(), from+int64(len(dst)))
	if from < q.Min() || from >= end {
		return 0, fmt.Errorf("%s at %d: %w", q, from, errNoEntry)
	}
	var b [unitSize * 256]byte
	for from < end {
		f := q.list().Find(from * unitSize)
		if f == nil {
			return 0, fmt.Errorf("%s at %d: %w", q, from, errNoEntry)
		}
		some := min(end, from+256, f.End()/unitSize) - from
		if err := f.Pread(b[:some*unitSize], from*unitSize); err != nil {
			return 0, err
		}
		for i := range some {
			u := readUnit(b[i*unitSize:])
			dst[n] = Entry{Offset: u.offset, Size: u.size, Code: u.tags}
			n++
		}
		from += some
	}
	return n, nil
}

const (
	// readRun bounds what ReadEntries reads at once, readGap what it reads along
	// between two records to get both in one.
	readRun = 256 << 10
	readGap = 4 << 10
)

// ReadEntries reads the records that entries point to, which should be in the order
// of the log, into memory behind dst, and calls fn with each until fn returns
// false. It returns the longer dst, in which the records lie. err is ErrNoRecord
// when an entry points to nothing or to what has been deleted by age,
// message.ErrCRC when the body is not as it was stored, or one of the disk, for
// which it may wait.
func (s *Store) ReadEntries(dst []byte, list []Entry, fn func(i int, r message.Record, err error) bool) []byte {
	for i := 0; i < len(list); {
		n, size := s.run(list[i:])
		at := len(dst)
		dst = slices.Grow(dst, int(size))[:at+int(size)]
		var err error
		if n == 0 {
			n, err = 1, ErrNoRecord
		} else {
			err = s.log.Find(list[i].Offset).Pread(dst[at:], list[i].Offset)
		}
		if err != nil && n > 1 { // find out for which
			n, err = 1, s.log.Find(list[i].Offset).Pread(dst[at:at+int(list[i].Size)], list[i].Offset)
		}
		for k := i; k < i+n; k++ {
			var r message.Record
			if err == nil {
				r, err = recordOf(dst[at+int(list[k].Offset-list[i].Offset):], list[k])
			}
			if !fn(k, r, err) {
				return dst
			}
			err = nil
		}
		i += n
	}
	return dst
}

// run is how many of the entries are read at once, and their bytes; none when there
// can be no record where the first points to.
func (s *Store) run(list []Entry) (n int, size int64) {
	from := list[0].Offset
	f := s.log.Find(from)
	if f == nil {
		return 0, 0
	}
	end := min(f.End(), s.Appended.Load())
	for _, e := range list {
		to := e.Offset + int64(e.Size)
		if e.Size < message.MinRecord || to > end || n > 0 && (e.Offset < from+size || e.Offset > from+size+readGap || to > from+readRun) {
			break
		}
		n, size = n+1, to-from
	}
	return n, size
}

func recordOf(b []byte, e Entry) (message.Record, error) {
	r, err := message.ParseRecord(b, true)
	switch {
	case errors.Is(err, message.ErrCRC):
		return nil, err
	case err != nil || r.Offset() != e.Offset || r.Size() != e.Size:
		return nil, ErrNoRecord
	}
	return r, nil
}

// Stamp is the store time, ms, that a record gets which is appended now: store
// times never go back, so it is that of the last record while the clock is behind
// it.
func (s *Store) Stamp() int64 { return max(s.lastTime.Load(), s.o.Now().UnixMilli()) }

// MessagesFrom is how many messages that readers see lie at or behind the offset
// from of the log: what a copy of the log lacks that ends there. It looks at the
// last entry of each queue, and searches those that reach so far.
func (s *Store) MessagesFrom(from int64) (n int64, err error) {
	if from >= s.Dispatched.Load() {
		return 0, nil
	}
	for _, q := range s.Queues() {
		top := q.Max()
		lo, e := q.search(max(q.Min(), top-1), top, from) // of most queues the last one does not reach so far
		if e == nil && lo < top {
			lo, e = q.search(q.Min(), top, from)
		}
		if e != nil {
			err = errors.Join(err, e)
			continue
		}
		n += max(top-lo, 0)
	}
	return n, err
}
