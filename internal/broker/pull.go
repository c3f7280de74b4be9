package broker

import (
	"math"
	"sync"
	"time"

	"go.uber.org/zap"

	"gomq/internal/broker/clients"
	"gomq/internal/broker/meta"
	"gomq/internal/config"
	"gomq/internal/filter"
	"gomq/internal/protocol"
	"gomq/internal/remoting"
	"gomq/internal/store"
)

// puller serves PULL_MESSAGE (11) and LITE_PULL_MESSAGE (361): check, read,
// answer. A pull that finds nothing may be parked (parked.go); one whose bytes
// are not in memory moves to the pull lane and reads there.
type puller struct {
	live      *config.Live[Options]
	log       *zap.Logger
	store     *store.Store
	topics    *meta.Topics
	groups    *meta.Groups
	offsets   *meta.Offsets
	consumers *clients.Consumers[*remoting.Conn]
	filters   *filter.Cache
	lane      *remoting.Lane
	stats     *stats
	memory    int64 // bytes of the machine, of which a share counts as hot

	parking
}

// reading is what a pull needs while it runs; pooled.
type reading struct {
	header protocol.PullHeader
	reply  protocol.PullReply
	res    store.GetResult
}

var readings = sync.Pool{New: func() any { return &reading{} }}

// want is a pull that has passed its checks.
type want struct {
	q      *store.Queue
	group  *protocol.GroupConfig
	match  store.Matcher // nil matches all
	offset int64
	max    int32
}

// pull serves a request on its connection's reader.
func (p *puller) pull(d *desk, c *remoting.Call) {
	r := readings.Get().(*reading)
	defer readings.Put(r)
	if p.run(r, d, c, false) {
		return
	}
	if !p.lane.Submit(c, func(c *remoting.Call) { p.pullCold(d, c) }) {
		c.Answer(remoting.Busy)
	}
}

// pullCold is pull in the lane, where waiting for the disk is allowed.
func (p *puller) pullCold(d *desk, c *remoting.Call) {
	r := readings.Get().(*reading)
	defer readings.Put(r)
	p.run(r, d, c, true)
}

// run answers, or parks, or returns false because the disk would have to be
// waited for. cold says that it runs in the lane, beside its connection's reader.
func (p *puller) run(r *reading, d *desk, c *remoting.Call, cold bool) bool {
	h := &r.header
	*h = protocol.PullHeader{}
	if err := c.Req.Decode(h); err != nil {
		c.Answer(errorResponse(p.log, err))
		return true
	}
	o := p.live.Load()
	w, err := p.check(h, d, c, cold, o)
	if err != nil {
		c.Answer(errorResponse(p.log, err))
		return true
	}
	begun := time.Now()
	p.read(&w, &r.res, o, cold)
	p.stats.read(time.Since(begun))
	if r.res.Cold {
		return false
	}
	defer r.res.View.Release()
	if h.SysFlag&protocol.PullCommit != 0 && o.BrokerRole != Slave {
		if err := p.offsets.Commit(h.Topic, h.Group, h.QueueID, h.CommitOffset); err != nil {
			p.log.Warn("the offset that came with a pull was not kept", zap.Error(err))
		}
	}
	if h.SysFlag&protocol.PullSuspend != 0 && mayCome(r.res.Status, w.offset, o) && p.park(&w, r, d, c, cold, o) {
		return true
	}
	p.answer(r, &w, c, o)
	return true
}

// check is behaviour.md 5.1: what is refused before anything is read.
func (p *puller) check(h *protocol.PullHeader, d *desk, c *remoting.Call, cold bool, o *Options) (w want, err error) {
	if o.BrokerPermission&meta.PermRead == 0 {
		return w, refuse(protocol.NoPermission, "the broker[%s] pulling message is forbidden", o.BrokerIP1)
	}
	if w.group, err = p.groups.Ensure(h.Group, o.AutoCreateSubscriptionGroup); err != nil {
		return w, refuse(protocol.GroupNotExist, "subscription group [%s] does not exist, %s", h.Group, err)
	}
	if w.group == nil {
		return w, refuse(protocol.GroupNotExist, "subscription group [%s] does not exist, %s", h.Group, faq)
	}
	if !w.group.ConsumeEnable {
		return w, refuse(protocol.NoPermission, "subscription group no permission, %s", h.Group)
	}
	topic := p.topics.Get(h.Topic)
	if topic == nil {
		return w, refuse(protocol.TopicNotExist, "topic[%s] not exist, apply first please! %s", h.Topic, faq)
	}
	if topic.Perm&meta.PermRead == 0 {
		return w, refuse(protocol.NoPermission, "the topic[%s] pulling message is forbidden", h.Topic)
	}
	if h.QueueID < 0 || h.QueueID >= topic.ReadQueueNums {
		return w, refuse(protocol.SystemError, "queueId[%d] is illegal, topic:[%s] topicConfig.readQueueNums:[%d] consumer:[%s]",
			h.QueueID, h.Topic, topic.ReadQueueNums, c.Conn.Remote())
	}
	if w.match, err = p.subscription(h, d, cold, w.group, o); err != nil {
		return w, err
	}
	if w.q = p.store.Queue(h.Topic, h.QueueID); w.q == nil {
		return w, refuse(protocol.SystemError, "topic[%s] can have no queue %d: its name is not one that messages can be stored under", h.Topic, h.QueueID)
	}
	w.offset, w.max = h.QueueOffset, h.MaxMsgNums
	return w, nil
}

