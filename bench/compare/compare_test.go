package main

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ssegateway/bench"
)

func TestSummary(t *testing.T) {
	for _, test := range []struct {
		values map[int]float64
		want   summary
	}{
		{nil, summary{}},
		{map[int]float64{1: 7}, summary{1, 7, 7, 7}},
		{map[int]float64{1: 3, 2: 1}, summary{2, 2, 1, 3}},
		{map[int]float64{1: 5, 3: 1, 4: 9, 5: 2, 6: 2}, summary{5, 2, 1, 9}},
	} {
		if got := summarise(test.values); got != test.want {
			t.Errorf("%v: %+v, want %+v", test.values, got, test.want)
		}
	}
}

// A ratio is of two figures of the same repetition. A figure without the other one has no ratio.
func TestRatios(t *testing.T) {
	got := ratios(map[int]float64{1: 2, 2: 9, 3: 5, 4: 1}, map[int]float64{1: 4, 2: 3, 4: 0, 5: 1})
	if len(got) != 2 || got[1] != 0.5 || got[2] != 3 {
		t.Errorf("%v", got)
	}
}

func TestDigits(t *testing.T) {
	for v, want := range map[float64]string{0.544: "0.54", 12.34: "12.3", 123.4: "123", 1234.5: "1,234", 1234567: "1,234,567", -3: "-3.00"} {
		if got := digits(v); got != want {
			t.Errorf("%v: %s, want %s", v, got, want)
		}
	}
	for v, want := range map[float64]string{0.0044: "0.004", 0.5: "0.50", 21: "21.0"} {
		if got := ratio(v); got != want {
			t.Errorf("ratio %v: %s, want %s", v, got, want)
		}
	}
}

// made returns results like those of real runs.
func made(figures map[string]map[string][]float64) *Results {
	r := &Results{Repetitions: 2, BinaryBytes: 15e6}
	for server, byFigure := range figures {
		for repetition := range 2 {
			run := Run{Repetition: repetition + 1, Scenario: "unicast", Server: server, Result: bench.Result{Scenario: "unicast", Streams: 10_000}}
			for name, values := range byFigure {
				if repetition < len(values) {
					run.Result.Figures = append(run.Result.Figures, bench.Figure{Name: name, Value: values[repetition]})
				}
			}
			r.Runs = append(r.Runs, run)
		}
	}
	return r
}

// The document has these texts, and does not have those.
func TestDocument(t *testing.T) {
	const cost, sends = "server CPU per saturated send", "saturated sends"
	r := made(map[string]map[string][]float64{
		ours:               {cost: {10, 20}, sends: {1000, 1000}},
		"nchan, 1 worker":  {cost: {5, 40}, sends: {1050, 1050}}, // ratios 2 and 0.5: in the median 1.25
		"nchan, 2 workers": {cost: {100, 100}, sends: {500, 500}},
		"plain":            {cost: {10.5, 21}, sends: {990, 990}},
	})
	r.Runs = append(r.Runs,
		Run{Repetition: 1, Scenario: "unicast", Server: "Pushpin", Error: "it\nended `so`", Result: bench.Result{Figures: []bench.Figure{{Name: cost, Value: 1}}}},
		Run{Repetition: 2, Scenario: "unicast", Server: "Pushpin", Error: "again"})
	text := document(r)
	for _, want := range []string{
		"\n10,000 streams. One POST",
		"| | ssegateway | nchan, 1 worker | nchan, 2 workers | Pushpin | plain |\n",
		"| saturated: server CPU per send, µs | **15.0**<br>10.0 – 20.0 | **22.5**<br>5.00 – 40.0<br>× 1.25 | **100**<br>100 – 100<br>× 0.15 | failed |",
		"| saturated: sends, 1/s ▲ | **1,000**",
		"- Pushpin failed in 2 of 2 runs: `it ended 'so'`\n",
		"- **nchan, 1 worker** is better: saturated: server CPU per send, 22.5 against 15.0 µs (× 1.25).\n",
		"- **plain** is beaten by less than a tenth: saturated: server CPU per send, 15.8 against 15.0 µs (× 0.95).\n",
		"- **nchan, 1 worker** is better: saturated: sends, 1,050 against 1,000 1/s (× 0.95).\n",
		"- **plain** is beaten by less than a tenth: saturated: sends,",
		"| one event to one: saturated: server CPU per send, µs | 15.0 | 18.0 | reached | 11.0 | not reached |\n",
		"| one event to one: saturated: sends, 1/s | 1,000 | 60,000 | not reached | 85,000 | not reached |\n",
		"| size of the program, MB | 15.0 | 30.0 | reached | 20.0 | reached |\n",
		"nchan_channel_id $1;", // in the configuration
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	for _, unwanted := range []string{"**nchan, 2 workers** is", "**Pushpin** is", "## Heartbeats", "heartbeats: server"} {
		if strings.Contains(text, unwanted) {
			t.Errorf("%q in\n%s", unwanted, text)
		}
	}
}

// A plot is well-formed, and its bars have the lengths of the figures.
func TestBars(t *testing.T) {
	var s scenario
	for _, s = range scenarios {
		if s.name == "unicast" {
			break
		}
	}
	r := made(map[string]map[string][]float64{
		ours:              {"server CPU per saturated send": {10, 10}},
		"nchan, 1 worker": {"server CPU per saturated send": {20, 40}},
		"Pushpin":         {"server CPU per saturated send": {900, 900}}, // cut off at 20 times ours
	})
	plot := bars(r, s)
	for d := xml.NewDecoder(strings.NewReader(plot)); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("%v\n%s", err, plot)
		}
	}
	for _, want := range []string{
		`<rect class="ours" x="130" y="32" width="23.5"`,
		`<rect class="peer" x="130" y="50" width="70.5"`,
		`<path class="spread" d="M177.0 54v6m0 -3H224.0m0 -3v6"/>`,
		`<rect class="peer" x="130" y="68" width="470.0"`,
		`<path class="cut"`,
		">900</text>",
	} {
		if !strings.Contains(plot, want) {
			t.Errorf("no %q in\n%s", want, plot)
		}
	}
	if plot := bars(&Results{}, s); plot != "" {
		t.Errorf("plot of no results: %s", plot)
	}
}

