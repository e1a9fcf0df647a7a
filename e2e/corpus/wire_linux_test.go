package corpus

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"ssegateway/e2e/harness"
)

// quiet is how long -update waits for one more answer.
const quiet = 1500 * time.Millisecond

// reader reads the answers on a connection.
type reader struct {
	conn    net.Conn
	b       *bufio.Reader
	methods []string // of the requests that are to be answered
}

func newReader(conn net.Conn, raw string) *reader {
	r := &reader{conn: conn, b: bufio.NewReaderSize(conn, 64<<10)}
	for _, m := range requestLine.FindAllStringSubmatch(raw, -1) {
		r.methods = append(r.methods, m[1])
	}
	return r
}

// method returns the method of the next request.
func (r *reader) method() (method string) {
	if len(r.methods) > 0 {
		method, r.methods = r.methods[0], r.methods[1:]
	}
	return method
}

// requestLine finds the requests in the bytes of a case, where they are plain to see.
var requestLine = regexp.MustCompile(`(?:^|\n|\})([A-Z]+) \S+ HTTP/1`)

// next returns the next answer as a line. isStream says that it is a stream, of which only the head was read.
func (r *reader) next(within time.Duration) (line string, isStream bool, err error) {
	_ = r.conn.SetReadDeadline(time.Now().Add(within))
	if _, err := r.b.Peek(1); err != nil {
		return "", false, err
	}
	_ = r.conn.SetReadDeadline(time.Now().Add(harness.Patience))
	asked := &http.Request{Method: r.method()}
	resp, err := http.ReadResponse(r.b, asked) //nolint:bodyclose // the connection is
	if err != nil {
		return "", false, errors.Join(errMalformed, err)
	}
	words := []string{strconv.Itoa(resp.StatusCode)}
	if resp.StatusCode == http.StatusContinue {
		r.methods = append([]string{asked.Method}, r.methods...)
	}
	if isStream = strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream"); isStream {
		words = append(words, "stream", resp.Proto)
		if len(resp.TransferEncoding) > 0 {
			words = append(words, resp.TransferEncoding...)
		}
	} else {
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			return "", false, errors.Join(errMalformed, err)
		}
		words = append(words, meaning(resp.Header.Get("Content-Type"), body))
	}
	if resp.Close {
		words = append(words, "close")
	}
	return strings.Join(words, " "), isStream, nil
}

var errMalformed = errors.New("a malformed answer")

// meaning is what an answer's body says, without what differs from run to run.
func meaning(contentType string, body []byte) string {
	var answer struct {
		Status  string
		Error   struct{ Code string }
		Results []json.RawMessage
	}
	switch {
	case json.Unmarshal(body, &answer) != nil:
		if i := bytes.IndexByte(body, '\n'); i >= 0 {
			body = body[:i]
		}
		return strconv.Quote(contentType) + " " + strconv.Quote(string(body[:min(len(body), 30)]))
	case answer.Error.Code != "":
		return answer.Error.Code
	case answer.Results != nil:
		return strconv.Itoa(len(answer.Results)) + " results"
	default:
		return strconv.Quote(answer.Status)
	}
}

// marker is the request behind each case. Nothing else in the corpus asks for this, so that its answer cannot be taken for another one's.
const (
	marker   = "GET /readyz HTTP/1.1\r\nHost: localhost\r\nX-Marker: yes\r\n\r\n"
	itsReply = `200 "ready"`
)

// send makes an attempt, and returns what the client got. known is what it got before: so many answers are waited for before the
// marker is sent. nil: look.
func (a attempt) send(conn net.Conn, known []string) (lines []string) {
	_ = conn.SetWriteDeadline(time.Now().Add(harness.Patience))
	sent := make(chan struct{})
	go func() { // an answer may come before all of it is sent
		defer close(sent)
		_, _ = io.WriteString(conn, a.raw)
	}()
	r := newReader(conn, a.raw)
	stream := false
	answers, within := begins(known, "answer ")+begins(known, "closed"), harness.Patience
	if known == nil {
		answers, within = -1, quiet
	}
	for n := 0; n != answers && !stream; n++ {
		line, isStream, err := r.next(within)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded) && known == nil:
			n = answers - 1
			continue
		case errors.Is(err, errMalformed), errors.Is(err, os.ErrDeadlineExceeded):
			return append(lines, "missing: "+err.Error())
		case err != nil:
			return append(lines, "closed")
		}
		stream = isStream
		lines = append(lines, "answer "+line)
	}
	<-sent
	_, _ = io.WriteString(conn, marker)
	_ = conn.(*net.TCPConn).CloseWrite()
	if stream {
		_, err := io.Copy(io.Discard, r.b)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return append(lines, "marker never")
		}
		return append(lines, "stream ended")
	}
	for {
		line, isStream, err := r.next(harness.Patience)
		switch {
		case errors.Is(err, errMalformed):
			return append(lines, "marker malformed")
		case err != nil:
			return append(lines, "then closed")
		case line == itsReply:
			lines = append(lines, "marker answered")
		default:
			lines = append(lines, "marker "+line)
		}
		if isStream {
			_, _ = io.Copy(io.Discard, r.b)
			return lines
		}
	}
}
