package e2e

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	rocketmq "github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/apache/rocketmq-client-go/v2/producer"

	"gomq/test/goclient"
	"gomq/test/harness"
	"gomq/test/raw"
	"gomq/test/txn"
)

// checks are quick ones.
func checks(more map[string]string) map[string]string {
	props := map[string]string{"transactionTimeOut": "500", "transactionCheckInterval": "300", "transactionCheckMax": "4"}
	for k, v := range more {
		props[k] = v
	}
	return props
}

// decider is a transaction listener that goes by the message's key.
type decider struct {
	mu    sync.Mutex
	asked map[string]int
}

func (d *decider) ExecuteLocalTransaction(m *primitive.Message) primitive.LocalTransactionState {
	switch key := m.GetKeys(); {
	case strings.HasPrefix(key, "commit"):
		return primitive.CommitMessageState
	case strings.HasPrefix(key, "rollback"):
		return primitive.RollbackMessageState
	}
	return primitive.UnknowState
}

func (d *decider) CheckLocalTransaction(m *primitive.MessageExt) primitive.LocalTransactionState {
	key := m.GetKeys()
	d.mu.Lock()
	d.asked[key]++
	d.mu.Unlock()
	switch {
	case strings.HasPrefix(key, "late-commit"):
		return primitive.CommitMessageState
	case strings.HasPrefix(key, "late-rollback"):
		return primitive.RollbackMessageState
	}
	return primitive.UnknowState
}

func (d *decider) count(key string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.asked[key]
}

// transactional starts a transaction producer.
func transactional(t testing.TB, namesrv, group string) (rocketmq.TransactionProducer, *decider) {
	t.Helper()
	d := &decider{asked: map[string]int{}}
	p, err := rocketmq.NewTransactionProducer(d, producer.WithNsResolver(primitive.NewPassthroughResolver(goclient.Servers(namesrv))),
		producer.WithGroupName(group), producer.WithInstanceName(fmt.Sprintf("%s-%p", group, d)), producer.WithRetry(0))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Shutdown() })
	return p, d
}

// TestTransactions: the Go client's transactions end as its listener says, at once
// or when the broker asks; a producer that has gone is stood in for by another of
// its group; what nobody ends is put aside.
func TestTransactions(t *testing.T) {
	t.Parallel()
	ns, broker := harness.StartPair(t, harness.Config{Props: checks(nil)})
	w := &world{ns, broker}
	topic := w.topic(t, "Transactions")
	var mu sync.Mutex
	got := map[string]int{}
	goclient.Push(t, ns.Addr(), "g-transactions", topic, "*", func(_ context.Context, msgs ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
		mu.Lock()
		defer mu.Unlock()
		for _, m := range msgs {
			got[m.GetKeys()]++
		}
		return consumer.ConsumeSuccess, nil
	})
	times := func(key string) int {
		mu.Lock()
		defer mu.Unlock()
		return got[key]
	}

	p, d := transactional(t, ns.Addr(), "pg-transactions")
	// The client makes itself known only some time after its first message.
	if _, err := p.SendMessageInTransaction(background(t), primitive.NewMessage(topic, []byte("first")).WithKeys([]string{"commit-first"})); err != nil {
		t.Fatal(err)
	}
	c := w.dial(t)
	harness.Eventually(t, 20*time.Second, "the producer is known", func() bool {
		_, err := c.Do(raw.ProducerConnection, map[string]string{"producerGroup": "pg-transactions"}, nil)
		return err == nil
	})
	// A producer of the same group that dies at once.
	gone := w.dial(t)
	if err := gone.Produce("gone", "pg-transactions"); err != nil {
		t.Fatal(err)
	}
	if _, err := gone.Begin("pg-transactions", topic, 2, strings.Repeat("A", 32), "late-commit-gone", []byte("x")); err != nil {
		t.Fatal(err)
	}
	gone.Close()

	plans := []string{"commit", "rollback", "late-commit", "late-rollback", "never"}
	for _, plan := range plans {
		for i := range 3 {
			m := primitive.NewMessage(topic, content(i, 5000)) // compressed by the client
			m.WithKeys([]string{fmt.Sprintf("%s-%d", plan, i)})
			res, err := p.SendMessageInTransaction(background(t), m)
			if err != nil || res.Status != primitive.SendOK {
				t.Fatalf("%s: %v %v", plan, res, err)
			}
		}
	}
	harness.Eventually(t, 30*time.Second, "all transactions have ended", func() bool {
		for i := range 3 {
			if times(fmt.Sprint("commit-", i)) == 0 || times(fmt.Sprint("late-commit-", i)) == 0 {
				return false
			}
		}
		list, err := c.Sweep(raw.AsideTopic, 0)
		return times("late-commit-gone") > 0 && err == nil && len(list) == 3
	})
	for _, plan := range plans {
		for i := range 3 {
			key := fmt.Sprintf("%s-%d", plan, i)
			want, asked, most := 0, 0, 4
			switch plan {
			case "commit":
				want = 1
			case "late-commit":
				want, asked = 1, 1
			case "late-rollback":
				asked = 1
			case "never":
				asked = 4
			}
			if n := d.count(key); times(key) != want || n < asked || n > most {
				t.Errorf("%s was delivered %d times, want %d, and asked about %d times, want %d", key, times(key), want, n, asked)
			}
		}
	}
	if n := d.count("late-commit-gone"); n == 0 || times("late-commit-gone") != 1 {
		t.Errorf("the transaction of the producer that died was asked about %d times and delivered %d times", n, times("late-commit-gone"))
	}
	list, err := c.Sweep(raw.AsideTopic, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range list {
		if !strings.HasPrefix(r.Keys(), "never") || r.Props["TRANSACTION_CHECK_TIMES"] != "4" || r.Props["REAL_TOPIC"] != topic {
			t.Errorf("put aside: %+v", r)
		}
	}
}

// TestTransactionsKill: transactions of all kinds while the broker is killed.
func TestTransactionsKill(t *testing.T) {
	harness.OnlyGomq(t)
	for _, flush := range []string{"SYNC_FLUSH", "ASYNC_FLUSH"} {
		t.Run(flush, func(t *testing.T) {
			t.Parallel()
			rng := harness.Rand(t)
			_, broker := harness.StartPair(t, harness.Config{Props: checks(map[string]string{"flushDiskType": flush, "transactionCheckMax": "40"})})
			const workers = 3
			w := &world{broker: broker}
			if err := w.dial(t).NewTopic("Killed", workers); err != nil {
				t.Fatal(err)
			}
			load := &txn.Load{Broker: broker.Addr(), Topic: "Killed", Group: "pg-killed"}
			for range 3 {
				done := make(chan struct{})
				go func() { load.Run(t, workers, nil); close(done) }()
				time.Sleep(time.Duration(500+rng.IntN(1000)) * time.Millisecond) // the moment of the kill is to be any
				broker.Kill()
				<-done
				broker.Start()
			}
			load.Drain(t, 60*time.Second)
			load.Judge(t, workers, true)
		})
	}
}
