package bench

import (
	"context"
	"net/http"
	"net/http/httptest"
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
			if err := b.wait(ctx); (err != nil) != strings.Contains(test.want, "1 missing") {
				t.Errorf("wait: %v", err)
			}
			if err := b.err(); err == nil && test.want != "" || err != nil && !strings.HasSuffix(err.Error(), test.want) || err != nil && test.want == "" {
				t.Errorf("%v, want %q", err, test.want)
			}
		})
	}
}
