package broker

import (
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"gomq/internal/message"
	"gomq/internal/protocol"
)

func (r *rig) must(code int32, h protocol.Header, body []byte) *protocol.Command {
	r.Helper()
	resp := r.ask(code, h, body)
	if resp.Code != protocol.Success {
		r.Fatalf("%d: %d %s", code, resp.Code, resp.Remark)
	}
	return resp
}

// refusedBy says that the answer is a refusal with that code and text.
func (r *rig) refusedBy(resp *protocol.Command, code int32, text string) {
	r.Helper()
	if resp.Code != code || !strings.Contains(resp.Remark, text) {
		r.Errorf("got %d %q, want %d with %q", resp.Code, resp.Remark, code, text)
	}
}

// What tools ask about the broker as a whole: statistics, producers, groups, raw
// queues.
func TestLooks(t *testing.T) {
	r := run(t, nil)
	ctx := t.Context()
	r.create("T", 2)
	for i := range 5 {
		r.send("T", 0, fmt.Sprint(i), "TAGS", "TagA")
	}
	resp := r.must(protocol.ViewBrokerStatsData, &protocol.ViewStatsHeader{Name: "TOPIC_PUT_NUMS", Key: "T"}, nil)
	if v, err := protocol.ParseStatsView(resp.Body); err != nil || v.Minute.Sum != 5 || v.Day.Sum != 5 {
		t.Errorf("statistics %+v %v", v, err)
	}
	r.refusedBy(r.ask(protocol.ViewBrokerStatsData, &protocol.ViewStatsHeader{Name: "TOPIC_PUT_NUMS", Key: "N"}, nil), protocol.SystemError, "The stats <TOPIC_PUT_NUMS> <N> not exist")

	before := time.Now().UnixMilli()
	r.consumer(newAsked(nil), "me", "CG", protocol.LangGo, 317, "T")
	resp = r.must(protocol.GetAllProducerInfo, nil, nil)
	table, err := protocol.ParseProducerTable(resp.Body)
	if err != nil || len(table) != 1 || len(table["PG"]) != 1 || !strings.Contains(string(resp.Body), `"remoteIP":"/127.0.0.1:`) {
		t.Fatalf("producers %s %v", resp.Body, err)
	}
	if p := table["PG"][0]; p.ClientID != "me" || p.Language != protocol.LangGo || p.Version != 317 || p.LastUpdate < before || !strings.HasPrefix(p.ClientAddr, "127.0.0.1:") {
		t.Errorf("producer %+v", p)
	}

	for q := range int32(2) {
		if err := r.c.Commit(ctx, r.addr, "CG", "T", q, int64(3*(1-q))); err != nil {
			t.Fatal(err)
		}
	}
	brokerStats := func(ordered bool) (*protocol.BrokerStats, []protocol.ConsumeStats) {
		t.Helper()
		b, err := protocol.ParseBrokerStats(r.must(protocol.GetBrokerConsumeStats, &protocol.BrokerStatsHeader{Ordered: ordered}, nil).Body)
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(b.Groups, func(g protocol.GroupStats) bool { return g.Group == "CG" })
		if i < 0 {
			t.Fatalf("the group is not among %+v", b.Groups)
		}
		return b, b.Groups[i].Topics
	}
	b, topics := brokerStats(false)
	if b.BrokerAddr != r.addr || b.TotalDiff != 2 || len(topics) != 1 || len(topics[0].Queues) != 2 || topics[0].Queues[0].BrokerOffset != 5 || topics[0].Queues[0].ConsumerOffset != 3 {
		t.Errorf("of all groups %+v %+v", b, topics)
	}
	if b, topics = brokerStats(true); b.TotalDiff != 0 || len(topics) != 0 {
		t.Errorf("of ordered topics %+v %+v", b, topics)
	}

	resp = r.must(protocol.QueryTopicsByConsumer, &protocol.GroupHeader{Group: "CG"}, nil)
	if l, err := protocol.ParseTopicList(resp.Body); err != nil || !slices.Equal(l.Topics, []string{"T"}) || l.BrokerAddr != r.addr {
		t.Errorf("topics of the group %+v %v", l, err)
	}
	resp = r.must(protocol.QuerySubscription, &protocol.GroupTopicHeader{Group: "CG", Topic: "T"}, nil)
	if !strings.HasPrefix(string(resp.Body), `{"group":"CG","subscriptionData":{`) || !strings.Contains(string(resp.Body), `"subString":"TagA || TagB"`) {
		t.Errorf("subscription %s", resp.Body)
	}
	if resp = r.must(protocol.QuerySubscription, &protocol.GroupTopicHeader{Group: "N", Topic: "T"}, nil); string(resp.Body) != `{"group":"N","topic":"T"}` {
		t.Errorf("no subscription %s", resp.Body)
	}
	resp = r.must(protocol.GetGroupConfig, &protocol.GroupHeader{Group: "CG"}, nil)
	if g, err := protocol.ParseGroup(resp.Body); err != nil || g.GroupName != "CG" || g.RetryMaxTimes != 16 {
		t.Errorf("group %+v %v", g, err)
	}
	r.refusedBy(r.ask(protocol.GetGroupConfig, &protocol.GroupHeader{Group: "N"}, nil), protocol.GroupNotExist, "No group in this broker")
}

