package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"gomq/internal/store/segment"
)

// An index file, big endian (store.md section 5, IndexFile of 4.9.8):
//
//	 0 begin time i64, ms         header: store time and log offset of the first
//	 8 end time i64, ms           and of the last record with an entry; a file that
//	16 begin offset i64           has none yet carries the end of the file before it
//	24 end offset i64             in all four
//	32 used slots i32             4.5.2 counts every entry here
//	36 count i32                  number of the next entry; 0 counts as 1
//	40 slots: i32 each            number of the newest entry of the slot, 0 = none
//	   entries: 20 bytes each     entry 0 is never used
//
// An entry:
//
//	 0 key hash i32               slot = hash % slots
//	 4 log offset i64
//	12 time i32, s               after the begin time, clamped to [0, 2^31)
//	16 previous i32              the entry that the slot had before, 0 = none
const (
	indexHeaderSize = 40
	indexSlotSize   = 4
	indexEntrySize  = 20

	maxIndexSlots = 1 << 28 // bounds what a damaged or foreign file can make us allocate
	maxIndexKeys  = 1 << 30
)

// indexHeader is the first 40 bytes of an index file.
type indexHeader struct {
	beginTime, endTime     int64
	beginOffset, endOffset int64
	used                   int32
	count                  int32 // of the next entry: the file has count-1
}

func (h *indexHeader) parse(b []byte) {
	be := binary.BigEndian
	h.beginTime, h.endTime = int64(be.Uint64(b)), int64(be.Uint64(b[8:]))
	h.beginOffset, h.endOffset = int64(be.Uint64(b[16:])), int64(be.Uint64(b[24:]))
	h.used, h.count = int32(be.Uint32(b[32:])), max(int32(be.Uint32(b[36:])), 1)
}

func (h *indexHeader) put(b []byte) {
	be := binary.BigEndian
	be.PutUint64(b, uint64(h.beginTime))
	be.PutUint64(b[8:], uint64(h.endTime))
	be.PutUint64(b[16:], uint64(h.beginOffset))
	be.PutUint64(b[24:], uint64(h.endOffset))
	be.PutUint32(b[32:], uint32(h.used))
	count := h.count
	if count == 1 {
		count = 0 // as Java leaves it in a new file
	}
	be.PutUint32(b[36:], uint32(count))
}

// indexEntry is one key of one record.
type indexEntry struct {
	hash   int32
	offset int64
	diff   int32
	prev   int32
}

func (e *indexEntry) parse(b []byte) {
	be := binary.BigEndian
	e.hash, e.offset = int32(be.Uint32(b)), int64(be.Uint64(b[4:]))
	e.diff, e.prev = int32(be.Uint32(b[12:])), int32(be.Uint32(b[16:]))
}

func (e *indexEntry) put(b []byte) {
	be := binary.BigEndian
	be.PutUint32(b, uint32(e.hash))
	be.PutUint64(b[4:], uint64(e.offset))
	be.PutUint32(b[12:], uint32(e.diff))
	be.PutUint32(b[16:], uint32(e.prev))
}

// indexShape is how an index file is divided.
type indexShape struct {
	slots int32
	max   int32 // entries, the unused one included
}

func (g indexShape) size() int64 { return g.entryAt(g.max) }

func (g indexShape) slotAt(hash int32) int64 {
	return indexHeaderSize + indexSlotSize*int64(hash%g.slots)
}

func (g indexShape) entryAt(n int32) int64 {
	return indexHeaderSize + indexSlotSize*int64(g.slots) + indexEntrySize*int64(n)
}

// indexFile is one file. The newest one is mapped while it is written to, and
// for as long as it is full and not synced; all reading is by ReadAt.
type indexFile struct {
	path   string
	number int64 // its name
	indexShape
	h indexHeader // guarded by index.mu in the newest file, constant in the others

	f      segment.Handle
	m      segment.Mapping
	b      []byte
	blocks int64 // the file has blocks up to here
	synced int32 // entries below this number are durable
	whole  bool  // the slots were when synced was set
}

