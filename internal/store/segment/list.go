package segment

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
)

// Options are what the lists of one kind of file have in common.
type Options struct {
	FS     FS
	Size   int64 // of each file, bytes
	Maps   *Maps
	Random bool // tell the system not to read ahead in the mappings
}

// List is an endless file made of files of one size, named by the offset of their
// first byte in 20 digits (store.md section 1). Reading it is free of locks;
// changing it is for one goroutine at a time or synchronized inside.
type List struct {
	o   *Options
	dir string

	mu    sync.Mutex // held while the list changes
	files atomic.Pointer[[]*File]
}

// Found is what Scan found in a directory.
type Found struct {
	First int64 // offset of the first file
	N     int   // files
	Size  int64 // of each, 0 if there is none
}

// WrongSizeError tells of a file whose length is not that of the others.
type WrongSizeError struct {
	Path       string
	Size, Want int64
}

func (e *WrongSizeError) Error() string {
	return fmt.Sprintf("%s has %d bytes, the others (or the configuration) have %d; restore or move it", e.Path, e.Size, e.Want)
}

// StrayError tells of a file that does not belong to a list.
type StrayError struct{ Path, Why string }

func (e *StrayError) Error() string {
	return fmt.Sprintf("%s does not belong there (%s); move it away", e.Path, e.Why)
}

// GapError tells of a file that does not follow the one before it.
type GapError struct {
	Path, Want string
	Size       int64
}

func (e *GapError) Error() string {
	return fmt.Sprintf("%s does not follow the file before it: %s should come there; one is missing, or the names do not fit the size of %d bytes; restore or move it", e.Path, e.Want, e.Size)
}

// Scan looks at the files of a directory without opening them. A size of 0 means
// that they say themselves what their size is: that of the first. A last file
// without any bytes, left by a creation that did not end, is removed; so is a
// last file of a wrong size that holds only zeros. Directories are passed over.
// Errors: *WrongSizeError, *GapError, with what was found before that file;
// *StrayError, and those of the file system.
func Scan(fs FS, dir string, size int64) (Found, error) {
	entries, err := fs.ReadDir(dir)
	if err != nil {
		return Found{}, err
	}
	files := entries[:0]
	for _, e := range entries {
		if e.Dir {
			continue
		}
		if _, ok := parseName(e.Name); !ok {
			return Found{}, &StrayError{Path: filepath.Join(dir, e.Name), Why: "its name is not that of a store file"}
		}
		files = append(files, e)
	}
	for n := len(files); n > 0; n-- {
		gone, err := dropUnfinished(fs, dir, files[:n], size)
		if err != nil {
			return Found{}, err
		}
		if files = files[:n]; !gone {
			break
		}
		files = files[:n-1]
	}
	if len(files) == 0 {
		return Found{Size: size}, nil
	}
	if size == 0 {
		size = files[0].Size
	}
	first, _ := parseName(files[0].Name)
	for i, e := range files {
		base, _ := parseName(e.Name)
		switch {
		case e.Size != size:
			return Found{First: first, N: i, Size: size}, &WrongSizeError{Path: filepath.Join(dir, e.Name), Size: e.Size, Want: size}
		case base != first+int64(i)*size:
			return Found{First: first, N: i, Size: size}, &GapError{Path: filepath.Join(dir, e.Name), Want: fileName(first + int64(i)*size), Size: size}
		}
	}
	return Found{First: first, N: len(files), Size: size}, nil
}

// dropUnfinished removes the last of files if it is what a creation left that
// did not end.
func dropUnfinished(fs FS, dir string, files []Entry, size int64) (bool, error) {
	last := files[len(files)-1]
	if size == 0 && len(files) > 1 {
		size = files[0].Size
	}
	if last.Size != 0 && (size == 0 || last.Size >= size) {
		return false, nil
	}
	path := filepath.Join(dir, last.Name)
	if last.Size != 0 {
		zero, err := onlyZeros(fs, path, last.Size)
		if err != nil || !zero {
			return false, err
		}
	}
	if err := fs.Remove(path); err != nil {
		return false, err
	}
	// Not to be back after a power cut behind a clean stop, when nobody expects it.
	return true, fs.SyncDir(dir)
}

func onlyZeros(fs FS, path string, size int64) (bool, error) {
	h, err := fs.OpenFile(path, os.O_RDONLY)
	if err != nil {
		return false, err
	}
	defer h.Close()
	buf := make([]byte, 64<<10)
	for off := int64(0); off < size; off += int64(len(buf)) {
		b := buf[:min(int64(len(buf)), size-off)]
		if _, err := h.ReadAt(b, off); err != nil {
			return false, err
		}
		for _, c := range b {
			if c != 0 {
				return false, nil
			}
		}
	}
	return true, nil
}

