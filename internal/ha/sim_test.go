package ha

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"gomq/internal/message"
	"gomq/internal/store"
	"gomq/internal/store/simdisk"
	"gomq/internal/watermark"
)

// seeds are those of a random test: GOMQ_SEED alone if that is set, else n, or
// GOMQ_SEEDS if that is more.
func seeds(t *testing.T, n int) (list []uint64) {
	t.Helper()
	number := func(name string) (uint64, bool) {
		text := os.Getenv(name)
		if text == "" {
			return 0, false
		}
		v, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatalf("%s=%s: %v", name, text, err)
		}
		return v, true
	}
	if seed, ok := number("GOMQ_SEED"); ok {
		return []uint64{seed}
	}
	if more, ok := number("GOMQ_SEEDS"); ok {
		n = max(n, int(more))
	}
	for seed := range uint64(n) {
		list = append(list, seed)
	}
	return list
}

// wire is the way between a slave and its master. Each direction can be held up;
// what was on its way stays there. cut ends the connections that there are.
type wire struct {
	mu       sync.Mutex
	up, down bool // held up: to the master, to the slave
	open     []net.Conn
	all      *sync.WaitGroup // of those who carry
}

func (w *wire) hold(up, down bool) {
	w.mu.Lock()
	w.up, w.down = up, down
	w.mu.Unlock()
}

func (w *wire) held(toMaster bool) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return toMaster && w.up || !toMaster && w.down
}

func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.open {
		c.Close()
	}
	w.open = nil
}

