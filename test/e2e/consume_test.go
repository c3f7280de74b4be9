package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"

	"gomq/test/goclient"
	"gomq/test/harness"
)

// circle: with the circular strategy two consumers hold every other queue, and a
// broadcast consumer beside them gets everything.
func circle(t *testing.T, w *world) {
	topic := w.topic(t, "Circle")
	s := &share{got: map[string]map[int]int{}}
	all, every := &bag{}, &bag{}
	counted := func(name string) goclient.Handler {
		return func(ctx context.Context, msgs ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
			s.mu.Lock()
			if s.got[name] == nil {
				s.got[name] = map[int]int{}
			}
			for _, m := range msgs {
				s.got[name][m.Queue.QueueId]++
			}
			s.mu.Unlock()
			return all.take(ctx, msgs...)
		}
	}
	goclient.Push(t, w.ns.Addr(), "g-circle-all", topic, "*", every.take, consumer.WithConsumerModel(consumer.BroadCasting))
	for _, name := range []string{"one", "two"} {
		goclient.Push(t, w.ns.Addr(), "g-circle", topic, "*", counted(name), consumer.WithStrategy(consumer.AllocateByAveragelyCircle))
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

// TestConsumeFrom: a new group starts where its consumer says, once the broker
// takes the messages for being on disk; before that every group starts at the
// first message, as in the original.
func TestConsumeFrom(t *testing.T) {
	t.Parallel()
	ns, broker := harness.StartPair(t, harness.Config{Props: map[string]string{"accessMessageInMemoryMaxRatio": "0"}})
	w := &world{ns, broker}
	topic := w.topic(t, "From")
	c := w.dial(t)
	send := func(name string) {
		t.Helper()
		for q := range 4 {
			if _, err := c.Send("pg-from", topic, q, "", []byte(name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	send("old")
	time.Sleep(2100 * time.Millisecond) // the client's timestamp counts whole seconds
	between := time.Now().Format("20060102150405")
	send("new")
	settled(t, c, topic, 4, 8)
	first, stamp, last := &bag{}, &bag{}, &bag{}
	goclient.Push(t, ns.Addr(), "g-first", topic, "*", first.take)
	goclient.Push(t, ns.Addr(), "g-stamp", topic, "*", stamp.take, consumer.WithConsumeFromWhere(consumer.ConsumeFromTimestamp), consumer.WithConsumeTimestamp(between))
	goclient.Push(t, ns.Addr(), "g-last", topic, "*", last.take, consumer.WithConsumeFromWhere(consumer.ConsumeFromLastOffset))
	harness.Eventually(t, 40*time.Second, "all by the first", func() bool { return first.list() == "new new new new old old old old" })
	harness.Eventually(t, 40*time.Second, "the new ones by timestamp", func() bool { return stamp.list() == "new new new new" })
	// The last group has begun when its queues have an owner: what is sent then
	// reaches it, and nothing from before does.
	harness.Eventually(t, 40*time.Second, "what is sent from now on by the last", func() bool {
		send("later")
		time.Sleep(200 * time.Millisecond)
		return strings.Count(last.list(), "later") >= 8
	})
	if got := last.list(); strings.Contains(got, "old") || strings.Contains(got, "new") {
		t.Errorf("from the last offset: %s", got)
	}
}
