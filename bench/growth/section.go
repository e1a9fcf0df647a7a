package main

import (
	"errors"
	"fmt"
	"strings"
)

// The marks in docs/scale.md. What is between them is written here; the rest of the page belongs to others.
const (
	beginMark = "<!-- begin of what make growth writes -->\n"
	endMark   = "<!-- end of what make growth writes -->\n"
)

// replaced returns the page with another section. A page without one gets it at its end.
func replaced(page, section string) (string, error) {
	before, rest, begins := strings.Cut(page, beginMark)
	_, after, ends := strings.Cut(rest, endMark)
	switch {
	case !begins && !strings.Contains(page, endMark):
		return strings.TrimRight(page, "\n") + "\n\n" + beginMark + "\n" + section + "\n" + endMark, nil
	case !begins || !ends:
		return "", errors.New("it has only one of the two marks of make growth")
	}
	return before + beginMark + "\n" + section + "\n" + endMark + after, nil
}

// columns are the figures of the table.
var columns = []struct {
	name string
	of   figure
	has  func(scenario) bool // nil: always
}{
	{"publishes, 1/s", rate, nil},
	{"the node that takes it, µs", firstNode, func(s scenario) bool { return s.layout == oneNode || s.nodes == 1 }},
	{"each other node, µs", foreignOne, func(s scenario) bool { return s.layout == oneNode }},
	{"all nodes, µs", nodesCost, nil},
	{"NATS, µs", natsCost, nil},
	{"publishes per CPU second", perSecond, nil},
}

// section returns the section of docs/scale.md.
func section(r *results) string {
	var b strings.Builder
	o := &r.options
	fmt.Fprintf(&b, "## A cluster's growth\n\n"+
		"`make growth` measures the processor time that a publish costs gateways and NATS, with each value of `NATS_READ`. Each node has %d clients, with a topic each.\n"+
		"%d publishers for each node publish events of %d bytes, each after the answer to its last one: on all nodes, each event where its client is, or on one node only, while the\n"+
		"clients of the others have other topics. A run fails unless each event arrives at its client, once and in order, and at no other. All share the cores with what publishes\n"+
		"and reads: publishes a second say less than processor time.\n\n",
		o.topics, o.publishers, dataBytes)
	fmt.Fprintf(&b, "Medians of %d runs of %g s; %s.\n\n| nodes | published | `NATS_READ` |", o.runs, o.duration.Seconds(), r.about)
	for _, c := range columns {
		fmt.Fprintf(&b, " %s |", c.name)
	}
	b.WriteString("\n| ---: | --- | --- |" + strings.Repeat(" ---: |", len(columns)) + "\n")
	for _, l := range []layout{spread, oneNode} {
		for _, nodes := range o.nodes {
			for _, read := range reads {
				writeRow(&b, r, scenario{nodes, l, read})
			}
		}
	}
	return b.String()
}

func writeRow(b *strings.Builder, r *results, s scenario) {
	if _, ok := r.median(s, rate); !ok {
		return
	}
	fmt.Fprintf(b, "| %d | %s | `%s` |", s.nodes, s.layout, s.read)
	for _, c := range columns {
		cell := ""
		if c.has == nil || c.has(s) {
			v, _ := r.median(s, c.of)
			cell = written(v)
		}
		fmt.Fprintf(b, " %s |", cell)
	}
	b.WriteByte('\n')
}

// written formats a figure: one decimal below 100, commas between thousands.
func written(v float64) string {
	if v < 100 {
		return fmt.Sprintf("%.1f", v)
	}
	text := fmt.Sprintf("%.0f", v)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
