package nats

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// smallDisk returns a directory on a file system of so many bytes.
func smallDisk(t *testing.T, bytes string) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+bytes); err != nil {
		t.Skipf("a small file system needs root: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	return dir
}

// A file system without room: NATS answers nothing, until it is restarted with room. Only
// the first event waits for that.
func TestLogOnFullDisk(t *testing.T) {
	t.Parallel()
	dir := smallDisk(t, "24m")
	options := server.Options{Port: -1, StoreDir: filepath.Join(dir, "nats"), JetStreamMaxStore: 1 << 30}
	s := serve(t, options)
	relay := newRelay(t, s)
	e := mustEngine(t, at(relay.url()))
	runEngine(t, e)
	append1(t, e, "1")

	ballast := filepath.Join(dir, "ballast")
	f, err := os.Create(ballast)
	if err != nil {
		t.Fatal(err)
	}
	for chunk := make([]byte, 1<<16); err == nil && len(chunk) > 0; {
		if _, err = f.Write(chunk); err != nil {
			chunk, err = chunk[:len(chunk)/2], nil
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(patience); e.Stuck() == nil; {
		publishLarge(t, e)
		if time.Now().After(end) {
			t.Fatal("not stuck")
		}
	}
	refusedAtOnce(t, e)

	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	s.Shutdown()
	s.WaitForShutdown()
	relay.to(serve(t, options))
	append1(t, e, "2")
}
