package client

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gomq/internal/namesrv"
	"gomq/internal/protocol"
	"gomq/internal/remoting"
	"gomq/internal/remoting/remotingtest"
)

// startNameServer starts a real nameserver on a free port of loopback.
func startNameServer(t *testing.T, change func(*namesrv.Options)) *namesrv.Server {
	t.Helper()
	o := namesrv.DefaultOptions()
	o.ListenHost, o.ListenPort, o.HTTPPort = "127.0.0.1", 0, 0
	o.KVConfigPath = filepath.Join(t.TempDir(), "kvConfig.json")
	if change != nil {
		change(&o)
	}
	s, err := namesrv.Start(context.Background(), namesrv.NewLive(o), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Stop(context.Background()) })
	return s
}

func newClient(t *testing.T, o Options) *Client {
	t.Helper()
	c := New(context.Background(), o)
	t.Cleanup(func() { c.Stop(context.Background()) })
	return c
}

func registration(name, addr string, id int64, topics ...string) Registration {
	r := Registration{Header: protocol.RegisterHeader{BrokerName: name, BrokerAddr: addr, ClusterName: "C", HAServerAddr: "10.0.0.1:10912", BrokerID: id}}
	r.Body.Version = protocol.DataVersion{Timestamp: 1700000000000, Counter: int64(len(topics))}
	r.Body.Topics = map[string]protocol.TopicConfig{}
	for _, topic := range topics {
		r.Body.Topics[topic] = protocol.TopicConfig{TopicName: topic, ReadQueueNums: 8, WriteQueueNums: 4, Perm: 6, TopicFilterType: "SINGLE_TAG"}
	}
	return r
}

func brokerHeader(r Registration) protocol.BrokerHeader {
	return protocol.BrokerHeader{BrokerName: r.Header.BrokerName, BrokerAddr: r.Header.BrokerAddr, ClusterName: r.Header.ClusterName, BrokerID: r.Header.BrokerID}
}

func TestRegisterAndRoute(t *testing.T) {
	for _, codec := range []protocol.Codec{protocol.JSON, protocol.Binary} {
		for _, compressed := range []bool{false, true} {
			a, b := startNameServer(t, nil), startNameServer(t, nil)
			c := newClient(t, Options{Codec: codec})
			ns := c.NameServers([]string{a.Addr(), b.Addr()})
			ctx := t.Context()
			r := registration("broker-a", "10.0.0.1:10911", 0, "T", "U")
			r.Compressed = compressed
			got := ns.Register(ctx, r)
			if len(got) != 2 {
				t.Fatalf("answers of %d nameservers, want 2", len(got))
			}
			for i, g := range got {
				if g.Err != nil || g.Addr != ns.Addrs()[i] || g.Order != nil || g.Reply != (protocol.RegisterReply{}) {
					t.Fatalf("answer %d to a master: %+v", i, g)
				}
			}
			slave := registration("broker-a", "10.0.0.2:10911", 1)
			for _, g := range ns.Register(ctx, slave) {
				if g.Err != nil || g.Reply.MasterAddr != "10.0.0.1:10911" || g.Reply.HAServerAddr != "10.0.0.1:10912" {
					t.Fatalf("answer to a slave: %+v", g)
				}
			}
			for _, addr := range ns.Addrs() {
				route, err := c.RouteAt(ctx, addr, "T")
				if err != nil {
					t.Fatal(err)
				}
				q := protocol.QueueData{BrokerName: "broker-a", ReadQueueNums: 8, WriteQueueNums: 4, Perm: 6}
				if len(route.Queues) != 1 || route.Queues[0] != q || len(route.Brokers) != 1 || len(route.Brokers[0].Addrs) != 2 ||
					route.Brokers[0].Addrs[1] != "10.0.0.2:10911" || route.Brokers[0].Cluster != "C" {
					t.Fatalf("route: %+v", route)
				}
			}
			for _, v := range ns.QueryDataVersion(ctx, brokerHeader(r), r.Body.Version) {
				if v.Err != nil || v.Changed || v.Version == nil || *v.Version != r.Body.Version {
					t.Fatalf("data version: %+v", v)
				}
			}
			for _, o := range ns.Unregister(ctx, brokerHeader(r)) {
				if o.Err != nil {
					t.Fatal(o.Err)
				}
			}
			info, err := ns.ClusterInfo(ctx)
			if err != nil || len(info.Brokers["broker-a"].Addrs) != 1 {
				t.Fatalf("after the master has left: %+v, %v", info, err)
			}
		}
	}
}

