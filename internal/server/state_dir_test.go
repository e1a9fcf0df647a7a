package server

import (
	"log/slog"
	"testing"

	"ssegateway/internal/config"
)

// TestNewFails: where New fails the directory is free again, as after a clean stop.
func TestNewFails(t *testing.T) {
	cfg, _, err := config.Load(nil, []string{"CALLBACK_URL=http://backend/", "STATE_DIR=" + t.TempDir()}, 0)
	if err != nil {
		t.Fatal(err)
	}
	bad := cfg
	bad.CallbackURL = "no URL"
	for range 2 {
		if _, err := New(bad, "test", slog.New(slog.DiscardHandler)); err == nil || err.Error() != "callback: the URL must begin with http:// or https://" {
			t.Error(err)
		}
	}
	s, err := New(cfg, "test", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	s.closeBroker()
}
