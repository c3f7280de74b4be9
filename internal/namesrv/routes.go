package namesrv

import (
	"errors"

	"go.uber.org/zap"

	"gomq/internal/protocol"
	"gomq/internal/remoting"
)

// handler answers one request. An *protocol.Error is told to the peer as it is,
// any other error as SYSTEM_ERROR.
type handler func(s *Server, c *remoting.Call) (remoting.Response, error)

// row is how one request code is served.
type row struct {
	serve   handler
	lane    bool   // it writes a file, so it leaves the reader's goroutine
	differs string // for docs/COMPAT.md: how it is not as in 4.9
}

// routes is every request that a nameserver serves. What is not here is answered
// REQUEST_CODE_NOT_SUPPORTED, 5.x's 217, 901 and 904 included: its brokers can do
// without.
var routes = map[int32]row{
	protocol.RegisterBroker:   {serve: with((*Server).register), differs: "a second living master of a name is refused, naming the first, until that was silent for 120 s or its connection has closed; limits on brokers, topics and inflated bytes"},
	protocol.UnregisterBroker: {serve: with((*Server).unregister), differs: "name, id and address must be those registered, and the request must not come over an older connection"},
	protocol.QueryDataVersion: {serve: with((*Server).queryDataVersion)},

	protocol.GetRouteInfoByTopic:  {serve: with((*Server).route)},
	protocol.GetBrokerClusterInfo: {serve: (*Server).clusterInfo},

	protocol.GetAllTopicListFromNS:    {serve: (*Server).allTopics},
	protocol.GetTopicsByCluster:       {serve: with((*Server).topicsByCluster)},
	protocol.GetSystemTopicListFromNS: {serve: (*Server).systemTopics},
	protocol.GetUnitTopicList:         {serve: unitTopics(flagUnit, 0)},
	protocol.GetHasUnitSubTopicList:   {serve: unitTopics(flagUnitSub, 0)},
	protocol.GetHasUnitSubUnunitList:  {serve: unitTopics(flagUnitSub, flagUnit)},
	protocol.DeleteTopicInNamesrv:     {serve: with((*Server).deleteTopic)},
	protocol.WipeWritePermOfBroker:    {serve: with((*Server).wipeWrite)},
	protocol.AddWritePermOfBroker:     {serve: with((*Server).addWrite)},

	protocol.PutKVConfig:          {serve: (*Server).putKV, lane: true, differs: "a limit on the bytes of all keys and values (maxKVConfigBytes)"},
	protocol.DeleteKVConfig:       {serve: with((*Server).deleteKV), lane: true},
	protocol.GetKVConfig:          {serve: with((*Server).getKV)},
	protocol.GetKVListByNamespace: {serve: with((*Server).listKV)},

	protocol.GetNamesrvConfig:    {serve: (*Server).getConfig},
	protocol.UpdateNamesrvConfig: {serve: (*Server).updateConfig, lane: true, differs: "only the keys marked *at once* or *restart* in docs/CONFIG.md; the file keeps its comments and order"},
}

// with decodes a request's header for fn.
func with[H any, P interface {
	*H
	protocol.Header
}](fn func(s *Server, c *remoting.Call, h P) (remoting.Response, error)) handler {
	return func(s *Server, c *remoting.Call) (remoting.Response, error) {
		h := P(new(H))
		if err := c.Req.Decode(h); err != nil {
			return remoting.Response{}, err
		}
		return fn(s, c, h)
	}
}

// Request implements remoting.Handler.
func (s *Server) Request(_ *remoting.Turn, c *remoting.Call) {
	r, ok := routes[c.Req.Code]
	switch {
	case !ok:
		c.Answer(remoting.NotSupported(c.Req.Code))
	case !r.lane:
		s.serve(c, r.serve)
	case !s.lane.Submit(c, func(c *remoting.Call) { s.serve(c, r.serve) }):
		c.Answer(remoting.Busy)
	}
}

// EndTurn implements remoting.Handler; everything has been answered by then.
func (s *Server) EndTurn(*remoting.Turn) {}

func (s *Server) serve(c *remoting.Call, fn handler) {
	resp, err := fn(s, c)
	if err != nil {
		resp = remoting.Response{Code: protocol.SystemError, Remark: err.Error(), Header: resp.Header}
		var e *protocol.Error
		if errors.As(err, &e) {
			resp.Code = e.Code
		} else {
			s.log.Warn("request failed", zap.String("request", protocol.RequestName(c.Req.Code)), zap.Stringer("peer", c.Conn.Remote()), zap.Error(err))
		}
	}
	c.Answer(resp)
}

// refuse is the error of a request that is answered with a code of its own.
func refuse(code int32, remark string) error { return &protocol.Error{Code: code, Remark: remark} }
