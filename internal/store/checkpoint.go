package store

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"go.uber.org/zap"

	"gomq/internal/failpoint"
	"gomq/internal/store/segment"
)

// Java's checkpoint file: three times in ms, i64 big endian, and zeros up to 4096
// bytes (store.md section 6). 5.3.3 keeps two offsets behind them, which stay as
// they are.
const (
	javaSize  = 4096
	javaTimes = 24
	javaKnown = 40 // what this store's own file is bound to
)

// javaCheckpoint is what Java's file says.
type javaCheckpoint struct {
	log   int64 // store time up to which the log is on the disk
	queue int64 // ... the queues
	index int64 // ... the index
}

func (j javaCheckpoint) write(b []byte) {
	binary.BigEndian.PutUint64(b, uint64(j.log))
	binary.BigEndian.PutUint64(b[8:], uint64(j.queue))
	binary.BigEndian.PutUint64(b[16:], uint64(j.index))
}

func readJava(b []byte) javaCheckpoint {
	at := func(i int) int64 { return int64(binary.BigEndian.Uint64(b[i:])) }
	return javaCheckpoint{at(0), at(8), at(16)}
}

// checkpoint is what this store knows to be on the disk. It lies in a file beside
// Java's: two places of 4096 bytes that are written in turn, so that a torn write
// leaves the other. Each, big endian:
//
//	 0 magic "gomqchk1"    40 queues end i64         80 Java's first 40 bytes
//	 8 sequence i64        48 index end i64         120 the same before this write
//	16 flags i64           56 queues i64            160 CRC-32 of the 160 bytes, u32
//	24 log end i64         64 entries i64
//	32 last record i64     72 log start i64
//
// It counts only while Java's file holds one of the two copies: a Java broker that
// has run on the store since has changed it.
type checkpoint struct {
	seq     int64
	clean   bool
	log     int64 // the log is durable below
	last    int64 // offset of the last record that the queues know of, -1 = there is none
	queue   int64 // the queues hold durable entries for all records below
	index   int64 // the index is durable below
	count   census
	start   int64 // of the log
	java    [javaKnown]byte
	before  [javaKnown]byte
	javaNow javaCheckpoint
}

const (
	ownPlace = 4096
	ownSize  = 164
	ownMagic = "gomqchk1"
	ownClean = 1
)

func (c *checkpoint) write(b []byte) {
	be := binary.BigEndian
	copy(b, ownMagic)
	var flags uint64
	if c.clean {
		flags = ownClean
	}
	for i, v := range []uint64{uint64(c.seq), flags, uint64(c.log), uint64(c.last), uint64(c.queue), uint64(c.index),
		uint64(c.count.queues), uint64(c.count.entries), uint64(c.start)} {
		be.PutUint64(b[8+8*i:], v)
	}
	copy(b[80:], c.java[:])
	copy(b[120:], c.before[:])
	be.PutUint32(b[160:], crc32.ChecksumIEEE(b[:160]))
}

// readOwn reads one place; ok is false for one that holds nothing of use.
func readOwn(b []byte) (c checkpoint, ok bool) {
	be := binary.BigEndian
	if string(b[:8]) != ownMagic || be.Uint32(b[160:]) != crc32.ChecksumIEEE(b[:160]) {
		return c, false
	}
	at := func(i int) int64 { return int64(be.Uint64(b[8+8*i:])) }
	c = checkpoint{seq: at(0), clean: at(1)&ownClean != 0, log: at(2), last: at(3), queue: at(4), index: at(5),
		count: census{at(6), at(7)}, start: at(8)}
	copy(c.java[:], b[80:])
	copy(c.before[:], b[120:])
	return c, true
}

// checkpointFile writes both files.
type checkpointFile struct {
	fs        segment.FS
	java, own segment.Handle
	now       checkpoint // as last written
	written   bool
	savedLog  atomic.Int64 // records below are durable in log and queues, it says
}

