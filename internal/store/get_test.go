package store

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gomq/internal/message"
	"gomq/internal/store/simdisk"
)

// matchCode matches by tags code, and by body if that is set.
type matchCode struct {
	code int64
	body string
}

func (m matchCode) MatchCode(c int64) bool            { return m.code == 0 || c == m.code }
func (m matchCode) NeedsRecord() bool                 { return m.body != "" }
func (m matchCode) MatchRecord(r message.Record) bool { return string(r.Body()) == m.body }
func tagCode(tag string) int64                        { return int64(message.HashCode([]byte(tag))) }
func get(s *Store, r GetRequest) (res GetResult)      { s.Get(r, &res); res.View.Release(); return res }
func simOptions(d *simdisk.Sim) Options {
	return Options{Root: "/store", CommitLogFileSize: 64 << 10, ConsumeQueueFileSize: 1000, FS: d, FlushInterval: 5 * time.Millisecond}
}

// The table of behaviour.md 5.2 on a master.
func TestGetStatus(t *testing.T) {
	s := open(t, simOptions(simdisk.New()))
	defer s.Close()
	q := s.Queue([]byte("T"), 0)
	for i := range 10 {
		send(t, s, "T", 0, fmt.Appendf(nil, "%d", i), fmt.Sprintf("TAGS\x01t%d", i%2))
	}
	empty := s.Queue([]byte("T"), 1)
	aged := s.Queue([]byte("Aged"), 0)
	send(t, s, "Aged", 0, []byte("a"), "")
	send(t, s, "Aged", 0, []byte("b"), "")
	aged.raiseMin(1)
	all := GetRequest{MaxCount: 32, MaxBytes: 1 << 20}
	for _, c := range []struct {
		what   string
		q      *Queue
		off    int64
		change func(r *GetRequest)
		status GetStatus
		next   int64
		count  int
	}{
		{"no queue", nil, 5, nil, NoMatchedQueue, 0, 0},
		{"empty queue", empty, 0, nil, NoMessageInQueue, 0, 0},
		{"empty queue, some offset", empty, 7, nil, NoMessageInQueue, 0, 0},
		{"too small", aged, 0, nil, OffsetTooSmall, 1, 0},
		{"at the end", q, 10, nil, OffsetOverflowOne, 10, 0},
		{"beyond the end", q, 11, nil, OffsetOverflowBadly, 10, 0},
		{"negative", q, -1, nil, OffsetTooSmall, 0, 0},
		{"all", q, 0, nil, Found, 10, 10},
		{"from the middle", q, 4, nil, Found, 10, 6},
		{"so many", q, 0, func(r *GetRequest) { r.MaxCount = 3 }, Found, 3, 3},
		{"none is one", q, 2, func(r *GetRequest) { r.MaxCount, r.MaxBytes = 0, 0 }, Found, 3, 1},
		{"so many bytes", q, 0, func(r *GetRequest) { r.MaxBytes = 250 }, Found, 2, 2},
		{"a tag", q, 0, func(r *GetRequest) { r.Match = matchCode{code: tagCode("t1")} }, Found, 10, 5},
		{"a tag, and no more than two", q, 0, func(r *GetRequest) { r.Match, r.MaxCount = matchCode{code: tagCode("t1")}, 2 }, Found, 4, 2},
		{"no such tag", q, 0, func(r *GetRequest) { r.Match = matchCode{code: tagCode("x")} }, NoMatchedMessage, 10, 0},
		{"by the record", q, 0, func(r *GetRequest) { r.Match = matchCode{body: "6"} }, Found, 10, 1},
		{"no such record", q, 0, func(r *GetRequest) { r.Match = matchCode{body: "x"} }, NoMatchedMessage, 10, 0},
		{"far", q, 0, func(r *GetRequest) { r.NearBytes, r.MaxCountFar, r.MaxBytesFar = 1, 2, 1<<20 }, Found, 2, 2},
		{"far bytes", q, 0, func(r *GetRequest) { r.NearBytes, r.MaxCountFar, r.MaxBytesFar = 1, 100, 350 }, Found, 3, 3},
	} {
		r := all
		r.Queue, r.Offset = c.q, c.off
		if c.change != nil {
			c.change(&r)
		}
		res := get(s, r)
		if res.Status != c.status || res.Next != c.next || res.Count != c.count || res.Cold || res.OnDisk != (r.NearBytes > 0) {
			t.Errorf("%s: %v, next %d, %d messages, %+v; want %v, %d, %d", c.what, res.Status, res.Next, res.Count, res, c.status, c.next, c.count)
		}
		if c.q != nil && (res.Min != c.q.Min() || res.Max != c.q.Max()) {
			t.Errorf("%s: [%d, %d)", c.what, res.Min, res.Max)
		}
	}
}

