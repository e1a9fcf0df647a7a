package nodes_test

import (
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"ssegateway/e2e/harness"
)

// versionBefore is the last commit whose nodes speak the version of messages before the
// present one. It moves when router.Version does.
const versionBefore = "146fdc7c4b6ac8f4fe1b49314568376908487270"

// buildBefore builds the program of the version before. The test is skipped where the
// history does not reach so far.
func buildBefore(t *testing.T) (binary string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), "git", "cat-file", "-e", versionBefore+"^{commit}").CombinedOutput(); err != nil {
		t.Skipf("the commit %s of the version before is not here, as in a shallow clone: %v %s", versionBefore, err, out)
	}
	dir := t.TempDir()
	run := func(name string, args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", strings.Join(cmd.Args, " "), err, out)
		}
	}
	archive, binary := filepath.Join(dir, "archive.tar"), filepath.Join(dir, "ssegateway")
	repository, err := exec.CommandContext(t.Context(), "git", "rev-parse", "--show-toplevel").Output()
	if err != nil {
		t.Fatal(err)
	}
	run("git", "-C", strings.TrimSpace(string(repository)), "archive", "--output", archive, versionBefore)
	run("tar", "-xf", archive)
	run("go", "build", "-race", "-o", binary, "./cmd/ssegateway")
	return binary
}

// A node of the version before and one of this one are one cluster, while it is upgraded node
// by node.
func TestVersionBefore(t *testing.T) {
	t.Parallel()
	before := buildBefore(t)
	n := startNodesOf(t, before, binary)
	t.Run("asked by the new one", func(t *testing.T) { n.cross(t, n.a, n.b) })
	t.Run("asked by the old one", func(t *testing.T) { n.cross(t, n.b, n.a) })
	t.Run("a key that the old one does not know", func(t *testing.T) {
		n.t = t
		x, token := n.open(n.a, "keys", "")
		n.send(n.b, token, `,"event":{"data":"1"},"idempotency_key":"k"`, 503, `NODE_UNREACHABLE`)
		n.send(n.b, token, `,"event":{"data":"2"}`, 200, `{"status":"ok"}`)
		n.reads(x, "data: 2\n\n")
	})
	t.Run("one log", func(t *testing.T) { n.oneLog(t) })
}

