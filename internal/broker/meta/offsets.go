package meta

import (
	"cmp"
	"errors"
	"slices"
	"sync"

	"gomq/internal/failpoint"
	"gomq/internal/protocol"
)

// MaxOffsetKeys limits how many (topic, group) pairs may have offsets, so that
// a peer that invents names cannot fill the memory.
const MaxOffsetKeys = 1_000_000

// ErrTooManyOffsets is returned when a commit would exceed MaxOffsetKeys.
var ErrTooManyOffsets = errors.New("too many consumer offsets: delete groups or topics that are no longer used")

// Offsets is the table of consumer offsets: how far each group has come in each
// queue. Kept in consumerOffset.json (store.md section 12). It has one mutex.
type Offsets struct {
	file file

	mu    sync.RWMutex
	table map[string]map[string]map[int32]int64 // topic -> group -> queue -> next offset
	keys  int
	gen   uint64 // rises with every change; what save compares
}

// LoadOffsets reads the table from path, or starts an empty one.
func LoadOffsets(path string) (*Offsets, error) {
	o := &Offsets{file: file{path: path}, table: map[string]map[string]map[int32]int64{}}
	_, err := o.file.load(func(data []byte) error {
		t, err := protocol.ParseOffsetTable(data)
		if err != nil {
			return err
		}
		for key, queues := range t {
			topic, group, ok := splitKey(key)
			if !ok {
				continue // Java reads and never finds such a key
			}
			for q, off := range queues {
				o.put([]byte(topic), []byte(group), q, off)
			}
		}
		return nil
	})
	o.file.saved = o.gen
	return o, err
}

// splitKey cuts topic@group at its first @: a topic cannot hold one.
func splitKey(key string) (topic, group string, ok bool) {
	for i := range len(key) {
		if key[i] == '@' {
			return key[:i], key[i+1:], i > 0 && i+1 < len(key)
		}
	}
	return "", "", false
}

// Commit stores offset as the next one that group reads from the queue, also
// when that goes backwards: clients may rewind.
func (o *Offsets) Commit(topic, group []byte, queue int32, offset int64) error {
	o.mu.RLock()
	if cur, ok := o.table[string(topic)][string(group)][queue]; ok && cur == offset {
		o.mu.RUnlock()
		return nil // most commits of an idle consumer
	}
	o.mu.RUnlock()
	o.mu.Lock()
	defer o.mu.Unlock()
	failpoint.Hit("offsetCommit")
	return o.put(topic, group, queue, offset)
}

func (o *Offsets) put(topic, group []byte, queue int32, offset int64) error {
	groups := o.table[string(topic)]
	if groups == nil {
		groups = map[string]map[int32]int64{}
		o.table[string(topic)] = groups
	}
	queues := groups[string(group)]
	if queues == nil {
		if o.keys >= MaxOffsetKeys {
			return ErrTooManyOffsets
		}
		o.keys++
		queues = map[int32]int64{}
		groups[string(group)] = queues
	}
	queues[queue] = offset
	o.gen++
	return nil
}

// Query is the committed offset, ok false when there is none.
func (o *Offsets) Query(topic, group []byte, queue int32) (offset int64, ok bool) {
	o.mu.RLock()
	defer o.mu.RUnlock()
	offset, ok = o.table[string(topic)][string(group)][queue]
	return offset, ok
}

// Queues is a copy of the offsets of group in topic, nil when it has none.
func (o *Offsets) Queues(topic, group string) map[int32]int64 {
	o.mu.RLock()
	defer o.mu.RUnlock()
	queues := o.table[topic][group]
	if queues == nil {
		return nil
	}
	out := make(map[int32]int64, len(queues))
	for q, off := range queues {
		out[q] = off
	}
	return out
}

// Topics are the topics in which group has offsets, sorted.
func (o *Offsets) Topics(group string) (topics []string) {
	o.mu.RLock()
	defer o.mu.RUnlock()
	for topic, groups := range o.table {
		if groups[group] != nil {
			topics = append(topics, topic)
		}
	}
	slices.SortFunc(topics, cmp.Compare[string])
	return topics
}

// Groups are the groups with offsets in topic, sorted.
func (o *Offsets) Groups(topic string) (groups []string) {
	o.mu.RLock()
	defer o.mu.RUnlock()
	for g := range o.table[topic] {
		groups = append(groups, g)
	}
	slices.SortFunc(groups, cmp.Compare[string])
	return groups
}

// DropGroup forgets every offset of group.
func (o *Offsets) DropGroup(group string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for topic, groups := range o.table {
		if groups[group] == nil {
			continue
		}
		delete(groups, group)
		o.keys--
		o.gen++
		if len(groups) == 0 {
			delete(o.table, topic)
		}
	}
}

// Table is a copy of everything, keyed by topic@group as on the wire (43) and
// on disk.
func (o *Offsets) Table() protocol.OffsetTable {
	t, _ := o.snapshot()
	return t
}

func (o *Offsets) snapshot() (protocol.OffsetTable, uint64) {
	o.mu.RLock()
	defer o.mu.RUnlock()
	t := make(protocol.OffsetTable, o.keys)
	for topic, groups := range o.table {
		for group, queues := range groups {
			c := make(map[int32]int64, len(queues))
			for q, off := range queues {
				c[q] = off
			}
			t[topic+"@"+group] = c
		}
	}
	return t, o.gen
}

// Save writes the table when it has changed since the last time.
func (o *Offsets) Save() error {
	o.mu.RLock()
	gen := o.gen
	o.mu.RUnlock()
	return o.file.save(gen, func() ([]byte, uint64) {
		t, gen := o.snapshot()
		return t.Pretty(), gen
	})
}
