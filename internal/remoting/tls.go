package remoting

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

// TLSOptions are one side's TLS: of accepted connections (ServeTLS) or of dialled
// ones (DialTLS). Files are PEM and at most 1 MiB; they are looked at every Sweep
// and what has changed is used for new connections.
type TLSOptions struct {
	Cert, Key   string // file of the certificate and its chain, and of its key; empty: none
	KeyPassword string // of an encrypted key
	Trust       string // file of the authorities that the other side's certificate is checked by; empty: the system's
	Verify      bool   // check the other side's certificate; false: take any

	// Of accepted connections only.

	Enforce    bool       // connections without TLS are closed; false: both are served
	SelfSigned bool       // make a certificate where none is given
	Ask        ClientAuth // for a certificate of the client
}

// ClientAuth says whether a client must show a certificate.
type ClientAuth string

// The values of tls.server.need.client.auth.
const (
	AskNone     ClientAuth = "none"     // it is not asked
	AskOptional ClientAuth = "optional" // it may show one
	AskRequire  ClientAuth = "require"  // it must
)

// TLS is what a Server or a Dialer needs for TLS. It may be shared.
type TLS struct {
	o     TLSOptions
	build func(TLSOptions, []file) (*tls.Config, error)
	cur   atomic.Pointer[tls.Config]

	shaking atomic.Int64 // handshakes of accepted connections that are under way

	mu     sync.Mutex // guards the rest
	seen   [sha256.Size]byte
	fresh  [sha256.Size]byte // seen once; taken when it is the same at the next look
	warned time.Time
}

const (
	maxHandshakes = 1000                             // under way at a time; more are closed
	tlsFirstByte  = 0x16                             // of a TLS hello; as a frame's length it is beyond every limit
	maxPEM        = 1 << 20                          // bytes of one file
	selfSigned    = 10 * 365 * 24 * 60 * time.Minute // how long a certificate made here is good
)

// ServeTLS makes the TLS of accepted connections. Errors: a file cannot be read or
// used, or there is no certificate and none may be made.
func ServeTLS(o TLSOptions) (*TLS, error) { return newTLS(o, serverConfig) }

// DialTLS makes the TLS of dialled connections. The error is a file that cannot be
// read or used.
func DialTLS(o TLSOptions) (*TLS, error) { return newTLS(o, clientConfig) }

func newTLS(o TLSOptions, build func(TLSOptions, []file) (*tls.Config, error)) (*TLS, error) {
	t := &TLS{o: o, build: build}
	files, sum := t.read()
	cfg, err := build(o, files)
	if err != nil {
		return nil, err
	}
	t.seen, t.fresh = sum, sum
	t.cur.Store(cfg)
	return t, nil
}

// file is one of the PEM files as it was read.
type file struct {
	path string // empty: not given
	text []byte
	err  error
}

// read reads the files certificate, key and authorities, in this order.
func (t *TLS) read() (files []file, sum [sha256.Size]byte) {
	h := sha256.New()
	for _, path := range []string{t.o.Cert, t.o.Key, t.o.Trust} {
		f := file{path: path}
		if path != "" {
			f.text, f.err = readPEM(path)
		}
		fmt.Fprintf(h, "%d %v\n", len(f.text), f.err)
		h.Write(f.text)
		files = append(files, f)
	}
	return files, [sha256.Size]byte(h.Sum(nil))
}

func readPEM(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxPEM+1))
	if err == nil && len(text) > maxPEM {
		err = fmt.Errorf("%s has more than %d bytes", path, maxPEM)
	}
	return text, err
}

// certificate is the certificate of the files; none when none is given.
func certificate(o TLSOptions, files []file) ([]tls.Certificate, error) {
	cert, key := files[0], files[1]
	switch {
	case cert.path == "" && key.path == "":
		return nil, nil
	case cert.path == "" || key.path == "":
		return nil, fmt.Errorf("the file of the certificate (%q) and that of its key (%q) go together", cert.path, key.path)
	case cert.err != nil || key.err != nil:
		return nil, errors.Join(cert.err, key.err)
	}
	pair, err := keyPair(cert.text, key.text, o.KeyPassword)
	if err != nil {
		return nil, fmt.Errorf("certificate %s with key %s: %w", cert.path, key.path, err)
	}
	return []tls.Certificate{pair}, nil
}

