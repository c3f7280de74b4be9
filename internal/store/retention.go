package store

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"gomq/internal/failpoint"
	"gomq/internal/message"
	"gomq/internal/store/segment"
)

const (
	// mostDeleted is how many log files one round deletes at most.
	mostDeleted = 10
	// spaceInterval is the pause between two looks at the disk's space. Deleting
	// files, which takes its time, is done elsewhere.
	spaceInterval = time.Second
)

// retention decides which log files go and whether there is space for messages.
// Queue and index files follow the log.
type retention struct {
	mu     sync.Mutex // guards the rest
	o      retentionOptions
	manual int // rounds asked for by DeleteExpired
	clock  steadyClock
	full   bool
	used   float64 // of the disk, as last seen

	wake    chan struct{}
	behind  int64                // queues and index follow until the checkpoint has this offset, -1 = they have; likewise
	newest  map[int64]int64      // store time of the last record of the file with this base; for the deleting goroutine
	elapsed func() time.Duration // since the start
}

// retentionOptions are the options that count here.
type retentionOptions struct {
	hours    [24]bool
	reserved time.Duration
	maxUsed  int // percent, as the following
	forcibly int
	warning  int
	forced   bool
	pause    time.Duration
}

func (o *Options) retention() (r retentionOptions, err error) {
	r = retentionOptions{reserved: o.FileReserved, maxUsed: o.DiskMaxUsedPct, forcibly: o.DiskCleanForciblyPct,
		warning: o.DiskWarningPct, forced: !o.NoForcedClean, pause: o.DeleteInterval}
	for _, text := range strings.Split(o.DeleteWhen, ";") {
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		h, err := strconv.Atoi(text)
		if err != nil || h < 0 || h > 23 {
			return r, fmt.Errorf("store: deleteWhen=%s: %q is no hour of the day", o.DeleteWhen, text)
		}
		r.hours[h] = true
	}
	return r, nil
}

// SetRetention changes, while the store is open, what decides about deletion:
// DeleteWhen, FileReserved, DiskMaxUsedPct, DiskCleanForciblyPct, DiskWarningPct,
// NoForcedClean, DeleteInterval. The other options are not looked at, zeros mean
// the defaults. The error says what is wrong; nothing has changed then.
func (s *Store) SetRetention(o Options) error {
	o.retentionDefaults()
	r, err := o.retention()
	if err != nil {
		return err
	}
	s.retain.mu.Lock()
	s.retain.o = r
	s.retain.mu.Unlock()
	s.checkSpace()
	return nil
}

// DeleteExpired asks for rounds of deletion of log files that are past their age,
// whatever the hour (Java's tools ask for 20). It does not wait for them.
func (s *Store) DeleteExpired(rounds int) {
	s.retain.mu.Lock()
	s.retain.manual = max(s.retain.manual, rounds)
	s.retain.mu.Unlock()
	select {
	case s.retain.wake <- struct{}{}:
	default:
	}
}

// startRetention starts to look at ages and space. The store is not written to
// before the first look.
func (s *Store) startRetention() {
	t := &s.retain
	t.wake, t.newest = make(chan struct{}, 1), map[int64]int64{}
	t.o, _ = s.o.retention() // withDefaults has checked it
	start := s.o.Now()
	if t.elapsed == nil {
		t.elapsed = func() time.Duration { return s.o.Now().Sub(start) }
	}
	evidence := s.lastSign()
	t.clock = newSteadyClock(start, evidence, t.o.reserved)
	if t.clock.base.Before(start) {
		s.zlog.Warn("the clock is far ahead of everything in the store: the age of files goes on from where it was, so that a wrong clock deletes nothing",
			zap.Time("clock", start), zap.Time("newest", evidence))
	}
	s.checkSpace()
	s.group.Every("disk space", spaceInterval, func(context.Context) error { s.checkSpace(); return nil })
	s.group.Go("retention", s.retaining)
}

// retaining is the goroutine that deletes.
func (s *Store) retaining(ctx context.Context) error {
	t := time.NewTicker(s.o.RetentionInterval)
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case <-s.retain.wake:
		case <-ctx.Done():
			return nil
		}
		again, err := s.deleteRound(ctx)
		if err != nil {
			s.zlog.Error("old files could not be deleted", zap.Error(err))
		}
		if again && err == nil {
			s.DeleteExpired(0)
		}
	}
}

