package hostile

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"ssegateway/e2e/harness"
)

var (
	peers       = flag.Int("peers", 250, "hostile connections at a time, of each kind")
	descriptors = flag.Int("descriptors", 256, "limit on open files of the gateway")
	asked       = flag.Int("requests", 10, "requests of each sort that are timed")
	limit       = flag.Duration("limit", 5*time.Second, "the maximum for the 99th percentile of the times")
	recovery    = flag.Duration("recovery", 5*time.Second, "the maximum for the time after the peers' end until all is well again")

	program string // the gateway
	cert    *harness.Certificate
)

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(harness.Main(m, prepare))
}

func prepare(dir string) (err error) {
	program, cert, err = harness.BuildWithCertificate(dir)
	return err
}

const token = "let-me-in"

// Whatever hostile peers do with their connections, health checks, sends and new streams are
// answered soon, during the siege and right after it, and the log is not flooded.
func TestPeers(t *testing.T) {
	var all toll
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprintf("tls=%t", secure), func(t *testing.T) {
			v := newVisitor(t, secure)
			t.Logf("before: %v", v.ask())
			for _, k := range kinds {
				if k.tls == secure {
					t.Run(k.name, func(t *testing.T) { v.besieged(t, k, &all) })
				}
			}
		})
	}
	all.report(t, "")
}

// The same holds behind HAProxy with the shipped configuration, where all clients have one address.
func TestPeersThroughHAProxy(t *testing.T) {
	v := newVisitor(t, false)
	v.proxy = harness.StartFront(t, "haproxy", nil, v.g.Port, v.g.Port).Endpoint
	t.Logf("before: %v", v.ask())
	var all toll
	for _, k := range proxied {
		t.Run(k.name, func(t *testing.T) { v.besieged(t, k, &all) })
	}
	all.report(t, " through HAProxy")
}

// toll is what sieges cost everybody else, at most.
type toll struct {
	sieges int
	worst  map[string]time.Duration // 99th percentiles
	well   time.Duration            // until all was well again
	lines  int                      // of the log, about all of them
	lasted time.Duration            // all of them
}

