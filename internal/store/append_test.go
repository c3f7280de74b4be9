package store

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"gomq/internal/chance"
	"gomq/internal/message"
	"gomq/internal/store/simdisk"
	"gomq/internal/watermark"
)

// model is what a store must hold: the records of each queue, as they were
// stamped.
type model struct {
	t      *testing.T
	r      *rand.Rand
	o      Options
	s      *Store
	queues map[string][]string // body of each message
	bodies int
	clock  atomic.Int64 // ms
}

var modelTopics = []string{"Alpha", "Beta", "%RETRY%gamma"}

func newModel(t *testing.T, seed uint64, o Options) *model {
	m := &model{t: t, r: rand.New(rand.NewPCG(seed, 7)), o: o, queues: map[string][]string{}}
	m.clock.Store(1_700_000_000_000)
	m.o.Now = func() time.Time { return time.UnixMilli(m.clock.Load()) }
	m.s = open(t, m.o)
	return m
}

// turn appends a batch of random messages.
func (m *model) turn() {
	b := NewBatch()
	type staged struct{ name, body string }
	var want []staged
	n := 1 + m.r.IntN(8)
	for len(want) < n {
		group := 1
		if m.r.IntN(4) == 0 {
			group = 1 + m.r.IntN(20)
			b.BeginGroup()
		}
		topic, id := modelTopics[m.r.IntN(len(modelTopics))], int32(m.r.IntN(3))
		for range group {
			size := m.r.IntN(300)
			if m.r.IntN(10) == 0 {
				size = m.r.IntN(9000)
			}
			m.bodies++
			body := fmt.Sprintf("%d-%s", m.bodies, bytes.Repeat([]byte{byte(m.r.IntN(256))}, size))
			mm := msg(topic, id, []byte(body), fmt.Sprintf("KEYS\x01k%d\x02TAGS\x01t%d", m.bodies, m.bodies%3))
			q := m.s.Queue([]byte(topic), id)
			name := q.String()
			switch m.r.IntN(12) {
			case 0:
				mm.SysFlag, name = message.Prepared, ""
			case 1:
				mm.SysFlag = message.Commit
			case 2:
				mm.SysFlag, name = message.Rollback, ""
			}
			if _, err := b.Add(q, mm); err != nil {
				m.t.Fatal(err)
			}
			want = append(want, staged{name, body})
		}
		if group > 1 || b.open >= 0 {
			b.EndGroup()
		}
	}
	m.clock.Add(int64(m.r.IntN(2000) - 200))
	done := make(chan error, 1)
	before := m.s.MaxOffset()
	if err := m.s.Append(b, time.Now().Add(time.Minute), watermark.Func(func(err error) { done <- err })); err != nil {
		m.t.Fatal(err)
	}
	if err := <-done; err != nil {
		m.t.Fatal(err)
	}
	last := int64(0)
	for i, w := range want {
		p := b.Placed(i)
		if p.Err != nil {
			if !errors.Is(p.Err, ErrTooLarge) {
				m.t.Fatal(p.Err)
			}
			continue
		}
		if p.Offset < before || p.StoreTime < last {
			m.t.Fatalf("item %d lies at %d, stored at %d, after %d", i, p.Offset, p.StoreTime, last)
		}
		last = p.StoreTime
		if w.name == "" {
			if p.QueueOffset != 0 {
				m.t.Fatalf("a record without an entry has the queue offset %d", p.QueueOffset)
			}
			continue
		}
		if p.QueueOffset != int64(len(m.queues[w.name])) {
			m.t.Fatalf("%s: item %d has offset %d, want %d", w.name, i, p.QueueOffset, len(m.queues[w.name]))
		}
		m.queues[w.name] = append(m.queues[w.name], w.body)
	}
	// No group may be split by the end of a file.
	for i := 0; i < b.Len(); i += int(b.items[i].group) {
		first, end := b.items[i], b.items[i+int(b.items[i].group)-1]
		if size := m.s.log.FileSize(); first.placed.Err == nil && first.placed.Offset/size != (end.placed.Offset+int64(end.size)-1)/size {
			m.t.Fatalf("the group of %d at %d reaches into the next file", first.group, first.placed.Offset)
		}
	}
}

