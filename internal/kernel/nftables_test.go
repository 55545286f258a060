package kernel_test

import (
	"errors"
	"math/rand/v2"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"

	"richwall/compile/ir"
	"richwall/internal/kernel"
	"richwall/internal/lab"
)

// What "compile --to nft" prints and what is committed are the same rules: a namespace that loaded the text and one that
// the messages were sent to list the same.
func TestMessagesAreTheText(t *testing.T) {
	for _, c := range some(configurations(t)) {
		rs := c.compiled(t, ir.NFTables)
		if rs == nil {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			text, ok := nftText(t, rs)
			if !ok {
				t.Skip("text cannot say it, or the kernel need not have it")
			}
			byText, byMessages := namespace(t), namespace(t)
			run(t, byText, text, "nft", "-f", "-")
			commit(t, open(t, byMessages, ir.NFTables), &kernel.Desired{Rules: rs})
			sameLines(t, listTable(t, byText), listTable(t, byMessages))
		})
	}
}

// Whatever was committed before, a commit ends in what it would from nothing. Only the order in which chains were made is
// seen in a listing.
func TestNFTablesFromAnyToAny(t *testing.T) {
	var rulesets []*ir.Ruleset
	for _, c := range configurations(t) {
		if rs := c.compiled(t, ir.NFTables); rs != nil && rs.Flowtable == nil {
			rulesets = append(rulesets, rs)
		}
	}
	ns := namespace(t)
	k := open(t, ns, ir.NFTables)
	random := rand.New(rand.NewPCG(1, 2))
	for range 60 {
		rs := rulesets[random.IntN(len(rulesets))]
		commit(t, k, &kernel.Desired{Rules: rs})
		fresh := namespace(t)
		commit(t, open(t, fresh, ir.NFTables), &kernel.Desired{Rules: rs})
		sameLines(t, sortedBlocks(listTable(t, fresh)), sortedBlocks(listTable(t, ns)))
		if t.Failed() {
			return
		}
	}
}

// sortedBlocks puts the chains and sets of a listing in order.
func sortedBlocks(listing string) string {
	blocks := strings.Split(strings.TrimSuffix(listing, "}\n"), "\n\n")
	blocks[0] = strings.TrimPrefix(blocks[0], "table inet firewalld {\n")
	for i := range blocks {
		blocks[i] = strings.TrimSpace(blocks[i])
	}
	slices.Sort(blocks)
	return strings.Join(blocks, "\n\n")
}

// rulesetOf is a small ruleset: one chain that drops what comes from some addresses.
func rulesetOf(addresses ...string) *ir.Ruleset {
	c := &ir.Chain{Name: "filter_INPUT", Hook: &ir.Hook{Type: "filter", Hook: "input", Priority: 10}, Families: ir.Both}
	for _, a := range addresses {
		c.Rules = append(c.Rules, &ir.Rule{Families: ir.V4, Origin: &ir.Origin{Object: "zone public", Text: "source " + a},
			Matches: []ir.Match{ir.Addr{Prefix: netip.MustParsePrefix(a + "/32")}}, Actions: []ir.Action{ir.Drop}})
	}
	return &ir.Ruleset{Backend: ir.NFTables, Chains: []*ir.Chain{c}}
}

// Rules that stay keep their counters and handles: only what differs is sent.
func TestOnlyTheDifferenceIsSent(t *testing.T) {
	ns := namespace(t)
	k := open(t, ns, ir.NFTables)
	for _, owner := range []bool{false, true} {
		commitAddresses := func(addresses ...string) {
			rs := rulesetOf(addresses...)
			rs.Owner = owner
			commit(t, k, &kernel.Desired{Rules: rs})
		}
		commitAddresses("10.0.0.1", "10.0.0.2", "10.0.0.3")
		first := handles(t, ns)
		commitAddresses("10.0.0.1", "10.0.0.9", "10.0.0.8", "10.0.0.3")
		second := handles(t, ns)
		commitAddresses("10.0.0.7", "10.0.0.1", "10.0.0.9", "10.0.0.8", "10.0.0.3")
		commitAddresses("10.0.0.7", "10.0.0.1", "10.0.0.9", "10.0.0.8", "10.0.0.3", "10.0.0.4")
		commitAddresses("10.0.0.7", "10.0.0.8", "10.0.0.3", "10.0.0.4")
		third := handles(t, ns)
		if second["10.0.0.1"] != first["10.0.0.1"] || second["10.0.0.3"] != first["10.0.0.3"] {
			t.Errorf("rules that stay were made anew: %v became %v", first, second)
		}
		if third["10.0.0.8"] != second["10.0.0.8"] || third["10.0.0.3"] != first["10.0.0.3"] {
			t.Errorf("rules that stay were made anew: %v became %v", second, third)
		}
		if len(third) != 4 {
			t.Errorf("got rules for %v, want four", third)
		}
	}
}

