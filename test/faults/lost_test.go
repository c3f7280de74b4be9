//go:build faults

package faults

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"

	"gomq/test/checker"
	"gomq/test/goclient"
	"gomq/test/harness"
	"gomq/test/raw"
)

// TestT23FailoverRead: a master is lost under load, by kill -9 or with its host, whose
// silence tells nobody anything. Its slave has every message that a SYNC_MASTER told
// OK, and of an ASYNC_MASTER's all but the bytes that it said it was behind; consumers
// read and commit there. When the master is back, with the offsets that it had, it is
// given the newer ones, and nobody's place ever falls.
func TestT23FailoverRead(t *testing.T) {
	harness.OnlyGomq(t)
	t.Parallel()
	killed := func(s *lostMaster) (lose, back func()) { return s.master.Kill, s.master.Start }
	unplugged := func(s *lostMaster) (lose, back func()) { return s.near.unplug, s.near.plug }
	for _, c := range []struct {
		name, role string
		ways       func(*lostMaster) (lose, back func())
	}{
		{"Killed", "SYNC_MASTER", killed},
		{"HostLost", "SYNC_MASTER", unplugged},
		{"HostOfAsyncLost", "ASYNC_MASTER", unplugged},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := startLost(t, c.role)
			s.lose, s.back = c.ways(s)
			s.play(t, c.name == "Killed")
		})
	}
}

const (
	byHand   = "g-by-hand" // reads and commits where the route says, as Java's consumers do
	byClient = "g-client"  // of the Go client, which reads from slaves and commits at masters
)

// lostMaster is a set of two that loses its master.
type lostMaster struct {
	*traffic
	role          string
	near, far     *host
	ns            *harness.Server
	master, slave *harness.Server
	lose, back    func()
	at            [wireProducers]int64 // where byHand is
}

func startLost(t *testing.T, role string) *lostMaster {
	w := newNetwork(t)
	s := &lostMaster{role: role, near: w.host(2), far: w.host(3)}
	names := forgetful()
	names["httpHost"] = w.addr
	s.ns = harness.StartNamesrv(t, harness.Config{Host: w.addr, Props: names})
	start := func(h *host, role, id string) *harness.Server {
		return harness.StartBroker(t, s.ns.Addr(), h.broker(eager(map[string]string{"brokerRole": role, "brokerId": id, "mappedFileSizeCommitLog": "1048576",
			"slaveTimeout": "2000", "haSendHeartbeatInterval": "200", "flushConsumerOffsetInterval": "500"})))
	}
	s.master, s.slave = start(s.near, role, "0"), start(s.far, "SLAVE", "1")
	c := dial(t, s.master.Addr())
	if err := c.NewTopic(wireTopic, wireProducers); err != nil {
		t.Fatal(err)
	}
	if err := c.NewGroup(byHand); err != nil {
		t.Fatal(err)
	}
	s.traffic = &traffic{t: t, run: checker.NewRun(harness.Rand(t)), addr: s.master.Addr(), mortal: true}
	s.inSync(t)
	return s
}

func (s *lostMaster) inSync(t testing.TB) {
	t.Helper()
	harness.Eventually(t, 60*time.Second, "the master has its slave", func() bool {
		v, _ := harness.ReadMetrics(t, s.master.HTTP()).Sum("gomq_ha_in_sync_replicas")
		return v == 1
	})
}

// told waits until so many more messages have been told OK.
func (s *lostMaster) told(t testing.TB, n int) {
	t.Helper()
	from := time.Now()
	harness.Eventually(t, 60*time.Second, fmt.Sprint(n, " more told OK"), func() bool { return s.since(from, raw.Success) >= n })
}

