package broker

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"

	"gomq/internal/broker/trans"
	"gomq/internal/client"
	"gomq/internal/message"
	"gomq/internal/protocol"
	"gomq/internal/remoting"
)

// question is a CHECK_TRANSACTION_STATE as a producer got it.
type question struct {
	protocol.CheckHeader
	oneway bool
	rec    message.Record
}

// producer is the client's side of checks.
type producer struct {
	*client.Client
	asked chan question
}

func (p *producer) Request(_ *remoting.Turn, c *remoting.Call) {
	var q question
	if c.Req.Code == protocol.CheckTransactionState && c.Req.Decode(&q.CheckHeader) == nil {
		q.oneway = c.Req.IsOneway()
		q.rec, _ = message.ParseRecord([]byte(string(c.Req.Body)), true)
		p.asked <- q
	}
	c.Answer(remoting.Response{})
}
func (p *producer) EndTurn(*remoting.Turn) {}
func (p *producer) Closed(*remoting.Conn)  {}

// next is the next question.
func (p *producer) next(t testing.TB) question {
	t.Helper()
	select {
	case q := <-p.asked:
		return q
	case <-time.After(10 * time.Second):
		t.Fatal("the producer was not asked")
	}
	return question{}
}

// quiet says that the producer is not asked anything more.
func (p *producer) quiet(t testing.TB) {
	t.Helper()
	if len(p.asked) > 0 {
		t.Errorf("the producer was asked %+v", <-p.asked)
	}
}

// txRig is a broker whose clock can be put forward.
type txRig struct {
	*rig
	ahead *atomic.Int64
}

func runTx(t *testing.T, change func(o *Options)) *txRig {
	r := &txRig{ahead: &atomic.Int64{}}
	r.rig = runWith(t, change, r.seams())
	return r
}

func (r *txRig) seams() seams {
	return seams{now: func() time.Time { return time.Now().Add(time.Duration(r.ahead.Load())) }}
}

// again is a restart.
func (r *txRig) again() *txRig {
	r.stop()
	return &txRig{rig: runOn(r.T, *r.live.Load(), r.seams()), ahead: r.ahead}
}

// producer connects a producer of the group.
func (r *txRig) producer(id, group string) *producer {
	r.Helper()
	p := &producer{asked: make(chan question, 1000)}
	p.Client = client.New(context.Background(), client.Options{Timeout: 10 * time.Second, Handler: p})
	r.Cleanup(func() { p.stop() })
	r.beat(p.Client, &protocol.Heartbeat{ClientID: id, Producers: []string{group}})
	return p
}

func (p *producer) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = p.Stop(ctx)
}

// tx is a half message as its producer knows it.
type tx struct{ half, log int64 }

// begin sends a half message.
func (r *txRig) begin(topic string, queue int32, body string, props ...string) tx {
	r.Helper()
	h := sendHeader(topic, queue, append([]string{"TRAN_MSG", "true", "PGROUP", "PG"}, props...)...)
	h.SysFlag = int32(message.Prepared)
	s, err := r.c.Send(r.Context(), r.addr, h, []byte(body))
	if err != nil {
		r.Fatal(err)
	}
	if s.QueueID != queue {
		r.Errorf("sent to queue %d, answered %d", queue, s.QueueID)
	}
	return tx{s.QueueOffset, r.sent(s)}
}

// end ends a transaction and returns the broker's refusal.
func (r *txRig) end(t tx, outcome message.SysFlag, change ...func(h *protocol.EndHeader)) error {
	r.Helper()
	h := protocol.EndHeader{Group: []byte("PG"), HalfOffset: t.half, LogOffset: t.log, Outcome: int32(outcome)}
	for _, fn := range change {
		fn(&h)
	}
	got, err := r.c.Call(r.Context(), r.addr, protocol.NewRequest(protocol.EndTransaction, &h, nil))
	if err != nil {
		r.Fatal(err)
	}
	if got.Code != protocol.Success {
		return &protocol.Error{Code: got.Code, Remark: got.Remark}
	}
	return nil
}

// check is one round of checks.
func (r *txRig) check() {
	r.Helper()
	if err := r.b.trans.check(r.Context()); err != nil {
		r.Fatal(err)
	}
}

