package bench

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"gomq/internal/chance"
	"gomq/internal/protocol"
)

// A pull made by writing the offset's digits into the one before is the pull made
// anew, whatever the names and expressions look like.
func TestPullFrames(t *testing.T) {
	rnd := rand.New(rand.NewPCG(chance.Seed(t), 1))
	for _, o := range []Options{
		{Topic: "T", Group: "G", Batch: 32},
		{Topic: "queueOffset", Group: "queueOffset1", Batch: 1},
		{Topic: "T", Group: "G", Batch: 7, SQL: `queueOffset > 12 AND a = '"queueOffset":"7"'`},
	} {
		for _, o.Codec = range []protocol.Codec{protocol.JSON, protocol.Binary} {
			var kept pullFrame
			written := false
			for range 1000 {
				queue, offset := int32(rnd.IntN(2)), rnd.Int64N(1<<rnd.IntN(62))
				written = written || kept.n > 0
				got := kept.of(&o, 3, queue, offset)
				if want := new(pullFrame).of(&o, 3, queue, offset); !bytes.Equal(got, want) {
					t.Fatalf("%s, codec %v:\n%q, made anew\n%q", o.Topic, o.Codec, got, want)
				}
			}
			if !written {
				t.Errorf("%s, codec %v: every pull was made anew", o.Topic, o.Codec)
			}
		}
	}
}
