package kernel

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"richwall/compile/ir"
)

// bridgeFinder looks for what is in ebtables of what may be ours.
type bridgeFinder struct {
	tools
	known      bool // what is not noted is others'
	noted      *Bridge
	may, found *Bridge
	saved      map[string]*savedTable // by table, as ebtables-save prints it
}

// findBridge asks ebtables what is there of what is noted. Where it is not known that the note names all there is, it also asks for what
// shall be there next: a rule that is there word for word is then taken for ours, and a chain if it holds no rule that it shall not have, or
// if it has the name of one that is made for the rules of a chain of the kernel's. looked is what it has looked for: that is ours as far as it is found, and
// else is not there. A chain that other programs use stays, and is in neither. Where ebtables cannot say, and nothing is wanted of it,
// nothing is found.
func (t tools) findBridge(ctx context.Context, log *slog.Logger, noted, next *Bridge, known bool) (found, looked *Bridge, err error) {
	f := &bridgeFinder{tools: t, known: known, noted: noted.with(nil), may: noted.with(next), found: &Bridge{}}
	if known {
		f.may = f.noted
	}
	if len(f.may.Chains)+len(f.may.Rules)+len(f.may.Commands) == 0 {
		return f.found, f.may, nil
	}
	text, err := t.run(ctx, "", "ebtables-save")
	if err != nil {
		_, missing := find("ebtables-save")
		if len(next.Chains)+len(next.Rules)+len(next.Commands) > 0 || missing == nil && passes(err) {
			return nil, nil, err
		}
		log.Warn("rules of bridges that an earlier process has left stay", "reason", err)
		return f.found, &Bridge{}, nil
	}
	f.saved = tablesOf(text)
	f.findChains(ctx)
	if err := f.findRules(ctx); err != nil {
		return nil, nil, err
	}
	stay := f.used(next)
	for _, c := range stay.Chains {
		log.Warn("a chain for bridges stays: another program's rules jump to it", "chain", c.Chain, "table", c.Table)
	}
	return f.found.without(stay), f.may.without(stay), nil
}

// tablesOf takes apart what ebtables-save prints of all tables.
func tablesOf(text string) map[string]*savedTable {
	tables := map[string]*savedTable{}
	for _, part := range strings.Split("\n"+text, "\n*")[1:] {
		name, rest, _ := strings.Cut(part, "\n")
		tables[name] = parseSaved(rest)
	}
	return tables
}

func (f *bridgeFinder) hasChain(table, chain string) bool {
	return f.saved[table] != nil && slices.Contains(f.saved[table].order, chain)
}

// findChains finds chains of their own, with the rules that are there.
func (f *bridgeFinder) findChains(ctx context.Context) {
	for _, c := range f.may.Chains {
		if !f.hasChain(c.Table, c.Chain) || !f.ours(ctx, c) {
			continue
		}
		f.found.Chains = append(f.found.Chains, c)
		for _, spec := range f.rulesOf(c) {
			f.found.Rules = append(f.found.Rules, BridgeRule{c.Table, c.Chain, words(spec)})
		}
	}
}

// rulesOf is the rules of a chain that is there, without what bridgeLines puts at its end by itself.
func (f *bridgeFinder) rulesOf(c BridgeChain) []string {
	specs := f.saved[c.Table].rules[c.Chain]
	if n := len(specs); n > 0 && specs[n-1] == "-j RETURN" {
		specs = specs[:n-1]
	}
	return specs
}

// ours says whether a chain that is there, and that we have or want, is not another program's: it is noted, or nothing is lost with it, as
// it has no rules that it shall not have.
func (f *bridgeFinder) ours(ctx context.Context, c BridgeChain) bool {
	if f.known || slices.Contains(f.noted.Chains, c) || ir.IsDirectChain(c.Chain) {
		return true
	}
	others := len(f.rulesOf(c))
	for _, r := range f.may.Rules {
		if others == 0 {
			break
		}
		if r.Table == c.Table && r.Chain == c.Chain {
			if there, err := f.has(ctx, r); err == nil && there {
				others--
			}
		}
	}
	return others == 0
}

