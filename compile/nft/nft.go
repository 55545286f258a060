// Package nft prints a ruleset as text for nft(8).
//
// In comes an *ir.Ruleset laid out for nftables, out goes a script that "nft -f" loads as it is: in one transaction it puts
// the table inet firewalld in the place of the one that there is. Rules read as "nft list" shows them.
package nft

import (
	"bufio"
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

// Write prints a ruleset. A rule that nft's text cannot say stands as a comment in its place, and in notes; a set that it
// cannot name is an error, before anything is printed.
func Write(w io.Writer, rs *ir.Ruleset, opt Options) (notes []string, err error) {
	for _, set := range rs.Sets {
		if !sayableName(set.Name) {
			return nil, fmt.Errorf("%s: nft cannot read %q as a name: it starts with a digit, holds a colon, or is a word of nft's own; give the ipset another name, or let the daemon install it, which needs no text", set.Origin, set.Name)
		}
	}
	p := &printer{w: bufio.NewWriterSize(w, 1<<16), rs: rs, opt: opt}
	if !opt.Addition {
		p.line(0, "add table inet %s", ir.Table)
		p.line(0, "delete table inet %s", ir.Table)
	}
	if rs.Owner && !opt.Addition {
		p.line(0, "# NftablesTableOwner is for a running daemon: the table of a program that has ended is removed.")
	}
	p.line(0, "table inet %s {", ir.Table)
	for _, h := range rs.Helpers {
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
		p.gap()
		p.line(1, "flowtable %s {", flowtable)
		p.line(2, "hook ingress priority filter + 10")
		p.line(2, "devices = { %s }", quoteAll(rs.Flowtable))
		p.line(1, "}")
	}
	for _, c := range rs.Chains {
		p.gap()
		p.chain(c)
	}
	p.line(0, "}")
	return p.notes, p.w.Flush()
}

const flowtable = "fastpath"

// printer writes lines; bufio remembers the first error.
type printer struct {
	w      *bufio.Writer
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
	p.line(1, "chain %s {", c.Name)
	if c.Hook != nil {
		p.line(2, "type %s hook %s priority %s; policy accept;", c.Hook.Type, c.Hook.Hook, priority(c.Hook))
	}
	var last *ir.Origin
	for _, r := range c.Rules {
		if p.opt.Origins && r.Origin != nil && r.Origin != last {
			p.line(2, "# %s", r.Origin)
		}
		last = r.Origin
		p.rule(r)
	}
	p.line(1, "}")
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
