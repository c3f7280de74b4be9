package broker

import (
	"go.uber.org/zap"

	"gomq/internal/protocol"
	"gomq/internal/remoting"
)

// notifier is what the broker says to clients without being asked.
type notifier struct{ log *zap.Logger }

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
