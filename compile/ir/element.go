package ir

import (
	"math/bits"
	"net/netip"
	"slices"
	"time"

	"richwall/internal/boxes"
)

// NewElement is an element with its text and its parts.
func NewElement(text string, parts ...Part) Element {
	return Element{Key: &Key{Parts: parts, Text: text}}
}

// Wide says whether an element stands for more than one packet's fields: only such ones can overlap with others.
func (e Element) Wide() bool {
	return slices.ContainsFunc(e.Parts, func(p Part) bool {
		return p.Kind == AddrPart && p.Low != p.High || p.Kind == PortPart && p.First != p.Last
	})
}

// Left is how long an element still has, in milliseconds at least one; 0 for one that has no end of its own. ended says that its
// time has come.
func (e *Element) Left() (left time.Duration, ended bool) {
	if e.Until == nil {
		return 0, false
	}
	left = time.Until(*e.Until).Truncate(time.Millisecond)
	return left, left <= 0
}

// Overlaps says whether there is a packet that both elements, of one set, stand for.
func (e Element) Overlaps(other Element) bool {
	for i := range e.Parts {
		p, q := &e.Parts[i], &other.Parts[i]
		switch p.Kind {
		case AddrPart:
			if p.High.Less(q.Low) || q.High.Less(p.Low) {
				return false
			}
		case PortPart:
			if p.Name != q.Name || p.Last < q.First || q.Last < p.First {
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

// Prefix is the addresses of an AddrPart as a prefix; ok is false for a range that is none.
func (p Part) Prefix() (prefix netip.Prefix, ok bool) {
	low, high := p.Low.As16(), p.High.As16()
	common := 0
	for i := range low {
		differ := bits.LeadingZeros8(low[i] ^ high[i])
		common += differ
		if differ < 8 {
			break
		}
	}
	prefix = netip.PrefixFrom(p.Low, common-128+p.Low.BitLen())
	return prefix, prefix.Masked().Addr() == p.Low && boxes.LastAddr(prefix) == p.High
}
