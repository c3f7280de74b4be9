package checker

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

// Op says what an Event is.
type Op string

// The events of a run.
const (
	OpSend    Op = "send"    // an attempt begins: Attempt, Topic, Queue, Sum
	OpAck     Op = "ack"     // it was answered with SEND_OK: Attempt, Topic, Queue, Offset, MsgID
	OpUnknown Op = "unknown" // its fate is not known: a timeout, a lost connection, a flush that was late
	OpRefused Op = "refused" // it was refused before it was stored: Status
	OpPoll    Op = "poll"    // a consumer of Group received it: Attempt, Topic, Queue, Offset, Sum
	OpCommit  Op = "commit"  // the broker accepted Offset as the group's place in a queue
	OpPlace   Op = "place"   // the broker answered Offset to a query for the group's place
	OpReset   Op = "reset"   // the group's place was deliberately set to Offset
	OpSweep   Op = "sweep"   // one record of a sweep: like poll, with Phy; Node says whose
	OpRange   Op = "range"   // a sweep found a queue to reach from Offset to Max
	OpLookup  Op = "lookup"  // a query by Note ("key" or "id") for Attempt found it, or not (Status 0 = found)
	OpKill    Op = "kill"    // a process died; Note says how
	OpUp      Op = "up"      // it serves again
	OpBad     Op = "bad"     // a body that does not verify: Note
)

// Event is one line of a run.
type Event struct {
	At time.Duration // since the run began, on the monotonic clock
	Op Op
	Attempt
	Topic  string
	Queue  int
	Offset int64
	Max    int64
	Phy    int64
	Sum    uint32
	Status int
	Group  string
	Node   string
	MsgID  string
	Note   string
}

func (e Event) String() string {
	return fmt.Sprintf("%9.3fs %-7s %v %s/%d@%d max=%d phy=%d status=%d group=%s node=%s id=%s %s",
		e.At.Seconds(), e.Op, e.Attempt, e.Topic, e.Queue, e.Offset, e.Max, e.Phy, e.Status, e.Group, e.Node, e.MsgID, e.Note)
}

// Record is a message as it came out of a broker.
type Record struct {
	Topic       string
	Queue       int
	Offset, Phy int64
	Key         string
	Tag         string
	Note        string
	Body        []byte
}

// Run records the events of one test. All methods may be called from any
// goroutine.
type Run struct {
	id    uint64
	start time.Time

	mu     sync.Mutex
	rng    *rand.Rand
	events []Event
}

// NewRun starts a recording; rng gives the run its number and the seed of the
// bodies' bytes. It is the caller's again after that: a run draws in whatever order
// its senders come, and what else the caller draws shall not depend on it.
func NewRun(rng *rand.Rand) *Run {
	return &Run{id: rng.Uint64(), start: time.Now(), rng: rand.New(rand.NewPCG(rng.Uint64(), rng.Uint64()))}
}

// Add records an event as it is; the time is filled in.
func (r *Run) Add(e Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e.At = time.Since(r.start)
	r.events = append(r.events, e)
}

// Events returns a copy of what has been recorded.
func (r *Run) Events() []Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]Event(nil), r.events...)
}

// Key is the key of a message, the same for all its attempts.
func (r *Run) Key(id ID) string {
	return fmt.Sprintf("%x-%d-%d", r.id&0xffffffff, id.Producer, id.Seq)
}

// Begin makes the message of one attempt and records that it is about to be
// sent. The caller then reports exactly one of Acked, Unknown or Refused.
func (r *Run) Begin(a Attempt, topic string, queue, size int) Message {
	r.mu.Lock()
	b := body(r.id, a, size, r.rng)
	r.mu.Unlock()
	m := Message{Attempt: a, Topic: topic, Queue: queue, Key: r.Key(a.ID), Note: fmt.Sprintf("n%d", a.Seq%7), Body: b}
	r.Add(Event{Op: OpSend, Attempt: a, Topic: topic, Queue: queue, Sum: sum(b, m.Key, Tag, m.Note)})
	return m
}

// Acked records a SEND_OK: the broker says that the message is at this place
// and has this message id.
func (r *Run) Acked(m Message, queue int, offset int64, msgID string) {
	r.Add(Event{Op: OpAck, Attempt: m.Attempt, Topic: m.Topic, Queue: queue, Offset: offset, MsgID: msgID})
}

// Unknown records that the attempt may or may not have been stored.
func (r *Run) Unknown(m Message, why string) {
	r.Add(Event{Op: OpUnknown, Attempt: m.Attempt, Topic: m.Topic, Queue: m.Queue, Note: why})
}

// Refused records that the broker said it has not stored the attempt.
func (r *Run) Refused(m Message, status int, why string) {
	r.Add(Event{Op: OpRefused, Attempt: m.Attempt, Topic: m.Topic, Queue: m.Queue, Status: status, Note: why})
}

// Polled records a message that a consumer of the group received.
func (r *Run) Polled(group string, rec Record) {
	r.record(Event{Op: OpPoll, Group: group}, rec)
}

// Swept records what a sweep of one queue found: its range and all records.
// Node tells brokers apart, and times of sweeping.
func (r *Run) Swept(node, topic string, queue int, low, high int64, recs []Record) {
	r.Add(Event{Op: OpRange, Node: node, Topic: topic, Queue: queue, Offset: low, Max: high})
	for _, rec := range recs {
		r.record(Event{Op: OpSweep, Node: node}, rec)
	}
}

func (r *Run) record(e Event, rec Record) {
	e.Topic, e.Queue, e.Offset, e.Phy = rec.Topic, rec.Queue, rec.Offset, rec.Phy
	a, err := readBody(r.id, rec.Body)
	e.Attempt = a
	e.Sum = sum(rec.Body, rec.Key, rec.Tag, rec.Note)
	if err != nil {
		e.Op, e.Note = OpBad, err.Error()
	}
	r.Add(e)
}

// Killed records that a process was killed at the given time. Call it after
// the clients have noticed and have recorded what they still received, because
// the order of the calls tells what was before and what was after.
func (r *Run) Killed(node, how string, at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, Event{Op: OpKill, At: at.Sub(r.start), Node: node, Note: how})
}

// Looked records the answer to a query for an acknowledged message: how is
// "key" or "id".
func (r *Run) Looked(how string, a Attempt, found []Record) {
	e := Event{Op: OpLookup, Attempt: a, Status: 1, Note: how}
	for _, rec := range found {
		got, err := readBody(r.id, rec.Body)
		if err == nil && got.ID == a.ID && rec.Key == r.Key(a.ID) {
			e.Status = 0
			e.Topic, e.Queue, e.Offset, e.Phy = rec.Topic, rec.Queue, rec.Offset, rec.Phy
		}
	}
	r.Add(e)
}

// Acks returns all acknowledged attempts with their places.
func (r *Run) Acks() []Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []Event
	for _, e := range r.events {
		if e.Op == OpAck {
			list = append(list, e)
		}
	}
	return list
}

// Count returns how many events of a kind there are.
func (r *Run) Count(op Op) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, e := range r.events {
		if e.Op == op {
			n++
		}
	}
	return n
}
