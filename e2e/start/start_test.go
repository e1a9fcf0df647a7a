package start

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"ssegateway/e2e/harness"
	"ssegateway/e2e/harness/chromium"
)

// position is an id in what a page shows: each log has its own.
var position = regexp.MustCompile(`id: [A-Z0-9]+-1`)

// patience is for a compiler, on a machine that is busy.
const patience = 6 * harness.Patience

var (
	binary  string // the gateway
	browser *chromium.Browser
)

func TestMain(m *testing.M) {
	os.Exit(harness.Main(m, func(dir string) (err error) {
		if binary, err = harness.Build(dir); err == nil {
			browser, err = chromium.Start(dir)
		}
		return err
	}, func() error { return browser.Stop() }))
}

// pages are those of docs/start. What is under "What you need" on each is not run here, since there is no network: install
// stands in for it.
var pages = []struct {
	file    string
	needs   []string // files that the test needs, and the packages of Debian that have them
	install func(t *testing.T, n *newcomer)
}{
	{"go.md", nil, nil},
	{"java-spring.md", []string{
		"/usr/bin/javac", "default-jdk-headless",
		"/usr/share/java/spring3-web.servlet.jar", "libspring-web-servlet-java",
		"/usr/share/java/tomcat9-catalina.jar", "libtomcat9-java",
		"/usr/share/java/jackson-databind.jar", "libjackson2-databind-java",
	}, func(t *testing.T, n *newcomer) { n.copy(t, "spring") }},
	{"node-express.md", nil, func(t *testing.T, n *newcomer) {
		packages, err := filepath.Abs("../examples/npm/node_modules")
		if err == nil {
			err = os.Symlink(packages, filepath.Join(n.dir, "node_modules"))
		}
		if err != nil {
			t.Fatal(err)
		}
	}},
	{"php-laravel.md", []string{
		"/usr/share/php/Illuminate/Foundation/Application.php", "php-laravel-framework",
		"/usr/share/php/GuzzleHttp/Client.php", "php-guzzlehttp-guzzle",
	}, func(t *testing.T, n *newcomer) { n.copy(t, "laravel") }},
	{"python-django.md", []string{"/usr/lib/python3/dist-packages/django/__init__.py", "python3-django"}, debianPython},
	{"python-flask.md", []string{"/usr/lib/python3/dist-packages/flask/__init__.py", "python3-flask"}, debianPython},
	{"ruby-rails.md", []string{"/usr/bin/puma", "puma", "/usr/share/doc/ruby-railties", "ruby-railties"}, nil},
}

// debianPython puts the Python that has Debian's packages first, which another one may hide.
func debianPython(t *testing.T, n *newcomer) {
	t.Helper()
	if err := os.Symlink("/usr/bin/python3", filepath.Join(n.bin, "python3")); err != nil {
		t.Fatal(err)
	}
}

// newcomer follows a page.
type newcomer struct {
	dir, bin          string // where the page's files are, and programs that come first in PATH
	port, application int
}

// Whoever follows a page as it is sees the event.
func TestStart(t *testing.T) {
	list, err := filepath.Glob("../../docs/start/*-*.md")
	if err != nil || len(list)+1 != len(pages) { // and go.md
		t.Errorf("%d pages of languages, %d are tested (%v)", len(list)+1, len(pages), err)
	}
	for _, p := range pages {
		t.Run(p.file, func(t *testing.T) {
			t.Parallel()
			for i := 0; i < len(p.needs); i += 2 {
				if _, err := os.Stat(p.needs[i]); err != nil {
					t.Fatalf("%s is not there, and this test needs it: install %s, or run `make test-deps`", p.needs[i], p.needs[i+1])
				}
			}
			n := &newcomer{dir: t.TempDir(), bin: t.TempDir()}
			if p.install != nil {
				p.install(t, n)
			}
			n.follow(t, sections(t, p.file))
		})
	}
}

func (n *newcomer) follow(t *testing.T, page map[string][]block) {
	t.Helper()
	n.ports(t)
	n.gateway(t, commands(t, page["A gateway"]))

	blocks := page["Your application"]
	last := len(blocks) - 1
	for _, b := range blocks[:last] {
		switch {
		case b.file != "":
			n.write(t, b.file, b.text)
		case b.language == "sh":
			n.run(t, b.text)
		default:
			t.Fatalf("nobody knows what to do with %q", b.text)
		}
	}
	app := n.start(t, commands(t, blocks[last:]))
	n.await(t, app, n.application, "/")

	see := page["See it"]
	if len(see) != 3 {
		t.Fatalf("there are %d blocks under \"See it\", want a stream, a send, and what is shown", len(see))
	}
	stream := n.start(t, "exec 2>/dev/null\n"+commands(t, see[:1])) // without curl's figures
	n.awaitStreams(t, stream, 1)
	send := commands(t, see[1:2])
	n.run(t, send)
	shown := regexp.MustCompile(position.ReplaceAllString(see[2].text, `id: [A-Z0-9]+-1`))
	if !stream.Log.Until(2*harness.Patience, func(string) bool { return shown.MatchString(stream.Log.Text()) }) {
		t.Fatalf("the stream shows\n%s\nwant\n%s\nthe application:\n%s", stream.Log.Text(), see[2].text, app.Log.Text())
	}

	tab := browser.Open(t)
	chromium.Run(t, tab, chromedp.Navigate(fmt.Sprintf("http://127.0.0.1:%d/", n.application)))
	n.awaitStreams(t, app, 2)
	n.run(t, send)
	if err := chromium.Wait(t, tab, "() => document.querySelector('li')?.textContent === 'hello'"); err != nil {
		t.Errorf("the page shows no note: %v\nthe application:\n%s", err, app.Log.Text())
	}
}

