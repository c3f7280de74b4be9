package segment

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ErrLocked is returned by Lock when somebody else holds the lock.
var ErrLocked = errors.New("locked by another process")

// Disk is the real file system.
type Disk struct{}

const (
	filePerm = 0o644
	dirPerm  = 0o755
)

// OpenFile opens a file; see FS.
func (Disk) OpenFile(path string, flag int) (Handle, error) {
	f, err := os.OpenFile(path, flag, filePerm)
	if err != nil {
		return nil, err
	}
	return diskHandle{f}, nil
}

// ReadDir lists a directory; see FS.
func (Disk) ReadDir(dir string) ([]Entry, error) {
	d, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	out := make([]Entry, 0, len(names))
	for _, name := range names {
		var st unix.Stat_t
		err := retry(func() error { return unix.Fstatat(int(d.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW) })
		if err == nil && st.Mode&unix.S_IFMT == unix.S_IFLNK {
			err = retry(func() error { return unix.Fstatat(int(d.Fd()), name, &st, 0) })
		}
		if err == unix.ENOENT {
			continue
		}
		if err != nil {
			return nil, &fs.PathError{Op: "stat", Path: dir + "/" + name, Err: err}
		}
		out = append(out, entryOf(name, &st))
	}
	slices.SortFunc(out, func(a, b Entry) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

func entryOf(name string, st *unix.Stat_t) Entry {
	return Entry{Name: name, Size: st.Size, ModTime: timeOf(st.Mtim), Dir: st.Mode&unix.S_IFMT == unix.S_IFDIR}
}

// Stat describes a file.
func (Disk) Stat(path string) (Entry, error) {
	var st unix.Stat_t
	if err := retry(func() error { return unix.Stat(path, &st) }); err != nil {
		return Entry{}, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	return entryOf(path[strings.LastIndexByte(path, '/')+1:], &st), nil
}

// MkdirAll makes a directory and those above it.
func (Disk) MkdirAll(dir string) error { return os.MkdirAll(dir, dirPerm) }

// Rename renames.
func (Disk) Rename(from, to string) error { return os.Rename(from, to) }

// Remove removes a file; one that is not there is no error.
func (Disk) Remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// RemoveAll removes a directory with what is in it.
func (Disk) RemoveAll(dir string) error { return os.RemoveAll(dir) }

// SyncDir makes the names in dir durable.
func (Disk) SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// Usage asks statfs. What only root could still use counts as neither used nor
// free.
func (Disk) Usage(path string) (used, free uint64, err error) {
	var st unix.Statfs_t
	if err := retry(func() error { return unix.Statfs(path, &st) }); err != nil {
		return 0, 0, &fs.PathError{Op: "statfs", Path: path, Err: err}
	}
	unit := uint64(st.Bsize)
	return (st.Blocks - st.Bfree) * unit, st.Bavail * unit, nil
}

// Lock takes the lock of the first byte, as a lock of the open file: it excludes
// the record lock that a JVM takes, and a second store in this process. The file
// is created if need be; closing releases the lock and leaves the file.
func (Disk) Lock(path string) (io.Closer, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, filePerm)
	if err != nil {
		return nil, err
	}
	l := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart, Start: 0, Len: 1}
	err = retry(func() error { return unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &l) })
	if err == nil {
		return f, nil
	}
	f.Close()
	if err == unix.EAGAIN || err == unix.EACCES {
		return nil, fmt.Errorf("%s: %w", path, ErrLocked)
	}
	return nil, &fs.PathError{Op: "lock", Path: path, Err: err}
}

// retry repeats a system call that a signal interrupted.
func retry(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}

// diskHandle is an open file of the real disk.
type diskHandle struct{ *os.File }

func (h diskHandle) fd() int { return int(h.File.Fd()) }

func (h diskHandle) fail(op string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: h.Name(), Err: err}
}

