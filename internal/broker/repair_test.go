package broker

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gomq/internal/protocol"
)

// lostEnd is a master that has come back from a copy of its store that was taken
// before its last messages, as after a power cut, and the slave that has them all.
// The master has not been started again.
func lostEnd(t *testing.T, sent int) (mo Options, s *rig, end int64) {
	t.Helper()
	m := masterOf(t, nil)
	m.create("T", 1)
	s = slaveOf(t, m, nil)
	m.counted(1)
	m.eventually("the slave does not follow", func() bool { return m.send("T", 0, "first").Code == protocol.Success })
	// A slave that is registered; here nothing registers.
	peers := fmt.Sprintf(`{"brokerName":"broker-a","slaves":{%q:1}}`, s.addr)
	if err := os.WriteFile(filepath.Join(m.live.Load().StorePathRootDir, "config", "haPeers.json"), []byte(peers), 0o600); err != nil {
		t.Fatal(err)
	}
	before := t.TempDir()
	if err := os.CopyFS(filepath.Join(before, "store"), os.DirFS(m.live.Load().StorePathRootDir)); err != nil {
		t.Fatal(err)
	}
	for i := range sent {
		if got := m.send("T", 0, fmt.Sprint("acknowledged ", i)); got.Code != protocol.Success {
			t.Fatalf("code %d", got.Code)
		}
	}
	sameLogs(t, m, s)
	end = s.b.store.MaxOffset()
	mo = *m.live.Load()
	m.stop()
	mo.StorePathRootDir = filepath.Join(before, "store")
	return mo, s, end
}

// onPort starts a master again where its slave looks for it.
func onPort(t *testing.T, o Options) *rig {
	t.Helper()
	live := NewLive(o)
	b, err := start(t.Context(), live, nil, nil, seams{now: time.Now, memory: 8 << 30})
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{T: t, told: newListener(), b: b, live: live, addr: b.Addr()}
	r.c = r.client()
	t.Cleanup(r.stop)
	return r
}

// A master that has lost the end of its log fetches it from its slave before it
// opens: what was acknowledged by way of the slave is there.
func TestRepairOfLostEnd(t *testing.T) {
	mo, s, end := lostEnd(t, 1500)
	m := onPort(t, mo)
	if got := m.b.store.MaxOffset(); got != end {
		t.Fatalf("the master ends at %d, what was acknowledged at %d", got, end)
	}
	if got := m.b.store.Queue([]byte("T"), 0).Max(); got < 1501 {
		t.Errorf("%d messages can be pulled", got)
	}
	m.counted(1)
	if got := m.send("T", 0, "after"); got.Code != protocol.Success {
		t.Errorf("code %d", got.Code)
	}
	sameLogs(t, m, s)
}

// Without repair the slave that is ahead stays as it is, is not counted and says
// so, before and after the master has taken other messages at the same place.
func TestSlaveThatIsAheadStaysStopped(t *testing.T) {
	mo, s, end := lostEnd(t, 3)
	mo.HARepairWaitSeconds = 0
	m := onPort(t, mo)
	if m.b.store.MaxOffset() >= end {
		t.Fatal("nothing is lost")
	}
	stopped := func(text string) {
		t.Helper()
		s.eventually("the slave does not say that "+text, func() bool {
			s.b.role.replica.Kick()
			st, _ := s.b.replicaState()
			return st.Stopped && st.Err != nil && strings.Contains(st.Err.Error(), text)
		})
	}
	stopped("has lost its end")
	for m.b.store.MaxOffset() <= end {
		if got := m.send("T", 0, "other"); got.Code != protocol.SlaveNotAvailable {
			t.Fatalf("code %d", got.Code)
		}
	}
	stopped("differ")
	if got := s.b.store.MaxOffset(); got != end {
		t.Errorf("the slave's log has changed: %d, it was %d", got, end)
	}
	// And the next start does not take what differs either.
	mo = *m.live.Load()
	mo.HARepairWaitSeconds = 30 * time.Second
	if err := os.WriteFile(filepath.Join(mo.StorePathRootDir, "abort.kept"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	m.stop()
	if err := os.Rename(filepath.Join(mo.StorePathRootDir, "abort.kept"), filepath.Join(mo.StorePathRootDir, "abort")); err != nil {
		t.Fatal(err)
	}
	onPort(t, mo)
	stopped("differ")
}

// A slave without a log takes the size of its master's files, whatever its own
// file says.
func TestFreshSlaveTakesFileSize(t *testing.T) {
	m := masterOf(t, func(o *Options) { o.MappedFileSizeCommitLog = 128 << 10 })
	m.create("T", 1)
	for range 100 {
		m.send("T", 0, strings.Repeat("x", 4000))
	}
	s := slaveOf(t, m, nil)
	if got := s.b.store.FileSize(); got != 128<<10 {
		t.Fatalf("files of %d bytes", got)
	}
	sameLogs(t, m, s)
	if s.b.store.MinOffset() != 0 {
		t.Errorf("a new slave begins at %d", s.b.store.MinOffset())
	}
}

// A slave whose files have another size than its master's says so and changes
// nothing.
func TestOtherFileSizeStops(t *testing.T) {
	m := masterOf(t, func(o *Options) { o.MappedFileSizeCommitLog = 128 << 10 })
	root := t.TempDir()
	so := rigOptions(root)
	alone := runOn(t, so, seams{})
	alone.create("T", 1)
	alone.send("T", 0, "x")
	alone.stop()
	s := slaveOf(t, m, func(o *Options) { o.StorePathRootDir = root })
	s.eventually("it does not stop", func() bool {
		st, _ := s.b.replicaState()
		return st.Stopped && strings.Contains(st.Err.Error(), "files of")
	})
}
