// Package simdisk is a disk in memory for tests: it implements segment.FS, can
// lose power, and fails when it is told to.
//
// What is written lies in the live content of a file first, as in a page cache.
// Sync, of a file or of a part of a mapping, makes a durable image of it. A name
// that is created, renamed or removed is durable after SyncDir of its directory
// only: a file that was synced can still be gone, one that was removed can be
// back. PowerOff stops the disk; Crash then gives the disk as the next boot
// finds it, Restart as the next process of the same boot does.
//
//	d := simdisk.New()
//	... run a store on d ...
//	d.PowerOff()                // every call on d fails from here on
//	d = d.Crash(seed, 0.5)      // half of what was not durable has survived
//	... open the store again on the new d ...
//
// The same calls and the same seed give the same disk. A mapping is plain
// memory, so the race detector sees what is done with it; see Faulty for bad
// pages.
package simdisk

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"gomq/internal/store/segment"
)

const (
	pageSize   = 4096
	sectorSize = 512
)

// ErrOff is what every call gets after PowerOff.
var ErrOff = errors.New("the simulated disk has no power")

// Sim is the disk. Its methods may be called from any goroutine.
type Sim struct {
	faulty bool // mappings are pages that can be made bad

	mu       sync.Mutex // guards the rest and what lies in the inodes, but not mapped bytes
	root     *inode
	pending  []nameOp // not durable yet, in the order in which they were done
	locks    map[string]bool
	now      func() time.Time
	usage    func(path string) (used, free uint64, err error)
	capacity int64 // bytes of blocks, 0 = no limit
	used     int64

	off    bool
	offAt  int // the number of the changing operation that finds no power; 0 = never
	ops    int // operations so far that change something
	counts map[Op]int
	faults []*armed
}

// inode is a file or a directory, reachable by the names in kids of its
// directory now, and by those in synced after a power cut.
type inode struct {
	dir          bool
	kids, synced map[string]*inode

	live   []byte           // content; mappings alias it
	disk   []byte           // content after a power cut
	blocks []bool           // of each page: has space on the disk
	gone   bool             // has no name, its blocks do not count
	lost   map[int64][]byte // pages that a failed sync has marked clean, as they were
	bad    map[int64]bool   // pages that fault; true: on reading, too
	maps   int
	frozen []byte // live at PowerOff
	mtime  time.Time
}

// link is a name in a directory.
type link struct {
	dir  *inode
	name string
	node *inode
}

// nameOp is one atomic change of names: what it takes away, what it adds.
type nameOp struct{ del, add link }

func (o *nameOp) links() []link {
	var l []link
	if o.del.dir != nil {
		l = append(l, o.del)
	}
	if o.add.dir != nil {
		l = append(l, o.add)
	}
	return l
}

// apply does the change in the names that names gives for a directory.
func (o *nameOp) apply(names func(*inode) map[string]*inode) {
	if o.del.dir != nil {
		if m := names(o.del.dir); m[o.del.name] == o.del.node {
			delete(m, o.del.name)
		}
	}
	if o.add.dir != nil {
		names(o.add.dir)[o.add.name] = o.add.node
	}
}

// New makes an empty disk without limit of size.
func New() *Sim {
	return &Sim{root: newDir(), locks: map[string]bool{}, now: time.Now, counts: map[Op]int{}}
}

// Faulty makes an empty disk whose mappings lie in pages of their own, so that
// BadPage can make one of them fault as a bad block of a real disk does. The
// race detector does not see what is done in them.
func Faulty() *Sim {
	s := New()
	s.faulty = true
	return s
}

func newDir() *inode {
	return &inode{dir: true, kids: map[string]*inode{}, synced: map[string]*inode{}}
}

// SetNow sets the clock that modification times come from.
func (s *Sim) SetNow(now func() time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = now
}

// SetUsage sets what Usage answers; nil: what the files take of the capacity.
func (s *Sim) SetUsage(fn func(path string) (used, free uint64, err error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.usage = fn
}

// SetCapacity limits the blocks of all files to n bytes, 0 = no limit. An
// allocation or a write beyond fails with ENOSPC.
func (s *Sim) SetCapacity(n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.capacity = n
}

// Used is the number of bytes that the files have blocks for.
func (s *Sim) Used() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.used
}

func pathError(op Op, name string, err error) error {
	return &os.PathError{Op: string(op), Path: name, Err: err}
}

