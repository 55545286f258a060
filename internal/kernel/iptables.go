package kernel

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"richwall/compile/iptables"
	"richwall/compile/ir"
)

// iptablesKernel is the Kernel that commits by iptables-restore, ip6tables-restore and ipset. The restore tools commit one
// table at a time; a table that fails has those before it put back.
type iptablesKernel struct {
	tools
	options  Options
	mu       sync.Mutex
	families []ir.Families          // whose programs work here
	unused   []ir.Families          // whose programs could not be used yet
	said     bool                   // that IPv6 is not filtered
	silent   []ir.Families          // those of them whose programs are iptables-legacy, of whose changes the kernel tells nobody
	kinds    map[ir.Families]string // the variants of their programs when they were found, as far as that is known
	direct   bool                   // it has only rules of the direct interface, beside nftables

	installed *Desired // nil if nothing was committed
	bridged   bridged  // of one that is not direct
	watch     watch
	held      heldChains                                  // of what is installed; nil if that is not known
	allowed   uint32                                      // the port of a process that Allow waits for; 0 if there is none
	starting  bool                                        // nothing of the firewall was committed before
	awaits    func(table, chain string, beside bool) bool // that of the Desired that is committed
	stopped   func() error                                // the error of a commit's context while there is a commit: what has begun ends, and nothing is looked for any more
	// found is what was noted as left among what is others' when the Kernel was opened, and foundKnown whether that is all. withoutLeft
	// has the first commit do without it.
	found                   leftThings
	foundKnown, withoutLeft bool
	came                    leftThings // rules and chains that the last commit has found there without a note, and taken for those of an earlier process
	running                 bool       // another Kernel has committed before a check
	checking                bool       // nothing is to be changed in the kernel
	steps                   []step     // what a commit has done that has not succeeded
	last                    []step     // what the last commit has done, of one beside nftables
	behind                  func()     // what is to be done when it stands (conclude); nil for nothing
	former                  memory     // of what was there before that
	made                    map[sharedChain]bool
	lacking                 map[sharedChain]bool               // tables, without a chain's name, that the kernel does not have
	texts                   map[sharedRule]string              // how the tool saves rules of ours
	unlisted                map[sharedChain]bool               // tables, without a chain's name, that the tool cannot list, of which the log has told
	own                     map[sharedChain]map[uint64]ownRule // rules that this process has put into chains that others may have rules in, by their handles
	addressed               map[sharedRule][]string            // what rules of the direct interface were put in as that name hosts or several addresses
	madeOf                  map[sharedChain]map[string]string  // of such tables, how the tool lists rules that may be ours, by what they are made of
	listed                  map[sharedChain][]string           // chains of silent families as the tool saved them after a commit; of a partial one our rules
	silently                []string                           // what was found of the changes of other programs by iptables-legacy, and is not put back yet
	loose                   bool                               // a process that Allow let do what it wants has changed or removed something of what is installed
	anew                    bool                               // of the commit that is going on: Desired.Anew
	// ends and despite are of the commit that is going on: the firewall ends with it, and, as then, or where panic mode ends, it goes on although
	// it cannot be found out whether some rules are there. These stay as they are; stayed names them.
	ends, despite bool
	stayed        []string
	entries       map[string]string // how many entries each set had behind the last change of one
	unsure        map[string]bool   // sets of ours that do not hold what was committed, as that could not be put back
}

// newIPTables finds the programs. IPv4's must be installed. What cannot be used just now is asked again by the first commit.
func newIPTables(o Options, direct bool) (*iptablesKernel, error) {
	k := &iptablesKernel{tools: tools{enter: o.Enter}, options: o, direct: direct, unused: []ir.Families{ir.V4, ir.V6}, kinds: map[ir.Families]string{},
		made: map[sharedChain]bool{}, lacking: map[sharedChain]bool{}, texts: map[sharedRule]string{}, listed: map[sharedChain][]string{},
		unlisted: map[sharedChain]bool{}, own: map[sharedChain]map[uint64]ownRule{}, madeOf: map[sharedChain]map[string]string{}, addressed: map[sharedRule][]string{}, unsure: map[string]bool{}, entries: map[string]string{}}
	k.found, k.foundKnown = o.Left.found()
	if _, err := find(tool(ir.V4)); err != nil && direct {
		return nil, fmt.Errorf("cannot use iptables: %w", err)
	}
	if err := k.findFamilies(context.Background()); err != nil {
		o.Log.Warn("a program cannot be used now; the next change asks it again", "reason", err)
	}
	return k, k.watchTables()
}

