package remoting

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gomq/internal/protocol"
)

// patience is how long a test waits for what must come; tests end at once when it
// has.
const patience = 20 * time.Second

// funcs is a Handler made of functions; those that are nil do nothing.
type funcs struct {
	request func(*Turn, *Call)
	end     func(*Turn)
	closed  func(*Conn)
}

func (f funcs) Request(t *Turn, c *Call) {
	if f.request != nil {
		f.request(t, c)
	}
}

func (f funcs) EndTurn(t *Turn) {
	if f.end != nil {
		f.end(t)
	}
}

func (f funcs) Closed(c *Conn) {
	if f.closed != nil {
		f.closed(c)
	}
}

// echo answers a request with its own code and body.
var echo = funcs{request: answerEcho}

func answerEcho(_ *Turn, c *Call) { c.Answer(Response{Code: c.Req.Code, Body: c.Req.Body}) }

func serve(t testing.TB, o Options, h Handler) *Server {
	t.Helper()
	if o.Addr == "" && o.Listener == nil {
		o.Addr = "127.0.0.1:0"
	}
	s, err := Listen(context.Background(), o, h)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel() // whatever is owed stays owed
		s.Stop(ctx)
	})
	return s
}

func dial(t testing.TB, s *Server, o Options, h Handler) *Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, err := Dial(ctx, s.Addr(), o, h)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(nil) })
	return c
}

// wire is a peer of which every byte is in the test's hands.
type wire struct {
	t testing.TB
	net.Conn
	r *bufio.Reader
}

func dialWire(t testing.TB, addr string) *wire {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(patience))
	return &wire{t, nc, bufio.NewReaderSize(nc, 64<<10)}
}

func (w *wire) send(b []byte) {
	w.t.Helper()
	if _, err := w.Write(b); err != nil {
		w.t.Fatal(err)
	}
}

// answer reads one frame.
func (w *wire) answer() *protocol.Command {
	w.t.Helper()
	c, err := w.next()
	if err != nil {
		w.t.Fatalf("reading an answer: %v", err)
	}
	return c
}

func (w *wire) next() (*protocol.Command, error) {
	var n [4]byte
	if _, err := io.ReadFull(w.r, n[:]); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(n[:])
	if size > 16<<20 {
		return nil, fmt.Errorf("an answer of %d bytes", size)
	}
	b := make([]byte, size)
	if _, err := io.ReadFull(w.r, b); err != nil {
		return nil, err
	}
	c := new(protocol.Command)
	return c, c.Parse(b)
}

// closed waits until the server has closed the connection; what it sends before
// is dropped.
func (w *wire) closed() {
	w.t.Helper()
	w.SetReadDeadline(time.Now().Add(patience))
	if _, err := io.Copy(io.Discard, w.r); err != nil {
		if ne, ok := err.(net.Error); ok && ne.Timeout() {
			w.t.Fatal("the connection is still open")
		}
	}
}

func frame(codec protocol.Codec, code, opaque, flag int32, body []byte) []byte {
	c := protocol.NewRequest(code, nil, body)
	c.Codec, c.Opaque, c.Flag = codec, opaque, flag
	return c.AppendTo(nil)
}

func ping(opaque int32) []byte { return frame(protocol.JSON, 0, opaque, 0, nil) }

// alive checks that the server serves a newcomer.
func alive(t testing.TB, s *Server) {
	t.Helper()
	w := dialWire(t, s.Addr())
	w.send(ping(77))
	if a := w.answer(); a.Opaque != 77 {
		t.Errorf("a newcomer's request 77 is answered as %d", a.Opaque)
	}
	w.Close()
}

// memory is a network of pipes: a Listener and a dialler without the system.
type memory struct {
	accept chan net.Conn
	done   chan struct{}
	once   sync.Once
	port   atomic.Int32
}

func newMemory() *memory {
	return &memory{accept: make(chan net.Conn), done: make(chan struct{})}
}

type pipeEnd struct {
	net.Conn
	local, remote net.Addr
}

func (p pipeEnd) LocalAddr() net.Addr  { return p.local }
func (p pipeEnd) RemoteAddr() net.Addr { return p.remote }

var memoryAddr = net.TCPAddrFromAddrPort(netip.MustParseAddrPort("192.0.2.1:9876"))

func (m *memory) Accept() (net.Conn, error) {
	select {
	case nc := <-m.accept:
		return nc, nil
	case <-m.done:
		return nil, net.ErrClosed
	}
}

func (m *memory) Close() error {
	m.once.Do(func() { close(m.done) })
	return nil
}

func (m *memory) Addr() net.Addr { return memoryAddr }

func (m *memory) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	return m.dialFrom(ctx, "198.51.100.1")
}

func (m *memory) dialFrom(ctx context.Context, ip string) (net.Conn, error) {
	from := net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(ip), uint16(m.port.Add(1))))
	a, b := net.Pipe()
	select {
	case m.accept <- pipeEnd{b, memoryAddr, from}:
		return pipeEnd{a, from, memoryAddr}, nil
	case <-m.done:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// eventually waits for what some other goroutine does without telling.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %v", what, patience)
		}
	}
}
