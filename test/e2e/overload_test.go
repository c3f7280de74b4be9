package e2e

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gomq/test/checker"
	"gomq/test/goclient"
	"gomq/test/harness"
	"gomq/test/raw"
)

// beside is a normal producer and consumer that run while others are hostile.
type beside struct {
	run    *checker.Run
	cancel context.CancelFunc
	wg     sync.WaitGroup
	sends  atomic.Int64
	worst  atomic.Int64 // longest send, nanoseconds
}

// startBeside keeps one producer and one consumer busy on a topic of their own.
// Neither tries anything twice.
func startBeside(t testing.TB, broker *harness.Server, topic string) *beside {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	b := &beside{run: checker.NewRun(harness.Rand(t)), cancel: cancel}
	producer, consumer := dial(t, broker.Addr()), dial(t, broker.Addr())
	producer.Limit, consumer.Limit = 20*time.Second, 30*time.Second
	if err := producer.NewTopic(topic, 1); err != nil {
		t.Fatal(err)
	}
	b.wg.Add(2)
	go func() {
		defer b.wg.Done()
		for seq := int64(0); ctx.Err() == nil; seq++ {
			m := b.run.Begin(checker.Attempt{ID: checker.ID{Seq: seq}, N: 1}, topic, 0, 300)
			start := time.Now()
			sent, err := producer.Send("pg-beside", topic, 0, goclient.RawProps(m), m.Body)
			if err != nil || sent.Code != raw.Success {
				t.Errorf("the producer beside suffers: %+v, %v", sent, err)
				return
			}
			b.worst.Store(max(b.worst.Load(), int64(time.Since(start))))
			b.run.Acked(m, sent.Queue, sent.Offset, sent.ID)
			b.sends.Add(1)
			time.Sleep(time.Millisecond)
		}
	}()
	go func() {
		defer b.wg.Done()
		for at := int64(0); ; {
			p, err := consumer.Pull("g-beside", topic, 0, at, 32, time.Second)
			if err != nil {
				t.Errorf("the consumer beside suffers: %v", err)
				return
			}
			for _, r := range p.Records {
				b.run.Polled("g-beside", goclient.RawRecord(r))
			}
			at = p.Next
			if ctx.Err() != nil && len(p.Records) == 0 {
				return
			}
		}
	}()
	return b
}

// finish stops both and checks that nothing was lost.
func (b *beside) finish(t testing.TB, broker *harness.Server, topic string) {
	t.Helper()
	harness.Eventually(t, 30*time.Second, "a hundred sends beside", func() bool { return b.sends.Load() >= 100 || t.Failed() })
	b.cancel()
	b.wg.Wait()
	c := dial(t, broker.Addr())
	waitIndex(t, c, b.run)
	goclient.Sweep(t, b.run, "end", c, topic, 1)
	goclient.LookUp(t, b.run, c)
	rules := checker.Rules{NoFaults: true, Once: true, Ordered: true, Drained: true, Groups: []string{"g-beside"}, Lookups: true, PlannedSends: 100}
	if v := b.run.Check(rules); !v.Valid() {
		t.Error(v)
	}
	t.Logf("beside: %d sends, the longest took %v", b.sends.Load(), time.Duration(b.worst.Load()).Round(time.Millisecond))
}

// watchRSS reports the highest memory of a process until stopped.
func watchRSS(s *harness.Server) (stop func() (before, most int64)) {
	before := s.RSS()
	done, result := make(chan struct{}), make(chan int64)
	go func() {
		most := before
		for {
			select {
			case <-done:
				result <- most
				return
			case <-time.After(20 * time.Millisecond):
				if s.Running() {
					most = max(most, s.RSS())
				}
			}
		}
	}()
	return func() (int64, int64) { close(done); return before, <-result }
}

