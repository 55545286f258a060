package kernel

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"time"

	"richwall/compile/ir"
)

// trialName is how the name of a chain begins in which rules are tried.
const trialName = baseChain + "_trial_"

// trialChain is where this process tries rules. No other program has a chain of that name, as it is another one in each process. Should it
// ever be left, a later start finds it among the remains of an earlier process (isTrial).
var trialChain = fmt.Sprintf("%s%06x", trialName, rand.Uint32N(1<<24))

// trialEnd is how its name goes on behind trialName: a name has no room for more.
var trialEnd = regexp.MustCompile(`^[0-9a-f]{6}$`)

// isTrial says whether a chain is, by its name, one in which this process or an earlier one has tried rules.
func isTrial(chain string) bool {
	end, ok := strings.CutPrefix(chain, trialName)
	return ok && trialEnd.MatchString(end)
}

// toTrial leads to a chain in which rules are tried, so that the kernel checks the rules for the place they are for, and no packet ever passes
// it: no mark is 1 of which no bit counts.
func toTrial(chain string) string { return "-m mark --mark 0x1/0x0 -j " + chain }

// trialTime is the longest that rules are tried. What is found by then is named.
var trialTime = 5 * time.Second

// trial finds the rules of a table that the kernel refuses where the tool does not say which, as iptables-legacy does not. It tries
// them in a chain of its own, in the kernel, as nothing else can tell.
type trial struct {
	k     *iptablesKernel
	s     *script
	saved *savedTable // the table as it is
	ctx   context.Context
	until time.Time
	extra []string // chains that rules lead to, and that are not there
	roots []string // of the kernel's chains, those that lead to what is tried now
}

// candidate is a rule that may be to blame.
type candidate struct {
	rule        *ir.Rule
	chain, spec string
	roots       []string
}

// culprits is the error of a restore tool with the rules that are to blame, as far as the tool or a trial names them.
func (k *iptablesKernel) culprits(ctx context.Context, s *script, err error) error {
	var e *RuleError
	if !errors.As(err, &e) || e.Origin != nil || e.Chain != "" {
		return err
	}
	saved, reading := k.read(ctx, s.family, s.table)
	if reading != nil {
		return err
	}
	t := &trial{k: k, s: s, saved: saved, ctx: ctx, until: time.Now().Add(trialTime)}
	var found []*RuleError
	for _, group := range t.groups() {
		for _, c := range t.run(group) {
			found = append(found, &RuleError{Origin: c.rule.Origin, Chain: c.chain,
				Err: fmt.Errorf("the kernel refuses the rule \"-A %s %s\" in table %s of %s", c.chain, c.spec, s.table, tool(s.family))})
		}
	}
	if found == nil {
		found = t.loops()
	}
	if found == nil {
		return err
	}
	return joined(found)
}

// loops are the rules of the direct interface from whose chain a packet could come to it again, which the kernel refuses too.
func (t *trial) loops() (found []*RuleError) {
	leads := leadsOf(t.s.want, t.saved)
	for line, r := range t.s.rules {
		if !isRaw(r) {
			continue
		}
		if chain := t.s.chains[line]; slices.Contains(reached(targetOf(t.s.lines[line-1]), leads), chain) {
			found = append(found, &RuleError{Origin: r.Origin, Chain: chain,
				Err: fmt.Errorf("the rule %q leads back to its own chain, in table %s of %s", t.s.lines[line-1], t.s.table, tool(t.s.family))})
		}
	}
	return found
}

// groups are the rules that a script puts into the table, by the kernel's chains that lead to them. Those of the direct interface come
// first in each, and the groups that have such rules before the others.
func (t *trial) groups() (groups [][]candidate) {
	fresh := map[*ir.Rule]bool{}
	for _, r := range t.s.rules {
		fresh[r] = true
	}
	roots, index := rootsOf(t.s.table, leadsOf(t.s.want, t.saved)), map[string]int{}
	for _, raw := range []bool{true, false} {
		for _, c := range t.s.want.chains {
			key := strings.Join(roots[c.name], " ")
			for i, r := range c.rules {
				if _, jump := r.Actions[0].(ir.Jump); jump || !fresh[r] || isRaw(r) != raw {
					continue
				}
				if _, ok := index[key]; !ok {
					index[key] = len(groups)
					groups = append(groups, nil)
				}
				at := index[key]
				groups[at] = append(groups[at], candidate{r, c.name, c.specs[i], roots[c.name]})
			}
			if !slices.Contains(t.saved.order, c.name) && !c.builtin && !slices.Contains(t.extra, c.name) {
				t.extra = append(t.extra, c.name)
			}
		}
	}
	return groups
}

