package kernel_test

import (
	"strings"
	"testing"

	"richwall/compile/ir"
	"richwall/internal/kernel"
)

// A chain firewalld_guard_trial is another program's. It stays, with its rules and what leads to it, through a start, a change that is tried
// and refused, and the end.
func TestTrialNameOfAnotherProgram(t *testing.T) {
	variants(t, func(t *testing.T) {
		for _, jump := range []string{"", "-A INPUT -j firewalld_guard_trial\n", "-A INPUT -m mark --mark 0x1/0x0 -j firewalld_guard_trial\n"} {
			ns := namespace(t)
			run(t, ns, "*filter\n:firewalld_guard_trial - [0:0]\n-A firewalld_guard_trial -s 9.9.9.9/32 -j DROP\n"+jump+"COMMIT\n", "iptables-restore", "--noflush")
			before := saved(t, ns)
			k := open(t, ns, ir.IPTables)
			good := scenario(t, "static-services.txt", ir.IPTables)
			commit(t, k, &kernel.Desired{Rules: good})
			bad := *good
			bad.Chains = nil
			for _, c := range good.Chains {
				if c.Table != "filter" || c.Name != "INPUT_direct" {
					bad.Chains = append(bad.Chains, c)
					continue
				}
				more := *c
				more.Rules = []*ir.Rule{{Families: ir.V4, Origin: refusedOrigin, Actions: []ir.Action{ir.Raw{Args: strings.Fields(refusedByIPv6)}}}}
				bad.Chains = append(bad.Chains, &more)
			}
			if err := k.Commit(t.Context(), &kernel.Desired{Rules: &bad}); err == nil || !strings.Contains(err.Error(), "MASQUERADE") {
				t.Errorf("the error is %v", err)
			}
			now := saved(t, ns)
			for line := range strings.Lines(before) {
				if strings.Contains(line, "firewalld_guard_trial") && !strings.Contains(now, line) {
					t.Errorf("%q is not there:\n%s", line, now)
				}
			}
			commit(t, open(t, ns, ir.IPTables), &kernel.Desired{Rules: good}) // a start behind a process that was killed
			commit(t, k, &kernel.Desired{})
			sameLines(t, before, saved(t, ns))
		}
	})
}

// A chain of that name in ebtables is another program's, too.
func TestTrialNameOfAnotherProgramForBridges(t *testing.T) {
	ns := kernel.Space(t, "nft", "ebtables")
	run(t, ns, "", "ebtables", "-N", "firewalld_guard_trial")
	run(t, ns, "", "ebtables", "-A", "firewalld_guard_trial", "-s", "00:f0:00:00:00:11", "-j", "DROP")
	run(t, ns, "", "ebtables", "-A", "INPUT", "-j", "firewalld_guard_trial")
	rule := kernel.BridgeRule{Table: "filter", Chain: "INPUT", Args: strings.Fields("-s 00:f0:00:00:00:12 -j firewalld_guard_trial")}
	o := kernel.Options{Enter: ns.Do, Log: quietLog}
	for range 2 { // a start that looks for its rule, and one that finds it
		if _, err := kernel.CommitBridge(t.Context(), o, nil, &kernel.Bridge{Rules: []kernel.BridgeRule{rule}}); err != nil {
			t.Fatal(err)
		}
	}
	rules, err := kernel.ReadBridges(o, "filter")
	if err != nil || len(rules["firewalld_guard_trial"]) != 1 || len(rules["INPUT"]) != 2 {
		t.Errorf("there is %q, error %v", rules, err)
	}
}
