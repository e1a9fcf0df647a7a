package harness

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Metric returns the value of one sample of the gateway's /metrics, named as it stands there, labels included.
func (g *Gateway) Metric(t testing.TB, sample string) float64 {
	t.Helper()
	values := g.Metrics(t, func(name string) bool { return name == sample })
	value, ok := values[sample]
	if !ok {
		t.Fatalf("no metric %s", sample)
	}
	return value
}

// Metrics returns the values of the chosen samples of the gateway's /metrics, by their names, labels included. All are of the same scrape.
func (g *Gateway) Metrics(t testing.TB, chosen func(sample string) bool) map[string]float64 {
	t.Helper()
	status, text := g.Call(t, http.MethodGet, "/metrics", "")
	if status != http.StatusOK {
		t.Fatalf("/metrics answers %d", status)
	}
	values := map[string]float64{}
	for line := range strings.Lines(text) {
		space := strings.LastIndexByte(line, ' ')
		if space < 0 || line[0] == '#' || !chosen(line[:space]) {
			continue
		}
		value, err := strconv.ParseFloat(strings.TrimSpace(line[space:]), 64)
		if err != nil {
			t.Fatal(err)
		}
		values[line[:space]] = value
	}
	return values
}

// Connections returns all connections that the gateway lists, by token, with their states. Any goroutine may call it.
func (g *Gateway) Connections() (states map[string]string, err error) {
	states = map[string]string{}
	query := url.Values{"limit": {"1000"}}
	for {
		var page struct {
			Connections []struct{ Token, State string }
			NextCursor  string `json:"next_cursor"`
		}
		resp, err := g.client.Get(g.Endpoint.Scheme() + "://" + g.Endpoint.Addr + "/internal/connections?" + query.Encode())
		if err != nil {
			return nil, err
		}
		err = json.NewDecoder(resp.Body).Decode(&page)
		resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK {
			return nil, fmt.Errorf("the list of connections is answered %s: %w", resp.Status, err)
		}
		for _, c := range page.Connections {
			states[c.Token] = c.State
		}
		if page.NextCursor == "" {
			return states, nil
		}
		query.Set("cursor", page.NextCursor)
	}
}

// Memory returns a line of /proc/PID/status in bytes: VmRSS is what the process has in memory, VmHWM the most that it had.
func (p *Process) Memory(line string) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Pid()))
	if err != nil {
		return 0, err
	}
	_, rest, ok := strings.Cut(string(text), "\n"+line+":")
	if !ok {
		return 0, fmt.Errorf("no %s in /proc", line)
	}
	kilobytes, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
	return kilobytes << 10, err
}

// CPU returns the processor time that the process has used, to a hundredth of a second.
func (p *Process) CPU() (used time.Duration, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.Pid()))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(text), ") ")       // behind the name, which may have blanks
	for _, field := range strings.Fields(rest)[11:13] { // utime and stime
		ticks, err := strconv.Atoi(field)
		if err != nil {
			return 0, err
		}
		used += time.Duration(ticks) * 10 * time.Millisecond
	}
	return used, nil
}
