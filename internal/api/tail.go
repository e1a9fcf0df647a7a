package api

import (
	"net/http"
	"strconv"

	"ssegateway/internal/topics"
)

// maxTailTopics is how many topics a tail may have.
const maxTailTopics = 100

// tail serves GET /internal/tail.
func (a *API) tail(w http.ResponseWriter, r *http.Request) {
	if !Allow(w, r, http.MethodGet, http.MethodHead) {
		return
	}
	names, problem := tailTopics(r)
	if problem == nil {
		a.log.Debug("tail", "topics", len(names))
		problem = a.follow(w, r, names)
	}
	if problem != nil {
		problem.Write(w)
	}
}

func tailTopics(r *http.Request) ([]string, *Error) {
	values, problem := queryOf(r)
	if problem != nil {
		return nil, problem
	}
	names := values["topic"]
	if len(names) == 0 {
		return nil, errTailTopic
	}
	if len(names) > maxTailTopics {
		return nil, &Error{errTopicCount.Status, errTopicCount.Code, "there may be at most " + strconv.Itoa(maxTailTopics) + " topics"}
	}
	for _, name := range names {
		if !topics.ValidName(name) {
			return nil, errTailTopic
		}
	}
	return names, nil
}
