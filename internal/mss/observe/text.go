package observe

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"richwall/grammar"
)

// Text prints a report: the top most common values, the rows about all of them, a plot of so many columns (none if there
// are less than 40), and what it suggests.
func (r *Report) Text(w io.Writer, top, columns int) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s, %s\n", r.Source, plural(int64(r.All.Endpoints), "endpoint"), plural(r.Stats.SYNs, "SYN"))
	for _, note := range r.notes() {
		fmt.Fprintln(&b, note)
	}
	if r.All.Offered > 0 {
		b.WriteByte('\n')
		r.common(&b, top)
		b.WriteByte('\n')
		r.summary(&b)
		if columns >= 40 {
			b.WriteByte('\n')
			r.plot(&b, columns)
		}
		b.WriteByte('\n')
		r.suggest(&b)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// notes are what a reader must know about how it was counted.
func (r *Report) notes() []string {
	var list []string
	if r.Sample > 1 {
		list = append(list, fmt.Sprintf("There were too many endpoints to remember: one in %d is counted, chosen by a hash of its address. There were about %s.",
			r.Sample, number(int64(r.All.Endpoints)*int64(r.Sample))))
	}
	if n := r.All.Varied; n > 0 {
		list = append(list, fmt.Sprintf("%s later offered another MSS than at first; the first counts.", plural(int64(n), "endpoint")))
	}
	if n := r.Stats.Lost; n > 0 {
		list = append(list, fmt.Sprintf("%s came too fast to be counted.", plural(n, "SYN")))
	}
	if n := r.Stats.Truncated; n > 0 {
		list = append(list, fmt.Sprintf("%s captured too short to tell the MSS: capture 128 bytes of each packet, as by tcpdump -s 128.", were(n)))
	}
	if n := r.Stats.Malformed; n > 0 {
		list = append(list, fmt.Sprintf("%s left out for a TCP header that cannot be.", were(n)))
	}
	for _, link := range slices.Sorted(maps.Keys(r.Stats.Unreadable)) {
		list = append(list, fmt.Sprintf("%s left out: richwall cannot read link type %d; it can read Ethernet, raw IP, loopback and Linux cooked.",
			plural(r.Stats.Unreadable[link], "packet"), link))
	}
	return list
}

func were(n int64) string {
	if n == 1 {
		return "1 SYN was"
	}
	return number(n) + " SYNs were"
}

// common prints the most common values, for each family beside one another.
func (r *Report) common(w io.Writer, top int) {
	t := newTable()
	t.row("", "all", "", "", "IPv4", "", "", "IPv6", "")
	t.row("MSS", "endpoints", "share", "MSS", "endpoints", "share", "MSS", "endpoints", "share")
	lists := [][]Value{r.All.Top(top), r.IPv4.Top(top), r.IPv6.Top(top)}
	for i := range lists[0] {
		var cells []string
		for _, list := range lists {
			if i < len(list) {
				v := list[i]
				cells = append(cells, strconv.Itoa(v.MSS), number(int64(v.Count)), percent(v.Share))
			} else {
				cells = append(cells, "", "", "")
			}
		}
		t.row(cells...)
	}
	t.print(w)
}

// summary prints the rows about all values.
func (r *Report) summary(w io.Writer) {
	t := newTable()
	t.row("", "all", "", "IPv4", "", "IPv6", "")
	rows := []struct {
		name  string
		count func(*Distribution) int
	}{
		{"with an MSS", func(d *Distribution) int { return d.Offered }},
		{"500 or less", func(d *Distribution) int { return d.AtMost500 }},
		{"1220 to 1460", func(d *Distribution) int { return d.Usual }},
		{"lowered", func(d *Distribution) int { return d.Lowered }},
		{"above 1460", func(d *Distribution) int { return d.Above1460 }},
	}
	families := []*Distribution{r.All, r.IPv4, r.IPv6}
	for _, row := range rows {
		cells := []string{row.name}
		for _, d := range families {
			n := row.count(d)
			cells = append(cells, number(int64(n)), percent(d.share(n)))
		}
		t.row(cells...)
	}
	without, cells := []string{"without an MSS"}, []string{"smallest, largest"}
	for _, d := range families {
		without = append(without, number(int64(d.Endpoints-d.Offered)), "")
		if d.Offered == 0 {
			cells = append(cells, "–", "–")
		} else {
			cells = append(cells, strconv.Itoa(d.Smallest), strconv.Itoa(d.Largest))
		}
	}
	t.row(without...)
	t.row(cells...)
	t.print(w)
	fmt.Fprintln(w, "lowered: from 1220 up, but less than an Ethernet of 1500 offers (1460; IPv6 1440): a tunnel, or clamped somewhere.")
}

// suggest prints what the figures say about rules.
func (r *Report) suggest(w io.Writer) {
	fmt.Fprintln(w, "A clamp that suits a share of the endpoints: so many offered that much or more, so paths like theirs carry it.")
	t := newTable()
	t.row("share", "IPv4", "IPv6")
	n := max(len(r.IPv4.Covers), len(r.IPv6.Covers))
	for i := range n {
		cells := []string{""}
		for _, d := range []*Distribution{r.IPv4, r.IPv6} {
			if i < len(d.Covers) {
				cells[0] = strconv.FormatFloat(d.Covers[i].Percent, 'f', -1, 64) + " %"
				cells = append(cells, clampText(d.Covers[i].Clamp))
			} else {
				cells = append(cells, "–")
			}
		}
		t.row(cells...)
	}
	t.print(w)
	for _, rule := range r.Rules() {
		fmt.Fprintln(w, "  "+rule)
	}
	fmt.Fprintln(w)
	refused := r.All.AtMost500
	share := percent(r.All.share(refused))
	switch {
	case refused == 0:
		fmt.Fprintln(w, "Refusing an MSS of 500 or less (CVE-2019-11477, 11478, 11479) would have turned nobody away:")
	case refused == 1:
		fmt.Fprintf(w, "Refusing an MSS of 500 or less (CVE-2019-11477, 11478, 11479) would have turned away 1 endpoint, %s:\n", share)
	default:
		fmt.Fprintf(w, "Refusing an MSS of 500 or less (CVE-2019-11477, 11478, 11479) would have turned away %s endpoints, %s:\n", number(int64(refused)), share)
	}
	fmt.Fprintln(w, "  "+refusal)
}

// refusal is the rule against absurd sizes.
const refusal = `rule tcp-mss value="0-500" drop`

// clampText is the value of a clamp; there is none to an MSS that needs none.
func clampText(mss int) string {
	if mss == 0 {
		return "none"
	}
	return strconv.Itoa(mss)
}

// Rules are the rich rules for the families that were seen: each clamps to what suits the largest of the shares asked for.
// A clamp below 1220 is none of them: it would cost everybody more than it helps those few.
func (r *Report) Rules() []string {
	var list []string
	for _, f := range []struct {
		family grammar.Family
		d      *Distribution
	}{{grammar.IPv4, r.IPv4}, {grammar.IPv6, r.IPv6}} {
		clamp := 0
		for _, c := range f.d.Covers {
			if c.Clamp >= LowestPlain {
				clamp = c.Clamp
			}
		}
		if clamp != 0 {
			rule := grammar.Rule{Family: f.family, Element: &grammar.TCPMSSClamp{Value: strconv.Itoa(clamp)}}
			list = append(list, rule.String())
		}
	}
	return list
}

// table aligns columns to the right.
type table struct {
	text *strings.Builder
	*tabwriter.Writer
}

func newTable() table {
	text := &strings.Builder{}
	return table{text, tabwriter.NewWriter(text, 0, 0, 2, ' ', tabwriter.AlignRight)}
}

func (t table) row(cells ...string) { fmt.Fprintln(t, strings.Join(cells, "\t")+"\t") }

// print writes the rows, without blanks at their ends.
func (t table) print(w io.Writer) {
	t.Flush()
	for line := range strings.Lines(t.text.String()) {
		fmt.Fprintln(w, strings.TrimRight(line, " \n"))
	}
}

func plural(n int64, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return number(n) + " " + thing + "s"
}

// number is a number with its thousands apart.
func number(n int64) string {
	text := strconv.FormatInt(n, 10)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// percent is a share in percent, with as many places as the rarest values need.
func percent(share float64) string { return strconv.FormatFloat(100*share, 'f', 3, 64) + " %" }
