package bench_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ssegateway/bench"
	"ssegateway/e2e/harness"
)

// binary is the program, built with the race detector.
var binary string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "bench")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir) //nolint:errcheck // a temporary directory
		if binary, err = harness.Build(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return m.Run()
	}())
}

// run runs `ssegateway bench` with these arguments, and returns its JSON report.
func run(t *testing.T, args ...string) (report bench.Report, messages string, err error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), binary, append([]string{"bench", "--json", "--senders=8", "--duration=300ms", "--settle=100ms"}, args...)...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	if out.Len() > 0 {
		if err := json.Unmarshal(out.Bytes(), &report); err != nil {
			t.Fatalf("%v\n%s", err, out.Bytes())
		}
	}
	return report, errs.String(), err
}

// figures returns the names of a result's figures.
func figures(r bench.Result) (names []string) {
	for _, f := range r.Figures {
		names = append(names, f.Name)
	}
	return names
}

// Each scenario, with a gateway that bench starts itself.
func TestScenarios(t *testing.T) {
	const streams, events, rate = 300, 5, 200
	for _, test := range []struct {
		scenario string
		figures  []string
		least    int64 // events that are checked
	}{
		{"connect", []string{"streams opened", "first byte p50", "server CPU per stream", "bench CPU per stream"}, 0},
		{"storm", []string{"all are back after", "failed requests", "server CPU per reconnect", "bench CPU per reconnect", "backend CPU per reconnect"}, 0},
		{"idle", []string{"server RSS per stream", "server PSS per stream", "kernel slab per stream, both ends", "bench CPU at rest"}, 0},
		{"fanout", []string{"deliveries", "last stream has it p99", "server CPU per delivery", "bench CPU per delivery"}, streams * events},
		{"readers", []string{
			"latency to 1 p50", "latency to 100 p99", "latency to 300 p99", "server CPU per delivery to 1", "server CPU per delivery to 300", "bench CPU per delivery to 300",
		}, 3 * (1 + 10 + 100 + streams)},
		{"unicast", []string{
			"paced sends", "paced latency p99", "saturated sends", "saturated latency p99", "server CPU per saturated send",
			"server CPU per batched event", "server CPU per streamed event",
		}, rate * 3 / 10},
		{"churn", []string{"cycles", "first byte p99", "server CPU per cycle"}, 0},
		{"heartbeat", []string{"beats", "longest time between beats", "server CPU per beat"}, 0},
		{"mixed", []string{"send latency p99", "publish latency p99", "streams reopened", "beats", "server RSS growth after the first sixth"}, streams * 2},
	} {
		t.Run(test.scenario, func(t *testing.T) {
			args := []string{test.scenario, "--streams", strconv.Itoa(streams), "--events", strconv.Itoa(events), "--rate", strconv.Itoa(rate), "--publish-rate=10"}
			switch test.scenario {
			case "heartbeat": // longer than the time allowed between two beats
				args = append(args, "--duration=3s")
			case "mixed": // longer than a churned stream lives
				args = append(args, "--duration=2s")
			}
			report, messages, err := run(t, args...)
			if err != nil {
				t.Fatalf("%v\n%s", err, messages)
			}
			if len(report.Results) != 1 {
				t.Fatalf("%d results, want 1", len(report.Results))
			}
			result := report.Results[0]
			for _, name := range test.figures {
				if !slices.Contains(figures(result), name) {
					t.Errorf("no figure %q in %q", name, figures(result))
				}
			}
			if c := result.Check; c.Events < test.least || c != (bench.Check{Events: c.Events}) {
				t.Errorf("checked %+v, want at least %d events", c, test.least)
			}
		})
	}
}

// other is another server of event streams. /stream/{n} is a stream, /publish accepts events
// for all streams, and /publish/{n} for one. plant may change what a stream gets.
type other struct {
	plant func(stream string, nth int, event string) string

	mu      sync.Mutex
	streams map[string]chan string
	counts  map[string]int
}

