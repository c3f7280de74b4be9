package protocol

// SendHeader is the header of SEND_MESSAGE (10), SEND_MESSAGE_V2 (310) and
// SEND_BATCH_MESSAGE (320). V2 says whether its names are the single letters
// (requests.md 3.1); it must be set before decoding.
type SendHeader struct {
	V2                 bool
	Group              []byte // producerGroup
	Topic              []byte
	DefaultTopic       []byte
	DefaultTopicQueues int32
	QueueID            int32
	SysFlag            int32
	BornTime           int64
	Flag               int32
	Props              []byte
	ReconsumeTimes     int32
	UnitMode           bool
	MaxReconsume       int32 // -1: not sent
	Batch              bool
}

// SendReply is the header of the answer to a send. Failed leaves out the ids.
type SendReply struct {
	MsgID       []byte
	QueueID     int32
	QueueOffset int64
	TxID        string
	Region      string // MSG_REGION
	Trace       bool   // TRACE_ON
	Failed      bool
}

// Fields implements Header.
func (h *SendHeader) Fields(f *Fields) {
	if !f.Encoding() {
		h.ReconsumeTimes, h.UnitMode, h.Batch, h.MaxReconsume = 0, false, false, -1
	}
	n := &longNames
	if h.V2 {
		n = &letters
	}
	f.Bytes(n[0], &h.Group, true)
	f.Bytes(n[1], &h.Topic, true)
	f.Bytes(n[2], &h.DefaultTopic, false)
	f.Int32(n[3], &h.DefaultTopicQueues, false)
	f.Int32(n[4], &h.QueueID, true)
	f.Int32(n[5], &h.SysFlag, true)
	f.Int64(n[6], &h.BornTime, true)
	f.Int32(n[7], &h.Flag, true)
	f.Bytes(n[8], &h.Props, false)
	f.Int32(n[9], &h.ReconsumeTimes, false)
	f.Bool(n[10], &h.UnitMode, false)
	if !f.Encoding() || h.MaxReconsume >= 0 {
		f.Int32(n[11], &h.MaxReconsume, false)
	}
	f.Bool(n[12], &h.Batch, false)
}

// The names of SendHeader's fields in the order of SEND_MESSAGE_V2, and its
// letters (requests.md section 3.1). The letter n is the broker's name, which
// nobody needs.
var (
	longNames = [...]string{"producerGroup", "topic", "defaultTopic", "defaultTopicQueueNums", "queueId", "sysFlag", "bornTimestamp",
		"flag", "properties", "reconsumeTimes", "unitMode", "maxReconsumeTimes", "batch"}
	letters = [...]string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m"}
)

// Fields implements Header.
func (h *SendReply) Fields(f *Fields) {
	if f.inJSON() { // the order of the original's hash map
		if !h.Failed {
			f.Int32("queueId", &h.QueueID, true)
			f.String("transactionId", &h.TxID, false)
		}
		f.Bool("TRACE_ON", &h.Trace, false)
		f.String("MSG_REGION", &h.Region, false)
		if !h.Failed {
			f.Bytes("msgId", &h.MsgID, true)
			f.Int64("queueOffset", &h.QueueOffset, true)
		}
		return
	}
	if !h.Failed {
		f.Bytes("msgId", &h.MsgID, true)
		f.Int32("queueId", &h.QueueID, true)
		f.Int64("queueOffset", &h.QueueOffset, true)
		f.String("transactionId", &h.TxID, false)
	}
	f.Bool("TRACE_ON", &h.Trace, false)
	f.String("MSG_REGION", &h.Region, false)
}
