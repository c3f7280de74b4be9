package broker

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"gomq/internal/broker/delay"
	"gomq/internal/broker/meta"
	"gomq/internal/config"
	"gomq/internal/ha"
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
	live    *config.Live[Options]
	log     *zap.Logger
	store   *store.Store
	topics  *meta.Topics
	groups  *meta.Groups
	create  *topicMaker
	stats   *stats
	levels  delay.Levels
	storeAt netip.AddrPort // what message ids and records say of this broker
	sync    bool           // SYNC_FLUSH: a send is answered once the disk has it
	// replicas is SYNC_MASTER: a send is answered once one of them has it. nil
	// otherwise.
	replicas *ha.Master

	waiting atomic.Int64 // sends that wait for the disk or a slave
	refused refusals
}

// staged is a request whose messages lie in the Turn's batch.
type staged struct {
	call  *remoting.Call
	topic *protocol.TopicConfig
	dead  *groupStats // where it is counted if it is a dead letter
	q     *store.Queue
	first int // in the batch
	n     int
	queue int32 // as answered
	wait  bool  // the producer wants flush and replica before the answer (WAIT, true by default)
}

// outgoing is what sends of one Turn need until its end. It is pooled: a
// connection that sends nothing holds none.
type outgoing struct {
	batch    *store.Batch
	staged   []staged
	header   protocol.SendHeader
	reply    protocol.SendReply
	props    []byte
	edit     message.PropSet // of a message whose properties are rewritten
	outer    []byte          // what each message of a batch gets behind its own properties
	target   []byte          // the topic, when it is not the header's
	ids      []byte
	detached bool // the one call is not of a Turn
}

var outgoings = sync.Pool{New: func() any { return &outgoing{batch: store.NewBatch()} }}

func (w *outgoing) free() {
	w.batch.Reset()
	clear(w.staged)
	w.staged, w.detached = w.staged[:0], false
	outgoings.Put(w)
}

// stage checks one request and puts its messages into the batch, or answers it
// now with what is wrong, or leaves it to the lane that creates topics.
func (s *sender) stage(d *desk, c *remoting.Call) {
	if d.out == nil {
		d.out = outgoings.Get().(*outgoing)
	}
	w := d.out
	h := &w.header
	*h = protocol.SendHeader{V2: c.Req.Code != protocol.SendMessage, MaxReconsume: -1}
	err := c.Req.Decode(h)
	if err == nil {
		err = s.stageFor(w, c, true)
	}
	if err != nil {
		s.refuse(c, err)
	}
}

// stageFor is stage for a decoded header. mayCreate says whether a topic that is
// missing is handed to the lane that creates it.
func (s *sender) stageFor(w *outgoing, c *remoting.Call, mayCreate bool) error {
	o := s.live.Load()
	h := &w.header
	if err := s.forbidden(h, o); err != nil {
		return err
	}
	name, dead, err := s.destination(w, c, o)
	if err != nil {
		return err
	}
	topic := s.topics.Get(name)
	switch {
	case topic == nil && mayCreate:
		return s.unknownTopic(c, name, h, dead)
	case topic == nil:
		return refuse(protocol.TopicNotExist, "topic[%s] not exist, apply first please!%s", name, faq)
	}
	return s.put(w, c, o, topic, dead)
}

// forbidden is behaviour.md 4.2, steps 2 to 4: what is refused whatever topics
// there are.
func (s *sender) forbidden(h *protocol.SendHeader, o *Options) error {
	if at := o.StartAcceptSendRequestTimeStamp; at > 0 && time.Now().UnixMilli() < at {
		return refuse(protocol.SystemError, "broker unable to service, until %s", time.UnixMilli(at).Format("2006-01-02 15:04:05,000"))
	}
	if o.BrokerRole == Slave {
		return refuse(protocol.ServiceNotAvailable, "%s", unavailable(errSlave))
	}
	if o.BrokerPermission&meta.PermWrite == 0 {
		// The route keeps clients away; only order topics are refused here.
		if t := s.topics.Get(h.Topic); t != nil && t.Order {
			return refuse(protocol.NoPermission, "the broker[%s] sending message is forbidden", o.BrokerIP1)
		}
	}
	if message.NotForSending(h.Topic) {
		return refuse(protocol.NoPermission, "Sending message to topic[%s] is forbidden.", h.Topic)
	}
	return nil
}

