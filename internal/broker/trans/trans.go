// Package trans follows transactions: it turns a client's message into a half
// message, ends half messages as their producers say, and asks the producers of
// those that nobody ends. Its state are two queues of the store and the progress
// in them, kept as the original keeps it, so that a Java broker of 4.9 can go on
// with the store and the other way round (behaviour.md section 12, store.md
// section 13).
//
// A half message lies in the queue of half messages, an op record in the queue
// beside it names a half message that was ended. The progress is an offset in
// each: below it every half message has been ended, put back at the end of the
// queue, or put aside.
package trans

import (
	"context"
	"errors"
	"time"

	"gomq/internal/message"
	"gomq/internal/protocol"
)

// Group is the consumer group under which the progress is kept.
const Group = "CID_RMQ_SYS_TRANS"

// Queue is the queue of all half messages and of all op records.
const Queue int32 = 0

var (
	halfTopic  = []byte(message.TopicHalf)
	opTopic    = []byte(message.TopicOpHalf)
	asideTopic = []byte(message.TopicCheckMax)
	group      = []byte(Group)
)

// Log is what a desk needs of the store.
type Log interface {
	// Put stores the messages in this order and waits until they can be read. An
	// error without a result means that nothing was stored, one with a result that
	// whether the messages last is not known.
	Put(ctx context.Context, msgs ...message.Message) ([]Placed, error)
	// PutTogether is Put for messages of which all are stored or none: either no Err
	// of the result is set, or nothing was stored.
	PutTogether(ctx context.Context, msgs ...message.Message) ([]Placed, error)
	// Record is a copy of the record at an offset of the log. ErrNoRecord: none
	// begins there.
	Record(offset int64) (message.Record, error)
	// Span is the first offset of the topic's queue Queue and the one behind its
	// last.
	Span(topic string) (min, max int64)
	// Read calls fn with some records of that queue from an offset on, at most most,
	// until it returns false, and returns the offset behind the last one. Records
	// that are gone are left out, so there may be none at all; at the end of the
	// queue next is from. They are borrowed until fn returns.
	Read(topic string, from int64, most int, fn func(r message.Record) bool) (next int64, err error)
	// Settle waits until what has been put or read so far survives a power failure.
	Settle(ctx context.Context) error
}

// Placed says where a message was stored, or in Err why it alone was not.
type Placed struct {
	QueueOffset, Offset int64
	Err                 error
}

// ErrNoRecord is returned by Log.Record.
var ErrNoRecord = errors.New("no record begins there")

// Progress keeps offsets of groups; *meta.Offsets does.
type Progress interface {
	Query(topic, group []byte, queue int32) (offset int64, ok bool)
	Commit(topic, group []byte, queue int32, offset int64) error
}

// Ask sends a question to some connected producer of the group. It must not
// block.
type Ask func(group string, h *protocol.CheckHeader, body []byte) Reach

// Reach says whether a producer was asked.
type Reach uint8

// What became of a question.
const (
	Asked  Reach = iota
	Nobody       // no producer of the group is connected
	Busy         // too much waits on their connections already: ask less
)

// Desk ends and checks half messages. Its methods may be called from any
// goroutine, Check from one at a time.
type Desk struct {
	log      Log
	progress Progress
	ask      Ask
	clock    Clock
	began    time.Time // by the wall clock, when Passed was 0
	first    int64     // half messages from this one on came after the desk was made
	ends     *ends
}

// Clock is the two clocks that a desk needs.
type Clock struct {
	Now    func() time.Time     // the wall clock, which may be set at any time
	Passed func() time.Duration // since some moment of this process; it only runs forward
}

// New makes a desk.
func New(log Log, progress Progress, ask Ask, clock Clock) *Desk {
	_, first := log.Span(message.TopicHalf)
	return &Desk{log: log, progress: progress, ask: ask, clock: clock, began: clock.Now().Add(-clock.Passed()), first: first, ends: newEnds(mostRemembered)}
}

// now is the wall clock.
func (d *Desk) now() time.Time { return d.clock.Now() }

// age is how old a half message is: by the wall clock, or as if nobody had set it
// since the desk was made, and no more than the desk if it is not from before. So a
// clock that is set puts no half message aside. That a copy seems younger than what
// it is a copy of does no harm: it is the copy's file that may be deleted by age.
func (d *Desk) age(r message.Record) time.Duration {
	born, passed := time.UnixMilli(r.BornTime()), d.clock.Passed()
	age := min(d.now().Sub(born), d.began.Add(passed).Sub(born))
	if r.QueueOffset() >= d.first {
		age = min(age, passed)
	}
	return age
}

