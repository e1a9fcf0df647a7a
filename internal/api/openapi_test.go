package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
)

// document is the description of the API, checked for its own rules and that its
// examples follow it.
var document = sync.OnceValues(func() (*openapi3.T, error) {
	doc, err := openapi3.NewLoader().LoadFromData(openAPI)
	if err != nil {
		return nil, err
	}
	return doc, doc.Validate(context.Background(), openapi3.EnableExamplesValidation(), openapi3.EnableSchemaDefaultsValidation(),
		openapi3.EnableSchemaPatternValidation())
})

func TestDocument(t *testing.T) {
	doc, err := document()
	if err != nil {
		t.Fatal(err)
	}
	ids := map[string]bool{}
	for path, item := range doc.Paths.Map() {
		for method, o := range item.Operations() {
			if o.OperationID == "" || ids[o.OperationID] || o.Summary == "" || len(o.Tags) != 1 {
				t.Errorf("%s %s: needs an operationId of its own, a summary and a tag", method, path)
			}
			ids[o.OperationID] = true
			for _, status := range []int{401, 403} { // by the access rules, before anything is looked at
				if o.Responses.Status(status) == nil {
					t.Errorf("%s %s: no %d", method, path, status)
				}
			}
		}
	}
}

// Every code of the API is in the document, and it has no other.
func TestDocumentHasEveryCode(t *testing.T) {
	source, err := os.ReadFile("errors.go")
	if err != nil {
		t.Fatal(err)
	}
	ours, clients, ok := strings.Cut(string(source), "// Of clients' requests.")
	if !ok {
		t.Fatal("errors.go has no errors of clients")
	}
	codes := map[string]bool{"METHOD_NOT_ALLOWED": true, "INVALID_STREAM": true, "REQUEST_TOO_LARGE": true, "INVALID_REQUEST": true}
	pattern := regexp.MustCompile(`\d{3}, "([A-Z_]+)"`)
	for _, match := range pattern.FindAllStringSubmatch(ours, -1) {
		codes[match[1]] = true
	}
	if len(codes) < 30 {
		t.Errorf("only %d codes found", len(codes))
	}
	doc, err := document()
	if err != nil {
		t.Fatal(err)
	}
	var listed []string
	for _, code := range doc.Components.Schemas["ErrorCode"].Value.Enum {
		listed = append(listed, code.(string))
	}
	if want := slices.Sorted(maps.Keys(codes)); !slices.Equal(listed, want) {
		t.Errorf("ErrorCode has\n%v, want\n%v", listed, want)
	}
	elsewhere := bytes.Replace(openAPI, []byte("        - "+strings.Join(listed, "\n        - ")+"\n"), nil, 1)
	if len(elsewhere) == len(openAPI) {
		t.Error("the list of ErrorCode was not found")
	}
	for code := range codes {
		if !regexp.MustCompile(`\b` + code + `\b`).Match(elsewhere) {
			t.Errorf("%s is not described where it is answered", code)
		}
	}
	for _, match := range pattern.FindAllStringSubmatch(clients, -1) {
		if code := match[1]; !codes[code] && bytes.Contains(openAPI, []byte(code)) {
			t.Errorf("%s is described, but no answer of the API", code)
		}
	}
	for _, list := range regexp.MustCompile(`enum:\s*((?:\s*- [A-Z_]+\n)+|\[[A-Z_, ]+\])`).FindAllSubmatch(openAPI, -1) {
		for _, code := range regexp.MustCompile(`[A-Z_]{3,}`).FindAllString(string(list[1]), -1) {
			if !codes[code] {
				t.Errorf("%s is described, but there is no such code", code)
			}
		}
	}
}

// described returns an http.Handler that checks every request and answer against the document.
func described(t testing.TB, h http.Handler) http.Handler {
	t.Helper()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var sent bytes.Buffer
		target := r.RequestURI
		r.Body = struct {
			io.Reader
			io.Closer
		}{io.TeeReader(r.Body, &sent), r.Body}
		seen := &recording{ResponseWriter: w}
		h.ServeHTTP(seen, r)
		request := httptest.NewRequest(r.Method, target, &sent)
		request.Header = r.Header
		if request.Header.Get("Content-Type") == "" && sent.Len() == 0 {
			request.Header.Del("Content-Type")
		}
		checkAnswer(t, request, sent.String(), seen.status, seen.Header(), seen.body.Bytes())
	})
}

// recording remembers an answer.
type recording struct {
	http.ResponseWriter
	status int
	body   bytes.Buffer
}

func (w *recording) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *recording) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

func (w *recording) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	w.body.Write(p)
	return w.ResponseWriter.Write(p)
}

// undescribable are the codes of faults that a schema cannot see.
var undescribable = map[string]bool{
	"INVALID_JSON": true, "REQUEST_ABORTED": true, "INVALID_STREAM": true, "INVALID_QUERY": true, "INVALID_CURSOR": true, "INVALID_FILTER": true,
	"TOO_MANY_TOPICS": true, // MAX_TOPICS is a setting
}

