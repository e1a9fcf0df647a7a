package hostile

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"ssegateway/e2e/harness"
)

var (
	siblings = flag.Int("siblings", 10, "streams that share an HTTP/2 connection with one that is stalled")
	rounds   = flag.Int("rounds", 1, "how often a stream is stalled")
	resets   = flag.Int("resets", 3000, "how many HTTP/2 streams are reset as soon as they were asked for")
	slower   = flag.Float64("slower", 50, "how many times as long events may take beside a stalled stream")
	growth   = flag.Int("growth", 96, "how many MiB more may be resident while streams are reset")
)

// beside is how long events are timed, with a stalled stream and without one: less than the 10 s
// after which a stalled stream is cut.
const beside = 2 * time.Second

// A stream whose client takes nothing does not delay the others of its HTTP/2 connection. It is cut,
// and they are not.
func TestStalledStream(t *testing.T) {
	g := harness.StartGateway(t, program, nil, "H2C=true")
	e := g.Endpoint
	e.Protocol = harness.H2C
	var calm, stalled harness.Latencies
	for round := range *rounds {
		c := newShared(t, g, e, fmt.Sprint(round), *siblings)
		calm = append(calm, c.events(t, nil)...)
		victim := c.open(t, fmt.Sprintf("stalled-%d", round))
		victim.Stop()
		stalled = append(stalled, c.events(t, victim)...)
		for c.send(victim, strings.Repeat("s", 64<<10)) == nil { // until its queue is full
		}
		g.Await(t, 1, "disconnect", func(call *harness.Callback) bool {
			if call.Token != victim.token {
				return false
			}
			if call.Reason != "error" || call.Detail != "slow_consumer" {
				t.Errorf("the stalled stream ended with %s, %q", call.Reason, call.Detail)
			}
			return true
		})
		c.events(t, nil) // each still gets its events
		c.conn.HangUp()
	}
	before, with := calm.Quantile(0.99), stalled.Quantile(0.99)
	if float64(with) > *slower*float64(before) {
		t.Errorf("beside a stalled stream events take p99 %v, without it %v", with, before)
	}
	harness.Figure(t, "one of %d streams of an HTTP/2 connection is stalled: p99 of events of the others %.2f ms, without it %.2f ms (bound: %g times as long), %d events",
		*siblings+1, milliseconds(with), milliseconds(before), *slower, len(calm)+len(stalled))
}

// shared is an HTTP/2 connection with several streams, whose client lets the connection's window
// never run out: what a stream has not taken then holds up that stream alone (RFC 9113 section 5.2).
type shared struct {
	g       *harness.Gateway
	e       harness.Endpoint
	conn    *harness.HTTP2
	streams []*timed
	client  *http.Client
}

// timed is a stream whose events are timed.
type timed struct {
	*harness.Exchange
	token string
	seen  int // pieces
}

func newShared(t *testing.T, g *harness.Gateway, e harness.Endpoint, name string, streams int) *shared {
	t.Helper()
	nc, err := e.Dial(t.Context(), 0, "")
	if err != nil {
		t.Fatal(err)
	}
	c := &shared{g: g, e: e, client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 8}}}
	t.Cleanup(c.client.CloseIdleConnections)
	if c.conn, err = harness.NewHTTP2(nc); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.conn.HangUp)
	if err := http2.NewFramer(nc, nil).WriteWindowUpdate(0, 1<<30); err != nil {
		t.Fatal(err)
	}
	for i := range streams {
		c.streams = append(c.streams, c.open(t, fmt.Sprintf("%s-%d", name, i)))
	}
	return c
}

func (c *shared) open(t *testing.T, key string) *timed {
	t.Helper()
	x, err := c.conn.Do(c.e, harness.Request{Method: http.MethodGet, Host: "x", Target: "/" + key, Header: []harness.Field{{Name: harness.KeyHeader, Value: key}}})
	if err != nil {
		t.Fatal(err)
	}
	if head, err := x.Head(harness.Patience); err != nil || head.Status != http.StatusOK {
		t.Fatal(head, err)
	}
	x.Begin(len(harness.Heartbeat), harness.Patience)
	call := c.g.Await(t, 1, "connect", func(call *harness.Callback) bool { return call.Key == key })[0]
	return &timed{Exchange: x, token: call.Token, seen: len(x.Pieces())}
}