var handleLine = regexp.MustCompile(`ip saddr (\S+) drop # handle (\d+)`)

// handles are the handles of the rules of rulesetOf by their address.
func handles(t *testing.T, ns *lab.Namespace) map[string]string {
	t.Helper()
	m := map[string]string{}
	for _, f := range handleLine.FindAllStringSubmatch(run(t, ns, "", "nft", "-a", "list", "table", "inet", "firewalld"), -1) {
		m[f[1]] = f[2]
	}
	return m
}

// Someone else's change of our table is undone by the next commit.
func TestNFTablesPutsRightWhatOthersChanged(t *testing.T) {
	ns := namespace(t)
	k := open(t, ns, ir.NFTables)
	commit(t, k, &kernel.Desired{Rules: rulesetOf("10.0.0.1", "10.0.0.2")})
	want := listTable(t, ns)
	run(t, ns, "", "nft", "flush", "chain", "inet", "firewalld", "filter_INPUT")
	commit(t, k, &kernel.Desired{Rules: rulesetOf("10.0.0.1", "10.0.0.2")})
	sameLines(t, want, listTable(t, ns))
	run(t, ns, "", "nft", "delete", "table", "inet", "firewalld")
	commit(t, k, &kernel.Desired{Rules: rulesetOf("10.0.0.1", "10.0.0.2")})
	sameLines(t, want, listTable(t, ns))
}

// Tables of others are not touched, not even by removing all that is ours.
func TestNFTablesLeavesOthersAlone(t *testing.T) {
	ns := namespace(t)
	run(t, ns, "table inet theirs { chain c { type filter hook input priority 0; tcp dport 5 drop; }; }\n", "nft", "-f", "-")
	before := run(t, ns, "", "nft", "list", "ruleset")
	k := open(t, ns, ir.NFTables)
	commit(t, k, &kernel.Desired{Rules: rulesetOf("10.0.0.1"), Panic: true})
	commit(t, k, &kernel.Desired{Rules: rulesetOf("10.0.0.2")})
	commit(t, k, &kernel.Desired{})
	sameLines(t, before, run(t, ns, "", "nft", "list", "ruleset"))
}

// A batch with a rule that the kernel refuses changes nothing, and says which rule it is.
func TestBadRuleChangesNothing(t *testing.T) {
	ns := namespace(t)
	k := open(t, ns, ir.NFTables)
	commit(t, k, &kernel.Desired{Rules: rulesetOf("10.0.0.1")})
	before := listTable(t, ns)
	bad := rulesetOf("10.0.0.1", "10.0.0.2", "10.0.0.3")
	origins := []*ir.Origin{{Object: "zone public", Path: "/etc/firewalld/zones/public.xml", Line: 7}, {Object: "policy out"}}
	for _, o := range origins { // two limits that the kernel cannot count
		bad.Chains[0].Rules = append(bad.Chains[0].Rules, &ir.Rule{Families: ir.Both, Origin: o,
			Matches: []ir.Match{ir.Limit{Rate: 0, Unit: 's'}}, Actions: []ir.Action{ir.Drop}})
	}
	err := k.Commit(t.Context(), &kernel.Desired{Rules: bad})
	if err == nil {
		t.Fatal("the kernel took a limit of no packets")
	}
	for _, o := range origins {
		if !strings.Contains(err.Error(), o.String()) {
			t.Errorf("the error does not name %s: %v", o, err)
		}
	}
	var rule *kernel.RuleError
	if !errors.As(err, &rule) || rule.Origin != origins[0] || rule.Chain != "filter_INPUT" {
		t.Errorf("the error is not about the first bad rule: %#v", rule)
	}
	sameLines(t, before, listTable(t, ns))
	commit(t, k, &kernel.Desired{Rules: rulesetOf("10.0.0.4")})
}

// Sets of any size load, and single elements come and go in them.
func TestLargeSet(t *testing.T) {
	const size = 20000 / kernel.RaceFactor
	for _, family := range []ir.Families{ir.V4, ir.V6} {
		set := func(from, to int) *ir.Ruleset {
			s := &ir.Set{Name: "large", Type: "hash:net", Family: family}
			for i := from; i < to; i++ {
				a := netip.AddrFrom4([4]byte{10, byte(i >> 15), byte(i >> 7), byte(i << 1)})
				if family == ir.V6 {
					a = netip.AddrFrom16([16]byte{0x20, 1, 13: byte(i >> 15), 14: byte(i >> 7), 15: byte(i << 1)})
				}
				s.Elements = append(s.Elements, ir.NewElement(a.String(), ir.Part{Kind: ir.AddrPart, Low: a, High: a}))
			}
			rs := rulesetOf("10.0.0.1")
			rs.Sets = []*ir.Set{s}
			return rs
		}
		ns := namespace(t)
		k := open(t, ns, ir.NFTables)
		for _, span := range [][2]int{{0, size}, {1, size + 5}, {10, 20}} {
			commit(t, k, &kernel.Desired{Rules: set(span[0], span[1])})
			listing := run(t, ns, "", "nft", "-j", "list", "set", "inet", "firewalld", "large")
			if n := strings.Count(listing, `"10.`) + strings.Count(listing, `"2001:`); n != span[1]-span[0] {
				t.Errorf("the set has %d elements, want %d", n, span[1]-span[0])
			}
		}
	}
}

