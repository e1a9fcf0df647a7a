package monitoring

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"ssegateway/e2e/harness"
)

var (
	binary string // the gateway
	cert   *harness.Certificate
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m, prepare)) }

func prepare(dir string) (err error) {
	binary, cert, err = harness.BuildWithCertificate(dir)
	return err
}

// deployed returns the path of a file in deploy/.
func deployed(name ...string) string {
	return filepath.Join(append([]string{"..", "..", "deploy"}, name...)...)
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Each rule is correct, fires on the input that it is for, and does not on a gateway that is well.
func TestAlerts(t *testing.T) {
	for _, args := range [][]string{{"check", "rules", "alerts.yaml"}, {"test", "rules", "alerts_test.yaml"}} {
		c := exec.CommandContext(t.Context(), "promtool", args...)
		c.Dir = deployed("prometheus")
		if out, err := c.CombinedOutput(); err != nil {
			t.Errorf("promtool %v: %v\n%s", args, err, out)
		}
	}
}

// Each alert has a test and a section of the runbook, to which it leads, and each section an alert.
func TestRunbook(t *testing.T) {
	names := func(pattern, text string) (found []string) {
		for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
			found = append(found, m[1])
		}
		return found
	}
	rules := read(t, deployed("prometheus", "alerts.yaml"))
	alerts := names(`(?m)^ +- alert: (\w+)$`, rules)
	if len(alerts) == 0 {
		t.Fatal("no alerts")
	}
	if sections := names(`(?m)^## (SSEGateway\w+)$`, read(t, filepath.Join("..", "..", "docs", "runbook.md"))); !slices.Equal(sections, alerts) {
		t.Errorf("the runbook has sections %v, the alerts are %v", sections, alerts)
	}
	var anchors []string
	for _, a := range alerts {
		anchors = append(anchors, strings.ToLower(a))
	}
	if lead := names(`runbook: docs/runbook.md#(\w+)`, rules); !slices.Equal(lead, anchors) {
		t.Errorf("the alerts lead to %v, want %v", lead, anchors)
	}
	if tested := names(`(?m)^  - name: (SSEGateway\w+)$`, read(t, deployed("prometheus", "alerts_test.yaml"))); !slices.Equal(tested, alerts) {
		t.Errorf("tests of %v, the alerts are %v", tested, alerts)
	}
}

// Each expression of the dashboard and of the alerts is evaluated on data of a real run. Those of
// the dashboard have a result, and each metric of an alert exists.
func TestExpressions(t *testing.T) {
	gw := startGateway(t)
	alone := harness.StartGateway(t, binary, cert, "STATE_DIR="+t.TempDir()) // has other metrics than one with NATS
	p := startPrometheus(t, gw, alone)
	for _, e := range expressions(t) {
		if n := p.query(t, e); n == 0 {
			t.Errorf("no result of %s", e)
		}
	}
	metric := regexp.MustCompile(`\b(?:ssegateway|process|go)_\w+`)
	for _, name := range metric.FindAllString(read(t, deployed("prometheus", "alerts.yaml")), -1) {
		if n := p.query(t, name); n == 0 {
			t.Errorf("an alert is about %s, which is not there", name)
		}
	}
}

// startGateway runs a gateway on NATS with TLS, so that it has all metrics, and makes it some traffic.
func startGateway(t *testing.T) *harness.Gateway {
	t.Helper()
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true, JetStream: true, StoreDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(harness.Patience) {
		t.Fatal("the NATS server is not ready")
	}
	gw := harness.StartGateway(t, binary, cert, "NATS_URL="+s.ClientURL())
	gw.Backend.On("", harness.Script{Connect: func(*harness.Callback) harness.Answer {
		return harness.Answer{Status: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}}, Body: `{"topics":["news"]}`}
	}})
	awaitReady(t, gw)
	for i := range 3 {
		x, err := gw.Endpoint.Do(t.Context(), harness.Request{Target: "/events"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := x.Head(harness.Patience); err != nil { // until then a send is only buffered
			t.Fatal(err)
		}
		token := gw.Await(t, i+1, "connect", func(*harness.Callback) bool { return true })[i].Token
		gw.Event(t, token, map[string]any{"data": "x"})
		gw.Publish(t, "news", map[string]any{"data": "y"})
		x.HangUp()
		gw.Await(t, i+1, "disconnect", func(*harness.Callback) bool { return true })
	}
	return gw
}

// awaitReady waits until the log is open: before that, clients are told to come back.
func awaitReady(t *testing.T, gw *harness.Gateway) {
	t.Helper()
	client := gw.Endpoint.Client()
	defer client.CloseIdleConnections()
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for deadline := time.Now().Add(harness.Patience); ; <-poll.C {
		resp, err := client.Get(gw.Endpoint.Scheme() + "://" + gw.Endpoint.Addr + "/readyz")
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("/readyz answers %d", resp.StatusCode)
		}
	}
}

