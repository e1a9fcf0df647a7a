package histories

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"

	"ssegateway/e2e/harness"
)

// player performs a script with an installation.
type player struct {
	*installation

	mu      sync.Mutex // guards streams, which the backend's answers look up
	streams []*stream

	epoch   string
	ids     []string // of what was published and stored, in the order of the log
	answers []string // of the backend's requests, one line for each step
	keyed   []func() // what was done under a key, to be repeated
	steps   int      // requests are spread over the nodes by it
	marks   int
}

// broken is a panic's value: what was expected did not come.
type broken struct{ error }

func must(err error) {
	if err != nil {
		panic(broken{err})
	}
}

// play performs a script under a configuration, and returns the history.
func play(s script, c configuration) (h history, err error) {
	in, err := install(c)
	if err != nil {
		return nil, err
	}
	defer in.remove()
	p := &player{installation: in}
	defer func() {
		for _, s := range p.streams {
			s.HangUp()
		}
		if fault, ok := recover().(broken); ok {
			err = fmt.Errorf("%w\nanswers: %.3000q", fault.error, p.answers)
			for i, n := range in.nodes {
				err = fmt.Errorf("%w\nlog of node %d: %s", err, i, n.Log.Text())
			}
		}
	}()
	in.backend.OnBatch(p.answerBatch)
	position := p.position(0)
	p.epoch, _, _ = strings.Cut(position, "-")
	for i, step := range s {
		p.steps = i
		p.answer("step %d: %s", i, step.What)
		p.perform(step)
	}
	must(p.drain())
	for _, s := range p.streams {
		if s.open {
			must(s.awaitEnd())
		}
	}
	return p.history()
}

// answer notes what the backend was answered.
func (p *player) answer(format string, args ...any) {
	p.answers = append(p.answers, fmt.Sprintf(format, args...))
}

// answerBatch fails a batch if one of its ends is to fail.
func (p *player) answerBatch(c *harness.Callback) harness.Answer {
	ends, _ := endsIn(c)
	var of []*stream
	p.mu.Lock()
	for _, e := range ends {
		for _, s := range p.streams {
			if s.token == e.Token {
				of = append(of, s)
			}
		}
	}
	p.mu.Unlock()
	failed := false
	for _, s := range of {
		failed = s.fails() || failed
	}
	if failed {
		return harness.Answer{Status: http.StatusServiceUnavailable}
	}
	for _, s := range of {
		s.once.Do(func() { close(s.told) })
	}
	return harness.Answer{}
}

// node is the one that the next request goes to.
func (p *player) node() int { return p.steps % len(p.nodes) }

func (p *player) position(node int) string {
	status, answer, err := p.call(node, http.MethodGet, "/internal/position", "", "")
	must(err)
	var at struct{ Position string }
	if err := json.Unmarshal([]byte(answer), &at); err != nil || status != http.StatusOK {
		must(fmt.Errorf("position: %d %s: %w", status, answer, err))
	}
	return at.Position
}

func offset(id string) (n int) {
	_, digits, _ := strings.Cut(id, "-")
	if _, err := fmt.Sscan(digits, &n); err != nil {
		must(fmt.Errorf("position %q: %w", id, err))
	}
	return n
}

// settle waits until every node has read what one of them has.
func (p *player) settle(node int) {
	least := offset(p.position(node))
	for i := range p.nodes {
		if i != node {
			must(p.until(func() (bool, string) {
				at := p.position(i)
				return offset(at) >= least, fmt.Sprintf("node %d is at %s, not at %d", i, at, least)
			}))
		}
	}
}

// opened are the streams that are open, the first ones first.
func (p *player) opened() []*stream {
	return slices.DeleteFunc(slices.Clone(p.streams), func(s *stream) bool { return !s.open })
}

func (p *player) perform(s step) {
	if s.What == "connect" {
		p.connect(s)
		return
	}
	switch s.What {
	case "publish":
		p.publish(topicsOf(s.Topics), s)
		return
	case "remove":
		query := url.Values{"topic": {topicNames[s.Topics]}}
		if s.Key != "" {
			query.Set("key", s.Key)
		}
		p.answer("%s", p.request(http.MethodDelete, "/internal/retained?"+query.Encode(), nil))
		p.settle(p.node())
		return
	case "again":
		if len(p.keyed) > 0 {
			p.keyed[s.Client%len(p.keyed)]()
		}
		return
	case "list":
		p.list()
		return
	}
	if len(p.streams) == 0 {
		return
	}
	of := p.streams[s.Client%len(p.streams)]
	if s.What != "send" || s.Way > 0 { // a send goes to one that has ended at times
		open := p.opened()
		if len(open) == 0 {
			return
		}
		of = open[s.Client%len(open)]
	}
	switch s.What {
	case "send":
		p.send(of, s)
	case "patch":
		p.patch(of, topicsOf(s.Topics), topicsOf(s.Others))
	case "leave":
		p.leave(of, s.Way)
		must(of.awaitTold())
	case "close many":
		p.closeMany(of, s.Way)
	}
}

