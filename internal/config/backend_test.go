package config

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Two secrets of Standard Webhooks.
const (
	secretA = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
	secretB = "whsec_QkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJC"
)

func TestBackend(t *testing.T) {
	for _, test := range []struct{ url, want, socket, shown string }{
		{"https://u:p@h:8443/cb?k=1", "https://u:p@h:8443/cb?k=1", "", "https://h:8443/cb"},
		{"unix:/run/app.sock", "http://localhost/", "/run/app.sock", "unix:/run/app.sock"},
		{"unix:///run/app.sock", "http://localhost/", "/run/app.sock", "unix:/run/app.sock"},
		{"unix:/run/app.sock:/", "http://localhost/", "/run/app.sock", "unix:/run/app.sock:/"},
		{"unix:/run/app.sock:/cb%2F/x?k=a%20b&c", "http://localhost/cb%2F/x?k=a%20b&c", "/run/app.sock", "unix:/run/app.sock:/cb%2F/x"},
		{"unix:/run/app.sock?k=1", "http://localhost/?k=1", "/run/app.sock", "unix:/run/app.sock"},
		{"unix:/run/a%3Ab%20c:/cb:d", "http://localhost/cb:d", "/run/a:b c", "unix:/run/a%3Ab%20c:/cb:d"},
	} {
		c, _, err := Load(nil, []string{"CALLBACK_URL=" + test.url})
		if err != nil {
			t.Errorf("%s: %v", test.url, err)
			continue
		}
		u, socket, err := Backend(c.CallbackURL)
		if err != nil || u.String() != test.want || socket != test.socket {
			t.Errorf("%s leads to %v at %q, %v", test.url, u, socket, err)
		}
		if shown := redactCallbackURL(test.url); shown != test.shown {
			t.Errorf("%s shows as %s, want %s", test.url, shown, test.shown)
		}
	}
}

// Secrets for rotation come separated by commas, as a list of the file, or as the lines of a file.
func TestSigningSecrets(t *testing.T) {
	want := [][]byte{make([]byte, 24), []byte(strings.Repeat("B", 24))}
	for _, environ := range []string{
		"CALLBACK_SIGNING_SECRET=" + secretA + "," + secretB,
		"CALLBACK_SIGNING_SECRET=" + secretA + " , " + secretB,
		"CALLBACK_SIGNING_SECRET_FILE=" + write(t, "secrets", secretA+"\r\n"+secretB+"\n"),
		"CONFIG_FILE=" + write(t, "c.yaml", "callback_signing_secret: ["+secretA+", "+secretB+"]"),
	} {
		c, _, err := Load(nil, []string{environ})
		if diff := cmp.Diff(want, c.CallbackSigningSecrets); err != nil || diff != "" {
			t.Errorf("%s: %v, -want +got:\n%s", environ, err, diff)
		}
	}
}

// Settings that exclude or need each other.
func TestContradictions(t *testing.T) {
	internalTLS := []string{"INTERNAL_TLS_CERT_FILE=c", "INTERNAL_TLS_KEY_FILE=k"}
	for _, test := range []struct {
		environ []string
		want    string // "": none
	}{
		{append(internalTLS, "INTERNAL_ADDR=:1", "INTERNAL_CLIENT_CA_FILE=a"), ""},
		{internalTLS, "INTERNAL_TLS_CERT_FILE: only for an INTERNAL_ADDR that is host:port"},
		{append(internalTLS, "INTERNAL_ADDR=unix:/s"), "INTERNAL_TLS_CERT_FILE: only for an INTERNAL_ADDR that is host:port"},
		{[]string{"INTERNAL_ADDR=:1", "INTERNAL_TLS_KEY_FILE=k"}, "INTERNAL_TLS_CERT_FILE and INTERNAL_TLS_KEY_FILE: one is set"},
		{[]string{"INTERNAL_ADDR=:1", "INTERNAL_CLIENT_CA_FILE=a"}, "INTERNAL_CLIENT_CA_FILE: certificates of callers need TLS"},
		{[]string{"BACKEND_CLIENT_CERT_FILE=c"}, "BACKEND_CLIENT_CERT_FILE and BACKEND_CLIENT_KEY_FILE: one is set"},
		{[]string{"CALLBACK_URL=http://u@h", "CALLBACK_TOKEN=SECRET"}, "CALLBACK_TOKEN: not possible together with a user in CALLBACK_URL"},
		{[]string{"CALLBACK_URL=http://h", "CALLBACK_TOKEN=SECRET"}, ""},
		{[]string{"H2C=true", "TLS_CERT_FILE=c", "TLS_KEY_FILE=k"}, "H2C: not possible together with TLS_CERT_FILE"},
		{[]string{"STATE_DIR=/d", "NATS_URL=nats://h"}, "STATE_DIR: not possible together with NATS_URL"},
	} {
		_, _, err := Load(nil, test.environ)
		switch {
		case test.want == "" && err != nil:
			t.Errorf("%q: %v", test.environ, err)
		case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "SECRET") || strings.Contains(err.Error(), "\n")):
			t.Errorf("%q: %v, want %s", test.environ, err, test.want)
		}
	}
}
