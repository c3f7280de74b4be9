//go:build interop || interop_all

package interop

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"gomq/test/harness"
)

// arrival is how long a message may take from the answer to its producer to a
// consumer. It is for a broken product, and longer than the 20 s of the clients'
// own rebalance timer, on which a client that starts on a busy machine may depend.
const arrival = 45 * time.Second

// quiet is how long a consumer is watched for messages that must not come.
const quiet = 500 * time.Millisecond

// env is what the scenarios of one client program share.
type env struct {
	*driver
	c        *cluster
	version  string
	producer string // a running producer
	admin    string // a running administration client
}

func newEnv(t testing.TB, c *cluster, version, headers string, options ...string) *env {
	t.Helper()
	d := startJava(t, version, headers, c.ns.Addr(), options...)
	e := &env{driver: d, c: c, version: version, producer: d.fresh("producer"), admin: d.fresh("admin")}
	do[none](t, d, "producer", "name", e.producer)
	do[none](t, d, "admin", "name", e.admin)
	// Their connections are made here, one after the other: when several threads need the first connection to a
	// broker at the same moment, the 4.5.2 client closes one that another thread has just begun to use, and its
	// requests fail or are sent twice.
	e.send(t, "name", e.producer, "topic", e.topic(t, "first"), "body", "x", "count", 4)
	return e
}

// topic makes a topic with four queues.
func (e *env) topic(t testing.TB, what string) string {
	t.Helper()
	return e.c.topic(t, e.driver, e.admin, what, 4)
}

// push starts a push consumer that is stopped when the test ends.
func (e *env) push(t testing.TB, topic, group string, args ...any) string {
	t.Helper()
	name := e.fresh("c")
	do[none](t, e.driver, "push", append([]any{"name", name, "topic", topic, "group", group}, args...)...)
	t.Cleanup(func() { e.call(t, "stop", "name", name) }) // may have been stopped before
	return name
}

// owns waits until the consumers hold these numbers of the topic's queues and no
// queue is held twice.
func (e *env) owns(t testing.TB, topic string, limit time.Duration, want map[string]int) {
	t.Helper()
	owns(t, e.driver, topic, limit, want)
}

func owns(t testing.TB, d *driver, topic string, limit time.Duration, want map[string]int) {
	t.Helper()
	harness.Eventually(t, limit, fmt.Sprintf("queues %v", want), func() bool {
		held := map[queue]bool{}
		for name, n := range want {
			queues := do[struct{ Queues []queue }](t, d, "assigned", "name", name, "topic", topic).Queues
			if len(queues) != n {
				return false
			}
			for _, q := range queues {
				if held[q] {
					return false
				}
				held[q] = true
			}
		}
		return true
	})
}

func routed(t testing.TB, d *driver, admin, topic string, queues int) bool {
	t.Helper()
	var r struct {
		OK bool `json:"ok"`
		route
	}
	if err := json.Unmarshal(d.call(t, "route", "name", admin, "topic", topic), &r); err != nil {
		t.Fatal(err)
	}
	return r.OK && len(r.Queues) > 0 && r.Queues[0].Read == queues && r.Queues[0].Write == queues
}

// bodies are the bodies of the messages in order of their text.
func bodies(all []message) []string {
	var out []string
	for _, m := range all {
		out = append(out, string(m.Body))
	}
	slices.Sort(out)
	return out
}

// numbered are the texts prefix0 to prefix(n-1) in order of their text.
func numbered(prefix string, n int) []string {
	var out []string
	for i := range n {
		out = append(out, prefix+strconv.Itoa(i))
	}
	slices.Sort(out)
	return out
}

func same(t testing.TB, what string, got, want any) {
	t.Helper()
	g, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	w, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(g, w) {
		t.Errorf("%s:\n got %s\nwant %s", what, g, w)
	}
}

