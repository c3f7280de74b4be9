package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"

	"gomq/test/goclient"
	"gomq/test/harness"
	"gomq/test/raw"
)

// Request codes of this file.
const (
	consumerStatusCode  = 223
	connectionsCode     = 203
	producersOfCode     = 204
	resetCode           = 222
	timeSpanCode        = 303
	runningInfoCode     = 307
	correctionCode      = 308
	consumeDirectlyCode = 309
	cloneCode           = 314
	statsCode           = 315
	brokerStatsCode     = 317
	queueCode           = 321
	producersCode       = 328
)

// requestReply: a Go consumer replies to what a Go producer asks, some at a time,
// and every answer is the one to its question.
func requestReply(t *testing.T, w *world) {
	topic := w.topic(t, "RequestReply")
	replies := goclient.Producer(t, w.ns.Addr(), "pg-replies")
	goclient.Push(t, w.ns.Addr(), "g-replies", topic, "*", func(ctx context.Context, msgs ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
		for _, m := range msgs {
			reply, err := consumer.CreateReplyMessage(m, nil)
			if err != nil {
				t.Errorf("a reply to %q: %v", m.Body, err)
				continue
			}
			reply.Body = []byte("re: " + string(m.Body)) // the client takes the body that it is given for properties
			if _, err := replies.SendSync(ctx, reply); err != nil {
				t.Errorf("the reply to %q: %v", m.Body, err)
			}
		}
		return consumer.ConsumeSuccess, nil
	}, consumer.WithConsumeGoroutineNums(1)) // several that look for the reply topic's route disturb each other
	asking := goclient.Producer(t, w.ns.Addr(), "pg-asking")
	// The reply goes to a producer that the broker knows. The Go client sends its
	// first heartbeat after half a minute, or when it asks with a topic that is new.
	if _, err := asking.SendSync(background(t), primitive.NewMessage(w.topic(t, "NotAsked"), []byte("x"))); err != nil {
		t.Fatal(err)
	}
	if answer, err := asking.Request(background(t), time.Second, primitive.NewMessage("NobodyReplies", []byte("x"))); err == nil {
		t.Fatalf("nobody replied %v", answer)
	}
	c := w.dial(t)
	if _, err := c.Do(producersOfCode, map[string]string{"producerGroup": "pg-asking"}, nil); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 10 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			answer, err := asking.Request(background(t), 30*time.Second, primitive.NewMessage(topic, []byte(fmt.Sprint("question ", i))))
			if err != nil || string(answer.Body) != fmt.Sprint("re: question ", i) {
				t.Errorf("question %d: %v %v", i, answer, err)
			}
		}()
	}
	wg.Wait()
	// The replies are kept too, for whoever wants to look.
	if kept, err := c.Sweep("DefaultCluster_REPLY_TOPIC", 0); err != nil || len(kept) != 10 {
		t.Errorf("%d replies are stored, %v", len(kept), err)
	}
}

// clientsOf is the ids of a group's clients, once there are n.
func clientsOf(t *testing.T, c *raw.Conn, group string, n int) (ids []string) {
	t.Helper()
	harness.Eventually(t, 30*time.Second, fmt.Sprintf("%d clients of %s", n, group), func() bool {
		cmd, err := c.Do(connectionsCode, map[string]string{"consumerGroup": group}, nil)
		if err != nil {
			return false
		}
		var body struct{ ConnectionSet []struct{ ClientID string } }
		if err := json.Unmarshal(cmd.Body, &body); err != nil {
			t.Fatalf("%s: %v", cmd.Body, err)
		}
		ids = nil
		for _, x := range body.ConnectionSet {
			ids = append(ids, x.ClientID)
		}
		return len(ids) == n
	})
	return ids
}

