//go:build interop || interop_all

package interop

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"gomq/test/checker"
	"gomq/test/goclient"
	"gomq/test/harness"
	"gomq/test/raw"
)

// migration is docs/MIGRATION.md, heading by heading.
var migration = []struct {
	heading string
	run     func(w *walk)
}{
	{"1. Look at what runs", (*walk).lookAround},
	{"2. The nameserver of host 2", func(w *walk) { w.nameserver(1, "gomq") }},
	{"3. The nameserver of host 1", func(w *walk) { w.nameserver(0, "gomq") }},
	{"4. The slave of broker-a", func(w *walk) { w.slave(0, "gomq") }},
	{"5. The slave of broker-b", func(w *walk) { w.slave(1, "gomq") }},
	{"6. The master broker-a", func(w *walk) { w.master(0, "gomq") }},
	{"7. The master broker-b", func(w *walk) { w.master(1, "gomq") }},
	{"Back: a master", func(w *walk) { w.master(1, w.from) }},
	{"Back: a slave", func(w *walk) { w.slave(1, w.from) }},
	{"Back: a nameserver", func(w *walk) { w.nameserver(1, w.from) }},
}

// TestMigration walks through docs/MIGRATION.md with a cluster of RocketMQ, process
// by process to gomq and one of each kind back, while a producer and consumers of
// RocketMQ are at work. No send fails but one when RocketMQ's masters stop, nothing that was acknowledged is lost, and
// what was delayed, open or consumed goes on where it was.
func TestMigration(t *testing.T) { migrate(t, "4.5.2") }

// migrate is the walk with a version of RocketMQ.
func migrate(t *testing.T, from string) {
	needJava(t)
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(harness.Tree(), "docs", "MIGRATION.md"))
	if err != nil {
		t.Fatal(err)
	}
	var headings, steps []string
	for line := range strings.Lines(string(text)) {
		if h, ok := strings.CutPrefix(line, "### "); ok {
			headings = append(headings, strings.TrimSpace(h))
		}
	}
	for _, s := range migration {
		steps = append(steps, s.heading)
	}
	if !slices.Equal(headings, steps) {
		t.Fatalf("docs/MIGRATION.md has the steps %q, tested are %q", headings, steps)
	}
	w := startWalk(t, from)
	stop, wg := make(chan struct{}), sync.WaitGroup{}
	wg.Add(1)
	go func() { defer wg.Done(); w.send(stop) }()
	halt := sync.OnceFunc(func() { close(stop); wg.Wait() })
	t.Cleanup(halt)
	for _, s := range migration {
		begun := time.Now()
		s.run(w)
		w.unharmed()
		acks, alone := w.counts()
		t.Logf("%s: %.1f s; %d sends acknowledged, %d stored without a slave", s.heading, time.Since(begun).Seconds(), acks, alone)
		if t.Failed() {
			return
		}
	}
	halt()
	w.judge(500)
}

// lookAround: the files can be used, and the cluster is whole.
func (w *walk) lookAround() {
	for _, b := range []*harness.Server{w.Masters[0], w.Masters[1], w.Slaves[0], w.Slaves[1]} {
		if out, err := exec.Command(harness.Build(w), "config", "check", b.Conf).CombinedOutput(); err != nil {
			w.Errorf("gomq config check: %v\n%s", err, out)
		}
	}
	w.whole()
	w.bothGrow()
}

// bothGrow waits until both masters have acknowledged some more.
func (w *walk) bothGrow() {
	w.Helper()
	w.grows("sends acknowledged by broker-a", &w.acked[0], 20)
	w.grows("sends acknowledged by broker-b", &w.acked[1], 20)
}

// complains waits until gomq cluster status says a sentence with all the words.
func (w *walk) complains(words ...string) {
	w.Helper()
	var v harness.View
	harness.Eventually(w, arrival, fmt.Sprintf("gomq cluster status speaks of %q", words), func() bool {
		v = harness.Look(w, w.Namesrv)
		return slices.ContainsFunc(v.Problems, func(p string) bool {
			return !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(p, word) })
		})
	})
}

