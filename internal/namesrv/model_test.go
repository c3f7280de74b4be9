package namesrv

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"gomq/internal/chance"

	"gomq/internal/protocol"
)

// link is a connection of the model test.
type link struct {
	id   uint64
	done chan struct{}
}

func (l *link) ID() uint64            { return l.id }
func (l *link) Done() <-chan struct{} { return l.done }

// model is what a nameserver knows, without any index: brokers and, for each
// broker name, the topics that its masters brought.
type model struct {
	now     time.Time
	expiry  time.Duration
	brokers []modelBroker
	cluster map[string]string
	topics  map[string]map[string]protocol.QueueData // broker name to topic
}

type modelBroker struct {
	name    string
	id      int64
	addr    string
	conn    *link
	last    time.Time
	version protocol.DataVersion
}

func (m *model) at(addr string) int {
	return slices.IndexFunc(m.brokers, func(b modelBroker) bool { return b.addr == addr })
}

func (m *model) who(name string, id int64) int {
	return slices.IndexFunc(m.brokers, func(b modelBroker) bool { return b.name == name && b.id == id })
}

// drop removes one broker, and what its name served when it was the last one.
func (m *model) drop(i int) {
	name := m.brokers[i].name
	m.brokers = slices.Delete(m.brokers, i, i+1)
	if !slices.ContainsFunc(m.brokers, func(b modelBroker) bool { return b.name == name }) {
		delete(m.cluster, name)
		delete(m.topics, name)
	}
}

func (m *model) register(b modelBroker, cluster string, topics map[string]protocol.TopicConfig) (refused bool) {
	i := m.at(b.addr)
	same := i >= 0 && m.brokers[i].name == b.name && m.brokers[i].id == b.id
	if same && m.brokers[i].conn.id > b.conn.id && open(m.brokers[i].conn) {
		return false // from a former life
	}
	if j := m.who(b.name, b.id); j >= 0 && j != i {
		other := m.brokers[j]
		if b.id == 0 && open(other.conn) && m.now.Sub(other.last) <= m.expiry {
			return true
		}
	}
	take := b.id == 0 && (!same || m.brokers[i].version != b.version)
	keep := "" // the name whose topics survive although its only broker is replaced
	if i >= 0 {
		if m.brokers[i].name == b.name {
			keep = b.name
		}
	}
	if j := m.who(b.name, b.id); j >= 0 && j != i {
		if b.id != 0 {
			keep = b.name // a slave's new address
			saved, c := m.topics[b.name], m.cluster[b.name]
			m.drop(j)
			m.topics[b.name], m.cluster[b.name] = saved, c
		} else {
			m.drop(j) // a master that is gone
		}
	}
	if i = m.at(b.addr); i >= 0 {
		saved, c := m.topics[keep], m.cluster[keep]
		m.drop(i)
		if keep != "" {
			m.topics[keep], m.cluster[keep] = saved, c
		}
	}
	m.brokers = append(m.brokers, b)
	if m.cluster[b.name] == "" || b.id == 0 {
		m.cluster[b.name] = cluster
	}
	if m.topics[b.name] == nil {
		m.topics[b.name] = map[string]protocol.QueueData{}
	}
	if take {
		for name, c := range topics {
			m.topics[b.name][name] = protocol.QueueData{BrokerName: b.name, ReadQueueNums: c.ReadQueueNums, WriteQueueNums: c.WriteQueueNums, Perm: c.Perm}
		}
	}
	return false
}

// reply is what a slave is told of its living master, and a master of nobody.
func (m *model) reply(h protocol.BrokerHeader) (r protocol.RegisterReply) {
	if i := m.who(h.BrokerName, 0); h.BrokerID != 0 && i >= 0 {
		r.MasterAddr, r.HAServerAddr = m.brokers[i].addr, "ha of "+m.brokers[i].addr
	}
	return r
}

