package segment

import (
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A goroutine in fdatasync or msync keeps the scheduler's processor until the
// runtime notices, after 20 µs when it looks often and 10 ms when it does not: on
// one processor nothing is received, appended or answered meanwhile, though the
// disk does all the work. The same call handed to io_uring is made by a thread of
// the kernel, and the goroutine waits in the network poller, as for a socket.
//
// A ring is all that is needed of io_uring for that: one FSYNC at a time. Layouts
// and numbers are those of linux/io_uring.h, io_uring_setup(2), io_uring_enter(2).

const (
	ringSingleMmap = 1 << 0     // feature: both queues in one mapping (Linux 5.4)
	ringOffQueues  = 0          // where to map the queues
	ringOffEntries = 0x10000000 // where to map the submission entries
	ringOpFsync    = 3
	ringFsyncData  = 1 << 0
	ringWait       = 1 << 0 // IORING_ENTER_GETEVENTS
)

// ringParams is struct io_uring_params.
type ringParams struct {
	sqEntries, cqEntries, flags, threadCPU, threadIdle, features, workers uint32
	_                                                                     [3]uint32
	sq                                                                    struct {
		head, tail, mask, entries, flags, dropped, array, _ uint32
		_                                                   uint64
	}
	cq struct {
		head, tail, mask, entries, overflow, completions, flags, _ uint32
		_                                                          uint64
	}
}

// ringEntry is struct io_uring_sqe as FSYNC reads it; the rest must be 0.
type ringEntry struct {
	op, flags uint8
	priority  uint16
	fd        int32
	off, addr uint64
	n, how    uint32
	user      uint64
	_         [3]uint64
}

// ringCompletion is struct io_uring_cqe.
type ringCompletion struct {
	user       uint64
	res, flags int32
}

// ring makes one call at a time; it lasts as long as the process.
type ring struct {
	fd      int
	ready   syscall.RawConn // readable when a call is done; it keeps the file
	sent    *atomic.Uint32  // tail of the submissions
	taken   *atomic.Uint32  // head of the completions
	done    *atomic.Uint32  // tail of the completions
	entry   *ringEntry
	results []ringCompletion
}

// newRing makes a ring. Errors: those of the system, which may not have io_uring
// or forbid it.
func newRing() (_ *ring, err error) {
	var p ringParams
	fd, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, 1, uintptr(unsafe.Pointer(&p)), 0)
	if errno != 0 {
		return nil, errno
	}
	r := &ring{fd: int(fd)}
	defer func() {
		if err != nil {
			unix.Close(r.fd) // what was mapped stays: it happens once
		}
	}()
	if p.features&ringSingleMmap == 0 {
		return nil, unix.ENOSYS
	}
	shared := func(off int64, size uintptr) ([]byte, error) {
		return unix.Mmap(r.fd, off, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
	}
	queues, err := shared(ringOffQueues, max(uintptr(p.sq.array)+4*uintptr(p.sqEntries), uintptr(p.cq.completions)+unsafe.Sizeof(ringCompletion{})*uintptr(p.cqEntries)))
	if err != nil {
		return nil, err
	}
	entries, err := shared(ringOffEntries, unsafe.Sizeof(ringEntry{})*uintptr(p.sqEntries))
	if err != nil {
		return nil, err
	}
	word := func(off uint32) *atomic.Uint32 { return (*atomic.Uint32)(unsafe.Pointer(&queues[off])) }
	r.sent, r.taken, r.done = word(p.sq.tail), word(p.cq.head), word(p.cq.tail)
	word(p.sq.array).Store(0) // the one entry, always
	r.entry = (*ringEntry)(unsafe.Pointer(&entries[0]))
	r.results = unsafe.Slice((*ringCompletion)(unsafe.Pointer(&queues[p.cq.completions])), p.cqEntries)
	if err := unix.SetNonblock(r.fd, true); err != nil { // so that the file below uses the poller
		return nil, err
	}
	r.ready, err = os.NewFile(uintptr(r.fd), "io_uring").SyscallConn()
	return r, err
}

// fdatasync is fdatasync(2) of [off, off+n) of an open file, what was written
// through a mapping included. errors.ErrUnsupported: the kernel did not take the call,
// nothing was done.
func (r *ring) fdatasync(fd int, off int64, n uint32) error {
	*r.entry = ringEntry{op: ringOpFsync, fd: int32(fd), off: uint64(off), n: n, how: ringFsyncData}
	r.sent.Add(1)
	for {
		errno := r.enter(1, 0, 0)
		if errno == 0 {
			break
		}
		if errno != unix.EINTR {
			r.sent.Add(^uint32(0))
			return errors.ErrUnsupported
		}
	}
	at := r.taken.Load()
	done := func(uintptr) bool { return r.done.Load() != at }
	if err := r.ready.Read(done); err != nil {
		for !done(0) { // the call is under way and has to end before the ring does another
			r.enter(0, 1, ringWait)
		}
	}
	res := r.results[at%uint32(len(r.results))].res
	r.taken.Store(at + 1)
	if res < 0 {
		return syscall.Errno(-res)
	}
	return nil
}

func (r *ring) enter(submit, complete, flags uintptr) syscall.Errno {
	_, _, errno := unix.Syscall6(unix.SYS_IO_URING_ENTER, uintptr(r.fd), submit, complete, flags, 0, 0)
	return errno
}

// rings are those that nobody uses at the moment: as many as there were callers at
// the same time.
var rings struct {
	mu   sync.Mutex
	free []*ring
	none bool // there is no io_uring here
}

// takeRing is a ring for one call, nil where there is none.
func takeRing() *ring {
	rings.mu.Lock()
	defer rings.mu.Unlock()
	if k := len(rings.free); k > 0 {
		r := rings.free[k-1]
		rings.free = rings.free[:k-1]
		return r
	}
	if rings.none {
		return nil
	}
	r, err := newRing()
	if err != nil {
		rings.none = true
		return nil
	}
	return r
}

func giveRing(r *ring) {
	rings.mu.Lock()
	defer rings.mu.Unlock()
	rings.free = append(rings.free, r)
}

// Aside says whether File.SyncAside keeps no processor from others.
func Aside() bool {
	r := takeRing()
	if r == nil {
		return false
	}
	giveRing(r)
	return true
}

// syncAside is fdatasync of a range by a thread of the kernel. The error is
// errors.ErrUnsupported where that is not possible.
func syncAside(f *os.File, off, n int64) error {
	if n <= 0 || n > 1<<32-1 {
		return errors.ErrUnsupported
	}
	r := takeRing()
	if r == nil {
		return errors.ErrUnsupported
	}
	err := retry(func() error { return r.fdatasync(int(f.Fd()), off, uint32(n)) })
	giveRing(r)
	return err
}
