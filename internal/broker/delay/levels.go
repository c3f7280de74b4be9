// Package delay knows what a delayed message is: how long its level waits, what
// the broker writes into it on its way in and takes from it on its way out, and
// which of a level's messages are due. It knows neither sockets nor the store.
package delay

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"gomq/internal/message"
)

// MaxLevels bounds the levels: each has a queue and a goroutine.
const MaxLevels = 255

// Levels is the delays of the levels, that of level 1 first (messageDelayLevel).
type Levels []time.Duration

var units = map[byte]time.Duration{'s': time.Second, 'm': time.Minute, 'h': time.Hour, 'd': 24 * time.Hour}

// ParseLevels reads delays such as "1s 5m 2h 1d" with blanks between them: at
// least one and at most MaxLevels, each of at least 1s and at most 292 years. An
// error names the item that is none.
func ParseLevels(text string) (Levels, error) {
	items := strings.Fields(text)
	if len(items) == 0 {
		return nil, errors.New("must name at least one delay such as 1s")
	}
	if len(items) > MaxLevels {
		return nil, fmt.Errorf("names %d delays, at most %d are possible", len(items), MaxLevels)
	}
	levels := make(Levels, 0, len(items))
	for _, item := range items {
		unit := units[item[len(item)-1]]
		n, err := strconv.ParseUint(item[:len(item)-1], 10, 63)
		if err != nil || unit == 0 || n == 0 || n > uint64(math.MaxInt64/unit) {
			return nil, fmt.Errorf("must be delays such as 1s 5m 2h 1d with blanks between them; %q is none", item)
		}
		levels = append(levels, time.Duration(n)*unit)
	}
	return levels, nil
}

// Of is how long a level waits; levels above the highest wait as long as that,
// levels below 1 not at all.
func (l Levels) Of(level int) time.Duration {
	if level < 1 || len(l) == 0 {
		return 0
	}
	return l[min(level, len(l))-1]
}

// Longest is the longest of the delays, 0 without any.
func (l Levels) Longest() time.Duration {
	if len(l) == 0 {
		return 0
	}
	return slices.Max(l)
}

// Level is the level that the value of a DELAY property asks for; 0 is no delay. ok
// is false, and the level 0, for what is no number.
func Level(value []byte) (level int, ok bool) {
	n, err := strconv.ParseInt(string(value), 10, 32)
	if err != nil {
		return 0, false
	}
	return max(0, int(n)), true
}

// Due is the code that the queue entry of a delayed record carries: when it is to
// be delivered, in ms of the clock that stamped its store time (store.md section
// 3). A record that names no delay has the hash of its tags there, as in the
// original, and is due at once.
func (l Levels) Due(r message.Record) int64 {
	value, _ := message.Prop(r.Props(), message.PropDelay)
	if level, ok := Level(value); ok && level > 0 && len(l) > 0 {
		return r.StoreTime() + l.Of(level).Milliseconds()
	}
	return message.TagsCode(r.Props())
}

// Divert makes m, whose properties are p, a message that waits in the queue of its
// level, as the original's put does (store.md section 7): where it was to go is
// kept in REAL_TOPIC and REAL_QID, and DELAY is the level that it gets. level is
// above 0. What p borrows stays borrowed; the caller writes p's text into m.
func (l Levels) Divert(m *message.Message, p *message.PropSet, level int) {
	if level > len(l) || value(p, message.PropDelay) != level {
		level = min(level, len(l))
		p.SetInt(message.PropDelay, int64(level))
	}
	p.Set(message.PropRealTopic, m.Topic)
	p.SetInt(message.PropRealQueue, int64(m.QueueID))
	m.Topic, m.QueueID = scheduleTopic, QueueOf(level)
}

var scheduleTopic = []byte(message.TopicSchedule)

func value(p *message.PropSet, name string) int {
	v, _ := p.Get(name)
	level, _ := Level(v)
	return level
}

// QueueOf is the queue of the schedule topic in which a level's messages wait.
func QueueOf(level int) int32 { return int32(level - 1) }

// Why a record of the schedule topic is never delivered.
var (
	ErrNowhere = errors.New("it does not say where it is to go (REAL_TOPIC, REAL_QID)")
	ErrHalf    = errors.New("it would become a half message (REAL_TOPIC is the topic of those), which the original drops as well")
)

// Restore makes m, the copy of a record that waited, the message that is delivered
// (messageTimeup of 4.9.7): its topic and queue are the real ones, the rest is as
// it was sent, DELAY, REAL_TOPIC and REAL_QID stay in its text. p is used for
// that text, which is appended to dst.
func Restore(dst []byte, m *message.Message, p *message.PropSet) ([]byte, error) {
	p.Parse(m.Props)
	topic, ok := p.Get(message.PropRealTopic)
	number, _ := p.Get(message.PropRealQueue)
	queue, err := strconv.ParseInt(string(number), 10, 32)
	switch {
	case !ok || err != nil:
		return dst, ErrNowhere
	case string(topic) == message.TopicHalf:
		return dst, ErrHalf
	}
	at := len(dst)
	dst = p.AppendTo(dst)
	m.Topic, m.QueueID, m.Prepared, m.Props = topic, int32(queue), 0, dst[at:len(dst):len(dst)]
	return dst, nil
}
