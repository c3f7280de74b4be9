// Package store is the message store of a broker: the log of all messages, the
// queues that point into it, the index by key, and their recovery. Its files are
// those of RocketMQ 4.9, byte for byte.
package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"gomq/internal/store/segment"
	"gomq/internal/task"
	"gomq/internal/watermark"
)

// maxMappedLogs bounds how many log files are mapped at a time.
const maxMappedLogs = 4096

// drainIndex bounds how long Close lets the indexer catch up; the rest is done
// when the store is opened again.
const drainIndex = 5 * time.Second

// Store is the message store of a broker.
type Store struct {
	o           Options
	fs          segment.FS
	zlog        *zap.Logger
	group       *task.Group
	metrics     *metrics
	withoutMmap bool
	unlock      func() error
	hotLog      int64 // hotBytes; a test may want everything to be cold
	hotQueue    int64 // hotEntries
	scanDisk    int64 // scanDisk
	clean       bool  // it had been closed when it was opened

	// Appended, Durable, Dispatched and Indexed are log offsets that rise: what is
	// in the log, what is on the disk, what readers see, what is found by key.
	// Appended is raised under the put lock, Durable by the flusher, Dispatched by
	// either (ASYNC_FLUSH, SYNC_FLUSH), Indexed by the indexer.
	Appended, Durable, Dispatched, Indexed *watermark.Mark

	put         sync.Mutex // the put lock: one batch at a time is appended
	heldSince   atomic.Int64
	tail        tail
	short       bool  // messages are refused for want of room; guarded by put
	lastRecord  int64 // offset of the last record, -1 = none; guarded by put
	closing     atomic.Bool
	lastTime    atomic.Int64 // store time of the last record appended
	durableTime atomic.Int64 // ... of one that is durable, and not of a later one

	log        *segment.List
	ahead      *segment.Ahead
	queueFiles *segment.Options
	queues     queueTable
	raw        rawBatch // guarded by put
	index      *index
	hand       handover
	shower     shower
	retain     retention
	checkpoint *checkpointFile
	saving     sync.Mutex // one checkpoint at a time

	indexWake, indexNow wake
	onArrive            atomic.Pointer[func(q *Queue, max int64)]
	diskFull            atomic.Pointer[RefusedError]
	failed              atomic.Pointer[error]
	failedCh            chan struct{}
}

// Open opens or creates the store and recovers it. It holds the lock of the root
// until Close. Errors: *DamageError, when what was on the disk is not there any
// more; an error that names the process that holds the lock, the file that does
// not belong there, or the kind of store that this is not.
//
// reg and log may be nil. ctx ends the opening; an open store ends with Close.
func Open(ctx context.Context, o Options, log *zap.Logger, reg prometheus.Registerer) (*Store, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	if log == nil {
		log = zap.NewNop()
	}
	s := &Store{o: o, fs: o.FS, zlog: log, failedCh: make(chan struct{}), withoutMmap: o.withoutMmap(),
		hotLog: hotBytes, hotQueue: hotEntries, scanDisk: scanDisk, indexWake: make(wake, 1), indexNow: make(wake, 1)}
	s.queues.topics = map[string][]*Queue{}
	s.shower.s = s
	s.hand.limit, s.hand.lost, s.hand.keptLost = maxHanded, -1, -1
	s.queueFiles = &segment.Options{FS: o.FS, Size: o.ConsumeQueueFileSize, Maps: segment.NewMaps(o.MaxMappedQueues), Random: true}
	if err := s.lock(); err != nil {
		return nil, err
	}
	start := time.Now()
	if err := s.load(ctx); err != nil {
		s.closeFiles()
		return nil, errors.Join(err, s.unlock())
	}
	if s.metrics, err = newMetrics(s, reg, time.Since(start)); err != nil {
		s.closeFiles()
		return nil, errors.Join(err, s.unlock())
	}
	s.start(ctx)
	return s, nil
}

