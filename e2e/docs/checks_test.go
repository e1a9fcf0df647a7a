package docs

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"ssegateway/e2e/harness"
)

// nginx checks directives of a server by nginx itself.
func nginx(t *testing.T, b block, _ []block) {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "nginx.conf")
	text := "pid " + dir + "/pid;\nerror_log stderr;\nevents {}\nhttp { access_log off; server { listen 127.0.0.1:1;\n" + b.text + "\n} }\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	path, err := exec.LookPath("nginx")
	if err != nil {
		path = "/usr/sbin/nginx"
	}
	if out, err := exec.CommandContext(t.Context(), path, "-t", "-p", dir, "-c", file).CombinedOutput(); err != nil && !strings.Contains(string(out), "syntax is ok") {
		t.Errorf("%s:%d: %v\n%s", b.page, b.line, err, out)
	}
}

// configuration checks a configuration file by the program itself.
func configuration(t *testing.T, b block, _ []block) {
	t.Helper()
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret")
	file := filepath.Join(dir, "config.yaml")
	text := regexp.MustCompile(`/run/\S+`).ReplaceAllString(b.text, secret)
	for name, content := range map[string]string{secret: strings.Repeat("secret", 8), file: text} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, _ := exec.CommandContext(t.Context(), binary, "check", "--config", file).CombinedOutput() // the backend is not there
	if !strings.Contains(string(out), "ok    settings: valid") {
		t.Errorf("%s:%d: %s", b.page, b.line, out)
	}
}

// chart checks values of the Helm chart by its schema.
func chart(t *testing.T, b block, _ []block) {
	t.Helper()
	var schema map[string]any
	if err := json.Unmarshal([]byte(read(t, "deploy/helm/ssegateway/values.schema.json")), &schema); err != nil {
		t.Fatal(err)
	}
	inSchema(t, b, "", schema, decodeYAML(t, b))
}

func inSchema(t *testing.T, b block, path string, schema map[string]any, values any) {
	t.Helper()
	object, ok := values.(map[string]any)
	properties, closed := schema["properties"].(map[string]any)
	if !ok || !closed {
		return
	}
	for name, value := range object {
		property, ok := properties[name].(map[string]any)
		if !ok {
			t.Errorf("%s:%d: %s.%s is no value of the chart", b.page, b.line, path, name)
			continue
		}
		inSchema(t, b, path+"."+name, property, value)
	}
}

func decodeYAML(t *testing.T, b block) (v map[string]any) {
	t.Helper()
	if err := yaml.Unmarshal([]byte(b.text), &v); err != nil {
		t.Fatalf("%s:%d: %v", b.page, b.line, err)
	}
	return v
}

// pod checks the environment of the gateway's container: each variable is a setting.
func pod(t *testing.T, b block, _ []block) {
	t.Helper()
	decodeYAML(t, b)
	names := regexp.MustCompile(`name: ([A-Z_]+),`).FindAllStringSubmatch(b.text, -1)
	if len(names) == 0 {
		t.Errorf("%s:%d: no settings: the check is blind", b.page, b.line)
	}
	for _, name := range names {
		if !strings.Contains(settings(), "`"+name[1]+"`") {
			t.Errorf("%s:%d: %s is no setting", b.page, b.line, name[1])
		}
	}
}

// script checks the syntax of a script of a page.
func script(t *testing.T, b block, _ []block) {
	t.Helper()
	c := exec.CommandContext(t.Context(), "node", "--input-type=module", "--check", "-")
	c.Stdin = strings.NewReader(b.text)
	if out, err := c.CombinedOutput(); err != nil {
		t.Errorf("%s:%d: %v\n%s", b.page, b.line, err, out)
	}
}

// callback compares a callback with a real one.
func callback(t *testing.T, b block, _ []block) {
	t.Helper()
	w := newWorld(t)
	text := strings.NewReplacer("{ the same }", `{"url": "", "headers": {}}`, `{ "…": "the same" }`, `{"url": "", "headers": {}}`).Replace(b.text)
	shown := object(t, b, text)
	action, _ := shown["action"].(string)
	if action == "disconnect" {
		w.CloseStream(t, w.tokens[0])
	}
	var actual map[string]any
	if err := json.Unmarshal(w.Await(t, 1, action, func(*harness.Callback) bool { return true })[0].Body, &actual); err != nil {
		t.Fatal(err)
	}
	fieldsExist(t, b, shown, actual)
}

// fieldsExist checks that what is shown has no field that the real one has not. It may leave some out.
func fieldsExist(t *testing.T, b block, shown, actual map[string]any) {
	t.Helper()
	for name, value := range shown {
		got, ok := actual[name]
		if !ok {
			t.Errorf("%s:%d shows %q, which is not in %v", b.page, b.line, name, actual)
			continue
		}
		inner, ok := value.(map[string]any)
		if gotInner, both := got.(map[string]any); ok && both {
			fieldsExist(t, b, inner, gotInner)
		}
	}
}

