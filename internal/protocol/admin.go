package protocol

// TopicHeader is the header of the requests about a whole topic: 202, 215, 216,
// 300, 351.
type TopicHeader struct {
	Topic       string
	ClusterName string // 216 of 4.9: only there; left out when ""
}

// CreateTopicHeader is the header of UPDATE_AND_CREATE_TOPIC (17).
type CreateTopicHeader struct {
	Topic           string
	DefaultTopic    string
	ReadQueueNums   int32
	WriteQueueNums  int32
	Perm            int32
	TopicFilterType string
	TopicSysFlag    int32
	Order           bool
}

// DeleteGroupHeader is the header of DELETE_SUBSCRIPTIONGROUP (207).
type DeleteGroupHeader struct {
	GroupName    string
	RemoveOffset bool // removeOffset of 4.9, cleanOffset of 5.x
}

// ConsumeStatsHeader is the header of GET_CONSUME_STATS (208).
type ConsumeStatsHeader struct {
	Group string
	Topic string // "" is all topics of the group
}

// BrokerConfigReply is the answer to GET_BROKER_CONFIG (26); its body is the
// properties as text.
type BrokerConfigReply struct{ Version DataVersion }

// ViewHeader is the header of VIEW_MESSAGE_BY_ID (33).
type ViewHeader struct{ Offset int64 } // physical, in the log

// QueryHeader is the header of QUERY_MESSAGE (12).
type QueryHeader struct {
	Topic     string
	Key       string
	MaxNum    int32
	Begin     int64 // ms
	End       int64 // ms
	UniqueKey bool  // _UNIQUE_KEY_QUERY: Key is a message's unique id
}

// QueryReply is the answer to QUERY_MESSAGE.
type QueryReply struct {
	IndexLastUpdateTimestamp int64 // ms
	IndexLastUpdateOffset    int64 // indexLastUpdatePhyoffset
}

// TopicStats is the body of the answer to GET_TOPIC_STATS_INFO (202).
type TopicStats []TopicQueueStats

// TopicQueueStats is one queue of TopicStats.
type TopicQueueStats struct {
	Queue      MessageQueue
	MinOffset  int64
	MaxOffset  int64
	LastUpdate int64 // lastUpdateTimestamp, ms; 0 when the queue is empty
}

// ParseTopicStats reads the body of the answer to 202.
func ParseTopicStats(body []byte) (TopicStats, error) { panic("not yet") }

// Append appends the body in the order given.
func (t TopicStats) Append(dst []byte) []byte { panic("not yet") }

// ConsumeStats is the body of the answer to GET_CONSUME_STATS (208).
type ConsumeStats struct {
	ConsumeTPS float64 // messages a second
	Queues     []ConsumeQueueStats
}

// ConsumeQueueStats is one queue of ConsumeStats.
type ConsumeQueueStats struct {
	Queue          MessageQueue
	BrokerOffset   int64 // the queue's end
	ConsumerOffset int64 // committed
	LastTimestamp  int64 // ms, store time of the last message consumed
}

// ParseConsumeStats reads the body of the answer to 208.
func ParseConsumeStats(body []byte) (*ConsumeStats, error) { panic("not yet") }

// Append appends the body in the order given.
func (c *ConsumeStats) Append(dst []byte) []byte { panic("not yet") }

// GroupList is the body of the answer to QUERY_TOPIC_CONSUME_BY_WHO (300).
type GroupList []string

// ParseGroupList reads the body of the answer to 300.
func ParseGroupList(body []byte) (GroupList, error) { panic("not yet") }

// Append appends the body in the order given.
func (g GroupList) Append(dst []byte) []byte { panic("not yet") }

// Append appends one group, the body of 200.
func (g *GroupConfig) Append(dst []byte) []byte { panic("not yet") }

// Append appends one topic, the body of the answer to 351.
func (t *TopicConfig) Append(dst []byte) []byte { panic("not yet") }

// DelayTable is all delay levels' offsets: level (from 1) to the next position in
// its queue (45, delayOffset.json).
type DelayTable map[int32]int64

// ParseDelayTable reads delayOffset.json or the body of 45.
func ParseDelayTable(b []byte) (DelayTable, error) { panic("not yet") }

// Pretty is the text of delayOffset.json as 4.9.7 writes it, levels sorted.
func (t DelayTable) Pretty() []byte { panic("not yet") }

// Append appends the compact form, the body of 45, levels sorted.
func (t DelayTable) Append(dst []byte) []byte { panic("not yet") }

// Fields implements Header.
func (h *TopicHeader) Fields(f *Fields) {
	f.String("topic", &h.Topic, true)
	f.String("clusterName", &h.ClusterName, false)
}

// Config is the topic that the header describes.
func (h *CreateTopicHeader) Config() TopicConfig {
	return TopicConfig{TopicName: h.Topic, ReadQueueNums: h.ReadQueueNums, WriteQueueNums: h.WriteQueueNums, Perm: h.Perm,
		TopicFilterType: h.TopicFilterType, TopicSysFlag: h.TopicSysFlag, Order: h.Order}
}

// Fields implements Header.
func (h *CreateTopicHeader) Fields(f *Fields) {
	f.String("topic", &h.Topic, true)
	f.String("defaultTopic", &h.DefaultTopic, f.Encoding())
	f.Int32("readQueueNums", &h.ReadQueueNums, true)
	f.Int32("writeQueueNums", &h.WriteQueueNums, true)
	f.Int32("perm", &h.Perm, true)
	f.String("topicFilterType", &h.TopicFilterType, true)
	f.Int32("topicSysFlag", &h.TopicSysFlag, false)
	f.Bool("order", &h.Order, false)
}

// Fields implements Header.
func (h *DeleteGroupHeader) Fields(f *Fields) {
	f.String("groupName", &h.GroupName, true)
	f.Bool("removeOffset", &h.RemoveOffset, false)
	if !f.Encoding() && !h.RemoveOffset {
		f.Bool("cleanOffset", &h.RemoveOffset, false)
	}
}

// Fields implements Header.
func (h *ConsumeStatsHeader) Fields(f *Fields) {
	f.String("consumerGroup", &h.Group, true)
	f.String("topic", &h.Topic, false)
}

// Fields implements Header.
func (h *BrokerConfigReply) Fields(f *Fields) {
	var v string
	if f.Encoding() {
		v = string(h.Version.Append(nil))
	}
	f.String("version", &v, true)
	if !f.Encoding() {
		var err error
		if h.Version, err = ParseDataVersion([]byte(v)); err != nil {
			f.bad("version", v)
		}
	}
}

// Fields implements Header.
func (h *ViewHeader) Fields(f *Fields) { f.Int64("offset", &h.Offset, true) }

// Fields implements Header.
func (h *QueryHeader) Fields(f *Fields) {
	f.String("topic", &h.Topic, true)
	f.String("key", &h.Key, true)
	f.Int32("maxNum", &h.MaxNum, true)
	f.Int64("beginTimestamp", &h.Begin, true)
	f.Int64("endTimestamp", &h.End, true)
	f.Bool("_UNIQUE_KEY_QUERY", &h.UniqueKey, false)
}

// Fields implements Header.
func (h *QueryReply) Fields(f *Fields) {
	f.Int64("indexLastUpdatePhyoffset", &h.IndexLastUpdateOffset, true)
	f.Int64("indexLastUpdateTimestamp", &h.IndexLastUpdateTimestamp, true)
}
