package compile

import (
	"cmp"
	"encoding/base32"
	"fmt"
	"hash/fnv"
	"slices"
	"strconv"
	"strings"

	"richwall/compile/ir"
)

// compareElements is the order of elements of one set: by their parts, and what covers another one comes before it.
func compareElements(a, b ir.Element) int {
	for i := range a.Parts {
		if c := comparePart(&a.Parts[i], &b.Parts[i]); c != 0 {
			return c
		}
	}
	return 0
}

func comparePart(a, b *ir.Part) int {
	switch a.Kind {
	case ir.AddrPart:
		if c := a.Low.Compare(b.Low); c != 0 {
			return c
		}
		return b.High.Compare(a.High)
	case ir.PortPart:
		if c := strings.Compare(a.Name, b.Name); c != 0 {
			return c
		}
		return cmp.Or(a.First-b.First, b.Last-a.Last)
	}
	return strings.Compare(a.Name, b.Name)
}

// before says whether all that one part stands for comes before all of another one.
func before(a, b *ir.Part) bool {
	switch a.Kind {
	case ir.AddrPart:
		return a.High.Less(b.Low)
	case ir.PortPart:
		return a.Name < b.Name || a.Name == b.Name && a.Last < b.First
	}
	return a.Name < b.Name
}

// enough is how many comparisons of elements with one another are made for each of them before it is given up: so many do not
// overlap in rules that anybody wrote.
const enough = 500

// eachOverlap calls f for pairs of n elements in the order of compareElements that have something in common: each with those
// before it, until f says true, which is that the later one counts no more. It is false if there was too much to compare.
func eachOverlap(n int, at func(int) *ir.Element, f func(i, j int) bool) bool {
	var open []int // those that the next ones may overlap
	left := enough * n
	for j := range n {
		e := at(j)
		open = slices.DeleteFunc(open, func(i int) bool { return before(&at(i).Parts[0], &e.Parts[0]) })
		if left -= len(open); left < 0 {
			return false
		}
		out := false
		for _, i := range open {
			if at(i).Overlaps(*e) && f(i, j) {
				out = true
				break
			}
		}
		if !out {
			open = append(open, j)
		}
	}
	return true
}

// tidy leaves out elements that others cover, and joins ranges that overlap. list is in the order of compareElements, and is
// returned as it is if no two have anything in common. loose are those that overlap with another one and cannot be joined.
func (s *shape) tidy(list []ir.Element) (tidied, loose []ir.Element) {
	if s.exact() || len(s.slots) == 1 {
		return s.tidyRanges(list), nil
	}
	out := make([]bool, len(list))
	complete := eachOverlap(len(list), func(i int) *ir.Element { return &list[i] }, func(i, j int) bool {
		if !covered(list[j], list[i]) {
			loose = append(loose, list[j])
		}
		out[j] = true
		return true
	})
	switch {
	case !complete:
		return nil, list
	case !slices.Contains(out, true):
		return list, nil
	}
	for i, e := range list {
		if !out[i] {
			tidied = append(tidied, e)
		}
	}
	return tidied, loose
}

// tidyRanges tidies exact elements, and those of one part.
func (s *shape) tidyRanges(list []ir.Element) []ir.Element {
	clean := 1
	for clean < len(list) && s.apart(&list[clean-1], &list[clean]) {
		clean++
	}
	if clean >= len(list) {
		return list
	}
	tidied := append(make([]ir.Element, 0, len(list)-1), list[:clean]...)
	for i := clean; i < len(list); i++ {
		last := &tidied[len(tidied)-1]
		switch {
		case s.apart(last, &list[i]):
			tidied = append(tidied, list[i])
		case !s.exact() && !covered(list[i], *last):
			*last = s.joined(last.Parts[0], list[i].Parts[0])
		}
	}
	return tidied
}

// apart says whether neighbours have nothing in common.
func (s *shape) apart(a, b *ir.Element) bool {
	if s.exact() {
		return compareElements(*a, *b) != 0
	}
	return before(&a.Parts[0], &b.Parts[0])
}

