// Package watermark is the one way to wait in gomq: a number that only rises,
// and those who wait for it to reach something.
package watermark

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// ErrDeadline is what a waiter gets whose deadline came first.
var ErrDeadline = errors.New("the deadline came first")

// Waiter is told once how its wait ended: err is nil when the mark got there,
// ErrDeadline when the deadline came first, and otherwise why the mark will
// never get there. Done must not block and must not call back into the Mark.
type Waiter interface{ Done(err error) }

// Func makes a function a Waiter.
type Func func(err error)

// Done calls the function.
func (f Func) Done(err error) { f(err) }

// Mark is a number that rises. Load is wait free; everything else may be called
// from any goroutine, but only one goroutine (or the holders of one lock) may
// Advance it.
type Mark struct {
	value atomic.Int64

	mu      sync.Mutex // guards the rest
	waiting []entry    // from head on, in rising order of at
	head    int
	due     int64 // unix ns of the earliest deadline waiting; 0 = none
	telling bool  // Advance is telling those whom it has reached
	failed  error
}

// entry is one wait. Waits are taken in the order of what they wait for, which
// is nearly always the order in which they come: the list is a queue with an
// insertion sort at its end.
type entry struct {
	at       int64
	deadline int64 // unix ns, 0 = none
	w        Waiter
}

// New makes a mark that starts at n.
func New(n int64) *Mark {
	m := &Mark{}
	m.value.Store(n)
	return m
}

// Load is the mark's value.
func (m *Mark) Load() int64 { return m.value.Load() }

// Advance raises the mark to n, a smaller n does nothing, and tells those who
// waited for it, in order, on the caller's goroutine with no lock held.
func (m *Mark) Advance(n int64) {
	if n <= m.value.Load() {
		return
	}
	m.value.Store(n)
	for {
		m.mu.Lock()
		m.telling = m.head < len(m.waiting) && m.waiting[m.head].at <= n
		if !m.telling {
			m.mu.Unlock()
			return
		}
		w := m.pop()
		m.mu.Unlock()
		w.Done(nil)
	}
}

// pop takes the first waiter. Held: mu.
func (m *Mark) pop() Waiter {
	e := &m.waiting[m.head]
	w := e.w
	e.w = nil
	if m.head++; m.head == len(m.waiting) {
		m.waiting, m.head, m.due = m.waiting[:0], 0, 0
	}
	return w
}

// When tells w once the mark has reached at: at once if it has, unless Advance is
// still about to tell those who waited for no more; then behind them. A zero deadline
// waits for ever; a deadline is noticed by the next Expire after it.
func (m *Mark) When(at int64, deadline time.Time, w Waiter) {
	m.mu.Lock()
	reached := m.value.Load() >= at
	behind := m.telling || m.head < len(m.waiting) && m.waiting[m.head].at <= at
	if reached && !behind || !reached && m.failed != nil {
		err := m.failed
		if reached {
			err = nil
		}
		m.mu.Unlock()
		w.Done(err)
		return
	}
	e := entry{at: at, w: w}
	if !deadline.IsZero() {
		e.deadline = deadline.UnixNano()
		if m.due == 0 || e.deadline < m.due {
			m.due = e.deadline
		}
	}
	m.insert(e)
	m.mu.Unlock()
}

// insert puts e behind all that wait for no more than it does. Held: mu.
func (m *Mark) insert(e entry) {
	if m.head > 64 && m.head > len(m.waiting)/2 {
		n := copy(m.waiting, m.waiting[m.head:])
		clear(m.waiting[n:])
		m.waiting, m.head = m.waiting[:n], 0
	}
	m.waiting = append(m.waiting, e)
	for i := len(m.waiting) - 1; i > m.head && m.waiting[i-1].at > e.at; i-- {
		m.waiting[i], m.waiting[i-1] = m.waiting[i-1], m.waiting[i]
	}
}

// Expire tells the waiters whose deadline has passed. It is cheap when none
// has; call it about every 100 ms.
func (m *Mark) Expire(now time.Time) {
	n := now.UnixNano()
	m.mu.Lock()
	if m.due == 0 || m.due > n {
		m.mu.Unlock()
		return
	}
	var gone []Waiter
	keep := m.waiting[:m.head]
	m.due = 0
	for _, e := range m.waiting[m.head:] {
		switch {
		case e.deadline != 0 && e.deadline <= n && e.at > m.value.Load():
			gone = append(gone, e.w)
			continue
		case e.deadline != 0 && (m.due == 0 || e.deadline < m.due):
			m.due = e.deadline
		}
		keep = append(keep, e)
	}
	clear(m.waiting[len(keep):])
	m.waiting = keep
	m.mu.Unlock()
	for _, w := range gone {
		w.Done(ErrDeadline)
	}
}

// Fail tells everyone who waits, and everyone who will, that the mark rises no
// more. What it has reached stays reached. Only the first call counts.
func (m *Mark) Fail(err error) {
	m.mu.Lock()
	if m.failed != nil {
		m.mu.Unlock()
		return
	}
	m.failed = err
	gone := m.waiting[m.head:]
	m.waiting, m.head, m.due = nil, 0, 0
	m.mu.Unlock()
	for _, e := range gone {
		if e.at <= m.value.Load() {
			e.w.Done(nil)
		} else {
			e.w.Done(err)
		}
	}
}

// Waiting is how many wait.
func (m *Mark) Waiting() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.waiting) - m.head
}

// Wait blocks until the mark has reached at, it fails, or ctx ends; the error
// says which of the latter two. A wait that ctx ended stays listed until the
// mark gets there.
func (m *Mark) Wait(ctx context.Context, at int64) error {
	if m.Load() >= at {
		return nil
	}
	done := make(chan error, 1)
	m.When(at, time.Time{}, Func(func(err error) { done <- err }))
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
