package compile

import (
	"errors"
	"slices"
	"strings"

	"richwall/compile/ir"
)

// What value=link of a tcp-mss-clamp needs to know is the machine's: which links there are, and what each carries. The compiler asks
// the machine nothing. What it makes of such a rule refers to a map from interfaces to segment sizes, one for each IP version, which
// has no elements. WithLinks puts the links in, or with iptables a rule for each, so that a link that changes needs no compilation.
//
//	tcp flags syn tcp option maxseg size set iifname map @mss/ipv4 tcp option maxseg size set oifname map @mss/ipv4
//	tcp flags syn tcp option maxseg size set oifname map @mss/ipv4
//
// A segment's announcement limits what goes the other way, over both links that it has come and goes by. The kernel only lowers, so that
// of the two sizes the smaller one is left. That is one rule, as a second one would ask for range= again, of what the first has left. A rule
// of nftables ends at a link that is not in the map, or of which there is none, as in output: so there is another one for the second link.
// With iptables the rules of all links stand in the order of their sizes, so that the first one which matches is for the smaller one.

// linkMaps are the maps as they are compiled, the same pointers each time.
var linkMaps = map[ir.Families]*ir.Set{ir.V4: linkMap(ir.V4), ir.V6: linkMap(ir.V6)}

func linkMap(f ir.Families) *ir.Set {
	return &ir.Set{Name: ir.LinkMaps[f], Type: "hash:iface", Family: f, Exact: true, Sizes: true, Elements: []ir.Element{}}
}

// linkSizes are the clamps of value=link for some IP versions, in rules that are entered from a hook: what has arrived has no link to go out by,
// what this machine sends none to come in by.
func (c *richRule) linkSizes(hook string) (list []clampSize) {
	each := [][]ir.Side{{ir.Source, ir.Dest}, {ir.Dest}}
	switch {
	case hook == "IN":
		each = [][]ir.Side{{ir.Source}}
	case hook == "OUT":
		each = each[1:]
	case c.s.layout.backend == ir.IPTables:
		each = each[:1]
	}
	for _, f := range []ir.Families{ir.V4, ir.V6} {
		for _, sides := range each {
			if c.families&f != 0 {
				list = append(list, clampSize{families: f, links: ir.LinkMaps[f], sides: sides})
			}
		}
	}
	return list
}

// linkSets adds the maps that clamps refer to.
func (s *state) linkSets() {
	s.out.Links = s.links != 0
	if s.layout.backend != ir.NFTables {
		return
	}
	for _, f := range []ir.Families{ir.V4, ir.V6} {
		if s.links&f != 0 {
			s.out.Sets = append(s.out.Sets, linkMaps[f])
		}
	}
	slices.SortStableFunc(s.out.Sets, func(a, b *ir.Set) int { return strings.Compare(a.Name, b.Name) })
}

// Link is a network interface, and the MTU that packets of each IP version have there in bytes; 0 where there are none.
type Link struct {
	Name string
	MTU  map[ir.Families]int
}

// Headers of IP and TCP without options in bytes (RFC 9293, 3.7.1), the smallest MTUs that Linux has either IP version at (RFC 791, RFC 8200),
// and the length of the longest packet.
var (
	linkHeaders  = map[ir.Families]int{ir.V4: 40, ir.V6: 60}
	leastLinkMTU = map[ir.Families]int{ir.V4: 68, ir.V6: 1280}
)

const longestPacket = 65535

// size is the MSS that a link has room for, in bytes; 0 where it has no packets of the IP version.
func (l *Link) size(f ir.Families) int {
	if l.MTU[f] < leastLinkMTU[f] {
		return 0
	}
	return min(l.MTU[f], longestPacket) - linkHeaders[f]
}

// NameOfLink says why neither back end can be told the name of an interface, which the kernel takes more of: nft would read a * at the end, and
// iptables a +, as any characters.
func NameOfLink(name string) error {
	const longest = 15 // IFNAMSIZ - 1
	if strings.HasSuffix(name, "*") || strings.HasSuffix(name, "+") || strings.HasPrefix(name, "-") || strings.HasPrefix(name, "!") {
		return errLinkName
	}
	return ir.CheckName("the interface name", name, longest)
}

var errLinkName = errors.New("the interface name begins or ends with a character that nft or iptables takes for something else")

// WithLinks is a ruleset with the links of a machine filled in. One that has no use for them is the same; else all that does not depend on
// them is. Links that NameOfLink refuses must not be among them.
func WithLinks(rs *ir.Ruleset, links []Link) *ir.Ruleset {
	if rs == nil || !rs.Links {
		return rs
	}
	sizes := map[string][]ir.Element{}
	for f, name := range ir.LinkMaps {
		sizes[name] = sizesOf(links, f)
	}
	filled := *rs
	filled.Links = false
	if rs.Backend == ir.NFTables {
		filled.Sets = slices.Clone(rs.Sets)
		for i, s := range rs.Sets {
			if s.Sizes {
				with := *s
				with.Elements = sizes[s.Name]
				filled.Sets[i] = &with
			}
		}
		return &filled
	}
	filled.Chains = slices.Clone(rs.Chains)
	for i, c := range rs.Chains {
		if slices.ContainsFunc(c.Rules, isByLinks) {
			with := *c
			with.Rules = rulesOfLinks(c.Rules, sizes)
			filled.Chains[i] = &with
		}
	}
	return &filled
}

// sizesOf are the links that have packets of an IP version, by name, with the size of each.
func sizesOf(links []Link, f ir.Families) []ir.Element {
	list := []ir.Element{}
	for i := range links {
		if size := links[i].size(f); size > 0 {
			list = append(list, ir.NewSize(links[i].Name, size))
		}
	}
	slices.SortFunc(list, func(a, b ir.Element) int { return strings.Compare(a.Text, b.Text) })
	return list
}

func isByLinks(r *ir.Rule) bool {
	clamp, ok := r.Actions[0].(ir.ClampMSS)
	return ok && clamp.Links != ""
}

// rulesOfLinks puts a rule for each link in the place of a rule that looks its links up, the smallest size first.
func rulesOfLinks(rules []*ir.Rule, sizes map[string][]ir.Element) []*ir.Rule {
	var list []*ir.Rule
	for _, r := range rules {
		if !isByLinks(r) {
			list = append(list, r)
			continue
		}
		begin := len(list)
		for _, a := range r.Actions {
			clamp := a.(ir.ClampMSS)
			for _, e := range sizes[clamp.Links] {
				one := *r
				one.Matches = append([]ir.Match{ir.Iface{Side: clamp.Side, Name: e.Text}}, r.Matches...)
				one.Actions = []ir.Action{ir.ClampMSS{Size: e.Size()}}
				list = append(list, &one)
			}
		}
		slices.SortStableFunc(list[begin:], func(a, b *ir.Rule) int { return a.Actions[0].(ir.ClampMSS).Size - b.Actions[0].(ir.ClampMSS).Size })
	}
	return list
}
