package contract

import (
	"bytes"
	"net/http"
	"strings"
	"time"

	"ssegateway/e2e/harness"
)

var lifecycle = section{title: "3 lifecycle", core: true, cases: []contractCase{
	{name: "exactly one disconnect, client_closed: the client leaves", run: func(t *T) {
		x := t.Shared().Open("/")
		x.Leave()
		x.WantDisconnect("client_closed")
	}},
	{name: "exactly one disconnect, client_closed: the client resets the connection", run: func(t *T) {
		x := t.Shared().Open("/")
		if err := x.Reset(); err != nil {
			t.Fatal(err)
		}
		x.WantDisconnect("client_closed")
	}},
	{name: "exactly one disconnect, client_closed: the client closes the connection", run: func(t *T) {
		x := t.Shared().Open("/")
		x.HangUp()
		x.WantDisconnect("client_closed")
	}},
	{name: "exactly one disconnect, client_closed: the client leaves with events unread", run: func(t *T) {
		s := t.Shared()
		x := s.Open("/")
		x.Stop()
		for range 5 {
			s.Event(x.token, "unread")
		}
		x.HangUp()
		x.WantDisconnect("client_closed")
	}},
	{name: "exactly one disconnect, client_closed: the client leaves while events are sent to it", run: func(t *T) {
		s := t.Shared()
		for range 20 {
			x := s.Open("/")
			gone := make(chan Reply, 1)
			go func() { // until the gateway has noticed
				for {
					got, err := s.call(http.MethodPost, sendPath, jsonBody(object{"token": x.token, "event": object{"data": "x"}}), "Content-Type", "application/json")
					if err != nil || got.Status != http.StatusOK {
						gone <- got
						return
					}
				}
			}()
			x.Want("data: x\n\n")
			x.HangUp()
			// The client has disconnected before the write fails, so the reason is client_closed.
			x.WantDisconnect("client_closed")
			if got := <-gone; got.Status != http.StatusNotFound && got.Status != http.StatusInternalServerError {
				t.Errorf("the send to a closed connection was answered with %d %s", got.Status, got.Body)
			}
		}
	}},
	{name: "exactly one disconnect, server_closed: the backend asked for it", run: func(t *T) {
		s := t.Shared()
		x := s.Open("/")
		s.CloseStream(x.token)
		x.WantEnd()
		x.WantDisconnect("server_closed")
	}},
	{name: "the first reason counts: closed by the backend, then left by the client", run: func(t *T) {
		s := t.Shared()
		for range 10 {
			x := s.Open("/")
			s.CloseStream(x.token)
			x.HangUp()
			x.WantDisconnect("server_closed")
		}
	}},
	{name: "many connections that end both ways at once: one disconnect each", run: func(t *T) {
		s := t.Shared()
		var all []*Stream
		for range 30 {
			all = append(all, s.Open("/"))
		}
		done := make(chan error, len(all))
		for _, x := range all {
			go func() {
				go x.HangUp()
				_, err := s.call(http.MethodPost, sendPath, jsonBody(object{"token": x.token, "close": true}), "Content-Type", "application/json")
				done <- err
			}()
		}
		for range all {
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		}
		for _, x := range all {
			x.Disconnect()
		}
		s.Barrier()
		for _, x := range all {
			if calls := x.callbacks("disconnect", 1); len(calls) != 1 {
				t.Errorf("%d disconnects of one connection", len(calls))
			}
		}
	}},

	{name: "a connection that was refused gets no disconnect", run: func(t *T) {
		s := t.Shared()
		for _, status := range []int{302, 401, 403, 404, 500, 503} {
			x := s.Begin(harness.Request{Target: "/"}, connectAnswer(status))
			x.Reply()
			x.HangUp()
			x.WantNoDisconnect()
		}
	}},
	{name: "the client left before the answer, a 2xx: a disconnect, sent after that answer", run: func(t *T) {
		for _, leave := range []func(*Stream){
			func(x *Stream) { x.Leave() },
			func(x *Stream) { _ = x.Reset() },
			func(x *Stream) { x.HangUp() },
		} {
			s := t.Shared()
			release := make(chan struct{})
			x := s.Begin(harness.Request{Target: "/"}, harness.Script{Connect: acceptAfter(release)})
			x.Connect()
			leave(x)
			x.WantNoDisconnect()
			released := time.Now()
			close(release)
			if c := x.WantDisconnect("client_closed"); c.At.Before(released) {
				t.Error("the disconnect came before the answer to the connect")
			}
		}
	}},
	{name: "the client left just before the answer, with events buffered: client_closed is the first reason", run: func(t *T) {
		s := t.Shared()
		for range 20 {
			x, accept := s.pending()
			for range 3 {
				s.WantStatusOK(s.SendObject(object{"token": x.token, "event": object{"data": "x"}}), "buffered")
			}
			x.HangUp()
			accept()
			x.WantDisconnect("client_closed")
		}
	}},
	{name: "the client left before the answer, not a 2xx: no disconnect", run: func(t *T) {
		s := t.Shared()
		for _, status := range []int{401, 500} {
			release := make(chan struct{})
			answered := make(chan struct{})
			x := s.Begin(harness.Request{Target: "/"}, harness.Script{Connect: func(c *harness.Callback) harness.Answer {
				defer close(answered)
				return answerAfter(release, harness.Answer{Status: status})(c)
			}})
			x.Connect()
			x.Leave()
			s.Barrier()
			close(release)
			<-answered
			x.WantNoDisconnect()
		}
	}},
	{name: "the connect callback timed out: the backend is told", slow: true, run: func(t *T) {
		s := t.Start()
		x := s.Begin(harness.Request{Target: "/"}, harness.Script{Connect: hang})
		if got := x.Reply(); got.Status != http.StatusGatewayTimeout {
			t.Errorf("status %d", got.Status)
		}
		x.WantDisconnect("error")
	}},
	{name: "the client left and the connect callback timed out: the backend is told", slow: true, run: func(t *T) {
		s := t.Start()
		x := s.Begin(harness.Request{Target: "/"}, harness.Script{Connect: hang})
		x.Connect()
		x.Leave()
		x.WantDisconnect("client_closed")
	}},
	{name: "the connect callback broke before an answer: the backend is told", run: func(t *T) {
		s := t.Start()
		x := s.Begin(harness.Request{Target: "/"}, harness.Script{Connect: answerAlways(harness.Answer{Drop: true})})
		x.Reply()
		x.WantDisconnect("error")
	}},

	{name: "a disconnect that fails is retried: first after at most 0.5 s, doubling, the same webhook-id and body", slow: true, run: func(t *T) {
		answers := []harness.Answer{{Status: 500}, {Status: 408}, {Status: 429}, {Drop: true}, {Status: 503}, {}}
		s := t.Start()
		next := make(chan harness.Answer, len(answers))
		for _, a := range answers {
			next <- a
		}
		x := s.OpenWith(harness.Request{Target: "/"}, harness.Script{Disconnect: func(*harness.Callback) harness.Answer { return <-next }})
		s.CloseStream(x.token)
		calls := x.callbacks("disconnect", len(answers))
		most := 500 * time.Millisecond
		for i, c := range calls {
			if c.Header.Get("Webhook-Id") != calls[0].Header.Get("Webhook-Id") || !bytes.Equal(c.Body, calls[0].Body) {
				t.Errorf("attempt %d: webhook-id %q, body %s; the first had %q, %s", i+1,
					c.Header.Get("Webhook-Id"), c.Body, calls[0].Header.Get("Webhook-Id"), calls[0].Body)
			}
			if i > 0 {
				if gap := c.At.Sub(calls[i-1].At); gap > most+slack {
					t.Errorf("attempt %d came %v after the one before, want at most %v", i+1, gap, most)
				}
				most = min(2*most, 10*time.Second)
			}
		}
		s.Barrier()
		if calls := x.callbacks("disconnect", 1); len(calls) != len(answers) {
			t.Errorf("%d attempts, the last of which was answered 200 as number %d", len(calls), len(answers))
		}
	}},
	{name: "a disconnect that times out after 5 s is retried", slow: true, run: func(t *T) {
		s := t.Start()
		first := make(chan struct{}, 1)
		first <- struct{}{}
		x := s.OpenWith(harness.Request{Target: "/"}, harness.Script{Disconnect: func(c *harness.Callback) harness.Answer {
			select {
			case <-first:
				return hang(c)
			default:
				return harness.Answer{}
			}
		}})
		s.CloseStream(x.token)
		calls := x.callbacks("disconnect", 2)
		if gap := calls[1].At.Sub(calls[0].At); gap < 5*time.Second-slack || gap > 5500*time.Millisecond+2*slack {
			t.Errorf("the second attempt came %v after the first, want 5 s and at most 0.5 s more", gap)
		}
	}},
	// That no retry comes can only be shown by waiting. The first retry would come within 0.5 s.
	{name: "other answers to a disconnect are final", slow: true, run: func(t *T) {
		s := t.Start()
		s.wantExit = -1
		var all []*Stream
		for _, status := range []int{200, 204, 301, 400, 401, 404, 409, 410, 422} {
			x := s.OpenWith(harness.Request{Target: "/"}, harness.Script{Disconnect: answerAlways(harness.Answer{Status: status})})
			s.CloseStream(x.token)
			x.Disconnect()
			all = append(all, x)
		}
		pause(1500 * time.Millisecond)
		for _, x := range all {
			if calls := x.callbacks("disconnect", 1); len(calls) != 1 {
				t.Errorf("%d attempts after a final answer", len(calls))
			}
		}
	}},
	{name: "a hung disconnect never blocks anything else", run: func(t *T) {
		s := t.Start()
		s.wantExit = -1
		for range 20 {
			x := s.OpenWith(harness.Request{Target: "/hung"}, harness.Script{Disconnect: hang})
			x.Leave()
			x.Disconnect()
		}
		for range 20 {
			x := s.Open("/other")
			s.Event(x.token, "delivered")
			x.Want("data: delivered\n\n")
			s.CloseStream(x.token)
			x.WantEnd()
			x.Disconnect()
		}
		if calls := s.backend.Calls(func(c *harness.Callback) bool { return c.Action == "disconnect" && c.Context.Err() == nil }); len(calls) == 0 {
			t.Error("none of the callbacks hangs any more, so this case is not meaningful")
		}
	}},
}}

