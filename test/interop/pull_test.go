//go:build interop || interop_all

package interop

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"gomq/test/harness"
)

// fromWhereYoung: on a young topic, whose data are all in memory, the broker
// answers offset 0 for a new group, and every "from where" starts at the first.
func fromWhereYoung(t *testing.T, e *env) {
	topic := e.topic(t, "young")
	e.send(t, "name", e.producer, "topic", topic, "body", "m{i}", "count", 8)
	for _, from := range []string{"CONSUME_FROM_FIRST_OFFSET", "CONSUME_FROM_LAST_OFFSET"} {
		c := e.push(t, topic, e.fresh("g"), "from", from)
		same(t, from, bodies(e.await(t, 8, arrival, c)), numbered("m", 8))
	}
}

// pull4 is the pull consumer of 4.x: the application asks and keeps the offsets.
func pull4(t *testing.T, e *env) {
	topic, group, puller := e.topic(t, "pull"), e.fresh("g"), e.fresh("puller")
	do[none](t, e.driver, "puller", "name", puller, "group", group)
	queues := do[struct{ Queues []queue }](t, e.driver, "pullQueues", "name", puller, "topic", topic).Queues
	if len(queues) != 4 {
		t.Fatalf("queues %v", queues)
	}
	broker := queues[0].Broker
	at := []any{"name", puller, "topic", topic, "broker", broker, "queue", 2}
	with := func(more ...any) []any { return slices.Concat(at, more) }
	type result struct {
		Status         string
		Next, Min, Max int64
		Messages       []message
	}
	pull := func(more ...any) result { return do[result](t, e.driver, "pull", with(more...)...) }
	offset := func(verb string, more ...any) int64 {
		return do[struct{ Offset int64 }](t, e.driver, verb, with(more...)...).Offset
	}

	if r := pull("offset", 0); r.Status != "NO_NEW_MSG" || r.Next != 0 {
		t.Errorf("an empty queue: %+v", r)
	}
	before := time.Now().UnixMilli()
	e.send(t, "name", e.producer, "topic", topic, "broker", broker, "queue", 2, "body", "p{i}", "count", 20, "tag", "T")
	if serverVersion != "" {
		// The original answers the producer before readers see the message; gomq does not.
		harness.Eventually(t, arrival, "20 messages", func() bool { return offset("maxOffset") == 20 })
	}
	r := pull("offset", 0, "max", 32)
	if r.Status != "FOUND" || r.Next != 20 || r.Min != 0 || r.Max != 20 || len(r.Messages) != 20 {
		t.Errorf("%s next %d min %d max %d, %d messages", r.Status, r.Next, r.Min, r.Max, len(r.Messages))
	}
	for i, m := range r.Messages {
		if m.QueueOffset != int64(i) || string(m.Body) != fmt.Sprintf("p%d", i) {
			t.Errorf("message %d is %q at %d", i, m.Body, m.QueueOffset)
		}
	}
	if r := pull("offset", 5, "max", 7, "mode", "async"); r.Status != "FOUND" || r.Next != 12 || len(r.Messages) != 7 {
		t.Errorf("async: %s next %d, %d messages", r.Status, r.Next, len(r.Messages))
	}
	if r := pull("offset", 0, "expression", "other"); r.Status != "NO_MATCHED_MSG" || r.Next != 20 {
		t.Errorf("a tag that is not there: %s next %d", r.Status, r.Next)
	}
	if r := pull("offset", 1000); r.Status != "OFFSET_ILLEGAL" || r.Next != 20 {
		t.Errorf("far above the end: %s next %d", r.Status, r.Next)
	}

	// A pull that waits is answered by the message, not by its time-out of 20 s.
	type answer struct {
		result
		took time.Duration
	}
	held := make(chan answer, 1)
	go func() {
		start := time.Now()
		r := do[result](t, e.driver, "pull", with("offset", 20, "mode", "block")...)
		held <- answer{r, time.Since(start)}
	}()
	select {
	case r := <-held:
		t.Errorf("a pull at the end was not held: %+v", r)
	case <-time.After(time.Second):
		e.send(t, "name", e.producer, "topic", topic, "broker", broker, "queue", 2, "body", "late")
		if r := <-held; r.Status != "FOUND" || len(r.Messages) != 1 || string(r.Messages[0].Body) != "late" || r.took > 10*time.Second {
			t.Errorf("a held pull: %s, %d messages, after %v", r.Status, len(r.Messages), r.took)
		}
	}

	if min, max := offset("minOffset"), offset("maxOffset"); min != 0 || max != 21 {
		t.Errorf("min %d, max %d", min, max)
	}
	if o := offset("searchOffset", "timestamp", before-60_000); o != 0 {
		t.Errorf("offset %d for a time before the first message", o)
	}
	if o := offset("searchOffset", "timestamp", r.Messages[10].StoreTimestamp); o > 10 || o < 0 || r.Messages[min(o, 19)].StoreTimestamp != r.Messages[10].StoreTimestamp {
		t.Errorf("offset %d for the time of message 10", o)
	}
	if o := offset("searchOffset", "timestamp", time.Now().UnixMilli()+3600_000); o != 20 && o != 21 {
		t.Errorf("offset %d for a time after the last message", o)
	}
	earliest := do[struct{ Timestamp int64 }](t, e.driver, "earliestTime", at...).Timestamp
	if earliest != r.Messages[0].StoreTimestamp {
		t.Errorf("earliest store time %d instead of %d", earliest, r.Messages[0].StoreTimestamp)
	}

	do[none](t, e.driver, "commit", with("offset", 13)...)
	other := e.fresh("puller")
	do[none](t, e.driver, "puller", "name", other, "group", group)
	at[1] = other
	harness.Eventually(t, arrival, "the committed offset (sent one-way)", func() bool { return offset("committed") == 13 })
	for _, name := range []string{puller, other} {
		do[none](t, e.driver, "stop", "name", name)
	}
}

