package remoting

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"gomq/internal/protocol"
)

// lengths puts a length field in front of b.
func lengths(n uint32, b []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, n), b...)
}

// header makes a frame of a raw header and its declared length.
func header(mark uint32, b []byte) []byte {
	return lengths(uint32(4+len(b)), append(binary.BigEndian.AppendUint32(nil, mark), b...))
}

func manyFields(n int) []byte {
	b := append([]byte(`{"code":1,"opaque":1,"extFields":{`), bytes.Repeat([]byte(`"f":"v",`), n)...)
	return append(b, `"g":"v"}}`...)
}

// TestMalformedFrames sends what breaks the rules. Each ends its connection, and
// nothing else: a request in front of it is answered, a neighbour is served.
func TestMalformedFrames(t *testing.T) {
	var mu sync.Mutex
	var ended []error
	s := serve(t, Options{}, funcs{request: answerEcho, closed: func(c *Conn) {
		mu.Lock()
		defer mu.Unlock()
		ended = append(ended, c.Err())
	}})
	million := manyFields(1_000_000)
	for name, bad := range map[string][]byte{
		"length 0":                         lengths(0, nil),
		"length 3":                         lengths(3, []byte{0, 0, 0}),
		"length -1":                        lengths(0xFFFFFFFF, make([]byte, 100)),
		"length 2^31-1":                    lengths(0x7FFFFFFF, make([]byte, 100)),
		"length -2^31":                     lengths(0x80000000, make([]byte, 100)),
		"length of one byte too many":      lengths(16<<20-3, make([]byte, 100)),
		"a header longer than its frame":   header(5, []byte("{}")),
		"a header of 16 MiB in 100 bytes":  header(0xFFFFFF, make([]byte, 100)),
		"an unknown encoding":              header(2<<24|2, []byte("{}")),
		"a TLS hello":                      {0x16, 3, 1, 2, 0, 1, 0, 1, 0xFC, 3, 3},
		"an HTTP request":                  []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
		"JSON that ends in the middle":     header(10, []byte(`{"code":1,`)),
		"JSON that is no object":           header(4, []byte(`[17]`)),
		"JSON too deep":                    header(2000, bytes.Repeat([]byte("["), 2000)),
		"a million fields":                 header(uint32(len(million)), million),
		"too many fields":                  header(uint32(len(manyFields(300))), manyFields(300)),
		"a binary header of 5 bytes":       header(1<<24|5, make([]byte, 5)),
		"a binary remark of -1 bytes":      header(1<<24|21, append(make([]byte, 13), 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0)),
		"binary pairs of 2^31-1 bytes":     header(1<<24|21, append(make([]byte, 17), 0x7F, 0xFF, 0xFF, 0xFF)),
		"a binary pair longer than theirs": header(1<<24|24, append(make([]byte, 17), 0, 0, 0, 3, 0x7F, 0xFF, 0)),
	} {
		w := dialWire(t, s.Addr())
		// A large frame is refused while it is still being sent, and the end of the
		// connection may overtake an answer: so that answer is read first.
		large := len(bad) > 64<<10
		if large {
			w.send(ping(5))
		} else {
			w.send(append(ping(5), bad...))
		}
		if a := w.answer(); a.Opaque != 5 {
			t.Errorf("%s: the request in front of it is answered as %d", name, a.Opaque)
		}
		if large {
			w.Write(bad)
		}
		w.closed()
		eventually(t, name+": the connection's end", func() bool {
			mu.Lock()
			defer mu.Unlock()
			return len(ended) > 0
		})
		mu.Lock()
		if !errors.Is(ended[0], ErrFrame) {
			t.Errorf("%s: ended with %v, want ErrFrame", name, ended[0])
		} else if text := ended[0].Error(); len(text) > 300 || strings.ContainsAny(text, "\n\x00") {
			t.Errorf("%s: the error says %q", name, text)
		}
		ended = nil
		mu.Unlock()
	}
	alive(t, s)
}

