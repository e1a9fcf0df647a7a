package bench

import (
	"fmt"
	"math"
	"os"
	"path/filepath"

	"ssegateway/bench/svg"
)

// WriteSVG writes a plot of the latencies of each scenario that has some, and of the
// memory of each scenario that sampled it.
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

// plot is a frame with lines. The axes begin with their first tick and end with the last.
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
	points []svg.Point
}

// latencyPlot spaces the percentiles 90 %, 99 %, 99.9 % … evenly.
func latencyPlot(title string, distributions []distribution) plot {
	p := plot{title: title, xLabel: "percentile", yLabel: "ms", logarithmic: true}
	least, most, width := math.Inf(1), 0.0, 1.0
	for _, d := range distributions {
		p.lines = append(p.lines, line(d))
		for _, at := range d.points {
			width = max(width, at.X)
			least, most = min(least, max(at.Y, 0.001)), max(most, at.Y)
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

// memoryPlot shows memory over the number of streams while they are opened, or over time.
func memoryPlot(title string, r *Result) plot {
	p := plot{title: title, xLabel: "streams", yLabel: "MB"}
	l := line{name: "RSS"}
	x := func(s Sample) float64 { return float64(s.Streams) }
	if r.Scenario == "mixed" {
		p.xLabel, x = "seconds", func(s Sample) float64 { return s.Seconds }
	}
	last, most := 0.0, 0.0
	for _, s := range r.Memory {
		l.points = append(l.points, svg.Point{X: x(s), Y: float64(s.RSS) / 1e6})
		last, most = max(last, x(s)), max(most, float64(s.RSS)/1e6)
	}
	p.lines = []line{l}
	p.x, p.y = evenTicks(last), evenTicks(most)
	return p
}

// evenTicks returns four to ten round numbers from 0 to at least most.
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
	scale := func(ticks []tick, logarithmic bool) svg.Scale {
		return svg.Scale{From: ticks[0].at, To: ticks[len(ticks)-1].at, Logarithmic: logarithmic}
	}
	frame := svg.Frame{
		Left: left, Top: top, Width: width, Height: height,
		Horizontal: scale(p.x, false), Vertical: scale(p.y, p.logarithmic),
	}
	var picture svg.Picture
	out := func(format string, values ...any) { picture.Add(format+"\n", values...) }
	out(`<text x="%d" y="24" font-size="15">%s</text>`, left, p.title)
	for _, t := range p.y {
		frame.Level(&picture, t.at, t.text)
	}
	for _, t := range p.x {
		x := frame.X(t.at)
		out(`<path d="M%.1f %dv%d" stroke="#ddd"/><text x="%.1f" y="%d" text-anchor="middle">%s</text>`, x, top, height, x, top+height+18, t.text)
	}
	out(`<text x="%d" y="%d" text-anchor="middle">%s</text>`, left+width/2, top+height+38, p.xLabel)
	out(`<text x="20" y="%d" text-anchor="middle" transform="rotate(-90 20 %[1]d)">%s</text>`, top+height/2, p.yLabel)
	for i, l := range p.lines {
		colour := colours[i%len(colours)]
		frame.Line(&picture, l.points, colour, 2)
		out(`<text x="%d" y="%d" fill="%s">%s</text>`, left+width+16, top+12+20*i, colour, l.name)
	}
	return picture.Document(920, 420, `font-family="sans-serif" font-size="12"`, "", `width="920" height="420" fill="#fff"`)
}
