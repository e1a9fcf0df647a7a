package programs

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"ssegateway/e2e/harness"
	"ssegateway/e2e/harness/chromium"
)

// pieces are what each application says, one at each step.
var pieces = []string{"Grüße ", "an ", "die ", "Welt ", "👋"}

// said is the text of the first n pieces.
func said(n int) string { return strings.Join(pieces[:n], "") }

// report is something that a client reports: its whole text whenever that changes; "end" with what it has in the end;
// "cut" when it has an error.
type report struct{ Kind, Value string }

// session is a client that has an answer from the application, through a network that can fail.
type session struct {
	t       *testing.T
	app     string // where the application is
	run     string // its name at the application
	query   string // that, and what else the application is to know
	network *harness.Network
	reports map[string][]string // so far, by kind

	// set by the program
	next     func() (report, error)
	leave    func()
	comeBack func() // nil: the client does by itself
	reload   func() // nil: there is no page
	stop     func() // nil: the client cannot stop an answer that is kept
}

var runs atomic.Int32

// open starts the program's client.
func (p program) open(t *testing.T, s *site, w way) *session {
	t.Helper()
	run := "run" + strconv.Itoa(int(runs.Add(1)))
	scheme, addr, _ := strings.Cut(w.base, "://")
	c := &session{
		t: t, app: s.direct.base, run: run, query: "run=" + run + w.query, network: harness.NewNetwork(t, addr), reports: map[string][]string{},
	}
	p.start(t, c, scheme+"://"+c.network.Addr)
	return c
}

// wants waits for a report of that kind.
func (s *session) wants(kind string) (value string) {
	s.t.Helper()
	for {
		r, err := s.next()
		if err != nil {
			s.t.Fatalf("no %s: %v; the reports before were %q", kind, err, s.reports)
		}
		s.reports[r.Kind] = append(s.reports[r.Kind], r.Value)
		if r.Kind == "text" && !strings.HasPrefix(said(len(pieces)), r.Value) {
			s.t.Fatalf("the client has %q", r.Value)
		}
		if r.Kind == kind {
			return r.Value
		}
		if r.Kind == "end" || r.Kind == "cut" {
			s.t.Fatalf("%+v, want %s; the reports before were %q", r, kind, s.reports)
		}
	}
}

// text waits until the client has the first n pieces.
func (s *session) text(n int) {
	s.t.Helper()
	for s.wants("text") != said(n) {
	}
}

// say has the application say pieces, each when the client has the one before.
func (s *session) say(from, to int) {
	s.t.Helper()
	for n := from + 1; n <= to; n++ {
		s.control(1, "")
		s.text(n)
	}
}

// complete has the application say all from a piece on, and returns what the client has in the end.
func (s *session) complete(from int) (end string) {
	s.t.Helper()
	s.say(from, len(pieces))
	s.control(2, "")
	return s.wants("end")
}

// interrupt cuts the client off while the application says pieces.
func (s *session) interrupt(from, to int) {
	s.t.Helper()
	s.network.SetDown(true)
	if s.comeBack != nil {
		s.wants("cut")
	}
	s.control(to-from, "taken:"+strconv.Itoa(to))
	s.network.SetDown(false)
	if s.comeBack != nil {
		s.comeBack()
	}
}

// queue returns the reports of a channel.
func queue(reports <-chan report) func() (report, error) {
	return func() (report, error) {
		select {
		case r := <-reports:
			return r, nil
		case <-time.After(harness.Patience):
			return report{}, fmt.Errorf("nothing happened: %w", harness.ErrTimeout)
		}
	}
}

// node starts a client that is a script of Node.
func node(script, path string) func(t *testing.T, s *session, base string) {
	return func(t *testing.T, s *session, base string) {
		t.Helper()
		p, err := harness.Run(harness.Command{
			Args: []string{"node", "npm/clients/" + script, base + path + s.query}, Env: []string{"NODE_EXTRA_CA_CERTS=" + cert.CertFile},
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			p.Kill()
			if t.Failed() {
				t.Logf("output of the client:\n%.3000s", p.Log.Text())
			}
		})
		n := 0
		s.next = func() (r report, err error) {
			n++
			line, ok := p.Log.Find(harness.Patience, regexp.MustCompile(`^\{"n":`+strconv.Itoa(n)+","))
			if !ok {
				return r, fmt.Errorf("no line %d: %w", n, harness.ErrTimeout)
			}
			err = json.Unmarshal([]byte(line), &r)
			return r, err
		}
		s.leave = func() { _ = p.Signal(syscall.SIGTERM) }
	}
}

// page starts a client that lives in a page.
func page(client string) func(t *testing.T, s *session, base string) {
	return func(t *testing.T, s *session, base string) {
		t.Helper()
		reports := make(chan report, 1000)
		tab := browser.Open(t, chromedp.WithListener(func(e any) {
			switch e := e.(type) {
			case *runtime.EventBindingCalled:
				var r report
				if err := json.Unmarshal([]byte(e.Payload), &r); err != nil {
					r.Kind = err.Error()
				}
				reports <- r
			case *runtime.EventExceptionThrown:
				reports <- report{"exception", fmt.Sprintf("%s %+v", e.ExceptionDetails.Text, e.ExceptionDetails.Exception)}
			}
		}))
		url := fmt.Sprintf("%s/page?client=%s&%s", base, client, s.query)
		chromium.Run(t, tab, chromedp.Steps(
			chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
				_, err := cdp.Call(ctx, target, runtime.AddBinding, runtime.AddBindingParams{Name: "report"})
				return err
			}),
			chromedp.Navigate(url),
		))
		s.next = queue(reports)
		s.leave = func() { chromium.Call[chromedp.Void](t, tab, "() => window.leave()") }
		switch client {
		case "chat":
			s.stop = s.leave
			s.reload = func() { chromium.Run(t, tab, chromedp.Navigate(url+"&reloaded")) }
		case "own":
			s.comeBack = func() { chromium.Call[chromedp.Void](t, tab, "() => window.comeBack()") }
		}
	}
}
