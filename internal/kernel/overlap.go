package kernel

import (
	"slices"

	"richwall/compile/ir"
)

// overlap finds two elements of a set of intervals that have an address in common, without being the same.
func overlap(s *ir.Set) (a, b ir.Element, found bool) {
	if s.Type == "hash:mac" || len(s.Elements) < 2 {
		return a, b, false
	}
	if len(s.Elements[0].Parts) == 1 {
		return overlapSorted(s.Elements)
	}
	for i, wide := range s.Elements {
		if !wide.Wide() {
			continue
		}
		for j, other := range s.Elements {
			if i != j && other.Text != wide.Text && wide.Overlaps(other) {
				return wide, other, true
			}
		}
	}
	return a, b, false
}

// overlapSorted does so for elements of one range each: of sorted ranges, only neighbours need to be looked at.
func overlapSorted(list []ir.Element) (a, b ir.Element, found bool) {
	byLow := func(a, b ir.Element) int { return a.Parts[0].Low.Compare(b.Parts[0].Low) }
	if !slices.IsSortedFunc(list, byLow) {
		list = slices.Clone(list)
		slices.SortFunc(list, byLow)
	}
	for i := 1; i < len(list); i++ {
		p, q := list[i-1].Parts[0], list[i].Parts[0]
		if p.High.Compare(q.Low) >= 0 && (p.Low != q.Low || p.High != q.High) {
			return list[i-1], list[i], true
		}
	}
	return a, b, false
}
