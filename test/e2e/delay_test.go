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
	"github.com/apache/rocketmq-client-go/v2/producer"

	"gomq/test/goclient"
	"gomq/test/harness"
	"gomq/test/raw"
)

// shortLevels are delay levels that a test can wait for; retries begin with the
// third.
const shortLevels = "1s 2s 1s 2s 3s 4s"

// levelOf is the delay of a level of shortLevels.
func levelOf(level int) time.Duration {
	d, err := time.ParseDuration(strings.Fields(shortLevels)[level-1])
	if err != nil {
		panic(err)
	}
	return d
}

// lateness is how late a message may be here: the machine may be busy with others.
const lateness = 15 * time.Second

// arrivals is when which message came, by its body.
type arrivals struct {
	mu sync.Mutex
	at map[string][]time.Time
}

func (a *arrivals) note(body string) (times int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.at == nil {
		a.at = map[string][]time.Time{}
	}
	a.at[body] = append(a.at[body], time.Now())
	return len(a.at[body])
}

func (a *arrivals) of(body string) []time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.at[body]
}

func (a *arrivals) bodies() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.at)
}

// TestDelay: one broker with short levels, the official Go client.
func TestDelay(t *testing.T) {
	t.Parallel()
	ns, broker := harness.StartPair(t, harness.Config{Props: map[string]string{"messageDelayLevel": shortLevels}})
	w := &world{ns, broker}
	t.Run("group", func(t *testing.T) {
		for name, test := range map[string]func(*testing.T, *world){"Levels": delayLevels, "RetryUntilDead": retryUntilDead, "RetryChosen": retryChosen} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				test(t, w)
			})
		}
	})
	// What waits when the broker stops comes when it is there again, once.
	t.Run("Restart", func(t *testing.T) { delayOverRestart(t, w) })
}

// sendDelayed sends one message, until it is taken.
func sendDelayed(t testing.TB, p interface {
	SendSync(context.Context, ...*primitive.Message) (*primitive.SendResult, error)
}, topic, body string, level int) time.Time {
	t.Helper()
	before := time.Now()
	m := primitive.NewMessage(topic, []byte(body)).WithDelayTimeLevel(level).WithKeys([]string{body})
	res, err := p.SendSync(background(t), m)
	if err != nil || res.Status != primitive.SendOK {
		t.Fatal(res, err)
	}
	return before
}

// delayLevels: every level, and one above the highest, comes not before its time
// and hardly after it.
func delayLevels(t *testing.T, w *world) {
	topic := w.topic(t, "Levels")
	var got arrivals
	goclient.Push(t, w.ns.Addr(), "g-levels", topic, "*", func(_ context.Context, msgs ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
		for _, m := range msgs {
			got.note(string(m.Body))
		}
		return consumer.ConsumeSuccess, nil
	})
	p := goclient.Producer(t, w.ns.Addr(), "pg-levels")
	sent := map[int]time.Time{}
	for _, level := range []int{1, 2, 3, 4, 5, 6, 99} {
		sent[level] = sendDelayed(t, p, topic, fmt.Sprint("level ", level), level)
	}
	harness.Eventually(t, 60*time.Second, "all levels", func() bool { return got.bodies() == len(sent) })
	for level, at := range sent {
		came := got.of(fmt.Sprint("level ", level))
		want := levelOf(min(level, 6))
		if took := came[0].Sub(at); len(came) != 1 || took < want || took > want+lateness {
			t.Errorf("level %d came %d times, after %v", level, len(came), took)
		}
	}
}

// retries makes a group's retry topic, as its first heartbeat does: clients that
// begin before it is there look for it half a minute later.
func (w *world) retries(t testing.TB, group string) {
	t.Helper()
	w.topic(t, "%RETRY%"+group)
}

