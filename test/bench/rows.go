package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// limits runs one round of the probes and takes the rows that match only.
func (p *plan) limits(ctx context.Context, only string, args ...string) error {
	if p.probes == "" {
		return nil
	}
	_, err := p.runProbes(ctx, only, append(args, "-rounds", "1"), func(title, name string) string { return limitName(title, name) })
	return err
}

// limitName names a probe's row in our table; rows about the same thing share
// their beginning.
func limitName(title, name string) string {
	if strings.Contains(title, "pull") {
		if m := regexp.MustCompile(`(\d+) in flight, records (\w+)`).FindStringSubmatch(title); m != nil {
			if m[2] != "contiguous" {
				return ""
			}
			return "limit: pull " + m[1] + " in flight"
		}
	}
	return "limit: " + name
}

// probeLoad lets the probes' generator load our broker.
func (p *plan) probeLoad(ctx context.Context, b *process, s shape, name string) error {
	if p.probes == "" {
		return nil
	}
	args := []string{"load", "-addr", b.addr, "-pid", fmt.Sprint(b.pid()), "-cpu", "1", "-rounds", "1", "-topic", "BenchTopic", "-warm", "1s", "-dur", p.dur.String(),
		"-conns", fmt.Sprint(s.conns), "-depth", fmt.Sprint(s.depth), fmt.Sprintf("-each=%v", s.each)}
	_, err := p.runProbes(ctx, "", args, func(_, _ string) string { return name })
	return err
}

// probePull lets the probes' generator pull the queue that p.pull has filled.
func (p *plan) probePull(ctx context.Context, b *process) error {
	if p.probes == "" {
		return nil
	}
	args := []string{"read-limit", "-addr", b.addr, "-pid", fmt.Sprint(b.pid()), "-rounds", "1", "-topic", "PullTest", "-queues", "1", "-max", fmt.Sprint(pullQueue), "-dur", p.dur.String()}
	_, err := p.runProbes(ctx, "", args, func(_, name string) string {
		if m := regexp.MustCompile(`\d+ in flight`).FindString(name); m != "" {
			return "pull " + m + " (by the probes)"
		}
		return ""
	})
	return err
}

func (p *plan) runProbes(ctx context.Context, only string, args []string, name func(title, name string) string) (int, error) {
	out := filepath.Join(p.dir, "probes.jsonl")
	os.Remove(out)
	cmd := exec.CommandContext(ctx, p.probes, append(args, "-json", out)...)
	cmd.Env = append(os.Environ(), "PROBES_ONLY="+only, fmt.Sprintf("PROBES_WARM=%d", p.touch), "PROBES_QUIET=2s")
	if text, err := cmd.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, text)
	}
	f, err := os.Open(out)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	n := 0
	s := bufio.NewScanner(f)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		var line struct {
			Title   string
			Results []struct {
				Name string
				All  map[string][]float64
			}
		}
		if err := json.Unmarshal(s.Bytes(), &line); err != nil {
			return n, err
		}
		for _, r := range line.Results {
			to := name(line.Title, r.Name)
			if to == "" {
				continue
			}
			row := p.table.row(to)
			if pulls, records := r.All["rate"], r.All["recrate"]; len(records) > 0 { // our rows count messages
				for i, n := range records {
					r.All["srvus"][i] *= pulls[i] / n
				}
				r.All["rate"] = records
			}
			for from, key := range map[string]string{"rate": rate, "srvus": cpu, "p50": p50, "p99": p99} {
				for _, v := range r.All[from] {
					row.add(key, v)
				}
			}
			for _, v := range r.All["gbs"] {
				row.add(mbs, 1000*v)
			}
			n++
		}
	}
	return n, s.Err()
}

