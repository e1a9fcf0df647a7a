package histories

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"sort"
	"strings"

	webhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"ssegateway/e2e/harness"
)

// history is what happened, line by line, with names for what differs by its nature.
type history []string

// differences are what the contract lets differ between configurations, and how histories
// are freed of it. Where the contract says nothing of a difference there must be none.
//
//	what differs                          contract    what becomes of it
//	tokens, and the nodes in them         2, 17       the number of their stream
//	positions and ids                     13          how many events were stored up to there
//	heartbeats                            5           left out
//	how chunks and frames cut the bytes   5           bytes are compared
//	the time of the retry at a drain      10          its name
//	fields of the connection in heads     2           only those that the contract names are compared
//	client_ip                             3           must be there if limits are on, and is left out
//	webhook-id, disconnects in batches    3           each end by itself
//	repeats of ends in one batch          3           must be the same, and are left out
//	receivers, of one node                12          left out, unless all nodes are counted
//	receivers, of a repeat                4           left out
//	answers of a request that streams     15          those of as many sends
//
// Sends with a key, and those while a connect is pending, are never streamed (contract 4, 15),
// and no position is used to which the log has not come: several nodes wait for it (13).

var positions = regexp.MustCompile(`[A-Z2-7]{10}-\d+`)

// normal replaces tokens and positions.
func (p *player) normal(text string) string {
	for _, s := range p.streams {
		text = strings.ReplaceAll(text, s.token, fmt.Sprintf("<token %d>", s.number))
	}
	return positions.ReplaceAllStringFunc(text, func(id string) string {
		if !strings.HasPrefix(id, p.epoch) {
			return id
		}
		before := sort.Search(len(p.ids), func(i int) bool { return offset(p.ids[i]) > offset(id) })
		return fmt.Sprintf("<position %d>", before)
	})
}

// history is called when all is over.
func (p *player) history() (h history, err error) {
	add := func(format string, args ...any) { h = append(h, p.normal(fmt.Sprintf(format, args...))) }
	for _, answer := range p.answers {
		add("%s", answer)
	}
	if !slices.IsSortedFunc(p.ids, func(a, b string) int { return offset(a) - offset(b) }) {
		return nil, fmt.Errorf("ids do not grow: %v", p.ids)
	}
	told, err := p.callbacks()
	if err != nil {
		return nil, err
	}
	for _, s := range p.streams {
		add("stream %d", s.number)
		for _, line := range told[s.token] {
			add("  callback %s", line)
		}
		add("  %d disconnects failed", s.refused)
		if s.head != nil {
			add("  head %d", s.head.Status)
			for _, name := range []string{
				"Content-Type", "Cache-Control", "X-Accel-Buffering", "X-Content-Type-Options", "Retry-After", "WWW-Authenticate", "Set-Cookie",
			} {
				add("  head %s %q", name, s.head.Values(name))
			}
		}
		for i, block := range s.blocks {
			if drained := regexp.MustCompile(`^retry: \d+$`); i == len(s.blocks)-1 && s.end == harness.Clean.String() && drained.MatchString(block) && p.drained(told[s.token]) {
				block = "retry: <drain>"
			}
			add("  block %q", block)
		}
		add("  end %s", s.end)
	}
	return h, nil
}

func (p *player) drained(callbacks []string) bool {
	return len(callbacks) > 0 && strings.Contains(callbacks[len(callbacks)-1], `"draining"`)
}

// callbacks returns those of each token, in order.
func (p *player) callbacks() (map[string][]string, error) {
	verifier, err := webhooks.NewWebhook(signingSecret)
	if err != nil {
		return nil, err
	}
	told := map[string][]string{}
	for _, c := range p.backend.Calls(func(*harness.Callback) bool { return true }) {
		if c.Err != nil {
			return nil, c.Err
		}
		if p.configuration["signed"] == "on" {
			if err := verifier.Verify(c.Body, c.Header); err != nil {
				return nil, fmt.Errorf("%s: %w", c.Body, err)
			}
		} else if c.Header.Get("webhook-signature") != "" {
			return nil, fmt.Errorf("a signature without a secret: %s", c.Body)
		}
		if c.Action == "connect" {
			var asked struct {
				Position string
				Request  json.RawMessage
			}
			if err := json.Unmarshal(c.Body, &asked); err != nil {
				return nil, err
			}
			request, err := p.requestOf(asked.Request)
			if err != nil {
				return nil, err
			}
			told[c.Token] = append(told[c.Token], fmt.Sprintf("connect %q %s %s", c.Header.Get("webhook-id"), asked.Position, request))
			continue
		}
		ends, err := endsIn(c)
		if err != nil || len(ends) == 0 {
			return nil, fmt.Errorf("callback %s: %w", c.Body, err)
		}
		for _, e := range ends {
			request, err := p.requestOf(e.Request)
			if err != nil {
				return nil, err
			}
			line := fmt.Sprintf("disconnect %q %q %q %s", e.WebhookID, e.Reason, e.Detail, request)
			if lines := told[e.Token]; len(lines) == 0 || lines[len(lines)-1] != line || !p.mayRepeat(e.Token) {
				told[e.Token] = append(lines, line)
			}
		}
	}
	return told, nil
}

// mayRepeat reports whether the end of a token may be told again: it was refused, alone or in a
// batch with one that was.
func (p *player) mayRepeat(token string) bool {
	return slices.ContainsFunc(p.streams, func(s *stream) bool {
		return s.refused > 0 && (s.token == token || p.configuration["ends"] != "1")
	})
}

// requestOf returns the request of a callback, its fields in order.
func (p *player) requestOf(raw json.RawMessage) (string, error) {
	var fields map[string]any
	if err := json.Unmarshal(raw, &fields); err != nil {
		return "", err
	}
	if limited := p.configuration["limits"] == "on"; limited != (fields["client_ip"] == "127.0.0.1") {
		return "", fmt.Errorf("limits are %v, the request is %s", limited, raw)
	}
	delete(fields, "client_ip")
	text, err := json.Marshal(fields)
	return string(text), err
}
