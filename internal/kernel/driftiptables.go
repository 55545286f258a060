package kernel

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"richwall/compile/iptables"
	"richwall/compile/ir"
)

// heldChains are chains of iptables' tables as nf_tables has them: what iptables-nft makes. Those of iptables-legacy are not
// among them, and nobody tells of their changes. A part of kind dormantPart among them is a table that is dormant.
type heldChains map[part]*heldChain

type heldChain struct {
	rules   []liveRule // in order; of a partial chain ours alone
	partial bool       // others have rules in it too
	policy  uint32     // of one of the kernel's chains: NF_DROP or NF_ACCEPT
	lacks   string     // what of it is not as it was committed, since the commit itself; empty if all is
}

// removed is what a chain lacks that is not there.
const removed = "was removed"

// watchTables begins to listen for changes of iptables' tables. Where the kernel has no nf_tables there is nothing to hear.
func (k *iptablesKernel) watchTables() error {
	var s *socket
	var err error
	if k.direct { // the guard is that of the nftables back end beside it
		s, err = openSocket(k.options.Enter)
	} else {
		s, err = k.options.Guard.takeSocket(k.options)
	}
	if err == nil {
		err = k.useGuard(s)
	}
	if err != nil {
		if s != nil {
			err = errors.Join(err, k.options.Guard.closeSocket(s))
		}
		k.options.Log.Debug("changes by other programs are not noticed", "reason", err)
		return nil
	}
	k.watch.socket, k.watch.log = s, k.options.Log
	k.watch.monitor, err = newMonitor(k.options.Log, k.options.Enter, 0, func(p part) bool {
		return isIPTables(p) || !k.direct && mayStop(p)
	})
	if err != nil {
		return errors.Join(err, k.options.Guard.closeSocket(s))
	}
	return nil
}

// useGuard finds out whether the kernel has nf_tables, and a guard with that.
func (k *iptablesKernel) useGuard(s *socket) error {
	if _, err := s.generation(); err != nil || k.direct {
		return err
	}
	owner, err := s.canOwn()
	if err == nil {
		k.watch.guard, err = newGuard(s, k.options.Guard.port(), owner, k.options.Log)
	}
	return err
}

// Close ends listening: the tools leave nothing behind. A socket that nothing was committed with goes back to the Guard it came
// from.
func (k *iptablesKernel) Close() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.watch.guard.stop()
	if k.watch.monitor == nil {
		return nil
	}
	return errors.Join(k.watch.monitor.close(), k.options.Guard.closeSocket(k.watch.socket))
}

// Guarded implements Sentinel.
func (k *iptablesKernel) Guarded() bool { return k.watch.guard.stands() }

// KeepOut implements Guarder. What the tools of another Kernel have done until now is not taken for another program's.
func (k *iptablesKernel) KeepOut(ctx context.Context, panicked bool) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.keepOut(ctx, panicked)
}

// KeepOutAlone implements Guarder.
func (k *iptablesKernel) KeepOutAlone(ctx context.Context, panicked bool) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.watch.guard.aside(); err != nil {
		return err
	}
	return k.keepOut(ctx, panicked)
}

// keepOut is KeepOut by one who holds the lock.
func (k *iptablesKernel) keepOut(ctx context.Context, panicked bool) error {
	if k.watch.monitor != nil {
		if err := k.review(); err != nil { // it is done again
			k.options.Log.Warn(err.Error())
		}
	}
	return k.watch.keepOut(ctx, k.options.Guard, panicked)
}

// Watch implements Watcher.
func (k *iptablesKernel) Watch(f func(Foreign)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.watch.told = f
	if k.watch.monitor != nil {
		go k.watch.follow(k.look)
	}
}

// Allow implements Watcher.
func (k *iptablesKernel) Allow(f func(started func(pid int)) error) error {
	k.mu.Lock()
	unlock := sync.OnceFunc(k.mu.Unlock)
	defer unlock()
	if err := k.review(); err != nil {
		return err
	}
	err := f(func(pid int) { // until now nobody has looked at what the process may have done already
		k.allowed = uint32(pid)
		unlock()
	})
	unlock() // there may have been no process
	k.mu.Lock()
	defer k.mu.Unlock()
	err = errors.Join(err, k.review())
	k.allowed = 0
	return err
}

