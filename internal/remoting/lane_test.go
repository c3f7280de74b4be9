package remoting

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"gomq/internal/protocol"
)

// laneServer runs every request in lane and answers with Busy when it is full.
func laneServer(t *testing.T, lane *Lane, fn func(*Call)) *Server {
	return serve(t, Options{}, funcs{request: func(_ *Turn, c *Call) {
		if !lane.Submit(c, fn) {
			c.Answer(Busy)
		}
	}})
}

func TestLane(t *testing.T) {
	m := NewMetrics(nil)
	lane := NewLane(context.Background(), LaneOptions{Name: "test", Workers: 2, Queue: 3, Metrics: m})
	var running, most atomic.Int32
	started, gate := make(chan struct{}, 100), make(chan struct{})
	s := laneServer(t, lane, func(c *Call) {
		if n := running.Add(1); n > most.Load() {
			most.Store(n)
		}
		started <- struct{}{}
		<-gate
		running.Add(-1)
		if string(c.Req.Body) == "panic" {
			panic("in a lane")
		}
		c.Answer(Response{Code: c.Req.Code, Body: c.Req.Body})
	})
	w := dialWire(t, s.Addr())
	w.send(frame(0, 10, 0, 0, []byte("panic")))
	w.send(frame(0, 10, 1, 0, []byte("body 1")))
	<-started
	<-started
	for i := int32(2); i < 7; i++ { // three find room in the queue
		w.send(frame(protocol.Codec(i%2), 10+i, i, 0, fmt.Appendf(nil, "body %d", i)))
	}
	for i := int32(5); i < 7; i++ {
		if a := w.answer(); a.Opaque != i || a.Code != protocol.SystemBusy || a.Remark != busyRemark {
			t.Errorf("request %d is answered %d %q, want 5 or 6 refused as busy", a.Opaque, a.Code, a.Remark)
		}
	}
	if got := m.Refusal("lane-test").Load(); got != 2 {
		t.Errorf("%d refusals counted, want 2", got)
	}
	close(gate)
	got := map[int32]*protocol.Command{}
	for range 5 {
		a := w.answer()
		got[a.Opaque] = a
	}
	if got[0] == nil || got[0].Code != protocol.SystemError || got[0].Remark != failedRemark {
		t.Errorf("the panic is answered %+v", got[0])
	}
	for i := int32(2); i < 5; i++ {
		if a := got[i]; a == nil || a.Code != 10+i || string(a.Body) != fmt.Sprintf("body %d", i) || a.Codec != protocol.Codec(i%2) {
			t.Errorf("request %d is answered %+v", i, a)
		}
	}
	if most.Load() != 2 {
		t.Errorf("%d ran at a time, want 2", most.Load())
	}
	w.send(frame(0, 99, 50, 0, nil)) // idle workers have ended; a new one comes
	if a := w.answer(); a.Code != 99 {
		t.Errorf("after a pause: %+v", a)
	}
	if err := lane.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	w.send(frame(0, 99, 51, 0, nil))
	if a := w.answer(); a.Code != protocol.SystemBusy {
		t.Errorf("a stopped lane: %+v", a)
	}
	if err := lane.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestLaneAge(t *testing.T) {
	var clock atomic.Int64
	gate, started := make(chan struct{}), make(chan struct{})
	lane := NewLane(context.Background(), LaneOptions{Name: "test", Workers: 1, MaxAge: 200 * time.Millisecond,
		Now: func() time.Time { return time.Unix(0, clock.Load()) }})
	s := laneServer(t, lane, func(c *Call) {
		if c.Req.Code == 1 {
			started <- struct{}{}
			<-gate
		}
		c.Answer(Response{Code: c.Req.Code})
	})
	w := dialWire(t, s.Addr())
	w.send(frame(0, 1, 1, 0, nil))
	<-started
	w.send(frame(0, 5, 2, 0, nil))
	eventually(t, "the second waits", func() bool { return lane.Waiting() == 1 })
	clock.Store(int64(250 * time.Millisecond))
	close(gate)
	if a := w.answer(); a.Code != 1 {
		t.Errorf("the first: %+v", a)
	}
	const want = "[TIMEOUT_CLEAN_QUEUE]broker busy, start flow control for a while, period in queue: 250ms, size of queue: 0"
	if a := w.answer(); a.Code != protocol.SystemBusy || a.Remark != want {
		t.Errorf("the second is answered %d %q", a.Code, a.Remark)
	}
	if err := lane.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestLaneStops stops a lane with one request running and two that wait: those
// are done when there is time, and answered busy otherwise.
func TestLaneStops(t *testing.T) {
	for _, patient := range []bool{true, false} {
		gate, started := make(chan struct{}), make(chan struct{}, 3)
		lane := NewLane(context.Background(), LaneOptions{Name: "test", Workers: 1})
		s := laneServer(t, lane, func(c *Call) {
			started <- struct{}{}
			<-gate
			c.Answer(Response{Code: c.Req.Code})
		})
		w := dialWire(t, s.Addr())
		for i := range int32(3) {
			w.send(frame(0, 40, i, 0, nil))
		}
		<-started
		eventually(t, "two wait", func() bool { return lane.Waiting() == 2 })
		ctx, cancel := context.WithCancel(context.Background())
		stopped := make(chan error, 1)
		go func() { stopped <- lane.Stop(ctx) }()
		want := []int32{40, 40, 40}
		if !patient {
			cancel()
			want = []int32{40, 2, 2}
			eventually(t, "the queue is given up", func() bool { return lane.Waiting() == 0 })
		}
		close(gate)
		codes := make([]int32, 3)
		for range 3 {
			a := w.answer()
			codes[a.Opaque] = a.Code
		}
		if fmt.Sprint(codes) != fmt.Sprint(want) {
			t.Errorf("patient %v: answered %v, want %v", patient, codes, want)
		}
		if err := <-stopped; patient != (err == nil) || (!patient && !errors.Is(err, context.Canceled)) {
			t.Errorf("patient %v: Stop returned %v", patient, err)
		}
		cancel()
	}
}

// TestLaneAgain submits a detached call a second time, as a parked pull does.
func TestLaneAgain(t *testing.T) {
	lane := NewLane(context.Background(), LaneOptions{Name: "test"})
	defer lane.Stop(context.Background())
	var parked atomic.Pointer[Call]
	s := laneServer(t, lane, func(c *Call) {
		if string(c.Req.Body) == "wait" {
			parked.Store(c)
			c.Conn.Notify(protocol.NewRequest(77, nil, nil)) // it is parked now
			return
		}
		if !lane.Submit(parked.Load(), func(c *Call) { c.Answer(Response{Code: 31, Body: c.Req.Body}) }) {
			t.Error("no room")
		}
		c.Answer(Response{Code: 32})
	})
	w := dialWire(t, s.Addr())
	w.send(frame(0, 1, 1, 0, []byte("wait")))
	if a := w.answer(); a.Code != 77 || a.IsResponse() {
		t.Fatalf("got %+v", a)
	}
	w.send(frame(0, 1, 2, 0, nil))
	got := map[int32]*protocol.Command{}
	for range 2 {
		a := w.answer()
		got[a.Opaque] = a
	}
	if got[1] == nil || got[1].Code != 31 || string(got[1].Body) != "wait" || got[2].Code != 32 {
		t.Errorf("answers: %+v, %+v", got[1], got[2])
	}
}

func TestMetrics(t *testing.T) {
	reg := prometheus.NewRegistry()
	m := NewMetrics(reg)
	if NewMetrics(reg) != m {
		t.Error("a registry has two")
	}
	s := serve(t, Options{Metrics: m, MaxInFlight: 1}, funcs{request: func(turn *Turn, c *Call) {
		switch c.Req.Code {
		case 11:
			c.Later().Answer(Response{Code: 19})
		case 12:
			panic("x")
		default:
			c.Answer(Response{Code: -1000})
		}
	}})
	w := dialWire(t, s.Addr())
	for i, code := range []int32{11, 12, 9999, 12345, 200050, -5} {
		w.send(frame(0, code, int32(i), 0, nil))
		w.answer()
	}
	w.send(lengths(0, nil))
	w.closed()
	eventually(t, "it is closed", func() bool { return s.Conns() == 0 })
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, x := range f.GetMetric() {
			name := f.GetName()
			for _, l := range x.GetLabel() {
				if l.GetName() != "port" {
					name += " " + l.GetValue()
				}
			}
			got[name] = x.GetCounter().GetValue() + x.GetGauge().GetValue() + float64(x.GetHistogram().GetSampleCount())
		}
	}
	for name, want := range map[string]float64{
		"gomq_connections":                       0,
		"gomq_requests_total PULL_MESSAGE 19":    1,
		"gomq_requests_total QUERY_MESSAGE 1":    1,
		"gomq_requests_total unknown other":      3,
		"gomq_requests_total POP_MESSAGE other":  1,
		"gomq_request_seconds PULL_MESSAGE":      1,
		"gomq_refusals_total frame-length":       1,
		"gomq_request_panics_total":              1,
		"gomq_request_seconds unknown":           3,
		"gomq_requests_total HEART_BEAT 0":       0,
		"gomq_refusals_total connections":        0,
		"gomq_request_seconds UNREGISTER_CLIENT": 0,
	} {
		if got[name] != want {
			t.Errorf("%s is %v, want %v", name, got[name], want)
		}
	}
}
