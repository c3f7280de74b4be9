//go:build interop || interop_all

package interop

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"gomq/test/harness"
)

// tags: the broker sends only what the subscription asks for.
func tags(t *testing.T, e *env) {
	topic := e.topic(t, "tags")
	two := e.push(t, topic, e.fresh("g"), "expression", "A || C")
	one := e.push(t, topic, e.fresh("g"), "expression", "B")
	every := e.push(t, topic, e.fresh("g"), "expression", "*")
	for _, tag := range []string{"A", "B", "C", "D"} {
		e.send(t, "name", e.producer, "topic", topic, "tag", tag, "body", tag+"{i}", "count", 5)
	}
	e.send(t, "name", e.producer, "topic", topic, "body", "untagged{i}", "count", 5)
	same(t, "A and C", bodies(e.await(t, 10, arrival, two)), append(numbered("A", 5), numbered("C", 5)...))
	same(t, "B", bodies(e.await(t, 5, arrival, one)), numbered("B", 5))
	e.await(t, 25, arrival, every)
	time.Sleep(quiet)
	e.await(t, 10, 0, two)
	e.await(t, 5, 0, one)
}

// sql: an SQL92 expression chooses messages, whichever consumer brings it; what is
// wrong with one is told to the client.
func sql(t *testing.T, e *env) {
	topic := e.topic(t, "sql")
	const some = "n BETWEEN 3 AND 6 AND color IN ('red', 'rot-ü')"
	pushed := e.push(t, topic, e.fresh("g"), "sql", some)
	nobody := e.push(t, topic, e.fresh("g"), "sql", "n = 100")
	other := e.push(t, topic, e.fresh("g"), "sql", "color IS NULL OR n > 9")
	for i := range 12 {
		args := []any{"name", e.producer, "topic", topic, "broker", "broker-a", "queue", 1, "body", fmt.Sprintf("m%02d", i), "prop.n", i}
		if i != 4 {
			args = append(args, "prop.color", []string{"red", "rot-ü"}[i%2])
		}
		e.send(t, args...)
	}
	want := []string{"m03", "m05", "m06"}
	same(t, "pushed", bodies(e.await(t, 3, arrival, pushed)), want)
	same(t, "other", bodies(e.await(t, 3, arrival, other)), []string{"m04", "m10", "m11"})

	puller := e.fresh("puller")
	do[none](t, e.driver, "puller", "name", puller)
	type result struct {
		Status   string
		Next     int64
		Messages []message
	}
	at := []any{"name", puller, "topic", topic, "broker", "broker-a", "queue", 1, "offset", 0}
	do[none](t, e.driver, "pullQueues", "name", puller, "topic", topic)
	harness.Eventually(t, arrival, "a heartbeat of the puller, which tells it the broker's version", func() bool {
		var r struct{ OK bool }
		return json.Unmarshal(e.call(t, "pull", append(at, "sql", some)...), &r) == nil && r.OK
	})
	if r := do[result](t, e.driver, "pull", append(at, "sql", some)...); r.Status != "FOUND" || r.Next != 12 || fmt.Sprint(bodies(r.Messages)) != fmt.Sprint(want) {
		t.Errorf("pulled %s next %d: %s", r.Status, r.Next, brief(r.Messages))
	}
	if serverVersion == "" { // the original compiles it, fails, and gives everything
		if code, text := refused(t, e.driver, "pull", append(at, "sql", "n = 77 OR n > 'x'")...); code != 23 || !strings.Contains(text, "line 1, column 15: ") {
			t.Errorf("a pull by a wrong expression: code %d, %s", code, text)
		}
	}
	do[none](t, e.driver, "stop", "name", puller)

	if hasLite(e.version) && !(e.version >= "5" && strings.HasPrefix(serverVersion, "4.")) {
		lite := e.fresh("lite")
		do[none](t, e.driver, "lite", "name", lite, "topic", topic, "group", e.fresh("g"), "sql", some)
		var all []message
		harness.Eventually(t, arrival, "three messages", func() bool {
			all = append(all, do[struct{ Messages []message }](t, e.driver, "litePoll", "name", lite, "timeout", 500).Messages...)
			return len(all) >= 3
		})
		same(t, "lite", bodies(all), want)
		do[none](t, e.driver, "stop", "name", lite)
	}

	code, text := refused(t, e.driver, "push", "name", e.fresh("c"), "topic", topic, "group", e.fresh("g"), "sql", "n > 5 AND color =")
	if code != 23 || !strings.Contains(text, "line 1, column 1") {
		t.Errorf("a wrong expression: code %d, %s", code, text)
	}
	time.Sleep(quiet)
	e.await(t, 0, 0, nobody)
}

