package nft_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"richwall/compile/ir"
	"richwall/compile/nft"
	"richwall/internal/boxes"
	"richwall/internal/irgen"
	"richwall/internal/kernel"
	"richwall/internal/lab"
)

// TestMain runs the tests in a user namespace when whoever runs them is not root.
func TestMain(m *testing.M) { lab.Main(m) }

// part is something small that a ruleset can have: a rule in a chain of its own, a set and a rule that looks it up, and so on.
type part struct {
	chains  []*ir.Chain
	sets    []*ir.Set
	helpers []ir.Helper
}

var testOrigin = &ir.Origin{Object: "zone test"}

// ruleset puts parts together, with what their rules refer to. Chains come first, in the order of their names.
func ruleset(counters bool, parts ...part) *ir.Ruleset {
	rs := &ir.Ruleset{Backend: ir.NFTables, Counters: counters,
		Chains:  []*ir.Chain{{Name: irgen.Target, Families: ir.Both}},
		Sets:    []*ir.Set{irgen.Addresses, irgen.Addresses6, irgen.MACs, irgen.Decisions, irgen.Sizes},
		Helpers: []ir.Helper{{Name: "helper-ftp-tcp", Type: "ftp", Protocol: "tcp"}}}
	for _, p := range parts {
		rs.Chains = append(rs.Chains, p.chains...)
		rs.Sets = append(rs.Sets, p.sets...)
		rs.Helpers = append(rs.Helpers, p.helpers...)
	}
	declared := map[string]bool{"helper helper-ftp-tcp": true}
	for _, c := range rs.Chains {
		declared[c.Name] = true
	}
	for _, c := range rs.Chains {
		for _, r := range c.Rules {
			for _, a := range r.Actions {
				switch a := a.(type) {
				case ir.Jump:
					if !declared[a.Chain] {
						declared[a.Chain] = true
						rs.Chains = append(rs.Chains, &ir.Chain{Name: a.Chain, Families: ir.Both})
					}
				case ir.SetHelper:
					if !declared["helper "+a.Object] {
						declared["helper "+a.Object] = true
						rs.Helpers = append(rs.Helpers, ir.Helper{Name: a.Object, Type: "ftp", Protocol: "tcp"})
					}
				}
			}
		}
	}
	rs.Helpers = slices.DeleteFunc(rs.Helpers, func(h ir.Helper) bool { return !hasHelpers && h.Name == "helper-ftp-tcp" })
	return rs
}

// hasHelpers says whether this machine's kernel has the helper for FTP; without it no ruleset can refer to one.
var hasHelpers bool

// text is what the one writer makes of parts, and messages what the other does.
func text(rs *ir.Ruleset) (string, error) {
	var b bytes.Buffer
	notes, err := nft.Write(&b, rs, nft.Options{})
	switch {
	case err != nil && b.Len() > 0:
		return "", fmt.Errorf("something was printed beside the error: %s", b.String())
	case notes != nil:
		return "", errNote
	}
	return b.String(), err
}

// errNote stands for the one kind of rule that the text leaves out, with a note.
var errNote = errors.New("zone test: a comment stands in the place of the rule")

// needsHelper says whether a part has a connection tracking helper, or refers to one.
func (p part) needsHelper() bool {
	return len(p.helpers) > 0 || slices.ContainsFunc(p.chains[0].Rules[0].Actions, func(a ir.Action) bool { _, ok := a.(ir.SetHelper); return ok })
}

func raises(p part) bool {
	return slices.ContainsFunc(p.chains[0].Rules[0].Actions, func(a ir.Action) bool { c, ok := a.(ir.ClampMSS); return ok && c.Raise })
}

func messages(p part) error {
	e := &nft.Encoder{Table: ir.Table}
	var errs []error
	add := func(_ any, err error) { errs = append(errs, err) }
	for _, h := range p.helpers {
		add(e.AddHelper(h))
	}
	for _, c := range p.chains {
		add(e.AddChain(c, false))
	}
	for _, s := range p.sets {
		add(e.AddSet(s))
		if errors.Join(errs...) == nil {
			add(e.AddElements(s, s.Elements))
		}
	}
	for _, c := range p.chains {
		for _, r := range c.Rules {
			add(e.AddRule(c.Name, r, 0))
		}
	}
	return errors.Join(errs...)
}

