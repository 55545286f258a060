package kernel

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"richwall/compile/iptables"
	"richwall/compile/ir"
)

// iptablesKernel is the Kernel that commits by iptables-restore, ip6tables-restore and ipset. The restore tools commit one
// table at a time; a table that fails has those before it put back.
type iptablesKernel struct {
	tools
	options  Options
	mu       sync.Mutex
	families []ir.Families // whose programs work here
	silent   []ir.Families // those of them whose programs are iptables-legacy, of whose changes the kernel tells nobody
	direct   bool          // it has only rules of the direct interface, beside nftables

	installed *Desired // nil if it is not known what the kernel has
	watch     watch
	held      heldChains // of what is installed; nil if that is not known
	starting  bool       // nothing of the firewall was committed before
	// found is what was noted as left among what is others' when the Kernel was opened, and foundKnown whether that is all. withoutLeft
	// has the first commit do without it.
	found                   leftThings
	foundKnown, withoutLeft bool
	made                    map[sharedChain]bool
	lacking                 map[sharedChain]bool     // tables, without a chain's name, that the kernel does not have
	texts                   map[sharedRule]string    // how the tool saves rules of ours
	listed                  map[sharedChain][]string // chains of silent families as the tool saved them after a commit; of a partial one our rules
}

// newIPTables finds the programs. IPv4's must be there; IPv6's may be missing where the kernel lacks IPv6.
func newIPTables(o Options, direct bool) (*iptablesKernel, error) {
	k := &iptablesKernel{tools: tools{enter: o.Enter}, options: o, direct: direct, made: map[sharedChain]bool{}, lacking: map[sharedChain]bool{}, texts: map[sharedRule]string{}, listed: map[sharedChain][]string{}}
	k.found, k.foundKnown = o.Left.found()
	for _, f := range []ir.Families{ir.V4, ir.V6} {
		_, err := k.run(context.Background(), "", tool(f), waitForLock(), "-t", "filter", "-S", "OUTPUT")
		switch {
		case err == nil:
			k.families = append(k.families, f)
			if version, err := k.run(context.Background(), "", tool(f), "--version"); err != nil || !strings.Contains(version, "nf_tables") {
				k.silent = append(k.silent, f)
			}
		case f == ir.V4:
			return nil, fmt.Errorf("cannot use iptables: %w", err)
		default:
			o.Log.Warn("IPv6 packets are not filtered: ip6tables cannot be used", "error", err)
		}
	}
	return k, k.watchTables()
}

// current is what was committed last; empty if nothing was.
func (k *iptablesKernel) current() *Desired {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.installed == nil {
		return &Desired{}
	}
	return k.installed
}

// Check lets the tools read what they would commit. They cannot tell about rules that look up sets that are not there yet,
// so those are left to Commit.
func (k *iptablesKernel) Check(next *Desired) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, err := verify(next, ir.IPTables, nil); err != nil {
		return err
	}
	ctx := context.Background()
	sets, err := k.listSets(ctx)
	if err != nil {
		return err
	}
	if next.Rules != nil {
		known := *next
		known.Rules = withoutRules(next.Rules, func(s *ir.Set) bool { return sets[s.Name] != s.Type })
		next = &known
	}
	scripts, err := k.scripts(ctx, k.installed, next)
	if err != nil {
		return err
	}
	return k.test(ctx, scripts)
}

// withoutRules is a ruleset without the rules that look up certain sets.
func withoutRules(rs *ir.Ruleset, drop func(*ir.Set) bool) *ir.Ruleset {
	if !slices.ContainsFunc(rs.Sets, drop) {
		return rs
	}
	less := *rs
	less.Chains = nil
	for _, c := range rs.Chains {
		some := *c
		some.Rules = slices.DeleteFunc(slices.Clone(c.Rules), func(r *ir.Rule) bool {
			return slices.ContainsFunc(r.Matches, func(m ir.Match) bool {
				l, ok := m.(ir.Lookup)
				return ok && drop(l.Set)
			})
		})
		less.Chains = append(less.Chains, &some)
	}
	return &less
}

