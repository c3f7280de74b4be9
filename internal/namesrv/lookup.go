package namesrv

import (
	"slices"

	"gomq/internal/protocol"
)

// route is the encoded answer to who serves a topic, nil when nobody does. It is
// encoded once for each state of the topic and form, and must not be written to.
func (t *table) route(name string, standard bool) []byte {
	form := 0
	if standard {
		form = 1
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	tp := t.topics[name]
	if tp == nil {
		return nil
	}
	if a := tp.answers[form].Load(); a != nil && a.epoch == t.epoch {
		return a.body
	}
	// Several readers may do this at once; they come to the same bytes.
	a := &answer{t.epoch, t.routeData(name, tp).Append(nil, standard)}
	tp.answers[form].Store(a)
	return a.body
}

// routeData is the answer before it is encoded, names sorted. Held: mu, for
// reading at least.
func (t *table) routeData(name string, tp *topic) *protocol.RouteData {
	r := &protocol.RouteData{OrderTopicConf: t.orders[name], FilterServers: map[string][]string{}}
	for _, brokerName := range sortedKeys(tp.queues) {
		s := t.sets[brokerName]
		r.Queues = append(r.Queues, tp.queues[brokerName])
		r.Brokers = append(r.Brokers, s.data())
		for _, addr := range s.addrs {
			if f := t.live[addr].filters; len(f) > 0 {
				r.FilterServers[addr] = f
			}
		}
	}
	return r
}

// data is the set as clients are told of it. It shares the set's map.
func (s *set) data() protocol.BrokerData {
	return protocol.BrokerData{Cluster: s.cluster, BrokerName: s.name, Addrs: s.addrs}
}

// clusterInfo is the encoded list of all brokers.
func (t *table) clusterInfo() []byte {
	t.mu.RLock()
	defer t.mu.RUnlock()
	info := protocol.ClusterInfo{Brokers: map[string]protocol.BrokerData{}, Clusters: map[string][]string{}}
	for name, s := range t.sets {
		info.Brokers[name] = s.data()
		info.Clusters[s.cluster] = append(info.Clusters[s.cluster], name)
	}
	return info.Append(nil)
}

// topicNames lists the topics that match, sorted (nil: all). match is called with
// mu held.
func (t *table) topicNames(match func(*topic) bool) []string {
	t.mu.RLock()
	defer t.mu.RUnlock()
	names := make([]string, 0, len(t.topics))
	for name, tp := range t.topics {
		if match == nil || match(tp) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// topicsOf lists the topics of a cluster's brokers, sorted.
func (t *table) topicsOf(cluster string) []string {
	return t.topicNames(func(tp *topic) bool {
		for brokerName := range tp.queues {
			if t.sets[brokerName].cluster == cluster {
				return true
			}
		}
		return false
	})
}

// The bits of a topic's sysFlag.
const (
	flagUnit    = 1
	flagUnitSub = 2
)

// withFlags lists the topics whose sysFlag has the bits of want and none of
// without. As in the original one broker speaks for all: the first by name.
func (t *table) withFlags(want, without int32) []string {
	return t.topicNames(func(tp *topic) bool {
		f := tp.queues[sortedKeys(tp.queues)[0]].TopicSysFlag
		return f&want == want && f&without == 0
	})
}

// systemTopics is the names of clusters and brokers, which are topics, and a
// broker that knows the rest ("" when there is none).
func (t *table) systemTopics() protocol.TopicList {
	t.mu.RLock()
	defer t.mu.RUnlock()
	names := map[string]struct{}{}
	var list protocol.TopicList
	for _, name := range sortedKeys(t.sets) {
		s := t.sets[name]
		names[name], names[s.cluster] = struct{}{}, struct{}{}
		if list.BrokerAddr == "" {
			list.BrokerAddr = s.addrs[slices.Min(keys(s.addrs))]
		}
	}
	list.Topics = sortedKeys(names)
	return list
}

// setPerm changes the permission of all topics of a broker name and returns how
// many it has.
func (t *table) setPerm(brokerName string, change func(perm int32) int32) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.sets[brokerName]
	if s == nil {
		return 0
	}
	for name := range s.topics {
		tp := t.topics[name]
		q := tp.queues[brokerName]
		q.Perm = change(q.Perm)
		tp.put(q)
	}
	return len(s.topics)
}

// deleteTopic forgets a topic, of one cluster's brokers only unless that is "".
// A broker that still has it brings it back when its topics change.
func (t *table) deleteTopic(name, cluster string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	tp := t.topics[name]
	if tp == nil {
		return
	}
	for brokerName := range tp.queues {
		if s := t.sets[brokerName]; cluster == "" || s.cluster == cluster {
			t.leave(name, s)
		}
	}
}

// size is how many brokers and topics there are.
func (t *table) size() (brokers, topics int) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return len(t.live), len(t.topics)
}

func keys[K comparable, V any](m map[K]V) []K {
	all := make([]K, 0, len(m))
	for k := range m {
		all = append(all, k)
	}
	return all
}

func sortedKeys[V any](m map[string]V) []string {
	all := keys(m)
	slices.Sort(all)
	return all
}
