package kernel

import (
	"net/netip"
	"strings"
	"testing"

	"richwall/compile/ir"
)

var (
	filterInput  = &ir.Hook{Type: "filter", Hook: "input"}
	filterOutput = &ir.Hook{Type: "filter", Hook: "output"}
	forward      = &ir.Hook{Type: "filter", Hook: "forward"}
	prerouting   = &ir.Hook{Type: "filter", Hook: "prerouting"}
	natIn        = &ir.Hook{Type: "nat", Hook: "prerouting", Priority: -90}
	natOut       = &ir.Hook{Type: "nat", Hook: "postrouting", Priority: 110}
)

func chainOf(name string, hook *ir.Hook, actions ...ir.Action) *ir.Chain {
	c := &ir.Chain{Name: name, Hook: hook, Families: ir.Both}
	for _, a := range actions {
		c.Rules = append(c.Rules, &ir.Rule{Families: ir.Both, Actions: []ir.Action{a}})
	}
	return c
}

// ladder is chains that jump to one another, n jumps deep.
func ladder(n int) []*ir.Chain {
	list := []*ir.Chain{chainOf("c0", forward, ir.Jump{Chain: "c1"})}
	for i := 1; i < n; i++ {
		list = append(list, chainOf(name(i), nil, ir.Jump{Chain: name(i + 1)}))
	}
	return append(list, chainOf(name(n), nil))
}

func name(n int) string { return "c" + strings.Repeat("x", n-1) + "1" }

func addresses(texts ...string) *ir.Set {
	s := &ir.Set{Name: "s", Type: "hash:net", Family: ir.V4}
	for _, text := range texts {
		low, high, ok := strings.Cut(text, "-")
		p := ir.Part{Kind: ir.AddrPart, Low: netip.MustParseAddr(low), High: netip.MustParseAddr(low)}
		if ok {
			p.High = netip.MustParseAddr(high)
		}
		s.Elements = append(s.Elements, ir.NewElement(text, p))
	}
	return s
}

func lookup(s *ir.Set) *ir.Chain {
	c := chainOf("c", forward, ir.Drop)
	c.Rules[0].Matches = []ir.Match{ir.Lookup{Set: s}}
	return c
}

func chains(list ...*ir.Chain) *ir.Ruleset { return &ir.Ruleset{Backend: ir.NFTables, Chains: list} }

func with(rs *ir.Ruleset, sets ...*ir.Set) *ir.Ruleset {
	rs.Sets = sets
	return rs
}

