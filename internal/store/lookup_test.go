package store

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"gomq/internal/message"
	"gomq/internal/store/simdisk"
)

func TestSearchesAnswerAsTheOriginals(t *testing.T) {
	for _, version := range []string{"4.9.7-clean", "4.5.2-clean"} {
		t.Run(version, func(t *testing.T) {
			d := loadGolden(t, version)
			s := open(t, goldenOptions(d))
			defer s.Close()
			q := loadQueries(t, version)
			other := 0
			for _, c := range q.ByTime {
				queue := s.Queue([]byte(c.Topic), c.QueueID)
				got := s.SearchTime(queue, c.Timestamp)
				// Of several messages of one time the original takes any. It looks into one
				// queue file only, which it chooses by its modification time, and so misses
				// the nearest message at times; ours must be nearer then.
				have, want := s.StoreTimeAt(queue, got), s.StoreTimeAt(queue, c.Offset)
				if got != c.Offset && have != want && abs(have-c.Timestamp) >= abs(want-c.Timestamp) {
					t.Errorf("%s at %d: %d (stored %d), want %d (stored %d)", queue, c.Timestamp, got, have, c.Offset, want)
				}
				if got != c.Offset {
					other++
				}
			}
			if other*4 > len(q.ByTime) {
				t.Errorf("%d of %d times are answered in another way", other, len(q.ByTime))
			}
			for _, c := range q.ByKey {
				got, lastTime, lastOffset, err := s.Lookup([]byte(c.Topic), []byte(c.Key), 0, time.Now().UnixMilli()+1<<40, 64)
				if err != nil || lastTime == 0 || lastOffset == 0 {
					t.Fatal(err, lastTime, lastOffset)
				}
				// The client drops records of which only the hash fits.
				kept := slices.DeleteFunc(slices.Clone(got), func(at int64) bool {
					r, err := s.ReadRecord(at)
					if err != nil {
						t.Fatal(err)
					}
					return string(r.Topic()) != c.Topic || !hasKey(r, c.Key)
				})
				if len(c.PhysicalOffsets) == 0 && (c.Topic == "GoldGone" || c.Topic == message.TopicSchedule) {
					continue // had no route, so that the client could not ask
				}
				if !slices.Equal(kept, c.PhysicalOffsets) {
					t.Errorf("%s#%s: %v, want %v", c.Topic, c.Key, kept, c.PhysicalOffsets)
				}
				if !slices.IsSorted(got) {
					t.Errorf("%v is not sorted", got)
				}
			}
		})
	}
}

func abs(n int64) int64 { return max(n, -n) }

// hasKey does what the client does with what it was given.
func hasKey(r message.Record, key string) bool {
	if v, ok := message.Prop(r.Props(), message.PropUniqKey); ok && string(v) == key {
		return true
	}
	v, _ := message.Prop(r.Props(), message.PropKeys)
	for len(v) > 0 {
		i := slices.Index(v, ' ')
		if i < 0 {
			i = len(v)
		}
		if string(v[:i]) == key {
			return true
		}
		v = v[min(i+1, len(v)):]
	}
	return false
}

func TestSearchTime(t *testing.T) {
	c := newClock(time.UnixMilli(1_700_000_000_000))
	s := open(t, Options{Root: "/store", FS: simdisk.New(), Now: c.now, CommitLogFileSize: 8 << 10, ConsumeQueueFileSize: 100})
	defer s.Close()
	base := c.now().UnixMilli()
	q := s.Queue([]byte("T"), 0)
	if n := s.SearchTime(q, base); n != 0 {
		t.Errorf("in an empty queue: %d", n)
	}
	if s.EarliestTime(q) != -1 || s.StoreTimeAt(q, 0) != -1 {
		t.Error("an empty queue has a time")
	}
	// Times 0 100 100 100 200 ... 1000, over several queue and log files.
	var times []int64
	for i := range int64(11) {
		n := 1
		if i == 1 {
			n = 3
		}
		for range n {
			send(t, s, "T", 0, make([]byte, 900), "")
			times = append(times, i*100)
		}
		c.advance(100 * time.Millisecond)
	}
	for ms, want := range map[int64]int64{-5000: 0, 0: 0, 49: 0, 50: 0, 51: 1, 99: 1, 100: 1, 149: 3, 150: 3, 151: 4, 200: 4, 951: 12, 1000: 12, 9999: 12} {
		if got := s.SearchTime(q, base+ms); got != want {
			t.Errorf("at %d ms: %d, want %d", ms, got, want)
		}
	}
	for i, ms := range times {
		if got := s.StoreTimeAt(q, int64(i)) - base; got != ms {
			t.Errorf("message %d was stored at %d, want %d", i, got, ms)
		}
	}
	if s.EarliestTime(q) != base || s.StoreTimeAt(q, 13) != -1 || s.StoreTimeAt(q, -1) != -1 {
		t.Error("times at the ends are wrong")
	}
}

func TestLookup(t *testing.T) {
	s := open(t, Options{Root: "/store", FS: simdisk.New(), IndexEnabled: true, MaxHashSlots: 3, MaxIndexEntries: 50, CommitLogFileSize: 64 << 10})
	defer s.Close()
	var of []int64
	for i := range 100 {
		p := send(t, s, "T", 0, []byte("x"), fmt.Sprintf("UNIQ_KEY\x01u%d\x02KEYS\x01all k%d  \x02", i, i%5))
		of = append(of, p.Offset)
		send(t, s, "Other", 0, []byte("x"), "KEYS\x01all\x02")
	}
	settleIndex(t, s)
	now := time.Now().UnixMilli() + 1000
	if got, _, last, err := s.Lookup([]byte("T"), []byte("all"), 0, now, 1000); err != nil || !slices.Equal(got, of[36:]) || last < of[99] {
		t.Errorf("%v, last %d, %v", got, last, err)
	}
	if got, _, _, err := s.Lookup([]byte("T"), []byte("u17"), 0, now, 1); err != nil || !slices.Equal(got, of[17:18]) {
		t.Errorf("%v, %v", got, err)
	}
	if got, _, _, err := s.Lookup([]byte("T"), []byte("k3"), 0, now, 4); err != nil || !slices.Equal(got, []int64{of[83], of[88], of[93], of[98]}) {
		t.Errorf("%v, %v", got, err)
	}
	for _, key := range []string{"", "nothing", "al", "all "} {
		if got, _, _, err := s.Lookup([]byte("T"), []byte(key), 0, now, 10); err != nil || len(got) != 0 {
			t.Errorf("%q: %v, %v", key, got, err)
		}
	}
	if got, _, _, err := s.Lookup([]byte("T"), []byte("all"), 0, 1, 10); err != nil || len(got) != 0 {
		t.Errorf("before everything: %v, %v", got, err)
	}
}

func settleIndex(t *testing.T, s *Store) {
	t.Helper()
	if err := s.Indexed.Wait(t.Context(), s.Dispatched.Load()); err != nil {
		t.Fatal(err)
	}
}
