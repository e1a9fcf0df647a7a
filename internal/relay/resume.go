package relay

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"encoding/hex"
	"io"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"time"

	"ssegateway/internal/api"
	"ssegateway/internal/gateway"
)

// maxResume is the longest time in seconds for which an answer is there for those who come back.
const maxResume = 3600

// resumeTime returns what the backend says in Sse-Gateway-Resume, or the default.
func (r *Relay) resumeTime(field string) time.Duration {
	if field == "" {
		return r.cfg.Resume
	}
	seconds, err := strconv.ParseUint(field, 10, 16)
	if err != nil || seconds > maxResume {
		r.unreadable.Do(func() {
			r.cfg.Log.Warn(resumeField + " of an answer is no number of seconds from 0 to 3600, so it is passed over (this is said once)")
		})
		return r.cfg.Resume
	}
	return time.Duration(seconds) * time.Second
}

// newAnswer makes an answer that is about to get its first reader.
func (r *Relay) newAnswer(x *exchange) *answer {
	a := &answer{
		relay: r, token: x.conn.Token(), cancel: x.cancel, head: streamHead(x.answer.Header), wait: x.resume, joining: 1, ended: make(chan struct{}),
	}
	if a.wait == 0 {
		return a
	}
	if !r.reserve(a, answerCost+headSize(a.head)) {
		a.wait = 0
		r.unkept.Add(1)
		r.cfg.Log.Debug("a relayed answer is not kept", "token", a.token.String(), "cause", noBudget)
		return a
	}
	a.kept, a.keeping, a.ids = true, true, true
	a.path, a.since = x.conn.Path(), time.Now().UTC().Truncate(time.Second)
	if client := x.conn.ClientIP(); client.IsValid() {
		a.client = client.String()
	}
	binary.BigEndian.PutUint32(a.key[:], r.cfg.Gateway.Number())
	_, _ = rand.Read(a.key[4:])
	a.auth = authorization(x.in)
	a.head.Set(resumeField, a.key.String()+".0")
	r.enter(a)
	return a
}

// headSize returns what a header takes in bytes, about.
func headSize(h http.Header) (size int64) {
	for name, values := range h {
		for _, v := range values {
			size += int64(len(name) + len(v) + eventCost)
		}
	}
	return size
}

// firstOnly are the fields that only the client gets who has asked for an answer.
var firstOnly = []string{"Set-Cookie", "Date"}

// streamHead returns the header of a stream that is relayed, without the fields that are for the first client only.
func streamHead(backend http.Header) http.Header {
	h := maps.Clone(backend)
	for _, name := range firstOnly {
		h.Del(name)
	}
	h.Del("Content-Length")
	h.Set("X-Accel-Buffering", "no")
	if len(h["Cache-Control"]) == 0 {
		h.Set("Cache-Control", "no-cache")
	}
	return h
}

// openAs opens the stream of a reader. backend is the head of the answer if that reader has asked for it, else nil.
func (r *Relay) openAs(w http.ResponseWriter, in *http.Request, c *gateway.Conn, head, backend http.Header) {
	header := w.Header()
	clear(header)
	maps.Copy(header, head)
	for _, name := range firstOnly {
		if values := backend[name]; len(values) > 0 {
			header[name] = values
		}
	}
	r.cfg.Streams.OpenAs(w, in, c, gateway.Grant{})
}

// authorization returns a digest of the Authorization of a request; nil: it has none.
func authorization(in *http.Request) *[sha256.Size]byte {
	values := in.Header["Authorization"]
	if len(values) == 0 {
		return nil
	}
	digest := sha256.Sum256([]byte(strings.Join(values, "\n"))) // which no value has
	return &digest
}

// IsID reports whether a text has the form of the id of an event of an answer that is kept.
func IsID(text string) bool {
	_, _, ok := parseID(text)
	return ok
}

// parseID parses an id: the key of an answer, and the number of an event, 0 for none yet.
func parseID(text string) (k key, n uint64, ok bool) {
	name, number, _ := strings.Cut(text, ".")
	if len(name) != hex.EncodedLen(len(k)) || strings.ToLower(name) != name || number == "" || number[0] == '+' || number[0] == '0' && number != "0" {
		return k, 0, false
	}
	if _, err := hex.Decode(k[:], []byte(name)); err != nil {
		return k, 0, false
	}
	n, err := strconv.ParseUint(number, 10, 64)
	return k, n, err == nil
}

