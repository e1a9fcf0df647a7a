package examples

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"ssegateway/e2e/harness"
)

// tomcat is where Debian has it.
const tomcat = "/usr/share/java/tomcat10-catalina.jar"

// tomcatMain runs the servlet Chat in a Tomcat.
const tomcatMain = `import org.apache.catalina.startup.Tomcat;

class Main {
  public static void main(String[] args) throws Exception {
    var tomcat = new Tomcat();
    tomcat.setBaseDir(System.getenv("TMPDIR"));
    tomcat.setPort(Integer.parseInt(System.getenv("PORT")));
    tomcat.getConnector().setProperty("address", "127.0.0.1");
    var context = tomcat.addContext("", null);
    Tomcat.addServlet(context, "chat", new Chat());
    context.addServletMappingDecoded("/chat", "chat");
    tomcat.start();
    tomcat.getServer().await();
  }
}
`

// relayed are the applications in docs/relay.md: the file, and how it is run.
var relayed = []struct {
	file, install string
	command       []string
}{
	{"asgi.py", "uvicorn", []string{"uvicorn", "asgi:app", "--port", "PORT"}},
	{"express.mjs", "nodejs", []string{"node", "express.mjs"}},
	{"config.ru", "puma", []string{"puma", "-q", "-e", "production", "-b", "tcp://127.0.0.1:PORT"}},
	{"chat.php", "php-cli", []string{"php", "-S", "127.0.0.1:PORT", "chat.php"}},
	{"Chat.java", "default-jdk-headless", []string{"sh", "-c", `export CLASSPATH=.:$(echo /usr/share/java/tomcat10-*.jar | tr " " :); javac *.java && exec java Main`}},
	{"chat.go", "", []string{"sh", "-c", "go build -o chat chat.go && exec ./chat"}},
}

const verse = "To be, or not to be, that is the question"

// Each application in docs/relay.md is relayed as it comes, resumed, and stopped.
func TestRelayed(t *testing.T) {
	for _, app := range relayed {
		t.Run(app.file, func(t *testing.T) {
			t.Parallel()
			s := relaySite(t, app.file, app.install, app.command)
			question := harness.Request{Method: "POST", Target: "/chat", Body: []byte("to be?")}
			words := strings.Fields(verse)

			whole := s.request(t, question, 200)
			for i, word := range words {
				if id := whole.want(t, "", word); !regexp.MustCompile(fmt.Sprintf(`^[\da-f]{32}\.%d$`, i+1)).MatchString(id) {
					t.Fatalf("the id of event %d is %q", i+1, id)
				}
			}
			if text, end, err := whole.Rest(harness.Patience); text != "" || end != harness.Clean {
				t.Errorf("the end is %q, %v, %v", text, end, err)
			}

			left := s.request(t, question, 200)
			id := left.want(t, "", words[0])
			if n := len(s.tokens(t, "")); n != 1 { // it comes before the last word is made
				t.Errorf("%d answers are under way, want 1", n)
			}
			left.Leave()
			last := harness.Field{Name: "Last-Event-ID", Value: id}
			back := s.open(t, "/chat", 200, last)
			back.want(t, "", words[1])
			s.request(t, harness.Request{Method: "DELETE", Target: "/chat", Header: []harness.Field{last}}, 204)
			if _, end, err := back.Rest(harness.Patience); end != harness.Clean {
				t.Errorf("after the stop: %v, %v", end, err)
			}
			if _, ok := s.example.Log.Find(harness.Patience, regexp.MustCompile("stopped")); !ok {
				t.Error("the application did not notice that it was stopped")
			}
		})
	}
}

// relaySite runs an application of docs/relay.md behind a gateway.
func relaySite(t *testing.T, file, install string, command []string) *site {
	t.Helper()
	e := example{name: file, command: command, install: install}
	s := e.prepare(t, "RELAY_URL=APP", "RELAY_PATHS=/chat")
	_, port, _ := strings.Cut(strings.TrimPrefix(s.app, "http://"), ":")
	// Three times as slow as they are, so that there is time to stop them.
	slower := strings.NewReplacer("8000", port, "sleep(0.1)", "sleep(0.3)", "sleep 0.1", "sleep 0.3", "100_000", "300_000", "sleep(100)", "sleep(300)", "100 *", "300 *")
	program := slower.Replace(text(t, "relay.md", file))
	switch filepath.Ext(file) {
	case ".php":
		program = "<?php\n" + program
	case ".java":
		if _, err := os.Stat(tomcat); err != nil {
			t.Fatalf("%s is not there, and this test needs it: install libtomcat10-java, or run `make test-deps`", tomcat)
		}
		s.write(t, "Main.java", tomcatMain)
	case ".mjs":
		s.linkPackages(t)
	}
	s.write(t, file, program)
	s.example = s.command(t, command)
	s.awaitApp(t)
	return s
}

func (s *site) write(t *testing.T, name, content string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(s.files, name), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// linkPackages puts the npm packages beside the files of the example.
func (s *site) linkPackages(t *testing.T) {
	t.Helper()
	packages, err := filepath.Abs("npm/node_modules")
	if err == nil {
		_, err = os.Stat(packages)
	}
	if err != nil {
		t.Fatalf("the npm packages are not installed: run `make test-deps` (%v)", err)
	}
	if err := os.Symlink(packages, filepath.Join(s.files, "node_modules")); err != nil {
		t.Fatal(err)
	}
}

// awaitApp waits until the example accepts connections.
func (s *site) awaitApp(t *testing.T) {
	t.Helper()
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for deadline := time.Now().Add(2 * harness.Patience); ; <-poll.C {
		conn, err := net.Dial("tcp", strings.TrimPrefix(s.app, "http://"))
		if err == nil {
			conn.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the example does not listen: %v\n%s", err, s.example.Log.Text())
		}
	}
}
