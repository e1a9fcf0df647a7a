package contract

import (
	"net/http"
	"strings"
	"syscall"
	"time"

	"github.com/google/go-cmp/cmp"

	"ssegateway/e2e/harness"
)

// endsIn are the ends of a batch, as a backend decodes them.
type endsIn struct {
	Action string
	Events []struct {
		WebhookID string `json:"webhook_id"`
		Token     string
		Reason    string
		Request   struct {
			URL     string
			Headers map[string]string
		}
	}
}

// batches returns the batches that a backend has got until they have n ends.
func (s *Site) batches(n int) (calls []*harness.Callback, all []endsIn) {
	s.t.Helper()
	isBatch := func(c *harness.Callback) bool { return c.Action == "disconnects" }
	for ends, count := 0, 1; ends < n; count++ {
		var err error
		if calls, err = s.backend.Await(patience, count, isBatch); err != nil {
			s.t.Fatalf("%d of %d ends: %v", ends, n, err)
		}
		ends, all = 0, nil
		for _, c := range calls {
			var b endsIn
			if err := decode(string(c.Body), &b); err != nil {
				s.t.Fatalf("%v in %s", err, c.Body)
			}
			ends += len(b.Events)
			all = append(all, b)
		}
	}
	return calls, all
}

var storms = section{title: "3 many at once", cases: []contractCase{
	{name: "a backend that is down gets a callback a second, and the others are refused at once; the first answer opens the way for all", slow: true, run: func(t *T) {
		s := t.Start("LOG_LEVEL=info")
		last := s.Open("/")
		away := connectAnswer(http.StatusServiceUnavailable)
		for begin := time.Now(); time.Since(begin) < patience; {
			if s.Begin(harness.Request{Target: "/"}, away).Reply().Status != http.StatusServiceUnavailable {
				t.Fatal("not refused")
			}
			if strings.Contains(s.gw.Log.Text(), "the backend is down") {
				break
			}
		}
		s.WantLog(`^\[WARN\] the backend is down: `, "failures=")
		s.wantMetrics("ssegateway_backend_down 1")
		// An end waits as the others do.
		s.backend.On(last.key, harness.Script{Disconnect: answerAlways(harness.Answer{Status: http.StatusServiceUnavailable})})
		last.Leave()
		before := len(s.backend.Calls(func(*harness.Callback) bool { return true }))
		refused := 0
		took := timed(func() {
			for begin := time.Now(); time.Since(begin) < 3*time.Second; {
				x := s.Begin(harness.Request{Target: "/"}, away)
				r := x.Reply()
				if strings.Contains(r.Body, "BACKEND_UNAVAILABLE") {
					refused++
					if calls := s.backend.Calls(action(x.key, "connect")); len(calls) > 0 {
						t.Errorf("callback %s, want none", calls[0].Body)
					}
				}
			}
		})
		after := len(s.backend.Calls(func(*harness.Callback) bool { return true }))
		if n, most := after-before, int(took/time.Second)+1; n > most || n < 1 || refused < 10 {
			t.Errorf("%d callbacks in %v, want 1 to %d; %d refused", n, took, most, refused)
		}
		// Now it is well. The first who comes when a second is over is asked about, and everybody after that.
		s.backend.On(last.key, harness.Script{})
		for begin := time.Now(); time.Since(begin) < patience; {
			if s.Begin(harness.Request{Target: "/"}, harness.Script{}).WantHead().Status == http.StatusOK {
				break
			}
		}
		s.WantLog(`^\[INFO\] the backend is back `, "refused=")
		for range 20 {
			s.Open("/")
		}
		s.WantLog("callback action=disconnect token="+last.token, "status=200 result=delivered")
		s.wantMetrics("ssegateway_backend_down 0")
		if n := strings.Count(s.gw.Log.Text(), "the backend is "); n != 2 {
			t.Errorf("%d lines say how the backend is, want 2", n)
		}
	}},
	{name: "a backend of which some instances fail is not down", slow: true, run: func(t *T) {
		s := t.Start()
		for begin := time.Now(); time.Since(begin) < 3*time.Second; {
			for range 19 {
				s.Begin(harness.Request{Target: "/"}, connectAnswer(http.StatusBadGateway)).Refusal(http.StatusBadGateway, "BACKEND_ERROR", "")
			}
			s.Open("/").Leave()
		}
		s.wantMetrics("ssegateway_backend_down 0", `ssegateway_streams_refused_total{cause="backend_down"} 0`)
	}},
	{name: "disconnects in batches: each end once, as the callback of its own says it", run: func(t *T) {
		s := t.Start("CALLBACK_BATCH=4")
		open := map[string]*Stream{}
		for range 10 {
			x := s.Open("/batch?x")
			open[x.token] = x
		}
		for _, x := range open {
			x.Leave()
		}
		calls, all := s.batches(len(open))
		ids := map[string]bool{}
		for i, c := range calls {
			id := c.Header.Get("webhook-id")
			if len(all[i].Events) > 4 || ids[id] || id == "" || c.Header.Get("content-type") != "application/json" {
				t.Errorf("%d ends in %s", len(all[i].Events), id)
			}
			ids[id] = true
			for _, e := range all[i].Events {
				x := open[e.Token]
				if x == nil || e.WebhookID != e.Token+"-disconnect" || e.Reason != "client_closed" {
					t.Fatalf("end %+v", e)
				}
				if diff := cmp.Diff(x.Connect().Headers, e.Request.Headers); diff != "" || e.Request.URL != "/batch?x" {
					t.Errorf("request of %s (-connect +end):\n%s", e.Request.URL, diff)
				}
				delete(open, e.Token)
			}
		}
		s.wantMetrics(`ssegateway_callbacks_total{action="disconnect",result="delivered"} 0`)
	}},
	{name: "a batch that is refused for good is told one by one, each as the event of the batch was named", run: func(t *T) {
		s := t.Start("CALLBACK_BATCH=1000")
		s.backend.OnBatch(answerAlways(harness.Answer{Status: http.StatusBadRequest}))
		var open []*Stream
		for range 5 {
			open = append(open, s.Open("/"))
		}
		for _, x := range open {
			x.Leave()
		}
		_, all := s.batches(len(open))
		names := map[string]string{}
		for _, b := range all {
			for _, e := range b.Events {
				names[e.Token] = e.WebhookID
			}
		}
		for _, x := range open {
			c := x.Disconnect()
			if id := c.Header.Get("webhook-id"); id != names[x.token] || c.Reason != "client_closed" {
				t.Errorf("%s is told as %s, and was %s in its batch", x.token, id, names[x.token])
			}
		}
		for _, x := range open {
			if n := len(x.callbacks("disconnect", 1)); n != 1 {
				t.Errorf("told %d times alone", n)
			}
		}
	}},
	{name: "a drain tells of all ends in batches", run: func(t *T) {
		s := t.Start("CALLBACK_BATCH=100")
		const streams = 30
		for range streams {
			s.Open("/")
		}
		s.wantExitWithin(s.signal(syscall.SIGTERM), stopPatience, 0)
		_, all := s.batches(streams)
		told := map[string]bool{}
		for _, b := range all {
			for _, e := range b.Events {
				if told[e.Token] || e.Reason != "server_closed" {
					t.Errorf("end %+v", e)
				}
				told[e.Token] = true
			}
		}
		if len(told) != streams {
			t.Errorf("%d of %d told", len(told), streams)
		}
	}},
}}
