//go:build faults

package faults

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"gomq/test/checker"
	"gomq/test/harness"
	"gomq/test/raw"
)

// injection is a system call of the broker that fails from its nth time on.
type injection struct {
	calls string // what strace calls it
	errno string
	nth   int
	flush string
	mmap  bool // the log is written through its mapping whatever flush says
}

func (i injection) String() string {
	name := fmt.Sprintf("%s-%s-%d-%s", strings.Split(i.calls, ",")[0], i.errno, i.nth, i.flush)
	if i.mmap {
		name += "-mmap"
	}
	return name
}

// attach makes strace fail system calls of a running process. It returns when
// the calls that follow are caught.
func attach(t testing.TB, pid int, i injection) *harness.Proc {
	t.Helper()
	p := harness.Start(t, harness.Spec{Name: "strace", Path: "strace", Args: []string{"-f", "-p", fmt.Sprint(pid), "-o", filepath.Join(harness.Dir(t), "trace"),
		"-e", "trace=" + i.calls, "-e", fmt.Sprintf("inject=%s:error=%s:when=%d+", i.calls, i.errno, i.nth)}})
	p.ExpectExit()
	p.WaitLine(`attached`, 20*time.Second)
	return p
}

// TestT14FailingSync: the kth sync of the log fails. The broker answers no
// SEND_OK that it cannot keep, says which file and why, and ends with a status
// that is not 0 within five seconds; what it had acknowledged under SYNC_FLUSH
// is there after the next start.
func TestT14FailingSync(t *testing.T) {
	needs(t, "strace")
	for _, i := range []injection{
		{calls: "fdatasync", errno: "EIO", nth: 1, flush: "SYNC_FLUSH"},
		{calls: "fdatasync", errno: "EIO", nth: 3, flush: "SYNC_FLUSH"},
		{calls: "fdatasync", errno: "EIO", nth: 10, flush: "SYNC_FLUSH"},
		{calls: "fdatasync", errno: "ENOSPC", nth: 2, flush: "SYNC_FLUSH"},
		{calls: "fdatasync,msync", errno: "EIO", nth: 1, flush: "SYNC_FLUSH", mmap: true},
		{calls: "fdatasync,msync", errno: "EIO", nth: 4, flush: "SYNC_FLUSH", mmap: true},
		// Without io_uring the broker's syncs are calls that can be made to fail.
		{calls: "fdatasync,msync,fsync,io_uring_enter", errno: "EIO", nth: 1, flush: "ASYNC_FLUSH"},
		{calls: "fdatasync,msync,fsync,io_uring_enter", errno: "EIO", nth: 3, flush: "ASYNC_FLUSH"},
		{calls: "pwrite64", errno: "EIO", nth: 1, flush: "SYNC_FLUSH"},
		{calls: "pwrite64", errno: "EIO", nth: 5, flush: "SYNC_FLUSH"},
		{calls: "pwrite64", errno: "ENOSPC", nth: 3, flush: "SYNC_FLUSH"},
	} {
		t.Run(i.String(), func(t *testing.T) { t.Parallel(); failingSync(t, i) })
	}
}

func failingSync(t *testing.T, i injection) {
	props := map[string]string{"flushDiskType": i.flush, "flushIntervalCommitLog": "100", "mappedFileSizeCommitLog": fmt.Sprint(4 << 20)}
	if i.mmap {
		props["writeWithoutMmap"] = "false"
	}
	broker := harness.StartBroker(t, "", harness.Config{Props: props})
	run := checker.NewRun(harness.Rand(t))
	c := dial(t, broker.Addr())
	if err := c.NewTopic("Fail", 1); err != nil {
		t.Fatal(err)
	}
	// Some are safe before anything fails.
	for seq := range int64(20) {
		if code := send(run, c, checker.Attempt{ID: checker.ID{Seq: seq}, N: 1}, "Fail", 0, 300); code != raw.Success {
			t.Fatalf("code %d before anything failed", code)
		}
	}
	broker.ExpectExit()
	trace := attach(t, broker.PID(), i)
	// Sends go on until the broker is gone, so that an error is met and the
	// answers after it are seen.
	begun, failed := time.Now(), time.Time{}
	okAfter := 0
	for seq := int64(20); ; seq++ {
		code := send(run, c, checker.Attempt{ID: checker.ID{Seq: seq}, N: 1}, "Fail", 0, 300)
		switch {
		case code == -1 && c.Err() != nil:
			if failed.IsZero() {
				failed = time.Now()
			}
		case code != raw.Success && failed.IsZero():
			failed = time.Now()
		case code == raw.Success && !failed.IsZero():
			okAfter++
		}
		if !broker.Running() || c.Err() != nil || time.Since(begun) > 20*time.Second {
			break
		}
	}
	if code := broker.Wait(6 * time.Second); code == 0 || code < 0 {
		t.Errorf("exit code %d after a failed %s\n%s", code, i.calls, broker.Log())
	}
	if d := time.Since(failed); !failed.IsZero() && d > 5*time.Second {
		t.Errorf("the broker ended %v after the first failure", d)
	}
	if okAfter > 0 {
		t.Errorf("%d SEND_OK after the first failure", okAfter)
	}
	trace.Kill()
	said(t, broker, map[string]string{"EIO": "input/output error", "ENOSPC": "no space left on device"}[i.errno])
	restartAfter(t, broker, run, "Fail")
}

