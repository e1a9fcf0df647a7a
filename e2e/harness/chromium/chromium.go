// Package chromium runs a Chromium for tests.
package chromium

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"

	"github.com/chromedp/chromedp"
)

// Start runs a headless Chromium that keeps everything in dir and is talked to through
// a pipe. Contexts that are made from the one returned are tabs of it; stop ends it and
// waits for that.
func Start(dir string) (browser context.Context, stop func(), err error) {
	path, err := find()
	if err != nil {
		return nil, nil, err
	}
	var output bytes.Buffer
	options := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]),
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.UserDataDir(dir), chromedp.CombinedOutput(&output))
	allocator, free := chromedp.NewExecAllocator(context.Background(), options...)
	browser, closeBrowser := chromedp.NewContext(allocator)
	stop = func() {
		closeBrowser()
		free()
	}
	if err := chromedp.Do(browser); err != nil {
		stop()
		return nil, nil, fmt.Errorf("chromium does not start: %w\n%s", err, output.String())
	}
	return browser, stop, nil
}

func find() (string, error) {
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", errors.New("no chromium is installed, and these tests need a real browser: install chromium, or run `make test-deps`")
}