// halfClosing has cases that only this gateway has to pass: a half-close is a disconnect of the client.
var halfClosing = section{title: "2 a client's half-close and further bytes", cases: []contractCase{
	{name: "a client's half-close is its leaving", run: func(t *T) {
		x := t.Shared().Open("/")
		if err := x.HalfClose(); err != nil {
			t.Fatal(err)
		}
		x.WantDisconnect("client_closed")
		if _, end, err := x.Rest(patience); end == harness.NotEnded {
			t.Errorf("the connection stays: %v", err)
		}
	}},
	{name: "a half-close before the connect's answer is the client's leaving", run: func(t *T) {
		s := t.Shared()
		release := make(chan struct{})
		x := s.Begin(harness.Request{Target: "/"}, harness.Script{Connect: acceptAfter(release)})
		x.Connect()
		if err := x.HalfClose(); err != nil {
			t.Fatal(err)
		}
		s.Barrier()
		close(release)
		x.WantDisconnect("client_closed")
	}},
	{name: "a client that leaves before its connect has its turn: no callbacks, and its place is free at once", exact: true, run: func(t *T) {
		s := t.Start("CALLBACK_CONCURRENCY=1", "MAX_CONNECTIONS=4")
		release := make(chan struct{})
		first := s.Begin(harness.Request{Target: "/"}, harness.Script{Connect: acceptAfter(release)})
		first.Connect()
		for name, leave := range map[string]func(x *Stream) error{
			"leaves":      func(x *Stream) error { x.Leave(); return nil },
			"resets":      func(x *Stream) error { return x.Reset() },
			"half-closes": func(x *Stream) error { return x.HalfClose() },
		} {
			x := s.Begin(harness.Request{Target: "/" + name}, harness.Script{})
			token := tokenIn(s.WantLog(`^\[INFO\] connect `, "path=/"+name+"$"))
			if err := leave(x); err != nil {
				t.Fatal(err)
			}
			s.WantLog("the client left before the backend was asked", token)
			s.wantGone(token)
		}
		var others []*Stream
		for range 3 {
			others = append(others, s.Begin(harness.Request{Target: "/stays"}, harness.Script{}))
		}
		close(release)
		for _, x := range append(others, first) {
			if head := x.WantHead(); head.Status != http.StatusOK {
				t.Errorf("status %d of a client that stays", head.Status)
			}
		}
		first.Leave()
		first.Disconnect()
		if calls := s.backend.Calls(func(c *harness.Callback) bool { return c.URL != "/" && c.URL != "/stays" }); len(calls) > 0 {
			t.Errorf("callback for a client that had left: %s", calls[0].Body)
		}
	}},
	{name: "bytes behind the request, and then the end, before the connect has its turn: no callbacks", run: func(t *T) {
		s := t.Start("CALLBACK_CONCURRENCY=1")
		release := make(chan struct{})
		first := s.Begin(harness.Request{Target: "/"}, harness.Script{Connect: acceptAfter(release)})
		first.Connect()
		x := s.Begin(harness.Request{Target: "/leaves"}, harness.Script{})
		token := tokenIn(s.WantLog(`^\[INFO\] connect `, "path=/leaves$"))
		if err := x.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		s.WantLog("the client left before the backend was asked", token)
		s.wantGone(token)
		x.Leave()
		close(release)
		first.WantHead()
		if calls := s.backend.Calls(func(c *harness.Callback) bool { return c.URL == "/leaves" }); len(calls) > 0 {
			t.Errorf("callback for a client that had left: %s", calls[0].Body)
		}
	}},
	{name: "a byte from the client after its request ends the connection: error, unexpected_data", run: func(t *T) {
		s := t.Shared()
		for _, extra := range []string{"x", "\r\n", "GET /next HTTP/1.1\r\nHost: x\r\n\r\n"} {
			x := s.Open("/")
			if err := x.Write([]byte(extra)); err != nil {
				t.Fatal(err)
			}
			if c := x.WantDisconnect("error"); c.Detail != "unexpected_data" {
				t.Errorf("detail %q after %q", c.Detail, extra)
			}
			if _, end, err := x.Rest(patience); end == harness.NotEnded {
				t.Errorf("the connection is still open after %q: %v", extra, err)
			}
		}
	}},
	{name: "bytes behind the request, there with it: error, unexpected_data", run: func(t *T) {
		s := t.Shared()
		for _, extra := range []string{"x", "GET /next HTTP/1.1\r\nHost: x\r\n\r\n"} {
			x := s.Begin(harness.Request{Target: "/first", Extra: extra}, harness.Script{})
			x.Connect()
			if c := x.WantDisconnect("error"); c.Detail != "unexpected_data" {
				t.Errorf("detail %q after %q", c.Detail, extra)
			}
			if _, end, err := x.Rest(patience); end == harness.NotEnded {
				t.Errorf("the connection is still open after %q: %v", extra, err)
			}
		}
	}},
	{name: "bytes behind the request while the connect is pending: error, unexpected_data", run: func(t *T) {
		s := t.Shared()
		release := make(chan struct{})
		x := s.Begin(harness.Request{Target: "/first"}, harness.Script{Connect: acceptAfter(release)})
		x.Connect()
		if err := x.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		s.Barrier()
		close(release)
		if c := x.WantDisconnect("error"); c.Detail != "unexpected_data" {
			t.Errorf("detail %q", c.Detail)
		}
	}},
}}

// tokenIn returns the token in a line of the log.
func tokenIn(line string) string {
	_, after, _ := strings.Cut(line, "token=")
	token, _, _ := strings.Cut(after, " ")
	return token
}
