package namesrv

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"go.uber.org/zap"

	"gomq/internal/protocol"
	"gomq/internal/remoting"
)

// register serves REGISTER_BROKER (103): a broker says who it is, where, and what
// it serves.
func (s *Server) register(c *remoting.Call, h *protocol.RegisterHeader) (remoting.Response, error) {
	if h.BodyCRC32 != 0 && protocol.RegisterCRC(c.Req.Body) != h.BodyCRC32 {
		return remoting.Response{}, refuse(protocol.SystemError, "crc32 not match")
	}
	if err := checkBroker(h.BrokerName, h.BrokerAddr, h.ClusterName); err != nil {
		return remoting.Response{}, err
	}
	body, err := protocol.ParseRegisterBody(c.Req.Body)
	if err != nil {
		return remoting.Response{}, fmt.Errorf("the registration of broker %s at %s does not parse: %w", h.BrokerName, h.BrokerAddr, err)
	}
	o := s.live.Load()
	r := registration{RegisterHeader: *h, RegisterBody: *body, conn: c.Conn, maxBrokers: o.MaxBrokers, maxTopics: o.MaxTopics}
	out, err := s.table.register(&r)
	if err != nil {
		s.log.Error("registration refused", zap.String("broker", h.BrokerName), zap.Int64("id", h.BrokerID), zap.String("addr", h.BrokerAddr),
			zap.Stringer("peer", c.Conn.Remote()), zap.Error(err))
		return remoting.Response{}, refuse(protocol.SystemError, err.Error())
	}
	s.metrics.registrations.Inc()
	s.sayRegistered(c, h, body, out)
	resp := remoting.Response{Header: &out.reply}
	if orders := s.kv.namespace(orderNamespace); orders != nil {
		resp.Body = protocol.KVTable(orders).Append(nil)
	}
	return resp, nil
}

func (s *Server) sayRegistered(c *remoting.Call, h *protocol.RegisterHeader, body *protocol.RegisterBody, out outcome) {
	log := s.log.With(zap.String("broker", h.BrokerName), zap.Int64("id", h.BrokerID), zap.String("addr", h.BrokerAddr), zap.Stringer("peer", c.Conn.Remote()))
	switch {
	case out.stale:
		log.Warn("registration over an older connection ignored")
	case out.fresh:
		log.Info("broker registered", zap.String("cluster", h.ClusterName), zap.Int("topics", len(body.Topics)), zap.Int32("version", c.Req.Version))
	}
	if out.replaced != "" {
		log.Warn("another broker of the same name and id is replaced", zap.String("former", out.replaced))
	}
}

// checkBroker refuses what clients could not use or would misread: the Go client
// cuts addresses at commas and blanks.
func checkBroker(name, addr, cluster string) error {
	for _, n := range []struct{ what, value string }{{"brokerName", name}, {"clusterName", cluster}} {
		if n.value == "" || len(n.value) > 255 || strings.ContainsFunc(n.value, func(r rune) bool { return r < ' ' }) {
			return refuse(protocol.SystemError, fmt.Sprintf("%s %q must have 1 to 255 characters", n.what, shorten(n.value)))
		}
	}
	host, port, err := net.SplitHostPort(addr)
	if err == nil {
		var n int
		if n, err = strconv.Atoi(port); n < 1 || n > 65535 || host == "" || len(host) > 255 || strings.ContainsAny(host, " ,;\t\r\n\"") {
			err = errors.New("bad")
		}
	}
	if err != nil {
		return refuse(protocol.SystemError, fmt.Sprintf("brokerAddr %q is not host:port", shorten(addr)))
	}
	return nil
}

// shorten keeps what a peer sent from filling logs and answers.
func shorten(s string) string {
	if len(s) > 100 {
		return s[:100] + "..."
	}
	return s
}

// unregister serves UNREGISTER_BROKER (104); it always succeeds.
func (s *Server) unregister(c *remoting.Call, h *protocol.BrokerHeader) (remoting.Response, error) {
	log := s.log.With(zap.String("broker", h.BrokerName), zap.Int64("id", h.BrokerID), zap.String("addr", h.BrokerAddr), zap.Stringer("peer", c.Conn.Remote()))
	if s.table.unregister(h, c.Conn) {
		log.Info("broker unregistered")
	} else {
		log.Info("nothing to unregister: the broker is not known, or has registered anew since")
	}
	return remoting.Response{}, nil
}

// queryDataVersion serves QUERY_DATA_VERSION (322): a broker asks whether it must
// register; one that need not is alive.
func (s *Server) queryDataVersion(c *remoting.Call, h *protocol.BrokerHeader) (remoting.Response, error) {
	v, err := protocol.ParseDataVersion(c.Req.Body)
	if err != nil {
		return remoting.Response{}, fmt.Errorf("the data version of broker %s at %s does not parse: %w", h.BrokerName, h.BrokerAddr, err)
	}
	has, known, changed := s.table.check(h, v, c.Conn)
	resp := remoting.Response{Header: &protocol.DataVersionReply{Changed: changed}}
	if known {
		resp.Body = has.Append(nil)
	}
	return resp, nil
}
