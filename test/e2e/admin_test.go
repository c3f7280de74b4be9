package e2e

import (
	"encoding/json"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/apache/rocketmq-client-go/v2/admin"
	"github.com/apache/rocketmq-client-go/v2/primitive"

	"gomq/test/checker"
	"gomq/test/goclient"
	"gomq/test/harness"
	"gomq/test/raw"
)

// autoCreate: the first send makes the topic, the first use the group.
func autoCreate(t *testing.T, w *world) {
	topic, group := "AutoCreated", "g-auto"
	if _, err := dial(t, w.ns.Addr()).Route(topic); err == nil {
		t.Fatal("the topic exists before it was used")
	}
	run := fill(t, w, topic, 20)
	route := waitRoute(t, w.ns.Addr(), topic)
	if len(route.QueueDatas) != 1 || route.QueueDatas[0].WriteQueueNums != 4 || route.QueueDatas[0].ReadQueueNums != 4 || route.QueueDatas[0].Perm != 6 {
		t.Fatalf("%+v", route)
	}
	goclient.Push(t, w.ns.Addr(), group, topic, "*", goclient.Collect(run, group))
	harness.Eventually(t, 30*time.Second, "20 messages delivered", func() bool { return run.Count(checker.OpPoll) >= 20 })
	g, err := goclient.Admin(t, w.ns.Addr()).GetAllSubscriptionGroup(background(t), w.broker.Addr(), 3*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if g.SubscriptionGroupTable[group].GroupName != group {
		t.Fatalf("the group is not in %v", g.SubscriptionGroupTable)
	}
	// Its retry topic has come with it.
	waitRoute(t, w.ns.Addr(), "%RETRY%"+group)
	goclient.Sweep(t, run, "end", w.dial(t), topic, 4)
	if v := run.Check(checker.Rules{NoFaults: true, Drained: true, Groups: []string{group}}); !v.Valid() {
		t.Fatal(v)
	}
}

func topics(t *testing.T, w *world) {
	a := goclient.Admin(t, w.ns.Addr())
	listed := func(topic string) bool {
		t.Helper()
		list, err := a.FetchAllTopicList(background(t))
		if err != nil {
			t.Fatal(err)
		}
		return slices.Contains(list.TopicList, topic)
	}
	create := func(topic string, queues int) {
		t.Helper()
		err := a.CreateTopic(background(t), admin.WithTopicCreate(topic), admin.WithBrokerAddrCreate(w.broker.Addr()),
			admin.WithReadQueueNums(queues), admin.WithWriteQueueNums(queues))
		if err != nil {
			t.Fatal(err)
		}
	}
	const topic = "ByAdmin"
	create(topic, 6)
	route := waitRoute(t, w.ns.Addr(), topic)
	if route.QueueDatas[0].WriteQueueNums != 6 || route.BrokerDatas[0].BrokerAddrs["0"] != w.broker.Addr() {
		t.Fatalf("%+v", route)
	}
	if !listed(topic) {
		t.Fatal("the topic list does not hold the new topic")
	}
	queues, err := a.FetchPublishMessageQueues(background(t), topic)
	if err != nil || len(queues) != 6 {
		t.Fatalf("%d queues, %v", len(queues), err)
	}
	// An update changes the number of queues.
	create(topic, 8)
	harness.Eventually(t, 20*time.Second, "the route with 8 queues", func() bool {
		r, err := dial(t, w.ns.Addr()).Route(topic)
		return err == nil && r.QueueDatas[0].WriteQueueNums == 8
	})
	if _, err := w.dial(t).Send("pg-admin", topic, 7, "", []byte("x")); err != nil {
		t.Fatal(err)
	}
	err = a.DeleteTopic(background(t), admin.WithTopicDelete(topic), admin.WithBrokerAddrDelete(w.broker.Addr()))
	if err != nil {
		t.Fatal(err)
	}
	var code *raw.CodeError
	if _, err := dial(t, w.ns.Addr()).Route(topic); !errors.As(err, &code) || code.Code != raw.TopicNotExist {
		t.Fatalf("route of a deleted topic: %v", err)
	}
	if listed(topic) {
		t.Fatal("the topic list holds the deleted topic")
	}
	// A name that would leave the store's directory is refused.
	if err := w.dial(t).NewTopic("../../escape", 1); !errors.As(err, &code) {
		t.Fatalf("topic ../../escape: %v", err)
	}
}

func groups(t *testing.T, w *world) {
	a, c := goclient.Admin(t, w.ns.Addr()), w.dial(t)
	const group = "g-made"
	table := func() map[string]admin.SubscriptionGroupConfig {
		t.Helper()
		g, err := a.GetAllSubscriptionGroup(background(t), w.broker.Addr(), 3*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		return g.SubscriptionGroupTable
	}
	set := func(retries int) {
		t.Helper()
		body, _ := json.Marshal(map[string]any{"groupName": group, "consumeEnable": true, "consumeFromMinEnable": true, "consumeBroadcastEnable": true,
			"retryQueueNums": 1, "retryMaxTimes": retries, "brokerId": 0, "whichBrokerWhenConsumeSlowly": 1, "notifyConsumerIdsChangedEnable": true})
		if _, err := c.Do(raw.CreateGroup, nil, body); err != nil {
			t.Fatal(err)
		}
	}
	set(5)
	if g := table()[group]; g.GroupName != group || g.RetryMaxTimes != 5 || !g.ConsumeEnable {
		t.Fatalf("%+v", g)
	}
	set(7)
	if g := table()[group]; g.RetryMaxTimes != 7 {
		t.Fatalf("%+v", g)
	}
	if _, err := c.Do(raw.DeleteGroup, map[string]string{"groupName": group, "removeOffset": "true"}, nil); err != nil {
		t.Fatal(err)
	}
	if _, ok := table()[group]; ok {
		t.Fatal("the group is still there after it was deleted")
	}
}

// TestTwoNameservers: the broker registers with every nameserver, clients go
// on when one is gone, and one that comes back without memory learns all again.
func TestTwoNameservers(t *testing.T) {
	t.Parallel()
	one := harness.StartNamesrv(t, harness.Config{})
	two := harness.StartNamesrv(t, harness.Config{})
	both := one.Addr() + ";" + two.Addr()
	broker := harness.StartBroker(t, both, harness.Config{Props: map[string]string{"registerNameServerPeriod": "10000"}})
	w := &world{two, broker}
	topic := w.topic(t, "TwoServers")
	waitRoute(t, one.Addr(), topic)

	run := checker.NewRun(harness.Rand(t))
	p := goclient.Producer(t, both, "pg-two")
	send := func(n int64) {
		t.Helper()
		m := run.Begin(checker.Attempt{ID: checker.ID{Seq: n}, N: 1}, topic, -1, 100)
		res, err := p.SendSync(background(t), goclient.Message(m, ""))
		if err != nil || res.Status != primitive.SendOK {
			t.Fatalf("message %d: %v, %v", n, res, err)
		}
		run.Acked(m, res.MessageQueue.QueueId, res.QueueOffset, res.OffsetMsgID)
	}
	send(1)
	one.Kill()
	send(2)
	// What is made while one is away reaches the other at once, within the
	// second that a topic's creation waits for nameservers.
	start := time.Now()
	if err := w.dial(t).NewTopic("MadeMeanwhile", 2); err != nil {
		t.Fatal(err)
	}
	waitRoute(t, two.Addr(), "MadeMeanwhile")
	if d := time.Since(start); d > 5*time.Second && harness.Kind() == "gomq" {
		t.Fatalf("the creation of a topic took %v with one nameserver away", d)
	}
	// A new client that knows both finds its way.
	fresh := goclient.Producer(t, both, "pg-two-fresh")
	harness.Eventually(t, 20*time.Second, "a send by a client that started meanwhile", func() bool {
		_, err := fresh.SendSync(background(t), primitive.NewMessage("MadeMeanwhile", []byte("x")))
		return err == nil
	})
	one.Start()
	harness.Eventually(t, 40*time.Second, "both topics at the nameserver that came back", func() bool {
		c, err := raw.Dial(one.Addr())
		if err != nil {
			return false
		}
		defer c.Close()
		for _, name := range []string{topic, "MadeMeanwhile"} {
			if r, err := c.Route(name); err != nil || r.BrokerDatas[0].BrokerAddrs["0"] != broker.Addr() {
				return false
			}
		}
		return true
	})
	send(3)
	goclient.Sweep(t, run, "end", w.dial(t), topic, 4)
	if v := run.Check(checker.Rules{NoFaults: true, PlannedSends: 3}); !v.Valid() {
		t.Fatal(v)
	}

	// A clean stop unregisters everywhere, at once.
	broker.Stop()
	for _, ns := range []*harness.Server{one, two} {
		harness.Eventually(t, 5*time.Second, "the stopped broker gone from "+ns.Addr(), func() bool {
			_, err := dial(t, ns.Addr()).Route(topic)
			var code *raw.CodeError
			return errors.As(err, &code) && code.Code == raw.TopicNotExist
		})
	}
}

// TestBrokerKilledLeavesTheRoute: a nameserver notices by the connection.
func TestBrokerKilledLeavesTheRoute(t *testing.T) {
	t.Parallel()
	ns, broker := harness.StartPair(t, harness.Config{})
	w := &world{ns, broker}
	topic := w.topic(t, "Killed")
	broker.Kill()
	harness.Eventually(t, 10*time.Second, "the killed broker gone from the routes", func() bool {
		_, err := dial(t, ns.Addr()).Route(topic)
		var code *raw.CodeError
		return errors.As(err, &code) && code.Code == raw.TopicNotExist
	})
	broker.Start()
	waitRoute(t, ns.Addr(), topic)
	if _, err := w.dial(t).Send("pg", topic, 3, "", []byte("after")); err != nil {
		t.Fatal(err)
	}
}
