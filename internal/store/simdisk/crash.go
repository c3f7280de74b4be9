package simdisk

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"syscall"
	"time"
)

// PowerOff stops the disk: what is not durable now is in danger, and every call
// from here on fails with ErrOff. Calling it again does nothing.
func (s *Sim) PowerOff() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.off {
		s.powerOff()
	}
}

// Off says whether the disk has lost its power.
func (s *Sim) Off() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.off
}

// powerOff keeps the live content as it is now: those who have it mapped can
// write on. Held: mu.
func (s *Sim) powerOff() {
	s.off = true
	s.walk(func(n *inode) {
		if !n.dir {
			s.heal(n)
			n.frozen = make([]byte, len(n.live))
			rawCopy(n.frozen, n.live)
		}
	})
}

// walk calls fn once for every inode that has or had a name, in an order that
// depends on names only.
func (s *Sim) walk(fn func(*inode)) {
	seen := map[*inode]bool{}
	var visit func(n *inode)
	visit = func(n *inode) {
		if n == nil || seen[n] {
			return
		}
		seen[n] = true
		fn(n)
		for _, m := range []map[string]*inode{n.kids, n.synced} {
			for _, name := range slices.Sorted(maps.Keys(m)) {
				visit(m[name])
			}
		}
	}
	visit(s.root)
	for _, o := range s.pending {
		visit(o.del.node)
		visit(o.add.node)
	}
}

// Crash is the disk as it is after the power has come back, given that it went
// at PowerOff (which Crash does if nobody has). Of what was not durable, each
// change of a name, each size and each page of 4 KiB is there with the
// probability survival; one page in four is torn at a multiple of 512 bytes. The
// old disk stays off; clock, usage and capacity go over, faults do not.
func (s *Sim) Crash(seed uint64, survival float64) *Sim {
	s.PowerOff()
	s.mu.Lock()
	defer s.mu.Unlock()
	r := rand.New(rand.NewPCG(seed, 0x9e3779b97f4a7c15))
	names := map[*inode]map[string]*inode{}
	after := func(d *inode) map[string]*inode {
		if names[d] == nil {
			names[d] = maps.Clone(d.synced)
		}
		return names[d]
	}
	for _, o := range s.pending {
		if r.Float64() < survival {
			o.apply(after)
		}
	}
	t := s.next()
	made := map[*inode]*inode{}
	var build func(n *inode) *inode
	build = func(n *inode) *inode {
		if c := made[n]; c != nil {
			return c
		}
		c := &inode{dir: n.dir, mtime: n.mtime}
		made[n] = c
		if n.dir {
			c.kids = map[string]*inode{}
			kids := after(n)
			for _, name := range slices.Sorted(maps.Keys(kids)) {
				c.kids[name] = build(kids[name])
			}
			c.synced = maps.Clone(c.kids)
			return c
		}
		c.disk = survivor(n, r, survival)
		c.live = t.memory(int64(len(c.disk)))
		copy(c.live, c.disk)
		t.keepBlocks(n, c)
		return c
	}
	t.root = build(s.root)
	return t
}

// survivor is what a power cut leaves of a file.
func survivor(n *inode, r *rand.Rand, survival float64) []byte {
	size := len(n.disk)
	if len(n.frozen) != size && r.Float64() < survival {
		size = len(n.frozen)
	}
	out := make([]byte, size)
	copy(out, n.disk)
	for at := 0; at < min(size, len(n.frozen)); at += pageSize {
		end := min(at+pageSize, size, len(n.frozen))
		now, then := n.frozen[at:end], out[at:end]
		if rawEqual(now, then) {
			continue
		}
		if lost, ok := n.lost[int64(at/pageSize)]; ok && rawEqual(now, lost) {
			continue // the kernel took it for clean
		}
		if r.Float64() >= survival {
			continue
		}
		torn := r.IntN(4) == 0
		for i := 0; i < len(now); i += sectorSize {
			if !torn || r.IntN(2) == 0 {
				copy(then[i:min(i+sectorSize, len(then))], now[i:])
			}
		}
	}
	return out
}

// Restart is the disk as the next process finds it after the one that used it
// has died while the machine went on: everything written is there, and as
// durable as it was.
func (s *Sim) Restart() *Sim {
	s.PowerOff()
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.next()
	made := map[*inode]*inode{}
	s.walk(func(n *inode) {
		c := &inode{dir: n.dir, mtime: n.mtime, lost: n.lost, gone: n.gone, disk: slices.Clone(n.disk)}
		if n.dir {
			c.kids, c.synced = map[string]*inode{}, map[string]*inode{}
		} else {
			c.live = t.memory(int64(len(n.frozen)))
			copy(c.live, n.frozen)
			t.keepBlocks(n, c)
		}
		made[n] = c
	})
	for n, c := range made {
		for name, kid := range n.kids {
			c.kids[name] = made[kid]
		}
		for name, kid := range n.synced {
			c.synced[name] = made[kid]
		}
	}
	move := func(l link) link { return link{made[l.dir], l.name, made[l.node]} }
	for _, o := range s.pending {
		t.pending = append(t.pending, nameOp{del: move(o.del), add: move(o.add)})
	}
	t.root = made[s.root]
	return t
}

