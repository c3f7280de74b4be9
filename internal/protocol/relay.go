package protocol

import (
	"fmt"
	"time"
)

// RelayHeader is the header of the requests that a broker passes on to a consumer:
// GET_CONSUMER_RUNNING_INFO (307) and, with MsgID, CONSUME_MESSAGE_DIRECTLY (309).
// What else they carry is the consumer's business.
type RelayHeader struct {
	Group    string
	ClientID string
	MsgID    string // offset id
}

// ResetHeader is the header of INVOKE_BROKER_TO_RESET_OFFSET (222) and of
// RESET_CONSUMER_CLIENT_OFFSET (220).
type ResetHeader struct {
	Topic string
	Group string
	Time  int64 // timestamp, ms; -1 is the end of the queue
	Force bool  // also forward
	Queue int32 // queueId of 5.x: only this queue; -1 is all
	To    int64 // offset of 5.x: this one instead of a time; -1 is none
}

// StatusHeader is the header of INVOKE_BROKER_TO_GET_CONSUMER_STATUS (223) and of
// GET_CONSUMER_STATUS_FROM_CLIENT (221).
type StatusHeader struct {
	Topic    string
	Group    string
	ClientID string // clientAddr, which is a client's id: only this one; "" is all
}

// GroupTopicHeader is the header of QUERY_CONSUME_TIME_SPAN (303) and of
// QUERY_SUBSCRIPTION_BY_CONSUMER (345).
type GroupTopicHeader struct{ Group, Topic string }

// CloneHeader is the header of CLONE_GROUP_OFFSET (314).
type CloneHeader struct {
	From, To string // srcGroup, destGroup
	Topic    string // "" is all topics of From
	Offline  bool   // also topics that From does not subscribe to any more
}

// CorrectionHeader is the header of QUERY_CORRECTION_OFFSET (308).
type CorrectionHeader struct {
	Topic   string
	Compare string // compareGroup
	Without string // filterGroups, with commas between them
}

// QueueOffset is an offset of a queue.
type QueueOffset struct {
	Queue  MessageQueue
	Offset int64
}

// ResetBody is the body of 220 and of the answer to 222, and, as
// messageQueueTable, that of the answer to 221.
type ResetBody []QueueOffset

// ParseResetBody reads the body of the answer to 222.
func ParseResetBody(body []byte) (ResetBody, error) {
	return readQueueOffsets("reset offsets", "offsettable", body)
}

// ParseClientStatus reads the body of the answer to 221.
func ParseClientStatus(body []byte) (ResetBody, error) {
	return readQueueOffsets("consumer status", "messagequeuetable", body)
}

