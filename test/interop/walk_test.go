//go:build interop || interop_all

package interop

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gomq/test/checker"
	"gomq/test/goclient"
	"gomq/test/harness"
	"gomq/test/raw"
)

// walk is the user's cluster with clients at work while its processes are replaced.
type walk struct {
	*testing.T
	*harness.Seed
	from     string // the version of RocketMQ
	d        *driver
	run      *checker.Run
	producer string
	consumer string

	acked  [2]atomic.Int64 // messages with SEND_OK, by broker
	alone  [2]atomic.Int64 // stored, and the slave was not there
	failed atomic.Int64    // sends that failed after the client's retries
	pardon int64           // so many of them are RocketMQ's own, see master
	why    atomic.Value
	extra  [2][]string // keys that must be in the topic of delayed messages and transactions
}

const (
	walkTopic, walkExtra, walkQueues      = "Walk", "WalkExtra", 4
	walkGroup, walkNewGroup, walkProducer = "g-walk", "g-walk-new", "pg-walk"
)

// startWalk starts the cluster of the user's files, all of it RocketMQ of a version,
// and a producer and a consumer of that version.
func startWalk(t *testing.T, version string) *walk {
	t.Helper()
	return walkOn(t, version, harness.SeedConfig{Kind: "java", JavaLib: jars(t, "server", version), Hosts: [2]string{"127.0.0.1", "127.0.0.1"}})
}

// walkOn is startWalk with other servers.
func walkOn(t *testing.T, version string, servers harness.SeedConfig) *walk {
	t.Helper()
	w := &walk{T: t, from: version, run: checker.NewRun(harness.Rand(t))}
	servers.Props = map[string]string{
		"mappedFileSizeCommitLog": "67108864",
		// A slow machine is not under test, nor are the originals' 5, 30 and 60 s.
		"brokerFastFailureEnable": "false", "haSendHeartbeatInterval": "1000", "registerNameServerPeriod": "10000",
		"transactionCheckInterval": "500", "transactionTimeOut": "500", "transactionCheckMax": "10000",
	}
	w.Seed = harness.StartSeed(t, servers)
	for _, b := range w.Masters {
		w.at(b, func(c *raw.Conn) error {
			if err := c.NewTopic(walkExtra, 1); err != nil {
				return err
			}
			return c.NewTopic(walkTopic, walkQueues)
		})
	}
	w.d = startJava(t, version, "JSON", w.Namesrv)
	admin := w.d.fresh("admin")
	do[none](t, w.d, "admin", "name", admin)
	harness.Eventually(t, arrival, "the route of "+walkTopic, func() bool {
		if !routed(t, w.d, admin, walkTopic, walkQueues) {
			return false
		}
		return len(do[route](t, w.d, "route", "name", admin, "topic", walkTopic).Queues) == 2
	})
	w.producer, w.consumer = w.d.fresh("producer"), w.consume(walkGroup)
	do[none](t, w.d, "producer", "name", w.producer, "group", walkProducer)
	return w
}

func (w *walk) consume(group string) (consumer string) {
	w.Helper()
	consumer = w.d.fresh("c")
	do[none](w, w.d, "push", "name", consumer, "topic", walkTopic, "group", group)
	return consumer
}

// at does something over a connection to a server.
func (w *walk) at(b *harness.Server, what func(c *raw.Conn) error) {
	w.Helper()
	c := dial(w, b.Addr())
	defer c.Close()
	c.Limit = arrival
	if err := what(c); err != nil {
		w.Fatalf("%s: %v\n%s", b.Name, err, b.Log())
	}
}

// brokerAt is the number of the broker of a name, 0 or 1; place makes the queues of
// both different ones to the checker.
func brokerAt(name string) int        { return strings.Index("ab", name[len(name)-1:]) }
func place(broker int, queue int) int { return 100*broker + queue }
func (w *walk) storedBy(host string) int {
	return map[bool]int{true: 0, false: 1}[strings.HasSuffix(host, w.Masters[0].Addr())]
}
func (w *walk) counts() (acks, lone int64) {
	return w.acked[0].Load() + w.acked[1].Load(), w.alone[0].Load() + w.alone[1].Load()
}

