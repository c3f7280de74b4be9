package protocol

// Heartbeat is the body of HEART_BEAT (34): who lives behind a connection
// (wire.md section 15 item 16, dialects in section 21).
type Heartbeat struct {
	ClientID  string
	Producers []string // group names
	Consumers []ConsumerBeat
}

// ConsumerBeat is one consumer group of a Heartbeat. Enums are their Java names,
// also when the peer sent ordinals (C++); a name nobody knows is kept, what is
// missing is "".
type ConsumerBeat struct {
	GroupName        string
	ConsumeType      string // CONSUME_ACTIVELY (pull), CONSUME_PASSIVELY (push)
	MessageModel     string // BROADCASTING, CLUSTERING
	ConsumeFromWhere string // CONSUME_FROM_LAST_OFFSET, ...
	UnitMode         bool
	Subscriptions    []Subscription
}

// Subscription is SubscriptionData: what a consumer wants of one topic.
type Subscription struct {
	Topic           string
	SubString       string   // the expression
	TagsSet         []string // of a tag expression
	CodeSet         []int32  // Java's String.hashCode of each tag
	SubVersion      int64    // rises when the consumer subscribes anew; ms, or ns from Go
	ExpressionType  string   // TAG, SQL92; "" (C++, Node) means TAG
	ClassFilterMode bool
}

// ParseHeartbeat reads the body of a heartbeat in any client's dialect.
func ParseHeartbeat(body []byte) (*Heartbeat, error) { panic("not yet") }

// Append appends the body as a Java 4.9.8 client sends it.
func (h *Heartbeat) Append(dst []byte) []byte { panic("not yet") }

// UnregisterClientHeader is the header of UNREGISTER_CLIENT (35): the client
// leaves the groups that are not empty.
type UnregisterClientHeader struct{ ClientID, ProducerGroup, ConsumerGroup string }

// ConsumerGroupHeader is the header of GET_CONSUMER_LIST_BY_GROUP (38),
// NOTIFY_CONSUMER_IDS_CHANGED (40) and GET_CONSUMER_CONNECTION_LIST (203).
type ConsumerGroupHeader struct{ Group string }

// ProducerGroupHeader is the header of GET_PRODUCER_CONNECTION_LIST (204).
type ProducerGroupHeader struct{ Group string }

// NoFields is the header of an answer that has none: JSON then says
// "extFields":{}, as the original does where a handler declares a header class.
type NoFields struct{}

// ConsumerIDs is the body of the answer to 38: the clients of a group.
type ConsumerIDs []string

// ParseConsumerIDs reads the body of the answer to 38.
func ParseConsumerIDs(body []byte) (ConsumerIDs, error) { panic("not yet") }

// Append appends the body.
func (c ConsumerIDs) Append(dst []byte) []byte { panic("not yet") }

// ClientCheck is the body of CHECK_CLIENT_CONFIG (46).
type ClientCheck struct {
	ClientID     string
	Group        string
	Subscription Subscription
}

// ParseClientCheck reads the body of 46.
func ParseClientCheck(body []byte) (ClientCheck, error) { panic("not yet") }

// Append appends the body.
func (c *ClientCheck) Append(dst []byte) []byte { panic("not yet") }

// Connection is one client in the answers to 203 and 204.
type Connection struct {
	ClientID   string
	ClientAddr string // ip:port
	Language   Language
	Version    int32
}

// ConsumerConnection is the body of the answer to 203.
type ConsumerConnection struct {
	Connections                                 []Connection
	ConsumeType, MessageModel, ConsumeFromWhere string // as in ConsumerBeat; "" is left out
	Subscriptions                               map[string]Subscription
}

// ParseConsumerConnection reads the body of the answer to 203.
func ParseConsumerConnection(body []byte) (*ConsumerConnection, error) { panic("not yet") }

// Append appends the body, topics sorted.
func (c *ConsumerConnection) Append(dst []byte) []byte { panic("not yet") }

// ProducerConnection is the body of the answer to 204.
type ProducerConnection []Connection

// ParseProducerConnection reads the body of the answer to 204.
func ParseProducerConnection(body []byte) (ProducerConnection, error) { panic("not yet") }

// Append appends the body.
func (c ProducerConnection) Append(dst []byte) []byte { panic("not yet") }

// MessageQueue is a queue of a topic on a broker.
type MessageQueue struct {
	Topic, BrokerName string
	QueueID           int32
}

// LockBatch is the body of LOCK_BATCH_MQ (41) and UNLOCK_BATCH_MQ (42).
type LockBatch struct {
	Group    string // consumerGroup
	ClientID string
	Queues   []MessageQueue // mqSet
}

// ParseLockBatch reads the body of 41 or 42; without mqSet (C++ leaves out an
// empty one) there are no queues.
func ParseLockBatch(body []byte) (*LockBatch, error) { panic("not yet") }

// Append appends the body.
func (l *LockBatch) Append(dst []byte) []byte { panic("not yet") }

// LockedQueues is the body of the answer to 41: what is locked now.
type LockedQueues []MessageQueue

// ParseLockedQueues reads the body of the answer to 41.
func ParseLockedQueues(body []byte) (LockedQueues, error) { panic("not yet") }

// Append appends the body.
func (l LockedQueues) Append(dst []byte) []byte { panic("not yet") }

// Fields implements Header.
func (h *UnregisterClientHeader) Fields(f *Fields) {
	f.String("clientID", &h.ClientID, true)
	f.String("producerGroup", &h.ProducerGroup, false)
	f.String("consumerGroup", &h.ConsumerGroup, false)
}

// Fields implements Header.
func (h *ConsumerGroupHeader) Fields(f *Fields) { f.String("consumerGroup", &h.Group, true) }

// Fields implements Header.
func (h *ProducerGroupHeader) Fields(f *Fields) { f.String("producerGroup", &h.Group, true) }

// Fields implements Header.
func (*NoFields) Fields(*Fields) {}
