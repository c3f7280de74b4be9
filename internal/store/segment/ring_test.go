package segment

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// What the kernel says of a sync that was handed to it comes back to who asked,
// however many ask at the same time.
func TestSyncAside(t *testing.T) {
	dir := t.TempDir()
	h, err := Disk{}.OpenFile(filepath.Join(dir, "f"), os.O_RDWR|os.O_CREATE)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	if _, err := h.WriteAt(make([]byte, 1<<20), 0); err != nil {
		t.Fatal(err)
	}
	if !Aside() {
		// The caller then syncs as it always did.
		if err := h.SyncAside(0, 1<<20); !errors.Is(err, errors.ErrUnsupported) {
			t.Fatalf("without io_uring: %v", err)
		}
		return
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for i := range int64(50) {
				if err := h.SyncAside(i*4096, 8192); err != nil {
					t.Errorf("a file: %v", err)
				}
				if err := syncAside(w, 0, 1); err != unix.EINVAL {
					t.Errorf("a pipe, which has nothing to sync: %v", err)
				}
			}
		})
	}
	all.Wait()
	if err := h.SyncAside(0, 1<<32); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("a range of 4 GiB: %v", err)
	}
}

// Touch makes zeros of whole pages behind an offset, never of what lies before it.
func TestTouch(t *testing.T) {
	l := NewList(options(1<<20, 10), t.TempDir(), Found{Size: 1 << 20})
	f := newFile(t, l, true)
	defer f.Seal()
	if err := f.Acquire(); err != nil {
		t.Fatal(err)
	}
	defer f.Release()
	if err := f.Open(); err != nil {
		t.Fatal(err)
	}
	for i := range f.Bytes() {
		f.Bytes()[i] = 1
	}
	for _, c := range []struct{ from, to, end int64 }{
		{pageSize + 1, pageSize + 2, 2 * pageSize}, // the page that is begun is in memory
		{2 * pageSize, 2*pageSize + 1, 3 * pageSize},
		{5*pageSize - 1, 1 << 19, 1 << 19},
		{1<<20 - 10, 1<<20 + 5, 1 << 20},
		{1<<20 - pageSize, 2 << 20, 1 << 20},
	} {
		end, err := f.Touch(f.Base()+c.from, f.Base()+c.to)
		if err != nil || end != f.Base()+c.end {
			t.Errorf("[%d, %d): up to %d, %v", c.from, c.to, end-f.Base(), err)
		}
	}
	for i, b := range f.Bytes() {
		at := int64(i)
		zero := at >= 2*pageSize && at < 3*pageSize || at >= 5*pageSize && at < 1<<19 || at >= 1<<20-pageSize
		if (b == 0) != zero {
			t.Fatalf("byte %d is %d", i, b)
		}
	}
}

// Where the system has no io_uring, or forbids it, the mapping is synced as before.
func TestSyncAsideWithoutRing(t *testing.T) {
	rings.mu.Lock()
	free := rings.free
	rings.free, rings.none = nil, true
	rings.mu.Unlock()
	defer func() {
		rings.mu.Lock()
		rings.free, rings.none = free, false
		rings.mu.Unlock()
	}()
	l := NewList(options(1<<16, 10), t.TempDir(), Found{Size: 1 << 16})
	f := newFile(t, l, true)
	if err := errors.Join(f.Acquire(), f.Open()); err != nil {
		t.Fatal(err)
	}
	defer f.Release()
	defer f.Seal()
	f.Bytes()[0] = 1
	if err := f.Writer().SyncAside(0, 1<<16); Aside() || !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("without io_uring: %v", err)
	}
	if err := f.SyncAside(f.Base(), f.End()); err != nil {
		t.Errorf("the mapping: %v", err)
	}
}
