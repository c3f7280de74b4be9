package remoting

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"crypto/pbkdf2"
	"crypto/rc4"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"hash"
	"strings"
	"unicode/utf16"
)

// keyPair makes a certificate of the texts of two PEM files. The certificates of
// certPEM are a chain, the first one is the server's (client's) own. The key is
// the first private key of keyPEM: PKCS#8 (RSA, EC, Ed25519), PKCS#1 or SEC 1,
// also encrypted with password: PKCS#8 with PBES2 (PBKDF2 and AES or 3DES) or with
// the SHA-1 schemes of PKCS#12 that Java reads (3DES, RC4-128), and the older
// "Proc-Type: 4,ENCRYPTED".
func keyPair(certPEM, keyPEM []byte, password string) (tls.Certificate, error) {
	for block, rest := pem.Decode(keyPEM); block != nil; block, rest = pem.Decode(rest) {
		if !strings.HasSuffix(block.Type, "PRIVATE KEY") {
			continue // parameters of a curve, certificates
		}
		key, err := privateKey(block, password)
		if err != nil {
			return tls.Certificate{}, err
		}
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return tls.Certificate{}, err
		}
		return tls.X509KeyPair(certPEM, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	}
	return tls.Certificate{}, errors.New("there is no private key in it; it must be PEM")
}

var errNoPassword = errors.New("the key is encrypted, and no password is set")

func privateKey(block *pem.Block, password string) (any, error) {
	der := block.Bytes
	//lint:ignore SA1019 old key files are encrypted in this way, and the file is the operator's own
	if x509.IsEncryptedPEMBlock(block) {
		if password == "" {
			return nil, errNoPassword
		}
		var err error
		//lint:ignore SA1019 as above
		if der, err = x509.DecryptPEMBlock(block, []byte(password)); err != nil {
			return nil, fmt.Errorf("the key cannot be decrypted: %w", err)
		}
	}
	switch block.Type {
	case "RSA PRIVATE KEY":
		return x509.ParsePKCS1PrivateKey(der)
	case "EC PRIVATE KEY":
		return x509.ParseECPrivateKey(der)
	case "PRIVATE KEY":
		return x509.ParsePKCS8PrivateKey(der)
	case "ENCRYPTED PRIVATE KEY":
		if password == "" {
			return nil, errNoPassword
		}
		plain, err := decryptPKCS8(der, password)
		if err != nil {
			return nil, err
		}
		key, err := x509.ParsePKCS8PrivateKey(plain)
		if err != nil {
			return nil, errors.New("the key cannot be decrypted: the password is wrong, or the file is damaged")
		}
		return key, nil
	}
	return nil, fmt.Errorf("a key of the kind %q cannot be read; openssl pkcs8 -topk8 makes one that can", block.Type)
}

// Layouts: RFC 5958 section 3, RFC 8018 appendix A, RFC 7292 appendix C.
type encryptedKey struct {
	Algorithm pkix.AlgorithmIdentifier
	Data      []byte
}

type pbes2Params struct{ KDF, Cipher pkix.AlgorithmIdentifier }

type pbkdf2Params struct {
	Salt       []byte
	Iterations int
	KeyLength  int                      `asn1:"optional"`
	PRF        pkix.AlgorithmIdentifier `asn1:"optional"`
}

type pkcs12Params struct {
	Salt       []byte
	Iterations int
}

var (
	oidPBES2  = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 13}
	oidPBKDF2 = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 12}
	oidRC4    = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 12, 1, 1} // SHA-1, 128 bit
	oid3DES   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 12, 1, 3} // SHA-1, 3 keys, CBC

	prfs = map[string]func() hash.Hash{
		"": sha1.New, "1.2.840.113549.2.7": sha1.New, "1.2.840.113549.2.8": sha256.New224, "1.2.840.113549.2.9": sha256.New,
		"1.2.840.113549.2.10": sha512.New384, "1.2.840.113549.2.11": sha512.New,
	}
	ciphers = map[string]struct {
		size int
		make func(key []byte) (cipher.Block, error)
	}{
		"2.16.840.1.101.3.4.1.2":  {16, aes.NewCipher},
		"2.16.840.1.101.3.4.1.22": {24, aes.NewCipher},
		"2.16.840.1.101.3.4.1.42": {32, aes.NewCipher},
		"1.2.840.113549.3.7":      {24, des.NewTripleDESCipher},
	}
)

// maxIterations bounds the work that a key file may ask for: some seconds.
const maxIterations = 10_000_000

const reencrypt = "; openssl pkcs8 -topk8 -v2 aes-256-cbc makes one that can"

func decryptPKCS8(der []byte, password string) ([]byte, error) {
	var k encryptedKey
	if _, err := asn1.Unmarshal(der, &k); err != nil {
		return nil, fmt.Errorf("not an encrypted key: %w", err)
	}
	switch id := k.Algorithm.Algorithm; {
	case id.Equal(oidPBES2):
		return decryptPBES2(k, password)
	case id.Equal(oidRC4), id.Equal(oid3DES):
		return decryptPKCS12(k, password)
	default:
		return nil, fmt.Errorf("a key encrypted by the method %s cannot be read%s", id, reencrypt)
	}
}

