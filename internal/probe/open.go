package probe

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
)

var (
	errNoConnection = errors.New("no new connection appeared at the gateway")
	errAmbiguous    = errors.New("others opened streams at the same moment, and this gateway does not tell whose is whose; probe a path that nobody else uses")
)

// open opens a stream, and finds it at the gateway. Where a cache answers for the gateway it goes on with a parameter that
// no cache has seen.
func (p *prober) open(ctx context.Context, r request) (*stream, error) {
	s, err := p.tryOpen(ctx, r)
	for range 3 {
		if !errors.Is(err, errAmbiguous) {
			break
		}
		s, err = p.tryOpen(ctx, r)
	}
	if !errors.Is(err, errNoConnection) || p.busting {
		return s, err
	}
	p.busting = true
	again, err2 := p.tryOpen(ctx, r)
	if err2 != nil {
		return nil, err
	}
	p.found(Cached, "a request for the same URL never reached the gateway; with another query it did")
	return again, nil
}

func (p *prober) tryOpen(ctx context.Context, r request) (*stream, error) {
	before, err := p.connections(ctx)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	req, err := p.request(ctx, http.MethodGet, r, nil)
	if err != nil {
		cancel()
		return nil, err
	}
	s := &stream{version: p.versions[0], transport: p.transport(p.versions[0]), cancel: cancel, changed: make(chan struct{}), begun: time.Now()}
	p.opened = append(p.opened, s)
	go s.do(req)
	if err := p.locate(ctx, s, before); err != nil {
		s.leave()
		return nil, err
	}
	return s, nil
}

// locate waits until the gateway has the stream and the head of the answer is there, or until the head is late.
func (p *prober) locate(ctx context.Context, s *stream, before map[string]connection) error {
	begin := time.Now()
	for pause := pollEvery; ; pause = min(2*pause, time.Second) {
		h := s.answered()
		if h == nil && s.ended() != nil {
			return fmt.Errorf("no answer from %s: %w", p.URL.Host, s.ended())
		}
		if h != nil && h.status != http.StatusOK {
			return refusal(ctx, s)
		}
		now, err := p.connections(ctx)
		if err != nil {
			return err
		}
		c, sure, err := p.mine(ctx, before, now)
		waited := time.Since(begin)
		switch {
		case errors.Is(err, errAmbiguous) && h == nil && waited <= 2*patience:
			// It may not be there yet, and those are others'.
		case err != nil:
			return err
		case c.Token != "" && (h != nil || sure && waited > patience || waited > 2*patience):
			s.conn = c
			return nil
		case h == nil && waited > longPast:
			return fmt.Errorf("%w, and no answer came for %v; does the proxy reach this gateway?", errNoConnection, longPast)
		case h != nil && (waited > patience || s.ended() != nil):
			return fmt.Errorf("%w: %s answered by itself, or is in front of another gateway (Content-Type %q, Server %.80q); the URL has to be a stream's, and --internal-addr the same gateway's",
				errNoConnection, p.URL.Host, h.fields.Get("Content-Type"), h.fields.Get("Server"))
		}
		if err := wait(ctx, pause); err != nil {
			return err
		}
	}
}

// mine returns the connection that is new and the probe's. It is sure if the gateway shows the User-Agent; else it is the only
// new one with the path, or the only new one of a gateway that shows none.
func (p *prober) mine(ctx context.Context, before, now map[string]connection) (c connection, sure bool, err error) {
	var fresh, fitting []connection
	for token, c := range now {
		if _, old := before[token]; old || p.has(token) {
			continue
		}
		fresh = append(fresh, c)
		if c.Path == p.URL.EscapedPath() {
			fitting = append(fitting, c)
		}
	}
	moved := len(fitting) == 0
	if moved {
		fitting = fresh // a proxy may change the path
	}
	var possible []connection
	for _, c := range fitting[:min(len(fitting), maxLooks)] {
		shown, _, err := p.look(ctx, c.Token)
		if err != nil {
			return c, false, err
		}
		if q := shown.Request; q != nil && strings.Contains(q.Headers["user-agent"], p.nonce) {
			return shown, true, nil
		} else if q == nil || !moved {
			possible = append(possible, c)
		}
	}
	switch len(possible) {
	case 0:
		return connection{}, false, nil
	case 1:
		return possible[0], false, nil
	default:
		return connection{}, false, errAmbiguous
	}
}

// maxLooks bounds how many connections are looked at each time, to find the probe's own among them.
const maxLooks = 100

// has reports whether a token is that of a stream that was opened before.
func (p *prober) has(token string) bool {
	for _, s := range p.opened {
		if s.conn.Token == token {
			return true
		}
	}
	return false
}

// refusedError says that there is no stream to probe.
type refusedError struct {
	Status int
	Code   string // the gateway's; empty: somebody else refused
}

// Error implements error.
func (e *refusedError) Error() string {
	if e.Code == "" {
		return fmt.Sprintf("no stream: %d %s, not from a gateway; the URL has to be one that the proxy passes to it", e.Status, http.StatusText(e.Status))
	}
	what := "has to accept the probe: see --header and --cookie"
	if e.Status >= http.StatusInternalServerError {
		what = "has to be up, and to answer: see CALLBACK_URL and the gateway's log"
	}
	return fmt.Sprintf("no stream: %d %s, from the gateway; its backend %s", e.Status, e.Code, what)
}

func refusal(ctx context.Context, s *stream) error {
	s.until(ctx, patience, func() bool { return s.err != nil })
	s.leave()
	s.mu.Lock()
	defer s.mu.Unlock()
	return &refusedError{Status: s.head.status, Code: codeOf(s.body)}
}

// codeOf returns the code in an answer of the gateway, or "".
func codeOf(body []byte) string {
	var answer struct {
		Error struct {
			Code string `json:"code"`
		} `json:"error"`
	}
	if json.Unmarshal(body, &answer) != nil {
		return ""
	}
	return answer.Error.Code
}
