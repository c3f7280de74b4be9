package broker

import (
	"bytes"
	"maps"
	"math/rand/v2"
	"testing"

	"gomq/internal/chance"

	"gomq/internal/message"
)

// TestStoredProps holds the rewriting of a property text against the rule, item by
// item. The order is that of message.PropSet, which has its own tests.
func TestStoredProps(t *testing.T) {
	r := rand.New(rand.NewPCG(chance.Seed(t), 1))
	pieces := []string{"A\x01b", "WAIT\x01false", "WAIT\x01true", "CLUSTER\x01x", "\x01v", "n\x01", "x", "", "K\x01v\x01w", "K\x01z", "DELAY\x013", "TRAN_MSG\x01true"}
	var p message.PropSet
	for range 5000 {
		var src []byte
		for range r.IntN(8) {
			src = append(append(src, pieces[r.IntN(len(pieces))]...), 2)
		}
		if len(src) > 0 && r.IntN(2) == 0 {
			src = src[:len(src)-1]
		}
		want := map[string]string{}
		var seen propsSeen
		message.EachProp(src, func(name, value []byte) bool {
			seen.look(name, value)
			want[string(name)] = string(value)
			return true
		})
		delete(want, message.PropWait)
		want[message.PropCluster] = "c"
		text, saw := storedProps([]byte("before"), src, &p, "c")
		got, n := map[string]string{}, 0
		message.EachProp(bytes.TrimPrefix(text, []byte("before")), func(name, value []byte) bool {
			got[string(name)] = string(value)
			n++
			return true
		})
		if !maps.Equal(got, want) || n != len(want) || saw != seen || !bytes.HasPrefix(text, []byte("before")) || text[len(text)-1] == 2 {
			t.Fatalf("%q is stored as %q %+v, want %q %+v", src, text, saw, want, seen)
		}
	}
}
