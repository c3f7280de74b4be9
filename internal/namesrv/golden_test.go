package namesrv

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"gomq/internal/protocol"
)

// recorded is one recorded frame.
func recorded(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "wire", name+".bin"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func parse(t *testing.T, frame []byte) *protocol.Command {
	t.Helper()
	c := new(protocol.Command)
	if err := c.Parse(frame[4:]); err != nil {
		t.Fatal(err)
	}
	return c
}

// player plays recorded requests to a nameserver.
type player struct {
	t *testing.T
	net.Conn
}

func play(t *testing.T, s *Server) *player {
	nc, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(20 * time.Second))
	return &player{t, nc}
}

// send sends a recorded request and returns the answer, nil to a one-way one.
func (p *player) send(name string) []byte {
	p.t.Helper()
	req := recorded(p.t, name)
	if _, err := p.Write(req); err != nil {
		p.t.Fatal(err)
	}
	if parse(p.t, req).IsOneway() {
		return nil
	}
	return p.read()
}

func (p *player) read() []byte {
	p.t.Helper()
	head := make([]byte, 4)
	if _, err := io.ReadFull(p, head); err != nil {
		p.t.Fatal(err)
	}
	b := make([]byte, 4+binary.BigEndian.Uint32(head))
	copy(b, head)
	if _, err := io.ReadFull(p, b[4:]); err != nil {
		p.t.Fatal(err)
	}
	return b
}

// same sends a recorded request and compares the answer with the recorded one,
// byte for byte but for the version that it names and topicSynFlag, which is sent
// for the sake of older clients.
func (p *player) same(name string) {
	p.t.Helper()
	got := p.send(name)
	if got == nil {
		return
	}
	want := recorded(p.t, name+"-resp")
	gh, gb := split(got)
	wh, wb := split(want)
	if !bytes.Equal(gh, wh) {
		p.t.Errorf("%s is answered\n  %q\nwant\n  %q", name, gh, wh)
	}
	if gb = bytes.ReplaceAll(gb, []byte(`"topicSynFlag":0,`), nil); !bytes.Equal(gb, wb) {
		p.t.Errorf("%s is answered with the body\n  %s\nwant\n  %s", name, gb, wb)
	}
}

// split is the header of a frame without its version, and the body.
func split(frame []byte) (header, body []byte) {
	n := 8 + int(binary.BigEndian.Uint32(frame[4:])&0xFFFFFF)
	header, body = bytes.Clone(frame[8:n]), frame[n:]
	if frame[4] == byte(protocol.Binary) {
		header[3], header[4] = 0, 0
		return header, body
	}
	i := bytes.Index(header, []byte(`"version":`)) + len(`"version":`)
	j := i + bytes.IndexAny(header[i:], ",}")
	return slices.Concat(header[:i], header[j:]), body
}

// names lists the recorded requests of a client, in the order of their numbers.
func names(t *testing.T, client, code string) []string {
	files, err := filepath.Glob(filepath.Join("testdata", "wire", client, code+"-*.bin"))
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, f := range files {
		if !strings.HasSuffix(f, "-resp.bin") {
			all = append(all, client+"/"+strings.TrimSuffix(filepath.Base(f), ".bin"))
		}
	}
	if len(all) == 0 {
		t.Fatalf("no %s of %s", code, client)
	}
	slices.SortFunc(all, func(a, b string) int { // X, X.2, X.3
		return 2*(len(a)-len(b)) + strings.Compare(a, b)
	})
	return all
}

// TestBrokersOfJava plays what Java's brokers sent: they must be answered as by
// their own nameserver, and be routed to.
func TestBrokersOfJava(t *testing.T) {
	for _, v := range []string{"4.5.2", "4.9.7", "5.3.3"} {
		t.Run(v, func(t *testing.T) {
			s := start(t, testOptions(t))
			master, slave := play(t, s), play(t, s)
			topics := map[string]protocol.TopicConfig{}
			for _, name := range names(t, "broker-"+v, "103") {
				master.same(name)
				body, err := protocol.ParseRegisterBody(parse(t, recorded(t, name)).Body)
				if err != nil {
					t.Fatal(err)
				}
				for topic, c := range body.Topics {
					topics[topic] = c
				}
			}
			settle(t, master)
			for _, name := range names(t, "slave-"+v, "103") {
				slave.same(name)
			}
			settle(t, slave)
			checkRoutes(t, s, topics, map[int64]string{0: "127.0.0.2:32911", 1: "127.0.0.2:32921"})
			master.same("broker-" + v + "/104-UNREGISTER_BROKER")
			slave.same("slave-" + v + "/104-UNREGISTER_BROKER")
			if brokers, topics := s.table.size(); brokers != 0 || topics != 0 {
				t.Errorf("after they have left there are %d brokers and %d topics", brokers, topics)
			}
		})
	}
}

