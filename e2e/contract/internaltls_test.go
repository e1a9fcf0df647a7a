package contract

import (
	"crypto/tls"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"ssegateway/e2e/harness"
)

// internalTLS returns the TLS of a caller that knows a gateway with this certificate, and shows one of its own, if there is any.
func internalTLS(of, shown *harness.Certificate) *tls.Config {
	c := &tls.Config{RootCAs: of.Roots, MinVersion: tls.VersionTLS12}
	if shown != nil {
		c.Certificates = []tls.Certificate{shown.Pair}
	}
	return c
}

var internalListeners = section{title: "7 TLS and sockets for internal", cases: []contractCase{
	{name: "INTERNAL_TLS_CERT_FILE: the listener of INTERNAL_ADDR speaks TLS, with HTTP 1.1 and HTTP 2, and follows its files", slow: true, run: func(t *T) {
		dir := t.TempDir()
		cert := newCertificate(t, dir)
		s, addr := t.startInternalTLS(cert)
		for _, protocol := range []harness.Protocol{harness.HTTP1TLS, harness.HTTP2TLS} {
			s.wantMoved(harness.Endpoint{Addr: addr, Protocol: protocol, TLS: internalTLS(cert, nil)})
		}
		got := reply(t, do(t, harness.Endpoint{Addr: addr}, harness.Request{Target: "/internal/stats"}))
		if problem := got.notError(http.StatusBadRequest, "INVALID_REQUEST", ""); problem != "" {
			t.Errorf("without TLS: %s", problem)
		}
		renewed := newCertificate(t, dir)
		pause(1100 * time.Millisecond) // a look at the files is at most a second old
		e := harness.Endpoint{Addr: addr, Protocol: harness.HTTP1TLS, TLS: internalTLS(renewed, nil)}
		s.wantServed(e.Client(), e)
	}},
	{name: "INTERNAL_CLIENT_CA_FILE: callers without a certificate that it vouches for are refused in the handshake, and a token is asked for as well", run: func(t *T) {
		const token = "s3cret-internal-0815"
		cert, caller, stranger := newCertificate(t, t.TempDir()), newCertificate(t, t.TempDir()), newCertificate(t, t.TempDir())
		s, addr := t.startInternalTLS(cert, "INTERNAL_CLIENT_CA_FILE="+caller.CertFile, "INTERNAL_TOKEN="+token)
		for _, protocol := range []harness.Protocol{harness.HTTP1TLS, harness.HTTP2TLS} {
			for _, shown := range []*harness.Certificate{nil, stranger} {
				e := harness.Endpoint{Addr: addr, Protocol: protocol, TLS: internalTLS(cert, shown)}
				client := e.Client()
				for _, path := range []string{"/internal/stats", "/metrics", "/healthz"} {
					got, err := call(t, client, e, http.MethodGet, path, http.NoBody, "Authorization", "Bearer "+token)
					if err == nil {
						t.Errorf("%s is answered to a caller that may not call: %d", path, got.Status)
					}
				}
			}
			// The gateway's own certificate is the operator's.
			for _, shown := range []*harness.Certificate{caller, cert} {
				e := harness.Endpoint{Addr: addr, Protocol: protocol, TLS: internalTLS(cert, shown)}
				client := e.Client()
				s.wantServed(client, e, "Authorization", "Bearer "+token)
				got, err := call(t, client, e, http.MethodGet, "/internal/stats", http.NoBody)
				if err != nil {
					t.Fatal(err)
				}
				s.WantError(got, http.StatusUnauthorized, "UNAUTHORIZED", "")
				client.CloseIdleConnections()
			}
		}
		s.WantLog("a caller of INTERNAL_ADDR is refused for its certificate")
	}},
	{name: "INTERNAL_CLIENT_CA_FILE follows its file, for callers that come back with a session too", slow: true, run: func(t *T) {
		dir := t.TempDir()
		cert, caller := newCertificate(t, t.TempDir()), newCertificate(t, dir)
		s, addr := t.startInternalTLS(cert, "INTERNAL_CLIENT_CA_FILE="+caller.CertFile)
		config := internalTLS(cert, caller)
		config.ClientSessionCache = tls.NewLRUClientSessionCache(1)
		e := harness.Endpoint{Addr: addr, Protocol: harness.HTTP1TLS, TLS: config}
		client := e.Client()
		s.wantServed(client, e)
		client.CloseIdleConnections()
		s.wantServed(client, e)
		client.CloseIdleConnections()
		renewed := newCertificate(t, dir)
		pause(1100 * time.Millisecond) // a look at the file is at most a second old
		if got, err := call(t, client, e, http.MethodGet, "/internal/stats", http.NoBody); err == nil {
			t.Errorf("a caller of the former authority is answered: %d", got.Status)
		}
		e.TLS = internalTLS(cert, renewed)
		s.wantServed(e.Client(), e)
	}},
	{name: "INTERNAL_SOCKET_MODE: 0660, or what is set, whatever the umask", run: func(t *T) {
		for setting, want := range map[string]os.FileMode{"": 0o660, "INTERNAL_SOCKET_MODE=0600": 0o600, "INTERNAL_SOCKET_MODE=0666": 0o666} {
			dir, err := os.MkdirTemp("", "contract") // a socket's path is short
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = os.RemoveAll(dir) })
			socket := filepath.Join(dir, "s")
			settings := []string{"INTERNAL_ADDR=unix:" + socket}
			if setting != "" {
				settings = append(settings, setting)
			}
			s := t.Start(settings...)
			info, err := os.Stat(socket)
			if err != nil || info.Mode().Perm() != want {
				t.Errorf("%q: %v %v, want %v", setting, info, err, want)
			}
			s.wantServed(harness.Endpoint{Addr: socket}.Client(), harness.Endpoint{Addr: socket})
		}
	}},
	{name: "TLS and INTERNAL_ADDR that do not fit are an error at the start", run: func(t *T) {
		cert := newCertificate(t, t.TempDir())
		pair := []string{"INTERNAL_TLS_CERT_FILE=" + cert.CertFile, "INTERNAL_TLS_KEY_FILE=" + cert.KeyFile}
		for want, settings := range map[string][]string{
			"INTERNAL_TLS_CERT_FILE: only for an INTERNAL_ADDR that is host:port":                append(pair, "INTERNAL_ADDR=unix:/s"),
			"INTERNAL_CLIENT_CA_FILE: certificates of callers need TLS":                          {"INTERNAL_ADDR=127.0.0.1:1", "INTERNAL_CLIENT_CA_FILE=" + cert.CertFile},
			"INTERNAL_CLIENT_CA_FILE: there is no certificate in PEM in " + cert.KeyFile:         append(pair, "INTERNAL_ADDR=127.0.0.1:1", "INTERNAL_CLIENT_CA_FILE="+cert.KeyFile),
			"INTERNAL_TLS_CERT_FILE and INTERNAL_TLS_KEY_FILE: tls: ":                            {"INTERNAL_ADDR=127.0.0.1:1", "INTERNAL_TLS_CERT_FILE=" + cert.KeyFile, "INTERNAL_TLS_KEY_FILE=" + cert.KeyFile},
			"BACKEND_CA_FILE: open /nonexistent":                                                 {"CALLBACK_URL=https://127.0.0.1:1/", "BACKEND_CA_FILE=/nonexistent"},
			"BACKEND_CLIENT_CERT_FILE and BACKEND_CLIENT_KEY_FILE: one is set, the other is not": {"BACKEND_CLIENT_CERT_FILE=" + cert.CertFile},
		} {
			if lines := t.wantNoStart(settings...); !strings.Contains(lines, want) {
				t.Errorf("%q: %s", settings, lines)
			}
		}
	}},
}}

// startInternalTLS starts a gateway whose INTERNAL_ADDR has TLS with that certificate.
func (t *T) startInternalTLS(cert *harness.Certificate, settings ...string) (*Site, string) {
	t.Helper()
	port, err := harness.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	addr := "127.0.0.1:" + itoa(port)
	return t.Start(append([]string{"INTERNAL_ADDR=" + addr, "INTERNAL_TLS_CERT_FILE=" + cert.CertFile, "INTERNAL_TLS_KEY_FILE=" + cert.KeyFile}, settings...)...), addr
}
