//go:build faults

// Package faults kills brokers, fails their system calls, fills their disks and
// cuts the wires between them, and judges what they keep by the checker and by the
// store's own verification. The names T10, T14 and so on are those of the test
// programme.
//
// It needs root, loop devices, mkfs.ext4, strace, ip, tc and ss. What is missing is
// named and counted as skipped.
package faults

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gomq/test/checker"
	"gomq/test/goclient"
	"gomq/test/harness"
	"gomq/test/raw"
)

func TestMain(m *testing.M) {
	if ns := os.Getenv(childEnv); ns != "" {
		consume(ns)
	}
	harness.AtExit(leftOver)
	harness.AtExit(leftOnWire)
	harness.Main(m)
}

// needs skips the test unless it runs as root on a machine with the programs.
func needs(t testing.TB, programs ...string) {
	t.Helper()
	harness.OnlyGomq(t)
	if os.Getuid() != 0 {
		harness.Skip(t, "needs root")
	}
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			harness.Skip(t, "needs "+p)
		}
	}
}

// output runs a program and returns what it printed.
func output(name string, args ...string) (string, error) {
	b, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s %s: %v: %s", name, strings.Join(args, " "), err, b)
	}
	return strings.TrimSpace(string(b)), nil
}

// mark is part of every path that is mounted here.
const mark = "gomq-test-"

// disk is an ext4 file system of its own on a loop device.
type disk struct {
	dir string
}

// newDisk makes and mounts a disk of so many MiB.
func newDisk(t testing.TB, mib int64) *disk {
	t.Helper()
	needs(t, "losetup", "mkfs.ext4", "mount", "umount")
	base := harness.Dir(t)
	image, dir := filepath.Join(base, mark+"image"), filepath.Join(base, mark+"mount")
	f, err := os.Create(image)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Truncate(mib<<20), f.Close(), os.Mkdir(dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	loop, err := output("losetup", "-f", "--show", image)
	if err != nil {
		harness.Skip(t, "no loop device: "+err.Error())
	}
	t.Cleanup(func() {
		if _, err := output("losetup", "-d", loop); err != nil {
			t.Error(err)
		}
	})
	// No blocks are kept for root, who runs these tests.
	if _, err := output("mkfs.ext4", "-q", "-F", "-m", "0", loop); err != nil {
		t.Fatal(err)
	}
	if _, err := output("mount", loop, dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// A process that was killed a moment ago may still hold its mappings.
		var err error
		for range 100 {
			if _, err = output("umount", dir); err == nil {
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
		t.Error(err)
	})
	return &disk{dir: dir}
}

// leftOver finds mounts and loop devices of these tests that still exist.
func leftOver() error {
	mounts, err := os.ReadFile("/proc/mounts")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, "/"+mark+"mount") {
			return fmt.Errorf("mount %s", strings.TrimSpace(line))
		}
	}
	if loops, err := output("losetup", "-a"); err == nil {
		for line := range strings.Lines(loops) {
			if strings.Contains(line, "/"+mark+"image") {
				return fmt.Errorf("loop device %s", strings.TrimSpace(line))
			}
		}
	}
	return nil
}

// verify lets the store judge itself while nobody has it open: `gomq store
// verify` ends with status 0 when it finds nothing wrong, and says what it finds.
func verify(t testing.TB, broker *harness.Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	b, err := exec.CommandContext(ctx, harness.Build(t), "store", "verify", "-c", broker.Conf).CombinedOutput()
	if err != nil {
		t.Fatalf("gomq store verify -c %s: %v\n%s", broker.Conf, err, b)
	}
}

// boot waits until the broker serves or has ended, and says which.
func boot(t testing.TB, s *harness.Server) bool {
	t.Helper()
	start := time.Now()
	for {
		select {
		case <-s.Done():
			return false
		default:
		}
		if strings.Contains(s.Stdout(), "boot success") {
			if d := time.Since(start); d > 10*time.Second {
				t.Errorf("the broker served %v after its start", d)
			}
			return true
		}
		if time.Since(start) > time.Minute {
			t.Fatalf("the broker does not start\n%s", s.Log())
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func dial(t testing.TB, addr string) *raw.Conn {
	t.Helper()
	c, err := raw.Dial(addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// send makes one attempt and records it. It returns the answer's code, or -1
// when there was none.
func send(run *checker.Run, c *raw.Conn, a checker.Attempt, topic string, queue, size int) int {
	m := run.Begin(a, topic, queue, size)
	sent, err := c.Send("pg-faults", topic, queue, goclient.RawProps(m), m.Body)
	var code *raw.CodeError
	switch {
	case err == nil && sent.Code == raw.Success:
		run.Acked(m, sent.Queue, sent.Offset, sent.ID)
		return raw.Success
	case err == nil:
		run.Unknown(m, fmt.Sprint("code ", sent.Code))
		return sent.Code
	case errors.As(err, &code) && definite(code.Code):
		run.Refused(m, code.Code, code.Remark)
		return code.Code
	case errors.As(err, &code):
		run.Unknown(m, err.Error())
		return code.Code
	}
	run.Unknown(m, err.Error())
	return -1
}

// definite says whether an answer promises that nothing was stored.
func definite(code int) bool {
	switch code {
	case raw.SystemBusy, raw.MessageIllegal, raw.NotAvailable, raw.NoPermission, raw.TopicNotExist:
		return true
	}
	return false
}

// finish sweeps a topic, looks everything up, and checks the run.
func finish(t testing.TB, run *checker.Run, addr, topic string, queues int, rules checker.Rules) {
	t.Helper()
	c := dial(t, addr)
	goclient.Sweep(t, run, "end", c, topic, queues)
	if rules.Lookups {
		// The index is written behind the answers.
		acks := run.Acks()
		if len(acks) == 0 {
			t.Fatal("nothing was acknowledged")
		}
		last := acks[0]
		for _, a := range acks {
			if a.MsgID > last.MsgID {
				last = a
			}
		}
		harness.Eventually(t, 20*time.Second, "the index to hold the last key", func() bool {
			recs, err := c.ByKey(topic, run.Key(last.ID))
			return err == nil && len(recs) > 0
		})
		goclient.LookUp(t, run, c)
	}
	if v := run.Check(rules); !v.Valid() {
		t.Fatal(v)
	}
}