// joined is the range of two that overlap.
func (s *shape) joined(a, b ir.Part) ir.Element {
	a.Last, a.High = b.Last, b.High
	parts := []ir.Part{a}
	return ir.Element{Parts: parts, Text: s.elementText(parts)}
}

// maxConstants is how many values of a port are asked for one after another, each with a set of addresses. Sets of ranges of
// several fields are dear to change, so that one is only made for more.
const maxConstants = 8

// byPort is elements without their last part, a list for each value of that, in order; ok is false if these are more than
// maxConstants.
func byPort(list []ir.Element) (parts []withPort, ok bool) {
	for _, e := range list {
		n := len(e.Parts) - 1
		p := &e.Parts[n]
		i := slices.IndexFunc(parts, func(w withPort) bool {
			return w.port.First == p.First && w.port.Last == p.Last && w.port.Name == p.Name
		})
		if i < 0 {
			if i = len(parts); i == maxConstants {
				return nil, false
			}
			parts = append(parts, withPort{port: *p})
		}
		parts[i].rest = append(parts[i].rest, ir.Element{Parts: e.Parts[:n:n], Text: e.Text[:strings.LastIndexByte(e.Text, ',')]})
	}
	slices.SortFunc(parts, func(a, b withPort) int { return comparePart(&a.port, &b.port) })
	return parts, true
}

// withPort is what elements that end with a port have before it.
type withPort struct {
	port ir.Part
	rest []ir.Element
}

// makeSets makes the sets and rules of a fold of which the members are known. Other sets of the chain may have the same names.
func (f *folding) makeSets(into *fold) {
	into.made, into.loose = nil, nil
	s := into.shape
	if into.rules < f.least || !into.gathered {
		return
	}
	port := s.slots[len(s.slots)-1]
	iptables := f.classes.backend == ir.IPTables
	if into.ordered || s.exact() || len(s.slots) == 1 || !port.isPort() || iptables && !s.isWide(port) {
		f.makeSet(into, s, into.members, nil)
		return
	}
	parts, few := byPort(into.members)
	switch {
	case few:
		key := s.shapeKey
		key.given &^= 1 << port
		key.wide &^= 1 << port
		rest := f.classes.shape(key)
		for _, w := range parts {
			f.makeSet(into, rest, w.rest, &w.port)
		}
	case iptables: // ipset keeps a range as all its ports
		return
	default:
		f.makeSet(into, s, into.members, nil)
	}
}

// makeSet makes a set, and the rule that looks it up. port is what the rule asks for beside the set, or nil. What cannot be in
// the set stays as rules.
func (f *folding) makeSet(into *fold, s *shape, members []ir.Element, port *ir.Part) {
	elements, loose := members, []ir.Element(nil)
	if !into.ordered {
		elements, loose = s.tidy(members)
	}
	for _, e := range loose {
		if into.loose == nil {
			into.loose = map[string]bool{}
		}
		text := e.Text
		if port != nil {
			text = into.shape.elementText(append(slices.Clone(e.Parts), *port))
		}
		into.loose[text] = true
	}
	if len(elements) == 0 {
		return
	}
	origin := &ir.Origin{Object: into.object, Path: into.path, Text: strconv.Itoa(into.rules) + " rules"}
	name := f.setName(into, s, port)
	set := &ir.Set{Name: f.naming().next(name), Type: s.setType(), Family: s.family(), Sides: s.sides, Exact: s.exact(),
		Verdicts: into.action == nil, Elements: elements, Origin: origin}
	if f.classes.backend == ir.IPTables {
		set.Exact = false
		set.MaxElem = maxElem(len(elements))
	}
	into.made = append(into.made, madeOne{name, set, f.lookup(into, s, set, port)})
}

// family is the IP version of a set of the shape's values.
func (s *shape) family() ir.Families {
	if slices.ContainsFunc(s.slots, slot.isAddr) {
		return s.packets
	}
	return ir.Both
}

