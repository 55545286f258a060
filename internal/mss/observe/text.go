package observe

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"unicode"
)

// Text prints a report: the top most common values, the rows about all of them, a plot of so many columns (none if there
// are less than 40), and what else the report has.
func (r *Report) Text(w io.Writer, top, columns int) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s, %s\n", strings.Map(plain, r.Source), plural(int64(r.All.Endpoints), "endpoint"), plural(r.Stats.SYNs, "SYN"))
	for _, note := range r.notes() {
		fmt.Fprintln(&b, note)
	}
	if r.All.Offered > 0 {
		r.sizes(&b, top, columns)
	}
	for _, t := range r.Origins {
		t.print(&b, r.All.Endpoints, top)
	}
	if r.Who != nil {
		r.Who.print(&b)
	}
	if r.Advice != nil && r.All.Offered > 0 {
		b.WriteByte('\n')
		r.suggest(&b)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// sizes prints the tables and the plot.
func (r *Report) sizes(b *strings.Builder, top, columns int) {
	three := func(title string, low, high int) {
		valueTable(b, title, []column{{"all", r.All}, {"IPv4", r.IPv4}, {"IPv6", r.IPv6}}, top, low, high)
	}
	three("", 0, 65535)
	three("500 or less:", 0, Absurd)
	three("Above 1460:", Plain4+1, 65535)
	valueTable(b, "SYN (who opens connections) and SYN/ACK (who answers) apart, the first of each endpoint:", []column{
		{"SYN, IPv4", r.SYN.IPv4}, {"SYN/ACK, IPv4", r.SYNACK.IPv4}, {"SYN, IPv6", r.SYN.IPv6}, {"SYN/ACK, IPv6", r.SYNACK.IPv6},
	}, top, 0, 65535)
	b.WriteByte('\n')
	r.summary(b)
	if columns >= 40 {
		b.WriteByte('\n')
		r.plot(b, columns)
	}
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
		list = append(list, fmt.Sprintf("%s captured too short to tell the MSS: capture 128 bytes of each packet, as by tcpdump -s 128.", was(n, "SYN")))
	}
	if n := r.Stats.Malformed; n > 0 {
		list = append(list, fmt.Sprintf("%s left out for a TCP header that cannot be.", was(n, "SYN")))
	}
	if n := r.Stats.Short; n > 0 {
		list = append(list, fmt.Sprintf("%s captured too short to tell whether there is a SYN: capture 128 bytes of each packet, as by tcpdump -s 128.", was(n, "packet")))
	}
	if n := r.Stats.Sent; n > 0 {
		list = append(list, fmt.Sprintf("Of the SYNs, the machine that captured them sent or forwarded %s; they count like the others.", number(n)))
	}
	unread := r.Stats.Unread.List()
	for i, u := range unread {
		if i == mostNotes {
			rest := int64(0)
			for _, u := range unread[i:] {
				rest += u.Packets
			}
			list = append(list, fmt.Sprintf("%s not understood for other reasons; --json has them all.", was(rest, "packet")))
			break
		}
		list = append(list, fmt.Sprintf("%s not understood: %s.", was(u.Packets, "packet"), u.What))
	}
	return list
}

// mostNotes is how many kinds of packets that were not understood are named.
const mostNotes = 8

// was begins a sentence about what happened to things.
func was(n int64, thing string) string {
	if n == 1 {
		return "1 " + thing + " was"
	}
	return number(n) + " " + thing + "s were"
}

// column is one of the distributions that stand beside one another.
type column struct {
	name string
	d    *Distribution
}

