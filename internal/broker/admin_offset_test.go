package broker

import (
	"maps"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gomq/internal/protocol"
)

// The offsets of groups: time spans, corrections, copies.
func TestGroupOffsets(t *testing.T) {
	var ahead atomic.Int64 // of the broker's clock
	clock := func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	r := runWith(t, nil, seams{now: clock})
	r.create("T", 3)
	r.send("T", 0, "a")
	r.send("T", 0, "b")
	r.send("T", 1, "c")
	ahead.Store(int64(time.Hour))
	about := func(ms, want int64) bool { return ms >= int64(time.Hour/time.Millisecond) && ms <= want }
	ctx := t.Context()
	commit := func(group string, queue int32, offset int64) {
		t.Helper()
		if err := r.c.Commit(ctx, r.addr, group, "T", queue, offset); err != nil {
			t.Fatal(err)
		}
	}
	commit("CG", 0, 1)
	commit("CG", 1, 1)
	_, list := r.pull("T", 0, 0, "*")
	first, last := list[0].StoreTime(), list[1].StoreTime()
	resp := r.ask(protocol.QueryConsumeTimeSpan, &protocol.GroupTopicHeader{Group: "CG", Topic: "T"}, nil)
	spans, err := protocol.ParseTimeSpans(resp.Body)
	if err != nil || len(spans) != 3 {
		t.Fatalf("%d %s %v", resp.Code, resp.Remark, err)
	}
	if s := spans[0]; s.Min != first || s.Max != last || s.Consumed != first || !about(s.Delay, clock().UnixMilli()-last) {
		t.Errorf("half consumed: %+v, times %d %d, now %d", s, first, last, clock().UnixMilli())
	}
	if s := spans[1]; s.Delay != 0 || s.Consumed != s.Max || s.Min <= 0 {
		t.Errorf("consumed: %+v", s)
	}
	if s := spans[2]; s.Min != -1 || s.Max != -1 || s.Consumed != -1 || s.Delay != 0 {
		t.Errorf("empty: %+v", s)
	}
	resp = r.ask(protocol.QueryConsumeTimeSpan, &protocol.GroupTopicHeader{Group: "Other", Topic: "T"}, nil)
	if spans, _ = protocol.ParseTimeSpans(resp.Body); spans[0].Consumed != first || !about(spans[0].Delay, clock().UnixMilli()-first) {
		t.Errorf("nothing consumed: %+v", spans[0])
	}
	if resp = r.ask(protocol.QueryConsumeTimeSpan, &protocol.GroupTopicHeader{Group: "CG", Topic: "N"}, nil); resp.Code != protocol.TopicNotExist || resp.Remark != "topic[N] not exist" {
		t.Errorf("no topic: %d %q", resp.Code, resp.Remark)
	}

	commit("Behind", 0, 0)
	correct := func(compare, without string) protocol.Corrections {
		t.Helper()
		resp := r.ask(protocol.QueryCorrectionOffset, &protocol.CorrectionHeader{Topic: "T", Compare: compare, Without: without}, nil)
		c, err := protocol.ParseCorrections(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	if c := correct("X", ""); !maps.Equal(c, protocol.Corrections{0: 0, 1: 1}) {
		t.Errorf("corrections %v", c)
	}
	if c := correct("CG", "Behind,Nobody"); !maps.Equal(c, protocol.Corrections{0: 1, 1: 1}) {
		t.Errorf("corrections %v", c)
	}
	if c := correct("Behind", "Behind"); !maps.Equal(c, protocol.Corrections{0: 1<<63 - 1, 1: 1}) {
		t.Errorf("corrections %v", c)
	}
	if o, ok, _ := r.c.Offset(ctx, r.addr, "Behind", "T", 0); !ok || o != 0 {
		t.Errorf("the offset of a filtered group: %d %v", o, ok)
	}

	clone := func(h protocol.CloneHeader) *protocol.Command { return r.ask(protocol.CloneGroupOffset, &h, nil) }
	if resp := clone(protocol.CloneHeader{From: "CG", To: "Copy", Topic: "T", Offline: true}); resp.Code != 0 || resp.Remark != "" {
		t.Errorf("%d %s", resp.Code, resp.Remark)
	}
	if resp := clone(protocol.CloneHeader{From: "CG", To: "All"}); resp.Code != 0 || resp.Remark != "" {
		t.Errorf("%d %s", resp.Code, resp.Remark)
	}
	for _, g := range []string{"Copy", "All"} {
		if q := r.b.offsets.Queues("T", g); !maps.Equal(q, map[int32]int64{0: 1, 1: 1}) {
			t.Errorf("%s has %v", g, q)
		}
	}
	if resp := clone(protocol.CloneHeader{From: "Nobody", To: "Copy", Topic: "T"}); resp.Code != 0 || !strings.Contains(resp.Remark, "no offsets here") {
		t.Errorf("%d %q", resp.Code, resp.Remark)
	}
	if resp := clone(protocol.CloneHeader{From: "CG", To: "../x", Topic: "T"}); resp.Code != protocol.SystemError {
		t.Errorf("%d %q", resp.Code, resp.Remark)
	}
	// A connected group that no longer subscribes to the topic is copied only when
	// that is asked for.
	r.consumer(newAsked(nil), "x", "CG", protocol.LangJava, 409, "Elsewhere")
	if resp := clone(protocol.CloneHeader{From: "CG", To: "Later", Topic: "T"}); !strings.Contains(resp.Remark, "no offsets here") {
		t.Errorf("%d %q", resp.Code, resp.Remark)
	}
	if resp := clone(protocol.CloneHeader{From: "CG", To: "Later", Topic: "T", Offline: true}); resp.Remark != "" || len(r.b.offsets.Queues("T", "Later")) != 2 {
		t.Errorf("%d %q", resp.Code, resp.Remark)
	}
}
