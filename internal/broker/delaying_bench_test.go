package broker

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"gomq/internal/message"
)

// BenchmarkDelayDrain: a backlog of one level, due at once, is delivered. The bar
// is 50,000 messages a second (a million in 20 s):
//
//	go test ./internal/broker -run NONE -bench DelayDrain -benchtime 1000000x
func BenchmarkDelayDrain(b *testing.B) {
	for _, flush := range []FlushType{AsyncFlush, SyncFlush} {
		for _, size := range []int{100, 1024} {
			b.Run(fmt.Sprintf("%s/%dB", flush, size), func(b *testing.B) { drainDelayed(b, flush, size) })
		}
	}
}

func drainDelayed(b *testing.B, flush FlushType, size int) {
	clock := newHandClock()
	o := rigOptions(b.TempDir())
	o.MessageDelayLevel, o.FlushDiskType = "1s 1h", flush
	o.MappedFileSizeCommitLog, o.MappedFileSizeConsumeQueue, o.MaxHashSlotNum, o.MaxIndexNum = 1<<30, 6_000_000, 5_000_000, 20_000_000
	br, _, err := tryStart(b, &o, nil, seams{now: clock.time})
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := br.Stop(b.Context()); err != nil {
			b.Error(err)
		}
	}()
	body := make([]byte, size)
	batch := make([]innerMessage, 1000)
	for done := 0; done < b.N; {
		list := batch[:min(len(batch), b.N-done)]
		for i := range list {
			list[i] = innerMessage{Message: message.Message{Topic: []byte("T"), QueueID: int32(i % 4), Body: body,
				Props: fmt.Appendf(nil, "UNIQ_KEY\x01U%d\x02KEYS\x01k%d\x02TAGS\x01TagA\x02CLUSTER\x01DefaultCluster", done+i, done+i)}, Level: 1}
		}
		if _, err := br.inner.put(b.Context(), list); err == errInnerBusy {
			time.Sleep(10 * time.Millisecond)
			continue
		} else if err != nil {
			b.Fatal(err)
		}
		done += len(list)
	}
	if err := br.store.Durable.Wait(b.Context(), br.store.Appended.Load()); err != nil {
		b.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	b.ResetTimer()
	clock.pass(2 * time.Second)
	for {
		n := int64(0)
		for q := range int32(4) {
			n += br.store.Queue([]byte("T"), q).Max()
		}
		if n == int64(b.N) {
			break
		}
		time.Sleep(time.Millisecond)
	}
	b.StopTimer()
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
	b.ReportMetric(float64(after.Mallocs-before.Mallocs)/float64(b.N), "allocs/message")
}
