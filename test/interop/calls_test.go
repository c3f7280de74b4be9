//go:build interop || interop_all

package interop

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gomq/test/harness"
	"gomq/test/raw"
)

// callScenarios go through the broker to clients, or are asked by tools.
var callScenarios = []scenario{
	{"Asked", askedConsumer},
	{"Reset", resetOffsets},
	{"Requests", requests},
	{"Traces", traces},
	{"Namespace", namespace},
	{"Tools", toolCodes},
	{"Mqadmin", mqadmin},
	{"Tools5", toolCodes5},
}

// TestJavaCalls: what reaches clients through the broker, and what the tools ask.
func TestJavaCalls(t *testing.T) {
	needJava(t)
	c := startCluster(t, map[string]string{"traceTopicEnable": "true"})
	var envs []*env
	for i, version := range clientVersions {
		envs = append(envs, newEnv(t, c, version, []string{"JSON", "ROCKETMQ"}[i%2], "-Drocketmq.home.dir="+toolsHome(t)))
	}
	var ran, all atomic.Int64
	t.Run("Together", func(t *testing.T) {
		for _, e := range envs {
			for _, s := range callScenarios {
				if s.name == "Requests" && !hasLite(e.version) || s.name == "Mqadmin" && e.version != "4.9.8" ||
					s.name == "Tools5" && (!strings.HasPrefix(e.version, "5.") || serverVersion != "") {
					continue
				}
				all.Add(1)
				t.Run(e.name+"/"+s.name, func(t *testing.T) {
					t.Parallel()
					ran.Add(1)
					s.run(t, e)
				})
			}
		}
	})
	if t.Failed() || ran.Load() < max(all.Load(), 1) {
		return // -run has chosen some
	}
	asked(t, c.broker, "GET_CONSUMER_RUNNING_INFO", "CONSUME_MESSAGE_DIRECTLY", "INVOKE_BROKER_TO_RESET_OFFSET", "INVOKE_BROKER_TO_GET_CONSUMER_STATUS",
		"SEND_REPLY_MESSAGE_V2", "QUERY_CONSUME_TIME_SPAN", "CLONE_GROUP_OFFSET", "VIEW_BROKER_STATS_DATA", "GET_BROKER_CONSUME_STATS", "QUERY_CONSUME_QUEUE",
		"CLEAN_EXPIRED_CONSUMEQUEUE", "CLEAN_UNUSED_TOPIC", "GET_ALL_PRODUCER_INFO", "DELETE_EXPIRED_COMMITLOG",
		"UPDATE_AND_CREATE_TOPIC_LIST", "UPDATE_AND_CREATE_SUBSCRIPTIONGROUP_LIST", "QUERY_TOPICS_BY_CONSUMER", "QUERY_SUBSCRIPTION_BY_CONSUMER")
}

// clientID is the id of the group's one client.
func (e *env) clientID(t testing.TB, group string) string {
	t.Helper()
	b := dial(t, e.c.broker.Addr())
	defer b.Close()
	id := ""
	harness.Eventually(t, arrival, "a client of "+group, func() bool {
		cmd, err := b.Do(raw.ConsumerConnection, map[string]string{"consumerGroup": group}, nil)
		if err != nil {
			return false
		}
		m := regexp.MustCompile(`"clientId":"([^"]*)"`).FindSubmatch(cmd.Body)
		if m != nil {
			id = string(m[1])
		}
		return m != nil
	})
	return id
}

// consuming is a topic with n messages that a consumer of group has consumed and
// committed.
func (e *env) consuming(t testing.TB, what string, n int, args ...any) (topic, group, consumer string, all []sent) {
	t.Helper()
	topic, group = e.topic(t, what), e.fresh("g")
	consumer = e.push(t, topic, group, args...)
	all = e.send(t, "name", e.producer, "topic", topic, "body", "m{i}", "count", n, "keys", what+"{i}")
	e.await(t, n, arrival, consumer)
	e.committed(t, topic, group, n)
	return topic, group, consumer, all
}

// committed waits until the group has committed n messages of the topic.
func (e *env) committed(t testing.TB, topic, group string, n int) {
	t.Helper()
	b := dial(t, e.c.broker.Addr())
	defer b.Close()
	harness.Eventually(t, arrival, fmt.Sprintf("%d messages committed by %s", n, group), func() bool {
		sum := int64(0)
		for q := range 4 {
			if at, err := b.Committed(group, topic, q); err == nil {
				sum += at
			}
		}
		return sum == int64(n)
	})
}

