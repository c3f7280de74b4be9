package client_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gomq/internal/broker"
	"gomq/internal/client"
	"gomq/internal/config"
	"gomq/internal/message"
	"gomq/internal/namesrv"
	"gomq/internal/protocol"
	"gomq/internal/role/roletest"
)

// cluster starts a nameserver and a broker that registers with it.
func cluster(t *testing.T) (*namesrv.Server, *broker.Broker) {
	t.Helper()
	n := namesrv.DefaultOptions()
	n.ListenHost, n.ListenPort, n.KVConfigPath = "127.0.0.1", 0, filepath.Join(t.TempDir(), "kv.json")
	ns, err := namesrv.Start(context.Background(), namesrv.NewLive(n), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Stop(context.Background()) })
	o, _, err := broker.LoadOptions("", append(roletest.Broker(t.TempDir()), config.Flag{Key: "namesrvAddr", Value: ns.Addr()}), nil)
	if err != nil {
		t.Fatal(err)
	}
	var b *broker.Broker
	if err := roletest.Start(t, func(port int) (err error) {
		o.ListenPort, o.HAListenPort, o.FastListenPort = port, port+1, port-2
		b, err = broker.Start(context.Background(), broker.NewLive(o), nil, nil)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Stop(context.Background()) })
	return ns, b
}

func send(t *testing.T, c *client.Client, addr string, h protocol.SendHeader, body []byte) client.Sent {
	t.Helper()
	h.Group, h.Topic, h.DefaultTopic, h.DefaultTopicQueues = []byte("PG"), []byte("T"), []byte(message.TopicDefault), 4
	h.BornTime, h.MaxReconsume = time.Now().UnixMilli(), -1
	sent, err := c.Send(t.Context(), addr, h, body)
	if err != nil {
		t.Fatal(err)
	}
	if sent.Code != protocol.Success || sent.QueueID != h.QueueID {
		t.Fatalf("sent: %+v", sent)
	}
	return sent
}

// batch is the body of a batch of messages without properties.
func batch(bodies ...string) []byte {
	var b []byte
	be := binary.BigEndian
	for _, x := range bodies {
		b = be.AppendUint32(b, uint32(22+len(x)))
		b = append(b, make([]byte, 12)...)
		b = be.AppendUint32(b, uint32(len(x)))
		b = append(b, x...)
		b = be.AppendUint16(b, 0)
	}
	return b
}

// TestProduceAndConsume makes every call of a producer and of a consumer once.
func TestProduceAndConsume(t *testing.T) {
	ns, b := cluster(t)
	for _, codec := range []protocol.Codec{protocol.JSON, protocol.Binary} {
		c := client.New(context.Background(), client.Options{Codec: codec, Timeout: 20 * time.Second})
		topic := fmt.Sprintf("T%d", codec)
		produceAndConsume(t, c, c.NameServers([]string{ns.Addr()}), b.Addr(), topic)
		if err := c.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	}
}

func produceAndConsume(t *testing.T, c *client.Client, set *client.NameServers, addr, topic string) {
	ctx := t.Context()
	if err := c.CreateTopic(ctx, addr, protocol.TopicConfig{TopicName: topic, ReadQueueNums: 2, WriteQueueNums: 2, Perm: 6}); err != nil {
		t.Fatal(err)
	}
	route, err := set.Route(ctx, topic)
	if err != nil || len(route.Brokers) != 1 || route.Brokers[0].Addrs[0] != addr {
		t.Fatalf("route: %+v, %v", route, err)
	}
	h := protocol.SendHeader{Group: []byte("PG"), Topic: []byte(topic), DefaultTopic: []byte(message.TopicDefault), DefaultTopicQueues: 4,
		QueueID: 1, BornTime: time.Now().UnixMilli(), MaxReconsume: -1}
	props := message.AppendProp(message.AppendProp(nil, "KEYS", "key-of-"+topic), "UNIQ_KEY", "0A000001000000000000"+strings.Repeat("0", 11)+topic[1:])
	h.Props = props
	sent, err := c.Send(ctx, addr, h, []byte("first"))
	if err != nil || sent.Code != protocol.Success || sent.QueueID != 1 || sent.QueueOffset != 0 {
		t.Fatalf("sent: %+v, %v", sent, err)
	}
	h.Props, h.Batch = nil, true
	if sent, err = c.Send(ctx, addr, h, batch("second", "third")); err != nil || sent.QueueOffset != 1 {
		t.Fatalf("batch: %+v, %v", sent, err)
	}
	h.Batch = false
	if err := c.SendOneway(ctx, addr, h, []byte("fourth")); err != nil {
		t.Fatal(err)
	}

	pull := protocol.PullHeader{Group: []byte("G"), Topic: []byte(topic), QueueID: 1, MaxMsgNums: 10, SysFlag: protocol.PullSubscription | protocol.PullSuspend,
		SuspendMillis: 10_000, Subscription: []byte("*")}
	var bodies []string
	for len(bodies) < 4 {
		pull.QueueOffset = int64(len(bodies))
		p, err := c.Pull(ctx, addr, pull)
		if err != nil || p.Code != protocol.Success {
			t.Fatalf("pull: %+v, %v", p, err)
		}
		records, err := client.Records(p.Body)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range records {
			bodies = append(bodies, string(r.Body()))
		}
		if p.NextBeginOffset != int64(len(bodies)) {
			t.Errorf("next offset %d after %d messages", p.NextBeginOffset, len(bodies))
		}
	}
	if got := strings.Join(bodies, " "); got != "first second third fourth" {
		t.Errorf("pulled %q", got)
	}
	pull.QueueOffset, pull.SysFlag = 4, protocol.PullSubscription
	if p, err := c.Pull(ctx, addr, pull); err != nil || p.Code != protocol.PullNotFound || p.MaxOffset != 4 {
		t.Errorf("pull at the end: %+v, %v", p, err)
	}
	offsets(t, c, addr, topic)
	lookups(t, c, addr, topic, props)
}

