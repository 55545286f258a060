package kernel

import (
	"context"
	"errors"
	"slices"
	"strings"

	"richwall/compile/ir"
)

// A tool makes several rules of a direct rule that names several addresses, and looks up the names of hosts each time it reads one. What it would
// make of such a rule is asked for once, before the rule comes: it is put in as that, a rule for each pair of addresses. From then on nothing asks a
// name server for it: rules are found, taken out, and put back as they stand there.

// isAddressed says whether a rule is put in by what the tool makes of it: it names a host or several addresses.
func isAddressed(spec string) bool {
	lists := addressesIn(words(spec))
	return slices.ContainsFunc(lists, func(list []string) bool { return len(list) > 1 || slices.ContainsFunc(list, isHost) })
}

// rulesOf is a ruleset's part for a table as it is put in.
func (k *iptablesKernel) rulesOf(rs *ir.Ruleset, family ir.Families, table string) *tableRules {
	return k.asPutIn(rulesOf(rs, family, table), family, table)
}

// asPutIn is rules of a table with what the tool makes of those that are addressed, as far as that is known.
func (k *iptablesKernel) asPutIn(t *tableRules, family ir.Families, table string) *tableRules {
	made := &tableRules{}
	for _, c := range t.chains {
		some := *c
		some.specs, some.places, some.rules = nil, nil, nil
		for i, spec := range c.specs {
			for _, text := range k.madeFrom(sharedRule{sharedChain{family, table, c.name}, spec}) {
				some.specs, some.places, some.rules = append(some.specs, text), append(some.places, c.place(i)), append(some.rules, c.rules[i])
			}
		}
		made.chains = append(made.chains, &some)
	}
	return made
}

// madeFrom is what a rule is put in as: itself, unless the tool is known to make something else of it.
func (k *iptablesKernel) madeFrom(r sharedRule) []string {
	if made, known := k.addressed[r]; known {
		return made
	}
	return []string{r.spec}
}

// address asks what the tool makes of the rules that a table shall have and has not, and that are addressed. had is what it has: that stays as it
// was put in. A check changes nothing, and asks nothing. What cannot be found out is left to the tool. unfound are the rules with a host that it
// does not find, which it refuses. The error is that the tool could not be asked.
func (k *iptablesKernel) address(ctx context.Context, saved *savedTable, family ir.Families, table string, had, want *tableRules) (unfound []string, err error) {
	asked := map[sharedRule]string{} // what is tried for each rule
	for _, c := range want.chains {
		for i, spec := range c.specs {
			key := sharedRule{sharedChain{family, table, c.name}, spec}
			if !isRaw(c.rules[i]) || !isAddressed(spec) || had.has(c.name, spec) {
				continue
			}
			delete(k.addressed, key)
			asked[key] = spec
			if to := targetOf(spec); want.chain(to) != nil && !slices.Contains(saved.order, to) {
				asked[key] = withTarget(spec, "RETURN")
			}
		}
	}
	if len(asked) == 0 || k.checking {
		return nil, nil
	}
	var specs []string
	for _, spec := range asked {
		specs = append(specs, spec)
	}
	slices.Sort(specs)
	texts, untried, err := k.listTogether(ctx, family, table, saved, slices.Compact(specs), k.stopped)
	if err != nil {
		return nil, err
	}
	for key, spec := range asked {
		switch list := texts[spec]; {
		case errors.Is(untried[spec], errNoHost):
			unfound = append(unfound, key.spec)
		case len(list) > 0 && spec != key.spec:
			k.addressed[key] = leadingTo(list, key.spec)
		case len(list) > 0:
			k.addressed[key] = list
		}
	}
	return unfound, nil
}

// has says whether a chain has a rule.
func (t *tableRules) has(chain, spec string) bool {
	c := t.chain(chain)
	return c != nil && slices.Contains(c.specs, spec)
}

// withTarget is a rule that leads elsewhere: to a target. It is the rule itself if it leads nowhere.
func withTarget(spec, target string) string {
	to := targetOf(spec)
	for _, option := range []string{"-j", "--jump", "-g", "--goto"} {
		before, behind, found := cutLast(spec, " "+option+" "+to)
		if other := before + " -j " + target + behind; found && targetOf(other) == target {
			return other
		}
	}
	return spec
}

func cutLast(s, sep string) (before, behind string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// leadingTo are rules, as the tool lists them, that lead to where another one does, and as it does.
func leadingTo(list []string, spec string) (led []string) {
	option := " -j "
	if all := words(spec); slices.Contains(all, "-g") || slices.Contains(all, "--goto") {
		option = " -g "
	}
	for _, text := range list {
		before, behind, _ := cutLast(text, " -j RETURN")
		led = append(led, before+option+targetOf(spec)+behind)
	}
	return led
}

// without is the rules but for some in some chains; nil of nil.
func (t *tableRules) without(specs, chains []string) *tableRules {
	if t == nil || len(specs) == 0 {
		return t
	}
	less := &tableRules{}
	for _, c := range t.chains {
		if !slices.Contains(chains, c.name) {
			less.chains = append(less.chains, c)
			continue
		}
		some := *c
		some.specs, some.places, some.rules = nil, nil, nil
		for i, spec := range c.specs {
			if !slices.Contains(specs, spec) {
				some.specs, some.places, some.rules = append(some.specs, spec), append(some.places, c.place(i)), append(some.rules, c.rules[i])
			}
		}
		less.chains = append(less.chains, &some)
	}
	return less
}

// otherThan is the chains that differ from those of another state of the table.
func (t *tableRules) otherThan(u *tableRules) *tableRules {
	return &tableRules{chains: filter(t.chains, func(c *chainRules) bool {
		other := u.chain(c.name)
		return other == nil || !c.equal(other)
	})}
}
