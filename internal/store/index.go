package store

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"gomq/internal/store/segment"
)

const (
	defaultHashSlots    = 5_000_000
	defaultIndexEntries = 20_000_000
)

// index finds records by the hash of a key: files of hash slots and chained
// entries, byte for byte those of Java (indexfile.go). It is derived from the log:
// a file that makes no sense is deleted with one line in the log, and its keys are
// put again from end() on.
//
// One goroutine puts, one (the checkpoint's) flushes, any number finds.
//
// At start, before anything is appended to the log: openIndex, then trim or
// trimTime after an unclean stop and known after a clean one, truncate, and the
// records from end() on are put again.
type index struct {
	fs   segment.FS
	dir  string
	want indexShape // of the files to come
	now  func() time.Time
	log  *zap.Logger

	flushing sync.Mutex // one flush at a time, no file goes meanwhile; before mu

	mu    sync.Mutex   // guards the rest
	files []*indexFile // oldest first; replaced, never changed, so that find can keep it

	lastOffset int64    // of the record with the newest entry, -1 = none
	lastKeys   int      // entries that it has
	done       int64    // records below this offset have been put completely
	doomed     []string // files that cannot be index files, and those after them, oldest first; see bury
	why        string   // the first of them cannot

	// What run puts; fields so that nothing is allocated for a put.
	file   *indexFile
	offset int64
	time   int64
	hashes []int32
	run    func() error

	touchSlots func() error // see warm
	seen       byte
}

// openIndex lists the files in dir, which need not be there, and changes nothing.
// Files that cannot be index files are passed over, with those after them, until
// bury deletes them. An error says that the directory cannot be used.
func openIndex(fsys segment.FS, dir string, slots, entries int, now func() time.Time, log *zap.Logger) (*index, error) {
	if slots < 1 || slots > maxIndexSlots || entries < 2 || entries > maxIndexKeys {
		return nil, errors.New("store: maxHashSlotNum must be between 1 and 2^28 and maxIndexNum between 2 and 2^30")
	}
	x := &index{fs: fsys, dir: dir, want: indexShape{int32(slots), int32(entries)}, now: now, log: log, lastOffset: -1}
	x.run = func() error { x.file.put(x.offset, x.time, x.hashes); return nil }
	x.touchSlots = func() error {
		for _, hash := range x.hashes {
			x.seen ^= x.file.b[x.file.slotAt(hash)]
		}
		return nil
	}
	names, err := fsys.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range names {
		number, err := strconv.ParseInt(e.Name, 10, 64)
		if err != nil || number < 0 || e.Dir {
			continue // not ours, as for Java
		}
		path := filepath.Join(dir, e.Name)
		if x.why == "" {
			var before indexShape
			if len(x.files) > 0 {
				before = x.newest().indexShape
			}
			f, err := openIndexFile(fsys, path, number, e.Size, x.want, before)
			if err == nil && len(x.files) > 0 && f.h.endOffset < x.newest().h.endOffset {
				err = errors.New("its records lie before those of the file before it")
			}
			if err == nil {
				x.files = append(x.files, f)
				continue
			}
			x.why = err.Error()
		}
		x.doomed = append(x.doomed, path)
	}
	if n := len(x.files); n > 0 && x.newest().indexShape != x.want {
		x.want = x.newest().indexShape
		log.Info("the index goes on in the shape of its files, not in the configured one",
			zap.String("file", x.newest().path), zap.Int32("maxHashSlotNum", x.want.slots), zap.Int32("maxIndexNum", x.want.max))
	}
	return x, x.findEnd()
}

func (x *index) newest() *indexFile { return x.files[len(x.files)-1] }

