package store

import (
	"fmt"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gomq/internal/message"
	"gomq/internal/store/segment"
)

// benchOptions put the store where BENCH_STORE_DIR says, or into the temporary
// directory.
func benchOptions(b *testing.B) Options {
	dir := os.Getenv("BENCH_STORE_DIR")
	if dir == "" {
		dir = b.TempDir()
	} else {
		var err error
		if dir, err = os.MkdirTemp(dir, "store"); err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { os.RemoveAll(dir) })
	}
	return Options{Root: dir, CommitLogFileSize: 64 << 20, IndexEnabled: true, MaxHashSlots: 500_000, MaxIndexEntries: 2_000_000}
}

func stage(b *testing.B, s *Store, batch *Batch, n int, body []byte) {
	batch.Reset()
	for i := range n {
		m := &message.Message{Topic: topicB, QueueID: int32(i % 4), Body: body, Props: propsB, BornHost: home, StoreHost: home}
		if _, err := batch.Add(s.Queue(topicB, int32(i%4)), m); err != nil {
			b.Fatal(err)
		}
	}
}

var (
	topicB = []byte("BenchTopic")
	propsB = []byte("UNIQ_KEY\x01C0A80001000018B4AAC2130C2B3A0000\x02KEYS\x01order-12345678\x02TAGS\x01TagA\x02")
)

// BenchmarkAppend32 appends Turns of 32 messages of 1 KiB; an op is a message.
// "stage" is the encoding outside of the put lock, "append" what happens under
// it; "touched" appends to one file again and again, whose memory is there.
func BenchmarkAppend32(b *testing.B) {
	body := make([]byte, 1024)
	b.Run("stage", func(b *testing.B) {
		s := open(b, benchOptions(b))
		defer s.Close()
		batch := NewBatch()
		b.ReportAllocs()
		stop := threadTime()
		for range b.N/32 + 1 {
			stage(b, s, batch, 32, body)
		}
		b.ReportMetric(float64(stop())/float64(b.N), "cpu-ns/op")
	})
	b.Run("memcpy", func(b *testing.B) {
		// What the append of a Turn cannot be cheaper than.
		s := open(b, benchOptions(b))
		defer s.Close()
		touch(s)
		batch := NewBatch()
		stage(b, s, batch, 32, body)
		to := s.tail.f.Bytes()
		b.ResetTimer()
		stop := threadTime()
		for at, n := 0, 0; n < b.N; n += 32 {
			if at+batch.Bytes() > len(to) {
				at = 0
			}
			at += copy(to[at:], batch.buf)
		}
		b.ReportMetric(float64(stop())/float64(b.N), "cpu-ns/op")
	})
	for _, sync := range []bool{false, true} {
		for _, mmap := range []bool{true, false} {
			for _, touched := range []bool{true, false} {
				if sync && !touched {
					continue
				}
				b.Run(fmt.Sprintf("append/sync=%v/mmap=%v/touched=%v", sync, mmap, touched), func(b *testing.B) {
					o := benchOptions(b)
					without := !mmap
					o.SyncFlush, o.WriteWithoutMmap = sync, &without
					benchAppend(b, o, body, touched)
				})
			}
		}
	}
}

func benchAppend(b *testing.B, o Options, body []byte, touched bool) {
	s := open(b, o)
	batch := NewBatch()
	stage(b, s, batch, 32, body)
	per := 1 << 30
	if touched {
		touch(s)
		per = int(o.CommitLogFileSize/int64(batch.Bytes())) - 1
	}
	b.ReportAllocs()
	b.ResetTimer()
	var used time.Duration
	turns := b.N/32 + 1
	for done := 0; done < turns; {
		stop := threadTime()
		for n := min(per, turns-done, 1024); n > 0; n-- {
			if err := s.Append(batch, time.Time{}, nil); err != nil {
				b.Fatal(err)
			}
			done++
		}
		used += stop()
		b.StopTimer()
		if err := s.Dispatched.Wait(b.Context(), s.Appended.Load()); err != nil {
			b.Fatal(err)
		}
		if touched && s.tail.end-s.tail.off < o.CommitLogFileSize/2 {
			s.Close()
			s = open(b, fresh(b, o))
			touch(s)
			stage(b, s, batch, 32, body)
		}
		b.StartTimer()
	}
	b.StopTimer()
	b.ReportMetric(float64(used)/float64(turns*32), "cpu-ns/op")
	s.Close()
}

