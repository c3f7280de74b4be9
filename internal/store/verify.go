package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strconv"

	"gomq/internal/message"
	"gomq/internal/store/segment"
)

// The parts of a store that a Problem can be about.
const (
	InLog        = "log"
	InQueue      = "queue"
	InIndex      = "index"
	InCheckpoint = "checkpoint"
)

// Problem is something that Verify found wrong.
type Problem struct {
	In     string // InLog, InQueue, InIndex or InCheckpoint
	File   string
	Offset int64 // InLog, InCheckpoint: in the log; InQueue: number of the entry; InIndex: number of the entry in its file
	Text   string
}

func (p Problem) String() string {
	return fmt.Sprintf("%s %s at %d: %s", p.In, p.File, p.Offset, p.Text)
}

// Summary is what Verify looked at.
type Summary struct {
	Clean        bool  // closed by its last user; otherwise what lies behind the checkpoint is not judged
	Own          bool  // this store's own checkpoint counts
	Start, End   int64 // of the log; End is behind the last record, or the blank behind it
	Records      int64
	Queues       int
	Entries      int64 // of queues, those that only fill a place not counted
	IndexFiles   int
	IndexEntries int64
	Orphans      int64 // records of queues that are not there: topics that were deleted, or queue files that are lost
	Unindexed    int64 // keys that the index does not have, where a Java broker may have left them out
	Problems     int64
}

// Verify looks at every byte that matters of a store that nobody has open, and
// changes nothing: each record of the log with its checksum and place, that every
// record has its entry in its queue and every entry its record, and that the index
// has all keys and no others. Each problem is reported; the error says why the
// rest could not be looked at: there is no store or it is in use, ctx has ended, or
// the disk does not give what it holds. Memory is bounded: some hundred bytes a queue and
// four bytes a slot of an index file.
//
// Options are those of the store; the sizes of its files count. What the broker
// keeps (config/*.json) is not looked at.
func Verify(ctx context.Context, o Options, report func(Problem)) (Summary, error) {
	o, err := o.withDefaults()
	if err != nil {
		return Summary{}, err
	}
	if _, err := o.FS.Stat(o.CommitLogDir); err != nil { // before a lock file is made in somebody's directory
		return Summary{}, fmt.Errorf("there is no store in %s: %w", o.Root, err)
	}
	l, err := o.FS.Lock(filepath.Join(o.Root, "lock"))
	if err != nil {
		return Summary{}, fmt.Errorf("the store %s cannot be verified: %w", o.Root, err)
	}
	v := &verifier{ctx: ctx, o: &o, report: report, queues: map[queueName]*verifiedQueue{}}
	err = v.run()
	return v.sum, errors.Join(err, l.Close())
}

type queueName struct {
	topic string
	id    int32
}

// verifier is one Verify on its way.
type verifier struct {
	ctx    context.Context
	o      *Options
	report func(Problem)
	sum    Summary
	ck     checkpoint
	log    *segment.List
	queues map[queueName]*verifiedQueue
	index  *verifiedIndex
}

func (v *verifier) problem(in, file string, offset int64, format string, args ...any) {
	v.sum.Problems++
	v.report(Problem{In: in, File: file, Offset: offset, Text: fmt.Sprintf(format, args...)})
}

