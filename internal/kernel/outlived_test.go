package kernel_test

import (
	"strings"
	"testing"

	"richwall/compile/ir"
	"richwall/internal/kernel"
)

// The back end changes from iptables to nftables, in a running daemon and behind one that was killed. A direct rule in a chain of the ruleset for
// iptables, or one that leads to such a chain, would do nothing behind that, as the chain goes: it is refused, and names the rule. Rules in the
// kernel's chains, and in a direct chain, are taken over.
func TestDirectRuleInAChainThatGoes(t *testing.T) {
	const sound = `<chain ipv="ipv4" table="filter" chain="mine"/><rule ipv="ipv4" table="filter" chain="INPUT" priority="0">-s 10.1.1.1 -j mine</rule>` +
		`<rule ipv="ipv4" table="filter" chain="mine" priority="0">-j DROP</rule>`
	variants(t, func(t *testing.T) {
		for what, c := range map[string]struct{ rule, names string }{
			"in a zone's chain": {`<rule ipv="ipv4" table="filter" chain="IN_public_deny" priority="0">-p tcp --dport 80 -j DROP</rule>`, "IN_public_deny"},
			"that leads to one": {`<rule ipv="ipv4" table="filter" chain="INPUT" priority="0">-s 10.1.1.2 -g IN_public_deny</rule>`, "IN_public_deny"},
			"a passthrough":     {`<passthrough ipv="ipv4">-A IN_public -s 10.1.1.2 -j DROP</passthrough>`, "IN_public"},
			"in another table":  {`<rule ipv="ipv4" table="mangle" chain="PRE_public" priority="0">-s 10.1.1.2 -j DROP</rule>`, "PRE_public"},
		} {
			for _, killed := range []bool{false, true} {
				ns, store := namespace(t), &disk{}
				former, o, end := process(t, ns, ir.IPTables, store)
				commit(t, former, directly(t, ir.IPTables, sound+c.rule))
				if killed {
					end()
					_, o, end = process(t, ns, ir.NFTables, store)
				}
				o.Backend = ir.NFTables
				before := all(t, ns)
				k := start(t, o)
				for step, do := range map[string]func(*kernel.Desired) error{"a check": k.Check, "a commit": func(d *kernel.Desired) error { return k.Commit(t.Context(), d) }} {
					err := do(directly(t, ir.NFTables, sound+c.rule))
					if err == nil || !strings.Contains(err.Error(), "there is no chain "+c.names+" ") {
						t.Errorf("a rule %s, killed %v: %s says %v", what, killed, step, err)
					}
				}
				sameLines(t, before, all(t, ns))
				commit(t, k, directly(t, ir.NFTables, sound))
				end()
			}
		}
	})
}

// Beside nftables a missing chain is made for a rule only where it is awaited so, and with iptables where it is awaited there: what is said of the
// one says nothing of the other.
func TestAwaitedBesideNFTables(t *testing.T) {
	bothBackends(t, func(t *testing.T, backend ir.Backend) {
		ns := namespace(t)
		k := open(t, ns, backend)
		next := directly(t, backend, `<rule ipv="ipv4" table="filter" chain="IN_work" priority="0">-s 10.1.1.2 -j DROP</rule>`)
		next.Awaits = func(_, _ string, beside bool) bool { return !beside }
		if err := k.Commit(t.Context(), next); (err == nil) != (backend == ir.IPTables) {
			t.Errorf("the commit says %v", err)
		}
	})
}

// While the back end changes two Kernels of one process are open. The guard of the former one, which has the socket of the start, does for the new
// one: that does not take it for another program's.
func TestGuardOfTheFormerBackEnd(t *testing.T) {
	bothBackends(t, func(t *testing.T, backend ir.Backend) {
		ns := namespace(t)
		o := kernel.Options{Backend: backend, Enter: ns.Do, Log: quietLog}
		o.Guard = base(t, o, false)
		former := start(t, o)
		commit(t, former, directly(t, backend, ""))
		if err := former.(kernel.Guarder).KeepOut(t.Context(), false); err != nil {
			t.Fatal(err)
		}
		o.Backend = otherThan(backend)
		if err := start(t, o).(kernel.Guarder).KeepOut(t.Context(), false); err != nil || !guardStands(t, ns) {
			t.Errorf("the guard stands: %v; %v", guardStands(t, ns), err)
		}
	})
}
