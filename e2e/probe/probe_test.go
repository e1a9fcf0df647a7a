package probe

import (
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"ssegateway/e2e/harness"
	"ssegateway/internal/probe"
)

var (
	binary string // the gateway
	cert   *harness.Certificate

	all    = flag.Bool("all", false, "every spoilt configuration, not only the first of each kind")
	update = flag.Bool("update", false, "write the table in docs/probe.md")
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m, prepare)) }

func prepare(dir string) (err error) {
	if f := flag.Lookup("test.parallel"); f.Value.String() == f.DefValue {
		_ = f.Value.Set("32") // these tests wait most of the time
	}
	binary, cert, err = harness.BuildWithCertificate(dir)
	return err
}

var notPlain = regexp.MustCompile(`[^a-zA-Z0-9 _-]+`)

// adviceNames are the proxies' names in the advice.
var adviceNames = map[string]string{"nginx": "nginx", "nginx-cluster": "nginx", "haproxy": "HAProxy", "caddy": "Caddy", "apache": "Apache", "traefik": "Traefik"}

// Through the configurations in deploy/ nothing is found. When one line is spoilt, the fault is found and the line named.
func TestProxies(t *testing.T) {
	gateways := map[string]*harness.Gateway{} // by their heartbeat
	for _, beats := range []string{"", "1"} {
		gateways[beats] = harness.StartGateway(t, binary, nil, "HEARTBEAT_INTERVAL_SECONDS="+cmp.Or(beats, "3600"))
		gateways[beats].Backend.On("probe", harness.Script{Connect: func(*harness.Callback) harness.Answer {
			return harness.Answer{Body: `{"topics":["room.7"]}`}
		}})
	}
	seen := map[probe.ID]bool{}
	for i, p := range paths {
		if !slices.Contains(harness.Fronts(), strings.TrimSuffix(p.proxy, "-cluster")) {
			continue // no part of the run, as for the other tests of proxies
		}
		if p.spoilt != "" && !*all {
			if len(p.want) == 0 || seen[p.want[0]] {
				continue
			}
			seen[p.want[0]] = true
		}
		name := p.proxy + " " + p.spoilt
		if p.tls {
			name += "TLS"
		}
		name = strings.TrimSpace(notPlain.ReplaceAllString(name, " ")) // HAProxy reads the directory's name, too
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			report, code := p.run(t, gateways[p.beats], fmt.Sprintf("/events/probe-%d", i))
			var got []probe.ID
			for _, f := range report.Findings {
				got = append(got, f.ID)
				t.Logf("%s: %s", f.ID, f.Detail)
			}
			if !slices.Equal(got, p.want) {
				t.Errorf("found %v, want %v; %v", got, p.want, report.Measured)
			}
			if want := min(1, len(p.want)); code != want {
				t.Errorf("exit code %d, want %d", code, want)
			}
			if len(p.want) == 0 {
				return
			}
			named := slices.ContainsFunc(report.Findings, func(f probe.Finding) bool {
				return slices.ContainsFunc(f.Settings, func(s probe.Setting) bool {
					return s.Proxy == adviceNames[p.proxy] && strings.Contains(s.Text, p.names)
				})
			})
			if !named {
				t.Errorf("no setting of %s names %q", adviceNames[p.proxy], p.names)
			}
		})
	}
}

// run runs the proxy, and the probe of a stream behind it.
func (p path) run(t *testing.T, gw *harness.Gateway, stream string) (report probe.Report, code int) {
	t.Helper()
	application := gw.Port
	if !p.all {
		server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
		t.Cleanup(server.Close)
		_, port, _ := strings.Cut(server.Listener.Addr().String(), ":")
		application, _ = strconv.Atoi(port)
	}
	scheme, secured := "http", (*harness.Certificate)(nil)
	if p.tls {
		scheme, secured = "https", cert
	}
	front := harness.StartFront(t, p.proxy, secured, gw.Port, application, p.change...)
	args := []string{"probe", scheme + "://" + front.Endpoint.Addr + stream, "--json", "--for", cmp.Or(p.hold, "4s"), "--header", harness.KeyHeader + ": probe"}
	if p.bodies {
		args = append(args, "--bodies")
	}
	out, errs, code := command(t, []string{"PORT=" + strconv.Itoa(gw.Port), "SSL_CERT_FILE=" + cert.CertFile}, args...)
	if code > 1 || json.Unmarshal([]byte(out), &report) != nil {
		t.Fatalf("exit code %d, %s%s", code, out, errs)
	}
	return report, code
}