// nameserver replaces one nameserver; clients and brokers go on with the other. Its
// KV configuration goes over.
func (w *walk) nameserver(i int, kind string) {
	const putKV, getKV = 100, 101
	w.at(w.Names[i], func(c *raw.Conn) error {
		_, err := c.Do(putKV, map[string]string{"namespace": "WALK", "key": "before " + kind, "value": "wert ä"}, nil)
		return err
	})
	w.Names[i].Stop()
	w.complains("nameserver", w.Names[i].Addr(), "does not answer")
	w.bothGrow()
	become(w, w.Names[i], kind)
	w.Names[i].Start()
	w.at(w.Names[i], func(c *raw.Conn) error {
		cmd, err := c.Do(getKV, map[string]string{"namespace": "WALK", "key": "before " + kind}, nil)
		if err == nil && cmd.Ext["value"] != "wert ä" {
			err = fmt.Errorf("the KV configuration says %q", cmd.Ext["value"])
		}
		return err
	})
	w.whole()
	w.bothGrow()
}

// slave replaces the slave of a master, which meanwhile stores and says each time
// that it is alone.
func (w *walk) slave(i int, kind string) {
	name, y := w.Slaves[i].Props["brokerName"], w.Slaves[i]
	y.Stop()
	w.grows("sends stored by "+name+" without its slave", &w.alone[i], 5)
	w.grows("sends acknowledged by the other", &w.acked[1-i], 20)
	become(w, y, kind)
	y.Start()
	w.grows("sends acknowledged by "+name, &w.acked[i], 20)
	w.whole()
}

// master replaces a master. Producers go on with the other one, consumers read what
// it had from its slave. What is delayed or open waits for it to come back.
func (w *walk) master(i int, kind string) {
	name, m := w.Masters[i].Props["brokerName"], w.Masters[i]
	was := w.places(m)
	open := w.leave(m, len(w.extra[i]))
	w.extra[i] = append(w.extra[i], open, "delayed-"+open)
	if m.Kind == "java" {
		// It ends replication before it ends serving, so that a send waits for a slave
		// that cannot come, for longer than the client has left for another broker.
		w.pardon = 1
	}
	m.Stop()
	w.complains(name, "has no living master")
	w.grows("sends acknowledged by the other", &w.acked[1-i], 20)
	if m.Kind == "gomq" {
		// RocketMQ does not answer the pulls that wait when it stops, and the client
		// waits 30 s for them before it turns to the slave: that is looked at in the end.
		w.consumed(w.consumer)
	}
	become(w, m, kind)
	m.Start()
	w.grows("sends acknowledged by "+name, &w.acked[i], 20)
	w.goOn(m, w.extra[i])
	for q, at := range w.places(m) {
		if at < was[q] {
			w.Errorf("%s: the place of %s in queue %d was %d and is %d", name, walkGroup, q, was[q], at)
		}
	}
	w.whole()
}

// places are those of the group in the queues of a broker, after the consumer has
// said them.
func (w *walk) places(b *harness.Server) (list [walkQueues]int64) {
	w.Helper()
	do[none](w, w.d, "persist", "name", w.consumer)
	w.at(b, func(c *raw.Conn) (err error) {
		harness.Eventually(w, arrival, "the places of "+walkGroup, func() bool {
			for q := range list {
				if list[q], err = c.Committed(walkGroup, walkTopic, q); err != nil || list[q] < 0 {
					return false
				}
			}
			return true
		})
		return err
	})
	return list
}

// walkOpener is the producer group of the open transactions, walkBack the consumer
// group that goes back.
const walkOpener, walkBack = "pg-walk-open", "g-walk-back"

// leave leaves an open transaction, a delayed message and a group that went back with
// a broker and returns the key of the first.
func (w *walk) leave(b *harness.Server, n int) (open string) {
	w.Helper()
	open = fmt.Sprintf("open-%d", n)
	w.at(b, func(c *raw.Conn) error {
		if err := c.Produce("walk-opener", walkOpener); err != nil {
			return err
		}
		if _, err := c.Begin(walkOpener, walkExtra, 0, fmt.Sprintf("%032X", n), open, []byte(open)); err != nil {
			return err
		}
		if _, err := c.Send(walkProducer, walkExtra, 0, raw.Props("KEYS", "delayed-"+open, "DELAY", "2"), []byte(open)); err != nil { // 5 s
			return err
		}
		// gomq notes in the file of the offsets that a group went back on purpose.
		for _, at := range []int64{2, 1} {
			if err := c.Commit(walkBack, walkTopic, 0, at); err != nil {
				return err
			}
		}
		return nil
	})
	return open
}

