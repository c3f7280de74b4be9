package goclient

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	rocketmq "github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/apache/rocketmq-client-go/v2/producer"

	"gomq/test/checker"
	"gomq/test/harness"
)

// Stream is what producers send one message after the other while other things
// happen, and what groups get of it, recorded in a run.
type Stream struct {
	Run   *checker.Run
	Topic string
	// Place makes the queues of several brokers different ones to the checker; nil:
	// there is one broker.
	Place func(broker string, queue int) int
	// Told, if not nil, is told what became of each send.
	Told func(*primitive.SendResult, error)

	OK     atomic.Int64 // sends that were told SEND_OK
	Failed atomic.Int64 // sends without an answer
	last   atomic.Value // the error of one of those
}

func (s *Stream) place(q *primitive.MessageQueue) int {
	if s.Place == nil {
		return q.QueueId
	}
	return s.Place(q.BrokerName, q.QueueId)
}

// Start starts a producer that sends until the returned function is called or the test
// ends: each message once, and what the client does by itself. id is the producer's
// number to the checker.
func (s *Stream) Start(t testing.TB, namesrv string, id int, opts ...producer.Option) (stop func()) {
	t.Helper()
	p := Producer(t, namesrv, fmt.Sprint("pg-stream-", id), opts...)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); s.send(ctx, p, id) }()
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	return stop
}

func (s *Stream) send(ctx context.Context, p rocketmq.Producer, id int) {
	for seq := int64(0); ctx.Err() == nil; seq++ {
		m := s.Run.Begin(checker.Attempt{ID: checker.ID{Producer: id, Seq: seq}, N: 1}, s.Topic, -1, 200)
		limit, cancel := context.WithTimeout(context.Background(), 15*time.Second)
		res, err := p.SendSync(limit, Message(m, ""))
		cancel()
		switch {
		case err != nil:
			s.last.Store(err.Error())
			s.Failed.Add(1)
			s.Run.Unknown(m, err.Error())
		case res.Status == primitive.SendOK:
			s.OK.Add(1)
			s.Run.Acked(m, s.place(res.MessageQueue), res.QueueOffset, res.OffsetMsgID)
		default:
			s.Run.Unknown(m, fmt.Sprint("status ", res.Status))
		}
		if s.Told != nil {
			s.Told(res, err)
		}
		time.Sleep(5 * time.Millisecond) // a producer with a pace, not a flood
	}
}

// More waits until so many more messages have been acknowledged.
func (s *Stream) More(t testing.TB, n int64, limit time.Duration) {
	t.Helper()
	goal := s.OK.Load() + n
	harness.Eventually(t, limit, fmt.Sprintf("%d more messages acknowledged", n), func() bool { return s.OK.Load() >= goal })
}

// Unharmed fails when a send had no answer since the last call.
func (s *Stream) Unharmed(t testing.TB, when string) {
	t.Helper()
	if n := s.Failed.Swap(0); n > 0 {
		t.Errorf("%s: %d sends failed after the client's retries, one with %v", when, n, s.last.Load())
	}
}

// Collect is what a consumer of the group calls: it records what it gets.
func (s *Stream) Collect(group string) Handler { return collect(s.Run, group, s.place) }

// Collect is a handler that records what a group gets of one broker.
func Collect(run *checker.Run, group string) Handler {
	return collect(run, group, func(q *primitive.MessageQueue) int { return q.QueueId })
}

func collect(run *checker.Run, group string, place func(*primitive.MessageQueue) int) Handler {
	return func(_ context.Context, msgs ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
		for _, m := range msgs {
			r := Record(m)
			r.Queue = place(m.Queue)
			run.Polled(group, r)
		}
		return consumer.ConsumeSuccess, nil
	}
}

// Got waits until a group has everything that was acknowledged until now.
func (s *Stream) Got(t testing.TB, group string, limit time.Duration) {
	t.Helper()
	acks := s.Run.Acks()
	var missing []checker.Event
	defer func() {
		if len(missing) > 0 {
			t.Logf("group %s lacks %d of %d, the first is %v, the last %v", group, len(missing), len(acks), missing[0], missing[len(missing)-1])
		}
	}()
	harness.Eventually(t, limit, "group "+group+" has everything that was acknowledged", func() bool {
		has := map[checker.Attempt]bool{}
		for _, e := range s.Run.Events() {
			if e.Op == checker.OpPoll && e.Group == group {
				has[e.Attempt] = true
			}
		}
		missing = missing[:0]
		for _, a := range acks {
			if !has[a.Attempt] {
				missing = append(missing, a)
			}
		}
		return len(missing) == 0
	})
}
