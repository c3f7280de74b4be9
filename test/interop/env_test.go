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
