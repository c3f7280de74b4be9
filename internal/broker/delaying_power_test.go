package broker

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"gomq/internal/chance"
	"gomq/internal/message"
	"gomq/internal/store/simdisk"
)

// Power cuts while delayed messages come and go. Whatever waits in the log after a
// cut comes to its topic, because the progress on the disk never runs ahead of the
// copies on the disk; under SYNC_FLUSH that is everything that was acknowledged.
func TestDelayedOverPowerCuts(t *testing.T) {
	for _, flush := range []FlushType{AsyncFlush, SyncFlush} {
		t.Run(string(flush), func(t *testing.T) {
			t.Parallel()
			cutDelayed(t, flush, rand.New(rand.NewPCG(chance.Seed(t), 1)))
		})
	}
}

// doomed starts a broker whose stop is not looked at.
func doomed(t *testing.T, o *Options, with seams) *rig {
	t.Helper()
	r := &rig{T: t, told: newListener()}
	var err error
	if r.b, r.live, err = tryStart(t, o, nil, with); err != nil {
		t.Fatal(err)
	}
	r.addr, r.c = r.b.Addr(), r.client()
	return r
}

func cutDelayed(t *testing.T, flush FlushType, rng *rand.Rand) {
	clock := newHandClock()
	disk := simdisk.New()
	o := rigOptions(t.TempDir())
	o.MessageDelayLevel, o.FlushDiskType = "1s 2s 5s", flush
	// The progress is saved when the test says, mostly before what it stands on is
	// flushed.
	o.FlushIntervalCommitLog, o.FlushDelayOffsetInterval = 100*time.Millisecond, time.Hour
	o.OSPageCacheBusyTimeOutMills = time.Hour // the clock may be moved while something is being appended
	acked := map[string]bool{}
	for round := range 5 {
		r := doomed(t, &o, seams{now: clock.time, fs: disk})
		if round == 0 {
			r.create("T", 1)
		}
		for i := range 60 {
			key := fmt.Sprint(round, "-", i)
			r.send("T", 0, key, "UNIQ_KEY", key, "DELAY", fmt.Sprint(1+rng.IntN(3)))
			acked[key] = true
			switch rng.IntN(12) {
			case 0:
				clock.pass(time.Duration(rng.IntN(3000)) * time.Millisecond)
			case 1:
				at := r.b.delays.lines[0].line.Next()
				clock.pass(1100 * time.Millisecond)
				r.eventually("nothing is delivered", func() bool {
					return r.b.delays.lines[0].line.Next() > at || r.max(message.TopicSchedule, 0) == at
				})
			case 2:
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rng.IntN(150))*time.Millisecond)
				_ = r.b.delays.save(ctx)
				cancel()
			}
		}
		disk.PowerOff()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		_ = r.b.Stop(ctx) // it has no disk any more
		cancel()
		disk = disk.Crash(rng.Uint64(), rng.Float64())
		if rng.IntN(2) == 0 {
			clock.pass(time.Minute)
		}
	}
	r := runOn(t, o, seams{now: clock.time, fs: disk})
	clock.pass(time.Minute)
	r.eventually("the levels do not come to their ends", func() bool {
		done := true
		r.b.delays.progress(func(_ int, next, max int64) { done = done && next == max })
		return done
	})
	all := func(topic string, queue int32) (keys []string) {
		for at := r.b.store.Queue([]byte(topic), queue).Min(); at < r.max(topic, queue); {
			p, list := r.pull(topic, queue, at, "*")
			for _, m := range list {
				keys = append(keys, uniq(m))
			}
			at = p.NextBeginOffset
		}
		return keys
	}
	delivered := map[string]int{}
	for _, key := range all("T", 0) {
		delivered[key]++
	}
	waited := 0
	for level := range int32(3) {
		for _, key := range all(message.TopicSchedule, level) {
			waited++
			if delivered[key] == 0 {
				t.Errorf("%s is in the log and was never delivered", key)
			}
		}
	}
	if flush == SyncFlush {
		for key := range acked {
			if delivered[key] == 0 {
				t.Errorf("%s was acknowledged and never delivered", key)
			}
		}
	}
	t.Logf("%d acknowledged, %d of them in the log, %d delivered", len(acked), waited, len(delivered))
}