// destination is the topic that the message goes to: a retry that has been tried
// too often becomes a dead letter (behaviour.md 4.4).
func (s *sender) destination(w *outgoing, c *remoting.Call, o *Options) (name []byte, dead bool, err error) {
	h := &w.header
	if !bytes.HasPrefix(h.Topic, retryPrefix) {
		return h.Topic, false, nil
	}
	group := h.Topic[len(retryPrefix):]
	g, err := s.groups.Ensure(group, o.AutoCreateSubscriptionGroup)
	if err != nil {
		return nil, false, refuse(protocol.SystemError, "%s", err)
	}
	if g == nil {
		return nil, false, refuse(protocol.GroupNotExist, "subscription group not exist, %s %s", group, faq)
	}
	most := g.RetryMaxTimes
	if c.Req.Version >= versionMaxReconsume && h.MaxReconsume >= 0 {
		most = h.MaxReconsume
	}
	if h.ReconsumeTimes < most {
		return h.Topic, false, nil
	}
	w.target = append(append(w.target[:0], message.DLQPrefix...), group...)
	return w.target, true, nil
}

var retryPrefix = []byte(message.RetryPrefix)

// versionMaxReconsume is the first client version whose maxReconsumeTimes counts
// (wire.md section 6, V3_4_9).
const versionMaxReconsume = 121

// put stages the request's messages for topic.
func (s *sender) put(w *outgoing, c *remoting.Call, o *Options, topic *protocol.TopicConfig, dead bool) (err error) {
	h := &w.header
	queue, err := queueOf(h.QueueID, topic, c, dead)
	if err != nil {
		return err
	}
	q := s.queue(w, topic, queue)
	if q == nil {
		return refuse(protocol.SystemError, "topic[%s] can have no queue %d: its name is not one that messages can be stored under", topic.TopicName, queue)
	}
	st := staged{call: c, topic: topic, q: q, first: w.batch.Len(), n: 1, queue: queue, wait: true}
	m := message.Message{Topic: h.Topic, QueueID: queue, Flag: h.Flag, SysFlag: message.SysFlag(h.SysFlag), BornTime: h.BornTime,
		BornHost: c.Conn.Remote(), StoreHost: s.storeAt, Body: c.Req.Body, Reconsume: h.ReconsumeTimes}
	if dead {
		m.Topic = w.target
		st.dead = s.undone(h.Props, h.Topic[len(retryPrefix):], topic.TopicName)
	}
	if topic.TopicFilterType == "MULTI_TAG" {
		m.SysFlag |= message.MultiTags
	}
	// What was staged of a request that then fails, or panics, must not be
	// appended with the rest of the Turn.
	staged := false
	defer func() {
		if !staged {
			w.batch.Cut(st.first)
		}
	}()
	if h.Batch {
		st.n, st.wait, err = s.putBatch(w, st.q, &m, o)
	} else {
		err = s.putOne(w, &st, &m, o, dead)
	}
	if err != nil {
		return err
	}
	w.staged = append(w.staged, st)
	staged = true
	return nil
}

// queueOf is the queue that a request asks for; any, when it leaves that to the
// broker.
func queueOf(asked int32, topic *protocol.TopicConfig, c *remoting.Call, any bool) (int32, error) {
	if most := max(topic.WriteQueueNums, topic.ReadQueueNums); asked >= most && !any {
		return 0, refuse(protocol.SystemError, "request queueId[%d] is illegal, %s Producer: %s", asked, topicText(topic), c.Conn.Remote())
	}
	if asked < 0 || any {
		return rand.Int32N(max(topic.WriteQueueNums, 1)), nil
	}
	return asked, nil
}

// undone is where messages are counted that a group could not do: under the topic
// that they were first sent to, or under now if there is no such topic.
func (s *sender) undone(props, group []byte, now string) *groupStats {
	origin, _ := message.Prop(props, message.PropRetryTopic)
	if t := s.topics.Get(origin); t != nil {
		now = t.TopicName
	}
	return s.stats.group(now, string(group))
}

// queue is the queue of the store; that of the request before is mostly the same.
func (s *sender) queue(w *outgoing, topic *protocol.TopicConfig, id int32) *store.Queue {
	if n := len(w.staged); n > 0 {
		if last := &w.staged[n-1]; last.topic == topic && last.q.ID() == id {
			return last.q
		}
	}
	w.ids = append(w.ids[:0], topic.TopicName...)
	return s.store.Queue(w.ids, id)
}

