package broker

import (
	"fmt"
	"slices"

	"go.uber.org/zap"

	"gomq/internal/protocol"
	"gomq/internal/remoting"
)

// lane says where a request runs.
type lane uint8

const (
	inline     lane = iota // on the connection's reader: it neither blocks nor waits for the disk
	clientLane             // heartbeats: may write a file
	queryLane              // may read from the disk
	adminLane              // may do both, and wait for nameservers
	replyLane              // replies, which wait for the disk when they are stored
	retryLane              // what consumers send back: may create topics, read from the disk and wait for it
	transLane              // ends of transactions: may read from the disk and wait for it
)

func (l lane) String() string {
	return [...]string{"inline", "client", "query", "admin", "reply", "retry", "transaction"}[l]
}

// permission is what ACL 1.0 asks of an account for a request (behaviour.md
// section 17). It is the documentation of a row until there is ACL.
type permission string

const (
	anyone   permission = "" // a valid signature
	topicPub permission = "topic PUB"
	topicSub permission = "topic SUB"
	groupSub permission = "group SUB"
	bothSub  permission = "topic SUB and group SUB"
	admin    permission = "admin"
)

// route is a row of the table of requests: what a code means and who serves it.
// Exactly one of the four handlers is set: turn stages into the Turn or answers
// by itself, ask gives the answer, late runs in a lane and answers some time or
// gives an error to be answered, none says why there is none yet. differs says, for
// docs/COMPAT.md, how what is served is not as in 4.9; empty: it is the same.
type route struct {
	code    int32
	lane    lane
	perm    permission
	turn    func(d *desk, c *remoting.Call)
	ask     func(c *remoting.Call) (remoting.Response, error)
	late    func(c *remoting.Call) error
	none    string
	differs string
}

// Differences that several rows have.
const (
	differsLog   = "gomq's own, between brokers of a set"
	differsReply = "an unknown reply topic is not made; replies that wait for requesters are bounded"
	differsSend  = "SEND_OK means that it can be pulled; busy is answered before anything is stored, with the measured cause; properties with 256 NUL bytes in a row are refused"
	differsPull  = "a pull outside the queue writes nothing to OFFSET_MOVED_EVENT; on the port listenPort-2 as well"
	differsEmpty = "asked about an unknown topic it makes no queue"
	differsLimit = "limits on topics, groups and queues (docs/CONFIG.md, Limits)"
)

