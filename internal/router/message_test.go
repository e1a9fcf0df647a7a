package router

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/go-cmp/cmp"

	"ssegateway/internal/cluster"
	"ssegateway/internal/connections"
	"ssegateway/internal/gateway"
	"ssegateway/internal/outbox"
)

var update = flag.Bool("update", false, "write the golden files of this version's messages")

// The messages of version 1 are as its golden files have them, and these are understood.
// They say what those of version 0 say.
func TestVersion1(t *testing.T) {
	for name, pair := range golden(t) {
		q, ok := decodeV0([]byte(pair[0]))
		if !ok {
			continue
		}
		a, err := decodeAnswerV0(q, []byte(pair[1]))
		if err != nil {
			t.Fatal(name, err)
		}
		a.Version = 1
		expectGolden(t, name+".ask", q.encode(1))
		expectGolden(t, name+".answer", encodeJSON(a))
		got, err := q.decodeAnswer(1, encodeJSON(a))
		if diff := cmp.Diff(a, got); err != nil || diff != "" {
			t.Errorf("%s: %v %s", name, err, diff)
		}
	}
}

// What version 0 has no word for has golden files of its own.
func TestVersion1Only(t *testing.T) {
	blocks := []event{{Data: "a"}, {Data: "b"}}
	for name, pair := range map[string]struct {
		ask    nodeRequest
		answer nodeAnswer
	}{
		"stream_write_dropped": {
			nodeRequest{Write: &writeRequest{Token: "cb83fa1a-2606-4b2c-9ea6-be355bb77257", Stream: "S", Number: 3, Blocks: blocks}},
			failed(connections.ErrDropped),
		},
	} {
		pair.answer.Version = 1
		expectGolden(t, name+".ask", pair.ask.encode(1))
		expectGolden(t, name+".answer", encodeJSON(pair.answer))
		got, err := pair.ask.decodeAnswer(1, encodeJSON(pair.answer))
		if !errors.Is(got.failure(), connections.ErrDropped) || err != nil {
			t.Errorf("%s: reads as %v, %v", name, got.failure(), err)
		}
	}
}

