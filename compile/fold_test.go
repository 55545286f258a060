package compile

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"richwall/compile/eval"
	"richwall/compile/ir"
	"richwall/internal/boxes"
	"richwall/internal/irgen"
	"richwall/zones"
)

// Values of which many have something in common, so that random rules claim the same packets.
var (
	foldPrefixes = []string{"0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24", "10.1.2.0/25", "10.1.2.128/25", "10.1.2.3/32", "10.1.2.4/32",
		"10.255.0.0/16", "192.0.2.1/32", "192.0.2.2/32", "255.255.255.255/32", "2001:db8::/32", "2001:db8:1::/48", "2001:db8::1/128", "2001:db8::2/128"}
	// More than maxConstants, and several that overlap.
	foldPorts = [][2]int{{22, 22}, {80, 80}, {20, 30}, {25, 90}, {443, 443}, {400, 500}, {60000, 65535}, {65535, 65535}, {1, 1}, {1, 1023}, {53, 53},
		{8000, 8010}, {8005, 8020}, {1, 65535}}
	foldIfaces  = []string{"eth0", "eth1", "eth+"}
	foldMACs    = []string{"00:11:22:33:44:55", "00:11:22:33:44:66"}
	foldActions = []ir.Action{ir.Accept, ir.Accept, ir.Drop, ir.Drop, ir.Return, ir.Reject{}, ir.Reject{With: "icmp-admin-prohibited"},
		ir.Jump{Chain: "logs"}, ir.Jump{Chain: "drops"}, ir.Jump{Chain: "logs", Goto: true}}
)

func pick[T any](r *rand.Rand, list []T) T { return list[r.IntN(len(list))] }

// randomFoldable makes a rule. Those of one theme are alike, which makes runs.
func randomFoldable(r *rand.Rand, theme int) *ir.Rule {
	rule := &ir.Rule{Families: ir.Both, Origin: &ir.Origin{Object: pick(r, []string{"zone a", "zone a", "zone b"})}}
	match := func(m ir.Match) { rule.Matches = append(rule.Matches, m) }
	addr := func(s ir.Side) {
		p := netip.MustParsePrefix(pick(r, foldPrefixes))
		if f := familyOf(p); rule.Families&f != 0 { // the other family would make a rule that nothing matches
			rule.Families = f
			match(ir.Addr{Side: s, Prefix: p, Invert: p.Bits() > 0 && r.IntN(40) == 0})
		}
	}
	port := func(s ir.Side) {
		span := pick(r, foldPorts)
		match(ir.Port{Side: s, Protocol: pick(r, []string{"tcp", "tcp", "udp", "sctp", "dccp"}), Low: span[0], High: span[1]})
	}
	kind := theme % 10
	if r.IntN(5) == 0 {
		kind = r.IntN(10)
	}
	switch kind {
	case 0, 1:
		addr(ir.Source)
	case 2:
		addr(ir.Source)
		port(ir.Dest)
	case 3:
		port(ir.Dest)
	case 4:
		match(ir.Iface{Side: ir.Source, Name: pick(r, foldIfaces)})
	case 5:
		addr(ir.Source)
		addr(ir.Dest)
	case 6:
		addr(ir.Dest)
		addr(ir.Source)
		port(pick(r, []ir.Side{ir.Source, ir.Dest}))
	case 7:
		match(ir.EtherAddr{Side: ir.Source, MAC: pick(r, foldMACs)})
	case 8:
		addr(ir.Source)
		match(ir.L4Proto{Numbers: []int{pick(r, []int{6, 47})}})
	case 9:
		match(ir.PktType{Type: "host"})
	}
	rule.Actions = []ir.Action{foldActions[(theme+r.IntN(1+theme%4))%len(foldActions)]}
	if reject, ok := rule.Actions[0].(ir.Reject); ok && reject.With != "" && rule.Families != ir.V4 { // which has no such answer
		rule.Actions = []ir.Action{ir.Reject{}}
	}
	switch r.IntN(60) {
	case 0:
		rule.Actions = []ir.Action{ir.Log{Prefix: fmt.Sprint(r.IntN(100))}}
	case 1:
		match(ir.Limit{Rate: 1, Unit: 's'})
	case 2:
		rule.Matches = nil
	}
	return rule
}