// valueTable prints the most common values from a lowest to a highest, if there are any, below an empty line.
func valueTable(w io.Writer, title string, columns []column, top, low, high int) {
	t := newTable()
	var names, heads []string
	var lists [][]Value
	rows := 0
	for _, c := range columns {
		names = append(names, "", c.name, "")
		heads = append(heads, "MSS", "endpoints", "share")
		list := c.d.Top(top, low, high)
		lists = append(lists, list)
		rows = max(rows, len(list))
	}
	if rows == 0 {
		return
	}
	t.row(names...)
	t.row(heads...)
	for i := range rows {
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
	fmt.Fprintln(w)
	if title != "" {
		fmt.Fprintln(w, title)
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
		{"1220 to 1459", func(d *Distribution) int { return d.Below1460 }},
		{"1260 to 1440", func(d *Distribution) int { return d.Set }},
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
	fmt.Fprintln(w, "1260 to 1440: set on purpose, for the most part, by an endpoint or by a clamp; but 1440 over IPv6 is Ethernet's own.")
	fmt.Fprintln(w, "lowered: from 1220 up, but less than an Ethernet of 1500 offers (1460; IPv6 1440): a tunnel, or clamped somewhere.")
}

// suggest prints the advice.
func (r *Report) suggest(w io.Writer) {
	a := r.Advice
	fmt.Fprintf(w, "Advice. %s of the IPv4 endpoints offer less than %d, and %s of the IPv6 endpoints less than %d. They, or\n",
		percent(r.IPv4.below(Plain4)), Plain4-Wrapped, percent(r.IPv6.below(Plain6)), Plain6-Wrapped)
	fmt.Fprintln(w, "somebody on the way, know of a narrow path already, and need no clamp here. The others may offer more than")
	fmt.Fprintln(w, "their path carries. A clamp suits a share of the others, as many of them as offer that much or more:")
	t := newTable()
	t.row("share", "IPv4", "IPv6")
	for i := range max(len(a.IPv4), len(a.IPv6)) {
		cells := []string{""}
		for _, list := range [][]Cover{a.IPv4, a.IPv6} {
			if i < len(list) {
				cells[0] = strconv.FormatFloat(list[i].Percent, 'f', -1, 64) + " %"
				cells = append(cells, clampText(list[i].Clamp))
			} else {
				cells = append(cells, "–")
			}
		}
		t.row(cells...)
	}
	t.print(w)
	for _, rule := range a.Rules {
		fmt.Fprintln(w, "  "+rule)
	}
	fmt.Fprintln(w)
	const refusing = "Refusing an MSS of 500 or less (CVE-2019-11477, 11478, 11479) would have turned "
	if a.Refused == 0 {
		fmt.Fprintln(w, refusing+"nobody away:")
	} else {
		fmt.Fprintf(w, refusing+"away %s, %s:\n", plural(int64(a.Refused), "endpoint"), percent(a.RefusedShare))
	}
	fmt.Fprintln(w, "  "+a.Refusal)
}

// clampText is the value of a clamp; there is none to an MSS that needs none.
func clampText(mss int) string {
	if mss == 0 {
		return "none"
	}
	return strconv.Itoa(mss)
}

// print prints the largest groups, and those with the most absurd and the most large sizes.
func (t OriginTable) print(b *strings.Builder, endpoints, top int) {
	fmt.Fprintf(b, "\nBy %s (known of %s):\n", t.By, plural(int64(t.Known), "endpoint"))
	groups := newTable()
	groups.row("endpoints", "share", "500 or less", "1260 to 1440", "above 1460", "most common", "  "+t.By)
	for _, g := range t.Groups[:min(top, len(t.Groups))] {
		common := make([]string, len(g.Top))
		for i, v := range g.Top {
			common[i] = strconv.Itoa(v.MSS)
		}
		groups.row(number(int64(g.Endpoints)), percent(share(g.Endpoints, endpoints)), number(int64(g.AtMost500)),
			number(int64(g.Set)), number(int64(g.Above1460)), strings.Join(common, " "), "  "+g.Name)
	}
	groups.print(b)
	for _, kind := range []struct {
		title string
		count func(OriginGroup) int
	}{
		{"500 or less", func(g OriginGroup) int { return g.AtMost500 }},
		{"above 1460", func(g OriginGroup) int { return g.Above1460 }},
	} {
		if list := t.most(top, kind.count); len(list) > 0 {
			fmt.Fprintf(b, "Offers of %s, by %s:\n", kind.title, t.By)
			few := newTable()
			for _, g := range list {
				few.row(number(int64(kind.count(g))), "  "+g.Name)
			}
			few.print(b)
		}
	}
}

// print prints who offered what, with addresses.
func (who *Who) print(b *strings.Builder) {
	for _, part := range []struct {
		name string
		of   Whose
	}{{"SYN", who.SYN}, {"SYN/ACK", who.SYNACK}} {
		if part.of.EndpointsAll == 0 {
			continue
		}
		fmt.Fprintf(b, "\nPrefixes by MSS, %s%s:\n", part.name, some(len(part.of.Prefixes), part.of.PrefixCount))
		t := newTable()
		t.row("endpoints", "MSS", "  prefix")
		for _, p := range part.of.Prefixes {
			t.row(number(int64(p.Endpoints)), p.MSS.String(), "  "+p.Prefix.String())
		}
		t.print(b)
		fmt.Fprintf(b, "\nEndpoints by MSS, %s%s:\n", part.name, some(len(part.of.Endpoints), part.of.EndpointsAll))
		t = newTable()
		t.row("MSS", "  endpoint")
		for _, e := range part.of.Endpoints {
			t.row(e.MSS.String(), "  "+e.Address.String())
		}
		t.print(b)
	}
}

// some says that a list is not whole.
func some(shown, all int) string {
	if shown == all {
		return ""
	}
	return fmt.Sprintf(" (%s of %s; --top says how many)", number(int64(shown)), number(int64(all)))
}

// table aligns columns to the right, but for cells of text that begin with two blanks: these are the last of their rows.
type table struct {
	text *strings.Builder
	*tabwriter.Writer
}

func newTable() table {
	text := &strings.Builder{}
	return table{text, tabwriter.NewWriter(text, 0, 0, 2, ' ', tabwriter.AlignRight)}
}

// row adds a row. Nothing in a cell can begin another cell or row.
func (t table) row(cells ...string) {
	end := "\t"
	for i, cell := range cells {
		cells[i] = strings.Map(plain, cell)
		if strings.HasPrefix(cell, "  ") {
			end = ""
		}
	}
	fmt.Fprintln(t, strings.Join(cells, "\t")+end)
}

// plain is a character that tables can hold, in place of one that a terminal obeys.
func plain(c rune) rune {
	if unicode.In(c, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp) {
		return '?'
	}
	return c
}

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
