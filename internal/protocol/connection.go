package protocol

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
func ParseConsumerIDs(body []byte) (ConsumerIDs, error) {
	return readStrings("consumer list", "consumeridlist", body)
}

// Append appends the body.
func (c ConsumerIDs) Append(dst []byte) []byte { return appendStrings(dst, "consumerIdList", c) }

// ClientCheck is the body of CHECK_CLIENT_CONFIG (46).
type ClientCheck struct {
	ClientID     string
	Group        string
	Subscription Subscription
}

// ParseClientCheck reads the body of 46.
func ParseClientCheck(body []byte) (ClientCheck, error) {
	var c ClientCheck
	err := readClientBody("client check", body, func(r *reader) {
		r.bean(func(name []byte) {
			switch string(name) {
			case "clientid":
				r.str(&c.ClientID)
			case "group":
				r.str(&c.Group)
			case "subscriptiondata":
				c.Subscription = r.subscription()
			}
		})
	})
	return c, err
}

// Append appends the body.
func (c *ClientCheck) Append(dst []byte) []byte {
	w := writer{b: dst}
	w.open('{')
	w.str("clientId", c.ClientID)
	w.str("group", c.Group)
	w.key("subscriptionData")
	w.subscription(&c.Subscription)
	w.end()
	return w.b
}

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
func ParseConsumerConnection(body []byte) (*ConsumerConnection, error) {
	c := &ConsumerConnection{}
	err := readBody("consumer connections", body, func(r *reader) {
		r.bean(func(name []byte) {
			switch string(name) {
			case "connectionset":
				c.Connections = r.connections()
			case "consumetype":
				r.enum(&c.ConsumeType, consumeTypes)
			case "messagemodel":
				r.enum(&c.MessageModel, messageModels)
			case "consumefromwhere":
				r.enum(&c.ConsumeFromWhere, consumeFroms)
			case "subscriptiontable":
				c.Subscriptions = map[string]Subscription{}
				r.table(func(key []byte) {
					topic := string(key)
					c.Subscriptions[topic] = r.subscription()
				})
			}
		})
	})
	if err != nil {
		return nil, err
	}
	return c, nil
}

func (r *reader) connections() (list []Connection) {
	r.list(func() {
		var c Connection
		r.bean(func(name []byte) {
			switch string(name) {
			case "clientid":
				r.str(&c.ClientID)
			case "clientaddr":
				r.str(&c.ClientAddr)
			case "language":
				var language string
				r.enum(&language, languages[:])
				c.Language = languageOf([]byte(language))
			case "version":
				r.int32(&c.Version)
			}
		})
		list = append(list, c)
	})
	return list
}

func (w *writer) connections(list []Connection) {
	w.key("connectionSet")
	w.open('[')
	for i := range list {
		c := &list[i]
		w.item()
		w.open('{')
		w.str("clientAddr", c.ClientAddr)
		w.str("clientId", c.ClientID)
		w.str("language", c.Language.String())
		w.int("version", int64(c.Version))
		w.end()
	}
	w.endList()
}

// Append appends the body, topics sorted.
func (c *ConsumerConnection) Append(dst []byte) []byte {
	w := writer{b: dst}
	w.open('{')
	w.connections(c.Connections)
	w.optional("consumeFromWhere", c.ConsumeFromWhere)
	w.optional("consumeType", c.ConsumeType)
	w.optional("messageModel", c.MessageModel)
	w.key("subscriptionTable")
	w.open('{')
	for _, topic := range sorted(c.Subscriptions) {
		s := c.Subscriptions[topic]
		w.key(topic)
		w.subscription(&s)
	}
	w.end()
	w.end()
	return w.b
}

// ProducerConnection is the body of the answer to 204.
type ProducerConnection []Connection

// ParseProducerConnection reads the body of the answer to 204.
func ParseProducerConnection(body []byte) (list ProducerConnection, err error) {
	err = readBody("producer connections", body, func(r *reader) {
		r.bean(func(name []byte) {
			if string(name) == "connectionset" {
				list = r.connections()
			}
		})
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

// Append appends the body.
func (c ProducerConnection) Append(dst []byte) []byte {
	w := writer{b: dst}
	w.open('{')
	w.connections(c)
	w.end()
	return w.b
}

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
