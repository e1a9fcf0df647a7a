package disk

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"ssegateway/internal/broker"
	"ssegateway/internal/journal"
	"ssegateway/internal/journal/journaltest"
	"ssegateway/internal/logging/loggingtest"
)

// TestSay: each change of what the upkeep has found is said once.
func TestSay(t *testing.T) {
	disk, log := journaltest.New(), new(loggingtest.Buffer)
	s, err := open(t.TempDir(), Options{MaxBytes: 1, MaxAge: time.Hour, Log: slog.New(slog.NewTextHandler(log, nil))}, env{segmentBytes: 1 << 20, Env: journal.Env{Wrap: disk.Wrap}})
	if err != nil {
		t.Fatal(err)
	}
	bad := errors.New("bad")
	said := s.say("", nil)
	said = s.say(s.say(said, bad), bad)
	disk.Fill(0)
	_, _ = s.Append(t.Context(), broker.Publication{Topics: []string{"t"}, Store: true}) // it is refused
	said = s.say(s.say(said, bad), bad)
	disk.Empty()
	said = s.say(said, s.upkeep())
	_ = s.say(s.say(said, bad), nil)
	var got string
	for line := range strings.Lines(log.String()) {
		_, line, _ = strings.Cut(line, "msg=")
		got += line
	}
	want := fmt.Sprintf("%q error=bad\n%q error=bad\n%q\n%q error=bad\n%q\n",
		saidGrows, saidAway, "the state directory can be written again", saidGrows, "what is old in the state directory can be removed again")
	if got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