// prometheus is a running one.
type prometheus struct{ url string }

// startPrometheus has a Prometheus scrape the gateways, and waits until it has enough for rates.
func startPrometheus(t *testing.T, gateways ...*harness.Gateway) prometheus {
	t.Helper()
	var targets []string
	for _, gw := range gateways {
		targets = append(targets, strconv.Quote(gw.Endpoint.Addr))
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "prometheus.yaml")
	config := fmt.Sprintf(`
global: { scrape_interval: 1s, scrape_timeout: 1s }
scrape_configs:
  - job_name: ssegateway
    scheme: https
    tls_config: { ca_file: %s, server_name: localhost }
    static_configs: [{ targets: [%s] }]
`, cert.CertFile, strings.Join(targets, ", "))
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	port, err := harness.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	p := prometheus{fmt.Sprintf("http://127.0.0.1:%d", port)}
	process, err := harness.Run(harness.Command{Args: []string{
		"prometheus", "--config.file=" + file, "--storage.tsdb.path=" + filepath.Join(dir, "data"), fmt.Sprintf("--web.listen-address=127.0.0.1:%d", port),
	}})
	if err != nil {
		t.Fatalf("%v: run `make test-deps`", err)
	}
	t.Cleanup(func() {
		if _, err := process.Stop(harness.Patience); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("log of Prometheus:\n%s", process.Log.Text())
		}
	})
	poll := time.NewTicker(100 * time.Millisecond)
	defer poll.Stop()
	for deadline := time.Now().Add(2 * harness.Patience); p.query(t, `count_over_time(ssegateway_ready[1m]) >= 3`) < len(gateways); <-poll.C {
		if time.Now().After(deadline) {
			t.Fatal("Prometheus has no data")
		}
	}
	return p
}

// query returns how many results an expression has. It is 0 while Prometheus does not answer.
func (p prometheus) query(t *testing.T, expression string) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), harness.Patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url+"/api/v1/query?query="+url.QueryEscape(expression), nil)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DisableKeepAlives: true}
	resp, err := transport.RoundTrip(r)
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusServiceUnavailable { // it starts
		return 0
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var answer struct {
		Status string
		Data   struct{ Result []any }
	}
	if err := json.Unmarshal(body, &answer); err != nil || answer.Status != "success" {
		t.Fatalf("%s: %s (%v)", expression, body, err)
	}
	return len(answer.Data.Result)
}

// expressions returns those of the dashboard, with its variables filled in.
func expressions(t *testing.T) (all []string) {
	t.Helper()
	var dashboard struct {
		Panels []struct {
			Title, Description, Type string
			Targets                  []struct{ Expr string }
		}
	}
	if err := json.Unmarshal([]byte(read(t, deployed("grafana", "dashboard.json"))), &dashboard); err != nil {
		t.Fatal(err)
	}
	fill := strings.NewReplacer("$job", ".*", "$instance", ".*", "$__rate_interval", "1m")
	for _, p := range dashboard.Panels {
		if p.Type != "row" && (p.Description == "" || len(p.Targets) == 0) {
			t.Errorf("panel %q has no description, or no expression", p.Title)
		}
		for _, target := range p.Targets {
			all = append(all, fill.Replace(target.Expr))
		}
	}
	if len(all) == 0 {
		t.Fatal("the dashboard has no expressions")
	}
	return all
}
