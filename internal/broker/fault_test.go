package broker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"gomq/internal/client"
	"gomq/internal/protocol"
	"gomq/internal/role/roletest"
	"gomq/internal/store/segment"
)

// badDisk is the real disk whose syncs of the log can be held or can fail.
type badDisk struct {
	segment.Disk

	mu    sync.Mutex
	held  chan struct{} // not nil: syncs wait until it is closed
	broke error         // not nil: syncs fail with it
}

func (d *badDisk) hold() (release func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.held = make(chan struct{})
	return sync.OnceFunc(func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		close(d.held)
		d.held = nil
	})
}

func (d *badDisk) fail(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.broke = err
}

func (d *badDisk) sync(name string, do func() error) error {
	if !strings.Contains(name, "commitlog") {
		return do()
	}
	d.mu.Lock()
	held, broke := d.held, d.broke
	d.mu.Unlock()
	if held != nil {
		<-held
	}
	if broke != nil {
		return fmt.Errorf("syncing %s: %w", name, broke)
	}
	return do()
}

func (d *badDisk) OpenFile(path string, flag int) (segment.Handle, error) {
	h, err := d.Disk.OpenFile(path, flag)
	if err != nil {
		return nil, err
	}
	return badHandle{h, d}, nil
}

type badHandle struct {
	segment.Handle
	d *badDisk
}

func (h badHandle) Sync() error { return h.d.sync(h.Name(), h.Handle.Sync) }

func (h badHandle) SyncAside(off, n int64) error {
	return h.d.sync(h.Name(), func() error { return h.Handle.SyncAside(off, n) })
}

func (h badHandle) Map(size int64, write bool) (segment.Mapping, error) {
	m, err := h.Handle.Map(size, write)
	if err != nil {
		return nil, err
	}
	return badMapping{m, h.Name(), h.d}, nil
}

type badMapping struct {
	segment.Mapping
	name string
	d    *badDisk
}

func (m badMapping) Sync(off, n int64) error {
	return m.d.sync(m.name, func() error { return m.Mapping.Sync(off, n) })
}

// sendAsync sends in the background.
func (r *rig) sendAsync(body string, props ...string) <-chan outcome {
	out := make(chan outcome, 1)
	h := sendHeader("T", 0, props...)
	go func() {
		s, err := r.c.Send(context.Background(), r.addr, h, []byte(body))
		out <- outcome{s, err}
	}()
	return out
}

type outcome struct {
	client.Sent
	err error
}

// A flush that does not come in time is FLUSH_DISK_TIMEOUT with the ids; WAIT=false
// does not wait; a send that waits counts against the limit of waiting sends.
func TestFlushTimeout(t *testing.T) {
	disk := &badDisk{}
	r := runWith(t, func(o *Options) {
		o.FlushDiskType, o.SyncFlushTimeout, o.SendThreadPoolQueueCapacity = SyncFlush, time.Minute, 2
	}, seams{fs: disk})
	r.create("T", 1)
	r.send("T", 0, "first")
	release := disk.hold()
	defer release()
	a, b := r.sendAsync("a"), r.sendAsync("b")
	r.eventually("two sends do not wait", func() bool { return r.b.send.waiting.Load() == 2 })
	_, err := r.c.Send(t.Context(), r.addr, sendHeader("T", 0), []byte("c"))
	r.refused(err, protocol.SystemBusy, "[OVERLOAD]system busy, start flow control for a while (2 sends wait for the disk or a slave, sendThreadPoolQueueCapacity=2)")
	release()
	for _, w := range []<-chan outcome{a, b} {
		if got := <-w; got.err != nil || got.Code != protocol.Success {
			t.Errorf("answer %+v", got)
		}
	}

	if err := r.c.UpdateConfig(t.Context(), r.addr, "syncFlushTimeout=100"); err != nil {
		t.Fatal(err)
	}
	release = disk.hold()
	defer release()
	if got := <-r.sendAsync("d"); got.err != nil || got.Code != protocol.FlushDiskTimeout || len(got.MsgID) != 32 || got.QueueOffset != 3 {
		t.Errorf("answer %+v", got)
	}
	if got := <-r.sendAsync("e", "WAIT", "false"); got.err != nil || got.Code != protocol.Success || got.QueueOffset != 4 {
		t.Errorf("WAIT=false: %+v", got)
	}
	if p, _ := r.pull("T", 0, 3, "*"); p.Code != protocol.PullNotFound {
		t.Errorf("what is not on the disk can be pulled: %+v", p)
	}
	release()
	r.eventually("the messages do not become visible", func() bool { n, _ := r.c.MaxOffset(t.Context(), r.addr, "T", 0); return n == 5 })
	if n := r.b.send.waiting.Load(); n != 0 {
		t.Errorf("%d sends still counted as waiting", n)
	}
}

