package api

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"ssegateway/internal/cluster"
	"ssegateway/internal/gateway"
	"ssegateway/internal/guard"
)

// nodeDeadline bounds how long another node may take to answer.
const nodeDeadline = 2 * time.Second

// Join makes the API that of a node of a cluster: what is meant for the connections of
// other nodes goes to them, and what they ask is answered.
func (a *API) Join(n *cluster.Node) {
	a.nodes = n
	n.Serve(a.answer)
}

// question is a request as it goes to another node. On the wire it is a line of method,
// target and content type, then the body; the answer is the status, then the body.
type question struct {
	method, target, contentType string
	body                        []byte
}

func (q question) encode() []byte {
	b := make([]byte, 0, len(q.method)+len(q.target)+len(q.contentType)+3+len(q.body))
	b = append(append(b, q.method...), ' ')
	b = append(append(b, q.target...), ' ')
	b = append(append(b, q.contentType...), '\n')
	return append(b, q.body...)
}

func decodeQuestion(message []byte) (q question, ok bool) {
	line, body, ok := bytes.Cut(message, []byte("\n"))
	if !ok {
		return q, false
	}
	q.method, q.target, ok = strings.Cut(string(line), " ")
	if !ok {
		return q, false
	}
	q.target, q.contentType, ok = strings.Cut(q.target, " ")
	q.body = body
	return q, ok
}

func encodeAnswer(status int, body []byte) []byte {
	return append(strconv.AppendInt(make([]byte, 0, 3+len(body)), int64(status), 10), body...)
}

func decodeAnswer(message []byte) (status int, body []byte, ok bool) {
	if len(message) < 3 {
		return 0, nil, false
	}
	status, err := strconv.Atoi(string(message[:3]))
	return status, message[3:], err == nil && status >= 200
}

// relayedKey marks the context of a request that came from another node. It is never
// relayed again.
type relayedKey struct{}

func isRelayed(ctx context.Context) bool { return ctx.Value(relayedKey{}) != nil }

// among says whether a request concerns other nodes as well.
func (a *API) among(ctx context.Context) bool { return a.nodes != nil && !isRelayed(ctx) }

// answer serves a request that came from another node.
func (a *API) answer(ctx context.Context, message []byte) []byte {
	q, ok := decodeQuestion(message)
	if !ok {
		return encodeAnswer(errUnknownOp.Status, errUnknownOp.body())
	}
	a.nodes.Stats().Answered.Add(1)
	w := &recorder{header: http.Header{}, status: http.StatusOK}
	r := (&http.Request{
		Method: q.method, RequestURI: q.target, Header: http.Header{"Content-Type": {q.contentType}},
		Body: io.NopCloser(bytes.NewReader(q.body)), ContentLength: int64(len(q.body)),
	}).WithContext(context.WithValue(ctx, relayedKey{}, true))
	if op, ok := strings.CutPrefix(q.target, nodeOps); ok {
		a.serveNode(w, r, op)
	} else {
		a.ServeHTTP(w, r)
	}
	return encodeAnswer(w.status, w.body.Bytes())
}

// recorder takes the answer to a request of another node.
type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (w *recorder) Header() http.Header         { return w.header }
func (w *recorder) WriteHeader(status int)      { w.status = status }
func (w *recorder) Write(p []byte) (int, error) { return w.body.Write(p) }

// ask has the node that holds a connection answer, if it is another one. ok is false
// where the connection is here, or is known to be nowhere.
func (a *API) ask(ctx context.Context, token string, q question, patience time.Duration) (status int, body []byte, ok bool) {
	if !a.among(ctx) {
		return 0, nil, false
	}
	t, ok := gateway.ParseToken(token)
	if !ok || a.gw.Find(t) != nil {
		return 0, nil, false
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	message, err := a.nodes.Ask(ctx, t, q.encode())
	if errors.Is(err, cluster.ErrGone) {
		return 0, nil, false
	}
	problem := a.nodeProblem(err)
	if problem == nil {
		if status, body, ok = decodeAnswer(message); ok {
			return status, body, true
		}
		problem = errNode
	}
	return problem.Status, problem.body(), true
}

// nodeProblem is the answer where another node could not be asked.
func (a *API) nodeProblem(err error) *Error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, cluster.ErrTooLarge):
		return &Error{errPayload.Status, errPayload.Code, err.Error()}
	default:
		a.log.Debug("another node was not reached", "error", err.Error())
		return errNode
	}
}

// relay answers a request about a connection of another node, and says whether it is one.
func (a *API) relay(w http.ResponseWriter, r *http.Request, token string, body []byte) bool {
	if a.nodes == nil {
		return false
	}
	status, answer, ok := a.ask(r.Context(), token, question{r.Method, r.RequestURI, r.Header.Get("Content-Type"), body}, nodeDeadline)
	if ok {
		WriteJSON(w, status, answer)
	}
	return ok
}

// elsewhere says whether another node may have to be asked about a token.
func (a *API) elsewhere(token string) bool {
	if a.nodes == nil {
		return false
	}
	t, ok := gateway.ParseToken(token)
	return ok && a.gw.Find(t) == nil && !a.nodes.Made(t)
}

// askSend is ask for a send with that body.
func (a *API) askSend(ctx context.Context, s sendRequest, body []byte) (status int, answer []byte, ok bool) {
	if !a.among(ctx) {
		return 0, nil, false
	}
	patience := nodeDeadline
	if s.wait {
		patience += writtenDeadline
	}
	return a.ask(ctx, s.token, question{http.MethodPost, "/internal/send", "application/json", body}, patience)
}

// askAll asks all other nodes at once. It returns the bodies of the answers that are
// successes, by the number of the node, and names the nodes that gave none.
func (a *API) askAll(ctx context.Context, peers []cluster.Peer, q question) (bodies map[uint32][]byte, unreachable []string) {
	ctx, cancel := context.WithTimeout(ctx, nodeDeadline)
	defer cancel()
	message := q.encode()
	answers := make([][]byte, len(peers))
	var group sync.WaitGroup
	for i, p := range peers {
		group.Go(func() {
			defer guard.Recover()
			answer, err := a.nodes.AskPeer(ctx, p, message)
			if status, body, ok := decodeAnswer(answer); err == nil && ok && status == http.StatusOK {
				answers[i] = body
			}
		})
	}
	group.Wait()
	bodies = map[uint32][]byte{}
	for i, p := range peers {
		if answers[i] == nil {
			unreachable = append(unreachable, p.Name)
		} else {
			bodies[p.Number] = answers[i]
		}
	}
	return bodies, unreachable
}
