package e2e

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	rocketmq "github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/apache/rocketmq-client-go/v2/producer"

	"gomq/test/checker"
	"gomq/test/goclient"
	"gomq/test/harness"
	"gomq/test/raw"
)

// sender sends one message after another to one queue, each until it is
// acknowledged, and records every attempt.
type sender struct {
	run    *checker.Run
	client rocketmq.Producer
	id     int
	topic  string
	queue  int
	acked  atomic.Int64
}

// send goes on until ctx is done.
func (s *sender) send(ctx context.Context) {
	for seq := int64(0); ctx.Err() == nil; seq++ {
		for n := 1; ctx.Err() == nil; n++ {
			if s.attempt(checker.Attempt{ID: checker.ID{Producer: s.id, Seq: seq}, N: n}) {
				s.acked.Add(1)
				break
			}
		}
	}
}

func (s *sender) attempt(a checker.Attempt) bool {
	m := s.run.Begin(a, s.topic, s.queue, 100+int(a.Seq%400))
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	res, err := s.client.SendSync(ctx, goclient.Message(m, "broker-a"))
	switch {
	case err == nil && res.Status == primitive.SendOK:
		s.run.Acked(m, res.MessageQueue.QueueId, res.QueueOffset, res.OffsetMsgID)
		return true
	case err == nil:
		s.run.Unknown(m, fmt.Sprint("status ", res.Status))
	case strings.HasPrefix(err.Error(), "CODE: "):
		// An answer that says "not stored": 2, 14, 16, 17 and their kin.
		s.run.Refused(m, -1, err.Error())
		time.Sleep(10 * time.Millisecond)
	default:
		s.run.Unknown(m, err.Error())
		time.Sleep(10 * time.Millisecond)
	}
	return false
}

// TestRestartWhileSending: three producers send and a consumer group consumes
// while the broker is stopped or killed twice. Everything acknowledged comes
// back, in order, no more often than it was sent.
func TestRestartWhileSending(t *testing.T) {
	for _, flush := range []string{"SYNC_FLUSH", "ASYNC_FLUSH"} {
		for how, bounce := range map[string]func(*harness.Server){
			"Kill": func(s *harness.Server) { s.Kill(); s.Start() },
			"Stop": func(s *harness.Server) { s.Restart() },
		} {
			t.Run(how+"/"+flush, func(t *testing.T) {
				t.Parallel()
				restartWhileSending(t, flush, how, bounce)
			})
		}
	}
}

