package remoting

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"strings"
	"testing"
)

// What OpenSSL 3.0.19 makes of one throw-away EC key with the password below:
// openssl pkcs8 -topk8 with -v2, -v2prf, -v1 or -scrypt, DER.
const opensslPassword = "geheim \u00fc"

var opensslKeys = map[string]string{
	"plain PKCS#8":            "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgokwCdjiWDNmwUlBK/9S6hOh9dCufausBTHPJzHLMEjehRANCAAQcfBdGmAB7k6MHpYwlq/zqDLAVWXePHyNzir0OShAyfh47PRJJaSDm89VuqhSGE6RvH59CQspnyV51zzAMA1xw",
	"PBES2, AES-256, SHA-256": "MIHsMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAjCoGvHq3ddOgICCAAwDAYIKoZIhvcNAgkFADAdBglghkgBZQMEASoEEKz/u5zrxOe7UUXPUrBIDooEgZBU7vJ/6q1NC0DbX5sqPJc1vUAL5m6PT6kBeX8XVBkiWIc/Tx8j46fipJKqtBDXtjSdfyho2Qnr3q3/GsvylfK8FBSbV4JJaI6ySbpoisouhFCMvH/mRSR9f51DJe5tSNlYoRrfRsVwTyg29ppdoUR1l0cgsiJuT+8lofZmi4tKL5oWrFqzOSbHvDddAOYR7lw=",
	"PBES2, AES-192, SHA-512": "MIHsMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAiEV9N6n/+PtwICCAAwDAYIKoZIhvcNAgsFADAdBglghkgBZQMEARYEEP42nwsjm4rzgD2o8byNs5IEgZB7VDY1O792Q7+fiEOXx7KNMjPZYLM20x+Wg6IdaFQ/i524/h+K3TerEED+AvuI9X3S/78womknJkGMQIAbORRguc2wWwiVTDR30m23cm2yYpXlQNEt9Ro/9bNX+7C9oQsibffjaabfaTXsIkrctHJpiwCFypmQ6Rqi0sT6fT9ExOENBrlIRefpAdLNNOp+/4w=",
	"PBES2, AES-128, SHA-1":   "MIHeMEkGCSqGSIb3DQEFDTA8MBsGCSqGSIb3DQEFDDAOBAh198MjEtzprQICCAAwHQYJYIZIAWUDBAECBBCRSBxP1xIG3GT8jw2GAA55BIGQRmyZHFUSuHvpHFRZwmLkUe3URKiJfgBwfd2+ETXpbesxEHCMIDjAK0w2gzyerSdOZ+9fOR3ZFgBqn2i5BkJKBWq4I6D2pjwypTTz7RrXejRhRkjpPkCghf64Qqt+Bqh+t5ByWQSjQMvQUVG8k0Ck/TuJuMuJoCERsWqoQXyKyrusJGY+cthTrJXEylsJOSuP",
	"PBES2, 3DES":             "MIHjME4GCSqGSIb3DQEFDTBBMCkGCSqGSIb3DQEFDDAcBAi8LUSUAy+P1wICCAAwDAYIKoZIhvcNAgkFADAUBggqhkiG9w0DBwQI7ne8PTDgpQgEgZCFkO1oZX7rMOuyLvkULV1vUqAIIKQKvLxAfj09p1/VUJOBxjDD+xrPo/tVMVwhOGIR8TGTVsH7qI/9fpqkJo4AhSd7Mw901vBOI8DbjgGmegnwfTqVbWn3/c0QSwQUQpWPd42cW0QNveikwlhxe/wqN4iTiY5u823n3MKeC3KCVlBfkFa/TZpbxWYV+Yijagc=",
	"PKCS#12, 3DES":           "MIGxMBwGCiqGSIb3DQEMAQMwDgQIL36ojjxvhHcCAggABIGQvCg5ohwJ4VAxneiNLyYkR77JTJSrW5BVRIHQZk/3Wg8OsA3VX3zaDaFy2U1Us976eCBLxSAa3Cwi7oTg1oJRMk11NSt9m/UZ5YRQjGzSEipkHeqtkSwSzNUm4gLUMq7B6+TL6G0y+18Po6TNHgblrhyORzN9bXyleXibzAk9vwfUZd6TMZe/0YjmUF8R3gyt",
	"PKCS#12, RC4":            "MIGrMBwGCiqGSIb3DQEMAQEwDgQInYPF+RXOXJ0CAggABIGKUbXz4vLQLDjZILRsXsIuZod5DxJuGFLMqSC0iqvWW70/yB7paLp/CjauitcgXsrPA9Y6BmX1MU2XicS5Ukqu5LdUdLNVRw/jEfSLMO+Ht8GbqGXxn/0xYRYiX/KSKL32G6Z0qq4kGAR/hdOVNDptLzPV6ttGDILrh7Wto1CQ3ATBMefo05NJi6so",
	"MD5 and DES":             "MIGwMBsGCSqGSIb3DQEFAzAOBAjs1xm4+U5tPwICCAAEgZDW4sxfDuJakLKGsOy+samaHrd/gWMt621DBZSDSSl1IIdTQ/Fp7dwSH6T6MFmbjNNY8n7kmdZ8KiZPMKi0gGYbSm/WSrAS/XF/Y487+JhOJtm+N9gjXLHE4+/jDVj9ENomBOggYia9npafeGN5ybIW162ChUTeQ9Xg7HBnWhyG8ianqaGnmoL0sZpj1fvW7iE=",
	"scrypt":                  "MIHkME8GCSqGSIb3DQEFDTBCMCEGCSsGAQQB2kcECzAUBAh/g64QNA3RHAICQAACAQgCAQEwHQYJYIZIAWUDBAEqBBCJ32JLUC58hhyPiqNBablUBIGQOLrCMSF+6+MlLphwa9w2anT7thZ+2+IZ7fwgIJFZ8rrTQ7baiRI/dVqmHdw38logGz4cuFxr/0b4OwlH+tv/+9fh09d716Z2cXUU+oDsC3FJwmDpZbMIZam5aD1VmLfl5iwVM0/yMwLZIyHMxeE6cmqxFF8O8UO5Wka4xKxJksnPp9zFg3sKMg8mv48HcOrv",
}

