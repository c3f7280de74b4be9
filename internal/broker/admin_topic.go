package broker

import (
	"slices"
	"strings"

	"go.uber.org/zap"

	"gomq/internal/broker/clients"
	"gomq/internal/broker/meta"
	"gomq/internal/config"
	"gomq/internal/message"
	"gomq/internal/protocol"
	"gomq/internal/remoting"
	"gomq/internal/store"
)

// topicDesk is the administration of topics.
type topicDesk struct {
	live      *config.Live[Options]
	log       *zap.Logger
	store     *store.Store
	topics    *meta.Topics
	offsets   *meta.Offsets
	consumers *clients.Consumers[*remoting.Conn]
	names     *registrar
	pulls     *puller
	stats     *stats
}

// systemTopic says whether the topic is one of the broker's own, which
// administration may not create, change or delete.
func systemTopic(name string, o *Options) bool {
	return message.IsSystemTopic(name) || name == o.BrokerClusterName || name == o.BrokerName || name == o.BrokerClusterName+message.ReplyTopicSuffix
}

// changeable refuses names that administration may not touch.
func (s *topicDesk) changeable(name string) error {
	if err := onlyMaster(s.live.Load()); err != nil {
		return err
	}
	if err := message.ValidTopic(name); err != nil {
		return refuse(protocol.SystemError, "%s", err)
	}
	if systemTopic(name, s.live.Load()) {
		return refuse(protocol.SystemError, "The topic[%s] is conflict with system topic.", name)
	}
	return nil
}

// update is UPDATE_AND_CREATE_TOPIC (17). As in the original it does not touch
// whether the topic is ordered: that comes from the nameservers.
func (s *topicDesk) update(c *remoting.Call) (remoting.Response, error) {
	var h protocol.CreateTopicHeader
	if err := c.Req.Decode(&h); err != nil {
		return remoting.Response{}, err
	}
	if err := s.changeable(h.Topic); err != nil {
		return remoting.Response{}, err
	}
	if h.IfMissing {
		switch {
		case s.topics.Get([]byte(h.Topic)) != nil:
			return remoting.Response{}, nil
		case !s.live.Load().AutoCreateTopicEnable:
			return remoting.Response{}, refuse(protocol.NoPermission, "topic %s was created by a send at another master, and here autoCreateTopicEnable=false", h.Topic)
		}
	}
	if err := s.put(h.Config(), c); err != nil {
		return remoting.Response{}, err
	}
	s.names.announce(true)
	return remoting.Response{}, nil
}

// put creates or changes a topic.
func (s *topicDesk) put(t protocol.TopicConfig, c *remoting.Call) error {
	t.Order = false
	if old := s.topics.Get([]byte(t.TopicName)); old != nil {
		t.Order = old.Order
	}
	begun := s.stats.now()
	err := s.topics.Put(t)
	s.stats.made(false, t.TopicName, begun, err, s.live.Load())
	if err != nil {
		return tableError(err)
	}
	s.log.Info("topic created or changed by request", zap.String("topic", t.TopicName), zap.Int32("readQueues", t.ReadQueueNums),
		zap.Int32("writeQueues", t.WriteQueueNums), zap.String("perm", permText(t.Perm)), zap.Stringer("from", c.Conn.Remote()))
	return nil
}

// delete is DELETE_TOPIC_IN_BROKER (215): the configuration and the queues go,
// the messages stay in the log until it is their turn.
func (s *topicDesk) delete(c *remoting.Call) (remoting.Response, error) {
	var h protocol.TopicHeader
	if err := c.Req.Decode(&h); err != nil {
		return remoting.Response{}, err
	}
	if err := s.changeable(h.Topic); err != nil {
		return remoting.Response{}, err
	}
	if err := s.topics.Delete(h.Topic); err != nil {
		return remoting.Response{}, err
	}
	if err := s.drop(h.Topic); err != nil {
		return remoting.Response{}, err
	}
	s.log.Info("topic deleted by request", zap.String("topic", h.Topic), zap.Stringer("from", c.Conn.Remote()))
	s.names.announce(false)
	return remoting.Response{}, nil
}

// drop removes what there is of a topic beside its configuration and its messages.
func (s *topicDesk) drop(topic string) error {
	var queues []*store.Queue
	for _, q := range s.store.Queues() {
		if q.Topic() == topic {
			queues = append(queues, q)
		}
	}
	if err := s.store.DropQueue(topic); err != nil {
		return err
	}
	s.pulls.dropQueues(queues)
	s.stats.forget(topic)
	return nil
}

