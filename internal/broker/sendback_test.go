package broker

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"gomq/internal/broker/delay"
	"gomq/internal/broker/meta"
	"gomq/internal/message"
	"gomq/internal/protocol"
)

// back sends a message back and returns the answer's code and remark.
func (r *rig) back(h protocol.SendBackHeader) (int32, string) {
	r.Helper()
	resp, err := r.c.Call(r.Context(), r.addr, protocol.NewRequest(protocol.ConsumerSendMsgBack, &h, nil))
	if err != nil {
		r.Fatal(err)
	}
	return resp.Code, resp.Remark
}

func backHeader(group string, offset int64, level int32) protocol.SendBackHeader {
	return protocol.SendBackHeader{Group: []byte(group), Offset: offset, DelayLevel: level, OriginTopic: "T", OriginMsgID: "U", MaxReconsume: -1}
}

// A message that is sent back again and again waits longer from try to try and
// ends as a dead letter; it is the same message all the way, and says where it
// came from.
func TestSendBackUntilDead(t *testing.T) {
	clock := newHandClock()
	r := runWith(t, func(o *Options) { o.MessageDelayLevel = "1s 2s 3s 4s 5s" }, seams{now: clock.time})
	r.create("T", 1)
	if err := r.b.groups.Put(func() protocol.GroupConfig { g := meta.NewGroup("G"); g.RetryMaxTimes = 3; return g }()); err != nil {
		t.Fatal(err)
	}
	r.send("T", 0, "body", "KEYS", "k", "TAGS", "A", "UNIQ_KEY", "U")
	_, list := r.pull("T", 0, 0, "*")
	first := list[0]
	m := first
	id := string(message.AppendID(nil, m.StoreHost(), m.Offset()))
	for try := range 3 {
		if code, remark := r.back(backHeader("G", m.Offset(), 0)); code != 0 {
			t.Fatalf("try %d: %d %s", try, code, remark)
		}
		if n := r.max(message.TopicSchedule, int32(2+try)); n != 1 {
			t.Fatalf("try %d does not wait in level %d", try, 3+try)
		}
		clock.pass(time.Duration(3+try)*time.Second - time.Millisecond)
		if r.max("%RETRY%G", 0) != int64(try) {
			t.Fatalf("try %d comes too early", try)
		}
		clock.pass(20 * time.Millisecond)
		r.eventually("the retry does not come", func() bool { return r.max("%RETRY%G", 0) == int64(try+1) })
		_, list = r.pull("%RETRY%G", 0, int64(try), "*")
		m = list[0]
		origin, _ := message.Prop(m.Props(), message.PropOriginID)
		topic, _ := message.Prop(m.Props(), message.PropRetryTopic)
		if m.Reconsume() != int32(try+1) || string(m.Body()) != "body" || string(origin) != id || string(topic) != "T" || m.BornTime() != first.BornTime() ||
			m.BornHost() != first.BornHost() || m.StoreHost() != first.StoreHost() || uniq(m) != "U" {
			t.Fatalf("try %d is %q", try, m)
		}
	}
	if code, remark := r.back(backHeader("G", m.Offset(), 0)); code != 0 {
		t.Fatal(code, remark)
	}
	_, list = r.pull("%DLQ%G", 0, 0, "*")
	if len(list) != 1 || list[0].Reconsume() != 4 || string(list[0].Body()) != "body" {
		t.Fatalf("dead letters: %q", list)
	}
	if origin, _ := message.Prop(list[0].Props(), message.PropOriginID); string(origin) != id {
		t.Errorf("the dead letter says it is %s, want %s", origin, id)
	}
	if c := r.b.topics.Get([]byte("%DLQ%G")); c == nil || c.Perm != 6 || c.ReadQueueNums != 1 || c.WriteQueueNums != 1 {
		t.Errorf("the topic of dead letters is %+v", c)
	}
	if got := r.values("rocketmq_send_to_dlq_messages_total"); got != "G false T: 1" {
		t.Errorf("dead letters are counted as %q", got)
	}
	if v, ok := r.b.stats.named("SNDBCK_PUT_NUMS", "T@G", ""); !ok || v.Day.Sum != 4 {
		t.Errorf("what was sent back is counted as %+v %v", v, ok)
	}
}