// settle waits until what was sent one-way has been dealt with.
func settle(t *testing.T, p *player) {
	t.Helper()
	c := protocol.NewRequest(protocol.GetAllTopicListFromNS, nil, nil)
	if _, err := p.Write(c.AppendTo(nil)); err != nil {
		t.Fatal(err)
	}
	p.read()
}

func checkRoutes(t *testing.T, s *Server, topics map[string]protocol.TopicConfig, addrs map[int64]string) {
	t.Helper()
	if len(topics) < 5 {
		t.Errorf("only %d topics were registered", len(topics))
	}
	for name, c := range topics {
		r, err := protocol.ParseRouteData(s.table.route(name, true))
		if err != nil {
			t.Errorf("route of %s: %v", name, err)
			continue
		}
		q := protocol.QueueData{BrokerName: "broker-a", ReadQueueNums: c.ReadQueueNums, WriteQueueNums: c.WriteQueueNums, Perm: c.Perm, TopicSysFlag: c.TopicSysFlag}
		if len(r.Queues) != 1 || r.Queues[0] != q || len(r.Brokers) != 1 || len(r.Brokers[0].Addrs) != len(addrs) {
			t.Errorf("route of %s: %+v, registered was %+v", name, r, c)
			continue
		}
		for id, addr := range addrs {
			if r.Brokers[0].Addrs[id] != addr {
				t.Errorf("route of %s: broker %d is at %s, want %s", name, id, r.Brokers[0].Addrs[id], addr)
			}
		}
	}
}

// TestCompressedBrokersOfJava plays registrations with a deflated body. 5.3.3
// says that it is none and is refused by its own nameserver; here it is served.
func TestCompressedBrokersOfJava(t *testing.T) {
	for _, v := range []string{"4.9.7", "5.3.3"} {
		t.Run(v, func(t *testing.T) {
			s := start(t, testOptions(t))
			p := play(t, s)
			client := "broker-" + v + "-compressed"
			topics := map[string]protocol.TopicConfig{}
			for _, name := range names(t, client, "103") {
				if got := p.send(name); got != nil && parse(t, got).Code != protocol.Success {
					t.Errorf("%s is answered %+v", name, parse(t, got))
				}
				body, err := protocol.ParseRegisterBody(parse(t, recorded(t, name)).Body)
				if err != nil {
					t.Fatal(err)
				}
				for topic, c := range body.Topics {
					topics[topic] = c
				}
			}
			settle(t, p)
			checkRoutes(t, s, topics, map[int64]string{0: "127.0.0.2:32911"})
			if v == "4.9.7" {
				p.same(client + "/322-QUERY_DATA_VERSION")
			} else if a := parse(t, p.send(client+"/322-QUERY_DATA_VERSION")); a.Code != protocol.Success || len(a.Body) == 0 {
				t.Errorf("its data version is answered %+v", a)
			}
			p.same(client + "/104-UNREGISTER_BROKER")
		})
	}
}

