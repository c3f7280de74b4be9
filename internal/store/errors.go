package store

import (
	"errors"
	"fmt"
)

// ErrTooLarge is the error of an item whose record (or whose group) can never
// fit: larger than MaxMessageSize + 64 KiB or than a log file.
var ErrTooLarge = errors.New("the message is larger than the store takes")

// ErrNoProps is the error of a message whose properties are filled with zero
// bytes: no client means that, and after a power cut they look like bytes that
// never reached the disk.
var ErrNoProps = errors.New("the properties are filled with zero bytes")

// ErrClosed is returned by calls on a store that is closing or closed.
var ErrClosed = errors.New("the store is closed")

// ErrNoRecord is returned by ReadRecord for an offset at which no record lies:
// outside of the log, or not the beginning of a record.
var ErrNoRecord = errors.New("no record at this offset")

// Cause says why a store takes no message.
type Cause string

// The causes of a refusal.
const (
	CauseClosing  Cause = "closing"
	CauseFailed   Cause = "failed"
	CauseDiskFull Cause = "disk full"
)

// RefusedError is returned while the store takes no message. Nothing of what
// was refused is stored, except where Unknown says so.
type RefusedError struct {
	Cause Cause
	Path  string // disk full: the directory
	Used  uint64 // disk full: bytes in use, 0 if unknown
	Limit uint64 // disk full: bytes that may be in use, 0 if unknown
	Err   error  // failed: what happened
	// Unknown: the store failed while it wrote, so part of what is refused may be
	// found in it after a restart.
	Unknown bool
}

func (e *RefusedError) Error() string {
	switch {
	case e.Unknown:
		return fmt.Sprintf("whether the message was stored is not known: %v", e.Err)
	case e.Cause == CauseDiskFull && e.Limit > 0:
		return fmt.Sprintf("the store takes no messages: disk full, %s uses %d of %d bytes it may; delete files or shorten fileReservedTime", e.Path, e.Used, e.Limit)
	case e.Cause == CauseDiskFull:
		return fmt.Sprintf("the store takes no messages: the next file in %s cannot be made: %v; it goes on by itself once it can", e.Path, e.Err)
	case e.Err != nil:
		return fmt.Sprintf("the store takes no messages: %s: %v", e.Cause, e.Err)
	}
	return "the store takes no messages: " + string(e.Cause)
}

// Unwrap returns what happened.
func (e *RefusedError) Unwrap() error { return e.Err }

// DamageError is returned by Open when bytes that were known to be on the disk
// are not what was written. Nothing was changed.
type DamageError struct {
	File   string
	Offset int64 // in the log
	Until  int64 // offset below which the log was known to be good
	Why    string
}

func (e *DamageError) Error() string {
	return fmt.Sprintf("the log is damaged at offset %d (%s: %s), which is below %d, the end that was safely on the disk; nothing was changed. Restore the file from a copy; a slave that was in step has the same bytes in the file of the same name. 'gomq store verify' lists all that is damaged",
		e.Offset, e.File, e.Why, e.Until)
}
