package bench

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"gomq/internal/message"
	"gomq/internal/protocol"
)

// EndToEnd sends at o.Rate (1,000 a second when 0) over o.Conns connections and
// waits with one long poll a queue; it measures the time from the moment at
// which a message was due to be sent to its arrival in the answer of a pull.
// Body: send time (ns, i64), then filling.
func EndToEnd(ctx context.Context, o Options) (Result, error) {
	if err := o.check(); err != nil {
		return Result{}, err
	}
	if o.Rate <= 0 {
		o.Rate = 1000
	}
	o.Size = max(o.Size, 8)
	if err := o.pinned(); err != nil {
		return Result{}, err
	}
	if err := prepare(ctx, &o); err != nil {
		return Result{}, err
	}
	spans, err := queueRanges(ctx, &o)
	if err != nil {
		return Result{}, err
	}
	m := &meter{}
	one := o
	one.Depth = 1
	var readers []*wire
	group := groupOf()
	defer group.Stop()
	senders := []*wire{}
	defer func() {
		for _, w := range append(senders, readers...) {
			w.c.Close()
		}
	}()
	at := map[*wire]span{}
	for _, s := range spans {
		w, err := dial(ctx, &one, m)
		if err != nil {
			return Result{}, err
		}
		readers = append(readers, w)
		at[w] = s
	}
	failed := make(chan error, o.Conns)
	for i := range o.Conns {
		w, err := dial(ctx, &o, m)
		if err != nil {
			return Result{}, err
		}
		senders = append(senders, w)
		group.Go("bench sender", func(ctx context.Context) error {
			if err := w.sendStamped(ctx, i); err != nil {
				failed <- err
			}
			return nil
		})
	}
	name := fmt.Sprintf("end to end, %d B at %.0f a second", o.Size, o.Rate)
	r, err := run(ctx, name, &one, m, readers, func(w *wire) error { return w.follow(at[w]) })
	if err == nil && len(failed) > 0 {
		err = <-failed
	}
	return r, err
}

// sendStamped sends one message after the other at this connection's share of
// the rate, each with the time at which it was due.
func (w *wire) sendStamped(ctx context.Context, conn int) error {
	body := make([]byte, w.o.Size)
	gap := float64(time.Second) * float64(w.o.Conns) / w.o.Rate
	start := time.Now().Add(time.Duration(gap * float64(conn) / float64(w.o.Conns)))
	for k := 0; ctx.Err() == nil; k++ {
		due := start.Add(time.Duration(float64(k) * gap))
		if gap < float64(time.Millisecond) {
			time.Sleep(time.Until(due)) // several who sleep in the kernel so often wait for each other
		} else {
			sleepUntil(due)
		}
		binary.BigEndian.PutUint64(body, uint64(due.UnixNano()))
		h := sendHeader(w.o, (conn+k)%w.o.Queues, conn, k)
		if _, err := w.c.Write(request(w.o, protocol.SendMessageV2, 0, h, body)); err != nil {
			return closedIsFine(w, err)
		}
		for got := false; !got; {
			err := w.answers(func(_ int, code int32, header, _ []byte) error {
				got = true
				return success(code, header)
			})
			if err != nil {
				return closedIsFine(w, err)
			}
		}
	}
	return nil
}

// follow long polls a queue from its end.
func (w *wire) follow(s span) error {
	next := s.max
	for {
		h := &protocol.PullHeader{Group: []byte(w.o.Group), Topic: []byte(w.o.Topic), QueueID: s.queue, QueueOffset: next, MaxMsgNums: 32,
			SysFlag: protocol.PullSubscription | protocol.PullSuspend, SuspendMillis: 5000, Subscription: []byte("*"), ExpressionType: []byte("TAG")}
		w.sentAt[0] = time.Now().UnixNano()
		if _, err := w.c.Write(request(w.o, protocol.PullMessage, 0, h, nil)); err != nil {
			return closedIsFine(w, err)
		}
		for got := false; !got; {
			err := w.arrivals(func(r message.Record) { next = r.QueueOffset() + 1 }, &got)
			if err != nil {
				return closedIsFine(w, err)
			}
		}
	}
}

// arrivals reads once and notes how long each message of an answer was on its
// way.
func (w *wire) arrivals(fn func(message.Record), got *bool) error {
	measuring := w.m.measuring.Load()
	return w.read(func(a answer) error {
		*got = true
		if a.code != protocol.Success && a.code != protocol.PullNotFound && a.code != protocol.PullRetryImmediately {
			return success(a.code, a.header)
		}
		for body := a.body; len(body) > 0; {
			r, err := message.ParseRecord(body, true)
			if err != nil {
				return fmt.Errorf("a record of the answer: %w", err)
			}
			if b := r.Body(); measuring && len(b) >= 8 {
				w.lat.RecordValue(min(max(a.at-int64(binary.BigEndian.Uint64(b)), 1), int64(time.Minute)))
			}
			fn(r)
			w.done.Add(1)
			w.bytes.Add(int64(len(r.Body())))
			body = body[r.Size():]
		}
		return nil
	})
}
