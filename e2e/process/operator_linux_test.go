package process

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"ssegateway/e2e/harness"
)

// operated is a gateway with settings by which commands find it.
type operated struct {
	t *testing.T
	*harness.Gateway
	settings []string
}

// operate starts a gateway with these settings, for commands that get them too.
func operate(t *testing.T, certificate *harness.Certificate, settings ...string) *operated {
	t.Helper()
	g := harness.StartGateway(t, binary, certificate, settings...)
	g.Backend.On("room", harness.Script{Connect: func(*harness.Callback) harness.Answer {
		return harness.Answer{Body: `{"topics": ["room.7"], "subject": "ada"}`}
	}})
	settings = append(settings, "PORT="+strconv.Itoa(g.Port), harness.ExitSoon)
	if certificate != nil {
		settings = append(settings, "TLS_CERT_FILE="+certificate.CertFile, "TLS_KEY_FILE="+certificate.KeyFile)
	}
	return &operated{t, g, settings}
}

// open opens a stream with the topic room.7, and returns its token and what it gets.
func (o *operated) open(path string) (token string, lines *bufio.Scanner) {
	o.t.Helper()
	req, err := http.NewRequest(http.MethodGet, o.Endpoint.Scheme()+"://"+o.Endpoint.Addr+path, nil)
	if err != nil {
		o.t.Fatal(err)
	}
	req.Header.Set(harness.KeyHeader, "room")
	resp, err := o.Endpoint.Client().Do(req)
	if err != nil || resp.StatusCode != http.StatusOK {
		o.t.Fatal(resp, err)
	}
	o.t.Cleanup(func() { _ = resp.Body.Close() })
	calls := o.Await(o.t, 1, "connect", func(c *harness.Callback) bool { return c.URL == path })
	return calls[0].Token, bufio.NewScanner(resp.Body)
}

// wants runs a command, which has to succeed with output of this pattern, or to fail with it.
func (o *operated) wants(success bool, pattern string, args ...string) string {
	o.t.Helper()
	out, ok := command(o.settings, args...)
	if ok != success || !regexp.MustCompile(`^(?:`+pattern+`)$`).MatchString(out) {
		o.t.Errorf("%q: success %t, want %t with %s:\n%s", args, ok, success, pattern, out)
	}
	return out
}

// The commands find the gateway by its own settings, wherever it serves the API, and do what the API does.
func TestOperator(t *testing.T) {
	t.Parallel()
	certificate, err := harness.NewCertificate(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	other, err := harness.NewCertificate(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name        string
		certificate *harness.Certificate
		settings    []string
	}{
		{"public port", nil, nil},
		{"TLS", certificate, nil},
		{"token", nil, []string{"INTERNAL_TOKEN_FILE=" + file(t, "secret\n")}},
		{"all addresses", nil, []string{"INTERNAL_ADDR=0.0.0.0:" + strconv.Itoa(ownPort(t))}},
		{"TLS of its own, callers with certificates, token", nil, append(internalTLS("127.0.0.1", ownPort(t), certificate, other), "INTERNAL_TOKEN=secret")},
		{"TLS of its own, at an address that others reach", nil, internalTLS(outerAddress(t), ownPort(t), certificate, other)},
		{"socket, in a file", nil, []string{"CONFIG_FILE=" + file(t, "internal_addr: unix:"+filepath.Join(t.TempDir(), "s")+"\ninternal_token: secret\n")}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			o := operate(t, test.certificate, test.settings...)
			first, lines := o.open("/rooms/7")
			second, _ := o.open("/rooms/8")
			row := func(token, path string) string { return token + ` +open +\d+s +0 +0 +room\.7 +ada +` + path + `\n` }
			o.wants(true, `TOKEN +STATE +AGE .*\n(?:`+row(first, "/rooms/7")+row(second, "/rooms/8")+`|`+row(second, "/rooms/8")+row(first, "/rooms/7")+`)`, "connections")
			page := o.wants(true, `\{.*\}\nthere are more: --after \S+\n`, "connections", "--json", "--limit", "1", "--topic", "room.7", "--subject", "ada")
			_, next, _ := strings.Cut(strings.TrimSpace(page), "--after ")
			rest := o.wants(true, `\{.*\}\n`, "connections", "--json", "--after", next)
			if strings.Contains(page, first) == strings.Contains(rest, first) {
				t.Errorf("two pages: %s%s", page, rest)
			}
			o.wants(true, `TOKEN .*\n`, "connections", "--topic", "room.8")
			o.wants(true, `(?s)token +`+first+`\n.*\npath +/rooms/7\nclient +-\nsubject +ada\ntopics +room\.7\n.*`, "connections", first)
			o.wants(true, "ok\n", "send", first, "shipped", "--event", "order", "--id", "x")
			o.wants(true, `ok, \w+-1, 2 receivers\n`, "publish", "room.7", "hello", "--event", "message")
			o.wants(true, `ok, not stored, 2 receivers\n`, "publish", "room.7", "", "--no-store")
			o.wants(true, `ok, \w+-2, 0 receivers\n`, "publish", "room.8", "--event", "refresh")
			o.wants(true, `(?s) +\S+\n +streams open +2\n.*\n +streams opened +2\n +events written +5\n.*\nlog: 2 events, \d+ bytes, \w+-1 to 2\n`, "stats")
			o.wants(true, `\{"node":.*"open":2.*\}\n`, "stats", "--json")
			o.wants(true, `ok, \w+-3, 0 receivers\n`, "publish", "room.9", "closed", "--retain", "--key", "stage")
			o.wants(false, "INVALID_KEY: .*\n", "publish", "room.9", "closed", "--key", "stage")
			o.wants(true, "ok\n", "send", first, "bye", "--close")
			o.wants(true, "ok\n", "connections", "close", second)
			o.wants(false, "TOKEN_NOT_FOUND: Token not found\n", "connections", "close", second)
			o.wants(false, "TOKEN_NOT_FOUND: Token not found\n", "connections", first)
			o.wants(false, "TOKEN_NOT_FOUND: Token not found\n", "send", first, "x")
			o.wants(false, "INVALID_TOPICS: .*\n", "publish", "", "x")
			var got []string
			for lines.Scan() {
				got = append(got, regexp.MustCompile(`\w{10}-`).ReplaceAllString(lines.Text(), "E-"))
			}
			if want := "id: E-0||event: order|id: x|data: shipped||event: message|id: E-1|data: hello||data: ||data: bye|"; strings.Join(got, "|") != want {
				t.Errorf("the client got %q, want %q", strings.Join(got, "|"), want)
			}
		})
	}
}

