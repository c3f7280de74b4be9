package remoting

import (
	"context"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"

	"go.uber.org/zap"

	"gomq/internal/protocol"
)

// outbox is the way out of a connection. One goroutine writes at a time: the
// reader the answers of its turn when nothing else waits, otherwise the writer,
// which takes all that waits in one write. mu is a leaf: nothing is locked
// under it but the start of the writer goroutine.
type outbox struct {
	c    *Conn
	mu   sync.Mutex
	pend []*block // what waits, in order
	wait int      // bytes of pend and of what the writer is writing

	writing  bool         // someone writes
	woken    bool         // the writer has been told
	started  bool         // the writer exists
	draining bool         // nothing new; drained is closed as soon as nothing is owed
	late     atomic.Int64 // answers still owed; taken by the reader, given back by whoever answers
	err      error

	wake    chan struct{}
	room    chan struct{} // told after each write of the writer
	drained chan struct{}
	isDry   bool // drained is closed

	w       []byte // under writing: what tryWrite writes
	werr    error
	writeFn func(fd uintptr) bool

	bufs  net.Buffers // the writer's own
	vec   net.Buffers // what is left of bufs while it is written
	taken []*block
}

const (
	mergeBytes = 32 << 10 // the reader takes that much along in its own write
	writeChunk = 1 << 20  // a write of the writer; each must end within WriteTimeout
)

func (o *outbox) init(c *Conn) {
	o.c = c
	o.wake, o.room, o.drained = make(chan struct{}, 1), make(chan struct{}, 1), make(chan struct{})
	o.writeFn = o.tryWrite
}

// flush writes a turn's answers, or hands them to the writer when it is at work,
// the socket is full or a write may block. It returns the block to go on with,
// nil when that was handed over.
func (o *outbox) flush(x *block) *block {
	c := o.c
	o.mu.Lock()
	if o.err != nil {
		o.mu.Unlock()
		x.b = x.b[:0]
		return x
	}
	if c.raw == nil || o.writing || o.wait > mergeBytes || o.torn() {
		o.push(x)
		full := o.wait > c.hub.softLimit()
		o.mu.Unlock()
		if full {
			o.awaitRoom()
		}
		return nil
	}
	x = o.merge(x)
	o.writing = true
	o.mu.Unlock()
	x = o.write(x)
	if x != nil && cap(x.b) > 64<<10 {
		c.hub.pools.put(x)
		return nil
	}
	return x
}

// torn says whether the first block that waits has been written in part: then
// nothing may go before its rest. Held: mu.
func (o *outbox) torn() bool { return len(o.pend) > 0 && o.pend[0].off > 0 }

// merge takes what waits along, behind x; not when that is torn. Held: mu.
func (o *outbox) merge(x *block) *block {
	if len(o.pend) == 0 {
		return x
	}
	p := &o.c.hub.pools
	x = p.grow(x, o.wait)
	for _, y := range o.pend {
		x.b = append(x.b, y.b[y.off:]...)
		p.put(y)
	}
	clear(o.pend)
	o.pend = o.pend[:0]
	o.waits(-o.wait)
	return x
}

// write writes x without waiting, which takes a socket of our own; what it does
// not take at once is left to the writer. Called with writing set, which it
// clears. It returns x emptied, nil when it was left to the writer.
func (o *outbox) write(x *block) *block {
	c := o.c
	o.w, o.werr = x.b[x.off:], nil
	if err := c.raw.Write(o.writeFn); err != nil {
		o.werr = err
	}
	left, err := len(o.w), o.werr
	o.w = nil
	o.mu.Lock()
	o.writing = false
	switch {
	case err != nil || o.err != nil:
		x.b, x.off = x.b[:0], 0
	case left > 0:
		x.off = len(x.b) - left
		o.pend = append(o.pend, nil)
		copy(o.pend[1:], o.pend)
		o.pend[0] = x
		o.waits(left)
		x = nil
	default:
		x.b, x.off = x.b[:0], 0
	}
	if len(o.pend) > 0 {
		o.tell()
	}
	o.maybeDry()
	o.mu.Unlock()
	c.active.Store(c.hub.now())
	if err != nil {
		c.Close(err)
	}
	return x
}

// tryWrite writes o.w as far as the socket takes it.
func (o *outbox) tryWrite(fd uintptr) bool {
	for len(o.w) > 0 {
		n, err := syscall.Write(int(fd), o.w)
		if n > 0 {
			o.w = o.w[n:]
			continue
		}
		if err == syscall.EINTR {
			continue
		}
		if err != syscall.EAGAIN {
			o.werr = os.NewSyscallError("write", err)
		}
		break
	}
	return true
}

// waits counts bytes that wait in or out. Held: mu.
func (o *outbox) waits(n int) {
	o.wait += n
	o.c.hub.waiting.Add(int64(n))
}

// push appends x to what waits and tells the writer. Held: mu.
func (o *outbox) push(x *block) {
	o.pend = append(o.pend, x)
	o.waits(len(x.b) - x.off)
	o.tell()
}

