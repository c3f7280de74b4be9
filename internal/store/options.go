package store

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"gomq/internal/message"
	"gomq/internal/store/segment"
)

// Options say where a store lies, how large its files are and what an answer
// may wait for. The zero value of everything but Root means the default of
// RocketMQ 4.9.8 (store.md section 1).
type Options struct {
	Root            string // data directory; holds the lock, both checkpoints and the abort marker
	CommitLogDir    string // default Root/commitlog
	ConsumeQueueDir string // default Root/consumequeue
	IndexDir        string // default Root/index
	CheckpointFile  string // default Root/checkpoint; gomq's own lies beside it with the ending .gomq
	AbortFile       string // default Root/abort

	CommitLogFileSize    int64 // bytes, default 1 GiB; the files of an existing store win
	ConsumeQueueFileSize int64 // bytes, rounded up to a multiple of 20, default 6,000,000; the files of an existing store win

	SyncFlush          bool          // SYNC_FLUSH: nothing is visible or acknowledged before it is on the disk
	WriteWithoutMmap   *bool         // true: one pwrite a batch; false: copy into the mapping; nil: pwrite under SyncFlush
	FlushInterval      time.Duration // ASYNC_FLUSH: pause between two flushes of the log, default 500 ms
	FlushQueueInterval time.Duration // pause between two flushes of the queues with a checkpoint, default 1 s
	SyncFlushTimeout   time.Duration // default deadline of a waiter that has none, default 5 s
	MaxMessageSize     int           // bytes of a body, default 4 MiB; a record may be 64 KiB larger

	IndexEnabled    bool
	MaxHashSlots    int // default 5,000,000
	MaxIndexEntries int // default 20,000,000

	DeleteWhen           string        // hours of the day, local time, separated by ';', default "04"
	FileReserved         time.Duration // age at which a log file may go, default 72 h
	DiskMaxUsedPct       int           // above it files past their age go at any hour; 10..95, default 75
	DiskCleanForciblyPct int           // above it the oldest files go whatever their age; default 85
	DiskWarningPct       int           // above it no message is taken; default 90
	NoForcedClean        bool          // nothing goes before its age
	RetentionInterval    time.Duration // pause between two looks at what may go, default 10 s
	DeleteInterval       time.Duration // pause between two deletions of log files, default 100 ms

	// MaxMappedQueues bounds how many queue files are mapped at a time, default
	// 16,000 (a quarter of the usual vm.max_map_count).
	MaxMappedQueues int

	// TagsCode is asked once for each queue when it is first used. What it
	// returns computes the code that the entries of this queue carry from the
	// finished record (store time included); nil means the hash of TAGS. The
	// schedule topic needs it: its entries carry the due time.
	TagsCode func(topic string) func(message.Record) int64

	Now func() time.Time // default time.Now
	FS  segment.FS       // default the real disk
}

const (
	defaultLogFileSize   = 1 << 30
	defaultQueueFileSize = 6_000_000
	minLogFileSize       = 4096
)

// withDefaults fills in what is not set and refuses what cannot be.
func (o Options) withDefaults() (Options, error) {
	if o.Root == "" {
		return o, errors.New("store: no root directory given (storePathRootDir)")
	}
	path := func(p *string, name string) {
		if *p == "" {
			*p = filepath.Join(o.Root, name)
		}
	}
	path(&o.CommitLogDir, "commitlog")
	path(&o.ConsumeQueueDir, "consumequeue")
	path(&o.IndexDir, "index")
	path(&o.CheckpointFile, "checkpoint")
	path(&o.AbortFile, "abort")
	orInt(&o.CommitLogFileSize, defaultLogFileSize)
	orInt(&o.ConsumeQueueFileSize, defaultQueueFileSize)
	orInt(&o.FlushInterval, 500*time.Millisecond)
	orInt(&o.FlushQueueInterval, time.Second)
	orInt(&o.SyncFlushTimeout, 5*time.Second)
	orInt(&o.MaxMessageSize, 4<<20)
	orInt(&o.MaxHashSlots, 5_000_000)
	orInt(&o.MaxIndexEntries, 20_000_000)
	orInt(&o.MaxMappedQueues, 16_000)
	o.retentionDefaults()
	if _, err := o.retention(); err != nil {
		return o, err
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.FS == nil {
		o.FS = segment.Disk{}
	}
	o.ConsumeQueueFileSize = (o.ConsumeQueueFileSize + unitSize - 1) / unitSize * unitSize
	if o.CommitLogFileSize < minLogFileSize {
		return o, fmt.Errorf("store: mappedFileSizeCommitLog=%d is below the least of %d bytes", o.CommitLogFileSize, minLogFileSize)
	}
	return o, nil
}

// retentionDefaults fills in what decides about deletion.
func (o *Options) retentionDefaults() {
	if o.DeleteWhen == "" {
		o.DeleteWhen = "04"
	}
	orInt(&o.FileReserved, 72*time.Hour)
	orInt(&o.DiskMaxUsedPct, 75)
	o.DiskMaxUsedPct = min(max(o.DiskMaxUsedPct, 10), 95)
	orInt(&o.DiskCleanForciblyPct, 85)
	orInt(&o.DiskWarningPct, 90)
	orInt(&o.RetentionInterval, 10*time.Second)
	orInt(&o.DeleteInterval, 100*time.Millisecond)
}

// withoutMmap says which of the two writers appends to the log.
func (o *Options) withoutMmap() bool {
	if o.WriteWithoutMmap != nil {
		return *o.WriteWithoutMmap
	}
	return o.SyncFlush
}

func orInt[T ~int | ~int64](p *T, d T) {
	if *p <= 0 {
		*p = d
	}
}