// routes is the table of requests. It is the same on every port.
func (b *Broker) routes() []route {
	return []route{
		{code: protocol.SendMessage, perm: topicPub, turn: b.send.stage, differs: differsSend},
		{code: protocol.SendMessageV2, perm: topicPub, turn: b.send.stage, differs: differsSend},
		{code: protocol.SendBatchMessage, perm: topicPub, turn: b.send.stage, differs: differsSend},
		{code: protocol.PullMessage, perm: bothSub, turn: b.pull.pull, differs: differsPull},
		{code: protocol.LitePullMessage, perm: bothSub, turn: b.pull.pull, differs: differsPull},

		{code: protocol.QueryConsumerOffset, ask: b.offset.query},
		{code: protocol.UpdateConsumerOffset, perm: bothSub, ask: b.offset.commit},
		{code: protocol.SearchOffsetByTimestamp, lane: queryLane, ask: b.offset.search, differs: "looks at the whole queue, so it finds the nearest message where the original misses it; " + differsEmpty},
		{code: protocol.GetMaxOffset, ask: b.offset.max, differs: differsEmpty},
		{code: protocol.GetMinOffset, ask: b.offset.min, differs: differsEmpty},
		{code: protocol.GetEarliestMsgStoreTime, lane: queryLane, ask: b.offset.earliest, differs: differsEmpty},
		{code: protocol.GetAllConsumerOffset, lane: adminLane, ask: b.offset.all},
		{code: protocol.GetAllDelayOffset, ask: b.delayOffsets, differs: "as last written to the disk, so that a slave never takes a message for delivered that it does not have yet"},
		{code: protocol.QueryMessage, lane: queryLane, perm: topicSub, ask: b.query.byKey},
		{code: protocol.ViewMessageByID, lane: queryLane, ask: b.query.byOffset},

		{code: protocol.HeartBeat, lane: clientLane, perm: bothSub, ask: b.clients.beat, differs: "limits on subscriptions and groups of one connection (docs/CONFIG.md, Limits)"},
		{code: protocol.UnregisterClient, lane: clientLane, perm: groupSub, ask: b.clients.leave},
		{code: protocol.GetConsumerListByGroup, perm: groupSub, ask: b.clients.members},
		{code: protocol.CheckClientConfig, ask: b.clients.check},
		{code: protocol.LockBatchMQ, ask: b.locks.lock},
		{code: protocol.UnlockBatchMQ, ask: b.locks.unlock},

		{code: protocol.ConsumerSendMsgBack, lane: retryLane, perm: groupSub, ask: b.retry.back, differs: "under SYNC_FLUSH answered once the copy is on the disk"},
		{code: protocol.EndTransaction, lane: transLane, ask: b.trans.end, differs: "an end that comes twice is done once, and the other outcome is refused then; outcome 0 of a synchronous request is answered"},
		{code: protocol.ResumeCheckHalf, lane: adminLane, ask: b.trans.resume, differs: "only a half message, or one that was put aside, is taken"},

		{code: protocol.UpdateAndCreateTopic, lane: adminLane, perm: admin, ask: b.topicAdmin.update, differs: differsLimit},
		{code: protocol.DeleteTopicInBroker, lane: adminLane, perm: admin, ask: b.topicAdmin.delete},
		{code: protocol.GetAllTopicConfig, lane: adminLane, ask: b.topicAdmin.all},
		{code: protocol.GetTopicConfig, lane: adminLane, ask: b.topicAdmin.one},
		{code: protocol.GetTopicStatsInfo, lane: adminLane, ask: b.topicAdmin.statistics, differs: "lists a new topic's queues at once, empty ones too"},
		{code: protocol.QueryTopicConsumeByWho, lane: adminLane, ask: b.topicAdmin.consumedBy},
		{code: protocol.GetSystemTopicListFromB, lane: adminLane, ask: b.topicAdmin.system},

		{code: protocol.UpdateAndCreateGroup, lane: adminLane, perm: admin, ask: b.groupAdmin.update, differs: differsLimit},
		{code: protocol.DeleteGroup, lane: adminLane, perm: admin, ask: b.groupAdmin.delete},
		{code: protocol.GetAllGroupConfig, lane: adminLane, ask: b.groupAdmin.all},
		{code: protocol.GetConsumeStats, lane: adminLane, ask: b.groupAdmin.statistics},
		{code: protocol.GetConsumerConnectionList, lane: adminLane, ask: b.groupAdmin.consumerConnections},
		{code: protocol.GetProducerConnectionList, lane: adminLane, ask: b.groupAdmin.producerConnections},

		{code: protocol.UpdateBrokerConfig, lane: adminLane, perm: admin, ask: b.brokerAdmin.updateConfig, differs: "only the keys marked *at once* or *restart* in docs/CONFIG.md, checked as a whole first; the file keeps its comments and order"},
		{code: protocol.GetBrokerConfig, lane: adminLane, ask: b.brokerAdmin.getConfig, differs: "secrets are hidden; gomq's own keys are there too"},
		{code: protocol.GetBrokerRuntimeInfo, lane: adminLane, ask: b.brokerAdmin.runtimeInfo},
		{code: protocol.GetBrokerHAStatus, lane: adminLane, ask: b.haStatus},
		{code: protocol.LogState, lane: queryLane, perm: admin, ask: b.logState.state, differs: differsLog},
		{code: protocol.ReadLog, lane: queryLane, perm: admin, ask: b.logState.read, differs: differsLog},

		{code: protocol.InvokeResetOffset, lane: adminLane, ask: b.relay.reset, differs: "the body is that of each client's language; queueId and offset of 5.x count"},
		{code: protocol.InvokeClientStatus, lane: adminLane, late: b.relay.status, differs: "asks all clients at once"},
		{code: protocol.QueryConsumeTimeSpan, lane: adminLane, ask: b.groupAdmin.timeSpans, differs: "a queue without an offset counts from its first message"},
		{code: protocol.GetConsumerRunningInfo, lane: queryLane, late: b.relay.runningInfo, differs: "the administrator's signature is not passed on"},
		{code: protocol.QueryCorrectionOffset, lane: adminLane, ask: b.groupAdmin.corrections, differs: "filterGroups deletes nothing; compareGroup counts"},
		{code: protocol.ConsumeMessageDirectly, lane: queryLane, late: b.relay.consumeDirectly, differs: "likewise"},
		{code: protocol.CloneGroupOffset, lane: adminLane, ask: b.groupAdmin.clone, differs: "without a topic it copies those of all topics"},

		{code: protocol.SendReplyMessage, lane: replyLane, late: b.reply.take, differs: differsReply},
		{code: protocol.SendReplyMessageV2, lane: replyLane, late: b.reply.take, differs: differsReply},

		{code: protocol.CleanExpiredConsumeQueue, lane: adminLane, perm: admin, ask: b.topicAdmin.cleanExpired, differs: "queues follow the log by themselves; the numbers of an expired queue go on"},
		{code: protocol.CleanUnusedTopic, lane: adminLane, perm: admin, ask: b.topicAdmin.cleanUnused},
		{code: protocol.DeleteExpiredCommitLog, lane: adminLane, perm: admin, ask: b.topicAdmin.deleteExpired},
		{code: protocol.ViewBrokerStatsData, lane: adminLane, ask: b.brokerAdmin.viewStats, differs: "sums up to now; avgpt is by the message; no times of waiting (GROUP_GET_LATENCY), no COMMERCIAL items"},
		{code: protocol.GetBrokerConsumeStats, lane: adminLane, ask: b.groupAdmin.brokerStatistics},
		{code: protocol.QueryConsumeQueue, lane: adminLane, ask: b.groupAdmin.queueEntries, differs: "an index that is not there is answered with the remark and the queue's ends"},
		{code: protocol.GetAllProducerInfo, lane: adminLane, ask: b.groupAdmin.allProducers},
		{code: protocol.QueryTopicsByConsumer, lane: adminLane, ask: b.groupAdmin.topicsOf},
		{code: protocol.QuerySubscription, lane: adminLane, ask: b.groupAdmin.subscription},
		{code: protocol.GetGroupConfig, lane: adminLane, ask: b.groupAdmin.one},
		{code: protocol.UpdateTopicList, lane: adminLane, perm: admin, ask: b.topicAdmin.updateAll, differs: "nothing is done when one of the topics is refused"},
		{code: protocol.UpdateGroupList, lane: adminLane, perm: admin, ask: b.groupAdmin.updateAll, differs: "nothing is done when one of the groups is refused"},

		{code: 50, perm: admin, none: "access control"},
		{code: 51, perm: admin, none: "access control"},
		{code: 52, none: "access control"},
		{code: 53, perm: admin, none: "access control"},
	}
}

