// Package bench loads a broker and measures what it does: sends, pulls, and the
// way of a message from a producer to a waiting consumer. It speaks the plain
// protocol, so that any RocketMQ broker can stand at the other end, and its own
// cost is small against a broker's: frames are built once, answers are only
// looked at for their code and their number.
package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"go.uber.org/zap"

	"gomq/internal/protocol"
	"gomq/internal/task"
)

// Options say what to do to which broker.
type Options struct {
	Addr   string // the broker, host:port
	Topic  string
	Group  string // of the producer or the consumer
	Queues int    // of the topic that are used

	Conns  int  // connections
	Depth  int  // requests in flight on each
	Each   bool // one write call a request, as real clients do, instead of one for all that are due
	Codec  protocol.Codec
	Size   int     // bytes of a body
	Rate   float64 // requests a second over all connections; 0 = as fast as the answers come
	Batch  int     // messages a pull asks for
	SQL    string  // pulls: an SQL92 expression; what counts then is the messages that the broker looks at
	Warm   time.Duration
	Time   time.Duration // measured, after Warm
	PID    int           // of the broker on this machine, for its CPU and memory; 0 = unknown
	CPU    int           // pin the generator to this processor; -1 = not
	Refuse bool          // answers other than success are counted instead of ending the run
}

// Result is what a run measured between the end of Warm and the end of Time.
type Result struct {
	Name      string  `json:"name"`
	Messages  int64   `json:"messages"`
	Seconds   float64 `json:"seconds"`
	PerSecond float64 `json:"perSecond"`
	MBs       float64 `json:"mbPerSecond"` // of bodies (send, e2e) or of records (pull), 10^6 bytes
	Refused   int64   `json:"refused"`     // answers other than success

	P50  float64 `json:"p50us"`
	P90  float64 `json:"p90us"`
	P99  float64 `json:"p99us"`
	P999 float64 `json:"p999us"`
	Max  float64 `json:"maxus"`

	ServerCPU    float64 `json:"serverCPUusPerMessage,omitempty"`
	ServerLoad   float64 `json:"serverCPUpercent,omitempty"`
	Generator    float64 `json:"generatorCPUusPerMessage"`
	RSSAnon      float64 `json:"serverAnonMiB,omitempty"`
	ServerFaults float64 `json:"serverFaultsPerMessage,omitempty"`
}

func (o *Options) check() error {
	switch {
	case o.Addr == "":
		return errors.New("no broker given (host:port)")
	case o.Conns < 1 || o.Conns > 10_000 || o.Depth < 1 || o.Depth > 65_536:
		return fmt.Errorf("%d connections with %d requests in flight: 1 to 10,000 and 1 to 65,536 are possible", o.Conns, o.Depth)
	case o.Queues < 1 || o.Queues > 1024:
		return fmt.Errorf("%d queues: 1 to 1,024 are possible", o.Queues)
	case o.Size < 0 || o.Size > 4<<20:
		return fmt.Errorf("bodies of %d bytes: 0 to 4 MiB are possible", o.Size)
	}
	return nil
}

// meter is what the connections of a run count into.
type meter struct {
	measuring atomic.Bool
	refused   atomic.Int64
}

// wire is one pipelined connection: a fixed set of slots, each with at most one
// request in flight, told apart by opaque = firstOpaque + slot.
type wire struct {
	o      *Options
	m      *meter
	c      net.Conn
	sentAt []int64 // by slot, ns
	done   atomic.Int64
	bytes  atomic.Int64
	lat    *hdrhistogram.Histogram
	in     []byte
	r, w   int
}

const firstOpaque = 1_000_000_000 // ten digits whatever the slot

func dial(ctx context.Context, o *Options, m *meter) (*wire, error) {
	d := net.Dialer{Timeout: 3 * time.Second}
	c, err := d.DialContext(ctx, "tcp", o.Addr)
	if err != nil {
		return nil, fmt.Errorf("connecting to the broker: %w", err)
	}
	return &wire{o: o, m: m, c: c, sentAt: make([]int64, o.Depth), lat: newHistogram(), in: make([]byte, 4*lot)}, nil
}

func newHistogram() *hdrhistogram.Histogram { return hdrhistogram.New(1, int64(time.Minute), 3) }