// check compares one random queue from a random offset on, or with all set
// everything.
func (m *model) check(all bool) {
	for _, topic := range modelTopics {
		for id := range int32(3) {
			q := m.s.Queue([]byte(topic), id)
			want := m.queues[q.String()]
			if q.Min() != 0 || q.Max() != int64(len(want)) {
				m.t.Fatalf("%s is [%d, %d), want [0, %d)", q, q.Min(), q.Max(), len(want))
			}
			if len(want) == 0 || !all && m.r.IntN(4) > 0 {
				continue
			}
			from := 0
			if !all {
				from = m.r.IntN(len(want))
			}
			for i, r := range pull(m.t, m.s, q, int64(from)) {
				if string(r.Body()) != want[from+i] || r.QueueOffset() != int64(from+i) || string(r.Topic()) != topic {
					m.t.Fatalf("%s at %d: %.20q at %d, want %.20q", q, from+i, r.Body(), r.QueueOffset(), want[from+i])
				}
			}
		}
	}
}

// run does n random steps; kill ends the process without a chance to do anything.
func (m *model) run(n int, kill func()) {
	for range n {
		switch k := m.r.IntN(20); {
		case k < 14:
			m.turn()
		case k < 18:
			m.check(false)
		case k < 19:
			if err := m.s.Close(); err != nil {
				m.t.Fatal(err)
			}
			m.s = open(m.t, m.o)
			m.check(true)
		default:
			kill()
			m.check(true)
		}
	}
	m.check(true)
	if err := m.s.Close(); err != nil {
		m.t.Fatal(err)
	}
}

var errKilled = errors.New("the process was killed")

// crashProcess ends a store as a kill does: its goroutines stop, nothing is
// written any more.
func crashProcess(s *Store) {
	s.fail(errKilled)
	s.group.Stop()
	s.closeFiles()
	s.unlock()
}

// Random batches, reads, clean and unclean ends against a model in memory, in
// all four ways of writing, across many small files.
func TestModel(t *testing.T) {
	for _, sync := range []bool{false, true} {
		for _, mmap := range []bool{false, true} {
			t.Run(fmt.Sprintf("sync=%v,mmap=%v", sync, mmap), func(t *testing.T) {
				t.Parallel()
				for seed := range chance.Seeds(t, 0, 3) {
					without := !mmap
					d := simdisk.New()
					o := Options{Root: "/store", CommitLogFileSize: 64 << 10, ConsumeQueueFileSize: 1000, SyncFlush: sync, WriteWithoutMmap: &without,
						IndexEnabled: true, MaxHashSlots: 100, MaxIndexEntries: 400, FlushInterval: 5 * time.Millisecond, FlushQueueInterval: 7 * time.Millisecond, FS: d}
					m := newModel(t, seed, o)
					m.run(120, func() {
						crashProcess(m.s)
						d.PowerOff()
						d = d.Restart()
						m.o.FS = d
						m.s = open(t, m.o)
					})
				}
			})
		}
	}
}

// The same on the real disk.
func TestModelOnDisk(t *testing.T) {
	for seed := range chance.Seeds(t, 0, 2) {
		o := small(t)
		o.SyncFlush = seed%2 == 1
		m := newModel(t, seed, o)
		m.run(60, func() {
			crashProcess(m.s)
			m.s = open(t, m.o)
		})
	}
}

// Copying into the mapping and writing with system calls leave the same bytes.
func TestBothWritersWriteTheSameBytes(t *testing.T) {
	for seed := range chance.Seeds(t, 0, 2) {
		var files []map[string][]byte
		for _, without := range []bool{false, true} {
			for _, sync := range []bool{false, true} {
				o := small(t)
				o.WriteWithoutMmap, o.SyncFlush = &without, sync
				m := newModel(t, seed, o)
				for range 60 {
					m.turn()
				}
				if err := m.s.Close(); err != nil {
					t.Fatal(err)
				}
				got := map[string][]byte{}
				for _, dir := range []string{"commitlog", "consumequeue"} {
					err := filepath.WalkDir(filepath.Join(o.Root, dir), func(path string, e os.DirEntry, err error) error {
						if err == nil && !e.IsDir() {
							name, _ := filepath.Rel(o.Root, path)
							got[name], err = os.ReadFile(path)
						}
						return err
					})
					if err != nil {
						t.Fatal(err)
					}
				}
				if len(got) < 10 {
					t.Fatalf("%d files", len(got))
				}
				files = append(files, got)
			}
		}
		for i, f := range files[1:] {
			if len(f) != len(files[0]) {
				t.Errorf("%d files, %d", len(f), len(files[0]))
			}
			for name, b := range files[0] {
				if !bytes.Equal(b, f[name]) {
					t.Errorf("writer %d: %s differs", i+1, name)
				}
			}
		}
	}
}

