package broker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"gomq/internal/client"
	"gomq/internal/protocol"
	"gomq/internal/remoting"
	"gomq/internal/remoting/remotingtest"
)

// fakeNames is a nameserver that writes down what brokers tell it.
type fakeNames struct {
	t      testing.TB
	addr   string
	server *remoting.Server

	mu     sync.Mutex
	calls  []string // what came, "register"
	topics map[string]protocol.TopicConfig
	last   *protocol.RegisterBody
	header protocol.RegisterHeader
	order  protocol.KVTable
	silent bool // does not answer registrations
	info   *protocol.ClusterInfo
	route  *protocol.RouteData // of every topic
	reply  protocol.RegisterReply
	news   chan struct{}
}

func newFakeNames(t testing.TB) *fakeNames {
	f := &fakeNames{t: t, news: make(chan struct{}, 1000), topics: map[string]protocol.TopicConfig{}}
	f.listen("127.0.0.1:0")
	return f
}

func (f *fakeNames) listen(addr string) {
	f.server = remotingtest.Serve(f.t, addr, f.request)
	f.addr = f.server.Addr()
}

// close ends it: its connections break.
func (f *fakeNames) close() {
	remotingtest.Stop(f.server)
}

func (f *fakeNames) request(c *remoting.Call) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch c.Req.Code {
	case protocol.RegisterBroker:
		if f.silent {
			c.Later() // and never
			return
		}
		body, err := protocol.ParseRegisterBody(c.Req.Body)
		if err == nil {
			err = c.Req.Decode(&f.header)
		}
		if err != nil || f.header.BodyCRC32 != protocol.RegisterCRC(c.Req.Body) {
			f.t.Errorf("registration: %v", err)
		}
		f.last = body
		for name, t := range body.Topics {
			f.topics[name] = t
		}
		f.calls = append(f.calls, "register")
		reply := f.reply
		r := remoting.Response{Header: &reply}
		if f.order != nil {
			r.Body = f.order.Append(nil)
		}
		c.Answer(r)
	case protocol.GetBrokerClusterInfo:
		if f.info == nil {
			f.info = &protocol.ClusterInfo{}
		}
		c.Answer(remoting.Response{Body: f.info.Append(nil)})
		return
	case protocol.GetRouteInfoByTopic:
		if f.route == nil {
			c.Answer(remoting.Response{Code: protocol.TopicNotExist})
		} else {
			c.Answer(remoting.Response{Body: f.route.Append(nil, false)})
		}
		return
	case protocol.UpdateAndCreateTopic:
		c.Later() // and never: a master that hangs
		return
	case protocol.UnregisterBroker:
		f.calls = append(f.calls, "unregister")
		c.Answer(remoting.Response{})
	case protocol.QueryDataVersion:
		f.calls = append(f.calls, "version")
		v, _ := protocol.ParseDataVersion(c.Req.Body)
		c.Answer(remoting.Response{Header: &protocol.DataVersionReply{Changed: f.last == nil || f.last.Version != v}})
	}
	f.news <- struct{}{}
}