// isPreflight reports whether a browser asks by the request whether it may make another one (CORS): the backend answers.
func isPreflight(in *http.Request) bool {
	return in.Method == http.MethodOptions && in.Header.Get("Access-Control-Request-Method") != ""
}

// serveReturn answers a client that comes back for what is behind the n-th event of an answer, or stops it.
func (r *Relay) serveReturn(w http.ResponseWriter, in *http.Request, k key, n uint64) {
	a := r.find(k)
	if a == nil && r.cfg.Ask != nil && gateway.Token(k).Node() != r.cfg.Gateway.Number() {
		r.serveRemote(w, in, k, n)
		return
	}
	if a == nil {
		r.cfg.Refuse(w, in, api.ErrAnswerGone)
		return
	}
	if a.auth != nil {
		brought := authorization(in)
		if brought == nil || subtle.ConstantTimeCompare(a.auth[:], brought[:]) != 1 {
			r.cfg.Refuse(w, in, api.ErrResumeForbidden)
			return
		}
	}
	if e := r.dropBody(in); e != nil {
		r.cfg.Refuse(w, in, e)
		return
	}
	if in.Method == http.MethodDelete {
		if n > a.Count() {
			r.cfg.Refuse(w, in, api.ErrAnswerGone)
			return
		}
		a.Stop()
		a.writeEmpty(w, http.StatusNoContent)
		return
	}
	request, ok := r.cfg.Encode(in)
	if !ok {
		r.cfg.Refuse(w, in, api.ErrRequestTooLarge)
		return
	}
	what, holder := a.come(n)
	switch {
	case what == gone:
		r.cfg.Refuse(w, in, api.ErrAnswerGone)
		return
	case what != streaming:
		a.writeEmpty(w, http.StatusNoContent)
		return
	case in.Method == http.MethodHead:
		a.back(holder)
		a.writeEmpty(w, http.StatusOK)
		return
	}
	forward := func() (*gateway.Conn, error) { return r.cfg.Gateway.Forward(request, func() {}) }
	first := forward
	if holder != nil {
		first = func() (*gateway.Conn, error) { return r.cfg.Gateway.Return(request) }
	}
	c, err := a.join(n, first)
	if err != nil && holder != nil && isRoom(err) { // the place of the answer is that of its reader
		holder.Release()
		holder = nil
		c, err = a.join(n, forward)
	}
	if err != nil {
		a.back(holder)
		r.cfg.Reject(w, in, request, err)
		return
	}
	r.returns.Add(1)
	a.add(c)
	if holder != nil {
		holder.Release()
	}
	if in.Context().Err() != nil {
		c.Abort(gateway.ClientClosed, 0)
	}
	r.openAs(w, in, c, a.head, nil)
}

// join makes a connection one that reads the answer.
func (a *answer) join(n uint64, forward func() (*gateway.Conn, error)) (*gateway.Conn, error) {
	c, err := forward()
	if err != nil {
		return nil, err
	}
	err = c.Relay(a, n)
	return c, err
}

// isRoom reports whether there would be room if a connection ended.
func isRoom(err error) bool {
	return gateway.IsFull(err) || gateway.IsCrowd(err)
}

// writeEmpty answers with the answer's head, and nothing behind it.
func (a *answer) writeEmpty(w http.ResponseWriter, status int) {
	h := w.Header()
	maps.Copy(h, a.head)
	if status == http.StatusNoContent {
		h.Del("Content-Type")
	}
	w.WriteHeader(status)
}

// dropBody reads the body of a request that is not passed on.
func (r *Relay) dropBody(in *http.Request) *api.Error {
	if in.Body == nil || in.Body == http.NoBody {
		return nil
	}
	if in.ContentLength > r.cfg.MaxBody {
		return api.TooLarge(r.cfg.MaxBody)
	}
	n, err := io.Copy(io.Discard, io.LimitReader(in.Body, r.cfg.MaxBody+1))
	switch {
	case err != nil:
		return api.ErrRequestBody
	case n > r.cfg.MaxBody:
		return api.TooLarge(r.cfg.MaxBody)
	}
	return nil
}
