//go:build faults

package faults

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"gomq/test/harness"
	"gomq/test/raw"
)

// TestT21States: a set of two of which one side comes back with another state than
// it had. What can be mended without a choice is mended; where one side would lose
// something the slave stands still, says so wherever somebody looks, does not count
// for SYNC_MASTER and keeps every byte, until an operator has chosen.
func TestT21States(t *testing.T) {
	harness.OnlyGomq(t)
	t.Parallel()
	ns := harness.StartNamesrv(t, harness.Config{})
	a, b := newCouple(t, ns, "broker-a"), newCouple(t, ns, "broker-b")
	for _, step := range []struct {
		name string
		run  func(t *testing.T)
	}{
		{"SlaveWiped", a.wiped},
		{"DisksSwapped", func(t *testing.T) { swapped(t, a, b) }},
		{"MasterOfOldCopyMended", a.mended},
		{"SlaveAhead", a.ahead},
		{"SameLengthOtherBytes", a.otherBytes},
	} {
		if !t.Run(step.name, step.run) {
			return // each begins where the one before ends
		}
	}
	for _, s := range []*harness.Server{a.master, a.slave, b.master, b.slave} {
		if code := s.Stop(); code != 0 {
			t.Errorf("exit code %d\n%s", code, s.Log())
		}
		verify(t, s)
	}
}

const stateTopic = "State"

// couple is a SYNC_MASTER and its slave.
type couple struct {
	ns, master, slave *harness.Server
	n                 int             // messages sent
	told              map[string]bool // bodies that were told OK and that nobody has given up
	older             string          // a copy of the master's store as it was
}

func newCouple(t *testing.T, ns *harness.Server, name string) *couple {
	start := func(role, id string) *harness.Server {
		return harness.StartBroker(t, ns.Addr(), harness.Config{Props: map[string]string{"brokerName": name, "brokerRole": role, "brokerId": id,
			"mappedFileSizeCommitLog": "131072", "slaveTimeout": "1000", "haSendHeartbeatInterval": "200"}})
	}
	c := &couple{ns: ns, master: start("SYNC_MASTER", "0"), slave: start("SLAVE", "1"), told: map[string]bool{}}
	if err := dial(t, c.master.Addr()).NewTopic(stateTopic, 1); err != nil {
		t.Fatal(err)
	}
	c.inSync(t)
	c.fill(t, 300)
	return c
}

// send sends one message. All take the same room in the log.
func (c *couple) send(t testing.TB, conn *raw.Conn) (code int, body string) {
	t.Helper()
	c.n++
	body = fmt.Sprintf("%s %06d%0800dz", c.master.Props["brokerName"], c.n, 0)
	s, err := conn.Send("pg", stateTopic, 0, raw.Props("WAIT", "true"), []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	if s.Code == raw.Success {
		c.told[body] = true
	}
	return s.Code, body
}

// fill has so many messages told OK, and returns them.
func (c *couple) fill(t testing.TB, n int) (list []string) {
	t.Helper()
	conn := dial(t, c.master.Addr())
	for range n {
		code, body := c.send(t, conn)
		if code != raw.Success {
			t.Fatalf("code %d", code)
		}
		list = append(list, body)
	}
	return list
}

// inSync waits until sends are copied.
func (c *couple) inSync(t testing.TB) {
	t.Helper()
	conn := dial(t, c.master.Addr())
	harness.Eventually(t, 30*time.Second, "SEND_OK with a slave", func() bool { code, _ := c.send(t, conn); return code == raw.Success })
}

// whole says that the set is well: sends are copied, both logs are the same from the
// first byte on, and everything that was told OK is on both.
func (c *couple) whole(t testing.TB) {
	t.Helper()
	c.inSync(t)
	harness.SameLog(t, 30*time.Second, c.master, c.slave)
	for _, s := range []*harness.Server{c.master, c.slave} {
		if first := slices.Min(slices.Collect(maps.Keys(logOf(t, s)))); strings.Trim(first, "0") != "" {
			t.Errorf("the log of the %s begins at %s", s.Props["brokerRole"], first)
		}
		c.has(t, s)
	}
	if v, ok := harness.ReadMetrics(t, c.slave.HTTP()).Sum("gomq_ha_stopped"); !ok || v != 0 {
		t.Errorf("gomq_ha_stopped is %v, %v", v, ok)
	}
}

// has says that everything that was told OK is on a broker.
func (c *couple) has(t testing.TB, s *harness.Server) {
	t.Helper()
	has := map[string]bool{}
	harness.Eventually(t, 30*time.Second, "the queue reaches the end of the log", func() bool {
		list, err := dial(t, s.Addr()).Sweep(stateTopic, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range list {
			has[string(r.Body)] = true
		}
		return !slices.ContainsFunc(slices.Collect(maps.Keys(c.told)), func(b string) bool { return !has[b] })
	})
}

// logOf is the checksum of each file of a broker's log that holds something, and in
// the name of none the place of the last byte that is not zero.
func logOf(t testing.TB, s *harness.Server) map[string]int64 {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(s.Store(), "commitlog", "*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s has no log: %v", s.Store(), err)
	}
	sums := map[string]int64{}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if data = bytes.TrimRight(data, "\x00"); len(data) > 0 {
			sums[filepath.Base(f)] = int64(len(data))<<32 | int64(crc32.ChecksumIEEE(data))
		}
	}
	return sums
}

