package protocol

import (
	"bytes"
	"testing"
)

// The questions that a 4.9.7 broker asked and the ends that Java clients sent are
// written again byte for byte, but for fields that gomq does not need.
func TestGoldenTransactions(t *testing.T) {
	seen := map[int32]int{}
	for _, g := range goldens(t) {
		c := g.parse(t)
		if g.Type != "request" || c.Language.String() != "JAVA" || c.Codec != JSON {
			continue
		}
		var h Header
		switch g.Code {
		case CheckTransactionState:
			h = &CheckHeader{}
		case EndTransaction:
			h = &EndHeader{}
		default:
			continue
		}
		if err := c.Decode(h); err != nil {
			t.Errorf("%s: %v", g.File, err)
			continue
		}
		for _, extra := range []string{"bname", "topic"} { // of 4.9 and of 5.x clients
			c.ext = remove(c.ext, []byte(extra))
		}
		seen[g.Code]++
		again := NewRequest(g.Code, h, c.Body)
		again.Opaque, again.Flag, again.Version = c.Opaque, c.Flag, c.Version
		if got, want := again.AppendTo(nil), c.AppendTo(nil); !bytes.Equal(got, want) {
			t.Errorf("%s: written again\n%q, was\n%q", g.File, got, want)
		}
	}
	if seen[CheckTransactionState] < 4 || seen[EndTransaction] < 6 {
		t.Errorf("frames: %v", seen)
	}
}
