// Package meta holds what a broker remembers about topics, groups and consumer
// offsets: tables with their own lock and their own file under config/.
package meta

import (
	"fmt"
	"time"

	"gomq/internal/message"
	"gomq/internal/protocol"
)

// Limits on what clients can create (reliability.md section 6).
const (
	MaxTopics = 50_000
	MaxGroups = 50_000
	MaxQueues = 1_024 // a topic; more only for the built-in BenchmarkTest
)

// Permission bits of a topic.
const (
	PermInherit = 1 // a template: unknown topics may be created after it
	PermWrite   = 2
	PermRead    = 4
)

// Topics is the table of topic configurations, kept in topics.json.
type Topics struct{ table[protocol.TopicConfig] }

// TopicDefaults says which built-in topics a broker has (behaviour.md 2.6).
type TopicDefaults struct {
	Cluster, Broker string
	ClusterPerm     bool // clusterTopicEnable
	BrokerPerm      bool // brokerTopicEnable
	AutoCreate      bool // autoCreateTopicEnable: TBW102 exists
	DefaultQueues   int32
	TraceTopic      string // created when not empty
}

// BuiltinTopics are the topics that exist from the start. Those in topics.json
// win over them, as in the original.
func (d TopicDefaults) BuiltinTopics() []protocol.TopicConfig {
	rw := int32(PermRead | PermWrite)
	perm := func(on bool) int32 {
		if on {
			return rw | PermInherit
		}
		return PermInherit
	}
	list := []protocol.TopicConfig{
		topic(message.TopicSelfTest, 1, rw),
		topic(message.TopicBenchmark, 1024, rw),
		topic(d.Cluster, 16, perm(d.ClusterPerm)),
		topic(d.Broker, 1, perm(d.BrokerPerm)),
		topic(message.TopicOffsetMoved, 1, rw),
		topic(message.TopicSchedule, 18, rw),
		topic(d.Cluster+message.ReplyTopicSuffix, 1, rw),
	}
	if d.AutoCreate {
		list = append(list, topic(message.TopicDefault, d.DefaultQueues, rw|PermInherit))
	}
	if d.TraceTopic != "" {
		list = append(list, topic(d.TraceTopic, 1, rw))
	}
	return list
}

func topic(name string, queues, perm int32) protocol.TopicConfig {
	return protocol.TopicConfig{TopicName: name, ReadQueueNums: queues, WriteQueueNums: queues, Perm: perm, TopicFilterType: "SINGLE_TAG"}
}

// LoadTopics reads the table from path and adds the built-in topics that it
// lacks.
func LoadTopics(path string, builtin []protocol.TopicConfig, now func() time.Time) (*Topics, error) {
	t := &Topics{table[protocol.TopicConfig]{file: file{path: path}, now: now, kind: "topic", limit: MaxTopics, pretty: protocol.PrettyTopicTable}}
	names := map[string]protocol.TopicConfig{}
	for _, c := range builtin {
		names[c.TopicName] = c
	}
	return t, t.load(func(data []byte) (map[string]protocol.TopicConfig, protocol.DataVersion, error) {
		entries, version, err := protocol.ParseTopicTable(data)
		for name := range entries { // a name becomes a directory
			if bad := message.ValidTopic(name); bad != nil && err == nil {
				err = fmt.Errorf("topic %q: %w", name, bad)
			}
		}
		return entries, version, err
	}, names)
}

// Put creates or replaces a topic and writes the file; when it returns nil the
// change is on disk.
func (t *Topics) Put(c protocol.TopicConfig) error {
	_, err := t.put(c, true)
	return err
}

// Create is Put for a topic that must not exist; when somebody else was faster
// it returns theirs.
func (t *Topics) Create(c protocol.TopicConfig) (*protocol.TopicConfig, error) {
	return t.put(c, false)
}

func (t *Topics) put(c protocol.TopicConfig, replace bool) (*protocol.TopicConfig, error) {
	if err := message.ValidTopic(c.TopicName); err != nil {
		return nil, err
	}
	if c.ReadQueueNums < 0 || c.WriteQueueNums < 0 || max(c.ReadQueueNums, c.WriteQueueNums) > MaxQueues {
		return nil, fmt.Errorf("topic %s: %d read and %d write queues, each must be between 0 and %d", c.TopicName, c.ReadQueueNums, c.WriteQueueNums, MaxQueues)
	}
	e, err := t.add(c.TopicName, c, replace)
	if err != nil {
		return nil, err
	}
	return e, t.Save()
}

// SetOrder marks exactly the topics of order as ordered, as a nameserver's
// answer to a registration asks (behaviour.md 2.5), and writes the file when
// that changed something.
func (t *Topics) SetOrder(order map[string]string) error {
	t.mu.Lock()
	changed := false
	for name, c := range t.entries {
		if _, want := order[name]; want != c.Order {
			n := *c
			n.Order = want
			t.entries[name] = &n
			changed = true
		}
	}
	if changed {
		t.bump()
	}
	t.mu.Unlock()
	return t.Save()
}
