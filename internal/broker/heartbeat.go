package broker

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"gomq/internal/broker/clients"
	"gomq/internal/broker/meta"
	"gomq/internal/config"
	"gomq/internal/filter"
	"gomq/internal/message"
	"gomq/internal/protocol"
	"gomq/internal/remoting"
)

// clientDesk keeps account of who is connected: HEART_BEAT (34),
// UNREGISTER_CLIENT (35), GET_CONSUMER_LIST_BY_GROUP (38), CHECK_CLIENT_CONFIG
// (46), closed connections and clients that fell silent.
type clientDesk struct {
	live      *config.Live[Options]
	log       *zap.Logger
	topics    *meta.Topics
	groups    *meta.Groups
	producers *clients.Producers[*remoting.Conn]
	consumers *clients.Consumers[*remoting.Conn]
	filters   *filter.Cache
	kept      *meta.Filters
	create    *topicMaker
	notify    *notifier
	now       func() time.Time
}

var errExpired = errors.New("no heartbeat for 120 s")

// beat is HEART_BEAT. It runs in a lane, because a new group needs its topic of
// retries, and that is written to the disk.
func (s *clientDesk) beat(c *remoting.Call) (remoting.Response, error) {
	hb, err := protocol.ParseHeartbeat(c.Req.Body)
	if err != nil {
		return remoting.Response{}, refuse(protocol.SystemError, "the heartbeat does not parse: %s", err)
	}
	o := s.live.Load()
	if err := s.checkBeat(hb, o); err != nil {
		return remoting.Response{}, err
	}
	who := clients.Client[*remoting.Conn]{Conn: c.Conn, ID: hb.ClientID, Language: c.Req.Language, Version: c.Req.Version, Seen: s.now()}
	for i := range hb.Consumers {
		if err := s.beatConsumer(who, &hb.Consumers[i], o); err != nil {
			return remoting.Response{}, err
		}
	}
	for _, group := range hb.Producers {
		if err := s.producers.Beat(group, who); err != nil {
			return remoting.Response{}, err
		}
	}
	select {
	case <-c.Conn.Done():
		s.closed(c.Conn) // it closed while this waited in the lane: nobody else would take it out
	default:
	}
	return remoting.Response{}, nil
}

// checkBeat refuses a heartbeat that would fill the tables.
func (s *clientDesk) checkBeat(hb *protocol.Heartbeat, o *Options) error {
	subs := 0
	for i := range hb.Consumers {
		subs += len(hb.Consumers[i].Subscriptions)
		for k := range hb.Consumers[i].Subscriptions {
			d := &hb.Consumers[i].Subscriptions[k]
			if len(d.Topic) > message.MaxTopicLen || len(d.SubString) > filter.MaxExpression {
				return refuse(protocol.SystemError, "a subscription has a topic of %d and an expression of %d bytes, at most %d and %d are possible", len(d.Topic), len(d.SubString), message.MaxTopicLen, filter.MaxExpression)
			}
		}
		if err := message.ValidGroup(hb.Consumers[i].GroupName); err != nil {
			return refuse(protocol.SystemError, "%s", err)
		}
	}
	if subs > o.MaxSubscriptionsPerConnection {
		return refuse(protocol.SystemError, "the heartbeat has %d subscriptions, maxSubscriptionsPerConnection=%d", subs, o.MaxSubscriptionsPerConnection)
	}
	for _, group := range hb.Producers {
		if err := message.ValidGroup(group); err != nil {
			return refuse(protocol.SystemError, "%s", err)
		}
	}
	if len(hb.ClientID) > maxClientID {
		return refuse(protocol.SystemError, "the client id has %d bytes, at most %d are possible", len(hb.ClientID), maxClientID)
	}
	return nil
}

// maxClientID is how many bytes a client's id may have (reliability.md section 6).
const maxClientID = 1 << 10

func (s *clientDesk) beatConsumer(who clients.Client[*remoting.Conn], cb *protocol.ConsumerBeat, o *Options) error {
	g, err := s.groups.Ensure([]byte(cb.GroupName), o.AutoCreateSubscriptionGroup)
	if err != nil {
		return refuse(protocol.SystemError, "%s", err)
	}
	if g != nil && o.BrokerRole != Slave { // a slave's topics are its master's
		if _, err := s.create.retryTopic(g, cb.UnitMode, who.Conn.Remote().Addr(), o); err != nil {
			s.log.Warn("the topic of retries could not be created", zap.String("group", g.GroupName), zap.Error(err))
		}
	}
	// A group without a configuration is registered all the same, as in the
	// original: its pulls are what is refused.
	b := clients.Beat{Group: cb.GroupName, Type: cb.ConsumeType, Model: cb.MessageModel, From: cb.ConsumeFromWhere, UnitMode: cb.UnitMode,
		Broadcast: cb.MessageModel == "BROADCASTING", Subs: s.subsOf(cb.Subscriptions)}
	notify, differ, err := s.consumers.Beat(who, b)
	if err != nil {
		return err
	}
	s.differ(differ)
	s.keepFilters(&b)
	if len(notify) > 0 && o.NotifyConsumerIdsChangedEnable && (g == nil || g.NotifyConsumerIdsChangedEnable) {
		s.notify.consumersChanged(cb.GroupName, notify)
	}
	return nil
}

