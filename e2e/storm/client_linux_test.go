package storm

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"ssegateway/e2e/harness"
)

// stream is an event stream as its client sees it. There are many at a time, so it takes little.
type stream struct {
	conn   net.Conn
	status int
	reply  *http.Response

	named chan struct{} // closed once the token came, or the end
	ended chan struct{}
	token string // once named; empty: it ended before

	mu      sync.Mutex
	retry   time.Duration // the last one
	last    time.Time     // when the last bytes came
	longest time.Duration // between two pieces of the stream
	clean   bool          // it ended with its last chunk
}

// ask opens a stream, and returns when the head of the answer is there. When ctx ends before that, the client leaves.
func ask(ctx context.Context, e harness.Endpoint, target string) (*stream, error) {
	conn, err := e.Dial(ctx, 0, "")
	if err != nil {
		return nil, err
	}
	stay := context.AfterFunc(ctx, func() { conn.Close() })
	defer stay()
	if _, err := io.WriteString(conn, "GET "+target+" HTTP/1.1\r\nHost: "+e.Addr+"\r\nAccept: text/event-stream\r\n\r\n"); err != nil {
		conn.Close()
		return nil, err
	}
	reply, err := http.ReadResponse(bufio.NewReaderSize(conn, 512), nil) //nolint:bodyclose // its connection is closed
	if err != nil {
		conn.Close()
		return nil, err
	}
	x := &stream{conn: conn, status: reply.StatusCode, reply: reply, named: make(chan struct{}), ended: make(chan struct{}), last: time.Now()}
	if x.status != http.StatusOK {
		conn.Close()
		return x, nil
	}
	go x.read()
	<-x.named
	if !stay() { // it left at the same moment
		<-x.ended
		return nil, ctx.Err()
	}
	return x, nil
}

// read takes in the stream until its end.
func (x *stream) read() {
	defer close(x.ended)
	lines := bufio.NewReaderSize(x.reply.Body, 256)
	var name string
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			x.mu.Lock()
			x.clean = errors.Is(err, io.EOF) && line == ""
			x.mu.Unlock()
			if x.token == "" {
				close(x.named)
			}
			x.conn.Close()
			return
		}
		x.came(line)
		field, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch field {
		case "event":
			name = value
		case "data":
			if name == "token" && x.token == "" {
				x.token = value
				close(x.named)
			}
		case "":
			name = ""
		}
	}
}

func (x *stream) came(line string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	now := time.Now()
	x.longest = max(x.longest, now.Sub(x.last))
	x.last = now
	if millis, ok := strings.CutPrefix(line, "retry: "); ok {
		if n, err := strconv.Atoi(strings.TrimSpace(millis)); err == nil {
			x.retry = time.Duration(n) * time.Millisecond
		}
	}
}

// silence returns for how long no byte came at most, up to now.
func (x *stream) silence() time.Duration {
	x.mu.Lock()
	defer x.mu.Unlock()
	return max(x.longest, time.Since(x.last))
}

// over returns whether the stream ended as it should, and when the client comes back.
func (x *stream) over() (clean bool, retry time.Duration) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.clean, x.retry
}

// isOpen reports whether the client still has the stream.
func (x *stream) isOpen() bool {
	select {
	case <-x.ended:
		return false
	default:
		return true
	}
}

// The ways in which a client leaves.
const (
	byFIN = iota
	byRST
	byHalfClose
	leavings
)

// leave ends the stream from the client's side.
func (x *stream) leave(how int) {
	tcp := x.conn.(*net.TCPConn)
	switch how {
	case byRST:
		_ = tcp.SetLinger(0)
	case byHalfClose:
		_ = tcp.CloseWrite()
		return // the gateway ends it
	}
	_ = tcp.Close()
}

// open opens n streams, some at a time. A client that is refused comes back until it has one.
func open(t *testing.T, e harness.Endpoint, n int) []*stream {
	t.Helper()
	streams, errs := make([]*stream, n), make([]error, n)
	var all sync.WaitGroup
	turns := make(chan struct{}, 128)
	for i := range n {
		turns <- struct{}{}
		all.Go(func() {
			defer func() { <-turns }()
			for streams[i] == nil && errs[i] == nil {
				x, err := ask(t.Context(), e, "/")
				if errs[i] = err; err == nil && x.status == http.StatusOK {
					streams[i] = x
				}
			}
		})
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatalf("%.1000s", fmt.Sprint(err))
	}
	t.Cleanup(func() {
		for _, x := range streams {
			x.leave(byFIN)
			<-x.ended
		}
	})
	return streams
}

// opened returns the tokens of those streams that their clients still have.
func opened(streams []*stream) map[string]bool {
	tokens := map[string]bool{}
	for _, x := range streams {
		if x.isOpen() {
			tokens[x.token] = true
		}
	}
	return tokens
}
