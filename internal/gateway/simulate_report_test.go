//go:build simulate && unix

package gateway_test

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"ssegateway/bench/svg"
	"ssegateway/e2e/harness"
)

// figureNames are the lines of the table. A figure with a colour is also a line in one of the
// panels of the plot.
var figureNames = [figures]struct {
	name, colour string
	panel        int
}{
	heapBytes:  {"memory of a connection, B", "#000000", 0},
	register:   {"register and open one, CPU ns", "#1f77b4", 0},
	remove:     {"remove one, CPU ns", "#17becf", 0},
	fanOut:     {"fan-out, CPU ns for each delivery", "#d62728", 0},
	fanOutAll:  {"fan-out, ms until all have it", "", 0},
	beat:       {"heartbeat, CPU ns for each", "#ff7f0e", 0},
	beatAll:    {"heartbeat, ms for all", "", 0},
	collection: {"garbage collection, CPU ns for each connection", "#9467bd", 0},
	pause:      {"longest pause of the garbage collector, µs", "", 0},
	postP50:    {"POST /internal/send to one, p50 µs", "#9aa0a6", 1},
	postP99:    {"POST /internal/send to one, p99 µs", "", 1},
	postGrowth: {"POST p99, times that of 10,000 by turns", "#000000", 1},
	sendP50:    {"send in memory to one of all, p50 ns", "#2ca02c", 1},
	sendP99:    {"send in memory to one of all, p99 ns", "#98c379", 1},
	hotP50:     {"send in memory to one of 1,000 of them, p50 ns", "#d62728", 1},
	hotP99:     {"send in memory to one of 1,000 of them, p99 ns", "", 1},
	fetch:      {"one fetch from as much memory, ns", "#1f77b4", 1},
}

// thousands formats a number with a comma every three digits.
func thousands(n int) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func written(v float64) string {
	if v < 10 {
		return fmt.Sprintf("%.2f", v)
	}
	return thousands(int(math.Round(v)))
}

func table(rows []*measured) string {
	var b strings.Builder
	line := func(first string, cell func(*measured) string) {
		fmt.Fprintf(&b, "| %s |", first)
		for _, m := range rows {
			fmt.Fprintf(&b, " %s |", cell(m))
		}
		b.WriteByte('\n')
	}
	line("connections", func(m *measured) string { return thousands(m.conns) })
	line("---", func(*measured) string { return "---:" })
	for f := range figures {
		about := &figureNames[f]
		line(about.name, func(m *measured) string { return written(m.of[f]) })
	}
	return b.String()
}

// platform describes the machine on which the figures were measured.
func platform() string {
	what := fmt.Sprintf("%s on %s/%s, %d cores", runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU())
	cpus, _ := os.ReadFile("/proc/cpuinfo") // only Linux has it
	if _, rest, ok := strings.Cut(string(cpus), "model name\t: "); ok {
		name, _, _ := strings.Cut(rest, "\n")
		what += " (" + name + ")"
	}
	return what
}

// writeDocs replaces what is between the two marks of scale.md, and the plot.
func writeDocs(t *testing.T, dir string, rows []*measured) {
	t.Helper()
	const begin, end = "<!-- begin of what make simulate writes -->\n", "<!-- end of what make simulate writes -->\n"
	harness.KeepPage(t, filepath.Join(dir, "scale.md"), begin, end, fmt.Sprintf("\nMedians of %d rounds; %s.\n\n%s\n", rounds, platform(), table(rows)), true)
	if err := os.WriteFile(filepath.Join(dir, "scale.svg"), []byte(plot(rows)), 0o644); err != nil {
		t.Fatal(err)
	}
}

const (
	plotWidth, plotLeft         = 520, 50 // of a panel
	plotTop, plotHeight         = 50, 250 // of the first panel
	plotNext                    = 340     // from one panel to the next
	plotLowest, plotHighest     = -1, 4   // of the ratio, as powers of two
	plotLabels, plotLabelHeight = plotLeft + plotWidth + 40, 19
)

// plot shows how each figure grows. Both axes are logarithmic, and 1 is the figure with the
// fewest connections.
func plot(rows []*measured) string {
	var p svg.Picture
	panel(&p, rows, 0, "What each connection costs, compared with "+thousands(rows[0].conns)+" connections")
	panel(&p, rows, 1, "What a send to one connection costs, compared with "+thousands(rows[0].conns)+" connections")
	return p.Document(1090, 690, `font-family="sans-serif" font-size="13"`, "", `width="1090" height="690" fill="#fff"`)
}

func panel(p *svg.Picture, rows []*measured, number int, title string) {
	first, last := rows[0], rows[len(rows)-1]
	top := plotTop + number*plotNext
	frame := svg.Frame{
		Left: plotLeft, Top: top, Width: plotWidth, Height: plotHeight,
		Horizontal: svg.Scale{From: float64(first.conns), To: float64(last.conns), Logarithmic: true},
		Vertical:   svg.Scale{From: math.Exp2(plotLowest), To: math.Exp2(plotHighest), Logarithmic: true},
	}
	p.Add(`<text x="%d" y="%d" font-size="15" font-weight="bold">%s</text>`+"\n", plotLeft, top-18, title)
	for power := plotLowest; power <= plotHighest; power++ {
		ratio := math.Exp2(float64(power))
		frame.Level(p, ratio, fmt.Sprintf("%g×", ratio))
	}
	for _, m := range rows {
		p.Add(`<text x="%.1f" y="%d" text-anchor="middle">%s</text>`+"\n", frame.X(float64(m.conns)), top+plotHeight+20, thousands(m.conns))
	}
	var drawn []figure
	ratio := func(f figure, m *measured) float64 { return m.of[f] / first.of[f] }
	for f := range figures {
		if about := &figureNames[f]; about.colour != "" && about.panel == number {
			drawn = append(drawn, f)
		}
	}
	// The labels are in the order of the lines' ends, the highest first. Each is as near to
	// its line as the label above allows.
	slices.SortStableFunc(drawn, func(a, b figure) int {
		if ratio(a, last) > ratio(b, last) {
			return -1
		}
		return 1
	})
	free := float64(top)
	for i, f := range drawn {
		var points []svg.Point
		for _, m := range rows {
			points = append(points, svg.Point{X: float64(m.conns), Y: ratio(f, m)})
		}
		end := frame.Y(ratio(f, last))
		// This leaves room for the labels below.
		at := min(max(end, free), float64(top+plotHeight-plotLabelHeight*(len(drawn)-1-i)))
		free = at + plotLabelHeight
		about := figureNames[f]
		frame.Line(p, points, about.colour, 2.5)
		p.Add(`<path d="M%d %.1fL%d %.1f" stroke="%s" stroke-width="0.7"/>`+"\n", plotLeft+plotWidth, end, plotLabels-4, at, about.colour)
		p.Add(`<text x="%d" y="%.1f" fill="%s">%.1f× %s: %s → %s</text>`+"\n",
			plotLabels, at+4, about.colour, ratio(f, last), about.name, written(first.of[f]), written(last.of[f]))
	}
}