func (k *iptablesKernel) Commit(ctx context.Context, next *Desired) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := k.options.Guard.check(); err != nil && !k.direct { // the nftables back end has asked, and puts back what was
		return err
	}
	if _, err := verify(next, ir.IPTables, nil); err != nil {
		return err
	}
	if !k.direct {
		k.starting = k.installed == nil
	}
	ctx = context.WithoutCancel(ctx) // what has begun must end, one way or the other
	err := k.watched(func() error { return k.commitOrUndo(ctx, next) })
	if g := k.watch.guard; err == nil && g != nil && k.options.Guard.check() == nil {
		stand := g.needed(next) || len(k.watch.changed) > 0 && next.Rules != nil && !next.Unguarded
		if err := g.set(stand, next.Panic); err != nil {
			k.options.Log.Error("what is new is dropped until the next change", "reason", err)
		}
		g.later(k.unguard)
		k.options.Guard.settled(k.watch.socket)
	}
	return err
}

func (k *iptablesKernel) commitOrUndo(ctx context.Context, next *Desired) error {
	before := k.installed
	err := k.commit(ctx, next)
	if err != nil && before == nil && !errors.Is(err, ErrBusy) && k.found.hasRules() {
		k.withoutLeft = true
		again := k.commit(ctx, next)
		k.withoutLeft = false
		if again == nil {
			k.options.Log.Error("direct rules of an earlier process that are no longer in the configuration stay: they cannot be taken out", "reason", err)
		}
		return again
	}
	if err != nil && before != nil && k.installed != nil && k.installed != before {
		// Sets had to be made anew, which took rules out of the way first.
		if back := k.commit(ctx, before); back != nil {
			k.options.Log.Error("rules that look up sets could not be put back", "error", back)
		}
	}
	return err
}

// commit commits sets, rules, and what becomes of sets after that.
func (k *iptablesKernel) commit(ctx context.Context, next *Desired) error {
	sets, err := k.planSets(ctx, next)
	if err != nil {
		return err
	}
	first := k.installed == nil
	k.note(next)
	if err := k.retypeSets(ctx, sets, next); err != nil {
		return err
	}
	if err := k.makeSets(ctx, sets); err != nil {
		k.undoSets(ctx, sets)
		return err
	}
	if err := k.commitRules(ctx, k.installed, next); err != nil {
		k.undoSets(ctx, sets)
		return err
	}
	k.installed = next
	k.finishSets(ctx, sets)
	k.noteDone(next, first)
	return nil
}

// script is the input of a restore tool for one table.
type script struct {
	family ir.Families
	table  string
	lines  []string
	rules  map[int]*ir.Rule // by line, from 1
	chains map[int]string   // the chain of those

	want         *tableRules        // what is ours in the table behind it
	listings     map[string]listing // of shared chains that it changes, behind it
	made, unmade []string           // shared chains that it makes and removes
}

// scripts are the changes from one state to another, of the tables that have any, in the order they are committed.
func (k *iptablesKernel) scripts(ctx context.Context, before, next *Desired) ([]*script, error) {
	var list []*script
	for _, family := range k.families {
		for _, table := range iptables.Tables {
			s, err := k.script(ctx, family, table, before, next)
			if err != nil {
				return nil, err
			}
			if s != nil {
				list = append(list, s)
			}
		}
	}
	return list, nil
}

