// Package chromium drives a real browser in tests, by chromedp.
package chromium

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"ssegateway/e2e/harness"
)

// Browser is a headless Chromium.
type Browser struct {
	ctx  context.Context
	free func()
}

// Start runs a Chromium that keeps its files in dir. It is controlled through a pipe, so it
// listens on no port, and ends with this process at the latest.
func Start(dir string, options ...chromedp.ExecAllocatorOption) (*Browser, error) {
	path, err := find()
	if err != nil {
		return nil, err
	}
	allocator, free := chromedp.NewExecAllocator(context.Background(), slices.Concat(chromedp.DefaultExecAllocatorOptions[:],
		[]chromedp.ExecAllocatorOption{
			chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.UserDataDir(filepath.Join(dir, "profile")),
			chromedp.Env("HOME="+dir, "TMPDIR="+dir),
		}, options)...)
	ctx, kill := chromedp.NewContext(allocator)
	if err := chromedp.Do(ctx); err != nil {
		kill()
		free()
		return nil, fmt.Errorf("chromium does not start: %w", err)
	}
	return &Browser{ctx, free}, nil
}

// Stop ends the browser, and waits until it has exited.
func (b *Browser) Stop() error {
	defer b.free()
	limited, cancel := context.WithTimeout(b.ctx, harness.Patience)
	defer cancel()
	return chromedp.Cancel(limited)
}

func find() (string, error) {
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", errors.New("chromium is not installed, and these tests need it: run `make test-deps`")
}

// Tab is the chromedp context of a tab.
type Tab struct{ context.Context }

// Open opens a tab until the end of the test.
func (b *Browser) Open(t *testing.T, options ...chromedp.ContextOption) Tab {
	t.Helper()
	ctx, _ := chromedp.NewContext(b.ctx, options...)
	tab := Tab{ctx}
	t.Cleanup(func() { tab.Close(t) })
	// Not with Run: the tab lives as long as the context of its first action.
	if err := chromedp.Do(tab); err != nil {
		t.Fatal(err)
	}
	return tab
}

// Close closes the tab as its user does. On a busy machine Chromium may dispose of the tab's
// profile later than chromedp waits for that, which is nothing that a test is about.
func (tab Tab) Close(t *testing.T) {
	t.Helper()
	switch err := chromedp.Cancel(tab); {
	case errors.Is(err, context.DeadlineExceeded):
		t.Log(err)
	case err != nil:
		t.Error(err)
	}
}

// Run runs an action in a tab.
func Run[T any](t *testing.T, tab Tab, action chromedp.Action[T]) T {
	t.Helper()
	limited, cancel := context.WithTimeout(tab, harness.Patience)
	defer cancel()
	result, err := chromedp.Run(limited, action)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// Call calls a JavaScript function in a tab, with arguments encoded as JSON. It returns what
// the function, or the promise from it, returns.
func Call[T any](t *testing.T, tab Tab, function string, args ...any) T {
	t.Helper()
	return Run(t, tab, chromedp.Evaluate[T](invocation(t, function, args), chromedp.EvalAwaitPromise))
}

// Wait waits until a JavaScript function returns true. It calls it again whenever the
// document changes, not at animation frames, which tabs in the background do not have.
func Wait(t *testing.T, tab Tab, function string, args ...any) error {
	t.Helper()
	limited, cancel := context.WithTimeout(tab, 2*harness.Patience) // the tab's own timeout comes first
	defer cancel()
	for {
		_, err := chromedp.Run(limited, chromedp.Poll[bool](invocation(t, function, args),
			chromedp.WithPollingMutation(), chromedp.WithPollingTimeout(harness.Patience)))
		if limited.Err() != nil || !isReplaced(err) {
			return err
		}
	}
}

// isReplaced reports whether the document that was asked has made room for another one, which has to be asked anew.
func isReplaced(err error) bool {
	return err != nil && (strings.Contains(err.Error(), "Cannot find context with specified id") || strings.Contains(err.Error(), "Execution context was destroyed"))
}

// invocation returns the expression that calls a function. It exists because chromedp turns
// empty arguments into undefined.
func invocation(t *testing.T, function string, args []any) string {
	t.Helper()
	list, err := json.Marshal(append([]any{}, args...)) // [] instead of null if there are none
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("(%s)(...%s)", function, list)
}