// findFamilies asks the programs that could not be used before. Only where the kernel has no IPv6 it is no error that IPv6's cannot
// be used.
func (k *iptablesKernel) findFamilies(ctx context.Context) error {
	for _, f := range slices.Clone(k.unused) {
		listing, err := k.run(ctx, "", tool(f), waitForLock(), "-t", "filter", "-S", "OUTPUT")
		switch {
		case err == nil, cannotList(listing, err):
			k.use(ctx, f)
		case f == ir.V4 || k.hasIPv6():
			return fmt.Errorf("cannot use %s: %w", tool(f), err)
		case !k.said:
			k.said = true
			k.options.Log.Warn("IPv6 packets are not filtered, as the kernel has no IPv6", "error", err)
		}
	}
	return nil
}

// use begins to use a program that works. Nothing of what is committed is in its tables yet.
func (k *iptablesKernel) use(ctx context.Context, f ir.Families) {
	k.unused = slices.DeleteFunc(k.unused, func(g ir.Families) bool { return g == f })
	k.families = append(k.families, f)
	slices.Sort(k.families)
	kind, err := k.kindOf(ctx, tool(f))
	if err == nil {
		k.kinds[f] = kind
	}
	if kind != "nft" {
		k.silent = append(k.silent, f)
	}
	if k.installed != nil {
		k.watch.changed = append(k.watch.changed, tool(f)+" can be used now")
	}
}

// ready says why a commit is not possible now. Rules of the direct interface need only the programs of the families that they are
// for; all other rules need both.
func (k *iptablesKernel) ready(ctx context.Context, next *Desired) error {
	err := k.findFamilies(ctx)
	if err == nil || !k.direct {
		return err
	}
	for _, f := range k.unused {
		if next.Rules != nil && slices.ContainsFunc(next.Rules.Chains, func(c *ir.Chain) bool { return c.Families&f != 0 }) {
			return err
		}
	}
	return nil
}

// checkTime is the longest that Check takes; it is a variable for tests.
var checkTime = 2 * trialTime

// Check lets the tools read what they would commit. They cannot tell about rules that look up sets that are not there yet,
// so those are left to Commit. So is what is not found out within checkTime.
func (k *iptablesKernel) Check(next *Desired) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), checkTime)
	defer cancel()
	err := k.check(ctx, next)
	var refused *RuleError
	if ctx.Err() != nil && (!errors.As(err, &refused) || refused.Origin == nil) {
		k.options.Log.Warn("not all rules could be checked in time", "limit", checkTime)
		return nil
	}
	return err
}

func (k *iptablesKernel) check(ctx context.Context, next *Desired) error {
	if _, err := verify(next, ir.IPTables, nil); err != nil {
		return err
	}
	if err := k.ready(ctx, next); err != nil {
		return err
	}
	if !k.direct {
		k.starting = k.installed == nil
	}
	before := k.remember()
	k.running, k.checking = next.Running, true
	defer func() {
		k.recall(before)
		k.running, k.checking = false, false
	}()
	k.awaits = next.Awaits
	sets, err := k.listSets(ctx)
	if err != nil {
		return err
	}
	if next.Rules != nil {
		known := *next
		known.Rules = withoutRules(next.Rules, func(s *ir.Set) bool { return sets[s.Name] != setKind(s) })
		next = &known
	}
	if err := k.findHosts(ctx, k.installed, next); err != nil {
		return err
	}
	scripts, err := k.scripts(ctx, k.installed, next)
	if err != nil {
		return err
	}
	if err := k.test(ctx, scripts); err != nil {
		return err
	}
	return k.leadNowhere(ctx, scripts)
}

