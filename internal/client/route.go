package client

import (
	"context"

	"gomq/internal/protocol"
)

// Route is who serves a topic. Nameservers are asked one after the other until
// one knows it; a topic that none knows is refused with TOPIC_NOT_EXIST.
func (n *NameServers) Route(ctx context.Context, topic string) (*protocol.RouteData, error) {
	resp, err := n.any(ctx, protocol.GetRouteInfoByTopic, &protocol.RouteHeader{Topic: topic}, nil, nil)
	return parsed(resp, err, protocol.ParseRouteData)
}

// RouteAt is what the nameserver at addr alone knows of a topic.
func (c *Client) RouteAt(ctx context.Context, addr, topic string) (*protocol.RouteData, error) {
	resp, err := c.ask(ctx, addr, protocol.GetRouteInfoByTopic, &protocol.RouteHeader{Topic: topic}, nil)
	return parsed(resp, err, protocol.ParseRouteData)
}

// ClusterInfo is all brokers and clusters.
func (n *NameServers) ClusterInfo(ctx context.Context) (*protocol.ClusterInfo, error) {
	resp, err := n.any(ctx, protocol.GetBrokerClusterInfo, nil, nil, nil)
	return parsed(resp, err, protocol.ParseClusterInfo)
}

// ClusterInfoAt is the brokers that the nameserver at addr alone knows.
func (c *Client) ClusterInfoAt(ctx context.Context, addr string) (*protocol.ClusterInfo, error) {
	resp, err := c.ask(ctx, addr, protocol.GetBrokerClusterInfo, nil, nil)
	return parsed(resp, err, protocol.ParseClusterInfo)
}

// Topics is the names of all topics.
func (n *NameServers) Topics(ctx context.Context) (protocol.TopicList, error) {
	return n.topics(ctx, protocol.GetAllTopicListFromNS, nil)
}

// TopicsOf is the topics of a cluster's brokers; none for an unknown cluster.
func (n *NameServers) TopicsOf(ctx context.Context, cluster string) (protocol.TopicList, error) {
	return n.topics(ctx, protocol.GetTopicsByCluster, &protocol.ClusterHeader{Cluster: cluster})
}

// SystemTopics is the clusters' and brokers' names, which are topics, and the
// address of a broker that knows the rest.
func (n *NameServers) SystemTopics(ctx context.Context) (protocol.TopicList, error) {
	return n.topics(ctx, protocol.GetSystemTopicListFromNS, nil)
}

// UnitTopics is the topics of units: code is one of 311, 312 and 313.
func (n *NameServers) UnitTopics(ctx context.Context, code int32) (protocol.TopicList, error) {
	return n.topics(ctx, code, nil)
}

func (n *NameServers) topics(ctx context.Context, code int32, header protocol.Header) (protocol.TopicList, error) {
	resp, err := n.any(ctx, code, header, nil, nil)
	return parsed(resp, err, protocol.ParseTopicList)
}

// DeleteTopic makes every nameserver forget a topic, of one cluster only unless
// that is "". A broker that still has it brings it back.
func (n *NameServers) DeleteTopic(ctx context.Context, topic, cluster string) []Outcome {
	return n.all(ctx, protocol.DeleteTopicInNamesrv, func() protocol.Header {
		return &protocol.TopicHeader{Topic: topic, ClusterName: cluster}
	})
}

// PermChange is what one nameserver made of WipeWrite or AddWrite.
type PermChange struct {
	Addr   string
	Topics int32 // how many topics changed
	Err    error
}

// WipeWrite takes the write permission of all topics of a broker name away, in
// the routes of every nameserver, until the broker's topics change.
func (n *NameServers) WipeWrite(ctx context.Context, brokerName string) []PermChange {
	return each(n, func(addr string) PermChange {
		var r protocol.WipePermReply
		_, err := n.c.askFor(ctx, addr, protocol.WipeWritePermOfBroker, &protocol.BrokerNameHeader{BrokerName: brokerName}, nil, &r)
		return PermChange{addr, r.Topics, err}
	})
}

// AddWrite gives read and write permission back.
func (n *NameServers) AddWrite(ctx context.Context, brokerName string) []PermChange {
	return each(n, func(addr string) PermChange {
		var r protocol.AddPermReply
		_, err := n.c.askFor(ctx, addr, protocol.AddWritePermOfBroker, &protocol.BrokerNameHeader{BrokerName: brokerName}, nil, &r)
		return PermChange{addr, r.Topics, err}
	})
}