// Bytes that are not on the disk yet are bounded, whatever
// brokerFastFailureEnable says.
func TestUndurableLimit(t *testing.T) {
	disk := &badDisk{}
	r := runWith(t, func(o *Options) {
		o.FlushIntervalCommitLog, o.MaxUndurableBytes, o.BrokerFastFailureEnable = 5*time.Millisecond, 10_000, false
	}, seams{fs: disk})
	r.create("T", 1)
	release := disk.hold()
	defer release()
	var err error
	n := 0
	for ; n < 100 && err == nil; n++ {
		_, err = r.c.Send(t.Context(), r.addr, sendHeader("T", 0), make([]byte, 1000))
	}
	r.refused(err, protocol.SystemBusy, "bytes are not on the disk yet, maxUndurableBytes=10000")
	if n < 9 || n > 13 {
		t.Errorf("refused at message %d", n)
	}
	release()
	r.eventually("sends are not taken again", func() bool {
		_, err := r.c.Send(t.Context(), r.addr, sendHeader("T", 0), []byte("x"))
		return err == nil
	})
}

// The limits of decisions.md, one by one.
func TestAdmission(t *testing.T) {
	r := run(t, nil)
	s := r.b.send
	w := &outgoing{staged: make([]staged, 3)}
	o := *r.live.Load()
	old := time.Now().Add(-time.Second)
	if err := s.admit(w, time.Now(), &o); err != nil {
		t.Errorf("an idle broker: %v", err)
	}
	r.refused(s.admit(w, old, &o), protocol.SystemBusy, "[TIMEOUT_CLEAN_QUEUE]broker busy, start flow control for a while, period in queue: 100")
	if got := s.refused.age.Load(); got != 3 {
		t.Errorf("%d sends counted as refused for their age", got)
	}
	s.waiting.Store(int64(o.SendThreadPoolQueueCapacity) - 2)
	r.refused(s.admit(w, time.Now(), &o), protocol.SystemBusy, "[OVERLOAD]")
	o.BrokerFastFailureEnable = false
	if err := s.admit(w, old, &o); err != nil {
		t.Errorf("with brokerFastFailureEnable=false: %v", err)
	}
	s.waiting.Store(0)
}

// An error of the disk under the log ends the broker: no false SEND_OK, an error
// from Wait, not ready, and a stop that does not take long.
func TestDiskFails(t *testing.T) {
	for _, flush := range []FlushType{AsyncFlush, SyncFlush} {
		t.Run(string(flush), func(t *testing.T) {
			disk := &badDisk{}
			r := runWith(t, func(o *Options) { o.FlushDiskType, o.FlushIntervalCommitLog = flush, 5*time.Millisecond }, seams{fs: disk})
			r.create("T", 1)
			r.send("T", 0, "good")
			boom := errors.New("input/output error")
			release := disk.hold()
			disk.fail(boom)
			got := r.sendAsync("bad")
			if flush == SyncFlush {
				r.eventually("the send does not wait", func() bool { return r.b.send.waiting.Load() == 1 })
			}
			release()
			if flush == SyncFlush {
				// Appended and not known to be durable: neither OK nor refused.
				if g := <-got; g.err != nil || g.Code != protocol.FlushDiskTimeout || len(g.MsgID) != 32 {
					t.Errorf("a send whose flush failed was answered %+v", g)
				}
			} else {
				<-got
			}
			start := time.Now()
			if err := r.b.Wait(); !errors.Is(err, boom) {
				t.Errorf("the broker ended with %v", err)
			}
			if err := r.b.Ready(); !errors.Is(err, boom) {
				t.Errorf("Ready says %v", err)
			}
			_, err := r.c.Send(t.Context(), r.addr, sendHeader("T", 0), []byte("x"))
			r.refused(err, protocol.ServiceNotAvailable, "service not available now.")
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			if err := r.b.Stop(ctx); !errors.Is(err, boom) {
				t.Errorf("Stop says %v", err)
			}
			if took := time.Since(start); took > 5*time.Second {
				t.Errorf("the end took %v", took)
			}
		})
	}
}

// Two brokers cannot have one store; the second says so and leaves the first alone.
func TestStoreLocked(t *testing.T) {
	r := run(t, nil)
	r.create("T", 1)
	o := *r.live.Load()
	if _, _, err := tryStart(t, &o, nil, seams{}); err == nil || !strings.Contains(err.Error(), "lock") {
		t.Errorf("%v", err)
	}
	r.send("T", 0, "x")
}

// A port that is taken is named, and what had been started is ended again: the
// same store opens at once on another port.
func TestPortTaken(t *testing.T) {
	r := run(t, nil)
	o := rigOptions(t.TempDir())
	o.ListenPort, o.FastListenPort, o.HAListenPort = r.live.Load().ListenPort, r.live.Load().FastListenPort, roletest.FreePort(t)
	if _, err := start(t.Context(), NewLive(o), nil, nil, seams{now: time.Now, memory: 1 << 30}); err == nil || !strings.Contains(err.Error(), fmt.Sprint("listenPort=", o.ListenPort)) {
		t.Fatalf("%v", err)
	}
	o.ListenPort = roletest.FreePort(t)
	o.FastListenPort = r.live.Load().FastListenPort
	if _, err := start(t.Context(), NewLive(o), nil, nil, seams{now: time.Now, memory: 1 << 30}); err == nil || !strings.Contains(err.Error(), "listenPort-2") {
		t.Fatalf("%v", err)
	}
	runOn(t, o, seams{}).create("T", 1)
}
