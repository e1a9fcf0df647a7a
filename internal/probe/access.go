package probe

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"ssegateway/internal/guard"
)

// spellings are targets that a gateway may take for /internal/stats or /metrics, or a proxy for another path. %s is the host.
var spellings = []string{
	"/internal/stats", "//internal/stats", "/internal//stats", "/./internal/stats", "/internal/./stats", "/x/../internal/stats", "/x/%2e%2e/internal/stats",
	"/x/..%2finternal/stats", "/%69nternal/stats", "/internal%2fstats", "/%2finternal/stats", "/internal/stats/", "/internal/stats?x=y", "/INTERNAL/stats",
	"/internal/x/../stats", "/internal;x/stats", "/internal/stats;x", "/internal\\stats", "/x/..;/internal/stats", "/x\\..\\internal\\stats", "/%2569nternal/stats",
	"http://%s/internal/stats", "http://%s//internal/stats",
	"/metrics", "//metrics", "/metrics/", "/%6detrics", "/x/../metrics", "/x/%2e%2e/metrics", "/metrics?x=y", "http://%s/metrics",
}

// targets returns the spellings, also behind each beginning of the URL's path, which a proxy may take away.
func (p *prober) targets() []string {
	// What is a stream once it is cleaned, and internal as it came.
	list := append(slices.Clone(spellings), "/internal/.."+p.URL.EscapedPath(), "/metrics/.."+p.URL.EscapedPath())
	for dir := path.Dir(p.URL.EscapedPath() + "x"); len(dir) > 1; dir = path.Dir(dir) {
		for _, s := range []string{"/internal/stats", "/metrics", "/../internal/stats", "/%2e%2e/internal/stats", "/..%2finternal/stats", "/../metrics", "//internal/stats"} {
			list = append(list, dir+s)
		}
	}
	for i := range list {
		list[i] = strings.ReplaceAll(list[i], "%s", p.host())
	}
	return list
}

// reach is how far a request got.
type reach int

const (
	nowhere  reach = iota // no gateway answered
	streamed              // a gateway took it for a stream
	refused               // a gateway took it for its own, and refused it
	open                  // a gateway did what it asks
)

// access asks for /internal and /metrics from outside, without the token.
func (p *prober) access(ctx context.Context, _ *stream) error {
	if !slices.Contains(p.versions, http1) {
		p.unknown("/internal from outside", "the public end does not speak HTTP/1.1, over which a target is sent as it is")
		return nil
	}
	if p.Direct {
		p.unknown("/internal from outside", "the URL leads straight to the gateway, on its own host")
		return nil
	}
	var own map[string]jsontext.Value
	if err := p.api.Call(ctx, http.MethodGet, "/internal/stats", nil, &own); err != nil {
		return err
	}
	before, err := p.connections(ctx)
	if err != nil {
		return err
	}
	targets := p.targets()
	reached := make([]reach, len(targets))
	next := make(chan int)
	var asking sync.WaitGroup
	const atOnce = 4
	for range atOnce {
		asking.Go(func() {
			defer guard.Recover()
			for i := range next {
				reached[i] = p.ask(ctx, targets[i], own)
			}
		})
	}
	for i := range targets {
		next <- i
	}
	close(next)
	asking.Wait()
	hits := map[reach][]string{}
	for i, target := range targets {
		hits[reached[i]] = append(hits[reached[i]], target)
	}
	reachedBy := func(r reach) string {
		return fmt.Sprintf("%d of %d spellings: %s", len(hits[r]), len(targets), strings.Join(hits[r], " "))
	}
	switch {
	case len(hits[open]) > 0:
		p.found(InternalOpen, reachedBy(open))
	case len(hits[refused]) > 0:
		p.found(InternalReached, reachedBy(refused))
	default:
		p.measured("/internal from outside", fmt.Sprintf("none of %d spellings reached the gateway's", len(targets)))
	}
	if len(hits[streamed]) == 0 {
		return ctx.Err()
	}
	return p.endNew(ctx, before, hits[streamed])
}

// endNew ends the streams that these targets have become: a proxy may hold them open.
func (p *prober) endNew(ctx context.Context, before map[string]connection, targets []string) error {
	now, err := p.connections(ctx)
	if err != nil {
		return err
	}
	paths := map[string]bool{}
	for _, target := range targets {
		path, _, _ := strings.Cut(target, "?")
		paths[path] = true
	}
	for token, c := range now {
		if _, old := before[token]; old || !paths[c.Path] {
			continue
		}
		if err := p.end(ctx, token); err != nil {
			return err
		}
	}
	return nil
}

// ask makes a request with this target, and returns how far it got. own is the gateway's own answer.
func (p *prober) ask(ctx context.Context, target string, own map[string]jsontext.Value) reach {
	conn, err := p.connect(ctx, "http/1.1")
	if err != nil {
		return nowhere
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(longPast))
	var head bytes.Buffer
	fmt.Fprintf(&head, "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: %s\r\nAccept: */*\r\nConnection: close\r\n\r\n", target, p.host(), p.agent())
	if _, err := conn.Write(head.Bytes()); err != nil {
		return nowhere
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil) //nolint:bodyclose // the connection is
	if err != nil {
		return nowhere
	}
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		return streamed
	}
	conn.SetDeadline(time.Now().Add(patience + p.trip))
	body, err := io.ReadAll(io.LimitReader(resp.Body, answerLimit))
	if os.IsTimeout(err) {
		return streamed // under another content type
	}
	switch code := codeOf(body); {
	case code == "INTERNAL_FORBIDDEN" || code == "UNAUTHORIZED":
		return refused
	case resp.StatusCode == http.StatusOK && (bytes.Contains(body, []byte("\nssegateway_")) || isLike(body, own)):
		return open
	default:
		return nowhere
	}
}

// isLike reports whether a body is a JSON object with the same members.
func isLike(body []byte, own map[string]jsontext.Value) bool {
	var got map[string]jsontext.Value
	if json.Unmarshal(body, &got) != nil || len(got) != len(own) {
		return false
	}
	for name := range own {
		if _, ok := got[name]; !ok {
			return false
		}
	}
	return true
}
