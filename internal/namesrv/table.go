package namesrv

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"gomq/internal/protocol"
)

// source is the connection over which something was registered. Of two, the one
// with the higher ID was made later.
type source interface {
	ID() uint64
	Done() <-chan struct{}
}

func open(s source) bool {
	select {
	case <-s.Done():
		return false
	default:
		return true
	}
}

// permission bits of a topic.
const (
	permWrite     = 2
	permReadWrite = 6
)

// broker is one living broker: a registration and what keeps it alive.
type broker struct {
	name    string
	id      int64 // 0 is the master
	addr    string
	ha      string
	version protocol.DataVersion
	filters []string // filter servers

	conn source    // closing it removes the broker
	last time.Time // when it was heard of last
}

// set is the brokers of one name: a master and its slaves.
type set struct {
	name    string
	cluster string
	addrs   map[int64]string // by broker id; each is in table.live
	topics  map[string]struct{}
}

// topic is who serves a topic.
type topic struct {
	queues map[string]protocol.QueueData // by broker name; each is in table.sets
	// The encoded answers, older dialect and standard, of table.epoch at that
	// time. Readers fill them in under the read lock, hence the pointers.
	answers [2]atomic.Pointer[answer]
}

type answer struct {
	epoch uint64
	body  []byte
}

// table is who serves which topic. It has four verbs: register, unregister,
// expire (by time, or because a connection closed) and lookup. mu guards all of
// it; only answers are filled in by readers.
//
// What holds whenever mu is free: every address of a set is in live with that
// name and id, and the reverse; a set has at least one address; a topic has at
// least one broker name, and each is a set that lists the topic.
type table struct {
	expiry time.Duration
	now    func() time.Time

	mu      sync.RWMutex
	live    map[string]*broker // by address
	sets    map[string]*set    // by broker name
	topics  map[string]*topic
	sources map[source]struct{} // open connections that have registered something
	orders  map[string]string   // ORDER_TOPIC_CONFIG when routes are to carry it
	looked  time.Time           // when expire was called last
	// epoch rises when an address, a filter server or an order configuration
	// changes: then every encoded answer is out of date.
	epoch uint64
}

func newTable(expiry time.Duration, now func() time.Time) *table {
	return &table{expiry: expiry, now: now, live: map[string]*broker{}, sets: map[string]*set{}, topics: map[string]*topic{}, sources: map[source]struct{}{}, looked: now()}
}

// registration is what a broker says of itself.
type registration struct {
	protocol.RegisterHeader
	protocol.RegisterBody
	conn                  source
	maxBrokers, maxTopics int
}

// outcome is what became of a registration.
type outcome struct {
	reply    protocol.RegisterReply
	fresh    bool   // the broker was not known
	replaced string // a slave's former address, whose broker is gone
	stale    bool   // it came over an older connection than what is known: nothing was changed
}

// register takes a registration. A second living master of a name is refused
// with an error: routes would go back and forth between the two, and messages
// would end up here and there. Topics are taken from a master only, when its
// version is new; those that a registration lacks stay.
func (t *table) register(r *registration) (outcome, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out outcome
	if !open(r.conn) {
		out.stale = true // its end has been dealt with already: nothing would remove the broker
		return out, nil
	}
	old := t.live[r.BrokerAddr]
	same := old != nil && old.name == r.BrokerName && old.id == r.BrokerID
	if same && old.conn.ID() > r.conn.ID() && open(old.conn) {
		out.stale = true
		out.reply = t.reply(r)
		return out, nil
	}
	now := t.now()
	take := r.BrokerID == 0 && (!same || old.version != r.Version)
	if err := t.admit(r, old, take, now); err != nil {
		return out, err
	}
	b := &broker{name: r.BrokerName, id: r.BrokerID, addr: r.BrokerAddr, ha: r.HAServerAddr, version: r.Version, conn: r.conn, last: now}
	if same {
		b.filters = old.filters
	}
	if r.FilterServers != nil {
		b.filters = slices.Clone(r.FilterServers)
	}
	if !same || !slices.Equal(b.filters, old.filters) {
		t.epoch++
	}
	out.fresh = !same
	out.replaced = t.join(b, old, r.ClusterName)
	t.sources[r.conn] = struct{}{}
	if take {
		t.takeTopics(t.sets[b.name], r.Topics)
	}
	out.reply = t.reply(r)
	return out, nil
}

// admit says whether a registration may come in. A master that is in its way and
// no longer lives goes. Held: mu.
func (t *table) admit(r *registration, old *broker, take bool, now time.Time) error {
	if s := t.sets[r.BrokerName]; s != nil && r.BrokerID == 0 {
		if at := s.addrs[0]; at != "" && at != r.BrokerAddr {
			m := t.live[at]
			if open(m.conn) && now.Sub(m.last) <= t.expiry {
				return fmt.Errorf("broker %s has a living master at %s, heard of %v ago: a second one at %s is refused; stop one of them, or give it a brokerName of its own",
					r.BrokerName, at, now.Sub(m.last).Round(time.Millisecond), r.BrokerAddr)
			}
			t.remove(m)
		}
	}
	if old == nil && len(t.live) >= r.maxBrokers {
		return fmt.Errorf("%d brokers are registered (maxBrokers), broker %s at %s is one too many", len(t.live), r.BrokerName, r.BrokerAddr)
	}
	if take && len(t.topics)+len(r.Topics) > r.maxTopics {
		unknown := 0
		for name := range r.Topics {
			if t.topics[name] == nil {
				unknown++
			}
		}
		if len(t.topics)+unknown > r.maxTopics {
			return fmt.Errorf("broker %s brings %d new topics, and %d are known: more than maxTopics=%d", r.BrokerName, unknown, len(t.topics), r.maxTopics)
		}
	}
	return nil
}

