package broker

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"gomq/internal/client"
	"gomq/internal/protocol"
)

// The table of requests.md 3.2.
func TestPullStatus(t *testing.T) {
	r := run(t, nil)
	r.create("T", 2)
	for i := range 5 {
		r.send("T", 0, fmt.Sprint(i), "TAGS", []string{"A", "B"}[i%2])
	}
	for _, c := range []struct {
		queue  int32
		offset int64
		expr   string
		code   int32
		status string
		next   int64
		count  int
	}{
		{0, 0, "*", 0, "FOUND", 5, 5},
		{0, 2, "", 0, "FOUND", 5, 3},
		{0, 0, "B", 0, "FOUND", 5, 2},
		{0, 0, "A || B", 0, "FOUND", 5, 5},
		{0, 0, "C", 20, "NO_MATCHED_MESSAGE", 5, 0},
		{0, 5, "*", 19, "OFFSET_OVERFLOW_ONE", 5, 0},
		{0, 9, "*", 21, "OFFSET_OVERFLOW_BADLY", 5, 0},
		{0, -1, "*", 21, "OFFSET_TOO_SMALL", 0, 0},
		{1, 0, "*", 19, "NO_MESSAGE_IN_QUEUE", 0, 0},
		{1, 3, "*", 21, "NO_MESSAGE_IN_QUEUE", 0, 0},
	} {
		p, list := r.pull("T", c.queue, c.offset, c.expr)
		if p.Code != c.code || p.Status != c.status || p.NextBeginOffset != c.next || len(list) != c.count || p.SuggestWhichBrokerID != 0 {
			t.Errorf("queue %d from %d, %q: %d %s next %d with %d messages, want %+v", c.queue, c.offset, c.expr, p.Code, p.Status, p.NextBeginOffset, len(list), c)
		}
	}
}

// LITE_PULL_MESSAGE is the same request under another number, and both ports
// serve it.
func TestLitePullOnBothPorts(t *testing.T) {
	r := run(t, nil)
	r.create("T", 1)
	r.send("T", 0, "x")
	o := r.live.Load()
	for _, port := range []int{o.ListenPort, o.FastListenPort} {
		for _, code := range []int32{protocol.PullMessage, protocol.LitePullMessage} {
			h := pullHeader("CG", "T", 0, 0, "*")
			resp, err := r.c.Call(t.Context(), fmt.Sprint("127.0.0.1:", port), protocol.NewRequest(code, &h, nil))
			if err != nil || resp.Code != protocol.Success {
				t.Errorf("port %d, code %d: %v %v", port, code, resp, err)
			}
		}
	}
}

func TestPullLimits(t *testing.T) {
	r := run(t, func(o *Options) {
		o.MaxTransferCountOnMessageInMemory = 7
		o.MaxTransferBytesOnMessageInMemory = 3000
	})
	r.create("T", 2)
	for range 10 {
		r.send("T", 0, "x")
		r.send("T", 1, strings.Repeat("x", 1000))
	}
	if _, list := r.pull("T", 0, 0, "*"); len(list) != 7 {
		t.Errorf("%d messages, want 7 by count", len(list))
	}
	if _, list := r.pull("T", 1, 0, "*"); len(list) != 2 {
		t.Errorf("%d messages, want 2 by bytes", len(list))
	}
	h := pullHeader("CG", "T", 0, 0, "*")
	for _, n := range []int32{3, 1, 0, -1} {
		h.MaxMsgNums = n
		if _, list := r.pullAs(h); len(list) != int(max(n, 1)) {
			t.Errorf("%d messages, %d were asked for", len(list), n)
		}
	}
	// Far behind the end of the log the smaller limits hold, and with
	// slaveReadEnable another broker is suggested.
	far := runWith(t, func(o *Options) { o.MaxTransferCountOnMessageInDisk, o.SlaveReadEnable = 2, true }, seams{memory: 100 << 10})
	far.create("T", 1)
	for range 60 {
		far.send("T", 0, strings.Repeat("x", 1000))
	}
	p, list := far.pull("T", 0, 0, "*")
	if len(list) != 2 || p.SuggestWhichBrokerID != 1 {
		t.Errorf("far: %d messages, broker %d suggested", len(list), p.SuggestWhichBrokerID)
	}
	p, list = far.pull("T", 0, 50, "*")
	if len(list) != 10 || p.SuggestWhichBrokerID != 0 {
		t.Errorf("near: %d messages, broker %d suggested", len(list), p.SuggestWhichBrokerID)
	}
}

