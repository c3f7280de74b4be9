package e2e

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/apache/rocketmq-client-go/v2/producer"

	"gomq/test/checker"
	"gomq/test/goclient"
	"gomq/test/harness"
	"gomq/test/raw"
)

// whole waits until all brokers are registered everywhere and every slave has its
// master's log and counts.
func whole(t testing.TB, namesrv string, limit time.Duration) {
	t.Helper()
	var v harness.View
	defer func() {
		if t.Failed() {
			t.Logf("last seen: %+v", v)
		}
	}()
	harness.Eventually(t, limit, "the cluster is whole", func() bool {
		v = harness.Look(t, namesrv)
		if len(v.Problems) > 0 || len(v.Sets) != 2 {
			return false
		}
		for _, s := range v.Sets {
			if len(s.Brokers) != 2 || s.Brokers[1].Copy == nil {
				return false
			}
			if c := s.Brokers[1].Copy; c.InSync == nil || !*c.InSync {
				return false
			}
		}
		return true
	})
}

// retries of the client for one message. The Go client means to try another broker
// than the one that failed, but goes on to the next queue (v2.1.2, sendSync): with
// four queues a broker the fifth try is the first that is sure to reach another one.
const retries = 4

// seed is the user's cluster with a producer and what was seen of it.
type seed struct {
	*testing.T
	*harness.Seed
	flow    *goclient.Stream
	acked   [2]atomic.Int64 // by broker
	alone   atomic.Int64    // stored, and its slave was not there
	gate    chan struct{}   // of the group that reads late
	touched sync.Map        // group and queue: the group has begun to read it
}

// place makes the queues of both brokers different ones to the checker.
func place(broker string, queue int) int {
	return 100*strings.Index("ab", broker[len(broker)-1:]) + queue
}

// told counts what the producer is told.
func (s *seed) told(res *primitive.SendResult, err error) {
	switch {
	case err != nil:
	case res.Status == primitive.SendOK:
		s.acked[place(res.MessageQueue.BrokerName, 0)/100].Add(1)
	default:
		s.alone.Add(1)
	}
}

// more waits until so many more messages were acknowledged by a broker.
func (s *seed) more(broker int, n int64, limit time.Duration) {
	s.Helper()
	goal := s.acked[broker].Load() + n
	harness.Eventually(s, limit, fmt.Sprintf("%d more messages acknowledged by broker %d", n, broker), func() bool { return s.acked[broker].Load() >= goal })
}

// consume starts a group; what it gets is recorded. gate, if not nil, holds its
// messages back until it is closed.
func (s *seed) consume(group string, gate <-chan struct{}, opts ...consumer.Option) {
	record := s.flow.Collect(group)
	goclient.Push(s, s.Namesrv, group, s.flow.Topic, "*", func(ctx context.Context, msgs ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
		for _, m := range msgs {
			s.touched.Store(fmt.Sprint(group, " ", m.Queue.BrokerName, m.Queue.QueueId), true)
		}
		if gate != nil {
			<-gate
		}
		return record(ctx, msgs...)
	}, opts...)
}

// sweep reads all queues of two brokers.
func (s *seed) sweep(node string, brokers [2]*harness.Server) {
	s.Helper()
	for i, b := range brokers {
		goclient.SweepAt(s, s.flow.Run, node, dial(s, b.Addr()), s.flow.Topic, 4, 100*i)
	}
}

// answer is the code with which a broker answers a send that waits.
func (s *seed) answer(b *harness.Server) int {
	s.Helper()
	c := dial(s, b.Addr())
	c.Limit = 10 * time.Second
	r, err := c.Send("pg-raw", "SeedRaw", 0, raw.Props("WAIT", "true"), []byte("by hand"))
	if err != nil {
		s.Fatal(err)
	}
	return r.Code
}