// The twin takes what the kernel takes, and refuses what it refuses.
func TestTwinIsAsStrictAsTheKernel(t *testing.T) {
	nineType := &ir.Set{Name: "s", Type: "hash:mac", Family: ir.Both}
	for _, test := range []struct {
		name    string
		rs      *ir.Ruleset
		refused string // part of the twin's error; empty if it takes it
	}{
		{"jump", chains(chainOf("a", forward, ir.Jump{Chain: "b"}), chainOf("b", nil, ir.Accept)), ""},
		{"jump to no chain", chains(chainOf("a", forward, ir.Jump{Chain: "b"})), "no chain b"},
		{"jump to itself", chains(chainOf("a", forward, ir.Jump{Chain: "a"})), "leads back"},
		{"jump in a circle", chains(chainOf("a", forward, ir.Jump{Chain: "b"}), chainOf("b", nil, ir.Jump{Chain: "c"}), chainOf("c", nil, ir.Jump{Chain: "b"})), "leads back"},
		{"goto in a circle", chains(chainOf("a", forward, ir.Jump{Chain: "b"}), chainOf("b", nil, ir.Jump{Chain: "b", Goto: true})), "leads back"},
		{"15 jumps deep", chains(ladder(15)...), ""},
		{"16 jumps deep", chains(ladder(16)...), "highest number"},
		{"jump from a nat chain", chains(chainOf("a", natIn, ir.Jump{Chain: "b"}), chainOf("b", nil, ir.Accept)), ""},
		{"chain with a long name", chains(chainOf(strings.Repeat("n", 255), nil)), ""},
		{"chain with a name too long", chains(chainOf(strings.Repeat("n", 256), nil)), "1 to 255"},
		{"nat in forward", chains(chainOf("a", &ir.Hook{Type: "nat", Hook: "forward", Priority: 5})), "no hook forward"},
		{"nat before connection tracking", chains(chainOf("a", &ir.Hook{Type: "nat", Hook: "prerouting", Priority: -200})), "above -200"},
		{"set", with(chains(lookup(addresses())), addresses("10.0.0.0-10.0.0.9", "10.0.0.10", "10.0.1.0-10.0.1.255")), ""},
		{"no set", chains(lookup(addresses())), "no set s"},
		{"set of another type", with(chains(lookup(addresses())), nineType), "of type hash:mac"},
		{"elements that overlap", with(chains(), addresses("10.0.0.0-10.0.0.9", "10.0.0.5-10.0.0.20")), "overlap"},
		{"element inside another one", with(chains(), addresses("10.0.0.0-10.0.0.9", "10.0.0.5")), "overlap"},
		{"everything", with(chains(), addresses("0.0.0.0-255.255.255.255")), ""},
		{"pmtu in forward", chains(clampIn(forward)), ""},
		{"pmtu in output", chains(clampIn(filterOutput)), ""},
		{"pmtu in input", chains(clampIn(filterInput)), "cannot stand"},
		{"pmtu in a chain that prerouting comes to", chains(chainOf("a", prerouting, ir.Jump{Chain: "c"}), clampIn(nil)), "cannot stand"},
		{"pmtu in a chain that nothing comes to", chains(clampIn(nil)), ""},
		{"masquerade in nat postrouting", chains(chainOf("a", natOut, ir.Masquerade{})), ""},
		{"masquerade in nat prerouting", chains(chainOf("a", natIn, ir.Masquerade{})), "cannot stand"},
		{"masquerade in filter", chains(chainOf("a", forward, ir.Masquerade{})), "cannot stand"},
		{"redirect in nat prerouting", chains(chainOf("a", natIn, redirect)), ""},
		{"redirect in nat postrouting", chains(chainOf("a", natOut, redirect)), "cannot stand"},
		{"dnat in filter", chains(chainOf("a", prerouting, ir.DNAT{Family: ir.V4, Addr: netip.MustParseAddr("10.0.0.1")})), "cannot stand"},
		{"reject in input", chains(chainOf("a", filterInput, ir.Reject{})), ""},
		{"reject in prerouting", chains(chainOf("a", prerouting, ir.Reject{})), ""},
		{"reject in postrouting", chains(chainOf("a", &ir.Hook{Type: "filter", Hook: "postrouting"}, ir.Reject{})), "cannot stand"},
		{"reject in nat", chains(chainOf("a", &ir.Hook{Type: "nat", Hook: "output", Priority: -90}, ir.Reject{})), ""},
		{"reverse path in prerouting", chains(fibIn(prerouting)), ""},
		{"reverse path in forward", chains(fibIn(forward)), ""},
		{"reverse path in output", chains(fibIn(filterOutput)), "cannot stand"},
		{"helper that is not there", chains(chainOf("a", prerouting, ir.SetHelper{Object: "helper-ftp-tcp"})), "no connection tracking helper"},
		{"flow table that is not there", chains(chainOf("a", forward, ir.Offload{})), "no flow table"},
		{"log prefix", chains(chainOf("a", forward, ir.Log{Prefix: strings.Repeat("p", 127)})), ""},
		{"log prefix too long", chains(chainOf("a", forward, ir.Log{Prefix: strings.Repeat("p", 128)})), "127"},
	} {
		t.Run(test.name, func(t *testing.T) {
			next := &Desired{Rules: test.rs}
			said := NewMemory().Commit(t.Context(), next)
			if test.refused == "" && said != nil {
				t.Errorf("the twin refuses it: %v", said)
			}
			if test.refused != "" && (said == nil || !strings.Contains(said.Error(), test.refused)) {
				t.Errorf("the twin says %v, want something about %q", said, test.refused)
			}
			Needs(t)
			if err := commitUnchecked(t, next); (err != nil) != (test.refused != "") {
				t.Errorf("the kernel says %v", err)
			}
		})
	}
}

var redirect = ir.DNAT{Family: ir.V4}

func clampIn(hook *ir.Hook) *ir.Chain {
	c := chainOf("c", hook, ir.ClampMSS{})
	c.Rules[0].Matches = []ir.Match{ir.SYN{}}
	return c
}

func fibIn(hook *ir.Hook) *ir.Chain {
	c := chainOf("c", hook, ir.Drop)
	c.Rules[0].Matches = []ir.Match{ir.Fib{}}
	return c
}

// commitUnchecked sends a ruleset to the kernel of a new namespace without a look at it before.
func commitUnchecked(t *testing.T, next *Desired) error {
	t.Helper()
	ns := Space(t)
	k, err := newNFTables(Options{Enter: ns.Do}.withDefaults())
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	return k.commitTables(t.Context(), next)
}
