package nodes_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"ssegateway/e2e/harness"
)

// block reads the next block of a stream.
func (n *nodes) block(x *harness.Exchange) (text string) {
	n.t.Helper()
	for !strings.HasSuffix(text, "\n\n") {
		next, err := x.Next(1, harness.Patience)
		if err != nil {
			n.t.Fatalf("%q, %v", text, err)
		}
		text += next
	}
	return text
}

// Nodes that read only the topics of their clients give their clients the same as those that read everything: whichever way a client gets its
// topic, and on whichever node an event is published.
func TestNodesReadTheirOwn(t *testing.T) {
	t.Parallel()
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { // it holds each request
		w.Header().Set("Content-Type", "application/vnd.ssegateway+json")
		w.Header().Set("Sse-Gateway-Token", r.Header.Get("Sse-Gateway-Token"))
		_, _ = io.WriteString(w, `{"topics":["held"]}`)
	}))
	t.Cleanup(app.Close)
	n := startNodesWith(t, binary, binary, []string{"NATS_READ=own", "RELAY_URL=" + app.URL, "RELAY_PATHS=/app"})
	// gets publishes on a topic, on either node, and wants a client to get that.
	gets := func(x *harness.Exchange, topic string) (last string) {
		t.Helper()
		for _, g := range []*harness.Gateway{n.b, n.a} {
			status, answer := n.call(g, http.MethodPost, "/internal/publish", `{"topic":"`+topic+`","event":{"data":"x"},"count":"all"}`)
			if status != http.StatusOK || !strings.HasSuffix(answer, `,"receivers":1}`) {
				t.Errorf("%d %s", status, answer)
			}
			last, _, _ = strings.Cut(strings.TrimPrefix(answer, `{"status":"ok","id":"`), `"`)
			if got, want := n.block(x), "id: "+last+"\ndata: x\n\n"; got != want {
				t.Errorf("%q, want %q", got, want)
			}
		}
		return last
	}

	x, token := n.open(n.a, "x", `{"topics":["granted"]}`)
	if first := n.block(x); !strings.HasPrefix(first, "id: ") {
		t.Errorf("it begins with %q", first)
	}
	last := gets(x, "granted")
	n.want(n.b, http.MethodPatch, "/internal/connections/"+token, `{"topics":{"add":["added"]}}`, 200, `"added"`)
	gets(x, "added")

	held, err := n.a.Endpoint.Do(t.Context(), harness.Request{Target: "/app"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(held.HangUp)
	n.block(held)
	gets(held, "held")

	tail, err := n.a.Endpoint.Do(t.Context(), harness.Request{Target: "/internal/tail?topic=tailed"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tail.HangUp)
	n.block(tail)
	n.want(n.b, http.MethodPost, "/internal/publish", `{"topic":"tailed","event":{"data":"y"}}`, 200, `"receivers":0}`)
	if got := n.block(tail); !strings.HasSuffix(got, "data: y\n\n") {
		t.Errorf("a tail gets %q", got)
	}

	// A client that comes back to the other node gets what it missed of a topic that nobody had there.
	x.HangUp()
	n.callback("disconnect", "x")
	n.want(n.a, http.MethodPost, "/internal/publish", `{"topic":"granted","event":{"data":"missed"},"count":"all"}`, 200, `"receivers":0}`)
	n.backend.On("back", harness.Script{Connect: func(*harness.Callback) harness.Answer { return harness.Answer{Body: `{"topics":["granted"]}`} }})
	back, err := n.b.Endpoint.Do(t.Context(), harness.Request{Target: "/stream", Header: []harness.Field{
		{Name: harness.KeyHeader, Value: "back"}, {Name: "last-event-id", Value: last},
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(back.HangUp)
	if got, want := n.block(back), "id: "+last+"\n\n"; got != want {
		t.Errorf("it begins with %q, want %q", got, want)
	}
	if got := n.block(back); !strings.HasSuffix(got, "data: missed\n\n") {
		t.Errorf("it missed %q", got)
	}
}
