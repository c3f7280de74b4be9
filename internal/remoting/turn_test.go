package remoting

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gomq/internal/chance"

	"gomq/internal/protocol"
)

// segmentsIn is how many segments with data a socket has received. On loopback
// each write of the peer that fits is one.
func segmentsIn(t *testing.T, nc net.Conn) int {
	t.Helper()
	raw, err := nc.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	cerr := raw.Control(func(fd uintptr) {
		var info *unix.TCPInfo
		if info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			n = int(info.Data_segs_in)
		}
	})
	if err = errors.Join(err, cerr); err != nil {
		t.Skip("the kernel does not count segments: ", err)
	}
	return n
}

func TestOneReadOneWrite(t *testing.T) {
	turns := 0
	s := serve(t, Options{}, funcs{request: answerEcho, end: func(*Turn) { turns++ }})
	w := dialWire(t, s.Addr())
	var all []byte
	const n = 40
	for i := range int32(n) {
		all = append(all, frame(protocol.Codec(i%2), 100+i, i, 0, fmt.Appendf(nil, "body %d", i))...)
	}
	w.send(all)
	for i := range int32(n) {
		a := w.answer()
		if a.Opaque != i || a.Code != 100+i || string(a.Body) != fmt.Sprintf("body %d", i) || !a.IsResponse() {
			t.Fatalf("answer %d: code %d, opaque %d, body %q", i, a.Code, a.Opaque, a.Body)
		}
		if a.Codec != protocol.Codec(i%2) {
			t.Errorf("answer %d is encoded as %d, its request as %d", i, a.Codec, i%2)
		}
	}
	if got := segmentsIn(t, w.Conn); got != 1 {
		t.Errorf("%d requests of one read were answered in %d writes, want 1", n, got)
	}
	w.Close()
	s.Stop(context.Background())
	if turns != 1 {
		t.Errorf("%d requests of one write were %d turns", n, turns)
	}
}

func TestManyRequestsAreSeveralTurns(t *testing.T) {
	most := 0
	s := serve(t, Options{MaxTurn: 10}, funcs{request: answerEcho, end: func(t *Turn) { most = max(most, t.Len()) }})
	w := dialWire(t, s.Addr())
	var all []byte
	for i := range int32(95) {
		all = append(all, ping(i)...)
	}
	w.send(all)
	for i := range int32(95) {
		if a := w.answer(); a.Opaque != i {
			t.Fatalf("answer %d has opaque %d", i, a.Opaque)
		}
	}
	w.Close()
	s.Stop(context.Background())
	if most > 10 {
		t.Errorf("a turn of %d requests, MaxTurn is 10", most)
	}
}

// TestMuchInOneTurn asks for 32 MiB in one read: it is not gathered in memory
// first.
func TestMuchInOneTurn(t *testing.T) {
	most := 0
	body := make([]byte, 512<<10)
	s := serve(t, Options{}, funcs{
		request: func(_ *Turn, c *Call) { c.Answer(Response{Body: body}) },
		end:     func(t *Turn) { most = max(most, len(t.out.b)) },
	})
	w := dialWire(t, s.Addr())
	var all []byte
	const n = 64
	for i := range int32(n) {
		all = append(all, ping(i)...)
	}
	w.send(all)
	for i := range int32(n) {
		if a := w.answer(); a.Opaque != i || len(a.Body) != len(body) {
			t.Fatalf("answer %d: opaque %d, %d bytes", i, a.Opaque, len(a.Body))
		}
	}
	w.Close()
	s.Stop(context.Background())
	if most > softOutbound+len(body)+headRoom {
		t.Errorf("a turn had %d bytes of answers", most)
	}
	if n := s.hub.waiting.Load(); n != 0 {
		t.Errorf("%d bytes are counted as waiting after the end", n)
	}
}

