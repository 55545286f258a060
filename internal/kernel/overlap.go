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
		if !isWide(wide) {
			continue
		}
		for j, other := range s.Elements {
			if i != j && other.Text != wide.Text && meet(wide, other) {
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

// isWide says whether an element stands for several keys.
func isWide(e ir.Element) bool {
	return slices.ContainsFunc(e.Parts, func(p ir.Part) bool {
		return p.Kind == ir.AddrPart && p.Low != p.High || p.Kind == ir.PortPart && p.First != p.Last
	})
}

// meet says whether two elements have a key in common.
func meet(a, b ir.Element) bool {
	for i, p := range a.Parts {
		q := b.Parts[i]
		switch p.Kind {
		case ir.AddrPart:
			if p.High.Less(q.Low) || q.High.Less(p.Low) {
				return false
			}
		case ir.PortPart:
			if p.Protocol != q.Protocol || p.Last < q.First || q.Last < p.First {
				return false
			}
		default:
			if p.First != q.First || p.Name != q.Name {
				return false
			}
		}
	}
	return true
}
