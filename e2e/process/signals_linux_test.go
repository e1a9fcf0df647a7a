package process

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"
	"testing"
	"time"

	"ssegateway/e2e/harness"
)

func signal(t *testing.T, p *harness.Process, s os.Signal) {
	t.Helper()
	if err := p.Signal(s); err != nil {
		t.Fatal(err)
	}
}

func wantLog(t *testing.T, p *harness.Process, pattern string) {
	t.Helper()
	if _, ok := p.Log.Find(harness.Patience, regexp.MustCompile(pattern)); !ok {
		t.Fatalf("no %s in\n%s", pattern, p.Log.Text())
	}
}

// TestReloadLogLevel: SIGHUP reloads the log level from the configuration file, and logs that.
// A file that is not valid changes nothing.
func TestReloadLogLevel(t *testing.T) {
	config := file(t, "log_level: info\n")
	g := harness.StartGateway(t, binary, nil, "CONFIG_FILE="+config)
	write(t, config, "log_level: debug\n")
	signal(t, g.Process, syscall.SIGHUP)
	wantLog(t, g.Process, `^\[INFO\] reloaded log_level=debug$`)
	write(t, config, "log_level: loud\nport: 1\n")
	signal(t, g.Process, syscall.SIGHUP)
	wantLog(t, g.Process, `^\[INFO\] nothing was reloaded$`)
	write(t, config, "log_level: error\n")
	signal(t, g.Process, syscall.SIGHUP)
	wantLog(t, g.Process, `^\[INFO\] reloaded log_level=error$`)
	write(t, config, "log_level: info\n")
	signal(t, g.Process, syscall.SIGHUP)
	wantLog(t, g.Process, `^\[INFO\] reloaded log_level=info$`)
}

