package observe

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
)

// A picture has two panels. The left one shows all sizes, on a logarithmic scale; the right one shows those that most
// endpoints offer, byte by byte. Both have the same height for the same number, logarithmic too.

// Size of a picture and of its parts, in its own units.
const (
	svgWidth, svgHeight = 960, 540
	svgLeft, svgRight   = 92, 24 // margins
	svgTop, svgBottom   = 84, 62 //
	svgWhole            = 330    // width of the left panel
	svgGap              = 26     // between the panels
	svgLabels           = 88     // height for the names of sizes, above what stands for them
	svgRowGap           = 34     // between two rows
	svgTooltips         = 2000   // sizes that get a tooltip; more would make the file slow to show
	svgCloseLow         = 1205   // what the right panel shows, in bytes
	svgCloseHigh        = 1475   //
	svgInk              = "#222" //
	svgGrey             = "#6b6b6b"
	svgLine             = "#dedede"
	svgBand             = "#f3f0e6"
)

// svgColours are those of the families: told apart in grey and by those who do not see red from green.
var svgColours = map[string]string{"": "#3b3b3b", "IPv4": "#0072b2", "IPv6": "#d55e00"}

// Figures are the names of the pictures: how many endpoints offer each size; which share of them offers as much or less;
// and the first for each family.
var Figures = []string{"frequency", "cumulative", "families"}

