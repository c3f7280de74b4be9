package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"gomq/internal/store/simdisk"
)

// clock is a clock that a test sets.
type clock struct{ ns atomic.Int64 }

func newClock(t time.Time) *clock {
	c := &clock{}
	c.ns.Store(t.UnixNano())
	return c
}

func (c *clock) now() time.Time          { return time.Unix(0, c.ns.Load()) }
func (c *clock) advance(d time.Duration) { c.ns.Add(int64(d)) }

// noon is not an hour at which files go.
var noon = time.Date(2024, 5, 6, 12, 0, 0, 0, time.Local)

// agedStore is a store on a simulated disk with some log files, written four hours
// apart.
func agedStore(t *testing.T, files int, change func(o *Options)) (*Store, *simdisk.Sim, *clock) {
	t.Helper()
	d, c := simdisk.New(), newClock(noon)
	d.SetNow(c.now)
	d.SetUsage(percentUsed(10))
	o := Options{Root: "/store", FS: d, Now: c.now, CommitLogFileSize: 16 << 10, ConsumeQueueFileSize: 400, IndexEnabled: true, MaxHashSlots: 50, MaxIndexEntries: 30,
		FlushInterval: time.Millisecond, FlushQueueInterval: time.Millisecond, RetentionInterval: time.Hour, DeleteInterval: time.Nanosecond}
	if change != nil {
		change(&o)
	}
	s := open(t, o)
	for i := 0; s.log.Len() < files; i++ {
		send(t, s, "T", int32(i%2), make([]byte, 1000), fmt.Sprintf("KEYS\x01key%d\x02", i))
		if i%16 == 15 {
			if err := s.Durable.Wait(context.Background(), s.Appended.Load()); err != nil {
				t.Fatal(err)
			}
			c.advance(4 * time.Hour)
		}
	}
	if o.FlushQueueInterval < time.Minute {
		settle(t, s)
	}
	return s, d, c
}

// settle waits until everything is durable, indexed and in the checkpoint.
func settle(t *testing.T, s *Store) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	end := s.Appended.Load()
	if err := errors.Join(s.Durable.Wait(ctx, end), s.Indexed.Wait(ctx, end)); err != nil {
		t.Fatal(err)
	}
	for s.checkpoint.savedLog.Load() < end {
		if ctx.Err() != nil {
			t.Fatal("no checkpoint")
		}
		time.Sleep(time.Millisecond)
	}
}

func percentUsed(n uint64) func(string) (uint64, uint64, error) {
	return func(string) (uint64, uint64, error) { return n * 1000, (100 - n) * 1000, nil }
}

func round(t *testing.T, s *Store) int {
	t.Helper()
	before := s.log.Len()
	if _, err := s.deleteRound(context.Background()); err != nil {
		t.Fatal(err)
	}
	return before - s.log.Len()
}

func logFiles(d *simdisk.Sim) int { return len(dirFiles(d, "/store/commitlog")) }

// checkFollowed compares queues and index with the beginning of the log.
func checkFollowed(t *testing.T, s *Store, d *simdisk.Sim) {
	t.Helper()
	first := s.MinOffset()
	for _, q := range s.Queues() {
		at, _, _, err := q.entry(q.Min())
		if q.Min() < q.Max() && (err != nil || at < first) {
			t.Errorf("%s begins at %d, whose record lies at %d, the log begins at %d (%v)", q, q.Min(), at, first, err)
		}
		if q.Min() > 0 {
			if u, err := q.unitAt(q.Min() - 1); err == nil && u.offset >= first {
				t.Errorf("%s begins at %d although the record before it is there", q, q.Min())
			}
		}
		var res GetResult
		s.Get(GetRequest{Queue: q, Offset: q.Min() - 1, MaxCount: 1, MaxBytes: 1}, &res)
		if q.Min() > 0 && (res.Status != OffsetTooSmall || res.Next != q.Min()) {
			t.Errorf("%s below its beginning: %v, next %d", q, res.Status, res.Next)
		}
		if got := pull(t, s, q, q.Min()); int64(len(got)) != q.Max()-q.Min() {
			t.Errorf("%s gives %d of %d messages", q, len(got), q.Max()-q.Min())
		}
	}
	if n := len(s.index.files); n > 1 && s.index.files[0].h.endOffset < first {
		t.Error("an index file points to deleted records only")
	}
	if logFiles(d) > s.log.Len()+1 { // one is made ahead
		t.Errorf("%d log files on the disk, %d in the list", logFiles(d), s.log.Len())
	}
}