func (m *model) removeIf(gone func(modelBroker) bool) (n int) {
	for {
		i := slices.IndexFunc(m.brokers, gone)
		if i < 0 {
			return n
		}
		m.drop(i)
		n++
	}
}

// routes describes every topic as text.
func (m *model) routes() map[string]string {
	all := map[string]*protocol.RouteData{}
	for _, name := range slices.Sorted(maps.Keys(m.topics)) {
		addrs := map[int64]string{}
		for _, b := range m.brokers {
			if b.name == name {
				addrs[b.id] = b.addr
			}
		}
		for topic, q := range m.topics[name] {
			r := all[topic]
			if r == nil {
				r = &protocol.RouteData{}
				all[topic] = r
			}
			r.Queues = append(r.Queues, q)
			r.Brokers = append(r.Brokers, protocol.BrokerData{Cluster: m.cluster[name], BrokerName: name, Addrs: addrs})
		}
	}
	out := map[string]string{}
	for topic, r := range all {
		out[topic] = fmt.Sprint(r.Queues, r.Brokers)
	}
	return out
}

// TestModel does random things to the table and to the model and compares what
// they know after each.
func TestModel(t *testing.T) {
	for seed := range chance.Seeds(t, rand.Uint64(), 10) {
		runModel(t, seed)
	}
}

func runModel(t *testing.T, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 1))
	m := &model{now: time.Unix(1700000000, 0), expiry: 120 * time.Second, cluster: map[string]string{}, topics: map[string]map[string]protocol.QueueData{}}
	tb := newTable(m.expiry, func() time.Time { return m.now })
	var history []string
	fail := func(format string, args ...any) {
		t.Errorf("seed %d, after\n  %s\n%s", seed, strings.Join(history, "\n  "), fmt.Sprintf(format, args...))
	}
	links := []*link{}
	next := uint64(1)
	connect := func() {
		links = append(links, &link{id: next, done: make(chan struct{})})
		next++
	}
	connect()
	connect()
	for range 150 {
		m.now = m.now.Add(time.Duration(rnd.IntN(20)) * time.Second)
		l := links[rnd.IntN(len(links))]
		h := protocol.BrokerHeader{BrokerName: []string{"a", "b", "c"}[rnd.IntN(3)], BrokerAddr: fmt.Sprintf("10.0.0.%d:1", rnd.IntN(4)),
			ClusterName: []string{"C", "D"}[rnd.IntN(2)], BrokerID: int64(rnd.IntN(3))}
		v := protocol.DataVersion{Timestamp: 5, Counter: int64(rnd.IntN(3))}
		op := rnd.IntN(12)
		history = append(history, fmt.Sprintf("%v op %d link %d %+v version %d", m.now.Unix(), op, l.id, h, v.Counter))
		switch op {
		case 0, 1, 2, 3, 4, 5:
			topics := map[string]protocol.TopicConfig{}
			for range rnd.IntN(4) {
				topics[[]string{"T", "U", "V", "W"}[rnd.IntN(4)]] = protocol.TopicConfig{ReadQueueNums: int32(rnd.IntN(3)), WriteQueueNums: 4, Perm: 6}
			}
			r := &registration{RegisterHeader: protocol.RegisterHeader{BrokerName: h.BrokerName, BrokerAddr: h.BrokerAddr, ClusterName: h.ClusterName, BrokerID: h.BrokerID, HAServerAddr: "ha of " + h.BrokerAddr},
				RegisterBody: protocol.RegisterBody{Topics: topics, Version: v}, conn: l, maxBrokers: 100, maxTopics: 100}
			out, err := tb.register(r)
			refused := m.register(modelBroker{h.BrokerName, h.BrokerID, h.BrokerAddr, l, m.now, v}, h.ClusterName, topics)
			if refused != (err != nil) {
				fail("the registration is refused: %v, the table says %v", refused, err)
			}
			if want := m.reply(h); err == nil && out.reply != want {
				fail("the broker is told %+v, want %+v", out.reply, want)
			}
		case 6:
			i := m.at(h.BrokerAddr)
			want := i >= 0 && m.brokers[i].name == h.BrokerName && m.brokers[i].id == h.BrokerID && l.id >= m.brokers[i].conn.id
			if want {
				m.drop(i)
			}
			if got := tb.unregister(&h, l); got != want {
				fail("unregistered: %v, want %v", got, want)
			}
		case 7, 8:
			i := m.at(h.BrokerAddr)
			same := i >= 0 && m.brokers[i].version == v
			_, known, changed := tb.check(&h, v, l)
			if known != (i >= 0) || changed == same {
				fail("known %v, changed %v; want %v, %v", known, changed, i >= 0, !same)
			}
			if same {
				b := &m.brokers[i]
				b.last = m.now
				if b.name == h.BrokerName && b.id == h.BrokerID && l.id > b.conn.id {
					b.conn = l
				}
			}
		case 9: // a connection ends, a new one comes
			close(l.done)
			links = slices.DeleteFunc(links, func(x *link) bool { return x == l })
			connect()
			want := m.removeIf(func(b modelBroker) bool { return b.conn == l })
			if got := len(tb.closed(l)); got != want {
				fail("%d brokers went with the connection, want %d", got, want)
			}
		case 10:
			connect()
		case 11:
			if rnd.IntN(3) == 0 {
				m.now = m.now.Add(100 * time.Second)
			}
			want := m.removeIf(func(b modelBroker) bool { return m.now.Sub(b.last) > m.expiry })
			if got := len(tb.expire(24 * time.Hour)); got != want {
				fail("%d brokers expired, want %d", got, want)
			}
		}
		compare(tb, m, fail)
		if t.Failed() {
			return
		}
	}
}

