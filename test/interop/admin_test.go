//go:build interop || interop_all

package interop

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"gomq/test/harness"
)

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
