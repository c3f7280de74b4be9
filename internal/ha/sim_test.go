package ha

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"gomq/internal/chance"
	"gomq/internal/store"
	"gomq/internal/store/simdisk"
	"gomq/internal/watermark"
)

// node is a store on a simulated disk.
type node struct {
	d *simdisk.Sim
	o store.Options
	s *store.Store
}

func (n *node) open() error {
	n.o.FS = n.d
	var err error
	n.s, err = store.Open(context.Background(), n.o, nil, nil)
	return err
}

// confirm is the mark that a slave reports.
func (n *node) confirm() *watermark.Mark {
	if n.o.SyncFlush {
		return n.s.Durable
	}
	return n.s.Appended
}

// die is the end of the process, or of the power.
func (n *node) die(power bool, r *rand.Rand) {
	n.d.PowerOff()
	_ = n.s.Close() // it cannot save anything any more
	if power {
		n.d = n.d.Crash(r.Uint64(), []float64{0, 0.5, 1}[r.IntN(3)])
	} else {
		n.d = n.d.Restart()
	}
}

type simSlave struct {
	node
	id   int64
	wire *wire
	rep  *Replica
	ever int64 // the most that it has confirmed and that must survive (SYNC_FLUSH)

	mark atomic.Pointer[watermark.Mark] // what it confirms now
	most atomic.Int64                   // the most that it has ever confirmed
}

// sim is a master with its slaves and knows what must be true of them.
type sim struct {
	t      *testing.T
	r      *rand.Rand
	greets bool

	master   node
	m        *Master
	door     *door
	aged     int64 // the log begins here since files were deleted
	fresh    int   // slaves that got an empty disk for it
	slaves   []*simSlave
	dials    uint64
	carriers sync.WaitGroup

	mu    sync.Mutex // guards the rest
	n     int
	acked []ackedSend
	lied  bool // a send was told OK that no slave has
	trace []string
}

func (x *sim) note(format string, args ...any) {
	x.mu.Lock()
	x.trace = append(x.trace, fmt.Sprintf(format, args...))
	x.mu.Unlock()
}

func (x *sim) fatal(format string, args ...any) {
	x.t.Helper()
	x.stop()
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, line := range x.trace[max(0, len(x.trace)-60):] {
		x.t.Log(line)
	}
	x.t.Fatalf(format, args...)
}

func simTune() Tuning {
	return Tuning{Batch: 3000, Heartbeat: 50 * time.Millisecond, Silence: 400 * time.Millisecond}
}

func newSim(t *testing.T, seed uint64) *sim {
	r := rand.New(rand.NewPCG(seed, 11))
	x := &sim{t: t, r: r, greets: r.IntN(3) > 0}
	options := func() store.Options {
		mmap := r.IntN(2) == 0
		return store.Options{Root: "/store", CommitLogFileSize: 16 << 10, ConsumeQueueFileSize: 400, MaxMessageSize: 5000, SyncFlush: r.IntN(2) == 0, WriteWithoutMmap: &mmap,
			IndexEnabled: true, MaxHashSlots: 20, MaxIndexEntries: 100, FlushInterval: time.Duration(1+r.IntN(20)) * time.Millisecond,
			FlushQueueInterval: time.Duration(1+r.IntN(20)) * time.Millisecond, RetentionInterval: time.Hour, FileReserved: 1, DeleteInterval: 1}
	}
	x.master = node{d: simdisk.New(), o: options()}
	for i := range 1 + r.IntN(2) {
		x.slaves = append(x.slaves, &simSlave{node: node{d: simdisk.New(), o: options()}, id: int64(i + 1), wire: &wire{all: &x.carriers}})
	}
	x.note("greets %v, master sync %v", x.greets, x.master.o.SyncFlush)
	return x
}

func (x *sim) name(id int64) Name {
	return Name{Cluster: "C", Broker: "b", ID: id, Addr: fmt.Sprint("slave", id)}
}

// lead opens the master and its door.
func (x *sim) lead() {
	if err := x.master.open(); err != nil {
		x.fatal("the master: %v", err)
	}
	ship := x.master.s.Appended
	if x.master.o.SyncFlush {
		ship = x.master.s.Durable
	}
	x.note("the master opens at %d", x.master.s.MaxOffset())
	list := slices.DeleteFunc(slices.Clone(x.slaves), func(s *simSlave) bool { return s.s == nil })
	slices.SortFunc(list, func(a, b *simSlave) int { return cmp.Compare(b.s.MaxOffset(), a.s.MaxOffset()) })
	for _, s := range list {
		n, err := Repair(context.Background(), x.master.s, x.name(0), simRemote{x, s})
		if x.note("repaired by %d from slave %d: %v", n, s.id, err); err != nil && s.s.MinOffset() <= x.master.s.MaxOffset() {
			x.fatal("repair: %v", err)
		}
	}
	d := newDoor()
	x.mu.Lock()
	x.door = d
	x.mu.Unlock()
	x.m = NewMaster(context.Background(), d, MasterOptions{Log: x.master.s, Ship: ship, Tune: simTune, Me: func() Name { return x.name(0) },
		Counts: func(Peer) bool { return true }})
}

