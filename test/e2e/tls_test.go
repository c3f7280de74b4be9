package e2e

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gomq/test/harness"
	"gomq/test/raw"
)

// overTLS in front of an address means that it is spoken to over TLS.
const overTLS = "tls://"

var anyServer = &tls.Config{InsecureSkipVerify: true}

// shake makes TLS of a connection.
func shake(t testing.TB, c net.Conn) net.Conn {
	t.Helper()
	s := tls.Client(c, anyServer)
	c.SetDeadline(time.Now().Add(60 * time.Second))
	if err := s.Handshake(); err != nil {
		t.Fatal(err)
	}
	c.SetDeadline(time.Time{})
	return s
}

// stalledHandshakes begin TLS and go no further: they are closed in time, and
// clients with and without TLS get in meanwhile.
func stalledHandshakes(t *testing.T, addr string) {
	const n = 300
	hello := []byte{0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03}
	var conns []net.Conn
	for i := range n {
		c := hostile(t, addr)
		c.Write(hello[:1+i%len(hello)])
		conns = append(conns, c)
	}
	for _, at := range []string{addr, overTLS + addr} {
		if cmd, err := dial(t, at).Call(31999, nil, nil); err != nil || cmd.Code != raw.NotSupported {
			t.Errorf("%s beside stalled handshakes: %+v, %v", at, cmd, err)
		}
	}
	for i, c := range conns {
		if err := closed(c, closeLimit); err != nil {
			t.Fatalf("handshake %d: %v", i, err)
		}
		c.Close()
	}
}

// TestTLS is a cluster in which everybody has a certificate: nameserver and
// broker, the broker towards the nameserver, clients on every port. Others are
// refused, certificates are renewed without a restart, and stopping says goodbye.
func TestTLS(t *testing.T) {
	harness.OnlyGomq(t)
	t.Parallel()
	p := harness.NewPKI(t)
	for _, name := range []string{"namesrv", "broker", "client"} {
		p.Issue(name, name+" 1")
	}
	ns := harness.StartNamesrv(t, harness.Config{Props: p.Strict("namesrv")})
	broker := harness.StartBroker(t, ns.Addr(), harness.Config{Props: p.Strict("broker")})
	me := p.Client("client")

	connect := func(addr string) *raw.Conn {
		t.Helper()
		c, err := raw.DialTLS(addr, me)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	c, vip, names := connect(broker.Addr()), connect(broker.VIPAddr()), connect(ns.Addr())
	if err := c.NewTopic("Secret", 1); err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		if s, err := c.Send("pg", "Secret", 0, "", content(i, 1+i*3000)); err != nil || s.Code != raw.Success {
			t.Fatalf("send %d: %+v, %v", i, s, err)
		}
	}
	for at := int64(0); at < 100; {
		got, err := vip.Pull("g", "Secret", 0, at, 32, time.Second)
		if err != nil || len(got.Records) == 0 {
			t.Fatalf("pull at %d: %+v, %v", at, got, err)
		}
		for _, r := range got.Records {
			if string(r.Body) != string(content(int(at), 1+int(at)*3000)) {
				t.Fatalf("message %d has another body", at)
			}
			at++
		}
	}
	// The broker has registered over TLS, and again with the topic.
	harness.Eventually(t, 30*time.Second, "the route of the topic", func() bool {
		cmd, err := names.Call(105, map[string]string{"topic": "Secret"}, nil)
		return err == nil && cmd.Code == raw.Success && strings.Contains(string(cmd.Body), "broker-a")
	})

	// A slave gets the tables and the log over TLS: its master is enforcing.
	props := p.Strict("broker")
	props["brokerRole"], props["brokerId"] = "SLAVE", "1"
	slave := harness.StartBroker(t, ns.Addr(), harness.Config{Props: props})
	copied := connect(slave.Addr())
	harness.Eventually(t, 60*time.Second, "the slave's copy", func() bool {
		got, err := copied.Pull("g", "Secret", 0, 99, 1, 0)
		return err == nil && len(got.Records) == 1 && string(got.Records[0].Body) == string(content(99, 1+99*3000))
	})

	for _, at := range []string{ns.Addr(), broker.Addr(), broker.VIPAddr(), slave.Addr()} {
		plain := hostile(t, at)
		plain.Write((&raw.Command{Code: 105, Language: "JAVA", Ext: map[string]string{"topic": "Secret"}}).Encode())
		plain.SetReadDeadline(time.Now().Add(20 * time.Second))
		if b, _ := io.ReadAll(plain); len(b) > 0 {
			t.Errorf("%s answered without TLS: %q", at, b)
		}
		if stranger, err := raw.DialTLS(at, anyServer); err == nil { // TLS 1.3: the client learns of it with the first read
			if cmd, err := stranger.Call(31999, nil, nil); err == nil {
				t.Errorf("%s answered a stranger: %+v", at, cmd)
			}
			stranger.Close()
		}
	}
	m := harness.ReadMetrics(t, broker.HTTP())
	if n, ok := m.Sum("gomq_tls_connections"); !ok || n < 2 {
		t.Errorf("gomq_tls_connections is %v", n)
	}
	if n, ok := m.Sum("gomq_tls_certificate_not_after_seconds", fmt.Sprint("port=", broker.Ports.VIP)); !ok || time.Until(time.Unix(int64(n), 0)) > time.Hour {
		t.Errorf("the certificate ends at %v", n)
	}
	for _, cause := range []string{"tls-required", "tls-handshake"} {
		if n, _ := m.Sum("gomq_refusals_total", "cause="+cause); n < 2 {
			t.Errorf("%s was counted %v times", cause, n)
		}
	}

	harness.Eventually(t, 60*time.Second, "all well in the eyes of cluster status, over TLS", func() bool { // the slave counts once its master knows it
		tool := exec.Command(harness.Build(t), "cluster", "status", "-n", ns.Addr(), "--tls-trust", p.Path("authority.pem"), "--tls-cert", p.Path("client.pem"), "--tls-key", p.Path("client.key"))
		out, err := tool.CombinedOutput()
		return err == nil && strings.Contains(string(out), broker.Addr()) && strings.Contains(string(out), slave.Addr())
	})
	tool := exec.Command(harness.Build(t), "cluster", "status", "-n", ns.Addr(), "--tls") // without a certificate
	if out, err := tool.CombinedOutput(); err == nil {
		t.Errorf("cluster status without a certificate:\n%s", out)
	}

	p.Issue("broker", "broker 2")
	harness.Eventually(t, 30*time.Second, "the new certificate", func() bool {
		c, err := tls.Dial("tcp", broker.Addr(), me)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0].Subject.CommonName == "broker 2"
	})
	if s, err := c.Send("pg", "Secret", 0, "", []byte("still here")); err != nil || s.Code != raw.Success {
		t.Errorf("over the connection of before: %+v, %v", s, err)
	}
	for _, s := range []*harness.Server{slave, broker, ns} {
		if code := s.Stop(); code != 0 {
			t.Errorf("%s: exit code %d\n%s", s.Role, code, s.Log())
		}
	}
	if s := broker.Log(); strings.Contains(s, "panic") || !strings.Contains(s, "use the new ones") {
		t.Errorf("the broker's log:\n%s", s)
	}
}