// Each figure is one that bench has, with the arguments with which it is run.
func TestReadersFigures(t *testing.T) {
	figures := readersFigures(1, 1000)
	for i, want := range []string{
		"1 reader: latency, p50 = latency to 1 p50", "1 reader: latency, p99 = latency to 1 p99", "1 reader: server CPU per delivery = server CPU per delivery to 1",
		"1,000 readers: latency, p50 = latency to 1000 p50", "1,000 readers: latency, p99 = latency to 1000 p99",
		"1,000 readers: server CPU per delivery = server CPU per delivery to 1000",
	} {
		if got := figures[i].label + " = " + figures[i].names[0]; got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

// The figure of every goal exists, and so does every scenario that a server is without.
func TestNames(t *testing.T) {
	for _, g := range goals {
		if _, f := g.find(); len(f.names) == 0 {
			t.Errorf("no figure %q in the scenario %s", g.figure, g.scenario)
		}
	}
	for key := range goalReasons {
		if !slices.ContainsFunc(goals, func(g goal) bool { return g.scenario+"/"+g.figure == key }) {
			t.Errorf("goalReasons: %q is not a goal", key)
		}
	}
	for name := range reasons {
		if !slices.Contains(scenarioNames(), name) {
			t.Errorf("reasons: %q is no scenario", name)
		}
	}
	for _, s := range servers {
		for _, name := range s.without {
			if !slices.Contains(scenarioNames(), name) {
				t.Errorf("%s: %q is no scenario", s.name, name)
			}
		}
		for _, name := range s.config {
			if _, err := configs.ReadFile("config/" + name); err != nil {
				t.Error(err)
			}
		}
	}
}

// The document is made again from the results file.
func TestFrom(t *testing.T) {
	r, first, second := made(map[string]map[string][]float64{ours: {"saturated sends": {3, 5}}}), t.TempDir(), t.TempDir()
	if err := write(first, r); err != nil {
		t.Fatal(err)
	}
	if err := run(t.Context(), []string{"--from", filepath.Join(first, "benchmarks", "results.json"), "--out", second}, io.Discard); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"benchmarks.md", "benchmarks/results.json", "benchmarks/unicast.svg"} {
		a, err1 := os.ReadFile(filepath.Join(first, name))
		b, err2 := os.ReadFile(filepath.Join(second, name))
		if err := errors.Join(err1, err2); err != nil || !bytes.Equal(a, b) {
			t.Errorf("%s: %v\n%s\n%s", name, err, a, b)
		}
	}
	bad := filepath.Join(first, "bad.json")
	if err := os.WriteFile(bad, []byte(`{"runs": 1}`), 0o600); err != nil {
		t.Fatal(err)
	}
	var syntax *json.UnmarshalTypeError
	if err := run(t.Context(), []string{"--from", bad}, io.Discard); !errors.As(err, &syntax) {
		t.Errorf("of bad results: %v", err)
	}
}

func TestArguments(t *testing.T) {
	for _, test := range []struct{ args, want string }{
		{"--servers=apache", `--servers: "apache" is none of ssegateway, ssegateway-1processor, nchan-1worker, nchan-2workers, pushpin, plain, floor`},
		{"--scenarios=sprint", `--scenarios: "sprint" is none of`},
		{"--runs=0", "--runs and --streams: whole numbers from 1"},
		{"all", `"all": only flags are known here`},
	} {
		if err := run(t.Context(), []string{test.args}, io.Discard); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %s", test.args, err, test.want)
		}
	}
}
