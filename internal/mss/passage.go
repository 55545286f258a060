package mss

import (
	"net/netip"
	"slices"
)

// Passage is a SYN or SYN/ACK that was seen on its way through a machine.
type Passage struct {
	In, Out    string     // interfaces
	Source     netip.Addr // as it came in, before anything was translated
	Target     netip.Addr // as it left
	Reply      bool       // SYN/ACK
	Came, Left int        // the MSS that it announced, in bytes
}

// Clamps are rules, of whatever packet filter, to be asked which of them lowered an MSS.
type Clamps struct{ rules *Rules }

// NewClamps are the rules that ReadRules has read.
func NewClamps(list []*Rules) *Clamps { return &Clamps{merge(list)} }

// Lowered names the rules that lowered the MSS of a segment to what it left with: those that it certainly met, or else those
// that it may have met. None are known if none of the rules does this.
func (c *Clamps) Lowered(p Passage) []string {
	single := func(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }
	s := segment{
		in: p.In, out: p.Out, src: single(p.Source), dst: single(p.Target), six: p.Source.Is6(), reply: p.Reply,
		pmtu: span{p.Left, p.Left},
	}
	met := findings{}
	c.rules.after(s, p.Left, p.Came, &met)
	var sure, perhaps []string
	for _, f := range met.list {
		switch {
		case f.Size != 0 && f.Size != p.Left:
		case f.Sure && !slices.Contains(sure, f.Rule):
			sure = append(sure, f.Rule)
		case !slices.Contains(perhaps, f.Rule):
			perhaps = append(perhaps, f.Rule)
		}
	}
	if sure != nil {
		return sure
	}
	return perhaps
}
