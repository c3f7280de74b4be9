package ha

import (
	"testing"
	"time"
)

// Who lags gets what CatchUp allows while the log grows, and all there is when it does
// not, or when little is missing.
func TestPace(t *testing.T) {
	tune := Tuning{CatchUp: 10 << 20, Near: 1 << 20}
	var p pace
	start := time.Unix(1000, 0)
	now, next, end := start, int64(0), int64(1<<30)
	for next < 100<<20 {
		next += write
		end += 1000
		d := p.pause(now, tune, end, next, write)
		if d < breath {
			t.Fatalf("no pause at %d: %v", next, d)
		}
		now = now.Add(d + time.Millisecond) // the write takes its time as well
	}
	if got := float64(next) / now.Sub(start).Seconds(); got > 1.01*float64(tune.CatchUp) || got < 0.97*float64(tune.CatchUp) {
		t.Errorf("%.0f bytes a second, %d are allowed", got, tune.CatchUp)
	}
	// A long standstill is not made good by a burst.
	now = now.Add(time.Minute)
	end++
	if d := p.pause(now, tune, end, next, write); d < 20*time.Millisecond {
		t.Errorf("after a standstill: a pause of %v", d)
	}
	for name, c := range map[string]struct {
		tune Tuning
		at   time.Time
		next int64
	}{
		"nothing is appended":         {tune, now.Add(quiet + 1), next},
		"it is near":                  {tune, now, end - tune.Near},
		"there is no limit":           {Tuning{Near: tune.Near}, now, next},
		"a limit below a byte a year": {Tuning{CatchUp: 1}, now, next},
	} {
		q := p
		d := q.pause(c.at, c.tune, end, c.next, write)
		if c.tune.CatchUp == 1 {
			if d > 2*longest {
				t.Errorf("%s: a pause of %v", name, d)
			}
		} else if d != 0 {
			t.Errorf("%s: a pause of %v", name, d)
		}
	}
}
