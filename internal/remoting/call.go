package remoting

import (
	"sync/atomic"
	"time"

	"gomq/internal/protocol"
)

// Handler is who decides what requests mean. One Handler serves many
// connections at once; Request and EndTurn of one connection never overlap.
type Handler interface {
	// Request is called for each request of the turn, in order, on the
	// connection's reader goroutine, so it must not block. The Call and its
	// bytes may be kept until EndTurn has returned.
	Request(t *Turn, c *Call)
	// EndTurn is called after the turn's last request. What was staged is
	// carried out and answered here. A request that by its end is neither
	// answered, nor one-way, nor taken by Later or Detach is a fault of the
	// handler and is answered SYSTEM_ERROR.
	EndTurn(t *Turn)
	// Closed is called once when the connection is gone, after its last
	// EndTurn, on its reader goroutine.
	Closed(conn *Conn)
}

// Filler appends the body of an answer. A Filler that also has Size() int
// (bytes, an estimate is fine) saves regrowing the buffer.
type Filler interface {
	AppendTo(dst []byte) ([]byte, error)
}

// Turn is the set of requests that arrived in one read. It belongs to its
// connection's reader goroutine.
type Turn struct {
	Conn    *Conn
	User    any       // the handler's own state; kept for the connection's life
	Started time.Time // when the turn's bytes were read

	*scratch
	n      int // requests so far
	usual  int // bytes of answers that lately were enough
	counts []tally
}

// scratch is what a turn needs while it runs; an idle connection has none.
type scratch struct {
	calls []*Call
	out   *block
}

// Len is how many requests the turn has had so far.
func (t *Turn) Len() int { return t.n }

// grow makes room for n more bytes of answers. A connection's Turns are much alike:
// the first answer that needs more takes what the last Turns needed in all, because
// block after block would copy what is there.
func (t *Turn) grow(n int) {
	if b := t.out.b; cap(b)-len(b) < n {
		t.out = t.Conn.hub.pools.grow(t.out, max(n, min(t.usual, softOutbound)-len(b)))
	}
}

// Call is one request in hand.
type Call struct {
	Conn *Conn
	Req  protocol.Command // its bytes are borrowed until EndTurn has returned (a detached Call owns them)

	turn  *Turn // nil when detached
	state callState

	// Of a detached Call, which any goroutine may answer.
	late Late
	done atomic.Bool
}

type callState uint8

const (
	open     callState = iota // nobody has answered
	answered                  // in the turn's buffer
	taken                     // Later or Detach: answered by someone, some time
)

// Response is an answer to be. Header may be nil; Body is copied.
type Response struct {
	Code   int32
	Remark string
	Header protocol.Header
	Body   []byte
}

const headRoom = 512 // what an answer's frame and header take, roughly

// Answer appends the answer to the turn's buffer; it leaves with the others in
// one write at the turn's end. The answer to a one-way request is dropped. On a
// detached Call it goes the late way, from any goroutine. Only the first answer
// of a Call counts.
func (c *Call) Answer(r Response) {
	t := c.turn
	if t == nil {
		if c.done.CompareAndSwap(false, true) {
			c.late.Answer(r)
		}
		return
	}
	if c.state != open {
		return
	}
	// The state follows the encoding: a header that panics leaves the Call open,
	// so that it is still answered.
	if !c.Req.IsOneway() {
		t.grow(headRoom + len(r.Remark) + len(r.Body))
		t.out.b = protocol.AppendResponse(t.out.b, c.Req.Codec, c.Req.Opaque, r.Code, r.Remark, r.Header, r.Body)
	}
	c.state = answered
	t.tally(c.Req.Code, r.Code)
}

// AnswerFill is Answer with a body that f appends straight into the buffer.
// When f fails nothing is answered and f's error is returned: answer that.
func (c *Call) AnswerFill(r Response, f Filler) error {
	t := c.turn
	if t == nil {
		if !c.done.CompareAndSwap(false, true) {
			return nil
		}
		err := c.late.AnswerFill(r, f)
		if err != nil {
			c.done.Store(false)
		}
		return err
	}
	if c.state != open {
		return nil
	}
	if !c.Req.IsOneway() {
		t.grow(headRoom + len(r.Remark) + sizeOf(f))
		b, err := fill(t.out.b, c.Req.Codec, c.Req.Opaque, r, f)
		if err != nil {
			return err
		}
		t.out.b = b
	}
	c.state = answered
	t.tally(c.Req.Code, r.Code)
	return nil
}

func sizeOf(f Filler) int {
	if s, ok := f.(interface{ Size() int }); ok {
		return s.Size()
	}
	return 0
}

// fill appends one whole answer to dst. On an error dst is as it was, though
// what lies behind its end may have changed.
func fill(dst []byte, codec protocol.Codec, opaque int32, r Response, f Filler) ([]byte, error) {
	b, mark := protocol.BeginResponse(dst, codec, opaque, r.Code, r.Remark, r.Header)
	b, err := f.AppendTo(b)
	if err != nil {
		return dst, err
	}
	return protocol.EndResponse(b, mark), nil
}

// Later takes the request out of the turn: the Late must be answered exactly
// once, at any time, by any goroutine. The Call's bytes stay borrowed. It may be
// called once, and not after an answer; doing so is a fault of the handler and
// panics. A detached Call has its Late in it and is answered by itself.
func (c *Call) Later() Late {
	if c.turn == nil || c.state != open {
		panic("remoting: Later of a call that was answered or taken before")
	}
	c.state = taken
	conn := c.Conn
	conn.out.late.Add(1)
	return Late{conn: conn, started: c.turn.Started.Sub(conn.hub.start), opaque: c.Req.Opaque, code: c.Req.Code,
		codec: c.Req.Codec, oneway: c.Req.IsOneway()}
}

// Detach takes the request out of the turn with copies of its bytes, for a
// lane. It must be answered, by any goroutine; only the first answer counts, and
// it goes the late way. A detached Call is its own Detach.
func (c *Call) Detach() *Call {
	if c.turn == nil {
		return c
	}
	return &Call{Conn: c.Conn, Req: *c.Req.Clone(), state: taken, late: c.Later()}
}

// Late is the right and the duty to answer one request after its turn. It is a
// small value. Answering costs no system call: the connection's writer writes.
type Late struct {
	conn    *Conn
	started time.Duration // since the hub's start
	opaque  int32
	code    int32
	codec   protocol.Codec
	oneway  bool
}

// Conn is where the answer goes; nil for the zero Late.
func (l Late) Conn() *Conn { return l.conn }

// Answer hands the answer to the connection's writer. It never blocks. When the
// connection is gone it does nothing.
func (l Late) Answer(r Response) {
	l.note(r.Code)
	if l.oneway {
		l.conn.dropLate()
		return
	}
	l.conn.appendLate(l, r)
}

// AnswerFill is Answer with a body that f appends; f runs on the caller's
// goroutine with no lock held. When f fails nothing is answered, f's error is
// returned, and the Late is still to be answered.
func (l Late) AnswerFill(r Response, f Filler) error {
	if l.oneway {
		l.note(r.Code)
		l.conn.dropLate()
		return nil
	}
	p := &l.conn.hub.pools
	x := p.get(headRoom + len(r.Remark) + sizeOf(f))
	b, err := fill(x.b, l.codec, l.opaque, r, f)
	if err != nil {
		p.put(x)
		return err
	}
	x.b = b
	l.note(r.Code)
	l.conn.pushLate(x)
	return nil
}

func (l Late) note(status int32) {
	h := l.conn.hub
	h.o.Metrics.answered(l.code, status, time.Since(h.start)-l.started)
}
