package e2e

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strconv"
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

// bag collects the bodies that a consumer received.
type bag struct {
	mu  sync.Mutex
	got []string
}

func (b *bag) take(_ context.Context, msgs ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, m := range msgs {
		b.got = append(b.got, string(m.Body))
	}
	return consumer.ConsumeSuccess, nil
}

func (b *bag) size() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.got)
}

// list is what is in it, sorted.
func (b *bag) list() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := slices.Clone(b.got)
	slices.Sort(out)
	return strings.Join(out, " ")
}

func bySQL(expr string) consumer.MessageSelector {
	return consumer.MessageSelector{Type: consumer.SQL92, Expression: expr}
}

// numbers sends messages m0, m1, ... with a property n to every queue of a topic.
func numbers(t testing.TB, w *world, topic string, n int) {
	t.Helper()
	c := w.dial(t)
	for i := range n {
		for q := range 4 {
			if _, err := c.Send("pg-"+topic, topic, q, raw.Props("n", strconv.Itoa(i), "color", []string{"red", "grün"}[i%2]), fmt.Appendf(nil, "m%d", i)); err != nil {
				t.Fatal(err)
			}
		}
	}
	settled(t, c, topic, 4, int64(4*n))
}

// sql92: an expression chooses messages for push and pull consumers; the text of
// what is wrong with one reaches the client.
func sql92(t *testing.T, w *world) {
	topic := w.topic(t, "SQL92")
	numbers(t, w, topic, 6)
	for expr, want := range map[string]string{
		"n > 3":                          "m4 m4 m4 m4 m5 m5 m5 m5",
		"color = 'grün' AND n < 2":       "m1 m1 m1 m1",
		"n IN ('0') OR missing IN ('0')": "m0 m0 m0 m0",
	} {
		got := &bag{}
		goclient.PushBy(t, w.ns.Addr(), "g-sql-"+strconv.Itoa(len(expr)), topic, bySQL(expr), got.take)
		harness.Eventually(t, 40*time.Second, expr+" to deliver "+want, func() bool { return got.list() == want })
	}
	// What comes while a pull waits is chosen too.
	late := &bag{}
	goclient.PushBy(t, w.ns.Addr(), "g-sql-late", topic, bySQL("n = 100 OR n = 5"), late.take)
	harness.Eventually(t, 40*time.Second, "four messages", func() bool { return late.list() == "m5 m5 m5 m5" })
	for _, n := range []string{"99", "100"} {
		if _, err := w.dial(t).Send("pg-sql", topic, 2, raw.Props("n", n), []byte("late"+n)); err != nil {
			t.Fatal(err)
		}
	}
	harness.Eventually(t, 20*time.Second, "the late message", func() bool { return late.list() == "late100 m5 m5 m5 m5" })

	mq := func(q int) *primitive.MessageQueue {
		return &primitive.MessageQueue{Topic: topic, BrokerName: "broker-a", QueueId: q}
	}
	pull := goclient.PullBy(t, w.ns.Addr(), "g-sql-pull", topic, bySQL("n BETWEEN 2 AND 3"))
	res, err := pull.PullFrom(background(t), mq(0), 0, 32)
	if err != nil || res.Status != primitive.PullFound || len(res.GetMessageExts()) != 2 || res.NextBeginOffset != 6 {
		t.Fatalf("%v, %v", res, err)
	}
	if harness.Kind() == "java" {
		return // a pull that brings a wrong expression gets everything
	}
	bad := goclient.PullBy(t, w.ns.Addr(), "g-sql-bad", topic, bySQL("n > 5 AND n LIKE 'x' OR"))
	if _, err = bad.PullFrom(background(t), mq(0), 0, 32); err != nil {
		t.Fatalf("as in the original nothing is looked at behind a complete expression: %v", err)
	}
	bad = goclient.PullBy(t, w.ns.Addr(), "g-sql-worse", topic, bySQL("n > 5 AND"))
	if _, err = bad.PullFrom(background(t), mq(0), 0, 32); err == nil || !strings.Contains(err.Error(), "line 1, column 10: the expression ends here, expected a property or a constant or NOT or (") {
		t.Fatalf("a wrong expression: %v", err)
	}
}

