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
func (h *SendHeader) Fields(f *Fields) { panic("not yet") }

// Fields implements Header.
func (h *SendReply) Fields(f *Fields) { panic("not yet") }
