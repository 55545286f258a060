package compile

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"richwall/compile/ir"
	"richwall/internal/boxes"
)

// compareElements is the order of elements of one set: by their parts, and what covers another one comes before it.
func compareElements(a, b ir.Element) int {
	for i := range a.Fields() {
		p, q := a.Part(i), b.Part(i)
		if c := comparePart(&p, &q); c != 0 {
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

// tidy leaves out elements that others cover, and joins or cuts those that overlap. list is in the order of compareElements,
// and is returned as it is if no two have anything in common. ok is false if so many pieces would be needed that it is not
// worth it.
func (f *folding) tidy(s *shape, list []ir.Element) (tidied []ir.Element, ok bool) {
	if s.exact() || len(s.slots) == 1 || f.classes.backend == ir.IPTables {
		return f.tidyRanges(s, list), true
	}
	boxed := make([]boxes.Box, len(list))
	for i := range list {
		boxed[i] = list[i].Box()
		boxed[i].Of = i
	}
	overlap := false
	given, ok := boxes.Disjoint(boxed, func(boxes.Box, boxes.Box) { overlap = true })
	if !ok || !overlap {
		return list, ok
	}
	for _, b := range given {
		e := list[b.Of]
		if b.Changed {
			e = e.Within(b)
			e.Text = s.elementText(e.Parts())
		}
		tidied = append(tidied, e)
	}
	return tidied, true
}

// tidyRanges tidies elements of which only neighbours have anything in common, but for prefixes in an ipset, which may be in
// one another.
func (f *folding) tidyRanges(s *shape, list []ir.Element) []ir.Element {
	joins := !s.exact() && (s.bitmap || f.classes.backend == ir.NFTables)
	apart := func(a, b *ir.Element) bool {
		if joins {
			p, q := a.Part(0), b.Part(0)
			return before(&p, &q)
		}
		return compareElements(*a, *b) != 0
	}
	clean := 1
	for clean < len(list) && apart(&list[clean-1], &list[clean]) {
		clean++
	}
	if clean >= len(list) {
		return list
	}
	tidied := append(make([]ir.Element, 0, len(list)-1), list[:clean]...)
	for i := clean; i < len(list); i++ {
		last := &tidied[len(tidied)-1]
		switch {
		case apart(last, &list[i]):
			tidied = append(tidied, list[i])
		case joins && !covered(list[i], *last):
			*last = s.joined(last.Part(0), list[i].Part(0))
		}
	}
	return tidied
}

// joined is the range of two that overlap.
func (s *shape) joined(a, b ir.Part) ir.Element {
	a.Last, a.High = b.Last, b.High
	parts := []ir.Part{a}
	return ir.NewElement(s.elementText(parts), parts...)
}

// maxConstants is how many values of a port are asked for one after another, each with a set of addresses. Sets of ranges of
// several fields are dear to change, so that one is only made for more.
const maxConstants = 8

// byPort is elements without their last part, a list for each value of that, in order; ok is false if these are more than
// maxConstants.
func byPort(list []ir.Element) (parts []withPort, ok bool) {
	for _, e := range list {
		all := e.Parts()
		n := len(all) - 1
		p := &all[n]
		i := slices.IndexFunc(parts, withPort{port: *p}.samePort)
		if i < 0 {
			if i = len(parts); i == maxConstants {
				return nil, false
			}
			parts = append(parts, withPort{port: *p})
		}
		parts[i].rest = append(parts[i].rest, ir.NewElement(e.Text[:strings.LastIndexByte(e.Text, ',')], all[:n:n]...))
	}
	slices.SortFunc(parts, func(a, b withPort) int { return comparePart(&a.port, &b.port) })
	return parts, true
}

// withPort is what elements that end with a port have before it.
type withPort struct {
	port ir.Part
	rest []ir.Element
}

func (w withPort) samePort(other withPort) bool {
	return w.port.First == other.port.First && w.port.Last == other.port.Last && w.port.Name == other.port.Name
}

// change is what is another in a fold than in one before it. The zero change is that of a fold that there was none of.
type change struct {
	was         *fold
	minus, plus []ir.Element // members that it has no more, and others, in the order of compareElements
	alone       bool         // none of plus has anything in common with another member
}

// apart says whether no two members of a fold have anything in common as elements of a shape: its own, or what remains of that
// without a port. What is known of one of these says nothing about the other, but that members of the whole that are apart and have a
// port in common are apart without it.
func (c change) apart(into *fold, s *shape) bool {
	if into.ordered {
		return true
	}
	return c.alone && c.was.apart != nil && (c.was.apart == s || c.was.apart == into.shape)
}

// parts are the members of a fold by their ports, if these are few.
func (c change) parts(into *fold) (parts []withPort, few bool) {
	if c.was == nil || c.was.parts == nil {
		return byPort(into.members)
	}
	minus, few := byPort(c.minus)
	plus, fewMore := byPort(c.plus)
	parts = slices.Clone(c.was.parts)
	for _, w := range append(minus, plus...) {
		if !slices.ContainsFunc(parts, w.samePort) {
			return byPort(into.members)
		}
	}
	for i := range parts {
		var gone, added []ir.Element
		for _, w := range minus {
			if w.samePort(parts[i]) {
				gone = w.rest
			}
		}
		for _, w := range plus {
			if w.samePort(parts[i]) {
				added = w.rest
			}
		}
		if len(gone)+len(added) > 0 {
			parts[i].rest = changed(parts[i].rest, gone, added)
		}
	}
	if !few || !fewMore || slices.ContainsFunc(parts, func(w withPort) bool { return len(w.rest) == 0 }) {
		return byPort(into.members)
	}
	return parts, true
}

// made is the set that there was of members that have a port in common, if these are the same.
func (c change) made(into *fold, w withPort) (m madeOne, ok bool) {
	if c.was == nil || len(c.was.made) != len(c.was.parts) || c.was.object != into.object || c.was.path != into.path {
		return m, false
	}
	i := slices.IndexFunc(c.was.parts, func(p withPort) bool { return p.samePort(w) && sameSlice(p.rest, w.rest) })
	if i < 0 {
		return m, false
	}
	return c.was.made[i], true
}

// makeSets makes the sets and rules of a fold of which the members are known; of an ordered one, no two have anything in common.
// Other sets of the chain may have the same names.
func (f *folding) makeSets(into *fold, c change) {
	s := into.shape
	if into.rules < f.least || !into.gathered {
		return
	}
	port := s.slots[len(s.slots)-1]
	iptables := f.classes.backend == ir.IPTables
	if into.ordered && !iptables || s.exact() || len(s.slots) == 1 || !port.isPort() || iptables && !s.isWide(port) {
		f.makeWhole(into, c)
		return
	}
	parts, few := c.parts(into)
	switch {
	case few:
		into.parts = parts
		f.makeParts(into, c, f.classes.shape(s.without(port)))
	case iptables: // ipset keeps a range as all its ports, of which there may be more than it has room for
	default:
		f.makeWhole(into, c)
	}
}

// makeWhole makes one set of a fold.
func (f *folding) makeWhole(into *fold, c change) {
	m, apart, ok := f.makeSet(into, into.shape, into.members, nil, c)
	if !ok {
		return
	}
	into.folded = true
	if apart {
		into.apart = into.shape
	}
	if m.set != nil {
		into.made = []madeOne{m}
	}
}

// makeParts makes a set for each port; rest is the shape of their elements. It is all or nothing: with one that cannot be made, all
// rules stay.
func (f *folding) makeParts(into *fold, c change, rest *shape) {
	made := make([]madeOne, 0, len(into.parts))
	allApart := true
	for _, w := range into.parts {
		m, again := c.made(into, w)
		if again {
			allApart = allApart && c.was.apart != nil
		} else {
			var apart, ok bool
			if m, apart, ok = f.makeSet(into, rest, w.rest, &w.port, c); !ok {
				return
			}
			allApart = allApart && apart
		}
		made = append(made, m)
	}
	into.folded, into.made = true, made
	if allApart {
		into.apart = rest
	}
}

// without is the key without a slot.
func (k shapeKey) without(s slot) shapeKey {
	k.given &^= 1 << s
	k.wide &^= 1 << s
	return k
}

// makeSet makes a set, and the rule that looks it up. The set is nil if others have claimed all. ok is false if it is not worth it,
// or if the set would be wrong. port is what the rule asks for beside the set, or nil. apart says whether no two members have
// anything in common.
func (f *folding) makeSet(into *fold, s *shape, members []ir.Element, port *ir.Part, c change) (m madeOne, apart, ok bool) {
	elements, rules := members, len(members)
	if into.ordered && port == nil {
		rules = into.rules
	}
	if apart = c.apart(into, s); !apart {
		tidied, ok := f.tidy(s, members)
		if !ok {
			return m, false, false
		}
		apart = sameSlice(tidied, members)
		elements = tidied
	}
	if len(elements) == 0 {
		return m, apart, true
	}
	origin := &ir.Origin{Object: into.object, Path: into.path, Text: strconv.Itoa(rules) + " rules"}
	name := f.setName(into, s, port)
	set := &ir.Set{Name: f.naming().next(name), Type: s.setType(), Family: s.family(), Sides: s.sides, Exact: s.exact(),
		Verdicts: into.action == nil, Elements: elements, Origin: origin}
	if f.classes.backend == ir.IPTables {
		set.Exact = false
		set.MaxElem = maxElem(len(elements))
	}
	if fault := f.judge(set, c.before(name)); fault != "" {
		into.fault = set.Name + " would be wrong: " + fault
		return m, false, false
	}
	return madeOne{name, set, f.lookup(into, s, set, port)}, apart, true
}

// before is the set that there was of a name; nil if there was none.
func (c change) before(name string) *ir.Set {
	if c.was != nil {
		for _, m := range c.was.made {
			if m.name == name {
				return m.set
			}
		}
	}
	return nil
}

// wrong says what is wrong with a set that a fold would become; empty if nothing is. known is the one in its place before, which was
// right, or nil. Nothing is known to make such a set. If something did, a valid configuration would be refused as a whole by whoever
// commits it: its rules stay instead, which is right and slower.
func wrong(backend ir.Backend, set, known *ir.Set) string {
	if backend == ir.NFTables {
		if a, b, found := set.Overlap(known); found {
			return "its elements " + a.Text + " and " + b.Text + " overlap"
		}
	}
	from, to := set.Since(known)
	for i := max(from, 1); i < min(to+1, len(set.Elements)); i++ {
		if a, b := &set.Elements[i-1], &set.Elements[i]; compareElements(*a, *b) == 0 {
			return "its element " + a.Text + " is there twice"
		}
	}
	return ""
}

// judge is wrong, or what a test has put in its place.
func (f *folding) judge(set, known *ir.Set) string {
	if f.fault != nil {
		return f.fault(set)
	}
	return wrong(f.classes.backend, set, known)
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
