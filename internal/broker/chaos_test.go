package broker

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"gomq/internal/chance"
	"gomq/internal/client"
	"gomq/internal/protocol"
)

// Producers and consumers of one topic go on undisturbed while another topic is
// made, filled, pulled, waited for and deleted, and clients come and go.
func TestEverythingAtOnce(t *testing.T) {
	seed := chance.Seed(t)
	for _, flush := range []FlushType{AsyncFlush, SyncFlush} {
		t.Run(string(flush), func(t *testing.T) {
			r := run(t, func(o *Options) { o.FlushDiskType = flush; o.BrokerFastFailureEnable = false })
			const producers, each, queues = 3, 60, 4
			r.create("Steady", queues)
			stop := make(chan struct{})
			var chaos, work sync.WaitGroup
			for i := range 3 {
				chaos.Add(1)
				rng := rand.New(rand.NewPCG(seed, uint64(i)))
				go func() {
					defer chaos.Done()
					r.disturb(rng, stop)
				}()
			}
			var mu sync.Mutex
			sent := map[string]bool{}
			for p := range producers {
				work.Add(1)
				c := r.client()
				go func() {
					defer work.Done()
					for i := range each {
						body := fmt.Sprintf("%d-%d", p, i)
						if _, err := c.Send(t.Context(), r.addr, sendHeader("Steady", int32(i%queues)), []byte(body)); err != nil {
							t.Errorf("sending: %v", err)
							return
						}
						mu.Lock()
						sent[body] = true
						mu.Unlock()
					}
				}()
			}
			got := make([][]string, queues)
			for q := range int32(queues) {
				work.Add(1)
				c := r.client()
				go func() {
					defer work.Done()
					got[q] = r.follow(c, "Steady", q, producers*each/queues)
				}()
			}
			work.Wait()
			close(stop)
			chaos.Wait()
			n := 0
			for q := range got {
				last := map[string]int{}
				for _, body := range got[q] {
					var p string
					var i int
					fmt.Sscanf(body, "%1s-%d", &p, &i)
					if prev, ok := last[p]; ok && i <= prev {
						t.Errorf("queue %d: %s after %d of the same producer", q, body, prev)
					}
					last[p] = i
					if !sent[body] {
						t.Errorf("%s was never acknowledged, or comes twice", body)
					}
					delete(sent, body)
					n++
				}
			}
			if n != producers*each {
				t.Errorf("%d of %d messages were pulled", n, producers*each)
			}
		})
	}
}

// follow long-polls a queue until it has seen n messages.
func (r *rig) follow(c *client.Client, topic string, q int32, n int) (bodies []string) {
	h := pullHeader("CG", topic, q, 0, "*")
	h.SysFlag |= protocol.PullSuspend | protocol.PullCommit
	h.SuspendMillis = 5_000
	for end := time.Now().Add(30 * time.Second); len(bodies) < n && time.Now().Before(end); {
		h.CommitOffset = h.QueueOffset
		p, err := c.Pull(context.Background(), r.addr, h)
		if err != nil {
			r.Errorf("pulling from queue %d: %v", q, err)
			return bodies
		}
		list, err := client.Records(p.Body)
		if err != nil {
			r.Errorf("queue %d at %d: %v", q, h.QueueOffset, err)
		}
		for _, m := range list {
			bodies = append(bodies, string(m.Body()))
		}
		h.QueueOffset = p.NextBeginOffset
	}
	return bodies
}

// disturb does what clients and tools do, at random, to a topic of its own; that
// some of it is refused is to be expected.
func (r *rig) disturb(rng *rand.Rand, stop <-chan struct{}) {
	ctx := context.Background()
	c := r.client()
	for i := 0; ; i++ {
		select {
		case <-stop:
			return
		default:
		}
		topic, queue := fmt.Sprint("Wild", rng.IntN(2)), rng.Int32N(3)
		switch rng.IntN(9) {
		case 0:
			_ = c.CreateTopic(ctx, r.addr, protocol.TopicConfig{TopicName: topic, ReadQueueNums: 3, WriteQueueNums: 3, Perm: 6, TopicFilterType: "SINGLE_TAG"})
		case 1:
			_ = c.DeleteTopic(ctx, r.addr, topic)
		case 2, 3:
			_, _ = c.Send(ctx, r.addr, sendHeader(topic, queue, "KEYS", "k", "TAGS", "A"), []byte("wild"))
		case 4:
			h := pullHeader("WG", topic, queue, rng.Int64N(5), "A")
			h.SysFlag |= protocol.PullSuspend
			h.SuspendMillis = 20
			_, _ = c.Pull(ctx, r.addr, h)
		case 5:
			_ = c.Beat(ctx, r.addr, beatOf(fmt.Sprint("c", rng.IntN(3)), "WG", topic))
		case 6:
			_ = c.Leave(ctx, r.addr, "c", "PG", "WG")
		case 7:
			_, _ = c.ConsumeStats(ctx, r.addr, "CG", "")
			_, _ = c.RuntimeInfo(ctx, r.addr)
			_, _ = r.reg.Gather()
		case 8:
			_ = c.Commit(ctx, r.addr, "WG", topic, queue, rng.Int64N(100))
			_ = c.DeleteGroup(ctx, r.addr, "WG", true)
		}
	}
}
