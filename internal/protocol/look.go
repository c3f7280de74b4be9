package protocol

import "errors"

// MaxList is how many topics or groups one request may create.
const MaxList = 1000

// ParseTopicConfigs reads the body of UPDATE_AND_CREATE_TOPIC_LIST (18) of 5.x; at
// most MaxList topics.
func ParseTopicConfigs(body []byte) (list []TopicConfig, err error) {
	err = readConfigs("topics", "topicconfiglist", body, func(r *reader) int { list = append(list, r.topic("")); return len(list) })
	return list, err
}

// ParseGroupConfigs reads the body of UPDATE_AND_CREATE_SUBSCRIPTIONGROUP_LIST
// (225) of 5.x; at most MaxList groups.
func ParseGroupConfigs(body []byte) (list []GroupConfig, err error) {
	err = readConfigs("groups", "groupconfiglist", body, func(r *reader) int { list = append(list, r.group("")); return len(list) })
	return list, err
}

// readConfigs reads {"member":[...]}; one reads an element and says how many there
// are now.
func readConfigs(what, member string, body []byte, one func(r *reader) int) error {
	found := false
	err := readClientBody(what, body, func(r *reader) {
		r.bean(func(name []byte) {
			if string(name) != member {
				return
			}
			found = true
			r.list(func() {
				if one(r) > MaxList {
					r.fail("more than %d %s at once", MaxList, what)
				}
			})
		})
	})
	if err == nil && !found {
		err = errors.New("there is no " + member)
	}
	return err
}

// GroupHeader is the header of requests of 5.x about a whole group: 343, 352.
type GroupHeader struct{ Group string }

// SubscriptionReply is the body of the answer to QUERY_SUBSCRIPTION_BY_CONSUMER
// (345).
type SubscriptionReply struct {
	Group, Topic string
	Subscription *Subscription // nil: nobody of the group subscribes to the topic
}

// Append appends the body.
func (s *SubscriptionReply) Append(dst []byte) []byte {
	w := writer{b: dst}
	w.open('{')
	w.str("group", s.Group)
	if s.Subscription != nil {
		w.key("subscriptionData")
		w.subscription(s.Subscription)
	}
	w.str("topic", s.Topic)
	w.end()
	return w.b
}

// Producer is one client in the answer to 328.
type Producer struct {
	Connection       // ClientAddr as ip:port
	LastUpdate int64 // when its last heartbeat came, ms
}

// ProducerTable is the body of the answer to GET_ALL_PRODUCER_INFO (328): group to
// clients.
type ProducerTable map[string][]Producer

// ParseProducerTable reads the body of the answer to 328.
func ParseProducerTable(body []byte) (ProducerTable, error) {
	t := ProducerTable{}
	err := readBody("producers", body, func(r *reader) {
		r.bean(func(name []byte) {
			if string(name) != "data" {
				return
			}
			r.table(func(key []byte) {
				group := string(key)
				t[group] = nil
				r.list(func() { t[group] = append(t[group], r.producer()) })
			})
		})
	})
	if err != nil {
		return nil, err
	}
	return t, nil
}

func (r *reader) producer() (p Producer) {
	r.bean(func(name []byte) {
		switch string(name) {
		case "clientid":
			r.str(&p.ClientID)
		case "remoteip":
			if r.str(&p.ClientAddr); p.ClientAddr != "" && p.ClientAddr[0] == '/' {
				p.ClientAddr = p.ClientAddr[1:]
			}
		case "language":
			var language string
			r.enum(&language, languages[:])
			p.Language = languageOf([]byte(language))
		case "version":
			r.int32(&p.Version)
		case "lastupdatetimestamp":
			r.int64(&p.LastUpdate)
		}
	})
	return p
}

// Append appends the body, groups sorted.
func (t ProducerTable) Append(dst []byte) []byte {
	w := writer{b: dst}
	w.open('{')
	w.key("data")
	w.open('{')
	for _, group := range sorted(t) {
		w.key(group)
		w.open('[')
		for i := range t[group] {
			p := &t[group][i]
			w.item()
			w.open('{')
			w.str("clientId", p.ClientID)
			w.str("language", p.Language.String())
			w.int("lastUpdateTimestamp", p.LastUpdate)
			w.str("remoteIP", "/"+p.ClientAddr) // the text of Java's socket addresses
			w.int("version", int64(p.Version))
			w.end()
		}
		w.endList()
	}
	w.end()
	w.end()
	return w.b
}

// BrokerStatsHeader is the header of GET_BROKER_CONSUME_STATS (317).
type BrokerStatsHeader struct {
	Ordered bool // isOrder: only topics that are ordered
}

// GroupStats is one group of BrokerStats: a ConsumeStats for each of its topics.
type GroupStats struct {
	Group  string
	Topics []ConsumeStats
}

// BrokerStats is the body of the answer to 317.
type BrokerStats struct {
	BrokerAddr string
	Groups     []GroupStats
	TotalDiff  int64 // messages that are stored and not consumed
}

// ParseBrokerStats reads the body of the answer to 317.
func ParseBrokerStats(body []byte) (*BrokerStats, error) {
	b := &BrokerStats{}
	err := readBody("broker consume stats", body, func(r *reader) {
		r.bean(func(name []byte) {
			switch string(name) {
			case "brokeraddr":
				r.str(&b.BrokerAddr)
			case "totaldiff":
				r.int64(&b.TotalDiff)
			case "consumestatslist":
				r.list(func() {
					r.table(func(key []byte) {
						g := GroupStats{Group: string(key)}
						r.list(func() { g.Topics = append(g.Topics, *r.consumeStats()) })
						b.Groups = append(b.Groups, g)
					})
				})
			}
		})
	})
	if err != nil {
		return nil, err
	}
	return b, nil
}