// leave does what clients do when they leave, in one of several ways.
func (p *player) leave(of *stream, way int) {
	protocol := p.nodes[0].public.Protocol
	switch {
	case way%4 == 1:
		of.HangUp()
	case way%4 == 2:
		must(of.Reset())
	case way%4 == 3 && (protocol == harness.HTTP1 || protocol == harness.HTTP1TLS):
		must(of.HalfClose())
	default:
		of.Leave()
	}
	of.open, of.end = false, "left"
}

func (p *player) patch(of *stream, add, remove []string) {
	body := map[string]any{"topics": map[string]any{"add": add, "remove": remove}}
	p.answer("%s", p.request(http.MethodPatch, "/internal/connections/"+of.token, body))
	for _, topic := range add {
		of.topics[topic] = true
	}
	for _, topic := range remove {
		delete(of.topics, topic)
	}
	p.mark(of)
}

// mark sends an event that stands behind all that came before, and waits for it.
func (p *player) mark(of *stream) {
	p.marks++
	text := fmt.Sprintf("mark %d", p.marks)
	p.answer("%s", p.request(http.MethodPost, "/internal/send", map[string]any{"token": of.token, "event": map[string]any{"data": text}}))
	must(of.until(func() bool { return slices.Contains(of.blocks, "data: "+text) }, text))
}

func (p *player) closeMany(of *stream, way int) {
	query := url.Values{}
	topics := of.topicList()
	if way%2 == 0 && of.subject != "" {
		query.Set("subject", of.subject)
	} else if len(topics) > 0 {
		query.Set("topic", topics[way%len(topics)])
	}
	p.answer("%s", p.request(http.MethodDelete, "/internal/connections?"+query.Encode(), nil))
	if len(query) == 0 {
		return
	}
	for _, s := range p.opened() {
		if (query.Has("subject") && s.subject == query.Get("subject")) || (query.Has("topic") && s.topics[query.Get("topic")]) {
			must(s.awaitEnd())
		}
	}
}

// list looks at what is retained, and at the connections.
func (p *player) list() {
	p.answer("%s", p.request(http.MethodGet, "/internal/retained?limit=1000", nil))
	for _, s := range p.opened() {
		var c struct {
			State, Path, Subject string
			Topics               []string
			Drops                int
		}
		text := p.request(http.MethodGet, "/internal/connections/"+s.token, nil)
		must(json.Unmarshal([]byte(text[len("200 "):]), &c))
		slices.Sort(c.Topics)
		p.answer("%+v", c)
	}
}

// request makes a request of JSON, and returns its status and answer.
func (p *player) request(method, path string, body any) string {
	text, contentType := "", ""
	if body != nil {
		encoded, err := json.Marshal(body)
		must(err)
		text, contentType = string(encoded), "application/json"
	}
	status, answer, err := p.call(p.node(), method, path, contentType, text)
	must(err)
	return fmt.Sprintf("%d %s", status, answer)
}

// refusals are answers to connects that open no stream.
var refusals = []harness.Answer{
	{},
	{Status: 401, Header: http.Header{"Www-Authenticate": {"Basic"}}, Body: "no"},
	{Status: 403, Header: http.Header{"Set-Cookie": {"a=1", "b=2"}}},
	{Status: 404},
	{Status: 500},
	{Status: 503, Header: http.Header{"Retry-After": {"7"}}},
	{Status: 302, Header: http.Header{"Location": {"/elsewhere"}}},
	{Drop: true},
}