// start starts the store's goroutines.
func (s *Store) start(ctx context.Context) {
	s.group = task.NewGroup(context.WithoutCancel(ctx), s.zlog, func(name string, err error) {
		s.fail(fmt.Errorf("%s: %w", name, err))
	})
	s.group.Go("log flusher", s.flushing)
	s.group.Go("dispatcher", s.dispatch)
	s.group.Go("indexer", s.indexing)
	s.group.Go("preallocator", s.preallocating)
	s.group.Every("queue flusher", s.o.FlushQueueInterval, s.flushQueues)
	s.group.Every("waiters' deadlines", 100*time.Millisecond, s.expire)
	s.startRetention()
	s.ahead.Wish()
}

// preallocating makes log files ahead of need. What fails is tried again by who
// needs the file, and each second.
func (s *Store) preallocating(ctx context.Context) error {
	said := false
	for {
		select {
		case <-s.ahead.Want():
		case <-ctx.Done():
			return nil
		}
		for {
			err := s.ahead.Make()
			if err == nil {
				said = false
				break
			}
			if !said {
				said = true
				s.zlog.Warn("the next log file cannot be made yet", zap.Error(err))
			}
			if !s.pause(ctx, time.Second, nil) {
				return nil
			}
		}
	}
}

func (s *Store) path(name string) string      { return filepath.Join(s.o.Root, name) }
func (s *Store) topicDir(topic string) string { return filepath.Join(s.o.ConsumeQueueDir, topic) }

// lock takes the store's lock and writes down who holds it.
func (s *Store) lock() error {
	if err := s.makeDir(s.o.Root); err != nil {
		return err
	}
	// Perhaps it was made by a process that was killed before it could do this. Who
	// may not read the directory above did not make the root.
	if err := s.fs.SyncDir(filepath.Dir(s.o.Root)); err != nil && !errors.Is(err, fs.ErrPermission) {
		return err
	}
	l, err := s.fs.Lock(s.path("lock"))
	if errors.Is(err, segment.ErrLocked) {
		who := "another process (it left no number: perhaps a Java broker)"
		if pid := s.lockOwner(); pid != "" {
			who = "process " + pid
		}
		return fmt.Errorf("the store %s is locked by %s: stop it, or set storePathRootDir to another directory", s.o.Root, who)
	}
	if err != nil {
		return err
	}
	s.unlock = l.Close
	err = s.writeFile("lock", "lock")
	if err == nil {
		err = s.writeFile("lock.pid", strconv.Itoa(os.Getpid()))
	}
	if err != nil {
		return errors.Join(err, s.unlock())
	}
	return nil
}

func (s *Store) lockOwner() string {
	h, err := s.fs.OpenFile(s.path("lock.pid"), os.O_RDONLY)
	if err != nil {
		return ""
	}
	defer h.Close()
	var b [20]byte
	n, _ := h.ReadAt(b[:], 0)
	return strings.TrimSpace(string(b[:n]))
}

func (s *Store) writeFile(name, text string) error {
	h, err := s.fs.OpenFile(s.path(name), os.O_RDWR|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return err
	}
	_, err = h.WriteAt([]byte(text), 0)
	return errors.Join(err, h.Close())
}

// fail ends the store: nothing is taken or called durable any more. Only the
// first failure counts.
func (s *Store) fail(err error) {
	if !s.failed.CompareAndSwap(nil, &err) {
		return
	}
	s.zlog.Error("the store has failed and takes nothing more; what was acknowledged is as safe as the disk kept it", zap.Error(err))
	for _, m := range []*watermark.Mark{s.Durable, s.Dispatched, s.Indexed, s.Appended} {
		m.Fail(err)
	}
	close(s.failedCh)
}

// Failed is closed when the store has failed: an error of the disk under the log
// or the queues. The process should end.
func (s *Store) Failed() <-chan struct{} { return s.failedCh }

// Err is what the store failed with, nil if it has not.
func (s *Store) Err() error {
	if e := s.failed.Load(); e != nil {
		return *e
	}
	return nil
}

