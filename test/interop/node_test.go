//go:build interop || interop_all

package interop

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"gomq/test/harness"
	"gomq/test/raw"
)

// modules returns a directory that has node_modules with the Node clients.
func modules(t testing.TB) string {
	t.Helper()
	tool(t, "node", "Node")
	tool(t, "npm", "npm")
	lock, err := os.ReadFile(filepath.Join(sourceDir(), "node", "package-lock.json"))
	if err != nil {
		t.Fatal(err)
	}
	return cached(t, "node-modules-"+digest(lock), func(dir string) error {
		for _, name := range []string{"package.json", "package-lock.json"} {
			text, err := os.ReadFile(filepath.Join(sourceDir(), "node", name))
			if err != nil {
				return err
			}
			if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
				return err
			}
		}
		return fetch(dir, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	})
}

// nodeEnv is what the scenarios of one Node client share.
type nodeEnv struct {
	*driver
	c        *cluster
	producer string
}

func newNodeEnv(t testing.TB, c *cluster, client string) *nodeEnv {
	t.Helper()
	dir := modules(t)
	cmd := exec.Command("node", filepath.Join(sourceDir(), "node", "driver.js"), dir, client, c.ns.Addr())
	cmd.Dir = harness.Dir(t)
	d := launch(t, "node-"+client, cmd)
	e := &nodeEnv{driver: d, c: c, producer: d.fresh("producer")}
	do[none](t, d, "producer", "name", e.producer)
	return e
}

// topic makes a topic with four queues, for these clients cannot.
func (e *nodeEnv) topic(t testing.TB, what string) string {
	t.Helper()
	name := e.fresh(what)
	newTopic(t, e.c.ns.Addr(), e.c.broker.Addr(), name, 4)
	return name
}

// newTopic makes a topic by hand and waits until the nameserver has its route.
func newTopic(t testing.TB, ns, broker, name string, queues int) {
	t.Helper()
	b := dial(t, broker)
	defer b.Close()
	if err := b.NewTopic(name, queues); err != nil {
		t.Fatal(err)
	}
	n := dial(t, ns)
	defer n.Close()
	harness.Eventually(t, 15*time.Second, "the route of "+name, func() bool { return hasRoute(t, n, name) })
}

// hasRoute says whether the nameserver knows a route for the topic. It does not
// read the route: Java before 4.9.4 answers in a JSON of its own.
func hasRoute(t testing.TB, n *raw.Conn, topic string) bool {
	t.Helper()
	_, err := n.Do(raw.RouteInfo, map[string]string{"topic": topic}, nil)
	var refusal *raw.CodeError
	if errors.As(err, &refusal) && refusal.Code == raw.TopicNotExist {
		return false
	}
	if err != nil {
		t.Fatalf("the route of %s: %v", topic, err)
	}
	return true
}