// never says why codes that RocketMQ knows are not in the table and will not be,
// or not soon: they are answered as any unknown one.
var never = []struct {
	from, to int32
	why      string
}{
	{13, 13, "no version has a sender or a handler"}, {22, 23, "no version has a sender or a handler"}, {27, 27, "no version has a sender or a handler"},
	{47, 47, "no version has a sender or a handler"}, {209, 214, "no version has a sender or a handler"},
	{39, 40, "brokers send it to clients"}, {220, 221, "brokers send it to clients"}, {326, 326, "brokers send it to clients"},
	{301, 302, "the filter server is gone since 4.9"},
	{100, 106, "a nameserver's"}, {205, 206, "a nameserver's"}, {216, 216, "a nameserver's"}, {217, 217, "a nameserver's of 5.x, whose brokers can do without"}, {219, 219, "a nameserver's"}, {224, 224, "a nameserver's"}, {304, 304, "a nameserver's"},
	{311, 313, "a nameserver's"}, {318, 319, "a nameserver's"}, {322, 322, "a nameserver's"}, {327, 327, "a nameserver's"}, {901, 901, "a nameserver's of 5.x, whose brokers can do without"}, {902, 903, "a broker container's of 5.x"}, {904, 904, "a nameserver's of 5.x, whose brokers can do without"},
	{60, 61, "the timer wheel of 5.x"}, {353, 355, "administration of 5.x"}, {370, 370, "recall of timer messages of 5.x"},
	{400, 402, "pop consumption of 5.x"}, {513, 513, "static topics of 5.x"}, {905, 906, "the controller mode of 5.x"}, {908, 908, "the controller mode of 5.x"}, {1001, 1018, "the controller of 5.x"},
	{2001, 2004, "administration of 5.x"}, {3001, 3010, "access control of 5.x"}, {200050, 200056, "pop consumption of 5.x"}, {200151, 200151, "pop consumption of 5.x"},
}

// table finds a row by its code.
type table struct {
	low  [512]*route
	rest map[int32]*route
}

