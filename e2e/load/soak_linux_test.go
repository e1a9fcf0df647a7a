package load

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"slices"
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
	means, spread := flatness(result.Memory, flat.Seconds(), duration.Seconds())
	looked := slices.ContainsFunc(result.Memory, func(s bench.Sample) bool { return s.Seconds >= flat.Seconds() })
	if !looked || *strict && len(means) == 0 { // in two seconds of a busy machine a quarter may have no look
		t.Fatalf("no look at the memory after %v, or none in a quarter of that time", *flat)
	}
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
	harness.Figure(t, "%d streams for %v, %.0f of them reopened: %d events checked, %d lost, doubled, torn, out of order or another stream's; mean resident memory of four equal times from %v on: %.1f MB, ±%.1f %% (bound ±%d %%)",
		*streams, *duration, reopened, check.Events, check.Lost+check.Doubled+check.Torn+check.Reordered+check.Misdelivered,
		*flat, means, spread, bound)
	t.Logf("%s", strings.TrimSpace(messages.String()))
	if reopened == 0 || value("beats") == 0 && *duration > 2*time.Second {
		t.Error("no stream was reopened, or no heartbeat came")
	}
	if *strict && spread > bound {
		t.Errorf("memory is not flat: %+v", result.Memory)
	}
}

// flatness divides the time between from and to, in seconds, into four equal parts. It returns the mean resident memory of each in
// MB, and by how many percent the means are at most away from the middle of the least and the most of them. A single
// look tells little: the memory of a program with a garbage collector rises and falls with each collection. There are no
// means if there was no look in one of the parts.
func flatness(looks []bench.Sample, from, to float64) (means []float64, spread float64) {
	const parts = 4
	sum, n := [parts]float64{}, [parts]float64{}
	for _, s := range looks {
		if part := int(parts * (s.Seconds - from) / (to - from)); s.Seconds >= from && part < parts {
			sum[part] += float64(s.RSS) / 1e6
			n[part]++
		}
	}
	for part := range parts {
		if n[part] == 0 {
			return nil, 0
		}
		means = append(means, sum[part]/n[part])
	}
	least, most := slices.Min(means), slices.Max(means)
	return means, 100 * (most - least) / (most + least)
}

// Memory that rises and falls is flat; memory that also grows is not.
func TestFlatness(t *testing.T) {
	var saw, grows []bench.Sample
	for i := range 400 {
		rss := int64(50e6 + 1e6*(i%40))
		saw = append(saw, bench.Sample{Seconds: float64(i), RSS: rss})
		grows = append(grows, bench.Sample{Seconds: float64(i), RSS: rss + int64(50e3*i)})
	}
	if means, spread := flatness(saw, 80, 400); spread > 1 || len(means) != 4 || means[0] != 69.5 {
		t.Errorf("%v, ±%.1f %%", means, spread)
	}
	if means, spread := flatness(grows, 80, 400); spread < 5 {
		t.Errorf("%v, ±%.1f %%", means, spread)
	}
	if means, _ := flatness(saw[:300], 80, 400); means != nil {
		t.Errorf("%v of a time without a look", means)
	}
}
