package bench

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"runtime"
	"strconv"
	"time"

	"gomq/internal/protocol"
)

// Pull reads a topic's messages again and again, from the first to the last of
// each queue, and measures the time from a pull's write to its answer. MBs
// counts the records as they come.
func Pull(ctx context.Context, o Options) (Result, error) {
	if err := o.check(); err != nil {
		return Result{}, err
	}
	if o.Batch < 1 || o.Batch > 1024 {
		return Result{}, fmt.Errorf("pulls of %d messages: 1 to 1,024 are possible", o.Batch)
	}
	if err := o.pinned(); err != nil {
		return Result{}, err
	}
	ranges, err := queueRanges(ctx, &o)
	if err != nil {
		return Result{}, err
	}
	m := &meter{}
	var wires []*wire
	defer func() {
		for _, w := range wires {
			w.c.Close()
		}
	}()
	for range o.Conns {
		w, err := dial(ctx, &o, m)
		if err != nil {
			return Result{}, err
		}
		wires = append(wires, w)
	}
	name := fmt.Sprintf("pull %d x %d, %d messages", o.Conns, o.Depth, o.Batch)
	if o.SQL != "" {
		return run(ctx, name+", SQL92", &o, m, wires, func(w *wire) error { return w.scanAll(ranges) })
	}
	return run(ctx, name, &o, m, wires, func(w *wire) error { return w.pullAll(ranges) })
}

// span is the messages of one queue: offsets from min up to max.
type span struct {
	queue    int32
	min, max int64
}

// queueRanges asks for the ends of each queue; empty queues are left out.
func queueRanges(ctx context.Context, o *Options) (spans []span, err error) {
	one := *o
	one.Depth = 1
	w, err := dial(ctx, &one, &meter{})
	if err != nil {
		return nil, err
	}
	defer w.c.Close()
	ask := func(code int32, q int) (offset int64, err error) {
		h := &protocol.QueueHeader{Topic: []byte(o.Topic), QueueID: int32(q)}
		body, err := w.call(code, h)
		if err != nil {
			return 0, fmt.Errorf("queue %d of %s: %w", q, o.Topic, err)
		}
		return body, nil
	}
	for q := range o.Queues {
		s := span{queue: int32(q)}
		if s.min, err = ask(protocol.GetMinOffset, q); err != nil {
			return nil, err
		}
		if s.max, err = ask(protocol.GetMaxOffset, q); err != nil {
			return nil, err
		}
		if s.max > s.min {
			spans = append(spans, s)
		}
	}
	if len(spans) == 0 {
		return nil, fmt.Errorf("the first %d queues of %s hold no messages", o.Queues, o.Topic)
	}
	return spans, nil
}

// call sends one request on an idle wire and returns the offset of its answer.
func (w *wire) call(code int32, h protocol.Header) (offset int64, err error) {
	w.c.SetDeadline(time.Now().Add(10 * time.Second))
	defer w.c.SetDeadline(time.Time{})
	if _, err := w.c.Write(request(w.o, code, 0, h, nil)); err != nil {
		return 0, err
	}
	for got := false; !got; {
		err := w.answers(func(_ int, code int32, header, _ []byte) error {
			got = true
			if err := success(code, header); err != nil {
				return err
			}
			offset, err = headerOffset(w.o, header)
			return err
		})
		if err != nil {
			return 0, err
		}
	}
	return offset, nil
}

// headerOffset is the field "offset" of an answer.
func headerOffset(o *Options, header []byte) (int64, error) {
	var c protocol.Command
	frame := binary.BigEndian.AppendUint32(nil, uint32(o.Codec)<<24|uint32(len(header)))
	if err := c.Parse(append(frame, header...)); err != nil {
		return 0, err
	}
	var r protocol.OffsetReply
	err := c.Decode(&r)
	return r.Offset, err
}