// TestLargestFrame sends a frame of exactly 16 MiB, in pieces, beside others.
func TestLargestFrame(t *testing.T) {
	s := serve(t, Options{MaxInbound: 40 << 20}, funcs{request: func(_ *Turn, c *Call) {
		c.Answer(Response{Remark: fmt.Sprint(len(c.Req.Body))})
	}})
	w := dialWire(t, s.Addr())
	small := frame(0, 1, 9, 0, nil)
	body := 16<<20 - len(small)
	w.send(frame(0, 1, 9, 0, make([]byte, body)))
	if a := w.answer(); a.Remark != fmt.Sprint(body) {
		t.Errorf("the body arrived as %s bytes, sent were %d", a.Remark, body)
	}
	w.Close()
	eventually(t, "the memory is given back", func() bool { return s.hub.inbound.used.Load() == 0 })
	alive(t, s)
}

// TestSlowFrames is the slowloris: frames that are begun and do not come to an
// end, at each place, with a trickle of bytes or none.
func TestSlowFrames(t *testing.T) {
	o := Options{FrameTimeout: 200 * time.Millisecond, Sweep: 10 * time.Millisecond}
	ends := make(chan error, 10)
	s := serve(t, o, funcs{request: answerEcho, closed: func(c *Conn) {
		if !errors.Is(c.Err(), ErrFrameTimeout) {
			return
		}
		ends <- c.Err()
	}})
	whole := frame(0, 1, 1, 0, bytes.Repeat([]byte{'x'}, 4000))
	busy := dialWire(t, s.Addr())
	start := time.Now()
	cuts := []int{1, 4, 20, len(whole) - 1}
	for _, cut := range cuts {
		w := dialWire(t, s.Addr())
		go func() { // a byte now and then
			for _, c := range whole[:cut] {
				if _, err := w.Write([]byte{c}); err != nil {
					return
				}
				time.Sleep(time.Millisecond)
			}
		}()
	}
	for range cuts {
		select {
		case <-ends:
		case <-time.After(patience):
			t.Fatal("a connection that stopped inside a frame is still open")
		}
		busy.send(ping(1)) // one that keeps moving lives on
		busy.answer()
	}
	if took := time.Since(start); took < o.FrameTimeout/2 {
		t.Errorf("closed after %v already", took)
	}
	alive(t, s)
}

func TestIdle(t *testing.T) {
	ends := make(chan error, 1)
	s := serve(t, Options{IdleTimeout: 50 * time.Millisecond, Sweep: 5 * time.Millisecond}, funcs{closed: func(c *Conn) { ends <- c.Err() }})
	start := time.Now()
	w := dialWire(t, s.Addr())
	w.closed()
	if err := <-ends; !errors.Is(err, ErrIdle) {
		t.Errorf("ended with %v, want ErrIdle", err)
	}
	if took := time.Since(start); took < 50*time.Millisecond {
		t.Errorf("closed after %v, before its time", took)
	}
}