// simRemote is a slave as its master asks it for its log.
type simRemote struct {
	x *sim
	s *simSlave
}

func (r simRemote) State(ctx context.Context, from, to int64) (RemoteState, error) {
	if err := r.s.rep.Settle(ctx); err != nil {
		return RemoteState{}, err
	}
	l := r.s.s
	sum, err := Sum(l, from, to)
	return RemoteState{Name: r.x.name(r.s.id), FileSize: l.FileSize(), Min: l.MinOffset(), End: l.MaxOffset(), Empty: l.Empty(), Sum: sum}, err
}

func (r simRemote) Read(_ context.Context, from int64) ([]byte, error) {
	b := make([]byte, 5000)
	n, err := r.s.s.ReadRaw(b, from, r.s.s.MaxOffset())
	return b[:n], err
}

// follow opens a slave and lets it follow.
func (x *sim) follow(s *simSlave) {
	if err := s.open(); err != nil {
		x.fatal("slave %d: %v", s.id, err)
	}
	if end := s.s.MaxOffset(); s.o.SyncFlush && end < s.ever {
		x.fatal("slave %d has %d, it had reported %d as durable", s.id, end, s.ever)
	}
	s.mark.Store(s.confirm())
	x.note("slave %d opens at %d", s.id, s.s.MaxOffset())
	s.rep = NewReplica(context.Background(), ReplicaOptions{Log: s.s, Confirm: s.confirm(), Late: s.o.SyncFlush, Tune: simTune, Me: func() Name { return x.name(s.id) },
		Master: func() string { return "master:1" },
		Ask: func(context.Context, string) (MasterInfo, error) {
			x.mu.Lock()
			defer x.mu.Unlock()
			if x.door == nil {
				return MasterInfo{}, errors.New("connection refused")
			}
			l := x.master.s
			return MasterInfo{Greets: x.greets, Known: true, Min: l.MinOffset(), End: l.MaxOffset(), FileSize: l.FileSize()}, nil
		},
		Dial: func(ctx context.Context, _ string) (net.Conn, error) {
			x.mu.Lock()
			x.dials++
			seed, d := x.dials, x.door
			x.mu.Unlock()
			if d == nil {
				return nil, errors.New("connection refused")
			}
			return d.enter(ctx, s.wire, seed)
		}})
}

// retreat ends a slave's following.
func (x *sim) retreat(s *simSlave) {
	s.wire.cut()
	s.rep.Stop()
	s.ever = max(s.ever, s.confirm().Load())
	s.most.Store(max(s.most.Load(), s.ever))
}

// abdicate ends the master's end.
func (x *sim) abdicate() {
	for _, s := range x.slaves {
		s.wire.cut()
	}
	x.m.Stop()
	x.mu.Lock()
	x.door = nil
	x.mu.Unlock()
}

// most is the most that any slave has ever confirmed.
func (x *sim) most() (end int64) {
	for _, s := range x.slaves {
		end = max(end, s.most.Load(), s.mark.Load().Load())
	}
	return end
}

// covered says whether a power cut of the master alone can lose nothing that was
// told OK: a slave has it all now.
func (x *sim) covered() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	durable := x.master.s.Durable.Load()
	for _, s := range x.slaves {
		// What only a slave has that begins later cannot be brought back.
		if s.s.MaxOffset() > durable && s.s.MinOffset() > durable {
			return false
		}
	}
	if len(x.acked) == 0 || x.master.o.SyncFlush {
		return true
	}
	for _, s := range x.slaves {
		if s.s.MaxOffset() >= x.acked[len(x.acked)-1].end && s.s.MinOffset() <= x.master.s.Durable.Load() {
			return true
		}
	}
	return false
}

// stop ends everything.
func (x *sim) stop() {
	for _, s := range x.slaves {
		s.wire.hold(false, false)
		s.wire.cut()
		if s.rep != nil {
			s.rep.Stop()
		}
	}
	if x.m != nil {
		x.m.Stop()
	}
	x.carriers.Wait()
	for _, s := range x.slaves {
		if s.s != nil {
			_ = s.s.Close()
		}
	}
	if x.master.s != nil {
		_ = x.master.s.Close()
	}
}

func (x *sim) run(steps int) {
	x.lead()
	for _, s := range x.slaves {
		x.follow(s)
	}
	for range steps {
		x.step()
	}
	x.settle()
	x.stop()
}

// After any script of cuts, delays, one-way silence, second connections, liars,
// deaths and power cuts of either side, lost disks and repairs, all logs are the
// same byte for byte, no send was told OK that no slave had, and everything that
// was told OK is there.
func TestSimHA(t *testing.T) {
	told, aged, fresh := 0, 0, 0
	for seed := range chance.Seeds(t, 0, 500) {
		var x *sim
		synctest.Test(t, func(t *testing.T) {
			x = newSim(t, seed)
			x.run(150)
		})
		if t.Failed() {
			return
		}
		told += len(x.acked)
		fresh += x.fresh
		if x.aged > 0 {
			aged++
		}
	}
	if told == 0 {
		t.Error("no send was told OK")
	}
	t.Logf("%d sends were told OK; files were deleted in %d scripts, %d slaves needed them", told, aged, fresh)
}
