package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/apache/rocketmq-client-go/v2/producer"

	"gomq/test/checker"
	"gomq/test/goclient"
	"gomq/test/harness"
	"gomq/test/raw"
)

// world is a nameserver with one broker, and a raw connection to each.
type world struct {
	ns, broker *harness.Server
}

func (w *world) dial(t testing.TB) *raw.Conn { return dial(t, w.broker.Addr()) }

func dial(t testing.TB, addr string) *raw.Conn {
	t.Helper()
	var c *raw.Conn
	var err error
	if under, ok := strings.CutPrefix(addr, overTLS); ok {
		c, err = raw.DialTLS(under, anyServer)
	} else {
		c, err = raw.Dial(addr)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// topic makes a topic with four queues and waits until its route is known.
func (w *world) topic(t testing.TB, name string) string {
	t.Helper()
	if err := w.dial(t).NewTopic(name, 4); err != nil {
		t.Fatal(err)
	}
	waitRoute(t, w.ns.Addr(), name)
	return name
}

func waitRoute(t testing.TB, namesrv, topic string) *raw.Route {
	t.Helper()
	c := dial(t, namesrv)
	var route *raw.Route
	harness.Eventually(t, 20*time.Second, "the route of "+topic, func() bool {
		var err error
		route, err = c.Route(topic)
		return err == nil && len(route.BrokerDatas) > 0
	})
	return route
}

func background(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// TestGoClient runs everything that needs no broker of its own against one.
func TestGoClient(t *testing.T) {
	t.Parallel()
	ns, broker := harness.StartPair(t, harness.Config{Props: map[string]string{"enablePropertyFilter": "true"}})
	w := &world{ns, broker}
	// The subtests run in parallel inside a group, so that the servers live
	// until all have ended.
	t.Run("group", func(t *testing.T) {
		for name, test := range map[string]func(*testing.T, *world){
			"SyncSend": syncSend, "AsyncSend": asyncSend, "OneWaySend": oneWaySend, "BatchSend": batchSend,
			"PushConsumer": pushConsumer, "PullConsumer": pullConsumer, "PullFrom": pullFrom, "Rebalance": rebalance,
			"Broadcast": broadcast, "Orderly": orderly, "Tags": tags, "SQL92": sql92, "Differ": differ, "Codecs": codecs, "Properties": properties, "Circle": circle, "BroadcastAgain": broadcastAgain, "AutoCreate": autoCreate, "Topics": topics, "Groups": groups,
			"Lookup": lookup, "LongPoll": longPoll, "VIPPort": vipPort, "OffsetsByTime": offsetsByTime,
			"UnknownCode": unknownCode, "BinaryHeader": binaryHeader,
			"RequestReply": requestReply, "AskConsumer": askConsumer, "SlowConsumer": slowConsumer, "AdminCodes": adminCodes,
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				test(t, w)
			})
		}
	})
}

// content makes a body that the size and number determine.
func content(n, size int) []byte {
	rng := rand.New(rand.NewPCG(uint64(n), uint64(size)))
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

func syncSend(t *testing.T, w *world) {
	topic := w.topic(t, "SyncSend")
	p := goclient.Producer(t, w.ns.Addr(), "pg-sync")
	c := w.dial(t)
	perQueue := map[int]int64{}
	// Above 4 KiB the client compresses; the last one is near the limit.
	for i, size := range []int{1, 2, 100, 1024, 4095, 4096, 5000, 70000, 1 << 20, 3 << 20} {
		msg := primitive.NewMessage(topic, content(i, size))
		msg.WithKeys([]string{fmt.Sprintf("sync-%d", i), "common"}).WithTag("TagA").WithProperty("user", "värde 值")
		res, err := p.SendSync(background(t), msg)
		if err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
		q := res.MessageQueue.QueueId
		if res.Status != primitive.SendOK || res.QueueOffset != perQueue[q] || len(res.OffsetMsgID) != 32 || len(res.MsgID) != 32 {
			t.Fatalf("%d bytes: %v, expected offset %d", size, res, perQueue[q])
		}
		perQueue[q]++
		// SEND_OK means that it can be pulled, at once. The originals answer
		// first and may let a reader miss it for a moment.
		pulled, err := c.Pull("g-sync", topic, q, res.QueueOffset, 1, 0)
		if harness.Kind() == "java" {
			settled(t, c, topic, 4, int64(i+1))
			pulled, err = c.Pull("g-sync", topic, q, res.QueueOffset, 1, 0)
		}
		if err != nil || pulled.Code != raw.Success || len(pulled.Records) != 1 {
			t.Fatalf("%d bytes: pull right after SEND_OK: %+v, %v", size, pulled, err)
		}
		rec := pulled.Records[0]
		if rec.ID != res.OffsetMsgID || rec.Props["UNIQ_KEY"] != res.MsgID || rec.Props["user"] != "värde 值" || rec.Props["TAGS"] != "TagA" || rec.Keys() != fmt.Sprintf("sync-%d common", i) {
			t.Fatalf("%d bytes: stored %+v, sent as %v", size, rec, res)
		}
		if compressed := rec.SysFlag&1 != 0; compressed != (size >= 4096) {
			t.Fatalf("%d bytes: system flag %d", size, rec.SysFlag)
		} else if !compressed && !bytes.Equal(rec.Body, content(i, size)) {
			t.Fatalf("%d bytes: other bytes came back", size)
		}
	}
}

func asyncSend(t *testing.T, w *world) {
	topic := w.topic(t, "AsyncSend")
	p := goclient.Producer(t, w.ns.Addr(), "pg-async")
	run := checker.NewRun(harness.Rand(t))
	const n = 500
	var wg sync.WaitGroup
	for i := range n {
		m := run.Begin(checker.Attempt{ID: checker.ID{Seq: int64(i)}, N: 1}, topic, -1, 200)
		wg.Add(1)
		err := p.SendAsync(background(t), func(_ context.Context, res *primitive.SendResult, err error) {
			defer wg.Done()
			if err != nil || res.Status != primitive.SendOK {
				t.Errorf("message %d: %v, %v", i, res, err)
				return
			}
			run.Acked(m, res.MessageQueue.QueueId, res.QueueOffset, res.OffsetMsgID)
		}, goclient.Message(m, ""))
		if err != nil {
			t.Fatal(err)
		}
	}
	wg.Wait()
	settled(t, w.dial(t), topic, 4, n)
	waitIndex(t, w.dial(t), run)
	goclient.Sweep(t, run, "end", w.dial(t), topic, 4)
	goclient.LookUp(t, run, w.dial(t))
	if v := run.Check(checker.Rules{NoFaults: true, Lookups: true, PlannedSends: n}); !v.Valid() {
		t.Fatal(v)
	}
}

// end is the sum of the maximum offsets of a topic's queues.
func end(t testing.TB, c *raw.Conn, topic string, queues int) int64 {
	t.Helper()
	sum := int64(0)
	for q := range queues {
		n, err := c.Offset(raw.MaxOffset, topic, q)
		if err != nil {
			t.Fatal(err)
		}
		sum += n
	}
	return sum
}

// settled makes sure that all messages that were acknowledged are there to be
// read: at once with gomq, a moment later with an original.
func settled(t testing.TB, c *raw.Conn, topic string, queues int, total int64) {
	t.Helper()
	if harness.Kind() == "java" {
		harness.Eventually(t, 10*time.Second, "the original to dispatch", func() bool { return end(t, c, topic, queues) >= total })
	}
	if n := end(t, c, topic, queues); n != total {
		t.Fatalf("%d messages acknowledged, %d there", total, n)
	}
}

func oneWaySend(t *testing.T, w *world) {
	topic := w.topic(t, "OneWay")
	p := goclient.Producer(t, w.ns.Addr(), "pg-oneway")
	for i := range 50 {
		if err := p.SendOneWay(background(t), primitive.NewMessage(topic, content(i, 100))); err != nil {
			t.Fatal(err)
		}
	}
	c := w.dial(t)
	harness.Eventually(t, 20*time.Second, "50 one-way messages stored", func() bool { return end(t, c, topic, 4) == 50 })

	// The Go client does not set the one-way bit; a Java client does, and then
	// nothing is answered.
	for i := range 50 {
		if err := c.OneWay(raw.SendMessage, raw.SendExt("pg-oneway", topic, i%4, ""), content(i, 100)); err != nil {
			t.Fatal(err)
		}
	}
	harness.Eventually(t, 20*time.Second, "100 one-way messages stored", func() bool { return end(t, c, topic, 4) == 100 })
}

func batchSend(t *testing.T, w *world) {
	topic := w.topic(t, "Batch")
	p := goclient.Producer(t, w.ns.Addr(), "pg-batch")
	var msgs []*primitive.Message
	for i := range 20 {
		msg := primitive.NewMessage(topic, content(i, 50+i))
		msgs = append(msgs, msg.WithKeys([]string{fmt.Sprintf("batch-%d", i)}).WithTag("B"))
	}
	res, err := p.SendSync(background(t), msgs...)
	if err != nil || res.Status != primitive.SendOK {
		t.Fatalf("%v, %v", res, err)
	}
	ids := strings.Split(res.OffsetMsgID, ",")
	if len(ids) != len(msgs) || res.QueueOffset != 0 {
		t.Fatalf("%d ids, first offset %d", len(ids), res.QueueOffset)
	}
	settled(t, w.dial(t), topic, 4, 20)
	recs, err := w.dial(t).Sweep(topic, res.MessageQueue.QueueId)
	if err != nil || len(recs) != len(msgs) {
		t.Fatalf("%d records, %v", len(recs), err)
	}
	for i, rec := range recs {
		if rec.Offset != int64(i) || rec.ID != ids[i] || rec.Keys() != fmt.Sprintf("batch-%d", i) || !bytes.Equal(rec.Body, content(i, 50+i)) {
			t.Fatalf("record %d: %+v, id %s", i, rec, ids[i])
		}
	}
	var byKey []*raw.Record
	harness.Eventually(t, 20*time.Second, "the index to hold the last key", func() bool {
		last, err := w.dial(t).ByKey(topic, "batch-19")
		return err == nil && len(last) == 1
	})
	byKey, err = w.dial(t).ByKey(topic, "batch-7")
	if err != nil || len(byKey) != 1 || byKey[0].ID != ids[7] {
		t.Fatalf("by key: %d records, %v", len(byKey), err)
	}
}

// fill sends n checked messages and returns their run.
func fill(t testing.TB, w *world, topic string, n int) *checker.Run {
	t.Helper()
	run := checker.NewRun(harness.Rand(t))
	fillMore(t, w, run, topic, 0, n)
	return run
}

func fillMore(t testing.TB, w *world, run *checker.Run, topic string, from, to int) {
	t.Helper()
	p := goclient.Producer(t, w.ns.Addr(), "pg-"+topic)
	for i := from; i < to; i++ {
		m := run.Begin(checker.Attempt{ID: checker.ID{Seq: int64(i)}, N: 1}, topic, -1, 150)
		res, err := p.SendSync(background(t), goclient.Message(m, ""))
		if err != nil || res.Status != primitive.SendOK {
			t.Fatalf("message %d: %v, %v", i, res, err)
		}
		run.Acked(m, res.MessageQueue.QueueId, res.QueueOffset, res.OffsetMsgID)
	}
}

// collect is a handler that records into a run.
func collect(run *checker.Run, group string) goclient.Handler {
	return func(_ context.Context, msgs ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
		for _, m := range msgs {
			run.Polled(group, goclient.Record(m))
		}
		return consumer.ConsumeSuccess, nil
	}
}

func pushConsumer(t *testing.T, w *world) {
	topic := w.topic(t, "Push")
	run := fill(t, w, topic, 60)
	stop := goclient.Push(t, w.ns.Addr(), "g-push", topic, "*", collect(run, "g-push"))
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

// committed is the sum of a group's offsets, those that are unknown left out.
func committed(t testing.TB, c *raw.Conn, group, topic string, queues int) int64 {
	t.Helper()
	sum := int64(0)
	for q := range queues {
		n, err := c.Committed(group, topic, q)
		if err != nil {
			t.Fatal(err)
		}
		sum += max(n, 0)
	}
	return sum
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

// share counts what each consumer of a group got from which queue.
type share struct {
	mu  sync.Mutex
	got map[string]map[int]int
}

func (s *share) handler(run *checker.Run, group, name string) goclient.Handler {
	record := collect(run, group)
	return func(ctx context.Context, msgs ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
		s.mu.Lock()
		if s.got[name] == nil {
			s.got[name] = map[int]int{}
		}
		for _, m := range msgs {
			s.got[name][m.Queue.QueueId]++
		}
		s.mu.Unlock()
		return record(ctx, msgs...)
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
	goclient.Push(t, w.ns.Addr(), group, topic, "*", s.handler(run, group, "one"))
	round(1)
	stop := goclient.Push(t, w.ns.Addr(), group, topic, "*", s.handler(run, group, "two"))
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
		goclient.Push(t, w.ns.Addr(), "g-broadcast", topic, "*", collect(run, name), consumer.WithConsumerModel(consumer.BroadCasting))
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
	record := collect(run, "g-orderly")
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

// waitIndex waits until the index, which is written behind the answers, holds
// what was acknowledged last.
func waitIndex(t testing.TB, c *raw.Conn, run *checker.Run) {
	t.Helper()
	acks := run.Acks()
	last := acks[0]
	for _, a := range acks {
		if a.MsgID > last.MsgID {
			last = a
		}
	}
	harness.Eventually(t, 20*time.Second, "the index to hold the last key", func() bool {
		recs, err := c.ByKey(last.Topic, run.Key(last.ID))
		return err == nil && len(recs) > 0
	})
}

func lookup(t *testing.T, w *world) {
	topic := w.topic(t, "Lookup")
	run := fill(t, w, topic, 30)
	c := w.dial(t)
	settled(t, c, topic, 4, 30)
	goclient.Sweep(t, run, "end", c, topic, 4)
	waitIndex(t, c, run)
	last := run.Acks()[29]
	goclient.LookUp(t, run, c)
	if v := run.Check(checker.Rules{NoFaults: true, Lookups: true, PlannedSends: 30}); !v.Valid() {
		t.Fatal(v)
	}
	// By the client's own id, which is the unique key.
	recs, err := c.Sweep(topic, last.Queue)
	if err != nil {
		t.Fatal(err)
	}
	cmd, err := c.Do(raw.QueryMessage, map[string]string{"topic": topic, "key": recs[0].Props["UNIQ_KEY"], "maxNum": "32",
		"beginTimestamp": "0", "endTimestamp": fmt.Sprint(time.Now().Add(time.Hour).UnixMilli()), "_UNIQUE_KEY_QUERY": "true"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if found, err := raw.ParseRecords(cmd.Body); err != nil || len(found) != 1 || found[0].ID != recs[0].ID {
		t.Fatalf("by unique key: %d records, %v", len(found), err)
	}
	// What is not there.
	if recs, err := c.ByKey(topic, "no-such-key"); err != nil || recs != nil {
		t.Fatalf("a key that nobody sent: %d records, %v", len(recs), err)
	}
	var code *raw.CodeError
	if _, err := c.Do(raw.ViewMessage, map[string]string{"offset": "999999999999"}, nil); !errors.As(err, &code) || code.Code != raw.SystemError {
		t.Fatalf("view beyond the log: %v", err)
	}
}

func longPoll(t *testing.T, w *world) {
	topic := w.topic(t, "LongPoll")
	c, sender := w.dial(t), w.dial(t)
	c.Limit = 30 * time.Second
	// An arrival wakes the pull long before its deadline.
	type answer struct {
		p   *raw.Pulled
		err error
		at  time.Time
	}
	answers := make(chan answer, 1)
	go func() {
		p, err := c.Pull("g-long", topic, 1, 0, 32, 20*time.Second)
		answers <- answer{p, err, time.Now()}
	}()
	select {
	case a := <-answers:
		t.Fatalf("answered at once: %+v, %v", a.p, a.err)
	case <-time.After(300 * time.Millisecond):
	}
	sent := time.Now()
	if _, err := sender.Send("pg-long", topic, 1, "", []byte("wake up")); err != nil {
		t.Fatal(err)
	}
	a := <-answers
	if a.err != nil || a.p.Code != raw.Success || len(a.p.Records) != 1 || string(a.p.Records[0].Body) != "wake up" {
		t.Fatalf("%+v, %v", a.p, a.err)
	}
	if d := a.at.Sub(sent); d > 5*time.Second {
		t.Fatalf("the waiting pull was answered %v after the message was sent", d)
	}
	// Nothing arrives: the answer says so when the deadline has come.
	start := time.Now()
	p, err := c.Pull("g-long", topic, 1, 1, 32, time.Second)
	if err != nil || p.Code != raw.PullNotFound {
		t.Fatalf("%+v, %v", p, err)
	}
	if d := time.Since(start); d < 900*time.Millisecond {
		t.Fatalf("an empty pull was answered after %v instead of a second", d)
	}
}

func offsetsByTime(t *testing.T, w *world) {
	topic := w.topic(t, "ByTime")
	c := w.dial(t)
	var stored []int64
	for i := range 10 {
		if _, err := c.Send("pg-time", topic, 0, "", content(i, 10)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Millisecond) // so that store times differ; nothing waits for it
	}
	settled(t, c, topic, 4, 10)
	recs, err := c.Sweep(topic, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range recs {
		stored = append(stored, r.StoreTime)
	}
	search := func(ts int64) string {
		t.Helper()
		cmd, err := c.Do(raw.SearchOffset, map[string]string{"topic": topic, "queueId": "0", "timestamp": fmt.Sprint(ts)}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return cmd.Ext["offset"]
	}
	if got := search(0); got != "0" {
		t.Fatalf("offset at the epoch: %s", got)
	}
	if got := search(stored[5]); got != "5" {
		t.Fatalf("offset at the time of 5: %s (times %v)", got, stored)
	}
	cmd, err := c.Do(raw.EarliestStoreTime, map[string]string{"topic": topic, "queueId": "0"}, nil)
	if err != nil || cmd.Ext["timestamp"] != fmt.Sprint(stored[0]) {
		t.Fatalf("earliest store time %v, %v, should be %d", cmd, err, stored[0])
	}
}

// vipPort: the port two below serves everything but pulls in the original;
// gomq serves those as well.
func vipPort(t *testing.T, w *world) {
	topic := w.topic(t, "VIP")
	c := dial(t, w.broker.VIPAddr())
	sent, err := c.Send("pg-vip", topic, 2, "", []byte("through the second door"))
	if err != nil || sent.Offset != 0 || sent.Queue != 2 {
		t.Fatalf("%+v, %v", sent, err)
	}
	settled(t, c, topic, 4, 1)
	p, err := c.Pull("g-vip", topic, 2, 0, 1, 0)
	var code *raw.CodeError
	if harness.Kind() == "java" {
		if !errors.As(err, &code) || code.Code != raw.NotSupported {
			t.Fatalf("%+v, %v", p, err)
		}
	} else if err != nil || len(p.Records) != 1 {
		t.Fatalf("%+v, %v", p, err)
	}
}

func unknownCode(t *testing.T, w *world) {
	addrs := map[string]string{"broker": w.broker.Addr(), "port-2": w.broker.VIPAddr()}
	if harness.Kind() == "gomq" {
		addrs["namesrv"] = w.ns.Addr() // 4.9 stays silent here
	}
	for name, addr := range addrs {
		cmd, err := dial(t, addr).Call(31999, nil, nil)
		if err != nil || cmd.Code != raw.NotSupported || cmd.Remark != " request type 31999 not supported" {
			t.Errorf("%s: %+v, %v", name, cmd, err)
		}
	}
}

// binaryHeader: the same requests with the ROCKETMQ header.
func binaryHeader(t *testing.T, w *world) {
	topic := w.topic(t, "Binary")
	c := w.dial(t)
	c.Binary = true
	for i := range 5 {
		sent, err := c.Send("pg-binary", topic, 3, raw.Props("KEYS", fmt.Sprint("bin", i)), content(i, 64))
		if err != nil || sent.Offset != int64(i) {
			t.Fatalf("%+v, %v", sent, err)
		}
	}
	settled(t, c, topic, 4, 5)
	recs, err := c.Sweep(topic, 3)
	if err != nil || len(recs) != 5 || recs[4].Keys() != "bin4" {
		t.Fatalf("%d records, %v", len(recs), err)
	}
	ns := dial(t, w.ns.Addr())
	ns.Binary = true
	if r, err := ns.Route(topic); err != nil || r.BrokerDatas[0].BrokerAddrs["0"] != w.broker.Addr() {
		t.Fatalf("%+v, %v", r, err)
	}
}
