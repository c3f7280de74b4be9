package remoting

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"gomq/internal/protocol"
	"gomq/internal/task"
)

// LaneOptions say how wide and how long a Lane is.
type LaneOptions struct {
	Name    string        // in logs and in gomq_refusals_total{cause="lane-NAME"}
	Workers int           // requests that run at a time; 8
	Queue   int           // requests that wait for a worker; 10,000; more are refused
	MaxAge  time.Duration // a request that has waited longer is answered SYSTEM_BUSY instead of run; 0 = never

	Log     *zap.Logger      // nil = silent
	Metrics *Metrics         // nil = none
	Now     func() time.Time // nil = time.Now
}

const (
	defaultLaneWorkers = 8
	defaultLaneQueue   = 10_000
)

// Lane runs requests that may block away from the connections' readers, on a
// bounded number of goroutines with a bounded queue, first come, first served. A
// worker exists only while there is something to do. All methods may be called
// from any goroutine.
type Lane struct {
	o       LaneOptions
	group   *task.Group
	refused *atomic.Uint64
	late    *atomic.Uint64

	mu      sync.Mutex // guards the rest
	queue   []laneItem // from head on
	head    int
	workers int
	stopped bool
	idle    chan struct{} // closed once stopped and no worker is left
}

type laneItem struct {
	call *Call
	fn   func(*Call)
	at   time.Time
}

// NewLane makes a lane. Its workers outlive ctx: Stop is what ends it.
func NewLane(ctx context.Context, o LaneOptions) *Lane {
	o.Workers = limit(o.Workers, defaultLaneWorkers)
	o.Queue = limit(o.Queue, defaultLaneQueue)
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	if o.Metrics == nil {
		o.Metrics = NewMetrics(nil)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	l := &Lane{o: o, group: task.NewGroup(context.WithoutCancel(ctx), o.Log, nil), idle: make(chan struct{})}
	l.refused = o.Metrics.Refusal("lane-" + o.Name)
	l.late = o.Metrics.Refusal("lane-" + o.Name + "-age")
	return l
}

// Submit detaches call and has fn run with it soon. fn answers it or keeps it to
// be answered later; its panic is answered SYSTEM_ERROR. false: the queue is full
// or the lane has been stopped; call is as it was, answer it with Busy. A call
// that is detached already may be submitted by anyone, for example again when
// what it waited for has come.
func (l *Lane) Submit(call *Call, fn func(*Call)) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stopped || len(l.queue)-l.head >= l.o.Queue {
		l.refused.Add(1)
		return false
	}
	if l.head > 64 && l.head > len(l.queue)/2 {
		n := copy(l.queue, l.queue[l.head:])
		clear(l.queue[n:])
		l.queue, l.head = l.queue[:n], 0
	}
	l.queue = append(l.queue, laneItem{call.Detach(), fn, l.o.Now()})
	if l.workers < l.o.Workers {
		l.workers++
		l.group.Go("lane "+l.o.Name, l.work)
	}
	return true
}

// Waiting is how many requests wait for a worker.
func (l *Lane) Waiting() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.queue) - l.head
}

// work is a worker: it ends when nothing is left.
func (l *Lane) work(context.Context) error {
	for {
		l.mu.Lock()
		if l.head == len(l.queue) {
			l.queue, l.head = l.queue[:0], 0
			if l.workers--; l.stopped && l.workers == 0 {
				close(l.idle)
			}
			l.mu.Unlock()
			return nil
		}
		it := l.queue[l.head]
		l.queue[l.head] = laneItem{}
		l.head++
		left := len(l.queue) - l.head
		l.mu.Unlock()
		if age := l.o.Now().Sub(it.at); l.o.MaxAge > 0 && age > l.o.MaxAge {
			l.late.Add(1)
			it.call.Answer(Response{Code: protocol.SystemBusy, Remark: fmt.Sprintf(
				"[TIMEOUT_CLEAN_QUEUE]broker busy, start flow control for a while, period in queue: %dms, size of queue: %d", age.Milliseconds(), left)})
			continue
		}
		l.run(it)
	}
}

// run calls one request's function; its panic is that request's error.
func (l *Lane) run(it laneItem) {
	defer func() {
		if v := recover(); v != nil {
			l.o.Metrics.panics.Add(1)
			l.o.Log.Error("panic while handling a request", zap.String("lane", l.o.Name), zap.Int32("code", it.call.Req.Code),
				zap.Any("panic", v), zap.Stringer("peer", it.call.Conn.Remote()), zap.ByteString("stack", debug.Stack()))
			it.call.Answer(Response{Code: protocol.SystemError, Remark: failedRemark})
		}
	}()
	it.fn(it.call)
}

// Stop takes no more requests and waits until those it has are done. When ctx
// ends first, those that still wait for a worker are answered SYSTEM_BUSY, and
// only the running ones are waited for: they must come to an end by themselves.
// The error is then ctx's. It may be called more than once.
func (l *Lane) Stop(ctx context.Context) error {
	l.mu.Lock()
	if !l.stopped {
		l.stopped = true
		if l.workers == 0 {
			close(l.idle)
		}
	}
	l.mu.Unlock()
	var err error
	select {
	case <-l.idle:
	case <-ctx.Done():
		err = ctx.Err()
		l.mu.Lock()
		rest := append([]laneItem(nil), l.queue[l.head:]...)
		clear(l.queue)
		l.queue, l.head = l.queue[:0], 0
		l.mu.Unlock()
		for _, it := range rest {
			it.call.Answer(Busy)
		}
	}
	l.group.Stop()
	return err
}
