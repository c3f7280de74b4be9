package bench

import (
	"context"
	"fmt"
	"runtime"
	"time"

	"gomq/internal/protocol"
)

// Send sends messages and measures the time from a request's write to its
// answer; with a rate, from the moment at which the request was due.
func Send(ctx context.Context, o Options) (Result, error) {
	if err := o.check(); err != nil {
		return Result{}, err
	}
	if err := o.pinned(); err != nil {
		return Result{}, err
	}
	if err := prepare(ctx, &o); err != nil {
		return Result{}, err
	}
	m := &meter{}
	var wires []*wire
	rings := map[*wire]*ring{}
	defer func() {
		for _, w := range wires {
			w.c.Close()
		}
	}()
	for i := range o.Conns {
		w, err := dial(ctx, &o, m)
		if err != nil {
			return Result{}, err
		}
		wires = append(wires, w)
		rings[w] = newRing(&o, i)
	}
	name := fmt.Sprintf("send %d x %d, %d B", o.Conns, o.Depth, o.Size)
	if o.Rate > 0 {
		return paced(ctx, name, &o, m, wires, rings)
	}
	return run(ctx, name, &o, m, wires, func(w *wire) error { return w.sendAll(rings[w]) })
}

// ring is the prebuilt requests of a connection, slot by slot, so that
// neighbouring slots are one piece of memory.
type ring struct {
	b  []byte
	at []int // where slot i begins; one more at the end
}

func newRing(o *Options, conn int) *ring {
	r := &ring{at: []int{0}}
	body := make([]byte, o.Size)
	for i := range body {
		body[i] = byte('a' + (i+conn)%26)
	}
	for slot := range o.Depth {
		r.b = append(r.b, request(o, protocol.SendMessageV2, slot, sendHeader(o, conn%o.Queues, conn, slot), body)...)
		r.at = append(r.at, len(r.b))
	}
	return r
}

func (r *ring) frames(from, to int) []byte { return r.b[r.at[from]:r.at[to]] }

// sendHeader is what a Java client sends for a message with a tag and a key.
func sendHeader(o *Options, queue, conn, slot int) *protocol.SendHeader {
	uniq := fmt.Sprintf("7F000001A1B218B4AAC2%04X%08X", conn, slot)
	props := "KEYS\x01order-" + uniq[20:] + "\x02TAGS\x01TagA\x02UNIQ_KEY\x01" + uniq + "\x02WAIT\x01true\x02"
	return &protocol.SendHeader{V2: true, Group: []byte(o.Group), Topic: []byte(o.Topic), DefaultTopic: []byte("TBW102"), DefaultTopicQueues: int32(o.Queues),
		QueueID: int32(queue), BornTime: time.Now().UnixMilli(), Props: []byte(props), MaxReconsume: 16}
}

// prepare sends one message to each queue, so that the topic exists.
func prepare(ctx context.Context, o *Options) error {
	one := *o
	one.Depth = 1
	m := &meter{}
	w, err := dial(ctx, &one, m)
	if err != nil {
		return err
	}
	defer w.c.Close()
	for q := range o.Queues {
		w.c.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := w.c.Write(request(&one, protocol.SendMessageV2, 0, sendHeader(o, q, 0xffff, q), []byte("prepare"))); err != nil {
			return err
		}
		got := false
		for !got {
			err := w.answers(func(_ int, code int32, header, _ []byte) error {
				got = true
				return success(code, header)
			})
			if err != nil {
				return fmt.Errorf("the first message to queue %d of %s: %w", q, o.Topic, err)
			}
		}
	}
	return nil
}

func success(code int32, header []byte) error {
	if code == protocol.Success {
		return nil
	}
	return fmt.Errorf("the broker answered code %d %s %s", code, protocol.ResponseName(code), remark(header))
}

// took takes one answer of a send.
func (w *wire) took(code int32, header []byte) error {
	if code != protocol.Success {
		if !w.o.Refuse {
			return success(code, header)
		}
		w.m.refused.Add(1)
		return nil
	}
	w.done.Add(1)
	w.bytes.Add(int64(w.o.Size))
	return nil
}

// sendAll keeps Depth requests in flight: a new one for every answer, all that
// are due in as few writes as their slots are runs of neighbours.
func (w *wire) sendAll(r *ring) error {
	free := make([]int, w.o.Depth)
	for i := range free {
		free[i] = i
	}
	for {
		if err := w.write(r, free); err != nil {
			return closedIsFine(w, err)
		}
		free = free[:0]
		// On one processor a connection that never waits would keep the
		// others out for a whole time slice.
		runtime.Gosched()
		err := w.answers(func(slot int, code int32, header, _ []byte) error {
			free = append(free, slot)
			return w.took(code, header)
		})
		if err != nil {
			return closedIsFine(w, err)
		}
	}
}

func (w *wire) write(r *ring, slots []int) error {
	now := time.Now().UnixNano()
	for _, s := range slots {
		w.sentAt[s] = now
	}
	return w.put(r, slots)
}

// put writes the requests of slots, neighbours in one call unless each is to have
// its own.
func (w *wire) put(r *ring, slots []int) error {
	for i := 0; i < len(slots); {
		j := i + 1
		for !w.o.Each && j < len(slots) && slots[j] == slots[j-1]+1 {
			j++
		}
		if _, err := w.c.Write(r.frames(slots[i], slots[j-1]+1)); err != nil {
			return err
		}
		i = j
	}
	return nil
}
