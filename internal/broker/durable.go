package broker

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"gomq/internal/failpoint"
	"gomq/internal/message"
	"gomq/internal/protocol"
	"gomq/internal/remoting"
	"gomq/internal/store"
	"gomq/internal/watermark"
)

// refusals count what was not admitted, by cause; resolved once.
type refusals struct {
	age, lock, waiting, undurable *atomic.Uint64
}

func newRefusals(m *remoting.Metrics) refusals {
	return refusals{age: m.Refusal("send-age"), lock: m.Refusal("send-put-lock"), waiting: m.Refusal("send-waiting"), undurable: m.Refusal("send-undurable")}
}

// admit decides whether the broker is too busy for what a Turn has staged; the
// limits are those of decisions.md, Configuration. Nothing has been appended.
func (s *sender) admit(w *outgoing, started time.Time, o *Options) error {
	n := len(w.staged)
	if o.BrokerFastFailureEnable {
		if age := time.Since(started); age > o.WaitTimeMillsInSendQueue {
			s.refused.age.Add(uint64(n))
			return busy(fmt.Sprintf("[TIMEOUT_CLEAN_QUEUE]broker busy, start flow control for a while, period in queue: %dms, size of queue: %d", age.Milliseconds(), n),
				fmt.Sprintf("waitTimeMillsInSendQueue=%d", o.WaitTimeMillsInSendQueue.Milliseconds()))
		}
		if held := s.store.LockHeld(); held > o.OSPageCacheBusyTimeOutMills {
			s.refused.lock.Add(uint64(n))
			return busy("[REJECTREQUEST]system busy, start flow control for a while",
				fmt.Sprintf("one append has held the log for %d ms, osPageCacheBusyTimeOutMills=%d", held.Milliseconds(), o.OSPageCacheBusyTimeOutMills.Milliseconds()))
		}
		if waiting := s.waiting.Load(); waiting+int64(n) > int64(o.SendThreadPoolQueueCapacity) && waiting > 0 {
			s.refused.waiting.Add(uint64(n))
			return busy("[OVERLOAD]system busy, start flow control for a while",
				fmt.Sprintf("%d sends wait for the disk or a slave, sendThreadPoolQueueCapacity=%d", waiting, o.SendThreadPoolQueueCapacity))
		}
	}
	if open := s.store.Undurable(); open > o.MaxUndurableBytes {
		s.refused.undurable.Add(uint64(n))
		return busy("[REJECTREQUEST]system busy, start flow control for a while",
			fmt.Sprintf("%d bytes are not on the disk yet, maxUndurableBytes=%d", open, o.MaxUndurableBytes))
	}
	return nil
}

// finish ends a Turn: admission, one append, one waiter, answers. It frees w.
func (s *sender) finish(w *outgoing, started time.Time) {
	defer w.free()
	if len(w.staged) == 0 {
		return
	}
	o := s.live.Load()
	if err := s.admit(w, started, o); err != nil {
		s.stats.putFailed(len(w.staged))
		s.refuseAll(w, err)
		return
	}
	var f *flight
	var wait watermark.Waiter
	var deadline time.Time
	copied := s.replicas != nil && s.replicas.Available(s.store.MaxOffset(), o.HASlaveFallbehindMax)
	if s.sync || copied {
		f = s.takeOff(w, copied)
	}
	if f != nil && s.sync {
		wait, deadline = f, time.Now().Add(o.SyncFlushTimeout)
	}
	if err := s.append(w, deadline, wait); err != nil {
		if f != nil {
			f.drop(err)
		}
		s.refuseAll(w, err)
		return
	}
	code := protocol.Success
	if o.BrokerRole == SyncMaster && !copied {
		code = protocol.SlaveNotAvailable
	}
	s.answerAll(w, f, o, code)
	if f != nil && copied {
		s.replicas.Replicated.When(w.batch.End(), time.Now().Add(o.SlaveTimeout), (*copying)(f))
	}
	if f != nil {
		f.arrive() // what Done must know is in place
	}
}

// append stores what w has staged and counts it: the only way into the log. The
// arguments and the error are those of store.Append.
func (s *sender) append(w *outgoing, deadline time.Time, wait watermark.Waiter) error {
	begun := time.Now()
	if err := s.store.Append(w.batch, deadline, wait); err != nil {
		s.stats.putFailed(len(w.staged))
		return err
	}
	s.stats.put(w, time.Since(begun))
	return nil
}

// refuseAll answers everything that is not in a flight with err.
func (s *sender) refuseAll(w *outgoing, err error) {
	r := errorResponse(s.log, err)
	o := s.live.Load()
	w.reply = protocol.SendReply{Region: o.RegionID, Trace: o.TraceOn, Failed: true}
	r.Header = &w.reply
	for i := range w.staged {
		if st := &w.staged[i]; st.call != nil {
			st.call.Answer(r)
		}
	}
}

// answerAll answers what waits for nothing and tells the flight where the rest
// was stored. code is what one that wanted to wait is told when all is well: a
// SYNC_MASTER without a slave within reach never says SEND_OK of it.
func (s *sender) answerAll(w *outgoing, f *flight, o *Options, code int32) {
	failpoint.Hit("beforeAck")
	at := 0 // in f.late
	for i := range w.staged {
		st := &w.staged[i]
		if st.call == nil {
			late := &f.late[at]
			at++
			late.code, late.from = code, len(f.ids)
			late.queueOffset, late.err = w.batch.Placed(st.first).QueueOffset, s.placedErr(w, st)
			f.ids = s.appendIDs(f.ids, w, st)
			late.to = len(f.ids)
			continue
		}
		if err := s.placedErr(w, st); err != nil {
			s.refuse(st.call, err)
			continue
		}
		w.ids = s.appendIDs(w.ids[:0], w, st)
		w.reply = protocol.SendReply{MsgID: w.ids, QueueID: st.queue, QueueOffset: w.batch.Placed(st.first).QueueOffset, Region: o.RegionID, Trace: o.TraceOn}
		r := remoting.Response{Header: &w.reply}
		if st.wait {
			r.Code = code
		}
		st.call.Answer(r)
	}
}

