package filter

import "gomq/internal/message"

// Limits of an SQL92 expression; the original has none.
const (
	MaxExpression = 4 << 10 // bytes
	MaxProperties = 64      // different ones that it names
)

// SQL is a compiled SQL92 expression over a message's properties, in the grammar
// and with the verdicts of rocketmq-filter 4.9.7 (behaviour.md section 7; the
// golden test holds what that said of some thousand expressions). It never
// changes and may be used by any number of goroutines.
type SQL struct {
	expr  string
	names []string // of properties
	nodes []node
	root  int

	consts []value
	sets   []map[string]struct{} // of IN
}

// String is the expression as it was written.
func (s *SQL) String() string { return s.expr }

// MatchCode is true: a queue entry says nothing of properties.
func (s *SQL) MatchCode(int64) bool { return true }

// NeedsRecord is true: the properties decide.
func (s *SQL) NeedsRecord() bool { return true }

// MatchRecord is Match on the record's properties.
func (s *SQL) MatchRecord(r message.Record) bool { return s.Match(r.Props()) }

// Match says whether a message with this property text matches: whether the
// expression is true. False, null, and a value that cannot be what the expression
// takes it for are no match. It allocates nothing.
func (s *SQL) Match(props []byte) bool { return s.judge(props) == isTrue }

// verdict is what an expression comes to.
type verdict uint8

const (
	isNull verdict = iota
	isFalse
	isTrue
	failed // a value does not parse as the number it is compared with
)

func (s *SQL) judge(props []byte) verdict {
	const few = 8 // an array that is mostly enough and quickly made
	if n := len(s.names); n > few {
		var slots [MaxProperties][]byte
		return s.judgeIn(props, slots[:n])
	}
	var slots [few][]byte
	return s.judgeIn(props, slots[:len(s.names)])
}

func (s *SQL) judgeIn(props []byte, slots [][]byte) verdict {
	s.find(props, slots)
	e := evaluation{SQL: s, slots: slots}
	v := e.value(uint16(s.root))
	switch {
	case e.failed:
		return failed
	case v.kind != vBool:
		return isNull
	case v.n != 0:
		return isTrue
	}
	return isFalse
}

// find puts the values of the named properties into slots, in one pass: of one
// that comes twice the last, as message.Prop does.
func (s *SQL) find(props []byte, slots [][]byte) {
	for len(props) > 0 {
		var item []byte
		item, props = message.NextProp(props)
		for k, name := range s.names {
			if v, ok := message.ValueOf(item, name); ok {
				slots[k] = v
				break
			}
		}
	}
}
