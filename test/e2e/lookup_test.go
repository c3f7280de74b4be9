package e2e

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"gomq/test/checker"
	"gomq/test/goclient"
	"gomq/test/harness"
	"gomq/test/raw"
)

// waitIndex waits until the index, which is written behind the answers, holds
// what was acknowledged last.
func waitIndex(t testing.TB, c *raw.Conn, run *checker.Run) {
	t.Helper()
	acks := run.Acks()
	last := acks[0]
	for _, a := range acks {
		if a.MsgID > last.MsgID {
			last = a
		}
	}
	harness.Eventually(t, 20*time.Second, "the index to hold the last key", func() bool {
		recs, err := c.ByKey(last.Topic, run.Key(last.ID))
		return err == nil && len(recs) > 0
	})
}

func lookup(t *testing.T, w *world) {
	topic := w.topic(t, "Lookup")
	run := fill(t, w, topic, 30)
	c := w.dial(t)
	settled(t, c, topic, 4, 30)
	goclient.Sweep(t, run, "end", c, topic, 4)
	waitIndex(t, c, run)
	last := run.Acks()[29]
	goclient.LookUp(t, run, c)
	if v := run.Check(checker.Rules{NoFaults: true, Lookups: true, PlannedSends: 30}); !v.Valid() {
		t.Fatal(v)
	}
	// By the client's own id, which is the unique key.
	recs, err := c.Sweep(topic, last.Queue)
	if err != nil {
		t.Fatal(err)
	}
	cmd, err := c.Do(raw.QueryMessage, map[string]string{"topic": topic, "key": recs[0].Props["UNIQ_KEY"], "maxNum": "32",
		"beginTimestamp": "0", "endTimestamp": fmt.Sprint(time.Now().Add(time.Hour).UnixMilli()), "_UNIQUE_KEY_QUERY": "true"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if found, err := raw.ParseRecords(cmd.Body); err != nil || len(found) != 1 || found[0].ID != recs[0].ID {
		t.Fatalf("by unique key: %d records, %v", len(found), err)
	}
	// What is not there.
	if recs, err := c.ByKey(topic, "no-such-key"); err != nil || recs != nil {
		t.Fatalf("a key that nobody sent: %d records, %v", len(recs), err)
	}
	var code *raw.CodeError
	if _, err := c.Do(raw.ViewMessage, map[string]string{"offset": "999999999999"}, nil); !errors.As(err, &code) || code.Code != raw.SystemError {
		t.Fatalf("view beyond the log: %v", err)
	}
}

func longPoll(t *testing.T, w *world) {
	topic := w.topic(t, "LongPoll")
	c, sender := w.dial(t), w.dial(t)
	c.Limit = 30 * time.Second
	// An arrival wakes the pull long before its deadline.
	type answer struct {
		p   *raw.Pulled
		err error
		at  time.Time
	}
	answers := make(chan answer, 1)
	go func() {
		p, err := c.Pull("g-long", topic, 1, 0, 32, 20*time.Second)
		answers <- answer{p, err, time.Now()}
	}()
	select {
	case a := <-answers:
		t.Fatalf("answered at once: %+v, %v", a.p, a.err)
	case <-time.After(300 * time.Millisecond):
	}
	sent := time.Now()
	if _, err := sender.Send("pg-long", topic, 1, "", []byte("wake up")); err != nil {
		t.Fatal(err)
	}
	a := <-answers
	if a.err != nil || a.p.Code != raw.Success || len(a.p.Records) != 1 || string(a.p.Records[0].Body) != "wake up" {
		t.Fatalf("%+v, %v", a.p, a.err)
	}
	if d := a.at.Sub(sent); d > 5*time.Second {
		t.Fatalf("the waiting pull was answered %v after the message was sent", d)
	}
	// Nothing arrives: the answer says so when the deadline has come.
	start := time.Now()
	p, err := c.Pull("g-long", topic, 1, 1, 32, time.Second)
	if err != nil || p.Code != raw.PullNotFound {
		t.Fatalf("%+v, %v", p, err)
	}
	if d := time.Since(start); d < 900*time.Millisecond {
		t.Fatalf("an empty pull was answered after %v instead of a second", d)
	}
}

func offsetsByTime(t *testing.T, w *world) {
	topic := w.topic(t, "ByTime")
	c := w.dial(t)
	var stored []int64
	for i := range 10 {
		if _, err := c.Send("pg-time", topic, 0, "", content(i, 10)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Millisecond) // so that store times differ; nothing waits for it
	}
	settled(t, c, topic, 4, 10)
	recs, err := c.Sweep(topic, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range recs {
		stored = append(stored, r.StoreTime)
	}
	search := func(ts int64) string {
		t.Helper()
		cmd, err := c.Do(raw.SearchOffset, map[string]string{"topic": topic, "queueId": "0", "timestamp": fmt.Sprint(ts)}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return cmd.Ext["offset"]
	}
	if got := search(0); got != "0" {
		t.Fatalf("offset at the epoch: %s", got)
	}
	if got := search(stored[5]); got != "5" {
		t.Fatalf("offset at the time of 5: %s (times %v)", got, stored)
	}
	cmd, err := c.Do(raw.EarliestStoreTime, map[string]string{"topic": topic, "queueId": "0"}, nil)
	if err != nil || cmd.Ext["timestamp"] != fmt.Sprint(stored[0]) {
		t.Fatalf("earliest store time %v, %v, should be %d", cmd, err, stored[0])
	}
}