// askedConsumer: an administrator asks a consumer how it is and where, and has it
// consume a message.
func askedConsumer(t *testing.T, e *env) {
	topic, group, consumer, all := e.consuming(t, "asked", 8)
	e.owns(t, topic, arrival, map[string]int{consumer: 4})
	id := e.clientID(t, group)
	info := do[struct {
		Type, Version string
		Queues        map[string]int64
		Topics        []string
		Jstack        int
	}](t, e.driver, "runningInfo", "name", e.admin, "group", group, "clientId", id, "jstack", true)
	if info.Type != "CONSUME_PASSIVELY" || info.Version != "V"+strings.ReplaceAll(e.version, ".", "_") || !slices.Contains(info.Topics, topic) || info.Jstack < 1000 {
		t.Errorf("running info %+v", info)
	}
	sum := int64(0)
	for q := range 4 {
		sum += info.Queues[fmt.Sprintf("%s/%d", topic, q)]
	}
	if sum != 8 {
		t.Errorf("it says that it has committed %v", info.Queues)
	}
	got := do[struct {
		Result string
		Order  bool
	}](t, e.driver, "consumeDirectly", "name", e.admin, "group", group, "clientId", id, "topic", topic, "msgId", all[5].OffsetMsgID)
	if got.Result != "CR_SUCCESS" || got.Order {
		t.Errorf("consumed directly %+v", got)
	}
	again := e.await(t, 9, arrival, consumer)
	if m := again[8]; m.Properties["UNIQ_KEY"] != all[5].MsgID || string(m.Body) != "m5" || m.Topic != topic {
		t.Errorf("it was given %+v, want %+v", m, all[5])
	}
	status := do[struct{ Clients map[string]map[string]int64 }](t, e.driver, "clientStatus", "name", e.admin, "topic", topic, "group", group, "clientId", id).Clients
	sum = 0
	for _, at := range status[id] {
		sum += at
	}
	if len(status) != 1 || len(status[id]) != 4 || sum != 8 {
		t.Errorf("the status is %v", status)
	}
	if code, text := refused(t, e.driver, "runningInfo", "name", e.admin, "group", group, "clientId", "nobody"); code != 1 || !strings.Contains(text, "The Consumer <"+group+"> <nobody> not online") {
		t.Errorf("of nobody: %d %s", code, text)
	}
}

// resetOffsets: a running group goes back to the beginning, and one that has
// stopped is reset by the tool itself.
func resetOffsets(t *testing.T, e *env) {
	topic, group, consumer, _ := e.consuming(t, "reset", 8)
	e.clientID(t, group)
	got := do[struct{ Queues map[string]int64 }](t, e.driver, "resetOffset", "name", e.admin, "topic", topic, "group", group, "timestamp", 1000, "force", true).Queues
	if len(got) != 4 || slices.ContainsFunc(slices.Collect(maps.Values(got)), func(at int64) bool { return at != 0 }) {
		t.Errorf("reset to %v", got)
	}
	// The client waits ten seconds before it begins anew.
	all := e.await(t, 16, arrival, consumer)
	want := slices.Concat(numbered("m", 8), numbered("m", 8))
	slices.Sort(want)
	same(t, "bodies", bodies(all), want)
	e.committed(t, topic, group, 8)
	do[none](t, e.driver, "stop", "name", consumer)
	b := dial(t, e.c.broker.Addr())
	defer b.Close()
	harness.Eventually(t, arrival, "the group offline", func() bool {
		_, err := b.Do(raw.ConsumerConnection, map[string]string{"consumerGroup": group}, nil)
		return err != nil
	})
	code, text := refused(t, e.driver, "resetOffset", "name", e.admin, "topic", topic, "group", group, "timestamp", 1000, "force", true)
	if code != 206 || !strings.Contains(text, "Consumer not online, so can not reset offset, Group: "+group+" Topic: "+topic+" Timestamp: 1000") {
		t.Errorf("offline: %d %s", code, text)
	}
	code, text = refused(t, e.driver, "resetOffset", "name", e.admin, "topic", topic, "group", e.fresh("none"), "timestamp", 1000, "force", true)
	if code != 1 || !strings.Contains(text, "THe consumer group <") {
		t.Errorf("a group without offsets: %d %s", code, text)
	}
	code, text = refused(t, e.driver, "resetOffset", "name", e.admin, "topic", "TBW102x", "group", group, "timestamp", 1000, "force", true)
	if !strings.Contains(text, "TBW102x") {
		t.Errorf("an unknown topic: %d %s", code, text)
	}
}

