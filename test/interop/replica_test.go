//go:build interop || interop_all

package interop

import (
	"fmt"
	"testing"
	"time"

	"gomq/test/harness"
	"gomq/test/raw"
)

// TestReplicationWithJava: a gomq slave of a Java master and a Java slave of a gomq
// master, 4.5.2 and 4.9.7. The SYNC_MASTER says SEND_OK once the slave has the
// message, the commit logs are the same files byte for byte, over several file
// ends, and the slave serves what its master took.
func TestReplicationWithJava(t *testing.T) {
	needJava(t)
	for _, version := range []string{"4.5.2", "4.9.7"} {
		for _, leads := range []string{"java", "gomq"} {
			t.Run(version+"/"+leads+"-master", func(t *testing.T) {
				t.Parallel()
				ns := harness.StartNamesrv(t, gomqServer(nil))
				config := func(role string, id int) harness.Config {
					// A Java slave of 4.5.2 takes nothing when the two file sizes differ.
					props := map[string]string{"brokerRole": role, "brokerId": fmt.Sprint(id), "mappedFileSizeCommitLog": "65536", "slaveTimeout": "5000",
						"brokerFastFailureEnable": "false", "haSendHeartbeatInterval": "500"}
					if (role == "SLAVE") == (leads == "gomq") {
						return javaServer(t, version, props)
					}
					return gomqServer(props)
				}
				master := harness.StartBroker(t, ns.Addr(), config("SYNC_MASTER", 0))
				slave := harness.StartBroker(t, ns.Addr(), config("SLAVE", 1))
				replicate(t, master, slave)
			})
		}
	}
}

// replicate has a slave follow its master, and then once more after each of the two
// was away.
func replicate(t *testing.T, master, slave *harness.Server) {
	const topic = "Replicated"
	c := dial(t, master.Addr())
	harness.Eventually(t, arrival, "the topic", func() bool { return c.NewTopic(topic, 1) == nil })
	n := 0
	send := func() int {
		n++
		s, err := c.Send("pg", topic, 0, raw.Props("WAIT", "true", "KEYS", fmt.Sprint("k", n)), fmt.Appendf(nil, "message %d %0*d", n, n%3000, 0))
		if err != nil {
			t.Fatalf("message %d: %v\n%s", n, err, master.Log())
		}
		return s.Code
	}
	inSync := func() {
		t.Helper()
		harness.Eventually(t, time.Minute, "SEND_OK with a slave", func() bool { return send() == raw.Success })
	}
	inSync()
	for range 150 {
		if code := send(); code != raw.Success {
			t.Fatalf("message %d: code %d\n%s\n%s", n, code, master.Log(), slave.Log())
		}
	}
	harness.SameLog(t, time.Minute, master, slave)

	slave.Restart()
	inSync()
	harness.SameLog(t, time.Minute, master, slave)
	master.Restart()
	c = dial(t, master.Addr())
	inSync()
	harness.SameLog(t, time.Minute, master, slave)

	s := dial(t, slave.Addr())
	harness.Eventually(t, arrival, "all messages on the slave", func() bool {
		list, err := s.Sweep(topic, 0)
		if err != nil || len(list) < n {
			return false
		}
		return true
	})
}