// lookup is the rule that looks a set up.
func (f *folding) lookup(into *fold, s *shape, set *ir.Set, port *ir.Part) *ir.Rule {
	r := &ir.Rule{Families: s.rules, Matches: s.consts(), Origin: set.Origin}
	if port != nil {
		last := into.shape.slots[len(into.shape.slots)-1]
		r.Matches = append(r.Matches, ir.Port{Side: last.side(), Protocol: port.Name, Low: port.First, High: port.Last})
	}
	if into.action == nil {
		r.Actions = []ir.Action{ir.Decide{Map: set}}
		return r
	}
	if reject, ok := into.action.(ir.Reject); ok && f.classes.backend == ir.IPTables && port == nil && s.protocol < 0 &&
		strings.HasPrefix(reject.With, "tcp-r") {
		r.Matches = append(r.Matches, ir.L4Proto{Numbers: []int{protocolTCP}}) // iptables takes no such answer without
	}
	r.Matches = append(r.Matches, ir.Lookup{Side: s.sides[0], Set: set})
	r.Actions = []ir.Action{into.action}
	return r
}

const protocolTCP = 6 // IPPROTO_TCP

// usualIPSet is how many elements an ipset has room for if nothing is said (man ipset, maxelem).
const usualIPSet = 65536

// maxElem is the room that an ipset is given: a power of two, so that it is another one but rarely.
func maxElem(n int) string {
	if n <= usualIPSet {
		return ""
	}
	room := usualIPSet
	for room < n {
		room *= 2
	}
	return strconv.Itoa(room)
}

// Names of sets have so many bytes at most (linux/netfilter/nf_tables.h; linux/netfilter/ipset/ip_set.h).
const (
	maxNFTSetName = 255
	maxIPSetName  = 31
)

// setName is what a set is called: by its chain, the shape of its elements, and what its rules do if that is not to accept. An
// ipset of the configuration cannot have such a name, as there is a slash in it.
func (f *folding) setName(into *fold, s *shape, port *ir.Part) string {
	name := f.chain.Name + "/" + s.name()
	if f.chain.Table != "" && f.chain.Table != "filter" {
		name = f.chain.Table + "/" + name
	}
	if port != nil {
		last := into.shape.slots[len(into.shape.slots)-1]
		name += fmt.Sprintf(".%s-%s-%d", slotWords[last], port.Name, port.First)
		if port.Last != port.First {
			name += "-" + strconv.Itoa(port.Last)
		}
	}
	switch a := into.action.(type) {
	case nil:
		name += ".map"
	case ir.Verdict:
		if a != ir.Accept {
			name += "." + string(a)
		}
	case ir.Reject:
		name += ".reject"
		if a.With != "" {
			name += "-" + a.With
		}
	case ir.Jump:
		name += "." + a.Chain
	}
	return name
}

// naming gives the sets of a chain names that are unique and short enough.
type naming struct {
	longest int
	used    map[string]int
}

func (f *folding) naming() naming {
	if f.classes.backend == ir.IPTables {
		return naming{maxIPSetName, map[string]int{}}
	}
	return naming{maxNFTSetName, map[string]int{}}
}

// next is the name of the next set that would be called name.
func (n naming) next(name string) string {
	n.used[name]++
	if times := n.used[name]; times > 1 {
		name += "/" + strconv.Itoa(times)
	}
	if len(name) <= n.longest {
		return name
	}
	hash := fnv.New64a()
	hash.Write([]byte(name))
	digest := strings.TrimRight(base32.StdEncoding.EncodeToString(hash.Sum(nil)), "=")
	return name[:n.longest-len(digest)-1] + "/" + digest
}

// called is the same with another name for the set.
func (m madeOne) called(name string) madeOne {
	set, rule := *m.set, *m.rule
	set.Name = name
	rule.Matches, rule.Actions = slices.Clone(rule.Matches), slices.Clone(rule.Actions)
	if last := len(rule.Matches) - 1; last >= 0 {
		if l, ok := rule.Matches[last].(ir.Lookup); ok {
			l.Set = &set
			rule.Matches[last] = l
		}
	}
	if _, ok := rule.Actions[0].(ir.Decide); ok {
		rule.Actions[0] = ir.Decide{Map: &set}
	}
	return madeOne{m.name, &set, &rule}
}
