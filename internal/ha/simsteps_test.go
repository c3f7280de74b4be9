package ha

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing/synctest"
	"time"

	"gomq/internal/message"
	"gomq/internal/store"
	"gomq/internal/store/simdisk"
	"gomq/internal/watermark"
)

// ackedSend is a send that was told OK.
type ackedSend struct {
	at, end int64
	key     string
}

// send stores some messages; they are told OK when they can be pulled and a slave
// has them.
func (x *sim) send() {
	s, m := x.master.s, x.m
	b := store.NewBatch()
	var keys []string
	for range 1 + x.r.IntN(4) {
		x.n++
		key := fmt.Sprint("u", x.n)
		topic := fmt.Sprint("T", x.r.IntN(2))
		home := netip.MustParseAddrPort("127.0.0.1:10911")
		body := bytes.Repeat([]byte{byte(x.n), 7}, 1+x.r.IntN(400))
		if x.r.IntN(20) == 0 {
			body = make([]byte, 4000+x.r.IntN(900))
		}
		if _, err := b.Add(s.Queue([]byte(topic), 0), &message.Message{Topic: []byte(topic), Body: body, Props: []byte("UNIQ_KEY\x01" + key), BornHost: home, StoreHost: home}); err != nil {
			x.fatal("%v", err)
		}
		keys = append(keys, key)
	}
	if err := s.Append(b, time.Time{}, nil); err != nil {
		x.fatal("append: %v", err)
	}
	end := b.End()
	m.Replicated.When(end, time.Now().Add(300*time.Millisecond), watermark.Func(func(err error) {
		if err != nil {
			return
		}
		has := x.most() >= end
		s.Dispatched.When(end, time.Time{}, watermark.Func(func(err error) {
			if err != nil {
				return
			}
			x.mu.Lock()
			defer x.mu.Unlock()
			x.lied = x.lied || !has
			for i, key := range keys {
				p := b.Placed(i)
				x.acked = append(x.acked, ackedSend{p.Offset, p.Offset + int64(p.Size), key})
			}
		}))
	}))
}

// step does one thing.
func (x *sim) step() {
	s := x.slaves[x.r.IntN(len(x.slaves))]
	switch n := x.r.IntN(41); {
	case n < 20:
		x.send()
	case n < 26:
		time.Sleep(time.Duration(x.r.IntN(60)) * time.Millisecond)
	case n < 28:
		synctest.Wait()
	case n < 30:
		x.note("slave %d is cut off", s.id)
		s.wire.cut()
	case n < 32:
		up, down := x.r.IntN(2) == 0, x.r.IntN(2) == 0
		x.note("slave %d held up: reports %v, log %v", s.id, up, down)
		s.wire.hold(up, down)
	case n < 34:
		for _, s := range x.slaves {
			s.wire.hold(false, false)
		}
	case n < 36:
		x.endSlave(s)
	case n < 38:
		x.endMaster()
	case n == 38:
		x.double(s)
	case n == 39:
		x.age()
	default:
		x.lie()
	}
}

// age lets the master delete all files but the last when a slave has it all;
// another one may need them.
func (x *sim) age() {
	x.slaves[0].wire.hold(false, false)
	time.Sleep(100 * time.Millisecond)
	if !slices.ContainsFunc(x.slaves, func(s *simSlave) bool { return s.s.MaxOffset() == x.master.s.MaxOffset() }) {
		return
	}
	x.master.s.DeleteExpired(1)
	time.Sleep(5 * time.Millisecond)
	x.aged = max(x.aged, x.master.s.MinOffset())
	x.note("the master's log begins at %d", x.master.s.MinOffset())
}

// operator gives an empty disk to a slave that cannot go on because what it needs
// has been deleted; false: that is not its trouble.
func (x *sim) operator(s *simSlave, st ReplicaState) bool {
	if !st.Stopped || !strings.Contains(st.Err.Error(), "deleted by age") {
		return false
	}
	x.note("slave %d needs what is gone and gets an empty disk", s.id)
	x.retreat(s)
	s.d.PowerOff()
	_ = s.s.Close()
	s.d, s.ever = simdisk.New(), 0
	x.follow(s)
	x.fresh++
	return true
}