// values is what the broker tells under a name: the labels' values, but those of
// the node, and the value of each.
func (r *rig) values(name string) string {
	r.Helper()
	fams, err := r.reg.Gather()
	if err != nil {
		r.Fatal(err)
	}
	var out []string
	for _, f := range fams {
		for _, m := range f.GetMetric() {
			if f.GetName() != name {
				continue
			}
			var labels []string
			for _, l := range m.GetLabel() {
				if n := l.GetName(); n != "cluster" && n != "node_id" && n != "node_type" {
					labels = append(labels, l.GetValue())
				}
			}
			out = append(out, fmt.Sprint(strings.Join(labels, " "), ": ", m.GetGauge().GetValue()+m.GetCounter().GetValue()))
		}
	}
	return strings.Join(out, ", ")
}

// Which level and which topic: behaviour.md section 8.
func TestSendBackRules(t *testing.T) {
	r := run(t, func(o *Options) { o.MessageDelayLevel = "1h 1h 1h 1h" })
	r.create("T", 1)
	r.send("T", 0, "x")
	_, list := r.pull("T", 0, 0, "*")
	at := list[0].Offset()
	for _, c := range []struct {
		what   string
		change func(h *protocol.SendBackHeader)
		level  int32 // 0: a dead letter
	}{
		{"no level", func(h *protocol.SendBackHeader) {}, 3},
		{"a level", func(h *protocol.SendBackHeader) { h.DelayLevel = 2 }, 2},
		{"a level above the highest", func(h *protocol.SendBackHeader) { h.DelayLevel = 99 }, 4},
		{"below 0", func(h *protocol.SendBackHeader) { h.DelayLevel = -1 }, 0},
		{"the consumer's limit", func(h *protocol.SendBackHeader) { h.MaxReconsume = 0 }, 0},
		{"a limit that is not reached", func(h *protocol.SendBackHeader) { h.MaxReconsume = 1 }, 3},
	} {
		h := backHeader("G", at, 0)
		c.change(&h)
		before := map[int32]int64{}
		for q := range int32(4) {
			before[q] = r.max(message.TopicSchedule, q)
		}
		dead := r.max("%DLQ%G", 0)
		if code, remark := r.back(h); code != 0 {
			t.Errorf("%s: %d %s", c.what, code, remark)
			continue
		}
		got := int32(0)
		for q := range int32(4) {
			if r.max(message.TopicSchedule, q) != before[q] {
				got = q + 1
			}
		}
		if got != c.level || (r.max("%DLQ%G", 0) != dead) != (c.level == 0) {
			t.Errorf("%s: level %d, want %d", c.what, got, c.level)
		}
	}
	// The limit of a client that is too old does not count.
	h := backHeader("G", at, 0)
	h.MaxReconsume = 0
	req := protocol.NewRequest(protocol.ConsumerSendMsgBack, &h, nil)
	req.Version = versionMaxReconsume - 1
	dead := r.max("%DLQ%G", 0)
	if resp, err := r.c.Call(t.Context(), r.addr, req); err != nil || resp.Code != 0 || r.max("%DLQ%G", 0) != dead {
		t.Errorf("an old client: %v %v", resp, err)
	}
}