func TestPullRefusals(t *testing.T) {
	r := run(t, func(o *Options) { o.AutoCreateSubscriptionGroup = false })
	r.create("T", 1)
	if err := r.b.topics.Put(protocol.TopicConfig{TopicName: "W", ReadQueueNums: 1, WriteQueueNums: 1, Perm: 2}); err != nil {
		t.Fatal(err)
	}
	group := func(name string, change func(g *protocol.GroupConfig)) {
		g := protocol.GroupConfig{GroupName: name, ConsumeEnable: true, ConsumeBroadcastEnable: true, RetryQueueNums: 1, RetryMaxTimes: 16, NotifyConsumerIdsChangedEnable: true}
		if change != nil {
			change(&g)
		}
		if err := r.c.CreateGroup(t.Context(), r.addr, g); err != nil {
			t.Fatal(err)
		}
	}
	group("CG", nil)
	group("Off", func(g *protocol.GroupConfig) { g.ConsumeEnable = false })
	group("NoCast", func(g *protocol.GroupConfig) { g.ConsumeBroadcastEnable = false })
	beat := func(g, model, topic, typ string, version int64) {
		t.Helper()
		err := r.c.Beat(t.Context(), r.addr, &protocol.Heartbeat{ClientID: "c1", Consumers: []protocol.ConsumerBeat{{GroupName: g, ConsumeType: "CONSUME_PASSIVELY", MessageModel: model,
			ConsumeFromWhere: "CONSUME_FROM_FIRST_OFFSET", Subscriptions: []protocol.Subscription{{Topic: topic, SubString: "*", SubVersion: version, ExpressionType: typ}}}}})
		if err != nil {
			t.Fatal(err)
		}
	}
	beat("NoCast", "BROADCASTING", "T", "TAG", 5)
	beat("CG", "CLUSTERING", "Sql", "SQL92", 5)
	if err := r.b.topics.Put(protocol.TopicConfig{TopicName: "Sql", ReadQueueNums: 1, WriteQueueNums: 1, Perm: 6}); err != nil {
		t.Fatal(err)
	}
	group("Alone", nil)
	for _, c := range []struct {
		what   string
		change func(h *protocol.PullHeader)
		code   int32
		text   string
	}{
		{"group", func(h *protocol.PullHeader) { h.Group = []byte("N") }, 26, "subscription group [N] does not exist, \nSee http"},
		{"group off", func(h *protocol.PullHeader) { h.Group = []byte("Off") }, 16, "subscription group no permission, Off"},
		{"topic", func(h *protocol.PullHeader) { h.Topic = []byte("N") }, 17, "topic[N] not exist, apply first please! \nSee http"},
		{"write only", func(h *protocol.PullHeader) { h.Topic = []byte("W") }, 16, "the topic[W] pulling message is forbidden"},
		{"queue", func(h *protocol.PullHeader) { h.QueueID = 1 }, 1, "queueId[1] is illegal, topic:[T] topicConfig.readQueueNums:[1] consumer:[127.0.0.1:"},
		{"queue below", func(h *protocol.PullHeader) { h.QueueID = -1 }, 1, "queueId[-1] is illegal"},
		{"nobody online", func(h *protocol.PullHeader) { h.SysFlag, h.Group = 0, []byte("Alone") }, 24, "the consumer's group info not exist\nSee http"},
		{"not subscribed", func(h *protocol.PullHeader) { h.SysFlag = 0 }, 24, "the consumer's subscription not exist\nSee http"},
		{"older", func(h *protocol.PullHeader) { h.SysFlag, h.Group, h.SubVersion = 0, []byte("NoCast"), 6 }, 16, "can not consume by broadcast way"},
		{"SQL in header", func(h *protocol.PullHeader) { h.ExpressionType = []byte("SQL92") }, 1, "The broker does not support consumer to filter message by SQL92"},
		{"SQL by heartbeat", func(h *protocol.PullHeader) { h.SysFlag, h.Topic = 0, []byte("Sql") }, 1, "The broker does not support consumer to filter message by SQL92"},
		{"SQL newer", func(h *protocol.PullHeader) { h.SysFlag, h.Topic, h.SubVersion = 0, []byte("Sql"), 6 }, 25, "the consumer's subscription not latest"},
	} {
		h := pullHeader("CG", "T", 0, 0, "*")
		c.change(&h)
		_, err := r.c.Pull(t.Context(), r.addr, h)
		if got, _ := client.Code(err); got != c.code || !strings.Contains(err.Error(), strings.TrimSpace(c.text)) {
			t.Errorf("%s: %v, want code %d with %q", c.what, err, c.code, c.text)
		}
	}
}

