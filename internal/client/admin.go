package client

import (
	"context"
	"fmt"

	"gomq/internal/message"
	"gomq/internal/protocol"
)

// CreateTopic creates or changes a topic on the broker at addr.
func (c *Client) CreateTopic(ctx context.Context, addr string, t protocol.TopicConfig) error {
	return c.createTopic(ctx, addr, t, false)
}

// CreateTopicIfMissing creates a topic on the broker at addr unless it has one by
// that name. A broker other than gomq's changes the one that it has.
func (c *Client) CreateTopicIfMissing(ctx context.Context, addr string, t protocol.TopicConfig) error {
	return c.createTopic(ctx, addr, t, true)
}

func (c *Client) createTopic(ctx context.Context, addr string, t protocol.TopicConfig, ifMissing bool) error {
	if t.TopicFilterType == "" {
		t.TopicFilterType = "SINGLE_TAG"
	}
	h := protocol.CreateTopicHeader{Topic: t.TopicName, DefaultTopic: message.TopicDefault, ReadQueueNums: t.ReadQueueNums,
		WriteQueueNums: t.WriteQueueNums, Perm: t.Perm, TopicFilterType: t.TopicFilterType, TopicSysFlag: t.TopicSysFlag, Order: t.Order, IfMissing: ifMissing}
	_, err := c.ask(ctx, addr, protocol.UpdateAndCreateTopic, &h, nil)
	return err
}

// DeleteTopic deletes a topic on the broker at addr; the nameservers are told by
// NameServers.DeleteTopic.
func (c *Client) DeleteTopic(ctx context.Context, addr, topic string) error {
	_, err := c.ask(ctx, addr, protocol.DeleteTopicInBroker, &protocol.TopicHeader{Topic: topic}, nil)
	return err
}

// CreateGroup creates or changes a consumer group.
func (c *Client) CreateGroup(ctx context.Context, addr string, g protocol.GroupConfig) error {
	_, err := c.ask(ctx, addr, protocol.UpdateAndCreateGroup, nil, g.Append(nil))
	return err
}

// DeleteGroup deletes a consumer group, and what it has committed when offsets is
// set.
func (c *Client) DeleteGroup(ctx context.Context, addr, group string, offsets bool) error {
	_, err := c.ask(ctx, addr, protocol.DeleteGroup, &protocol.DeleteGroupHeader{GroupName: group, RemoveOffset: offsets}, nil)
	return err
}

// TopicConfigs is all topics of the broker at addr.
func (c *Client) TopicConfigs(ctx context.Context, addr string) (map[string]protocol.TopicConfig, protocol.DataVersion, error) {
	resp, err := c.ask(ctx, addr, protocol.GetAllTopicConfig, nil, nil)
	if err != nil {
		return nil, protocol.DataVersion{}, err
	}
	return protocol.ParseTopicTable(resp.Body)
}

// GroupConfigs is all consumer groups of the broker at addr.
func (c *Client) GroupConfigs(ctx context.Context, addr string) (map[string]protocol.GroupConfig, protocol.DataVersion, error) {
	resp, err := c.ask(ctx, addr, protocol.GetAllGroupConfig, nil, nil)
	if err != nil {
		return nil, protocol.DataVersion{}, err
	}
	return protocol.ParseGroupTable(resp.Body)
}

// AllOffsets is what all groups have committed on the broker at addr.
func (c *Client) AllOffsets(ctx context.Context, addr string) (protocol.OffsetTable, error) {
	resp, err := c.ask(ctx, addr, protocol.GetAllConsumerOffset, nil, nil)
	return parsed(resp, err, protocol.ParseOffsetTable)
}

// StampedOffsets is AllOffsets with the stamps of deliberate steps back, nil from a
// broker that keeps none (Java's).
func (c *Client) StampedOffsets(ctx context.Context, addr string) (offsets, stamps protocol.OffsetTable, err error) {
	resp, err := c.ask(ctx, addr, protocol.GetAllConsumerOffset, &protocol.AllOffsetsHeader{Resets: true}, nil)
	if err != nil {
		return nil, nil, err
	}
	if offsets, stamps, err = protocol.ParseOffsets(resp.Body); err != nil {
		return nil, nil, fmt.Errorf("the answer does not parse: %w", err)
	}
	return offsets, stamps, nil
}

// DelayOffsets is how far the delay levels of the broker at addr have got.
func (c *Client) DelayOffsets(ctx context.Context, addr string) (protocol.DelayTable, error) {
	resp, err := c.ask(ctx, addr, protocol.GetAllDelayOffset, nil, nil)
	return parsed(resp, err, protocol.ParseDelayTable)
}

