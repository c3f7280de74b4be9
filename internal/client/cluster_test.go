package client

import (
	"strings"
	"testing"
	"time"

	"gomq/internal/protocol"
	"gomq/internal/remoting"
	"gomq/internal/remoting/remotingtest"
)

// figures is a broker that tells its figures and nothing else.
type figures struct {
	info   protocol.KVTable
	ha     *protocol.HAStatus // nil: it does not know the question, as RocketMQ 4.x
	config string             // "": it does not tell
}

func (f *figures) request(c *remoting.Call) {
	switch {
	case c.Req.Code == protocol.GetBrokerRuntimeInfo:
		c.Answer(remoting.Response{Body: f.info.Append(nil)})
	case c.Req.Code == protocol.GetBrokerHAStatus && f.ha != nil:
		c.Answer(remoting.Response{Body: f.ha.Append(nil)})
	case c.Req.Code == protocol.GetBrokerConfig && f.config != "":
		c.Answer(remoting.Response{Header: &protocol.BrokerConfigReply{}, Body: []byte(f.config)})
	default:
		c.Answer(remoting.Response{Code: protocol.RequestCodeNotSupported})
	}
}

func (f *figures) serve(t *testing.T) (addr string) {
	t.Helper()
	return remotingtest.Serve(t, "127.0.0.1:0", f.request).Addr()
}

