package kernel

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"richwall/compile/iptables"
	"richwall/compile/ir"
)

// tableRules is what is ours in one table of one family.
type tableRules struct{ chains []*chainRules }

// chainRules is a chain of ours, or our part of one of the kernel's chains or of another program's.
type chainRules struct {
	name     string
	builtin  bool
	shared   bool       // rules of others stand around each of ours; in a chain of the kernel's that is not, ours stand together
	declared bool       // of a shared chain: it is made here
	specs    []string   // rules as iptables-save prints them, or as the administrator wrote them
	places   []int      // in a shared chain, where each of specs goes: see ir.Rule
	rules    []*ir.Rule // for each of specs; nil for what an earlier process left
	unknown  bool       // specs are not known
	again    bool       // specs must be put in anew, though they are there
	guessed  bool       // specs may be there less often than this has them
	loose    bool       // where specs are says nothing about where those that come go
}

// partial says whether others may have rules in the chain.
func (c *chainRules) partial() bool { return c.builtin || c.shared }

func (c *chainRules) place(i int) int {
	if c.places == nil {
		return 0
	}
	return c.places[i]
}

// only is the part of a chain whose rules go to certain places; of nil it is empty.
func (c *chainRules) only(group func(place int) bool) *chainRules {
	some := &chainRules{}
	if c == nil {
		return some
	}
	some.again = c.again
	for i, spec := range c.specs {
		if place := c.place(i); group(place) {
			some.specs, some.places, some.rules = append(some.specs, spec), append(some.places, place), append(some.rules, c.rules[i])
		}
	}
	return some
}

// rulesOf is a ruleset's part for a table; nil rules have none.
func rulesOf(rs *ir.Ruleset, family ir.Families, table string) *tableRules {
	t := &tableRules{}
	if rs == nil {
		return t
	}
	for _, c := range rs.Chains {
		if c.Table != table || c.Families&family == 0 {
			continue
		}
		chain := &chainRules{name: c.Name, builtin: c.Builtin || isBuiltin(table, c.Name), shared: c.Shared, declared: c.Declared}
		for _, r := range c.Rules {
			if r.Families&family != 0 {
				spec, err := iptables.Spec(nil, r, family)
				if err != nil {
					panic("internal error: a rule was not verified: " + err.Error())
				}
				chain.specs = append(chain.specs, strings.TrimPrefix(string(spec), " "))
				chain.rules = append(chain.rules, r)
				chain.places = append(chain.places, r.Place)
			}
		}
		t.chains = append(t.chains, chain)
	}
	return t
}

// builtins are the kernel's chains, of the tables in use.
var builtins = map[string][]string{
	"security": {"INPUT", "FORWARD", "OUTPUT"},
	"raw":      {"PREROUTING", "OUTPUT"},
	"mangle":   {"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"},
	"filter":   {"INPUT", "FORWARD", "OUTPUT"},
	"nat":      {"PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"},
}

func isBuiltin(table, chain string) bool { return slices.Contains(builtins[table], chain) }

func (t *tableRules) chain(name string) *chainRules {
	for _, c := range t.chains {
		if c.name == name {
			return c
		}
	}
	return nil
}

func (t *tableRules) equal(u *tableRules) bool {
	return slices.EqualFunc(t.chains, u.chains, func(a, b *chainRules) bool { return a.name == b.name && a.equal(b) })
}

func (c *chainRules) equal(d *chainRules) bool {
	return !c.unknown && !d.unknown && !c.again && !d.again && c.shared == d.shared && c.declared == d.declared && slices.Equal(c.specs, d.specs) && slices.Equal(c.places, d.places)
}

// matters says whether packets would notice that the table is missing.
func (t *tableRules) matters() bool {
	for _, c := range t.chains {
		for _, r := range c.rules {
			if _, jump := r.Actions[0].(ir.Jump); !jump {
				return true
			}
		}
	}
	return false
}

