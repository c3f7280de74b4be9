package ha

import "time"

// pace holds back what a replica that lags gets while the log grows: who appends
// shares the processor, the memory and the disk with it.
type pace struct {
	end   int64     // of the log
	grown time.Time // ... since when end is that
	due   time.Time // the next write
}

const (
	// quiet is for how long nothing is appended before nobody is taken to be in the way.
	quiet = 100 * time.Millisecond
	// spare is how late a write may be for the time to be made good: long enough for
	// the pauses that a busy processor makes longer, little enough for the burst, about
	// a megabyte at the default rate, to be short.
	spare = 5 * time.Millisecond
	// breath is the least pause between two writes: the runtime looks for what has
	// come from the network once nobody wants to run.
	breath = 100 * time.Microsecond
	// longest bounds a pause, so that a replica never takes it for silence.
	longest = time.Second
)

// pause is how long to wait after n bytes were sent up to next, of a log that ends at
// end; 0 = not at all.
func (p *pace) pause(now time.Time, t Tuning, end, next int64, n int) time.Duration {
	if end != p.end {
		p.end, p.grown = end, now
	}
	if t.CatchUp <= 0 || end-next <= t.Near || now.Sub(p.grown) > quiet {
		p.due = time.Time{}
		return 0
	}
	if late := now.Add(-spare); p.due.Before(late) {
		p.due = late
	}
	p.due = p.due.Add(min(time.Duration(int64(n)*int64(time.Second)/t.CatchUp), longest))
	return max(p.due.Sub(now), breath)
}