// events sends events to each stream in turn, and times each until it has come. Between them go
// events to the stalled stream, if there is one, or else to a stream that takes them.
func (c *shared) events(t *testing.T, stalled *timed) (took harness.Latencies) {
	t.Helper()
	var sending sync.WaitGroup
	done := make(chan struct{})
	target := stalled
	if target == nil {
		target = c.open(t, fmt.Sprintf("taking-%d", time.Now().UnixNano()))
		defer target.Leave()
	}
	defer sending.Wait()
	defer close(done)
	sending.Go(func() {
		ticker := time.NewTicker(pace)
		defer ticker.Stop()
		for {
			select {
			case <-done:
				return
			case <-ticker.C:
			}
			if err := c.send(target, strings.Repeat("s", 1000)); err != nil {
				t.Error(err)
			}
		}
	})
	ticker := time.NewTicker(pace / 4)
	defer ticker.Stop()
	for i, end := 0, time.Now().Add(beside); time.Now().Before(end); i++ {
		<-ticker.C
		x := c.streams[i%len(c.streams)]
		begin := time.Now()
		if err := c.send(x, "event"); err != nil {
			t.Fatal(err)
		}
		if _, err := x.Next(len("data: event\n\n"), harness.Patience); err != nil {
			t.Fatalf("an event of a sibling did not come: %v", err)
		}
		pieces := x.PiecesFrom(x.seen)
		x.seen += len(pieces)
		took = append(took, pieces[len(pieces)-1].At.Sub(begin))
	}
	return took
}

func (c *shared) send(x *timed, data string) error {
	body, err := json.Marshal(map[string]any{"token": x.token, "event": map[string]any{"data": data}})
	if err != nil {
		return err
	}
	resp, err := c.client.Post("http://"+c.e.Addr+"/internal/send", "application/json", bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d: %s", resp.StatusCode, text)
	}
	return err
}

// Streams that are reset as soon as they were asked for cost bounded memory, whatever their number,
// and others connect meanwhile.
func TestRapidResets(t *testing.T) {
	v := newVisitor(t, false, "LOG_LEVEL=warn")
	v.ask()
	before := memory(t, v.g.Process, "VmRSS")
	// From here on VmHWM is the most that is resident; see proc(5).
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", v.g.Pid()), []byte("5"), 0); err != nil {
		t.Fatal(err)
	}
	ended := make(chan int, 1)
	connections := 0
	go func() {
		sent := 0
		for sent < *resets && t.Context().Err() == nil {
			connections++
			sent += reset(t, v.g.Endpoint.Addr, *resets-sent)
		}
		ended <- sent
	}()
	meanwhile := v.ask()
	for sent := 0; sent == 0; {
		select {
		case sent = <-ended:
		default:
			for what, l := range v.ask() {
				meanwhile[what] = append(meanwhile[what], l...)
			}
		}
	}
	grown := memory(t, v.g.Process, "VmHWM") - before
	if grown > int64(*growth)<<20 {
		t.Errorf("%d MiB more resident", grown>>20)
	}
	meanwhile.within(t)
	harness.Figure(t, "%d rapid resets on %d connections: memory grew by at most %.1f MiB (bound %d MiB); p99 of a new stream meanwhile %.1f ms",
		*resets, connections, float64(max(grown, 0))/(1<<20), *growth, milliseconds(meanwhile["stream"].Quantile(0.99)))
}

// reset asks for up to that many streams on one connection, and resets each at once. It returns how
// many it sent before the gateway closed the connection.
func reset(t *testing.T, addr string, most int) (sent int) {
	nc, err := net.DialTimeout("tcp", addr, harness.Patience)
	if err != nil {
		t.Error(err)
		return most
	}
	defer nc.Close()
	_ = nc.SetDeadline(time.Now().Add(harness.Patience))
	drained := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, nc)
		close(drained)
	}()
	var block, b bytes.Buffer
	e := hpack.NewEncoder(&block)
	for _, field := range [][2]string{{":method", "GET"}, {":scheme", "http"}, {":authority", "x"}, {":path", "/streams"}} {
		_ = e.WriteField(hpack.HeaderField{Name: field[0], Value: field[1], Sensitive: true}) // sent in full each time
	}
	b.WriteString(http2.ClientPreface)
	f := http2.NewFramer(&b, nil)
	_ = f.WriteSettings()
	for sent < most {
		for n := 0; n < 100 && sent < most; n++ {
			rapidReset(f, sent, block.Bytes())
			sent++
		}
		if _, err := nc.Write(b.Bytes()); err != nil {
			<-drained
			return sent
		}
		b.Reset()
	}
	_ = nc.(*net.TCPConn).CloseWrite()
	<-drained
	return sent
}
