package kernel

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"richwall/compile/iptables"
	"richwall/compile/ir"
)

// heldChains are chains of iptables' tables as nf_tables has them: what iptables-nft makes. Those of iptables-legacy are not
// among them, and nobody tells of their changes.
type heldChains map[part]*heldChain

type heldChain struct {
	rules   []uint64 // handles, in order; of a partial chain ours alone
	partial bool     // others have rules in it too
	policy  uint32   // of one of the kernel's chains: NF_DROP or NF_ACCEPT
}

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
	k.watch.monitor, err = newMonitor(k.options.Enter, 0, func(family uint8, table string) bool {
		return (family == unix.NFPROTO_IPV4 || family == unix.NFPROTO_IPV6) && builtins[table] != nil
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
		k.watch.guard, err = newGuard(s, owner, k.options.Log)
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
func (k *iptablesKernel) Allow(f func() error) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.review(); err != nil {
		return err
	}
	err := f()
	if k.held == nil || len(k.watch.changed) > 0 {
		return err
	}
	now, generation, reading := k.readHeld()
	if reading != nil {
		return errors.Join(err, reading)
	}
	// In the kernel's chains ours are still the same: what f has put there is not.
	k.keep(now, func(p part, handle uint64) bool { return k.held[p] != nil && slices.Contains(k.held[p].rules, handle) })
	k.watch.committed()
	k.watch.generation = generation
	return err
}

// look reviews what was heard, and returns what nobody was told of yet. As long as something is not as it was committed, the
// guard stands.
func (k *iptablesKernel) look() []Foreign {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.watch.monitor.ended() {
		return nil
	}
	if err := k.review(); err != nil {
		k.options.Log.Error(err.Error())
	}
	switch {
	case k.installed == nil || k.installed.Rules == nil:
	case len(k.watch.changed) == 0:
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
	if !k.watch.monitor.ended() && k.installed != nil && k.installed.Rules != nil {
		k.watch.unguard(k.unguard)
	}
}

// review finds out whether what is installed is still there.
func (k *iptablesKernel) review() error {
	if k.installed == nil || k.held == nil {
		return nil
	}
	return k.watch.review(k)
}

// watched calls f, which commits, and notes what the kernel has after it: f's tools are other programs to nf_tables, so that
// their rules are known by what there was before.
func (k *iptablesKernel) watched(f func() error) error {
	if k.watch.monitor == nil {
		return f()
	}
	if err := k.review(); err != nil {
		return err
	}
	before, begun, reading := k.readHeld()
	committed := f()
	now, generation, err := k.readHeld()
	switch err = cmp.Or(reading, err); {
	case k.installed == nil:
		k.held = nil
		return committed
	case err != nil:
		k.options.Log.Warn("changes by other programs are not noticed until the next commit", "reason", err)
		k.held = nil
		if committed == nil {
			k.watch.committed()
		}
		return committed
	case generation == begun && k.held != nil && committed == nil:
		return nil
	}
	k.keep(now, func(p part, handle uint64) bool {
		known := k.held[p] != nil && slices.Contains(k.held[p].rules, handle)
		return known || before[p] == nil || !slices.Contains(before[p].rules, handle)
	})
	if committed == nil {
		k.watch.committed()
	}
	k.watch.generation = generation
	return committed
}

// keep remembers the chains of what is installed, and which rules of the kernel's chains are ours.
func (k *iptablesKernel) keep(now heldChains, ours func(part, uint64) bool) {
	held := heldChains{}
	for _, family := range k.families {
		for _, table := range iptables.Tables {
			for _, c := range rulesOf(k.installed.Rules, family, table).chains {
				p := part{family: familyNumber(family), table: table, kind: chainPart, name: c.name}
				chain := now[p]
				if chain == nil {
					continue
				}
				if chain.partial = c.partial(); chain.partial {
					chain.rules = slices.DeleteFunc(chain.rules, func(h uint64) bool { return !ours(p, h) })
				}
				held[p] = chain
			}
		}
	}
	k.held = held
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
			c.rules = append(c.rules, number64(attribute(body, unix.NFTA_RULE_HANDLE)))
		}
	})
	if absent(err) {
		return nil
	}
	return err
}

// concerns implements subject. What others put into the kernel's chains is seen by differences.
func (k *iptablesKernel) concerns(p part) bool {
	return p.kind == tablePart || p.kind == chainPart && k.held[p] != nil
}

// differences implements subject.
func (k *iptablesKernel) differences() ([]string, error) {
	now, _, err := k.readHeld()
	if err != nil {
		return nil, err
	}
	var list []string
	for p, c := range k.held {
		where := fmt.Sprintf("%s, table %s, chain %s", familyTool(p.family), p.table, p.name)
		switch d := k.difference(p, c, now[p]); {
		case now[p] == nil:
			list = append(list, where+" was removed")
		case d != "":
			list = append(list, where+": "+d)
		}
	}
	slices.Sort(list)
	return list, nil
}

// difference is what of a chain is not as it was committed; empty if all is.
func (k *iptablesKernel) difference(p part, c, now *heldChain) string {
	if now == nil {
		return ""
	}
	rules := now.rules
	if c.partial {
		rules = slices.DeleteFunc(slices.Clone(rules), func(h uint64) bool { return !slices.Contains(c.rules, h) })
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