func dial(t testing.TB, addr string) *raw.Conn {
	t.Helper()
	c, err := raw.Dial(addr)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (e *nodeEnv) push(t testing.TB, topic, group string, args ...any) string {
	t.Helper()
	name := e.fresh("c")
	do[none](t, e.driver, "push", append([]any{"name", name, "topic", topic, "group", group}, args...)...)
	t.Cleanup(func() { e.call(t, "stop", "name", name) })
	return name
}

// owns waits until the consumers hold these numbers of the topic's queues.
func (e *nodeEnv) owns(t testing.TB, topic string, limit time.Duration, want map[string]int) {
	t.Helper()
	owns(t, e.driver, topic, limit, want)
}

// TestNode runs the scenarios with both Node clients, which always write JSON headers.
func TestNode(t *testing.T) {
	modules(t)
	c := startCluster(t, nil)
	for _, client := range []string{"rocketmq", "ali-ons"} {
		t.Run(client, func(t *testing.T) {
			e := newNodeEnv(t, c, client)
			t.Run("Together", func(t *testing.T) {
				for _, s := range []struct {
					name string
					run  func(*testing.T, *nodeEnv)
				}{
					{"Send", nodeSend},
					{"Compressed", nodeCompressed},
					{"Unicode", nodeUnicode},
					{"Tags", nodeTags},
					{"Rebalance", nodeRebalance},
					{"Broadcast", nodeBroadcast},
					{"Continued", nodeContinued},
				} {
					t.Run(s.name, func(t *testing.T) {
						t.Parallel()
						s.run(t, e)
					})
				}
			})
		})
	}
}

// nodeSend: sends one after the other and many at a time arrive, each once, where
// the producer was told.
func nodeSend(t *testing.T, e *nodeEnv) {
	topic := e.topic(t, "send")
	c := e.push(t, topic, e.fresh("g"))
	results := e.send(t, "name", e.producer, "topic", topic, "body", "one{i}", "keys", "k{i}", "count", 12)
	results = append(results, e.send(t, "name", e.producer, "topic", topic, "body", "many{i}", "keys", "m{i}", "count", 60, "mode", "async")...)
	all := e.await(t, 72, arrival, c)
	want := append(numbered("one", 12), numbered("many", 60)...)
	slices.Sort(want)
	same(t, "bodies", bodies(all), want)
	byID := map[string]message{}
	for _, m := range all {
		byID[m.OffsetMsgID] = m
		if addr, _ := storedAt(t, m.OffsetMsgID); addr != e.c.broker.Addr() {
			t.Errorf("message id %s names %s", m.OffsetMsgID, addr)
		}
	}
	for _, r := range results {
		m, ok := byID[r.OffsetMsgID]
		if !ok {
			t.Errorf("no message has the id %s that the producer was told", r.OffsetMsgID)
		} else if m.QueueID != r.Queue.QueueID || m.QueueOffset != r.QueueOffset {
			t.Errorf("told %+v, found at %d/%d", r, m.QueueID, m.QueueOffset)
		}
	}
	// The index has the keys that this client wrote.
	b := dial(t, e.c.broker.Addr())
	defer b.Close()
	harness.Eventually(t, arrival, "the index entry of m33", func() bool {
		found, err := b.ByKey(topic, "m33")
		return err == nil && len(found) == 1 && string(found[0].Body) == "many33"
	})
}

func nodeCompressed(t *testing.T, e *nodeEnv) {
	topic := e.topic(t, "compressed")
	c := e.push(t, topic, e.fresh("g"))
	sizes := []int{1, 4095, 4096, 100_000}
	for _, size := range sizes {
		e.send(t, "name", e.producer, "topic", topic, "size", size, "keys", size)
	}
	for _, m := range e.await(t, len(sizes), arrival, c) {
		size, err := strconv.Atoi(m.Keys)
		if err != nil {
			t.Fatal(err)
		}
		if len(m.Body) != size || !bytes.HasPrefix(m.Body, []byte("abcdefghijklmnopqrstuvwxyza")[:min(size, 27)]) {
			t.Errorf("the body of %d bytes came back different, %d bytes long", size, len(m.Body))
		}
		if isSmall := m.StoreSize < size; isSmall != (size > 4095) {
			t.Errorf("a body of %d bytes is stored in %d", size, m.StoreSize)
		}
	}
}

func nodeUnicode(t *testing.T, e *nodeEnv) {
	topic := e.topic(t, "unicode")
	foreign(t, e.driver, e.producer, topic, e.push(t, topic, e.fresh("g"), "expression", foreignTags), "ключ é😀", 7, nil)
}

func nodeTags(t *testing.T, e *nodeEnv) {
	topic := e.topic(t, "tags")
	two := e.push(t, topic, e.fresh("g"), "expression", "A || C")
	every := e.push(t, topic, e.fresh("g"))
	for _, tag := range []string{"A", "B", "C"} {
		e.send(t, "name", e.producer, "topic", topic, "tag", tag, "body", tag+"{i}", "count", 5)
	}
	same(t, "A and C", bodies(e.await(t, 10, arrival, two)), append(numbered("A", 5), numbered("C", 5)...))
	e.await(t, 15, arrival, every)
	time.Sleep(quiet)
	e.await(t, 10, 0, two)
}

// nodeRebalance: a second consumer takes half of the queues and gives them back.
// These clients do not listen to the broker's notice, only to their own timer.
func nodeRebalance(t *testing.T, e *nodeEnv) {
	const soon = 30 * time.Second
	topic, group := e.topic(t, "rebalance"), e.fresh("g")
	first := e.push(t, topic, group, "rebalance", 1000)
	e.owns(t, topic, soon, map[string]int{first: 4})
	second := e.push(t, topic, group, "rebalance", 1000)
	e.owns(t, topic, soon, map[string]int{first: 2, second: 2})
	e.send(t, "name", e.producer, "topic", topic, "body", "m{i}", "count", 40)
	same(t, "bodies", bodies(e.await(t, 40, arrival, first, second)), numbered("m", 40))
	if n := len(e.received(second)); n != 20 {
		t.Errorf("the second consumer, with half of the queues, received %d of 40", n)
	}
	do[none](t, e.driver, "stop", "name", second)
	e.owns(t, topic, soon, map[string]int{first: 4})
}

func nodeBroadcast(t *testing.T, e *nodeEnv) {
	topic, group := e.topic(t, "broadcast"), e.fresh("g")
	a := e.push(t, topic, group, "broadcast", true)
	b := e.push(t, topic, group, "broadcast", true)
	toEach(t, e.driver, e.producer, topic, a, b)
}

func nodeContinued(t *testing.T, e *nodeEnv) {
	topic, group := e.topic(t, "continued"), e.fresh("g")
	e.send(t, "name", e.producer, "topic", topic, "body", "one{i}", "count", 20)
	first := e.push(t, topic, group)
	same(t, "first", bodies(e.await(t, 20, arrival, first)), numbered("one", 20))
	b := dial(t, e.c.broker.Addr())
	defer b.Close()
	harness.Eventually(t, arrival, "20 committed messages", func() bool {
		do[none](t, e.driver, "persist", "name", first)
		var sum int64
		for q := range 4 {
			n, err := b.Committed(group, topic, q)
			if err != nil {
				t.Fatal(err)
			}
			sum += n
		}
		return sum == 20
	})
	do[none](t, e.driver, "stop", "name", first)
	e.send(t, "name", e.producer, "topic", topic, "body", "two{i}", "count", 20)
	second := e.push(t, topic, group)
	same(t, "second", bodies(e.await(t, 20, arrival, second)), numbered("two", 20))
	time.Sleep(quiet)
	e.await(t, 20, 0, second)
}

// TestNodeToJava: what one client family writes the other reads.
func TestNodeToJava(t *testing.T) {
	needJava(t)
	modules(t)
	c := startCluster(t, nil)
	j := newEnv(t, c, "4.9.8", "ROCKETMQ")
	for _, client := range []string{"rocketmq", "ali-ons"} {
		t.Run(client, func(t *testing.T) {
			n := newNodeEnv(t, c, client)
			topic := n.topic(t, "mixed")
			atJava, atNode := j.push(t, topic, j.fresh("g")), n.push(t, topic, n.fresh("g"))
			n.send(t, "name", n.producer, "topic", topic, "body", "node{i}", "tag", "名", "prop.p", "ü{i}", "count", 10)
			n.send(t, "name", n.producer, "topic", topic, "body", "nodebig", "size", 50_000)
			j.send(t, "name", j.producer, "topic", topic, "body", "java{i}", "tag", "名", "prop.p", "ü{i}", "count", 10)
			j.send(t, "name", j.producer, "topic", topic, "body", "javabig", "size", 50_000)
			for who, all := range map[string][]message{"java": j.await(t, 22, arrival, atJava), "node": n.await(t, 22, arrival, atNode)} {
				count := map[string]int{}
				for _, m := range all {
					kind := fmt.Sprintf("%.4s %d", m.Body, len(m.Body)/50_000)
					if len(m.Body) < 50_000 && (m.Tags != "名" || m.Properties["p"] != "ü{i}") {
						t.Errorf("%s read tags %q, p %q from %q", who, m.Tags, m.Properties["p"], m.Body)
					}
					count[kind]++
				}
				same(t, who, count, map[string]int{"node 0": 10, "node 1": 1, "java 0": 10, "java 1": 1})
			}
		})
	}
}