// testChain is the chain that is folded, and what its rules lead to.
func testChain(backend ir.Backend, rules []*ir.Rule, sets []*ir.Set) *ir.Ruleset {
	table, hook := "", &ir.Hook{Type: "filter", Hook: "input"}
	if backend == ir.IPTables {
		table, hook = "filter", nil
	}
	jump := func(to string) *ir.Rule { return &ir.Rule{Families: ir.Both, Actions: []ir.Action{ir.Jump{Chain: to}}} }
	log := func(text string) *ir.Rule {
		return &ir.Rule{Families: ir.Both, Actions: []ir.Action{ir.Log{Prefix: text}}}
	}
	return &ir.Ruleset{Backend: backend, Sets: sets, Chains: []*ir.Chain{
		{Table: table, Name: "INPUT", Hook: hook, Builtin: hook == nil, Families: ir.Both, Rules: []*ir.Rule{jump("folded"), log("returned")}},
		{Table: table, Name: "folded", Families: ir.Both, Rules: append(slices.Clip(rules), log("fell through"))},
		{Table: table, Name: "logs", Families: ir.Both, Rules: []*ir.Rule{log("logs")}},
		{Table: table, Name: "drops", Families: ir.Both, Rules: []*ir.Rule{log("drops"),
			{Families: ir.Both, Matches: []ir.Match{ir.Port{Side: ir.Dest, Protocol: "tcp", Low: 1, High: 100}}, Actions: []ir.Action{ir.Drop}}}},
	}}
}

func randomFoldPacket(r *rand.Rand) eval.Packet {
	address := func(f ir.Families) netip.Addr {
		for {
			p := netip.MustParsePrefix(pick(r, foldPrefixes))
			if familyOf(p) == f {
				return pick(r, []netip.Addr{p.Addr(), boxes.LastAddr(p)})
			}
		}
	}
	f := pick(r, []ir.Families{ir.V4, ir.V4, ir.V6})
	span := pick(r, foldPorts)
	return eval.Packet{Path: eval.Input, In: pick(r, foldIfaces[:2]), Family: f, Source: address(f), Destination: address(f),
		Protocol: pick(r, []int{6, 6, 17, 132, 33, 47}), SourcePort: pick(r, foldPorts)[0], DestPort: min(65535, span[r.IntN(2)]+r.IntN(2)),
		EtherSource: pick(r, append(foldMACs, eval.NoMAC)), EtherDest: foldMACs[0], Type: "host"}
}

func foldDump(t *testing.T, backend ir.Backend, f *folded) string {
	t.Helper()
	var b strings.Builder
	if err := testChain(backend, f.out, f.sets).Dump(&b); err != nil {
		t.Fatal(err)
	}
	for _, s := range f.sets {
		fmt.Fprintf(&b, "%s %v %v %v\n", s.Name, s.Exact, s.Verdicts, s.Origin)
		for _, e := range s.Elements {
			fmt.Fprintf(&b, "%s %+v %v %v\n", e.Text, e.Parts(), e.Until(), e.Verdict())
		}
	}
	return b.String()
}

