package server

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// certificate is a key pair that follows its files: a handshake that finds them
// changed loads them anew. A pair that does not load leaves the former in use.
type certificate struct {
	certFile, keyFile string
	log               *slog.Logger

	mu      sync.Mutex
	pair    *tls.Certificate
	files   [2]os.FileInfo // as they were when the pair was loaded
	checked time.Time
}

// certificateCheck is the shortest time between two looks at the files.
const certificateCheck = time.Second

func newCertificate(certFile, keyFile string, log *slog.Logger) (*certificate, error) {
	c := &certificate{certFile: certFile, keyFile: keyFile, log: log}
	err := c.loadLocked()
	return c, err
}

func (c *certificate) loadLocked() error {
	c.checked = time.Now()
	var files [2]os.FileInfo
	for i, file := range []string{c.certFile, c.keyFile} {
		files[i], _ = os.Stat(file) // what is missing fails to load, below
	}
	if unchanged(files[0], c.files[0]) && unchanged(files[1], c.files[1]) {
		return nil
	}
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return fmt.Errorf("TLS_CERT_FILE and TLS_KEY_FILE: %w", err)
	}
	c.pair, c.files = &pair, files
	return nil
}

func unchanged(a, b os.FileInfo) bool {
	return a != nil && b != nil && os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}

func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.checked) >= certificateCheck {
		if err := c.loadLocked(); err != nil {
			c.log.Error("the changed TLS certificate is not usable, the former stays in use", "error", err.Error())
		}
	}
	return c.pair, nil
}
