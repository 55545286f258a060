// Package iptables prints a ruleset as text for iptables-restore, ip6tables-restore and ipset restore.
//
// In comes an *ir.Ruleset laid out for iptables, out goes what one of the tools loads as it is. Rules read as
// iptables-save shows them. Each table is replaced whole, in a transaction of its own.
package iptables

import (
	"bytes"
	"errors"
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

// Write prints the ruleset of one family: what iptables (ir.V4) or ip6tables (ir.V6) loads. What the tool has no words for is an
// error that names where in the configuration it comes from, and nothing is printed then. Where the machine's links are not filled in, a comment stands in the
// place of rules for them.
func Write(w io.Writer, rs *ir.Ruleset, family ir.Families, opt Options) error {
	p := &printer{family: family, opt: opt, links: rs.Links}
	for _, c := range rs.Chains {
		if !slices.Contains(Tables, c.Table) {
			p.fail(nil, c.Name, fmt.Errorf("iptables has no table %q", c.Table))
		}
	}
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
	if len(p.errs) > 0 {
		return errors.Join(p.errs...)
	}
	_, err := p.w.WriteTo(w)
	return err
}

// CheckRule says why a rule of a chain cannot be one of the tools' rules.
func CheckRule(c *ir.Chain, r *ir.Rule) error {
	var buffer [256]byte
	for _, family := range []ir.Families{ir.V4, ir.V6} {
		if c.Families&r.Families&family == 0 {
			continue
		}
		if _, err := Spec(buffer[:0], r, family); err != nil {
			return err
		}
	}
	return nil
}

// CheckChain says why a chain cannot be one of the tools' chains, whatever its rules.
func CheckChain(c *ir.Chain) error {
	if c.Hook != nil {
		return fmt.Errorf("chain %s has a hook, and iptables has its own chains for that", c.Name)
	}
	return checkChainName(c.Name)
}

type printer struct {
	w      bytes.Buffer
	family ir.Families
	opt    Options
	links  bool // the machine's links are not filled in
	buf    []byte
	errs   []error
}

// maxErrors is how many errors are kept: one cause may spoil every rule.
const maxErrors = 20

// fail notes an error, if there is one, with where it comes from.
func (p *printer) fail(origin *ir.Origin, chain string, err error) {
	if err == nil || len(p.errs) == maxErrors {
		return
	}
	err = fmt.Errorf("chain %s: %w", chain, err)
	if origin != nil {
		err = fmt.Errorf("%s: %w", origin, err)
	}
	p.errs = append(p.errs, err)
}

// empty says whether a chain has no rule for the family.
func (p *printer) empty(c *ir.Chain) bool {
	return !slices.ContainsFunc(c.Rules, func(r *ir.Rule) bool { return r.Families&p.family != 0 })
}

func (p *printer) table(name string, chains []*ir.Chain) {
	fmt.Fprintf(&p.w, "*%s\n", name)
	for _, c := range chains {
		p.fail(nil, c.Name, CheckChain(c))
		switch {
		case c.Builtin:
			fmt.Fprintf(&p.w, ":%s ACCEPT [0:0]\n", c.Name)
		default:
			fmt.Fprintf(&p.w, ":%s - [0:0]\n", c.Name)
		}
	}
	for _, c := range chains {
		var last *ir.Origin
		for _, r := range c.Rules {
			if r.Families&p.family == 0 {
				continue
			}
			if p.opt.Origins && r.Origin != nil && r.Origin != last {
				fmt.Fprintf(&p.w, "# %s\n", ir.OneLine(r.Origin.String()))
			}
			last = r.Origin
			p.rule(c.Name, r)
		}
	}
	p.w.WriteString("COMMIT\n")
}

func (p *printer) rule(chain string, r *ir.Rule) {
	if links := linksOf(r); p.links && links != "" {
		fmt.Fprintf(&p.w, "# -A %s: %s\n", chain, links)
		return
	}
	p.buf = append(append(p.buf[:0], "-A "...), chain...)
	var err error
	if p.buf, err = Spec(p.buf, r, p.family); err != nil {
		p.fail(r.Origin, chain, err)
		return
	}
	p.buf = append(p.buf, '\n')
	p.w.Write(p.buf)
}

// linksOf says what a rule is that stands for those of all links, which the machine has; empty for any other rule.
func linksOf(r *ir.Rule) string {
	var options []string
	for _, a := range r.Actions {
		if c, ok := a.(ir.ClampMSS); ok && c.Links != "" {
			options = append(options, map[ir.Side]string{ir.Source: "-i", ir.Dest: "-o"}[c.Side])
		}
	}
	if options == nil {
		return ""
	}
	return "here the daemon puts a rule for each link, with " + strings.Join(options, " and one with ") + ", and the MSS that the link's MTU has room for"
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
