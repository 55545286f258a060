package ir

import "slices"

// Wide says whether an element stands for more than one packet's fields: only such ones can overlap with others.
func (e Element) Wide() bool {
	return slices.ContainsFunc(e.Parts, func(p Part) bool {
		return p.Kind == AddrPart && p.Low != p.High || p.Kind == PortPart && p.First != p.Last
	})
}

// Overlaps says whether there is a packet that both elements, of one set, stand for.
func (e Element) Overlaps(other Element) bool {
	for i, p := range e.Parts {
		q := other.Parts[i]
		switch p.Kind {
		case AddrPart:
			if p.High.Less(q.Low) || q.High.Less(p.Low) {
				return false
			}
		case PortPart:
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
