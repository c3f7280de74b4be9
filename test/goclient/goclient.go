// Package goclient sets up the official Go client for the tests: quiet, with
// client ids of its own for every producer and consumer, and shut down when
// the test ends.
//
// What the client does that a test has to know: it never unregisters, so the
// broker learns of its end from the connection; it sends one-way requests with
// the flag of a two-way request and drops the answer; when a connection breaks
// the calls in flight wait for their timeout; it persists offsets ten seconds
// after its start, then every five, and at its shutdown.
package goclient

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	rocketmq "github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/admin"
	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/apache/rocketmq-client-go/v2/producer"
	"github.com/apache/rocketmq-client-go/v2/rlog"

	"gomq/test/checker"
	"gomq/test/raw"
)

type quiet struct{}

func (quiet) Debug(string, map[string]interface{})   {}
func (quiet) Info(string, map[string]interface{})    {}
func (quiet) Warning(string, map[string]interface{}) {}
func (quiet) Error(string, map[string]interface{})   {}
func (quiet) Fatal(string, map[string]interface{})   {}
func (quiet) Level(string)                           {}
func (quiet) OutputPath(string) error                { return nil }

func init() { rlog.SetLogger(quiet{}) }

var instances atomic.Int64

// instance is a client id that no other client of this run has.
func instance(t testing.TB) string {
	name := strings.Map(func(r rune) rune {
		if r == '/' || r == ' ' {
			return '-'
		}
		return r
	}, t.Name())
	return fmt.Sprintf("%s-%d", name, instances.Add(1))
}

// Servers splits a list of nameservers, "host:port;host:port".
func Servers(namesrv string) []string { return strings.Split(namesrv, ";") }

// Producer starts a producer. Without options it tries each message once.
func Producer(t testing.TB, namesrv, group string, opts ...producer.Option) rocketmq.Producer {
	t.Helper()
	all := append([]producer.Option{
		producer.WithNsResolver(primitive.NewPassthroughResolver(Servers(namesrv))),
		producer.WithGroupName(group),
		producer.WithInstanceName(instance(t)),
		producer.WithRetry(0),
	}, opts...)
	p, err := rocketmq.NewProducer(all...)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Shutdown() })
	return p
}

// Handler is what a push consumer calls for its messages.
type Handler = func(context.Context, ...*primitive.MessageExt) (consumer.ConsumeResult, error)

// inGroup are the options of a consumer that begins at the first message; opts
// outrank them.
func inGroup(t testing.TB, namesrv, group string, opts []consumer.Option) []consumer.Option {
	return append([]consumer.Option{
		consumer.WithNsResolver(primitive.NewPassthroughResolver(Servers(namesrv))),
		consumer.WithGroupName(group),
		consumer.WithInstance(instance(t)),
		consumer.WithConsumeFromWhere(consumer.ConsumeFromFirstOffset),
	}, opts...)
}

// Push starts a push consumer that begins at the first message. The returned
// function shuts it down; so does the end of the test.
func Push(t testing.TB, namesrv, group, topic, tags string, handle Handler, opts ...consumer.Option) (stop func()) {
	t.Helper()
	return PushBy(t, namesrv, group, topic, consumer.MessageSelector{Type: consumer.TAG, Expression: tags}, handle, opts...)
}

// PushBy is Push with any kind of expression.
func PushBy(t testing.TB, namesrv, group, topic string, by consumer.MessageSelector, handle Handler, opts ...consumer.Option) (stop func()) {
	t.Helper()
	c, err := rocketmq.NewPushConsumer(inGroup(t, namesrv, group, opts)...)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Subscribe(topic, by, handle); err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	stop = func() { c.Shutdown() }
	t.Cleanup(stop)
	return stop
}

// Pull starts a pull consumer.
func Pull(t testing.TB, namesrv, group, topic string, opts ...consumer.Option) rocketmq.PullConsumer {
	t.Helper()
	return PullBy(t, namesrv, group, topic, consumer.MessageSelector{}, opts...)
}

// PullBy is Pull with an expression.
func PullBy(t testing.TB, namesrv, group, topic string, by consumer.MessageSelector, opts ...consumer.Option) rocketmq.PullConsumer {
	t.Helper()
	c, err := rocketmq.NewPullConsumer(inGroup(t, namesrv, group, opts)...)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Subscribe(topic, by); err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Shutdown() })
	return c
}

