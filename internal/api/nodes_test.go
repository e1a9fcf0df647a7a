package api

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"ssegateway/internal/broker"
	"ssegateway/internal/broker/brokertest"
	"ssegateway/internal/bubble"
	"ssegateway/internal/cluster"
	"ssegateway/internal/connections"
	"ssegateway/internal/gateway"
	"ssegateway/internal/gatewaytest"
	"ssegateway/internal/outbox"
	"ssegateway/internal/router"
	"ssegateway/internal/topics"
)

const lease = time.Minute

// peer is a node of a cluster in a bubble.
type peer struct {
	*API

	gw   *gateway.Gateway
	own  *connections.Own
	node *cluster.Node
	link *brokertest.Link
	stop context.CancelFunc
}

// teller tells a backend that takes everything.
type teller struct {
	gatewaytest.Accepting

	node *cluster.Node
}

func (t teller) Disconnect(n gateway.Notice) {
	if p := t.node.Permit(n.Token); p != gateway.Deferred {
		t.node.OnFinished(n, p == gateway.Denied)
	}
}
func (teller) Resume() {}

// sharedLog is one log for all nodes, as if each read it from a broker.
type sharedLog struct{ *broker.Memory }

// among runs a test of a cluster of n nodes in a bubble.
func among(t *testing.T, n int, f func(t *testing.T, peers []*peer)) {
	t.Helper()
	bubble.Test(t, func(t *testing.T) {
		store := brokertest.NewStore()
		engine := sharedLog{broker.NewMemory(1<<20, time.Minute)}
		ctx, cancel := context.WithCancel(context.Background())
		var running sync.WaitGroup
		running.Go(func() { _ = engine.Run(ctx) })
		log := slog.New(slog.DiscardHandler)
		var peers []*peer
		for i := range n {
			p := &peer{link: store.Link()}
			p.node = cluster.New(cluster.Config{Name: "node-" + string(rune('a'+i)), Version: router.Version, Lease: lease, Open: p.link.Open, Log: log})
			all := topics.New(engine, true)
			p.gw = gateway.New(gateway.Config{
				Heartbeat: time.Hour, MaxConnections: 5000, QueueBytes: 1000, BudgetBytes: 10_000_000,
				Topics: all, Clustered: true, Log: log,
			}, p.node.Backend(teller{node: p.node}))
			p.own = connections.NewOwn(p.gw, all, p.node.Name, log)
			r := router.New(p.own, p.node, log)
			p.node.Serve(r.Answer)
			p.API = New(r, 500, p.gw.MaxTopics(), nil, Past{}, log)
			var own context.Context
			own, p.stop = context.WithCancel(ctx)
			running.Go(func() { _ = all.Run(ctx) })
			running.Go(func() { _ = p.gw.Run(ctx) })
			running.Go(func() { _ = p.node.Run(own, p.gw) })
			peers = append(peers, p)
		}
		sleep(lease + time.Second) // who is not known on a store younger than that may be there
		f(t, peers)
		for _, p := range peers {
			p.link.Break(brokertest.None)
		}
		cancel()
		running.Wait()
		sleep(2 * time.Minute) // what is forgotten after a time is forgotten
	})
}

func sleep(d time.Duration) {
	time.Sleep(d) // fake clock
	synctest.Wait()
}

func send1(t testing.TB, p *peer, body string) *httptest.ResponseRecorder {
	t.Helper()
	return post(t, p.API, body)
}

