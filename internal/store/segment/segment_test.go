package segment

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func options(size int64, maps int) *Options {
	return &Options{FS: Disk{}, Size: size, Maps: NewMaps(maps)}
}

func newFile(t *testing.T, l *List, whole bool) *File {
	t.Helper()
	f, err := l.Create(l.End(), whole, 4096)
	if err != nil {
		t.Fatal(err)
	}
	f.Seal()
	l.Add(f)
	return f
}

// A fault while reading or writing mapped bytes is an error of that access and
// nothing else; a panic of another kind passes.
func TestGuardTurnsFaultsIntoErrors(t *testing.T) {
	l := NewList(options(64<<10, 10), t.TempDir(), Found{})
	f := newFile(t, l, true)
	if err := f.Acquire(); err != nil {
		t.Fatal(err)
	}
	defer f.Release()
	if err := os.Truncate(f.Path(), 4096); err != nil {
		t.Fatal(err)
	}
	var fault *FaultError
	if err := f.ReadAt(make([]byte, 8192), 0); !errors.As(err, &fault) || !strings.Contains(err.Error(), f.Path()) {
		t.Errorf("reading beyond the file: %v", err)
	}
	after := false
	err := Guard(func() error {
		copy(f.Bytes()[8192:], "hello")
		after = true
		return nil
	})
	if !errors.As(err, &fault) || after {
		t.Errorf("writing beyond the file: %v, went on %v", err, after)
	}
	if err := f.ReadAt(make([]byte, 4096), 0); err != nil {
		t.Errorf("reading what is there: %v", err)
	}
	if err := Guard(func() error { return errLast }); err != errLast {
		t.Errorf("the error of the function became %v", err)
	}
	defer func() {
		if v := recover(); v != "other" {
			t.Errorf("recovered %v", v)
		}
	}()
	Guard(func() error { panic("other") })
}

func TestGuardAllocatesNothing(t *testing.T) {
	l := NewList(options(64<<10, 10), t.TempDir(), Found{})
	f := newFile(t, l, true)
	var b [20]byte
	if n := testing.AllocsPerRun(100, func() { f.ReadAt(b[:], 100) }); n > 0 {
		t.Errorf("%v allocations a read", n)
	}
}

