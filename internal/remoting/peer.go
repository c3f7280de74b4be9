package remoting

import (
	"context"
	"fmt"
	"time"

	"go.uber.org/zap"

	"gomq/internal/protocol"
)

// waiting is who waits for the peer's answer to a call: a goroutine, or a
// function with a deadline.
type waiting struct {
	answer chan *protocol.Command // closed when there will be none
	done   func(*protocol.Command, error)
	until  int64 // of done, hub time
}

// Call sends req to the peer and waits for its answer, which owns its bytes.
// The opaque and the flag of req are set here. An answer with an error code is
// no error. Errors: ErrTooManyCalls, ErrOutbound, the context's, or why the
// connection was closed.
func (c *Conn) Call(ctx context.Context, req *protocol.Command) (*protocol.Command, error) {
	w := waiting{answer: make(chan *protocol.Command, 1)}
	op, err := c.expect(req, w)
	if err != nil {
		return nil, err
	}
	if err = c.send(req, true); err == nil {
		select {
		case r, ok := <-w.answer:
			if ok {
				return r, nil
			}
			return nil, c.Err()
		case <-ctx.Done():
			err = fmt.Errorf("no answer from %v to request %d: %w", c.remote, req.Code, ctx.Err())
		}
	}
	c.take(op)
	return nil, err
}

// Ask is Call without waiting: done is told of the answer, or why there is none,
// exactly once, perhaps before Ask returns. It is called on the goroutine that
// notices, the connection's reader mostly, with no lock held; it must not block.
// The timeout is looked at by the sweeper: none is noticed early, and up to two
// sweeps late. Errors: those of Call, with ErrNoAnswer when the time is over.
func (c *Conn) Ask(req *protocol.Command, timeout time.Duration, done func(*protocol.Command, error)) {
	op, err := c.expect(req, waiting{done: done, until: c.hub.now() + int64(c.hub.o.Sweep) + int64(timeout)})
	if err != nil {
		done(nil, err)
		return
	}
	if err := c.send(req, false); err != nil {
		if w, ok := c.take(op); ok {
			c.told(w, nil, err)
		}
	}
}

// expect gives req its opaque and remembers who waits for the answer.
func (c *Conn) expect(req *protocol.Command, w waiting) (op int32, err error) {
	c.calls.Lock()
	defer c.calls.Unlock()
	if c.wait == nil {
		return 0, c.Err()
	}
	if len(c.wait) >= c.hub.o.MaxCalls {
		return 0, fmt.Errorf("calling %v: %w", c.remote, ErrTooManyCalls)
	}
	c.opaque++
	c.wait[c.opaque] = w
	if w.done != nil {
		c.asked.Add(1)
	}
	req.Opaque, req.Flag = c.opaque, 0
	return c.opaque, nil
}

// take is who waits for the answer with that opaque; nobody waits for it any
// more then.
func (c *Conn) take(op int32) (w waiting, ok bool) {
	c.calls.Lock()
	defer c.calls.Unlock()
	if w, ok = c.wait[op]; ok {
		delete(c.wait, op)
	}
	return w, ok
}

// told gives an answer, or why there is none, to who waited for it. A panic of
// a function is a line in the log.
func (c *Conn) told(w waiting, r *protocol.Command, err error) {
	switch {
	case w.done != nil:
		c.asked.Add(-1)
		c.guard("answer of the peer", func() { w.done(r, err) })
	case r != nil:
		w.answer <- r
	default:
		close(w.answer)
	}
}

// silent tells those whose time is over that no answer has come.
func (c *Conn) silent(now int64) {
	if c.asked.Load() == 0 {
		return
	}
	var late []waiting
	c.calls.Lock()
	for op, w := range c.wait {
		if w.done != nil && now > w.until {
			delete(c.wait, op)
			late = append(late, w)
		}
	}
	c.calls.Unlock()
	for _, w := range late {
		c.told(w, nil, fmt.Errorf("calling %v: %w", c.remote, ErrNoAnswer))
	}
}

// Notify sends a one-way request. It never blocks: with too many bytes waiting
// it is ErrOutbound. The opaque and the flag of req are set here.
func (c *Conn) Notify(req *protocol.Command) error {
	c.calls.Lock()
	c.opaque++
	req.Opaque = c.opaque
	c.calls.Unlock()
	req.Flag = protocol.FlagOneway
	return c.send(req, false)
}

// send writes a request of ours: at once when nothing else is being written and
// now is set, otherwise by the writer.
func (c *Conn) send(req *protocol.Command, now bool) error {
	o := &c.out
	p := &c.hub.pools
	x := p.get(headRoom + len(req.Body))
	x.b = req.AppendTo(x.b)
	o.mu.Lock()
	switch {
	case o.err != nil:
		err := o.err
		o.mu.Unlock()
		p.put(x)
		return err
	case o.draining:
		o.mu.Unlock()
		p.put(x)
		return fmt.Errorf("request %d to %v: %w", req.Code, c.remote, ErrStopped)
	case o.wait+len(x.b) > c.hub.o.MaxOutbound:
		o.mu.Unlock()
		p.put(x)
		return fmt.Errorf("request %d to %v: %w", req.Code, c.remote, ErrOutbound)
	case !now || c.raw == nil || o.writing || len(o.pend) > 0:
		o.push(x)
		o.mu.Unlock()
		return nil
	}
	o.writing = true
	o.mu.Unlock()
	if x = o.write(x); x != nil {
		p.put(x)
	}
	return nil
}

// answer gives the peer's answer to whoever waits for it.
func (c *Conn) answer(r *protocol.Command) {
	w, ok := c.take(r.Opaque)
	if !ok {
		c.hub.o.Log.Debug("answer to no request of ours", zap.Int32("opaque", r.Opaque), zap.Stringer("peer", c.remote))
		return
	}
	c.told(w, r.Clone(), nil)
}
