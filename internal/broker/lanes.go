package broker

import (
	"context"
	"errors"

	"go.uber.org/zap"

	"gomq/internal/remoting"
)

// laneQueue is how many requests may wait in a lane without a key of its own.
const laneQueue = 20_000

// lanes are where requests run that may block. Each has its own workers, so that
// slow ones of a kind delay only their own kind.
type lanes struct {
	pull   *remoting.Lane // pulls that read from the disk
	client *remoting.Lane // heartbeats
	query  *remoting.Lane // look-ups in the log and the index
	admin  *remoting.Lane
	create *remoting.Lane // sends that create their topic
	reply  *remoting.Lane // replies to requests, which wait for the disk when they are stored
	retry  *remoting.Lane // what consumers send back
	trans  *remoting.Lane // ends of transactions
}

func newLanes(ctx context.Context, o *Options, log *zap.Logger, m *remoting.Metrics) *lanes {
	lane := func(name string, workers, queue int) *remoting.Lane {
		return remoting.NewLane(ctx, remoting.LaneOptions{Name: name, Workers: workers, Queue: queue, Log: log, Metrics: m})
	}
	return &lanes{pull: lane("pull", 16, o.PullThreadPoolQueueCapacity), client: lane("client", 8, laneQueue), query: lane("query", 8, laneQueue),
		admin: lane("admin", 8, laneQueue), create: lane("create", 16, laneQueue), reply: lane("reply", 16, laneQueue),
		retry: lane("retry", 32, laneQueue), trans: lane("transaction", 64, o.EndTransactionPoolQueueCapacity)}
}

func (l *lanes) of(which lane) *remoting.Lane {
	switch which {
	case clientLane:
		return l.client
	case queryLane:
		return l.query
	case replyLane:
		return l.reply
	case retryLane:
		return l.retry
	case transLane:
		return l.trans
	}
	return l.admin
}

// each calls fn for every lane and its name.
func (l *lanes) each(fn func(name string, lane *remoting.Lane)) {
	fn("pull", l.pull)
	fn("client", l.client)
	fn("query", l.query)
	fn("admin", l.admin)
	fn("create", l.create)
	fn("reply", l.reply)
	fn("retry", l.retry)
	fn("transaction", l.trans)
}

// stop lets the lanes do what they have and ends them.
func (l *lanes) stop(ctx context.Context) error {
	var errs []error
	l.each(func(_ string, lane *remoting.Lane) { errs = append(errs, lane.Stop(ctx)) })
	return errors.Join(errs...)
}
