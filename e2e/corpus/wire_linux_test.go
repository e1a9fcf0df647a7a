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
	"strconv"
	"strings"
	"time"

	"ssegateway/e2e/harness"
)

// quiet is how long -update waits for one more answer.
const quiet = 700 * time.Millisecond

// reader reads the answers on a connection.
type reader struct {
	conn net.Conn
	b    *bufio.Reader
}

func newReader(conn net.Conn) *reader { return &reader{conn, bufio.NewReaderSize(conn, 64<<10)} }

// next returns the next answer as a line. isStream says that it is a stream, of which only the head was read.
func (r *reader) next(within time.Duration) (line string, isStream bool, err error) {
	_ = r.conn.SetReadDeadline(time.Now().Add(within))
	if _, err := r.b.Peek(1); err != nil {
		return "", false, err
	}
	_ = r.conn.SetReadDeadline(time.Now().Add(harness.Patience))
	resp, err := http.ReadResponse(r.b, nil)
	if err != nil {
		return "", false, errors.Join(errMalformed, err)
	}
	words := []string{strconv.Itoa(resp.StatusCode)}
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

// send makes an attempt, and returns what the client got. answers is how many answers come before the marker is sent; -1: look.
func (a attempt) send(conn net.Conn, answers int) (lines []string) {
	_ = conn.SetWriteDeadline(time.Now().Add(harness.Patience))
	go func() { _, _ = io.WriteString(conn, a.raw) }() // an answer may come before all of it is sent
	r := newReader(conn)
	stream := false
	for n := 0; n != answers && !stream; n++ {
		within := harness.Patience
		if answers < 0 {
			within = quiet
		}
		line, isStream, err := r.next(within)
		if err != nil {
			if answers > 0 {
				lines = append(lines, "missing: "+err.Error())
			}
			break
		}
		stream = isStream
		lines = append(lines, "answer "+line)
	}
	_, _ = io.WriteString(conn, marker)
	_ = conn.(*net.TCPConn).CloseWrite()
	if stream {
		_, err := io.Copy(io.Discard, r.b)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return append(lines, "marker never")
		}
		return append(lines, "stream ended")
	}
	for first := true; ; first = false {
		line, isStream, err := r.next(harness.Patience)
		switch {
		case errors.Is(err, errMalformed):
			return append(lines, "marker malformed")
		case err != nil && first:
			return append(lines, "marker closed")
		case err != nil:
			return lines
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

