package simdisk

import (
	"strings"
	"sync/atomic"
	"syscall"
)

// Op is a kind of operation.
type Op string

// The operations of a disk. Those up to OpLock change something; they are what
// Ops counts and PowerOffAt chooses from. Reads and writes of mapped bytes are
// no operations.
const (
	OpCreate   Op = "create"
	OpWrite    Op = "write"
	OpTruncate Op = "truncate"
	OpAllocate Op = "allocate"
	OpSync     Op = "sync"    // of a file (fdatasync)
	OpMapSync  Op = "mapsync" // of a mapping (msync)
	OpRename   Op = "rename"
	OpRemove   Op = "remove"
	OpMkdir    Op = "mkdir"
	OpSyncDir  Op = "syncdir"
	OpLock     Op = "lock"

	OpOpen    Op = "open"
	OpRead    Op = "read"
	OpMap     Op = "map"
	OpReadDir Op = "readdir"
	OpStat    Op = "stat"
)

func (o Op) changes() bool {
	switch o {
	case OpOpen, OpRead, OpMap, OpReadDir, OpStat:
		return false
	}
	return true
}

// Fault makes operations fail.
type Fault struct {
	Op     Op     // empty: every operation that changes something
	Path   string // only files whose path contains it
	K      int    // the K-th such operation from now on, 0 or 1 = the next
	Sticky bool   // all that follow it, too
	Err    error  // default EIO
	Short  int    // OpWrite: so many bytes are written all the same
}

type armed struct {
	Fault
	seen  int
	fired atomic.Int64
}

// Inject arms a fault; the function that it returns says how often it has struck.
// A sync that fails loses what it was to make durable, as Linux does: the pages
// count as clean and no later sync writes them unless they are written again.
func (s *Sim) Inject(f Fault) (fired func() int) {
	if f.Err == nil {
		f.Err = syscall.EIO
	}
	a := &armed{Fault: f}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, a)
	return func() int { return int(a.fired.Load()) }
}

// Heal disarms all faults and makes bad pages good. What a failed sync has lost
// stays lost.
func (s *Sim) Heal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
	s.walk(s.heal)
}

// Ops is the number of operations so far that change something.
func (s *Sim) Ops() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ops
}

// Count is the number of operations of one kind so far.
func (s *Sim) Count(op Op) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts[op]
}

// PowerOffAt lets the power go just before the k-th operation from now on that
// changes something (1 = the next one) takes effect; 0 = not any more.
func (s *Sim) PowerOffAt(k int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.offAt = s.ops + k
}

// enter counts an operation and says how it fails, if it does. Held: mu.
func (s *Sim) enter(op Op, name string) error {
	_, err := s.enterShort(op, name)
	return err
}

func (s *Sim) enterShort(op Op, name string) (short int, err error) {
	if s.off {
		return 0, ErrOff
	}
	s.counts[op]++
	if op.changes() {
		if s.ops++; s.ops == s.offAt {
			s.powerOff()
			return 0, ErrOff
		}
	}
	for _, f := range s.faults {
		if f.Op != op && (f.Op != "" || !op.changes()) || !strings.Contains(name, f.Path) {
			continue
		}
		f.seen++
		if k := max(f.K, 1); f.seen == k || f.Sticky && f.seen > k {
			f.fired.Add(1)
			return f.Short, f.Err
		}
	}
	return 0, nil
}
