package e2e

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/apache/rocketmq-client-go/v2/producer"

	"gomq/test/checker"
	"gomq/test/goclient"
	"gomq/test/harness"
)

// share counts what each consumer of a group got from which queue.
type share struct {
	mu  sync.Mutex
	got map[string]map[int]int
}

// count counts for the consumer name and hands on.
func (s *share) count(name string, then goclient.Handler) goclient.Handler {
	return func(ctx context.Context, msgs ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
		s.mu.Lock()
		if s.got[name] == nil {
			s.got[name] = map[int]int{}
		}
		for _, m := range msgs {
			s.got[name][m.Queue.QueueId]++
		}
		s.mu.Unlock()
		return then(ctx, msgs...)
	}
}

// reset forgets what was counted and returns it.
func (s *share) reset() map[string]map[int]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	got := s.got
	s.got = map[string]map[int]int{}
	return got
}

func rebalance(t *testing.T, w *world) {
	topic, group := w.topic(t, "Rebalance"), "g-balance"
	run := checker.NewRun(harness.Rand(t))
	s := &share{got: map[string]map[int]int{}}
	p := goclient.Producer(t, w.ns.Addr(), "pg-balance")
	seq := int64(0)
	// round sends to all queues until the messages of one round have been
	// taken by as many consumers as expected, each with queues of its own.
	round := func(consumers int) {
		t.Helper()
		harness.Eventually(t, 40*time.Second, fmt.Sprintf("four queues shared by %d consumers", consumers), func() bool {
			s.reset()
			before := run.Count(checker.OpPoll)
			for q := range 4 {
				for range 2 {
					m := run.Begin(checker.Attempt{ID: checker.ID{Seq: seq}, N: 1}, topic, q, 100)
					seq++
					res, err := p.SendSync(background(t), goclient.Message(m, "broker-a"))
					if err != nil {
						t.Fatal(err)
					}
					run.Acked(m, res.MessageQueue.QueueId, res.QueueOffset, res.OffsetMsgID)
				}
			}
			harness.Eventually(t, 30*time.Second, "the round delivered", func() bool { return run.Count(checker.OpPoll) >= before+8 })
			got, owners := s.reset(), map[int]int{}
			for _, queues := range got {
				for q := range queues {
					owners[q]++
				}
			}
			return len(got) == consumers && len(owners) == 4 && owners[0]+owners[1]+owners[2]+owners[3] == 4
		})
	}
	selector := producer.WithQueueSelector(producer.NewManualQueueSelector())
	p = goclient.Producer(t, w.ns.Addr(), "pg-balance-manual", selector)
	goclient.Push(t, w.ns.Addr(), group, topic, "*", s.count("one", goclient.Collect(run, group)))
	round(1)
	stop := goclient.Push(t, w.ns.Addr(), group, topic, "*", s.count("two", goclient.Collect(run, group)))
	round(2)
	stop()
	round(1)
	goclient.Sweep(t, run, "end", w.dial(t), topic, 4)
	if v := run.Check(checker.Rules{NoFaults: true, Drained: true, Groups: []string{group}}); !v.Valid() {
		t.Fatal(v)
	}
}

func broadcast(t *testing.T, w *world) {
	topic := w.topic(t, "Broadcast")
	run := fill(t, w, topic, 30)
	both := []string{"one", "two"}
	for _, name := range both {
		goclient.Push(t, w.ns.Addr(), "g-broadcast", topic, "*", goclient.Collect(run, name), consumer.WithConsumerModel(consumer.BroadCasting))
	}
	fillMore(t, w, run, topic, 30, 60)
	harness.Eventually(t, 30*time.Second, "60 messages delivered to both", func() bool { return run.Count(checker.OpPoll) >= 120 })
	goclient.Sweep(t, run, "end", w.dial(t), topic, 4)
	if v := run.Check(checker.Rules{NoFaults: true, Once: true, Drained: true, Groups: both}); !v.Valid() {
		t.Fatal(v)
	}
	if n := committed(t, w.dial(t), "g-broadcast", topic, 4); n != 0 {
		t.Fatalf("a broadcast group has committed %d at the broker", n)
	}
}