func (o *Options) ownCheckpoint() string { return o.CheckpointFile + ".gomq" }

// openCheckpoint opens or creates both files. own says whether what was read of
// this store's file counts.
func openCheckpoint(o *Options) (f *checkpointFile, java javaCheckpoint, own bool, err error) {
	f = &checkpointFile{fs: o.FS}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.close())
		}
	}()
	if f.java, err = openSized(o.FS, o.CheckpointFile, javaSize); err != nil {
		return f, java, false, err
	}
	if f.own, err = openSized(o.FS, o.ownCheckpoint(), 2*ownPlace); err != nil {
		return f, java, false, err
	}
	var known [javaKnown]byte
	if err = readFull(f.java, known[:], 0); err != nil {
		return f, java, false, err
	}
	java = readJava(known[:])
	f.now.java = known
	for _, at := range []int64{0, ownPlace} {
		var b [ownSize]byte
		if err = readFull(f.own, b[:], at); err != nil {
			return f, java, false, err
		}
		c, ok := readOwn(b[:])
		if ok && (c.java == known || c.before == known) && c.seq > f.now.seq {
			f.now, own = c, true
			f.now.java = known
		} else if ok {
			// Sequences rise whatever else is read.
			f.now.seq = max(f.now.seq, c.seq)
		}
	}
	f.now.javaNow = java
	return f, java, own, nil
}

// openSized opens a file of a fixed size, created with zeros.
func openSized(fsys segment.FS, path string, size int64) (segment.Handle, error) {
	h, err := fsys.OpenFile(path, os.O_RDWR|os.O_CREATE)
	if err != nil {
		return nil, err
	}
	n, err := h.Size()
	if err == nil && n < size {
		err = h.Allocate(0, size)
	}
	if err != nil {
		return nil, errors.Join(err, h.Close())
	}
	return h, nil
}

func readFull(h segment.Handle, b []byte, at int64) error {
	if n, err := h.ReadAt(b, at); err != nil && !(errors.Is(err, io.EOF) && n == len(b)) {
		return fmt.Errorf("%s: %w", h.Name(), err)
	}
	return nil
}

// save writes what is known now, this store's file first: it holds Java's bytes
// as they are and as they will be, and so counts at every moment between.
func (f *checkpointFile) save(c checkpoint, java javaCheckpoint) error {
	c.seq = f.now.seq + 1
	c.before, c.java, c.javaNow = f.now.java, f.now.java, java
	java.write(c.java[:])
	failpoint.Hit("checkpoint")
	var b [ownSize]byte
	c.write(b[:])
	if err := writeSync(f.own, b[:], c.seq%2*ownPlace); err != nil {
		return err
	}
	f.now.seq = c.seq
	if c.java != f.now.java {
		if err := writeSync(f.java, c.java[:javaTimes], 0); err != nil {
			return err
		}
	}
	f.now, f.written = c, true
	f.savedLog.Store(min(c.log, c.queue))
	return nil
}

func writeSync(h segment.Handle, b []byte, at int64) error {
	if _, err := h.WriteAt(b, at); err != nil {
		return err
	}
	return h.Sync()
}

func (f *checkpointFile) close() error {
	var err error
	for _, h := range []segment.Handle{f.java, f.own} {
		if h != nil {
			err = errors.Join(err, h.Close())
		}
	}
	f.java, f.own = nil, nil
	return err
}

// flushQueues makes the queues and the index durable as far as they are now and
// writes the checkpoints, once each FlushQueueInterval. An error ends the store.
func (s *Store) flushQueues(ctx context.Context) error {
	if s.failed.Load() != nil {
		return nil
	}
	if err := s.saveCheckpoint(ctx, false); err != nil {
		s.fail(fmt.Errorf("the queues or the checkpoint could not be made durable: %w", err))
	}
	return nil
}

