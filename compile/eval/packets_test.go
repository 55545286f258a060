package eval_test

import (
	"math/rand/v2"
	"net/netip"
	"slices"

	"richwall/compile/eval"
	"richwall/compile/ir"
	"richwall/internal/lab"
)

// names is what the rules of a ruleset are about: the edges of their ranges, and what lies one beside.
type names struct {
	addresses map[ir.Families][]netip.Addr
	ports     []int
	types     map[ir.Families][][2]int // of ICMP, with a code
	macs      []string
}

func namesOf(rs *ir.Ruleset) *names {
	n := &names{addresses: map[ir.Families][]netip.Addr{}, types: map[ir.Families][][2]int{ir.V4: {{8, 0}, {3, 4}}, ir.V6: {{128, 0}, {1, 4}}}}
	n.ports = []int{22, 80, 65535}
	for _, c := range rs.Chains {
		for _, r := range c.Rules {
			for _, m := range r.Matches {
				n.match(m)
			}
		}
	}
	for _, s := range rs.Sets {
		for _, e := range s.Elements {
			for _, p := range e.Parts() {
				switch p.Kind {
				case ir.AddrPart:
					n.span(p.Low, p.High)
				case ir.PortPart:
					n.portSpan(p.First, p.Last)
				case ir.MACPart:
					n.macs = append(n.macs, p.Name)
				}
			}
		}
	}
	return n
}

func (n *names) match(m ir.Match) {
	switch m := m.(type) {
	case ir.Addr:
		n.prefix(m.Prefix)
	case ir.AddrList:
		for _, p := range m.Prefixes {
			n.prefix(p)
		}
	case ir.Port:
		n.portSpan(m.Low, m.High)
	case ir.ICMP:
		n.types[m.Family] = append(n.types[m.Family], [2]int{m.Type, max(0, m.Code)})
	case ir.EtherAddr:
		n.macs = append(n.macs, m.MAC)
	}
}

func (n *names) prefix(p netip.Prefix) {
	last := p.Addr().As16()
	first := 128 - p.Addr().BitLen()
	for i := first + p.Bits(); i < 128; i++ {
		last[i/8] |= 0x80 >> (i % 8)
	}
	high := netip.AddrFrom16(last)
	if p.Addr().Is4() {
		high = high.Unmap()
	}
	n.span(p.Addr(), high)
}

func (n *names) span(low, high netip.Addr) {
	for _, a := range []netip.Addr{low, high, low.Prev(), high.Next(), low.Next()} {
		if !a.IsValid() {
			continue
		}
		f := ir.V6
		if a.Is4() {
			f = ir.V4
		}
		n.addresses[f] = append(n.addresses[f], a)
	}
}

func (n *names) portSpan(low, high int) {
	for _, p := range []int{low - 1, low, high, high + 1} {
		if 0 < p && p < 65536 {
			n.ports = append(n.ports, p)
		}
	}
}

func pick[T any](r *rand.Rand, list ...T) T { return list[r.IntN(len(list))] }

var ends = map[ir.Families]map[string]netip.Addr{
	ir.V4: {lab.ClientLink: netip.MustParseAddr("10.1.0.2"), lab.ServerLink: netip.MustParseAddr("10.2.0.2"), lab.DMZLink: netip.MustParseAddr("10.3.0.2"),
		"": netip.MustParseAddr("10.1.0.1")},
	ir.V6: {lab.ClientLink: netip.MustParseAddr("fd00:1::2"), lab.ServerLink: netip.MustParseAddr("fd00:2::2"), lab.DMZLink: netip.MustParseAddr("fd00:3::2"),
		"": netip.MustParseAddr("fd00:1::1")},
}

var clientMAC = "02:00:00:00:01:02"

// packet is one of the packets that the rules tell apart: most of what it has is an edge of what one of them names.
func (n *names) packet(r *rand.Rand) eval.Packet {
	p := eval.Packet{
		Path: pick(r, eval.Input, eval.Forward, eval.Output), Family: pick(r, ir.V4, ir.V6), Protocol: pick(r, 6, 6, 6, 17, 17, 132, 33, 50),
		EtherSource: pick(r, clientMAC, "02:00:00:00:01:03"), EtherDest: "02:00:00:00:01:01", SourcePort: pick(r, append(n.ports, 40000)...),
		DestPort: pick(r, n.ports...), State: pick(r, eval.StateNew, eval.StateNew, eval.StateNew, eval.StateNew, eval.StateEstablished, eval.StateInvalid),
		Type: pick(r, "", "", "", "broadcast", "multicast"), Translated: r.IntN(10) == 0, Mark: uint32(r.IntN(3)),
	}
	links := []string{lab.ClientLink, lab.ServerLink, lab.DMZLink, "other0"}
	if p.Path != eval.Output {
		p.In = pick(r, links...)
	}
	if p.Path != eval.Input {
		p.Out = pick(r, links...)
	}
	if len(n.macs) > 0 && r.IntN(2) == 0 {
		p.EtherSource = pick(r, n.macs...)
	}
	p.Source, p.Destination = n.address(r, p.Family, p.In), n.address(r, p.Family, p.Out)
	switch {
	case r.IntN(6) == 0:
		p.Protocol = map[ir.Families]int{ir.V4: 1, ir.V6: 58}[p.Family]
		kind := pick(r, n.types[p.Family]...)
		p.ICMPType, p.ICMPCode = kind[0], kind[1]
	case p.Protocol == 6:
		p.Flags, p.MSS = pick(r, eval.SYN, eval.SYN, eval.ACK, eval.SYN|eval.ACK), pick(r, 0, 536, 1200, 1460)
	}
	p.Reply = p.State == eval.StateEstablished && r.IntN(2) == 0
	if r.IntN(8) == 0 {
		p.ReversePath = pick(r, eval.OtherInterface, eval.NoRoute)
	}
	return p
}

// address is one that a rule names, or else that of a host.
func (n *names) address(r *rand.Rand, f ir.Families, link string) netip.Addr {
	if list := n.addresses[f]; len(list) > 0 && r.IntN(4) > 0 {
		return pick(r, list...)
	}
	if a, ok := ends[f][link]; ok {
		return a
	}
	return pick(r, slices.Collect(func(yield func(netip.Addr) bool) {
		for _, link := range []string{lab.ClientLink, lab.ServerLink, ""} {
			if !yield(ends[f][link]) {
				return
			}
		}
	})...)
}