// bury deletes the files that openIndex passed over, the first of them last and
// each step durably: as long as any is there, the next start finds that first one
// and knows that keys are missing. After an unclean stop it makes durable also
// what a start that was killed has deleted.
func (x *index) bury(clean bool) error {
	if len(x.doomed) == 0 {
		if clean {
			return nil
		}
		if err := x.fs.SyncDir(x.dir); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	for _, path := range x.doomed[1:] {
		if err := x.remove(path, x.why); err != nil {
			return err
		}
	}
	if err := x.fs.SyncDir(x.dir); err != nil {
		return err
	}
	if err := x.remove(x.doomed[0], x.why); err != nil {
		return err
	}
	return x.fs.SyncDir(x.dir)
}

// remove deletes a file that cannot be trusted.
func (x *index) remove(path, why string) error {
	x.log.Warn("an index file is deleted, its keys are read from the log again", zap.String("file", path), zap.String("why", why))
	return x.fs.Remove(path)
}

// cut deletes the files from number n on and makes that durable.
func (x *index) cut(n int, why string) error {
	if n == len(x.files) {
		return nil
	}
	for _, f := range x.files[n:] {
		if err := x.remove(f.path, why); err != nil {
			return err
		}
	}
	x.files = slices.Clone(x.files[:n])
	return x.fs.SyncDir(x.dir)
}

// findEnd finds the record that the newest entry belongs to and how many it has.
func (x *index) findEnd() error {
	x.lastOffset, x.lastKeys = -1, 0
	for i := len(x.files) - 1; i >= 0; i-- {
		f := x.files[i]
		if f.h.count == 1 {
			continue
		}
		if x.lastOffset >= 0 && f.h.endOffset != x.lastOffset {
			break
		}
		x.lastOffset = f.h.endOffset
		whole, err := x.countLast(f)
		if err != nil {
			return err
		}
		if !whole {
			break
		}
	}
	x.done = max(x.lastOffset, 0)
	return nil
}

// countLast counts the entries of the last record at the end of a file; whole
// says that the file has no other.
func (x *index) countLast(f *indexFile) (whole bool, err error) {
	r, err := x.fs.OpenFile(f.path, os.O_RDONLY)
	if err != nil {
		return false, err
	}
	defer r.Close()
	const step = 256
	for to := f.h.count; to > 1; {
		from, run := max(to-step, 1), 0
		err := readIndexEntries(r, f.indexShape, from, to, func(n int32, e *indexEntry) bool {
			if run++; e.offset != x.lastOffset {
				run = 0
			}
			return true
		})
		if err != nil {
			return false, err
		}
		x.lastKeys += run
		if run < int(to-from) {
			return false, nil
		}
		to = from
	}
	return true, nil
}

// end is the log offset from which on records must be put. The record there may
// have been put, or some of its keys: putting it does what is missing.
func (x *index) end() int64 {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.done
}

// known says after a clean stop that all records below offset had been put, so
// that a log without keys need not be read again. When files are missing it has
// no effect: they are made again.
func (x *index) known(offset int64) {
	if len(x.files) > 0 && len(x.doomed) == 0 && offset > x.done {
		x.done = offset
	}
}

// trim is for the start after an unclean stop: entries of records below durable,
// as flush returned it, are on the disk; the rest goes, and the slots are made
// again.
func (x *index) trim(durable int64) error {
	empty := false
	for i, f := range x.files {
		if f.full() && f.h.endOffset < durable {
			continue // was synced whole before flush returned
		}
		empty = f.h.count == 1 || f.h.beginOffset >= durable
		if err := x.rebuild(i, durable); err != nil {
			return err
		}
		if err := x.cut(i+1, "not known to be on the disk before the unclean stop"); err != nil {
			return err
		}
		break
	}
	if err := x.findEnd(); err != nil {
		return err
	}
	if empty && len(x.doomed) == 0 { // and rightly so: there was nothing to put
		x.done = max(x.done, durable)
	}
	return nil
}

func (x *index) rebuild(i int, limit int64) error {
	prev := indexHeader{count: 1}
	if i > 0 {
		prev = x.files[i-1].h
	}
	before := x.files[i].h.count
	err := x.files[i].rebuild(x.fs, limit, prev)
	if err == nil {
		x.log.Info("an index file was checked", zap.String("file", x.files[i].path),
			zap.Int32("entries", before-1), zap.Int32("kept", x.files[i].h.count-1))
	}
	return err
}

// trimTime is Java's rule for the start after an unclean stop without a checkpoint
// of our own: files that end later than ms are deleted.
func (x *index) trimTime(ms int64) error {
	n := slices.IndexFunc(x.files, func(f *indexFile) bool { return f.h.endTime > ms })
	if n < 0 {
		return nil
	}
	if err := x.cut(n, "newer than the checkpoint before the unclean stop"); err != nil {
		return err
	}
	return x.findEnd()
}

// truncate drops what points at or beyond the end of the log.
func (x *index) truncate(logEnd int64) error {
	n := len(x.files)
	for n > 0 && x.files[n-1].h.endOffset >= logEnd && (x.files[n-1].h.beginOffset >= logEnd || n > 1 && x.files[n-2].h.endOffset >= logEnd) {
		n--
	}
	if err := x.cut(n, "it points beyond the end of the log"); err != nil {
		return err
	}
	known := min(x.done, logEnd)
	if n > 0 && x.newest().h.endOffset >= logEnd {
		if err := x.rebuild(n-1, logEnd); err != nil {
			return err
		}
		known = 0
	}
	if err := x.findEnd(); err != nil {
		return err
	}
	if n > 0 {
		x.done = max(x.done, known)
	}
	return nil
}

// put adds the keys of the record at offset; records come in the order of the
// log, those without keys as well. After an error the same record must be put
// again, and no other, which goes on where the error was: ENOSPC passes when
// there is space again, any other error means that the disk fails.
func (x *index) put(offset, storeTime int64, hashes []int32) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if offset < x.done && offset != x.lastOffset {
		return nil
	}
	done := 0
	if offset == x.lastOffset {
		done = min(x.lastKeys, len(hashes))
	}
	if done > 0 && done == len(hashes) {
		if err := x.touch(storeTime); err != nil {
			return err
		}
	}
	if done < len(hashes) || len(x.files) == 0 { // a file is made for a record without keys, too: see known
		if err := x.open(); err != nil {
			return err
		}
	}
	for done < len(hashes) {
		f := x.newest()
		if err := f.reserve(); err != nil {
			return err
		}
		n := min(len(hashes)-done, f.room())
		x.file, x.offset, x.time, x.hashes = f, offset, storeTime, hashes[done:done+n]
		if err := segment.Guard(x.run); err != nil {
			return &os.PathError{Op: "write", Path: f.path, Err: err}
		}
		if x.lastOffset != offset {
			x.lastOffset, x.lastKeys = offset, 0
		}
		done += n
		x.lastKeys += n
		if done < len(hashes) {
			if err := x.open(); err != nil {
				return err
			}
		}
	}
	x.done = max(x.done, offset+1)
	return nil
}

