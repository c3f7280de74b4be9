package remoting

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"go.uber.org/zap"

	"gomq/internal/protocol"
)

// Conn is a connection to a peer. Both sides may call: it does not matter who
// dialled. All methods may be called from any goroutine.
type Conn struct {
	hub     *hub
	nc      net.Conn        // what was accepted or dialled; deadlines and the end are its
	rw      net.Conn        // what is read and written: nc, or the TLS over it
	raw     syscall.RawConn // nil when rw has no descriptor of its own (tests, TLS)
	tls     bool            // counted as such
	handler Handler
	port    *portStat // nil when dialled
	id      uint64
	remote  netip.AddrPort
	local   netip.AddrPort
	done    chan struct{}

	// What the sweeper reads: hub ticks, 0 = not so at the moment.
	active     atomic.Int64 // last read or write
	frameSince atomic.Int64 // when the incomplete frame at the front was begun
	writeSince atomic.Int64 // when the write that is under way was begun
	shakeSince atomic.Int64 // when the TLS handshake was begun
	moved      atomic.Int64 // bytes of the incomplete frame that have arrived

	// The reader's own.
	turn     Turn
	in       inbuf
	partial  bool // frameSince is set
	waited   bool // the last read had to wait
	rests    rests
	unknown  bool  // accepted, and nothing has been read: TLS or not
	refusing bool  // stopping: what arrives is answered Stopping
	rerr     error // result of tryRead
	readFn   func(fd uintptr) bool

	out outbox

	calls  sync.Mutex
	opaque int32
	wait   map[int32]waiting // nil once closed
	asked  atomic.Int32      // of wait, those with a deadline; what the sweeper looks at
}

func newConn(h *hub, nc, rw net.Conn, handler Handler) *Conn {
	c := &Conn{hub: h, nc: nc, rw: rw, handler: handler, id: h.ids.Add(1), done: make(chan struct{}), wait: map[int32]waiting{}}
	c.turn.Conn = c
	c.remote, c.local = addrPort(nc.RemoteAddr()), addrPort(nc.LocalAddr())
	if _, ok := rw.(*net.TCPConn); ok {
		if raw, err := rw.(syscall.Conn).SyscallConn(); err == nil {
			c.raw = raw
		}
	}
	c.readFn = c.tryRead
	c.out.init(c)
	c.active.Store(h.now())
	return c
}

func addrPort(a net.Addr) netip.AddrPort {
	if t, ok := a.(*net.TCPAddr); ok {
		p := t.AddrPort()
		return netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
	}
	if a == nil {
		return netip.AddrPort{}
	}
	p, _ := netip.ParseAddrPort(a.String())
	return p
}

// Remote is the peer's address, IPv4 as IPv4; zero when it has none.
func (c *Conn) Remote() netip.AddrPort { return c.remote }

// Local is our own address of the connection.
func (c *Conn) Local() netip.AddrPort { return c.local }

// ID is unique among the connections of one Server or Dialer.
func (c *Conn) ID() uint64 { return c.id }

// Done is closed when the connection is.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Err is why the connection was closed; nil while it is open.
func (c *Conn) Err() error {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	return c.out.err
}

// Close closes the connection with a reason (nil: ErrClosed). What waits to be
// written is lost, every call that waits for the peer fails. It does not wait
// for the reader; Handler.Closed tells when that has ended.
func (c *Conn) Close(err error) {
	if err == nil {
		err = ErrClosed
	} else if !errors.Is(err, ErrClosed) {
		err = fmt.Errorf("%w: %w", ErrClosed, err)
	}
	if !c.out.close(err) {
		return
	}
	close(c.done)
	c.nc.Close()
	c.calls.Lock()
	left := c.wait
	c.wait = nil
	c.calls.Unlock()
	for _, w := range left {
		c.told(w, nil, err)
	}
}

// readLoop is the reader goroutine: one Turn a read, until the connection ends.
func (c *Conn) readLoop(ctx context.Context) error {
	err := c.turns()
	if errors.Is(err, errDrain) {
		c.out.drain()
		if c.unknown || c.refuseRest() {
			c.linger()
		}
		err = ErrStopped
	}
	c.Close(err)
	c.in.drop(c.hub)
	c.putScratch()
	c.hub.tell(c)
	c.hub.forget(c)
	if c.handler != nil {
		c.guard("closed", func() { c.handler.Closed(c) })
	}
	return nil
}

var errDrain = errors.New("stopping: reads no more")

const (
	quietTime  = 50 * time.Millisecond // a peer that asks nothing for so long has had all its answers
	lingerTime = 500 * time.Millisecond
)

