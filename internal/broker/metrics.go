package broker

import (
	"net"
	"strings"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"gomq/internal/broker/clients"
	"gomq/internal/message"
	"gomq/internal/remoting"
	"gomq/internal/store"
)

// collector gives the broker's metrics under the names of RocketMQ 5
// (metrics.md), and gomq's own where that has none. Everything is read when it is
// asked for; the counters are those of stats.
type collector struct {
	b    *Broker
	desc map[string]*prometheus.Desc
}

// maxLagPairs bounds the (topic, group) pairs whose lag is reported.
const maxLagPairs = 10_000

// maxLagLooks bounds the messages that one collection looks at for their age.
const maxLagLooks = 5_000

// metricLabels are the metrics and their labels.
var metricLabels = []struct {
	name, help string
	labels     []string
}{
	{"rocketmq_broker_permission", "Permission of the broker: 2 write, 4 read.", nil},
	{"rocketmq_topic_number", "Topics.", nil},
	{"rocketmq_consumer_group_number", "Consumer groups.", nil},
	{"rocketmq_processor_watermark", "Requests that wait for a worker, by lane.", []string{"processor"}},
	{"rocketmq_messages_in_total", "Messages stored.", []string{"topic", "message_type", "is_system"}},
	{"rocketmq_throughput_in_total", "Bytes of the records stored.", []string{"topic", "message_type", "is_system"}},
	{"rocketmq_message_size", "Bytes of the records stored, by message.", []string{"topic", "message_type", "is_system"}},
	{"rocketmq_messages_out_total", "Messages pulled.", []string{"topic", "consumer_group", "is_system", "is_retry"}},
	{"rocketmq_throughput_out_total", "Bytes of the records pulled.", []string{"topic", "consumer_group", "is_system", "is_retry"}},
	{"rocketmq_producer_connections", "Connections of producers.", []string{"language", "version", "protocol_type"}},
	{"rocketmq_consumer_connections", "Connections of consumers.", []string{"consumer_group", "language", "version", "consume_mode", "protocol_type", "is_system"}},
	{"rocketmq_consumer_lag_messages", "Messages stored and not yet committed by the group.", []string{"consumer_group", "topic", "is_retry", "is_system"}},
	{"rocketmq_consumer_lag_latency", "Age in milliseconds of the oldest message that the group has not committed; 0 without any.", []string{"consumer_group", "topic", "is_retry", "is_system"}},
	{"rocketmq_consumer_inflight_messages", "Messages pulled by the group and not yet committed, by what was pulled since the broker began.", []string{"consumer_group", "topic", "is_retry", "is_system"}},
	{"rocketmq_consumer_ready_messages", "Messages stored and not yet pulled by the group.", []string{"consumer_group", "topic", "is_retry", "is_system"}},
	{"rocketmq_consumer_queueing_latency", "Age in milliseconds of the oldest message that the group has not pulled; 0 without any.", []string{"consumer_group", "topic", "is_retry", "is_system"}},
	{"rocketmq_topic_create_execution_time", "Milliseconds that the creation or the change of a topic took.", []string{"invocation_status", "is_system"}},
	{"rocketmq_consumer_group_create_execution_time", "Milliseconds that the creation or the change of a group by request took.", []string{"invocation_status", "is_system"}},
	{"rocketmq_send_to_dlq_messages_total", "Messages that became dead letters of the group, by the topic they were first sent to.", []string{"consumer_group", "topic", "is_system"}},
	{"rocketmq_commit_messages_total", "Transactions committed, by the topic of their messages.", []string{"topic"}},
	{"rocketmq_rollback_messages_total", "Transactions rolled back, by the topic of their messages.", []string{"topic"}},
	{"rocketmq_finish_message_latency", "Milliseconds from a half message to the end of its transaction.", []string{"topic"}},
	{"gomq_transactions_open", "Half messages that the checks have not passed yet; some may have ended.", nil},
	{"gomq_transaction_checks_total", "Half messages that a round of checks found open: asked, unasked (no producer connected), immune, aside (asked too often).", []string{"result"}},
	{"gomq_delay_waiting_messages", "Delayed messages that are not delivered yet, by level.", []string{"level"}},
	{"gomq_delay_overdue_seconds", "How long the next message of the level has been due; 0 when it is not.", []string{"level"}},
	{"gomq_parked_pulls", "Pulls that wait for a message.", nil},
	{"gomq_sends_waiting", "Sends that wait for the disk or a slave.", nil},
	{"gomq_consumer_group_subscriptions", "Different subscriptions among the clients of a group; only groups with more than one.", []string{"consumer_group"}},
	{"gomq_ha_role", "1 for the role that the broker has.", []string{"role"}},
	{"gomq_ha_in_sync_replicas", "Slaves that count for SYNC_MASTER, are connected and within haSlaveFallbehindMax.", nil},
	{"gomq_ha_replicated_offset_bytes", "End of the log that a slave that counts has acknowledged.", nil},
	{"gomq_ha_acked_offset_bytes", "End of the log that a connected slave has acknowledged.", []string{"replica", "counted"}},
	{"gomq_ha_lag_bytes", "How far a slave is behind: on a master each that is connected, on a slave itself as far as it knows.", []string{"replica", "counted"}},
	{"gomq_ha_lag_messages", "How many messages a connected slave has not acknowledged.", []string{"replica", "counted"}},
	{"gomq_ha_last_ack_timestamp_seconds", "When a connected slave has acknowledged last.", []string{"replica", "counted"}},
	{"gomq_ha_connected", "On a slave 1 while it is connected to its master.", nil},
	{"gomq_ha_tables_timestamp_seconds", "On a slave, when it took topics, groups and offsets from its master last.", nil},
	{"gomq_ha_stopped", "On a slave 1 when it does not follow its master until an operator has chosen.", nil},
	{"gomq_nameserver_up", "1: the nameserver has taken the last registration.", []string{"nameserver"}},
}

