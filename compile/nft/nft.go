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
	Origins bool // a comment behind each rule says what of the configuration it comes from
}

// Write prints a whole ruleset. What nft's text cannot say stands as a comment in its place, and in notes.
func Write(w io.Writer, rs *ir.Ruleset, opt Options) (notes []string, err error) {
	p := newPrinter(w, rs, opt)
	p.line(0, "add table inet %s", ir.Table)
	p.line(0, "delete table inet %s", ir.Table)
	if rs.Owner {
		p.line(0, "# NftablesTableOwner is for a running daemon: the table of a program that has ended is removed.")
	}
	p.line(0, "table inet %s {", ir.Table)
	first := true
	gap := func() {
		if !first {
			p.line(0, "")
		}
		first = false
	}
	for _, h := range rs.Helpers {
		gap()
		p.line(1, "ct helper %s {", h.Name)
		p.line(2, `type "%s" protocol %s`, h.Type, h.Protocol)
		p.line(1, "}")
	}
	for _, set := range rs.Sets {
		gap()
		p.set(set)
	}
	if rs.Flowtable != nil {
		gap()
		p.line(1, "flowtable %s {", flowtable)
		p.line(2, "hook ingress priority filter + 10")
		p.line(2, "devices = { %s }", quoteAll(rs.Flowtable))
		p.line(1, "}")
	}
	for _, c := range rs.Chains {
		gap()
		p.chain(c)
	}
	p.line(0, "}")
	return p.notes, p.flush()
}

// WriteRules prints some rules of a ruleset, in the chains that they stand in, as a script that adds them to a table that
// has those chains or makes them.
func WriteRules(w io.Writer, rs *ir.Ruleset, keep func(*ir.Rule) bool, opt Options) (notes []string, err error) {
	p := newPrinter(w, rs, opt)
	p.line(0, "table inet %s {", ir.Table)
	printed, used := false, usedBy(rs, keep)
	gap := func() {
		if printed {
			p.line(0, "")
		}
		printed = true
	}
	for _, h := range rs.Helpers {
		if used[h.Name] {
			gap()
			p.line(1, "ct helper %s {", h.Name)
			p.line(2, `type "%s" protocol %s`, h.Type, h.Protocol)
			p.line(1, "}")
		}
	}
	for _, set := range rs.Sets {
		if used["@"+set.Name] {
			gap()
			p.set(set)
		}
	}
	for _, c := range rs.Chains {
		some := &ir.Chain{Name: c.Name, Hook: c.Hook}
		for _, r := range c.Rules {
			if keep(r) {
				some.Rules = append(some.Rules, r)
			}
		}
		if len(some.Rules) > 0 {
			gap()
			p.chain(some)
		}
	}
	p.line(0, "}")
	return p.notes, p.flush()
}

// usedBy is the helpers, and behind "@" the sets, that rules refer to.
func usedBy(rs *ir.Ruleset, keep func(*ir.Rule) bool) map[string]bool {
	used := map[string]bool{}
	for _, c := range rs.Chains {
		for _, r := range c.Rules {
			if !keep(r) {
				continue
			}
			for _, m := range r.Matches {
				if l, ok := m.(ir.Lookup); ok {
					used["@"+l.Set.Name] = true
				}
			}
			for _, a := range r.Actions {
				if h, ok := a.(ir.SetHelper); ok {
					used[h.Object] = true
				}
			}
		}
	}
	return used
}

const flowtable = "fastpath"

// printer writes lines and remembers the first error.
type printer struct {
	w     *bufio.Writer
	rs    *ir.Ruleset
	opt   Options
	notes []string
	buf   []byte // the rule being printed
}

func newPrinter(w io.Writer, rs *ir.Ruleset, opt Options) *printer {
	return &printer{w: bufio.NewWriterSize(w, 1<<16), rs: rs, opt: opt}
}

func (p *printer) flush() error { return p.w.Flush() }

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