// The entries of a queue are those of its messages.
func TestQueueEntries(t *testing.T) {
	r := run(t, nil)
	r.create("T", 2)
	for i := range 5 {
		r.send("T", 0, fmt.Sprint(i), "TAGS", "TagA")
	}
	r.consumer(newAsked(nil), "me", "CG", protocol.LangJava, 409, "T")
	look := func(h protocol.QueueViewHeader) (*protocol.QueueView, string) {
		t.Helper()
		h.Topic = "T"
		resp := r.must(protocol.QueryConsumeQueue, &h, nil)
		v, err := protocol.ParseQueueView(resp.Body)
		if err != nil {
			t.Fatalf("%s: %v", resp.Body, err)
		}
		return v, resp.Remark
	}
	_, list := r.pull("T", 0, 0, "*")
	var want []protocol.QueueEntry
	for _, rec := range list {
		want = append(want, protocol.QueueEntry{Offset: rec.Offset(), Size: rec.Size(), TagsCode: 2598919})
	}
	v, remark := look(protocol.QueueViewHeader{Index: 0, Count: 10})
	if v.Min != 0 || v.Max != 5 || v.Filter != "" || v.Subscription != nil || remark != "" || !reflect.DeepEqual(v.Entries, want) {
		t.Errorf("all: %+v %q", v, remark)
	}
	if v, _ = look(protocol.QueueViewHeader{Index: 3, Count: math.MaxInt32}); !reflect.DeepEqual(v.Entries, want[3:]) {
		t.Errorf("the end: %+v", v)
	}
	if v, _ = look(protocol.QueueViewHeader{Index: 1, Count: -1}); len(v.Entries) != 0 {
		t.Errorf("none: %+v", v)
	}
	if v, _ = look(protocol.QueueViewHeader{Index: 1, Count: 1, Group: "CG"}); v.Filter != "null" || v.Subscription == nil || v.Subscription.SubString != "TagA || TagB" || len(v.Entries) != 1 {
		t.Errorf("with a group: %+v", v)
	}
	if v, _ = look(protocol.QueueViewHeader{Index: 1, Count: 1, Group: "N"}); v.Filter != "N@T is not online!" || v.Subscription != nil {
		t.Errorf("with a group that is not there: %+v", v)
	}
	for _, h := range []protocol.QueueViewHeader{{Index: 5, Count: 1}, {Index: -1, Count: 1}, {QueueID: 1, Count: 1}} {
		if v, remark = look(h); remark != fmt.Sprintf("Index %d of %d@T is not exist!", h.Index, h.QueueID) || len(v.Entries) != 0 || v.Max != 5*int64(1-h.QueueID) {
			t.Errorf("%+v: %+v %q", h, v, remark)
		}
	}
	for _, id := range []int32{2, 99, -1} {
		r.refusedBy(r.ask(protocol.QueryConsumeQueue, &protocol.QueueViewHeader{Topic: "T", QueueID: id, Count: 1}, nil), protocol.SystemError, fmt.Sprintf("%d@T is not exist!", id))
	}
	r.refusedBy(r.ask(protocol.QueryConsumeQueue, &protocol.QueueViewHeader{Topic: "N", Count: 1}, nil), protocol.SystemError, "0@N is not exist!")
}

// Lists of topics and groups are taken whole or not at all.
func TestCreateLists(t *testing.T) {
	r := run(t, nil)
	topics := func(names ...string) []byte {
		var parts []string
		for _, n := range names {
			parts = append(parts, fmt.Sprintf(`{"topicName":%q,"readQueueNums":3,"writeQueueNums":2,"perm":6}`, n))
		}
		return []byte(`{"topicConfigList":[` + strings.Join(parts, ",") + `]}`)
	}
	r.refusedBy(r.ask(protocol.UpdateTopicList, nil, topics("A", "TBW102")), protocol.SystemError, "is conflict with system topic")
	r.refusedBy(r.ask(protocol.UpdateTopicList, nil, []byte(`{"topicConfigList":[{"topicName":"A"},{"topicName":"B","readQueueNums":99999}]}`)), protocol.SystemError, "between 0 and 1024")
	r.refusedBy(r.ask(protocol.UpdateTopicList, nil, []byte(`{}`)), protocol.SystemError, "topicconfiglist")
	if r.b.topics.Get([]byte("A")) != nil {
		t.Error("a topic of a refused list was made")
	}
	r.must(protocol.UpdateTopicList, nil, topics("A", "B"))
	for _, n := range []string{"A", "B"} {
		if c := r.b.topics.Get([]byte(n)); c == nil || c.ReadQueueNums != 3 || c.WriteQueueNums != 2 {
			t.Errorf("topic %s: %+v", n, c)
		}
	}
	r.refusedBy(r.ask(protocol.UpdateGroupList, nil, []byte(`{"groupConfigList":[{"groupName":"G"},{"groupName":"../H"}]}`)), protocol.SystemError, "characters")
	if r.b.groups.Get([]byte("G")) != nil {
		t.Error("a group of a refused list was made")
	}
	r.must(protocol.UpdateGroupList, nil, []byte(`{"groupConfigList":[{"groupName":"G","retryMaxTimes":5},{"groupName":"H"}]}`))
	if g := r.b.groups.Get([]byte("G")); g == nil || g.RetryMaxTimes != 5 || r.b.groups.Get([]byte("H")) == nil {
		t.Errorf("group %+v", g)
	}
}