// saveCheckpoint syncs the queues and the index and writes down what is durable.
// With last set everything is, and the store is being closed.
func (s *Store) saveCheckpoint(ctx context.Context, last bool) error {
	s.saving.Lock()
	defer s.saving.Unlock()
	seen, err := s.syncQueues(ctx)
	if err != nil {
		return err
	}
	end := seen.end
	c := checkpoint{queue: end, count: seen.count, last: seen.last, start: s.MinOffset(), clean: last}
	java := s.checkpoint.now.javaNow
	if s.o.IndexEnabled {
		durable, safe, err := s.index.flush(last)
		if err != nil {
			return err
		}
		c.index = durable
		if safe > 0 {
			java.index = safe
		}
	}
	// The queues must not be ahead of the log; the flusher is there soon.
	if s.Durable.Load() < end {
		wait, cancel := context.WithTimeout(ctx, s.o.FlushInterval+time.Second)
		err := s.Durable.Wait(wait, end)
		cancel()
		if err != nil {
			return s.undirty(ctx, err)
		}
	}
	java.log = max(java.log, s.durableTime.Load())
	java.queue = max(java.queue, seen.time)
	c.log = s.Durable.Load()
	// What is cut off the log must not count as indexed once other records lie there.
	c.index = min(c.index, c.log)
	now := &s.checkpoint.now
	if s.checkpoint.written && !last && c.log == now.log && c.queue == now.queue && c.index == now.index && c.start == now.start && c.count == now.count {
		return nil
	}
	return s.checkpoint.save(c, java)
}

// undirty is how saveCheckpoint ends that could not wait for the log: what was
// synced needs no second time, the next checkpoint will say so.
func (s *Store) undirty(ctx context.Context, err error) error {
	if errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil || s.failed.Load() != nil {
		return nil
	}
	return err
}

// syncQueues makes the queues durable for all records below the horizon that it
// returns.
func (s *Store) syncQueues(ctx context.Context) (seen horizon, err error) {
	h := &s.hand
	h.mu.Lock()
	dirty, names := h.dirty, h.names
	h.dirty, h.names = nil, nil
	type part struct{ from, to int64 }
	parts := make([]part, len(dirty))
	for i, q := range dirty {
		parts[i] = part{q.dirtyMin, q.max.Load()}
		q.dirty = false
	}
	for _, q := range names {
		q.newName = false
	}
	seen = h.horizon
	h.mu.Unlock()
	for i, q := range dirty {
		if q.gone.Load() {
			continue
		}
		if err := q.sync(parts[i].from, parts[i].to); err != nil && !q.gone.Load() {
			return horizon{}, err
		}
	}
	return seen, s.syncNames(ctx, names)
}

// syncNames makes the names of new queue files durable, and of the directories
// above them.
func (s *Store) syncNames(ctx context.Context, names []*Queue) error {
	if len(names) == 0 {
		return nil
	}
	topics := map[string]bool{}
	for _, q := range names {
		dirs := []string{q.dir()}
		if !topics[q.topic] {
			topics[q.topic] = true
			dirs = append(dirs, s.topicDir(q.topic))
		}
		for _, d := range dirs {
			if err := s.syncDir(ctx, d); err != nil && !(q.gone.Load() && errors.Is(err, fs.ErrNotExist)) {
				return err
			}
		}
	}
	return s.syncDir(ctx, s.o.ConsumeQueueDir)
}

// syncDir is FS.SyncDir that waits for a descriptor while there is none: what is
// only not durable yet is no damage, and whoever holds them may be a stranger.
func (s *Store) syncDir(ctx context.Context, dir string) error {
	for said := false; ; said = true {
		ended := ctx.Err() != nil // then this is the last try
		err := s.o.FS.SyncDir(dir)
		if ended || !errors.Is(err, syscall.EMFILE) && !errors.Is(err, syscall.ENFILE) {
			return err
		}
		if !said {
			s.zlog.Error("too few descriptors for the store, the queues' checkpoint waits: raise the limit (ulimit -n, LimitNOFILE)", zap.Error(err))
		}
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
}
