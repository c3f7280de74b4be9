//go:build faults

package faults

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"gomq/test/checker"
	"gomq/test/harness"
	"gomq/test/raw"
)

// on puts a broker's store on a disk.
func (d *disk) on(props map[string]string) map[string]string {
	props["storePathRootDir"], props["storePathCommitLog"] = d.dir+"/store", d.dir+"/store/commitlog"
	return props
}

// fill takes space with a file of somebody else's until so many bytes are left.
func (d *disk) fill(t testing.TB, left int64) (path string) {
	t.Helper()
	path = filepath.Join(d.dir, "foreign")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if n := d.free(t) - max(left, 1<<20); n > 0 {
		if err := syscall.Fallocate(int(f.Fd()), 0, 0, n); err != nil {
			t.Fatal(err)
		}
	}
	// The rest byte by byte, when nothing is to be left.
	for left == 0 {
		if _, err := f.Write(make([]byte, 4096)); err != nil {
			break
		}
	}
	return path
}

func (d *disk) free(t testing.TB) int64 {
	t.Helper()
	var st syscall.Statfs_t
	if err := syscall.Statfs(d.dir, &st); err != nil {
		t.Fatal(err)
	}
	return int64(st.Bavail) * st.Bsize
}

// TestT16FullDisk: somebody else fills the disk while messages are sent. They
// are refused with code 14 that names the place, reads and offsets go on, the
// process lives, and when the space is back messages are taken again without a
// restart.
func TestT16FullDisk(t *testing.T) {
	for name, left := range map[string]int64{"AboveTheLimit": 3 << 20, "Completely": 0} {
		for _, flush := range []string{"SYNC_FLUSH", "ASYNC_FLUSH"} {
			t.Run(name+"/"+flush, func(t *testing.T) { t.Parallel(); fullDisk(t, left, flush) })
		}
	}
}

func fullDisk(t *testing.T, left int64, flush string) {
	d := newDisk(t, 64)
	broker := harness.StartBroker(t, "", harness.Config{Props: d.on(map[string]string{
		"flushDiskType": flush, "mappedFileSizeCommitLog": fmt.Sprint(2 << 20), "mappedFileSizeConsumeQueue": "20000", "maxMessageSize": "65536",
		"maxHashSlotNum": "5000", "maxIndexNum": "20000", "cleanFileForciblyEnable": "false", "flushConsumerOffsetInterval": "500",
	})})
	run := checker.NewRun(harness.Rand(t))
	c := dial(t, broker.Addr())
	if err := c.NewTopic("Full", 1); err != nil {
		t.Fatal(err)
	}
	seq := int64(0)
	next := func() int {
		seq++
		return send(run, c, checker.Attempt{ID: checker.ID{Seq: seq}, N: 1}, "Full", 0, 30000)
	}
	for range 100 {
		if code := next(); code != raw.Success {
			t.Fatalf("code %d on a disk with space", code)
		}
	}
	foreign := d.fill(t, left)
	filled := time.Now()
	// Messages fit into what is allocated already; then they are refused.
	harness.Eventually(t, 20*time.Second, "a refusal", func() bool {
		switch code := next(); code {
		case raw.NotAvailable:
			return true
		case raw.Success:
			return false
		default:
			t.Fatalf("code %d on a full disk\n%s", code, broker.Log())
			return false
		}
	})
	if left > 0 && time.Since(filled) > 5*time.Second {
		t.Errorf("the first refusal came %v after the disk was full", time.Since(filled))
	}
	refusal := refusalOf(t, c)
	if !strings.HasPrefix(refusal, "service not available now.") || !strings.Contains(refusal, "disk is full") {
		t.Errorf("the refusal says %q", refusal)
	}
	if !strings.Contains(refusal, d.dir) {
		broker.WaitLine(`"level":"(error|warn)".*`+regexp.QuoteMeta(d.dir)+`/store`, 10*time.Second)
	}
	// Reads, queries and offsets go on.
	for range 20 {
		if code := next(); code != raw.NotAvailable {
			t.Errorf("code %d on a full disk", code)
		}
		if p, err := c.Pull("g", "Full", 0, 0, 32, 0); err != nil || len(p.Records) == 0 {
			t.Errorf("a pull on a full disk: %+v, %v", p, err)
		}
		if err := c.Commit("g", "Full", 0, 5); err != nil {
			t.Errorf("a commit on a full disk: %v", err)
		}
	}
	if recs, err := c.ByKey("Full", run.Key(checker.ID{Seq: 1})); err != nil || len(recs) != 1 {
		t.Errorf("by key on a full disk: %d records, %v", len(recs), err)
	}
	// Tables are written meanwhile, and fail to be.
	time.Sleep(600 * time.Millisecond) // one persist interval on the full disk; nothing waits for it
	if !broker.Running() {
		t.Fatalf("the broker ended on a full disk\n%s", broker.Log())
	}
	if err := os.Remove(foreign); err != nil {
		t.Fatal(err)
	}
	freed := time.Now()
	harness.Eventually(t, 15*time.Second, "messages to be taken again", func() bool { return next() == raw.Success })
	if took := time.Since(freed); took > 10*time.Second {
		t.Errorf("messages were taken again %v after the space was back", took)
	}
	for range 100 {
		if code := next(); code != raw.Success {
			t.Fatalf("code %d after the space was back", code)
		}
	}
	if n, err := c.Committed("g", "Full", 0); err != nil || n != 5 {
		t.Errorf("the offset committed on the full disk is %d, %v", n, err)
	}
	broker.Restart()
	c = dial(t, broker.Addr())
	if n, err := c.Committed("g", "Full", 0); err != nil || n != 5 {
		t.Errorf("the offset after a restart is %d, %v", n, err)
	}
	finish(t, run, broker.Addr(), "Full", 1, checker.Rules{NoFaults: true, Ordered: true, Lookups: true, PlannedSends: 200})
	if code := broker.Stop(); code != 0 {
		t.Errorf("exit code %d\n%s", code, broker.Log())
	}
	verify(t, broker)
}

