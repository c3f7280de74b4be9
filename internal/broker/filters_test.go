package broker

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"gomq/internal/client"
	"gomq/internal/message"
	"gomq/internal/protocol"
)

// sqlBeat is the heartbeat of a client that wants expr of T.
func sqlBeat(id, typ, expr string, version int64) *protocol.Heartbeat {
	h := beatOf(id, "CG", "T")
	h.Consumers[0].Subscriptions[0] = protocol.Subscription{Topic: "T", SubString: expr, ExpressionType: typ, SubVersion: version}
	return h
}

func sqlHeader(expr string, offset int64) protocol.PullHeader {
	h := pullHeader("CG", "T", 0, offset, expr)
	h.ExpressionType = []byte("SQL92")
	return h
}

// ownHeader is a pull of a client that is served by its heartbeat.
func ownHeader(offset, version int64) protocol.PullHeader {
	h := pullHeader("CG", "T", 0, offset, "")
	h.SysFlag, h.Subscription, h.SubVersion = 0, nil, version
	return h
}

func bodies(list []message.Record) string {
	var out []string
	for _, r := range list {
		out = append(out, string(r.Body()))
	}
	return strings.Join(out, " ")
}

// An expression chooses messages by their properties, in the header of a pull and
// in a heartbeat; what is wrong with it is told with its place.
func TestSQLPull(t *testing.T) {
	r := run(t, func(o *Options) { o.EnablePropertyFilter = true })
	r.create("T", 1)
	for i := range 10 {
		r.send("T", 0, fmt.Sprint("m", i), "n", fmt.Sprint(i), "color", []string{"red", "green"}[i%2], "TAGS", "A")
	}
	for _, c := range []struct {
		expr string
		from int64
		code int32
		next int64
		want string
	}{
		{"n > 6", 0, 0, 10, "m7 m8 m9"},
		{"n BETWEEN 2 AND 5 AND color = 'red'", 0, 0, 10, "m2 m4"},
		{"color IN ('green') AND NOT (n < 7)", 3, 0, 10, "m7 m9"},
		{"TAGS = 'A' AND n = 3", 0, 0, 10, "m3"},
		{"missing IS NULL AND n = 3", 0, 0, 10, "m3"},
		{"color > 5", 0, 20, 10, ""}, // raises for each message
		{"n = 77", 2, 20, 10, ""},
		{"n = 1", 10, 19, 10, ""},
	} {
		if p, list := r.pullAs(sqlHeader(c.expr, c.from)); p.Code != c.code || p.NextBeginOffset != c.next || bodies(list) != c.want {
			t.Errorf("%s: %d %s, next %d: %s", c.expr, p.Code, p.Status, p.NextBeginOffset, bodies(list))
		}
	}
	refused := func(h protocol.PullHeader, code int32, text string) {
		t.Helper()
		_, err := r.c.Pull(t.Context(), r.addr, h)
		r.refused(err, code, text)
	}
	refused(sqlHeader("n >", 0), 23, "parse the consumer's subscription failed: line 1, column 4: the expression ends here, expected")
	refused(sqlHeader("", 0), 23, "line 1, column 1")
	odd := sqlHeader("n > 1", 0)
	odd.ExpressionType = []byte("SQL99")
	refused(odd, 23, `the type "SQL99" of the expression is not known`)

	r.beat(r.c, sqlBeat("a", "SQL92", "n > 8", 5))
	if _, list := r.pullAs(ownHeader(0, 5)); bodies(list) != "m9" {
		t.Errorf("by heartbeat: %s", bodies(list))
	}
	refused(ownHeader(0, 6), 25, "the consumer's subscription not latest (the pull has version 6, the heartbeat had 5)")
	r.beat(r.c, sqlBeat("a", "SQL92", "n < 1", 5)) // not newer
	if _, list := r.pullAs(ownHeader(0, 5)); bodies(list) != "m9" {
		t.Errorf("after the same version: %s", bodies(list))
	}
	r.beat(r.c, sqlBeat("a", "SQL92", "n < 2", 6))
	if _, list := r.pullAs(ownHeader(0, 6)); bodies(list) != "m0 m1" {
		t.Errorf("after a newer version: %s", bodies(list))
	}
	r.beat(r.c, sqlBeat("a", "SQL92", "n < 'x'", 7))
	refused(ownHeader(0, 7), 27, "The broker's consumer filter data is not exist!Your expression may be wrong! line 1, column 5: ")

	check := protocol.ClientCheck{ClientID: "a", Group: "CG", Subscription: protocol.Subscription{Topic: "T", SubString: "a >", ExpressionType: "SQL92"}}
	ask := func(code int32, text string) {
		t.Helper()
		resp, err := r.c.Call(t.Context(), r.addr, protocol.NewRequest(protocol.CheckClientConfig, nil, check.Append(nil)))
		if err != nil || resp.Code != code || !strings.Contains(resp.Remark, text) {
			t.Errorf("%s: %d %s, %v", check.Subscription.SubString, resp.Code, resp.Remark, err)
		}
	}
	ask(23, "line 1, column 4: ")
	check.Subscription.SubString = "a > 1"
	ask(0, "")
}

