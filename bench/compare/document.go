package main

import (
	"fmt"
	"slices"
	"strings"
)

// document returns the text of docs/benchmarks.md.
func document(r *Results) string {
	var b strings.Builder
	b.WriteString("# Benchmarks\n\n" +
		"Made by `make compare`; do not edit. What was measured is in [results.json](benchmarks/results.json), from which\n" +
		"`go run ./bench/compare --from docs/benchmarks/results.json` makes this page again.\n\n")
	writeMachine(&b, r)
	writeMethod(&b, r)
	for _, s := range scenarios {
		writeScenario(&b, r, s)
	}
	writeGoals(&b, r)
	writeConfigurations(&b, r)
	return b.String()
}

func writeMachine(b *strings.Builder, r *Results) {
	m := r.Machine
	b.WriteString("## The machine\n\n| | |\n| --- | --- |\n")
	for _, line := range [][2]string{
		{"processor", fmt.Sprintf("%s, %d cores", m.CPU, m.Cores)},
		{"memory", fmt.Sprintf("%.0f GiB", float64(m.MemoryBytes)/(1<<30))},
		{"kernel", m.Kernel},
		{"open files of a process", fmt.Sprint(m.OpenFiles)},
		{"network", "loopback; bench, the server, and what it asks share the cores"},
		{"load average before", digits(m.Load)},
		{"when", fmt.Sprintf("%s UTC, for %.0f minutes", r.Began.Format("2006-01-02 15:04"), r.Seconds/60)},
	} {
		fmt.Fprintf(b, "| %s | %s |\n", line[0], line[1])
	}
	for _, p := range r.Programs {
		fmt.Fprintf(b, "| %s | %s |\n", p.Name, p.Version)
	}
	b.WriteByte('\n')
}

func writeMethod(b *strings.Builder, r *Results) {
	fmt.Fprintf(b, "## How it was measured\n\n"+
		"By [`ssegateway bench`](bench.md), which checks every event, and says there what each figure means. Every server is started anew for each\n"+
		"scenario, and the servers take turns: in each repetition (there were %d), each scenario is run with one server after the other, beginning with\n"+
		"another one each time. Logs are off. Heartbeats come every %d s where not said otherwise.\n\n"+
		"A cell has the **median** of the repetitions, the lowest and the highest, and, behind ×, ssegateway's figure divided by this server's: the\n"+
		"median of the ratios within each repetition. Where less is better, a ratio below 1 says that ssegateway is better; ▲ marks figures of which more is\n"+
		"better. CPU is processor time of all the server's processes; kB are 1,000 bytes. `bench CPU` is what bench itself used: rates and times are those of both\n"+
		"together.\n\n"+
		"| server | what it is |\n| --- | --- |\n", r.Repetitions, usualHeartbeat)
	for _, s := range measured(r, "") {
		fmt.Fprintf(b, "| %s | %s |\n", s.name, s.about)
	}
	b.WriteByte('\n')
}

// measured returns the servers that ran in the scenario, or in any if it is empty.
func measured(r *Results, scenario string) (ran []server) {
	for _, s := range servers {
		if slices.ContainsFunc(r.Runs, func(run Run) bool {
			return run.Server == s.name && (scenario == "" || run.Scenario == scenario)
		}) {
			ran = append(ran, s)
		}
	}
	return ran
}

func writeScenario(b *strings.Builder, r *Results, s scenario) {
	ran := measured(r, s.name)
	if len(ran) == 0 {
		return
	}
	fmt.Fprintf(b, "## %s\n\n%s%s\n\n", s.title, streamsOf(r, s), s.about)
	if bars(r, s) != "" {
		fmt.Fprintf(b, "![%s](benchmarks/%s.svg)\n\n", s.title, s.name)
	}
	b.WriteString("| |")
	for _, server := range ran {
		fmt.Fprintf(b, " %s |", server.name)
	}
	b.WriteString("\n| --- |" + strings.Repeat(" ---: |", len(ran)) + "\n")
	for _, f := range s.figures {
		mark := ""
		if f.higher {
			mark = " ▲"
		}
		fmt.Fprintf(b, "| %s, %s%s |", f.label, f.unit, mark)
		for _, server := range ran {
			fmt.Fprintf(b, " %s |", cell(r, s, server, f))
		}
		b.WriteByte('\n')
	}
	b.WriteByte('\n')
	list(b, failuresOf(r, s, ran))
	list(b, comparisons(r, s, ran))
}

func list(b *strings.Builder, lines []string) {
	for _, line := range lines {
		fmt.Fprintf(b, "- %s\n", line)
	}
	if len(lines) > 0 {
		b.WriteByte('\n')
	}
}

// streamsOf returns a sentence with the number of streams. In churn that is bench's number of streams at a time.
func streamsOf(r *Results, s scenario) string {
	for _, run := range r.Runs {
		if run.Scenario == s.name && run.Result.Streams > 0 {
			return fmt.Sprintf("%s streams. ", grouped(float64(run.Result.Streams)))
		}
	}
	return ""
}

// cell returns the median, the spread, and the ratio.
func cell(r *Results, s scenario, server server, f figure) string {
	values := r.values(s.name, server.name, f)
	v := summarise(values)
	reasons, runs := r.failures(s.name, server.name)
	if v.n == 0 {
		if runs > 0 && len(reasons) == runs {
			return "failed"
		}
		return "–"
	}
	text := fmt.Sprintf("**%s**", digits(v.median))
	if v.n > 1 {
		text += fmt.Sprintf("<br>%s – %s", digits(v.least), digits(v.most))
	}
	if server.name != ours && !f.neither {
		if q := summarise(ratios(r.values(s.name, ours, f), values)); q.n > 0 {
			text += "<br>× " + ratio(q.median)
		}
	}
	return text
}

