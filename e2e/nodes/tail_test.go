package nodes_test

import (
	"net/http"
	"strings"
	"testing"

	"ssegateway/e2e/harness"
)

// A tail at one node sees what is published at either, and no node takes it for a connection: it is not
// listed, and not told of when its node dies.
func TestTailOfTwoNodes(t *testing.T) {
	t.Parallel()
	n := startNodes(t)
	x, err := n.a.Endpoint.Do(t.Context(), harness.Request{Target: "/internal/tail?topic=t"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(x.HangUp)
	wants := func(data string) {
		t.Helper()
		for got := ""; !strings.HasSuffix(got, "\ndata: "+data+"\n\n"); {
			b, err := x.Next(1, harness.Patience)
			if err != nil {
				t.Fatalf("%q, want %q behind it: %v", got, data, err)
			}
			got += b
		}
	}
	if begin, err := x.Next(4, harness.Patience); begin != "id: " {
		t.Fatalf("%q, %v", begin, err)
	}
	n.want(n.b, http.MethodPost, "/internal/publish", `{"topic":"t","event":{"data":"at b"},"count":"all"}`, 200, `"receivers":0}`)
	n.want(n.a, http.MethodPost, "/internal/publish", `{"topic":"t","event":{"data":"at a"},"count":"all"}`, 200, `"receivers":0}`)
	wants("at b")
	wants("at a")
	n.want(n.b, http.MethodGet, "/internal/connections?topic=t", "", 200, `{"connections":[]}`)
	_, token := n.open(n.a, "held", "")
	n.a.Kill()
	if c := n.callback("disconnect", "held"); c.Token != token || c.Detail != "gateway_lost" {
		t.Errorf("%s, %s", c.Token, c.Detail)
	}
	if calls := n.backend.Calls(func(c *harness.Callback) bool { return c.Token != token }); len(calls) > 0 {
		t.Errorf("the backend was told of the tail: %s", calls[0].Body)
	}
}
