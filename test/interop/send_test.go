//go:build interop || interop_all

package interop

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
)

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
	const keys = "ключ é😀 second"
	foreign(t, e.driver, e.producer, topic, e.push(t, topic, group, "expression", foreignTags), keys, -7, map[string]string{
		"long":   strings.Repeat("ü", 3000),
		"digits": "-0012",
		"null":   "null",
	})
	for _, key := range strings.Fields(keys) {
		e.findKey(t, topic, key, "тело 😀")
	}
}

// foreignTags is what the consumer of foreign subscribes to.
const foreignTags = "标签-ü || plain"

// foreign sends words outside of ASCII, and further properties, and wants them back
// as they were. The clients' own decoders drop a property without a value.
func foreign(t *testing.T, d *driver, producer, topic, consumer, keys string, flag int, further map[string]string) {
	t.Helper()
	odd := map[string]string{
		"名字":      "值 mit Leerzeichen",
		"quotes":  `"a" 'b' \ / { } [ ] : , =`,
		"newline": "line1\nline2\ttab",
		"emoji":   "😀👍🏽",
		"empty":   "",
	}
	maps.Copy(odd, further)
	args := []any{"name", producer, "topic", topic, "tag", "标签-ü", "keys", keys, "body", "тело 😀", "flag", flag}
	for k, v := range odd {
		args = append(args, "prop."+k, v)
	}
	d.send(t, args...)
	d.send(t, "name", producer, "topic", topic, "tag", "标签-x", "body", "other tag")
	d.send(t, "name", producer, "topic", topic, "tag", "plain", "body", "\x00\x01\x7f")
	all := d.await(t, 2, arrival, consumer)
	slices.SortFunc(all, func(a, b message) int { return strings.Compare(a.Tags, b.Tags) })
	same(t, "plain body", all[0].Body, []byte("\x00\x01\x7f"))
	m := all[1]
	same(t, "tags", m.Tags, "标签-ü")
	same(t, "keys", m.Keys, keys)
	same(t, "body", string(m.Body), "тело 😀")
	same(t, "flag", m.Flag, flag)
	for k, v := range odd {
		same(t, "property "+k, m.Properties[k], v)
	}
}