// adopt reviews while a process may change what it wants: it takes the chains of ours for what was committed, as that process has
// changed them since the last review. The chains that others have changed meanwhile stay what they were, so that the change is
// found. Where it is not known who has changed what, all do.
func (k *iptablesKernel) adopt() error {
	now, _, err := k.readHeld()
	if err != nil {
		return err
	}
	generation, err := k.watch.socket.generation() // behind the reading: what is heard up to it is all that was read
	if err != nil {
		return err
	}
	if !k.watch.monitor.reached(generation) {
		k.watch.suspect = true
		k.watch.monitor.wakeUp()
		return nil
	}
	others := slices.DeleteFunc(k.watch.monitor.between(k.watch.generation, generation), func(t transaction) bool { return t.port == k.allowed })
	by, old := k.writers(others), k.held
	// In the kernel's chains ours are still the same: what the program has put there is not.
	k.keep(now, func(p part, r liveRule) bool { return old[p] != nil && slices.Contains(old[p].rules, r) })
	for p, was := range old {
		if slices.ContainsFunc(others, func(t transaction) bool { return t.touched(p) }) {
			k.held[p] = was
		} else if k.differs(p, was, now[p]) {
			k.loose = true
		}
	}
	k.watch.generation = generation
	k.watch.note(k.against(now), by)
	return nil
}

// look reviews what was heard, and returns what nobody was told of yet. As long as something is not as it was committed, the
// guard stands.
func (k *iptablesKernel) look() []Foreign {
	k.mu.Lock()
	defer k.mu.Unlock()
	defer k.watch.looking()()
	if k.watch.monitor.ended() || k.options.Guard.check() != nil {
		return nil
	}
	if err := k.review(); err != nil {
		k.options.Log.Error(err.Error())
	}
	switch {
	case k.installed == nil || k.installed.Rules == nil:
	case !k.amiss():
		k.watch.unguard(k.unguard)
	case !k.installed.Unguarded:
		k.watch.guard.raise(k.installed.Panic)
	}
	return k.watch.reports()
}

// unguard takes the guard away if all has been as it should be for long enough; else it is tried again.
func (k *iptablesKernel) unguard() {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.watch.monitor.ended() || len(k.steps) > 0:
	case k.installed == nil: // a first commit that was refused has raised it
		k.watch.unguard(k.unguard)
	case k.installed.Rules != nil:
		k.watch.reviewAndUnguard(k.review, k.unguard)
	}
}

// lost says whether something is not as it was committed, and rules of the direct interface that could drop a packet are among that
// or may no longer be come to; or whether it is not known what of a change that failed is there.
func (k *iptablesKernel) lost() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.steps) > 0 {
		return true
	}
	if len(k.watch.changed) == 0 || k.installed == nil || k.installed.Rules == nil {
		return false
	}
	return slices.ContainsFunc(k.installed.Rules.Chains, func(c *ir.Chain) bool { return slices.ContainsFunc(c.Rules, mayDrop) })
}

// harmless are targets of iptables with which no packet is dropped: that one is not there lets no packet pass which would not
// pass with it.
var harmless = []string{"ACCEPT", "RETURN", "LOG", "NFLOG", "TCPMSS", "DNAT", "SNAT", "MASQUERADE", "REDIRECT", "NETMAP"}

// mayDrop says whether a rule of the direct interface could drop a packet: by its target, or in the chain that it leads to, which may
// be another program's.
func mayDrop(r *ir.Rule) bool {
	return slices.ContainsFunc(r.Actions, func(a ir.Action) bool {
		raw, ok := a.(ir.Raw)
		return ok && !slices.Contains(harmless, targetIn(raw.Args))
	})
}

// review finds out whether what is installed is still there. Of what a failed commit has left it is known that it is not.
func (k *iptablesKernel) review() error {
	switch {
	case k.installed == nil || k.held == nil || len(k.steps) > 0:
		return nil
	case k.allowed != 0 && len(k.watch.changed) == 0: // once something is to be put back, all is
		return k.adopt()
	}
	return k.watch.review(k)
}

