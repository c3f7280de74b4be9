package trans

import (
	"context"
	"fmt"

	"gomq/internal/message"
	"gomq/internal/protocol"
)

// act is a half message to be stored once more.
type act struct {
	half message.Record
	root int64
	m    message.Message
	kind kind
}

type kind uint8

const (
	toAsk  kind = iota
	toWait      // too young to be asked about
	toAside
)

func (r *round) add(a act) {
	r.acts = append(r.acts, a)
	r.bytes += len(a.half)
}

// act carries out what has been decided: one Put, then the questions.
func (r *round) act() error {
	if len(r.acts) == 0 {
		return nil
	}
	msgs := make([]message.Message, len(r.acts))
	for i := range r.acts {
		msgs[i] = r.acts[i].m
	}
	placed, err := r.put(msgs...)
	if err != nil {
		return fmt.Errorf("storing half messages once more: %w", err)
	}
	for i := range r.acts {
		if err := r.done(&r.acts[i], placed[i]); err != nil {
			return err
		}
		r.rep.To = r.acts[i].half.QueueOffset() + 1
	}
	r.acts, r.bytes = r.acts[:0], 0
	return nil
}

// put stores messages; a broker that stops lets it end.
func (r *round) put(msgs ...message.Message) ([]Placed, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.ctx), settleWait)
	defer cancel()
	return r.d.log.Put(ctx, msgs...)
}

// done is what follows once a half message has been stored once more, or not.
func (r *round) done(a *act, p Placed) error {
	if p.Err != nil && a.kind != toAside {
		// It will not become smaller: better aside than in the way of all others.
		r.problem(fmt.Errorf("the half message at %d cannot be put back and is put aside: %w", a.half.QueueOffset(), p.Err))
		a.m, a.kind = putAside(a.half), toAside
		placed, err := r.put(a.m)
		if err != nil {
			return fmt.Errorf("putting a half message aside: %w", err)
		}
		p = placed[0]
	}
	switch {
	case p.Err != nil:
		r.problem(fmt.Errorf("the half message at %d (offset %d of the log) cannot be put aside, it is passed over: %w", a.half.QueueOffset(), a.half.Offset(), p.Err))
	case a.kind == toAside:
		r.rep.Aside++
	case a.kind == toWait:
		r.d.ends.moved(p.QueueOffset, a.root)
		r.rep.Immune++
	default:
		r.d.ends.moved(p.QueueOffset, a.root)
		r.question(a, p)
	}
	return nil
}

// question asks a producer about the copy at p.
func (r *round) question(a *act, p Placed) {
	pgroup, _ := message.Prop(a.half.Props(), message.PropProducer)
	uniq, _ := message.Prop(a.half.Props(), message.PropUniqKey)
	h := protocol.CheckHeader{HalfOffset: p.QueueOffset, LogOffset: p.Offset, MsgID: string(uniq), TxID: string(uniq),
		OffsetID: string(message.AppendID(nil, a.half.StoreHost(), p.Offset))}
	m := a.m
	to, err := bound(a.half)
	if err != nil {
		r.problem(fmt.Errorf("nobody can be asked about the half message at %d: %w", p.QueueOffset, err))
		r.rep.Unasked++
		return
	}
	m.Topic, m.QueueID = to.Topic, to.QueueID
	body, err := message.AppendRecord(nil, &m)
	if err != nil {
		r.problem(fmt.Errorf("nobody can be asked about the half message at %d: %w", p.QueueOffset, err))
		r.rep.Unasked++
		return
	}
	message.Record(body).Place(p.QueueOffset, p.Offset, a.half.StoreTime())
	if r.d.ends.has(a.root) {
		r.rep.Ended++ // just now
		return
	}
	switch r.d.ask(string(pgroup), &h, body) {
	case Asked:
		r.rep.Asked++
		return
	case Busy:
		r.busy = true
	}
	r.rep.Unasked++
	r.rep.LastGroup = string(pgroup)
}
