package examples

import (
	"encoding/base64"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"ssegateway/e2e/harness"
)

// The backends in all languages take ends that are told together, signed, and forget each of them and no other. They
// refuse what they do not know, so that nobody takes it for done.
func TestBatches(t *testing.T) {
	secret := "whsec_" + base64.StdEncoding.EncodeToString([]byte("0123456789abcdefghijklmnopqrstuv"))
	for _, e := range languages {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			e.env = []string{"CALLBACK_SIGNING_SECRET=" + secret}
			s := e.start(t, "CALLBACK_SIGNING_SECRET="+secret, "CALLBACK_BATCH=10")
			const streams = 25
			for range streams {
				s.open(t, "/events/?name=ada", 200).want(t, "welcome", "Hello, ada")
			}
			stays := s.open(t, "/events/?name=bob", 200)
			stays.want(t, "welcome", "Hello, bob")
			s.wantStreams(t, "["+strings.TrimPrefix(strings.Repeat(` "ada"`, streams), " ")+` "bob"]`)

			// Many ends at once.
			s.closeStreams(t, "subject=ada")
			s.wantEnds(t, streams)
			s.wantStreams(t, `["bob"]`)
			s.do(t, "POST", "/send?name=bob", "still there", 200, nil)
			stays.want(t, "note", "still there")

			// One end alone is a batch, too.
			stays.Leave()
			s.wantEnds(t, streams+1)
			s.wantStreams(t, "[]")
			for line := range strings.Lines(s.gateway.Log.Text()) {
				if strings.Contains(line, "callback action=disconnect") && !delivered.MatchString(line) {
					t.Errorf("an end was told otherwise than in a batch that was taken: %s", line)
				}
			}

			for _, body := range []string{
				`{"action":"reconnect","token":"t","request":{"url":"/?name=mallory","headers":{}}}`,
				`{"token":"t","request":{"url":"/?name=mallory","headers":{}}}`,
			} {
				now := time.Now()
				status, text := s.callback(t, body, "m", strconv.FormatInt(now.Unix(), 10), sign(t, secret, "m", now, body))
				if status != http.StatusBadRequest || !strings.Contains(text, "unknown action") {
					t.Errorf("%s: %d %s, want a 400 that says so", body, status, text)
				}
			}
			s.wantStreams(t, "[]")
		})
	}
}

var delivered = regexp.MustCompile(`callback action=disconnects status=200 result=delivered .*events=([0-9]+) `)

// wantEnds waits until the example has taken so many ends in batches, none of which has more than ten.
func (s *site) wantEnds(t *testing.T, want int) {
	t.Helper()
	ends := 0
	s.gateway.Log.Until(harness.Patience, func(line string) bool {
		if m := delivered.FindStringSubmatch(line); m != nil {
			n, err := strconv.Atoi(m[1])
			if err != nil || n < 1 || n > 10 {
				t.Errorf("a batch of %s ends, with CALLBACK_BATCH=10", m[1])
			}
			ends += n
		}
		return ends >= want
	})
	if ends != want {
		t.Fatalf("%d ends were taken, want %d", ends, want)
	}
}
