package namesrv

import (
	"errors"
	"fmt"
	"slices"

	"go.uber.org/zap"

	"gomq/internal/config"
	"gomq/internal/protocol"
	"gomq/internal/remoting"
)

// deleteTopic serves DELETE_TOPIC_IN_NAMESRV (216).
func (s *Server) deleteTopic(c *remoting.Call, h *protocol.TopicHeader) (remoting.Response, error) {
	s.table.deleteTopic(h.Topic, h.ClusterName)
	s.log.Info("topic deleted", zap.String("topic", h.Topic), zap.String("cluster", h.ClusterName), zap.Stringer("peer", c.Conn.Remote()))
	return remoting.Response{}, nil
}

// wipeWrite serves WIPE_WRITE_PERM_OF_BROKER (205): until its topics change, no
// producer is sent to the broker.
func (s *Server) wipeWrite(c *remoting.Call, h *protocol.BrokerNameHeader) (remoting.Response, error) {
	n := s.table.setPerm(h.BrokerName, func(perm int32) int32 { return perm &^ permWrite })
	s.log.Info("write permission wiped", zap.String("broker", h.BrokerName), zap.Int("topics", n), zap.Stringer("peer", c.Conn.Remote()))
	return remoting.Response{Header: &protocol.WipePermReply{Topics: int32(n)}}, nil
}

// addWrite serves ADD_WRITE_PERM_OF_BROKER (327), which sets exactly read and
// write.
func (s *Server) addWrite(c *remoting.Call, h *protocol.BrokerNameHeader) (remoting.Response, error) {
	n := s.table.setPerm(h.BrokerName, func(int32) int32 { return permReadWrite })
	s.log.Info("write permission added", zap.String("broker", h.BrokerName), zap.Int("topics", n), zap.Stringer("peer", c.Conn.Remote()))
	return remoting.Response{Header: &protocol.AddPermReply{Topics: int32(n)}}, nil
}

// getConfig serves GET_NAMESRV_CONFIG (319).
func (s *Server) getConfig(*remoting.Call) (remoting.Response, error) {
	return remoting.Response{Body: s.live.Text()}, nil
}

// forbidden are the keys whose mention refuses an update as a whole, as in 4.9.8,
// whatever their value; configBlackList adds to them.
var forbidden = []string{"configBlackList", "configStorePath", "kvConfigPath", "rocketmqHome"}

// updateConfig serves UPDATE_NAMESRV_CONFIG (318). Only keys that the table marks
// as changeable may be set.
func (s *Server) updateConfig(c *remoting.Call) (remoting.Response, error) {
	in, err := config.Parse("update", c.Req.Body)
	if err != nil {
		return remoting.Response{}, refuse(protocol.SystemError, "string2Properties error: "+err.Error())
	}
	black := ""
	o := s.live.Load()
	in.Each(func(key, _ string, _ int) {
		if slices.Contains(forbidden, key) || slices.Contains(o.ConfigBlackList, key) {
			black = key
		}
	})
	log := s.log.With(zap.Stringer("peer", c.Conn.Remote()))
	if black != "" {
		log.Warn("configuration update refused", zap.String("key", black))
		return remoting.Response{}, refuse(protocol.NoPermission, "Can not update config in black list.")
	}
	done, err := s.live.Update(c.Req.Body)
	for _, a := range done {
		log.Info("configuration changed", zap.String("key", a.Key), zap.String("old", a.Old), zap.String("new", a.New), zap.Bool("now", a.Change == config.Hot))
	}
	var r *config.Refused
	switch {
	case err == nil:
		return remoting.Response{}, nil
	case errors.As(err, &r) && r.Forbidden:
		log.Warn("configuration update refused", zap.String("key", r.Key))
		return remoting.Response{}, refuse(protocol.NoPermission, fmt.Sprintf("Can not update config in black list. %s", r.Error()))
	}
	return remoting.Response{}, err
}
