package remoting

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"gomq/internal/protocol"
)

// TestStopDrains stops a server that owes answers while a client goes on asking:
// every request that was taken is answered, and the answers arrive.
func TestStopDrains(t *testing.T) {
	taken := make(chan Late, 100)
	closed := make(chan error, 10)
	s := serve(t, Options{}, funcs{
		request: func(_ *Turn, c *Call) { taken <- c.Later() },
		closed:  func(c *Conn) { closed <- c.Err() },
	})
	w := dialWire(t, s.Addr())
	for i := range int32(10) {
		w.send(frame(0, 1, i, 0, nil))
	}
	var owed []Late
	for range 10 {
		owed = append(owed, <-taken)
	}
	idle := dialWire(t, s.Addr())
	eventually(t, "both are connected", func() bool { return s.Conns() == 2 })
	stopped := make(chan error, 1)
	go func() { stopped <- s.Stop(context.Background()) }()
	idle.closed() // owes nothing, so it goes at once
	eventually(t, "the other one reads no more", func() bool {
		for _, c := range s.hub.all() {
			c.out.mu.Lock()
			ok := c.out.draining
			c.out.mu.Unlock()
			if !ok {
				return false
			}
		}
		return true
	})
	if _, err := net.Dial("tcp", s.Addr()); err == nil {
		t.Error("a stopping server accepts")
	}
	for i := range int32(20) { // these come too late, and are told so
		if _, err := w.Write(frame(0, 1, 100+i, 0, make([]byte, 1000))); err != nil {
			t.Fatal(err)
		}
	}
	for i := range int32(20) {
		if a := w.answer(); a.Opaque != 100+i || a.Code != protocol.ServiceNotAvailable || !strings.Contains(a.Remark, "stopping") {
			t.Fatalf("a request after the stop: %d %d %q", a.Opaque, a.Code, a.Remark)
		}
	}
	select {
	case err := <-stopped:
		t.Fatalf("Stop returned %v while 10 answers were owed", err)
	case <-time.After(20 * time.Millisecond):
	}
	for _, l := range owed {
		l.Answer(Response{Body: make([]byte, 50_000)})
	}
	for i := range int32(10) {
		a, err := w.next()
		if err != nil {
			t.Fatalf("after %d answers: %v", i, err)
		}
		if a.Opaque != i || len(a.Body) != 50_000 {
			t.Errorf("answer %d: opaque %d, %d bytes", i, a.Opaque, len(a.Body))
		}
	}
	if _, err := w.next(); err != io.EOF {
		t.Errorf("after the answers: %v, want a clean end", err)
	}
	w.Close()
	if err := <-stopped; err != nil {
		t.Errorf("Stop: %v", err)
	}
	for range 2 {
		if err := <-closed; !errors.Is(err, ErrStopped) {
			t.Errorf("a connection ended with %v", err)
		}
	}
	if err := s.Stop(context.Background()); err != nil {
		t.Errorf("a second Stop: %v", err)
	}
}

