package message

import (
	"errors"
	"fmt"
	"strings"
)

// Topics and prefixes with a meaning of their own (behaviour.md 2.6).
const (
	TopicDefault     = "TBW102" // the template of topics created by sending
	TopicSelfTest    = "SELF_TEST_TOPIC"
	TopicBenchmark   = "BenchmarkTest"
	TopicOffsetMoved = "OFFSET_MOVED_EVENT"
	TopicSchedule    = "SCHEDULE_TOPIC_XXXX"
	TopicTrace       = "RMQ_SYS_TRACE_TOPIC"
	TopicHalf        = "RMQ_SYS_TRANS_HALF_TOPIC"
	TopicOpHalf      = "RMQ_SYS_TRANS_OP_HALF_TOPIC"
	TopicCheckMax    = "TRANS_CHECK_MAX_TIME_TOPIC"

	RetryPrefix      = "%RETRY%"
	DLQPrefix        = "%DLQ%"
	SystemPrefix     = "rmq_sys_"
	ReplyTopicSuffix = "_REPLY_TOPIC"
)

// RetryTopic is where a group's retries go.
func RetryTopic(group string) string { return RetryPrefix + group }

// DLQTopic is where a group's dead letters go.
func DLQTopic(group string) string { return DLQPrefix + group }

// NotForSending says whether clients may not send to this topic.
func NotForSending(topic []byte) bool {
	switch string(topic) {
	case TopicSchedule, TopicHalf, TopicOpHalf, TopicCheckMax, TopicSelfTest, TopicOffsetMoved:
		return true
	}
	return false
}

// IsSystemTopic says whether the name is one of the fixed system topics or has
// their prefix; a broker adds its own cluster, broker and reply topics.
func IsSystemTopic(topic string) bool {
	switch topic {
	case TopicDefault, TopicSchedule, TopicBenchmark, TopicHalf, TopicTrace, TopicOpHalf, TopicCheckMax, TopicSelfTest, TopicOffsetMoved:
		return true
	}
	return strings.HasPrefix(topic, SystemPrefix)
}

// The texts are those of the original (behaviour.md 4.2).
var (
	errTopicBlank = errors.New("The specified topic is blank.")
	errTopicChars = errors.New("The specified topic contains illegal characters, allowing only ^[%|a-zA-Z0-9_-]+$")
	errTopicLong  = errors.New("The specified topic is longer than topic max length.")
)

// ValidTopic says what is wrong with a topic's name: it becomes a directory and
// one length byte of a record.
func ValidTopic(name string) error {
	switch {
	case strings.TrimSpace(name) == "":
		return errTopicBlank
	case !legal(name):
		return errTopicChars
	case len(name) > MaxTopicLen:
		return errTopicLong
	}
	return nil
}

// ValidGroup says what is wrong with a group's name: %RETRY%name is a topic.
func ValidGroup(name string) error {
	switch {
	case strings.TrimSpace(name) == "":
		return errors.New("the group's name is blank")
	case !legal(name):
		return fmt.Errorf("the group's name %q has characters other than those of ^[%%|a-zA-Z0-9_-]+$", name)
	case len(name) > MaxGroupLen:
		return fmt.Errorf("the group's name has %d characters, at most %d are possible", len(name), MaxGroupLen)
	}
	return nil
}

func legal(name string) bool {
	for i := range len(name) {
		switch c := name[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '_', c == '-', c == '%', c == '|':
		default:
			return false
		}
	}
	return true
}