func startOther(t *testing.T, plant func(stream string, nth int, event string) string) *httptest.Server {
	o := &other{plant: plant, streams: map[string]chan string{}, counts: map[string]int{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /stream/{n}", o.stream)
	mux.HandleFunc("POST /publish/{n}", o.publish)
	mux.HandleFunc("POST /publish", o.publish)
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

func (o *other) stream(w http.ResponseWriter, r *http.Request) {
	events := make(chan string, 1000)
	o.mu.Lock()
	o.streams[r.PathValue("n")] = events
	o.mu.Unlock()
	w.Header().Set("Content-Type", "text/event-stream")
	out := http.NewResponseController(w)
	_ = out.Flush()
	for {
		select {
		case <-r.Context().Done():
			return
		case e := <-events:
			if e == "end" {
				return
			}
			_, _ = io.WriteString(w, e)
			_ = out.Flush()
		}
	}
}

func (o *other) publish(w http.ResponseWriter, r *http.Request) {
	data, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for n, events := range o.streams {
		if only := r.PathValue("n"); only == "" || only == "bench" || only == n {
			o.counts[n]++
			events <- o.plant(n, o.counts[n], "data: "+string(data)+"\n\n")
		}
	}
	w.WriteHeader(http.StatusAccepted)
}

// Another server is measured with templates.
func TestOtherServer(t *testing.T) {
	s := startOther(t, func(_ string, _ int, event string) string { return event })
	for scenario, publish := range map[string]string{"fanout": "/publish", "unicast": "/publish/{n}"} {
		report, messages, err := run(t, scenario, "--streams=50", "--events=5", "--rate=100", "--pid", strconv.Itoa(os.Getpid()),
			"--url", s.URL+"/stream/{n}", "--publish-url", s.URL+publish)
		if err != nil {
			t.Fatalf("%s: %v\n%s", scenario, err, messages)
		}
		if c := report.Results[0].Check; c.Events == 0 || c != (bench.Check{Events: c.Events}) {
			t.Errorf("%s: %+v", scenario, c)
		}
		s.CloseClientConnections() // ends the streams, because the next ones have the same names
	}
}

// Dividing the streams among processes gives the same result.
func TestWorkers(t *testing.T) {
	for _, scenario := range []string{"fanout", "readers", "unicast", "churn", "storm"} {
		report, messages, err := run(t, scenario, "--streams=50", "--events=5", "--rate=200", "--publish-rate=10", "--streams-per-process=20")
		if err != nil {
			t.Fatalf("%s: %v\n%s", scenario, err, messages)
		}
		c := report.Results[0].Check
		if c != (bench.Check{Events: c.Events}) || scenario == "fanout" && c.Events != 50*5 || scenario == "readers" && c.Events != 3*(1+10+50) || scenario == "unicast" && c.Events < 50 {
			t.Errorf("%s: %+v", scenario, c)
		}
	}
}

// A running gateway is measured like one that bench starts.
func TestRunningGateway(t *testing.T) {
	for _, scenario := range []string{"fanout", "unicast", "churn"} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		backend := l.Addr().String()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		g := harness.StartGateway(t, binary, nil, "CALLBACK_URL=http://"+backend+"/")
		report, messages, err := run(t, scenario, "--streams=50", "--events=5", "--rate=200", "--profile=ssegateway",
			"--server=http://"+g.Endpoint.Addr, "--backend="+backend)
		if err != nil {
			t.Fatalf("%s: %v\n%s", scenario, err, messages)
		}
		if c := report.Results[0].Check; c != (bench.Check{Events: c.Events}) || scenario != "churn" && c.Events == 0 {
			t.Errorf("%s: %+v", scenario, c)
		}
	}
}

// A server that sends no heartbeat, or publishes to the wrong stream, fails the run.
func TestOtherServerAtFault(t *testing.T) {
	s := startOther(t, func(_ string, _ int, event string) string { return event })
	if _, messages, err := run(t, "heartbeat", "--streams=5", "--duration=3s", "--url", s.URL+"/stream/{n}"); err == nil || !strings.Contains(messages, "heartbeats: 5 times none within") {
		t.Errorf("exit %v, said %q", err, messages)
	}
	s.CloseClientConnections()
	report, messages, err := run(t, "unicast", "--streams=5", "--rate=50", "--senders=1", "--url", s.URL+"/stream/{n}", "--publish-url", s.URL+"/publish")
	if err == nil || report.Results[0].Check.Misdelivered == 0 {
		t.Errorf("exit %v, said %q, checked %+v", err, messages, report.Results)
	}
}

// In a storm, streams that are refused or end are counted, and come back. Before it, they fail the run.
func TestStormOtherServer(t *testing.T) {
	const streams, refused, ended = 30, 3, 2
	for name, peaceful := range map[string]int64{"in the storm": streams, "before": 0} {
		t.Run(name, func(t *testing.T) {
			var asked atomic.Int64
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				nth := asked.Add(1) - peaceful
				if nth > 0 && nth <= refused {
					w.WriteHeader(http.StatusBadGateway)
					return
				}
				w.Header().Set("Content-Type", "text/event-stream")
				_ = http.NewResponseController(w).Flush()
				if nth > refused && nth <= refused+ended {
					return
				}
				<-r.Context().Done()
			}))
			t.Cleanup(s.Close)
			pid := strconv.Itoa(os.Getpid())
			report, messages, err := run(t, "storm", "--streams", strconv.Itoa(streams), "--url", s.URL+"/{n}", "--pid", pid, "--backend-pid", pid)
			if peaceful == 0 {
				if err == nil || !strings.Contains(messages, "the stream was refused") && !strings.Contains(messages, "the server ended the stream") {
					t.Errorf("exit %v, said %q", err, messages)
				}
				return
			}
			if err != nil {
				t.Fatalf("%v\n%s", err, messages)
			}
			got := map[string]float64{}
			for _, f := range report.Results[0].Figures {
				got[f.Name] = f.Value
			}
			if n := asked.Load(); got["failed requests"] != refused+ended || n != 2*streams+refused+ended {
				t.Errorf("%v failed, and %d came to the server", got["failed requests"], n)
			}
			if got["all are back after"] < 1000 || got["backend CPU per reconnect"] <= 0 {
				t.Errorf("%v", got)
			}
		})
	}
}

