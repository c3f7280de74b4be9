// Command bench prints what gomq reaches on this machine, all rows from one run:
// sends, synchronous flush, pulls, end to end, memory and start-up. With PROBES
// naming the binary of a limit probe its rows stand beside, measured in the same
// rounds; with GOMQ_TEST_JAVA_LIB naming a directory of RocketMQ 4.9.7 jars, the
// original's rows do.
//
// The broker runs on processor 0 and the generator on processor 1. Every figure
// is the median of the rounds; spread is (max-min)/median of them.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"
)

// plan is what one run of this command does.
type plan struct {
	rounds int
	dur    time.Duration
	touch  int    // MiB of memory touched before each row
	shapes string // regular expression: which of the send rows
	probes string
	java   string
	dir    string // stores and results
	gomq   string // the binary
	table  table
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var p plan
	rows := flag.String("rows", "send,sync,pull,java,sql,e2e,memory,start,replicate,catchup", "which rows")
	flag.IntVar(&p.rounds, "rounds", 5, "rounds; the figures are medians")
	flag.DurationVar(&p.dur, "dur", 3*time.Second, "measured time of a row in a round")
	flag.IntVar(&p.touch, "touch", 6000, "MiB of memory touched before each row: in a virtual machine the first touch of memory costs more than the work")
	flag.StringVar(&p.shapes, "shapes", ".", "regular expression: which shapes (CONNECTIONS x IN FLIGHT) of the send rows")
	flag.StringVar(&p.probes, "probes", os.Getenv("PROBES"), "binary of the limit probes")
	flag.StringVar(&p.java, "java", os.Getenv("GOMQ_TEST_JAVA_LIB"), "directory with the jars of RocketMQ 4.9.7")
	flag.StringVar(&p.dir, "dir", "", "directory for stores, on a real disk (default: a temporary one)")
	flag.Parse()
	if err := p.run(ctx, strings.Split(*rows, ",")); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func (p *plan) run(ctx context.Context, rows []string) error {
	dir, err := os.MkdirTemp(p.dir, "gomq-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	p.dir = dir
	p.gomq = filepath.Join(dir, "gomq")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", p.gomq, "./cmd/gomq")
	build.Dir = ".."
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("building gomq: %w\n%s", err, out)
	}
	fmt.Printf("%s, %s\n", machine(), time.Now().Format("2006-01-02 15:04"))
	if p.probes == "" {
		fmt.Println("no limit probes (PROBES is not set): their rows are left out")
	}
	known := map[string]func(context.Context) error{
		"send": p.send, "sync": p.sync, "pull": p.pull, "sql": p.sql, "e2e": p.e2e, "memory": p.memory, "start": p.start, "java": p.original,
		"replicate": p.replicate, "catchup": p.catchup,
	}
	for _, row := range rows {
		fn := known[row]
		if fn == nil {
			return fmt.Errorf("no rows are called %q", row)
		}
		if err := fn(ctx); err != nil {
			p.table.print(os.Stdout) // what was measured so far
			return fmt.Errorf("%s: %w", row, err)
		}
	}
	p.table.print(os.Stdout)
	return nil
}

// shape is CONNECTIONS x IN FLIGHT.
type shape struct {
	conns, depth int
	each         bool
}

func (s shape) String() string {
	name := fmt.Sprintf("%d x %d", s.conns, s.depth)
	if s.each {
		name += " each"
	}
	return name
}

var shapes = []shape{{8, 32, false}, {1, 64, true}, {64, 1, false}, {1, 1, false}}

// send is the async rows, beside the limit's in the same rounds.
func (p *plan) send(ctx context.Context) error {
	wanted, err := regexp.Compile(p.shapes)
	if err != nil {
		return err
	}
	b, err := p.broker(ctx, "gomq", "flushDiskType=ASYNC_FLUSH")
	if err != nil {
		return err
	}
	defer b.stop()
	if err := p.load(ctx, b, shape{8, 32, false}, 4*time.Second, nil); err != nil { // memory, topic, scheduler
		return err
	}
	for range p.rounds {
		if err := p.limits(ctx, p.shapes+`.* work (none|full, mmap)$`, "ingest-limit", "-groups", "work", "-seg", "1073741824", "-dir", p.dir); err != nil {
			return err
		}
		for _, s := range shapes {
			if !wanted.MatchString(s.String()) {
				continue
			}
			if err := p.load(ctx, b, s, p.dur, p.table.row("async "+s.String())); err != nil {
				return err
			}
			if err := p.probeLoad(ctx, b, s, "async "+s.String()+" (by the probes)"); err != nil {
				return err
			}
		}
	}
	return nil
}

// sync is SYNC_FLUSH.
func (p *plan) sync(ctx context.Context) error {
	b, err := p.broker(ctx, "gomq", "flushDiskType=SYNC_FLUSH")
	if err != nil {
		return err
	}
	defer b.stop()
	two := []shape{{64, 1, false}, {1, 64, false}}
	if err := p.load(ctx, b, two[0], time.Second, nil); err != nil {
		return err
	}
	for range p.rounds {
		if err := p.limits(ctx, `^(64 x 1|1 x 64) stage falloc fdatasync$`, "flush-limit", "-groups", "tcp", "-dir", p.dir); err != nil {
			return err
		}
		for _, s := range two {
			if err := p.load(ctx, b, s, p.dur, p.table.row("sync "+s.String())); err != nil {
				return err
			}
			if err := p.probeLoad(ctx, b, s, "sync "+s.String()+" (by the probes)"); err != nil {
				return err
			}
		}
	}
	return nil
}

// load runs gomq bench send against b and adds its figures to row (nil: warm-up).
func (p *plan) load(ctx context.Context, b *process, s shape, d time.Duration, row *row, flags ...string) error {
	args := []string{"bench", "send", "--conns", fmt.Sprint(s.conns), "--depth", fmt.Sprint(s.depth), fmt.Sprintf("--each=%v", s.each), "--warm", "1s"}
	return p.generate(ctx, b, append(args, flags...), d, row)
}

// generate runs one verb of gomq bench.
func (p *plan) generate(ctx context.Context, b *process, args []string, d time.Duration, row *row) error {
	touch(p.touch)
	args = append(args, "-a", b.addr, "--pid", fmt.Sprint(b.pid()), "--cpu", "1", "--time", d.String(), "-o", "json")
	cmd := exec.CommandContext(ctx, p.gomq, args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("gomq %s: %w", strings.Join(args, " "), err)
	}
	var r map[string]any
	if err := json.Unmarshal(out, &r); err != nil {
		return err
	}
	if row == nil {
		return nil
	}
	for from, to := range map[string]string{"perSecond": rate, "serverCPUusPerMessage": cpu, "p50us": p50, "p99us": p99, "mbPerSecond": mbs} {
		if v, ok := r[from].(float64); ok {
			row.add(to, v)
		}
	}
	return nil
}

// pullQueue is how many messages the limit's queue has.
const pullQueue = 800_000

// pull reads back one queue whose records lie side by side.
func (p *plan) pull(ctx context.Context) error {
	b, err := p.broker(ctx, "gomq", "flushDiskType=ASYNC_FLUSH")
	if err != nil {
		return err
	}
	defer b.stop()
	if err := p.fill(ctx, b, pullQueue, oneQueue("PullTest")...); err != nil {
		return err
	}
	for range p.rounds {
		if err := p.limits(ctx, `^copy$`, "read-limit", "-groups", "warm", "-dir", p.dir); err != nil {
			return err
		}
		for _, depth := range []int{1, 8} {
			args := []string{"bench", "pull", "-t", "PullTest", "--queues", "1", "--conns", "1", "--depth", fmt.Sprint(depth), "--warm", "500ms"}
			if err := p.generate(ctx, b, args, p.dur, p.table.row(fmt.Sprintf("pull %d in flight", depth))); err != nil {
				return err
			}
		}
		if err := p.probePull(ctx, b); err != nil {
			return err
		}
	}
	return nil
}

// fill sends n messages of 1 KiB or more.
func (p *plan) fill(ctx context.Context, b *process, n float64, flags ...string) error {
	for sent := 0.0; sent < n; {
		r := &row{values: map[string][]float64{}}
		if err := p.generate(ctx, b, append([]string{"bench", "send", "--warm", "0s"}, flags...), 2*time.Second, r); err != nil {
			return err
		}
		sent += 2 * r.values[rate][0]
	}
	return nil
}

// oneQueue are the flags of fill for messages side by side in one queue.
func oneQueue(topic string) []string {
	return []string{"-t", topic, "--queues", "1", "--conns", "4", "--depth", "32"}
}

func (p *plan) e2e(ctx context.Context) error {
	b, err := p.broker(ctx, "gomq", "flushDiskType=ASYNC_FLUSH")
	if err != nil {
		return err
	}
	defer b.stop()
	for range p.rounds {
		if err := p.generate(ctx, b, []string{"bench", "e2e", "--rate", "500", "--warm", "1s"}, p.dur, p.table.row("end to end at 500 a second")); err != nil {
			return err
		}
	}
	return nil
}

// original is the Java broker in the shapes that a comparison is about, and gomq in
// the same rounds: what a machine makes of a system call changes within minutes.
func (p *plan) original(ctx context.Context) error {
	if p.java == "" {
		fmt.Println("no jars of RocketMQ 4.9.7 (GOMQ_TEST_JAVA_LIB is not set): its rows are left out")
		return nil
	}
	java, err := p.broker(ctx, "java", "flushDiskType=ASYNC_FLUSH")
	if err != nil {
		return err
	}
	defer java.stop()
	two := shapes[:2]
	java.processors("0,1") // its compiler needs a core of its own until it is warm
	// It refuses sends while its compiler shares the processor.
	const refuses = "--allow-refusals"
	if err := p.load(ctx, java, two[0], 40*time.Second, nil, refuses); err != nil {
		return err
	}
	java.processors("0")
	ours, err := p.broker(ctx, "gomq", "flushDiskType=ASYNC_FLUSH")
	if err != nil {
		return err
	}
	defer ours.stop()
	for range p.rounds {
		for _, s := range two {
			if err := p.load(ctx, java, s, p.dur, p.table.row("Java 4.9.7 async "+s.String()), refuses); err != nil {
				return err
			}
			if err := p.load(ctx, ours, s, p.dur, p.table.row("async "+s.String()+", beside Java")); err != nil {
				return err
			}
		}
	}
	return nil
}
