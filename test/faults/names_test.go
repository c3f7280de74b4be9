//go:build faults

package faults

import (
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"gomq/test/checker"
	"gomq/test/goclient"
	"gomq/test/harness"
	"gomq/test/raw"
)

// TestT24Nameservers: two nameservers and two brokers on hosts of their own. However
// the nameservers come and go, no broker that lives leaves the route of one that could
// hear it; whoever is back knows everything in 35 s; clients that know the brokers go on
// meanwhile, and nothing of what they were told is lost.
func TestT24Nameservers(t *testing.T) {
	harness.OnlyGomq(t)
	t.Parallel()
	for _, c := range []struct {
		name string
		run  func(*nameservers, *testing.T)
	}{{"AllAway", (*nameservers).allAway}, {"Flapping", (*nameservers).flapping}, {"StaleUnregister", (*nameservers).stale}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			n := startNameservers(t)
			c.run(n, t)
			n.judge(t)
		})
	}
}

const (
	namesTopic  = "Names"
	namesGroup  = "g-names"
	namesQueues = 2 // a broker
	wholeIn     = 35 * time.Second
)

// nameservers is two of them, two brokers and their clients.
type nameservers struct {
	*goclient.Stream
	rng     *rand.Rand
	at, on  [2]*host // of the nameservers, of the brokers
	ns, all [2]*harness.Server
	quit    func() // of the producer
}

func startNameservers(t *testing.T) *nameservers {
	w := newNetwork(t)
	n := &nameservers{rng: harness.Rand(t)}
	n.Stream = &goclient.Stream{Run: checker.NewRun(n.rng), Topic: namesTopic, Place: func(broker string, queue int) int {
		return namesQueues*int(broker[len(broker)-1]-'a') + queue
	}}
	for i := range n.ns {
		n.at[i], n.on[i] = w.host(2+i), w.host(4+i)
		n.ns[i] = harness.StartNamesrv(t, n.at[i].names(forgetful()))
	}
	both := n.ns[0].Addr() + ";" + n.ns[1].Addr()
	for i := range n.all {
		n.all[i] = harness.StartBroker(t, both, n.on[i].broker(eager(map[string]string{"brokerName": fmt.Sprintf("broker-%c", 'a'+i)})))
	}
	for _, b := range n.all {
		if err := dial(t, b.Addr()).NewTopic(namesTopic, namesQueues); err != nil {
			t.Fatal(err)
		}
	}
	for i := range n.ns {
		n.whole(t, i)
	}
	n.quit = n.Start(t, both, 0)
	goclient.Push(t, both, namesGroup, namesTopic, "*", n.Collect(namesGroup))
	n.goOn(t)
	return n
}

// everybody is what a nameserver has to name.
func (n *nameservers) everybody() map[string]string {
	return map[string]string{"broker-a 0": n.all[0].Addr(), "broker-b 0": n.all[1].Addr()}
}

// whole waits until a nameserver that is back knows everything.
func (n *nameservers) whole(t testing.TB, i int) {
	t.Helper()
	harness.Eventually(t, wholeIn, fmt.Sprint("nameserver ", i, " knows everything"), func() bool { return named(n.ns[i], namesTopic, n.everybody()) == nil })
}

// keeps watches that a nameserver never answers without a broker; it may be silent.
func (n *nameservers) keeps(t testing.TB, i int) (stop func()) {
	t.Helper()
	answers := 0
	end := harness.Watch(t, fmt.Sprint("nameserver ", i), func() error {
		who, err := raw.Named(n.ns[i].Addr(), namesTopic)
		if err != nil {
			return nil
		}
		answers++
		if want := n.everybody(); len(who) != len(want) {
			return fmt.Errorf("it names %v, want %v", who, want)
		}
		return nil
	})
	return func() {
		t.Helper()
		if end(); answers == 0 {
			t.Errorf("nameserver %d was never heard", i)
		}
	}
}

// goOn waits until both brokers have taken more messages.
func (n *nameservers) goOn(t testing.TB) {
	t.Helper()
	count := func() (by [2]int) {
		for _, a := range n.Run.Acks() {
			by[a.Queue/namesQueues]++
		}
		return by
	}
	from := count()
	harness.Eventually(t, 60*time.Second, "both brokers take messages", func() bool {
		now := count()
		return now[0] >= from[0]+20 && now[1] >= from[1]+20
	})
}

