package bench

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
)

// A disconnect that is not reported, or reported twice, fails the run.
func TestBackendCounts(t *testing.T) {
	for name, test := range map[string]struct{ calls, want string }{
		"each once":           {"connect a, connect b, disconnect b, disconnect a", ""},
		"one twice":           {"connect a, disconnect a, disconnect a", "1 told, 0 missing, 1 doubled"},
		"one never":           {"connect a, connect b, disconnect a", "1 told, 1 missing, 0 doubled"},
		"one never connected": {"disconnect a", "0 told, 0 missing, 1 doubled"},
		"in batches":          {"connect a, connect b, disconnects a b", ""},
		"one in two batches":  {"connect a, connect b, disconnects a b, disconnects a", "2 told, 0 missing, 1 doubled"},
		"what is it?":         {"connect a, disconnected a", "0 told, 1 missing, 0 doubled"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBackend(2, "{}")
			for call := range strings.SplitSeq(test.calls, ", ") {
				action, tokens, _ := strings.Cut(call, " ")
				first, _, _ := strings.Cut(tokens, " ")
				events := `{"token":"` + strings.ReplaceAll(tokens, " ", `"},{"token":"`) + `"}`
				body := `{"action":"` + action + `","token":"` + first + `","request":{"url":"/bench/1"},"events":[` + events + `]}`
				b.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body)))
			}
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if err := b.wait(ctx, 0); (err != nil) != strings.Contains(test.want, "1 missing") {
				t.Errorf("wait: %v", err)
			}
			if err := b.err(); err == nil && test.want != "" || err != nil && !strings.HasSuffix(err.Error(), test.want) || err != nil && test.want == "" {
				t.Errorf("%v, want %q", err, test.want)
			}
		})
	}
}

// What was told is answered, even if the backend closes as soon as it knows: without an answer the gateway would tell it again.
func TestBackendAnswersBeforeItCloses(t *testing.T) {
	for range 100 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		b := startBackend(l, 1, "{}")
		tell := func(action string) error {
			resp, err := http.Post("http://"+b.addr, "application/json", strings.NewReader(`{"action":"`+action+`","token":"a","request":{"url":"/bench/0"}}`))
			if err == nil {
				err = resp.Body.Close()
			}
			return err
		}
		if err := tell("connect"); err != nil {
			t.Fatal(err)
		}
		told := make(chan error, 1)
		go func() { told <- tell("disconnect") }()
		for b.err() != nil { // asks more often than wait does
			runtime.Gosched()
		}
		b.close()
		if err := <-told; err != nil {
			t.Fatal(err)
		}
		http.DefaultClient.CloseIdleConnections()
	}
}
