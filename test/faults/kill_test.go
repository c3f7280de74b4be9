//go:build faults

package faults

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"gomq/test/checker"
	"gomq/test/goclient"
	"gomq/test/harness"
	"gomq/test/raw"
)

// failpoints are the places at which a master without replicas can be made to
// die. deleteFile has a test of its own.
var failpoints = []string{"afterAppend", "beforeFlush", "afterFlush", "beforeAck", "fileRoll", "dispatch", "checkpoint", "renameJSON", "offsetCommit"}

// TestT10Kill kills a broker at random moments and at every fail point while
// two producers send and a group consumes. Whatever was acknowledged is there
// after each restart, in its place and order; the group's offsets do not fall
// further than the persist interval allows.
func TestT10Kill(t *testing.T) {
	harness.OnlyGomq(t)
	for _, flush := range []string{"SYNC_FLUSH", "ASYNC_FLUSH"} {
		t.Run(flush, func(t *testing.T) {
			t.Parallel()
			kills(t, flush, 2*len(failpoints)+12)
		})
	}
}

const (
	killTopic  = "Kill"
	killGroup  = "g-kill"
	killQueues = 4
)

// workload is what runs against the broker in every cycle and picks up where
// it was.
type workload struct {
	t    testing.TB
	run  *checker.Run
	addr string
	seq  [3]int64 // of each producer
	try  [3]int   // attempts of the present message
}

// cycle runs everything until the broker is gone.
func (w *workload) cycle() {
	var wg sync.WaitGroup
	for p := range 2 {
		wg.Add(1)
		go func() { defer wg.Done(); w.produce(p) }()
	}
	wg.Add(3)
	go func() { defer wg.Done(); w.burst(2) }()
	go func() { defer wg.Done(); w.consume() }()
	go func() { defer wg.Done(); w.topics() }()
	wg.Wait()
}

// produce sends one message after another to the queue of its number, each
// until it is acknowledged.
func (w *workload) produce(p int) {
	c, err := raw.Dial(w.addr)
	if err != nil {
		return
	}
	defer c.Close()
	for {
		w.try[p]++
		size := 100 + int(w.seq[p]*7919%6000)
		code := send(w.run, c, checker.Attempt{ID: checker.ID{Producer: p, Seq: w.seq[p]}, N: w.try[p]}, killTopic, p, size)
		switch code {
		case raw.Success:
			w.seq[p]++
			w.try[p] = 0
		case -1:
			return
		default:
			w.t.Errorf("producer %d: code %d", p, code)
			return
		}
	}
}

// burst keeps 32 messages under way on one connection, for the first 300 of a
// cycle.
func (w *workload) burst(p int) {
	c, err := raw.Dial(w.addr)
	if err != nil {
		return
	}
	defer c.Close()
	slots := make(chan struct{}, 32)
	var wg sync.WaitGroup
	defer wg.Wait()
	for n := 0; n < 300 && c.Err() == nil; n++ {
		slots <- struct{}{}
		a := checker.Attempt{ID: checker.ID{Producer: p, Seq: w.seq[p]}, N: 1}
		w.seq[p]++ // never sent again
		wg.Add(1)
		go func() {
			defer wg.Done()
			send(w.run, c, a, killTopic, p+int(a.Seq%2), 300)
			<-slots
		}()
	}
}

// consume pulls all queues in turn from the places that the broker knows, and
// commits after each pull.
func (w *workload) consume() {
	c, err := raw.Dial(w.addr)
	if err != nil {
		return
	}
	defer c.Close()
	var at [killQueues]int64
	for q := range at {
		n, err := c.Committed(killGroup, killTopic, q)
		if err != nil {
			return
		}
		if n >= 0 {
			w.run.Add(checker.Event{Op: checker.OpPlace, Group: killGroup, Topic: killTopic, Queue: q, Offset: n})
		}
		at[q] = max(n, 0)
	}
	for {
		for q := range at {
			p, err := c.Pull(killGroup, killTopic, q, at[q], 32, time.Millisecond)
			if err != nil {
				return
			}
			if p.Code != raw.Success {
				continue
			}
			for _, r := range p.Records {
				w.run.Polled(killGroup, goclient.RawRecord(r))
			}
			at[q] = p.Next
			if err := c.Commit(killGroup, killTopic, q, at[q]); err != nil {
				return
			}
			w.run.Add(checker.Event{Op: checker.OpCommit, Group: killGroup, Topic: killTopic, Queue: q, Offset: at[q]})
		}
	}
}

