package protocol

// DataVersion tells one state of a table from another (wire.md section 18).
type DataVersion struct {
	Timestamp int64 // ms
	Counter   int64
}

// TopicConfig is a topic as topics.json and registrations have it.
type TopicConfig struct {
	TopicName       string
	ReadQueueNums   int32
	WriteQueueNums  int32
	Perm            int32
	TopicFilterType string // SINGLE_TAG, MULTI_TAG
	TopicSysFlag    int32
	Order           bool
}

// GroupConfig is a subscription group as subscriptionGroup.json has it.
type GroupConfig struct {
	GroupName                      string
	ConsumeEnable                  bool
	ConsumeFromMinEnable           bool
	ConsumeBroadcastEnable         bool
	RetryQueueNums                 int32
	RetryMaxTimes                  int32
	BrokerID                       int64
	WhichBrokerWhenConsumeSlowly   int64
	NotifyConsumerIdsChangedEnable bool
}

// ParseTopicTable reads topics.json or the body of GET_ALL_TOPIC_CONFIG (21).
func ParseTopicTable(b []byte) (map[string]TopicConfig, DataVersion, error) { panic("not yet") }

// PrettyTopicTable is the text of topics.json as 4.9.7 writes it, topics sorted.
func PrettyTopicTable(t map[string]*TopicConfig, v DataVersion) []byte { panic("not yet") }

// AppendTopicTable appends the compact form, the body of 21, topics sorted.
func AppendTopicTable(dst []byte, t map[string]*TopicConfig, v DataVersion) []byte { panic("not yet") }

// ParseGroupTable reads subscriptionGroup.json or the body of 201.
func ParseGroupTable(b []byte) (map[string]GroupConfig, DataVersion, error) { panic("not yet") }

// PrettyGroupTable is the text of subscriptionGroup.json as 4.9.7 writes it.
func PrettyGroupTable(t map[string]*GroupConfig, v DataVersion) []byte { panic("not yet") }

// AppendGroupTable appends the compact form, the body of 201.
func AppendGroupTable(dst []byte, t map[string]*GroupConfig, v DataVersion) []byte { panic("not yet") }

// ParseGroup reads the body of UPDATE_AND_CREATE_SUBSCRIPTIONGROUP (200); what is
// missing has the original's default.
func ParseGroup(b []byte) (GroupConfig, error) { panic("not yet") }
