package disk

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"ssegateway/internal/broker"
	"ssegateway/sse"
)

// TestFullFileSystem: a real file system without room, and with room again. What was refused is not there.
func TestFullFileSystem(t *testing.T) {
	disk := t.TempDir()
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=256k"); err != nil {
		t.Skipf("a small file system needs root: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(disk, syscall.MNT_DETACH) })
	ballast := filepath.Join(disk, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 64<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(disk, "state")
	e := env{segmentBytes: 64 << 10}
	s, err := open(dir, plenty, e)
	if err != nil {
		t.Fatal(err)
	}
	p := broker.Publication{Topics: []string{"t"}, Event: sse.Event{Data: strings.Repeat("x", 3000)}, Store: true}
	for err == nil {
		_, err = s.Append(t.Context(), p)
	}
	if !errors.Is(err, broker.ErrUnavailable) || !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	before := imageOf(s.log)
	if s.upkeep() == nil {
		t.Fatal("there is no room")
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if err := s.upkeep(); err != nil {
		t.Fatal(err)
	}
	_ = s.dir.Close() // killed
	if s, err = open(dir, plenty, e); err != nil {
		t.Fatal(err)
	}
	if after := imageOf(s.log); after.Stats != before.Stats {
		t.Errorf("%+v, want %+v", after.Stats, before.Stats)
	}
	if _, err := s.Append(t.Context(), p); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
