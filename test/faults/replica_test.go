//go:build faults

package faults

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"gomq/test/harness"
	"gomq/test/raw"
)

// TestT20Replication kills a SYNC_MASTER and its slave in turn, at random and at
// the fail points of log shipping, while messages are sent. Every message that was
// told OK is on both afterwards, and the two logs are the same.
func TestT20Replication(t *testing.T) {
	harness.OnlyGomq(t)
	t.Parallel()
	const topic = "Copied"
	rng := harness.Rand(t)
	bin := harness.Build(t, "failpoints")
	ns := harness.StartNamesrv(t, harness.Config{Bin: bin})
	start := func(props map[string]string) *harness.Server {
		props["mappedFileSizeCommitLog"], props["slaveTimeout"], props["haSendHeartbeatInterval"] = "262144", "500", "200"
		return harness.StartBroker(t, ns.Addr(), harness.Config{Bin: bin, Props: props})
	}
	master := start(map[string]string{"brokerRole": "SYNC_MASTER"})
	slave := start(map[string]string{"brokerRole": "SLAVE", "brokerId": "1"})
	if err := dial(t, master.Addr()).NewTopic(topic, 1); err != nil {
		t.Fatal(err)
	}
	told := map[string]bool{}
	n := 0
	// some sends until there have been most answers OK, or the master is gone.
	some := func(most int, limit time.Duration) {
		c, err := raw.Dial(master.Addr())
		if err != nil {
			return
		}
		defer c.Close()
		for ok, end := 0, time.Now().Add(limit); ok < most && time.Now().Before(end); {
			n++
			body := fmt.Sprintf("%d %0*d", n, rng.IntN(4000), 0)
			s, err := c.Send("pg", topic, 0, raw.Props("WAIT", "true"), []byte(body))
			var code *raw.CodeError
			if errors.As(err, &code) {
				t.Fatal(err)
			}
			if err != nil {
				return
			}
			if s.Code == raw.Success {
				told[body] = true
				ok++
			} else {
				time.Sleep(5 * time.Millisecond)
			}
		}
	}
	kills := []struct {
		who   *harness.Server
		point string
	}{{master, "haSend"}, {slave, ""}, {master, "haAck"}, {slave, "afterAppend"}, {master, ""}, {slave, "dispatch"}, {master, "beforeAck"}, {slave, "fileRoll"}, {master, "fileRoll"}, {slave, "checkpoint"}}
	for i, k := range kills {
		some(20, 30*time.Second)
		if k.point != "" {
			k.who.ExpectExit()
			k.who.Kill()
			k.who.Env = []string{fmt.Sprintf("GOMQ_FAILPOINTS=%s=%d", k.point, 1+rng.IntN(10))}
			k.who.Start()
		}
		k.who.ExpectExit()
		before := len(told)
		if k.point == "" {
			some(30, 20*time.Second)
			k.who.Kill()
		} else {
			for end := time.Now().Add(20 * time.Second); k.who.Running() && time.Now().Before(end); {
				some(10, time.Second)
			}
			if !died(k.who, k.point) {
				t.Errorf("kill %d: the fail point %s was not reached\n%s", i, k.point, k.who.Log())
				k.who.Kill()
			}
		}
		t.Logf("kill %d of %s at %q: %d told OK before it, %d meanwhile", i, k.who.Props["brokerRole"], k.point, before, len(told)-before)
		if k.who == slave {
			some(5, 100*time.Millisecond) // without it
		}
		k.who.Env = nil
		k.who.Start()
	}
	some(20, 30*time.Second)
	harness.SameLog(t, 30*time.Second, master, slave)
	if len(told) < 20*len(kills) {
		t.Errorf("only %d of %d messages were told OK", len(told), n)
	}
	for _, b := range []*harness.Server{master, slave} {
		list, err := dial(t, b.Addr()).Sweep(topic, 0)
		if err != nil {
			t.Fatal(err)
		}
		has := map[string]bool{}
		for _, r := range list {
			has[string(r.Body)] = true
		}
		for body := range told {
			if !has[body] {
				t.Errorf("%s lacks message %.10q, which was told OK", b.Props["brokerRole"], body)
			}
		}
		if code := b.Stop(); code != 0 {
			t.Errorf("exit code %d\n%s", code, b.Log())
		}
		verify(t, b)
	}
}