// play is the test; with waiting, the Go client has to read the rest from the slave.
func (s *lostMaster) play(t *testing.T, waiting bool) {
	stream := &goclient.Stream{Run: s.run, Topic: wireTopic}
	gate := make(chan struct{}) // the Go client takes no more than it caches until the master is lost
	record := stream.Collect(byClient)
	goclient.Push(t, s.ns.Addr(), byClient, wireTopic, "*", func(ctx context.Context, msgs ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
		defer func() { <-gate }()
		return record(ctx, msgs...)
	}, consumer.WithPullThresholdForQueue(64), consumer.WithConsumeGoroutineNums(16))
	open := sync.OnceFunc(func() { close(gate) })
	defer open()
	stop := s.start()
	defer stop()
	s.told(t, 100)
	s.read(t, s.master)
	harness.Eventually(t, 30*time.Second, "the slave knows the group's place", func() bool { return s.placed(t, s.slave) })
	s.told(t, 100)
	harness.Eventually(t, 60*time.Second, "the Go client has begun with every queue", s.begun)
	s.read(t, s.master)
	s.told(t, 50)
	lag := s.loses(t, stop)
	if n, all := len(s.polls()), s.run.Count(checker.OpAck); n > all/2 {
		t.Errorf("the Go client had %d of %d messages when the master was lost", n, all)
	}
	open()

	harness.Eventually(t, 3*silentFor, "the route has the slave only", func() bool {
		return named(s.ns, wireTopic, map[string]string{"broker-a 1": s.slave.Addr()}) == nil
	})
	if code := send(s.run, dial(t, s.slave.Addr()), checker.Attempt{ID: checker.ID{Producer: 100}, N: 1}, wireTopic, 0, 100); code != raw.NotAvailable {
		t.Errorf("a send to the slave: code %d", code)
	}
	was := s.at
	s.read(t, s.slave)
	if s.at == was {
		t.Error("the slave had nothing more to read")
	}
	s.whatIsLeft(t, lag)
	if waiting {
		stream.Got(t, byClient, 90*time.Second)
	}

	s.back()
	harness.Eventually(t, 60*time.Second, "the master has the places that were committed at its slave", func() bool { return s.placed(t, s.master) })
	kept := harness.Watch(t, "the group's place at the master", s.fallen())
	harness.Eventually(t, 35*time.Second, "the route has both", func() bool {
		return named(s.ns, wireTopic, map[string]string{"broker-a 0": s.master.Addr(), "broker-a 1": s.slave.Addr()}) == nil
	})
	s.inSync(t)
	s.traffic = &traffic{t: t, run: s.run, addr: s.master.Addr(), first: wireProducers}
	stop = s.start()
	defer stop()
	s.told(t, 100)
	stop()
	s.read(t, s.master)
	stream.Got(t, byClient, 90*time.Second)
	kept()
	s.judge(t)
}

// loses loses the master under load, and says how far its slave was behind when it was
// asked last.
func (s *lostMaster) loses(t testing.TB, stop func()) (lag int64) {
	if s.role == "ASYNC_MASTER" {
		s.near.mute(s.far)
		defer s.near.speak(s.far)
		s.told(t, 100)
		stop()
		v, ok := harness.ReadMetrics(t, s.master.HTTP()).Sum("gomq_ha_lag_bytes")
		if lag = int64(v); !ok || lag < 100*200 {
			t.Fatalf("the master says that its slave is %v bytes behind", v)
		}
	}
	at := time.Now()
	s.lose()
	stop()
	if !s.master.Running() {
		s.run.Killed("master", "kill -9", at)
	}
	return lag
}

// read has byHand read from where it is to the end of each queue at a broker, and commit.
func (s *lostMaster) read(t testing.TB, from *harness.Server) {
	t.Helper()
	c := dial(t, from.Addr())
	for q := range s.at {
		for end := s.at[q] + 1; s.at[q] < end; {
			p, err := c.Pull(byHand, wireTopic, q, s.at[q], 32, 0)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range goclient.RawRecords(p.Records) {
				s.run.Polled(byHand, r)
			}
			s.at[q], end = p.Next, p.Max
			if err := c.Commit(byHand, wireTopic, q, s.at[q]); err != nil {
				t.Fatal(err)
			}
			s.run.Add(checker.Event{Op: checker.OpCommit, Group: byHand, Topic: wireTopic, Queue: q, Offset: s.at[q]})
		}
	}
	places(t, s.run, from, byHand, wireTopic, len(s.at), 0)
}

