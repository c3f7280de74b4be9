package broker

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"gomq/internal/message"
	"gomq/internal/protocol"
	"gomq/internal/store"
)

// inner is the one way in which the broker itself stores messages: due delayed
// ones, retries and dead letters, committed transactions and what they need. It
// shares the append with the sends of clients, but not their admission by age and
// by number: whoever stores here waits for its own messages and so has few under
// way.
type inner struct {
	send   *sender
	create *topicMaker
	now    func() time.Time
}

// innerMessage is a message that the broker stores. Its topic is the one that it
// is stored under, and need not be in the table of topics: as in the original a
// queue can hold what nobody can pull yet.
type innerMessage struct {
	// What is stored. A zero StoreHost or BornHost is this broker's, a zero BornTime
	// is now. Slices are borrowed until put returns.
	message.Message
	// AnyQueue leaves QueueID to put: one of the topic's write queues, the only one
	// (0) when the topic has none or is not in the table.
	AnyQueue bool
	// Make, if not nil, is what the topic is made as when it is missing; its name
	// need not be set. Nameservers are told and not waited for.
	Make *protocol.TopicConfig
	// Copied waits for a slave too where a send would (SYNC_MASTER), slaveTimeout at
	// most. What becomes of that wait is no error: the message is stored, as the
	// original takes it.
	Copied bool
	// Level, if above 0, is the delay level that the message waits for first: it is
	// stored in the queue of that level and comes to Topic and QueueID when it is
	// due.
	Level int
}

// maxInner bounds the messages of one put.
const maxInner = 4096

// errInnerBusy is why put appends nothing while too much is not on the disk yet.
// It goes away by itself.
var errInnerBusy = errors.New("too much has been appended that is not on the disk yet (half of maxUndurableBytes)")

// again is the message of a record as it was taken in, to be stored once more; a
// caller changes what is to be different. It borrows r.
func again(r message.Record) innerMessage {
	return innerMessage{Message: message.Message{Topic: r.Topic(), QueueID: r.QueueID(), Flag: r.Flag(), SysFlag: r.SysFlag(), BornTime: r.BornTime(),
		BornHost: r.BornHost(), StoreHost: r.StoreHost(), Reconsume: r.Reconsume(), Prepared: r.Prepared(), Body: r.Body(), Props: r.Props()}}
}

// put appends all of msgs at once, in this order, and waits until they can be
// pulled, which under SYNC_FLUSH means that they are on the disk. ctx bounds the
// waiting; one put takes at most 4096 messages.
//
// On success the result says for each message where it was stored, or in Err why
// it alone was not (a topic that is no name, a message larger than the store
// takes, a topic that could not be made). An error with a result is about the
// waiting: the messages are in the log, and whether the disk has them is not
// known (ctx ended, or the store has failed). An error without one means that
// nothing was stored, or after a failure of the store that nothing is known.
func (p *inner) put(ctx context.Context, msgs []innerMessage) ([]store.Placed, error) {
	return p.store(ctx, msgs, false)
}

// putTogether is put for messages of which all are stored or none: either no Err of
// the result is set, or nothing was stored.
func (p *inner) putTogether(ctx context.Context, msgs []innerMessage) ([]store.Placed, error) {
	return p.store(ctx, msgs, true)
}

func (p *inner) store(ctx context.Context, msgs []innerMessage, together bool) ([]store.Placed, error) {
	if len(msgs) == 0 {
		return nil, nil
	}
	if len(msgs) > maxInner {
		return nil, fmt.Errorf("%d messages at once, at most %d are possible", len(msgs), maxInner)
	}
	// Half of what clients may have, so that they go on while the broker catches up.
	if o := p.send.live.Load(); p.send.store.Undurable() > o.MaxUndurableBytes/2 {
		return nil, errInnerBusy
	}
	w := outgoings.Get().(*outgoing)
	defer w.free()
	placed := make([]store.Placed, len(msgs))
	if together {
		w.batch.BeginGroup()
	}
	for i := range msgs {
		m := &msgs[i]
		if err := p.stage(w, m); err != nil {
			placed[i].Err = fmt.Errorf("topic %s, queue %d: %w", m.Topic, m.QueueID, err)
			if together {
				return placed, nil
			}
		}
	}
	if together {
		w.batch.EndGroup()
	}
	if len(w.staged) == 0 {
		return placed, nil
	}
	if err := p.send.append(w, time.Time{}, nil); err != nil {
		return nil, err
	}
	end := int64(0)
	for i, k := 0, 0; i < len(placed); i++ {
		if placed[i].Err != nil {
			continue
		}
		placed[i] = w.batch.Placed(k)
		if err := placed[i].Err; err != nil {
			placed[i].Err = fmt.Errorf("topic %s, queue %d: %w", msgs[i].Topic, msgs[i].QueueID, err)
		} else {
			end = placed[i].Offset + int64(placed[i].Size)
		}
		k++
	}
	if err := p.send.store.Dispatched.Wait(ctx, end); err != nil {
		return placed, fmt.Errorf("whether the messages are on the disk is not known: %w", err)
	}
	if slices.ContainsFunc(msgs, func(m innerMessage) bool { return m.Copied }) {
		p.waitCopied(ctx, end)
	}
	return placed, nil
}

// waitCopied waits until a slave has the log up to end, if one may be expected to.
func (p *inner) waitCopied(ctx context.Context, end int64) {
	s, o := p.send, p.send.live.Load()
	if s.replicas == nil || !s.replicas.Available(end, o.HASlaveFallbehindMax) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, o.SlaveTimeout)
	defer cancel()
	_ = s.replicas.Replicated.Wait(ctx, end) // see innerMessage.Copied
}

// stage puts one message into the batch.
func (p *inner) stage(w *outgoing, m *innerMessage) error {
	topic := p.send.topics.Get(m.Topic)
	if topic == nil && m.Make != nil {
		var err error
		if topic, err = p.make(m); err != nil {
			return err
		}
	}
	if topic == nil {
		topic = &protocol.TopicConfig{TopicName: string(m.Topic)}
	}
	if m.AnyQueue {
		m.QueueID = rand.Int32N(max(topic.WriteQueueNums, 1))
	}
	q := p.send.queue(w, topic, m.QueueID)
	if q == nil {
		return errors.New("there can be no such queue")
	}
	msg := m.Message
	if !msg.StoreHost.IsValid() {
		msg.StoreHost = p.send.storeAt
	}
	if !msg.BornHost.IsValid() {
		msg.BornHost = p.send.storeAt
	}
	if msg.BornTime == 0 {
		msg.BornTime = p.now().UnixMilli()
	}
	st := staged{topic: topic, q: q, n: 1, queue: m.QueueID}
	if m.Level > 0 {
		w.edit.Parse(msg.Props)
		q = p.send.divert(w, &st, &msg, m.Level)
	}
	n, err := w.batch.Add(q, &msg)
	if err != nil {
		return err
	}
	st.first = n
	w.staged = append(w.staged, st)
	return nil
}

// make makes the topic of m.
func (p *inner) make(m *innerMessage) (*protocol.TopicConfig, error) {
	c := *m.Make
	c.TopicName = string(m.Topic)
	if err := p.create.create(c, false); err != nil {
		return nil, err
	}
	return p.send.topics.Get(m.Topic), nil // nil: somebody has deleted it again
}
