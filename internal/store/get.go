package store

import (
	"gomq/internal/message"
)

// Matcher decides which messages a pull gets.
type Matcher interface {
	MatchCode(tagsCode int64) bool     // by the code in the queue entry
	MatchRecord(r message.Record) bool // by the record; only asked if NeedsRecord
	NeedsRecord() bool
}

// GetStatus is the outcome of Get, with the names of GetMessageStatus
// (behaviour.md 5.2).
type GetStatus uint8

// The statuses of a Get.
const (
	Found GetStatus = iota
	NoMatchedMessage
	MessageWasRemoving
	OffsetFoundNull
	OffsetOverflowBadly
	OffsetOverflowOne
	OffsetTooSmall
	NoMatchedQueue
	NoMessageInQueue
)

var statusNames = [...]string{"FOUND", "NO_MATCHED_MESSAGE", "MESSAGE_WAS_REMOVING", "OFFSET_FOUND_NULL", "OFFSET_OVERFLOW_BADLY",
	"OFFSET_OVERFLOW_ONE", "OFFSET_TOO_SMALL", "NO_MATCHED_LOGIC_QUEUE", "NO_MESSAGE_IN_QUEUE"}

// String is the name that Java gives the status.
func (s GetStatus) String() string { return statusNames[s] }

// GetRequest asks for the messages of a queue from an offset on.
type GetRequest struct {
	Queue    *Queue
	Offset   int64
	MaxCount int // messages; the first match is always taken
	MaxBytes int // bytes of records; the first match is always taken

	// Records further than NearBytes behind the end of the log count as "on
	// disk": the smaller limits hold from there on. 0 = no such distinction.
	NearBytes                int64
	MaxCountFar, MaxBytesFar int

	Match Matcher // nil = all

	// ReadDisk allows Get to wait for the disk. Without it Get returns with Cold
	// set when the bytes are not in memory; move to a goroutine that may block
	// and ask again with ReadDisk.
	ReadDisk bool
}

// GetResult is what Get found. It is reused: give the same one to the next Get,
// after View.Release.
type GetResult struct {
	Status   GetStatus
	Next     int64 // offset to ask for next (behaviour.md 5.2)
	Min, Max int64 // of the queue
	Count    int
	Bytes    int
	View     View
	OnDisk   bool // the last record looked at lies further back than NearBytes
	Cold     bool // nothing was read because it would have to come from the disk; Status and Next mean nothing
}
