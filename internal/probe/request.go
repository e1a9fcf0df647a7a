package probe

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/go-json-experiment/json"

	"ssegateway/internal/guard"
)

// resume comes back with a position of a log that no gateway has. A gateway answers that with the event gap, which names it,
// if the connection has topics. In a query it looks at nothing but positions.
func (p *prober) resume(ctx context.Context, s *stream) error {
	if len(s.conn.Topics) == 0 {
		p.unknown("Last-Event-ID", "this stream has no topics, so that the gateway has no use for it")
		return nil
	}
	id := p.nonce[:10] + "-4711"
	got, err := p.gapOf(ctx, request{header: http.Header{"Last-Event-Id": {id}}})
	if err != nil {
		return err
	}
	switch got {
	case id:
		p.measured("Last-Event-ID", "arrives")
	case "":
		p.found(LastEventIDLost, "a client that came back with Last-Event-ID got a stream that knows nothing of it")
	default:
		p.found(LastEventIDLost, fmt.Sprintf("Last-Event-ID arrived as %.80q", got))
	}
	if got, err = p.gapOf(ctx, request{query: "lastEventId=" + url.QueryEscape(id)}); err != nil {
		return err
	}
	if got != id {
		p.found(QueryLost, "a client that came back with lastEventId in the query got a stream that knows nothing of it")
	}
	return nil
}

// gapOf opens a stream, and returns the id that its event gap names, or "".
func (p *prober) gapOf(ctx context.Context, r request) (string, error) {
	s, err := p.open(ctx, r)
	if err != nil {
		return "", err
	}
	defer s.leave()
	end, begin := p.next("")
	if err := p.send(ctx, s.conn.Token, end, false); err != nil {
		return "", err
	}
	s.get(ctx, begin, patience+p.trip) // a gap comes before it
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.arrivals {
		var gap struct {
			ID string `json:"last_event_id"`
		}
		if data, _ := payload(a.event); json.Unmarshal([]byte(data), &gap) == nil && gap.ID != "" {
			return gap.ID, nil
		}
	}
	return "", nil
}

// credentials opens a stream without the headers of the user. If the backend refuses that, they arrive, and it looks at them.
func (p *prober) credentials(ctx context.Context, _ *stream) error {
	const what = "cookies and Authorization"
	if p.Header.Get("Cookie") == "" && p.Header.Get("Authorization") == "" {
		p.unknown(what, "none was given: see --cookie and --header")
		return nil
	}
	s, err := p.open(ctx, request{bare: true})
	if refused := (*refusedError)(nil); errors.As(err, &refused) && refused.Code != "" {
		p.measured(what, fmt.Sprintf("arrive: without them the backend answers %d", refused.Status))
		return nil
	}
	if err != nil {
		return err
	}
	s.leave()
	p.unknown(what, "the backend accepts a stream without them too")
	return nil
}

// bodies makes a GET with a body, of which only a part comes. A gateway refuses that before it has read the body; that it does
// says when the request arrives.
func (p *prober) bodies(ctx context.Context, _ *stream) error {
	const what = "bodies of requests"
	ctx, cancel := context.WithTimeout(ctx, longPast)
	defer cancel()
	reader, writer := io.Pipe()
	defer func() { _ = writer.Close() }() // it never fails
	req, err := p.request(ctx, http.MethodGet, request{}, reader)
	if err != nil {
		return err
	}
	transport := p.transport(p.versions[0])
	defer transport.CloseIdleConnections()
	answers := make(chan string, 1)
	go func() {
		defer guard.Recover()
		defer close(answers)
		resp, err := transport.RoundTrip(req)
		if err != nil {
			return
		}
		defer resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			answers <- "OK"
			return
		}
		text, _ := io.ReadAll(io.LimitReader(resp.Body, answerLimit))
		answers <- codeOf(text)
	}()
	go func() {
		defer guard.Recover()
		_, _ = writer.Write(bytes.Repeat([]byte("x"), 1024))
	}()
	var answer string
	timely := true
	timer := time.NewTimer(patience + p.trip)
	defer timer.Stop()
	select {
	case answer = <-answers:
	case <-timer.C:
		timely = false
		_ = writer.Close() // it never fails
		answer = <-answers
	}
	switch {
	case answer != "BODY_NOT_ALLOWED":
		p.unknown(what, "a GET with a body, by which the probe sees it, did not reach the gateway as one")
	case timely:
		p.measured(what, "arrive while they are being sent")
	default:
		const held = "a request arrives only when its whole body has been sent"
		if p.measured(what, held); p.Bodies {
			p.found(BodyHeld, held)
		}
	}
	return nil
}
