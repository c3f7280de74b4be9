package clients

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"gomq/internal/chance"
)

func cl(conn int, id string, at int) Client[int] {
	return Client[int]{Conn: conn, ID: id, Seen: time.Unix(int64(at), 0)}
}

func beat(topics ...string) Beat {
	b := Beat{Group: "g", Model: "CLUSTERING"}
	for _, t := range topics {
		b.Subs = append(b.Subs, Sub{Topic: t, Expr: "*", Version: 1})
	}
	return b
}

// hear is Beat for a heartbeat that must be accepted.
func hear(t *testing.T, c *Consumers[int], who Client[int], b Beat) []int {
	t.Helper()
	notify, _, err := c.Beat(who, b)
	if err != nil {
		t.Fatal(err)
	}
	return notify
}

func TestWhoIsNotified(t *testing.T) {
	c := NewConsumers[int]()
	for _, step := range []struct {
		what string
		got  []int
		want []int
	}{
		{"first member", hear(t, c, cl(1, "a", 0), beat("T")), []int{1}},
		{"same again", hear(t, c, cl(1, "a", 0), beat("T")), nil},
		{"second member", hear(t, c, cl(2, "b", 0), beat("T")), []int{1, 2}},
		{"another topic", hear(t, c, cl(2, "b", 0), beat("T", "U")), []int{1, 2}},
		{"first unchanged though second differs", hear(t, c, cl(1, "a", 0), beat("T")), nil},
		{"a topic less", hear(t, c, cl(2, "b", 0), beat("U")), []int{1, 2}},
		{"leaves", c.Leave("g", 1), []int{2}},
		{"leaves twice", c.Leave("g", 1), nil},
		{"last leaves", c.Leave("g", 2), nil},
	} {
		if !slices.Equal(step.got, step.want) {
			t.Errorf("%s: notified %v, want %v", step.what, step.got, step.want)
		}
	}
	if _, ok := c.Group("g"); ok {
		t.Error("an empty group stays")
	}
}

// Each client of a group is served by its own subscription.
func TestOwnSubscription(t *testing.T) {
	c := NewConsumers[int]()
	a := Beat{Group: "g", Subs: []Sub{{Topic: "T", Expr: "A", Version: 5}}}
	b := Beat{Group: "g", Subs: []Sub{{Topic: "T", Expr: "B", Version: 9}, {Topic: "U", Expr: "*"}}}
	hear(t, c, cl(1, "a", 0), a)
	hear(t, c, cl(2, "b", 0), b)
	for _, q := range []struct {
		topic string
		conn  int
		want  string
		l     Lookup
	}{{"T", 1, "A", Known}, {"T", 2, "B", Known}, {"T", 3, "B", Known}, {"U", 1, "*", Known}, {"V", 1, "", NoTopic}} {
		s, _, l := c.Sub([]byte("g"), []byte(q.topic), q.conn)
		if l != q.l || (s != nil && s.Expr != q.want) {
			t.Errorf("%s of %d: %v %v", q.topic, q.conn, s, l)
		}
	}
	if _, _, l := c.Sub([]byte("h"), []byte("T"), 1); l != NoGroup {
		t.Error("unknown group:", l)
	}
	// An older version does not replace a newer one.
	a.Subs = []Sub{{Topic: "T", Expr: "old", Version: 4}}
	hear(t, c, cl(1, "a", 0), a)
	if s, _, _ := c.Sub([]byte("g"), []byte("T"), 1); s.Expr == "old" {
		t.Error("older subscription won")
	}
}

func TestCloseAndExpire(t *testing.T) {
	c := NewConsumers[int]()
	hear(t, c, cl(1, "a", 10), beat("T"))
	hear(t, c, cl(2, "a", 20), beat("T"))
	if ids := c.IDs("g"); !slices.Equal(ids, []string{"a"}) {
		t.Errorf("one id on two connections: %v", ids)
	}
	if gone := c.Expire(time.Unix(15, 0)); !slices.Equal(gone, []int{1}) {
		t.Errorf("expired %v", gone)
	}
	ch := c.Closed(1)
	if len(ch) != 1 || ch[0].Group != "g" || !slices.Equal(ch[0].Notify, []int{2}) {
		t.Errorf("closed: %v", ch)
	}

	p := NewProducers[int]()
	p.Beat("pg", cl(1, "x", 10))
	p.Beat("pg", cl(1, "x", 11))
	p.Beat("pg", cl(2, "y", 30))
	if m, _ := p.Members("pg"); len(m) != 2 {
		t.Errorf("members %v", m)
	}
	if gone := p.Expire(time.Unix(20, 0)); !slices.Equal(gone, []int{1}) {
		t.Errorf("expired %v", gone)
	}
	p.Closed(1)
	p.Closed(2)
	if _, ok := p.Members("pg"); ok {
		t.Error("an empty producer group stays")
	}
}