// read runs the pull's read. Further behind the end of the log than a share of
// the machine's memory the smaller limits hold.
func (p *puller) read(w *want, res *store.GetResult, o *Options, disk bool) {
	g := store.GetRequest{Queue: w.q, Offset: w.offset, ReadDisk: disk,
		MaxCount: max(min(int(w.max), o.MaxTransferCountOnMessageInMemory), 1), MaxBytes: o.MaxTransferBytesOnMessageInMemory,
		Match: w.match, NearBytes: p.near(o),
		MaxCountFar: max(min(int(w.max), o.MaxTransferCountOnMessageInDisk), 1), MaxBytesFar: o.MaxTransferBytesOnMessageInDisk}
	p.store.Get(g, res)
}

// near is how far behind the end of the log a message counts as in memory
// (behaviour.md 5.2); with a share of 0 none does, hence the one byte.
func (p *puller) near(o *Options) int64 {
	return max(p.memory/100*int64(o.AccessMessageInMemoryMaxRatio), 1)
}

// pullCode is the response code of a status (requests.md 3.2).
func pullCode(s store.GetStatus, offset int64) int32 {
	switch s {
	case store.Found:
		return protocol.Success
	case store.NoMatchedMessage, store.MessageWasRemoving:
		return protocol.PullRetryImmediately
	case store.OffsetFoundNull, store.OffsetOverflowOne:
		return protocol.PullNotFound
	case store.NoMessageInQueue, store.NoMatchedQueue:
		if offset == 0 {
			return protocol.PullNotFound
		}
	}
	return protocol.PullOffsetMoved
}

// mayCome says whether what the pull asks for may come later. On a slave that is
// also what lies beyond its end: the master may have it already. The original
// answers such a pull at once, and its consumer asks again at once.
func mayCome(s store.GetStatus, offset int64, o *Options) bool {
	if pullCode(s, offset) == protocol.PullNotFound {
		return true
	}
	return sendsBack(o) && (s == store.OffsetOverflowBadly || s == store.NoMessageInQueue)
}

// sendsBack says whether consumers whose offset is out of range are left as they
// are: their master knows better than this slave (behaviour.md 5.2).
func sendsBack(o *Options) bool { return o.BrokerRole == Slave && !o.OffsetCheckInSlave }

// placed is the code and the next offset that a pull at offset is told.
func placed(res *store.GetResult, offset int64, o *Options) (code int32, next int64) {
	code, next = pullCode(res.Status, offset), res.Next
	if !sendsBack(o) {
		return code, next
	}
	switch res.Status {
	case store.NoMessageInQueue, store.NoMatchedQueue, store.OffsetTooSmall, store.OffsetOverflowOne, store.OffsetOverflowBadly:
		next = offset
	}
	if code == protocol.PullOffsetMoved {
		code = protocol.PullRetryImmediately
	}
	return code, next
}

// suggested is the broker of the set that the consumer is to ask next: the master,
// or with slaveReadEnable what the group's configuration says.
func suggested(res *store.GetResult, w *want, o *Options) int64 {
	switch {
	case sendsBack(o) && pullCode(res.Status, w.offset) == protocol.PullOffsetMoved:
		return w.group.BrokerID
	case !o.SlaveReadEnable:
		return 0
	case res.OnDisk:
		return w.group.WhichBrokerWhenConsumeSlowly
	}
	return w.group.BrokerID
}

// pullBody is the records of an answer.
type pullBody struct{ res *store.GetResult }

func (b pullBody) AppendTo(dst []byte) ([]byte, error) { return b.res.View.AppendTo(dst) }

// Size is the length of the body.
func (b pullBody) Size() int { return b.res.Bytes }

// answerer is a call within its Turn, or a Late.
type answerer interface {
	Answer(remoting.Response)
	AnswerFill(remoting.Response, remoting.Filler) error
}

// answer sends what was read.
func (p *puller) answer(r *reading, w *want, to answerer, o *Options) {
	res := &r.res
	code, next := placed(res, w.offset, o)
	r.reply = protocol.PullReply{NextBeginOffset: next, MinOffset: res.Min, MaxOffset: res.Max, SuggestWhichBrokerID: suggested(res, w, o)}
	resp := remoting.Response{Code: code, Remark: res.Status.String(), Header: &r.reply}
	if code != protocol.Success {
		p.stats.miss()
		if code == protocol.PullNotFound && p.isClosed() {
			// A consumer that is told "nothing there" pulls again at once.
			resp = remoting.Stopping
		}
		to.Answer(resp)
		return
	}
	if err := to.AnswerFill(resp, pullBody{res}); err != nil {
		to.Answer(errorResponse(p.log, err))
		return
	}
	p.stats.got(w.q.Topic(), w.group.GroupName, res.Count, res.Bytes, w.q.ID(), next)
}

// holdTime is how long a pull that found nothing may wait. What a client asks
// for is capped: its connection may be long gone.
func holdTime(h *protocol.PullHeader, o *Options) time.Duration {
	if !o.LongPollingEnable {
		return o.ShortPollingTimeMills
	}
	const most = 2 * time.Minute
	if h.SuspendMillis < 0 || h.SuspendMillis > math.MaxInt64/int64(time.Millisecond) {
		return 0
	}
	return min(time.Duration(h.SuspendMillis)*time.Millisecond, most)
}
