package remoting

import (
	"context"
	"fmt"
	"net"
	"time"
)

// Dialer makes connections that share limits, buffers and a sweeper.
type Dialer struct{ hub *hub }

// NewDialer makes a Dialer. When ctx ends its connections are closed.
func NewDialer(ctx context.Context, o Options) *Dialer { return &Dialer{hub: newHub(ctx, o, nil)} }

const dialTimeout = 3 * time.Second // the connect timeout of the original's clients

// Dial connects to addr ("host:port"), within 3 s when ctx has no deadline.
// Requests of the peer go to h; without one they are answered code 3.
func (d *Dialer) Dial(ctx context.Context, addr string, h Handler) (*Conn, error) {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, dialTimeout)
		defer cancel()
	}
	dial := d.hub.o.Dialer
	if dial == nil {
		dial = (&net.Dialer{KeepAlive: -1}).DialContext
	}
	nc, err := dial(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("connecting to %s: %w", addr, err)
	}
	rw := nc
	if t := d.hub.o.TLS; t != nil {
		if rw, err = t.client(ctx, nc, addr); err != nil {
			nc.Close()
			return nil, fmt.Errorf("connecting to %s: %w", addr, err)
		}
	}
	c := d.hub.adopt(nc, rw, h, nil)
	if c == nil {
		return nil, fmt.Errorf("connecting to %s: %w", addr, ErrStopped)
	}
	return c, nil
}

// Stop writes what is owed, closes the connections and joins their goroutines;
// ctx bounds the waiting.
func (d *Dialer) Stop(ctx context.Context) error { return d.hub.stop(ctx) }

// Dial makes one connection with a Dialer of its own, for tests and tools. Its
// goroutines end when the connection is closed.
func Dial(ctx context.Context, addr string, o Options, h Handler) (*Conn, error) {
	d := NewDialer(context.WithoutCancel(ctx), o)
	d.hub.once = true
	c, err := d.Dial(ctx, addr, h)
	if err != nil {
		d.hub.group.Stop()
	}
	return c, err
}