// askConsumer: what an administrator asks of a Go consumer and has it do.
func askConsumer(t *testing.T, w *world) {
	const group = "g-asked"
	topic := w.topic(t, "Asked")
	c := w.dial(t)
	c.Limit = 15 * time.Second
	var mu sync.Mutex
	seen := map[string]int{}
	goclient.Push(t, w.ns.Addr(), group, topic, "*", func(_ context.Context, msgs ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
		mu.Lock()
		defer mu.Unlock()
		for _, m := range msgs {
			seen[string(m.Body)]++
		}
		return consumer.ConsumeSuccess, nil
	})
	count := func(n int) func() bool {
		return func() bool {
			mu.Lock()
			defer mu.Unlock()
			return len(seen) == 8 && !slices.ContainsFunc(slices.Collect(maps.Values(seen)), func(k int) bool { return k < n })
		}
	}
	var ids []string
	for i := range 8 {
		s, err := c.Send("pg", topic, i%4, "", []byte(fmt.Sprint("message ", i)))
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, s.ID)
	}
	harness.Eventually(t, 30*time.Second, "8 messages consumed", count(1))
	harness.Eventually(t, 30*time.Second, "8 messages committed", func() bool { return committed(t, c, group, topic, 4) == 8 })
	client := clientsOf(t, c, group, 1)[0]
	asked := func(code int, more ...string) *raw.Command {
		t.Helper()
		ext := map[string]string{"consumerGroup": group, "clientId": client, "topic": topic, "group": group}
		for i := 0; i+1 < len(more); i += 2 {
			ext[more[i]] = more[i+1]
		}
		cmd, err := c.Do(code, ext, nil)
		if err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	// Without a sample of its own statistics the Go client cannot encode them.
	if cmd := asked(runningInfoCode, "jstackEnable", "false"); !strings.Contains(string(cmd.Body), topic) && cmd.Remark != "json marshal error: json: unsupported value: NaN" {
		t.Errorf("running info %q %.300s", cmd.Remark, cmd.Body)
	}
	if cmd := asked(consumeDirectlyCode, "msgId", ids[3]); !strings.Contains(string(cmd.Body), `"consumeResult":0`) {
		t.Errorf("consumed directly: %s", cmd.Body)
	}
	mu.Lock()
	if seen["message 3"] != 2 {
		t.Errorf("consumed directly, message 3 was seen %d times", seen["message 3"])
	}
	mu.Unlock()
	status := asked(consumerStatusCode, "clientAddr", client)
	if want := fmt.Sprintf(`"topic":"%s"}:2`, topic); strings.Count(string(status.Body), want) != 4 {
		t.Errorf("the status is %s", status.Body)
	}
	// Back to the beginning: everything comes again, and is committed again.
	asked(resetCode, "timestamp", "0", "isForce", "true")
	harness.Eventually(t, 50*time.Second, "8 messages once more", count(2))
	harness.Eventually(t, 30*time.Second, "8 messages committed again", func() bool { return committed(t, c, group, topic, 4) == 8 })
}