func TestFilesGoByAgeAtTheirHour(t *testing.T) {
	s, d, c := agedStore(t, 14, nil)
	defer s.Close()
	queueFiles := len(dirFiles(d, "/store/consumequeue"))
	c.advance(41 * time.Hour) // some are past 72 hours, it is not 4 o'clock
	if n := round(t, s); n != 0 {
		t.Fatalf("%d files went outside of the hour", n)
	}
	for c.now().Hour() != 4 {
		c.advance(time.Hour)
	}
	limit := c.now().Add(-72 * time.Hour)
	var want int
	for _, f := range s.log.Files()[:13] {
		e, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		if !e.ModTime.After(limit) {
			want++
		}
	}
	if want < 3 || want > 9 {
		t.Fatalf("the test wants %d of 14 files gone", want)
	}
	if n := round(t, s); n != want {
		t.Fatalf("%d files went, %d are past their age", n, want)
	}
	checkFollowed(t, s, d)
	if n := len(dirFiles(d, "/store/consumequeue")); n >= queueFiles {
		t.Errorf("%d queue files, before %d", n, queueFiles)
	}
	c.advance(240 * time.Hour)
	for c.now().Hour() != 4 {
		c.advance(time.Hour)
	}
	left := s.log.Len()
	if n := round(t, s); n != min(10, left-1) {
		t.Errorf("%d of %d went in a round", n, left)
	}
	for range 3 {
		round(t, s)
	}
	if s.log.Len() != 1 {
		t.Errorf("%d files are left, the last one stays", s.log.Len())
	}
	checkFollowed(t, s, d)
	// The log goes on, and the store can be opened again.
	p := send(t, s, "T", 0, []byte("late"), "")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, s.o)
	defer s.Close()
	if r, err := s.ReadRecord(p.Offset); err != nil || string(r.Body()) != "late" {
		t.Errorf("%v", err)
	}
	checkFollowed(t, s, d)
}

func TestAgeIsThatOfFileAndRecords(t *testing.T) {
	s, d, c := agedStore(t, 4, func(o *Options) {
		o.DeleteWhen = "00;01;02;03;04;05;06;07;08;09;10;11;12;13;14;15;16;17;18;19;20;21;22;23"
	})
	defer s.Close()
	old := c.now().Add(-1000 * time.Hour)
	for _, name := range dirFiles(d, "/store/commitlog") {
		d.SetModTime(name, old) // a careless copy
	}
	if n := round(t, s); n != 0 {
		t.Fatalf("%d files went whose records are young", n)
	}
	c.advance(100 * time.Hour)
	for _, name := range dirFiles(d, "/store/commitlog") {
		d.SetModTime(name, c.now()) // touched
	}
	if n := round(t, s); n != 0 {
		t.Fatalf("%d files went that were touched just now", n)
	}
	c.advance(73 * time.Hour)
	if n := round(t, s); n != 3 {
		t.Fatalf("%d files of 3 went", n)
	}
}