func restartWhileSending(t *testing.T, flush, how string, bounce func(*harness.Server)) {
	ns, broker := harness.StartPair(t, harness.Config{Props: map[string]string{
		"flushDiskType": flush, "flushConsumerOffsetInterval": "1000",
		"mappedFileSizeCommitLog": fmt.Sprint(1 << 20), // some files are filled
	}})
	w := &world{ns, broker}
	topic := w.topic(t, "Restart")
	run, rng := checker.NewRun(harness.Rand(t)), harness.Rand(t)
	goclient.Push(t, ns.Addr(), "g-restart", topic, "*", goclient.Collect(run, "g-restart"))

	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var wg sync.WaitGroup
	var senders []*sender
	const resends = 2 // of the third producer, by the client itself
	for id := range 3 {
		opts := []producer.Option{producer.WithQueueSelector(producer.NewManualQueueSelector())}
		if id == 2 {
			opts = append(opts, producer.WithRetry(resends))
		}
		s := &sender{run: run, id: id, topic: topic, queue: id, client: goclient.Producer(t, ns.Addr(), fmt.Sprint("pg-restart-", id), opts...)}
		senders = append(senders, s)
		wg.Add(1)
		go func() { defer wg.Done(); s.send(ctx) }()
	}
	t.Cleanup(func() { stop(); wg.Wait() })
	acked := func() (least int64) {
		least = senders[0].acked.Load()
		for _, s := range senders {
			least = min(least, s.acked.Load())
		}
		return least
	}
	more := func(n int64) {
		t.Helper()
		goal := acked() + n
		harness.Eventually(t, 90*time.Second, fmt.Sprintf("%d messages acknowledged for each producer", goal), func() bool { return acked() >= goal })
	}
	for range 2 {
		more(100 + rng.Int64N(200))
		at := time.Now()
		bounce(broker)
		if how == "Kill" {
			run.Killed("broker", "kill -9", at)
		}
		more(20)
	}
	stop()
	wg.Wait()

	// The group gets everything; the client needs up to 30 seconds to notice
	// that a pull of its is lost.
	c := w.dial(t)
	total := end(t, c, topic, 4)
	delivered := func() int {
		seen := map[string]bool{}
		for _, e := range run.Events() {
			if e.Op == checker.OpPoll {
				seen[fmt.Sprint(e.Queue, "@", e.Offset)] = true
			}
		}
		return len(seen)
	}
	harness.Eventually(t, 90*time.Second, "everything delivered", func() bool { return delivered() >= int(total) })
	waitIndex(t, c, run)
	goclient.Sweep(t, run, "end", c, topic, 4)
	goclient.LookUp(t, run, c)
	rules := checker.Rules{CommitLag: 2 * time.Second, Ordered: true, Drained: true, Groups: []string{"g-restart"}, Lookups: true, Resends: resends, PlannedSends: 360}
	if how == "Kill" {
		rules.PlannedKills = 2
	}
	if v := run.Check(rules); !v.Valid() {
		t.Fatal(v)
	}
	t.Logf("%d attempts, %d acknowledged, %d refused, %d unknown, %d deliveries", run.Count(checker.OpSend), run.Count(checker.OpAck),
		run.Count(checker.OpRefused), run.Count(checker.OpUnknown), run.Count(checker.OpPoll))
}

// TestStateSurvives: offsets, topics and groups are there after a clean stop
// and after a kill.
func TestStateSurvives(t *testing.T) {
	t.Parallel()
	ns, broker := harness.StartPair(t, harness.Config{Props: map[string]string{"flushConsumerOffsetInterval": "1000"}})
	w := &world{ns, broker}
	topic := w.topic(t, "Survives")
	c := w.dial(t)
	for i := range 12 {
		if _, err := c.Send("pg", topic, i%4, raw.Props("KEYS", fmt.Sprint("s", i)), content(i, 100)); err != nil {
			t.Fatal(err)
		}
	}
	places := func() (p [4]int64) {
		c := w.dial(t)
		for q := range p {
			n, err := c.Committed("g-survives", topic, q)
			if err != nil {
				t.Fatal(err)
			}
			p[q] = n
		}
		return p
	}
	commit := func(p [4]int64) {
		t.Helper()
		for q, n := range p {
			if err := w.dial(t).Commit("g-survives", topic, q, n); err != nil {
				t.Fatal(err)
			}
		}
	}
	want := [4]int64{3, 2, 1, 0}
	commit(want)
	broker.Restart()
	if got := places(); got != want {
		t.Fatalf("offsets after a clean stop %v, committed %v", got, want)
	}
	// After a kill nothing older than the persist interval is lost. The file
	// says when it has been written.
	want = [4]int64{3, 3, 2, 1}
	commit(want)
	harness.Eventually(t, 20*time.Second, "the offsets in the file", func() bool {
		return strings.Contains(readFile(t, broker.Store()+"/config/consumerOffset.json"), "1:3,2:2,3:1")
	})
	// A topic and a group are on disk when their creation has been answered.
	if err := w.dial(t).NewTopic("MadeLast", 5); err != nil {
		t.Fatal(err)
	}
	if err := w.dial(t).NewGroup("g-last"); err != nil {
		t.Fatal(err)
	}
	broker.Kill()
	broker.Start()
	if got := places(); got != want {
		t.Fatalf("offsets after a kill %v, committed %v", got, want)
	}
	if _, err := w.dial(t).Send("pg", "MadeLast", 4, "", []byte("x")); err != nil {
		t.Fatalf("the topic made last: %v", err)
	}
	r := waitRoute(t, ns.Addr(), "MadeLast")
	if r.QueueDatas[0].WriteQueueNums != 5 {
		t.Fatalf("%+v", r)
	}
	cmd, err := w.dial(t).Do(raw.AllGroups, nil, nil)
	if err != nil || !strings.Contains(string(cmd.Body), `"groupName":"g-last"`) {
		t.Fatalf("the group made last is not in %s, %v", cmd.Body, err)
	}
	for q := range 4 {
		recs, err := w.dial(t).Sweep(topic, q)
		if err != nil || len(recs) != 3 {
			t.Fatalf("queue %d: %d records, %v", q, len(recs), err)
		}
	}
}

