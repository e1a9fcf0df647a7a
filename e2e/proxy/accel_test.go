package proxy

import (
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"ssegateway/e2e/harness"
)

// heldLocation is the location in docs/proxies.md.
func heldLocation(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "proxies.md"))
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile("(?s)```nginx\n# held by the gateway\n(.*?)```").FindSubmatch(text)
	if found == nil {
		t.Fatal("docs/proxies.md has no location of held streams")
	}
	return string(found[1])
}

// An application behind nginx turns requests of its own into streams that the gateway holds.
func TestAccelRedirect(t *testing.T) {
	for protocol, secured := range map[string]*harness.Certificate{"plain HTTP": nil, "TLS and HTTP 2": cert} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			testAccelRedirect(t, secured)
		})
	}
}

func testAccelRedirect(t *testing.T, secured *harness.Certificate) {
	gw := harness.StartGateway(t, binary, nil)
	gw.Backend.On("held", harness.Script{Connect: func(c *harness.Callback) harness.Answer {
		target, err := url.Parse(c.URL)
		if err != nil || target.Path != "/held/orders" {
			return harness.Answer{Status: http.StatusForbidden}
		}
		return harness.Answer{Body: `{"topics": ["` + target.Query().Get("topic") + `"]}`}
	}})
	application := serveApplication(t, func(w http.ResponseWriter, r *http.Request) {
		question, _ := io.ReadAll(r.Body)
		switch {
		case r.URL.Path == "/healthz":
		case r.Header.Get("Cookie") != "session=ada":
			w.WriteHeader(http.StatusUnauthorized)
		default:
			w.Header().Set("Set-Cookie", "seen=1")
			w.Header().Set("Content-Type", "text/html")
			if r.URL.Path == "/orders/8" {
				w.Header().Set("Cache-Control", "max-age=60")
			}
			w.Header().Set("X-Accel-Redirect", "/held/orders?topic=order.7"+string(question))
		}
	})
	nginx := harness.StartFront(t, "nginx", secured, gw.Port, application,
		"        location @come_back {", heldLocation(t)+"        location @come_back {")

	do := func(r harness.Request, status int) (*client, *harness.Head) {
		t.Helper()
		r.Header = append(r.Header, harness.Field{Name: harness.KeyHeader, Value: "held"})
		x, err := nginx.Endpoint.Do(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(x.HangUp)
		head, err := x.Head(harness.Patience)
		if err != nil || head.Status != status {
			t.Fatalf("%s %s: %+v %v, want %d", r.Method, r.Target, head, err, status)
		}
		return &client{Exchange: x, gw: gw, key: "held"}, head
	}
	ada := harness.Field{Name: "cookie", Value: "session=ada"}

	do(harness.Request{Target: "/orders/7"}, http.StatusUnauthorized)
	for _, target := range []string{"/held/orders?topic=order.7", "/events/../held/orders?topic=order.7", "/%68eld/orders"} {
		do(harness.Request{Target: target, Header: []harness.Field{ada}}, http.StatusNotFound)
	}
	if calls := gw.Backend.Calls(func(*harness.Callback) bool { return true }); len(calls) != 0 {
		t.Fatalf("%d callbacks", len(calls))
	}

	ids := map[string]string{} // of the last event, by method
	for i, method := range []string{http.MethodGet, http.MethodPost} {
		r := harness.Request{Method: method, Target: "/orders/7", Header: []harness.Field{ada}}
		topic := "order.7"
		if method == http.MethodPost {
			r.Body = []byte("0")
			topic = "order.70"
		}
		c, head := do(r, http.StatusOK)
		if head.Get("Content-Type") != "text/event-stream" || head.Get("Set-Cookie") != "seen=1" || head.Get("X-Accel-Redirect") != "" {
			t.Errorf("%s: head %+v", method, head)
		}
		calls := gw.Await(t, i+1, "connect", c.mine)
		if got := calls[i]; got.URL != "/held/orders?topic="+topic || got.Headers["cookie"] != "session=ada" {
			t.Errorf("%s: connect %+v", method, got)
		}
		c.token = calls[i].Token
		ids[method] = gw.Publish(t, topic, map[string]any{"data": "shipped"})
		c.wantPosition(t, ids[method])
		c.want(t, "id: "+ids[method]+"\ndata: shipped\n\n")
		c.Leave()
		ends := gw.Await(t, i+1, "disconnect", c.mine)
		if got := ends[i]; got.Token != c.token || got.Reason != "client_closed" {
			t.Errorf("%s: disconnect %+v", method, got)
		}
	}

	// It comes back to the application, and gets what it missed from the gateway.
	missed := gw.Publish(t, "order.7", map[string]any{"data": "missed"})
	c, _ := do(harness.Request{Target: "/orders/7", Header: []harness.Field{ada, {Name: "last-event-id", Value: ids[http.MethodGet]}}}, http.StatusOK)
	c.wantPosition(t, missed)
	c.want(t, "id: "+missed+"\ndata: missed\n\n")

	// This field of the application stands beside the gateway's.
	_, head := do(harness.Request{Target: "/orders/8", Header: []harness.Field{ada}}, http.StatusOK)
	if got := head.Get("Cache-Control"); got != "max-age=60, no-cache, no-transform" {
		t.Errorf("head %+v", head)
	}
}

// wantPosition waits for the position that a stream with topics begins with. It is as long as the id of an event.
func (c *client) wantPosition(t *testing.T, id string) {
	t.Helper()
	if got, err := c.Next(len("id: "+id+"\n\n"), harness.Patience); !strings.HasPrefix(got, "id: ") || !strings.HasSuffix(got, "\n\n") {
		t.Fatalf("the stream begins with %q (%v), want its position", got, err)
	}
}
