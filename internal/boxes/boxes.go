// Package boxes finds out which entries of a set have something in common, and makes them so that none have.
//
// An entry stands for an interval in each of its fields, of addresses, of ports of one protocol, and so on: a box in as many
// dimensions. Fields are numbers here, so that the package knows nothing of what they mean, and 100,000 entries cost a sort.
//
// In come Boxes, out go Boxes without overlaps that hold the same points. zones warns with it, compile merges with it, and
// internal/kernel checks with it what it is about to send. It imports nothing.
package boxes

import (
	"cmp"
	"slices"
)

// Fields is the highest number of fields that an entry has. Those that an entry lacks are 0 in all boxes of its set.
const Fields = 3

// Point is a value of a field, a number of 128 bits.
type Point struct{ High, Low uint64 }

// Compare is −1, 0 or 1 as p is below, equal to or above q.
func (p Point) Compare(q Point) int {
	if p.High != q.High {
		return cmp.Compare(p.High, q.High)
	}
	return cmp.Compare(p.Low, q.Low)
}

// less is p < q.
func (p Point) less(q Point) bool { return p.High < q.High || p.High == q.High && p.Low < q.Low }

// next and previous are the neighbours of a point that is neither the last nor the first one.
func (p Point) next() Point {
	p.Low++
	if p.Low == 0 {
		p.High++
	}
	return p
}

func (p Point) previous() Point {
	if p.Low == 0 {
		p.High--
	}
	p.Low--
	return p
}

// Box is the points that an entry stands for.
type Box struct {
	First, Last [Fields]Point // the ends of the interval in each field, both included
	Rank        int64         // of two boxes that overlap, the one of higher rank stays whole; of equal ones the larger
	Of          int           // the entry it is made of, by its place in the caller's list
	Changed     bool          // it is no longer the whole entry, or more than that
}

// Compare is the order of boxes: by where they begin, field by field, then the smaller one first.
func (b *Box) Compare(c *Box) int {
	for i := range Fields {
		if d := b.First[i].Compare(c.First[i]); d != 0 {
			return d
		}
	}
	for i := range Fields {
		if d := b.Last[i].Compare(c.Last[i]); d != 0 {
			return d
		}
	}
	return 0
}

// Overlaps says whether two boxes have a point in common.
func (b *Box) Overlaps(c *Box) bool {
	for i := range Fields {
		if b.Last[i].less(c.First[i]) || c.Last[i].less(b.First[i]) {
			return false
		}
	}
	return true
}

// Covers says whether all points of c are in b.
func (b *Box) Covers(c *Box) bool {
	for i := range Fields {
		if c.First[i].less(b.First[i]) || b.Last[i].less(c.Last[i]) {
			return false
		}
	}
	return true
}

// Span is the points of a single field that an entry stands for. Large lists of them take a third of the memory of boxes.
type Span struct {
	First, Last Point // both included
	Of          int32 // the entry it is made of, by its place in the caller's list
	Changed     bool  // it is more than the entry
}

// SortSpans puts spans into the order of boxes: by where they begin, the smaller one first, and equal ones as their entries stand.
func SortSpans(list []Span) {
	order := func(s, t Span) int {
		if d := s.First.Compare(t.First); d != 0 {
			return d
		}
		if d := s.Last.Compare(t.Last); d != 0 {
			return d
		}
		return cmp.Compare(s.Of, t.Of)
	}
	if !slices.IsSortedFunc(list, order) {
		slices.SortFunc(list, order)
	}
}

// Apart says whether no two spans have a point in common. The list is sorted.
func Apart(list []Span) bool {
	SortSpans(list)
	for i := 1; i < len(list); i++ {
		if !list[i-1].Last.less(list[i].First) {
			return false
		}
	}
	return true
}

// Sort puts boxes into their order.
func Sort(list []Box) {
	if slices.IsSortedFunc(list, compare) {
		return
	}
	sortByField(list, 0)
	for start, i := 0, 1; i <= len(list); i++ {
		if i == len(list) || list[i].First[0] != list[start].First[0] {
			if i-start > 1 {
				slices.SortFunc(list[start:i], compare)
			}
			start = i
		}
	}
}

// key is where a box begins in one field, and its place in a list.
type key struct {
	Point
	at int
}

// sortByField puts boxes into the order of where they begin in a field. Boxes are large, and so it sorts keys, and moves each
// box once.
func sortByField(list []Box, field int) {
	keys := make([]key, len(list))
	for i := range list {
		keys[i] = key{list[i].First[field], i}
	}
	slices.SortFunc(keys, func(a, b key) int {
		if c := a.Compare(b.Point); c != 0 {
			return c
		}
		return a.at - b.at
	})
	for i := range keys { // along each cycle of places
		if keys[i].at == i {
			continue
		}
		first, to := list[i], i
		for keys[to].at != i {
			from := keys[to].at
			list[to], keys[to].at = list[from], to
			to = from
		}
		list[to], keys[to].at = first, to
	}
}

// compare is a total order, for which equal boxes stand as their entries do, those of higher rank first.
func compare(b, c Box) int {
	if d := b.Compare(&c); d != 0 {
		return d
	}
	return cmp.Or(cmp.Compare(c.Rank, b.Rank), b.Of-c.Of)
}

// Overlap finds two boxes that have a point in common and are not the same. It changes the order of the list.
func Overlap(list []Box) (b, c Box, found bool) {
	groups(list, 0, 0, func(group []Box) bool {
		Sort(group)
		for i := range group {
			for j := i + 1; j < len(group) && !group[i].Last[0].less(group[j].First[0]); j++ {
				if group[i].Overlaps(&group[j]) && group[i].Compare(&group[j]) != 0 {
					b, c, found = group[i], group[j], true
					return false
				}
			}
		}
		return true
	})
	return b, c, found
}

// groups divides boxes so that those of different groups have no point in common, by one field after the other until none
// divides them any more, and calls f for each group until it returns false. It changes the order of the list.
func groups(list []Box, field, tried int, f func([]Box) bool) bool {
	if len(list) < 2 || tried == Fields {
		return f(list)
	}
	byField := func(b, c Box) int { return b.First[field].Compare(c.First[field]) }
	if !slices.IsSortedFunc(list, byField) {
		sortByField(list, field)
	}
	next := (field + 1) % Fields
	start, last := 0, list[0].Last[field]
	for i := 1; i < len(list); i++ {
		if last.less(list[i].First[field]) {
			if !groups(list[start:i], next, 1, f) {
				return false
			}
			start, last = i, list[i].Last[field]
		} else if last.less(list[i].Last[field]) {
			last = list[i].Last[field]
		}
	}
	if start == 0 {
		return groups(list, next, tried+1, f)
	}
	return groups(list[start:], next, 1, f)
}