// TestSyncFlushIsDurable: under SYNC_FLUSH the log is durable beyond a message
// before its SEND_OK; under ASYNC_FLUSH soon after.
func TestSyncFlushIsDurable(t *testing.T) {
	harness.OnlyGomq(t)
	t.Parallel()
	for _, flush := range []string{"SYNC_FLUSH", "ASYNC_FLUSH"} {
		broker := harness.StartBroker(t, "", harness.Config{Props: map[string]string{"flushDiskType": flush}})
		w := &world{nil, broker}
		c := w.dial(t)
		if err := c.NewTopic("Durable", 1); err != nil {
			t.Fatal(err)
		}
		durable := func() int64 {
			m := harness.ReadMetrics(t, broker.HTTP())
			n, ok := m.Sum("gomq_store_log_durable_offset_bytes")
			if !ok {
				t.Fatal("no metric gomq_store_log_durable_offset_bytes")
			}
			return int64(n)
		}
		for i := range 10 {
			if _, err := c.Send("pg", "Durable", 0, "", content(i, 500)); err != nil {
				t.Fatal(err)
			}
			p, err := c.Pull("g", "Durable", 0, int64(i), 1, 0)
			if err != nil || len(p.Records) != 1 {
				t.Fatalf("%+v, %v", p, err)
			}
			beyond := p.Records[0].PhyOffset + 500
			if flush == "SYNC_FLUSH" {
				if d := durable(); d <= beyond {
					t.Fatalf("message %d reaches beyond %d and was acknowledged while the log is durable to %d", i, beyond, d)
				}
			} else {
				harness.Eventually(t, 5*time.Second, "the log to be durable", func() bool { return durable() > beyond })
			}
		}
	}
}

// TestSlaveMissing: SYNC_MASTER without a slave stores and answers 11, never
// SEND_OK; a message that does not wait is answered with 0.
func TestSlaveMissing(t *testing.T) {
	t.Parallel()
	broker := harness.StartBroker(t, "", harness.Config{Props: map[string]string{"brokerRole": "SYNC_MASTER"}})
	c := dial(t, broker.Addr())
	if err := c.NewTopic("NoSlave", 1); err != nil {
		t.Fatal(err)
	}
	s, err := c.Send("pg", "NoSlave", 0, raw.Props("WAIT", "true"), []byte("waits"))
	if err != nil || s.Code != raw.SlaveNotAvailable {
		t.Fatalf("%+v, %v", s, err)
	}
	if s, err = c.Send("pg", "NoSlave", 0, raw.Props("WAIT", "false"), []byte("does not wait")); err != nil || s.Code != raw.Success {
		t.Fatalf("%+v, %v", s, err)
	}
	harness.Eventually(t, 5*time.Second, "both messages to be pulled", func() bool {
		p, err := c.Pull("g", "NoSlave", 0, 0, 32, 0)
		var code *raw.CodeError
		if errors.As(err, &code) {
			t.Fatal(err)
		}
		return err == nil && len(p.Records) == 2
	})
}