// A pull that waits is answered by the first message that matches, and hears after
// a while how far it has come.
func TestSQLLongPoll(t *testing.T) {
	r := run(t, func(o *Options) { o.EnablePropertyFilter = true })
	r.create("T", 1)
	consumer := r.client()
	r.beat(consumer, sqlBeat("a", "SQL92", "n = 2", 1))
	for _, h := range []protocol.PullHeader{sqlHeader("n = 2", 0), ownHeader(3, 1)} {
		got := r.longPull(consumer, h, time.Minute)
		r.eventually("the pull is not parked", func() bool { return r.b.pull.held.Len() == 1 })
		for i := range 3 {
			r.send("T", 0, fmt.Sprint("m", i), "n", fmt.Sprint(i))
		}
		if p := <-got; p.Code != protocol.Success || p.NextBeginOffset != h.QueueOffset+3 {
			t.Fatalf("pulled %+v", p)
		}
	}
	got := r.longPull(consumer, ownHeader(6, 1), 300*time.Millisecond)
	r.eventually("the pull is not parked", func() bool { return r.b.pull.held.Len() == 1 })
	r.send("T", 0, "other", "n", "3")
	if p := <-got; p.Code != protocol.PullRetryImmediately || p.NextBeginOffset != 7 {
		t.Errorf("pulled %+v", p)
	}
}

// A search that finds nothing ends after so many messages and says where.
func TestSQLScanIsBounded(t *testing.T) {
	r := run(t, func(o *Options) { o.EnablePropertyFilter, o.MappedFileSizeConsumeQueue = true, 20*10_000 })
	r.create("T", 1)
	for range 900 {
		r.send("T", 0, "x", "n", "1")
	}
	for from, next := range map[int64]int64{0: 800, 50: 850, 800: 900} {
		if p, _ := r.pullAs(sqlHeader("n = 2", from)); p.Code != protocol.PullRetryImmediately || p.NextBeginOffset != next {
			t.Errorf("from %d: %d, next %d", from, p.Code, p.NextBeginOffset)
		}
	}
}

// Clients of one group that subscribe differently are each served by what they
// said, and the log and a metric tell of them once.
func TestDifferentSubscriptions(t *testing.T) {
	r := run(t, func(o *Options) { o.EnablePropertyFilter = true })
	core, logs := observer.New(zap.WarnLevel)
	r.b.clients.log = zap.New(core)
	r.create("T", 1)
	for i := range 4 {
		r.send("T", 0, fmt.Sprint("m", i), "n", fmt.Sprint(i), "TAGS", []string{"A", "B"}[i%2])
	}
	beats := []*protocol.Heartbeat{sqlBeat("first", "SQL92", "n < 2", 7), sqlBeat("second", "SQL92", "n > 2", 9), sqlBeat("third", "TAG", "A", 8), sqlBeat("fourth", "", "A", 8)}
	want := []string{"m0 m1", "m3", "m0 m2", "m0 m2"}
	var all []*client.Client
	for range beats {
		all = append(all, r.client())
	}
	for range 3 {
		for i, c := range all {
			r.beat(c, beats[i])
		}
	}
	for i, c := range all {
		p, err := c.Pull(t.Context(), r.addr, ownHeader(0, 7))
		list, _ := client.Records(p.Body)
		if err != nil || bodies(list) != want[i] {
			t.Errorf("%s: %v %s", beats[i].ClientID, err, bodies(list))
		}
	}
	told := logs.FilterMessageSnippet("subscribe differently").All()
	if len(told) != 2 {
		t.Fatalf("told %d times: %v", len(told), told)
	}
	fields := told[0].ContextMap()
	if fields["client"] != "second" || fields["otherClient"] != "first" || fields["topic"] != "T" || fields["group"] != "CG" ||
		fields["wants"] != `SQL92 "n > 2" of version 9` || fields["otherWants"] != `SQL92 "n < 2" of version 7` ||
		!strings.HasPrefix(fmt.Sprint(fields["peer"]), "127.0.0.1:") || fields["peer"] == fields["otherPeer"] {
		t.Errorf("told %v", fields)
	}
	if fields = told[1].ContextMap(); fields["client"] != "third" || fields["wants"] != `TAG "A" of version 8` {
		t.Errorf("told %v", fields)
	}
	ways := func() float64 {
		families, err := r.reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			if f.GetName() == "gomq_consumer_group_subscriptions" {
				return f.GetMetric()[0].GetGauge().GetValue()
			}
		}
		return 0
	}
	if got := ways(); got != 3 {
		t.Errorf("%v ways", got)
	}
	for i, c := range all[:3] {
		if err := c.Leave(t.Context(), r.addr, beats[i].ClientID, "", "CG"); err != nil {
			t.Fatal(err)
		}
	}
	if got := ways(); got != 0 {
		t.Errorf("%v ways when one client is left", got)
	}
}