// carry copies from one end to the other in pieces of any size, slowly or not.
func (w *wire) carry(from, to net.Conn, toMaster bool, r *rand.Rand) {
	defer w.all.Done()
	defer from.Close()
	defer to.Close()
	buf := make([]byte, 1+r.IntN(3000))
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		for w.held(toMaster) {
			time.Sleep(10 * time.Millisecond)
		}
		if r.IntN(4) == 0 {
			time.Sleep(time.Duration(r.IntN(3000)) * time.Microsecond)
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}

// door is a listener in memory.
type door struct {
	come chan net.Conn
	once sync.Once
	shut chan struct{}
}

func newDoor() *door { return &door{come: make(chan net.Conn), shut: make(chan struct{})} }

func (d *door) Accept() (net.Conn, error) {
	select {
	case c := <-d.come:
		return c, nil
	case <-d.shut:
		return nil, net.ErrClosed
	}
}
func (d *door) Close() error   { d.once.Do(func() { close(d.shut) }); return nil }
func (d *door) Addr() net.Addr { return &net.TCPAddr{} }

// enter makes a connection; the slave's end is returned.
func (d *door) enter(ctx context.Context, w *wire, seed uint64) (net.Conn, error) {
	mine, near := net.Pipe()
	far, theirs := net.Pipe()
	select {
	case d.come <- theirs:
	case <-d.shut:
		return nil, errors.New("connection refused")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	w.mu.Lock()
	w.open = append(w.open, near, far)
	w.mu.Unlock()
	w.all.Add(2)
	go w.carry(near, far, true, rand.New(rand.NewPCG(seed, 1)))
	go w.carry(far, near, false, rand.New(rand.NewPCG(seed, 2)))
	return mine, nil
}

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

// ackedSend is a send that was told OK.
type ackedSend struct {
	at, end int64
	key     string
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

func (r simRemote) State(_ context.Context, from, to int64) (RemoteState, error) {
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

// send stores some messages; they are told OK when they can be pulled and a slave
// has them.
func (x *sim) send() {
	s, m := x.master.s, x.m
	b := store.NewBatch()
	var keys []string
	for range 1 + x.r.IntN(4) {
		x.n++
		key := fmt.Sprint("u", x.n)
		topic := fmt.Sprint("T", x.r.IntN(2))
		home := netip.MustParseAddrPort("127.0.0.1:10911")
		body := bytes.Repeat([]byte{byte(x.n), 7}, 1+x.r.IntN(400))
		if x.r.IntN(20) == 0 {
			body = make([]byte, 4000+x.r.IntN(900))
		}
		if _, err := b.Add(s.Queue([]byte(topic), 0), &message.Message{Topic: []byte(topic), Body: body, Props: []byte("UNIQ_KEY\x01" + key), BornHost: home, StoreHost: home}); err != nil {
			x.fatal("%v", err)
		}
		keys = append(keys, key)
	}
	if err := s.Append(b, time.Time{}, nil); err != nil {
		x.fatal("append: %v", err)
	}
	end := b.End()
	m.Replicated.When(end, time.Now().Add(300*time.Millisecond), watermark.Func(func(err error) {
		if err != nil {
			return
		}
		has := x.most() >= end
		s.Dispatched.When(end, time.Time{}, watermark.Func(func(err error) {
			if err != nil {
				return
			}
			x.mu.Lock()
			defer x.mu.Unlock()
			x.lied = x.lied || !has
			for i, key := range keys {
				p := b.Placed(i)
				x.acked = append(x.acked, ackedSend{p.Offset, p.Offset + int64(p.Size), key})
			}
		}))
	}))
}

// step does one thing.
func (x *sim) step() {
	s := x.slaves[x.r.IntN(len(x.slaves))]
	switch n := x.r.IntN(41); {
	case n < 20:
		x.send()
	case n < 26:
		time.Sleep(time.Duration(x.r.IntN(60)) * time.Millisecond)
	case n < 28:
		synctest.Wait()
	case n < 30:
		x.note("slave %d is cut off", s.id)
		s.wire.cut()
	case n < 32:
		up, down := x.r.IntN(2) == 0, x.r.IntN(2) == 0
		x.note("slave %d held up: reports %v, log %v", s.id, up, down)
		s.wire.hold(up, down)
	case n < 34:
		for _, s := range x.slaves {
			s.wire.hold(false, false)
		}
	case n < 36:
		x.endSlave(s)
	case n < 38:
		x.endMaster()
	case n == 38:
		x.double(s)
	case n == 39:
		x.age()
	default:
		x.lie()
	}
}

// age lets the master delete all files but the last when a slave has it all;
// another one may need them.
func (x *sim) age() {
	x.slaves[0].wire.hold(false, false)
	time.Sleep(100 * time.Millisecond)
	if !slices.ContainsFunc(x.slaves, func(s *simSlave) bool { return s.s.MaxOffset() == x.master.s.MaxOffset() }) {
		return
	}
	x.master.s.DeleteExpired(1)
	time.Sleep(5 * time.Millisecond)
	x.aged = max(x.aged, x.master.s.MinOffset())
	x.note("the master's log begins at %d", x.master.s.MinOffset())
}

// operator gives an empty disk to a slave that cannot go on because what it needs
// has been deleted; false: that is not its trouble.
func (x *sim) operator(s *simSlave, st ReplicaState) bool {
	if !st.Stopped || !strings.Contains(st.Err.Error(), "deleted by age") {
		return false
	}
	x.note("slave %d needs what is gone and gets an empty disk", s.id)
	x.retreat(s)
	s.d.PowerOff()
	_ = s.s.Close()
	s.d, s.ever = simdisk.New(), 0
	x.follow(s)
	x.fresh++
	return true
}

// endSlave ends a slave in one of the ways in which it can, and starts it again.
func (x *sim) endSlave(s *simSlave) {
	x.retreat(s)
	switch n := x.r.IntN(5); {
	case n == 0:
		x.note("slave %d is stopped", s.id)
		if err := s.s.Close(); err != nil {
			x.fatal("closing slave %d: %v", s.id, err)
		}
	case n == 1 && x.r.IntN(2) == 0:
		x.note("slave %d loses its disk", s.id)
		s.d.PowerOff()
		_ = s.s.Close()
		s.d, s.ever = simdisk.New(), 0
	default:
		x.note("slave %d dies", s.id)
		s.die(n < 3, x.r)
	}
	if !s.o.SyncFlush {
		s.ever = 0
	}
	x.follow(s)
}

// endMaster ends the master and starts it again. Its power is cut only when a
// slave has what was told OK: two failures at once may lose it.
func (x *sim) endMaster() {
	x.abdicate()
	power := x.r.IntN(2) == 0 && x.covered()
	x.note("the master dies, power cut %v", power)
	x.master.die(power, x.r)
	x.lead()
}

// double connects a slave once more while its first connection hangs, as after a
// timeout that only one side has noticed.
func (x *sim) double(s *simSlave) {
	x.note("slave %d connects a second time", s.id)
	s.wire.hold(true, false)
	s.rep.hangUp()
	time.Sleep(30 * time.Millisecond)
	s.wire.hold(false, false)
}

// lie is a peer that counts and acknowledges what it was not sent.
func (x *sim) lie() {
	w := &wire{all: &x.carriers}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	c, err := x.door.enter(ctx, w, 1)
	if err != nil {
		x.fatal("%v", err)
	}
	start := x.master.s.MaxOffset()
	x.note("a liar acknowledges from %d on", start)
	c.SetDeadline(time.Now().Add(time.Second))
	if _, err := c.Write(AppendReport(nil, start)); err == nil {
		_, _ = c.Write(AppendReport(nil, start+1_000_000))
	}
	time.Sleep(time.Millisecond)
	x.send()
	time.Sleep(20 * time.Millisecond)
	c.Close()
	w.cut()
}

// settle heals everything and waits until all have the same log.
func (x *sim) settle() {
	for _, s := range x.slaves {
		s.wire.hold(false, false)
	}
	end := x.master.s.MaxOffset()
	for _, s := range x.slaves {
		nothing := func() bool { return x.master.s.MinOffset() == end && s.s.Empty() } // there is no byte to copy
		for begun := time.Now(); s.s.MaxOffset() != end && !nothing(); time.Sleep(10 * time.Millisecond) {
			if st := s.rep.State(); !x.operator(s, st) && (time.Since(begun) > 2*time.Minute || st.Stopped) {
				x.fatal("slave %d has %d of %d: %+v", s.id, s.s.MaxOffset(), end, st)
			}
		}
	}
	x.same()
	x.mu.Lock()
	lied, acked := x.lied, slices.Clone(x.acked)
	x.mu.Unlock()
	if lied {
		x.fatal("a send was told OK that no slave had")
	}
	for _, a := range acked {
		if a.at < x.master.s.MinOffset() {
			continue
		}
		r, err := x.master.s.ReadRecord(a.at)
		var key []byte
		if err == nil {
			key, _ = message.Prop(r.Props(), message.PropUniqKey)
		}
		if err != nil || string(key) != a.key {
			x.fatal("%s at %d was told OK; there is %q, %v", a.key, a.at, key, err)
		}
	}
}

// same compares the logs and what readers of the queues see.
func (x *sim) same() {
	a := x.master.s
	for _, s := range x.slaves {
		p, q := make([]byte, 4096), make([]byte, 4096)
		if s.s.Empty() {
			continue
		}
		for at := max(a.MinOffset(), s.s.MinOffset()); at < a.MaxOffset(); {
			n, err := a.ReadRaw(p, at, a.MaxOffset())
			k, err2 := s.s.ReadRaw(q, at, a.MaxOffset())
			if err != nil || err2 != nil || n != k || !bytes.Equal(p[:n], q[:k]) {
				x.fatal("at %d the log of slave %d differs: %d and %d bytes, %v, %v", at, s.id, n, k, err, err2)
			}
			at += int64(n)
		}
		if err := s.s.Dispatched.Wait(x.t.Context(), a.MaxOffset()); err != nil {
			x.fatal("%v", err)
		}
		for _, m := range a.Queues() {
			// A queue whose messages have all been deleted is unknown to a new slave.
			if c := s.s.Queue([]byte(m.Topic()), m.ID()); c.Max() != m.Max() && s.s.MinOffset() == a.MinOffset() && m.Min() < m.Max() {
				x.fatal("%s ends at %d, on slave %d at %d", m, m.Max(), s.id, c.Max())
			}
		}
	}
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
	for _, seed := range seeds(t, 120) {
		var x *sim
		synctest.Test(t, func(t *testing.T) {
			x = newSim(t, seed)
			x.run(150)
		})
		if t.Failed() {
			t.Fatalf("run it again with GOMQ_SEED=%d", seed)
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
