package ir

import (
	"net/netip"

	"richwall/internal/boxes"
)

// Wide says whether a set may have elements that are ranges: only such ones can overlap without being the same.
func (s *Set) Wide() bool { return !s.Exact && s.Type != "hash:mac" }

// Overlap finds two elements of a set that have something in common without being the same, which nftables refuses or gets wrong.
// known is a set that has been found to have none, or nil: what both have is not looked at again.
func (s *Set) Overlap(known *Set) (a, b Element, found bool) {
	const few = 16 // new elements, each of which is compared with all others
	if known == s || !s.Wide() || apart(s.Elements) {
		return a, b, false
	}
	from, to := s.Since(known)
	if to-from > few {
		return s.overlap()
	}
	for i := from; i < to; i++ {
		for j := range s.Elements {
			if e := &s.Elements[j]; j != i && s.Elements[i].Overlaps(*e) && s.Elements[i].Box() != e.Box() {
				return s.Elements[i], *e, true
			}
		}
	}
	return a, b, false
}

// Since is which elements a set has that another one of its kind has not, if they stand together: those from the first of the two
// numbers to the one before the second. Without another one these are all.
func (s *Set) Since(known *Set) (from, to int) {
	if known == nil || known.Type != s.Type || known.Family != s.Family || known.Verdicts != s.Verdicts || known.Sizes != s.Sizes {
		return 0, len(s.Elements)
	}
	old, now := known.Elements, s.Elements
	for from < len(old) && from < len(now) && old[from].Same(&now[from]) {
		from++
	}
	to = len(now)
	for end := len(old); to > from && end > from && old[end-1].Same(&now[to-1]); end-- {
		to--
	}
	return from, to
}

func (s *Set) overlap() (a, b Element, found bool) {
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
func apart(list []Element) bool {
	var before netip.Addr // the last one of the element before
	for i := range list {
		p := list[i].Part(0)
		if p.Kind != AddrPart || i > 0 && !before.Less(p.Low) {
			return false
		}
		before = p.High
	}
	return true
}
