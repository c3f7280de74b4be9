//go:build !race

package broker

import (
	"encoding/binary"
	"io"
	"math"
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
		o.EnablePropertyFilter, o.MappedFileSizeConsumeQueue = true, 20*10_000
	})
	r.create("T", 4)
	const turn, turns, perPull = 64, 50, 32
	const perScan = 800 // entries that a pull looks at
	var sends, pulls, scans []byte
	for i := range turn {
		h := sendHeader("T", int32(i%4), "KEYS", "key", "TAGS", "TagA", "UNIQ_KEY", "U")
		h.V2 = true
		sends = protocol.NewRequest(protocol.SendMessageV2, &h, make([]byte, 1024)).AppendTo(sends)
		p := pullHeader("CG", "T", int32(i%4), 0, "TagA || TagB")
		p.MaxMsgNums = perPull
		pulls = protocol.NewRequest(protocol.PullMessage, &p, nil).AppendTo(pulls)
		p.Subscription, p.ExpressionType = []byte("KEYS IN ('a', 'b') OR UNIQ_KEY > 5 AND TAGS = 'x'"), []byte("SQL92")
		scans = protocol.NewRequest(protocol.PullMessage, &p, nil).AppendTo(scans)
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
		most     float64
	}{{"sent", sends, turn, 0.2}, {"pulled", pulls, turn * perPull, 0.2}, {"looked at", scans, turn * perScan, 0.01}} {
		for range 20 {
			round(c.frames)
		}
		// What runs by the clock allocates too, the more the slower the machine: the
		// least of some measurements is that of the messages.
		each := math.Inf(1)
		for range 3 {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			for range turns {
				round(c.frames)
			}
			runtime.ReadMemStats(&after)
			each = min(each, float64(after.Mallocs-before.Mallocs)/float64(c.messages*turns))
		}
		t.Logf("a message %s costs %.5f allocations", c.what, each)
		if each > c.most {
			t.Errorf("a message %s costs %.3f allocations", c.what, each)
		}
	}
}
