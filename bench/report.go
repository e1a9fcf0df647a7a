package bench

import (
	"fmt"
	"io"
	"math"
	"text/tabwriter"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"ssegateway/bench/svg"
)

// Report has the results of a run.
type Report struct {
	Version string            `json:"version"`
	Started time.Time         `json:"started"`
	Machine Machine           `json:"machine"`
	Options map[string]string `json:"options"` // by flag
	Results []Result          `json:"results"`
}

// Machine describes the machine, on which both ends ran.
type Machine struct {
	Cores  int    `json:"cores"`
	CPU    string `json:"cpu"`
	Kernel string `json:"kernel"`
}

// Result is the result of one scenario.
type Result struct {
	Scenario string   `json:"scenario"`
	Streams  int      `json:"streams"`
	Seconds  float64  `json:"seconds"`
	Figures  []Figure `json:"figures"`
	Check    Check    `json:"check"`
	Memory   []Sample `json:"memory,omitempty"` // idle: while streams are opened, and at the end; mixed: all the time
	Error    string   `json:"error,omitempty"`  // the scenario failed

	distributions []distribution
}

// Sample is the server's memory at a moment.
type Sample struct {
	Seconds float64 `json:"seconds"` // since the beginning
	Streams int     `json:"streams"` // that are open
	RSS     int64   `json:"rss"`     // bytes
}

// memory adds the figures from the samples of a long run.
func (r *Result) memory() {
	first, last := r.Memory[0], r.Memory[len(r.Memory)-1]
	// at returns the first sample after that fraction of the time.
	at := func(part float64) Sample {
		for _, s := range r.Memory {
			if s.Seconds >= part*last.Seconds {
				return s
			}
		}
		return last
	}
	r.add("server RSS at the start", "MB", float64(first.RSS)/1e6)
	r.add("server RSS in the middle", "MB", float64(at(0.5).RSS)/1e6)
	r.add("server RSS at the end", "MB", float64(last.RSS)/1e6)
	sixth := at(1.0 / 6)
	r.add("server RSS growth after the first sixth", "%", 100*float64(last.RSS-sixth.RSS)/float64(max(sixth.RSS, 1)))
}

// distribution is a histogram in the form that a plot needs.
type distribution struct {
	name   string
	points []svg.Point
}

// distributionOf takes percentiles that get closer and closer towards the slowest value.
func distributionOf(name string, h *hdrhistogram.Histogram) distribution {
	d := distribution{name: name}
	for rest := 1.0; rest*float64(h.TotalCount()) >= 1; rest /= 1.2 {
		d.points = append(d.points, svg.Point{X: -math.Log10(rest), Y: float64(h.ValueAtQuantile(100*(1-rest))) / 1e6})
	}
	d.points = append(d.points, svg.Point{X: math.Log10(float64(h.TotalCount())), Y: float64(h.Max()) / 1e6})
	return d
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
	fmt.Fprintf(w, "ssegateway bench %s; %d cores, %s, Linux %s\n\n", r.Version, r.Machine.Cores, r.Machine.CPU, r.Machine.Kernel)
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

// digits formats a value with its significant digits.
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
