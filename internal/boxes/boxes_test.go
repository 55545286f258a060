package boxes

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// box is a box in two fields.
func box(of int, x1, x2, y1, y2 uint64) Box {
	return Box{First: [Fields]Point{{0, x1}, {7, y1}}, Last: [Fields]Point{{0, x2}, {7, y2}}, Of: of}
}

// some are random boxes on a field of 24 by 24 points.
func some(r *rand.Rand, n int) []Box {
	list := make([]Box, n)
	span := func() (uint64, uint64) {
		first := r.Uint64N(24)
		if r.IntN(2) == 0 {
			return first, first
		}
		return first, min(23, first+r.Uint64N(12))
	}
	for i := range list {
		x1, x2 := span()
		y1, y2 := span()
		list[i] = box(i, x1, x2, y1, y2)
	}
	return list
}

// rank is the highest rank of the boxes that a point is in, and how many those are.
func rank(list []Box, x, y uint64) (highest int64, count int) {
	point := box(0, x, x, y, y)
	for i := range list {
		if list[i].Overlaps(&point) {
			highest, count = max(highest, list[i].Rank), count+1
		}
	}
	return highest, count
}

// Cut boxes hold each point that was there, once, and with the highest rank that it had.
func TestDisjoint(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for n := range 400 {
		list := some(r, 1+n%40)
		for i := range list {
			list[i].Rank = int64(n%2) * r.Int64N(4)
		}
		merged := map[int]bool{}
		got, ok := Disjoint(slices.Clone(list), func(into, b Box) {
			if merged[b.Of] || !into.Overlaps(&b) {
				t.Errorf("%v lost something to %v, or was told twice", b, into)
			}
			merged[b.Of] = true
		})
		if !ok {
			t.Fatal("too many pieces")
		}
		for x := range uint64(24) {
			for y := range uint64(24) {
				want, before := rank(list, x, y)
				highest, count := rank(got, x, y)
				if count != min(before, 1) || highest != want {
					t.Fatalf("%v became %v: the point %d, %d is there %d times with rank %d, not %d", list, got, x, y, count, highest, want)
				}
			}
		}
		if _, _, found := Overlap(slices.Clone(got)); found || !slices.IsSortedFunc(got, compare) {
			t.Errorf("%v overlap or are not in order", got)
		}
		if _, _, found := Overlap(list); found != (len(merged) > 0) && !duplicates(list) {
			t.Errorf("Overlap says %v of %v", found, list)
		}
	}
}

// duplicates says whether two boxes are the same, which Overlap does not mind.
func duplicates(list []Box) bool {
	for i := range list {
		for j := range list[:i] {
			if list[i].Compare(&list[j]) == 0 {
				return true
			}
		}
	}
	return false
}

// The order of entries in a file decides nothing.
func TestDisjointOrder(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 100 {
		list := some(r, 30)
		first, _ := Disjoint(slices.Clone(list), nil)
		r.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
		second, _ := Disjoint(list, nil)
		if !slices.EqualFunc(first, second, func(a, b Box) bool { return a.Compare(&b) == 0 }) {
			t.Fatalf("%v and %v", first, second)
		}
	}
}

// Of entries that cross each other in too many ways there would be a piece for each crossing.
func TestDisjointGivesUp(t *testing.T) {
	var list []Box
	for i := range uint64(2000) {
		list = append(list, box(len(list), 2*i, 2*i, 0, 5000), box(len(list), 0, 5000, 2*i, 2*i))
	}
	if got, ok := Disjoint(list, nil); ok {
		t.Errorf("there are %d pieces", len(got))
	}
}

// Intervals that overlap become one; one that covers others stays as it is, and neighbours stay apart.
func TestJoin(t *testing.T) {
	line := func(of int32, first, last uint64) Span {
		return Span{First: Point{1, first}, Last: Point{1, last}, Of: of}
	}
	list := []Span{line(0, 5, 9), line(1, 1, 3), line(2, 8, 12), line(3, 4, 4), line(4, 20, 29), line(5, 22, 22), line(6, 20, 29)}
	var told [][2]int32
	got := Join(list, func(into, s Span) { told = append(told, [2]int32{into.Of, s.Of}) })
	joined := line(0, 5, 12)
	joined.Changed = true
	if want := []Span{line(1, 1, 3), line(3, 4, 4), joined, line(4, 20, 29)}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if want := [][2]int32{{0, 2}, {4, 6}, {4, 5}}; !slices.Equal(told, want) {
		t.Errorf("merged %v, want %v", told, want)
	}
}

// Spans are apart if none has a point of another one, in whatever order they are given.
func TestApart(t *testing.T) {
	line := func(first, last uint64) Span { return Span{First: Point{Low: first}, Last: Point{Low: last}} }
	for _, tt := range []struct {
		list []Span
		want bool
	}{
		{nil, true},
		{[]Span{line(5, 9), line(1, 4), line(10, 10)}, true},
		{[]Span{line(5, 9), line(1, 5)}, false},
		{[]Span{line(1, 9), line(20, 20), line(4, 4)}, false},
		{[]Span{line(7, 7), line(7, 7)}, false},
	} {
		if got := Apart(slices.Clone(tt.list)); got != tt.want {
			t.Errorf("Apart(%v) is %v", tt.list, got)
		}
	}
}

// The ends of an interval carry over from one half of a point to the other.
func TestPointNeighbours(t *testing.T) {
	p := Point{1, ^uint64(0)}
	if p.next() != (Point{2, 0}) || p.next().previous() != p {
		t.Error(p.next(), p.next().previous())
	}
}

// 100,000 entries with several fields, of which a thousand are wide and overlap with others in one field, cost little more
// than to sort them.
func BenchmarkDisjoint(b *testing.B) {
	r := rand.New(rand.NewPCG(5, 6))
	list := make([]Box, 100_000)
	for i := range list {
		x, y := r.Uint64N(1<<24), r.Uint64N(60000)
		list[i] = box(i, x, x, y, y)
		if i%100 == 0 {
			list[i] = box(i, x&^0xffff, x|0xffff, y, y+10)
		}
	}
	for b.Loop() {
		if _, ok := Disjoint(slices.Clone(list), nil); !ok {
			b.Fatal("too many pieces")
		}
	}
}