func TestOnewayIsNotAnswered(t *testing.T) {
	s := serve(t, Options{}, funcs{request: func(turn *Turn, c *Call) {
		switch c.Req.Code {
		case 1:
			c.Later().Answer(Response{})
		case 2:
			c.Detach().Answer(Response{})
		case 3: // left alone, which is fine for one-way
		case 4:
			if err := c.AnswerFill(Response{}, fill12{}); err != nil {
				t.Error(err)
			}
		case 5:
			if err := c.Later().AnswerFill(Response{}, fill12{}); err != nil {
				t.Error(err)
			}
		default:
			answerEcho(turn, c)
		}
	}})
	w := dialWire(t, s.Addr())
	for i := range int32(6) {
		w.send(frame(protocol.JSON, i, 10+i, protocol.FlagOneway, nil))
	}
	w.send(ping(99))
	if a := w.answer(); a.Opaque != 99 {
		t.Errorf("the first answer is for %d, want 99: a one-way request was answered", a.Opaque)
	}
	if n := lateOf(s); n != 0 {
		t.Errorf("%d answers are still owed", n)
	}
}

// fill12 is a body of 12 bytes.
type fill12 struct{}

func (fill12) AppendTo(dst []byte) ([]byte, error) { return append(dst, "twelve bytes"...), nil }

type fillFails struct{}

func (fillFails) AppendTo(dst []byte) ([]byte, error) {
	return append(dst, "half"...), errors.New("no more")
}

func lateOf(s *Server) (n int64) {
	for _, c := range s.hub.all() {
		n += c.out.late.Load()
	}
	return n
}

func TestAnswers(t *testing.T) {
	s := serve(t, Options{}, funcs{request: func(_ *Turn, c *Call) {
		switch c.Req.Code {
		case 1: // only the first answer counts
			c.Answer(Response{Code: 1})
			c.Answer(Response{Code: 2})
		case 2:
			d := c.Detach()
			d.Answer(Response{Code: 1})
			d.Answer(Response{Code: 2})
			c.Answer(Response{Code: 3})
		case 3:
			if err := c.AnswerFill(Response{Code: 1}, fillFails{}); err == nil {
				t.Error("a filler's error was swallowed")
			}
			c.Answer(Response{Code: 7, Remark: "instead"})
		case 4:
			l := c.Later()
			if err := l.AnswerFill(Response{Code: 1}, fillFails{}); err == nil {
				t.Error("a filler's error was swallowed")
			}
			l.Answer(Response{Code: 7, Remark: "instead"})
		case 5:
			c.AnswerFill(Response{Code: 5}, fill12{})
		case 6:
			c.Later().AnswerFill(Response{Code: 5}, fill12{})
		case 7: // nothing
		case 8:
			d := c.Detach()
			if d.AnswerFill(Response{Code: 1}, fillFails{}) == nil {
				t.Error("a filler's error was swallowed")
			}
			d.Answer(Response{Code: 7, Remark: "instead"})
		}
	}})
	w := dialWire(t, s.Addr())
	for code, want := range map[int32]string{1: "1 ", 2: "1 ", 3: "7 instead", 4: "7 instead", 5: "5  twelve bytes", 6: "5  twelve bytes",
		7: "1 the server gave no answer to this request, see its log", 8: "7 instead"} {
		w.send(frame(protocol.JSON, code, 3, 0, nil))
		a := w.answer()
		got := strings.TrimSuffix(fmt.Sprintf("%d %s %s", a.Code, a.Remark, a.Body), " ")
		if got = strings.TrimRight(got, " "); got != strings.TrimRight(want, " ") || a.Opaque != 3 {
			t.Errorf("request %d is answered %q, want %q", code, got, want)
		}
		w.send(ping(4)) // if anything comes twice, it comes before this one's answer
		if a = w.answer(); a.Opaque != 4 {
			t.Fatalf("request %d was answered twice", code)
		}
	}
}