// storedAt takes an offset message id apart: the address and log offset in it.
func storedAt(t testing.TB, id string) (string, int64) {
	t.Helper()
	if len(id) != 32 {
		t.Fatalf("message id %q has not 32 digits", id)
	}
	var b [16]byte
	if _, err := fmt.Sscanf(id, "%x", (*hexBytes)(&b)); err != nil {
		t.Fatalf("message id %q: %v", id, err)
	}
	port := int(b[4])<<24 | int(b[5])<<16 | int(b[6])<<8 | int(b[7])
	var off int64
	for _, x := range b[8:] {
		off = off<<8 | int64(x)
	}
	return fmt.Sprintf("%s:%d", net.IP(b[:4]), port), off
}

type hexBytes [16]byte

// Scan reads 32 hexadecimal digits.
func (h *hexBytes) Scan(s fmt.ScanState, _ rune) error {
	tok, err := s.Token(false, nil)
	if err != nil {
		return err
	}
	for i := range h {
		n, err := strconv.ParseUint(string(tok[2*i:2*i+2]), 16, 8)
		if err != nil {
			return err
		}
		h[i] = byte(n)
	}
	return nil
}

// sendModes: synchronous, asynchronous, one-way and batch sends, all found by a
// push consumer, each once, with the offsets and ids that the producer was told.
func sendModes(t *testing.T, e *env) {
	topic, group := e.topic(t, "modes"), e.fresh("g")
	consumer := e.push(t, topic, group)

	results := e.send(t, "name", e.producer, "topic", topic, "body", "sync{i}", "count", 12, "keys", "k{i}")
	results = append(results, e.send(t, "name", e.producer, "topic", topic, "body", "async{i}", "count", 50, "mode", "async")...)
	results = append(results, e.send(t, "name", e.producer, "topic", topic, "body", "nowait{i}", "count", 3, "wait", false)...)
	batch := do[struct{ Results []sent }](t, e.driver, "batch", "name", e.producer, "topic", topic, "body", "batch{i}", "count", 20).Results[0]
	if batch.Status != "SEND_OK" {
		t.Errorf("batch: %+v", batch)
	}
	do[none](t, e.driver, "send", "name", e.producer, "topic", topic, "body", "oneway{i}", "count", 10, "mode", "oneway")

	all := e.await(t, 12+50+3+20+10, arrival, consumer)
	want := slices.Concat(numbered("sync", 12), numbered("async", 50), numbered("nowait", 3), numbered("batch", 20), numbered("oneway", 10))
	slices.Sort(want)
	same(t, "bodies", bodies(all), want)

	byID, byOffsetID := map[string]message{}, map[string]message{}
	offsets := map[int]map[int64]bool{}
	for _, m := range all {
		byID[m.MsgID], byOffsetID[m.OffsetMsgID] = m, m
		if offsets[m.QueueID] == nil {
			offsets[m.QueueID] = map[int64]bool{}
		}
		if offsets[m.QueueID][m.QueueOffset] {
			t.Errorf("queue %d has offset %d twice", m.QueueID, m.QueueOffset)
		}
		offsets[m.QueueID][m.QueueOffset] = true
		if m.StoreHost != "/"+e.c.broker.Addr() {
			t.Errorf("stored at %s instead of %s", m.StoreHost, e.c.broker.Addr())
		}
	}
	if len(byOffsetID) != len(all) {
		t.Errorf("%d offset ids for %d messages", len(byOffsetID), len(all))
	}
	for q, set := range offsets {
		for i := range int64(len(set)) {
			if !set[i] {
				t.Errorf("queue %d: no message at offset %d of %d", q, i, len(set))
			}
		}
	}
	for _, r := range results {
		m, ok := byID[r.MsgID]
		if !ok {
			t.Errorf("no message has the id %s that the producer was told", r.MsgID)
			continue
		}
		if m.QueueID != r.Queue.QueueID || m.QueueOffset != r.QueueOffset || m.OffsetMsgID != r.OffsetMsgID {
			t.Errorf("told %+v, found %d/%d with %s", r, m.QueueID, m.QueueOffset, m.OffsetMsgID)
		}
		if addr, _ := storedAt(t, r.OffsetMsgID); addr != e.c.broker.Addr() {
			t.Errorf("message id %s names %s instead of %s", r.OffsetMsgID, addr, e.c.broker.Addr())
		}
	}
	ids, offsetIDs := strings.Split(batch.MsgID, ","), strings.Split(batch.OffsetMsgID, ",")
	if len(ids) != 20 || len(offsetIDs) != 20 {
		t.Fatalf("a batch of 20 has %d message ids and %d offset ids", len(ids), len(offsetIDs))
	}
	for i, id := range offsetIDs {
		m := byOffsetID[id]
		if string(m.Body) != fmt.Sprintf("batch%d", i) || m.QueueID != batch.Queue.QueueID || m.QueueOffset != batch.QueueOffset+int64(i) {
			t.Errorf("batch told %d/%d, member %d (%s) is %q at %d/%d", batch.Queue.QueueID, batch.QueueOffset, i, id, m.Body, m.QueueID, m.QueueOffset)
		}
		// The header of a 5.x batch carries a unique id of its own. Brokers since 4.9 append the batch's
		// properties to every member's, and there the last one wins.
		if m.MsgID != ids[i] && !strings.HasPrefix(e.version, "5.") {
			t.Errorf("batch member %d has the id %s instead of %s", i, m.MsgID, ids[i])
		}
	}
}