// A stream that is opened between the events is checked from the first one that it gets.
func TestReadersLostAndDoubled(t *testing.T) {
	s := startOther(t, func(stream string, nth int, event string) string {
		switch {
		case nth == 3 && stream == "7":
			return ": nothing\n\n"
		case nth == 3 && stream == "8":
			return event + event
		}
		return event
	})
	report, messages, err := run(t, "readers", "--streams=10", "--publish-rate=10", "--url", s.URL+"/stream/{n}", "--publish-url", s.URL+"/publish")
	if want := (bench.Check{Events: 3 * (1 + 10), Lost: 1, Doubled: 1}); err == nil || len(report.Results) != 1 || report.Results[0].Check != want {
		t.Errorf("exit %v, said %q, checked %+v, want %+v", err, messages, report.Results, want)
	}
}

// A server that reports a disconnect twice fails the run.
func TestDisconnectToldTwice(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	backend := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Timeout: 10 * time.Second}
	tell := func(action, token, url string) {
		resp, err := client.Post("http://"+backend+"/", "application/json",
			strings.NewReader(`{"action":"`+action+`","token":"`+token+`","request":{"url":"`+url+`"}}`))
		if err == nil { // bench may have ended
			resp.Body.Close()
		}
	}
	for _, twice := range []string{"", "token 3"} {
		var tokens atomic.Int64
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			token := fmt.Sprint("token ", tokens.Add(1))
			tell("connect", token, r.URL.Path)
			w.Header().Set("Content-Type", "text/event-stream")
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
			if token == twice {
				tell("disconnect", token, r.URL.Path)
			}
			tell("disconnect", token, r.URL.Path)
		}))
		_, messages, err := run(t, "churn", "--connecting=4", "--profile=ssegateway", "--server="+s.URL, "--backend="+backend)
		s.Close()
		if twice == "" && err != nil || twice != "" && (err == nil || !strings.Contains(messages, "0 missing, 1 doubled")) {
			t.Errorf("twice %q: exit %v, said %q", twice, err, messages)
		}
	}
}

// Another server may have a common channel, too, beside those of the streams. Errors on a
// stream that its client closes and opens again are found as well.
func TestMixedOtherServer(t *testing.T) {
	const again = "9" // a stream that the scenario churns
	for name, test := range map[string]struct {
		plant func(stream string, nth int, event string) string
		want  bench.Check
	}{
		"faultless": {func(_ string, _ int, event string) string { return event }, bench.Check{}},
		"doubled": {func(stream string, nth int, event string) string {
			if stream == again && nth == 3 {
				return event + event
			}
			return event
		}, bench.Check{Doubled: 1}},
		"torn": {func(stream string, nth int, event string) string {
			if stream == again && nth == 3 {
				return "data: 9 3 rest of a number\n\n" + event
			}
			return event
		}, bench.Check{Torn: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			s := startOther(t, test.plant)
			report, messages, err := run(t, "mixed", "--streams=20", "--rate=200", "--publish-rate=5", "--duration=2s",
				"--url", s.URL+"/stream/{n}", "--publish-url", s.URL+"/publish/{channel}")
			if (err != nil) != (test.want != bench.Check{}) {
				t.Errorf("exit %v, said %q", err, messages)
			}
			got := report.Results[0].Check
			test.want.Events = got.Events
			if got.Events < 20*10 || got != test.want {
				t.Errorf("%+v, want %+v", got, test.want)
			}
		})
	}
}

