//go:build interop || interop_all

package interop

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"gomq/test/harness"
	"gomq/test/raw"
)

// TestJavaTransactions: transactions of every client version end as the producer
// says, at once or when it is asked. Then producers of one group die one after the
// other, and those that are left answer for them.
func TestJavaTransactions(t *testing.T) {
	needJava(t)
	c := startCluster(t, map[string]string{"transactionTimeOut": "1000", "transactionCheckInterval": "500", "transactionCheckMax": "5"})
	var envs []*env
	for i, version := range clientVersions {
		envs = append(envs, newEnv(t, c, version, []string{"JSON", "ROCKETMQ"}[i%2]))
	}
	t.Run("Outcomes", func(t *testing.T) {
		for _, e := range envs {
			t.Run(e.name, func(t *testing.T) {
				t.Parallel()
				outcomes(t, e)
			})
		}
	})
	t.Run("Deaths", func(t *testing.T) { deaths(t, c, envs) })
	asked(t, c.broker, "END_TRANSACTION")
}

// txProducer starts a producer of transactions and waits until the broker knows it.
func (e *env) txProducer(t testing.TB, topic, group string) string {
	t.Helper()
	name := e.fresh("tx")
	do[none](t, e.driver, "txProducer", "name", name, "group", group)
	// A client says who it is to the brokers that it knows of: after its first message.
	e.tx(t, name, topic, "commit-first-"+name, "first")
	b := dial(t, e.c.broker.Addr())
	defer b.Close()
	harness.Eventually(t, arrival, "the producer "+name, func() bool {
		_, err := b.Do(raw.ProducerConnection, map[string]string{"producerGroup": group}, nil)
		return err == nil
	})
	return name
}

func (e *env) tx(t testing.TB, name, topic, keys, body string, args ...any) sent {
	t.Helper()
	r := do[struct{ Results []sent }](t, e.driver, "tx", append([]any{"name", name, "topic", topic, "keys", keys, "tag", "T", "body", body}, args...)...).Results[0]
	if r.Status != "SEND_OK" {
		t.Fatalf("%s: %+v", keys, r)
	}
	return r
}

