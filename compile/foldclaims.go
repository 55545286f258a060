package compile

import (
	"cmp"
	"slices"

	"richwall/compile/ir"
	"richwall/internal/boxes"
)

// claim is what a rule matches, among rules of one shape that do different things.
type claim struct {
	ir.Element
	at     int // the rule's place
	fold   *fold
	action ir.Action
}

// element is the claim as an element of its fold's set.
func (c *claim) element() ir.Element {
	if c.fold.action == nil {
		return c.WithVerdict(c.action)
	}
	return c.Element
}

// conflict is two rules, by their places, that a packet may meet both, in their order.
type conflict struct{ earlier, later int }

// settle gives what several rules claim to the first of them, where the packet meets no other behind it and that can be
// said; where not, the rules are in conflict. cut says that something was given so.
func (f *folding) settle(s *shape, list []claim) (kept []claim, cut bool, conflicts []conflict) {
	slices.SortFunc(list, func(a, b claim) int {
		return cmp.Or(compareElements(a.Element, b.Element), cmp.Compare(a.at, b.at))
	})
	if s.exact() {
		return settleEqual(list)
	}
	if f.classes.backend == ir.IPTables || slices.ContainsFunc(list, func(c claim) bool { return !terminal(c.action) }) {
		conflicts = f.conflicts(list)
	}
	if len(conflicts) > 0 {
		return nil, false, conflicts
	}
	claimed := make([]boxes.Box, len(list))
	for i := range list {
		claimed[i] = list[i].Box()
		claimed[i].Of, claimed[i].Rank = i, int64(-list[i].at)
	}
	given, ok := boxes.Disjoint(claimed, func(boxes.Box, boxes.Box) { cut = true })
	switch {
	case !ok:
		return nil, false, allApart(list)
	case !cut:
		return list, false, nil
	}
	for _, b := range given {
		c := list[b.Of]
		if b.Changed {
			c.Element = c.Within(b)
			c.Text = s.elementText(c.Parts())
		}
		kept = append(kept, c)
	}
	return kept, true, nil
}

// conflicts are those of claims in the order of compareElements that cannot be settled: ipset has no ranges that are no prefix,
// and a packet that comes back from where a rule sent it may meet the next one.
func (f *folding) conflicts(list []claim) []conflict {
	var found []conflict
	var open []int          // those that the next ones may overlap
	left := 500 * len(list) // comparisons that are worth it
	for j := range list {
		c := &list[j]
		first := c.Part(0)
		open = slices.DeleteFunc(open, func(i int) bool {
			p := list[i].Part(0)
			return before(&p, &first)
		})
		if left -= len(open); left < 0 {
			return allApart(list)
		}
		for _, i := range open {
			o := &list[i]
			if (f.classes.backend == ir.IPTables || !terminal(o.action) || !terminal(c.action)) && o.Overlaps(c.Element) {
				found = append(found, between(o, c))
			}
		}
		open = append(open, j)
	}
	return found
}

// allApart keeps every rule in its place.
func allApart(list []claim) []conflict {
	var all []conflict
	for i := range list {
		all = append(all, conflict{list[i].at - 1, list[i].at})
	}
	return all
}

func between(a, b *claim) conflict { return conflict{min(a.at, b.at), max(a.at, b.at)} }

// settleEqual settles claims that are equal or have nothing in common.
func settleEqual(list []claim) (kept []claim, cut bool, conflicts []conflict) {
	kept = list[:0]
	for _, c := range list {
		if len(kept) == 0 || compareElements(kept[len(kept)-1].Element, c.Element) != 0 {
			kept = append(kept, c)
			continue
		}
		first := &kept[len(kept)-1]
		if terminal(first.action) && terminal(c.action) {
			cut = true
			continue
		}
		conflicts = append(conflicts, between(first, &c))
		kept = append(kept, c)
	}
	return kept, cut, conflicts
}

// breaks are the places that a run must be cut at, so that no two rules in conflict are in one part.
func breaks(conflicts []conflict) []int {
	slices.SortFunc(conflicts, func(a, b conflict) int { return cmp.Compare(a.later, b.later) })
	var at []int
	from := 0
	for _, c := range conflicts {
		if c.earlier >= from {
			at = append(at, c.later)
			from = c.later
		}
	}
	return at
}
