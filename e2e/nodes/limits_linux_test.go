package nodes_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"

	"ssegateway/e2e/harness"
)

// With a NATS that takes 64 KiB in a message, all connections with long paths are listed, in
// smaller pages.
func TestSmallMessages(t *testing.T) {
	t.Parallel()
	n := startNodes(t, func(o *natsserver.Options) { o.MaxPayload = 64 << 10 })
	const streams = 30
	for i := range streams {
		x, err := n.a.Endpoint.Do(t.Context(), harness.Request{
			Target: "/" + strings.Repeat("x", 8000), Header: []harness.Field{{Name: harness.KeyHeader, Value: fmt.Sprint(i)}},
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(x.HangUp)
		if head, err := x.Head(harness.Patience); err != nil || head.Status != http.StatusOK {
			t.Fatal(head, err)
		}
	}
	listed := map[string]bool{}
	for cursor := ""; ; {
		_, body := n.call(n.b, http.MethodGet, "/internal/connections?cursor="+cursor, "")
		var page struct {
			Connections []struct{ Token string }
			Next        string   `json:"next_cursor"`
			Unreachable []string `json:"unreachable_nodes"`
		}
		if err := json.Unmarshal([]byte(body), &page); err != nil || page.Unreachable != nil {
			t.Fatal(err, page.Unreachable)
		}
		for _, c := range page.Connections {
			listed[c.Token] = true
		}
		if cursor = page.Next; cursor == "" {
			break
		}
	}
	if len(listed) != streams {
		t.Errorf("%d of %d listed", len(listed), streams)
	}
}

// A batch waits once for a node that stands still.
func TestBatchToFrozenNode(t *testing.T) {
	t.Parallel()
	n := startNodes(t)
	_, token := n.open(n.a, "x", "")
	if err := n.a.Freeze(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = n.a.Signal(syscall.SIGCONT) }()
	send := `{"token":"` + token + `","event":{"data":"x"}}`
	start := time.Now()
	status, body := n.call(n.b, http.MethodPost, "/internal/batch", `{"operations":[`+strings.Repeat(send+",", 19)+send+`]}`)
	if took := time.Since(start); took > 3*time.Second { // one wait is 2 s
		t.Errorf("after %v", took)
	}
	if status != http.StatusOK || strings.Count(body, "NODE_UNREACHABLE") != 20 {
		t.Errorf("%d %s", status, body)
	}
}
