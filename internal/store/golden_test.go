package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"gomq/internal/golden"
	"gomq/internal/message"
	"gomq/internal/store/simdisk"
)

// goldenQueues is what the original that wrote a store, restarted on it, says of
// its queues, and what producers were told (testdata/README.md).
type goldenQueues struct {
	Min, Max int64
	Queues   []struct {
		Topic    string
		ID       int32
		Min, Max int64
		Messages [][3]int64 // offset in the log, size, tags code
	}
	Sent [][2]any // unique key, offset in the log or -1
}

func loadQueuesOf(t *testing.T, name string) (g goldenQueues) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name+".queues.json"))
	if err == nil {
		err = json.Unmarshal(b, &g)
	}
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// delayCode is the tags code of the schedule topic (store.md section 3).
func delayCode(topic string) func(message.Record) int64 {
	if topic != message.TopicSchedule {
		return nil
	}
	levels := strings.Fields("1s 5s 10s 30s 1m 2m 3m 4m 5m 6m 7m 8m 9m 10m 20m 30m 1h 2h")
	return func(r message.Record) int64 {
		v, _ := message.Prop(r.Props(), message.PropDelay)
		n, _ := strconv.Atoi(string(v))
		d, _ := time.ParseDuration(levels[min(n, len(levels))-1])
		return r.StoreTime() + d.Milliseconds()
	}
}

func goldenOptions(d *simdisk.Sim) Options {
	return Options{Root: "/store", CommitLogFileSize: 1 << 20, ConsumeQueueFileSize: 4000, IndexEnabled: true, MaxHashSlots: 100, MaxIndexEntries: 400,
		TagsCode: delayCode, FS: d}
}

// checkGolden compares all queues of s with g; without are queues that only s has.
func checkGolden(t *testing.T, s *Store, g goldenQueues, without ...string) {
	t.Helper()
	if s.MinOffset() != g.Min || s.MaxOffset() != g.Max {
		t.Errorf("the log is [%d, %d), want [%d, %d)", s.MinOffset(), s.MaxOffset(), g.Min, g.Max)
	}
	known := map[string]bool{}
	for _, w := range without {
		known[w] = true
	}
	for _, want := range g.Queues {
		q := s.Queue([]byte(want.Topic), want.ID)
		known[q.String()] = true
		if q.Min() != want.Min || q.Max() != want.Max {
			t.Errorf("%s is [%d, %d), want [%d, %d)", q, q.Min(), q.Max(), want.Min, want.Max)
			continue
		}
		for i, m := range want.Messages {
			at, size, tags, err := q.entry(want.Min + int64(i))
			if err != nil || at != m[0] || int64(size) != m[1] || tags != m[2] {
				t.Errorf("%s at %d: %d %d %d, %v, want %d", q, want.Min+int64(i), at, size, tags, err, m)
			}
		}
		got := pull(t, s, q, q.Min())
		if len(got) != len(want.Messages) {
			t.Errorf("%s: pulled %d messages of %d", q, len(got), len(want.Messages))
			continue
		}
		for i, r := range got {
			if r.Offset() != want.Messages[i][0] {
				t.Errorf("%s at %d: got the record at %d, want %d", q, i, r.Offset(), want.Messages[i][0])
			}
		}
	}
	for _, q := range s.Queues() {
		if q.Max() > 0 && !known[q.String()] {
			t.Errorf("%s with %d messages is not in the manifest", q, q.Max())
		}
	}
}

