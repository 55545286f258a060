package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
)

// The plot, in the SVG's own units: the drawing within its margins, of which the right one holds the labels of lines.
const (
	plotWidth, plotHeight          = 760, 440
	plotLeft, plotRight            = 98, 550
	plotTop, plotBottom            = 56, 380
	labelGap, lineHeight, tickSize = 10, 18, 5
	margin                         = 24
)

// plotted are the lines of the plot, each drawn over those before it: whose they are, their labels, and their classes in
// plotStyle.
var plotted = []struct{ program, label, class string }{
	{nameTheirs, "firewalld", "theirs"},
	{nameUnfolded, "richwall, RuleFolding=no", "plain"},
	{nameOurs, "richwall", "ours"},
}

// plotStyle has the colours for light and for dark; the colour-blind tell them apart, too.
const plotStyle = `  <style>
    text { font: 13px system-ui, sans-serif; fill: #24292f }
    .paper { fill: #ffffff }
    .title { font-weight: 600; font-size: 15px }
    .grid { stroke: #d0d7de }
    .axis { stroke: #57606a }
    .line { fill: none; stroke: currentColor; stroke-width: 2.5; stroke-linejoin: round }
    .plain.line { stroke-dasharray: 6 4 }
    .dot, .label { fill: currentColor; font-weight: 600 }
    .ours, .plain { color: #0072b2 }
    .theirs { color: #c84e00 }
    @media (prefers-color-scheme: dark) {
      text { fill: #e6edf3 }
      .paper { fill: #0d1117 }
      .grid { stroke: #30363d }
      .axis { stroke: #8d96a0 }
      .ours, .plain { color: #56b4e9 }
      .theirs { color: #ffa657 }
    }
  </style>
`

// curve is a line of the plot.
type curve struct {
	label, class string
	points       []point // at least one, from left to right
}

// point is a number of rules and nanoseconds; or, on the drawing, units from its left and top.
type point struct{ x, y float64 }

// writePlot writes an SVG of the cost of a packet over the number of rules, both in powers of ten. Without a figure to show
// it is an error.
func (r *report) writePlot(w io.Writer) error {
	curves := r.curves()
	if len(curves) == 0 {
		return fmt.Errorf("cannot plot the cost of a packet: nothing has measured it")
	}
	var xs, ys []float64
	for _, c := range curves {
		for _, p := range c.points {
			xs, ys = append(xs, p.x), append(ys, p.y)
		}
	}
	x, y := axisOver(xs, plotLeft, plotRight), axisOver(ys, plotBottom, plotTop)
	var svg strings.Builder
	fmt.Fprintf(&svg, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" role="img" aria-label="Cost of a packet over the number of rules">`+"\n",
		plotWidth, plotHeight)
	svg.WriteString(plotStyle)
	fmt.Fprintf(&svg, `  <rect class="paper" width="%d" height="%d"/>`+"\n", plotWidth, plotHeight)
	fmt.Fprintf(&svg, `  <text class="title" x="%d" y="28">First packet of a connection that no rule matches, in ns</text>`+"\n", margin)
	for _, v := range y.ticks() {
		at := y.at(v)
		fmt.Fprintf(&svg, `  <path class="grid" d="M%d %.1fH%d"/>`+"\n", plotLeft, at, plotRight)
		fmt.Fprintf(&svg, `  <text x="%d" y="%.1f" text-anchor="end">%s</text>`+"\n", plotLeft-labelGap, at+4, showCount(v))
	}
	for _, v := range x.ticks() {
		at := x.at(v)
		fmt.Fprintf(&svg, `  <path class="axis" d="M%.1f %dv%d"/>`+"\n", at, plotBottom, tickSize)
		fmt.Fprintf(&svg, `  <text x="%.1f" y="%d" text-anchor="middle">%s</text>`+"\n", at, plotBottom+tickSize+lineHeight, showCount(v))
	}
	fmt.Fprintf(&svg, `  <path class="axis" d="M%d %dH%d"/>`+"\n", plotLeft, plotBottom, plotRight)
	fmt.Fprintf(&svg, `  <text x="%d" y="%d" text-anchor="middle">rich rules</text>`+"\n", (plotLeft+plotRight)/2, plotHeight-12)
	for _, c := range curves {
		writeCurve(&svg, c, x, y)
	}
	writeLabels(&svg, curves, x, y)
	svg.WriteString("</svg>\n")
	_, err := io.WriteString(w, svg.String())
	return err
}

// curves are the lines that there are figures for.
func (r *report) curves() []curve {
	var list []curve
	for _, line := range plotted {
		c := curve{label: line.label, class: line.class}
		for _, n := range r.sizes() {
			if ns, ok := r.figure(n, line.program, figurePacket); ok && n > 0 && ns > 0 {
				c.points = append(c.points, point{float64(n), ns})
			}
		}
		if len(c.points) > 0 {
			list = append(list, c)
		}
	}
	return list
}

func writeCurve(svg *strings.Builder, c curve, x, y axis) {
	path := "M"
	for i, p := range c.points {
		if i > 0 {
			path += "L"
		}
		path += fmt.Sprintf("%.1f %.1f", x.at(p.x), y.at(p.y))
	}
	fmt.Fprintf(svg, `  <path class="line %s" d="%s"/>`+"\n", c.class, path)
	for _, p := range c.points {
		fmt.Fprintf(svg, `  <circle class="dot %s" cx="%.1f" cy="%.1f" r="4"/>`+"\n", c.class, x.at(p.x), y.at(p.y))
	}
}

// writeLabels writes each line's label where the line ends: beside the drawing, or below the end of a line that is shorter
// than the others. No two are on each other.
func writeLabels(svg *strings.Builder, curves []curve, x, y axis) {
	type label struct {
		curve
		point
	}
	var labels []label
	for _, c := range curves {
		last := c.points[len(c.points)-1]
		at := point{x.at(last.x) + labelGap, y.at(last.y) + 4}
		if last.x < x.high {
			at.y += lineHeight
		}
		labels = append(labels, label{c, at})
	}
	slices.SortFunc(labels, func(a, b label) int { return int(math.Copysign(1, a.y-b.y)) })
	for i := range labels {
		for _, above := range labels[:i] {
			if labels[i].y < above.y+lineHeight && labels[i].x == above.x {
				labels[i].y = above.y + lineHeight
			}
		}
		l := labels[i]
		fmt.Fprintf(svg, `  <text class="label %s" x="%.1f" y="%.1f">%s</text>`+"\n", l.class, l.x, l.y, l.label)
	}
}

// axis maps positive values to places on the drawing by their logarithms.
type axis struct {
	low, high float64 // values
	from, to  float64 // their places
}

// axisOver is an axis between the powers of ten around values, of which there is at least one.
func axisOver(values []float64, from, to float64) axis {
	low := math.Pow(10, math.Floor(math.Log10(slices.Min(values))))
	high := math.Pow(10, math.Ceil(math.Log10(slices.Max(values))))
	return axis{low, max(high, low*10), from, to}
}

func (a axis) at(v float64) float64 {
	return a.from + (a.to-a.from)*math.Log(v/a.low)/math.Log(a.high/a.low)
}

// ticks are the powers of ten on the axis.
func (a axis) ticks() []float64 {
	var list []float64
	for v := a.low; v <= a.high*1.001; v *= 10 {
		list = append(list, v)
	}
	return list
}
