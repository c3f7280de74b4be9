package client

import (
	"context"
	"fmt"
	"time"

	"gomq/internal/protocol"
)

// Pulled is the answer to a pull.
type Pulled struct {
	Code   int32  // SUCCESS, PULL_NOT_FOUND, PULL_RETRY_IMMEDIATELY or PULL_OFFSET_MOVED
	Status string // the original's name of it, for people
	protocol.PullReply
	Body []byte // records, one behind the other; message.ParseRecord reads them
}

// Pull reads from a queue of the broker at addr. With PullSuspend the broker may
// wait h.SuspendMillis for a message: a context without a deadline then gets that
// much more.
func (c *Client) Pull(ctx context.Context, addr string, h protocol.PullHeader) (Pulled, error) {
	if _, ok := ctx.Deadline(); !ok && h.SysFlag&protocol.PullSuspend != 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.o.Timeout+time.Duration(h.SuspendMillis)*time.Millisecond)
		defer cancel()
	}
	resp, err := c.Call(ctx, addr, protocol.NewRequest(protocol.PullMessage, &h, nil))
	if err != nil {
		return Pulled{}, fmt.Errorf("pulling from %s: %w", addr, err)
	}
	p := Pulled{Code: resp.Code, Status: resp.Remark, Body: resp.Body}
	switch resp.Code {
	case protocol.Success, protocol.PullNotFound, protocol.PullRetryImmediately, protocol.PullOffsetMoved:
		err = resp.Decode(&p.PullReply)
	default:
		err = refusal(resp)
	}
	if err != nil {
		return Pulled{}, fmt.Errorf("pulling from %s: %w", addr, err)
	}
	return p, nil
}

// Offset is what a group has committed of a queue; found is false when it has
// committed nothing there.
func (c *Client) Offset(ctx context.Context, addr, group, topic string, queue int32) (offset int64, found bool, err error) {
	h := protocol.OffsetHeader{Group: []byte(group), Topic: []byte(topic), QueueID: queue}
	var r protocol.OffsetReply
	_, err = c.askFor(ctx, addr, protocol.QueryConsumerOffset, &h, nil, &r)
	if code, refused := Code(err); refused && code == protocol.QueryNotFound {
		return 0, false, nil
	}
	return r.Offset, err == nil, err
}

// Commit stores what a group has consumed of a queue: offset is the next it wants.
func (c *Client) Commit(ctx context.Context, addr, group, topic string, queue int32, offset int64) error {
	h := protocol.OffsetHeader{Update: true, Group: []byte(group), Topic: []byte(topic), QueueID: queue, CommitOffset: offset}
	_, err := c.ask(ctx, addr, protocol.UpdateConsumerOffset, &h, nil)
	return err
}

// MergeOffset is Commit that counts only where offset is newer than what the broker
// at addr has: set back later (stamp, ms), or as late and larger. A broker other
// than gomq's takes it whatever it has.
func (c *Client) MergeOffset(ctx context.Context, addr, group, topic string, queue int32, offset, stamp int64) error {
	h := protocol.OffsetHeader{Update: true, Merge: true, Group: []byte(group), Topic: []byte(topic), QueueID: queue, CommitOffset: offset, Reset: stamp}
	_, err := c.ask(ctx, addr, protocol.UpdateConsumerOffset, &h, nil)
	return err
}

// MaxOffset is the end of a queue, the offset that its next message will have.
func (c *Client) MaxOffset(ctx context.Context, addr, topic string, queue int32) (int64, error) {
	return c.queueOffset(ctx, addr, protocol.GetMaxOffset, protocol.QueueHeader{Topic: []byte(topic), QueueID: queue})
}

// MinOffset is the first message that a queue still has.
func (c *Client) MinOffset(ctx context.Context, addr, topic string, queue int32) (int64, error) {
	return c.queueOffset(ctx, addr, protocol.GetMinOffset, protocol.QueueHeader{Topic: []byte(topic), QueueID: queue})
}

// SearchOffset is the first message of a queue stored at t or later.
func (c *Client) SearchOffset(ctx context.Context, addr, topic string, queue int32, t time.Time) (int64, error) {
	return c.queueOffset(ctx, addr, protocol.SearchOffsetByTimestamp,
		protocol.QueueHeader{Search: true, Topic: []byte(topic), QueueID: queue, Timestamp: t.UnixMilli()})
}

func (c *Client) queueOffset(ctx context.Context, addr string, code int32, h protocol.QueueHeader) (int64, error) {
	var r protocol.OffsetReply
	_, err := c.askFor(ctx, addr, code, &h, nil, &r)
	return r.Offset, err
}

// EarliestStoreTime is when the first message of a queue was stored, ms; -1 when
// it is empty.
func (c *Client) EarliestStoreTime(ctx context.Context, addr, topic string, queue int32) (int64, error) {
	h := protocol.QueueHeader{Topic: []byte(topic), QueueID: queue}
	var r protocol.TimestampReply
	_, err := c.askFor(ctx, addr, protocol.GetEarliestMsgStoreTime, &h, nil, &r)
	return r.Timestamp, err
}

// Beat sends a heartbeat: who we are and what we produce and consume.
func (c *Client) Beat(ctx context.Context, addr string, h *protocol.Heartbeat) error {
	_, err := c.ask(ctx, addr, protocol.HeartBeat, nil, h.Append(nil))
	return err
}

// Leave takes a client out of the groups given ("" is none).
func (c *Client) Leave(ctx context.Context, addr, clientID, producerGroup, consumerGroup string) error {
	h := protocol.UnregisterClientHeader{ClientID: clientID, ProducerGroup: producerGroup, ConsumerGroup: consumerGroup}
	_, err := c.ask(ctx, addr, protocol.UnregisterClient, &h, nil)
	return err
}

// Consumers is the ids of a group's clients.
func (c *Client) Consumers(ctx context.Context, addr, group string) (protocol.ConsumerIDs, error) {
	resp, err := c.ask(ctx, addr, protocol.GetConsumerListByGroup, &protocol.ConsumerGroupHeader{Group: group}, nil)
	return parsed(resp, err, protocol.ParseConsumerIDs)
}

// Lock asks for the queues of an ordered consumer and returns those it holds now.
func (c *Client) Lock(ctx context.Context, addr string, l *protocol.LockBatch) (protocol.LockedQueues, error) {
	resp, err := c.ask(ctx, addr, protocol.LockBatchMQ, nil, l.Append(nil))
	return parsed(resp, err, protocol.ParseLockedQueues)
}

// Unlock gives queues back.
func (c *Client) Unlock(ctx context.Context, addr string, l *protocol.LockBatch) error {
	_, err := c.ask(ctx, addr, protocol.UnlockBatchMQ, nil, l.Append(nil))
	return err
}
