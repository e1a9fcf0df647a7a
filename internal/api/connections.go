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

	"ssegateway/internal/gateway"
	"ssegateway/internal/topics"
)

// connection is how a connection is shown.
type connection struct {
	Token    string   `json:"token"`
	Node     string   `json:"node"`
	State    string   `json:"state"`
	Path     string   `json:"path"`
	Subject  string   `json:"subject,omitempty"`
	Topics   []string `json:"topics"`
	Overflow string   `json:"overflow"`
	Since    string   `json:"since"`
	Events   uint64   `json:"events_written"`
	Bytes    uint64   `json:"bytes_written"`
	Queued   int64    `json:"bytes_queued"`
	Drops    uint64   `json:"drops"`
}

var stateNames = [...]string{gateway.Pending: "pending", gateway.Open: "open"}

func (a *API) show(i gateway.Info) connection {
	return connection{
		Token: i.Token.String(), Node: a.nodeName(), State: stateNames[i.State], Path: strings.ToValidUTF8(i.Path, "\ufffd"),
		Subject: i.Subject, Topics: append([]string{}, i.Topics...), Overflow: i.Overflow.String(),
		Since: i.Since.Format(time.RFC3339), Events: i.Events, Bytes: i.Bytes, Queued: i.Queued, Drops: i.Drops,
	}
}

const (
	defaultLimit = 100
	maxLimit     = 1000
)

// connections serves /internal/connections.
func (a *API) connections(w http.ResponseWriter, r *http.Request) {
	if !Allow(w, r, http.MethodGet, http.MethodHead, http.MethodDelete) {
		return
	}
	_, query, _ := strings.Cut(r.RequestURI, "?")
	values, err := url.ParseQuery(query)
	if err != nil {
		errQuery.Write(w)
		return
	}
	filter := gateway.Filter{Topic: values.Get("topic"), Subject: values.Get("subject")}
	if r.Method == http.MethodDelete {
		if filter == (gateway.Filter{}) {
			errFilter.Write(w)
			return
		}
		a.closeAll(w, r, filter)
		return
	}
	limit, after := defaultLimit, gateway.Token{}
	if s := values.Get("limit"); s != "" {
		if limit, err = strconv.Atoi(s); err != nil || limit < 1 || limit > maxLimit {
			errLimit.Write(w)
			return
		}
	}
	if s := values.Get("cursor"); s != "" {
		var ok bool
		if after, ok = gateway.ParseToken(s); !ok {
			errCursor.Write(w)
			return
		}
	}
	most := pageBytes
	if isRelayed(r.Context()) {
		most = nodePageBytes
	}
	own := a.page(filter, after, limit, most)
	if a.among(r.Context()) {
		own = a.mergePages(r, own, limit)
	}
	writeValue(w, own)
}

// connection serves /internal/connections/{token}.
func (a *API) connection(w http.ResponseWriter, r *http.Request, token string) {
	if !Allow(w, r, http.MethodGet, http.MethodHead, http.MethodDelete, http.MethodPatch) {
		return
	}
	if r.Method != http.MethodPatch && a.relay(w, r, token, nil) {
		return
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		if c := a.find(token); c != nil {
			if info := c.Info(); info.State != gateway.Closed {
				writeValue(w, a.show(info))
				return
			}
		}
		errTokenNotFound.Write(w)
	case http.MethodDelete:
		answer := sendAnswers[a.perform(r.Context(), sendRequest{token: token, end: true})]
		if answer.err != nil {
			answer.err.Write(w)
			return
		}
		WriteJSON(w, http.StatusOK, answer.ok)
	case http.MethodPatch:
		a.patch(w, r, token)
	}
}

// find is the connection with a token, or nil.
func (a *API) find(token string) *gateway.Conn {
	t, ok := gateway.ParseToken(token)
	if !ok {
		return nil
	}
	return a.gw.Find(t)
}

// patch changes the topics of a connection. As for a send, the request is looked at
// before the token.
func (a *API) patch(w http.ResponseWriter, r *http.Request, token string) {
	q, _ := requests.Get().(*request)
	defer q.release()
	problem := q.readJSON(w, r, a.maxBody)
	var add, remove []string
	if problem == nil {
		add, remove, problem = q.decodePatch(a.gw.MaxTopics())
	}
	if problem != nil {
		problem.Write(w)
		return
	}
	if a.relay(w, r, token, q.body) {
		return
	}
	c := a.find(token)
	if c == nil {
		errTokenNotFound.Write(w)
		return
	}
	names, err := c.Change(add, remove)
	switch {
	case err == nil:
		writeValue(w, struct {
			Status string   `json:"status"`
			Topics []string `json:"topics"`
		}{"ok", append([]string{}, names...)})
	case errors.Is(err, topics.ErrTooManyTopics):
		tooManyTopics(a.gw.MaxTopics()).Write(w)
	case c.State() == gateway.Pending:
		errPending.Write(w)
	default:
		errTokenNotFound.Write(w)
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
	body, err := json.Marshal(v)
	if err != nil {
		panic(err) // strings are valid UTF-8, and there is nothing else
	}
	WriteJSON(w, http.StatusOK, body)
}
