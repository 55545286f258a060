package eval_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"richwall/compile/iptables"
	"richwall/compile/ir"
	"richwall/compile/nft"
	"richwall/internal/irgen"
	"richwall/internal/lab"
)

// Real packets fare as the evaluator says among rules whose matches have zero, smallest and largest values as well, others each time.
func TestTheKernelDecidesAlikeAboutAnyValue(t *testing.T) {
	if missing := lab.Missing("nft", "ipset", "iptables-restore", "ip6tables-restore"); missing != nil {
		t.Skip(strings.Join(missing, "; "))
	}
	seed := irgen.Seed(t)
	seen := map[string]int{}
	for n := range irgen.Setting(t, "RICHWALL_RULESETS", 5) {
		for _, backend := range backends {
			t.Run(fmt.Sprintf("%d/%s", n, backend), func(t *testing.T) {
				rs := generated(rand.New(rand.NewPCG(seed+n, 6)), backend)
				err := compareWithKernel(t, rs, seed+n, 24, seen)
				if err != nil { // the lab gives up when the machine is too busy for it
					err = compareWithKernel(t, rs, seed+n, 24, seen)
				}
				if err != nil {
					t.Fatal(err)
				}
			})
		}
	}
	t.Logf("packets by what became of them: %v", seen)
	if seen["accept"] == 0 || seen["drop"] == 0 {
		t.Errorf("no packet was accepted, or none was dropped")
	}
}

// generated is a ruleset whose filters for what comes in and goes through have random rules.
func generated(r *rand.Rand, backend ir.Backend) *ir.Ruleset {
	rs := &ir.Ruleset{Backend: backend, Counters: backend == ir.NFTables}
	for _, hook := range []string{"input", "forward"} {
		c := &ir.Chain{Name: "filter_" + hook, Hook: &ir.Hook{Type: "filter", Hook: hook}, Families: ir.Both}
		if backend == ir.IPTables {
			c = &ir.Chain{Table: "filter", Name: strings.ToUpper(hook), Builtin: true, Families: ir.Both}
		}
		accept := func(f ir.Families, m ir.Match) {
			c.Rules = append(c.Rules, &ir.Rule{Families: f, Matches: []ir.Match{m}, Actions: []ir.Action{ir.Accept}})
		}
		accept(ir.Both, ir.CTState{States: []string{"established", "related"}}) // answers
		accept(ir.V6, ir.ICMP{Family: ir.V6, Type: 135, Code: ir.AnyCode})      // neighbour discovery, without which nothing arrives
		accept(ir.V6, ir.ICMP{Family: ir.V6, Type: 136, Code: ir.AnyCode})
		for len(c.Rules) < 60 {
			if rule := decidable(r, c, backend); rule != nil {
				c.Rules = append(c.Rules, rule)
			}
		}
		rs.Chains = append(rs.Chains, c)
	}
	return rs
}

// decidable is a random rule about what the test's packets have; nil if the back end has none such.
func decidable(r *rand.Rand, c *ir.Chain, backend ir.Backend) *ir.Rule {
	rule := irgen.Rule(r, false)
	rule.Actions = []ir.Action{pick[ir.Action](r, ir.Accept, ir.Drop, ir.Drop, ir.Reject{}, ir.Log{})}
	if len(rule.Matches) == 0 {
		return nil
	}
	for i, m := range rule.Matches {
		switch m := m.(type) {
		case ir.Lookup, ir.Limit, ir.Fib, ir.PktType: // sets and rates have tests of their own, and the lab's packets are all alike
			return nil
		case ir.Iface:
			if m.Side == ir.Dest && c.Name == "INPUT" { // iptables refuses it
				return nil
			}
			if m.Name == "eth0" {
				m.Name = pick(r, lab.ClientLink, lab.ServerLink, lab.ClientLink+"+")
				rule.Matches[i] = m
			}
		}
	}
	if backend == ir.NFTables {
		rule.Families = ir.Both
		if nft.CheckRule(rule) != nil {
			return nil
		}
	} else if iptables.CheckRule(c, rule) != nil {
		return nil
	}
	return rule
}
