package e2e

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/apache/rocketmq-client-go/v2/consumer"

	"gomq/test/checker"
	"gomq/test/goclient"
	"gomq/test/harness"
	"gomq/test/raw"
)

// pair starts a nameserver, a SYNC_MASTER and its slave, and waits until the slave
// counts.
func pair(t *testing.T) (ns, master, slave *harness.Server) {
	t.Helper()
	ns = harness.StartNamesrv(t, harness.Config{})
	master = harness.StartBroker(t, ns.Addr(), harness.Config{Props: map[string]string{"brokerRole": "SYNC_MASTER", "flushConsumerOffsetInterval": "1000"}})
	slave = harness.StartBroker(t, ns.Addr(), harness.Config{Props: map[string]string{"brokerRole": "SLAVE", "brokerId": "1", "flushConsumerOffsetInterval": "1000"}})
	copying(t, ns.Addr(), master)
	return ns, master, slave
}

// copying waits until sends to the master are copied.
func copying(t *testing.T, ns string, master *harness.Server) {
	t.Helper()
	c := dial(t, master.Addr())
	c.Limit = 10 * time.Second
	harness.Eventually(t, 60*time.Second, "the slave copies its master", func() bool {
		s, err := c.Send("pg", "Probe", 0, raw.Props("WAIT", "true"), []byte("x"))
		return err == nil && s.Code == raw.Success
	})
}