// orderly: a consumer that locks its queues gets each of them in order, one
// message after another.
func orderly(t *testing.T, w *world) {
	topic := w.topic(t, "Orderly")
	run := fill(t, w, topic, 80)
	record := goclient.Collect(run, "g-orderly")
	var mu sync.Mutex
	next := map[int]int64{}
	goclient.Push(t, w.ns.Addr(), "g-orderly", topic, "*", func(ctx context.Context, msgs ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
		mu.Lock()
		defer mu.Unlock()
		for _, m := range msgs {
			if q := m.Queue.QueueId; m.QueueOffset != next[q] {
				t.Errorf("queue %d: offset %d instead of %d", q, m.QueueOffset, next[q])
			}
			next[m.Queue.QueueId] = m.QueueOffset + 1
		}
		return record(ctx, msgs...)
	}, consumer.WithConsumerOrder(true))
	fillMore(t, w, run, topic, 80, 120)
	harness.Eventually(t, 60*time.Second, "120 messages delivered", func() bool { return run.Count(checker.OpPoll) >= 120 })
	goclient.Sweep(t, run, "end", w.dial(t), topic, 4)
	if v := run.Check(checker.Rules{NoFaults: true, Once: true, Drained: true, Groups: []string{"g-orderly"}, PlannedSends: 120}); !v.Valid() {
		t.Fatal(v)
	}
}

// circle: with the circular strategy two consumers hold every other queue, and a
// broadcast consumer beside them gets everything.
func circle(t *testing.T, w *world) {
	topic := w.topic(t, "Circle")
	s := &share{got: map[string]map[int]int{}}
	all, every := &bag{}, &bag{}
	goclient.Push(t, w.ns.Addr(), "g-circle-all", topic, "*", every.take, consumer.WithConsumerModel(consumer.BroadCasting))
	for _, name := range []string{"one", "two"} {
		goclient.Push(t, w.ns.Addr(), "g-circle", topic, "*", s.count(name, all.take), consumer.WithStrategy(consumer.AllocateByAveragelyCircle))
	}
	c, sent := w.dial(t), 0
	harness.Eventually(t, 60*time.Second, "every other queue for each", func() bool {
		s.reset()
		for q := range 4 {
			if _, err := c.Send("pg-circle", topic, q, "", fmt.Appendf(nil, "c%d", sent)); err != nil {
				t.Fatal(err)
			}
			sent++
		}
		harness.Eventually(t, 30*time.Second, "the round delivered", func() bool { return all.size() >= sent })
		got := s.reset()
		for _, queues := range got {
			if len(queues) != 2 || (queues[0] > 0) != (queues[2] > 0) {
				return false
			}
		}
		return len(got) == 2
	})
	harness.Eventually(t, 30*time.Second, "everything by broadcast", func() bool { return every.size() == sent })
}

// broadcastAgain: the offsets of a broadcast consumer are its own, kept by the
// client, so that it goes on where it was.
func broadcastAgain(t *testing.T, w *world) {
	topic := w.topic(t, "BroadcastAgain")
	c := w.dial(t)
	send := func(name string) {
		t.Helper()
		for q := range 4 {
			if _, err := c.Send("pg-again", topic, q, "", []byte(name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	send("one")
	instance := fmt.Sprint("again-", time.Now().UnixNano()) // names the client's file
	for _, want := range []string{"one one one one", "two two two two"} {
		got := &bag{}
		stop := goclient.Push(t, w.ns.Addr(), "g-again", topic, "*", got.take, consumer.WithConsumerModel(consumer.BroadCasting), consumer.WithInstance(instance))
		harness.Eventually(t, 40*time.Second, want, func() bool { return got.list() == want })
		stop()
		send("two")
	}
}
