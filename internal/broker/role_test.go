package broker

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"gomq/internal/ha"
	"gomq/internal/protocol"
)

// pair is a master and a slave of it on loopback, without nameservers.
func masterOf(t *testing.T, change func(o *Options)) *rig {
	return run(t, func(o *Options) {
		o.BrokerRole, o.HAPeers = SyncMaster, []string{"127.0.0.1"}
		o.SlaveTimeout = 300 * time.Millisecond
		o.HASendHeartbeatInterval = 100 * time.Millisecond
		if change != nil {
			change(o)
		}
	})
}

// slaveOf starts a slave of m.
func slaveOf(t *testing.T, m *rig, change func(o *Options)) *rig {
	return run(t, func(o *Options) {
		o.BrokerRole, o.BrokerID = Slave, 1
		o.HAMasterAddress = haDoor(m)
		o.HASendHeartbeatInterval = 100 * time.Millisecond
		if change != nil {
			change(o)
		}
	})
}

func haDoor(m *rig) string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(m.live.Load().HAListenPort))
}

// counted waits until n replicas count on m.
func (r *rig) counted(n int) {
	r.Helper()
	r.eventually(fmt.Sprint("the number of slaves is not ", n), func() bool {
		have := 0
		for _, i := range r.b.replicas() {
			if i.Counted && i.Started {
				have++
			}
		}
		return have == n
	})
}

// sameLogs says that the slave's log is the master's, byte for byte.
func sameLogs(t *testing.T, m, s *rig) {
	t.Helper()
	a, b := m.b.store, s.b.store
	m.eventually("the slave does not get there", func() bool { return a.MaxOffset() == b.MaxOffset() })
	x, y := make([]byte, 64<<10), make([]byte, 64<<10)
	for at := max(a.MinOffset(), b.MinOffset()); at < a.MaxOffset(); {
		n, err := a.ReadRaw(x, at, a.MaxOffset())
		k, err2 := b.ReadRaw(y, at, b.MaxOffset())
		if err != nil || err2 != nil || n != k || !bytes.Equal(x[:n], y[:k]) {
			t.Fatalf("at %d the logs differ (%d, %d bytes, %v, %v)", at, n, k, err, err2)
		}
		at += int64(n)
	}
}

// A SYNC_MASTER with a slave answers SEND_OK once the slave has the message, under
// every pair of flush types; without it SLAVE_NOT_AVAILABLE; when it is back the
// slave gets what it missed and SEND_OK is said again.
func TestSyncMasterWithSlave(t *testing.T) {
	for _, flush := range [][2]FlushType{{AsyncFlush, AsyncFlush}, {SyncFlush, AsyncFlush}, {AsyncFlush, SyncFlush}, {SyncFlush, SyncFlush}} {
		t.Run(fmt.Sprint(flush), func(t *testing.T) {
			m := masterOf(t, func(o *Options) { o.FlushDiskType = flush[0] })
			m.create("T", 2)
			if s := m.send("T", 0, "alone"); s.Code != protocol.SlaveNotAvailable {
				t.Errorf("without a slave: code %d", s.Code)
			}
			s := slaveOf(t, m, func(o *Options) { o.FlushDiskType = flush[1] })
			m.counted(1)
			m.eventually("the slave is not taken for available", func() bool { return m.send("T", 0, "first").Code == protocol.Success })
			for i := range 20 {
				sent := m.send("T", int32(i%2), fmt.Sprint("body ", i))
				if sent.Code != protocol.Success {
					t.Fatalf("message %d: code %d", i, sent.Code)
				}
				if at, end := m.b.role.master.Replicated.Load(), s.b.store.MaxOffset(); at > end {
					t.Fatalf("%d is replicated, the slave has %d", at, end)
				}
			}
			if sent := m.send("T", 0, "x", "WAIT", "false"); sent.Code != protocol.Success {
				t.Errorf("WAIT=false: code %d", sent.Code)
			}
			sameLogs(t, m, s)
			if st, ok := s.b.replicaState(); !ok || !st.Connected || !st.Greeted || st.Err != nil {
				t.Errorf("the slave says %+v", st)
			}
			so := *s.live.Load()
			s.stop()
			m.counted(0)
			if sent := m.send("T", 0, "missed"); sent.Code != protocol.SlaveNotAvailable {
				t.Errorf("without its slave: code %d", sent.Code)
			}
			s = runOn(t, so, seams{})
			m.counted(1)
			sameLogs(t, m, s)
			if sent := m.send("T", 1, "again"); sent.Code != protocol.Success {
				t.Errorf("with its slave back: code %d", sent.Code)
			}
			if got := s.b.store.Queue([]byte("T"), 1).Max(); got != 11 {
				s.eventually("the slave's queue does not grow", func() bool { return s.b.store.Queue([]byte("T"), 1).Max() == 11 })
			}
		})
	}
}

