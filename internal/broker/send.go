package broker

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strconv"
	"sync/atomic"
	"time"

	"gomq/internal/broker/meta"
	"gomq/internal/message"
	"gomq/internal/protocol"
	"gomq/internal/remoting"
	"gomq/internal/store"
)

// sender takes messages: SEND_MESSAGE (10), SEND_MESSAGE_V2 (310) and
// SEND_BATCH_MESSAGE (320). A request is checked and staged when its Turn
// reaches it; finish, at the end of the Turn, decides admission, appends all of
// the Turn's messages at once and answers.
type sender struct {
	o       *options
	store   *store.Store
	topics  *meta.Topics
	groups  *meta.Groups
	create  *topicMaker
	waiting atomic.Int64 // answers that wait for flush or replica
	storeAt netip.AddrPort
	stats   *stats
}

// staged is a request whose messages lie in the Turn's batch.
type staged struct {
	call  *remoting.Call
	first int // in the batch
	n     int
	queue int32
	topic *protocol.TopicConfig
	wait  bool // the producer wants flush and replica before the answer (WAIT, true by default)
	batch bool // answered with the ids of all n
}

// desk is the state of one connection's Turns, kept from Turn to Turn so that
// nothing is allocated a request.
type desk struct {
	batch  *store.Batch
	staged []staged
	header protocol.SendHeader
	reply  protocol.SendReply
	props  []byte
	ids    []byte
	pull   pullScratch
}

func newDesk() *desk { return &desk{batch: store.NewBatch()} }

// stage checks one request and puts its messages into the batch, or answers it
// now with what is wrong.
func (s *sender) stage(d *desk, c *remoting.Call) {
	h := &d.header
	h.V2 = c.Req.Code != protocol.SendMessage
	if err := c.Req.Decode(h); err != nil {
		s.refuse(c, err)
		return
	}
	topic := s.topics.Get(h.Topic)
	if topic == nil {
		s.unknownTopic(c, h)
		return
	}
	if err := s.stageFor(d, c, topic); err != nil {
		s.refuse(c, err)
	}
}

func (s *sender) stageFor(d *desk, c *remoting.Call, topic *protocol.TopicConfig) error {
	h := &d.header
	o := s.o.load()
	if err := s.check(h, topic, o, c); err != nil {
		return err
	}
	queue := h.QueueID
	if queue < 0 {
		queue = rand.Int32N(max(topic.WriteQueueNums, 1))
	}
	m := message.Message{Topic: h.Topic, QueueID: queue, Flag: h.Flag, SysFlag: message.SysFlag(h.SysFlag), BornTime: h.BornTime,
		BornHost: c.Conn.Remote(), StoreHost: s.storeAt, Body: c.Req.Body, Reconsume: h.ReconsumeTimes}
	if topic.TopicFilterType == "MULTI_TAG" {
		m.SysFlag |= message.MultiTags
	}
	st := staged{call: c, first: d.batch.Len(), n: 1, queue: queue, topic: topic, wait: true, batch: h.Batch}
	q := s.store.Queue(h.Topic, queue)
	var err error
	if h.Batch {
		st.n, err = s.stageBatch(d, q, m, o)
	} else {
		var seen propsSeen
		d.props, seen = storedProps(d.props[:0], h.Props, o.BrokerClusterName)
		if err = seen.refuse(o); err == nil {
			m.Props, st.wait = d.props, !seen.dontWait
			err = s.addOne(d, q, &m, o)
		}
	}
	if err != nil {
		return err
	}
	d.staged = append(d.staged, st)
	return nil
}

func (s *sender) addOne(d *desk, q *store.Queue, m *message.Message, o *Options) error {
	if len(m.Body) > o.MaxMessageSize {
		return tooLarge(len(m.Body), o)
	}
	if _, err := d.batch.Add(q, m); err != nil {
		return &protocol.Error{Code: protocol.MessageIllegal, Remark: illegalText(o) + " (" + err.Error() + ")"}
	}
	return nil
}

