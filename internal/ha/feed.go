package ha

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"gomq/internal/failpoint"
	"gomq/internal/watermark"
)

const (
	// write is how much of the log goes out in one write, in as many blocks as it
	// takes.
	write = 256 << 10
	// little is what is so little that others are let run once before it is sent:
	// they may have more.
	little = 16 << 10
	// strangeFor is how long a replica that does not count is not spoken of.
	strangeFor = 3 * time.Second
)

// feed is a replica as the master sees it: a goroutine that reads its reports, and
// one that sends once the first has come.
type feed struct {
	m       *Master
	nc      net.Conn // as it was accepted
	conn    net.Conn // the same, or what Secure has made of it
	peer    Peer
	name    atomic.Pointer[Name]
	gone    chan struct{} // closed when the reader has ended
	hears   patience      // the reader's
	tells   patience      // the sender's
	counted atomic.Bool
	came    time.Time // before started
	started atomic.Bool
	sent    atomic.Int64 // raised before the bytes are written
	acked   atomic.Int64
	proved  atomic.Int64 // ... of which it is known that it can have it
	lastAck atomic.Int64 // unix ns
}

// errImpossible is an acknowledgement of what was not sent.
var errImpossible = errors.New("it acknowledges what it cannot have")

// run reads the reports of a replica until it, or the master, ends.
func (f *feed) run(context.Context) error {
	defer f.m.leave(f)
	defer close(f.gone)
	defer f.nc.Close()
	err := f.begin()
	if err == nil {
		err = f.listen()
	}
	if f.m.group.Context().Err() != nil {
		return nil
	}
	f.counted.Store(false)
	var n net.Error
	switch {
	case errors.As(err, &n) && n.Timeout():
		f.m.say(f.peer.Addr, "a replica is silent, its connection is closed; see haHousekeepingInterval", err)
	case errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed), errors.As(err, &n):
		f.m.o.Zap.Info("a replica has gone", zap.Stringer("replica", f.peer.Addr), zap.Int64("acknowledged", f.acked.Load()), zap.Error(err))
	default:
		f.m.say(f.peer.Addr, "a replication connection is closed", err)
	}
	return nil
}

// begin takes the first words of a replica and starts to send.
func (f *feed) begin() error {
	f.deadline()
	if secure := f.m.o.Secure; secure != nil {
		conn, err := secure(f.nc)
		if err != nil {
			return err
		}
		f.conn = conn
	}
	var first [ReportSize]byte
	if _, err := io.ReadFull(f.conn, first[:]); err != nil {
		return err
	}
	start, have, err := int64(binary.BigEndian.Uint64(first[:])), int64(0), error(nil)
	if start < 0 {
		start, have, err = f.greet(first)
		f.hears.until = time.Time{} // it had a deadline of its own
		f.proved.Store(have)        // the two logs have been compared
	} else {
		// What it says at first is not believed: no send may be satisfied by a peer that
		// names an offset and has been sent nothing.
		have = start
		start, err = f.plain(start)
	}
	if err != nil {
		return err
	}
	f.sent.Store(start)
	f.acked.Store(max(have, start)) // a replica that has nothing lacks nothing below
	f.came = time.Now()
	f.started.Store(true)
	f.recount()
	f.m.o.Zap.Info("a replica has come", zap.Stringer("replica", f.peer.Addr), zap.Bool("counts", f.counted.Load()), zap.Int64("has", have),
		zap.Int64("sent from", start), zap.Int64("end", f.m.o.Ship.Load()))
	if unknown := f.m.o.Unknown; unknown != nil && !f.counted.Load() {
		unknown(f.peer)
	}
	if !f.m.group.Go("sender to "+f.peer.Addr.String(), func(ctx context.Context) error {
		defer f.nc.Close()
		if err := f.send(ctx, start); err != nil && !errors.Is(err, net.ErrClosed) {
			f.m.say(f.peer.Addr, "the log could not be sent to a replica", err)
		}
		return nil
	}) {
		return net.ErrClosed
	}
	return nil
}

// plain is where a replica of the 4.x protocol begins that asks for an offset.
func (f *feed) plain(asked int64) (start int64, err error) {
	l := f.m.o.Log
	lo, end := l.MinOffset(), l.MaxOffset()
	switch {
	case asked == 0:
		return lo, nil // whoever has nothing gets everything; the original gives its last file only
	case asked > end:
		return 0, fmt.Errorf("it has %d bytes of log, this master has %d only: one of the two has lost something or is of another set. It gets nothing and does not count; restore the master, or empty the replica's store so that it begins anew", asked, end)
	case asked < lo:
		return 0, fmt.Errorf("it wants to go on at %d, but the log begins at %d here, what lies before has been deleted by age: empty the replica's store so that it begins anew", asked, lo)
	}
	return asked, nil
}

// errUnlisted is why a replica does not count.
var errUnlisted = errors.New("its address is not that of a slave which the nameservers list for this brokerName: set its brokerIP1 to the address that it connects from, or name that in haPeers of this master")

