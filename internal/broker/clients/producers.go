package clients

import (
	"slices"
	"sync"
	"time"
)

// Producers is the table of producer groups. It has one mutex; no method calls
// out while it is held.
type Producers[C comparable] struct {
	mu     sync.Mutex
	groups map[string][]Client[C]
	joined joined[C]
	ids    map[string]map[C]*named[C] // by client id, then connection
	turn   int                        // round robin of Any
}

// named is a client under one of its ids.
type named[C comparable] struct {
	Client[C]
	groups int // in which its connection has that id
}

// NewProducers makes an empty table.
func NewProducers[C comparable]() *Producers[C] {
	return &Producers[C]{groups: map[string][]Client[C]{}, joined: joined[C]{}, ids: map[string]map[C]*named[C]{}}
}

// Beat records that c belongs to group. A second connection with the same
// client id is a second member: its answers go to the connection that asked.
// The error is ErrTooManyGroups.
func (p *Producers[C]) Beat(group string, c Client[C]) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	members := p.groups[group]
	for i := range members {
		if members[i].Conn == c.Conn {
			p.name(c)
			p.unname(members[i])
			members[i] = c
			return nil
		}
	}
	if err := p.joined.add(c.Conn, group); err != nil {
		return err
	}
	p.groups[group] = append(members, c)
	p.name(c)
	return nil
}

// name notes that c has its id in one group more. Held: mu.
func (p *Producers[C]) name(c Client[C]) {
	conns := p.ids[c.ID]
	if conns == nil {
		conns = map[C]*named[C]{}
		p.ids[c.ID] = conns
	}
	if conns[c.Conn] == nil {
		conns[c.Conn] = &named[C]{}
	}
	conns[c.Conn].Client = c
	conns[c.Conn].groups++
}

// unname takes that back. Held: mu.
func (p *Producers[C]) unname(c Client[C]) {
	conns := p.ids[c.ID]
	if conns[c.Conn].groups--; conns[c.Conn].groups > 0 {
		return
	}
	if delete(conns, c.Conn); len(conns) == 0 {
		delete(p.ids, c.ID)
	}
}

// Leave takes the connection out of group.
func (p *Producers[C]) Leave(group string, conn C) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.remove(group, conn)
	p.joined.drop(conn, group)
}

// Closed takes the connection out of every group.
func (p *Producers[C]) Closed(conn C) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, group := range p.joined[conn] {
		p.remove(group, conn)
	}
	delete(p.joined, conn)
}

// Expire returns the connections of clients not seen since before. They leave
// when the caller closes them (Closed).
func (p *Producers[C]) Expire(before time.Time) (gone []C) {
	p.mu.Lock()
	defer p.mu.Unlock()
	seen := map[C]bool{}
	for _, members := range p.groups {
		for _, m := range members {
			if m.Seen.Before(before) && !seen[m.Conn] {
				seen[m.Conn] = true
				gone = append(gone, m.Conn)
			}
		}
	}
	return gone
}

// remove takes conn off the members of group. Held: mu.
func (p *Producers[C]) remove(group string, conn C) {
	i := slices.IndexFunc(p.groups[group], func(c Client[C]) bool { return c.Conn == conn })
	if i < 0 {
		return
	}
	p.unname(p.groups[group][i])
	if left := slices.Delete(p.groups[group], i, i+1); len(left) > 0 {
		p.groups[group] = left
	} else {
		delete(p.groups, group)
	}
}

// Members are the clients of group, or ok false when there are none.
func (p *Producers[C]) Members(group string) (members []Client[C], ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	m, ok := p.groups[group]
	return slices.Clone(m), ok
}

// Groups is a copy of the whole table.
func (p *Producers[C]) Groups() map[string][]Client[C] {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make(map[string][]Client[C], len(p.groups))
	for g, m := range p.groups {
		out[g] = slices.Clone(m)
	}
	return out
}

// Any is a member of group, another one each time: whom to ask about a
// transaction.
func (p *Producers[C]) Any(group string) (c Client[C], ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	m := p.groups[group]
	if len(m) == 0 {
		return c, false
	}
	p.turn++
	return m[p.turn%len(m)], true
}

// ByID is a connection of the client with this id, in any group: the one heard of
// last.
func (p *Producers[C]) ByID(id string) (c Client[C], ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, n := range p.ids[id] {
		if !ok || n.Seen.After(c.Seen) {
			c, ok = n.Client, true
		}
	}
	return c, ok
}
