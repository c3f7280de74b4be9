package store

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"sync"

	"gomq/internal/message"
	"gomq/internal/store/segment"
)

// maxQueueID bounds a queue's number: a topic's queues are a slice by number.
const maxQueueID = 1<<16 - 1

// ErrQueueGone is the error of an item whose queue was dropped after it had been
// staged.
var ErrQueueGone = errors.New("the topic has been deleted")

// queueTable finds queues by name.
type queueTable struct {
	mu     sync.RWMutex
	topics map[string][]*Queue // by number; nil where there is none
}

func (t *queueTable) get(topic []byte, id int32) *Queue {
	t.mu.RLock()
	var q *Queue
	if l := t.topics[string(topic)]; int(id) < len(l) {
		q = l[id]
	}
	t.mu.RUnlock()
	return q
}

// Queue returns a queue of a topic; one that is not there yet is made, in memory
// only until its first message. It is nil if there cannot be such a queue: the
// topic has no valid name or the number is not in 0..65535. It does not allocate
// for a queue that is there.
func (s *Store) Queue(topic []byte, id int32) *Queue {
	if id < 0 || id > maxQueueID {
		return nil
	}
	if q := s.queues.get(topic, id); q != nil {
		return q
	}
	if message.ValidTopic(string(topic)) != nil {
		return nil
	}
	return s.makeQueue(string(topic), id, segment.Found{})
}

func (s *Store) makeQueue(topic string, id int32, found segment.Found) *Queue {
	t := &s.queues
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.topics[topic]
	if int(id) < len(l) && l[id] != nil {
		return l[id]
	}
	if len(l) <= int(id) {
		l = append(l, make([]*Queue, int(id)+1-len(l))...)
		l = slices.Clip(l)
	}
	q := &Queue{s: s, topic: topic, id: id, found: found}
	if len(l) > 0 && id > 0 && l[0] != nil {
		q.topic, q.keyHash = l[0].topic, l[0].keyHash // one copy of the name
	} else {
		q.keyHash = message.HashMore(message.HashCode([]byte(topic)), []byte("#"))
	}
	if s.o.TagsCode != nil {
		q.tagsOf = s.o.TagsCode(q.topic)
	}
	l[id] = q
	t.topics[topic] = l
	return q
}

// Queues returns all queues that have been used, in no order.
func (s *Store) Queues() []*Queue {
	t := &s.queues
	t.mu.RLock()
	defer t.mu.RUnlock()
	var out []*Queue
	for _, l := range t.topics {
		for _, q := range l {
			if q != nil {
				out = append(out, q)
			}
		}
	}
	return out
}

// DropQueue forgets the queues of a topic and removes their files; the records
// stay in the log until they are too old. A topic of that name begins at 0 again.
func (s *Store) DropQueue(topic string) error {
	if err := message.ValidTopic(topic); err != nil {
		return err
	}
	if err := s.dropQueues(topic); err != nil {
		return fmt.Errorf("dropping the queues of %s: %w", topic, err)
	}
	// Written down at once, or the next unclean start would take the queues for
	// lost and make them again from the log.
	if err := s.saveCheckpoint(s.group.Context(), false); err != nil {
		s.fail(fmt.Errorf("the queues or the checkpoint could not be made durable: %w", err))
		return s.CheckWritable()
	}
	return nil
}

func (s *Store) dropQueues(topic string) error {
	// Nobody may append to the topic meanwhile: its directory goes.
	s.put.Lock()
	defer s.put.Unlock()
	if s.closing.Load() {
		return ErrClosed
	}
	t := &s.queues
	t.mu.Lock()
	l := t.topics[topic]
	delete(t.topics, topic)
	t.mu.Unlock()
	s.forget(l)
	if err := s.fs.RemoveAll(s.topicDir(topic)); err != nil {
		return err
	}
	return s.fs.SyncDir(s.o.ConsumeQueueDir)
}

// forget ends queues that are not in the table any more; nil ones are passed over.
// Held: the put lock.
func (s *Store) forget(list []*Queue) {
	s.hand.mu.Lock()
	for _, q := range list {
		if q != nil {
			q.gone.Store(true)
			s.hand.count.drop(q)
		}
	}
	s.hand.mu.Unlock()
	for _, q := range list {
		if q == nil {
			continue
		}
		q.max.Store(0)
		q.min.Store(0)
		if f := q.files.Load(); f != nil {
			f.Close()
		}
	}
}

// loadQueues finds the queues on the disk. The size that most of them have wins
// over the option. A queue whose files do not fit is returned in bad, with those
// that do before the first that does not: it has to be rebuilt.
func (s *Store) loadQueues() (bad []*Queue, err error) {
	root := s.o.ConsumeQueueDir
	topics, err := s.o.FS.ReadDir(root)
	if err != nil {
		return nil, err
	}
	type place struct {
		topic string
		id    int32
		found segment.Found
		bad   bool
	}
	var places []place
	sizes := map[int64]int{}
	for _, t := range topics {
		if !t.Dir || message.ValidTopic(t.Name) != nil {
			continue
		}
		ids, err := s.o.FS.ReadDir(filepath.Join(root, t.Name))
		if err != nil {
			return nil, err
		}
		for _, e := range ids {
			id, err := strconv.Atoi(e.Name)
			if !e.Dir || err != nil || id < 0 || id > maxQueueID || strconv.Itoa(id) != e.Name {
				continue // as the original does
			}
			found, err := segment.Scan(s.o.FS, filepath.Join(root, t.Name, e.Name), 0)
			var wrong *segment.WrongSizeError
			var gap *segment.GapError
			broken := errors.As(err, &wrong) || errors.As(err, &gap)
			if err != nil && !broken {
				return nil, err
			}
			if found.N > 0 && !broken {
				sizes[found.Size]++
			}
			places = append(places, place{t.Name, int32(id), found, broken})
		}
	}
	size, most := s.o.ConsumeQueueFileSize, 0
	for n, count := range sizes {
		if n%unitSize == 0 && (count > most || count == most && n == s.o.ConsumeQueueFileSize) {
			size, most = n, count
		}
	}
	s.o.ConsumeQueueFileSize, s.queueFiles.Size = size, size
	for _, p := range places {
		wrong := p.found.N > 0 && p.found.Size != size
		if wrong {
			p.found = segment.Found{Size: size}
		}
		if p.bad || wrong {
			bad = append(bad, s.makeQueue(p.topic, p.id, p.found))
			continue
		}
		s.makeQueue(p.topic, p.id, p.found)
	}
	return bad, nil
}
