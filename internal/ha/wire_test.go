package ha

import (
	"bytes"
	"os"
	"testing"

	"gomq/internal/message"
)

// TestRecordedStreams reads what a master and a slave of RocketMQ 4.5.2 sent each
// other: the blocks follow on each other, what they carry are records of the log
// at the places that they say, and no report is ahead of what was sent. Written
// again the streams are the same.
func TestRecordedStreams(t *testing.T) {
	sent, err := os.ReadFile("testdata/master-4.5.2.bin")
	if err != nil {
		t.Fatal(err)
	}
	var log, again []byte
	start, end, blocks := int64(-1), int64(0), 0
	for rest := sent; len(rest) > 0; blocks++ {
		b, n, err := ParseBlock(rest)
		if err != nil || n == 0 {
			t.Fatalf("block %d: %d bytes, %v", blocks, n, err)
		}
		if start < 0 {
			start, end = b.Offset, b.Offset
		}
		if b.Offset != end {
			t.Fatalf("block %d is for %d, the one before ended at %d", blocks, b.Offset, end)
		}
		end += int64(len(b.Bytes))
		log = append(log, b.Bytes...)
		again = append(AppendHeader(again, b.Offset, len(b.Bytes)), b.Bytes...)
		rest = rest[n:]
	}
	if !bytes.Equal(again, sent) || blocks < 10 {
		t.Errorf("%d blocks are written differently", blocks)
	}
	for at := 0; at < len(log); {
		r, err := message.ParseRecord(log[at:], true)
		if err != nil || r.Offset() != start+int64(at) {
			t.Fatalf("at %d: %v", at, err)
		}
		at += int(r.Size())
	}

	reports, err := os.ReadFile("testdata/slave-4.5.2.bin")
	if err != nil {
		t.Fatal(err)
	}
	last := int64(0)
	var written []byte
	for i := ReportSize; i <= len(reports); i += ReportSize {
		offset, used, err := LastReport(reports[:i])
		if err != nil || used != i || offset < last || offset > end {
			t.Fatalf("report %d: %d (%d bytes used, %v) after %d, %d were sent", i/ReportSize, offset, used, err, last, end)
		}
		last = offset
		written = AppendReport(written, offset)
	}
	if !bytes.Equal(written, reports) || last != end {
		t.Errorf("the last report is %d of %d", last, end)
	}
}

func TestLies(t *testing.T) {
	if _, _, err := ParseBlock(AppendHeader(nil, -1, 0)); err == nil {
		t.Error("a block at -1")
	}
	for _, size := range []int{-1, MaxBlock - HeaderSize + 1, 1 << 30} {
		if _, _, err := ParseBlock(AppendHeader(nil, 0, size)); err == nil {
			t.Errorf("a block of %d bytes", size)
		}
	}
	if _, n, err := ParseBlock(append(AppendHeader(nil, 5, 3), 1, 2)); n != 0 || err != nil {
		t.Error("a block that is not whole")
	}
	if _, _, err := LastReport(AppendReport(nil, -5)); err == nil {
		t.Error("a report of -5")
	}
	if _, n, err := LastReport(make([]byte, 7)); n != 0 || err != nil {
		t.Error("half a report")
	}
}

func FuzzParseBlock(f *testing.F) {
	f.Add(append(AppendHeader(nil, 5, 3), 1, 2, 3))
	f.Add(AppendHeader(nil, 0, -1))
	f.Fuzz(func(t *testing.T, b []byte) {
		block, n, err := ParseBlock(b)
		if err == nil && n > 0 && (n > len(b) || len(block.Bytes) != n-HeaderSize || block.Offset < 0) {
			t.Fatalf("%d bytes used of %d", n, len(b))
		}
		LastReport(b)
	})
}
