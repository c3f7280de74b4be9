package protocol

import (
	"fmt"
	"strconv"
)

// Heartbeat is the body of HEART_BEAT (34): who lives behind a connection
// (wire.md section 15 item 16, dialects in section 21).
type Heartbeat struct {
	ClientID  string
	Producers []string // group names
	Consumers []ConsumerBeat
}

// ConsumerBeat is one consumer group of a Heartbeat. Enums are their Java names,
// also when the peer sent ordinals (C++); what is missing or unknown is "".
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

// MaxClientBody is how many bytes a heartbeat and the other bodies of clients may
// have: a hostile one takes some twenty times as many in memory. A client with a
// thousand topics sends 200 KB.
const MaxClientBody = 4 << 20

// The enums of a heartbeat, by Java's ordinals.
var (
	consumeTypes  = []string{"CONSUME_ACTIVELY", "CONSUME_PASSIVELY", "CONSUME_POP"}
	messageModels = []string{"BROADCASTING", "CLUSTERING"}
	consumeFroms  = []string{"CONSUME_FROM_LAST_OFFSET", "CONSUME_FROM_LAST_OFFSET_AND_FROM_MIN_WHEN_BOOT_FIRST",
		"CONSUME_FROM_MIN_OFFSET", "CONSUME_FROM_MAX_OFFSET", "CONSUME_FROM_FIRST_OFFSET", "CONSUME_FROM_TIMESTAMP"}
)

// ParseHeartbeat reads the body of a heartbeat in any client's dialect. Groups
// and topics without a name are left out.
func ParseHeartbeat(body []byte) (*Heartbeat, error) {
	h := &Heartbeat{}
	err := readClientBody("heartbeat", body, func(r *reader) {
		r.bean(func(name []byte) {
			switch string(name) {
			case "clientid":
				r.str(&h.ClientID)
			case "producerdataset":
				h.Producers = nil
				r.list(func() {
					var group string
					r.bean(func(name []byte) {
						if string(name) == "groupname" {
							r.str(&group)
						}
					})
					if group != "" {
						h.Producers = append(h.Producers, group)
					}
				})
			case "consumerdataset":
				h.Consumers = nil
				r.list(func() {
					if c := r.consumerBeat(); c.GroupName != "" {
						h.Consumers = append(h.Consumers, c)
					}
				})
			}
		})
	})
	if err != nil {
		return nil, err
	}
	return h, nil
}

func readClientBody(what string, body []byte, f func(r *reader)) error {
	if len(body) > MaxClientBody {
		return fmt.Errorf("%s: %d bytes, allowed are %d", what, len(body), MaxClientBody)
	}
	return readBody(what, body, f)
}

func (r *reader) consumerBeat() (c ConsumerBeat) {
	r.bean(func(name []byte) {
		switch string(name) {
		case "groupname":
			r.str(&c.GroupName)
		case "consumetype":
			r.enum(&c.ConsumeType, consumeTypes)
		case "messagemodel":
			r.enum(&c.MessageModel, messageModels)
		case "consumefromwhere":
			r.enum(&c.ConsumeFromWhere, consumeFroms)
		case "unitmode":
			r.bool(&c.UnitMode)
		case "subscriptiondataset":
			c.Subscriptions = nil
			r.list(func() {
				if s := r.subscription(); s.Topic != "" {
					c.Subscriptions = append(c.Subscriptions, s)
				}
			})
		}
	})
	return c
}

func (r *reader) subscription() (s Subscription) {
	r.bean(func(name []byte) {
		switch string(name) {
		case "topic":
			r.str(&s.Topic)
		case "substring":
			r.str(&s.SubString)
		case "tagsset":
			s.TagsSet = r.strings()
		case "codeset":
			s.CodeSet = nil
			r.list(func() {
				var code int32
				r.int32(&code)
				s.CodeSet = append(s.CodeSet, code)
			})
		case "subversion":
			r.int64(&s.SubVersion)
		case "expressiontype":
			r.str(&s.ExpressionType)
		case "classfiltermode":
			r.bool(&s.ClassFilterMode)
		}
	})
	return s
}

// Append appends the body as a Java 4.9.8 client sends it.
func (h *Heartbeat) Append(dst []byte) []byte {
	w := writer{b: dst}
	w.open('{')
	w.str("clientID", h.ClientID)
	w.key("consumerDataSet")
	w.open('[')
	for i := range h.Consumers {
		c := &h.Consumers[i]
		w.item()
		w.open('{')
		w.optional("consumeFromWhere", c.ConsumeFromWhere)
		w.optional("consumeType", c.ConsumeType)
		w.str("groupName", c.GroupName)
		w.optional("messageModel", c.MessageModel)
		w.key("subscriptionDataSet")
		w.open('[')
		for j := range c.Subscriptions {
			w.item()
			w.subscription(&c.Subscriptions[j])
		}
		w.endList()
		w.bool("unitMode", c.UnitMode)
		w.end()
	}
	w.endList()
	w.key("producerDataSet")
	w.open('[')
	for _, group := range h.Producers {
		w.item()
		w.open('{')
		w.str("groupName", group)
		w.end()
	}
	w.endList()
	w.end()
	return w.b
}

func (w *writer) subscription(s *Subscription) {
	w.open('{')
	w.bool("classFilterMode", s.ClassFilterMode)
	w.key("codeSet")
	w.open('[')
	for _, code := range s.CodeSet {
		w.item()
		w.b = strconv.AppendInt(w.b, int64(code), 10)
	}
	w.endList()
	w.optional("expressionType", s.ExpressionType)
	w.str("subString", s.SubString)
	w.int("subVersion", s.SubVersion)
	w.strings("tagsSet", s.TagsSet)
	w.str("topic", s.Topic)
	w.end()
}
