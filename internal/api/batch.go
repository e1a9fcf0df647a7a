package api

import (
	"bufio"
	"bytes"
	"context"
	"net/http"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	"ssegateway/internal/connections"
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
	valid, problems := a.decodeOperations(operations)
	done := a.conns.Batch(r.Context(), valid)
	results := make([][]byte, 0, len(operations))
	for i, problem := range problems {
		var result []byte
		if problem == nil {
			result, problem = a.answerOperation(r.Context(), valid[0], done[0])
			valid, done = valid[1:], done[1:]
		}
		if problem != nil {
			result = problem.body()
		}
		if i > 0 && bytes.Equal(result, results[i-1]) {
			result = results[i-1] // equal results share their bytes: a batch may have thousands
		}
		results = append(results, result)
	}
	writeResults(w, results)
}

// decodeOperations returns the valid operations, and for each operation its error, nil if it is
// valid.
func (a *API) decodeOperations(operations []jsontext.Value) (valid []connections.Operation, problems []*Error) {
	problems = make([]*Error, len(operations))
	one := new(request)
	for i, operation := range operations {
		one.body = operation
		var o connections.Operation
		if o, problems[i] = a.decodeOperation(one); problems[i] == nil {
			valid = append(valid, o)
		}
	}
	return valid, problems
}

func (a *API) answerOperation(ctx context.Context, o connections.Operation, done connections.Result) ([]byte, *Error) {
	if o.Publish != nil {
		return a.answerPublish(ctx, *o.Publish, done.Published, done.Err)
	}
	_, answer := answerOf(done.Outcome, done.Err)
	return answer, nil
}

// maxOperations bounds a batch, and with it the answer, which may be many times as long
// as the request.
const maxOperations = 10_000

// writeResults answers a batch. All operations were performed before the first byte is
// written, since a caller that does not read must not hold them up.
func writeResults(w http.ResponseWriter, results [][]byte) {
	const begin, end = `{"results":[`, `]}`
	length := len(begin) + max(0, len(results)-1) + len(end)
	for _, result := range results {
		length += len(result)
	}
	h := w.Header()
	h["Content-Type"] = jsonType
	h["Cache-Control"] = noStore
	h["Content-Length"] = []string{strconv.Itoa(length)}
	out := bufio.NewWriterSize(w, 16<<10)
	_, _ = out.WriteString(begin)
	for i, result := range results {
		if i > 0 {
			_ = out.WriteByte(',')
		}
		_, _ = out.Write(result)
	}
	_, _ = out.WriteString(end)
	_ = out.Flush() // fails only if the caller has left
}

// decodeOperation reads one operation: a send if it has a token, else a publish.
func (a *API) decodeOperation(q *request) (o connections.Operation, problem *Error) {
	isSend, err := q.hasToken()
	if err != nil {
		return o, errOperation
	}
	if isSend {
		if o.Send, problem = q.decodeSend(); problem != nil {
			a.invalid.Add(1)
		}
		return o, problem
	}
	p, problem := q.decodePublish(a.maxTopics)
	if problem != nil {
		a.invalidPublishes.Add(1)
	}
	o.Publish = &p
	return o, problem
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
			if len(operations) == maxOperations {
				problem = errOperationCount
				return errInvalid
			}
			var operation jsontext.Value
			err := q.take(&operation)
			operations = append(operations, operation)
			return err
		})
	})
	if problem != nil {
		return nil, problem
	}
	if err != nil || !q.end() {
		return nil, invalidJSON(err)
	}
	if !typed {
		return nil, errOperations
	}
	return operations, nil
}