// rootsOf are the kernel's chains that lead to each chain of a table.
func rootsOf(table string, leads map[string][]string) map[string][]string {
	roots := map[string][]string{}
	for _, root := range builtins[table] {
		for _, chain := range reached(root, leads) {
			roots[chain] = append(roots[chain], root)
		}
	}
	return roots
}

// leadsOf is where each chain of a table leads, by its rules as they shall be and as they are.
func leadsOf(want *tableRules, saved *savedTable) map[string][]string {
	leads := map[string][]string{}
	for name, rules := range saved.rules {
		leads[name] = targets(rules)
	}
	for _, c := range want.chains {
		leads[c.name] = append(leads[c.name], targets(c.specs)...)
	}
	return leads
}

// reached are the chains that packets can come to from one of them, and it.
func reached(from string, leads map[string][]string) []string {
	list, seen := []string{from}, map[string]bool{from: true}
	for i := 0; i < len(list); i++ {
		for _, to := range leads[list[i]] {
			if !seen[to] {
				seen[to] = true
				list = append(list, to)
			}
		}
	}
	return list
}

// run finds those of a group that the kernel refuses.
func (t *trial) run(group []candidate) (bad []candidate) {
	t.roots = group[0].roots
	var begin, end []string
	for _, chain := range append(slices.Clone(t.extra), trialChain) {
		begin = append(begin, fmt.Sprintf(":%s - [0:0]", chain))
	}
	for _, root := range t.roots {
		if !slices.Contains(t.saved.rules[root], toTrial(trialChain)) { // one that was killed may have left it
			begin = append(begin, fmt.Sprintf("-A %s %s", root, toTrial(trialChain)))
		}
		if t.saved.isUnlisted(root) {
			continue // see end
		}
		end = append(end, fmt.Sprintf("-D %s %s", root, toTrial(trialChain)))
	}
	end = append(end, "-F "+trialChain)
	for _, chain := range append([]string{trialChain}, t.extra...) {
		end = append(end, "-X "+chain)
	}
	if t.restore(begin) != nil {
		return nil
	}
	bad = t.refused(group)
	if err := t.end(end); err != nil {
		t.k.options.Log.Warn("a chain stays that no packet comes to", "chain", trialChain, "table", t.s.table, "reason", err)
	}
	return bad
}

// end takes out what leads to the trial from chains that are not listed, and makes the end.
func (t *trial) end(lines []string) error {
	saved, err := t.k.read(t.ctx, t.s.family, t.s.table)
	if err != nil {
		return err
	}
	var gone []goneRule
	for _, root := range t.roots {
		for i, body := range saved.raw[root] {
			if saved.isUnlisted(root) && slices.Contains(jumpsOf(body), trialChain) {
				gone = append(gone, saved.gone(root, i))
			}
		}
	}
	if err := t.k.deleteRules(t.ctx, listerOf(t.s.family), t.s.table, gone); err != nil {
		return err
	}
	return t.restore(lines)
}

// refused halves a group until each rule is alone that is refused.
func (t *trial) refused(group []candidate) []candidate {
	if time.Now().After(t.until) {
		return nil
	}
	lines := []string{fmt.Sprintf(":%s - [0:0]", trialChain)}
	for _, c := range group {
		lines = append(lines, fmt.Sprintf("-A %s %s", trialChain, c.spec))
	}
	err := t.restore(lines)
	switch {
	case err == nil, ended(err), !errors.As(err, new(*toolError)): // a tool that was ended has refused nothing
		return nil
	case len(group) == 1:
		return group
	}
	half := len(group) / 2
	return append(slices.Clone(t.refused(group[:half])), t.refused(group[half:])...)
}

func (t *trial) restore(lines []string) error {
	input := "*" + t.s.table + "\n" + strings.Join(lines, "\n") + "\nCOMMIT\n"
	_, err := t.k.run(t.ctx, input, tool(t.s.family)+"-restore", "--noflush", waitForLock())
	return err
}