// Append appends the body in the order given.
func (b *BrokerStats) Append(dst []byte) []byte {
	w := writer{b: dst}
	w.open('{')
	w.str("brokerAddr", b.BrokerAddr)
	w.key("consumeStatsList")
	w.open('[')
	for i := range b.Groups {
		g := &b.Groups[i]
		w.item()
		w.open('{')
		w.key(g.Group)
		w.open('[')
		for k := range g.Topics {
			w.item()
			w.consumeStats(&g.Topics[k])
		}
		w.endList()
		w.end()
	}
	w.endList()
	w.int("totalDiff", b.TotalDiff)
	w.end()
	return w.b
}

// ViewStatsHeader is the header of VIEW_BROKER_STATS_DATA (315).
type ViewStatsHeader struct {
	Name string // statsName
	Key  string // statsKey
}

// StatsItem is a count over a span: Sum in all, PerSecond (tps) and PerCall
// (avgpt).
type StatsItem struct {
	Sum                int64
	PerSecond, PerCall float64
}

// StatsView is the body of the answer to 315.
type StatsView struct{ Minute, Hour, Day StatsItem }

// ParseStatsView reads the body of the answer to 315.
func ParseStatsView(body []byte) (StatsView, error) {
	var v StatsView
	err := readBody("statistics", body, func(r *reader) {
		r.bean(func(name []byte) {
			switch string(name) {
			case "statsminute":
				r.statsItem(&v.Minute)
			case "statshour":
				r.statsItem(&v.Hour)
			case "statsday":
				r.statsItem(&v.Day)
			}
		})
	})
	return v, err
}

func (r *reader) statsItem(s *StatsItem) {
	r.bean(func(name []byte) {
		switch string(name) {
		case "sum":
			r.int64(&s.Sum)
		case "tps":
			r.float(&s.PerSecond)
		case "avgpt":
			r.float(&s.PerCall)
		}
	})
}

// Append appends the body.
func (v StatsView) Append(dst []byte) []byte {
	w := writer{b: dst}
	item := func(name string, s StatsItem) {
		w.key(name)
		w.open('{')
		w.float("avgpt", s.PerCall)
		w.int("sum", s.Sum)
		w.float("tps", s.PerSecond)
		w.end()
	}
	w.open('{')
	item("statsDay", v.Day)
	item("statsHour", v.Hour)
	item("statsMinute", v.Minute)
	w.end()
	return w.b
}

// QueueViewHeader is the header of QUERY_CONSUME_QUEUE (321).
type QueueViewHeader struct {
	Topic   string
	QueueID int32
	Index   int64 // the first entry
	Count   int32
	Group   string // consumerGroup: also how it subscribes; "" is none
}

// QueueEntry is an entry of a queue as it lies on the disk.
type QueueEntry struct {
	Offset   int64 // physicOffset, in the log
	Size     int32 // physicSize
	TagsCode int64
}

// QueueView is the body of the answer to 321.
type QueueView struct {
	Filter       string // filterData; "" is left out
	Min, Max     int64
	Entries      []QueueEntry
	Subscription *Subscription // nil is left out
}

// ParseQueueView reads the body of the answer to 321.
func ParseQueueView(body []byte) (*QueueView, error) {
	v := &QueueView{}
	err := readBody("queue", body, func(r *reader) {
		r.bean(func(name []byte) {
			switch string(name) {
			case "filterdata":
				r.str(&v.Filter)
			case "minqueueindex":
				r.int64(&v.Min)
			case "maxqueueindex":
				r.int64(&v.Max)
			case "queuedata":
				r.list(func() { v.Entries = append(v.Entries, r.queueEntry()) })
			case "subscriptiondata":
				s := r.subscription()
				v.Subscription = &s
			}
		})
	})
	if err != nil {
		return nil, err
	}
	return v, nil
}

func (r *reader) queueEntry() (e QueueEntry) {
	r.bean(func(name []byte) {
		switch string(name) {
		case "physicoffset":
			r.int64(&e.Offset)
		case "physicsize":
			r.int32(&e.Size)
		case "tagscode":
			r.int64(&e.TagsCode)
		}
	})
	return e
}

// Append appends the body. eval is false as in the original, which evaluates only
// entries with an extension file, and gomq has none.
func (v *QueueView) Append(dst []byte) []byte {
	w := writer{b: dst}
	w.open('{')
	w.optional("filterData", v.Filter)
	w.int("maxQueueIndex", v.Max)
	w.int("minQueueIndex", v.Min)
	w.key("queueData")
	w.open('[')
	for i := range v.Entries {
		e := &v.Entries[i]
		w.item()
		w.open('{')
		w.bool("eval", false)
		w.int("physicOffset", e.Offset)
		w.int("physicSize", int64(e.Size))
		w.int("tagsCode", e.TagsCode)
		w.end()
	}
	w.endList()
	if v.Subscription != nil {
		w.key("subscriptionData")
		w.subscription(v.Subscription)
	}
	w.end()
	return w.b
}

// Fields implements Header.
func (h *GroupHeader) Fields(f *Fields) { f.String("group", &h.Group, true) }

// Fields implements Header.
func (h *BrokerStatsHeader) Fields(f *Fields) { f.Bool("isOrder", &h.Ordered, false) }

// Fields implements Header.
func (h *ViewStatsHeader) Fields(f *Fields) {
	f.String("statsName", &h.Name, true)
	f.String("statsKey", &h.Key, true)
}

// Fields implements Header.
func (h *QueueViewHeader) Fields(f *Fields) {
	f.Int32("queueId", &h.QueueID, true)
	f.Int32("count", &h.Count, true)
	f.String("topic", &h.Topic, true)
	f.Int64("index", &h.Index, true)
	f.String("consumerGroup", &h.Group, false)
}