// nodeLabels are what all of RocketMQ 5's metrics carry.
func nodeLabels(o *Options) prometheus.Labels {
	return prometheus.Labels{"cluster": o.BrokerClusterName, "node_type": "broker", "node_id": o.BrokerName}
}

func newCollector(b *Broker) *collector {
	o := b.live.Load()
	c := &collector{b: b, desc: map[string]*prometheus.Desc{}}
	for _, m := range metricLabels {
		c.desc[m.name] = prometheus.NewDesc(m.name, m.help, m.labels, nodeLabels(o))
	}
	return c
}

// Describe is part of prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range c.desc {
		ch <- d
	}
}

// Collect is part of prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	b := c.b
	gauge := func(name string, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(c.desc[name], prometheus.GaugeValue, v, labels...)
	}
	gauge("rocketmq_broker_permission", float64(b.live.Load().BrokerPermission))
	gauge("rocketmq_topic_number", float64(b.topics.Len()))
	gauge("rocketmq_consumer_group_number", float64(b.groups.Len()))
	b.lanes.each(func(name string, lane *remoting.Lane) {
		gauge("rocketmq_processor_watermark", float64(lane.Waiting()), name)
	})
	gauge("rocketmq_processor_watermark", float64(b.send.waiting.Load()), "send")
	gauge("gomq_parked_pulls", float64(b.pull.held.Len()))
	gauge("gomq_sends_waiting", float64(b.send.waiting.Load()))
	for _, n := range b.names.servers {
		n.mu.Lock()
		up := n.up
		n.mu.Unlock()
		gauge("gomq_nameserver_up", float64(btoi(up)), n.addr)
	}
	for group, ways := range b.consumers.Differing() {
		gauge("gomq_consumer_group_subscriptions", float64(ways), group)
	}
	c.replication(gauge)
	b.delays.progress(func(level int, next, max int64) {
		gauge("gomq_delay_waiting_messages", float64(max-next), num(int64(level)))
		gauge("gomq_delay_overdue_seconds", b.delays.overdue(level).Seconds(), num(int64(level)))
	})
	gauge("gomq_transactions_open", float64(b.trans.desk.Open()))
	for result, n := range map[string]*atomic.Int64{"asked": &b.trans.checks.asked, "unasked": &b.trans.checks.unasked, "immune": &b.trans.checks.immune, "aside": &b.trans.checks.aside} {
		ch <- prometheus.MustNewConstMetric(c.desc["gomq_transaction_checks_total"], prometheus.CounterValue, float64(n.Load()), result)
	}
	c.traffic(ch)
	c.connections(gauge)
	c.lag(gauge)
	c.creations(ch)
}

func btoi(v bool) int32 {
	if v {
		return 1
	}
	return 0
}

func yesNo(v bool) string {
	if v {
		return "true"
	}
	return "false"
}

func (c *collector) isSystem(topic string) string { return yesNo(systemTopic(topic, c.b.live.Load())) }

func systemGroup(group string) bool { return strings.HasPrefix(group, "CID_RMQ_SYS_") }

func isRetry(topic string) string { return yesNo(strings.HasPrefix(topic, message.RetryPrefix)) }