func (n *newcomer) ports(t *testing.T) {
	t.Helper()
	var err, err2 error
	n.port, err = harness.FreePort()
	n.application, err2 = harness.FreePort()
	if err := errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
}

// gateway runs the page's command for it, in a clone in which it is built.
func (n *newcomer) gateway(t *testing.T, text string) {
	t.Helper()
	build, run, _ := strings.Cut(text, "\n")
	if build != "make build" {
		t.Fatalf("the gateway is built by %q, want make build", build)
	}
	clone := t.TempDir()
	err := os.Mkdir(filepath.Join(clone, "bin"), 0o700)
	if err == nil {
		err = os.Symlink(binary, filepath.Join(clone, "bin", "ssegateway"))
	}
	if err != nil {
		t.Fatal(err)
	}
	gateway := n.startIn(t, clone, run, "PORT="+strconv.Itoa(n.port))
	n.await(t, gateway, n.port, "/healthz")
}

// local has the page's ports replaced by those of this test.
func (n *newcomer) local(text string) string {
	return strings.NewReplacer("8000", strconv.Itoa(n.application), "3000", strconv.Itoa(n.port)).Replace(text)
}

func (n *newcomer) write(t *testing.T, name, text string) {
	t.Helper()
	file := filepath.Join(n.dir, filepath.FromSlash(name))
	err := os.MkdirAll(filepath.Dir(file), 0o700)
	if err == nil {
		err = os.WriteFile(file, []byte(n.local(text)), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// copy puts a folder of this package where the newcomer works.
func (n *newcomer) copy(t *testing.T, folder string) {
	t.Helper()
	if err := os.CopyFS(n.dir, os.DirFS(folder)); err != nil {
		t.Fatal(err)
	}
}

// start runs commands until the end of the test.
func (n *newcomer) start(t *testing.T, text string) *harness.Process {
	t.Helper()
	return n.startIn(t, n.dir, text)
}

func (n *newcomer) startIn(t *testing.T, dir, text string, env ...string) *harness.Process {
	t.Helper()
	path := n.bin + string(os.PathListSeparator) + os.Getenv("PATH")
	p, err := harness.Run(harness.Command{
		Args: []string{"sh", "-ec", n.local(text)}, Dir: dir, All: true, Env: append(env, "PATH="+path, "TMPDIR="+t.TempDir()),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	return p
}

// run runs commands to their end.
func (n *newcomer) run(t *testing.T, text string) {
	t.Helper()
	p := n.start(t, text)
	if code, err := p.Exit(patience); code != 0 || err != nil {
		t.Fatalf("%s: %d %v\n%s", text, code, err, p.Log.Text())
	}
}

// await waits until a process answers a request with 200.
func (n *newcomer) await(t *testing.T, p *harness.Process, port int, path string) {
	t.Helper()
	n.poll(t, p, fmt.Sprintf("http://127.0.0.1:%d%s", port, path), func([]byte) bool { return true })
}

// awaitStreams waits until so many streams are open.
func (n *newcomer) awaitStreams(t *testing.T, p *harness.Process, want int) {
	t.Helper()
	n.poll(t, p, fmt.Sprintf("http://127.0.0.1:%d/internal/stats", n.port), func(body []byte) bool {
		var stats struct{ Connections struct{ Open int } }
		return json.Unmarshal(body, &stats) == nil && stats.Connections.Open == want
	})
}

// poll makes a request until the answer is 200 and as wanted, while a process runs.
func (n *newcomer) poll(t *testing.T, p *harness.Process, url string, want func(body []byte) bool) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); ; <-tick.C {
		status, body, err := n.get(url)
		if err == nil && status == http.StatusOK && want(body) {
			return
		}
		select {
		case <-p.Exited():
			t.Fatalf("it has ended:\n%s", p.Log.Text())
		default:
		}
		if time.Now().After(end) {
			t.Fatalf("%s: %d %s %v\n%s", url, status, body, err, p.Log.Text())
		}
	}
}

func (n *newcomer) get(url string) (status int, body []byte, err error) {
	client := &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(url)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(resp.Body)
	return resp.StatusCode, body, err
}
