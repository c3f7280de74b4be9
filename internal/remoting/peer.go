package remoting

import (
	"context"
	"fmt"

	"go.uber.org/zap"

	"gomq/internal/protocol"
)

// Call sends req to the peer and waits for its answer, which owns its bytes.
// The opaque and the flag of req are set here. An answer with an error code is
// no error. Errors: ErrTooManyCalls, ErrOutbound, the context's, or why the
// connection was closed.
func (c *Conn) Call(ctx context.Context, req *protocol.Command) (*protocol.Command, error) {
	w := make(chan *protocol.Command, 1)
	c.calls.Lock()
	if c.wait == nil {
		c.calls.Unlock()
		return nil, c.Err()
	}
	if len(c.wait) >= c.hub.o.MaxCalls {
		c.calls.Unlock()
		return nil, fmt.Errorf("calling %v: %w", c.remote, ErrTooManyCalls)
	}
	c.opaque++
	op := c.opaque
	c.wait[op] = w
	c.calls.Unlock()

	req.Opaque, req.Flag = op, 0
	err := c.send(req, true)
	if err == nil {
		select {
		case r, ok := <-w:
			if ok {
				return r, nil
			}
			return nil, c.Err()
		case <-ctx.Done():
			err = fmt.Errorf("no answer from %v to request %d: %w", c.remote, req.Code, ctx.Err())
		}
	}
	c.calls.Lock()
	delete(c.wait, op)
	c.calls.Unlock()
	return nil, err
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
	c.calls.Lock()
	w := c.wait[r.Opaque]
	delete(c.wait, r.Opaque)
	c.calls.Unlock()
	if w == nil {
		c.hub.o.Log.Debug("answer to no request of ours", zap.Int32("opaque", r.Opaque), zap.Stringer("peer", c.remote))
		return
	}
	w <- r.Clone()
}
