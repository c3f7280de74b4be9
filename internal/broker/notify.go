package broker

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"gomq/internal/protocol"
	"gomq/internal/remoting"
)

// notifier is what the broker says to clients and asks of them, over the
// connections that they have made.
type notifier struct {
	log   *zap.Logger
	asked atomic.Int64 // questions that wait for a client's answer
}

// Limits on the questions that wait for an answer; more are refused.
const (
	maxAskedOfOne = 1_000  // of one client
	maxAsked      = 10_000 // of all
)

// clientWait is how long a client has for its answer (wire.md section 10).
const clientWait = 10 * time.Second

// errAskedEnough is why a client was not asked.
var errAskedEnough = fmt.Errorf("%d questions wait for the answers of clients, no more are asked", maxAsked)

// ask sends req to a client and has done told, exactly once, of the answer or of
// why there is none: remoting.ErrNoAnswer, errAskedEnough, or what Conn.Ask says.
// It never blocks, and done must not.
func (n *notifier) ask(conn *remoting.Conn, req *protocol.Command, wait time.Duration, done func(*protocol.Command, error)) {
	if n.asked.Add(1) > maxAsked {
		n.asked.Add(-1)
		done(nil, errAskedEnough)
		return
	}
	conn.Ask(req, wait, func(r *protocol.Command, err error) {
		n.asked.Add(-1)
		done(r, err)
	})
}

// whyNot is the words for a client that gave no answer.
func whyNot(err error, wait time.Duration) string {
	if errors.Is(err, remoting.ErrNoAnswer) {
		return fmt.Sprintf("it gave no answer within %s", wait)
	}
	return err.Error()
}

// consumersChanged sends NOTIFY_CONSUMER_IDS_CHANGED (40) to members of a group:
// they divide the queues anew. It never blocks; a client that is not told finds
// out within 20 s by itself.
func (n *notifier) consumersChanged(group string, members []*remoting.Conn) {
	if len(members) == 0 {
		return
	}
	for _, conn := range members {
		req := protocol.NewRequest(protocol.NotifyConsumerIdsChanged, &protocol.ConsumerGroupHeader{Group: group}, nil)
		if err := conn.Notify(req); err != nil && conn.Err() == nil {
			n.log.Warn("a consumer was not told that its group has changed", zap.String("group", group), zap.Stringer("peer", conn.Remote()), zap.Error(err))
		}
	}
}