// recount asks whether the peer counts; what it has acknowledged then does. One that
// goes on not counting is said loudly: at first it may just be registering.
func (f *feed) recount() {
	p := f.peer
	if n := f.name.Load(); n != nil {
		p.Name = *n
	}
	select {
	case <-f.gone:
		return
	default:
	}
	is := f.m.o.Counts(p)
	if was := f.counted.Swap(is); is != was && f.started.Load() {
		f.m.o.Zap.Info("whether a replica counts has changed", zap.Stringer("replica", p.Addr), zap.Bool("counts", is))
	}
	switch {
	case !f.started.Load():
	case is:
		f.m.raise(f.proved.Load())
	case time.Since(f.came) > strangeFor:
		f.m.say(f.peer.Addr, "a replica does not count for SYNC_MASTER", errUnlisted)
	}
}

// deadline bounds the silence from now on.
func (f *feed) deadline() { f.hears.more(f.m.o.Tune().Silence) }

// listen reads reports.
func (f *feed) listen() error {
	buf := make([]byte, 4096)
	for have := 0; ; {
		f.deadline()
		n, err := f.conn.Read(buf[have:])
		if err != nil {
			return err
		}
		have += n
		offset, used, err := LastReport(buf[:have])
		if err != nil {
			return err
		}
		if used == 0 {
			continue
		}
		have = copy(buf, buf[used:have])
		if err := f.ack(offset); err != nil {
			return err
		}
	}
}

// ack takes a report. One of what was not sent is an error: it satisfies nothing.
func (f *feed) ack(offset int64) error {
	if sent := max(f.sent.Load(), f.acked.Load()); offset > sent {
		return fmt.Errorf("%w: the log up to %d, it was sent up to %d", errImpossible, offset, sent)
	}
	f.lastAck.Store(time.Now().UnixNano())
	if offset <= f.acked.Load() {
		return nil
	}
	failpoint.Hit("haAck")
	f.acked.Store(offset)
	f.proved.Store(offset)
	if f.counted.Load() {
		f.m.raise(offset)
	}
	return nil
}

// alarm is a waiter that wakes a sender.
type alarm struct {
	ring   chan struct{}
	failed atomic.Pointer[error]
}

// Done implements watermark.Waiter.
func (a *alarm) Done(err error) {
	if err != nil {
		a.failed.Store(&err)
	}
	select {
	case a.ring <- struct{}{}:
	default:
	}
}

// send streams the log from next on.
func (f *feed) send(ctx context.Context, next int64) error {
	ship := f.m.o.Ship
	tune := f.m.o.Tune()
	wake := &alarm{ring: make(chan struct{}, 1)}
	beat := time.NewTicker(max(tune.Heartbeat, time.Millisecond))
	defer beat.Stop()
	buf := make([]byte, 0, HeaderSize+write)
	listed, idle, held := false, true, pace{}
	for {
		end := ship.Load()
		if next < end {
			if end-next < little {
				runtime.Gosched()
				end = ship.Load()
			}
			now := f.m.o.Tune()
			var err error
			if buf, next, err = f.fill(buf[:0], next, end, now.block()); err != nil {
				return err
			}
			failpoint.Hit("haSend")
			if err := f.write(buf, next); err != nil {
				return err
			}
			idle = false
			if d := held.pause(time.Now(), now, end, next, len(buf)); d > 0 && !sleep(ctx, d) {
				return nil
			}
			continue
		}
		if !listed {
			listed = true
			ship.When(next+1, time.Time{}, wake)
		}
		select {
		case <-wake.ring:
			if err := wake.failed.Load(); err != nil {
				return *err
			}
			listed = false
		case <-beat.C:
			if idle {
				if err := f.write(AppendHeader(buf[:0], next, 0), next); err != nil {
					return err
				}
			}
			idle = true
			if now := f.m.o.Tune(); now.Heartbeat != tune.Heartbeat {
				tune = now
				beat.Reset(max(tune.Heartbeat, time.Millisecond))
			}
		case <-f.gone:
			return nil
		case <-ctx.Done():
			return nil
		}
	}
}

// fill appends blocks of at most size bytes each of [next, end) to buf, as many as
// go out in one write, and returns the offset behind them.
func (f *feed) fill(buf []byte, next, end int64, size int) ([]byte, int64, error) {
	for next < end && (len(buf) == 0 || len(buf)+HeaderSize+size <= write) {
		at := len(buf)
		if need := at + HeaderSize + size; cap(buf) < need {
			buf = append(make([]byte, 0, need), buf...)
		}
		n, err := f.m.o.Log.ReadRaw(buf[at+HeaderSize:at+HeaderSize+size], next, end)
		if err != nil {
			return buf, next, err
		}
		if n == 0 {
			return buf, next, fmt.Errorf("the log has no bytes at %d, it should reach to %d", next, end)
		}
		AppendHeader(buf[:at], next, n)
		buf = buf[:at+HeaderSize+n]
		next += int64(n)
	}
	return buf, next, nil
}

// write sends bytes after which the replica may acknowledge the log up to next.
func (f *feed) write(b []byte, next int64) error {
	f.sent.Store(next)
	f.tells.more(f.m.o.Tune().Silence)
	_, err := f.conn.Write(b)
	return err
}

var _ watermark.Waiter = (*alarm)(nil)
