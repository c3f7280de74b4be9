package broker

import (
	"bytes"
	"context"
	"errors"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"gomq/internal/broker/clients"
	"gomq/internal/broker/delay"
	"gomq/internal/broker/meta"
	"gomq/internal/broker/trans"
	"gomq/internal/config"
	"gomq/internal/message"
	"gomq/internal/protocol"
	"gomq/internal/remoting"
	"gomq/internal/store"
)

// transDesk follows transactions: END_TRANSACTION (37),
// RESUME_CHECK_HALF_MESSAGE (323), and the rounds of checks in which producers are
// asked (CHECK_TRANSACTION_STATE, 39).
type transDesk struct {
	live   *config.Live[Options]
	log    *zap.Logger
	desk   *trans.Desk
	topics *meta.Topics
	create *topicMaker
	stats  *stats
	save   func() error // of the progress
	checks checkCounts
}

// checkCounts are what the rounds of checks have done with half messages.
type checkCounts struct{ asked, unasked, immune, aside atomic.Int64 }

func newTransDesk(live *config.Live[Options], log *zap.Logger, topics *meta.Topics, offsets *meta.Offsets, producers *clients.Producers[*remoting.Conn], in *inner, now func() time.Time) *transDesk {
	ask := func(group string, h *protocol.CheckHeader, body []byte) trans.Reach {
		return askProducer(log, producers, group, h, body)
	}
	started := now()
	clock := trans.Clock{Now: now, Passed: func() time.Duration { return now().Sub(started) }}
	return &transDesk{live: live, log: log, topics: topics, create: in.create, stats: in.send.stats, save: offsets.Save,
		desk: trans.New(transLog{store: in.send.store, inner: in}, offsets, ask, clock)}
}

// endWait bounds how long one request waits for the disk.
const endWait = 10 * time.Second

// end is END_TRANSACTION. It reads the half message, perhaps from the disk, so it
// runs in a lane.
func (s *transDesk) end(c *remoting.Call) (remoting.Response, error) {
	var h protocol.EndHeader
	if err := c.Req.Decode(&h); err != nil {
		return remoting.Response{}, err
	}
	if s.live.Load().BrokerRole == Slave {
		return remoting.Response{}, refuse(protocol.SlaveNotAvailable, "this broker is a slave; its master ends transactions")
	}
	ctx, cancel := context.WithTimeout(context.Background(), endWait)
	defer cancel()
	done, err := s.desk.End(ctx, &h)
	if err != nil {
		s.log.Debug("a transaction was not ended", zap.ByteString("group", h.Group), zap.Int64("half", h.HalfOffset), zap.Int64("offset", h.LogOffset),
			zap.Int32("outcome", h.Outcome), zap.Bool("asked", h.FromCheck), zap.Stringer("peer", c.Conn.Remote()), zap.Error(err))
	}
	if done.Outcome != 0 && s.topics.Get([]byte(done.Topic)) != nil {
		s.stats.topic(done.Topic).ended(done)
	}
	return remoting.Response{}, s.endError(err)
}

// endError is what the peer is told.
func (s *transDesk) endError(err error) error {
	switch {
	case errors.Is(err, trans.ErrUnderWay):
		return busy("[OVERLOAD]system busy, start flow control for a while", err.Error())
	case errors.Is(err, errInnerBusy):
		return busy("[REJECTREQUEST]system busy, start flow control for a while", err.Error())
	case errors.Is(err, store.ErrTooLarge):
		return refuse(protocol.MessageIllegal, "%s (%s)", illegalText(s.live.Load()), err)
	}
	for _, e := range []error{trans.ErrNoHalf, trans.ErrGroup, trans.ErrHalfOffset, trans.ErrLogOffset, trans.ErrCommitted, trans.ErrRolledBack} {
		if errors.Is(err, e) {
			return refuse(protocol.SystemError, "%s", err)
		}
	}
	return err
}