// touch corrects the end time of a file that rebuild has cut: the last record has
// all its keys and is put again. Held: mu.
func (x *index) touch(storeTime int64) error {
	f := x.newest()
	if f.h.count == 1 || f.h.endTime == storeTime {
		return nil
	}
	if f.m == nil {
		if err := f.start(x.fs); err != nil {
			return err
		}
	}
	return segment.Guard(func() error { f.touch(storeTime); return nil })
}

// open sees to it that the newest file is mapped and has room for an entry.
// Held: mu.
func (x *index) open() error {
	if len(x.files) == 0 || x.newest().full() {
		f, err := x.create()
		if err != nil {
			return err
		}
		x.files = append(slices.Clone(x.files), f)
	}
	if f := x.newest(); f.m == nil {
		return f.start(x.fs)
	}
	return nil
}

// create makes the next file.
func (x *index) create() (*indexFile, error) {
	h := indexHeader{count: 1}
	text := strings.Replace(x.now().Local().Format("20060102150405.000"), ".", "", 1)
	number, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return nil, err
	}
	if n := len(x.files); n > 0 {
		h = x.newest().h.next()
		number = max(number, x.newest().number+1) // the names are what orders the files
	} else if err := x.makeDir(); err != nil {
		return nil, err
	}
	return createIndexFile(x.fs, x.dir, number, x.want, h)
}

// makeDir makes the directory, durable with all those above it that it needs.
func (x *index) makeDir() error {
	var made []string
	for dir := x.dir; ; dir = filepath.Dir(dir) {
		if _, err := x.fs.Stat(dir); err == nil || dir == filepath.Dir(dir) {
			break
		}
		made = append(made, dir)
	}
	if err := x.fs.MkdirAll(x.dir); err != nil {
		return err
	}
	for _, dir := range slices.Backward(made) {
		if err := x.fs.SyncDir(filepath.Dir(dir)); err != nil {
			return err
		}
	}
	return nil
}

// flush makes durable what has been put. durable is the log offset below which
// records have been, for trim and known; safeTime is for Java's checkpoint, 0 =
// nothing new. With all set, which is for the end, the slots are made durable,
// too, and safeTime is the time of the last record.
func (x *index) flush(all bool) (durable, safeTime int64, err error) {
	x.flushing.Lock()
	defer x.flushing.Unlock()
	type part struct {
		f      *indexFile
		h      indexHeader
		newest bool
	}
	var parts []part
	x.mu.Lock()
	durable = x.done
	for i, f := range x.files {
		if newest := i == len(x.files)-1; f.m != nil {
			parts = append(parts, part{f, f.h, newest})
		} else if newest && all {
			safeTime = f.h.endTime // untouched since it was opened
		}
	}
	x.mu.Unlock()
	for _, p := range parts {
		whole := all || p.h.count >= p.f.max
		if err := p.f.sync(p.h.count, whole); err != nil {
			return 0, 0, err
		}
		if !whole {
			continue
		}
		safeTime = p.h.endTime
		if p.newest {
			continue // still being written to
		}
		x.mu.Lock()
		err := p.f.stop()
		x.mu.Unlock()
		if err != nil {
			return 0, 0, err
		}
	}
	return durable, safeTime, nil
}

