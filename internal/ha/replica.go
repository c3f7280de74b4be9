package ha

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"gomq/internal/task"
	"gomq/internal/watermark"
)

const (
	// dialWait bounds the making of a connection to the master.
	dialWait = 5 * time.Second
	// pauseFirst and pauseMost are the pauses before the master is tried again, and
	// pauseStopped the one after trouble that does not go away by itself.
	pauseFirst, pauseMost, pauseStopped = 100 * time.Millisecond, time.Second, 30 * time.Second
	// spaceWait is how long a replica without space waits.
	spaceWait = time.Second
	// firstRead is the size of a replica's buffer at first; it grows up to what a
	// block may have.
	firstRead = 512 << 10
)

// ReplicaOptions are what a Replica is made of. All but Ask, Begins, Temporary, Dial,
// Secure and Zap are needed.
type ReplicaOptions struct {
	Log Log
	// Confirm is what is reported: the log's end, or how far it is durable.
	Confirm *watermark.Mark
	Late    bool // Confirm rises some time after AppendRaw has returned
	Tune    func() Tuning
	Me      func() Name
	// Master is the host:port of the master's door, "" while it is not known.
	Master func() string
	// Ask asks the master behind the door for its log before each connection; nil: it
	// is one of the 4.x protocol of which nothing is known. It may block until ctx
	// ends.
	Ask func(ctx context.Context, door string) (MasterInfo, error)
	// Begins, if not nil, is told when Follows becomes true. It must not block.
	Begins func()
	// Temporary says whether an error of the log goes away by itself (no space).
	Temporary func(err error) bool
	Dial      func(ctx context.Context, addr string) (net.Conn, error)
	// Secure, if not nil, makes of a connection to a gomq master the one to go on with
	// (TLS). Masters of the 4.x protocol have none.
	Secure func(ctx context.Context, c net.Conn, addr string) (net.Conn, error)
	Zap    *zap.Logger // nil = silent
}

// MasterInfo is what a master says of its log over remoting.
type MasterInfo struct {
	Greets   bool // it is gomq and understands the greeting
	Known    bool // Min and End are
	Min, End int64
	FileSize int64 // 0 = not known
}

// refuses says why a replica may not take anything from a master that cannot
// compare the logs.
func (i MasterInfo) refuses(l Log) error {
	end, empty := l.MaxOffset(), l.Empty()
	switch {
	case i.FileSize > 0 && i.FileSize != l.FileSize():
		return &Stopped{fmt.Errorf("the master's log has files of %d bytes, this slave's of %d: empty the slave's store, it then takes the master's size", i.FileSize, l.FileSize())}
	case !i.Known || empty:
		return nil
	case end > i.End:
		return &Stopped{fmt.Errorf("this slave has the log up to %d, its master up to %d only: the master has lost its end, or is of another set. Nothing is changed; restore the master, or empty the slave's store", end, i.End)}
	case end < i.Min:
		return &Stopped{fmt.Errorf("this slave ends at %d, the master's log begins at %d: what lies between was deleted by age. Empty the slave's store, it then begins anew", end, i.Min)}
	}
	return nil
}

// Stopped is an error that says that this replica may not follow its master: going
// on would hide that one of the two has lost something. Nothing is changed; an
// operator has to choose.
type Stopped struct{ Err error }

func (e *Stopped) Error() string { return e.Err.Error() }

// Unwrap returns what is wrong.
func (e *Stopped) Unwrap() error { return e.Err }

// Replica is the receiving end of log shipping: it connects to the master, appends
// what comes and reports how far it has got, again and again until it is stopped.
type Replica struct {
	o      ReplicaOptions
	group  *task.Group
	kick   chan struct{}
	paused atomic.Bool

	mu    sync.Mutex // guards the rest
	state ReplicaState
	cut   func(why error) // ends the session under way; nil before the first
	over  <-chan struct{} // closed when that session has ended
}

// ReplicaState describes a Replica for people.
type ReplicaState struct {
	Master    string // address of its door, "" = not known
	Connected bool
	Greeted   bool // the master is gomq and both have compared their logs
	// Follows says that the master's log is known to be this one's: both have been
	// compared, or something of the master's was appended, or there was nothing here.
	Follows   bool
	Since     time.Time // of the connection
	LastBlock time.Time // when something came last
	End       int64     // of the log
	MasterEnd int64     // offset up to which the master is known to have the log
	Stopped   bool      // an operator has to choose, see Err
	Err       error     // why there is no connection, or nothing can be taken from it
}

// Lag is how many bytes the replica is known to be behind.
func (s ReplicaState) Lag() int64 { return max(s.MasterEnd-s.End, 0) }

