package api

import (
	"bytes"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"ssegateway/internal/broker"
	"ssegateway/internal/connections"
	"ssegateway/internal/topics"
	"ssegateway/sse"
)

// decodeRetain decodes what a publish says of retaining its event, which is stored or not.
func decodeRetain(retain, key jsontext.Value, stored bool) (retained bool, name string, problem *Error) {
	switch retain.Kind() {
	case jsontext.KindInvalid, 'f':
	case 't':
		if retained = stored; !stored {
			return false, "", errRetain
		}
	default:
		return false, "", errRetain
	}
	if key != nil {
		k, ok := unquote(key)
		if !ok || !topics.ValidName(k) || !retained {
			return false, "", errKey
		}
		name = clone(k)
	}
	return retained, name, nil
}

// retainedEvent is the JSON form of a retained event.
type retainedEvent struct {
	Topic string     `json:"topic"`
	Key   string     `json:"key,omitempty"`
	ID    string     `json:"id"`
	Event shownEvent `json:"event"`
}

// shownEvent is the JSON form of an event, as its receivers have it.
type shownEvent struct {
	Name  string  `json:"name,omitempty"`
	Data  string  `json:"data"`
	Retry *uint64 `json:"retry,omitempty"`
}

// retainedListing is a page of the list of retained events.
type retainedListing struct {
	Retained []retainedEvent `json:"retained"`
	Next     string          `json:"next_cursor,omitempty"`
}

// retained serves /internal/retained.
func (a *API) retained(w http.ResponseWriter, r *http.Request) {
	if !Allow(w, r, http.MethodGet, http.MethodHead, http.MethodDelete) {
		return
	}
	values, problem := queryOf(r)
	if problem != nil {
		problem.Write(w)
		return
	}
	if r.Method == http.MethodDelete {
		a.removeRetained(w, r, values)
		return
	}
	q := connections.RetainedQuery{Topic: values.Get("topic"), Bytes: pageBytes}
	if q.Limit, problem = limitOf(values); problem != nil {
		problem.Write(w)
		return
	}
	if s := values.Get("cursor"); s != "" {
		var ok bool
		if q.After, ok = parseRetainedCursor(s); !ok {
			errCursor.Write(w)
			return
		}
	}
	page := a.conns.Retained(q)
	l := retainedListing{Retained: make([]retainedEvent, len(page.Events))}
	for i, e := range page.Events {
		l.Retained[i] = showRetained(e)
	}
	if page.More {
		l.Next = formatRetainedCursor(page.Next)
	}
	writeValue(w, l)
}

func (a *API) removeRetained(w http.ResponseWriter, r *http.Request, values url.Values) {
	topic, key := values.Get("topic"), values.Get("key")
	if !topics.ValidName(topic) {
		errRetainedTopic.Write(w)
		return
	}
	if values.Has("key") && !topics.ValidName(key) { // an empty one would remove all
		errRetainedKey.Write(w)
		return
	}
	removed, err := a.conns.Remove(r.Context(), topic, key)
	if err != nil {
		problemOf(err).Write(w)
		return
	}
	writeValue(w, struct {
		Removed int `json:"removed"`
	}{removed})
}

// showRetained reads the event back from its frame, since the log keeps nothing else of it.
func showRetained(r broker.Retained) retainedEvent {
	block := r.Record.Frame.Wire(false)
	e, _ := sse.NewDecoderMax(bytes.NewReader(block), len(block)).Next() // the gateway has encoded it
	out := retainedEvent{Topic: r.Topic, Key: r.Key, ID: e.ID.String(), Event: shownEvent{Name: e.Name.String(), Data: e.Data}}
	if e.Retry.IsSet() {
		ms := e.Retry.Millis()
		out.Event.Retry = &ms
	}
	return out
}

func formatRetainedCursor(c broker.RetainedCursor) string {
	return strconv.FormatUint(c.Offset, 10) + "." + strconv.Itoa(c.Topics)
}

func parseRetainedCursor(s string) (c broker.RetainedCursor, ok bool) {
	offset, n, _ := strings.Cut(s, ".")
	var err, err2 error
	c.Offset, err = strconv.ParseUint(offset, 10, 64)
	c.Topics, err2 = strconv.Atoi(n)
	return c, err == nil && err2 == nil && c.Topics > 0 && formatRetainedCursor(c) == s
}