// watched calls f, which commits, and notes what the kernel has after it: f's tools are other programs to nf_tables, so that
// their rules are known by what there was before. Another program may change them before they are read: they are compared
// with what was to be committed, and what differs is noted as changed.
func (k *iptablesKernel) watched(f func() error) error {
	if k.watch.monitor == nil {
		k.reviewSilent()
		return k.settle(f(), nil)
	}
	if err := k.review(); err != nil {
		return err
	}
	before, begun, reading := k.readHeld()
	k.reviewRead(before, begun, reading)
	k.reviewSilent()
	committed := f()
	if k.options.Guard.check() != nil && !k.direct { // the socket is closed, and nobody wants to know any more
		return committed
	}
	now, generation, err := k.readHeld()
	switch err = cmp.Or(reading, err); {
	case k.installed == nil:
		k.held = nil
		return committed
	case len(k.steps) > 0:
		return committed
	case committed != nil && len(k.watch.changed) > 0: // what was changed still is
		if err == nil && k.held != nil {
			k.stillChanged(before, now, begun, generation)
		}
		return committed
	case err != nil:
		k.held = nil
		k.watch.note([]string{"the rules cannot be read: " + err.Error()}, nil)
		return committed
	case generation == begun && k.held != nil:
		return k.settle(committed, nil)
	}
	heard := fromOthers(k.watch.monitor.between(begun, generation))
	k.keepMade(before, now, heard)
	by := k.writers(heard)
	k.watch.generation = generation
	return k.settle(committed, by)
}

// stillChanged ends a commit that has failed while something was not as it was committed before. What it has done and taken back, from a
// state before it to one now at a generation, is this program's own doing: chains that were as they should be are so still, whatever the
// handles of their rules, and nobody is told of them. What others have done meanwhile is a change as always.
func (k *iptablesKernel) stillChanged(before, now heldChains, begun, generation uint32) {
	if !k.watch.monitor.reached(generation) {
		return // it is found out later; who has done it may be said wrong then
	}
	heard, old := fromOthers(k.watch.monitor.between(begun, generation)), k.held
	wrong := map[part]bool{}
	for p, was := range old {
		wrong[p] = k.differs(p, was, before[p]) ||
			slices.ContainsFunc(heard, func(t transaction) bool { return t.touched(p) })
	}
	by := k.writers(heard)
	k.keepMade(before, now, heard)
	for p, was := range old {
		if wrong[p] {
			k.held[p] = was
		}
	}
	k.watch.generation = generation
	if found := k.against(now); len(by) > 0 {
		k.watch.note(found, by)
	} else {
		k.watch.changed = found
	}
}

// differs tells whether a chain is another one than it was committed as; nil is one that is not there.
func (k *iptablesKernel) differs(p part, was, now *heldChain) bool {
	return now == nil && was.lacks == "" || now != nil && k.difference(p, was, now) != ""
}

// keepMade remembers the chains of what is installed behind a commit that has led from one state to another. What others have made meanwhile,
// in the transactions that were heard of, is not ours.
func (k *iptablesKernel) keepMade(before, now heldChains, heard []transaction) {
	others, old := rulesMade(heard), k.held
	k.keep(now, func(p part, r liveRule) bool {
		known := old[p] != nil && slices.Contains(old[p].rules, r)
		made := before[p] == nil || !slices.Contains(before[p].rules, r)
		return known || made && !slices.Contains(others[p], r)
	})
	k.compare(old, others)
}

// settle ends a commit: all is as it should be, but for what others have changed meanwhile.
func (k *iptablesKernel) settle(committed error, by []Writer) error {
	if committed != nil && len(k.watch.changed) > 0 {
		return committed
	}
	k.watch.committed()
	k.silently = nil
	if k.watch.monitor != nil {
		k.watch.note(k.against(k.held), by)
	}
	return committed
}

// reviewRead compares what was read before a commit with what is held, whatever was heard: a commit of what is there
// already puts right what another program has changed.
func (k *iptablesKernel) reviewRead(now heldChains, generation uint32, reading error) {
	if reading != nil || k.held == nil || k.amiss() {
		return
	}
	k.watch.note(k.against(now), k.writers(k.watch.monitor.between(k.watch.generation, generation)))
}