// retryUntilDead: a consumer that never succeeds gets the message again after
// pauses that grow, until its limit; then it is a dead letter.
func retryUntilDead(t *testing.T, w *world) {
	topic := w.topic(t, "Retried")
	const group, most = "g-dead", 3
	w.retries(t, group)
	var got arrivals
	var mu sync.Mutex
	times := map[string][]int32{}
	goclient.Push(t, w.ns.Addr(), group, topic, "*", func(_ context.Context, msgs ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
		for _, m := range msgs {
			mu.Lock()
			times[string(m.Body)] = append(times[string(m.Body)], m.ReconsumeTimes)
			mu.Unlock()
			if got.note(string(m.Body)); string(m.Body) != "good" {
				return consumer.ConsumeRetryLater, nil
			}
		}
		return consumer.ConsumeSuccess, nil
	}, consumer.WithMaxReconsumeTimes(most), consumer.WithConsumeMessageBatchMaxSize(1))
	p := goclient.Producer(t, w.ns.Addr(), "pg-dead", producer.WithQueueSelector(producer.NewManualQueueSelector()))
	for _, body := range []string{"bad", "good", "worse"} {
		m := primitive.NewMessage(topic, []byte(body)).WithKeys([]string{body}).WithTag("T")
		m.Queue = &primitive.MessageQueue{Topic: topic, BrokerName: "broker-a", QueueId: 1}
		if _, err := p.SendSync(background(t), m); err != nil {
			t.Fatal(err)
		}
	}
	c := w.dial(t)
	var dead []*raw.Record
	harness.Eventually(t, 90*time.Second, "two dead letters", func() bool {
		var err error
		if dead, err = c.Sweep("%DLQ%"+group, 0); err != nil {
			return false // not there yet
		}
		return len(dead) == 2
	})
	for _, r := range dead {
		came := got.of(string(r.Body))
		if len(came) != most+1 || r.Reconsumes != most+1 || r.Props["RETRY_TOPIC"] != topic || r.Props["KEYS"] != string(r.Body) || r.Props["ORIGIN_MESSAGE_ID"] == "" {
			t.Errorf("%s came %d times and is the dead letter %+v", r.Body, len(came), r)
			continue
		}
		for try := range most {
			if took, want := came[try+1].Sub(came[try]), levelOf(3+try); took < want || took > want+lateness {
				t.Errorf("%s: try %d came after %v, its level waits %v", r.Body, try+1, took, want)
			}
			if mu.Lock(); times[string(r.Body)][try] != int32(try) {
				t.Errorf("%s: tries %v", r.Body, times[string(r.Body)])
			}
			mu.Unlock()
		}
	}
	if n := len(got.of("good")); n != 1 {
		t.Errorf("the good message came %d times", n)
	}
	// A dead letter comes to nobody by itself, and can be read by who asks for it.
	route := waitRoute(t, w.ns.Addr(), "%DLQ%"+group)
	if d := route.QueueDatas[0]; d.Perm != 6 || d.ReadQueueNums != 1 {
		t.Errorf("the topic of dead letters is %+v", d)
	}
}

// retryChosen: the consumer chooses the pause of a try itself.
func retryChosen(t *testing.T, w *world) {
	topic := w.topic(t, "Chosen")
	w.retries(t, "g-chosen")
	var got arrivals
	goclient.Push(t, w.ns.Addr(), "g-chosen", topic, "*", func(ctx context.Context, msgs ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
		for _, m := range msgs {
			if got.note(string(m.Body)) == 1 {
				cc, _ := primitive.GetConcurrentlyCtx(ctx)
				cc.DelayLevelWhenNextConsume = 5
				return consumer.ConsumeRetryLater, nil
			}
		}
		return consumer.ConsumeSuccess, nil
	})
	p := goclient.Producer(t, w.ns.Addr(), "pg-chosen")
	sendDelayed(t, p, topic, "x", 0)
	harness.Eventually(t, 60*time.Second, "the second try", func() bool { return len(got.of("x")) == 2 })
	came := got.of("x")
	if took := came[1].Sub(came[0]); took < levelOf(5) || took > levelOf(5)+lateness {
		t.Errorf("it came again after %v", took)
	}
}

func delayOverRestart(t *testing.T, w *world) {
	topic := w.topic(t, "Restarted")
	p := goclient.Producer(t, w.ns.Addr(), "pg-restarted")
	sent := sendDelayed(t, p, topic, "waits", 6)
	sendDelayed(t, p, topic, "soon", 1)
	c := w.dial(t)
	there := func() (n int64) {
		for q := range 4 {
			max, err := c.Offset(raw.MaxOffset, topic, q)
			if err != nil {
				t.Fatal(err)
			}
			n += max
		}
		return n
	}
	harness.Eventually(t, 30*time.Second, "the first level", func() bool { return there() >= 1 })
	w.broker.Restart()
	c = w.dial(t)
	harness.Eventually(t, 30*time.Second, "the sixth level", func() bool { return there() >= 2 })
	if took := time.Since(sent); took < levelOf(6) {
		t.Errorf("it came after %v", took)
	}
	seen := map[string]int{}
	for q := range 4 {
		recs, err := c.Sweep(topic, q)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range recs {
			seen[string(r.Body)]++
		}
	}
	if len(seen) != 2 || seen["waits"] != 1 || seen["soon"] != 1 {
		t.Errorf("stored %v", seen)
	}
}

