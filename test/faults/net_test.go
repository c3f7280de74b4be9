//go:build faults

package faults

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"gomq/test/checker"
	"gomq/test/goclient"
	"gomq/test/harness"
	"gomq/test/raw"
)

// TestT20Network: a master and its slave on hosts of their own, and the wire between
// them fails in every way. While no acknowledgement can come back a SYNC_MASTER
// tells nobody OK and keeps nobody waiting, and an ASYNC_MASTER goes on; after each
// fault the slave catches up and both logs are the same bytes; at the end everything
// that was told OK is on both, in its place and order.
func TestT20Network(t *testing.T) {
	harness.OnlyGomq(t)
	t.Parallel()
	for _, role := range []string{"SYNC_MASTER", "ASYNC_MASTER"} {
		t.Run(role, func(t *testing.T) { t.Parallel(); wireFaults(t, role) })
	}
}

const (
	wireTopic     = "Wire"
	wireProducers = 2 // a queue each
	slaveTimeout  = 500 * time.Millisecond
)

// answer is what became of one attempt.
type answer struct {
	begun, ended time.Time
	code         int
}

// traffic sends throughout, each producer one message after the other until it is
// told OK.
type traffic struct {
	t    testing.TB
	run  *checker.Run
	addr string
	// first is the number of the first producer to the checker.
	first int
	// mortal: the broker may go away, and a producer ends when it does.
	mortal bool
	gate   sync.RWMutex // held by an attempt that is under way; whoever locks it has quiet

	mu      sync.Mutex // guards answers
	answers []answer
}

// start sends until the returned function is called.
func (l *traffic) start() (stop func()) {
	end := make(chan struct{})
	var all sync.WaitGroup
	for p := range wireProducers {
		all.Add(1)
		go func() { defer all.Done(); l.produce(p, end) }()
	}
	return sync.OnceFunc(func() { close(end); all.Wait() })
}

func (l *traffic) produce(p int, end chan struct{}) {
	c, err := raw.Dial(l.addr)
	if err != nil {
		l.t.Error(err)
		return
	}
	defer c.Close()
	if c.Limit = 20 * time.Second; l.mortal {
		c.Limit = 2 * time.Second
	}
	pace := time.NewTicker(3 * time.Millisecond)
	defer pace.Stop()
	for a := (checker.Attempt{ID: checker.ID{Producer: l.first + p}}); ; {
		select {
		case <-end:
			return
		case <-pace.C:
		}
		a.N++
		l.gate.RLock()
		begun := time.Now()
		code := send(l.run, c, a, wireTopic, p, 200+int(a.Seq*7919%2800))
		l.gate.RUnlock()
		l.mu.Lock()
		l.answers = append(l.answers, answer{begun, time.Now(), code})
		l.mu.Unlock()
		switch {
		case code == raw.Success:
			a.Seq, a.N = a.Seq+1, 0
		case code == raw.SlaveNotAvailable, code == raw.FlushSlaveTimeout:
		case code < 0 && l.mortal:
			return
		default:
			l.t.Errorf("producer %d: code %d", p, code)
			return
		}
	}
}

// between are the answers to attempts that were begun and answered between the two.
func (l *traffic) between(from, to time.Time) (list []answer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, a := range l.answers {
		if a.begun.After(from) && a.ended.Before(to) {
			list = append(list, a)
		}
	}
	return list
}

// since counts the answers of a code to attempts begun after from; code -1: of any.
func (l *traffic) since(from time.Time, code int) (n int) {
	for _, a := range l.between(from, time.Now()) {
		if code < 0 || a.code == code {
			n++
		}
	}
	return n
}

// wired is a set of two whose hosts are wired.
type wired struct {
	*traffic
	role          string
	rng           *rand.Rand
	near, far     *host // of the master and of the slave
	master, slave *harness.Server
}

// wireFault is one way in which the wire fails.
type wireFault struct {
	name  string
	apart bool         // nothing that the slave says can reach the master
	begin func() error // an error: the kernel cannot do it
	last  func(t testing.TB, from time.Time)
	heal  func()
}

