package examples

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"ssegateway/e2e/harness"
)

// The recipe for nginx in docs/relay.md: an application answers a POST with X-Accel-Redirect, and the client has a stream
// that the gateway holds.
func TestHeld(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "relay.md"))
	if err != nil {
		t.Fatal(err)
	}
	location := regexp.MustCompile(`(?s)location /held/ \{.*?\n\}`).FindString(string(page))
	gw := harness.StartGateway(t, binary, nil)
	const held = "/held/ticket-1"
	gw.Backend.On("", harness.Script{Connect: func(c *harness.Callback) harness.Answer {
		if c.URL != held {
			return harness.Answer{Status: http.StatusForbidden}
		}
		return harness.Answer{}
	}})
	asked := make(chan string, 1)
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/orders" {
			body, _ := io.ReadAll(r.Body)
			asked <- r.Method + " " + string(body)
			w.Header().Set("X-Accel-Redirect", held)
		}
	}))
	t.Cleanup(app.Close)
	port, err := strconv.Atoi(app.URL[strings.LastIndex(app.URL, ":")+1:])
	if err != nil {
		t.Fatal(err)
	}
	nginx := harness.StartNginx(t, nil, port, strings.ReplaceAll(location, ":3000", ":"+strconv.Itoa(gw.Port)), "")

	x, err := nginx.Endpoint.Do(t.Context(), harness.Request{Method: "POST", Target: "/orders", Body: []byte("two apples")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(x.Leave)
	head, err := x.Head(harness.Patience)
	if err != nil || head.Status != 200 || head.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("%+v %v", head, err)
	}
	if got := <-asked; got != "POST two apples" {
		t.Errorf("the application was asked %q", got)
	}
	connect := gw.Await(t, 1, "connect", func(c *harness.Callback) bool { return c.URL == held })[0]
	gw.Event(t, connect.Token, map[string]any{"data": "accepted"})
	s := &stream{x, "/orders"}
	s.want(t, "", "accepted")
	x.Leave()
	gw.Await(t, 1, "disconnect", func(c *harness.Callback) bool { return c.Token == connect.Token && c.Reason == "client_closed" })

	// From outside nobody reaches the held paths.
	outside, err := nginx.Endpoint.Do(t.Context(), harness.Request{Target: held})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(outside.Leave)
	if head, err := outside.Head(harness.Patience); err != nil || head.Status != http.StatusNotFound {
		t.Errorf("from outside: %+v %v, want 404", head, err)
	}
}
