package remoting

import (
	"bufio"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"gomq/internal/protocol"
)

// authority signs certificates for a test.
type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	pem  []byte
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{key: newKey(t)}
	a.cert = &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, a.cert, a.cert, &a.key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.pem = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return a
}

// issue signs a certificate, PEM, that is good for some hours; a negative number
// makes one that has expired.
func (a *authority) issue(t testing.TB, key crypto.Signer, name string, hours time.Duration) []byte {
	t.Helper()
	c := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-48 * time.Hour),
		NotAfter: time.Now().Add(hours * time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, c, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func put(t testing.TB, path string, text []byte) string {
	t.Helper()
	// As tools do it: a reader sees the old file or the new one.
	if err := os.WriteFile(path+".new", text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	return path
}

// files writes a certificate of name and its key into a new directory.
func (a *authority) files(t testing.TB, name string, hours time.Duration) (cert, key string) {
	t.Helper()
	dir := t.TempDir()
	k := newKey(t)
	der, err := x509.MarshalECPrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return put(t, filepath.Join(dir, "cert.pem"), a.issue(t, k, name, hours)),
		put(t, filepath.Join(dir, "key.pem"), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}))
}

func (a *authority) file(t testing.TB) string {
	return put(t, filepath.Join(t.TempDir(), "authority.pem"), a.pem)
}

