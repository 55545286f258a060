package observe

import (
	"fmt"
	"math"
	"strings"
)

// The plot shows, for each MSS, which share of the endpoints offered as much or less. Both scales are logarithmic, so
// that the few that offer little can be seen beside the many that offer 1460.

// curve is the cumulative shares of one family.
type curve struct {
	name   string
	values []Value
	counts []int     // endpoints that offered values[i].MSS or less
	sums   []float64 // the same as a share, 0 to 1
}

func newCurve(name string, d *Distribution) curve {
	c := curve{name: name, values: d.Values}
	sum := 0
	for _, v := range d.Values {
		sum += v.Count
		c.counts = append(c.counts, sum)
		c.sums = append(c.sums, d.share(sum))
	}
	return c
}

// at is the share that offered an MSS or less.
func (c curve) at(mss float64) float64 {
	share := 0.0
	for i, v := range c.values {
		if float64(v.MSS) > mss {
			break
		}
		share = c.sums[i]
	}
	return share
}

// axes are what both plots draw on.
type axes struct {
	curves    []curve // of the families that were seen
	low, high float64 // MSS in bytes, at the ends
	decades   int     // of the share, below 100 %
}

func (r *Report) axes() axes {
	a := axes{low: math.Inf(1)}
	for _, f := range []struct {
		name string
		d    *Distribution
	}{{"IPv4", r.IPv4}, {"IPv6", r.IPv6}} {
		if f.d.Offered == 0 {
			continue
		}
		c := newCurve(f.name, f.d)
		a.curves = append(a.curves, c)
		a.low = min(a.low, float64(max(f.d.Smallest, 1))) // no logarithm of 0
		a.high = max(a.high, float64(f.d.Largest))
		a.decades = max(a.decades, int(math.Ceil(-math.Log10(c.sums[0])-1e-9)))
	}
	a.decades = max(a.decades, 1)
	if a.high < a.low*1.1 { // one value, or nearly: leave room on both sides
		a.low, a.high = a.low/1.5, max(a.high, 1)*1.5
	}
	return a
}

// x is where an MSS is between the ends, 0 to 1.
func (a axes) x(mss float64) float64 {
	return (math.Log(mss) - math.Log(a.low)) / (math.Log(a.high) - math.Log(a.low))
}

// mss is the MSS at a place between the ends.
func (a axes) mss(x float64) float64 { return a.low * math.Pow(a.high/a.low, x) }

// y is how high a share is, 0 to 1.
func (a axes) y(share float64) float64 { return max(0, 1+math.Log10(share)/float64(a.decades)) }

// ticks are the sizes that axes name, if they are in range.
var ticks = []int{1, 10, 50, 100, 200, 536, 1220, 1460, 4000, 8960, 20000, 65535}

// shareLabel names a share that is a power of ten.
func shareLabel(decade int) string {
	return fmt.Sprintf("%g %%", math.Round(math.Pow10(2-decade)*1e9)/1e9)
}

const (
	plotRows   = 4 // of each decade
	plotMargin = 11
)

// plot draws with characters: 4 is IPv4, 6 is IPv6, * is both.
func (r *Report) plot(b *strings.Builder, columns int) {
	a := r.axes()
	rows, width := max(plotRows*a.decades, 8)+1, columns-plotMargin
	grid := make([][]byte, rows)
	for i := range grid {
		grid[i] = []byte(strings.Repeat(" ", width))
	}
	for _, c := range a.curves {
		c.draw(grid, a)
	}
	fmt.Fprintln(b, "Endpoints that offer an MSS or less (4: IPv4, 6: IPv6, *: both; both scales are logarithmic)")
	labels := map[int]string{}
	for d := range a.decades + 1 {
		labels[d*(rows-1)/a.decades] = shareLabel(d)
	}
	for i, line := range grid {
		edge := "│"
		if labels[i] != "" {
			edge = "┤"
		}
		fmt.Fprintln(b, strings.TrimRight(fmt.Sprintf("%*s %s%s", plotMargin-2, labels[i], edge, line), " "))
	}
	a.scale(b, width)
}

// draw puts a curve on the grid, from the left; where it jumps, a column is filled.
func (c curve) draw(grid [][]byte, a axes) {
	mark := c.name[3]
	rows, width := len(grid), len(grid[0])
	last := -1
	for x := range width {
		share := c.at(a.mss(float64(x)/float64(width-1)) * (1 + 1e-9))
		if share == 0 {
			continue
		}
		row := int(math.Round((1 - a.y(share)) * float64(rows-1)))
		if last < 0 {
			last = row
		}
		for y := row; y <= max(row, last-1); y++ {
			if old := grid[y][x]; old != ' ' && old != mark {
				grid[y][x] = '*'
			} else {
				grid[y][x] = mark
			}
		}
		last = row
	}
}

// scale prints the lower edge, with the sizes below it.
func (a axes) scale(b *strings.Builder, width int) {
	edge, names := []rune(strings.Repeat("─", width)), []byte(strings.Repeat(" ", width+8))
	free := 0
	for _, t := range ticks {
		if float64(t) < a.low || float64(t) > a.high {
			continue
		}
		at := int(math.Round(a.x(float64(t)) * float64(width-1)))
		name := fmt.Sprint(t)
		start := max(at-len(name)/2, 0)
		if start < free {
			continue
		}
		edge[at] = '┴'
		copy(names[start:], name)
		free = start + len(name) + 1
	}
	fmt.Fprintf(b, "%*s%s\n", plotMargin-1, "", "└"+string(edge))
	fmt.Fprintf(b, "%*s%s\n", plotMargin, "", strings.TrimRight(string(names), " "))
}
