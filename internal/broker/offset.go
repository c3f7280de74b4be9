package broker

import (
	"go.uber.org/zap"

	"gomq/internal/broker/meta"
	"gomq/internal/protocol"
	"gomq/internal/remoting"
	"gomq/internal/store"
)

// offsetDesk answers what is asked about offsets: committed ones (14, 15, 43) and
// those of the queues (29, 30, 31, 32).
type offsetDesk struct {
	log     *zap.Logger
	store   *store.Store
	topics  *meta.Topics
	offsets *meta.Offsets
	pulls   *puller // says what counts as in memory
}

// query is QUERY_CONSUMER_OFFSET (14). A group without an offset starts at 0 on a
// queue whose beginning is still there and in memory (behaviour.md section 9);
// otherwise the client decides by its own rule.
func (s *offsetDesk) query(c *remoting.Call) (remoting.Response, error) {
	var h protocol.OffsetHeader
	if err := c.Req.Decode(&h); err != nil {
		return remoting.Response{}, err
	}
	offset, ok := s.offsets.Query(h.Topic, h.Group, h.QueueID)
	if !ok && (!h.ZeroIfNotFound || !s.fromZero(&h)) {
		return remoting.Response{}, refuse(protocol.QueryNotFound, "Not found, V3_0_6_SNAPSHOT maybe this group consumer boot first")
	}
	return remoting.Response{Header: &protocol.OffsetReply{Offset: offset}}, nil
}

func (s *offsetDesk) fromZero(h *protocol.OffsetHeader) bool {
	q := s.queue(h.Topic, h.QueueID)
	if q == nil {
		return true
	}
	if q.Min() > 0 {
		return false
	}
	near := s.pulls.near(s.pulls.live.Load())
	if q.Max() == 0 || s.store.MaxOffset()-s.store.MinOffset() <= near {
		return true
	}
	r := readings.Get().(*reading)
	defer readings.Put(r)
	s.store.Get(store.GetRequest{Queue: q, MaxCount: 1, MaxBytes: 1, NearBytes: near, MaxCountFar: 1, MaxBytesFar: 1}, &r.res)
	if r.res.Cold {
		return false
	}
	r.res.View.Release()
	return !r.res.OnDisk
}

// commit is UPDATE_CONSUMER_OFFSET (15).
func (s *offsetDesk) commit(c *remoting.Call) (remoting.Response, error) {
	h := protocol.OffsetHeader{Update: true}
	if err := c.Req.Decode(&h); err != nil {
		return remoting.Response{}, err
	}
	if h.Merge {
		if _, err := s.offsets.Merge(string(h.Topic), string(h.Group), h.QueueID, h.CommitOffset, h.Reset); err != nil {
			return remoting.Response{}, refuse(protocol.SystemError, "%s", err)
		}
		return remoting.Response{Header: &protocol.NoFields{}}, nil
	}
	if err := s.offsets.Commit(h.Topic, h.Group, h.QueueID, h.CommitOffset); err != nil {
		return remoting.Response{}, refuse(protocol.SystemError, "%s", err)
	}
	return remoting.Response{Header: &protocol.NoFields{}}, nil
}

// all is GET_ALL_CONSUMER_OFFSET (43).
func (s *offsetDesk) all(c *remoting.Call) (remoting.Response, error) {
	var h protocol.AllOffsetsHeader
	if err := c.Req.Decode(&h); err != nil {
		return remoting.Response{}, err
	}
	if h.Resets {
		t, stamps := s.offsets.Stamped()
		return remoting.Response{Body: t.AppendWith(nil, stamps)}, nil
	}
	return remoting.Response{Body: s.offsets.Table().Append(nil)}, nil
}

// queue is the queue that a question is about; nil when the topic has none of
// that number, so that questions cannot make queues.
func (s *offsetDesk) queue(topic []byte, id int32) *store.Queue {
	t := s.topics.Get(topic)
	if t == nil || id < 0 || id >= max(t.ReadQueueNums, t.WriteQueueNums) {
		return nil
	}
	return s.store.Queue(topic, id)
}

// of decodes a question about one queue. A queue that is not there is empty, as
// in the original.
func (s *offsetDesk) of(c *remoting.Call, search bool) (h protocol.QueueHeader, q *store.Queue, err error) {
	h.Search = search
	err = c.Req.Decode(&h)
	return h, s.queue(h.Topic, h.QueueID), err
}

func offsetAnswer(offset int64) (remoting.Response, error) {
	return remoting.Response{Header: &protocol.OffsetReply{Offset: offset}}, nil
}

// max is GET_MAX_OFFSET (30).
func (s *offsetDesk) max(c *remoting.Call) (remoting.Response, error) {
	_, q, err := s.of(c, false)
	if err != nil || q == nil {
		return remoting.Response{Header: &protocol.OffsetReply{}}, err
	}
	return offsetAnswer(q.Max())
}

// min is GET_MIN_OFFSET (31).
func (s *offsetDesk) min(c *remoting.Call) (remoting.Response, error) {
	_, q, err := s.of(c, false)
	if err != nil || q == nil {
		return remoting.Response{Header: &protocol.OffsetReply{}}, err
	}
	return offsetAnswer(q.Min())
}

// search is SEARCH_OFFSET_BY_TIMESTAMP (29).
func (s *offsetDesk) search(c *remoting.Call) (remoting.Response, error) {
	h, q, err := s.of(c, true)
	if err != nil || q == nil {
		return remoting.Response{Header: &protocol.OffsetReply{}}, err
	}
	return offsetAnswer(s.store.SearchTime(q, h.Timestamp))
}

// earliest is GET_EARLIEST_MSG_STORETIME (32).
func (s *offsetDesk) earliest(c *remoting.Call) (remoting.Response, error) {
	_, q, err := s.of(c, false)
	if err != nil || q == nil {
		return remoting.Response{Header: &protocol.TimestampReply{Timestamp: -1}}, err
	}
	return remoting.Response{Header: &protocol.TimestampReply{Timestamp: s.store.EarliestTime(q)}}, nil
}
