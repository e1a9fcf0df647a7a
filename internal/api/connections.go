package api

import (
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"ssegateway/internal/connections"
	"ssegateway/internal/gateway"
)

// connection is the JSON form of a connection.
type connection struct {
	Token    string   `json:"token"`
	Node     string   `json:"node"`
	Kind     string   `json:"kind,omitempty"`
	State    string   `json:"state"`
	Path     string   `json:"path"`
	ClientIP string   `json:"client_ip,omitempty"`
	Subject  string   `json:"subject,omitempty"`
	Topics   []string `json:"topics"`
	Overflow string   `json:"overflow"`
	Since    string   `json:"since"`
	Events   uint64   `json:"events_written"`
	Bytes    uint64   `json:"bytes_written"`
	Queued   int64    `json:"bytes_queued"`
	Drops    uint64   `json:"drops"`
	*relayedForm

	Request *requestForm `json:"request,omitempty"`
}

// requestForm is what is shown of a client's request, where one connection is looked at.
type requestForm struct {
	Path    string            `json:"path"`
	Headers map[string]string `json:"headers"`
}

// relayedForm is what the JSON form of a connection has more if it reads a relayed answer.
type relayedForm struct {
	Readers     int   `json:"readers"`
	AnswerBytes int64 `json:"answer_bytes"`
	Resumable   bool  `json:"resumable"`
}

var stateNames = [...]string{gateway.Pending: "pending", gateway.Open: "open", gateway.Closed: "closed"}

// kindOf returns the kind of a connection that is not an ordinary one.
func kindOf(i connections.Info) string {
	if i.Relayed {
		return "relay"
	}
	return ""
}

func show(i connections.Info) connection {
	c := connection{
		Kind:  kindOf(i),
		Token: i.Token.String(), Node: i.Node, State: stateNames[i.State], Path: i.Path, ClientIP: i.ClientIP,
		Subject: i.Subject, Topics: append([]string{}, i.Topics...), Overflow: i.Overflow.String(),
		Since: i.Since.Format(time.RFC3339), Events: i.Events, Bytes: i.Bytes, Queued: i.Queued, Drops: i.Drops,
	}
	if a := i.Answer; a != nil {
		c.State, c.relayedForm = a.State, &relayedForm{a.Readers, a.Bytes, a.Resumable}
	}
	if q := i.Request; q != nil {
		c.Request = &requestForm{q.Path, q.Headers}
	}
	return c
}

// listing is a page of the list of connections.
type listing struct {
	Connections []connection `json:"connections"`
	Next        string       `json:"next_cursor,omitempty"`
	Unreachable []string     `json:"unreachable_nodes,omitempty"`
}

const (
	defaultLimit = 100
	maxLimit     = 1000
	// pageBytes is about how large a page may be, unless it has one connection only.
	pageBytes = 4 << 20
)

// connections serves /internal/connections.
func (a *API) connections(w http.ResponseWriter, r *http.Request) {
	if !Allow(w, r, http.MethodGet, http.MethodHead, http.MethodDelete) {
		return
	}
	values, problem := queryOf(r)
	if problem != nil {
		problem.Write(w)
		return
	}
	filter := gateway.Filter{Topic: values.Get("topic"), Subject: values.Get("subject")}
	if r.Method == http.MethodDelete {
		if filter == (gateway.Filter{}) {
			errFilter.Write(w)
			return
		}
		closed := a.conns.CloseAll(r.Context(), filter)
		writeValue(w, struct {
			Closed      int      `json:"closed"`
			Unreachable []string `json:"unreachable_nodes,omitempty"`
		}{closed.Count, closed.Unreachable})
		return
	}
	limit, problem := limitOf(values)
	if problem != nil {
		problem.Write(w)
		return
	}
	var after gateway.Token
	if s := values.Get("cursor"); s != "" {
		var ok bool
		if after, ok = gateway.ParseToken(s); !ok {
			errCursor.Write(w)
			return
		}
	}
	page := a.conns.List(r.Context(), connections.Query{Filter: filter, After: after, Limit: limit, Bytes: pageBytes})
	l := listing{Connections: make([]connection, len(page.Connections)), Unreachable: page.Unreachable}
	for i, info := range page.Connections {
		l.Connections[i] = show(info)
	}
	if page.Next != (gateway.Token{}) {
		l.Next = page.Next.String()
	}
	writeValue(w, l)
}