// next is what the broker says next.
func (f *fakeNames) next() string {
	f.t.Helper()
	select {
	case <-f.news:
	case <-time.After(10 * time.Second):
		f.t.Fatal("the broker says nothing")
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	first := f.calls[0]
	f.calls = f.calls[1:]
	return first
}

func (f *fakeNames) has(topic string) (protocol.TopicConfig, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t, ok := f.topics[topic]
	return t, ok
}

func withNames(list ...*fakeNames) func(o *Options) {
	return func(o *Options) {
		for _, f := range list {
			o.NamesrvAddr = append(o.NamesrvAddr, f.addr)
		}
	}
}

// Every nameserver is told at the start, of every new topic before its creation is
// answered, and at the end.
func TestRegistersEverywhere(t *testing.T) {
	a, b := newFakeNames(t), newFakeNames(t)
	r := run(t, withNames(a, b))
	for _, f := range []*fakeNames{a, b} {
		if got := f.next(); got != "register" {
			t.Fatalf("first %q", got)
		}
		f.mu.Lock()
		h := f.header
		f.mu.Unlock()
		o := r.live.Load()
		if h.BrokerName != "broker-a" || h.ClusterName != "DefaultCluster" || h.BrokerID != 0 || h.BrokerAddr != r.addr || h.HAServerAddr != haAddr(o) {
			t.Errorf("header %+v", h)
		}
		for _, topic := range []string{"TBW102", "SELF_TEST_TOPIC", "BenchmarkTest", "OFFSET_MOVED_EVENT", "broker-a", "DefaultCluster"} {
			if _, ok := f.has(topic); !ok {
				t.Errorf("%s was not registered", topic)
			}
		}
	}
	if err := r.b.Ready(); err != nil {
		t.Errorf("not ready: %v", err)
	}
	r.send("Auto", 0, "x")
	r.create("Made", 3)
	for _, f := range []*fakeNames{a, b} {
		for _, topic := range []string{"Auto", "Made"} {
			if c, ok := f.has(topic); !ok || c.Perm != 6 {
				t.Errorf("%s: %+v %v", topic, c, ok)
			}
		}
	}
	r.stop()
	for _, f := range []*fakeNames{a, b} {
		f.mu.Lock()
		if n := len(f.calls); f.calls[n-1] != "unregister" {
			t.Errorf("last %q", f.calls)
		}
		f.mu.Unlock()
	}
}

// One that is away, or silent, delays nothing; when it comes back it is told
// everything again.
func TestNameserverComesBack(t *testing.T) {
	a, b := newFakeNames(t), newFakeNames(t)
	r := run(t, withNames(a, b))
	a.next()
	b.next()
	addr := b.addr
	b.close()
	r.eventually("the broken connection is not noticed", func() bool {
		n := r.b.names.servers[1]
		n.mu.Lock()
		defer n.mu.Unlock()
		return !n.up
	})
	r.create("Meanwhile", 1)
	if n := r.b.names.servers[1]; n.told.Load() == r.b.names.wanted {
		t.Error("the nameserver that is away was told")
	}
	if err := r.b.Ready(); err != nil {
		t.Errorf("not ready with one of two: %v", err)
	}
	b.listen(addr)
	if got := b.next(); got != "register" {
		t.Errorf("after it came back: %q", got)
	}
	if _, ok := b.has("Meanwhile"); !ok {
		t.Error("it was not told of the topic")
	}
	if c, ok := b.has("TBW102"); !ok || c.Perm != 7 {
		t.Error("it was not told everything")
	}
	// With a silent one a creation waits its second and no more.
	a.mu.Lock()
	a.silent = true
	a.mu.Unlock()
	start := time.Now()
	r.create("Slow", 1)
	if took := time.Since(start); took < announceWait/2 {
		t.Errorf("with a silent nameserver a creation took %v", took)
	}
	if _, ok := b.has("Slow"); !ok {
		t.Error("the one that answers was not told")
	}
}

// What becomes of a nameserver is said once, also when it was the connection that
// ended; that it is away, and that it refuses the broker, are two things.
func TestSaysThatANameserverIsAway(t *testing.T) {
	core, logs := observer.New(zap.InfoLevel)
	r := &registrar{log: zap.New(core)}
	n := &nameserver{addr: "ns:9876", kick: make(chan struct{}, 1), tried: make(chan struct{})}
	broken := make(chan struct{})
	close(broken)
	away, no := errors.New("no route"), fmt.Errorf("registering: %w", &protocol.Error{Code: protocol.SystemError, Remark: "another living master"})
	for i, x := range []struct {
		err  error
		says string
	}{{away, "does not take"}, {away, ""}, {nil, "registered with"}, {nil, ""}, {away, "does not take"}, {away, ""}, {nil, "registered with"},
		{away, "does not take"}, {no, "does not take"}, {no, ""}, {away, ""}, {no, ""}, {nil, "registered with"}, {no, "does not take"}, {no, ""}, {nil, "registered with"}} {
		logs.TakeAll()
		r.note(n, x.err)
		said := logs.All()
		if want := btoi(x.says != ""); len(said) != int(want) || want > 0 && !strings.Contains(said[0].Message, x.says) {
			t.Errorf("%d: %v, want %q", i, said, x.says)
		}
		if i == 3 {
			n.rest(t.Context(), time.Hour, broken)
		}
	}
}

func TestNotReadyWithoutNameservers(t *testing.T) {
	dead := newFakeNames(t)
	dead.close()
	r := run(t, withNames(dead))
	if err := r.b.Ready(); err == nil {
		t.Error("ready though nobody can find it")
	}
	r.send("Auto", 0, "x") // it serves all the same
}

// The order configuration of a nameserver's answer is kept.
func TestOrderFromNameserver(t *testing.T) {
	f := newFakeNames(t)
	r := run(t, withNames(f))
	f.next()
	f.mu.Lock()
	f.order = protocol.KVTable{"T": "broker-a:2"}
	f.mu.Unlock()
	r.create("T", 2)
	r.eventually("T is not ordered", func() bool { return r.b.topics.Get([]byte("T")).Order })
	r.create("T", 3)
	if c := r.b.topics.Get([]byte("T")); !c.Order || c.WriteQueueNums != 3 {
		t.Errorf("an update by request undid it: %+v", c)
	}
	if err := r.c.UpdateConfig(t.Context(), r.addr, "brokerPermission=4"); err != nil {
		t.Fatal(err)
	}
	_, err := r.c.Send(t.Context(), r.addr, sendHeader("T", 0), []byte("x"))
	r.refused(err, protocol.NoPermission, "the broker[127.0.0.1] sending message is forbidden")
	r.eventually("the nameserver was not told of the new permission", func() bool { c, _ := f.has("TBW102"); return c.Perm == 4 })
}

// A large table is sent whole once and then in parts.
func TestRegistersChangesOnly(t *testing.T) {
	f := newFakeNames(t)
	o := rigOptions(t.TempDir())
	table := map[string]*protocol.TopicConfig{}
	for i := range wholeTable {
		name := "T" + num(int64(i))
		table[name] = &protocol.TopicConfig{TopicName: name, ReadQueueNums: 1, WriteQueueNums: 1, Perm: 6, TopicFilterType: "SINGLE_TAG"}
	}
	if err := makeConfigDir(&o); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(configFile(&o, "topics.json"), protocol.PrettyTopicTable(table, protocol.DataVersion{Timestamp: 1, Counter: 1}), 0o600); err != nil {
		t.Fatal(err)
	}
	withNames(f)(&o)
	r := runOn(t, o, seams{})
	f.next()
	f.mu.Lock()
	whole := len(f.last.Topics)
	f.mu.Unlock()
	if whole != r.b.topics.Len() {
		t.Errorf("first %d topics of %d", whole, r.b.topics.Len())
	}
	r.create("New", 1)
	f.next()
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.last.Topics) != 1 || f.last.Topics["New"].TopicName != "New" || f.last.Version != r.b.topics.Version() {
		t.Errorf("then %d topics", len(f.last.Topics))
	}
}