// tableEdit makes the script from what is ours in a table now to what shall be.
type tableEdit struct {
	*script
	k         *iptablesKernel
	saved     *savedTable
	before    *tableRules // what was committed last
	had, want *tableRules
	asked     map[string][]string // how the tool lists rules of ours, as it was asked: see listTogether
	absent    map[sharedRule]bool // rules of ours that are not there, as no listed one can be them
}

func (e *tableEdit) line(format string, args ...any) {
	e.lines = append(e.lines, fmt.Sprintf(format, args...))
}

// rule adds a line with a rule.
func (e *tableEdit) rule(chain string, r *ir.Rule, format string, args ...any) {
	e.line(format, args...)
	e.rules[len(e.lines)+1], e.chains[len(e.lines)+1] = r, chain // the first line of the input names the table
}

// setPolicies sets what the kernel's chains do with what no rule decided: when rulesets begin, and when panic mode does or
// ends. What policy they had before is not known then, as that of panic mode may be of an earlier process; one that somebody else sets between
// these moments stays until the next of them. In panic mode raw drops every packet that
// comes in or is sent, before any rule of the other tables sees it; nat cannot drop.
func (e *tableEdit) setPolicies(before, next *Desired) {
	if before != nil && before.Panic == next.Panic && (before.Rules == nil) == (next.Rules == nil) {
		return
	}
	if before == nil && next.Rules == nil && !next.Panic {
		return
	}
	policy := "ACCEPT"
	if next.Panic && e.table != "nat" {
		policy = "DROP"
	}
	for _, chain := range builtins[e.table] {
		if had, ok := e.saved.policies[chain]; ok && had != policy {
			e.line(":%s %s [0:0]", chain, policy)
		}
	}
}

// build is the script; nil if there is nothing to do.
func (e *tableEdit) build(ctx context.Context) (*script, error) {
	if err := e.outlived(); err != nil {
		return nil, err
	}
	var stale []string
	for _, c := range e.had.chains {
		if !c.partial() && e.want.chain(c.name) == nil {
			stale = append(stale, c.name)
		}
	}
	changed, err := e.declareChanged()
	if err != nil {
		return nil, err
	}
	for _, name := range stale {
		e.line("-F %s", name)
	}
	if err := e.replaceBuiltins(ctx); err != nil {
		return nil, err
	}
	if err := e.editShared(ctx); err != nil {
		return nil, err
	}
	for _, c := range changed {
		for i, spec := range c.specs {
			e.rule(c.name, c.rules[i], "-A %s %s", c.name, spec)
		}
	}
	for _, name := range stale {
		if by := e.usedByOthers(name, stale); by != "" {
			e.k.options.Log.Warn("an empty chain stays: another program's rules jump to it", "chain", name, "table", e.table, "from", by)
			continue
		}
		e.line("-X %s", name)
	}
	e.removeShared(stale)
	if len(e.lines) == 0 && len(e.gone) == 0 {
		return nil, nil
	}
	e.lines = append(append([]string{"*" + e.table}, e.lines...), "COMMIT")
	return e.script, nil
}

// declareChanged makes or empties the chains of ours that differ, and returns them. Those of others it makes where they are
// missing.
func (e *tableEdit) declareChanged() ([]*chainRules, error) {
	var changed []*chainRules
	for _, c := range e.want.chains {
		if c.shared {
			if err := e.makeShared(c); err != nil {
				return nil, err
			}
			continue
		}
		if had := e.had.chain(c.name); !c.builtin && (had == nil || !had.equal(c)) {
			e.line(":%s - [0:0]", c.name)
			changed = append(changed, c)
		}
	}
	return changed, nil
}

