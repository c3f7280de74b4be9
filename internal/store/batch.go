package store

import (
	"bytes"
	"slices"

	"gomq/internal/message"
)

// Placed says where an item of a batch was stored.
type Placed struct {
	Offset      int64 // of the record in the log
	QueueOffset int64 // of its entry in the queue; 0 for prepared and rollback records, which have none
	StoreTime   int64 // ms
	Size        int32 // bytes of the record
	Err         error // the item was not stored, the others may be
}

// item is one staged record.
type item struct {
	q       *Queue
	at      int   // of the record in buf
	size    int32 // of the record
	group   int32 // items from this one to the end of its group, which stay in one file; 1 = by itself
	keys    int32 // number of key hashes
	counted bool  // takes a queue offset and gets an entry (not prepared, not rollback)
	tags    int64
	placed  Placed
}

// Batch stages the records of one Turn. It belongs to one goroutine at a time
// and is reused: in steady state nothing is allocated.
type Batch struct {
	buf   []byte
	items []item
	keys  []int32 // hashes of the index keys, in the order of the items
	open  int     // first item of the open group, -1 = none
}

// keepStaging is what a batch keeps of its buffer from Turn to Turn.
const keepStaging = 1 << 20

// recordSlack is what a record may be larger than the largest body (topic,
// properties, fixed fields; CommitLog of 4.9.8, MessageExtEncoder).
const recordSlack = 64 << 10

// NewBatch returns an empty batch.
func NewBatch() *Batch { return &Batch{open: -1} }

// Reset empties the batch.
func (b *Batch) Reset() {
	if cap(b.buf) > keepStaging {
		b.buf = nil
	}
	b.buf, b.items, b.keys, b.open = b.buf[:0], b.items[:0], b.keys[:0], -1
}

// Len is the number of items.
func (b *Batch) Len() int { return len(b.items) }

// Bytes is the size of the staged records.
func (b *Batch) Bytes() int { return len(b.buf) }

// Add encodes m behind what is staged and returns its number. It copies
// everything it needs from m. The errors are those of message.AppendRecord,
// ErrTooLarge and ErrNoProps; the batch is unchanged then.
func (b *Batch) Add(q *Queue, m *message.Message) (int, error) {
	if bytes.IndexByte(m.Props, 0) >= 0 {
		whole, err := unlikeTorn(m)
		if err != nil {
			return 0, err
		}
		m = whole
	}
	at := len(b.buf)
	buf, err := message.AppendRecord(b.buf, m)
	if err != nil {
		return 0, err
	}
	size := len(buf) - at
	if size > q.s.o.MaxMessageSize+recordSlack || int64(size)+blankSize > q.s.o.CommitLogFileSize {
		b.buf = buf[:at]
		return 0, ErrTooLarge
	}
	b.buf = buf
	tx := m.SysFlag & message.TxMask
	noted := message.Note(m.Props)
	it := item{q: q, at: at, size: int32(size), group: 1, tags: noted.TagsCode()}
	it.counted = tx == 0 || tx == message.Commit
	if q.s.o.IndexEnabled && tx != message.Rollback {
		before := len(b.keys)
		b.keys = appendNoted(b.keys, q.keyHash, noted)
		it.keys = int32(len(b.keys) - before)
	}
	b.items = append(b.items, it)
	return len(b.items) - 1, nil
}

// mostZeros is how many zero bytes may follow each other in properties: less than
// a sector, which is what zeros where something was written are taken for.
const mostZeros = 256

// unlikeTorn returns m with properties that cannot be taken for properties that
// have reached the disk in part: they do not end in a zero byte (the separator
// that some clients put there anyway comes behind it) and have no long run of
// them.
func unlikeTorn(m *message.Message) (*message.Message, error) {
	run := 0
	for _, c := range m.Props {
		if run++; c != 0 {
			run = 0
		}
		if run >= mostZeros {
			return nil, ErrNoProps
		}
	}
	if run == 0 {
		return m, nil
	}
	whole := *m
	whole.Props = append(slices.Clip(m.Props), '\x02')
	return &whole, nil
}

// BeginGroup opens a group: items added from now on stay neighbours in one file
// (a SEND_BATCH, store.md section 2). It returns the mark for Cut.
func (b *Batch) BeginGroup() int {
	b.open = len(b.items)
	return b.open
}

// EndGroup closes the group that BeginGroup opened. A group larger than a log
// file is refused by Append, in Placed(i).Err of each of its items.
func (b *Batch) EndGroup() {
	for i, n := b.open, len(b.items); i >= 0 && i < n; i++ {
		b.items[i].group = int32(n - i)
	}
	b.open = -1
}

// Cut drops the items from number mark on and closes an open group.
func (b *Batch) Cut(mark int) {
	if mark < len(b.items) {
		b.buf = b.buf[:b.items[mark].at]
		var keys int32
		for i := mark; i < len(b.items); i++ {
			keys += b.items[i].keys
		}
		b.keys = b.keys[:len(b.keys)-int(keys)]
		b.items = b.items[:mark]
	}
	b.open = -1
}

// Placed says where item i was stored; valid after Append.
func (b *Batch) Placed(i int) Placed { return b.items[i].placed }

// End is the offset behind the last item that was stored, 0 when none was; valid
// after Append.
func (b *Batch) End() int64 {
	for i := len(b.items) - 1; i >= 0; i-- {
		if p := &b.items[i].placed; p.Err == nil {
			return p.Offset + int64(p.Size)
		}
	}
	return 0
}

// appendKeyHashes appends the index hashes of a record's keys: the unique key
// first, then each part of KEYS (store.md section 5). seed is the hash of
// "topic#".
func appendKeyHashes(dst []int32, seed int32, props []byte) []int32 {
	return appendNoted(dst, seed, message.Note(props))
}

func appendNoted(dst []int32, seed int32, noted message.Noted) []int32 {
	if noted.UniqKey != nil {
		dst = append(dst, keyHash(seed, noted.UniqKey))
	}
	for v := noted.Keys; len(v) > 0; {
		part := v
		if i := bytes.IndexByte(v, ' '); i >= 0 {
			part, v = v[:i], v[i+1:]
		} else {
			v = nil
		}
		if len(part) > 0 {
			dst = append(dst, keyHash(seed, part))
		}
	}
	return dst
}

// keyHash is the hash that index entries carry: abs(String.hashCode), and 0 for
// the one that has no absolute value.
func keyHash(seed int32, key []byte) int32 {
	h := message.HashMore(seed, key)
	if h < 0 {
		h = -h
	}
	if h < 0 {
		return 0
	}
	return h
}
