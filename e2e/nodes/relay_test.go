package nodes_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"ssegateway/e2e/harness"
)

// relaying are two nodes in front of an application that writes what it is told to.
type relaying struct {
	*nodes

	write chan string // a piece; "": it breaks off
	end   chan struct{}
	gone  chan time.Time
	token chan string
}

func startRelaying(t *testing.T, settings ...string) *relaying {
	t.Helper()
	r := &relaying{write: make(chan string), end: make(chan struct{}), gone: make(chan time.Time, 10), token: make(chan string, 10)}
	app := httptest.NewServer(http.HandlerFunc(r.serve))
	t.Cleanup(app.Close)
	r.nodes = startNodesWith(t, binary, binary, append(settings, "RELAY_URL="+app.URL, "RELAY_PATHS=/app", "RELAY_RESUME_SECONDS=2"))
	return r
}

func (r *relaying) serve(w http.ResponseWriter, in *http.Request) {
	r.token <- in.Header.Get("Sse-Gateway-Token")
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-App", "caf\xe9")
	_ = http.NewResponseController(w).Flush()
	for {
		select {
		case text := <-r.write:
			if text == "" {
				panic(http.ErrAbortHandler)
			}
			_, _ = io.WriteString(w, text)
			_ = http.NewResponseController(w).Flush()
		case <-r.end:
			return
		case <-in.Context().Done():
			r.gone <- time.Now()
			return
		}
	}
}

func (r *relaying) ask(g *harness.Gateway, method, id string, status int, header ...harness.Field) (*harness.Exchange, *harness.Head) {
	r.t.Helper()
	if id != "" {
		header = append(header, harness.Field{Name: "last-event-id", Value: id})
	}
	x, err := g.Endpoint.Do(r.t.Context(), harness.Request{Method: method, Target: "/app", Header: header})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(x.HangUp)
	head, err := x.Head(harness.Patience)
	if err != nil || head.Status != status {
		r.t.Fatalf("%s %s: %+v %v, want %d", method, id, head, err, status)
	}
	return x, head
}

// key asks for an answer at node a.
func (r *relaying) key(header ...harness.Field) (x *harness.Exchange, key string) {
	r.t.Helper()
	x, head := r.ask(r.a, "POST", "", http.StatusOK, header...)
	return x, strings.TrimSuffix(head.Get("Sse-Gateway-Resume"), ".0")
}

func (r *relaying) ends(x *harness.Exchange, want harness.End) {
	r.t.Helper()
	if rest, end, _ := x.Rest(harness.Patience); rest != "" || end != want {
		r.t.Errorf("%.100q %v, want %v", rest, end, want)
	}
}

func answered(key string, n int, data string) string {
	return fmt.Sprintf("data: %s\nid: %s.%d\n\n", data, key, n)
}

// An answer is there at each node, whichever has it.
func TestAnswerElsewhere(t *testing.T) {
	t.Parallel()
	r := startRelaying(t)
	x, key := r.key(harness.Field{Name: "authorization", Value: "Bearer x"})
	mine := harness.Field{Name: "authorization", Value: "Bearer x"}
	r.write <- "data: 1\n\n"
	r.reads(x, answered(key, 1, "1"))
	r.ask(r.b, "GET", key+".0", http.StatusForbidden)
	r.ask(r.b, "GET", key+".2", http.StatusGone, mine)
	r.ask(r.b, "GET", key[:8]+strings.Repeat("0", 24)+".0", http.StatusGone, mine)
	y, head := r.ask(r.b, "GET", key+".0", http.StatusOK, mine)
	if head.Get("X-App") != "caf\xe9" || head.Get("Sse-Gateway-Resume") != key+".0" {
		t.Errorf("%+v", head)
	}
	r.reads(y, answered(key, 1, "1"))
	r.write <- "data: 2\n\n"
	r.reads(x, answered(key, 2, "2"))
	r.reads(y, answered(key, 2, "2"))
	big := strings.Repeat("x", 300_000) // no message has room for it
	r.write <- "data: " + big + "\n\ndata: 4\n\n"
	r.reads(y, answered(key, 3, big)+answered(key, 4, "4"))
	token := <-r.token
	r.want(r.b, "GET", "/internal/connections/"+token, "", http.StatusOK, `"state":"streaming","path":"/app"`)
	r.want(r.b, "GET", "/internal/connections/"+token, "", http.StatusOK, `"readers":2`)

	x.Leave()
	r.await("one reader", func() bool {
		_, body := r.call(r.a, "GET", "/internal/connections/"+token, "")
		return strings.Contains(body, `"readers":1`)
	})
	<-time.After(3 * time.Second) // only time can show it: longer than RELAY_RESUME_SECONDS: the reader elsewhere is one
	r.write <- "data: 5\n\n"
	r.reads(y, answered(key, 5, "5"))
	y.Leave()
	left := time.Now()
	y, _ = r.ask(r.b, "GET", key+".4", http.StatusOK, mine)
	r.reads(y, answered(key, 5, "5"))
	if time.Since(left) > time.Second {
		t.Errorf("back after %v", time.Since(left))
	}
	y.Leave()
	left = time.Now()
	if took := (<-r.gone).Sub(left); took < 1900*time.Millisecond || took > 2500*time.Millisecond {
		t.Errorf("cancelled %v after the last reader left", took)
	}
	r.ask(r.b, "GET", key+".4", http.StatusGone, mine)
	r.ask(r.a, "GET", key+".4", http.StatusGone, mine)
}