// replaceBuiltins puts our rules into the kernel's chains, in the place where ours were, or at the end if there were none.
// Rules that are not ours stay where they are.
func (e *tableEdit) replaceBuiltins(ctx context.Context) error {
	for _, name := range builtins[e.table] {
		had, want := e.had.chain(name), e.want.chain(name)
		if had != nil && had.shared || want != nil && want.shared {
			continue
		}
		if had == nil {
			had = &chainRules{name: name}
		}
		if want == nil {
			want = &chainRules{name: name}
		}
		if had.equal(want) {
			continue
		}
		place, err := e.deleteOld(ctx, had)
		if err != nil {
			return err
		}
		if had.loose {
			place = 0
		}
		for i, spec := range want.specs {
			if place == 0 {
				e.rule(name, want.rules[i], "-A %s %s", name, spec)
			} else {
				e.rule(name, want.rules[i], "-I %s %d %s", name, place+i, spec)
			}
		}
	}
	return nil
}

// deleteOld deletes our rules from one of the kernel's chains as far as they are still there. place is the number of the
// first of them, from 1; 0 if there was none.
func (e *tableEdit) deleteOld(ctx context.Context, had *chainRules) (place int, err error) {
	saved, deleted := slices.Clone(e.saved.rules[had.name]), 0
	for i, spec := range had.specs {
		at := slices.Index(saved, spec)
		for _, name := range e.names(had.name, spec) {
			if at < 0 {
				at = slices.Index(saved, name)
			}
		}
		if at < 0 {
			found, err := e.thereBy(ctx, had.name, spec)
			if err != nil {
				return 0, err
			}
			if !found {
				continue
			}
		} else {
			saved[at] = deletedRule
			if place == 0 {
				place = max(at-i, 0) + 1
			}
		}
		if e.saved.isUnlisted(had.name) {
			e.gone = append(e.gone, e.saved.gone(had.name, at))
			continue
		}
		e.line("-D %s %s", had.name, e.deletion(had.name, spec))
		deleted++
	}
	return min(place, len(saved)-deleted+1), nil
}

// thereBy says whether a rule of ours is in one of the kernel's chains that is not listed as it is written, nor as the tool is known to list
// it. One that was asked for is there if the tool makes several of it, and was found by them. Else the tool itself must say.
func (e *tableEdit) thereBy(ctx context.Context, chain, spec string) (bool, error) {
	if e.saved.isUnlisted(chain) {
		return false, nil
	}
	if texts, asked := e.asked[spec]; asked {
		return len(texts) > 1, nil
	}
	if err := ctx.Err(); err != nil {
		return false, err
	}
	return e.k.ruleExists(ctx, e.family, e.table, chain, words(spec))
}

// deletedRule stands for a rule that lines before have deleted.
const deletedRule = "# deleted"

// words takes a rule apart at its blanks, as the restore tools do: what is in quotes is one word, and a backslash there
// takes the next character as it is.
func words(spec string) []string {
	var list []string
	var word strings.Builder
	quoted, begun := false, false
	for i := 0; i < len(spec); i++ {
		switch c := spec[i]; {
		case c == '"':
			quoted, begun = !quoted, true
		case c == '\\' && quoted && i+1 < len(spec):
			i++
			word.WriteByte(spec[i])
		case c == ' ' && !quoted:
			if begun {
				list = append(list, word.String())
			}
			word.Reset()
			begun = false
		default:
			word.WriteByte(c)
			begun = true
		}
	}
	if begun {
		list = append(list, word.String())
	}
	return list
}

// usedByOthers is a chain that jumps to one of ours that is to go, and is not ours; empty if there is none.
func (e *tableEdit) usedByOthers(name string, stale []string) string {
	for _, chain := range e.saved.order {
		own := e.had.chain(chain)
		next := e.want.chain(chain)
		if own != nil && !own.partial() || slices.Contains(stale, chain) || next != nil && !next.partial() {
			continue
		}
		theirs := count(targets(e.saved.rules[chain]), name)
		if own != nil {
			theirs -= count(targets(own.specs), name)
		}
		if theirs > 0 {
			return chain
		}
	}
	return ""
}

func count(list []string, name string) int {
	n := 0
	for _, v := range list {
		if v == name {
			n++
		}
	}
	return n
}
