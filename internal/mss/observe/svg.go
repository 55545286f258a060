package observe

import (
	"fmt"
	"io"
	"strings"
)

// Size of the picture and of the plot's margins, in its own units.
const (
	svgWidth, svgHeight                  = 800, 480
	svgLeft, svgRight, svgTop, svgBottom = 80, 20, 60, 60
	svgPlotWidth                         = svgWidth - svgLeft - svgRight
	svgPlotHeight                        = svgHeight - svgTop - svgBottom
)

// svgColours are those of the curves: told apart in grey and by those who do not see red from green.
var svgColours = map[string]string{"IPv4": "#0072b2", "IPv6": "#d55e00"}

// SVG draws the shares of the endpoints that offer an MSS or less, with logarithmic scales.
func (r *Report) SVG(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="13">`+"\n", svgWidth, svgHeight)
	fmt.Fprintf(&b, "<title>MSS offered by %s</title>\n", plural(int64(r.All.Offered), "endpoint"))
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="white"/>`+"\n", svgWidth, svgHeight)
	fmt.Fprintf(&b, `<text x="%d" y="24" font-size="16">Endpoints that offer an MSS or less</text>`+"\n", svgLeft)
	if r.All.Offered > 0 {
		a := r.axes()
		a.svgGrid(&b)
		for i, c := range a.curves {
			fmt.Fprintf(&b, `<path fill="none" stroke="%s" stroke-width="2" d="%s"/>`+"\n", svgColours[c.name], a.svgPath(c))
			fmt.Fprintf(&b, `<text x="%d" y="46" fill="%s">%s: %s</text>`+"\n", svgLeft+220*i, svgColours[c.name], c.name,
				plural(int64(map[string]*Distribution{"IPv4": r.IPv4, "IPv6": r.IPv6}[c.name].Offered), "endpoint"))
		}
	}
	b.WriteString("</svg>\n")
	_, err := io.WriteString(w, b.String())
	return err
}

func (a axes) svgX(mss float64) float64   { return svgLeft + svgPlotWidth*a.x(mss) }
func (a axes) svgY(share float64) float64 { return svgTop + svgPlotHeight*(1-a.y(share)) }

// svgGrid draws the lines and names of decades and of well-known sizes.
func (a axes) svgGrid(b *strings.Builder) {
	share := 1.0
	for d := range a.decades + 1 {
		y := a.svgY(share)
		fmt.Fprintf(b, `<path stroke="#ccc" d="M%d %.1fH%d"/><text x="%d" y="%.1f" text-anchor="end">%s</text>`+"\n",
			svgLeft, y, svgWidth-svgRight, svgLeft-8, y+4, shareLabel(d))
		share /= 10
	}
	free := 0.0
	for _, t := range ticks {
		if float64(t) < a.low || float64(t) > a.high {
			continue
		}
		x := a.svgX(float64(t))
		fmt.Fprintf(b, `<path stroke="#ccc" d="M%.1f %dV%d"/>`, x, svgTop, svgHeight-svgBottom)
		if x >= free {
			fmt.Fprintf(b, `<text x="%.1f" y="%d" text-anchor="middle">%d</text>`, x, svgHeight-svgBottom+20, t)
			free = x + 40
		}
		b.WriteByte('\n')
	}
	fmt.Fprintf(b, `<text x="%d" y="%d" text-anchor="middle">MSS in bytes</text>`+"\n", svgLeft+svgPlotWidth/2, svgHeight-15)
}

// svgPath is a curve as steps: it goes level up to an MSS, and up there.
func (a axes) svgPath(c curve) string {
	var b strings.Builder
	for i, v := range c.values {
		x, y := a.svgX(float64(max(v.MSS, 1))), a.svgY(c.sums[i])
		if i == 0 {
			fmt.Fprintf(&b, "M%.1f %dV%.1f", x, svgHeight-svgBottom, y)
		} else {
			fmt.Fprintf(&b, "H%.1fV%.1f", x, y)
		}
	}
	fmt.Fprintf(&b, "H%d", svgWidth-svgRight)
	return b.String()
}
