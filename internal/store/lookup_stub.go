package store

import "errors"

var errStub = errors.New("not yet")

// SearchTime finds the offset nearest to a store time.
func (s *Store) SearchTime(q *Queue, ms int64) int64 { return 0 }

// EarliestTime is the store time of the queue's first message, -1 if none.
func (s *Store) EarliestTime(q *Queue) int64 { return -1 }

// StoreTimeAt is the store time of the message at a queue offset, -1 if none.
func (s *Store) StoreTimeAt(q *Queue, off int64) int64 { return -1 }

// Lookup finds records by key.
func (s *Store) Lookup(topic, key []byte, begin, end int64, max int) (offsets []int64, lastTime, lastOffset int64, err error) {
	return nil, 0, 0, errStub
}

func (s *Store) startRetention() {}
