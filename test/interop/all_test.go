//go:build interop_all

package interop

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"gomq/test/harness"
)

// TestAllRestart: the broker restarts below each client version with each header form.
func TestAllRestart(t *testing.T) {
	needJava(t)
	c := startCluster(t, nil)
	for _, version := range clientVersions {
		for _, headers := range []string{"JSON", "ROCKETMQ"} {
			t.Run(version+"/"+headers, func(t *testing.T) { restart(t, c, []*env{newEnv(t, c, version, headers)}) })
		}
	}
}

// TestAllJavaBrokers: every client version works with every Java broker version
// through a gomq nameserver, with registrations plain and compressed.
func TestAllJavaBrokers(t *testing.T) {
	needJava(t)
	for i, broker := range javaBrokers {
		for _, zipped := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/compressed=%v", broker.version, zipped), func(t *testing.T) {
				ns := harness.StartNamesrv(t, gomqServer(nil))
				b := harness.StartBroker(t, ns.Addr(), javaServer(t, broker.version, map[string]string{"brokerName": brokerName(broker.version),
					"brokerFastFailureEnable": "false", "compressedRegister": fmt.Sprint(zipped)}))
				for j, version := range clientVersions {
					headers := []string{"JSON", "ROCKETMQ"}[(i+j)%2]
					t.Run(version+"/"+headers, func(t *testing.T) {
						through(t, startJava(t, version, headers, ns.Addr()), ns.Addr(), b)
					})
				}
			})
		}
	}
}

// TestAllJavaNamesrvs: every client version works with a gomq broker through every
// Java nameserver version, also after that nameserver was away.
func TestAllJavaNamesrvs(t *testing.T) {
	needJava(t)
	for i, version := range []string{"4.5.2", "4.9.7", "5.3.3"} {
		t.Run(version, func(t *testing.T) {
			ns := harness.StartNamesrv(t, javaServer(t, version, nil))
			broker := harness.StartBroker(t, ns.Addr(), gomqServer(map[string]string{"brokerFastFailureEnable": "false"}))
			var drivers []*driver
			for j, client := range clientVersions {
				d := startJava(t, client, []string{"JSON", "ROCKETMQ"}[(i+j)%2], ns.Addr())
				drivers = append(drivers, d)
				t.Run(client, func(t *testing.T) { through(t, d, ns.Addr(), broker) })
			}
			ns.Restart()
			n := dial(t, ns.Addr())
			defer n.Close()
			harness.Eventually(t, time.Minute, "a registration again", func() bool { return hasRoute(t, n, broker.Props["brokerName"]) })
			for _, d := range drivers {
				t.Run("again/"+d.name, func(t *testing.T) { through(t, d, ns.Addr(), broker) })
			}
		})
	}
}

// TestAllSides: nameservers of gomq and of Java side by side serve one cluster of
// a gomq and a Java broker; clients see the same through each.
func TestAllSides(t *testing.T) {
	needJava(t)
	own := harness.StartNamesrv(t, gomqServer(nil))
	java := harness.StartNamesrv(t, javaServer(t, "4.9.7", nil))
	both := own.Addr() + ";" + java.Addr()
	a := harness.StartBroker(t, both, javaServer(t, "4.9.7", map[string]string{"brokerName": "broker-java", "brokerFastFailureEnable": "false"}))
	b := harness.StartBroker(t, both, gomqServer(map[string]string{"brokerName": "broker-gomq", "brokerFastFailureEnable": "false"}))
	for _, version := range clientVersions {
		d := startJava(t, version, "JSON", both)
		for _, namesrv := range []string{own.Addr(), java.Addr(), both} {
			t.Run(version+"/"+strings.NewReplacer(own.Addr(), "gomq", java.Addr(), "java").Replace(namesrv), func(t *testing.T) {
				through(t, d, namesrv, a, b)
			})
		}
	}
}

// TestAllTLS: gomq and Java work with each other when everything is enforcing: a
// gomq broker registers with a Java nameserver, a Java broker with a gomq one,
// and a client that speaks TLS works with both. (On Java 17 a 4.5.2 server closes
// the TLS connections of a 4.9.8 client, so it is not among them.)
func TestAllTLS(t *testing.T) {
	needJava(t)
	enforcing := func(c harness.Config) harness.Config {
		if c.Kind == "java" {
			c.Env = append(c.Env, "JAVA_TOOL_OPTIONS=-Dtls.server.mode=enforcing")
			return c
		}
		if c.Props == nil {
			c.Props = map[string]string{}
		}
		c.Props["tls.server.mode"] = "enforcing"
		return c
	}
	fast := func(name string) map[string]string {
		return map[string]string{"brokerName": name, "brokerFastFailureEnable": "false"}
	}
	for _, version := range []string{"4.9.7", "5.3.3"} {
		t.Run(version, func(t *testing.T) {
			own, java := harness.StartNamesrv(t, enforcing(gomqServer(nil))), harness.StartNamesrv(t, enforcing(javaServer(t, version, nil)))
			both := own.Addr() + ";" + java.Addr()
			a := harness.StartBroker(t, both, enforcing(javaServer(t, version, fast("broker-java"))))
			b := harness.StartBroker(t, both, enforcing(gomqServer(fast("broker-gomq"))))
			d := startJava(t, "4.9.8", "JSON", both, "-Dtls.enable=true")
			for _, namesrv := range []string{own.Addr(), java.Addr()} {
				t.Run(strings.NewReplacer(own.Addr(), "gomq", java.Addr(), "java").Replace(namesrv), func(t *testing.T) {
					through(t, d, namesrv, a, b)
				})
			}
		})
	}
}

// TestMigrationFrom49 is the walk of docs/MIGRATION.md with 4.9.7.
func TestMigrationFrom49(t *testing.T) { migrate(t, "4.9.7") }