// One Get looks at 800 entries, or at 20 bytes of them a message that is wanted.
func TestGetScansSoFarAndNoFurther(t *testing.T) {
	s := open(t, simOptions(simdisk.New()))
	defer s.Close()
	b := NewBatch()
	for range 3000 {
		if _, err := b.Add(s.Queue([]byte("T"), 0), msg("T", 0, nil, "TAGS\x01a")); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Append(b, time.Time{}, nil); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		count     int
		off, next int64
	}{{32, 0, 800}, {32, 100, 900}, {1000, 0, 1000}, {32, 2900, 3000}} {
		res := get(s, GetRequest{Queue: s.Queue([]byte("T"), 0), Offset: c.off, MaxCount: c.count, MaxBytes: 1 << 20, Match: matchCode{code: 1}})
		if res.Status != NoMatchedMessage || res.Next != c.next {
			t.Errorf("%+v: %v, next %d", c, res.Status, res.Next)
		}
	}
}

// What is not in memory is read only if that is allowed, and checked then.
func TestGetFromTheDisk(t *testing.T) {
	o := small(t)
	o.ConsumeQueueFileSize = 100_000
	s := open(t, o)
	var want []string
	for i := range 2000 {
		body := fmt.Sprintf("%d %s", i, strings.Repeat("x", 500))
		want = append(want, body)
		send(t, s, "T", 0, []byte(body), "")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, o)
	defer func() { s.Close() }()
	s.hotLog, s.hotQueue = 0, 0
	q := s.Queue([]byte("T"), 0)
	chill := func() bool {
		for _, f := range append(s.log.Files(), q.list().Files()...) {
			h, err := os.OpenFile(f.Path(), os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			h.Close()
			if err := f.Refresh(f.Base()); err != nil {
				t.Fatal(err)
			}
		}
		f := s.log.Files()[2]
		if err := f.Acquire(); err != nil {
			t.Fatal(err)
		}
		defer f.Release()
		return !f.Resident(f.Base(), f.End())
	}
	if !chill() {
		t.Skip("SKIP TestGetFromTheDisk: this file system keeps everything in memory")
	}
	r := GetRequest{Queue: q, Offset: 300, MaxCount: 32, MaxBytes: 1 << 20}
	if res := get(s, r); !res.Cold || res.Count != 0 {
		t.Errorf("%+v, want cold", res)
	}
	got := pull(t, s, q, 0)
	if len(got) != len(want) {
		t.Fatalf("%d messages", len(got))
	}
	for i := range got {
		if string(got[i].Body()) != want[i] {
			t.Fatalf("message %d is %.20q", i, got[i].Body())
		}
	}
	if res := get(s, r); res.Cold || res.Count != 32 {
		t.Errorf("%+v after all was read", res)
	}
	// A filter that has to see the record, and drops what it read.
	chill()
	r.Match, r.ReadDisk = matchCode{body: want[310]}, true
	var res GetResult
	s.Get(r, &res)
	b, err := res.View.AppendTo(nil)
	if rec, _ := message.ParseRecord(b, true); err != nil || res.Count != 1 || len(b) != res.Bytes || string(rec.Body()) != want[310] {
		t.Errorf("%d messages, %d bytes, %v", res.Count, len(b), err)
	}
	res.View.Release()
	// A record that the disk does not hold as it was stored is passed over.
	at, _, _, err := q.entry(305)
	if err != nil {
		t.Fatal(err)
	}
	flipByte(t, s, at+200)
	if err := s.Close(); err != nil { // which unmaps: a page in use stays in memory
		t.Fatal(err)
	}
	s = open(t, o)
	s.hotLog, s.hotQueue = 0, 0
	q = s.Queue([]byte("T"), 0)
	chill()
	if res := get(s, GetRequest{Queue: q, Offset: 305, MaxCount: 1, ReadDisk: true}); res.Status != Found || res.Next != 307 {
		t.Errorf("a rotten record: %+v", res)
	}
	// A filter that drops all that it reads from the disk goes on with the next Get.
	s.scanDisk = 1
	if res := get(s, GetRequest{Queue: q, Offset: 900, MaxCount: 1, Match: matchCode{body: "none"}, ReadDisk: true}); res.Status != NoMatchedMessage || res.Next != 901 {
		t.Errorf("read for nothing: %+v", res)
	}
}

func flipByte(t *testing.T, s *Store, off int64) {
	t.Helper()
	f := s.log.Find(off)
	h, err := os.OpenFile(f.Path(), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	var b [1]byte
	if _, err := h.ReadAt(b[:], off-f.Base()); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 1
	if _, err := h.WriteAt(b[:], off-f.Base()); err != nil {
		t.Fatal(err)
	}
}

// A bad page under a reader is an error of that read; the store goes on.
func TestReadFault(t *testing.T) {
	d := simdisk.Faulty()
	s := open(t, simOptions(d))
	defer s.Close()
	for range 100 {
		send(t, s, "T", 0, make([]byte, 1000), "")
	}
	q := s.Queue([]byte("T"), 0)
	var res GetResult
	s.Get(GetRequest{Queue: q, MaxCount: 32, MaxBytes: 1 << 20}, &res)
	if res.Count != 32 {
		t.Fatal(res.Count)
	}
	d.BadPage(s.log.Files()[0].Path(), 8192, false)
	if b, err := res.View.AppendTo([]byte("before")); err == nil || string(b) != "before" {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	res.View.Release()
	if got := get(s, GetRequest{Queue: q, MaxCount: 32, MaxBytes: 1 << 20}); got.Count == 32 {
		t.Error("all was found")
	}
	if s.Err() != nil {
		t.Errorf("the store has failed: %v", s.Err())
	}
	if got := get(s, GetRequest{Queue: q, Offset: 90, MaxCount: 32, MaxBytes: 1 << 20}); got.Count != 10 {
		t.Errorf("%d messages behind the bad page", got.Count)
	}
	d.Heal()
}

// A bad page under the writer ends the store.
func TestWriteFault(t *testing.T) {
	d := simdisk.Faulty()
	s := open(t, simOptions(d))
	send(t, s, "T", 0, make([]byte, 1000), "")
	d.BadPage(s.log.Files()[0].Path(), 4096, true)
	b := NewBatch()
	for range 10 {
		if _, err := b.Add(s.Queue([]byte("T"), 0), msg("T", 0, make([]byte, 1000), "")); err != nil {
			t.Fatal(err)
		}
	}
	var refused *RefusedError
	if err := s.Append(b, time.Time{}, nil); !errors.As(err, &refused) || refused.Cause != CauseFailed || !strings.Contains(err.Error(), "00000000000000000000") {
		t.Errorf("%v", err)
	}
	<-s.Failed()
	if s.Close() == nil {
		t.Error("Close says nothing")
	}
}

func TestDropQueue(t *testing.T) {
	d := simdisk.New()
	s := open(t, simOptions(d))
	for i := range 120 {
		send(t, s, "Gone", int32(i%2), []byte("old"), "")
		send(t, s, "Stays", 0, []byte("stays"), "")
	}
	old := s.Queue([]byte("Gone"), 0)
	b := NewBatch()
	if _, err := b.Add(old, msg("Gone", 0, []byte("late"), "")); err != nil {
		t.Fatal(err)
	}
	if err := s.DropQueue("Gone"); err != nil {
		t.Fatal(err)
	}
	if err := s.Append(b, time.Time{}, nil); err != nil || !errors.Is(b.Placed(0).Err, ErrQueueGone) {
		t.Errorf("append to a dropped queue: %v, %v", err, b.Placed(0).Err)
	}
	if res := get(s, GetRequest{Queue: old, MaxCount: 1}); res.Status != NoMessageInQueue {
		t.Errorf("a dropped queue: %v", res.Status)
	}
	if p := send(t, s, "Gone", 0, []byte("new"), ""); p.QueueOffset != 0 {
		t.Errorf("the new queue begins at %d", p.QueueOffset)
	}
	check := func(s *Store) {
		t.Helper()
		if got := pull(t, s, s.Queue([]byte("Gone"), 0), 0); len(got) != 1 || string(got[0].Body()) != "new" {
			t.Errorf("the new queue has %d messages", len(got))
		}
		if n := s.Queue([]byte("Gone"), 1).Max(); n != 0 {
			t.Errorf("the other new queue has %d messages", n)
		}
		if n := len(pull(t, s, s.Queue([]byte("Stays"), 0), 0)); n != 120 {
			t.Errorf("the other topic has %d messages", n)
		}
	}
	check(s)
	crashProcess(s)
	d.PowerOff()
	d = d.Restart()
	s = open(t, simOptions(d))
	check(s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, simOptions(d))
	check(s)
	s.Close()
	if err := s.DropQueue("../etc"); err == nil {
		t.Error("a topic that is no name")
	}
}

// Readers, writers, a dropper of topics and arrivals beside each other.
func TestBesideEachOther(t *testing.T) {
	o := small(t)
	o.MaxMappedQueues = 3
	s := open(t, o)
	arrived := map[string]int64{}
	var mu sync.Mutex
	s.OnArrive(func(q *Queue, max int64) {
		mu.Lock()
		defer mu.Unlock()
		if max > q.Max() && q.Topic() != "Short" { // that one is dropped meanwhile
			t.Errorf("%s: told of %d, ends at %d", q, max, q.Max())
		}
		arrived[q.String()] = max
	})
	var wg sync.WaitGroup
	var gaveUp atomic.Bool
	for w := range 3 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			topic := fmt.Sprint("W", w)
			b := NewBatch()
			for i := range 200 {
				b.Reset()
				for k := range 5 {
					if _, err := b.Add(s.Queue([]byte(topic), int32(k%2)), msg(topic, int32(k%2), fmt.Appendf(nil, "%d-%d", i, k), "")); err != nil {
						t.Error(err)
						gaveUp.Store(true)
						return
					}
				}
				if err := s.Append(b, time.Time{}, nil); err != nil {
					t.Error(err)
					gaveUp.Store(true)
					return
				}
			}
		}()
		wg.Add(1)
		go func() {
			defer wg.Done()
			q := s.Queue(fmt.Appendf(nil, "W%d", w), 0)
			var res GetResult
			for off := int64(0); off < 600 && !gaveUp.Load(); {
				s.Get(GetRequest{Queue: q, Offset: off, MaxCount: 32, MaxBytes: 1 << 20, ReadDisk: true}, &res)
				b, err := res.View.AppendTo(nil)
				if err != nil {
					t.Error(err)
				}
				for len(b) > 0 {
					r, err := message.ParseRecord(b, true)
					if err != nil || r.QueueOffset() != off {
						t.Errorf("%v at %d", err, off)
						return
					}
					off++
					b = b[r.Size():]
				}
				res.View.Release()
			}
		}()
	}
	wg.Add(1)
	go func() {
		defer wg.Done()
		for range 20 {
			send(t, s, "Short", 0, []byte("x"), "")
			if err := s.DropQueue("Short"); err != nil {
				t.Error(err)
			}
		}
	}()
	wg.Wait()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(arrived) < 6 {
		t.Errorf("told of %v", arrived)
	}
}

// In steady state neither an append nor a read allocates.
func TestNoAllocations(t *testing.T) {
	o := small(t)
	o.CommitLogFileSize, o.ConsumeQueueFileSize, o.MaxIndexEntries, o.MaxHashSlots = 64<<20, 6_000_000, 1_000_000, 1000
	o.FlushInterval, o.FlushQueueInterval = time.Hour, time.Hour
	s := open(t, o)
	defer s.Close()
	b := NewBatch()
	topic, props := []byte("T"), []byte("KEYS\x01a b\x02TAGS\x01x")
	m := message.Message{Topic: topic, Body: make([]byte, 100), Props: props, BornHost: home, StoreHost: home}
	turn := func() {
		b.Reset()
		for i := range 32 {
			m.QueueID = int32(i % 4)
			if _, err := b.Add(s.Queue(topic, m.QueueID), &m); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Append(b, time.Time{}, nil); err != nil {
			t.Fatal(err)
		}
	}
	for range 200 {
		turn()
	}
	// The dispatcher and the indexer are counted too.
	if n := testing.AllocsPerRun(500, turn); n > 3 {
		t.Errorf("%v allocations for a Turn of 32", n)
	}
	var res GetResult
	var buf []byte
	q := s.Queue(topic, 1)
	if n := testing.AllocsPerRun(500, func() {
		s.Get(GetRequest{Queue: q, Offset: 10, MaxCount: 32, MaxBytes: 1 << 20}, &res)
		buf, _ = res.View.AppendTo(buf[:0])
		res.View.Release()
	}); n > 0 || res.Count != 32 {
		t.Errorf("%v allocations a Get of %d", n, res.Count)
	}
}

func TestQueue(t *testing.T) {
	s := open(t, simOptions(simdisk.New()))
	defer s.Close()
	for _, c := range []struct {
		topic string
		id    int32
	}{{"", 0}, {"a/b", 0}, {"..", 0}, {strings.Repeat("x", 128), 0}, {"T", -1}, {"T", 1 << 16}} {
		if q := s.Queue([]byte(c.topic), c.id); q != nil {
			t.Errorf("%q %d is a queue", c.topic, c.id)
		}
	}
	q := s.Queue([]byte("T"), 5)
	if q.Topic() != "T" || q.ID() != 5 || q != s.Queue([]byte("T"), 5) || len(s.Queues()) != 1 {
		t.Errorf("%v, %d queues", q, len(s.Queues()))
	}
	topic := []byte("T")
	if n := testing.AllocsPerRun(100, func() { s.Queue(topic, 5) }); n > 0 {
		t.Errorf("%v allocations a look-up", n)
	}
}
