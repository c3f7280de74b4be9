package broker

import (
	"go.uber.org/zap"

	"gomq/internal/broker/clients"
	"gomq/internal/broker/meta"
	"gomq/internal/config"
	"gomq/internal/message"
	"gomq/internal/protocol"
	"gomq/internal/remoting"
	"gomq/internal/store"
)

// groupDesk is the administration of groups and what tools ask about them.
type groupDesk struct {
	live      *config.Live[Options]
	log       *zap.Logger
	store     *store.Store
	topics    *meta.Topics
	groups    *meta.Groups
	offsets   *meta.Offsets
	producers *clients.Producers[*remoting.Conn]
	consumers *clients.Consumers[*remoting.Conn]
	stats     *stats
}

// update is UPDATE_AND_CREATE_SUBSCRIPTIONGROUP (200).
func (s *groupDesk) update(c *remoting.Call) (remoting.Response, error) {
	if err := onlyMaster(s.live.Load()); err != nil {
		return remoting.Response{}, err
	}
	g, err := protocol.ParseGroup(c.Req.Body)
	if err != nil {
		return remoting.Response{}, refuse(protocol.SystemError, "the group does not parse: %s", err)
	}
	if err := s.possible(&g); err != nil {
		return remoting.Response{}, err
	}
	return remoting.Response{}, s.put(g, c)
}

// put creates or changes a group.
func (s *groupDesk) put(g protocol.GroupConfig, c *remoting.Call) error {
	begun := s.stats.now()
	err := s.groups.Put(g)
	s.stats.made(true, g.GroupName, begun, err, s.live.Load())
	if err != nil {
		return tableError(err)
	}
	s.log.Info("group created or changed by request", zap.String("group", g.GroupName), zap.Stringer("from", c.Conn.Remote()))
	return nil
}

// possible says what is wrong with a group that is asked for.
func (s *groupDesk) possible(g *protocol.GroupConfig) error {
	if err := message.ValidGroup(g.GroupName); err != nil {
		return refuse(protocol.SystemError, "%s", err)
	}
	if most := s.live.Load().MaxQueuesPerTopic; g.RetryQueueNums < 0 || g.RetryQueueNums > most {
		return refuse(protocol.SystemError, "retryQueueNums=%d of group %s is not between 0 and %d", g.RetryQueueNums, g.GroupName, most)
	}
	return nil
}

// all is GET_ALL_SUBSCRIPTIONGROUP_CONFIG (201).
func (s *groupDesk) all(*remoting.Call) (remoting.Response, error) {
	g, v := s.groups.Snapshot()
	return remoting.Response{Body: protocol.AppendGroupTable(nil, g, v)}, nil
}

// delete is DELETE_SUBSCRIPTIONGROUP (207).
func (s *groupDesk) delete(c *remoting.Call) (remoting.Response, error) {
	if err := onlyMaster(s.live.Load()); err != nil {
		return remoting.Response{}, err
	}
	var h protocol.DeleteGroupHeader
	if err := c.Req.Decode(&h); err != nil {
		return remoting.Response{}, err
	}
	if err := s.groups.Delete(h.GroupName); err != nil {
		return remoting.Response{}, err
	}
	if h.RemoveOffset {
		s.offsets.DropGroup(h.GroupName)
	}
	s.log.Info("group deleted by request", zap.String("group", h.GroupName), zap.Bool("offsetsToo", h.RemoveOffset), zap.Stringer("from", c.Conn.Remote()))
	return remoting.Response{}, nil
}

// statistics is GET_CONSUME_STATS (208): how far a group has come in each queue
// of its topics. A topic that nobody of the group subscribes to any more is left
// out while somebody of it is connected.
func (s *groupDesk) statistics(c *remoting.Call) (remoting.Response, error) {
	var h protocol.ConsumeStatsHeader
	if err := c.Req.Decode(&h); err != nil {
		return remoting.Response{}, err
	}
	names := []string{h.Topic}
	if h.Topic == "" {
		names = s.offsets.Topics(h.Group)
	}
	online, isOnline := s.consumers.Group(h.Group)
	name := s.live.Load().BrokerName
	out := &protocol.ConsumeStats{}
	for _, topic := range names {
		t := s.topics.Get([]byte(topic))
		if t == nil || (isOnline && online.Subs[topic] == nil) {
			continue
		}
		for id := range t.ReadQueueNums {
			out.Queues = append(out.Queues, s.queueStats(h.Group, name, topic, id))
		}
		out.ConsumeTPS += s.stats.consumeTPS(topic, h.Group)
	}
	return remoting.Response{Body: out.Append(nil)}, nil
}

func (s *groupDesk) queueStats(group, broker, topic string, id int32) protocol.ConsumeQueueStats {
	q := s.store.Queue([]byte(topic), id)
	st := protocol.ConsumeQueueStats{Queue: protocol.MessageQueue{Topic: topic, BrokerName: broker, QueueID: id}}
	if q == nil {
		return st
	}
	st.BrokerOffset = max(q.Max(), 0)
	if offset, ok := s.offsets.Query([]byte(topic), []byte(group), id); ok {
		st.ConsumerOffset = max(offset, 0)
	}
	if st.ConsumerOffset > 0 {
		st.LastTimestamp = max(s.store.StoreTimeAt(q, st.ConsumerOffset-1), 0)
	}
	return st
}

// consumerConnections is GET_CONSUMER_CONNECTION_LIST (203).
func (s *groupDesk) consumerConnections(c *remoting.Call) (remoting.Response, error) {
	var h protocol.ConsumerGroupHeader
	if err := c.Req.Decode(&h); err != nil {
		return remoting.Response{}, err
	}
	g, ok := s.consumers.Group(h.Group)
	if !ok {
		return remoting.Response{}, refuse(protocol.ConsumerNotOnline, "the consumer group[%s] not online", h.Group)
	}
	out := protocol.ConsumerConnection{Connections: connections(g.Clients), ConsumeType: g.Type, MessageModel: g.Model, ConsumeFromWhere: g.From,
		Subscriptions: map[string]protocol.Subscription{}}
	for topic, sub := range g.Subs {
		out.Subscriptions[topic] = subscriptionOf(sub)
	}
	return remoting.Response{Body: out.Append(nil)}, nil
}

// subscriptionOf is a subscription as it is shown.
func subscriptionOf(s *clients.Sub) protocol.Subscription {
	return protocol.Subscription{Topic: s.Topic, SubString: s.Expr, TagsSet: s.TagSet, CodeSet: s.Codes, SubVersion: s.Version, ExpressionType: s.Type}
}

// producerConnections is GET_PRODUCER_CONNECTION_LIST (204).
func (s *groupDesk) producerConnections(c *remoting.Call) (remoting.Response, error) {
	var h protocol.ProducerGroupHeader
	if err := c.Req.Decode(&h); err != nil {
		return remoting.Response{}, err
	}
	members, ok := s.producers.Members(h.Group)
	if !ok {
		return remoting.Response{}, refuse(protocol.SystemError, "the producer group[%s] not exist", h.Group)
	}
	return remoting.Response{Body: protocol.ProducerConnection(connections(members)).Append(nil)}, nil
}

func connections(list []clients.Client[*remoting.Conn]) []protocol.Connection {
	out := make([]protocol.Connection, len(list))
	for i, c := range list {
		out[i] = protocol.Connection{ClientID: c.ID, ClientAddr: c.Conn.Remote().String(), Language: c.Language, Version: c.Version}
	}
	return out
}
