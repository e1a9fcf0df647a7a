package demo

import (
	"context"
	_ "embed"
	"encoding/json" //nolint:depguard // as in backend.go
	"fmt"
	"net/http"
	"regexp"
	"time"
)

// This file is an application that streams by itself. Nothing in it is for the gateway, which stands in front of it as a relay.

//go:embed page/answer.txt
var answerText string

var words = regexp.MustCompile(`\S+\s*`).FindAllString(answerText, -1)

const (
	// answersPath is where answers are asked for, at the gateway as here. The shipped files for proxies take it
	// to the gateway.
	answersPath = streamPath + "answers"

	wordTime = 90 * time.Millisecond // that a word takes
	keptTime = 2 * time.Minute       // for which the gateway keeps an answer that nobody reads
)

// serveAnswer writes an answer as it is made, for as long as somebody wants it.
func (s *site) serveAnswer(w http.ResponseWriter, r *http.Request) {
	u, ok := session(r.Cookies())
	if !ok {
		answer(w, http.StatusUnauthorized, "Reload the page: it has no session.")
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	out := http.NewResponseController(w)
	tick := time.NewTicker(wordTime)
	defer tick.Stop()
	for i, word := range words {
		select {
		case <-tick.C:
		case <-r.Context().Done():
			s.tell(r.Context(), u, fmt.Sprintf("stopped after %d words", i))
			return
		}
		data, err := json.Marshal(word)
		if err != nil {
			return // strings
		}
		_, _ = fmt.Fprintf(w, "data: %s\n\n", data)
		if out.Flush() != nil {
			continue // the context ends, too
		}
		s.tell(r.Context(), u, fmt.Sprintf("writes, word %d of %d", i+1, len(words)))
	}
	s.tell(r.Context(), u, fmt.Sprintf("has written all %d words", len(words)))
}

// tell shows on the user's pages what becomes of an answer here: another thing than what arrives there.
func (s *site) tell(ctx context.Context, u user, what string) {
	_, _ = s.sendTo(context.WithoutCancel(ctx), func(st stream) bool { return st.user.id == u.id }, message{Event: &event{Name: "application", Data: what}})
}
