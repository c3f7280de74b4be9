package protocol

// The bits of PullHeader.SysFlag (wire.md section 20).
const (
	PullCommit       = 1
	PullSuspend      = 2
	PullSubscription = 4
	PullClassFilter  = 8
	PullLite         = 16
)

// PullHeader is the header of PULL_MESSAGE (11) and LITE_PULL_MESSAGE (361).
type PullHeader struct {
	Group          []byte // consumerGroup
	Topic          []byte
	QueueID        int32
	QueueOffset    int64
	MaxMsgNums     int32
	SysFlag        int32
	CommitOffset   int64
	SuspendMillis  int64 // suspendTimeoutMillis
	Subscription   []byte
	SubVersion     int64
	ExpressionType []byte
}

// PullReply is the header of the answer to a pull; all four must be there for
// codes 0, 19, 20 and 21.
type PullReply struct {
	SuggestWhichBrokerID int64
	NextBeginOffset      int64
	MinOffset            int64
	MaxOffset            int64
}

// Fields implements Header. The order is that in which Java clients send JSON.
func (h *PullHeader) Fields(f *Fields) {
	if !f.Encoding() {
		h.SubVersion, h.CommitOffset, h.SuspendMillis = 0, 0, 0
	}
	f.Int32("queueId", &h.QueueID, true)
	f.Int32("maxMsgNums", &h.MaxMsgNums, true)
	f.Int32("sysFlag", &h.SysFlag, true)
	f.Int64("suspendTimeoutMillis", &h.SuspendMillis, false)
	f.Int64("commitOffset", &h.CommitOffset, false)
	f.Bytes("subscription", &h.Subscription, false)
	f.Bytes("topic", &h.Topic, true)
	f.Int64("queueOffset", &h.QueueOffset, true)
	f.Bytes("expressionType", &h.ExpressionType, false)
	f.Int64("subVersion", &h.SubVersion, false)
	f.Bytes("consumerGroup", &h.Group, true)
}

// Fields implements Header.
func (h *PullReply) Fields(f *Fields) {
	f.Int64("suggestWhichBrokerId", &h.SuggestWhichBrokerID, true)
	f.Int64("nextBeginOffset", &h.NextBeginOffset, true)
	if f.inJSON() { // the order of the original's hash map
		f.Int64("maxOffset", &h.MaxOffset, true)
		f.Int64("minOffset", &h.MinOffset, true)
		return
	}
	f.Int64("minOffset", &h.MinOffset, true)
	f.Int64("maxOffset", &h.MaxOffset, true)
}
