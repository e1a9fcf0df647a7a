package process

import (
	"os/exec"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"ssegateway/e2e/harness"
)

// command runs the program with these settings, and returns its output and whether it succeeded.
func command(settings []string, args ...string) (string, bool) {
	cmd := exec.Command(binary, args...)
	cmd.Env = append([]string{harness.ExitSoon}, settings...)
	out, err := cmd.CombinedOutput()
	return string(out), err == nil
}

// `ssegateway health` asks the gateway with the same settings, over TLS too.
func TestHealth(t *testing.T) {
	port, err := harness.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	if out, ok := command([]string{"PORT=" + strconv.Itoa(port)}, "health"); ok || !strings.Contains(out, "cannot reach the gateway at http://127.0.0.1:") {
		t.Errorf("without a gateway: %t, %s", ok, out)
	}
	if out, ok := command([]string{"PORT=x"}, "health"); ok || !strings.Contains(out, "PORT") {
		t.Errorf("with a setting that is wrong: %t, %s", ok, out)
	}
	certificate, err := harness.NewCertificate(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []*harness.Certificate{nil, certificate} {
		g := harness.StartGateway(t, binary, c)
		settings := []string{"PORT=" + strconv.Itoa(g.Port)}
		if c != nil {
			settings = append(settings, "TLS_CERT_FILE="+c.CertFile, "TLS_KEY_FILE="+c.KeyFile)
		}
		for _, args := range [][]string{{"health"}, {"health", "--ready"}} {
			if out, ok := command(settings, args...); !ok {
				t.Errorf("%q, TLS %t: %s", args, c != nil, out)
			}
		}
	}
	g := start(t, nil, "CALLBACK_URL=")
	settings := []string{"PORT=" + g.url[strings.LastIndexByte(g.url, ':')+1:]}
	if out, ok := command(settings, "health"); !ok {
		t.Errorf("alive: %s", out)
	}
	if out, ok := command(settings, "health", "--ready"); ok || !strings.Contains(out, "503") || !strings.Contains(out, "CALLBACK_URL") {
		t.Errorf("not ready: %t, %s", ok, out)
	}
}

// `ssegateway version` names version, commit and Go in one line, and its help has no other flags.
func TestVersion(t *testing.T) {
	out, ok := command(nil, "version")
	if want := regexp.MustCompile(`^ssegateway \S+, commit \S+, ` + regexp.QuoteMeta(runtime.Version()) + ` linux/` + runtime.GOARCH + `\n$`); !ok || !want.MatchString(out) {
		t.Errorf("%t, %q", ok, out)
	}
	if out, ok := command(nil, "version", "--help"); !ok || strings.Contains(out, "--port") {
		t.Errorf("%t, %s", ok, out)
	}
}
