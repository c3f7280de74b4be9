package broker

import (
	"context"
	"errors"
	"strings"
	"sync"

	"go.uber.org/zap"

	"gomq/internal/message"
	"gomq/internal/protocol"
)

// maxMasters bounds how many other masters are given a topic; a nameserver that
// names more is not believed.
const maxMasters = 256

// copied says whether a topic that a send has created is created on the other
// masters of the cluster too. Retries, dead letters and the system's own topics
// belong to one broker.
func copied(name string, o *Options) bool {
	return !strings.HasPrefix(name, message.RetryPrefix) && !strings.HasPrefix(name, message.DLQPrefix) && !systemTopic(name, o)
}

// spread gives a topic that a send creates here to the other living masters of the
// cluster, so that producers have somewhere to go when this one dies
// (decisions.md, Topics). A master that has the topic keeps its own, and a copy is
// not copied on: only a send starts one. The channel is closed when all have
// answered, at the latest after announceWait; whoever did not is named in the log
// and makes the topic when a send asks it to.
func (r *registrar) spread(c protocol.TopicConfig) <-chan struct{} {
	done := make(chan struct{})
	run := func(ctx context.Context) error {
		defer close(done)
		ctx, cancel := context.WithTimeout(ctx, announceWait)
		defer cancel()
		r.spreadTo(ctx, r.mastersWithout(ctx, c.TopicName), c)
		return nil
	}
	if len(r.servers) == 0 || !r.group.Go("copies of topic "+c.TopicName, run) {
		close(done)
	}
	return done
}

// spreadTo creates the topic at each of the addresses and waits for all.
func (r *registrar) spreadTo(ctx context.Context, addrs []string, c protocol.TopicConfig) {
	var all sync.WaitGroup
	for _, addr := range addrs {
		all.Add(1)
		one := func(context.Context) error {
			defer all.Done()
			if err := r.client.CreateTopicIfMissing(ctx, addr, c); err != nil {
				r.log.Warn("another master of the cluster did not create the topic", zap.String("topic", c.TopicName), zap.String("master", addr), zap.Error(err))
			}
			return nil
		}
		if !r.group.Go("copy of topic "+c.TopicName+" to "+addr, one) {
			all.Done()
		}
	}
	all.Wait()
}

// mastersWithout are the addresses of the cluster's other masters that do not
// serve the topic, as far as nameservers know.
func (r *registrar) mastersWithout(ctx context.Context, topic string) []string {
	o := r.live.Load()
	names := r.reached() // one that is away would use up the time
	info, err := (*protocol.ClusterInfo)(nil), errors.New("none of them answers")
	if len(names.Addrs()) > 0 {
		info, err = names.ClusterInfo(ctx)
	}
	if err != nil {
		r.log.Warn("the topic is created on this broker only: no nameserver tells the others", zap.String("topic", topic), zap.Error(err))
		return nil
	}
	serve := map[string]bool{o.BrokerName: true}
	if route, err := names.Route(ctx, topic); err == nil {
		for i := range route.Queues {
			serve[route.Queues[i].BrokerName] = true
		}
	}
	var addrs []string
	for _, name := range info.Clusters[o.BrokerClusterName] {
		addr := info.Brokers[name].Addrs[0]
		if serve[name] || addr == "" || addr == brokerAddr(o) {
			continue
		}
		if addrs = append(addrs, addr); len(addrs) >= maxMasters {
			break
		}
	}
	return addrs
}