// Size is the file's length.
func (h diskHandle) Size() (int64, error) {
	st, err := h.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

// Allocate calls fallocate; where the file system has none it writes zeros over
// what reads as zeros, which has the same outcome.
func (h diskHandle) Allocate(off, n int64) error {
	err := retry(func() error { return unix.Fallocate(h.fd(), 0, off, n) })
	if err == unix.EOPNOTSUPP || err == unix.ENOSYS {
		return h.writeOver(off, n, false)
	}
	return h.fail("fallocate", err)
}

// Zero calls fallocate with FALLOC_FL_ZERO_RANGE, or writes zeros.
func (h diskHandle) Zero(off, n int64) error {
	if n <= 0 {
		return nil
	}
	err := retry(func() error {
		return unix.Fallocate(h.fd(), unix.FALLOC_FL_ZERO_RANGE|unix.FALLOC_FL_KEEP_SIZE, off, n)
	})
	if err == unix.EOPNOTSUPP || err == unix.ENOSYS || err == unix.EINVAL {
		return h.writeOver(off, n, true)
	}
	return h.fail("fallocate", err)
}

// writeOver writes every page of a range once: zeros, or what is there already.
func (h diskHandle) writeOver(off, n int64, zero bool) error {
	buf := make([]byte, 64<<10)
	for end := off + n; off < end; {
		b := buf[:min(int64(len(buf)), end-off)]
		if !zero {
			got, err := h.ReadAt(b, off)
			if err != nil && err != io.EOF {
				return err
			}
			clear(b[got:])
		}
		if _, err := h.WriteAt(b, off); err != nil {
			return err
		}
		off += int64(len(b))
	}
	return nil
}

// Sync calls fdatasync.
func (h diskHandle) Sync() error {
	return h.fail("fdatasync", retry(func() error { return unix.Fdatasync(h.fd()) }))
}

// SyncAside hands fdatasync to io_uring.
func (h diskHandle) SyncAside(off, n int64) error {
	err := syncAside(h.File, off, n)
	if errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	return h.fail("fdatasync by io_uring", err)
}

// DropCache calls posix_fadvise with DONTNEED.
func (h diskHandle) DropCache(off, n int64) error {
	return h.fail("fadvise", retry(func() error { return unix.Fadvise(h.fd(), off, n, unix.FADV_DONTNEED) }))
}

// Map maps the file shared; the descriptor is not needed any more afterwards.
func (h diskHandle) Map(size int64, write bool) (Mapping, error) {
	if size <= 0 || int64(int(size)) != size {
		return nil, h.fail("mmap", unix.EINVAL)
	}
	prot := unix.PROT_READ
	if write {
		prot |= unix.PROT_WRITE
	}
	b, err := unix.Mmap(h.fd(), 0, int(size), prot, unix.MAP_SHARED)
	if err != nil {
		return nil, h.fail("mmap", err)
	}
	return &diskMapping{b: b, name: h.Name()}, nil
}

// diskMapping is a mapping of a real file.
type diskMapping struct {
	b    []byte
	name string
}

var pageSize = int64(os.Getpagesize())

// Bytes is the mapped file.
func (m *diskMapping) Bytes() []byte { return m.b }

// pages widens [off, off+n) to whole pages, within the mapping.
func (m *diskMapping) pages(off, n int64) []byte {
	end := min(off+n, int64(len(m.b)))
	off = off / pageSize * pageSize
	if off >= end {
		return nil
	}
	return m.b[off:end]
}

func (m *diskMapping) advise(op string, off, n int64, call func(b []byte) error) error {
	b := m.pages(off, n)
	if len(b) == 0 {
		return nil
	}
	if err := retry(func() error { return call(b) }); err != nil {
		return &fs.PathError{Op: op, Path: m.name, Err: err}
	}
	return nil
}

// Sync calls msync for the pages of the range and waits.
func (m *diskMapping) Sync(off, n int64) error {
	return m.advise("msync", off, n, func(b []byte) error { return unix.Msync(b, unix.MS_SYNC) })
}

// Random calls madvise with MADV_RANDOM.
func (m *diskMapping) Random() error {
	return m.advise("madvise", 0, int64(len(m.b)), func(b []byte) error { return unix.Madvise(b, unix.MADV_RANDOM) })
}

// WillNeed calls madvise with MADV_WILLNEED.
func (m *diskMapping) WillNeed(off, n int64) error {
	return m.advise("madvise", off, n, func(b []byte) error { return unix.Madvise(b, unix.MADV_WILLNEED) })
}

// Resident asks mincore; a failure counts as resident, because then the worst is
// a page fault.
func (m *diskMapping) Resident(off, n int64) bool {
	b := m.pages(off, n)
	var vec [256]byte
	for len(b) > 0 {
		part := b[:min(int64(len(b)), int64(len(vec))*pageSize)]
		_, _, errno := syscall.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(&part[0])), uintptr(len(part)), uintptr(unsafe.Pointer(&vec[0])))
		if errno != 0 {
			return true
		}
		for i := range (int64(len(part)) + pageSize - 1) / pageSize {
			if vec[i]&1 == 0 {
				return false
			}
		}
		b = b[len(part):]
	}
	return true
}

// Unmap ends the mapping.
func (m *diskMapping) Unmap() error {
	b := m.b
	m.b = nil
	if err := unix.Munmap(b); err != nil {
		return &fs.PathError{Op: "munmap", Path: m.name, Err: err}
	}
	return nil
}
