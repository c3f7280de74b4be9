// Package remotingtest is what tests of several rooms need to play a peer: a server
// that answers with a function.
package remotingtest

import (
	"context"
	"testing"
	"time"

	"gomq/internal/remoting"
)

// Serve listens on addr, 127.0.0.1:0 for any port, and gives each request to
// request, on the goroutine of its connection. The end of the test stops it; what
// is not answered then is not waited for.
func Serve(t testing.TB, addr string, request func(*remoting.Call)) *remoting.Server {
	t.Helper()
	s, err := remoting.Listen(context.Background(), remoting.Options{Addr: addr}, peer(request))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { Stop(s) })
	return s
}

// Stop ends a server and breaks its connections. It may have ended already.
func Stop(s *remoting.Server) {
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	_ = s.Stop(ctx)
}

type peer func(*remoting.Call)

func (p peer) Request(_ *remoting.Turn, c *remoting.Call) { p(c) }
func (peer) EndTurn(*remoting.Turn)                       {}
func (peer) Closed(*remoting.Conn)                        {}
