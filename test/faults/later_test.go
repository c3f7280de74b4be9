//go:build faults

package faults

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"gomq/test/checker"
	"gomq/test/harness"
	"gomq/test/raw"
	"gomq/test/txn"
)

// laterLevels are eighteen delay levels that a test can wait for.
const laterLevels = "1s 1s 1s 1s 1s 1s 2s 2s 2s 2s 2s 2s 3s 3s 3s 3s 3s 3s"

// laterPoints are where transactions, delayed messages and consumers have
// something half done: half messages put back without the progress, tables half
// written, messages delivered and not counted yet, places about to be taken.
var laterPoints = []string{"afterCheck", "renameJSON", "afterAppend", "offsetCommit", "dispatch"}

// TestT27DelayAndTransactions kills a broker at random and at fail points while
// delayed messages of all levels and transactions of all outcomes are under way,
// and a group consumes, sends back and commits. Every delayed message that was
// acknowledged comes, none before its time (I12); what was committed is
// delivered, what was rolled back is not, and what nobody ends is asked about and
// put aside (I13); what was sent back comes again or is a dead letter, and the
// group's places do not fall further than the persist interval allows.
func TestT27DelayAndTransactions(t *testing.T) {
	harness.OnlyGomq(t)
	for _, flush := range []string{"SYNC_FLUSH", "ASYNC_FLUSH"} {
		t.Run(flush, func(t *testing.T) {
			t.Parallel()
			later(t, flush, len(laterPoints)+4)
		})
	}
}

func later(t *testing.T, flush string, cycles int) {
	rng := harness.Rand(t)
	broker := harness.StartBroker(t, "", harness.Config{Bin: harness.Build(t, "failpoints"), Props: map[string]string{
		"flushDiskType": flush, "flushIntervalCommitLog": "50", "mappedFileSizeCommitLog": fmt.Sprint(1 << 20), "mappedFileSizeConsumeQueue": "20000",
		"flushConsumerOffsetInterval": "300", "flushDelayOffsetInterval": "300", "messageDelayLevel": laterLevels,
		"transactionTimeOut": "300", "transactionCheckInterval": "200", "transactionCheckMax": "40",
		"maxHashSlotNum": "5000", "maxIndexNum": "20000",
	}})
	const workers = 2
	c := dial(t, broker.Addr())
	for topic, queues := range map[string]int{"Tx": workers, "Delay": 2, workTopic: workQueues, workRetry: 1} {
		if err := c.NewTopic(topic, queues); err != nil {
			t.Fatal(err)
		}
	}
	load := &txn.Load{Broker: broker.Addr(), Topic: "Tx", Group: "pg-t27"}
	d := &delays{addr: broker.Addr()}
	w := &work{t: t, run: checker.NewRun(harness.Rand(t)), addr: broker.Addr(), backs: map[try]*sentBack{}}
	reached := map[string]int{}
	for n := range cycles {
		point := ""
		if n < len(laterPoints) {
			point = laterPoints[n]
		}
		if n > 0 || point != "" {
			broker.Kill()
			broker.Env = nil
			if point != "" {
				broker.Env = []string{fmt.Sprintf("GOMQ_FAILPOINTS=%s=%d", point, 1+rng.IntN(passes(point)))}
			}
			broker.Start()
		}
		broker.ExpectExit()
		if !boot(t, broker) && point == "" {
			t.Fatalf("cycle %d: the broker does not start\n%s", n, broker.Log())
		}
		var wg sync.WaitGroup
		wg.Add(3)
		go func() { defer wg.Done(); load.Run(t, workers, nil) }()
		go func() { defer wg.Done(); d.send() }()
		go func() { defer wg.Done(); w.cycle() }()
		limit := time.Duration(100+rng.IntN(900)) * time.Millisecond
		switch {
		case point != "":
			limit = 5 * time.Second // the fail point comes first
		case n == cycles-1:
			limit = workLag + 2*time.Second // long enough for places to be held to
		}
		select {
		case <-broker.Done():
		case <-time.After(limit):
		}
		at := time.Now()
		broker.Kill()
		wg.Wait()
		w.run.Killed("broker", point, at)
		if point != "" && died(broker, point) {
			reached[point]++
		}
		verify(t, broker)
		if t.Failed() {
			t.Fatalf("cycle %d (%s)\n%s", n, point, broker.Log())
		}
	}
	broker.Env = nil
	broker.Start()
	if !boot(t, broker) {
		t.Fatalf("the broker does not start\n%s", broker.Log())
	}
	stop, stopped := make(chan struct{}), make(chan error, 1)
	consumer := dial(t, w.addr)
	go func() { stopped <- w.consume(consumer, stop, nil) }() // its retries wait meanwhile
	load.Drain(t, 60*time.Second)
	close(stop)
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	w.drain()
	load.Judge(t, workers, true)
	w.judge(cycles)
	d.judge(t, cycles)
	t.Logf("fail points reached: %v", reached)
	for _, point := range laterPoints {
		if reached[point] == 0 {
			t.Errorf("the fail point %s was never reached", point)
		}
	}
	if code := broker.Stop(); code != 0 {
		t.Errorf("exit code %d\n%s", code, broker.Log())
	}
	verify(t, broker)
}

