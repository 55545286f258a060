package kernel

import (
	"testing"

	"richwall/compile/ir"
	"richwall/compile/nft"
)

// A link gets another MTU: an element of each map of sizes changes. No new connection waits for that, as sizes decide of no packet whether it
// passes. Where two other sets change, it does.
func TestSizesOfLinksNeedNoGuard(t *testing.T) {
	sets := func(sizes bool) []*ir.Set {
		a := &ir.Set{Name: ir.LinkMaps[ir.V4], Type: "hash:iface", Family: ir.V4, Exact: true, Sizes: sizes}
		b := &ir.Set{Name: ir.LinkMaps[ir.V6], Type: "hash:iface", Family: ir.V6, Exact: true, Sizes: sizes}
		if sizes {
			a.Elements, b.Elements = []ir.Element{ir.NewSize("eth0", 1460)}, []ir.Element{ir.NewSize("eth0", 1440)}
		}
		return []*ir.Set{a, b}
	}
	for _, sizes := range []bool{true, false} {
		p := &plan{next: &Desired{Rules: &ir.Ruleset{}}, enc: &nft.Encoder{Table: ir.Table}, chains: map[string]*rest{}}
		for _, s := range sets(sizes) {
			p.addSet(s)
		}
		if len(p.errs) > 0 || len(p.changes) == 0 || p.isSeenInParts() == sizes {
			t.Errorf("with sizes %v: new connections wait: %v, with %d messages, errors %v", sizes, p.isSeenInParts(), len(p.changes), p.errs)
		}
	}
}