// authorities are those of the file; nil, the system's, when none is given.
func authorities(f file) (*x509.CertPool, error) {
	if f.path == "" || f.err != nil {
		return nil, f.err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(f.text) {
		return nil, fmt.Errorf("%s holds no certificate; it must be PEM", f.path)
	}
	return pool, nil
}

// common is what both sides want of TLS. Small first records, which save a browser
// a round trip, would only cost here.
func common() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, DynamicRecordSizingDisabled: true}
}

func serverConfig(o TLSOptions, files []file) (*tls.Config, error) {
	cfg := common()
	var err error
	if cfg.Certificates, err = certificate(o, files); err != nil {
		return nil, err
	}
	if len(cfg.Certificates) == 0 {
		if !o.SelfSigned {
			return nil, errors.New("there is no certificate: set tls.server.certPath and tls.server.keyPath")
		}
		made, err := makeCertificate()
		if err != nil {
			return nil, fmt.Errorf("making a certificate: %w", err)
		}
		cfg.Certificates = []tls.Certificate{made}
	}
	if cfg.ClientCAs, err = authorities(files[2]); err != nil {
		return nil, err
	}
	switch {
	case o.Ask == AskOptional && o.Verify:
		cfg.ClientAuth = tls.VerifyClientCertIfGiven
	case o.Ask == AskOptional:
		cfg.ClientAuth = tls.RequestClientCert
	case o.Ask == AskRequire && o.Verify:
		cfg.ClientAuth = tls.RequireAndVerifyClientCert
	case o.Ask == AskRequire:
		cfg.ClientAuth = tls.RequireAnyClientCert
	}
	return cfg, nil
}

func clientConfig(o TLSOptions, files []file) (*tls.Config, error) {
	cfg := common()
	// The chain is checked by verify, if it is to be: clusters' certificates do not
	// name the addresses that are dialled, and the original does not look.
	cfg.InsecureSkipVerify = true
	var err error
	if cfg.Certificates, err = certificate(o, files); err != nil {
		return nil, err
	}
	cfg.RootCAs, err = authorities(files[2])
	return cfg, err
}

// verify checks the certificate of the host that was dialled: that an authority
// of the file has signed it, or, when there is no file, one of the system's, for
// this name.
func verify(cfg *tls.Config, host string) func(tls.ConnectionState) error {
	return func(s tls.ConnectionState) error {
		o := x509.VerifyOptions{Roots: cfg.RootCAs, Intermediates: x509.NewCertPool()}
		if o.Roots == nil {
			o.DNSName = host
		}
		for _, c := range s.PeerCertificates[1:] {
			o.Intermediates.AddCert(c)
		}
		_, err := s.PeerCertificates[0].Verify(o)
		return err
	}
}

// makeCertificate makes a key and a certificate that it has signed itself.
func makeCertificate() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return tls.Certificate{}, err
	}
	c := &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: "gomq, self-signed"},
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(selfSigned),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		return tls.Certificate{}, err
	}
	leaf, err := x509.ParseCertificate(der)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, err
}

// Describe says what there is, for a line at start: who the certificate is for and
// how long it is good; made says that it was made here.
func (t *TLS) Describe() (subject string, notAfter time.Time, made bool) {
	cfg := t.cur.Load()
	if len(cfg.Certificates) == 0 {
		return "", time.Time{}, false
	}
	leaf := cfg.Certificates[0].Leaf
	return leaf.Subject.String(), leaf.NotAfter, t.o.Cert == ""
}

// look reads the files anew. What has changed, and is the same at two looks, is
// used from now on; when it cannot be used, what there was stays.
func (t *TLS) look(log *zap.Logger) {
	t.mu.Lock()
	defer t.mu.Unlock()
	files, sum := t.read()
	settled := sum == t.fresh
	t.fresh = sum
	if !settled || sum == t.seen {
		return
	}
	t.seen = sum
	cfg, err := t.build(t.o, files)
	if err != nil {
		log.Error("the TLS files have changed and cannot be used; the old ones stay in use", zap.Error(err))
		return
	}
	t.cur.Store(cfg)
	subject, until, _ := t.Describe()
	log.Info("the TLS files have changed; new connections use the new ones", zap.String("certificate", subject), zap.Time("notAfter", until))
}