// failuresOf returns a line for each server with failed runs, which have no figures.
func failuresOf(r *Results, s scenario, ran []server) (lines []string) {
	for _, server := range ran {
		if reasons, runs := r.failures(s.name, server.name); len(reasons) > 0 {
			lines = append(lines, fmt.Sprintf("%s failed in %d of %d runs: %#q", server.name, len(reasons), runs, oneLine(reasons[0])))
		}
	}
	return lines
}

func oneLine(text string) string {
	return strings.ReplaceAll(strings.Join(strings.Fields(text), " "), "`", "'")
}

// comparisons returns lines on the figures in which a peer is better, or beaten by less than a tenth.
func comparisons(r *Results, s scenario, ran []server) (lines []string) {
	for _, f := range s.figures {
		if f.neither {
			continue
		}
		for _, server := range ran {
			if server.name == ours || server.limit {
				continue
			}
			mine, its := r.values(s.name, ours, f), r.values(s.name, server.name, f)
			q := summarise(ratios(mine, its))
			if q.n == 0 {
				continue
			}
			cost := q.median // our cost, where less is better
			if f.higher {
				cost = 1 / q.median
			}
			var how string
			switch {
			case cost > 1:
				how = "is better"
			case cost == 1:
				how = "is as good"
			case cost > 0.9:
				how = "is beaten by less than a tenth"
			default:
				continue
			}
			lines = append(lines, fmt.Sprintf("**%s** %s: %s, %s against %s %s (× %s).",
				server.name, how, f.label, digits(summarise(its).median), digits(summarise(mine).median), f.unit, ratio(q.median)))
		}
	}
	if reason := reasons[s.name]; reason != "" && len(lines) > 0 {
		lines = append(lines, reason)
	}
	return lines
}

func writeGoals(b *strings.Builder, r *Results) {
	b.WriteString("## The project's goals\n\n" +
		"What the project wants of itself on its usual machine, of 2 cores: a goal, and what would be as good as it gets." + slowness(r) + "\n\n" +
		"| | measured | goal | | moonshot | |\n| --- | ---: | ---: | --- | ---: | --- |\n")
	var missed []string
	row := func(name, unit string, value, goal, moonshot float64, higher bool) (reached bool) {
		verdict := func(wanted float64) string {
			if value == wanted || higher == (value > wanted) {
				return "reached"
			}
			return "not reached"
		}
		fmt.Fprintf(b, "| %s, %s | %s | %s | %s | %s | %s |\n", name, unit, digits(value), digits(goal), verdict(goal), digits(moonshot), verdict(moonshot))
		return verdict(goal) == "reached"
	}
	for _, g := range goals {
		s, f := g.find()
		v := summarise(r.values(g.scenario, ours, f))
		if v.n == 0 {
			continue
		}
		reached := row(strings.ToLower(s.title)+": "+f.label, f.unit, v.median, g.goal, g.moonshot, f.higher)
		if reason := goalReasons[g.scenario+"/"+g.figure]; reason != "" && !reached {
			missed = append(missed, fmt.Sprintf("%s, %s: %s", strings.ToLower(s.title), f.label, reason))
		}
	}
	row("size of the program", "MB", float64(r.BinaryBytes)/1e6, sizeGoal, sizeMoonshot, false)
	b.WriteByte('\n')
	list(b, missed)
}

// find returns the scenario and the figure. The tests check that each goal has them.
func (g goal) find() (s scenario, f figure) {
	for _, s := range scenarios {
		for _, f := range s.figures {
			if s.name == g.scenario && f.label == g.figure {
				return s, f
			}
		}
	}
	return s, f
}

// floorThen is how many µs the bare loop took for each delivery when the goals were set.
const floorThen = 4.4

// slowness returns how much slower the processor was in this run than when the goals were set.
func slowness(r *Results) string {
	v := summarise(r.values("fanout", "floor", micros("", "server CPU per delivery")))
	if v.n == 0 {
		return ""
	}
	return fmt.Sprintf("\nThe goals are from a time when the bare loop took %s µs there for each delivery. In this run it took %s: before any server did anything,\n"+
		"all was %s times as dear.", digits(floorThen), digits(v.median), digits(v.median/floorThen))
}

func writeConfigurations(b *strings.Builder, r *Results) {
	ran := measured(r, "")
	if !slices.ContainsFunc(ran, func(s server) bool { return len(s.config) > 0 }) {
		return
	}
	b.WriteString("## Configurations\n\nFor many connections: Pushpin's after its manual, nchan's, of which Debian has none, by trial. What stands in braces is filled in for each run.\n\n")
	var shown []string
	for _, s := range ran {
		for _, name := range s.config {
			text, err := configs.ReadFile("config/" + name)
			if err != nil || slices.Contains(shown, name) {
				continue
			}
			shown = append(shown, name)
			fmt.Fprintf(b, "[%s](../bench/compare/config/%s):\n\n```\n%s```\n\n", name, name, text)
		}
	}
}

func ratio(v float64) string {
	if v < 0.1 {
		return fmt.Sprintf("%.1g", v)
	}
	return digits(v)
}

// digits formats a value with its significant digits.
func digits(v float64) string {
	switch {
	case v >= 1000:
		return grouped(v)
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.2f", v)
	}
}

// grouped formats a whole number with commas between its thousands.
func grouped(v float64) string {
	text := fmt.Sprintf("%.0f", v)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
