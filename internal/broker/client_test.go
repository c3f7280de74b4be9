package broker

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"gomq/internal/client"
	"gomq/internal/protocol"
)

// beatOf is the heartbeat of a push consumer.
func beatOf(id, group string, topics ...string) *protocol.Heartbeat {
	c := protocol.ConsumerBeat{GroupName: group, ConsumeType: "CONSUME_PASSIVELY", MessageModel: "CLUSTERING", ConsumeFromWhere: "CONSUME_FROM_LAST_OFFSET"}
	for _, t := range topics {
		c.Subscriptions = append(c.Subscriptions, protocol.Subscription{Topic: t, SubString: "TagA || TagB", TagsSet: []string{"TagA", "TagB"}, CodeSet: []int32{2598919, 2598920}, SubVersion: 100, ExpressionType: "TAG"})
	}
	return &protocol.Heartbeat{ClientID: id, Consumers: []protocol.ConsumerBeat{c}, Producers: []string{"PG"}}
}

func (r *rig) beat(c *client.Client, h *protocol.Heartbeat) {
	r.Helper()
	if err := c.Beat(r.Context(), r.addr, h); err != nil {
		r.Fatal(err)
	}
}

// Two consumers come and go; each change is told to those who are there, and the
// list of the group follows.
func TestConsumersComeAndGo(t *testing.T) {
	r := run(t, nil)
	ctx := t.Context()
	members := func(want ...string) {
		t.Helper()
		ids, err := r.c.Consumers(ctx, r.addr, "CG")
		if len(want) == 0 {
			r.refused(err, protocol.SystemError, "no consumer for this group, CG")
			return
		}
		if err != nil || !slices.Equal(ids, want) {
			t.Errorf("members %v %v, want %v", ids, err, want)
		}
	}
	members()
	r.beat(r.c, beatOf("a", "CG", "T"))
	if got := r.told.next(t); got != "40 CG" {
		t.Errorf("told %q", got)
	}
	members("a")
	if r.b.topics.Get([]byte("%RETRY%CG")) == nil {
		t.Error("the topic of retries was not created")
	}
	second := r.client()
	r.beat(second, beatOf("b", "CG", "T"))
	for range 2 {
		if got := r.told.next(t); got != "40 CG" {
			t.Errorf("told %q", got)
		}
	}
	members("a", "b")

	online, err := r.c.ConsumerConnection(ctx, r.addr, "CG")
	if err != nil || len(online.Connections) != 2 || online.ConsumeType != "CONSUME_PASSIVELY" || online.MessageModel != "CLUSTERING" ||
		online.Subscriptions["T"].SubString != "TagA || TagB" || online.Connections[0].Version != protocol.Version {
		t.Errorf("connections %+v %v", online, err)
	}
	if p, err := r.c.ProducerConnection(ctx, r.addr, "PG"); err != nil || len(p) != 2 {
		t.Errorf("producers %+v %v", p, err)
	}
	if g, err := r.c.GroupsOf(ctx, r.addr, "T"); err != nil || !slices.Equal(g, []string{"CG"}) {
		t.Errorf("groups of T: %v %v", g, err)
	}

	// The first leaves in words, the second by closing its connection.
	if err := r.c.Leave(ctx, r.addr, "a", "PG", "CG"); err != nil {
		t.Fatal(err)
	}
	if got := r.told.next(t); got != "40 CG" {
		t.Errorf("told %q", got)
	}
	members("b")
	_ = second.Stop(ctx)
	r.eventually("the second consumer stays", func() bool { return len(r.b.consumers.IDs("CG")) == 0 })
	members()
	_, err = r.c.ConsumerConnection(ctx, r.addr, "CG")
	r.refused(err, protocol.ConsumerNotOnline, "the consumer group[CG] not online")
	_, err = r.c.ProducerConnection(ctx, r.addr, "PG")
	r.refused(err, protocol.SystemError, "the producer group[PG] not exist")
}

// A group or a broker that does not want to be told of changes is not.
func TestNoNotices(t *testing.T) {
	r := run(t, func(o *Options) { o.NotifyConsumerIdsChangedEnable = false })
	r.beat(r.c, beatOf("a", "CG", "T"))
	other := r.client()
	r.beat(other, beatOf("b", "CG", "T"))
	if err := other.Leave(t.Context(), r.addr, "b", "", "CG"); err != nil {
		t.Fatal(err)
	}
	select {
	case <-r.told.news:
		t.Error("told all the same")
	default:
	}
}

// A pull without an expression is served by the client's own subscription.
func TestSubscriptionOfHeartbeat(t *testing.T) {
	r := run(t, nil)
	r.create("T", 1)
	r.beat(r.c, beatOf("a", "CG", "T"))
	r.send("T", 0, "1", "TAGS", "TagA")
	r.send("T", 0, "2", "TAGS", "Other")
	r.send("T", 0, "3", "TAGS", "TagB")
	h := pullHeader("CG", "T", 0, 0, "")
	h.SysFlag, h.SubVersion = 0, 100
	_, list := r.pullAs(h)
	if len(list) != 2 || string(list[0].Body()) != "1" || string(list[1].Body()) != "3" {
		t.Errorf("%d messages", len(list))
	}
	h.SubVersion = 101
	_, err := r.c.Pull(t.Context(), r.addr, h)
	r.refused(err, protocol.SubscriptionNotLatest, "the consumer's subscription not latest")
}