// placed says whether a broker knows where byHand is.
func (s *lostMaster) placed(t testing.TB, at *harness.Server) bool {
	t.Helper()
	c := dial(t, at.Addr())
	for q, want := range s.at {
		if got, err := c.Committed(byHand, wireTopic, q); err != nil {
			t.Fatal(err)
		} else if got != want {
			return false
		}
	}
	return true
}

// fallen is an error when a place at the master is lower than it was.
func (s *lostMaster) fallen() func() error {
	var top [wireProducers]int64
	return func() error {
		c, err := raw.Dial(s.master.Addr())
		if err != nil {
			return err
		}
		defer c.Close()
		for q := range top {
			got, err := c.Committed(byHand, wireTopic, q)
			if err != nil {
				return err
			}
			if got < top[q] {
				return fmt.Errorf("queue %d: %d after %d", q, got, top[q])
			}
			top[q] = got
		}
		return nil
	}
}

// begun says whether the Go client has read from every queue.
func (s *lostMaster) begun() bool {
	seen := map[int]bool{}
	for _, e := range s.polls() {
		seen[e.Queue] = true
	}
	return len(seen) == len(s.at)
}

// polls is what the Go client has got.
func (s *lostMaster) polls() []checker.Event {
	return slices.DeleteFunc(s.run.Events(), func(e checker.Event) bool { return e.Op != checker.OpPoll || e.Group != byClient })
}

// whatIsLeft looks at what the slave alone has: everything that was told OK, or, of
// an ASYNC_MASTER's, a beginning of each queue that lacks no more than the master said.
func (s *lostMaster) whatIsLeft(t testing.TB, lag int64) {
	t.Helper()
	goclient.Sweep(t, s.run, "the slave alone", dial(t, s.slave.Addr()), wireTopic, len(s.at))
	rules := checker.Rules{Ordered: true, CommitLag: time.Minute, PlannedSends: 250}
	if s.role == "SYNC_MASTER" {
		if v := s.run.Check(rules); !v.Valid() {
			t.Errorf("the slave alone: %v", v)
		}
		return
	}
	var kept [wireProducers]int64
	for _, e := range s.run.Events() {
		if e.Op == checker.OpRange {
			kept[e.Queue] = e.Max
		}
	}
	lost, first, last := 0, int64(1)<<62, int64(0)
	for _, a := range s.run.Acks() {
		phy, err := strconv.ParseInt(a.MsgID[len(a.MsgID)-16:], 16, 64)
		if err != nil {
			t.Fatal(err)
		}
		last = max(last, phy)
		if a.Offset >= kept[a.Queue] {
			lost, first = lost+1, min(first, phy)
		}
	}
	t.Logf("%d messages are not on the slave, from %d to %d in the log; it was said to be %d bytes behind", lost, first, last, lag)
	if lost == 0 || last-first >= lag {
		t.Errorf("%d messages are lost, in more than the %d bytes that the slave was said to be behind", lost, lag)
	}
}

// judge stops everything and says that both are the same and have everything.
func (s *lostMaster) judge(t testing.TB) {
	t.Helper()
	harness.SameLog(t, 30*time.Second, s.master, s.slave)
	places(t, s.run, s.master, byClient, wireTopic, len(s.at), 0)
	goclient.Sweep(t, s.run, "slave", dial(t, s.slave.Addr()), wireTopic, len(s.at))
	goclient.Sweep(t, s.run, "master", dial(t, s.master.Addr()), wireTopic, len(s.at))
	if v := s.run.Check(checker.Rules{Ordered: true, CommitLag: time.Minute, Drained: true, Groups: []string{byHand, byClient}, PlannedSends: 350}); !v.Valid() {
		t.Error(v)
	}
	s.master.Restart()
	for _, b := range []*harness.Server{s.master, s.slave} {
		harness.Eventually(t, 30*time.Second, "both know the group's place", func() bool { return s.placed(t, b) })
	}
	for _, b := range []*harness.Server{s.master, s.slave} {
		if code := b.Stop(); code != 0 {
			t.Errorf("exit code %d\n%s", code, b.Log())
		}
		verify(t, b)
	}
	t.Logf("%d attempts, %d told OK, %d deliveries", s.run.Count(checker.OpSend), s.run.Count(checker.OpAck), s.run.Count(checker.OpPoll))
}