// resume is RESUME_CHECK_HALF_MESSAGE.
func (s *transDesk) resume(c *remoting.Call) (remoting.Response, error) {
	var h protocol.ResumeHeader
	if err := c.Req.Decode(&h); err != nil {
		return remoting.Response{}, err
	}
	if s.live.Load().BrokerRole == Slave {
		return remoting.Response{}, refuse(protocol.SlaveNotAvailable, "this broker is a slave; its master checks half messages")
	}
	_, offset, err := message.ParseID(h.MsgID)
	if err != nil {
		return remoting.Response{}, refuse(protocol.SystemError, "Exception was thrown when putting message back to RMQ_SYS_TRANS_HALF_TOPIC. (%s)", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), endWait)
	defer cancel()
	switch err = s.desk.Resume(ctx, offset); {
	case errors.Is(err, trans.ErrNoHalf):
		err = refuse(protocol.SystemError, "Exception was thrown when putting message back to RMQ_SYS_TRANS_HALF_TOPIC. (no half message lies at %d)", offset)
	case err != nil:
		err = refuse(protocol.SystemError, "Put message back to RMQ_SYS_TRANS_HALF_TOPIC failed. (%s)", err)
	}
	return remoting.Response{}, err
}

// check is one round of checks. Only a master runs them.
func (s *transDesk) check(ctx context.Context) error {
	o := s.live.Load()
	if o.BrokerRole == Slave {
		return nil
	}
	if s.topics.Get([]byte(message.TopicHalf)) == nil {
		if err := s.create.create(lazyTopic(message.TopicHalf), false); err != nil {
			return err
		}
	}
	r, err := s.desk.Check(ctx, trans.Limits{TimeOut: o.TransactionTimeOut, Most: o.TransactionCheckMax, Reserved: o.FileReservedTime})
	s.checks.asked.Add(int64(r.Asked))
	s.checks.unasked.Add(int64(r.Unasked))
	s.checks.immune.Add(int64(r.Immune))
	s.checks.aside.Add(int64(r.Aside))
	for _, p := range r.Problems {
		s.log.Error("a half message", zap.Error(p))
	}
	if r.Unasked > 0 {
		s.log.Warn("no producer of the group could be asked about half messages: none is connected, or too much waits for those that are", zap.Int("messages", r.Unasked), zap.String("group", r.LastGroup))
	}
	if r.Aside > 0 {
		s.log.Warn("half messages that nobody has ended are in "+message.TopicCheckMax+" now", zap.Int("messages", r.Aside), zap.Int("transactionCheckMax", o.TransactionCheckMax), zap.Int("older than fileReservedTime", r.Old))
	}
	if r.From == r.To {
		return err
	}
	s.log.Info("half messages were checked", zap.Int64("from", r.From), zap.Int64("to", r.To), zap.Int("ended", r.Ended), zap.Int("asked", r.Asked),
		zap.Int("unasked", r.Unasked), zap.Int("immune", r.Immune), zap.Int("aside", r.Aside), zap.Int64("gone", r.Gone))
	return errors.Join(err, s.save())
}

// lazyTopic is a topic that the original makes when it first needs it
// (behaviour.md 2.6).
func lazyTopic(name string) protocol.TopicConfig {
	return protocol.TopicConfig{TopicName: name, ReadQueueNums: 1, WriteQueueNums: 1, Perm: meta.PermRead | meta.PermWrite, TopicFilterType: "SINGLE_TAG"}
}

// mostTried is how many producers of a group are tried with one question.
const mostTried = 3

// askProducer sends CHECK_TRANSACTION_STATE to one connected producer of the
// group, another one each time. It never blocks.
func askProducer(log *zap.Logger, producers *clients.Producers[*remoting.Conn], group string, h *protocol.CheckHeader, body []byte) trans.Reach {
	reach := trans.Nobody
	for range mostTried {
		who, ok := producers.Any(group)
		if !ok {
			break
		}
		err := who.Conn.Notify(protocol.NewRequest(protocol.CheckTransactionState, h, body))
		if err == nil {
			return trans.Asked
		}
		if errors.Is(err, remoting.ErrOutbound) {
			reach = trans.Busy
		}
		log.Debug("a producer could not be asked about a half message", zap.String("group", group), zap.Stringer("peer", who.Conn.Remote()), zap.Error(err))
	}
	return reach
}

// transLog is the store as the desk of transactions needs it.
type transLog struct {
	store *store.Store
	inner *inner
}

// Put implements trans.Log.
func (l transLog) Put(ctx context.Context, msgs ...message.Message) ([]trans.Placed, error) {
	return whereabouts(l.inner.put(ctx, inners(msgs)))
}

// PutTogether implements trans.Log.
func (l transLog) PutTogether(ctx context.Context, msgs ...message.Message) ([]trans.Placed, error) {
	return whereabouts(l.inner.putTogether(ctx, inners(msgs)))
}

