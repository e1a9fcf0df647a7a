package api

import (
	"net/http"

	"github.com/go-json-experiment/json/jsontext"
)

// batch serves POST /internal/batch: sends and publishes, performed in order, with
// one result for each. An operation that fails does not keep the next from being tried.
func (a *API) batch(w http.ResponseWriter, r *http.Request) {
	if !Allow(w, r, http.MethodPost) {
		return
	}
	q, _ := requests.Get().(*request)
	defer q.release()
	problem := q.readJSON(w, r, a.maxBody)
	var operations []jsontext.Value
	if problem == nil {
		operations, problem = q.decodeBatch()
	}
	if problem != nil {
		problem.Write(w)
		return
	}
	one := new(request)
	answer := []byte(`{"results":[`)
	for i, operation := range operations {
		if i > 0 {
			answer = append(answer, ',')
		}
		one.body = operation
		result, problem := a.operate(r, one)
		if problem != nil {
			result = problem.body()
		}
		answer = append(answer, result...)
	}
	WriteJSON(w, http.StatusOK, append(answer, "]}"...))
}

// operate performs one operation: a send if it has a token, else a publish.
func (a *API) operate(r *http.Request, q *request) ([]byte, *Error) {
	isSend, err := q.hasToken()
	if err != nil {
		return nil, errOperation
	}
	if !isSend {
		p, problem := q.decodePublish()
		if problem != nil {
			return nil, problem
		}
		return a.performPublish(r.Context(), p)
	}
	s, problem := q.decodeSend()
	_, answer := a.answerSend(r.Context(), s, problem, q.body)
	return answer, nil
}

func (q *request) hasToken() (found bool, err error) {
	d, ok := q.start()
	if !ok {
		return false, errNotAnObject
	}
	err = members(d, func(name string) error {
		found = found || name == "token"
		return d.SkipValue()
	})
	return found, err
}

func (q *request) decodeBatch() (operations []jsontext.Value, problem *Error) {
	d, ok := q.start()
	if !ok {
		return nil, errJSON
	}
	typed := false
	err := members(d, func(name string) error {
		if name != "operations" {
			return d.SkipValue()
		}
		if typed = d.PeekKind() == '['; !typed {
			return d.SkipValue()
		}
		return elements(d, func() error {
			var operation jsontext.Value
			err := q.take(&operation)
			operations = append(operations, operation)
			return err
		})
	})
	if err != nil || !q.end() {
		return nil, errJSON
	}
	if !typed {
		return nil, errOperations
	}
	return operations, nil
}