func (l *toll) report(t *testing.T, where string) {
	harness.Figure(t, "%d kinds of %d hostile peers each%s, %d descriptors: p99 of the worst kind: health %.1f ms, send %.1f ms, new stream %.1f ms, relayed request %.1f ms (bound %v); "+
		"well again after at most %.2f s (bound %v); %d log lines in %.0f s (bound: one a second)", l.sieges, *peers, where, *descriptors,
		milliseconds(l.worst["health"]), milliseconds(l.worst["send"]), milliseconds(l.worst["stream"]), milliseconds(l.worst["relay"]), *limit, l.well.Seconds(), *recovery, l.lines, l.lasted.Seconds())
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func (v *visitor) besieged(t *testing.T, k kind, all *toll) {
	v.t = t
	addr := v.streams().Addr
	if k.internal {
		addr = v.internal
	}
	begin, lines := time.Now(), len(v.g.Log.Lines(0))
	s, err := besiege(t.Context(), addr, k, *peers)
	defer s.end()
	if err != nil {
		t.Error(err)
	}
	besieged := v.ask()
	held, opened := s.held.Load(), s.opened.Load()
	s.end()
	well := v.well(time.Now())
	t.Logf("%d of %d connections still held; meanwhile: %vwell again %v after their end", held, opened, besieged, well.Round(time.Millisecond))
	besieged.within(t)
	if well > *recovery {
		t.Errorf("well again only after %v", well)
	}
	logged := v.complaints(lines)
	if most := 1 + int(time.Since(begin)/time.Second); len(logged) > most {
		t.Errorf("%d log lines about it in %v:\n%s", len(logged), time.Since(begin), strings.Join(logged[:min(len(logged), 20)], "\n"))
	}
	all.sieges++
	if all.worst == nil {
		all.worst = map[string]time.Duration{}
	}
	for what, l := range besieged {
		all.worst[what] = max(all.worst[what], l.Quantile(0.99))
	}
	all.well = max(all.well, well)
	all.lines += len(logged)
	all.lasted += time.Since(begin)
}

// complaints returns the lines of the log, from number first, that are no line of a connection's life.
func (v *visitor) complaints(first int) (lines []string) {
	for _, line := range v.g.Log.Lines(first) {
		if !strings.HasPrefix(line, "[INFO] ") {
			lines = append(lines, line)
		}
	}
	return lines
}

// visitor stands for all other clients.
type visitor struct {
	t        *testing.T
	g        *harness.Gateway
	internal string
	proxy    harness.Endpoint // in front of the public port; zero: none
	client   *http.Client     // to the public port
	token    string           // of an open stream
	request  harness.Request  // for streams, without the target
}

// newVisitor starts a gateway with few descriptors.
func newVisitor(t *testing.T, secure bool, settings ...string) *visitor {
	return newVisitorWith(t, *descriptors, secure, settings...)
}

// newVisitorWith starts a gateway with that limit on open files.
func newVisitorWith(t *testing.T, files int, secure bool, settings ...string) *visitor {
	internal, err := harness.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	application := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
	t.Cleanup(application.Close)
	settings = append(settings, "RELAY_URL="+application.URL, "RELAY_PATHS=/relayed", "HEARTBEAT_INTERVAL_SECONDS=5", fmt.Sprintf("INTERNAL_ADDR=127.0.0.1:%d", internal), "INTERNAL_TOKEN="+token)
	var c *harness.Certificate
	if secure {
		c = cert
	} else {
		settings = append(settings, "H2C=true")
	}
	v := &visitor{t: t, g: harness.StartGateway(t, limitedTo(t, files), c, settings...), internal: fmt.Sprintf("127.0.0.1:%d", internal)}
	v.client = v.g.Endpoint.Client()
	t.Cleanup(v.client.CloseIdleConnections)
	v.stream()
	return v
}

type times map[string]harness.Latencies

// within reports what took longer than it may.
func (m times) within(t *testing.T) {
	t.Helper()
	for what, l := range m {
		if l.Quantile(0.99) > *limit {
			t.Errorf("%s: %v", what, l)
		}
	}
}

func (m times) String() string {
	var b strings.Builder
	for _, what := range []string{"health", "send", "stream", "relay"} {
		fmt.Fprintf(&b, "%s p50 %v p99 %v; ", what, m[what].Quantile(.5).Round(10*time.Microsecond), m[what].Quantile(.99).Round(10*time.Microsecond))
	}
	return b.String()
}

// ask makes each sort of request, each time on a new connection, and measures the times.
func (v *visitor) ask() times {
	m := times{}
	for range *asked {
		for what, f := range map[string]func() error{"health": v.health, "send": v.send, "stream": v.open, "relay": v.relay} {
			begin := time.Now()
			if err := f(); err != nil {
				v.t.Errorf("%s: %v", what, err)
			}
			m[what] = append(m[what], time.Since(begin))
		}
	}
	return m
}

// well returns how long after from it takes until every request succeeds, and hardly any
// connection without a stream is left.
func (v *visitor) well(from time.Time) time.Duration {
	for time.Since(from) < harness.Patience {
		if v.health() == nil && v.send() == nil && v.left() < 5 {
			return time.Since(from)
		}
	}
	return time.Since(from)
}

func (v *visitor) do(method, url string, body []byte) ([]byte, error) {
	v.client.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	client := v.client
	if strings.Contains(url, v.internal) {
		req.Header.Set("Authorization", "Bearer "+token)
		req.Header.Set("Content-Type", "application/json")
		client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusOK {
		err = errors.Join(err, fmt.Errorf("status %d: %s", resp.StatusCode, text))
	}
	return text, err
}

func (v *visitor) health() error {
	_, err := v.do(http.MethodGet, v.g.Endpoint.Scheme()+"://"+v.g.Endpoint.Addr+"/healthz", nil)
	return err
}

// relay has a request relayed that has a body.
func (v *visitor) relay() error {
	_, err := v.do(http.MethodPost, v.g.Endpoint.Scheme()+"://"+v.g.Endpoint.Addr+"/relayed", []byte("question"))
	return err
}

func (v *visitor) send() error {
	body, err := json.Marshal(map[string]any{"token": v.token, "event": map[string]any{"data": "x"}})
	if err == nil {
		_, err = v.do(http.MethodPost, "http://"+v.internal+"/internal/send", body)
	}
	return err
}

// left returns how many connections of the gateway are not streams.
func (v *visitor) left() int {
	text, err := v.do(http.MethodGet, "http://"+v.internal+"/metrics", nil)
	if err != nil {
		return *descriptors
	}
	left := 0
	for line := range strings.Lines(string(text)) {
		var n int
		if strings.HasPrefix(line, "ssegateway_edge_connections{") {
			if _, err := fmt.Sscan(line[strings.LastIndexByte(line, ' ')+1:], &n); err == nil {
				left += n
			}
		}
	}
	return left
}

// open opens a stream and closes it again.
func (v *visitor) open() error {
	x, err := v.begin()
	if err != nil {
		return err
	}
	x.HangUp()
	return nil
}

// streams returns the endpoint at which streams are opened.
func (v *visitor) streams() harness.Endpoint {
	if v.proxy.Addr != "" {
		return v.proxy
	}
	return v.g.Endpoint
}

func (v *visitor) begin() (*harness.Exchange, error) {
	r := v.request
	r.Target = "/events/stream"
	x, err := v.streams().Do(context.Background(), r)
	if err != nil {
		return nil, err
	}
	head, err := x.Head(10 * time.Second)
	if err == nil && head.Status != http.StatusOK {
		err = fmt.Errorf("status %d", head.Status)
	}
	if err != nil {
		x.HangUp()
	}
	return x, err
}

// stream opens the stream to which send sends.
func (v *visitor) stream() {
	x, err := v.begin()
	if err != nil {
		v.t.Fatal(err)
	}
	v.t.Cleanup(x.HangUp)
	v.token = v.g.Await(v.t, 1, "connect", func(*harness.Callback) bool { return true })[0].Token
}
