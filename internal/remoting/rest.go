package remoting

import (
	"syscall"
	"time"
)

const (
	// leastBusy and mostBusy bound after how many reads in a row that found bytes at
	// once a peer is taken to be ahead of us.
	leastBusy, mostBusy = 16, 4096
	// restTime is how long a reader rests; a system adds up to 50 us to it.
	restTime = 5 * time.Microsecond
)

// rests decides when the reader of a connection rests before it reads again.
//
// A client that sends each message by itself and many of them ahead of the answers is
// read as soon as it has sent two or three, and to read and to answer so few costs
// several times what handling them does. A reader that rests before every second read
// finds ten and more, for little more than half the processor a message. But a peer that
// is not so far ahead has nothing more to send while its reader rests, and is slower for
// it. Which of the two it is shows in the Turn after next, for which nobody has rested:
// whether more than one frame had come by then. Rests become rarer each time that it had
// not.
type rests struct {
	busy  int // reads in a row that found bytes at once
	after int // so many of them come before a rest
	since int // Turns that have ended since the last rest, 0 = it has been judged
}

// next says whether to rest now, after a Turn of so many frames, for whose bytes the
// reader waited or not.
func (r *rests) next(waited bool, frames int) bool {
	r.after = max(r.after, leastBusy)
	if waited {
		r.busy = 0
	} else {
		r.busy++
	}
	switch r.since {
	case 1: // the Turn that the rest was for
		r.since = 2
		return false
	case 2:
		r.since = 0
		if waited || frames < 2 {
			r.after = min(2*r.after, mostBusy)
			r.busy = 0
		} else {
			r.after /= 4
		}
	}
	if r.busy < r.after {
		return false
	}
	r.since = 1
	return true
}

// rest gives others their Turns and then, if nobody else wanted one, the peer the
// time to send more.
func (c *Conn) rest() {
	// Not Gosched, which does not look whether something has come from the network as
	// long as anybody, this goroutine too, can run.
	time.Sleep(time.Microsecond)
	if c.hub.last.Load() != c.id || c.hub.stopping.Load() {
		return
	}
	// Not by the runtime's clock: it waits for that and for the network at once, to the
	// millisecond, and each frame that comes would wake it. The processor is idle
	// meanwhile, and the runtime gives it to another goroutine if there is one.
	t := syscall.NsecToTimespec(int64(restTime))
	_ = syscall.Nanosleep(&t, nil) // woken early: as good
}