// TestManyHalfFrames has 2,000 connections that stop inside a frame after its
// head declared 16 MiB. They must cost little, and others must not notice.
func TestManyHalfFrames(t *testing.T) {
	if testing.Short() {
		t.Skip("opens 4,000 sockets")
	}
	const n = 2000
	if descriptorLimit() < 2*n+fdReserve+100 {
		t.Skipf("the limit of open files is %d", descriptorLimit())
	}
	s := serve(t, Options{FrameTimeout: -1, AcceptRate: -1, MaxInbound: 32 << 20}, echo)
	before := heap()
	head := lengths(16<<20-4, header(0, nil)[4:])
	conns := make([]net.Conn, n)
	defer func() {
		for _, nc := range conns {
			if nc != nil {
				nc.Close()
			}
		}
	}()
	for i := range conns {
		nc, err := net.Dial("tcp", s.Addr())
		if err != nil {
			t.Fatal(err)
		}
		conns[i] = nc
		more := make([]byte, []int{0, 100, 3000, 9000}[i%4])
		if _, err := nc.Write(append(head[:len(head):len(head)], more...)); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "all are connected", func() bool { return s.Conns() == n })
	for range 20 {
		alive(t, s)
	}
	big := dialWire(t, s.Addr())
	big.send(frame(0, 1, 9, 0, make([]byte, 3<<20)))
	if a := big.answer(); len(a.Body) != 3<<20 {
		t.Errorf("a large request beside them is answered with %d bytes", len(a.Body))
	}
	used := s.hub.inbound.used.Load()
	if used > 32<<20 {
		t.Errorf("%d bytes of read buffers are charged, the limit is %d", used, 32<<20)
	}
	if grown := heap() - before; grown > 150<<20 {
		t.Errorf("the heap has grown by %d MiB", grown>>20)
	} else {
		t.Logf("%d connections: heap %d KiB each, %d KiB charged", n, grown/n>>10, used>>10)
	}
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestInboundMemory has two frames that together need more than there is: the
// second waits until the first is done with, or until its connection is closed.
func TestInboundMemory(t *testing.T) {
	h := newHub(context.Background(), Options{MaxInbound: 160 << 10}, nil)
	defer h.group.Stop()
	const size = 90 << 10
	begin := func() *inbuf {
		in := new(inbuf)
		in.ready(h)
		in.got(copy(in.room(), lengths(size, nil)))
		if f, err := in.next(16 << 20); f != nil || err != nil {
			t.Fatalf("a frame after its length: %d bytes, %v", len(f), err)
		}
		return in
	}
	feed := func(in *inbuf, done chan struct{}) bool {
		for in.left() < 4+size {
			if !in.prepare(h, done) {
				return false
			}
			in.ready(h)
			in.got(min(len(in.room()), 4+size-in.left()))
		}
		f, err := in.next(16 << 20)
		return err == nil && len(f) == size
	}
	never := make(chan struct{})
	first := begin()
	if !feed(first, never) {
		t.Fatal("the first frame did not arrive")
	}
	if used := h.inbound.used.Load(); used < size || used > h.inbound.max {
		t.Fatalf("charged are %d bytes, the limit is %d", used, h.inbound.max)
	}
	gone := make(chan struct{})
	close(gone)
	second := begin()
	if feed(second, gone) {
		t.Error("there was memory for a second frame")
	}
	second.drop(h)
	third := begin()
	arrived := make(chan bool, 1)
	go func() { arrived <- feed(third, never) }()
	first.drop(h)
	if !<-arrived {
		t.Error("memory was given back and the third frame did not get it")
	}
	third.drop(h)
	if used := h.inbound.used.Load(); used != 0 {
		t.Errorf("%d bytes are charged to nobody", used)
	}
}

// A connection that was closed counts once, however long its reader takes to end.
func TestOverdueCountsOnce(t *testing.T) {
	m, release := NewMetrics(nil), make(chan struct{})
	o := Options{IdleTimeout: 20 * time.Millisecond, Sweep: 5 * time.Millisecond, Metrics: m}
	s := serve(t, o, funcs{request: func(*Turn, *Call) { <-release }})
	defer close(release)
	dialWire(t, s.Addr()).send(ping(1))
	idle := m.Refusal("idle")
	eventually(t, "the connection is idle for too long", func() bool { return idle.Load() > 0 })
	from := s.hub.now()
	eventually(t, "it is looked at again", func() bool { return s.hub.now() > from+10*int64(o.Sweep) })
	if n := idle.Load(); n != 1 {
		t.Errorf("counted %d times", n)
	}
}

// Why a stranger's connection was closed is in the log, and not as often as the
// stranger likes.
func TestBrokenRulesAreTold(t *testing.T) {
	core, logs := observer.New(zap.InfoLevel)
	s := serve(t, Options{Log: zap.New(core)}, echo)
	w := dialWire(t, s.Addr())
	w.send(ping(1))
	w.answer()
	w.Close()
	began := time.Now()
	for range 100 {
		w := dialWire(t, s.Addr())
		w.send([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"))
		w.closed()
	}
	eventually(t, "the server has forgotten all", func() bool { return s.Conns() == 0 })
	if n, took := logs.Len(), time.Since(began); n == 0 || n > 1+int(took/time.Second) {
		t.Errorf("%d lines for a hundred connections in %v", n, took)
	}
	for _, e := range logs.All() {
		if f := e.ContextMap(); e.Message != "a peer broke a rule of the protocol" || f["peer"] == "" || !strings.Contains(fmt.Sprint(f["error"]), "malformed frame") {
			t.Errorf("%s %v", e.Message, f)
		}
	}
	alive(t, s)
}

func TestConnectionLimits(t *testing.T) {
	t.Run("in all", func(t *testing.T) {
		s := serve(t, Options{MaxConns: 3}, echo)
		var some []*wire
		for range 3 {
			w := dialWire(t, s.Addr())
			w.send(ping(1))
			w.answer()
			some = append(some, w)
		}
		dialWire(t, s.Addr()).closed()
		some[0].Close()
		eventually(t, "one has left", func() bool { return s.Conns() == 2 })
		alive(t, s)
	})
	t.Run("from one address", func(t *testing.T) {
		m := newMemory()
		s := serve(t, Options{Listener: m, MaxConnsPerIP: 2}, echo)
		from := func(ip string) net.Conn {
			nc, err := m.dialFrom(t.Context(), ip)
			if err != nil {
				t.Fatal(err)
			}
			nc.SetDeadline(time.Now().Add(patience))
			return nc
		}
		a, b := from("198.51.100.1"), from("198.51.100.1")
		defer a.Close()
		defer b.Close()
		third := from("198.51.100.1")
		if _, err := third.Read(make([]byte, 1)); err == nil {
			t.Error("a third connection from one address is served")
		}
		other := from("198.51.100.2")
		defer other.Close()
		eventually(t, "the other address is in", func() bool { return s.Conns() == 3 })
		if got := s.hub.o.Metrics.Refusal("connections-per-address").Load(); got != 1 {
			t.Errorf("%d refusals counted, want 1", got)
		}
		a.Close()
		eventually(t, "one has left", func() bool { return s.Conns() == 2 })
		again := from("198.51.100.1")
		defer again.Close()
		eventually(t, "there is room again", func() bool { return s.Conns() == 3 })
	})
	t.Run("a second", func(t *testing.T) {
		m := newMemory()
		const rate = 20
		s := serve(t, Options{Listener: m, AcceptRate: rate}, echo)
		start, n := time.Now(), 0
		for s.hub.o.Metrics.Refusal("accept-rate").Load() < 3 {
			nc, err := m.dialFrom(t.Context(), "198.51.100.1")
			if err != nil {
				t.Fatal(err)
			}
			nc.Close()
			n++
			if most := rate + rate*time.Since(start).Seconds() + 2; float64(n) > most {
				t.Fatalf("%d connections were accepted in %v, the rate is %d a second", n, time.Since(start), rate)
			}
		}
	})
}

// TestAcceptErrors has a listener that fails now and then: the server goes on.
func TestAcceptErrors(t *testing.T) {
	m := newMemory()
	f := &flaky{memory: m, fail: 3}
	s := serve(t, Options{Listener: f}, echo)
	d := NewDialer(context.Background(), Options{Dialer: m.dial})
	defer d.Stop(context.Background())
	c, err := d.Dial(t.Context(), "x:1", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Call(t.Context(), protocol.NewRequest(1, nil, nil)); err != nil {
		t.Error(err)
	}
	_ = s
}

type flaky struct {
	*memory
	fail int
}

func (f *flaky) Accept() (net.Conn, error) {
	if f.fail > 0 {
		f.fail--
		return nil, errors.New("too many open files")
	}
	return f.memory.Accept()
}