// Plots are written to the given directory.
func TestPlots(t *testing.T) {
	dir := t.TempDir()
	if _, messages, err := run(t, "idle", "fanout", "--streams=50", "--events=5", "--svg="+dir); err != nil {
		t.Fatalf("%v\n%s", err, messages)
	}
	plots, err := filepath.Glob(filepath.Join(dir, "*.svg"))
	if err != nil || len(plots) < 2 {
		t.Fatalf("%q, %v", plots, err)
	}
	for _, p := range plots {
		text, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		if err := xml.Unmarshal(text, new(struct{})); err != nil || !bytes.Contains(text, []byte("<polyline")) && !bytes.Contains(text, []byte("<path")) {
			t.Errorf("%s: %v", p, err)
		}
	}
}

// Each kind of error of a server fails the run.
func TestPlantedFaults(t *testing.T) {
	held := ""
	for name, test := range map[string]struct {
		plant func(stream string, nth int, event string) string
		want  bench.Check
	}{
		// One event comes twice and another is lost, so that the number of events is right.
		"lost and doubled": {func(stream string, nth int, event string) string {
			switch {
			case nth == 3 && stream == "7":
				return ": nothing\n\n"
			case nth == 3 && stream == "8":
				return event + event
			}
			return event
		}, bench.Check{Events: 50, Lost: 1, Doubled: 1}},
		"torn, then whole": {func(stream string, nth int, event string) string {
			if nth == 3 && stream == "7" {
				return event[:40] + "\n\n" + event
			}
			return event
		}, bench.Check{Events: 50, Torn: 1}},
		"reordered": {func(stream string, nth int, event string) string {
			switch {
			case nth == 4 && stream == "7":
				held = event
				return ": later\n\n"
			case nth == 4 && stream == "8":
				return event + event
			case nth == 5 && stream == "7":
				return event + held
			case nth == 5 && stream == "8":
				return ": nothing\n\n"
			}
			return event
		}, bench.Check{Events: 50, Reordered: 1, Lost: 1, Doubled: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			s := startOther(t, test.plant)
			report, messages, err := run(t, "fanout", "--streams=10", "--events=5", "--url", s.URL+"/stream/{n}", "--publish-url", s.URL+"/publish")
			if err == nil || !strings.Contains(messages, "events: ") {
				t.Errorf("exit %v, said %q", err, messages)
			}
			if len(report.Results) != 1 || report.Results[0].Check != test.want || report.Results[0].Error == "" {
				t.Errorf("%+v, want %+v", report.Results, test.want)
			}
		})
	}
	t.Run("a stream ended", func(t *testing.T) {
		s := startOther(t, func(stream string, nth int, event string) string {
			if nth == 3 && stream == "7" {
				return "end"
			}
			return event
		})
		_, messages, err := run(t, "fanout", "--streams=10", "--events=5", "--url", s.URL+"/stream/{n}", "--publish-url", s.URL+"/publish")
		if err == nil || !strings.Contains(messages, "stream 7: the server ended the stream") {
			t.Errorf("exit %v, said %q", err, messages)
		}
	})
}

// Wrong arguments are reported at once.
func TestArguments(t *testing.T) {
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"sprint"}, `"sprint" is no scenario`},
		{[]string{"--streams=0"}, "--streams: 0 is too small"},
		{[]string{"--streams=100000000"}, "open files"},
		{[]string{"--size=10"}, "--size: 10 is too small"},
		{[]string{"--pid=1"}, "only together with --server or --url"},
		{[]string{"--url=http://127.0.0.1:1/{n}"}, "--publish-url: fanout, readers, unicast and mixed need it"},
		{[]string{"connect", "--url=https://127.0.0.1:1/{n}"}, "is not an http URL"},
		{[]string{"connect", "--url=http://127.0.0.1:1/{n}"}, "connection refused"},
		{[]string{"connect", "--url=http://127.0.0.1:1/{n}", "--queue-bytes=70000"}, "bench does not start the server"},
		{[]string{"connect", "--profile=mercure"}, `"mercure" is none`},
		{[]string{"connect", "--profile=nchan"}, "needs --server or --url"},
		{[]string{"connect", "--server=127.0.0.1:80", "--profile=nchan"}, "is not of the form http://host:port"},
		{[]string{"connect", "--server=http://127.0.0.1:1"}, "it needs --backend"},
		{[]string{"connect", "--url=http://127.0.0.1:1/", "--header=x"}, `not of the form "Name: value"`},
		{[]string{"heartbeat", "--duration=1s"}, "too short to miss a beat"},
		{[]string{"connect", "--queue-bytes=none"}, "the gateway did not start"},
	} {
		begin := time.Now()
		_, messages, err := run(t, test.args...)
		if err == nil || !strings.Contains(messages, test.want) {
			t.Errorf("%q: exit %v after %v, said %q, want %q", test.args, err, time.Since(begin), messages, test.want)
		}
	}
}
