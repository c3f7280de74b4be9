package ha

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"gomq/internal/store"
	"gomq/internal/watermark"
)

// copier is a Replica over a memLog whose master is the test.
func copier(t *testing.T, l *memLog, change func(o *ReplicaOptions)) (r *Replica, calls chan net.Conn) {
	calls = make(chan net.Conn)
	o := ReplicaOptions{Log: l, Confirm: l.mark, Tune: simTune, Me: func() Name { return Name{Cluster: "C", Broker: "b", ID: 1} }, Master: func() string { return "master:1" },
		Dial: func(ctx context.Context, _ string) (net.Conn, error) {
			mine, theirs := net.Pipe()
			select {
			case calls <- theirs:
				return mine, nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}}
	if change != nil {
		change(&o)
	}
	r = NewReplica(t.Context(), o)
	t.Cleanup(r.Stop)
	return r, calls
}

// reported reads the slave's next report.
func reported(t *testing.T, c net.Conn) int64 {
	t.Helper()
	var b [ReportSize]byte
	c.SetReadDeadline(time.Now().Add(time.Minute))
	if _, err := io.ReadFull(c, b[:]); err != nil {
		t.Fatal(err)
	}
	return int64(binary.BigEndian.Uint64(b[:]))
}

func give(t *testing.T, c net.Conn, offset int64, p string) {
	t.Helper()
	c.SetWriteDeadline(time.Now().Add(time.Minute))
	if _, err := c.Write(append(AppendHeader(nil, offset, len(p)), p...)); err != nil {
		t.Fatal(err)
	}
}

// A slave says at once where it is, acknowledges what it has appended, shows that
// it lives, and takes no block that does not continue its log.
func TestReplicaFollows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newMemLog(4096, []byte("begin")...)
		r, calls := copier(t, l, nil)
		c := <-calls
		if at := reported(t, c); at != 5 {
			t.Fatalf("it begins at %d", at)
		}
		give(t, c, 5, "")
		give(t, c, 5, "more")
		if at := reported(t, c); at != 9 || string(l.b) != "beginmore" {
			t.Fatalf("%d, %q", at, l.b)
		}
		if at := reported(t, c); at != 9 { // a sign of life
			t.Fatalf("%d", at)
		}
		st := r.State()
		if !st.Connected || st.End != 9 || st.MasterEnd != 9 || st.Lag() != 0 || st.Greeted {
			t.Errorf("%+v", st)
		}
		give(t, c, 10, "gap")
		closed(t, c, "a gap")
		c = <-calls
		if at := reported(t, c); at != 9 {
			t.Errorf("after a gap it begins at %d", at)
		}
		give(t, c, 8, "again")
		closed(t, c, "bytes that it has")
		c = <-calls
		reported(t, c)
		go c.Write(AppendHeader(nil, 9, MaxBlock))
		closed(t, c, "a block larger than any")
		c = <-calls
		reported(t, c)
		begun := time.Now()
		closed(t, c, "silence")
		if took := time.Since(begun); took < simTune().Silence || took > 2*simTune().Silence {
			t.Errorf("silence was noticed after %v", took)
		}
		if string(l.b) != "beginmore" {
			t.Errorf("the log is %q", l.b)
		}
		r.Pause(true)
		synctest.Wait()
		select {
		case <-calls:
			t.Error("a paused slave connects")
		case <-time.After(time.Minute):
		}
		r.Pause(false)
		reported(t, <-calls)
	})
}

// A slave knows its log to be its master's once something of it fits; one without
// a log follows whoever comes first, and says what a master that sends its last file
// only does not give.
func TestReplicaKnowsItsMaster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zap.WarnLevel)
		ask := func(o *ReplicaOptions) {
			o.Zap = zap.New(core)
			o.Ask = func(context.Context, string) (MasterInfo, error) {
				return MasterInfo{Known: true, Min: 4096, End: 20_000}, nil
			}
		}
		begin := make([]byte, 5000)
		l := newMemLog(4096, begin...)
		r, calls := copier(t, l, ask)
		c := <-calls
		reported(t, c)
		synctest.Wait()
		if st := r.State(); !st.Connected || st.Follows {
			t.Errorf("before anything came: %+v", st)
		}
		l.mu.Lock()
		l.err = errors.New("no record")
		l.mu.Unlock()
		give(t, c, 5000, "of another log")
		closed(t, c, "what does not fit")
		synctest.Wait()
		if st := r.State(); !st.Stopped || st.Follows {
			t.Errorf("with another log: %+v", st)
		}
		l.mu.Lock()
		l.err = nil
		l.mu.Unlock()
		for i, bytes := range []string{"more", ""} {
			c = <-calls
			at := reported(t, c)
			give(t, c, at, bytes)
			synctest.Wait()
			if st := r.State(); !st.Follows {
				t.Errorf("%d: after %q: %+v", i, bytes, st)
			}
			c.Close()
			synctest.Wait()
			if st := r.State(); st.Follows {
				t.Errorf("%d: without a connection: %+v", i, st)
			}
		}
		r.Stop()

		for _, x := range []struct {
			at   int64
			says int
		}{{4096, 0}, {16384, 1}} {
			logs.TakeAll()
			r, calls = copier(t, newMemLog(4096), ask)
			c = <-calls
			reported(t, c)
			synctest.Wait()
			if st := r.State(); !st.Follows {
				t.Errorf("an empty log: %+v", st)
			}
			give(t, c, x.at, "")
			give(t, c, x.at, "bytes")
			synctest.Wait()
			said := logs.FilterMessageSnippet("a part of its own only").All()
			if len(said) != x.says {
				t.Errorf("begun at %d it says %d times what it lacks", x.at, len(said))
			}
			if len(said) > 0 && (said[0].ContextMap()["the master has it from"] != int64(4096) || said[0].ContextMap()["this slave has it from"] != x.at) {
				t.Errorf("%v", said[0].ContextMap())
			}
			r.Stop()
		}
	})
}