// sent is where in the log a message lies.
func (r *txRig) sent(s client.Sent) int64 {
	_, at, err := message.ParseID(string(s.MsgID))
	if err != nil {
		r.Fatal(err)
	}
	return at
}

// bodies is what can be pulled from a queue.
func (r *txRig) bodies(topic string, queue int32) string {
	r.Helper()
	_, list := r.pull(topic, queue, 0, "*")
	var all []string
	for _, m := range list {
		all = append(all, string(m.Body()))
	}
	return strings.Join(all, " ")
}

func prop(r message.Record, name string) string {
	v, _ := message.Prop(r.Props(), name)
	return string(v)
}

func refusal(t *testing.T, what string, err error, code int32, text string) {
	t.Helper()
	if e, ok := err.(*protocol.Error); !ok || e.Code != code || !strings.Contains(e.Remark, text) {
		t.Errorf("%s: %v, want code %d with %q", what, err, code, text)
	}
}

// A half message is seen by nobody until it is committed, and never once it is
// rolled back.
func TestTransactionOutcomes(t *testing.T) {
	for _, flush := range []FlushType{AsyncFlush, SyncFlush} {
		t.Run(string(flush), func(t *testing.T) {
			r := runTx(t, func(o *Options) { o.FlushDiskType = flush })
			r.create("T", 4)
			r.send("T", 1, "before")
			a := r.begin("T", 1, "a", "KEYS", "ka", "TAGS", "tag", "WAIT", "true", "REAL_TOPIC", "Evil", "REAL_QID", "9")
			b := r.begin("T", 1, "b", "KEYS", "kb")
			c := r.begin("T", 1, "c", "KEYS", "kc")
			r.send("T", 1, "after")
			if got := r.bodies("T", 1); got != "before after" || a.half != 0 || b.half != 1 || c.half != 2 {
				t.Errorf("pulled %q; half messages at %d %d %d", got, a.half, b.half, c.half)
			}
			find := func(key string) int {
				list, err := r.c.Query(t.Context(), r.addr, protocol.QueryHeader{Topic: "T", Key: key, MaxNum: 32, End: 1 << 60})
				if code, _ := client.Code(err); err != nil && code != protocol.QueryNotFound {
					t.Fatal(err)
				}
				return len(list)
			}
			r.eventually("the index has everything", func() bool { return r.b.store.Indexed.Load() == r.b.store.Appended.Load() })
			if n := find("ka"); n != 0 {
				t.Errorf("a half message was found by its key %d times", n)
			}
			for what, err := range map[string]error{"commit": r.end(a, message.Commit), "rollback": r.end(b, message.Rollback), "unknown": r.end(c, 0)} {
				if err != nil {
					t.Errorf("%s: %v", what, err)
				}
			}
			if got := r.bodies("T", 1); got != "before after a" {
				t.Errorf("after the ends pulled %q", got)
			}
			_, list := r.pull("T", 1, 2, "tag")
			m := list[0]
			half, err := r.b.store.ReadRecord(a.log)
			if err != nil {
				t.Fatal(err)
			}
			if m.SysFlag() != message.Commit || m.Prepared() != a.log || m.BornTime() != half.BornTime() || m.BornHost() != half.BornHost() ||
				m.StoreHost() != half.StoreHost() || string(m.Props()) != string(half.Props()) || half.SysFlag() != 0 {
				t.Errorf("committed as %q of %q", m, half)
			}
			if prop(m, "REAL_TOPIC") != "T" || prop(m, "REAL_QID") != "1" || prop(m, "WAIT") != "true" || strings.Contains(string(m.Props()), "Evil") {
				t.Errorf("properties %q", m.Props())
			}
			r.eventually("the committed message is found by its key", func() bool { return find("ka") == 1 })
			if find("kb")+find("kc") != 0 {
				t.Error("what was not committed is found by its key")
			}
			if _, err := r.c.Pull(t.Context(), r.addr, pullHeader("CG", message.TopicHalf, 0, 0, "*")); err == nil {
				t.Error("half messages can be pulled")
			} else {
				r.refused(err, protocol.TopicNotExist, "not exist")
			}
		})
	}
}

