package remoting

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"
)

// Server accepts connections on one or more addresses for one Handler.
type Server struct {
	hub     *hub
	handler Handler

	mu        sync.Mutex // guards the rest
	listeners []net.Listener
	closed    bool // no more listeners
}

// ipKey is the address that MaxConnsPerIP counts by.
type ipKey = netip.Addr

func keyOf(a netip.AddrPort) ipKey { return a.Addr() }

// Listen starts a server on o.Addr (or o.Listener). Only the values of ctx and
// its end are used: when it ends, everything is closed without waiting; Stop is
// the orderly way. More addresses are added by Also.
func Listen(ctx context.Context, o Options, h Handler) (*Server, error) {
	s := &Server{handler: h}
	o = o.filled()
	o.MaxConns = min(o.MaxConns, descriptorLimit()-fdReserve)
	s.hub = newHub(ctx, o, s.closeListeners)
	ln := s.hub.o.Listener
	if ln == nil {
		var err error
		if ln, err = listen(ctx, s.hub.o.Addr); err != nil {
			s.hub.group.Stop()
			return nil, err
		}
	}
	s.serve(ln)
	return s, nil
}

func listen(ctx context.Context, addr string) (net.Listener, error) {
	lc := net.ListenConfig{KeepAlive: -1} // off as in the original; the idle timeout does its work
	ln, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listening on %s: %w", addr, err)
	}
	return ln, nil
}

// Also listens on a further address, with the same handler and common limits
// (a broker's second port, listenPort-2).
func (s *Server) Also(ctx context.Context, addr string) error {
	ln, err := listen(ctx, addr)
	if err != nil {
		return err
	}
	s.serve(ln)
	return nil
}

// Addr is the first address listened on, "ip:port".
func (s *Server) Addr() string { return s.Addrs()[0] }

// Addrs are all addresses listened on, in the order they were added.
func (s *Server) Addrs() (all []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, ln := range s.listeners {
		all = append(all, ln.Addr().String())
	}
	return all
}

// Conns is the number of open connections.
func (s *Server) Conns() int {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	return len(s.hub.conns)
}

// Stop ends the server: it accepts and reads no more, waits until every answer
// owed has been written or ctx ends (then that is the error), closes all
// connections and joins all goroutines. It may be called more than once.
func (s *Server) Stop(ctx context.Context) error {
	s.closeListeners()
	return s.hub.stop(ctx)
}

func (s *Server) closeListeners() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, ln := range s.listeners {
		ln.Close()
	}
}

func (s *Server) serve(ln net.Listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listeners = append(s.listeners, ln)
	if s.closed {
		ln.Close()
		return
	}
	stat := s.hub.o.Metrics.port(portOf(ln.Addr()))
	stat.cert.Store(s.hub.o.TLS)
	s.hub.group.Go("remoting accept", func(stop context.Context) error {
		a := acceptor{s: s, ln: ln, stat: stat, credit: float64(s.hub.o.AcceptRate), last: time.Now()}
		return a.run(stop)
	})
}

func portOf(a net.Addr) string {
	if p := addrPort(a); p.IsValid() {
		return strconv.Itoa(int(p.Port()))
	}
	return "0"
}

// acceptor takes connections from one listener.
type acceptor struct {
	s      *Server
	ln     net.Listener
	stat   *portStat
	credit float64 // connections that may be accepted at once
	last   time.Time
	warned time.Time
}

func (a *acceptor) run(stop context.Context) error {
	h := a.s.hub
	delay := time.Duration(0)
	for {
		nc, err := a.ln.Accept()
		if err == nil {
			delay = 0
			a.take(nc)
			a.pace(stop)
			continue
		}
		if h.stopping.Load() || stop.Err() != nil || errors.Is(err, net.ErrClosed) {
			return nil
		}
		// Out of descriptors or memory, or a peer that has gone already: none
		// of it ends the server.
		delay = min(max(2*delay, 5*time.Millisecond), time.Second)
		a.warn("accepting a connection failed, trying again", zap.Error(err), zap.Duration("after", delay))
		wait(stop, delay)
	}
}

// take admits or closes a connection just accepted.
func (a *acceptor) take(nc net.Conn) {
	h := a.s.hub
	ip := addrPort(nc.RemoteAddr()).Addr()
	h.mu.Lock()
	total, same := len(h.conns), h.perIP[ip]
	h.mu.Unlock()
	switch {
	case total >= h.o.MaxConns:
		h.refuse("connections")
		a.warn("too many connections, one more refused", zap.Int("limit", h.o.MaxConns), zap.Stringer("peer", nc.RemoteAddr()))
	case same >= h.o.MaxConnsPerIP && !ip.IsLoopback():
		h.refuse("connections-per-address")
		a.warn("too many connections from one address, one more refused", zap.Int("limit", h.o.MaxConnsPerIP), zap.Stringer("peer", nc.RemoteAddr()))
	default:
		if t, ok := nc.(*net.TCPConn); ok {
			if n := h.o.SendBuffer; n > 0 {
				_ = t.SetWriteBuffer(n) // a wish; the kernel may have its own mind
			}
			if n := h.o.ReceiveBuffer; n > 0 {
				_ = t.SetReadBuffer(n)
			}
		}
		h.adopt(nc, nc, a.s.handler, a.stat)
		return
	}
	nc.Close()
}

// pace keeps the rate of accepted connections: beyond it they wait in the
// system's backlog, where they cost this process nothing.
func (a *acceptor) pace(stop context.Context) {
	rate := float64(a.s.hub.o.AcceptRate)
	if a.credit--; a.credit >= 1 {
		return
	}
	now := time.Now()
	a.credit = min(a.credit+rate*now.Sub(a.last).Seconds(), rate)
	a.last = now
	if a.credit < 1 {
		a.s.hub.refuse("accept-rate")
		wait(stop, time.Duration((1-a.credit)/rate*float64(time.Second))+time.Millisecond)
	}
}

func (a *acceptor) warn(msg string, fields ...zap.Field) {
	if now := time.Now(); now.Sub(a.warned) > time.Second {
		a.warned = now
		a.s.hub.o.Log.Warn(msg, fields...)
	}
}

func wait(stop context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-stop.Done():
	}
}

// descriptorLimit is how many files and sockets this process may have open.
func descriptorLimit() int {
	var r syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r); err != nil || r.Cur > 1<<20 {
		return 1 << 20
	}
	return max(int(r.Cur), 2*fdReserve)
}