// The commands give the token to no other than the gateway: what listens at an address of another host has to show the
// certificate of INTERNAL_TLS_CERT_FILE, or one that the system vouches for.
func TestOperatorChecksTheCertificate(t *testing.T) {
	certificate, err := harness.NewCertificate(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	other, err := harness.NewCertificate(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	settings := append(internalTLS(outerAddress(t), ownPort(t), certificate, other), "INTERNAL_TOKEN=secret")
	o := operate(t, nil, settings...)
	o.wants(true, `(?s).*\n`, "stats")
	o.settings = append(o.settings, "INTERNAL_TLS_CERT_FILE="+other.CertFile, "INTERNAL_TLS_KEY_FILE="+other.KeyFile) // the last of two counts
	o.wants(false, `cannot reach the gateway at https://\S+ \(INTERNAL_ADDR\): x509: certificate .*\n`, "stats")
}

// internalTLS returns the settings of a listener for /internal with TLS and callers that have certificates.
func internalTLS(host string, port int, certificate, callers *harness.Certificate) []string {
	return []string{
		"INTERNAL_ADDR=" + net.JoinHostPort(host, strconv.Itoa(port)), "INTERNAL_TLS_CERT_FILE=" + certificate.CertFile, "INTERNAL_TLS_KEY_FILE=" + certificate.KeyFile,
		"INTERNAL_CLIENT_CA_FILE=" + callers.CertFile,
	}
}

func ownPort(t *testing.T) int {
	t.Helper()
	port, err := harness.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// outerAddress returns an address of this machine that others could reach.
func outerAddress(t *testing.T) string {
	t.Helper()
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && !n.IP.IsLoopback() && n.IP.To4() != nil {
			return n.IP.String()
		}
	}
	t.Fatal("this machine has only loopback addresses, so this test cannot run (a dummy interface is enough)")
	return ""
}

// Data comes from the standard input without the line end behind it, and no data is no event.
func TestOperatorData(t *testing.T) {
	o := operate(t, nil)
	token, lines := o.open("/events")
	for _, input := range []string{"one\n", "two\nlines\r\n", "three"} {
		cmd := exec.Command(binary, "send", token, "-")
		cmd.Env, cmd.Stdin = o.settings, strings.NewReader(input)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	o.wants(false, "nothing to send: .*\n", "send", token)
	o.wants(false, "nothing to publish: .*\n", "publish", "room.7")
	o.wants(true, "ok\n", "send", token, "--close")
	var got []string
	for lines.Scan() {
		got = append(got, lines.Text())
	}
	if want := "|data: one||data: two|data: lines||data: three|"; !strings.HasSuffix(strings.Join(got, "|"), want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// What does not answer, or is no gateway, is named with the setting that its address comes from.
func TestOperatorUnreachable(t *testing.T) {
	port, err := harness.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	o := &operated{t: t, settings: []string{fmt.Sprintf("PORT=%d", port)}}
	refused := `cannot reach the gateway at http://127\.0\.0\.1:` + strconv.Itoa(port) + ` \(PORT\): connection refused; is it running\?\n`
	for _, args := range [][]string{{"connections"}, {"connections", "close", "x"}, {"send", "x", "y"}, {"publish", "x", "y"}, {"stats"}, {"stats", "--watch"}, {"tail", "x"}} {
		o.wants(false, refused, args...)
	}
	o.wants(false, `cannot reach the gateway at http://\[::1\]:1 \(INTERNAL_ADDR\): .*\n`, "stats", "--internal-addr", "[::]:1")
	o.wants(false, `cannot reach the gateway at unix:/nowhere/s \(INTERNAL_ADDR\): no such file or directory; is it running\?\n`, "stats", "--internal-addr", "unix:/nowhere/s")
	o.wants(false, `\[ERROR\] --port: .*\n\[ERROR\] --h2c: .*\n`, "stats", "--port", "x", "--h2c=x")
	backend, err := harness.NewBackend()
	if err != nil {
		t.Fatal(err)
	}
	defer backend.Close()
	address := strings.TrimPrefix(backend.URL(""), "http://")
	o.wants(false, `what listens at http://`+address+` \(INTERNAL_ADDR\) is no gateway: .*\n`, "stats", "--internal-addr", address)
	locked := operate(t, nil, "INTERNAL_TOKEN=secret")
	locked.settings = append(locked.settings, "INTERNAL_TOKEN=other")
	locked.wants(false, "UNAUTHORIZED: .*\n", "stats")
}

// `stats --watch` prints lines, or on a terminal screens, until it is interrupted; then it exits with 0.
func TestWatch(t *testing.T) {
	o := operate(t, nil)
	token, _ := o.open("/events")
	watch := func(out *os.File) *exec.Cmd {
		cmd := exec.Command(binary, "stats", "--watch")
		cmd.Env, cmd.Stdout, cmd.Stderr = o.settings, out, os.Stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		killLate(t, cmd)
		return cmd
	}
	end := func(cmd *exec.Cmd) {
		t.Helper()
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}

	r, w := pipe(t)
	cmd := watch(w)
	lines := bufio.NewScanner(r)
	for _, want := range []string{
		`^\d\d:\d\d:\d\d streams_open=1 .* events_written=0 events_written/s=- `,
		`^\d\d:\d\d:\d\d streams_open=1 .* events_written=1 events_written/s=1 `,
	} {
		if !lines.Scan() || !regexp.MustCompile(want).MatchString(lines.Text()) {
			t.Errorf("%s, want %s", lines.Text(), want)
		}
		o.wants(true, "ok\n", "send", token, "x")
	}
	end(cmd)

	master, terminal := openTerminal(t)
	cmd = watch(terminal)
	_ = terminal.Close() // so that its end is seen
	screens := bufio.NewReader(master)
	var seen strings.Builder
	for !regexp.MustCompile(`(?s)\x1b\[H\x1b\[Jhttp://.*streams open +1.*\x1b\[H\x1b\[J.*streams open +1 +-\r\n.*events written +\d+ +\d+\r\n`).MatchString(seen.String()) {
		b, err := screens.ReadByte()
		if err != nil {
			t.Fatal(err)
		}
		seen.WriteByte(b)
	}
	end(cmd)
}

// killLate kills a command whose output a test waits for, should that not come.
func killLate(t *testing.T, cmd *exec.Cmd) {
	late := time.AfterFunc(2*harness.Patience, func() { _ = cmd.Process.Kill() })
	t.Cleanup(func() { late.Stop() })
}

// The help of a command shows an example, and of the gateway's settings only those that matter to it.
func TestHelpIsShort(t *testing.T) {
	for args, settings := range map[string]int{
		"connections": 4, "connections close": 4, "send": 4, "publish": 4, "stats": 4, "tail": 4, "health": 4, "check": 1, "version": 0,
	} {
		out, ok := command(nil, append(strings.Fields(args), "--help")...)
		_, global, _ := strings.Cut(out, "Global Flags:\n")
		n := len(regexp.MustCompile(`(?m)^ +--`).FindAllString(global, -1))
		if !ok || n != settings || strings.Contains(out, "All settings: ") != (n > 0) {
			t.Errorf("%s: %d settings, want %d:\n%s", args, n, settings, out)
		}
		if args != "health" && args != "version" && !strings.Contains(out, "Examples:\n  ssegateway "+args) {
			t.Errorf("%s: no example:\n%s", args, out)
		}
	}
	for _, args := range [][]string{{"serve", "--help"}, {"--help"}, {"demo", "--help"}} {
		if out, ok := command(nil, args...); !ok || !strings.Contains(out, "--queue-bytes") {
			t.Errorf("%q: settings are missing:\n%s", args, out)
		}
	}
}
