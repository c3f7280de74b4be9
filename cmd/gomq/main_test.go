package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"gomq/internal/broker"
)

// gomq runs the program with the arguments.
func gomq(args ...string) (code int, stdout, stderr string) {
	var out, err bytes.Buffer
	code = run(context.Background(), args, &out, &err)
	return code, out.String(), err.String()
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// The statuses and the first words of what scripts around the original see.
func TestExitCodes(t *testing.T) {
	bad := write(t, "bad.properties", "listenPort=ten\n")
	slave := write(t, "slave.properties", "brokerRole=SLAVE\nbrokerId=0\n")
	for _, c := range []struct {
		args           string
		code           int
		stdout, stderr string
	}{
		{"", 0, "gomq serves RocketMQ's clients", ""},
		{"-h", 0, "gomq serves RocketMQ's clients", ""},
		{"broker -h", 0, "Run a broker until SIGTERM", ""},
		{"namesrv --help", 0, "Run a nameserver until SIGTERM", ""},
		{"broker -x", 1, "", "unknown shorthand flag: 'x' in -x"},
		{"namesrv -m", 1, "", "unknown shorthand flag: 'm' in -m"},
		{"brokr", 1, "", `unknown command "brokr"`},
		{"broker extra", 1, "", "unknown command"},
		{"broker -c none.properties", 255, "", "configuration file: stat none.properties: no such file"},
		{"broker -c " + bad, 255, "", bad + ":1: listenPort=ten: is not a whole number"},
		{"broker -n somewhere", 253, "", `-n: namesrvAddr=somewhere: The Name Server Address[somewhere] illegal, please set it as follows, "127.0.0.1:9876;192.168.0.1:9876"`},
		{"broker -c " + slave, 253, "", "Slave's brokerId must be > 0"},
		{"broker --log-level loud", 255, "", "--log-level: logLevel=loud: must be one of debug | info | warn | error"},
		{"version", 0, "speaks RocketMQ 4.9.8", ""},
		{"config explain flushDiskType", 0, "flushDiskType (enum)", ""},
		{"config explain flushDiskTyp", 1, "", "the nearest one is flushDiskType"},
		{"config check " + bad, 1, "listenPort=ten: is not a whole number", ""},
		{"config check", 1, "", "accepts 1 arg(s), received 0"},
		{"config check none", 1, "", "no such file"},
		{"config show -o yaml", 1, "", "-o yaml: table and json are possible"},
		{"standalone --port 99999", 255, "", "listenPort=99999: is outside"},
	} {
		code, stdout, stderr := gomq(strings.Fields(c.args)...)
		if code != c.code || !strings.Contains(stdout, c.stdout) || !strings.Contains(stderr, c.stderr) || c.stderr == "" && stderr != "" {
			t.Errorf("gomq %s: status %d\n%s\n%s\nwant %d, %q, %q", c.args, code, stdout, stderr, c.code, c.stdout, c.stderr)
		}
	}
}

// -p prints every key, -m the important ones, nothing else is on stdout.
func TestPrint(t *testing.T) {
	file := write(t, "broker.properties", "brokerName=broker-z\nfileReservedTime=48\n#comment\n")
	code, all, stderr := gomq("broker", "-c", file, "-n", "a:1;b:2", "-p", "-m")
	if code != 0 || stderr != "" {
		t.Fatalf("status %d, %s", code, stderr)
	}
	_, some, _ := gomq("broker", "-c", file, "-n", "a:1;b:2", "-m")
	for _, line := range []string{"brokerName=broker-z\n", "fileReservedTime=48\n", "namesrvAddr=a:1;b:2\n", "flushDiskType=ASYNC_FLUSH\n", "aclEnable=false\n"} {
		if !strings.Contains(all, line) || !strings.Contains(some, line) {
			t.Errorf("no %q in -p or -m", line)
		}
	}
	if !strings.Contains(all, "\nlistenPort=10911\n") || strings.Contains(some, "listenPort") {
		t.Error("listenPort is for -p only")
	}
	for line := range strings.Lines(all) {
		if !strings.Contains(line, "=") {
			t.Errorf("%q is no name=value", line)
		}
	}
	code, out, _ := gomq("namesrv", "-c", write(t, "ns.properties", "orderMessageEnable=true\n"), "-p")
	if code != 0 || !strings.Contains(out, "load config properties file OK, ") || !strings.Contains(out, "orderMessageEnable=true\n") {
		t.Errorf("status %d\n%s", code, out)
	}
}

func TestConfigCheck(t *testing.T) {
	file := write(t, "broker.properties", "brokerName=broker-a\nflushDiskTyp=SYNC_FLUSH\nwarmMapedFileEnable=true\nfileReservedTime=48h\n")
	code, out, _ := gomq("config", "check", file)
	for _, want := range []string{
		"error    " + file + ":2: flushDiskTyp=SYNC_FLUSH: is not a key of the broker and has no effect; the nearest one is flushDiskType",
		"note     " + file + ":3: warmMapedFileEnable=true: is accepted and has no effect in gomq",
		"error    " + file + ":4: fileReservedTime=48h: is not a whole number",
		file + ": has errors as the configuration of a broker",
	} {
		if code != 1 || !strings.Contains(out, want) {
			t.Errorf("status %d, no %q in\n%s", code, want, out)
		}
	}
	code, out, _ = gomq("config", "check", file, "-o", "json")
	var got struct {
		Role     string
		OK       bool
		Findings []finding
	}
	if err := json.Unmarshal([]byte(out), &got); err != nil || code != 1 {
		t.Fatal(code, err, out)
	}
	if got.OK || got.Role != "broker" || len(got.Findings) != 3 || got.Findings[0].Nearest != "flushDiskType" || got.Findings[0].Line != 2 || got.Findings[1].Level != "note" {
		t.Errorf("%+v", got)
	}
	ns := write(t, "x.conf", "listenPort=9876\nkvConfigPath=/x\n")
	if code, out, _ := gomq("config", "check", ns); code != 0 || !strings.Contains(out, "as the configuration of a nameserver") {
		t.Errorf("status %d\n%s", code, out)
	}
	// A key that both have decides nothing, the file's name does.
	for name, want := range map[string]string{"namesrv.conf": "nameserver", "broker.conf": "broker"} {
		if code, out, _ := gomq("config", "check", write(t, name, "listenPort=9876\n")); code != 0 || !strings.Contains(out, "as the configuration of a "+want) {
			t.Errorf("status %d\n%s", code, out)
		}
	}
	if code, out, _ := gomq("config", "check", ns, "--role", "broker"); code != 1 || !strings.Contains(out, "kvConfigPath=/x: is not a key of the broker") {
		t.Errorf("status %d\n%s", code, out)
	}
	if code, _, stderr := gomq("config", "check", ns, "--role", "proxy"); code != 1 || !strings.Contains(stderr, "broker, namesrv and auto are possible") {
		t.Errorf("status %d\n%s", code, stderr)
	}
}

func TestConfigShow(t *testing.T) {
	t.Setenv("NAMESRV_ADDR", "env:9876")
	file := write(t, "broker.properties", "tls.server.keyPassword=hush\nbrokerName=b\n")
	code, out, _ := gomq("config", "show", "-c", file, "-o", "json")
	var list []shown
	if err := json.Unmarshal([]byte(out), &list); err != nil || code != 0 {
		t.Fatal(code, err)
	}
	got := map[string]string{}
	for _, s := range list {
		got[s.Key] = s.Value
	}
	if got["brokerName"] != "b" || got["namesrvAddr"] != "env:9876" || got["listenPort"] != "10911" {
		t.Errorf("%v", got)
	}
	if strings.Contains(out, "hush") {
		t.Error("a secret was shown")
	}
	if code, out, _ := gomq("config", "show", "--role", "namesrv", "-m"); code != 0 || !strings.Contains(out, "listenPort=9876\n") {
		t.Errorf("status %d\n%s", code, out)
	}
}

func TestRequests(t *testing.T) {
	code, out, _ := gomq("config", "requests", "-o", "json")
	var list []request
	if err := json.Unmarshal([]byte(out), &list); err != nil || code != 0 {
		t.Fatal(code, err)
	}
	served := map[string]bool{}
	for _, r := range list {
		if r.Name == "" || !r.Served && r.Note == "" {
			t.Errorf("%+v has no name or no reason", r)
		}
		served[fmt.Sprint(r.Role, r.Code)] = r.Served
	}
	for _, want := range []string{"broker10", "broker310", "broker320", "broker11", "broker34", "namesrv103", "namesrv105"} {
		if !served[want] {
			t.Errorf("%s is not served", want)
		}
	}
	if code, out, _ := gomq("config", "requests"); code != 0 || !strings.HasPrefix(out, "ROLE") {
		t.Errorf("status %d\n%s", code, out)
	}
}

// Each failure of a start names what failed and what to do about it.
func TestWhyNot(t *testing.T) {
	ports := []portUse{{10911, "listenPort"}, {10909, "listenPort-2, the VIP port"}, {10912, "listenPort+1, the replication port"}, {30911, "httpPort"}}
	listen := func(port int, err error) error {
		return fmt.Errorf("outer: %w", &net.OpError{Op: "listen", Net: "tcp", Addr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port}, Err: os.NewSyscallError("bind", err)})
	}
	for want, err := range map[string]error{
		"127.0.0.1:10909 (listenPort-2, the VIP port) is in use: stop the process that has it (ss -ltnp shows which), or set listenPort to another port": listen(10909, syscall.EADDRINUSE),
		"127.0.0.1:30911 (httpPort) is in use: stop the process that has it (ss -ltnp shows which), or set httpPort to another port":                     listen(30911, syscall.EADDRINUSE),
		":10912 (listenPort+1, the replication port) is in use: stop the process that has it (ss -ltnp shows which), or set listenPort to another port":  &net.OpError{Op: "listen", Net: "tcp", Addr: &net.TCPAddr{Port: 10912}, Err: syscall.EADDRINUSE},
		"127.0.0.1:10911 is no address of this machine":                    listen(10911, syscall.EADDRNOTAVAIL),
		"no permission to listen on 127.0.0.1:10911 (listenPort)":          listen(10911, syscall.EACCES),
		"the disk of /store is full: free some space, or set storeX":       &fs.PathError{Op: "write", Path: "/store/a", Err: syscall.ENOSPC},
		"/store is on a disk that cannot be written to":                    &fs.PathError{Op: "open", Path: "/store/a", Err: syscall.EROFS},
		"no permission in /store: run as its owner":                        &fs.PathError{Op: "open", Path: "/store/a", Err: syscall.EACCES},
		"/store lies below a file, or is one: set storeX to another place": &fs.PathError{Op: "open", Path: "/store/a", Err: syscall.ENOTDIR},
		"too few open files are allowed":                                   &fs.PathError{Op: "open", Path: "/store/a", Err: syscall.EMFILE},
		"something else":                                                   errors.New("something else"),
	} {
		got := new(process).whyNot(err, ports, "/store", "storeX").Error()
		if !strings.HasPrefix(got, want) || strings.Contains(got, "\n") {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// Where there need not be a file the option is named, not the key.
func TestWhyNotOptions(t *testing.T) {
	p := &process{options: map[string]string{"listenPort": "--port", "storeX": "--data"}}
	err := &net.OpError{Op: "listen", Net: "tcp", Addr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 10912}, Err: os.NewSyscallError("bind", syscall.EADDRINUSE)}
	if got := p.whyNot(err, []portUse{{10912, "listenPort+1"}}, "", "").Error(); !strings.HasSuffix(got, "or set --port to another port") {
		t.Error(got)
	}
	if got := p.whyNot(syscall.ENOSPC, nil, "/store", "storeX").Error(); !strings.Contains(got, "or set --data to another disk") {
		t.Error(got)
	}
}

func TestMemory(t *testing.T) {
	files := map[string]string{"/proc/meminfo": "MemTotal:        2048 kB\nMemFree: 1 kB\n"}
	read := func(name string) ([]byte, error) {
		if text, ok := files[name]; ok {
			return []byte(text), nil
		}
		return nil, fs.ErrNotExist
	}
	if got := memory(read); got != 2048<<10 {
		t.Errorf("the machine's: %d", got)
	}
	files["/sys/fs/cgroup/memory.max"] = "max\n"
	if got := memory(read); got != 2048<<10 {
		t.Errorf("a control group without a limit: %d", got)
	}
	files["/sys/fs/cgroup/memory.max"] = "1048576\n"
	if got := memory(read); got != 1<<20 {
		t.Errorf("a control group with one: %d", got)
	}
	clear(files)
	if got := memory(read); got != 0 {
		t.Errorf("nothing to read: %d", got)
	}
}

// What is not served is not advertised.
func TestWelcome(t *testing.T) {
	f := standaloneFlags{data: "/data", namesrv: 9876}
	var o broker.Options
	o.ListenPort, o.HTTPHost, o.HTTPPort = 10911, "127.0.0.1", 30911
	for _, metrics := range []bool{true, false} {
		var b strings.Builder
		f.welcome(&b, o, metrics)
		if got := b.String(); strings.Contains(got, "http://127.0.0.1:30911/metrics") != metrics || !strings.Contains(got, "127.0.0.1:9876") || !strings.Contains(got, "--addr 127.0.0.1:10911") {
			t.Errorf("metrics %v:\n%s", metrics, got)
		}
	}
}
