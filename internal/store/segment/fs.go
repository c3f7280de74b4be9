// Package segment is files that the store writes: the file system behind an
// interface that a simulated disk can stand in for, files of a fixed size mapped
// into memory, and lists of them that are one endless file.
package segment

import (
	"io"
	"time"
)

// FS is all that the store asks of a file system. Disk is the real one, Sim (in
// the package simdisk) one that can lose power. An error names the file.
type FS interface {
	// OpenFile opens as os.OpenFile does (os.O_RDWR, os.O_CREATE, os.O_EXCL,
	// os.O_TRUNC).
	OpenFile(path string, flag int) (Handle, error)
	// ReadDir lists a directory sorted by name; one that is not there has no entries.
	ReadDir(dir string) ([]Entry, error)
	Stat(path string) (Entry, error)
	MkdirAll(dir string) error
	Rename(from, to string) error
	// Remove of a file that is not there is no error.
	Remove(path string) error
	// RemoveAll removes a directory with what is in it.
	RemoveAll(dir string) error
	// SyncDir makes what has been created, renamed and removed in dir durable.
	SyncDir(dir string) error
	// Usage is the space of the disk under path: bytes in use by anybody, and bytes
	// that could be had (used/(used+free) is the ratio that watermarks mean).
	Usage(path string) (used, free uint64, err error)
	// Lock takes the store's lock file (F_OFD_SETLK of its first byte, so that it
	// excludes Java's lock too); held by somebody else is ErrLocked.
	Lock(path string) (io.Closer, error)
}

// Entry is a name in a directory.
type Entry struct {
	Name    string
	Size    int64
	ModTime time.Time
	Dir     bool
}

// Handle is an open file.
type Handle interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Name() string
	Size() (int64, error)
	Truncate(size int64) error
	// Allocate gives the file blocks for [off, off+n), which read as zeros where
	// nothing was written, and extends it (fallocate). A full disk is an error here
	// and never later.
	Allocate(off, n int64) error
	// Zero makes [off, off+n), which lies inside the file, read as zeros and keeps
	// its blocks.
	Zero(off, n int64) error
	// Sync makes the file's content durable (fdatasync), mapped writes included.
	Sync() error
	// SyncAside is Sync of [off, off+n) that keeps no processor from others while it
	// waits. errors.ErrUnsupported: it cannot be had, nothing was done.
	SyncAside(off, n int64) error
	// DropCache makes the system forget what it holds of [off, off+n) in memory and
	// has (or believes to have) written, so that the next read comes from the disk.
	DropCache(off, n int64) error
	// Map maps the first size bytes, for writing too if write is set.
	Map(size int64, write bool) (Mapping, error)
}

// Mapping is a file's bytes in memory. Only the code in this package touches
// Bytes directly; everybody else goes through Read and Write, which turn the
// fault of a bad page into an error.
type Mapping interface {
	Bytes() []byte
	// Sync makes [off, off+n) durable (msync).
	Sync(off, n int64) error
	// Random tells the system not to read ahead (MADV_RANDOM).
	Random() error
	// WillNeed asks the system to read [off, off+n) ahead.
	WillNeed(off, n int64) error
	// Resident says whether reading [off, off+n) would not have to wait for the disk.
	Resident(off, n int64) bool
	// Unmap ends the mapping; the handle may have been closed long before.
	Unmap() error
}