// goOn answers the question about the open transaction and waits for all that was
// left.
func (w *walk) goOn(b *harness.Server, keys []string) {
	w.Helper()
	w.at(b, func(c *raw.Conn) error {
		if err := c.Produce("walk-opener", walkOpener); err != nil {
			return err
		}
		select {
		case cmd := <-c.Pushed():
			q, err := raw.ParseQuestion(cmd)
			if err == nil && q.Message.Keys() != keys[len(keys)-2] {
				err = fmt.Errorf("asked about %s", q.Message.Keys())
			}
			if err == nil {
				err = c.Answer(q, raw.Commit)
			}
			if err != nil {
				return err
			}
		case <-time.After(arrival):
			return fmt.Errorf("nobody was asked about %s", keys[len(keys)-2])
		}
		harness.Eventually(w, arrival, fmt.Sprintf("%q are delivered", keys), func() bool { return w.delivered(c, keys) })
		if at, err := c.Committed(walkBack, walkTopic, 0); err != nil || at != 1 {
			return fmt.Errorf("%s went back to 1 and is at %d, %v", walkBack, at, err)
		}
		return nil
	})
}

func (w *walk) delivered(c *raw.Conn, keys []string) bool {
	list, err := c.Sweep(walkExtra, 0)
	return err == nil && !slices.ContainsFunc(keys, func(key string) bool {
		return !slices.ContainsFunc(list, func(r *raw.Record) bool { return r.Keys() == key })
	})
}

// judge compares what was sent, at least as many as planned, with what is stored and
// what was consumed, and returns who consumed it, by group.
func (w *walk) judge(planned int) map[string]string {
	late := w.consume(walkNewGroup)
	w.consumed(w.consumer)
	w.consumed(late)
	for i := range w.Masters {
		if size := harness.SameLog(w, arrival, w.Masters[i], w.Slaves[i]); size == 0 {
			w.Error("no byte was compared")
		}
	}
	for node, brokers := range map[string][2]*harness.Server{"slaves": w.Slaves, "masters": w.Masters} {
		for i, b := range brokers {
			w.at(b, func(c *raw.Conn) error {
				if len(w.extra[i]) == 0 {
					return w.sweep(node, i, c)
				}
				harness.Eventually(w, arrival, "what was delayed and open, at the "+node, func() bool { return w.delivered(c, w.extra[i]) })
				harness.Eventually(w, arrival, walkBack+" stands where it went back to, at the "+node, func() bool {
					at, err := c.Committed(walkBack, walkTopic, 0)
					return err == nil && at == 1
				})
				return w.sweep(node, i, c)
			})
		}
	}
	groups := map[string]string{walkGroup: w.consumer, walkNewGroup: late}
	for group, consumer := range groups {
		for _, m := range w.d.received(consumer) {
			w.run.Polled(group, checker.Record{Topic: m.Topic, Queue: place(w.storedBy(m.StoreHost), m.QueueID), Offset: m.QueueOffset,
				Phy: m.LogOffset, Key: m.Keys, Tag: m.Tags, Note: m.Properties[goclient.Note], Body: m.Body})
		}
	}
	if v := w.run.Check(checker.Rules{Drained: true, Groups: []string{walkGroup, walkNewGroup}, Resends: 2, PlannedSends: planned}); !v.Valid() {
		w.Fatal(v)
	}
	for _, s := range []*harness.Server{w.Masters[0], w.Slaves[0]} {
		s.Stop()
		verified(w, s) // what RocketMQ and gomq have written in turns
	}
	return groups
}

// sweep reads all queues of a broker.
func (w *walk) sweep(node string, i int, c *raw.Conn) error {
	for q := range walkQueues {
		low, err := c.Offset(raw.MinOffset, walkTopic, q)
		if err != nil {
			return err
		}
		high, err := c.Offset(raw.MaxOffset, walkTopic, q)
		if err != nil {
			return err
		}
		recs, err := c.Sweep(walkTopic, q)
		if err != nil {
			return err
		}
		list := goclient.RawRecords(recs)
		for k := range list {
			list[k].Queue = place(i, q)
		}
		w.run.Swept(node, walkTopic, place(i, q), low, high, list)
	}
	return nil
}
