package api

import (
	"context"
	"errors"
	"net/http"
	"strconv"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"ssegateway/internal/connections"
	"ssegateway/internal/topics"
)

// publish serves POST /internal/publish.
func (a *API) publish(w http.ResponseWriter, r *http.Request) {
	if !Allow(w, r, http.MethodPost) {
		return
	}
	q, _ := requests.Get().(*request)
	defer q.release()
	problem := q.readJSON(w, r, a.maxBody)
	var p connections.Publication
	if problem == nil {
		p, problem = q.decodePublish(a.maxTopics)
	}
	if problem != nil {
		a.invalidPublishes.Add(1)
	}
	var answer []byte
	if problem == nil {
		answer, problem = a.performPublish(r.Context(), p)
	}
	if problem != nil {
		problem.Write(w)
		return
	}
	WriteJSON(w, http.StatusOK, answer)
}

// performPublish carries out a valid publish.
func (a *API) performPublish(ctx context.Context, p connections.Publication) ([]byte, *Error) {
	done, err := a.conns.Publish(ctx, p)
	return a.answerPublish(ctx, p, done, err)
}

// answerPublish returns the answer to a publish.
func (a *API) answerPublish(ctx context.Context, p connections.Publication, done connections.Published, err error) ([]byte, *Error) {
	if errors.Is(err, connections.ErrKeyReused) {
		a.invalidPublishes.Add(1)
	}
	if err != nil {
		a.log.DebugContext(ctx, "an event was not published", "error", err.Error())
		return nil, problemOf(err)
	}
	a.log.DebugContext(ctx, "publish", "topics", len(p.Topics), "event", p.Event.Name.String(), "bytes", len(p.Event.Data), "receivers", done.Receivers)
	answer := []byte(`{"status":"ok"`)
	if p.Store {
		answer = append(append(append(answer, `,"id":"`...), done.Position.String()...), '"')
	}
	if !done.Uncounted {
		answer = append(answer, `,"receivers":`...)
		answer = strconv.AppendInt(answer, int64(done.Receivers), 10)
	}
	if len(done.Unreachable) > 0 {
		names, _ := json.Marshal(done.Unreachable) // strings
		answer = append(append(answer, `,"unreachable_nodes":`...), names...)
	}
	if done.Duplicate {
		answer = append(answer, `,"duplicate":true`...)
	}
	return append(answer, '}'), nil
}

// decodePublish decodes and validates a publish of at most maxTopics topics.
func (q *request) decodePublish(maxTopics int) (p connections.Publication, problem *Error) {
	var topic, several, store, retain, key, count, once jsontext.Value
	var event rawEvent
	d, ok := q.start()
	if !ok {
		return p, errJSON
	}
	err := members(d, func(name string) error {
		switch name {
		case "topic":
			return q.take(&topic)
		case "topics":
			return q.take(&several)
		case "event":
			return q.takeEvent(&event)
		case "store":
			return q.take(&store)
		case "retain":
			return q.take(&retain)
		case "key":
			return q.take(&key)
		case "count":
			return q.take(&count)
		case "idempotency_key":
			return q.take(&once)
		default:
			return d.SkipValue()
		}
	})
	if err != nil || !q.end() {
		return p, invalidJSON(err)
	}
	switch {
	case topic != nil && several == nil:
		one, ok := unquote(topic)
		if !ok || !topics.ValidName(one) {
			return p, errTopics
		}
		p.Topics = []string{clone(one)}
	case several != nil && topic == nil:
		if p.Topics, problem = decodeTopics(several, maxTopics, errTopics); problem != nil {
			return p, problem
		}
		if len(p.Topics) == 0 {
			return p, errTopics
		}
	default:
		return p, errTopics
	}
	if p.Event, problem = event.decode(); problem != nil {
		return p, problem
	}
	if p.Event.ID.IsSet() {
		return p, errPublishedID
	}
	switch store.Kind() {
	case jsontext.KindInvalid, 't':
		p.Store = true
	case 'f':
	default:
		return p, errStoreType
	}
	if p.Retain, p.Key, problem = decodeRetain(retain, key, p.Store); problem != nil {
		return p, problem
	}
	if count != nil {
		c, ok := unquote(count)
		if !ok || c != "all" && c != "node" {
			return p, errCount
		}
		p.All = c == "all"
	}
	p.IdempotencyKey, problem = idempotencyKey(once)
	return p, problem
}

// decodeTopics reads an array of at most so many topics; anything else is the error
// invalid. Nothing of the result shares value's bytes.
func decodeTopics(value jsontext.Value, most int, invalid *Error) (names []string, problem *Error) {
	if value.Kind() != '[' {
		return nil, invalid
	}
	q := new(request)
	err := elements(q.decoderOf(value), func() error {
		var v jsontext.Value
		if err := q.take(&v); err != nil {
			return err
		}
		t, ok := unquote(v)
		if !ok || !topics.ValidName(t) {
			problem = invalid
			return errInvalid
		}
		if len(names) == most {
			problem = tooManyTopics(most)
			return errInvalid
		}
		names = append(names, clone(t))
		return nil
	})
	if err != nil && problem == nil {
		problem = invalid // not JSON, which the caller has excluded
	}
	if problem != nil {
		return nil, problem
	}
	return names, nil
}

// errInvalid stops decoding a value that is known to be invalid.
var errInvalid = errors.New("not valid")

// position serves GET /internal/position.
func (a *API) position(w http.ResponseWriter, r *http.Request) {
	if Allow(w, r, http.MethodGet, http.MethodHead) {
		WriteJSON(w, http.StatusOK, append(a.conns.Position(r.Context()).AppendTo([]byte(`{"position":"`)), `"}`...))
	}
}