// allAway: one nameserver loses its wire, the other one stands still, both for longer
// than a broker may be silent. Clients do not notice. The one that stood still loses
// nobody; the other one, which has given everybody up, has everybody back.
func (n *nameservers) allAway(t *testing.T) {
	n.ns[1].Freeze()
	n.at[0].unplug()
	for end := time.Now().Add(silentFor + 2*time.Second); time.Now().Before(end); { // it is the time itself that is tested
		n.goOn(t)
	}
	n.Unharmed(t, "without nameservers")
	n.ns[0].WaitLine("broker expired.*broker-b", 10*time.Second)
	n.ns[1].Signal(syscall.SIGCONT)
	kept := n.keeps(t, 1)
	n.at[0].plug()
	n.whole(t, 0)
	back := n.keeps(t, 0)
	for end := time.Now().Add(4 * time.Second); time.Now().Before(end); { // they look for silent brokers twice a second
		n.goOn(t)
	}
	n.Unharmed(t, "with nameservers back")
	back()
	kept()
}

// flapping: the wires of a nameserver and of a broker come and go, always for less than
// a broker may be silent, while the other nameserver is killed again and again; at last
// both are.
func (n *nameservers) flapping(t *testing.T) {
	kept := n.keeps(t, 0)
	for i := range 12 {
		h := []*host{n.at[0], n.on[1]}[i%2]
		h.unplug()
		if i%4 == 1 {
			n.ns[1].Kill()
		}
		time.Sleep(time.Duration(n.rng.IntN(400)) * time.Millisecond) // it flaps at random
		h.plug()
		if i%4 == 1 {
			n.ns[1].Start()
		}
		time.Sleep(time.Duration(n.rng.IntN(400)) * time.Millisecond)
	}
	n.whole(t, 0)
	n.whole(t, 1)
	n.goOn(t)
	kept()
	n.Failed.Store(0) // to the broker that flapped
	for _, s := range n.ns {
		s.Kill()
	}
	n.goOn(t)
	n.Unharmed(t, "with nameservers killed")
	for _, s := range n.ns {
		s.Start()
	}
	n.whole(t, 0)
	n.whole(t, 1)
}

// stale: a broker says goodbye and comes back, and its goodbye to one nameserver is
// held up until it has registered anew. The nameserver hears it then, and the end of
// the connection that it came over, and keeps the broker.
func (n *nameservers) stale(t *testing.T) {
	n.quit()
	release := n.on[1].hold(n.ns[0])
	if code := n.all[1].Stop(); code != 0 {
		t.Errorf("exit code %d\n%s", code, n.all[1].Log())
	}
	held := []string{"netns", "exec", n.on[1].ns, "ss", "-Htn", "state", "fin-wait-1", "dst", n.ns[0].Host, "dport", "=", fmt.Sprint(":", n.ns[0].Ports.Listen)}
	if out, err := output("ip", held...); err != nil || out == "" {
		t.Fatalf("nothing of the broker is held up: %v", err)
	}
	n.all[1].Start()
	n.whole(t, 0)
	n.whole(t, 1)
	harness.Eventually(t, 20*time.Second, "the broker says that it is registered with both", func() bool {
		code, _, err := harness.Get(n.all[1].HTTP() + "/readyz")
		return err == nil && code == 200
	})
	kept, other := n.keeps(t, 0), n.keeps(t, 1)
	release()
	n.ns[0].WaitLine("nothing to unregister", 60*time.Second)
	harness.Eventually(t, 60*time.Second, "the old connection is gone", func() bool { out, err := output("ip", held...); return err == nil && out == "" })
	n.quit = n.Start(t, n.ns[0].Addr(), 1)
	n.goOn(t)
	kept()
	other()
}

// judge says that what was told OK is there, and that the group has got it.
func (n *nameservers) judge(t testing.TB) {
	t.Helper()
	n.quit()
	n.Got(t, namesGroup, 90*time.Second)
	for i, b := range n.all {
		places(t, n.Run, b, namesGroup, namesTopic, namesQueues, namesQueues*i)
		goclient.SweepAt(t, n.Run, "end", dial(t, b.Addr()), namesTopic, namesQueues, namesQueues*i)
	}
	if v := n.Run.Check(checker.Rules{Ordered: true, Drained: true, Groups: []string{namesGroup}, PlannedSends: 80}); !v.Valid() {
		t.Error(v)
	}
	stop(t, n.all[:]...)
	for _, b := range n.all {
		verify(t, b)
	}
	t.Logf("%d sent, %d told OK", n.Run.Count(checker.OpSend), n.OK.Load())
}
