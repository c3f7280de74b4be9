package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"strconv"
	"sync/atomic"

	"gomq/internal/message"
	"gomq/internal/store/segment"
)

const (
	// unitSize is the length of a queue entry (store.md section 4): log offset
	// i64, record size i32, tags code i64, big endian.
	unitSize = 20
	// blankSize is what a filler at the end of a log file takes at least.
	blankSize = 8
	// blankUnit is the size in an entry that only fills a place: the queue began
	// to be kept at a later one (ConsumeQueue of 4.9.8, fillPreBlank).
	blankUnit = math.MaxInt32

	// Blocks of a queue file are allocated in steps that double from least to most.
	leastBlocks = 4 << 10
	mostBlocks  = 1 << 20
)

// errNoEntry is returned for a queue offset that has no entry.
var errNoEntry = errors.New("no entry at this offset of the queue")

// unit is an entry of a queue.
type unit struct {
	offset int64 // in the log
	size   int32
	tags   int64
}

// valid says whether there is an entry at all: places never written are zeros.
func (u unit) valid() bool { return u.offset >= 0 && u.size > 0 }

// blank says whether the entry only fills a place.
func (u unit) blank() bool { return u.size == blankUnit }

func readUnit(b []byte) unit {
	_ = b[unitSize-1]
	return unit{
		offset: int64(binary.BigEndian.Uint64(b)),
		size:   int32(binary.BigEndian.Uint32(b[8:])),
		tags:   int64(binary.BigEndian.Uint64(b[12:])),
	}
}

func (u unit) write(b []byte) {
	_ = b[unitSize-1]
	binary.BigEndian.PutUint64(b, uint64(u.offset))
	binary.BigEndian.PutUint32(b[8:], uint32(u.size))
	binary.BigEndian.PutUint64(b[12:], uint64(u.tags))
}

// Queue is a message queue: the places of its messages in the log, in order. One
// that is not used takes little memory; its files are opened when they are first
// needed.
type Queue struct {
	s       *Store
	topic   string
	id      int32
	keyHash int32 // of "topic#", with which the index hashes of keys begin

	min, max atomic.Int64 // what readers see
	files    atomic.Pointer[segment.List]
	found    segment.Found // on the disk when the store was opened

	noted atomic.Bool // in the list of those that have grown
	gone  atomic.Bool // dropped

	tagsOf func(message.Record) int64 // of the entry; nil = the hash of TAGS

	// Guarded by the put lock.
	next   int64 // offset of the next message
	blocks int64 // bytes below which the files have blocks

	// Guarded by Store.hand.mu.
	dirty    bool
	dirtyMin int64 // entries from here on are not synced
	newName  bool  // files were created since the last sync
}

// Topic is the queue's topic.
func (q *Queue) Topic() string { return q.topic }

// ID is the queue's number within its topic.
func (q *Queue) ID() int32 { return q.id }

// Min is the offset of the first message that is there; equal to Max if there
// is none.
func (q *Queue) Min() int64 { return q.min.Load() }

// Max is one more than the offset of the last message that can be read.
func (q *Queue) Max() int64 { return q.max.Load() }

func (q *Queue) dir() string {
	return filepath.Join(q.s.o.ConsumeQueueDir, q.topic, strconv.Itoa(int(q.id)))
}

func (q *Queue) String() string { return q.topic + "/" + strconv.Itoa(int(q.id)) }

// list is the queue's files.
func (q *Queue) list() *segment.List {
	if l := q.files.Load(); l != nil {
		return l
	}
	l := segment.NewList(q.s.queueFiles, q.dir(), q.found)
	if !q.files.CompareAndSwap(nil, l) {
		return q.files.Load()
	}
	return l
}

// code is the tags code that the queue's entry for r carries; tags is the hash of
// its TAGS.
func (q *Queue) code(r message.Record, tags int64) int64 {
	if q.tagsOf == nil {
		return tags
	}
	return q.tagsOf(r)
}

// reserve makes sure that the entries below end can be written: their files are
// there and have blocks. Held: the put lock.
func (q *Queue) reserve(end int64) error {
	if end*unitSize <= q.blocks {
		return nil
	}
	return q.reserveSlow(end * unitSize)
}

func (q *Queue) reserveSlow(need int64) error {
	l := q.list()
	if l.Len() == 0 {
		if err := q.begin(l, need/unitSize-1); err != nil {
			return err
		}
	}
	for q.blocks < need {
		if q.blocks >= l.End() {
			if err := q.create(l, l.End()); err != nil {
				return err
			}
			continue
		}
		f := l.Find(q.blocks)
		from := f.Base() + (q.blocks-f.Base())/leastBlocks*leastBlocks
		to := min(from+min(max(q.blocks-f.Base(), leastBlocks), mostBlocks), f.End())
		if err := f.Allocate(from, to); err != nil {
			return err
		}
		q.blocks = to
	}
	return nil
}