// send sends one message after the other, each once and as often as the client
// does by itself, until it is told to stop.
func (w *walk) send(stop <-chan struct{}) {
	for seq := int64(0); ; seq++ {
		select {
		case <-stop:
			return
		case <-time.After(20 * time.Millisecond): // a producer with a pace, not a flood
		}
		m := w.run.Begin(checker.Attempt{ID: checker.ID{Seq: seq}, N: 1}, walkTopic, -1, 200)
		var a struct {
			Error   string
			Results []sent
		}
		if err := json.Unmarshal(w.d.call(w, "send", "name", w.producer, "topic", m.Topic, "tag", checker.Tag, "keys", m.Key,
			"prop."+goclient.Note, m.Note, "base64", base64.StdEncoding.EncodeToString(m.Body)), &a); err != nil {
			w.Error(err)
			return
		}
		if len(a.Results) != 1 {
			w.failed.Add(1)
			w.why.Store(a.Error)
			w.run.Unknown(m, a.Error)
			continue
		}
		r := a.Results[0]
		b := brokerAt(r.Queue.Broker)
		if r.Status == "SEND_OK" {
			w.run.Acked(m, place(b, r.Queue.QueueID), r.QueueOffset, r.OffsetMsgID)
			w.acked[b].Add(1)
		} else {
			w.run.Unknown(m, r.Status)
			w.alone[b].Add(1)
		}
	}
}

// grows waits until a count has grown by n.
func (w *walk) grows(what string, count *atomic.Int64, n int64) {
	w.Helper()
	goal := count.Load() + n
	harness.Eventually(w, arrival, fmt.Sprintf("%d more %s", n, what), func() bool { return count.Load() >= goal })
}

// unharmed fails when a send has failed since the last call that should not have.
func (w *walk) unharmed() {
	w.Helper()
	if n := w.failed.Swap(0); n > w.pardon {
		w.Errorf("%d sends failed after the client's retries, one with %v", n, w.why.Load())
	}
	w.pardon = 0
}

// consumed waits until a consumer has everything that was acknowledged until now.
func (w *walk) consumed(consumer string) {
	w.Helper()
	acks := w.run.Acks()
	has, looked, missing := map[string]bool{}, 0, -1
	harness.Eventually(w, arrival, fmt.Sprintf("%s has the %d messages that were acknowledged", consumer, len(acks)), func() bool {
		all := w.d.received(consumer)
		for ; looked < len(all); looked++ {
			has[all[looked].Keys] = true
		}
		missing = 0
		for _, a := range acks {
			if !has[w.run.Key(a.ID)] {
				missing++
			}
		}
		return missing == 0
	})
}

// whole waits until gomq cluster status has nothing to complain of: every process is
// there, registered at both nameservers, and is what it is meant to be by now.
func (w *walk) whole() {
	w.Helper()
	var v harness.View
	var why string
	defer func() {
		if w.Failed() {
			w.Logf("%s; last seen: %+v", why, v)
		}
	}()
	harness.Eventually(w, 90*time.Second, "the cluster is whole", func() bool {
		v = harness.Look(w, w.Namesrv)
		why = strings.Join(v.Problems, "; ")
		if why != "" || len(v.Sets) != 2 {
			return false
		}
		for i, s := range v.Sets {
			for k, b := range []*harness.Server{w.Masters[i], w.Slaves[i]} {
				if len(s.Brokers) != 2 {
					why = s.Name + " has not two brokers"
					return false
				}
				if got := s.Brokers[k]; got.Address != b.Addr() || got.Gomq != (b.Kind == "gomq") {
					why = fmt.Sprintf("%s %d at %s is not what it should be", s.Name, got.ID, got.Address)
					return false
				}
			}
		}
		return true
	})
}
