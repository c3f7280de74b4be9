package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"gomq/internal/message"
	"gomq/internal/store/simdisk"
	"gomq/internal/watermark"
)

// simRecord is a record as the test sent it.
type simRecord struct {
	key     string // unique
	topic   string
	queue   int32
	counted bool
	body    []byte
	off     int64 // in the log
	qoff    int64
}

func (r simRecord) name() string { return fmt.Sprintf("%s/%d", r.topic, r.queue) }

// sim drives a store on a simulated disk and knows what must be in it.
type sim struct {
	t     *testing.T
	r     *rand.Rand
	d     *simdisk.Sim
	o     Options
	clock *clock
	s     *Store

	n     int
	log   []simRecord // what has been stored, in the order of the log; deleted files included
	maybe []simRecord // what an Append that failed may have stored behind that
	safe  int64       // records below this offset survive everything
	there int64       // ... survive the end of the process
	min   int64       // the log begins at or before this offset

	mu    sync.Mutex // guards trace
	trace []string
}

// newSim makes a driver with an empty disk; the options are drawn by the seed.
func newSim(t *testing.T, seed uint64) *sim {
	m := &sim{t: t, r: rand.New(rand.NewPCG(seed, 7)), d: simdisk.New(), clock: newClock(noon)}
	mmap := m.r.IntN(2) == 0
	m.o = Options{Root: "/store", CommitLogFileSize: int64(4+4*m.r.IntN(4)) << 10, ConsumeQueueFileSize: int64(100 + 100*m.r.IntN(5)), MaxMessageSize: 1000,
		SyncFlush: m.r.IntN(2) == 0, WriteWithoutMmap: &mmap, IndexEnabled: true, MaxHashSlots: 1 + m.r.IntN(50), MaxIndexEntries: 5 + m.r.IntN(100),
		FlushInterval: time.Duration(1+m.r.IntN(5)) * time.Millisecond, FlushQueueInterval: time.Duration(1+m.r.IntN(20)) * time.Millisecond,
		RetentionInterval: time.Hour, DeleteInterval: time.Nanosecond, Now: m.clock.now}
	m.use(m.d)
	return m
}

func (m *sim) use(d *simdisk.Sim) {
	m.d, m.o.FS = d, d
	d.SetNow(m.clock.now)
	d.SetUsage(percentUsed(10))
}

func (m *sim) note(format string, args ...any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.trace = append(m.trace, fmt.Sprintf(format, args...))
}

