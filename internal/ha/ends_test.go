package ha

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"gomq/internal/store"
	"gomq/internal/watermark"
)

// memLog is a log of bytes without records: whatever comes is whole.
type memLog struct {
	mu   sync.Mutex
	b    []byte
	min  int64
	size int64
	mark *watermark.Mark
	err  error // of the next appends
}

func newMemLog(size int64, b ...byte) *memLog {
	return &memLog{b: b, size: size, mark: watermark.New(int64(len(b)))}
}

func (l *memLog) MinOffset() int64 { return l.min }
func (l *memLog) MaxOffset() int64 { return l.mark.Load() }
func (l *memLog) FileSize() int64  { return l.size }
func (l *memLog) Empty() bool      { return l.mark.Load() == 0 }
func (l *memLog) ReadRaw(dst []byte, from, to int64) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if from < l.min {
		return 0, errors.New("deleted")
	}
	to = min(to, from-from%l.size+l.size, int64(len(l.b)))
	return copy(dst, l.b[from:to]), nil
}

func (l *memLog) AppendRaw(at int64, p []byte) (int, error) {
	l.mu.Lock()
	if l.err != nil {
		defer l.mu.Unlock()
		return 0, l.err
	}
	if at != int64(len(l.b)) {
		defer l.mu.Unlock()
		return 0, errors.New("a gap")
	}
	l.b = append(l.b, p...)
	end := int64(len(l.b))
	l.mu.Unlock()
	l.mark.Advance(end)
	return len(p), nil
}

// leader is a Master over a memLog with a door in memory.
func leader(t *testing.T, l *memLog, change func(o *MasterOptions)) (*Master, *door) {
	o := MasterOptions{Log: l, Ship: l.mark, Tune: simTune, Me: func() Name { return Name{Cluster: "C", Broker: "b"} }, Counts: func(Peer) bool { return true }}
	if change != nil {
		change(&o)
	}
	d := newDoor()
	m := NewMaster(t.Context(), d, o)
	t.Cleanup(m.Stop)
	return m, d
}

// visit opens a plain connection; both ends are pipes.
func visit(t *testing.T, d *door) net.Conn {
	mine, theirs := net.Pipe()
	d.come <- theirs
	t.Cleanup(func() { mine.Close() })
	return mine
}

func report(t *testing.T, c net.Conn, offset int64) {
	t.Helper()
	if _, err := c.Write(AppendReport(nil, offset)); err != nil {
		t.Fatal(err)
	}
}

// block reads the next block.
func block(t *testing.T, c net.Conn) Block {
	t.Helper()
	head := make([]byte, HeaderSize)
	c.SetReadDeadline(time.Now().Add(time.Minute))
	if _, err := io.ReadFull(c, head); err != nil {
		t.Fatal(err)
	}
	b := Block{Offset: int64(binary.BigEndian.Uint64(head)), Bytes: make([]byte, binary.BigEndian.Uint32(head[8:]))}
	if _, err := io.ReadFull(c, b.Bytes); err != nil {
		t.Fatal(err)
	}
	return b
}

// closed says that the master ends the connection.
func closed(t *testing.T, c net.Conn, what string) {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(time.Minute))
	if n, err := io.Copy(io.Discard, c); err != nil && !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("%s: %d bytes came, then %v", what, n, err)
	}
}

// What a plain slave gets: blocks of at most the batch, none across a file's end,
// from where it asked; everything when it has nothing; heartbeats in silence
// with the next offset; new bytes at once.
func TestMasterStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		body := make([]byte, 10_500)
		for i := range body {
			body[i] = byte(i * 7)
		}
		l := newMemLog(4096, body...)
		m, d := leader(t, l, nil)
		c := visit(t, d)
		report(t, c, 500)
		got, at := []byte{}, int64(500)
		for at < 10_500 {
			b := block(t, c)
			if b.Offset != at || len(b.Bytes) == 0 || len(b.Bytes) > 3000 || b.Offset/4096 != (b.Offset+int64(len(b.Bytes))-1)/4096 {
				t.Fatalf("a block of %d bytes for %d, after %d", len(b.Bytes), b.Offset, at)
			}
			got, at = append(got, b.Bytes...), at+int64(len(b.Bytes))
		}
		if !bytes.Equal(got, body[500:]) {
			t.Error("other bytes came")
		}
		begun := time.Now()
		if b := block(t, c); b.Offset != 10_500 || len(b.Bytes) != 0 || time.Since(begun) > 2*simTune().Heartbeat {
			t.Errorf("heartbeat %+v after %v", b, time.Since(begun))
		}
		synctest.Wait()
		begun = time.Now()
		if _, err := l.AppendRaw(10_500, []byte("news")); err != nil {
			t.Fatal(err)
		}
		if b := block(t, c); b.Offset != 10_500 || string(b.Bytes) != "news" || time.Since(begun) > time.Millisecond {
			t.Errorf("%+v after %v", b, time.Since(begun))
		}
		report(t, c, 10_504)
		synctest.Wait()
		if m.Replicated.Load() != 10_504 {
			t.Errorf("replicated is %d", m.Replicated.Load())
		}

		c = visit(t, d)
		report(t, c, 0)
		if b := block(t, c); b.Offset != 0 {
			t.Errorf("a slave without anything gets the log from %d on", b.Offset)
		}
	})
}