// A client that falls silent is thrown out, and the others are told.
func TestExpiry(t *testing.T) {
	var mu sync.Mutex
	now := time.Now()
	r := runWith(t, nil, seams{now: func() time.Time { mu.Lock(); defer mu.Unlock(); return now }})
	silent := r.client()
	r.beat(silent, beatOf("silent", "CG", "T"))
	r.told.next(t)
	mu.Lock()
	now = now.Add(100 * time.Second)
	mu.Unlock()
	r.beat(r.c, beatOf("alive", "CG", "T"))
	r.told.next(t)
	r.told.next(t)
	mu.Lock()
	now = now.Add(21 * time.Second)
	mu.Unlock()
	if err := r.b.clients.expire(t.Context()); err != nil {
		t.Fatal(err)
	}
	if ids := r.b.consumers.IDs("CG"); !slices.Equal(ids, []string{"alive"}) {
		t.Errorf("members %v", ids)
	}
	if got := r.told.next(t); got != "40 CG" {
		t.Errorf("told %q", got)
	}
}

func TestHeartbeatRefusals(t *testing.T) {
	r := run(t, func(o *Options) { o.MaxSubscriptionsPerConnection = 3 })
	for what, h := range map[string]*protocol.Heartbeat{
		"traversal":     beatOf("a", "../../x", "T"),
		"blank":         beatOf("a", " ", "T"),
		"long":          beatOf("a", strings.Repeat("g", 121), "T"),
		"subscriptions": beatOf("a", "CG", "A", "B", "C", "D"),
		"topic":         beatOf("a", "CG", strings.Repeat("t", 128)),
		"client id":     beatOf(strings.Repeat("i", 1025), "CG", "T"),
	} {
		if err := r.c.Beat(t.Context(), r.addr, h); err == nil {
			t.Errorf("%s: taken", what)
		}
	}
	resp, err := r.c.Call(t.Context(), r.addr, protocol.NewRequest(protocol.HeartBeat, nil, []byte("{not json")))
	if err != nil || resp.Code != protocol.SystemError {
		t.Errorf("nonsense: %v %v", resp, err)
	}
	if names := r.b.consumers.Names(); len(names) != 0 {
		t.Errorf("groups %v", names)
	}
	// Nobody home is no reason to lose the connection.
	r.beat(r.c, beatOf("a", "CG", "A", "B", "C"))
}

func TestClientCheck(t *testing.T) {
	r := run(t, nil)
	ask := func(typ string) *protocol.Command {
		t.Helper()
		check := protocol.ClientCheck{ClientID: "a", Group: "CG", Subscription: protocol.Subscription{Topic: "T", SubString: "a > 1", ExpressionType: typ}}
		resp, err := r.c.Call(t.Context(), r.addr, protocol.NewRequest(protocol.CheckClientConfig, nil, check.Append(nil)))
		if err != nil {
			t.Fatal(err)
		}
		return resp
	}
	if resp := ask("TAG"); resp.Code != protocol.Success {
		t.Errorf("TAG: %d %s", resp.Code, resp.Remark)
	}
	if resp := ask("SQL92"); resp.Code != protocol.SystemError || resp.Remark != "The broker does not support consumer to filter message by SQL92" {
		t.Errorf("SQL92: %d %s", resp.Code, resp.Remark)
	}
}

// A queue is locked by one client at a time, until it is unlocked or its lease is
// over.
func TestLocks(t *testing.T) {
	var mu sync.Mutex
	now := time.Now()
	r := runWith(t, nil, seams{now: func() time.Time { mu.Lock(); defer mu.Unlock(); return now }})
	queues := func(ids ...int32) (list []protocol.MessageQueue) {
		for _, id := range ids {
			list = append(list, protocol.MessageQueue{Topic: "T", BrokerName: "broker-a", QueueID: id})
		}
		return list
	}
	lock := func(who string, want []protocol.MessageQueue, ids ...int32) {
		t.Helper()
		got, err := r.c.Lock(t.Context(), r.addr, &protocol.LockBatch{Group: "CG", ClientID: who, Queues: queues(ids...)})
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s locks %v: %v %v, want %v", who, ids, got, err, want)
		}
	}
	lock("a", queues(0, 1), 0, 1)
	lock("b", queues(2), 0, 1, 2)
	lock("a", queues(0), 0) // renewed
	if err := r.c.Unlock(t.Context(), r.addr, &protocol.LockBatch{Group: "CG", ClientID: "b", Queues: queues(1)}); err != nil {
		t.Fatal(err)
	}
	lock("b", nil, 1) // not b's to unlock
	if err := r.c.Unlock(t.Context(), r.addr, &protocol.LockBatch{Group: "CG", ClientID: "a", Queues: queues(1)}); err != nil {
		t.Fatal(err)
	}
	lock("b", queues(1), 1)
	mu.Lock()
	now = now.Add(lockLease)
	mu.Unlock()
	lock("b", queues(0), 0)
	_, err := r.c.Lock(t.Context(), r.addr, &protocol.LockBatch{Group: "../x", ClientID: "a"})
	r.refused(err, protocol.SystemError, "group")
}
