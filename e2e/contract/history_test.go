package contract

import (
	"net/http"
	"strings"
	"syscall"
	"time"

	"ssegateway/e2e/harness"
)

const historyPath = "/internal/stats?history="

// histories has the cases about the counts of the last minutes.
var histories = section{title: "16 the last minutes", cases: []contractCase{
	{name: "history: a point at the start, then one every 5 s, and a stream has what there is and each new one", slow: true, run: func(t *T) {
		s := t.Start("EVENT_FORM=envelope") // has no effect on points
		first := s.history("15m")
		if len(first) != 1 || first[0].Connections.Open != 0 || first[0].Opened != 0 {
			t.Fatalf("at the start: %+v", first)
		}
		own := s.Open("/")
		gone := s.Open("/")
		gone.Leave()
		gone.Disconnect()
		x := s.watch("15m")
		head := x.WantHead()
		if head.Status != http.StatusOK || head.Get("content-type") != "text/event-stream" {
			t.Fatalf("%d, %q", head.Status, head.Get("content-type"))
		}
		var got point
		for range 2 {
			got = x.point()
		}
		if got.Connections.Open != 1 || got.Opened != 2 || got.Closed["client_closed"] != 1 || got.Callbacks["connect"].Attempts != 2 || got.Callbacks["connect"].P99 <= 0 {
			t.Errorf("%+v", got)
		}
		if all := s.history("15m"); len(all) != 2 || all[1].Opened != 2 || all[1].at(t).Sub(all[0].at(t)) < 4*time.Second {
			t.Errorf("%+v", all)
		}
		if last := s.history("5s"); len(last) != 1 || last[0].Opened != 2 {
			t.Errorf("%+v", last)
		}
		if got := s.Stats(); got.Connections.Open != 1 || got.Opened != 2 { // the stream is no connection
			t.Errorf("%+v", got)
		}
		s.signal(syscall.SIGTERM)
		own.Disconnect()
		for err := error(nil); err == nil; { // until it ends, too
			_, err = x.Next(1, patience)
		}
	}},
	{name: "history: a time that is none is a 400, a stranger gets 403", run: func(t *T) {
		s := t.Shared()
		for _, text := range []string{"1", "4s", "16m", "901s", "1h", "-5s", "5.5s", "m"} {
			s.WantError(s.Call(http.MethodGet, historyPath+text, ""), http.StatusBadRequest, "INVALID_HISTORY", "")
		}
		s.WantError(s.Call(http.MethodGet, historyPath+"%", ""), http.StatusBadRequest, "INVALID_QUERY", "")
		s.WantError(s.Call(http.MethodGet, historyPath+"15m", "body", "Accept", "text/event-stream"), http.StatusBadRequest, "BODY_NOT_ALLOWED", "")
		for _, accept := range []string{"*/*", "text/event-stream"} {
			s.WantError(s.Call(http.MethodGet, historyPath+"15m", "", "Accept", accept, "Origin", "http://192.0.2.1"), http.StatusForbidden, "INTERNAL_FORBIDDEN", "")
		}
	}},
}}

// point is a point of the history.
type point struct {
	Time        string
	Connections struct{ Pending, Open int }
	Opened      int            `json:"streams_opened"`
	Closed      map[string]int `json:"connections_closed"`
	Callbacks   map[string]struct {
		Attempts int
		P99      float64 `json:"p99_seconds"`
	}
}

func (p point) at(t *T) time.Time {
	at, err := time.Parse(time.RFC3339, p.Time)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func (s *Site) history(d string) []point {
	s.t.Helper()
	var got struct {
		Interval int `json:"interval_seconds"`
		Points   []point
	}
	if s.get(historyPath+d, &got); got.Interval != 5 {
		s.t.Errorf("an interval of %d s", got.Interval)
	}
	return got.Points
}

func (s *Site) watch(d string) *Stream {
	s.t.Helper()
	return &Stream{s: s, Exchange: do(s.t, s.endpoint, harness.Request{
		Host: "127.0.0.1", Target: historyPath + d, Header: []harness.Field{{Name: "accept", Value: "text/event-stream"}},
	})}
}

// point reads the next event of a stream of points.
func (x *Stream) point() (p point) {
	x.s.t.Helper()
	got := ""
	for !strings.HasSuffix(got, "\n\n") || strings.TrimPrefix(got, ": heartbeat\n\n") == "" {
		b, err := x.Next(1, patience)
		if err != nil {
			x.s.t.Fatalf("%s: %v", quoted(got), err)
		}
		got += b
	}
	data, ok := strings.CutPrefix(strings.TrimPrefix(got, ": heartbeat\n\n"), "data: ")
	if err := decode(strings.TrimSuffix(data, "\n\n"), &p); err != nil || !ok {
		x.s.t.Fatalf("%s: %v", quoted(got), err)
	}
	return p
}