// Any node takes any send, and answers what the owner says.
func TestForwardedSend(t *testing.T) {
	among(t, 3, func(t *testing.T, peers []*peer) {
		owner, other := peers[0], peers[1]
		s := &sink{}
		token := open(t, owner.gw, s)
		pending := open(t, owner.gw, nil)
		want(t, send1(t, other, `{"token":"`+token+`","event":{"data":"a"}}`), 200, `{"status":"ok"}`)
		want(t, send1(t, other, `{"token":"`+token+`","event":{"data":"b"},"wait":"written"}`), 200, `{"status":"written"}`)
		want(t, send1(t, other, `{"token":"`+pending+`","event":{"data":"c"}}`), 200, `{"status":"buffered"}`)
		want(t, send1(t, other, `{"token":"`+pending+`","event":{"data":"`+strings.Repeat("x", 400)+`"}}`), 200, `buffered`)
		want(t, send1(t, other, `{"token":"`+pending+`","event":{"data":"`+strings.Repeat("x", 400)+`"}}`), 503, `BUFFER_FULL`)
		want(t, do(t, other.API, http.MethodGet, "/internal/connections/"+token, ""), 200, `"node":"`+owner.node.Name()+`"`)
		want(t, do(t, other.API, http.MethodPatch, "/internal/connections/"+token, `{"topics":{"add":["x"]}}`), 200, `["x"]`)
		want(t, do(t, other.API, http.MethodPatch, "/internal/connections/"+pending, `{"topics":{"add":["x"]}}`), 409, `CONNECTION_PENDING`)
		want(t, do(t, other.API, http.MethodPost, "/internal/batch", `{"operations":[{"token":"`+token+`","event":{"data":"d"}},{"token":"`+token+`","event":{"data":1}},{"token":"`+token+`","close":true},{"token":"`+token+`"}]}`),
			200, `{"results":[{"status":"ok"},{"error":{"message":"event.data is required and must be a string","code":"INVALID_EVENT_DATA_MISSING"}},{"status":"ok"},{"error":{"message":"Token not found","code":"TOKEN_NOT_FOUND"}}]}`)
		if text, _, closed := s.got(); !closed || strings.Count(text, "data: ") != 3 {
			t.Errorf("the client got %q, closed %v", text, closed)
		}
		want(t, send1(t, other, `{"token":"`+token+`"}`), 404, `TOKEN_NOT_FOUND`)
		want(t, do(t, other.API, http.MethodDelete, "/internal/connections/"+pending, ""), 200, `buffered`)
		for _, nobody := range []string{"x", gateway.NewToken().String()} {
			want(t, send1(t, other, `{"token":"`+nobody+`"}`), 404, `TOKEN_NOT_FOUND`)
		}
		if n := owner.node.Stats().Answered.Load(); n == 0 || other.node.Stats().Relayed.Load() != n {
			t.Errorf("%d answered, %d relayed", n, other.node.Stats().Relayed.Load())
		}
	})
}

// A write that fails at the owner is told as the owner tells it.
func TestForwardedFailure(t *testing.T) {
	among(t, 2, func(t *testing.T, peers []*peer) {
		s := &sink{full: true}
		token := open(t, peers[0].gw, s)
		want(t, send1(t, peers[1], `{"token":"`+token+`","event":{"data":"a"}}`), 200, `ok`)
		start := time.Now()
		want(t, send1(t, peers[1], `{"token":"`+token+`","event":{"data":"b"},"wait":"written"}`), 500, `WRITE_FAILED`)
		if took := time.Since(start); took < gateway.StallDeadline-time.Second {
			t.Errorf("after %v", took)
		}
	})
}

