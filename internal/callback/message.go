package callback

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"net/url"
	"strconv"
	"strings"
	"sync"

	"ssegateway/internal/broker"
	"ssegateway/internal/gateway"
)

// A callback is written with one Write from one buffer: the head that all of them
// share, the fields that differ, the body.

// requestHead returns the head of every callback, up to and without the value of Content-Length. token is that of
// the callbacks; empty: none.
func requestHead(u *url.URL, token string) []byte {
	host := strings.TrimSuffix(u.Host, ":")
	if i := strings.IndexByte(host, '%'); i >= 0 { // an IPv6 zone has a meaning on this host only
		host = host[:i] + host[strings.LastIndexByte(host, ']'):]
	}
	var b bytes.Buffer
	b.WriteString("POST " + u.RequestURI() + " HTTP/1.1\r\nHost: " + host + "\r\nUser-Agent: ssegateway\r\n")
	switch {
	case token != "":
		b.WriteString("Authorization: Bearer " + token + "\r\n")
	case u.User != nil:
		password, _ := u.User.Password()
		b.WriteString("Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(u.User.Username()+":"+password)) + "\r\n")
	}
	b.WriteString("Content-Type: application/json\r\nContent-Length: ")
	return b.Bytes()
}

// The parts of the bodies around their values.
const (
	connectOpen    = `{"action":"connect","token":"`
	disconnectOpen = `{"action":"disconnect","reason":"`
	detailKey      = `","detail":"`
	tokenKey       = `","token":"`
	positionKey    = `","position":"`
	requestKey     = `","request":`
	bodyEnd        = `}`
)

const tokenLen = 36

// appendHead adds the fields that differ and ends the head. The id is unique for what the callback says, and
// the same on each attempt. more are further lines.
func (c *Client) appendHead(dst, id []byte, bodyLen int, more string) ([]byte, signed) {
	dst = append(dst, c.head...)
	dst = strconv.AppendInt(dst, int64(bodyLen), 10)
	dst = append(dst, "\r\nwebhook-id: "...)
	at := span{from: len(dst)}
	dst = append(dst, id...)
	at.to = len(dst)
	dst = append(dst, "\r\n"...)
	dst, signed := c.signer.appendFields(dst, at)
	dst = append(dst, more...)
	return append(dst, "\r\n"...), signed
}

// appendID appends the id of a callback that is about one connection.
func appendID(dst []byte, token gateway.Token, action string) []byte {
	dst = appendToken(dst, token)
	dst = append(dst, '-')
	return append(dst, action...)
}

// idLen is the length of a disconnect's id, which is the longest.
const idLen = tokenLen + len("-disconnect")

func (c *Client) appendConnect(dst []byte, token gateway.Token, position broker.Position, request []byte, more string) []byte {
	n := len(connectOpen) + tokenLen + len(requestKey) + len(request) + len(bodyEnd)
	var space [32]byte
	var id []byte // of the position; empty: there is none
	if position.Epoch != "" {
		id = position.AppendTo(space[:0])
		n += len(positionKey) + len(id)
	}
	var room [idLen]byte
	dst, at := c.appendHead(dst, appendID(room[:0], token, ActionConnect), n, more)
	body := len(dst)
	dst = append(dst, connectOpen...)
	dst = appendToken(dst, token)
	if len(id) > 0 {
		dst = append(dst, positionKey...)
		dst = append(dst, id...)
	}
	dst = append(dst, requestKey...)
	dst = append(dst, request...)
	dst = append(dst, bodyEnd...)
	c.signer.sign(dst, at, body)
	return dst
}

func (c *Client) appendDisconnect(dst []byte, n *gateway.Notice, more string) []byte {
	reason, detail := n.Reason.String(), n.Detail.String()
	size := len(disconnectOpen) + len(reason) + len(tokenKey) + tokenLen + len(requestKey) + len(n.Request) + len(bodyEnd)
	if detail != "" {
		size += len(detailKey) + len(detail)
	}
	var room [idLen]byte
	dst, at := c.appendHead(dst, appendID(room[:0], n.Token, ActionDisconnect), size, more)
	body := len(dst)
	dst = append(dst, disconnectOpen...)
	dst = append(dst, reason...)
	if detail != "" {
		dst = append(dst, detailKey...)
		dst = append(dst, detail...)
	}
	dst = append(dst, tokenKey...)
	dst = appendToken(dst, n.Token)
	dst = append(dst, requestKey...)
	dst = append(dst, n.Request...)
	dst = append(dst, bodyEnd...)
	c.signer.sign(dst, at, body)
	return dst
}

// appendToken is Token.String without its allocation.
func appendToken(dst []byte, t gateway.Token) []byte {
	dst = hex.AppendEncode(dst, t[0:4])
	dst = append(dst, '-')
	dst = hex.AppendEncode(dst, t[4:6])
	dst = append(dst, '-')
	dst = hex.AppendEncode(dst, t[6:8])
	dst = append(dst, '-')
	dst = hex.AppendEncode(dst, t[8:10])
	dst = append(dst, '-')
	return hex.AppendEncode(dst, t[10:16])
}

// buffers are for messages and scratch space.
var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 2048); return &b }}

func getBuffer() *[]byte { return buffers.Get().(*[]byte) }

func putBuffer(b *[]byte) {
	if cap(*b) <= 64<<10 { // a rare large buffer is not kept
		*b = (*b)[:0]
		buffers.Put(b)
	}
}