func TestScan(t *testing.T) {
	const size = 4096
	write := func(dir string, base int64, n int) string {
		path := filepath.Join(dir, fileName(base))
		if err := os.WriteFile(path, bytes.Repeat([]byte{1}, n), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	var wrong *WrongSizeError
	var gap *GapError
	var stray *StrayError
	for _, c := range []struct {
		what  string
		make  func(dir string)
		size  int64
		found Found
		err   any
		says  string
	}{
		{"nothing", func(string) {}, 0, Found{}, nil, ""},
		{"the size is found", func(d string) { write(d, 3*size, size); write(d, 4*size, size) }, 0, Found{First: 3 * size, N: 2, Size: size}, nil, ""},
		{"directories do not matter", func(d string) { write(d, 0, size); os.Mkdir(filepath.Join(d, "lost+found"), 0o755) }, 0, Found{N: 1, Size: size}, nil, ""},
		{"an empty last file goes", func(d string) { write(d, 0, size); write(d, size, 0) }, 0, Found{N: 1, Size: size}, nil, ""},
		{"so does one alone", func(d string) { write(d, 0, 0) }, size, Found{Size: size}, nil, ""},
		{"and one that was not finished", func(d string) {
			write(d, 0, size)
			os.WriteFile(filepath.Join(d, fileName(size)), make([]byte, 100), 0o644)
		}, 0, Found{N: 1, Size: size}, nil, ""},
		{"but not with something in it", func(d string) { write(d, 0, size); write(d, size, 100) }, 0, Found{N: 1, Size: size}, &wrong, fileName(size)},
		{"a size too large", func(d string) { write(d, 0, size); write(d, size, size+1) }, 0, Found{N: 1, Size: size}, &wrong, fileName(size)},
		{"a gap", func(d string) { write(d, 0, size); write(d, 2*size, size) }, 0, Found{N: 1, Size: size}, &gap, fileName(2 * size)},
		{"a stray file", func(d string) { os.WriteFile(filepath.Join(d, "notes.txt"), nil, 0o644) }, 0, Found{}, &stray, "notes.txt"},
		{"a name that is too long", func(d string) { os.WriteFile(filepath.Join(d, "99999999999999999999"), nil, 0o644) }, 0, Found{}, &stray, "99999999999999999999"},
	} {
		t.Run(c.what, func(t *testing.T) {
			dir := t.TempDir()
			c.make(dir)
			found, err := Scan(Disk{}, dir, c.size)
			if found != c.found {
				t.Errorf("found %+v, want %+v", found, c.found)
			}
			if c.err == nil && err != nil || c.err != nil && (!errors.As(err, c.err) || !strings.Contains(err.Error(), c.says)) {
				t.Errorf("error %v", err)
			}
		})
	}
	if _, err := Scan(Disk{}, filepath.Join(t.TempDir(), "none"), size); err != nil {
		t.Errorf("a directory that is not there: %v", err)
	}
}

func TestList(t *testing.T) {
	const size = 4096
	dir := t.TempDir()
	l := NewList(options(size, 10), dir, Found{First: 0, N: 0, Size: size})
	if l.Find(0) != nil || l.Last() != nil || l.Start() != 0 || l.End() != 0 {
		t.Error("an empty list has something")
	}
	for range 5 {
		newFile(t, l, true)
	}
	for _, c := range []struct{ off, base int64 }{{0, 0}, {size - 1, 0}, {size, size}, {5*size - 1, 4 * size}} {
		if f := l.Find(c.off); f == nil || f.Base() != c.base {
			t.Errorf("offset %d is in %v", c.off, f)
		}
	}
	if l.Find(5*size) != nil || l.Find(-1) != nil {
		t.Error("found a file where there is none")
	}
	held := l.Files()[0]
	if err := held.Acquire(); err != nil {
		t.Fatal(err)
	}
	if err := l.DropFirst(); err != nil {
		t.Fatal(err)
	}
	if l.Start() != size || l.Find(0) != nil {
		t.Error("the first file is still in the list")
	}
	if err := Guard(func() error { _ = held.Bytes()[size-1]; return nil }); err != nil {
		t.Errorf("a dropped file that is held: %v", err)
	}
	held.Release()
	if err := held.Acquire(); !errors.Is(err, ErrGone) {
		t.Errorf("acquiring a dropped file: %v", err)
	}
	if err := l.Truncate(3 * size); err != nil {
		t.Fatal(err)
	}
	if l.End() != 3*size || l.Len() != 2 {
		t.Errorf("ends at %d with %d files", l.End(), l.Len())
	}
	found, err := Scan(Disk{}, dir, 0)
	if err != nil || (found != Found{First: size, N: 2, Size: size}) {
		t.Errorf("on the disk: %+v, %v", found, err)
	}
	if l.DropFirst() != nil || l.DropFirst() == nil {
		t.Error("the last file can be dropped, or the one before cannot")
	}
	if _, err := l.Create(2*size, true, 0); err == nil {
		t.Error("a file was created over one that is there")
	}
}

// Many readers of more files than may be mapped: everybody reads the right bytes,
// and the bound holds.
func TestMapsBoundsWhatIsMapped(t *testing.T) {
	const size, files, bound = 4096, 40, 8
	o := options(size, bound)
	l := NewList(o, t.TempDir(), Found{})
	for i := range files {
		f := newFile(t, l, false)
		if err := f.Acquire(); err != nil {
			t.Fatal(err)
		}
		err := Guard(func() error {
			copy(f.Bytes(), fmt.Sprintf("file %03d", i))
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		f.Release()
	}
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			r := rand.New(rand.NewPCG(uint64(g), 1))
			var b [8]byte
			for range 3000 {
				i := r.IntN(files)
				if err := l.Find(int64(i)*size).ReadAt(b[:], int64(i)*size); err != nil || string(b[:]) != fmt.Sprintf("file %03d", i) {
					t.Errorf("file %d: %q, %v", i, b, err)
					return
				}
			}
		}()
	}
	wg.Wait()
	if n := o.Maps.Len(); n > bound+4 {
		t.Errorf("%d files are mapped", n)
	}
	for _, f := range l.Files() {
		if n := f.refs.Load(); n != 0 && n != 1 {
			t.Errorf("%s has %d users", f.Path(), n-1)
		}
	}
	l.Close()
	if n := o.Maps.Len(); n != 0 {
		t.Errorf("%d files are mapped after Close", n)
	}
}

func TestReleaseWithoutAcquire(t *testing.T) {
	l := NewList(options(4096, 2), t.TempDir(), Found{})
	f := newFile(t, l, false)
	defer func() {
		if recover() == nil {
			t.Error("a second Release went unnoticed")
		}
	}()
	f.Release()
}

func TestAhead(t *testing.T) {
	const size = 4096
	dir := t.TempDir()
	l := NewList(options(size, 10), dir, Found{})
	a := NewAhead(l)
	if err := a.Make(); err != nil {
		t.Fatal(err)
	}
	if l.Len() != 0 {
		t.Error("a file made ahead is in the list")
	}
	f, err := a.Take()
	if err != nil || l.Last() != f || f.Base() != 0 {
		t.Fatalf("took %v, %v", f, err)
	}
	select {
	case <-a.Want():
	default:
		t.Error("nobody wants the next file")
	}
	if f, err = a.Take(); err != nil || f.Base() != size { // made while waiting
		t.Fatalf("took %v, %v", f, err)
	}
	if err := a.Make(); err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if found, err := Scan(Disk{}, dir, 0); err != nil || found.N != 2 {
		t.Errorf("%+v, %v", found, err)
	}
	if err := os.WriteFile(filepath.Join(dir, fileName(2*size)), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	a = NewAhead(l)
	if err := a.Make(); err == nil || a.Failed() == nil {
		t.Error("made a file over another")
	}
	if _, err := a.Take(); err == nil || l.Len() != 2 {
		t.Errorf("took a file that could not be made: %v, %d files", err, l.Len())
	}
}

func TestDisk(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	d := Disk{}
	h, err := d.OpenFile(path, os.O_RDWR|os.O_CREATE)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	if err := h.Allocate(0, 3*4096); err != nil {
		t.Fatal(err)
	}
	if n, err := h.Size(); n != 3*4096 || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
	m, err := h.Map(3*4096, true)
	if err != nil {
		t.Fatal(err)
	}
	copy(m.Bytes()[100:], "mapped")
	if _, err := h.WriteAt([]byte("written"), 4096); err != nil {
		t.Fatal(err)
	}
	var b [7]byte
	if _, err := h.ReadAt(b[:], 100); err != nil || string(b[:6]) != "mapped" {
		t.Errorf("%q, %v", b, err)
	}
	if string(m.Bytes()[4096:4096+7]) != "written" {
		t.Error("the mapping does not show what was written")
	}
	if err := errors.Join(m.Sync(100, 6), m.Random(), m.WillNeed(0, 8192), h.Sync(), h.DropCache(0, 3*4096)); err != nil {
		t.Error(err)
	}
	if !m.Resident(100, 6) {
		t.Error("a page in use is not resident")
	}
	if err := h.Zero(50, 4096); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(m.Bytes()[50:50+4096], make([]byte, 4096)) || string(m.Bytes()[4096+50:4096+57]) == "written" {
		t.Error("not zeroed, or too much")
	}
	if n, _ := h.Size(); n != 3*4096 {
		t.Errorf("%d bytes after zeroing", n)
	}
	// What stands in for fallocate where there is none.
	copy(m.Bytes()[5000:], "kept")
	if err := h.(diskHandle).writeOver(0, 3*4096, false); err != nil || string(m.Bytes()[5000:5004]) != "kept" {
		t.Error("writing over what is there changed it", err)
	}
	if err := h.(diskHandle).writeOver(5001, 2, true); err != nil || string(m.Bytes()[5000:5004]) != "k\x00\x00t" {
		t.Errorf("%q, %v", m.Bytes()[5000:5004], err)
	}
	if err := m.Unmap(); err != nil {
		t.Error(err)
	}
	if used, free, err := d.Usage(dir); used == 0 || free == 0 || err != nil {
		t.Error(used, free, err)
	}
	if err := d.Remove(filepath.Join(dir, "none")); err != nil {
		t.Error(err)
	}
	e, err := d.Stat(path)
	if err != nil || e.Name != "f" || e.Size != 3*4096 || e.Dir || e.ModTime.IsZero() {
		t.Errorf("%+v, %v", e, err)
	}
	if list, err := d.ReadDir(dir); err != nil || len(list) != 1 || list[0] != e {
		t.Errorf("%+v, %v", list, err)
	}
}

func TestLockExcludesASecondHolder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	l, err := Disk{}.Lock(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (Disk{}).Lock(path); !errors.Is(err, ErrLocked) {
		t.Errorf("the second lock: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l, err = Disk{}.Lock(path)
	if err != nil {
		t.Errorf("after the release: %v", err)
	} else {
		l.Close()
	}
}

// asked is a mapping that counts questions and has what it is told in memory.
type asked struct {
	Mapping
	n    int
	cold int64 // of this page; -1 = all is there
}

func (a *asked) Resident(off, n int64) bool {
	a.n++
	return a.cold < off || a.cold >= off+n
}

func TestResidencyIsRemembered(t *testing.T) {
	const size = 3<<20 + 512
	r, m := newResidency(size), &asked{cold: 1<<20 + 4096}
	ask := func(off, n int64) (bool, int) {
		m.n = 0
		return r.covers(m, size, off, n), m.n
	}
	for range 5 {
		if ok, n := ask(100, 4096); !ok || n > 1 {
			t.Errorf("all of the part is there: %v after %d questions", ok, n)
		}
	}
	if ok, _ := ask(1<<20, 8192); ok {
		t.Error("a missing page was not noticed")
	}
	if ok, _ := ask(1<<20+8192, 4096); !ok {
		t.Error("what is there beside the missing page counts as missing")
	}
	if ok, _ := ask(0, size); ok {
		t.Error("the missing page lies within")
	}
	if ok, _ := ask(3<<20, 512); !ok {
		t.Error("the last part, which is short")
	}
	m.cold = 0
	r.forget()
	if ok, n := ask(0, 512); ok || n == 0 {
		t.Error("not asked after forget")
	}
}
