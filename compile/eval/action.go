package eval

import (
	"fmt"
	"math"
	"net/netip"
	"slices"

	"richwall/compile/ir"
)

// action does what a rule says, and returns where the walk goes on.
func (w *walk) action(c *ir.Chain, depth int, a ir.Action) outcome {
	switch a := a.(type) {
	case ir.Verdict:
		return w.verdict(a)
	case ir.Jump:
		return w.jump(c, depth, a)
	case ir.Decide:
		return w.decide(c, depth, a)
	case ir.Reject:
		answer, ok := w.p.answer(a.With, w.backend)
		if !ok {
			return w.unknown("there is no answer %q to this packet", a.With)
		}
		w.r.Verdict, w.r.Answer = Reject, answer
		return ended
	case ir.Log, ir.NFLog, ir.Audit:
		w.r.Logs = append(w.r.Logs, a)
	case ir.SetMark:
		w.setMark(a)
	case ir.ClampMSS:
		w.clamp(a)
	case ir.Masquerade:
		w.r.Masquerade, w.translated = true, true
		return accepted
	case ir.DNAT:
		return w.dnat(a)
	case ir.SetHelper:
		w.r.Helper = a.Type
		if w.backend == ir.NFTables {
			w.r.Helper = w.helpers[a.Object]
		}
	case ir.Offload: // of flows that are established: what they do later, rules do not see
	case ir.Raw:
		return w.unknown("a rule of the direct interface is for iptables to read, and cannot be judged here")
	default:
		panic(fmt.Sprintf("internal error: nobody knows what %T does", a))
	}
	return next
}

func (w *walk) verdict(v ir.Verdict) outcome {
	switch v {
	case ir.Accept:
		return accepted
	case ir.Return:
		return back
	}
	w.r.Verdict = Drop
	return ended
}

// decide does what the packet's element of a verdict map says.
func (w *walk) decide(c *ir.Chain, depth int, d ir.Decide) outcome {
	switch e, holds, missing := w.find(d.Map, ir.Source); {
	case holds == maybe:
		return w.unknown("%s is not given, and a rule asks for it", missing)
	case e == nil:
		return next
	default:
		w.r.Trace[len(w.r.Trace)-1].Element = e
		return w.action(c, depth, e.Verdict())
	}
}

// setMark sets the mark, or only the bits of it that are masked.
func (w *walk) setMark(a ir.SetMark) {
	mask := a.Mask
	if !a.Masked {
		mask = math.MaxUint32
	}
	w.p.Mark = w.p.Mark&^mask ^ a.Value
}

// Sizes in bytes that iptables gives to SYNs that announce none, as these are what the other side takes them for (RFC 9293,
// 3.7.1); and the largest that ip6tables takes.
var assumedMSS = map[ir.Families]int{ir.V4: 536, ir.V6: 1220}

const maxIPv6MSS = 65495

// clamp lowers the MSS, or with Raise sets it. nftables leaves segments without one alone; iptables adds it where no data is
// in the way (the kernel's xt_TCPMSS.c).
func (w *walk) clamp(a ir.ClampMSS) {
	size := a.Size
	switch {
	case a.Links != "":
		if size = w.linkSize(a); size == 0 {
			return
		}
	case size == 0 && w.p.PathMSS == 0:
		w.r.PathClamp = true
		return
	case size == 0:
		size = w.p.PathMSS
	case w.backend == ir.IPTables && w.p.Family == ir.V6:
		size = min(size, maxIPv6MSS)
	}
	switch {
	case w.p.MSS != 0 && (size < w.p.MSS || a.Raise):
		w.p.MSS = size
	case w.p.MSS == 0 && w.backend == ir.IPTables && !w.p.Data:
		w.p.MSS = min(size, assumedMSS[w.p.Family])
	}
}

// linked says whether a rule that clamps to what an interface carries has a size for the packet's: the map makes that a match of the rule.
// A map that is not filled in may have any.
func (w *walk) linked(r *ir.Rule) bool {
	a, ok := r.Actions[0].(ir.ClampMSS)
	return !ok || a.Links == "" || w.device(a.Side) != "" && (w.links[a.Links] == nil || w.linkSize(a) != 0)
}

// linkSize is the size in bytes that the map of a clamp has for the packet's interface; 0 for none. Interfaces that a map would have if it were
// filled in are noted.
func (w *walk) linkSize(a ir.ClampMSS) int {
	name := w.device(a.Side)
	set := w.links[a.Links]
	switch {
	case name == "":
		return 0
	case set == nil && !slices.Contains(w.r.LinkClamps, name):
		w.r.LinkClamps = append(w.r.LinkClamps, name)
		return 0
	case set == nil:
		return 0
	}
	if e := w.sets[set].exact[key([]value{{name: name}})]; e != nil {
		return e.Size()
	}
	return 0
}

// dnat translates the destination. A rule of the other family does nothing (the kernel's nft_nat_inet_eval).
func (w *walk) dnat(a ir.DNAT) outcome {
	p := w.p
	if a.Addr.IsValid() && a.Family&p.Family == 0 {
		return next
	}
	to, port := a.Addr, p.DestPort
	redirected := !to.IsValid() && w.backend == ir.NFTables
	switch {
	case redirected && p.Path == Output:
		to = map[ir.Families]netip.Addr{ir.V4: netip.AddrFrom4([4]byte{127, 0, 0, 1}), ir.V6: netip.IPv6Loopback()}[p.Family]
	case redirected && p.Local.IsValid():
		to = p.Local
	case !to.IsValid(): // iptables changes the port alone
		to = p.Destination
	}
	if a.Low != 0 && (port < a.Low || port > a.High) {
		port = a.Low
	}
	w.translated = true
	if to == p.Destination && port == p.DestPort {
		return accepted // the kernel does not call that translated
	}
	w.r.DNAT = &a
	if p.OriginalPort == 0 {
		p.OriginalPort = p.DestPort
	}
	p.Translated, p.Destination, p.DestPort = true, to, port
	switch {
	case redirected && p.Path == Forward:
		p.Path, p.Out = Input, ""
	case a.Addr.IsValid() && p.Path == Input:
		return w.unknown("its destination becomes %s, and the interface that leads there is not given", a.Addr)
	}
	return accepted
}