// A file's last record counts, also when the next file begins much later.
func TestAgeOfAFileThatWasLastForLong(t *testing.T) {
	s, _, c := agedStore(t, 1, func(o *Options) { o.DeleteWhen = "0;1;2;3;4;5;6;7;8;9;10;11;12;13;14;15;16;17;18;19;20;21;22;23" })
	defer s.Close()
	for range 10 {
		send(t, s, "T", 0, make([]byte, 1000), "")
	}
	settle(t, s)
	c.advance(100 * time.Hour)
	for s.log.Len() == 1 {
		send(t, s, "T", 0, make([]byte, 1000), "")
	}
	settle(t, s)
	if n := round(t, s); n != 0 {
		t.Fatal("a file went that has a record of this hour")
	}
	c.advance(71 * time.Hour)
	if n := round(t, s); n != 0 {
		t.Fatal("a file went before its last record was old")
	}
	c.advance(2 * time.Hour)
	if n := round(t, s); n != 1 {
		t.Fatal("the file did not go")
	}
}

func TestSpaceDecides(t *testing.T) {
	s, d, c := agedStore(t, 14, nil)
	defer s.Close()
	d.SetUsage(percentUsed(75))
	c.advance(41 * time.Hour)
	if n := round(t, s); n != 0 {
		t.Errorf("at 75 %%: %d went", n)
	}
	d.SetUsage(percentUsed(76))
	past := round(t, s)
	if past == 0 || past > 8 {
		t.Errorf("at 76 %%: %d went, those past their age should", past)
	}
	if n := round(t, s); n != 0 {
		t.Errorf("at 76 %% once more: %d went", n)
	}
	d.SetUsage(percentUsed(85))
	if n := round(t, s); n != 0 {
		t.Errorf("at 85 %%: %d went", n)
	}
	o := s.o
	o.NoForcedClean = true
	if err := s.SetRetention(o); err != nil {
		t.Fatal(err)
	}
	d.SetUsage(percentUsed(89))
	if n := round(t, s); n != 0 {
		t.Errorf("with forced cleaning off: %d went", n)
	}
	o.NoForcedClean = false
	if err := s.SetRetention(o); err != nil {
		t.Fatal(err)
	}
	// Each deletion frees 2 %: three bring it to 85.
	left := uint64(91)
	d.SetUsage(func(string) (uint64, uint64, error) {
		n := left - 2*uint64(14-past-s.log.Len())
		return n * 1000, (100 - n) * 1000, nil
	})
	s.checkSpace()
	var refused *RefusedError
	if err := s.CheckWritable(); !errors.As(err, &refused) || refused.Cause != CauseDiskFull {
		t.Errorf("at 91 %%: %v", err)
	}
	if n := round(t, s); n != 3 {
		t.Errorf("from 91 %% on: %d went", n)
	}
	if err := s.CheckWritable(); err != nil {
		t.Errorf("after the deletion: %v", err)
	}
	checkFollowed(t, s, d)
	d.SetUsage(func(string) (uint64, uint64, error) { return 0, 0, errors.New("no answer") })
	if n := round(t, s); n != 0 {
		t.Errorf("with no answer about space: %d went", n)
	}
}

func TestDiskFullIsRefusedAndPassesByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := simdisk.New()
		d.SetUsage(percentUsed(50))
		s := open(t, Options{Root: "/store", FS: d, CommitLogFileSize: 16 << 10, NoForcedClean: true})
		defer s.Close()
		send(t, s, "T", 0, []byte("fits"), "")
		d.SetUsage(func(path string) (uint64, uint64, error) {
			if strings.HasSuffix(path, "commitlog") {
				return 905, 95, nil // 90.5 %, which counts as 91
			}
			return 0, 1000, nil
		})
		time.Sleep(2 * time.Second)
		b := NewBatch()
		if _, err := b.Add(s.Queue([]byte("T"), 0), msg("T", 0, []byte("no"), "")); err != nil {
			t.Fatal(err)
		}
		err := s.Append(b, time.Time{}, nil)
		var refused *RefusedError
		if !errors.As(err, &refused) || refused.Cause != CauseDiskFull || refused.Path != "/store/commitlog" || refused.Used != 905 || refused.Limit != 900 {
			t.Fatalf("%#v", err)
		}
		if got := pull(t, s, s.Queue([]byte("T"), 0), 0); len(got) != 1 {
			t.Errorf("%d messages can be read", len(got))
		}
		d.SetUsage(percentUsed(90))
		time.Sleep(2 * time.Second)
		if err := s.Append(b, time.Time{}, nil); err != nil {
			t.Errorf("after space came back: %v", err)
		}
	})
}

