package eval_test

import (
	"fmt"
	"net/netip"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"richwall/compile/eval"
	"richwall/compile/ir"
)

// syn is a packet that tests start from: a SYN to port 80 of this machine.
func syn() eval.Packet {
	return eval.Packet{
		Path: eval.Input, In: "eth0", Family: ir.V4, Source: netip.MustParseAddr("192.0.2.1"), Destination: netip.MustParseAddr("203.0.113.1"),
		Protocol: 6, SourcePort: 40000, DestPort: 80, Flags: eval.SYN, MSS: 1460, PathMSS: 1400, EtherSource: "02:00:00:00:00:01", EtherDest: "02:00:00:00:00:02",
	}
}

func rule(action ir.Action, matches ...ir.Match) *ir.Rule {
	return &ir.Rule{Families: ir.Both, Matches: matches, Actions: []ir.Action{action}}
}

// nftables is a ruleset with a base chain "first" of hook input before another one, "second", and with other chains.
func nftables(first, second []*ir.Rule, others ...*ir.Chain) *ir.Ruleset {
	return &ir.Ruleset{Backend: ir.NFTables, Chains: append([]*ir.Chain{
		{Name: "second", Hook: &ir.Hook{Type: "filter", Hook: "input", Priority: 10}, Families: ir.Both, Rules: second},
		{Name: "first", Hook: &ir.Hook{Type: "filter", Hook: "input", Priority: -150}, Families: ir.Both, Rules: first},
	}, others...)}
}

func chain(name string, rules ...*ir.Rule) *ir.Chain {
	return &ir.Chain{Name: name, Families: ir.Both, Rules: rules}
}

// Accepting is for one base chain, dropping for good; a chain that ends gives back to where it was jumped to from, and after
// a goto to where that one was.
func TestVerdicts(t *testing.T) {
	mark := func(n uint32) *ir.Rule { return rule(ir.SetMark{Value: n}) }
	accept, drop, reject, back := rule(ir.Accept), rule(ir.Drop), rule(ir.Reject{}), rule(ir.Return)
	jump, goTo := rule(ir.Jump{Chain: "other"}), rule(ir.Jump{Chain: "other", Goto: true})
	list := func(r ...*ir.Rule) []*ir.Rule { return r }
	for what, c := range map[string]struct {
		first, second, other []*ir.Rule
		verdict              eval.Verdict
		mark                 uint32
	}{
		"without rules a packet passes":                     {nil, nil, nil, eval.Accept, 0},
		"after accept the next base chain may drop":         {list(accept, mark(1)), list(drop), nil, eval.Drop, 0},
		"after drop no chain is asked":                      {list(drop), list(mark(1), accept), nil, eval.Drop, 0},
		"reject drops too":                                  {list(reject), list(mark(1), accept), nil, eval.Reject, 0},
		"base chains run by priority":                       {list(mark(1)), list(mark(2)), nil, eval.Accept, 2},
		"a jump comes back":                                 {list(jump, drop), nil, list(mark(1)), eval.Drop, 1},
		"a return comes back earlier":                       {list(jump, drop), nil, list(back, accept), eval.Drop, 0},
		"a return in a base chain lets pass":                {list(back, drop), nil, nil, eval.Accept, 0},
		"a goto does not come back":                         {list(goTo, drop), nil, list(mark(1)), eval.Accept, 1},
		"what a chain accepts, the one before need not see": {list(jump, drop), nil, list(accept), eval.Accept, 0},
	} {
		got := eval.Evaluate(nftables(c.first, c.second, chain("other", c.other...)), syn())
		if got.Verdict != c.verdict || got.Packet.Mark != c.mark {
			t.Errorf("%s: got %s and mark %d, want %s and mark %d", what, got.Verdict, got.Packet.Mark, c.verdict, c.mark)
		}
	}
}

