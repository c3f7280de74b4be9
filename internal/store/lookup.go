package store

import (
	"slices"

	"gomq/internal/message"
)

// maxLookup bounds the records that one Lookup finds (maxMsgsNumBatch of 4.9.8).
const maxLookup = 64

// Lookup finds the records of a topic that have the given unique key or word of
// KEYS and were stored between begin and end (ms): their offsets, rising, at most
// max of the newest, and never more than 64. lastTime and lastOffset are those of
// the newest record in the index.
//
// As in the original only the hash of "topic#key" is compared, and times with a
// resolution of a second: a record whose key has the same hash is found, too, and
// who asks compares keys. Records whose files have been deleted are left out. What
// has been stored is found once the mark Indexed has passed it. An error is one of
// the disk.
func (s *Store) Lookup(topic, key []byte, begin, end int64, max int) (offsets []int64, lastTime, lastOffset int64, err error) {
	if !s.o.IndexEnabled {
		return nil, 0, 0, nil
	}
	seed := message.HashMore(message.HashCode(topic), hashSign)
	offsets, err = s.index.find(keyHash(seed, key), begin, end, min(max, maxLookup), nil)
	if err != nil {
		return nil, 0, 0, err
	}
	from, to := s.MinOffset(), s.Dispatched.Load()
	offsets = slices.DeleteFunc(offsets, func(at int64) bool { return at < from || at >= to })
	slices.Sort(offsets)
	lastTime, lastOffset = s.index.last()
	return slices.Compact(offsets), lastTime, lastOffset, nil
}

// storeTime reads the store time of the record at a log offset, -1 if there is
// none or it cannot be read.
func (s *Store) storeTime(offset int64, size int32) int64 {
	f := s.log.Find(offset)
	if f == nil || size < message.MinRecord || offset+message.MinRecord > f.End() {
		return -1
	}
	var head [message.MinRecord]byte // longer than a head with an IPv6 born host
	if f.Pread(head[:], offset) != nil {
		return -1
	}
	r := message.Record(head[:])
	if sizeWord(head[:]) != int64(size) || r.Offset() != offset {
		return -1
	}
	return r.StoreTime()
}

// IndexSpan is the store times (ms) of the first and the last record in the index,
// 0 and 0 while it has none, and how many bytes of the log are not in it yet.
func (s *Store) IndexSpan() (first, last, behind int64) {
	first, last = s.index.span()
	return first, last, max(s.Dispatched.Load()-s.Indexed.Load(), 0)
}

// Entry is an entry of the queue as it lies on the disk: where in the log its
// record is, how long that is, and its code of tags. The error says that there is
// no entry at that offset, or is one of the disk.
func (s *Store) Entry(q *Queue, off int64) (offset int64, size int32, tags int64, err error) {
	return q.entry(off)
}

// StoreTimeAt is the store time (ms) of the message at an offset of the queue, -1
// if there is none.
func (s *Store) StoreTimeAt(q *Queue, off int64) int64 {
	offset, size, _, err := q.entry(off)
	if err != nil {
		return -1
	}
	return s.storeTime(offset, size)
}

// EarliestTime is the store time (ms) of the first message of the queue, -1 if
// there is none.
func (s *Store) EarliestTime(q *Queue) int64 { return s.StoreTimeAt(q, q.Min()) }

// SearchTime finds the offset of the message whose store time is nearest to ms,
// the earlier one if two are as near, the first one if several have that very
// time (behaviour.md section 9; the original takes any of them). Before the first
// message that is Min, behind the last one Max-1. It is 0 for an empty queue, and
// when the disk cannot be read.
func (s *Store) SearchTime(q *Queue, ms int64) int64 {
	lo, hi := q.Min(), q.Max()
	if lo >= hi {
		return max(lo, 0)
	}
	minLog := s.MinOffset()
	first, last := lo, hi-1
	leftTime, rightTime := int64(-1), int64(-1)
	for lo < hi {
		mid := lo + (hi-lo)/2
		offset, size, _, err := q.entry(mid)
		if err != nil {
			return 0
		}
		if offset < minLog || size == blankUnit { // its message is gone
			lo, first = mid+1, mid+1
			continue
		}
		switch t := s.storeTime(offset, size); {
		case t < 0:
			return 0
		case t >= ms:
			hi, rightTime = mid, t
		default:
			lo, leftTime = mid+1, t
		}
	}
	switch {
	case rightTime < 0:
		return last
	case lo <= first || leftTime < 0 || rightTime-ms < ms-leftTime:
		return lo
	}
	return lo - 1
}