func TestNoSpaceForAFileIsRefusedAndPassesByItself(t *testing.T) {
	for _, sync := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			d := simdisk.New()
			d.SetCapacity(100 << 10)
			d.SetUsage(percentUsed(50))
			s := open(t, Options{Root: "/store", FS: d, CommitLogFileSize: 16 << 10, ConsumeQueueFileSize: 400, SyncFlush: sync, IndexEnabled: true, MaxHashSlots: 50, MaxIndexEntries: 30})
			defer s.Close()
			stored := 0
			var refused *RefusedError
			b := NewBatch()
			for refused == nil {
				b.Reset()
				if _, err := b.Add(s.Queue([]byte("T"), 0), msg("T", 0, make([]byte, 1000), "KEYS\x01k\x02")); err != nil {
					t.Fatal(err)
				}
				err := s.Append(b, time.Time{}, nil)
				if err == nil {
					stored++
				} else if !errors.As(err, &refused) || refused.Cause != CauseDiskFull || refused.Path == "" {
					t.Fatalf("after %d messages: %v", stored, err)
				}
				if stored > 200 {
					t.Fatal("the disk is never full")
				}
			}
			if err := s.Err(); err != nil {
				t.Fatal("a full disk failed the store: ", err)
			}
			d.SetCapacity(1 << 30)
			time.Sleep(3 * time.Second)
			if err := s.Append(b, time.Time{}, nil); err != nil {
				t.Errorf("after space came back: %v", err)
			}
			time.Sleep(3 * time.Second)
			if got := pull(t, s, s.Queue([]byte("T"), 0), 0); len(got) != stored+1 {
				t.Errorf("%d messages of %d", len(got), stored+1)
			}
			if got, _, _, err := s.Lookup([]byte("T"), []byte("k"), 0, 1<<62, 64); err != nil || len(got) != min(64, stored+1) {
				t.Errorf("%d found by key: %v", len(got), err)
			}
			if holes := d.Holes(); len(holes) > 0 {
				t.Errorf("mapped writes without blocks: %v", holes)
			}
		})
	}
}

func TestAReaderKeepsADeletedFile(t *testing.T) {
	s, d, c := agedStore(t, 4, nil)
	defer s.Close()
	q := s.Queue([]byte("T"), 0)
	var res GetResult
	s.Get(GetRequest{Queue: q, Offset: 0, MaxCount: 5, MaxBytes: 1 << 20}, &res)
	if res.Status != Found || res.Count != 5 {
		t.Fatal(res.Status, res.Count)
	}
	want, err := res.View.AppendTo(nil)
	if err != nil {
		t.Fatal(err)
	}
	c.advance(100 * time.Hour)
	for c.now().Hour() != 4 {
		c.advance(time.Hour)
	}
	if n := round(t, s); n != 3 {
		t.Fatalf("%d files went", n)
	}
	got, err := res.View.AppendTo(nil)
	if err != nil || string(got) != string(want) {
		t.Errorf("the view changed under its reader: %v", err)
	}
	res.View.Release()
	if _, err := s.ReadRecord(0); !errors.Is(err, ErrNoRecord) {
		t.Errorf("reading a deleted record: %v", err)
	}
	if offsets, _, _, err := s.Lookup([]byte("T"), []byte("key0"), 0, 1<<62, 10); err != nil || len(offsets) != 0 {
		t.Errorf("looking up a deleted record: %v, %v", offsets, err)
	}
	checkFollowed(t, s, d)
}

func TestDeleteExpiredRunsWhateverTheHour(t *testing.T) {
	s, _, c := agedStore(t, 14, nil)
	defer s.Close()
	c.advance(300 * time.Hour)
	for c.now().Hour() == 4 {
		c.advance(time.Hour)
	}
	s.DeleteExpired(2) // two rounds of at most ten
	deadline := time.Now().Add(10 * time.Second)
	for s.log.Len() > 1 {
		if time.Now().After(deadline) {
			t.Fatalf("%d files are left", s.log.Len())
		}
		time.Sleep(time.Millisecond)
	}
}