func offsets(t *testing.T, c *client.Client, addr, topic string) {
	ctx := t.Context()
	most, err1 := c.MaxOffset(ctx, addr, topic, 1)
	least, err2 := c.MinOffset(ctx, addr, topic, 1)
	at, err3 := c.SearchOffset(ctx, addr, topic, 1, time.Unix(0, 0))
	first, err4 := c.EarliestStoreTime(ctx, addr, topic, 1)
	if err1 != nil || err2 != nil || err3 != nil || err4 != nil || most != 4 || least != 0 || at != 0 || time.Since(time.UnixMilli(first)) > time.Minute {
		t.Errorf("offsets %d %d %d, stored at %d: %v %v %v %v", least, most, at, first, err1, err2, err3, err4)
	}
	if err := c.Commit(ctx, addr, "G", topic, 1, 3); err != nil {
		t.Error(err)
	}
	if off, found, err := c.Offset(ctx, addr, "G", topic, 1); err != nil || !found || off != 3 {
		t.Errorf("committed: %d %v %v", off, found, err)
	}
	if all, err := c.AllOffsets(ctx, addr); err != nil || all[topic+"@G"][1] != 3 {
		t.Errorf("all offsets: %v, %v", all, err)
	}
	beat := &protocol.Heartbeat{ClientID: "me@1", Producers: []string{"PG"}, Consumers: []protocol.ConsumerBeat{{GroupName: "G", ConsumeType: "CONSUME_PASSIVELY",
		MessageModel: "CLUSTERING", ConsumeFromWhere: "CONSUME_FROM_LAST_OFFSET", Subscriptions: []protocol.Subscription{{Topic: topic, SubString: "*", SubVersion: 1, ExpressionType: "TAG"}}}}}
	if err := c.Beat(ctx, addr, beat); err != nil {
		t.Fatal(err)
	}
	if ids, err := c.Consumers(ctx, addr, "G"); err != nil || len(ids) != 1 || ids[0] != "me@1" {
		t.Errorf("consumers: %v, %v", ids, err)
	}
	if con, err := c.ConsumerConnection(ctx, addr, "G"); err != nil || len(con.Connections) != 1 || con.Connections[0].ClientID != "me@1" {
		t.Errorf("consumer connections: %+v, %v", con, err)
	}
	if con, err := c.ProducerConnection(ctx, addr, "PG"); err != nil || len(con) != 1 {
		t.Errorf("producer connections: %+v, %v", con, err)
	}
	if groups, err := c.GroupsOf(ctx, addr, topic); err != nil || len(groups) != 1 || groups[0] != "G" {
		t.Errorf("groups of the topic: %v, %v", groups, err)
	}
	q := protocol.MessageQueue{Topic: topic, BrokerName: "broker-a", QueueID: 1}
	lock := &protocol.LockBatch{Group: "G", ClientID: "me@1", Queues: []protocol.MessageQueue{q}}
	if got, err := c.Lock(ctx, addr, lock); err != nil || len(got) != 1 || got[0] != q {
		t.Errorf("locked: %v, %v", got, err)
	}
	if err := c.Unlock(ctx, addr, lock); err != nil {
		t.Error(err)
	}
	if err := c.Leave(ctx, addr, "me@1", "PG", "G"); err != nil {
		t.Error(err)
	}
	if _, err := c.ConsumerConnection(ctx, addr, "G"); !refused(err, protocol.ConsumerNotOnline) {
		t.Errorf("after it has left: %v", err)
	}
}

func refused(err error, code int32) bool {
	got, ok := client.Code(err)
	return ok && got == code
}