// join puts b in its place: in front of what its address was before (old, may be
// nil) and of a slave of the same id, whose address it returns. Held: mu.
func (t *table) join(b, old *broker, cluster string) (replaced string) {
	switch {
	case old == nil:
	case old.name == b.name:
		delete(t.sets[old.name].addrs, old.id) // a slave that became master keeps its topics
	default:
		t.remove(old)
	}
	s := t.sets[b.name]
	if s == nil {
		s = &set{name: b.name, cluster: cluster, addrs: map[int64]string{}, topics: map[string]struct{}{}}
		t.sets[b.name] = s
	}
	if b.id == 0 && s.cluster != cluster {
		s.cluster = cluster // the master's word counts
		t.epoch++
	}
	if at := s.addrs[b.id]; at != "" {
		replaced = at
		delete(t.live, at)
	}
	s.addrs[b.id], t.live[b.addr] = b.addr, b
	return replaced
}

// takeTopics makes a set serve topics, besides those it has. Held: mu.
func (t *table) takeTopics(s *set, topics map[string]protocol.TopicConfig) {
	for name, c := range topics {
		if name == "" {
			continue
		}
		tp := t.topics[name]
		if tp == nil {
			tp = &topic{queues: map[string]protocol.QueueData{}}
			t.topics[name] = tp
		}
		q := protocol.QueueData{BrokerName: s.name, ReadQueueNums: c.ReadQueueNums, WriteQueueNums: c.WriteQueueNums, Perm: c.Perm, TopicSysFlag: c.TopicSysFlag}
		if has, ok := tp.queues[s.name]; !ok || has != q {
			tp.put(q)
		}
		s.topics[name] = struct{}{}
	}
}

func (tp *topic) put(q protocol.QueueData) {
	tp.queues[q.BrokerName] = q
	tp.forget()
}

// forget drops the encoded answers.
func (tp *topic) forget() {
	for i := range tp.answers {
		tp.answers[i].Store(nil)
	}
}

// reply is what a slave is told of its living master. Held: mu.
func (t *table) reply(r *registration) (reply protocol.RegisterReply) {
	if r.BrokerID == 0 {
		return reply
	}
	if s := t.sets[r.BrokerName]; s != nil {
		if m := t.live[s.addrs[0]]; m != nil {
			reply.MasterAddr, reply.HAServerAddr = m.addr, m.ha
		}
	}
	return reply
}

// check compares a broker's data version with the one that is known, which it
// returns (known false: none). When they are equal the broker lives, and over a
// newer connection from now on.
func (t *table) check(h *protocol.BrokerHeader, v protocol.DataVersion, conn source) (has protocol.DataVersion, known, changed bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	b := t.live[h.BrokerAddr]
	if b == nil {
		return has, false, true
	}
	if b.version != v {
		return b.version, true, true
	}
	b.last = t.now()
	if b.name == h.BrokerName && b.id == h.BrokerID && open(conn) && (conn.ID() > b.conn.ID() || !open(b.conn)) {
		b.conn = conn
		t.sources[conn] = struct{}{}
	}
	return b.version, true, false
}

// unregister takes a broker away that says it goes. One that comes over an older
// connection than the registration is from a former life and changes nothing.
func (t *table) unregister(h *protocol.BrokerHeader, conn source) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	b := t.live[h.BrokerAddr]
	if b == nil || b.name != h.BrokerName || b.id != h.BrokerID || conn.ID() < b.conn.ID() {
		return false
	}
	t.remove(b)
	return true
}

// expire takes away whoever has not been heard of for too long and returns them,
// so that their connections can be closed. It is called about every given time:
// when it comes much later, it was this process that stood still (a suspended
// machine), registrations wait to be read, and the brokers are given that time.
func (t *table) expire(every time.Duration) []*broker {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	if late := now.Sub(t.looked) - every; late > every {
		for _, b := range t.live {
			b.last = b.last.Add(min(late, now.Sub(b.last)))
		}
	}
	t.looked = now
	return t.removeIf(func(b *broker) bool { return now.Sub(b.last) > t.expiry })
}

// closed takes away what was registered last over a connection that has ended.
func (t *table) closed(conn source) []*broker {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.sources[conn]; !ok {
		return nil
	}
	delete(t.sources, conn)
	return t.removeIf(func(b *broker) bool { return b.conn == conn })
}

// removeIf is removal by a condition. Held: mu.
func (t *table) removeIf(gone func(*broker) bool) (all []*broker) {
	for _, b := range t.live {
		if gone(b) {
			all = append(all, b)
		}
	}
	for _, b := range all {
		t.remove(b)
	}
	return all
}

// remove takes a broker away, and with the last one of its name what that name
// serves. Held: mu.
func (t *table) remove(b *broker) {
	t.epoch++
	delete(t.live, b.addr)
	s := t.sets[b.name]
	delete(s.addrs, b.id)
	if len(s.addrs) > 0 {
		return
	}
	delete(t.sets, s.name)
	for name := range s.topics {
		t.leave(name, s)
	}
}

// leave makes a set serve a topic no more. Held: mu.
func (t *table) leave(name string, s *set) {
	delete(s.topics, name)
	tp := t.topics[name]
	delete(tp.queues, s.name)
	tp.forget()
	if len(tp.queues) == 0 {
		delete(t.topics, name)
	}
}

// setOrders replaces what routes carry of ORDER_TOPIC_CONFIG; nil: nothing.
func (t *table) setOrders(orders map[string]string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.orders = maps.Clone(orders)
	t.epoch++
}