func TestWhatIsNotInTheCheckpointStays(t *testing.T) {
	s, _, c := agedStore(t, 4, func(o *Options) { o.FlushQueueInterval = time.Minute })
	defer s.Close()
	c.advance(100 * time.Hour)
	for c.now().Hour() != 4 {
		c.advance(time.Hour)
	}
	if n := round(t, s); n != 0 {
		t.Fatalf("%d files went before the checkpoint had passed them", n)
	}
}

func TestSetRetentionRefusesWhatIsNoHour(t *testing.T) {
	for _, bad := range []string{"24", "-1", "4;x", "noon"} {
		o := Options{Root: t.TempDir(), DeleteWhen: bad}
		if _, err := Open(context.Background(), o, nil, nil); err == nil || !strings.Contains(err.Error(), "deleteWhen") {
			t.Errorf("%q: %v", bad, err)
		}
	}
	o := Options{DeleteWhen: " 4; 16;"}
	o.retentionDefaults()
	if r, err := o.retention(); err != nil || !r.hours[4] || !r.hours[16] || r.hours[0] {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestSteadyClock(t *testing.T) {
	const reserved = 72 * time.Hour
	start := noon
	step := func(c *steadyClock, passed, system time.Duration, want time.Duration) {
		t.Helper()
		if got := c.now(start.Add(system), passed, reserved).Sub(start); got != want {
			t.Errorf("after %v, the system says %v: %v, want %v", passed, system, got, want)
		}
	}
	const year = 8766 * time.Hour
	c := newSteadyClock(start, start.Add(-time.Hour), reserved)
	step(&c, time.Hour, time.Hour, time.Hour)
	step(&c, 2*time.Hour, 2*time.Hour+time.Second, 2*time.Hour+time.Second) // slewed
	step(&c, 3*time.Hour, 10*year, 3*time.Hour+time.Second)                 // leaps ahead
	step(&c, 70*time.Hour, 10*year, 70*time.Hour+time.Second)
	step(&c, 71*time.Hour, 71*time.Hour, 71*time.Hour) // and back
	step(&c, 72*time.Hour, 10*year, 72*time.Hour)
	step(&c, 143*time.Hour, 10*year+71*time.Hour, 143*time.Hour)
	step(&c, 144*time.Hour, 10*year+72*time.Hour, 10*year+72*time.Hour) // it stays: it is right
	step(&c, 145*time.Hour, 10*year+73*time.Hour, 10*year+73*time.Hour)
	step(&c, 146*time.Hour, -year, -year) // a leap back makes everything young
	step(&c, 147*time.Hour, -year+time.Hour, -year+time.Hour)

	// Everything in the store is very old: the clock may be wrong.
	c = newSteadyClock(start, start.Add(-year), reserved)
	step(&c, 0, 0, -year)
	step(&c, time.Hour, time.Hour, time.Hour-year)
	step(&c, 72*time.Hour, 72*time.Hour, 72*time.Hour)
	c = newSteadyClock(start, time.Time{}, reserved) // an empty store
	step(&c, time.Hour, time.Hour, time.Hour)
}

func TestAWrongClockAtTheStartDeletesNothing(t *testing.T) {
	s, d, c := agedStore(t, 4, nil)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	c.advance(10 * 8766 * time.Hour)
	for c.now().Hour() != 4 {
		c.advance(time.Hour)
	}
	s = open(t, s.o)
	settle(t, s)
	if n := round(t, s); n != 0 {
		t.Errorf("%d files went", n)
	}
	c.advance(73 * time.Hour)
	for c.now().Hour() != 4 {
		c.advance(time.Hour)
	}
	if n := round(t, s); n == 0 {
		t.Error("no file ever goes")
	}
	checkFollowed(t, s, d)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