func parseName(name string) (int64, bool) {
	if len(name) != nameDigits {
		return 0, false
	}
	var n int64
	for i := range len(name) {
		c := name[i]
		if c < '0' || c > '9' || n > (1<<63-1-9)/10 {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}

// NewList makes the list of what was found in dir. Nothing is opened.
func NewList(o *Options, dir string, f Found) *List {
	l := &List{o: o, dir: dir}
	files := make([]*File, f.N)
	for i := range files {
		files[i] = l.file(f.First + int64(i)*o.Size)
	}
	l.files.Store(&files)
	return l
}

func (l *List) file(base int64) *File { return &File{l: l, base: base, place: -1} }

// Dir is where the files lie.
func (l *List) Dir() string { return l.dir }

// FileSize is the length of each file.
func (l *List) FileSize() int64 { return l.o.Size }

// Files is the list as it is now, oldest first. It must not be changed.
func (l *List) Files() []*File { return *l.files.Load() }

// Len is the number of files.
func (l *List) Len() int { return len(l.Files()) }

// Start is the offset of the first byte, 0 for an empty list.
func (l *List) Start() int64 {
	if f := l.Files(); len(f) > 0 {
		return f[0].base
	}
	return 0
}

// End is the offset behind the last file, 0 for an empty list.
func (l *List) End() int64 {
	if f := l.Files(); len(f) > 0 {
		return f[len(f)-1].End()
	}
	return 0
}

// Last is the newest file, nil if there is none.
func (l *List) Last() *File {
	if f := l.Files(); len(f) > 0 {
		return f[len(f)-1]
	}
	return nil
}

// Find is the file in which offset off lies, nil if there is none.
func (l *List) Find(off int64) *File {
	f := l.Files()
	if len(f) == 0 || off < f[0].base {
		return nil
	}
	i := (off - f[0].base) / l.o.Size
	if i >= int64(len(f)) {
		return nil
	}
	return f[i]
}

// Create makes the file that begins at base on the disk; Add puts it into the
// list. With whole set all of it gets blocks, and its name is durable on return;
// otherwise it has the full length and the first allocate bytes get blocks, and
// SyncDir is the caller's business. What could not be completed is removed again.
// The file stays open for writing until Seal.
func (l *List) Create(base int64, whole bool, allocate int64) (*File, error) {
	fs := l.o.FS
	f := l.file(base)
	path := f.Path()
	h, err := fs.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL)
	if err != nil {
		return nil, err
	}
	if whole {
		if err = h.Allocate(0, l.o.Size); err == nil {
			err = h.Sync()
		}
		if err == nil {
			err = fs.SyncDir(l.dir)
		}
	} else {
		if err = h.Truncate(l.o.Size); err == nil && allocate > 0 {
			err = h.Allocate(0, min(allocate, l.o.Size))
		}
	}
	if err != nil {
		return nil, errors.Join(err, h.Close(), fs.Remove(path))
	}
	f.h = h
	return f, nil
}

// Add puts a created file at the end of the list.
func (l *List) Add(f *File) {
	l.mu.Lock()
	defer l.mu.Unlock()
	old := l.Files()
	// Files has handed out prefixes of the array only, and what lies behind them
	// is not read: growing in place is safe.
	files := append(old, f)
	l.files.Store(&files)
}

// Discard removes a created file that was not added.
func (l *List) Discard(f *File) error {
	f.drop()
	return l.o.FS.Remove(f.Path())
}

// errLast is returned by DropFirst when there is but one file.
var errLast = errors.New("the last file is never dropped")

// DropFirst takes the first file out of the list and removes it from the disk,
// unless it is the last. Those who have acquired it keep it until they release it.
func (l *List) DropFirst() error {
	l.mu.Lock()
	files := l.Files()
	if len(files) < 2 {
		l.mu.Unlock()
		return fmt.Errorf("%s: %w", l.dir, errLast)
	}
	first := files[0]
	rest := files[1:]
	l.files.Store(&rest)
	l.mu.Unlock()
	first.drop()
	if err := l.o.FS.Remove(first.Path()); err != nil {
		return err
	}
	return l.o.FS.SyncDir(l.dir)
}

// Truncate removes the files that begin at or behind off, newest first and each
// for good before the next, so that what remains has no gap however this is
// interrupted.
func (l *List) Truncate(off int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	files := l.Files()
	for n := len(files) - 1; n >= 0 && files[n].base >= off; n-- {
		kept := append([]*File(nil), files[:n]...)
		l.files.Store(&kept)
		files[n].drop()
		if err := l.o.FS.Remove(files[n].Path()); err != nil {
			return err
		}
		if err := l.o.FS.SyncDir(l.dir); err != nil {
			return err
		}
	}
	return nil
}

// Close unmaps what is not in use and closes all descriptors; what is in use is
// unmapped when it is released.
func (l *List) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range l.Files() {
		f.close()
	}
	l.files.Store(&[]*File{})
}