func checkAnswer(t testing.TB, r *http.Request, sent string, status int, header http.Header, body []byte) {
	t.Helper()
	doc, err := document()
	if err != nil {
		t.Fatal(err)
	}
	answered := r.Method + " " + r.RequestURI + ": " + http.StatusText(status) + " " + string(body)
	path, item, params := lookup(doc, r.URL.EscapedPath())
	var code string
	if status >= 400 {
		e := doc.Components.Schemas["Error"].Value
		_, rest, _ := strings.Cut(string(body), `"code":"`)
		code, _, _ = strings.Cut(rest, `"`)
		if err := e.VisitJSON(parse(t, body), openapi3.EnableJSONSchema2020()); err != nil {
			t.Errorf("%s: %v", answered, err)
		}
	}
	if item == nil {
		if status != 404 || code != "NOT_FOUND" {
			t.Errorf("%s: an undescribed path", answered)
		}
		return
	}
	operation := item.GetOperation(r.Method)
	if r.Method == http.MethodHead {
		operation = item.Get
	}
	if operation == nil {
		var methods []string
		for method := range item.Operations() {
			methods = append(methods, method)
		}
		if item.Get != nil {
			methods = append(methods, http.MethodHead)
		}
		slices.Sort(methods)
		allowed := strings.Split(strings.Join(header["Allow"], "; "), ", ") // one line
		slices.Sort(allowed)
		if status != 405 || code != "METHOD_NOT_ALLOWED" || !slices.Equal(allowed, methods) {
			t.Errorf("%s, Allow %v: an undescribed method; described are %v", answered, allowed, methods)
		}
		return
	}
	input := &openapi3filter.RequestValidationInput{
		Request: r, PathParams: params,
		Route: &routers.Route{Spec: doc, Path: path, PathItem: item, Method: r.Method, Operation: operation},
		Options: &openapi3filter.Options{
			IncludeResponseStatus: true, AuthenticationFunc: openapi3filter.NoopAuthenticationFunc,
			ExcludeRequestBody: r.Header.Get("Content-Type") != "application/json", SkipSettingDefaults: true,
		},
	}
	r.Body = io.NopCloser(strings.NewReader(sent))
	if path == "/internal/batch" && status == http.StatusOK {
		checkOperations(t, sent, body) // each has its own answer
	} else {
		switch err := openapi3filter.ValidateRequest(t.Context(), input); {
		case status < 400 && err != nil:
			t.Errorf("%s\nto a request that the document does not allow: %s: %v", answered, sent, err)
		case status == 400 && err == nil && !undescribable[code] && !bytes.Contains(body, []byte(errAhead.Message)):
			t.Errorf("%s\nto a request that the document allows: %s", answered, sent)
		}
	}
	if operation.Responses.Status(status) == nil { // `default` is for what has no line of its own in the document
		t.Errorf("%s: an undescribed status", answered)
		return
	}
	err = openapi3filter.ValidateResponse(t.Context(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: input, Status: status, Header: header, Options: input.Options,
		Body: io.NopCloser(bytes.NewReader(body)),
	})
	if err != nil {
		t.Errorf("%s: %v", answered, err)
		return
	}
	response := operation.Responses.Status(status).Value
	if len(response.Content) == 0 && len(body) > 0 && r.Method != http.MethodHead {
		t.Errorf("%s: an undescribed body", answered)
	}
	for name := range header {
		if response.Headers[name] == nil && !slices.Contains([]string{"Content-Type", "Content-Length", "Date"}, name) {
			t.Errorf("%s: an undescribed header %s: %s", answered, name, header[name])
		}
	}
}

// checkOperations checks that the document allows the operations of a batch that were carried out.
func checkOperations(t testing.TB, sent string, body []byte) {
	t.Helper()
	doc, err := document()
	if err != nil {
		t.Fatal(err)
	}
	var batch struct {
		Operations []any `json:"operations"`
	}
	var answer struct {
		Results []struct {
			Status string `json:"status"`
		} `json:"results"`
	}
	if err := errors.Join(decodeJSON([]byte(sent), &batch), decodeJSON(body, &answer)); err != nil || len(batch.Operations) != len(answer.Results) {
		t.Errorf("%s: %d results: %v", sent, len(answer.Results), err)
		return
	}
	allowed := map[string]bool{} // to look at each of many equal ones would take minutes
	for i, result := range answer.Results {
		text := fmt.Sprint(batch.Operations[i])
		if result.Status == "" || allowed[text] {
			continue
		}
		if err := doc.Components.Schemas["Operation"].Value.VisitJSON(batch.Operations[i], openapi3.EnableJSONSchema2020()); err != nil {
			t.Errorf("operation %d of %s, which the document does not allow: %s: %v", i, sent, body, err)
		}
		allowed[text] = true
	}
}

