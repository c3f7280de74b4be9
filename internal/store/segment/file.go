package segment

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// ErrGone is returned for a file that has been dropped from its list.
var ErrGone = errors.New("the file has been removed")

// nameDigits is the length of a file's name: the offset of its first byte.
const nameDigits = 20

// File is one file of a List: Size bytes of an endless file, from Base on. It is
// mapped when it is first acquired and unmapped when its place is wanted (Maps)
// or the file is dropped, but never while somebody has acquired it.
type File struct {
	l    *List
	base int64

	// refs is 0 while the file is not mapped, and otherwise 1 more than the number
	// of those who have acquired it.
	refs  atomic.Int64
	used  atomic.Bool // acquired since the hand of Maps passed
	place int         // in the ring of Maps, -1 = not there; guarded by Maps.mu

	mu   sync.Mutex // guards the rest, and the steps of refs from and to 0
	m    Mapping
	data []byte    // of m; may be read by who has acquired the file
	seen residency // of m, as data
	h    Handle    // open for writing, nil if not
	gone bool
}

// Base is the offset of the first byte.
func (f *File) Base() int64 { return f.base }

// Size is the length in bytes.
func (f *File) Size() int64 { return f.l.o.Size }

// End is the offset behind the last byte.
func (f *File) End() int64 { return f.base + f.l.o.Size }

// Path is where the file lies.
func (f *File) Path() string { return filepath.Join(f.l.dir, fileName(f.base)) }

func fileName(base int64) string {
	var b [nameDigits]byte
	s := strconv.AppendInt(b[:0], base, 10)
	out := [nameDigits]byte{}
	for i := range out {
		out[i] = '0'
	}
	copy(out[nameDigits-len(s):], s)
	return string(out[:])
}

// Acquire maps the file if it is not, and keeps it mapped until Release. It
// fails when the file has been dropped or cannot be mapped.
func (f *File) Acquire() error {
	for {
		n := f.refs.Load()
		if n <= 0 {
			return f.acquireSlow()
		}
		if f.refs.CompareAndSwap(n, n+1) {
			if !f.used.Load() {
				f.used.Store(true)
			}
			return nil
		}
	}
}

func (f *File) acquireSlow() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.gone {
		return fmt.Errorf("%s: %w", f.Path(), ErrGone)
	}
	if f.m != nil {
		f.refs.Add(1)
		return nil
	}
	h := f.h
	if h == nil {
		var err error
		if h, err = f.l.o.FS.OpenFile(f.Path(), os.O_RDWR); err != nil {
			return err
		}
		defer h.Close()
	}
	m, err := h.Map(f.l.o.Size, true)
	if err != nil {
		return err
	}
	if f.l.o.Random {
		m.Random() // only advice; without it the mapping works as well
	}
	f.m, f.data, f.seen = m, m.Bytes(), newResidency(f.l.o.Size)
	f.used.Store(true)
	f.l.o.Maps.add(f)
	f.refs.Store(2)
	return nil
}

// Release gives back what Acquire gave.
func (f *File) Release() {
	switch n := f.refs.Add(-1); {
	case n == 0: // dropped, and this was the last reader
		f.mu.Lock()
		f.unmap()
		f.mu.Unlock()
	case n < 0:
		panic("segment: Release without Acquire of " + f.Path())
	}
}

// evict unmaps a file that nobody uses. Held: Maps.mu.
func (f *File) evict() bool {
	if !f.mu.TryLock() {
		return false
	}
	defer f.mu.Unlock()
	if f.m == nil || !f.refs.CompareAndSwap(1, 0) {
		return false
	}
	m := f.m
	f.m, f.data, f.seen = nil, nil, residency{}
	m.Unmap() // it can only fail for a bad address
	return true
}

// unmap ends the mapping of a dropped file. Held: mu.
func (f *File) unmap() {
	if f.m == nil {
		return
	}
	m := f.m
	f.m, f.data, f.seen = nil, nil, residency{}
	f.l.o.Maps.remove(f)
	m.Unmap()
}

// drop lets nobody acquire the file any more and unmaps it when the last reader
// has let go.
func (f *File) drop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.gone {
		return
	}
	f.gone = true
	if f.h != nil {
		f.h.Close()
		f.h = nil
	}
	if f.m != nil && f.refs.Add(-1) == 0 {
		f.unmap()
	}
}

// close is drop without removing anything: what is mapped is unmapped.
func (f *File) close() { f.drop() }

// Bytes is the mapped file; only for who has acquired it, and only inside Guard.
func (f *File) Bytes() []byte { return f.data }

// Resident says whether [from, to) of the endless file, which must lie in this
// file, can be read without waiting for the disk; it may be what was true 200 ms
// ago. Only for who has acquired it.
func (f *File) Resident(from, to int64) bool {
	return f.seen.covers(f.m, f.l.o.Size, from-f.base, to-from)
}

// WillNeed asks the system to read [from, to) ahead. Only for who has acquired it.
func (f *File) WillNeed(from, to int64) { f.m.WillNeed(from-f.base, min(to, f.End())-from) }

// ReadAt copies len(dst) bytes from the offset off of the endless file on, which
// must lie in this file, out of the mapping.
func (f *File) ReadAt(dst []byte, off int64) error {
	if err := f.check(off, int64(len(dst))); err != nil {
		return err
	}
	if err := f.Acquire(); err != nil {
		return err
	}
	defer f.Release()
	err := Guard(func() error {
		copy(dst, f.data[off-f.base:])
		return nil
	})
	if err != nil {
		return fmt.Errorf("%s at %d: %w", f.Path(), off-f.base, err)
	}
	return nil
}