// iptables runs through its tables in the kernel's order, and what one of them accepts another can drop.
func TestTables(t *testing.T) {
	builtin := func(table string, rules ...*ir.Rule) *ir.Chain {
		return &ir.Chain{Table: table, Name: "INPUT", Families: ir.Both, Builtin: true, Rules: rules}
	}
	rs := &ir.Ruleset{Backend: ir.IPTables, Chains: []*ir.Chain{
		builtin("security", rule(ir.Drop)), builtin("filter", rule(ir.Accept)), builtin("mangle", rule(ir.SetMark{Value: 1})),
	}}
	got := eval.Evaluate(rs, syn())
	var tables []string
	for _, s := range got.Trace {
		tables = append(tables, s.Chain.Table)
	}
	if want := []string{"mangle", "filter", "security"}; got.Verdict != eval.Drop || !slices.Equal(tables, want) {
		t.Errorf("got %s by way of %v, want drop by way of %v", got.Verdict, tables, want)
	}
	if d := got.Decisive(); d == nil || d.Chain.Table != "security" {
		t.Errorf("the rule that decided is %+v, want that of table security", d)
	}
}

// A rule with several actions does all of them, up to a verdict; and the trace has the rule once.
func TestSeveralActions(t *testing.T) {
	r := &ir.Rule{Families: ir.Both, Actions: []ir.Action{ir.Log{Prefix: "no "}, ir.Drop}}
	got := eval.Evaluate(nftables([]*ir.Rule{r}, nil), syn())
	if got.Verdict != eval.Drop || len(got.Logs) != 1 || len(got.Trace) != 1 {
		t.Errorf("got %s, %d log lines and %d rules, want drop, 1 and 1", got.Verdict, len(got.Logs), len(got.Trace))
	}
}

// What nobody can say is not guessed: a rule that asks for a fact that is not given leaves the packet unknown, if all else of
// the rule holds.
func TestUnknown(t *testing.T) {
	source := ir.Addr{Side: ir.Source, Prefix: netip.MustParsePrefix("192.0.2.0/24")}
	for what, c := range map[string]struct {
		rule *ir.Rule
		want string // in Why; empty for a packet that passes
	}{
		"a direct rule":                  {rule(ir.Raw{Args: []string{"-j", "DROP"}}), "direct interface"},
		"a source":                       {rule(ir.Drop, source), "the source address is not given"},
		"another port's source":          {rule(ir.Drop, source, ir.Port{Side: ir.Dest, Protocol: "tcp", Low: 81, High: 90}), ""},
		"a source of the other family":   {rule(ir.Drop, ir.Addr{Prefix: netip.MustParsePrefix("2001:db8::/32")}), ""},
		"a chain that there is not":      {rule(ir.Jump{Chain: "nowhere"}), "there is no chain nowhere"},
		"a chain that jumps to itself":   {rule(ir.Jump{Chain: "circle"}), "more than 16 jumps deep"},
		"a MAC address":                  {rule(ir.Drop, ir.EtherAddr{MAC: "02:00:00:00:00:01"}), "the MAC address that it comes from is not given"},
		"a source port":                  {rule(ir.Drop, ir.Port{Protocol: "tcp", Low: 1, High: 2}), "the source port is not given"},
		"a forward-port that leads away": {rule(ir.DNAT{Family: ir.V4, Addr: netip.MustParseAddr("10.0.0.9")}), "the interface that leads there is not given"},
	} {
		p := syn()
		p.Source, p.SourcePort, p.EtherSource = netip.Addr{}, 0, ""
		got := eval.Evaluate(nftables([]*ir.Rule{c.rule}, nil, chain("circle", rule(ir.Jump{Chain: "circle"}))), p)
		if (got.Verdict == eval.Unknown) != (c.want != "") || !strings.Contains(got.Why, c.want) {
			t.Errorf("%s: got %s, %q, want %q", what, got.Verdict, got.Why, c.want)
		}
	}
}