// compressed: bodies above 4 KiB travel and are stored compressed and come back whole.
func compressed(t *testing.T, e *env) {
	topic, group := e.topic(t, "compressed"), e.fresh("g")
	consumer := e.push(t, topic, group)
	sizes := []int{1, 4095, 4096, 4097, 100_000, 3 << 20}
	for _, size := range sizes {
		e.send(t, "name", e.producer, "topic", topic, "size", size, "keys", size)
	}
	all := e.await(t, len(sizes), arrival, consumer)
	for _, m := range all {
		size, err := strconv.Atoi(m.Keys)
		if err != nil {
			t.Fatal(err)
		}
		want := make([]byte, size)
		for i := range want {
			want[i] = byte('a' + i%26)
		}
		if !bytes.Equal(m.Body, want) {
			t.Errorf("the body of %d bytes came back different, %d bytes long", size, len(m.Body))
		}
		// The stored size is that of the whole record; the pattern shrinks to a fraction.
		if isSmall := m.StoreSize < size; isSmall != (size > 4095) {
			t.Errorf("a body of %d bytes is stored in %d", size, m.StoreSize)
		}
	}
	if strings.HasPrefix(e.version, "4.5") {
		return // knows only one kind of compression
	}
	for kind, flag := range map[string]int{"LZ4": 1 << 8, "ZSTD": 2 << 8, "ZLIB": 3 << 8} {
		producer := e.fresh("producer")
		do[none](t, e.driver, "producer", "name", producer, "compress", kind)
		topic := e.topic(t, "kind")
		e.send(t, "name", producer, "topic", topic, "size", 50_000, "body", kind)
		m := e.await(t, 1, arrival, e.push(t, topic, e.fresh("g")))[0]
		if m.SysFlag&0x700 != flag || len(m.Body) != 50_000 || !strings.HasPrefix(string(m.Body), kind) || m.StoreSize > 25_000 {
			t.Errorf("%s: system flag %#x, a body of %d bytes stored in %d", kind, m.SysFlag, len(m.Body), m.StoreSize)
		}
		do[none](t, e.driver, "stop", "name", producer)
	}
}

