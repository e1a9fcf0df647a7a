package main

import (
	"fmt"
	"html"
	"math"

	"ssegateway/bench/svg"
)

// Sizes of a plot, in pixels.
const (
	plotWidth  = 760
	labelWidth = 130
	barsWidth  = 470
	barHeight  = 18
	panelTop   = 30 // above the first bar, for the title
	panelGap   = 14
)

// longest is how many times as long as ours a bar may be. A longer bar is cut off, and has a slash through it.
const longest = 20

// style has the colours of ours, a peer, and a limit, for the reader's light or dark background.
//
//nolint:misspell // prefers-color-scheme is CSS
const style = `<style>
text { font: 13px sans-serif; fill: #1f2328 }
.title { font-weight: bold }
.back { fill: #ffffff }
.ours { fill: #0969da }
.peer { fill: #8c959f }
.limit { fill: #d0d7de }
.spread { stroke: #1f2328; stroke-width: 1.5; fill: none }
.axis { stroke: #8c959f }
.cut { stroke: #ffffff; stroke-width: 5 }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 }
.back { fill: #0d1117 }
.ours { fill: #4493f8 }
.peer { fill: #6e7681 }
.limit { fill: #3d444d }
.spread { stroke: #e6edf3 }
.axis { stroke: #6e7681 }
.cut { stroke: #0d1117 }
}
</style>
`

// bars returns the plot of a scenario, or "" if nothing was measured. Each plotted figure
// has a bar for each server that has the figure. A bar is as long as the median, with a line
// from the least to the most. Each figure has its own scale, from 0.
func bars(r *Results, s scenario) string {
	var p svg.Picture
	y := 8
	for _, f := range s.figures {
		if !f.plot {
			continue
		}
		var names []server
		var values []summary
		most, cut := 0.0, math.Inf(1)
		for _, server := range measured(r, s.name) {
			v := summarise(r.values(s.name, server.name, f))
			if v.n == 0 {
				continue
			}
			names, values = append(names, server), append(values, v)
			most = max(most, v.most)
			if server.name == ours {
				cut = longest * v.most
			}
		}
		if len(values) == 0 {
			continue
		}
		most = max(min(most, cut), math.SmallestNonzeroFloat64)
		better := "less is better"
		if f.higher {
			better = "more is better"
		}
		p.Add(`<text class="title" x="8" y="%d">%s, %s</text><text x="%d" y="%d" text-anchor="end">%s</text>`+"\n",
			y+14, html.EscapeString(f.label), f.unit, plotWidth-8, y+14, better)
		y += panelTop - 8
		x := func(v float64) float64 { return labelWidth + barsWidth*min(v/most, 1) }
		from := y
		for i, v := range values {
			class := "peer"
			switch {
			case names[i].name == ours:
				class = "ours"
			case names[i].limit:
				class = "limit"
			}
			middle := y + barHeight/2
			p.Add(`<text x="%d" y="%d" text-anchor="end">%s</text><rect class="%s" x="%d" y="%d" width="%.1f" height="%d"/>`,
				labelWidth-8, middle+4, html.EscapeString(names[i].name), class, labelWidth, y+2, x(v.median)-labelWidth, barHeight-4)
			switch {
			case v.most > most:
				p.Add(`<path class="cut" d="M%.1f %dl6 %d"/>`, x(most)-20, y+barHeight, -barHeight)
			case v.n > 1:
				p.Add(`<path class="spread" d="M%.1f %dv6m0 -3H%.1fm0 -3v6"/>`, x(v.least), middle-3, x(v.most))
			}
			p.Add(`<text x="%.1f" y="%d">%s</text>`+"\n", x(v.most)+8, middle+4, digits(v.median))
			y += barHeight
		}
		p.Add(`<path class="axis" d="M%d %dV%d"/>`+"\n", labelWidth, from, y)
		y += panelGap
	}
	if p.Empty() {
		return ""
	}
	return p.Document(plotWidth, y, `role="img" aria-label="`+html.EscapeString(s.title)+`"`, style,
		fmt.Sprintf(`class="back" width="%d" height="%d"`, plotWidth, y))
}