// The back ends differ in the answer that says "prohibited", and in what becomes of a SYN that announces no MSS; they agree about a
// mark's mask.
func TestBackendsDiffer(t *testing.T) {
	on := func(b ir.Backend, p eval.Packet, a ir.Action) eval.Result {
		rs := nftables([]*ir.Rule{rule(a)}, nil)
		if b == ir.IPTables {
			rs = &ir.Ruleset{Backend: b, Chains: []*ir.Chain{{Table: "filter", Name: "INPUT", Families: ir.Both, Builtin: true, Rules: []*ir.Rule{rule(a)}}}}
		}
		return eval.Evaluate(rs, p)
	}
	marked, without := syn(), syn()
	marked.Mark, without.MSS = 0xff, 0
	type numbers map[ir.Backend]int
	for what, c := range map[string]struct {
		packet eval.Packet
		action ir.Action
		of     func(eval.Result) int
		want   numbers
	}{
		"mark 1/f":              {marked, ir.SetMark{Value: 1, Mask: 0xf, Masked: true}, func(r eval.Result) int { return int(r.Packet.Mark) }, numbers{ir.NFTables: 0xf1, ir.IPTables: 0xf1}},
		"prohibited":            {syn(), ir.Reject{With: ir.RejectProhibited}, func(r eval.Result) int { return r.Answer.Code }, numbers{ir.NFTables: 13, ir.IPTables: 10}},
		"a SYN without MSS":     {without, ir.ClampMSS{Size: 1200}, func(r eval.Result) int { return r.Packet.MSS }, numbers{ir.NFTables: 0, ir.IPTables: 536}},
		"a clamp":               {syn(), ir.ClampMSS{Size: 1200}, func(r eval.Result) int { return r.Packet.MSS }, numbers{ir.NFTables: 1200, ir.IPTables: 1200}},
		"a clamp that is large": {syn(), ir.ClampMSS{Size: 9000}, func(r eval.Result) int { return r.Packet.MSS }, numbers{ir.NFTables: 1460, ir.IPTables: 1460}},
		"a clamp to the path":   {syn(), ir.ClampMSS{}, func(r eval.Result) int { return r.Packet.MSS }, numbers{ir.NFTables: 1400, ir.IPTables: 1400}},
		"a clamp that raises":   {syn(), ir.ClampMSS{Size: 9000, Raise: true}, func(r eval.Result) int { return r.Packet.MSS }, numbers{ir.NFTables: 9000}},
	} {
		for b, want := range c.want {
			if got := c.of(on(b, c.packet, c.action)); got != want {
				t.Errorf("%s, %s: got %d, want %d", what, b, got, want)
			}
		}
	}
}

// A connection's destination is translated once, by its first packet; rules behind that see the new one.
func TestTranslation(t *testing.T) {
	web := netip.MustParseAddr("10.0.0.9")
	rs := &ir.Ruleset{Backend: ir.NFTables, Chains: []*ir.Chain{
		{Name: "nat", Hook: &ir.Hook{Type: "nat", Hook: "prerouting", Priority: -90}, Families: ir.Both, Rules: []*ir.Rule{
			rule(ir.DNAT{Family: ir.V6, Addr: netip.MustParseAddr("2001:db8::9")}), // the packet is none of IPv6
			rule(ir.DNAT{Family: ir.V4, Addr: web, Low: 8080, High: 8080}), rule(ir.Drop),
		}},
		{Name: "filter", Hook: &ir.Hook{Type: "filter", Hook: "forward"}, Families: ir.Both, Rules: []*ir.Rule{
			rule(ir.Accept, ir.CTState{States: []string{"established"}}), rule(ir.Accept, ir.CTStatus{}, ir.CTOrigPort{Protocol: "tcp", Low: 80, High: 80}), rule(ir.Drop),
		}},
	}}
	p := syn()
	p.Path, p.Out = eval.Forward, "eth1"
	got := eval.Evaluate(rs, p)
	if got.Verdict != eval.Accept || got.Packet.Destination != web || got.Packet.DestPort != 8080 || got.DNAT == nil {
		t.Errorf("the first packet: got %s to %s port %d, want that it is accepted to %s port 8080", got.Verdict, got.Packet.Destination, got.Packet.DestPort, web)
	}
	p.State = eval.StateEstablished
	if got = eval.Evaluate(rs, p); got.Verdict != eval.Accept || got.DNAT != nil {
		t.Errorf("a later packet: got %s and translated by %v, want that rules do not translate it", got.Verdict, got.DNAT)
	}
}

