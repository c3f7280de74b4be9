package protocol

// PushReplyHeader is the header of PUSH_REPLY_MESSAGE_TO_CLIENT (326): a reply on
// its way to who asked. The body is the reply's.
type PushReplyHeader struct {
	Group              []byte // producerGroup, of who replies
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
	BornHost           string // ip:port of who replies
	StoreHost          string // ip:port of the broker
	StoreTime          int64  // ms
}

// Fields implements Header. The order is that in which Java sends JSON.
func (h *PushReplyHeader) Fields(f *Fields) {
	f.Int32("queueId", &h.QueueID, true)
	f.Int32("flag", &h.Flag, true)
	f.Int32("sysFlag", &h.SysFlag, true)
	f.Int32("reconsumeTimes", &h.ReconsumeTimes, false)
	f.Int64("storeTimestamp", &h.StoreTime, true)
	f.Bool("unitMode", &h.UnitMode, false)
	f.Bytes("defaultTopic", &h.DefaultTopic, false)
	f.String("bornHost", &h.BornHost, true)
	f.Int32("defaultTopicQueueNums", &h.DefaultTopicQueues, false)
	f.Bytes("producerGroup", &h.Group, true)
	f.Bytes("topic", &h.Topic, true)
	f.Int64("bornTimestamp", &h.BornTime, true)
	f.String("storeHost", &h.StoreHost, true)
	f.Bytes("properties", &h.Props, false)
}
