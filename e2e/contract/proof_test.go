package contract

import (
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	webhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"ssegateway/e2e/harness"
)

// newSecret returns a secret of Standard Webhooks, of 24 bytes.
func newSecret(letter string) string {
	return "whsec_" + base64.StdEncoding.EncodeToString([]byte(strings.Repeat(letter, 24)))
}

// verified returns why a callback is not what the one with this secret signed.
func verified(c *harness.Callback, secret string) error {
	w, err := webhooks.NewWebhook(secret)
	if err != nil {
		return err
	}
	return w.Verify(c.Body, c.Header)
}

// wantSecret checks that no line of the log, at debug level, has any of the secrets.
func (s *Site) wantSecret(secrets ...string) {
	s.t.Helper()
	s.WantLog("callback action=disconnect")
	for _, secret := range secrets {
		if text := s.gw.Log.Text(); strings.Contains(text, strings.TrimPrefix(secret, "whsec_")) {
			s.t.Errorf("the log has %q", secret)
		}
	}
}

var proofs = section{title: "3 callbacks that prove themselves", cases: []contractCase{
	{name: "webhook-id is on connects too, and nothing is signed without a secret", run: func(t *T) {
		x := t.Shared().Open("/")
		x.Leave()
		connect, disconnect := x.Connect().Header, x.Disconnect().Header
		for _, h := range []http.Header{connect, disconnect} {
			if len(h.Values("webhook-id")) != 1 || h.Get("webhook-id") == "" {
				t.Errorf("webhook-id %q", h.Values("webhook-id"))
			}
			for _, name := range []string{"webhook-timestamp", "webhook-signature", "authorization"} {
				if h.Get(name) != "" {
					t.Errorf("%s: %s", name, h.Get(name))
				}
			}
		}
		if connect.Get("webhook-id") == disconnect.Get("webhook-id") {
			t.Error("connect and disconnect have the same webhook-id")
		}
	}},
	{name: "CALLBACK_SIGNING_SECRET: the library of Standard Webhooks verifies each attempt, with each of the secrets", run: func(t *T) {
		first, second, foreign := newSecret("s"), newSecret("t"), newSecret("f")
		s := t.Start("CALLBACK_SIGNING_SECRET="+first+","+second, "LOG_LEVEL=debug")
		answers := make(chan int, 2)
		answers <- http.StatusServiceUnavailable
		answers <- http.StatusOK
		x := s.OpenWith(harness.Request{Target: "/a?b=ü", Header: []harness.Field{{Name: "x-bytes", Value: "caf\xe9"}}},
			harness.Script{Disconnect: func(*harness.Callback) harness.Answer { return harness.Answer{Status: <-answers} }})
		x.Leave()
		for _, c := range append(x.callbacks("disconnect", 2), x.Connect()) {
			for _, secret := range []string{first, second} {
				if err := verified(c, secret); err != nil {
					t.Errorf("%s: %v", c.Action, err)
				}
			}
			if verified(c, foreign) == nil {
				t.Errorf("%s: any secret verifies it", c.Action)
			}
			c.Body = bytes.Replace(c.Body, []byte("/a"), []byte("/b"), 1)
			if verified(c, first) == nil {
				t.Errorf("%s: the body is not signed", c.Action)
			}
		}
		s.wantSecret(first, second)
	}},
	{name: "CALLBACK_SIGNING_SECRET_FILE and CALLBACK_TOKEN_FILE: secrets come from files, one on a line", run: func(t *T) {
		first, second, token := newSecret("s"), newSecret("t"), "s3cret-bearer-4711"
		dir := t.TempDir()
		for name, text := range map[string]string{"secrets": first + "\n" + second + "\n", "token": token + "\n"} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		s := t.Start("CALLBACK_SIGNING_SECRET_FILE="+filepath.Join(dir, "secrets"), "CALLBACK_TOKEN_FILE="+filepath.Join(dir, "token"), "LOG_LEVEL=debug")
		x := s.Open("/")
		x.Leave()
		for _, c := range []*harness.Callback{x.Connect(), x.Disconnect()} {
			if err := verified(c, second); err != nil || c.Header.Get("authorization") != "Bearer "+token {
				t.Errorf("%s: %v, authorization %q", c.Action, err, c.Header.Get("authorization"))
			}
		}
		s.wantSecret(first, second, token)
	}},
	{name: "CALLBACK_TOKEN: every callback has it as a bearer token", run: func(t *T) {
		const token = "s3cret-bearer-0815"
		s := t.Start("CALLBACK_TOKEN="+token, "LOG_LEVEL=debug")
		x := s.Open("/")
		x.Leave()
		for _, c := range []*harness.Callback{x.Connect(), x.Disconnect()} {
			if got := c.Header.Values("authorization"); len(got) != 1 || got[0] != "Bearer "+token {
				t.Errorf("%s: authorization %q", c.Action, got)
			}
		}
		s.wantSecret(token)
	}},
	{name: "a secret that is set to nothing or is not one: an error at the start that does not show it", run: func(t *T) {
		for _, setting := range []string{"CALLBACK_SIGNING_SECRET=", "CALLBACK_SIGNING_SECRET=whsec_czNjcmV0", "CALLBACK_TOKEN=", "CALLBACK_TOKEN=czNjcmV0 x"} {
			name, _, _ := strings.Cut(setting, "=")
			lines := t.wantNoStart(setting)
			if !strings.Contains(lines, name+": ") || strings.Contains(lines, "czNjcmV0") {
				t.Errorf("%s: %s", setting, lines)
			}
		}
	}},
	{name: "CALLBACK_TIMEOUT_SECONDS: a connect has so long, and an attempt of a disconnect 5 s", slow: true, run: func(t *T) {
		s := t.Start("CALLBACK_TIMEOUT_SECONDS=1")
		x := s.Begin(harness.Request{Target: "/"}, harness.Script{Connect: hang})
		x.Refusal(http.StatusGatewayTimeout, "GATEWAY_TIMEOUT", "")
		if took := x.WantHead().At.Sub(x.Connect().At); took < time.Second-slack || took > time.Second+2*slack {
			t.Errorf("the timeout took %v, want 1 s", took)
		}
		first := make(chan struct{}, 1)
		first <- struct{}{}
		y := s.OpenWith(harness.Request{Target: "/"}, harness.Script{Disconnect: func(c *harness.Callback) harness.Answer {
			select {
			case <-first:
				return hang(c)
			default:
				return harness.Answer{}
			}
		}})
		y.Leave()
		calls := y.callbacks("disconnect", 2)
		if gap := calls[1].At.Sub(calls[0].At); gap < 5*time.Second-slack || gap > 5500*time.Millisecond+2*slack {
			t.Errorf("the second attempt came %v after the first, want 5 s and at most 0.5 s more", gap)
		}
	}},
	{name: "CALLBACK_TIMEOUT_SECONDS above 5: an answer after 6 s opens the stream", slow: true, run: func(t *T) {
		s := t.Start("CALLBACK_TIMEOUT_SECONDS=20")
		s.OpenWith(harness.Request{Target: "/"}, harness.Script{Connect: func(*harness.Callback) harness.Answer {
			pause(6 * time.Second)
			return harness.Answer{}
		}})
	}},
	{name: "CALLBACK_URL=unix:/path:/target: callbacks go to the socket, the query with them", run: func(t *T) {
		dir, err := os.MkdirTemp("", "contract") // a socket's path is short
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		socket := filepath.Join(dir, "app.sock")
		l, err := new(net.ListenConfig).Listen(t.Context(), "unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		backend := harness.NewBackendAt(l)
		t.Cleanup(backend.Close)
		s := t.StartWith(backend, "CALLBACK_URL=unix:"+socket+":/hook?key=s3cret-0815", "LOG_LEVEL=debug")
		x := s.Open("/a?b")
		if got := reply(t, s.Do(harness.Request{Target: "/readyz"})); got.Status != http.StatusOK {
			t.Errorf("readyz: %d", got.Status)
		}
		x.Leave()
		for _, c := range []*harness.Callback{x.Connect(), x.Disconnect()} {
			if c.Target != "/hook?key=s3cret-0815" || c.URL != "/a?b" {
				t.Errorf("%s: %s of %s", c.Action, c.Target, c.URL)
			}
		}
		s.wantSecret("s3cret-0815")
		s.WantLog("callback_url=.?unix:" + socket + ":/hook")
	}},
	{name: "BACKEND_CA_FILE and BACKEND_CLIENT_CERT_FILE: TLS with authorities and a certificate of one's own, read again when they change", slow: true, run: func(t *T) {
		own, dir := newCertificate(t, t.TempDir()), t.TempDir()
		shown := newCertificate(t, dir)
		l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		backend := harness.NewBackendAt(tls.NewListener(l, &tls.Config{
			Certificates: []tls.Certificate{own.Pair}, ClientAuth: tls.RequireAnyClientCert, MinVersion: tls.VersionTLS12,
		}))
		t.Cleanup(backend.Close)
		s := t.StartWith(backend, "CALLBACK_URL=https://"+l.Addr().String()+"/callback", "BACKEND_CA_FILE="+own.CertFile,
			"BACKEND_CLIENT_CERT_FILE="+shown.CertFile, "BACKEND_CLIENT_KEY_FILE="+shown.KeyFile)
		wantShown := func(want *harness.Certificate) {
			t.Helper()
			c := s.Open("/").Connect()
			if got := c.TLS.PeerCertificates[0].SerialNumber; got.Cmp(want.Serial) != 0 {
				t.Errorf("the backend got the certificate %v, want %v", got, want.Serial)
			}
		}
		wantShown(shown)
		renewed := newCertificate(t, dir)
		pause(2100 * time.Millisecond) // a look at the files is at most a second old, and an idle connection closed
		wantShown(renewed)
	}},
	{name: "a backend whose certificate BACKEND_CA_FILE does not vouch for gets no callback: 503", run: func(t *T) {
		own, other := newCertificate(t, t.TempDir()), newCertificate(t, t.TempDir())
		l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		backend := harness.NewBackendAt(tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{own.Pair}, MinVersion: tls.VersionTLS12}))
		t.Cleanup(backend.Close)
		s := t.StartWith(backend, "CALLBACK_URL=https://"+l.Addr().String()+"/callback", "BACKEND_CA_FILE="+other.CertFile)
		x := s.Begin(harness.Request{Target: "/"}, harness.Script{})
		x.Refusal(http.StatusServiceUnavailable, "BACKEND_UNAVAILABLE", "")
		s.WantLog("result=unreachable", "certificate")
	}},
}}

func newCertificate(t *T, dir string) *harness.Certificate {
	t.Helper()
	c, err := harness.NewCertificate(dir)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// wantNoStart starts a gateway, which has to exit with code 1, and returns its output.
func (t *T) wantNoStart(settings ...string) string {
	t.Helper()
	port, err := harness.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	gw, err := harness.Run(harness.Command{Args: t.kind.Command, Env: t.kind.environment(append([]string{"PORT=" + itoa(port)}, settings...), nil)})
	if err != nil {
		t.Fatal(err)
	}
	code, err := gw.Exit(patience)
	if err != nil {
		gw.Kill()
	}
	if code != 1 || err != nil {
		t.Errorf("%q: exit code %d (%v), want 1", settings, code, err)
	}
	return gw.Log.Text()
}
