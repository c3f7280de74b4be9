package clients

import (
	"hash/maphash"
	"maps"
	"slices"
	"strings"

	"gomq/internal/filter"
	"gomq/internal/message"
)

// way is a hash of what a client subscribes to: topics, types and expressions.
// The group's topic of retries, which not every client names, is left out.
type way uint64

// Difference is two clients of one group that subscribe to different things. The
// original serves all by the newest version, so that messages go missing; here
// each is served by what it said, and still the members of a group share its
// queues: a message that one of them does not want is passed over.
type Difference[C comparable] struct {
	Group      string
	Topic      string // the first one that they see differently
	New, Old   Client[C]
	Says, Said *Sub // of New and of Old; nil: it does not subscribe to Topic
}

// alike says whether two subscriptions to a topic want the same.
func (s *Sub) alike(o *Sub) bool {
	return s.Expr == o.Expr && (s.Type == o.Type || filter.IsTag(s.Type) && filter.IsTag(o.Type))
}

// compare works out the way of member i after a change and says whether it is one
// that nobody has while others have another one. Held: mu.
func (t *Consumers[C]) compare(g *group[C], i int, name string, known bool) *Difference[C] {
	m := &g.members[i]
	now := t.wayOf(m.subs, name)
	if known {
		if m.way == now {
			return nil
		}
		g.forget(m.way)
	}
	m.way = now
	g.ways[now]++
	if g.ways[now] > 1 || len(g.ways) == 1 {
		return nil
	}
	for k := range g.members {
		if o := &g.members[k]; o.way != now {
			d := &Difference[C]{Group: name, New: m.Client, Old: o.Client}
			d.Topic, d.Says, d.Said = firstDifference(m.subs, o.subs, message.RetryTopic(name))
			return d
		}
	}
	return nil
}

// forget takes a member's way out of the count.
func (g *group[C]) forget(w way) {
	if g.ways[w]--; g.ways[w] <= 0 {
		delete(g.ways, w)
	}
}

func (t *Consumers[C]) wayOf(subs map[string]*Sub, group string) way {
	parts := make([]string, 0, 3*len(subs))
	for _, topic := range slices.Sorted(maps.Keys(subs)) {
		if topic == message.RetryTopic(group) {
			continue
		}
		typ := subs[topic].Type
		if filter.IsTag(typ) {
			typ = filter.TypeTag
		}
		parts = append(parts, topic, typ, subs[topic].Expr)
	}
	return way(maphash.String(t.seed, strings.Join(parts, "\x00")))
}

// firstDifference finds the first topic, by name, that two clients see
// differently.
func firstDifference(a, b map[string]*Sub, retry string) (topic string, of, other *Sub) {
	all := maps.Clone(a)
	maps.Copy(all, b)
	for _, topic := range slices.Sorted(maps.Keys(all)) {
		if x, y := a[topic], b[topic]; topic != retry && (x == nil || y == nil || !x.alike(y)) {
			return topic, x, y
		}
	}
	return "", nil, nil
}

// Differing are the groups whose clients subscribe differently, and in how many
// ways.
func (t *Consumers[C]) Differing() map[string]int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	out := map[string]int{}
	for name, g := range t.groups {
		if len(g.ways) > 1 {
			out[name] = len(g.ways)
		}
	}
	return out
}