// requests: every request gets the reply to it, and the replies are stored.
func requests(t *testing.T, e *env) {
	topic, replier, requester := e.topic(t, "requests"), e.fresh("replier"), e.fresh("requester")
	do[none](t, e.driver, "replier", "name", replier, "topic", topic)
	t.Cleanup(func() { e.call(t, "stop", "name", replier) })
	do[none](t, e.driver, "requester", "name", requester)
	t.Cleanup(func() { e.call(t, "stop", "name", requester) })
	// The synchronous call of 5.3.3 takes the answer to its send for the reply.
	sync := !strings.HasPrefix(e.version, "5.")
	for i := range 6 {
		body := fmt.Sprint("question", i)
		reply := do[struct {
			Topic, Body string
			Properties  map[string]string
		}](t, e.driver, "request", "name", requester, "topic", topic, "body", body, "sync", sync && i%2 == 0)
		if reply.Body != "re: "+body || reply.Topic != "DefaultCluster_REPLY_TOPIC" || reply.Properties["MSG_TYPE"] != "reply" || reply.Properties["PUSH_REPLY_TIME"] == "" {
			t.Errorf("%s is answered %+v", body, reply)
		}
	}
	// Nobody replies on this topic: the request times out, and nothing breaks.
	if _, text := refused(t, e.driver, "request", "name", requester, "topic", e.topic(t, "silent"), "body", "x", "ttl", 500, "sync", sync); !strings.Contains(strings.ToLower(text), "timeout") {
		t.Errorf("without a reply: %s", text)
	}
}

// traces: what producers and consumers trace is found by the message's id and by
// its key, in the topic of traces and in one of the user's.
func traces(t *testing.T, e *env) {
	own := e.topic(t, "ownTraces")
	want := []string{"Pub\x01"}
	if e.version == "4.9.8" {
		// Beside a producer that traces, in one process, consumers of 4.5.2 and 5.3.3
		// send no traces, to the original neither.
		want = append(want, "SubBefore\x01", "SubAfter\x01")
	}
	topics := []string{"", own}
	if e.version == "4.5.2" {
		topics = topics[:1] // all its traces go out through one producer, that of the first
	}
	for _, traceTopic := range topics {
		topic, group := e.topic(t, "traced"), e.fresh("g")
		producer := e.fresh("traced")
		do[none](t, e.driver, "producer", "name", producer, "trace", traceTopic)
		t.Cleanup(func() { e.call(t, "stop", "name", producer) })
		consumer := e.push(t, topic, group, "trace", traceTopic)
		key := e.fresh("key")
		m := e.send(t, "name", producer, "topic", topic, "body", "x", "keys", key)[0]
		e.await(t, 1, arrival, consumer)
		in := traceTopic
		if in == "" {
			in = "RMQ_SYS_TRACE_TOPIC"
		}
		for _, by := range []string{m.MsgID, key} {
			harness.Eventually(t, arrival, fmt.Sprintf("the traces of %s by %s in %s", producer, by, in), func() bool {
				var r struct {
					OK       bool `json:"ok"`
					Messages []message
				}
				if err := json.Unmarshal(e.call(t, "queryKey", "name", e.admin, "topic", in, "key", by), &r); err != nil {
					t.Fatal(err)
				}
				var text strings.Builder
				for _, x := range r.Messages {
					text.Write(x.Body)
				}
				return !slices.ContainsFunc(want, func(part string) bool { return !strings.Contains(text.String(), part) }) && strings.Contains(text.String(), m.MsgID)
			})
		}
	}
}

// namespace: the client puts the instance before the names of topics and groups;
// the application does not see it, and retries work with it.
func namespace(t *testing.T, e *env) {
	instance := strings.ReplaceAll(e.fresh("INST"), "_", "-")
	bare := e.fresh("spaced")
	full := instance + "%" + bare
	do[none](t, e.driver, "createTopic", "name", e.admin, "addr", e.c.broker.Addr(), "topic", full, "read", 4, "write", 4)
	harness.Eventually(t, arrival, "the route of "+full, func() bool { return routed(t, e.driver, e.admin, full, 4) })
	producer, group := e.fresh("producer"), e.fresh("g")
	do[none](t, e.driver, "producer", "name", producer, "namespace", instance)
	t.Cleanup(func() { e.call(t, "stop", "name", producer) })
	consumer := e.push(t, bare, group, "namespace", instance, "failures", 1)
	results := e.send(t, "name", producer, "topic", bare, "body", "n{i}", "count", 4, "keys", "k{i}")
	all := e.await(t, 8, arrival, consumer)
	times := map[string][]int{}
	for _, m := range all {
		if m.Topic != bare {
			t.Errorf("the application sees %+v", m)
		}
		times[m.MsgID] = append(times[m.MsgID], m.ReconsumeTimes)
	}
	for _, r := range results {
		if !slices.Equal(times[r.MsgID], []int{0, 1}) {
			t.Errorf("message %s came with reconsume times %v", r.MsgID, times[r.MsgID])
		}
	}
	if id := e.clientID(t, instance+"%"+group); id == "" {
		t.Error("the group has no client")
	}
	for _, name := range []string{full, "%RETRY%" + instance + "%" + group} {
		b := dial(t, e.c.ns.Addr())
		if !hasRoute(t, b, name) {
			t.Errorf("no route of %s", name)
		}
		b.Close()
	}
	// Another group without the instance sees nothing of it.
	other := e.push(t, e.topic(t, "unspaced"), e.fresh("g"))
	time.Sleep(quiet)
	e.await(t, 0, 0, other)
}