func compare(tb *table, m *model, fail func(string, ...any)) {
	want := m.routes()
	for _, name := range []string{"T", "U", "V", "W"} {
		for _, standard := range []bool{false, true} {
			body := tb.route(name, standard)
			if (body != nil) != (want[name] != "") {
				fail("route of %s: %s, want %s", name, body, want[name])
				return
			}
			if body == nil {
				continue
			}
			r, err := protocol.ParseRouteData(body)
			if err != nil {
				fail("route of %s: %v", name, err)
				return
			}
			if got := fmt.Sprint(r.Queues, r.Brokers); got != want[name] {
				fail("route of %s (standard %v): %s, want %s", name, standard, got, want[name])
			}
		}
	}
	if brokers, topics := tb.size(); brokers != len(m.brokers) || topics != len(want) {
		fail("%d brokers and %d topics, want %d and %d", brokers, topics, len(m.brokers), len(want))
	}
	invariants(tb, fail)
}

// invariants checks what the table says of itself.
func invariants(tb *table, fail func(string, ...any)) {
	tb.mu.Lock()
	defer tb.mu.Unlock()
	n := 0
	for name, s := range tb.sets {
		if s.name != name || len(s.addrs) == 0 {
			fail("set %s is called %s and has addresses %v", name, s.name, s.addrs)
		}
		for id, addr := range s.addrs {
			n++
			if b := tb.live[addr]; b == nil || b.name != name || b.id != id {
				fail("set %s has %d at %s, live there is %+v", name, id, addr, b)
			}
		}
		for topic := range s.topics {
			if _, ok := tb.topics[topic].queues[name]; !ok {
				fail("set %s lists %s, which does not list it", name, topic)
			}
		}
	}
	if n != len(tb.live) {
		fail("%d brokers are in sets, %d live", n, len(tb.live))
	}
	for name, tp := range tb.topics {
		if len(tp.queues) == 0 {
			fail("topic %s has no queues", name)
		}
		for set := range tp.queues {
			if _, ok := tb.sets[set].topics[name]; !ok {
				fail("topic %s lists %s, which does not list it", name, set)
			}
		}
	}
	for _, b := range tb.live {
		if _, ok := tb.sources[b.conn]; !ok {
			fail("%s came over a connection that nobody watches", b.addr)
		}
	}
}