// A table with an owner cannot be changed by others while the kernel is open, and is there after that.
func TestOwner(t *testing.T) {
	ns := namespace(t)
	if !kernel.HasTableOwner(kernel.Options{Enter: ns.Do}) {
		t.Skip("the kernel has no owners of tables that persist (Linux 6.9)")
	}
	owned := rulesetOf("10.0.0.1")
	owned.Owner = true
	k := open(t, ns, ir.NFTables)
	commit(t, k, &kernel.Desired{Rules: owned})
	want := listTable(t, ns)
	if _, err := ns.Run(t.Context(), "", "nft", "delete", "table", "inet", "firewalld"); err == nil {
		t.Error("another program could remove the table")
	}
	second := open(t, ns, ir.NFTables)
	if err := second.Commit(t.Context(), &kernel.Desired{}); err == nil || !strings.Contains(err.Error(), "another program") {
		t.Errorf("a second one could remove the table: %v", err)
	}
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	sameLines(t, want, listTable(t, ns))
	commit(t, second, &kernel.Desired{Rules: owned})
	sameLines(t, want, listTable(t, ns))
	if err := second.Commit(t.Context(), &kernel.Desired{}); err != nil {
		t.Fatal(err)
	}
}

// Panic mode is a table of its own, before everything else.
func TestNFTablesPanic(t *testing.T) {
	ns := namespace(t)
	k := open(t, ns, ir.NFTables)
	commit(t, k, &kernel.Desired{Panic: true})
	if kernel.HasTableOwner(kernel.Options{Enter: ns.Do}) {
		run(t, ns, "", "nft", "flush", "ruleset") // which does not touch what has an owner
	}
	listing := regexp.MustCompile(` # progname.*|\tflags owner.*\n\n?`).ReplaceAllString(run(t, ns, "", "nft", "list", "ruleset"), "")
	sameLines(t, `table inet firewalld_policy_drop {
	chain raw_prerouting {
		type filter hook prerouting priority -291; policy drop;
	}

	chain raw_output {
		type filter hook output priority -291; policy drop;
	}
}
`, strings.ReplaceAll(listing, "raw + 9", "-291"))
	commit(t, k, &kernel.Desired{})
	sameLines(t, "", run(t, ns, "", "nft", "list", "ruleset"))
}

// Rules of the direct interface stand in iptables, beside the table.
func TestDirectRulesBesideTheTable(t *testing.T) {
	ns := namespace(t)
	k := open(t, ns, ir.NFTables)
	direct := &ir.Ruleset{Backend: ir.IPTables, Chains: []*ir.Chain{
		{Table: "filter", Name: "mine", Families: ir.V4, Rules: []*ir.Rule{{Families: ir.V4, Actions: []ir.Action{ir.Accept}}}},
		{Table: "filter", Name: "INPUT", Families: ir.V4, Builtin: true, Rules: []*ir.Rule{
			{Families: ir.V4, Actions: []ir.Action{ir.Raw{Args: strings.Fields("-p tcp --dport 5 -j mine")}}}}},
	}}
	commit(t, k, &kernel.Desired{Rules: rulesetOf("10.0.0.1"), Direct: direct})
	if got := run(t, ns, "", "iptables", "-S"); !strings.Contains(got, "-A INPUT -p tcp -m tcp --dport 5 -j mine\n-A mine -j ACCEPT") {
		t.Errorf("the rules are not there:\n%s", got)
	}
	commit(t, k, &kernel.Desired{Rules: rulesetOf("10.0.0.1")})
	if got := run(t, ns, "", "iptables", "-S"); strings.Contains(got, "mine") {
		t.Errorf("the rules are still there:\n%s", got)
	}
}

// raise=yes overwrites the option in the TCP header and mends the checksum, which the text of nft cannot say.
func TestRaise(t *testing.T) {
	ns := namespace(t)
	rs := rulesetOf()
	rs.Chains[0].Rules = []*ir.Rule{{Families: ir.Both, Matches: []ir.Match{ir.SYN{}}, Actions: []ir.Action{ir.ClampMSS{Size: 1440, Raise: true}}}}
	commit(t, open(t, ns, ir.NFTables), &kernel.Desired{Rules: rs})
	if got := listTable(t, ns); !strings.Contains(got, "tcp flags 0x2 @th,160,16 0x204 @th,176,16 set 0x5a0") {
		t.Errorf("the rule is listed as\n%s", got)
	}
}