// rebalance: a second consumer takes half of the queues at once (told by the
// broker, not by the client's own 20 s timer) and gives them back when it leaves.
func rebalance(t *testing.T, e *env) {
	const soon = 12 * time.Second
	topic, group := e.topic(t, "rebalance"), e.fresh("g")
	every := e.push(t, topic, e.fresh("g"), "broadcast", true) // nothing of this concerns it
	first := e.push(t, topic, group)
	e.owns(t, topic, soon, map[string]int{first: 4})
	e.owns(t, topic, soon, map[string]int{every: 4})
	e.send(t, "name", e.producer, "topic", topic, "body", "one{i}", "count", 20)
	e.await(t, 20, arrival, first)
	e.settled(t, topic, group, 20, first)

	second := e.push(t, topic, group)
	e.owns(t, topic, soon, map[string]int{first: 2, second: 2})
	e.send(t, "name", e.producer, "topic", topic, "body", "two{i}", "count", 40)
	all := e.await(t, 60, arrival, first, second)
	want := append(numbered("one", 20), numbered("two", 40)...)
	slices.Sort(want)
	same(t, "bodies", bodies(all), want)
	if n := len(e.received(second)); n != 20 {
		t.Errorf("the second consumer, with half of the queues, received %d of 40", n)
	}
	type connections struct {
		Clients []struct{ ClientID, Language string }
	}
	e.settled(t, topic, group, 60, first, second)
	if c := do[connections](t, e.driver, "consumerConnection", "name", e.admin, "group", group); len(c.Clients) != 2 {
		t.Errorf("the group has the connections %+v", c)
	}

	do[none](t, e.driver, "stop", "name", second)
	e.owns(t, topic, soon, map[string]int{first: 4})
	e.send(t, "name", e.producer, "topic", topic, "body", "three{i}", "count", 20)
	e.await(t, 80, arrival, first, second)
	want = append(want, numbered("three", 20)...)
	slices.Sort(want)
	same(t, "beside it, by broadcast", bodies(e.await(t, 80, arrival, every)), want)
}

// circle: with the circular strategy two consumers hold every other queue.
func circle(t *testing.T, e *env) {
	topic, group := e.topic(t, "circle"), e.fresh("g")
	first := e.push(t, topic, group, "strategy", "circle")
	second := e.push(t, topic, group, "strategy", "circle")
	e.owns(t, topic, arrival, map[string]int{first: 2, second: 2})
	for _, name := range []string{first, second} {
		q := do[struct{ Queues []queue }](t, e.driver, "assigned", "name", name, "topic", topic).Queues
		if d := q[0].QueueID - q[1].QueueID; d != 2 && d != -2 {
			t.Errorf("%s holds the queues %v", name, q)
		}
	}
	e.send(t, "name", e.producer, "topic", topic, "body", "c{i}", "count", 20)
	same(t, "bodies", bodies(e.await(t, 20, arrival, first, second)), numbered("c", 20))
}

// broadcast: every consumer of the group gets everything.
func broadcast(t *testing.T, e *env) {
	topic, group := e.topic(t, "broadcast"), e.fresh("g")
	a := e.push(t, topic, group, "broadcast", true)
	b := e.push(t, topic, group, "broadcast", true)
	toEach(t, e.driver, e.producer, topic, a, b)

	// Its offsets are its own, in a file of the client: it goes on where it was.
	do[none](t, e.driver, "stop", "name", a)
	e.send(t, "name", e.producer, "topic", topic, "body", "later{i}", "count", 20)
	do[none](t, e.driver, "push", "name", a, "topic", topic, "group", group, "broadcast", true)
	want := append(numbered("b", 20), numbered("later", 20)...)
	slices.Sort(want)
	same(t, "after a break", bodies(e.await(t, 40, arrival, a)), want)
}

// toEach sends 20 messages, and each of the consumers, which hold every queue, gets
// all of them.
func toEach(t *testing.T, d *driver, producer, topic string, consumers ...string) {
	t.Helper()
	for _, c := range consumers {
		owns(t, d, topic, arrival, map[string]int{c: 4})
	}
	d.send(t, "name", producer, "topic", topic, "body", "b{i}", "count", 20)
	for _, c := range consumers {
		same(t, c, bodies(d.await(t, 20, arrival, c)), numbered("b", 20))
	}
}