// TestStopRefuses stops a server under clients that never rest: whatever they ask
// while it stops is answered or, behind the end of the connection, was not sent
// before it. Nothing is left without an answer, which a 4.x client would wait for.
func TestStopRefuses(t *testing.T) {
	for _, kind := range []string{"plain", "TLS"} {
		t.Run(kind, func(t *testing.T) {
			s := serve(t, Options{TLS: mustTLS(t, ServeTLS, TLSOptions{SelfSigned: true})}, echo)
			const clients = 8
			asked := make(chan struct{}, clients)
			ended := make(chan error, clients)
			for range clients {
				w := dialWire(t, s.Addr())
				if kind == "TLS" {
					w.Conn = tls.Client(w.Conn, anyServer)
					w.r.Reset(w.Conn)
				}
				go func() {
					told := false
					for i := int32(0); ; i++ {
						// One at a time, as a consumer pulls a queue: the next request follows an
						// answer at once, whatever it was.
						if _, err := w.Write(ping(i)); err != nil {
							ended <- nil
							return
						}
						a, err := w.next()
						if err != nil {
							if !told {
								err = fmt.Errorf("request %d: never told that the server stops: %w", i, err)
							} else {
								err = nil
							}
							ended <- err
							return
						}
						if a.Code == protocol.ServiceNotAvailable {
							told = true
							ended <- nil // a consumer rests now
							return
						}
						if i == 10 {
							asked <- struct{}{}
						}
					}
				}()
			}
			for range clients {
				<-asked
			}
			begun := time.Now()
			if err := s.Stop(context.Background()); err != nil {
				t.Error(err)
			}
			if took := time.Since(begun); took > 10*time.Second {
				t.Errorf("it took %v", took)
			}
			for range clients {
				if err := <-ended; err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// TestStopInTime stops a server whose answers never come: the context decides.
func TestStopInTime(t *testing.T) {
	asked := make(chan struct{}, 1)
	s := serve(t, Options{}, funcs{request: func(_ *Turn, c *Call) {
		c.Later()
		asked <- struct{}{}
	}})
	c := dial(t, s, Options{}, nil)
	got := make(chan error, 1)
	go func() {
		_, err := c.Call(context.Background(), protocol.NewRequest(1, nil, nil))
		got <- err
	}()
	<-asked
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Millisecond)
	defer cancel()
	if err := s.Stop(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Stop: %v", err)
	}
	if err := <-got; !errors.Is(err, ErrClosed) {
		t.Errorf("the call: %v", err)
	}
}

// TestContextEnds ends the context that a server was started with: everything is
// closed, the port too.
func TestContextEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	s, err := Listen(ctx, Options{Addr: "127.0.0.1:0"}, echo)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Also(ctx, "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	addrs := s.Addrs()
	w, v := dialWire(t, addrs[0]), dialWire(t, addrs[1])
	for _, x := range []*wire{w, v} {
		x.send(ping(1))
		x.answer()
	}
	cancel()
	w.closed()
	v.closed()
	for _, addr := range addrs {
		eventually(t, "the port is free", func() bool {
			nc, err := net.Dial("tcp", addr)
			if err == nil {
				nc.Close()
			}
			return err != nil
		})
	}
	if err := s.Stop(context.Background()); err != nil {
		t.Error(err)
	}
}

func TestPortInUse(t *testing.T) {
	s := serve(t, Options{}, echo)
	if _, err := Listen(context.Background(), Options{Addr: s.Addr()}, echo); err == nil {
		t.Error("listening on a port in use worked")
	}
	if err := s.Also(context.Background(), s.Addr()); err == nil {
		t.Error("listening twice worked")
	}
}

// TestDialerStops lets a dialled connection answer what the server has asked
// before it goes.
func TestDialerStops(t *testing.T) {
	conns := make(chan *Conn, 1)
	s := serve(t, Options{}, funcs{request: func(_ *Turn, c *Call) {
		conns <- c.Conn
		c.Answer(Response{})
	}})
	d := NewDialer(context.Background(), Options{})
	taken := make(chan Late, 1)
	c, err := d.Dial(context.Background(), s.Addr(), funcs{request: func(_ *Turn, c *Call) { taken <- c.Later() }})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Call(t.Context(), protocol.NewRequest(1, nil, nil)); err != nil {
		t.Fatal(err)
	}
	peer := <-conns
	got := make(chan error, 1)
	go func() {
		_, err := peer.Call(context.Background(), protocol.NewRequest(2, nil, nil))
		got <- err
	}()
	late := <-taken
	stopped := make(chan error, 1)
	go func() { stopped <- d.Stop(context.Background()) }()
	eventually(t, "it drains", func() bool {
		c.out.mu.Lock()
		defer c.out.mu.Unlock()
		return c.out.draining
	})
	if _, err := c.Call(t.Context(), protocol.NewRequest(1, nil, nil)); !errors.Is(err, ErrStopped) {
		t.Errorf("a new call while stopping: %v", err)
	}
	late.Answer(Response{})
	if err := <-got; err != nil {
		t.Errorf("the server's call: %v", err)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

// TestStopInsideAFrame stops a server while half a frame has arrived and an
// answer is owed: the half frame's time limit must not cost the answer.
func TestStopInsideAFrame(t *testing.T) {
	taken := make(chan Late, 1)
	s := serve(t, Options{FrameTimeout: 40 * time.Millisecond, Sweep: 5 * time.Millisecond}, funcs{request: func(_ *Turn, c *Call) { taken <- c.Later() }})
	w := dialWire(t, s.Addr())
	w.send(append(frame(0, 1, 1, 0, nil), frame(0, 1, 2, 0, nil)[:30]...))
	late := <-taken
	stopped := make(chan error, 1)
	go func() { stopped <- s.Stop(context.Background()) }()
	eventually(t, "it reads no more", func() bool {
		o := &late.conn.out
		o.mu.Lock()
		defer o.mu.Unlock()
		return o.draining
	})
	time.Sleep(100 * time.Millisecond) // longer than a frame may take; a longer pause changes nothing
	late.Answer(Response{Code: 5})
	if a := w.answer(); a.Code != 5 {
		t.Errorf("answered %d", a.Code)
	}
	w.Close()
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}
