package delay

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"gomq/internal/chance"
)

// world is a queue and a machine with two clocks, of which one may be set.
type world struct {
	*testing.T
	seed   uint64
	passed time.Duration
	set    time.Duration // what the wall clock is ahead of passed
	last   int64         // store times never go back

	entries []entry
	min     int64
	fail    bool // of the next Deliver
	most    int64
}

type entry struct {
	code      int64
	came      time.Duration
	run       int // of the process in which it came
	delivered []time.Duration
}

func (w *world) clock() Clock {
	return Clock{Stamp: w.stamp, Passed: func() time.Duration { return w.passed }}
}

func (w *world) stamp() int64 {
	return max(w.last, (w.passed + w.set).Milliseconds())
}

func (w *world) add(delay time.Duration, run int) {
	w.last = w.stamp()
	w.entries = append(w.entries, entry{code: w.last + delay.Milliseconds(), came: w.passed, run: run})
}

func (w *world) Bounds() (int64, int64) { return w.min, int64(len(w.entries)) }

func (w *world) Codes(from int64, dst []int64) (int, error) {
	n := 0
	for i := from; i < int64(len(w.entries)) && n < len(dst); i++ {
		dst[n] = w.entries[i].code
		n++
	}
	return n, nil
}

var errDisk = errors.New("no disk")

func (w *world) Deliver(_ context.Context, from, to int64) (int64, error) {
	to = min(to, from+w.most)
	if w.fail {
		w.fail = false
		to = from + (to-from)/2
		w.deliver(from, to)
		return to, errDisk
	}
	w.deliver(from, to)
	return to, nil
}

func (w *world) deliver(from, to int64) {
	for i := from; i < to; i++ {
		w.entries[i].delivered = append(w.entries[i].delivered, w.passed)
	}
}

// drain takes steps until the line waits, and returns its wait.
func (w *world) drain(l *Line) time.Duration {
	for range 100_000 {
		wait, err := l.Step(context.Background(), w)
		if err != nil && !errors.Is(err, errDisk) {
			w.Fatal(err)
		}
		if wait > 0 {
			return wait
		}
	}
	w.Fatalf("seed %d: the line does not come to rest", w.seed)
	return 0
}

// Random arrivals, wall clocks that are set by up to ten years, drift, failures and
// kills with an old progress. Every message is delivered; in the run in which it
// came not before its delay has passed and hardly later; after a restart at most a
// delay later, whatever the clock says; twice only what the saved progress did not
// know of (I12).
func TestLineAgainstClocks(t *testing.T) {
	for seed := range chance.Seeds(t, rand.Uint64(), 60) {
		r := rand.New(rand.NewPCG(seed, 1))
		delay := []time.Duration{time.Second, 10 * time.Second, 2 * time.Hour}[r.IntN(3)]
		w := &world{T: t, seed: seed, set: 56 * 365 * 24 * time.Hour, most: int64(1 + r.IntN(2000))}
		jump := func() time.Duration {
			return time.Duration(r.Int64N(int64(10*365*24*time.Hour))) - 5*365*24*time.Hour
		}
		l := NewLine(delay, 0, 0, w.clock())
		run, saved, started := 0, int64(0), time.Duration(0)
		starts := []time.Duration{0}
		for range 400 {
			switch r.IntN(40) {
			case 0:
				w.set += jump()
			case 1:
				w.set += time.Duration(r.Int64N(int64(20 * time.Millisecond)))
			case 2:
				w.fail = true
			case 3:
				saved = l.Next()
			case 4:
				// Killed; the clock may be another one afterwards.
				if r.IntN(2) == 0 {
					w.set += jump()
				}
				run++
				started = w.passed
				starts = append(starts, started)
				l = NewLine(delay, saved, int64(len(w.entries)), w.clock())
			}
			for range r.IntN(4) {
				w.add(delay, run)
			}
			if r.IntN(2) == 0 {
				l.Arrived(int64(len(w.entries)))
			}
			wait := min(w.drain(l), Look, time.Duration(r.Int64N(int64(delay/20)))+time.Millisecond)
			w.passed += wait
		}
		// Time passes until all of it has to be there.
		for end := w.passed + delay + 10*time.Second; w.passed < end; w.passed += min(w.drain(l), max(Look, delay/100)) {
		}
		checkLine(w, delay, starts)
	}
}

func checkLine(w *world, delay time.Duration, starts []time.Duration) {
	step := max(Look, delay/20) // between two looks of the test, and then some
	for i, e := range w.entries {
		if len(e.delivered) == 0 {
			w.Fatalf("seed %d: message %d was lost", w.seed, i)
		}
		first := e.delivered[0]
		end := time.Duration(1 << 62) // of the run in which it came
		if e.run+1 < len(starts) {
			end = starts[e.run+1]
		}
		if first <= end && first < e.came+delay && first < end {
			w.Fatalf("seed %d: message %d came at %s and was delivered at %s, its level waits %s", w.seed, i, e.came, first, delay)
		}
		begin := e.came
		for _, s := range starts[e.run+1:] {
			if s < first {
				begin = s
			}
		}
		if late := first - begin - delay; late > step+grain+time.Second {
			w.Fatalf("seed %d: message %d is %s late", w.seed, i, late)
		}
	}
}