// Why a transaction was not ended. The texts of the first four are the
// original's (EndTransactionProcessor of 4.9.7).
var (
	ErrNoHalf     = errors.New("Find prepared transaction message failed")
	ErrGroup      = errors.New("The producer group wrong")
	ErrHalfOffset = errors.New("The transaction state table offset wrong")
	ErrLogOffset  = errors.New("The commit log offset wrong")
	ErrUnderWay   = errors.New("the same transaction is being ended by another request")
	ErrCommitted  = errors.New("the transaction has been committed before")
	ErrRolledBack = errors.New("the transaction has been rolled back before")
)

// Ended is what End has done.
type Ended struct {
	Topic   string          // where the message was bound
	Outcome message.SysFlag // Commit or Rollback; 0: nothing, it had been done before or was not asked for
	Took    time.Duration   // since the half message was stored
}

// End does what an END_TRANSACTION asks for. A committed message can be pulled
// when it returns without an error. Its op record lies behind it in the log, so
// that whatever a power failure leaves of the two the message is delivered, perhaps
// twice because the producer is asked once more. What is neither commit nor rollback
// changes nothing. Repeating an end does nothing for as long as the desk
// remembers it, and the other outcome is refused then.
//
// Errors: those above, or why the store did not take a record.
func (d *Desk) End(ctx context.Context, h *protocol.EndHeader) (Ended, error) {
	outcome := message.SysFlag(h.Outcome)
	if outcome != message.Commit && outcome != message.Rollback {
		return Ended{}, nil
	}
	r, err := d.half(h)
	if err != nil {
		return Ended{}, err
	}
	root := d.ends.rootOf(r)
	if done, err := d.ends.begin(root, outcome); done || err != nil {
		return Ended{}, err
	}
	reached := message.SysFlag(0)
	defer func() { d.ends.end(root, reached) }()
	if err := d.finish(ctx, r, outcome); err != nil {
		return Ended{}, err
	}
	reached = outcome
	topic, _ := message.Prop(r.Props(), message.PropRealTopic)
	return Ended{Topic: string(topic), Outcome: outcome, Took: d.now().Sub(time.UnixMilli(r.StoreTime()))}, nil
}

// Open is how many half messages lie behind the progress of the checks. Some of
// them have been ended and not been passed yet.
func (d *Desk) Open() int64 {
	least, most := d.log.Span(message.TopicHalf)
	return most - d.at(halfTopic, least, most)
}

// finish stores what ends the half message r.
func (d *Desk) finish(ctx context.Context, r message.Record, outcome message.SysFlag) error {
	if outcome == message.Rollback {
		return d.put(ctx, op(r.QueueOffset()))
	}
	m, err := committed(r)
	if err != nil {
		return err
	}
	placed, err := d.log.PutTogether(ctx, m, op(r.QueueOffset()))
	if err != nil || placed[0].Err == nil && placed[1].Err == nil {
		return err
	}
	// Together they may be larger than a file of the log.
	if err := d.put(ctx, m); err != nil {
		return err
	}
	// Without its op record a committed message stays ended for as long as this
	// desk remembers; then its producer is asked again.
	_ = d.put(ctx, op(r.QueueOffset()))
	return nil
}

// half reads the half message that h names, and compares.
func (d *Desk) half(h *protocol.EndHeader) (message.Record, error) {
	r, err := d.log.Record(h.LogOffset)
	if errors.Is(err, ErrNoRecord) || err == nil && string(r.Topic()) != message.TopicHalf {
		return nil, ErrNoHalf
	}
	if err != nil {
		return nil, err
	}
	pgroup, _ := message.Prop(r.Props(), message.PropProducer)
	switch {
	case string(pgroup) != string(h.Group):
		return nil, ErrGroup
	case r.QueueOffset() != h.HalfOffset:
		return nil, ErrHalfOffset
	case r.Offset() != h.LogOffset:
		return nil, ErrLogOffset
	}
	return r, nil
}

// put stores one message.
func (d *Desk) put(ctx context.Context, m message.Message) error {
	placed, err := d.log.Put(ctx, m)
	if err == nil {
		err = placed[0].Err
	}
	return err
}

// Resume puts a half message that was put aside, or any other, back into the
// queue of half messages as one that nobody has been asked about yet. Errors:
// ErrNoHalf, or why the store did not take it.
func (d *Desk) Resume(ctx context.Context, offset int64) error {
	r, err := d.log.Record(offset)
	if errors.Is(err, ErrNoRecord) {
		return ErrNoHalf
	}
	if err != nil {
		return err
	}
	if t := string(r.Topic()); t != message.TopicHalf && t != message.TopicCheckMax {
		return ErrNoHalf
	}
	m := stored(r)
	m.Topic, m.QueueID = halfTopic, Queue
	m.Props = changed(r, message.PropCheckTimes, 0)
	return d.put(ctx, m)
}