// TestReloadCertificate: SIGHUP loads the certificate at once. If that is not usable, the
// former one stays in use, and the log says so.
func TestReloadCertificate(t *testing.T) {
	dir := t.TempDir()
	cert, err := harness.NewCertificate(dir)
	if err != nil {
		t.Fatal(err)
	}
	backend, err := harness.NewCertificate(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	g := harness.StartGateway(t, binary, cert, "BACKEND_CA_FILE="+backend.CertFile)
	serves := func(want *harness.Certificate) {
		t.Helper()
		conn, err := tls.Dial("tcp", g.Endpoint.Addr, &tls.Config{InsecureSkipVerify: true}) // only its serial number is checked
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if got := conn.ConnectionState().PeerCertificates[0].SerialNumber; got.Cmp(want.Serial) != 0 {
			t.Errorf("serial %v, want %v", got, want.Serial)
		}
	}
	serves(cert)
	write(t, cert.KeyFile, "half written")
	signal(t, g.Process, syscall.SIGHUP)
	wantLog(t, g.Process, `^\[ERROR\] the TLS certificate is not usable, the former stays in use`)
	serves(cert)
	next, err := harness.NewCertificate(dir)
	if err != nil {
		t.Fatal(err)
	}
	signal(t, g.Process, syscall.SIGHUP)
	wantLog(t, g.Process, `^\[INFO\] reloaded log_level=info certificate=`+backend.CertFile+`,`+cert.CertFile+`$`)
	serves(next)
}

// TestThirdSignal: the first signal starts the drain, the second hurries it, the third kills the process.
func TestThirdSignal(t *testing.T) {
	backend, err := harness.NewBackend()
	if err != nil {
		t.Fatal(err)
	}
	defer backend.Close()
	defer backend.CalmDown()
	hold := func(c *harness.Callback) harness.Answer {
		<-c.Context.Done()
		return harness.Answer{}
	}
	backend.On("stuck", harness.Script{Disconnect: hold}) // a hurried drain waits for this callback as well
	p, err := harness.Start(harness.Command{Args: []string{binary}, Env: []string{"CALLBACK_URL=" + backend.URL("/callback"), "DRAIN_SECONDS=3600"}},
		func(port int) harness.Endpoint { return harness.Local(port, nil) })
	if err != nil {
		t.Fatal(err)
	}
	defer p.Kill()
	x, err := harness.Local(p.Port, nil).Do(t.Context(), harness.Request{Target: "/events", Header: []harness.Field{{Name: harness.KeyHeader, Value: "stuck"}}})
	if err != nil {
		t.Fatal(err)
	}
	defer x.HangUp()
	if _, err := x.Head(harness.Patience); err != nil {
		t.Fatal(err)
	}
	signal(t, p, syscall.SIGTERM)
	wantLog(t, p, `\[INFO\] draining`)
	signal(t, p, syscall.SIGTERM)
	wantLog(t, p, `\[WARN\] told to hurry`)
	begin := time.Now()
	signal(t, p, syscall.SIGTERM)
	if code, err := p.Exit(harness.Patience); code != -1 || err != nil {
		t.Errorf("exit code %d, %v", code, err)
	}
	if took := time.Since(begin); took > slack {
		t.Errorf("the exit took %v", took)
	}
}

// TestHangup: SIGHUP does not end the demo either.
func TestHangup(t *testing.T) {
	gateway, err := harness.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	page, err := harness.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	p, err := harness.Run(harness.Command{Args: []string{binary, "demo"}, Env: []string{"PORT=" + strconv.Itoa(gateway), "PAGE_PORT=" + strconv.Itoa(page)}})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Kill()
	wantLog(t, p, `ssegateway started`)
	signal(t, p, syscall.SIGHUP)
	wantLog(t, p, `\[INFO\] reloaded log_level=info$`)
	signal(t, p, syscall.SIGTERM)
	code, err := p.Exit(drainLimit + 5*time.Second)
	if err != nil || code != 0 {
		t.Errorf("exit code %d, %v", code, err)
	}
}

// TestSignalAtTheStart: a signal that comes before the gateway serves ends it as any other. The start may take
// seconds, with a large STATE_DIR, and an exit by the signal itself would look like a failure.
func TestSignalAtTheStart(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "callback-url")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := harness.Run(harness.Command{Args: []string{binary}, Env: []string{"PORT=" + freePort(t), "CALLBACK_URL_FILE=" + pipe}})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Kill()
	f, err := os.OpenFile(pipe, os.O_WRONLY, 0) // waits until the process reads it
	if err != nil {
		t.Fatal(err)
	}
	signal(t, p, syscall.SIGTERM)
	_, _ = f.WriteString("http://127.0.0.1:9/") // fails if the process is gone
	_ = f.Close()
	if code, err := p.Exit(harness.Patience); code != 0 || err != nil {
		t.Errorf("exit code %d, %v\n%s", code, err, p.Log.Text())
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	port, err := harness.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return strconv.Itoa(port)
}

// TestHangupAtStart: whoever starts a gateway with SIGHUP ignored may send it at any moment, also before the gateway has
// come so far as to handle it. It reloads all the same.
func TestHangupAtStart(t *testing.T) {
	for n := range 5 {
		port, err := harness.FreePort()
		if err != nil {
			t.Fatal(err)
		}
		p, err := harness.Run(harness.Command{Args: []string{"sh", "-c", `trap '' HUP; echo here; exec "$0"`, binary}, Env: []string{"PORT=" + strconv.Itoa(port)}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.Kill)
		wantLog(t, p, `^here$`)
		for range n {
			signal(t, p, syscall.SIGHUP)
		}
		wantLog(t, p, `ssegateway started`)
		signal(t, p, syscall.SIGHUP)
		wantLog(t, p, `\[INFO\] reloaded log_level=info$`)
		signal(t, p, syscall.SIGTERM)
		if code, err := p.Exit(drainLimit + 5*time.Second); err != nil || code != 0 {
			t.Errorf("exit code %d, %v", code, err)
		}
	}
}
