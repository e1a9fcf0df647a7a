package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"strings"
)

// report is what an implementation keeps of the contract.
type report struct {
	Command  []string   `json:"command"`
	Conforms bool       `json:"conforms"` // every case that was asked for has passed
	Passed   int        `json:"passed"`
	Failed   int        `json:"failed"`
	Skipped  int        `json:"skipped"`
	Error    string     `json:"error,omitempty"` // why the suite has not checked everything that was asked for
	Sections []*section `json:"sections"`        // in the order of the suite

	rest []string // output outside of cases
}

// section is a part of the contract.
type section struct {
	Title   string      `json:"title"`
	Core    bool        `json:"core"`
	Passed  int         `json:"passed"`
	Failed  int         `json:"failed"`
	Skipped int         `json:"skipped"`
	Cases   []*lineCase `json:"cases"`
}

// lineCase is a case, which is a line of the contract.
type lineCase struct {
	Name    string   `json:"name"`
	Result  string   `json:"result"`           // passed, failed, or skipped
	Reason  string   `json:"reason,omitempty"` // why it was skipped
	Seconds float64  `json:"seconds"`
	Output  []string `json:"output,omitempty"` // of one that failed, what was wrong, and the log of the implementation

	output []string
}

// The results of a case.
const (
	passed  = "passed"
	failed  = "failed"
	skipped = "skipped"
)

// read reads what `go test -json` says of the suite.
func read(events io.Reader) (*report, error) {
	r := &report{}
	sections, cases := map[string]*section{}, map[string]*lineCase{} // by the name of their test
	lines := bufio.NewScanner(events)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var e struct {
			Action, Test, Output, Key, Value string
			Elapsed                          float64
		}
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return nil, fmt.Errorf("go test: %w: %s", err, lines.Text())
		}
		c := cases[e.Test]
		switch {
		case e.Action == "attr" && e.Key == "section":
			s := &section{Title: e.Value}
			sections[e.Test] = s
			r.Sections = append(r.Sections, s)
		case e.Action == "attr" && e.Key == "core":
			sections[e.Test].Core = e.Value == "true"
		case e.Action == "attr" && e.Key == "case":
			s := sections[sectionOf(e.Test)]
			c = &lineCase{Name: e.Value}
			cases[e.Test] = c
			s.Cases = append(s.Cases, c)
		case (e.Action == "output" || e.Action == "build-output") && !framing(e.Output):
			if c != nil {
				c.output = append(c.output, strings.TrimRight(e.Output, "\n"))
			} else {
				r.rest = append(r.rest, strings.TrimRight(e.Output, "\n"))
			}
		case c != nil && (e.Action == "pass" || e.Action == "fail" || e.Action == "skip"):
			c.Result = map[string]string{"pass": passed, "fail": failed, "skip": skipped}[e.Action]
			c.Seconds = e.Elapsed
		}
	}
	return r, lines.Err()
}

// sectionOf returns the name of the test of a case's section: TestContract/KIND/SECTION of TestContract/KIND/SECTION/CASE,
// where a case may have slashes in its name.
func sectionOf(test string) string {
	return strings.Join(strings.SplitN(test, "/", 4)[:3], "/")
}

// framing reports whether the line is of the form that go test gives its output, and says nothing of a case.
func framing(line string) bool {
	line = strings.TrimLeft(line, " ")
	return strings.HasPrefix(line, "=== ") || strings.HasPrefix(line, "--- ") || strings.HasPrefix(line, "FAIL")
}

// finish counts the results. wrong says that go test has found something wrong.
func (r *report) finish(wrong bool) {
	unfinished := 0
	for _, s := range r.Sections {
		for _, c := range s.Cases {
			switch c.Result {
			case passed:
				s.Passed++
			case skipped:
				s.Skipped++
				c.Reason = reason(c.output)
			default:
				if c.Result == "" {
					unfinished++
					c.Result = failed
				}
				s.Failed++
				c.Output = c.output
			}
		}
		r.Passed, r.Failed, r.Skipped = r.Passed+s.Passed, r.Failed+s.Failed, r.Skipped+s.Skipped
	}
	switch {
	case unfinished > 0:
		r.Error = fmt.Sprintf("%d cases have no result:\n%s", unfinished, r.said())
	case wrong && r.Failed == 0:
		r.Error = r.said()
	case r.Passed+r.Failed == 0:
		r.Error = "no case has run"
	}
	r.Conforms = r.Failed == 0 && r.Error == ""
}

// said returns the output outside of cases.
func (r *report) said() string { return strings.TrimSpace(strings.Join(r.rest, "\n")) }

// reason returns what t.Skip has said, without the place.
func reason(output []string) string {
	_, text, _ := strings.Cut(strings.Join(output, " "), ".go:")
	_, text, _ = strings.Cut(text, ": ")
	return strings.TrimSpace(text)
}

// shown is how many lines of a case that failed are written. All of them are in the JSON.
const shown = 4

// found returns the first lines of what a case has found, which the log of the implementation follows.
func found(output []string) (lines []string) {
	for _, line := range output {
		line = strings.TrimSpace(line)
		if len(lines) == shown || logBegins.MatchString(line) {
			break
		}
		if line != "" {
			lines = append(lines, line)
		}
	}
	return lines
}

var logBegins = regexp.MustCompile(`^\w+\.go:\d+: log of the (shared )?gateway\b`)

// write writes the report as text.
func (r *report) write(w io.Writer) error {
	var b strings.Builder
	var beyond []string
	for _, s := range r.Sections {
		if s.Passed+s.Failed == 0 {
			if s.Skipped > 0 {
				beyond = append(beyond, fmt.Sprintf("%s (%d)", s.Title, s.Skipped))
			}
			continue
		}
		fmt.Fprintf(&b, "%s: %s\n", s.Title, counts(s.Passed, s.Failed, s.Skipped))
		for _, c := range s.Cases {
			switch c.Result {
			case failed:
				fmt.Fprintf(&b, "    failed: %s\n", c.Name)
				for _, line := range found(c.Output) {
					fmt.Fprintf(&b, "        %.200s\n", line)
				}
			case skipped:
				fmt.Fprintf(&b, "    skipped: %s (%s)\n", c.Name, c.Reason)
			}
		}
	}
	if beyond != nil {
		fmt.Fprintf(&b, "beyond the core, and so left out (--all runs them): %s\n", strings.Join(beyond, ", "))
	}
	verdict := "conforms"
	switch {
	case r.Error != "":
		fmt.Fprintf(&b, "%s\n", r.Error)
		verdict = "NOT CHECKED"
	case !r.Conforms:
		verdict = "DOES NOT CONFORM"
	}
	fmt.Fprintf(&b, "\n%s: %s\n", verdict, counts(r.Passed, r.Failed, 0))
	_, err := io.WriteString(w, b.String())
	return err
}

func counts(passed, failed, skipped int) string {
	text := fmt.Sprintf("%d passed", passed)
	if failed > 0 {
		text += fmt.Sprintf(", %d failed", failed)
	}
	if skipped > 0 {
		text += fmt.Sprintf(", %d skipped", skipped)
	}
	return text
}
