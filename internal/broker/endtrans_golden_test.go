package broker

import (
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gomq/internal/broker/trans"
	"gomq/internal/golden"
	"gomq/internal/message"
	"gomq/internal/protocol"
)

// unpack unpacks a store that an original has written (store/testdata/README.md).
func unpack(t *testing.T, name string) string {
	t.Helper()
	files, err := golden.Read("../store/testdata/" + name + ".tar.gz")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, f := range files {
		at := filepath.Join(dir, filepath.FromSlash(f.Name))
		if f.Dir {
			err = os.MkdirAll(at, 0o700)
		} else if err = os.WriteFile(at, f.Data, 0o600); err == nil {
			err = os.Chtimes(at, f.Time, f.Time)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "store")
}

// Transactions that were open when a Java broker ended are gone on with: nobody is
// asked about those that it has ended, everybody about the others, as often as is
// left. A broker of 4.5.2 that has stored what it cannot read itself (store.md
// section 13) has stopped checking for good: there everything is open since.
func TestJavasTransactionsGoOn(t *testing.T) {
	for name, open := range map[string]int{"4.9.7-clean": 3, "4.9.7-kill": 3, "4.5.2-clean": 3, "4.5.2-kill": 43} {
		t.Run(name, func(t *testing.T) {
			r := &txRig{ahead: &atomic.Int64{}}
			o := rigOptions(unpack(t, name))
			o.MappedFileSizeCommitLog, o.MappedFileSizeConsumeQueue = 65536, 1000
			o.FileReservedTime, o.TransactionCheckMax = 100_000*time.Hour, 3
			r.rig = runOn(t, o, r.seams())
			delivered := func() int64 {
				return r.b.store.Queue([]byte("GoldTx"), 0).Max() + r.b.store.Queue([]byte("GoldTx"), 1).Max()
			}
			had, committed := delivered(), int64(0)
			p := r.producer("p", "GoldTxPG")
			r.ahead.Add(int64(time.Hour))
			r.check()
			if n := len(p.asked); n != open {
				t.Errorf("asked about %d, %d are open", n, open)
			}
			for len(p.asked) > 0 {
				q := p.next(t)
				key := prop(q.rec, "KEYS")
				if name != "4.5.2-kill" && !strings.HasPrefix(key, "open") {
					t.Errorf("asked about %s, which was ended", key)
				}
				outcome := message.Rollback
				if strings.HasPrefix(key, "open") || strings.HasPrefix(key, "late-commit") {
					outcome = message.Commit
					committed++
				}
				if err := r.end(tx{q.HalfOffset, q.LogOffset}, outcome, func(h *protocol.EndHeader) { h.Group = []byte("GoldTxPG") }); err != nil {
					t.Errorf("%s: %v", key, err)
				}
			}
			r = r.again()
			p = r.producer("p", "GoldTxPG")
			r.ahead.Add(int64(time.Hour))
			r.check()
			p.quiet(t)
			if n := delivered() - had; committed == 0 || n != committed {
				t.Errorf("%d were committed, %d delivered", committed, n)
			}
			for _, topic := range []string{message.TopicHalf, message.TopicOpHalf} {
				if off, _ := r.b.offsets.Query([]byte(topic), []byte(trans.Group), 0); off != r.b.store.Queue([]byte(topic), 0).Max() {
					t.Errorf("%s: the progress is %d", topic, off)
				}
			}
		})
	}
}
