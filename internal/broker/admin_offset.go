package broker

import (
	"math"
	"slices"
	"strings"

	"go.uber.org/zap"

	"gomq/internal/protocol"
	"gomq/internal/remoting"
)

// timeSpans is QUERY_CONSUME_TIME_SPAN (303): the times of the first, the last and
// the last consumed message of each queue, and how old the next one is.
func (s *groupDesk) timeSpans(c *remoting.Call) (remoting.Response, error) {
	var h protocol.GroupTopicHeader
	if err := c.Req.Decode(&h); err != nil {
		return remoting.Response{}, err
	}
	queues, err := writeQueues(s.topics, s.live.Load(), h.Topic)
	if err != nil {
		return remoting.Response{}, err
	}
	out := make(protocol.TimeSpans, 0, len(queues))
	for _, mq := range queues {
		span := protocol.TimeSpan{Queue: mq, Min: -1, Max: -1, Consumed: -1}
		if q := s.store.Queue([]byte(mq.Topic), mq.QueueID); q != nil {
			at, _ := s.offsets.Query([]byte(mq.Topic), []byte(h.Group), mq.QueueID)
			span.Min, span.Max = s.store.EarliestTime(q), s.store.StoreTimeAt(q, q.Max()-1)
			span.Consumed = span.Min
			if at > 0 {
				span.Consumed = s.store.StoreTimeAt(q, at-1)
			}
			if next := s.store.StoreTimeAt(q, max(at, q.Min())); next > 0 && at < q.Max() {
				span.Delay = max(s.stats.now().UnixMilli()-next, 0)
			}
		}
		out = append(out, span)
	}
	return remoting.Response{Body: out.Append(nil)}, nil
}

// corrections is QUERY_CORRECTION_OFFSET (308): for each queue of the topic the
// least offset that a group has committed and that is still there; the largest
// number where the group compared with is not behind it.
func (s *groupDesk) corrections(c *remoting.Call) (remoting.Response, error) {
	var h protocol.CorrectionHeader
	if err := c.Req.Decode(&h); err != nil {
		return remoting.Response{}, err
	}
	without := strings.Split(h.Without, ",")
	out := protocol.Corrections{}
	for _, group := range s.offsets.Groups(h.Topic) {
		if slices.Contains(without, group) {
			continue
		}
		for id, offset := range s.offsets.Queues(h.Topic, group) {
			if q := s.store.Queue([]byte(h.Topic), id); q != nil && offset < q.Min() {
				continue
			}
			if least, ok := out[id]; !ok || offset < least {
				out[id] = offset
			}
		}
	}
	for id, offset := range s.offsets.Queues(h.Topic, h.Compare) {
		if least, ok := out[id]; ok && least > offset {
			out[id] = math.MaxInt64
		}
	}
	return remoting.Response{Body: out.Append(nil)}, nil
}

// clone is CLONE_GROUP_OFFSET (314): a group gets the offsets of another one. To
// have none to copy is no error, because tools ask each broker; the remark says it.
func (s *groupDesk) clone(c *remoting.Call) (remoting.Response, error) {
	var h protocol.CloneHeader
	if err := c.Req.Decode(&h); err != nil {
		return remoting.Response{}, err
	}
	names := []string{h.Topic}
	if h.Topic == "" {
		names = s.offsets.Topics(h.From)
	}
	online, isOnline := s.consumers.Group(h.From)
	copied := 0
	for _, topic := range names {
		if s.topics.Get([]byte(topic)) == nil || !h.Offline && isOnline && online.Subs[topic] == nil {
			continue
		}
		for id, offset := range s.offsets.Queues(topic, h.From) {
			if err := s.offsets.Commit([]byte(topic), []byte(h.To), id, offset); err != nil {
				return remoting.Response{}, refuse(protocol.SystemError, "offset of queue %d of topic %s for group %s: %s", id, topic, h.To, err)
			}
			copied++
		}
	}
	s.log.Info("offsets copied by request", zap.String("from", h.From), zap.String("to", h.To), zap.Strings("topics", names), zap.Int("queues", copied), zap.Stringer("peer", c.Conn.Remote()))
	if copied == 0 {
		return remoting.Response{Remark: "group " + h.From + " has no offsets here that could be copied"}, nil
	}
	return remoting.Response{}, nil
}