func TestPanics(t *testing.T) {
	ends := make(chan error, 10)
	s := serve(t, Options{}, funcs{
		request: func(turn *Turn, c *Call) {
			switch c.Req.Code {
			case 1:
				panic("in the request")
			case 2:
				c.Answer(Response{Header: badHeader{}})
			case 3:
				c.Later().Answer(Response{Header: badHeader{}})
			case 4:
				c.Answer(Response{Code: 9})
				panic("after the answer")
			case 5:
				c.Answer(Response{Code: 9})
				c.Later()
			case 6:
				turn.User = "explode"
			default:
				answerEcho(turn, c)
			}
		},
		end: func(turn *Turn) {
			if turn.User == "explode" {
				panic("at the end")
			}
		},
		closed: func(c *Conn) {
			ends <- c.Err()
			panic("even here")
		},
	})
	w := dialWire(t, s.Addr())
	for code, want := range map[int32]int32{1: 1, 2: 1, 3: 1, 4: 9, 5: 9} {
		var both []byte
		both = append(both, frame(protocol.JSON, 0, 1, 0, []byte("before"))...)
		both = append(both, frame(protocol.JSON, code, 2, 0, nil)...)
		both = append(both, frame(protocol.JSON, 0, 3, 0, []byte("after"))...)
		w.send(both)
		got := map[int32]*protocol.Command{}
		for range 3 {
			a := w.answer()
			got[a.Opaque] = a
		}
		if string(got[1].Body) != "before" || string(got[3].Body) != "after" {
			t.Errorf("request %d: its neighbours are answered %+v, %+v", code, got[1], got[3])
		}
		if got[2].Code != want {
			t.Errorf("request %d is answered code %d, want %d", code, got[2].Code, want)
		}
		if want == 1 && got[2].Remark != failedRemark {
			t.Errorf("request %d: remark %q", code, got[2].Remark)
		}
	}
	w.send(frame(protocol.JSON, 6, 5, 0, nil))
	if a := w.answer(); a.Code != protocol.SystemError || a.Opaque != 5 {
		t.Errorf("a panic at the end of a turn: %+v", a)
	}
	w.closed()
	if err := <-ends; !errors.Is(err, ErrPanic) {
		t.Errorf("the connection ended with %v, want ErrPanic", err)
	}
	alive(t, s)
	if n := s.hub.o.Metrics.panics.Load(); n < 5 {
		t.Errorf("%d panics counted", n)
	}
}

type badHeader struct{}

func (badHeader) Fields(*protocol.Fields) { panic("a header that cannot be encoded") }

// TestLateAnswers answers requests at once, late and detached, small and large,
// from many goroutines, to a peer that reads slowly and through a small window,
// so that writes are torn everywhere. Every request must be answered exactly
// once, with its own bytes.
func TestLateAnswers(t *testing.T) {
	seed := chance.Seed(t)
	type job struct {
		call *Call
		late Late
		code int32
		body []byte
	}
	jobs := make(chan job, 10000)
	var workers sync.WaitGroup
	for range 4 {
		workers.Add(1)
		go func() {
			defer workers.Done()
			for j := range jobs {
				if j.call != nil {
					j.call.Answer(Response{Code: j.code, Body: j.body})
				} else if j.code%3 == 0 {
					j.late.AnswerFill(Response{Code: j.code}, fillBytes(j.body))
				} else {
					j.late.Answer(Response{Code: j.code, Body: j.body})
				}
			}
		}()
	}
	s := serve(t, Options{SendBuffer: 16 << 10}, funcs{request: func(_ *Turn, c *Call) {
		body := expand(c.Req.Opaque)
		switch c.Req.Code {
		case 1:
			c.Answer(Response{Code: c.Req.Opaque, Body: body})
		case 2:
			jobs <- job{late: c.Later(), code: c.Req.Opaque, body: body}
		case 3:
			d := c.Detach()
			jobs <- job{call: d, code: c.Req.Opaque, body: body}
		}
	}})
	const conns, n = 3, 700
	var wg sync.WaitGroup
	for k := range conns {
		w := dialWire(t, s.Addr())
		w.Conn.(*net.TCPConn).SetReadBuffer(32 << 10)
		rnd := rand.New(rand.NewPCG(seed, uint64(k)))
		wg.Add(2)
		go func() { // writes
			defer wg.Done()
			for i := 0; i < n; {
				var some []byte
				for range 1 + rnd.IntN(40) {
					if i < n {
						some = append(some, frame(protocol.Codec(i%2), 1+rnd.Int32N(3), int32(i), 0, nil)...)
						i++
					}
				}
				if _, err := w.Write(some); err != nil {
					t.Error(err)
					return
				}
			}
		}()
		go func() { // reads
			defer wg.Done()
			seen := make([]bool, n)
			for i := range n {
				a, err := w.next()
				if err != nil {
					t.Errorf("after %d answers: %v", i, err)
					return
				}
				if a.Opaque < 0 || a.Opaque >= n || seen[a.Opaque] || a.Code != a.Opaque || !bytes.Equal(a.Body, expand(a.Opaque)) {
					t.Errorf("answer %d: opaque %d, code %d, %d bytes", i, a.Opaque, a.Code, len(a.Body))
					return
				}
				seen[a.Opaque] = true
				if i%97 == 0 {
					time.Sleep(time.Millisecond)
				}
			}
		}()
	}
	wg.Wait()
	if n := lateOf(s); n != 0 {
		t.Errorf("%d answers are still owed", n)
	}
	s.Stop(t.Context())
	close(jobs)
	workers.Wait()
}

