//go:build interop || interop_all

package interop

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"gomq/test/harness"
)

func TestMain(m *testing.M) {
	// The scenarios wait for clients most of the time, so many run side by side
	// whatever the number of processors.
	setParallel("16")
	if v, ok := strings.CutPrefix(os.Getenv("INTEROP_SERVER"), "java:"); ok {
		os.Setenv("GOMQ_TEST_SERVER", "java")
		serverVersion = v
	}
	harness.Main(m)
}

// serverVersion is the version of the Java original under test, "" for gomq.
var serverVersion string

// cluster is a nameserver and a broker.
type cluster struct {
	ns, broker *harness.Server
}

// startCluster starts the servers under test. Props are for the broker. It does
// not refuse a send that waited long on a busy machine: that is not under test here.
func startCluster(t testing.TB, props map[string]string) *cluster {
	t.Helper()
	c := harness.Config{Props: map[string]string{"brokerFastFailureEnable": "false"}}
	maps.Copy(c.Props, props)
	if serverVersion != "" {
		c.JavaLib = jars(t, "server", serverVersion)
	}
	ns := harness.StartNamesrv(t, harness.Config{JavaLib: c.JavaLib})
	return &cluster{ns: ns, broker: harness.StartBroker(t, ns.Addr(), c)}
}

// javaServer is the harness's configuration for a Java original of a version.
func javaServer(t testing.TB, version string, props map[string]string) harness.Config {
	t.Helper()
	return harness.Config{Kind: "java", JavaLib: jars(t, "server", version), Props: props}
}

// jvm is what every client's virtual machine is started with: small, quick to
// start, and with the openings that the Netty and fastjson of 4.5 need.
var jvm = []string{"-Xms64m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
	"--add-opens=java.base/java.lang=ALL-UNNAMED", "--add-opens=java.base/java.util=ALL-UNNAMED",
	"--add-opens=java.base/java.nio=ALL-UNNAMED", "--add-opens=java.base/sun.nio.ch=ALL-UNNAMED",
	"--add-exports=java.base/jdk.internal.ref=ALL-UNNAMED", "--add-opens=java.base/java.net=ALL-UNNAMED"}

// startJava starts a Java client program of a version, with JSON or ROCKETMQ
// headers, that asks the given nameservers. Options are for the virtual machine.
func startJava(t testing.TB, version, headers, namesrv string, options ...string) *driver {
	t.Helper()
	classes, lib, dir := classes(t, version), jars(t, "client", version), harness.Dir(t)
	args := slices.Concat(jvm, options)
	args = append(args, "-Duser.home="+dir, "-cp", classes+string(filepath.ListSeparator)+lib+"/*", "gomq.interop.Driver", namesrv)
	cmd := exec.Command("java", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "ROCKETMQ_SERIALIZE_TYPE="+headers)
	return launch(t, fmt.Sprintf("java-%s-%s", version, strings.ToLower(headers)), cmd)
}

// topic creates a topic through the administration client and waits until the
// nameserver tells its route.
func (c *cluster) topic(t testing.TB, d *driver, admin, what string, queues int) string {
	t.Helper()
	name := d.fresh(what)
	do[none](t, d, "createTopic", "name", admin, "addr", c.broker.Addr(), "topic", name, "read", queues, "write", queues)
	harness.Eventually(t, 15*time.Second, "the route of "+name, func() bool {
		return routed(t, d, admin, name, queues)
	})
	return name
}

// route is what examineTopicRouteInfo answers.
type route struct {
	Queues []struct {
		Broker string `json:"broker"`
		Read   int    `json:"read"`
		Write  int    `json:"write"`
		Perm   int    `json:"perm"`
	} `json:"queues"`
	Brokers []struct {
		Cluster string            `json:"cluster"`
		Broker  string            `json:"broker"`
		Addrs   map[string]string `json:"addrs"`
	} `json:"brokers"`
}
