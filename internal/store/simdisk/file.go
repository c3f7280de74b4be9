package simdisk

import (
	"encoding/binary"
	"errors"
	"io"
	"math"
	"os"
	"syscall"

	"gomq/internal/store/segment"
)

// handle is an open file.
type handle struct {
	s      *Sim
	n      *inode
	name   string
	write  bool
	closed bool
}

func (h *handle) Name() string { return h.name }

// enter counts an operation on the file. Held: mu.
func (h *handle) enter(op Op) (short int, err error) {
	if h.closed {
		return 0, pathError(op, h.name, os.ErrClosed)
	}
	if op.changes() && op != OpSync && !h.write {
		return 0, pathError(op, h.name, syscall.EBADF)
	}
	if short, err = h.s.enterShort(op, h.name); err != nil {
		return short, pathError(op, h.name, err)
	}
	return 0, nil
}

func (h *handle) Size() (int64, error) {
	h.s.mu.Lock()
	defer h.s.mu.Unlock()
	if _, err := h.enter(OpStat); err != nil {
		return 0, err
	}
	return int64(len(h.n.live)), nil
}

func (h *handle) ReadAt(p []byte, off int64) (int, error) {
	h.s.mu.Lock()
	defer h.s.mu.Unlock()
	if _, err := h.enter(OpRead); err != nil {
		return 0, err
	}
	if off >= int64(len(h.n.live)) {
		return 0, io.EOF
	}
	if h.n.isBad(off, off+int64(len(p))) {
		return 0, pathError(OpRead, h.name, syscall.EIO)
	}
	n := rawCopy(p, h.n.live[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (h *handle) WriteAt(p []byte, off int64) (int, error) {
	s, n := h.s, h.n
	s.mu.Lock()
	defer s.mu.Unlock()
	short, fail := h.enter(OpWrite)
	if fail != nil {
		p = p[:min(short, len(p))]
	}
	if len(p) == 0 {
		return 0, fail
	}
	end := off + int64(len(p))
	if err := s.take(n, off, end); err != nil {
		return 0, pathError(OpWrite, h.name, err)
	}
	if end > int64(len(n.live)) {
		if err := s.resize(n, end); err != nil {
			return 0, pathError(OpWrite, h.name, err)
		}
	}
	rawCopy(n.live[off:end], p)
	for pg := off / pageSize; pg <= (end-1)/pageSize; pg++ {
		delete(n.lost, pg)
	}
	n.mtime = s.now()
	return len(p), fail
}

func (h *handle) Truncate(size int64) error {
	h.s.mu.Lock()
	defer h.s.mu.Unlock()
	if _, err := h.enter(OpTruncate); err != nil {
		return err
	}
	if err := h.s.resize(h.n, size); err != nil {
		return pathError(OpTruncate, h.name, err)
	}
	h.n.mtime = h.s.now()
	return nil
}

func (h *handle) Allocate(off, n int64) error {
	h.s.mu.Lock()
	defer h.s.mu.Unlock()
	if _, err := h.enter(OpAllocate); err != nil {
		return err
	}
	if err := h.s.take(h.n, off, off+n); err != nil {
		return pathError(OpAllocate, h.name, err)
	}
	if off+n > int64(len(h.n.live)) {
		if err := h.s.resize(h.n, off+n); err != nil {
			return pathError(OpAllocate, h.name, err)
		}
	}
	return nil
}

// Zero makes [off, off+n) read as zeros and keeps the blocks.
func (h *handle) Zero(off, n int64) error {
	h.s.mu.Lock()
	defer h.s.mu.Unlock()
	if _, err := h.enter(OpWrite); err != nil {
		return err
	}
	end := min(off+n, int64(len(h.n.live)))
	if off < 0 || n < 0 || off >= end {
		return nil
	}
	if err := h.s.take(h.n, off, end); err != nil {
		return pathError(OpWrite, h.name, err)
	}
	rawCopy(h.n.live[off:end], make([]byte, end-off))
	for pg := off / pageSize; pg <= (end-1)/pageSize; pg++ {
		delete(h.n.lost, pg)
	}
	h.n.mtime = h.s.now()
	return nil
}

// DropCache forgets the pages of [off, off+n) that count as clean, so that what
// a failed sync has lost is seen to be lost; a mapped page stays, as in Linux.
func (h *handle) DropCache(off, n int64) error {
	h.s.mu.Lock()
	defer h.s.mu.Unlock()
	if h.closed || h.s.off {
		return pathError(OpRead, h.name, ErrOff)
	}
	if h.n.maps > 0 {
		return nil
	}
	h.n.eachPage(h.n.live, off, off+n, func(pg int64, live []byte) {
		if lost, ok := h.n.lost[pg]; ok && rawEqual(live, lost) {
			clear(live)
			if at := pg * pageSize; at < int64(len(h.n.disk)) {
				copy(live, h.n.disk[at:])
			}
		}
		delete(h.n.lost, pg)
	})
	return nil
}

// Sync makes the content durable.
func (h *handle) Sync() error { return h.sync(0, math.MaxInt64) }

// SyncAside is Sync of the pages of a range.
func (h *handle) SyncAside(off, n int64) error { return h.sync(off, off+n) }

func (h *handle) sync(off, end int64) error {
	h.s.mu.Lock()
	defer h.s.mu.Unlock()
	end = min(end, int64(len(h.n.live)))
	if _, err := h.enter(OpSync); err != nil {
		if !errors.Is(err, ErrOff) {
			h.n.lose(off, end)
		}
		return err
	}
	return h.s.flush(h.n, OpSync, h.name, off, end)
}

func (h *handle) Close() error {
	h.s.mu.Lock()
	defer h.s.mu.Unlock()
	if h.closed {
		return pathError(OpOpen, h.name, os.ErrClosed)
	}
	h.closed = true
	return nil
}

func (h *handle) Map(size int64, write bool) (segment.Mapping, error) {
	h.s.mu.Lock()
	defer h.s.mu.Unlock()
	if _, err := h.enter(OpMap); err != nil {
		return nil, err
	}
	if size <= 0 || size > int64(len(h.n.live)) || write && !h.write {
		return nil, pathError(OpMap, h.name, syscall.EINVAL)
	}
	h.n.maps++
	return &mapping{s: h.s, n: h.n, name: h.name, b: h.n.live[:size:size]}, nil
}

// take gives [off, end) blocks. Held: mu.
func (s *Sim) take(n *inode, off, end int64) error {
	if off < 0 || end < off {
		return syscall.EINVAL
	}
	var need int64
	for pg := off / pageSize; pg*pageSize < end; pg++ {
		if pg >= int64(len(n.blocks)) || !n.blocks[pg] {
			need += pageSize
		}
	}
	if n.gone {
		need = 0
	}
	if s.capacity > 0 && s.used+need > s.capacity {
		return syscall.ENOSPC
	}
	s.used += need
	if pages := (end + pageSize - 1) / pageSize; pages > int64(len(n.blocks)) {
		n.blocks = append(n.blocks, make([]bool, pages-int64(len(n.blocks)))...)
	}
	for pg := off / pageSize; pg*pageSize < end; pg++ {
		n.blocks[pg] = true
	}
	return nil
}

var errMapped = errors.New("the simulated disk cannot change the size of a mapped file")

// resize changes the size of the live content. Held: mu.
func (s *Sim) resize(n *inode, size int64) error {
	if size < 0 {
		return syscall.EINVAL
	}
	old := int64(len(n.live))
	if size == old {
		return nil
	}
	if n.maps > 0 {
		return errMapped
	}
	if size < old {
		for pg := (size + pageSize - 1) / pageSize; pg < int64(len(n.blocks)); pg++ {
			if n.blocks[pg] && !n.gone {
				s.used -= pageSize
			}
			delete(n.lost, pg)
		}
		n.blocks = n.blocks[:min(int64(len(n.blocks)), (size+pageSize-1)/pageSize)]
	}
	live := s.memory(size)
	copy(live, n.live)
	n.live = live
	return nil
}

// memory is size bytes for content.
func (s *Sim) memory(size int64) []byte {
	if !s.faulty || size == 0 {
		return make([]byte, size)
	}
	b, err := syscall.Mmap(-1, 0, int((size+pageSize-1)/pageSize*pageSize), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		panic("simdisk: " + err.Error())
	}
	return b[:size:size]
}

// flush copies what has changed of the pages of [off, end) into the durable
// image. Held: mu.
func (s *Sim) flush(n *inode, op Op, name string, off, end int64) error {
	if n.isBad(off, end) {
		n.lose(off, end)
		return pathError(op, name, syscall.EIO)
	}
	changed := false
	if len(n.disk) != len(n.live) {
		n.disk = append(n.disk[:min(len(n.disk), len(n.live))], make([]byte, max(len(n.live)-len(n.disk), 0))...)
		changed = true
	}
	n.eachPage(n.live, off, end, func(pg int64, live []byte) {
		disk := n.disk[pg*pageSize:][:len(live)]
		if rawEqual(live, disk) {
			return
		}
		if lost, ok := n.lost[pg]; ok && rawEqual(live, lost) {
			return
		}
		delete(n.lost, pg)
		rawCopy(disk, live)
		changed = true
	})
	if changed {
		n.mtime = s.now()
	}
	return nil
}

// isBad says whether a page of [off, end) can be neither read nor written.
func (n *inode) isBad(off, end int64) bool {
	for pg, none := range n.bad {
		if none && pg*pageSize < end && (pg+1)*pageSize > off {
			return true
		}
	}
	return false
}

// lose marks the changed pages of [off, end) as clean although they never got to
// the disk. Held: mu.
func (n *inode) lose(off, end int64) {
	n.eachPage(n.live, off, end, func(pg int64, live []byte) {
		at := pg * pageSize
		if n.bad[pg] {
			return
		}
		if at+int64(len(live)) <= int64(len(n.disk)) && rawEqual(live, n.disk[at:][:len(live)]) {
			return
		}
		if n.lost == nil {
			n.lost = map[int64][]byte{}
		}
		c := make([]byte, len(live))
		rawCopy(c, live)
		n.lost[pg] = c
	})
}

// eachPage calls fn with the pages of b that [off, end) touches.
func (n *inode) eachPage(b []byte, off, end int64, fn func(pg int64, page []byte)) {
	for pg := off / pageSize; pg*pageSize < min(end, int64(len(b))); pg++ {
		fn(pg, b[pg*pageSize:min((pg+1)*pageSize, int64(len(b)))])
	}
}

// mapping is the live content of a file.
type mapping struct {
	s    *Sim
	n    *inode
	name string
	b    []byte
	gone bool
}

func (m *mapping) Bytes() []byte { return m.b }

// Sync makes [off, off+n) durable, whole pages as msync does.
func (m *mapping) Sync(off, n int64) error {
	m.s.mu.Lock()
	defer m.s.mu.Unlock()
	if m.gone {
		return pathError(OpMapSync, m.name, syscall.ENOMEM)
	}
	if off < 0 || n < 0 || off+n > int64(len(m.b)) {
		return pathError(OpMapSync, m.name, syscall.EINVAL)
	}
	if err := m.s.enter(OpMapSync, m.name); err != nil {
		if !errors.Is(err, ErrOff) {
			m.n.lose(off, off+n)
		}
		return pathError(OpMapSync, m.name, err)
	}
	return m.s.flush(m.n, OpMapSync, m.name, off, off+n)
}

func (m *mapping) Random() error               { return nil }
func (m *mapping) WillNeed(off, n int64) error { return nil }
func (m *mapping) Resident(off, n int64) bool  { return true }

// Unmap ends the mapping. When it is the last one of the file, its bytes are
// overwritten (on a Faulty disk: they fault), so that whoever still looks at them
// is found out.
func (m *mapping) Unmap() error {
	s, n := m.s, m.n
	s.mu.Lock()
	defer s.mu.Unlock()
	if m.gone {
		return pathError(OpMap, m.name, syscall.EINVAL)
	}
	m.gone = true
	if n.maps--; n.maps > 0 || s.off {
		return nil
	}
	old := n.live
	s.heal(n)
	n.live = s.memory(int64(len(old)))
	copy(n.live, old)
	if s.faulty {
		return syscall.Mprotect(old, syscall.PROT_NONE)
	}
	for i := range old {
		old[i] = 0xdb
	}
	return nil
}

// rawCopy and rawEqual look at mapped bytes as the kernel and the disk do, next
// to whoever writes them: that is no race of the program's.
//
//go:norace
func rawCopy(dst, src []byte) int {
	n := min(len(dst), len(src))
	i := 0
	for ; i+8 <= n; i += 8 { // copy would tell the race detector
		binary.NativeEndian.PutUint64(dst[i:], binary.NativeEndian.Uint64(src[i:]))
	}
	for ; i < n; i++ {
		dst[i] = src[i]
	}
	return n
}

//go:norace
func rawEqual(a, b []byte) bool {
	if len(a) != len(b) {
		return false
	}
	i := 0
	for ; i+8 <= len(a); i += 8 {
		if binary.NativeEndian.Uint64(a[i:]) != binary.NativeEndian.Uint64(b[i:]) {
			return false
		}
	}
	for ; i < len(a); i++ {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}
