package broker

import (
	"slices"

	"go.uber.org/zap"

	"gomq/internal/protocol"
	"gomq/internal/remoting"
)

// manualRounds is how many rounds of deletion a request asks for; a round deletes
// up to ten log files (behaviour.md section 15).
const manualRounds = 20

// deleteExpired is DELETE_EXPIRED_COMMITLOG (329): log files that are older than
// fileReservedTime go now, whatever the hour. The answer does not wait for that.
func (s *topicDesk) deleteExpired(c *remoting.Call) (remoting.Response, error) {
	s.store.DeleteExpired(manualRounds)
	s.log.Info("deletion of expired log files asked for by request", zap.Stringer("from", c.Conn.Remote()))
	return remoting.Response{}, nil
}

// cleanExpired is CLEAN_EXPIRED_CONSUMEQUEUE (306). The queues follow the log
// whenever files of it are deleted, so there is nothing left to do but what such a
// round had to leave for later.
func (s *topicDesk) cleanExpired(c *remoting.Call) (remoting.Response, error) {
	s.store.DeleteExpired(0)
	s.log.Info("cleaning of expired queues asked for by request", zap.Stringer("from", c.Conn.Remote()))
	return remoting.Response{}, nil
}

// cleanUnused is CLEAN_UNUSED_TOPIC (316): the queues of topics that are in no
// table go, but for the broker's own.
func (s *topicDesk) cleanUnused(c *remoting.Call) (remoting.Response, error) {
	o := s.live.Load()
	if err := onlyMaster(o); err != nil {
		return remoting.Response{}, err
	}
	var unused []string
	for _, q := range s.store.Queues() {
		if name := q.Topic(); s.topics.Get([]byte(name)) == nil && !systemTopic(name, o) {
			unused = append(unused, name)
		}
	}
	slices.Sort(unused)
	for _, name := range slices.Compact(unused) {
		if s.topics.Get([]byte(name)) != nil {
			continue // made meanwhile
		}
		if err := s.drop(name); err != nil {
			return remoting.Response{}, err
		}
		s.log.Info("queues of a topic that does not exist removed by request", zap.String("topic", name), zap.Stringer("from", c.Conn.Remote()))
	}
	return remoting.Response{}, nil
}

// updateAll is UPDATE_AND_CREATE_TOPIC_LIST (18) of 5.x: all of the topics, or
// none when one of them is not possible.
func (s *topicDesk) updateAll(c *remoting.Call) (remoting.Response, error) {
	list, err := protocol.ParseTopicConfigs(c.Req.Body)
	if err != nil {
		return remoting.Response{}, refuse(protocol.SystemError, "%s", err)
	}
	for i := range list {
		if err := s.changeable(list[i].TopicName); err != nil {
			return remoting.Response{}, err
		}
		if err := s.topics.Possible(&list[i]); err != nil {
			return remoting.Response{}, refuse(protocol.SystemError, "%s", err)
		}
	}
	for _, t := range list {
		if err := s.put(t, c); err != nil {
			return remoting.Response{}, err
		}
	}
	s.names.announce(true)
	return remoting.Response{}, nil
}
