package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"gomq/internal/task"
)

func groupOf() *task.Group { return task.NewGroup(context.Background(), zap.NewNop(), nil) }

// closedIsFine makes the end of a run, which closes the connections under their
// loops, no error. A broker that closes one is an error.
func closedIsFine(w *wire, err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("the broker at %s closed the connection", w.o.Addr)
	}
	return err
}

// sleepUntil waits until a request is due. It is more exact than the runtime's timers,
// which are served once a millisecond on an idle machine; but it keeps one of the
// scheduler's processors from other goroutines for a while, so that only one of them, or
// a few who do it seldom, may sleep so.
func sleepUntil(due time.Time) {
	d := time.Until(due)
	if d <= 0 {
		return
	}
	ts := unix.NsecToTimespec(int64(d))
	for unix.Nanosleep(&ts, &ts) == unix.EINTR {
	}
}

// pin keeps all threads of this process, and those that they will start, on one
// processor.
func pin(cpu int) error {
	var set unix.CPUSet
	set.Set(cpu)
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err
	}
	for _, t := range tasks {
		tid, err := strconv.Atoi(t.Name())
		if err != nil {
			continue
		}
		if err := unix.SchedSetaffinity(tid, &set); err != nil && err != unix.ESRCH {
			return fmt.Errorf("pinning to processor %d: %w", cpu, err)
		}
	}
	return nil
}

// consumed is what the broker and this process have used so far.
type consumed struct {
	cpu     time.Duration
	own     time.Duration
	faults  int64
	anonMiB float64
}

func usage(pid int) (c consumed) {
	var r unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &r) == nil {
		c.own = time.Duration(r.Utime.Nano() + r.Stime.Nano())
	}
	if pid == 0 {
		return c
	}
	dir := "/proc/" + strconv.Itoa(pid)
	// The fields behind the last ')' of stat, see proc(5): minflt 7, majflt 9,
	// utime 11, stime 12 from there on.
	if b, err := os.ReadFile(dir + "/stat"); err == nil {
		f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
		if len(f) > 12 {
			num := func(i int) int64 { n, _ := strconv.ParseInt(f[i], 10, 64); return n }
			c.cpu = time.Duration(num(11)+num(12)) * 10 * time.Millisecond
			c.faults = num(7) + num(9)
		}
	}
	if b, err := os.ReadFile(dir + "/status"); err == nil {
		for line := range strings.Lines(string(b)) {
			if v, ok := strings.CutPrefix(line, "RssAnon:"); ok {
				kb, _ := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(v), "kB")), 64)
				c.anonMiB = kb / 1024
			}
		}
	}
	return c
}
