package broker

import (
	"fmt"

	"gomq/internal/protocol"
	"gomq/internal/remoting"
)

// Limits on what one answer lists, well below what a frame may have.
const (
	maxStatsQueues   = 50_000 // of 317
	maxListedClients = 50_000 // of 328
	maxListedEntries = 10_000 // of 321
)

// one is GET_SUBSCRIPTIONGROUP_CONFIG (352) of 5.x.
func (s *groupDesk) one(c *remoting.Call) (remoting.Response, error) {
	var h protocol.GroupHeader
	if err := c.Req.Decode(&h); err != nil {
		return remoting.Response{}, err
	}
	g := s.groups.Get([]byte(h.Group))
	if g == nil {
		return remoting.Response{}, refuse(protocol.GroupNotExist, "No group in this broker. group: %s", h.Group)
	}
	return remoting.Response{Body: g.Append(nil)}, nil
}

// updateAll is UPDATE_AND_CREATE_SUBSCRIPTIONGROUP_LIST (225) of 5.x: all of the
// groups, or none when one of them is not possible.
func (s *groupDesk) updateAll(c *remoting.Call) (remoting.Response, error) {
	if err := onlyMaster(s.live.Load()); err != nil {
		return remoting.Response{}, err
	}
	list, err := protocol.ParseGroupConfigs(c.Req.Body)
	if err != nil {
		return remoting.Response{}, refuse(protocol.SystemError, "%s", err)
	}
	for i := range list {
		if err := s.possible(&list[i]); err != nil {
			return remoting.Response{}, err
		}
	}
	for _, g := range list {
		if err := s.put(g, c); err != nil {
			return remoting.Response{}, err
		}
	}
	return remoting.Response{}, nil
}

// topicsOf is QUERY_TOPICS_BY_CONSUMER (343) of 5.x: the topics in which a group
// has offsets.
func (s *groupDesk) topicsOf(c *remoting.Call) (remoting.Response, error) {
	var h protocol.GroupHeader
	if err := c.Req.Decode(&h); err != nil {
		return remoting.Response{}, err
	}
	list := protocol.TopicList{Topics: s.offsets.Topics(h.Group), BrokerAddr: brokerAddr(s.live.Load())}
	return remoting.Response{Body: list.Append(nil)}, nil
}

// subscription is QUERY_SUBSCRIPTION_BY_CONSUMER (345) of 5.x: how a connected
// group subscribes to a topic.
func (s *groupDesk) subscription(c *remoting.Call) (remoting.Response, error) {
	var h protocol.GroupTopicHeader
	if err := c.Req.Decode(&h); err != nil {
		return remoting.Response{}, err
	}
	out := protocol.SubscriptionReply{Group: h.Group, Topic: h.Topic, Subscription: s.subscribed(h.Group, h.Topic)}
	return remoting.Response{Body: out.Append(nil)}, nil
}

// subscribed is how a connected group subscribes to a topic, nil for not at all.
func (s *groupDesk) subscribed(group, topic string) *protocol.Subscription {
	g, _ := s.consumers.Group(group)
	sub := g.Subs[topic]
	if sub == nil {
		return nil
	}
	shown := subscriptionOf(sub)
	return &shown
}

// allProducers is GET_ALL_PRODUCER_INFO (328).
func (s *groupDesk) allProducers(*remoting.Call) (remoting.Response, error) {
	groups, n := s.producers.Groups(), 0
	out := make(protocol.ProducerTable, len(groups))
	for group, members := range groups {
		if n += len(members); n > maxListedClients {
			return remoting.Response{}, refuse(protocol.SystemError, "more than %d producers are connected, too many for one answer: ask for each group (204)", maxListedClients)
		}
		list := connections(members)
		shown := make([]protocol.Producer, len(list))
		for i := range list {
			shown[i] = protocol.Producer{Connection: list[i], LastUpdate: members[i].Seen.UnixMilli()}
		}
		out[group] = shown
	}
	return remoting.Response{Body: out.Append(nil)}, nil
}

