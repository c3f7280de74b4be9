package remoting

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
)

// Accept is the server's side of a connection that carries something else than
// requests, log shipping: it returns the connection to go on with, TLS if the peer
// begins it. t may be nil: no TLS is served. It waits for the first byte and the
// handshake; the caller has set a deadline. Errors: ErrTLS, ErrTLSOff, ErrNoTLS, and
// those of the connection.
func (t *TLS) Accept(nc net.Conn) (net.Conn, error) {
	var first [1]byte
	if _, err := io.ReadFull(nc, first[:]); err != nil {
		return nil, err
	}
	c := &helloConn{Conn: nc, head: first[:]}
	switch {
	case first[0] == tlsFirstByte && t == nil:
		return nil, ErrTLSOff
	case first[0] == tlsFirstByte:
		s := tls.Server(c, t.cur.Load())
		if err := s.Handshake(); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrTLS, err)
		}
		return s, nil
	case t != nil && t.o.Enforce:
		return nil, ErrNoTLS
	}
	return c, nil
}

// Client is the client's side of such a connection to addr; ctx bounds the
// handshake. t may be nil: the connection stays as it is. The error is ErrTLS.
func (t *TLS) Client(ctx context.Context, nc net.Conn, addr string) (net.Conn, error) {
	if t == nil {
		return nc, nil
	}
	return t.client(ctx, nc, addr)
}