// A slave that reports what is durable says nothing else, and waits for space.
func TestReplicaReportsLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newMemLog(4096, []byte("begin")...)
		full := errors.New("full")
		durable := watermark.New(5)
		r, calls := copier(t, l, func(o *ReplicaOptions) {
			o.Confirm, o.Late, o.Temporary = durable, true, func(err error) bool { return errors.Is(err, full) }
		})
		c := <-calls
		reported(t, c)
		give(t, c, 5, "more")
		for range 3 { // signs of life only
			if at := reported(t, c); at != 5 {
				t.Fatalf("%d is reported, 5 is durable", at)
			}
		}
		go durable.Advance(9)
		if at := reported(t, c); at != 9 {
			t.Fatalf("%d is reported, 9 is durable", at)
		}
		l.mu.Lock()
		l.err = full
		l.mu.Unlock()
		give(t, c, 9, "!")
		time.Sleep(300 * time.Millisecond)
		if st := r.State(); !st.Connected || !errors.Is(st.Err, full) {
			t.Errorf("without space: %+v", st)
		}
		l.mu.Lock()
		l.err = nil
		l.mu.Unlock()
		for l.MaxOffset() < 10 {
			reported(t, c) // it lives while it waits
		}
		synctest.Wait()
		if st := r.State(); !st.Connected || st.Err != nil {
			t.Errorf("with space: %+v", st)
		}
	})
}

// What a master of RocketMQ 4.5.2 sent is taken as it is: the same log, and at the
// end the same report as the original slave's.
func TestReplicaTakesRecordedStream(t *testing.T) {
	sent, err := os.ReadFile("testdata/master-4.5.2.bin")
	if err != nil {
		t.Fatal(err)
	}
	reports, err := os.ReadFile("testdata/slave-4.5.2.bin")
	if err != nil {
		t.Fatal(err)
	}
	want, _, err := LastReport(reports)
	if err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(t.Context(), store.Options{Root: t.TempDir(), CommitLogFileSize: 1 << 20}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	mine, theirs := net.Pipe()
	r := NewReplica(t.Context(), ReplicaOptions{Log: s, Confirm: s.Appended, Me: func() Name { return Name{} }, Master: func() string { return "master:1" },
		Tune: func() Tuning { return Tuning{Heartbeat: time.Second, Silence: 10 * time.Second} },
		Dial: func(context.Context, string) (net.Conn, error) { return mine, nil }})
	defer r.Stop()
	if at := reported(t, theirs); at != 0 {
		t.Fatalf("it begins at %d", at)
	}
	go theirs.Write(sent)
	for at := int64(0); at != want; at = reported(t, theirs) {
		if at > want {
			t.Fatalf("%d is reported, the original ended at %d", at, want)
		}
	}
	if s.MaxOffset() != want {
		t.Errorf("the log ends at %d", s.MaxOffset())
	}
}

// slowLog appends when the test lets it.
type slowLog struct {
	*memLog
	may chan struct{}
}

func (l slowLog) AppendRaw(at int64, p []byte) (int, error) {
	<-l.may
	return l.memLog.AppendRaw(at, p)
}

// The log of a slave that has settled does not grow until a master is there again:
// what its old master has sent is in it, or never will be.
func TestReplicaSettles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := slowLog{newMemLog(4096, []byte("begin")...), make(chan struct{})}
		r, calls := copier(t, l.memLog, func(o *ReplicaOptions) { o.Log = l })
		if err := r.Settle(t.Context()); err != nil {
			t.Errorf("before the first connection: %v", err)
		}
		c := <-calls
		reported(t, c)
		give(t, c, 5, "more")
		synctest.Wait()
		brief, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := r.Settle(brief); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("settled while bytes are being appended: %v", err)
		}
		settled := make(chan error)
		go func() { settled <- r.Settle(t.Context()) }()
		synctest.Wait()
		select {
		case <-settled:
			t.Error("settled while bytes are being appended")
		case l.may <- struct{}{}:
		}
		if err := <-settled; err != nil || l.MaxOffset() != 9 {
			t.Errorf("settled at %d: %v", l.MaxOffset(), err)
		}
		closed(t, c, "the slave hangs up")
		if at := reported(t, <-calls); at != 9 {
			t.Errorf("it begins again at %d", at)
		}
		if err := r.Settle(t.Context()); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if st := r.State(); st.Connected || !errors.Is(st.Err, errSettled) {
			t.Errorf("%+v", st)
		}
	})
}