// An end must name its half message rightly; it counts once.
func TestEndRefusals(t *testing.T) {
	r := runTx(t, nil)
	r.create("T", 1)
	a, b := r.begin("T", 0, "a"), r.begin("T", 0, "b")
	other := r.send("T", 0, "other", "PGROUP", "PG")
	at := r.sent(other)
	for _, c := range []struct {
		what   string
		change func(h *protocol.EndHeader)
		text   string
	}{
		{"group", func(h *protocol.EndHeader) { h.Group = []byte("Other") }, "The producer group wrong"},
		{"half offset", func(h *protocol.EndHeader) { h.HalfOffset++ }, "The transaction state table offset wrong"},
		{"within a record", func(h *protocol.EndHeader) { h.LogOffset++ }, "Find prepared transaction message failed"},
		{"no half message", func(h *protocol.EndHeader) { h.LogOffset, h.HalfOffset = at, other.QueueOffset }, "Find prepared transaction message failed"},
		{"behind the log", func(h *protocol.EndHeader) { h.LogOffset = 1 << 40 }, "Find prepared transaction message failed"},
		{"negative", func(h *protocol.EndHeader) { h.LogOffset = -5 }, "Find prepared transaction message failed"},
		{"largest", func(h *protocol.EndHeader) { h.LogOffset = 1<<63 - 1 }, "Find prepared transaction message failed"},
	} {
		for _, outcome := range []message.SysFlag{message.Commit, message.Rollback} {
			refusal(t, c.what, r.end(a, outcome, c.change), protocol.SystemError, c.text)
		}
	}
	for range 3 {
		if err := r.end(a, message.Commit); err != nil {
			t.Error(err)
		}
		if err := r.end(b, message.Rollback, func(h *protocol.EndHeader) { h.FromCheck = true }); err != nil {
			t.Error(err)
		}
	}
	refusal(t, "rollback of what was committed", r.end(a, message.Rollback), protocol.SystemError, "has been committed before")
	refusal(t, "commit of what was rolled back", r.end(b, message.Commit), protocol.SystemError, "has been rolled back before")
	if got := r.bodies("T", 0); got != "other a" {
		t.Errorf("pulled %q", got)
	}
	if n := r.b.store.Queue([]byte(message.TopicOpHalf), 0).Max(); n != 2 {
		t.Errorf("%d op records", n)
	}
}

// What is sent as part of a transaction, and is not, or may not.
func TestTransactionSends(t *testing.T) {
	r := runTx(t, nil)
	r.create("T", 1)
	r.create("%RETRY%G", 1)
	if err := r.c.CreateGroup(t.Context(), r.addr, protocol.GroupConfig{GroupName: "G", ConsumeEnable: true, RetryQueueNums: 1, RetryMaxTimes: 3}); err != nil {
		t.Fatal(err)
	}
	send := func(topic string, sys message.SysFlag, reconsume int32, props ...string) error {
		h := sendHeader(topic, 0, props...)
		h.SysFlag, h.ReconsumeTimes = int32(sys), reconsume
		_, err := r.c.Send(t.Context(), r.addr, h, []byte("x"))
		return err
	}
	r.refused(send("T", message.Prepared, 0), protocol.MessageIllegal, "TRAN_MSG is missing")
	r.refused(send("T", message.Rollback, 0), protocol.MessageIllegal, "TRAN_MSG is missing")
	r.refused(send("T", 0, 0, "TRAN_MSG", "true", "a", strings.Repeat("x", 32_650)), protocol.MessageIllegal, "half message")
	// Clients before 4.6.1 send a retry with the properties of what was consumed.
	if err := send("%RETRY%G", message.Prepared, 1, "TRAN_MSG", "true"); err != nil {
		t.Error(err)
	}
	if err := send("%RETRY%G", message.Prepared, 3, "TRAN_MSG", "true"); err != nil {
		t.Error(err)
	}
	for _, topic := range []string{"%RETRY%G", "%DLQ%G"} {
		if q := r.b.store.Queue([]byte(topic), 0); q.Max() != 1 {
			t.Errorf("%s has %d messages", topic, q.Max())
		}
	}
	if err := r.c.UpdateConfig(t.Context(), r.addr, "rejectTransactionMessage=true"); err != nil {
		t.Fatal(err)
	}
	r.refused(send("T", message.Prepared, 0, "TRAN_MSG", "TRUE"), protocol.NoPermission, "sending transaction message is forbidden")
	if n := r.b.store.Queue([]byte(message.TopicHalf), 0).Max(); n != 0 {
		t.Errorf("%d half messages", n)
	}
}

