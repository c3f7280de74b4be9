package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"gomq/internal/chance"
	"gomq/internal/message"
	"gomq/internal/store/simdisk"
)

// What was safe is there after every power cut and kill, also of a recovery, and
// what is there is a prefix of what was sent.
func TestSimCrash(t *testing.T) {
	for seed := range chance.Seeds(t, 0, 300) {
		synctest.Test(t, func(t *testing.T) {
			m := newSim(t, seed)
			for range 4 {
				m.open()
				if m.r.IntN(2) == 0 {
					m.d.PowerOffAt(1 + m.r.IntN(150))
				}
				for range m.r.IntN(60) {
					if m.d.Off() {
						break
					}
					m.step()
				}
				if m.r.IntN(3) == 0 && !m.d.Off() {
					m.checkIndex()
				}
				m.end()
			}
			m.open()
			m.checkIndex()
			m.close()
			m.verify()
		})
	}
}

// An operation of the disk fails: the store takes nothing more or goes on, but
// what was acknowledged is there on the healed disk, also after a power cut.
func TestSimError(t *testing.T) {
	for seed := range chance.Seeds(t, 0, 300) {
		synctest.Test(t, func(t *testing.T) {
			m := newSim(t, seed)
			if m.r.IntN(2) == 0 { // not the first start
				m.open()
				for range m.r.IntN(30) {
					m.step()
				}
				m.end()
			}
			f := simdisk.Fault{K: 1 + m.r.IntN(80), Sticky: m.r.IntN(2) == 0, Short: m.r.IntN(200)}
			kinds := []simdisk.Op{"", "", simdisk.OpSync, simdisk.OpMapSync, simdisk.OpWrite, simdisk.OpAllocate, simdisk.OpCreate, simdisk.OpSyncDir, simdisk.OpRemove, simdisk.OpTruncate,
				simdisk.OpRead, simdisk.OpOpen, simdisk.OpMap, simdisk.OpStat, simdisk.OpReadDir, simdisk.OpMkdir}
			if f.Op = kinds[m.r.IntN(len(kinds))]; f.Op != "" && f.Op != simdisk.OpRead {
				f.K = 1 + m.r.IntN(12)
			}
			if m.r.IntN(3) == 0 {
				f.Err = syscall.ENOSPC
			}
			m.note("fault %+v", f)
			fired := m.d.Inject(f)
			s, err := Open(context.Background(), m.o, m.zlog(), nil)
			if err != nil {
				m.note("open: %v", err)
				var damage *DamageError
				if fired() == 0 || errors.As(err, &damage) {
					m.fatal("open: %v", err)
				}
				m.there = m.safe // what a sync has lost is lost
			} else {
				m.s = s
				m.faulty(fired)
			}
			m.d.Heal()
			if m.r.IntN(2) == 0 {
				m.note("another process on the healed disk")
				m.use(m.d.Restart())
				m.open()
				m.d.PowerOff()
				crashProcess(m.s)
			}
			m.use(m.d.Crash(m.r.Uint64(), m.r.Float64()))
			m.there = m.safe
			m.open()
			m.checkIndex()
			m.close()
			m.verify()
		})
	}
}

// faulty uses a store whose disk may fail.
func (m *sim) faulty(fired func() int) {
	m.t.Helper()
	if m.safe > m.s.MaxOffset() {
		m.fatal("the log ends at %d; what lies below %d was safe", m.s.MaxOffset(), m.safe)
	}
	m.log = slices.DeleteFunc(m.log, func(r simRecord) bool { return r.off >= m.s.MaxOffset() })
	for range 10 + m.r.IntN(40) {
		switch m.r.IntN(10) {
		case 0:
			time.Sleep(time.Duration(m.r.IntN(20000)) * time.Microsecond)
		case 1:
			synctest.Wait()
		default:
			m.append()
		}
	}
	m.note("fired %d, failed: %v", fired(), m.s.Err())
	if m.s.Err() != nil && fired() == 0 {
		m.fatal("the store failed without a fault: %v", m.s.Err())
	}
	var refused *RefusedError
	if m.s.Err() != nil && !errors.As(m.s.CheckWritable(), &refused) {
		m.fatal("a store that has failed calls itself writable")
	}
	if m.safe = max(m.safe, m.s.Durable.Load()); m.o.SyncFlush {
		m.safe = max(m.safe, m.s.Dispatched.Load())
	}
	if err := m.s.Close(); err == nil {
		m.safe = max(m.safe, m.s.Appended.Load())
	} else if fired() == 0 {
		m.fatal("close: %v", err)
	}
	m.there = m.safe
}

