package broker

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"gomq/internal/message"
)

// TestStoredProps holds the copy in pieces against the rule, item by item.
func TestStoredProps(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 1))
	pieces := []string{"A\x01b", "WAIT\x01false", "WAIT\x01true", "CLUSTER\x01x", "\x01v", "n\x01", "x", "", "K\x01v\x01w", "DELAY\x013", "TRAN_MSG\x01true"}
	for range 5000 {
		var src []byte
		for range r.IntN(8) {
			src = append(append(src, pieces[r.IntN(len(pieces))]...), 2)
		}
		if len(src) > 0 && r.IntN(2) == 0 {
			src = src[:len(src)-1]
		}
		var want []byte
		var seen propsSeen
		message.EachProp(src, func(name, value []byte) bool {
			seen.look(name, value)
			if string(name) != message.PropWait && string(name) != message.PropCluster {
				want = message.AppendProp(want, string(name), string(value))
			}
			return true
		})
		want = message.AppendProp(want, message.PropCluster, "c")
		got, saw := storedProps([]byte("before"), src, "c")
		if string(got) != "before"+string(want) || saw != seen {
			t.Fatalf("seed %d: %q is stored as %q %+v, want %q %+v", seed, src, bytes.TrimPrefix(got, []byte("before")), saw, want, seen)
		}
	}
}
