// Package meta holds what a broker remembers about topics, groups and consumer
// offsets: tables with their own lock and their own file under config/.
package meta

import (
	"fmt"
	"strings"
	"time"

	"gomq/internal/message"
	"gomq/internal/protocol"
)

// Permission bits of a topic.
const (
	PermInherit = 1 // a template: unknown topics may be created after it
	PermWrite   = 2
	PermRead    = 4
)

// Topics is the table of topic configurations, kept in topics.json.
type Topics struct {
	table[protocol.TopicConfig]
	limits TopicLimits
}

// TopicLimits say what may be created; they are asked each time, because they
// may change while the broker runs.
type TopicLimits struct {
	Topics func() int   // topics at most
	Queues func() int32 // read or write queues of one topic at most
}

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
// lacks. What the file has is kept whatever the limits say: it was created by a
// broker that had others.
func LoadTopics(path string, builtin []protocol.TopicConfig, limits TopicLimits, now func() time.Time) (*Topics, error) {
	t := &Topics{limits: limits}
	t.table = table[protocol.TopicConfig]{file: file{path: path}, now: now, kind: "topic", limit: limits.Topics, pretty: protocol.PrettyTopicTable}
	names := map[string]protocol.TopicConfig{}
	for _, c := range builtin {
		names[c.TopicName] = c
	}
	return t, t.load(func(data []byte) (map[string]protocol.TopicConfig, protocol.DataVersion, error) {
		entries, version, err := protocol.ParseTopicTable(data)
		for name := range entries {
			if !safeName(name) && err == nil {
				err = fmt.Errorf("the topic name %q cannot be the name of a directory", name)
			}
		}
		return entries, version, err
	}, names)
}

// OpenDeadLetters makes topics of dead letters readable that 4.5 made only for
// writing, so that nobody could read them without an administrator (behaviour.md
// section 8). It is a master's to do.
func (t *Topics) OpenDeadLetters() {
	t.mu.Lock()
	defer t.mu.Unlock()
	opened := false
	for name, c := range t.entries {
		if strings.HasPrefix(name, message.DLQPrefix) && c.Perm == PermWrite {
			n := *c
			n.Perm |= PermRead
			t.entries[name] = &n
			opened = true
		}
	}
	if opened {
		t.bump() // or nameservers would keep what they have
	}
}

// safeName says whether a topic that a file names may become a directory. It
// takes more than message.ValidTopic: a broker's own topic is named after its
// host and mostly has dots, and older brokers took every name.
func safeName(name string) bool {
	return name != "" && name != "." && name != ".." && len(name) <= message.MaxTopicLen && !strings.ContainsAny(name, "/\x00")
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

// Possible says what is wrong with the name or the queues of a topic to be.
func (t *Topics) Possible(c *protocol.TopicConfig) error {
	if err := message.ValidTopic(c.TopicName); err != nil {
		return err
	}
	if most := t.limits.Queues(); c.ReadQueueNums < 0 || c.WriteQueueNums < 0 || max(c.ReadQueueNums, c.WriteQueueNums) > most {
		return fmt.Errorf("topic %s: %d read and %d write queues, each must be between 0 and %d", c.TopicName, c.ReadQueueNums, c.WriteQueueNums, most)
	}
	return nil
}

func (t *Topics) put(c protocol.TopicConfig, replace bool) (*protocol.TopicConfig, error) {
	if err := t.Possible(&c); err != nil {
		return nil, err
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

// Take is table.Take for the topics of a master. Those that this broker could not
// serve are left out, and the error names one of them.
func (t *Topics) Take(entries map[string]protocol.TopicConfig, v protocol.DataVersion) (gone []string, err error) {
	const mostQueues = 1 << 16
	good := make(map[string]protocol.TopicConfig, len(entries))
	var bad error
	for name, c := range entries {
		switch {
		case !safeName(name) || c.TopicName != name:
			bad = fmt.Errorf("the master has a topic %.200q, which cannot be the name of a directory", name)
		case c.ReadQueueNums < 0 || c.WriteQueueNums < 0 || max(c.ReadQueueNums, c.WriteQueueNums) > mostQueues:
			bad = fmt.Errorf("the master has topic %s with %d read and %d write queues", name, c.ReadQueueNums, c.WriteQueueNums)
		default:
			good[name] = c
		}
	}
	if gone, err = t.table.Take(good, v); err == nil {
		err = bad
	}
	return gone, err
}

// Adopt adds a topic that a slave has messages of and its master has not told it of
// yet; the master's next table decides.
func (t *Topics) Adopt(name string, queues int32) error {
	if err := message.ValidTopic(name); err != nil {
		return err
	}
	_, err := t.add(name, topic(name, queues, PermRead|PermWrite), false)
	return err
}
