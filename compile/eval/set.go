package eval

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"sort"
	"strings"

	"richwall/compile/ir"
	"richwall/grammar"
)

// index finds the element of a set that a packet is in. Elements that stand for one value each are found by it; of the
// others those come into question whose range of addresses the packet's address is in.
type index struct {
	kinds  []ir.PartKind
	bitmap bool // of ports alone, whatever their protocol
	exact  map[string]*ir.Element
	byAddr int           // the first part that is an address; −1 without one
	wide   []wideElement // by first address
}

// wideElement is an element with a range in it.
type wideElement struct {
	*ir.Element
	reach netip.Addr // the last address of this element and of those before it; invalid without an address
}

// kinds are the kinds of the parts of a set's type, by their names in it.
var kinds = map[string]ir.PartKind{
	"ip": ir.AddrPart, "net": ir.AddrPart, "port": ir.PortPart, "mark": ir.MarkPart, "iface": ir.IfacePart, "mac": ir.MACPart,
}

func newIndex(s *ir.Set) *index {
	method, fields, _ := strings.Cut(s.Type, ":")
	x := &index{bitmap: method == "bitmap", exact: make(map[string]*ir.Element, len(s.Elements)), byAddr: -1}
	for i, name := range strings.Split(fields, ",") {
		x.kinds = append(x.kinds, kinds[name])
		if kinds[name] == ir.AddrPart && x.byAddr < 0 {
			x.byAddr = i
		}
	}
	for i := range s.Elements {
		e := &s.Elements[i]
		if e.Wide() {
			x.wide = append(x.wide, wideElement{Element: e})
			continue
		}
		values := make([]value, e.Fields())
		for i, p := range e.Parts() {
			values[i] = x.valueOf(p)
		}
		if k := key(values); x.exact[k] == nil {
			x.exact[k] = e
		}
	}
	if x.byAddr < 0 {
		return x
	}
	slices.SortStableFunc(x.wide, func(a, b wideElement) int { return a.Part(x.byAddr).Low.Compare(b.Part(x.byAddr).Low) })
	for i := range x.wide {
		x.wide[i].reach = x.wide[i].Part(x.byAddr).High
		if i > 0 && x.wide[i].reach.Less(x.wide[i-1].reach) {
			x.wide[i].reach = x.wide[i-1].reach
		}
	}
	return x
}

// value is what a packet, or an element that stands for one value, has as a part.
type value struct {
	addr   netip.Addr // AddrPart
	number int        // port, mark
	name   string     // MAC address in small letters, interface
	proto  int        // of a port
}

func (x *index) valueOf(p ir.Part) value {
	switch p.Kind {
	case ir.AddrPart:
		return value{addr: p.Low}
	case ir.PortPart:
		return value{number: p.First, proto: x.protocol(p)}
	case ir.MACPart:
		return value{name: strings.ToLower(p.Name)}
	}
	return value{number: p.First, name: p.Name}
}

// protocol is that of a port, 0 where it does not matter.
func (x *index) protocol(p ir.Part) int {
	if x.bitmap {
		return 0
	}
	n, err := grammar.ParseProtocol(p.Name)
	if err != nil {
		return -1
	}
	return n
}

// key is values as the key of a map.
func key(values []value) string {
	var b []byte
	for _, v := range values {
		a := v.addr.As16()
		b = append(append(b, a[:]...), v.name...)
		b = binary.BigEndian.AppendUint64(append(b, 0), uint64(v.number))
		b = binary.BigEndian.AppendUint16(b, uint16(v.proto))
	}
	return string(b)
}

func (x *index) find(values []value) *ir.Element {
	if e := x.exact[key(values)]; e != nil {
		return e
	}
	last := len(x.wide)
	if x.byAddr >= 0 {
		addr := values[x.byAddr].addr
		last = sort.Search(last, func(i int) bool { return addr.Less(x.wide[i].Part(x.byAddr).Low) })
	}
	for i := last - 1; i >= 0; i-- {
		if x.byAddr >= 0 && x.wide[i].reach.Less(values[x.byAddr].addr) {
			return nil
		}
		if x.within(values, x.wide[i].Parts()) {
			return x.wide[i].Element
		}
	}
	return nil
}

