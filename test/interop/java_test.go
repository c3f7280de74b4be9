//go:build interop || interop_all

package interop

import (
	"flag"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gomq/test/harness"
)

var clientVersions = []string{"4.5.2", "4.9.8", "5.3.3"}

func setParallel(n string) {
	if err := flag.Set("test.parallel", n); err != nil {
		panic(err)
	}
}

type scenario struct {
	name string
	run  func(t *testing.T, e *env)
}

// together are the scenarios that may run side by side.
var together = []scenario{
	{"SendModes", sendModes},
	{"Compressed", compressed},
	{"Unicode", unicode},
	{"Tags", tags},
	{"SQL", sql},
	{"Differ", differ},
	{"Circle", circle},
	{"Rebalance", rebalance},
	{"Broadcast", broadcast},
	{"Continued", continued},
	{"Orderly", orderly},
	{"OrderlyJoined", orderlyJoined},
	{"OrderlyStuck", orderlyStuck},
	{"Retried", retried},
	{"FromWhereYoung", fromWhereYoung},
	{"Pull", pull4},
	{"LitePull", litePull},
	{"Administration", administration},
	{"VIP", vip},
	{"AutoCreate", autoCreate},
	{"Refusals", refusals},
}

// TestJava runs every scenario with every client version and both header forms.
func TestJava(t *testing.T) {
	needJava(t)
	c := startCluster(t, map[string]string{"enablePropertyFilter": "true", "messageDelayLevel": "1s 1s 1s 1s"}) // retries need not take long here
	var ran, all atomic.Int64
	for _, version := range clientVersions {
		for _, headers := range []string{"JSON", "ROCKETMQ"} {
			all.Add(int64(len(together)))
			t.Run(version+"/"+headers, func(t *testing.T) {
				e := newEnv(t, c, version, headers)
				t.Run("Together", func(t *testing.T) {
					for _, s := range together {
						if s.name == "LitePull" && !hasLite(version) {
							all.Add(-1)
							continue // this client has none
						}
						t.Run(s.name, func(t *testing.T) {
							t.Parallel()
							ran.Add(1)
							s.run(t, e)
						})
					}
				})
			})
		}
	}
	if ran.Load() < all.Load() {
		return // -run has chosen some
	}
	asked(t, c.broker, brokerCodes...)
	asked(t, c.ns, namesrvCodes...)
}

// brokerCodes and namesrvCodes are the requests that the scenarios make the Java
// clients send. They are counted, so that no scenario or client can silently stop
// asking: 361, for one, is what the lite pull consumer of 5.x sends instead of 11.
var (
	brokerCodes = []string{"SEND_MESSAGE_V2", "SEND_BATCH_MESSAGE", "PULL_MESSAGE", "LITE_PULL_MESSAGE", "QUERY_MESSAGE",
		"VIEW_MESSAGE_BY_ID", "QUERY_CONSUMER_OFFSET", "UPDATE_CONSUMER_OFFSET", "UPDATE_AND_CREATE_TOPIC",
		"SEARCH_OFFSET_BY_TIMESTAMP", "GET_MAX_OFFSET", "GET_MIN_OFFSET", "GET_EARLIEST_MSG_STORETIME", "HEART_BEAT",
		"UNREGISTER_CLIENT", "GET_CONSUMER_LIST_BY_GROUP", "GET_TOPIC_STATS_INFO", "GET_CONSUMER_CONNECTION_LIST",
		"GET_CONSUME_STATS", "GET_TOPIC_CONFIG", "CHECK_CLIENT_CONFIG", "LOCK_BATCH_MQ", "UNLOCK_BATCH_MQ", "CONSUMER_SEND_MSG_BACK"}
	namesrvCodes = []string{"REGISTER_BROKER", "GET_ROUTEINFO_BY_TOPIC", "GET_BROKER_CLUSTER_INFO", "GET_ALL_TOPIC_LIST_FROM_NAMESERVER"}
)

// asked looks at gomq's own counts: all the expected requests were among those that
// it answered with success, and none was answered that it does not know the code.
func asked(t *testing.T, s *harness.Server, codes ...string) {
	t.Helper()
	if s.Kind != "gomq" {
		return
	}
	if status, text, err := harness.Get(s.HTTP() + "/metrics"); err != nil || status != 200 {
		t.Fatalf("%s: /metrics answers %d, %v: %.500s", s.Role, status, err, text)
	}
	m := harness.ReadMetrics(t, s.HTTP())
	for _, code := range codes {
		if n, _ := m.Sum("gomq_requests_total", "code="+code, "status=0"); n == 0 {
			t.Errorf("%s: no %s was answered with success", s.Role, code)
		}
	}
	unknown, _ := m.Sum("gomq_requests_total", "status=3")
	if unknown != 0 {
		t.Errorf("%s: %v requests of official clients were answered as not supported", s.Role, unknown)
	}
	if n, ok := m.Sum("gomq_request_panics_total"); n != 0 || !ok {
		t.Errorf("%s: %v requests panicked", s.Role, n)
	}
}

// TestJavaRestart has one client of each version running while the broker restarts.
func TestJavaRestart(t *testing.T) {
	needJava(t)
	c := startCluster(t, nil)
	restart(t, c, []*env{newEnv(t, c, "4.5.2", "JSON"), newEnv(t, c, "4.9.8", "ROCKETMQ"), newEnv(t, c, "5.3.3", "JSON")})
}

// TestJavaFromWhere: the broker is told to take all data for being on disk, and
// then a new group starts where CONSUME_FROM_LAST_OFFSET and _TIMESTAMP say.
func TestJavaFromWhere(t *testing.T) {
	needJava(t)
	c := startCluster(t, map[string]string{"accessMessageInMemoryMaxRatio": "0"})
	for _, version := range clientVersions {
		t.Run(version, func(t *testing.T) {
			// Without "smart" messages the producer sends code 10 with whole names instead of 310.
			e := newEnv(t, c, version, "JSON", "-Dorg.apache.rocketmq.client.sendSmartMsg=false")
			topic := e.topic(t, "where")
			if code, text := refused(t, e.driver, "push", "name", e.fresh("c"), "topic", topic, "group", e.fresh("g"), "sql", "n > 1"); code != 1 || !strings.Contains(text, "The broker does not support consumer to filter message by SQL92") {
				t.Errorf("without enablePropertyFilter: code %d, %s", code, text)
			}
			e.send(t, "name", e.producer, "topic", topic, "body", "old{i}", "count", 20)
			// The client's timestamp counts whole seconds, and the broker takes the message nearest to it.
			time.Sleep(3 * time.Second)
			between := time.Now().Format("20060102150405")
			e.send(t, "name", e.producer, "topic", topic, "body", "new{i}", "count", 20)

			first := e.push(t, topic, e.fresh("g"), "from", "CONSUME_FROM_FIRST_OFFSET")
			stamp := e.push(t, topic, e.fresh("g"), "from", "CONSUME_FROM_TIMESTAMP", "timestamp", between)
			last := e.push(t, topic, e.fresh("g"), "from", "CONSUME_FROM_LAST_OFFSET")
			same(t, "first", len(e.await(t, 40, arrival, first)), 40)
			same(t, "timestamp", bodies(e.await(t, 20, arrival, stamp)), numbered("new", 20))
			e.owns(t, topic, arrival, map[string]int{last: 4})
			e.send(t, "name", e.producer, "topic", topic, "body", "last{i}", "count", 20)
			same(t, "last", bodies(e.await(t, 20, arrival, last)), numbered("last", 20))
		})
	}
	asked(t, c.broker, "SEND_MESSAGE")
}
