//go:build interop || interop_all

package interop

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"gomq/test/harness"
	"gomq/test/raw"
)

// migration is the user's cluster on its way from RocketMQ 4.5.2 to gomq and back,
// with clients of 4.5.2 that are never stopped.
type migration struct {
	*testing.T
	*harness.Seed
	d                         *driver
	producer, consumer, topic string
	sent                      []string // bodies that were answered SEND_OK
}

// TestMigration walks docs/MIGRATION.md: one process at a time becomes gomq, and then
// RocketMQ again. At each step producers go on, consumers get everything, and `gomq
// cluster status` says when the next one may follow.
func TestMigration(t *testing.T) {
	needJava(t)
	t.Parallel()
	const from = "4.5.2"
	m := &migration{T: t}
	m.Seed = harness.StartSeed(t, harness.SeedConfig{Kind: "java", JavaLib: jars(t, "server", from), Hosts: [2]string{"127.0.0.1", "127.0.0.1"},
		Props: map[string]string{"registerNameServerPeriod": "10000"}}) // 30 s are not under test
	m.copies()
	m.d = startJava(t, from, "JSON", m.Namesrv)
	m.producer, m.consumer, m.topic = m.d.fresh("producer"), m.d.fresh("c"), m.d.fresh("moved")
	do[none](t, m.d, "producer", "name", m.producer, "namesrv", m.Namesrv)
	m.send("begin", true)
	do[none](t, m.d, "push", "name", m.consumer, "namesrv", m.Namesrv, "topic", m.topic, "group", m.d.fresh("g"))
	m.arrived("at the beginning")

	forward := []struct {
		name   string
		server *harness.Server
	}{
		{"nameserver-1", m.Names[0]}, {"nameserver-2", m.Names[1]},
		{"slave-of-broker-b", m.Slaves[1]}, {"slave-of-broker-a", m.Slaves[0]},
		{"broker-a", m.Masters[0]}, {"broker-b", m.Masters[1]},
	}
	for _, step := range forward {
		if !t.Run("To-gomq/"+step.name, func(t *testing.T) { m.T = t; m.move(step.name, step.server, "gomq") }) {
			return
		}
	}
	m.stepBack()
	slices.Reverse(forward)
	for _, step := range forward {
		if !t.Run("Back/"+step.name, func(t *testing.T) { m.T = t; m.move(step.name, step.server, from) }) {
			return
		}
	}
	m.T = t
	m.steppedBack()
	t.Logf("%d messages answered SEND_OK, all received", len(m.sent))
}

// move is one step: the process is stopped, the other kind is started on its files,
// and the cluster is whole again.
func (m *migration) move(name string, s *harness.Server, kind string) {
	s.Stop()
	m.send(fmt.Sprint("without-", name, "-", kind), false)
	become(m, s, kind)
	s.Start()
	m.copies()
	m.send(fmt.Sprint("with-", name, "-", kind), true)
	m.arrived(fmt.Sprintf("with %s as %s", name, kind))
}

// send sends some messages. Each is stored; strict: in two copies, otherwise a
// master may say that its slave is not there.
func (m *migration) send(what string, strict bool) {
	m.Helper()
	for i, r := range do[struct{ Results []sent }](m, m.d, "send", "name", m.producer, "topic", m.topic, "body", what+"-{i}", "count", 24).Results {
		switch {
		case r.Status == "SEND_OK":
			m.sent = append(m.sent, fmt.Sprint(what, "-", i))
		case strict || r.Status != "SLAVE_NOT_AVAILABLE" && r.Status != "FLUSH_SLAVE_TIMEOUT":
			m.Errorf("%s, message %d: status %q, code %d, error %q", what, i, r.Status, r.Code, r.Error)
		}
	}
}

// arrived waits until the consumer has everything that was answered SEND_OK.
func (m *migration) arrived(when string) {
	m.Helper()
	var missing []string
	defer func() {
		if len(missing) > 0 {
			m.Logf("%s these are missing: %.300q", when, missing)
		}
	}()
	harness.Eventually(m, 90*time.Second, when+" the consumer has everything", func() bool {
		has := map[string]bool{}
		for _, r := range m.d.received(m.consumer) {
			has[string(r.Body)] = true
		}
		missing = slices.DeleteFunc(slices.Clone(m.sent), func(b string) bool { return has[b] })
		return len(missing) == 0
	})
}

// copies waits until both nameservers know all four brokers and each master answers
// SEND_OK, which says that its slave has the message.
func (m *migration) copies() {
	m.Helper()
	var v harness.View
	defer func() {
		if m.Failed() {
			m.Logf("last seen: %+v", v)
		}
	}()
	harness.Eventually(m, 90*time.Second, "gomq cluster status finds nothing wrong", func() bool {
		v = harness.Look(m, m.Namesrv)
		return len(v.Problems) == 0 && len(v.Sets) == 2 && len(v.Sets[0].Brokers) == 2 && len(v.Sets[1].Brokers) == 2
	})
	for _, s := range m.Masters {
		c := dial(m, s.Addr())
		c.Limit = 20 * time.Second
		harness.Eventually(m, 60*time.Second, "a copy of what "+s.Props["brokerName"]+" takes", func() bool {
			r, err := c.Send("pg-probe", "Probe-"+strings.TrimPrefix(s.Props["brokerName"], "broker-"), 0, raw.Props("WAIT", "true"), []byte("x"))
			return err == nil && r.Code == raw.Success
		})
		c.Close()
	}
}

// stepBack has a group go back on both masters, which gomq notes in the file of the
// offsets. RocketMQ reads them all the same.
func (m *migration) stepBack() {
	for _, s := range m.Masters {
		c := dial(m, s.Addr())
		for _, at := range []int64{2, 1} {
			if err := c.Commit("g-stepped", m.topic, 0, at); err != nil {
				m.Fatal(err)
			}
		}
		c.Close()
	}
}

func (m *migration) steppedBack() {
	for _, s := range append(m.Masters[:], m.Slaves[:]...) {
		c := dial(m, s.Addr())
		harness.Eventually(m, 30*time.Second, "the group stands where it went back to", func() bool {
			at, err := c.Committed("g-stepped", m.topic, 0)
			return err == nil && at == 1
		})
		c.Close()
	}
}