// usage is how much of a disk is in use.
type usage struct {
	path        string
	used, total uint64
}

// percent is rounded up, as the original does.
func (u usage) percent() int {
	if u.total == 0 {
		return 0
	}
	return int(math.Ceil(float64(u.used) * 100 / float64(u.total)))
}

// mostUsed is the fuller one of the disks that the log and the queues are on.
func (s *Store) mostUsed() (most usage, err error) {
	for _, dir := range []string{s.o.CommitLogDir, s.o.ConsumeQueueDir} {
		used, free, err := s.fs.Usage(dir)
		if err != nil {
			return most, err
		}
		if u := (usage{dir, used, used + free}); most.path == "" || u.percent() > most.percent() {
			most = u
		}
	}
	return most, nil
}

// checkSpace makes the store refuse messages above the warning level, and take
// them again below it.
func (s *Store) checkSpace() {
	u, err := s.mostUsed()
	t := &s.retain
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil {
		// Nothing is known, nothing changes: a disk that fails shows it elsewhere.
		return
	}
	limit := u.total / 100 * uint64(t.o.warning)
	switch full := u.percent() > t.o.warning; {
	case full && !t.full:
		s.zlog.Error("the disk is nearly full: no message is taken until there is space again", zap.String("path", u.path),
			zap.Uint64("used", u.used), zap.Uint64("limit", limit), zap.Int("percent", u.percent()))
		fallthrough
	case full:
		s.setDiskFull(true, u.path, u.used, limit)
	case t.full:
		s.zlog.Info("there is space on the disk again: messages are taken", zap.String("path", u.path), zap.Int("percent", u.percent()))
		s.setDiskFull(false, "", 0, 0)
	}
	t.full = u.percent() > t.o.warning
	t.used = float64(u.used) / float64(max(u.total, 1))
}

// diskRatio is the part of the disk that is in use and the part from which on no
// message is taken.
func (s *Store) diskRatio() (used, limit float64) {
	t := &s.retain
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.used, float64(t.o.warning) / 100
}

// deleteRound deletes what may go now, at most ten files, and brings queues and
// index in line. again says that another round was asked for.
func (s *Store) deleteRound(ctx context.Context) (again bool, err error) {
	t := &s.retain
	now := s.o.Now()
	t.mu.Lock()
	o, manual := t.o, t.manual > 0
	if manual {
		t.manual--
	}
	again = t.manual > 0
	age := t.clock.now(now, t.elapsed(), o.reserved)
	t.mu.Unlock()
	u, uerr := s.mostUsed()
	if uerr != nil {
		s.zlog.Warn("the space of the disk is not known", zap.Error(uerr))
	}
	defer func() { err = errors.Join(err, s.followLog(ctx)) }()
	force := o.forced && u.percent() > min(o.forcibly, o.warning)
	if !force && !manual && u.percent() <= o.maxUsed && !o.hours[now.Local().Hour()] {
		return again, nil
	}
	n := 0
	for ; n < mostDeleted; n++ {
		if n > 0 && !s.pause(ctx, o.pause, nil) {
			break
		}
		if force && n > 0 {
			if u, err = s.mostUsed(); err != nil {
				break
			}
			force = u.percent() > min(o.forcibly, o.warning)
		}
		f := s.log.Files()[0]
		var why string
		if why, err = s.mayGo(f, age, o.reserved, force); why == "" || err != nil {
			break
		}
		if err = s.deleteFirst(f, why, u.percent()); err != nil {
			break
		}
	}
	return again, err
}

// mayGo says why a log file, the first one, may be deleted; "" if it may not.
// The last file stays, and what is not known to be on the disk and in the queues.
func (s *Store) mayGo(f *segment.File, now time.Time, reserved time.Duration, force bool) (why string, err error) {
	if s.log.Len() < 2 || f.End() > min(s.Durable.Load(), s.Dispatched.Load(), s.checkpoint.savedLog.Load()) {
		return "", nil
	}
	old, err := s.older(f, now.Add(-reserved))
	switch {
	case err != nil:
		return "", err
	case old:
		return "age", nil
	case force:
		return "space", nil
	}
	return "", nil
}