// CheckWritable returns a *RefusedError while the store takes no messages.
func (s *Store) CheckWritable() error {
	if err := s.Err(); err != nil {
		return &RefusedError{Cause: CauseFailed, Err: err}
	}
	if s.closing.Load() {
		return &RefusedError{Cause: CauseClosing}
	}
	if full := s.diskFull.Load(); full != nil {
		return full
	}
	return nil
}

// setDiskFull makes the store refuse messages, or take them again.
func (s *Store) setDiskFull(full bool, path string, used, limit uint64) {
	if !full {
		s.diskFull.Store(nil)
		return
	}
	s.diskFull.Store(&RefusedError{Cause: CauseDiskFull, Path: path, Used: used, Limit: limit})
}

// LockHeld is how long the put lock has been held by who holds it now; 0 if
// nobody does.
func (s *Store) LockHeld() time.Duration {
	since := s.heldSince.Load()
	if since == 0 {
		return 0
	}
	return max(0, s.o.Now().Sub(time.Unix(0, since)))
}

// OnArrive sets who is told that a queue has grown, on the store's dispatcher
// goroutine: it must not block. Several messages may be told of at once.
func (s *Store) OnArrive(fn func(q *Queue, max int64)) { s.onArrive.Store(&fn) }

// MinOffset is the first offset of the log.
func (s *Store) MinOffset() int64 { return s.log.Start() }

// MaxOffset is the end of the log.
func (s *Store) MaxOffset() int64 { return s.Appended.Load() }

// Close ends the store: nothing is taken any more, everything appended becomes
// durable and visible, the checkpoint is written and the abort marker removed. If
// that does not succeed the marker stays and the error says why; the next Open
// recovers. It returns what the store failed with if it has failed. Readers must
// have released their views.
func (s *Store) Close() error {
	s.put.Lock()
	again := s.closing.Swap(true)
	s.put.Unlock()
	if again {
		return ErrClosed
	}
	s.group.Stop()
	err := s.Err()
	if err == nil {
		if err = s.finish(); err != nil {
			s.fail(err)
		}
	}
	s.closeFiles()
	gone := ErrClosed
	if err != nil {
		gone = err
	}
	for _, m := range []*watermark.Mark{s.Appended, s.Durable, s.Dispatched, s.Indexed} {
		m.Fail(gone)
	}
	return errors.Join(err, s.fs.Remove(s.path("lock.pid")), s.unlock())
}

// finish makes everything durable and says so on the disk. The store's
// goroutines have ended.
func (s *Store) finish() error {
	if err := s.flushNow(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), drainIndex)
	defer cancel()
	var in indexBatch
	for more := true; more; {
		var err error
		if more, err = s.indexSome(ctx, &in); err != nil {
			if ctx.Err() == nil && !isShortage(err) {
				return fmt.Errorf("the index: %w", err)
			}
			break // the next Open goes on where this ended
		}
		more = more || s.Indexed.Load() < s.Dispatched.Load()
	}
	if err := s.ahead.Close(); err != nil {
		return err
	}
	if err := s.cutFiles(s.Appended.Load()); err != nil {
		return err
	}
	if err := s.saveCheckpoint(ctx, true); err != nil {
		return err
	}
	if err := s.fs.Remove(s.o.AbortFile); err != nil {
		return err
	}
	return s.fs.SyncDir(filepath.Dir(s.o.AbortFile))
}

// closeFiles lets go of all files.
func (s *Store) closeFiles() {
	if s.tail.f != nil {
		s.tail.f.Release()
		s.tail.f = nil
	}
	if s.log != nil {
		s.log.Close()
	}
	for _, q := range s.Queues() {
		if l := q.files.Load(); l != nil {
			l.Close()
		}
	}
	if s.index != nil {
		s.index.close()
	}
	if s.checkpoint != nil {
		s.checkpoint.close()
	}
}