// longPull starts a pull that waits.
func (r *rig) longPull(c *client.Client, h protocol.PullHeader, span time.Duration) <-chan client.Pulled {
	out := make(chan client.Pulled, 1)
	h.SysFlag |= protocol.PullSuspend
	h.SuspendMillis = span.Milliseconds()
	go func() {
		p, err := c.Pull(context.Background(), r.addr, h)
		if err != nil {
			r.Errorf("long pull: %v", err)
		}
		out <- p
	}()
	return out
}

// A message reaches a consumer that waits, at once.
func TestLongPollArrives(t *testing.T) {
	for _, flush := range []FlushType{AsyncFlush, SyncFlush} {
		t.Run(string(flush), func(t *testing.T) {
			r := run(t, func(o *Options) { o.FlushDiskType = flush })
			r.create("T", 1)
			consumer := r.client()
			for i := range 5 {
				got := r.longPull(consumer, pullHeader("CG", "T", 0, int64(i), "*"), time.Minute)
				r.eventually("the pull is not parked", func() bool { return r.b.pull.held.Len() == 1 })
				start := time.Now()
				r.send("T", 0, fmt.Sprint("m", i))
				p := <-got
				if list, _ := client.Records(p.Body); p.Code != protocol.Success || len(list) != 1 || string(list[0].Body()) != fmt.Sprint("m", i) {
					t.Fatalf("pulled %+v", p)
				}
				if took := time.Since(start); took > 5*time.Second {
					t.Errorf("it took %v", took)
				}
			}
		})
	}
}

// When nothing comes the pull is answered 19 when its time is up.
func TestLongPollExpires(t *testing.T) {
	r := run(t, nil)
	r.create("T", 1)
	start := time.Now()
	p := <-r.longPull(r.c, pullHeader("CG", "T", 0, 0, "*"), 200*time.Millisecond)
	if took := time.Since(start); p.Code != protocol.PullNotFound || p.Status != "NO_MESSAGE_IN_QUEUE" || took < 150*time.Millisecond {
		t.Errorf("pulled %+v after %v", p, took)
	}
	// With longPollingEnable=false it waits for the short time, whatever was asked.
	short := run(t, func(o *Options) { o.LongPollingEnable, o.ShortPollingTimeMills = false, 50*time.Millisecond })
	short.create("T", 1)
	if p := <-short.longPull(short.c, pullHeader("CG", "T", 0, 0, "*"), time.Hour); p.Code != protocol.PullNotFound {
		t.Errorf("pulled %+v", p)
	}
}

// A pull whose filter skips what comes waits on, and then learns how far it has
// come.
func TestLongPollFilters(t *testing.T) {
	r := run(t, nil)
	r.create("T", 1)
	got := r.longPull(r.client(), pullHeader("CG", "T", 0, 0, "A"), time.Minute)
	r.eventually("the pull is not parked", func() bool { return r.b.pull.held.Len() == 1 })
	r.send("T", 0, "other", "TAGS", "B")
	r.send("T", 0, "mine", "TAGS", "A")
	p := <-got
	if list, _ := client.Records(p.Body); p.Code != protocol.Success || len(list) != 1 || string(list[0].Body()) != "mine" || p.NextBeginOffset != 2 {
		t.Fatalf("pulled %+v", p)
	}
	got = r.longPull(r.client(), pullHeader("CG", "T", 0, 2, "A"), 300*time.Millisecond)
	r.eventually("the pull is not parked", func() bool { return r.b.pull.held.Len() == 1 })
	r.send("T", 0, "other", "TAGS", "B")
	if p := <-got; p.Code != protocol.PullRetryImmediately || p.NextBeginOffset != 3 {
		t.Errorf("pulled %+v", p)
	}
}