func readQueueOffsets(what, member string, body []byte) (list ResetBody, err error) {
	err = readClientBody(what, body, func(r *reader) {
		r.bean(func(name []byte) {
			if string(name) == member {
				list = r.queueOffsets()
			}
		})
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

func (r *reader) queueOffsets() (list ResetBody) {
	r.table(func(key []byte) {
		var q QueueOffset
		r.queueKey(key, &q.Queue)
		r.int64(&q.Offset)
		list = append(list, q)
	})
	return list
}

// Append appends the body in the order given, queues as keys: what Java and Go
// clients read (wire.md section 15, 8: Go takes the text apart as it is).
func (b ResetBody) Append(dst []byte) []byte {
	w := writer{b: dst}
	w.open('{')
	w.key("offsetTable")
	w.queueOffsets(b)
	w.end()
	return w.b
}

func (w *writer) queueOffsets(b ResetBody) {
	w.open('{')
	for i := range b {
		w.item()
		w.queue(&b[i].Queue)
		w.b = append(w.b, ':')
		w.b = appendInt(w.b, b[i].Offset)
	}
	w.end()
}

// AppendForC appends the body as C++ clients read it: a list (wire.md section 15,
// 9).
func (b ResetBody) AppendForC(dst []byte) []byte {
	w := writer{b: dst}
	w.open('{')
	w.key("offsetTable")
	w.open('[')
	for i := range b {
		q := &b[i]
		w.item()
		w.open('{')
		w.str("brokerName", q.Queue.BrokerName)
		w.int("offset", q.Offset)
		w.int("queueId", int64(q.Queue.QueueID))
		w.str("topic", q.Queue.Topic)
		w.end()
	}
	w.endList()
	w.end()
	return w.b
}

// ConsumerStatus is the body of the answer to 223: what each client has consumed
// up to.
type ConsumerStatus map[string]ResetBody

// ParseConsumerStatus reads the body of the answer to 223.
func ParseConsumerStatus(body []byte) (ConsumerStatus, error) {
	s := ConsumerStatus{}
	err := readBody("consumer status", body, func(r *reader) {
		r.bean(func(name []byte) {
			if string(name) == "consumertable" {
				r.table(func(key []byte) {
					id := string(key)
					s[id] = r.queueOffsets()
				})
			}
		})
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Append appends the body, clients sorted.
func (s ConsumerStatus) Append(dst []byte) []byte {
	w := writer{b: dst}
	w.open('{')
	w.key("consumerTable")
	w.open('{')
	for _, id := range sorted(s) {
		w.key(id)
		w.queueOffsets(s[id])
	}
	w.end()
	w.key("messageQueueTable")
	w.open('{')
	w.end()
	w.end()
	return w.b
}

// Corrections is the body of the answer to 308: queue to offset.
type Corrections map[int32]int64

// ParseCorrections reads the body of the answer to 308.
func ParseCorrections(body []byte) (Corrections, error) {
	c := Corrections{}
	err := readBody("offset corrections", body, func(r *reader) {
		r.bean(func(name []byte) {
			if string(name) == "correctionoffsets" {
				r.numbers(func(queue int32, offset int64) { c[queue] = offset })
			}
		})
	})
	if err != nil {
		return nil, err
	}
	return c, nil
}

// Append appends the body, queues sorted.
func (c Corrections) Append(dst []byte) []byte {
	w := writer{b: dst}
	w.open('{')
	w.key("correctionOffsets")
	w.numbers(c)
	w.end()
	return w.b
}

// Fields implements Header. The order is that in which Java sends JSON, as in the
// following.
func (h *RelayHeader) Fields(f *Fields) {
	f.String("clientId", &h.ClientID, true)
	f.String("msgId", &h.MsgID, false)
	f.String("consumerGroup", &h.Group, true)
}

// Fields implements Header.
func (h *ResetHeader) Fields(f *Fields) {
	if !f.Encoding() {
		h.Queue, h.To = -1, -1
	}
	f.String("topic", &h.Topic, true)
	f.Bool("isForce", &h.Force, false)
	f.String("group", &h.Group, true)
	f.Int64("timestamp", &h.Time, true)
	if !f.Encoding() || h.Queue >= 0 {
		f.Int32("queueId", &h.Queue, false)
		f.Int64("offset", &h.To, false)
	}
}

// Fields implements Header.
func (h *StatusHeader) Fields(f *Fields) {
	f.String("clientAddr", &h.ClientID, false)
	f.String("topic", &h.Topic, true)
	f.String("group", &h.Group, true)
}

// Fields implements Header.
func (h *GroupTopicHeader) Fields(f *Fields) {
	f.String("topic", &h.Topic, false)
	f.String("group", &h.Group, true)
}

// Fields implements Header.
func (h *CloneHeader) Fields(f *Fields) {
	f.String("srcGroup", &h.From, true)
	f.Bool("offline", &h.Offline, false)
	f.String("destGroup", &h.To, true)
	f.String("topic", &h.Topic, false)
}

// Fields implements Header.
func (h *CorrectionHeader) Fields(f *Fields) {
	f.String("compareGroup", &h.Compare, true)
	f.String("topic", &h.Topic, true)
	f.String("filterGroups", &h.Without, false)
}

// TimeSpan is one queue of TimeSpans: times of its messages in ms, -1 without one.
type TimeSpan struct {
	Queue    MessageQueue
	Min, Max int64 // of the first and the last message
	Consumed int64 // of the last one that the group has consumed
	Delay    int64 // age in ms of the next one; 0 when there is none
}

// TimeSpans is the body of the answer to 303.
type TimeSpans []TimeSpan

// ParseTimeSpans reads the body of the answer to 303.
func ParseTimeSpans(body []byte) (TimeSpans, error) {
	var t TimeSpans
	err := readBody("time spans", body, func(r *reader) {
		r.bean(func(name []byte) {
			if string(name) == "consumetimespanset" {
				r.list(func() { t = append(t, r.timeSpan()) })
			}
		})
	})
	if err != nil {
		return nil, err
	}
	return t, nil
}

func (r *reader) timeSpan() (s TimeSpan) {
	r.bean(func(name []byte) {
		switch string(name) {
		case "messagequeue":
			r.queue(&s.Queue)
		case "mintimestamp":
			r.int64(&s.Min)
		case "maxtimestamp":
			r.int64(&s.Max)
		case "consumetimestamp":
			r.int64(&s.Consumed)
		case "delaytime":
			r.int64(&s.Delay)
		}
	})
	return s
}

// Append appends the body in the order given. Beside each time stands its text in
// the local zone, which readers ignore.
func (t TimeSpans) Append(dst []byte) []byte {
	w := writer{b: dst}
	when := func(name string, ms int64) {
		w.int(name, ms)
		at := time.UnixMilli(ms)
		w.str(name+"Str", at.Format("2006-01-02#15:04:05:")+fmt.Sprintf("%03d", at.Nanosecond()/1e6))
	}
	w.open('{')
	w.key("consumeTimeSpanSet")
	w.open('[')
	for i := range t {
		s := &t[i]
		w.item()
		w.open('{')
		when("consumeTimeStamp", s.Consumed)
		w.int("delayTime", s.Delay)
		when("maxTimeStamp", s.Max)
		w.key("messageQueue")
		w.queue(&s.Queue)
		when("minTimeStamp", s.Min)
		w.end()
	}
	w.endList()
	w.end()
	return w.b
}