func TestRouteTriesTheNext(t *testing.T) {
	knows, empty := startNameServer(t, nil), startNameServer(t, nil)
	c := newClient(t, Options{Timeout: 2 * time.Second})
	dead := deadAddress(t)
	if got := c.NameServers([]string{knows.Addr()}).Register(t.Context(), registration("b", "10.0.0.1:1", 0, "T")); got[0].Err != nil {
		t.Fatal(got[0].Err)
	}
	ns := c.NameServers([]string{dead, empty.Addr(), knows.Addr()})
	for range 2 { // the second time it begins with the one that knew
		if r, err := ns.Route(t.Context(), "T"); err != nil || len(r.Brokers) != 1 {
			t.Fatalf("route: %+v, %v", r, err)
		}
	}
	if ns.first != 2 {
		t.Errorf("asks number %d first, want 2", ns.first)
	}
	_, err := ns.Route(t.Context(), "unknown")
	if code, ok := Code(err); !ok || code != protocol.TopicNotExist {
		t.Errorf("a topic that nobody knows: %v, want the refusal rather than the dead nameserver", err)
	}
	if _, err := c.NameServers([]string{dead}).Route(t.Context(), "T"); err == nil || !strings.Contains(err.Error(), dead) {
		t.Errorf("no nameserver answers: %v, want an error that names %s", err, dead)
	}
	if _, err := c.NameServers(nil).Route(t.Context(), "T"); err == nil {
		t.Error("no nameserver at all, and no error")
	}
}

func TestRegisterWithADeadNameServer(t *testing.T) {
	alive := startNameServer(t, nil)
	c := newClient(t, Options{Timeout: 300 * time.Millisecond})
	dead, mute := deadAddress(t), muteServer(t)
	start := time.Now()
	got := c.NameServers([]string{dead, mute, alive.Addr()}).Register(t.Context(), registration("b", "10.0.0.1:1", 0, "T"))
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("took %v: nameservers were asked one after the other", took)
	}
	if got[0].Err == nil || got[1].Err == nil || got[2].Err != nil {
		t.Errorf("answers: %+v", got)
	}
	if !errors.Is(got[1].Err, context.DeadlineExceeded) || !strings.Contains(got[1].Err.Error(), mute) {
		t.Errorf("the mute one: %v", got[1].Err)
	}
}

func TestSilentConnectionIsGivenUp(t *testing.T) {
	mute := muteServer(t)
	c := newClient(t, Options{Timeout: 30 * time.Millisecond})
	first, err := c.Conn(t.Context(), mute)
	if err != nil {
		t.Fatal(err)
	}
	for i := range silentLimit {
		if _, err := c.Call(t.Context(), mute, protocol.NewRequest(protocol.GetBrokerClusterInfo, nil, nil)); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("call %d: %v", i, err)
		}
	}
	select {
	case <-first.Done():
	case <-time.After(5 * time.Second):
		t.Fatal("the connection is still open")
	}
	if second, err := c.Conn(t.Context(), mute); err != nil || second == first {
		t.Errorf("after that: %v, the same connection %v", err, second == first)
	}
}

func TestReconnects(t *testing.T) {
	s := startNameServer(t, nil)
	c := newClient(t, Options{})
	ns := c.NameServers([]string{s.Addr()})
	if _, err := ns.ClusterInfo(t.Context()); err != nil {
		t.Fatal(err)
	}
	conn, _ := c.Conn(t.Context(), s.Addr())
	conn.Close(nil)
	if _, err := ns.ClusterInfo(t.Context()); err != nil {
		t.Errorf("after the connection broke: %v", err)
	}
	if again, _ := c.Conn(t.Context(), s.Addr()); again == conn {
		t.Error("the broken connection is still in use")
	}
}

func TestLists(t *testing.T) {
	a, b := startNameServer(t, nil), startNameServer(t, nil)
	c := newClient(t, Options{})
	ns := c.NameServers([]string{a.Addr(), b.Addr()})
	ctx := t.Context()
	ns.Register(ctx, registration("b", "10.0.0.1:1", 0, "T", "U"))
	check := func(what string, l protocol.TopicList, err error, want string) {
		t.Helper()
		if got := strings.Join(l.Topics, " "); err != nil || got != want {
			t.Errorf("%s: %q %v, want %q", what, got, err, want)
		}
	}
	l, err := ns.Topics(ctx)
	check("all topics", l, err, "T U")
	l, err = ns.TopicsOf(ctx, "C")
	check("topics of C", l, err, "T U")
	l, err = ns.TopicsOf(ctx, "D")
	check("topics of D", l, err, "")
	l, err = ns.SystemTopics(ctx)
	check("system topics", l, err, "C b")
	if l.BrokerAddr != "10.0.0.1:1" {
		t.Errorf("system topics name the broker %q", l.BrokerAddr)
	}
	l, err = ns.UnitTopics(ctx, protocol.GetUnitTopicList)
	check("unit topics", l, err, "")
	for _, p := range append(ns.WipeWrite(ctx, "b"), ns.AddWrite(ctx, "b")...) {
		if p.Err != nil || p.Topics != 2 {
			t.Errorf("permission: %+v", p)
		}
	}
	ns.DeleteTopic(ctx, "T", "")
	l, err = ns.Topics(ctx)
	check("after a deletion", l, err, "U")
}

