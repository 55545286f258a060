package compile

import (
	"cmp"
	"net/netip"
	"slices"

	"richwall/compile/ir"
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
		c.Verdict = c.action
	}
	return c.Element
}

// conflict is two rules, by their places, that a packet may meet both, in their order.
type conflict struct{ earlier, later int }

// settle gives what several rules claim to the first of them, where the packet meets no other behind it and that can be
// said; where not, the rules are in conflict. kept is in the order of compareElements.
func (f *folding) settle(s *shape, list []claim) (kept []claim, cut bool, conflicts []conflict) {
	slices.SortFunc(list, func(a, b claim) int {
		return cmp.Or(compareElements(a.Element, b.Element), cmp.Compare(a.at, b.at))
	})
	switch {
	case s.exact():
		return settleEqual(list)
	case len(s.slots) == 1 && s.slots[0].isAddr() && f.classes.backend == ir.NFTables:
		return settleAddrs(s, list)
	}
	complete := eachOverlap(len(list), func(i int) *ir.Element { return &list[i].Element }, func(i, j int) bool {
		conflicts = append(conflicts, between(&list[i], &list[j]))
		return false
	})
	if !complete { // it is not known which: none is passed by another
		conflicts = nil
		for i := range list {
			conflicts = append(conflicts, conflict{list[i].at - 1, list[i].at})
		}
	}
	return list, false, conflicts
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

// settleAddrs settles claims of prefixes, of which one is within the other if they have an address in common. It goes through
// the addresses upwards, and keeps the prefixes that it is within.
func settleAddrs(s *shape, list []claim) (kept []claim, cut bool, conflicts []conflict) {
	type open struct{ prefix, owner *claim } // what of the prefix no other one within it has is owner's
	var within []open
	var next netip.Addr // the first address that is not given yet; invalid behind the last of all
	give := func(last netip.Addr, to *claim) {
		if next.IsValid() && !last.Less(next) {
			kept = appendRange(s, kept, to, next, last)
			next = last.Next()
		}
	}
	closeBefore := func(low netip.Addr) { // an invalid address closes all
		for len(within) > 0 {
			top := within[len(within)-1]
			if high := top.prefix.Parts[0].High; !low.IsValid() || high.Less(low) {
				give(high, top.owner)
				within = within[:len(within)-1]
				continue
			}
			break
		}
	}
	for i := range list {
		c := &list[i]
		low := c.Parts[0].Low
		closeBefore(low)
		owner := c
		for _, o := range within {
			if !terminal(o.prefix.action) || !terminal(c.action) {
				conflicts = append(conflicts, between(o.prefix, c))
			}
		}
		if len(within) > 0 {
			cut = true
			top := within[len(within)-1]
			if next.Less(low) {
				give(low.Prev(), top.owner)
			}
			if top.owner.at < c.at {
				owner = top.owner
			}
		}
		next = low
		within = append(within, open{c, owner})
	}
	closeBefore(netip.Addr{})
	return kept, cut, conflicts
}

// appendRange adds a range to a claim's; one that goes on where the last one ended becomes one with it.
func appendRange(s *shape, kept []claim, of *claim, low, high netip.Addr) []claim {
	if n := len(kept) - 1; n >= 0 && kept[n].at == of.at && kept[n].Parts[0].High.Next() == low {
		low = kept[n].Parts[0].Low
		kept = kept[:n]
	}
	c := *of
	if p := of.Parts[0]; p.Low != low || p.High != high {
		c.Parts = []ir.Part{{Kind: ir.AddrPart, Low: low, High: high}}
		c.Text = s.elementText(c.Parts)
	}
	return append(kept, c)
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
