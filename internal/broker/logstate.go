package broker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gomq/internal/config"
	"gomq/internal/ha"
	"gomq/internal/protocol"
	"gomq/internal/remoting"
	"gomq/internal/store"
)

// mostReadLog bounds the answer to GOMQ_READ_LOG, mostSum the part of the log that
// GOMQ_LOG_STATE computes the checksum of.
const mostReadLog, mostSum = 1 << 20, 1 << 20

// logDesk answers gomq brokers of the set that ask what this one has of its log:
// 209001 and 209002.
type logDesk struct {
	live   *config.Live[Options]
	store  *store.Store
	settle func(ctx context.Context) error // see ha.Replica.Settle
	stop   context.Context                 // ends with the broker
}

// settleWait bounds how long a slave appends what it has of its old master.
const settleWait = 2 * time.Second

// state is GOMQ_LOG_STATE (209001). Only a master that starts asks: the one that this
// slave follows is gone, and what it has sent is in the log before the answer.
func (s *logDesk) state(c *remoting.Call) (remoting.Response, error) {
	var h protocol.LogStateHeader
	if err := c.Req.Decode(&h); err != nil {
		return remoting.Response{}, err
	}
	if h.To-h.From > mostSum || h.From < 0 {
		return remoting.Response{}, refuse(protocol.SystemError, "a checksum of [%d, %d), at most %d bytes are possible", h.From, h.To, mostSum)
	}
	ctx, cancel := context.WithTimeout(s.stop, settleWait)
	defer cancel()
	if err := s.settle(ctx); err != nil {
		return remoting.Response{}, fmt.Errorf("saying how far the log goes: %w", err)
	}
	sum, err := ha.Sum(s.store, h.From, h.To)
	if err != nil {
		return remoting.Response{}, logError(err)
	}
	o := s.live.Load()
	return remoting.Response{Header: &protocol.LogStateReply{ClusterName: o.BrokerClusterName, BrokerName: o.BrokerName, BrokerID: o.BrokerID,
		FileSize: s.store.FileSize(), Min: s.store.MinOffset(), End: s.store.MaxOffset(), Empty: s.store.Empty(), Sum: int64(sum)}}, nil
}

// read is GOMQ_READ_LOG (209002).
func (s *logDesk) read(c *remoting.Call) (remoting.Response, error) {
	var h protocol.ReadLogHeader
	if err := c.Req.Decode(&h); err != nil {
		return remoting.Response{}, err
	}
	if h.Most <= 0 || h.From < 0 {
		return remoting.Response{}, refuse(protocol.SystemError, "%d bytes of the log from %d on", h.Most, h.From)
	}
	body := make([]byte, min(h.Most, mostReadLog))
	n, err := s.store.ReadRaw(body, h.From, s.store.MaxOffset())
	if err != nil {
		return remoting.Response{}, logError(err)
	}
	return remoting.Response{Body: body[:n]}, nil
}

// logError is the error of an offset that the log does not have, or of the disk.
func logError(err error) error {
	if errors.Is(err, store.ErrNoRecord) {
		return refuse(protocol.QueryNotFound, "%s", err)
	}
	return fmt.Errorf("reading the log for another broker of the set: %w", err)
}
