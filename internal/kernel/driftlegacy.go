package kernel

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"richwall/compile/iptables"
	"richwall/compile/ir"
)

// list remembers how the tool lists the chains of a table that a script has changed, if the family is one of whose changes the
// kernel tells nobody. A rule that another program has taken away since the script is listed as it was committed, so that the
// next review misses it.
func (k *iptablesKernel) list(ctx context.Context, s *script) {
	if !slices.Contains(k.silent, s.family) {
		return
	}
	for _, c := range s.want.chains {
		key := sharedChain{s.family, s.table, c.name}
		k.listed[key] = k.listing(ctx, key, c, s.after.rules[c.name])
	}
}

// listing is how the tool lists a chain of ours that was committed, of a partial one our rules in it. lines is what it lists now.
func (k *iptablesKernel) listing(ctx context.Context, key sharedChain, c *chainRules, lines []string) []string {
	var ours []string
	missing := false
	for i, spec := range c.specs {
		text := k.textOf(key, spec)
		switch {
		case slices.Contains(lines, text):
			ours = append(ours, text)
		case isRaw(c.rules[i]): // the tool lists it otherwise than the administrator wrote it
		default:
			there, err := k.ruleExists(ctx, key.family, key.table, key.name, words(spec))
			if err == nil && !there {
				ours, missing = append(ours, text), true
			}
		}
	}
	if !c.partial() && !missing {
		return lines
	}
	slices.SortStableFunc(ours, func(a, b string) int { return slices.Index(lines, a) - slices.Index(lines, b) })
	return ours
}

// textOf is how the tool lists a rule of ours, as far as that is known.
func (k *iptablesKernel) textOf(chain sharedChain, spec string) string {
	if text, known := k.texts[sharedRule{chain, spec}]; known {
		return text
	}
	return spec
}

// reviewSilent compares what iptables-legacy lists with what it listed after the last commit. That is all there is to find out
// what others have changed. The guard stands from then on, until a commit has put it back.
func (k *iptablesKernel) reviewSilent() {
	if k.installed == nil || k.amiss() {
		return
	}
	var list []string
	for _, family := range k.silent {
		for _, table := range iptables.Tables {
			list = append(list, k.silentDifferences(family, table)...)
		}
	}
	if len(list) > 0 {
		k.options.Log.Warn("another program has changed the rules; they are put back", "changes", strings.Join(list, "; "))
		if k.installed.Rules != nil && !k.installed.Unguarded {
			k.watch.guard.raise(k.installed.Panic)
		}
	}
	k.watch.changed, k.silently = list, list
}

// silentDifferences says what of ours in a table is not as it was committed.
func (k *iptablesKernel) silentDifferences(family ir.Families, table string) (list []string) {
	want := k.rulesOf(k.installed.Rules, family, table)
	if len(want.chains) == 0 && !k.installed.Panic {
		return nil
	}
	saved, err := k.save(context.Background(), family, table)
	if err != nil || saved == nil { // the commit says so, if it matters
		return nil
	}
	say := func(chain, what string) {
		if what != "" {
			list = append(list, fmt.Sprintf("%s, table %s, chain %s: %s", tool(family), table, chain, what))
		}
	}
	for _, c := range want.chains {
		say(c.name, k.silentDifference(sharedChain{family, table, c.name}, c, saved))
	}
	for _, chain := range builtins[table] {
		if policy := saved.policies[chain]; k.installed.Panic && table != "nat" && policy != "" && policy != "DROP" {
			say(chain, "policy was changed")
		}
	}
	return list
}

// silentDifference is what of a chain is not as it was committed; empty if all is.
func (k *iptablesKernel) silentDifference(key sharedChain, c *chainRules, saved *savedTable) string {
	lines := saved.rules[c.name]
	if d := c.countDifference(len(lines)); d != "" {
		return d
	}
	listed, known := k.listed[key]
	if known && (c.partial() && !inOrder(listed, lines) || !c.partial() && !slices.Equal(listed, lines)) {
		return "rules were changed"
	}
	return ""
}

// inOrder says whether the lines of a list are all in another one, in the same order.
func inOrder(list, all []string) bool {
	for _, line := range all {
		if len(list) > 0 && list[0] == line {
			list = list[1:]
		}
	}
	return len(list) == 0
}