// TestDelayKilled: producers send delayed messages while the broker is killed
// twice. Whatever was acknowledged comes, none before its time, and no more is
// repeated than was delivered since the progress was last written.
func TestDelayKilled(t *testing.T) {
	harness.OnlyGomq(t)
	for _, flush := range []string{"ASYNC_FLUSH", "SYNC_FLUSH"} {
		t.Run(flush, func(t *testing.T) {
			t.Parallel()
			delayKilled(t, flush)
		})
	}
}

func delayKilled(t *testing.T, flush string) {
	ns, broker := harness.StartPair(t, harness.Config{Props: map[string]string{"messageDelayLevel": shortLevels, "flushDiskType": flush,
		"flushDelayOffsetInterval": "1000", "mappedFileSizeCommitLog": fmt.Sprint(1 << 20)}})
	w := &world{ns, broker}
	topic := w.topic(t, "DelayKilled")
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var mu sync.Mutex
	sent := map[string]int64{} // by key: when it was begun, ms, if it was acknowledged
	levels := map[string]int{}
	count := func() int { mu.Lock(); defer mu.Unlock(); return len(sent) }
	var wg sync.WaitGroup
	for id := range 3 {
		p := goclient.Producer(t, ns.Addr(), fmt.Sprint("pg-killed-", id), producer.WithQueueSelector(producer.NewManualQueueSelector()))
		wg.Add(1)
		go func() {
			defer wg.Done()
			for seq := 0; ctx.Err() == nil; seq++ {
				key, level := fmt.Sprint(id, "-", seq), 1+seq%3
				m := primitive.NewMessage(topic, []byte(key)).WithKeys([]string{key}).WithDelayTimeLevel(level)
				m.Queue = &primitive.MessageQueue{Topic: topic, BrokerName: "broker-a", QueueId: id}
				begun := time.Now().UnixMilli()
				sending, cancel := context.WithTimeout(context.Background(), time.Second)
				res, err := p.SendSync(sending, m)
				cancel()
				mu.Lock()
				if levels[key] = level; err == nil && res.Status == primitive.SendOK {
					sent[key] = begun
				}
				mu.Unlock()
				if err != nil {
					time.Sleep(10 * time.Millisecond)
				}
			}
		}()
	}
	t.Cleanup(func() { stop(); wg.Wait() })
	rng := harness.Rand(t)
	kills := 2
	for range kills {
		goal := count() + 200 + rng.IntN(200)
		harness.Eventually(t, 60*time.Second, "messages acknowledged", func() bool { return count() >= goal })
		broker.Kill()
		broker.Start()
	}
	goal := count() + 50
	harness.Eventually(t, 60*time.Second, "messages acknowledged at the end", func() bool { return count() >= goal })
	stop()
	wg.Wait()
	c := w.dial(t)
	sweep := func() (all []*raw.Record) {
		for q := range 3 {
			recs, err := c.Sweep(topic, q)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, recs...)
		}
		return all
	}
	seen := map[string]int{}
	harness.Eventually(t, 60*time.Second, "everything delivered", func() bool {
		clear(seen)
		for _, r := range sweep() {
			seen[r.Keys()]++
		}
		for key := range sent {
			if seen[key] == 0 {
				return false
			}
		}
		return true
	})
	twice := 0
	for _, r := range sweep() {
		level, known := levels[r.Keys()]
		if !known || r.Props["DELAY"] != fmt.Sprint(level) {
			t.Errorf("the message %s of level %s", r.Keys(), r.Props["DELAY"])
		}
		if begun, ok := sent[r.Keys()]; ok && r.StoreTime < begun+levelOf(level).Milliseconds() {
			t.Errorf("%s of level %d was delivered %d ms after it was sent", r.Keys(), level, r.StoreTime-begun)
		}
	}
	for _, n := range seen {
		if twice += n - 1; n > 1+kills {
			t.Errorf("a message came %d times", n)
		}
	}
	t.Logf("%d acknowledged, %d delivered, %d of them again", len(sent), len(seen), twice)
}