// The producers of half messages that nobody ends are asked, in turns, until they
// say or have been asked often enough.
func TestCheckBack(t *testing.T) {
	r := runTx(t, func(o *Options) { o.TransactionCheckMax = 2 })
	r.create("T", 2)
	p, q := r.producer("p", "PG"), r.producer("q", "PG")
	a := r.begin("T", 1, "a", "UNIQ_KEY", "ua", "KEYS", "k", "TAGS", "tag")
	b := r.begin("T", 0, "b", "UNIQ_KEY", "ub")
	if err := r.end(r.begin("T", 0, "c"), message.Commit); err != nil {
		t.Fatal(err)
	}
	r.check()
	p.quiet(t)
	q.quiet(t)
	r.ahead.Add(int64(7 * time.Second)) // transactionTimeOut is 6 s
	r.check()
	first, second := p.next(t), q.next(t)
	if first.MsgID != "ua" {
		first, second = second, first
	}
	m := first.rec
	copied, err := r.b.store.ReadRecord(first.LogOffset)
	if err != nil {
		t.Fatal(err)
	}
	if !first.oneway || first.MsgID != "ua" || first.TxID != "ua" || first.HalfOffset != 3 || first.HalfOffset != copied.QueueOffset() ||
		first.OffsetID != string(message.AppendID(nil, r.b.send.storeAt, first.LogOffset)) || string(copied.Topic()) != message.TopicHalf {
		t.Errorf("asked %+v about %q", first, copied)
	}
	if string(m.Topic()) != "T" || m.QueueID() != 1 || string(m.Body()) != "a" || prop(m, "TRANSACTION_CHECK_TIMES") != "1" || prop(m, "KEYS") != "k" || m.Offset() != first.LogOffset {
		t.Errorf("asked about %q", m)
	}
	value := r.metrics()
	for name, want := range map[string]float64{"gomq_transactions_open": 2, "gomq_transaction_checks_total result=asked": 2, "gomq_transaction_checks_total result=aside": 0,
		"rocketmq_commit_messages_total topic=T": 1, "rocketmq_rollback_messages_total topic=T": 0, "rocketmq_finish_message_latency topic=T": 1} {
		if got, ok := value[name]; !ok || got != want {
			t.Errorf("%s is %v (%v), want %v", name, got, ok, want)
		}
	}
	// The answer names the copy; a late one the first half message.
	if err := r.end(tx{first.HalfOffset, first.LogOffset}, message.Commit, func(h *protocol.EndHeader) { h.FromCheck = true }); err != nil {
		t.Error(err)
	}
	if err := r.end(a, message.Commit); err != nil {
		t.Error(err)
	}
	if got := r.bodies("T", 1); got != "a" {
		t.Errorf("pulled %q", got)
	}
	r = r.again() // it goes on where it was
	p = r.producer("p", "PG")
	r.ahead.Add(int64(time.Minute))
	r.check()
	last := p.next(t)
	if last.MsgID != "ub" || prop(last.rec, "TRANSACTION_CHECK_TIMES") != "2" || last.HalfOffset <= second.HalfOffset {
		t.Errorf("asked %+v", last)
	}
	p.quiet(t)
	for range 2 {
		r.check()
	}
	p.quiet(t)
	_, list := r.pull(message.TopicCheckMax, 0, 0, "*")
	if len(list) != 1 || string(list[0].Body()) != "b" || prop(list[0], "REAL_TOPIC") != "T" {
		t.Errorf("put aside: %q", list)
	}
	// It can still be committed, and its check begun anew.
	if _, err := r.c.Call(t.Context(), r.addr, protocol.NewRequest(protocol.ResumeCheckHalf, &protocol.ResumeHeader{MsgID: string(message.AppendID(nil, r.b.send.storeAt, list[0].Offset()))}, nil)); err != nil {
		t.Fatal(err)
	}
	for what, id := range map[string]string{"an id": "zz", "a half message": string(message.AppendID(nil, r.b.send.storeAt, 1<<40)),
		"one of transactions": string(message.AppendID(nil, r.b.send.storeAt, r.sent(r.send("T", 1, "plain"))))} {
		got, err := r.c.Call(t.Context(), r.addr, protocol.NewRequest(protocol.ResumeCheckHalf, &protocol.ResumeHeader{MsgID: id}, nil))
		if err != nil || got.Code != protocol.SystemError || !strings.HasPrefix(got.Remark, "Exception was thrown when putting message back") {
			t.Errorf("not %s: %v %v", what, got, err)
		}
	}
	r.ahead.Add(int64(time.Second))
	r.check()
	if again := p.next(t); again.MsgID != "ub" || prop(again.rec, "TRANSACTION_CHECK_TIMES") != "1" {
		t.Errorf("resumed as %+v", again)
	}
	if err := r.end(b, message.Commit); err != nil {
		t.Error(err)
	}
	if got := r.bodies("T", 0); got != "c b" {
		t.Errorf("pulled %q", got)
	}
	// The progress is where a Java broker looks for it.
	for topic, want := range map[string]int64{message.TopicHalf: r.b.store.Queue([]byte(message.TopicHalf), 0).Max() - 1, message.TopicOpHalf: 2} {
		if off, ok := r.b.offsets.Query([]byte(topic), []byte(trans.Group), 0); !ok || off != want {
			t.Errorf("progress in %s is %d, want %d", topic, off, want)
		}
	}
}