// slowConsumer: a client that never answers holds up nobody but who asks it, and
// not for long.
func slowConsumer(t *testing.T, w *world) {
	const group = "g-slow"
	slow, c := w.dial(t), w.dial(t)
	c.Limit = 20 * time.Second
	beat := `{"clientID":"slow","consumerDataSet":[{"groupName":"` + group + `","consumeType":"CONSUME_PASSIVELY","messageModel":"CLUSTERING","consumeFromWhere":"CONSUME_FROM_FIRST_OFFSET",` +
		`"subscriptionDataSet":[{"topic":"Slow","subString":"*","subVersion":1}]}]}`
	if _, err := slow.Do(raw.HeartBeat, nil, []byte(beat)); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	done := make(chan error, 1)
	go func() {
		_, err := c.Do(runningInfoCode, map[string]string{"consumerGroup": group, "clientId": "slow"}, nil)
		done <- err
	}()
	// Meanwhile the same connection is served.
	for range 100 {
		if _, err := c.Send("pg", "Slow", 0, "", []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case err := <-done:
		t.Fatalf("answered after %s: %v", time.Since(begun), err)
	default:
	}
	var refused *raw.CodeError
	if err := <-done; !errors.As(err, &refused) || refused.Code != 207 || !strings.Contains(refused.Remark, "no answer within 10s") {
		t.Errorf("after %s: %v", time.Since(begun), err)
	}
	// It goes while it is asked.
	go func() {
		_, err := c.Do(runningInfoCode, map[string]string{"consumerGroup": group, "clientId": "slow"}, nil)
		done <- err
	}()
	for range 2 {
		if cmd := <-slow.Pushed(); cmd.Code != runningInfoCode && cmd.Code != 40 {
			t.Errorf("the client was sent %d", cmd.Code)
		}
	}
	slow.Close()
	if err := <-done; !errors.As(err, &refused) {
		t.Errorf("a client that went: %v", err)
	}
	if _, err := c.Do(runningInfoCode, map[string]string{"consumerGroup": group, "clientId": "slow"}, nil); !errors.As(err, &refused) || !strings.Contains(refused.Remark, "not online") {
		t.Errorf("a client that has gone: %v", err)
	}
}

// adminCodes: what tools ask beside the client, against a real process.
func adminCodes(t *testing.T, w *world) {
	const group = "g-codes"
	topic := w.topic(t, "Codes")
	c := w.dial(t)
	for i := range 6 {
		if _, err := c.Send("pg-codes", topic, i%2, raw.Props("TAGS", "TagA"), []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Pull(group, topic, 0, 0, 1, 0); err != nil { // makes the group
		t.Fatal(err)
	}
	for q := range 4 {
		if err := c.Commit(group, topic, q, int64(min(q, 1))); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Do(raw.HeartBeat, nil, []byte(`{"clientID":"codes","producerDataSet":[{"groupName":"pg-codes"}]}`)); err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		code int
		ext  map[string]string
		want []string // in the body
	}{
		{timeSpanCode, map[string]string{"topic": topic, "group": group}, []string{`"consumeTimeSpanSet":[`, `"queueId":3,`}},
		{correctionCode, map[string]string{"topic": topic, "compareGroup": group, "filterGroups": "x"}, []string{`{"correctionOffsets":{0:0,1:1,2:1,3:1}}`}},
		{cloneCode, map[string]string{"topic": topic, "srcGroup": group, "destGroup": group + "2", "offline": "true"}, nil},
		{statsCode, map[string]string{"statsName": "TOPIC_PUT_NUMS", "statsKey": topic}, []string{`"statsDay":{"avgpt":1.0,"sum":6,`}},
		{brokerStatsCode, map[string]string{"isOrder": "false"}, []string{`"brokerAddr":"` + w.broker.Addr() + `"`, `"queueId":1,"topic":"` + topic + `"}:{"brokerOffset":3,"consumerOffset":1,`}},
		{queueCode, map[string]string{"topic": topic, "queueId": "0", "index": "1", "count": "1"}, []string{`"maxQueueIndex":3,"minQueueIndex":0,"queueData":[{"eval":false,`, `"tagsCode":2598919}]`}},
		{producersCode, nil, []string{`"pg-codes":[{"clientId":"codes","language":"JAVA",`}},
	} {
		cmd, err := c.Do(x.code, x.ext, nil)
		if err != nil {
			t.Errorf("%d: %v", x.code, err)
			continue
		}
		for _, want := range x.want {
			if !strings.Contains(string(cmd.Body), want) {
				t.Errorf("%d: %s lacks %s", x.code, cmd.Body, want)
			}
		}
	}
	for q := range 4 {
		if at, err := c.Committed(group+"2", topic, q); err != nil || at != int64(min(q, 1)) {
			t.Errorf("the copied offset of queue %d is %d, %v", q, at, err)
		}
	}
}
