package protocol

// EndHeader is the header of END_TRANSACTION (37): what became of a half message
// (requests.md section 2). The half message is named by its place in the log and
// in its queue, both of which must be right.
type EndHeader struct {
	Group      []byte // producerGroup
	HalfOffset int64  // tranStateTableOffset: in the queue of half messages
	LogOffset  int64  // commitLogOffset
	Outcome    int32  // commitOrRollback: 8 commit, 12 rollback, 0 not known yet; the values of message.SysFlag
	FromCheck  bool   // fromTransactionCheck: the answer to a question of the broker
	MsgID      string // msgId, of the producer
	TxID       string // transactionId
}

// CheckHeader is the header of CHECK_TRANSACTION_STATE (39), with which a broker
// asks a producer what became of a half message; the body is the message as it
// would be delivered.
type CheckHeader struct {
	HalfOffset int64  // tranStateTableOffset, to be given back with END_TRANSACTION
	LogOffset  int64  // commitLogOffset, the same
	MsgID      string // msgId, of the producer
	TxID       string // transactionId
	OffsetID   string // offsetMsgId, of the half message
}

// ResumeHeader is the header of RESUME_CHECK_HALF_MESSAGE (323).
type ResumeHeader struct {
	MsgID string // offset id of the half message that is to be checked anew
}

// Fields implements Header. The order is that in which Java clients send JSON.
func (h *EndHeader) Fields(f *Fields) {
	f.Bytes("producerGroup", &h.Group, true)
	f.Int64("commitLogOffset", &h.LogOffset, true)
	f.String("msgId", &h.MsgID, false)
	f.Int64("tranStateTableOffset", &h.HalfOffset, true)
	f.Int32("commitOrRollback", &h.Outcome, true)
	f.String("transactionId", &h.TxID, false)
	f.Bool("fromTransactionCheck", &h.FromCheck, false)
}

// Fields implements Header. The order is that of the original's JSON.
func (h *CheckHeader) Fields(f *Fields) {
	f.Int64("commitLogOffset", &h.LogOffset, true)
	f.String("msgId", &h.MsgID, false)
	f.Int64("tranStateTableOffset", &h.HalfOffset, true)
	f.String("offsetMsgId", &h.OffsetID, false)
	f.String("transactionId", &h.TxID, false)
}

// Fields implements Header.
func (h *ResumeHeader) Fields(f *Fields) { f.String("msgId", &h.MsgID, false) }