// older says whether a log file was neither modified nor got a record since t:
// the modification time alone is what the original goes by, but copying a store or
// setting the clock changes it.
func (s *Store) older(f *segment.File, t time.Time) (bool, error) {
	e, err := f.Stat()
	if err != nil || e.ModTime.After(t) {
		return false, err
	}
	limit := t.UnixMilli()
	// The next file's first record is no older than this file's last one, which
	// would cost reading the file.
	if next := s.timeAt(f.End()); next >= 0 && next <= limit {
		return true, nil
	}
	if s.timeAt(f.Base()) > limit {
		return false, nil
	}
	newest, ok := s.retain.newest[f.Base()]
	if !ok {
		_, err := s.eachRecord(f.Base(), f.End(), false, func(_ int64, r message.Record) error {
			newest = r.StoreTime()
			return s.group.Context().Err()
		})
		var bad *badRecord
		if err != nil && !errors.As(err, &bad) { // behind a bad record there is nothing to go by
			return false, err
		}
		s.retain.newest[f.Base()] = newest
	}
	return newest <= limit, nil
}

// timeAt is the store time of the record at off, -1 if there is none.
func (s *Store) timeAt(off int64) int64 {
	w := walker{log: s.log}
	r, _, err := w.at(off)
	if err != nil || r == nil {
		return -1
	}
	return r.StoreTime()
}

// deleteFirst deletes the first log file.
func (s *Store) deleteFirst(f *segment.File, why string, percent int) error {
	failpoint.Hit("deleteFile")
	say := s.zlog.Info
	if why != "age" {
		say = s.zlog.Warn
	}
	say("a log file is deleted", zap.String("file", f.Path()), zap.String("because of", why), zap.Int("disk percent", percent))
	delete(s.retain.newest, f.Base())
	s.retain.behind = s.Appended.Load()
	if err := s.log.DropFirst(); err != nil {
		return err
	}
	s.checkSpace()
	return nil
}

// followLog deletes what queues and index have of deleted log files. It is called
// again until the checkpoint has passed what there was when a file was deleted:
// queue files wait for it.
func (s *Store) followLog(ctx context.Context) error {
	if s.retain.behind < 0 {
		return nil
	}
	first, saved := s.MinOffset(), s.checkpoint.savedLog.Load()
	for _, q := range s.Queues() {
		if err := q.dropBelow(first); err != nil && !q.gone.Load() {
			return fmt.Errorf("%s: %w", q, err)
		}
		if ctx.Err() != nil {
			return nil
		}
	}
	if s.o.IndexEnabled {
		if err := s.index.dropBelow(first); err != nil {
			return err
		}
	}
	if saved >= s.retain.behind {
		s.retain.behind = -1
	}
	return nil
}

// lastSign is the newest time that anything in the store bears.
func (s *Store) lastSign() time.Time {
	var newest time.Time
	see := func(t time.Time) {
		if t.After(newest) {
			newest = t
		}
	}
	if ms := s.lastTime.Load(); ms > 0 {
		see(time.UnixMilli(ms))
	}
	for _, f := range s.log.Files() {
		if e, err := f.Stat(); err == nil {
			see(e.ModTime)
		}
	}
	return newest
}

// steadyClock is the time that ages are measured by. It follows the clock of the
// system, except that a leap forward counts only after as long as files are kept:
// whatever then is past its age really is. A leap back makes files younger and is
// followed at once.
type steadyClock struct {
	base  time.Time     // the time
	at    time.Duration // at this point of the time that has passed
	ahead time.Duration // the system's clock has been ahead since this point, -1 = it is not
}

// leap is what the two may differ by.
const leap = time.Minute

// newSteadyClock starts at the system's time, or, when that is further from the
// newest thing in the store than files are kept, at the latter: nobody can tell a
// long standstill from a clock that is wrong.
func newSteadyClock(now, newest time.Time, reserved time.Duration) steadyClock {
	c := steadyClock{base: now, ahead: -1}
	if !newest.IsZero() && now.Sub(newest) > reserved {
		c.base = newest
	}
	return c
}

// now is the time, given the system's clock and how much time has passed since
// the start by a clock that nobody sets.
func (c *steadyClock) now(system time.Time, passed, reserved time.Duration) time.Time {
	t := c.base.Add(passed - c.at)
	switch d := system.Sub(t); {
	case d > leap && (c.ahead < 0 || passed-c.ahead < reserved):
		if c.ahead < 0 {
			c.ahead = passed
		}
		return t
	case d < -leap:
		c.ahead = -1
		return system
	}
	c.base, c.at, c.ahead = system, passed, -1
	return system
}