// pullAll keeps Depth pulls in flight. Each slot walks through the queues by
// itself, so that a pull's place is known before its answer has come.
func (w *wire) pullAll(spans []span) error {
	type cursor struct {
		span int
		at   int64
	}
	cur := make([]cursor, w.o.Depth)
	step := int64(w.o.Batch)
	for i := range cur {
		c := &cur[i]
		c.span = i % len(spans)
		c.at = spans[c.span].min + int64(i)*step%max(spans[c.span].max-spans[c.span].min, 1)
	}
	place := func(slot int) (queue int32, offset int64) {
		c := &cur[slot]
		s := spans[c.span]
		if c.at >= s.max {
			c.span = (c.span + 1) % len(spans)
			s = spans[c.span]
			c.at = s.min
		}
		at := c.at
		c.at += step * int64(w.o.Depth)
		return s.queue, at
	}
	return w.pulls(place, func(_ int, code int32, header, body []byte) error {
		if code != protocol.Success {
			w.m.refused.Add(1)
			if !w.o.Refuse {
				return success(code, header)
			}
		}
		w.done.Add(countRecords(body))
		w.bytes.Add(int64(len(body)))
		return nil
	})
}

// pulls keeps a pull of each slot in flight: place says of what, took gets the
// answers.
func (w *wire) pulls(place func(slot int) (queue int32, offset int64), took func(slot int, code int32, header, body []byte) error) error {
	frames := make([]pullFrame, w.o.Depth)
	var out []byte
	due := make([]int, w.o.Depth)
	for i := range due {
		due[i] = i
	}
	for {
		now := time.Now().UnixNano()
		out = out[:0]
		for _, slot := range due {
			queue, at := place(slot)
			w.sentAt[slot] = now
			out = append(out, frames[slot].of(w.o, slot, queue, at)...)
		}
		due = due[:0]
		if _, err := w.c.Write(out); err != nil {
			return closedIsFine(w, err)
		}
		runtime.Gosched()
		err := w.answers(func(slot int, code int32, header, body []byte) error {
			due = append(due, slot)
			return took(slot, code, header, body)
		})
		if err != nil {
			return closedIsFine(w, err)
		}
	}
}

// countRecords counts the records of a pull's body by their sizes.
func countRecords(b []byte) (n int64) {
	for len(b) >= 4 {
		size := int(binary.BigEndian.Uint32(b))
		if size <= 0 || size > len(b) {
			return n
		}
		b = b[size:]
		n++
	}
	return n
}

// pullFrame is the pull of one slot. Where only the digits of the offset differ from
// the pull before it, they alone are written.
type pullFrame struct {
	b     []byte
	queue int32
	at    int // where the offset's digits begin ...
	n     int // ... and how many there are; 0 = not known
}

func (f *pullFrame) of(o *Options, slot int, queue int32, offset int64) []byte {
	var text [20]byte
	digits := strconv.AppendInt(text[:0], offset, 10)
	if f.queue == queue && f.n == len(digits) {
		copy(f.b[f.at:], digits)
		return f.b
	}
	h := &protocol.PullHeader{Group: []byte(o.Group), Topic: []byte(o.Topic), QueueID: queue, QueueOffset: offset, MaxMsgNums: int32(o.Batch),
		SysFlag: protocol.PullSubscription, Subscription: []byte("*"), ExpressionType: []byte("TAG")}
	if o.SQL != "" {
		h.Subscription, h.ExpressionType = []byte(o.SQL), []byte("SQL92")
	}
	c := protocol.NewRequest(protocol.PullMessage, h, nil)
	c.Codec = o.Codec
	c.Opaque = firstOpaque + int32(slot)
	f.b, f.queue, f.n = c.AppendTo(f.b[:0]), queue, 0
	// The field's name as no value can have it in it: JSON escapes quotes, and a text
	// of the other encoding has no zero bytes.
	name := []byte(`"queueOffset":"`)
	if o.Codec == protocol.Binary {
		name = append([]byte("queueOffset\x00\x00\x00"), byte(len(digits)))
	}
	if at := bytes.Index(f.b, name); at >= 0 {
		f.at, f.n = at+len(name), len(digits)
	}
	return f.b
}