// Whatever a ruleset has, the text that nft loads and the messages that the daemon sends make the same of it in the kernel, or both
// refuse it, with an error that says which object of the configuration it is about. Each match, action and set is tried with zero,
// smallest, largest and hostile values in each field, and in random rules, which are others each time.
//
// RICHWALL_SEED repeats the random rules of a run; RICHWALL_RULES is how many there are.
func TestTwoWritersOneRuleset(t *testing.T) {
	if missing := lab.Missing("nft"); missing != nil {
		t.Skip(strings.Join(missing, "; "))
	}
	seed, rules := irgen.Seed(t), irgen.Setting(t, "RICHWALL_RULES", 1500)
	r := rand.New(rand.NewPCG(seed, 1))
	hasHelpers = true
	_, err := loadText(t, ruleset(false))
	hasHelpers = err == nil
	for _, group := range []struct {
		name  string
		parts []part
		most  float64 // share of parts that may be refused
	}{
		{"each field", eachRule(), 0.7},
		{"sets", sets(r), 0.8},
		{"chains and helpers", objects(), 0.9},
		{"random rules of samples", random(r, int(rules)/2, true), 0.9},
		{"random rules", random(r, int(rules), false), 0.95},
	} {
		t.Run(group.name, func(t *testing.T) {
			var both []part
			c := &comparison{T: t, why: map[string]int{}}
			for _, p := range group.parts {
				switch {
				case !acceptedAlike(t, p) || !hasHelpers && p.needsHelper():
				case kernel.NewMemory().Commit(t.Context(), &kernel.Desired{Rules: ruleset(false, p)}) != nil:
					c.compare(false, []part{p})
				default:
					both = append(both, p)
				}
			}
			refused := 1 - float64(len(both))/float64(len(group.parts))
			c.compare(r.IntN(2) == 0, both)
			t.Logf("%d of %d parts are compared; what else had words and was refused by both ways: %v", len(both), len(group.parts), c.why)
			if refused > group.most {
				t.Errorf("%.0f %% are refused: too few are compared", 100*refused)
			}
		})
	}
}

// acceptedAlike says whether both writers have words for a part. That one of them has is an error, but for names that the text alone
// cannot have, and says so.
func acceptedAlike(t *testing.T, p part) bool {
	t.Helper()
	_, textErr := text(ruleset(false, p))
	messageErr := messages(p)
	var noText *nft.NoText
	if messageErr == nil && (errors.As(textErr, &noText) || textErr == errNote && raises(p)) {
		return false
	}
	if messageErr == nil && textErr != nil && strings.HasSuffix(textErr.Error(), " overlap") {
		return true // messages put in elements piece by piece: whoever commits them looks at all
	}
	if (textErr == nil) != (messageErr == nil) {
		t.Errorf("%s\nas text: %v\nas messages: %v", describe(p), textErr, messageErr)
	}
	if textErr != nil && len(p.helpers) == 0 && !strings.Contains(textErr.Error(), "zone test") {
		t.Errorf("%s: the error does not say where it comes from: %v", describe(p), textErr)
	}
	return textErr == nil && messageErr == nil
}

func describe(p part) string {
	var b strings.Builder
	if err := (&ir.Ruleset{Chains: p.chains, Sets: p.sets, Helpers: p.helpers}).Dump(&b); err != nil {
		return err.Error()
	}
	if b.Len() > 2000 {
		return b.String()[:2000] + " …"
	}
	return b.String()
}

// comparison loads parts by both ways, and compares what nft lists.
type comparison struct {
	*testing.T
	why map[string]int // what both ways refused, by what they said
}

