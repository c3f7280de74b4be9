package segment

import (
	"sync/atomic"
	"time"
)

const (
	// residentPart is what a residency remembers together.
	residentPart = 1 << 20
	// residentFor is how long an answer of the system is believed. The system
	// seldom takes away what was in memory a moment ago; when it does, a reader
	// waits for the disk in a page fault, which costs time and breaks nothing.
	residentFor = 200 * time.Millisecond
)

// residency remembers which parts of a mapping were seen to be wholly in memory
// lately: asking the system for each of many small reads costs as much as the
// reads.
type residency struct {
	// A word for each part: when it was asked for, in units of residentFor since
	// began, times two, plus one if all of it was there. 0 = never.
	parts []atomic.Uint32
}

// began is some time before the first answer; only the distance between two
// answers counts.
var began = time.Now().Add(-residentFor)

func newResidency(size int64) residency {
	return residency{parts: make([]atomic.Uint32, (size+residentPart-1)/residentPart)}
}

// covers says whether [off, off+n) of the mapping m, which is size bytes long,
// is in memory: as remembered, or as the system says.
func (r *residency) covers(m Mapping, size, off, n int64) bool {
	now := uint32(time.Since(began)/residentFor) << 1
	for end := min(off+n, size); off < end; {
		i := off / residentPart
		stop := min(end, (i+1)*residentPart)
		seen := r.parts[i].Load()
		if seen>>1 != now>>1 {
			seen = now
			if m.Resident(i*residentPart, min(residentPart, size-i*residentPart)) {
				seen |= 1
			}
			r.parts[i].Store(seen)
		}
		if seen&1 == 0 && !m.Resident(off, stop-off) {
			return false
		}
		off = stop
	}
	return true
}

// forget makes the next question go to the system.
func (r *residency) forget() {
	for i := range r.parts {
		r.parts[i].Store(0)
	}
}
