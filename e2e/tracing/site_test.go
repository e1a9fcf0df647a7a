package tracing

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	"ssegateway/e2e/harness"
)

var (
	binary string // the gateway
	cert   *harness.Certificate
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "tracing")
	if err == nil {
		defer func() { _ = os.RemoveAll(dir) }()
		binary, err = harness.Build(dir)
	}
	if err == nil {
		cert, err = harness.NewCertificate(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// call sends a request to a gateway with these header fields, name before value, and returns the answer.
func call(t *testing.T, client *http.Client, method, url, body string, header ...string) (status int, answer string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	content, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	return resp.StatusCode, string(content)
}

// urlOf returns the URL of a target of a gateway.
func urlOf(g *harness.Gateway, target string) string {
	return g.Endpoint.Scheme() + "://" + g.Endpoint.Addr + target
}