// A producer that has gone is not asked, and its half messages are not lost.
func TestCheckWithoutProducer(t *testing.T) {
	r := runTx(t, nil)
	r.create("T", 1)
	p := r.producer("p", "PG")
	for i := range 10 {
		r.begin("T", 0, strconv.Itoa(i), "UNIQ_KEY", fmt.Sprint("u", i))
	}
	p.stop()
	r.eventually("the broker notices", func() bool { _, ok := r.b.producers.Members("PG"); return !ok })
	r.ahead.Add(int64(10 * time.Second))
	r.check()
	q := r.producer("q", "PG")
	r.ahead.Add(int64(time.Second))
	r.check()
	for range 10 {
		a := q.next(t)
		if prop(a.rec, "TRANSACTION_CHECK_TIMES") != "2" {
			t.Errorf("asked %+v", a)
		}
		if err := r.end(tx{a.HalfOffset, a.LogOffset}, message.Commit); err != nil {
			t.Error(err)
		}
	}
	if got := r.bodies("T", 0); got != "0 1 2 3 4 5 6 7 8 9" {
		t.Errorf("pulled %q", got)
	}
}

// A half message with a delay waits once it is committed.
func TestDelayedTransaction(t *testing.T) {
	r := runTx(t, nil)
	r.create("T", 1)
	a := r.begin("T", 0, "a", "DELAY", "1", "UNIQ_KEY", "ua")
	if got := r.bodies("T", 0); got != "" || a.half != 0 {
		t.Errorf("pulled %q; the half message is at %d", got, a.half)
	}
	if err := r.end(a, message.Commit); err != nil {
		t.Fatal(err)
	}
	if n := r.b.store.Queue([]byte(message.TopicSchedule), 0).Max(); n != 1 || r.bodies("T", 0) != "" {
		t.Errorf("%d messages wait, pulled %q", n, r.bodies("T", 0))
	}
	r.eventually("it is due after a second", func() bool { return r.bodies("T", 0) == "a" })
	r.ahead.Add(int64(time.Minute))
	p := r.producer("p", "PG")
	r.check()
	p.quiet(t)
}

// A slave ends no transactions and asks nobody.
func TestTransactionsOnSlave(t *testing.T) {
	o := DefaultOptions()
	o.BrokerRole = Slave
	s := &transDesk{live: NewLive(o), log: zap.NewNop()}
	for _, c := range []struct {
		h   protocol.Header
		ask func(*remoting.Call) (remoting.Response, error)
	}{{&protocol.EndHeader{Group: []byte("PG"), Outcome: int32(message.Commit)}, s.end}, {&protocol.ResumeHeader{MsgID: strings.Repeat("0", 32)}, s.resume}} {
		var call remoting.Call
		if err := call.Req.Parse(protocol.NewRequest(protocol.EndTransaction, c.h, nil).AppendTo(nil)[4:]); err != nil {
			t.Fatal(err)
		}
		_, err := c.ask(&call)
		refusal(t, "on a slave", err, protocol.SlaveNotAvailable, "this broker is a slave")
	}
	if err := s.check(t.Context()); err != nil {
		t.Error(err)
	}
}
