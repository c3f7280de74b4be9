package e2e

import (
	"context"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/apache/rocketmq-client-go/v2/primitive"

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

// content makes a body that the size and number determine.
func content(n, size int) []byte {
	rng := rand.New(rand.NewPCG(uint64(n), uint64(size)))
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
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
