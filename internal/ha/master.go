package ha

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"gomq/internal/task"
	"gomq/internal/watermark"
)

const (
	// mostReplicas bounds the connections whose acknowledgements count, mostOthers
	// all others.
	mostReplicas, mostOthers = 16, 8
	// expiry is how often deadlines of those who wait for a replica are looked at.
	expiry = 100 * time.Millisecond
	// sayAgain is how long the same trouble with the same peer is not said again.
	sayAgain = time.Minute
)

// MasterOptions are what a Master is made of. Log, Ship, Tune, Counts and Me are
// needed.
type MasterOptions struct {
	Log  Log
	Ship *watermark.Mark // the log may be sent up to here
	Tune func() Tuning
	Me   func() Name // for the greeting of gomq peers
	// Counts says whether the acknowledgements of a peer may satisfy a send. It must
	// not block.
	Counts func(p Peer) bool
	// Unknown, if not nil, is told of a new peer that does not count; Recount is to
	// be called when that may have changed, and says who still does not. It must not
	// block.
	Unknown func(p Peer)
	// Secure, if not nil, makes of a connection just accepted the one to go on with
	// (TLS), or refuses it. It may block until the connection's deadline.
	Secure func(net.Conn) (net.Conn, error)
	Zap    *zap.Logger // nil = silent
}

// Master is the sending end of log shipping: it accepts replicas and streams the
// log to each of them, up to Ship and as soon as that rises.
type Master struct {
	o     MasterOptions
	group *task.Group

	// Replicated is the log's end that at least one replica that counts has
	// acknowledged. It fails when the Master stops.
	Replicated *watermark.Mark

	acks  sync.Mutex // held while Replicated is raised
	feeds atomic.Pointer[[]*feed]

	mu   sync.Mutex // guards the rest, and changes of feeds
	open map[net.Conn]bool
	said map[complaint]time.Time
}

// complaint is something that has been said of a peer.
type complaint struct {
	addr netip.Addr
	text string
}

// NewMaster starts a Master that accepts on ln and closes it when it stops; ctx
// ends it too. ln may be any listener whose connections have TCP addresses, or
// others, which then do not count.
func NewMaster(ctx context.Context, ln net.Listener, o MasterOptions) *Master {
	if o.Zap == nil {
		o.Zap = zap.NewNop()
	}
	m := &Master{o: o, group: task.NewGroup(ctx, o.Zap, nil), Replicated: watermark.New(0), open: map[net.Conn]bool{}, said: map[complaint]time.Time{}}
	m.feeds.Store(&[]*feed{})
	m.group.Go("door for replicas", func(ctx context.Context) error { return m.accept(ctx, ln) })
	m.group.Go("end of the door", func(ctx context.Context) error {
		<-ctx.Done()
		ln.Close()
		m.mu.Lock()
		defer m.mu.Unlock()
		for c := range m.open {
			c.Close()
		}
		return nil
	})
	m.group.Every("waiters for replicas", expiry, func(context.Context) error {
		m.Replicated.Expire(time.Now())
		return nil
	})
	return m
}

// Stop closes the door and all connections, and tells those who wait for a replica
// that none will come.
func (m *Master) Stop() {
	m.group.Stop()
	m.Replicated.Fail(errors.New("the master stops"))
}

// accept lets replicas in.
func (m *Master) accept(ctx context.Context, ln net.Listener) error {
	for pause := time.Duration(0); ; {
		conn, err := ln.Accept()
		if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
			if err == nil {
				conn.Close()
			}
			return nil
		}
		if err != nil {
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			m.o.Zap.Warn("a replica could not be let in", zap.Error(err))
			if !sleep(ctx, pause) {
				return nil
			}
			continue
		}
		pause = 0
		f := &feed{m: m, nc: conn, conn: conn, peer: Peer{Addr: addrOf(conn)}, gone: make(chan struct{}),
			hears: patience{set: conn.SetReadDeadline}, tells: patience{set: conn.SetWriteDeadline}}
		if err := m.enter(f); err != nil {
			m.say(f.peer.Addr, "a replication connection is refused", err)
			conn.Close()
			continue
		}
		if !m.group.Go("replica "+conn.RemoteAddr().String(), f.run) {
			conn.Close()
		}
	}
}

