package store

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"go.uber.org/zap"

	"gomq/internal/message"
	"gomq/internal/store/segment"
	"gomq/internal/watermark"
)

// errInconsistent tells that the queues are not what the log says.
var errInconsistent = errors.New("the queues do not fit the log")

// recovery is what is known while the store is opened.
type recovery struct {
	s     *Store
	ctx   context.Context
	clean bool // the store was closed: no abort marker
	own   bool // this store's checkpoint counts
	ck    checkpoint
	java  javaCheckpoint

	rebuild string           // why the queues are made again from the log, "" = they are not
	reach   int64            // end of the newest record that a queue points to
	from    int64            // where the scan of the log began
	end     int64            // of the log
	last    int64            // offset of the last record seen, -1 = none
	time    int64            // its store time
	replay  int64            // from where records are shown to the queues again
	cleared map[string]bool  // directories of queues from which files were removed
	past    map[*Queue]int64 // how many messages a queue had that the log does not have any more
}

// load brings the store to where it can be appended to. Until the log is known
// to be whole nothing is changed that says anything.
func (s *Store) load(ctx context.Context) (err error) {
	r := &recovery{s: s, ctx: ctx, last: -1, cleared: map[string]bool{}, past: map[*Queue]int64{}}
	if err := s.refuseForeign(); err != nil {
		return err
	}
	for _, dir := range []string{s.o.CommitLogDir, s.o.ConsumeQueueDir, filepath.Dir(s.o.CheckpointFile), filepath.Dir(s.o.AbortFile)} {
		if err := s.makeDir(dir); err != nil {
			return err
		}
		// Perhaps it was made by a process that was killed before it could do this.
		if err := s.fs.SyncDir(dir); err != nil {
			return err
		}
	}
	_, err = s.fs.Stat(s.o.AbortFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	r.clean = err != nil
	s.clean = r.clean
	if err := s.openLog(); err != nil {
		return err
	}
	bad, err := s.loadQueues()
	if err != nil {
		return err
	}
	if len(bad) > 0 {
		r.rebuild = fmt.Sprintf("the files of %s are not whole", bad[0])
	}
	if s.checkpoint, r.java, r.own, err = openCheckpoint(&s.o); err != nil {
		return err
	}
	r.ck = s.checkpoint.now
	if r.own && r.ck.last < 0 && r.ck.log == r.ck.start && r.ck.log != s.log.Start() {
		r.own = false // it speaks of an empty log, which was begun elsewhere or not at all
	}
	if s.index, err = openIndex(s.fs, s.o.IndexDir, s.o.MaxHashSlots, s.o.MaxIndexEntries, s.o.Now, s.zlog); err != nil {
		return err
	}
	if err := r.findEnd(); err != nil {
		return err
	}
	// From here on things are changed: should this be interrupted, the next start
	// has to know.
	if err := s.mark(); err != nil {
		return err
	}
	return r.restore()
}

// makeDir makes a directory whose name is durable, and those above it.
func (s *Store) makeDir(dir string) error {
	if _, err := s.fs.Stat(dir); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	above := filepath.Dir(dir)
	if above != dir {
		if err := s.makeDir(above); err != nil {
			return err
		}
	}
	if err := s.fs.MkdirAll(dir); err != nil {
		return err
	}
	return s.fs.SyncDir(above)
}

// openLog finds the log's files; their size wins over the option.
func (s *Store) openLog() error {
	found, err := segment.Scan(s.fs, s.o.CommitLogDir, 0)
	if err != nil {
		return err
	}
	if found.N == 1 && found.Size < s.o.CommitLogFileSize {
		// Perhaps the first file of a store that was stopped while making it.
		if found, err = segment.Scan(s.fs, s.o.CommitLogDir, s.o.CommitLogFileSize); err != nil {
			var wrong *segment.WrongSizeError
			if !errors.As(err, &wrong) {
				return err
			}
			if found, err = segment.Scan(s.fs, s.o.CommitLogDir, 0); err != nil {
				return err
			}
		}
	}
	if found.N > 0 && found.Size != s.o.CommitLogFileSize {
		s.zlog.Info("the log's files have another size than configured; theirs counts", zap.Int64("bytes", found.Size), zap.Int64("configured", s.o.CommitLogFileSize))
		s.o.CommitLogFileSize = found.Size
	}
	if s.o.CommitLogFileSize < minLogFileSize {
		return fmt.Errorf("the files in %s have %d bytes, less than the least of %d", s.o.CommitLogDir, found.Size, minLogFileSize)
	}
	s.log = segment.NewList(&segment.Options{FS: s.fs, Size: s.o.CommitLogFileSize, Maps: segment.NewMaps(maxMappedLogs)}, s.o.CommitLogDir, found)
	s.ahead = segment.NewAhead(s.log)
	return nil
}

// findEnd says where the log ends and how the queues stand. It changes nothing.
func (r *recovery) findEnd() error {
	s := r.s
	if r.own && (s.log.End() < r.ck.log || s.log.Start() > max(r.ck.log, r.ck.start)) {
		return &DamageError{File: s.o.CommitLogDir, Offset: min(s.log.End(), r.ck.log), Until: r.ck.log,
			Why: fmt.Sprintf("its files hold [%d, %d) only", s.log.Start(), s.log.End())}
	}
	fast := r.clean && r.own && r.ck.clean && r.lastIsWhole()
	if !r.clean && s.log.Len() > 0 {
		if err := r.refresh(); err != nil {
			return err
		}
	}
	if err := r.measureQueues(); err != nil {
		return err
	}
	if fast {
		r.from, r.end, r.replay = r.ck.log, r.ck.log, r.ck.log
		if r.rebuild == "" {
			return nil
		}
	} else if err := r.scan(); err != nil {
		return err
	}
	return r.planReplay()
}

// lastIsWhole says whether the log of a closed store still ends as it did.
func (r *recovery) lastIsWhole() bool {
	s := r.s
	f := s.log.Find(r.ck.log)
	if f == nil && r.ck.log != s.log.End() {
		return false
	}
	if f != nil {
		var head [blankSize]byte
		n := min(blankSize, f.End()-r.ck.log)
		if f != s.log.Last() || f.Pread(head[:n], r.ck.log) != nil || head != [blankSize]byte{} {
			return false // somebody has written there
		}
	}
	if r.ck.last < 0 {
		return r.ck.log == s.log.Start()
	}
	w := walker{log: s.log, crc: true}
	rec, next, err := w.at(r.ck.last)
	if err != nil || rec == nil {
		return false
	}
	r.last, r.time = r.ck.last, rec.StoreTime()
	if next != r.ck.log {
		_, next, err = w.at(next)
	}
	return err == nil && next == r.ck.log
}

// refresh brings what may not be on the disk to the disk, and then reads it from
// there: after a sync that failed memory and disk may differ.
func (r *recovery) refresh() error {
	from := r.s.log.Start()
	if r.own {
		from = max(from, r.ck.log)
	}
	for _, f := range r.s.log.Files() {
		if f.End() <= from {
			continue
		}
		if err := f.Refresh(max(from, f.Base())); err != nil {
			return fmt.Errorf("recovery: %w", err)
		}
	}
	return r.s.fs.SyncDir(r.s.o.CommitLogDir)
}

// scanFrom is where the scan of the log begins: at what is known to be on the
// disk and in the queues, or, without a checkpoint of this store, where the
// original would begin (store.md section 9), but never behind what the queues
// have.
func (r *recovery) scanFrom() int64 {
	s := r.s
	files := s.log.Files()
	if len(files) == 0 {
		return 0
	}
	start := s.log.Start()
	if r.own {
		return max(min(r.ck.queue, r.ck.log), start)
	}
	from := start
	if r.clean {
		from = files[max(0, len(files)-3)].Base()
	} else {
		until := min(r.java.log, r.java.queue) - 3000
		for i := len(files) - 1; i > 0; i-- {
			if t := r.firstTime(files[i].Base()); t > 0 && t <= until {
				from = files[i].Base()
				break
			}
		}
	}
	if f := s.log.Find(r.reach); f != nil && r.reach < from {
		from = f.Base()
	} else if r.reach < start {
		from = start
	}
	return from
}

// firstTime is the store time of the record at off, 0 if there is none.
func (r *recovery) firstTime(off int64) int64 {
	w := walker{log: r.s.log}
	rec, _, err := w.at(off)
	if err != nil || rec == nil {
		return 0
	}
	return rec.StoreTime()
}

// scan reads the log to its end and judges what comes then.
func (r *recovery) scan() error {
	s := r.s
	r.from = r.scanFrom()
	w := walker{log: s.log, crc: true}
	at := r.from
	for at < s.log.End() {
		if err := r.ctx.Err(); err != nil {
			return err
		}
		rec, next, err := w.at(at)
		var bad *badRecord
		if errors.As(err, &bad) {
			r.end = at
			return r.judge(bad)
		}
		if err != nil {
			return err
		}
		if rec != nil {
			if r.own && at >= r.ck.log && torn(rec, at) {
				break
			}
			r.last, r.time = at, rec.StoreTime()
		}
		at = next
	}
	r.end = at
	return nil
}

// sector is what a disk writes as a whole.
const sector = 512

// torn says whether a record that lies at at, and whose lengths and body are
// right, cannot have been written to the disk as a whole: a sector of its topic
// and properties was not, or their last byte. Batch.Add sees to it that no whole
// record looks like that.
func torn(r message.Record, at int64) bool {
	props, topic := int64(len(r.Props())), int64(len(r.Topic()))
	end := at + int64(len(r))
	if props == 0 {
		end -= 2 // their length, which is zero
	}
	if r[end-at-1] == 0 {
		return true
	}
	for lo := (at + int64(len(r)) - props - 2 - topic) / sector * sector; lo < end; lo += sector {
		if isZero(r[max(lo, at)-at : min(lo+sector, end)-at]) {
			return true
		}
	}
	return false
}

// judge decides about a log that does not go on at bad.Offset: damage, which is
// an error, or the end.
func (r *recovery) judge(bad *badRecord) error {
	if r.isV2(bad.Offset) {
		return fmt.Errorf("the log has a record of RocketMQ 5's second format at offset %d (%s), which is not supported; nothing was changed", bad.Offset, bad.File)
	}
	damage := &DamageError{File: bad.File, Offset: bad.Offset, Why: bad.Err.Error()}
	if r.own && bad.Offset < r.ck.log {
		damage.Until = r.ck.log
		return damage
	}
	if until := r.rotten(bad); until > 0 {
		damage.Until = until
		return damage
	}
	return nil
}

// rotten says whether the record at bad.Offset was once whole: its frame is, its
// body does not match its checksum, no sector of it was never written, and a
// whole record follows. Then this is no torn end of the log but a disk that
// forgets, and cutting the log here would lose what follows: the end of which is
// returned, otherwise 0.
func (r *recovery) rotten(bad *badRecord) int64 {
	if !errors.Is(bad.Err, message.ErrCRC) {
		return 0
	}
	w := walker{log: r.s.log}
	rec, next, err := w.at(bad.Offset)
	if err != nil || rec == nil {
		return 0
	}
	for at := (-bad.Offset%sector + sector) % sector; at+sector <= int64(len(rec)); at += sector {
		if isZero(rec[at : at+sector]) {
			return 0
		}
	}
	w.crc = true
	for range 2 { // a blank may come between
		if next >= r.s.log.End() {
			return 0
		}
		follows, end, err := w.at(next)
		if err != nil {
			return 0
		}
		if follows != nil {
			return end
		}
		next = end
	}
	return 0
}

// isV2 says whether a record of the format lies at off that 5.x writes for long
// topics.
func (r *recovery) isV2(off int64) bool {
	f := r.s.log.Find(off)
	var b [8]byte
	return f != nil && f.End()-off >= 8 && f.Pread(b[:], off) == nil && binary.BigEndian.Uint32(b[4:]) == message.MagicV2
}

func isZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// planReplay decides from where the queues see the log again, and makes sure that
// it can be read from there.
func (r *recovery) planReplay() error {
	s := r.s
	start := s.log.Start()
	switch {
	case r.rebuild != "":
		r.replay = start
	case r.own:
		r.replay = max(min(r.ck.queue, r.end), start)
	case r.clean:
		r.replay = max(min(r.reach, r.end), start)
	default:
		r.replay = max(min(r.from, r.reach), start)
	}
	return r.readable(r.replay, min(r.from, r.end))
}

// readable checks that the records of [from, to) have whole frames.
func (r *recovery) readable(from, to int64) error {
	last := r.last
	_, err := r.s.eachRecord(from, to, false, func(at int64, rec message.Record) error {
		if last < at {
			r.last, r.time = at, rec.StoreTime()
		}
		return r.ctx.Err()
	})
	var bad *badRecord
	if errors.As(err, &bad) {
		until := r.end
		if r.own {
			until = r.ck.log
		}
		return &DamageError{File: bad.File, Offset: bad.Offset, Until: until, Why: bad.Err.Error()}
	}
	return err
}

// mark creates the abort marker.
func (s *Store) mark() error {
	h, err := s.fs.OpenFile(s.o.AbortFile, os.O_RDWR|os.O_CREATE)
	if err != nil {
		return err
	}
	if err := errors.Join(h.Sync(), h.Close()); err != nil {
		return err
	}
	return s.fs.SyncDir(filepath.Dir(s.o.AbortFile))
}

// restore cuts the log at its end, brings queues and index in line with it and
// sets the store's marks.
func (r *recovery) restore() error {
	s := r.s
	begin := time.Now()
	if r.last < 0 && r.own && r.end == r.ck.queue {
		r.last = r.ck.last
	}
	if r.own && r.end > s.log.Start() {
		r.time = max(r.time, r.java.log)
	}
	if err := r.cut(); err != nil {
		return err
	}
	if err := r.restoreQueues(); err != nil {
		return err
	}
	if err := r.restoreIndex(); err != nil {
		return err
	}
	s.tail.off, s.tail.end, s.lastRecord = r.end, r.end, r.last
	s.tail.time = r.time
	if ahead := r.time - s.o.Now().UnixMilli(); ahead > time.Hour.Milliseconds() {
		s.zlog.Warn("the last message was stored by a clock that was ahead; store times go back now", zap.Duration("by", time.Duration(ahead)*time.Millisecond))
		s.tail.time = 0
	}
	s.lastTime.Store(r.time)
	s.durableTime.Store(r.time)
	s.Appended, s.Durable, s.Dispatched = watermark.New(r.end), watermark.New(r.end), watermark.New(r.end)
	s.hand.end, s.hand.time, s.hand.last = r.end, r.time, r.last
	indexed := r.end
	if s.o.IndexEnabled {
		if indexed = r.recordAt(s.index.end()); indexed < r.end {
			s.hand.lost = indexed
		}
	}
	s.Indexed = watermark.New(indexed)
	if !r.clean || r.rebuild != "" || r.replay < r.end {
		s.zlog.Info("recovered the store", zap.Bool("closed", r.clean), zap.Bool("checkpoint", r.own), zap.String("rebuilt", r.rebuild),
			zap.Int64("scanned from", r.from), zap.Int64("replayed from", r.replay), zap.Int64("end", r.end), zap.Duration("took", time.Since(begin)))
	}
	if err := r.openTail(); err != nil {
		return err
	}
	return r.save()
}

// cut removes what lies behind the end of the log: files, and bytes that could
// be taken for records once the log has grown up to them.
func (r *recovery) cut() error {
	s := r.s
	if err := s.cutFiles(r.end); err != nil {
		return err
	}
	f := s.log.Find(r.end)
	if f == nil || r.clean && r.own && r.from == r.ck.log && r.end == r.ck.log && r.ck.clean {
		return nil
	}
	return f.Zero(r.end, f.End())
}

// cutFiles removes the log files that begin at or behind end. The first one of a
// log that does not begin at 0 stays also when it holds nothing: it alone says where
// the log begins.
func (s *Store) cutFiles(end int64) error {
	if start := s.log.Start(); start > 0 {
		end = max(end, start+1)
	}
	return s.log.Truncate(end)
}

// openTail opens the file that is appended to, or makes it.
func (r *recovery) openTail() error {
	s := r.s
	f := s.log.Find(r.end)
	if f == nil {
		var err error
		if f, err = s.ahead.Take(); isShortage(err) {
			s.zlog.Warn("there is no space for a log file: the store can be read only", zap.Error(err))
			return nil
		} else if err != nil {
			return err
		}
	} else {
		// Java's files have no blocks before they are written. That there is no space
		// for them is found again by the first append.
		err := f.Allocate(r.end, f.End())
		if err != nil && !isShortage(err) {
			return err
		}
		s.tail.sparse = err != nil
	}
	return s.openTail(f, max(r.end, f.Base()))
}

// save writes a checkpoint for a store that has none that counts: that the log is
// durable up to its end is known, of queues and index nothing. One that counts is
// written again if it says more of the index than is there: later files of it must
// not be taken for what has been lost.
func (r *recovery) save() error {
	s := r.s
	java := r.java
	if r.own {
		if !s.o.IndexEnabled || s.index.end() >= r.ck.index {
			return nil
		}
		c := r.ck
		c.index, c.clean, c.last = s.index.end(), false, -1
		return s.checkpoint.save(c, java)
	}
	start := s.log.Start()
	// Java's times cannot be later than the last record, unless they are wrong.
	java = javaCheckpoint{log: r.time, queue: min(java.queue, r.time), index: min(java.index, r.time)}
	return s.checkpoint.save(checkpoint{log: r.end, last: -1, queue: start, index: start, start: start}, java)
}

// restoreIndex brings the index in line with the log; what is missing is put in by
// the indexer.
func (r *recovery) restoreIndex() error {
	x := r.s.index
	if err := x.bury(r.clean); err != nil {
		return err
	}
	var err error
	switch {
	case r.clean && r.own:
		x.known(r.ck.index)
	case r.own:
		err = x.trim(r.ck.index)
	case !r.clean:
		err = x.trimTime(r.java.index)
	}
	if err == nil {
		err = x.truncate(r.end)
	}
	if err == nil {
		err = x.dropBelow(r.s.log.Start())
	}
	return err
}

// recordAt is the offset of the first record that the index may not have: off, or
// the record behind the one that begins just before off.
func (r *recovery) recordAt(off int64) int64 {
	start := r.s.log.Start()
	if off >= r.end || off <= start {
		return max(min(off, r.end), start)
	}
	w := walker{log: r.s.log}
	if _, _, err := w.at(off); err == nil {
		return off
	}
	if _, next, err := w.at(off - 1); err == nil {
		return min(next, r.end)
	}
	return start
}