// TestRoll looks at what lies at the end of a log file: a blank of which the
// head says how much is left, and never less room than it takes.
func TestRoll(t *testing.T) {
	o := small(t)
	o.CommitLogFileSize = 4096
	s := open(t, o)
	empty := message.RecordSize(msg("T", 0, nil, ""))
	for _, c := range []struct {
		size int   // of the record
		at   int64 // where it must come to lie
	}{
		{size: 1000, at: 0},
		{size: 4096 - 1000 - 8, at: 1000}, // exactly the room that leaves a blank
		{size: 1000, at: 4096},
		{size: 4096 - 1000 - 7, at: 8192}, // one byte too much
		{size: 4096 - 8, at: 12288},       // the largest there is
		{size: 200, at: 16384},
	} {
		if p := send(t, s, "T", 0, make([]byte, c.size-empty), ""); p.Offset != c.at || int(p.Size) != c.size {
			t.Errorf("a record of %d bytes lies at %d and has %d, want %d", c.size, p.Offset, p.Size, c.at)
		}
	}
	b := NewBatch()
	if _, err := b.Add(s.Queue([]byte("T"), 0), msg("T", 0, make([]byte, 4096-7-empty), "")); !errors.Is(err, ErrTooLarge) {
		t.Errorf("one byte more than a file takes: %v", err)
	}
	for _, blank := range []struct{ at, rest int64 }{{4096 - 8, 8}, {4096 + 1000, 3096}, {12288 - 4096 + 3089, 1007}, {16384 - 8, 8}} {
		var head [8]byte
		if err := s.log.Find(blank.at).ReadAt(head[:], blank.at); err != nil {
			t.Fatal(err)
		}
		if want := message.AppendBlank(nil, int32(blank.rest)); !bytes.Equal(head[:], want) {
			t.Errorf("at %d: % x, want the blank % x", blank.at, head, want)
		}
	}
	got := pull(t, s, s.Queue([]byte("T"), 0), 0)
	if len(got) != 6 {
		t.Errorf("%d messages", len(got))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// A group moves to the next file as a whole; one that fits into no file is
// refused, and what stands beside it is stored.
func TestGroups(t *testing.T) {
	o := small(t)
	o.CommitLogFileSize = 4096
	s := open(t, o)
	defer s.Close()
	q := s.Queue([]byte("T"), 0)
	b := NewBatch()
	add := func(size int) {
		t.Helper()
		if _, err := b.Add(q, msg("T", 0, make([]byte, size), "")); err != nil {
			t.Fatal(err)
		}
	}
	add(1000) // 0
	b.BeginGroup()
	add(1000)
	add(1000)
	add(1000) // 1..3: not beside 0
	b.EndGroup()
	b.BeginGroup()
	for range 5 {
		add(1000) // 4..8: in no file
	}
	b.EndGroup()
	add(10) // 9
	if err := s.Append(b, time.Time{}, nil); err != nil {
		t.Fatal(err)
	}
	size := int64(message.RecordSize(msg("T", 0, make([]byte, 1000), "")))
	var at []int64
	for i := range b.Len() {
		p := b.Placed(i)
		if big := i >= 4 && i <= 8; errors.Is(p.Err, ErrTooLarge) != big {
			t.Fatalf("item %d: %v", i, p.Err)
		} else if !big {
			at = append(at, p.Offset, p.QueueOffset)
		}
	}
	if want := []int64{0, 0, 4096, 1, 4096 + size, 2, 4096 + 2*size, 3, 4096 + 3*size, 4}; !slices.Equal(at, want) {
		t.Errorf("placed at %v, want %v", at, want)
	}
	if n := len(pull(t, s, q, 0)); n != 5 {
		t.Errorf("%d messages", n)
	}
}

// Under SYNC_FLUSH a waiter is told when what it waits for is on the disk and can
// be read, and not before.
func TestSyncWaitersAreToldOnceDurable(t *testing.T) {
	for _, mmap := range []bool{false, true} {
		d := simdisk.New()
		without := !mmap
		s := open(t, Options{Root: "/store", CommitLogFileSize: 64 << 10, SyncFlush: true, WriteWithoutMmap: &without, FS: d})
		var order []int
		done := make(chan int, 300)
		for i := range 300 {
			b := NewBatch()
			if _, err := b.Add(s.Queue([]byte("T"), 0), msg("T", 0, fmt.Appendf(nil, "%d", i), "")); err != nil {
				t.Fatal(err)
			}
			err := s.Append(b, time.Time{}, watermark.Func(func(err error) {
				p := b.Placed(0)
				if end := p.Offset + int64(p.Size); err != nil || s.Durable.Load() < end || s.Queue([]byte("T"), 0).Max() <= p.QueueOffset {
					t.Errorf("message %d: %v, durable %d, visible %d", i, err, s.Durable.Load(), s.Queue([]byte("T"), 0).Max())
				}
				done <- i
			}))
			if err != nil {
				t.Fatal(err)
			}
		}
		for range 300 {
			order = append(order, <-done)
		}
		if !slices.IsSorted(order) {
			t.Error("waiters were told out of order")
		}
		if d.Count(simdisk.OpSync) == 0 && d.Count(simdisk.OpMapSync) == 0 {
			t.Error("nothing was synced")
		}
		// A power cut now loses nothing.
		d.PowerOff()
		crashProcess(s)
		s = open(t, Options{Root: "/store", CommitLogFileSize: 64 << 10, SyncFlush: true, FS: d.Crash(1, 0)})
		if n := len(pull(t, s, s.Queue([]byte("T"), 0), 0)); n != 300 {
			t.Errorf("%d messages after the power cut", n)
		}
		s.Close()
	}
}

// Descriptors that others hold for a while make the queues' checkpoint late, and
// nothing else.
func TestNoDescriptorIsNoFailure(t *testing.T) {
	for _, errno := range []error{syscall.EMFILE, syscall.ENFILE} {
		d := simdisk.New()
		o := Options{Root: "/store", CommitLogFileSize: 64 << 10, FS: d, FlushInterval: 5 * time.Millisecond, FlushQueueInterval: 5 * time.Millisecond}
		s := open(t, o)
		struck := d.Inject(simdisk.Fault{Op: simdisk.OpSyncDir, Path: "consumequeue/T", Sticky: true, Err: errno})
		send(t, s, "T", 0, []byte("one"), "")
		for deadline := time.Now().Add(time.Minute); struck() < 2; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%v: the names were synced %d times", errno, struck())
			}
		}
		d.Heal()
		send(t, s, "T", 0, []byte("two"), "")
		if err := s.Close(); err != nil {
			t.Fatal(errno, err)
		}
		s = open(t, Options{Root: "/store", CommitLogFileSize: 64 << 10, FS: d.Restart()})
		if max := s.Queue([]byte("T"), 0).Max(); max != 2 {
			t.Errorf("%v: %d messages", errno, max)
		}
		s.Close()
	}
}