// inners is msgs as the broker stores them: topics that are missing are made, a
// committed message waits for a slave and, if it is delayed, for its time.
func inners(msgs []message.Message) []innerMessage {
	list := make([]innerMessage, len(msgs))
	for i, m := range msgs {
		list[i].Message = m
		if string(m.Topic) == message.TopicCheckMax {
			c := lazyTopic(message.TopicCheckMax)
			list[i].Make = &c
		}
		if m.SysFlag&message.TxMask == message.Commit {
			wish, _ := message.Prop(m.Props, message.PropDelay)
			list[i].Copied = true // half messages and op records do not (ha.md section 5)
			list[i].Level, _ = delay.Level(wish)
		}
	}
	return list
}

func whereabouts(placed []store.Placed, err error) ([]trans.Placed, error) {
	out := make([]trans.Placed, len(placed))
	for i, p := range placed {
		out[i] = trans.Placed{QueueOffset: p.QueueOffset, Offset: p.Offset, Err: p.Err}
	}
	return out, err
}

// Record implements trans.Log.
func (l transLog) Record(offset int64) (message.Record, error) {
	r, err := l.store.ReadRecord(offset)
	if errors.Is(err, store.ErrNoRecord) {
		return nil, trans.ErrNoRecord
	}
	return r, err
}

func (l transLog) queue(topic string) *store.Queue { return l.store.Queue([]byte(topic), trans.Queue) }

// Span implements trans.Log.
func (l transLog) Span(topic string) (least, most int64) {
	q := l.queue(topic)
	most = q.Max()
	return min(q.Min(), most), most
}

// readBytes is what one read takes of the log, at most, unless one record has
// more.
const readBytes = 256 << 10

// Read implements trans.Log.
func (l transLog) Read(topic string, from int64, most int, fn func(r message.Record) bool) (next int64, err error) {
	r := readings.Get().(*reading)
	defer readings.Put(r)
	l.store.Get(store.GetRequest{Queue: l.queue(topic), Offset: from, MaxCount: most, MaxBytes: readBytes, ReadDisk: true}, &r.res)
	defer r.res.View.Release()
	if r.res.Count == 0 {
		return r.res.Next, nil
	}
	b, err := r.res.View.AppendTo(nil)
	for err == nil && len(b) > 0 {
		var rec message.Record
		if rec, err = message.ParseRecord(b, false); err != nil {
			break
		}
		if b = b[len(rec):]; !fn(rec) {
			return rec.QueueOffset() + 1, nil
		}
	}
	return r.res.Next, err
}

// Settle implements trans.Log. A SYNC_MASTER waits for a slave as well, if there is
// one: it will have the progress soon, and must not have it without what it stands
// on.
func (l transLog) Settle(ctx context.Context) error {
	end := l.store.Appended.Load()
	if err := l.store.Durable.Wait(ctx, end); err != nil {
		return err
	}
	l.inner.waitCopied(ctx, end)
	return nil
}

// errTxBatch is why a batch is refused.
var errTxBatch = errors.New("a batch cannot be part of a transaction")

// transact makes the message of a transaction a half message and returns the
// queue that m goes to then. A retry or a dead letter never is one, though it
// carries the properties of the message that was consumed (behaviour.md 4.5). What
// calls itself half or rolled back and belongs to no transaction would be stored
// where nobody can see it, and is refused.
func (s *sender) transact(w *outgoing, q *store.Queue, m *message.Message, seen propsSeen, dead bool, o *Options) (*store.Queue, error) {
	tx := m.SysFlag & message.TxMask
	switch {
	case dead || bytes.HasPrefix(m.Topic, retryPrefix):
		m.SysFlag &^= message.TxMask
		return q, nil
	case seen.tx && o.RejectTransactionMessage:
		return nil, refuse(protocol.NoPermission, "the broker[%s] sending transaction message is forbidden", o.BrokerIP1)
	case !seen.tx && (tx == message.Prepared || tx == message.Rollback):
		return nil, refuse(protocol.MessageIllegal, "%s (sysFlag %d is that of a transaction, and the property %s is missing)", illegalText(o), m.SysFlag, message.PropTransaction)
	case !seen.tx:
		return q, nil
	}
	s.editable(w, o)
	var err error
	if w.props, err = trans.Stamp(m, &w.edit, w.props[:0]); err != nil {
		return nil, refuse(protocol.MessageIllegal, "%s (%s)", illegalText(o), err)
	}
	return s.store.Queue(m.Topic, m.QueueID), nil
}
