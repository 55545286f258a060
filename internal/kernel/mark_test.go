package kernel_test

import (
	"fmt"
	"math"
	"regexp"
	"strings"
	"testing"

	"richwall/compile/eval"
	"richwall/compile/ir"
	"richwall/internal/kernel"
	"richwall/internal/lab"
)

// A rule that sets a mark under a mask leaves the other bits of the mark as another program has set them, on both back ends; the
// evaluator says the same.
func TestMaskedMarks(t *testing.T) {
	kernel.Needs(t, tableTools...)
	const before = 0x12345678 // what the other program sets
	cases := []struct {
		action ir.SetMark
		want   uint32
	}{
		{ir.SetMark{Value: 0x200, Mask: 0x3f00, Masked: true}, 0x12344278},
		{ir.SetMark{Value: 0xff, Mask: 0x0f, Masked: true}, 0x12345678&^0x0f ^ 0xff},
		{ir.SetMark{Value: 1, Masked: true}, 0x12345679},
		{ir.SetMark{Masked: true}, before},
		{ir.SetMark{Value: 5, Mask: math.MaxUint32, Masked: true}, 5},
		{ir.SetMark{Value: 0, Mask: 0xff, Masked: true}, 0x12345600},
		{ir.SetMark{Value: math.MaxUint32}, math.MaxUint32},
		{ir.SetMark{}, 0},
	}
	chain := &ir.Chain{Name: "mangle_PREROUTING", Hook: &ir.Hook{Type: "filter", Hook: "prerouting", Priority: -145}, Families: ir.Both}
	var seen strings.Builder
	var probes []lab.Probe
	for i, c := range cases {
		port := 1000 + i
		chain.Rules = append(chain.Rules, &ir.Rule{Families: ir.Both, Actions: []ir.Action{c.action},
			Matches: []ir.Match{ir.Port{Side: ir.Dest, Protocol: "tcp", Low: port, High: port}}})
		fmt.Fprintf(&seen, "\t\ttcp dport %d meta mark 0x%08x counter comment \"case %d\"\n", port, c.want, i)
		for _, f := range []lab.Family{lab.IPv4, lab.IPv6} {
			probes = append(probes, lab.Probe{From: lab.Client, To: lab.FirewallHost, Family: f, Port: port, MSS: 1460})
		}
	}
	table := fmt.Sprintf(`table inet other {
	chain before {
		type filter hook prerouting priority -300
		meta mark set 0x%08x
	}
	chain behind {
		type filter hook prerouting priority -140
%s	}
}`, before, seen.String())
	bothBackends(t, func(t *testing.T, backend ir.Backend) {
		c := *chain
		if backend == ir.IPTables {
			c = ir.Chain{Table: "mangle", Name: "PREROUTING", Families: ir.Both, Builtin: true, Rules: chain.Rules}
		}
		rs := &ir.Ruleset{Backend: backend, Chains: []*ir.Chain{&c}}
		l, err := lab.New(t.Context(), lab.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		commit(t, open(t, l.Firewall(), backend), &kernel.Desired{Rules: rs})
		run(t, l.Firewall(), table, "nft", "-f", "-")
		if _, err := l.Probe(t.Context(), probes); err != nil {
			t.Fatal(err)
		}
		listing := run(t, l.Firewall(), "", "nft", "list", "table", "inet", "other")
		counted := regexp.MustCompile(`counter packets (\d+) bytes \d+ comment "case (\d+)"`).FindAllStringSubmatch(listing, -1)
		if len(counted) != len(cases) {
			t.Fatalf("there are %d counters:\n%s", len(counted), listing)
		}
		for i, m := range counted {
			if m[1] != "2" {
				t.Errorf("%+v: %s of 2 packets had the mark 0x%x", cases[i].action, m[1], cases[i].want)
			}
			p := eval.Packet{Path: eval.Input, Family: ir.V4, Protocol: 6, DestPort: 1000 + i, SourcePort: 1, Mark: before}
			if got := eval.New(rs).Evaluate(p).Packet.Mark; got != cases[i].want {
				t.Errorf("%+v: the evaluator makes the mark 0x%x, not 0x%x", cases[i].action, got, cases[i].want)
			}
		}
	})
}

// A rule about protocol 0 lets no packet of another protocol in.
func TestProtocolZeroIsOneProtocol(t *testing.T) {
	kernel.Needs(t, "nft")
	accept := &ir.Rule{Families: ir.Both, Matches: []ir.Match{ir.L4Proto{Numbers: []int{0}}}, Actions: []ir.Action{ir.Accept}}
	drop := &ir.Rule{Families: ir.Both, Actions: []ir.Action{ir.Drop}, Matches: []ir.Match{ir.Iface{Name: lab.ClientLink}, ir.L4Proto{Numbers: []int{6}}}}
	rs := &ir.Ruleset{Backend: ir.NFTables, Chains: []*ir.Chain{
		{Name: "filter_INPUT", Hook: &ir.Hook{Type: "filter", Hook: "input"}, Families: ir.Both, Rules: []*ir.Rule{accept, drop}}}}
	l, err := lab.New(t.Context(), lab.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	commit(t, open(t, l.Firewall(), ir.NFTables), &kernel.Desired{Rules: rs})
	for _, f := range []lab.Family{lab.IPv4, lab.IPv6} {
		results, err := l.Probe(t.Context(), []lab.Probe{{From: lab.Client, To: lab.FirewallHost, Family: f, Port: 80, MSS: 1460}})
		if err != nil {
			t.Fatal(err)
		}
		if results[0].At != "" {
			t.Errorf("%s: a TCP packet came in by a rule about protocol 0", f)
		}
	}
}