// expectGolden compares a message of version 1 with its golden file.
func expectGolden(t *testing.T, name string, message []byte) {
	t.Helper()
	file := filepath.Join("testdata", "v1", name)
	if *update {
		if err := os.WriteFile(file, message, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil || !bytes.Equal(message, want) {
		t.Errorf("%s: %v\n%s, want\n%s", file, err, message, want)
	}
}

// A message of a newer version is answered with an error. A node that gets this error, or an
// answer of a newer version, treats the other node as unreachable, and logs that once.
func TestNewerVersion(t *testing.T) {
	among(t, 2, func(t *testing.T, net *network) {
		a, b := net.nodes[1], net.nodes[2]
		token, _ := b.open(t, "/", gateway.Grant{})
		if got, want := string(b.Answer(t.Context(), []byte(`{"version":3,"teleport":{"to":[1]}}`))), `{"version":2,"error":"version"}`; got != want {
			t.Errorf("answered %s, want %s", got, want)
		}
		for _, answer := range []string{`{"version":1,"error":"version"}`, `{"version":3,"teleported":true}`, `{"version":3}`} {
			a.Router.nodes = answering{a, answer}
			if _, err := a.Send(t.Context(), connections.Send{Token: token}); !errors.Is(err, connections.ErrUnreachable) {
				t.Errorf("%s: %v", answer, err)
			}
			if p := a.List(t.Context(), connections.Query{Limit: 10, Bytes: 1 << 20}); cmp.Diff(p.Unreachable, []string{"node-2"}) != "" {
				t.Errorf("%s: unreachable are %v", answer, p.Unreachable)
			}
		}
		if n := strings.Count(a.log.String(), "versions are too far apart"); n != 1 {
			t.Errorf("said %d times: %s", n, a.log.String())
		}
		for _, answer := range []string{``, `x`, `[]`, `{"version":1}`, `{"version":1,"error":"later"}`, `{"version":1,"sent":[{"outcome":"later"}]}`, `{"version":1,"sent":[{"error":"later"}]}`, `{"version":1,"more_topics":true,"connection":{"token":"` + token.String() + `","more_topics":true}}`} {
			a.Router.nodes = answering{a, answer}
			if _, err := a.Send(t.Context(), connections.Send{Token: token}); !errors.Is(err, connections.ErrUnreachable) {
				t.Errorf("%s: %v", answer, err)
			}
			if _, err := a.Describe(t.Context(), token); !errors.Is(err, connections.ErrUnreachable) {
				t.Errorf("%s: %v", answer, err)
			}
			if _, err := a.Change(t.Context(), token, nil, nil); strings.Contains(answer, "more_topics") && !errors.Is(err, connections.ErrUnreachable) {
				t.Errorf("%s: %v", answer, err)
			}
			if s := a.Statistics(t.Context()); cmp.Diff(s.Cluster.Unreachable, []string{"node-2"}) != "" {
				t.Errorf("%s: unreachable are %v", answer, s.Cluster.Unreachable)
			}
		}
		time.Sleep(2 * time.Minute) // fake clock: the throttle is at rest
		synctest.Wait()
	})
}

// answering are nodes that all give the same answer.
type answering struct {
	*node

	answer string
}

func (a answering) AskPeer(context.Context, cluster.Peer, []byte) ([]byte, error) {
	return []byte(a.answer), nil
}

func (a answering) Ask(_ context.Context, _ gateway.Token, message func(int) ([]byte, error)) ([]byte, error) {
	_, err := message(Version)
	return []byte(a.answer), err
}

// Fields that are not known are ignored; a request that is not known, or malformed, is an error.
func TestUnknown(t *testing.T) {
	among(t, 1, func(t *testing.T, net *network) {
		n := net.nodes[1]
		token, c := n.open(t, "/", gateway.Grant{})
		for message, want := range map[string]string{
			`{"version":1,"send":[{"token":"` + token.String() + `","later":1,"event":{"data":"x","later":{}}}],"later":[]}`: `{"version":1,"sent":[{"outcome":"sent"}]}`,
			`{"version":1,"teleport":{}}`: `{"version":1,"error":"unknown"}`,
			`{"version":1,"send":3}`:      `{"version":1,"error":"malformed"}`,
			`{`:                           `{"version":1,"error":"malformed"}`,
			`{"version":1,"send":[{"token":"` + token.String() + `","event":{"data":"y","id":"\n"}}]}`: `{"version":1,"sent":[{"error":"malformed"}]}`,
		} {
			if got := string(n.Answer(t.Context(), []byte(message))); got != want {
				t.Errorf("%s: %s, want %s", message, got, want)
			}
		}
		if c.text() != "data: x\n\n" {
			t.Errorf("received %q", c.text())
		}
	})
}

// Nodes of any two versions can send each other every request.
func TestSideBySide(t *testing.T) {
	for version := range Version + 2 { // the newest is one that this version does not know
		among(t, 2, func(t *testing.T, net *network) {
			a, b := net.nodes[1], net.nodes[2]
			b.version = version
			ctx := t.Context()
			token, c := b.open(t, "/pÿq", gateway.Grant{Subject: "ada", Topics: []string{"t"}, Overflow: outbox.Latest})
			begin := c.text()
			check := func(what string, ok bool, got ...any) {
				if t.Helper(); !ok {
					t.Errorf("version %d: %s: %v", version, what, got)
				}
			}
			o, err := a.Send(ctx, connections.Send{Token: token, Event: data("1"), HasEvent: true})
			check("send", o == connections.Sent && err == nil, o, err)
			o, err = a.Send(ctx, connections.Send{Token: token, Event: data("2"), HasEvent: true, Wait: true})
			check("send and wait", o == connections.Written && err == nil, o, err)
			results := a.Batch(ctx, []connections.Operation{
				{Send: connections.Send{Token: token, Event: data("3"), HasEvent: true}},
				{Publish: &connections.Publication{Topics: []string{"t"}, Event: data("4"), All: true}},
			})
			check("batch", results[0].Outcome == connections.Sent && results[1].Published.Receivers == 1, results)
			info, err := a.Describe(ctx, token)
			want, _ := b.own.Describe(ctx, token)
			if version == 0 { // has no word for it
				want.Request = nil
			}
			check("describe", err == nil && cmp.Diff(info, want) == "" && info.Path == "/pÿq" && info.Overflow == outbox.Latest, info, err)
			topics, err := a.Change(ctx, token, []string{"u"}, []string{"t"})
			check("change", err == nil && cmp.Diff(topics, []string{"u"}) == "", topics, err)
			page := a.List(ctx, connections.Query{Filter: gateway.Filter{Subject: "ada", Topic: "u"}, Limit: 10, Bytes: 1 << 20})
			check("list", len(page.Connections) == 1 && page.Unreachable == nil && page.Connections[0].Token == token, page)
			s := a.Statistics(ctx)
			check("statistics", s.Cluster.Open == 1 && s.Cluster.Unreachable == nil && cmp.Diff(s.Cluster.Nodes, []string{"node-1", "node-2"}) == "", s)
			sink, err := a.Stream(ctx, token)
			if err != nil {
				t.Fatal(version, err)
			}
			check("write", sink.Write([]connections.Block{{Event: data("5")}, {Event: data("6")}}, false) == nil)
			check("no such token", errors.Is(second(a.Describe(ctx, gateway.NewToken())), connections.ErrNotFound))
			closed := a.CloseAll(ctx, gateway.Filter{Subject: "ada"})
			check("close all", closed.Count == 1 && closed.Unreachable == nil, closed)
			<-sink.Gone()
			check("write to one who has left", errors.Is(sink.Write([]connections.Block{{Event: data("7")}}, false), connections.ErrGone))
			sink.Stop()
			check("close", errors.Is(second(a.Close(ctx, token)), connections.ErrNotFound))
			text := strings.TrimPrefix(c.text(), begin)
			for i, part := range []string{"data: 1\n\n", "data: 2\n\n", "data: 3\n\n", "data: 4\n\n", "data: 5\n\ndata: 6\n\n"} {
				check("received", strings.Contains(text, part), i, text)
			}
			if version > 0 == strings.Contains(strings.Join(net.asked, ""), "/internal/") {
				t.Errorf("version %d is asked %q", version, net.asked)
			}
		})
	}
}

func second[T any](_ T, err error) error { return err }

// The address of a client reaches other nodes, and is absent where it is not asked for.
func TestClientIPOfConnection(t *testing.T) {
	for _, client := range []string{"", "2001:db8::7"} {
		info := connections.Info{Node: "node-1", Info: gateway.Info{Token: gateway.NewToken(), State: gateway.Open, Path: "/", ClientIP: client, Since: time.Unix(1, 0).UTC()}}
		message, err := json.Marshal(encodeConnection(info))
		if err != nil {
			t.Fatal(err)
		}
		if has := bytes.Contains(message, []byte("client_ip")); has != (client != "") {
			t.Errorf("%s", message)
		}
		var c connection
		if err := json.Unmarshal(message, &c); err != nil {
			t.Fatal(err)
		}
		if got, err := c.decode(); err != nil || cmp.Diff(got, info) != "" {
			t.Errorf("%v: %s", err, cmp.Diff(got, info))
		}
	}
}