// watched says whether there are files that may change.
func (t *TLS) watched() bool { return t != nil && (t.o.Cert != "" || t.o.Key != "" || t.o.Trust != "") }

// watchTLS looks at the files until the hub ends.
func (h *hub) watchTLS(stop context.Context) error {
	tick := time.NewTicker(h.o.Sweep)
	defer tick.Stop()
	for {
		select {
		case <-stop.Done():
			return nil
		case <-h.empty:
			return nil
		case <-tick.C:
			h.o.TLS.look(h.o.Log)
		}
	}
}

// What ends a connection over TLS, or for its want.
var (
	ErrTLS        = errors.New("TLS failed")
	ErrTLSTimeout = errors.New("a TLS handshake was begun and not completed in time")
	ErrNoTLS      = errors.New("the peer speaks without TLS, which tls.server.mode=enforcing forbids")
	ErrTLSOff     = errors.New("the peer begins TLS, and tls.server.mode=disabled")
)

// greet looks at what the first read of an accepted connection brought: its first
// byte decides whether it is TLS.
func (c *Conn) greet() error {
	c.unknown = false
	t := c.hub.o.TLS
	hello := c.in.left() > 0 && c.in.x.b[c.in.r] == tlsFirstByte
	switch {
	case hello && t != nil:
		return c.shake(t)
	case hello:
		c.hub.refuse("tls-disabled")
		return ErrTLSOff
	case t != nil && t.o.Enforce:
		c.hub.refuse("tls-required")
		t.warn(c.hub.o.Log, "a connection without TLS was refused", c, ErrNoTLS)
		return ErrNoTLS
	}
	return nil
}

// shake is the server's side of a handshake whose first bytes have been read, and
// the first read behind it.
func (c *Conn) shake(t *TLS) error {
	defer t.shaking.Add(-1)
	if t.shaking.Add(1) > maxHandshakes {
		c.hub.refuse("tls-handshakes")
		return fmt.Errorf("%w: %d handshakes are under way", ErrTLS, maxHandshakes)
	}
	head := append([]byte(nil), c.in.x.b[c.in.r:]...)
	c.in.drop(c.hub)
	c.shakeSince.Store(c.hub.now())
	s := tls.Server(&helloConn{Conn: c.nc, head: head}, t.cur.Load())
	if err := s.Handshake(); err != nil {
		switch {
		case c.Err() != nil:
			return err // closed meanwhile, for a reason that is known
		case c.hub.stopping.Load() && errors.Is(err, os.ErrDeadlineExceeded):
			return ErrStopped
		}
		c.hub.refuse("tls-handshake")
		t.warn(c.hub.o.Log, "a TLS handshake failed", c, err)
		return fmt.Errorf("%w: %w", ErrTLS, err)
	}
	c.shakeSince.Store(0)
	c.rw, c.raw = s, nil
	c.port.tls.Add(1)
	c.tls = true
	return c.fill()
}

// warn says why a peer was turned away, at most once a second: strangers decide
// how often it happens.
func (t *TLS) warn(log *zap.Logger, msg string, c *Conn, err error) {
	t.mu.Lock()
	now := time.Now()
	silent := now.Sub(t.warned) < time.Second
	if !silent {
		t.warned = now
	}
	t.mu.Unlock()
	if !silent {
		log.Warn(msg, zap.Stringer("peer", c.remote), zap.Error(err))
	}
}

// helloConn is a connection whose first bytes have been read already.
type helloConn struct {
	net.Conn
	head []byte
}

// Read returns what was read before, then reads on.
func (h *helloConn) Read(b []byte) (int, error) {
	if len(h.head) == 0 {
		return h.Conn.Read(b)
	}
	n := copy(b, h.head)
	h.head = h.head[n:]
	return n, nil
}

// client makes TLS of a connection just dialled; ctx bounds the handshake.
func (t *TLS) client(ctx context.Context, nc net.Conn, addr string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		host = addr
	}
	cfg := t.cur.Load().Clone()
	cfg.ServerName = host
	if t.o.Verify {
		cfg.VerifyConnection = verify(cfg, host)
	}
	s := tls.Client(nc, cfg)
	if err := s.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTLS, err)
	}
	return s, nil
}
