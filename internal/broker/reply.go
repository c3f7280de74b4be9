package broker

import (
	"context"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"gomq/internal/broker/clients"
	"gomq/internal/message"
	"gomq/internal/protocol"
	"gomq/internal/remoting"
)

// replyDesk carries replies to who asked: SEND_REPLY_MESSAGE (324, 325). The
// requester is a producer that is connected to this broker; it is found by its
// client id, gets the reply over its own connection (326) and acknowledges it.
// Then the reply is stored too, unless storeReplyMessageEnable is off, and who
// sent it is answered. No goroutine waits for a requester.
type replyDesk struct {
	log       *zap.Logger
	send      *sender
	inner     *inner
	producers *clients.Producers[*remoting.Conn]
	notify    *notifier
	lane      *remoting.Lane // stores
	now       func() time.Time
	stop      context.Context // ends with the broker
	wait      time.Duration   // clientWait

	bytes atomic.Int64 // of replies that wait for their requesters
}

// maxReplyBytes bounds the replies that wait for their requesters.
const maxReplyBytes = 256 << 20

// reply is one reply on its way.
type reply struct {
	call  *remoting.Call
	h     protocol.SendHeader
	queue int32

	// What became of the push.
	code   int32
	remark string
}

// take is SEND_REPLY_MESSAGE. Its lane has detached the Call, so that its bytes
// live until it is answered.
func (s *replyDesk) take(c *remoting.Call) error {
	p := &reply{call: c, h: protocol.SendHeader{V2: c.Req.Code == protocol.SendReplyMessageV2, MaxReconsume: -1}}
	if err := c.Req.Decode(&p.h); err != nil {
		return err
	}
	if err := s.check(p); err != nil {
		s.send.refuse(c, err)
		return nil
	}
	size := int64(len(c.Req.Body) + len(p.h.Props))
	if s.bytes.Add(size) > maxReplyBytes {
		s.bytes.Add(-size)
		s.send.refuse(c, busy("[OVERLOAD]system busy, start flow control for a while", fmt.Sprintf("replies of %d bytes wait for their requesters", maxReplyBytes)))
		return nil
	}
	s.push(p, func(code int32, remark string) {
		s.bytes.Add(-size)
		p.code, p.remark = code, remark
		s.pushed(p)
	})
	return nil
}

// check is what is refused before anybody is asked (behaviour.md 4.2, 1 to 6).
func (s *replyDesk) check(p *reply) error {
	o := s.send.live.Load()
	if err := s.send.forbidden(&p.h, o); err != nil {
		return err
	}
	if err := message.ValidTopic(string(p.h.Topic)); err != nil {
		return refuse(protocol.SystemError, "%s", err)
	}
	topic := s.send.topics.Get(p.h.Topic)
	if topic == nil {
		return refuse(protocol.TopicNotExist, "topic[%s] not exist, apply first please!%s", p.h.Topic, faq)
	}
	if n := len(p.call.Req.Body); n > o.MaxMessageSize {
		return tooLarge(n, o)
	}
	var err error
	p.queue, err = queueOf(p.h.QueueID, topic, p.call, false)
	return err
}

// push sends the reply to its requester and has done told of how that ended.
func (s *replyDesk) push(p *reply, done func(code int32, remark string)) {
	to, ok := message.Prop(p.h.Props, message.PropReplyTo)
	if !ok {
		done(protocol.SystemError, "reply message properties["+message.PropReplyTo+"] is null")
		return
	}
	id := string(to)
	who, ok := s.producers.ByID(id)
	if !ok {
		done(protocol.SystemError, "push reply message fail, channel of <"+id+"> not found.")
		return
	}
	now := s.now().UnixMilli()
	h := protocol.PushReplyHeader{Group: p.h.Group, Topic: p.h.Topic, DefaultTopic: p.h.DefaultTopic, DefaultTopicQueues: p.h.DefaultTopicQueues,
		QueueID: p.queue, SysFlag: p.h.SysFlag, BornTime: p.h.BornTime, Flag: p.h.Flag, ReconsumeTimes: p.h.ReconsumeTimes, UnitMode: p.h.UnitMode,
		BornHost: p.call.Conn.Remote().String(), StoreHost: s.send.storeAt.String(), StoreTime: now,
		Props: message.AppendProp(append([]byte{}, p.h.Props...), message.PropPushReply, strconv.FormatInt(now, 10))}
	req := protocol.NewRequest(protocol.PushReplyMessage, &h, p.call.Req.Body)
	s.notify.ask(who.Conn, req, s.wait, func(r *protocol.Command, err error) {
		failed := "push reply message to " + id + "fail." // as the original spells it
		switch {
		case err != nil:
			s.log.Warn("a reply was not delivered", zap.String("requester", id), zap.Error(err))
			done(protocol.SystemError, failed+" ("+whyNot(err, s.wait)+")")
		case r.Code != protocol.Success:
			done(protocol.SystemError, fmt.Sprintf("%s (it answered %d %s)", failed, r.Code, r.Remark))
		default:
			done(protocol.Success, "")
		}
	})
}

// pushed goes on when it is known what became of the push. It must not block.
func (s *replyDesk) pushed(p *reply) {
	if s.send.live.Load().StoreReplyMessageEnable {
		if s.lane.Submit(p.call, func(*remoting.Call) { s.keep(p) }) {
			return
		}
		s.log.Warn("a reply was not stored: too many wait for that", zap.ByteString("topic", p.h.Topic))
	}
	s.answer(p, []byte("0"), 0)
}

// keep stores the reply. As in the original what becomes of the push is what is
// answered; a reply that cannot be stored is a line in the log.
func (s *replyDesk) keep(p *reply) {
	ctx, cancel := context.WithTimeout(s.stop, s.send.live.Load().SyncFlushTimeout)
	defer cancel()
	m := innerMessage{Message: message.Message{Topic: p.h.Topic, QueueID: p.queue, Flag: p.h.Flag, SysFlag: message.SysFlag(p.h.SysFlag) &^ message.TxMask,
		BornTime: p.h.BornTime, BornHost: p.call.Conn.Remote(), Reconsume: p.h.ReconsumeTimes, Body: p.call.Req.Body, Props: p.h.Props}}
	placed, err := s.inner.put(ctx, []innerMessage{m})
	if err == nil {
		err = placed[0].Err
	}
	if err != nil {
		s.log.Warn("a reply was not stored, or it is not known whether the disk has it", zap.ByteString("topic", p.h.Topic), zap.Error(err))
	}
	if placed == nil || placed[0].Err != nil {
		s.answer(p, []byte("0"), 0)
		return
	}
	s.answer(p, message.AppendID(nil, s.send.storeAt, placed[0].Offset), placed[0].QueueOffset)
}

// answer tells who sent the reply. Id 0 says that it is not stored.
func (s *replyDesk) answer(p *reply, id []byte, offset int64) {
	o := s.send.live.Load()
	stored := len(id) > 1
	p.call.Answer(remoting.Response{Code: p.code, Remark: p.remark, Header: &protocol.SendReply{MsgID: id, QueueID: p.queue, QueueOffset: offset,
		Region: o.RegionID, Trace: o.TraceOn, Failed: p.code != protocol.Success && !stored}})
}