// sql is a search by an SQL92 expression that no message matches, beside pulling
// the same messages without one: a million in one queue, each with KEYS, TAGS,
// UNIQ_KEY, WAIT and MSG_REGION. What counts is the messages looked at.
func (p *plan) sql(ctx context.Context) error {
	b, err := p.broker(ctx, "gomq", "flushDiskType=ASYNC_FLUSH", "enablePropertyFilter=true")
	if err != nil {
		return err
	}
	defer b.stop()
	if err := p.fill(ctx, b, 1e6, oneQueue("SqlTest")...); err != nil {
		return err
	}
	for range p.rounds {
		for name, sql := range map[string]string{"pull 8 in flight, all": "", "pull 8 in flight, SQL92 without a match": "TAGS = 'TagB' AND KEYS <> 'x'"} {
			args := []string{"bench", "pull", "-t", "SqlTest", "--queues", "1", "--conns", "1", "--depth", "8", "--warm", "500ms", "--sql", sql}
			if err := p.generate(ctx, b, args, p.dur, p.table.row(name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// memory is allocations a message and anonymous memory, idle and loaded.
func (p *plan) memory(ctx context.Context) error {
	b, err := p.broker(ctx, "gomq", "flushDiskType=ASYNC_FLUSH")
	if err != nil {
		return err
	}
	defer b.stop()
	wait(ctx, 5*time.Second)
	idle, err := b.anon()
	if err != nil {
		return err
	}
	p.table.row("RssAnon idle, broker").add(mib, idle)
	if err := p.load(ctx, b, shape{8, 32, false}, time.Second, nil); err != nil {
		return err
	}
	perMessage := func(name string, args []string) error {
		m0, err := b.metric("go_memstats_mallocs_total")
		if err != nil {
			return err
		}
		n := &row{values: map[string][]float64{}}
		if err := p.generate(ctx, b, append(args, "--warm", "0s"), 4*time.Second, n); err != nil {
			return err
		}
		m1, err := b.metric("go_memstats_mallocs_total")
		if err != nil {
			return err
		}
		p.table.row("allocations a message, "+name).add(count, (m1-m0)/(4*n.values[rate][0]))
		return nil
	}
	if err := perMessage("send 8 x 32", []string{"bench", "send"}); err != nil {
		return err
	}
	if err := perMessage("pull 8 in flight", []string{"bench", "pull"}); err != nil {
		return err
	}
	if err := p.fill(ctx, b, 2e6); err != nil {
		return err
	}
	loaded, err := b.anon()
	if err != nil {
		return err
	}
	p.table.row("RssAnon after 2 million messages").add(mib, loaded)
	return nil
}

// start is the time from the start of the process to its first accepted send.
func (p *plan) start(ctx context.Context) error {
	for range p.rounds {
		b, err := p.broker(ctx, "gomq", "flushDiskType=ASYNC_FLUSH")
		if err != nil {
			return err
		}
		took, err := p.firstSend(ctx, b)
		b.stop()
		if err != nil {
			return err
		}
		p.table.row("start to first send, empty store").add(secs, took.Seconds())
	}
	b, err := p.broker(ctx, "gomq", "mappedFileSizeCommitLog=1048576", "defaultTopicQueueNums=1000", "autoCreateTopicEnable=true")
	if err != nil {
		return err
	}
	defer func() { b.stop() }()
	// Ten topics of 1,000 queues with a message each, then messages of 1 KiB for
	// 1,000 files of 1 MiB.
	for i := range 10 {
		args := []string{"bench", "send", "-t", fmt.Sprintf("Start%d", i), "--queues", "1000", "--conns", "1", "--depth", "1", "--warm", "0s"}
		if err := p.generate(ctx, b, args, 10*time.Millisecond, nil); err != nil {
			return err
		}
	}
	for files(b.dir) < 1000 {
		if err := p.load(ctx, b, shape{8, 32, false}, time.Second, nil); err != nil {
			return err
		}
	}
	for range p.rounds {
		b.halt()
		if b, err = launch(ctx, b.dir, b.port, b.cmd.Args[1:], b.cmd.Env); err != nil {
			return err
		}
		took, err := p.firstSend(ctx, b)
		if err != nil {
			return err
		}
		p.table.row(fmt.Sprintf("clean restart, %d log files of 1 MiB, 10,000 queues", files(b.dir)/100*100)).add(secs, took.Seconds())
	}
	return nil
}

func files(dir string) int {
	names, _ := os.ReadDir(filepath.Join(dir, "commitlog"))
	return len(names)
}

// firstSend tries until a send is accepted and says how long after the start of
// the process that was.
func (p *plan) firstSend(ctx context.Context, b *process) (time.Duration, error) {
	frame := sendFrame()
	var err error
	for end := time.Now().Add(60 * time.Second); time.Now().Before(end) && ctx.Err() == nil; time.Sleep(2 * time.Millisecond) {
		if err = sendOnce(b.addr, frame); err == nil {
			return time.Since(b.began), nil
		}
	}
	return 0, fmt.Errorf("no send was accepted: %w", err)
}

func sendOnce(addr string, frame []byte) error {
	c, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(3 * time.Second))
	if _, err := c.Write(frame); err != nil {
		return err
	}
	answer := make([]byte, 4096)
	n, err := c.Read(answer)
	if err != nil {
		return err
	}
	if !strings.Contains(string(answer[:n]), `"code":0,`) {
		return fmt.Errorf("answer: %q", answer[:n])
	}
	return nil
}

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