// NewReplica starts a Replica; ctx ends it too.
func NewReplica(ctx context.Context, o ReplicaOptions) *Replica {
	if o.Zap == nil {
		o.Zap = zap.NewNop()
	}
	if o.Dial == nil {
		var d net.Dialer
		o.Dial = func(ctx context.Context, addr string) (net.Conn, error) { return d.DialContext(ctx, "tcp", addr) }
	}
	r := &Replica{o: o, group: task.NewGroup(ctx, o.Zap, nil), kick: make(chan struct{}, 1)}
	r.group.Go("replica", r.run)
	r.group.Go("end of the replica", func(ctx context.Context) error {
		<-ctx.Done()
		r.hangUp(ctx.Err())
		return nil
	})
	return r
}

// Stop ends the Replica; everything that came has been appended.
func (r *Replica) Stop() { r.group.Stop() }

// Kick makes a Replica without a connection try again at once: perhaps the address
// of the master has become known.
func (r *Replica) Kick() {
	select {
	case r.kick <- struct{}{}:
	default:
	}
}

// errPaused is why a Replica that was told to pause has no connection.
var errPaused = errors.New("it was told to pause")

// Pause ends the connection and keeps the Replica from making another one, or lets
// it go on.
func (r *Replica) Pause(on bool) {
	r.paused.Store(on)
	if on {
		r.hangUp(errPaused)
	}
	r.Kick()
}

// errSettled is why a Replica has ended a connection by itself.
var errSettled = errors.New("a master that starts has asked how far this slave's log goes")

// Settle ends the connection and returns when all that came over it is in the log, so
// that the log's end stands still until a master is found anew: one that starts and
// asks how far this log goes (GOMQ_LOG_STATE) must not go on from an end that is about
// to be passed. The Replica then connects again by itself. Error: ctx has ended first.
func (r *Replica) Settle(ctx context.Context) error {
	over := r.hangUp(errSettled)
	if over == nil {
		return nil
	}
	select {
	case <-over:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("what came from the old master is still being appended: %w", ctx.Err())
	}
}

// State says how the Replica stands.
func (r *Replica) State() ReplicaState {
	r.mu.Lock()
	s := r.state
	r.mu.Unlock()
	s.End = r.o.Log.MaxOffset()
	return s
}

func (r *Replica) note(fn func(s *ReplicaState)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	fn(&r.state)
}

// begin notes a session over conn: hangUp ends it, end says that nothing more is
// appended by it.
func (r *Replica) begin(ctx context.Context, conn net.Conn, master string) (_ context.Context, end func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	over := make(chan struct{})
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state.Master = master
	r.cut, r.over = func(why error) { cancel(why); conn.Close() }, over
	return ctx, func() { cancel(nil); close(over) }
}

// hangUp ends the session under way; over is closed when it has ended, nil if there
// never was one.
func (r *Replica) hangUp(why error) (over <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cut != nil {
		r.cut(why)
	}
	return r.over
}

// run follows the master.
func (r *Replica) run(ctx context.Context) error {
	pause, said := time.Duration(0), ""
	for ctx.Err() == nil {
		addr := r.o.Master()
		if addr == "" || r.paused.Load() {
			r.rest(ctx, time.Second)
			continue
		}
		begun := time.Now()
		err := r.session(ctx, addr)
		if ctx.Err() != nil {
			return nil
		}
		if r.paused.Load() {
			r.note(func(s *ReplicaState) { s.Connected, s.Greeted, s.Follows, s.Err = false, false, false, errPaused })
			continue
		}
		var stopped *Stopped
		is := errors.As(err, &stopped)
		r.note(func(s *ReplicaState) {
			s.Connected, s.Greeted, s.Follows, s.Stopped, s.Err = false, false, false, is, err
		})
		if text := err.Error(); text != said {
			said = text
			if is {
				r.o.Zap.Error("this slave does not follow its master and keeps its data until an operator has chosen", zap.String("master", addr), zap.Error(err))
			} else {
				r.o.Zap.Warn("no connection to the master, it is tried again", zap.String("master", addr), zap.Error(err))
			}
		}
		if time.Since(begun) > pauseMost {
			pause, said = 0, ""
		}
		pause = min(max(2*pause, pauseFirst), pauseMost)
		if is {
			r.rest(ctx, pauseStopped)
		} else {
			r.rest(ctx, pause)
		}
	}
	return nil
}

// rest waits, or until Kick.
func (r *Replica) rest(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-r.kick:
	case <-ctx.Done():
	}
}
