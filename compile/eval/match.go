package eval

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"richwall/compile/ir"
)

// truth is whether a match holds.
type truth uint8

const (
	no truth = iota
	yes
	maybe // it asks for what is not known
)

func truthOf(b bool) truth {
	if b {
		return yes
	}
	return no
}

// inverted is the truth of the opposite, if invert says so.
func (t truth) inverted(invert bool) truth {
	if invert && t != maybe {
		return yes - t
	}
	return t
}

// rule says whether all matches of a rule hold. One that does not outweighs one that is not known; missing is what the latter
// asks for.
func (w *walk) rule(r *ir.Rule) (holds truth, missing string) {
	if w.backend == ir.IPTables && r.Families&w.p.Family == 0 || w.backend == ir.NFTables && !w.answerable(r) || !w.linked(r) {
		return no, ""
	}
	holds = yes
	for _, m := range r.Matches {
		switch t, what := w.match(m); t {
		case no:
			return no, ""
		case maybe:
			holds, missing = maybe, what
		}
	}
	return holds, missing
}

// answerable says whether a packet can be rejected as a rule wants to: nft makes that a match of the rule.
func (w *walk) answerable(r *ir.Rule) bool {
	for _, a := range r.Actions {
		if a, ok := a.(ir.Reject); ok {
			_, ok := w.p.answer(a.With, w.backend)
			return ok
		}
	}
	return true
}

// match says whether a match holds, and what it asks for that is not known.
func (w *walk) match(m ir.Match) (holds truth, missing string) {
	p := w.p
	switch m := m.(type) {
	case ir.NFProto:
		return truthOf(m.Family&p.Family != 0), ""
	case ir.Iface:
		return w.iface(m), ""
	case ir.Addr:
		return w.inAny(m.Side, m.Invert, m.Prefix)
	case ir.AddrList:
		return w.inAny(ir.Dest, false, m.Prefixes...)
	case ir.EtherAddr:
		return w.etherAddr(m)
	case ir.Lookup:
		return w.lookup(m)
	case ir.L4Proto:
		return truthOf(slices.Contains(m.Numbers, p.Protocol)), ""
	case ir.Port:
		return p.portIn(m)
	case ir.ICMP:
		return truthOf(m.Family == p.Family && p.isICMP() && m.Type == p.ICMPType && (m.Code == ir.AnyCode || m.Code == p.ICMPCode)), ""
	case ir.ICMPTypes:
		return truthOf(m.Family == p.Family && p.isICMP() && slices.Contains(m.Types, p.ICMPType)), ""
	case ir.SYN:
		return truthOf(p.Protocol == 6 && p.Flags&SYN != 0 && (w.backend == ir.NFTables || p.Flags&RST == 0)), ""
	case ir.ACK:
		return truthOf(p.Protocol == 6 && p.Flags&ACK != 0), ""
	case ir.MSS:
		return truthOf(p.Protocol == 6 && p.MSS != 0 && m.Low <= p.MSS && p.MSS <= m.High), ""
	case ir.CTState:
		return truthOf(slices.ContainsFunc(m.States, w.inState)), ""
	case ir.CTDirection:
		return truthOf(p.State != StateInvalid && m.Reply == p.Reply), "" // what is of no connection has no direction
	case ir.CTStatus:
		return truthOf(p.Translated), ""
	case ir.CTOrigPort:
		return w.origPort(m), ""
	case ir.Fib:
		return truthOf(p.ReversePath == NoRoute || p.ReversePath == OtherInterface && !m.Loose), ""
	case ir.PktType:
		return truthOf(frameType(m.Type) == frameType(p.Type)), ""
	case ir.Limit:
		return yes, ""
	}
	panic(fmt.Sprintf("internal error: nobody knows when %T matches", m))
}

// frameType is how a frame is addressed, which firewalld.conf and the kernel name differently.
func frameType(name string) string {
	if name == "" || name == "unicast" {
		return "host"
	}
	return name
}

// device is the interface on a side of the packet that the kernel knows at the current hook; empty where there is none.
func (w *walk) device(s ir.Side) string {
	switch {
	case s == ir.Source && w.p.Path != Output:
		return w.p.In
	case s == ir.Dest && w.hook != "prerouting" && w.hook != "input":
		return w.p.Out
	}
	return ""
}

func (w *walk) iface(m ir.Iface) truth {
	name := w.device(m.Side)
	if prefix, wild := strings.CutSuffix(m.Name, "+"); wild {
		return truthOf(strings.HasPrefix(name, prefix)).inverted(m.Invert)
	}
	return truthOf(name == m.Name).inverted(m.Invert)
}

// inAny says whether an address is in any of some prefixes of one family. What is of the other family is neither in them nor,
// inverted, outside.
func (w *walk) inAny(s ir.Side, invert bool, prefixes ...netip.Prefix) (truth, string) {
	if familyOf(prefixes[0].Addr()) != w.p.Family {
		return no, ""
	}
	addr := w.p.address(s)
	if !addr.IsValid() {
		if slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Bits() == 0 }) {
			return truthOf(!invert), ""
		}
		return maybe, addressOf[s]
	}
	in := slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(addr) })
	return truthOf(in).inverted(invert), ""
}

var (
	addressOf = map[ir.Side]string{ir.Source: "the source address", ir.Dest: "the destination address"}
	portOf    = map[ir.Side]string{ir.Source: "the source port", ir.Dest: "the destination port"}
	macOf     = map[ir.Side]string{ir.Source: "the MAC address that it comes from", ir.Dest: "the MAC address that it was sent to"}
)

func familyOf(a netip.Addr) ir.Families {
	if a.Is4() {
		return ir.V4
	}
	return ir.V6
}

// mac is the frame's address; what this machine sends has none yet. holds is maybe if it is not known.
func (w *walk) mac(s ir.Side) (address string, holds truth) {
	address = w.p.EtherSource
	if s == ir.Dest {
		address = w.p.EtherDest
	}
	switch {
	case w.p.Path == Output || address == NoMAC:
		return "", no
	case address == "":
		return "", maybe
	}
	return strings.ToLower(address), yes
}

func (w *walk) etherAddr(m ir.EtherAddr) (truth, string) {
	address, holds := w.mac(m.Side)
	if holds == yes {
		holds = truthOf(address == strings.ToLower(m.MAC)).inverted(m.Invert)
	}
	return holds, macOf[m.Side]
}

func (p *Packet) portIn(m ir.Port) (truth, string) {
	port := p.port(m.Side)
	switch {
	case p.Protocol != protocols[m.Protocol]:
		return no, ""
	case port == 0 && m.Low == 0 && m.High == 65535:
		return yes, ""
	case port == 0:
		return maybe, portOf[m.Side]
	}
	return truthOf(m.Low <= port && port <= m.High), ""
}

// inState says whether connection tracking has put the packet into a state; iptables calls a translated destination one.
func (w *walk) inState(state string) bool {
	switch state {
	case "new":
		return w.p.State == StateNew
	case "dnat":
		return w.p.Translated
	}
	return w.p.State == State(state)
}

// origPort compares the port that a connection was opened to. iptables asks for the direction and for the translation as well,
// and nftables for the protocol.
func (w *walk) origPort(m ir.CTOrigPort) truth {
	port := w.p.openedTo()
	if w.backend == ir.IPTables && (!w.p.Translated || w.p.Reply) || w.backend == ir.NFTables && w.p.Protocol != protocols[m.Protocol] {
		return no
	}
	return truthOf(w.p.State != StateInvalid && m.Low <= port && port <= m.High)
}