// opening sends the request of a block to the gateway as it stands, and compares the head with the next block.
func opening(t *testing.T, b block, rest []block) {
	t.Helper()
	w := newWorld(t)
	c, err := net.Dial("tcp", w.Endpoint.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if err := c.SetDeadline(time.Now().Add(harness.Patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte(strings.ReplaceAll(strings.ReplaceAll(b.text, "…", "1"), "\n", "\r\n") + "\r\n")); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = c.Close() // the body of a stream has no end for which its Close could wait
		_ = resp.Body.Close()
	}()
	status, fields, _ := strings.Cut(rest[0].text, "\n")
	if got := resp.Proto + " " + resp.Status; got != status {
		t.Errorf("%s:%d shows %q, and it is %q", b.page, rest[0].line, status, got)
	}
	for line := range strings.Lines(fields) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		if got := resp.Header.Get(name); !strings.HasPrefix(got, value) {
			t.Errorf("%s:%d shows %s, and it is %q", b.page, rest[0].line, line, got)
		}
	}
}

// stats compares the counts that a block shows with real ones.
func stats(path string) check {
	return func(t *testing.T, b block, _ []block) {
		t.Helper()
		w := newWorld(t)
		w.Publish(t, "room.7", map[string]any{"data": "x"})
		_, got := w.Call(t, http.MethodGet, path, "")
		shown := object(t, b, b.text)
		if points, ok := shown["points"]; ok {
			shown["points"] = points.([]any)[:1]
		}
		fieldsExist(t, b, shown, object(t, b, got))
	}
}

// repeated sends the first value of a block twice. The second answer is the second value.
func repeated(t *testing.T, b block, _ []block) {
	t.Helper()
	w := newWorld(t)
	body, shown, _ := strings.Cut(b.text, "\n\n")
	body = aToken.ReplaceAllString(body, w.tokens[0])
	w.Call(t, http.MethodPost, "/internal/send", body)
	_, got := w.Call(t, http.MethodPost, "/internal/send", body)
	sameForm(t, b, shown, got)
}

// granted answers a connect with a block. The stream begins as it says.
func granted(t *testing.T, b block, _ []block) {
	t.Helper()
	w := newWorld(t)
	w.Backend.On("", harness.Script{Connect: func(*harness.Callback) harness.Answer { return harness.Answer{Body: b.text} }})
	x := w.open(t, "/granted")
	shown := object(t, b, b.text)
	if shown["events"] != nil {
		var got string
		for want := "event: hello\ndata: welcome\n\n"; !strings.Contains(got, want); {
			piece, err := x.Next(1, harness.Patience)
			if err != nil {
				t.Fatalf("%s:%d: the stream has %q: %v", b.page, b.line, got, err)
			}
			got += piece
		}
	}
	_, list := w.Call(t, http.MethodGet, "/internal/connections?subject="+shown["subject"].(string), "")
	var found struct{ Connections []map[string]any }
	if err := json.Unmarshal([]byte(list), &found); err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(found.Connections, func(c map[string]any) bool { return c["path"] == "/granted" })
	if i < 0 {
		t.Fatalf("%s:%d: it is not in %s", b.page, b.line, list)
	}
	for _, field := range []string{"topics", "overflow"} {
		if want, has := shown[field], found.Connections[i][field]; want != nil && fmt.Sprint(sorted(want)) != fmt.Sprint(sorted(has)) {
			t.Errorf("%s:%d: %s is %v in the list, and %v in the block", b.page, b.line, field, has, want)
		}
	}
}

// sorted sorts a list of strings; anything else stays as it is.
func sorted(v any) any {
	list, ok := v.([]any)
	if ok {
		slices.SortFunc(list, func(a, b any) int { return cmp.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	}
	return v
}

// logged compares a line of the log with a real one.
func logged(t *testing.T, b block, _ []block) {
	t.Helper()
	w := newWorld(t)
	pattern := aToken.ReplaceAllString(regexp.QuoteMeta(strings.TrimSpace(b.text)), "[0-9a-f-]+")
	pattern = regexp.MustCompile(`0b8a2f7e\\-[0-9a-f\\-]+`).ReplaceAllString(pattern, "[0-9a-f-]+")
	w.open(t, "/orders/7")
	if _, ok := w.Log.Find(harness.Patience, regexp.MustCompile(pattern)); !ok {
		t.Errorf("%s:%d: no line of the log is like %s", b.page, b.line, pattern)
	}
}

// sent posts the body of a request that is shown as it goes over the wire.
func sent(t *testing.T, b block, _ []block) {
	t.Helper()
	w := newWorld(t)
	_, body, _ := strings.Cut(b.text, "\n\n")
	if status, got := w.Call(t, http.MethodPost, "/internal/send", aToken.ReplaceAllString(body, w.tokens[0])); status != http.StatusOK {
		t.Errorf("%s:%d: %d %s", b.page, b.line, status, got)
	}
}

// failed compares an error with a real one.
func failed(t *testing.T, b block, _ []block) {
	t.Helper()
	w := newWorld(t)
	if _, got := w.Call(t, http.MethodPost, "/internal/send", `{"token": "gone", "event": {"data": "x"}}`); !reflect.DeepEqual(object(t, b, b.text), object(t, b, got)) {
		t.Errorf("%s:%d: it is %s", b.page, b.line, got)
	}
}

// shownRequest compares what is shown of a client's request with a real one.
func shownRequest(t *testing.T, b block, _ []block) {
	t.Helper()
	w := newWorld(t)
	_, got := w.Call(t, http.MethodGet, "/internal/connections/"+w.tokens[0], "")
	fieldsExist(t, b, object(t, b, "{"+b.text+"}"), object(t, b, got))
}