// leadNowhere is the errors of direct rules that go to what is neither a target nor a chain. iptables-nft leaves that to the kernel.
func (k *iptablesKernel) leadNowhere(ctx context.Context, scripts []*script) error {
	var list []*RuleError
	for _, s := range scripts {
		direct := map[int]string{} // where the direct rules go, by line
		for line, r := range s.rules {
			if to := targetOf(s.lines[line-1]); to != "" && isRaw(r) {
				direct[line] = to
			}
		}
		nowhere := k.nowhere(ctx, s, slices.Collect(maps.Values(direct)))
		for _, line := range slices.Sorted(maps.Keys(direct)) {
			if to := direct[line]; slices.Contains(nowhere, to) {
				list = append(list, &RuleError{Origin: s.rules[line].Origin, Chain: s.chains[line],
					Err: fmt.Errorf("there is no target and no chain %s in table %s of %s", to, s.table, tool(s.family))})
			}
		}
	}
	return joined(list)
}

// nowhere are those of some names that are neither targets nor chains, be they there or made by the script.
func (k *iptablesKernel) nowhere(ctx context.Context, s *script, names []string) []string {
	known := []string{"ACCEPT", "DROP", "RETURN"}
	for _, line := range s.lines {
		if name, chain := strings.CutPrefix(line, ":"); chain {
			known = append(known, strings.Fields(name)[0])
		}
	}
	slices.Sort(names)
	unknown := func(names []string) []string {
		return filter(names, func(name string) bool { return !slices.Contains(known, name) })
	}
	names = unknown(slices.Compact(names))
	if len(names) == 0 {
		return nil
	}
	if saved, err := k.read(ctx, s.family, s.table); err == nil {
		known = saved.order
	}
	return k.couldBeMade(ctx, s, unknown(names))
}

// couldBeMade are those of some names of which chains could be made: the tools refuse all if there is a chain or a target of one of
// them. When the context has ended, there are none.
func (k *iptablesKernel) couldBeMade(ctx context.Context, s *script, names []string) []string {
	if len(names) == 0 {
		return nil
	}
	input := "*" + s.table + "\n-N " + strings.Join(names, "\n-N ") + "\nCOMMIT\n"
	_, err := k.run(ctx, input, tool(s.family)+"-restore", "--noflush", waitForLock(), "--test")
	switch half := len(names) / 2; {
	case err == nil:
		return names
	case half == 0 || ctx.Err() != nil:
		return nil
	default:
		return slices.Concat(k.couldBeMade(ctx, s, names[:half]), k.couldBeMade(ctx, s, names[half:]))
	}
}

