package broker

import (
	"context"
	"errors"
	"math"
	"time"

	"go.uber.org/zap"

	"gomq/internal/broker/meta"
	"gomq/internal/config"
	"gomq/internal/message"
	"gomq/internal/protocol"
	"gomq/internal/remoting"
	"gomq/internal/store"
)

// retryDesk takes back what a consumer could not do: CONSUMER_SEND_MSG_BACK (36).
// The message goes to its group's retry topic once more after a delay, or becomes
// a dead letter of the group (behaviour.md section 8). An answer other than 0
// makes clients send the message to the retry topic themselves.
type retryDesk struct {
	live   *config.Live[Options]
	log    *zap.Logger
	store  *store.Store
	topics *meta.Topics
	groups *meta.Groups
	create *topicMaker
	inner  *inner
}

// backWait bounds how long one request waits for the disk.
const backWait = 10 * time.Second

// back is CONSUMER_SEND_MSG_BACK. It reads the message, perhaps from the disk, and
// may create topics, so it runs in a lane.
func (s *retryDesk) back(c *remoting.Call) (remoting.Response, error) {
	var h protocol.SendBackHeader
	if err := c.Req.Decode(&h); err != nil {
		return remoting.Response{}, err
	}
	o := s.live.Load()
	g, err := s.groups.Ensure(h.Group, o.AutoCreateSubscriptionGroup)
	switch {
	case err != nil:
		return remoting.Response{}, refuse(protocol.SystemError, "%s", err)
	case g == nil:
		return remoting.Response{}, refuse(protocol.GroupNotExist, "subscription group not exist, %s %s", h.Group, faq)
	case o.BrokerPermission&meta.PermWrite == 0:
		return remoting.Response{}, refuse(protocol.NoPermission, "the broker[%s] sending message is forbidden", o.BrokerIP1)
	case g.RetryQueueNums <= 0:
		return remoting.Response{}, nil // the group wants no retries
	case o.BrokerRole == Slave:
		return remoting.Response{}, refuse(protocol.SystemError, "SERVICE_NOT_AVAILABLE (this broker is a slave)")
	}
	topic, err := s.create.retryTopic(g, h.UnitMode, c.Conn.Remote().Addr(), o)
	if err != nil {
		return remoting.Response{}, err
	}
	if topic.Perm&meta.PermWrite == 0 {
		return remoting.Response{}, refuse(protocol.NoPermission, "the topic[%s] sending message is forbidden", topic.TopicName)
	}
	r, err := s.store.ReadRecord(h.Offset)
	if errors.Is(err, store.ErrNoRecord) {
		return remoting.Response{}, refuse(protocol.SystemError, "look message by offset failed, %d", h.Offset)
	}
	if err != nil {
		return remoting.Response{}, err
	}
	most := g.RetryMaxTimes
	if c.Req.Version >= versionMaxReconsume && h.MaxReconsume >= 0 {
		most = h.MaxReconsume
	}
	m, dead := sendBack(r, &h, most)
	if err := s.put(m); err != nil {
		return remoting.Response{}, err
	}
	count := s.inner.send.undone(m.Props, h.Group, string(m.Topic))
	count.back.add(1, len(r))
	if dead {
		count.dead.Add(1)
	}
	return remoting.Response{}, nil
}

// put stores the message. What goes wrong is told with the original's name for it.
func (s *retryDesk) put(m innerMessage) error {
	ctx, cancel := context.WithTimeout(context.Background(), backWait)
	defer cancel()
	placed, err := s.inner.put(ctx, []innerMessage{m})
	status := "SERVICE_NOT_AVAILABLE"
	switch {
	case err == nil:
		if err = placed[0].Err; err == nil {
			return nil
		}
		status = "MESSAGE_ILLEGAL"
	case errors.Is(err, errInnerBusy):
		status = "OS_PAGECACHE_BUSY"
	case placed != nil:
		status = "FLUSH_DISK_TIMEOUT"
	}
	return refuse(protocol.SystemError, "%s (%s)", status, err)
}

// sendBack is what becomes of the record r that a consumer has sent back: a retry
// in one of the retry topic's queues (whatever the group's number of them is now: a
// queue that the topic does not have is read by nobody), or a dead letter. most is how often the
// group tries. The properties are put in the order in which 4.9.7 does it.
func sendBack(r message.Record, h *protocol.SendBackHeader, most int32) (m innerMessage, dead bool) {
	var p message.PropSet
	m = again(r)
	m.Prepared = 0
	m.Reconsume += int32(btoi(r.Reconsume() < math.MaxInt32))
	m.AnyQueue = true
	p.Parse(r.Props())
	if _, ok := p.Get(message.PropRetryTopic); !ok {
		p.Set(message.PropRetryTopic, r.Topic())
	}
	p.Set(message.PropWait, []byte("false"))
	level := int64(h.DelayLevel)
	if level == 0 {
		level = 3 + int64(r.Reconsume())
	}
	if dead = r.Reconsume() >= most || h.DelayLevel < 0; dead {
		level = 0
		m.Topic = append([]byte(message.DLQPrefix), h.Group...)
		m.Make = &protocol.TopicConfig{ReadQueueNums: 1, WriteQueueNums: 1, Perm: meta.PermRead | meta.PermWrite, TopicFilterType: "SINGLE_TAG"}
	} else {
		m.Topic = append([]byte(message.RetryPrefix), h.Group...)
	}
	m.Level = int(level)
	p.SetInt(message.PropDelay, level)
	if id, ok := p.Get(message.PropOriginID); !ok || len(id) == 0 {
		p.Set(message.PropOriginID, message.AppendID(nil, r.StoreHost(), r.Offset()))
	}
	m.Props = p.AppendTo(nil)
	return m, dead
}