// The end is the same at each node.
func TestEndElsewhere(t *testing.T) {
	t.Parallel()
	r := startRelaying(t)
	for i, end := range []func(key string){
		func(string) { r.end <- struct{}{} },
		func(string) { r.write <- "" },
		func(key string) { r.ask(r.b, "DELETE", key+".1", http.StatusNoContent) },
		func(string) { r.want(r.b, "DELETE", "/internal/connections/"+<-r.token, "", http.StatusOK, "ok") },
	} {
		x, key := r.key()
		r.write <- "data: 1\n\n"
		y, _ := r.ask(r.b, "GET", key+".0", http.StatusOK)
		r.reads(x, answered(key, 1, "1"))
		r.reads(y, answered(key, 1, "1"))
		end(key)
		if i < 3 {
			<-r.token
		}
		want := harness.Clean
		if i == 1 {
			want = harness.Cut
		}
		r.ends(x, want)
		r.ends(y, want)
		if i == 1 {
			y, _ = r.ask(r.b, "GET", key+".1", http.StatusOK)
			r.ends(y, harness.Cut)
		} else {
			r.ask(r.b, "GET", key+".1", http.StatusNoContent)
		}
		y, _ = r.ask(r.b, "GET", key+".0", http.StatusOK)
		r.reads(y, answered(key, 1, "1"))
		r.ends(y, want)
	}
}

// An answer that is kept no more goes on for who reads it elsewhere.
func TestUnkeptElsewhere(t *testing.T) {
	t.Parallel()
	r := startRelaying(t, "RELAY_ANSWER_BYTES=1000")
	x, key := r.key()
	r.write <- "data: 1\n\n"
	y, _ := r.ask(r.b, "GET", key+".0", http.StatusOK)
	r.reads(x, answered(key, 1, "1"))
	r.reads(y, answered(key, 1, "1"))
	for n := 2; n < 50; n++ {
		data := strings.Repeat("x", 100*n)
		r.write <- "data: " + data + "\n\n"
		r.reads(x, answered(key, n, data))
		r.reads(y, answered(key, n, data))
	}
	r.ask(r.b, "GET", key+".0", http.StatusGone)
	x.Leave()
	r.write <- "data: last\n\n"
	r.reads(y, answered(key, 50, "last"))
	y.Leave()
	<-r.gone
}

// When the node of an answer dies its readers elsewhere are cut, and when that is known it is gone.
func TestAnswerDies(t *testing.T) {
	t.Parallel()
	r := startRelaying(t)
	_, key := r.key()
	r.write <- "data: 1\n\n"
	y, _ := r.ask(r.b, "GET", key+".0", http.StatusOK)
	r.reads(y, answered(key, 1, "1"))
	r.a.Kill()
	r.ends(y, harness.Cut)
	r.await("gone", func() bool {
		x, err := r.b.Endpoint.Do(t.Context(), harness.Request{Target: "/app", Header: []harness.Field{{Name: "last-event-id", Value: key + ".1"}}})
		if err != nil {
			t.Fatal(err)
		}
		defer x.HangUp()
		head, err := x.Head(harness.Patience)
		if err != nil || head.Status != http.StatusGone && head.Status != http.StatusServiceUnavailable {
			t.Fatal(head, err)
		}
		return head.Status == http.StatusGone
	})
}
