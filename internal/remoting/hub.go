package remoting

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"gomq/internal/task"
)

// hub is what the connections of one Server or Dialer share: limits, buffers,
// the list of connections, and the sweeper that ends those that take too long.
type hub struct {
	o        Options
	group    *task.Group
	pools    pools
	scratch  sync.Pool
	inbound  budget
	waiting  atomic.Int64 // bytes that wait to be written, of all connections
	ids      atomic.Uint64
	last     atomic.Uint64 // whose Turn ended last
	start    time.Time
	tick     atomic.Int64 // nanoseconds since start, as of the last sweep; never 0
	stopping atomic.Bool

	mu    sync.Mutex // guards the rest
	conns map[*Conn]struct{}
	perIP map[ipKey]int
	empty chan struct{} // closed when stopping and no connection is left
	once  bool          // the hub of one dialled connection: ends with it
	told  time.Time     // when it was last said why a peer's connection was closed
}

// newHub makes a hub. When ctx ends everything is closed; ended (may be nil) is
// then called first.
func newHub(ctx context.Context, o Options, ended func()) *hub {
	h := &hub{o: o.filled(), start: time.Now(), conns: map[*Conn]struct{}{}, perIP: map[ipKey]int{}, empty: make(chan struct{})}
	h.inbound.max = h.o.MaxInbound
	h.tick.Store(1)
	h.group = task.NewGroup(context.WithoutCancel(ctx), h.o.Log, nil)
	h.group.Go("remoting sweeper", func(stop context.Context) error {
		h.sweepLoop(ctx, stop, ended)
		return nil
	})
	if h.o.TLS.watched() {
		h.group.Go("remoting TLS files", h.watchTLS)
	}
	return h
}

// now is the time of the last sweep: exact enough for timeouts of seconds, and
// it costs nothing.
func (h *hub) now() int64 { return h.tick.Load() }

func (h *hub) getScratch() *scratch {
	s, _ := h.scratch.Get().(*scratch)
	if s == nil {
		s = &scratch{}
	}
	if s.out == nil {
		s.out = h.pools.get(1)
	}
	return s
}

func (h *hub) putScratch(s *scratch) { h.scratch.Put(s) }

func (h *hub) refuse(cause string) { h.o.Metrics.Refused(cause) }

// crowded says whether more waits to be written than all connections together
// may hold.
func (h *hub) crowded() bool { return h.waiting.Load() > h.o.MaxWaiting }

// softLimit is how many bytes may wait on a connection before no more of its
// requests are taken.
func (h *hub) softLimit() int {
	if h.crowded() {
		return tightOutbound
	}
	return softOutbound
}

// adopt makes nc a connection and starts its reader; nil when the hub is
// stopping.
// rw is what is read and written: nc itself, or the TLS over it.
func (h *hub) adopt(nc, rw net.Conn, handler Handler, port *portStat) *Conn {
	c := newConn(h, nc, rw, handler)
	c.port, c.unknown = port, port != nil
	h.mu.Lock()
	if h.stopping.Load() {
		h.mu.Unlock()
		nc.Close()
		return nil
	}
	h.conns[c] = struct{}{}
	if port != nil {
		port.open.Add(1)
		h.perIP[keyOf(c.remote)]++
	}
	h.mu.Unlock()
	h.group.Go("remoting reader", c.readLoop)
	return c
}

// broken are the ends of a connection that its peer has brought about.
var broken = []error{ErrFrame, ErrFrameTimeout, ErrWriteTimeout, ErrOutbound}

// tell says why a peer's connection was closed when the peer broke a rule, at most
// once a second: strangers decide how often it happens. gomq_refusals_total counts
// them all.
func (h *hub) tell(c *Conn) {
	err := c.Err()
	if c.port == nil || !slices.ContainsFunc(broken, func(e error) bool { return errors.Is(err, e) }) {
		return
	}
	now := time.Now()
	h.mu.Lock()
	silent := now.Sub(h.told) < time.Second
	if !silent {
		h.told = now
	}
	h.mu.Unlock()
	if !silent {
		h.o.Log.Warn("a peer broke a rule of the protocol", zap.Stringer("peer", c.remote), zap.Stringer("to", c.local), zap.Error(err))
	}
}

