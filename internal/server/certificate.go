package server

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"ssegateway/internal/logging"
)

// certificate is a key pair that follows its files: a handshake that finds them
// changed loads them anew. A pair that does not load leaves the former in use.
type certificate struct {
	certFile, keyFile string
	log               *slog.Logger
	unusable          *logging.Throttle

	pair atomic.Pointer[tls.Certificate]

	loading sync.Mutex     // held while the files are read; no handshake waits for it
	files   [2]os.FileInfo // as they were when the pair was loaded
	checked time.Time
}

// certificateCheck is the shortest time between two looks at the files.
const certificateCheck = time.Second

func newCertificate(certFile, keyFile string, log *slog.Logger) (*certificate, error) {
	c := &certificate{certFile: certFile, keyFile: keyFile, log: log, unusable: logging.Every(time.Minute)}
	err := c.reload()
	return c, err
}

// reload loads the pair, whether its files have changed or not.
func (c *certificate) reload() error {
	c.loading.Lock()
	defer c.loading.Unlock()
	return c.loadLocked(true)
}

// loadLocked loads the pair if its files have changed, or anyway.
func (c *certificate) loadLocked(anyway bool) error {
	c.checked = time.Now()
	var files [2]os.FileInfo
	for i, file := range []string{c.certFile, c.keyFile} {
		files[i], _ = os.Stat(file) // a missing file fails to load below
	}
	if !anyway && unchanged(files[0], c.files[0]) && unchanged(files[1], c.files[1]) {
		return nil
	}
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return fmt.Errorf("TLS_CERT_FILE and TLS_KEY_FILE: %w", err)
	}
	c.files = files
	before := c.pair.Swap(&pair)
	c.say(before != nil && !anyway)
	return nil
}

// say logs that a changed pair is in use, or that the pair is not valid now.
func (c *certificate) say(changed bool) {
	leaf := c.pair.Load().Leaf
	now := time.Now()
	switch {
	case leaf == nil:
	case now.After(leaf.NotAfter):
		c.log.Warn("the TLS certificate has expired, so browsers refuse it", "expired", leaf.NotAfter)
	case now.Before(leaf.NotBefore):
		c.log.Warn("the TLS certificate is not valid yet, so browsers refuse it", "valid_from", leaf.NotBefore)
	case changed:
		c.log.Info("the changed TLS certificate is in use", "expires", leaf.NotAfter)
	}
}

func unchanged(a, b os.FileInfo) bool {
	return a != nil && b != nil && os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}

func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if err := c.follow(); err != nil {
		c.unusable.Log(c.log, slog.LevelError, "the changed TLS certificate is not usable, the former stays in use", slog.String("error", err.Error()))
	}
	return c.pair.Load(), nil
}

// follow reloads changed files, unless another goroutine does so or just has.
func (c *certificate) follow() error {
	if !c.loading.TryLock() {
		return nil
	}
	defer c.loading.Unlock()
	if time.Since(c.checked) < certificateCheck {
		return nil
	}
	return c.loadLocked(false)
}

// expiry returns when the pair in use expires.
func (c *certificate) expiry() time.Time {
	if leaf := c.pair.Load().Leaf; leaf != nil {
		return leaf.NotAfter
	}
	return time.Time{}
}
