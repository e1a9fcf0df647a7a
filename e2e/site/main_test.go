package site

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/chromedp/chromedp"

	"ssegateway/e2e/harness"
	"ssegateway/e2e/harness/chromium"
)

var (
	keep = flag.Bool("keep", false, "test the site that is in dist/docs, and build it only where there is none")

	built, _ = filepath.Abs(filepath.Join("..", "..", "dist", "docs"))
	files    *httptest.Server // serves the site as any file server does
	browser  *chromium.Browser
)

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(harness.Main(m, prepare, cleanUp))
}

func prepare(dir string) (err error) {
	if err := build(); err != nil {
		return err
	}
	files = httptest.NewServer(http.FileServer(http.Dir(built)))
	// A name that leads out leads nowhere, so that a page that needs it shows it.
	browser, err = chromium.Start(dir, chromedp.Flag("host-resolver-rules", "MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"))
	return err
}

func build() error {
	if _, err := os.Stat(filepath.Join(built, "index.html")); err == nil && *keep {
		return nil
	}
	c := exec.CommandContext(context.Background(), "make", "docs")
	c.Dir = filepath.Join("..", "..")
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("make docs: %w\n%s", err, out)
	}
	return nil
}

func cleanUp() error {
	files.Close()
	return browser.Stop()
}
