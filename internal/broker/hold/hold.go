// Package hold keeps the pulls that found nothing until a message arrives or
// their time is up. It knows neither sockets nor the store: K names a queue,
// P is whatever the broker needs to run the read once more.
package hold

import (
	"sync"
	"time"
)

// Tick is the resolution of deadlines: an expired pull is handed out at most
// one Tick after its deadline.
const Tick = 100 * time.Millisecond

const slots = 512 // of the wheel; a deadline further away than slots*Tick goes round

// Pulls is the set of parked pulls. A pull is in it exactly once, listed under
// its queue (for arrivals) and in the wheel (for its deadline), and leaves
// through one of Arrived, Expire, Drop or Drain, never through two.
//
// All methods may be called from any goroutine. 100,000 parked pulls cost about
// 15 MB; there is no goroutine and no timer a pull.
type Pulls[K comparable, P any] struct {
	limit int

	mu     sync.Mutex
	queues map[K]*entry[K, P] // head of the ring of a queue's pulls
	wheel  [slots]*entry[K, P]
	tick   int64 // the last tick that Expire has handled
	start  time.Time
	n      int
	free   *entry[K, P]
}

// entry is a parked pull. Both lists are doubly linked rings without a sentinel.
type entry[K comparable, P any] struct {
	key          K
	offset       int64
	due          int64 // in ticks since start
	pull         P
	qNext, qPrev *entry[K, P]
	wNext, wPrev *entry[K, P]
}

// New makes an empty set for at most limit pulls, its clock starting at now.
func New[K comparable, P any](limit int, now time.Time) *Pulls[K, P] {
	return &Pulls[K, P]{limit: limit, queues: map[K]*entry[K, P]{}, start: now}
}

// Len is the number of parked pulls.
func (h *Pulls[K, P]) Len() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.n
}

// Park keeps a pull that waits for queue key to reach beyond offset. It is
// false when the set is full; the caller then answers at once.
//
// A message may arrive between the caller's read and Park: the caller looks at
// the queue once more after Park and calls Arrived itself if there is one.
func (h *Pulls[K, P]) Park(key K, offset int64, deadline time.Time, pull P) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.n >= h.limit {
		return false
	}
	e := h.free
	if e != nil {
		h.free = e.qNext
	} else {
		e = new(entry[K, P])
	}
	due := int64((deadline.Sub(h.start) + Tick - 1) / Tick)
	*e = entry[K, P]{key: key, offset: offset, due: max(due, h.tick+1), pull: pull}
	h.n++
	if head := h.queues[key]; head == nil {
		e.qNext, e.qPrev = e, e
		h.queues[key] = e
	} else {
		e.qNext, e.qPrev = head, head.qPrev
		head.qPrev.qNext, head.qPrev = e, e
	}
	if head := h.wheel[e.due%slots]; head == nil {
		e.wNext, e.wPrev = e, e
		h.wheel[e.due%slots] = e
	} else {
		e.wNext, e.wPrev = head, head.wPrev
		head.wPrev.wNext, head.wPrev = e, e
	}
	return true
}

// Arrived takes out the pulls of queue key that wait at an offset below max and
// appends them to out, in the order in which they were parked.
func (h *Pulls[K, P]) Arrived(key K, max int64, out []P) []P {
	h.mu.Lock()
	defer h.mu.Unlock()
	head := h.queues[key]
	if head == nil {
		return out
	}
	return h.takeRing(head, out, func(e *entry[K, P]) bool { return e.offset < max })
}

// Drop takes out every pull of queue key: its topic has gone.
func (h *Pulls[K, P]) Drop(key K, out []P) []P {
	h.mu.Lock()
	defer h.mu.Unlock()
	if head := h.queues[key]; head != nil {
		out = h.takeRing(head, out, func(*entry[K, P]) bool { return true })
	}
	return out
}

// takeRing walks a queue's ring once and removes what want selects.
func (h *Pulls[K, P]) takeRing(head *entry[K, P], out []P, want func(*entry[K, P]) bool) []P {
	last := head.qPrev
	for e := head; ; {
		next := e.qNext
		if want(e) {
			out = append(out, e.pull)
			h.remove(e)
		}
		if e == last {
			return out
		}
		e = next
	}
}

// Expire takes out the pulls whose deadline is at or before now. It is to be
// called about once a Tick; late calls catch up.
func (h *Pulls[K, P]) Expire(now time.Time, out []P) []P {
	h.mu.Lock()
	defer h.mu.Unlock()
	to := int64(now.Sub(h.start) / Tick)
	from := max(h.tick+1, to-slots+1) // one round visits every slot
	for t := from; t <= to; t++ {
		head := h.wheel[t%slots]
		if head == nil {
			continue
		}
		for e, last := head, head.wPrev; ; {
			next := e.wNext
			if e.due <= to {
				out = append(out, e.pull)
				h.remove(e)
			}
			if e == last {
				break
			}
			e = next
		}
	}
	h.tick = max(h.tick, to)
	return out
}

// Drain takes out everything: the broker stops.
func (h *Pulls[K, P]) Drain(out []P) []P {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, head := range h.queues {
		out = h.takeRing(head, out, func(*entry[K, P]) bool { return true })
	}
	return out
}

func (h *Pulls[K, P]) remove(e *entry[K, P]) {
	if e.qNext == e {
		delete(h.queues, e.key)
	} else {
		e.qPrev.qNext, e.qNext.qPrev = e.qNext, e.qPrev
		if h.queues[e.key] == e {
			h.queues[e.key] = e.qNext
		}
	}
	slot := &h.wheel[e.due%slots]
	if e.wNext == e {
		*slot = nil
	} else {
		e.wPrev.wNext, e.wNext.wPrev = e.wNext, e.wPrev
		if *slot == e {
			*slot = e.wNext
		}
	}
	*e = entry[K, P]{qNext: h.free}
	h.free = e
	h.n--
}