// oneLog publishes by the new node b what the old node a reads: with a key, and to be retained, which waits until no old
// node is there. When a is back it has a gap at what it cannot read, and goes on.
func (n *nodes) oneLog(t *testing.T) {
	n.t = t
	id := func(answer string) string {
		_, rest, _ := strings.Cut(answer, `"id":"`)
		rest, _, _ = strings.Cut(rest, `"`)
		return rest
	}
	publish := func(g *harness.Gateway, data, more string) string {
		t.Helper()
		status, answer := n.call(g, http.MethodPost, "/internal/publish", `{"topic":"log","event":{"data":"`+data+`"}`+more+`}`)
		if status != http.StatusOK {
			t.Fatalf("%s: %d %s", data, status, answer)
		}
		return id(answer)
	}
	begin := func(g *harness.Gateway, key string) *harness.Exchange {
		t.Helper()
		_, answer := n.call(g, http.MethodPost, "/internal/publish", `{"topic":"nobody","event":{"data":""}}`)
		x, _ := n.open(g, key, `{"topics":["log"]}`)
		n.reads(x, "id: "+id(answer)+"\n\n")
		return x
	}
	const retain = `,"retain":true,"key":"k"`
	xa, xb := begin(n.a, "log a"), begin(n.b, "log b")
	first := publish(n.b, "1", `,"idempotency_key":"once"`)
	n.want(n.b, http.MethodPost, "/internal/publish", `{"topic":"log","event":{"data":"1"},"idempotency_key":"once"}`, 200, `"duplicate":true`)
	n.want(n.b, http.MethodPost, "/internal/publish", `{"topic":"log","event":{"data":"x"}`+retain+`}`, 503, "BROKER_UNAVAILABLE")
	n.want(n.b, http.MethodDelete, "/internal/retained?topic=log", "", 503, "BROKER_UNAVAILABLE")
	second := publish(n.a, "2", "")
	for _, x := range []*harness.Exchange{xa, xb} {
		n.reads(x, "id: "+first+"\ndata: 1\n\nid: "+second+"\ndata: 2\n\n")
	}

	if code, err := n.a.Stop(harness.Patience); code != 0 || err != nil {
		t.Fatal(code, err)
	}
	body, answer := `{"topic":"log","event":{"data":"3"}`+retain+`}`, ""
	n.await("retained", func() (done bool) {
		var status int
		status, answer = n.call(n.b, http.MethodPost, "/internal/publish", body)
		return status == http.StatusOK
	})
	third := id(answer)
	n.reads(xb, "id: "+third+"\ndata: 3\n\n")

	n.a.Restart(t)
	n.await("ready", func() bool { status, _ := n.call(n.a, http.MethodGet, "/readyz", ""); return status == http.StatusOK })
	n.await("refused beside it", func() bool {
		status, _ := n.call(n.b, http.MethodPost, "/internal/publish", `{"topic":"other","event":{"data":""},"retain":true}`)
		return status == http.StatusServiceUnavailable
	})
	before := publish(n.b, "4", "")
	// A node answers when it has read its own event. So a has passed all that it cannot read.
	n.await("read by the old node", func() bool {
		status, _ := n.call(n.a, http.MethodPost, "/internal/publish", `{"topic":"nobody","event":{"data":""}}`)
		return status == http.StatusOK
	})
	n.backend.On("back", harness.Script{Connect: func(*harness.Callback) harness.Answer { return harness.Answer{Body: `{"topics":["log"]}`} }})
	x, err := n.a.Endpoint.Do(t.Context(), harness.Request{Target: "/stream", Header: []harness.Field{
		{Name: harness.KeyHeader, Value: "back"}, {Name: "Last-Event-ID", Value: second},
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(x.HangUp)
	if got, err := x.Next(len("event: gap\n"), harness.Patience); err != nil || got != "event: gap\n" {
		t.Errorf("%q, %v, want a gap", got, err)
	}
	fifth := publish(n.b, "5", "")
	n.reads(xb, "id: "+before+"\ndata: 4\n\nid: "+fifth+"\ndata: 5\n\n")
	text := ""
	for end := "id: " + fifth + "\ndata: 5\n\n"; !strings.HasSuffix(text, end); {
		next, err := x.Next(1, harness.Patience)
		if err != nil {
			t.Fatalf("%q, then %v", text, err)
		}
		text += next
	}
	if n := strings.Count(text, "event: gap"); n > 0 {
		t.Errorf("%d gaps more: %q", n, text)
	}
}

// cross asks one node for everything that can be done with the connections of another.
func (n *nodes) cross(t *testing.T, owner, other *harness.Gateway) {
	n.t = t
	key := strings.NewReplacer("/", "-", " ", "-").Replace(t.Name())
	x, token := n.open(owner, key, `{"subject":"ada","topics":["t","ü"],"overflow":"latest"}`)
	if _, err := x.Next(len("id: ABCDEFGHIJ-0\n\n"), harness.Patience); err != nil {
		t.Fatal(err)
	}
	n.send(other, token, `,"event":{"name":"n","id":"7","retry":5,"data":"é\n1"}`, 200, `{"status":"ok"}`)
	n.reads(x, "event: n\nid: 7\nretry: 5\ndata: é\ndata: 1\n\n")
	n.send(other, token, `,"event":{"data":"2"},"wait":"written"`, 200, `{"status":"written"}`)
	n.reads(x, "data: 2\n\n")
	n.want(other, http.MethodPost, "/internal/batch", `{"operations":[{"token":"`+token+`","event":{"data":"3"}},{"token":"`+token+`"},{"topic":"nobody","event":{"data":""}}]}`,
		200, `{"results":[{"status":"ok"},{"status":"ok"},{"status":"ok"`)
	n.reads(x, "data: 3\n\n")

	at := "/internal/connections/" + token
	n.want(other, http.MethodGet, at, "", 200, `"state":"open","path":"/stream","subject":"ada","topics":["t","ü"],"overflow":"latest"`)
	n.want(other, http.MethodGet, "/internal/connections?subject=ada&topic=%C3%BC&limit=1", "", 200, `{"connections":[{"token":"`+token+`"`)
	n.want(other, http.MethodPatch, at, `{"topics":{"add":["u"],"remove":["ü"]}}`, 200, `{"status":"ok","topics":["t","u"]}`)
	n.want(other, http.MethodGet, "/internal/connections?subject=ada&topic=%C3%BC", "", 200, `{"connections":[]}`)
	status, body := n.call(other, http.MethodPost, "/internal/publish", `{"topic":"u","event":{"data":"4"},"count":"all","store":false}`)
	if status != http.StatusOK || body != `{"status":"ok","receivers":1}` {
		t.Errorf("%d %s", status, body)
	}
	n.reads(x, "data: 4\n\n")
	n.want(other, http.MethodGet, "/internal/stats", "", 200, `"connections":{"pending":0,"open":1}`)

	n.want(other, http.MethodPost, at+"/stream", "", 415, `UNSUPPORTED_MEDIA_TYPE`)
	n.stream(other, token, "retry: 9\n\ndata: 5\n\nevent: m\nid: 8\ndata: 6\n\nid: 9\n\n", `{"status":"ok","events":2}`)
	n.reads(x, "retry: 9\n\ndata: 5\n\nevent: m\nid: 8\ndata: 6\n\nid: 9\n\n")

	n.want(other, http.MethodDelete, "/internal/connections?subject=ada", "", 200, `{"closed":1}`)
	if c := n.callback("disconnect", key); c.Reason != "server_closed" {
		t.Errorf("reason %s", c.Reason)
	}
	n.send(other, token, "", 404, `TOKEN_NOT_FOUND`)
	_, token = n.open(owner, key+"2", "")
	n.want(other, http.MethodPatch, "/internal/connections/"+token, `{"topics":{"add":["x"]}}`, 200, `["x"]`)
	n.want(other, http.MethodDelete, "/internal/connections/"+token, "", 200, `{"status":"ok"}`)
	n.want(other, http.MethodDelete, "/internal/connections/"+token, "", 404, `TOKEN_NOT_FOUND`)
}

// stream makes a streaming request of text/event-stream.
func (n *nodes) stream(g *harness.Gateway, token, body, want string) {
	n.t.Helper()
	r, err := http.NewRequestWithContext(n.t.Context(), http.MethodPost, "http://"+g.Endpoint.Addr+"/internal/connections/"+token+"/stream", strings.NewReader(body))
	if err != nil {
		n.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "text/event-stream")
	if status, answer := n.do(r); status != http.StatusOK || answer != want {
		n.t.Errorf("%d %s, want %s", status, answer, want)
	}
}
