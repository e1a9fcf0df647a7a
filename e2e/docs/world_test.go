package docs

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"ssegateway/e2e/harness"
)

// world is a gateway as the examples have it: three streams with the topics room.7 and user.42, of the user user-42, and an event that is retained.
type world struct {
	*harness.Gateway

	dir    string // where commands run
	tokens []string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{Gateway: harness.StartGateway(t, binary, nil), dir: t.TempDir()}
	w.Backend.On("", harness.Script{Connect: func(*harness.Callback) harness.Answer {
		return harness.Answer{Body: `{"topics": ["room.7", "user.42"], "subject": "user-42"}`}
	}})
	for i := range 3 {
		w.open(t, "/rooms/"+strconv.Itoa(7+i))
		w.tokens = append(w.tokens, w.Await(t, i+1, "connect", func(*harness.Callback) bool { return true })[i].Token)
	}
	return w
}

// open opens a stream as a browser does, until the end of the test.
func (w *world) open(t *testing.T, path string) *harness.Exchange {
	t.Helper()
	x, err := w.Endpoint.Do(t.Context(), harness.Request{Target: path, Header: []harness.Field{
		{Name: "Accept", Value: "text/event-stream"}, {Name: "Cookie", Value: "session=1"}, {Name: "User-Agent", Value: "Mozilla/5.0"}, {Name: "Referer", Value: "https://app.example.org/chat"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(x.HangUp)
	if head, err := x.Head(harness.Patience); err != nil || head.Status != 200 {
		t.Fatal(head, err)
	}
	return x
}

var (
	aToken  = regexp.MustCompile(`[0-9a-f]{8}-(?:[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|…)`)
	anID    = regexp.MustCompile(`\b[A-Z2-7]{10}\b`)
	aNumber = regexp.MustCompile(`\d+`)
)

// run runs lines of a shell with the program in the path, for the first stream. It returns what they print.
func (w *world) run(t *testing.T, text string) string {
	t.Helper()
	text = strings.ReplaceAll(text, "http://127.0.0.1:3000", "http://"+w.Endpoint.Addr)
	text = strings.ReplaceAll(aToken.ReplaceAllString(text, w.tokens[0]), "sleep 1", "true")
	c := exec.CommandContext(t.Context(), "bash", "-c", text)
	c.Dir = w.dir
	c.Env = append(os.Environ(), "PATH="+filepath.Dir(binary)+":"+os.Getenv("PATH"), "TOKEN="+w.tokens[0], "PORT="+strconv.Itoa(w.Port), "CALLBACK_URL="+w.Backend.URL("/callback"))
	var out, problems bytes.Buffer
	c.Stdout, c.Stderr = &out, &problems
	err := c.Run()
	if failed := regexp.MustCompile(`curl: .*`).FindString(problems.String()); failed != "" || err != nil && out.Len()+problems.Len() == 0 {
		t.Fatalf("%s\n%v %s", text, err, problems.String())
	}
	if strings.Contains(text, "ssegateway ") {
		return out.String() + problems.String()
	}
	return out.String()
}

// request runs a request, and compares the answer with the one that the next block shows, if that is JSON.
func request(t *testing.T, b block, rest []block) {
	t.Helper()
	w := newWorld(t)
	got := w.run(t, b.text)
	if !json.Valid([]byte(firstValue(got))) || strings.Contains(got, `"error"`) {
		t.Fatalf("%s:%d: answered %q", b.page, b.line, got)
	}
	if len(rest) > 0 && rest[0].language == "" && strings.HasPrefix(rest[0].text, "{") {
		sameForm(t, b, firstValue(rest[0].text), firstValue(got))
	}
}

// answer is for the block behind one that request runs, which compares it.
func answer(t *testing.T, b block, _ []block) { object(t, b, firstValue(b.text)) }

// firstValue returns the first JSON value of a text, in which … stands for more of a string or an object.
func firstValue(text string) string {
	var v json.RawMessage
	if err := json.NewDecoder(strings.NewReader(text)).Decode(&v); err != nil {
		return text
	}
	return string(v)
}

// object decodes an object in a page.
func object(t *testing.T, b block, text string) (v map[string]any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%s:%d: %v: %s", b.page, b.line, err, text)
	}
	return v
}

// sameForm checks that two objects have the same fields with values of the same kinds, and what is no name, id or number the same values.
func sameForm(t *testing.T, b block, shown, actual string) {
	t.Helper()
	if s, r := form(object(t, b, shown)), form(object(t, b, actual)); s != r {
		t.Errorf("%s:%d shows\n%s\nand it is\n%s", b.page, b.line, s, r)
	}
}

// form writes a value with the fields in order. Lists count by their first element, and what differs from run to run by its kind.
func form(v any) string {
	switch v := v.(type) {
	case map[string]any:
		var fields []string
		for name, field := range v {
			fields = append(fields, fmt.Sprintf("%q: %s", name, form(field)))
		}
		slices.Sort(fields)
		return "{" + strings.Join(fields, ", ") + "}"
	case []any:
		if len(v) == 0 {
			return "[]"
		}
		return "[" + form(v[0]) + ", …]"
	case string:
		return "text"
	case float64:
		return "number"
	}
	return fmt.Sprint(v)
}

// session runs commands behind a $, and compares what they print with what is shown, but for numbers, names and blanks.
func session(t *testing.T, b block, _ []block) {
	t.Helper()
	w := newWorld(t)
	w.Publish(t, "room.7", map[string]any{"data": "before"})
	broken := "port: 3000\ncalllback_url: http://127.0.0.1:8000\nh2c: maybe\n"
	if err := os.WriteFile(filepath.Join(w.dir, "config.yaml"), []byte(broken), 0o600); err != nil {
		t.Fatal(err)
	}
	parts := regexp.MustCompile(`(?m)^\$ `).Split(b.text, -1)
	for _, part := range parts[1:] {
		command, shown, _ := strings.Cut(part, "\n")
		if strings.Contains(shown, "TOKEN_NOT_FOUND") {
			w.CloseStream(t, w.tokens[0])
		}
		command = strings.ReplaceAll(command, "PORT=3001", "PORT=1")
		if got := masked(w.run(t, command)); !similar(masked(shown), got) {
			t.Errorf("%s:%d: %s shows\n%s\nand prints\n%s", b.page, b.line, command, masked(shown), got)
		}
	}
}

// masked makes the same of what differs from run to run.
func masked(text string) string {
	host, _ := os.Hostname()
	var lines []string
	for line := range strings.Lines(text) {
		line = aToken.ReplaceAllString(line, "TOKEN")
		line = anID.ReplaceAllString(line, "ID")
		line = regexp.MustCompile(`\b(vm|`+regexp.QuoteMeta(host)+`)\b`).ReplaceAllString(line, "HOST")
		line = regexp.MustCompile(`T[\d:.]+Z \(\w+\)|\b(\d+[ms])+\b`).ReplaceAllString(line, "TIME")
		line = aNumber.ReplaceAllString(line, "0")
		if line = strings.Join(strings.Fields(line), " "); line != "" {
			lines = append(lines, strings.ReplaceAll(line, "events", "event"))
		}
	}
	return strings.Join(lines, "\n")
}

// similar compares line by line. Of lines that repeat one is enough.
func similar(shown, got string) bool {
	return slices.Equal(slices.Compact(strings.Split(shown, "\n")), slices.Compact(strings.Split(got, "\n")))
}