// stageBatch adds the messages of a SEND_BATCH body; they become neighbours in
// one file.
func (s *sender) stageBatch(d *desk, q *store.Queue, m message.Message, o *Options) (n int, err error) {
	if m.SysFlag&message.TxMask != 0 {
		return 0, &protocol.Error{Code: protocol.MessageIllegal, Remark: "a batch cannot be part of a transaction"}
	}
	body := m.Body
	if len(body) > o.MaxMessageSize {
		return 0, tooLarge(len(body), o)
	}
	outer, seen := storedProps(nil, d.header.Props, o.BrokerClusterName)
	if err := seen.refuse(o); err != nil {
		return 0, err
	}
	mark := d.batch.BeginGroup()
	err = message.EachBatch(body, func(flag int32, body, props []byte) error {
		var inner propsSeen
		d.props, inner = storedProps(d.props[:0], props, "")
		if err := inner.refuse(o); err != nil {
			return err
		}
		if len(d.props) > 0 && len(outer) > 0 {
			d.props = append(d.props, 2)
		}
		d.props = append(d.props, outer...)
		m.Flag, m.Body, m.Props = flag, body, d.props
		n++
		return s.addOne(d, q, &m, o)
	})
	if err == nil && n == 0 {
		err = fmt.Errorf("an empty batch")
	}
	if err != nil {
		d.batch.Cut(mark)
		if _, ok := err.(*protocol.Error); !ok {
			err = &protocol.Error{Code: protocol.MessageIllegal, Remark: "the batch cannot be decoded: " + err.Error()}
		}
		return 0, err
	}
	d.batch.EndGroup()
	return n, nil
}

// check is behaviour.md 4.2, steps 2 to 6.
func (s *sender) check(h *protocol.SendHeader, topic *protocol.TopicConfig, o *Options, c *remoting.Call) error {
	if at := o.StartAcceptSendRequestTimeStamp; at > 0 && time.Now().UnixMilli() < at {
		return &protocol.Error{Code: protocol.SystemError, Remark: "broker unable to service, until " + time.UnixMilli(at).Format("2006-01-02 15:04:05,000")}
	}
	if o.BrokerPermission&meta.PermWrite == 0 && topic.Order {
		return &protocol.Error{Code: protocol.NoPermission, Remark: fmt.Sprintf("the broker[%s] sending message is forbidden", o.BrokerIP1)}
	}
	if message.NotForSending(h.Topic) {
		return &protocol.Error{Code: protocol.NoPermission, Remark: fmt.Sprintf("Sending message to topic[%s] is forbidden.", h.Topic)}
	}
	if queues := max(topic.WriteQueueNums, topic.ReadQueueNums); h.QueueID >= queues {
		return &protocol.Error{Code: protocol.SystemError, Remark: fmt.Sprintf("request queueId[%d] is illegal, %s has %d write and %d read queues Producer: %s",
			h.QueueID, h.Topic, topic.WriteQueueNums, topic.ReadQueueNums, c.Conn.Remote())}
	}
	return nil
}

// unknownTopic hands the request to the lane that creates topics; there it is
// staged and finished by itself.
func (s *sender) unknownTopic(c *remoting.Call, h *protocol.SendHeader) {
	if err := message.ValidTopic(string(h.Topic)); err != nil {
		s.refuse(c, &protocol.Error{Code: protocol.SystemError, Remark: err.Error()})
		return
	}
	want := topicWish{name: string(h.Topic), template: string(h.DefaultTopic), queues: h.DefaultTopicQueues, unit: h.UnitMode}
	c = c.Detach()
	if !s.create.submit(want, func(topic *protocol.TopicConfig, err error) { s.sendCreated(c, topic, err) }) {
		s.refuse(c, busy("[OVERLOAD]system busy, start flow control for a while", "topics being created: the lane is full"))
	}
}

