package server

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ssegateway/internal/bubble"
)

// writePair writes a certificate with this serial number, and its key.
func writePair(t *testing.T, certFile, keyFile string, serial int64) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write(t, certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	write(t, keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))
}

func write(t *testing.T, file string, content []byte) {
	t.Helper()
	// A new file each time, as certificate managers do.
	if err := os.WriteFile(file+".new", content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
}

func TestCertificateFollowsItsFiles(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		certFile, keyFile := filepath.Join(dir, "cert"), filepath.Join(dir, "key")
		var logged strings.Builder
		log := slog.New(slog.NewTextHandler(&logged, nil))
		if _, err := newCertificate(publicPair, certFile, keyFile, log); err == nil || !strings.Contains(err.Error(), "TLS_CERT_FILE") {
			t.Errorf("no files: %v", err)
		}
		writePair(t, certFile, keyFile, 1)
		c, err := newCertificate(publicPair, certFile, keyFile, log)
		if err != nil {
			t.Fatal(err)
		}
		serves := func(serial int64) {
			t.Helper()
			if pair := c.get(); pair.Leaf.SerialNumber.Int64() != serial {
				t.Errorf("%v, want serial %d", pair.Leaf.SerialNumber, serial)
			}
		}
		serves(1)
		writePair(t, certFile, keyFile, 2)
		serves(1)               // not looked at again within a second
		time.Sleep(followCheck) // fake clock
		serves(2)
		write(t, keyFile, []byte("half written"))
		time.Sleep(followCheck) // fake clock
		serves(2)
		if !strings.Contains(logged.String(), "not usable") {
			t.Errorf("log: %s", logged.String())
		}
		writePair(t, certFile, keyFile, 3)
		time.Sleep(followCheck) // fake clock
		serves(3)
		if n := strings.Count(logged.String(), "the changed TLS certificate is in use"); n != 2 {
			t.Errorf("said %d times that a changed one is in use, want 2: %s", n, logged.String())
		}
		time.Sleep(2 * time.Hour) // fake clock
		if err := c.load(); err != nil || !strings.Contains(logged.String(), "has expired") {
			t.Errorf("%v, %s", err, logged.String())
		}
	})
}
