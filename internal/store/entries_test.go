package store

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"gomq/internal/message"
)

// Entries and their records come back as Get gives them, across files of both
// kinds, whatever lies between them.
func TestEntriesAndRecords(t *testing.T) {
	s := open(t, small(t))
	defer s.Close()
	q := s.Queue([]byte("T"), 0)
	for i := range 300 {
		send(t, s, "T", 0, fmt.Appendf(nil, "%d:%s", i, make([]byte, i*7%900)), "")
		for range i % 4 {
			send(t, s, "Other", 0, make([]byte, i*37%3000), "")
		}
	}
	want := pull(t, s, q, 0)
	other := pull(t, s, s.Queue([]byte("Other"), 0), 0)
	for _, i := range []int{0, 1, 150, 298, 299} {
		off := want[i].Offset()
		left := int64(300 - i)
		for _, r := range other {
			if r.Offset() >= off {
				left++
			}
		}
		if n, err := s.MessagesFrom(off); n != left || err != nil {
			t.Errorf("%d messages from message %d on, %v; there are %d", n, i, err, left)
		}
		// A copy that ends within a record lacks it.
		if n, err := s.MessagesFrom(off - 1); n != left || err != nil {
			t.Errorf("%d messages from within the one before %d on, %v; there are %d", n, i, err, left)
		}
	}
	if n, err := s.MessagesFrom(s.MaxOffset()); n != 0 || err != nil {
		t.Errorf("%d messages behind the end, %v", n, err)
	}
	list := make([]Entry, 400)
	n, err := s.Entries(q, 10, list)
	if err != nil || n != 290 {
		t.Fatalf("%d entries, %v", n, err)
	}
	list = list[:n]
	seen := 0
	s.ReadEntries([]byte("before"), list, func(i int, r message.Record, err error) bool {
		if err != nil || i != seen || string(r) != string(want[10+i]) {
			t.Fatalf("record %d: %v", i, err)
		}
		seen++
		return seen < 250
	})
	if seen != 250 {
		t.Errorf("%d records", seen)
	}
	for _, from := range []int64{-1, 300, math.MaxInt64} {
		if n, err := s.Entries(q, from, list); n != 0 || err == nil {
			t.Errorf("from %d: %d, %v", from, n, err)
		}
	}
	if n, err := s.Entries(q, 49, list[:2]); n != 2 || err != nil || list[0].Offset != want[49].Offset() || list[1].Size != want[50].Size() {
		t.Errorf("across two files: %d %v", n, err)
	}
}

// What an entry does not point to rightly is an error of its own; the others are
// read.
func TestReadEntriesErrors(t *testing.T) {
	o := small(t)
	s := open(t, o)
	defer s.Close()
	var list []Entry
	for i := range 6 {
		p := send(t, s, "T", 0, fmt.Append(nil, "body ", i), "")
		list = append(list, Entry{Offset: p.Offset, Size: p.Size})
	}
	list[1].Size--
	list[2].Offset = 1 << 40
	list[4] = Entry{Offset: 0, Size: math.MaxInt32}
	f, err := os.OpenFile(filepath.Join(o.Root, "commitlog", fmt.Sprintf("%020d", 0)), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("B"), list[3].Offset+88); err != nil {
		t.Fatal(err)
	}
	var got []error
	s.ReadEntries(nil, list, func(i int, r message.Record, err error) bool {
		if (err == nil) != (r != nil) {
			t.Errorf("%d: %v %v", i, r, err)
		}
		got = append(got, err)
		return true
	})
	for i, want := range []error{nil, ErrNoRecord, ErrNoRecord, message.ErrCRC, ErrNoRecord, nil} {
		if !errors.Is(got[i], want) {
			t.Errorf("entry %d: %v, want %v", i, got[i], want)
		}
	}
}

// The stamp is what the next record gets, also when the clock has gone back.
func TestStamp(t *testing.T) {
	now := time.UnixMilli(5_000_000)
	o := small(t)
	o.Now = func() time.Time { return now }
	s := open(t, o)
	defer s.Close()
	for _, ms := range []int64{5_000_000, 6_000_000, 1_000_000} {
		now = time.UnixMilli(ms)
		want := s.Stamp()
		if p := send(t, s, "T", 0, []byte("x"), ""); p.StoreTime != want {
			t.Errorf("at %d: stored at %d, the stamp was %d", ms, p.StoreTime, want)
		}
	}
	if s.Stamp() != 6_000_000 {
		t.Errorf("behind a clock that went back the stamp is %d", s.Stamp())
	}
}