// placedErr is why a request of an appended batch was not stored after all.
func (s *sender) placedErr(w *outgoing, st *staged) error {
	err := w.batch.Placed(st.first).Err
	if errors.Is(err, store.ErrTooLarge) {
		return refuse(protocol.MessageIllegal, "%s (%s)", illegalText(s.live.Load()), err)
	}
	return err
}

// appendIDs appends the offset ids of a request's messages, with commas between
// those of a batch.
func (s *sender) appendIDs(dst []byte, w *outgoing, st *staged) []byte {
	for k := range st.n {
		if k > 0 {
			dst = append(dst, ',')
		}
		dst = message.AppendID(dst, s.storeAt, w.batch.Placed(st.first+k).Offset)
	}
	return dst
}

// flight is the sends of one Turn that wait for the disk, for a replica or for
// both. It is the Turn's one waiter on each of the two marks and is pooled.
//
// The marks may get there on other goroutines before the Turn has written down
// where the messages lie: whoever comes last answers.
type flight struct {
	s       *sender
	late    []lateSend
	ids     []byte
	err     error // of the wait for the disk
	copyErr error // ... for a replica
	parties atomic.Int32
	reply   protocol.SendReply
}

// lateSend is one request of a flight.
type lateSend struct {
	late        remoting.Late
	call        *remoting.Call // instead of late when it is detached
	code        int32          // when the wait ends well
	queue       int32
	queueOffset int64
	from, to    int // its ids
	err         error
}

var flights = sync.Pool{New: func() any { return &flight{} }}

// takeOff moves the requests that want to wait into a flight; nil when none does.
// Their call in w is nil from then on.
func (s *sender) takeOff(w *outgoing, copied bool) *flight {
	var f *flight
	for i := range w.staged {
		st := &w.staged[i]
		if !st.wait {
			continue
		}
		if f == nil {
			f = flights.Get().(*flight)
			f.s, f.err, f.copyErr = s, nil, nil
			f.parties.Store(1 + btoi(s.sync) + btoi(copied))
		}
		l := lateSend{queue: st.queue}
		if w.detached {
			l.call = st.call
		} else {
			l.late = st.call.Later()
		}
		f.late = append(f.late, l)
		st.call = nil
	}
	if f != nil {
		s.waiting.Add(int64(len(f.late)))
	}
	return f
}

// Done is told by the store how the wait ended. It runs on the flusher: answers
// are only appended to their connections.
func (f *flight) Done(err error) {
	f.err = err
	f.arrive()
}

// copying is a flight as the waiter for a replica.
type copying flight

// Done is told how the wait for a replica ended, on the goroutine that reads its
// acknowledgements.
func (c *copying) Done(err error) {
	c.copyErr = err
	(*flight)(c).arrive()
}

func (f *flight) arrive() {
	if f.parties.Add(-1) == 0 {
		f.answer()
	}
}

// drop answers a flight whose batch was not appended.
func (f *flight) drop(err error) {
	for i := range f.late {
		f.late[i].err = err
	}
	f.answer()
}

// answer answers every request of the flight and frees it.
func (f *flight) answer() {
	failpoint.Hit("beforeAck")
	s := f.s
	o := s.live.Load()
	s.waiting.Add(-int64(len(f.late))) // first: who has the answer and sends again is not refused for what is over
	for i := range f.late {
		l := &f.late[i]
		f.reply = protocol.SendReply{MsgID: f.ids[l.from:l.to], QueueID: l.queue, QueueOffset: l.queueOffset, Region: o.RegionID, Trace: o.TraceOn}
		r := remoting.Response{Code: l.code, Header: &f.reply}
		switch {
		case l.err != nil:
			r = errorResponse(s.log, l.err)
			f.reply = protocol.SendReply{Region: o.RegionID, Trace: o.TraceOn, Failed: true}
			r.Header = &f.reply
		default:
			// Whatever becomes of the waits, it has been appended and may be found after
			// a restart, so it must not be called refused.
			f.verdict(&r)
		}
		l.answer(r)
	}
	clear(f.late)
	f.late, f.ids, f.s, f.err, f.copyErr = f.late[:0], f.ids[:0], nil, nil, nil
	flights.Put(f)
}

// verdict puts how the waits ended into an answer; a replica's status wins, as in
// the original.
func (f *flight) verdict(r *remoting.Response) {
	if f.err != nil {
		if r.Code == protocol.Success {
			r.Code = protocol.FlushDiskTimeout
		}
		if !errors.Is(f.err, watermark.ErrDeadline) {
			r.Remark = "whether the message is on the disk is not known: " + f.err.Error()
		}
	}
	if f.copyErr != nil {
		r.Code = protocol.FlushSlaveTimeout
		if !errors.Is(f.copyErr, watermark.ErrDeadline) {
			r.Remark = "whether a slave has the message is not known: " + f.copyErr.Error()
		}
	}
}

func (l *lateSend) answer(r remoting.Response) {
	if l.call != nil {
		l.call.Answer(r)
		return
	}
	l.late.Answer(r)
}