// said checks that the log names a file of the store and the reason.
func said(t testing.TB, broker *harness.Server, reason string) {
	t.Helper()
	text := broker.Stderr()
	if !regexp.MustCompile(regexp.QuoteMeta(broker.Store()) + `/[a-z]`).MatchString(text) {
		t.Errorf("no file of the store is named:\n%s", broker.Log())
	}
	if !strings.Contains(text, reason) {
		t.Errorf("the reason %q is not named:\n%s", reason, broker.Log())
	}
	if strings.Contains(text, "SIGBUS") || strings.Contains(text, "unexpected fault address") {
		t.Errorf("the process was ended by a fault:\n%s", broker.Log())
	}
}

// restartAfter starts the broker on the healthy disk and checks everything.
func restartAfter(t testing.TB, broker *harness.Server, run *checker.Run, topic string) {
	t.Helper()
	verify(t, broker)
	broker.Start()
	finish(t, run, broker.Addr(), topic, 1, checker.Rules{Ordered: true, Lookups: true, PlannedSends: 21})
	if code := broker.Stop(); code != 0 {
		t.Errorf("exit code %d\n%s", code, broker.Log())
	}
	verify(t, broker)
}

// TestT14FailingAllocation: the next log file cannot be allocated. With ENOSPC
// messages are refused with code 14 until there is space again; with another
// error the broker may also end. Neither is a fault or a false SEND_OK.
func TestT14FailingAllocation(t *testing.T) {
	needs(t, "strace")
	for _, i := range []injection{
		{calls: "fallocate", errno: "EIO", nth: 1, flush: "SYNC_FLUSH"},
		{calls: "fallocate", errno: "ENOSPC", nth: 1, flush: "SYNC_FLUSH"},
		{calls: "fallocate", errno: "ENOSPC", nth: 2, flush: "ASYNC_FLUSH"},
		{calls: "fallocate", errno: "EIO", nth: 1, flush: "ASYNC_FLUSH"},
	} {
		t.Run(i.String(), func(t *testing.T) { t.Parallel(); failingAllocation(t, i) })
	}
}

