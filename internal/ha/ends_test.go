package ha

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

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

func (l *memLog) FileSize() int64 { return l.size }

func (l *memLog) Empty() bool { return l.mark.Load() == 0 }

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

// closed says that the master ends the connection.
func closed(t *testing.T, c net.Conn, what string) {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(time.Minute))
	if n, err := io.Copy(io.Discard, c); err != nil && !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("%s: %d bytes came, then %v", what, n, err)
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
