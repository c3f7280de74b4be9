package store

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"gomq/internal/chance"
	"gomq/internal/message"
	"gomq/internal/store/simdisk"
)

// verify runs Verify and returns what it found.
func verify(t testing.TB, o Options) (Summary, []Problem) {
	t.Helper()
	var found []Problem
	sum, err := Verify(context.Background(), o, func(p Problem) { found = append(found, p) })
	if err != nil {
		t.Fatal(err)
	}
	if int(sum.Problems) != len(found) {
		t.Errorf("%d problems reported, %d counted", len(found), sum.Problems)
	}
	return sum, found
}

// mustVerify fails the test when anything is wrong with the closed store.
func mustVerify(t testing.TB, o Options) Summary {
	t.Helper()
	sum, found := verify(t, o)
	for _, p := range found {
		t.Error(p)
	}
	if len(found) > 0 {
		t.FailNow()
	}
	return sum
}

func TestVerifyOfTheOriginals(t *testing.T) {
	for _, version := range []string{"4.9.7-clean", "4.5.2-clean"} {
		t.Run(version, func(t *testing.T) {
			d := loadGolden(t, version)
			before := d.Files()
			sum, found := verify(t, goldenOptions(d))
			q := loadQueries(t, version)
			if sum.Start != q.Min || sum.End != q.Max || !sum.Clean || sum.Own || sum.IndexFiles != 3 || sum.Records < 450 || sum.Entries < 400 || sum.IndexEntries < 900 {
				t.Errorf("%+v", sum)
			}
			if sum.Orphans == 0 { // of the topic that was deleted
				t.Error("no record without its queue")
			}
			for _, p := range found {
				// 4.5.2 has lost entries of its operation queue (testdata of the originals).
				if version != "4.5.2-clean" || !strings.Contains(p.Text, "RMQ_SYS_TRANS_OP_HALF_TOPIC") {
					t.Error(p)
				}
			}
			if after := d.Files(); len(after) != len(before) {
				t.Errorf("files changed: %v", after)
			}
		})
	}
}