// Admin starts an administration client.
func Admin(t testing.TB, namesrv string) admin.Admin {
	t.Helper()
	a, err := admin.NewAdmin(admin.WithResolver(primitive.NewPassthroughResolver(Servers(namesrv))))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return a
}

// Note is the user property of checked messages.
const Note = "note"

// Message makes what the client sends of a checked message.
func Message(m checker.Message, broker string) *primitive.Message {
	msg := primitive.NewMessage(m.Topic, m.Body)
	msg.WithKeys([]string{m.Key})
	msg.WithTag(checker.Tag)
	msg.WithProperty(Note, m.Note)
	if m.Queue >= 0 {
		msg.Queue = &primitive.MessageQueue{Topic: m.Topic, BrokerName: broker, QueueId: m.Queue}
	}
	return msg
}

// Record makes what the checker judges of a message that the client received.
func Record(m *primitive.MessageExt) checker.Record {
	return checker.Record{
		Topic: m.Topic, Queue: m.Queue.QueueId, Offset: m.QueueOffset, Phy: m.CommitLogOffset,
		Key: m.GetKeys(), Tag: m.GetTags(), Note: m.GetProperty(Note), Body: m.Body,
	}
}

// RawRecord is Record for a message that came out of a raw pull or query.
func RawRecord(r *raw.Record) checker.Record {
	return checker.Record{
		Topic: r.Topic, Queue: r.Queue, Offset: r.Offset, Phy: r.PhyOffset,
		Key: r.Keys(), Tag: r.Props["TAGS"], Note: r.Props[Note], Body: r.Body,
	}
}

// RawRecords is RawRecord for many.
func RawRecords(list []*raw.Record) []checker.Record {
	out := make([]checker.Record, len(list))
	for i, r := range list {
		out[i] = RawRecord(r)
	}
	return out
}

// RawProps is the property text of a checked message in a raw send.
func RawProps(m checker.Message) string {
	return raw.Props("KEYS", m.Key, "TAGS", checker.Tag, Note, m.Note, "UNIQ_KEY", fmt.Sprintf("%032X", m.Seq*1000+int64(m.Producer)), "WAIT", "true")
}

// Sweep reads all queues of a topic from a broker into the run.
func Sweep(t testing.TB, run *checker.Run, node string, c *raw.Conn, topic string, queues int) {
	t.Helper()
	SweepAt(t, run, node, c, topic, queues, 0)
}

// SweepAt is Sweep of one of several brokers, the first of whose queues is base to the
// checker.
func SweepAt(t testing.TB, run *checker.Run, node string, c *raw.Conn, topic string, queues, base int) {
	t.Helper()
	for q := range queues {
		low, high, recs := sweep(t, c, topic, q)
		list := RawRecords(recs)
		for i := range list {
			list[i].Queue += base
		}
		run.Swept(node, topic, base+q, low, high, list)
	}
}

// sweep reads a queue and its ends. It begins anew when the queue began elsewhere
// afterwards: a file was deleted under it, and what is missing was not lost.
func sweep(t testing.TB, c *raw.Conn, topic string, q int) (low, high int64, recs []*raw.Record) {
	t.Helper()
	offset := func(of int) int64 {
		at, err := c.Offset(of, topic, q)
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	for tries := 1; ; tries++ {
		var err error
		low, high = offset(raw.MinOffset), offset(raw.MaxOffset)
		recs, err = c.Sweep(topic, q)
		if tries < 20 && offset(raw.MinOffset) != low {
			continue
		}
		if err != nil {
			t.Error(err) // the checker says what is missing
		}
		return low, high, recs
	}
}

// LookUp asks the broker for every acknowledged message by key and by id,
// some at a time.
func LookUp(t testing.TB, run *checker.Run, c *raw.Conn) {
	t.Helper()
	acks := make(chan checker.Event)
	var wg sync.WaitGroup
	for range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for a := range acks {
				byKey, err := c.ByKey(a.Topic, run.Key(a.ID))
				if err != nil {
					t.Errorf("by key %s: %v", run.Key(a.ID), err)
				}
				run.Looked("key", a.Attempt, RawRecords(byKey))
				var byID []*raw.Record
				if r, err := c.ByID(a.MsgID); err == nil {
					byID = append(byID, r)
				}
				run.Looked("id", a.Attempt, RawRecords(byID))
			}
		}()
	}
	for _, a := range run.Acks() {
		acks <- a
	}
	close(acks)
	wg.Wait()
}
