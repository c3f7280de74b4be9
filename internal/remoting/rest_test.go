package remoting

import "testing"

// A peer that is far ahead lets its reader rest before every second read, one that
// waits for its answers hardly ever, and either may become the other.
func TestRests(t *testing.T) {
	var r rests
	// play lets n Turns pass: a peer that is ahead has six frames ready at any time;
	// the other one has two, and nothing in the Turn after the one that a rest was for.
	play := func(n int, ahead bool) (rested int) {
		for range n {
			dry := !ahead && r.since == 2
			frames := 2
			if ahead {
				frames = 6
			}
			if r.next(dry, frames) {
				rested++
			}
		}
		return rested
	}
	if n := play(leastBusy-1, true); n != 0 {
		t.Errorf("%d rests before the peer is known to be ahead", n)
	}
	if n := play(1000, true); n != 500 {
		t.Errorf("%d rests in 1000 Turns of a peer that is ahead", n)
	}
	if n := play(100_000, false); n < 5 || n > 100_000/mostBusy+10 {
		t.Errorf("%d rests in 100,000 Turns of a peer that waits for its answers", n)
	}
	if n := play(5*mostBusy, true); n < mostBusy {
		t.Errorf("%d rests in %d Turns of a peer that is ahead again", n, 5*mostBusy)
	}
	r = rests{}
	for i := range 10_000 {
		if r.next(i%leastBusy == 0, 40) {
			t.Fatal("it rests though it had to wait for the peer a moment ago")
		}
	}
}