// begin creates the first file of a queue whose first entry is to be number off;
// the places before it in the file are filled, as the original does.
func (q *Queue) begin(l *segment.List, off int64) error {
	if err := q.s.fs.MkdirAll(q.dir()); err != nil {
		return err
	}
	base := off * unitSize / l.FileSize() * l.FileSize()
	if err := q.create(l, base); err != nil {
		return err
	}
	f := l.Last()
	if fill := off*unitSize - base; fill > leastBlocks {
		if err := f.Allocate(base, off*unitSize); err != nil {
			return err
		}
		q.blocks = off * unitSize
	}
	if err := f.Acquire(); err != nil {
		return err
	}
	defer f.Release()
	return segment.Guard(func() error {
		b := f.Bytes()
		for at := base; at < off*unitSize; at += unitSize {
			unit{size: blankUnit}.write(b[at-base:])
		}
		return nil
	})
}

// create adds the file that begins at base.
func (q *Queue) create(l *segment.List, base int64) error {
	f, err := l.Create(base, false, leastBlocks)
	if err != nil {
		return err
	}
	// Mapped while the descriptor is at hand, which then is not needed any more.
	if err := f.Acquire(); err != nil {
		return errors.Join(err, l.Discard(f))
	}
	f.Seal()
	f.Release()
	l.Add(f)
	q.blocks = min(base+leastBlocks, f.End())
	q.s.noteName(q)
	return nil
}

// put writes the entry at offset off, for which reserve has made room. Inside
// Guard; an error or a fault is the end of the store.
func (q *Queue) put(off int64, u unit) error {
	f := q.files.Load().Find(off * unitSize)
	if f == nil {
		return errNoEntry // dropped
	}
	if err := f.Acquire(); err != nil {
		return err
	}
	u.write(f.Bytes()[off*unitSize-f.Base():])
	f.Release()
	return nil
}

// entry reads the entry at offset off. Errors: errNoEntry outside of [Min, Max),
// and those of the disk.
func (q *Queue) entry(off int64) (logOffset int64, size int32, tags int64, err error) {
	if off < q.min.Load() || off >= q.max.Load() {
		return 0, 0, 0, fmt.Errorf("%s at %d: %w", q, off, errNoEntry)
	}
	u, err := q.unitAt(off)
	return u.offset, u.size, u.tags, err
}

// unitAt reads the place of an entry, written or not.
func (q *Queue) unitAt(off int64) (unit, error) {
	f := q.list().Find(off * unitSize)
	if f == nil {
		return unit{}, fmt.Errorf("%s at %d: %w", q, off, errNoEntry)
	}
	var b [unitSize]byte
	if err := f.ReadAt(b[:], off*unitSize); err != nil {
		return unit{}, err
	}
	return readUnit(b[:]), nil
}

// dropBelow removes the files whose last entry lies below logMin in the log, and
// sets Min to the first entry that does not. A file stays until the one after it
// is known to be on the disk with an entry: it alone says where the queue goes on.
func (q *Queue) dropBelow(logMin int64) error {
	l := q.list()
	for l.Len() > 1 {
		f := l.Files()[0]
		end := f.End() / unitSize
		if end >= q.max.Load() {
			break // its entries, or the next one, are perhaps being written
		}
		u, err := q.unitAt(end - 1)
		if err != nil {
			return err
		}
		if !u.valid() || u.offset >= logMin {
			break
		}
		next, err := q.unitAt(end)
		if err != nil {
			return err
		}
		if next.offset >= q.s.checkpoint.savedLog.Load() {
			break
		}
		// Readers are sent beyond the file before it goes.
		q.raiseMin(end)
		if err := l.DropFirst(); err != nil {
			return err
		}
	}
	return q.correctMin(logMin)
}

func (q *Queue) raiseMin(n int64) {
	if n > q.min.Load() {
		q.min.Store(n)
	}
}

// correctMin sets Min to the first entry of a message that lies at or behind
// logMin in the log.
func (q *Queue) correctMin(logMin int64) error {
	lo, err := q.search(max(q.min.Load(), q.list().Start()/unitSize), q.max.Load(), logMin)
	if err != nil {
		return err
	}
	q.raiseMin(min(lo, q.max.Load()))
	return nil
}

// search finds the first entry in [lo, hi) of a message that lies at or behind off
// in the log, hi if there is none; the entries' log offsets rise, places without
// an entry count as low.
func (q *Queue) search(lo, hi, off int64) (int64, error) {
	for lo < hi {
		mid := lo + (hi-lo)/2
		u, err := q.unitAt(mid)
		if err != nil {
			return 0, err
		}
		if !u.valid() || u.blank() || u.offset < off {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo, nil
}

// sync makes the entries [from, end) durable.
func (q *Queue) sync(from, end int64) error {
	l := q.list()
	for at, to := from*unitSize, end*unitSize; at < to; {
		f := l.Find(at)
		if f == nil { // dropped by age meanwhile, or with its topic
			start := l.Start()
			if start <= at {
				return nil
			}
			at = start
			continue
		}
		stop := min(to, f.End())
		err := f.Acquire()
		if err == nil {
			err = f.SyncAside(at, stop)
			f.Release()
		}
		if errors.Is(err, segment.ErrGone) {
			err = nil
		}
		if err != nil {
			return err
		}
		at = stop
	}
	return nil
}
