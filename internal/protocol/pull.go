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

// Fields implements Header.
func (h *PullHeader) Fields(f *Fields) { panic("not yet") }

// Fields implements Header.
func (h *PullReply) Fields(f *Fields) { panic("not yet") }
