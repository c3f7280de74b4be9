package meta

import (
	"maps"
	"sync"
	"time"

	"gomq/internal/filter"
	"gomq/internal/protocol"
)

// maxFilters bounds the (topic, group) pairs; those of a file are kept even if
// they are more.
const maxFilters = 100_000

// loadedDead is how long before a start the groups of the file count as gone, as
// in the original.
const loadedDead = 30 * time.Second

// Filters is the table of SQL92 subscriptions by topic and group, kept in
// consumerFilter.json so that a Java broker finds what it would have written. gomq
// serves every client by what that client said and reads nothing from here. It
// has one mutex.
type Filters struct {
	file  file
	bloom filter.Bloom
	now   func() time.Time

	mu     sync.Mutex
	table  protocol.FilterTable           // entries are replaced, never changed
	groups map[string]map[string]struct{} // group -> topics in which it has an entry
	count  int
	gen    uint64
}

// SQLSub is a group's SQL92 subscription as a heartbeat said it.
type SQLSub struct {
	Topic, Expr string
	Version     int64
	Compiles    bool
}

// LoadFilters reads the table from path, or starts an empty one. As in the
// original everything in it counts as dead until a client says it again, and all
// of it is dropped when its bits are sized otherwise than bloom.
func LoadFilters(path string, bloom filter.Bloom, now func() time.Time) (*Filters, error) {
	f := &Filters{file: file{path: path}, bloom: bloom, now: now, table: protocol.FilterTable{}, groups: map[string]map[string]struct{}{}}
	var found protocol.FilterTable
	_, err := f.file.load(func(data []byte) (err error) {
		found, err = protocol.ParseFilterTable(data)
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, groups := range found {
		for _, d := range groups {
			if !bloom.Fits(int(d.BloomBits), len(d.BloomPositions)) {
				return f, nil
			}
		}
	}
	for _, groups := range found {
		for _, d := range groups {
			if d.DeadTime == 0 {
				d.DeadTime = max(d.BornTime, now().Add(-loadedDead).UnixMilli())
			}
			f.set(d)
		}
	}
	f.gen = 0
	return f, nil
}

// set adds or replaces an entry. Held: mu.
func (f *Filters) set(d *protocol.FilterData) {
	if f.table[d.Topic] == nil {
		f.table[d.Topic] = map[string]*protocol.FilterData{}
	}
	if f.groups[d.Group] == nil {
		f.groups[d.Group] = map[string]struct{}{}
	}
	if f.table[d.Topic][d.Group] == nil {
		f.count++
	}
	f.table[d.Topic][d.Group] = d
	f.groups[d.Group][d.Topic] = struct{}{}
	f.gen++
}

// remove takes an entry out. Held: mu.
func (f *Filters) remove(d *protocol.FilterData) {
	if delete(f.table[d.Topic], d.Group); len(f.table[d.Topic]) == 0 {
		delete(f.table, d.Topic)
	}
	if delete(f.groups[d.Group], d.Topic); len(f.groups[d.Group]) == 0 {
		delete(f.groups, d.Group)
	}
	f.count--
	f.gen++
}

// Said takes over what a heartbeat says of a group: its SQL92 subscriptions, and
// all topics that it subscribes to. An older or equal version changes nothing but
// brings a dead entry back to life when it is equal; an expression that does not
// compile removes the entry; entries of other topics are dead from now on.
func (f *Filters) Said(group string, subs []SQLSub, topics func(topic string) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range subs {
		f.put(group, &subs[i])
	}
	f.kill(group, topics)
}

// put registers one subscription. Held: mu.
func (f *Filters) put(group string, s *SQLSub) {
	old := f.table[s.Topic][group]
	next := protocol.FilterData{Topic: s.Topic, Group: group, Expression: s.Expr, ExpressionType: filter.TypeSQL, ClientVersion: s.Version,
		BornTime: f.now().UnixMilli(), BloomBits: int32(f.bloom.Bits()), BloomPositions: f.bloom.Positions(group, s.Topic)}
	switch {
	case old == nil && (!s.Compiles || f.count >= maxFilters):
		return
	case old == nil:
	case s.Version < old.ClientVersion, s.Version == old.ClientVersion && !old.Dead():
		return
	case s.Version > old.ClientVersion && s.Expr != old.Expression:
		if !s.Compiles {
			f.remove(old)
			return
		}
	default: // the same again, or a newer version of it
		next.Expression, next.BornTime = old.Expression, old.BornTime
	}
	f.set(&next)
}

// kill marks a group's entries dead but for the topics that it keeps. Held: mu.
func (f *Filters) kill(group string, keep func(topic string) bool) {
	for topic := range f.groups[group] {
		if d := f.table[topic][group]; !d.Dead() && !keep(topic) {
			dead := *d
			dead.DeadTime = f.now().UnixMilli()
			f.set(&dead)
		}
	}
}

// Gone marks the entries of a group dead: its last client has left.
func (f *Filters) Gone(group string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.kill(group, func(string) bool { return false })
}

// Clean forgets what has been dead for span.
func (f *Filters) Clean(span time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	before := f.now().Add(-span).UnixMilli()
	for _, groups := range f.table {
		for _, d := range groups {
			if d.Dead() && d.DeadTime <= before {
				f.remove(d)
			}
		}
	}
}

// Save writes the table when it has changed since the last time.
func (f *Filters) Save() error {
	f.mu.Lock()
	gen := f.gen
	f.mu.Unlock()
	return f.file.save(gen, func() ([]byte, uint64) {
		t, gen := f.snapshot()
		return t.Pretty(), gen
	})
}

// Table is a copy of everything; its entries never change.
func (f *Filters) Table() protocol.FilterTable {
	t, _ := f.snapshot()
	return t
}

func (f *Filters) snapshot() (protocol.FilterTable, uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := make(protocol.FilterTable, len(f.table))
	for topic, groups := range f.table {
		t[topic] = maps.Clone(groups)
	}
	return t, f.gen
}