func wireFaults(t *testing.T, role string) {
	s := startWired(t, role)
	stop := s.start()
	defer stop()
	harness.Eventually(t, 60*time.Second, "SEND_OK and a slave", func() bool {
		return s.since(time.Time{}, raw.Success) > 0 && s.gauge(t, "gomq_ha_in_sync_replicas") == 1
	})
	for _, f := range s.faults() {
		if !t.Run(f.name, func(t *testing.T) { s.suffer(t, f) }) {
			return // what follows would only repeat it
		}
	}
	stop()
	harness.SameLog(t, 30*time.Second, s.master, s.slave)
	// What was told OK is looked for in the sweep that was made last.
	for _, b := range []*harness.Server{s.slave, s.master} {
		goclient.Sweep(t, s.run, b.Props["brokerRole"], dial(t, b.Addr()), wireTopic, wireProducers)
		if v := s.run.Check(checker.Rules{Ordered: true, PlannedSends: 1000}); !v.Valid() {
			t.Fatalf("%s: %v", b.Props["brokerRole"], v)
		}
	}
	for _, b := range []*harness.Server{s.master, s.slave} {
		if code := b.Stop(); code != 0 {
			t.Errorf("exit code %d\n%s", code, b.Log())
		}
		verify(t, b)
	}
	t.Logf("%d attempts, %d told OK", s.run.Count(checker.OpSend), s.run.Count(checker.OpAck))
}

func startWired(t *testing.T, role string) *wired {
	w := newNetwork(t)
	s := &wired{role: role, rng: harness.Rand(t), near: w.host(2), far: w.host(3)}
	ns := harness.StartNamesrv(t, harness.Config{Host: w.addr})
	start := func(h *host, role, id string) *harness.Server {
		return harness.StartBroker(t, ns.Addr(), h.broker(map[string]string{"brokerRole": role, "brokerId": id, "mappedFileSizeCommitLog": "1048576",
			"slaveTimeout": "500", "haSendHeartbeatInterval": "200", "haHousekeepingInterval": "1000"}))
	}
	s.master, s.slave = start(s.near, role, "0"), start(s.far, "SLAVE", "1")
	if err := dial(t, s.master.Addr()).NewTopic(wireTopic, wireProducers); err != nil {
		t.Fatal(err)
	}
	s.traffic = &traffic{t: t, run: checker.NewRun(s.rng), addr: s.master.Addr()}
	return s
}

// gauge is a metric of the master.
func (s *wired) gauge(t testing.TB, name string) float64 {
	t.Helper()
	v, _ := harness.ReadMetrics(t, s.master.HTTP()).Sum(name)
	return v
}

// faults are the ways in which the wire fails here. haHousekeepingInterval is short
// enough for each side to give the other one up while they are apart.
func (s *wired) faults() []wireFault {
	givenUp := func(t testing.TB, from time.Time) {
		harness.Eventually(t, 30*time.Second, "the master gives its slave up", func() bool { return s.gauge(t, "gomq_ha_in_sync_replicas") == 0 })
		s.answered(t, time.Now(), -1, 10) // without a slave
	}
	done := func(fn func()) func() error { return func() error { fn(); return nil } }
	// Whoever waits for no slave sends a lot more, and outruns a slow wire.
	many, rate := 1, "1mbit"
	if s.role == "ASYNC_MASTER" {
		many, rate = 15, "256kbit"
	}
	return []wireFault{
		{name: "Cut", apart: true, begin: done(s.far.unplug), last: givenUp, heal: s.far.plug},
		{name: "MasterUnheard", apart: true, begin: done(func() { s.near.mute(s.far) }), last: givenUp, heal: func() { s.near.speak(s.far) }},
		{name: "SlaveUnheard", apart: true, begin: done(func() { s.far.mute(s.near) }), last: givenUp, heal: func() { s.far.speak(s.near) }},
		{name: "Loss", begin: func() error { return s.far.lossy(20) }, last: func(t testing.TB, from time.Time) {
			s.answered(t, from, raw.Success, 80*many)
			if dropped, _ := s.far.touched(t); dropped == 0 {
				t.Error("no packet was lost")
			}
		}, heal: s.far.clear},
		{name: "Slow", begin: func() error { return s.far.slow(rate) }, last: func(t testing.TB, from time.Time) {
			s.answered(t, from, raw.Success, 150*many)
			if s.role == "ASYNC_MASTER" {
				harness.Eventually(t, 30*time.Second, "the slave is behind", func() bool { return s.gauge(t, "gomq_ha_lag_bytes") > 20000 })
			}
			if _, held := s.far.touched(t); held == 0 {
				t.Error("no packet was held back")
			}
		}, heal: s.far.clear},
		{name: "Flapping", begin: done(func() {}), last: func(testing.TB, time.Time) {
			// Mostly shorter than it takes to be given up, now and then longer.
			for i := range 15 {
				s.far.unplug()
				time.Sleep(time.Duration(s.rng.IntN(120)+i%5/4*1100) * time.Millisecond)
				s.far.plug()
				time.Sleep(time.Duration(s.rng.IntN(120)) * time.Millisecond)
			}
		}, heal: func() {}},
		{name: "Reset", begin: func() error {
			n, err := s.far.reset(s.shipping(s.far)...)
			if err == nil && n == 0 {
				err = errors.New("this kernel ends no connection of others")
			}
			return err
		}, last: func(t testing.TB, from time.Time) {
			for i := range 6 {
				h := []*host{s.near, s.far}[i%2]
				harness.Eventually(t, 30*time.Second, "a connection of the slave to reset", func() bool {
					n, err := h.reset(s.shipping(h)...)
					if err != nil {
						t.Fatal(err)
					}
					return n > 0
				})
				time.Sleep(time.Duration(s.rng.IntN(100)) * time.Millisecond) // at any byte of it
			}
		}, heal: func() {}},
	}
}