// withoutRules is a ruleset without the rules that look up certain sets. A rule of the direct interface does so if one of its arguments is
// the name of the set.
func withoutRules(rs *ir.Ruleset, drop func(*ir.Set) bool) *ir.Ruleset {
	if !slices.ContainsFunc(rs.Sets, drop) {
		return rs
	}
	dropped := map[string]bool{}
	for _, s := range rs.Sets {
		dropped[s.Name] = drop(s)
	}
	less := *rs
	less.Chains = nil
	for _, c := range rs.Chains {
		some := *c
		some.Rules = slices.DeleteFunc(slices.Clone(c.Rules), func(r *ir.Rule) bool {
			named := slices.ContainsFunc(r.Actions, func(a ir.Action) bool {
				raw, ok := a.(ir.Raw)
				return ok && slices.ContainsFunc(raw.Args, func(arg string) bool { return dropped[arg] })
			})
			return named || slices.ContainsFunc(r.Matches, func(m ir.Match) bool {
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
	if err := k.ready(ctx, next); err != nil {
		return err
	}
	if !k.direct {
		k.starting = k.installed == nil
		k.ends, k.despite = next.ends(), next.goesOn(k.installed != nil && k.installed.Panic)
	}
	k.awaits, k.anew, k.stayed = next.Awaits, next.Anew, nil
	first := k.installed == nil && len(k.steps) == 0
	if found, known := k.options.Left.begin(first); first {
		k.found, k.foundKnown = found, known // an attempt before this one, or a note that could not be read, may have told more
	}
	k.stopped = ctx.Err
	defer func() { k.stopped = nil }()
	if err := k.findHosts(ctx, k.installed, next); err != nil {
		return cmp.Or(ctx.Err(), err)
	}
	ctx = context.WithoutCancel(ctx) // what has begun must end, one way or the other
	g := k.watch.guard
	stood := g != nil && g.up
	commit := func() error { return k.watched(func() error { return k.commitOrUndo(ctx, next) }) }
	err := error(nil)
	if k.direct {
		err = commit()
	} else {
		err = k.bridged.commit(k.watch.socket, k.options, next, commit)
	}
	if err == nil && k.anew {
		k.loose = false
	}
	if err != nil && len(k.silently) > 0 {
		k.watch.report(Foreign{Changes: k.silently})
	}
	switch {
	case k.options.Guard.check() != nil: // the start was broken off, and the guard with it
	case len(k.steps) > 0:
		k.unfinished(next)
	case g == nil:
	case err == nil:
		k.settleGuard(next)
	case len(k.silently) > 0: // it stands until that is put back
	case !stood && g.up: // it stood while rules were out of the way, and these are back, but for what another program has changed
		k.watch.unguard(k.unguard)
	}
	if err == nil && k.ends && len(k.stayed) > 0 {
		return &StayError{k.stayed}
	}
	return err
}

// StayError is that the firewall has ended but for some direct rules: it could not be found out whether they are there.
type StayError struct{ Rules []string }

func (e *StayError) Error() string {
	return "direct rules stay, if they are there, until a start can find out which they are: " + strings.Join(e.Rules, "; ")
}

// settleGuard makes the guard stand behind a commit, or takes it away.
func (k *iptablesKernel) settleGuard(next *Desired) {
	g := k.watch.guard
	g.kept = next.Guarded
	stand := g.needed(next) || len(k.watch.changed) > 0 && next.Rules != nil && !next.Unguarded
	if err := g.set(stand, next.Panic); err != nil {
		k.options.Log.Error("the guard cannot be changed", "reason", err)
	}
	g.later(k.unguard)
	k.options.Guard.settled(k.watch.socket)
}

// commitOrUndo commits, or takes back all that was done. What a commit before it has left is taken back first.
func (k *iptablesKernel) commitOrUndo(ctx context.Context, next *Desired) error {
	if err := k.unwind(ctx); err != nil {
		return fmt.Errorf("an earlier change was not made, and not all of it is taken back: %w", err)
	}
	before := k.remember()
	k.came, k.stayed = leftThings{}, nil
	err := k.commit(ctx, next)
	if err == nil {
		if k.direct {
			k.last, k.former = k.steps, before
		}
		k.steps = nil
		return nil
	}
	k.recall(before)
	if back := k.unwind(ctx); back != nil {
		k.options.Log.Error("a change was not made, and not all of it is taken back; that is tried again", "reason", back)
		return err
	}
	k.options.Left.undone(before.left, k.came)
	if k.installed == nil && !k.withoutLeft && k.found.hasRules() && !errors.Is(err, ErrBusy) {
		return k.commitWithoutLeft(ctx, next, err)
	}
	return err
}

// commitWithoutLeft commits once more, and leaves among what is others' what an earlier process has left there, as that may be why
// it was refused.
func (k *iptablesKernel) commitWithoutLeft(ctx context.Context, next *Desired, reason error) error {
	k.withoutLeft = true
	defer func() { k.withoutLeft = false }()
	err := k.commitOrUndo(ctx, next)
	if err == nil {
		k.options.Log.Error("direct rules of an earlier process that are no longer in the configuration stay: they cannot be taken out", "reason", reason)
		if errors.As(reason, new(*untriedError)) { // a later process tries again
			k.options.Left.keep(k.found.Rules)
			k.options.Left.before(leftThings{Rules: k.found.Rules})
		}
	}
	return err
}

// undoLast takes back the last commit of one beside nftables, whose own rules could not be committed behind it.
func (k *iptablesKernel) undoLast(ctx context.Context, next *Desired) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.steps, k.last, k.behind = k.last, nil, nil
	k.noteFormer()
	err := k.watched(func() error {
		k.recall(k.former)
		return k.unwind(ctx)
	})
	if k.recall(k.former); k.installed == nil {
		k.held = nil
	}
	if err != nil {
		k.options.Log.Error("rules of the direct interface are not what they were; that is tried again", "reason", err)
		k.unfinished(next)
		return
	}
	k.options.Left.undone(k.former.left, k.came)
}

// changed says whether something in the kernel was changed since the last commit, and is to be put back now.
func (k *iptablesKernel) changed() bool { return len(k.watch.changed) > 0 || k.anew && k.loose }

// amiss says whether something in the kernel is not as it was committed.
func (k *iptablesKernel) amiss() bool { return len(k.watch.changed) > 0 || len(k.steps) > 0 }

// commit commits sets, rules, and what becomes of sets after that. On an error what was done is among the steps.
func (k *iptablesKernel) commit(ctx context.Context, next *Desired) error {
	sets, err := k.planSets(ctx, next)
	if err != nil {
		return err
	}
	first := k.installed == nil
	if k.isSeenInParts(next, sets) {
		k.watch.guard.raise(next.Panic)
	}
	k.note(next, sets)
	if err := k.retypeSets(ctx, sets, next); err != nil {
		return err
	}
	if !sets.make.empty() {
		k.steps = append(k.steps, step{"sets", func(ctx context.Context) error { return k.undoSets(ctx, sets) }})
	}
	if err := k.makeSets(ctx, sets); err != nil {
		return err
	}
	if err := k.commitRules(ctx, k.installed, next); err != nil {
		return err
	}
	if err := k.wake(next); err != nil {
		return err
	}
	k.installed = next
	k.behind = func() {
		k.finishSets(ctx, sets)
		k.noteDone(ctx, next, first)
	}
	if !k.direct {
		k.endCommit()
	}
	return nil
}

// isSeenInParts says whether packets could pass between two transactions of a commit that neither what is there nor what comes lets pass: at a
// start over the rules of an earlier process, and in a reload that changes sets and rules, or several tables of a family.
func (k *iptablesKernel) isSeenInParts(next *Desired, sets *setPlan) bool {
	switch {
	case k.installed == nil:
		return next.isOverEarlier(k.options.Guard)
	case !k.anew:
		return false
	}
	for _, family := range k.families {
		parts := 0
		if !sets.make.empty() {
			parts++
		}
		if parts+differingTables(family, k.installed.Rules, next.Rules) > 1 {
			return true
		}
	}
	return false
}

// differingTables is in how many tables of a family the rules of two rulesets are not the same.
func differingTables(family ir.Families, a, b *ir.Ruleset) (n int) {
	for _, table := range iptables.Tables {
		if !rulesOf(a, family, table).equal(rulesOf(b, family, table)) {
			n++
		}
	}
	return n
}

// endCommit does what cannot be taken back behind a commit that stands: sets go that hold what was there before it.
func (k *iptablesKernel) endCommit() {
	if k.behind != nil {
		k.behind()
	}
	k.behind = nil
}

// conclude ends the last commit of one beside nftables, whose own rules are committed behind it. stopped is the error of that commit's context.
func (k *iptablesKernel) conclude(stopped func() error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.stopped = stopped
	defer func() { k.stopped = nil }()
	k.endCommit()
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
	kept         []string           // direct chains that rules of other programs stay in at a start
	gone         []goneRule         // rules in chains that are not listed, which go when the lines are done, but for those that delete chains
	begun        bool               // the lines are done, or may be: the tool was ended before it said so
	after        *savedTable        // the table behind it, once it was committed
}

// scripts are the changes from one state to another, of the tables that have any, in the order they are committed.
func (k *iptablesKernel) scripts(ctx context.Context, before, next *Desired) ([]*script, error) {
	var list []*script
	for _, family := range k.families {
		for _, table := range tablesInOrder(before, next) {
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

// tablesInOrder are the tables in the order in which they are committed. Those that tell of panic mode come first when it is switched on, and
// last when it may end: wherever a process is killed in between, the next one sees by them whose policies the others have.
func tablesInOrder(before, next *Desired) []string {
	others := filter(iptables.Tables, func(t string) bool { return !slices.Contains(panicOnly, t) })
	switch {
	case next.Panic:
		return append(slices.Clone(panicOnly), others...)
	case before == nil || before.Panic:
		return append(others, panicOnly...)
	}
	return iptables.Tables
}

// script is the change of one table; nil if there is nothing to do.
func (k *iptablesKernel) script(ctx context.Context, family ir.Families, table string, before, next *Desired) (*script, error) {
	want, was, first := rulesOf(next.Rules, family, table), &tableRules{}, before == nil
	if !first {
		was = rulesOf(before.Rules, family, table)
		if !k.changed() && was.equal(want) && before.Panic == next.Panic {
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
	k.tellUnlisted(saved, family, table)
	e := &tableEdit{k: k, saved: saved, before: was, want: want, script: &script{family: family, table: table,
		rules: map[int]*ir.Rule{}, chains: map[int]string{}, listings: map[string]listing{}}}
	if err := e.identify(ctx, first, next); err != nil {
		return nil, err
	}
	if first && !next.Succeeded {
		err = e.addLeft(ctx)
	} else {
		changed := e.had.otherThan(e.want).shared()
		err = e.ask(ctx, changed, changed)
	}
	if err != nil {
		return nil, err
	}
	if !first && k.changed() && next.Panic {
		before = nil // the policies that panic mode needs may have gone
	}
	if !k.direct {
		e.setPolicies(before, next)
	}
	return e.build(ctx)
}

// identify finds out what is ours in the table, where before and want are rules as they are written, and makes them what they are put in as. first
// says that it is not known what was committed before.
func (e *tableEdit) identify(ctx context.Context, first bool, next *Desired) error {
	k, plain := e.k, e.before
	e.before = k.asPutIn(plain, e.family, e.table)
	unfound, err := k.address(ctx, e.saved, e.family, e.table, plain, e.want)
	if err != nil {
		return err
	}
	e.want = k.asPutIn(e.want, e.family, e.table)
	may := []*tableRules{e.before}
	switch {
	case first: // an earlier process may have put in what shall be there, but for what the tool is about to refuse
		may = append(may, e.want.without(unfound, e.saved.unlisted))
	case !k.changed(): // nothing in a chain that stays is looked for
		may = []*tableRules{e.before.otherThan(e.want)}
	}
	e.asked, err = k.recognise(ctx, e.saved, e.family, e.table, k.mayBeHere(e.saved, e.family, e.table, first && !k.direct, may...))
	if e.asked == nil {
		e.asked = map[string][]string{}
	}
	for _, spec := range unfound { // which nobody asks for again
		e.asked[spec] = nil
	}
	e.had, e.absent = e.hadBefore(first, next), k.taken(e.saved, e.family, e.table)
	if untried := (*untriedError)(nil); k.despite && errors.As(err, &untried) {
		k.leaveUntried(e.family, e.table, e.saved.unlisted, untried, may...)
		e.had, e.want, err = e.had.without(untried.rules, e.saved.unlisted), e.want.without(untried.rules, e.saved.unlisted), nil
	}
	e.script.want = e.want
	return err
}

// hadBefore is what is ours in the table: what was committed before, as far as it is still there, or what an earlier process seems to have left.
func (e *tableEdit) hadBefore(first bool, next *Desired) *tableRules {
	had := &tableRules{}
	switch {
	case !first && e.k.changed():
		had = e.saved.stillThere(e.before)
	case !first:
		had = e.before
	case !e.k.direct:
		var direct leftThings
		if next.Succeeded { // the other Kernel may have some here
			noted, _ := e.k.options.Left.found()
			direct = noted.in(e.family, e.table)
		}
		had = e.saved.remains(e.table, direct)
	}
	if next.Succeeded {
		return had.withoutShared()
	}
	return had
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
	first, rest := s.parts()
	input := strings.Join(first, "\n") + "\n"
	_, err := k.run(ctx, input, tool(s.family)+"-restore", append([]string{"--noflush", waitForLock()}, args...)...)
	s.begun = len(args) == 0 && (err == nil || ended(err))
	if err == nil && s.begun && len(s.gone) > 0 {
		return k.finish(ctx, listerOf(s.family), s.table, s.gone, strings.Join(rest, "\n")+"\n")
	}
	if others := k.othersTable(listerOf(s.family), s.table, err); others != nil {
		return others
	}
	return k.further(ctx, s, err)
}

// parts are the lines that bring what is new, and those that delete chains when the rules that are to go have gone. They are apart where such
// rules are deleted by their handles.
func (s *script) parts() (first, rest []string) {
	if len(s.gone) == 0 {
		return s.lines, nil
	}
	deletes := func(line string) bool { return strings.HasPrefix(line, "-X ") }
	first = filter(s.lines, func(line string) bool { return !deletes(line) })
	if rest = filter(s.lines, deletes); len(rest) > 0 {
		rest = slices.Concat([]string{"*" + s.table}, rest, []string{"COMMIT"})
	}
	return first, rest
}

// finish deletes rules, and gives a restore tool what comes behind that, unless it is empty.
func (t tools) finish(ctx context.Context, l lister, table string, gone []goneRule, rest string) error {
	if err := t.deleteRules(ctx, l, table, gone); err != nil {
		return err
	}
	if strings.TrimSpace(rest) == "" {
		return nil
	}
	args := []string{"--noflush"}
	if l != bridgeLister {
		args = append(args, waitForLock())
	}
	_, err := t.run(ctx, rest, l.program+"-restore", args...)
	return err
}

// further is the error of a restore tool, which names one rule at a time, with all rules that the tool does not understand: each that it names
// is made one that matches everything, so that the others stay at their places, and the tool reads the script again without a change.
func (k *iptablesKernel) further(ctx context.Context, s *script, err error) error {
	lines := slices.Clone(s.lines)
	var found []*RuleError
	for until, said := time.Now().Add(trialTime), err; ; {
		var e *RuleError
		at := lineNamed(said)
		if !errors.As(s.blame(said), &e) || e.Origin == nil || time.Now().After(until) {
			break
		}
		word := strings.Fields(lines[at-1])
		place := 2 // -A CHAIN
		if len(word) > 2 && word[0] == "-I" && strings.Trim(word[2], "0123456789") == "" {
			place = 3
		}
		bare := strings.Join(word[:min(len(word), place)], " ")
		if lines[at-1] == bare {
			break
		}
		lines[at-1], found = bare, append(found, e)
		_, said = k.run(ctx, strings.Join(lines, "\n")+"\n", tool(s.family)+"-restore", "--noflush", waitForLock(), "--test")
	}
	switch len(found) {
	case 0:
		return s.blame(err)
	case 1:
		return found[0]
	}
	return joined(found)
}

// lineNamed is the line, from 1, that a restore tool names; 0 for none.
func lineNamed(err error) int {
	var said *toolError
	if !errors.As(err, &said) {
		return 0
	}
	n := 0
	if m := lineNumber.FindStringSubmatch(said.said); m != nil {
		n, _ = strconv.Atoi(m[1])
	}
	return n
}

// commitRules commits one table after the other. On an error those that were committed are among the steps.
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
	k.noteRules(next, scripts)
	for _, s := range scripts {
		if err := k.put(ctx, s); err != nil {
			return k.culprits(ctx, s, err)
		}
	}
	for _, s := range scripts {
		k.learn(s)
		for _, name := range s.kept {
			k.options.Log.Warn("rules of another program stay in a direct chain", "chain", name, "table", s.table, "program", tool(s.family))
		}
		k.list(ctx, s)
	}
	return nil
}

var lineNumber = regexp.MustCompile(`line:? (\d+)`)

// blame is the error of a restore tool with the rule it is about, as far as the tool's line number tells.
func (s *script) blame(err error) error {
	var said *toolError
	switch {
	case ended(err): // no rule is why
		return fmt.Errorf("table %s: %w", s.table, err)
	case !errors.As(err, &said):
		return err
	}
	e := &RuleError{Err: fmt.Errorf("table %s: %w", s.table, err)}
	if m := lineNumber.FindStringSubmatch(said.said); m != nil {
		n, _ := strconv.Atoi(m[1])
		if r := s.rules[n]; r != nil {
			e.Origin, e.Chain = r.Origin, s.chains[n]
			e.Err = fmt.Errorf("%s refuses the rule %q: %s", tool(s.family), s.lines[n-1], said.reason())
		}
	}
	return e
}