// Metrics say how copies are kept, on both sides.
func TestReplicationMetrics(t *testing.T) {
	m := masterOf(t, func(o *Options) { o.MappedFileSizeCommitLog = 64 << 10 })
	m.create("T", 1)
	s := slaveOf(t, m, func(o *Options) { o.MappedFileSizeCommitLog = 64 << 10 })
	m.counted(1)
	m.eventually("the slave does not follow", func() bool { return m.send("T", 0, "x").Code == protocol.Success })
	for range 100 { // over the end of a file
		m.send("T", 0, strings.Repeat("x", 1000))
	}
	sameLogs(t, m, s)
	s.eventually("the slave has not stored what its master has", func() bool { return s.b.stats.stored.total() == m.b.stats.stored.total() })
	m.eventually("the last acknowledgement is not counted", func() bool { return m.metric("gomq_ha_lag_bytes") == 0 })
	for name, want := range map[string]float64{"gomq_ha_in_sync_replicas": 1, "gomq_ha_role": 1, "gomq_ha_lag_messages": 0, "gomq_ha_acked_offset_bytes": float64(m.b.store.MaxOffset()),
		"gomq_ha_replicated_offset_bytes": float64(m.b.store.MaxOffset())} {
		if got := m.metric(name); got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	if m.metric("gomq_ha_last_ack_timestamp_seconds") < float64(time.Now().Unix()-60) {
		t.Error("no time of the last acknowledgement")
	}
	for name, want := range map[string]float64{"gomq_ha_connected": 1, "gomq_ha_stopped": 0, "gomq_ha_lag_bytes": 0} {
		if got := s.metric(name); got != want {
			t.Errorf("slave: %s is %v, want %v", name, got, want)
		}
	}
	m.stop()
	s.eventually("the slave still calls itself connected", func() bool { return s.metric("gomq_ha_connected") == 0 })
}

// metric is the only value of a metric.
func (r *rig) metric(name string) float64 {
	r.Helper()
	all, err := r.reg.Gather()
	if err != nil {
		r.Fatal(err)
	}
	for _, f := range all {
		if f.GetName() == name && len(f.GetMetric()) == 1 {
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	r.Fatalf("no metric %s with one value", name)
	return 0
}

// A replica that stays silent is waited for and no longer than slaveTimeout; one
// that claims what it was not sent is cut off and satisfies nothing; one that is
// not registered does not count.
func TestRepliesOfReplicas(t *testing.T) {
	m := masterOf(t, func(o *Options) { o.MappedFileSizeCommitLog = 64 << 10 })
	m.create("T", 1)
	m.send("T", 0, "first")
	end := m.b.store.MaxOffset()
	dial := func(report int64) net.Conn {
		c, err := net.Dial("tcp", haDoor(m))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		if _, err := c.Write(ha.AppendReport(nil, report)); err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := dial(end)
	m.counted(1)
	begun := time.Now()
	if s := m.send("T", 0, "unacknowledged"); s.Code != protocol.FlushSlaveTimeout || len(s.MsgID) != 32 {
		t.Errorf("a silent replica: %+v", s)
	}
	if took := time.Since(begun); took < 300*time.Millisecond {
		t.Errorf("answered after %v", took)
	}
	if _, err := c.Write(ha.AppendReport(nil, 1<<40)); err != nil {
		t.Fatal(err)
	}
	m.counted(0)
	if at := m.b.role.master.Replicated.Load(); at > end {
		t.Errorf("an impossible acknowledgement was believed: %d of %d", at, m.b.store.MaxOffset())
	}
	if s := m.send("T", 0, "x"); s.Code != protocol.SlaveNotAvailable {
		t.Errorf("after it was cut off: code %d", s.Code)
	}
	// Ahead of the master, and of an offset that has been deleted: closed at once.
	for _, first := range []int64{m.b.store.MaxOffset() + 1, 1 << 50} {
		if n, err := dial(first).Read(make([]byte, 1)); err == nil || n > 0 {
			t.Errorf("a slave that has %d is served", first)
		}
	}
	// One that is too far behind.
	far := dial(0)
	go io.Copy(io.Discard, far)
	m.counted(1)
	if _, err := m.live.Update([]byte("haSlaveFallbehindMax=10")); err != nil {
		t.Fatal(err)
	}
	if s := m.send("T", 0, "far behind"); s.Code != protocol.SlaveNotAvailable {
		t.Errorf("far behind: code %d", s.Code)
	}
}

// A connection that is not registered is served and does not count.
func TestStrangerDoesNotCount(t *testing.T) {
	m := masterOf(t, func(o *Options) { o.HAPeers = []string{"192.0.2.1"} })
	m.create("T", 1)
	s := slaveOf(t, m, nil)
	m.eventually("the slave does not come", func() bool { return len(m.b.replicas()) == 1 && m.b.replicas()[0].Started })
	if got := m.send("T", 0, "x"); got.Code != protocol.SlaveNotAvailable {
		t.Errorf("code %d", got.Code)
	}
	sameLogs(t, m, s)
}

// Under tls.server.mode=enforcing a slave comes over TLS, and whoever does not is
// sent nothing.
func TestReplicationOverTLS(t *testing.T) {
	m := masterOf(t, func(o *Options) { o.TLSServerMode, o.TLSTestModeEnable = "enforcing", true })
	s := slaveOf(t, m, func(o *Options) { o.UseTLS = true })
	m.counted(1)
	s.eventually("the slave does not follow", func() bool { st, _ := s.b.replicaState(); return st.Connected && st.Greeted })
	plain := slaveOf(t, m, nil)
	plain.eventually("a slave without TLS is not turned away", func() bool { st, _ := plain.b.replicaState(); return st.Err != nil && !st.Connected })
	c, err := net.Dial("tcp", haDoor(m))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write(ha.AppendReport(nil, 0)); err != nil {
		t.Fatal(err)
	}
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	if n, err := c.Read(make([]byte, 1)); n > 0 || err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a connection without TLS is served: %d, %v", n, err)
	}
	// Permissive takes both.
	m = masterOf(t, nil)
	slaveOf(t, m, func(o *Options) { o.UseTLS = true })
	slaveOf(t, m, nil)
	m.counted(2)
}
