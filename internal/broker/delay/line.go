package delay

import (
	"context"
	"sync"
	"time"
)

// Clock is the two clocks that a line needs.
type Clock struct {
	// Stamp is the store time, ms, of a record that is stored now. It follows the
	// wall clock, which may be set at any time, but does not go back with it.
	Stamp func() int64
	// Passed is the time since some moment of this process. It only runs forward.
	Passed func() time.Duration
}

// Queue is what a line needs of the queue of its level.
type Queue interface {
	// Bounds are the offsets of the first entry and behind the last.
	Bounds() (min, max int64)
	// Codes reads the codes of entries from an offset on, as many as dst has room
	// for and there are; n is at least 1 if there is an entry at from and err is nil.
	Codes(from int64, dst []int64) (n int, err error)
	// Deliver stores the messages of the entries [from, to), or of the first some of
	// them, where they are to go, and returns when readers see them. next is the
	// first entry that it has not dealt with, also when there is an error.
	Deliver(ctx context.Context, from, to int64) (next int64, err error)
}

const (
	// Look is how long a line that has messages waits at most before it looks at the
	// clocks again.
	Look = 250 * time.Millisecond
	// pauseLeast and pauseMost are what a line waits after an error.
	pauseLeast, pauseMost = 100 * time.Millisecond, 5 * time.Second
	// perStep is how many entries a line looks at in one step.
	perStep = 1024
	// slack is by how much the two clocks may drift apart before a line takes note,
	// and so how long messages wait more than they should: never less.
	slack = 5 * time.Millisecond
	// maxSpans bounds what a line remembers of clocks that were set.
	maxSpans = 20_000
	// grain is by how much messages may be late that came while the wall clock was
	// behind the store time.
	grain = 500 * time.Millisecond
)

// Line delivers the messages of one level, in their order, each once its delay has
// passed: delivered first, counted as delivered afterwards. A line has one mutex;
// Step is for one goroutine.
//
// A message that arrives while the line is there waits as long as its level says
// by the clock that only runs forward, whatever becomes of the wall clock. For
// one that was there before, the wall clock at the start counts, and it never
// waits longer than its level from then on: its due time may lie far in the
// future when the clock went back (behaviour.md section 11).
type Line struct {
	delay time.Duration
	clock Clock
	codes [perStep]int64
	front int64         // the entry whose code is in codes[0], -1 = none
	pause time.Duration // after the next error

	mu    sync.Mutex // guards the rest
	next  int64
	seen  int64  // the end of the queue when the clocks were last compared
	spans []span // in the order of from; the last one goes on
}

// span is the entries from an offset on of which the same is known.
type span struct {
	from int64
	kind spanKind
	// ahead is by how much store times were ahead of the clock that runs forward when
	// the entries came.
	ahead time.Duration
	// at is, on that clock, when the line was made (old), or when all of the entries
	// had come (came), the first of them not long after since.
	at, since time.Duration
}

type spanKind uint8

const (
	stamped spanKind = iota // the code says when they are due
	old                     // the code does, but never later than a delay from the start
	came                    // the wall clock was set while they came
)

// NewLine makes the line of a level that waits for delay. next is the first entry
// that has not been delivered, max the end of the queue.
func NewLine(delay time.Duration, next, max int64, clock Clock) *Line {
	l := &Line{delay: delay, clock: clock, next: next, seen: max, front: -1}
	ahead, now := l.clocks()
	l.spans = []span{{kind: old, ahead: ahead, at: now}, {from: max, ahead: ahead}}
	return l
}

// clocks reads both clocks, as one: when the goroutine was held up between them,
// once more.
func (l *Line) clocks() (ahead, now time.Duration) {
	for range 3 {
		before := l.clock.Passed()
		stamp := l.clock.Stamp()
		now = l.clock.Passed()
		ahead = time.Duration(stamp)*time.Millisecond - now
		if now-before < slack {
			break
		}
	}
	return ahead, now
}

// Arrived tells the line that the queue has grown to max. It never blocks.
func (l *Line) Arrived(max int64) {
	ahead, now := l.clocks()
	l.mu.Lock()
	l.compare(max, ahead, now)
	l.mu.Unlock()
}

