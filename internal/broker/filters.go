package broker

import (
	"bytes"
	"fmt"

	"go.uber.org/zap"

	"gomq/internal/broker/clients"
	"gomq/internal/broker/meta"
	"gomq/internal/filter"
	"gomq/internal/message"
	"gomq/internal/protocol"
	"gomq/internal/remoting"
	"gomq/internal/store"
)

// maxFilters is how many compiled expressions the broker remembers; the original
// remembers 100.
const maxFilters = 200

// compile compiles an expression of another type than tags.
func compile(c *filter.Cache, typ string, expr []byte) (*filter.SQL, error) {
	if typ != filter.TypeSQL {
		return nil, fmt.Errorf("the type %.40q of the expression is not known, expected %s or %s", typ, filter.TypeTag, filter.TypeSQL)
	}
	return c.SQL(expr)
}

// noFilter is how filters other than tags are refused without
// enablePropertyFilter.
func noFilter(typ string) error {
	return refuse(protocol.SystemError, "The broker does not support consumer to filter message by %s", typ)
}

// subscription is the filter of a pull, nil for all messages: from its header, or
// as the group's heartbeats say.
func (p *puller) subscription(h *protocol.PullHeader, d *desk, cold bool, g *protocol.GroupConfig, o *Options) (store.Matcher, error) {
	var m store.Matcher
	var err error
	if h.SysFlag&protocol.PullSubscription != 0 {
		m, err = p.posted(h, d, cold, o)
	} else {
		m, err = p.heard(h, d, g, o)
	}
	if err == nil && o.FilterSupportRetry && o.EnablePropertyFilter && bytes.HasPrefix(h.Topic, []byte(message.RetryPrefix)) {
		if sql := p.consumers.SQL(h.Topic[len(message.RetryPrefix):], d.conn); sql != nil {
			m = retried(sql)
		}
	}
	return m, err
}

// posted is the filter that the header of a pull brings.
func (p *puller) posted(h *protocol.PullHeader, d *desk, cold bool, o *Options) (store.Matcher, error) {
	switch {
	case !isTag(h.ExpressionType):
		if !o.EnablePropertyFilter {
			return nil, noFilter(string(h.ExpressionType))
		}
		sql, err := compile(p.filters, string(h.ExpressionType), h.Subscription)
		if err != nil {
			return nil, refuse(protocol.SubscriptionParseFailed, "parse the consumer's subscription failed: %s", err)
		}
		return sql, nil
	case h.SysFlag&protocol.PullClassFilter != 0:
		return nil, nil // the filter server is gone since 4.9: everything matches
	}
	return byTags(d.tagsOf(h.Subscription, cold)), nil
}

// heard is the filter that a heartbeat has told: that of the same connection, or
// else the newest of the group.
func (p *puller) heard(h *protocol.PullHeader, d *desk, g *protocol.GroupConfig, o *Options) (store.Matcher, error) {
	sub, broadcast, found := p.consumers.Sub(h.Group, h.Topic, d.conn)
	if found == clients.NoGroup {
		return nil, refuse(protocol.SubscriptionNotExist, "the consumer's group info not exist%s (this broker has no heartbeat of a client of %s)", faq, h.Group)
	}
	if broadcast && !g.ConsumeBroadcastEnable {
		return nil, refuse(protocol.NoPermission, "the consumer group[%s] can not consume by broadcast way", h.Group)
	}
	switch {
	case found == clients.NoTopic:
		return nil, refuse(protocol.SubscriptionNotExist, "the consumer's subscription not exist%s (no heartbeat of %s names %s)", faq, h.Group, h.Topic)
	case sub.Version < h.SubVersion:
		return nil, refuse(protocol.SubscriptionNotLatest, "the consumer's subscription not latest (the pull has version %d, the heartbeat had %d)", h.SubVersion, sub.Version)
	case filter.IsTag(sub.Type):
		return byTags(sub.Tags), nil
	case !o.EnablePropertyFilter:
		return nil, noFilter(sub.Type)
	case sub.Err != nil:
		return nil, refuse(protocol.FilterDataNotExist, "The broker's consumer filter data is not exist!Your expression may be wrong! %s", sub.Err)
	}
	return sub.SQL, nil
}

func isTag(typ []byte) bool { return len(typ) == 0 || string(typ) == filter.TypeTag }

// byTags is t, or nothing at all for tags that match everything.
func byTags(t *filter.Tags) store.Matcher {
	if t == nil {
		return nil
	}
	return t
}

// retried matches messages of a retry topic by what the client wants of the topic
// that they were in first (filterSupportRetry).
type retried map[string]*filter.SQL

func (r retried) MatchCode(int64) bool { return true }
func (r retried) NeedsRecord() bool    { return true }

func (r retried) MatchRecord(rec message.Record) bool {
	topic, _ := message.Prop(rec.Props(), message.PropRetryTopic)
	sql := r[string(topic)]
	return sql == nil || sql.MatchRecord(rec)
}

// differ tells once of a client that subscribes otherwise than others of its
// group.
func (s *clientDesk) differ(d *clients.Difference[*remoting.Conn]) {
	if d == nil {
		return
	}
	wants := func(sub *clients.Sub) string {
		switch {
		case sub == nil:
			return "nothing"
		case filter.IsTag(sub.Type):
			return fmt.Sprintf("%s %q of version %d", filter.TypeTag, sub.Expr, sub.Version)
		}
		return fmt.Sprintf("%s %q of version %d", sub.Type, sub.Expr, sub.Version)
	}
	s.log.Warn("clients of one group subscribe differently: each is served by its own subscription, and what one of them does not want no other one gets either, because they share the queues",
		zap.String("group", d.Group), zap.String("topic", d.Topic),
		zap.String("client", d.New.ID), zap.Stringer("peer", d.New.Conn.Remote()), zap.Int32("version", d.New.Version), zap.String("wants", wants(d.Says)),
		zap.String("otherClient", d.Old.ID), zap.Stringer("otherPeer", d.Old.Conn.Remote()), zap.Int32("otherVersion", d.Old.Version), zap.String("otherWants", wants(d.Said)))
}

// keepFilters writes down a group's SQL92 subscriptions for consumerFilter.json.
func (s *clientDesk) keepFilters(b *clients.Beat) {
	var subs []meta.SQLSub
	topics := make(map[string]bool, len(b.Subs))
	for i := range b.Subs {
		sub := &b.Subs[i]
		if filter.IsTag(sub.Type) {
			continue
		}
		topics[sub.Topic] = true
		if sub.Type == filter.TypeSQL {
			subs = append(subs, meta.SQLSub{Topic: sub.Topic, Expr: sub.Expr, Version: sub.Version, Compiles: sub.Err == nil})
		}
	}
	s.kept.Said(b.Group, subs, func(topic string) bool { return topics[topic] })
}

// left notes that a group may have lost its last client.
func (s *clientDesk) left(group string) {
	if !s.consumers.Online(group) {
		s.kept.Gone(group)
	}
}
