package mss

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"richwall/grammar"
)

// Text prints a report: a table of the paths, and for those that need a clamp which segments have it, by which rules, and
// the command that adds one.
func (r *Report) Text(w io.Writer) error {
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "path\tkind\tMTU\tIPv4\tIPv6\tclamped")
	for _, p := range r.Paths {
		fmt.Fprintf(t, "%s\t%s\t%d\t%s\t%s\t%s\n", p.Name, p.Kind, p.Fit.MTU, size(p.Fit.IPv4), size(p.Fit.IPv6), p.Clamped)
	}
	t.Flush()
	for _, p := range r.Paths {
		b.WriteString("\n" + p.Name + ": ")
		p.text(&b)
	}
	for _, n := range r.Notes {
		b.WriteString("\n" + n + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// size is an MSS, or a dash where there is none.
func size(mss int) string {
	if mss == 0 {
		return "–"
	}
	return strconv.Itoa(mss)
}

// listed is how many routes are named.
const listed = 4

func (p *Path) text(b *strings.Builder) {
	routes := p.Routes
	if len(routes) > listed {
		routes = append(slices.Clone(routes[:listed]), fmt.Sprintf("%d more", len(p.Routes)+p.More-listed))
	}
	fmt.Fprintf(b, "%s\n", strings.Join(routes, ", "))
	if p.Clamped == NotNeeded {
		fmt.Fprintf(b, "  no clamp is needed: %s\n", p.Why)
	}
	for _, f := range []grammar.Family{grammar.IPv4, grammar.IPv6} {
		p.familyText(b, f)
	}
	for _, n := range p.Notes {
		fmt.Fprintf(b, "  %s\n", n)
	}
	for i, rule := range p.Rules {
		if i == 0 && p.Zone == "" {
			fmt.Fprintf(b, "  add, where ZONE is what firewall-cmd --get-zone-of-interface=%s says:\n", p.Interface)
		} else if i == 0 {
			fmt.Fprintln(b, "  add:")
		}
		zone := p.Zone
		if zone == "" {
			zone = "ZONE"
		}
		fmt.Fprintf(b, "    firewall-cmd --permanent --zone=%s --add-rich-rule='%s'\n", zone, rule)
	}
}

// familyText prints which segments of a family are clamped, and the rules that do it, or would if they went further.
func (p *Path) familyText(b *strings.Builder, f grammar.Family) {
	var states []State
	var parts []string
	var by []Found
	for _, m := range p.Segments {
		if m.Family != f {
			continue
		}
		states = append(states, m.Clamped)
		parts = append(parts, fmt.Sprintf("%s: %s", m.Segment, m.Clamped))
		for _, found := range m.By {
			if at := slices.IndexFunc(by, func(old Found) bool { return old.Rule == found.Rule && old.Size == found.Size }); at < 0 {
				by = append(by, found)
			} else {
				by[at].Sure = by[at].Sure || found.Sure
			}
		}
	}
	if states == nil {
		return
	}
	state := together(states)
	if state == InPart {
		fmt.Fprintf(b, "  %s clamped in part (%s)\n", f, strings.Join(parts, ", "))
	} else {
		fmt.Fprintf(b, "  %s clamped: %s\n", f, state)
	}
	for _, found := range by {
		if found.Enough || state != Clamped {
			fmt.Fprintf(b, "    by %s (%s)\n", found.Rule, found.describe())
		}
	}
}

// describe says what a clamp sets.
func (f Found) describe() string {
	to := "to the path's MTU"
	if f.Size != 0 {
		to = "to " + strconv.Itoa(f.Size)
	}
	if !f.Enough {
		to += ", which is too large"
	}
	if !f.Sure {
		to += ", for some connections"
	}
	return to
}

// KindsText prints what fits kinds of paths over links of an MTU in bytes, and for a single one the rules that set it.
func KindsText(w io.Writer, kinds []Kind, mtu int) error {
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "name\tpath\tMTU\tIPv4\tIPv6")
	for _, k := range kinds {
		f := k.Over(mtu)
		fmt.Fprintf(t, "%s\t%s\t%d\t%s\t%s\n", k.Name, k.Words, f.MTU, size(f.IPv4), size(f.IPv6))
	}
	t.Flush()
	if len(kinds) == 1 {
		f := kinds[0].Over(mtu)
		b.WriteString("\nIn the zone of the interface, if its MTU is right, or to set it whatever the MTU is:\n")
		fmt.Fprintf(&b, "  %s\n  %s\n", &grammar.Rule{Element: &grammar.TCPMSSClamp{Value: "pmtu"}}, f.Rule())
		if rules := f.Plain(); len(rules) > 0 {
			fmt.Fprintf(&b, "The same in words that firewalld has too:\n  %s\n", strings.Join(rules, "\n  "))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// Rule is the rich rule that clamps to what fits, over IPv4 and IPv6.
func (f Fit) Rule() string {
	return (&grammar.Rule{Element: &grammar.TCPMSSClamp{MTU: f.MTU}}).String()
}

// Plain is the same as Rule with a rule for each family, as firewalld needs it.
func (f Fit) Plain() []string {
	var list []string
	for _, one := range []struct {
		family grammar.Family
		mss    int
	}{{grammar.IPv4, f.IPv4}, {grammar.IPv6, f.IPv6}} {
		if one.mss != 0 {
			list = append(list, (&grammar.Rule{Family: one.family, Element: &grammar.TCPMSSClamp{Value: strconv.Itoa(one.mss)}}).String())
		}
	}
	return list
}