func newTable(rows []route) *table {
	t := &table{rest: map[int32]*route{}}
	for i := range rows {
		r := &rows[i]
		if t.find(r.code) != nil {
			panic(fmt.Sprintf("broker: request code %d comes twice in the table", r.code))
		}
		if uint32(r.code) < uint32(len(t.low)) {
			t.low[r.code] = r
		} else {
			t.rest[r.code] = r
		}
	}
	return t
}

func (t *table) find(code int32) *route {
	if uint32(code) < uint32(len(t.low)) {
		return t.low[code]
	}
	return t.rest[code]
}

// Request implements remoting.Handler.
func (b *Broker) Request(t *remoting.Turn, c *remoting.Call) {
	d, _ := t.User.(*desk)
	if d == nil {
		d = &desk{conn: t.Conn}
		t.User = d
	}
	r := b.table.find(c.Req.Code)
	switch {
	case r == nil:
		c.Answer(remoting.Response{Code: protocol.RequestCodeNotSupported, Remark: fmt.Sprintf(" request type %d not supported", c.Req.Code)})
	case r.none != "":
		c.Answer(remoting.Response{Code: protocol.RequestCodeNotSupported, Remark: fmt.Sprintf(" request type %d not supported (%s: %s)", c.Req.Code, r.none, notYet)})
	case r.turn != nil:
		r.turn(d, c)
	case r.lane == inline:
		b.ask(r, c)
	default:
		if !b.lanes.of(r.lane).Submit(c, func(c *remoting.Call) { b.ask(r, c) }) {
			c.Answer(remoting.Busy)
		}
	}
}

// ask runs a handler that gives the answer, or one that answers late.
func (b *Broker) ask(r *route, c *remoting.Call) {
	if r.late != nil {
		if err := r.late(c); err != nil {
			c.Answer(errorResponse(b.log, err))
		}
		return
	}
	resp, err := r.ask(c)
	if err != nil {
		resp = errorResponse(b.log, err)
	}
	c.Answer(resp)
}

// EndTurn implements remoting.Handler: the sends of the Turn are appended and
// answered.
func (b *Broker) EndTurn(t *remoting.Turn) {
	d, _ := t.User.(*desk)
	if d == nil || d.out == nil {
		return
	}
	w := d.out
	d.out = nil // whatever happens, the next Turn starts with none
	b.send.finish(w, t.Started)
}

// Closed implements remoting.Handler.
func (b *Broker) Closed(conn *remoting.Conn) {
	b.clients.closed(conn)
	b.log.Debug("connection closed", zap.Stringer("peer", conn.Remote()), zap.Error(conn.Err()))
}

// Request is a row of the table of requests as documentation shows it.
type Request struct {
	Code       int32
	Name       string
	Lane       string // where it runs
	Permission string // what ACL will ask for; empty: a valid signature
	NotYet     string // why it is answered REQUEST_CODE_NOT_SUPPORTED; empty: it is served
	Differs    string // how what is served is not as in 4.9; empty: it is the same
}

// Requests is the table of requests, by code.
func Requests() []Request {
	b := &Broker{send: &sender{}, pull: &puller{}, offset: &offsetDesk{}, query: &queryDesk{}, clients: &clientDesk{}, locks: &lockDesk{}, trans: &transDesk{}, retry: &retryDesk{},
		topicAdmin: &topicDesk{}, groupAdmin: &groupDesk{}, relay: &relayDesk{}, reply: &replyDesk{}, brokerAdmin: &brokerDesk{}, logState: &logDesk{}}
	var out []Request
	for _, r := range b.routes() {
		out = append(out, Request{Code: r.code, Name: protocol.RequestName(r.code), Lane: r.lane.String(), Permission: string(r.perm), NotYet: r.none, Differs: r.differs})
	}
	slices.SortFunc(out, func(a, b Request) int { return int(a.Code - b.Code) })
	return out
}

// Calls are the requests that a broker sends to clients, with why gomq does not
// send them yet; empty: it does.
func Calls() map[int32]string {
	return map[int32]string{
		protocol.CheckTransactionState:    "",
		protocol.NotifyConsumerIdsChanged: "",
		protocol.ResetConsumerOffset:      "",
		protocol.GetClientStatus:          "",
		protocol.PushReplyMessage:         "",
	}
}

// Absent says why the code, which RocketMQ knows, is not in the table and will not
// be, or not soon; empty: it is in the table, or nobody knows it.
func Absent(code int32) string {
	for _, n := range never {
		if code >= n.from && code <= n.to {
			return n.why
		}
	}
	return ""
}
