package tracing

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const secret = "s3cret"

// set sets variables of the exporter, NAME=value each, and unsets all others.
func set(t *testing.T, variables ...string) {
	t.Helper()
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "OTEL_") {
			t.Setenv(name, "")
		}
	}
	for _, v := range variables {
		name, value, _ := strings.Cut(v, "=")
		t.Setenv("OTEL_EXPORTER_OTLP_"+name, value)
	}
}

// The variables say where spans go and how, and those of traces win.
func TestTarget(t *testing.T) {
	const standard = "http://localhost:4318/v1/traces"
	for name, c := range map[string]struct {
		set     []string
		url     string
		header  string // of X-Key
		timeout time.Duration
		gzip    bool
		warned  string
	}{
		"nothing":              {url: standard},
		"endpoint":             {set: []string{"ENDPOINT=http://c:1"}, url: "http://c:1/v1/traces"},
		"endpoint with a path": {set: []string{"ENDPOINT=https://c/otlp/"}, url: "https://c/otlp/v1/traces"},
		"endpoint of traces":   {set: []string{"ENDPOINT=http://c:1", "TRACES_ENDPOINT=http://d:2/in?a=b"}, url: "http://d:2/in?a=b"},
		"headers":              {set: []string{"HEADERS=a=b, x-key = one%2C%20two%3D+ "}, url: standard, header: "one, two=+"},
		"headers of traces":    {set: []string{"HEADERS=x-key=1", "TRACES_HEADERS=x-key=2"}, url: standard, header: "2"},
		"a header too much":    {set: []string{"HEADERS=" + secret + ",x-key=1"}, url: standard, header: "1", warned: "HEADERS"},
		"a line in a header":   {set: []string{"HEADERS=a=" + secret + "%0D%0A,x-key=1"}, url: standard, header: "1", warned: "HEADERS"},
		"timeout":              {set: []string{"TIMEOUT=1", "TRACES_TIMEOUT=1500"}, url: standard, timeout: 1500 * time.Millisecond},
		"no timeout":           {set: []string{"TIMEOUT=" + secret}, url: standard, warned: "TIMEOUT"},
		"gzip":                 {set: []string{"COMPRESSION=gzip"}, url: standard, gzip: true},
		"no gzip for traces":   {set: []string{"COMPRESSION=gzip", "TRACES_COMPRESSION=none"}, url: standard},
		"another compression":  {set: []string{"COMPRESSION=" + secret}, url: standard, warned: "COMPRESSION"},
	} {
		t.Run(name, func(t *testing.T) {
			set(t, c.set...)
			var log bytes.Buffer
			got, err := newTarget(slog.New(slog.NewTextHandler(&log, nil)))
			if err != nil {
				t.Fatal(err)
			}
			if c.timeout == 0 {
				c.timeout = 10 * time.Second
			}
			if got.url.String() != c.url || got.header.Get("X-Key") != c.header || got.timeout != c.timeout || got.gzip != c.gzip || got.tls != nil {
				t.Errorf("%s, %v, %+v", got.url, got.header, got)
			}
			if line := log.String(); (line != "") != (c.warned != "") || !strings.Contains(line, c.warned) || strings.Contains(line, secret) {
				t.Errorf("logged %q", line)
			}
		})
	}
}

// Without a usable endpoint or certificate there are no traces, and the log says which it is, without the value.
func TestTargetNotUsable(t *testing.T) {
	for variable, name := range map[string]string{
		"ENDPOINT=" + secret + ":4318":          "endpoint",
		"ENDPOINT=http://%" + secret:            "endpoint",
		"TRACES_ENDPOINT=ftp://" + secret:       "endpoint",
		"CERTIFICATE=/nowhere/" + secret:        "CERTIFICATE",
		"CLIENT_KEY=/nowhere/" + secret:         "CLIENT_KEY",
		"CLIENT_CERTIFICATE=/nowhere/" + secret: "CLIENT_CERTIFICATE",
	} {
		t.Run(variable, func(t *testing.T) {
			set(t, variable)
			_, err := newTarget(slog.New(slog.DiscardHandler))
			if err == nil || !strings.Contains(err.Error(), name) || strings.Contains(err.Error(), secret) {
				t.Error(err)
			}
		})
	}
}

// A protocol other than http/protobuf switches traces off, and the log says why.
func TestProtocol(t *testing.T) {
	for protocol, want := range map[string]bool{"": true, "http/protobuf": true, "http/json": false, "grpc": false} {
		set(t, "ENDPOINT=http://c:1", "PROTOCOL="+protocol)
		var log bytes.Buffer
		got := asked(slog.New(slog.NewTextHandler(&log, nil)))
		if got != want || strings.Contains(log.String(), "level=ERROR") == want {
			t.Errorf("%q: %v, and logged %q", protocol, got, log.String())
		}
	}
}

// The collector is verified with CERTIFICATE, and gets the client's certificate.
func TestCertificates(t *testing.T) {
	clients := make(chan int, 1)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { clients <- len(r.TLS.PeerCertificates) }))
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	server.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert, MinVersion: tls.VersionTLS12}
	server.StartTLS()
	defer server.Close()

	key, err := x509.MarshalPKCS8PrivateKey(server.TLS.Certificates[0].PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile := filepath.Join(t.TempDir(), "cert"), filepath.Join(t.TempDir(), "key")
	for file, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: server.Certificate().Raw}, keyFile: {Type: "PRIVATE KEY", Bytes: key}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	upload := func(variables ...string) error {
		set(t, append(variables, "ENDPOINT="+server.URL)...)
		target, err := newTarget(slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		c := newClient(target)
		defer c.http.CloseIdleConnections()
		return c.UploadTraces(context.Background(), spans)
	}
	pair := []string{"CLIENT_CERTIFICATE=" + certFile, "CLIENT_KEY=" + keyFile}
	if err := upload(append(pair, "CERTIFICATE="+certFile)...); err != nil {
		t.Fatal(err)
	}
	if n := <-clients; n != 1 {
		t.Errorf("%d certificates of the client", n)
	}
	if err := upload(pair...); err == nil {
		t.Error("a collector with an unknown certificate got spans")
	}
	if err := upload("CERTIFICATE=" + certFile); err == nil {
		t.Error("a client without a certificate was taken")
	}
}
