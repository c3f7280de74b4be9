package store

import (
	"encoding/binary"
	"errors"
	"fmt"

	"go.uber.org/zap"

	"gomq/internal/message"
	"gomq/internal/store/segment"
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

const (
	// scanBytes of queue entries are looked at by one Get, or 20 entries a message
	// that is wanted if that is more (behaviour.md 5.2; Java counts bytes).
	scanBytes = 16000
	// hotBytes is how far behind the end of the log a record counts as written
	// lately, so that it need not be asked for whether it is in memory; hotEntries
	// is the same for entries, behind the end of their queue.
	hotBytes   = 32 << 20
	hotEntries = 4096
	// scanDisk bounds the bytes that one Get reads from the disk for a matcher that
	// wants none of them; the next one goes on there.
	scanDisk = 8 << 20
	// askAhead is what Get asks for at once whether it is in memory, and has read
	// ahead when it is not.
	askAhead  = 64 << 10
	readAhead = 1 << 20
)

// Get reads messages of a queue from an offset on. res says what it found; its
// View has the bytes and must be released. In steady state nothing is allocated.
func (s *Store) Get(r GetRequest, res *GetResult) {
	res.View.Release()
	*res = GetResult{View: res.View}
	g := getting{s: s, r: r, res: res}
	if !g.place() {
		return
	}
	g.end = s.Appended.Load()
	limit := r.Offset + max(scanBytes, int64(r.MaxCount)*unitSize)/unitSize
	g.off, g.stop = r.Offset, min(limit, res.Max)
	res.Status = OffsetFoundNull
	for g.off < g.stop && !g.done {
		if !g.file() {
			break
		}
	}
	res.Next = g.off
}

// getting is one Get on its way: place, then scan and collect for each queue
// file.
type getting struct {
	s   *Store
	r   GetRequest
	res *GetResult
	end int64 // of the log

	off, stop int64  // entries to look at
	done      bool   // enough was found, or nothing more can be
	entries   []byte // of the file, from base on
	base      int64
	skip      int64 // records below are in a log file that is gone
	warm      int64 // the log is in memory in [warmFrom, warm)
	warmFrom  int64
	touched   byte  // what touch has loaded; kept so that it is
	fruitless int64 // bytes read from the disk for nothing
	broken    error
	brokenAt  int64
}

// place compares the offset with what the queue has. False ends the Get.
func (g *getting) place() bool {
	q, res, off := g.r.Queue, g.res, g.r.Offset
	if q == nil {
		res.Status = NoMatchedQueue
		return false
	}
	// The end first: if the queue is dropped meanwhile it is empty, not backward.
	res.Max = q.max.Load()
	res.Min = min(q.min.Load(), res.Max)
	switch {
	case res.Max == 0:
		res.Status, res.Next = NoMessageInQueue, 0
	case off < res.Min:
		res.Status, res.Next = OffsetTooSmall, res.Min
	case off == res.Max:
		res.Status, res.Next = OffsetOverflowOne, off
	case off > res.Max:
		res.Status, res.Next = OffsetOverflowBadly, res.Max
	default:
		return true
	}
	return false
}

// file looks at the entries of one queue file; false ends the Get.
func (g *getting) file() bool {
	q := g.r.Queue
	l := q.list()
	f := l.Find(g.off * unitSize)
	if f == nil {
		g.nullEntries(l)
		return false
	}
	if err := f.Acquire(); err != nil {
		g.nullEntries(l)
		return false
	}
	defer f.Release()
	g.base = f.Base()
	stop := min(g.stop, f.End()/unitSize)
	if q.max.Load()-g.off > g.s.hotQueue && !f.Resident(g.off*unitSize, min(g.off+256, stop)*unitSize) {
		if !g.r.ReadDisk {
			g.cold()
			return false
		}
		// The page comes with a system call; the mapping then has it.
		var b [unitSize * 256]byte
		n := (min(g.off+256, stop) - g.off) * unitSize
		if err := f.Pread(b[:n], g.off*unitSize); err != nil {
			g.broken, g.brokenAt = err, g.off
		}
	}
	g.entries = f.Bytes()
	was := g.stop
	g.stop = stop
	err := segment.Guard(g.scan)
	g.stop = was
	if err != nil {
		g.broken, g.brokenAt = err, g.off
	}
	if g.broken != nil {
		g.s.zlog.Error("messages of a queue cannot be read", zap.Stringer("queue", q), zap.Int64("offset", g.brokenAt), zap.Error(g.broken))
	}
	return err == nil && !g.done
}

// nullEntries is the answer when the file with the entries has gone: the client
// goes on with the next one.
func (g *getting) nullEntries(l *segment.List) {
	if g.res.Count > 0 {
		return
	}
	g.res.Status = OffsetFoundNull
	per := l.FileSize() / unitSize
	g.off = (g.off/per + 1) * per
}

// cold ends a Get that would have to wait for the disk: with what it has, or with
// nothing.
func (g *getting) cold() {
	g.done = true
	g.res.Cold = g.res.Count == 0
}

// scan goes through the entries in [off, stop). Inside Guard.
func (g *getting) scan() error {
	res, r := g.res, &g.r
	for ; g.off < g.stop; g.off++ {
		u := readUnit(g.entries[g.off*unitSize-g.base:])
		if u.blank() {
			g.missed(NoMatchedMessage)
			continue
		}
		if !u.valid() {
			return fmt.Errorf("%s: the entry at %d is empty", r.Queue, g.off)
		}
		if u.offset < g.skip {
			continue
		}
		far := r.NearBytes > 0 && g.end-u.offset > r.NearBytes
		res.OnDisk = far
		if g.full(u, far) {
			g.done = true
			return nil
		}
		if r.Match != nil && !r.Match.MatchCode(u.tags) {
			g.missed(NoMatchedMessage)
			continue
		}
		if !g.collect(u) {
			return nil
		}
	}
	return nil
}

// missed notes why an entry gave no message, unless others did.
func (g *getting) missed(why GetStatus) {
	if g.res.Count == 0 {
		g.res.Status = why
	}
}

// full says whether u does not fit any more (isTheBatchFull of 4.9.8).
func (g *getting) full(u unit, far bool) bool {
	res, r := g.res, &g.r
	if res.Count == 0 {
		return false
	}
	count, bytes := r.MaxCount, r.MaxBytes
	if far {
		count, bytes = min(count, r.MaxCountFar), r.MaxBytesFar
	}
	return res.Count >= count || res.Bytes+int(u.size) > bytes
}

// collect takes the record of u into the view if it is there and matches. False
// ends the Get.
func (g *getting) collect(u unit) bool {
	v := &g.res.View
	f := g.s.log.Find(u.offset)
	if f == nil || u.offset+int64(u.size) > f.End() || v.file(f) != nil {
		// Deleted by age: so are all records up to the next file.
		g.missed(MessageWasRemoving)
		size := g.s.log.FileSize()
		g.skip = max(u.offset/size*size+size, g.s.log.Start())
		return true
	}
	at, n := u.offset-f.Base(), int64(u.size)
	var rec message.Record
	cold := !g.inMemory(f, u)
	if cold {
		if !g.r.ReadDisk {
			g.cold()
			return false
		}
		f.WillNeed(u.offset, u.offset+readAhead)
		b, err := v.read(f, u.offset, n)
		if err == nil {
			rec, err = message.ParseRecord(b, true)
			if err == nil && (rec.Offset() != u.offset || rec.Size() != u.size) {
				err = errMisplaced
			}
			if err != nil {
				v.unread(n)
			}
		}
		if err != nil {
			return g.bad(u, err)
		}
	} else {
		b := f.Bytes()[at : at+n]
		if !isRecordOf(b, u) {
			return g.bad(u, errMisplaced)
		}
		if m := g.r.Match; m != nil && m.NeedsRecord() {
			var err error
			if rec, err = message.ParseRecord(b, false); err != nil {
				return g.bad(u, err)
			}
		}
	}
	if m := g.r.Match; m != nil && m.NeedsRecord() && !m.MatchRecord(rec) {
		g.missed(NoMatchedMessage)
		if cold {
			v.unread(n)
			if g.fruitless += n; g.fruitless >= g.s.scanDisk {
				g.done, g.stop = true, g.off+1
			}
		}
		return true
	}
	if !cold {
		v.add(f, at, n)
	}
	g.res.Status = Found
	g.res.Count++
	g.res.Bytes += int(u.size)
	g.skip = 0
	return true
}

// bad passes over a message that the disk does not hold as it was stored: it is
// never handed out.
func (g *getting) bad(u unit, err error) bool {
	g.broken, g.brokenAt = fmt.Errorf("the record at offset %d of the log: %w", u.offset, err), g.off
	var e *segment.FaultError
	if errors.As(err, &e) {
		g.done = true
		return false
	}
	g.missed(MessageWasRemoving)
	return true
}

// checkedBytes of a record are looked at by isRecordOf.
const checkedBytes = 36

// isRecordOf says whether the record that u points to begins at b.
func isRecordOf(b []byte, u unit) bool {
	be := binary.BigEndian
	return len(b) >= message.MinRecord && int32(be.Uint32(b)) == u.size && be.Uint32(b[4:]) == message.MagicMessage && int64(be.Uint64(b[28:])) == u.offset
}

// inMemory says whether the record can be read without waiting for the disk.
func (g *getting) inMemory(f *segment.File, u unit) bool {
	end := u.offset + int64(u.size)
	if u.offset >= g.warmFrom && end <= g.warm {
		return true
	}
	more := min(max(end, u.offset+askAhead), f.End())
	if u.offset >= g.end-g.s.hotLog || f.Resident(u.offset, more) {
		g.warmFrom, g.warm = u.offset, more
		g.touch(f)
		return true
	}
	return more > end && f.Resident(u.offset, end)
}

// touch loads the beginnings of the records that are looked at next, as far as they
// are known to be in memory. The processor then waits for all of them at once:
// one after the other their cache misses cost as much as copying the records. A
// fault is not this record's: whoever looks at the faulty one meets it again.
func (g *getting) touch(f *segment.File) {
	_ = segment.Guard(func() error {
		log, base := f.Bytes(), f.Base()
		stop := min(g.stop, g.off+int64(g.r.MaxCount))
		for off := g.off + 1; off < stop; off++ {
			at := readUnit(g.entries[off*unitSize-g.base:]).offset
			if at < g.warmFrom || at+checkedBytes > g.warm {
				break
			}
			g.touched += log[at-base] + log[at-base+checkedBytes-1]
		}
		return nil
	})
}
