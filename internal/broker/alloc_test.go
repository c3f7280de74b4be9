//go:build !race

package broker

import (
	"encoding/binary"
	"io"
	"net"
	"runtime"
	"testing"

	"gomq/internal/protocol"
)

// Sending and pulling allocate next to nothing a message: what the whole process
// allocates is counted, its clients write and read bytes they have.
func TestAllocations(t *testing.T) {
	for _, flush := range []FlushType{AsyncFlush, SyncFlush} {
		t.Run(string(flush), func(t *testing.T) { countAllocations(t, flush) })
	}
}

func countAllocations(t *testing.T, flush FlushType) {
	r := run(t, func(o *Options) {
		o.MappedFileSizeCommitLog, o.BrokerFastFailureEnable, o.FlushDiskType = 64<<20, false, flush
	})
	r.create("T", 4)
	const turn, turns, perPull = 64, 50, 32
	var sends, pulls []byte
	for i := range turn {
		h := sendHeader("T", int32(i%4), "KEYS", "key", "TAGS", "TagA", "UNIQ_KEY", "U")
		h.V2 = true
		sends = protocol.NewRequest(protocol.SendMessageV2, &h, make([]byte, 1024)).AppendTo(sends)
		p := pullHeader("CG", "T", int32(i%4), 0, "TagA || TagB")
		p.MaxMsgNums = perPull
		pulls = protocol.NewRequest(protocol.PullMessage, &p, nil).AppendTo(pulls)
	}
	conn, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	buf := make([]byte, 64<<10)
	round := func(frames []byte) {
		if _, err := conn.Write(frames); err != nil {
			t.Fatal(err)
		}
		for range turn {
			if _, err := io.ReadFull(conn, buf[:4]); err != nil {
				t.Fatal(err)
			}
			n := binary.BigEndian.Uint32(buf)
			if _, err := io.ReadFull(conn, buf[:n]); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, c := range []struct {
		what     string
		frames   []byte
		messages int // of a round
	}{{"sent", sends, turn}, {"pulled", pulls, turn * perPull}} {
		for range 20 {
			round(c.frames)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range turns {
			round(c.frames)
		}
		runtime.ReadMemStats(&after)
		each := float64(after.Mallocs-before.Mallocs) / float64(c.messages*turns)
		t.Logf("a message %s costs %.3f allocations", c.what, each)
		if each > 0.2 {
			t.Errorf("a message %s costs %.2f allocations", c.what, each)
		}
	}
}
