package remoting

import (
	"errors"
	"testing"
	"time"

	"gomq/internal/protocol"
)

// told is how a call ended.
type told struct {
	r   *protocol.Command
	err error
}

// asking asks and returns where its end is told.
func asking(c *Conn, code int32, timeout time.Duration) chan told {
	ch := make(chan told, 2) // room for a second telling, which is wrong
	c.Ask(protocol.NewRequest(code, nil, []byte("body")), timeout, func(r *protocol.Command, err error) { ch <- told{r, err} })
	return ch
}

func end(t *testing.T, ch chan told) told {
	t.Helper()
	select {
	case got := <-ch:
		return got
	case <-time.After(patience):
		t.Fatal("nobody was told how the call ended")
		return told{}
	}
}

// A call by Ask is told its answer once: the peer's, that none came in time, that
// there are too many, or why the connection closed; what one of them does to
// itself does not touch the others.
func TestAsk(t *testing.T) {
	s := serve(t, Options{}, funcs{request: func(turn *Turn, c *Call) {
		if c.Req.Code == 1 {
			c.Later() // never answered
			return
		}
		answerEcho(turn, c)
	}})
	c := dial(t, s, Options{MaxCalls: 2, Sweep: 2 * time.Millisecond}, nil)
	if got := end(t, asking(c, 7, time.Minute)); got.err != nil || got.r.Code != 7 || string(got.r.Body) != "body" {
		t.Errorf("answered %+v", got)
	}
	if got := end(t, asking(c, 1, 10*time.Millisecond)); !errors.Is(got.err, ErrNoAnswer) || got.r != nil {
		t.Errorf("without an answer %+v", got)
	}
	if n := c.asked.Load(); n != 0 || len(c.wait) != 0 {
		t.Errorf("%d calls wait, %d of them asked", len(c.wait), n)
	}
	first, second := asking(c, 1, time.Minute), asking(c, 1, time.Minute)
	if got := end(t, asking(c, 7, time.Minute)); !errors.Is(got.err, ErrTooManyCalls) {
		t.Errorf("a third call %+v", got)
	}
	mine := errors.New("my reason")
	c.Close(mine)
	for _, ch := range []chan told{first, second, asking(c, 7, time.Minute)} {
		if got := end(t, ch); !errors.Is(got.err, mine) || len(ch) != 0 {
			t.Errorf("after the close %+v, %d times more", got, len(ch))
		}
	}
}

// A panic of who is told an answer is counted, and the connection goes on.
func TestAskPanics(t *testing.T) {
	s := serve(t, Options{}, echo)
	c := dial(t, s, Options{}, nil)
	c.Ask(protocol.NewRequest(7, nil, nil), time.Minute, func(*protocol.Command, error) { panic("test") })
	if got := end(t, asking(c, 8, time.Minute)); got.err != nil || got.r.Code != 8 {
		t.Errorf("after a panic %+v", got)
	}
	if n := c.hub.o.Metrics.panics.Load(); n != 1 {
		t.Errorf("%d panics counted", n)
	}
}