// refuseRest tells a peer that goes on asking while we stop, until every answer
// owed has been written and the peer is quiet: a 4.x client whose connection ends
// before its answer waits for the whole time of its request, 30 s for a pull.
// false: the connection is gone.
func (c *Conn) refuseRest() bool {
	c.frameSince.Store(0) // the rest of a frame is not waited for
	c.refusing = true
	var end time.Time // once nothing is owed: a peer that never rests is not waited for
	for {
		if c.nc.SetReadDeadline(time.Now().Add(quietTime)) != nil {
			return false
		}
		err := c.fill()
		quiet := errors.Is(err, errDrain)
		for more := err == nil; more && err == nil; {
			more, err = c.runTurn()
		}
		switch now := time.Now(); {
		case err != nil && !quiet:
			return false
		case !c.dry():
		case quiet || !end.IsZero() && now.After(end):
			return true
		case end.IsZero():
			end = now.Add(lingerTime)
		}
	}
}

// dry says whether nothing is owed and nothing waits to be written.
func (c *Conn) dry() bool {
	select {
	case <-c.out.drained:
	default:
		return false
	}
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	return len(c.out.pend) == 0 && !c.out.writing
}

// linger says goodbye after the last answer: no more comes from here, and the
// peer closes. Closing at once while requests lie unread would make the system
// reset the connection and throw away answers that are still under way.
func (c *Conn) linger() {
	w, ok := c.rw.(interface{ CloseWrite() error })
	if !ok || w.CloseWrite() != nil {
		return
	}
	c.nc.SetReadDeadline(time.Now().Add(lingerTime))
	c.in.ready(c.hub)
	b := c.in.x.b[:cap(c.in.x.b)]
	for {
		if _, err := c.rw.Read(b); err != nil {
			return
		}
	}
}

func (c *Conn) turns() error {
	for {
		if err := c.fill(); err != nil {
			return err
		}
		if c.unknown {
			if err := c.greet(); err != nil {
				return err
			}
		}
		frames := 0
		for more := true; more; {
			var err error
			if more, err = c.runTurn(); err != nil {
				return err
			}
			frames += c.turn.n
		}
		if c.rests.next(c.waited, frames) {
			c.rest()
		} else if !c.waited {
			// The peer keeps this goroutine busy without a pause: on one
			// processor the others would wait for the end of its time slice.
			runtime.Gosched()
		}
	}
}

// fill reads once, waiting for bytes if there are none.
func (c *Conn) fill() error {
	if !c.in.prepare(c.hub, c.done) {
		c.hub.refuse("inbound-memory")
		return fmt.Errorf("%w: %d bytes of read buffers are in use (limit %d)", ErrFrame, c.hub.inbound.used.Load(), c.hub.inbound.max)
	}
	if left := c.in.left(); left > 0 {
		c.moved.Store(int64(left))
		if !c.partial {
			c.partial = true
			c.frameSince.Store(c.hub.now())
		}
	}
	c.waited = false
	var err error
	if c.raw != nil {
		if err = c.raw.Read(c.readFn); err == nil {
			err = c.rerr
		}
	} else {
		c.waited = true
		c.in.ready(c.hub)
		c.putScratch()
		var n int
		if n, err = c.rw.Read(c.in.room()); n > 0 {
			c.in.got(n)
			err = nil
		}
	}
	if err == nil {
		c.active.Store(c.hub.now())
		return nil
	}
	if c.hub.stopping.Load() && errors.Is(err, os.ErrDeadlineExceeded) {
		return errDrain
	}
	return err
}

// tryRead reads once without waiting; false asks the runtime to call again when
// there is something. While it waits an idle connection holds no buffer.
func (c *Conn) tryRead(fd uintptr) bool {
	for {
		c.in.ready(c.hub)
		n, err := syscall.Read(int(fd), c.in.room())
		switch {
		case n > 0:
			c.in.got(n)
			c.rerr = nil
		case err == syscall.EINTR:
			continue
		case err == syscall.EAGAIN:
			c.waited = true
			c.in.park(c.hub)
			c.putScratch()
			return false
		case err == nil:
			c.rerr = io.EOF
		default:
			c.rerr = os.NewSyscallError("read", err)
		}
		return true
	}
}

// runTurn handles the whole frames that are buffered, at most MaxTurn of them and
// no more than whose answers reach the soft limit; more says that it stopped
// there.
func (c *Conn) runTurn() (more bool, err error) {
	t := &c.turn
	t.n = 0
	h := c.hub
	soft := h.softLimit()
	for {
		var f []byte
		if f, err = c.in.next(h.o.MaxFrame); err != nil {
			h.refuse("frame-length")
			break
		}
		if f == nil {
			break
		}
		if c.partial {
			c.partial = false
			c.frameSince.Store(0)
		}
		if t.scratch == nil {
			t.scratch = h.getScratch()
		}
		if err = c.frame(t, f); err != nil {
			h.refuse("frame-decode")
			break
		}
		if t.n >= h.o.MaxTurn || len(t.out.b) >= soft {
			more = true
			break
		}
	}
	if t.n > 0 {
		if e := c.endTurn(t); e != nil {
			err = e
		}
	}
	return more, err
}