// Figure draws a picture as SVG.
func (r *Report) Figure(name string, w io.Writer) error {
	s := &svg{}
	title, draw := r.figure(name)
	fmt.Fprintf(s, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="'DejaVu Sans', Verdana, sans-serif" font-size="14" fill="%s">`+"\n",
		svgWidth, svgHeight, svgInk)
	fmt.Fprintf(s, "<title>%s</title>\n", title)
	fmt.Fprintf(s, `<rect width="%d" height="%d" fill="white"/>`+"\n", svgWidth, svgHeight)
	fmt.Fprintf(s, `<text x="%d" y="36" font-size="23" font-weight="bold">%s</text>`+"\n", svgLeft, title)
	fmt.Fprintf(s, `<text x="%d" y="60" font-size="15" fill="%s">%s</text>`+"\n", svgLeft, svgGrey, r.subtitle())
	if r.All.Offered > 0 {
		draw(s)
		fmt.Fprintf(s, `<text x="%d" y="%d" text-anchor="middle">MSS in bytes, all (logarithmic)</text>`+"\n", svgLeft+svgWhole/2, svgHeight-16)
		fmt.Fprintf(s, `<text x="%d" y="%d" text-anchor="middle">MSS in bytes, the shaded part</text>`+"\n", (svgCloseLeft+svgWidth-svgRight)/2, svgHeight-16)
	}
	s.WriteString("</svg>\n")
	_, err := io.WriteString(w, s.String())
	return err
}

func (r *Report) figure(name string) (title string, draw func(*svg)) {
	switch name {
	case "frequency":
		return "How many endpoints offer which MSS", func(s *svg) { r.frequency(s) }
	case "cumulative":
		return "How many endpoints offer an MSS, or less", func(s *svg) { r.cumulative(s) }
	case "families":
		return "The MSS that endpoints offer over IPv4 and over IPv6", func(s *svg) { r.families(s) }
	}
	panic("internal error: there is no figure " + name)
}

// subtitle says what was counted.
func (r *Report) subtitle() string {
	text := fmt.Sprintf("%s with an MSS, each counted once: %s over IPv4, %s over IPv6",
		plural(int64(r.All.Offered), "endpoint"), number(int64(r.IPv4.Offered)), number(int64(r.IPv6.Offered)))
	if r.Sample > 1 {
		text += fmt.Sprintf("; a sample, one in %d", r.Sample)
	}
	return text
}

// frequency is the number of endpoints for each size.
func (r *Report) frequency(s *svg) {
	const labels = 108
	row := r.row(svgTop, svgHeight-svgBottom, countScale(r.All), labels)
	row.ground(s, "endpoints", countLabel)
	row.stems(s, column{"", r.All}, 0)
	row.names(s, 1, column{"", r.All})
	row.sizes(s)
}

// families is the same for each family, side by side.
func (r *Report) families(s *svg) {
	const labels = 134
	row := r.row(svgTop, svgHeight-svgBottom, countScale(r.All), labels)
	row.ground(s, "endpoints", countLabel)
	four, six := column{"IPv4", r.IPv4}, column{"IPv6", r.IPv6}
	row.stems(s, four, -1)
	row.stems(s, six, 1)
	row.names(s, 0, four, six)
	row.sizes(s)
	legend(s, "IPv4", "IPv6")
}

// legend names the families' colours, in the left panel.
func legend(s *svg, names ...string) {
	for i, name := range names {
		y := svgTop + 30 + 24*i
		fmt.Fprintf(s, `<path stroke="%s" stroke-width="4" d="M%d %dh26"/><text x="%d" y="%d" font-weight="bold" fill="%s">%s</text>`+"\n",
			svgColours[name], svgLeft+14, y-5, svgLeft+48, y, svgColours[name], name)
	}
}

// cumulative is the share of each family that offers a size or less.
func (r *Report) cumulative(s *svg) {
	a := r.axes()
	row := r.row(svgTop, svgHeight-svgBottom, scale{0.6 * math.Pow10(-a.decades), 1, true}, 14)
	row.ground(s, "of the endpoints", func(decade int) string { return shareLabel(-decade) })
	for _, c := range a.curves {
		row.steps(s, c)
	}
	row.sizes(s)
	var names []string
	for _, c := range a.curves {
		names = append(names, c.name)
	}
	legend(s, names...)
}

// scale puts numbers between 0, for the lowest, and 1.
type scale struct {
	low, high float64
	log       bool
}

func (c scale) at(v float64) float64 {
	v = min(max(v, c.low), c.high)
	if c.log {
		return (math.Log(v) - math.Log(c.low)) / (math.Log(c.high) - math.Log(c.low))
	}
	return (v - c.low) / (c.high - c.low)
}

// countScale reaches from less than one endpoint, so that one can be seen, to the most common size of all families.
func countScale(d *Distribution) scale {
	return scale{0.6, max(10, float64(d.Top(1, 0, 65535)[0].Count)), true}
}

func countLabel(decade int) string { return number(int64(math.Round(math.Pow10(decade)))) }

// panelRow is a row of two panels.
type panelRow struct {
	top, bottom  float64 // of the panels
	labels       float64 // free height above the highest number
	whole, close scale   // of the sizes
	y            scale
}

func (r *Report) row(top, bottom int, y scale, labels float64) panelRow {
	low, high := float64(max(r.All.Smallest, 1)), float64(max(r.All.Largest, 1))
	// The ends are a step away from the numbers that stand there, and never within the right panel.
	whole := scale{min(low/1.15, 400), min(max(high*1.15, 2000), 75000), true}
	return panelRow{float64(top), float64(bottom), labels, whole, scale{svgCloseLow, svgCloseHigh, false}, y}
}

func (p panelRow) wholeX(mss float64) float64 { return svgLeft + svgWhole*p.whole.at(mss) }

const (
	svgCloseLeft  = svgLeft + svgWhole + svgGap
	svgCloseWidth = svgWidth - svgRight - svgCloseLeft
)

func (p panelRow) closeX(mss float64) float64 { return svgCloseLeft + svgCloseWidth*p.close.at(mss) }

func (p panelRow) height(v float64) float64 {
	return p.bottom - (p.bottom-p.top-p.labels)*p.y.at(v)
}

// ground draws the panels: the lines of the decades with their names, and where on the left the right panel is.
func (p panelRow) ground(s *svg, what string, label func(decade int) string) {
	a, b := p.wholeX(svgCloseLow), p.wholeX(svgCloseHigh)
	fmt.Fprintf(s, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s"/>`+"\n", a, p.top, b-a, p.bottom-p.top, svgBand)
	fmt.Fprintf(s, `<rect x="%d" y="%.1f" width="%d" height="%.1f" fill="%s"/>`+"\n", svgCloseLeft, p.top, svgCloseWidth, p.bottom-p.top, svgBand)
	free := math.Inf(1)
	for decade := int(math.Ceil(math.Log10(p.y.low) - 1e-9)); math.Pow10(decade) <= p.y.high*(1+1e-9); decade++ {
		y := p.height(math.Pow10(decade))
		fmt.Fprintf(s, `<path stroke="%s" d="M%d %.1fh%dM%d %.1fh%d"/>`, svgLine, svgLeft, y, svgWhole, svgCloseLeft, y, svgCloseWidth)
		if y < free-14 {
			fmt.Fprintf(s, `<text x="%d" y="%.1f" text-anchor="end">%s</text>`, svgLeft-8, y+5, label(decade))
			free = y
		}
		s.WriteByte('\n')
	}
	middle := (p.top + p.labels + p.bottom) / 2
	fmt.Fprintf(s, `<text transform="translate(20 %.1f) rotate(-90)" text-anchor="middle">%s</text>`+"\n", middle, what)
}

