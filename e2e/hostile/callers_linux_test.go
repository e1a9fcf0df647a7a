package hostile

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"ssegateway/e2e/harness"
)

// However many callers of the internal API have requests that wait, health is answered. Callers
// that are there already go on; one that is too many gets a 503, and may try again.
func TestCallersThatWait(t *testing.T) {
	g := harness.StartGateway(t, limitedTo(t, 256), nil, "LOG_LEVEL=info")
	v := &visitor{t: t, g: g, client: g.Endpoint.Client()}
	t.Cleanup(v.client.CloseIdleConnections)
	x, err := g.Endpoint.Do(context.Background(), harness.Request{Target: "/events", Header: []harness.Field{{Name: harness.KeyHeader, Value: "v"}}, ReceiveBuffer: 4 << 10})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(x.HangUp)
	if _, err := x.Head(harness.Patience); err != nil {
		t.Fatal(err)
	}
	x.Stop()
	token := g.Await(t, 1, "connect", func(*harness.Callback) bool { return true })[0].Token

	line, _ := g.Log.Find(harness.Patience, regexp.MustCompile(`descriptors limit=`))
	callers := -2 // as many as there are descriptors for, beside the stream and its sender
	for _, part := range []string{`streams=(\d+)`, `reserve=(\d+)`} {
		n, err := strconv.Atoi(regexp.MustCompile(part).FindStringSubmatch(line)[1])
		if err != nil {
			t.Fatal(line)
		}
		callers += n
	}
	const late = 10
	answers := make(chan *http.Response, callers+late)
	dial := func() net.Conn {
		nc, err := g.Endpoint.Dial(t.Context(), 0, "")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = nc.Close() })
		return nc
	}
	call := func(nc net.Conn) {
		body := fmt.Sprintf(`{"token":%q,"event":{"data":"x"},"wait":"written"}`, token)
		if _, err := fmt.Fprintf(nc, "POST /internal/send HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body); err != nil {
			t.Fatal(err)
		}
		go func() {
			resp, err := http.ReadResponse(bufio.NewReader(nc), nil) //nolint:bodyclose // whoever takes it from answers closes it
			if err != nil {
				resp = nil // closed, which a caller may not be
			}
			answers <- resp
		}()
	}
	g.Event(t, token, map[string]any{"data": strings.Repeat("x", 700<<10)}) // more than the sockets take
	var conns []net.Conn
	for range callers {
		conns = append(conns, dial())
	}
	for _, nc := range conns {
		call(nc)
	}
	refused := 0
	collect := func() {
		for quiet := time.After(2 * time.Second); ; {
			select {
			case resp := <-answers:
				refused++
				expectTooMany(t, resp)
			case <-quiet:
				return
			}
		}
	}
	collect()
	for range late {
		call(dial())
		begin := time.Now()
		if err := v.health(); err != nil {
			t.Errorf("health beside callers that wait: %v", err)
		} else if took := time.Since(begin); took > *limit {
			t.Errorf("health took %v", took)
		}
	}
	collect()
	if waiting := callers + late - refused; waiting < 100 || refused == 0 {
		t.Errorf("%d callers wait, %d were refused", waiting, refused)
	}
	x.Resume()
	for range callers + late - refused {
		select {
		case resp := <-answers:
			if resp == nil {
				t.Fatal("a caller that waited was closed")
			}
			if text, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusOK {
				t.Errorf("a caller that waited got %d %s, %v", resp.StatusCode, text, err)
			}
		case <-time.After(harness.Patience):
			t.Fatal("callers that waited get no answer")
		}
	}
}

func expectTooMany(t *testing.T, resp *http.Response) {
	t.Helper()
	if resp == nil {
		t.Error("a caller was closed without an answer")
		return
	}
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" || !strings.Contains(string(text), "TOO_MANY_CALLERS") {
		t.Errorf("a caller got %d %s %v, %v", resp.StatusCode, text, resp.Header, err)
	}
}
