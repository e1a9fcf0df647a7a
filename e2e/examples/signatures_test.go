package examples

import (
	"encoding/base64"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	webhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// With a secret the backends in all languages believe a callback that is signed with it, and no other. The gateway
// signs with a former one, too.
func TestSignatures(t *testing.T) {
	secret := "whsec_" + base64.StdEncoding.EncodeToString([]byte("0123456789abcdefghijklmnopqrstuv"))
	former := "whsec_" + base64.StdEncoding.EncodeToString([]byte(strings.Repeat("f", 24)))
	for _, e := range languages {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			e.env = []string{"CALLBACK_SIGNING_SECRET=" + secret}
			s := e.start(t, "CALLBACK_SIGNING_SECRET="+former+","+secret)
			ada := s.open(t, "/events/?name=J%C3%BCrgen", 200)
			ada.want(t, "welcome", "Hello, Jürgen")
			token := s.token(t, "subject=J%C3%BCrgen")
			ada.Leave()
			s.wantDisconnect(t, token, "client_closed")
			s.wantStreams(t, "[]")

			const body = `{"action":"connect","token":"t","request":{"url":"/?name=mallory","headers":{}}}`
			now := time.Now()
			sent := func(at time.Time) string { return strconv.FormatInt(at.Unix(), 10) }
			for _, c := range []struct {
				name, id, timestamp, signature string
				want                           int
			}{
				{"nothing", "", "", "", 401},
				{"no signature", "m", sent(now), "", 401},
				{"another secret", "m", sent(now), sign(t, former, "m", now, body), 401},
				{"another id", "n", sent(now), sign(t, secret, "m", now, body), 401},
				{"another body", "m", sent(now), sign(t, secret, "m", now, body+" "), 401},
				{"another timestamp", "m", sent(now.Add(time.Second)), sign(t, secret, "m", now, body), 401},
				{"another version", "m", sent(now), strings.Replace(sign(t, secret, "m", now, body), "v1,", "v2,", 1), 401},
				{"an old one", "m", sent(now.Add(-10 * time.Minute)), sign(t, secret, "m", now.Add(-10*time.Minute), body), 401},
				{"one of the future", "m", sent(now.Add(10 * time.Minute)), sign(t, secret, "m", now.Add(10*time.Minute), body), 401},
				{"the right one", "m", sent(now), sign(t, secret, "m", now, body), 200},
				{"the right one among others", "m", sent(now), sign(t, former, "m", now, body) + " " + sign(t, secret, "m", now, body), 200},
			} {
				if got, _ := s.callback(t, body, c.id, c.timestamp, c.signature); got != c.want {
					t.Errorf("%s: %d, want %d", c.name, got, c.want)
				}
				if c.want != 200 {
					s.wantStreams(t, "[]")
				}
			}
			s.wantStreams(t, `["mallory"]`)
		})
	}
}

// The pages' servers believe what the backends believe. Theirs is one function, so one of them stands for all.
func TestPagesVerify(t *testing.T) {
	t.Parallel()
	secret := "whsec_" + base64.StdEncoding.EncodeToString([]byte("0123456789abcdefghijklmnopqrstuv"))
	former := "whsec_" + base64.StdEncoding.EncodeToString([]byte(strings.Repeat("f", 24)))
	e := page("chat")
	e.env = []string{"CALLBACK_SIGNING_SECRET=" + secret}
	s := e.start(t, "CALLBACK_SIGNING_SECRET="+former+","+secret)
	s.open(t, "/events/chat?name=ada&room=tea", 200)

	const body = `{"action":"connect","token":"t","request":{"url":"/events/chat?name=mallory&room=tea","headers":{}}}`
	for _, c := range []struct {
		name, secret string
		age          time.Duration
		want         int
	}{
		{"another secret", former, 0, 401},
		{"an old one", secret, 10 * time.Minute, 401},
		{"one of the future", secret, -10 * time.Minute, 401},
		{"the right one", secret, 0, 200},
	} {
		at := time.Now().Add(-c.age)
		if got, _ := s.callback(t, body, "m", strconv.FormatInt(at.Unix(), 10), sign(t, c.secret, "m", at, body)); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
	if got, _ := s.callback(t, body, "", "", ""); got != 401 {
		t.Errorf("without a signature: %d, want 401", got)
	}
}

// sign returns the signature of the specification's library.
func sign(t *testing.T, secret, id string, at time.Time, body string) string {
	t.Helper()
	w, err := webhooks.NewWebhook(secret)
	if err != nil {
		t.Fatal(err)
	}
	signature, err := w.Sign(id, at, []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	return signature
}

// callback sends a callback to the example, as anybody can who reaches it, and returns the answer.
func (s *site) callback(t *testing.T, body, id, timestamp, signature string) (status int, text string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.app+"/callback", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{"webhook-id": id, "webhook-timestamp": timestamp, "webhook-signature": signature} {
		if value != "" {
			req.Header.Set(name, value)
		}
	}
	resp, err := s.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(answer)
}