func mustTLS(t testing.TB, make func(TLSOptions) (*TLS, error), o TLSOptions) *TLS {
	t.Helper()
	s, err := make(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// ask sends a request over a connection and wants its answer.
func ask(c net.Conn, opaque int32) error {
	c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Write(ping(opaque)); err != nil {
		return err
	}
	a, err := (&wire{Conn: c, r: bufio.NewReader(c)}).next()
	if err == nil && a.Opaque != opaque {
		err = fmt.Errorf("answered as %d", a.Opaque)
	}
	return err
}

// try connects as a TLS client and makes a request.
func try(addr string, cfg *tls.Config) (tls.ConnectionState, error) {
	d := &net.Dialer{Timeout: patience}
	c, err := tls.DialWithDialer(d, "tcp", addr, cfg)
	if err != nil {
		return tls.ConnectionState{}, err
	}
	defer c.Close()
	err = ask(c, 5)
	return c.ConnectionState(), err
}

var anyServer = &tls.Config{InsecureSkipVerify: true}

// The first byte of a connection decides, in each of the modes.
func TestTLSModes(t *testing.T) {
	for _, mode := range []struct {
		name       string
		tls        *TLS
		plain, enc bool
		refused    string
	}{
		{"disabled", nil, true, false, "tls-disabled"},
		{"permissive", mustTLS(t, ServeTLS, TLSOptions{SelfSigned: true}), true, true, ""},
		{"enforcing", mustTLS(t, ServeTLS, TLSOptions{SelfSigned: true, Enforce: true}), false, true, "tls-required"},
	} {
		t.Run(mode.name, func(t *testing.T) {
			m := NewMetrics(nil)
			s := serve(t, Options{TLS: mode.tls, Metrics: m}, echo)
			plain, err := net.Dial("tcp", s.Addr())
			if err != nil {
				t.Fatal(err)
			}
			defer plain.Close()
			if err := ask(plain, 4); (err == nil) != mode.plain {
				t.Errorf("a plain connection: %v", err)
			}
			state, err := try(s.Addr(), anyServer)
			if (err == nil) != mode.enc {
				t.Errorf("a TLS connection: %v", err)
			}
			if mode.enc && state.Version < tls.VersionTLS12 {
				t.Errorf("version %x", state.Version)
			}
			old, err := tls.Dial("tcp", s.Addr(), &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11})
			if err == nil {
				old.Close()
				t.Error("TLS 1.1 was accepted")
			}
			if mode.refused != "" && m.Refusal(mode.refused).Load() == 0 {
				t.Errorf("%s was not counted", mode.refused)
			}
		})
	}
}

// A made certificate may be had only where that is allowed; a file that cannot be
// used refuses to start, and says which.
func TestTLSFiles(t *testing.T) {
	ca := newAuthority(t)
	cert, key := ca.files(t, "server", 1)
	_, otherKey := ca.files(t, "other", 1)
	junk := put(t, filepath.Join(t.TempDir(), "junk.pem"), []byte("not PEM"))
	large := put(t, filepath.Join(t.TempDir(), "large.pem"), make([]byte, maxPEM+1))
	for want, o := range map[string]TLSOptions{
		"no certificate":       {},
		"go together":          {Cert: cert},
		"private key does not": {Cert: cert, Key: otherKey},
		junk:                   {Cert: junk, Key: key},
		"no private key":       {Cert: cert, Key: junk},
		"more than":            {Cert: large, Key: key},
		"no such file":         {Cert: filepath.Join(t.TempDir(), "absent"), Key: key},
		"holds no certificate": {Cert: cert, Key: key, Trust: junk},
	} {
		if _, err := ServeTLS(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", o, err, want)
		}
	}
	made := mustTLS(t, ServeTLS, TLSOptions{SelfSigned: true})
	if subject, until, self := made.Describe(); !self || !strings.Contains(subject, "gomq") || time.Until(until) < 365*24*time.Hour {
		t.Errorf("the made certificate: %s until %s, %v", subject, until, self)
	}
}

// Certificates of clients: not asked, asked, required; checked or not.
func TestTLSClientCertificates(t *testing.T) {
	ca, stranger := newAuthority(t), newAuthority(t)
	cert, key := ca.files(t, "server", 1)
	pair := func(a *authority, hours time.Duration) []tls.Certificate {
		c, k := a.files(t, "client", hours)
		p, err := tls.LoadX509KeyPair(c, k)
		if err != nil {
			t.Fatal(err)
		}
		return []tls.Certificate{p}
	}
	clients := map[string][]tls.Certificate{"none": nil, "good": pair(ca, 1), "stranger": pair(stranger, 1), "expired": pair(ca, -1)}
	for _, c := range []struct {
		ask    ClientAuth
		verify bool
		good   string // those that come in
	}{
		{AskNone, true, "none good stranger expired"},
		{AskOptional, false, "none good stranger expired"},
		{AskOptional, true, "none good"},
		{AskRequire, false, "good stranger expired"},
		{AskRequire, true, "good"},
	} {
		s := serve(t, Options{TLS: mustTLS(t, ServeTLS, TLSOptions{Cert: cert, Key: key, Trust: ca.file(t), Verify: c.verify, Ask: c.ask})}, echo)
		for who, certs := range clients {
			send := func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { // whatever authorities the server names
				if len(certs) == 0 {
					return new(tls.Certificate), nil
				}
				return &certs[0], nil
			}
			_, err := try(s.Addr(), &tls.Config{InsecureSkipVerify: true, GetClientCertificate: send})
			if want := strings.Contains(c.good, who); (err == nil) != want {
				t.Errorf("%s, checked %v: %s: %v", c.ask, c.verify, who, err)
			}
		}
	}
}

// The dialling side: takes any server, or one whose certificate its authority has
// signed, or shows a certificate itself. Calls go both ways, large and small.
func TestTLSDial(t *testing.T) {
	ca, stranger := newAuthority(t), newAuthority(t)
	serverCert, serverKey := ca.files(t, "server", 1)
	clientCert, clientKey := ca.files(t, "client", 1)
	s := serve(t, Options{TLS: mustTLS(t, ServeTLS, TLSOptions{Cert: serverCert, Key: serverKey, Trust: ca.file(t), Verify: true, Ask: AskRequire, Enforce: true})}, funcs{request: answerEcho})
	call := func(o TLSOptions) error {
		c, err := Dial(t.Context(), s.Addr(), Options{TLS: mustTLS(t, DialTLS, o)}, nil)
		if err != nil {
			return err
		}
		defer c.Close(nil)
		for _, size := range []int{0, 1, 16 << 10, 3 << 20} {
			body := make([]byte, size)
			rand.Read(body)
			a, err := c.Call(t.Context(), protocol.NewRequest(9, nil, body))
			if err != nil {
				return err
			}
			if string(a.Body) != string(body) {
				return fmt.Errorf("%d bytes came back as %d others", size, len(a.Body))
			}
		}
		return nil
	}
	for name, c := range map[string]struct {
		o  TLSOptions
		ok bool
	}{
		"any server":         {TLSOptions{Cert: clientCert, Key: clientKey}, true},
		"a checked server":   {TLSOptions{Cert: clientCert, Key: clientKey, Trust: ca.file(t), Verify: true}, true},
		"a stranger":         {TLSOptions{Cert: clientCert, Key: clientKey, Trust: stranger.file(t), Verify: true}, false},
		"no certificate":     {TLSOptions{}, false},
		"the system's roots": {TLSOptions{Cert: clientCert, Key: clientKey, Verify: true}, false},
	} {
		if err := call(c.o); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Dial(t.Context(), serve(t, Options{}, echo).Addr(), Options{TLS: mustTLS(t, DialTLS, TLSOptions{})}, nil); !errors.Is(err, ErrTLS) {
		t.Errorf("a server without TLS: %v", err)
	}
}

// Files that change are used for new connections, old connections go on; a bad
// file leaves the old one in use and is said once.
func TestTLSReload(t *testing.T) {
	core, logs := observer.New(zap.InfoLevel)
	ca := newAuthority(t)
	cert, key := ca.files(t, "first", 1)
	s := serve(t, Options{TLS: mustTLS(t, ServeTLS, TLSOptions{Cert: cert, Key: key}), Sweep: 2 * time.Millisecond, Log: zap.New(core)}, echo)
	name := func() string {
		state, err := try(s.Addr(), anyServer)
		if err != nil {
			t.Fatal(err)
		}
		return state.PeerCertificates[0].Subject.CommonName
	}
	old, err := tls.Dial("tcp", s.Addr(), anyServer)
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	if got := name(); got != "first" {
		t.Fatalf("it is %s", got)
	}
	said := func(text string) int { return logs.FilterMessageSnippet(text).Len() }

	good, err := os.ReadFile(cert)
	if err != nil {
		t.Fatal(err)
	}
	put(t, cert, []byte("not a certificate"))
	eventually(t, "the bad file is said", func() bool { return said("cannot be used") == 1 })
	if got := name(); got != "first" {
		t.Errorf("after a bad file it is %s", got)
	}
	put(t, cert, good)
	eventually(t, "the file is taken", func() bool { return said("use the new ones") == 1 })

	cert2, key2 := ca.files(t, "second", 1)
	for from, to := range map[string]string{cert2: cert, key2: key} {
		text, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		put(t, to, text)
	}
	eventually(t, "the new certificate", func() bool { return name() == "second" })
	if err := ask(old, 8); err != nil {
		t.Errorf("a connection of before: %v", err)
	}
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the lost file is said", func() bool { return said("cannot be used") >= 2 })
	if got := name(); got != "second" {
		t.Errorf("without its file it is %s", got)
	}
}

// Handshakes that stall are closed in time, hold up nobody, and are limited in
// number; plain and TLS connections are served beside them.
func TestTLSStalled(t *testing.T) {
	m := NewMetrics(nil)
	serving := mustTLS(t, ServeTLS, TLSOptions{SelfSigned: true})
	var mu sync.Mutex
	ended := map[string]int{}
	s := serve(t, Options{TLS: serving, Metrics: m, HandshakeTimeout: 3 * time.Second, Sweep: 10 * time.Millisecond}, funcs{request: answerEcho, closed: func(c *Conn) {
		mu.Lock()
		defer mu.Unlock()
		switch err := c.Err(); {
		case errors.Is(err, ErrTLSTimeout):
			ended["timeout"]++
		case errors.Is(err, ErrTLS):
			ended["failed"]++
		default:
			ended["other"]++
		}
	}})
	var stalled []*wire
	for i := range 60 {
		w := dialWire(t, s.Addr())
		hello := []byte{0x16, 3, 1, 2, 0, 1, 0, 1, 0xFC, 3, 3}
		w.send(hello[:1+i%len(hello)])
		stalled = append(stalled, w)
	}
	alive(t, s)
	if _, err := try(s.Addr(), anyServer); err != nil {
		t.Errorf("beside stalled handshakes: %v", err)
	}
	for _, w := range stalled {
		w.closed()
	}
	garbage := dialWire(t, s.Addr())
	garbage.send([]byte{0x16, 3, 1, 0, 5, 'h', 'e', 'l', 'l', 'o'})
	garbage.closed()
	large := dialWire(t, s.Addr())
	large.send([]byte{0x16, 3, 1, 0xFF, 0xFF, 1})
	large.closed()
	eventually(t, "all are gone", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return ended["timeout"] == 60 && ended["failed"] == 2
	})
	if n := m.Refusal("tls-timeout").Load(); n != 60 {
		t.Errorf("%d timeouts counted", n)
	}
	if n := m.Refusal("tls-handshake").Load(); n != 2 {
		t.Errorf("%d failures counted", n)
	}
	if n := serving.shaking.Load(); n != 0 {
		t.Errorf("%d handshakes are still counted", n)
	}

	serving.shaking.Store(maxHandshakes)
	if _, err := try(s.Addr(), anyServer); err == nil || m.Refusal("tls-handshakes").Load() != 1 {
		t.Errorf("one handshake too many: %v", err)
	}
	alive(t, s)
	serving.shaking.Store(0)
}

// A server that stops answers what it owes over TLS too, and says goodbye.
func TestTLSStop(t *testing.T) {
	taken := make(chan Late, 1)
	s := serve(t, Options{TLS: mustTLS(t, ServeTLS, TLSOptions{SelfSigned: true})}, funcs{request: func(_ *Turn, c *Call) { taken <- c.Later() }})
	c, err := tls.Dial("tcp", s.Addr(), anyServer)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	shaking := dialWire(t, s.Addr())
	shaking.send([]byte{0x16, 3, 1})
	c.SetDeadline(time.Now().Add(patience))
	c.Write(ping(3))
	late := <-taken
	eventually(t, "one is shaking hands", func() bool { return s.hub.o.TLS.shaking.Load() == 1 })
	stopped := make(chan error, 1)
	go func() { stopped <- s.Stop(context.Background()) }()
	shaking.closed()
	late.Answer(Response{Body: make([]byte, 100_000)})
	w := &wire{t, c, bufio.NewReader(c)}
	if a := w.answer(); a.Opaque != 3 || len(a.Body) != 100_000 {
		t.Errorf("answer %d with %d bytes", a.Opaque, len(a.Body))
	}
	if _, err := w.r.ReadByte(); err != io.EOF {
		t.Errorf("the end: %v, want one that TLS announces", err)
	}
	c.Close()
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

// Many clients at once, pipelined, TLS and plain on one port: each gets its own
// answers.
func TestTLSMany(t *testing.T) {
	m := NewMetrics(nil)
	s := serve(t, Options{TLS: mustTLS(t, ServeTLS, TLSOptions{SelfSigned: true}), Metrics: m}, echo)
	var group sync.WaitGroup
	hold := make(chan struct{})
	var ready sync.WaitGroup
	for i := range 12 {
		o := Options{}
		if i%2 == 0 {
			o.TLS = mustTLS(t, DialTLS, TLSOptions{})
		}
		c := dial(t, s, o, nil)
		group.Add(1)
		ready.Add(1)
		go func() {
			defer group.Done()
			for n := range 100 {
				body := []byte(strings.Repeat(fmt.Sprint(i, n), 1+n*7))
				a, err := c.Call(context.Background(), protocol.NewRequest(int32(i), nil, body))
				if err != nil || string(a.Body) != string(body) {
					t.Errorf("client %d, call %d: %v", i, n, err)
					break
				}
			}
			ready.Done()
			<-hold
		}()
	}
	ready.Wait()
	p := m.port(portOf(s.listeners[0].Addr()))
	if p.open.Load() != 12 || p.tls.Load() != 6 {
		t.Errorf("%d connections, %d over TLS", p.open.Load(), p.tls.Load())
	}
	close(hold)
	group.Wait()
	for _, c := range s.hub.all() {
		c.Close(nil)
	}
	eventually(t, "they are gone", func() bool { return p.open.Load() == 0 && p.tls.Load() == 0 })
}
