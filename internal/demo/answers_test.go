package demo

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
)

// An application that streams by itself: its answer is numbered on the way, survives the network, and ends by a stop.
func TestAnswers(t *testing.T) {
	r := start(t)
	if status, html := r.do(http.MethodGet, r.page+"/answers", ""); status != http.StatusOK || !strings.Contains(html, "cuts and reloads") || strings.Contains(html, "{{") {
		t.Fatalf("%d %s", status, html)
	}
	told := r.open(r.gateway + "/events/")
	read := func(id string) *events {
		t.Helper()
		method := http.MethodPost
		if id != "" {
			method = http.MethodGet
		}
		return r.stream(method, r.page+"/network/events/answers", "Last-Event-ID", id, "Sec-Fetch-Site", "same-origin")
	}
	next := func(e *events, want int) string {
		t.Helper()
		event, err := e.dec.Next()
		if err != nil {
			t.Fatal(err)
		}
		word, err := json.Marshal(words[want-1])
		if id := event.ID.String(); err != nil || event.Data != string(word) || !strings.HasSuffix(id, "."+strconv.Itoa(want)) {
			t.Fatalf("%q %q, want word %d, %s", event.Data, id, want, word)
		}
		return event.ID.String()
	}
	first := read("")
	next(first, 1)
	id := next(first, 2)
	r.press("/cut", nil, "The network is cut.")
	var err error
	for err == nil {
		_, err = first.dec.Next()
	}
	if errors.Is(err, io.EOF) {
		t.Fatal("the answer has ended, and was to be cut")
	}
	if _, err := r.client.Get(r.page + "/network/events/answers"); err == nil { //nolint:bodyclose // there is none
		t.Error("a request went over a network that is cut")
	}
	told.want("application") // goes on
	deadline := time.After(limit)
	for up := false; !up; {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.page+"/network/healthz", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		if resp, err := r.client.Do(req); err == nil {
			resp.Body.Close()
			up = true
		}
		select {
		case <-deadline:
			t.Fatal("the network stays down")
		default:
		}
	}
	again := read(id)
	next(again, 3)
	next(again, 4)
	whole := read(strings.TrimSuffix(id, "2") + "0")
	next(whole, 1)
	if status, _ := r.do(http.MethodDelete, r.page+"/network/events/answers", "", "Last-Event-ID", id, "Sec-Fetch-Site", "same-origin"); status != http.StatusNoContent {
		t.Errorf("the stop was answered %d", status)
	}
	for _, e := range []*events{again, whole} {
		for err = nil; err == nil; {
			_, err = e.dec.Next()
		}
		if !errors.Is(err, io.EOF) {
			t.Errorf("after the stop: %v, want the end", err)
		}
	}
	for !strings.HasPrefix(told.want("application"), "stopped after ") {
	}
}
