package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// process is a broker on processor 0.
type process struct {
	cmd   *exec.Cmd
	addr  string
	port  int
	dir   string
	began time.Time
}

// freePort finds p with p-2 and p+1 free as well, as a broker needs them.
func freePort() (int, error) {
	for p := 31011; p < 32000; p += 10 {
		ok := true
		for _, q := range []int{p - 2, p, p + 1, p + 20000} {
			ln, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", q))
			if err != nil {
				ok = false
				break
			}
			ln.Close()
		}
		if ok {
			return p, nil
		}
	}
	return 0, fmt.Errorf("no free ports between 31000 and 32000")
}

// broker starts a broker with an empty store on processor 0 and waits until it
// listens.
func (p *plan) broker(ctx context.Context, kind string, props ...string) (*process, error) {
	return p.brokerOn(ctx, []string{"0"}, kind, props...)
}

// brokerOn is broker on another processor, which a command that starts another one
// (nice) may follow.
func (p *plan) brokerOn(ctx context.Context, where []string, kind string, props ...string) (*process, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(p.dir, kind+"-")
	if err != nil {
		return nil, err
	}
	conf := append([]string{"brokerClusterName=DefaultCluster", "brokerName=broker-a", "brokerId=0", "brokerIP1=127.0.0.1",
		"listenPort=" + strconv.Itoa(port), "storePathRootDir=" + dir, "storePathCommitLog=" + filepath.Join(dir, "commitlog"),
		"brokerRole=ASYNC_MASTER", "diskMaxUsedSpaceRatio=95", "defaultTopicQueueNums=8",
		"waitTimeMillsInSendQueue=10000"}, props...) // a virtual machine stands still at times: a row is not to end for that
	file := filepath.Join(dir, "broker.properties")
	if err := os.WriteFile(file, []byte(strings.Join(conf, "\n")+"\n"), 0o644); err != nil {
		return nil, err
	}
	args := slices.Concat([]string{"-c"}, where, []string{p.gomq, "broker", "-c", file})
	env := os.Environ()
	if kind == "java" {
		args, env = javaCommand(p.java, dir, file)
	}
	return launch(ctx, dir, port, args, env)
}

func launch(ctx context.Context, dir string, port int, args, env []string) (*process, error) {
	log, err := os.Create(filepath.Join(dir, "broker.log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	b := &process{cmd: exec.CommandContext(ctx, "taskset", args...), addr: fmt.Sprintf("127.0.0.1:%d", port), port: port, dir: dir}
	b.cmd.Stdout, b.cmd.Stderr, b.cmd.Env = log, log, env
	b.began = time.Now()
	if err := b.cmd.Start(); err != nil {
		return nil, err
	}
	for end := time.Now().Add(60 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		c, err := net.DialTimeout("tcp", b.addr, time.Second)
		if err == nil {
			c.Close()
			return b, nil
		}
		if b.cmd.Process.Signal(syscall.Signal(0)) != nil {
			break
		}
	}
	text, _ := os.ReadFile(filepath.Join(dir, "broker.log"))
	b.stop()
	return nil, fmt.Errorf("the broker did not listen on %s: %s", b.addr, text)
}

// pid is the broker's process: taskset becomes it.
func (b *process) pid() int { return b.cmd.Process.Pid }

func (b *process) stop() {
	b.halt()
	os.RemoveAll(b.dir)
}

// halt ends the process and keeps its store.
func (b *process) halt() {
	b.cmd.Process.Signal(syscall.SIGTERM)
	b.cmd.Wait()
}

func (b *process) processors(list string) {
	exec.Command("taskset", "-ap", "-c", list, strconv.Itoa(b.pid())).Run()
}

// plain asks for answers that are not compressed: that would take the broker longer
// than to gather them.
var plain = http.Client{Transport: &http.Transport{DisableCompression: true}}

// metric is one sample of the broker's /metrics by its name: the one without labels
// or the first with some.
func (b *process) metric(name string) (float64, error) {
	r, err := plain.Get(fmt.Sprintf("http://127.0.0.1:%d/metrics", b.port+20000))
	if err != nil {
		return 0, err
	}
	defer r.Body.Close()
	for s := bufio.NewScanner(r.Body); s.Scan(); {
		v, ok := strings.CutPrefix(s.Text(), name)
		if !ok || v == "" {
			continue
		}
		if at := strings.LastIndex(v, "} "); v[0] == '{' && at > 0 {
			return strconv.ParseFloat(v[at+2:], 64)
		}
		if v[0] == ' ' {
			return strconv.ParseFloat(v[1:], 64)
		}
	}
	return 0, fmt.Errorf("/metrics has no %s", name)
}

// anon is the process's anonymous memory in MiB.
func (b *process) anon() (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", b.pid()))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if v, ok := strings.CutPrefix(line, "RssAnon:"); ok {
			kb, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(v), " kB"), 64)
			return kb / 1024, err
		}
	}
	return 0, fmt.Errorf("no RssAnon of process %d", b.pid())
}

func javaCommand(lib, dir, file string) (args, env []string) {
	conf := filepath.Join(dir, "home", "conf")
	os.MkdirAll(conf, 0o755)
	os.WriteFile(filepath.Join(conf, "logback_broker.xml"), []byte("<configuration><root level=\"OFF\"/></configuration>"), 0o644)
	args = []string{"-c", "0", "java"}
	for _, m := range []string{"java.nio", "sun.nio.ch", "java.lang", "java.util", "java.net"} {
		args = append(args, "--add-opens=java.base/"+m+"=ALL-UNNAMED")
	}
	args = append(args, "--add-exports=java.base/sun.nio.ch=ALL-UNNAMED", "--add-exports=java.base/jdk.internal.ref=ALL-UNNAMED",
		"-Xms4g", "-Xmx4g", "-XX:MaxDirectMemorySize=4g", "-XX:ActiveProcessorCount=1", "-XX:+UseG1GC", "-XX:+AlwaysPreTouch",
		"-Duser.home="+dir, "-Drocketmq.home.dir="+filepath.Join(dir, "home"), "-cp", lib+"/*",
		"org.apache.rocketmq.broker.BrokerStartup", "-c", file)
	return args, append(os.Environ(), "ROCKETMQ_HOME="+filepath.Join(dir, "home"))
}

// touch writes to n MiB of memory and gives it back: what is measured next finds
// memory that the hypervisor has provided already.
func touch(n int) {
	if n <= 0 {
		return
	}
	b, err := unix.Mmap(-1, 0, n<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return
	}
	defer unix.Munmap(b)
	unix.Madvise(b, unix.MADV_HUGEPAGE) // many times as fast; without it the rest works as well
	if unix.Madvise(b, unix.MADV_POPULATE_WRITE) == nil {
		return
	}
	for i := 0; i < len(b); i += 4096 {
		b[i] = 1
	}
}

// machine is what the figures were measured on.
func machine() string {
	cpuName := "unknown processor"
	n := 0
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			if v, ok := strings.CutPrefix(line, "model name"); ok {
				cpuName = strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(v), ":"))
				n++
			}
		}
	}
	release, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	return fmt.Sprintf("%d x %s, Linux %s", n, cpuName, strings.TrimSpace(string(release)))
}