// record notes one answer of the measured time.
func (w *wire) record(slot int, now int64) {
	if w.m.measuring.Load() {
		w.lat.RecordValue(min(max(now-w.sentAt[slot], 1), int64(time.Minute)))
	}
}

// answer is one answer of the broker; its slices are borrowed.
type answer struct {
	at           int64 // when it was read, ns
	code, opaque int32
	header, body []byte
}

// read reads once and calls fn for every whole answer.
func (w *wire) read(fn func(a answer) error) error {
	n, err := w.c.Read(w.in[w.w:])
	if err != nil {
		return err
	}
	w.w += n
	now := time.Now().UnixNano()
	for f := w.next(); f != nil; f = w.next() {
		a, err := lookAt(f)
		if err != nil {
			return err
		}
		a.at = now
		if err := fn(a); err != nil {
			return err
		}
	}
	w.room()
	return nil
}

// answers is read with the time of each request noted; fn is told the slot.
func (w *wire) answers(fn func(slot int, code int32, header, body []byte) error) error {
	return w.read(func(a answer) error {
		slot := int(a.opaque) - firstOpaque
		if slot < 0 || slot >= w.o.Depth {
			return fmt.Errorf("an answer to no request of ours (opaque %d)", a.opaque)
		}
		w.record(slot, a.at)
		return fn(slot, a.code, a.header, a.body)
	})
}

// pinned makes the generator's threads stay on o.CPU.
func (o *Options) pinned() error {
	if o.CPU < 0 {
		return nil
	}
	return pin(o.CPU)
}

// run drives the wires with loop until warm-up and measured time are over, and
// sums up. count says how many messages have been done so far.
func run(ctx context.Context, name string, o *Options, m *meter, wires []*wire, loop func(*wire) error) (Result, error) {
	group := task.NewGroup(ctx, zap.NewNop(), nil)
	failed := make(chan error, len(wires))
	var ended sync.WaitGroup
	for _, w := range wires {
		ended.Add(1)
		group.Go("bench connection", func(context.Context) error {
			defer ended.Done()
			if err := loop(w); err != nil {
				failed <- err
			}
			return nil
		})
	}
	stop := func() {
		for _, w := range wires {
			w.c.Close()
		}
		ended.Wait()
		group.Stop()
	}
	total := func() (n, bytes int64) {
		for _, w := range wires {
			n += w.done.Load()
			bytes += w.bytes.Load()
		}
		return n, bytes
	}
	if err := wait(ctx, o.Warm, failed); err != nil {
		stop()
		return Result{}, err
	}
	before := usage(o.PID)
	n0, b0 := total()
	refused := m.refused.Load()
	m.measuring.Store(true)
	start := time.Now()
	err := wait(ctx, o.Time, failed)
	n1, b1 := total()
	took := time.Since(start)
	m.measuring.Store(false)
	after := usage(o.PID)
	stop()
	if err != nil {
		return Result{}, err
	}
	r := Result{Name: name, Messages: n1 - n0, Seconds: took.Seconds(), Refused: m.refused.Load() - refused}
	r.MBs = float64(b1-b0) / 1e6 / r.Seconds
	r.sum(wires, before, after, o.PID != 0)
	return r, nil
}

func wait(ctx context.Context, d time.Duration, failed <-chan error) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case err := <-failed:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (r *Result) sum(wires []*wire, before, after consumed, server bool) {
	all := newHistogram()
	for _, w := range wires {
		all.Merge(w.lat)
	}
	us := func(q float64) float64 { return float64(all.ValueAtQuantile(q)) / 1e3 }
	r.P50, r.P90, r.P99, r.P999, r.Max = us(50), us(90), us(99), us(99.9), float64(all.Max())/1e3
	r.PerSecond = float64(r.Messages) / r.Seconds
	n := float64(max(r.Messages, 1))
	r.Generator = (after.own - before.own).Seconds() * 1e6 / n
	if server {
		r.ServerCPU = (after.cpu - before.cpu).Seconds() * 1e6 / n
		r.ServerLoad = (after.cpu - before.cpu).Seconds() * 100 / r.Seconds
		r.ServerFaults = float64(after.faults-before.faults) / n
		r.RSSAnon = after.anonMiB
	}
}