func TestKVAndConfig(t *testing.T) {
	s := startNameServer(t, nil)
	c := newClient(t, Options{})
	ns := c.NameServers([]string{s.Addr()})
	ctx := t.Context()
	if out := ns.PutKV(ctx, "N", "k", "v 值"); out[0].Err != nil {
		t.Fatal(out)
	}
	if v, err := ns.GetKV(ctx, "N", "k"); err != nil || v != "v 值" {
		t.Errorf("got %q, %v", v, err)
	}
	if m, err := ns.KVs(ctx, "N"); err != nil || len(m) != 1 || m["k"] != "v 值" {
		t.Errorf("got %v, %v", m, err)
	}
	if out := ns.DeleteKV(ctx, "N", "k"); out[0].Err != nil {
		t.Fatal(out)
	}
	if _, err := ns.GetKV(ctx, "N", "k"); err == nil {
		t.Error("a deleted key is found")
	} else if code, _ := Code(err); code != protocol.QueryNotFound {
		t.Errorf("a deleted key: %v", err)
	}
	if out := ns.UpdateConfig(ctx, "orderMessageEnable=true"); out[0].Err != nil {
		t.Fatal(out)
	}
	text, err := c.NameServerConfig(ctx, s.Addr())
	if err != nil || !strings.Contains(text, "orderMessageEnable=true\n") {
		t.Errorf("configuration %q, %v", text, err)
	}
}

func TestPeerMayAsk(t *testing.T) {
	s := remotingtest.Serve(t, "127.0.0.1:0", asksBack)
	c := newClient(t, Options{})
	resp, err := c.Call(t.Context(), s.Addr(), protocol.NewRequest(1, nil, nil))
	if err != nil || resp.Code != protocol.RequestCodeNotSupported {
		t.Errorf("without a handler of ours the peer's question is answered %+v, %v", resp, err)
	}
}

// TestRefusals has a peer that refuses everything.
func TestRefusals(t *testing.T) {
	s := remotingtest.Serve(t, "127.0.0.1:0", func(c *remoting.Call) {
		c.Answer(remoting.Response{Code: protocol.QueryNotFound, Remark: "not here"})
	})
	c := newClient(t, Options{})
	ctx := t.Context()
	if off, found, err := c.Offset(ctx, s.Addr(), "G", "T", 0); err != nil || found || off != 0 {
		t.Errorf("no offset: %d %v %v", off, found, err)
	}
	_, err1 := c.MaxOffset(ctx, s.Addr(), "T", 0)
	_, err2 := c.Send(ctx, s.Addr(), protocol.SendHeader{Topic: []byte("T")}, nil)
	_, err3 := c.Pull(ctx, s.Addr(), protocol.PullHeader{Topic: []byte("T")})
	for i, err := range []error{err1, err2, err3} {
		code, ok := Code(err)
		if !ok || code != protocol.QueryNotFound || !strings.Contains(err.Error(), s.Addr()) || !strings.Contains(err.Error(), "not here") {
			t.Errorf("refusal %d: %v", i, err)
		}
	}
	if _, ok := Code(errors.New("x")); ok {
		t.Error("any error has a code")
	}
}

// asksBack answers a request with what its sender answers to one of ours.
func asksBack(c *remoting.Call) {
	late := c.Later()
	go func() {
		resp, err := c.Conn.Call(context.Background(), protocol.NewRequest(9999, nil, nil))
		if err != nil {
			late.Answer(remoting.Response{Code: protocol.SystemError, Remark: err.Error()})
			return
		}
		late.Answer(remoting.Response{Code: resp.Code, Remark: resp.Remark})
	}()
}

// deadAddress is one where nobody listens.
func deadAddress(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// muteServer accepts and never answers.
func muteServer(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var conns []net.Conn
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			conns = append(conns, nc)
		}
	}()
	t.Cleanup(func() {
		ln.Close()
		<-done
		for _, nc := range conns {
			nc.Close()
		}
	})
	return ln.Addr().String()
}