// An owner that does not answer: 503 while its lease may hold, 404 when it has ended.
func TestUnreachable(t *testing.T) {
	for _, fault := range []brokertest.Fault{brokertest.Down, brokertest.Cut} {
		among(t, 3, func(t *testing.T, peers []*peer) {
			owner, other := peers[0], peers[1]
			token := open(t, owner.gw, &sink{})
			owner.link.Break(fault)
			start := time.Now()
			want(t, send1(t, other, `{"token":"`+token+`"}`), 503, `NODE_UNREACHABLE`)
			if took := time.Since(start); took > 2*time.Second {
				t.Errorf("after %v", took)
			}
			want(t, do(t, other.API, http.MethodPost, "/internal/batch", `{"operations":[{"token":"`+token+`"}]}`), 200, `NODE_UNREACHABLE`)
			want(t, do(t, other.API, http.MethodGet, "/internal/connections/"+token, ""), 503, `NODE_UNREACHABLE`)
			for _, request := range []*httptest.ResponseRecorder{
				do(t, other.API, http.MethodGet, "/internal/connections", ""),
				do(t, other.API, http.MethodDelete, "/internal/connections?subject=x", ""),
				do(t, other.API, http.MethodGet, "/internal/stats", ""),
				do(t, other.API, http.MethodPost, "/internal/publish", `{"topic":"x","event":{"data":"x"},"count":"all"}`),
			} {
				want(t, request, 200, `"unreachable_nodes":["node-a/`)
			}
			want(t, send1(t, owner, `{"token":"`+token+`"}`), 200, `ok`) // its own it finds
			sleep(2 * lease)
			want(t, send1(t, other, `{"token":"`+token+`"}`), 404, `TOKEN_NOT_FOUND`)
			want(t, do(t, other.API, http.MethodGet, "/internal/stats", ""), 200, `"nodes":["node-b/`)

			// Without the broker nobody else's can be known to be gone.
			mine := open(t, other.gw, &sink{})
			other.link.Break(fault)
			want(t, send1(t, other, `{"token":"`+gateway.NewToken().String()+`"}`), 503, `NODE_UNREACHABLE`)
			want(t, send1(t, other, `{"token":"`+mine+`"}`), 200, `ok`)
		})
	}
}

// A message that the broker does not take is refused with the sizes.
func TestForwardedTooLarge(t *testing.T) {
	among(t, 2, func(t *testing.T, peers []*peer) {
		token := open(t, peers[0].gw, &sink{})
		peers[1].maxBody = 4 << 20
		want(t, send1(t, peers[1], `{"token":"`+token+`","event":{"data":"`+strings.Repeat("x", 2<<20)+`"}}`), 413, `PAYLOAD_TOO_LARGE`)
	})
}

// Pages of all nodes are one list, whichever node is asked.
func TestListOfAll(t *testing.T) {
	among(t, 3, func(t *testing.T, peers []*peer) {
		var tokens []string
		for i, p := range peers {
			for range 40 * i {
				tokens = append(tokens, openWith(t, p.gw, &sink{}, gateway.Grant{Subject: "s", Topics: []string{strings.Repeat("t", 200)}}))
			}
		}
		slices.Sort(tokens)
		for _, limit := range []string{"1", "7", "100", "1000"} {
			var listed []string
			for _, p := range peers {
				listed = nil
				for cursor := ""; ; {
					w := do(t, p.API, http.MethodGet, "/internal/connections?limit="+limit+"&cursor="+cursor, "")
					l := answer[listing](t, w)
					for _, c := range l.Connections {
						listed = append(listed, c.Token)
					}
					if cursor = l.Next; cursor == "" {
						break
					}
				}
			}
			if diff := cmp.Diff(tokens, listed); diff != "" {
				t.Fatalf("limit %s: %s", limit, diff)
			}
		}
		want(t, do(t, peers[0].API, http.MethodGet, "/internal/stats", ""), 200, `"cluster":{"nodes":["`+peers[0].node.Name()+`","`+peers[1].node.Name()+`","`+peers[2].node.Name()+`"],"connections":{"pending":0,"open":120}`)
		want(t, do(t, peers[0].API, http.MethodDelete, "/internal/connections?subject=s", ""), 200, `{"closed":120}`)
		want(t, do(t, peers[1].API, http.MethodGet, "/internal/connections", ""), 200, `{"connections":[]}`)
	})
}

