package bench

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// Report is what was measured.
type Report struct {
	Results []Result `json:"results"`
}

// Result is one scenario's.
type Result struct {
	Scenario string   `json:"scenario"`
	Streams  int      `json:"streams"`
	Seconds  float64  `json:"seconds"`
	Figures  []Figure `json:"figures"`
	Check    Check    `json:"check"`
	Error    string   `json:"error,omitempty"` // the scenario failed
}

// Figure is a value with its unit.
type Figure struct {
	Name  string  `json:"name"`
	Unit  string  `json:"unit"`
	Value float64 `json:"value"`
}

func (r *Result) add(name, unit string, value float64) {
	r.Figures = append(r.Figures, Figure{Name: name, Unit: unit, Value: value})
}

// Print writes the report as a table.
func (r *Report) Print(to io.Writer) error {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	for _, result := range r.Results {
		fmt.Fprintf(w, "%s\t%d streams\t\n", result.Scenario, result.Streams)
		for _, f := range result.Figures {
			fmt.Fprintf(w, "  %s\t%s\t%s\n", f.Name, digits(f.Value), f.Unit)
		}
		verdict := "none lost, doubled, torn, reordered or misdelivered"
		if err := result.Check.err(); err != nil {
			verdict = err.Error()
		}
		fmt.Fprintf(w, "  events checked\t%d\t%s\n", result.Check.Events, verdict)
		if result.Error != "" {
			fmt.Fprintf(w, "  FAILED\t\t%s\n", result.Error)
		}
	}
	return w.Flush()
}

// digits shows as many as mean something.
func digits(v float64) string {
	switch {
	case v >= 100 || v <= -100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10 || v <= -10:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.2f", v)
	}
}