// What ends a connection, and satisfies nothing.
func TestMasterRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newMemLog(4096, make([]byte, 9000)...)
		l.min = 4096
		m, d := leader(t, l, nil)
		for name, first := range map[string][]byte{
			"ahead":                AppendReport(nil, 9001),
			"far ahead":            AppendReport(nil, 1<<60),
			"below the log":        AppendReport(nil, 4095),
			"a negative report":    AppendReport(nil, -5),
			"HTTP":                 []byte("GET / HTTP/1.1\r\n"),
			"a long greeting":      binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64(nil, magic), mostGreeting+1),
			"a greeting of noise":  append(binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64(nil, magic), 4), "noise"...),
			"half a first report":  {1, 2, 3},
			"half a greeting":      binary.BigEndian.AppendUint64(nil, magic),
			"a greeting, cut":      append(binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64(nil, magic), 400), "{"...),
			"silence for too long": {},
		} {
			c := visit(t, d)
			if len(first) > 0 {
				if _, err := c.Write(first); err != nil && !errors.Is(err, io.ErrClosedPipe) {
					t.Errorf("%s: %v", name, err)
				}
			}
			closed(t, c, name)
		}
		c := visit(t, d)
		report(t, c, 9000)
		synctest.Wait()
		if got := m.Replicated.Load(); got != 0 {
			t.Errorf("a first word is believed: %d", got)
		}
		report(t, c, 9001)
		closed(t, c, "an impossible acknowledgement")
		synctest.Wait()
		if got := m.Replicated.Load(); got != 0 {
			t.Errorf("what nobody has is replicated: %d", got)
		}
		if n := len(m.Replicas()); n != 0 {
			t.Errorf("%d replicas are still listed", n)
		}
	})
}

// Strangers are let in up to a number, are not counted, and count once the list
// says so.
func TestMasterCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newMemLog(4096, make([]byte, 100)...)
		var known atomic.Bool
		asked := 0
		core, logs := observer.New(zap.WarnLevel)
		m, d := leader(t, l, func(o *MasterOptions) {
			o.Zap = zap.New(core)
			o.Counts = func(Peer) bool { return known.Load() }
			o.Unknown = func(Peer) { asked++ }
		})
		c := visit(t, d)
		report(t, c, 100)
		synctest.Wait()
		l.AppendRaw(100, make([]byte, 50))
		for at := int64(100); at < 150; {
			b := block(t, c)
			at = b.Offset + int64(len(b.Bytes))
		}
		report(t, c, 150)
		synctest.Wait()
		if m.Replicated.Load() != 0 || m.Available(150, 1000) || asked != 1 || !m.Uncounted() {
			t.Errorf("a stranger counts: %d, %v, asked %d", m.Replicated.Load(), m.Available(150, 1000), asked)
		}
		m.Recount()
		if n := logs.Len(); n != 0 {
			t.Errorf("one that may just be registering is complained of: %v", logs.All())
		}
		go io.Copy(io.Discard, c)
		for begun := time.Now(); time.Since(begun) <= strangeFor; time.Sleep(simTune().Heartbeat) {
			report(t, c, 150)
		}
		m.Recount()
		m.Recount()
		if n := logs.FilterMessageSnippet("does not count for SYNC_MASTER").Len(); n != 1 {
			t.Errorf("one that goes on not counting is complained of %d times", n)
		}
		known.Store(true)
		m.Recount()
		if m.Replicated.Load() != 150 || !m.Available(150, 1000) || m.Available(1150, 1000) || m.Uncounted() {
			t.Errorf("it does not count when it is known: %d, %v", m.Replicated.Load(), m.Available(150, 1000))
		}
		known.Store(false)
		var open []net.Conn
		for range mostOthers + 3 {
			open = append(open, visit(t, d))
		}
		synctest.Wait()
		if n := len(m.Replicas()); n != mostOthers+1 {
			t.Errorf("%d connections are listed", n)
		}
		closed(t, open[len(open)-1], "one stranger too many")
	})
}

