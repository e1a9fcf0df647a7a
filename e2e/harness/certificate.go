package harness

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// Certificate is a self-signed certificate for the loopback addresses, and for clients, in files.
type Certificate struct {
	CertFile, KeyFile string
	Roots             *x509.CertPool // has this certificate
	Serial            *big.Int
	Pair              tls.Certificate
}

// NewCertificate writes a new certificate and its key to dir, replacing older ones.
func NewCertificate(dir string) (*Certificate, error) {
	return NewCertificateUntil(dir, time.Now().Add(24*time.Hour))
}

// NewCertificateUntil is NewCertificate for one that ends then.
func NewCertificateUntil(dir string, end time.Time) (*Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 64))
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: "gateway under test"},
		NotBefore:             time.Now().Add(-24 * time.Hour),
		NotAfter:              end,
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
		IsCA:                  true,
		DNSNames:              []string{"localhost"},
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	c := &Certificate{
		CertFile: filepath.Join(dir, "cert.pem"),
		KeyFile:  filepath.Join(dir, "key.pem"),
		Roots:    x509.NewCertPool(),
		Serial:   serial,
		Pair:     tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: parsed},
	}
	c.Roots.AddCert(parsed)
	if err := writePEM(c.KeyFile, "PRIVATE KEY", keyDER); err != nil {
		return nil, err
	}
	if err := writePEM(c.CertFile, "CERTIFICATE", der); err != nil {
		return nil, err
	}
	return c, nil
}

// KeyHash returns the hash of the key by which Chromium trusts it: its flag ignore-certificate-errors-spki-list.
func (c *Certificate) KeyHash() string {
	hash := sha256.Sum256(c.Pair.Leaf.RawSubjectPublicKeyInfo)
	return base64.StdEncoding.EncodeToString(hash[:])
}

// writePEM replaces the file atomically, as a certificate manager does.
func writePEM(path, kind string, der []byte) error {
	block := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	if err := os.WriteFile(path+".new", block, 0o600); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return os.Rename(path+".new", path)
}
