package remoting

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

// tcpPair is two ends of a connection through the system.
func tcpPair(t *testing.T) (a, b *net.TCPConn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	one, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	two, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { one.Close(); two.Close() })
	return one.(*net.TCPConn), two.(*net.TCPConn)
}

// TestNothingOvertakesATornBlock fills a socket until a block is written in part,
// then ends another turn before the writer has come to its work.
func TestNothingOvertakesATornBlock(t *testing.T) {
	h := newHub(context.Background(), Options{}, nil)
	defer h.group.Stop()
	near, far := tcpPair(t)
	near.SetWriteBuffer(64 << 10)
	c := newConn(h, near, near, nil)
	defer c.Close(nil)
	o := &c.out
	o.started = true // the writer is late
	var want bytes.Buffer
	turn := func(fill byte, n int) {
		x := h.pools.get(n)
		x.b = append(x.b, bytes.Repeat([]byte{fill}, n)...)
		want.Write(x.b)
		if x = o.flush(x); x != nil {
			h.pools.put(x)
		}
	}
	for i := 0; len(o.pend) == 0; i++ {
		turn('a'+byte(i%20), 20_000+i)
	}
	if o.pend[0].off == 0 || o.wait > mergeBytes {
		t.Skipf("the kernel took %d bytes of the last block, %d are left: no torn block", o.pend[0].off, o.wait)
	}
	turn('Y', 100)
	turn('Z', 100)
	h.group.Go("remoting writer", o.writeLoop)
	got := make([]byte, want.Len())
	far.SetReadDeadline(time.Now().Add(patience))
	if _, err := io.ReadFull(far, got); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want.Bytes()) {
		i := 0
		for got[i] == want.Bytes()[i] {
			i++
		}
		t.Errorf("byte %d of %d is %q, want %q", i, len(got), got[i], want.Bytes()[i])
	}
}

// TestCloseWhileWriting closes a connection while its writer is in the middle of
// a block: nobody else may get the block, its bytes may still be under way.
func TestCloseWhileWriting(t *testing.T) {
	for range 20 {
		h := newHub(context.Background(), Options{}, nil)
		near, far := tcpPair(t)
		near.SetWriteBuffer(16 << 10)
		c := newConn(h, near, near, nil)
		x := h.pools.get(4 << 20)
		x.b = x.b[:4<<20]
		c.out.flush(x)
		if _, err := io.ReadFull(far, make([]byte, 100_000)); err != nil {
			t.Fatal(err)
		}
		c.Close(nil)
		if y := h.pools.get(4 << 20); y == x {
			t.Fatal("the block that is being written is free for others")
		}
		h.group.Stop()
	}
}

// stuck serves a connection whose peer does not read and whose answers are 1 MiB.
func stuck(t *testing.T, o Options) (*Server, chan error) {
	ends := make(chan error, 1)
	big := bytes.Repeat([]byte{'x'}, 1<<20)
	s := serve(t, o, funcs{
		request: func(_ *Turn, c *Call) {
			if c.Req.Code == 1 {
				late := c.Later()
				late.Answer(Response{Body: big})
				return
			}
			c.Answer(Response{Body: append(big[:0:0], big[:len(c.Req.Body)*1024]...)})
		},
		closed: func(c *Conn) {
			select {
			case ends <- c.Err():
			default:
			}
		},
	})
	return s, ends
}

func TestReaderThatNeverReads(t *testing.T) {
	t.Run("late answers reach the cap", func(t *testing.T) {
		s, ends := stuck(t, Options{MaxOutbound: 8 << 20})
		w := dialWire(t, s.Addr())
		for i := range int32(100) {
			if _, err := w.Write(frame(0, 1, i, 0, nil)); err != nil {
				break // closed in the meantime
			}
		}
		if err := <-ends; !errors.Is(err, ErrOutbound) {
			t.Errorf("ended with %v, want ErrOutbound", err)
		}
		if s.hub.o.Metrics.Refusal("outbound").Load() == 0 {
			t.Error("not counted")
		}
		alive(t, s)
	})
	t.Run("a turn's answers hold its reader", func(t *testing.T) {
		s, ends := stuck(t, Options{MaxOutbound: 64 << 20, WriteTimeout: 100 * time.Millisecond, Sweep: 10 * time.Millisecond})
		w := dialWire(t, s.Addr())
		w.SetWriteBuffer(t)
		go func() {
			for i := range int32(100_000) {
				if _, err := w.Write(frame(0, 2, i, 0, make([]byte, 1000))); err != nil {
					return
				}
			}
		}()
		if err := <-ends; !errors.Is(err, ErrWriteTimeout) {
			t.Errorf("ended with %v, want ErrWriteTimeout", err)
		}
		alive(t, s)
	})
}

// SetWriteBuffer makes the peer's send buffer small.
func (w *wire) SetWriteBuffer(t *testing.T) {
	if err := w.Conn.(*net.TCPConn).SetWriteBuffer(16 << 10); err != nil {
		t.Fatal(err)
	}
}

// A Turn like the one before gets its room at once; after smaller ones that is
// forgotten again.
func TestUsualRoom(t *testing.T) {
	h := newHub(context.Background(), Options{}, nil)
	defer h.group.Stop()
	near, far := tcpPair(t)
	go io.Copy(io.Discard, far)
	c := newConn(h, near, near, nil)
	defer c.Close(nil)
	turn := func(answers, bytes int) (room int) {
		c.turn.scratch = h.getScratch()
		defer c.putScratch()
		for range answers {
			c.turn.grow(bytes)
			if room == 0 {
				room = cap(c.turn.out.b)
			}
			c.turn.out.b = append(c.turn.out.b, make([]byte, bytes)...)
		}
		if err := c.endTurn(&c.turn); err != nil {
			t.Fatal(err)
		}
		return room
	}
	if room := turn(4, 40_000); room >= 160_000 {
		t.Errorf("the first turn begins with room for %d", room)
	}
	if room := turn(4, 40_000); room < 160_000 {
		t.Errorf("the second turn begins with room for %d only", room)
	}
	for range 40 {
		turn(1, 100)
	}
	if room := turn(1, 40_000); room >= 160_000 {
		t.Errorf("after small turns one begins with room for %d", room)
	}
	if c.turn.usual = 1 << 30; turn(1, 40_000) > 2*softOutbound {
		t.Error("a huge turn makes all after it huge")
	}
}