// TestOverload: with low admission limits a flood is refused with code 2
// before anything is appended, what is acknowledged is there, what is refused
// is not, and a producer that keeps to the rate gets its messages in.
func TestOverload(t *testing.T) {
	harness.OnlyGomq(t)
	t.Parallel()
	broker := harness.StartBroker(t, "", harness.Config{Props: map[string]string{
		"flushDiskType": "SYNC_FLUSH", "sendThreadPoolQueueCapacity": "20", "waitTimeMillsInSendQueue": "200",
	}})
	if err := dial(t, broker.Addr()).NewTopic("Flood", 4); err != nil {
		t.Fatal(err)
	}
	run := checker.NewRun(harness.Rand(t))
	stopRSS := watchRSS(broker)
	var wg sync.WaitGroup
	var busy atomic.Int64
	const conns, each = 8, 600
	for p := range conns {
		c := dial(t, broker.Addr())
		c.Limit = 30 * time.Second
		wg.Add(1)
		go func() {
			defer wg.Done()
			// All at once, far above what may wait for the disk.
			type pending struct {
				m    checker.Message
				wait func() (*raw.Command, error)
			}
			var list []pending
			for seq := range each {
				m := run.Begin(checker.Attempt{ID: checker.ID{Producer: p, Seq: int64(seq)}, N: 1}, "Flood", p%4, 500)
				wait, err := c.Go(raw.SendMessage, raw.SendExt("pg-flood", "Flood", p%4, goclient.RawProps(m)), m.Body)
				if err != nil {
					t.Errorf("producer %d: %v", p, err)
					return
				}
				list = append(list, pending{m, wait})
			}
			for _, x := range list {
				cmd, err := x.wait()
				switch {
				case err != nil:
					t.Errorf("%v: %v", x.m.Attempt, err)
					run.Unknown(x.m, err.Error())
				case cmd.Code == raw.Success:
					var q int
					var off int64
					fmt.Sscan(cmd.Ext["queueId"], &q)
					fmt.Sscan(cmd.Ext["queueOffset"], &off)
					run.Acked(x.m, q, off, cmd.Ext["msgId"])
				case cmd.Code == raw.SystemBusy:
					busy.Add(1)
					run.Refused(x.m, cmd.Code, cmd.Remark)
				case cmd.Code == raw.FlushDiskTimeout:
					run.Unknown(x.m, "flush timeout")
				default:
					t.Errorf("%v: code %d: %s", x.m.Attempt, cmd.Code, cmd.Remark)
				}
			}
		}()
	}
	wg.Wait()
	if busy.Load() == 0 {
		t.Error("nothing was refused")
	}
	// Afterwards everything is accepted again.
	c := dial(t, broker.Addr())
	for i := range 20 {
		m := run.Begin(checker.Attempt{ID: checker.ID{Producer: 99, Seq: int64(i)}, N: 1}, "Flood", 0, 500)
		sent, err := c.Send("pg-calm", "Flood", 0, goclient.RawProps(m), m.Body)
		if err != nil || sent.Code != raw.Success {
			t.Fatalf("after the flood: %+v, %v", sent, err)
		}
		run.Acked(m, sent.Queue, sent.Offset, sent.ID)
	}
	waitIndex(t, c, run)
	goclient.Sweep(t, run, "end", c, "Flood", 4)
	goclient.LookUp(t, run, c)
	if v := run.Check(checker.Rules{NoFaults: true, Ordered: true, Lookups: true, PlannedSends: conns * each}); !v.Valid() {
		t.Error(v)
	}
	before, most := stopRSS()
	t.Logf("%d acknowledged, %d refused as busy; RssAnon %d MiB before, %d at most", run.Count(checker.OpAck), busy.Load(), before>>20, most>>20)
	if most-before > 128<<20 {
		t.Errorf("the broker grew by %d MiB", (most-before)>>20)
	}
	m := harness.ReadMetrics(t, broker.HTTP())
	if n, ok := m.Sum("gomq_refusals_total"); !ok || int64(n) < busy.Load() {
		t.Errorf("gomq_refusals_total is %v, %d were refused", n, busy.Load())
	}
}
