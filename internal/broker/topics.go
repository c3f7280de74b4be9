package broker

import (
	"net/netip"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"gomq/internal/broker/meta"
	"gomq/internal/config"
	"gomq/internal/message"
	"gomq/internal/protocol"
	"gomq/internal/remoting"
)

// topicWish is a topic that a send found missing.
type topicWish struct {
	name     string
	template string // defaultTopic of the request
	queues   int32  // defaultTopicQueueNums
	unit     bool
	own      bool // the broker itself needs it (dead letters): one queue, no template asked for
	from     netip.Addr
}

// topicMaker creates topics away from the connections' readers: a creation
// writes a file and waits for nameservers.
type topicMaker struct {
	live   *config.Live[Options]
	log    *zap.Logger
	topics *meta.Topics
	lane   *remoting.Lane
	names  *registrar
	stats  *stats
	rate   newTopicRate
}

// submit has the topic created in the lane and then calls then there, with why it
// was not created. false: the lane is full.
func (m *topicMaker) submit(c *remoting.Call, want topicWish, then func(*remoting.Call, error)) bool {
	return m.lane.Submit(c, func(c *remoting.Call) { then(c, m.make(want)) })
}

// make creates the topic by the rules of behaviour.md 2.7.
func (m *topicMaker) make(want topicWish) error {
	if m.topics.Get([]byte(want.name)) != nil {
		return nil // the request before this one wanted it too
	}
	o := m.live.Load()
	c, ok := m.inherit(want, o)
	if !ok {
		return refuse(protocol.TopicNotExist, "topic[%s] not exist, apply first please!%s", want.name, faq)
	}
	if !want.own {
		if err := m.admit(want.from, o); err != nil {
			return err
		}
	}
	if want.own || !copied(want.name, o) {
		return m.create(c, true)
	}
	copies := m.names.spread(c)
	err := m.create(c, true)
	<-copies
	return err
}

// admit refuses a new topic to an address that has had too many made.
func (m *topicMaker) admit(from netip.Addr, o *Options) error {
	if m.rate.take(from, o.MaxNewTopicsPerSecond, o.MaxNewTopicsBurst, time.Now()) {
		return nil
	}
	return busy("[OVERLOAD]system busy, start flow control for a while", "too many new topics from this address, see maxNewTopicsPerSecond and maxNewTopicsBurst")
}

// create stores the topic and tells the nameservers; wait says whether to wait
// for those that answer, so that a client finds the route it is about to ask for.
func (m *topicMaker) create(c protocol.TopicConfig, wait bool) error {
	begun := m.stats.now()
	made, err := m.topics.Create(c)
	m.stats.made(false, c.TopicName, begun, err, m.live.Load())
	if err != nil {
		return tableError(err)
	}
	m.log.Info("topic created", zap.String("topic", made.TopicName), zap.Int32("queues", made.WriteQueueNums))
	m.names.announce(wait)
	return nil
}

// retryTopic is a group's topic of retries, which is created when it is missing.
// What is refused because one address asks for too many is created by who asks
// later.
func (m *topicMaker) retryTopic(g *protocol.GroupConfig, unit bool, from netip.Addr, o *Options) (*protocol.TopicConfig, error) {
	name := message.RetryTopic(g.GroupName)
	if t := m.topics.Get([]byte(name)); t != nil {
		return t, nil
	}
	if err := m.admit(from, o); err != nil {
		return nil, err
	}
	c := protocol.TopicConfig{TopicName: name, ReadQueueNums: g.RetryQueueNums, WriteQueueNums: g.RetryQueueNums, Perm: meta.PermRead | meta.PermWrite, TopicFilterType: "SINGLE_TAG"}
	if unit {
		c.TopicSysFlag = topicUnitSub
	}
	if err := m.create(c, false); err != nil {
		return nil, err
	}
	return &c, nil
}

// inherit is the topic that want gets from its template; false when there is no
// template for it.
func (m *topicMaker) inherit(want topicWish, o *Options) (protocol.TopicConfig, bool) {
	c := protocol.TopicConfig{TopicName: want.name, ReadQueueNums: 1, WriteQueueNums: 1, Perm: meta.PermRead | meta.PermWrite, TopicFilterType: "SINGLE_TAG"}
	if want.unit {
		c.TopicSysFlag = topicUnit
	}
	t := m.topics.Get([]byte(want.template))
	allowed := t != nil && t.Perm&meta.PermInherit != 0 && (want.template != message.TopicDefault || o.AutoCreateTopicEnable)
	switch {
	case want.own:
		return c, true
	case allowed:
		queues := max(min(want.queues, t.WriteQueueNums), 0)
		c.ReadQueueNums, c.WriteQueueNums = queues, queues
		c.Perm, c.TopicFilterType = t.Perm&^meta.PermInherit, t.TopicFilterType
		return c, true
	}
	return c, strings.HasPrefix(want.name, message.RetryPrefix)
}

// The bits of TopicConfig.TopicSysFlag (wire.md section 20).
const (
	topicUnit    = 1
	topicUnitSub = 2
)

// newTopicRate limits how fast one address may have topics created by sending. It
// has one mutex.
type newTopicRate struct {
	mu      sync.Mutex
	buckets map[netip.Addr]*bucket
}

type bucket struct {
	tokens float64
	at     time.Time
}

// maxBuckets bounds the addresses remembered; the full ones are forgotten first.
const maxBuckets = 10_000

// take says whether one more topic may be created now.
func (r *newTopicRate) take(from netip.Addr, perSecond, burst int, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.buckets == nil {
		r.buckets = map[netip.Addr]*bucket{}
	}
	b := r.buckets[from]
	if b == nil {
		if len(r.buckets) >= maxBuckets {
			r.forget(perSecond, burst, now)
		}
		b = &bucket{tokens: float64(burst), at: now}
		r.buckets[from] = b
	}
	b.tokens = min(b.tokens+now.Sub(b.at).Seconds()*float64(perSecond), float64(burst))
	b.at = now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

// forget drops the buckets that are full again, or all of them when there are
// none such. Held: mu.
func (r *newTopicRate) forget(perSecond, burst int, now time.Time) {
	for a, b := range r.buckets {
		if b.tokens+now.Sub(b.at).Seconds()*float64(perSecond) >= float64(burst) {
			delete(r.buckets, a)
		}
	}
	if len(r.buckets) >= maxBuckets {
		clear(r.buckets)
	}
}