type fillBytes []byte

func (f fillBytes) AppendTo(dst []byte) ([]byte, error) { return append(dst, f...), nil }

// expand makes a body that tells its number: mostly short, now and then long.
func expand(n int32) []byte {
	size := 1 + int(n)%100
	if n%50 == 7 {
		size = 20_000 + int(n)
	}
	return bytes.Repeat([]byte{byte('a' + n%26)}, size)
}

func TestCallsBothWays(t *testing.T) {
	answers := make(chan error, 1)
	s := serve(t, Options{}, funcs{request: func(turn *Turn, c *Call) {
		if c.Req.Code != 1 {
			answerEcho(turn, c)
			return
		}
		late := c.Later()
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			r, err := c.Conn.Call(ctx, protocol.NewRequest(39, nil, []byte("check")))
			if err == nil && (r.Code != 39 || string(r.Body) != "CHECK") {
				err = fmt.Errorf("answered %d %q", r.Code, r.Body)
			}
			answers <- err
			late.Answer(Response{})
		}()
	}})
	client := dial(t, s, Options{}, funcs{request: func(_ *Turn, c *Call) {
		c.Answer(Response{Code: c.Req.Code, Body: bytes.ToUpper(c.Req.Body)})
	}})
	if _, err := client.Call(t.Context(), protocol.NewRequest(1, nil, nil)); err != nil {
		t.Fatal(err)
	}
	if err := <-answers; err != nil {
		t.Error("the server's call to the client:", err)
	}
	// Many at once, matched by opaque.
	var wg sync.WaitGroup
	for i := range int32(50) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			r, err := client.Call(t.Context(), protocol.NewRequest(1000+i, nil, fmt.Appendf(nil, "%d", i)))
			if err != nil || r.Code != 1000+i || string(r.Body) != fmt.Sprint(i) {
				t.Errorf("call %d: %+v, %v", i, r, err)
			}
		}()
	}
	wg.Wait()
}

func TestWithoutHandler(t *testing.T) {
	s := serve(t, Options{}, nil)
	w := dialWire(t, s.Addr())
	w.send(frame(protocol.JSON, 9999, 1, protocol.FlagOneway, nil))
	w.send(frame(protocol.JSON, 9999, 2, 0, nil))
	a := w.answer()
	if a.Opaque != 2 || a.Code != protocol.RequestCodeNotSupported || a.Remark != " request type 9999 not supported" {
		t.Errorf("answered %d: code %d, %q", a.Opaque, a.Code, a.Remark)
	}
}

