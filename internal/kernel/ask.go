package kernel

import (
	"context"
	"iter"
	"slices"
	"strings"

	"richwall/compile/ir"
)

// mostRefused is how many rules that a tool does not understand are set aside, one run of it for each, until it is asked for each rule.
const mostRefused = 8

// shared is the rules of ours in chains that others may have rules in, by chain.
func (t *tableRules) shared() map[string][]string {
	specs := map[string][]string{}
	for _, c := range t.chains {
		if c.shared {
			specs[c.name] = c.specs
		}
	}
	return specs
}

// ask asks how the tool lists those of some rules, by chain, that may be among what it lists there and are not found as they are written:
// it is asked once for all of them. Where it cannot say, and in a check, which changes nothing, find asks for each rule.
func (e *tableEdit) ask(ctx context.Context, byChain map[string][]string) error {
	var specs []string
	for name, list := range byChain {
		specs = append(specs, e.sharedEdit(name).missed(list)...)
	}
	if len(specs) == 0 || e.k.checking {
		return nil
	}
	var err error
	e.asked, err = e.k.listTogether(ctx, e.family, e.table, specs)
	return err
}

// missed are those of some rules that no slot is known to have, if there are slots that may have them.
func (s *sharedEdit) missed(specs []string) (missed []string) {
	left := len(s.slots)
	for i, index := range s.match(specs) {
		if index >= 0 {
			left--
		} else {
			missed = append(missed, specs[i])
		}
	}
	if left == 0 {
		return nil
	}
	return missed
}

// listTogether puts rules into a chain that nothing leads to, all in one transaction, reads how the tool lists them, and takes the chain
// away: three processes for any number of rules. What the tool does not understand has no text: it is nowhere in the table. Of a rule that
// makes several, as with a list of addresses, nothing is said; of no rule where the tool refuses many, or does not name what it refuses.
func (k *iptablesKernel) listTogether(ctx context.Context, family ir.Families, table string, specs []string) (texts map[string]string, err error) {
	texts = map[string]string{}
	var tried []string
	for _, spec := range specs {
		if _, twice := texts[spec]; !twice && spec != "" && !strings.ContainsAny(spec, "\n\r\x00") {
			tried = append(tried, spec)
		}
		texts[spec] = ""
	}
	ctx = context.WithoutCancel(ctx) // the chain is not to stay
	tried, ok, err := k.tryTogether(ctx, family, table, tried)
	if err != nil || !ok {
		return nil, err
	}
	if len(tried) == 0 {
		return texts, nil
	}
	saved, err := k.read(ctx, family, table)
	removal := "*" + table + "\n-F " + trialChain + "\n-X " + trialChain + "\nCOMMIT\n"
	if _, err := k.run(ctx, removal, tool(family)+"-restore", "--noflush", waitForLock()); err != nil {
		k.options.Log.Warn("a chain stays that no packet comes to", "chain", trialChain, "table", table, "reason", err)
	}
	if err != nil {
		return nil, err
	}
	groups := slices.Collect(groupsOf(saved.rules[trialChain]))
	if len(groups) != len(tried) {
		return nil, nil
	}
	for i, spec := range tried {
		if texts[spec] = groups[i][0]; len(groups[i]) > 1 {
			delete(texts, spec)
		}
	}
	return texts, nil
}

// groupsOf are the lists of rules between those that match everything and do nothing, of which one ends each list. A list has a rule.
func groupsOf(rules []string) iter.Seq[[]string] {
	return func(yield func([]string) bool) {
		begin := 0
		for i, rule := range rules {
			if rule == "" && i > begin {
				if !yield(rules[begin:i]) {
					return
				}
				begin = i + 1
			}
		}
	}
}

// tryTogether puts those of some rules that the tool understands into the chain, each with one behind it that matches everything and does
// nothing, and returns them. Of none it makes no chain. ok says that the tool has refused only rules that it names, and few.
func (k *iptablesKernel) tryTogether(ctx context.Context, family ir.Families, table string, specs []string) (understood []string, ok bool, err error) {
	for refused := 0; len(specs) > 0; refused++ {
		lines := []string{"*" + table, ":" + trialChain + " - [0:0]"}
		for _, spec := range specs {
			lines = append(lines, "-A "+trialChain+" "+spec, "-A "+trialChain)
		}
		_, err := k.run(ctx, strings.Join(lines, "\n")+"\nCOMMIT\n", tool(family)+"-restore", "--noflush", waitForLock())
		if err == nil {
			return specs, true, nil
		}
		if passes(err) {
			return nil, false, err
		}
		at := lineNamed(err) - 3 // the table and the chain come first, and lines count from 1
		if at < 0 || at%2 != 0 || at/2 >= len(specs) || refused == mostRefused {
			return nil, false, nil
		}
		specs = slices.Delete(specs, at/2, at/2+1)
	}
	return nil, true, nil
}
