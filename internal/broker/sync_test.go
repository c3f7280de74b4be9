package broker

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"gomq/internal/broker/meta"
	"gomq/internal/protocol"
	"gomq/internal/remoting"
	"gomq/internal/remoting/remotingtest"
)

// javaMaster answers what a slave asks as Java's broker does: without stamps, and
// it takes every commit.
type javaMaster struct {
	addr string // of the port that its VIP port is two below

	mu      sync.Mutex
	boot    int
	offsets protocol.OffsetTable
	groups  map[string]*protocol.GroupConfig
	topics  map[string]*protocol.TopicConfig
	version protocol.DataVersion
	ends    int64
	delays  protocol.DelayTable
}

func newJavaMaster(t *testing.T) *javaMaster {
	g := meta.NewGroup("g")
	m := &javaMaster{boot: 1, offsets: protocol.OffsetTable{}, groups: map[string]*protocol.GroupConfig{"g": &g}, ends: 1000,
		topics:  map[string]*protocol.TopicConfig{"T": {TopicName: "T", ReadQueueNums: 2, WriteQueueNums: 2, Perm: 6, TopicFilterType: "SINGLE_TAG"}},
		version: protocol.DataVersion{Timestamp: 5, Counter: 1}, delays: protocol.DelayTable{3: 7}}
	at := netip.MustParseAddrPort(remotingtest.Serve(t, "127.0.0.1:0", m.request).Addr())
	m.addr = netip.AddrPortFrom(at.Addr(), at.Port()+2).String()
	return m
}

func (m *javaMaster) request(c *remoting.Call) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var r remoting.Response
	switch c.Req.Code {
	case protocol.GetBrokerRuntimeInfo:
		r.Body = protocol.KVTable{"bootTimestamp": strconv.Itoa(m.boot)}.Append(nil)
	case protocol.GetAllTopicConfig:
		r.Body = protocol.AppendTopicTable(nil, m.topics, m.version)
	case protocol.GetAllGroupConfig:
		r.Body = protocol.AppendGroupTable(nil, m.groups, m.version)
	case protocol.GetAllConsumerOffset:
		r.Body = m.offsets.Append(nil)
	case protocol.GetAllDelayOffset:
		r.Body = m.delays.Append(nil)
	case protocol.GetMaxOffset:
		r.Header = &protocol.OffsetReply{Offset: m.ends}
	case protocol.UpdateConsumerOffset:
		h := protocol.OffsetHeader{Update: true}
		if err := c.Req.Decode(&h); err != nil {
			r.Code = protocol.SystemError
			break
		}
		m.set(string(h.Topic)+"@"+string(h.Group), h.QueueID, h.CommitOffset)
	default:
		r.Code = protocol.RequestCodeNotSupported
	}
	c.Answer(r)
}

// set stores an offset. Held: mu.
func (m *javaMaster) set(key string, queue int32, offset int64) {
	if m.offsets[key] == nil {
		m.offsets[key] = map[int32]int64{}
	}
	m.offsets[key][queue] = offset
}