func TestSendBackRefusals(t *testing.T) {
	r := run(t, func(o *Options) { o.AutoCreateSubscriptionGroup = false })
	r.create("T", 1)
	r.send("T", 0, "x")
	put := func(name string, change func(g *protocol.GroupConfig)) {
		g := meta.NewGroup(name)
		change(&g)
		if err := r.b.groups.Put(g); err != nil {
			t.Fatal(err)
		}
	}
	put("G", func(*protocol.GroupConfig) {})
	put("None", func(g *protocol.GroupConfig) { g.RetryQueueNums = 0 })
	put("Shut", func(*protocol.GroupConfig) {})
	if err := r.b.topics.Put(protocol.TopicConfig{TopicName: "%RETRY%Shut", ReadQueueNums: 1, WriteQueueNums: 1, Perm: 4}); err != nil {
		t.Fatal(err)
	}
	end := r.b.store.MaxOffset()
	for _, c := range []struct {
		group  string
		offset int64
		code   int32
		text   string
	}{
		{"Unknown", 0, protocol.GroupNotExist, "subscription group not exist, Unknown \nSee http"},
		{"None", 0, protocol.Success, ""},
		{"Shut", 0, protocol.NoPermission, "the topic[%RETRY%Shut] sending message is forbidden"},
		{"G", 1, protocol.SystemError, "look message by offset failed, 1"},
		{"G", 1 << 50, protocol.SystemError, "look message by offset failed, 1125899906842624"},
		{"G", -1, protocol.SystemError, "look message by offset failed, -1"},
		{"../x", 0, protocol.GroupNotExist, ""},
	} {
		code, remark := r.back(backHeader(c.group, c.offset, 0))
		if code != c.code || !strings.Contains(remark, c.text) {
			t.Errorf("%s at %d: %d %q", c.group, c.offset, code, remark)
		}
	}
	if r.b.store.MaxOffset() != end {
		t.Error("something was stored")
	}
	if r.b.topics.Get([]byte("%RETRY%None")) != nil {
		t.Error("a group that wants no retries got a topic for them")
	}
}

// Topics of dead letters that a 4.5 broker left are opened at the start, and
// nameservers are told by the version.
func TestDeadLettersOfOldBrokers(t *testing.T) {
	r := run(t, nil)
	if err := r.b.topics.Put(protocol.TopicConfig{TopicName: "%DLQ%G", ReadQueueNums: 1, WriteQueueNums: 1, Perm: 2, TopicFilterType: "SINGLE_TAG"}); err != nil {
		t.Fatal(err)
	}
	if err := r.b.topics.Put(protocol.TopicConfig{TopicName: "WriteOnly", ReadQueueNums: 1, WriteQueueNums: 1, Perm: 2, TopicFilterType: "SINGLE_TAG"}); err != nil {
		t.Fatal(err)
	}
	v := r.b.topics.Version()
	r = r.again()
	if c := r.b.topics.Get([]byte("%DLQ%G")); c.Perm != 6 {
		t.Errorf("perm %d", c.Perm)
	}
	if c := r.b.topics.Get([]byte("WriteOnly")); c.Perm != 2 {
		t.Errorf("another topic was opened, too: %d", c.Perm)
	}
	if r.b.topics.Version() == v {
		t.Error("the version is that of before")
	}
}

// A consumer that cannot send back sends the message to its retry topic itself, as
// a delayed message (clients of all versions do).
func TestRetrySentByTheConsumer(t *testing.T) {
	clock := newHandClock()
	r := runWith(t, func(o *Options) { o.MessageDelayLevel = "1s 2s 3s" }, seams{now: clock.time})
	h := sendHeader("%RETRY%G", 0, "DELAY", "3", "RETRY_TOPIC", "T", "UNIQ_KEY", "U")
	h.ReconsumeTimes, h.MaxReconsume = 1, 16
	if _, err := r.c.Send(t.Context(), r.addr, h, []byte("x")); err != nil {
		t.Fatal(err)
	}
	if r.max("%RETRY%G", 0) != 0 || r.max(message.TopicSchedule, 2) != 1 {
		t.Error("the retry does not wait")
	}
	clock.pass(4 * time.Second)
	r.eventually("the retry does not come", func() bool { return r.max("%RETRY%G", 0) == 1 })
	_, list := r.pull("%RETRY%G", 0, 0, "*")
	if list[0].Reconsume() != 1 || uniq(list[0]) != "U" {
		t.Errorf("%q", list[0])
	}
}

