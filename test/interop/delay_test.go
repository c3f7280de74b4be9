//go:build interop || interop_all

package interop

import (
	"encoding/binary"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"gomq/test/harness"
	"gomq/test/raw"
)

// shortLevels are delay levels that a test can wait for; retries begin with the
// third.
var shortLevels = []time.Duration{1 * time.Second, 3 * time.Second, 1 * time.Second, 2 * time.Second, 3 * time.Second}

// TestJavaDelays: delayed messages, retry and dead letters with every client
// version.
func TestJavaDelays(t *testing.T) {
	needJava(t)
	var levels []string
	for _, d := range shortLevels {
		levels = append(levels, fmt.Sprintf("%ds", int(d.Seconds())))
	}
	c := startCluster(t, map[string]string{"messageDelayLevel": strings.Join(levels, " ")})
	t.Run("versions", func(t *testing.T) {
		for i, version := range clientVersions {
			headers := []string{"JSON", "ROCKETMQ"}[i%2]
			t.Run(version+"/"+headers, func(t *testing.T) {
				t.Parallel()
				e := newEnv(t, c, version, headers)
				t.Run("Together", func(t *testing.T) {
					for _, s := range []scenario{{"Levels", delayLevels}, {"UntilDead", untilDead}} {
						t.Run(s.name, func(t *testing.T) {
							t.Parallel()
							s.run(t, e)
						})
					}
				})
			})
		}
	})
	asked(t, c.broker, "SEND_MESSAGE_V2", "PULL_MESSAGE", "CONSUMER_SEND_MSG_BACK")
}

// timely says that something took as long as it had to and hardly longer.
func timely(t *testing.T, what string, took, want time.Duration) {
	t.Helper()
	if took < want || took > want+arrival {
		t.Errorf("%s took %v, its level waits %v", what, took, want)
	}
}

// delayLevels: every level of the table, and one above it.
func delayLevels(t *testing.T, e *env) {
	topic, group := e.topic(t, "delay"), e.fresh("g")
	c := e.push(t, topic, group)
	sent := map[string]time.Time{}
	for _, level := range []int{1, 2, 3, 4, 5, 99} {
		body := fmt.Sprint("level", level)
		sent[body] = time.Now()
		e.send(t, "name", e.producer, "topic", topic, "body", body, "delay", level, "keys", body)
	}
	for _, m := range e.await(t, len(sent), arrival, c) {
		var level int
		if _, err := fmt.Sscanf(string(m.Body), "level%d", &level); err != nil {
			t.Fatal(err)
		}
		level = min(level, len(shortLevels))
		if m.Keys != string(m.Body) || m.Properties["REAL_TOPIC"] != topic || m.Properties["DELAY"] != fmt.Sprint(level) || m.ReconsumeTimes != 0 {
			t.Errorf("%s came as %+v", m.Body, m)
		}
		timely(t, string(m.Body), m.arrived.Sub(sent[string(m.Body)]), shortLevels[level-1])
	}
	time.Sleep(quiet)
	e.await(t, len(sent), 0, c)
}

// untilDead: what a listener always refuses comes again after pauses that grow,
// until the consumer's limit, and is a dead letter then, which whoever asks for the
// topic of dead letters gets as the message that it was.
func untilDead(t *testing.T, e *env) {
	topic, group := e.topic(t, "dead"), e.fresh("g")
	const tries = 2
	c := e.push(t, topic, group, "failures", 100, "maxReconsume", tries)
	result := e.send(t, "name", e.producer, "topic", topic, "body", "bad", "keys", "k", "tag", "T", "prop.p", "ü")[0]
	all := e.await(t, tries+1, arrival, c)
	for i, m := range all {
		if m.ReconsumeTimes != i || m.MsgID != result.MsgID || m.Topic != topic || string(m.Body) != "bad" {
			t.Errorf("try %d: %+v", i, m)
		}
		if i > 0 {
			timely(t, fmt.Sprint("try ", i), m.arrived.Sub(all[i-1].arrived), shortLevels[1+i])
		}
	}
	dlq := "%DLQ%" + group
	harness.Eventually(t, arrival, "the route of "+dlq, func() bool { return routed(t, e.driver, e.admin, dlq, 1) })
	letters := e.push(t, dlq, e.fresh("letters"))
	m := e.await(t, 1, arrival, letters)[0]
	if string(m.Body) != "bad" || m.MsgID != result.MsgID || m.ReconsumeTimes != tries+1 || m.Properties["p"] != "ü" || m.Properties["RETRY_TOPIC"] != topic || m.Properties["ORIGIN_MESSAGE_ID"] == "" {
		t.Errorf("the dead letter is %+v", m)
	}
	time.Sleep(quiet)
	e.await(t, tries+1, 0, c)
}

// inOrder says that no message of a queue came before one that was stored before
// it; what a consumer had not committed when its queue went to another comes again.
func inOrder(t *testing.T, all []message) {
	t.Helper()
	slices.SortFunc(all, func(a, b message) int { return a.nth - b.nth })
	next := map[int]int64{}
	for _, m := range all {
		if m.QueueOffset > next[m.QueueID] {
			t.Errorf("queue %d gave offset %d before %d", m.QueueID, m.QueueOffset, next[m.QueueID])
		}
		next[m.QueueID] = m.QueueOffset + 1
	}
}