// fromOthers is the transactions that programs other than the restore tools have made. Where none has the name of a restore
// tool, as it is run by another name, none can be told from ours.
func fromOthers(list []transaction) []transaction {
	ours := func(t transaction) bool { return isRestore(t.by) }
	if !slices.ContainsFunc(list, ours) {
		return nil
	}
	return slices.DeleteFunc(list, ours)
}

// rulesMade is the rules that transactions have made.
func rulesMade(list []transaction) map[part][]liveRule {
	rules := map[part][]liveRule{}
	for _, t := range list {
		for p, made := range t.parts {
			rules[p] = append(rules[p], made...)
		}
	}
	return rules
}

// writers is the programs that have changed something of ours.
func (k *iptablesKernel) writers(list []transaction) (by []Writer) {
	by, _ = news{list: list}.concerning(k.watch.generation, k, nil)
	return by
}

// isRestore says whether a program has the name of a restore tool, as far as the kernel keeps it.
func isRestore(w Writer) bool {
	return slices.ContainsFunc([]ir.Families{ir.V4, ir.V6}, func(f ir.Families) bool { return w.Name == (tool(f) + "-restore")[:15] })
}

// keep remembers the chains of what is installed, and which rules of the kernel's chains are ours. Of a chain that is not
// there it remembers that.
func (k *iptablesKernel) keep(now heldChains, ours func(part, liveRule) bool) {
	held := heldChains{}
	for p, c := range now {
		if p.kind == dormantPart {
			held[p] = c
		}
	}
	k.eachChain(func(p part, c *chainRules) {
		chain := now[p]
		switch {
		case chain != nil:
		case c.partial() && len(c.specs) == 0:
			return
		default:
			chain = &heldChain{lacks: removed}
		}
		if chain.partial = c.partial(); chain.partial {
			chain.rules = slices.DeleteFunc(chain.rules, func(r liveRule) bool { return !ours(p, r) })
		}
		held[p] = chain
	})
	k.held = held
}

// eachChain calls f with each chain of what is installed that nf_tables has. Tables that the kernel lacks, and of which packets
// would not notice that, are left out.
func (k *iptablesKernel) eachChain(f func(p part, c *chainRules)) {
	for _, family := range k.families {
		if slices.Contains(k.silent, family) {
			continue
		}
		for _, table := range iptables.Tables {
			if k.lacking[sharedChain{family: family, table: table}] {
				continue
			}
			for _, c := range k.rulesOf(k.installed.Rules, family, table).chains {
				f(part{family: familyNumber(family), table: table, kind: chainPart, name: c.name}, c)
			}
		}
	}
}

// compare compares what is kept with what was to be committed. A chain that has the rules that it had before the commit is as
// it was. others are the rules that are not ours, whatever chain they are in.
func (k *iptablesKernel) compare(before heldChains, others map[part][]liveRule) {
	k.eachChain(func(p part, c *chainRules) {
		chain, was := k.held[p], before[p]
		switch {
		case chain == nil || chain.lacks != "" || was != nil && was.lacks == "" && slices.Equal(was.rules, chain.rules):
		case slices.ContainsFunc(chain.rules, func(r liveRule) bool { return slices.Contains(others[p], r) }):
			chain.lacks = "rules were added"
		default:
			chain.lacks = c.countDifference(len(chain.rules))
		}
	})
}

// countDifference says what is wrong with a chain that has so many rules; empty if nothing is. A chain in which others may
// have rules can have more, and so can one with rules of the direct interface: the tools make several of one with a list of
// addresses.
func (c *chainRules) countDifference(has int) string {
	switch n := len(c.specs); {
	case has < n:
		return changeText("rule", n-has, 0)
	case has > n && !c.partial() && !slices.ContainsFunc(c.rules, isRaw):
		return changeText("rule", 0, has-n)
	}
	return ""
}

// isRaw says whether a rule is one of the direct interface.
func isRaw(r *ir.Rule) bool {
	return r != nil && slices.ContainsFunc(r.Actions, func(a ir.Action) bool { _, raw := a.(ir.Raw); return raw })
}

