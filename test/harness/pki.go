package harness

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// PKI is an authority for certificates and what it has signed, as PEM files in a
// directory of the test: authority.pem, and NAME.pem and NAME.key of each.
type PKI struct {
	t    testing.TB
	dir  string
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

// NewPKI makes an authority.
func NewPKI(t testing.TB) *PKI {
	t.Helper()
	p := &PKI{t: t, dir: Dir(t), key: ecKey(t)}
	p.cert = &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, p.cert, p.cert, &p.key.PublicKey, p.key)
	if err != nil {
		t.Fatal(err)
	}
	if p.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	p.write("authority.pem", "CERTIFICATE", der)
	return p
}

func ecKey(t testing.TB) *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// Path is a file of the directory.
func (p *PKI) Path(name string) string { return filepath.Join(p.dir, name) }

func (p *PKI) write(name, kind string, der []byte) {
	// Replaced whole, as whoever renews certificates does.
	next := p.Path(name) + ".new"
	if err := os.WriteFile(next, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		p.t.Fatal(err)
	}
	if err := os.Rename(next, p.Path(name)); err != nil {
		p.t.Fatal(err)
	}
}

// Issue signs a certificate for client and server and writes NAME.pem and NAME.key.
func (p *PKI) Issue(name, subject string) {
	key := ecKey(p.t)
	c := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: subject}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, c, p.cert, &key.PublicKey, p.key)
	if err != nil {
		p.t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		p.t.Fatal(err)
	}
	p.write(name+".key", "PRIVATE KEY", secret)
	p.write(name+".pem", "CERTIFICATE", der)
}

// Client is the configuration of a client with the certificate NAME, who checks
// the server's.
func (p *PKI) Client(name string) *tls.Config {
	pair, err := tls.LoadX509KeyPair(p.Path(name+".pem"), p.Path(name+".key"))
	if err != nil {
		p.t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(p.cert)
	return &tls.Config{Certificates: []tls.Certificate{pair}, InsecureSkipVerify: true, VerifyConnection: func(s tls.ConnectionState) error {
		_, err := s.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: pool})
		return err
	}}
}

// Strict are the keys of a server of a cluster in which everybody has a
// certificate, NAME for this one.
func (p *PKI) Strict(name string) map[string]string {
	return map[string]string{
		"tls.server.mode": "enforcing", "tls.test.mode.enable": "false",
		"tls.server.certPath": p.Path(name + ".pem"), "tls.server.keyPath": p.Path(name + ".key"),
		"tls.server.need.client.auth": "require", "tls.server.authClient": "true", "tls.server.trustCertPath": p.Path("authority.pem"),
		"tls.client.certPath": p.Path(name + ".pem"), "tls.client.keyPath": p.Path(name + ".key"),
		"tls.client.authServer": "true", "tls.client.trustCertPath": p.Path("authority.pem"),
	}
}