// follow is a slave's follower with tables of its own.
func newFollower(t *testing.T, root, master string) *follower {
	t.Helper()
	o := rigOptions(root)
	o.BrokerRole, o.BrokerID = Slave, 1
	if err := makeConfigDir(&o); err != nil {
		t.Fatal(err)
	}
	live := NewLive(o)
	topics, err := meta.LoadTopics(configFile(&o, "topics.json"), topicDefaults(&o).BuiltinTopics(),
		meta.TopicLimits{Topics: func() int { return 100 }, Queues: func() int32 { return 64 }}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	groups, err := meta.LoadGroups(configFile(&o, "subscriptionGroup.json"), func() int { return 100 }, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	offsets, err := meta.LoadOffsets(configFile(&o, "consumerOffset.json"), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	delays, err := meta.LoadDelays(configFile(&o, "delayOffset.json"))
	if err != nil {
		t.Fatal(err)
	}
	topics.Follow(true)
	groups.Follow(true)
	r := &rig{T: t, told: newListener()}
	c := r.client()
	names := newRegistrar(t.Context(), live, zap.NewNop(), topics, c)
	names.leader.addr = master
	f := &follower{live: live, log: zap.NewNop(), names: names, client: c, topics: topics, groups: groups, offsets: offsets, delays: delays,
		drop: func(string) error { return nil }, related: func() error { return nil }, now: time.Now}
	f.loadLife()
	return f
}

func (f *follower) mustRound(t *testing.T) {
	t.Helper()
	if err := f.round(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func (f *follower) at(t *testing.T, queue int32, want int64) {
	t.Helper()
	if got, _ := f.offsets.Query([]byte("T"), []byte("g"), queue); got != want {
		t.Fatalf("the slave has %d of queue %d, want %d", got, queue, want)
	}
}

func (f *follower) commit(t *testing.T, offset int64) {
	t.Helper()
	if err := f.offsets.Commit([]byte("T"), []byte("g"), 0, offset); err != nil {
		t.Fatal(err)
	}
}

// A slave of a Java master: tables are taken; what the master sets back in one run
// of it is set back here; what was committed here while it was away is given to it
// when it has started anew.
func TestFollowsJavaMaster(t *testing.T) {
	m := newJavaMaster(t)
	root := t.TempDir()
	f := newFollower(t, root, m.addr)
	set := func(offset int64) { m.mu.Lock(); m.set("T@g", 0, offset); m.mu.Unlock() }
	has := func(want int64) {
		t.Helper()
		m.mu.Lock()
		defer m.mu.Unlock()
		if got := m.offsets["T@g"][0]; got != want {
			t.Fatalf("the master has %d, want %d", got, want)
		}
	}
	set(100)
	f.mustRound(t)
	f.at(t, 0, 100)
	if c := f.topics.Get([]byte("T")); c == nil || c.WriteQueueNums != 2 || f.topics.Version() != m.version || f.topics.Len() != 1 {
		t.Errorf("topics: %+v, version %+v, %d of them", c, f.topics.Version(), f.topics.Len())
	}
	if f.groups.Get([]byte("g")) == nil || f.groups.Len() != 1 {
		t.Error("groups were not taken")
	}
	set(40) // set back on purpose: the same run of the master
	f.mustRound(t)
	f.at(t, 0, 40)
	f.commit(t, 70) // a consumer that reaches only the slave
	f.mustRound(t)
	f.at(t, 0, 70)
	has(70)

	// The master dies having forgotten its last seconds; consumers go on here.
	f.commit(t, 300)
	m.mu.Lock()
	m.boot++
	m.set("T@g", 0, 60)
	m.mu.Unlock()
	f.mustRound(t)
	f.at(t, 0, 300)
	has(300)
	set(10) // and a reset in its new run
	f.mustRound(t)
	f.at(t, 0, 10)

	// The slave starts anew, the master does not: its word counts.
	f.commit(t, 90)
	f.mustRound(t)
	if err := f.offsets.Save(); err != nil {
		t.Fatal(err)
	}
	set(20) // set back while the slave was away
	f = newFollower(t, root, m.addr)
	f.at(t, 0, 90)
	f.mustRound(t)
	f.at(t, 0, 20)

	// What the master removes goes here too; what lies beyond its end is not given.
	m.mu.Lock()
	delete(m.offsets, "T@g")
	m.mu.Unlock()
	f.mustRound(t)
	f.at(t, 0, 0)
	f.commit(t, 5000)
	f.mustRound(t)
	m.mu.Lock()
	if n := len(m.offsets["T@g"]); n != 0 {
		t.Error("the master was given an offset beyond its end")
	}
	m.ends = 6000
	m.mu.Unlock()
	f.mustRound(t)
	has(5000)

	data := filepath.Join(root, "config", "delayOffset.json")
	if got := readDelays(t, data); got[3] != 7 {
		t.Errorf("delay levels: %v", got)
	}
	m.mu.Lock()
	m.delays[3], m.delays[4] = 2, 1
	m.topics = map[string]*protocol.TopicConfig{}
	m.mu.Unlock()
	if err := f.round(t.Context()); err == nil {
		t.Error("a master without topics is believed")
	}
	if got := readDelays(t, data); got[3] != 7 || got[4] != 1 {
		t.Errorf("delay levels: %v", got)
	}
	if f.topics.Get([]byte("T")) == nil {
		t.Error("the topics are gone")
	}
}

// A slave of a gomq master: the same with stamps, in any order of events.
func TestFollowsGomqMaster(t *testing.T) {
	m := run(t, nil)
	m.create("T", 2)
	for range 50 {
		m.send("T", 0, "x")
	}
	commit := func(offset int64) {
		t.Helper()
		if err := m.c.Commit(t.Context(), m.addr, "g", "T", 0, offset); err != nil {
			t.Fatal(err)
		}
	}
	has := func(want int64) {
		t.Helper()
		if got, _, err := m.c.Offset(t.Context(), m.addr, "g", "T", 0); err != nil || got != want {
			t.Fatalf("the master has %d (%v), want %d", got, err, want)
		}
	}
	if err := m.c.CreateGroup(t.Context(), m.addr, meta.NewGroup("g")); err != nil {
		t.Fatal(err)
	}
	f := newFollower(t, t.TempDir(), m.addr)
	commit(30)
	f.mustRound(t)
	f.at(t, 0, 30)
	if f.topics.Len() != m.b.topics.Len() || f.groups.Version() != m.b.groups.Version() {
		t.Error("the tables are not the master's")
	}
	f.commit(t, 45) // while the master is away
	commit(10)      // and a reset before it hears of that
	f.mustRound(t)
	f.at(t, 0, 10)
	has(10)
	f.commit(t, 50)
	f.mustRound(t)
	has(50)
	f.commit(t, 20) // a consumer rewinds at the slave
	f.mustRound(t)
	has(20)
	if err := m.c.DeleteGroup(t.Context(), m.addr, "g", true); err != nil {
		t.Fatal(err)
	}
	commit(3) // of a new group by that name
	f.mustRound(t)
	f.at(t, 0, 3)
	has(3)
	if err := m.c.DeleteTopic(t.Context(), m.addr, "T"); err != nil {
		t.Fatal(err)
	}
	var gone []string
	f.drop = func(topic string) error { gone = append(gone, topic); return nil }
	f.mustRound(t)
	if len(gone) != 1 || gone[0] != "T" {
		t.Errorf("dropped %q", gone)
	}
}

func readDelays(t *testing.T, path string) protocol.DelayTable {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	table, err := protocol.ParseDelayTable(data)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// While the log is not known to be the master's nothing is taken from it or given to it.
func TestTakesNothingOfAnotherSet(t *testing.T) {
	m := newJavaMaster(t)
	m.offsets = protocol.OffsetTable{"T@g": {0: 5}}
	f := newFollower(t, t.TempDir(), m.addr)
	f.mustRound(t)
	f.commit(t, 9)
	made := *m.topics["T"]
	made.TopicName = "New"
	m.topics["New"], m.version.Counter = &made, 2
	f.related = func() error { return errors.New("another log") }
	if err := f.round(t.Context()); err == nil || f.topics.Get([]byte("New")) != nil || m.offsets["T@g"][0] != 5 {
		t.Errorf("%v; the master's topic %v, its offset %d", err, f.topics.Get([]byte("New")), m.offsets["T@g"][0])
	}
	f.related = func() error { return nil }
	f.mustRound(t)
	if f.topics.Get([]byte("New")) == nil || m.offsets["T@g"][0] != 9 {
		t.Errorf("the master's topic %v, its offset %d", f.topics.Get([]byte("New")), m.offsets["T@g"][0])
	}
}

// A slave serves what it has: messages of a topic that its master had created just
// before it died.
func TestAdoptsTopics(t *testing.T) {
	r := run(t, nil)
	r.create("Fresh", 6)
	for q := range int32(2) {
		r.send("Fresh", q, "x")
	}
	f := newFollower(t, t.TempDir(), "127.0.0.1:3")
	f.store, f.soon = r.b.store, make(chan struct{}, 1)
	f.arrived(r.b.store.Queue([]byte("Fresh"), 0))
	select {
	case <-f.soon:
	default:
		t.Error("messages of an unknown topic ask for no synchronisation")
	}
	if err := f.round(t.Context()); err == nil {
		t.Fatal("a dead master was heard")
	}
	version := f.topics.Version()
	if err := f.adopt(); err != nil {
		t.Fatal(err)
	}
	if c := f.topics.Get([]byte("Fresh")); c == nil || c.ReadQueueNums != f.live.Load().DefaultTopicQueueNums || f.topics.Version() != version {
		t.Errorf("adopted %+v, version %+v", c, f.topics.Version())
	}
	f.arrived(r.b.store.Queue([]byte("Fresh"), 0))
	if len(f.soon) != 0 {
		t.Error("a topic that is known asks for a synchronisation")
	}
	// The master's word counts as soon as it is heard.
	m := newJavaMaster(t)
	f.names.leader.addr = m.addr
	f.mustRound(t)
	if f.topics.Has("Fresh") {
		t.Error("a topic that the master has not stays")
	}
}

// What a master says that lies, or is of a version that nobody knows, is bounded: what
// can be taken is taken, the rest is named, and nothing that was here is lost.
func TestLyingMaster(t *testing.T) {
	m := newJavaMaster(t)
	f := newFollower(t, t.TempDir(), m.addr)
	f.mustRound(t)
	f.commit(t, 30)
	m.mu.Lock()
	m.version.Counter++
	topic := func(name string, queues int32) {
		m.topics[name] = &protocol.TopicConfig{TopicName: name, ReadQueueNums: queues, WriteQueueNums: queues, Perm: 6, TopicFilterType: "SINGLE_TAG"}
	}
	topic("../../etc", 1)
	topic("Huge", 1<<30)
	topic("Negative", -1)
	m.topics["Other"] = &protocol.TopicConfig{TopicName: "NotOther", ReadQueueNums: 1, WriteQueueNums: 1, Perm: 6, TopicFilterType: "SINGLE_TAG"}
	topic("Good", 3)
	m.set("T@g", 1, -7)
	m.set("T@g", -3, 7)
	m.set("T/../x@g", 0, 7)
	m.set("nothing", 0, 7)
	m.set("T@"+strings.Repeat("g", 1000), 0, 7)
	m.set("T@CID_RMQ_SYS_TRANS", 0, 7)
	m.delays = protocol.DelayTable{-1: 5, 2: -9}
	m.mu.Unlock()
	err := f.round(t.Context())
	if err == nil || !strings.Contains(err.Error(), "cannot be kept") || !strings.Contains(err.Error(), "the master has") {
		t.Errorf("what was refused is not said: %v", err)
	}
	f.at(t, 0, 30)
	for _, name := range []string{"../../etc", "Huge", "Negative", "Other", "NotOther"} {
		if f.topics.Has(name) {
			t.Errorf("topic %s was taken", name)
		}
	}
	if !f.topics.Has("Good") || !f.topics.Has("T") {
		t.Error("the good topics are not there")
	}
	if n := len(f.offsets.Table()); n != 2 { // T@g and that of the transactions
		t.Errorf("offsets: %v", f.offsets.Table())
	}
	if err := f.offsets.Commit([]byte("T"), []byte("CID_RMQ_SYS_TRANS"), 0, 9); err != nil {
		t.Fatal(err)
	}
	_ = f.round(t.Context())
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.offsets["T@CID_RMQ_SYS_TRANS"][0] != 7 {
		t.Error("the master was given the place of its own transactions")
	}
	if m.offsets["T@g"][0] != 30 {
		t.Error("the group's place was not given to the master")
	}

	// Too many, and an address that is none.
	for i := range 200 {
		topic("T"+strconv.Itoa(i), 1)
	}
	m.version.Counter++
	m.mu.Unlock()
	if err := f.round(t.Context()); err == nil || !strings.Contains(err.Error(), "this broker takes 100") {
		t.Errorf("more topics than the limit: %v", err)
	}
	m.mu.Lock()
	for _, addr := range []string{"nonsense", "host:port", "127.0.0.1:2", ":0"} {
		f.names.leader.addr = addr
		if err := f.round(t.Context()); err == nil {
			t.Errorf("the master %q was heard", addr)
		}
	}
}
