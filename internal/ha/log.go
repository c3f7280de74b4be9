package ha

import (
	"net/netip"
	"time"
)

// Log is what the two ends need of a log of messages. Offsets are bytes of an
// endless file that is kept in files of one size. Its methods may be called from
// any goroutine, AppendRaw from one at a time.
type Log interface {
	// MinOffset is the first offset, MaxOffset the end of what has been appended.
	MinOffset() int64
	MaxOffset() int64
	// FileSize is the size of each file.
	FileSize() int64
	// Empty says whether the log has never had a record: it may begin anywhere then.
	Empty() bool
	// ReadRaw copies bytes from the offset from on into dst, below to and within one
	// file; it says how many.
	ReadRaw(dst []byte, from, to int64) (int, error)
	// AppendRaw appends the whole records at the front of p at the offset at, which
	// is the end of the log, and says how many bytes they are. An error that is
	// Temporary is to be tried again, any other says that the bytes do not belong
	// there.
	AppendRaw(at int64, p []byte) (used int, err error)
}

// Tuning is what may change while a connection lasts; it is asked for again at
// each step.
type Tuning struct {
	Batch     int           // most bytes of the log in a block
	Heartbeat time.Duration // between two signs of life
	Silence   time.Duration // after so much of it a connection is closed
	// CatchUp is how many bytes a second go to a replica that is more than Near
	// behind, while the log grows; 0 = no limit.
	CatchUp int64
	Near    int64 // bytes; somebody may wait for who is closer
}

// block is the most bytes of the log that may stand in one block.
func (t Tuning) block() int { return max(min(t.Batch, MaxBlock-HeaderSize), 1) }

// patience is a deadline of a connection that is put off again and again. It is
// set anew only now and then, because that costs more than a short read.
type patience struct {
	set   func(time.Time) error
	until time.Time
}

// more bounds the silence from now on: d, and up to a quarter more.
func (p *patience) more(d time.Duration) {
	if now := time.Now(); p.until.Sub(now) < d {
		p.until = now.Add(d + d/4)
		_ = p.set(p.until) // a connection that takes none is closed, and says so
	}
}

// Peer is who is at the other end of a connection.
type Peer struct {
	Addr netip.Addr // where the connection comes from
	Name Name       // what a gomq peer says of itself; the zero Name for any other
}
