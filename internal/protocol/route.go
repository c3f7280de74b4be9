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
func ParseRouteData(body []byte) (*RouteData, error) {
	d := &RouteData{}
	err := readBody("route", body, func(r *reader) {
		r.bean(func(name []byte) {
			switch string(name) {
			case "ordertopicconf":
				r.str(&d.OrderTopicConf)
			case "queuedatas":
				d.Queues = nil
				r.list(func() { d.Queues = append(d.Queues, r.queueData()) })
			case "brokerdatas":
				d.Brokers = nil
				r.list(func() { d.Brokers = append(d.Brokers, r.brokerData()) })
			case "filterservertable":
				d.FilterServers = map[string][]string{}
				r.table(func(key []byte) {
					addr := string(key)
					d.FilterServers[addr] = r.strings()
				})
			}
		})
	})
	if err != nil {
		return nil, err
	}
	return d, nil
}

func (r *reader) queueData() (q QueueData) {
	r.bean(func(name []byte) {
		switch string(name) {
		case "brokername":
			r.str(&q.BrokerName)
		case "readqueuenums":
			r.int32(&q.ReadQueueNums)
		case "writequeuenums":
			r.int32(&q.WriteQueueNums)
		case "perm":
			r.int32(&q.Perm)
		case "topicsysflag", "topicsynflag": // 4.5 spells it with n
			r.int32(&q.TopicSysFlag)
		}
	})
	return q
}

func (r *reader) brokerData() (b BrokerData) {
	r.bean(func(name []byte) {
		switch string(name) {
		case "cluster":
			r.str(&b.Cluster)
		case "brokername":
			r.str(&b.BrokerName)
		case "brokeraddrs":
			b.Addrs = map[int64]string{}
			r.table(func(key []byte) {
				id, ok := atoi(key)
				if !ok {
					r.fail("the broker id %.40q is no number", key)
					return
				}
				var addr string
				r.str(&addr)
				b.Addrs[id] = addr
			})
		}
	})
	return b
}

// Append appends the body: standard JSON, or the older dialect with bare broker
// ids. Queues and brokers keep their order, maps are sorted. topicSysFlag is
// written under the name of 4.5, topicSynFlag, as well (wire.md section 15.1).
func (d *RouteData) Append(dst []byte, standard bool) []byte {
	w := writer{b: dst, standard: standard}
	w.open('{')
	w.key("brokerDatas")
	w.open('[')
	for i := range d.Brokers {
		w.item()
		w.broker(&d.Brokers[i])
	}
	w.endList()
	w.key("filterServerTable")
	w.open('{')
	for _, addr := range sorted(d.FilterServers) {
		w.strings(addr, d.FilterServers[addr])
	}
	w.end()
	w.optional("orderTopicConf", d.OrderTopicConf)
	w.key("queueDatas")
	w.open('[')
	for i := range d.Queues {
		q := &d.Queues[i]
		w.item()
		w.open('{')
		w.str("brokerName", q.BrokerName)
		w.int("perm", int64(q.Perm))
		w.int("readQueueNums", int64(q.ReadQueueNums))
		w.int("topicSynFlag", int64(q.TopicSysFlag))
		w.int("topicSysFlag", int64(q.TopicSysFlag))
		w.int("writeQueueNums", int64(q.WriteQueueNums))
		w.end()
	}
	w.endList()
	w.end()
	return w.b
}

func (w *writer) broker(b *BrokerData) {
	w.open('{')
	w.key("brokerAddrs")
	w.open('{')
	for _, id := range sorted(b.Addrs) {
		w.number(id)
		w.text(b.Addrs[id])
	}
	w.end()
	w.str("brokerName", b.BrokerName)
	w.str("cluster", b.Cluster)
	w.end()
}

// Fields implements Header.
func (h *RouteHeader) Fields(f *Fields) {
	f.String("topic", &h.Topic, true)
	if !f.Encoding() || h.AcceptStandardJSON {
		f.Bool("acceptStandardJsonOnly", &h.AcceptStandardJSON, false)
	}
}