// TestTLSPermissive: without a word of configuration, TLS and plain connections
// are served side by side, with a certificate made at start, and that is said.
func TestTLSPermissive(t *testing.T) {
	harness.OnlyGomq(t)
	t.Parallel()
	ns, broker := harness.StartPair(t, harness.Config{})
	for _, at := range []string{ns.Addr(), broker.Addr(), broker.VIPAddr()} {
		for _, addr := range []string{at, overTLS + at} {
			if cmd, err := dial(t, addr).Call(31999, nil, nil); err != nil || cmd.Code != raw.NotSupported {
				t.Errorf("%s: %+v, %v", addr, cmd, err)
			}
		}
	}
	for _, s := range []*harness.Server{ns, broker} {
		if n := strings.Count(s.Log(), "certificate made just now"); n != 1 {
			t.Errorf("%s says %d times that it has made a certificate", s.Role, n)
		}
	}
}

// TestTLSStartErrors: a certificate that cannot be used refuses to start, and says
// what is wrong with which file.
func TestTLSStartErrors(t *testing.T) {
	harness.OnlyGomq(t)
	t.Parallel()
	p := harness.NewPKI(t)
	p.Issue("a", "a")
	p.Issue("b", "b")
	for want, props := range map[string]map[string]string{
		"no such file":                    {"tls.server.certPath": p.Path("absent.pem"), "tls.server.keyPath": p.Path("a.key")},
		"private key does not match":      {"tls.server.certPath": p.Path("a.pem"), "tls.server.keyPath": p.Path("b.key")},
		"set tls.server.certPath":         {"tls.server.mode": "enforcing", "tls.test.mode.enable": "false"},
		"absent.properties.*no such file": {"tls.config.file": p.Path("absent.properties")},
		"useTLS=true.*go together":        {"useTLS": "true", "tls.client.certPath": p.Path("a.pem")},
	} {
		ports, dir := harness.NewPorts(t), harness.Dir(t)
		text := fmt.Sprintf("listenPort=%d\nhttpPort=0\nlistenHost=127.0.0.1\nbrokerIP1=127.0.0.1\nstorePathRootDir=%s\n", ports.Listen, filepath.Join(dir, "store"))
		for k, v := range props {
			text += k + "=" + v + "\n"
		}
		file := filepath.Join(dir, "broker.properties")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		code := 253 // -3, as for a store that does not load
		if strings.Contains(want, "properties") {
			code = 255
		}
		startFails(t, code, want, "broker", "-c", file)
	}
}