// tell wakes the writer, starting it the first time. Held: mu.
func (o *outbox) tell() {
	if o.woken || o.writing {
		return // whoever writes looks again at its end
	}
	if !o.started {
		o.started = true
		o.c.hub.group.Go("remoting writer", o.writeLoop)
	}
	o.woken = true
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// writeLoop is the writer goroutine.
func (o *outbox) writeLoop(ctx context.Context) error {
	for {
		select {
		case <-o.c.done:
			return nil
		case <-o.wake:
		}
		for o.writeSome() {
		}
	}
}

// writeSome takes up to writeChunk bytes of what waits and writes them; false
// when there was nothing to do.
func (o *outbox) writeSome() bool {
	c := o.c
	o.mu.Lock()
	o.woken = false
	if o.writing || o.err != nil || len(o.pend) == 0 {
		o.mu.Unlock()
		return false
	}
	o.writing = true
	n, whole := 0, 0
	o.bufs, o.taken = o.bufs[:0], o.taken[:0]
	for _, x := range o.pend {
		b := x.b[x.off:]
		if room := writeChunk - n; len(b) > room {
			o.bufs = append(o.bufs, b[:room])
			x.off += room
			n += room
			break
		}
		o.bufs = append(o.bufs, b)
		o.taken = append(o.taken, x)
		n += len(b)
		if whole++; n == writeChunk || whole == 512 {
			break
		}
	}
	o.pend = o.pend[:copy(o.pend, o.pend[whole:])]
	o.mu.Unlock()

	c.writeSince.Store(c.hub.now())
	var err error
	if len(o.bufs) == 1 {
		_, err = c.rw.Write(o.bufs[0])
	} else {
		o.vec = o.bufs // WriteTo moves the slice on
		_, err = o.vec.WriteTo(c.rw)
	}
	c.writeSince.Store(0)
	c.active.Store(c.hub.now())
	for _, x := range o.taken {
		c.hub.pools.put(x)
	}

	o.mu.Lock()
	o.writing = false
	o.waits(-n)
	o.maybeDry()
	o.mu.Unlock()
	select {
	case o.room <- struct{}{}:
	default:
	}
	if err != nil {
		c.Close(err)
		return false
	}
	return true
}

// awaitRoom holds the reader while the peer does not take its answers: not
// reading more requests is what slows a peer down. The sweeper ends a wait that
// makes no progress.
func (o *outbox) awaitRoom() {
	for {
		select {
		case <-o.room:
		case <-o.c.done:
			return
		}
		o.mu.Lock()
		ok := o.wait <= o.c.hub.softLimit()/2
		o.mu.Unlock()
		if ok {
			return
		}
	}
}

// maybeDry closes drained when a draining connection owes nothing any more.
// Held: mu.
func (o *outbox) maybeDry() {
	if o.draining && !o.isDry && o.late.Load() == 0 && len(o.pend) == 0 && !o.writing {
		o.isDry = true
		close(o.drained)
	}
}

// drain takes no more requests of ours and closes drained once every answer owed
// has been written.
func (o *outbox) drain() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.draining = true
	o.maybeDry()
}

// close marks the end; false when it had ended before. What waits is dropped,
// and left to the collector: the writer may be writing some of it right now.
func (o *outbox) close(err error) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err != nil {
		return false
	}
	o.err = err
	for _, x := range o.pend {
		o.waits(x.off - len(x.b))
	}
	o.pend = nil
	return true
}

// dropLate counts an answer owed off when nothing is to be written.
func (c *Conn) dropLate() {
	o := &c.out
	o.mu.Lock()
	defer o.mu.Unlock()
	o.late.Add(-1)
	o.maybeDry()
}

// appendLate encodes an answer behind what waits.
func (c *Conn) appendLate(l Late, r Response) {
	p := &c.hub.pools
	need := headRoom + len(r.Remark) + len(r.Body)
	if need > 4<<10 {
		x := p.get(need)
		x.b = c.encode(x.b, l, r)
		c.pushLate(x)
		return
	}
	o := &c.out
	o.mu.Lock()
	o.late.Add(-1)
	if o.err != nil {
		o.mu.Unlock()
		return
	}
	x := o.tail(need)
	n := len(x.b)
	x.b = c.encode(x.b, l, r)
	o.waits(len(x.b) - n)
	o.tell()
	over := o.wait > c.hub.o.MaxOutbound
	o.mu.Unlock()
	if over {
		c.overflow()
	}
}

// encode appends a late answer. A header that panics becomes a SYSTEM_ERROR:
// nobody is left to answer in its place.
func (c *Conn) encode(dst []byte, l Late, r Response) (b []byte) {
	defer func() {
		if v := recover(); v != nil {
			c.panicked("late answer", v, zap.Int32("code", l.code))
			b = protocol.AppendResponse(dst, l.codec, l.opaque, protocol.SystemError, failedRemark, nil, nil)
		}
	}()
	return protocol.AppendResponse(dst, l.codec, l.opaque, r.Code, r.Remark, r.Header, r.Body)
}

// tail is a waiting block with room for need bytes more. Held: mu.
func (o *outbox) tail(need int) *block {
	if n := len(o.pend); n > 0 {
		if x := o.pend[n-1]; cap(x.b)-len(x.b) >= need {
			return x
		}
	}
	x := o.c.hub.pools.get(max(need, min(4<<10+o.wait, 64<<10)))
	o.pend = append(o.pend, x)
	return x
}

// pushLate hands a ready late answer over.
func (c *Conn) pushLate(x *block) {
	o := &c.out
	o.mu.Lock()
	o.late.Add(-1)
	if o.err != nil {
		o.mu.Unlock()
		c.hub.pools.put(x)
		return
	}
	o.push(x)
	over := o.wait > c.hub.o.MaxOutbound
	o.mu.Unlock()
	if over {
		c.overflow()
	}
}

func (c *Conn) overflow() {
	c.hub.refuse("outbound")
	c.Close(ErrOutbound)
}