// Those who wait for a replica are told when one has it, when their time is up,
// and when there is no master any more.
func TestMasterWaiters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, _ := leader(t, newMemLog(4096), nil)
		wait := func(at int64, d time.Duration) chan error {
			told := make(chan error, 1)
			m.Replicated.When(at, time.Now().Add(d), watermark.Func(func(err error) { told <- err }))
			return told
		}
		has, late, never := wait(10, time.Hour), wait(20, 300*time.Millisecond), wait(30, time.Hour)
		m.raise(10)
		if err := <-has; err != nil {
			t.Error(err)
		}
		begun := time.Now()
		if err := <-late; !errors.Is(err, watermark.ErrDeadline) || time.Since(begun) < 300*time.Millisecond || time.Since(begun) > 500*time.Millisecond {
			t.Errorf("%v after %v", err, time.Since(begun))
		}
		m.Stop()
		if err := <-never; err == nil || errors.Is(err, watermark.ErrDeadline) {
			t.Errorf("%v", err)
		}
	})
}

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
		_, calls := copier(t, l, func(o *ReplicaOptions) {
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
		l.mu.Lock()
		l.err = nil
		l.mu.Unlock()
		for l.MaxOffset() < 10 {
			reported(t, c) // it lives while it waits
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

// Two logs are compared before anything is sent, and each way in which they cannot
// go together is told.
func TestGreeting(t *testing.T) {
	base := bytes.Repeat([]byte("0123456789"), 1000)
	for _, c := range []struct {
		name   string
		master func(l *memLog, n *Name)
		slave  func(l *memLog, n *Name)
		want   string // of the refusal, "" = they go together
	}{
		{name: "the same"},
		{name: "a slave that is behind", slave: func(l *memLog, _ *Name) { *l = *newMemLog(4096, base[:7000]...) }},
		{name: "a slave without anything", slave: func(l *memLog, _ *Name) { *l = *newMemLog(4096) }},
		{name: "other bytes", slave: func(l *memLog, _ *Name) { l.b[9999] ^= 1 }, want: "differ"},
		{name: "other bytes before its end", slave: func(l *memLog, _ *Name) { *l = *newMemLog(4096, base[:7000]...); l.b[6999] ^= 1 }, want: "differ"},
		{name: "ahead", slave: func(l *memLog, _ *Name) { *l = *newMemLog(4096, append(bytes.Clone(base), "more"...)...) }, want: "lost its end"},
		{name: "ahead and other bytes", slave: func(l *memLog, _ *Name) {
			*l = *newMemLog(4096, append(bytes.Clone(base), "more"...)...)
			l.b[9000] ^= 1
		}, want: "differ"},
		{name: "deleted meanwhile", master: func(l *memLog, _ *Name) { l.min = 8192 }, slave: func(l *memLog, _ *Name) { *l = *newMemLog(4096, base[:7000]...) }, want: "deleted by age"},
		{name: "another file size", slave: func(l *memLog, _ *Name) { l.size = 8192 }, want: "files of"},
		{name: "another set", slave: func(_ *memLog, n *Name) { n.Broker = "other" }, want: "it is of the set other"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ml, sl := newMemLog(4096, bytes.Clone(base)...), newMemLog(4096, bytes.Clone(base)...)
				mn, sn := Name{Cluster: "C", Broker: "b"}, Name{Cluster: "C", Broker: "b", ID: 1, Addr: "slave:1"}
				if c.master != nil {
					c.master(ml, &mn)
				}
				if c.slave != nil {
					c.slave(sl, &sn)
				}
				before := bytes.Clone(sl.b)
				m, d := leader(t, ml, func(o *MasterOptions) { o.Me = func() Name { return mn } })
				r := NewReplica(t.Context(), ReplicaOptions{Log: sl, Confirm: sl.mark, Tune: simTune, Me: func() Name { return sn }, Master: func() string { return "master:1" },
					Ask: func(context.Context, string) (MasterInfo, error) { return MasterInfo{Greets: true}, nil },
					Dial: func(context.Context, string) (net.Conn, error) {
						mine, theirs := net.Pipe()
						d.come <- theirs
						return mine, nil
					}})
				t.Cleanup(r.Stop)
				time.Sleep(200 * time.Millisecond)
				synctest.Wait()
				st := r.State()
				if c.want != "" {
					if !st.Stopped || st.Err == nil || !strings.Contains(st.Err.Error(), c.want) || !bytes.Equal(sl.b, before) || m.Replicated.Load() != 0 || m.Available(0, 1<<40) {
						t.Errorf("%+v; replicated %d", st, m.Replicated.Load())
					}
					return
				}
				if !st.Connected || !st.Greeted || !bytes.Equal(sl.b, ml.b) || m.Replicated.Load() != int64(len(ml.b)) {
					t.Errorf("%+v; the slave has %d of %d bytes, replicated %d", st, len(sl.b), len(ml.b), m.Replicated.Load())
				}
				if l := m.Replicas(); len(l) != 1 || l[0].Name != sn {
					t.Errorf("%+v", l)
				}
			})
		})
	}
}