// replication says how the set keeps its copies.
func (c *collector) replication(gauge func(string, float64, ...string)) {
	o := c.b.live.Load()
	gauge("gomq_ha_role", 1, string(o.BrokerRole))
	end := c.b.store.MaxOffset()
	if st, slave := c.b.replicaState(); slave {
		gauge("gomq_ha_connected", float64(btoi(st.Connected)))
		gauge("gomq_ha_stopped", float64(btoi(st.Stopped)))
		gauge("gomq_ha_lag_bytes", float64(st.Lag()), brokerAddr(o), "")
		if at := c.b.tablesTaken.Load(); at > 0 {
			gauge("gomq_ha_tables_timestamp_seconds", float64(at)/1e3)
		}
		return
	}
	near := 0
	seen := map[string]bool{}
	for _, r := range c.b.replicas() {
		if inSync(&r, end, o) {
			near++
		}
		name := r.Name.Addr
		if name == "" || !r.Counted { // whoever is not known may call himself anything
			name, _, _ = net.SplitHostPort(r.Addr)
		}
		if seen[name] {
			name = r.Addr
		}
		seen[name] = true
		counted := yesNo(r.Counted)
		gauge("gomq_ha_acked_offset_bytes", float64(r.Acked), name, counted)
		gauge("gomq_ha_lag_bytes", float64(max(end-r.Acked, 0)), name, counted)
		if n, err := c.b.store.MessagesFrom(r.Acked); err == nil { // otherwise the store has said what is wrong
			gauge("gomq_ha_lag_messages", float64(n), name, counted)
		}
		if !r.LastAck.IsZero() {
			gauge("gomq_ha_last_ack_timestamp_seconds", float64(r.LastAck.UnixMilli())/1e3, name, counted)
		}
	}
	gauge("gomq_ha_in_sync_replicas", float64(near))
	if c.b.role.master != nil {
		gauge("gomq_ha_replicated_offset_bytes", float64(c.b.role.master.Replicated.Load()))
	}
}