// The picture of a cluster: two sets, one without its master, a slave of RocketMQ,
// and a nameserver that is away.
func TestCluster(t *testing.T) {
	a, b := startNameServer(t, nil), startNameServer(t, nil)
	c := newClient(t, Options{Timeout: time.Second})
	info := func(version, end string) protocol.KVTable {
		return protocol.KVTable{"brokerVersionDesc": version, "commitLogMaxOffset": end, "putTps": "12.5 3.0 1.0", "getTransferedTps": "7.0 1.0 1.0"}
	}
	gomq := info("V4_9_8", "1000")
	gomq["goVersion"] = "go"
	master, slave, java := &figures{info: gomq}, &figures{info: info("V5_3_3", "900")}, &figures{info: info("V4_5_2", "800")}
	masterAddr, slaveAddr, javaAddr := master.serve(t), slave.serve(t), java.serve(t)
	acked := time.UnixMilli(1_700_000_000_000)
	master.ha = &protocol.HAStatus{Master: true, End: 1000, Slaves: []protocol.HASlave{{Addr: "127.0.0.1:9", Broker: slaveAddr, Ack: 990, Diff: 10, DiffMessages: 4, InSync: true, LastAck: acked.UnixMilli()}}}
	slave.ha = &protocol.HAStatus{Client: protocol.HAClient{Activated: true}}
	dead := "127.0.0.1:1"
	all := c.NameServers([]string{a.Addr(), b.Addr(), dead})
	for _, ns := range []string{a.Addr(), b.Addr()} {
		one := c.NameServers([]string{ns})
		one.Register(t.Context(), registration("broker-a", masterAddr, 0, "T"))
		one.Register(t.Context(), registration("broker-a", slaveAddr, 1))
	}
	c.NameServers([]string{a.Addr()}).Register(t.Context(), registration("broker-b", javaAddr, 1))

	k := all.Cluster(t.Context())
	if len(k.Sets) != 2 || k.Sets[0].Name != "broker-a" || len(k.Sets[0].Brokers) != 2 || len(k.Sets[1].Brokers) != 1 {
		t.Fatalf("%+v", k.Sets)
	}
	m, s, j := k.Sets[0].Brokers[0], k.Sets[0].Brokers[1], k.Sets[1].Brokers[0]
	if m.Addr != masterAddr || !m.Gomq || m.Slave != nil || *m.PutTPS != 12.5 || *m.GetTPS != 7 || *m.End != 1000 || len(m.KnownBy) != 2 {
		t.Errorf("master %+v", m)
	}
	if y := s.Slave; y == nil || *y.LagBytes != 10 || *y.LagMessages != 4 || !*y.InSync || !y.LastAck.Equal(acked) || y.Error != "" {
		t.Errorf("slave %+v", s.Slave)
	}
	if y := j.Slave; j.Gomq || j.Version != "V4_5_2" || y == nil || y.LagBytes != nil || y.InSync != nil {
		t.Errorf("slave of RocketMQ %+v %+v", j, y)
	}
	if n := k.Nameservers; n[0].Brokers != 3 || n[1].Brokers != 2 || n[2].Error == "" {
		t.Errorf("nameservers %+v", n)
	}
	problems := strings.Join(k.Problems, "\n")
	for _, want := range []string{"nameserver " + dead + " does not answer", "broker-b has no living master", "broker-b 1 at " + javaAddr + " is known to " + a.Addr() + " only"} {
		if !strings.Contains(problems, want) {
			t.Errorf("no %q in\n%s", want, problems)
		}
	}
	if len(k.Problems) != 3 {
		t.Errorf("problems:\n%s", problems)
	}

	// A master that does not list the slave; one of RocketMQ with a single slave.
	master.ha.Slaves = nil
	slave.ha.Client = protocol.HAClient{Why: "it is told why"}
	k = c.NameServers([]string{b.Addr()}).Cluster(t.Context())
	if y := k.Sets[0].Brokers[1].Slave; *y.InSync || *y.LagBytes != 100 {
		t.Errorf("slave that is not connected: %+v", y)
	}
	if len(k.Problems) != 1 || !strings.Contains(k.Problems[0], "does not copy its master: it is told why") {
		t.Errorf("problems: %q", k.Problems)
	}
	// One that is connected and has no space.
	slave.ha.Client.Activated = true
	if k = c.NameServers([]string{b.Addr()}).Cluster(t.Context()); k.Sets[0].Brokers[1].Slave.Error == "" || len(k.Problems) != 1 {
		t.Errorf("slave that takes nothing: %+v, %q", k.Sets[0].Brokers[1].Slave, k.Problems)
	}
	// The same of a SYNC_MASTER.
	master.config = "brokerName=broker-a\nbrokerRole=SYNC_MASTER\n"
	k = c.NameServers([]string{b.Addr()}).Cluster(t.Context())
	if k.Sets[0].Brokers[0].Role != "SYNC_MASTER" || len(k.Problems) != 2 || !strings.Contains(k.Problems[0], "no slave copies the master of broker-a") {
		t.Errorf("a SYNC_MASTER without a slave: %+v, %q", k.Sets[0].Brokers[0], k.Problems)
	}
	master.ha.InSync, slave.ha.Client = 1, protocol.HAClient{Activated: true}
	if k = c.NameServers([]string{b.Addr()}).Cluster(t.Context()); strings.Contains(strings.Join(k.Problems, "\n"), "no slave copies") {
		t.Errorf("a SYNC_MASTER with one: %q", k.Problems)
	}
	java.config, java.info["brokerVersionDesc"] = master.config, "V4_5_2"
	c.NameServers([]string{b.Addr()}).Register(t.Context(), registration("broker-c", javaAddr, 0))
	if k = c.NameServers([]string{b.Addr()}).Cluster(t.Context()); !strings.Contains(strings.Join(k.Problems, "\n"), "no slave copies the master of broker-c") {
		t.Errorf("a SYNC_MASTER of RocketMQ 4.5 alone: %q", k.Problems)
	}
	c.NameServers([]string{b.Addr()}).Unregister(t.Context(), protocol.BrokerHeader{BrokerName: "broker-c", BrokerAddr: javaAddr, ClusterName: registration("broker-c", javaAddr, 0).Header.ClusterName})
	master.ha, slave.ha = nil, nil
	k = c.NameServers([]string{b.Addr()}).Cluster(t.Context())
	if y := k.Sets[0].Brokers[1].Slave; y.InSync != nil || *y.LagBytes != 100 || len(k.Problems) != 0 {
		t.Errorf("brokers that do not tell: %+v, %q", y, k.Problems)
	}
}