// Whatever rules come and go, folding them again gives what folding them for the first time does, and packets meet what they
// would without.
//
// RICHWALL_SEED repeats a run; RICHWALL_FOLDS is how many chains there are.
func TestFoldingAgainIsFolding(t *testing.T) {
	first := irgen.Seed(t)
	for seed := first; seed < first+irgen.Setting(t, "RICHWALL_FOLDS", 50); seed++ {
		for _, backend := range []ir.Backend{ir.NFTables, ir.IPTables} {
			r := rand.New(rand.NewPCG(seed, 1))
			theme := r.IntN(100)
			least := pick(r, []int{2, 2, 5})
			chain := &ir.Chain{Name: "folded"}
			fold := func(rules []*ir.Rule, before *folded) *folded {
				f := &folding{chain: chain, least: least, classes: classes{backend: backend}}
				return f.fold(rules, before)
			}
			var rules []*ir.Rule
			for range 30 + r.IntN(60) {
				rules = append(rules, randomFoldable(r, theme))
			}
			now := fold(rules, nil)
			for step := range 40 {
				next := slices.Clone(rules)
				at := r.IntN(len(next) + 1)
				for range pick(r, []int{0, 1, 1, 1, 2, 5}) {
					next = slices.Insert(next, at, randomFoldable(r, theme))
				}
				if r.IntN(2) == 0 {
					from := r.IntN(len(next) + 1)
					next = slices.Delete(next, from, min(len(next), from+1+r.IntN(3)))
				}
				before := foldDump(t, backend, now)
				again := fold(next, now)
				rightSets(t, seed, backend, again)
				want := foldDump(t, backend, fold(next, nil))
				if got := foldDump(t, backend, again); got != want {
					t.Fatalf("seed %d, %s, step %d:\n%s", seed, backend, step, firstDifference(got, want))
				}
				if foldDump(t, backend, now) != before {
					t.Fatalf("seed %d, %s, step %d: what was folded before has changed", seed, backend, step)
				}
				if fold(slices.Clone(next), again) != again {
					t.Fatalf("seed %d, %s, step %d: the same rules are not the same any more", seed, backend, step)
				}
				rules, now = next, again
			}
			plain, folded := eval.New(testChain(backend, rules, nil)), eval.New(testChain(backend, now.out, now.sets))
			for range 300 {
				p := randomFoldPacket(r)
				want, got := plain.Evaluate(p), folded.Evaluate(p)
				if want.Verdict != got.Verdict || want.Answer != got.Answer || !slices.Equal(want.Logs, got.Logs) {
					t.Fatalf("seed %d, %s: %+v\nwithout folding: %s %v %v\nwith: %s %v %v\n%s", seed, backend, p,
						want.Verdict, want.Answer, want.Logs, got.Verdict, got.Answer, got.Logs, foldDump(t, backend, now))
				}
			}
		}
	}
}

// rightSets says which set of a chain is wrong. None may be: what keeps a wrong one from the kernel is for what nobody has thought of.
func rightSets(t *testing.T, seed uint64, backend ir.Backend, f *folded) {
	t.Helper()
	if f.notes != nil {
		t.Fatalf("seed %d, %s: %v", seed, backend, f.notes)
	}
	for _, s := range f.sets {
		if what := wrong(backend, s, nil); what != "" {
			t.Fatalf("seed %d, %s: set %s: %s", seed, backend, s.Name, what)
		}
	}
}

// Of eight rules for ranges of ports that overlap a set is made for each range, in which nothing overlaps. A ninth rule, which has
// nothing in common with them, makes of them one set, in which they do. So it is with any number of rules, and when they go again.
func TestNinthPort(t *testing.T) {
	rule := func(addr string, low, high int) *ir.Rule {
		return &ir.Rule{Families: ir.V4, Actions: []ir.Action{ir.Accept}, Origin: &ir.Origin{Object: "zone a"},
			Matches: []ir.Match{ir.Addr{Prefix: netip.MustParsePrefix(addr)}, ir.Port{Side: ir.Dest, Protocol: "tcp", Low: low, High: high}}}
	}
	fold := func(rules []*ir.Rule, before *folded) *folded {
		f := &folding{chain: &ir.Chain{Name: "folded"}, least: 2, classes: classes{backend: ir.NFTables}}
		return f.fold(rules, before)
	}
	for n := 2; n < 2*maxConstants; n++ {
		var rules []*ir.Rule
		for i := range n {
			rules = append(rules, rule("10.0.0.0/16", 100*i+1, 100*i+350))
		}
		now := fold(rules, nil)
		rightSets(t, uint64(n), ir.NFTables, now)
		for i := range 3 {
			rules = append(slices.Clone(rules), rule("10.1.0.0/16", 10000+10*i, 10005+10*i))
			now = fold(rules, now)
			rightSets(t, uint64(n), ir.NFTables, now)
		}
		for range 3 {
			rules = slices.Clone(rules[:len(rules)-1])
			now = fold(rules, now)
			rightSets(t, uint64(n), ir.NFTables, now)
		}
	}
}

