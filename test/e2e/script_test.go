package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gomq/test/harness"
)

// TestClusterScript runs conf/cluster.sh, which is `make cluster`, on two loopback
// addresses of its own: its ports are those of the shipped files.
func TestClusterScript(t *testing.T) {
	harness.OnlyGomq(t)
	t.Parallel()
	net1 := fmt.Sprintf("127.%d.%d.", 100+os.Getpid()%100, os.Getpid()/100%250)
	for _, port := range []string{"9876", "10909", "10911", "10912", "11009", "11011", "11012"} {
		l, err := net.Listen("tcp", net1+"1:"+port)
		if err != nil {
			harness.Skip(t, "somebody listens on port "+port+" of all addresses, which the script needs")
		}
		l.Close()
	}
	dir := harness.Dir(t)
	script := filepath.Join(harness.Tree(), "conf", "cluster.sh")
	run := func(args ...string) (string, error) {
		cmd := exec.Command(script, args...)
		cmd.Env = append(os.Environ(), "GOMQ="+harness.Build(t), "GOMQ_CLUSTER="+dir, "GOMQ_HOSTS="+net1+"1 "+net1+"2")
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	t.Cleanup(func() {
		if out, err := run("stop"); err != nil {
			t.Errorf("stop: %v\n%s", err, out)
		}
	})
	out, err := run("start")
	if err != nil || !strings.Contains(out, "slave of broker-a") || strings.Count(out, "yes") != 2 {
		t.Fatalf("start: %v\n%s", err, out)
	}
	if out, err = run("kill", "broker-a"); err != nil {
		t.Fatalf("kill: %v\n%s", err, out)
	}
	if out, err = run("status"); err == nil || !strings.Contains(out, "broker-a has no living master") {
		t.Errorf("status without broker-a: %v\n%s", err, out)
	}
	if out, err = run("up", "broker-a"); err != nil {
		t.Fatalf("up: %v\n%s", err, out)
	}
	whole(t, net1+"1:9876;"+net1+"2:9876", 60*time.Second)
	if out, err = run("up", "nobody"); err == nil || !strings.Contains(out, "nobody is none of") {
		t.Errorf("up nobody: %v\n%s", err, out)
	}
}