// The same key as openssl ec -aes128 writes it.
const (
	opensslOldDEK = "AES-128-CBC,38F7B866E09E85DD8CA14FAFAE34C312"
	opensslOld    = "1WQ10M+dodMeVJ083+4zbYnASYDbDvrBPvyb7w7DicfxexAd4hL/VovnXr/Qaq0CYhqsduN97lOA6TQiyttUgXI/9Qme0+SHfnMDJpf1LGOasP1PRiPehFaFkwM346H6TSowp5RExWZHehRmFeQSmh0H+ytuf2knApR8DtuZvKU="
)

func derOf(t *testing.T, text string) []byte {
	t.Helper()
	der, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// Every kind of key that is in use for TLS is read, encrypted ones with their
// password; what cannot be read says what to do.
func TestPrivateKeys(t *testing.T) {
	want, err := x509.ParsePKCS8PrivateKey(derOf(t, opensslKeys["plain PKCS#8"]))
	if err != nil {
		t.Fatal(err)
	}
	same := func(name string, got any, err error) {
		t.Helper()
		if err != nil || !want.(*ecdsa.PrivateKey).Equal(got.(*ecdsa.PrivateKey)) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, text := range opensslKeys {
		block := &pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: derOf(t, text)}
		if name == "plain PKCS#8" {
			block.Type = "PRIVATE KEY"
			got, err := privateKey(block, "")
			same(name, got, err)
			continue
		}
		got, err := privateKey(block, opensslPassword)
		if name == "scrypt" || name == "MD5 and DES" {
			if err == nil || !strings.Contains(err.Error(), "openssl pkcs8 -topk8 -v2 aes-256-cbc") {
				t.Errorf("%s: %v, want a way out", name, err)
			}
			continue
		}
		same(name, got, err)
		if _, err := privateKey(block, ""); err != errNoPassword {
			t.Errorf("%s without a password: %v", name, err)
		}
		if _, err := privateKey(block, "wrong"); err == nil || !strings.Contains(err.Error(), "password is wrong") {
			t.Errorf("%s with a wrong password: %v", name, err)
		}
	}
	old := &pem.Block{Type: "EC PRIVATE KEY", Headers: map[string]string{"Proc-Type": "4,ENCRYPTED", "DEK-Info": opensslOldDEK}, Bytes: derOf(t, opensslOld)}
	got, err := privateKey(old, opensslPassword)
	same("Proc-Type", got, err)
	if _, err := privateKey(old, ""); err != errNoPassword {
		t.Errorf("Proc-Type without a password: %v", err)
	}
	sec1, err := x509.MarshalECPrivateKey(want.(*ecdsa.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	got, err = privateKey(&pem.Block{Type: "EC PRIVATE KEY", Bytes: sec1}, "")
	same("SEC 1", got, err)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := privateKey(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(rsaKey)}, ""); err != nil || !rsaKey.Equal(got) {
		t.Errorf("PKCS#1: %v", err)
	}
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []any{rsaKey, edKey} {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := privateKey(&pem.Block{Type: "PRIVATE KEY", Bytes: der}, ""); err != nil {
			t.Errorf("%T: %v", key, err)
		}
	}
	if _, err := privateKey(&pem.Block{Type: "DSA PRIVATE KEY", Bytes: sec1}, ""); err == nil || !strings.Contains(err.Error(), "DSA") {
		t.Errorf("DSA: %v", err)
	}
}

// A damaged key is an error, never a panic, whatever byte of it has changed.
func TestDamagedKeys(t *testing.T) {
	for name, text := range opensslKeys {
		der := derOf(t, text)
		for i := range min(len(der), 100) { // the layout is in front
			bad := append([]byte(nil), der...)
			bad[i] ^= 0x55
			_, _ = privateKey(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: bad}, "x")
			_, _ = privateKey(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: der[:i]}, "x")
		}
		if _, err := privateKey(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: der[:len(der)/2]}, "x"); err == nil {
			t.Errorf("half of %s was read", name)
		}
	}
}

// A file that mixes what belongs to a key: the first key counts.
func TestKeyPairFile(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca := newAuthority(t)
	cert := ca.issue(t, key, "x", 1)
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	file := append(pem.EncodeToMemory(&pem.Block{Type: "EC PARAMETERS", Bytes: []byte{6, 8, 42, 134, 72, 206, 61, 3, 1, 7}}), cert...)
	file = append(file, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})...)
	if _, err := keyPair(append(cert, ca.pem...), file, ""); err != nil {
		t.Error(err)
	}
	other := ca.issue(t, newKey(t), "x", 1)
	if _, err := keyPair(other, file, ""); err == nil {
		t.Error("a key that belongs to another certificate was taken")
	}
	if _, err := keyPair(cert, cert, ""); err == nil || !strings.Contains(err.Error(), "no private key") {
		t.Errorf("no key: %v", err)
	}
}
