package load

import (
	"bytes"
	"encoding/json"
	"math"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"ssegateway/bench"
	"ssegateway/e2e/harness"
)

// Sends, publishes, heartbeats, and streams that leave and come back, for as long as it takes to
// see memory grow. No event is lost, doubled, torn, out of order or another stream's, each
// disconnect is told once, and memory stays flat.
func TestSoak(t *testing.T) {
	const bound = 5 // percent
	heartbeat := "1"
	if *strict { // as it is by default
		heartbeat = "15"
	}
	cmd := exec.CommandContext(t.Context(), *program, "bench", "mixed", "--json", "--heartbeat-interval-seconds", heartbeat,
		"--streams", strconv.Itoa(*streams), "--duration", duration.String())
	var out, messages bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &messages
	if err := cmd.Run(); err != nil {
		t.Errorf("%v\n%s", err, messages.Bytes())
	}
	var report bench.Report
	if err := json.Unmarshal(out.Bytes(), &report); err != nil || len(report.Results) != 1 {
		t.Fatalf("%v\n%s", err, out.Bytes())
	}
	result := report.Results[0]
	check := result.Check
	if check != (bench.Check{Events: check.Events}) || check.Events < int64(*streams) {
		t.Errorf("%+v", check)
	}
	least, most := int64(math.MaxInt64), int64(0)
	for _, s := range result.Memory {
		if s.Seconds >= flat.Seconds() {
			least, most = min(least, s.RSS), max(most, s.RSS)
		}
	}
	if most == 0 {
		t.Fatalf("no look at the memory after %v", *flat)
	}
	spread := 100 * float64(most-least) / float64(most+least) // from the middle of both
	value := func(name string) (v float64) {
		for _, f := range result.Figures {
			if f.Name == name {
				return f.Value
			}
		}
		t.Errorf("bench reports no %q: %+v", name, result.Figures)
		return 0
	}
	reopened := value("streams reopened") * duration.Seconds()
	harness.Figure(t, "%d streams for %v, %.0f of them reopened: %d events checked, %d lost, doubled, torn, out of order or another stream's; resident memory %.1f to %.1f MB, ±%.1f %% from %v on (bound ±%d %%)",
		*streams, *duration, reopened, check.Events, check.Lost+check.Doubled+check.Torn+check.Reordered+check.Misdelivered,
		float64(least)/1e6, float64(most)/1e6, spread, *flat, bound)
	t.Logf("%s", strings.TrimSpace(messages.String()))
	if reopened == 0 || value("beats") == 0 && *duration > 2*time.Second {
		t.Error("no stream was reopened, or no heartbeat came")
	}
	if *strict && spread > bound {
		t.Errorf("memory is not flat: %+v", result.Memory)
	}
}