func split(name string) []string {
	name = path.Clean("/" + name)
	if name == "/" {
		return nil
	}
	return strings.Split(name[1:], "/")
}

// find looks a path up. Held: mu.
func (s *Sim) find(name string) *inode {
	n := s.root
	for _, part := range split(name) {
		if n = n.kids[part]; n == nil {
			return nil
		}
	}
	return n
}

// parent finds the directory of a path. Held: mu.
func (s *Sim) parent(name string) (*inode, string) {
	parts := split(name)
	if len(parts) == 0 {
		return nil, ""
	}
	dir := s.root
	for _, part := range parts[:len(parts)-1] {
		if dir = dir.kids[part]; dir == nil {
			return nil, ""
		}
	}
	if !dir.dir {
		return nil, ""
	}
	return dir, parts[len(parts)-1]
}

func (s *Sim) change(o nameOp) {
	o.apply(func(d *inode) map[string]*inode { return d.kids })
	s.pending = append(s.pending, o)
}

// OpenFile opens or creates a file.
func (s *Sim) OpenFile(name string, flag int) (segment.Handle, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.find(name)
	op := OpOpen
	if n == nil && flag&os.O_CREATE != 0 {
		op = OpCreate
	}
	if err := s.enter(op, name); err != nil {
		return nil, pathError(op, name, err)
	}
	switch {
	case n == nil && flag&os.O_CREATE == 0:
		return nil, pathError(op, name, syscall.ENOENT)
	case n != nil && flag&(os.O_CREATE|os.O_EXCL) == os.O_CREATE|os.O_EXCL:
		return nil, pathError(op, name, syscall.EEXIST)
	case n != nil && n.dir:
		return nil, pathError(op, name, syscall.EISDIR)
	}
	if n == nil {
		dir, base := s.parent(name)
		if dir == nil {
			return nil, pathError(op, name, syscall.ENOENT)
		}
		n = &inode{mtime: s.now()}
		s.change(nameOp{add: link{dir, base, n}})
	}
	if flag&os.O_TRUNC != 0 && len(n.live) > 0 {
		if err := s.resize(n, 0); err != nil {
			return nil, pathError(op, name, err)
		}
	}
	return &handle{s: s, n: n, name: name, write: flag&(os.O_RDWR|os.O_WRONLY) != 0}, nil
}

// ReadDir lists a directory; one that is not there has no entries.
func (s *Sim) ReadDir(name string) ([]segment.Entry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.enter(OpReadDir, name); err != nil {
		return nil, pathError(OpReadDir, name, err)
	}
	n := s.find(name)
	if n == nil {
		return nil, nil
	}
	if !n.dir {
		return nil, pathError(OpReadDir, name, syscall.ENOTDIR)
	}
	var out []segment.Entry
	for _, base := range slices.Sorted(maps.Keys(n.kids)) {
		out = append(out, n.kids[base].entry(base))
	}
	return out, nil
}

func (n *inode) entry(base string) segment.Entry {
	return segment.Entry{Name: base, Size: int64(len(n.live)), ModTime: n.mtime, Dir: n.dir}
}

// Stat describes a file or directory.
func (s *Sim) Stat(name string) (segment.Entry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.enter(OpStat, name); err != nil {
		return segment.Entry{}, pathError(OpStat, name, err)
	}
	n := s.find(name)
	if n == nil {
		return segment.Entry{}, pathError(OpStat, name, syscall.ENOENT)
	}
	return n.entry(path.Base(name)), nil
}

// MkdirAll makes a directory and those above it.
func (s *Sim) MkdirAll(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.find(name); n != nil && n.dir && !s.off {
		return nil
	}
	if err := s.enter(OpMkdir, name); err != nil {
		return pathError(OpMkdir, name, err)
	}
	dir := s.root
	for _, part := range split(name) {
		next := dir.kids[part]
		if next == nil {
			next = newDir()
			next.mtime = s.now()
			s.change(nameOp{add: link{dir, part, next}})
		}
		if !next.dir {
			return pathError(OpMkdir, name, syscall.ENOTDIR)
		}
		dir = next
	}
	return nil
}

// Rename moves a file or directory; a file that was at to is replaced.
func (s *Sim) Rename(from, to string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.enter(OpRename, from); err != nil {
		return pathError(OpRename, from, err)
	}
	n := s.find(from)
	src, a := s.parent(from)
	dst, b := s.parent(to)
	if n == nil || src == nil || dst == nil {
		return pathError(OpRename, from, syscall.ENOENT)
	}
	if old := dst.kids[b]; old != nil && old.dir {
		return pathError(OpRename, to, syscall.EEXIST)
	} else if old != nil && old != n {
		s.release(old)
	}
	s.change(nameOp{del: link{src, a, n}, add: link{dst, b, n}})
	return nil
}