// A redirect sends a packet to this machine, whatever its destination was; with iptables the same rule changes the port alone.
func TestRedirect(t *testing.T) {
	p := syn()
	p.Path, p.Out, p.Local = eval.Forward, "eth1", netip.MustParseAddr("203.0.113.7")
	redirect := rule(ir.DNAT{Family: ir.V4, Low: 8080, High: 8080})
	nft := &ir.Ruleset{Backend: ir.NFTables, Chains: []*ir.Chain{
		{Name: "nat", Hook: &ir.Hook{Type: "nat", Hook: "prerouting"}, Families: ir.Both, Rules: []*ir.Rule{redirect}},
		{Name: "in", Hook: &ir.Hook{Type: "filter", Hook: "input"}, Families: ir.Both, Rules: []*ir.Rule{rule(ir.SetMark{Value: 1})}},
	}}
	if got := eval.Evaluate(nft, p).Packet; got.Path != eval.Input || got.Destination != p.Local || got.DestPort != 8080 || got.Mark != 1 {
		t.Errorf("nftables: got %+v", got)
	}
	iptables := &ir.Ruleset{Backend: ir.IPTables, Chains: []*ir.Chain{{Table: "nat", Name: "PREROUTING", Builtin: true, Families: ir.Both, Rules: []*ir.Rule{redirect}}}}
	if got := eval.Evaluate(iptables, p).Packet; got.Path != eval.Forward || got.Destination != p.Destination || got.DestPort != 8080 {
		t.Errorf("iptables: got %+v", got)
	}
}

// A packet is looked up in a set by the fields of the set's type, each taken from the side that the rule or a folded set says;
// an element that covers several packets is found as well as one that stands for one.
func TestSets(t *testing.T) {
	addr := func(low, high string) ir.Part {
		return ir.Part{Kind: ir.AddrPart, Low: netip.MustParseAddr(low), High: netip.MustParseAddr(high)}
	}
	port := func(first, last int) ir.Part {
		return ir.Part{Kind: ir.PortPart, Name: "tcp", First: first, Last: last}
	}
	set := func(typ string, sides []ir.Side, elements ...[]ir.Part) *ir.Set {
		s := &ir.Set{Name: "set", Type: typ, Family: ir.V4, Sides: sides}
		for i, parts := range elements {
			s.Elements = append(s.Elements, ir.NewElement(fmt.Sprint(i), parts...))
		}
		return s
	}
	one, network := []ir.Part{addr("192.0.2.1", "192.0.2.1")}, []ir.Part{addr("192.0.2.0", "192.0.2.7")}
	around, far := []ir.Part{addr("192.0.0.0", "192.0.255.255")}, []ir.Part{addr("192.0.2.2", "192.0.2.9")}
	service := []ir.Part{addr("203.0.113.0", "203.0.113.255"), port(80, 90)}
	six := set("hash:ip", nil)
	six.Family = ir.V6
	for what, c := range map[string]struct {
		lookup  ir.Lookup
		element string // that is found; empty for none
		matches bool
	}{
		"an address":                       {ir.Lookup{Set: set("hash:ip", nil, one)}, "0", true},
		"an address, inverted":             {ir.Lookup{Set: set("hash:ip", nil, one), Invert: true}, "", false},
		"a prefix":                         {ir.Lookup{Set: set("hash:net", nil, far, network)}, "1", true},
		"a prefix behind narrower ones":    {ir.Lookup{Set: set("hash:net", nil, []ir.Part{addr("192.0.0.1", "192.0.0.2")}, around, far)}, "1", true},
		"the other side":                   {ir.Lookup{Set: set("hash:net", nil, network), Side: ir.Dest}, "", false},
		"an address and a port":            {ir.Lookup{Set: set("hash:net,port", nil, service), Side: ir.Dest}, "0", true},
		"an address and the wrong port":    {ir.Lookup{Set: set("hash:net,port", nil, []ir.Part{service[0], port(81, 90)}), Side: ir.Dest}, "", false},
		"source and destination, folded":   {ir.Lookup{Set: set("hash:net,net,port", []ir.Side{ir.Source, ir.Dest, ir.Dest}, append(network[:1:1], service...))}, "0", true},
		"ports alone":                      {ir.Lookup{Set: set("hash:port", []ir.Side{ir.Dest}, []ir.Part{port(80, 80)})}, "0", true},
		"ports of no protocol":             {ir.Lookup{Set: set("bitmap:port", []ir.Side{ir.Dest}, []ir.Part{{Kind: ir.PortPart, First: 70, Last: 80}})}, "0", true},
		"a set of the other family":        {ir.Lookup{Set: six}, "", false},
		"not in a set of the other family": {ir.Lookup{Set: six, Invert: true}, "", false},
		"not in an empty set":              {ir.Lookup{Set: set("hash:ip", nil), Invert: true}, "", true},
		"a MAC address":                    {ir.Lookup{Set: set("hash:mac", nil, []ir.Part{{Kind: ir.MACPart, Name: "02:00:00:00:00:01"}})}, "0", true},
		"an interface":                     {ir.Lookup{Set: set("hash:net,iface", nil, append(network[:1:1], ir.Part{Kind: ir.IfacePart, Name: "eth0"}))}, "0", true},
		"a mark that the packet has not":   {ir.Lookup{Set: set("hash:ip,mark", nil, append(one[:1:1], ir.Part{Kind: ir.MarkPart, First: 7}))}, "", false},
	} {
		rs := nftables([]*ir.Rule{rule(ir.SetMark{Value: 1}, c.lookup)}, nil)
		rs.Sets = []*ir.Set{c.lookup.Set}
		got := eval.Evaluate(rs, syn())
		element := ""
		if len(got.Trace) > 0 && got.Trace[0].Element != nil {
			element = got.Trace[0].Element.Text
		}
		if matches := got.Packet.Mark == 1; matches != c.matches || element != c.element {
			t.Errorf("%s: got element %q and %t, want %q and %t", what, element, matches, c.element, c.matches)
		}
	}
}

