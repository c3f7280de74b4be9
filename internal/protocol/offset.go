package protocol

import "strconv"

// OffsetHeader is the header of QUERY_CONSUMER_OFFSET (14) and
// UPDATE_CONSUMER_OFFSET (15; CommitOffset).
type OffsetHeader struct {
	Update         bool // 15: commitOffset is required; set before decoding or encoding
	Group          []byte
	Topic          []byte
	QueueID        int32
	CommitOffset   int64
	ZeroIfNotFound bool // setZeroIfNotFound of 5.x, true when absent
	// Merge is gomq's own way of 15, from a slave to its master: CommitOffset
	// counts where it is newer by Reset and then by size. Java sets it whatever
	// its own is.
	Merge bool
	Reset int64 // the stamp of the last step back that the slave knows; 0: none
}

// AllOffsetsHeader is the header of GET_ALL_CONSUMER_OFFSET (43), empty in the
// original.
type AllOffsetsHeader struct {
	// Resets is gomq's own field: the answer is to carry the stamps of steps back.
	Resets bool
}

// QueueHeader is the header of the requests about one queue: GET_MAX_OFFSET (30),
// GET_MIN_OFFSET (31), GET_EARLIEST_MSG_STORETIME (32) and, with Timestamp,
// SEARCH_OFFSET_BY_TIMESTAMP (29).
type QueueHeader struct {
	Search    bool // 29: timestamp is required; set before decoding or encoding
	Topic     []byte
	QueueID   int32
	Timestamp int64
	Boundary  string // boundaryType of 5.x: LOWER, UPPER or empty
}

// OffsetReply is the answer with one offset.
type OffsetReply struct{ Offset int64 }

// TimestampReply is the answer to GET_EARLIEST_MSG_STORETIME.
type TimestampReply struct{ Timestamp int64 }

// OffsetTable is all consumer offsets: topic@group to queue to offset (43,
// consumerOffset.json).
type OffsetTable map[string]map[int32]int64

// Fields implements Header. The order is that in which Java clients send JSON.
func (h *OffsetHeader) Fields(f *Fields) {
	f.Int32("queueId", &h.QueueID, true)
	if h.Update {
		f.Int64("commitOffset", &h.CommitOffset, true)
	}
	f.Bytes("topic", &h.Topic, true)
	f.Bytes("consumerGroup", &h.Group, true)
	if h.Update && (h.Merge || !f.Encoding()) {
		f.Bool("gomqMerge", &h.Merge, false)
		f.Int64("gomqReset", &h.Reset, false)
	}
	if !h.Update && !f.Encoding() {
		h.ZeroIfNotFound = true
		f.Bool("setZeroIfNotFound", &h.ZeroIfNotFound, false)
	}
}

// Fields implements Header.
func (h *AllOffsetsHeader) Fields(f *Fields) {
	if h.Resets || !f.Encoding() {
		f.Bool("gomqResets", &h.Resets, false)
	}
}

// Fields implements Header.
func (h *QueueHeader) Fields(f *Fields) {
	f.Int32("queueId", &h.QueueID, true)
	f.Bytes("topic", &h.Topic, true)
	if h.Search {
		f.String("boundaryType", &h.Boundary, false)
		f.Int64("timestamp", &h.Timestamp, true)
	}
}

// Fields implements Header.
func (h *OffsetReply) Fields(f *Fields) { f.Int64("offset", &h.Offset, true) }

// Fields implements Header.
func (h *TimestampReply) Fields(f *Fields) { f.Int64("timestamp", &h.Timestamp, true) }

// ParseOffsetTable reads consumerOffset.json or the body of 43, in the dialect
// of fastjson: quoted or bare queue numbers; dataVersion and groupTopicMap of
// 5.x are skipped.
func ParseOffsetTable(b []byte) (OffsetTable, error) {
	t, _, err := ParseOffsets(b)
	return t, err
}