// litePull: subscribe and poll, commit, go on after a restart; then by hand with assign and seek.
func litePull(t *testing.T, e *env) {
	if e.version >= "5" && strings.HasPrefix(serverVersion, "4.") {
		harness.Skip(t, "a 4.x broker does not know code 361, with which the 5.x client pulls")
	}
	topic, group := e.topic(t, "lite"), e.fresh("g")
	start := func(args ...any) string {
		name := e.fresh("lite")
		do[none](t, e.driver, "lite", append([]any{"name", name, "topic", topic, "group", group}, args...)...)
		return name
	}
	poll := func(name string, n int) []message {
		var all []message
		harness.Eventually(t, arrival, fmt.Sprintf("%d messages", n), func() bool {
			all = append(all, do[struct{ Messages []message }](t, e.driver, "litePoll", "name", name, "timeout", 500).Messages...)
			return len(all) >= n
		})
		return all
	}
	first := start()
	e.send(t, "name", e.producer, "topic", topic, "body", "one{i}", "count", 20)
	same(t, "first", bodies(poll(first, 20)), numbered("one", 20))
	do[none](t, e.driver, "liteCommit", "name", first)
	do[none](t, e.driver, "stop", "name", first)

	e.send(t, "name", e.producer, "topic", topic, "body", "two{i}", "count", 20)
	second := start()
	same(t, "second", bodies(poll(second, 20)), numbered("two", 20))
	do[none](t, e.driver, "liteCommit", "name", second)
	do[none](t, e.driver, "stop", "name", second)

	group = e.fresh("g")
	byHand := start("assign", true)
	same(t, "by hand", len(poll(byHand, 40)), 40)
	brokers := do[route](t, e.driver, "route", "name", e.admin, "topic", topic).Queues
	for q := range 4 {
		do[none](t, e.driver, "liteSeek", "name", byHand, "topic", topic, "broker", brokers[0].Broker, "queue", q, "offset", 5)
	}
	want := 40 - 4*5
	same(t, "after the seek", len(poll(byHand, want)), want)
	do[none](t, e.driver, "stop", "name", byHand)
}
