package protocol

// RouteHeader is the header of GET_ROUTEINFO_BY_TOPIC (105). See StandardRoute
// for the form of the answer.
type RouteHeader struct {
	Topic              string
	AcceptStandardJSON bool // acceptStandardJsonOnly
}

// StandardRoute says whether a peer of that version is answered 105 in standard
// JSON rather than in the older dialect (wire.md section 14.3).
func StandardRoute(version int32, h *RouteHeader) bool {
	return version >= 401 || h.AcceptStandardJSON
}

// RouteData is TopicRouteData, the body of the answer to 105: who serves a topic.
type RouteData struct {
	OrderTopicConf string // left out when ""
	Queues         []QueueData
	Brokers        []BrokerData
	FilterServers  map[string][]string // broker address to its filter servers
}

// QueueData is what one broker has of a topic.
type QueueData struct {
	BrokerName     string
	ReadQueueNums  int32
	WriteQueueNums int32
	Perm           int32
	TopicSysFlag   int32
}

// BrokerData is the addresses of one broker name, by broker id; 0 is the master.
type BrokerData struct {
	Cluster    string
	BrokerName string
	Addrs      map[int64]string
}

// ParseRouteData reads the body in either form.
func ParseRouteData(body []byte) (*RouteData, error) { panic("not yet") }

// Append appends the body: standard JSON, or the older dialect with bare broker
// ids. Queues and brokers keep their order, maps are sorted.
func (r *RouteData) Append(dst []byte, standard bool) []byte { panic("not yet") }

// ClusterInfo is the body of the answer to GET_BROKER_CLUSTER_INFO (106).
type ClusterInfo struct {
	Brokers  map[string]BrokerData // by broker name
	Clusters map[string][]string   // cluster to broker names
}

// ParseClusterInfo reads the body of the answer to 106.
func ParseClusterInfo(body []byte) (*ClusterInfo, error) { panic("not yet") }

// Append appends the body, keys and broker names sorted, broker ids bare in
// every version.
func (c *ClusterInfo) Append(dst []byte) []byte { panic("not yet") }

// BrokerNameHeader is the header of WIPE_WRITE_PERM_OF_BROKER (205) and
// ADD_WRITE_PERM_OF_BROKER (327).
type BrokerNameHeader struct{ BrokerName string }

// WipePermReply is the answer to 205: how many topics changed.
type WipePermReply struct{ Topics int32 }

// AddPermReply is the answer to 327: how many topics changed.
type AddPermReply struct{ Topics int32 }

// ClusterHeader is the header of GET_TOPICS_BY_CLUSTER (224).
type ClusterHeader struct{ Cluster string }

// TopicList is the body of the answers to 206, 224, 304, 305, 311, 312 and 313.
type TopicList struct {
	Topics     []string
	BrokerAddr string // only with 304: whom to ask for the rest; left out when ""
}

// ParseTopicList reads the body.
func ParseTopicList(body []byte) (TopicList, error) { panic("not yet") }

// Append appends the body in the order given.
func (t TopicList) Append(dst []byte) []byte { panic("not yet") }

// Fields implements Header.
func (h *RouteHeader) Fields(f *Fields) {
	f.String("topic", &h.Topic, true)
	if !f.Encoding() || h.AcceptStandardJSON {
		f.Bool("acceptStandardJsonOnly", &h.AcceptStandardJSON, false)
	}
}

// Fields implements Header.
func (h *BrokerNameHeader) Fields(f *Fields) { f.String("brokerName", &h.BrokerName, true) }

// Fields implements Header.
func (h *WipePermReply) Fields(f *Fields) { f.Int32("wipeTopicCount", &h.Topics, true) }

// Fields implements Header.
func (h *AddPermReply) Fields(f *Fields) { f.Int32("addTopicCount", &h.Topics, true) }

// Fields implements Header.
func (h *ClusterHeader) Fields(f *Fields) { f.String("cluster", &h.Cluster, true) }
