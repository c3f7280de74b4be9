package bench

import (
	"context"
	"runtime"
	"time"
)

// pacer sends at a fixed rate whatever the answers do, on all connections by turns, with
// up to Depth requests in flight on each. The time of a request counts from when it was
// due. One goroutine does it for all connections: each with a clock of its own would
// wait for the others' on the generator's processor, and that would be in the figures.
// So a broker that reads nothing more from one connection holds up the others' requests,
// whose time goes on counting.
type pacer struct {
	start time.Time
	gap   float64 // ns from one request to the next, over all connections
	lanes []*lane
	freed chan struct{} // some slot has become free; holds one
}

// lane is one connection of a pacer.
type lane struct {
	w    *wire
	r    *ring
	free chan int // slots without a request in flight
	next int      // number of its next request, of those of all connections
	due  []int    // slots of the requests that go out now
}

// paced is run with a pacer for all wires.
func paced(ctx context.Context, name string, o *Options, m *meter, wires []*wire, rings map[*wire]*ring) (Result, error) {
	p := &pacer{gap: float64(time.Second) / o.Rate, freed: make(chan struct{}, 1)}
	lanes := map[*wire]*lane{}
	for i, w := range wires {
		l := &lane{w: w, r: rings[w], free: make(chan int, o.Depth), next: i}
		for slot := range o.Depth {
			l.free <- slot
		}
		p.lanes, lanes[w] = append(p.lanes, l), l
	}
	// One more, as the pacer keeps one while it sleeps in the kernel.
	had := runtime.GOMAXPROCS(0)
	runtime.GOMAXPROCS(had + 1)
	defer runtime.GOMAXPROCS(had)
	group := groupOf()
	defer group.Stop()
	p.start = time.Now()
	group.Go("bench pacer", p.run)
	return run(ctx, name, o, m, wires, func(w *wire) error { return lanes[w].answers(p.freed) })
}

// at is when a request is due.
func (p *pacer) at(k int) time.Time { return p.start.Add(time.Duration(float64(k) * p.gap)) }

// longestNap bounds how long the end of a run may be waited for.
const longestNap = 100 * time.Millisecond

// run sends until a connection ends, which its reader notices as well.
func (p *pacer) run(ctx context.Context) error {
	for ctx.Err() == nil {
		now := time.Now()
		due := int(float64(now.Sub(p.start))/p.gap) + 1 // so many requests by now
		waits := false
		for _, l := range p.lanes {
			late, err := l.send(p, due)
			if err != nil {
				return nil
			}
			waits = waits || late
		}
		next := p.at(due)
		if nap := now.Add(longestNap); nap.Before(next) {
			next = nap
		}
		if !waits {
			sleepUntil(next)
			continue
		}
		select {
		case <-p.freed:
		case <-time.After(time.Until(next)):
		}
	}
	return nil
}

// send writes those of the first due requests that are this connection's, as far as
// there are slots; what is due at the same time goes out together. late says that some
// are left.
func (l *lane) send(p *pacer, due int) (late bool, err error) {
	l.due = l.due[:0]
	for l.next < due && !late {
		select {
		case slot := <-l.free:
			l.w.sentAt[slot] = p.at(l.next).UnixNano()
			l.due = append(l.due, slot)
			l.next += len(p.lanes)
		default:
			late = true
		}
	}
	return late, l.w.put(l.r, l.due)
}

// answers takes the answers of a connection until it ends.
func (l *lane) answers(freed chan<- struct{}) error {
	for {
		err := l.w.answers(func(slot int, code int32, header, _ []byte) error {
			l.free <- slot
			select {
			case freed <- struct{}{}:
			default:
			}
			return l.w.took(code, header)
		})
		if err != nil {
			return closedIsFine(l.w, err)
		}
	}
}
