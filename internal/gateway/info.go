package gateway

import (
	"bytes"
	"net/netip"
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
	before := 2 // {"url":
	if bytes.HasPrefix(c.request, []byte(clientIPOpen)) {
		before = 4
	}
	for range before {
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

// ClientIP returns the address of the connection's client, or the zero Addr if it is not known.
func (c *Conn) ClientIP() netip.Addr { return ClientIP(c.request) }

// clientIPOpen begins a request that has the address of its client.
const clientIPOpen = `{"client_ip":"`

// ClientIP returns the address of the client of a request as Connect gets it: its first member, if that is
// "client_ip". Else it returns the zero Addr.
func ClientIP(request []byte) netip.Addr {
	rest, ok := bytes.CutPrefix(request, []byte(clientIPOpen))
	if !ok {
		return netip.Addr{}
	}
	text, _, _ := bytes.Cut(rest[:min(len(rest), maxAddr)], []byte{'"'})
	addr, _ := netip.ParseAddr(string(text)) // the caller has made it
	return addr
}

// maxAddr is the longest text of an address, and its quotation mark.
const maxAddr = len("0000:0000:0000:0000:0000:ffff:255.255.255.255") + 1

// Info describes a connection.
type Info struct {
	Token    Token
	State    State
	Relayed  bool // the backend itself writes the stream
	Path     string
	ClientIP string // "": not known
	Subject  string
	Topics   []string
	Overflow outbox.Overflow
	Since    time.Time
	Events   uint64 // written
	Bytes    uint64 // written
	Queued   int64  // bytes
	Drops    uint64
	Answer   *AnswerInfo // that it reads; nil: none
	// Request is what may be shown of the client's request. It is there only where one connection is described; nil: not known.
	Request *RequestInfo
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
		Token: c.token, State: c.state, Relayed: c.kind == relayed, Path: c.Path(), Since: time.Unix(int64(c.since), 0).UTC(),
		Events: c.events, Bytes: c.bytes,
	}
	if client := ClientIP(c.request); client.IsValid() {
		i.ClientIP = client.String()
	}
	if c.lag != nil {
		i.Queued = c.lag.Size()
	}
	if x := c.extras; x != nil {
		i.Subject, i.Overflow, i.Drops = x.subject, x.overflow, x.drops
		if x.reader != nil {
			answer := x.reader.kept.Describe()
			i.Answer = &answer
		}
		if x.member != nil {
			i.Topics = x.member.Names()
		}
	}
	return i
}