// TestRoutesOfJava plays the route requests of clients of each kind against a
// nameserver that knows what Java's knew.
func TestRoutesOfJava(t *testing.T) {
	s := start(t, testOptions(t))
	register := func(id int64, addr string, topics map[string]protocol.TopicConfig) {
		t.Helper()
		c := &script{t: t, srv: s}
		conn := dialServer(t, s)
		h := &protocol.RegisterHeader{BrokerName: "broker-a", BrokerAddr: addr, ClusterName: "DefaultCluster", BrokerID: id}
		body := protocol.RegisterBody{Topics: topics, Version: protocol.DataVersion{Counter: 1}}
		if r := c.call(conn, 407, protocol.RegisterBroker, h, body.Append(nil)); r.Code != 0 {
			t.Fatal(r.Remark)
		}
	}
	topics := map[string]protocol.TopicConfig{"TBW102": {TopicName: "TBW102", ReadQueueNums: 8, WriteQueueNums: 8, Perm: 7, TopicFilterType: "SINGLE_TAG"}}
	for _, name := range []string{"J498Topic", "J498bTopic", "J533Topic", "GoTopic", "NodTopic"} {
		topics[name] = protocol.TopicConfig{TopicName: name, ReadQueueNums: 4, WriteQueueNums: 4, Perm: 6, TopicFilterType: "SINGLE_TAG"}
	}
	register(0, "127.0.0.2:32911", topics)
	p := play(t, s)
	for _, name := range names(t, "node-rocketmq", "105") { // recorded without the slave
		p.same(name)
	}
	p.same("admin-4.9.8/311-GET_UNIT_TOPIC_LIST")
	p.same("admin-4.9.8/312-GET_HAS_UNIT_SUB_TOPIC_LIST")
	p.same("admin-4.9.8/313-GET_HAS_UNIT_SUB_UNUNIT_TOPIC_LIST")
	register(1, "127.0.0.2:32921", nil)
	n := 0
	for _, client := range []string{"java-4.5.2", "java-4.9.8", "java-4.9.8-binary", "java-5.3.3", "go-2.1.2"} {
		for _, name := range names(t, client, "105") {
			p.same(name)
			n++
		}
	}
	if n < 12 {
		t.Errorf("only %d requests", n)
	}
	got, want := parse(t, p.send("admin-4.9.8/304-GET_SYSTEM_TOPIC_LIST_FROM_NS")), parse(t, recorded(t, "admin-4.9.8/304-GET_SYSTEM_TOPIC_LIST_FROM_NS-resp"))
	a, err1 := protocol.ParseTopicList(got.Body)
	b, err2 := protocol.ParseTopicList(want.Body)
	slices.Sort(a.Topics)
	slices.Sort(b.Topics)
	if err1 != nil || err2 != nil || !slices.Equal(a.Topics, b.Topics) || a.BrokerAddr != b.BrokerAddr {
		t.Errorf("system topics: %+v %v, want %+v %v", a, err1, b, err2)
	}
}

// TestToolsOfJava plays what mqadmin and the admin library ask of a nameserver.
func TestToolsOfJava(t *testing.T) {
	s := start(t, testOptions(t))
	p := play(t, s)
	p.same("admin-4.9.8/219-GET_KVLIST_BY_NAMESPACE") // there is none yet
	p.same("admin-4.9.8/100-PUT_KV_CONFIG")
	p.same("admin-4.9.8/101-GET_KV_CONFIG")
	p.same("admin-4.9.8/101-GET_KV_CONFIG.2")
	p.same("admin-4.9.8/102-DELETE_KV_CONFIG")
	p.same("mqadmin-4.9.8/216-DELETE_TOPIC_IN_NAMESRV")
	p.same("mqadmin-4.9.8/318-UPDATE_NAMESRV_CONFIG")
	// 4.9.7 says "Can not update config path" here; 4.9.8 and gomq speak of a
	// black list.
	if a := parse(t, p.send("mqadmin-4.9.8/318-UPDATE_NAMESRV_CONFIG.2")); a.Code != protocol.NoPermission || a.Remark != "Can not update config in black list." {
		t.Errorf("a forbidden key is answered %+v", a)
	}
	topics := map[string]protocol.TopicConfig{}
	for i := range 16 {
		name := string(rune('a' + i))
		topics[name] = protocol.TopicConfig{TopicName: name, ReadQueueNums: 4, WriteQueueNums: 4, Perm: 6, TopicFilterType: "SINGLE_TAG"}
	}
	c := &script{t: t, srv: s}
	for id, addr := range []string{"127.0.0.2:32511", "127.0.0.2:32521"} {
		h := &protocol.RegisterHeader{BrokerName: "broker-a", BrokerAddr: addr, ClusterName: "DefaultCluster", BrokerID: int64(id)}
		body := protocol.RegisterBody{Topics: topics}
		if r := c.call(dialServer(t, s), 407, protocol.RegisterBroker, h, body.Append(nil)); r.Code != 0 {
			t.Fatal(r.Remark)
		}
	}
	p.same("mqadmin-4.9.8/106-GET_BROKER_CLUSTER_INFO")
	p.same("mqadmin-4.9.8/205-WIPE_WRITE_PERM_OF_BROKER")
	p.same("mqadmin-4.9.8/327-ADD_WRITE_PERM_OF_BROKER")
}