// Rules whose set would be wrong stay as they are, and the ruleset says so; others are folded. Packets meet what they would without,
// and once the fault is gone the rules are folded again.
func TestRulesThatCannotBeFoldedStay(t *testing.T) {
	seed := irgen.Seed(t)
	refusals := 0
	for n := range uint64(30) {
		for _, backend := range []ir.Backend{ir.NFTables, ir.IPTables} {
			r := rand.New(rand.NewPCG(seed+n, 5))
			theme := r.IntN(100)
			var rules []*ir.Rule
			for range 30 + r.IntN(60) {
				rules = append(rules, randomFoldable(r, theme))
			}
			fold := func(rules []*ir.Rule, before *folded, fault func(*ir.Set) string) *folded {
				f := &folding{chain: &ir.Chain{Name: "folded"}, least: 2, classes: classes{backend: backend}, fault: fault}
				return f.fold(rules, before)
			}
			refused := map[string]bool{}
			fault := func(s *ir.Set) string {
				if len(s.Name)%3 != 0 {
					return ""
				}
				refused[s.Name] = true
				return "somebody says so"
			}
			var now *folded
			for range 6 {
				clear(refused)
				now = fold(rules, nil, fault)
				refusals += len(refused)
				if (len(refused) > 0) != (len(now.notes) > 0) {
					t.Fatalf("seed %d, %s: %d sets are refused, and the notes are %v", seed+n, backend, len(refused), now.notes)
				}
				alikeUnfolded(t, r, backend, rules, now)
				rules = slices.Insert(slices.Clone(rules), r.IntN(len(rules)), randomFoldable(r, theme))
				now = fold(rules, now, fault)
				alikeUnfolded(t, r, backend, rules, now)
			}
			healed := fold(append(slices.Clone(rules), randomFoldable(r, theme)), nil, nil)
			if healed.notes != nil {
				t.Fatalf("seed %d: %v", seed+n, healed.notes)
			}
		}
	}
	if refusals < 20 {
		t.Errorf("only %d sets were refused", refusals)
	}
}

// alikeUnfolded says which packet meets another verdict without folding.
func alikeUnfolded(t *testing.T, r *rand.Rand, backend ir.Backend, rules []*ir.Rule, now *folded) {
	t.Helper()
	plain, folded := eval.New(testChain(backend, rules, nil)), eval.New(testChain(backend, now.out, now.sets))
	for range 100 {
		p := randomFoldPacket(r)
		want, got := plain.Evaluate(p), folded.Evaluate(p)
		if want.Verdict != got.Verdict || want.Answer != got.Answer || !slices.Equal(want.Logs, got.Logs) {
			t.Fatalf("%s: %+v\nwithout folding: %s %v %v\nwith: %s %v %v\n%s", backend, p,
				want.Verdict, want.Answer, want.Logs, got.Verdict, got.Answer, got.Logs, foldDump(t, backend, now))
		}
	}
}

// What keeps wrong sets from the kernel sees them: elements that overlap, which a fold takes for apart, stay rules.
func TestAWrongSetIsSeen(t *testing.T) {
	f := &folding{chain: &ir.Chain{Name: "folded"}, least: 2, classes: classes{backend: ir.NFTables}}
	var rules []*ir.Rule
	for _, p := range []string{"10.0.0.0/8", "10.1.0.0/16"} {
		rules = append(rules, &ir.Rule{Families: ir.V4, Actions: []ir.Action{ir.Accept}, Origin: &ir.Origin{Object: "zone a"},
			Matches: []ir.Match{ir.Addr{Prefix: netip.MustParsePrefix(p)}}})
	}
	into := f.fold(rules, nil).runs[0].stretches[0].folds[0]
	if !into.folded || into.apart != nil {
		t.Fatalf("the rules are not folded, or taken for apart: %+v", into)
	}
	was := *into
	was.apart = into.shape // a fault in what is known
	again := &fold{foldKey: into.foldKey, rules: 2, object: "zone a", gathered: true, members: into.members}
	f.makeSets(again, change{was: &was, alone: true})
	if again.folded || again.made != nil || !strings.Contains(again.fault, "10.0.0.0-10.255.255.255") && !strings.Contains(again.fault, "10.0.0.0/8") {
		t.Errorf("the wrong set is made, or the fault is %q", again.fault)
	}
}