// A verdict map does what the packet's element says, be it a jump, and goes on where there is none.
func TestVerdictMap(t *testing.T) {
	element := func(last byte, v ir.Action) ir.Element {
		a := netip.AddrFrom4([4]byte{192, 0, 2, last})
		return ir.NewVerdict(v, a.String(), ir.Part{Kind: ir.AddrPart, Low: a, High: a})
	}
	m := &ir.Set{Name: "map", Type: "hash:ip", Family: ir.V4, Sides: []ir.Side{ir.Source}, Verdicts: true, Elements: []ir.Element{
		element(1, ir.Drop), element(2, ir.Jump{Chain: "other"}), element(3, ir.Accept), element(4, ir.Return),
	}}
	rs := nftables([]*ir.Rule{rule(ir.Decide{Map: m}), rule(ir.SetMark{Value: 1})}, nil, chain("other", rule(ir.SetMark{Value: 2}), rule(ir.Drop)))
	rs.Sets = []*ir.Set{m}
	for last, want := range map[byte]struct {
		verdict eval.Verdict
		mark    uint32
	}{1: {eval.Drop, 0}, 2: {eval.Drop, 2}, 3: {eval.Accept, 0}, 4: {eval.Accept, 0}, 5: {eval.Accept, 1}} {
		p := syn()
		p.Source = netip.AddrFrom4([4]byte{192, 0, 2, last})
		got := eval.Evaluate(rs, p)
		if got.Verdict != want.verdict || got.Packet.Mark != want.mark {
			t.Errorf("192.0.2.%d: got %s, mark %d, want %s, mark %d", last, got.Verdict, got.Packet.Mark, want.verdict, want.mark)
		}
		if found := got.Trace[0].Element; (found != nil) != (last < 5) {
			t.Errorf("192.0.2.%d: the trace has element %v", last, found)
		}
	}
}

