package store

import (
	"errors"
	"fmt"
	"slices"

	"gomq/internal/message"
	"gomq/internal/store/segment"
)

// walkBuffer is how much of the log is read at a time by who goes through it.
const walkBuffer = 256 << 10

// badRecord tells that there is no record where one should begin.
type badRecord struct {
	Offset int64
	File   string
	Err    error
}

func (e *badRecord) Error() string {
	return fmt.Sprintf("no record at offset %d of the log (%s): %v", e.Offset, e.File, e.Err)
}

func (e *badRecord) Unwrap() error { return e.Err }

var (
	errMisplaced = errors.New("the record says that it belongs elsewhere")
	errNoFile    = errors.New("there is no such file")
)

// walker reads the log from record to record with system calls, so that waiting
// for the disk holds no processor.
type walker struct {
	log  *segment.List
	crc  bool // check the bodies' checksums
	buf  []byte
	from int64 // offset of buf
}

// at reads the record at off. next is where the one behind it begins; it is the
// end of the file, and r nil, when the rest of it is blank. An error is a
// *badRecord or one of the disk. r is borrowed until the next call.
func (w *walker) at(off int64) (r message.Record, next int64, err error) {
	f := w.log.Find(off)
	if f == nil {
		return nil, 0, &badRecord{off, w.log.Dir(), errNoFile}
	}
	rest := f.End() - off
	if rest < blankSize {
		return nil, f.End(), nil
	}
	for need := min(rest, 4<<10); ; {
		b, err := w.window(f, off, need)
		if err != nil {
			return nil, 0, err
		}
		r, err := message.ParseRecord(b, w.crc)
		switch {
		case err == nil && r.Offset() != off:
			return nil, 0, &badRecord{off, f.Path(), fmt.Errorf("%w: %d", errMisplaced, r.Offset())}
		case err == nil:
			return r, off + int64(r.Size()), nil
		case errors.Is(err, message.ErrBlank):
			return nil, f.End(), nil
		case errors.Is(err, message.ErrShort) && int64(len(b)) < rest:
			need = min(rest, max(sizeWord(b), 2*int64(len(b))))
		default:
			return nil, 0, &badRecord{off, f.Path(), err}
		}
	}
}

func sizeWord(b []byte) int64 {
	return int64(b[0])<<24 | int64(b[1])<<16 | int64(b[2])<<8 | int64(b[3])
}

// window returns at least need bytes from off on.
func (w *walker) window(f *segment.File, off, need int64) ([]byte, error) {
	if off >= w.from && off+need <= w.from+int64(len(w.buf)) {
		b := w.buf[off-w.from:]
		return b[:min(int64(len(b)), f.End()-off)], nil
	}
	n := min(max(need, walkBuffer), f.End()-off)
	w.buf = slices.Grow(w.buf[:0], int(n))[:n]
	w.from = off
	if err := f.Pread(w.buf, off); err != nil {
		w.buf = w.buf[:0]
		return nil, err
	}
	return w.buf, nil
}

// eachRecord calls fn with each record of the log that begins in [from, to), with
// its offset; from must be where a record, a blank or a file begins. It returns
// where it ended: at or behind to if err is nil, otherwise at the record that the
// error is about. Errors are fn's, *badRecord, and those of the disk. crc asks for
// the checksums of the bodies. r is borrowed from a buffer of its own.
func (s *Store) eachRecord(from, to int64, crc bool, fn func(at int64, r message.Record) error) (end int64, err error) {
	w := walker{log: s.log, crc: crc}
	for at := from; ; {
		if at >= to {
			return at, nil
		}
		r, next, err := w.at(at)
		if err == nil && r != nil {
			err = fn(at, r)
		}
		if err != nil {
			return at, err
		}
		at = next
	}
}

// ReadRecord returns a copy of the record at a log offset. ErrNoRecord means that
// none begins there.
func (s *Store) ReadRecord(offset int64) (message.Record, error) {
	if offset < s.MinOffset() || offset >= s.Dispatched.Load() {
		return nil, ErrNoRecord
	}
	w := walker{log: s.log, crc: true}
	f := s.log.Find(offset)
	if f == nil || f.End()-offset < message.MinRecord {
		return nil, ErrNoRecord
	}
	var head [message.MinRecord]byte
	if err := f.ReadAt(head[:], offset); err != nil {
		return nil, err
	}
	n := sizeWord(head[:])
	if n < message.MinRecord || n > f.End()-offset || n > int64(s.o.MaxMessageSize+recordSlack)+walkBuffer {
		return nil, ErrNoRecord
	}
	w.buf, w.from = make([]byte, n), offset
	if err := f.Pread(w.buf, offset); err != nil {
		return nil, err
	}
	r, _, err := w.at(offset)
	var bad *badRecord
	if errors.As(err, &bad) && !errors.Is(err, message.ErrCRC) {
		return nil, ErrNoRecord
	}
	if err == nil && r == nil {
		return nil, ErrNoRecord
	}
	return r, err
}