// A flipped bit: no start and no reading makes anything else of the other
// messages, and the damage is found.
func TestSimCorrupt(t *testing.T) {
	base, o := closedStore(t, 150)
	o.FS = base
	s := open(t, o)
	type rec struct {
		body  string
		queue string
		qoff  int64
	}
	want := map[int64]rec{}
	heads := map[int64]int64{}
	_, err := s.eachRecord(0, s.MaxOffset(), true, func(at int64, r message.Record) error {
		want[at] = rec{string(r.Body()), fmt.Sprintf("%s/%d", r.Topic(), r.QueueID()), r.QueueOffset()}
		heads[at] = at + int64(r.Size())
		return nil
	})
	if err != nil || len(want) != 150 {
		t.Fatal(len(want), err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	files := slices.Concat(dirFiles(base, "/store/commitlog"), dirFiles(base, "/store/consumequeue"), dirFiles(base, "/store/index"))
	var refused, opened int
	for seed := range chance.Seeds(t, 0, 60) {
		r := rand.New(rand.NewPCG(seed, 5))
		base = base.Restart()
		d := base.Restart()
		base = base.Restart()
		file := files[r.IntN(len(files))]
		var at int
		d.Edit(file, func(b []byte) { at = r.IntN(len(b)); b[at] ^= 1 << r.IntN(8) })
		what := fmt.Sprintf("seed %d: bit of byte %d of %s", seed, at, file)
		switch r.IntN(3) {
		case 0:
			d.WriteFile("/store/abort", nil, noon) // as if it had been killed
			what += ", not closed"
		case 1: // the whole log is needed
			if err := d.RemoveAll("/store/consumequeue/T1"); err != nil {
				t.Fatal(err)
			}
			what += ", without some queues"
		}
		before := map[string][]byte{}
		for _, name := range dirFiles(d, "/store/commitlog") {
			before[name] = d.ReadFile(name)
		}
		o.FS = d
		s, err := Open(context.Background(), o, nil, nil)
		if err != nil {
			var damage *DamageError
			if !errors.As(err, &damage) || damage.File != file || damage.Until == 0 {
				t.Fatalf("%s: %v", what, err)
			}
			for name, b := range before {
				if !bytes.Equal(d.ReadFile(name), b) {
					t.Fatalf("%s: the refused start changed %s", what, name)
				}
			}
			refused++
			continue
		}
		opened++
		hit := int64(-1)
		if strings.Contains(file, "commitlog") {
			for from, to := range heads {
				if off := pathOffset(t, file) + int64(at); off >= from && off < to {
					hit = from
				}
			}
		}
		for off, w := range want {
			r, err := s.ReadRecord(off)
			if off == hit {
				if err == nil && string(r.Body()) != w.body {
					t.Fatalf("%s: the damaged record at %d is handed out", what, off)
				}
				continue
			}
			if err != nil || string(r.Body()) != w.body {
				t.Fatalf("%s: the record at %d: %v", what, off, err)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	if os.Getenv("GOMQ_SEED") == "" && (refused == 0 || opened == 0) {
		t.Errorf("%d refused, %d opened", refused, opened)
	}
}

func pathOffset(t *testing.T, file string) int64 {
	n, err := strconv.ParseInt(path.Base(file), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// The same operations give the same messages whatever the sizes of files, the
// writer and the way of flushing.
func TestSimMetamorphic(t *testing.T) {
	for seed := range chance.Seeds(t, 0, 2) {
		var want string
		for variant := range 6 {
			synctest.Test(t, func(t *testing.T) {
				got := metamorphic(t, seed, variant)
				if variant == 0 {
					want = got
				} else if got != want {
					t.Fatalf("seed %d: variant %d holds something else", seed, variant)
				}
			})
		}
	}
}

// metamorphic runs the operations of a seed and describes what can be read.
func metamorphic(t *testing.T, seed uint64, variant int) string {
	how := rand.New(rand.NewPCG(seed, uint64(variant)))
	mmap := variant%2 == 0
	m := &sim{t: t, r: rand.New(rand.NewPCG(seed, 11)), clock: newClock(noon)}
	m.o = Options{Root: "/store", CommitLogFileSize: []int64{4 << 10, 64 << 10}[how.IntN(2)], ConsumeQueueFileSize: []int64{100, 400, 20000}[how.IntN(3)], SyncFlush: variant%3 == 0,
		WriteWithoutMmap: &mmap, IndexEnabled: true, MaxHashSlots: 1 + how.IntN(100), MaxIndexEntries: 5 + how.IntN(2000), FlushInterval: time.Millisecond, FlushQueueInterval: time.Millisecond,
		MaxMessageSize: 1000, RetentionInterval: time.Hour, Now: m.clock.now}
	m.use(simdisk.New())
	m.d.PowerOffAt(0)
	restart := func() {
		if m.s != nil {
			m.close()
			m.verify()
		}
		s, err := Open(context.Background(), m.o, m.zlog(), nil)
		if err != nil {
			m.fatal("%v", err)
		}
		m.s = s
	}
	restart()
	for i := range 80 {
		m.append()
		m.clock.advance(time.Duration(m.r.IntN(2000)) * time.Millisecond)
		if i%3 == variant%3 && how.IntN(8) == 0 {
			restart()
		}
	}
	synctest.Wait()
	time.Sleep(time.Second)
	var out strings.Builder
	names := map[string]*Queue{}
	for _, q := range m.s.Queues() {
		names[q.String()] = q
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		q := names[name]
		fmt.Fprintf(&out, "%s [%d, %d)\n", name, q.Min(), q.Max())
		for _, r := range pull(t, m.s, q, q.Min()) {
			fmt.Fprintf(&out, "  %d %s %x %d %d\n", r.QueueOffset(), r.Props(), r.Body(), r.SysFlag(), r.StoreTime())
		}
		for range 20 {
			ms := noon.UnixMilli() + m.r.Int64N(130_000)
			fmt.Fprintf(&out, "  at %d: %d\n", ms, m.s.SearchTime(q, ms))
		}
	}
	for _, r := range m.log {
		offsets, _, _, err := m.s.Lookup([]byte(r.topic), []byte(r.key), 0, 1<<62, 64)
		if err != nil || len(offsets) != 1 {
			m.fatal("%s: %v, %v", r.key, offsets, err)
		}
	}
	m.close()
	m.verify()
	return out.String()
}