// With "count": "all" the receivers of all nodes are counted.
func TestCountAll(t *testing.T) {
	among(t, 3, func(t *testing.T, peers []*peer) {
		for i, p := range peers {
			for range i + 1 {
				openWith(t, p.gw, &sink{}, gateway.Grant{Topics: []string{"x"}})
			}
		}
		want(t, do(t, peers[0].API, http.MethodPost, "/internal/publish", `{"topic":"x","event":{"data":"x"},"count":"all"}`), 200, `"receivers":6}`)
		want(t, do(t, peers[1].API, http.MethodPost, "/internal/publish", `{"topic":"x","event":{"data":"x"},"count":"all","store":false}`), 200, `"receivers":6}`)
		want(t, do(t, peers[1].API, http.MethodPost, "/internal/publish", `{"topic":"x","event":{"data":"x"}}`), 200, `"receivers":2}`)
		want(t, do(t, peers[2].API, http.MethodPost, "/internal/batch", `{"operations":[{"topic":"x","event":{"data":"x"},"count":"all"}]}`), 200, `"receivers":6}`)
	})
}

// streamingTo begins a streaming request, and gives the body's end and the answer.
func streamingTo(t testing.TB, p *peer, token, query string) (*io.PipeWriter, <-chan *httptest.ResponseRecorder) {
	t.Helper()
	body, in := io.Pipe()
	r := httptest.NewRequest(http.MethodPost, "/internal/connections/"+token+"/stream"+query, body)
	r.Header.Set("Content-Type", "application/x-ndjson")
	over := make(chan *httptest.ResponseRecorder, 1)
	go func() {
		w := httptest.NewRecorder()
		p.ServeHTTP(w, r)
		_ = body.Close()
		over <- w
	}()
	return in, over
}

// So does a block of no event. And it is the owner that knows what its log has come to.
func TestForwardedBlocks(t *testing.T) {
	among(t, 2, func(t *testing.T, peers []*peer) {
		s := &sink{}
		token := open(t, peers[0].gw, s)
		target := "/internal/connections/" + token + "/stream"
		body := "retry: 5\n\nid: 3\ndata: a\n\nid: 4\n\n"
		want(t, do(t, peers[1].API, http.MethodPost, target, body, "Content-Type", eventStream), 200, `"events":1}`)
		if text, _, _ := s.got(); text != body {
			t.Errorf("received %q, want %q", text, body)
		}
		ahead := extentOf(peers[0].API).Epoch + "-1"
		want(t, do(t, peers[1].API, http.MethodPost, target, "id: "+ahead+"\ndata: x\n\n", "Content-Type", eventStream), 400, "INVALID_STREAM")
		want(t, do(t, peers[1].API, http.MethodPost, "/internal/send", `{"token":"`+token+`","event":{"data":"x","id":"`+ahead+`"}}`), 400, "INVALID_EVENT_ID")
	})
}

// The owner tells of what its overflow policy dropped.
func TestForwardedDrop(t *testing.T) {
	among(t, 2, func(t *testing.T, peers []*peer) {
		x, token, body := slow(t, peers[0].gw, outbox.DropOldest)
		in, over := streamingTo(t, peers[1], token, "")
		_, _ = io.WriteString(in, `{"data":"y"}`+"\n")
		synctest.Wait()
		sent := make(chan *httptest.ResponseRecorder, 1)
		go func() {
			sent <- do(t, peers[1].API, http.MethodPost, "/internal/send", body+`,"wait":"written"}`)
		}()
		synctest.Wait()
		filler := strings.ReplaceAll(body, strings.Repeat("x", 350), strings.Repeat("x", 370))
		for range 2 {
			want(t, post(t, peers[0].API, filler+`}`), 200, `{"status":"ok"}`)
		}
		want(t, <-sent, 200, `{"status":"dropped"}`)
		_, _ = io.WriteString(in, `{"data":"z"}`+"\n")
		_ = in.Close()
		synctest.Wait()
		x.setFull(false)
		conn(t, peers[0].gw, token).Ready(x, false, true)
		want(t, <-over, 200, `{"status":"ok","events":1,"dropped":1}`)
	})
}

