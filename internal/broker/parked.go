package broker

import (
	"context"
	"runtime/debug"
	"sync"
	"time"

	"go.uber.org/zap"

	"gomq/internal/broker/hold"
	"gomq/internal/protocol"
	"gomq/internal/remoting"
	"gomq/internal/store"
	"gomq/internal/task"
)

const (
	// maxParked bounds the pulls that wait in the whole broker.
	maxParked = 200_000
	// wakers is how many goroutines re-run pulls whose message has come.
	wakers = 4
	// tellProgress bounds how long a consumer whose filter skips everything does
	// not hear how far it has come; the original looks every 5 s.
	tellProgress = 5 * time.Second
)

// parked is a pull that waits for a message or its deadline.
type parked struct {
	want
	conn     *remoting.Conn
	to       answerer // a Late, or a Call that was detached
	answered bool
	asked    int64 // the offset of the request; want.offset moves on behind what the filter skips
	deadline time.Time
	count    *pullCount // of its connection; nil: it counts no more
}

// parking holds the pulls that wait. Whoever finds out that a message has come,
// or that time is up, only moves the pull to the ready list; wakers read again
// and answer.
type parking struct {
	held  *hold.Pulls[*store.Queue, *parked]
	group *task.Group

	mu      sync.Mutex // guards the rest
	ready   []wake     // from head on
	head    int
	running int
	closed  bool
}

// wake is a pull to be looked at again.
type wake struct {
	*parked
	last bool // its time is up: answer whatever there is
}

// park keeps the pull; false when it is to be answered at once. detached says
// that c is not of a Turn any more.
func (p *puller) park(w *want, r *reading, d *desk, c *remoting.Call, detached bool, o *Options) bool {
	span := holdTime(&r.header, o)
	if span <= 0 || p.isClosed() || !d.pulls.enter(o.MaxLongPollsPerConnection) {
		return false
	}
	x := &parked{want: *w, conn: c.Conn, asked: w.offset, deadline: time.Now().Add(span), count: &d.pulls}
	if detached {
		x.to = c
	} else {
		x.to = c.Later()
	}
	if !p.keep(x) {
		// It has left its Turn and must be answered from here.
		p.finish(x, r)
	}
	return true
}

// keep lists the pull; once it has, others may answer it and x must not be
// touched any more. A message that arrives between the read and here is told to
// nobody, so the queue is looked at once more.
func (p *puller) keep(x *parked) bool {
	q, offset := x.q, x.offset
	if !p.held.Park(q, offset, x.deadline, x) {
		return false
	}
	if max := q.Max(); max > offset {
		p.arrived(q, max)
	}
	if p.isClosed() {
		p.expireAll()
	}
	return true
}

func (p *puller) isClosed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.closed
}

// arrived is told by the store's dispatcher that q has grown to max.
func (p *puller) arrived(q *store.Queue, max int64) {
	p.wakeUp(p.held.Arrived(q, max, nil), false)
}

// tick is the clock of deadlines.
func (p *puller) tick(context.Context) error {
	p.wakeUp(p.held.Expire(time.Now(), nil), true)
	return nil
}

// dropQueues answers the pulls that wait for queues of a topic that has gone.
func (p *puller) dropQueues(queues []*store.Queue) {
	for _, q := range queues {
		for _, x := range p.held.Drop(q, nil) {
			x.answer(remoting.Response{Code: protocol.TopicNotExist, Remark: "topic[" + q.Topic() + "] not exist, apply first please! " + faq})
		}
	}
}

// expireAll answers everything that waits: the broker stops.
func (p *puller) expireAll() { p.wakeUp(p.held.Drain(nil), true) }

// close parks no more and answers what is parked.
func (p *puller) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.expireAll()
}

// wakeUp hands pulls to the wakers. It never blocks: what is ready was parked,
// and that is bounded.
func (p *puller) wakeUp(list []*parked, last bool) {
	if len(list) == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, x := range list {
		p.ready = append(p.ready, wake{x, last})
	}
	for p.running < min(wakers, len(p.ready)-p.head) && p.group.Go("waker of pulls", p.work) {
		p.running++
	}
}

// work is a waker: it ends when nothing is ready.
func (p *puller) work(context.Context) error {
	r := readings.Get().(*reading)
	defer readings.Put(r)
	for {
		p.mu.Lock()
		if p.head == len(p.ready) {
			p.ready, p.head = p.ready[:0], 0
			p.running--
			p.mu.Unlock()
			return nil
		}
		x := p.ready[p.head]
		p.ready[p.head] = wake{}
		p.head++
		p.mu.Unlock()
		p.again(r, x)
	}
}

// again reads for a parked pull once more and answers it, or keeps it when the
// messages that came are none of its own.
func (p *puller) again(r *reading, x wake) {
	defer func() {
		if v := recover(); v != nil {
			p.log.Error("panic while a parked pull was read again", zap.Any("panic", v), zap.ByteString("stack", debug.Stack()))
			x.answer(remoting.Response{Code: protocol.SystemError, Remark: "the request failed inside the server, see its log"})
		}
	}()
	if x.conn.Err() != nil {
		x.answer(remoting.Response{Code: protocol.PullNotFound}) // goes nowhere, is counted
		return
	}
	o := p.live.Load()
	p.read(&x.want, &r.res, o, true)
	if r.res.Status == store.NoMatchedMessage && !x.last {
		r.res.View.Release()
		x.offset = r.res.Next
		if t := time.Now().Add(tellProgress); t.Before(x.deadline) {
			x.deadline = t
		}
		if p.keep(x.parked) {
			return
		}
		p.read(&x.want, &r.res, o, true)
	}
	p.finishRead(x.parked, r, o)
}

// finish reads and answers a pull that cannot be kept.
func (p *puller) finish(x *parked, r *reading) {
	o := p.live.Load()
	p.read(&x.want, &r.res, o, false)
	if r.res.Cold {
		r.res.Status, r.res.Next, r.res.Cold = store.OffsetOverflowOne, x.offset, false
		r.res.Min, r.res.Max = x.q.Min(), x.q.Max()
	}
	p.finishRead(x, r, o)
}

// finishRead answers a parked pull with what was read.
func (p *puller) finishRead(x *parked, r *reading, o *Options) {
	defer r.res.View.Release()
	if x.offset > x.asked && r.res.Status == store.OffsetOverflowOne {
		r.res.Status = store.NoMatchedMessage // there were messages, and the consumer is to know how far it has come
	}
	x.leave()
	p.answer(r, &x.want, x.to, o)
	x.answered = true
}

// leave ends that it counts for its connection. It comes before the answer: whoever
// has it and asks again finds room.
func (x *parked) leave() {
	if x.count != nil {
		x.count.leave()
		x.count = nil
	}
}

// answer answers a parked pull without a read, unless it has been answered.
func (x *parked) answer(r remoting.Response) {
	if !x.answered {
		x.answered = true
		x.leave()
		x.to.Answer(r)
	}
}