// unicode: tags, keys, property names and values outside of ASCII, odd and empty ones.
func unicode(t *testing.T, e *env) {
	topic, group := e.topic(t, "unicode"), e.fresh("g")
	consumer := e.push(t, topic, group, "expression", "标签-ü || plain")
	const keys = "ключ é😀 second"
	odd := map[string]string{
		"名字":      "值 mit Leerzeichen",
		"quotes":  `"a" 'b' \ / { } [ ] : , =`,
		"newline": "line1\nline2\ttab",
		"emoji":   "😀👍🏽",
		"long":    strings.Repeat("ü", 3000),
		"digits":  "-0012",
		"null":    "null",
	}
	args := []any{"name", e.producer, "topic", topic, "tag", "标签-ü", "keys", keys, "body", "тело 😀", "flag", -7, "prop.empty", ""}
	for k, v := range odd {
		args = append(args, "prop."+k, v)
	}
	e.send(t, args...)
	e.send(t, "name", e.producer, "topic", topic, "tag", "标签-x", "body", "other tag")
	e.send(t, "name", e.producer, "topic", topic, "tag", "plain", "body", "\x00\x01\x7f")
	all := e.await(t, 2, arrival, consumer)
	slices.SortFunc(all, func(a, b message) int { return strings.Compare(a.Tags, b.Tags) })
	same(t, "plain body", all[0].Body, []byte("\x00\x01\x7f"))
	m := all[1]
	same(t, "tags", m.Tags, "标签-ü")
	same(t, "keys", m.Keys, keys)
	same(t, "body", string(m.Body), "тело 😀")
	same(t, "flag", m.Flag, -7)
	for k, v := range odd {
		same(t, "property "+k, m.Properties[k], v)
	}
	// The clients' own decoders drop a property without a value.
	if v, ok := m.Properties["empty"]; v != "" {
		t.Errorf("the empty property came back as %q, %v", v, ok)
	}
	for _, key := range strings.Fields(keys) {
		e.findKey(t, topic, key, "тело 😀")
	}
}

// findKey waits until the key finds exactly the message with the body; the index
// may lag behind the answer to the producer.
func (e *env) findKey(t testing.TB, topic, key, body string) message {
	t.Helper()
	var found []message
	harness.Eventually(t, arrival, "the index entry of "+key, func() bool {
		var r struct {
			OK       bool      `json:"ok"`
			Messages []message `json:"messages"`
		}
		if err := json.Unmarshal(e.call(t, "queryKey", "name", e.admin, "topic", topic, "key", key), &r); err != nil {
			t.Fatal(err)
		}
		found = r.Messages
		return r.OK && len(found) > 0
	})
	if len(found) != 1 || string(found[0].Body) != body {
		t.Fatalf("key %q found %s", key, brief(found))
	}
	return found[0]
}

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
	e.owns(t, topic, arrival, map[string]int{a: 4})
	e.owns(t, topic, arrival, map[string]int{b: 4})
	e.send(t, "name", e.producer, "topic", topic, "body", "b{i}", "count", 20)
	same(t, "first", bodies(e.await(t, 20, arrival, a)), numbered("b", 20))
	same(t, "second", bodies(e.await(t, 20, arrival, b)), numbered("b", 20))

	// Its offsets are its own, in a file of the client: it goes on where it was.
	do[none](t, e.driver, "stop", "name", a)
	e.send(t, "name", e.producer, "topic", topic, "body", "later{i}", "count", 20)
	do[none](t, e.driver, "push", "name", a, "topic", topic, "group", group, "broadcast", true)
	want := append(numbered("b", 20), numbered("later", 20)...)
	slices.Sort(want)
	same(t, "after a break", bodies(e.await(t, 40, arrival, a)), want)
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

