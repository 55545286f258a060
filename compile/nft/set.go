package nft

import (
	"fmt"
	"strconv"
	"strings"

	"richwall/compile/ir"
)

// field is a part of a set's key: its type in nft, and how a packet has it on either side.
type field struct {
	typ    string
	source string
	dest   string
}

// fields are the parts of the types of ipsets. Where a type has two addresses, firewalld compares both with the same one.
func fields(set *ir.Set) []field {
	ip := field{"ipv4_addr", "ip saddr", "ip daddr"}
	if set.Family == ir.V6 {
		ip = field{"ipv6_addr", "ip6 saddr", "ip6 daddr"}
	}
	port := []field{{"inet_proto", "meta l4proto", "meta l4proto"}, {"inet_service", "th sport", "th dport"}}
	var list []field
	for _, part := range strings.Split(strings.TrimPrefix(set.Type, "hash:"), ",") {
		switch part {
		case "ip", "net":
			list = append(list, ip)
		case "port":
			list = append(list, port...)
		case "mark":
			list = append(list, field{"mark", "meta mark", "meta mark"})
		case "iface":
			list = append(list, field{"ifname", "iifname", "oifname"})
		case "mac":
			list = append(list, field{"ether_addr", "ether saddr", "ether daddr"})
		}
	}
	return list
}

func (p *printer) set(set *ir.Set) {
	var types []string
	for _, f := range fields(set) {
		types = append(types, f.typ)
	}
	p.line(1, "set %s {", set.Name)
	p.line(2, "type %s", strings.Join(types, " . "))
	if set.MaxElem != "" {
		p.line(2, "size %s", set.MaxElem)
	}
	var flags []string
	if set.Type != "hash:mac" {
		flags = append(flags, "interval")
	}
	if set.Timeout != "" && set.Timeout != "0" {
		flags = append(flags, "timeout")
	}
	if len(flags) > 0 {
		p.line(2, "flags %s", strings.Join(flags, ","))
	}
	if set.Timeout != "" && set.Timeout != "0" {
		p.line(2, "timeout %ss", set.Timeout)
	}
	for i, e := range set.Elements {
		text := elementText(e)
		switch {
		case len(set.Elements) == 1:
			p.line(2, "elements = { %s }", text)
		case i == 0:
			p.line(2, "elements = { %s,", text)
		case i == len(set.Elements)-1:
			p.line(2, "             %s }", text)
		default:
			p.line(2, "             %s,", text)
		}
	}
	p.line(1, "}")
}

func elementText(e ir.Element) string {
	parts := make([]string, len(e.Parts))
	for i, part := range e.Parts {
		switch part.Kind {
		case ir.AddrPart:
			parts[i] = addrRange(part)
		case ir.PortPart:
			parts[i] = part.Name + " . " + span(part.First, part.Last)
		case ir.MarkPart:
			parts[i] = fmt.Sprintf("0x%08x", part.First)
		case ir.MACPart:
			parts[i] = part.Name
		case ir.IfacePart:
			parts[i] = strconv.Quote(part.Name)
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
