package kernel

import (
	"richwall/compile/ir"
	"richwall/internal/boxes"
)

// newOverlap finds two elements that overlap in a set; known is the set of that name that had none before, or nil.
func newOverlap(known, s *ir.Set) (a, b ir.Element, found bool) {
	const few = 16 // new elements, each of which is compared with all others
	if known == s {
		return a, b, false
	}
	if known == nil || known.Type != s.Type || known.Family != s.Family {
		return overlap(s)
	}
	begin, end := inCommon(known.Elements, s.Elements, sameElement)
	from, to := begin, len(s.Elements)-end
	if to-from > few || from < to && len(s.Elements[from].Parts) == 1 {
		return overlap(s)
	}
	for i := from; i < to; i++ {
		for j := range s.Elements {
			if e := &s.Elements[j]; j != i && s.Elements[i].Text != e.Text && s.Elements[i].Overlaps(*e) {
				return s.Elements[i], *e, true
			}
		}
	}
	return a, b, false
}

// overlap finds two elements of a set of intervals that have an address in common, without being the same.
func overlap(s *ir.Set) (a, b ir.Element, found bool) {
	if s.Type == "hash:mac" || s.Exact || apart(s.Elements) {
		return a, b, false
	}
	list := make([]boxes.Box, len(s.Elements))
	for i := range s.Elements {
		list[i] = s.Elements[i].Box()
		list[i].Of = i
	}
	p, q, found := boxes.Overlap(list)
	if !found {
		return a, b, false
	}
	return s.Elements[p.Of], s.Elements[q.Of], true
}

// apart says whether elements are those of sorted intervals of addresses without overlaps, as sets that were compiled are.
func apart(list []ir.Element) bool {
	for i := range list {
		if list[i].Parts[0].Kind != ir.AddrPart || i > 0 && !list[i-1].Parts[0].High.Less(list[i].Parts[0].Low) {
			return false
		}
	}
	return true
}
