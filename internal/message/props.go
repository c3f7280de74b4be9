package message

import "bytes"

// Names of properties that brokers read or write (store.md section 14).
const (
	PropKeys         = "KEYS"
	PropTags         = "TAGS"
	PropWait         = "WAIT" // false: answer before flush and replica
	PropDelay        = "DELAY"
	PropRetryTopic   = "RETRY_TOPIC"
	PropRealTopic    = "REAL_TOPIC"
	PropRealQueue    = "REAL_QID"
	PropTransaction  = "TRAN_MSG"
	PropProducer     = "PGROUP"
	PropOriginID     = "ORIGIN_MESSAGE_ID"
	PropRegion       = "MSG_REGION"
	PropTraceOn      = "TRACE_ON"
	PropUniqKey      = "UNIQ_KEY"
	PropPreparedOff  = "TRAN_PREPARED_QUEUE_OFFSET"
	PropCheckTimes   = "TRANSACTION_CHECK_TIMES"
	PropImmunity     = "CHECK_IMMUNITY_TIME_IN_SECONDS"
	PropReplyTo      = "REPLY_TO_CLIENT"
	PropPushReply    = "PUSH_REPLY_TIME"
	PropCluster      = "CLUSTER"
	PropMessageType  = "MSG_TYPE"
	PropMultiQueue   = "INNER_MULTI_DISPATCH"
	PropMultiOffsets = "INNER_MULTI_QUEUE_OFFSET"
)

const (
	nameEnd = 1 // between name and value
	propEnd = 2 // between properties
)

// NextProp cuts the first item, name 0x01 value, off the text of properties.
func NextProp(props []byte) (item, rest []byte) {
	if i := bytes.IndexByte(props, propEnd); i >= 0 {
		return props[:i], props[i+1:]
	}
	return props, nil
}

// ValueOf is the value of an item that has this name and a value.
func ValueOf(item []byte, name string) (value []byte, ok bool) {
	if n := len(name); len(item) > n+1 && item[n] == nameEnd && string(item[:n]) == name {
		return item[n+1:], true
	}
	return nil, false
}

// EachProp calls fn for each property of the text name 0x01 value 0x02 ...
// until fn returns false. Items without a name or without a value are skipped,
// as the original's readers do; later 0x01 belong to the value (store.md
// section 3). The slices are borrowed.
func EachProp(props []byte, fn func(name, value []byte) bool) {
	for len(props) > 0 {
		var item []byte
		item, props = NextProp(props)
		i := bytes.IndexByte(item, nameEnd)
		if i <= 0 || i == len(item)-1 {
			continue
		}
		if !fn(item[:i], item[i+1:]) {
			return
		}
	}
}

// Prop is the value of a property; of one that comes twice the last. It does
// not allocate.
func Prop(props []byte, name string) (value []byte, ok bool) {
	for len(props) > len(name)+1 {
		var item []byte
		item, props = NextProp(props)
		if v, mine := ValueOf(item, name); mine {
			value, ok = v, true
		}
	}
	return value, ok
}

// AppendProp appends one property to a text, with the separator before it when
// the text is not empty and does not end in one.
func AppendProp(dst []byte, name, value string) []byte {
	if n := len(dst); n > 0 && dst[n-1] != propEnd {
		dst = append(dst, propEnd)
	}
	dst = append(dst, name...)
	dst = append(dst, nameEnd)
	return append(dst, value...)
}

// Noted is the properties that decide where a message is found again, borrowed
// from its text. Nil: it has none of that name.
type Noted struct{ Tags, Keys, UniqKey []byte }

// Note finds them in one pass; of one that comes twice the last counts. It does
// not allocate.
func Note(props []byte) (n Noted) {
	for len(props) > 0 {
		var item []byte
		item, props = NextProp(props)
		if len(item) < 6 {
			continue
		}
		switch {
		case item[4] == nameEnd && string(item[:4]) == PropTags:
			n.Tags = item[5:]
		case item[4] == nameEnd && string(item[:4]) == PropKeys:
			n.Keys = item[5:]
		case len(item) > 9 && item[8] == nameEnd && string(item[:8]) == PropUniqKey:
			n.UniqKey = item[9:]
		}
	}
	return n
}

// TagsCode is what a queue entry says of the message's tags: the Java hash of
// TAGS, sign-extended; 0 without tags.
func (n Noted) TagsCode() int64 {
	if n.Tags == nil {
		return 0
	}
	return int64(HashCode(n.Tags))
}

// TagsCode is Note(props).TagsCode().
func TagsCode(props []byte) int64 { return Note(props).TagsCode() }