// TopicStats is the ends of a topic's queues.
func (c *Client) TopicStats(ctx context.Context, addr, topic string) (protocol.TopicStats, error) {
	resp, err := c.ask(ctx, addr, protocol.GetTopicStatsInfo, &protocol.TopicHeader{Topic: topic}, nil)
	return parsed(resp, err, protocol.ParseTopicStats)
}

// ConsumeStats is how far a group has got, in one topic or in all ("").
func (c *Client) ConsumeStats(ctx context.Context, addr, group, topic string) (*protocol.ConsumeStats, error) {
	resp, err := c.ask(ctx, addr, protocol.GetConsumeStats, &protocol.ConsumeStatsHeader{Group: group, Topic: topic}, nil)
	return parsed(resp, err, protocol.ParseConsumeStats)
}

// ConsumerConnection is who consumes as group; nobody is refused with
// CONSUMER_NOT_ONLINE.
func (c *Client) ConsumerConnection(ctx context.Context, addr, group string) (*protocol.ConsumerConnection, error) {
	resp, err := c.ask(ctx, addr, protocol.GetConsumerConnectionList, &protocol.ConsumerGroupHeader{Group: group}, nil)
	return parsed(resp, err, protocol.ParseConsumerConnection)
}

// ProducerConnection is who produces as group.
func (c *Client) ProducerConnection(ctx context.Context, addr, group string) (protocol.ProducerConnection, error) {
	resp, err := c.ask(ctx, addr, protocol.GetProducerConnectionList, &protocol.ProducerGroupHeader{Group: group}, nil)
	return parsed(resp, err, protocol.ParseProducerConnection)
}

// GroupsOf is the groups that consume a topic.
func (c *Client) GroupsOf(ctx context.Context, addr, topic string) (protocol.GroupList, error) {
	resp, err := c.ask(ctx, addr, protocol.QueryTopicConsumeByWho, &protocol.TopicHeader{Topic: topic}, nil)
	return parsed(resp, err, protocol.ParseGroupList)
}

// View is the message whose record lies at offset in the log of the broker at
// addr; message.ParseID gives the two of a message id.
func (c *Client) View(ctx context.Context, addr string, offset int64) (message.Record, error) {
	resp, err := c.ask(ctx, addr, protocol.ViewMessageByID, &protocol.ViewHeader{Offset: offset}, nil)
	return parsed(resp, err, func(b []byte) (message.Record, error) { return message.ParseRecord(b, true) })
}

// Query finds messages by key, or by unique id when h.UniqueKey is set. Nothing
// found is refused with QUERY_NOT_FOUND.
func (c *Client) Query(ctx context.Context, addr string, h protocol.QueryHeader) ([]message.Record, error) {
	resp, err := c.ask(ctx, addr, protocol.QueryMessage, &h, nil)
	return parsed(resp, err, Records)
}

// Records cuts the body of an answer into the records that it holds. They share
// its memory.
func Records(body []byte) ([]message.Record, error) {
	var all []message.Record
	for len(body) > 0 {
		r, err := message.ParseRecord(body, true)
		if err != nil {
			return all, fmt.Errorf("record %d: %w", len(all), err)
		}
		all = append(all, r)
		body = body[r.Size():]
	}
	return all, nil
}

// Config is the configuration of the broker at addr: key=value lines, and the
// version that it has.
func (c *Client) Config(ctx context.Context, addr string) (string, protocol.DataVersion, error) {
	var r protocol.BrokerConfigReply
	resp, err := c.askFor(ctx, addr, protocol.GetBrokerConfig, nil, nil, &r)
	if err != nil {
		return "", r.Version, err
	}
	return string(resp.Body), r.Version, nil
}

// UpdateConfig changes keys of the broker at addr; text is properties.
func (c *Client) UpdateConfig(ctx context.Context, addr, text string) error {
	_, err := c.ask(ctx, addr, protocol.UpdateBrokerConfig, nil, []byte(text))
	return err
}

// RuntimeInfo is the figures of the broker at addr (requests.md section 3.5).
func (c *Client) RuntimeInfo(ctx context.Context, addr string) (protocol.KVTable, error) {
	resp, err := c.ask(ctx, addr, protocol.GetBrokerRuntimeInfo, nil, nil)
	return parsed(resp, err, protocol.ParseKVTable)
}
