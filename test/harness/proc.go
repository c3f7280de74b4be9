package harness

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// tailSize is how much of a stream is kept in memory; the file holds it all.
const tailSize = 256 << 10

// Spec says what to start.
type Spec struct {
	Name string   // for messages and for the files with its output
	Path string   // the program
	Args []string // without the program's name
	Env  []string // NAME=VALUE, added to this process's environment
	Dir  string   // working directory and place of the output files; "" = a Dir of its own
}

// Proc is a process of one test. When it ends without having been asked to,
// the test fails with the end of its output.
type Proc struct {
	Spec
	cmd            *exec.Cmd
	stdout, stderr *stream
	t              testing.TB

	mu       sync.Mutex
	expected bool // its end is no failure
	done     chan struct{}
	state    *os.ProcessState
}

// launched starts processes from one thread that never ends, because the
// kernel ties a child's parent-death signal to the thread that made it: the
// children of a test binary that is killed die with it.
var launched = newLauncher()

type launcher struct {
	mu    sync.Mutex
	jobs  chan func()
	procs map[*Proc]bool
}

func newLauncher() *launcher {
	l := &launcher{jobs: make(chan func()), procs: map[*Proc]bool{}}
	go func() {
		runtime.LockOSThread()
		for job := range l.jobs {
			job()
		}
	}()
	return l
}

func (l *launcher) start(cmd *exec.Cmd) error {
	errs := make(chan error)
	l.jobs <- func() { errs <- cmd.Start() }
	return <-errs
}

func (l *launcher) alive() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.procs)
}

func (l *launcher) killAll() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for p := range l.procs {
		p.cmd.Process.Kill()
	}
}

// Start runs a program. It is killed when the test ends, if it still runs.
func Start(t testing.TB, s Spec) *Proc {
	t.Helper()
	if s.Dir == "" {
		s.Dir = Dir(t)
	}
	p := &Proc{Spec: s, t: t, done: make(chan struct{})}
	p.cmd = exec.Command(s.Path, s.Args...)
	p.cmd.Dir = s.Dir
	p.cmd.Env = append(os.Environ(), s.Env...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var err error
	if p.stdout, err = newStream(filepath.Join(s.Dir, s.Name+".stdout")); err != nil {
		t.Fatal(err)
	}
	if p.stderr, err = newStream(filepath.Join(s.Dir, s.Name+".stderr")); err != nil {
		t.Fatal(err)
	}
	p.cmd.Stdout, p.cmd.Stderr = p.stdout, p.stderr
	if err := launched.start(p.cmd); err != nil {
		t.Fatalf("%s: %v", s.Name, err)
	}
	launched.mu.Lock()
	launched.procs[p] = true
	launched.mu.Unlock()
	go p.watch()
	t.Cleanup(p.Kill)
	return p
}

func (p *Proc) watch() {
	p.cmd.Wait()
	p.stdout.close()
	p.stderr.close()
	launched.mu.Lock()
	delete(launched.procs, p)
	launched.mu.Unlock()
	p.mu.Lock()
	p.state = p.cmd.ProcessState
	if !p.expected {
		p.t.Errorf("%s (pid %d) ended by itself: %v\n%s", p.Name, p.cmd.Process.Pid, p.state, p.Log())
	}
	p.mu.Unlock()
	close(p.done)
}

// PID is the process's id.
func (p *Proc) PID() int { return p.cmd.Process.Pid }

// Done is closed when the process has ended.
func (p *Proc) Done() <-chan struct{} { return p.done }

// Running says whether the process has not ended yet.
func (p *Proc) Running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// ExpectExit says that the process may end from now on without failing the
// test.
func (p *Proc) ExpectExit() {
	p.mu.Lock()
	p.expected = true
	p.mu.Unlock()
}

// Wait returns the exit code once the process has ended, or the negative
// signal number that ended it. It fails the test after the limit. A process
// that is waited for may end.
func (p *Proc) Wait(limit time.Duration) int {
	p.t.Helper()
	p.ExpectExit()
	select {
	case <-p.done:
	case <-time.After(limit):
		p.t.Fatalf("%s (pid %d) still runs after %v\n%s", p.Name, p.PID(), limit, p.Log())
	}
	ws := p.state.Sys().(syscall.WaitStatus)
	if ws.Signaled() {
		return -int(ws.Signal())
	}
	return ws.ExitStatus()
}

// Stop sends SIGTERM and returns the exit code; the process has 15 seconds.
func (p *Proc) Stop() int {
	p.t.Helper()
	p.Signal(syscall.SIGTERM)
	return p.Wait(15 * time.Second)
}

// Kill ends the process with SIGKILL and waits until it is gone.
func (p *Proc) Kill() {
	p.Signal(syscall.SIGKILL)
	<-p.done
}

// Freeze stops the process (SIGSTOP) and returns when all of its threads stand;
// Signal(SIGCONT) lets it go on.
func (p *Proc) Freeze() {
	p.t.Helper()
	p.Signal(syscall.SIGSTOP)
	Eventually(p.t, 10*time.Second, p.Name+" to stand", func() bool {
		stats, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", p.PID()))
		for _, name := range stats {
			b, err := os.ReadFile(name)
			if i := bytes.LastIndexByte(b, ')'); err == nil && (i < 0 || !bytes.HasPrefix(b[i:], []byte(") T"))) {
				return false
			}
		}
		return len(stats) > 0
	})
}

// Signal sends a signal that may end the process.
func (p *Proc) Signal(s syscall.Signal) {
	p.ExpectExit()
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Errorf("%s: %v", p.Name, err)
	}
}