func (f *indexFile) full() bool { return f.h.count >= f.max }

// next is the store time and the offset with which the following file begins.
func (h *indexHeader) next() indexHeader {
	n := indexHeader{count: 1}
	if h.endOffset > 0 {
		n.beginOffset, n.endOffset = h.endOffset, h.endOffset
	}
	if h.endTime > 0 {
		n.beginTime, n.endTime = h.endTime, h.endTime
	}
	return n
}

// Blocks of the entries are allocated in steps that double up to a bound.
const (
	minIndexStep = 64 << 10
	maxIndexStep = 1 << 20
)

// reserve makes sure that the next entry has blocks. A full disk is an error
// here and not a fault later.
func (f *indexFile) reserve() error {
	have := f.blocks - f.entryAt(f.h.count)
	if have >= indexEntrySize {
		return nil
	}
	step := min(max(f.blocks-f.entryAt(0), minIndexStep), maxIndexStep)
	end := min(f.blocks+step, f.size())
	if err := f.f.Allocate(f.blocks, end-f.blocks); err != nil {
		return err
	}
	f.blocks = end
	return nil
}

// room is how many entries fit into the blocks there are.
func (f *indexFile) room() int {
	return int(min(int64(f.max-f.h.count), (f.blocks-f.entryAt(f.h.count))/indexEntrySize))
}

// put writes entries for a record into the mapping. Call it inside a Guard, with
// no more hashes than room; it changes the header in memory only at its end.
func (f *indexFile) put(offset, storeTime int64, hashes []int32) {
	be, b, h := binary.BigEndian, f.b, f.h
	for _, hash := range hashes {
		at := f.slotAt(hash)
		prev := int32(be.Uint32(b[at:]))
		if prev <= 0 || prev > h.count {
			prev = 0
		}
		// The first entry's time counts from the end of the file before, although
		// the begin time is then set to its own: so does the original.
		var diff int64
		if h.beginTime > 0 {
			diff = min(max((storeTime-h.beginTime)/1000, 0), 1<<31-1)
		}
		e := indexEntry{hash: hash, offset: offset, diff: int32(diff), prev: prev}
		e.put(b[f.entryAt(h.count):])
		be.PutUint32(b[at:], uint32(h.count))
		if h.count <= 1 {
			h.beginOffset, h.beginTime = offset, storeTime
		}
		if prev == 0 {
			h.used++
		}
		h.count++
		h.endOffset, h.endTime = offset, storeTime
	}
	h.put(b)
	f.h = h
}

// touch sets the end time, which a file cut by rebuild knows to the second only.
func (f *indexFile) touch(storeTime int64) {
	f.h.endTime = storeTime
	f.h.put(f.b)
}

// start opens and maps the file for writing.
func (f *indexFile) start(fs segment.FS) error {
	h, err := fs.OpenFile(f.path, os.O_RDWR)
	if err != nil {
		return err
	}
	// Java's files are sparse: blocks for all that is in use first.
	f.blocks = min((f.entryAt(f.h.count)/minIndexStep+1)*minIndexStep, f.size())
	if err = h.Allocate(0, f.blocks); err == nil {
		f.m, err = h.Map(f.size(), true)
	}
	if err != nil {
		return errors.Join(err, h.Close())
	}
	f.f, f.b = h, f.m.Bytes()
	f.synced, f.whole = 0, false
	return f.m.Random()
}

// stop unmaps and closes the file.
func (f *indexFile) stop() error {
	if f.m == nil {
		return nil
	}
	err := errors.Join(f.m.Unmap(), f.f.Close())
	f.m, f.f, f.b = nil, nil, nil
	return err
}