// The ruleset of a configuration says which rules could not be folded, whether it was compiled for the first time or again.
func TestNotesOfFolding(t *testing.T) {
	foldFault = func(*ir.Set) string { return "somebody says so" }
	defer func() { foldFault = nil }()
	dir := t.TempDir()
	for name, text := range map[string]string{"richwall.conf": "RuleFolding=yes\n", "zones/public.xml": `<zone>
  <rule family="ipv4"><source address="192.0.2.1"/><accept/></rule>
  <rule family="ipv4"><source address="192.0.2.2"/><accept/></rule>
</zone>
`} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cfg, problems := zones.Load(zones.Dirs{System: dir})
	if cfg == nil {
		t.Fatal(problems)
	}
	first, h, err := History{}.Compile(cfg, ir.NFTables)
	if err != nil {
		t.Fatal(err)
	}
	again, _, err := h.Compile(cfg, ir.NFTables)
	if err != nil {
		t.Fatal(err)
	}
	for _, rs := range []*ir.Ruleset{first, again} {
		if len(rs.Notes) != 1 || !strings.Contains(rs.Notes[0], "2 rules of zone public are not folded") || len(rs.Sets) != 0 {
			t.Errorf("the notes are %q, and there are %d sets", rs.Notes, len(rs.Sets))
		}
	}
}

// Every rule keeps its place if it acts and lets packets go on.
func TestRulesThatStay(t *testing.T) {
	source := ir.Addr{Prefix: netip.MustParsePrefix("192.0.2.1/32")}
	for _, r := range []*ir.Rule{
		{Matches: []ir.Match{source}, Actions: []ir.Action{ir.Log{}}},
		{Matches: []ir.Match{source}, Actions: []ir.Action{ir.SetMark{Value: 1}}},
		{Matches: []ir.Match{source, ir.Limit{Rate: 1, Unit: 's'}}, Actions: []ir.Action{ir.Accept}},
		{Matches: []ir.Match{source}, Actions: []ir.Action{ir.Accept}, Direct: true},
		{Actions: []ir.Action{ir.Jump{Chain: "c"}}},
	} {
		r.Families = ir.Both
		c := classes{backend: ir.NFTables}
		if c.of(r) != nil {
			t.Errorf("%s could be passed by another rule", r)
		}
	}
}

// BenchmarkFold folds 100,000 rules, and again after one of them went or came.
func BenchmarkFold(b *testing.B) {
	for _, kind := range []struct {
		name string
		rule func(i int) []ir.Match
	}{
		{"addresses and ports", func(i int) []ir.Match {
			return []ir.Match{ir.Addr{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 32)},
				ir.Port{Side: ir.Dest, Protocol: "tcp", Low: 1024 + i%60000, High: 1024 + i%60000}}
		}},
		{"prefixes", func(i int) []ir.Match {
			return []ir.Match{ir.Addr{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10 + byte(i>>16), byte(i >> 8), byte(i), 0}), 24)}}
		}},
		{"prefixes and two ports", func(i int) []ir.Match {
			return []ir.Match{ir.Addr{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10 + byte(i>>16), byte(i >> 8), byte(i), 0}), 24)},
				ir.Port{Side: ir.Dest, Protocol: "tcp", Low: 22 + i%2, High: 22 + i%2}}
		}},
		{"prefixes and many ports", func(i int) []ir.Match {
			return []ir.Match{ir.Addr{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10 + byte(i>>16), byte(i >> 8), byte(i), 0}), 24)},
				ir.Port{Side: ir.Dest, Protocol: "tcp", Low: 22 + i%99, High: 22 + i%99}}
		}},
	} {
		origin := &ir.Origin{Object: "zone public"}
		all := make([]*ir.Rule, 100_000)
		for i := range all {
			all[i] = &ir.Rule{Families: ir.V4, Matches: kind.rule(i), Actions: []ir.Action{ir.Accept}, Origin: origin}
		}
		without := slices.Delete(slices.Clone(all), 50_000, 50_001)
		fold := func(rules []*ir.Rule, before *folded) *folded {
			f := &folding{chain: &ir.Chain{Name: "c"}, least: 64, classes: classes{backend: ir.NFTables}}
			return f.fold(rules, before)
		}
		b.Run(kind.name+", anew", func(b *testing.B) {
			for b.Loop() {
				fold(all, nil)
			}
		})
		b.Run(kind.name+", one more", func(b *testing.B) {
			before := fold(without, nil)
			for b.Loop() {
				fold(all, before)
			}
		})
	}
}