// queryOf returns the parameters of a request.
func queryOf(r *http.Request) (url.Values, *Error) {
	_, query, _ := strings.Cut(r.RequestURI, "?")
	values, err := url.ParseQuery(query)
	if err != nil {
		return nil, errQuery
	}
	return values, nil
}

// limitOf returns how many entries of a list a query asks for.
func limitOf(values url.Values) (limit int, problem *Error) {
	s := values.Get("limit")
	if s == "" {
		return defaultLimit, nil
	}
	limit, err := strconv.Atoi(s)
	if err != nil || limit < 1 || limit > maxLimit {
		return 0, errLimit
	}
	return limit, nil
}

// connection serves /internal/connections/{token}.
func (a *API) connection(w http.ResponseWriter, r *http.Request, path string) {
	if !Allow(w, r, http.MethodGet, http.MethodHead, http.MethodDelete, http.MethodPatch) {
		return
	}
	token, _ := gateway.ParseToken(path) // zero if invalid: found nowhere
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		info, err := a.conns.Describe(r.Context(), token)
		if err != nil {
			problemOf(err).Write(w)
			return
		}
		writeValue(w, show(info))
	case http.MethodDelete:
		status, answer := answerOf(a.conns.Close(r.Context(), token))
		WriteJSON(w, status, answer)
	case http.MethodPatch:
		a.patch(w, r, token)
	}
}

// patch changes the topics of a connection. As for a send, the request is validated before the
// token.
func (a *API) patch(w http.ResponseWriter, r *http.Request, token gateway.Token) {
	q, _ := requests.Get().(*request)
	defer q.release()
	problem := q.readJSON(w, r, a.maxBody)
	var add, remove []string
	if problem == nil {
		add, remove, problem = q.decodePatch(a.maxTopics)
	}
	if problem != nil {
		problem.Write(w)
		return
	}
	topics, err := a.conns.Change(r.Context(), token, add, remove)
	switch {
	case err == nil:
		writeValue(w, struct {
			Status string   `json:"status"`
			Topics []string `json:"topics"`
		}{"ok", append([]string{}, topics...)})
	case errors.Is(err, connections.ErrTooManyTopics):
		tooManyTopics(a.maxTopics).Write(w)
	default:
		problemOf(err).Write(w)
	}
}

func (q *request) decodePatch(maxTopics int) (add, remove []string, problem *Error) {
	var rawAdd, rawRemove jsontext.Value
	d, ok := q.start()
	if !ok {
		return nil, nil, errJSON
	}
	typed := false
	err := members(d, func(name string) error {
		if name != "topics" {
			return d.SkipValue()
		}
		if typed = d.PeekKind() == '{'; !typed {
			return d.SkipValue()
		}
		return members(d, func(name string) error {
			switch name {
			case "add":
				return q.take(&rawAdd)
			case "remove":
				return q.take(&rawRemove)
			default:
				return d.SkipValue()
			}
		})
	})
	if err != nil || !q.end() {
		return nil, nil, invalidJSON(err)
	}
	if !typed {
		return nil, nil, errPatch
	}
	if rawAdd != nil {
		if add, problem = decodeTopics(rawAdd, maxTopics, errPatch); problem != nil {
			return nil, nil, problem
		}
	}
	if rawRemove != nil {
		if remove, problem = decodeTopics(rawRemove, maxTopics, errPatch); problem != nil {
			return nil, nil, problem
		}
	}
	return add, remove, nil
}

func writeValue(w http.ResponseWriter, v any) {
	body, err := json.Marshal(v, json.Deterministic(true)) // of maps
	if err != nil {
		panic(err) // the strings are valid UTF-8, and nothing else can fail
	}
	WriteJSON(w, http.StatusOK, body)
}