// shipping finds the connections over which the log is shipped, of those of a host.
func (s *wired) shipping(of *host) []string {
	port := fmt.Sprint(":", s.master.Ports.HA)
	if of == s.near {
		return []string{"dst", s.far.addr, "sport", "=", port}
	}
	return []string{"dst", s.near.addr, "dport", "=", port}
}

// answered waits until so many attempts begun after from have been answered.
func (s *wired) answered(t testing.TB, from time.Time, code, n int) {
	t.Helper()
	harness.Eventually(t, 60*time.Second, "answers while the wire fails", func() bool { return s.since(from, code) >= n })
}

// suffer has one fault begin and end, and looks at what was told meanwhile and at
// what the slave has afterwards.
func (s *wired) suffer(t *testing.T, f wireFault) {
	if err := f.begin(); err != nil {
		s.far.tc("qdisc", "del", "root") // what there is of it
		harness.Skip(t, err.Error())
	}
	heal := sync.OnceFunc(f.heal)
	defer heal()
	from := time.Now()
	f.last(t, from)
	to := time.Now()
	heal()
	codes, slowest := map[int]int{}, map[int]time.Duration{}
	for _, a := range s.between(from, to) {
		codes[a.code]++
		slowest[a.code] = max(slowest[a.code], a.ended.Sub(a.begun))
	}
	t.Logf("%.1f s of it: answers by code %v, the slowest %v", to.Sub(from).Seconds(), codes, slowest)
	switch ok := codes[raw.Success]; {
	case s.role == "ASYNC_MASTER" && (ok == 0 || len(codes) > 1):
		t.Error("a master that waits for no slave did not tell everybody OK")
	case s.role == "SYNC_MASTER" && f.apart && ok > 0:
		t.Errorf("%d messages were told OK that no slave can have confirmed", ok)
	case s.role == "SYNC_MASTER" && f.apart && codes[raw.SlaveNotAvailable] == 0:
		t.Error("nobody was told that there is no slave")
	}
	// The promise is slaveTimeout and half a second; a machine that others use is slow.
	for code, d := range slowest {
		if d > slaveTimeout+3*time.Second {
			t.Errorf("code %d came after %v", code, d)
		}
	}
	healed := time.Now()
	harness.Eventually(t, 30*time.Second, "SEND_OK and a slave after the fault", func() bool {
		return s.since(healed, raw.Success) > 0 && s.gauge(t, "gomq_ha_in_sync_replicas") == 1
	})
	s.gate.Lock()
	defer s.gate.Unlock()
	size := harness.SameLog(t, 30*time.Second, s.master, s.slave)
	t.Logf("caught up %.1f s after it, %d bytes", time.Since(healed).Seconds(), size)
}