// Beyond its limit a connection's pulls are answered at once; those of others
// wait.
func TestLongPollLimit(t *testing.T) {
	r := run(t, func(o *Options) { o.MaxLongPollsPerConnection = 2 })
	r.create("T", 1)
	a, b := r.client(), r.client()
	h := pullHeader("CG", "T", 0, 0, "*")
	var waiting []<-chan client.Pulled
	for range 2 {
		waiting = append(waiting, r.longPull(a, h, time.Minute))
	}
	r.eventually("two pulls are not parked", func() bool { return r.b.pull.held.Len() == 2 })
	if p := <-r.longPull(a, h, time.Minute); p.Code != protocol.PullNotFound {
		t.Errorf("the third of one connection: %+v", p)
	}
	waiting = append(waiting, r.longPull(b, h, time.Minute))
	r.eventually("three pulls are not parked", func() bool { return r.b.pull.held.Len() == 3 })
	r.send("T", 0, "x")
	for _, w := range waiting {
		if p := <-w; p.Code != protocol.Success {
			t.Errorf("pulled %+v", p)
		}
	}
	// They count no more: two may wait again.
	h.QueueOffset = 1
	waiting = []<-chan client.Pulled{r.longPull(a, h, time.Minute), r.longPull(a, h, time.Minute)}
	r.eventually("two pulls are not parked again", func() bool { return r.b.pull.held.Len() == 2 })
	r.send("T", 0, "y")
	for _, w := range waiting {
		if p := <-w; p.Code != protocol.Success {
			t.Errorf("pulled %+v", p)
		}
	}
}

