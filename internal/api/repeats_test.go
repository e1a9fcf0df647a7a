package api

import (
	"net/http"
	"strconv"
	"strings"
	"testing"

	"ssegateway/internal/gateway"
)

// A key has 1 to 128 visible ASCII characters, in a send, a publish and an operation of a batch, and is checked
// last.
func TestIdempotencyKey(t *testing.T) {
	a, gw := newAPI(t)
	token := open(t, gw, &sink{})
	long := strings.Repeat("k", 128)
	for _, c := range []struct {
		key string
		ok  bool
	}{
		{`"k"`, true},
		{`"!~\"\\{}"`, true},
		{`"\u0041"`, true},
		{`"` + long + `"`, true},
		{`""`, false},
		{`"` + long + `k"`, false},
		{`"a b"`, false},
		{`"\u007f"`, false},
		{`"\n"`, false},
		{`"é"`, false},
		{`null`, false},
		{`1`, false},
		{`true`, false},
		{`["k"]`, false},
		{`{"k":1}`, false},
	} {
		send := `{"token":"` + token + `","event":{"data":"x"},"idempotency_key":` + c.key + `}`
		publication := `{"topic":"t","event":{"data":"x"},"idempotency_key":` + c.key + `}`
		if !c.ok {
			want(t, post(t, a, send), 400, `"code":"INVALID_IDEMPOTENCY_KEY"`)
			want(t, publish(t, a, publication), 400, `"code":"INVALID_IDEMPOTENCY_KEY"`)
			continue
		}
		want(t, post(t, a, send), 200, `{"status":"ok"}`)
		want(t, post(t, a, send), 200, `{"status":"ok","duplicate":true}`)
		want(t, publish(t, a, publication), 200, `"receivers":0}`)
		want(t, publish(t, a, publication), 200, `"receivers":0,"duplicate":true}`)
		want(t, do(t, a, http.MethodPost, "/internal/batch", `{"operations":[`+send+`,`+publication+`]}`), 200, `{"results":[{"status":"ok","duplicate":true},{"status":"ok","id":"`)
	}
	want(t, post(t, a, `{"token":"`+token+`","wait":1,"idempotency_key":1}`), 400, "INVALID_WAIT")
	want(t, publish(t, a, `{"topic":"t","event":{"data":"x"},"count":1,"idempotency_key":1}`), 400, "INVALID_COUNT")
}

// Every answer of a repeat says that it is one; another request with the key is a 422.
func TestRepeats(t *testing.T) {
	a, gw := newAPI(t)
	s := &sink{}
	token := openWith(t, gw, s, gateway.Grant{Topics: []string{"t"}})
	begin, _, _ := s.got()
	pending := open(t, gw, nil)
	once := func(token, key, rest string) string {
		return `{"token":"` + token + `","idempotency_key":"` + key + `"` + rest + `}`
	}
	for key, c := range map[string]struct{ token, rest, status string }{
		"ok":       {token, `,"event":{"data":"1"}`, "ok"},
		"written":  {token, `,"event":{"data":"2"},"wait":"written"`, "written"},
		"nothing":  {token, ``, "ok"},
		"buffered": {pending, `,"event":{"data":"3"}`, "buffered"},
	} {
		want(t, post(t, a, once(c.token, key, c.rest)), 200, `{"status":"`+c.status+`"}`)
		want(t, post(t, a, once(c.token, key, c.rest)), 200, `{"status":"`+c.status+`","duplicate":true}`)
		want(t, post(t, a, once(c.token, key, `,"event":{"data":"other"}`)), 422, `"code":"IDEMPOTENCY_KEY_REUSED"`)
	}
	first := publish(t, a, `{"topic":"t","event":{"data":"4"},"idempotency_key":"k"}`)
	want(t, first, 200, `"receivers":1}`)
	again := publish(t, a, `{"topics":["t","t"],"event":{"data":"4"},"idempotency_key":"k","count":"all"}`)
	want(t, again, 200, strings.TrimSuffix(first.Body.String(), "}")+`,"duplicate":true}`)
	want(t, publish(t, a, `{"topic":"t","event":{"data":"4"},"idempotency_key":"k","store":false}`), 422, `"code":"IDEMPOTENCY_KEY_REUSED"`)
	want(t, publish(t, a, `{"topic":"t","event":{"data":"5"},"idempotency_key":"l","store":false}`), 200, `{"status":"ok","receivers":1}`)
	want(t, publish(t, a, `{"topic":"t","event":{"data":"5"},"idempotency_key":"l","store":false}`), 200, `{"status":"ok","receivers":1,"duplicate":true}`)

	want(t, post(t, a, once(token, "bye", `,"close":true`)), 200, `{"status":"ok"}`)
	want(t, post(t, a, once(token, "bye", `,"close":true`)), 200, `{"status":"ok","duplicate":true}`)
	want(t, post(t, a, once(token, "new", ``)), 404, "TOKEN_NOT_FOUND")
	want(t, post(t, a, once("x", "k", ``)), 404, "TOKEN_NOT_FOUND")
	text, _, _ := s.got()
	for n := range 5 {
		if data := "data: " + strconv.Itoa(n+1) + "\n\n"; n != 2 && strings.Count(strings.TrimPrefix(text, begin), data) != 1 {
			t.Errorf("received %q", text)
		}
	}
	if counts := sendCounts(a); counts["duplicate"] != 5 || counts["ok"] != 3 || counts["invalid"] != 4 {
		t.Errorf("counted %v", counts)
	}
	if a.InvalidPublishes() != 1 {
		t.Errorf("%d invalid publishes", a.InvalidPublishes())
	}
}

// A send that came by another way than net/http is told as a repeat too.
func TestSenderRepeats(t *testing.T) {
	a, gw := newAPI(t)
	s := &sink{}
	token := open(t, gw, s)
	sender := a.NewSender()
	send := func(rest string) (int, string) {
		status, answer, later := sender.Send(t.Context(), []byte(`{"token":"`+token+`","event":{"data":"x"},"idempotency_key":"k"`+rest+`}`))
		if later != nil {
			status, answer = later()
		}
		return status, string(answer)
	}
	for n, c := range []struct {
		rest   string
		status int
		want   string
	}{
		{"", 200, `{"status":"ok"}`},
		{"", 200, `{"status":"ok","duplicate":true}`},
		{`,"wait":"written"`, 200, `{"status":"ok","duplicate":true}`},
		{`,"close":true`, 422, "IDEMPOTENCY_KEY_REUSED"},
	} {
		if status, answer := send(c.rest); status != c.status || !strings.Contains(answer, c.want) {
			t.Errorf("%d: %d %s", n, status, answer)
		}
	}
	// The key does not share the bytes of the sender's buffer, which are used again.
	want(t, post(t, a, `{"token":"`+token+`","event":{"data":"x"},"idempotency_key":"k"}`), 200, "duplicate")
	if text, _, _ := s.got(); text != "data: x\n\n" {
		t.Errorf("received %q", text)
	}
}
