package harness

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// HAProxyConfig is deploy/haproxy.cfg.
func HAProxyConfig(t testing.TB) string {
	t.Helper()
	file, err := os.ReadFile(filepath.Join("..", "..", "deploy", "haproxy.cfg"))
	if err != nil {
		t.Fatal(err)
	}
	return string(file)
}

// StartShippedHAProxy runs HAProxy until the end of the test with deploy/haproxy.cfg, in
// which it replaces only the ports. HAProxy is ready when the application answers /healthz through it.
func StartShippedHAProxy(t testing.TB, gatewayPort, applicationPort int) Endpoint {
	t.Helper()
	path, err := findHAProxy()
	if err != nil {
		t.Fatal(err)
	}
	config := HAProxyConfig(t)
	replace := func(old, by string) {
		t.Helper()
		if n := strings.Count(config, old); n != 1 {
			t.Fatalf("deploy/haproxy.cfg has %d times %q, want once", n, old)
		}
		config = strings.Replace(config, old, by, 1)
	}
	replace("127.0.0.1:3000", fmt.Sprintf("127.0.0.1:%d", gatewayPort))
	replace("127.0.0.1:8000", fmt.Sprintf("127.0.0.1:%d", applicationPort))
	port, err := FreePort()
	if err != nil {
		t.Fatal(err)
	}
	replace("bind :80", fmt.Sprintf("bind 127.0.0.1:%d", port))
	file := filepath.Join(t.TempDir(), "haproxy.cfg")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := Run(Command{Args: []string{path, "-db", "-f", file}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			t.Logf("log of HAProxy:\n%s", p.Log.Text())
		}
	})
	e := Local(port, nil)
	if err := p.awaitHealth(e); err != nil {
		t.Fatalf("HAProxy: %v\n%s", err, p.Log.Text())
	}
	return e
}

func findHAProxy() (string, error) {
	for _, name := range []string{"haproxy", "/usr/sbin/haproxy", "/usr/local/sbin/haproxy"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", errors.New("haproxy is not installed, and these tests need it: run `make test-deps`")
}
