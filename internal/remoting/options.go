// Package remoting moves frames: connections that can call and be called,
// whether they were accepted or dialled.
//
// A connection has one reader goroutine. All whole frames of one read are one
// Turn: the Handler sees its requests in order, stages what it likes, and
// answers them; the answers leave in one write. Answers that become ready
// later are appended to the connection and written by its writer goroutine.
// The package knows bytes, limits and time; what a request means is the
// Handler's business.
package remoting

import (
	"context"
	"errors"
	"net"
	"time"

	"go.uber.org/zap"
)

// Options are the limits and the seams of a Server or a Dialer. A zero limit
// means the default named beside it; a negative one means no limit.
type Options struct {
	Addr     string                                                            // where Listen listens, "host:port"; port 0 lets the system choose
	Listener net.Listener                                                      // used instead of Addr when set (tests, in-memory networks)
	Dialer   func(ctx context.Context, network, addr string) (net.Conn, error) // how Dial connects; nil = TCP

	TLS *TLS // of ServeTLS for Listen, of DialTLS for a Dialer; nil: none

	MaxFrame      int   // bytes a frame may have with its length field; 16 MiB (com.rocketmq.remoting.frameMaxLength)
	MaxConns      int   // accepted connections at a time; 10,000, and never more than the descriptor limit less 256
	MaxConnsPerIP int   // accepted connections at a time from one address; 5,000; loopback is exempt
	AcceptRate    int   // accepted connections a second; 2,000; more wait in the system's backlog
	MaxInFlight   int   // requests of one connection that wait for a late answer; 16,384; more are answered SYSTEM_BUSY
	MaxCalls      int   // our own calls that wait for the peer's answer, a connection; 16,384
	MaxOutbound   int   // bytes that wait to be written to one connection; 64 MiB; more close it
	MaxWaiting    int64 // bytes that wait to be written to all connections; 256 MiB; beyond it Turns get smaller and peers that do not read are closed sooner
	MaxInbound    int64 // bytes of read buffers above 8 KiB over all connections; 256 MiB; more wait their turn
	MaxTurn       int   // requests of one Turn; 512

	SendBuffer    int // bytes of an accepted socket's send buffer; 0 = the kernel's choice
	ReceiveBuffer int // likewise of its receive buffer

	FrameTimeout     time.Duration // a frame once begun is complete within; 10 s
	IdleTimeout      time.Duration // a connection that neither reads nor writes is closed after; 120 s
	WriteTimeout     time.Duration // a write makes progress within; 10 s
	HandshakeTimeout time.Duration // a TLS handshake once begun is complete within; 5 s
	Sweep            time.Duration // how often the four above and the TLS files are looked at, and so how exact they are; 1 s

	Log     *zap.Logger // nil = silent
	Metrics *Metrics    // nil = none; may be shared by several servers
}

const (
	defaultMaxFrame    = 16 << 20
	defaultMaxConns    = 10_000
	defaultMaxPerIP    = 5_000
	defaultAcceptRate  = 2_000
	defaultMaxInFlight = 16_384
	defaultMaxOutbound = 64 << 20
	defaultMaxInbound  = 256 << 20
	defaultMaxWaiting  = 256 << 20
	defaultMaxTurn     = 512
	fdReserve          = 256      // descriptors kept for files and dialled connections
	softOutbound       = 1 << 20  // above this a Turn takes no more requests and a connection's reader waits for its writer
	tightOutbound      = 64 << 10 // the same while MaxWaiting is exceeded
	noLimit            = int(^uint(0) >> 1)
)

func limit(v, def int) int {
	switch {
	case v == 0:
		return def
	case v < 0:
		return noLimit
	}
	return v
}

func span(v, def time.Duration) time.Duration {
	switch {
	case v == 0:
		return def
	case v < 0:
		return 1<<63 - 1
	}
	return v
}

// filled returns o with every zero replaced by its default.
func (o Options) filled() Options {
	o.MaxFrame = limit(o.MaxFrame, defaultMaxFrame)
	o.MaxConns = limit(o.MaxConns, defaultMaxConns)
	o.MaxConnsPerIP = limit(o.MaxConnsPerIP, defaultMaxPerIP)
	o.AcceptRate = limit(o.AcceptRate, defaultAcceptRate)
	o.MaxInFlight = limit(o.MaxInFlight, defaultMaxInFlight)
	o.MaxCalls = limit(o.MaxCalls, defaultMaxInFlight)
	o.MaxOutbound = limit(o.MaxOutbound, defaultMaxOutbound)
	o.MaxWaiting = int64(limit(int(o.MaxWaiting), defaultMaxWaiting))
	o.MaxInbound = int64(limit(int(o.MaxInbound), defaultMaxInbound))
	o.MaxTurn = limit(o.MaxTurn, defaultMaxTurn)
	o.FrameTimeout = span(o.FrameTimeout, 10*time.Second)
	o.IdleTimeout = span(o.IdleTimeout, 120*time.Second)
	o.WriteTimeout = span(o.WriteTimeout, 10*time.Second)
	o.HandshakeTimeout = span(o.HandshakeTimeout, 5*time.Second)
	o.Sweep = span(o.Sweep, time.Second)
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	if o.Metrics == nil {
		o.Metrics = NewMetrics(nil)
	}
	return o
}

// What ends a connection or a call; found with errors.Is.
var (
	ErrClosed       = errors.New("connection closed")
	ErrStopped      = errors.New("stopped")
	ErrFrame        = errors.New("malformed frame")
	ErrFrameTimeout = errors.New("a frame was begun and not completed in time")
	ErrIdle         = errors.New("connection idle for too long")
	ErrWriteTimeout = errors.New("the peer does not read its answers")
	ErrOutbound     = errors.New("too many bytes wait to be written")
	ErrTooManyCalls = errors.New("too many calls wait for the peer's answer")
	ErrNoAnswer     = errors.New("no answer in time")
	ErrPanic        = errors.New("a request panicked at the end of its turn")
)