// passes is how often the place is passed for sure within a cycle: the progress of
// checks is written now and then, a place after each batch.
func passes(point string) int {
	switch {
	case point == "afterCheck" || rare(point):
		return 3
	case point == "offsetCommit":
		return 20
	}
	return 100
}

// delays sends delayed messages, level after level.
type delays struct {
	addr  string
	seq   int
	acked map[string]int64 // by key: when it was begun, ms
}

func levelIn(seq int) (level int, d time.Duration) {
	level = 1 + seq%18
	d, err := time.ParseDuration(strings.Fields(laterLevels)[level-1])
	if err != nil {
		panic(err)
	}
	return level, d
}

// send sends until the connection fails.
func (d *delays) send() {
	c, err := raw.Dial(d.addr)
	if err != nil {
		return
	}
	defer c.Close()
	if d.acked == nil {
		d.acked = map[string]int64{}
	}
	for {
		d.seq++
		level, _ := levelIn(d.seq)
		key := fmt.Sprint(d.seq)
		begun := time.Now().UnixMilli()
		if _, err := c.Send("pg-t27d", "Delay", d.seq%2, raw.Props("KEYS", key, "DELAY", fmt.Sprint(level)), []byte(key)); err != nil {
			return
		}
		d.acked[key] = begun
	}
}

// judge waits until everything has come and looks when.
func (d *delays) judge(t testing.TB, kills int) {
	t.Helper()
	c := dial(t, d.addr)
	seen := map[string]int{}
	var all []*raw.Record
	harness.Eventually(t, 60*time.Second, "all delayed messages", func() bool {
		clear(seen)
		all = all[:0]
		for q := range 2 {
			list, err := c.Sweep("Delay", q)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, list...)
		}
		for _, r := range all {
			seen[r.Keys()]++
		}
		for key := range d.acked {
			if seen[key] == 0 {
				return false
			}
		}
		return true
	})
	for _, r := range all {
		var seq int
		fmt.Sscan(r.Keys(), &seq)
		level, wait := levelIn(seq)
		if begun, ok := d.acked[r.Keys()]; ok && r.StoreTime < begun+wait.Milliseconds() {
			t.Errorf("%s of level %d was delivered after %d ms", r.Keys(), level, r.StoreTime-begun)
		}
		if seen[r.Keys()] > 1+kills {
			t.Errorf("%s was delivered %d times", r.Keys(), seen[r.Keys()])
		}
	}
	t.Logf("%d delayed messages acknowledged, %d delivered, %d times", len(d.acked), len(seen), len(all))
}