// endSlave ends a slave in one of the ways in which it can, and starts it again.
func (x *sim) endSlave(s *simSlave) {
	x.retreat(s)
	switch n := x.r.IntN(5); {
	case n == 0:
		x.note("slave %d is stopped", s.id)
		if err := s.s.Close(); err != nil {
			x.fatal("closing slave %d: %v", s.id, err)
		}
	case n == 1 && x.r.IntN(2) == 0:
		x.note("slave %d loses its disk", s.id)
		s.d.PowerOff()
		_ = s.s.Close()
		s.d, s.ever = simdisk.New(), 0
	default:
		x.note("slave %d dies", s.id)
		s.die(n < 3, x.r)
	}
	if !s.o.SyncFlush {
		s.ever = 0
	}
	x.follow(s)
}

// endMaster ends the master and starts it again. Its power is cut only when a
// slave has what was told OK: two failures at once may lose it.
func (x *sim) endMaster() {
	x.abdicate()
	power := x.r.IntN(2) == 0 && x.covered()
	x.note("the master dies, power cut %v", power)
	x.master.die(power, x.r)
	x.lead()
}

// double connects a slave once more while its first connection hangs, as after a
// timeout that only one side has noticed.
func (x *sim) double(s *simSlave) {
	x.note("slave %d connects a second time", s.id)
	s.wire.hold(true, false)
	s.rep.hangUp(errors.New("a double"))
	time.Sleep(30 * time.Millisecond)
	s.wire.hold(false, false)
}

// lie is a peer that counts and acknowledges what it was not sent.
func (x *sim) lie() {
	w := &wire{all: &x.carriers}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	c, err := x.door.enter(ctx, w, 1)
	if err != nil {
		x.fatal("%v", err)
	}
	start := x.master.s.MaxOffset()
	x.note("a liar acknowledges from %d on", start)
	c.SetDeadline(time.Now().Add(time.Second))
	if _, err := c.Write(AppendReport(nil, start)); err == nil {
		_, _ = c.Write(AppendReport(nil, start+1_000_000))
	}
	time.Sleep(time.Millisecond)
	x.send()
	time.Sleep(20 * time.Millisecond)
	c.Close()
	w.cut()
}

// settle heals everything and waits until all have the same log.
func (x *sim) settle() {
	for _, s := range x.slaves {
		s.wire.hold(false, false)
	}
	end := x.master.s.MaxOffset()
	for _, s := range x.slaves {
		nothing := func() bool { return x.master.s.MinOffset() == end && s.s.Empty() } // there is no byte to copy
		for begun := time.Now(); s.s.MaxOffset() != end && !nothing(); time.Sleep(10 * time.Millisecond) {
			if st := s.rep.State(); !x.operator(s, st) && (time.Since(begun) > 2*time.Minute || st.Stopped) {
				x.fatal("slave %d has %d of %d: %+v", s.id, s.s.MaxOffset(), end, st)
			}
		}
	}
	x.same()
	x.mu.Lock()
	lied, acked := x.lied, slices.Clone(x.acked)
	x.mu.Unlock()
	if lied {
		x.fatal("a send was told OK that no slave had")
	}
	for _, a := range acked {
		if a.at < x.master.s.MinOffset() {
			continue
		}
		r, err := x.master.s.ReadRecord(a.at)
		var key []byte
		if err == nil {
			key, _ = message.Prop(r.Props(), message.PropUniqKey)
		}
		if err != nil || string(key) != a.key {
			x.fatal("%s at %d was told OK; there is %q, %v", a.key, a.at, key, err)
		}
	}
}

// same compares the logs and what readers of the queues see.
func (x *sim) same() {
	a := x.master.s
	for _, s := range x.slaves {
		p, q := make([]byte, 4096), make([]byte, 4096)
		if s.s.Empty() {
			continue
		}
		for at := max(a.MinOffset(), s.s.MinOffset()); at < a.MaxOffset(); {
			n, err := a.ReadRaw(p, at, a.MaxOffset())
			k, err2 := s.s.ReadRaw(q, at, a.MaxOffset())
			if err != nil || err2 != nil || n != k || !bytes.Equal(p[:n], q[:k]) {
				x.fatal("at %d the log of slave %d differs: %d and %d bytes, %v, %v", at, s.id, n, k, err, err2)
			}
			at += int64(n)
		}
		if err := s.s.Dispatched.Wait(x.t.Context(), a.MaxOffset()); err != nil {
			x.fatal("%v", err)
		}
		for _, m := range a.Queues() {
			// A queue whose messages have all been deleted is unknown to a new slave.
			if c := s.s.Queue([]byte(m.Topic()), m.ID()); c.Max() != m.Max() && s.s.MinOffset() == a.MinOffset() && m.Min() < m.Max() {
				x.fatal("%s ends at %d, on slave %d at %d", m, m.Max(), s.id, c.Max())
			}
		}
	}
}