// differ: of two consumers of one group each gets what it wants of its queues.
func differ(t *testing.T, w *world) {
	if harness.Kind() == "java" {
		harness.Skip(t, "the original serves a whole group by its newest subscription")
	}
	topic := w.topic(t, "Differ")
	few, many := &bag{}, &bag{}
	goclient.PushBy(t, w.ns.Addr(), "g-differ", topic, bySQL("n < 1"), few.take)
	goclient.PushBy(t, w.ns.Addr(), "g-differ", topic, bySQL("n >= 1"), many.take)
	c := w.dial(t)
	harness.Eventually(t, 30*time.Second, "two members", func() bool {
		cmd, err := c.Call(raw.ConsumerList, map[string]string{"consumerGroup": "g-differ"}, nil)
		return err == nil && bytes.Count(cmd.Body, []byte("@")) == 2
	})
	w.broker.WaitLine("subscribe differently.*g-differ", 20*time.Second)
	if n, _ := harness.ReadMetrics(t, w.broker.HTTP()).Sum("gomq_consumer_group_subscriptions", "consumer_group=g-differ"); n != 2 {
		t.Errorf("%v ways to subscribe", n)
	}
	// Until the queues are shared out a consumer passes over what the other wants.
	harness.Eventually(t, 60*time.Second, "both to get their share and nothing else", func() bool {
		few.mu.Lock()
		many.mu.Lock()
		few.got, many.got = nil, nil
		many.mu.Unlock()
		few.mu.Unlock()
		for q := range 4 {
			for i := range 3 {
				if _, err := c.Send("pg-differ", topic, q, raw.Props("n", strconv.Itoa(i)), fmt.Appendf(nil, "m%d", i)); err != nil {
					t.Fatal(err)
				}
			}
		}
		time.Sleep(500 * time.Millisecond) // for what must not come as well
		f, m := few.list(), many.list()
		if strings.Contains(f, "m1") || strings.Contains(f, "m2") || strings.Contains(m, "m0") {
			t.Fatalf("few: %s, many: %s", f, m)
		}
		return f == "m0 m0" && m == "m1 m1 m2 m2"
	})
}

// codecs: a broker looks into no body, whatever the system flag says of it.
func codecs(t *testing.T, w *world) {
	topic := w.topic(t, "Codecs")
	c := w.dial(t)
	for i, flag := range []int{0x1, 0x101, 0x201, 0x301, 0x100, 0x701} {
		ext := raw.SendExt("pg-codecs", topic, 0, raw.Props("KEYS", fmt.Sprint("codec", i)))
		ext["sysFlag"] = strconv.Itoa(flag)
		body := content(i, 5000)
		if _, err := c.Do(raw.SendMessage, ext, body); err != nil {
			t.Fatal(err)
		}
		settled(t, c, topic, 4, int64(i+1))
		p, err := c.Pull("g-codecs", topic, 0, int64(i), 1, 0)
		if err != nil || len(p.Records) != 1 || p.Records[0].SysFlag != flag || !bytes.Equal(p.Records[0].Body, body) {
			t.Errorf("system flag %#x: %+v, %v", flag, p, err)
		}
	}
}

// properties: any text comes back as it was sent, in both encodings of headers, and
// is found as a key.
func properties(t *testing.T, w *world) {
	topic := w.topic(t, "Properties")
	values := []string{"plain", "värde 值 😀👩‍👩‍👧 \u200f\ufeff", `"quoted" \back\u0041 {}[]:,/`, " blanks ", "\t\n\r\x03\x1f\x7f", "\u0000", "a\x01b", "null", "\uffff\ufffd\U0010ffff", strings.Repeat("漢", 5000)}
	for _, binary := range []bool{false, true} {
		c := w.dial(t)
		c.Binary = binary
		for i, v := range values {
			key := fmt.Sprintf("ключ%d-%v-😀", i, binary)
			name := "ñame " + strconv.Itoa(i) + " \"{😀}"
			sent, err := c.Send("pg-props", topic, 1, raw.Props("KEYS", key, name, v, "TAGS", "标签"), []byte("x"))
			if err != nil {
				t.Fatalf("%q: %v", v, err)
			}
			harness.Eventually(t, 20*time.Second, "the key to be found", func() bool {
				list, err := c.ByKey(topic, key)
				return err == nil && len(list) == 1 && list[0].ID == sent.ID && list[0].Props[name] == v && list[0].Props["TAGS"] == "标签" && list[0].Keys() == key
			})
		}
	}
}