// Consumers that pull while the broker stops, each again at once when it is told
// that there is nothing, as clients do: every pull is answered, and the last answer
// makes the consumer rest. A 4.x client that gets none waits for 30 s.
func TestStopAnswersPulls(t *testing.T) {
	r := run(t, nil)
	const consumers, queues = 4, 8
	r.create("T", queues)
	ended := make(chan error, consumers*queues)
	for i := range consumers {
		c := r.client()
		group := fmt.Sprint("CG", i)
		for q := range int32(queues) {
			h := pullHeader(group, "T", q, 0, "*")
			h.SysFlag |= protocol.PullSuspend
			h.SuspendMillis = time.Minute.Milliseconds()
			go func() {
				for {
					p, err := c.Pull(context.Background(), r.addr, h)
					if refusedWith(err, protocol.ServiceNotAvailable) {
						ended <- nil
						return
					}
					if err != nil || p.Code != protocol.PullNotFound {
						ended <- fmt.Errorf("a pull of %s from queue %d: %+v, %w", group, q, p, err)
						return
					}
				}
			}()
		}
	}
	r.eventually("all pulls are not parked", func() bool { return r.b.pull.held.Len() == consumers*queues })
	r.stop()
	for range consumers * queues {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

func refusedWith(err error, code int32) bool {
	got, ok := client.Code(err)
	return ok && got == code
}

// Messages that arrive while a pull is on its way to be parked are not missed.
func TestLongPollRace(t *testing.T) {
	r := run(t, nil)
	r.create("T", 1)
	const n = 300
	var wg sync.WaitGroup
	wg.Add(1)
	consumer := r.client()
	go func() {
		defer wg.Done()
		for at := int64(0); at < n; {
			h := pullHeader("CG", "T", 0, at, "*")
			h.SysFlag |= protocol.PullSuspend
			h.SuspendMillis = 60_000
			start := time.Now()
			p, err := consumer.Pull(context.Background(), r.addr, h)
			if err != nil || p.Code != protocol.Success {
				t.Errorf("at %d: %+v %v", at, p, err)
				return
			}
			if took := time.Since(start); took > 10*time.Second {
				t.Errorf("at %d the pull waited %v", at, took)
			}
			at = p.NextBeginOffset
		}
	}()
	for i := range n {
		r.send("T", 0, fmt.Sprint(i))
	}
	wg.Wait()
}

// A deleted topic answers those who wait for it.
func TestLongPollTopicDeleted(t *testing.T) {
	r := run(t, nil)
	r.create("T", 1)
	r.send("T", 0, "x")
	out := make(chan error, 1)
	c := r.client()
	go func() {
		h := pullHeader("CG", "T", 0, 1, "*")
		h.SysFlag |= protocol.PullSuspend
		h.SuspendMillis = 60_000
		_, err := c.Pull(context.Background(), r.addr, h)
		out <- err
	}()
	r.eventually("the pull is not parked", func() bool { return r.b.pull.held.Len() == 1 })
	if err := r.c.DeleteTopic(t.Context(), r.addr, "T"); err != nil {
		t.Fatal(err)
	}
	r.refused(<-out, protocol.TopicNotExist, "topic[T] not exist")
	// A topic of that name starts at 0 again.
	r.create("T", 1)
	if s := r.send("T", 0, "new"); s.QueueOffset != 0 {
		t.Errorf("the new topic starts at %d", s.QueueOffset)
	}
}

// Offsets: what a group has committed, what a new one starts from, what comes with
// a pull, and all of it after a restart.
func TestOffsets(t *testing.T) {
	r := run(t, nil)
	ctx := t.Context()
	r.create("T", 2)
	if at, found, err := r.c.Offset(ctx, r.addr, "CG", "T", 0); at != 0 || !found || err != nil {
		t.Errorf("a new group on a young queue: %d %v %v", at, found, err)
	}
	if err := r.c.Commit(ctx, r.addr, "CG", "T", 0, 7); err != nil {
		t.Fatal(err)
	}
	h := pullHeader("CG", "T", 1, 0, "*")
	h.SysFlag |= protocol.PullCommit
	h.CommitOffset = 3
	r.pullAs(h)
	for range 2 {
		for q, want := range map[int32]int64{0: 7, 1: 3} {
			if at, found, err := r.c.Offset(ctx, r.addr, "CG", "T", q); at != want || !found || err != nil {
				t.Errorf("queue %d: %d %v %v, want %d", q, at, found, err, want)
			}
		}
		if table, err := r.c.AllOffsets(ctx, r.addr); err != nil || table["T@CG"][0] != 7 {
			t.Errorf("all: %v %v", table, err)
		}
		r = r.again()
	}
	err := r.c.Commit(ctx, r.addr, "C/../G", "T", 0, 1)
	r.refused(err, protocol.SystemError, "group")
	// 5.x may ask to be told that there is none.
	hq := protocol.OffsetHeader{Group: []byte("New"), Topic: []byte("T"), QueueID: 0}
	req := protocol.NewRequest(protocol.QueryConsumerOffset, &hq, nil)
	req.Set("setZeroIfNotFound", "false")
	if resp, err := r.c.Call(ctx, r.addr, req); err != nil || resp.Code != protocol.QueryNotFound {
		t.Errorf("setZeroIfNotFound=false: %v %v", resp, err)
	}
}

// On a queue whose beginning is far from memory a new group decides for itself
// where to start.
func TestOffsetOfNewGroupFar(t *testing.T) {
	r := runWith(t, nil, seams{memory: 100 << 10})
	r.create("T", 1)
	for range 60 {
		r.send("T", 0, strings.Repeat("x", 1000))
	}
	if at, found, err := r.c.Offset(t.Context(), r.addr, "CG", "T", 0); found || err != nil {
		t.Errorf("%d %v %v", at, found, err)
	}
}

// Questions about queues that are not there are answered as of empty ones, and
// make none.
func TestQueueQuestions(t *testing.T) {
	r := run(t, nil)
	ctx := t.Context()
	before := len(r.b.store.Queues())
	for _, topic := range []string{"N", "../x", ""} {
		for _, q := range []int32{0, 5, -1, 1 << 30} {
			if n, err := r.c.MaxOffset(ctx, r.addr, topic, q); n != 0 || err != nil {
				t.Errorf("max of %q/%d: %d %v", topic, q, n, err)
			}
			if n, err := r.c.MinOffset(ctx, r.addr, topic, q); n != 0 || err != nil {
				t.Errorf("min of %q/%d: %d %v", topic, q, n, err)
			}
			if n, err := r.c.SearchOffset(ctx, r.addr, topic, q, time.Now()); n != 0 || err != nil {
				t.Errorf("search of %q/%d: %d %v", topic, q, n, err)
			}
			if n, err := r.c.EarliestStoreTime(ctx, r.addr, topic, q); n != -1 || err != nil {
				t.Errorf("earliest of %q/%d: %d %v", topic, q, n, err)
			}
		}
	}
	if n := len(r.b.store.Queues()); n != before {
		t.Errorf("%d queues were made", n-before)
	}
}
