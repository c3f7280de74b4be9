package protocol

import "slices"

// ClusterInfo is the body of the answer to GET_BROKER_CLUSTER_INFO (106).
type ClusterInfo struct {
	Brokers  map[string]BrokerData // by broker name
	Clusters map[string][]string   // cluster to broker names
}

// ParseClusterInfo reads the body of the answer to 106.
func ParseClusterInfo(body []byte) (*ClusterInfo, error) {
	c := &ClusterInfo{Brokers: map[string]BrokerData{}, Clusters: map[string][]string{}}
	err := readBody("cluster info", body, func(r *reader) {
		r.bean(func(name []byte) {
			switch string(name) {
			case "brokeraddrtable":
				r.table(func(key []byte) {
					broker := string(key)
					c.Brokers[broker] = r.brokerData()
				})
			case "clusteraddrtable":
				r.table(func(key []byte) {
					cluster := string(key)
					c.Clusters[cluster] = r.strings()
				})
			}
		})
	})
	if err != nil {
		return nil, err
	}
	return c, nil
}

// Append appends the body, keys and broker names sorted, broker ids bare in
// every version.
func (c *ClusterInfo) Append(dst []byte) []byte {
	w := writer{b: dst}
	w.open('{')
	w.key("brokerAddrTable")
	w.open('{')
	for _, name := range sorted(c.Brokers) {
		b := c.Brokers[name]
		w.key(name)
		w.broker(&b)
	}
	w.end()
	w.key("clusterAddrTable")
	w.open('{')
	for _, name := range sorted(c.Clusters) {
		w.strings(name, slices.Sorted(slices.Values(c.Clusters[name])))
	}
	w.end()
	w.end()
	return w.b
}

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
func ParseTopicList(body []byte) (t TopicList, err error) {
	err = readBody("topic list", body, func(r *reader) {
		r.bean(func(name []byte) {
			switch string(name) {
			case "topiclist":
				t.Topics = r.strings()
			case "brokeraddr":
				r.str(&t.BrokerAddr)
			}
		})
	})
	if err != nil {
		return TopicList{}, err
	}
	return t, nil
}

// Append appends the body in the order given.
func (t TopicList) Append(dst []byte) []byte {
	w := writer{b: dst}
	w.open('{')
	w.optional("brokerAddr", t.BrokerAddr)
	w.strings("topicList", t.Topics)
	w.end()
	return w.b
}

// Fields implements Header.
func (h *BrokerNameHeader) Fields(f *Fields) { f.String("brokerName", &h.BrokerName, true) }

// Fields implements Header.
func (h *WipePermReply) Fields(f *Fields) { f.Int32("wipeTopicCount", &h.Topics, true) }

// Fields implements Header.
func (h *AddPermReply) Fields(f *Fields) { f.Int32("addTopicCount", &h.Topics, true) }

// Fields implements Header.
func (h *ClusterHeader) Fields(f *Fields) { f.String("cluster", &h.Cluster, true) }