// within says whether values are in an element.
func (x *index) within(values []value, parts []ir.Part) bool {
	for i, p := range parts {
		v, in := values[i], true
		switch p.Kind {
		case ir.AddrPart:
			in = !v.addr.Less(p.Low) && !p.High.Less(v.addr)
		case ir.PortPart:
			in = v.proto == x.protocol(p) && p.First <= v.number && v.number <= p.Last
		default:
			in = v == x.valueOf(p)
		}
		if !in {
			return false
		}
	}
	return true
}

// lookup says whether the packet is in a set, and remembers the element.
func (w *walk) lookup(m ir.Lookup) (truth, string) {
	if w.backend == ir.NFTables && !w.readable(m.Set) {
		return no, ""
	}
	e, holds, missing := w.find(m.Set, m.Side)
	if holds == yes {
		w.element = e
	}
	return holds.inverted(m.Invert), missing
}

// readable says whether the packet has what nftables wants to look up; if not, the rule does not match even inverted.
func (w *walk) readable(s *ir.Set) bool {
	if s.Family != ir.Both && s.Family&w.p.Family == 0 {
		return false
	}
	for i, kind := range w.index(s).kinds {
		if _, holds := w.mac(sideOf(s, i, ir.Source)); kind == ir.MACPart && holds == no {
			return false
		}
	}
	return true
}

// index is that of a set; one that the ruleset does not list is looked up as if it were empty.
func (w *walk) index(s *ir.Set) *index {
	if x := w.sets[s]; x != nil {
		return x
	}
	return newIndex(&ir.Set{Type: s.Type})
}

// sideOf is where a field of a set is taken from.
func sideOf(s *ir.Set, field int, lookup ir.Side) ir.Side {
	if field < len(s.Sides) {
		return s.Sides[field]
	}
	return lookup
}

// find is the element of a set that the packet is in, or nil. If that is not known holds is maybe, and missing what it needs.
func (w *walk) find(s *ir.Set, side ir.Side) (e *ir.Element, holds truth, missing string) {
	if s.Family != ir.Both && s.Family&w.p.Family == 0 {
		return nil, no, ""
	}
	x := w.index(s)
	if x.bitmap && w.p.Protocol != 6 && w.p.Protocol != 17 { // the kernel's ip_set_bitmap_port.c
		return nil, no, ""
	}
	values := make([]value, len(x.kinds))
	for i, kind := range x.kinds {
		v, holds, what := w.value(kind, sideOf(s, i, side))
		switch {
		case holds == no:
			return nil, no, ""
		case holds == maybe:
			missing = what
		}
		if x.bitmap {
			v.proto = 0
		}
		values[i] = v
	}
	if missing != "" && len(x.exact)+len(x.wide) > 0 {
		return nil, maybe, missing
	}
	e = x.find(values)
	return e, truthOf(e != nil), ""
}

// value is what the packet has as a part of a set's key; holds is no where it has none.
func (w *walk) value(kind ir.PartKind, s ir.Side) (v value, holds truth, missing string) {
	p := w.p
	switch kind {
	case ir.AddrPart:
		if a := p.address(s); a.IsValid() {
			return value{addr: a}, yes, ""
		}
		return value{}, maybe, addressOf[s]
	case ir.PortPart:
		switch {
		case p.isICMP() && w.backend == ir.IPTables: // the kernel's ip_set_getport.c
			return value{number: p.ICMPType<<8 | p.ICMPCode, proto: p.Protocol}, yes, ""
		case !ported[p.Protocol] || p.Protocol == 33 && w.backend == ir.IPTables: // ipset has no ports of DCCP
			return value{}, no, ""
		case p.port(s) == 0:
			return value{}, maybe, portOf[s]
		}
		return value{number: p.port(s), proto: p.Protocol}, yes, ""
	case ir.MarkPart:
		return value{number: int(p.Mark)}, yes, ""
	case ir.MACPart:
		address, holds := w.mac(s)
		return value{name: address}, holds, macOf[s]
	}
	return value{name: w.device(s)}, yes, ""
}