// refusalOf sends what is refused, and returns the remark.
func refusalOf(t testing.TB, c *raw.Conn) string {
	t.Helper()
	cmd, err := c.Call(raw.SendMessage, raw.SendExt("pg", "Full", 0, ""), make([]byte, 60000))
	if err != nil || cmd.Code != raw.NotAvailable {
		t.Fatalf("%+v, %v", cmd, err)
	}
	return cmd.Remark
}

// TestT16OwnMessagesFillTheDisk: the broker's own files fill the disk. With
// deletion by force the oldest go and messages are taken all the time; without
// it they are refused, and a kill on the full disk loses nothing.
func TestT16OwnMessagesFillTheDisk(t *testing.T) {
	for _, force := range []string{"true", "false"} {
		t.Run("force="+force, func(t *testing.T) {
			t.Parallel()
			d := newDisk(t, 64)
			broker := harness.StartBroker(t, "", harness.Config{Props: d.on(map[string]string{
				"mappedFileSizeCommitLog": fmt.Sprint(2 << 20), "mappedFileSizeConsumeQueue": "20000", "maxHashSlotNum": "5000", "maxIndexNum": "20000",
				"cleanFileForciblyEnable": force, "cleanResourceInterval": "100", "deleteCommitLogFilesInterval": "0", "flushDiskType": "SYNC_FLUSH",
			})})
			run := checker.NewRun(harness.Rand(t))
			c := dial(t, broker.Addr())
			if err := c.NewTopic("Full", 1); err != nil {
				t.Fatal(err)
			}
			// Deletion may be a moment behind; without it ten refusals in a row are enough.
			refused, sent, most := 0, 0, map[string]int{"true": 500, "false": 10}[force]
			for seq := int64(0); seq < 2000 && refused < most; seq++ { // 120 MB at most
				switch code := send(run, c, checker.Attempt{ID: checker.ID{Seq: seq}, N: 1}, "Full", 0, 60000); code {
				case raw.Success:
					sent++
					refused = 0
				case raw.NotAvailable:
					refused++
					time.Sleep(20 * time.Millisecond)
				default:
					t.Fatalf("code %d\n%s", code, broker.Log())
				}
			}
			if force == "true" && sent < 1200 {
				t.Errorf("only %d messages were taken although old files may go, %d refused\n%s", sent, refused, broker.Log())
			}
			if force == "false" && refused < 10 {
				t.Errorf("a disk of 64 MiB took %d messages of 60,000 bytes", sent)
			}
			at := time.Now()
			broker.Kill()
			run.Killed("broker", "kill -9", at)
			verify(t, broker)
			broker.Start()
			finish(t, run, broker.Addr(), "Full", 1, checker.Rules{Ordered: true, Expires: force == "true", PlannedKills: 1})
			if code := broker.Stop(); code != 0 {
				t.Errorf("exit code %d\n%s", code, broker.Log())
			}
			verify(t, broker)
		})
	}
}

// TestT16NoSpaceToStart: on a full disk a broker with an empty store does not
// start, and says what to do.
func TestT16NoSpaceToStart(t *testing.T) {
	t.Parallel()
	d := newDisk(t, 16)
	d.fill(t, 0)
	broker := harness.StartBroker(t, "", harness.Config{NoWait: true, Props: d.on(map[string]string{})})
	if code := broker.Wait(30 * time.Second); code <= 0 {
		t.Errorf("exit code %d\n%s", code, broker.Log())
	}
	if !strings.Contains(broker.Stderr(), d.dir) || !strings.Contains(broker.Stderr(), "full") {
		t.Errorf("neither the place nor what to do is named:\n%s", broker.Log())
	}
}