func (s *sender) putOne(w *outgoing, st *staged, m *message.Message, o *Options, dead bool) error {
	var seen propsSeen
	w.props, seen = storedProps(w.props[:0], w.header.Props, &w.edit, o.BrokerClusterName)
	m.Props = w.props
	st.wait = !seen.dontWait
	if seen.noLevel {
		return refuse(protocol.SystemError, "the property %s is no number of a delay level; the message was not stored", message.PropDelay)
	}
	q, err := s.transact(w, st.q, m, seen, dead, o)
	if err != nil {
		return err
	}
	// A half message waits when it is committed, a dead letter not at all: it was to
	// wait for a next try that does not come.
	if seen.level > 0 && !dead && q == st.q {
		s.editable(w, o)
		q = s.divert(w, st, m, seen.level)
	}
	return s.add(w, q, m, o)
}

// editable makes w.edit the properties of the one message as the original has them
// when it changes some: WAIT, which it takes out and puts back, is stored then.
func (s *sender) editable(w *outgoing, o *Options) {
	w.edit.Parse(w.header.Props)
	w.edit.SetString(message.PropCluster, o.BrokerClusterName)
	if wait, ok := w.edit.Get(message.PropWait); ok {
		w.edit.Delete(message.PropWait)
		w.edit.Set(message.PropWait, wait)
	}
}

// divert lets m, whose properties are w.edit, wait in the queue of its delay
// level.
func (s *sender) divert(w *outgoing, st *staged, m *message.Message, level int) *store.Queue {
	s.levels.Divert(m, &w.edit, level)
	w.props = w.edit.AppendTo(w.props[:0])
	m.Props = w.props
	st.topic = s.topics.Get(m.Topic) // what is counted; it is built in
	st.q = s.store.Queue(m.Topic, m.QueueID)
	return st.q
}

// putBatch adds the messages of a SEND_BATCH body; they become neighbours in one
// file. Each keeps its own property text and gets the request's and CLUSTER
// behind it, as the original writes them.
func (s *sender) putBatch(w *outgoing, q *store.Queue, m *message.Message, o *Options) (n int, wait bool, err error) {
	if m.SysFlag&message.TxMask != 0 {
		return 0, false, refuse(protocol.MessageIllegal, "%s (%s)", illegalText(o), errTxBatch)
	}
	body := m.Body
	if len(body) > o.MaxMessageSize {
		return 0, false, tooLarge(len(body), o)
	}
	var seen propsSeen
	w.outer, seen = batchProps(w.outer[:0], w.header.Props, &w.edit, o.BrokerClusterName)
	if seen.tx {
		return 0, false, refuse(protocol.MessageIllegal, "%s (%s)", illegalText(o), errTxBatch)
	}
	if seen.level > 0 || seen.noLevel {
		return 0, false, refuse(protocol.MessageIllegal, "%s (a batch cannot be delayed)", illegalText(o))
	}
	w.batch.BeginGroup()
	err = message.EachBatch(body, func(flag int32, body, props []byte) error {
		w.props = append(w.props[:0], props...)
		if k := len(w.props); k > 0 && w.props[k-1] != 2 {
			w.props = append(w.props, 2)
		}
		w.props = append(w.props, w.outer...)
		m.Flag, m.Body, m.Props = flag, body, w.props
		n++
		return s.add(w, q, m, o)
	})
	if err == nil && n == 0 {
		err = fmt.Errorf("an empty batch")
	}
	if err != nil {
		if _, ok := err.(*protocol.Error); !ok {
			err = refuse(protocol.MessageIllegal, "%s (the batch cannot be decoded: %s)", illegalText(o), err)
		}
		return 0, false, err
	}
	w.batch.EndGroup()
	return n, !seen.dontWait, nil
}

func (s *sender) add(w *outgoing, q *store.Queue, m *message.Message, o *Options) error {
	if len(m.Body) > o.MaxMessageSize {
		return tooLarge(len(m.Body), o)
	}
	if _, err := w.batch.Add(q, m); err != nil {
		return refuse(protocol.MessageIllegal, "%s (%s)", illegalText(o), err)
	}
	return nil
}