// checkSent looks for every acknowledged send in the log.
func checkSent(t *testing.T, s *Store, g goldenQueues) {
	t.Helper()
	keys := map[string][]int64{}
	if _, err := s.eachRecord(s.MinOffset(), s.MaxOffset(), true, func(at int64, r message.Record) error {
		v, _ := message.Prop(r.Props(), message.PropUniqKey)
		keys[string(v)] = append(keys[string(v)], at)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for _, x := range g.Sent {
		at := keys[x[0].(string)]
		found := false
		for _, a := range at {
			found = found || x[1].(float64) < 0 || a == int64(x[1].(float64))
		}
		if !found {
			t.Errorf("the acknowledged message %v is at %d", x, at)
		}
	}
}

var goldenStores = []string{"4.5.2-clean", "4.5.2-kill", "4.9.7-clean", "4.9.7-kill"}

// Stores that live originals wrote, closed and killed, open with every message
// that the original itself finds in them, and with every one that a producer was
// told is stored.
func TestGoldenStores(t *testing.T) {
	for _, name := range goldenStores {
		t.Run(name, func(t *testing.T) {
			d := loadGolden(t, name)
			g := loadQueuesOf(t, name)
			for range 2 {
				s := open(t, goldenOptions(d))
				checkGolden(t, s, g)
				checkSent(t, s, g)
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				if _, err := d.Stat("/store/abort"); err == nil {
					t.Error("the abort marker is there after Close")
				}
			}
		})
	}
}

// The same stores damaged (golden/store/4.9.7-kill/damage-*.json of the
// originals' runs).
func TestGoldenDamage(t *testing.T) {
	const last = "/store/commitlog/00000000000000262144"
	zero := func(file string, off, n int64) func(d *simdisk.Sim) {
		return func(d *simdisk.Sim) { d.Edit(file, func(b []byte) { clear(b[off : off+n]) }) }
	}
	flip := func(file string, off, n int64) func(d *simdisk.Sim) {
		return func(d *simdisk.Sim) {
			d.Edit(file, func(b []byte) {
				for i := range b[off : off+n] {
					b[off+int64(i)] ^= 0xff
				}
			})
		}
	}
	remove := func(d *simdisk.Sim, names ...string) {
		for _, n := range names {
			if err := d.RemoveAll("/store/" + n); err != nil {
				t.Fatal(err)
			}
		}
	}
	noCheckpoint := zero("/store/checkpoint", 0, 40)
	gone := []string{"GoldGone/0", "GoldGone/1", "GoldGone/2", "GoldGone/3"}
	for _, c := range []struct {
		what    string
		damage  func(d *simdisk.Sim)
		lost    int  // messages at the end of the log
		rebuilt bool // the deleted topic is there again, as in Java's own rebuild
	}{
		{what: "torn-tail", damage: zero(last, 13459, 118), lost: 1},
		{what: "garbage-tail", damage: flip(last, 13577, 100)},
		{what: "no-checkpoint", damage: noCheckpoint, rebuilt: true},
		{what: "no-queues", damage: func(d *simdisk.Sim) { remove(d, "consumequeue", "index") }, rebuilt: true},
		{what: "no-queues-clean", damage: func(d *simdisk.Sim) { remove(d, "consumequeue", "index", "abort") }, rebuilt: true},
		{what: "short-queue", damage: zero("/store/consumequeue/GoldPlain/3/00000000000000002000", 0, 1000)},
	} {
		t.Run(c.what, func(t *testing.T) {
			d := loadGolden(t, "4.9.7-kill")
			c.damage(d)
			g := loadQueuesOf(t, "4.9.7-kill")
			for range c.lost {
				g = withoutLast(g)
			}
			var also []string
			if c.rebuilt {
				also = gone
			}
			for range 2 {
				s := open(t, goldenOptions(d))
				checkGolden(t, s, g, also...)
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
	t.Run("bit-rot", func(t *testing.T) {
		// The original cuts the log here and loses a third of it. This store does not
		// open it, and leaves it as it is.
		d := loadGolden(t, "4.9.7-kill")
		flip("/store/commitlog/00000000000000196608", 11992, 1)(d)
		noCheckpoint(d)
		before := fmt.Sprint(d.Files())
		_, err := Open(t.Context(), goldenOptions(d), nil, nil)
		var damage *DamageError
		if !errors.As(err, &damage) || damage.Offset != 208510 {
			t.Fatalf("opened with %v", err)
		}
		flip("/store/commitlog/00000000000000196608", 11992, 1)(d)
		s := open(t, goldenOptions(d))
		defer s.Close()
		checkSent(t, s, loadQueuesOf(t, "4.9.7-kill"))
		_ = before
	})
}

// withoutLast is g without the record that lies last in the log.
func withoutLast(g goldenQueues) goldenQueues {
	best := -1
	for i, q := range g.Queues {
		if n := len(q.Messages); n > 0 && (best < 0 || q.Messages[n-1][0] > g.Queues[best].Messages[len(g.Queues[best].Messages)-1][0]) {
			best = i
		}
	}
	q := &g.Queues[best]
	n := len(q.Messages) - 1
	g.Max = q.Messages[n][0]
	q.Messages, q.Max = q.Messages[:n], q.Max-1
	return g
}

// loadGolden puts a store directory written by a live original under /store of a
// simulated disk.
func loadGolden(t testing.TB, name string) *simdisk.Sim {
	t.Helper()
	files, err := golden.Read(filepath.Join("testdata", name+".tar.gz"))
	if err != nil {
		t.Fatal(err)
	}
	d := simdisk.New()
	for _, f := range files {
		if !f.Dir {
			d.WriteFile(path.Join("/", f.Name), f.Data, f.Time)
		}
	}
	return d
}

type goldenQueries struct {
	Min, Max int64
	ByTime   []struct {
		Topic     string
		QueueID   int32 `json:"queueId"`
		Timestamp int64
		Offset    int64
	}
	ByKey []struct {
		Topic, Key      string
		PhysicalOffsets []int64
	}
}

func loadQueries(t *testing.T, name string) (q goldenQueries) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name+".queries.json"))
	if err == nil {
		err = json.Unmarshal(b, &q)
	}
	if err != nil {
		t.Fatal(err)
	}
	return q
}

// dirFiles are the paths of the files in a directory of the disk.
func dirFiles(d *simdisk.Sim, dir string) (names []string) {
	for _, name := range d.Files() {
		if strings.HasPrefix(name, dir+"/") {
			names = append(names, name)
		}
	}
	return names
}

// goldenRecords are the records of a log on the disk.
func goldenRecords(t *testing.T, d *simdisk.Sim) (rs []message.Record) {
	t.Helper()
	for _, name := range dirFiles(d, "/store/commitlog") {
		b := d.ReadFile(name)
		for len(b) > 0 {
			r, err := message.ParseRecord(b, true)
			if errors.Is(err, message.ErrBlank) || errors.Is(err, message.ErrMagic) {
				break
			}
			if err != nil {
				t.Fatal(name, err)
			}
			rs = append(rs, r)
			b = b[len(r):]
		}
	}
	return rs
}
