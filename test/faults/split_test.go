//go:build faults

package faults

import (
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"gomq/test/checker"
	"gomq/test/goclient"
	"gomq/test/harness"
	"gomq/test/raw"
)

// silentFor is how long a broker may be silent where a test waits for nameservers to
// give one up: a little longer than the shortest time between two registrations.
const silentFor = 12 * time.Second

// forgetful is the configuration of a nameserver that gives silent brokers up soon,
// eager that of a broker that registers as often as it can.
func forgetful() map[string]string {
	return map[string]string{"brokerExpiredTimeMillis": fmt.Sprint(silentFor.Milliseconds()), "scanNotActiveBrokerInterval": "500"}
}
func eager(props map[string]string) map[string]string {
	all := map[string]string{"registerNameServerPeriod": "10000"}
	maps.Copy(all, props)
	return all
}

// named says that a nameserver names exactly these for a topic.
func named(ns *harness.Server, topic string, want map[string]string) error {
	got, err := raw.Named(ns.Addr(), topic)
	if err == nil && !maps.Equal(got, want) {
		err = fmt.Errorf("the nameserver at %s names %v, want %v", ns.Addr(), got, want)
	}
	return err
}

const (
	splitTopic = "Split"
	splitGroup = "g-split"
)

// side is a nameserver, the only master that it can hear, and their clients.
type side struct {
	*goclient.Stream
	names, host *host
	ns, master  *harness.Server
	quit, leave func() // of its producer and its consumer
}

// named is who the nameserver names.
func (s *side) named() map[string]string {
	return map[string]string{"broker-a 0": s.master.Addr()}
}

// TestT22SplitBrain: two masters of one name, each heard by one of two nameservers.
// When the nameservers hear both, each refuses the one that it does not know, and
// everybody who looks is told; no route changes, and what each master takes stays with
// it. When the host of the first is lost, the other one has its name after the time for
// which a broker may be silent, and the first one is refused when it is back.
func TestT22SplitBrain(t *testing.T) {
	harness.OnlyGomq(t)
	t.Parallel()
	sides, both := splitBrain(t)
	a, b := sides[0], sides[1]
	var kept []func()
	for i, s := range sides {
		s.quit = s.Start(t, s.ns.Addr(), i)
		s.leave = goclient.Push(t, s.ns.Addr(), splitGroup, splitTopic, "*", s.Collect(splitGroup))
		kept = append(kept, harness.Watch(t, "the route", func() error { return named(s.ns, splitTopic, s.named()) }))
	}
	for _, s := range sides {
		s.More(t, 50, 30*time.Second)
	}
	alarmed(t, both)

	a.host.speak(b.names)
	a.names.speak(b.host)
	for _, s := range sides {
		s.master.WaitLine("a second one at .* is refused", 30*time.Second)
		s.ns.WaitLine("registration refused", 30*time.Second)
	}
	for _, s := range sides {
		s.More(t, 50, 30*time.Second)
		s.Unharmed(t, "with two masters")
		s.Got(t, splitGroup, 60*time.Second)
	}
	alarmed(t, both)

	a.quit()
	a.Got(t, splitGroup, 60*time.Second)
	a.leave()
	kept[0]()
	a.host.unplug()
	harness.Eventually(t, 2*silentFor, "the name goes over", func() bool { return named(a.ns, splitTopic, b.named()) == nil })
	kept[0] = harness.Watch(t, "the route that went over", func() error { return named(a.ns, splitTopic, b.named()) })
	other := b.Start(t, a.ns.Addr(), 2)
	b.More(t, 50, 30*time.Second)
	a.host.plug()
	harness.Eventually(t, 60*time.Second, "the first master says that nobody takes it", func() bool {
		code, text, err := harness.Get(a.master.HTTP() + "/readyz")
		return err == nil && code == 503 && strings.Contains(text, "has a living master at "+b.master.Addr())
	})
	b.More(t, 20, 30*time.Second)
	other()
	b.quit()
	b.Got(t, splitGroup, 60*time.Second)
	b.leave()
	for _, stop := range kept {
		stop()
	}
	for _, s := range sides {
		s.judge(t)
	}
}

// splitBrain starts both sides, and says how to ask both nameservers.
func splitBrain(t *testing.T) (sides [2]*side, both string) {
	w := newNetwork(t)
	for i := range sides {
		s := &side{Stream: &goclient.Stream{Run: checker.NewRun(harness.Rand(t)), Topic: splitTopic}, names: w.host(2 + i), host: w.host(4 + i)}
		s.ns = harness.StartNamesrv(t, s.names.names(forgetful()))
		sides[i] = s
	}
	both = sides[0].ns.Addr() + ";" + sides[1].ns.Addr()
	// What the first master says to the second nameserver is lost, and so is what the
	// first nameserver says to the second master.
	sides[0].host.mute(sides[1].names)
	sides[0].names.mute(sides[1].host)
	for _, s := range sides {
		s.master = harness.StartBroker(t, both, s.host.broker(eager(nil)))
		if err := dial(t, s.master.Addr()).NewTopic(splitTopic, 2); err != nil {
			t.Fatal(err)
		}
	}
	return sides, both
}

// alarmed says that whoever looks is told of both masters.
func alarmed(t testing.TB, namesrv string) {
	t.Helper()
	problems := harness.Look(t, namesrv).Problems
	n := 0
	for _, p := range problems {
		if strings.Contains(p, "is known to") {
			n++
		}
	}
	if n != 2 {
		t.Errorf("gomq cluster status says %q", problems)
	}
}

// judge says that a master has what it was given, and nothing of the other one.
func (s *side) judge(t testing.TB) {
	t.Helper()
	places(t, s.Run, s.master, splitGroup, splitTopic, 2, 0)
	goclient.Sweep(t, s.Run, "end", dial(t, s.master.Addr()), splitTopic, 2)
	if v := s.Run.Check(checker.Rules{Ordered: true, NoFaults: true, Drained: true, Groups: []string{splitGroup}, PlannedSends: 90}); !v.Valid() {
		t.Errorf("%s: %v", s.master.Addr(), v)
	}
	if code := s.master.Stop(); code != 0 {
		t.Errorf("exit code %d\n%s", code, s.master.Log())
	}
	verify(t, s.master)
	t.Logf("%s: %d messages told OK", s.master.Addr(), s.OK.Load())
}

// places records where a broker says that a group is; base is the number of its first
// queue to the checker.
func places(t testing.TB, run *checker.Run, s *harness.Server, group, topic string, queues, base int) {
	t.Helper()
	c := dial(t, s.Addr())
	for q := range queues {
		at, err := c.Committed(group, topic, q)
		if err != nil {
			t.Fatal(err)
		}
		if at >= 0 {
			run.Add(checker.Event{Op: checker.OpPlace, Group: group, Topic: topic, Queue: base + q, Offset: at})
		}
	}
}