// closedStore is a store, closed, with all kinds of records.
func closedStore(t testing.TB, n int) (*simdisk.Sim, Options) {
	t.Helper()
	d := simdisk.New()
	o := Options{Root: "/store", FS: d, CommitLogFileSize: 16 << 10, ConsumeQueueFileSize: 400, IndexEnabled: true, MaxHashSlots: 50, MaxIndexEntries: 60}
	s := open(t, o)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range n {
		body := make([]byte, 1+r.IntN(500))
		for j := range body {
			body[j] = byte(r.Uint32())
		}
		send(t, s, fmt.Sprintf("T%d", i%3), int32(i%2), body, fmt.Sprintf("TAGS\x01tag%d\x02UNIQ_KEY\x01u%d\x02KEYS\x01a%d b\x02", i%7, i, i%9))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return d, o
}

func TestVerifyFindsEveryFlippedByte(t *testing.T) {
	d, o := closedStore(t, 150)
	sum := mustVerify(t, o)
	if sum.Records != 150 || sum.Entries != 150 || sum.IndexEntries != 450 || sum.Orphans != 0 || sum.Queues != 6 || !sum.Own || !sum.Clean {
		t.Fatalf("%+v", sum)
	}
	s := open(t, o)
	if s.MaxOffset() != sum.End {
		t.Errorf("the log ends at %d, Verify says %d", s.MaxOffset(), sum.End)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	// Bytes that count: what is checksummed or known twice. (The format has no
	// checksum over flags, times, hosts and properties of a record.)
	type place struct {
		file string
		at   int64
		what string
	}
	var places []place
	for _, name := range dirFiles(d, "/store/commitlog") {
		b := d.ReadFile(name)
		for at := int64(0); ; {
			r, err := message.ParseRecord(b[at:], true)
			if err != nil {
				break
			}
			for _, f := range [][2]int64{{0, 16}, {20, 36}} {
				for i := f[0]; i < f[1]; i++ {
					places = append(places, place{name, at + i, "record head"})
				}
			}
			for i := range int64(len(r.Body())) {
				places = append(places, place{name, at + 88 + i, "body"})
			}
			at += int64(r.Size())
		}
	}
	for _, name := range dirFiles(d, "/store/consumequeue") {
		for i := range int64(len(d.ReadFile(name))) {
			places = append(places, place{name, i, "queue"})
		}
	}
	for _, name := range dirFiles(d, "/store/index") {
		b := d.ReadFile(name)
		count := int64(binary.BigEndian.Uint32(b[36:]))
		for i := int64(36); i < 40+4*50+20*count; i++ {
			if i >= 240 && i < 260 || i >= 272 && i < 276 { // entry 0; the time of entry 1
				continue
			}
			if slot := i / 4 * 4; i >= 40 && i < 240 && binary.BigEndian.Uint32(b[slot:]) == 0 {
				continue // a number that is too high is as good as none
			}
			places = append(places, place{name, i, "index"})
		}
	}
	perWhat := map[string]int{}
	for seed := range chance.Seeds(t, 0, 200) {
		r := rand.New(rand.NewPCG(seed, 3))
		p := places[r.IntN(len(places))]
		c := d.Restart()
		d = d.Restart()
		flip := byte(1 << r.IntN(8))
		c.Edit(p.file, func(b []byte) { b[p.at] ^= flip })
		o.FS = c
		_, found := verify(t, o)
		if len(found) == 0 {
			t.Fatalf("bit %08b of byte %d of %s (%s) was flipped: nothing found", flip, p.at, p.file, p.what)
		}
		perWhat[p.what]++
	}
	t.Log(perWhat)
}

func TestVerifyFindsWhatIsMissing(t *testing.T) {
	d, o := closedStore(t, 150)
	logs, queues, indexes := dirFiles(d, "/store/commitlog"), dirFiles(d, "/store/consumequeue"), dirFiles(d, "/store/index")
	for what, spoil := range map[string]func(c *simdisk.Sim){
		"last log file":      func(c *simdisk.Sim) { c.Remove(logs[len(logs)-1]) },
		"middle log file":    func(c *simdisk.Sim) { c.Remove(logs[1]) },
		"log file zeroed":    func(c *simdisk.Sim) { c.Edit(logs[1], func(b []byte) { clear(b) }) },
		"a page zeroed":      func(c *simdisk.Sim) { c.Edit(logs[1], func(b []byte) { clear(b[4096:8192]) }) },
		"a page twice":       func(c *simdisk.Sim) { c.Edit(logs[1], func(b []byte) { copy(b[8192:12288], b[4096:8192]) }) },
		"log file short":     func(c *simdisk.Sim) { c.WriteFile(logs[1], c.ReadFile(logs[1])[:8192], noon) },
		"log file elsewhere": func(c *simdisk.Sim) { c.WriteFile(logs[1], c.ReadFile(logs[0]), noon) },
		"behind the log's end": func(c *simdisk.Sim) {
			c.Edit(logs[len(logs)-1], func(b []byte) { b[len(b)-1] = 1 })
		},
		"last queue file":  func(c *simdisk.Sim) { c.Remove(queues[1]) },
		"first queue file": func(c *simdisk.Sim) { c.Remove(queues[0]) },
		"entry in the middle": func(c *simdisk.Sim) {
			c.Edit(queues[0], func(b []byte) { copy(b[40:], b[60:200]); clear(b[180:]) })
		},
		"first index file":  func(c *simdisk.Sim) { c.Remove(indexes[0]) },
		"middle index file": func(c *simdisk.Sim) { c.Remove(indexes[2]) },
		"last index file":   func(c *simdisk.Sim) { c.Remove(indexes[len(indexes)-1]) },
		"index file of zeros": func(c *simdisk.Sim) {
			c.Edit(indexes[1], func(b []byte) { clear(b[40:]) })
		},
	} {
		t.Run(what, func(t *testing.T) {
			c := d.Restart()
			d = d.Restart()
			spoil(c)
			o.FS = c
			if _, found := verify(t, o); len(found) == 0 {
				t.Error("nothing found")
			}
		})
	}
}

func TestVerifyRefusesAnOpenStore(t *testing.T) {
	d := simdisk.New()
	o := Options{Root: "/store", FS: d, CommitLogFileSize: 16 << 10}
	s := open(t, o)
	defer s.Close()
	if _, err := Verify(context.Background(), o, func(Problem) {}); err == nil || !strings.Contains(err.Error(), "/store") {
		t.Errorf("%v", err)
	}
}
