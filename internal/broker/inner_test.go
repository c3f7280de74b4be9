package broker

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"gomq/internal/message"
	"gomq/internal/protocol"
	"gomq/internal/store"
)

// What the broker stores itself can be pulled when put returns, in the order
// given, from topics that are there, are made, or are in no table; one message
// that cannot be stored does not hold up the others.
func TestInnerPut(t *testing.T) {
	for _, flush := range []FlushType{AsyncFlush, SyncFlush} {
		t.Run(string(flush), func(t *testing.T) {
			r := run(t, func(o *Options) { o.FlushDiskType = flush; o.MaxMessageSize = 1000 })
			r.create("T", 2)
			r.send("T", 1, "first", "KEYS", "k")
			_, list := r.pull("T", 1, 0, "*")
			copied := again(list[0])
			copied.Topic, copied.QueueID, copied.Reconsume = []byte("%RETRY%G"), 0, 3
			copied.Make = &protocol.TopicConfig{ReadQueueNums: 1, WriteQueueNums: 1, Perm: 6, TopicFilterType: "SINGLE_TAG"}
			own := innerMessage{Message: message.Message{Topic: []byte(message.TopicOpHalf), Body: []byte("7"), Props: []byte("TAGS\x01d")}}
			large := again(list[0])
			large.Body = make([]byte, 1<<20)
			bad := again(list[0])
			bad.Topic = []byte("a/b")
			anyQ := again(list[0])
			anyQ.AnyQueue, anyQ.QueueID = true, -1
			before := r.b.stats.stored.n.Load()
			placed, err := r.b.inner.put(t.Context(), []innerMessage{copied, large, own, bad, anyQ})
			if err != nil {
				t.Fatal(err)
			}
			if !errors.Is(placed[1].Err, store.ErrTooLarge) || placed[3].Err == nil || !strings.Contains(placed[3].Err.Error(), "a/b") {
				t.Errorf("errors %v and %v", placed[1].Err, placed[3].Err)
			}
			if placed[0].Err != nil || placed[2].Err != nil || placed[4].Err != nil || placed[2].Offset <= placed[0].Offset || placed[4].Offset <= placed[2].Offset {
				t.Errorf("placed %+v", placed)
			}
			if n := r.b.stats.stored.n.Load() - before; n != 3 {
				t.Errorf("%d messages are counted", n)
			}
			_, list2 := r.pull("%RETRY%G", 0, 0, "*")
			if len(list2) != 1 {
				t.Fatalf("%d messages in the retry topic", len(list2))
			}
			a, b := list[0], list2[0]
			if b.Reconsume() != 3 || b.Offset() != placed[0].Offset || a.BornTime() != b.BornTime() || a.BornHost() != b.BornHost() || a.StoreHost() != b.StoreHost() ||
				string(a.Body()) != string(b.Body()) || string(a.Props()) != string(b.Props()) {
				t.Errorf("the copy is %q", b)
			}
			if c := r.b.topics.Get([]byte("%RETRY%G")); c == nil || c.Perm != 6 || c.WriteQueueNums != 1 {
				t.Errorf("the topic was made as %+v", c)
			}
			op, err := r.b.store.ReadRecord(placed[2].Offset)
			if err != nil || string(op.Topic()) != message.TopicOpHalf || op.StoreHost() != r.b.send.storeAt || op.BornHost() != r.b.send.storeAt || op.BornTime() == 0 {
				t.Errorf("the broker's own message is %q %v", op, err)
			}
			if r.b.topics.Get([]byte(message.TopicOpHalf)) != nil {
				t.Error("a topic was made that nobody asked for")
			}
		})
	}
}

// A put that cannot wait for the disk says so, and that the messages may be
// there; a closed store stores nothing.
func TestInnerPutErrors(t *testing.T) {
	r := run(t, func(o *Options) { o.FlushDiskType = SyncFlush })
	m := innerMessage{Message: message.Message{Topic: []byte("T"), Body: []byte("x")}}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	cancel()
	placed, err := r.b.inner.put(ctx, []innerMessage{m})
	if err != nil && (!errors.Is(err, context.Canceled) || len(placed) != 1) {
		t.Errorf("%v %v", placed, err)
	}
	if _, err := r.b.inner.put(t.Context(), make([]innerMessage, maxInner+1)); err == nil {
		t.Error("more than a put takes")
	}
	r.stop()
	placed, err = r.b.inner.put(t.Context(), []innerMessage{m})
	var refused *store.RefusedError
	if placed != nil || !errors.As(err, &refused) {
		t.Errorf("on a closed store: %v %v", placed, err)
	}
}

// What goes together is stored as a whole or not at all.
func TestInnerPutTogether(t *testing.T) {
	for _, flush := range []FlushType{AsyncFlush, SyncFlush} {
		r := run(t, func(o *Options) {
			o.FlushDiskType, o.MaxMessageSize = flush, 1<<20
			o.MappedFileSizeCommitLog = 1 << 20
		})
		r.create("T", 2)
		m := func(topic string, queue int32, size int) innerMessage {
			return innerMessage{Message: message.Message{Topic: []byte(topic), QueueID: queue, Body: make([]byte, size)}}
		}
		for _, c := range []struct {
			what string
			list []innerMessage
			bad  int // which of them has an error, -1 = none
			err  error
		}{
			{"fit", []innerMessage{m("T", 0, 100), m("T", 1, 10)}, -1, nil},
			{"the second is none", []innerMessage{m("T", 0, 100), m("a/b", 1, 10)}, 1, nil},
			{"the first is too large", []innerMessage{m("T", 0, 1<<20), m("T", 1, 10)}, 0, store.ErrTooLarge},
			{"too large together", []innerMessage{m("T", 0, 600_000), m("T", 1, 600_000)}, 0, store.ErrTooLarge},
		} {
			before := r.b.store.MaxOffset()
			placed, err := r.b.inner.putTogether(t.Context(), c.list)
			if err != nil {
				t.Fatal(c.what, err)
			}
			if c.bad < 0 {
				if placed[0].Err != nil || placed[1].Err != nil || placed[1].Offset != placed[0].Offset+int64(placed[0].Size) {
					t.Errorf("%s: %+v", c.what, placed)
				}
				continue
			}
			if err := placed[c.bad].Err; err == nil || c.err != nil && !errors.Is(err, c.err) || r.b.store.MaxOffset() != before {
				t.Errorf("%s: %+v, %d bytes stored", c.what, placed, r.b.store.MaxOffset()-before)
			}
		}
		for q, want := range []int64{1, 1} {
			if n := r.b.store.Queue([]byte("T"), int32(q)).Max(); n != want {
				t.Errorf("queue %d has %d messages", q, n)
			}
		}
	}
}
