package kernel_test

import (
	"context"
	"strings"
	"testing"

	"richwall/compile/ir"
	"richwall/internal/kernel"
)

// A process is killed when it has switched panic mode on in some tables of iptables only, or in all of them. The next one, with either back end, has
// their policies be ACCEPT again: at its start, and where it starts in panic mode when that ends, or when it stops.
func TestPoliciesOfAProcessThatWasKilled(t *testing.T) {
	bothBackends(t, func(t *testing.T, backend ir.Backend) {
		for _, tables := range []string{"raw", "raw mangle", "raw mangle security filter"} {
			for _, panicked := range []bool{false, true} {
				ns := namespace(t)
				for _, program := range []string{"iptables", "ip6tables"} {
					for _, table := range strings.Fields(tables) {
						chains := map[string]string{"raw": "PREROUTING OUTPUT", "mangle": "PREROUTING INPUT FORWARD OUTPUT POSTROUTING"}[table]
						if chains == "" {
							chains = "INPUT FORWARD OUTPUT"
						}
						for _, chain := range strings.Fields(chains) {
							run(t, ns, "", program, "-t", table, "-P", chain, "DROP")
						}
					}
					if tables == "raw" {
						break // it was killed before it came to IPv6
					}
				}
				o := kernel.Options{Backend: backend, Enter: ns.Do, Log: quietLog}
				k := start(t, o)
				next := &kernel.Desired{Rules: letsIn(t, backend, ""), Panic: panicked}
				commit(t, k, next)
				if panicked {
					commit(t, k, &kernel.Desired{Rules: next.Rules})
				}
				if err := kernel.RemoveOther(context.Background(), o, k); err != nil {
					t.Fatal(err)
				}
				if saved := run(t, ns, "", "iptables-save") + run(t, ns, "", "ip6tables-save"); strings.Contains(saved, " DROP [") {
					t.Errorf("%s, panic mode %v: the policies are\n%s", tables, panicked, saved)
				}
			}
		}
	})
}