// An error of the first sync that fails ends the store: the waiter is told,
// nothing is called durable any more, nothing is taken.
func TestFailStop(t *testing.T) {
	for _, c := range []struct {
		sync, mmap bool
		op         simdisk.Op
	}{{true, false, simdisk.OpSync}, {true, true, simdisk.OpMapSync}, {false, true, simdisk.OpSync}, {false, false, simdisk.OpSync}, {true, false, simdisk.OpWrite}} {
		t.Run(fmt.Sprintf("%+v", c), func(t *testing.T) {
			d := simdisk.New()
			without := !c.mmap
			o := Options{Root: "/store", CommitLogFileSize: 64 << 10, SyncFlush: c.sync, WriteWithoutMmap: &without, FS: d, FlushInterval: 5 * time.Millisecond,
				FlushQueueInterval: time.Hour}
			s := open(t, o)
			send(t, s, "T", 0, []byte("fine"), "")
			if err := s.Durable.Wait(t.Context(), s.Appended.Load()); err != nil {
				t.Fatal(err)
			}
			durable := s.Durable.Load()
			// Of the file that is written: the next one may just be made.
			d.Inject(simdisk.Fault{Op: c.op, Path: "commitlog/00000000000000000000", Err: errors.New("bad sector")})
			b := NewBatch()
			if _, err := b.Add(s.Queue([]byte("T"), 0), msg("T", 0, []byte("lost"), "")); err != nil {
				t.Fatal(err)
			}
			told := make(chan error, 1)
			err := s.Append(b, time.Time{}, watermark.Func(func(err error) { told <- err }))
			if c.op == simdisk.OpWrite {
				if err == nil {
					t.Fatal("the append went well")
				}
			} else if err != nil {
				t.Fatal(err)
			} else if c.sync {
				if err := <-told; err == nil {
					t.Error("the waiter was told that all is well")
				}
			}
			<-s.Failed()
			if s.Err() == nil || s.Durable.Load() != durable {
				t.Errorf("failed with %v, durable %d, was %d", s.Err(), s.Durable.Load(), durable)
			}
			var refused *RefusedError
			if err := s.Append(b, time.Time{}, nil); !errors.As(err, &refused) || refused.Cause != CauseFailed {
				t.Errorf("append after the failure: %v", err)
			}
			if err := s.Close(); err == nil {
				t.Error("Close says nothing of the failure")
			}
			if _, err := d.Stat("/store/abort"); err != nil {
				t.Error("the abort marker has gone")
			}
			d.Heal()
			s = open(t, o)
			defer s.Close()
			if got := pull(t, s, s.Queue([]byte("T"), 0), 0); len(got) == 0 || string(got[0].Body()) != "fine" {
				t.Errorf("%d messages are left", len(got))
			}
		})
	}
}
