// Package filter decides whether a message matches a subscription. It is pure:
// it sees a queue entry's tags code and a record's bytes, nothing else.
package filter

import (
	"slices"
	"strings"

	"gomq/internal/message"
)

// TypeTag and TypeSQL are the expression types that clients send; an empty type
// means TypeTag (behaviour.md section 6).
const (
	TypeTag = "TAG"
	TypeSQL = "SQL92"
)

// IsTag tells whether an expression type as sent by a client means tags.
func IsTag(typ string) bool { return typ == "" || typ == TypeTag }

// Tags matches by the hash codes of a set of tags. The broker compares codes
// only; clients compare the strings once more (behaviour.md section 6).
// The nil *Tags matches everything.
type Tags struct{ codes []int64 }

// ParseTags compiles a tag expression: "*" or nothing is every message,
// otherwise tags separated by "||", blanks around them ignored. Any text is a
// valid expression.
func ParseTags(expr string) *Tags {
	expr = strings.TrimSpace(expr)
	if expr == "" || expr == "*" {
		return nil
	}
	t := &Tags{}
	for tag := range strings.SplitSeq(expr, "||") {
		if tag = strings.TrimSpace(tag); tag != "" {
			t.add(message.HashCode([]byte(tag)))
		}
	}
	if len(t.codes) == 0 {
		return nil
	}
	return t
}

func (t *Tags) add(code int32) {
	if c := int64(code); !slices.Contains(t.codes, c) {
		t.codes = append(t.codes, c)
	}
}

// MatchCode compares a queue entry's tags code: the sign-extended Java hash of
// the message's TAGS, 0 without any.
func (t *Tags) MatchCode(code int64) bool {
	return t == nil || slices.Contains(t.codes, code)
}

// NeedsRecord is false: the queue entry decides.
func (t *Tags) NeedsRecord() bool { return false }

// MatchRecord is never asked (see NeedsRecord).
func (t *Tags) MatchRecord(message.Record) bool { return true }