// compare loads all parts at once. What is refused is divided until it is one part, which both ways must refuse.
func (c *comparison) compare(counters bool, parts []part) {
	c.Helper()
	if len(parts) == 0 {
		return
	}
	rs := ruleset(counters, parts...)
	byText, textErr := loadText(c.T, rs)
	byMessages, messageErr := commit(c.T, rs)
	switch {
	case textErr == nil && messageErr == nil:
		for name, want := range byText {
			if got := byMessages[name]; got != want {
				c.Errorf("%s: the text is listed as\n%s\nand the messages as\n%s\n%s", name, want, got, describe(partNamed(parts, name)))
			}
			delete(byMessages, name)
		}
		for name := range byMessages {
			c.Errorf("the messages make %s, and the text does not", name)
		}
	case len(parts) > 1:
		c.compare(counters, parts[:len(parts)/2])
		c.compare(counters, parts[len(parts)/2:])
	case textErr != nil && messageErr != nil:
		c.why[reason(messageErr)]++
	default:
		c.Errorf("%s\nloaded as text: %v\ncommitted: %v", describe(parts[0]), textErr, messageErr)
	}
}

// reason is an error without the values in it.
func reason(err error) string {
	if strings.HasSuffix(err.Error(), "overlap") {
		return "overlap"
	}
	words := strings.Split(err.Error(), ": ")
	return words[len(words)-1]
}

func partNamed(parts []part, name string) part {
	for _, p := range parts {
		for _, c := range p.chains {
			if name == "chain "+c.Name {
				return p
			}
		}
		for _, s := range p.sets {
			if strings.HasSuffix(name, " "+s.Name) {
				return p
			}
		}
	}
	return part{}
}

func namespace(t *testing.T) *lab.Namespace {
	t.Helper()
	ns, err := lab.NewNamespace()
	if err != nil {
		t.Fatal(err)
	}
	return ns
}

// loadText lets nft load the text, and lists what is there then.
func loadText(t *testing.T, rs *ir.Ruleset) (map[string]string, error) {
	t.Helper()
	ns := namespace(t)
	defer ns.Close()
	written, err := text(rs)
	if err != nil {
		return nil, err
	}
	if _, err := ns.Run(t.Context(), written, "nft", "-f", "-"); err != nil {
		return nil, err
	}
	return listing(t, ns)
}

// commit sends the messages, and lists what is there then.
func commit(t *testing.T, rs *ir.Ruleset) (map[string]string, error) {
	t.Helper()
	ns := namespace(t)
	defer ns.Close()
	k, err := kernel.New(kernel.Options{Backend: ir.NFTables, Enter: ns.Do})
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	if err := k.Commit(t.Context(), &kernel.Desired{Rules: rs}); err != nil {
		return nil, err
	}
	return listing(t, ns)
}

// listing is what nft lists as JSON, by chain and set, without handles, and with elements in an order of their own.
func listing(t *testing.T, ns *lab.Namespace) (map[string]string, error) {
	t.Helper()
	out, err := ns.Run(t.Context(), "", "nft", "-j", "list", "table", "inet", ir.Table)
	if err != nil { // nft does not know what its own text makes of some rules
		return nil, err
	}
	var list struct{ Nftables []map[string]map[string]any }
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		t.Fatal(err)
	}
	objects := map[string]string{}
	for _, object := range list.Nftables {
		for kind, value := range object {
			name := fmt.Sprint(kind, " ", value["name"])
			switch kind {
			case "metainfo", "table":
				continue
			case "rule":
				name = fmt.Sprint("chain ", value["chain"])
			}
			content, err := json.Marshal(plain(value))
			if err != nil {
				t.Fatal(err)
			}
			objects[name] += string(content) + "\n"
		}
	}
	return objects, nil
}

// plain is a value of JSON without what differs from one loading to another.
func plain(v any) any {
	switch v := v.(type) {
	case map[string]any:
		delete(v, "handle")
		for key, inner := range v {
			list, isList := inner.([]any)
			switch {
			case key == "expires":
				v[key] = int(inner.(float64)) / 60
			case (key == "elem" || key == "set") && isList:
				v[key] = sorted(list)
			case key == "expr" && isList:
				v[key] = etherInOrder(plain(inner).([]any))
			default:
				v[key] = plain(inner)
			}
		}
		return v
	case []any:
		for i := range v {
			v[i] = plain(v[i])
		}
	}
	return v
}

