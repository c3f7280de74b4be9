package broker

import (
	"testing"
	"time"

	"gomq/internal/message"
	"gomq/internal/protocol"
)

// cluster tells a fake nameserver which masters there are.
func (f *fakeNames) cluster(masters map[string]string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.info = &protocol.ClusterInfo{Brokers: map[string]protocol.BrokerData{}, Clusters: map[string][]string{}}
	for name, addr := range masters {
		f.info.Brokers[name] = protocol.BrokerData{Cluster: "DefaultCluster", BrokerName: name, Addrs: map[int64]string{0: addr, 1: "127.0.0.1:1"}}
		f.info.Clusters["DefaultCluster"] = append(f.info.Clusters["DefaultCluster"], name)
	}
	f.info.Brokers["elsewhere"] = protocol.BrokerData{Cluster: "Other", BrokerName: "elsewhere", Addrs: map[int64]string{0: "127.0.0.1:1"}}
	f.info.Clusters["Other"] = []string{"elsewhere"}
}

// A topic that a send creates is on every living master of the cluster before the
// send is answered; a master that has it keeps its own.
func TestTopicsGoToEveryMaster(t *testing.T) {
	silent, f := newFakeNames(t), newFakeNames(t) // one that answers nothing delays nothing
	silent.silent = true
	a := run(t, withNames(silent, f))
	b := run(t, func(o *Options) { withNames(f)(o); o.BrokerName = "broker-b" })
	f.cluster(map[string]string{"broker-a": a.addr, "broker-b": b.addr})
	b.create("Both", 7)
	for _, topic := range []string{"New", "Both"} {
		if got := a.send(topic, 0, "x"); got.QueueOffset != 0 {
			t.Fatalf("%s: %+v", topic, got)
		}
	}
	has := func(r *rig, topic string) int32 {
		if c := r.b.topics.Get([]byte(topic)); c != nil {
			return c.WriteQueueNums
		}
		return -1
	}
	if n := has(b, "New"); n != 4 {
		t.Errorf("the other master has New with %d queues", n)
	}
	if n, m := has(a, "Both"), has(b, "Both"); n != 4 || m != 7 {
		t.Errorf("Both has %d and %d queues, created with 4 and 7", n, m)
	}
	// What belongs to one broker stays there.
	h := sendHeader(message.RetryTopic("g"), 0)
	if _, err := a.c.Send(t.Context(), a.addr, h, []byte("x")); err != nil {
		t.Fatal(err)
	}
	if has(a, message.RetryTopic("g")) < 0 || has(b, message.RetryTopic("g")) >= 0 {
		t.Error("the topic of retries was copied, or not created")
	}
	// A master that makes no topics for sends makes none for copies.
	if err := b.c.UpdateConfig(t.Context(), b.addr, "autoCreateTopicEnable=false"); err != nil {
		t.Fatal(err)
	}
	a.send("NotThere", 0, "x")
	if has(b, "NotThere") >= 0 {
		t.Error("a master with autoCreateTopicEnable=false has the copy")
	}
	if err := b.c.UpdateConfig(t.Context(), b.addr, "autoCreateTopicEnable=true"); err != nil {
		t.Fatal(err)
	}
	// A topic whose route names the other master already is not asked of it.
	f.mu.Lock()
	f.route = &protocol.RouteData{Queues: []protocol.QueueData{{BrokerName: "broker-b", ReadQueueNums: 1, WriteQueueNums: 1, Perm: 6}}}
	f.mu.Unlock()
	a.send("There", 0, "x")
	if has(b, "There") >= 0 {
		t.Error("a master that serves the topic was asked to create it")
	}
}

// A master that does not answer delays a send by the bound and no more.
func TestSilentMasterDelaysCreationByItsBound(t *testing.T) {
	f, silent := newFakeNames(t), newFakeNames(t) // one that answers no 17
	a := run(t, withNames(f))
	f.cluster(map[string]string{"broker-a": a.addr, "broker-b": silent.addr, "broker-c": "127.0.0.1:1"})
	start := time.Now()
	a.send("New", 0, "x")
	if took := time.Since(start); took < announceWait/2 {
		t.Errorf("the other master was not asked: %v", took)
	}
}

// A slave knows its master from whichever nameserver answers, and keeps it.
func TestSlaveKnowsItsMaster(t *testing.T) {
	a, b := newFakeNames(t), newFakeNames(t)
	o := rigOptions(t.TempDir())
	withNames(a, b)(&o)
	o.BrokerRole, o.BrokerID = Slave, 1
	r := run(t, nil) // for its client and topics
	names := newRegistrar(t.Context(), NewLive(o), r.b.log, r.b.topics, r.c)
	tell := func(f *fakeNames, reply protocol.RegisterReply) {
		t.Helper()
		f.mu.Lock()
		f.reply = reply
		f.mu.Unlock()
		n := names.servers[0]
		if f == b {
			n = names.servers[1]
		}
		err := names.register(t.Context(), n)
		names.note(n, err)
	}
	is := func(addr, ha string) {
		t.Helper()
		if gotAddr, gotHA := names.master(); gotAddr != addr || gotHA != ha {
			t.Fatalf("master %q %q, want %q %q", gotAddr, gotHA, addr, ha)
		}
	}
	m1 := protocol.RegisterReply{MasterAddr: "10.0.0.1:10911", HAServerAddr: "10.0.0.1:10912"}
	m2 := protocol.RegisterReply{MasterAddr: "10.0.0.2:10911", HAServerAddr: "10.0.0.2:10912"}
	is("", "")
	news := names.masterChanged()
	tell(a, protocol.RegisterReply{})
	tell(a, protocol.RegisterReply{MasterAddr: brokerAddr(&o)}) // never itself
	is("", "")
	tell(a, m1)
	is(m1.MasterAddr, m1.HAServerAddr)
	select {
	case <-news:
	default:
		t.Error("nobody was told of the master")
	}
	tell(b, m2) // they disagree: the known one stays while a names it
	is(m1.MasterAddr, m1.HAServerAddr)
	tell(a, protocol.RegisterReply{})
	tell(b, protocol.RegisterReply{}) // both have lost it: it comes back where it was
	is(m1.MasterAddr, m1.HAServerAddr)
	tell(b, m2)
	is(m2.MasterAddr, m2.HAServerAddr)
	names.live = NewLive(func() Options { o := o; o.HAMasterAddress = "10.9.9.9:1"; return o }())
	is(m2.MasterAddr, "10.9.9.9:1")
}
