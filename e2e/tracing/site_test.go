package tracing

import (
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

func TestMain(m *testing.M) { os.Exit(harness.Main(m, prepare)) }

func prepare(dir string) (err error) {
	binary, cert, err = harness.BuildWithCertificate(dir)
	return err
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