func (m *sim) fatal(format string, args ...any) {
	m.t.Helper()
	if m.s != nil && !m.s.closing.Load() && m.s.Err() == nil {
		m.d.PowerOff()
		crashProcess(m.s)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, line := range m.trace[max(0, len(m.trace)-40):] {
		m.t.Log(line)
	}
	m.t.Fatalf(format, args...)
}

// zlog writes what the store says into the trace.
func (m *sim) zlog() *zap.Logger {
	enc := zapcore.NewJSONEncoder(zapcore.EncoderConfig{MessageKey: "say"})
	return zap.New(zapcore.NewCore(enc, zapcore.AddSync(traceWriter{m}), zapcore.InfoLevel))
}

type traceWriter struct{ m *sim }

func (w traceWriter) Write(b []byte) (int, error) {
	w.m.note("    %s", bytes.TrimSpace(b))
	return len(b), nil
}

// open opens the store; perhaps the power goes while it recovers, and again.
func (m *sim) open() {
	m.t.Helper()
	for {
		k := 0
		if m.r.IntN(3) == 0 {
			k = 1 + m.r.IntN(50)
		}
		m.note("open; the power goes at operation %d", k)
		m.d.PowerOffAt(k)
		s, err := Open(context.Background(), m.o, m.zlog(), nil)
		m.d.PowerOffAt(0)
		if err == nil {
			m.s = s
			if m.d.Off() {
				crashProcess(s)
			}
		}
		if m.d.Off() {
			m.crash()
			continue
		}
		if err != nil {
			m.fatal("open: %v", err)
		}
		m.check()
		return
	}
}

// crash gives the disk that the next start finds.
func (m *sim) crash() {
	if m.r.IntN(4) == 0 {
		m.note("the process was killed")
		m.use(m.d.Restart())
		return
	}
	survival := []float64{0, 0.1, 0.5, 0.9, 1}[m.r.IntN(5)]
	m.note("the power was cut, %v survives", survival)
	m.use(m.d.Crash(m.r.Uint64(), survival))
	m.there = m.safe
}

// check compares the store that has just been opened with what was sent: it must
// hold a prefix of it, not shorter than what is safe, and nothing else.
func (m *sim) check() {
	m.t.Helper()
	s := m.s
	start, end := s.MinOffset(), s.MaxOffset()
	m.note("the log is [%d, %d)", start, end)
	if end < max(m.safe, m.there) {
		m.fatal("the log ends at %d; what lies below %d was safe", end, max(m.safe, m.there))
	}
	if start > m.min {
		m.fatal("the log begins at %d, files were deleted up to %d only", start, m.min)
	}
	all := slices.Concat(m.log, m.maybe)
	i := slices.IndexFunc(all, func(r simRecord) bool { return r.off >= start || r.off < 0 })
	if i < 0 {
		i = len(all)
	}
	_, err := s.eachRecord(start, end, true, func(at int64, r message.Record) error {
		key, _ := message.Prop(r.Props(), message.PropUniqKey)
		if i >= len(all) {
			return fmt.Errorf("the record %q at %d was never sent, or is there once more", key, at)
		}
		w := &all[i]
		if w.off < 0 { // its place was not known
			w.off, w.qoff = at, r.QueueOffset()
		}
		if string(key) != w.key || at != w.off || !bytes.Equal(r.Body(), w.body) || string(r.Topic()) != w.topic || r.QueueID() != w.queue || r.QueueOffset() != w.qoff {
			return fmt.Errorf("at %d: %q number %d of %s/%d, sent was %q, number %d of %s, at %d", at, key, r.QueueOffset(), r.Topic(), r.QueueID(), w.key, w.qoff, w.name(), w.off)
		}
		i++
		return nil
	})
	if err != nil {
		m.fatal("%v", err)
	}
	m.log, m.maybe = all[:i:i], nil
	m.min = start
	m.checkQueues()
	// Recovery has made durable what it found, or it would be lost by the next cut
	// although it has been read.
	m.safe, m.there = end, end
}

// checkQueues compares all queues with the log, and finds some keys.
func (m *sim) checkQueues() {
	m.t.Helper()
	s := m.s
	want := map[string][]simRecord{}
	next := map[string]int64{}
	for _, r := range m.log {
		if !r.counted {
			continue
		}
		if r.qoff != next[r.name()] {
			m.fatal("%s: number %d follows number %d", r.name(), r.qoff, next[r.name()]-1)
		}
		next[r.name()]++
		if r.off >= s.MinOffset() {
			want[r.name()] = append(want[r.name()], r)
		}
	}
	for _, q := range s.Queues() {
		name := q.String()
		if q.Max() != next[name] || q.Min() != next[name]-int64(len(want[name])) {
			m.fatal("%s is [%d, %d), %d of %d records are there", name, q.Min(), q.Max(), len(want[name]), next[name])
		}
		for i, r := range pull(m.t, s, q, q.Min()) {
			key, _ := message.Prop(r.Props(), message.PropUniqKey)
			if w := want[name][i]; string(key) != w.key || !bytes.Equal(r.Body(), w.body) {
				m.fatal("%s number %d is %q, sent was %q", name, q.Min()+int64(i), key, w.key)
			}
		}
		delete(want, name)
	}
	for name, rs := range want {
		m.fatal("the queue %s with %d records is not there", name, len(rs))
	}
}

// checkIndex finds all keys once the index has caught up.
func (m *sim) checkIndex() {
	m.t.Helper()
	synctest.Wait()
	for m.s.Indexed.Load() < m.s.Dispatched.Load() && m.s.Err() == nil {
		time.Sleep(time.Millisecond)
		synctest.Wait()
	}
	if m.s.Err() != nil {
		return
	}
	for _, r := range m.log {
		if r.off < m.s.MinOffset() {
			continue
		}
		got, _, _, err := m.s.Lookup([]byte(r.topic), []byte(r.key), 0, 1<<62, 10)
		if err != nil && m.d.Off() {
			return
		}
		if err != nil || !slices.Contains(got, r.off) {
			m.fatal("the key %s of the record at %d: found %v (%v)", r.key, r.off, got, err)
		}
	}
}

// append stores a batch and waits for it, or does not.
func (m *sim) append() {
	b := NewBatch()
	var mine []simRecord
	add := func() {
		m.n++
		rec := simRecord{key: fmt.Sprintf("u%d", m.n), topic: fmt.Sprintf("T%d", m.r.IntN(3)), queue: int32(m.r.IntN(2)), counted: true, off: -1}
		rec.body = bytes.Repeat([]byte{byte(m.n), byte(m.n >> 8), 1}, 1+m.r.IntN(300))
		w := msg(rec.topic, rec.queue, rec.body, "UNIQ_KEY\x01"+rec.key+"\x02KEYS\x01some words\x02")
		if m.r.IntN(15) == 0 {
			w.SysFlag, rec.counted = message.Prepared, false
		}
		if _, err := b.Add(m.s.Queue([]byte(rec.topic), rec.queue), w); err != nil {
			m.fatal("%v", err)
		}
		mine = append(mine, rec)
	}
	if m.r.IntN(5) == 0 {
		b.BeginGroup()
		for range 2 + m.r.IntN(2) {
			add()
		}
		b.EndGroup()
	} else {
		for range 1 + m.r.IntN(4) {
			add()
		}
	}
	told := make(chan error, 1)
	var w watermark.Waiter
	if m.r.IntN(2) == 0 {
		w = watermark.Func(func(err error) { told <- err })
	}
	failed := m.s.Err() != nil
	if err := m.s.Append(b, time.Now().Add(time.Minute), w); err != nil {
		var refused *RefusedError
		if !errors.As(err, &refused) {
			m.fatal("append: %v", err)
		}
		if !failed && refused.Cause == CauseFailed {
			m.maybe = mine
		}
		m.note("append of %d refused: %v", len(mine), refused)
		return
	}
	if failed {
		m.fatal("a store that has failed took messages")
	}
	var end int64
	for i := range mine {
		p := b.Placed(i)
		if p.Err != nil {
			m.fatal("item %d: %v", i, p.Err)
		}
		mine[i].off, mine[i].qoff = p.Offset, p.QueueOffset
		end = p.Offset + int64(p.Size)
	}
	m.log = append(m.log, mine...)
	m.note("append of %d to %d", len(mine), end)
	if !m.d.Off() { // or it was written to memory that nobody sees again
		m.there = end
	}
	if w != nil && m.r.IntN(2) == 0 {
		if err := <-told; err == nil && m.o.SyncFlush {
			m.acknowledged(end)
		}
	}
}

func (m *sim) acknowledged(end int64) {
	m.safe = max(m.safe, end)
	if at := m.s.Dispatched.Load(); at < end {
		m.fatal("acknowledged up to %d, visible up to %d", end, at)
	}
}

// step does one thing with the open store.
func (m *sim) step() {
	switch n := m.r.IntN(20); {
	case n < 12:
		m.append()
	case n < 15:
		time.Sleep(time.Duration(m.r.IntN(4000)) * time.Microsecond)
	case n < 17:
		synctest.Wait()
	case n < 18:
		m.clock.advance(time.Duration(m.r.IntN(5000)) * time.Millisecond)
	case n < 19 && m.s.log.Len() > 2:
		m.deleteFiles()
	}
}

// deleteFiles lets the disk look full, so that the oldest files go.
func (m *sim) deleteFiles() {
	m.d.SetUsage(percentUsed(87))
	_, err := m.s.deleteRound(context.Background())
	m.d.SetUsage(percentUsed(10))
	m.min = max(m.min, m.s.MinOffset())
	m.note("files deleted up to %d: %v", m.s.MinOffset(), err)
	if err != nil && !m.d.Off() {
		m.fatal("deleting files: %v", err)
	}
}

// end ends the use of the store in one of the ways in which it can.
func (m *sim) end() {
	s := m.s
	switch n := m.r.IntN(6); {
	case n == 0:
		if m.close(); !m.d.Off() {
			if m.safe = max(m.safe, s.Appended.Load()); m.r.IntN(2) == 0 {
				m.use(m.d.Crash(m.r.Uint64(), 0)) // nothing may be missing
			} else {
				m.use(m.d.Restart())
			}
			m.verify()
			return
		}
	case n < 3:
		synctest.Wait()
		fallthrough
	default:
		m.d.PowerOff()
	}
	if holes := m.d.Holes(); len(holes) > 0 {
		m.fatal("mapped writes without blocks: %v", holes)
	}
	// Nothing becomes durable from here on: the marks say what is.
	if m.safe = max(m.safe, s.Durable.Load()); m.o.SyncFlush {
		m.safe = max(m.safe, s.Dispatched.Load())
	}
	m.note("the end: appended %d, durable %d, visible %d", s.Appended.Load(), s.Durable.Load(), s.Dispatched.Load())
	if !s.closing.Load() {
		crashProcess(s)
	}
	m.crash()
}

func (m *sim) close() {
	err := m.s.Close()
	m.note("close: %v", err)
	if err != nil && !m.d.Off() && m.s.Err() == nil {
		m.fatal("close: %v", err)
	}
}

// verify looks at the closed store.
func (m *sim) verify() {
	m.t.Helper()
	var lines []string
	sum, err := Verify(context.Background(), m.o, func(p Problem) { lines = append(lines, p.String()) })
	if err != nil || len(lines) > 0 || sum.Orphans > 0 || sum.Unindexed > 0 {
		m.fatal("verification: %v, %+v\n%v", err, sum, lines)
	}
}
