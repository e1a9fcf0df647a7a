package contract

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"

	"github.com/google/go-cmp/cmp"

	"ssegateway/e2e/harness"
)

// Reply is the gateway's answer to the backend.
type Reply struct {
	Status int
	Header http.Header
	Body   string
}

// Call makes a request as a backend does. The header is a list of name, value, name, value, and so on.
func (s *Site) Call(method, path, body string, header ...string) Reply {
	s.t.Helper()
	reply, err := s.call(method, path, strings.NewReader(body), header...)
	if err != nil {
		s.t.Fatalf("%s %s: %v", method, path, err)
	}
	return reply
}

// call is like Call, for goroutines, which must not end the test.
func (s *Site) call(method, path string, body io.Reader, header ...string) (Reply, error) {
	if text, ok := body.(*strings.Reader); ok {
		all := make([]byte, text.Len())
		_, _ = text.ReadAt(all, 0)
		canaries.call(string(all))
	}
	for i := 0; i < len(header); i += 2 {
		canaries.field(header[i], header[i+1])
	}
	return call(s.t, s.client, s.endpoint, method, path, body, header...)
}

func call(t *T, client *http.Client, e harness.Endpoint, method, path string, body io.Reader, header ...string) (Reply, error) {
	host := e.Addr
	if strings.HasPrefix(host, "/") {
		host = "unix"
	}
	req, err := http.NewRequestWithContext(t.Context(), method, e.Scheme()+"://"+host+path, body)
	if err != nil {
		return Reply{}, err
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	req.Header.Add("Cookie", "session="+canaryCookie)
	resp, err := client.Do(req)
	if err != nil {
		return Reply{}, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	return Reply{resp.StatusCode, resp.Header, string(answer)}, err
}

// object is a JSON object.
type object = map[string]any

func itoa(n int) string { return strconv.Itoa(n) }

func decode(body string, into any) error { return json.Unmarshal([]byte(body), into) }

func encode(v any) string {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		panic(err) // the tests encode only values that cannot fail
	}
	return b.String()
}

const sendPath = "/internal/send"

// Send posts a send with this body.
func (s *Site) Send(body string) Reply {
	s.t.Helper()
	return s.Call(http.MethodPost, sendPath, body, "Content-Type", "application/json")
}

// SendObject posts a send.
func (s *Site) SendObject(body object) Reply { s.t.Helper(); return s.Send(encode(body)) }

// Event sends an event without a name, which must be accepted.
func (s *Site) Event(token, data string) {
	s.t.Helper()
	s.WantStatusOK(s.SendObject(object{"token": token, "event": object{"data": data}}), "ok")
}

// CloseStream closes a connection, which must be accepted.
func (s *Site) CloseStream(token string) {
	s.t.Helper()
	s.WantStatusOK(s.SendObject(object{"token": token, "close": true}), "ok")
}

// WantStatusOK checks a 200 with {"status": status}.
func (s *Site) WantStatusOK(got Reply, status string) {
	s.t.Helper()
	s.WantJSON(got, http.StatusOK, object{"status": status})
}

// WantJSON checks status, media type and body.
func (s *Site) WantJSON(got Reply, status int, want object) {
	s.t.Helper()
	if problem := got.differs(status, want); problem != "" {
		s.t.Fatal(problem)
	}
}

func (r Reply) differs(status int, want object) string {
	if r.Status != status {
		return fmt.Sprintf("status %d with %s, want %d with %s", r.Status, quoted(r.Body), status, encode(want))
	}
	var got any
	if err := json.Unmarshal([]byte(r.Body), &got); err != nil {
		return fmt.Sprintf("body %s: %v", quoted(r.Body), err)
	}
	if diff := cmp.Diff(any(want), got); diff != "" {
		return fmt.Sprintf("body (-want +got):\n%s", diff)
	}
	return r.notJSON()
}

func (r Reply) notJSON() string {
	if mediaType, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";"); mediaType != "application/json" {
		return fmt.Sprintf("Content-Type %q of %s", r.Header.Get("Content-Type"), quoted(r.Body))
	}
	return ""
}

var codeForm = regexp.MustCompile(`^[A-Z][A-Z0-9_]*$`)

// WantError checks the status and form of an error answer, and the code and the message
// unless they are empty.
func (s *Site) WantError(got Reply, status int, code, message string) {
	s.t.Helper()
	if problem := got.notError(status, code, message); problem != "" {
		s.t.Fatal(problem)
	}
}

func (r Reply) notError(status int, code, message string) string {
	var body struct {
		Error *struct {
			Message *string `json:"message"`
			Code    *string `json:"code"`
		} `json:"error"`
	}
	decoder := json.NewDecoder(strings.NewReader(r.Body))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(&body)
	switch {
	case r.Status != status:
		return fmt.Sprintf("status %d with %s, want %d %s", r.Status, quoted(r.Body), status, code)
	case err != nil || body.Error == nil || body.Error.Message == nil || body.Error.Code == nil:
		return fmt.Sprintf("status %d with %s, which is not the form of an error (%v)", r.Status, quoted(r.Body), err)
	case !codeForm.MatchString(*body.Error.Code) || *body.Error.Message == "":
		return fmt.Sprintf("error %s: code or message is not of the form", quoted(r.Body))
	case code != "" && *body.Error.Code != code || message != "" && *body.Error.Message != message:
		return fmt.Sprintf("error %s, want code %s and message %q", quoted(r.Body), code, message)
	}
	return r.notJSON()
}

// Reply waits for the end of an answer that is not a stream.
func (x *Stream) Reply() Reply { x.s.t.Helper(); return reply(x.s.t, x.Exchange) }

func reply(t *T, x *harness.Exchange) Reply {
	t.Helper()
	head := wantHead(t, x)
	body, end, err := x.Rest(patience)
	if end != harness.Clean {
		t.Fatalf("status %d with %s: %v (%v), want a whole answer", head.Status, quoted(body), end, err)
	}
	r := Reply{head.Status, http.Header{}, body}
	for _, f := range head.Header {
		r.Header.Add(f.Name, f.Value)
	}
	return r
}

// Refusal waits for the answer to a request for a stream, which must be refused like this.
func (x *Stream) Refusal(status int, code, message string) {
	x.s.t.Helper()
	x.s.WantError(x.Reply(), status, code, message)
}

func jsonBody(v any) io.Reader { return strings.NewReader(encode(v)) }