func decryptPBES2(k encryptedKey, password string) ([]byte, error) {
	var p pbes2Params
	var kdf pbkdf2Params
	var iv []byte
	if _, err := asn1.Unmarshal(k.Algorithm.Parameters.FullBytes, &p); err != nil {
		return nil, fmt.Errorf("not an encrypted key: %w", err)
	}
	if !p.KDF.Algorithm.Equal(oidPBKDF2) {
		return nil, fmt.Errorf("a key whose password goes through %s cannot be read%s", p.KDF.Algorithm, reencrypt)
	}
	if _, err := asn1.Unmarshal(p.KDF.Parameters.FullBytes, &kdf); err != nil {
		return nil, fmt.Errorf("not an encrypted key: %w", err)
	}
	prf, ok := prfs[kdf.PRF.Algorithm.String()]
	c, known := ciphers[p.Cipher.Algorithm.String()]
	if !ok || !known {
		return nil, fmt.Errorf("a key encrypted with %s and %s cannot be read%s", p.Cipher.Algorithm, kdf.PRF.Algorithm, reencrypt)
	}
	if _, err := asn1.Unmarshal(p.Cipher.Parameters.FullBytes, &iv); err != nil {
		return nil, fmt.Errorf("not an encrypted key: %w", err)
	}
	if kdf.Iterations < 1 || kdf.Iterations > maxIterations {
		return nil, fmt.Errorf("a key with %d iterations of its password cannot be read (1 to %d can)", kdf.Iterations, maxIterations)
	}
	key, err := pbkdf2.Key(prf, password, kdf.Salt, kdf.Iterations, c.size)
	if err != nil {
		return nil, err
	}
	block, err := c.make(key)
	if err != nil {
		return nil, err
	}
	return decryptCBC(block, iv, k.Data)
}

func decryptPKCS12(k encryptedKey, password string) ([]byte, error) {
	var p pkcs12Params
	if _, err := asn1.Unmarshal(k.Algorithm.Parameters.FullBytes, &p); err != nil {
		return nil, fmt.Errorf("not an encrypted key: %w", err)
	}
	if p.Iterations < 1 || p.Iterations > maxIterations || len(p.Salt) == 0 || len(p.Salt) > 1024 {
		return nil, fmt.Errorf("a key with %d iterations of its password and a salt of %d bytes cannot be read", p.Iterations, len(p.Salt))
	}
	if k.Algorithm.Algorithm.Equal(oidRC4) {
		c, err := rc4.NewCipher(pkcs12Key(1, password, p, 16))
		if err != nil {
			return nil, err
		}
		out := make([]byte, len(k.Data))
		c.XORKeyStream(out, k.Data)
		return out, nil
	}
	block, err := des.NewTripleDESCipher(pkcs12Key(1, password, p, 24))
	if err != nil {
		return nil, err
	}
	return decryptCBC(block, pkcs12Key(2, password, p, 8), k.Data)
}

// pkcs12Key derives size bytes for a purpose (1 a key, 2 an initial vector) with
// SHA-1: RFC 7292 appendix B.2.
func pkcs12Key(purpose byte, password string, p pkcs12Params, size int) []byte {
	const v, u = 64, sha1.Size
	var secret []byte // UTF-16, big-endian, ended by a zero
	for _, c := range append(utf16.Encode([]rune(password)), 0) {
		secret = append(secret, byte(c>>8), byte(c))
	}
	fill := func(b []byte) []byte {
		out := make([]byte, (len(b)+v-1)/v*v)
		for i := range out {
			out[i] = b[i%len(b)]
		}
		return out
	}
	in := append(fill(p.Salt), fill(secret)...)
	d := make([]byte, v, v+len(in))
	for i := range d {
		d[i] = purpose
	}
	var out []byte
	for len(out) < size {
		a := sha1.Sum(append(d[:v:v], in...))
		for range p.Iterations - 1 {
			a = sha1.Sum(a[:])
		}
		out = append(out, a[:]...)
		b := fill(a[:])
		for at := 0; at < len(in); at += v { // add b+1 to each block of in
			carry := 1
			for i := v - 1; i >= 0; i-- {
				carry += int(in[at+i]) + int(b[i])
				in[at+i] = byte(carry)
				carry >>= 8
			}
		}
	}
	return out[:size]
}

// decryptCBC decrypts and takes the padding off. That a password was wrong shows
// here or when the key is parsed.
func decryptCBC(block cipher.Block, iv, data []byte) ([]byte, error) {
	size := block.BlockSize()
	if len(iv) != size || len(data) == 0 || len(data)%size != 0 {
		return nil, errors.New("not an encrypted key: its length is no multiple of the cipher's")
	}
	out := make([]byte, len(data))
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(out, data)
	n := int(out[len(out)-1])
	if n < 1 || n > size {
		return nil, errors.New("the key cannot be decrypted: the password is wrong, or the file is damaged")
	}
	return out[:len(out)-n], nil
}