// orderlyJoined: a consumer joins an orderly group while messages come: it gets the
// locks of its share, and the order of every queue is kept over the change.
func orderlyJoined(t *testing.T, e *env) {
	topic, group := e.topic(t, "joined"), e.fresh("g")
	first := e.push(t, topic, group, "orderly", true)
	e.owns(t, topic, arrival, map[string]int{first: 4})
	e.send(t, "name", e.producer, "topic", topic, "body", "one{i}", "count", 40)
	second := e.push(t, topic, group, "orderly", true)
	e.send(t, "name", e.producer, "topic", topic, "body", "two{i}", "count", 40)
	e.owns(t, topic, arrival, map[string]int{first: 2, second: 2})
	e.send(t, "name", e.producer, "topic", topic, "body", "three{i}", "count", 40)
	want := slices.Concat(numbered("one", 40), numbered("two", 40), numbered("three", 40))
	slices.Sort(want)
	var all []message
	harness.Eventually(t, arrival, "all messages", func() bool {
		all = slices.Concat(e.received(first), e.received(second))
		return len(slices.Compact(bodies(all))) == len(want)
	})
	same(t, "bodies", slices.Compact(bodies(all)), want)
	inOrder(t, all)
	if n := len(e.received(second)); n == 0 {
		t.Error("the second consumer received nothing")
	}
}

// orderlyStuck: a message that an orderly listener cannot do yet holds up its queue
// and only that; it comes again until it is done, then the queue goes on.
func orderlyStuck(t *testing.T, e *env) {
	topic, group := e.topic(t, "stuck"), e.fresh("g")
	c := e.push(t, topic, group, "orderly", true, "suspensions", 3)
	at := []any{"name", e.producer, "topic", topic, "broker", e.c.broker.Props["brokerName"]}
	on := func(q int, body, tag string, n int) {
		e.send(t, slices.Concat(at, []any{"queue", q, "body", body, "tag", tag, "count", n})...)
	}
	on(0, "before{i}", "fine", 3)
	on(0, "held", "stuck", 1)
	on(0, "behind{i}", "fine", 3)
	on(1, "beside{i}", "fine", 3)
	all := e.await(t, 13, arrival, c)
	var held []string
	for _, m := range all {
		if m.QueueID == 0 {
			held = append(held, string(m.Body))
		}
	}
	same(t, "the queue that was held up", held, []string{"before0", "before1", "before2", "held", "held", "held", "held", "behind0", "behind1", "behind2"})
	time.Sleep(quiet)
	e.await(t, 13, 0, c)
}

// sameDelayed: what a broker stores of a delayed send, when it delivers it, when a
// consumer sends it back, and of the retries and dead letters of that, is the same
// on both sides. next is the end of the topic's queue 0.
func sameDelayed(t *testing.T, sides []*raw.Conn, topic string, next int) {
	rng := harness.Rand(t)
	schedule := map[int]int{}
	const n, levels, group = 40, 18, "g-delayed"
	// both compares a record that each side has at an offset.
	both := func(what, topic string, queue, offset int) (physical [2]int64) {
		t.Helper()
		var got [2]string
		for k, c := range sides {
			rec := storedIn(t, c, topic, queue, offset)
			physical[k] = int64(binary.BigEndian.Uint64(rec[28:]))
			got[k] = originID.ReplaceAllString(masked(rec), "ORIGIN_MESSAGE_ID\x01ID\x02")
		}
		if got[0] != got[1] {
			t.Errorf("%s is stored as\n%q, by the original as\n%q", what, got[0], got[1])
		}
		return physical
	}
	soon := 0
	for i := range n {
		level := []int{1, 1, 7, 25}[i%4]
		text := fmt.Sprintf("DELAY\x01%d\x02%s", level, somePropsOf(rng, i))
		ext := raw.SendExt("pg-same", topic, 0, text)
		ext["bornTimestamp"] = "1700000000123"
		for k, c := range sides {
			if _, err := c.Do(raw.SendMessage, ext, fmt.Appendf(nil, "delayed %d", i)); err != nil {
				t.Fatalf("side %d, %q: %v", k, text, err)
			}
		}
		level = min(level, levels)
		both(fmt.Sprintf("delayed %q", text), "SCHEDULE_TOPIC_XXXX", level-1, schedule[level])
		if schedule[level]++; level == 1 {
			soon++
		}
	}
	var physical [][2]int64
	for i := range soon {
		physical = append(physical, both(fmt.Sprint("delivered ", i), topic, 0, next+i))
	}
	// back sends the i-th delivered message back on both sides.
	back := func(at [2]int64, level int) {
		for k, c := range sides {
			if err := c.SendBack(group, topic, at[k], level, -1); err != nil {
				t.Fatalf("side %d: %v", k, err)
			}
		}
	}
	for i, at := range physical {
		back(at, 1)
		both(fmt.Sprint("sent back ", i), "SCHEDULE_TOPIC_XXXX", 0, schedule[1]+i)
	}
	for i := range physical {
		at := both(fmt.Sprint("retry ", i), "%RETRY%"+group, 0, i)
		back(at, -1)
		both(fmt.Sprint("dead letter ", i), "%DLQ%"+group, 0, i)
	}
}

var originID = regexp.MustCompile("ORIGIN_MESSAGE_ID\x01[0-9A-F]{32}\x02")
