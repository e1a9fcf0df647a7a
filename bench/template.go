package bench

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// values are what the placeholders of a template stand for.
type values struct {
	stream int    // {n}
	common bool   // {channel} is commonChannel; else it is the stream's number
	token  string // {token}, which the gateway gave the stream
	data   []byte // {data}
}

// commonChannel is the channel, or topic, of all streams.
const commonChannel = "bench"

var placeholders = []string{"{n}", "{channel}", "{token}", "{data}"}

// template is a text with placeholders, parsed once.
type template []piece

// piece is a text, and the placeholder after it. The last has none.
type piece struct{ text, placeholder string }

func parseTemplate(text string) (t template) {
	for from := 0; ; {
		next, found := -1, ""
		for _, p := range placeholders {
			if i := strings.Index(text[from:], p); i >= 0 && (next < 0 || from+i < next) {
				next, found = from+i, p
			}
		}
		if found == "" {
			return append(t, piece{text: text[from:]})
		}
		t = append(t, piece{text[from:next], found})
		from = next + len(found)
	}
}

func (t template) append(b []byte, v *values) []byte {
	for _, p := range t {
		b = append(b, p.text...)
		switch {
		case p.placeholder == "":
		case p.placeholder == "{data}":
			b = append(b, v.data...)
		case p.placeholder == "{token}":
			b = append(b, v.token...)
		case p.placeholder == "{channel}" && v.common:
			b = append(b, commonChannel...)
		default:
			b = strconv.AppendInt(b, int64(v.stream), 10)
		}
	}
	return b
}

// requestSpec describes a request. All of it except the host may have placeholders.
type requestSpec struct {
	Method, URL string
	Headers     []string // "Name: value"
	Body        string
}

// withHeader adds a header unless the user has set it.
func (s requestSpec) withHeader(name, value string) requestSpec {
	for _, h := range s.Headers {
		if n, _, _ := strings.Cut(h, ":"); strings.EqualFold(strings.TrimSpace(n), name) {
			return s
		}
	}
	s.Headers = append(s.Headers[:len(s.Headers):len(s.Headers)], name+": "+value)
	return s
}

// address returns the host and port of the URL.
func (s requestSpec) address() (host string, port int, err error) {
	u, err := url.Parse(s.URL)
	if err != nil || u.Scheme != "http" || u.Hostname() == "" || strings.Contains(u.Host, "{") {
		return "", 0, fmt.Errorf("%q is not an http URL with a host", s.URL)
	}
	port = 80
	if text := u.Port(); text != "" {
		if port, err = net.LookupPort("tcp", text); err != nil {
			return "", 0, err
		}
	}
	return u.Hostname(), port, nil
}

// request is an HTTP/1.1 request, parsed into templates. The body is one event, or several
// with before, between and after around them.
type request struct {
	head                   template // up to the value of Content-Length; without a body up to the end
	body                   bool
	event                  template
	before, between, after string
}

func (s requestSpec) parse() *request {
	authority, path := strings.TrimPrefix(s.URL, "http://"), "/"
	if i := strings.IndexAny(authority, "/?"); i >= 0 {
		authority, path = authority[:i], authority[i:]
	}
	if path[0] == '?' {
		path = "/" + path
	}
	s = s.withHeader("Host", authority)
	head := s.Method + " " + path + " HTTP/1.1\r\n" + strings.Join(s.Headers, "\r\n") + "\r\n"
	if s.Body == "" && s.Method == http.MethodGet {
		return &request{head: parseTemplate(head + "\r\n")}
	}
	return &request{head: parseTemplate(head + "Content-Length: "), body: true, event: parseTemplate(s.Body)}
}

// withEvents returns the same request for a body of several events.
func (r *request) withEvents(before, between, after string) *request {
	several := *r
	several.before, several.between, several.after = before, between, after
	return &several
}

// append appends the request to b. body is made by addEvent.
func (r *request) append(b []byte, v *values, body []byte) []byte {
	b = r.head.append(b, v)
	if !r.body {
		return b
	}
	b = strconv.AppendInt(b, int64(len(r.before)+len(body)+len(r.after)), 10)
	b = append(b, "\r\n\r\n"...)
	b = append(b, r.before...)
	b = append(b, body...)
	return append(b, r.after...)
}

// addEvent adds one event to the body of a request.
func (r *request) addEvent(body []byte, v *values) []byte {
	if len(body) > 0 {
		body = append(body, r.between...)
	}
	return r.event.append(body, v)
}