func (v *verifier) run() error {
	_, err := v.o.FS.Stat(v.o.AbortFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	v.sum.Clean = err != nil
	if err := v.readCheckpoint(); err != nil {
		return err
	}
	if err := v.openLog(); err != nil {
		return err
	}
	if err := v.openQueues(); err != nil {
		return err
	}
	if v.index, err = openVerifiedIndex(v); err != nil {
		return err
	}
	defer v.index.close()
	if err := v.walk(); err != nil {
		return err
	}
	if v.sum.Own && v.sum.End < v.ck.log {
		v.problem(InCheckpoint, v.o.ownCheckpoint(), v.ck.log, "the log was on the disk up to here, it ends at %d", v.sum.End)
	}
	if err := v.index.finish(); err != nil {
		return err
	}
	for _, q := range v.queues {
		if err := q.finish(v); err != nil {
			return err
		}
	}
	return nil
}

// settled says whether a record at this offset must be in the queues.
func (v *verifier) settled(off int64) bool {
	return v.sum.Clean || v.sum.Own && off < v.ck.queue
}

// indexed says whether a record at this offset must be in the index.
func (v *verifier) indexed(off int64) bool {
	return v.sum.Own && off < v.ck.index
}

// readCheckpoint reads this store's checkpoint, if it counts.
func (v *verifier) readCheckpoint() error {
	var known [javaKnown]byte
	var own [2 * ownPlace]byte
	for _, f := range []struct {
		path string
		b    []byte
	}{{v.o.CheckpointFile, known[:]}, {v.o.ownCheckpoint(), own[:]}} {
		h, err := v.o.FS.OpenFile(f.path, os.O_RDONLY)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		// A file that a power cut has left shorter counts as zeros.
		if _, err = h.ReadAt(f.b, 0); errors.Is(err, io.EOF) {
			err = nil
		}
		if err := errors.Join(err, h.Close()); err != nil {
			return err
		}
	}
	for _, b := range [][]byte{own[:ownPlace], own[ownPlace:]} {
		c, ok := readOwn(b[:ownSize])
		if ok && (c.java == known || c.before == known) && (!v.sum.Own || c.seq > v.ck.seq) {
			v.ck, v.sum.Own = c, true
		}
	}
	return nil
}

// openLog lists the log's files: as many as follow each other.
func (v *verifier) openLog() error {
	found, err := v.listFiles(InLog, v.o.CommitLogDir)
	if err != nil {
		return err
	}
	v.log = segment.NewList(&segment.Options{FS: v.o.FS, Size: max(found.Size, 1), Maps: segment.NewMaps(maxMappedLogs)}, v.o.CommitLogDir, found)
	v.sum.Start, v.sum.End = v.log.Start(), v.log.Start()
	return nil
}

// listFiles finds the files of a directory; what does not fit is a problem, and
// what comes after it is not looked at.
func (v *verifier) listFiles(in, dir string) (found segment.Found, err error) {
	entries, err := v.o.FS.ReadDir(dir)
	if err != nil {
		return found, err
	}
	for _, e := range entries {
		if e.Dir {
			continue
		}
		path := filepath.Join(dir, e.Name)
		base, err := strconv.ParseInt(e.Name, 10, 64)
		if err != nil || len(e.Name) != 20 {
			v.problem(in, path, 0, "this is no file of the store")
			continue
		}
		if found.N == 0 && e.Size > 0 {
			found.First, found.Size = base, e.Size
		}
		if next := found.First + int64(found.N)*found.Size; e.Size != found.Size || e.Size == 0 {
			if !v.sum.Clean && e.Name == entries[len(entries)-1].Name {
				break // was just being made
			}
			v.problem(in, path, base, "it has %d bytes, the others have %d; it and what follows was not looked at", e.Size, found.Size)
			break
		} else if base != next {
			v.problem(in, path, base, "the file of %d should come before it; it and what follows was not looked at", next)
			break
		}
		found.N++
	}
	return found, nil
}

// walk goes through the log.
func (v *verifier) walk() error {
	w := walker{log: v.log, crc: true}
	for at := v.log.Start(); at < v.log.End(); {
		if err := v.ctx.Err(); err != nil {
			return err
		}
		r, next, err := w.at(at)
		var bad *badRecord
		switch {
		case errors.As(err, &bad):
			if next, err = v.bad(&w, bad); err != nil {
				return err
			}
			if next < 0 {
				return nil
			}
		case err != nil:
			return err
		case r == nil:
			v.sum.End = next
		default:
			v.sum.Records++
			v.sum.End = next
			if err := v.record(at, r); err != nil {
				return err
			}
		}
		at = next
	}
	return nil
}

// bad looks at the place where no record is: the end of the log, or damage. It
// returns where to go on, -1 = nowhere.
func (v *verifier) bad(w *walker, bad *badRecord) (next int64, err error) {
	f := v.log.Find(bad.Offset)
	if !v.sum.Own || bad.Offset >= v.ck.log {
		// Zeros to the end, or what an unclean stop has left.
		isEnd := v.nothingFollows(f)
		if isEnd && v.sum.Clean {
			if isEnd, err = v.zeros(bad.Offset); err != nil {
				return 0, err
			}
		}
		if isEnd {
			return -1, nil
		}
	}
	v.problem(InLog, bad.File, bad.Offset, "%v", bad.Err)
	if errors.Is(bad.Err, message.ErrCRC) {
		w.crc = false
		_, next, err = w.at(bad.Offset)
		w.crc = true
		return next, err
	}
	return f.End(), nil // where the next file begins, a record does
}

// zeros says whether there is nothing in the log from off on. A file that was
// made ahead may follow.
func (v *verifier) zeros(off int64) (bool, error) {
	buf := make([]byte, 64<<10)
	for at := off; at < v.log.End(); {
		f := v.log.Find(at)
		b := buf[:min(int64(len(buf)), f.End()-at)]
		if err := f.Pread(b, at); err != nil {
			return false, err
		}
		if !isZero(b) {
			return false, nil
		}
		at += int64(len(b))
	}
	return true, nil
}

// nothingFollows says whether no file behind f begins with a record.
func (v *verifier) nothingFollows(f *segment.File) bool {
	w := walker{log: v.log, crc: true}
	for _, g := range v.log.Files() {
		if g.Base() <= f.Base() {
			continue
		}
		if r, _, err := w.at(g.Base()); err == nil && r != nil {
			return false
		}
	}
	return true
}

// record compares a record with its queue entry and its keys.
func (v *verifier) record(at int64, r message.Record) error {
	if err := v.index.record(at, r); err != nil {
		return err
	}
	if tx := r.SysFlag() & message.TxMask; tx == message.Prepared || tx == message.Rollback {
		return nil
	}
	q := v.queues[queueName{string(r.Topic()), r.QueueID()}]
	if q == nil || q.n == 0 {
		if v.settled(at) {
			v.sum.Orphans++
		}
		return nil
	}
	return q.record(v, at, r)
}

// verifiedQueue is a queue that is compared with the log.
type verifiedQueue struct {
	name    queueName
	list    *segment.List
	n       int64 // entries, and places without one before them
	start   int64 // offset of the first place
	first   int64 // log offset of the first entry
	matched int64 // entries whose record was found
	next    int64 // the next record of the queue is not below this one
	tags    func(message.Record) int64
	window  []byte // of entries, from number at on
	at      int64
}

// openQueues finds the queues and their ends.
func (v *verifier) openQueues() error {
	topics, err := v.o.FS.ReadDir(v.o.ConsumeQueueDir)
	if err != nil {
		return err
	}
	maps := segment.NewMaps(64)
	for _, t := range topics {
		if !t.Dir || message.ValidTopic(t.Name) != nil {
			continue
		}
		dir := filepath.Join(v.o.ConsumeQueueDir, t.Name)
		ids, err := v.o.FS.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, e := range ids {
			id, err := strconv.Atoi(e.Name)
			if !e.Dir || err != nil || id < 0 || id > maxQueueID {
				continue
			}
			found, err := v.listFiles(InQueue, filepath.Join(dir, e.Name))
			if err != nil {
				return err
			}
			if found.Size%unitSize != 0 {
				v.problem(InQueue, filepath.Join(dir, e.Name), 0, "its files have %d bytes, no multiple of %d", found.Size, unitSize)
				continue
			}
			q := &verifiedQueue{name: queueName{t.Name, int32(id)}, first: math.MaxInt64,
				list: segment.NewList(&segment.Options{FS: v.o.FS, Size: max(found.Size, unitSize), Maps: maps}, filepath.Join(dir, e.Name), found)}
			if v.o.TagsCode != nil {
				q.tags = v.o.TagsCode(t.Name)
			}
			v.queues[q.name] = q
			v.sum.Queues++
			if err := q.measure(v); err != nil {
				return err
			}
		}
	}
	return nil
}

// measure goes through all entries once.
func (q *verifiedQueue) measure(v *verifier) error {
	q.start = q.list.Start() / unitSize
	before := int64(-1)
	ended := false
	return q.each(func(i int64, u unit) bool {
		path := q.list.Find(i * unitSize).Path()
		if ended = ended || !u.valid(); ended {
			if u != (unit{}) && v.sum.Clean && v.sum.Own {
				v.problem(InQueue, path, i, "something lies behind the end of the queue")
				return false
			}
			return true
		}
		q.n = i + 1
		if u.blank() {
			return true
		}
		if u.offset <= before && v.settled(u.offset) {
			v.problem(InQueue, path, i, "it points to %d, the one before it to %d", u.offset, before)
		}
		before = u.offset
		q.first = min(q.first, u.offset)
		v.sum.Entries++
		return true
	})
}

// each calls fn with every place of the queue.
func (q *verifiedQueue) each(fn func(i int64, u unit) bool) error {
	buf := make([]byte, 3200*unitSize)
	for _, f := range q.list.Files() {
		for at := f.Base(); at < f.End(); at += int64(len(buf)) {
			b := buf[:min(int64(len(buf)), f.End()-at)]
			if err := f.Pread(b, at); err != nil {
				return err
			}
			for i := 0; i < len(b); i += unitSize {
				if !fn((at+int64(i))/unitSize, readUnit(b[i:])) {
					return nil
				}
			}
		}
	}
	return nil
}

// unit reads the entry at number i through a small window; records come in order.
func (q *verifiedQueue) unit(i int64) (unit, error) {
	const keep = 50
	if i < q.start || i >= q.n {
		return unit{}, nil
	}
	if k := int64(len(q.window)) / unitSize; i < q.at || i >= q.at+k {
		f := q.list.Find(i * unitSize)
		n := min(keep, f.End()/unitSize-i)
		if q.window == nil {
			q.window = make([]byte, keep*unitSize)
		}
		q.window, q.at = q.window[:n*unitSize], i
		if err := f.Pread(q.window, i*unitSize); err != nil {
			return unit{}, err
		}
	}
	return readUnit(q.window[(i-q.at)*unitSize:]), nil
}

// record compares a record with the entry that it should have.
func (q *verifiedQueue) record(v *verifier, at int64, r message.Record) error {
	i := r.QueueOffset()
	u, err := q.unit(i)
	if err != nil {
		return err
	}
	if u.offset != at || !u.valid() {
		// A record older than the first entry is of a topic that was deleted and
		// made again, unless the queue begins behind it.
		if (at > q.first || i < q.start) && v.settled(at) {
			v.problem(InLog, v.log.Find(at).Path(), at, "the record is number %d of %s/%d, whose entry there points to %d", i, q.name.topic, q.name.id, u.offset)
		}
		return nil
	}
	path := q.list.Find(i * unitSize).Path()
	if i < q.next {
		v.problem(InQueue, path, i, "the record at %d comes after that of number %d", at, q.next-1)
	}
	q.next = i + 1
	q.matched++
	if u.size != r.Size() {
		v.problem(InQueue, path, i, "it says %d bytes, the record at %d has %d", u.size, at, r.Size())
	}
	want := message.TagsCode(r.Props())
	if q.tags != nil {
		want = q.tags(r)
	} else if q.name.topic == message.TopicSchedule {
		return nil // when it is due, by a table that is not known here
	}
	if u.tags != want {
		v.problem(InQueue, path, i, "its tags code is %d, that of the record at %d %d", u.tags, at, want)
	}
	return nil
}

// finish looks for the entries that no record has asked for.
func (q *verifiedQueue) finish(v *verifier) error {
	var count int64
	err := q.each(func(i int64, u unit) bool {
		if i < q.n && !u.blank() && u.offset >= v.sum.Start && v.settled(u.offset) {
			count++
		}
		return i < q.n
	})
	if err != nil || count <= q.matched {
		return err
	}
	w := walker{log: v.log}
	return q.each(func(i int64, u unit) bool {
		if i >= q.n {
			return false
		}
		if u.blank() || u.offset < v.sum.Start || !v.settled(u.offset) {
			return true
		}
		r, _, err := w.at(u.offset)
		if err != nil || r == nil || r.QueueOffset() != i || r.QueueID() != q.name.id || string(r.Topic()) != q.name.topic {
			v.problem(InQueue, q.list.Find(i*unitSize).Path(), i, "it points to %d, where its record is not", u.offset)
		}
		return true
	})
}
