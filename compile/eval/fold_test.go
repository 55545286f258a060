package eval_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"richwall/compile/eval"
	"richwall/compile/ir"
	"richwall/internal/irgen"
)

// Folding rules into sets changes nothing for packets: with RuleFolding=no, auto and yes each gets the same verdict, answer, mark,
// translation and log lines, wherever it lies at the edges of what the rules name.
func TestFoldedRulesetsDecideAlike(t *testing.T) {
	const packets = 400
	kinds := map[string]bool{}
	first := irgen.Seed(t)
	for seed := first; seed < first+irgen.Setting(t, "RICHWALL_FOLDS", 24); seed++ {
		config := randomConfig(t, seed, 3, 1+int(seed%4)*20)
		for _, backend := range backends {
			plain := compiled(t, folding(config, "no"), backend)
			for _, how := range []string{"auto", "yes"} {
				rs := compiled(t, folding(config, how), backend)
				for _, s := range rs.Sets {
					if s.Sides != nil {
						kinds[fmt.Sprintf("%s %s verdicts=%t", backend, s.Type, s.Verdicts)] = true
					}
				}
				if err := alike(plain, rs, seed, packets); err != nil {
					t.Fatalf("seed %d, %s, RuleFolding=%s: %v", seed, backend, how, err)
				}
			}
		}
	}
	for _, kind := range []string{
		"nftables hash:net verdicts=false", "nftables hash:net verdicts=true", "nftables hash:port verdicts=false",
		"iptables hash:net verdicts=false", "iptables bitmap:port verdicts=false",
	} {
		if !kinds[kind] {
			t.Errorf("no rules were folded into %s, but into %v", kind, slices.Sorted(maps.Keys(kinds)))
		}
	}
}

// The test data's own configurations decide alike as well.
func TestFoldedConfigurationsDecideAlike(t *testing.T) {
	for i, c := range configurations(t) {
		for _, backend := range backends {
			plain, ok := tryCompile(folding(c.Config, "no"), backend)
			if !ok {
				continue
			}
			if err := alike(plain, compiled(t, folding(c.Config, "yes"), backend), uint64(i), 150); err != nil {
				t.Errorf("%s, %s: %v", c.name, backend, err)
			}
		}
	}
}

// alike says which packet two rulesets decide differently about.
func alike(plain, folded *ir.Ruleset, seed uint64, packets int) error {
	a, b := eval.New(plain), eval.New(folded)
	n, r := namesOf(plain), rand.New(rand.NewPCG(seed, 2))
	for range packets {
		p := n.packet(r)
		want, got := a.Evaluate(p), b.Evaluate(p)
		if !sameResult(want, got) {
			return fmt.Errorf("packet %+v\nwithout folding: %s\nwith folding: %s", p, describe(want), describe(got))
		}
	}
	return nil
}

// sameResult compares all of two results but the rules that led to them.
func sameResult(a, b eval.Result) bool {
	a.Trace, b.Trace = nil, nil
	return reflect.DeepEqual(a, b)
}

// describe is a result, with the rules that led to it but for mere jumps.
func describe(r eval.Result) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %+v %s, mark %d, logs %v", r.Verdict, r.Answer, r.Why, r.Packet.Mark, r.Logs)
	for _, s := range r.Trace {
		if _, jump := s.Rule.Actions[0].(ir.Jump); jump && s.Rule.Matches == nil {
			continue
		}
		fmt.Fprintf(&b, "\n  %s %s: %s", s.Chain.Table, s.Chain.Name, s.Rule)
		if s.Element != nil {
			fmt.Fprintf(&b, " [%s]", s.Element.Text)
		}
	}
	return b.String()
}

// A fold that is wrong is found: here one that puts a drop of 192.0.2.8/30 and an accept of the 192.0.2.8/29 around it into one
// map by their order in the text, not by which rule comes first.
func TestAWrongFoldIsFound(t *testing.T) {
	narrow, wide := netip.MustParsePrefix("192.0.2.8/30"), netip.MustParsePrefix("192.0.2.8/29")
	source := func(p netip.Prefix, v ir.Verdict) *ir.Rule {
		return &ir.Rule{Families: ir.V4, Matches: []ir.Match{ir.Addr{Side: ir.Source, Prefix: p}}, Actions: []ir.Action{v}}
	}
	part := func(low, high string, v ir.Verdict) ir.Element {
		return ir.NewVerdict(v, low+"-"+high, ir.Part{Kind: ir.AddrPart, Low: netip.MustParseAddr(low), High: netip.MustParseAddr(high)})
	}
	ruleset := func(sets []*ir.Set, rules ...*ir.Rule) *ir.Ruleset {
		return &ir.Ruleset{Backend: ir.NFTables, Sets: sets, Chains: []*ir.Chain{
			{Name: "input", Hook: &ir.Hook{Type: "filter", Hook: "input"}, Families: ir.Both, Rules: rules}}}
	}
	foldedTo := func(elements ...ir.Element) *ir.Ruleset {
		m := &ir.Set{Name: "fold", Type: "hash:net", Family: ir.V4, Sides: []ir.Side{ir.Source}, Verdicts: true, Elements: elements}
		return ruleset([]*ir.Set{m}, &ir.Rule{Families: ir.V4, Actions: []ir.Action{ir.Decide{Map: m}}})
	}
	plain := ruleset(nil, source(narrow, ir.Drop), source(wide, ir.Accept))
	right := foldedTo(part("192.0.2.8", "192.0.2.11", ir.Drop), part("192.0.2.12", "192.0.2.15", ir.Accept))
	if err := alike(plain, right, 1, 500); err != nil {
		t.Errorf("a right fold is taken for a wrong one: %v", err)
	}
	for what, wrong := range map[string]*ir.Ruleset{
		"the later rule wins":          foldedTo(part("192.0.2.8", "192.0.2.15", ir.Accept)),
		"one address too many":         foldedTo(part("192.0.2.8", "192.0.2.12", ir.Drop), part("192.0.2.13", "192.0.2.15", ir.Accept)),
		"one address too few":          foldedTo(part("192.0.2.8", "192.0.2.10", ir.Drop), part("192.0.2.11", "192.0.2.15", ir.Accept)),
		"the destination is asked":     swapped(foldedTo(part("192.0.2.8", "192.0.2.11", ir.Drop), part("192.0.2.12", "192.0.2.15", ir.Accept))),
		"every verdict is the same":    foldedTo(part("192.0.2.8", "192.0.2.15", ir.Drop)),
		"the rule is of no use at all": ruleset(nil),
	} {
		if alike(plain, wrong, 1, 500) == nil {
			t.Errorf("%s, and no packet was decided differently", what)
		}
	}
}

func swapped(rs *ir.Ruleset) *ir.Ruleset {
	rs.Sets[0].Sides = []ir.Side{ir.Dest}
	return rs
}
