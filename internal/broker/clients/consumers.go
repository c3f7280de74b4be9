package clients

import (
	"hash/maphash"
	"slices"
	"sync"
	"time"

	"gomq/internal/filter"
)

// Sub is one topic of a subscription, compiled. It is never changed once made.
type Sub struct {
	Topic   string
	Expr    string
	Type    string       // filter.TypeTag (or empty), filter.TypeSQL
	Version int64        // chosen by the client; rises when it subscribes anew
	Tags    *filter.Tags // compiled when Type is a tag expression; nil matches all
	SQL     *filter.SQL  // compiled when Type is filter.TypeSQL
	Err     error        // why an expression of another type than tags cannot be used
	Codes   []int32      // as the client sent them
	TagSet  []string
}

// Beat is what one heartbeat says about one consumer group.
type Beat struct {
	Group     string
	Type      string // CONSUME_PASSIVELY (push), CONSUME_ACTIVELY (pull)
	Model     string // CLUSTERING, BROADCASTING
	From      string // CONSUME_FROM_LAST_OFFSET, ...
	Subs      []Sub
	UnitMode  bool
	Broadcast bool // Model is BROADCASTING
}

// member is a client of a consumer group with its own subscriptions. Clients of
// one group may subscribe differently; each is served by what it said itself.
type member[C comparable] struct {
	Client[C]
	subs map[string]*Sub
	way  way // what subs say
}

type group[C comparable] struct {
	beat    Beat // attributes of the latest heartbeat; Subs unused
	members []member[C]
	at      map[C]int   // where in members a connection is
	ways    map[way]int // how many members subscribe in which way
}

// Group is a copy of what is known of a consumer group.
type Group[C comparable] struct {
	Type, Model, From string
	Clients           []Client[C]
	Subs              map[string]*Sub // of all clients, the newest version of each topic
}

// Consumers is the table of consumer groups. It has one mutex; no method calls
// out while it is held: whoever is to be told of a change is returned.
type Consumers[C comparable] struct {
	seed maphash.Seed // of ways

	mu     sync.RWMutex
	groups map[string]*group[C]
	joined joined[C]
}

// NewConsumers makes an empty table.
func NewConsumers[C comparable]() *Consumers[C] {
	return &Consumers[C]{seed: maphash.MakeSeed(), groups: map[string]*group[C]{}, joined: joined[C]{}}
}

// Beat records a heartbeat; its Subs name each topic once. When the client is
// new to the group or its set of topics differs from its last heartbeat, it
// returns the connections of all members: they divide the queues anew. A newer
// expression of the same topic replaces the older one and is no such change. When
// it now subscribes in a way in which nobody of its group did while others
// subscribe in another one, differ says so. The error is ErrTooManyGroups.
func (t *Consumers[C]) Beat(c Client[C], b Beat) (notify []C, differ *Difference[C], err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	g := t.groups[b.Group]
	i, known := 0, false
	if g != nil {
		i, known = g.at[c.Conn]
	}
	changed := !known
	if changed {
		if err := t.joined.add(c.Conn, b.Group); err != nil {
			return nil, nil, err
		}
		if g == nil {
			g = &group[C]{at: map[C]int{}, ways: map[way]int{}}
			t.groups[b.Group] = g
		}
		i = len(g.members)
		g.at[c.Conn] = i
		g.members = append(g.members, member[C]{subs: map[string]*Sub{}})
	}
	g.beat = b
	g.beat.Subs = nil
	m := &g.members[i]
	m.Client = c
	topics, expressions := m.subscribe(b.Subs)
	if !known || topics || expressions {
		differ = t.compare(g, i, b.Group, known)
	}
	if !changed && !topics {
		return nil, differ, nil
	}
	return g.conns(), differ, nil
}

// subscribe takes over what a heartbeat says and reports whether the set of
// topics, and whether an expression has changed.
func (m *member[C]) subscribe(subs []Sub) (topics, expressions bool) {
	for k := range subs {
		s := &subs[k]
		old := m.subs[s.Topic]
		topics = topics || old == nil
		if old == nil || s.Version > old.Version {
			m.subs[s.Topic] = s
			expressions = expressions || old == nil || !s.alike(old)
		}
	}
	if len(m.subs) == len(subs) {
		return topics, expressions // every topic known is among those of the heartbeat
	}
	said := make(map[string]bool, len(subs))
	for k := range subs {
		said[subs[k].Topic] = true
	}
	for topic := range m.subs {
		if !said[topic] {
			delete(m.subs, topic)
			topics = true
		}
	}
	return topics, expressions
}

func (g *group[C]) conns() []C {
	out := make([]C, len(g.members))
	for i := range g.members {
		out[i] = g.members[i].Conn
	}
	return out
}

// Leave takes the connection out of a group and returns the members that stay.
func (t *Consumers[C]) Leave(name string, conn C) (notify []C) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.joined.drop(conn, name)
	return t.remove(name, conn)
}

// remove takes conn off a group; when it was a member the rest is returned.
// Held: mu.
func (t *Consumers[C]) remove(name string, conn C) []C {
	g := t.groups[name]
	if g == nil {
		return nil
	}
	i, known := g.at[conn]
	if !known {
		return nil
	}
	delete(g.at, conn)
	g.forget(g.members[i].way)
	g.members = slices.Delete(g.members, i, i+1)
	if len(g.members) == 0 {
		delete(t.groups, name)
		return nil
	}
	for ; i < len(g.members); i++ {
		g.at[g.members[i].Conn] = i
	}
	return g.conns()
}