// TestSeedCluster runs the user's files, with only addresses, ports and directories
// changed, through the failures that README.md walks through. Nothing that was
// acknowledged is lost, and each side sees what is promised.
func TestSeedCluster(t *testing.T) {
	harness.OnlyGomq(t)
	t.Parallel()
	s := &seed{T: t, Seed: harness.StartSeed(t, harness.SeedConfig{}), flow: &goclient.Stream{Run: checker.NewRun(harness.Rand(t)), Topic: "Seed", Place: place}}
	s.flow.Told = s.told
	whole(t, s.Namesrv, 60*time.Second)
	stop := s.flow.Start(t, s.Namesrv, 0, producer.WithRetry(retries))

	t.Run("Registered", func(t *testing.T) { s.T = t; s.registered() })
	s.consume("g-seed", nil)
	s.gate = make(chan struct{})
	s.consume("g-late", s.gate, consumer.WithPullThresholdForQueue(8), consumer.WithPullBatchSize(8), consumer.WithConsumeGoroutineNums(256))
	for _, part := range []struct {
		name string
		run  func()
	}{{"MasterKilled", s.masterKilled}, {"SlaveKilled", s.slaveKilled}, {"NameserversKilled", s.nameserversKilled}, {"HostKilled", s.hostKilled}} {
		if !t.Run(part.name, func(t *testing.T) { s.T = t; part.run() }) {
			break
		}
	}
	s.T = t
	stop()
	if t.Failed() {
		return
	}
	s.flow.Got(s, "g-seed", 90*time.Second)
	s.flow.Got(s, "g-late", 90*time.Second)
	whole(t, s.Namesrv, 60*time.Second)
	for i := range s.Masters {
		m, y := dial(t, s.Masters[i].Addr()), dial(t, s.Slaves[i].Addr())
		harness.Eventually(t, 30*time.Second, "the slave has its master's queues", func() bool { return end(t, m, s.flow.Topic, 4) == end(t, y, s.flow.Topic, 4) })
	}
	s.sweep("slaves", s.Slaves)
	s.sweep("masters", s.Masters)
	if v := s.flow.Run.Check(checker.Rules{Drained: true, Groups: []string{"g-seed", "g-late"}, Resends: retries, PlannedSends: 500, PlannedKills: 4}); !v.Valid() {
		t.Fatal(v)
	}
	t.Logf("%d sent, %d acknowledged by broker-a and %d by broker-b, %d stored without a slave, %d not known; %d deliveries",
		s.flow.Run.Count(checker.OpSend), s.acked[0].Load(), s.acked[1].Load(), s.alone.Load(), s.flow.Run.Count(checker.OpUnknown), s.flow.Run.Count(checker.OpPoll))
}

// registered: both nameservers know all four brokers; a topic made by a send is on
// both masters; every send is SEND_OK.
func (s *seed) registered() {
	s.more(0, 40, 60*time.Second)
	s.more(1, 40, 60*time.Second)
	s.flow.Unharmed(s, "with everybody there")
	if n := s.alone.Load(); n > 0 {
		s.Errorf("%d sends were answered without a slave", n)
	}
	for _, ns := range s.Names {
		r := waitRoute(s, ns.Addr(), s.flow.Topic)
		if len(r.QueueDatas) != 2 || len(r.BrokerDatas) != 2 {
			s.Fatalf("route at %s: %+v", ns.Addr(), r)
		}
		for _, b := range r.BrokerDatas {
			if len(b.BrokerAddrs) != 2 {
				s.Errorf("%s has addresses %v, want a master and a slave", b.BrokerName, b.BrokerAddrs)
			}
		}
		for _, q := range r.QueueDatas {
			if q.WriteQueueNums != 4 || q.ReadQueueNums != 4 {
				s.Errorf("%+v, want the user's 4 queues", q)
			}
		}
	}
}

// masterKilled: consumers read what the dead master had from its slave, producers
// go on with the other master.
func (s *seed) masterKilled() {
	s.more(0, 100, 60*time.Second)
	// The Go client asks masters only where to begin: a queue that it has not begun
	// to read before the master dies waits until the master is back.
	var read []string
	defer func() {
		if s.Failed() {
			s.Logf("read before the kill: %q", read)
		}
	}()
	harness.Eventually(s, 60*time.Second, "both groups read every queue", func() bool {
		read = read[:0]
		s.touched.Range(func(k, _ any) bool { read = append(read, k.(string)); return true })
		return len(read) == 2*2*4
	})
	at := time.Now()
	s.Masters[0].Kill()
	s.flow.Run.Killed("broker-a", "kill -9", at)
	s.more(1, 50, 60*time.Second)
	s.flow.Got(s, "g-seed", 60*time.Second)
	close(s.gate) // a group that has read nothing yet reads everything from the slave
	s.flow.Got(s, "g-late", 90*time.Second)
	s.flow.Unharmed(s, "with broker-a dead")
	c := dial(s, s.Slaves[0].Addr())
	if p, err := c.Pull("g-new", s.flow.Topic, 0, 0, 32, 0); err != nil || len(p.Records) == 0 {
		s.Errorf("a new group at the slave: %+v, %v", p, err)
	}
	if _, err := c.Send("pg-raw", s.flow.Topic, 0, "", []byte("x")); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("code %d", raw.NotAvailable)) {
		s.Errorf("a send to the slave: %v, want code %d", err, raw.NotAvailable)
	}
	if v := harness.Look(s, s.Namesrv); len(v.Problems) == 0 || !strings.Contains(strings.Join(v.Problems, "\n"), "broker-a has no living master") {
		s.Errorf("gomq cluster status says %q", v.Problems)
	}
	s.Masters[0].Start()
	whole(s, s.Namesrv, 60*time.Second)
	s.more(0, 20, 90*time.Second) // the client asks for the route every 30 s
	s.flow.Unharmed(s, "with broker-a back")
}

