package bench

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
)

// WriteSVG writes a plot of the latencies of each scenario that has any, and of the
// memory of each that looked at it.
func (r *Report) WriteSVG(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	write := func(name string, p plot) error {
		return os.WriteFile(filepath.Join(dir, name+".svg"), []byte(p.svg()), 0o644)
	}
	for i := range r.Results {
		result := &r.Results[i]
		title := fmt.Sprintf("%s, %d streams: ", result.Scenario, result.Streams)
		if len(result.distributions) > 0 {
			if err := write(result.Scenario+"-latency", latencyPlot(title+"latency", result.distributions)); err != nil {
				return err
			}
		}
		if len(result.Memory) > 1 {
			if err := write(result.Scenario+"-memory", memoryPlot(title+"resident memory of the server", result)); err != nil {
				return err
			}
		}
	}
	return nil
}

type point struct{ x, y float64 }

// plot has lines in a frame. The axes begin with the first of their ticks and end
// with the last.
type plot struct {
	title, xLabel, yLabel string
	x, y                  []tick
	logarithmic           bool // y
	lines                 []line
}

type tick struct {
	at   float64
	text string
}

type line struct {
	name   string
	points []point
}

// latencyPlot has a logarithmic scale of what is slower: 90 %, 99 %, 99.9 % …
func latencyPlot(title string, distributions []distribution) plot {
	p := plot{title: title, xLabel: "percentile", yLabel: "ms", logarithmic: true}
	least, most, width := math.Inf(1), 0.0, 1.0
	for _, d := range distributions {
		p.lines = append(p.lines, line(d))
		for _, at := range d.points {
			width = max(width, at.x)
			least, most = min(least, max(at.y, 0.001)), max(most, at.y)
		}
	}
	p.x = []tick{{0, "0"}, {math.Log10(2), "50"}}
	for nines := 1; nines <= int(math.Ceil(width)); nines++ {
		p.x = append(p.x, tick{float64(nines), fmt.Sprintf("%.*f", max(0, nines-2), 100*(1-math.Pow10(-nines)))})
	}
	for exponent := math.Floor(math.Log10(least)); ; exponent++ {
		at := math.Pow(10, exponent)
		p.y = append(p.y, tick{at, fmt.Sprintf("%g", at)})
		if at >= most {
			return p
		}
	}
}

// memoryPlot shows memory over the streams while they are opened, or over time.
func memoryPlot(title string, r *Result) plot {
	p := plot{title: title, xLabel: "streams", yLabel: "MB"}
	l := line{name: "RSS"}
	x := func(s Sample) float64 { return float64(s.Streams) }
	if r.Scenario == "mixed" {
		p.xLabel, x = "seconds", func(s Sample) float64 { return s.Seconds }
	}
	last, most := 0.0, 0.0
	for _, s := range r.Memory {
		l.points = append(l.points, point{x(s), float64(s.RSS) / 1e6})
		last, most = max(last, x(s)), max(most, float64(s.RSS)/1e6)
	}
	p.lines = []line{l}
	p.x, p.y = evenTicks(last), evenTicks(most)
	return p
}

// evenTicks are four to ten round numbers from 0 to at least most.
func evenTicks(most float64) (ticks []tick) {
	step := math.Pow(10, math.Floor(math.Log10(max(most, 1e-9))))
	for _, finer := range []float64{1, 2, 2.5} { // 10, 5, 2
		if most/step >= 4 {
			break
		}
		step /= finer
	}
	for at := 0.0; ; at += step {
		ticks = append(ticks, tick{at, fmt.Sprintf("%.10g", at)})
		if at >= most {
			return ticks
		}
	}
}

var colours = []string{"#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#8c564b"}

func (p plot) svg() string {
	const width, height, left, top = 640, 320, 70, 40
	scale := func(ticks []tick, at float64, logarithmic bool) float64 {
		from, to := ticks[0].at, ticks[len(ticks)-1].at
		if logarithmic {
			from, to, at = math.Log(from), math.Log(to), math.Log(max(at, from))
		}
		return (at - from) / max(to-from, 1e-9)
	}
	x := func(at float64) float64 { return left + width*scale(p.x, at, false) }
	y := func(at float64) float64 { return top + height*(1-scale(p.y, at, p.logarithmic)) }
	var b strings.Builder
	out := func(format string, values ...any) { fmt.Fprintf(&b, format+"\n", values...) }
	out(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 920 420" font-family="sans-serif" font-size="12">`)
	out(`<rect width="920" height="420" fill="#fff"/>`)
	out(`<text x="%d" y="24" font-size="15">%s</text>`, left, p.title)
	for _, t := range p.y {
		out(`<path d="M%d %.1fh%d" stroke="#ddd"/><text x="%d" y="%.1f" text-anchor="end">%s</text>`, left, y(t.at), width, left-8, y(t.at)+4, t.text)
	}
	for _, t := range p.x {
		out(`<path d="M%.1f %dv%d" stroke="#ddd"/><text x="%.1f" y="%d" text-anchor="middle">%s</text>`, x(t.at), top, height, x(t.at), top+height+18, t.text)
	}
	out(`<text x="%d" y="%d" text-anchor="middle">%s</text>`, left+width/2, top+height+38, p.xLabel)
	out(`<text x="20" y="%d" text-anchor="middle" transform="rotate(-90 20 %[1]d)">%s</text>`, top+height/2, p.yLabel)
	for i, l := range p.lines {
		var points []string
		for _, at := range l.points {
			points = append(points, fmt.Sprintf("%.1f,%.1f", x(at.x), y(at.y)))
		}
		colour := colours[i%len(colours)]
		out(`<polyline points="%s" fill="none" stroke="%s" stroke-width="2"/>`, strings.Join(points, " "), colour)
		out(`<text x="%d" y="%d" fill="%s">%s</text>`, left+width+16, top+12+20*i, colour, l.name)
	}
	return b.String() + "</svg>\n"
}