// etherInOrder puts the comparisons of a frame's two addresses in one order, where they are neighbours: nft makes one of them, and
// takes it apart by the places in the frame.
func etherInOrder(list []any) []any {
	for i := 1; i < len(list); i++ {
		a, b := fmt.Sprint(list[i-1]), fmt.Sprint(list[i])
		if strings.Contains(a, "field:saddr protocol:ether") && strings.Contains(b, "field:daddr protocol:ether") {
			list[i-1], list[i] = list[i], list[i-1]
		}
	}
	return list
}

func sorted(list []any) []string {
	texts := make([]string, len(list))
	for i, v := range list {
		content, err := json.Marshal(plain(v))
		if err != nil {
			panic(err)
		}
		texts[i] = string(content)
	}
	slices.Sort(texts)
	return texts
}

// chainOf is a part of nothing but a rule.
func chainOf(n int, r *ir.Rule) part {
	r.Origin = testOrigin
	return part{chains: []*ir.Chain{{Name: fmt.Sprintf("c%d", n), Families: ir.Both, Rules: []*ir.Rule{r}}}}
}

// eachRule is a rule for each value of each field of each match and action.
func eachRule() (parts []part) {
	add := func(r *ir.Rule) { parts = append(parts, chainOf(len(parts), r)) }
	for _, sample := range irgen.Matches {
		for _, m := range irgen.Each(sample) {
			add(&ir.Rule{Matches: []ir.Match{m}, Actions: []ir.Action{ir.Accept}})
		}
	}
	port := ir.Port{Side: ir.Dest, Protocol: "tcp", Low: 80, High: 80}
	for _, sample := range irgen.Actions {
		for _, a := range irgen.Each(sample) {
			add(&ir.Rule{Actions: []ir.Action{a}})
			add(&ir.Rule{Matches: []ir.Match{port}, Actions: []ir.Action{a}})
			add(&ir.Rule{Matches: []ir.Match{ir.NFProto{Family: ir.V6}}, Actions: []ir.Action{ir.Log{}, a}})
		}
	}
	add(&ir.Rule{})
	add(&ir.Rule{Matches: []ir.Match{port}})
	add(&ir.Rule{Matches: []ir.Match{nil}, Actions: []ir.Action{ir.Accept}})
	add(&ir.Rule{Actions: []ir.Action{nil}})
	return parts
}

func random(r *rand.Rand, n int, plain bool) (parts []part) {
	for i := range n {
		parts = append(parts, chainOf(i, irgen.Rule(r, plain)))
	}
	return parts
}

// setOf is a part of a set and a rule that looks it up.
func setOf(n int, set ir.Set) part {
	if set.Name == "sample" {
		set.Name = fmt.Sprintf("s%d", n)
	}
	set.Origin = testOrigin
	rule := &ir.Rule{Families: ir.Both, Origin: testOrigin, Matches: []ir.Match{ir.Lookup{Side: ir.Dest, Set: &set}}, Actions: []ir.Action{ir.Drop}}
	if set.Verdicts {
		rule.Matches, rule.Actions = nil, []ir.Action{ir.Decide{Map: &set}}
	}
	return part{sets: []*ir.Set{&set}, chains: []*ir.Chain{{Name: fmt.Sprintf("c%d", n), Families: ir.Both, Rules: []*ir.Rule{rule}}}}
}

