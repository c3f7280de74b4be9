package broker

import (
	"strings"
	"sync"
	"time"

	"gomq/internal/protocol"
)

// A span is a time over which VIEW_BROKER_STATS_DATA (315) counts: the totals are
// remembered at its steps, as in the original (behaviour.md section 14).
type span struct {
	every int         // ticks of 10 s from step to step
	at    []time.Time // of each remembered step; a ring
	last  int         // the newest of them
}

// spans are the minute, the hour and the day, and the lock of every history.
type spans struct {
	mu            sync.Mutex // guards all, and every history
	ticks         int
	minute, hour  span
	day           span
	allIn, allOut history
}

const (
	minuteSteps = 7
	hourSteps   = 7
	daySteps    = 25
)

// history is totals at the steps of each span. What did not exist at a step had
// counted nothing then, so that a new one needs no beginning.
type history struct {
	minute [minuteSteps]total
	hour   [hourSteps]total
	day    [daySteps]total
}

type total struct{ n, bytes int64 }

func (c *counters) total() total { return total{c.n.Load(), c.bytes.Load()} }

func (s *spans) begin(now time.Time) {
	fill := func(every, n int) span {
		p := span{every: every, at: make([]time.Time, n), last: n - 1}
		for i := range p.at {
			p.at[i] = now
		}
		return p
	}
	s.minute, s.hour, s.day = fill(1, minuteSteps), fill(60, hourSteps), fill(360, daySteps)
}

// step moves a span on when its time has come.
func (p *span) step(ticks int, now time.Time) (moved bool) {
	if ticks%p.every != 0 {
		return false
	}
	p.last = (p.last + 1) % len(p.at)
	p.at[p.last] = now
	return true
}

// counted is a counter with its history.
type counted struct {
	c    *counters
	past *history
}

// all is every counter that has a history.
func (s *stats) all() []counted {
	s.mu.RLock()
	defer s.mu.RUnlock()
	list := make([]counted, 0, 2+len(s.topics)+2*s.pairs)
	list = append(list, counted{&s.stored, &s.spans.allIn}, counted{&s.out, &s.spans.allOut})
	for _, t := range s.topics {
		list = append(list, counted{&t.in, &t.past})
		for _, g := range t.groups {
			list = append(list, counted{&g.out, &g.past}, counted{&g.back, &g.backPast})
		}
	}
	return list
}

// remember takes all totals; it is called every 10 s.
func (s *stats) remember() {
	list, now := s.all(), s.now()
	p := &s.spans
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ticks++
	m, h, d := p.minute.step(p.ticks, now), p.hour.step(p.ticks, now), p.day.step(p.ticks, now)
	for _, x := range list {
		t := x.c.total()
		if m {
			x.past.minute[p.minute.last] = t
		}
		if h {
			x.past.hour[p.hour.last] = t
		}
		if d {
			x.past.day[p.day.last] = t
		}
	}
}

// since is what has been counted from the oldest step of a span on.
func (p *span) since(steps []total, now total, at time.Time) (n, bytes int64, seconds float64) {
	first := (p.last + 1) % len(steps)
	return now.n - steps[first].n, now.bytes - steps[first].bytes, at.Sub(p.at[first]).Seconds()
}

// view is what 315 says of a counter: of messages, or of their bytes. What the
// original counts by the call is by the message here.
func (s *stats) view(c *counters, x *history, bytes bool) protocol.StatsView {
	p := &s.spans
	p.mu.Lock()
	defer p.mu.Unlock()
	now, at := c.total(), s.now()
	item := func(sp *span, steps []total) (i protocol.StatsItem) {
		n, size, seconds := sp.since(steps, now, at)
		if i.Sum = n; bytes {
			i.Sum = size
		}
		if seconds > 0 {
			i.PerSecond = float64(i.Sum) / seconds
		}
		if n > 0 {
			i.PerCall = float64(i.Sum) / float64(n)
		}
		return i
	}
	return protocol.StatsView{Minute: item(&p.minute, x.minute[:]), Hour: item(&p.hour, x.hour[:]), Day: item(&p.day, x.day[:])}
}

// consumeTPS is how many messages a second the group has pulled of the topic in
// the last minute.
func (s *stats) consumeTPS(topic, group string) float64 {
	g := s.pair(topic, group)
	if g == nil {
		return 0
	}
	return s.view(&g.out, &g.past, false).Minute.PerSecond
}

// pair is what has been counted of a topic and a group, nil for nothing.
func (s *stats) pair(topic, group string) *groupStats {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if t := s.topics[topic]; t != nil {
		return t.groups[group]
	}
	return nil
}

// named is what 315 says under a name and a key; false for what is not counted,
// or has never been.
func (s *stats) named(name, key, cluster string) (protocol.StatsView, bool) {
	bytes := strings.HasSuffix(name, "_SIZE")
	switch name {
	case "TOPIC_PUT_NUMS", "TOPIC_PUT_SIZE":
		s.mu.RLock()
		t := s.topics[key]
		s.mu.RUnlock()
		if t != nil && t.in.n.Load() > 0 {
			return s.view(&t.in, &t.past, bytes), true
		}
	case "GROUP_GET_NUMS", "GROUP_GET_SIZE":
		topic, group, _ := strings.Cut(key, "@")
		if g := s.pair(topic, group); g != nil && g.out.n.Load() > 0 {
			return s.view(&g.out, &g.past, bytes), true
		}
	case "SNDBCK_PUT_NUMS":
		topic, group, _ := strings.Cut(key, "@")
		if g := s.pair(topic, group); g != nil && g.back.n.Load() > 0 {
			return s.view(&g.back, &g.backPast, false), true
		}
	case "BROKER_PUT_NUMS":
		if key == cluster && s.stored.n.Load() > 0 {
			return s.view(&s.stored, &s.spans.allIn, false), true
		}
	case "BROKER_GET_NUMS":
		if key == cluster && s.out.n.Load() > 0 {
			return s.view(&s.out, &s.spans.allOut, false), true
		}
	}
	return protocol.StatsView{}, false
}
