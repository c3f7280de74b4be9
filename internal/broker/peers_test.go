package broker

import (
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"gomq/internal/ha"
	"gomq/internal/protocol"
)

// A slave that registers after it has connected counts soon after; one that has
// left the nameservers for long does not; the list outlives the process and is
// used when no nameserver answers.
func TestPeersFromNameservers(t *testing.T) {
	names := newFakeNames(t)
	slaves := func(addrs map[int64]string) {
		names.mu.Lock()
		defer names.mu.Unlock()
		addrs[0] = "127.0.0.1:1"
		names.info = &protocol.ClusterInfo{Brokers: map[string]protocol.BrokerData{"broker-a": {BrokerName: "broker-a", Addrs: addrs},
			"broker-b": {BrokerName: "broker-b", Addrs: map[int64]string{1: "127.0.0.1:2"}}}}
	}
	slaves(map[int64]string{})
	var mu sync.Mutex
	now := time.Now()
	m := runWith(t, func(o *Options) {
		withNames(names)(o)
		o.BrokerRole = SyncMaster
	}, seams{now: func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		return now
	}})
	m.create("T", 1)
	s := slaveOf(t, m, nil)
	m.eventually("the slave does not come", func() bool { return len(m.b.replicas()) == 1 && m.b.replicas()[0].Started })
	if got := m.send("T", 0, "x"); got.Code != protocol.SlaveNotAvailable {
		t.Errorf("a slave that no nameserver lists counts: code %d", got.Code)
	}
	slaves(map[int64]string{1: "127.0.0.1:11"})
	m.counted(1)
	m.eventually("no SEND_OK", func() bool { return m.send("T", 0, "x").Code == protocol.Success })
	s.stop()

	p := m.b.role.peers
	if !slices.Equal(p.addrs(), []string{"127.0.0.1:11"}) {
		t.Errorf("the list is %q", p.addrs())
	}
	kept, err := os.ReadFile(p.file)
	if err != nil || !strings.Contains(string(kept), "127.0.0.1:11") {
		t.Errorf("%s, %v", kept, err)
	}
	slaves(map[int64]string{})
	p.refresh(t.Context())
	if len(p.addrs()) != 1 {
		t.Error("a slave that a nameserver has just forgotten is forgotten at once")
	}
	mu.Lock()
	now = now.Add(peersKept + time.Second)
	mu.Unlock()
	p.refresh(t.Context())
	if len(p.addrs()) != 0 {
		t.Error("a slave that has gone stays for ever")
	}

	// With no nameserver that answers, what was known stays.
	if err := os.WriteFile(p.file, kept, 0o600); err != nil {
		t.Fatal(err)
	}
	names.close()
	again := m.again()
	p = again.b.role.peers
	p.refresh(t.Context())
	if !slices.Equal(p.addrs(), []string{"127.0.0.1:11"}) {
		t.Errorf("after a restart without nameservers the list is %q", p.addrs())
	}
}

// Who counts, by address, by network and by what it says in its greeting.
func TestPeersCount(t *testing.T) {
	o := rigOptions(t.TempDir())
	o.HAPeers = []string{"10.0.0.5", "10.1.0.0/16"}
	live := NewLive(o)
	p := &peers{live: live}
	p.use(map[string]int64{"10.2.0.1:10911": 1})
	name := func(broker, addr string, id int64) ha.Name {
		return ha.Name{Cluster: "DefaultCluster", Broker: broker, Addr: addr, ID: id}
	}
	for _, c := range []struct {
		addr string
		name ha.Name
		want bool
	}{
		{"10.0.0.5", ha.Name{}, true}, {"10.0.0.6", ha.Name{}, false}, {"10.1.7.7", ha.Name{}, true}, {"10.2.0.1", ha.Name{}, true}, {"10.2.0.2", ha.Name{}, false},
		{"10.9.9.9", name("broker-a", "10.2.0.1:10911", 1), true}, {"10.9.9.9", name("broker-a", "10.2.0.1:10911", 2), false},
		{"10.9.9.9", name("broker-b", "10.2.0.1:10911", 1), false}, {"10.9.9.9", name("broker-a", "10.2.0.9:10911", 1), false}, {"10.9.9.9", name("broker-a", "", 0), false},
	} {
		if got := p.counts(ha.Peer{Addr: netip.MustParseAddr(c.addr), Name: c.name}); got != c.want {
			t.Errorf("%s, %+v: %v", c.addr, c.name, got)
		}
	}
	if p.counts(ha.Peer{}) {
		t.Error("a peer without an address counts")
	}
}
