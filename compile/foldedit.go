package compile

import (
	"slices"
	"sort"

	"richwall/compile/ir"
)

// edit is folding a chain again after some of its rules came or went: those before begin, and those from end on, are the same.
type edit struct {
	*folding
	before, next *folded
	begin, end   int // in next.in
	shift        int // how much further back in next.in than in before.in the rules from end on are
}

// run makes the stretches of a run, from those that it had before if it can.
func (e *edit) run(r run) run {
	was := e.was(r)
	if was == nil {
		r.stretches = e.stretches(e.next.in[r.from:r.to], e.next.class[r.from:r.to])
		return r
	}
	gone, added := e.difference(r, was)
	switch {
	case len(gone)+len(added) == 0:
		r.stretches = was.stretches
	case len(was.stretches) == 1 && len(gone)+len(added) <= max(16, (r.to-r.from)/16):
		if st := e.stretch(was.stretches[0], r, gone, added); st != nil {
			r.stretches = []*stretch{st}
		}
	}
	if r.stretches == nil {
		r.stretches = e.stretches(e.next.in[r.from:r.to], e.next.class[r.from:r.to])
	}
	return r
}

// was is the run that was where this one is; nil if there was none.
func (e *edit) was(r run) *run {
	at := r.from // in before.in
	if at >= e.begin {
		at = r.to - e.shift - 1
		if r.to <= e.end { // nothing of it is as it was
			return nil
		}
	}
	runs := e.before.runs
	i := sort.Search(len(runs), func(i int) bool { return runs[i].to > at })
	if i == len(runs) || runs[i].from > at {
		return nil
	}
	return &runs[i]
}

// span is the rules from one place to another.
type span struct{ from, to int }

func (s span) appendTo(list []int) []int {
	for i := s.from; i < s.to; i++ {
		list = append(list, i)
	}
	return list
}

// difference is the rules that a run had and has not, and those that it has and had not, by their places in before.in and in
// next.in.
func (e *edit) difference(r run, was *run) (gone, added []int) {
	first := span{max(r.from, was.from), min(r.to, was.to, e.begin)} // what stayed before the change
	if first.to <= first.from {
		first = span{}
	}
	last := span{max(r.from, was.from+e.shift, e.end), min(r.to, was.to+e.shift)} // and behind it, in next.in
	if last.to <= last.from {
		last = span{}
	}
	has, had := []span{first, last}, []span{first, {last.from - e.shift, last.to - e.shift}}
	return without(span{was.from, was.to}, had), without(span{r.from, r.to}, has)
}

// without is the places in a span that are in none of others, which are in order.
func without(s span, others []span) []int {
	var list []int
	for _, o := range others {
		if o.from < o.to {
			list = span{s.from, o.from}.appendTo(list)
			s.from = o.to
		}
	}
	return s.appendTo(list)
}

// stretch is one with some rules less and some more; nil if that cannot be had by changing single elements.
func (e *edit) stretch(was *stretch, r run, gone, added []int) *stretch {
	if was.cut {
		return nil
	}
	st := e.plan(e.next.class[r.from:r.to])
	had := map[foldKey]*fold{}
	for _, into := range was.folds {
		had[into.foldKey] = into
	}
	same := map[*fold]*fold{} // the old fold of a new one
	for _, into := range st.folds {
		old := had[into.foldKey]
		if old == nil && !into.gathered {
			continue
		}
		if old == nil || old.gathered != into.gathered || (old.rules >= e.least) != (into.rules >= e.least) {
			return nil
		}
		same[into] = old
	}
	for c, old := range was.of {
		if into := st.of[c]; into != nil && into.gathered && same[into] != old {
			return nil
		}
	}
	minus, plus := e.elements(was.of, e.before, gone), e.elements(st.of, e.next, added)
	var others []*fold
	for i, into := range st.folds {
		old := same[into]
		if old == nil {
			continue
		}
		if len(minus[old]) == 0 && len(plus[into]) == 0 && old.rules == into.rules && old.object == into.object && old.path == into.path {
			st.replace(i, old)
			continue
		}
		into.members = changed(old.members, minus[old], plus[into])
		others = append(others, into)
	}
	if st.claimedTwice(plus) {
		return nil
	}
	for _, into := range others {
		old := same[into]
		e.makeSets(into, change{old, minus[old], plus[into], !slices.ContainsFunc(plus[into], into.claims)})
	}
	return st
}

// replace takes an old fold for the new one.
func (st *stretch) replace(i int, old *fold) {
	for c, into := range st.of {
		if into == st.folds[i] {
			st.of[c] = old
		}
	}
	st.folds[i] = old
}

// elements are those of some rules, by their folds, in order.
func (e *edit) elements(of map[*class]*fold, in *folded, places []int) map[*fold][]ir.Element {
	lists := map[*fold][]ir.Element{}
	for _, i := range places {
		into := of[in.class[i]]
		if into == nil || !into.gathered {
			continue
		}
		var verdict ir.Action
		if into.ordered && into.action == nil {
			verdict = in.class[i].action
		}
		element := into.shape.element(in.in[i], verdict, make([]ir.Part, len(into.shape.slots)))
		lists[into] = append(lists[into], element)
	}
	for _, list := range lists {
		slices.SortFunc(list, compareElements)
	}
	return lists
}

// changed is a list without some elements of it, and with others. All are in the order of compareElements.
func changed(list, gone, added []ir.Element) []ir.Element {
	next := make([]ir.Element, 0, len(list)-len(gone)+len(added))
	for len(gone)+len(added) > 0 {
		goes := len(added) == 0 || len(gone) > 0 && compareElements(gone[0], added[0]) <= 0
		if goes {
			at := indexOf(list, gone[0])
			next = append(next, list[:at]...)
			list, gone = list[at+1:], gone[1:]
			continue
		}
		at := indexOf(list, added[0])
		next = append(append(next, list[:at]...), added[0])
		list, added = list[at:], added[1:]
	}
	return append(next, list...)
}

// indexOf is where in a list an element is, or would be.
func indexOf(list []ir.Element, e ir.Element) int {
	return sort.Search(len(list), func(i int) bool { return compareElements(list[i], e) >= 0 })
}

// claimedTwice says whether something that one of the new elements of an ordered fold stands for is another one's too.
func (st *stretch) claimedTwice(plus map[*fold][]ir.Element) bool {
	for into, list := range plus {
		if !into.ordered {
			continue
		}
		for _, other := range st.folds {
			if other.ordered && other.shape == into.shape && slices.ContainsFunc(list, func(e ir.Element) bool { return other.claims(e) }) {
				return true
			}
		}
	}
	return false
}

// claims says whether an element of the fold, other than e itself, has something in common with e.
func (f *fold) claims(e ir.Element) bool {
	near := f.members
	if f.shape.exact() || len(f.shape.slots) == 1 { // only neighbours can
		at := indexOf(near, e)
		near = near[max(0, at-1):min(len(near), at+2)]
	}
	for i := range near {
		if !near[i].Is(&e) && near[i].Overlaps(e) {
			return true
		}
	}
	return false
}
