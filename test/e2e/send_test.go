package e2e

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/apache/rocketmq-client-go/v2/primitive"

	"gomq/test/checker"
	"gomq/test/goclient"
	"gomq/test/harness"
	"gomq/test/raw"
)

func syncSend(t *testing.T, w *world) {
	topic := w.topic(t, "SyncSend")
	p := goclient.Producer(t, w.ns.Addr(), "pg-sync")
	c := w.dial(t)
	perQueue := map[int]int64{}
	// Above 4 KiB the client compresses; the last one is near the limit.
	for i, size := range []int{1, 2, 100, 1024, 4095, 4096, 5000, 70000, 1 << 20, 3 << 20} {
		msg := primitive.NewMessage(topic, content(i, size))
		msg.WithKeys([]string{fmt.Sprintf("sync-%d", i), "common"}).WithTag("TagA").WithProperty("user", "värde 值")
		res, err := p.SendSync(background(t), msg)
		if err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
		q := res.MessageQueue.QueueId
		if res.Status != primitive.SendOK || res.QueueOffset != perQueue[q] || len(res.OffsetMsgID) != 32 || len(res.MsgID) != 32 {
			t.Fatalf("%d bytes: %v, expected offset %d", size, res, perQueue[q])
		}
		perQueue[q]++
		// SEND_OK means that it can be pulled, at once. The originals answer
		// first and may let a reader miss it for a moment.
		pulled, err := c.Pull("g-sync", topic, q, res.QueueOffset, 1, 0)
		if harness.Kind() == "java" {
			settled(t, c, topic, 4, int64(i+1))
			pulled, err = c.Pull("g-sync", topic, q, res.QueueOffset, 1, 0)
		}
		if err != nil || pulled.Code != raw.Success || len(pulled.Records) != 1 {
			t.Fatalf("%d bytes: pull right after SEND_OK: %+v, %v", size, pulled, err)
		}
		rec := pulled.Records[0]
		if rec.ID != res.OffsetMsgID || rec.Props["UNIQ_KEY"] != res.MsgID || rec.Props["user"] != "värde 值" || rec.Props["TAGS"] != "TagA" || rec.Keys() != fmt.Sprintf("sync-%d common", i) {
			t.Fatalf("%d bytes: stored %+v, sent as %v", size, rec, res)
		}
		if compressed := rec.SysFlag&1 != 0; compressed != (size >= 4096) {
			t.Fatalf("%d bytes: system flag %d", size, rec.SysFlag)
		} else if !compressed && !bytes.Equal(rec.Body, content(i, size)) {
			t.Fatalf("%d bytes: other bytes came back", size)
		}
	}
}

func asyncSend(t *testing.T, w *world) {
	topic := w.topic(t, "AsyncSend")
	p := goclient.Producer(t, w.ns.Addr(), "pg-async")
	run := checker.NewRun(harness.Rand(t))
	const n = 500
	var wg sync.WaitGroup
	for i := range n {
		m := run.Begin(checker.Attempt{ID: checker.ID{Seq: int64(i)}, N: 1}, topic, -1, 200)
		wg.Add(1)
		err := p.SendAsync(background(t), func(_ context.Context, res *primitive.SendResult, err error) {
			defer wg.Done()
			if err != nil || res.Status != primitive.SendOK {
				t.Errorf("message %d: %v, %v", i, res, err)
				return
			}
			run.Acked(m, res.MessageQueue.QueueId, res.QueueOffset, res.OffsetMsgID)
		}, goclient.Message(m, ""))
		if err != nil {
			t.Fatal(err)
		}
	}
	wg.Wait()
	settled(t, w.dial(t), topic, 4, n)
	waitIndex(t, w.dial(t), run)
	goclient.Sweep(t, run, "end", w.dial(t), topic, 4)
	goclient.LookUp(t, run, w.dial(t))
	if v := run.Check(checker.Rules{NoFaults: true, Lookups: true, PlannedSends: n}); !v.Valid() {
		t.Fatal(v)
	}
}

func oneWaySend(t *testing.T, w *world) {
	topic := w.topic(t, "OneWay")
	p := goclient.Producer(t, w.ns.Addr(), "pg-oneway")
	for i := range 50 {
		if err := p.SendOneWay(background(t), primitive.NewMessage(topic, content(i, 100))); err != nil {
			t.Fatal(err)
		}
	}
	c := w.dial(t)
	harness.Eventually(t, 20*time.Second, "50 one-way messages stored", func() bool { return end(t, c, topic, 4) == 50 })

	// The Go client does not set the one-way bit; a Java client does, and then
	// nothing is answered.
	for i := range 50 {
		if err := c.OneWay(raw.SendMessage, raw.SendExt("pg-oneway", topic, i%4, ""), content(i, 100)); err != nil {
			t.Fatal(err)
		}
	}
	harness.Eventually(t, 20*time.Second, "100 one-way messages stored", func() bool { return end(t, c, topic, 4) == 100 })
}

func batchSend(t *testing.T, w *world) {
	topic := w.topic(t, "Batch")
	p := goclient.Producer(t, w.ns.Addr(), "pg-batch")
	var msgs []*primitive.Message
	for i := range 20 {
		msg := primitive.NewMessage(topic, content(i, 50+i))
		msgs = append(msgs, msg.WithKeys([]string{fmt.Sprintf("batch-%d", i)}).WithTag("B"))
	}
	res, err := p.SendSync(background(t), msgs...)
	if err != nil || res.Status != primitive.SendOK {
		t.Fatalf("%v, %v", res, err)
	}
	ids := strings.Split(res.OffsetMsgID, ",")
	if len(ids) != len(msgs) || res.QueueOffset != 0 {
		t.Fatalf("%d ids, first offset %d", len(ids), res.QueueOffset)
	}
	settled(t, w.dial(t), topic, 4, 20)
	recs, err := w.dial(t).Sweep(topic, res.MessageQueue.QueueId)
	if err != nil || len(recs) != len(msgs) {
		t.Fatalf("%d records, %v", len(recs), err)
	}
	for i, rec := range recs {
		if rec.Offset != int64(i) || rec.ID != ids[i] || rec.Keys() != fmt.Sprintf("batch-%d", i) || !bytes.Equal(rec.Body, content(i, 50+i)) {
			t.Fatalf("record %d: %+v, id %s", i, rec, ids[i])
		}
	}
	var byKey []*raw.Record
	harness.Eventually(t, 20*time.Second, "the index to hold the last key", func() bool {
		last, err := w.dial(t).ByKey(topic, "batch-19")
		return err == nil && len(last) == 1
	})
	byKey, err = w.dial(t).ByKey(topic, "batch-7")
	if err != nil || len(byKey) != 1 || byKey[0].ID != ids[7] {
		t.Fatalf("by key: %d records, %v", len(byKey), err)
	}
}
