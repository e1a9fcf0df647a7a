// Package svg draws the plots of the benchmarks and of the simulation.
package svg

import (
	"fmt"
	"math"
	"strings"
)

// Picture collects the elements of a picture. Its unit is the pixel; y grows downwards.
type Picture struct{ elements strings.Builder }

// Add adds elements, formatted as by fmt.Sprintf.
func (p *Picture) Add(format string, values ...any) { fmt.Fprintf(&p.elements, format, values...) }

// Empty reports whether nothing was drawn yet.
func (p *Picture) Empty() bool { return p.elements.Len() == 0 }

// Document returns the whole picture. attributes are added to the svg element, style comes
// before all other elements, and ground is the attributes of the background.
func (p *Picture) Document(width, height int, attributes, style, ground string) string {
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" %s>`+"\n%s"+`<rect %s/>`+"\n%s</svg>\n",
		width, height, attributes, style, ground, p.elements.String())
}

// Scale is the range of an axis. Values outside it are drawn at its end.
type Scale struct {
	From, To    float64
	Logarithmic bool
}

// share returns the position of a value between the ends of the scale, from 0 to 1.
func (s Scale) share(value float64) float64 {
	from, to, value := s.From, s.To, min(max(value, s.From), s.To)
	if s.Logarithmic {
		from, to, value = math.Log(from), math.Log(to), math.Log(value)
	}
	return (value - from) / max(to-from, 1e-9)
}

// Frame is the area of a plot in which its lines are drawn.
type Frame struct {
	Left, Top, Width, Height int
	Horizontal, Vertical     Scale
}

// X returns the x coordinate of a value of the horizontal scale.
func (f *Frame) X(value float64) float64 {
	return float64(f.Left) + float64(f.Width)*f.Horizontal.share(value)
}

// Y returns the y coordinate of a value of the vertical scale.
func (f *Frame) Y(value float64) float64 {
	return float64(f.Top) + float64(f.Height)*(1-f.Vertical.share(value))
}

// Level draws a line across the frame, with its value beside it.
func (f *Frame) Level(p *Picture, value float64, text string) {
	y := f.Y(value)
	p.Add(`<path d="M%d %.1fh%d" stroke="#ddd"/><text x="%d" y="%.1f" text-anchor="end">%s</text>`+"\n",
		f.Left, y, f.Width, f.Left-8, y+4, text)
}

// Point is a point of a line, in values of the scales.
type Point struct{ X, Y float64 }

// Line draws a line through the points.
func (f *Frame) Line(p *Picture, points []Point, colour string, width float64) {
	var drawn []string
	for _, at := range points {
		drawn = append(drawn, fmt.Sprintf("%.1f,%.1f", f.X(at.X), f.Y(at.Y)))
	}
	p.Add(`<polyline points="%s" fill="none" stroke="%s" stroke-width="%g"/>`+"\n", strings.Join(drawn, " "), colour, width)
}