// enter lists a connection, unless there are too many.
func (m *Master) enter(f *feed) error {
	f.counted.Store(m.o.Counts(f.peer))
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.group.Context().Err(); err != nil {
		return err // the door's end does not see this one any more
	}
	counted, others := 0, 0
	for _, g := range *m.feeds.Load() {
		if g.counted.Load() {
			counted++
		} else {
			others++
		}
	}
	if f.counted.Load() && counted >= mostReplicas || !f.counted.Load() && others >= mostOthers {
		return fmt.Errorf("there are %d registered and %d other ones, at most %d and %d are taken", counted, others, mostReplicas, mostOthers)
	}
	m.open[f.nc] = true
	list := append(slices.Clone(*m.feeds.Load()), f)
	m.feeds.Store(&list)
	return nil
}

// leave is the end of enter.
func (m *Master) leave(f *feed) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.open, f.nc)
	list := slices.DeleteFunc(slices.Clone(*m.feeds.Load()), func(g *feed) bool { return g == f })
	m.feeds.Store(&list)
}

// Recount asks again which peers count.
func (m *Master) Recount() {
	for _, f := range *m.feeds.Load() {
		f.recount()
	}
}

// Uncounted says whether there are peers that do not count.
func (m *Master) Uncounted() bool {
	return slices.ContainsFunc(*m.feeds.Load(), func(f *feed) bool { return !f.counted.Load() })
}

// Available says whether a send that ends at the offset end may be acknowledged by
// a replica at all: one that counts is connected and less than behind bytes away.
func (m *Master) Available(end, behind int64) bool {
	for _, f := range *m.feeds.Load() {
		if f.counted.Load() && f.started.Load() && end-f.acked.Load() < behind {
			return true
		}
	}
	return false
}

// raise books what a replica that counts has acknowledged.
func (m *Master) raise(offset int64) {
	if offset <= m.Replicated.Load() {
		return
	}
	m.acks.Lock()
	defer m.acks.Unlock()
	m.Replicated.Advance(offset)
}

// say tells of trouble with a peer, once a minute.
func (m *Master) say(addr netip.Addr, what string, err error) {
	m.mu.Lock()
	now, c := time.Now(), complaint{addr, what + err.Error()}
	for old, at := range m.said {
		if now.Sub(at) > sayAgain {
			delete(m.said, old)
		}
	}
	_, again := m.said[c]
	if !again && len(m.said) < 1000 {
		m.said[c] = now
	}
	m.mu.Unlock()
	if !again {
		m.o.Zap.Error(what, zap.Stringer("replica", addr), zap.Error(err))
	}
}

// ReplicaInfo describes a connected replica for people.
type ReplicaInfo struct {
	Addr    string    // where the connection comes from
	Name    Name      // of a gomq peer
	Counted bool      // its acknowledgements satisfy sends
	Started bool      // it has said where it wants to begin
	Sent    int64     // offset below which the log has been sent
	Acked   int64     // ... acknowledged
	LastAck time.Time // zero before the first
}

// Replicas lists the connected replicas.
func (m *Master) Replicas() []ReplicaInfo {
	var out []ReplicaInfo
	for _, f := range *m.feeds.Load() {
		i := ReplicaInfo{Addr: f.nc.RemoteAddr().String(), Counted: f.counted.Load(), Started: f.started.Load(), Sent: f.sent.Load(), Acked: f.acked.Load()}
		if n := f.name.Load(); n != nil {
			i.Name = *n
		}
		if at := f.lastAck.Load(); at > 0 {
			i.LastAck = time.Unix(0, at)
		}
		out = append(out, i)
	}
	return out
}

// addrOf is the address that a connection comes from, the zero Addr when it is
// none of TCP.
func addrOf(c net.Conn) netip.Addr {
	if a, err := netip.ParseAddrPort(c.RemoteAddr().String()); err == nil {
		return a.Addr().Unmap()
	}
	return netip.Addr{}
}

// sleep waits; false means that ctx has ended.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