// Every kind of match and action that the intermediate form has is known, and what is said of a packet that a match is made
// for is that it matches.
func TestEveryMatchAndActionIsKnown(t *testing.T) {
	translated, lost := syn(), syn()
	translated.Translated, translated.OriginalPort = true, 80
	lost.ReversePath = eval.OtherInterface
	answer := syn()
	answer.Flags |= eval.ACK
	ping := syn()
	ping.Protocol, ping.ICMPType = 1, 8
	set := &ir.Set{Name: "set", Type: "hash:ip", Family: ir.V4, Elements: []ir.Element{ir.NewVerdict(ir.Accept, "", ir.Part{Kind: ir.AddrPart, Low: syn().Source, High: syn().Source})}}
	network := netip.MustParsePrefix("192.0.2.0/24")
	var kinds []string
	for _, c := range []struct {
		packet eval.Packet
		match  ir.Match
	}{
		{syn(), ir.NFProto{Family: ir.V4}}, {syn(), ir.Iface{Name: "eth+"}}, {syn(), ir.Addr{Prefix: network}},
		{syn(), ir.EtherAddr{MAC: "02:00:00:00:00:01"}}, {syn(), ir.Lookup{Set: set}}, {syn(), ir.L4Proto{Numbers: []int{17, 6}}},
		{syn(), ir.Port{Side: ir.Dest, Protocol: "tcp", Low: 80, High: 81}}, {ping, ir.ICMP{Family: ir.V4, Type: 8, Code: ir.AnyCode}},
		{ping, ir.ICMPTypes{Family: ir.V4, Types: []int{0, 8}}}, {syn(), ir.SYN{}}, {answer, ir.ACK{}}, {syn(), ir.MSS{Low: 1460, High: 1500}},
		{syn(), ir.CTState{States: []string{"new"}}}, {syn(), ir.CTDirection{}}, {translated, ir.CTStatus{}},
		{translated, ir.CTOrigPort{Protocol: "tcp", Low: 80, High: 80}}, {lost, ir.Fib{}}, {syn(), ir.PktType{Type: "unicast"}},
		{syn(), ir.AddrList{Prefixes: []netip.Prefix{network, netip.MustParsePrefix("203.0.113.0/24")}}}, {syn(), ir.Limit{Rate: 1, Unit: 'd'}},
	} {
		kinds = append(kinds, reflect.TypeOf(c.match).Name())
		rs := nftables([]*ir.Rule{rule(ir.Drop, c.match)}, nil)
		rs.Sets = []*ir.Set{set}
		if got := eval.Evaluate(rs, c.packet); got.Verdict != eval.Drop {
			t.Errorf("%T does not match", c.match)
		}
	}
	for _, a := range []ir.Action{
		ir.Accept, ir.Jump{Chain: "other"}, ir.Decide{Map: set}, ir.Reject{}, ir.Log{}, ir.NFLog{}, ir.Audit{}, ir.SetMark{}, ir.ClampMSS{},
		ir.Masquerade{}, ir.DNAT{Family: ir.V4, Low: 1, High: 1}, ir.SetHelper{}, ir.Offload{}, ir.Raw{},
	} {
		kinds = append(kinds, reflect.TypeOf(a).Name())
		rs := nftables([]*ir.Rule{rule(a)}, nil, chain("other"))
		rs.Sets = []*ir.Set{set}
		if got := eval.Evaluate(rs, syn()); len(got.Trace) != 1 {
			t.Errorf("%T: the trace has %d rules, want 1", a, len(got.Trace))
		}
	}
	if missing := slices.DeleteFunc(declared(t), func(name string) bool { return slices.Contains(kinds, name) }); len(missing) > 0 {
		t.Errorf("this test does without %v", missing)
	}
}

var member = regexp.MustCompile(`(?m)^func \((\w+)\) +(?:match|action)\(\)`)

// declared are the kinds of matches and actions.
func declared(t *testing.T) []string {
	t.Helper()
	var names []string
	for _, file := range []string{"../ir/match.go", "../ir/action.go"} {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range member.FindAllStringSubmatch(string(source), -1) {
			names = append(names, m[1])
		}
	}
	if len(names) < 30 {
		t.Fatalf("only %v are declared", names)
	}
	return names
}

// One packet costs about the same in a set of 5000 prefixes as in a small one.
func BenchmarkLargeSet(b *testing.B) {
	set := &ir.Set{Name: "set", Type: "hash:net", Family: ir.V4}
	for i := range 5000 {
		low := netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0})
		high := netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 127})
		set.Elements = append(set.Elements, ir.NewElement("", ir.Part{Kind: ir.AddrPart, Low: low, High: high}))
	}
	rs := nftables([]*ir.Rule{rule(ir.Drop, ir.Lookup{Set: set})}, nil)
	rs.Sets = []*ir.Set{set}
	e, p := eval.New(rs), syn()
	p.Source = netip.MustParseAddr("10.9.9.9")
	for b.Loop() {
		if e.Evaluate(p).Verdict != eval.Drop {
			b.Fatal("the packet is not found")
		}
	}
}