// sync makes the file durable up to entry count (exclusive): the entries and the
// header; the slots, which rebuild makes again out of the entries, only if all is
// set.
func (f *indexFile) sync(count int32, all bool) error {
	if count <= f.synced && (f.whole || !all) {
		return nil
	}
	if all {
		if err := segment.SyncAside(f.f, f.m, 0, f.entryAt(count)); err != nil {
			return err
		}
		f.synced, f.whole = count, true
		return nil
	}
	from, to := f.entryAt(f.synced), f.entryAt(count)
	if err := segment.SyncAside(f.f, f.m, from, to-from); err != nil {
		return err
	}
	// The header last: what it says is there is there.
	if err := segment.SyncAside(f.f, f.m, 0, indexHeaderSize); err != nil {
		return err
	}
	f.synced, f.whole = count, false
	return nil
}

// createIndexFile makes a file of the given shape that begins with h, durable
// with its name.
func createIndexFile(fs segment.FS, dir string, number int64, g indexShape, h indexHeader) (*indexFile, error) {
	f := &indexFile{path: filepath.Join(dir, indexName(number)), number: number, indexShape: g, h: h}
	w, err := fs.OpenFile(f.path, os.O_RDWR|os.O_CREATE|os.O_EXCL)
	if err != nil {
		return nil, err
	}
	var head [indexHeaderSize]byte
	h.put(head[:])
	err = w.Truncate(g.size())
	if err == nil {
		err = w.Allocate(0, min(f.entryAt(0)+minIndexStep, g.size()))
	}
	if err == nil {
		_, err = w.WriteAt(head[:], 0)
	}
	if err == nil {
		err = w.Sync()
	}
	if err = errors.Join(err, w.Close()); err == nil {
		err = fs.SyncDir(dir)
	}
	if err != nil {
		return nil, errors.Join(err, fs.Remove(f.path))
	}
	return f, nil
}

// indexName is the name of a file: yyyyMMddHHmmssSSS.
func indexName(number int64) string { return fmt.Sprintf("%017d", number) }

// readIndexEntries calls fn with the entries from number from up to number to
// (exclusive) until it returns false.
func readIndexEntries(r io.ReaderAt, g indexShape, from, to int32, fn func(n int32, e *indexEntry) bool) error {
	const batch = 1 << 15
	buf := make([]byte, min(int64(to-from), batch)*indexEntrySize)
	var e indexEntry
	for from < to {
		k := min(to-from, batch)
		b := buf[:int(k)*indexEntrySize]
		if _, err := r.ReadAt(b, g.entryAt(from)); err != nil {
			return err
		}
		for i := int32(0); i < k; i++ {
			e.parse(b[int(i)*indexEntrySize:])
			if !fn(from+i, &e) {
				return nil
			}
		}
		from += k
	}
	return nil
}

// rebuild keeps the entries of records below limit and makes the slots again out
// of them: after a power cut entries are known to be durable up to a limit, slots
// never are. Entries end where they stop to make sense, too; nothing but zeros is
// left behind them. prev is the header of the file before, for a file that is
// left without entries. Doing it twice does no harm.
func (f *indexFile) rebuild(fs segment.FS, limit int64, prev indexHeader) error {
	w, err := fs.OpenFile(f.path, os.O_RDWR)
	if err != nil {
		return err
	}
	defer w.Close()
	slots := make([]byte, indexSlotSize*int64(f.slots))
	h := indexHeader{beginTime: f.h.beginTime, beginOffset: f.h.beginOffset, count: 1}
	floor := max(prev.endOffset, 0)
	if f.h.count > 1 {
		err = readIndexEntries(w, f.indexShape, 1, f.max, func(n int32, e *indexEntry) bool {
			if !f.follows(&h, floor, limit, e) {
				return false
			}
			slot := slots[f.slotAt(e.hash)-indexHeaderSize:]
			if e.prev != int32(binary.BigEndian.Uint32(slot)) {
				return false
			}
			if e.prev == 0 {
				h.used++
			}
			binary.BigEndian.PutUint32(slot, uint32(n))
			h.count, h.endOffset = n+1, e.offset
			h.endTime = h.beginTime
			if n > 1 { // the first one's time does not count from the begin time
				h.endTime += int64(e.diff) * 1000
			}
			return true
		})
		if err != nil {
			return err
		}
	}
	if h.count == 1 {
		h = prev.next()
	}
	f.h = h
	return f.rewrite(w, slots)
}