// Without anything unusual a message is hardly late, and the line says exactly how
// long it has nothing to do.
func TestLineWaits(t *testing.T) {
	w := &world{T: t, set: 56 * 365 * 24 * time.Hour, most: 1000}
	l := NewLine(10*time.Second, 0, 0, w.clock())
	if wait := w.drain(l); wait != Forever {
		t.Errorf("an empty queue makes it wait %s", wait)
	}
	w.passed += time.Hour
	w.add(10*time.Second, 0)
	l.Arrived(1)
	if wait := w.drain(l); wait != Look {
		t.Errorf("far from due it waits %s", wait)
	}
	w.passed += 10*time.Second - 100*time.Millisecond
	wait := w.drain(l)
	if wait <= 0 || wait > 100*time.Millisecond+2*slack {
		t.Errorf("close to due it waits %s", wait)
	}
	w.passed += wait
	if w.drain(l); len(w.entries[0].delivered) != 1 || l.Next() != 1 {
		t.Error("it was not delivered when it was due")
	}
}

// A wall clock that went back by a year while messages wait makes nobody wait for a
// year, and one that went forward delivers nothing too early; nor does a store that
// still stamps the time of before.
func TestLineClockSteps(t *testing.T) {
	for _, by := range []time.Duration{-365 * 24 * time.Hour, 365 * 24 * time.Hour} {
		w := &world{T: t, set: 56 * 365 * 24 * time.Hour, most: 1000}
		l := NewLine(time.Minute, 0, 0, w.clock())
		for i := range 120 {
			if i == 30 {
				w.set += by
			}
			w.add(time.Minute, 0)
			l.Arrived(int64(len(w.entries)))
			w.drain(l)
			if want := max(0, i-60); l.Next() < int64(want)-1 || l.Next() > int64(want)+1 {
				t.Fatalf("clock set by %s: after %d s %d messages are delivered", by, i, l.Next())
			}
			w.passed += time.Second
		}
	}
}

// A line that starts behind a clock that was set: nothing waits longer than its
// level.
func TestLineStartsWithAnotherClock(t *testing.T) {
	for _, by := range []time.Duration{-10 * 365 * 24 * time.Hour, 10 * 365 * 24 * time.Hour} {
		w := &world{T: t, set: 50 * 365 * 24 * time.Hour, most: 1000}
		w.add(time.Minute, 0)
		w.last = 0 // as if the log's last record were not this one
		w.set += by
		l := NewLine(time.Minute, 0, 1, w.clock())
		w.drain(l)
		if early := l.Next() == 1; early != (by > 0) {
			t.Errorf("clock set by %s: delivered at once: %v", by, early)
		}
		w.passed += time.Minute
		if w.drain(l); l.Next() != 1 {
			t.Errorf("clock set by %s: not delivered after its level's delay", by)
		}
	}
}

// The progress that was saved may lie outside of what the queue has.
func TestLineCorrectsItsPlace(t *testing.T) {
	w := &world{T: t, set: 56 * 365 * 24 * time.Hour, most: 1000}
	for range 10 {
		w.add(time.Second, 0)
	}
	w.passed += time.Minute
	w.min = 4
	l := NewLine(time.Second, 0, 10, w.clock())
	if w.drain(l); len(w.entries[3].delivered) != 0 || len(w.entries[4].delivered) != 1 || l.Next() != 10 {
		t.Errorf("below the first message: %d", l.Next())
	}
	l = NewLine(time.Second, 99, 10, w.clock())
	if wait := w.drain(l); wait != Forever || l.Next() != 10 {
		t.Errorf("behind the last message: %d, waits %s", l.Next(), wait)
	}
}

// A store that takes nothing is asked again after a pause that grows and is
// forgotten when it works again; what was stored before the error is not repeated.
func TestLineAfterErrors(t *testing.T) {
	w := &world{T: t, set: 56 * 365 * 24 * time.Hour, most: 1000}
	for range 8 {
		w.add(time.Second, 0)
	}
	w.passed += time.Minute
	l := NewLine(time.Second, 0, 8, w.clock())
	var before time.Duration
	for i, left := range []int64{4, 6, 7} {
		w.fail = true
		wait, err := l.Step(context.Background(), w)
		if !errors.Is(err, errDisk) || wait <= before || wait > pauseMost || l.Next() != left {
			t.Errorf("error %d: waits %s, is at %d, %v", i, wait, l.Next(), err)
		}
		before = wait
	}
	if w.drain(l); l.Next() != 8 {
		t.Errorf("it ends at %d", l.Next())
	}
	for i, e := range w.entries {
		if len(e.delivered) != 1 {
			t.Errorf("message %d was delivered %d times", i, len(e.delivered))
		}
	}
}

// What a line remembers of a clock that is set all the time is bounded.
func TestLineIsBounded(t *testing.T) {
	w := &world{T: t, set: 56 * 365 * 24 * time.Hour, most: 1000}
	l := NewLine(24*time.Hour, 0, 0, w.clock())
	for i := range 3 * maxSpans {
		w.set += time.Duration(i%3-1) * time.Hour
		w.add(24*time.Hour, 0)
		l.Arrived(int64(len(w.entries)))
		w.passed += time.Second
		if len(l.spans) > maxSpans {
			t.Fatalf("%d spans", len(l.spans))
		}
	}
}
