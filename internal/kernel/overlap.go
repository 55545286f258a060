package kernel

import (
	"richwall/compile/ir"
	"richwall/internal/boxes"
)

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
