package broker

import (
	"sync"
	"time"

	"gomq/internal/message"
	"gomq/internal/protocol"
	"gomq/internal/remoting"
)

const (
	// lockLease is how long a queue stays locked without being locked again
	// (behaviour.md section 10; clients renew every 20 s).
	lockLease = 60 * time.Second
	// maxLocks bounds the locks kept; those that have run out go first.
	maxLocks = 200_000
)

// lockDesk gives the queues of an ordered group to one client at a time:
// LOCK_BATCH_MQ (41), UNLOCK_BATCH_MQ (42). It has one mutex.
type lockDesk struct {
	now func() time.Time

	mu    sync.Mutex
	locks map[lockKey]queueLock
	swept time.Time // when locks that had run out were last looked for
}

type lockKey struct {
	group string
	queue protocol.MessageQueue
}

type queueLock struct {
	client string
	until  time.Time
}

func newLockDesk(now func() time.Time) *lockDesk {
	return &lockDesk{now: now, locks: map[lockKey]queueLock{}}
}

// lock is LOCK_BATCH_MQ: the answer lists what the client holds now.
func (s *lockDesk) lock(c *remoting.Call) (remoting.Response, error) {
	req, err := parseLocks(c)
	if err != nil {
		return remoting.Response{}, err
	}
	granted := protocol.LockedQueues{}
	now := s.now()
	s.mu.Lock()
	for _, q := range req.Queues {
		if s.take(lockKey{req.Group, q}, req.ClientID, now) {
			granted = append(granted, q)
		}
	}
	s.mu.Unlock()
	return remoting.Response{Body: granted.Append(nil)}, nil
}

// take grants or renews one lock. Held: mu.
func (s *lockDesk) take(k lockKey, client string, now time.Time) bool {
	l, ok := s.locks[k]
	if ok && l.client != client && now.Before(l.until) {
		return false
	}
	if !ok && len(s.locks) >= maxLocks {
		if now.Sub(s.swept) > time.Second {
			s.swept = now
			for k, l := range s.locks {
				if !now.Before(l.until) {
					delete(s.locks, k)
				}
			}
		}
		if len(s.locks) >= maxLocks {
			return false
		}
	}
	s.locks[k] = queueLock{client, now.Add(lockLease)}
	return true
}

// unlock is UNLOCK_BATCH_MQ: only the client's own locks go.
func (s *lockDesk) unlock(c *remoting.Call) (remoting.Response, error) {
	req, err := parseLocks(c)
	if err != nil {
		return remoting.Response{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, q := range req.Queues {
		k := lockKey{req.Group, q}
		if s.locks[k].client == req.ClientID {
			delete(s.locks, k)
		}
	}
	return remoting.Response{}, nil
}

// parseLocks reads a request and refuses names that would only fill the table.
func parseLocks(c *remoting.Call) (*protocol.LockBatch, error) {
	req, err := protocol.ParseLockBatch(c.Req.Body)
	if err != nil {
		return nil, refuse(protocol.SystemError, "the request does not parse: %s", err)
	}
	if err := message.ValidGroup(req.Group); err != nil {
		return nil, refuse(protocol.SystemError, "%s", err)
	}
	if len(req.ClientID) > maxClientID {
		return nil, refuse(protocol.SystemError, "the client id has %d bytes, at most %d are possible", len(req.ClientID), maxClientID)
	}
	for _, q := range req.Queues {
		if len(q.Topic) > message.MaxTopicLen || len(q.BrokerName) > message.MaxTopicLen {
			return nil, refuse(protocol.SystemError, "the names of a queue are longer than %d characters", message.MaxTopicLen)
		}
	}
	return req, nil
}