// traffic gives the counters by topic and by group.
func (c *collector) traffic(ch chan<- prometheus.Metric) {
	s := c.b.stats
	counter := func(name string, v int64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(c.desc[name], prometheus.CounterValue, float64(v), labels...)
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	for topic, t := range s.topics {
		system := c.isSystem(topic)
		if n := t.in.n.Load(); n > 0 {
			counter("rocketmq_messages_in_total", n, topic, "normal", system)
			counter("rocketmq_throughput_in_total", t.in.bytes.Load(), topic, "normal", system)
			buckets, all := map[float64]uint64{}, uint64(0)
			for i := range t.sizes {
				all += uint64(t.sizes[i].Load())
				if i < len(sizeBounds) {
					buckets[float64(sizeBounds[i])] = all
				}
			}
			ch <- prometheus.MustNewConstHistogram(c.desc["rocketmq_message_size"], all, float64(t.in.bytes.Load()), buckets, topic, "normal", system)
		}
		c.transactions(ch, topic, &t.tx)
		for group, g := range t.groups {
			counter("rocketmq_messages_out_total", g.out.n.Load(), topic, group, system, isRetry(topic))
			if n := g.dead.Load(); n > 0 {
				counter("rocketmq_send_to_dlq_messages_total", n, group, topic, system)
			}
			counter("rocketmq_throughput_out_total", g.out.bytes.Load(), topic, group, system, isRetry(topic))
		}
	}
}

// transactions gives the counters of a topic's transactions, if it had any.
func (c *collector) transactions(ch chan<- prometheus.Metric, topic string, t *txStats) {
	committed, rolledBack := t.committed.Load(), t.rolledBack.Load()
	if committed+rolledBack == 0 {
		return
	}
	ch <- prometheus.MustNewConstMetric(c.desc["rocketmq_commit_messages_total"], prometheus.CounterValue, float64(committed), topic)
	ch <- prometheus.MustNewConstMetric(c.desc["rocketmq_rollback_messages_total"], prometheus.CounterValue, float64(rolledBack), topic)
	buckets, all := map[float64]uint64{}, uint64(0)
	for i := range t.took {
		all += uint64(t.took[i].Load())
		if i < len(finishBounds) {
			buckets[float64(finishBounds[i].Milliseconds())] = all
		}
	}
	ch <- prometheus.MustNewConstHistogram(c.desc["rocketmq_finish_message_latency"], all, float64(t.tookAll.Load()), buckets, topic)
}

// connections counts the connected clients by what they are.
func (c *collector) connections(gauge func(string, float64, ...string)) {
	type kind struct{ group, language, version, mode string }
	count := map[kind]int{}
	seen := map[*remoting.Conn]bool{}
	for _, members := range c.b.producers.Groups() {
		for _, m := range members {
			if !seen[m.Conn] {
				seen[m.Conn] = true
				count[kind{language: m.Language.String(), version: versionName(m.Version)}]++
			}
		}
	}
	for k, n := range count {
		gauge("rocketmq_producer_connections", float64(n), k.language, k.version, "remoting")
	}
	clear(count)
	for _, name := range c.b.consumers.Names() {
		g, ok := c.b.consumers.Group(name)
		if !ok {
			continue
		}
		for _, m := range g.Clients {
			count[kind{name, m.Language.String(), versionName(m.Version), consumeMode(g)}]++
		}
	}
	for k, n := range count {
		gauge("rocketmq_consumer_connections", float64(n), k.group, k.language, k.version, k.mode, "remoting", yesNo(systemGroup(k.group)))
	}
}

func consumeMode(g clients.Group[*remoting.Conn]) string {
	if g.Type == "CONSUME_ACTIVELY" {
		return "pull"
	}
	return "push"
}

// lagging is how far a group is behind in a topic: messages that are not
// committed, of those the ones in hand and the ones that wait here, and the ages
// (ms) of the oldest of each.
type lagging struct {
	behind, inHand, ready int64
	age, waits            int64
}

// lag is how far the groups are behind, by their committed offsets.
func (c *collector) lag(gauge func(string, float64, ...string)) {
	b, pairs, looks := c.b, 0, maxLagLooks
	for key, queues := range b.offsets.Table() {
		topic, group, ok := strings.Cut(key, "@")
		t := b.topics.Get([]byte(topic))
		if !ok || t == nil {
			continue
		}
		if pairs++; pairs > maxLagPairs {
			return
		}
		l := c.lagOf(topic, group, queues, &looks)
		labels := []string{group, topic, isRetry(topic), c.isSystem(topic)}
		gauge("rocketmq_consumer_lag_messages", float64(l.behind), labels...)
		gauge("rocketmq_consumer_inflight_messages", float64(l.inHand), labels...)
		gauge("rocketmq_consumer_ready_messages", float64(l.ready), labels...)
		if looks >= 0 {
			gauge("rocketmq_consumer_lag_latency", float64(l.age), labels...)
			gauge("rocketmq_consumer_queueing_latency", float64(l.waits), labels...)
		}
	}
}

// lagOf looks at the queues of one topic; looks is how many messages may still be
// looked at.
func (c *collector) lagOf(topic, group string, queues map[int32]int64, looks *int) (l lagging) {
	b := c.b
	for id, offset := range queues {
		q := b.offset.queue([]byte(topic), id)
		if q == nil || q.Max() <= offset {
			continue
		}
		end := q.Max()
		waiting := min(max(b.stats.pulled(topic, group, id), offset), end)
		l.behind += end - offset
		l.inHand += waiting - offset
		l.ready += end - waiting
		age := c.ageAt(q, offset, looks)
		l.age = max(l.age, age)
		switch {
		case waiting == offset:
			l.waits = max(l.waits, age)
		case waiting < end:
			l.waits = max(l.waits, c.ageAt(q, waiting, looks))
		}
	}
	return l
}

// ageAt is the age in ms of a message, 0 when it is not there or too many have
// been looked at.
func (c *collector) ageAt(q *store.Queue, offset int64, looks *int) int64 {
	if *looks--; *looks < 0 {
		return 0
	}
	if at := c.b.store.StoreTimeAt(q, max(offset, q.Min())); at > 0 {
		return max(c.b.stats.now().UnixMilli()-at, 0)
	}
	return 0
}

// creations gives the times that it took to make topics and groups.
func (c *collector) creations(ch chan<- prometheus.Metric) {
	c.b.stats.creations.each(func(k creation, t spread) {
		name, status := "rocketmq_topic_create_execution_time", "success"
		if k.group {
			name = "rocketmq_consumer_group_create_execution_time"
		}
		if k.failed {
			status = "failure"
		}
		buckets := map[float64]uint64{}
		for i, bound := range creationBounds {
			buckets[bound] = t.in[i]
		}
		ch <- prometheus.MustNewConstHistogram(c.desc[name], t.n, t.sum, buckets, status, yesNo(k.system))
	})
}

// versionName is a client's version as RocketMQ 5 shows it (wire.md section 6:
// 4.x.y is 213+20x+2y, 5.x.y is 413+20x+2y, snapshots one less).
func versionName(v int32) string {
	major := int32(4)
	switch {
	case v < 213 || v > 612:
		return "other"
	case v >= 413:
		major, v = 5, v-413
	default:
		v -= 213
	}
	suffix := ""
	if v%2 == 1 {
		v, suffix = v+1, "_SNAPSHOT"
	}
	return "V" + num(int64(major)) + "_" + num(int64(v/20)) + "_" + num(int64(v%20/2)) + suffix
}
