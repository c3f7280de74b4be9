package e2e

import (
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"

	"gomq/test/harness"
	"gomq/test/raw"
)

// set is a nameserver, a master and its slave, as the user runs them.
type set struct {
	ns, master, slave *harness.Server
	c                 *raw.Conn // to the master
}

// startSet starts a set with a topic of one queue. Props are for both brokers.
func startSet(t *testing.T, topic string, props map[string]string) *set {
	t.Helper()
	s := &set{ns: harness.StartNamesrv(t, harness.Config{})}
	with := func(more map[string]string) harness.Config {
		for k, v := range props {
			more[k] = v
		}
		return harness.Config{Props: more}
	}
	s.master = harness.StartBroker(t, s.ns.Addr(), with(map[string]string{"brokerRole": "SYNC_MASTER", "flushDiskType": "SYNC_FLUSH", "slaveTimeout": "1500"}))
	s.slave = harness.StartBroker(t, s.ns.Addr(), with(map[string]string{"brokerRole": "SLAVE", "brokerId": "1"}))
	s.c = dial(t, s.master.Addr())
	if err := s.c.NewTopic(topic, 1); err != nil {
		t.Fatal(err)
	}
	return s
}

// send sends one message, which must be stored, and returns the code.
func (s *set) send(t *testing.T, topic, body string) int {
	t.Helper()
	got, err := s.c.Send("pg", topic, 0, raw.Props("WAIT", "true"), []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	return got.Code
}

// inSync waits until a send is told OK, which means that the slave counts.
func (s *set) inSync(t *testing.T, topic string) {
	t.Helper()
	harness.Eventually(t, 30*time.Second, "SEND_OK with a slave", func() bool { return s.send(t, topic, "in sync?") == raw.Success })
}

// TestSyncMasterAndSlave: the user's set of two. With its slave the master says
// SEND_OK, without it never; a slave that was away gets what it missed; both logs
// are the same files; after the master was killed nothing that was told OK is
// missing on either side; the slave, asked alone, serves it.
func TestSyncMasterAndSlave(t *testing.T) {
	t.Parallel()
	const topic = "Replicated"
	s := startSet(t, topic, map[string]string{"mappedFileSizeCommitLog": "65536"})
	s.inSync(t, topic)
	told := 0
	for i := range 200 {
		if code := s.send(t, topic, fmt.Sprintf("told ok %d %0800d", told, i)); code != raw.Success {
			t.Fatalf("message %d: code %d\n%s\n%s", i, code, s.master.Log(), s.slave.Log())
		}
		told++
	}
	if size := harness.SameLog(t, 20*time.Second, s.master, s.slave); size < 200*800 {
		t.Errorf("only %d bytes were copied", size)
	}
	if v, ok := harness.ReadMetrics(t, s.master.HTTP()).Sum("gomq_ha_in_sync_replicas"); !ok || v != 1 {
		t.Errorf("gomq_ha_in_sync_replicas is %v, %v", v, ok)
	}

	s.slave.ExpectExit()
	s.slave.Kill()
	for i := range 20 {
		if code := s.send(t, topic, fmt.Sprint("without a slave ", i)); code != raw.SlaveNotAvailable && code != raw.FlushSlaveTimeout {
			t.Fatalf("without a slave: code %d", code)
		}
	}
	s.slave.Start()
	s.inSync(t, topic)
	harness.SameLog(t, 20*time.Second, s.master, s.slave)

	// A slave that hangs is waited for, slaveTimeout and no longer.
	s.slave.Freeze()
	begun := time.Now()
	if code := s.send(t, topic, "the slave hangs"); code != raw.FlushSlaveTimeout {
		t.Errorf("with a slave that hangs: code %d", code)
	}
	if took := time.Since(begun); took < 1500*time.Millisecond {
		t.Errorf("answered after %v", took)
	}
	s.slave.Signal(syscall.SIGCONT)
	s.inSync(t, topic)

	s.master.ExpectExit()
	s.master.Kill()
	s.master.Start()
	s.c = dial(t, s.master.Addr())
	s.inSync(t, topic)
	harness.SameLog(t, 20*time.Second, s.master, s.slave)

	// A slave that has lost its disk gets all of the log, not its last file only.
	s.slave.Stop()
	if err := os.RemoveAll(s.slave.Store()); err != nil {
		t.Fatal(err)
	}
	s.slave.Start()
	s.inSync(t, topic)
	if size := harness.SameLog(t, 20*time.Second, s.master, s.slave); size < 200*800 {
		t.Errorf("a new slave has only %d bytes", size)
	}
	for name, b := range map[string]*harness.Server{"master": s.master, "slave": s.slave} {
		harness.Eventually(t, 20*time.Second, "the "+name+" has what was told OK", func() bool { // the slave has to hear of the topic
			list, err := dial(t, b.Addr()).Sweep(topic, 0)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			found := 0
			for _, r := range list {
				if len(r.Body) > 7 && string(r.Body[:7]) == "told ok" {
					found++
				}
			}
			return found == told
		})
	}
}
