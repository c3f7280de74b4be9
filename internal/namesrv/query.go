package namesrv

import (
	"gomq/internal/protocol"
	"gomq/internal/remoting"
)

const faq = "\nSee http://rocketmq.apache.org/docs/faq/ for further details."

// route serves GET_ROUTEINFO_BY_TOPIC (105), which clients ask every 30 s for
// each of their topics.
func (s *Server) route(c *remoting.Call, h *protocol.RouteHeader) (remoting.Response, error) {
	body := s.table.route(h.Topic, protocol.StandardRoute(c.Req.Version, h))
	if body == nil {
		return remoting.Response{}, refuse(protocol.TopicNotExist, "No topic route info in name server for the topic: "+h.Topic+faq)
	}
	return remoting.Response{Body: body}, nil
}

// clusterInfo serves GET_BROKER_CLUSTER_INFO (106).
func (s *Server) clusterInfo(*remoting.Call) (remoting.Response, error) {
	return remoting.Response{Body: s.table.clusterInfo()}, nil
}

// allTopics serves GET_ALL_TOPIC_LIST_FROM_NAMESERVER (206).
func (s *Server) allTopics(*remoting.Call) (remoting.Response, error) {
	return topicList(s.table.topicNames(nil))
}

// topicsByCluster serves GET_TOPICS_BY_CLUSTER (224); an unknown cluster has none.
func (s *Server) topicsByCluster(_ *remoting.Call, h *protocol.ClusterHeader) (remoting.Response, error) {
	return topicList(s.table.topicsOf(h.Cluster))
}

// systemTopics serves GET_SYSTEM_TOPIC_LIST_FROM_NS (304).
func (s *Server) systemTopics(*remoting.Call) (remoting.Response, error) {
	return remoting.Response{Body: s.table.systemTopics().Append(nil)}, nil
}

// unitTopics serves 311, 312 and 313: topics with these bits of their sysFlag.
func unitTopics(want, without int32) handler {
	return func(s *Server, _ *remoting.Call) (remoting.Response, error) {
		return topicList(s.table.withFlags(want, without))
	}
}

func topicList(names []string) (remoting.Response, error) {
	return remoting.Response{Body: protocol.TopicList{Topics: names}.Append(nil)}, nil
}
