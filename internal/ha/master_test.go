package ha

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"gomq/internal/watermark"
)

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