// command runs the program with these settings.
func command(t *testing.T, settings []string, args ...string) (out, errs string, code int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), binary, args...)
	cmd.Env = append([]string{harness.ExitSoon}, settings...)
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()
}

// What cannot be probed is exit code 2, with the reason. A path without faults is one line.
func TestExitCodes(t *testing.T) {
	t.Parallel()
	gw := harness.StartGateway(t, binary, nil)
	gw.Backend.On("refused", harness.Script{Connect: func(*harness.Callback) harness.Answer { return harness.Answer{Status: 403} }})
	front := harness.StartFront(t, "haproxy", nil, gw.Port, gw.Port)
	secured := harness.StartGateway(t, binary, nil, "INTERNAL_TOKEN=a-token-that-the-probe-does-not-have")
	settings := []string{"PORT=" + strconv.Itoa(gw.Port)}
	url := "http://" + front.Endpoint.Addr + "/events/probe"
	for _, c := range []struct {
		args []string
		says string
	}{
		{[]string{"ftp://127.0.0.1/"}, "http://"},
		{[]string{"http://user:secret@127.0.0.1/"}, "user"},
		{[]string{url, "--header", "no colon"}, "--header"},
		{[]string{url, "--header", harness.KeyHeader + ": refused"}, "403"},
		{[]string{"http://127.0.0.1:1/events/"}, "cannot connect"},
		{nil, "one URL"},
		{[]string{url, "--for", "soon"}, "--for"},
		{[]string{url, "--nope"}, "--nope"},
		{[]string{"http://127.0.0.1:" + strconv.Itoa(secured.Port) + "/events/probe", "--port", strconv.Itoa(secured.Port)}, "--internal-token"},
		{[]string{url, "--internal-addr", "127.0.0.1:1"}, "cannot reach the gateway"},
	} {
		out, errs, code := command(t, settings, append([]string{"probe"}, c.args...)...)
		if code != 2 || out != "" || !strings.Contains(errs, c.says) || strings.Contains(errs, "secret") {
			t.Errorf("%q: exit code %d, %q, %q, want 2 and %q", c.args, code, out, errs, c.says)
		}
	}
	for _, url := range []string{url, "http://127.0.0.1:" + strconv.Itoa(gw.Port) + "/events/probe"} { // the second is the gateway's own
		out, errs, code := command(t, settings, "probe", url, "--for", "1s")
		if code != 0 || strings.Count(out, "\n") != 1 || !strings.HasPrefix(out, "ok ") || errs != "" {
			t.Errorf("%s: exit code %d, %q, %q, want one line", url, code, out, errs)
		}
	}
}

// docs/probe.md has the table of the paths that are tested here.
func TestPage(t *testing.T) {
	var table strings.Builder
	table.WriteString("| configuration | changed | found |\n| --- | --- | --- |\n")
	for _, p := range paths {
		changed, found := p.spoilt, "nothing"
		switch {
		case p.proxy == "nginx-cluster":
			changed = "nothing, three nodes"
		case changed == "" && p.tls:
			changed = "nothing, HTTP/2"
		case changed == "":
			changed = "nothing"
		}
		if len(p.want) > 0 {
			found = ""
			for _, id := range p.want {
				found += ", `" + string(id) + "`"
			}
			found = found[2:]
		}
		fmt.Fprintf(&table, "| %s | %s | %s |\n", adviceNames[p.proxy], changed, found)
	}
	harness.KeepPage(t, "../../docs/probe.md", "<!-- paths: go test ./e2e/probe -run TestPage -update -->\n\n", "\n<!-- end of paths -->", table.String(), *update)
}