// A streaming request reaches the owner, one write at a time.
func TestForwardedStream(t *testing.T) {
	among(t, 2, func(t *testing.T, peers []*peer) {
		s := &sink{}
		token := open(t, peers[0].gw, s)
		in, over := streamingTo(t, peers[1], token, "?close=true")
		for range 3 {
			_, _ = io.WriteString(in, `{"data":"a\nb","name":"n","id":"","retry":7}`+"\n")
		}
		synctest.Wait()
		if text, writes, _ := s.got(); writes != 3 || text != strings.Repeat("event: n\nretry: 7\ndata: a\ndata: b\n\n", 3) {
			t.Errorf("in %d writes %q", writes, text)
		}
		s.setFull(true)
		_, _ = io.WriteString(in, `{"data":"c"}`+"\n"+`{"data":"d"}`+"\n")
		sleep(6 * time.Second) // the owner has said that it is not written yet
		blocked := make(chan struct{})
		go func() { // the sender feels it: one line is read ahead, and no more
			defer close(blocked)
			_, _ = io.WriteString(in, strings.Repeat(`{"data":"e"}`+"\n", 1000))
		}()
		sleep(time.Second)
		select {
		case <-blocked:
			t.Error("a sender is not held up by a slow client")
		default:
		}
		s.setFull(false)
		conn(t, peers[0].gw, token).Ready(s, false, true)
		<-blocked
		_ = in.Close()
		want(t, <-over, 200, `{"status":"ok","events":1005}`)
		if text, _, closed := s.got(); !closed || strings.Count(text, "data: e") != 1000 {
			t.Errorf("closed %v, %d bytes", closed, len(text))
		}
	})
}

// When the client leaves, or the owner is gone, the answer comes in the middle of the body.
func TestForwardedStreamGone(t *testing.T) {
	among(t, 2, func(t *testing.T, peers []*peer) {
		token := open(t, peers[0].gw, &sink{})
		in, over := streamingTo(t, peers[1], token, "")
		_, _ = io.WriteString(in, `{"data":"a"}`+"\n")
		sleep(time.Minute)
		conn(t, peers[0].gw, token).Abort(gateway.ClientClosed, 0)
		synctest.Wait() // no time passes
		_ = in.Close()  // an orderly end, were it not for what was answered already
		want(t, <-over, 410, `CONNECTION_GONE`)

		token = open(t, peers[0].gw, &sink{})
		in, over = streamingTo(t, peers[1], token, "")
		_, _ = io.WriteString(in, `{"data":"a"}`+"\n")
		synctest.Wait()
		peers[0].link.Break(brokertest.Cut)
		sleep(lease*5/4 + 7*time.Second)
		_ = in.Close()
		want(t, <-over, 410, `CONNECTION_GONE`)
		peers[0].link.Break(brokertest.None)

		want(t, do(t, peers[1].API, http.MethodPost, "/internal/connections/"+token+"/stream", "x", "Content-Type", "application/x-ndjson"), 404, `TOKEN_NOT_FOUND`)
	})
}

// A write whose answer is lost is neither lost nor doubled.
func TestForwardedStreamAnswerLost(t *testing.T) {
	among(t, 2, func(t *testing.T, peers []*peer) {
		s := &sink{}
		token := open(t, peers[0].gw, s)
		in, over := streamingTo(t, peers[1], token, "")
		_, _ = io.WriteString(in, `{"data":"a"}`+"\n")
		synctest.Wait()
		peers[1].link.Break(brokertest.Deaf)
		_, _ = io.WriteString(in, `{"data":"b"}`+"\n")
		sleep(time.Second)
		peers[1].link.Break(brokertest.None)
		sleep(10 * time.Second)
		_, _ = io.WriteString(in, `{"data":"c"}`+"\n")
		_ = in.Close()
		want(t, <-over, 200, `"events":3`)
		if text, _, _ := s.got(); text != "data: a\n\ndata: b\n\ndata: c\n\n" {
			t.Errorf("the client got %q", text)
		}
	})
}
