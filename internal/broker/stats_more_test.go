package broker

import (
	"fmt"
	"testing"
	"time"

	"gomq/internal/protocol"
)

// Statistics by name: what was counted in the last minute, hour and day, up to
// now.
func TestViewStats(t *testing.T) {
	now := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	s := newStats(func() time.Time { return now })
	in := s.topic("T")
	out := s.group("T", "G")
	pass := func(d time.Duration, n, size int) {
		for range d / time.Second {
			now = now.Add(time.Second)
			if err := s.tick(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		in.in.add(n, n*size)
		s.stored.add(n, n*size)
		out.out.add(n/2, n/2*size)
	}
	view := func(name, key string) protocol.StatsView {
		t.Helper()
		v, ok := s.named(name, key, "C")
		if !ok {
			t.Fatalf("%s %s is not counted", name, key)
		}
		return v
	}
	item := func(sum int64, seconds float64, per float64) protocol.StatsItem {
		return protocol.StatsItem{Sum: sum, PerSecond: float64(sum) / seconds, PerCall: per}
	}
	pass(0, 100, 10)
	if v := view("TOPIC_PUT_NUMS", "T"); v.Minute.Sum != 100 || v.Minute.PerSecond != 0 || v.Day.Sum != 100 {
		t.Errorf("in the first moment %+v", v)
	}
	pass(30*time.Second, 0, 0)
	if got, want := view("TOPIC_PUT_SIZE", "T"), (protocol.StatsView{Minute: item(1000, 30, 10), Hour: item(1000, 30, 10), Day: item(1000, 30, 10)}); got != want {
		t.Errorf("after 30 s %+v, want %+v", got, want)
	}
	pass(2*time.Minute, 30, 20)
	pass(20*time.Second, 0, 0)
	if got, want := view("TOPIC_PUT_NUMS", "T"), (protocol.StatsView{Minute: item(30, 60, 1), Hour: item(130, 170, 1), Day: item(130, 170, 1)}); got != want {
		t.Errorf("after 170 s %+v, want %+v", got, want)
	}
	pass(3*time.Hour-170*time.Second, 0, 0)
	if got, want := view("TOPIC_PUT_NUMS", "T"), (protocol.StatsView{Day: item(130, 3*3600, 1)}); got != want {
		t.Errorf("after 3 h %+v, want %+v", got, want)
	}
	pass(0, 8, 100)
	pass(22*time.Hour, 0, 0)
	if got, want := view("GROUP_GET_SIZE", "T@G"), (protocol.StatsView{Day: item(400, 24*3600, 100)}); got != want {
		t.Errorf("after 25 h %+v, want %+v", got, want)
	}
	if v := view("BROKER_PUT_NUMS", "C"); v.Day.Sum != 8 {
		t.Errorf("of the broker %+v", v)
	}
	for _, c := range [][2]string{{"TOPIC_PUT_NUMS", "N"}, {"TOPIC_PUT_NUMS", ""}, {"GROUP_GET_NUMS", "T"}, {"GROUP_GET_NUMS", "T@N"}, {"BROKER_PUT_NUMS", "X"}, {"BROKER_GET_NUMS", "C"}, {"X", "T"}, {"_SIZE", "T"}} {
		if v, ok := s.named(c[0], c[1], "C"); ok {
			t.Errorf("%s %s says %+v", c[0], c[1], v)
		}
	}
}

// Messages that a group has pulled and not committed are in its hands; those that
// it has not pulled wait here.
func TestLagMetrics(t *testing.T) {
	r := run(t, nil)
	r.create("T", 20)
	if err := r.c.CreateTopic(t.Context(), r.addr, protocol.TopicConfig{TopicName: "Many", ReadQueueNums: 1, WriteQueueNums: 2000, Perm: 6}); err == nil {
		t.Fatal("a topic with 2000 queues was made")
	}
	if err := r.c.CreateGroup(t.Context(), r.addr, protocol.GroupConfig{GroupName: "CG", ConsumeEnable: true, RetryQueueNums: 1, NotifyConsumerIdsChangedEnable: true, RetryMaxTimes: 3}); err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		r.send("T", 17, fmt.Sprint(i))
	}
	pull := func(offset int64, most int32) {
		t.Helper()
		h := pullHeader("CG", "T", 17, offset, "*")
		h.MaxMsgNums = most
		r.pullAs(h)
	}
	commit := func(queue int32, offset int64) {
		t.Helper()
		if err := r.c.Commit(t.Context(), r.addr, "CG", "T", queue, offset); err != nil {
			t.Fatal(err)
		}
	}
	look := func(behind, inHand, ready float64) {
		t.Helper()
		m := r.metrics()
		const labels = " consumer_group=CG is_retry=false is_system=false topic=T"
		for name, want := range map[string]float64{"lag": behind, "inflight": inHand, "ready": ready} {
			if got, ok := m["rocketmq_consumer_"+name+"_messages"+labels]; !ok || got != want {
				t.Errorf("%s is %v (%v), want %v", name, got, ok, want)
			}
		}
		for name, some := range map[string]bool{"lag": behind > 0, "queueing": ready > 0} {
			if got, ok := m["rocketmq_consumer_"+name+"_latency"+labels]; !ok || !some && got != 0 {
				t.Errorf("%s latency is %v (%v)", name, got, ok)
			}
		}
	}
	commit(17, 0)
	look(10, 0, 10)
	pull(0, 6)
	look(10, 6, 4)
	commit(17, 6)
	look(4, 0, 4)
	pull(6, 4)
	look(4, 4, 0)
	commit(17, 10)
	look(0, 0, 0)
	pull(2, 1) // goes back, without committing that
	look(0, 0, 0)
	m := r.metrics()
	for key, want := range map[string]float64{
		"rocketmq_topic_create_execution_time invocation_status=success is_system=false":          1,
		"rocketmq_topic_create_execution_time invocation_status=failure is_system=false":          1,
		"rocketmq_consumer_group_create_execution_time invocation_status=success is_system=false": 1,
	} {
		if got := m[key]; got != want {
			t.Errorf("%s is %v, want %v", key, got, want)
		}
	}
	if n := r.b.stats.reachedQueues.Load(); n != 18 {
		t.Errorf("%d queues are remembered", n)
	}
	if err := r.c.DeleteTopic(t.Context(), r.addr, "T"); err != nil {
		t.Fatal(err)
	}
	if n := r.b.stats.reachedQueues.Load(); n != 0 {
		t.Errorf("%d queues are remembered of a topic that is gone", n)
	}
}

// What is remembered of how far groups have pulled is bounded, and pulls of one
// queue after another, and at once, find each other's.
func TestReached(t *testing.T) {
	s := newStats(time.Now)
	var r reached
	for q := range int32(100) {
		r.set(s, q, int64(q)+1)
	}
	for q := range 100 {
		if got := (*r.next.Load())[q].Load(); got != int64(q)+1 {
			t.Errorf("queue %d: %d", q, got)
		}
	}
	if n := s.reachedQueues.Load(); n < 100 || n != int64(len(*r.next.Load())) {
		t.Errorf("%d queues are counted of %d", n, len(*r.next.Load()))
	}
	r.drop(s)
	s.reachedQueues.Store(maxReached - 5)
	var full reached
	full.set(s, 10, 1)
	if full.next.Load() != nil || s.reachedQueues.Load() != maxReached-5 {
		t.Errorf("more than %d queues are remembered: %d", maxReached, s.reachedQueues.Load())
	}
}