func (p *player) connect(s step) {
	c := s.Connect
	of := &stream{
		number: len(p.streams), topics: map[string]bool{}, subject: subject[c.Subject],
		release: make(chan struct{}), told: make(chan struct{}), failures: c.Failures,
	}
	release := sync.OnceFunc(func() { close(of.release) })
	defer release()
	for _, topic := range topicsOf(s.Topics) {
		of.topics[topic] = true
	}
	of.answer = refusals[c.Refusal]
	if c.Refusal == 0 {
		of.answer.Body = p.grant(of, c)
	}
	p.backend.On(of.key(), of.script())

	r := harness.Request{Target: fmt.Sprintf("/streams//%d?q=%%C3%%BC&x", of.number), Header: []harness.Field{
		{Name: "accept", Value: "text/event-stream"},
		{Name: harness.KeyHeader, Value: of.key()},
		{Name: "x-twice", Value: "a"},
		{Name: "x-twice", Value: "b, c"},
		{Name: "cookie", Value: "a=1"},
		{Name: "cookie", Value: "b=ü"},
	}}
	if id := p.lastID(c.LastID, s.Client); id != "" && c.InQuery {
		r.Target += "&lastEventId=" + url.QueryEscape(id)
	} else if id != "" {
		r.Header = append(r.Header, harness.Field{Name: "last-event-id", Value: id})
	}
	r.Host = "events.example.com"
	x, err := p.nodes[of.number%len(p.nodes)].public.Do(context.Background(), r)
	must(err)
	of.Exchange = x
	calls, err := p.backend.Await(harness.Patience, 1, func(c *harness.Callback) bool { return c.Key == of.key() && c.Action == "connect" })
	if err != nil {
		x.HangUp()
		must(err)
	}
	p.mu.Lock()
	of.token = calls[0].Token
	p.streams = append(p.streams, of)
	p.mu.Unlock()

	if refusals[c.Refusal].Drop && c.EndsThen == 2 {
		c.EndsThen = 0 // which of the two faults is the first one would be chance
	}
	p.whilePending(of, c)
	if c.EndsThen == 2 {
		p.leave(of, 0)
	}
	release()
	accepted := c.Refusal == 0
	if c.EndsThen == 2 {
		if accepted {
			must(of.awaitTold())
		}
		return
	}
	of.head, err = x.Head(harness.Patience)
	must(err)
	switch {
	case !accepted:
		rest, end, _ := x.Rest(harness.Patience)
		of.take(rest)
		of.end = end.String()
		if refusals[c.Refusal].Drop {
			must(of.awaitTold())
		}
	case c.EndsThen == 1:
		must(of.awaitEnd())
	default:
		of.open = true
		p.mark(of)
	}
}

// whilePending does what happens before the backend answers.
func (p *player) whilePending(of *stream, c connect) {
	for _, e := range c.Pending {
		p.answer("%s", p.request(http.MethodPost, "/internal/send", map[string]any{"token": of.token, "event": e.value()}))
	}
	if c.Publish && len(of.topics) > 0 {
		p.publish(of.topicList(), step{Events: []event{{Data: "while pending", Times: 1}}})
	}
	if c.EndsThen == 1 {
		p.answer("%s", p.request(http.MethodPost, "/internal/send", map[string]any{"token": of.token, "close": true}))
	}
}

// grant is the body of the answer to a connect that is accepted.
func (p *player) grant(of *stream, c connect) string {
	g := map[string]any{}
	if len(of.topics) > 0 {
		g["topics"] = of.topicList()
	}
	if of.subject != "" {
		g["subject"] = of.subject
	}
	if c.RetryMS > 0 {
		g["retry_ms"] = c.RetryMS
	}
	if c.Rewind > 0 {
		g["rewind"] = c.Rewind
	}
	if overflow := p.configuration["overflow"]; overflow != "unset" {
		g["overflow"] = overflow
	}
	switch c.Position {
	case 5:
		g["position"] = "now"
	case 6:
		g["position"] = "no position"
	case 7:
		if len(p.ids) > 0 {
			g["position"] = p.ids[len(p.ids)/2]
		}
	}
	var events []map[string]any
	for _, e := range c.Events {
		events = append(events, e.value())
	}
	if events != nil {
		g["events"] = events
	}
	text, err := json.Marshal(g)
	must(err)
	return string(text)
}

// lastID is what a client says that it has.
func (p *player) lastID(what, which int) string {
	switch what {
	case 3:
		return "AAAAAAAAAA-5" // of another epoch
	case 4:
		return "none of ours"
	case 5:
		if len(p.ids) > 0 {
			return p.ids[which%len(p.ids)]
		}
	case 6, 7:
		if len(p.streams) > 0 {
			return p.streams[which%len(p.streams)].lastID()
		}
	}
	return ""
}