// settled has the running consumers commit until the group's offsets are those of
// all n messages of the topic, so that a queue that changes hands now is not read again.
func (e *env) settled(t testing.TB, topic, group string, n int64, consumers ...string) {
	t.Helper()
	persist := func() {
		for _, c := range consumers {
			do[none](t, e.driver, "persist", "name", c)
		}
	}
	if e.version >= "5" && strings.HasPrefix(serverVersion, "4.") {
		// This client's statistics ask with code 351, which 4.x does not know.
		time.Sleep(time.Second)
		persist()
		time.Sleep(time.Second)
		return
	}
	type stats struct {
		OK     bool
		Error  string
		Queues map[string]struct{ Broker, Consumer int64 }
	}
	var s stats
	harness.Eventually(t, arrival, fmt.Sprintf("%d committed messages", n), func() bool {
		persist()
		answer := e.call(t, "consumeStats", "name", e.admin, "group", group, "topic", topic)
		s = stats{}
		if err := json.Unmarshal(answer, &s); err != nil {
			t.Fatal(err)
		}
		if !s.OK {
			t.Fatalf("consumeStats: %s", s.Error)
		}
		var sum int64
		for q, o := range s.Queues {
			if o.Consumer > o.Broker {
				t.Fatalf("queue %s: the group has consumed to %d of %d", q, o.Consumer, o.Broker)
			}
			sum += o.Consumer
		}
		return sum == n && len(s.Queues) == 4
	})
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

// administration: topics, routes, cluster, statistics; messages by key and both ids.
func administration(t *testing.T, e *env) {
	topic := e.c.topic(t, e.driver, e.admin, "admin", 3)
	r := do[route](t, e.driver, "route", "name", e.admin, "topic", topic)
	if len(r.Queues) != 1 || r.Queues[0].Perm != 6 || len(r.Brokers) != 1 || r.Brokers[0].Addrs["0"] != e.c.broker.Addr() ||
		r.Brokers[0].Cluster != "DefaultCluster" || r.Brokers[0].Broker != r.Queues[0].Broker {
		t.Errorf("route %+v", r)
	}
	type clusterInfo struct {
		Clusters map[string][]string
		Brokers  map[string]map[string]string
	}
	c := do[clusterInfo](t, e.driver, "cluster", "name", e.admin)
	same(t, "clusters", c.Clusters, map[string][]string{"DefaultCluster": {"broker-a"}})
	same(t, "brokers", c.Brokers, map[string]map[string]string{"broker-a": {"0": e.c.broker.Addr()}})
	list := do[struct{ Topics []string }](t, e.driver, "topics", "name", e.admin).Topics
	for _, want := range []string{topic, "TBW102", "BenchmarkTest", "DefaultCluster", "broker-a"} {
		if !slices.Contains(list, want) {
			t.Errorf("%s is not in the list of topics %v", want, list)
		}
	}

	results := e.send(t, "name", e.producer, "topic", topic, "body", "m{i}", "keys", "order-{i} all", "count", 9)
	if e.version < "5" || !strings.HasPrefix(serverVersion, "4.") { // 5.x asks with code 351 as well
		type stats struct {
			Queues map[string]struct{ Min, Max, Updated int64 }
		}
		var s stats
		var sum int64
		for {
			s, sum = do[stats](t, e.driver, "topicStats", "name", e.admin, "topic", topic), 0
			for _, q := range s.Queues {
				sum += q.Max - q.Min
			}
			if sum == 9 || serverVersion == "" { // the original may answer the producer before readers see the message
				break
			}
		}
		if len(s.Queues) != 3 || sum != 9 {
			t.Errorf("topic statistics %v", s.Queues)
		}
	}

	m := e.findKey(t, topic, "order-4", "m4")
	if m.MsgID != results[4].MsgID {
		t.Errorf("key order-4 found %s instead of %s", m.MsgID, results[4].MsgID)
	}
	harness.Eventually(t, arrival, "all nine messages by their common key", func() bool {
		all := do[struct{ Messages []message }](t, e.driver, "queryKey", "name", e.admin, "topic", topic, "key", "all", "max", 32).Messages
		return len(all) == 9
	})
	if code, text := refused(t, e.driver, "queryKey", "name", e.admin, "topic", topic, "key", "nowhere"); code != 208 && !strings.Contains(text, "no message") {
		t.Errorf("a key that is not there: code %d, %s", code, text)
	}
	for what, id := range map[string]string{"offset id": results[7].OffsetMsgID, "unique id": results[7].MsgID} {
		m := do[struct{ Message message }](t, e.driver, "view", "name", e.admin, "topic", topic, "msgId", id).Message
		if string(m.Body) != "m7" || m.QueueOffset != results[7].QueueOffset || m.Keys != "order-7 all" {
			t.Errorf("by %s %s: %q at %d with keys %q", what, id, m.Body, m.QueueOffset, m.Keys)
		}
	}

	// Changing it: fewer write queues, and then no permission to write.
	do[none](t, e.driver, "createTopic", "name", e.admin, "addr", e.c.broker.Addr(), "topic", topic, "read", 5, "write", 5)
	harness.Eventually(t, arrival, "five queues", func() bool { return routed(t, e.driver, e.admin, topic, 5) })
	do[none](t, e.driver, "createTopic", "name", e.admin, "addr", e.c.broker.Addr(), "topic", topic, "read", 5, "write", 5, "perm", 4)
	harness.Eventually(t, arrival, "a route that may not be written", func() bool {
		q := do[route](t, e.driver, "route", "name", e.admin, "topic", topic).Queues
		return len(q) == 1 && q[0].Perm == 4
	})
	late := e.fresh("late")
	do[none](t, e.driver, "producer", "name", late)
	refused(t, e.driver, "send", "name", late, "topic", topic, "body", "x")
	do[none](t, e.driver, "stop", "name", late)
}

// vip: with sendMessageWithVIPChannel the clients use the port two below.
func vip(t *testing.T, e *env) {
	producer, admin := e.fresh("vip"), e.fresh("vipadmin")
	do[none](t, e.driver, "producer", "name", producer, "vip", true)
	do[none](t, e.driver, "admin", "name", admin, "vip", true)
	topic := e.c.topic(t, e.driver, admin, "vip", 2)
	c := e.push(t, topic, e.fresh("g"))
	e.send(t, "name", producer, "topic", topic, "body", "v{i}", "count", 10)
	e.send(t, "name", producer, "topic", topic, "body", "w{i}", "count", 10, "mode", "async")
	e.await(t, 20, arrival, c)
	for _, name := range []string{producer, admin} {
		do[none](t, e.driver, "stop", "name", name)
	}
}

// autoCreate: a send to a topic that nobody made creates it with four queues.
func autoCreate(t *testing.T, e *env) {
	topic := e.fresh("auto")
	e.send(t, "name", e.producer, "topic", topic, "body", "a{i}", "count", 8)
	harness.Eventually(t, arrival, "the route of "+topic, func() bool { return routed(t, e.driver, e.admin, topic, 4) })
	c := e.push(t, topic, e.fresh("g"))
	same(t, "bodies", bodies(e.await(t, 8, arrival, c)), numbered("a", 8))
}

// refusals: what a client must be told and how.
func refusals(t *testing.T, e *env) {
	topic := e.topic(t, "refused")
	code, text := refused(t, e.driver, "send", "name", e.producer, "topic", topic, "broker", "broker-a", "queue", 99, "body", "x")
	if code != 1 || !strings.Contains(text, "request queueId[99] is illegal") {
		t.Errorf("a queue that is not there: code %d, %s", code, text)
	}
	puller := e.fresh("puller")
	do[none](t, e.driver, "puller", "name", puller)
	code, text = refused(t, e.driver, "pull", "name", puller, "topic", e.fresh("nowhere"), "broker", "broker-a", "queue", 0)
	if code != 17 && !strings.Contains(text, "broker[broker-a] not exist") {
		t.Errorf("pull of a topic that is not there: code %d, %s", code, text)
	}
	do[none](t, e.driver, "stop", "name", puller)
	var r struct{ OK bool }
	if err := json.Unmarshal(e.call(t, "route", "name", e.admin, "topic", e.fresh("nowhere")), &r); err != nil || r.OK {
		t.Errorf("the route of a topic that is not there: %v, %v", r, err)
	}
}

// restart: the broker is stopped and started again below running clients, of all
// versions at a time; they go on, and nothing is lost or seen twice.
func restart(t *testing.T, c *cluster, all []*env) {
	topics, consumers := make([]string, len(all)), make([]string, len(all))
	for i, e := range all {
		topics[i] = e.topic(t, "restart")
		consumers[i] = e.push(t, topics[i], e.fresh("g"))
		e.send(t, "name", e.producer, "topic", topics[i], "body", "one{i}", "count", 20)
		e.await(t, 20, arrival, consumers[i])
	}
	c.broker.Restart()
	for i, e := range all {
		harness.Eventually(t, 30*time.Second, "the route after the restart", func() bool { return routed(t, e.driver, e.admin, topics[i], 4) })
		e.send(t, "name", e.producer, "topic", topics[i], "body", "two{i}", "count", 20)
	}
	want := append(numbered("one", 20), numbered("two", 20)...)
	slices.Sort(want)
	for i, e := range all {
		// A 4.x client notices that its held pulls are lost only after 30 s.
		same(t, e.name, bodies(e.await(t, 40, 90*time.Second, consumers[i])), want)
	}
	time.Sleep(quiet)
	for i, e := range all {
		e.await(t, 40, 0, consumers[i])
	}
}
