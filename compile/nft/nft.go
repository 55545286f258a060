// Package nft prints a ruleset as text for nft(8).
//
// In comes an *ir.Ruleset laid out for nftables, out goes a script that "nft -f" loads as it is: in one transaction it puts
// the table inet firewalld in the place of the one that there is. Rules read as "nft list" shows them.
package nft

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"richwall/compile/ir"
)

// Options choose what is printed beside the rules.
type Options struct {
	Origins  bool // a comment before rules says what of the configuration they come from
	Addition bool // the rules are added to a table, which keeps what it has
}

// Write prints a ruleset. What nftables or its text cannot have is an error that names where in the configuration it comes from,
// and nothing is printed then. One kind of rule has no text and is left out: a clamp that raises the segment size. A comment stands
// in its place, and notes say so.
func Write(w io.Writer, rs *ir.Ruleset, opt Options) (notes []string, err error) {
	p := &printer{w: &bytes.Buffer{}, rs: rs, opt: opt}
	p.ruleset()
	if len(p.errs) > 0 {
		return nil, errors.Join(p.errs...)
	}
	_, err = p.w.WriteTo(w)
	return p.notes, err
}

func (p *printer) ruleset() {
	rs, opt := p.rs, p.opt
	if !opt.Addition {
		p.line(0, "add table inet %s", ir.Table)
		p.line(0, "delete table inet %s", ir.Table)
	}
	if rs.Owner && !opt.Addition {
		p.line(0, "# NftablesTableOwner is for a running daemon: the table of a program that has ended is removed.")
	}
	p.line(0, "table inet %s {", ir.Table)
	for _, h := range rs.Helpers {
		p.fail(nil, "", errors.Join(checkHelper(h), unsayableName("helper", h.Name)))
		p.gap()
		p.line(1, "ct helper %s {", h.Name)
		p.line(2, `type "%s" protocol %s`, h.Type, h.Protocol)
		p.line(1, "}")
	}
	for _, set := range rs.Sets {
		p.gap()
		p.set(set)
	}
	if rs.Flowtable != nil && !opt.Addition {
		p.flowtable(rs.Flowtable)
	}
	for _, c := range rs.Chains {
		p.gap()
		p.chain(c)
	}
	p.line(0, "}")
}

// maxErrors is how many errors are kept: one cause may spoil every rule.
const maxErrors = 20

// fail notes an error, if there is one, with where it comes from.
func (p *printer) fail(origin *ir.Origin, chain string, err error) {
	if err == nil || len(p.errs) == maxErrors {
		return
	}
	if chain != "" {
		err = fmt.Errorf("chain %s: %w", chain, err)
	}
	if origin != nil {
		err = fmt.Errorf("%s: %w", origin, err)
	}
	p.errs = append(p.errs, err)
}

func (p *printer) flowtable(devices []string) {
	p.fail(nil, "", checkFlowtable(devices))
	p.gap()
	p.line(1, "flowtable %s {", flowtable)
	p.line(2, "hook ingress priority filter + 10")
	if len(devices) > 0 {
		p.line(2, "devices = { %s }", quoteAll(devices))
	}
	p.line(1, "}")
}

const flowtable = "fastpath"

// printer writes lines, and keeps what cannot be written.
type printer struct {
	w      *bytes.Buffer
	errs   []error
	rs     *ir.Ruleset
	opt    Options
	notes  []string
	blocks int
	buf    []byte // the rule being printed
}

// gap prints an empty line between two blocks.
func (p *printer) gap() {
	if p.blocks++; p.blocks > 1 {
		p.line(0, "")
	}
}

func (p *printer) line(indent int, format string, args ...any) {
	p.w.WriteString("\t\t\t"[:indent])
	fmt.Fprintf(p.w, format, args...)
	p.w.WriteByte('\n')
}

func (p *printer) chain(c *ir.Chain) {
	err := CheckChain(c)
	if err == nil {
		err = unsayableName("chain", c.Name)
	}
	if err != nil {
		p.fail(originOf(c), "", err)
		return
	}
	p.line(1, "chain %s {", c.Name)
	if c.Hook != nil {
		p.line(2, "type %s hook %s priority %s; policy accept;", c.Hook.Type, c.Hook.Hook, priority(c.Hook))
	}
	var last *ir.Origin
	for _, r := range c.Rules {
		if p.opt.Origins && r.Origin != nil && r.Origin != last {
			p.line(2, "# %s", ir.OneLine(r.Origin.String()))
		}
		last = r.Origin
		p.rule(c, r)
	}
	p.line(1, "}")
}

// originOf is where a chain comes from: what its first rule does.
func originOf(c *ir.Chain) *ir.Origin {
	if len(c.Rules) > 0 {
		return c.Rules[0].Origin
	}
	return nil
}

// priority is a hook's priority as nft lists it: by the nearest name, where nft knows one for that hook.
func priority(h *ir.Hook) string {
	names := []struct {
		name  string
		value int
		hooks string
	}{
		{"mangle", -150, ""}, {"dstnat", -100, "prerouting"}, {"filter", 0, ""}, {"srcnat", 100, "postrouting"},
	}
	for _, n := range names {
		if n.hooks != "" && n.hooks != h.Hook {
			continue
		}
		switch d := h.Priority - n.value; {
		case d == 0:
			return n.name
		case d > 0 && d <= 10:
			return fmt.Sprintf("%s + %d", n.name, d)
		case d < 0 && d >= -10:
			return fmt.Sprintf("%s - %d", n.name, -d)
		}
	}
	return fmt.Sprint(h.Priority)
}

func quoteAll(names []string) string {
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = `"` + n + `"`
	}
	return strings.Join(quoted, ", ")
}
