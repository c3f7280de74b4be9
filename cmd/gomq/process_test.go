package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spf13/cobra"
)

// role is a server that the test ends.
type role struct {
	name  string
	order *[]string // in which roles were stopped; stops come one after the other
	end   chan error
	ready error
}

func (r *role) Wait() error { return <-r.end }

func (r *role) Ready() error { return r.ready }

func (r *role) Stop(context.Context) error {
	*r.order = append(*r.order, r.name)
	select {
	case r.end <- nil:
	default:
	}
	return nil
}

func testProcess(t *testing.T) *process {
	t.Helper()
	p := newProcess(t.Context(), io.Discard, io.Discard, "error", "json")
	t.Cleanup(p.close)
	return p
}

// The end of the context (as a signal) stops the roles, the last one first, and
// is no error; a role that fails takes the others with it and is one.
func TestServe(t *testing.T) {
	var order []string
	a := &role{name: "a", order: &order, end: make(chan error, 1)}
	b := &role{name: "b", order: &order, end: make(chan error, 1)}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := testProcess(t).serve(ctx, a, b); err != nil || strings.Join(order, "") != "ba" {
		t.Errorf("order %q, error %v", order, err)
	}
	order = nil
	a = &role{name: "a", order: &order, end: make(chan error, 2)}
	b = &role{name: "b", order: &order, end: make(chan error, 2)}
	a.end <- errors.New("the store has failed")
	err := testProcess(t).serve(t.Context(), a, b)
	if err == nil || !strings.Contains(err.Error(), "the store has failed") || strings.Join(order, "") != "ba" {
		t.Errorf("order %q, error %v", order, err)
	}
}

func get(t *testing.T, h http.Handler, path string) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w.Code, w.Body.String()
}

func TestHTTP(t *testing.T) {
	h := &httpServer{}
	m := h.mux(newRegistry())
	if code, text := get(t, m, "/readyz"); code != 503 || text != "starting\n" {
		t.Errorf("%d %q", code, text)
	}
	h.setReady(func() error { return errors.New("no nameserver answers") })
	if code, text := get(t, m, "/readyz"); code != 503 || text != "no nameserver answers\n" {
		t.Errorf("%d %q", code, text)
	}
	h.setReady(func() error { return nil })
	for path, want := range map[string]string{"/readyz": "ok", "/healthz": "ok", "/": "/metrics", "/debug/pprof/": "goroutine", "/metrics": "gomq_build_info{"} {
		if code, text := get(t, m, path); code != 200 || !strings.Contains(text, want) {
			t.Errorf("%s: %d %.200q", path, code, text)
		}
	}
	_, text := get(t, m, "/metrics")
	for _, name := range []string{"go_goroutines", "go_memstats_mallocs_total", "process_cpu_seconds_total", "gomq_start_time_seconds"} {
		if !strings.Contains(text, "\n"+name+" ") {
			t.Errorf("no %s", name)
		}
	}
	if code, _ := get(t, m, "/nothing"); code != 404 {
		t.Errorf("/nothing: %d", code)
	}
}

// Whoever only connects takes no more descriptors than are meant for the HTTP
// port, and when some have gone there is room again.
func TestHTTPConnections(t *testing.T) {
	h := httptest.NewUnstartedServer(http.NotFoundHandler())
	var s httpServer
	h.Config.ConnState = s.count
	h.Start()
	defer h.Close()
	request := func() (net.Conn, error) {
		c, err := net.Dial("tcp", h.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			return c, err
		}
		_, err = c.Read(make([]byte, 1))
		return c, err
	}
	var conns []net.Conn
	for i := range maxHTTPConns {
		c, err := request()
		if err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		defer c.Close()
		conns = append(conns, c)
	}
	if c, err := request(); err == nil {
		t.Error("one too many was answered")
		c.Close()
	}
	conns[0].Close()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		c, err := request()
		c.Close()
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// A default HTTP port that is taken is not worth a broker; a configured one is.
func TestHTTPPortTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	p := testProcess(t)
	if h, err := p.serveHTTP(httpOptions{"127.0.0.1", port, false}); h != nil || err != nil {
		t.Errorf("default: %v %v", h, err)
	}
	_, err = p.serveHTTP(httpOptions{"127.0.0.1", port, true})
	if err == nil || !strings.Contains(new(process).whyNot(err, []portUse{{port, "httpPort"}}, "", "").Error(), "(httpPort) is in use") {
		t.Errorf("configured: %v", err)
	}
	if h, err := p.serveHTTP(httpOptions{"127.0.0.1", 0, true}); h != nil || err != nil {
		t.Errorf("off: %v %v", h, err)
	}
}

// freePorts returns two ports for brokers (p-2, p, p+1 free) and nameservers.
func freePorts(t *testing.T) (broker, namesrv int) {
	t.Helper()
	free := func(ports ...int) bool {
		for _, p := range ports {
			l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(p)))
			if err != nil {
				return false
			}
			l.Close()
		}
		return true
	}
	for range 200 {
		// Below the ports that the system gives to outgoing connections.
		if p := 12000 + rand.IntN(18000); free(p-2, p-1, p, p+1) {
			return p, p - 1
		}
	}
	t.Fatal("no free ports")
	return 0, 0
}

// pipe is a writer whose lines can be waited for.
type pipe struct {
	mu  sync.Mutex
	buf bytes.Buffer
	got chan struct{}
}