// end is where a log ends: its last file and how much of that is used.
func end(log map[string]int64) string {
	last := slices.Max(slices.Collect(maps.Keys(log)))
	return fmt.Sprint(last, "+", log[last]>>32)
}

// refused says that the slave stands still and why, wherever somebody looks, that it
// does not count, and that its log is what it was.
func (c *couple) refused(t testing.TB, why string, was map[string]int64) {
	t.Helper()
	c.slave.WaitLine("this slave does not follow its master and keeps its data until an operator has chosen.*"+why, 30*time.Second)
	c.master.WaitLine("a replication connection is closed.*"+why, 30*time.Second)
	harness.Eventually(t, 10*time.Second, "gomq_ha_stopped", func() bool {
		v, ok := harness.ReadMetrics(t, c.slave.HTTP()).Sum("gomq_ha_stopped")
		return ok && v == 1
	})
	who := fmt.Sprintf("%s 1 at %s does not copy its master", c.slave.Props["brokerName"], c.slave.Addr())
	harness.Eventually(t, 40*time.Second, "gomq cluster status says that "+who, func() bool {
		return slices.ContainsFunc(harness.Look(t, c.ns.Addr()).Problems, func(p string) bool { return strings.HasPrefix(p, who) && strings.Contains(p, why) })
	})
	conn := dial(t, c.master.Addr())
	for range 3 {
		if code, _ := c.send(t, conn); code != raw.SlaveNotAvailable {
			t.Errorf("a send is told %d while the slave does not follow", code)
		}
	}
	if v, ok := harness.ReadMetrics(t, c.master.HTTP()).Sum("gomq_ha_in_sync_replicas"); !ok || v != 0 {
		t.Errorf("gomq_ha_in_sync_replicas is %v, %v", v, ok)
	}
	if is := logOf(t, c.slave); !maps.Equal(is, was) {
		t.Errorf("the slave's log was %v and is %v", was, is)
	}
}

// stop ends servers as an operator does.
func stop(t testing.TB, servers ...*harness.Server) {
	t.Helper()
	for _, s := range servers {
		if code := s.Stop(); code != 0 {
			t.Fatalf("exit code %d\n%s", code, s.Log())
		}
	}
}

// move renames directories, each pair from the first to the second.
func move(t testing.TB, pairs ...string) {
	t.Helper()
	for ; len(pairs) > 0; pairs = pairs[2:] {
		if err := os.Rename(pairs[0], pairs[1]); err != nil {
			t.Fatal(err)
		}
	}
}