// Change is a group that lost members, and who stays; nobody when it is gone.
type Change[C comparable] struct {
	Group  string
	Notify []C
}

// Closed takes the connection out of every group.
func (t *Consumers[C]) Closed(conn C) (changes []Change[C]) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, name := range t.joined[conn] {
		changes = append(changes, Change[C]{name, t.remove(name, conn)})
	}
	delete(t.joined, conn)
	return changes
}

// Expire returns the connections of clients not seen since before. They leave
// when the caller closes them (Closed).
func (t *Consumers[C]) Expire(before time.Time) (gone []C) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	seen := map[C]bool{}
	for _, g := range t.groups {
		for _, m := range g.members {
			if m.Seen.Before(before) && !seen[m.Conn] {
				seen[m.Conn] = true
				gone = append(gone, m.Conn)
			}
		}
	}
	return gone
}

// IDs are the client ids of a group, each once, in the order in which they came.
func (t *Consumers[C]) IDs(name string) []string {
	t.mu.RLock()
	defer t.mu.RUnlock()
	g := t.groups[name]
	if g == nil {
		return nil
	}
	ids := make([]string, 0, len(g.members))
	seen := make(map[string]bool, len(g.members))
	for _, m := range g.members {
		if !seen[m.ID] {
			seen[m.ID] = true
			ids = append(ids, m.ID)
		}
	}
	return ids
}

// Lookup is the outcome of Sub.
type Lookup int

// What Sub found.
const (
	Known Lookup = iota
	NoGroup
	NoTopic // the group is there but nobody in it subscribes to the topic
)

// Sub is the subscription by which a pull of conn for group and topic is
// served: the client's own, or, when the pull comes on another connection than
// the heartbeats, the newest of the group.
func (t *Consumers[C]) Sub(name, topic []byte, conn C) (s *Sub, broadcast bool, l Lookup) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	g := t.groups[string(name)]
	if g == nil {
		return nil, false, NoGroup
	}
	if i, known := g.at[conn]; known {
		s = g.members[i].subs[string(topic)]
	}
	if s == nil {
		s = g.newest(topic)
	}
	if s == nil {
		return nil, g.beat.Broadcast, NoTopic
	}
	return s, g.beat.Broadcast, Known
}

// SQL are the SQL92 subscriptions by topic that hold for a pull of conn for the
// group: the client's own, or, on another connection than that of its heartbeats,
// the newest of the group.
func (t *Consumers[C]) SQL(name []byte, conn C) map[string]*filter.SQL {
	t.mu.RLock()
	defer t.mu.RUnlock()
	g := t.groups[string(name)]
	if g == nil {
		return nil
	}
	var out map[string]*filter.SQL
	add := func(s *Sub) {
		if s.SQL == nil {
			return
		}
		if out == nil {
			out = map[string]*filter.SQL{}
		}
		out[s.Topic] = s.SQL
	}
	if i, known := g.at[conn]; known {
		for _, s := range g.members[i].subs {
			add(s)
		}
		return out
	}
	for _, m := range g.members {
		for topic := range m.subs {
			add(g.newest([]byte(topic)))
		}
	}
	return out
}

// newest is the subscription to topic with the highest version of all members,
// nil when none has one.
func (g *group[C]) newest(topic []byte) (s *Sub) {
	for i := range g.members {
		if m := g.members[i].subs[string(topic)]; m != nil && (s == nil || m.Version > s.Version) {
			s = m
		}
	}
	return s
}

// Group is a copy of one group, ok false when nobody of it is connected.
func (t *Consumers[C]) Group(name string) (out Group[C], ok bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	g := t.groups[name]
	if g == nil {
		return out, false
	}
	out = Group[C]{Type: g.beat.Type, Model: g.beat.Model, From: g.beat.From, Subs: map[string]*Sub{}}
	for _, m := range g.members {
		out.Clients = append(out.Clients, m.Client)
		for topic, s := range m.subs {
			if old := out.Subs[topic]; old == nil || s.Version > old.Version {
				out.Subs[topic] = s
			}
		}
	}
	return out, true
}

// Find is the client of a group with that id, the one that came last when there
// are several.
func (t *Consumers[C]) Find(name, id string) (c Client[C], ok bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if g := t.groups[name]; g != nil {
		for _, m := range g.members {
			if m.ID == id {
				c, ok = m.Client, true
			}
		}
	}
	return c, ok
}

// Online says whether a client of the group is connected.
func (t *Consumers[C]) Online(name string) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.groups[name] != nil
}

// Names are the groups with a connected client.
func (t *Consumers[C]) Names() []string {
	t.mu.RLock()
	defer t.mu.RUnlock()
	out := make([]string, 0, len(t.groups))
	for n := range t.groups {
		out = append(out, n)
	}
	slices.Sort(out)
	return out
}

// Subscribers are the groups with a client that subscribes to topic.
func (t *Consumers[C]) Subscribers(topic string) (groups []string) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for name, g := range t.groups {
		if slices.ContainsFunc(g.members, func(m member[C]) bool { return m.subs[topic] != nil }) {
			groups = append(groups, name)
		}
	}
	slices.Sort(groups)
	return groups
}