// compare takes note when the clocks have moved apart since the last look: what
// came meanwhile has store times of either. Held: mu.
func (l *Line) compare(max int64, ahead, now time.Duration) {
	k := len(l.spans) - 1 // the span that goes on
	seen := l.seen
	if max < seen {
		return // somebody was faster
	}
	l.seen = max
	if d := ahead - l.spans[k].ahead; d <= slack && d >= -slack {
		return
	}
	if l.spans[k].from == seen { // nothing has come into it
		l.spans = l.spans[:k]
		k--
	}
	if max > seen {
		if k >= 0 && l.spans[k].kind == came && now-l.spans[k].since < grain {
			l.spans[k].at = now
		} else {
			l.spans = append(l.spans, span{from: seen, kind: came, at: now, since: now})
		}
	}
	l.spans = append(l.spans, span{from: max, ahead: ahead})
	if n := len(l.spans); n > maxSpans {
		// Late rather than early, for what came in the half that is forgotten.
		first := l.spans[0].from
		l.spans = append(l.spans[:0], l.spans[n/2-1:]...)
		l.spans[0] = span{from: first, kind: came, at: now, since: now}
	}
}

// Next is the first entry that has not been delivered.
func (l *Line) Next() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.next
}

// wait is how long an entry of the span with that code has still to wait.
func (l *Line) wait(s *span, code int64, now time.Duration) time.Duration {
	due := fromMillis(code) - s.ahead + slack + time.Millisecond
	switch s.kind {
	case came:
		due = s.at + l.delay
	case old:
		due = min(due, s.at+l.delay)
	}
	return due - now
}

// fromMillis is the code as a time since 1970, kept to what a Duration has: the
// codes of other brokers may be hashes of tags.
func fromMillis(code int64) time.Duration {
	const most = int64(1) << 42 // ms: the year 2109
	return time.Duration(min(max(code, 0), most)) * time.Millisecond
}

// Forever is the wait of a line that has nothing.
const Forever = time.Duration(1<<63 - 1)

// Step delivers what is due, a batch at most, and says how long to wait before the
// next step: 0 when there may be more, Forever when the queue has nothing. An
// arrival ends the wait. An error is one of the queue; the wait then grows from
// step to step.
func (l *Line) Step(ctx context.Context, q Queue) (wait time.Duration, err error) {
	least, end := q.Bounds()
	ahead, now := l.clocks()
	l.mu.Lock()
	l.compare(end, ahead, now)
	next := min(max(l.next, least), end)
	l.moveTo(next)
	l.mu.Unlock()
	if next == end {
		l.pause = 0
		return Forever, nil
	}
	if next == l.front { // the one that was not due before
		if _, wait := l.due(next, l.codes[:1], now); wait > 0 {
			return min(wait, Look), nil
		}
	}
	n, err := q.Codes(next, l.codes[:min(perStep, end-next)])
	if err != nil {
		l.front = -1
		return l.failed(), err
	}
	l.front = next
	due, wait := l.due(next, l.codes[:n], now)
	if due == 0 {
		l.pause = 0
		return min(wait, Look), nil
	}
	to, err := q.Deliver(ctx, next, next+int64(due))
	l.mu.Lock()
	l.moveTo(max(next, to))
	l.mu.Unlock()
	if err != nil || to <= next {
		return l.failed(), err
	}
	l.pause = 0
	return 0, nil
}

// due is how many of the entries from next on are due, and how long the first one
// that is not has to wait.
func (l *Line) due(next int64, codes []int64, now time.Duration) (n int, wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := 0
	for n < len(codes) {
		for s+1 < len(l.spans) && l.spans[s+1].from <= next+int64(n) {
			s++
		}
		if wait = l.wait(&l.spans[s], codes[n], now); wait > 0 {
			return n, wait
		}
		n++
	}
	return n, 0
}

// moveTo sets next and forgets what is known of entries before it. Held: mu.
func (l *Line) moveTo(next int64) {
	l.next = next
	n := 0
	for n+1 < len(l.spans) && l.spans[n+1].from <= next {
		n++
	}
	if n > 0 {
		l.spans = append(l.spans[:0], l.spans[n:]...)
	}
}

// failed is the wait after an error.
func (l *Line) failed() time.Duration {
	l.pause = min(max(2*l.pause, pauseLeast), pauseMost)
	return l.pause
}