// continued: a group's offsets are kept by the broker, so that the next consumer
// of the group goes on where the last one stopped.
func continued(t *testing.T, e *env) {
	topic, group := e.topic(t, "continued"), e.fresh("g")
	e.send(t, "name", e.producer, "topic", topic, "body", "one{i}", "count", 20)
	first := e.push(t, topic, group)
	same(t, "first", bodies(e.await(t, 20, arrival, first)), numbered("one", 20))
	e.settled(t, topic, group, 20, first)
	do[none](t, e.driver, "stop", "name", first)
	e.send(t, "name", e.producer, "topic", topic, "body", "two{i}", "count", 20)
	second := e.push(t, topic, group)
	same(t, "second", bodies(e.await(t, 20, arrival, second)), numbered("two", 20))
	time.Sleep(quiet)
	e.await(t, 20, 0, second)
	e.settled(t, topic, group, 40, second)
}

// orderly: an orderly consumer locks its queues at the broker and gets the messages
// of each in order; when it leaves, the next one gets the locks.
func orderly(t *testing.T, e *env) {
	topic, group := e.topic(t, "orderly"), e.fresh("g")
	inOrder := func(who string, all []message) {
		next := map[int]int64{}
		for _, m := range all {
			if at, ok := next[m.QueueID]; ok && m.QueueOffset != at {
				t.Errorf("%s: queue %d gave offset %d after %d", who, m.QueueID, m.QueueOffset, at-1)
			}
			next[m.QueueID] = m.QueueOffset + 1
		}
	}
	first := e.push(t, topic, group, "orderly", true)
	e.send(t, "name", e.producer, "topic", topic, "body", "one{i}", "count", 40)
	all := e.await(t, 40, arrival, first)
	inOrder("first", all)
	same(t, "first", bodies(all), numbered("one", 40))
	e.settled(t, topic, group, 40, first)
	do[none](t, e.driver, "stop", "name", first)
	e.send(t, "name", e.producer, "topic", topic, "body", "two{i}", "count", 40)
	second := e.push(t, topic, group, "orderly", true)
	all = e.await(t, 40, arrival, second)
	inOrder("second", all)
	same(t, "second", bodies(all), numbered("two", 40))
}

// retried: a message that the listener refuses comes again, as the same message.
func retried(t *testing.T, e *env) {
	topic, group := e.topic(t, "retried"), e.fresh("g")
	c := e.push(t, topic, group, "failures", 1)
	result := e.send(t, "name", e.producer, "topic", topic, "body", "again", "keys", "k", "tag", "T", "prop.p", "ü")[0]
	all := e.await(t, 2, arrival, c)
	for i, m := range all {
		if m.ReconsumeTimes != i || m.MsgID != result.MsgID || m.Topic != topic || string(m.Body) != "again" || m.Keys != "k" || m.Tags != "T" || m.Properties["p"] != "ü" {
			t.Errorf("time %d: %+v", i, m)
		}
	}
	time.Sleep(quiet)
	e.await(t, 2, 0, c)
}

// differ: consumers of one group that subscribe differently get from their queues
// what they want themselves.
func differ(t *testing.T, e *env) {
	if serverVersion != "" {
		harness.Skip(t, "the original serves a whole group by its newest subscription")
	}
	topic, group := e.topic(t, "differ"), e.fresh("g")
	few := e.push(t, topic, group, "sql", "n < 2")
	e.owns(t, topic, arrival, map[string]int{few: 4})
	many := e.push(t, topic, group, "sql", "n >= 2")
	e.owns(t, topic, arrival, map[string]int{few: 2, many: 2})
	for i := range 5 {
		for q := range 4 {
			e.send(t, "name", e.producer, "topic", topic, "broker", "broker-a", "queue", q, "body", fmt.Sprintf("m%d", i), "prop.n", i)
		}
	}
	same(t, "few", bodies(e.await(t, 4, arrival, few)), []string{"m0", "m0", "m1", "m1"})
	same(t, "many", bodies(e.await(t, 6, arrival, many)), []string{"m2", "m2", "m3", "m3", "m4", "m4"})
	e.c.broker.WaitLine("subscribe differently.*"+group, arrival)
}
