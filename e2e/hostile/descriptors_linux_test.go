package hostile

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"

	"ssegateway/e2e/harness"
)

// Whatever the limit on open files, and the settings that use up descriptors, as many streams
// open as the gateway logs at its start. One more is refused, and health checks and sends are
// still answered.
func TestDescriptors(t *testing.T) {
	for _, test := range []struct {
		files    int
		settings []string
		least    int // streams
	}{
		{files: 256, least: 100},
		{files: 512, least: 300},
		{files: 768, least: 450},
		{files: 1024, least: 700},
		{files: 1024, settings: []string{"MAX_CONNECTIONS=900"}, least: 800},
		{files: 1024, settings: []string{"CALLBACK_CONCURRENCY=256"}, least: 300},
		{files: 512, settings: []string{"MAX_CONNECTIONS=50", "CALLBACK_CONCURRENCY=100"}, least: 50},
	} {
		t.Run(fmt.Sprint(test.files, test.settings), func(t *testing.T) {
			limited := limitedTo(t, test.files)
			internal, err := harness.FreePort()
			if err != nil {
				t.Fatal(err)
			}
			g := harness.StartGateway(t, limited, nil, append(test.settings, "LOG_LEVEL=info", fmt.Sprintf("INTERNAL_ADDR=127.0.0.1:%d", internal), "INTERNAL_TOKEN="+token)...)
			v := &visitor{t: t, g: g, internal: fmt.Sprintf("127.0.0.1:%d", internal)}
			v.client = g.Endpoint.Client()
			defer v.client.CloseIdleConnections()
			line, ok := g.Log.Find(harness.Patience, regexp.MustCompile(`descriptors limit=`))
			if !ok {
				t.Fatal("the log has no line with descriptors")
			}
			streams, err := strconv.Atoi(regexp.MustCompile(`streams=(\d+)`).FindStringSubmatch(line)[1])
			if err != nil || streams < test.least {
				t.Fatalf("%s: %v", line, err)
			}
			if limit := regexp.MustCompile(`MAX_CONNECTIONS=(\d+)`).FindStringSubmatch(fmt.Sprint(test.settings)); limit != nil {
				if most, _ := strconv.Atoi(limit[1]); most < streams {
					streams = most
				}
			}
			v.stream()
			for range streams - 1 {
				x, err := v.begin()
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(x.HangUp)
			}
			for range 20 {
				for what, f := range map[string]func() error{"health": v.health, "send": v.send} {
					if err := f(); err != nil {
						t.Errorf("%s beside %d streams: %v", what, streams, err)
					}
				}
			}
			x, err := g.Endpoint.Do(context.Background(), harness.Request{Target: "/one/more"})
			if err != nil {
				t.Fatal(err)
			}
			defer x.HangUp()
			if head, err := x.Head(harness.Patience); err != nil || head.Status != http.StatusServiceUnavailable {
				t.Errorf("one more than %d streams was answered %v, %v, want 503", streams, head, err)
			}
		})
	}
}

// limitedTo returns a command that runs the gateway with a limit on its open files.
func limitedTo(t *testing.T, files int) string {
	script := filepath.Join(t.TempDir(), "limited")
	if err := os.WriteFile(script, fmt.Appendf(nil, "#!/bin/sh\nulimit -n %d && exec %s \"$@\"\n", files, program), 0o700); err != nil {
		t.Fatal(err)
	}
	return script
}
