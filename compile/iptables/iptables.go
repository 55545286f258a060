// Package iptables prints a ruleset as text for iptables-restore, ip6tables-restore and ipset restore.
//
// In comes an *ir.Ruleset laid out for iptables, out goes what one of the tools loads as it is. Rules read as
// iptables-save shows them. Each table is replaced whole, in a transaction of its own.
package iptables

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strings"

	"richwall/compile/ir"
)

// Tables are the tables in use, in the order they are printed: those that decide nothing by themselves first, so that
// nothing is let in by one before another can refuse it.
var Tables = []string{"security", "raw", "mangle", "filter", "nat"}

// Options choose what is printed beside the rules.
type Options struct {
	Origins  bool // a comment line before rules says what of the configuration they come from
	Addition bool // the rules are for "--noflush": chains without any are left out
}

// Write prints the ruleset of one family: what iptables (ir.V4) or ip6tables (ir.V6) loads.
func Write(w io.Writer, rs *ir.Ruleset, family ir.Families, opt Options) error {
	p := &printer{w: bufio.NewWriterSize(w, 1<<16), family: family, opt: opt}
	for _, table := range Tables {
		var chains []*ir.Chain
		for _, c := range rs.Chains {
			if c.Table == table && c.Families&family != 0 && !(opt.Addition && p.empty(c)) {
				chains = append(chains, c)
			}
		}
		if len(chains) > 0 {
			p.table(table, chains)
		}
	}
	return p.w.Flush()
}

type printer struct {
	w      *bufio.Writer
	family ir.Families
	opt    Options
	buf    []byte
}

// empty says whether a chain has no rule for the family.
func (p *printer) empty(c *ir.Chain) bool {
	return !slices.ContainsFunc(c.Rules, func(r *ir.Rule) bool { return r.Families&p.family != 0 })
}

func (p *printer) table(name string, chains []*ir.Chain) {
	fmt.Fprintf(p.w, "*%s\n", name)
	for _, c := range chains {
		switch {
		case c.Builtin:
			fmt.Fprintf(p.w, ":%s ACCEPT [0:0]\n", c.Name)
		default:
			fmt.Fprintf(p.w, ":%s - [0:0]\n", c.Name)
		}
	}
	for _, c := range chains {
		var last *ir.Origin
		for _, r := range c.Rules {
			if r.Families&p.family == 0 {
				continue
			}
			if p.opt.Origins && r.Origin != nil && r.Origin != last {
				fmt.Fprintf(p.w, "# %s\n", r.Origin)
			}
			last = r.Origin
			p.rule(c.Name, r)
		}
	}
	p.w.WriteString("COMMIT\n")
}

func (p *printer) rule(chain string, r *ir.Rule) {
	p.buf = append(append(p.buf[:0], "-A "...), chain...)
	p.buf = Spec(p.buf, r, p.family)
	p.buf = append(p.buf, '\n')
	p.w.Write(p.buf)
}

// WriteSets prints the sets for "ipset restore". It can be loaded over sets that are there and in use.
func WriteSets(w io.Writer, rs *ir.Ruleset) error {
	b := bufio.NewWriterSize(w, 1<<16)
	var line []byte
	for _, set := range rs.Sets {
		fmt.Fprintf(b, "create %s %s -exist", set.Name, set.Type)
		if set.Type == "bitmap:port" {
			b.WriteString(" range 0-65535")
		}
		if set.Family != ir.Both {
			fmt.Fprintf(b, " family %s", map[ir.Families]string{ir.V4: "inet", ir.V6: "inet6"}[set.Family])
		}
		for _, o := range []struct{ name, value string }{{"hashsize", set.HashSize}, {"maxelem", set.MaxElem}, {"timeout", set.Timeout}} {
			if o.value != "" {
				fmt.Fprintf(b, " %s %s", o.name, o.value)
			}
		}
		fmt.Fprintf(b, "\nflush %s\n", set.Name)
		for _, e := range set.Elements {
			line = AddElement(line[:0], set.Name, e)
			b.Write(line)
		}
	}
	return b.Flush()
}

// directions are where the fields of a set are taken from, one for each: where the rule says, or a folded set itself.
func directions(l ir.Lookup) string {
	var words []string
	for i := range strings.Count(l.Set.Type, ",") + 1 {
		side := l.Side
		if l.Set.Sides != nil {
			side = l.Set.Sides[i]
		}
		words = append(words, direction(side))
	}
	return strings.Join(words, ",")
}
