package broker

import (
	"errors"
	"fmt"
	"math"
	"time"

	"go.uber.org/zap"

	"gomq/internal/config"
	"gomq/internal/message"
	"gomq/internal/protocol"
	"gomq/internal/remoting"
	"gomq/internal/store"
)

// queryDesk finds messages other than by their queue: QUERY_MESSAGE (12) and
// VIEW_MESSAGE_BY_ID (33).
type queryDesk struct {
	live  *config.Live[Options]
	log   *zap.Logger
	store *store.Store
}

// maxQueryBytes bounds one answer, well below what a frame may have.
const maxQueryBytes = 8 << 20

// byKey is QUERY_MESSAGE. The index knows keys by their hash only, as in the
// original: clients compare the keys once more.
func (s *queryDesk) byKey(c *remoting.Call) (remoting.Response, error) {
	var h protocol.QueryHeader
	if err := c.Req.Decode(&h); err != nil {
		return remoting.Response{}, err
	}
	o := s.live.Load()
	most := int(h.MaxNum)
	if h.UniqueKey {
		most = o.DefaultQueryMaxNum
	}
	most = min(most, o.MaxMsgsNumBatch)
	offsets, lastTime, lastOffset, err := s.store.Lookup([]byte(h.Topic), []byte(h.Key), h.Begin, h.End, most)
	if err != nil {
		return remoting.Response{}, err
	}
	var body []byte
	for _, at := range offsets {
		r, err := s.store.ReadRecord(at)
		if err != nil {
			if !errors.Is(err, store.ErrNoRecord) {
				s.log.Warn("a message that the index names could not be read", zap.Int64("offset", at), zap.Error(err))
			}
			continue // its file went meanwhile
		}
		if len(body)+len(r) > maxQueryBytes && len(body) > 0 {
			break
		}
		body = append(body, r...)
	}
	resp := remoting.Response{Header: &protocol.QueryReply{IndexLastUpdateTimestamp: lastTime, IndexLastUpdateOffset: lastOffset}, Body: body}
	if len(body) == 0 {
		resp.Code, resp.Remark = protocol.QueryNotFound, "can not find message, maybe time range not correct ("+s.whyNothing(&h, len(offsets), o)+")"
	}
	return resp, nil
}

// whyNothing is what is known of why a query found nothing: the time that the
// index covers, or why it has nothing.
func (s *queryDesk) whyNothing(h *protocol.QueryHeader, named int, o *Options) string {
	if !o.MessageIndexEnable {
		return "messageIndexEnable=false: no keys are indexed"
	}
	first, last, behind := s.store.IndexSpan()
	when := func(ms int64) string { return time.UnixMilli(ms).Format("2006-01-02 15:04:05,000") }
	why := ""
	switch {
	case last == 0:
		why = "nothing is indexed"
	case named > 0:
		why = "the messages that the index names are gone"
	case h.End < first || h.Begin > last:
		why = fmt.Sprintf("the index covers messages stored from %s to %s, the time asked for lies outside", when(first), when(last))
	default:
		why = fmt.Sprintf("the index covers messages stored from %s to %s, none in the time asked for has this key in topic %s", when(first), when(last), h.Topic)
	}
	if behind > 0 {
		why += fmt.Sprintf("; %d bytes of the log are not indexed yet", behind)
	}
	return why
}

// byOffset is VIEW_MESSAGE_BY_ID.
func (s *queryDesk) byOffset(c *remoting.Call) (remoting.Response, error) {
	var h protocol.ViewHeader
	if err := c.Req.Decode(&h); err != nil {
		return remoting.Response{}, err
	}
	var r message.Record
	err := error(store.ErrNoRecord)
	if h.Offset >= 0 && h.Offset < math.MaxInt64 {
		r, err = s.store.ReadRecord(h.Offset)
	}
	switch {
	case errors.Is(err, store.ErrNoRecord):
		return remoting.Response{}, refuse(protocol.SystemError, "can not find message by the offset, %d", h.Offset)
	case err != nil:
		return remoting.Response{}, err
	}
	return remoting.Response{Body: r}, nil
}
