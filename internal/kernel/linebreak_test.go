package kernel_test

import (
	"fmt"
	"strings"
	"testing"

	"richwall/compile/ir"
	"richwall/internal/kernel"
	"richwall/internal/lab"
)

// Another program's comment, and the name of an interface, may have line breaks, behind which there may be what looks like a line of
// iptables-save: of a chain that drops already, or of a rule of ours. It deceives nobody: panic mode drops, and its end lets packets through.
func TestRuleWithLineBreaks(t *testing.T) {
	policies := func(policy string) string {
		return fmt.Sprintf("x\"\n:INPUT %[1]s [0:0]\n:OUTPUT %[1]s [0:0]\n:FORWARD %[1]s [0:0]\n:PREROUTING %[1]s [0:0]\n", policy)
	}
	builtins := map[string][]string{"filter": {"INPUT", "OUTPUT", "FORWARD"}, "raw": {"PREROUTING", "OUTPUT"}}
	for name, words := range map[string][]string{
		"dropping": {"-m", "comment", "--comment", policies("DROP")}, "accepting": {"-m", "comment", "--comment", policies("ACCEPT")},
		"an interface that drops": {"-o", "a\n:INPUT DROP"}, "a rule": {"-m", "comment", "--comment", "x\"\n-A INPUT -j INPUT_dispatch\n"},
	} {
		t.Run(name, func(t *testing.T) {
			ns := namespace(t)
			k := open(t, ns, ir.IPTables)
			rules := scenario(t, "static-mixed.txt", ir.IPTables)
			commit(t, k, &kernel.Desired{Rules: rules})
			for table := range builtins {
				run(t, ns, "", "iptables", append([]string{"-t", table, "-A", "OUTPUT", "-s", "9.9.9.9"}, append(words, "-j", "RETURN")...)...)
			}
			expect := func(policy string) {
				t.Helper()
				for table, chains := range builtins {
					for _, chain := range chains {
						if got := policyOf(t, ns, table, chain); got != policy {
							t.Errorf("table %s, chain %s: the policy is %s, not %s", table, chain, got, policy)
						}
					}
				}
			}
			for range 2 {
				commit(t, k, &kernel.Desired{Rules: rules, Panic: true})
				expect("DROP")
				commit(t, k, &kernel.Desired{Rules: rules})
				expect("ACCEPT")
			}
			run(t, ns, "", "iptables", "-F", "INPUT")
			again := open(t, ns, ir.IPTables) // a start behind one that was killed
			commit(t, again, &kernel.Desired{Rules: rules})
			if text := run(t, ns, "", "iptables", "-S", "INPUT"); strings.Count(text, "-j INPUT_dispatch") != 1 {
				t.Errorf("behind a start INPUT is\n%s", text)
			}
			commit(t, again, &kernel.Desired{})
			if text := run(t, ns, "", "nft", "list", "table", "ip", "filter"); strings.Contains(text, "jump INPUT_") || !strings.Contains(text, "9.9.9.9") {
				t.Errorf("behind the end table filter is\n%s", text)
			}
		})
	}
}

// policyOf is the policy of a chain of a table of iptables-nft, in iptables' words.
func policyOf(t *testing.T, ns *lab.Namespace, table, chain string) string {
	t.Helper()
	text := run(t, ns, "", "nft", "list", "chain", "ip", table, chain)
	_, rest, _ := strings.Cut(text, "policy ")
	policy, _, _ := strings.Cut(rest, ";")
	return strings.ToUpper(policy)
}
