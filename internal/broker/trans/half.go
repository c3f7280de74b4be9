package trans

import (
	"bytes"
	"fmt"
	"strconv"
	"time"

	"gomq/internal/message"
)

// propsRoom is what a half message leaves free of its properties for what later
// copies of it carry: how often it was checked, and the half offset it had first.
const propsRoom = 96

// Stamp makes of m, a client's message to be, its half message: it goes to the
// topic of half messages and remembers where it is bound (store.md section 13). p
// is its properties, from which its text is appended to buf. An error says that it
// is too long. What only a broker may say of a half message is left out: by it a
// client could end transactions of others.
func Stamp(m *message.Message, p *message.PropSet, buf []byte) ([]byte, error) {
	p.Delete(message.PropPreparedOff)
	p.Delete(message.PropCheckTimes)
	p.Set(message.PropRealTopic, m.Topic)
	p.SetInt(message.PropRealQueue, int64(m.QueueID))
	at := len(buf)
	buf = p.AppendTo(buf)
	if n := len(buf) - at; n > message.MaxPropsLen-propsRoom {
		return buf, fmt.Errorf("the properties of a half message have %d bytes, at most %d are possible", n, message.MaxPropsLen-propsRoom)
	}
	m.Topic, m.QueueID, m.SysFlag, m.Props = halfTopic, Queue, m.SysFlag&^message.TxMask, buf[at:]
	return buf, nil
}

// changed is the property text of r with one number set.
func changed(r message.Record, name string, n int64) []byte {
	var p message.PropSet
	p.Parse(r.Props())
	p.SetInt(name, n)
	return p.AppendTo(nil)
}

// stored is the message of a record, to be stored once more. It borrows r.
func stored(r message.Record) message.Message {
	return message.Message{Topic: r.Topic(), QueueID: r.QueueID(), Flag: r.Flag(), SysFlag: r.SysFlag(), BornTime: r.BornTime(), BornHost: r.BornHost(),
		StoreHost: r.StoreHost(), Reconsume: r.Reconsume(), Body: r.Body(), Props: r.Props()}
}

// bound is stored for where the half message r is bound.
func bound(r message.Record) (message.Message, error) {
	m := stored(r)
	topic, _ := message.Prop(m.Props, message.PropRealTopic)
	if err := message.ValidTopic(string(topic)); err != nil {
		return m, fmt.Errorf("its %s: %w", message.PropRealTopic, err)
	}
	if message.NotForSending(topic) {
		return m, fmt.Errorf("its %s is %s, to which nobody may send", message.PropRealTopic, topic)
	}
	text, _ := message.Prop(m.Props, message.PropRealQueue)
	queue, err := strconv.ParseInt(string(text), 10, 32)
	if err != nil || queue < 0 {
		return m, fmt.Errorf("its %s is %q, no number of a queue", message.PropRealQueue, text)
	}
	m.Topic, m.QueueID = topic, int32(queue)
	return m, nil
}

// committed is the message that the half message r becomes: the same bytes but
// for the place, the type and the log offset of the half message (store.md
// section 13). REAL_TOPIC, REAL_QID and TRAN_MSG stay, as in the original.
func committed(r message.Record) (message.Message, error) {
	m, err := bound(r)
	m.SysFlag = m.SysFlag&^message.TxMask | message.Commit
	m.Prepared = r.Offset()
	return m, err
}

// op is the record that ends the half message at an offset of its queue, for
// whoever checks half messages, a Java broker of 4.9 as well.
func op(half int64) message.Message {
	return message.Message{Topic: opTopic, QueueID: Queue, Body: strconv.AppendInt(nil, half, 10), Props: opProps}
}

var opProps = []byte("WAIT\x01true\x02TAGS\x01d")

// opTag is the only tag of op records.
const opTag = "d"

// ended calls fn with each half offset that the op record r ends. 4.9 writes one
// number, 5.x several with commas. ok is false when r says something else.
func ended(r message.Record, fn func(half int64)) (ok bool) {
	if tags, _ := message.Prop(r.Props(), message.PropTags); string(tags) != opTag {
		return false
	}
	for rest := r.Body(); len(rest) > 0; {
		item := rest
		if i := bytes.IndexByte(rest, ','); i >= 0 {
			item, rest = rest[:i], rest[i+1:]
		} else {
			rest = nil
		}
		n, err := strconv.ParseInt(string(item), 10, 64)
		if err != nil || n < 0 {
			return false
		}
		fn(n)
		ok = true
	}
	return ok
}

// checks is how often the producer of the half message has been asked.
func checks(r message.Record) int {
	v, _ := message.Prop(r.Props(), message.PropCheckTimes)
	n, err := strconv.Atoi(string(v))
	if err != nil {
		return 0
	}
	return max(n, 0)
}

// asked is the half message r once more, asked about once more. Unlike the
// original's it keeps the user's flag.
func asked(r message.Record) message.Message {
	m := stored(r)
	m.Props = changed(r, message.PropCheckTimes, int64(checks(r))+1)
	return m
}

// immune is the half message r once more, not asked about because it is too
// young. It remembers the offset that the producer knows.
func immune(r message.Record) message.Message {
	m := stored(r)
	if _, again := message.Prop(m.Props, message.PropPreparedOff); !again {
		m.Props = changed(r, message.PropPreparedOff, r.QueueOffset())
	}
	return m
}

// first is the half offset that the producer of an immune copy knows.
func first(r message.Record) (half int64, ok bool) {
	v, ok := message.Prop(r.Props(), message.PropPreparedOff)
	if !ok {
		return 0, false
	}
	half, err := strconv.ParseInt(string(v), 10, 64)
	return half, err == nil && half >= 0 && half < r.QueueOffset()
}

// maxImmunity bounds what a message may ask for.
const maxImmunity = 10 * 365 * 24 * time.Hour

// immunity is the age that the half message wants to have before anybody is asked
// about it; ok is false when it does not say, and timeOut holds. What is no
// number, or -1, is timeOut too (getImmunityTime of 4.9.7).
func immunity(r message.Record, timeOut time.Duration) (d time.Duration, ok bool) {
	v, ok := message.Prop(r.Props(), message.PropImmunity)
	if !ok {
		return timeOut, false
	}
	n, err := strconv.ParseInt(string(v), 10, 64)
	if err != nil || n == -1 {
		return timeOut, true
	}
	return time.Duration(min(max(n, 0), int64(maxImmunity/time.Second))) * time.Second, true
}

// putAside is the half message r in the topic of those that nobody has ended.
func putAside(r message.Record) message.Message {
	m := stored(r)
	m.Topic, m.QueueID = asideTopic, Queue
	return m
}