// sets are sets of each type, with each value of each field, and elements with each value of each of theirs.
func sets(r *rand.Rand) (parts []part) {
	add := func(s ir.Set) { parts = append(parts, setOf(len(parts), s)) }
	for _, sample := range []ir.Set{
		{Name: "sample", Type: "hash:ip", Family: ir.V4}, {Name: "sample", Type: "hash:net,port", Family: ir.V6, Timeout: "60", MaxElem: "100"},
		{Name: "sample", Type: "hash:ip", Family: ir.V4, Sides: []ir.Side{ir.Dest}, Exact: true, Verdicts: true},
	} {
		for _, s := range irgen.Each(sample) {
			add(s)
		}
	}
	for _, typ := range irgen.SetTypes {
		for range 40 {
			add(randomSet(r, typ))
		}
	}
	for _, single := range []struct {
		typ string
		ir.Part
	}{
		{"hash:ip", ir.Part{Kind: ir.AddrPart, Low: netip.MustParseAddr("10.0.0.1"), High: netip.MustParseAddr("10.0.0.9")}}, {"hash:port", ir.Part{Kind: ir.PortPart, Name: "tcp", First: 1, Last: 80}},
		{"hash:mac", ir.Part{Kind: ir.MACPart, Name: "00:11:22:33:44:55"}}, {"hash:iface", ir.Part{Kind: ir.IfacePart, Name: "eth0"}},
		{"mark", ir.Part{Kind: ir.MarkPart, First: 80}},
	} {
		for _, p := range irgen.Each(single.Part) {
			add(ir.Set{Name: "sample", Type: single.typ, Family: ir.V4, Elements: []ir.Element{ir.NewElement("element", p)}})
		}
	}
	var elements []ir.Element
	for _, e := range irgen.Each(ir.NewElement("", irgen.Addresses.Elements[0].Parts()...)) {
		for _, v := range irgen.Table["more.verdict"] {
			verdict, _ := v.(ir.Action)
			elements = append(elements, e.WithVerdict(verdict))
		}
	}
	for _, e := range elements {
		for _, verdicts := range []bool{false, true} {
			add(ir.Set{Name: "sample", Type: "hash:net", Family: ir.V4, Sides: []ir.Side{ir.Source}, Verdicts: verdicts, Elements: []ir.Element{e}})
		}
	}
	for _, size := range irgen.Table["more.size"] {
		for _, name := range irgen.Values(ir.Part{}, 5) {
			e := ir.NewSize(name.(string), size.(int))
			add(ir.Set{Name: "sample", Type: "hash:iface", Family: ir.V4, Exact: true, Sizes: true, Elements: []ir.Element{e}})
			add(ir.Set{Name: "sample", Type: "hash:iface", Family: ir.V4, Sides: []ir.Side{ir.Source}, Elements: []ir.Element{e}})
		}
	}
	for _, left := range []time.Duration{-time.Hour, 0, 90 * time.Second, 100*time.Hour + 30*time.Second} {
		until := time.Now().Add(left)
		for _, timeout := range []string{"", "3600"} {
			e := irgen.Addresses.Elements[0].WithUntil(&until)
			add(ir.Set{Name: "sample", Type: "hash:net", Family: ir.V4, Timeout: timeout, Elements: []ir.Element{e}})
		}
	}
	return parts
}

// randomSet is a set of a type with some elements, of which some may overlap.
func randomSet(r *rand.Rand, typ string) ir.Set {
	s := ir.Set{Name: "sample", Type: typ, Family: []ir.Families{ir.V4, ir.V6}[r.IntN(2)], Exact: r.IntN(3) == 0, Verdicts: r.IntN(3) == 0}
	names := strings.Split(strings.TrimPrefix(typ, "hash:"), ",")
	if r.IntN(2) == 0 {
		for range names {
			s.Sides = append(s.Sides, ir.Side(r.IntN(2)))
		}
	}
	for range r.IntN(4) {
		var parts []ir.Part
		for _, name := range names {
			parts = append(parts, randomPart(r, name, s.Family, s.Exact))
		}
		var verdict ir.Action
		if s.Verdicts {
			verdict = []ir.Action{ir.Accept, ir.Drop, ir.Return, ir.Jump{Chain: irgen.Target}, ir.Jump{Chain: irgen.Target, Goto: true}}[r.IntN(5)]
		}
		s.Elements = append(s.Elements, ir.NewVerdict(verdict, fmt.Sprint(parts), parts...))
	}
	return s
}