// follows says whether e can be the next entry of a file whose entries so far h
// describes.
func (f *indexFile) follows(h *indexHeader, floor, limit int64, e *indexEntry) bool {
	switch {
	case e.hash < 0, e.diff < 0, e.offset < floor, e.offset >= limit:
		return false
	case h.count == 1:
		return e.offset == h.beginOffset
	case *e == indexEntry{}:
		return false // never written
	}
	return e.offset >= h.endOffset
}

// rewrite writes header and slots, and cuts off what lies behind the entries.
func (f *indexFile) rewrite(w segment.Handle, slots []byte) error {
	var head [indexHeaderSize]byte
	f.h.put(head[:])
	if err := w.Truncate(f.entryAt(f.h.count)); err != nil {
		return err
	}
	if err := w.Truncate(f.size()); err != nil {
		return err
	}
	if _, err := w.WriteAt(slots, indexHeaderSize); err != nil {
		return err
	}
	if _, err := w.WriteAt(head[:], 0); err != nil {
		return err
	}
	return w.Sync()
}

// openIndexFile reads the header of a file and finds out how it is divided: as
// want, or, when that does not fit its size, as the file before or in another way
// that its entries confirm.
func openIndexFile(fs segment.FS, path string, number, size int64, want, before indexShape) (*indexFile, error) {
	r, err := fs.OpenFile(path, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	var head [indexHeaderSize]byte
	if size < indexHeaderSize+indexSlotSize+2*indexEntrySize {
		return nil, fmt.Errorf("%d bytes are no index file", size)
	}
	if _, err := r.ReadAt(head[:], 0); err != nil {
		return nil, err
	}
	f := &indexFile{path: path, number: number}
	f.h.parse(head[:])
	rest := size - indexHeaderSize
	bySlots := func(slots int64) indexShape {
		if slots <= 0 || slots > maxIndexSlots || (rest-indexSlotSize*slots)/indexEntrySize > maxIndexKeys {
			return indexShape{}
		}
		return indexShape{int32(slots), int32((rest - indexSlotSize*slots) / indexEntrySize)}
	}
	byEntries := func(n int64) indexShape { return bySlots((rest - indexEntrySize*n) / indexSlotSize) }
	for i, g := range []indexShape{want, before, bySlots(int64(want.slots)), byEntries(int64(want.max)), byEntries(int64(f.h.count)), bySlots(defaultHashSlots)} {
		if g.slots <= 0 || g.max < 2 || g.size() != size || f.h.count > g.max {
			continue
		}
		f.indexShape = g
		if i == 0 || i == 1 && f.h.count == 1 || f.plausible(r) { // an empty file is as the one before it
			return f, nil
		}
	}
	return nil, fmt.Errorf("its %d bytes with %d entries are not divided as an index file is", size, f.h.count-1)
}

// plausible says whether the first entries look like entries.
func (f *indexFile) plausible(r io.ReaderAt) bool {
	good := f.h.count > 1
	h := indexHeader{beginOffset: f.h.beginOffset, count: 1}
	err := readIndexEntries(r, f.indexShape, 1, min(f.h.count, 64), func(n int32, e *indexEntry) bool {
		good = f.follows(&h, 0, f.h.endOffset+1, e) && e.prev >= 0 && e.prev < n
		h.count, h.endOffset = n+1, e.offset
		return good
	})
	return good && err == nil
}
