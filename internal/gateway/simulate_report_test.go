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
)

// figureNames are the lines of the table. A figure with a colour is a line in one of
// the panels of the plot too.
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

// thousands writes a number with a comma every three digits.
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

// platform is what the figures were measured on.
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
	page, err := os.ReadFile(filepath.Join(dir, "scale.md"))
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(page), begin)
	_, after, closed := strings.Cut(rest, end)
	if !ok || !closed {
		t.Fatalf("%s/scale.md has not both marks", dir)
	}
	text := fmt.Sprintf("%s%s\nMedians of %d rounds; %s.\n\n%s\n%s%s", before, begin, rounds, platform(), table(rows), end, after)
	for name, content := range map[string]string{"scale.md": text, "scale.svg": plot(rows)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

const (
	plotWidth, plotLeft         = 520, 50  // of a panel
	plotTop, plotHeight         = 50, 250  // of the first panel
	plotNext                    = 340      // from one panel to the next
	plotLowest, plotHighest     = -1.0, 4. // of the ratio, as powers of two
	plotLabels, plotLabelHeight = plotLeft + plotWidth + 40, 19
)

// plot shows how each figure grows: both axes are logarithmic, and 1 is what it is
// with the fewest connections.
func plot(rows []*measured) string {
	var b strings.Builder
	fmt.Fprint(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1090 690" font-family="sans-serif" font-size="13">`+"\n"+
		`<rect width="1090" height="690" fill="#fff"/>`+"\n")
	panel(&b, rows, 0, "What each connection costs, compared with "+thousands(rows[0].conns)+" connections")
	panel(&b, rows, 1, "What a send to one connection costs, compared with "+thousands(rows[0].conns)+" connections")
	return b.String() + "</svg>\n"
}

func panel(b *strings.Builder, rows []*measured, number int, title string) {
	first, last := rows[0], rows[len(rows)-1]
	top := float64(plotTop + number*plotNext)
	x := func(m *measured) float64 {
		return plotLeft + plotWidth*math.Log(float64(m.conns)/float64(first.conns))/max(math.Log(float64(last.conns)/float64(first.conns)), 1)
	}
	y := func(ratio float64) float64 {
		at := min(max(math.Log2(ratio), plotLowest), plotHighest)
		return top + plotHeight*(plotHighest-at)/(plotHighest-plotLowest)
	}
	fmt.Fprintf(b, `<text x="%d" y="%.0f" font-size="15" font-weight="bold">%s</text>`+"\n", plotLeft, top-18, title)
	for power := plotLowest; power <= plotHighest; power++ {
		at := y(math.Exp2(power))
		fmt.Fprintf(b, `<path d="M%d %.1fh%d" stroke="#ddd"/><text x="%d" y="%.1f" text-anchor="end">%g×</text>`+"\n",
			plotLeft, at, plotWidth, plotLeft-8, at+4, math.Exp2(power))
	}
	for _, m := range rows {
		fmt.Fprintf(b, `<text x="%.1f" y="%.1f" text-anchor="middle">%s</text>`+"\n", x(m), top+plotHeight+20, thousands(m.conns))
	}
	var drawn []figure
	ratio := func(f figure, m *measured) float64 { return m.of[f] / first.of[f] }
	for f := range figures {
		if about := &figureNames[f]; about.colour != "" && about.panel == number {
			drawn = append(drawn, f)
		}
	}
	// The labels stand in the order of the lines' ends, the highest first, each as near
	// to its line as the one above lets it.
	slices.SortStableFunc(drawn, func(a, b figure) int {
		if ratio(a, last) > ratio(b, last) {
			return -1
		}
		return 1
	})
	free := top
	for i, f := range drawn {
		var points []string
		for _, m := range rows {
			points = append(points, fmt.Sprintf("%.1f,%.1f", x(m), y(ratio(f, m))))
		}
		end := y(ratio(f, last))
		// Room has to be left for those below.
		at := min(max(end, free), top+plotHeight-float64(plotLabelHeight*(len(drawn)-1-i)))
		free = at + plotLabelHeight
		about := figureNames[f]
		fmt.Fprintf(b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="2.5"/>`+"\n", strings.Join(points, " "), about.colour)
		fmt.Fprintf(b, `<path d="M%d %.1fL%d %.1f" stroke="%s" stroke-width="0.7"/>`+"\n", plotLeft+plotWidth, end, plotLabels-4, at, about.colour)
		fmt.Fprintf(b, `<text x="%d" y="%.1f" fill="%s">%.1f× %s: %s → %s</text>`+"\n",
			plotLabels, at+4, about.colour, ratio(f, last), about.name, written(first.of[f]), written(last.of[f]))
	}
}