func familyNumber(f ir.Families) uint8 {
	if f == ir.V6 {
		return unix.NFPROTO_IPV6
	}
	return unix.NFPROTO_IPV4
}

// readHeld reads all chains of iptables' tables, at a generation. Other programs may commit meanwhile, as long as it is nothing
// to these tables; where one does that all the time, what it changes may be seen half, and is seen whole the next time.
func (k *iptablesKernel) readHeld() (all heldChains, generation uint32, err error) {
	for range readings {
		if generation, err = k.watch.socket.generation(); err != nil {
			return nil, 0, err
		}
		all = heldChains{}
		dormant, err := k.watch.socket.dormantTables()
		if err != nil {
			return nil, 0, err
		}
		for p := range dormant {
			all[p] = &heldChain{}
		}
		for _, family := range k.families {
			if err := all.read(k.watch.socket, familyNumber(family)); err != nil {
				return nil, 0, fmt.Errorf("cannot read the rules of %s: %w", tool(family), err)
			}
		}
		now, err := k.watch.socket.generation()
		if err != nil || now == generation || k.watch.monitor.still(generation, now) {
			return all, generation, err
		}
	}
	return all, generation, nil
}

func (h heldChains) read(s *socket, family uint8) error {
	err := s.dump(unix.NFT_MSG_GETCHAIN, family, nil, func(body []byte) {
		table := text(attribute(body, tableName))
		if builtins[table] != nil {
			p := part{family: family, table: table, kind: chainPart, name: text(attribute(body, unix.NFTA_CHAIN_NAME))}
			h[p] = &heldChain{policy: number32(attribute(body, unix.NFTA_CHAIN_POLICY))}
		}
	})
	if err != nil && !absent(err) {
		return err
	}
	err = s.dump(unix.NFT_MSG_GETRULE, family, nil, func(body []byte) {
		p := part{family: family, table: text(attribute(body, tableName)), kind: chainPart, name: text(attribute(body, unix.NFTA_RULE_CHAIN))}
		if c := h[p]; c != nil {
			c.rules = append(c.rules, ruleOf(body))
		}
	})
	if absent(err) {
		return nil
	}
	return err
}

// concerns implements subject. What others put into the kernel's chains is seen by differences.
func (k *iptablesKernel) concerns(p part) bool {
	return p.kind == tablePart || p.kind == dormantPart && k.uses(k.installed, p) || p.kind == chainPart && k.held[p] != nil
}

// differences implements subject.
func (k *iptablesKernel) differences() ([]string, error) {
	now, _, err := k.readHeld()
	if err != nil {
		return nil, err
	}
	return k.against(now), nil
}

// against says what of the chains that are held is not as it was committed, beside what was found of iptables-legacy and is not put back yet.
func (k *iptablesKernel) against(now heldChains) []string {
	list := append(slices.Clone(k.silently), madeDormant(now, func(p part) bool { return k.uses(k.installed, p) })...)
	for p, c := range k.held {
		if p.kind == dormantPart {
			continue
		}
		where := fmt.Sprintf("%s, table %s, chain %s", familyTool(p.family), p.table, p.name)
		switch d := k.difference(p, c, now[p]); {
		case now[p] == nil || now[p].lacks == removed:
			list = append(list, where+" "+removed)
		case d != "":
			list = append(list, where+": "+d)
		}
	}
	slices.Sort(list)
	return list
}

// difference is what of a chain is not as it was committed; empty if all is.
func (k *iptablesKernel) difference(p part, c, now *heldChain) string {
	if now == nil {
		return ""
	}
	switch c.lacks {
	case "":
	case removed:
		return "it was removed and made anew"
	default:
		return c.lacks
	}
	rules := now.rules
	if c.partial {
		rules = slices.DeleteFunc(slices.Clone(rules), func(r liveRule) bool { return !slices.Contains(c.rules, r) })
		if isBuiltin(p.table, p.name) && k.installed.Panic && c.policy != now.policy {
			return "policy was changed"
		}
	}
	return (&liveChain{rules: c.rules}).difference(&liveChain{rules: rules})
}

func familyTool(family uint8) string {
	if family == unix.NFPROTO_IPV6 {
		return tool(ir.V6)
	}
	return tool(ir.V4)
}