// dropBelow deletes the files all of whose records lie below logMin, but never
// the newest one.
func (x *index) dropBelow(logMin int64) error {
	x.flushing.Lock()
	defer x.flushing.Unlock()
	x.mu.Lock()
	n := 0
	for n < len(x.files)-1 && x.files[n].h.endOffset < logMin {
		n++
	}
	gone := x.files[:n]
	x.files = slices.Clone(x.files[n:])
	x.mu.Unlock()
	for _, f := range gone {
		if err := errors.Join(f.stop(), x.fs.Remove(f.path)); err != nil {
			return err
		}
	}
	if n == 0 {
		return nil
	}
	return x.fs.SyncDir(x.dir)
}

// last is the store time and the offset of the newest record with an entry, 0 if
// there is none.
func (x *index) last() (storeTime, offset int64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.files) == 0 {
		return 0, 0
	}
	return x.newest().h.endTime, x.newest().h.endOffset
}

// span is the store times of the first and the last record, 0 without one.
func (x *index) span() (first, last int64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.files) == 0 {
		return 0, 0
	}
	return x.files[0].h.beginTime, x.newest().h.endTime
}

// close lets the files go; flush comes before.
func (x *index) close() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	var err error
	for _, f := range x.files {
		err = errors.Join(err, f.stop())
	}
	x.files = nil
	return err
}

// find appends to dst the offsets of records that have a key with this hash and
// were stored between begin and end (ms), newest first, until dst holds limit.
// Times are compared with the resolution of the index, a second rounded down; two
// keys can have one hash. That is the original's search (store.md section 5).
func (x *index) find(hash int32, begin, end int64, limit int, dst []int64) ([]int64, error) {
	x.mu.Lock()
	files := x.files
	x.mu.Unlock()
	for i := len(files) - 1; i >= 0 && len(dst) < limit; i-- {
		var older bool
		var err error
		if dst, older, err = x.findIn(files[i], hash, begin, end, limit, dst); err != nil {
			return dst, err
		}
		if !older {
			break
		}
	}
	return dst, nil
}

// findIn is find in one file; older says that the file before it may have more.
func (x *index) findIn(f *indexFile, hash int32, begin, end int64, limit int, dst []int64) (_ []int64, older bool, err error) {
	r, err := x.fs.OpenFile(f.path, os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return dst, false, nil // deleted meanwhile: its records are gone, and those before it
	}
	if err != nil {
		return dst, false, err
	}
	defer r.Close()
	// Entries below the header's count do not change any more; the slot may already
	// name a newer one, so it is read while nobody puts.
	var b [indexEntrySize]byte
	x.mu.Lock()
	h := f.h
	_, err = r.ReadAt(b[:indexSlotSize], f.slotAt(hash))
	x.mu.Unlock()
	if err != nil {
		return dst, false, err
	}
	older = h.beginTime >= begin
	inside := func(t int64) bool { return t >= h.beginTime && t <= h.endTime }
	if !(begin < h.beginTime && end > h.endTime || inside(begin) || inside(end)) {
		return dst, older, nil
	}
	var e indexEntry
	n := int32(binary.BigEndian.Uint32(b[:]))
	for n > 0 && n < h.count && len(dst) < limit {
		if _, err := r.ReadAt(b[:], f.entryAt(n)); err != nil {
			return dst, false, err
		}
		e.parse(b[:])
		if e.diff < 0 {
			break
		}
		t := h.beginTime + int64(e.diff)*1000
		if e.hash == hash && t >= begin && t <= end {
			dst = append(dst, e.offset)
		}
		if e.prev >= n || t < begin {
			break
		}
		n = e.prev
	}
	return dst, older, nil
}

// warm reads the slots of keys that are about to be put: one after the other each
// costs a memory access of its own, together they overlap. It is no more than a
// hint.
func (x *index) warm(hashes []int32) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.files) == 0 || x.newest().m == nil {
		return
	}
	x.file, x.hashes = x.newest(), hashes
	_ = segment.Guard(x.touchSlots) // a fault comes back in put
}
