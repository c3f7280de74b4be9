package e2e

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"

	"gomq/test/checker"
	"gomq/test/goclient"
	"gomq/test/harness"
	"gomq/test/raw"
)

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

func pushConsumer(t *testing.T, w *world) {
	topic := w.topic(t, "Push")
	run := fill(t, w, topic, 60)
	stop := goclient.Push(t, w.ns.Addr(), "g-push", topic, "*", goclient.Collect(run, "g-push"))
	harness.Eventually(t, 30*time.Second, "60 messages delivered", func() bool { return run.Count(checker.OpPoll) >= 60 })
	fillMore(t, w, run, topic, 60, 200) // these come by long polls
	harness.Eventually(t, 30*time.Second, "200 messages delivered", func() bool { return run.Count(checker.OpPoll) >= 200 })
	stop()
	// The shutdown has sent the group's offsets, one-way.
	c := w.dial(t)
	harness.Eventually(t, 10*time.Second, "the group's offsets at the end", func() bool { return committed(t, c, "g-push", topic, 4) == 200 })
	if n := run.Count(checker.OpPoll); n != 200 {
		t.Fatalf("%d deliveries of 200 messages", n)
	}
	goclient.Sweep(t, run, "end", c, topic, 4)
	if v := run.Check(checker.Rules{NoFaults: true, Once: true, Drained: true, Groups: []string{"g-push"}, PlannedSends: 200}); !v.Valid() {
		t.Fatal(v)
	}
}

func pullConsumer(t *testing.T, w *world) {
	topic := w.topic(t, "PollAck")
	run := fill(t, w, topic, 50)
	pc := goclient.Pull(t, w.ns.Addr(), "g-poll", topic)
	deadline := time.Now().Add(40 * time.Second)
	for run.Count(checker.OpPoll) < 50 && time.Now().Before(deadline) {
		req, err := pc.Poll(context.Background(), time.Second)
		if consumer.IsNoNewMsgError(err) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range req.GetMsgList() {
			run.Polled("g-poll", goclient.Record(m))
		}
		pc.ACK(context.Background(), req, consumer.ConsumeSuccess)
	}
	if err := pc.PersistOffset(context.Background(), topic); err != nil {
		t.Fatal(err)
	}
	c := w.dial(t)
	harness.Eventually(t, 10*time.Second, "the group's offsets at the end", func() bool { return committed(t, c, "g-poll", topic, 4) == 50 })
	goclient.Sweep(t, run, "end", c, topic, 4)
	if v := run.Check(checker.Rules{NoFaults: true, Once: true, Drained: true, Groups: []string{"g-poll"}, PlannedSends: 50}); !v.Valid() {
		t.Fatal(v)
	}
}

func pullFrom(t *testing.T, w *world) {
	topic := w.topic(t, "PullFrom")
	run := fill(t, w, topic, 40)
	settled(t, w.dial(t), topic, 4, 40)
	pc := goclient.Pull(t, w.ns.Addr(), "g-from", topic)
	for q := range 4 {
		mq := &primitive.MessageQueue{Topic: topic, BrokerName: "broker-a", QueueId: q}
		// A pull at the end is not made here: this client lets the broker hold
		// it for 20 seconds.
		for at, high := int64(0), int64(1); at < high; {
			res, err := pc.PullFrom(background(t), mq, at, 7)
			if err != nil || res.Status != primitive.PullFound {
				t.Fatalf("queue %d at %d: %v, %v", q, at, res, err)
			}
			high = res.MaxOffset
			msgs := res.GetMessageExts()
			if len(msgs) == 0 || len(msgs) > 7 || msgs[0].QueueOffset != at || res.NextBeginOffset != at+int64(len(msgs)) {
				t.Fatalf("queue %d at %d: %d messages, %v", q, at, len(msgs), res)
			}
			for _, m := range msgs {
				run.Polled("g-from", goclient.Record(m))
			}
			at = res.NextBeginOffset
		}
		// Beyond the end: the broker says where to go on.
		res, err := pc.PullFrom(background(t), mq, 1000, 7)
		if err != nil || res.Status != primitive.PullOffsetIllegal || res.NextBeginOffset != res.MaxOffset {
			t.Fatalf("queue %d at 1000: %v, %v", q, res, err)
		}
	}
	goclient.Sweep(t, run, "end", w.dial(t), topic, 4)
	if v := run.Check(checker.Rules{NoFaults: true, Once: true, Drained: true, Groups: []string{"g-from"}, PlannedSends: 40}); !v.Valid() {
		t.Fatal(v)
	}
}

func tags(t *testing.T, w *world) {
	topic := w.topic(t, "Tags")
	p := goclient.Producer(t, w.ns.Addr(), "pg-tags")
	for i := range 90 {
		msg := primitive.NewMessage(topic, content(i, 20)).WithTag([]string{"red", "green", "blue"}[i%3])
		if _, err := p.SendSync(background(t), msg); err != nil {
			t.Fatal(err)
		}
	}
	var mu sync.Mutex
	got := map[string]map[string]int{}
	for group, expr := range map[string]string{"g-red": "red", "g-two": "green || blue", "g-all": "*", "g-none": "black"} {
		got[group] = map[string]int{}
		goclient.Push(t, w.ns.Addr(), group, topic, expr, func(_ context.Context, msgs ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
			mu.Lock()
			defer mu.Unlock()
			for _, m := range msgs {
				got[group][m.GetTags()]++
			}
			return consumer.ConsumeSuccess, nil
		})
	}
	total := func(group string) int {
		mu.Lock()
		defer mu.Unlock()
		n := 0
		for _, k := range got[group] {
			n += k
		}
		return n
	}
	harness.Eventually(t, 30*time.Second, "all tagged messages delivered", func() bool {
		return total("g-red") == 30 && total("g-two") == 60 && total("g-all") == 90
	})
	mu.Lock()
	defer mu.Unlock()
	if got["g-red"]["red"] != 30 || got["g-two"]["green"] != 30 || got["g-two"]["blue"] != 30 || len(got["g-none"]) != 0 {
		t.Fatalf("%v", got)
	}

	settled(t, w.dial(t), topic, 4, 90)
	// The broker filters, not only the client: nothing comes over the wire
	// for a tag that no message has, and the offset goes on.
	c := w.dial(t)
	for q := range 4 {
		high, err := c.Offset(raw.MaxOffset, topic, q)
		if err != nil {
			t.Fatal(err)
		}
		cmd, err := c.Call(raw.PullMessage, map[string]string{"consumerGroup": "g-black", "topic": topic, "queueId": fmt.Sprint(q),
			"queueOffset": "0", "maxMsgNums": "32", "sysFlag": "4", "commitOffset": "0", "suspendTimeoutMillis": "0",
			"subscription": "black", "subVersion": "0", "expressionType": "TAG"}, nil)
		if err != nil || cmd.Code != raw.PullRetry || len(cmd.Body) != 0 || cmd.Ext["nextBeginOffset"] != fmt.Sprint(high) {
			t.Fatalf("queue %d: %+v, %v; the queue ends at %d", q, cmd, err, high)
		}
	}
}
