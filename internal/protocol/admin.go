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
	// IfMissing is gomq's own field: a topic that exists is left as it is.
	// Brokers that do not know it create or change the topic.
	IfMissing bool
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
func ParseTopicStats(body []byte) (TopicStats, error) {
	var t TopicStats
	err := readBody("topic stats", body, func(r *reader) {
		r.bean(func(name []byte) {
			if string(name) != "offsettable" {
				return
			}
			r.table(func(key []byte) {
				var q TopicQueueStats
				r.queueKey(key, &q.Queue)
				r.bean(func(name []byte) {
					switch string(name) {
					case "minoffset":
						r.int64(&q.MinOffset)
					case "maxoffset":
						r.int64(&q.MaxOffset)
					case "lastupdatetimestamp":
						r.int64(&q.LastUpdate)
					}
				})
				t = append(t, q)
			})
		})
	})
	if err != nil {
		return nil, err
	}
	return t, nil
}

// Append appends the body in the order given.
func (t TopicStats) Append(dst []byte) []byte {
	w := writer{b: dst}
	w.open('{')
	w.key("offsetTable")
	w.open('{')
	for i := range t {
		q := &t[i]
		w.item()
		w.queue(&q.Queue)
		w.b = append(w.b, ':')
		w.open('{')
		w.int("lastUpdateTimestamp", q.LastUpdate)
		w.int("maxOffset", q.MaxOffset)
		w.int("minOffset", q.MinOffset)
		w.end()
	}
	w.end()
	w.end()
	return w.b
}

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
func ParseConsumeStats(body []byte) (c *ConsumeStats, err error) {
	err = readBody("consume stats", body, func(r *reader) { c = r.consumeStats() })
	if err != nil {
		return nil, err
	}
	return c, nil
}

func (r *reader) consumeStats() *ConsumeStats {
	c := &ConsumeStats{}
	r.bean(func(name []byte) {
		switch string(name) {
		case "consumetps":
			r.float(&c.ConsumeTPS)
		case "offsettable":
			r.table(func(key []byte) {
				var q ConsumeQueueStats
				r.queueKey(key, &q.Queue)
				r.bean(func(name []byte) {
					switch string(name) {
					case "brokeroffset":
						r.int64(&q.BrokerOffset)
					case "consumeroffset":
						r.int64(&q.ConsumerOffset)
					case "lasttimestamp":
						r.int64(&q.LastTimestamp)
					}
				})
				c.Queues = append(c.Queues, q)
			})
		}
	})
	return c
}

// Append appends the body in the order given.
func (c *ConsumeStats) Append(dst []byte) []byte {
	w := writer{b: dst}
	w.consumeStats(c)
	return w.b
}

func (w *writer) consumeStats(c *ConsumeStats) {
	w.open('{')
	w.float("consumeTps", c.ConsumeTPS)
	w.key("offsetTable")
	w.open('{')
	for i := range c.Queues {
		q := &c.Queues[i]
		w.item()
		w.queue(&q.Queue)
		w.b = append(w.b, ':')
		w.open('{')
		w.int("brokerOffset", q.BrokerOffset)
		w.int("consumerOffset", q.ConsumerOffset)
		w.int("lastTimestamp", q.LastTimestamp)
		w.end()
	}
	w.end()
	w.end()
}

// GroupList is the body of the answer to QUERY_TOPIC_CONSUME_BY_WHO (300).
type GroupList []string

// ParseGroupList reads the body of the answer to 300.
func ParseGroupList(body []byte) (GroupList, error) {
	return readStrings("group list", "grouplist", body)
}

// Append appends the body in the order given.
func (g GroupList) Append(dst []byte) []byte { return appendStrings(dst, "groupList", g) }

// readStrings reads a body that is an object with one list of text.
func readStrings(what, member string, body []byte) (list []string, err error) {
	err = readBody(what, body, func(r *reader) {
		r.bean(func(name []byte) {
			if string(name) == member {
				list = r.strings()
			}
		})
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

func appendStrings(dst []byte, member string, list []string) []byte {
	w := writer{b: dst}
	w.open('{')
	w.strings(member, list)
	w.end()
	return w.b
}

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
	if h.IfMissing || !f.Encoding() {
		f.Bool("gomqIfMissing", &h.IfMissing, false)
	}
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
