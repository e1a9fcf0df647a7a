package contract

import (
	"encoding/json"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"ssegateway/e2e/harness"
)

// Each case's requests carry canaries wherever the contract has something secret. What the cases send as
// data and as idempotency keys counts as one too. None may ever be in the log, at debug
// level too, or in the metrics, of any gateway of the suite.
const (
	canaryQuery    = "canary-query-0d61f2"
	canaryCookie   = "canary-cookie-5b90ce"
	canaryAuth     = "canary-authorization-e17a44"
	canaryCallback = "canary-callback-73cc08"
)

// canaryBook is what must not be seen, and what has been looked at.
type canaryBook struct {
	mu      sync.Mutex
	sent    map[string]int // how often each was sent; a text that a case has sent among them
	logs    int            // of gateways, scanned
	lines   int
	pages   int // of metrics, scanned
	series  int // the most that a gateway had
	scanned int // bytes
}

var canaries = &canaryBook{sent: map[string]int{}}

// maxSeries bounds the series of a gateway's metrics.
const maxSeries = 250

// buckets is a line of a histogram, which is by action only.
var buckets = regexp.MustCompile(`^\w+_bucket\{(action="\w+",)?le="[^"]+"\} `)

// distinct is how long a text has to be, in bytes, so that no line has it by chance.
const distinct = 12

// send notes that a secret is sent.
func (b *canaryBook) send(secret string) {
	if len(secret) < distinct {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sent[secret]++
}

// request returns the request of a client with canaries, where the case has nothing of its own.
func (b *canaryBook) request(r harness.Request) harness.Request {
	if r.Raw != "" {
		return r
	}
	for _, f := range r.Header {
		b.field(f.Name, f.Value)
	}
	if _, query, _ := strings.Cut(r.Target, "?"); query != "" {
		b.send(query)
	}
	for name, value := range map[string]string{"cookie": "session=" + canaryCookie, "authorization": "Bearer " + canaryAuth} {
		if !slices.ContainsFunc(r.Header, func(f harness.Field) bool { return strings.EqualFold(f.Name, name) }) {
			r.Header = append(r.Header[:len(r.Header):len(r.Header)], harness.Field{Name: name, Value: value})
		}
	}
	if !strings.ContainsAny(r.Target, "?*") {
		r.Target += "?key=" + canaryQuery
		b.send(canaryQuery)
	}
	b.send(canaryCookie)
	b.send(canaryAuth)
	return r
}

// field notes the secret of a header field.
func (b *canaryBook) field(name, value string) {
	switch strings.ToLower(name) {
	case "authorization":
		_, credentials, _ := strings.Cut(value, " ")
		b.send(credentials)
	case "cookie":
		b.send(value)
	}
}

// setting notes what is secret in a setting of a gateway.
func (b *canaryBook) setting(s string) {
	switch name, value, _ := strings.Cut(s, "="); name {
	case "INTERNAL_TOKEN", "CALLBACK_TOKEN", "CALLBACK_SIGNING_SECRET":
		for secret := range strings.SplitSeq(value, ",") {
			b.send(strings.TrimSpace(secret))
		}
	case "CALLBACK_URL":
		_, query, _ := strings.Cut(value, "?")
		b.send(query)
	}
}

// call notes what is secret in the body of a request of the backend: data of events, keys.
func (b *canaryBook) call(body string) {
	var v any
	if json.Unmarshal([]byte(body), &v) != nil {
		return
	}
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case []any:
			for _, each := range v {
				walk(each)
			}
		case map[string]any:
			for name, each := range v {
				text, ok := each.(string)
				switch {
				case !ok:
					walk(each)
				case name == "data" || name == "idempotency_key":
					b.send(text)
				}
			}
		}
	}
	walk(v)
}

// scan looks for canaries in what a gateway has shown.
func (b *canaryBook) scan(t *testing.T, where, text string) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for secret := range b.sent {
		if at := strings.Index(text, secret); at >= 0 {
			t.Errorf("%.40q is in %s: %q", secret, where, text[max(0, at-200):min(len(text), at+len(secret)+100)])
		}
	}
	b.scanned += len(text)
}

// scanLog scans the log of a gateway that has ended.
func (b *canaryBook) scanLog(t *testing.T, gw *harness.Process) {
	t.Helper()
	text := gw.Log.Text()
	b.scan(t, "the log", text)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.logs++
	b.lines += strings.Count(text, "\n")
}

// scanMetrics scans the metrics of a gateway that is about to be stopped, if it still answers.
func (b *canaryBook) scanMetrics(t *testing.T, s *Site) {
	t.Helper()
	if coreOnly {
		return // metrics are beyond the core: there /metrics may be a stream
	}
	resp, err := s.client.Get(s.endpoint.Scheme() + "://" + s.endpoint.Addr + "/metrics")
	if err != nil {
		return // the case has ended it
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		return // the case's access rules
	}
	b.scan(t, "the metrics", string(text))
	series := 0
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "#") {
			series++
		}
		if strings.Contains(line, "_bucket{") && !buckets.MatchString(line) {
			t.Errorf("a histogram by something else than the action: %s", line)
		}
	}
	if series > maxSeries {
		t.Errorf("%d series, want at most %d", series, maxSeries)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pages++
	b.series = max(b.series, series)
}

// report checks that there was something to find, and reports what the whole suite has shown.
func (b *canaryBook) report(t *testing.T) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	times := 0
	for _, canary := range []string{canaryQuery, canaryCookie, canaryAuth, canaryCallback} {
		if b.sent[canary] == 0 {
			t.Errorf("%s was never sent", canary)
		}
	}
	for _, n := range b.sent {
		times += n
	}
	if b.logs == 0 || b.pages == 0 && !coreOnly || len(b.sent) < 50 {
		t.Errorf("%d secrets were sent, and %d logs and %d pages of metrics were looked at", len(b.sent), b.logs, b.pages)
	}
	if !t.Failed() {
		harness.Figure(t, "%d secrets, sent %d times over the whole suite: 0 in %d lines of %d logs at debug level and 0 in %d pages of metrics; at most %d series (bound %d)",
			len(b.sent), times, b.lines, b.logs, b.pages, b.series, maxSeries)
	}
}
