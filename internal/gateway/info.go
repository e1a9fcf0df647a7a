package gateway

import (
	"bytes"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"ssegateway/internal/outbox"
)

var requestDecoders = sync.Pool{New: func() any { return &requestDecoder{} }}

type requestDecoder struct {
	source bytes.Buffer
	json   jsontext.Decoder
}

// Path returns the target of the request without its query, as it was sent.
func (c *Conn) Path() string {
	d, _ := requestDecoders.Get().(*requestDecoder)
	defer requestDecoders.Put(d)
	d.source = *bytes.NewBuffer(c.request) // the decoder makes no copy of it
	defer func() { d.source = bytes.Buffer{} }()
	d.json.Reset(&d.source)
	for range 2 { // {"url":
		if _, err := d.json.ReadToken(); err != nil {
			return ""
		}
	}
	url, err := d.json.ReadToken()
	if err != nil || url.Kind() != '"' {
		return ""
	}
	path, _, _ := strings.Cut(url.String(), "?")
	return strings.Clone(path)
}

// Info describes a connection.
type Info struct {
	Token    Token
	State    State
	Path     string
	Subject  string
	Topics   []string
	Overflow outbox.Overflow
	Since    time.Time
	Events   uint64 // written
	Bytes    uint64 // written
	Queued   int64  // bytes
	Drops    uint64
}

// Info returns a description of the connection as it is now.
func (c *Conn) Info() Info {
	i := c.info()
	slices.Sort(i.Topics)
	return i
}

func (c *Conn) info() Info {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := Info{
		Token: c.token, State: c.state, Path: c.Path(), Since: time.Unix(c.since, 0).UTC(),
		Events: c.events, Bytes: c.bytes,
	}
	if c.lag != nil {
		i.Queued = c.lag.Size()
	}
	if x := c.extras; x != nil {
		i.Subject, i.Overflow, i.Drops = x.subject, x.overflow, x.drops
		if x.member != nil {
			i.Topics = x.member.Names()
		}
	}
	return i
}
