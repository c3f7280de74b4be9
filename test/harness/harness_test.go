package harness

import (
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestMain(m *testing.M) { Main(m) }

// fake is a testing.TB that records failures instead of failing.
type fake struct {
	testing.TB
	errors []string
}

func (f *fake) Errorf(format string, args ...any) {
	f.errors = append(f.errors, fmt.Sprintf(format, args...))
}
func (f *fake) Helper() {}

func TestProcOutputAndExitCode(t *testing.T) {
	p := Start(t, Spec{Name: "sh", Path: "/bin/sh", Args: []string{"-c", "echo ready 42; echo sad >&2; exit 7"}})
	p.ExpectExit()
	if m := p.WaitLine(`^ready (\d+)$`, 10*time.Second); m[1] != "42" {
		t.Fatalf("groups %q", m)
	}
	if code := p.Wait(10 * time.Second); code != 7 {
		t.Fatalf("exit code %d", code)
	}
	if p.Stderr() != "sad\n" {
		t.Fatalf("stderr %q", p.Stderr())
	}
	if p.Running() {
		t.Fatal("still running")
	}
}

func TestProcUnexpectedExitFails(t *testing.T) {
	f := &fake{TB: t}
	p := Start(f, Spec{Name: "sh", Path: "/bin/sh", Args: []string{"-c", "echo last words; exit 3"}})
	<-p.Done()
	if len(f.errors) != 1 || !strings.Contains(f.errors[0], "last words") || !strings.Contains(f.errors[0], "exit status 3") {
		t.Fatalf("reported %q", f.errors)
	}
}

func TestProcStopAndKill(t *testing.T) {
	trap := Spec{Name: "sh", Path: "/bin/sh", Args: []string{"-c", "trap 'exit 5' TERM; echo up; while :; do sleep 0.01; done"}}
	p := Start(t, trap)
	p.WaitLine("^up$", 10*time.Second)
	if code := p.Stop(); code != 5 {
		t.Fatalf("exit code %d after SIGTERM", code)
	}
	p = Start(t, trap)
	p.WaitLine("^up$", 10*time.Second)
	p.Kill()
	if code := p.Wait(time.Second); code != -int(syscall.SIGKILL) {
		t.Fatalf("exit code %d after SIGKILL", code)
	}
}

func TestPortsAreFreeAndDistinct(t *testing.T) {
	seen := map[int]bool{}
	for range 20 {
		p := NewPorts(t)
		for _, n := range []int{p.Listen, p.VIP, p.HA, p.HTTP} {
			if seen[n] {
				t.Fatalf("port %d handed out twice", n)
			}
			seen[n] = true
			l, err := net.Listen("tcp", fmt.Sprintf(":%d", n))
			if err != nil {
				t.Fatal(err)
			}
			l.Close()
		}
	}
	p := PortsWithDefaultHTTP(t)
	if p.HTTP != p.Listen+20000 || p.VIP != p.Listen-2 || p.HA != p.Listen+1 {
		t.Fatalf("%+v", p)
	}
}

func TestRandRepeats(t *testing.T) {
	if a, b := Rand(t).Uint64(), Rand(t).Uint64(); a != b {
		t.Fatalf("%d and %d", a, b)
	}
}

func TestPairBoots(t *testing.T) {
	ns, broker := StartPair(t, Config{})
	for _, addr := range []string{ns.Addr(), broker.Addr(), broker.VIPAddr()} {
		if !Reachable(addr) {
			t.Errorf("nothing listens on %s", addr)
		}
	}
}
