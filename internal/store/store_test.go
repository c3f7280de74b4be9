package store

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"gomq/internal/message"
	"gomq/internal/watermark"
)

// small are options that make everything roll often.
func small(t testing.TB) Options {
	return Options{Root: t.TempDir(), CommitLogFileSize: 64 << 10, ConsumeQueueFileSize: 1000, IndexEnabled: true, MaxHashSlots: 100, MaxIndexEntries: 400,
		FlushInterval: 20 * time.Millisecond, FlushQueueInterval: 20 * time.Millisecond}
}

func open(t testing.TB, o Options) *Store {
	t.Helper()
	s, err := Open(context.Background(), o, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

var home = netip.MustParseAddrPort("127.0.0.1:10911")

func msg(topic string, queue int32, body []byte, props string) *message.Message {
	return &message.Message{Topic: []byte(topic), QueueID: queue, Body: body, Props: []byte(props), BornHost: home, StoreHost: home, BornTime: 1}
}

func send(t testing.TB, s *Store, topic string, queue int32, body []byte, props string) Placed {
	t.Helper()
	b := NewBatch()
	if _, err := b.Add(s.Queue([]byte(topic), queue), msg(topic, queue, body, props)); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	if err := s.Append(b, time.Time{}, watermark.Func(func(err error) { done <- err })); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	p := b.Placed(0)
	if p.Err != nil {
		t.Fatal(p.Err)
	}
	return p
}

// pull reads everything from off on.
func pull(t testing.TB, s *Store, q *Queue, off int64) []message.Record {
	t.Helper()
	var out []message.Record
	var res GetResult
	for off < q.Max() {
		s.Get(GetRequest{Queue: q, Offset: off, MaxCount: 32, MaxBytes: 256 << 10, ReadDisk: true}, &res)
		if res.Status != Found || res.Next <= off {
			t.Fatalf("%s at %d: %v, next %d, max %d", q, off, res.Status, res.Next, q.Max())
		}
		b, err := res.View.AppendTo(nil)
		if err != nil {
			t.Fatal(err)
		}
		res.View.Release()
		if len(b) != res.Bytes {
			t.Fatalf("%d bytes, said %d", len(b), res.Bytes)
		}
		for len(b) > 0 {
			r, err := message.ParseRecord(b, true)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, r)
			b = b[r.Size():]
		}
		off = res.Next
	}
	return out
}

func TestFirstSendAndReceive(t *testing.T) {
	for _, sync := range []bool{false, true} {
		t.Run(fmt.Sprint("sync=", sync), func(t *testing.T) {
			o := small(t)
			o.SyncFlush = sync
			s := open(t, o)
			for i := range 300 {
				p := send(t, s, "T", int32(i%2), fmt.Appendf(nil, "body %d", i), "KEYS\x01k\x02")
				if p.QueueOffset != int64(i/2) {
					t.Fatalf("message %d has offset %d", i, p.QueueOffset)
				}
			}
			check := func() {
				t.Helper()
				for id := range int32(2) {
					got := pull(t, s, s.Queue([]byte("T"), id), 0)
					if len(got) != 150 {
						t.Fatalf("queue %d has %d messages", id, len(got))
					}
					for i, r := range got {
						if want := fmt.Sprintf("body %d", 2*i+int(id)); string(r.Body()) != want || r.QueueOffset() != int64(i) {
							t.Fatalf("message %d is %q at %d", i, r.Body(), r.QueueOffset())
						}
					}
				}
			}
			check()
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = open(t, o)
			check()
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}
