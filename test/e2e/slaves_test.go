package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"gomq/test/harness"
	"gomq/test/raw"
)

// TestTwoSlaves: a SYNC_MASTER with two slaves answers SEND_OK as long as one of them
// is there, and SLAVE_NOT_AVAILABLE without both; whoever was away gets everything.
func TestTwoSlaves(t *testing.T) {
	harness.OnlyGomq(t)
	t.Parallel()
	const topic = "Thrice"
	s := startSet(t, topic, map[string]string{"mappedFileSizeCommitLog": "65536"})
	second := harness.StartBroker(t, s.ns.Addr(), harness.Config{Props: map[string]string{"brokerRole": "SLAVE", "brokerId": "2", "mappedFileSizeCommitLog": "65536"}})
	slaves := []*harness.Server{s.slave, second}
	// shows waits until metrics and cluster status say which slaves copy the master.
	shows := func(n int, problem string) {
		t.Helper()
		var v harness.View
		var m float64
		defer func() {
			if t.Failed() {
				t.Logf("last seen: in sync %v, %+v", m, v)
			}
		}()
		harness.Eventually(t, 60*time.Second, fmt.Sprint(n, " slaves in sync"), func() bool {
			m, _ = harness.ReadMetrics(t, s.master.HTTP()).Sum("gomq_ha_in_sync_replicas")
			v = harness.Look(t, s.ns.Addr())
			if m != float64(n) || len(v.Sets) != 1 || len(v.Sets[0].Brokers) != n+1 {
				return false
			}
			for i, b := range v.Sets[0].Brokers[1:] {
				if c := b.Copy; c == nil || c.InSync == nil || !*c.InSync || c.LagBytes == nil || *c.LagBytes != 0 || c.LagMessages == nil || *c.LagMessages != 0 {
					return false
				}
				if n == 2 && (b.ID != int64(i+1) || b.Address != slaves[i].Addr()) {
					return false
				}
			}
			return len(v.Problems) == 0 && problem == "" || len(v.Problems) == 1 && problem != "" && strings.Contains(v.Problems[0], problem)
		})
	}
	sent := 0
	send := func(n, code int) {
		t.Helper()
		for range n {
			if got := s.send(t, topic, fmt.Sprintf("message %d %0300d", sent, sent)); got != code {
				t.Fatalf("message %d: code %d, want %d", sent, got, code)
			}
			sent++
		}
	}
	same := func(list ...*harness.Server) {
		t.Helper()
		for _, y := range list {
			if size := harness.SameLog(t, 30*time.Second, s.master, y); size < int64(sent)*300 {
				t.Errorf("only %d bytes were copied", size)
			}
		}
	}
	s.inSync(t, topic)
	shows(2, "")
	send(200, raw.Success)
	same(slaves...)

	for _, y := range slaves { // either of them will do
		y.Kill()
		shows(1, "")
		send(100, raw.Success)
		y.Start()
		shows(2, "")
		same(slaves...)
	}

	second.Kill()
	s.slave.Kill()
	shows(0, "no slave copies")
	send(20, raw.SlaveNotAvailable)
	s.slave.Start()
	second.Start()
	shows(2, "")
	send(20, raw.Success)
	same(slaves...)
}

// TestSwappedDisks: a slave that is started on the disk of another set's says so and
// follows nobody; what it was told of that set's topics and groups stays with it, so
// that no group of its master skips a message. Put right, all is as before.
func TestSwappedDisks(t *testing.T) {
	harness.OnlyGomq(t)
	t.Parallel()
	ns := harness.StartNamesrv(t, harness.Config{})
	const topic, own = "Swapped", "OnlyHere"
	var masters, slaves [2]*harness.Server
	var places = [2]int64{7, 30}
	for i := range masters {
		with := func(role, id string) harness.Config {
			return harness.Config{Props: map[string]string{"brokerName": "broker-" + "ab"[i:i+1], "brokerRole": role, "brokerId": id}}
		}
		masters[i] = harness.StartBroker(t, ns.Addr(), with("SYNC_MASTER", "0"))
		slaves[i] = harness.StartBroker(t, ns.Addr(), with("SLAVE", "1"))
		copying(t, ns.Addr(), masters[i])
		c := dial(t, masters[i].Addr())
		for _, name := range []string{topic, fmt.Sprint(own, i)} {
			if err := c.NewTopic(name, 1); err != nil {
				t.Fatal(err)
			}
			for k := range 40 {
				if got, err := c.Send("pg", name, 0, raw.Props("WAIT", "true"), content(100*i+k, 200)); err != nil || got.Code != raw.Success {
					t.Fatalf("%+v, %v", got, err)
				}
			}
		}
		if _, err := c.Do(raw.CreateGroup, nil, []byte(`{"groupName":"g-swap","consumeEnable":true,"retryMaxTimes":16,"retryQueueNums":1}`)); err != nil {
			t.Fatal(err)
		}
		if err := c.Commit("g-swap", topic, 0, places[i]); err != nil {
			t.Fatal(err)
		}
	}
	at := func(s *harness.Server) int64 {
		n, err := dial(t, s.Addr()).Committed("g-swap", topic, 0)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	agree := func() {
		t.Helper()
		for i := range slaves {
			harness.Eventually(t, 30*time.Second, "the slave has the group's place", func() bool { return at(slaves[i]) == places[i] && at(masters[i]) == places[i] })
		}
	}
	swap := func() {
		t.Helper()
		for _, y := range slaves {
			y.Stop()
		}
		other := slaves[0].Store() + ".other"
		for _, move := range [][2]string{{slaves[0].Store(), other}, {slaves[1].Store(), slaves[0].Store()}, {other, slaves[1].Store()}} {
			if err := os.Rename(move[0], move[1]); err != nil {
				t.Fatal(err)
			}
		}
		for _, y := range slaves {
			y.Start()
		}
	}
	agree()
	swap()
	for i, y := range slaves {
		y.WaitLine("this slave does not follow its master and keeps its data", 30*time.Second)
		y.WaitLine("topics, groups and offsets do not come from the master.*does not copy its master", 30*time.Second)
		if m, was := at(masters[i]), at(y); m != places[i] || was != places[1-i] {
			t.Errorf("set %d: the master's group is at %d, want %d; its slave's at %d, want %d", i, m, places[i], was, places[1-i])
		}
		if recs, err := dial(t, y.Addr()).Sweep(fmt.Sprint(own, 1-i), 0); err != nil || len(recs) != 40 {
			t.Errorf("slave %d has %d messages of the topic that was on its disk, %v", i, len(recs), err)
		}
	}
	if v := harness.Look(t, ns.Addr()); strings.Count(strings.Join(v.Problems, "\n"), "does not copy its master: the two logs differ") != 2 {
		t.Errorf("gomq cluster status says %q", v.Problems)
	}
	swap()
	whole(t, ns.Addr(), 60*time.Second)
	agree()
}