func newPipe() *pipe { return &pipe{got: make(chan struct{}, 1)} }

func (p *pipe) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case p.got <- struct{}{}:
	default:
	}
	return p.buf.Write(b)
}

func (p *pipe) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.buf.String()
}

func (p *pipe) wait(t *testing.T, text string) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for !strings.Contains(p.String(), text) {
		select {
		case <-p.got:
		case <-deadline:
			t.Fatalf("no %q in\n%s", text, p.String())
		}
	}
}

// What is said on the command line wins over the file, the file over what
// standalone takes otherwise.
func TestStandaloneKeys(t *testing.T) {
	file := write(t, "broker.properties", "listenPort=12345\nbrokerName=mine\nmappedFileSizeCommitLog=1048576\n")
	for _, c := range []struct {
		args []string
		port int
		dir  string
	}{
		{nil, 12345, "/gomq-data/store"},
		{[]string{"--port", "11111", "--data", "/x"}, 11111, "/x/store"},
	} {
		cmd := &cobra.Command{}
		var f standaloneFlags
		f.flags(cmd)
		if err := cmd.ParseFlags(append(c.args, "-c", file)); err != nil {
			t.Fatal(err)
		}
		n, b, problems, err := f.options(cmd)
		if err != nil || len(problems) != 0 {
			t.Fatal(err, problems)
		}
		if b.ListenPort != c.port || !strings.HasSuffix(b.StorePathRootDir, c.dir) || b.BrokerName != "mine" || b.MappedFileSizeCommitLog != 1<<20 ||
			b.ListenHost != "127.0.0.1" || b.BrokerIP1 != "127.0.0.1" || n.HTTPPort != 0 || n.ListenHost != "127.0.0.1" {
			t.Errorf("%q: %+v %+v", c.args, b, n)
		}
	}
}

// What a standalone process's file says of TLS holds for both roles.
func TestStandaloneTLS(t *testing.T) {
	file := write(t, "tls.properties", "tls.server.mode=enforcing\ntls.server.certPath=/c\ntls.server.keyPath=/k\n")
	cmd := &cobra.Command{}
	var f standaloneFlags
	f.flags(cmd)
	if err := cmd.ParseFlags([]string{"-c", file}); err != nil {
		t.Fatal(err)
	}
	n, b, problems, err := f.options(cmd)
	if err != nil || len(problems) != 0 {
		t.Fatal(err, problems)
	}
	if n.TLSServerMode != "enforcing" || n.TLSServerCertPath != "/c" || n.TLSServerKeyPath != "/k" || b.TLSServerMode != "enforcing" || !b.UseTLS {
		t.Errorf("%+v %+v", n.TLS, b.TLS)
	}
}

// standalone starts both roles in this process, says so in the words that
// scripts know, and ends with status 0.
func TestStandalone(t *testing.T) {
	port, ns := freePorts(t)
	t.Chdir(t.TempDir())
	t.Setenv("NAMESRV_ADDR", "elsewhere:9876") // not for a standalone one
	file := write(t, "extra.properties", "httpPort=0\nbrokerName=mine\n")
	ctx, cancel := context.WithCancel(t.Context())
	out, log := newPipe(), newPipe()
	done := make(chan int, 1)
	go func() {
		done <- run(ctx, []string{"standalone", "-c", file, "--port", strconv.Itoa(port), "--namesrv-port", strconv.Itoa(ns), "--log-format", "json"}, out, log)
	}()
	out.wait(t, "The Name Server boot success. serializeType=JSON\n")
	out.wait(t, "The broker[mine, 127.0.0.1:"+strconv.Itoa(port)+"] boot success. serializeType=JSON and name server is 127.0.0.1:"+strconv.Itoa(ns)+"\n")
	log.wait(t, "Ctrl-C stops; the data stays.")
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"nameserver   127.0.0.1:" + strconv.Itoa(ns), "data         " + dir + "/gomq-data"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("no %q in\n%s", want, log)
		}
	}
	// A second one on the same directory is told who has it, on the same ports what
	// is in use.
	if code, _, stderr := gomq("standalone", "-c", file, "--port", strconv.Itoa(port), "--namesrv-port", strconv.Itoa(ns)); code != 255 || !strings.Contains(stderr, "(listenPort) is in use") {
		t.Errorf("the same ports: status %d\n%s", code, stderr)
	}
	port2, ns2 := freePorts(t)
	code, _, stderr := gomq("standalone", "-c", file, "--port", strconv.Itoa(port2), "--namesrv-port", strconv.Itoa(ns2))
	if code != 253 || !strings.Contains(stderr, "is locked by process "+strconv.Itoa(os.Getpid())+": stop it, or set storePathRootDir") {
		t.Errorf("the same directory: status %d\n%s", code, stderr)
	}
	cancel()
	select {
	case code := <-done:
		if code != 0 {
			t.Errorf("status %d\n%s", code, log)
		}
	case <-time.After(20 * time.Second):
		t.Fatalf("does not end\n%s", log)
	}
	if strings.Count(out.String(), "\n") != 2 {
		t.Errorf("stdout has more than the two lines:\n%s", out)
	}
	for line := range strings.Lines(log.String()) {
		if strings.Contains(line, `"level":"error"`) {
			t.Errorf("an error in the log: %s", line)
		}
	}
}
