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
	turn   int // round robin of Any
}

// NewProducers makes an empty table.
func NewProducers[C comparable]() *Producers[C] {
	return &Producers[C]{groups: map[string][]Client[C]{}}
}

// Beat records that c belongs to group. A second connection with the same
// client id is a second member: its answers go to the connection that asked.
func (p *Producers[C]) Beat(group string, c Client[C]) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.groups[group], _ = put(p.groups[group], c)
}

// put replaces the member with c's connection, or adds it and says so.
func put[C comparable](members []Client[C], c Client[C]) ([]Client[C], bool) {
	for i := range members {
		if members[i].Conn == c.Conn {
			members[i] = c
			return members, false
		}
	}
	return append(members, c), true
}

// Leave takes the connection out of group.
func (p *Producers[C]) Leave(group string, conn C) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.remove(group, func(c Client[C]) bool { return c.Conn == conn })
}

// Closed takes the connection out of every group.
func (p *Producers[C]) Closed(conn C) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for group := range p.groups {
		p.remove(group, func(c Client[C]) bool { return c.Conn == conn })
	}
}

// Expire takes out clients not seen since before and returns their connections,
// which the caller closes.
func (p *Producers[C]) Expire(before time.Time) (gone []C) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for group := range p.groups {
		p.remove(group, func(c Client[C]) bool {
			if c.Seen.Before(before) {
				gone = append(gone, c.Conn)
				return true
			}
			return false
		})
	}
	return gone
}

func (p *Producers[C]) remove(group string, gone func(Client[C]) bool) {
	if left := slices.DeleteFunc(p.groups[group], gone); len(left) > 0 {
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

// ByID is a connection of the client with this id, in any group.
func (p *Producers[C]) ByID(id string) (c Client[C], ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, m := range p.groups {
		for _, c := range m {
			if c.ID == id {
				return c, true
			}
		}
	}
	return c, false
}
