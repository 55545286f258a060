package boxes

import (
	"math"
	"slices"
)

// Join makes one span of those that overlap, for entries of a single field: the result is sorted and without overlaps. The
// list is sorted and overwritten. merged, if not nil, is called for each span that became a part of another one.
func Join(list []Span, merged func(into, s Span)) []Span {
	SortSpans(list)
	kept := list[:0]
	for _, s := range list {
		if len(kept) == 0 || kept[len(kept)-1].Last.less(s.First) {
			kept = append(kept, s)
			continue
		}
		top := &kept[len(kept)-1]
		if merged != nil {
			into, part := *top, s
			if s.First == top.First && top.Last.less(s.Last) {
				into, part = s, *top
			}
			merged(into, part)
		}
		if top.Last.less(s.Last) {
			if top.First == s.First {
				*top = s // which covers it
			} else {
				top.Last, top.Changed = s.Last, true
			}
		}
	}
	return kept
}

// Disjoint cuts boxes so that none overlap and all points stay: of two that do, the one of higher rank or, of equal rank,
// the larger one stays whole, and the other loses what they have in common. The result is sorted, and depends on the boxes
// alone, not on their order. The list is overwritten. merged, if not nil, is called once for each entry that lost something,
// with one that it lost it to. ok is false when so many pieces would be needed that they are not worth having.
func Disjoint(list []Box, merged func(into, box Box)) (result []Box, ok bool) {
	c := &cutter{merged: merged, room: 4*len(list) + 1000, kept: make([]Box, 0, len(list))}
	groups(list, 0, 0, c.group)
	if c.room < 0 {
		return nil, false
	}
	Sort(c.kept)
	return c.kept, true
}

// cutter cuts groups of boxes.
type cutter struct {
	merged   func(into, box Box)
	reported map[int]bool
	kept     []Box
	room     int // pieces that may still be made
}

// regroup is after how many boxes taken out of a group it is worth a try to divide it again.
const regroup = 16

// group takes one box after the other out of a group, and cuts it out of the others.
func (c *cutter) group(list []Box) bool {
	var spare []Box
	for taken := 0; len(list) > 1; taken++ {
		if !slices.ContainsFunc(list, wide) {
			c.points(list)
			return true
		}
		if taken == regroup {
			return groups(list, 0, 0, c.group)
		}
		at := 0
		for i := range list {
			if goesBefore(&list[i], &list[at]) {
				at = i
			}
		}
		rest := c.without(spare[:0], list, at)
		if c.room < 0 {
			return false
		}
		list, spare = rest, list
		if taken == 0 {
			spare = nil // it is the caller's, and others are behind it
		}
	}
	c.kept = append(c.kept, list...)
	return true
}

// without keeps one box of a list and appends to another one what remains of the others.
func (c *cutter) without(rest, list []Box, at int) []Box {
	whole := list[at]
	c.kept = append(c.kept, whole)
	for i := range list {
		switch {
		case i == at:
		case !whole.Overlaps(&list[i]):
			rest = append(rest, list[i])
		default:
			c.report(whole, list[i])
			before := len(rest)
			rest = cut(rest, list[i], &whole)
			c.room -= len(rest) - before
		}
	}
	return rest
}

// points keeps one of each box that is a single point.
func (c *cutter) points(list []Box) {
	Sort(list)
	for i := range list {
		if i > 0 && list[i].First == list[i-1].First {
			c.report(c.kept[len(c.kept)-1], list[i])
		} else {
			c.kept = append(c.kept, list[i])
		}
	}
}

func wide(b Box) bool { return b.First != b.Last }

func (c *cutter) report(into, box Box) {
	if c.merged == nil || c.reported[box.Of] {
		return
	}
	if c.reported == nil {
		c.reported = map[int]bool{}
	}
	c.reported[box.Of] = true
	c.merged(into, box)
}

// goesBefore says whether b is taken before c: by rank, by size, and then by their order.
func goesBefore(b, c *Box) bool {
	if b.Rank != c.Rank {
		return b.Rank > c.Rank
	}
	if m, n := b.size(), c.size(); m != n {
		return m > n
	}
	return compare(*b, *c) < 0
}

// size is the number of points, as a logarithm.
func (b *Box) size() float64 {
	sum := 0.0
	for i := range Fields {
		if b.First[i] != b.Last[i] {
			high, low := b.Last[i].High-b.First[i].High, b.Last[i].Low-b.First[i].Low
			if b.Last[i].Low < b.First[i].Low {
				high--
			}
			sum += math.Log2(float64(high)*(1<<32)*(1<<32) + float64(low) + 1)
		}
	}
	return sum
}

// cut appends what remains of a box outside of another one that overlaps with it: at most two pieces for each field.
func cut(list []Box, b Box, out *Box) []Box {
	b.Changed = true
	for i := range Fields {
		if b.First[i].less(out.First[i]) {
			piece := b
			piece.Last[i] = out.First[i].previous()
			list = append(list, piece)
			b.First[i] = out.First[i]
		}
		if out.Last[i].less(b.Last[i]) {
			piece := b
			piece.First[i] = out.Last[i].next()
			list = append(list, piece)
			b.Last[i] = out.Last[i]
		}
	}
	return list
}
