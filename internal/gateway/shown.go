package gateway

import (
	"bytes"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"
)

// RequestInfo is what may be shown of a client's request: nothing by which the client proves who it is.
type RequestInfo struct {
	Path    string            // without its query
	Headers map[string]string // by lower-case name
}

// shownHeaders are the headers that may be shown. A header that is not here may be a secret: some proxies
// put credentials into fields of their own, such as X-Forwarded-Access-Token. Last-Event-ID is not here
// either, since the id of a relayed answer is enough to read that.
var shownHeaders = []string{
	"accept", "cdn-loop", "cf-connecting-ip", "fastly-client-ip", "forwarded", "host", "origin", "referer", "true-client-ip", "user-agent", "via",
	"x-client-ip", "x-forwarded-for", "x-forwarded-host", "x-forwarded-port", "x-forwarded-proto", "x-real-ip",
}

// maxShown bounds the value of a header that is shown, in bytes.
const maxShown = 1 << 10

// Request returns what may be shown of the connection's request, or nil if nothing of it is kept. It
// decodes what is kept for callbacks, so that a connection holds nothing for it.
func (c *Conn) Request() *RequestInfo {
	if len(c.request) == 0 {
		return nil
	}
	i := &RequestInfo{Path: c.Path(), Headers: map[string]string{}}
	d, _ := requestDecoders.Get().(*requestDecoder)
	defer requestDecoders.Put(d)
	d.source = *bytes.NewBuffer(c.request) // the decoder makes no copy of it
	defer func() { d.source = bytes.Buffer{} }()
	d.json.Reset(&d.source)
	name := ""
	for {
		t, err := d.json.ReadToken()
		if err != nil {
			return i
		}
		if depth := d.json.StackDepth(); depth != 2 || t.Kind() != '"' { // the headers' names and values
			continue
		}
		if _, n := d.json.StackIndex(2); n%2 == 1 {
			name = strings.Clone(t.String())
		} else if slices.Contains(shownHeaders, name) {
			i.Headers[name] = shown(name, t.String())
		}
	}
}

// shown returns what may be shown of a header's value.
func shown(name, value string) string {
	if name == "referer" {
		u, err := url.Parse(value)
		if err != nil {
			return ""
		}
		u.User, u.RawQuery, u.ForceQuery, u.Fragment, u.RawFragment = nil, "", false, "", ""
		value = u.String()
	}
	if len(value) > maxShown {
		n := maxShown
		for !utf8.RuneStart(value[n]) {
			n--
		}
		value = value[:n] + "…"
	}
	return strings.Clone(value)
}
