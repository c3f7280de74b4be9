package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"gomq/internal/message"
	"gomq/internal/store/simdisk"
)

// halfFull makes a store of n messages in two queues on a simulated disk and ends
// it: by Close, or as a kill does.
func halfFull(t *testing.T, n int, closed bool) (*simdisk.Sim, []Placed) {
	t.Helper()
	d := simdisk.New()
	s := open(t, simOptions(d))
	var at []Placed
	for i := range n {
		at = append(at, send(t, s, "T", int32(i%2), fmt.Appendf(nil, "%0500d", i), ""))
	}
	if closed {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		return d, at
	}
	if err := s.Durable.Wait(t.Context(), s.Appended.Load()); err != nil {
		t.Fatal(err)
	}
	if err := s.saveCheckpoint(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	crashProcess(s)
	d.PowerOff()
	return d.Restart(), at
}

// forget makes this store's checkpoint one that does not count.
func forget(d *simdisk.Sim) { d.Edit("/store/checkpoint", func(b []byte) { b[0] ^= 0x40 }) }

func logFile(base int64) string { return fmt.Sprintf("/store/commitlog/%020d", base) }

// snapshot is all files of the disk but the lock and whom it belongs to.
func snapshot(d *simdisk.Sim) map[string]string {
	m := map[string]string{}
	for _, name := range d.Files() {
		if !strings.Contains(name, "/lock") {
			m[name] = string(d.ReadFile(name))
		}
	}
	return m
}

// Below what was known to be on the disk a bad record is damage: the store does
// not open, says where, and has changed nothing. Behind it, it is the end.
func TestDamageBelowTheCheckpoint(t *testing.T) {
	for _, c := range []struct {
		what   string
		damage func(b []byte) // of the record's bytes
		rotten bool           // found by the checksum, which is looked at without a checkpoint only
	}{
		{"a flipped bit in the body", func(b []byte) { b[200] ^= 1 }, true},
		{"a wrong size", func(b []byte) { b[3]++ }, false},
		{"a wrong magic", func(b []byte) { b[4] = 0 }, false},
		{"another place", func(b []byte) { b[35]++ }, false},
		{"zeros", func(b []byte) { clear(b) }, false},
	} {
		t.Run(c.what, func(t *testing.T) {
			d, at := halfFull(t, 300, false)
			p := at[150]
			base := p.Offset / (64 << 10) * (64 << 10)
			// The scan begins at the checkpoint: let it begin before the record.
			spoilQueues(t, d)
			d.Edit(logFile(base), func(b []byte) { c.damage(b[p.Offset-base : p.Offset-base+int64(p.Size)]) })
			before := snapshot(d)
			var damage *DamageError
			if !c.rotten {
				_, err := Open(t.Context(), simOptions(d), nil, nil)
				if !errors.As(err, &damage) || damage.Offset != p.Offset || damage.Until <= p.Offset || damage.File != logFile(base) {
					t.Fatalf("opened with %v, want damage at %d", err, p.Offset)
				}
				after := snapshot(d)
				for name, b := range before {
					if after[name] != b {
						t.Errorf("%s has changed", name)
					}
				}
				if len(after) != len(before) {
					t.Errorf("%d files, were %d", len(after), len(before))
				}
			}
			// Without the checkpoint what follows is cut off, unless the record shows that it
			// was whole once.
			forget(d)
			s, err := Open(t.Context(), simOptions(d), nil, nil)
			if c.rotten {
				if !errors.As(err, &damage) || damage.Offset != p.Offset {
					t.Fatalf("opened with %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if s.MaxOffset() != p.Offset {
				t.Errorf("the log ends at %d, want %d", s.MaxOffset(), p.Offset)
			}
			if n := s.Queue([]byte("T"), 0).Max() + s.Queue([]byte("T"), 1).Max(); n != 150 {
				t.Errorf("%d messages are left", n)
			}
			if s.log.Len() != int(base/(64<<10))+1 {
				t.Errorf("%d log files are left", s.log.Len())
			}
		})
	}
}

// spoilQueues makes the queues such that they have to be made again from the log.
func spoilQueues(t *testing.T, d *simdisk.Sim) {
	t.Helper()
	if err := d.RemoveAll("/store/consumequeue/T/1"); err != nil {
		t.Fatal(err)
	}
}

// Log files that are missing are damage, too.
func TestMissingLogFiles(t *testing.T) {
	for _, c := range []struct {
		what   string
		remove []int64
	}{{"the last", []int64{131072}}, {"the first", []int64{0}}, {"one in the middle", []int64{65536}}, {"all", []int64{0, 65536, 131072}}} {
		d, _ := halfFull(t, 300, true)
		for _, base := range c.remove {
			if err := d.Remove(logFile(base)); err != nil {
				t.Fatal(err)
			}
		}
		if s, err := Open(t.Context(), simOptions(d), nil, nil); err == nil {
			if c.what != "the first" { // which could have been deleted by age
				t.Errorf("%s: opened", c.what)
			}
			s.Close()
		}
	}
}

// What lies behind the end of the log is zeroed before anything is appended:
// otherwise records of before would come back once the log has grown up to them.
func TestOldRecordsDoNotComeBack(t *testing.T) {
	d, at := halfFull(t, 40, false)
	cut := at[20]
	forget(d)
	d.Edit(logFile(0), func(b []byte) { clear(b[cut.Offset : cut.Offset+100]) })
	s := open(t, simOptions(d))
	if s.MaxOffset() != cut.Offset {
		t.Fatalf("the log ends at %d, want %d", s.MaxOffset(), cut.Offset)
	}
	// One of the same size as the lost one: what followed it would follow again.
	if p := send(t, s, "T", 0, fmt.Appendf(nil, "%0500d", 777), ""); p.Size != cut.Size || p.Offset != cut.Offset {
		t.Fatalf("%+v, want %+v", p, cut)
	}
	end := s.MaxOffset()
	crashProcess(s)
	d.PowerOff()
	d = d.Restart()
	s = open(t, simOptions(d))
	defer s.Close()
	if s.MaxOffset() != end {
		t.Errorf("the log ends at %d, want %d", s.MaxOffset(), end)
	}
	if b := d.ReadFile(logFile(0)); !isZero(b[end:]) {
		t.Error("something is left behind the end")
	}
}

// The checkpoint counts while Java's file is as it was; a Java broker changes it.
func TestCheckpointIsBoundToJavas(t *testing.T) {
	d, at := halfFull(t, 40, true)
	o, err := simOptions(d).withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	read := func() (checkpoint, bool) {
		t.Helper()
		f, _, own, err := openCheckpoint(&o)
		if err != nil {
			t.Fatal(err)
		}
		f.close()
		return f.now, own
	}
	c, own := read()
	end := at[39].Offset + int64(at[39].Size)
	if !own || !c.clean || c.log != end || c.queue != end || c.last != at[39].Offset || c.count != (census{2, 40}) || c.start != 0 {
		t.Errorf("%+v, %v", c, own)
	}
	java := d.ReadFile("/store/checkpoint")
	if j := readJava(java); j.log != at[39].StoreTime || j.queue != at[39].StoreTime || len(java) != 4096 {
		t.Errorf("Java's checkpoint is %+v in %d bytes", j, len(java))
	}
	d.Edit("/store/checkpoint", func(b []byte) { b[7]++ })
	if _, own := read(); own {
		t.Error("the checkpoint counts though Java's has changed")
	}
	// 5.x keeps offsets behind the times.
	d.Edit("/store/checkpoint", func(b []byte) { b[7]--; b[31]++ })
	if _, own := read(); own {
		t.Error("the checkpoint counts though 5.x has been there")
	}
	d.Edit("/store/checkpoint", func(b []byte) { b[31]-- })
	if _, own := read(); !own {
		t.Error("the checkpoint does not count any more")
	}
}

// Whenever a write of the checkpoint is interrupted, the one before counts.
func TestCheckpointSurvivesTornWrites(t *testing.T) {
	for k := 1; ; k++ {
		d := simdisk.New()
		o := Options{Root: "/store", FS: d}
		o, _ = o.withDefaults()
		if err := d.MkdirAll("/store"); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(d.SyncDir("/")); err != nil {
			t.Fatal(err)
		}
		f, _, _, err := openCheckpoint(&o)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(f.save(checkpoint{log: 100}, javaCheckpoint{log: 1}), f.save(checkpoint{log: 200}, javaCheckpoint{log: 2, queue: 9}),
			f.java.Sync(), f.own.Sync(), d.SyncDir("/store")); err != nil {
			t.Fatal(err)
		}
		d.PowerOffAt(k)
		err = f.save(checkpoint{log: 300}, javaCheckpoint{log: 3, queue: 10})
		d.PowerOff()
		for _, survival := range []float64{0, 0.5, 1} {
			o.FS = d.Crash(uint64(k), survival)
			g, java, own, e := openCheckpoint(&o)
			if e != nil {
				t.Fatal(e)
			}
			if !own || g.now.log != 300 && (err == nil || g.now.log != 200) || java.log < 2 {
				t.Errorf("operation %d, %v: %+v, Java's %+v, %v", k, survival, g.now, java, own)
			}
		}
		if err == nil {
			if k < 3 {
				t.Errorf("saving took %d operations only", k-1)
			}
			return
		}
	}
}

// A store that was killed while it made its first files, or the next one.
func TestFilesMadeAhead(t *testing.T) {
	d, at := halfFull(t, 10, false)
	d.WriteFile(logFile(65536), make([]byte, 64<<10), time.Now())
	d.WriteFile(logFile(131072), nil, time.Now())
	s := open(t, simOptions(d))
	if end := at[9].Offset + int64(at[9].Size); s.MaxOffset() != end {
		t.Errorf("the log ends at %d, want %d", s.MaxOffset(), end)
	}
	send(t, s, "T", 0, make([]byte, 60_000), "")
	send(t, s, "T", 0, make([]byte, 60_000), "")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range d.Files() {
		if strings.HasPrefix(name, logFile(196608)) {
			t.Error("a file made ahead is left after Close")
		}
	}
	// The first file of all, not finished.
	d = simdisk.New()
	d.WriteFile(logFile(0), make([]byte, 10_000), time.Now())
	s = open(t, simOptions(d))
	if s.log.FileSize() != 64<<10 {
		t.Errorf("the log's files have %d bytes", s.log.FileSize())
	}
	s.Close()
}

// The sizes of the files that are there win over the options.
func TestSizesOnTheDiskWin(t *testing.T) {
	d, _ := halfFull(t, 200, true)
	o := simOptions(d)
	o.CommitLogFileSize, o.ConsumeQueueFileSize = 1<<20, 6_000_000
	s := open(t, o)
	defer s.Close()
	if s.log.FileSize() != 64<<10 || s.queueFiles.Size != 1000 {
		t.Errorf("files of %d and %d bytes", s.log.FileSize(), s.queueFiles.Size)
	}
	send(t, s, "T", 0, []byte("x"), "")
	if n := len(pull(t, s, s.Queue([]byte("T"), 0), 0)); n != 101 {
		t.Errorf("%d messages", n)
	}
}

// A file that is not the store's is named, and nothing is touched.
func TestStrayFiles(t *testing.T) {
	for _, name := range []string{"/store/commitlog/notes.txt", "/store/consumequeue/T/0/00000000000000000000.bak"} {
		d, _ := halfFull(t, 10, true)
		d.WriteFile(name, []byte("hello"), time.Now())
		if _, err := Open(t.Context(), simOptions(d), nil, nil); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("opened with %v", err)
		}
		if string(d.ReadFile(name)) != "hello" {
			t.Error("the file has gone")
		}
	}
}

func TestForeignStoresAreRefused(t *testing.T) {
	slot := func(due int64, n uint32) []byte {
		b := make([]byte, 3*wheelSlot)
		binary.BigEndian.PutUint64(b[wheelSlot:], uint64(due))
		binary.BigEndian.PutUint32(b[wheelSlot+24:], n)
		return b
	}
	check := binary.BigEndian.AppendUint64(nil, 1_700_000_000_000)
	for _, c := range []struct {
		files map[string][]byte
		ok    bool
	}{
		{map[string][]byte{"consumequeue_ext/T/0/00000000000000000000": {1}}, false},
		{map[string][]byte{"batchconsumequeue/T/0/00000000000000000000": {1}}, false},
		{map[string][]byte{"dledger-n0/data/00000000000000000000": {1}}, false},
		{map[string][]byte{"consumequeue/%LMQ%a/0/00000000000000000000": {1}}, false},
		{map[string][]byte{"timerwheel": slot(1_700_000_001, 1)}, false}, // nobody knows whether it was read
		{map[string][]byte{"timerwheel": slot(1_700_000_001, 1), "config/timercheck": check}, false},
		{map[string][]byte{"timerwheel": slot(1_700_000_001, 0), "config/timercheck": check}, true},
		{map[string][]byte{"timerwheel": slot(1_699_999_999, 2), "config/timercheck": check}, true},
		{map[string][]byte{"timerwheel": slot(0, 0)}, true},
		{map[string][]byte{"compaction/position-checkpoint": {1}, "timerlog/00000000000000000000": make([]byte, 100)}, true},
	} {
		d := simdisk.New()
		for name, b := range c.files {
			d.WriteFile("/store/"+name, b, time.Now())
		}
		s, err := Open(t.Context(), simOptions(d), nil, nil)
		if (err == nil) != c.ok {
			t.Errorf("%v: %v", c.files, err)
		}
		if err == nil {
			s.Close()
			continue
		}
		for name, b := range c.files {
			if !bytes.Equal(d.ReadFile("/store/"+name), b) {
				t.Errorf("%s has changed", name)
			}
		}
	}
}

func TestLogOfTheSecondFormatIsRefused(t *testing.T) {
	d, at := halfFull(t, 10, false)
	forget(d)
	d.Edit(logFile(0), func(b []byte) { binary.BigEndian.PutUint32(b[at[5].Offset+4:], message.MagicV2) })
	if _, err := Open(t.Context(), simOptions(d), nil, nil); err == nil || !strings.Contains(err.Error(), "second format") {
		t.Errorf("opened with %v", err)
	}
}

func TestASecondStoreIsRefused(t *testing.T) {
	o := small(t)
	s := open(t, o)
	_, err := Open(t.Context(), o, nil, nil)
	if want := fmt.Sprintf("the store %s is locked by process %d", o.Root, os.Getpid()); err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("%v, want %s", err, want)
	}
	if b, err := os.ReadFile(o.Root + "/lock"); err != nil || string(b) != "lock" {
		t.Errorf("the lock file holds %q, %v", b, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, o)
	s.Close()
	if err := s.Close(); !errors.Is(err, ErrClosed) {
		t.Errorf("the second Close: %v", err)
	}
}

// Store times do not go back while the store is open, nor behind what is in the
// log, unless a clock was wrong that wrote it.
func TestStoreTimes(t *testing.T) {
	d := simdisk.New()
	o := simOptions(d)
	now := time.UnixMilli(1_700_000_000_000)
	o.Now = func() time.Time { return now }
	s := open(t, o)
	stored := func(want int64) {
		t.Helper()
		if p := send(t, s, "T", 0, nil, ""); p.StoreTime != want {
			t.Errorf("stored at %d, want %d", p.StoreTime, want)
		}
	}
	reopen := func(ms int64) {
		t.Helper()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		now = time.UnixMilli(ms)
		s = open(t, o)
	}
	stored(1_700_000_000_000)
	reopen(1_699_999_990_000)
	stored(1_700_000_000_000)
	reopen(1_700_000_010_000)
	stored(1_700_000_010_000)
	reopen(2_700_000_000_000)
	stored(2_700_000_000_000)
	reopen(1_700_000_020_000)
	stored(1_700_000_020_000)
	s.Close()
}

// Queues that lost entries, files or all are what the log says again.
func TestQueuesAreMadeAgain(t *testing.T) {
	queue := "/store/consumequeue/T/0/00000000000000000000"
	for _, c := range []struct {
		what  string
		spoil func(d *simdisk.Sim)
	}{
		{"the last entry", func(d *simdisk.Sim) {
			d.Edit("/store/consumequeue/T/0/00000000000000002000", func(b []byte) { clear(b[980:]) })
		}},
		{"a file in the middle", func(d *simdisk.Sim) { d.Remove("/store/consumequeue/T/0/00000000000000001000") }},
		{"the first file", func(d *simdisk.Sim) { d.Remove(queue) }},
		{"a short file", func(d *simdisk.Sim) { d.WriteFile(queue, make([]byte, 500), time.Now()) }},
		{"an empty last file", func(d *simdisk.Sim) { d.WriteFile("/store/consumequeue/T/0/00000000000000003000", nil, time.Now()) }},
		{"all", func(d *simdisk.Sim) { d.RemoveAll("/store/consumequeue") }},
	} {
		for _, closed := range []bool{true, false} {
			d, at := halfFull(t, 300, closed)
			c.spoil(d)
			s := open(t, simOptions(d))
			for id := range int32(2) {
				q := s.Queue([]byte("T"), id)
				got := pull(t, s, q, 0)
				if q.Min() != 0 || len(got) != 150 {
					t.Errorf("%s, closed %v: queue %d is [%d, %d)", c.what, closed, id, q.Min(), q.Max())
					continue
				}
				for i, r := range got {
					if r.Offset() != at[2*i+int(id)].Offset {
						t.Errorf("%s, closed %v: queue %d at %d: %d", c.what, closed, id, i, r.Offset())
					}
				}
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

// More than is kept in memory between the log and the queues, or the queues and
// the index, is read from the log.
func TestHandoverFallsBackToTheLog(t *testing.T) {
	for _, sync := range []bool{false, true} {
		d := simdisk.New()
		o := simOptions(d)
		o.SyncFlush, o.IndexEnabled, o.MaxHashSlots, o.MaxIndexEntries = sync, true, 100, 10_000
		s := open(t, o)
		s.hand.limit = 10
		b := NewBatch()
		for turn := range 20 {
			b.Reset()
			for i := range 30 {
				m := msg("T", int32(i%3), fmt.Appendf(nil, "%d-%d", turn, i), fmt.Sprintf("KEYS\x01k%d", turn*30+i))
				if i%7 == 0 {
					m.SysFlag = message.Prepared
				}
				if _, err := b.Add(s.Queue([]byte("T"), int32(i%3)), m); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.Append(b, time.Time{}, nil); err != nil {
				t.Fatal(err)
			}
		}
		end := s.Appended.Load()
		if err := errors.Join(s.Dispatched.Wait(t.Context(), end), s.Indexed.Wait(t.Context(), end)); err != nil {
			t.Fatal(err)
		}
		total := 0
		for id := range int32(3) {
			total += len(pull(t, s, s.Queue([]byte("T"), id), 0))
		}
		if total != 20*25 {
			t.Errorf("sync %v: %d messages", sync, total)
		}
		for k := range 600 {
			offsets, _, _, err := s.Lookup([]byte("T"), fmt.Appendf(nil, "k%d", k), 0, time.Now().UnixMilli()+1, 32)
			found := 0
			for _, off := range offsets {
				if r, err := s.ReadRecord(off); err == nil && bytes.Contains(r.Props(), fmt.Appendf(nil, "KEYS\x01k%d", k)) && len(r.Props()) == len(fmt.Sprintf("KEYS\x01k%d", k)) {
					found++
				}
			}
			if err != nil || found != 1 {
				t.Errorf("sync %v: key %d was found %d times, %v", sync, k, found, err)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