// Cleaning takes the queues of topics that are in no table, and nothing else; the
// broker's own stay.
func TestCleaning(t *testing.T) {
	r := run(t, nil)
	r.create("T", 1)
	r.send("T", 0, "kept")
	for _, name := range []string{"Gone", message.TopicOpHalf} {
		if _, err := r.b.inner.put(t.Context(), []innerMessage{{Message: message.Message{Topic: []byte(name), Body: []byte("x")}}}); err != nil {
			t.Fatal(err)
		}
	}
	ends := func() map[string]int64 {
		m := map[string]int64{}
		for _, q := range r.b.store.Queues() {
			if q.Max() > 0 {
				m[q.Topic()] = q.Max()
			}
		}
		return m
	}
	if got := ends(); !maps.Equal(got, map[string]int64{"T": 1, "Gone": 1, message.TopicOpHalf: 1}) {
		t.Fatalf("queues %v", got)
	}
	r.must(protocol.CleanExpiredConsumeQueue, nil, nil)
	r.must(protocol.DeleteExpiredCommitLog, nil, nil)
	if got := ends(); len(got) != 3 {
		t.Errorf("queues %v", got)
	}
	r.must(protocol.CleanUnusedTopic, nil, nil)
	if got := ends(); !maps.Equal(got, map[string]int64{"T": 1, message.TopicOpHalf: 1}) {
		t.Errorf("queues %v", got)
	}
	if _, list := r.pull("T", 0, 0, "*"); len(list) != 1 {
		t.Errorf("%d messages of T are left", len(list))
	}
}

// A query that finds nothing says what the index has.
func TestQueryNothing(t *testing.T) {
	query := func(r *rig, begin, end int64) *protocol.Command {
		return r.ask(protocol.QueryMessage, &protocol.QueryHeader{Topic: "T", Key: "nokey", MaxNum: 32, Begin: begin, End: end}, nil)
	}
	const text = "can not find message, maybe time range not correct ("
	r := run(t, func(o *Options) { o.MessageIndexEnable = false })
	r.refusedBy(query(r, 0, math.MaxInt64), protocol.QueryNotFound, text+"messageIndexEnable=false: no keys are indexed)")
	r = run(t, nil)
	r.refusedBy(query(r, 0, math.MaxInt64), protocol.QueryNotFound, text+"nothing is indexed)")
	r.create("T", 1)
	at := time.Now()
	r.send("T", 0, "x", "KEYS", "k")
	r.eventually("the index has it", func() bool {
		return query(r, 0, math.MaxInt64).Remark != text+"nothing is indexed)" && r.b.store.Indexed.Load() == r.b.store.Dispatched.Load()
	})
	day := at.Format("2006-01-02 ")
	for _, c := range []struct {
		begin, end int64
		text       string
	}{
		{0, math.MaxInt64, "none in the time asked for has this key in topic T)"},
		{0, at.Add(-time.Hour).UnixMilli(), "the time asked for lies outside)"},
		{at.Add(time.Hour).UnixMilli(), math.MaxInt64, "the time asked for lies outside)"},
	} {
		resp := query(r, c.begin, c.end)
		r.refusedBy(resp, protocol.QueryNotFound, text+"the index covers messages stored from "+day)
		r.refusedBy(resp, protocol.QueryNotFound, c.text)
	}
}

// The topic of traces is there from the start when it is switched on, under the
// name that it is given; clients send to it and to the default one.
func TestTraceTopic(t *testing.T) {
	r := run(t, nil)
	if r.b.topics.Get([]byte(message.TopicTrace)) != nil {
		t.Error("there is a topic of traces though traceTopicEnable=false")
	}
	for _, name := range []string{"", "MyTraces"} {
		r := run(t, func(o *Options) {
			if o.TraceTopicEnable = true; name != "" {
				o.MsgTraceTopicName = name
			}
		})
		if name == "" {
			name = message.TopicTrace
		}
		if c := r.b.topics.Get([]byte(name)); c == nil || c.WriteQueueNums != 1 || c.Perm != 6 {
			t.Errorf("the topic %s is %+v", name, c)
		}
		r.send(name, 0, "Pub\x01...", "KEYS", "id1 key1")
		r.eventually("the trace is found by its keys", func() bool {
			for _, key := range []string{"id1", "key1"} {
				resp := r.ask(protocol.QueryMessage, &protocol.QueryHeader{Topic: name, Key: key, MaxNum: 32, End: math.MaxInt64}, nil)
				if resp.Code != protocol.Success {
					return false
				}
			}
			return true
		})
	}
}
