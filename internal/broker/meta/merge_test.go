package meta

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"gomq/internal/chance"

	"gomq/internal/protocol"
)

func newOffsets(t *testing.T, now func() time.Time) *Offsets {
	t.Helper()
	o, err := LoadOffsets(filepath.Join(t.TempDir(), "consumerOffset.json"), now)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// give has to take everything that from has.
func give(t *testing.T, from, to *Offsets) {
	t.Helper()
	offsets, stamps := from.Stamped()
	for key, queues := range offsets {
		topic, group, _ := splitKey(key)
		for q, off := range queues {
			if _, err := to.Merge(topic, group, q, off, stamps[key][q]); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// same compares offsets and the stamps that belong to one.
func same(t *testing.T, a, b *Offsets) {
	t.Helper()
	x, xs := a.Stamped()
	y, ys := b.Stamped()
	if !reflect.DeepEqual(x, y) {
		t.Fatalf("offsets differ:\n%v\n%v", x, y)
	}
	for key, queues := range x {
		for q := range queues {
			if xs[key][q] != ys[key][q] {
				t.Fatalf("stamps of %s %d differ: %d and %d", key, q, xs[key][q], ys[key][q])
			}
		}
	}
}

// Two brokers that merge at any time and in any order end with the same offsets:
// for each queue that of the last step back and what was committed after it.
func TestMergesInAnyOrder(t *testing.T) {
	rng := rand.New(rand.NewPCG(chance.Seed(t), 1))
	for round := range 300 {
		clock := time.UnixMilli(1_700_000_000_000)
		now := func() time.Time { return clock }
		master, slave := newOffsets(t, now), newOffsets(t, now)
		for range 60 {
			clock = clock.Add(time.Duration(rng.Int64N(3)) * time.Millisecond)
			at := master
			if rng.IntN(2) == 0 {
				at = slave
			}
			switch topic, queue := fmt.Sprint("T", rng.IntN(2)), int32(rng.IntN(2)); rng.IntN(10) {
			case 0:
				give(t, master, slave)
			case 1:
				give(t, slave, master)
			default:
				if err := at.Commit([]byte(topic), []byte("g"), queue, rng.Int64N(100)); err != nil {
					t.Fatal(err)
				}
			}
		}
		if round%2 == 0 {
			give(t, master, slave)
			give(t, slave, master)
		} else {
			give(t, slave, master)
			give(t, master, slave)
		}
		same(t, master, slave)
		before := master.Table()
		give(t, slave, master) // again: nothing changes
		if !reflect.DeepEqual(before, master.Table()) {
			t.Fatal("the same merge twice changes something")
		}
	}
}

// What the model of one queue says: commits forward at either side survive, a step
// back at either side outranks everything before it.
func TestResetOutranks(t *testing.T) {
	clock := time.UnixMilli(1_700_000_000_000)
	now := func() time.Time { return clock }
	master, slave := newOffsets(t, now), newOffsets(t, now)
	commit := func(o *Offsets, off int64) {
		clock = clock.Add(time.Millisecond)
		if err := o.Commit([]byte("T"), []byte("g"), 0, off); err != nil {
			t.Fatal(err)
		}
	}
	is := func(o *Offsets, want int64) {
		t.Helper()
		if got, ok := o.Query([]byte("T"), []byte("g"), 0); got != want || !ok {
			t.Fatalf("offset %d %v, want %d", got, ok, want)
		}
	}
	commit(master, 100)
	give(t, master, slave)
	commit(slave, 150) // the master is away
	give(t, slave, master)
	is(master, 150)
	commit(slave, 180)
	commit(master, 20) // a deliberate reset before the slave was heard
	give(t, slave, master)
	is(master, 20)
	give(t, master, slave)
	is(slave, 20)
	commit(slave, 30)
	commit(slave, 10) // and one at the slave
	commit(master, 90)
	give(t, master, slave)
	is(slave, 10)
	give(t, slave, master)
	is(master, 10)
	// A group that is removed and comes back does not inherit from the slave.
	commit(master, 500)
	give(t, master, slave)
	master.DropGroup("g")
	give(t, slave, master)
	if off, ok := master.Query([]byte("T"), []byte("g"), 0); ok {
		t.Fatalf("the removed group is back at %d", off)
	}
	commit(master, 3)
	give(t, slave, master)
	give(t, master, slave)
	is(master, 3)
	is(slave, 3)
	// All of it outlives a restart.
	for _, o := range []*Offsets{master, slave} {
		if err := o.Save(); err != nil {
			t.Fatal(err)
		}
	}
	again, err := LoadOffsets(master.file.path, now)
	if err != nil {
		t.Fatal(err)
	}
	same(t, master, again)
	// What only the slave's master had can be dropped as if it had never been.
	slave.Forget("T", "g")
	if taken, err := slave.Merge("T", "g", 0, 1, 0); !taken || err != nil {
		t.Fatal(taken, err)
	}
	is(slave, 1)
}

// What a lying peer may say is bounded.
func TestMergeRefuses(t *testing.T) {
	now := func() time.Time { return time.UnixMilli(1_700_000_000_000) }
	o := newOffsets(t, now)
	for _, c := range []struct {
		topic, group string
		queue        int32
		stamp        int64
		want         error
	}{
		{"T", "g", -1, 0, ErrNegativeQueue},
		{"T", "g", 0, -1, ErrFutureReset},
		{"T", "g", 0, now().Add(futureReset + time.Millisecond).UnixMilli(), ErrFutureReset},
		{"../T", "g", 0, 0, nil},
		{"T", "g/..", 0, 0, nil},
	} {
		taken, err := o.Merge(c.topic, c.group, c.queue, 7, c.stamp)
		if taken || err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%+v: %v %v", c, taken, err)
		}
	}
	if n := len(o.Table()); n != 0 {
		t.Errorf("%d entries were kept", n)
	}
	if taken, err := o.Merge("T", "g", 0, -1, 0); taken || err == nil {
		t.Error("a negative offset was taken")
	}
	for i := range maxResets + 10 {
		o.resets.set(place{"T", "g", int32(i)}, int64(i+1))
	}
	if n := len(o.resets); n > maxResets || o.resets[place{"T", "g", maxResets + 9}] == 0 || o.resets[place{"T", "g", 0}] != 0 {
		t.Errorf("%d stamps are kept, or not the newest", n)
	}
}

// A slave's table is its master's: newer versions replace it, older ones take
// nothing away, changes of its own have no version.
func TestTakesTables(t *testing.T) {
	clock := time.UnixMilli(2000)
	groups, err := LoadGroups(filepath.Join(t.TempDir(), "g.json"), func() int { return 20 }, func() time.Time { return clock })
	if err != nil {
		t.Fatal(err)
	}
	groups.Follow(true)
	take := func(v protocol.DataVersion, names ...string) []string {
		t.Helper()
		m := map[string]protocol.GroupConfig{}
		for _, n := range names {
			m[n] = NewGroup(n)
		}
		gone, err := groups.Take(m, v)
		if err != nil {
			t.Fatal(err)
		}
		return gone
	}
	has := func(names ...string) {
		t.Helper()
		m, _ := groups.Snapshot()
		if len(m) != len(names) {
			t.Fatalf("%v, want %v", maps.Keys(m), names)
		}
		for _, n := range names {
			if m[n] == nil {
				t.Fatalf("no %s", n)
			}
		}
	}
	// The first table of a master replaces the built-in ones, however old it is.
	take(protocol.DataVersion{Timestamp: 5, Counter: 3}, "a", "b")
	has("a", "b")
	if _, err := groups.Ensure([]byte("mine"), true); err != nil {
		t.Fatal(err)
	}
	has("a", "b", "mine")
	if v := groups.Version(); v != (protocol.DataVersion{Timestamp: 5, Counter: 3}) {
		t.Fatalf("a change of the slave's own made version %+v", v)
	}
	take(protocol.DataVersion{Timestamp: 5, Counter: 3}, "x")
	has("a", "b", "mine") // the same version: nothing
	if gone := take(protocol.DataVersion{Timestamp: 1, Counter: 4}, "b", "c"); len(gone) != 2 {
		t.Fatalf("gone: %v", gone)
	}
	has("b", "c")
	take(protocol.DataVersion{Timestamp: 9000, Counter: 2}, "d") // from a copy of the master
	has("b", "c", "d")
	if err := groups.Save(); err != nil {
		t.Fatal(err)
	}
	if _, err := groups.Take(nil, protocol.DataVersion{Counter: 99}); err == nil {
		t.Error("an empty table was taken")
	}
	many := map[string]protocol.GroupConfig{}
	for i := range 21 {
		many[fmt.Sprint("n", i)] = NewGroup("n")
	}
	if _, err := groups.Take(many, protocol.DataVersion{Counter: 99}); err == nil {
		t.Error("more groups than the limit were taken")
	}
	has("b", "c", "d")
}
