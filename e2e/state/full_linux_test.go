package state

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"ssegateway/e2e/harness"
)

// smallDisk returns a directory on a file system of its own, or why there is none.
func smallDisk(t *testing.T, size string) (dir string, err error) {
	t.Helper()
	dir = t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		return "", err
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	return dir, nil
}

// fill leaves no room on the disk of a directory. The function that it returns makes it again.
func fill(t *testing.T, dir string) (empty func()) {
	t.Helper()
	ballast := filepath.Join(dir, ".ballast") // hidden files are nobody's
	f, err := os.Create(ballast)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for chunk := make([]byte, 1<<20); len(chunk) > 0; {
		switch _, err := f.Write(chunk); {
		case errors.Is(err, syscall.ENOSPC):
			chunk = chunk[:len(chunk)/2]
		case err != nil:
			t.Fatal(err)
		}
	}
	return func() {
		if err := os.Remove(ballast); err != nil {
			t.Error(err)
		}
	}
}

// The disk is full. Publishing is refused, streams open without a record, and everything heals by itself.
func TestFullDisk(t *testing.T) {
	disk, err := smallDisk(t, "32m")
	if err != nil {
		t.Skipf("a small file system needs root: %v", err)
	}
	s := start(t, filepath.Join(disk, "state"))
	x := s.open("")
	first := s.publish("1")
	x.Wants("id: " + behind(t, first, -1) + "\n\n" + event(first, "1"))

	empty := fill(t, disk)
	large := publication(strings.Repeat("x", 10_000))
	if answer := s.becomes(http.StatusServiceUnavailable, http.MethodPost, "/internal/publish", large); !strings.Contains(answer, "BROKER_UNAVAILABLE") {
		t.Error(answer)
	}
	full := time.Now()
	if status, answer := s.call(http.MethodGet, "/readyz", ""); status != http.StatusOK {
		t.Errorf("/readyz is %d %s at once", status, answer)
	}
	y := s.open("")
	for s.Metric(s.t, "ssegateway_state_unrecorded_total") == 0 { // the last page of the file has room for some
		y.HangUp()
		s.Await(t, 1, "disconnect", of(y.token))
		y = s.open("")
	}
	if n, owed := s.Metric(s.t, "ssegateway_state_unrecorded_total"), s.Metric(s.t, "ssegateway_state_records_waiting"); n != 1 || owed != 1 {
		t.Errorf("%v streams are without a record, %v wait for one, want 1", n, owed)
	}
	z := s.open("")
	z.HangUp()
	s.Await(t, 1, "disconnect", of(z.token))
	s.Event(t, y.token, map[string]any{"data": "direct"})
	if got, err := y.Next(len("data: direct\n\n"), harness.Patience); err != nil || !strings.Contains(got, "id: ") {
		t.Errorf("the stream has %q, %v", got, err)
	}
	if answer := s.becomes(http.StatusServiceUnavailable, http.MethodGet, "/readyz", ""); !strings.Contains(answer, `"STATE_DIR cannot be written"`) {
		t.Error(answer)
	}
	unready := time.Since(full)
	if took := unready; took < 4*time.Second || took > 8*time.Second {
		t.Errorf("/readyz is 503 after %v", took)
	}
	if s.Metric(s.t, "ssegateway_state_writable") != 0 || s.Metric(s.t, "ssegateway_ready") != 0 {
		t.Error("the metrics show it as well")
	}

	empty()
	room := time.Now()
	s.becomes(http.StatusOK, http.MethodPost, "/internal/publish", publication("2"))
	s.becomes(http.StatusOK, http.MethodGet, "/readyz", "")
	for end := time.Now().Add(harness.Patience); s.Metric(s.t, "ssegateway_state_records_waiting") > 0; {
		if time.Now().After(end) {
			t.Fatal("a record still waits")
		}
		<-time.After(20 * time.Millisecond)
	}
	healed := time.Since(room)
	if s.Metric(s.t, "ssegateway_state_writable") != 1 {
		t.Error("the metrics do not show that it has healed")
	}
	s.Kill()
	s.restart()
	for _, token := range []string{x.token, y.token} {
		if end := s.told(token); end.Detail != "gateway_lost" {
			t.Errorf("told as %s %s", end.Reason, end.Detail)
		}
	}
	if calls := s.Backend.Calls(func(c *harness.Callback) bool { return c.Action == "disconnect" && c.Token == z.token }); len(calls) != 1 {
		t.Errorf("what ended while the disk was full is told %d times", len(calls))
	}
	harness.Figure(t, "STATE_DIR on a full disk: publishes refused with 503, streams open and get sends, /readyz is 503 after %v; whole again %v after there is room, and after a kill then each of 3 ends is told once",
		unready.Round(100*time.Millisecond), healed.Round(10*time.Millisecond))
}