// ParseOffsets is ParseOffsetTable that also reads gomq's own member: for each
// queue whose offset was deliberately set back, when that was, as a stamp in ms.
// It is nil in what Java writes.
func ParseOffsets(b []byte) (t, resets OffsetTable, err error) {
	t = OffsetTable{}
	err = readBody("consumer offsets", b, func(r *reader) {
		r.bean(func(name []byte) {
			switch string(name) {
			case "offsettable":
				r.offsets(t)
			case "gomqresets":
				resets = OffsetTable{}
				r.offsets(resets)
			}
		})
	})
	if err != nil {
		return nil, nil, err
	}
	return t, resets, nil
}

func (r *reader) offsets(t OffsetTable) {
	r.table(func(key []byte) {
		queues := map[int32]int64{}
		if t[string(key)] = queues; len(t) > 2*MaxTableEntries {
			r.fail("more than %d consumer offsets", 2*MaxTableEntries)
		}
		r.numbers(func(queue int32, offset int64) { queues[queue] = offset })
	})
}

// numbers reads a map from numbers to numbers.
func (r *reader) numbers(f func(key int32, v int64)) {
	r.table(func(key []byte) {
		n, ok := atoi(key)
		if !ok || int64(int32(n)) != n {
			r.fail("the key %.40q is no number", key)
			return
		}
		var v int64
		r.int64(&v)
		f(int32(n), v)
	})
}

// Pretty is the text of consumerOffset.json as 4.9.7 writes it, keys sorted.
func (t OffsetTable) Pretty() []byte { return t.write(writer{pretty: true}, nil) }

// PrettyWith is Pretty with the stamps of steps back, when there are any; Java
// skips that member.
func (t OffsetTable) PrettyWith(resets OffsetTable) []byte {
	if len(resets) == 0 {
		resets = nil
	}
	return t.write(writer{pretty: true}, resets)
}

// Append appends the compact form, the body of 43, keys sorted.
func (t OffsetTable) Append(dst []byte) []byte { return t.write(writer{b: dst}, nil) }

// AppendWith is Append with the stamps of steps back, for a slave that is gomq; that
// there are none is said too.
func (t OffsetTable) AppendWith(dst []byte, resets OffsetTable) []byte {
	if resets == nil {
		resets = OffsetTable{}
	}
	return t.write(writer{b: dst}, resets)
}

func (t OffsetTable) write(w writer, resets OffsetTable) []byte {
	w.open('{')
	w.key("offsetTable")
	w.offsets(t)
	if resets != nil {
		w.key("gomqResets")
		w.offsets(resets)
	}
	w.end()
	return w.b
}

func (w *writer) offsets(t OffsetTable) {
	w.open('{')
	for _, key := range sorted(t) {
		w.key(key)
		w.numbers(t[key])
	}
	w.end()
}

// numbers writes a map from numbers to numbers, sorted.
func (w *writer) numbers(m map[int32]int64) {
	w.open('{')
	for _, n := range sorted(m) {
		w.number(int64(n))
		w.b = strconv.AppendInt(w.b, m[n], 10)
	}
	w.end()
}

// DelayTable is all delay levels' offsets: level (from 1) to the next position in
// its queue (45, delayOffset.json).
type DelayTable map[int32]int64

// ParseDelayTable reads delayOffset.json or the body of 45.
func ParseDelayTable(b []byte) (DelayTable, error) {
	t := DelayTable{}
	err := readBody("delay offsets", b, func(r *reader) {
		r.bean(func(name []byte) {
			if string(name) == "offsettable" {
				r.numbers(func(level int32, offset int64) { t[level] = offset })
			}
		})
	})
	if err != nil {
		return nil, err
	}
	return t, nil
}

// Pretty is the text of delayOffset.json as 4.9.7 writes it, levels sorted.
func (t DelayTable) Pretty() []byte { return t.write(writer{pretty: true}) }

// Append appends the compact form, the body of 45, levels sorted.
func (t DelayTable) Append(dst []byte) []byte { return t.write(writer{b: dst}) }

func (t DelayTable) write(w writer) []byte {
	w.open('{')
	w.key("offsetTable")
	w.numbers(t)
	w.end()
	return w.b
}