func TestCallErrors(t *testing.T) {
	s := serve(t, Options{}, funcs{request: func(turn *Turn, c *Call) {
		if c.Req.Code == 1 {
			c.Later() // never answered
			return
		}
		answerEcho(turn, c)
	}})
	c := dial(t, s, Options{MaxCalls: 2}, nil)
	ctx, cancel := context.WithCancel(context.Background())
	errs := make(chan error, 2)
	for range 2 {
		go func() {
			_, err := c.Call(ctx, protocol.NewRequest(1, nil, nil))
			errs <- err
		}()
	}
	eventually(t, "two calls wait", func() bool {
		c.calls.Lock()
		defer c.calls.Unlock()
		return len(c.wait) == 2
	})
	if _, err := c.Call(ctx, protocol.NewRequest(0, nil, nil)); !errors.Is(err, ErrTooManyCalls) {
		t.Errorf("a third call: %v", err)
	}
	cancel()
	for range 2 {
		if err := <-errs; !errors.Is(err, context.Canceled) {
			t.Errorf("a cancelled call: %v", err)
		}
	}
	if _, err := c.Call(t.Context(), protocol.NewRequest(0, nil, nil)); err != nil {
		t.Errorf("after that: %v", err)
	}
	go func() {
		_, err := c.Call(context.Background(), protocol.NewRequest(1, nil, nil))
		errs <- err
	}()
	eventually(t, "the call waits", func() bool {
		c.calls.Lock()
		defer c.calls.Unlock()
		return len(c.wait) == 1
	})
	mine := errors.New("my reason")
	c.Close(mine)
	if err := <-errs; !errors.Is(err, ErrClosed) || !errors.Is(err, mine) {
		t.Errorf("a call whose connection was closed: %v", err)
	}
	if _, err := c.Call(t.Context(), protocol.NewRequest(0, nil, nil)); !errors.Is(err, mine) {
		t.Errorf("a call on a closed connection: %v", err)
	}
	if err := c.Notify(protocol.NewRequest(0, nil, nil)); !errors.Is(err, mine) {
		t.Errorf("a one-way request on a closed connection: %v", err)
	}
}

func TestTooManyInFlight(t *testing.T) {
	var held []Late
	s := serve(t, Options{MaxInFlight: 5}, funcs{request: func(_ *Turn, c *Call) {
		if c.Req.Code == 1 {
			held = append(held, c.Later())
			return
		}
		for _, l := range held {
			l.Answer(Response{})
		}
		held = nil
		c.Answer(Response{})
	}})
	w := dialWire(t, s.Addr())
	for i := range int32(7) {
		w.send(frame(protocol.JSON, 1, i, 0, nil))
	}
	for i := int32(5); i < 7; i++ {
		if a := w.answer(); a.Opaque != i || a.Code != protocol.SystemBusy || a.Remark != busyRemark {
			t.Errorf("request %d is answered %d %q", a.Opaque, a.Code, a.Remark)
		}
	}
	if got := s.hub.o.Metrics.Refusal("in-flight").Load(); got != 2 {
		t.Errorf("%d refusals counted, want 2", got)
	}
}

func TestInMemory(t *testing.T) {
	m := newMemory()
	s := serve(t, Options{Listener: m}, echo)
	d := NewDialer(context.Background(), Options{Dialer: m.dial})
	c, err := d.Dial(t.Context(), "anywhere:1", nil)
	if err != nil {
		t.Fatal(err)
	}
	if c.Remote().String() != "192.0.2.1:9876" {
		t.Errorf("remote %v", c.Remote())
	}
	var wg sync.WaitGroup
	for i := range int32(100) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			r, err := c.Call(t.Context(), protocol.NewRequest(i, nil, bytes.Repeat([]byte{'x'}, int(i)*1000)))
			if err != nil || r.Code != i || len(r.Body) != int(i)*1000 {
				t.Errorf("call %d: %v", i, err)
			}
		}()
	}
	wg.Wait()
	if err := d.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	eventually(t, "the server notices", func() bool { return s.Conns() == 0 })
	if _, err := d.Dial(t.Context(), "anywhere:1", nil); !errors.Is(err, ErrStopped) {
		t.Errorf("dialling after Stop: %v", err)
	}
}
