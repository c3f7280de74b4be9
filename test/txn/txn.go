// Package txn runs transactions against a broker that may die at any moment, and
// judges what became of them: committed ones are delivered, rolled back ones
// never, and those that nobody ends are put aside (I13).
package txn

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"gomq/test/harness"
	"gomq/test/raw"
)

// The plans of transactions, which are the beginnings of their keys.
const (
	commit       = "commit"        // at once
	rollback     = "rollback"      // at once
	lateCommit   = "late-commit"   // when asked
	lateRollback = "late-rollback" // when asked
	never        = "never"
)

var plans = []string{commit, rollback, lateCommit, commit, lateRollback, commit, never}

// Load is transactions of one producer group on one queue for each worker.
type Load struct {
	Broker string // its address
	Topic  string
	Group  string

	mu    sync.Mutex
	seq   int
	begun map[string]bool // keys of half messages that were acknowledged
	ended map[string]bool // keys whose end at once was acknowledged
	asked map[string]int
}

// Run lets workers, each with a connection of its own, begin and end transactions
// and answer what the broker asks until the connections fail or stop is closed.
func (l *Load) Run(t testing.TB, workers int, stop <-chan struct{}) {
	var wg sync.WaitGroup
	for w := range workers {
		wg.Add(1)
		go func() { defer wg.Done(); l.work(t, w, stop) }()
	}
	wg.Wait()
}

func (l *Load) work(t testing.TB, w int, stop <-chan struct{}) {
	c, err := raw.Dial(l.Broker)
	if err != nil {
		return
	}
	defer c.Close()
	if c.Produce(fmt.Sprintf("txn-%d", w), l.Group) != nil {
		return
	}
	for {
		select {
		case <-stop:
			return
		case cmd := <-c.Pushed():
			l.answer(t, c, cmd)
		default:
			if !l.one(t, c, w) {
				return
			}
		}
	}
}

// one begins a transaction and perhaps ends it. False: the connection is gone.
func (l *Load) one(t testing.TB, c *raw.Conn, queue int) bool {
	l.mu.Lock()
	l.seq++
	n := l.seq
	l.mu.Unlock()
	plan := plans[n%len(plans)]
	key := fmt.Sprintf("%s-%d", plan, n)
	h, err := c.Begin(l.Group, l.Topic, queue, fmt.Sprintf("%032X", n), key, []byte(key))
	if err != nil {
		return l.still(t, c, "beginning "+key, err)
	}
	l.note(&l.begun, key)
	outcome := outcomeOf(plan)
	if plan != commit && plan != rollback {
		return true
	}
	if err := c.End(h, outcome); err != nil {
		return l.still(t, c, "ending "+key, err)
	}
	l.note(&l.ended, key)
	return true
}

// still says whether the connection is there after an error. An answer that is an
// error is a fault of the broker: it was told nothing wrong.
func (l *Load) still(t testing.TB, c *raw.Conn, what string, err error) bool {
	if c.Err() != nil {
		return false
	}
	t.Errorf("%s: %v", what, err)
	return true
}

func (l *Load) note(set *map[string]bool, key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if *set == nil {
		*set = map[string]bool{}
	}
	(*set)[key] = true
}

func outcomeOf(plan string) int {
	switch plan {
	case commit, lateCommit:
		return raw.Commit
	case rollback, lateRollback:
		return raw.Rollback
	}
	return raw.Unknown
}

func planOf(key string) string { return key[:strings.LastIndexByte(key, '-')] }

// answer says what the producer knows; the first time it is asked about a late one
// it does not know yet.
func (l *Load) answer(t testing.TB, c *raw.Conn, cmd *raw.Command) {
	q, err := raw.ParseQuestion(cmd)
	if err != nil {
		t.Error(err)
		return
	}
	key := q.Message.Keys()
	if q.Message.Topic != l.Topic || string(q.Message.Body) != key || q.Group != l.Group {
		t.Errorf("asked about %+v", q.Message)
		return
	}
	l.mu.Lock()
	if l.asked == nil {
		l.asked = map[string]int{}
	}
	l.asked[key]++
	first := l.asked[key] == 1
	l.mu.Unlock()
	outcome := outcomeOf(planOf(key))
	if first && strings.HasPrefix(key, "late-") {
		outcome = raw.Unknown
	}
	_ = c.Answer(q, outcome)
}

// Drain answers what is still asked until nothing is open any more: the progress
// of the checks has reached the end of the queue of half messages.
func (l *Load) Drain(t testing.TB, limit time.Duration) {
	t.Helper()
	c, err := raw.Dial(l.Broker)
	if err == nil {
		err = c.Produce("txn-drain", l.Group)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	harness.Eventually(t, limit, "no transaction is open", func() bool {
		for {
			select {
			case cmd := <-c.Pushed():
				l.answer(t, c, cmd)
				continue
			default:
			}
			break
		}
		end, err := c.Offset(raw.MaxOffset, raw.HalfTopic, 0)
		at, err2 := c.Committed(raw.TransGroup, raw.HalfTopic, 0)
		return err == nil && err2 == nil && end > 0 && at == end
	})
}

// Judge holds what can be pulled against the plans. twice says whether a message
// may have been delivered more than once, as after kills.
func (l *Load) Judge(t testing.TB, queues int, twice bool) {
	t.Helper()
	c, err := raw.Dial(l.Broker)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	got, aside := map[string]int{}, map[string]int{}
	for q := range queues {
		list, err := c.Sweep(l.Topic, q)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range list {
			got[r.Keys()]++
			if r.SysFlag&12 != raw.Commit || r.Queue != q || string(r.Body) != r.Keys() {
				t.Errorf("delivered %+v", r)
			}
		}
	}
	list, err := c.Sweep(raw.AsideTopic, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range list {
		aside[r.Keys()]++
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	counts := map[string]int{}
	for key := range l.begun {
		plan := planOf(key)
		counts[plan]++
		n := got[key]
		switch {
		case outcomeOf(plan) != raw.Commit && n > 0:
			t.Errorf("%s was delivered", key)
		case l.ended[key] && plan == commit && n == 0:
			t.Errorf("%s was acknowledged as committed and is missing", key)
		case outcomeOf(plan) == raw.Commit && n == 0:
			t.Errorf("%s is missing; it was put aside %d times, asked about %d times", key, aside[key], l.asked[key])
		case plan == never && aside[key] == 0:
			t.Errorf("%s was not put aside after %d questions", key, l.asked[key])
		case !twice && (n > 1 || aside[key] > 1):
			t.Errorf("%s was delivered %d times and put aside %d times", key, n, aside[key])
		}
	}
	for key := range got {
		if outcomeOf(planOf(key)) != raw.Commit {
			t.Errorf("%s was delivered", key)
		}
	}
	for _, plan := range plans {
		if counts[plan] == 0 {
			t.Errorf("no transaction of the plan %q: %v", plan, counts)
		}
	}
	t.Logf("transactions %v, %d records delivered, %d put aside", counts, len(got), len(aside))
}
