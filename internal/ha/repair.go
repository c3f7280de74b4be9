package ha

import (
	"context"
	"fmt"
)

// RemoteState is what another broker of the set says of its log.
type RemoteState struct {
	Name
	FileSize int64
	Min, End int64
	Empty    bool
	Sum      uint32 // of the part that was asked for
}

// Remote is the log of another broker of the set as a request reaches it.
type Remote interface {
	// State is the state of the log, with the checksum (Sum) of [from, to).
	State(ctx context.Context, from, to int64) (RemoteState, error)
	// Read is some bytes of the log from an offset on, at least one.
	Read(ctx context.Context, from int64) ([]byte, error)
}

// Repair appends what a slave has more than its master, whose end was lost, if the
// two logs are the same up to there: the last 64 KiB before the master's end are
// compared. It returns how many bytes came; an error says why not all of them did,
// and that nothing was changed if none did.
func Repair(ctx context.Context, l Log, me Name, slave Remote) (n int64, err error) {
	at := l.MaxOffset()
	st, err := slave.State(ctx, 0, 0)
	if err != nil || st.End <= at {
		return 0, err
	}
	from := max(at-proofSize, st.Min, l.MinOffset())
	switch {
	case st.Broker != me.Broker || st.Cluster != me.Cluster:
		return 0, fmt.Errorf("it is of the set %s in %s", st.Broker, st.Cluster)
	case st.FileSize != l.FileSize():
		return 0, fmt.Errorf("its log has files of %d bytes, this one of %d", st.FileSize, l.FileSize())
	case l.Empty():
		at, from = st.Min, st.Min
	case st.Min > at:
		return 0, fmt.Errorf("its log begins at %d only", st.Min)
	}
	mine, err := Sum(l, from, at)
	if err != nil {
		return 0, err
	}
	if st, err = slave.State(ctx, from, at); err != nil {
		return 0, err
	}
	if st.Sum != mine {
		return 0, fmt.Errorf("the two logs differ in [%d, %d)", from, at)
	}
	var rest []byte
	for next := at; next < st.End; {
		p, err := slave.Read(ctx, next)
		if err != nil {
			return n, err
		}
		if len(p) == 0 {
			return n, fmt.Errorf("it has nothing at %d", next)
		}
		next += int64(len(p))
		rest = append(rest, p...)
		used, err := l.AppendRaw(at, rest)
		n += int64(used)
		if err != nil {
			return n, err
		}
		at += int64(used)
		rest = rest[:copy(rest, rest[used:])]
	}
	return n, nil
}