// doomed finds what is to be removed; dir is nil when it is not there. Held: mu.
func (s *Sim) doomed(name string) (dir *inode, base string, err error) {
	if err := s.enter(OpRemove, name); err != nil {
		return nil, "", pathError(OpRemove, name, err)
	}
	dir, base = s.parent(name)
	if dir == nil || dir.kids[base] == nil {
		return nil, "", nil
	}
	return dir, base, nil
}

// Remove removes a file or an empty directory; one that is not there is no error.
func (s *Sim) Remove(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	dir, base, err := s.doomed(name)
	if dir == nil || err != nil {
		return err
	}
	n := dir.kids[base]
	if len(n.kids) > 0 {
		return pathError(OpRemove, name, syscall.ENOTEMPTY)
	}
	s.release(n)
	s.change(nameOp{del: link{dir, base, n}})
	return nil
}

// RemoveAll removes a directory with what is in it. A power cut may leave any
// part of it.
func (s *Sim) RemoveAll(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	dir, base, err := s.doomed(name)
	if dir == nil || err != nil {
		return err
	}
	s.removeTree(dir, base)
	return nil
}

func (s *Sim) removeTree(dir *inode, base string) {
	n := dir.kids[base]
	for _, kid := range slices.Sorted(maps.Keys(n.kids)) {
		s.removeTree(n, kid)
	}
	s.release(n)
	s.change(nameOp{del: link{dir, base, n}})
}

// release takes the blocks of a file that loses its name out of the account. It
// keeps them itself: a power cut may bring the name back.
func (s *Sim) release(n *inode) {
	if n.gone {
		return
	}
	n.gone = true
	for _, b := range n.blocks {
		if b {
			s.used -= pageSize
		}
	}
}

// SyncDir makes the changes of names in a directory durable. What a rename did
// in another directory comes with it, and what was done to the same names before.
func (s *Sim) SyncDir(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.enter(OpSyncDir, name); err != nil {
		return pathError(OpSyncDir, name, err)
	}
	dir := s.find(name)
	if dir == nil {
		return pathError(OpSyncDir, name, syscall.ENOENT)
	}
	type key struct {
		dir  *inode
		name string
	}
	need := map[key]bool{}
	chosen := make([]bool, len(s.pending))
	for i := len(s.pending) - 1; i >= 0; i-- {
		for _, l := range s.pending[i].links() {
			chosen[i] = chosen[i] || l.dir == dir || need[key{l.dir, l.name}]
		}
		if chosen[i] {
			for _, l := range s.pending[i].links() {
				need[key{l.dir, l.name}] = true
			}
		}
	}
	var keep []nameOp
	for i, o := range s.pending {
		if !chosen[i] {
			keep = append(keep, o)
			continue
		}
		o.apply(func(d *inode) map[string]*inode { return d.synced })
	}
	s.pending = keep
	return nil
}

// Usage is what SetUsage set, or the blocks of all files against the capacity.
func (s *Sim) Usage(name string) (used, free uint64, err error) {
	s.mu.Lock()
	if s.off {
		s.mu.Unlock()
		return 0, 0, pathError(OpStat, name, ErrOff)
	}
	fn, u, c := s.usage, s.used, s.capacity
	s.mu.Unlock()
	if fn != nil {
		return fn(name)
	}
	if c == 0 {
		c = 1 << 50
	}
	return uint64(u), uint64(max(c-u, 0)), nil
}

// Lock takes a lock by the name of its file, which is made if it is not there.
func (s *Sim) Lock(name string) (io.Closer, error) {
	h, err := s.OpenFile(name, os.O_RDWR|os.O_CREATE)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.enter(OpLock, name); err != nil {
		return nil, pathError(OpLock, name, err)
	}
	if s.locks[name] {
		return nil, fmt.Errorf("%s: %w", name, segment.ErrLocked)
	}
	s.locks[name] = true
	return &lock{s: s, name: name, Closer: h}, nil
}

type lock struct {
	s    *Sim
	name string
	io.Closer
}

func (l *lock) Close() error {
	l.s.mu.Lock()
	delete(l.s.locks, l.name)
	l.s.mu.Unlock()
	return l.Closer.Close()
}
