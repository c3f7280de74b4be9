//go:build faults

package faults

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
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

const (
	groupsTopic  = "Groups"
	groupsQueues = 8
	manyGroup    = "g-many"
	orderGroup   = "g-order"
	slowGroup    = "g-slow"
	bothGroup    = "g-both"

	// childEnv makes this binary a consumer of the nameserver named there.
	childEnv = "GOMQ_TEST_CONSUMER"
)

// TestT26Groups lets members of consumer groups join, leave and be killed while
// messages are sent: a group of up to ten, ordered consumers, one that takes a
// second for a message, and two broadcast consumers. Nobody skips a message, an
// ordered group never works on a queue twice at a time, and the groups that keep
// up get everything.
func TestT26Groups(t *testing.T) {
	harness.OnlyGomq(t)
	t.Parallel()
	rng := harness.Rand(t)
	ns, broker := harness.StartPair(t, harness.Config{Props: map[string]string{"flushConsumerOffsetInterval": "500"}})
	if err := dial(t, broker.Addr()).NewTopic(groupsTopic, groupsQueues); err != nil {
		t.Fatal(err)
	}
	g := &gathering{t: t, run: checker.NewRun(rng), ns: ns.Addr(), rng: rng, busy: map[int]bool{}}
	for i := range 2 {
		g.join(fmt.Sprint(bothGroup, i), bothGroup, consumer.WithConsumerModel(consumer.BroadCasting))
	}
	g.slow()
	stop := g.produce(broker.Addr())
	g.change(25)
	stop()
	g.ordered()
	g.settle(broker)
}

// gathering is the groups of the test.
type gathering struct {
	t   *testing.T
	run *checker.Run
	ns  string
	rng *rand.Rand

	stops  []func() // of members of manyGroup in this process
	killed []*harness.Proc
	alive  []*harness.Proc

	mu   sync.Mutex
	busy map[int]bool // queues that an ordered consumer works on
}

func (g *gathering) join(name, group string, opts ...consumer.Option) (stop func()) {
	return goclient.Push(g.t, g.ns, group, groupsTopic, "*", goclient.Collect(g.run, name), opts...)
}

// slow is a consumer that never keeps up.
func (g *gathering) slow() {
	record := goclient.Collect(g.run, slowGroup)
	goclient.Push(g.t, g.ns, slowGroup, groupsTopic, "*", func(ctx context.Context, list ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
		select { // it is slow; nothing waits for that
		case <-time.After(time.Second):
		case <-ctx.Done():
		}
		return record(ctx, list...)
	}, consumer.WithConsumeMessageBatchMaxSize(1), consumer.WithConsumeGoroutineNums(1))
}

// produce sends to every queue in turn from one producer for each half of them.
func (g *gathering) produce(addr string) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for p := range 2 {
		c := dial(g.t, addr)
		wg.Add(1)
		go func() {
			defer wg.Done()
			for seq := int64(0); ctx.Err() == nil; seq++ {
				a := checker.Attempt{ID: checker.ID{Producer: p, Seq: seq}, N: 1}
				if code := send(g.run, c, a, groupsTopic, p*groupsQueues/2+int(seq)%(groupsQueues/2), 200); code != raw.Success {
					g.t.Errorf("producer %d: code %d", p, code)
					return
				}
				time.Sleep(2 * time.Millisecond) // the rate, not a wait for anything
			}
		}()
	}
	return func() { cancel(); wg.Wait() }
}

// change lets members of the large group come and go n times.
func (g *gathering) change(n int) {
	g.stops = append(g.stops, g.join(manyGroup, manyGroup))
	for i := range n {
		switch k := g.rng.IntN(6); {
		case k < 2 && len(g.stops) < 6:
			g.stops = append(g.stops, g.join(manyGroup, manyGroup))
		case k < 3 && len(g.stops) > 1:
			g.stops[0]()
			g.stops = g.stops[1:]
		case k < 5 && len(g.alive) < 4:
			g.alive = append(g.alive, g.child(i))
		case len(g.alive) > 0:
			p := g.alive[0]
			g.alive, g.killed = g.alive[1:], append(g.killed, p)
			p.ExpectExit()
			p.Kill()
		}
		time.Sleep(time.Duration(100+g.rng.IntN(500)) * time.Millisecond) // what is between two changes is random
	}
	if len(g.killed) == 0 && len(g.alive) > 0 {
		p := g.alive[0]
		g.alive, g.killed = g.alive[1:], append(g.killed, p)
		p.ExpectExit()
		p.Kill()
	}
}