// aside is the keys of what was put aside of a topic.
func aside(t testing.TB, c *cluster, topic string) (keys []string) {
	t.Helper()
	b := dial(t, c.broker.Addr())
	defer b.Close()
	list, err := b.Sweep(raw.AsideTopic, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range list {
		if r.Props["REAL_TOPIC"] == topic {
			keys = append(keys, r.Keys())
		}
	}
	slices.Sort(keys)
	return keys
}

func outcomes(t *testing.T, e *env) {
	topic, group := e.topic(t, "tx"), e.fresh("txg")
	consumer := e.push(t, topic, e.fresh("g"))
	p := e.txProducer(t, topic, group)
	var want []string
	for i, plan := range []string{"commit", "rollback", "late-commit", "late-rollback", "never"} {
		key := fmt.Sprintf("%s-%d", plan, i)
		e.tx(t, p, topic, key, key, "size", 5000, "flag", 7, "prop.user", "värde") // compressed by the client
		if strings.HasSuffix(plan, "commit") {
			want = append(want, key)
		}
	}
	got := e.await(t, 1+len(want), arrival, consumer)
	for _, m := range got {
		key := m.Keys
		if strings.HasPrefix(key, "commit-first") {
			continue
		}
		if !slices.Contains(want, key) || len(m.Body) != 5000 || !strings.HasPrefix(string(m.Body), key) || m.Properties["user"] != "värde" || m.Tags != "T" || m.Topic != topic {
			t.Errorf("delivered %+v", m)
		}
		if serverVersion == "" && m.Flag != 7 {
			t.Errorf("%s has the flag %d", key, m.Flag)
		}
	}
	harness.Eventually(t, arrival, "what nobody ends is put aside", func() bool { return len(aside(t, e.c, topic)) > 0 })
	same(t, "put aside", aside(t, e.c, topic), []string{"never-4"})
	counts := map[string]int{}
	for _, m := range e.received(p + "-asked") {
		counts[m.Keys]++
		if m.Topic != topic || len(m.Body) != 5000 || m.Properties["PGROUP"] != group {
			t.Errorf("asked about %+v", m)
		}
	}
	if counts["never-4"] != 5 || counts["late-commit-2"] == 0 || counts["late-rollback-3"] == 0 {
		t.Errorf("asked about %v", counts)
	}
	time.Sleep(quiet)
	if n := len(e.received(consumer)); n != len(got) {
		t.Errorf("%d more messages were delivered", n-len(got))
	}
}

// deaths has one producer after the other begin a transaction and die before it is
// asked.
func deaths(t *testing.T, c *cluster, envs []*env) {
	last := envs[len(envs)-1]
	topic, group := last.topic(t, "txdeath"), last.fresh("txg")
	consumer := last.push(t, topic, last.fresh("g"))
	names := make([]string, len(envs))
	for i, e := range envs {
		names[i] = e.txProducer(t, topic, group)
	}
	n := len(envs) // the first message of each
	for i, e := range envs[:len(envs)-1] {
		key := fmt.Sprint("late-commit-", e.version)
		e.tx(t, names[i], topic, key, key)
		e.cmd.Process.Kill()
		<-e.ended
		n++
		got := last.await(t, n, arrival, consumer)
		if k := got[n-1].Keys; k != key {
			t.Errorf("delivered %s, not %s", k, key)
		}
	}
	if keys := aside(t, c, topic); len(keys) > 0 {
		t.Errorf("put aside: %v", keys)
	}
}

// TestTransactionsChangeBrokers: a transaction that a gomq broker has begun and
// asked about is gone on with by a Java broker on the same store, and the other way
// round. What has ended is not asked about again.
func TestTransactionsChangeBrokers(t *testing.T) {
	needJava(t)
	dir := harness.Dir(t)
	props := func() map[string]string {
		return map[string]string{"storePathRootDir": dir + "/store", "storePathCommitLog": dir + "/store/commitlog", "brokerFastFailureEnable": "false",
			"transactionTimeOut": "500", "transactionCheckInterval": "500", "transactionCheckMax": "100"}
	}
	const topic, group = "Handed", "pg-handed"
	open := map[string]bool{}
	for round, kind := range []string{"gomq", "4.9.7", "gomq"} {
		cfg := gomqServer(props())
		if kind != "gomq" {
			cfg = javaServer(t, kind, props())
		}
		b := harness.StartBroker(t, "", cfg)
		c := dial(t, b.Addr())
		if round == 0 {
			if err := c.NewTopic(topic, 1); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.Produce("handed", group); err != nil {
			t.Fatal(err)
		}
		begin := func(what string) raw.Half {
			key := fmt.Sprintf("%s-%d", what, round)
			h, err := c.Begin(group, topic, 0, fmt.Sprintf("%030X%02X", len(what), round), key, []byte(key))
			if err != nil {
				t.Fatal(err)
			}
			return h
		}
		if err := c.End(begin("committed"), raw.Commit); err != nil {
			t.Fatal(err)
		}
		if err := c.End(begin("rolledback"), raw.Rollback); err != nil {
			t.Fatal(err)
		}
		// Everything open is asked about; it is left open, but for the oldest of the
		// brokers before.
		want := map[string]bool{fmt.Sprintf("open-%d", round): true}
		begin("open")
		oldest := fmt.Sprintf("open-%d", round-1)
		for k := range open {
			want[k] = true
		}
		ended := false
		deadline := time.After(arrival)
		for len(want) > 0 {
			select {
			case cmd := <-c.Pushed():
				q, err := raw.ParseQuestion(cmd)
				if err != nil {
					t.Fatal(err)
				}
				key := q.Message.Keys()
				if !strings.HasPrefix(key, "open") || key != oldest && !open[key] && key != fmt.Sprintf("open-%d", round) {
					t.Errorf("round %d, %s: asked about %s", round, kind, key)
				}
				delete(want, key)
				if key == oldest && !ended {
					ended = true
					if err := c.Answer(q, raw.Commit); err != nil {
						t.Fatal(err)
					}
				}
			case <-deadline:
				t.Fatalf("round %d, %s: not asked about %v", round, kind, want)
			}
		}
		delete(open, oldest)
		open[fmt.Sprintf("open-%d", round)] = true
		if round > 0 {
			harness.Eventually(t, arrival, oldest+" is delivered", func() bool {
				list, err := c.Sweep(topic, 0)
				return err == nil && slices.ContainsFunc(list, func(r *raw.Record) bool { return r.Keys() == oldest })
			})
		}
		c.Close()
		b.Stop()
	}
}
