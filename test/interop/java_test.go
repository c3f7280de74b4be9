//go:build interop || interop_all

package interop

import (
	"flag"
	"testing"
	"time"
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
	{"Rebalance", rebalance},
	{"Broadcast", broadcast},
	{"Continued", continued},
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
	c := startCluster(t, nil)
	for _, version := range clientVersions {
		for _, headers := range []string{"JSON", "ROCKETMQ"} {
			t.Run(version+"/"+headers, func(t *testing.T) {
				e := newEnv(t, c, version, headers)
				t.Run("Together", func(t *testing.T) {
					for _, s := range together {
						if s.name == "LitePull" && !hasLite(version) {
							continue // this client has none
						}
						t.Run(s.name, func(t *testing.T) {
							t.Parallel()
							s.run(t, e)
						})
					}
				})
			})
		}
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
			e := newEnv(t, c, version, "JSON")
			topic := e.topic(t, "where")
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
}