// child starts a member of the large group in a process of its own, so that it
// can be killed.
func (g *gathering) child(n int) *harness.Proc {
	exe, err := os.Executable()
	if err != nil {
		g.t.Fatal(err)
	}
	p := harness.Start(g.t, harness.Spec{Name: fmt.Sprint("consumer-", n), Path: exe, Env: []string{childEnv + "=" + g.ns}})
	p.WaitLine("^joined$", time.Minute)
	return p
}

// consume is the life of a child: it prints each message before it says that it
// has been consumed.
func consume(ns string) {
	var t child
	var mu sync.Mutex
	out := json.NewEncoder(os.Stdout)
	goclient.Push(&t, ns, manyGroup, groupsTopic, "*", func(_ context.Context, list ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
		mu.Lock()
		defer mu.Unlock()
		for _, m := range list {
			out.Encode(goclient.Record(m))
		}
		return consumer.ConsumeSuccess, nil
	})
	mu.Lock()
	fmt.Println("joined")
	mu.Unlock()
	select {}
}

// child stands in for a test in a process that has none.
type child struct{ testing.TB }

func (child) Helper()        {}
func (child) Name() string   { return fmt.Sprint("child-", os.Getpid()) }
func (child) Cleanup(func()) {}
func (child) Fatal(args ...any) {
	fmt.Fprintln(os.Stderr, args...)
	os.Exit(1)
}

// read records what a child has printed. What it received last and did not print
// whole it has not consumed.
func (g *gathering) read(p *harness.Proc) {
	b, err := os.ReadFile(filepath.Join(p.Dir, p.Name+".stdout"))
	if err != nil {
		g.t.Fatal(err)
	}
	n := 0
	for lines := bufio.NewScanner(bytes.NewReader(b)); lines.Scan(); {
		var r checker.Record
		if json.Unmarshal(lines.Bytes(), &r) == nil && r.Topic != "" {
			g.run.Polled(manyGroup, r)
			n++
		}
	}
	g.t.Logf("%s got %d messages", p.Name, n)
}

// ordered lets three ordered consumers share the queues, one of which leaves
// while it works.
func (g *gathering) ordered() {
	record := goclient.Collect(g.run, orderGroup)
	last := map[int]int64{}
	handle := func(ctx context.Context, list ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
		q := list[0].Queue.QueueId
		g.mu.Lock()
		if g.busy[q] {
			g.t.Errorf("queue %d is worked on twice at a time", q)
		}
		g.busy[q] = true
		for _, m := range list {
			if at, seen := last[q]; seen && m.QueueOffset > at+1 {
				g.t.Errorf("queue %d: message %d after %d", q, m.QueueOffset, at)
			}
			last[q] = m.QueueOffset
		}
		g.mu.Unlock()
		defer func() {
			g.mu.Lock()
			g.busy[q] = false
			g.mu.Unlock()
		}()
		return record(ctx, list...)
	}
	join := func() func() {
		return goclient.Push(g.t, g.ns, orderGroup, groupsTopic, "*", handle, consumer.WithConsumerOrder(true))
	}
	first := join()
	join()
	harness.Eventually(g.t, time.Minute, "ordered consumers begin", func() bool {
		g.mu.Lock()
		defer g.mu.Unlock()
		return len(last) > 1
	})
	join()
	first()
}

// have says whether each of groups has got every acknowledged message.
func (g *gathering) have(groups []string) bool {
	got := map[string]map[checker.ID]bool{}
	for _, name := range groups {
		got[name] = map[checker.ID]bool{}
	}
	for _, e := range g.run.Events() {
		if e.Op == checker.OpPoll && got[e.Group] != nil {
			got[e.Group][e.ID] = true
		}
	}
	acks := g.run.Acks()
	return !slices.ContainsFunc(groups, func(name string) bool {
		return slices.ContainsFunc(acks, func(a checker.Event) bool { return !got[name][a.ID] })
	})
}

// settle waits until the groups that keep up have everything, and judges.
func (g *gathering) settle(broker *harness.Server) {
	for _, p := range g.killed {
		g.read(p)
	}
	groups := []string{manyGroup, orderGroup, bothGroup + "0", bothGroup + "1"}
	// The children hold what they got until they end, and others then get the rest.
	harness.Eventually(g.t, time.Minute, "the broadcast consumers have everything", func() bool { return g.have(groups[2:]) })
	for _, p := range g.alive {
		p.ExpectExit()
		p.Kill()
		g.read(p)
	}
	harness.Eventually(g.t, 2*time.Minute, "the groups have everything", func() bool { return g.have(groups) })
	for _, group := range []string{manyGroup, orderGroup, slowGroup} {
		places(g.t, g.run, broker, group, groupsTopic, groupsQueues, 0)
	}
	finish(g.t, g.run, broker.Addr(), groupsTopic, groupsQueues, checker.Rules{Ordered: true, Drained: true, Groups: groups, PlannedSends: 1000})
}
