package nft

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"richwall/compile/ir"
)

// field is a part of a set's key: its type in nft, and how a packet has it on either side.
type field struct {
	typ    string
	source string
	dest   string
	part   int // of an element, that it is of
}

// fieldsOf are the fields of an element's part, by its name in a set's type; where nothing is said of the IP version, of IPv4.
var fieldsOf = map[string][]field{
	"ip":    {{typ: "ipv4_addr", source: "ip saddr", dest: "ip daddr"}},
	"net":   {{typ: "ipv4_addr", source: "ip saddr", dest: "ip daddr"}},
	"ip6":   {{typ: "ipv6_addr", source: "ip6 saddr", dest: "ip6 daddr"}},
	"net6":  {{typ: "ipv6_addr", source: "ip6 saddr", dest: "ip6 daddr"}},
	"port":  {{typ: "inet_proto", source: "meta l4proto", dest: "meta l4proto"}, {typ: "inet_service", source: "th sport", dest: "th dport"}},
	"mark":  {{typ: "mark", source: "meta mark", dest: "meta mark"}},
	"iface": {{typ: "ifname", source: "iifname", dest: "oifname"}},
	"mac":   {{typ: "ether_addr", source: "ether saddr", dest: "ether daddr"}},
}

// fields are the parts of a set's key. Where the type of an ipset has two addresses, firewalld compares both with the same one.
func fields(set *ir.Set) []field {
	var list []field
	for i, name := range typeNames(set) {
		for _, f := range fieldsOf[name] {
			f.part = i
			list = append(list, f)
		}
	}
	return list
}

// typeNames are the names of a set's fields in its type, those of IPv6 addresses with a 6 behind them.
func typeNames(set *ir.Set) []string {
	names := strings.Split(strings.TrimPrefix(set.Type, "hash:"), ",")
	for i, name := range names {
		if set.Family == ir.V6 && (name == "ip" || name == "net") {
			names[i] = name + "6"
		}
	}
	return names
}

// sideOf is where a field is taken from: from what the rule says, or for a folded set from what that says.
func (f field) sideOf(set *ir.Set, rule ir.Side) ir.Side {
	if set.Sides != nil {
		return set.Sides[f.part]
	}
	return rule
}

// keyText is what a set's key is made of.
func keyText(set *ir.Set, rule ir.Side) string {
	var parts []string
	for _, f := range fields(set) {
		parts = append(parts, side(f.sideOf(set, rule), f.source, f.dest))
	}
	return strings.Join(parts, " . ")
}

// intervals says whether a set has ranges for elements, or may have them later.
func intervals(set *ir.Set) bool { return set.Wide() }

func (p *printer) set(set *ir.Set) {
	err := CheckSet(set)
	if err == nil {
		err = unsayableName("set", set.Name)
	}
	if err != nil {
		p.fail(set.Origin, "", err)
		return
	}
	p.setHead(set)
	if set.Sizes && len(set.Elements) == 0 {
		p.line(2, "# the daemon puts in each link, with the MSS that the link's MTU has room for")
	}
	names, first := typeNames(set), true
	for i := range set.Elements {
		e := &set.Elements[i]
		if err := checkElement(set, names, e); err != nil {
			p.fail(set.Origin, "", fmt.Errorf("cannot put %q into set %s: %w", e.Text, set.Name, err))
			continue
		}
		left, ended := e.Left()
		if ended {
			continue
		}
		p.buf = append(p.buf[:0], ",\n\t\t             "...)
		if first {
			p.buf = append(p.buf[:0], "\t\telements = { "...)
			first = false
		}
		p.buf = append(p.buf, elementText(e)...)
		if left > 0 {
			p.buf = fmt.Appendf(p.buf, " expires %dms", left.Milliseconds())
		}
		if size := e.Size(); size != 0 {
			p.buf = fmt.Appendf(p.buf, " : %d", size)
		}
		if verdict := e.Verdict(); verdict != nil {
			p.buf = appendAction(append(p.buf, " : "...), verdict)
		}
		p.w.Write(p.buf)
	}
	if !first {
		p.line(0, " }")
	}
	p.line(1, "}")
	if len(p.errs) == 0 { // their parts are what the type says
		p.fail(set.Origin, "", overlapping(set))
	}
}

// setHead prints what a set is, without its elements.
func (p *printer) setHead(set *ir.Set) {
	var types []string
	for _, f := range fields(set) {
		types = append(types, f.typ)
	}
	switch {
	case set.Sizes:
		p.line(1, "map %s {", set.Name)
		p.line(2, "typeof oifname : tcp option maxseg size")
	case set.Verdicts:
		p.line(1, "map %s {", set.Name)
		p.line(2, "type %s : verdict", strings.Join(types, " . "))
	default:
		p.line(1, "set %s {", set.Name)
		p.line(2, "type %s", strings.Join(types, " . "))
	}
	size, _ := number(set.MaxElem, math.MaxUint32, "maxelem") // CheckSet has read both
	timeout, _ := number(set.Timeout, maxTimeout, "timeout")
	if size != 0 {
		p.line(2, "size %d", size)
	}
	var flags []string
	if intervals(set) {
		flags = append(flags, "interval")
	}
	if timeout != 0 {
		flags = append(flags, "timeout")
	}
	if len(flags) > 0 {
		p.line(2, "flags %s", strings.Join(flags, ","))
	}
	if timeout != 0 {
		p.line(2, "timeout %ds", timeout)
	}
}

func elementText(e *ir.Element) string {
	parts := make([]string, e.Fields())
	for i, part := range e.Parts() {
		switch part.Kind {
		case ir.AddrPart:
			parts[i] = addrRange(part)
		case ir.PortPart:
			n, err := protocolNumber(part.Name)
			if err != nil {
				panic("internal error: " + err.Error()) // it was checked
			}
			parts[i] = protocolText(n) + " . " + span(part.First, part.Last)
		case ir.MarkPart:
			parts[i] = fmt.Sprintf("0x%08x", part.First)
		case ir.MACPart:
			parts[i] = macText(part.Name)
		case ir.IfacePart:
			parts[i] = `"` + part.Name + `"`
		default:
			panic(fmt.Sprintf("internal error: a field of kind %d", part.Kind)) // it was checked
		}
	}
	return strings.Join(parts, " . ")
}

func addrRange(part ir.Part) string {
	switch prefix, ok := part.Prefix(); {
	case !ok:
		return part.Low.String() + "-" + part.High.String()
	case prefix.IsSingleIP():
		return part.Low.String()
	default:
		return prefix.String()
	}
}

// span is a range of numbers, or a number.
func span(low, high int) string {
	if low == high {
		return strconv.Itoa(low)
	}
	return strconv.Itoa(low) + "-" + strconv.Itoa(high)
}
