package protocol

// OffsetHeader is the header of QUERY_CONSUMER_OFFSET (14) and
// UPDATE_CONSUMER_OFFSET (15; CommitOffset).
type OffsetHeader struct {
	Update         bool // 15: commitOffset is required; set before decoding or encoding
	Group          []byte
	Topic          []byte
	QueueID        int32
	CommitOffset   int64
	ZeroIfNotFound bool // setZeroIfNotFound of 5.x, true when absent
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
	if !h.Update && !f.Encoding() {
		h.ZeroIfNotFound = true
		f.Bool("setZeroIfNotFound", &h.ZeroIfNotFound, false)
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
func ParseOffsetTable(b []byte) (OffsetTable, error) { panic("not yet") }

// Pretty is the text of consumerOffset.json as 4.9.7 writes it, keys sorted.
func (t OffsetTable) Pretty() []byte { panic("not yet") }

// Append appends the compact form, the body of 43, keys sorted.
func (t OffsetTable) Append(dst []byte) []byte { panic("not yet") }
