package broker

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"gomq/internal/broker/clients"
	"gomq/internal/broker/meta"
	"gomq/internal/config"
	"gomq/internal/message"
	"gomq/internal/protocol"
	"gomq/internal/remoting"
	"gomq/internal/store"
)

// relayDesk carries what administrators ask of consumers to them and their answers
// back: 222, 223, 307, 309. No goroutine waits for a client: an answer is passed
// on when it comes, or the time is over.
type relayDesk struct {
	live      *config.Live[Options]
	log       *zap.Logger
	store     *store.Store
	topics    *meta.Topics
	offsets   *meta.Offsets
	consumers *clients.Consumers[*remoting.Conn]
	notify    *notifier
	wait      time.Duration // clientWait; half of it for 221
}

// The first versions of clients that understand what is asked of them (wire.md
// section 6).
const (
	versionReset = 28 // V3_0_7_SNAPSHOT: 220, 221
	versionAsked = 62 // V3_1_8_SNAPSHOT: 307, 309
)

// runningInfo is GET_CONSUMER_RUNNING_INFO (307): the client's own bytes come back.
func (s *relayDesk) runningInfo(c *remoting.Call) error {
	var h protocol.RelayHeader
	if err := c.Req.Decode(&h); err != nil {
		return err
	}
	return s.relay(c, &h, passOn(c, nil))
}

// consumeDirectly is CONSUME_MESSAGE_DIRECTLY (309): the client gets the message
// and says what its listener made of it.
func (s *relayDesk) consumeDirectly(c *remoting.Call) error {
	var h protocol.RelayHeader
	if err := c.Req.Decode(&h); err != nil {
		return err
	}
	_, offset, err := message.ParseID(h.MsgID)
	if err != nil {
		return refuse(protocol.SystemError, "%s", err)
	}
	r, err := s.store.ReadRecord(offset)
	switch {
	case errors.Is(err, store.ErrNoRecord):
		return refuse(protocol.SystemError, "can not find message by the offset, %d", offset)
	case err != nil:
		return err
	}
	req := passOn(c, r)
	req.Set("brokerName", s.live.Load().BrokerName)
	return s.relay(c, &h, req)
}

// passOn is the request as the client gets it: with all that it carries but who
// signed it, which is not the client's business.
func passOn(c *remoting.Call, body []byte) *protocol.Command {
	req := protocol.NewRequest(c.Req.Code, nil, body)
	c.Req.Pairs(func(key, value []byte) {
		switch string(key) {
		case "AccessKey", "Signature", "SecurityToken":
		default:
			req.Set(string(key), string(value))
		}
	})
	return req
}

// relay sends req to the client that h names and passes its answer on.
func (s *relayDesk) relay(c *remoting.Call, h *protocol.RelayHeader, req *protocol.Command) error {
	who, ok := s.consumers.Find(h.Group, h.ClientID)
	switch {
	case !ok:
		return refuse(protocol.SystemError, "The Consumer <%s> <%s> not online", h.Group, h.ClientID)
	case who.Version < versionAsked:
		return refuse(protocol.SystemError, "The Consumer <%s> Version <%s> too low to finish, please upgrade it to V3_1_8_SNAPSHOT", h.ClientID, versionText(who.Version))
	}
	s.notify.ask(who.Conn, req, s.wait, func(r *protocol.Command, err error) {
		switch {
		case errors.Is(err, remoting.ErrNoAnswer):
			c.Answer(remoting.Response{Code: protocol.ConsumeMsgTimeout, Remark: fmt.Sprintf("consumer <%s> <%s> Timeout: %s", h.Group, h.ClientID, whyNot(err, s.wait))})
		case err != nil:
			c.Answer(remoting.Response{Code: protocol.SystemError, Remark: fmt.Sprintf("invoke consumer <%s> <%s> Exception: %s", h.Group, h.ClientID, err)})
		default:
			c.Answer(remoting.Response{Code: r.Code, Remark: r.Remark, Header: passedBack(r), Body: r.Body})
		}
	})
	return nil
}

