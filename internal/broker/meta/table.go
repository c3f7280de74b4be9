package meta

import (
	"fmt"
	"maps"
	"sync"
	"time"

	"gomq/internal/protocol"
)

// table is a named set of configurations with a version and a file. Entries are
// never changed in place: a *T handed out stays as it is for ever. It has one
// mutex, held only for map operations; the file is encoded and written outside
// it.
type table[T any] struct {
	file   file
	now    func() time.Time
	kind   string     // for messages: "topic", "group"
	limit  func() int // entries at most; asked when one is added
	pretty func(map[string]*T, protocol.DataVersion) []byte

	mu      sync.RWMutex
	entries map[string]*T
	version protocol.DataVersion
	gen     uint64 // rises with every change; what is compared with the file's
	// of says whose the version is: nobody's before there was a file or a master.
	settled   bool // the version came from a file, a change or a master
	following bool // a slave's: only its master gives it versions
}

// load reads the file through parse and adds what it lacks of builtin. A
// table without a file starts at version (now, 0).
func (t *table[T]) load(parse func([]byte) (map[string]T, protocol.DataVersion, error), builtin map[string]T) error {
	t.entries = map[string]*T{}
	found, err := t.file.load(func(data []byte) error {
		entries, version, err := parse(data)
		if err != nil {
			return err
		}
		clear(t.entries)
		for name, e := range entries {
			t.entries[name] = &e
		}
		t.version = version
		return nil
	})
	if err != nil {
		return err
	}
	for name, e := range builtin {
		if t.entries[name] == nil {
			t.entries[name] = &e
		}
	}
	if t.settled = found; !found {
		t.version = protocol.DataVersion{Timestamp: t.now().UnixMilli()}
	}
	return nil
}

// Get is the configuration by that name, nil when there is none. It does not
// allocate.
func (t *table[T]) Get(name []byte) *T {
	t.mu.RLock()
	e := t.entries[string(name)]
	t.mu.RUnlock()
	return e
}

// Has says whether there is a configuration by that name.
func (t *table[T]) Has(name string) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.entries[name] != nil
}

// add stores e, or returns what is there already.
func (t *table[T]) add(name string, e T, replace bool) (*T, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if old := t.entries[name]; old != nil && !replace {
		return old, nil
	} else if old == nil && len(t.entries) >= t.limit() {
		return nil, fmt.Errorf("%s %s not created: there are %d, the most that this broker takes", t.kind, name, len(t.entries))
	}
	t.entries[name] = &e
	t.bump()
	return &e, nil
}

// Delete removes an entry and writes the file; removing one that is not there
// is no error.
func (t *table[T]) Delete(name string) error {
	t.mu.Lock()
	if t.entries[name] == nil {
		t.mu.Unlock()
		return nil
	}
	delete(t.entries, name)
	t.bump()
	t.mu.Unlock()
	return t.Save()
}

func (t *table[T]) bump() {
	t.gen++
	if t.following {
		return
	}
	t.version.Timestamp = t.now().UnixMilli()
	t.version.Counter++
	t.settled = true
}

// Follow says whether the table is a slave's: changes of its own then do not count
// as versions, and the next table of the master replaces them.
func (t *table[T]) Follow(yes bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.following = yes
}

// Take takes a master's table. One with a newer version replaces this one: gone is
// what it no longer has. An older one, of a master that was restored from a copy,
// takes nothing away and changes nothing, it only adds what is missing here.
func (t *table[T]) Take(entries map[string]T, v protocol.DataVersion) (gone []string, err error) {
	if len(entries) == 0 {
		return nil, fmt.Errorf("the master's table has no %s", t.kind)
	}
	if most := t.limit(); len(entries) > most {
		return nil, fmt.Errorf("the master has %d %ss, this broker takes %d", len(entries), t.kind, most)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.settled && v == t.version {
		return nil, nil // what is here besides is this slave's own
	}
	if t.settled && older(v, t.version) {
		for name, e := range entries {
			if t.entries[name] == nil {
				t.entries[name] = &e
				t.gen++
			}
		}
		return nil, nil
	}
	next := make(map[string]*T, len(entries))
	for name, e := range entries {
		next[name] = &e
	}
	for name := range t.entries {
		if next[name] == nil {
			gone = append(gone, name)
		}
	}
	t.entries, t.version, t.settled = next, v, true
	t.gen++
	return gone, nil
}

// older says whether a is an earlier version than b: versions count changes, and
// clocks may go back.
func older(a, b protocol.DataVersion) bool {
	return a.Counter < b.Counter || a.Counter == b.Counter && a.Timestamp < b.Timestamp
}

// Touch raises the version without changing an entry: nameservers then take
// the next registration as news.
func (t *table[T]) Touch() {
	t.mu.Lock()
	t.bump()
	t.mu.Unlock()
}

// Save writes the file when the table has changed since the last time.
func (t *table[T]) Save() error {
	t.mu.RLock()
	gen := t.gen
	t.mu.RUnlock()
	return t.file.save(gen, func() ([]byte, uint64) {
		t.mu.RLock()
		entries, version, gen := maps.Clone(t.entries), t.version, t.gen
		t.mu.RUnlock()
		return t.pretty(entries, version), gen
	})
}

// Snapshot is a copy of the table (the entries are shared and never change) and
// its version.
func (t *table[T]) Snapshot() (map[string]*T, protocol.DataVersion) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return maps.Clone(t.entries), t.version
}

// Version is the version of the table.
func (t *table[T]) Version() protocol.DataVersion {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.version
}

// Len is the number of entries.
func (t *table[T]) Len() int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return len(t.entries)
}
