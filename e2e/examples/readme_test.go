package examples

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"ssegateway/e2e/harness"
)

var (
	readmeRow     = regexp.MustCompile("(?m)^\\| \\[(\\w+)\\].* \\| `(.+)` \\|$")
	readmeCommand = regexp.MustCompile(`(?m)^    (.+?)(?: +# .*)?$`)
)

// Every command of the page of the examples does what it says, in the project's directory.
func TestReadme(t *testing.T) {
	content, err := os.ReadFile(path("README.md"))
	if err != nil {
		t.Fatal(err)
	}
	var indented []string
	for _, m := range readmeCommand.FindAllStringSubmatch(string(content), -1) {
		indented = append(indented, m[1])
	}
	if len(indented) != 7 || indented[0] != "make build" {
		t.Fatalf("the commands are %q", indented)
	}
	settings, found := strings.CutSuffix(indented[1], " bin/ssegateway")
	curls := indented[2:]
	rows := readmeRow.FindAllStringSubmatch(string(content), -1)
	if !found || len(rows) != 9 {
		t.Fatalf("%q does not start a gateway, or there are %d examples, not 9", indented[1], len(rows))
	}
	root := filepath.Dir(path())
	for _, row := range rows {
		t.Run(row[1], func(t *testing.T) {
			t.Parallel()
			ports := strings.NewReplacer("http://127.0.0.1:8000", "APP", "8000", "PORT")
			e := example{row[1], []string{"sh", "-ec", "cd " + root + " && " + strings.ReplaceAll(row[2], "8000", "PORT")}, "listening|started", "", nil, nil}
			s := e.start(t, strings.Fields(ports.Replace(settings))...)
			switch row[1] {
			case "browser", "chat", "progress":
				s.wantPage(t, s.app+"/")
			case "llm":
				s.wantPage(t, s.streams+"/events/llm/")
			default:
				s.followReadme(t, curls)
			}
		})
	}
}

// followReadme runs the commands that are for a backend.
func (s *site) followReadme(t *testing.T, curls []string) {
	t.Helper()
	local := strings.NewReplacer("http://127.0.0.1:8000", s.app, "http://127.0.0.1:3000", s.streams)
	stream := s.command(t, []string{"sh", "-c", "exec 2>/dev/null\n" + local.Replace(curls[0])})
	t.Cleanup(stream.Kill)
	for i, want := range []string{"Hello, ada", "hello", "rain at noon", "data: word"} {
		if i > 0 {
			s.run(t, []string{"sh", "-ec", local.Replace(curls[i])})
		}
		if _, ok := stream.Log.Find(harness.Patience, regexp.MustCompile("^data: "+strings.TrimPrefix(want, "data: ")+"$")); !ok {
			t.Fatalf("the stream has no %q:\n%s", want, stream.Log.Text())
		}
	}
	if got := s.run(t, []string{"sh", "-ec", local.Replace(curls[4])}); !strings.Contains(got, `["ada"]`) {
		t.Errorf("%s prints %s", curls[4], got)
	}
}

func (s *site) wantPage(t *testing.T, url string) {
	t.Helper()
	resp, err := s.client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if got := fmt.Sprint(resp.StatusCode, " ", resp.Header.Get("Content-Type")); resp.StatusCode != http.StatusOK || !strings.HasPrefix(got, "200 text/html") {
		t.Errorf("%s: %s", url, got)
	}
}