// sendCreated runs on the creation lane, with a Turn of one request.
func (s *sender) sendCreated(c *remoting.Call, topic *protocol.TopicConfig, err error) {
	if err == nil && topic == nil {
		err = &protocol.Error{Code: protocol.TopicNotExist, Remark: fmt.Sprintf("topic[%s] not exist, apply first please!%s", headerTopic(c), faq)}
	}
	d := newDesk()
	d.header.V2 = c.Req.Code != protocol.SendMessage
	if err == nil {
		err = c.Req.Decode(&d.header)
	}
	if err == nil {
		err = s.stageFor(d, c, topic)
	}
	if err != nil {
		s.refuse(c, err)
		return
	}
	s.finish(d, time.Now())
}

// headerTopic is the topic of a send, for messages about it.
func headerTopic(c *remoting.Call) string {
	for _, key := range []string{"topic", "b"} {
		if v, ok := c.Req.Get(key); ok {
			return string(v)
		}
	}
	return "?"
}

// refuse answers with an error; a send's answer carries region and trace switch
// also when it failed.
func (s *sender) refuse(c *remoting.Call, err error) {
	r := errorResponse(err)
	o := s.o.load()
	r.Header = &protocol.SendReply{Region: o.RegionID, Trace: o.TraceOn, Failed: true}
	c.Answer(r)
}

func illegalText(o *Options) string {
	return "the message is illegal, maybe msg body or properties length not matched. msg body length limit " + strconv.Itoa(o.MaxMessageSize) + "B, msg properties length limit 32KB."
}

func tooLarge(n int, o *Options) error {
	return &protocol.Error{Code: protocol.MessageIllegal, Remark: fmt.Sprintf("%s The body has %d bytes, maxMessageSize is %d.", illegalText(o), n, o.MaxMessageSize)}
}

// propsSeen is what the copy of a property text noticed on its way.
type propsSeen struct {
	dontWait bool // WAIT=false
	delay    bool
	tx       bool
}

// refuse turns down what this version cannot keep its promise on, rather than
// deliver it at once as if nothing had been asked.
func (p propsSeen) refuse(o *Options) error {
	switch {
	case p.tx && o.RejectTransactionMessage:
		return &protocol.Error{Code: protocol.NoPermission, Remark: fmt.Sprintf("the broker[%s] sending transaction message is forbidden", o.BrokerIP1)}
	case p.tx:
		return &protocol.Error{Code: protocol.MessageIllegal, Remark: "transaction messages: not yet in this version of gomq; the message was not stored"}
	case p.delay:
		return &protocol.Error{Code: protocol.MessageIllegal, Remark: "delayed messages: not yet in this version of gomq; the message was not stored"}
	}
	return nil
}

// storedProps copies a client's property text as the broker stores it: items
// without a value and WAIT are dropped, CLUSTER is appended (unless cluster is
// empty), no separator at the end (store.md section 7; order as the client's).
func storedProps(dst, src []byte, cluster string) ([]byte, propsSeen) {
	var seen propsSeen
	at := len(dst)
	for len(src) > 0 {
		item := src
		if i := bytes.IndexByte(src, 2); i >= 0 {
			item, src = src[:i], src[i+1:]
		} else {
			src = nil
		}
		i := bytes.IndexByte(item, 1)
		if i <= 0 || i == len(item)-1 {
			continue
		}
		switch v := item[i+1:]; string(item[:i]) {
		case message.PropWait:
			seen.dontWait = string(v) == "false"
			continue
		case message.PropCluster:
			if cluster != "" {
				continue
			}
		case message.PropDelay:
			n, err := strconv.Atoi(string(v))
			seen.delay = err == nil && n > 0
		case message.PropTransaction:
			seen.tx = string(v) == "true"
		}
		if len(dst) > at {
			dst = append(dst, 2)
		}
		dst = append(dst, item...)
	}
	if cluster != "" {
		if len(dst) > at {
			dst = append(dst, 2)
		}
		dst = append(append(append(dst, message.PropCluster...), 1), cluster...)
	}
	return dst, seen
}