// WaitLine waits until a whole line of stdout or stderr matches and returns
// the match with its groups. It fails the test after the limit or when the
// process ends before.
func (p *Proc) WaitLine(re string, limit time.Duration) []string {
	p.t.Helper()
	r := regexp.MustCompile(re)
	deadline := time.After(limit)
	for {
		outChanged, errChanged := p.stdout.changed(), p.stderr.changed()
		if m := p.match(r); m != nil {
			return m
		}
		select {
		case <-outChanged:
		case <-errChanged:
		case <-p.done:
			if m := p.match(r); m != nil {
				return m
			}
			p.ExpectExit()
			p.t.Fatalf("%s ended (%v) before it said %q\n%s", p.Name, p.state, re, p.Log())
		case <-deadline:
			p.t.Fatalf("%s did not say %q within %v\n%s", p.Name, re, limit, p.Log())
		}
	}
}

func (p *Proc) match(r *regexp.Regexp) []string {
	for _, s := range []string{p.Stdout(), p.Stderr()} {
		for line := range strings.Lines(s) {
			if m := r.FindStringSubmatch(strings.TrimRight(line, "\n")); m != nil {
				return m
			}
		}
	}
	return nil
}

// Stdout and Stderr return the last 256 KiB of the stream.
func (p *Proc) Stdout() string { return p.stdout.tail() }

// Stderr is like Stdout.
func (p *Proc) Stderr() string { return p.stderr.tail() }

// Log returns the end of both streams, for messages.
func (p *Proc) Log() string {
	const most = 4 << 10
	end := func(s string) string {
		if len(s) > most {
			s = "..." + s[len(s)-most:]
		}
		return s
	}
	return fmt.Sprintf("--- %s stdout ---\n%s--- %s stderr ---\n%s---", p.Name, end(p.Stdout()), p.Name, end(p.Stderr()))
}

// RSS returns the process's resident memory that no file stands behind, in
// bytes (RssAnon), so that mapped logs do not count.
func (p *Proc) RSS() int64 {
	p.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID()))
	if err != nil {
		p.t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		var kib int64
		if _, err := fmt.Sscanf(line, "RssAnon: %d kB", &kib); err == nil {
			return kib << 10
		}
	}
	p.t.Fatalf("no RssAnon in the status of pid %d", p.PID())
	return 0
}

// Files returns how many file descriptors the process has open.
func (p *Proc) Files() int {
	p.t.Helper()
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.PID()))
	if err != nil {
		p.t.Fatal(err)
	}
	return len(list)
}

// stream keeps the end of an output in memory and all of it in a file.
type stream struct {
	mu   sync.Mutex
	file *os.File
	buf  bytes.Buffer
	wake chan struct{}
}

func newStream(path string) (*stream, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	return &stream{file: f, wake: make(chan struct{})}, nil
}

var _ io.Writer = (*stream)(nil)

func (s *stream) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.buf.Write(b)
	if s.buf.Len() > 2*tailSize {
		s.buf.Next(s.buf.Len() - tailSize)
	}
	close(s.wake)
	s.wake = make(chan struct{})
	return s.file.Write(b)
}

func (s *stream) changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.wake
}

func (s *stream) tail() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.String()
}

func (s *stream) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.file.Close()
}
