package ha

import (
	"context"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"gomq/internal/task"
)

// session is one connection to the master, from its making to its end.
func (r *Replica) session(ctx context.Context, addr string) error {
	l := r.o.Log
	dial, cancel := context.WithTimeout(ctx, dialWait)
	defer cancel()
	// The first report is an acknowledgement too.
	if err := r.o.Confirm.Wait(dial, l.MaxOffset()); err != nil {
		return fmt.Errorf("the log is not durable yet: %w", err)
	}
	var info MasterInfo
	if r.o.Ask != nil {
		var err error
		if info, err = r.o.Ask(dial, addr); err != nil {
			return err
		}
	}
	if !info.Greets {
		if err := info.refuses(l); err != nil {
			return err
		}
	}
	conn, err := r.o.Dial(dial, addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	// Nothing was said to the master yet: whoever hangs up before misses nothing that
	// a dead one could still send.
	ctx, end := r.begin(ctx, conn, addr)
	defer end()
	if info.Greets && r.o.Secure != nil {
		if conn, err = r.o.Secure(dial, conn, addr); err != nil {
			return err
		}
	}
	if r.paused.Load() {
		return errPaused
	}
	s := &session{r: r, conn: conn, at: l.MaxOffset(), buf: make([]byte, firstRead), turn: make(chan struct{}, 1),
		end: l.MaxOffset(), least: info.Min, hears: patience{set: conn.SetReadDeadline}, tells: patience{set: conn.SetWriteDeadline}}
	if s.at == 0 || l.Empty() {
		s.at = -1
	}
	s.reported.Store(-1)
	if info.Greets {
		if err := s.greet(); err != nil {
			return err
		}
	}
	err = s.follow(ctx, info.Greets)
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return err
}

// session is a connection to the master.
type session struct {
	r    *Replica
	conn net.Conn
	at   int64 // the next block begins here; -1 = anywhere, the log is empty
	end  int64 // of the log when the connection began

	least int64 // where the master's log is known to begin
	known bool  // it is known that this log is the master's

	buf  []byte // what came and is no whole block yet lies in buf[lo:hi]
	lo   int
	hi   int
	rest []byte // what came and is no whole record yet; it ends at at

	hears    patience
	turn     chan struct{} // held while a report is written
	tells    patience      // guarded by turn
	reported atomic.Int64
}

// follow reports and appends until something is wrong.
func (s *session) follow(ctx context.Context, greeted bool) error {
	r := s.r
	if !greeted {
		if err := s.report(r.o.Log.MaxOffset()); err != nil {
			return err
		}
	}
	now := time.Now()
	r.note(func(st *ReplicaState) {
		st.Connected, st.Greeted, st.Since, st.LastBlock, st.Stopped, st.Err = true, greeted, now, now, false, nil
	})
	if greeted || s.at < 0 {
		s.know()
	}
	r.o.Zap.Info("this slave follows its master", zap.Stringer("master", s.conn.RemoteAddr()), zap.Bool("greeted", greeted), zap.Int64("from", r.o.Log.MaxOffset()))
	g := task.NewGroup(ctx, r.o.Zap, nil)
	defer g.Stop()
	defer s.conn.Close()
	g.Go("reports to the master", s.reports)
	for {
		if err := s.read(); err != nil {
			return err
		}
		if err := s.take(ctx); err != nil {
			return err
		}
		// What is in the log already needs no other goroutine to say so.
		if err := s.report(r.o.Confirm.Load()); err != nil {
			return err
		}
	}
}

// read gets more bytes from the master.
func (s *session) read() error {
	if s.lo == s.hi {
		s.lo, s.hi = 0, 0
	} else if s.hi == len(s.buf) {
		s.hi = copy(s.buf, s.buf[s.lo:s.hi])
		s.lo = 0
		if s.hi == len(s.buf) {
			s.buf = append(s.buf, make([]byte, min(len(s.buf), MaxBlock+firstRead-len(s.buf)))...)
		}
	}
	s.hears.more(s.r.o.Tune().Silence)
	n, err := s.conn.Read(s.buf[s.hi:])
	s.hi += n
	return err
}

// take appends the whole blocks that have come.
func (s *session) take(ctx context.Context) error {
	for {
		b, used, err := ParseBlock(s.buf[s.lo:s.hi])
		if err != nil || used == 0 {
			return err
		}
		s.lo += used
		end := b.Offset + int64(len(b.Bytes))
		if s.at >= 0 && b.Offset != s.at {
			return fmt.Errorf("the master sends the log from %d on, this slave has it up to %d", b.Offset, s.at)
		}
		s.r.note(func(st *ReplicaState) { st.LastBlock, st.MasterEnd = time.Now(), max(st.MasterEnd, end) })
		if len(b.Bytes) == 0 {
			s.know()
			continue
		}
		if s.at < 0 {
			s.begin(b.Offset)
		}
		if err := s.append(ctx, b.Bytes); err != nil {
			return err
		}
		if s.at-int64(len(s.rest)) > s.end {
			s.know()
		}
	}
}

// know takes note that the master's log is this one's.
func (s *session) know() {
	if s.known {
		return
	}
	s.known = true
	s.r.note(func(st *ReplicaState) { st.Follows = true })
	if begins := s.r.o.Begins; begins != nil {
		begins()
	}
}

// begin begins an empty log at the offset that the master sends from. One of 4.x
// sends its last file only, and a slave that lacks the rest says so.
func (s *session) begin(at int64) {
	s.at, s.end = at, at
	if at > s.least {
		s.r.o.Zap.Warn("this slave had no log, and its master gives it a part of its own only: consumers that read here miss what lies before. For the whole log copy the master's directory while it does not run, or make the master gomq and empty this slave's store",
			zap.Stringer("master", s.conn.RemoteAddr()), zap.Int64("the master has it from", s.least), zap.Int64("this slave has it from", at))
	}
}

// append appends the bytes of a block behind those that were no whole record.
func (s *session) append(ctx context.Context, p []byte) error {
	from := s.at - int64(len(s.rest))
	s.at += int64(len(p))
	torn := len(s.rest) > 0
	if torn {
		s.rest = append(s.rest, p...)
		p = s.rest
	}
	for waits := false; ; {
		used, err := s.r.o.Log.AppendRaw(from, p)
		from, p = from+int64(used), p[used:]
		if err == nil {
			if waits {
				s.r.o.Zap.Info("this slave takes again what its master sends")
				s.r.note(func(st *ReplicaState) { st.Err = nil })
			}
			break
		}
		if s.r.o.Temporary == nil || !s.r.o.Temporary(err) {
			return &Stopped{fmt.Errorf("what the master sends cannot be the continuation of this slave's log: %w. Nothing of it was taken; one of the two has lost something, or is damaged. Keep what is right, empty the store of the other", err)}
		}
		if !waits {
			waits = true
			s.r.o.Zap.Error("this slave cannot take what its master sends; it waits", zap.Error(err))
			s.r.note(func(st *ReplicaState) { st.Err = err })
		}
		if !sleep(ctx, spaceWait) {
			return ctx.Err()
		}
	}
	if torn {
		s.rest = s.rest[:copy(s.rest, p)]
	} else {
		s.rest = append(s.rest[:0], p...)
	}
	if len(s.rest) == 0 && cap(s.rest) > firstRead {
		s.rest = nil
	}
	return nil
}

// report tells the master how far the log has got, unless it has been told.
func (s *session) report(offset int64) error {
	if offset <= s.reported.Load() {
		return nil
	}
	return s.tell(offset)
}

// tell writes a report.
func (s *session) tell(offset int64) error {
	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	offset = max(offset, s.reported.Load()) // never back
	s.reported.Store(offset)
	s.tells.more(s.r.o.Tune().Silence)
	var b [ReportSize]byte
	_, err := s.conn.Write(AppendReport(b[:0], offset))
	return err
}

// reports tells the master what has become durable, and that this slave is alive.
func (s *session) reports(ctx context.Context) error {
	confirm := s.r.o.Confirm
	wake := &alarm{ring: make(chan struct{}, 1)}
	beat := time.NewTicker(max(s.r.o.Tune().Heartbeat, time.Millisecond))
	defer beat.Stop()
	for listed := false; ; {
		if !listed && s.r.o.Late {
			listed = true
			confirm.When(max(confirm.Load(), s.reported.Load())+1, time.Time{}, wake)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-wake.ring:
			if wake.failed.Load() != nil {
				s.conn.Close()
				return nil
			}
			listed = false
			if err := s.report(confirm.Load()); err != nil {
				return nil // the reader has noticed
			}
		case <-beat.C:
			if err := s.tell(confirm.Load()); err != nil {
				return nil
			}
		}
	}
}
