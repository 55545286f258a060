package mss

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

// Text prints a verification: a table of what is said and what was measured, the disagreements, and what was not cloned or measured.
func (r *Verification) Text(w io.Writer) error {
	var b, table strings.Builder
	t := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "path\twhat\tsays\tmeasured\tfits\tleft with\tsegments")
	for i := range r.Paths {
		r.Paths[i].rows(t)
	}
	t.Flush()
	for line := range strings.Lines(table.String()) {
		b.WriteString(strings.TrimRight(line, " \n") + "\n")
	}
	fmt.Fprintf(&b, "\n%d connections were tried, and %d were answered.\n", r.Tried, r.Passed)
	if r.Apart > 0 {
		fmt.Fprintf(&b, "Of %d the answer has left by another interface than the SYN had come by: what is said of a path is of those that come and go by it.\n", r.Apart)
	}
	section(&b, "Disagreements:", r.Paths, func(p Verified) []string { return p.Disagreements })
	section(&b, "Not measured:", r.Paths, func(p Verified) []string { return p.NotMeasured })
	if len(r.NotCloned) > 0 {
		fmt.Fprintf(&b, "\nNot cloned:\n  %s\n", strings.Join(r.NotCloned, "\n  "))
	}
	for _, n := range r.Notes {
		fmt.Fprintf(&b, "\n%s\n", n)
	}
	switch {
	case r.Disagrees && len(r.NotCloned) > 0:
		fmt.Fprintln(&b, "\nWhat richwall mss says of this machine is not what packets show; or it is what was not cloned that makes the difference.")
	case r.Disagrees:
		fmt.Fprintln(&b, "\nWhat richwall mss says of this machine is not what packets show.")
	case r.Whole:
		fmt.Fprintln(&b, "\nAll that was measured is as richwall mss says.")
	default:
		fmt.Fprintln(&b, "\nAll that was measured is as richwall mss says, but not all could be.")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (p *Verified) rows(w io.Writer) {
	mtu := "not measured"
	if p.MeasuredMTU != 0 {
		mtu = strconv.Itoa(p.MeasuredMTU)
	}
	if p.OrMore {
		mtu += " or more"
	}
	fmt.Fprintf(w, "%s\tMTU\t%d\t%s\t\t\t\n", p.Name, p.MTU, mtu)
	if len(p.Segments) == 0 {
		fmt.Fprintf(w, "\tclamped\t%s\t\t\t\t\n", p.Says)
	}
	for _, m := range p.Segments {
		left := "–"
		switch {
		case m.Count > 0 && m.Low == m.High:
			left = strconv.Itoa(m.High)
		case m.Count > 0:
			left = fmt.Sprintf("%d to %d", m.Low, m.High)
		}
		fmt.Fprintf(w, "\t%s %s\t%s\t%s\t%d\t%s\t%d\n", m.Family, m.Segment, m.Says, m.Measured, m.Fits, left, m.Count)
	}
}

// section prints a list that paths have, without what several of them say alike.
func section(b *strings.Builder, title string, paths []Verified, of func(Verified) []string) {
	var lines []string
	for _, p := range paths {
		for _, line := range of(p) {
			if line = p.Name + ": " + line; !slices.Contains(lines, line) {
				lines = append(lines, line)
			}
		}
	}
	if len(lines) > 0 {
		fmt.Fprintf(b, "\n%s\n  %s\n", title, strings.Join(lines, "\n  "))
	}
}