func randomPart(r *rand.Rand, name string, f ir.Families, exact bool) ir.Part {
	pick := func(list ...int) int { return list[r.IntN(len(list))] }
	switch name {
	case "ip", "net":
		list := []string{"0.0.0.0/0", "10.0.0.0/8", "10.1.2.3/32", "0.0.0.0/32", "255.255.255.255/32", "192.0.2.0/31", "128.0.0.0/1"}
		if f == ir.V6 {
			list = []string{"::/0", "2001:db8::/32", "2001:db8::1/128", "::/128", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128", "fe80::/10", "8000::/1"}
		}
		p := netip.MustParsePrefix(list[r.IntN(len(list))])
		part := ir.Part{Kind: ir.AddrPart, Low: p.Addr(), High: boxes.LastAddr(p)}
		if exact {
			part.High = part.Low
		} else if part.Low != part.High && r.IntN(3) == 0 {
			part.Low = part.Low.Next()
		}
		return part
	case "port":
		p := ir.Part{Kind: ir.PortPart, Name: []string{"tcp", "udp", "sctp", "dccp", "icmp", "icmpv6", "47", "0", "255"}[r.IntN(9)], First: pick(0, 1, 80, 65535)}
		if p.Last = p.First; !exact {
			p.Last = max(p.First, pick(0, 1, 80, 1024, 65535))
		}
		return p
	case "mark":
		return ir.Part{Kind: ir.MarkPart, First: pick(0, 1, 0x200, 1<<31, 1<<32-1)}
	case "mac":
		return ir.Part{Kind: ir.MACPart, Name: []string{"00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff", "AA:bb:00:11:22:33"}[r.IntN(3)]}
	}
	return ir.Part{Kind: ir.IfacePart, Name: []string{"a", "eth0", "fifteen_bytes_x", "wg-1.2@x"}[r.IntN(4)]}
}

// objects are chains with each name, hook and priority, and helpers.
func objects() (parts []part) {
	add := func(c ir.Chain) {
		if c.Name == "sample" {
			c.Name = fmt.Sprintf("c%d", len(parts))
		}
		c.Rules = []*ir.Rule{{Families: ir.Both, Origin: testOrigin, Actions: []ir.Action{ir.Drop}}}
		parts = append(parts, part{chains: []*ir.Chain{&c}})
	}
	for _, c := range irgen.Each(ir.Chain{Name: "sample"}) {
		add(c)
	}
	for _, typ := range []string{"filter", "nat", "route"} {
		for _, hook := range []string{"prerouting", "input", "forward", "output", "postrouting"} {
			add(ir.Chain{Name: "sample", Hook: &ir.Hook{Type: typ, Hook: hook, Priority: 7}})
		}
	}
	for _, sample := range []ir.Hook{{Type: "filter", Hook: "prerouting"}, {Type: "filter", Hook: "postrouting"}, {Type: "nat", Hook: "input"}} {
		for _, h := range irgen.Each(sample) {
			add(ir.Chain{Name: "sample", Hook: &h})
		}
	}
	for i, h := range irgen.Each(ir.Helper{Name: "sample", Type: "ftp", Protocol: "tcp"}) {
		if h.Name == "sample" {
			h.Name = fmt.Sprintf("h%d", i)
		}
		parts = append(parts, part{helpers: []ir.Helper{h}})
	}
	return parts
}

// Rules that are one and the same in nftables are equal to the compiler, whatever fields of the intermediate form they come from, and
// rules that are equal to the compiler are the same: of those that stand in one chain it keeps the first.
func TestEqualRulesAreOne(t *testing.T) {
	samples := map[string][]*ir.Rule{}
	for _, p := range eachRule() {
		r := p.chains[0].Rules[0]
		if spec, err := nft.Spec(nil, r); err == nil {
			samples[string(spec)] = append(samples[string(spec)], r)
		}
	}
	identities := map[string]string{}
	several := 0
	for spec, rules := range samples {
		want := string(rules[0].AppendIdentity(nil))
		for _, r := range rules[1:] {
			if got := string(r.AppendIdentity(nil)); got != want {
				t.Errorf("%s\nis one rule in nftables, and these are two:\n%s\n%s", spec, want, got)
			}
			if r.Effect() != rules[0].Effect() {
				several++
			}
		}
		if other, ok := identities[want]; ok && other != spec {
			t.Errorf("%s\nis one rule to the compiler, and these are two in nftables:\n%s\n%s", want, other, spec)
		}
		identities[want] = spec
	}
	if several < 10 {
		t.Errorf("only %d rules are the same as another one", several)
	}
}