func (k *iptablesKernel) script(ctx context.Context, family ir.Families, table string, before, next *Desired) (*script, error) {
	want := rulesOf(next.Rules, family, table)
	was, had, first := &tableRules{}, (*tableRules)(nil), before == nil
	if before != nil {
		was = rulesOf(before.Rules, family, table)
		had = was
		if len(k.watch.changed) == 0 && had.equal(want) && before.Panic == next.Panic {
			return nil, nil
		}
	}
	saved, err := k.save(ctx, family, table)
	if err != nil {
		return nil, err
	}
	k.lacking[sharedChain{family: family, table: table}] = saved == nil
	if saved == nil {
		if want.matters() {
			return nil, fmt.Errorf("cannot use table %s of %s: the kernel does not have it", table, tool(family))
		}
		return nil, nil
	}
	switch {
	case had != nil && len(k.watch.changed) > 0:
		had = saved.stillThere(had)
		if next.Panic {
			before = nil // the policies that panic mode needs may have gone
		}
	case had != nil:
	case k.direct:
		had = &tableRules{}
	default:
		had = saved.remains()
	}
	if next.Succeeded {
		had = had.withoutShared()
	}
	e := &tableEdit{k: k, saved: saved, before: was, had: had, want: want, script: &script{family: family, table: table, want: want,
		rules: map[int]*ir.Rule{}, chains: map[int]string{}, listings: map[string]listing{}}}
	if first && !next.Succeeded {
		if err := e.addLeft(ctx); err != nil {
			return nil, err
		}
	}
	if !k.direct {
		e.setPolicies(before, next)
	}
	return e.build(ctx)
}

// test lets the tools read all scripts, and shows what they do not understand before anything is changed. A script alone
// is all or nothing by itself.
func (k *iptablesKernel) test(ctx context.Context, scripts []*script) error {
	for _, s := range scripts {
		if err := k.restore(ctx, s, "--test"); err != nil {
			return err
		}
	}
	return nil
}

func (k *iptablesKernel) restore(ctx context.Context, s *script, args ...string) error {
	input := strings.Join(s.lines, "\n") + "\n"
	_, err := k.run(ctx, input, tool(s.family)+"-restore", append([]string{"--noflush", waitForLock()}, args...)...)
	return s.blame(err)
}

// commitRules commits one table after the other, and puts back those that were committed when one fails.
func (k *iptablesKernel) commitRules(ctx context.Context, before, next *Desired) error {
	scripts, err := k.scripts(ctx, before, next)
	if err != nil {
		return err
	}
	if len(scripts) > 1 {
		if err := k.test(ctx, scripts); err != nil {
			return err
		}
	}
	k.noteChains(scripts)
	for i, s := range scripts {
		err := k.restore(ctx, s)
		if err == nil {
			k.learn(ctx, s)
			k.list(ctx, s)
			continue
		}
		if before == nil {
			before = &Desired{} // what an earlier process left is not put back
		}
		for _, done := range slices.Backward(scripts[:i]) {
			back, scriptErr := k.script(ctx, done.family, done.table, next, before)
			if scriptErr == nil && back != nil {
				scriptErr = k.restore(ctx, back)
				k.learn(ctx, back)
				k.list(ctx, back)
			}
			if scriptErr != nil {
				k.options.Log.Error("a table could not be put back", "table", done.table, "error", scriptErr)
				k.installed = nil
			}
		}
		return err
	}
	return nil
}

var lineNumber = regexp.MustCompile(`line:? (\d+)`)

// blame is the error of a restore tool with the rule it is about, as far as the tool's line number tells.
func (s *script) blame(err error) error {
	var said *toolError
	if !errors.As(err, &said) {
		return err
	}
	e := &RuleError{Err: fmt.Errorf("table %s: %w", s.table, err)}
	if m := lineNumber.FindStringSubmatch(said.said); m != nil {
		n, _ := strconv.Atoi(m[1])
		if r := s.rules[n]; r != nil {
			e.Origin, e.Chain = r.Origin, s.chains[n]
			reason := strings.TrimSpace(strings.SplitN(said.said, "\n", 2)[0])
			e.Err = fmt.Errorf("%s refuses the rule %q: %s", tool(s.family), s.lines[n-1], reason)
		}
	}
	return e
}