// sizes draws the lower edges, with sizes below them.
func (p panelRow) sizes(s *svg) {
	narrow := p.whole.high < 30*p.whole.low
	for decade := 1.0; decade <= p.whole.high; decade *= 10 {
		for n := 1.0; n < 10; n++ {
			if mss := n * decade; mss >= p.whole.low && mss <= p.whole.high {
				p.tick(s, p.wholeX(mss), mss, n == 1 || narrow && (n == 2 || n == 5))
			}
		}
	}
	for mss := math.Ceil(svgCloseLow/10.0) * 10; mss <= svgCloseHigh; mss += 10 {
		p.tick(s, p.closeX(mss), mss, math.Mod(mss, 50) == 0)
	}
	fmt.Fprintf(s, `<path stroke="%s" fill="none" d="M%d %.1fh%dM%d %.1fh%d"/>`+"\n", svgInk, svgLeft, p.bottom, svgWhole, svgCloseLeft, p.bottom, svgCloseWidth)
}

func (p panelRow) tick(s *svg, x, mss float64, named bool) {
	length := 4
	if named {
		length = 7
		fmt.Fprintf(s, `<text x="%.1f" y="%.1f" text-anchor="middle">%s</text>`, x, p.bottom+22, number(int64(mss)))
	}
	fmt.Fprintf(s, `<path stroke="%s" d="M%.1f %.1fv%d"/>`+"\n", svgInk, x, p.bottom, length)
}

// svgMany is how many sizes can be drawn as lines. Of more, those that are not among the most common are dots on the left and
// thin lines on the right, so that none hides others.
const svgMany = 60

// stems draws a line for each size, as high as its number of endpoints, to one side of its place (−1 or 1) or at it.
func (p panelRow) stems(s *svg, c column, side float64) {
	common := map[int]bool{}
	for _, v := range c.d.Top(svgMany/3, 0, 65535) {
		common[v.MSS] = true
	}
	fmt.Fprintf(s, `<g stroke="%s" fill="%s">`+"\n", svgColours[c.name], svgColours[c.name])
	for _, v := range c.d.Values {
		y := p.height(float64(v.Count))
		title := ""
		if len(c.d.Values) <= svgTooltips {
			title = fmt.Sprintf("<title>%sMSS %d: %s, %s</title>", strings.TrimPrefix(c.name+", ", ", "), v.MSS, plural(int64(v.Count), "endpoint"), percent(v.Share))
		}
		x, from := p.wholeX(float64(max(v.MSS, 1)))+0.8*side, p.bottom
		thick, away, dot := 3.0, 1.8, 2.0
		if len(c.d.Values) > svgMany && !common[v.MSS] {
			from, thick, away, dot = y, 0.8, 0.45, 1.2
		}
		fmt.Fprintf(s, `<g>%s<path stroke-width="1.5" d="M%.1f %.1fV%.1f"/><circle cx="%.1f" cy="%.1f" r="%.1f"/></g>`, title, x, from, y, x, y, dot)
		if v.MSS >= svgCloseLow && v.MSS <= svgCloseHigh {
			fmt.Fprintf(s, `<g>%s<path stroke-width="%.1f" d="M%.1f %.1fV%.1f"/></g>`, title, thick, p.closeX(float64(v.MSS))+away*side, p.bottom, y)
		}
		s.WriteByte('\n')
	}
	s.WriteString("</g>\n")
}