// brokerStatistics is GET_BROKER_CONSUME_STATS (317): how far every group of the
// table has come in each write queue of its topics.
func (s *groupDesk) brokerStatistics(c *remoting.Call) (remoting.Response, error) {
	var h protocol.BrokerStatsHeader
	if err := c.Req.Decode(&h); err != nil {
		return remoting.Response{}, err
	}
	o, queues := s.live.Load(), int32(0)
	out := &protocol.BrokerStats{BrokerAddr: brokerAddr(o)}
	groups, _ := s.groups.Snapshot()
	for name := range groups {
		g := protocol.GroupStats{Group: name}
		online, isOnline := s.consumers.Group(name)
		for _, topic := range s.offsets.Topics(name) {
			t := s.topics.Get([]byte(topic))
			if t == nil || h.Ordered && !t.Order || isOnline && online.Subs[topic] == nil {
				continue
			}
			if queues += t.WriteQueueNums; queues > maxStatsQueues {
				return remoting.Response{}, refuse(protocol.SystemError, "the groups of this broker consume more than %d queues, too many for one answer: ask for each group (208)", maxStatsQueues)
			}
			stats := protocol.ConsumeStats{ConsumeTPS: s.stats.consumeTPS(topic, name)}
			for id := range t.WriteQueueNums {
				q := s.queueStats(name, o.BrokerName, topic, id)
				out.TotalDiff += q.BrokerOffset - q.ConsumerOffset
				stats.Queues = append(stats.Queues, q)
			}
			g.Topics = append(g.Topics, stats)
		}
		out.Groups = append(out.Groups, g)
	}
	return remoting.Response{Body: out.Append(nil)}, nil
}

// queueEntries is QUERY_CONSUME_QUEUE (321): entries of a queue as they lie on the
// disk and, with a group, how it subscribes.
func (s *groupDesk) queueEntries(c *remoting.Call) (remoting.Response, error) {
	var h protocol.QueueViewHeader
	if err := c.Req.Decode(&h); err != nil {
		return remoting.Response{}, err
	}
	t := s.topics.Get([]byte(h.Topic))
	if t == nil || h.QueueID < 0 || h.QueueID >= max(t.ReadQueueNums, t.WriteQueueNums) {
		return remoting.Response{}, refuse(protocol.SystemError, "%d@%s is not exist!", h.QueueID, h.Topic)
	}
	q := s.store.Queue([]byte(h.Topic), h.QueueID)
	if q == nil {
		return remoting.Response{}, refuse(protocol.SystemError, "%d@%s is not exist!", h.QueueID, h.Topic)
	}
	out := protocol.QueueView{Min: q.Min(), Max: q.Max()}
	if h.Group != "" {
		if out.Subscription = s.subscribed(h.Group, h.Topic); out.Subscription == nil {
			out.Filter = fmt.Sprintf("%s@%s is not online!", h.Group, h.Topic)
		} else {
			out.Filter = "null" // of an expression that is not compiled, in the original's text
		}
	}
	if h.Index < out.Min || h.Index >= out.Max {
		return remoting.Response{Remark: fmt.Sprintf("Index %d of %d@%s is not exist!", h.Index, h.QueueID, h.Topic), Body: out.Append(nil)}, nil
	}
	for at, end := h.Index, min(out.Max, h.Index+int64(min(h.Count, maxListedEntries))); at < end; at++ {
		offset, size, tags, err := s.store.Entry(q, at)
		if err != nil {
			return remoting.Response{}, err
		}
		out.Entries = append(out.Entries, protocol.QueueEntry{Offset: offset, Size: size, TagsCode: tags})
	}
	return remoting.Response{Body: out.Append(nil)}, nil
}

// viewStats is VIEW_BROKER_STATS_DATA (315).
func (s *brokerDesk) viewStats(c *remoting.Call) (remoting.Response, error) {
	var h protocol.ViewStatsHeader
	if err := c.Req.Decode(&h); err != nil {
		return remoting.Response{}, err
	}
	v, ok := s.stats.named(h.Name, h.Key, s.live.Load().BrokerClusterName)
	if !ok {
		return remoting.Response{}, refuse(protocol.SystemError, "The stats <%s> <%s> not exist", h.Name, h.Key)
	}
	return remoting.Response{Body: v.Append(nil)}, nil
}