// findRules finds rules in other chains, and what commands have made.
func (f *bridgeFinder) findRules(ctx context.Context) error {
	for _, r := range f.may.Rules {
		if f.found.owns(r) {
			continue
		}
		there, err := f.has(ctx, r)
		if err != nil {
			return err
		}
		if there {
			f.found.Rules = append(f.found.Rules, r)
		}
	}
	for _, c := range f.may.Commands {
		undo, ok := undone(c)
		if !ok || f.found.ownsRuleOf(c) { // that is among the rules of the chain
			continue
		}
		there, err := f.hasRule(ctx, undo)
		if err != nil {
			return err
		}
		if there {
			f.found.Commands = append(f.found.Commands, c)
		}
	}
	return nil
}

// has says whether a rule is there.
func (f *bridgeFinder) has(ctx context.Context, r BridgeRule) (bool, error) {
	return f.hasRule(ctx, append([]string{"-t", r.Table, "-D", r.Chain}, r.Args...))
}

// hasRule says whether a command line would take out something that is there: a rule or a chain.
func (f *bridgeFinder) hasRule(ctx context.Context, undo []string) (bool, error) {
	i := slices.IndexFunc(undo, func(word string) bool { return word == "-D" || word == "-X" })
	if i+1 >= len(undo) || !f.hasChain(tableOf(undo), undo[i+1]) {
		return false, nil
	}
	if undo[i] == "-X" {
		return true, nil
	}
	if i == 0 || i == 2 { // all behind the chain is the rule: it may be there word for word
		if slices.Contains(f.saved[tableOf(undo)].rules[undo[i+1]], strings.Join(undo[i+2:], " ")) {
			return true, nil
		}
	}
	ask := slices.Clone(undo)
	ask[i] = "--check"
	_, err := f.run(ctx, "", "ebtables", ask...)
	if passes(err) {
		return false, err
	}
	return err == nil, nil
}

// othersChains is the error that chains of next are there which are not among those of was: another program has made them. What names one
// of the kernel's chains has its rules in a chain that nobody has asked for: then these are named, too.
func (t tools) othersChains(ctx context.Context, was, next *Bridge) error {
	made := filter(next.Chains, func(c BridgeChain) bool { return !slices.Contains(was.Chains, c) })
	if len(made) == 0 {
		return nil
	}
	text, err := t.run(ctx, "", "ebtables-save")
	if err != nil {
		return err
	}
	saved := tablesOf(text)
	for _, table := range bridgeTables {
		e := &BridgeError{Table: table}
		for _, c := range made {
			if c.Table != table || saved[table] == nil || !slices.Contains(saved[table].order, c.Chain) {
				continue
			}
			why := fmt.Errorf("table %s of ebtables has a chain %s already, which another program has made", table, c.Chain)
			e.Lines = append(e.Lines, BridgeLine{[]string{":" + c.Chain, "ACCEPT"}, why})
			for _, r := range next.Rules {
				if ir.IsDirectChain(c.Chain) && r.Table == table && r.Chain == c.Chain {
					e.Lines = append(e.Lines, BridgeLine{append([]string{"-A", r.Chain}, r.Args...), why})
				}
			}
		}
		if e.Lines != nil {
			e.Err = e.Lines[0].Why
			return e
		}
	}
	return nil
}

// used is the chains, with their rules, that are not wanted any more and that rules of others lead to.
func (f *bridgeFinder) used(next *Bridge) *Bridge {
	stay := &Bridge{}
	for _, c := range f.found.Chains {
		if !slices.Contains(next.Chains, c) && f.othersLeadTo(c) {
			stay.Chains = append(stay.Chains, c)
		}
	}
	for _, command := range f.found.Commands {
		undo, _ := undone(command)
		if i := slices.Index(undo, "-X"); i >= 0 && !contains(next.Commands, command) && f.othersLeadTo(BridgeChain{tableOf(undo), undo[i+1]}) {
			stay.Commands = append(stay.Commands, command)
		}
	}
	stay.Rules = filter(f.found.Rules, stay.owns)
	return stay
}

// othersLeadTo says whether there are more rules that lead to a chain than we have.
func (f *bridgeFinder) othersLeadTo(c BridgeChain) bool {
	n := 0
	for _, specs := range f.saved[c.Table].rules {
		n += count(targets(specs), c.Chain)
	}
	for _, r := range f.found.of(c.Table).Rules {
		if targetIn(r.Args) == c.Chain {
			n--
		}
	}
	for _, command := range f.found.of(c.Table).Commands {
		if targetIn(command) == c.Chain {
			n--
		}
	}
	return n > 0
}