// names writes the most common sizes above the right panel's lines, with their shares in each column.
func (p panelRow) names(s *svg, digits int, columns ...column) {
	const apart, most = 15.5, 12
	list := common(most, columns)
	free := float64(svgWidth-svgRight) - 2
	places := make([]float64, len(list))
	for i, mss := range list { // from the right, where the most are: each as near to its line as there is room
		places[i] = min(p.closeX(float64(mss))+4.5, free)
		free = places[i] - apart
	}
	base := p.top + p.labels - 16
	for i, mss := range list {
		high := 0
		var shares strings.Builder
		for _, c := range columns {
			n := c.d.count(mss)
			high = max(high, n)
			text := "–"
			if n > 0 {
				text = roughly(c.d.share(n), digits)
			}
			fmt.Fprintf(&shares, ` <tspan fill="%s">%s</tspan>`, svgColours[c.name], text)
		}
		x := p.closeX(float64(mss))
		fmt.Fprintf(s, `<path stroke="%s" stroke-opacity=".45" fill="none" d="M%.1f %.1fL%.1f %.1fV%.1f"/>`, svgColours[""], places[i]-4.5, base+2, x, p.top+p.labels-5, p.height(float64(high)))
		fmt.Fprintf(s, `<text transform="translate(%.1f %.1f) rotate(-90)" font-size="13"><tspan font-weight="bold">%d</tspan>%s</text>`+"\n",
			places[i], base, mss, shares.String())
	}
}

// common is the sizes of the right panel that have the largest shares in any of the columns, from the largest size down.
func common(most int, columns []column) []int {
	shares := map[int]float64{}
	for _, c := range columns {
		for _, v := range c.d.Top(most, svgCloseLow, svgCloseHigh) {
			shares[v.MSS] = max(shares[v.MSS], v.Share)
		}
	}
	list := slices.SortedFunc(maps.Keys(shares), func(a, b int) int { return cmp.Or(cmp.Compare(shares[b], shares[a]), b-a) })
	list = list[:min(most, len(list))]
	slices.SortFunc(list, func(a, b int) int { return b - a })
	return list
}

// roughly is a share in percent for labels, with so many digits behind the point if it is not too small for that.
func roughly(share float64, digits int) string {
	if share > 0.9995 {
		digits = 0
	}
	for share > 0 && digits < 3 && 100*share*math.Pow10(digits) < 0.95 {
		digits++
	}
	return strconv.FormatFloat(100*share, 'f', digits, 64) + " %"
}

// steps draws a curve, which goes level up to a size, and up there.
func (p panelRow) steps(s *svg, c curve) {
	for _, part := range []struct {
		x     func(float64) float64
		scale scale
		right int
	}{{p.wholeX, p.whole, svgLeft + svgWhole}, {p.closeX, p.close, svgCloseLeft + svgCloseWidth}} {
		start := c.at(part.scale.low)
		var path, tips strings.Builder
		if start > 0 {
			fmt.Fprintf(&path, "M%.1f %.1f", part.x(part.scale.low), p.height(start))
		}
		for i, v := range c.values {
			mss := float64(max(v.MSS, 1))
			if mss < part.scale.low || mss > part.scale.high {
				continue
			}
			x, y := part.x(mss), p.height(c.sums[i])
			if path.Len() == 0 {
				fmt.Fprintf(&path, "M%.1f %.1f", x, p.bottom)
			}
			fmt.Fprintf(&path, "H%.1fV%.1f", x, y)
			if len(c.values) <= svgTooltips {
				fmt.Fprintf(&tips, `<circle cx="%.1f" cy="%.1f" r="5" fill-opacity="0"><title>MSS %d or less: %s over %s, %s</title></circle>`+"\n",
					x, y, v.MSS, plural(int64(c.counts[i]), "endpoint"), c.name, percent(c.sums[i]))
			}
		}
		if path.Len() > 0 {
			fmt.Fprintf(s, `<path fill="none" stroke="%s" stroke-width="2.5" stroke-linejoin="round" d="%sH%d"/>`+"\n%s", svgColours[c.name], path.String(), part.right, tips.String())
		}
	}
}

// svg is a picture in the making.
type svg struct{ strings.Builder }
