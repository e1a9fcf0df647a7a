package main

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// Nothing else of the page changes, neither where the section is new nor where it replaces another one.
func TestReplaced(t *testing.T) {
	have, err := os.ReadFile("../../docs/scale.md")
	if err != nil {
		t.Fatal(err)
	}
	text := string(have)
	before, rest, found := strings.Cut(text, "\n"+beginMark)
	after := ""
	if found {
		_, after, _ = strings.Cut(rest, endMark)
	}
	first, err := replaced(text, "first\n")
	if err != nil {
		t.Fatal(err)
	}
	second, err := replaced(first, "second\n")
	if err != nil {
		t.Fatal(err)
	}
	for section, got := range map[string]string{"first": first, "second": second} {
		if want := strings.TrimRight(before, "\n") + "\n\n" + beginMark + "\n" + section + "\n\n" + endMark + after; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	for _, mark := range []string{"<!-- begin of what make simulate writes -->\n", "<!-- end of what make simulate writes -->\n"} {
		if !strings.Contains(second, mark) {
			t.Errorf("no %q any more", mark)
		}
	}
	for _, broken := range []string{"a\n" + beginMark, "a\n" + endMark, endMark + beginMark} {
		if got, err := replaced(broken, "x\n"); err == nil {
			t.Errorf("%q became %q", broken, got)
		}
	}
}

// Figures are medians of the runs of their own scenario.
func TestSection(t *testing.T) {
	r := results{about: "a machine", options: options{nodes: []int{1, 3}, runs: 3, topics: 64, publishers: 20, duration: 1500 * time.Millisecond}}
	add := func(s scenario, published int, nats time.Duration, nodes ...time.Duration) {
		r.runs = append(r.runs, result{scenario: s, published: published, took: 2 * time.Second, nodes: nodes, nats: nats})
	}
	const ms = time.Millisecond
	add(scenario{1, spread, "all"}, 2000, 80*ms, 200*ms)
	for _, nats := range []time.Duration{50 * ms, 10 * ms, 30 * ms} {
		add(scenario{3, oneNode, "all"}, 1000, nats, 90*ms, 20*ms, 30*ms)
		add(scenario{3, oneNode, "own"}, 1000, nats, 90*ms, 0, 1*ms)
	}
	add(scenario{3, spread, "own"}, 20_000, 1000*ms, 1000*ms, 1000*ms, 2000*ms)
	text := section(&r)
	_, table, _ := strings.Cut(text, "| ---: | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |\n")
	want := "" +
		"| 1 | on all nodes | `all` | 1,000 | 100 |  | 100 | 40.0 | 7,143 |\n" +
		"| 3 | on all nodes | `own` | 10,000 |  |  | 200 | 50.0 | 4,000 |\n" +
		"| 3 | on one node | `all` | 500 | 90.0 | 25.0 | 140 | 30.0 | 5,882 |\n" +
		"| 3 | on one node | `own` | 500 | 90.0 | 0.5 | 91.0 | 30.0 | 8,264 |\n"
	if table != want {
		t.Errorf("table:\n%swant:\n%s", table, want)
	}
	if head := "Medians of 3 runs of 1.5 s; a machine.\n"; !strings.Contains(text, head) {
		t.Errorf("no %q in\n%s", head, text)
	}
}

// Each pair of values of NATS_READ is measured one behind the other, and each begins as often, but for one.
func TestScenarios(t *testing.T) {
	o := options{nodes: []int{1, 2}}
	for repetition, want := range [][]scenario{
		{{1, spread, "all"}, {1, spread, "own"}, {2, spread, "all"}, {2, spread, "own"}, {2, oneNode, "all"}, {2, oneNode, "own"}},
		{{1, spread, "own"}, {1, spread, "all"}, {2, spread, "own"}, {2, spread, "all"}, {2, oneNode, "own"}, {2, oneNode, "all"}},
	} {
		if got := o.scenarios(repetition); !slices.Equal(got, want) {
			t.Errorf("repetition %d: %v, want %v", repetition, got, want)
		}
	}
}

func TestTopic(t *testing.T) {
	own := &topic{name: "n1-1", node: 0}
	first, second, third := own.next(), own.next(), own.next()
	if len(first) != dataBytes {
		t.Errorf("%q has %d bytes, want %d", first, len(first), dataBytes)
	}
	if err := own.take(first); err != nil {
		t.Fatal(err)
	}
	foreign := &topic{name: "n2-1", node: 1}
	foreign.next()
	for why, data := range map[string]string{"again": first, "a gap": third, "of another topic": foreign.next(), "no event": "x"} {
		if err := own.take(data); err == nil {
			t.Errorf("%s: %.20q was taken", why, data)
		}
	}
	const want = "topic n1-1 of node 1 got 1 of 3 events, and 1 topics more lack some"
	if got := missing([]*topic{own, foreign}); got != want {
		t.Errorf("missing: %q, want %q", got, want)
	}
	for _, data := range []string{second, third} {
		if err := own.take(data); err != nil {
			t.Error(err)
		}
	}
	if got := missing([]*topic{own}); got != "" {
		t.Errorf("missing: %q, want nothing", got)
	}
}

func TestOptions(t *testing.T) {
	for _, args := range [][]string{
		{"x"}, {"--nodes=0"}, {"--nodes=6"}, {"--runs=0"}, {"--duration=0s"}, {"--publishers=0"}, {"--publishers=65"}, {"--unknown"},
	} {
		if err := run(t.Context(), args, t.Output(), t.Output()); err == nil {
			t.Errorf("%v: no error", args)
		}
	}
}
