package remoting

import (
	"io"
	"testing"

	"gomq/internal/protocol"
)

// echoTurns returns a function that sends 32 requests at once and reads their
// answers, with nothing allocated on its own side.
func echoTurns(t testing.TB, codec protocol.Codec) func() {
	s := serve(t, Options{}, echo)
	w := dialWire(t, s.Addr())
	var out []byte
	answers := 0
	for i := range int32(32) {
		out = append(out, frame(codec, 10, i, 0, make([]byte, 100))...)
	}
	w.send(out)
	for range 32 {
		a := w.answer()
		answers += len(protocol.AppendResponse(nil, codec, a.Opaque, a.Code, a.Remark, nil, a.Body))
	}
	in := make([]byte, answers)
	return func() {
		if _, err := w.Conn.Write(out); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(w.Conn, in); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTurnAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector makes pools forget")
	}
	for codec, name := range []string{"JSON", "ROCKETMQ"} {
		turn := echoTurns(t, protocol.Codec(codec))
		for range 100 {
			turn()
		}
		// A collection empties the pools: what that costs is less than one
		// allocation a turn.
		if n := testing.AllocsPerRun(2000, turn); n >= 1 {
			t.Errorf("%s: a turn of 32 requests allocates %v times", name, n)
		}
	}
}

func BenchmarkEchoTurn(b *testing.B) {
	for codec, name := range []string{"JSON", "ROCKETMQ"} {
		b.Run(name, func(b *testing.B) {
			turn := echoTurns(b, protocol.Codec(codec))
			turn()
			b.ReportAllocs()
			for b.Loop() {
				turn()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/32, "ns/request")
		})
	}
}