// TestOffsetsComeBack (T23): what is committed at the slave while its master is away
// is not lost when the master returns with what it knew before; a reset outranks it.
func TestOffsetsComeBack(t *testing.T) {
	harness.OnlyGomq(t)
	t.Parallel()
	ns, master, slave := pair(t)
	if err := dial(t, master.Addr()).NewTopic("Back", 1); err != nil {
		t.Fatal(err)
	}
	send := func(n int) {
		c := dial(t, master.Addr())
		c.Limit = 10 * time.Second
		for i := range n {
			if s, err := c.Send("pg", "Back", 0, raw.Props("WAIT", "true"), content(i, 100)); err != nil || s.Code != raw.Success {
				t.Fatalf("%+v, %v", s, err)
			}
		}
	}
	at := func(s *harness.Server) int64 {
		n, err := dial(t, s.Addr()).Committed("g-back", "Back", 0)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	commit := func(s *harness.Server, n int64) {
		if err := dial(t, s.Addr()).Commit("g-back", "Back", 0, n); err != nil {
			t.Fatal(err)
		}
	}
	send(100)
	if err := dial(t, master.Addr()).NewGroup("g-back"); err != nil {
		t.Fatal(err)
	}
	commit(master, 10)
	harness.Eventually(t, 30*time.Second, "the slave has the group's place", func() bool { return at(slave) == 10 })
	harness.Eventually(t, 10*time.Second, "the metric of the slave's tables", func() bool {
		n, ok := harness.ReadMetrics(t, slave.HTTP()).Sum("gomq_ha_tables_timestamp_seconds")
		return ok && time.Since(time.Unix(int64(n), 0)) < time.Minute
	})

	master.Kill()
	if p, err := dial(t, slave.Addr()).Pull("g-back", "Back", 0, 10, 32, 0); err != nil || len(p.Records) != 32 {
		t.Fatalf("the slave serves %+v, %v", p, err)
	}
	commit(slave, 60) // as Java's clients do when the master is not in the route
	master.Start()
	if n := at(master); n > 10 {
		t.Fatalf("the master is back at %d, before its slave has told it anything", n)
	}
	harness.Eventually(t, 30*time.Second, "the master has the place that was committed at the slave", func() bool { return at(master) == 60 })
	if n := at(slave); n != 60 {
		t.Errorf("the slave is at %d", n)
	}

	// A deliberate step back goes the other way, and a restart of either does not
	// undo it.
	commit(master, 5)
	harness.Eventually(t, 30*time.Second, "the slave steps back too", func() bool { return at(slave) == 5 })
	harness.Eventually(t, 10*time.Second, "the master has saved it", func() bool {
		return strings.Contains(readFile(t, master.Store()+"/config/consumerOffset.json"), "0:5")
	})
	master.Kill()
	master.Start()
	copying(t, ns.Addr(), master)
	if m, y := at(master), at(slave); m != 5 || y != 5 {
		t.Errorf("after the master's restart it is at %d and its slave at %d", m, y)
	}
	commit(slave, 70)
	slave.Restart()
	copying(t, ns.Addr(), master)
	harness.Eventually(t, 30*time.Second, "both agree", func() bool { return at(master) == at(slave) && at(slave) == 70 })
}

// TestTwoMastersOfOneName (T22): each of two nameservers sees one of them. When they
// see both, the second is refused and says so; what each has taken stays with it.
func TestTwoMastersOfOneName(t *testing.T) {
	harness.OnlyGomq(t)
	t.Parallel()
	ns := [2]*harness.Server{harness.StartNamesrv(t, harness.Config{}), harness.StartNamesrv(t, harness.Config{})}
	var masters [2]*harness.Server
	for i := range masters {
		masters[i] = harness.StartBroker(t, ns[i].Addr(), harness.Config{})
		c := dial(t, masters[i].Addr())
		if err := c.NewTopic("Split", 1); err != nil {
			t.Fatal(err)
		}
		for k := range 20 + i {
			if _, err := c.Send("pg", "Split", 0, "", []byte(fmt.Sprint(i, " ", k))); err != nil {
				t.Fatal(err)
			}
		}
	}
	both := ns[0].Addr() + ";" + ns[1].Addr()
	if v := harness.Look(t, both); len(v.Problems) != 2 || !strings.Contains(strings.Join(v.Problems, "\n"), "is known to") {
		t.Errorf("gomq cluster status says %q", v.Problems)
	}
	masters[1].Stop()
	masters[1].Props["namesrvAddr"] = both
	masters[1].Start()
	masters[1].WaitLine("a second one at .* is refused", 30*time.Second)
	ns[0].WaitLine("registration refused", 30*time.Second)
	for i := range masters {
		if who, err := raw.Named(ns[i].Addr(), "Split"); err != nil || len(who) != 1 || who["broker-a 0"] != masters[i].Addr() {
			t.Errorf("nameserver %d names %v, %v, want %s", i, who, err, masters[i].Addr())
		}
		recs, err := dial(t, masters[i].Addr()).Sweep("Split", 0)
		if err != nil || len(recs) != 20+i {
			t.Fatalf("master %d has %d messages, %v", i, len(recs), err)
		}
		for k, rec := range recs {
			if string(rec.Body) != fmt.Sprint(i, " ", k) {
				t.Errorf("master %d has %q at %d", i, rec.Body, k)
			}
		}
	}
	// The first one goes: the second takes its place.
	masters[0].Kill()
	harness.Eventually(t, 30*time.Second, "the route goes over", func() bool {
		who, err := raw.Named(ns[0].Addr(), "Split")
		return err == nil && len(who) == 1 && who["broker-a 0"] == masters[1].Addr()
	})
}

// TestNameserverFlaps (T24): a nameserver that stands still for longer than brokers
// may be silent loses none; a broker that stands still is lost and comes back; a
// nameserver that comes and goes knows everything in the end.
func TestNameserverFlaps(t *testing.T) {
	harness.OnlyGomq(t)
	t.Parallel()
	ns := harness.StartNamesrv(t, harness.Config{Props: map[string]string{"brokerExpiredTimeMillis": "12000", "scanNotActiveBrokerInterval": "1000"}})
	broker := func(name string) *harness.Server {
		return harness.StartBroker(t, ns.Addr(), harness.Config{Props: map[string]string{"brokerName": name, "registerNameServerPeriod": "10000"}})
	}
	a, b := broker("broker-a"), broker("broker-b")
	for _, s := range []*harness.Server{a, b} {
		if err := dial(t, s.Addr()).NewTopic("Flap", 1); err != nil {
			t.Fatal(err)
		}
	}
	known := func() bool {
		who, err := raw.Named(ns.Addr(), "Flap")
		return err == nil && len(who) == 2
	}
	if !known() {
		t.Fatal("the route does not have both brokers")
	}
	stop := func(s *harness.Server, span time.Duration) {
		s.Freeze()
		time.Sleep(span) // it is the time itself that is tested
		s.Signal(syscall.SIGCONT)
	}
	stop(ns, 14*time.Second)
	kept := harness.Watch(t, "after a nameserver stood still", func() error {
		if who, err := raw.Named(ns.Addr(), "Flap"); err != nil || len(who) != 2 {
			return fmt.Errorf("it names %v, %v", who, err)
		}
		return nil
	})
	time.Sleep(4 * time.Second) // it looks for silent brokers every second
	kept()
	stop(a, 14*time.Second)
	ns.WaitLine("broker expired", 10*time.Second)
	harness.Eventually(t, 20*time.Second, "the broker is back", known)
	for range 4 {
		ns.Kill()
		ns.Start()
	}
	harness.Eventually(t, 35*time.Second, "the nameserver knows everything", known)
	ns.Kill()
	if _, err := dial(t, a.Addr()).Send("pg", "Flap", 0, "", []byte("x")); err != nil {
		t.Errorf("without a nameserver: %v", err)
	}
}

// TestSlaveReads: with slaveReadEnable a master whose messages are no longer in memory
// sends consumers to its slave, which serves them.
func TestSlaveReads(t *testing.T) {
	harness.OnlyGomq(t)
	t.Parallel()
	props := func(role, id string) harness.Config {
		return harness.Config{Props: map[string]string{"brokerRole": role, "brokerId": id, "slaveReadEnable": "true", "accessMessageInMemoryMaxRatio": "0"}}
	}
	ns := harness.StartNamesrv(t, harness.Config{})
	master := harness.StartBroker(t, ns.Addr(), props("SYNC_MASTER", "0"))
	slave := harness.StartBroker(t, ns.Addr(), props("SLAVE", "1"))
	copying(t, ns.Addr(), master)
	w := &world{ns, master}
	topic := w.topic(t, "FromSlave")
	run := fill(t, w, topic, 400)
	if p, err := dial(t, master.Addr()).Pull("g", topic, 0, 0, 8, 0); err != nil || p.Suggest != 1 {
		t.Errorf("the master suggests %+v, %v, want broker 1", p, err)
	}
	harness.Eventually(t, 30*time.Second, "the slave knows the topic", func() bool {
		_, err := dial(t, slave.Addr()).Pull("g", topic, 0, 0, 8, 0)
		return err == nil
	})
	out := func(s *harness.Server) float64 {
		m := harness.ReadMetrics(t, s.HTTP())
		n, _ := m.Sum("rocketmq_messages_out_total")
		return n
	}
	before := out(slave)
	goclient.Push(t, ns.Addr(), "g-from-slave", topic, "*", goclient.Collect(run, "g-from-slave"), consumer.WithPullBatchSize(8))
	harness.Eventually(t, 60*time.Second, "400 messages delivered", func() bool { return run.Count(checker.OpPoll) >= 400 })
	if n := out(slave) - before; n < 200 {
		t.Errorf("the slave served %v of 400 messages, the master %v", n, out(master))
	}
}
