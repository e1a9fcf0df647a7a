package server_test

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
	before := buildBefore(t)
	now, err := harness.Build(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	n := startNodesOf(t, before, now)
	t.Run("asked by the new one", func(t *testing.T) { n.cross(t, n.a, n.b) })
	t.Run("asked by the old one", func(t *testing.T) { n.cross(t, n.b, n.a) })
	t.Run("a key that the old one does not know", func(t *testing.T) {
		n.t = t
		x, token := n.open(n.a, "keys", "")
		n.send(n.b, token, `,"event":{"data":"1"},"idempotency_key":"k"`, 503, `NODE_UNREACHABLE`)
		n.send(n.b, token, `,"event":{"data":"2"}`, 200, `{"status":"ok"}`)
		n.reads(x, "data: 2\n\n")
	})
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
