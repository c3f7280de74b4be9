package store

import (
	"context"
	"fmt"
	"time"

	"go.uber.org/zap"

	"gomq/internal/message"
)

const (
	// gather is how long the indexer waits for company after the first record,
	// and enough is how many make it start at once.
	gather = 2 * time.Millisecond
	enough = 512
	// warmKeys is for how many keys the index is told in advance.
	warmKeys = 128
	// indexRetry is how long the indexer waits for space.
	indexRetry = time.Second
)

// hashSign stands between topic and key in what the index hashes.
var hashSign = []byte("#")

// indexing writes the keys of visible records to the index, in batches.
func (s *Store) indexing(ctx context.Context) error {
	var in indexBatch
	for {
		select {
		case <-s.indexWake:
		case <-ctx.Done():
			return nil
		}
		if !s.pause(ctx, gather, s.indexNow) {
			return nil
		}
		for more := true; more; {
			var err error
			more, err = s.indexSome(ctx, &in)
			if err == nil {
				continue
			}
			if ctx.Err() != nil {
				return nil
			}
			if !isShortage(err) {
				s.fail(fmt.Errorf("the index: %w", err))
				return nil
			}
			s.zlog.Warn("no space for the index; messages are stored and will be found by key when there is some", zap.Error(err))
			if !s.pause(ctx, indexRetry, nil) {
				return nil
			}
			more = true
		}
	}
}

// pause waits until d has passed or now delivers; false means that the store
// stops.
func (s *Store) pause(ctx context.Context, d time.Duration, now <-chan struct{}) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-now:
		return true
	case <-ctx.Done():
		return false
	}
}

// indexBatch is what the indexer works on.
type indexBatch struct {
	keyed []handed
	keys  []int32
}

// indexSome indexes what has been handed over, or reads the log where that was
// too much. It returns whether there is more already. After an error it goes on
// with the same record.
func (s *Store) indexSome(ctx context.Context, in *indexBatch) (more bool, err error) {
	h := &s.hand
	h.mu.Lock()
	in.keyed, h.keyed = h.keyed, in.keyed[:0]
	in.keys, h.keys = h.keys, in.keys[:0]
	lost, end := h.lost, h.end
	h.lost = -1
	h.mu.Unlock()
	if !s.o.IndexEnabled {
		s.Indexed.Advance(end)
		return false, nil
	}
	at, err := s.indexHanded(in)
	if err == nil && lost >= 0 {
		at, err = s.reindex(ctx, lost, end)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if err != nil {
		// What has been handed over since lies behind: the log has it all.
		h.keyed, h.keys, h.lost = h.keyed[:0], h.keys[:0], at
		return true, err
	}
	s.Indexed.Advance(end)
	return len(h.keyed) >= enough || h.lost >= 0, nil
}

// indexHanded indexes a batch; on an error it says at which record.
func (s *Store) indexHanded(in *indexBatch) (at int64, err error) {
	keys, warm := in.keys, 0
	for i := range in.keyed {
		k := &in.keyed[i]
		if warm -= int(k.keys); warm < 0 {
			warm = min(warmKeys, len(keys)) - int(k.keys)
			s.index.warm(keys[:min(warmKeys, len(keys))])
		}
		if err := s.index.put(k.offset, k.time, keys[:k.keys]); err != nil {
			return k.offset, err
		}
		keys = keys[k.keys:]
	}
	return 0, nil
}

// reindex indexes a part of the log that was not handed over; on an error it says
// where to go on.
func (s *Store) reindex(ctx context.Context, from, to int64) (at int64, err error) {
	var keys []int32
	at = max(from, s.MinOffset())
	_, err = s.eachRecord(at, to, false, func(off int64, r message.Record) error {
		at = off
		keys = keys[:0]
		if r.SysFlag()&message.TxMask != message.Rollback {
			keys = appendKeyHashes(keys, s.keyHashOf(r), r.Props())
		}
		if err := s.index.put(off, r.StoreTime(), keys); err != nil {
			return err
		}
		s.Indexed.Advance(off)
		return ctx.Err()
	})
	return at, err
}

// keyHashOf is the hash with which those of the record's keys begin.
func (s *Store) keyHashOf(r message.Record) int32 {
	if q := s.queues.get(r.Topic(), r.QueueID()); q != nil {
		return q.keyHash
	}
	return message.HashMore(message.HashCode(r.Topic()), hashSign)
}
