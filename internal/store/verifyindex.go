package store

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"gomq/internal/message"
	"gomq/internal/store/segment"
)

// verifiedIndex reads the entries of all index files in order, beside the log:
// both rise.
type verifiedIndex struct {
	v     *verifier
	files []*indexFile
	last  int64 // offset of the newest entry, -1 = none

	file  int // the one that is read
	n     int32
	r     segment.Handle
	slots []byte
	buf   []byte
	from  int32 // number of the first entry in buf
	keys  []int32
	seen  []int32
}

func openVerifiedIndex(v *verifier) (*verifiedIndex, error) {
	x := &verifiedIndex{v: v, last: -1}
	if !v.o.IndexEnabled {
		return x, nil
	}
	entries, err := v.o.FS.ReadDir(v.o.IndexDir)
	if err != nil {
		return nil, err
	}
	want := indexShape{int32(v.o.MaxHashSlots), int32(v.o.MaxIndexEntries)}
	var before indexShape
	for _, e := range entries {
		number, err := strconv.ParseInt(e.Name, 10, 64)
		if err != nil || number < 0 || e.Dir {
			continue
		}
		path := filepath.Join(v.o.IndexDir, e.Name)
		f, err := openIndexFile(v.o.FS, path, number, e.Size, want, before)
		if err != nil {
			if v.sum.Clean {
				v.problem(InIndex, path, 0, "%v", err)
			}
			break
		}
		before = f.indexShape
		if f.h.count > 1 {
			x.last = f.h.endOffset
		}
		x.files = append(x.files, f)
	}
	v.sum.IndexFiles = len(x.files)
	return x, nil
}

func (x *verifiedIndex) close() {
	if x.r != nil {
		x.r.Close()
		x.r = nil
	}
}

// judged says whether entries of records at off must be right.
func (x *verifiedIndex) judged(off int64) bool {
	return x.v.sum.Clean || x.v.indexed(off)
}

// next returns the next entry, its file and its number; ok is false at the end.
func (x *verifiedIndex) next() (f *indexFile, e indexEntry, n int32, ok bool, err error) {
	for x.file < len(x.files) {
		f = x.files[x.file]
		if x.r == nil {
			if x.r, err = x.v.o.FS.OpenFile(f.path, os.O_RDONLY); err != nil {
				return f, e, 0, false, err
			}
			x.slots = make([]byte, indexSlotSize*int64(f.slots))
			x.n, x.from, x.buf = 1, 1, x.buf[:0]
		}
		if x.n < f.h.count {
			if int(x.n-x.from)*indexEntrySize >= len(x.buf) {
				k := min(f.h.count-x.n, 4096)
				x.buf, x.from = slices.Grow(x.buf[:0], int(k)*indexEntrySize)[:int(k)*indexEntrySize], x.n
				if _, err = x.r.ReadAt(x.buf, f.entryAt(x.n)); err != nil {
					return f, e, 0, false, err
				}
			}
			e.parse(x.buf[int(x.n-x.from)*indexEntrySize:])
			return f, e, x.n, true, nil
		}
		if err := x.endFile(f); err != nil {
			return f, e, 0, false, err
		}
	}
	return nil, e, 0, false, nil
}

// take goes on behind the entry that next returned, and checks its chain.
func (x *verifiedIndex) take(f *indexFile, e indexEntry, n int32) {
	x.n++
	x.v.sum.IndexEntries++
	if e.hash < 0 {
		x.v.problem(InIndex, f.path, int64(n), "its hash is negative: %d", e.hash)
		return
	}
	slot := x.slots[f.slotAt(e.hash)-indexHeaderSize:]
	if prev := int32(binary.BigEndian.Uint32(slot)); e.prev != prev && x.judged(e.offset) {
		x.v.problem(InIndex, f.path, int64(n), "the one before it in its slot is %d, it says %d", prev, e.prev)
	}
	binary.BigEndian.PutUint32(slot, uint32(n))
}

// endFile compares the slots of a file with what its entries say.
func (x *verifiedIndex) endFile(f *indexFile) error {
	have := make([]byte, 64<<10)
	for at := 0; at < len(x.slots); at += len(have) {
		b := have[:min(len(have), len(x.slots)-at)]
		if _, err := x.r.ReadAt(b, indexHeaderSize+int64(at)); err != nil {
			return err
		}
		for i := 0; i < len(b); i += indexSlotSize {
			got, want := int32(binary.BigEndian.Uint32(b[i:])), int32(binary.BigEndian.Uint32(x.slots[at+i:]))
			if got > f.h.count {
				got = 0
			}
			if got != want && x.v.sum.Clean {
				x.v.problem(InIndex, f.path, int64(want), "the slot %d names the entry %d instead of this one", (at+i)/indexSlotSize, got)
			}
		}
	}
	x.close()
	x.file++
	return nil
}

// record consumes the entries of the record at off and of places before it, where
// no record is.
func (x *verifiedIndex) record(off int64, r message.Record) error {
	v := x.v
	if !v.o.IndexEnabled {
		return nil
	}
	x.keys, x.seen = x.keys[:0], x.seen[:0]
	if r.SysFlag()&message.TxMask != message.Rollback {
		x.keys = appendKeyHashes(x.keys, message.HashMore(message.HashCode(r.Topic()), hashSign), r.Props())
	}
	for {
		f, e, n, ok, err := x.next()
		if err != nil {
			return err
		}
		if !ok || e.offset > off {
			break
		}
		x.take(f, e, n)
		switch {
		case e.offset < v.sum.Start: // deleted with its log file
		case e.offset < off:
			if x.judged(e.offset) {
				v.problem(InIndex, f.path, int64(n), "it points to %d, where no record is", e.offset)
			}
		case !slices.Contains(x.keys, e.hash):
			if x.judged(off) {
				v.problem(InIndex, f.path, int64(n), "its hash is %d, the record at %d has no such key", e.hash, off)
			}
		default:
			x.seen = append(x.seen, e.hash)
			x.checkTime(f, e, n, r.StoreTime())
		}
	}
	missing := int64(0)
	for _, h := range x.keys {
		if i := slices.Index(x.seen, h); i >= 0 {
			x.seen = slices.Delete(x.seen, i, i+1)
			continue
		}
		missing++
	}
	switch {
	case missing == 0:
	case v.indexed(off):
		v.problem(InLog, v.log.Find(off).Path(), off, "%d of the record's %d keys are not in the index", missing, len(x.keys))
	case v.sum.Clean:
		v.sum.Unindexed += missing
	}
	return nil
}

// checkTime compares an entry's time with the record's. The first entry of a file
// counts from the end of the file before (store.md section 5).
func (x *verifiedIndex) checkTime(f *indexFile, e indexEntry, n int32, storeTime int64) {
	if n == 1 || f.h.beginTime <= 0 || !x.judged(e.offset) {
		return
	}
	if want := min(max((storeTime-f.h.beginTime)/1000, 0), 1<<31-1); int64(e.diff) != want {
		x.v.problem(InIndex, f.path, int64(n), "its time is %d s after the file's beginning, that of the record at %d %d s", e.diff, e.offset, want)
	}
}

// finish consumes what lies behind the last record.
func (x *verifiedIndex) finish() error {
	for {
		f, e, n, ok, err := x.next()
		if err != nil || !ok {
			return err
		}
		x.take(f, e, n)
		if e.offset >= x.v.sum.Start && x.judged(e.offset) {
			x.v.problem(InIndex, f.path, int64(n), "it points to %d, where no record is", e.offset)
		}
	}
}