// slaveKilled: its master stores and says that the slave is not there, the other
// set does not notice.
func (s *seed) slaveKilled() {
	at := time.Now()
	s.Slaves[0].Kill()
	s.flow.Run.Killed("broker-a-s", "kill -9", at)
	harness.Eventually(s, 20*time.Second, "the master says SLAVE_NOT_AVAILABLE", func() bool { return s.answer(s.Masters[0]) == raw.SlaveNotAvailable })
	for range 5 {
		if code := s.answer(s.Masters[0]); code != raw.SlaveNotAvailable {
			s.Errorf("the master without a slave answers %d", code)
		}
		if code := s.answer(s.Masters[1]); code != raw.Success {
			s.Errorf("the other master answers %d", code)
		}
	}
	s.Slaves[0].Start()
	whole(s, s.Namesrv, 60*time.Second)
	harness.Eventually(s, 30*time.Second, "SEND_OK again", func() bool { return s.answer(s.Masters[0]) == raw.Success })
	s.more(0, 10, 90*time.Second)
	s.flow.Unharmed(s, "with a slave killed")
}

// nameserversKilled: with one or none of them clients go on; when they are back
// they know everything within 35 s.
func (s *seed) nameserversKilled() {
	at := time.Now()
	s.Names[0].Kill()
	s.flow.Run.Killed("nameserver 0", "kill -9", at)
	s.more(0, 30, 60*time.Second)
	s.more(1, 30, 60*time.Second)
	s.Names[1].Kill()
	s.more(0, 30, 60*time.Second)
	s.more(1, 30, 60*time.Second)
	s.flow.Got(s, "g-seed", 60*time.Second)
	for _, ns := range s.Names {
		ns.Start()
	}
	whole(s, s.Namesrv, 35*time.Second)
	for _, ns := range s.Names {
		if r := waitRoute(s, ns.Addr(), s.flow.Topic); len(r.BrokerDatas) != 2 {
			s.Errorf("route at %s: %+v", ns.Addr(), r)
		}
	}
	s.flow.Unharmed(s, "without nameservers")
}

// hostKilled: the master of the other host has lost its slave with the host, stores
// everything and says so each time.
func (s *seed) hostKilled() {
	at := time.Now()
	for _, x := range []*harness.Server{s.Names[1], s.Masters[1], s.Slaves[0]} {
		x.Kill()
	}
	s.flow.Run.Killed("host 1", "kill -9 of all three", at)
	harness.Eventually(s, 20*time.Second, "the master says SLAVE_NOT_AVAILABLE", func() bool { return s.answer(s.Masters[0]) == raw.SlaveNotAvailable })
	before := s.acked[0].Load() + s.acked[1].Load()
	for range 20 {
		if code := s.answer(s.Masters[0]); code != raw.SlaveNotAvailable {
			s.Errorf("the master that is left answers %d", code)
		}
	}
	alone := s.alone.Load()
	harness.Eventually(s, 60*time.Second, "the producer's messages are stored without a slave", func() bool { return s.alone.Load() >= alone+10 })
	if n := s.acked[0].Load() + s.acked[1].Load(); n != before {
		s.Errorf("%d sends were acknowledged though there was one copy only", n-before)
	}
	s.flow.Failed.Store(0) // a producer may fail until it has a new route
	for _, x := range []*harness.Server{s.Names[1], s.Masters[1], s.Slaves[0]} {
		x.Start()
	}
	whole(s, s.Namesrv, 60*time.Second)
	s.more(0, 20, 90*time.Second)
	s.more(1, 20, 90*time.Second)
}
