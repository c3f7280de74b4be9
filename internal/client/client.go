// Package client is typed calls to nameservers and brokers: what a broker needs
// to register, and what tools, benchmarks and tests ask for. One connection an
// address, made when it is first needed and made anew after it broke; host names
// are resolved each time. There is no background work: a call waits on its
// caller's goroutine, and only calls to all nameservers at once run beside each
// other.
package client

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"gomq/internal/protocol"
	"gomq/internal/remoting"
	"gomq/internal/task"
)

// Options of a Client. The zero value is fine.
type Options struct {
	Timeout  time.Duration    // of a call whose context has no deadline; 3 s, the original's
	Codec    protocol.Codec   // how our headers are encoded
	Handler  remoting.Handler // serves what peers ask of us; nil: answered code 3
	Remoting remoting.Options // limits, dialler and metrics; Addr and Listener are not used
	Log      *zap.Logger      // nil = silent
}

const defaultTimeout = 3 * time.Second

// Client is the connections to all peers. Its methods may be called from any
// goroutine.
type Client struct {
	o      Options
	dialer *remoting.Dialer
	group  *task.Group // calls to several nameservers at once

	mu    sync.Mutex // guards peers
	peers map[string]*peer
}

// New makes a Client. When ctx ends, its connections are closed; Stop is the
// orderly way.
func New(ctx context.Context, o Options) *Client {
	if o.Timeout <= 0 {
		o.Timeout = defaultTimeout
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	if o.Remoting.Log == nil {
		o.Remoting.Log = o.Log
	}
	return &Client{o: o, dialer: remoting.NewDialer(ctx, o.Remoting), group: task.NewGroup(context.WithoutCancel(ctx), o.Log, nil), peers: map[string]*peer{}}
}

// Stop closes all connections, after what waits to be written has been; ctx
// bounds the waiting. Calls under way fail.
func (c *Client) Stop(ctx context.Context) error {
	err := c.dialer.Stop(ctx)
	c.group.Stop()
	return err
}

// peer is an address and its one connection.
type peer struct {
	turn chan struct{} // held while looking at link and while dialling
	link *link         // guarded by turn; nil at first
}

// link is a connection and what is known of its silence.
type link struct {
	*remoting.Conn
	silent atomic.Int32 // calls in a row that were not answered in time
}

// silentLimit is how many calls in a row may time out before their connection is
// given up: the peer, or the way to it, may be gone without a word.
const silentLimit = 2

func (c *Client) peer(addr string) *peer {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.peers[addr]
	if p == nil {
		p = &peer{turn: make(chan struct{}, 1)}
		c.peers[addr] = p
	}
	return p
}

// connect returns the connection to addr, made if there is none.
func (c *Client) connect(ctx context.Context, addr string) (*link, error) {
	p := c.peer(addr)
	select {
	case p.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("connecting to %s: %w", addr, ctx.Err())
	}
	defer func() { <-p.turn }()
	if p.link != nil {
		select {
		case <-p.link.Done():
		default:
			return p.link, nil
		}
	}
	conn, err := c.dialer.Dial(ctx, addr, c.o.Handler)
	if err != nil {
		return nil, err
	}
	p.link = &link{Conn: conn}
	return p.link, nil
}

// Conn is the connection to addr ("host:port"), made if there is none.
func (c *Client) Conn(ctx context.Context, addr string) (*remoting.Conn, error) {
	l, err := c.connect(ctx, addr)
	if err != nil {
		return nil, err
	}
	return l.Conn, nil
}

// Call sends req to addr and waits for the answer, whatever its code; it owns
// its bytes. A call whose context has no deadline has Options.Timeout. Errors:
// the connection could not be made or broke, or the context's.
func (c *Client) Call(ctx context.Context, addr string, req *protocol.Command) (*protocol.Command, error) {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.o.Timeout)
		defer cancel()
	}
	l, err := c.connect(ctx, addr)
	if err != nil {
		return nil, err
	}
	req.Codec = c.o.Codec
	resp, err := l.Call(ctx, req)
	switch {
	case err == nil:
		l.silent.Store(0)
	case errors.Is(err, context.DeadlineExceeded) && l.silent.Add(1) >= silentLimit:
		l.Close(fmt.Errorf("%d calls in a row were not answered in time", silentLimit))
	}
	return resp, err
}

// Notify sends a one-way request to addr.
func (c *Client) Notify(ctx context.Context, addr string, req *protocol.Command) error {
	l, err := c.connect(ctx, addr)
	if err != nil {
		return err
	}
	req.Codec = c.o.Codec
	return l.Notify(req)
}

// ask is Call for requests that are only of use when they succeed: an answer
// with another code is an error in which errors.As finds the *protocol.Error.
func (c *Client) ask(ctx context.Context, addr string, code int32, header protocol.Header, body []byte) (*protocol.Command, error) {
	return c.askFor(ctx, addr, code, header, body, nil)
}

// askFor is ask that decodes the answer's header into reply (nil: none).
func (c *Client) askFor(ctx context.Context, addr string, code int32, header protocol.Header, body []byte, reply protocol.Header) (*protocol.Command, error) {
	resp, err := c.Call(ctx, addr, protocol.NewRequest(code, header, body))
	if err == nil && resp.Code != protocol.Success {
		err = refusal(resp)
	}
	if err == nil && reply != nil {
		err = resp.Decode(reply)
	}
	if err != nil {
		return nil, fmt.Errorf("%s at %s: %w", requestName(code), addr, err)
	}
	return resp, nil
}

// parsed is the end of a call whose answer's body is what counts.
func parsed[T any](resp *protocol.Command, err error, parse func([]byte) (T, error)) (T, error) {
	var none T
	if err != nil {
		return none, err
	}
	v, err := parse(resp.Body)
	if err != nil {
		return none, fmt.Errorf("the answer does not parse: %w", err)
	}
	return v, nil
}

// refusal is the error of an answer with a code other than success.
func refusal(resp *protocol.Command) error {
	return &protocol.Error{Code: resp.Code, Remark: fmt.Sprintf("refused with code %d: %s", resp.Code, strings.TrimSpace(resp.Remark))}
}

func requestName(code int32) string {
	if name := protocol.RequestName(code); name != "" {
		return name
	}
	return fmt.Sprintf("request %d", code)
}

// Code is the response code in err: that of the peer's refusal, or ok false when
// err is something else.
func Code(err error) (code int32, ok bool) {
	var e *protocol.Error
	if errors.As(err, &e) {
		return e.Code, true
	}
	return 0, false
}