// With forceRegister=false the version is asked first.
func TestAsksVersionFirst(t *testing.T) {
	f := newFakeNames(t)
	r := run(t, func(o *Options) { withNames(f)(o); o.ForceRegister = false; o.CompressedRegister = true })
	if got := f.next(); got != "register" {
		t.Errorf("first %q", got)
	}
	r.b.names.announce(true)
	if got := f.next(); got != "version" {
		t.Errorf("without a change %q", got)
	}
	r.create("T", 1)
	if got := []string{f.next(), f.next()}; !slices.Equal(got, []string{"version", "register"}) {
		t.Errorf("after a change %q", got)
	}
}

// One address may not have topics made without end.
func TestNewTopicRate(t *testing.T) {
	r := run(t, func(o *Options) { o.MaxNewTopicsPerSecond, o.MaxNewTopicsBurst = 1, 3 })
	for i := range 3 {
		r.send("Auto"+num(int64(i)), 0, "x")
	}
	_, err := r.c.Send(t.Context(), r.addr, sendHeader("Auto3", 0), []byte("x"))
	r.refused(err, protocol.SystemBusy, "maxNewTopicsPerSecond")
	if r.b.topics.Get([]byte("Auto3")) != nil {
		t.Error("created all the same")
	}
	r.send("Auto0", 0, "still")

	var rate newTopicRate
	now := time.Unix(1000, 0)
	a, b := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	for range 100 {
		if !rate.take(a, 10, 100, now) {
			t.Fatal("the burst is smaller than it says")
		}
	}
	if rate.take(a, 10, 100, now) || !rate.take(b, 10, 100, now) {
		t.Error("the limit is not one for each address")
	}
	if now = now.Add(100 * time.Millisecond); !rate.take(a, 10, 100, now) || rate.take(a, 10, 100, now) {
		t.Error("ten a second are not one each 100 ms")
	}
	for i := range 2 * maxBuckets {
		rate.take(netip.AddrFrom4([4]byte{1, byte(i >> 16), byte(i >> 8), byte(i)}), 10, 100, now)
	}
	if len(rate.buckets) > maxBuckets {
		t.Errorf("%d addresses are remembered", len(rate.buckets))
	}
}

// A nameserver is found by its name each time: when it comes back at another address
// it is told there.
func TestNameserverMoves(t *testing.T) {
	old, moved := newFakeNames(t), newFakeNames(t)
	r := run(t, nil) // for its topics
	o := rigOptions(t.TempDir())
	o.NamesrvAddr = []string{"rocketmq-nameserver1:9876"}
	var mu sync.Mutex
	at := old.addr
	dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
		if addr != o.NamesrvAddr[0] {
			t.Errorf("connecting to %s", addr)
		}
		mu.Lock()
		defer mu.Unlock()
		var d net.Dialer
		return d.DialContext(ctx, network, at)
	}
	c := client.New(t.Context(), client.Options{Timeout: time.Second, Remoting: remoting.Options{Dialer: dial}})
	names := newRegistrar(t.Context(), NewLive(o), r.b.log, r.b.topics, c)
	names.start(t.Context())
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		names.stop(ctx)
		_ = c.Stop(ctx)
	})
	if got := old.next(); got != "register" {
		t.Fatalf("first %q", got)
	}
	mu.Lock()
	at = moved.addr
	mu.Unlock()
	old.close()
	if got := moved.next(); got != "register" {
		t.Fatalf("at its new address %q", got)
	}
	if _, ok := moved.has("TBW102"); !ok {
		t.Error("it was not told everything")
	}
}