// fieldsOf is the header of an answer that is passed on as it came.
type fieldsOf struct{ c *protocol.Command }

// Fields implements protocol.Header; it is only ever encoded.
func (h fieldsOf) Fields(f *protocol.Fields) {
	h.c.Pairs(func(key, value []byte) { f.Bytes(string(key), &value, false) })
}

// passedBack is the header of a client's answer, nil when it has none.
func passedBack(r *protocol.Command) protocol.Header {
	some := false
	r.Pairs(func(_, _ []byte) { some = true })
	if !some {
		return nil
	}
	return fieldsOf{r}
}

// versionText is a client's version for people.
func versionText(v int32) string {
	if name := versionName(v); name != "other" {
		return name
	}
	return strconv.Itoa(int(v))
}

// reset is INVOKE_BROKER_TO_RESET_OFFSET (222): the connected clients of the group
// are told where to go on (220) and commit that themselves; the broker's table
// stays as it is, as in 4.9. Without clients the answer is 206, and administrators
// then set the offsets by 15.
func (s *relayDesk) reset(c *remoting.Call) (remoting.Response, error) {
	var h protocol.ResetHeader
	if err := c.Req.Decode(&h); err != nil {
		return remoting.Response{}, err
	}
	goals, err := s.goals(&h)
	if err != nil {
		return remoting.Response{}, err
	}
	g, online := s.consumers.Group(h.Group)
	if !online {
		return remoting.Response{}, refuse(protocol.ConsumerNotOnline, "Consumer not online, so can not reset offset, Group: %s Topic: %s Timestamp: %d", h.Group, h.Topic, h.Time)
	}
	if err := supports(g.Clients); err != nil {
		return remoting.Response{}, err
	}
	told := 0
	java, cpp := goals.Append(nil), goals.AppendForC(nil)
	for _, m := range g.Clients {
		body := java
		if m.Language == protocol.LangCPP {
			body = cpp
		}
		// Java says isForce=false whatever it was asked: clients do not look at it.
		req := protocol.NewRequest(protocol.ResetConsumerOffset, &protocol.ResetHeader{Topic: h.Topic, Group: h.Group, Time: h.Time, Queue: -1}, body)
		if err = m.Conn.Notify(req); err != nil {
			s.log.Warn("a consumer was not told that its offsets are reset", zap.String("group", h.Group), zap.String("client", m.ID), zap.Error(err))
			continue
		}
		told++
	}
	if told == 0 {
		return remoting.Response{}, refuse(protocol.SystemError, "none of the %d clients of group %s could be told: %s", len(g.Clients), h.Group, err)
	}
	s.log.Info("consumers told to reset their offsets", zap.String("group", h.Group), zap.String("topic", h.Topic), zap.Int("clients", told),
		zap.Int64("timestamp", h.Time), zap.Bool("force", h.Force), zap.Stringer("from", c.Conn.Remote()))
	return remoting.Response{Body: java}, nil
}

// supports says which client is too old to be told where to go on.
func supports(members []clients.Client[*remoting.Conn]) error {
	for _, m := range members {
		if m.Version < versionReset {
			return refuse(protocol.SystemError, "the client does not support this feature. version=%s (client %s)", versionText(m.Version), m.ID)
		}
	}
	return nil
}

