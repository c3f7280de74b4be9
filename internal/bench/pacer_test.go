package bench

import (
	"net"
	"testing"
	"time"
)

// written is a connection that notes what is written to it.
type written struct {
	net.Conn
	calls []string
}

func (c *written) Write(b []byte) (int, error) {
	c.calls = append(c.calls, string(b))
	return len(b), nil
}

// Requests go by turns over the connections, each with the time at which it was due,
// also when it had to wait for a slot; what is due together is one write.
func TestPacer(t *testing.T) {
	p := &pacer{start: time.Now(), gap: float64(time.Millisecond)}
	var conns [2]*written
	for i := range conns {
		conns[i] = &written{}
		w := &wire{o: &Options{}, c: conns[i], sentAt: make([]int64, 2)}
		l := &lane{w: w, r: &ring{b: []byte("ab"), at: []int{0, 1, 2}}, free: make(chan int, 2), next: i}
		l.free <- 0
		l.free <- 1
		p.lanes = append(p.lanes, l)
	}
	// wants sends what is due on a connection: which requests have gone out in its slots
	// by then, and whether one is late.
	wants := func(conn, due int, late bool, inSlots ...int) {
		t.Helper()
		l := p.lanes[conn]
		is, err := l.send(p, due)
		if err != nil || is != late {
			t.Fatalf("connection %d, %d due: late %v, %v", conn, due, is, err)
		}
		for slot, k := range inSlots {
			if got, want := l.w.sentAt[slot], p.start.UnixNano()+int64(k)*int64(time.Millisecond); got != want {
				t.Errorf("connection %d, slot %d: due %d ns after the start, want %d", conn, slot, got-p.start.UnixNano(), int64(k)*int64(time.Millisecond))
			}
		}
	}
	wants(0, 5, true, 0, 2) // of 0 to 4 it has 0, 2 and 4
	wants(1, 5, false, 1, 3)
	wants(0, 5, true, 0, 2)
	p.lanes[0].free <- 1
	wants(0, 9, true, 0, 4) // 6 and 8 have to wait
	p.lanes[1].free <- 0
	wants(1, 5, false, 1, 3) // 5 is not due
	wants(1, 6, false, 5, 3)
	for i, want := range [][]string{{"ab", "b"}, {"ab", "a"}} {
		if got := conns[i].calls; len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
			t.Errorf("connection %d: written %q, want %q", i, got, want)
		}
	}
}