// topics changes a topic now and then, so that the table is written.
func (w *workload) topics() {
	c, err := raw.Dial(w.addr)
	if err != nil {
		return
	}
	defer c.Close()
	for n := 1; c.Err() == nil; n++ {
		if c.NewTopic("Changing", 1+n%8) != nil {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func kills(t *testing.T, flush string, cycles int) {
	rng := harness.Rand(t)
	broker := harness.StartBroker(t, "", harness.Config{Bin: harness.Build(t, "failpoints"), NoWait: true, Props: map[string]string{
		"flushDiskType": flush, "flushIntervalCommitLog": "50", "mappedFileSizeCommitLog": fmt.Sprint(1 << 20), "mappedFileSizeConsumeQueue": "20000",
		"flushConsumerOffsetInterval": "500", "maxMessageSize": "65536",
		"maxHashSlotNum": "5000", "maxIndexNum": "20000",
	}})
	w := &workload{t: t, run: checker.NewRun(rng), addr: broker.Addr()}
	if !boot(t, broker) {
		t.Fatal("the broker does not start")
	}
	if err := dial(t, w.addr).NewTopic(killTopic, killQueues); err != nil {
		t.Fatal(err)
	}
	started := time.Now()
	reached := map[string]int{}
	for n := range cycles {
		begun := time.Now()
		// Every fail point twice, early and later; the rest at random.
		point, env := "", []string(nil)
		if n < 2*len(failpoints) {
			point = failpoints[n%len(failpoints)]
			env = []string{fmt.Sprintf("GOMQ_FAILPOINTS=%s=%d", point, 1+rng.IntN(map[bool]int{true: 3, false: 20}[n < len(failpoints) || rare(point)]))}
		}
		if n > 0 || point != "" {
			broker.Kill()
			broker.Env = env
			broker.Start()
		}
		broker.ExpectExit()
		up := boot(t, broker)
		var at time.Time
		if up {
			ended := make(chan struct{})
			go func() { w.cycle(); close(ended) }()
			limit := time.Duration(50+rng.IntN(300)) * time.Millisecond
			switch {
			case point != "":
				limit = 5 * time.Second // the fail point comes first
			case n == cycles-1:
				limit = 3 * time.Second // long enough for offsets to be written
			}
			select {
			case <-broker.Done():
			case <-time.After(limit):
			}
			at = time.Now()
			broker.Kill()
			<-ended
		} else {
			at = time.Now()
		}
		how := "at random"
		if point != "" {
			how = point
			if died(broker, point) {
				reached[point]++
			}
		}
		w.run.Killed("broker", how, at)
		lived := time.Since(begun)
		verify(t, broker)
		t.Logf("cycle %d: %s, up %v, %.2f s and %.2f s to verify, %d attempts so far", n, how, up, lived.Seconds(), (time.Since(begun) - lived).Seconds(), w.run.Count(checker.OpSend))
		if t.Failed() {
			t.Fatalf("cycle %d (%s)\n%s", n, how, broker.Log())
		}
		if n%10 == 9 {
			broker.Env = nil
			broker.Start()
			if !boot(t, broker) {
				t.Fatalf("cycle %d: the broker does not start\n%s", n, broker.Log())
			}
			goclient.Sweep(t, w.run, fmt.Sprint("cycle ", n), dial(t, w.addr), killTopic, killQueues)
			if v := w.run.Check(checker.Rules{CommitLag: 1500 * time.Millisecond, Ordered: true, Free: map[int]bool{2: true}}); !v.Valid() {
				t.Fatalf("cycle %d (%s): %v", n, how, v)
			}
			broker.Kill()
		}
	}
	for _, point := range failpoints {
		if reached[point] == 0 {
			t.Errorf("the fail point %s was never reached", point)
		}
	}
	broker.Env = nil
	broker.Start()
	if !boot(t, broker) {
		t.Fatalf("the broker does not start\n%s", broker.Log())
	}
	drain(t, w, broker)
	finish(t, w.run, w.addr, killTopic, killQueues, checker.Rules{CommitLag: 1500 * time.Millisecond, Ordered: true, Free: map[int]bool{2: true},
		Drained: true, Groups: []string{killGroup}, Lookups: true, PlannedSends: cycles * 20, PlannedKills: cycles})
	if code := broker.Stop(); code != 0 {
		t.Errorf("exit code %d\n%s", code, broker.Log())
	}
	verify(t, broker)
	t.Logf("%d cycles in %.1f s: %d attempts, %d acknowledged, %d unknown, %d deliveries; fail points reached: %v", cycles, time.Since(started).Seconds(),
		w.run.Count(checker.OpSend), w.run.Count(checker.OpAck), w.run.Count(checker.OpUnknown), w.run.Count(checker.OpPoll), reached)
}

// rare points are not passed often in a cycle.
func rare(point string) bool {
	switch point {
	case "checkpoint", "renameJSON", "fileRoll":
		return true
	}
	return false
}

// died says whether the process ended itself at the fail point.
func died(s *harness.Server, point string) bool {
	for line := range linesOf(s.Stderr()) {
		if line == "failpoint "+point {
			return true
		}
	}
	return false
}

// drain consumes to the end of every queue.
func drain(t testing.TB, w *workload, broker *harness.Server) {
	t.Helper()
	c := dial(t, broker.Addr())
	for q := range killQueues {
		at, err := c.Committed(killGroup, killTopic, q)
		if err != nil {
			t.Fatal(err)
		}
		if at >= 0 {
			w.run.Add(checker.Event{Op: checker.OpPlace, Group: killGroup, Topic: killTopic, Queue: q, Offset: at})
		}
		at = max(at, 0)
		end, err := c.Offset(raw.MaxOffset, killTopic, q)
		if err != nil {
			t.Fatal(err)
		}
		for at < end {
			p, err := c.Pull(killGroup, killTopic, q, at, 32, 0)
			if err != nil || p.Next <= at {
				t.Fatalf("queue %d at %d: %+v, %v", q, at, p, err)
			}
			for _, r := range p.Records {
				w.run.Polled(killGroup, goclient.RawRecord(r))
			}
			at = p.Next
		}
	}
}

// TestT10KillWhileDeleting kills the broker while it deletes old files: what
// is left is whole, and nothing above the minimum is lost.
func TestT10KillWhileDeleting(t *testing.T) {
	harness.OnlyGomq(t)
	t.Parallel()
	// On a full disk the oldest files go, however young they are.
	d := newDisk(t, 48)
	broker := harness.StartBroker(t, "", harness.Config{Bin: harness.Build(t, "failpoints"), Env: []string{"GOMQ_FAILPOINTS=deleteFile=3"}, Props: map[string]string{
		"storePathRootDir": d.dir + "/store", "storePathCommitLog": d.dir + "/store/commitlog", "cleanFileForciblyEnable": "true",
		"mappedFileSizeCommitLog": fmt.Sprint(1 << 20), "mappedFileSizeConsumeQueue": "20000", "cleanResourceInterval": "50", "deleteCommitLogFilesInterval": "10",
		"maxHashSlotNum": "5000", "maxIndexNum": "20000",
	}})
	run := checker.NewRun(harness.Rand(t))
	c := dial(t, broker.Addr())
	if err := c.NewTopic("Old", 1); err != nil {
		t.Fatal(err)
	}
	broker.ExpectExit()
	at := time.Now()
	for seq := int64(0); broker.Running() && time.Since(at) < 60*time.Second; seq++ {
		if code := send(run, c, checker.Attempt{ID: checker.ID{Seq: seq}, N: 1}, "Old", 0, 60000); code == -1 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	<-broker.Done()
	if !died(broker, "deleteFile") {
		t.Fatalf("the broker did not delete\n%s", broker.Log())
	}
	run.Killed("broker", "deleteFile", time.Now())
	verify(t, broker)
	broker.Env = nil
	broker.Start()
	finish(t, run, broker.Addr(), "Old", 1, checker.Rules{Ordered: true, Expires: true, PlannedKills: 1})
	low, err := dial(t, broker.Addr()).Offset(raw.MinOffset, "Old", 0)
	if err != nil || low == 0 {
		t.Errorf("the minimum offset is %d after files were deleted, %v", low, err)
	}
	if code := broker.Stop(); code != 0 {
		t.Errorf("exit code %d\n%s", code, broker.Log())
	}
	verify(t, broker)
}