// subsOf compiles the subscriptions of a heartbeat, each topic once; the newest
// counts when a client names one twice.
func (s *clientDesk) subsOf(list []protocol.Subscription) []clients.Sub {
	subs := make([]clients.Sub, 0, len(list))
	at := make(map[string]int, len(list))
	for i := range list {
		d := &list[i]
		sub := clients.Sub{Topic: d.Topic, Expr: d.SubString, Type: d.ExpressionType, Version: d.SubVersion, Codes: d.CodeSet, TagSet: d.TagsSet}
		if filter.IsTag(d.ExpressionType) && !d.ClassFilterMode {
			// The codes that came along are hashes of the same tags; computing
			// them here serves clients that send none or wrong ones.
			sub.Tags = filter.ParseTags(d.SubString)
		} else if !filter.IsTag(d.ExpressionType) {
			sub.SQL, sub.Err = compile(s.filters, d.ExpressionType, []byte(d.SubString))
		}
		if k, twice := at[d.Topic]; !twice {
			at[d.Topic] = len(subs)
			subs = append(subs, sub)
		} else if sub.Version > subs[k].Version {
			subs[k] = sub
		}
	}
	return subs
}

// leave is UNREGISTER_CLIENT.
func (s *clientDesk) leave(c *remoting.Call) (remoting.Response, error) {
	var h protocol.UnregisterClientHeader
	if err := c.Req.Decode(&h); err != nil {
		return remoting.Response{}, err
	}
	if h.ProducerGroup != "" {
		s.producers.Leave(h.ProducerGroup, c.Conn)
	}
	if h.ConsumerGroup != "" {
		notify := s.consumers.Leave(h.ConsumerGroup, c.Conn)
		s.left(h.ConsumerGroup)
		if g := s.groups.Get([]byte(h.ConsumerGroup)); s.live.Load().NotifyConsumerIdsChangedEnable && (g == nil || g.NotifyConsumerIdsChangedEnable) {
			s.notify.consumersChanged(h.ConsumerGroup, notify)
		}
	}
	return remoting.Response{Header: &protocol.NoFields{}}, nil
}

// members is GET_CONSUMER_LIST_BY_GROUP.
func (s *clientDesk) members(c *remoting.Call) (remoting.Response, error) {
	var h protocol.ConsumerGroupHeader
	if err := c.Req.Decode(&h); err != nil {
		return remoting.Response{}, err
	}
	ids := s.consumers.IDs(h.Group)
	if len(ids) == 0 {
		return remoting.Response{}, refuse(protocol.SystemError, "no consumer for this group, %s", h.Group)
	}
	return remoting.Response{Header: &protocol.NoFields{}, Body: protocol.ConsumerIDs(ids).Append(nil)}, nil
}

// check is CHECK_CLIENT_CONFIG: a consumer asks before it starts whether its
// filter will work.
func (s *clientDesk) check(c *remoting.Call) (remoting.Response, error) {
	req, err := protocol.ParseClientCheck(c.Req.Body)
	if err != nil {
		return remoting.Response{}, refuse(protocol.SystemError, "the request does not parse: %s", err)
	}
	typ := req.Subscription.ExpressionType
	switch {
	case filter.IsTag(typ):
		return remoting.Response{}, nil
	case !s.live.Load().EnablePropertyFilter:
		return remoting.Response{}, noFilter(typ)
	}
	if _, err := compile(s.filters, typ, []byte(req.Subscription.SubString)); err != nil {
		return remoting.Response{}, refuse(protocol.SubscriptionParseFailed, "the expression cannot be used: %s", err)
	}
	return remoting.Response{}, nil
}

// closed takes a connection that has gone out of every table and tells those who
// stay.
func (s *clientDesk) closed(conn *remoting.Conn) {
	s.producers.Closed(conn)
	changes := s.consumers.Closed(conn)
	for _, ch := range changes {
		s.left(ch.Group)
	}
	if s.live.Load().NotifyConsumerIdsChangedEnable {
		for _, ch := range changes {
			s.notify.consumersChanged(ch.Group, ch.Notify)
		}
	}
}

// expire closes the connections of clients that have sent no heartbeat for 120 s.
func (s *clientDesk) expire(context.Context) error {
	before := s.now().Add(-clients.Expiry)
	gone := append(s.consumers.Expire(before), s.producers.Expire(before)...)
	for _, conn := range gone {
		s.log.Info("a client sent no heartbeat, its connection is closed", zap.Stringer("peer", conn.Remote()))
		conn.Close(errExpired)
		s.closed(conn)
	}
	return nil
}