// lookup returns the described path that a path is one of.
func lookup(doc *openapi3.T, path string) (pattern string, item *openapi3.PathItem, params map[string]string) {
	parts := strings.Split(path, "/")
	for pattern, item := range doc.Paths.Map() {
		params := map[string]string{}
		names := strings.Split(pattern, "/")
		fits := len(names) == len(parts)
		for i := 0; fits && i < len(names); i++ {
			if name, ok := strings.CutPrefix(names[i], "{"); ok {
				params[strings.TrimSuffix(name, "}")] = parts[i]
			} else {
				fits = names[i] == parts[i]
			}
		}
		if fits {
			return pattern, item, params
		}
	}
	return "", nil, nil
}

func parse(t testing.TB, body []byte) any {
	t.Helper()
	var v any
	if err := decodeJSON(body, &v); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	return v
}

// What the document says of connect answers is what is understood of them.
func TestGrantIsDescribed(t *testing.T) {
	doc, err := document()
	if err != nil {
		t.Fatal(err)
	}
	schema := doc.Components.Schemas["Grant"].Value
	for name, c := range grants {
		if c.undescribable {
			continue
		}
		body := c.body
		if strings.TrimSpace(body) == "" {
			body = "{}"
		}
		err := schema.VisitJSON(parse(t, []byte(body)), openapi3.EnableJSONSchema2020())
		if valid := c.wrong == ""; valid != (err == nil) {
			t.Errorf("%s: %s: valid %v, but the document says %v", name, c.body, valid, err)
		}
	}
}

// failures counts what a check finds.
type failures struct {
	testing.TB
	n int
}

func (f *failures) Errorf(string, ...any) { f.n++ }
func (f *failures) Helper()               {}

// The check sees what is not described.
func TestCheckIsNotBlind(t *testing.T) {
	head := func(extra ...string) http.Header {
		h := http.Header{"Content-Type": {"application/json"}, "Cache-Control": {"no-store"}}
		for _, name := range extra {
			h.Set(name, "x")
		}
		return h
	}
	const send = `{"token":"t"}`
	failed := func(code string) string { return `{"error":{"message":"m","code":"` + code + `"}}` }
	for name, c := range map[string]struct {
		sent   string
		status int
		header http.Header
		body   string
		faulty bool
	}{
		"as described":          {send, 200, head(), `{"status":"ok"}`, false},
		"error as described":    {send, 404, head(), failed("TOKEN_NOT_FOUND"), false},
		"undescribed status":    {send, 202, head(), `{"status":"ok"}`, true},
		"undescribed value":     {send, 200, head(), `{"status":"fine"}`, true},
		"undescribed field":     {send, 200, head(), `{"status":"ok","x":1}`, true},
		"missing field":         {send, 200, head(), `{}`, true},
		"undescribed header":    {send, 200, head("X-More"), `{"status":"ok"}`, true},
		"missing header":        {send, 200, http.Header{"Content-Type": {"application/json"}}, `{"status":"ok"}`, true},
		"undescribed code":      {send, 404, head(), failed("NO_TOKEN"), true},
		"code of another place": {send, 404, head(), failed("CONNECTION_GONE"), true},
		"field in an error":     {send, 404, head(), `{"error":{"message":"m","code":"TOKEN_NOT_FOUND","x":1}}`, true},
		"invalid, accepted":     {`{"token":1}`, 200, head(), `{"status":"ok"}`, true},
		"valid, refused":        {send, 400, head(), failed("INVALID_WAIT"), true},
		"undescribed error":     {send, 402, head(), failed("TOKEN_NOT_FOUND"), true},
		"operation":             {`{"operations":[{"token":"t"}]}`, 200, head(), `{"results":[{"status":"ok"}]}`, false},
		"operation, refused":    {`{"operations":[{"token":1}]}`, 200, head(), `{"results":[` + failed("INVALID_TOKEN_MISSING") + `]}`, false},
		"operation, accepted":   {`{"operations":[{"token":1}]}`, 200, head(), `{"results":[{"status":"ok"}]}`, true},
		"operation, forgotten":  {`{"operations":[{"token":"t"},{"token":"t"}]}`, 200, head(), `{"results":[{"status":"ok"}]}`, true},
	} {
		found := &failures{TB: t}
		target := "/internal/send"
		if strings.Contains(c.sent, "operations") {
			target = "/internal/batch"
		}
		r := httptest.NewRequest(http.MethodPost, target, nil)
		r.Header.Set("Content-Type", "application/json")
		checkAnswer(found, r, c.sent, c.status, c.header, []byte(c.body))
		if c.faulty != (found.n > 0) {
			t.Errorf("%s: %d faults found", name, found.n)
		}
	}
}
