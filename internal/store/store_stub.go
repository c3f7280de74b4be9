package store

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"gomq/internal/message"
	"gomq/internal/watermark"
)

const (
	unitSize  = 20
	blankSize = 8
)

var errStub = errors.New("not yet")

// Store is the message store of a broker.
type Store struct {
	o Options
	// Appended, Durable, Dispatched and Indexed are log offsets that rise
	// (decisions.md, The spine).
	Appended, Durable, Dispatched, Indexed *watermark.Mark
}

// Queue is a message queue.
type Queue struct {
	s       *Store
	topic   string
	id      int32
	keyHash int32
}

// View holds the records that Get found.
type View struct{}

// Open opens or creates the store.
func Open(ctx context.Context, o Options, log *zap.Logger, reg prometheus.Registerer) (*Store, error) {
	return nil, errStub
}

// Close ends the store cleanly.
func (s *Store) Close() error { return errStub }

// Failed is closed when the store has failed stop.
func (s *Store) Failed() <-chan struct{} { return nil }

// Err is what the store failed with.
func (s *Store) Err() error { return errStub }

// Append stores a batch.
func (s *Store) Append(b *Batch, deadline time.Time, w watermark.Waiter) error { return errStub }

// CheckWritable says whether the store takes messages.
func (s *Store) CheckWritable() error { return errStub }

// LockHeld says how long the put lock has been held.
func (s *Store) LockHeld() time.Duration { return 0 }

// Undurable is the number of bytes appended and not yet durable.
func (s *Store) Undurable() int64 { return 0 }

// Queue returns a queue, made in memory if it is new.
func (s *Store) Queue(topic []byte, id int32) *Queue { return nil }

// Queues returns all queues.
func (s *Store) Queues() []*Queue { return nil }

// DropQueue forgets a topic's queues and removes their files.
func (s *Store) DropQueue(topic string) error { return errStub }

// Topic is the queue's topic.
func (q *Queue) Topic() string { return q.topic }

// ID is the queue's number.
func (q *Queue) ID() int32 { return q.id }

// Min is the first offset.
func (q *Queue) Min() int64 { return 0 }

// Max is one more than the last visible offset.
func (q *Queue) Max() int64 { return 0 }

// Get reads messages of a queue.
func (s *Store) Get(r GetRequest, res *GetResult) {}

// AppendTo appends the records to dst.
func (v *View) AppendTo(dst []byte) ([]byte, error) { return dst, nil }

// Release lets the View's files go.
func (v *View) Release() {}

// SearchTime finds the offset nearest to a store time.
func (s *Store) SearchTime(q *Queue, ms int64) int64 { return 0 }

// EarliestTime is the store time of the queue's first message, -1 if none.
func (s *Store) EarliestTime(q *Queue) int64 { return -1 }

// StoreTimeAt is the store time of the message at a queue offset, -1 if none.
func (s *Store) StoreTimeAt(q *Queue, off int64) int64 { return -1 }

// ReadRecord reads the record at a log offset.
func (s *Store) ReadRecord(offset int64) (message.Record, error) { return nil, errStub }

// Lookup finds records by key.
func (s *Store) Lookup(topic, key []byte, begin, end int64, max int) (offsets []int64, lastTime, lastOffset int64, err error) {
	return nil, 0, 0, errStub
}

// OnArrive sets who is told that a queue has grown.
func (s *Store) OnArrive(fn func(q *Queue, max int64)) {}

// MinOffset is the first offset of the log.
func (s *Store) MinOffset() int64 { return 0 }

// MaxOffset is the end of the log.
func (s *Store) MaxOffset() int64 { return 0 }
