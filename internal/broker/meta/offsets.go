package meta

import (
	"cmp"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"gomq/internal/failpoint"
	"gomq/internal/message"
	"gomq/internal/protocol"
)

// Limits on the table, so that a peer that invents names or queues cannot fill
// the memory.
const (
	maxOffsetKeys = 500_000   // (topic, group) pairs
	maxOffsets    = 4_000_000 // of all queues of all pairs
)

// Why a commit was not kept.
var (
	ErrTooManyOffsets = errors.New("too many consumer offsets: delete groups or topics that are no longer used")
	ErrNegativeQueue  = errors.New("an offset was committed for a queue with a negative number, or is negative itself")
)

// Offsets is the table of consumer offsets: how far each group has come in each
// queue. Kept in consumerOffset.json (store.md section 12). It has one mutex.
type Offsets struct {
	file file
	now  func() time.Time

	mu     sync.RWMutex
	table  map[string]map[string]map[int32]int64 // topic -> group -> queue -> next offset
	keys   int
	count  int    // offsets of all keys
	gen    uint64 // rises with every change; what save compares
	resets resets
}

// LoadOffsets reads the table from path, or starts an empty one. now stamps
// deliberate steps back (merge.go).
func LoadOffsets(path string, now func() time.Time) (*Offsets, error) {
	o := &Offsets{file: file{path: path}, now: now, table: map[string]map[string]map[int32]int64{}, resets: resets{}}
	_, err := o.file.load(func(data []byte) error {
		t, stamps, err := protocol.ParseOffsets(data)
		if err != nil {
			return err
		}
		o.resets.load(stamps)
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
// when that goes backwards: clients may rewind. Names that can be no topic or no
// group are refused: they would be kept for ever. Errors: those of the names,
// ErrNegativeQueue, ErrTooManyOffsets.
func (o *Offsets) Commit(topic, group []byte, queue int32, offset int64) error {
	o.mu.RLock()
	if cur, ok := o.table[string(topic)][string(group)][queue]; ok && cur == offset {
		o.mu.RUnlock()
		return nil // most commits of an idle consumer
	}
	known := o.table[string(topic)][string(group)] != nil
	o.mu.RUnlock()
	if queue < 0 {
		return ErrNegativeQueue
	}
	if !known {
		if err := message.ValidTopic(string(topic)); err != nil {
			return err
		}
		if err := message.ValidGroup(string(group)); err != nil {
			return err
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	failpoint.Hit("offsetCommit")
	if cur, ok := o.table[string(topic)][string(group)][queue]; ok && offset < cur {
		o.resets.mark(place{string(topic), string(group), queue}, o.now())
	}
	return o.put(topic, group, queue, offset)
}

// put stores an offset. Held: mu.
func (o *Offsets) put(topic, group []byte, queue int32, offset int64) error {
	groups := o.table[string(topic)]
	queues := groups[string(group)]
	old, known := queues[queue]
	switch {
	case known && old == offset:
		return nil
	case !known && o.count >= maxOffsets, queues == nil && o.keys >= maxOffsetKeys:
		return ErrTooManyOffsets
	}
	if groups == nil {
		groups = map[string]map[int32]int64{}
		o.table[string(topic)] = groups
	}
	if queues == nil {
		o.keys++
		queues = map[int32]int64{}
		groups[string(group)] = queues
	}
	if !known {
		o.count++
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
	return maps.Clone(o.table[topic][group])
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

// DropGroup forgets every offset of group, for good: what a slave still has of
// them is older.
func (o *Offsets) DropGroup(group string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for topic, groups := range o.table {
		for queue := range groups[group] {
			o.resets.mark(place{topic, group, queue}, o.now())
		}
		o.drop(topic, group)
	}
}

// drop forgets the offsets of group in topic. Held: mu.
func (o *Offsets) drop(topic, group string) {
	groups := o.table[topic]
	if groups[group] == nil {
		return
	}
	o.count -= len(groups[group])
	delete(groups, group)
	o.keys--
	o.gen++
	if len(groups) == 0 {
		delete(o.table, topic)
	}
}

// Table is a copy of everything, keyed by topic@group as on the wire (43) and
// on disk.
func (o *Offsets) Table() protocol.OffsetTable {
	t, _, _ := o.snapshot()
	return t
}

// snapshot copies one topic at a time, so that a commit never waits for the
// whole table: what is committed meanwhile may be in the copy or not, and then
// its generation is beyond the one returned.
//
// The stamps are copied first: a step back that comes meanwhile is then in the copy
// without its stamp, never the other way round.
func (o *Offsets) snapshot() (t, stamps protocol.OffsetTable, gen uint64) {
	o.mu.RLock()
	gen = o.gen
	stamps = o.resets.table()
	topics := make([]string, 0, len(o.table))
	for topic := range o.table {
		topics = append(topics, topic)
	}
	t = make(protocol.OffsetTable, o.keys)
	o.mu.RUnlock()
	for _, topic := range topics {
		o.mu.RLock()
		for group, queues := range o.table[topic] {
			t[topic+"@"+group] = maps.Clone(queues)
		}
		o.mu.RUnlock()
	}
	return t, stamps, gen
}

// Save writes the table when it has changed since the last time.
func (o *Offsets) Save() error {
	o.mu.RLock()
	gen := o.gen
	o.mu.RUnlock()
	return o.file.save(gen, func() ([]byte, uint64) {
		t, stamps, gen := o.snapshot()
		return t.PrettyWith(stamps), gen
	})
}