// unknownTopic hands the request to the lane that creates topics; there it is
// staged and finished by itself.
func (s *sender) unknownTopic(c *remoting.Call, name []byte, h *protocol.SendHeader, dead bool) error {
	if err := message.ValidTopic(string(name)); err != nil {
		return refuse(protocol.SystemError, "%s", err)
	}
	want := topicWish{name: string(name), template: string(h.DefaultTopic), queues: h.DefaultTopicQueues, unit: h.UnitMode, own: dead, from: c.Conn.Remote().Addr()}
	if !s.create.submit(c, want, s.sendCreated) {
		return busy("[OVERLOAD]system busy, start flow control for a while", "the lane that creates topics is full")
	}
	return nil
}

// sendCreated runs on the creation lane, with a Turn of one request. err is why
// the topic was not created.
func (s *sender) sendCreated(c *remoting.Call, err error) {
	w := outgoings.Get().(*outgoing)
	w.detached = true
	h := &w.header
	*h = protocol.SendHeader{V2: c.Req.Code != protocol.SendMessage, MaxReconsume: -1}
	if err == nil {
		err = c.Req.Decode(h)
	}
	if err == nil {
		err = s.stageFor(w, c, false)
	}
	if err != nil {
		s.refuse(c, err)
		w.free()
		return
	}
	s.finish(w, time.Now())
}

// refuse answers with an error; a send's answer carries region and trace switch
// also when it failed.
func (s *sender) refuse(c *remoting.Call, err error) {
	r := errorResponse(s.log, err)
	o := s.live.Load()
	r.Header = &protocol.SendReply{Region: o.RegionID, Trace: o.TraceOn, Failed: true}
	c.Answer(r)
}

func illegalText(o *Options) string {
	return "the message is illegal, maybe msg body or properties length not matched. msg body length limit " + strconv.Itoa(o.MaxMessageSize) + "B, msg properties length limit 32KB."
}

func tooLarge(n int, o *Options) error {
	return refuse(protocol.MessageIllegal, "%s (the body has %d bytes, maxMessageSize is %d)", illegalText(o), n, o.MaxMessageSize)
}

// topicText is a topic as the original prints it.
func topicText(t *protocol.TopicConfig) string {
	return fmt.Sprintf("TopicConfig [topicName=%s, readQueueNums=%d, writeQueueNums=%d, perm=%s, topicFilterType=%s, topicSysFlag=%d, order=%t]",
		t.TopicName, t.ReadQueueNums, t.WriteQueueNums, permText(t.Perm), t.TopicFilterType, t.TopicSysFlag, t.Order)
}

func permText(perm int32) string {
	text := []byte("---")
	for i, bit := range [...]int32{meta.PermRead, meta.PermWrite, meta.PermInherit} {
		if perm&bit != 0 {
			text[i] = "RWX"[i]
		}
	}
	return string(text)
}

// propsSeen is what the copy of a property text noticed on its way.
type propsSeen struct {
	dontWait bool // WAIT=false
	level    int  // of the delay that is asked for, 0 = none
	noLevel  bool // DELAY is no number
	tx       bool
}

// look takes note of one property.
func (p *propsSeen) look(name, value []byte) {
	switch string(name) {
	case message.PropWait:
		p.dontWait = string(value) == "false"
	case message.PropDelay:
		level, ok := delay.Level(value)
		p.level, p.noLevel = level, !ok
	case message.PropTransaction:
		p.tx = strings.EqualFold(string(value), "true")
	}
}

// storedProps rewrites a client's property text as the broker stores it: items
// without a name or a value and WAIT are dropped, CLUSTER is added, in the order
// of the original (store.md section 7). p is left with what was written.
func storedProps(dst, src []byte, p *message.PropSet, cluster string) ([]byte, propsSeen) {
	var seen propsSeen
	p.Parse(src)
	p.Each(seen.look)
	p.SetString(message.PropCluster, cluster)
	p.Delete(message.PropWait)
	return p.AppendTo(dst), seen
}

// batchProps is the text behind the properties of each message of a batch: what
// the request itself carries, WAIT included, and CLUSTER (store.md section 7,
// CommitLog of 4.9.8).
func batchProps(dst, src []byte, p *message.PropSet, cluster string) ([]byte, propsSeen) {
	var seen propsSeen
	p.Parse(src)
	p.Each(seen.look)
	p.SetString(message.PropCluster, cluster)
	return p.AppendTo(dst), seen
}
