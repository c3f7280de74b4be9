package broker

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"gomq/internal/client"
	"gomq/internal/config"
	"gomq/internal/message"
	"gomq/internal/protocol"
	"gomq/internal/remoting"
	"gomq/internal/role/roletest"
)

// rig is a broker in this process and a client of it.
type rig struct {
	*testing.T
	b    *Broker
	live *config.Live[Options]
	addr string
	c    *client.Client
	told *listener
	reg  *prometheus.Registry
}

// rigOptions are small and quick: loopback, little files, no nameserver.
func rigOptions(root string) Options {
	o, problems, err := LoadOptions("", roletest.Broker(root), nil)
	if err != nil {
		panic(fmt.Sprint(err, problems))
	}
	return o
}

// listener is the client's side of what a broker sends unasked.
type listener struct {
	mu   sync.Mutex
	got  []string // code and group
	news chan struct{}
}

func newListener() *listener { return &listener{news: make(chan struct{}, 100_000)} }

func (l *listener) Request(_ *remoting.Turn, c *remoting.Call) {
	var h protocol.ConsumerGroupHeader
	_ = c.Req.Decode(&h)
	l.mu.Lock()
	l.got = append(l.got, fmt.Sprint(c.Req.Code, " ", h.Group))
	l.mu.Unlock()
	c.Answer(remoting.Response{})
	l.news <- struct{}{}
}
func (l *listener) EndTurn(*remoting.Turn) {}
func (l *listener) Closed(*remoting.Conn)  {}

// next is what the broker sends next.
func (l *listener) next(t testing.TB) string {
	t.Helper()
	select {
	case <-l.news:
	case <-time.After(10 * time.Second):
		t.Fatal("the broker told nothing")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	first := l.got[0]
	l.got = l.got[1:]
	return first
}

// tryStart starts a broker on free ports.
func tryStart(t testing.TB, o *Options, reg prometheus.Registerer, with seams) (*Broker, *config.Live[Options], error) {
	t.Helper()
	if with.now == nil {
		with.now = time.Now
	}
	if with.memory == 0 {
		with.memory = 8 << 30
	}
	var b *Broker
	var live *config.Live[Options]
	err := roletest.Start(t, func(port int) (err error) {
		o.ListenPort, o.HAListenPort, o.FastListenPort = port, port+1, port-2
		live = NewLive(*o)
		b, err = start(t.Context(), live, zap.NewNop(), reg, with)
		return err
	})
	return b, live, err
}

// run starts a broker with a client, both ended with the test.
func run(t *testing.T, change func(o *Options)) *rig { return runWith(t, change, seams{}) }

func runWith(t *testing.T, change func(o *Options), with seams) *rig {
	t.Helper()
	o := rigOptions(t.TempDir())
	if change != nil {
		change(&o)
	}
	return runOn(t, o, with)
}

func runOn(t *testing.T, o Options, with seams) *rig {
	t.Helper()
	r := &rig{T: t, told: newListener(), reg: prometheus.NewRegistry()}
	var err error
	if r.b, r.live, err = tryStart(t, &o, r.reg, with); err != nil {
		t.Fatal(err)
	}
	r.addr = r.b.Addr()
	r.c = r.client()
	t.Cleanup(func() { r.stop() })
	return r
}

// client is one more client, with a connection of its own.
func (r *rig) client() *client.Client {
	c := client.New(context.Background(), client.Options{Timeout: 10 * time.Second, Handler: r.told})
	r.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = c.Stop(ctx)
	})
	return c
}

func (r *rig) stop() {
	r.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := r.b.Stop(ctx); err != nil && r.b.failure == nil {
		r.Errorf("stopping the broker: %v", err)
	}
}

// again stops the broker and starts another one on its data.
func (r *rig) again() *rig {
	r.Helper()
	r.stop()
	return runOn(r.T, *r.live.Load(), seams{})
}

func sendHeader(topic string, queue int32, props ...string) protocol.SendHeader {
	var p []byte
	for i := 0; i+1 < len(props); i += 2 {
		p = message.AppendProp(p, props[i], props[i+1])
	}
	return protocol.SendHeader{Group: []byte("PG"), Topic: []byte(topic), DefaultTopic: []byte("TBW102"), DefaultTopicQueues: 4, QueueID: queue,
		BornTime: time.Now().UnixMilli(), Props: p, MaxReconsume: -1}
}

// send sends one message that must be stored.
func (r *rig) send(topic string, queue int32, body string, props ...string) client.Sent {
	r.Helper()
	s, err := r.c.Send(r.Context(), r.addr, sendHeader(topic, queue, props...), []byte(body))
	if err != nil {
		r.Fatal(err)
	}
	return s
}

// create creates a topic by request.
func (r *rig) create(topic string, queues int32) {
	r.Helper()
	if err := r.c.CreateTopic(r.Context(), r.addr, protocol.TopicConfig{TopicName: topic, ReadQueueNums: queues, WriteQueueNums: queues, Perm: 6, TopicFilterType: "SINGLE_TAG"}); err != nil {
		r.Fatal(err)
	}
}

func pullHeader(group, topic string, queue int32, offset int64, expr string) protocol.PullHeader {
	return protocol.PullHeader{Group: []byte(group), Topic: []byte(topic), QueueID: queue, QueueOffset: offset, MaxMsgNums: 32,
		SysFlag: protocol.PullSubscription, Subscription: []byte(expr), ExpressionType: []byte("TAG")}
}

// pull pulls once, with the subscription in the header.
func (r *rig) pull(topic string, queue int32, offset int64, expr string) (client.Pulled, []message.Record) {
	r.Helper()
	return r.pullAs(pullHeader("CG", topic, queue, offset, expr))
}

func (r *rig) pullAs(h protocol.PullHeader) (client.Pulled, []message.Record) {
	r.Helper()
	p, err := r.c.Pull(r.Context(), r.addr, h)
	if err != nil {
		r.Fatal(err)
	}
	list, err := client.Records(p.Body)
	if err != nil {
		r.Fatal(err)
	}
	return p, list
}

// refused says that err is the broker's refusal with that code and, in its
// remark, that text.
func (r *rig) refused(err error, code int32, text string) {
	r.Helper()
	got, ok := client.Code(err)
	if !ok || got != code || !strings.Contains(err.Error(), text) {
		r.Errorf("got %v, want code %d with %q", err, code, text)
	}
}

// eventually waits for something that the broker does by itself.
func (r *rig) eventually(what string, cond func() bool) {
	r.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if cond() {
			return
		}
	}
	r.Fatalf("after 10 s: %s", what)
}