func failingAllocation(t *testing.T, i injection) {
	broker := harness.StartBroker(t, "", harness.Config{Props: map[string]string{"flushDiskType": i.flush, "mappedFileSizeCommitLog": fmt.Sprint(1 << 20)}})
	run := checker.NewRun(harness.Rand(t))
	c := dial(t, broker.Addr())
	if err := c.NewTopic("Fail", 1); err != nil {
		t.Fatal(err)
	}
	seq := int64(0)
	for ; seq < 20; seq++ {
		if code := send(run, c, checker.Attempt{ID: checker.ID{Seq: seq}, N: 1}, "Fail", 0, 300); code != raw.Success {
			t.Fatalf("code %d before anything failed", code)
		}
	}
	broker.ExpectExit()
	trace := attach(t, broker.PID(), i)
	refused := 0
	for begun := time.Now(); broker.Running() && c.Err() == nil && refused < 5 && time.Since(begun) < 20*time.Second; seq++ {
		if code := send(run, c, checker.Attempt{ID: checker.ID{Seq: seq}, N: 1}, "Fail", 0, 20000); code == raw.NotAvailable {
			refused++
		} else if code > 0 {
			t.Fatalf("code %d", code)
		}
	}
	if broker.Running() {
		if refused == 0 {
			t.Errorf("%d messages of 20,000 bytes found room in files that cannot be allocated", seq)
		}
		// Reads go on, unless the broker is about to end, as it may after EIO.
		if _, err := c.Pull("g", "Fail", 0, 0, 32, 0); err != nil && i.errno == "ENOSPC" {
			t.Errorf("a pull while no file can be allocated: %v", err)
		}
		trace.Signal(2) // SIGINT: strace detaches
		<-trace.Done()
		harness.Eventually(t, 15*time.Second, "messages to be taken again", func() bool {
			seq++
			return !broker.Running() || send(run, c, checker.Attempt{ID: checker.ID{Seq: seq}, N: 1}, "Fail", 0, 20000) == raw.Success
		})
	}
	if broker.Running() {
		if code := broker.Stop(); code != 0 {
			t.Errorf("exit code %d\n%s", code, broker.Log())
		}
	} else {
		if code := broker.Wait(time.Second); code <= 0 {
			t.Errorf("exit code %d\n%s", code, broker.Log())
		}
		if i.errno == "ENOSPC" {
			t.Errorf("the broker ended because of a full disk\n%s", broker.Log())
		}
		trace.Kill()
	}
	said(t, broker, map[string]string{"EIO": "input/output error", "ENOSPC": "no space left on device"}[i.errno])
	restartAfter(t, broker, run, "Fail")
}

// TestT14FailingRename: a table cannot be replaced. What was asked for is not
// answered with success, the table on the disk stays whole, and once renames
// work again so does everything.
func TestT14FailingRename(t *testing.T) {
	needs(t, "strace")
	t.Parallel()
	i := injection{calls: "rename,renameat,renameat2", errno: "EIO", nth: 1}
	broker := harness.StartBroker(t, "", harness.Config{})
	run := checker.NewRun(harness.Rand(t))
	c := dial(t, broker.Addr())
	if err := c.NewTopic("Fail", 1); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(filepath.Join(broker.Store(), "config", "topics.json"))
	if err != nil {
		t.Fatal(err)
	}
	broker.ExpectExit()
	trace := attach(t, broker.PID(), i)
	if err := c.NewTopic("NotOnDisk", 1); err == nil {
		t.Error("a topic was created although its table could not be replaced")
	}
	for seq := range int64(25) {
		if code := send(run, c, checker.Attempt{ID: checker.ID{Seq: seq}, N: 1}, "Fail", 0, 300); code != raw.Success && broker.Running() {
			t.Errorf("a send needs no rename: code %d", code)
		}
	}
	if after, err := os.ReadFile(filepath.Join(broker.Store(), "config", "topics.json")); err != nil || string(after) != string(before) {
		t.Errorf("topics.json has changed: %v", err)
	}
	if broker.Running() {
		trace.Signal(2)
		<-trace.Done()
		if err := c.NewTopic("OnDisk", 1); err != nil {
			t.Errorf("after renames work again: %v", err)
		}
		if code := broker.Stop(); code != 0 {
			t.Errorf("exit code %d\n%s", code, broker.Log())
		}
	} else {
		trace.Kill()
	}
	if !strings.Contains(broker.Stderr(), "topics.json") || !strings.Contains(broker.Stderr(), "input/output error") {
		t.Errorf("file and reason are not named:\n%s", broker.Log())
	}
	restartAfter(t, broker, run, "Fail")
}

// TestT14ReadOnlyDisk: a store on a disk that cannot be written does not start,
// with one sentence.
func TestT14ReadOnlyDisk(t *testing.T) {
	needs(t, "mount")
	t.Parallel()
	d := newDisk(t, 32)
	if out, err := exec.Command("mount", "-o", "remount,ro", d.dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	broker := harness.StartBroker(t, "", harness.Config{NoWait: true, Props: map[string]string{"storePathRootDir": d.dir + "/store", "storePathCommitLog": d.dir + "/store/commitlog"}})
	if code := broker.Wait(30 * time.Second); code <= 0 {
		t.Errorf("exit code %d\n%s", code, broker.Log())
	}
	if !strings.Contains(broker.Stderr(), d.dir) || !strings.Contains(broker.Stderr(), "read-only") {
		t.Errorf("file and reason are not named:\n%s", broker.Log())
	}
}