// frame takes one frame: a request goes to the handler, an answer to whoever
// waits for it.
func (c *Conn) frame(t *Turn, f []byte) error {
	// Flag and code are only known after parsing, and only requests stay.
	call := t.nextCall()
	if err := call.Req.Parse(f); err != nil {
		return fmt.Errorf("%w: %w", ErrFrame, err)
	}
	if call.Req.IsResponse() {
		c.answer(&call.Req)
		return nil
	}
	if t.n == 0 {
		t.Started = time.Now()
	}
	t.n++
	call.Conn, call.turn, call.state = c, t, open
	switch {
	case c.refusing:
		call.Answer(Stopping)
	case c.handler == nil:
		call.Answer(NotSupported(call.Req.Code))
	case c.out.late.Load() >= int64(c.hub.o.MaxInFlight):
		c.hub.refuse("in-flight")
		call.Answer(Busy)
	default:
		c.request(t, call)
	}
	return nil
}

// nextCall is the place for the turn's next request.
func (t *Turn) nextCall() *Call {
	if t.n == len(t.calls) {
		t.calls = append(t.calls, new(Call))
	}
	return t.calls[t.n]
}

// request runs the handler for one request; a panic is that request's error.
func (c *Conn) request(t *Turn, call *Call) {
	defer func() {
		if v := recover(); v != nil {
			c.panicked("request", v, zap.Int32("code", call.Req.Code))
			call.Answer(Response{Code: protocol.SystemError, Remark: failedRemark})
		}
	}()
	c.handler.Request(t, call)
}

const (
	failedRemark = "the request failed inside the server, see its log"
	busyRemark   = "[OVERLOAD]system busy, start flow control for a while"
)

// Stopping is the answer to a request that arrives while the server stops. With
// this code producers try another broker, and consumers rest for some seconds.
var Stopping = Response{Code: protocol.ServiceNotAvailable, Remark: "the server is stopping; ask another one, or this one again later"}

// Busy is the answer to a request for which there is no room (wire.md section
// 8): a lane's queue is full, or too many answers wait.
var Busy = Response{Code: protocol.SystemBusy, Remark: busyRemark}

// endTurn ends the turn and writes its answers.
func (c *Conn) endTurn(t *Turn) (err error) {
	if h := c.hub; h.last.Load() != c.id {
		h.last.Store(c.id)
	}
	if c.handler != nil && !c.refusing && !c.guard("end of turn", func() { c.handler.EndTurn(t) }) {
		// The handler's state of this connection cannot be trusted any more.
		err = ErrPanic
	}
	for _, call := range t.calls[:t.n] {
		if call.state == open && !call.Req.IsOneway() {
			if err == nil {
				c.hub.o.Log.Error("request left without an answer", zap.Int32("code", call.Req.Code), zap.Stringer("peer", c.remote))
			}
			call.Answer(Response{Code: protocol.SystemError, Remark: "the server gave no answer to this request, see its log"})
		}
	}
	t.flushCounts()
	if n := len(t.out.b); n > 0 {
		t.usual = max(n, t.usual-t.usual/8)
		t.out = c.out.flush(t.out)
		if t.out == nil {
			t.out = c.hub.pools.get(1)
		}
	}
	return err
}

// NotSupported is the answer to a request code that nobody serves; the blank in
// front is the original's (wire.md section 8).
func NotSupported(code int32) Response {
	return Response{Code: protocol.RequestCodeNotSupported, Remark: fmt.Sprintf(" request type %d not supported", code)}
}

// guard runs fn and turns a panic into a log line and false.
func (c *Conn) guard(where string, fn func()) (ok bool) {
	defer func() {
		if v := recover(); v != nil {
			c.panicked(where, v)
		}
	}()
	fn()
	return true
}

func (c *Conn) panicked(where string, v any, fields ...zap.Field) {
	c.hub.o.Metrics.panics.Add(1)
	c.hub.o.Log.Error("panic while handling a "+where, append(fields, zap.Any("panic", v), zap.Stringer("peer", c.remote), zap.ByteString("stack", debug.Stack()))...)
}

func (c *Conn) putScratch() {
	if c.turn.scratch != nil {
		c.hub.putScratch(c.turn.scratch)
		c.turn.scratch = nil
	}
}