func lookups(t *testing.T, c *client.Client, addr, topic string, props []byte) {
	ctx := t.Context()
	var found []message.Record
	var err error
	query := protocol.QueryHeader{Topic: topic, Key: "key-of-" + topic, MaxNum: 10, End: time.Now().Add(time.Hour).UnixMilli()}
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) { // the index follows the log
		if found, err = c.Query(ctx, addr, query); err == nil || !refused(err, protocol.QueryNotFound) || time.Now().After(end) {
			break
		}
	}
	if err != nil || len(found) != 1 || string(found[0].Body()) != "first" || !bytes.HasPrefix(found[0].Props(), props) {
		t.Fatalf("by key: %d found, %v", len(found), err)
	}
	uniq, _ := message.Prop(props, "UNIQ_KEY")
	query.Key, query.UniqueKey = string(uniq), true
	if found, err = c.Query(ctx, addr, query); err != nil || len(found) != 1 {
		t.Errorf("by unique key: %d found, %v", len(found), err)
	}
	if r, err := c.View(ctx, addr, found[0].Offset()); err != nil || string(r.Body()) != "first" {
		t.Errorf("by offset: %v", err)
	}
	if _, err := c.View(ctx, addr, 1<<40); !refused(err, protocol.SystemError) {
		t.Errorf("by an offset beyond the end: %v", err)
	}
}

// TestAdmin makes every call of an administrator once.
func TestAdmin(t *testing.T) {
	ns, b := cluster(t)
	c := client.New(context.Background(), client.Options{Timeout: 20 * time.Second})
	defer c.Stop(context.Background())
	set, addr, ctx := c.NameServers([]string{ns.Addr()}), b.Addr(), t.Context()
	if err := c.CreateTopic(ctx, addr, protocol.TopicConfig{TopicName: "T", ReadQueueNums: 3, WriteQueueNums: 2, Perm: 6}); err != nil {
		t.Fatal(err)
	}
	send(t, c, addr, protocol.SendHeader{QueueID: 1}, []byte("x"))
	topics, v, err := c.TopicConfigs(ctx, addr)
	if err != nil || topics["T"].ReadQueueNums != 3 || topics["T"].WriteQueueNums != 2 || v == (protocol.DataVersion{}) {
		t.Errorf("topics: %+v %+v %v", topics["T"], v, err)
	}
	if stats, err := c.TopicStats(ctx, addr, "T"); err != nil || len(stats) == 0 {
		t.Errorf("topic statistics: %+v, %v", stats, err)
	}
	if err := c.CreateGroup(ctx, addr, protocol.GroupConfig{GroupName: "G", ConsumeEnable: true, ConsumeBroadcastEnable: true, RetryQueueNums: 1, RetryMaxTimes: 7}); err != nil {
		t.Fatal(err)
	}
	if groups, _, err := c.GroupConfigs(ctx, addr); err != nil || groups["G"].RetryMaxTimes != 7 {
		t.Errorf("groups: %+v, %v", groups["G"], err)
	}
	if err := c.Commit(ctx, addr, "G", "T", 1, 1); err != nil {
		t.Fatal(err)
	}
	if s, err := c.ConsumeStats(ctx, addr, "G", "T"); err != nil || len(s.Queues) == 0 {
		t.Errorf("consumption: %+v, %v", s, err)
	}
	if err := c.UpdateConfig(ctx, addr, "maxTopics=1234"); err != nil {
		t.Error(err)
	}
	if text, _, err := c.Config(ctx, addr); err != nil || !strings.Contains(text, "maxTopics=1234\n") {
		t.Errorf("configuration: %v", err)
	}
	if err := c.UpdateConfig(ctx, addr, "storePathRootDir=/"); !refused(err, protocol.NoPermission) {
		t.Errorf("a forbidden key: %v", err)
	}
	if info, err := c.RuntimeInfo(ctx, addr); err != nil || info["msgPutTotalTodayNow"] == "" {
		t.Errorf("runtime information: %v, %v", info, err)
	}
	if _, err := c.DelayOffsets(ctx, addr); err != nil && !refused(err, protocol.RequestCodeNotSupported) {
		t.Errorf("delay offsets: %v", err)
	}
	if err := c.DeleteGroup(ctx, addr, "G", true); err != nil {
		t.Error(err)
	}
	// A group without an offset may be told to begin at 0, never at what it had.
	if off, _, err := c.Offset(ctx, addr, "G", "T", 1); err != nil || off != 0 {
		t.Errorf("the offset of a deleted group is still there: %d, %v", off, err)
	}
	if err := c.DeleteTopic(ctx, addr, "T"); err != nil {
		t.Error(err)
	}
	set.DeleteTopic(ctx, "T", "")
	if _, err := set.Route(ctx, "T"); !refused(err, protocol.TopicNotExist) {
		t.Errorf("the route of a deleted topic: %v", err)
	}
	if _, err := c.TopicStats(ctx, addr, "T"); !refused(err, protocol.TopicNotExist) {
		t.Errorf("the statistics of a deleted topic: %v", err)
	}
}
