package edge

import (
	"net/http"
	"time"
)

// answerPiece is how much of an answer over HTTP/2 its peer has to take in time, in bytes.
// A write returns when flow control has let all of it through; what it has taken of one that
// is under way cannot be seen.
const answerPiece = 4 << 10

// Answer bounds how long a caller of the internal API may take nothing of its answer. For
// HTTP/1 the deadlines of the connection are enough. Over HTTP/2 a peer can hold one answer
// back while it takes others.
func Answer(w http.ResponseWriter, r *http.Request) http.ResponseWriter {
	if r.ProtoMajor == 1 {
		return w
	}
	return &answer{ResponseWriter: w, control: http.NewResponseController(w)}
}

type answer struct {
	http.ResponseWriter
	control *http.ResponseController
	endless bool
}

// Endless takes the deadlines off the answer that w is: it is a stream, which has bounds of its own.
func Endless(w http.ResponseWriter) {
	for {
		if a, ok := w.(*answer); ok {
			a.endless = true
			return
		}
		inner, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return
		}
		w = inner.Unwrap()
	}
}

// Unwrap is for http.ResponseController.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// Write implements io.Writer. What is buffered when the handler returns has the deadline that
// the edge then sets.
func (a *answer) Write(p []byte) (written int, err error) {
	if a.endless {
		return a.ResponseWriter.Write(p)
	}
	for len(p) > 0 && err == nil {
		var n int
		_ = a.control.SetWriteDeadline(time.Now().Add(callerTimeout))
		n, err = a.ResponseWriter.Write(p[:min(len(p), answerPiece)])
		written += n
		p = p[n:]
	}
	return written, err
}