// goals are the offsets that a reset leads to: by time, never forward without
// force; of one queue, to one offset, where a 5.x tool asks for that.
func (s *relayDesk) goals(h *protocol.ResetHeader) (protocol.ResetBody, error) {
	t := s.topics.Get([]byte(h.Topic))
	if t == nil {
		return nil, refuse(protocol.SystemError, "[reset-offset] reset offset failed, no topic in this broker. topic=%s", h.Topic)
	}
	first, end := int32(0), t.WriteQueueNums
	if h.Queue >= 0 {
		if h.Queue >= end {
			return nil, refuse(protocol.SystemError, "[reset-offset] topic %s has no queue %d, only %d", h.Topic, h.Queue, end)
		}
		first, end = h.Queue, h.Queue+1
	}
	name := s.live.Load().BrokerName
	var goals protocol.ResetBody
	for id := first; id < end; id++ {
		committed, ok := s.offsets.Query([]byte(h.Topic), []byte(h.Group), id)
		if !ok {
			return nil, refuse(protocol.SystemError, "THe consumer group <%s> not exist (it has committed no offset of queue %d of topic %s here)", h.Group, id, h.Topic)
		}
		goal, err := s.goal(h, id)
		if err != nil {
			return nil, err
		}
		if !h.Force && goal > committed {
			goal = committed
		}
		goals = append(goals, protocol.QueueOffset{Queue: protocol.MessageQueue{Topic: h.Topic, BrokerName: name, QueueID: id}, Offset: goal})
	}
	return goals, nil
}

// goal is the offset of one queue that h asks for.
func (s *relayDesk) goal(h *protocol.ResetHeader, id int32) (int64, error) {
	q := s.store.Queue([]byte(h.Topic), id)
	if q == nil {
		return 0, nil
	}
	switch {
	case h.Queue >= 0 && h.To >= 0:
		if h.To < q.Min() || h.To > q.Max() {
			return 0, refuse(protocol.SystemError, "Target offset %d not in consume queue range [%d-%d]", h.To, q.Min(), q.Max())
		}
		return h.To, nil
	case h.Time == -1:
		return max(q.Max(), 0), nil
	}
	return max(s.store.SearchTime(q, h.Time), 0), nil
}

// status is INVOKE_BROKER_TO_GET_CONSUMER_STATUS (223): how far each client of the
// group has come in each of its queues, by its own account (221). A client that
// does not answer in time is left out and named in the remark.
func (s *relayDesk) status(c *remoting.Call) error {
	var h protocol.StatusHeader
	if err := c.Req.Decode(&h); err != nil {
		return err
	}
	g, _ := s.consumers.Group(h.Group)
	members := g.Clients
	if h.ClientID != "" {
		members = slices.DeleteFunc(members, func(m clients.Client[*remoting.Conn]) bool { return m.ID != h.ClientID })
	}
	if len(members) == 0 {
		return refuse(protocol.SystemError, "No Any Consumer online in the consumer group: [%s]", h.Group)
	}
	if err := supports(members); err != nil {
		return err
	}
	a := &accounts{call: c, wait: s.wait / 2, left: len(members), table: protocol.ConsumerStatus{}}
	for _, m := range members {
		req := protocol.NewRequest(protocol.GetClientStatus, &protocol.StatusHeader{Topic: h.Topic, Group: h.Group}, nil)
		s.notify.ask(m.Conn, req, a.wait, func(r *protocol.Command, err error) { a.add(m.ID, r, err) })
	}
	return nil
}

// accounts gathers what clients say of themselves and answers when all have been
// heard or given up.
type accounts struct {
	call *remoting.Call
	wait time.Duration

	mu     sync.Mutex // guards the rest
	left   int
	table  protocol.ConsumerStatus
	silent []string
}

// maxNamed bounds the clients that a remark names.
const maxNamed = 10

func (a *accounts) add(id string, r *protocol.Command, err error) {
	var queues protocol.ResetBody
	switch {
	case err == nil && r.Code != protocol.Success:
		err = fmt.Errorf("it answered %d %s", r.Code, r.Remark)
	case err == nil && len(r.Body) > 0:
		queues, err = protocol.ParseClientStatus(r.Body)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if err == nil {
		a.table[id] = queues
	} else if len(a.silent) < maxNamed {
		a.silent = append(a.silent, id+": "+whyNot(err, a.wait))
	}
	if a.left--; a.left > 0 {
		return
	}
	resp := remoting.Response{Body: a.table.Append(nil)}
	if len(a.silent) > 0 {
		resp.Remark = "not heard of: " + strings.Join(a.silent, "; ")
	}
	a.call.Answer(resp)
}