// One connection cannot fill the tables, and closing it leaves nothing behind.
func TestGroupLimit(t *testing.T) {
	c, p := NewConsumers[int](), NewProducers[int]()
	for i := range maxGroups {
		name := string(rune('a'+i%26)) + string(rune('0'+i/26))
		if _, _, err := c.Beat(cl(1, "a", 0), Beat{Group: name}); err != nil {
			t.Fatal(err)
		}
		if err := p.Beat(name, cl(1, "a", 0)); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := c.Beat(cl(1, "a", 0), Beat{Group: "more"}); err != ErrTooManyGroups {
		t.Errorf("one group more: %v", err)
	}
	if err := p.Beat("more", cl(1, "a", 0)); err != ErrTooManyGroups {
		t.Errorf("one producer group more: %v", err)
	}
	if _, _, err := c.Beat(cl(2, "b", 0), Beat{Group: "more"}); err != nil {
		t.Errorf("another connection: %v", err)
	}
	c.Closed(1)
	p.Closed(1)
	if len(c.groups) != 1 || len(c.joined) != 1 || len(p.groups) != 0 || len(p.joined) != 0 {
		t.Errorf("left behind: %d and %d groups, %d and %d connections", len(c.groups), len(p.groups), len(c.joined), len(p.joined))
	}
}

// Leave of a group that one is not in changes nothing for others.
func TestLeaveElsewhere(t *testing.T) {
	c := NewConsumers[int]()
	hear(t, c, cl(1, "a", 0), beat("T"))
	if n := c.Leave("g", 2); n != nil {
		t.Errorf("a stranger's leaving notifies %v", n)
	}
	if n := c.Leave("h", 1); n != nil {
		t.Errorf("leaving an unknown group notifies %v", n)
	}
	if ids := c.IDs("g"); !slices.Equal(ids, []string{"a"}) {
		t.Errorf("members %v", ids)
	}
}

// A client is found by its id; of two connections with one id the later counts.
func TestFind(t *testing.T) {
	c := NewConsumers[int]()
	hear(t, c, cl(1, "a", 0), beat("T"))
	hear(t, c, cl(2, "b", 0), beat("T"))
	hear(t, c, cl(3, "a", 0), beat("T"))
	for _, want := range []struct {
		group, id string
		conn      int
	}{{"g", "a", 3}, {"g", "b", 2}, {"g", "x", 0}, {"h", "a", 0}} {
		if got, ok := c.Find(want.group, want.id); got.Conn != want.conn || ok != (want.conn != 0) {
			t.Errorf("%s of %s: %+v %v", want.id, want.group, got, ok)
		}
	}
}

// A producer is found by its id while one of its connections is in a group under
// that id, and nothing is kept of ids that nobody has any more. A model by lists.
func TestByID(t *testing.T) {
	r := rand.New(rand.NewPCG(chance.Seed(t), 1))
	p := NewProducers[int]()
	type place struct {
		group string
		conn  int
	}
	model := map[place]Client[int]{}
	for step := range 5000 {
		at := place{fmt.Sprint("g", r.IntN(4)), 1 + r.IntN(5)}
		switch r.IntN(5) {
		case 0:
			p.Leave(at.group, at.conn)
			delete(model, at)
		case 1:
			p.Closed(at.conn)
			maps.DeleteFunc(model, func(k place, _ Client[int]) bool { return k.conn == at.conn })
		default:
			c := cl(at.conn, fmt.Sprint("id", r.IntN(3)), step)
			if err := p.Beat(at.group, c); err != nil {
				t.Fatal(err)
			}
			model[at] = c
		}
		for i := range 3 {
			id := fmt.Sprint("id", i)
			want := map[int]bool{}
			for k, c := range model {
				if c.ID == id {
					want[k.conn] = true
				}
			}
			got, ok := p.ByID(id)
			if ok != (len(want) > 0) || ok && (!want[got.Conn] || got.ID != id) {
				t.Fatalf("step %d: %s is %+v %v, its connections are %v", step, id, got, ok, want)
			}
		}
		if len(model) == 0 && len(p.ids) > 0 {
			t.Fatalf("step %d: nobody is left, known are %v", step, p.ids)
		}
	}
	for conn := range 6 {
		p.Closed(conn)
	}
	if len(p.ids) != 0 || len(p.groups) != 0 || len(p.joined) != 0 {
		t.Errorf("everybody has gone, known are %v %v %v", p.ids, p.groups, p.joined)
	}
}
