package store

import (
	"context"
	"fmt"
	"runtime"
	"time"

	"gomq/internal/failpoint"
	"gomq/internal/store/segment"
	"gomq/internal/watermark"
)

const (
	// mostYields bounds how long the flusher lets others append before it syncs:
	// it goes on as soon as nobody does.
	mostYields = 64
	// flushEarly is how much not yet durable log starts a flush before its time
	// under ASYNC_FLUSH: little, so that each is short, where flushes cost nobody a
	// wait (segment.Aside), and much where the fewer the better.
	flushEarly, flushEarlyAside = 64 << 20, 8 << 20
)

// flushing is the flusher: the only one who syncs the log and advances Durable,
// and under SYNC_FLUSH the one who makes records visible. An error ends the
// store.
func (s *Store) flushing(ctx context.Context) error {
	run := s.flushTimed
	if s.o.SyncFlush {
		run = s.flushGrouped
	}
	if err := run(ctx); err != nil {
		s.fail(err)
	}
	return nil
}

// flushGrouped syncs as soon as something has been appended; what comes
// meanwhile is the next group. It never sleeps.
func (s *Store) flushGrouped(ctx context.Context) error {
	w := make(wake, 1)
	for {
		s.Appended.When(s.Durable.Load()+1, time.Time{}, w)
		select {
		case <-w:
		case <-ctx.Done():
			return nil
		}
		if s.failed.Load() != nil {
			return nil
		}
		// Who woke this goroutine put it in front of all others that can run: let
		// them append first, or each sync would take one message along.
		for i, end := 0, s.Appended.Load(); i < mostYields; i++ {
			runtime.Gosched()
			now := s.Appended.Load()
			if now == end {
				break
			}
			end = now
		}
		if err := s.flushNow(); err != nil {
			return err
		}
	}
}

// flushTimed syncs everything appended once each interval.
func (s *Store) flushTimed(ctx context.Context) error {
	w := make(wake, 1)
	asked, early := false, int64(flushEarly)
	if !s.withoutMmap && segment.Aside() { // the other writer's syncs are plain, see syncLog
		early = flushEarlyAside
	}
	t := time.NewTicker(s.o.FlushInterval)
	defer t.Stop()
	for {
		if !asked {
			s.Appended.When(s.Durable.Load()+early, time.Time{}, w)
			asked = true
		}
		select {
		case <-t.C:
		case <-w:
			asked = false
		case <-ctx.Done():
			return nil
		}
		if s.failed.Load() != nil {
			return nil
		}
		if err := s.flushNow(); err != nil {
			return err
		}
	}
}

// flushNow makes durable what has been appended so far, and visible under
// SYNC_FLUSH. It is the flusher's; Close calls it when the flusher has ended.
func (s *Store) flushNow() error {
	// The time first: it must not be later than that of the last record synced.
	t := s.lastTime.Load()
	end := s.Appended.Load()
	if s.failed.Load() != nil {
		return nil
	}
	if from := s.Durable.Load(); from < end {
		failpoint.Hit("beforeFlush")
		start := time.Now()
		if err := s.syncLog(from, end); err != nil {
			return fmt.Errorf("the log could not be made durable, nothing from offset %d on is safe: %w", s.Durable.Load(), err)
		}
		s.metrics.sync.Observe(time.Since(start).Seconds())
		failpoint.Hit("afterFlush")
		s.durableTime.Store(t)
		s.Durable.Advance(end)
	}
	if s.o.SyncFlush && s.Dispatched.Load() < end {
		return s.shower.upTo(end, t)
	}
	return nil
}

// syncLog makes [from, to) of the log durable, file after file, so that Durable
// never passes the end of a file that is not.
func (s *Store) syncLog(from, to int64) error {
	for from < to {
		f := s.log.Find(from)
		if f == nil {
			// Deleted by age before it was synced: nobody can ask for it.
			start := s.log.Start()
			if start <= from {
				return fmt.Errorf("there is no file for offset %d in %s", from, s.o.CommitLogDir)
			}
			from = start
			continue
		}
		end := min(to, f.End())
		var err error
		if s.withoutMmap {
			err = f.Sync()
		} else if err = f.Acquire(); err == nil {
			if s.o.SyncFlush {
				err = f.SyncMapped(from, end)
			} else {
				err = f.SyncAside(from, end)
			}
			f.Release()
		}
		if err != nil {
			return err
		}
		if end == f.End() {
			if err := f.Seal(); err != nil {
				return err
			}
		}
		if end < to {
			s.Durable.Advance(end)
		}
		from = end
	}
	return nil
}

// Undurable is the number of bytes appended and not yet durable.
func (s *Store) Undurable() int64 { return s.Appended.Load() - s.Durable.Load() }

// expire tells those who have waited for too long.
func (s *Store) expire(context.Context) error {
	now := time.Now()
	for _, m := range []*watermark.Mark{s.Appended, s.Durable, s.Dispatched, s.Indexed} {
		m.Expire(now)
	}
	return nil
}