func (s *Sim) next() *Sim {
	t := New()
	t.faulty, t.now, t.usage, t.capacity = s.faulty, s.now, s.usage, s.capacity
	return t
}

// keepBlocks gives the file of the new disk the blocks that it had.
func (s *Sim) keepBlocks(from, to *inode) {
	pages := (len(to.live) + pageSize - 1) / pageSize
	to.blocks = make([]bool, pages)
	for i := range min(pages, len(from.blocks)) {
		if to.blocks[i] = from.blocks[i]; to.blocks[i] && !to.gone {
			s.used += pageSize
		}
	}
}

// Holes lists the pages, as path:offset, that hold something without having
// blocks: a write through a mapping that would have been SIGBUS on a full disk.
func (s *Sim) Holes() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	zero := make([]byte, pageSize)
	s.files(func(name string, n *inode) {
		b := n.live
		if s.off {
			b = n.frozen
		}
		n.eachPage(b, 0, int64(len(b)), func(pg int64, page []byte) {
			if (pg >= int64(len(n.blocks)) || !n.blocks[pg]) && !rawEqual(page, zero[:len(page)]) {
				out = append(out, fmt.Sprintf("%s:%d", name, pg*pageSize))
			}
		})
	})
	return out
}

// files calls fn for every file that has a name. Held: mu.
func (s *Sim) files(fn func(name string, n *inode)) {
	var visit func(name string, n *inode)
	visit = func(name string, n *inode) {
		if !n.dir {
			fn(name, n)
			return
		}
		for _, kid := range slices.Sorted(maps.Keys(n.kids)) {
			visit(path.Join(name, kid), n.kids[kid])
		}
	}
	visit("/", s.root)
}

// Files lists the paths of all files.
func (s *Sim) Files() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	s.files(func(name string, n *inode) { out = append(out, name) })
	return out
}

// ReadFile is the live content of a file, nil if there is none. It and the
// methods below are the test's own hand: they count as no operation and meet no
// fault.
func (s *Sim) ReadFile(name string) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.find(name)
	if n == nil || n.dir {
		return nil
	}
	out := make([]byte, len(n.live))
	rawCopy(out, n.live)
	return out
}

// WriteFile puts a file there, durably, with the directories above it.
func (s *Sim) WriteFile(name string, content []byte, mtime time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	parts := split(name)
	dir := s.root
	for _, part := range parts[:len(parts)-1] {
		if dir.kids[part] == nil {
			d := newDir()
			dir.kids[part], dir.synced[part] = d, d
		}
		dir = dir.kids[part]
	}
	n := &inode{mtime: mtime, disk: slices.Clone(content), live: s.memory(int64(len(content)))}
	copy(n.live, content)
	if err := s.take(n, 0, int64(len(content))); err != nil {
		panic("simdisk: " + err.Error())
	}
	base := parts[len(parts)-1]
	if old := dir.kids[base]; old != nil {
		s.release(old)
	}
	dir.kids[base], dir.synced[base] = n, n
}

// Edit lets fn change a file's bytes, on the disk and in memory.
func (s *Sim) Edit(name string, fn func(b []byte)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.find(name)
	if n == nil || n.dir {
		panic("simdisk: no file " + name)
	}
	fn(n.live)
	n.disk = slices.Clone(n.live)
}

// SetModTime sets when a file was modified.
func (s *Sim) SetModTime(name string, t time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.find(name); n != nil {
		n.mtime = t
	}
}

// BadPage makes the page of a mapped file at off fault on every access, or on
// writes only. The disk must be a Faulty one.
func (s *Sim) BadPage(name string, off int64, writesOnly bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.find(name)
	if !s.faulty || n == nil || n.dir || off >= int64(len(n.live)) {
		panic("simdisk: no page to make bad: " + name)
	}
	if n.bad == nil {
		n.bad = map[int64]bool{}
	}
	pg := off / pageSize
	n.bad[pg] = !writesOnly
	prot := syscall.PROT_NONE
	if writesOnly {
		prot = syscall.PROT_READ
	}
	n.protect(pg, prot)
}

func (n *inode) protect(pg int64, prot int) {
	at := pg * pageSize
	if err := syscall.Mprotect(n.live[at:min(at+pageSize, int64(len(n.live)))], prot); err != nil {
		panic("simdisk: " + err.Error())
	}
}

// heal makes the file's bad pages good. Held: mu.
func (s *Sim) heal(n *inode) {
	for pg := range n.bad {
		n.protect(pg, syscall.PROT_READ|syscall.PROT_WRITE)
	}
	n.bad = nil
}