func (f *File) check(off, n int64) error {
	if off < f.base || n < 0 || off+n > f.End() {
		return fmt.Errorf("%s: [%d, %d) is outside of [%d, %d)", f.Path(), off, off+n, f.base, f.End())
	}
	return nil
}

// Pread reads like ReadAt, but with a system call: waiting for the disk then does
// not hold a processor.
func (f *File) Pread(dst []byte, off int64) error {
	if err := f.check(off, int64(len(dst))); err != nil {
		return err
	}
	return f.opened(os.O_RDONLY, func(h Handle) error {
		_, err := h.ReadAt(dst, off-f.base)
		return err
	})
}

// opened runs fn with a handle of its own, which a file that is being dropped
// does not close under it.
func (f *File) opened(flag int, fn func(h Handle) error) error {
	h, err := f.l.o.FS.OpenFile(f.Path(), flag)
	if err != nil {
		return err
	}
	defer h.Close()
	return fn(h)
}

// writing is opened with the descriptor that Open keeps, where it does.
func (f *File) writing(fn func(h Handle) error) error {
	f.mu.Lock()
	h := f.h
	f.mu.Unlock()
	if h != nil {
		return fn(h)
	}
	return f.opened(os.O_RDWR, fn)
}

// Open keeps a descriptor open for Write and Sync until Seal.
func (f *File) Open() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.h != nil {
		return nil
	}
	h, err := f.l.o.FS.OpenFile(f.Path(), os.O_RDWR)
	if err != nil {
		return err
	}
	f.h = h
	return nil
}

// Seal closes the descriptor.
func (f *File) Seal() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.h == nil {
		return nil
	}
	h := f.h
	f.h = nil
	return h.Close()
}

// Writer is the descriptor that Open keeps; nil without Open. It is valid until
// Seal, which the caller must know not to happen meanwhile.
func (f *File) Writer() Handle { return f.h }

// SyncMapped makes [from, to), written through the mapping, durable. Only for who
// has acquired the file.
func (f *File) SyncMapped(from, to int64) error {
	return f.m.Sync(from-f.base, min(to, f.End())-from)
}

// SyncAside is SyncMapped; where it can be had (Aside) it keeps no processor from
// others while it waits.
func (f *File) SyncAside(from, to int64) error {
	had := false
	err := f.writing(func(h Handle) error {
		had = true
		return SyncAside(h, f.m, from-f.base, min(to, f.End())-from)
	})
	if !had { // no descriptor is to be had, or the name is gone: msync needs neither
		return f.SyncMapped(from, to)
	}
	return err
}

// SyncAside makes [off, off+n) of h's file, written through its mapping m, durable:
// aside (Handle.SyncAside) where that can be had, by msync otherwise.
func SyncAside(h Handle, m Mapping, off, n int64) error {
	if err := h.SyncAside(off, n); !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	return m.Sync(off, n)
}

// zeros is what Touch writes; nobody writes to it.
var zeros [256 << 10]byte

// Touch gives the whole pages from the offset from on memory, up to to or the end of
// the file: they become zeros. Between Open and Seal.
//
// A page fault beyond what is in memory would do it as well, but it reads ahead as
// far as the disk's setting says: with 8 MiB that is a standstill of more than 10 ms
// with the put lock held, where this is one short call.
func (f *File) Touch(from, to int64) (end int64, err error) {
	for from, to = wholePages(from), min(wholePages(to), f.End()); from < to; {
		n := min(to-from, int64(len(zeros)))
		if _, err := f.h.WriteAt(zeros[:n], from-f.base); err != nil {
			return from, err
		}
		from += n
	}
	return to, nil
}

// wholePages rounds up.
func wholePages(off int64) int64 { return (off + pageSize - 1) / pageSize * pageSize }

// Sync makes all of the file durable, however it was written. It uses the
// descriptor that Open keeps, so that it hears of errors of what was written with
// it; Seal must not come meanwhile.
func (f *File) Sync() error { return f.writing(Handle.Sync) }

// Allocate gives [from, to) blocks.
func (f *File) Allocate(from, to int64) error {
	return f.opened(os.O_RDWR, func(h Handle) error { return h.Allocate(from-f.base, to-from) })
}

// Zero makes [from, to) zeros and syncs the file.
func (f *File) Zero(from, to int64) error {
	return f.opened(os.O_RDWR, func(h Handle) error {
		if err := h.Zero(from-f.base, to-from); err != nil {
			return err
		}
		return h.Sync()
	})
}

// Refresh writes out what the system holds of the file, then forgets it from the
// offset from on, so that what is read next is what the disk holds: after a
// failed sync the two may differ.
func (f *File) Refresh(from int64) error {
	err := f.opened(os.O_RDWR, func(h Handle) error {
		if err := h.Sync(); err != nil {
			return err
		}
		return h.DropCache(from-f.base, f.End()-from)
	})
	f.mu.Lock()
	f.seen.forget()
	f.mu.Unlock()
	return err
}

// Stat describes the file.
func (f *File) Stat() (Entry, error) { return f.l.o.FS.Stat(f.Path()) }

func timeOf(t unix.Timespec) time.Time { return time.Unix(t.Sec, t.Nsec) }