// touch writes the whole of the file that is appended to.
func touch(s *Store) {
	segment.Guard(func() error {
		clear(s.tail.f.Bytes()[s.tail.off:])
		return nil
	})
}

// threadTime starts to count the CPU time of this thread, which unlike the time of
// day is the same on a busy machine; stop says how much it was.
func threadTime() (stop func() time.Duration) {
	runtime.LockOSThread()
	used := func() time.Duration {
		var u unix.Rusage
		if err := unix.Getrusage(unix.RUSAGE_THREAD, &u); err != nil {
			panic(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	start := used()
	return func() time.Duration {
		defer runtime.UnlockOSThread()
		return used() - start
	}
}

// fresh is o with an empty root.
func fresh(b *testing.B, o Options) Options {
	root, err := os.MkdirTemp(o.Root, "again")
	if err != nil {
		b.Fatal(err)
	}
	o.Root = root
	return o
}

// BenchmarkGet32 gets 32 messages of 1 KiB and copies them out; an op is a
// message.
func BenchmarkGet32(b *testing.B) {
	s := open(b, benchOptions(b))
	defer s.Close()
	batch := NewBatch()
	stage(b, s, batch, 32, make([]byte, 1024))
	for range 256 {
		if err := s.Append(batch, time.Time{}, nil); err != nil {
			b.Fatal(err)
		}
	}
	q := s.Queue(topicB, 0)
	var res GetResult
	var buf []byte
	var off int64
	b.ReportAllocs()
	b.ResetTimer()
	stop := threadTime()
	for range b.N/32 + 1 {
		if off+32 > q.Max() {
			off = 0
		}
		s.Get(GetRequest{Queue: q, Offset: off, MaxCount: 32, MaxBytes: 256 << 10, NearBytes: 1 << 30, MaxCountFar: 8, MaxBytesFar: 64 << 10}, &res)
		var err error
		if buf, err = res.View.AppendTo(buf[:0]); err != nil || res.Count != 32 {
			b.Fatal(err, res.Count, res.Status)
		}
		res.View.Release()
		off = res.Next
	}
	b.ReportMetric(float64(stop())/float64(b.N), "cpu-ns/op")
	b.SetBytes(int64(len(buf) / 32))
}

// BenchmarkOpen opens a store with 1,000 log files of 1 MiB and 10,000 queues that
// was closed; an op is one opening and closing.
func BenchmarkOpen(b *testing.B) {
	o := benchOptions(b)
	o.CommitLogFileSize = 1 << 20
	s := open(b, o)
	batch := NewBatch()
	fill := func(topic string, id int32, size int) {
		batch.Reset()
		if _, err := batch.Add(s.Queue([]byte(topic), id), msg(topic, id, make([]byte, size), "")); err != nil {
			b.Fatal(err)
		}
		if err := s.Append(batch, time.Time{}, nil); err != nil {
			b.Fatal(err)
		}
	}
	for i := range 10_000 {
		fill(fmt.Sprint("Topic", i/8), int32(i%8), 10)
	}
	for range 1000 {
		fill("Large", 0, 1<<20-200)
	}
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	b.ResetTimer()
	for range b.N {
		stop := threadTime()
		start := time.Now()
		s = open(b, o)
		b.ReportMetric(time.Since(start).Seconds(), "s/open")
		b.ReportMetric(stop().Seconds(), "cpu-s/open")
		if n := len(s.Queues()); n != 10_001 {
			b.Fatal(n)
		}
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
