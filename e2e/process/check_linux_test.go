package process

import (
	"crypto/tls"
	"net"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"ssegateway/e2e/harness"
)

// `check` says what is wrong with the settings and with what they name, one line each, and fails if anything is.
func TestCheck(t *testing.T) {
	certificate := func(left time.Duration) *harness.Certificate {
		c, err := harness.NewCertificateUntil(t.TempDir(), time.Now().Add(left))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	long, short, over := certificate(100*24*time.Hour), certificate(13*24*time.Hour+time.Hour), certificate(-time.Hour)
	pair := func(cert, key *harness.Certificate) []string {
		return []string{"TLS_CERT_FILE=" + cert.CertFile, "TLS_KEY_FILE=" + key.KeyFile}
	}
	backend, err := harness.NewBackend()
	if err != nil {
		t.Fatal(err)
	}
	defer backend.Close()
	callback := "CALLBACK_URL=" + backend.URL("/callback?key=canary")
	free, err := harness.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	port := strconv.Itoa(free)
	broker := natsServer(t, true)
	without := natsServer(t, false)
	socket, stale := filepath.Join(t.TempDir(), "s"), filepath.Join(t.TempDir(), "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: stale, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	_ = l.Close()
	other := strings.TrimPrefix(broker, "nats://")
	secured := func(config *tls.Config) string {
		listener, err := tls.Listen("tcp", "127.0.0.1:0", config)
		if err != nil {
			t.Fatal(err)
		}
		secured := harness.NewBackendAt(listener)
		t.Cleanup(secured.Close)
		return "CALLBACK_URL=https://" + listener.Addr().String() + "/callback?key=canary"
	}
	plainTLS := secured(&tls.Config{Certificates: []tls.Certificate{long.Pair}, MinVersion: tls.VersionTLS12})
	demanding := secured(&tls.Config{Certificates: []tls.Certificate{long.Pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: long.Roots, MinVersion: tls.VersionTLS12})
	listening := filepath.Join(t.TempDir(), "s")
	unixListener, err := net.Listen("unix", listening)
	if err != nil {
		t.Fatal(err)
	}
	defer unixListener.Close()
	shows := func(c *harness.Certificate) []string {
		return []string{demanding, "BACKEND_CA_FILE=" + long.CertFile, "BACKEND_CLIENT_CERT_FILE=" + c.CertFile, "BACKEND_CLIENT_KEY_FILE=" + c.KeyFile}
	}
	internal := func(cert, key, callers string) []string {
		return []string{"INTERNAL_ADDR=127.0.0.1:" + strconv.Itoa(ownPort(t)), "INTERNAL_TLS_CERT_FILE=" + cert, "INTERNAL_TLS_KEY_FILE=" + key, "INTERNAL_CLIENT_CA_FILE=" + callers}
	}
	for _, test := range []struct {
		name     string
		settings []string
		success  bool
		want     []string
	}{
		{"nothing", nil, true, []string{"ok    settings: valid", "warn  neither CALLBACK_URL nor RELAY_URL is set", "ok    PORT: :" + port + " is free", "ok    MAX_CONNECTIONS: "}},
		{"backend", []string{callback}, true, []string{"ok    CALLBACK_URL: 127.0.0.1:"}},
		{"no backend", []string{"CALLBACK_URL=http://127.0.0.1:1/"}, false, []string{"fail  CALLBACK_URL: the backend takes no connection: "}},
		{"no host", []string{"CALLBACK_URL=http://nowhere.invalid/"}, false, []string{"fail  CALLBACK_URL: the host does not resolve: "}},
		{"no TLS", []string{strings.Replace(callback, "http:", "https:", 1)}, false, []string{"fail  CALLBACK_URL: the backend at 127.0.0.1:"}},
		{"certificate", pair(long, long), true, []string{"ok    TLS_CERT_FILE: the certificate matches its key"}},
		{"backend with TLS", []string{plainTLS, "BACKEND_CA_FILE=" + long.CertFile}, true, []string{"ok    BACKEND_CA_FILE: ", "ok    CALLBACK_URL: 127.0.0.1:", "takes connections with TLS"}},
		{"backend with another authority", []string{plainTLS, "BACKEND_CA_FILE=" + short.CertFile}, false, []string{"fail  CALLBACK_URL: ", "certificate"}},
		{"backend that asks for a certificate", shows(long), true, []string{"ok    BACKEND_CLIENT_CERT_FILE: the certificate matches its key", "ok    CALLBACK_URL: "}},
		{"backend that asks for another certificate", shows(short), false, []string{"warn  BACKEND_CLIENT_CERT_FILE: ", "fail  CALLBACK_URL: ", "remote error: tls: "}},
		{"backend that gets no certificate", shows(long)[:2], false, []string{"fail  CALLBACK_URL: ", "remote error: tls: certificate required"}},
		{"no authorities", []string{"BACKEND_CA_FILE=" + long.KeyFile}, false, []string{"fail  BACKEND_CA_FILE: there is no certificate in PEM in "}},
		{"TLS for nothing", []string{callback, "BACKEND_CA_FILE=" + long.CertFile}, true, []string{"warn  BACKEND_CA_FILE and BACKEND_CLIENT_CERT_FILE have no effect: "}},
		{"TLS for the relay", []string{callback, "RELAY_URL=https://127.0.0.1:1", "RELAY_PATHS=/a", "BACKEND_CA_FILE=" + long.CertFile}, true, []string{"ok    BACKEND_CA_FILE: "}},
		{"backend at a socket", []string{"CALLBACK_URL=unix:" + listening + ":/callback?key=canary"}, true, []string{"ok    CALLBACK_URL: unix:" + listening + " takes connections"}},
		{"no backend at a socket", []string{"CALLBACK_URL=unix:" + stale}, false, []string{"fail  CALLBACK_URL: the backend takes no connection: "}},
		{"internal certificates", internal(long.CertFile, long.KeyFile, short.CertFile), true, []string{"ok    INTERNAL_TLS_CERT_FILE: ", "ok    INTERNAL_CLIENT_CA_FILE: "}},
		{"internal certificates that are none", internal(over.CertFile, over.KeyFile, short.KeyFile), false, []string{"fail  INTERNAL_TLS_CERT_FILE: the certificate has expired", "fail  INTERNAL_CLIENT_CA_FILE: there is no"}},
		{"no secret", []string{"CALLBACK_SIGNING_SECRET=whsec_canary"}, false, []string{"fail  CALLBACK_SIGNING_SECRET: the given value is not valid"}},
		{"open to others", []string{"INTERNAL_ALLOW=10.0.0.0/8"}, true, []string{"warn  /internal shares the public port, and INTERNAL_ALLOW opens it"}},
		{"certificate ends soon", pair(short, short), true, []string{"warn  TLS_CERT_FILE: ", " in 13 days: renew it"}},
		{"certificate is over", pair(over, over), false, []string{"fail  TLS_CERT_FILE: the certificate has expired"}},
		{"another key", pair(long, short), false, []string{"fail  TLS_CERT_FILE and TLS_KEY_FILE: "}},
		{"NATS", []string{"NATS_URL=" + broker}, true, []string{"ok    NATS_URL: NATS 2."}},
		{"NATS without JetStream", []string{"NATS_URL=" + without}, false, []string{"fail  NATS_URL: NATS server 2.", "JetStream"}},
		{"no NATS", []string{"NATS_URL=nats://gateway:canary@127.0.0.1:1"}, false, []string{"fail  NATS_URL: "}},
		{"too many", []string{"MAX_CONNECTIONS=9000000"}, true, []string{"warn  MAX_CONNECTIONS: 9000000 streams, but the limit"}},
		{"no room", []string{"CALLBACK_CONCURRENCY=65535"}, false, []string{"fail  CALLBACK_CONCURRENCY: "}},
		{"socket", []string{"INTERNAL_ADDR=unix:" + socket}, true, []string{"ok    INTERNAL_ADDR: the directory " + filepath.Dir(socket) + " is writable"}},
		{"stale socket", []string{"INTERNAL_ADDR=unix:" + stale}, true, []string{"ok    INTERNAL_ADDR: the directory "}},
		{"no directory", []string{"INTERNAL_ADDR=unix:/nowhere/s"}, false, []string{"fail  INTERNAL_ADDR: the directory /nowhere is not writable: "}},
		{"no socket", []string{"INTERNAL_ADDR=unix:" + long.CertFile}, false, []string{"fail  INTERNAL_ADDR: " + long.CertFile + " exists and is no socket"}},
		{"the same port", []string{"INTERNAL_ADDR=127.0.0.1:" + port}, false, []string{"fail  INTERNAL_ADDR: it has the port of PORT"}},
		{"taken", []string{"INTERNAL_ADDR=" + other}, false, []string{"fail  INTERNAL_ADDR: listen tcp " + other + ": bind: address already in use, and no gateway answers there"}},
		{"settings", []string{"CONFIG_FILE=" + file(t, "\ncalllback_url: x\nh2c: maybe\n"), "HEARTBEAT_INTERVAL_SECONDS=0"}, false, []string{
			"line 2: unknown key \"calllback_url\"; did you mean callback_url?\n", "line 3: \"maybe\" is not valid", "warn  HEARTBEAT_INTERVAL_SECONDS: ",
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			out, ok := command(append([]string{"PORT=" + port}, test.settings...), "check")
			failed := regexp.MustCompile(`(?m)^fail  `).MatchString(out)
			if ok != test.success || failed == ok || strings.Contains(out, "canary") {
				t.Errorf("success %t, want %t", ok, test.success)
			}
			for line := range strings.Lines(out) {
				if !regexp.MustCompile(`^(ok|warn|fail) +\S.*\n$`).MatchString(line) {
					t.Errorf("%q is no line of a report", line)
				}
			}
			for _, want := range test.want {
				if !strings.Contains(out, want) {
					t.Errorf("no %q", want)
				}
			}
			if t.Failed() {
				t.Log(out)
			}
		})
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(socket), "*")); len(left) > 0 {
		t.Errorf("it left %q", left)
	}
	if calls := backend.Calls(func(*harness.Callback) bool { return true }); len(calls) > 0 {
		t.Errorf("the backend got %d requests", len(calls))
	}
}

// `check` does not disturb a gateway that runs with the same settings: it says that the gateway runs.
func TestCheckBesideGateway(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	o := operate(t, nil, "INTERNAL_ADDR=unix:"+path)
	token, lines := o.open("/events")
	o.wants(true, `(?s).*\nok    PORT: a gateway runs at :\d+\nok    INTERNAL_ADDR: a gateway runs at unix:`+path+`\n.*`, "check")
	o.wants(true, "ok\n", "send", token, "still here", "--close")
	var got strings.Builder
	for lines.Scan() {
		got.WriteString(lines.Text() + "\n")
	}
	if !strings.HasSuffix(got.String(), "\n\ndata: still here\n\n") {
		t.Errorf("the stream got %q", got.String())
	}
}

// natsServer runs a NATS, and returns its URL.
func natsServer(t *testing.T, jetstream bool) string {
	t.Helper()
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true, JetStream: jetstream, StoreDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	if !s.ReadyForConnections(harness.Patience) {
		t.Fatal("the NATS server is not ready")
	}
	return s.ClientURL()
}
