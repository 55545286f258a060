package kernel_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"richwall/compile/ir"
	"richwall/internal/kernel"
)

// Where the kernel refuses rules and iptables-legacy does not say which, each of them is named among a thousand, for the place that
// it is refused at, and nothing is left of the search.
func TestRefusedRulesAreNamed(t *testing.T) {
	useVariant(t, "legacy")
	ns := namespace(t)
	rs := *scenario(t, "static-services.txt", ir.IPTables)
	rs.Chains = slices.Clone(rs.Chains)
	origins := map[string]*ir.Origin{}
	add := func(table, chain, spec string) {
		origin := &ir.Origin{Object: "direct", Text: spec}
		for i, c := range rs.Chains {
			if c.Table == table && c.Name == chain {
				more := *c
				more.Rules = append(slices.Clone(c.Rules), &ir.Rule{Families: ir.V4, Origin: origin, Actions: []ir.Action{ir.Raw{Args: strings.Fields(spec)}}})
				rs.Chains[i] = &more
				origins[spec] = origin
			}
		}
	}
	for i := range 1000 {
		add("filter", "INPUT_direct", fmt.Sprintf("-p tcp --dport %d -j ACCEPT", i+1))
		if i == 300 || i == 301 || i == 777 {
			add("filter", "INPUT_direct", fmt.Sprintf("-p tcp --dport %d -j MASQUERADE", i))
		}
	}
	before := saved(t, ns)
	k := open(t, ns, ir.IPTables)
	named := func() (list []string) {
		var walk func(error)
		walk = func(err error) {
			var rule *kernel.RuleError
			switch several := err.(type) {
			case interface{ Unwrap() []error }:
				for _, e := range several.Unwrap() {
					walk(e)
				}
			default:
				if errors.As(err, &rule) && rule.Origin != nil && rule.Origin == origins[rule.Origin.Text] {
					list = append(list, rule.Chain+" "+rule.Origin.Text)
				} else {
					t.Errorf("the error names no rule of ours: %v", err)
				}
			}
		}
		walk(k.Commit(t.Context(), &kernel.Desired{Rules: &rs}))
		return list
	}
	want := []string{"INPUT_direct -p tcp --dport 300 -j MASQUERADE", "INPUT_direct -p tcp --dport 301 -j MASQUERADE", "INPUT_direct -p tcp --dport 777 -j MASQUERADE"}
	if got := named(); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	sameLines(t, before, saved(t, ns))
	for i, c := range rs.Chains { // a rule that only the chain it is reached from makes a wrong one
		if c.Table == "filter" && c.Name == "INPUT_direct" {
			good := *c
			good.Rules = c.Rules[:2]
			rs.Chains[i] = &good
		}
	}
	add("nat", "POSTROUTING_direct", "-p tcp -j REDIRECT --to-ports 80")
	if got := named(); !slices.Equal(got, []string{"POSTROUTING_direct -p tcp -j REDIRECT --to-ports 80"}) {
		t.Errorf("got %q", got)
	}
	sameLines(t, before, saved(t, ns))
	for i, c := range rs.Chains { // rules that lead around
		if c.Table == "nat" && c.Name == "POSTROUTING_direct" {
			good := *c
			good.Rules = nil
			rs.Chains[i] = &good
		}
	}
	rs.Chains = append(rs.Chains, &ir.Chain{Table: "filter", Name: "around", Families: ir.V4, Shared: true, Declared: true})
	add("filter", "INPUT_direct", "-p tcp -j around")
	add("filter", "around", "-p udp -j INPUT_direct")
	got := named()
	if slices.Sort(got); !slices.Equal(got, []string{"INPUT_direct -p tcp -j around", "around -p udp -j INPUT_direct"}) {
		t.Errorf("got %q", got)
	}
	sameLines(t, before, saved(t, ns))
}

// A tool that names one rule at a time, and the rules that it does not understand: one commit names them all.
func TestRulesNotUnderstoodAreNamed(t *testing.T) {
	ns := namespace(t)
	rs := *scenario(t, "static-services.txt", ir.IPTables)
	rs.Chains = slices.Clone(rs.Chains)
	for i, c := range rs.Chains {
		if c.Table == "filter" && c.Name == "INPUT_direct" {
			more := *c
			for n := range 30 {
				spec := fmt.Sprintf("-p tcp --dport %d -m nosuch -j DROP", n+1)
				if n%3 == 0 {
					spec = strings.Replace(spec, "-m nosuch ", "", 1)
				}
				more.Rules = append(slices.Clone(more.Rules), &ir.Rule{Families: ir.V4, Origin: &ir.Origin{Object: "direct", Text: spec}, Actions: []ir.Action{ir.Raw{Args: strings.Fields(spec)}}})
			}
			rs.Chains[i] = &more
		}
	}
	before := saved(t, ns)
	err := open(t, ns, ir.IPTables).Commit(t.Context(), &kernel.Desired{Rules: &rs})
	if err == nil || strings.Count(err.Error(), "refuses the rule") != 20 || strings.Count(err.Error(), "-m nosuch") < 20 {
		t.Errorf("got %v", err)
	}
	sameLines(t, before, saved(t, ns))
}