// wiped: a slave without its disk gets everything from its master's first byte.
func (c *couple) wiped(t *testing.T) {
	stop(t, c.slave)
	move(t, c.slave.Store(), c.slave.Store()+".lost")
	c.slave.Start()
	c.whole(t)
}

// swapped: two slaves that have each other's disk take nothing, and go on when they
// have their own again.
func swapped(t *testing.T, a, b *couple) {
	swap := func() {
		stop(t, a.slave, b.slave)
		move(t, a.slave.Store(), a.slave.Store()+".other", b.slave.Store(), a.slave.Store(), a.slave.Store()+".other", b.slave.Store())
	}
	swap()
	atA, atB := logOf(t, a.slave), logOf(t, b.slave)
	for _, c := range []*couple{a, b} {
		c.slave.Start()
	}
	a.refused(t, "the two logs differ", atA)
	b.refused(t, "the two logs differ", atB)
	swap()
	for _, c := range []*couple{a, b} {
		c.slave.Start()
		c.whole(t)
	}
}

// keep copies the store of a master that does not run.
func (c *couple) keep(t testing.TB) {
	t.Helper()
	c.older = filepath.Join(harness.Dir(t), "store")
	if err := os.CopyFS(c.older, os.DirFS(c.master.Store())); err != nil {
		t.Fatal(err)
	}
}

// restore gives a master that does not run the copy instead of what it has.
func (c *couple) restore(t testing.TB) {
	t.Helper()
	if err := os.RemoveAll(c.master.Store()); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(c.master.Store(), os.DirFS(c.older)); err != nil {
		t.Fatal(err)
	}
}

// mended: a master that comes back from a copy of what it was when it was killed,
// as after a power cut, fetches what it lacks from its slave before it opens.
func (c *couple) mended(t *testing.T) {
	c.master.Kill()
	c.keep(t)
	c.master.Start()
	c.inSync(t)
	c.fill(t, 200)
	c.master.Kill()
	c.restore(t)
	c.master.Start()
	c.master.WaitLine("it has fetched it from a slave", 5*time.Second)
	c.whole(t)
}

// ahead: a master restored from an orderly backup does not know that it has lost
// anything. Its slave, which has more, does not follow it.
func (c *couple) ahead(t *testing.T) {
	harness.SameLog(t, 30*time.Second, c.master, c.slave)
	stop(t, c.master)
	c.keep(t)
	c.master.Start()
	c.inSync(t)
	c.fill(t, 100)
	harness.SameLog(t, 30*time.Second, c.master, c.slave)
	was := logOf(t, c.slave)
	stop(t, c.master)
	c.restore(t)
	c.master.Start()
	c.refused(t, "the master has lost its end", was)
	c.has(t, c.slave) // it serves what it has
}

// otherBytes: the master goes on until its log is as long as that of the slave that
// was ahead. The slave takes nothing for its own because of that. Then the operator
// chooses the master, and gives up what only the slave has.
func (c *couple) otherBytes(t *testing.T) {
	was := logOf(t, c.slave)
	conn := dial(t, c.master.Addr())
	for n := 0; end(logOf(t, c.master)) != end(was); n++ {
		if code, _ := c.send(t, conn); code != raw.SlaveNotAvailable || n > 1000 {
			t.Fatalf("message %d: code %d; the master's log ends at %s, the slave's at %s", n, code, end(logOf(t, c.master)), end(was))
		}
	}
	stop(t, c.slave)
	c.slave.Start()
	c.refused(t, "the two logs differ", was)
	c.has(t, c.slave)
	c.told = map[string]bool{}
	list, err := conn.Sweep(stateTopic, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range list {
		c.told[string(r.Body)] = true
	}
	stop(t, c.slave)
	move(t, c.slave.Store(), c.slave.Store()+".given-up")
	c.slave.Start()
	c.whole(t)
}
