package protocol

// MessageQueue is a queue of a topic on a broker.
type MessageQueue struct {
	Topic, BrokerName string
	QueueID           int32
}

// LockBatch is the body of LOCK_BATCH_MQ (41) and UNLOCK_BATCH_MQ (42).
type LockBatch struct {
	Group    string // consumerGroup
	ClientID string
	Queues   []MessageQueue // mqSet
}

// ParseLockBatch reads the body of 41 or 42; without mqSet (C++ leaves out an
// empty one) there are no queues.
func ParseLockBatch(body []byte) (*LockBatch, error) {
	l := &LockBatch{}
	err := readClientBody("lock request", body, func(r *reader) {
		r.bean(func(name []byte) {
			switch string(name) {
			case "consumergroup":
				r.str(&l.Group)
			case "clientid":
				r.str(&l.ClientID)
			case "mqset":
				l.Queues = r.queues()
			}
		})
	})
	if err != nil {
		return nil, err
	}
	return l, nil
}

// Append appends the body.
func (l *LockBatch) Append(dst []byte) []byte {
	w := writer{b: dst}
	w.open('{')
	w.str("clientId", l.ClientID)
	w.str("consumerGroup", l.Group)
	w.queues("mqSet", l.Queues)
	w.end()
	return w.b
}

// LockedQueues is the body of the answer to 41: what is locked now.
type LockedQueues []MessageQueue

// ParseLockedQueues reads the body of the answer to 41.
func ParseLockedQueues(body []byte) (l LockedQueues, err error) {
	err = readBody("locked queues", body, func(r *reader) {
		r.bean(func(name []byte) {
			if string(name) == "lockokmqset" {
				l = r.queues()
			}
		})
	})
	if err != nil {
		return nil, err
	}
	return l, nil
}

// Append appends the body.
func (l LockedQueues) Append(dst []byte) []byte {
	w := writer{b: dst}
	w.open('{')
	w.queues("lockOKMQSet", l)
	w.end()
	return w.b
}

func (r *reader) queue(q *MessageQueue) {
	r.bean(func(name []byte) {
		switch string(name) {
		case "topic":
			r.str(&q.Topic)
		case "brokername":
			r.str(&q.BrokerName)
		case "queueid":
			r.int32(&q.QueueID)
		}
	})
}

// queueKey reads a queue that is a map's key: its text as table gives it.
func (r *reader) queueKey(key []byte, q *MessageQueue) {
	if err := readBody("queue", key, func(r *reader) { r.queue(q) }); err != nil {
		r.fail("the key %.80q: %v", key, err)
	}
}

func (r *reader) queues() (list []MessageQueue) {
	r.list(func() {
		var q MessageQueue
		r.queue(&q)
		if q.Topic != "" {
			list = append(list, q)
		}
	})
	return list
}

func (w *writer) queue(q *MessageQueue) {
	w.open('{')
	w.str("brokerName", q.BrokerName)
	w.int("queueId", int64(q.QueueID))
	w.str("topic", q.Topic)
	w.end()
}

func (w *writer) queues(name string, list []MessageQueue) {
	w.key(name)
	w.open('[')
	for i := range list {
		w.item()
		w.queue(&list[i])
	}
	w.endList()
}
