package kernel_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"richwall/compile/ir"
	"richwall/internal/kernel"
	"richwall/internal/lab"
)

// oddNames are names of interfaces with a line break, behind which there is what looks like a line of iptables-save, or a part of one.
var oddNames = []string{"a\n-A INPUT", "a\n-A FORWARD", "a\n#", "a\nCOMMIT\n#", "a\n:X - [0:0]", "a\n\n", "\"\n-A INPUT", "a\n*x", "a\"\n-A INPUT", "a\n"}

// The name of an interface may have a line break. A table with such a rule counts as having the rules that the kernel has, no more, whatever
// the listing looks like; one of iptables-legacy, which has no other way to be read, cannot be read.
func TestReadingInterfaceWithLineBreak(t *testing.T) {
	variants(t, func(t *testing.T) {
		for _, odd := range oddNames {
			for _, last := range []bool{false, true} {
				ns := namespace(t)
				run(t, ns, "", "iptables", "-A", "INPUT", "-s", "9.9.9.1", "-j", "RETURN")
				run(t, ns, "", "iptables", "-A", "INPUT", "-i", odd, "-j", "RETURN")
				if !last {
					run(t, ns, "", "iptables", "-A", "INPUT", "-s", "9.9.9.2", "-j", "RETURN")
					run(t, ns, "", "iptables", "-A", "FORWARD", "-s", "9.9.9.3", "-j", "RETURN")
				}
				want := map[string]int{"INPUT": 2, "FORWARD": 0}
				if !last {
					want = map[string]int{"INPUT": 3, "FORWARD": 1}
				}
				rules, err := kernel.ReadTable(kernel.Options{Enter: ns.Do}, ir.V4, "filter")
				if err != nil && strings.Contains(t.Name(), "legacy") && strings.Contains(err.Error(), "does not agree with the kernel") {
					continue
				}
				if err != nil {
					t.Errorf("%q: %v", odd, err)
					continue
				}
				for chain, n := range want {
					if len(rules[chain]) != n {
						t.Errorf("%q: %s has %d rules, not %d: %q", odd, chain, len(rules[chain]), n, rules[chain])
					}
				}
				for chain, list := range rules {
					for _, rule := range list {
						if rule == "-i a" || want[chain] == 0 {
							t.Errorf("%q: there is no rule -A %s %s", odd, chain, rule)
						}
					}
				}
			}
		}
	})
}

// A comment of another program with line breaks is no reason to refuse anything, with either variant of iptables.
func TestReadingCommentWithLineBreak(t *testing.T) {
	variants(t, func(t *testing.T) {
		ns := namespace(t)
		run(t, ns, "", "iptables", "-N", "shop")
		run(t, ns, "", "iptables", "-A", "INPUT", "-m", "comment", "--comment", "a \"shop\"\n-A INPUT -j DROP\n:INPUT DROP\n", "-j", "shop")
		rules, err := kernel.ReadTable(kernel.Options{Enter: ns.Do}, ir.V4, "filter")
		if err != nil || len(rules["INPUT"]) != 1 || !strings.HasSuffix(rules["INPUT"][0], "-j shop") {
			t.Errorf("INPUT has %q, error %v", rules["INPUT"], err)
		}
	})
}

// Beside a rule with such an interface, or one of nftables, a change that fails is taken back, all of it, and every rule of the other program is
// as it was.
func TestUndoBesideRuleThatCannotBeListed(t *testing.T) {
	for name, put := range map[string]func(ns *lab.Namespace){
		"line break": func(ns *lab.Namespace) { run(t, ns, "", "iptables", "-A", "INPUT", "-i", oddNames[0], "-j", "RETURN") },
		"nftables":   func(ns *lab.Namespace) { run(t, ns, "", "nft", "add rule ip filter INPUT ct state established accept") },
	} {
		t.Run(name, func(t *testing.T) {
			ns := namespace(t)
			for i := range 5 {
				run(t, ns, "", "iptables", "-A", "INPUT", "-s", fmt.Sprintf("9.9.9.%d", i), "-j", "RETURN")
				if i == 2 {
					put(ns)
				}
			}
			before := run(t, ns, "", "nft", "list", "chain", "ip", "filter", "INPUT")
			err := open(t, ns, ir.IPTables).Commit(t.Context(), &kernel.Desired{Rules: withRefused(scenario(t, "static-services.txt", ir.IPTables))})
			if rule := (*kernel.RuleError)(nil); !errors.As(err, &rule) || rule.Origin != refusedOrigin {
				t.Errorf("the error does not name the rule: %v", err)
			}
			if now := run(t, ns, "", "nft", "list", "chain", "ip", "filter", "INPUT"); now != before {
				t.Errorf("INPUT was\n%s\nand is\n%s", before, now)
			}
			if chains := run(t, ns, "", "nft", "list", "table", "ip", "filter"); strings.Contains(chains, "dispatch") {
				t.Errorf("chains of ours stay:\n%s", chains)
			}
		})
	}
}

// ebtables prints names as iptables-save does.
func TestReadingBridgeInterfaceWithLineBreak(t *testing.T) {
	for _, odd := range oddNames {
		for _, last := range []bool{false, true} {
			ns := kernel.Space(t, "nft", "ebtables")
			run(t, ns, "", "ebtables", "-A", "INPUT", "-s", "00:f0:00:00:00:11", "-j", "DROP")
			run(t, ns, "", "ebtables", "-A", "INPUT", "-i", odd, "-j", "DROP")
			want := 2
			if !last {
				run(t, ns, "", "ebtables", "-A", "INPUT", "-s", "00:f0:00:00:00:12", "-j", "DROP")
				want = 3
			}
			rules, err := kernel.ReadBridges(kernel.Options{Enter: ns.Do}, "filter")
			if err != nil || len(rules["INPUT"]) != want || len(rules["FORWARD"]) != 0 {
				t.Errorf("%q: ebtables has %q, error %v", odd, rules, err)
			}
			for _, rule := range rules["INPUT"] {
				if rule == "-i a" {
					t.Errorf("%q: there is no rule %s", odd, rule)
				}
			}
		}
	}
}