// With filterSupportRetry retried messages are chosen by what the client wants of
// the topic that they were in first.
func TestSQLRetry(t *testing.T) {
	r := run(t, func(o *Options) { o.EnablePropertyFilter = true })
	r.create("T", 1)
	h := sqlBeat("a", "SQL92", "n > 1", 1)
	h.Consumers[0].Subscriptions = append(h.Consumers[0].Subscriptions, protocol.Subscription{Topic: "%RETRY%CG", SubString: "*", ExpressionType: "TAG", SubVersion: 1})
	r.beat(r.c, h)
	r.send("%RETRY%CG", 0, "m1", "n", "1", "RETRY_TOPIC", "T")
	r.send("%RETRY%CG", 0, "m2", "n", "2", "RETRY_TOPIC", "T")
	r.send("%RETRY%CG", 0, "other", "n", "1", "RETRY_TOPIC", "U")
	r.send("%RETRY%CG", 0, "none", "n", "1")
	pull := ownHeader(0, 1)
	pull.Topic = []byte("%RETRY%CG")
	for on, want := range map[string]string{"false": "m1 m2 other none", "true": "m2 other none"} {
		if err := r.c.UpdateConfig(t.Context(), r.addr, "filterSupportRetry="+on); err != nil {
			t.Fatal(err)
		}
		if _, list := r.pullAs(pull); bodies(list) != want {
			t.Errorf("filterSupportRetry=%s: %s", on, bodies(list))
		}
	}
}

// consumerFilter.json holds what a Java broker would have written.
func TestFilterFile(t *testing.T) {
	var mu sync.Mutex
	now := time.Now()
	clock := func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	r := runWith(t, func(o *Options) { o.EnablePropertyFilter = true }, seams{now: clock})
	r.create("T", 1)
	r.beat(r.c, sqlBeat("a", "SQL92", "n > 1", 5))
	born := clock().UnixMilli()
	dead := func() bool { d := r.b.filters.Table()["T"]["CG"]; return d != nil && d.Dead() }
	if d := r.b.filters.Table()["T"]["CG"]; d == nil || d.Expression != "n > 1" || d.ClientVersion != 5 || d.BornTime != born || d.BloomBits != 112 || dead() {
		t.Fatalf("%+v", d)
	}
	if err := r.c.Leave(t.Context(), r.addr, "a", "", "CG"); err != nil {
		t.Fatal(err)
	}
	if !dead() {
		t.Error("the group is gone, its filter lives")
	}
	other := r.client()
	r.beat(other, sqlBeat("a", "SQL92", "n > 1", 6))
	if dead() {
		t.Error("the group is back, its filter is dead")
	}
	ctx := t.Context()
	_ = other.Stop(ctx)
	r.eventually("the connection has closed, the filter lives", dead)
	r = r.again()
	if d := r.b.filters.Table()["T"]["CG"]; d == nil || d.Expression != "n > 1" || d.ClientVersion != 6 || !dead() {
		t.Errorf("after a restart: %+v", d)
	}
	text, err := os.ReadFile(configFile(r.live.Load(), "consumerFilter.json"))
	if err != nil || !strings.Contains(string(text), "\"expressionType\":\"SQL92\",\n\t\t\t\t\t\"topic\":\"T\"") {
		t.Errorf("%s %v", text, err)
	}
}
