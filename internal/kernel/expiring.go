package kernel

import (
	"time"

	"richwall/compile/ir"
)

// slack is how far the kernel's clock may be from ours when an element ends, with the time that a commit takes: within it
// nobody knows whether the element is still there.
const slack = 2 * time.Second

// updateExpiring makes the difference of a set whose elements end by themselves. Those that have ended need nothing. If it is
// not certain whether one is still there, the set is emptied and gets all again, each with the time that it has left.
func (p *plan) updateExpiring(old, next *ir.Set) {
	gone, added, certain := expiringDifference(old.Elements, next.Elements, time.Now())
	if !certain {
		p.changesSet(next)
		p.put("cannot take elements out of set "+next.Name, next.Origin, nil, p.enc.FlushSet(next.Name))
		p.addElements(next, next.Elements)
		return
	}
	p.guessed = p.guessed || len(gone)+len(added) > 0
	p.exchangeElements(next, gone, added)
}

// expiringDifference is what must be taken out of a set at a time, and what must be added. An element that ends at another
// time than before is both. certain is false if one that is to go may have ended or not.
func expiringDifference(old, next []ir.Element, at time.Time) (gone, added []ir.Element, certain bool) {
	begin, end := inCommon(old, next, sameExpiring)
	old, next = old[begin:len(old)-end], next[begin:len(next)-end]
	if len(old) == 0 {
		return nil, next, true
	}
	has := make(map[string]ir.Element, len(next))
	for _, e := range next {
		has[e.Text] = e
	}
	stays := make(map[string]bool, len(old))
	for _, e := range old {
		if other, ok := has[e.Text]; ok && sameExpiring(e, other) {
			stays[e.Text] = true
			continue
		}
		until := e.Until()
		if until == nil {
			return nil, nil, false
		}
		switch left := until.Sub(at); {
		case left > slack:
			gone = append(gone, e)
		case left > -slack:
			return nil, nil, false
		}
	}
	for _, e := range next {
		if !stays[e.Text] {
			added = append(added, e)
		}
	}
	return gone, added, true
}

func sameExpiring(a, b ir.Element) bool {
	p, q := a.Until(), b.Until()
	return a.Text == b.Text && (p == q || p != nil && q != nil && p.Equal(*q))
}