// What a Java broker of 4.9.7 made of messages that were sent back is what gomq
// makes of them, byte for byte but for places and time.
func TestSendBackAsTheOriginal(t *testing.T) {
	list := goldenRecords(t, "4.9.7-clean")
	levels, err := delay.ParseLevels(DefaultOptions().MessageDelayLevel)
	if err != nil {
		t.Fatal(err)
	}
	sources := map[string]message.Record{}
	for _, r := range list {
		if topic := string(r.Topic()); topic == "GoldRetry" || topic == "%RETRY%GoldRetryGroup" {
			sources[fmt.Sprint(uniq(r), r.Reconsume())] = r
		}
	}
	retries, letters := 0, 0
	for _, want := range list {
		real, _ := message.Prop(want.Props(), message.PropRealTopic)
		dead := string(want.Topic()) == "%DLQ%GoldRetryGroup"
		if !dead && (string(want.Topic()) != message.TopicSchedule || string(real) != "%RETRY%GoldRetryGroup") {
			continue
		}
		src := sources[fmt.Sprint(uniq(want), want.Reconsume()-1)]
		if src == nil {
			t.Fatalf("nothing was sent back to become %q", want)
		}
		h := protocol.SendBackHeader{Group: []byte("GoldRetryGroup"), MaxReconsume: -1}
		most := int32(16)
		if dead {
			letters++
			most = src.Reconsume()
		} else {
			retries++
			h.DelayLevel = want.QueueID() + 1
		}
		m, isDead := sendBack(src, &h, most)
		if isDead != dead {
			t.Fatalf("dead: %v", isDead)
		}
		m.QueueID = 0
		if !dead {
			var p message.PropSet
			p.Parse(m.Props)
			levels.Divert(&m.Message, &p, m.Level)
			m.Props = p.AppendTo(nil)
		}
		compareRecords(t, &m.Message, want)
	}
	if retries < 3 || letters < 2 {
		t.Errorf("only %d retries and %d dead letters", retries, letters)
	}
}

// GET_ALL_DELAY_OFFSET and the runtime information tell how far the levels are.
func TestDelayProgressIsTold(t *testing.T) {
	clock := newHandClock()
	r := runWith(t, func(o *Options) { o.MessageDelayLevel, o.FlushDelayOffsetInterval = "1s 1h", time.Hour }, seams{now: clock.time})
	r.create("T", 1)
	r.send("T", 0, "x", "DELAY", "1")
	r.send("T", 0, "x", "DELAY", "2")
	clock.pass(3 * time.Second)
	r.eventually("not delivered", func() bool { return r.b.delays.lines[0].line.Next() == 1 })
	ask := func() string {
		resp, err := r.c.Call(t.Context(), r.addr, protocol.NewRequest(protocol.GetAllDelayOffset, nil, nil))
		if err != nil || resp.Code != 0 {
			t.Fatal(resp, err)
		}
		return string(resp.Body)
	}
	if got := ask(); got != `{"offsetTable":{}}` {
		t.Errorf("before the progress is on the disk: %s", got)
	}
	if err := r.b.delays.save(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := ask(); got != `{"offsetTable":{1:1}}` {
		t.Errorf("told %s", got)
	}
	info, err := r.b.brokerAdmin.runtimeInfo(nil)
	if err != nil || !strings.Contains(string(info.Body), `"scheduleMessageOffset_1":"1,1"`) || !strings.Contains(string(info.Body), `"scheduleMessageOffset_2":"0,1"`) {
		t.Errorf("%s %v", info.Body, err)
	}
	for name, want := range map[string]string{"gomq_delay_waiting_messages": "1: 0, 2: 1", "gomq_delay_overdue_seconds": "1: 0, 2: 0"} {
		if got := r.values(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}