// forget takes a connection whose reader has ended off the list.
func (h *hub) forget(c *Conn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.conns, c)
	if c.port != nil {
		c.port.open.Add(-1)
		if c.tls {
			c.port.tls.Add(-1)
		}
		k := keyOf(c.remote)
		if h.perIP[k]--; h.perIP[k] <= 0 {
			delete(h.perIP, k)
		}
	}
	if h.once {
		h.stopping.Store(true)
	}
	if h.stopping.Load() && len(h.conns) == 0 {
		close(h.empty)
	}
}

// all is the connections of this moment.
func (h *hub) all() []*Conn {
	h.mu.Lock()
	defer h.mu.Unlock()
	cs := make([]*Conn, 0, len(h.conns))
	for c := range h.conns {
		cs = append(cs, c)
	}
	return cs
}

// sweepLoop advances the clock, ends connections that take too long and calls
// whose time is over. When
// ctx, the owner's, ends, everything is closed at once.
func (h *hub) sweepLoop(ctx, stop context.Context, ended func()) {
	t := time.NewTicker(h.o.Sweep)
	defer t.Stop()
	for {
		select {
		case <-stop.Done():
			return
		case <-h.empty:
			return
		case <-ctx.Done():
			if ended != nil {
				ended()
			}
			h.closeAll(ErrStopped)
			ctx = context.Background()
		case <-t.C:
			now := int64(time.Since(h.start))
			h.tick.Store(now)
			h.sweep(now)
		}
	}
}

func (h *hub) sweep(now int64) {
	for _, c := range h.all() {
		select {
		case <-c.done: // its reader has not ended yet; it counts once
			continue
		default:
		}
		if err, cause := c.overdue(now); err != nil {
			h.refuse(cause)
			c.Close(err)
			continue
		}
		c.silent(now)
	}
}

// minProgress is what a frame must have received a second, counted from its
// fifth second on.
const minProgress = 1 << 10

// overdue says whether the connection has taken too long for something. The
// times it compares are those of the sweep before the event, so one sweep is
// taken off: none is noticed early, and up to two sweeps late.
func (c *Conn) overdue(now int64) (error, string) {
	o := &c.hub.o
	now -= int64(o.Sweep)
	patience := int64(o.WriteTimeout)
	if c.hub.crowded() {
		patience /= 5
	}
	if w := c.writeSince.Load(); w != 0 && now-w > patience {
		return ErrWriteTimeout, "write-timeout"
	}
	if s := c.shakeSince.Load(); s != 0 && now-s > int64(o.HandshakeTimeout) {
		return ErrTLSTimeout, "tls-timeout"
	}
	if f := c.frameSince.Load(); f != 0 {
		age := now - f
		slow := age > int64(o.FrameTimeout)/2 && c.moved.Load() < minProgress*(age-int64(o.FrameTimeout)/2)/int64(time.Second)
		if slow || age > int64(o.FrameTimeout) {
			return ErrFrameTimeout, "frame-timeout"
		}
	}
	if now-c.active.Load() > int64(o.IdleTimeout) {
		return ErrIdle, "idle"
	}
	return nil, ""
}

// closeAll refuses new connections and closes those there are.
func (h *hub) closeAll(err error) {
	h.setStopping()
	for _, c := range h.all() {
		c.Close(err)
	}
}

// setStopping refuses new connections from now on; empty is closed once the
// last of the present ones is gone.
func (h *hub) setStopping() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.stopping.Swap(true) && len(h.conns) == 0 {
		close(h.empty)
	}
}

// stop reads no more, waits until every answer owed has been written or ctx
// ends, closes all connections and joins their goroutines.
func (h *hub) stop(ctx context.Context) error {
	h.setStopping()
	for _, c := range h.all() {
		c.nc.SetReadDeadline(time.Unix(1, 0))
	}
	var err error
	select {
	case <-h.empty:
	case <-ctx.Done():
		err = ctx.Err()
		h.closeAll(ErrStopped)
		<-h.empty
	}
	h.group.Stop()
	return err
}