// all is GET_ALL_TOPIC_CONFIG (21).
func (s *topicDesk) all(*remoting.Call) (remoting.Response, error) {
	t, v := s.topics.Snapshot()
	return remoting.Response{Header: &protocol.NoFields{}, Body: protocol.AppendTopicTable(nil, t, v)}, nil
}

// one is GET_TOPIC_CONFIG (351) of 5.x, which dashboards ask.
func (s *topicDesk) one(c *remoting.Call) (remoting.Response, error) {
	var h protocol.TopicHeader
	if err := c.Req.Decode(&h); err != nil {
		return remoting.Response{}, err
	}
	t := s.topics.Get([]byte(h.Topic))
	if t == nil {
		return remoting.Response{}, refuse(protocol.TopicNotExist, "No topic in this broker. topic: %s", h.Topic)
	}
	return remoting.Response{Body: t.Append(nil)}, nil
}

// writeQueues names the write queues of a topic to tools, those without a message too.
func writeQueues(topics *meta.Topics, o *Options, topic string) ([]protocol.MessageQueue, error) {
	t := topics.Get([]byte(topic))
	if t == nil {
		return nil, refuse(protocol.TopicNotExist, "topic[%s] not exist", topic)
	}
	list := make([]protocol.MessageQueue, 0, t.WriteQueueNums)
	for id := range t.WriteQueueNums {
		list = append(list, protocol.MessageQueue{Topic: topic, BrokerName: o.BrokerName, QueueID: id})
	}
	return list, nil
}

// statistics is GET_TOPIC_STATS_INFO (202): the write queues, new ones too.
func (s *topicDesk) statistics(c *remoting.Call) (remoting.Response, error) {
	var h protocol.TopicHeader
	if err := c.Req.Decode(&h); err != nil {
		return remoting.Response{}, err
	}
	queues, err := writeQueues(s.topics, s.live.Load(), h.Topic)
	if err != nil {
		return remoting.Response{}, err
	}
	out := make(protocol.TopicStats, 0, len(queues))
	for _, mq := range queues {
		st := protocol.TopicQueueStats{Queue: mq}
		q := s.store.Queue([]byte(mq.Topic), mq.QueueID)
		if q != nil {
			st.MinOffset, st.MaxOffset = max(q.Min(), 0), max(q.Max(), 0)
		}
		if st.MaxOffset > st.MinOffset {
			st.LastUpdate = max(s.store.StoreTimeAt(q, st.MaxOffset-1), 0)
		}
		out = append(out, st)
	}
	return remoting.Response{Body: out.Append(nil)}, nil
}

// consumedBy is QUERY_TOPIC_CONSUME_BY_WHO (300): who is connected and who has
// been.
func (s *topicDesk) consumedBy(c *remoting.Call) (remoting.Response, error) {
	var h protocol.TopicHeader
	if err := c.Req.Decode(&h); err != nil {
		return remoting.Response{}, err
	}
	groups := append(s.consumers.Subscribers(h.Topic), s.offsets.Groups(h.Topic)...)
	slices.Sort(groups)
	return remoting.Response{Body: protocol.GroupList(slices.Compact(groups)).Append(nil)}, nil
}

// system is GET_SYSTEM_TOPIC_LIST_FROM_BROKER (305): the names that are taken,
// whether the topics exist or not, and those with the system's prefix that do.
func (s *topicDesk) system(*remoting.Call) (remoting.Response, error) {
	o := s.live.Load()
	list := append([]string{}, message.TopicDefault, message.TopicSchedule, message.TopicBenchmark, message.TopicHalf, message.TopicTrace,
		message.TopicOpHalf, message.TopicCheckMax, message.TopicSelfTest, message.TopicOffsetMoved,
		o.BrokerClusterName, o.BrokerName, o.BrokerClusterName+message.ReplyTopicSuffix)
	t, _ := s.topics.Snapshot()
	for name := range t {
		if strings.HasPrefix(name, message.SystemPrefix) {
			list = append(list, name)
		}
	}
	slices.Sort(list)
	return remoting.Response{Body: protocol.TopicList{Topics: slices.Compact(list)}.Append(nil)}, nil
}
