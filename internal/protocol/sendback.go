package protocol

// SendBackHeader is the header of CONSUMER_SEND_MSG_BACK (36): a consumer could not
// do a message, which lies at an offset of the broker's log (requests.md section
// 2).
type SendBackHeader struct {
	Offset       int64
	Group        []byte
	DelayLevel   int32  // 0: the broker chooses by the times tried; below 0: a dead letter
	OriginMsgID  string // originMsgId, for hooks of the original
	OriginTopic  string
	UnitMode     bool
	MaxReconsume int32 // maxReconsumeTimes; -1: not sent
}

// Fields implements Header.
func (h *SendBackHeader) Fields(f *Fields) {
	if !f.Encoding() {
		h.MaxReconsume = -1
	}
	f.Int64("offset", &h.Offset, true)
	f.Bytes("group", &h.Group, true)
	f.Int32("delayLevel", &h.DelayLevel, true)
	f.String("originMsgId", &h.OriginMsgID, false)
	f.String("originTopic", &h.OriginTopic, false)
	f.Bool("unitMode", &h.UnitMode, false)
	if !f.Encoding() || h.MaxReconsume >= 0 {
		f.Int32("maxReconsumeTimes", &h.MaxReconsume, false)
	}
}
