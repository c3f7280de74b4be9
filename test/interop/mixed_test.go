//go:build interop || interop_all

package interop

import (
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"gomq/test/harness"
)

// gomqServer is the configuration of a gomq process, whatever INTEROP_SERVER says.
func gomqServer(props map[string]string) harness.Config {
	return harness.Config{Kind: "gomq", Props: props}
}

// brokerName is one for a broker of a version: letters, digits and dashes only.
func brokerName(version string) string {
	return "broker-" + strings.ReplaceAll(version, ".", "")
}

// through starts a producer, an administration client and a consumer that ask the
// nameserver, has messages go through the brokers with a new topic on each of
// them, and stops the clients again.
func through(t *testing.T, d *driver, namesrv string, brokers ...*harness.Server) {
	t.Helper()
	producer, admin, consumer, topic := d.fresh("producer"), d.fresh("admin"), d.fresh("c"), d.fresh("mixed")
	do[none](t, d, "admin", "name", admin, "namesrv", namesrv)
	for _, b := range brokers {
		do[none](t, d, "createTopic", "name", admin, "addr", b.Addr(), "topic", topic, "read", 4, "write", 4)
	}
	want := map[string]string{}
	for _, b := range brokers {
		want[b.Props["brokerName"]] = b.Addr()
	}
	harness.Eventually(t, arrival, "the route over all brokers", func() bool {
		if !routed(t, d, admin, topic, 4) {
			return false
		}
		r := do[route](t, d, "route", "name", admin, "topic", topic)
		return len(r.Queues) == len(want) && len(r.Brokers) == len(want) &&
			!slices.ContainsFunc(r.Brokers, func(b struct {
				Cluster string            `json:"cluster"`
				Broker  string            `json:"broker"`
				Addrs   map[string]string `json:"addrs"`
			}) bool {
				return b.Addrs["0"] != want[b.Broker]
			})
	})

	do[none](t, d, "producer", "name", producer, "namesrv", namesrv)
	do[none](t, d, "push", "name", consumer, "namesrv", namesrv, "topic", topic, "group", d.fresh("g"))
	results := d.send(t, "name", producer, "topic", topic, "body", "m{i}", "keys", "k{i}", "count", 40)
	all := d.await(t, 40, arrival, consumer)
	same(t, "bodies", bodies(all), numbered("m", 40))
	count := map[string]int{}
	for _, r := range results {
		count[r.Queue.Broker]++
	}
	for name := range want {
		if count[name] < 40/len(want)-8 {
			t.Errorf("of 40 messages these went to the brokers: %v", count)
		}
	}
	m := do[struct{ Message message }](t, d, "view", "name", admin, "topic", topic, "msgId", results[17].OffsetMsgID).Message
	same(t, "by id", string(m.Body), "m17")
	for _, name := range []string{consumer, producer, admin} {
		do[none](t, d, "stop", "name", name)
	}
}

// gone waits until the nameserver has no route for the topic any more.
func gone(t testing.TB, namesrv, topic string) {
	t.Helper()
	n := dial(t, namesrv)
	defer n.Close()
	harness.Eventually(t, 15*time.Second, "the end of the route of "+topic, func() bool { return !hasRoute(t, n, topic) })
}

// javaBrokers are the brokers that register with a gomq nameserver: what the user
// runs today, 4.9 with a compressed registration, and the newest.
var javaBrokers = []struct {
	version string
	props   map[string]string
}{
	{"4.5.2", nil},
	{"4.9.7", map[string]string{"compressedRegister": "true"}},
	{"5.3.3", nil},
}

// TestJavaBrokerAtGomqNamesrv: Java brokers register with a gomq nameserver, a
// Java client works with them through it, alone and beside a gomq broker in the
// same cluster, and they leave when they stop.
func TestJavaBrokerAtGomqNamesrv(t *testing.T) {
	needJava(t)
	ns := harness.StartNamesrv(t, gomqServer(nil))
	d := startJava(t, "4.9.8", "JSON", ns.Addr())
	own := harness.StartBroker(t, ns.Addr(), gomqServer(map[string]string{"brokerName": "broker-gomq", "brokerFastFailureEnable": "false"}))
	for _, b := range javaBrokers {
		t.Run(b.version, func(t *testing.T) {
			props := map[string]string{"brokerName": brokerName(b.version), "brokerFastFailureEnable": "false"}
			for k, v := range b.props {
				props[k] = v
			}
			broker := harness.StartBroker(t, ns.Addr(), javaServer(t, b.version, props))
			through(t, d, ns.Addr(), broker)
			through(t, d, ns.Addr(), broker, own)
			broker.Signal(syscall.SIGTERM)
			broker.Wait(time.Minute)                  // 5.3.3 takes more than 15 s
			gone(t, ns.Addr(), brokerName(b.version)) // every broker has a topic of its own name
		})
	}
}

// TestGomqBrokerAtJavaNamesrv: a gomq broker registers with nameservers of three
// versions at the same time, and a Java client works with it through each.
func TestGomqBrokerAtJavaNamesrv(t *testing.T) {
	needJava(t)
	var addrs []string
	for _, version := range []string{"4.5.2", "4.9.7", "5.3.3"} {
		addrs = append(addrs, harness.StartNamesrv(t, javaServer(t, version, nil)).Addr())
	}
	broker := harness.StartBroker(t, strings.Join(addrs, ";"), gomqServer(map[string]string{"brokerFastFailureEnable": "false"}))
	d := startJava(t, "4.9.8", "ROCKETMQ", addrs[0])
	for i, version := range []string{"4.5.2", "4.9.7", "5.3.3"} {
		t.Run(version, func(t *testing.T) { through(t, d, addrs[i], broker) })
	}
	broker.Stop()
	for _, addr := range addrs {
		gone(t, addr, "broker-a")
	}
}
