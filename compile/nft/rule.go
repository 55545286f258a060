package nft

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"richwall/compile/ir"
	"richwall/grammar"
)

// rule prints a rule; one that text cannot say becomes a comment and a note.
func (p *printer) rule(c *ir.Chain, r *ir.Rule) {
	err := CheckRule(r)
	if err == nil {
		err = unsayableNames(r)
	}
	if err != nil {
		p.fail(r.Origin, c.Name, err)
		return
	}
	if reason := unsayable(r); reason != "" {
		p.line(2, "# not in this text: %s", reason)
		p.notes = append(p.notes, fmt.Sprintf("%s: %s", r.Origin, reason))
		return
	}
	p.buf = append(p.buf[:0], "\t\t"...)
	known := families{of: ir.Both}
	p.buf = known.beforeAnswer(p.buf, r)
	for _, m := range r.Matches {
		if everything(m) {
			continue
		}
		p.buf = known.before(p.buf, m)
		p.buf = appendMatch(p.buf, m)
		p.buf = append(p.buf, ' ')
	}
	for i, a := range r.Actions {
		if d, ok := a.(ir.Decide); ok {
			p.buf = known.before(p.buf, ir.Lookup{Set: d.Map})
		}
		if i == len(r.Actions)-1 && p.rs.Counters {
			p.buf = append(p.buf, "counter "...)
		}
		p.buf = appendAction(p.buf, a)
		p.buf = append(p.buf, ' ')
	}
	p.buf[len(p.buf)-1] = '\n'
	p.w.Write(p.buf)
}

// families is what IP version a rule has asked for so far, and whether it has asked for a MAC address.
type families struct {
	of    ir.Families
	ether bool
}

// before appends what must be asked before a match of an address that follows one of a MAC address. Without it nft would ask for the
// Ethernet frame's type, put that and the MAC address into one comparison, and move the latter behind what stands between them,
// such as a limit.
func (f *families) before(b []byte, m ir.Match) []byte {
	next := ir.Both
	switch m := m.(type) {
	case ir.NFProto:
		f.of = m.Family
		return b
	case ir.EtherAddr:
		f.ether = true
	case ir.Addr:
		next = familyOf(m.Prefix.Addr())
	case ir.AddrList:
		next = familyOf(m.Prefixes[0].Addr())
	case ir.ICMP:
		next = m.Family
	case ir.ICMPTypes:
		next = m.Family
	case ir.Lookup:
		for _, field := range fields(m.Set) {
			if field.isAddr() {
				next = m.Set.Family
			}
			f.ether = f.ether || field.typ == "ether_addr"
		}
	default:
		return b
	}
	if next == ir.Both || f.of != ir.Both {
		return b
	}
	f.of = next
	if f.ether {
		b = append(appendMatch(b, ir.NFProto{Family: next}), ' ')
	}
	return b
}

// beforeAnswer appends what a rule that asks for a MAC address must ask first if its answer is one IP version's.
func (f *families) beforeAnswer(b []byte, r *ir.Rule) []byte {
	reject, ok := r.Actions[len(r.Actions)-1].(ir.Reject)
	if !ok {
		return b
	}
	answer := rejections[rejects[reject.Word()]]
	if answer.nf == 0 {
		return b
	}
	asked := families{of: ir.Both}
	for _, m := range r.Matches {
		asked.before(nil, m)
	}
	if asked.of != ir.Both || !asked.ether {
		return b
	}
	f.of = familiesOf[answer.nf]
	return append(appendMatch(b, ir.NFProto{Family: f.of}), ' ')
}

// unsayable says why a rule cannot be written as text; empty if it can.
func unsayable(r *ir.Rule) string {
	for _, a := range r.Actions {
		if c, ok := a.(ir.ClampMSS); ok && c.Raise {
			return "raise=yes overwrites bytes of the TCP header and mends its checksum, which only the daemon's netlink messages can say"
		}
	}
	return ""
}

// unsayableNames says which name or log prefix of a rule text cannot have. Names of helper objects stand in quotes there.
func unsayableNames(r *ir.Rule) error {
	for _, m := range r.Matches {
		if l, ok := m.(ir.Lookup); ok {
			if err := unsayableName("set", l.Set.Name); err != nil {
				return err
			}
		}
	}
	for _, a := range r.Actions {
		var err error
		switch a := a.(type) {
		case ir.Jump:
			err = unsayableName("chain", a.Chain)
		case ir.Decide:
			err = unsayableName("set", a.Map.Name)
		case ir.ClampMSS:
			if a.Links != "" {
				err = unsayableName("map", a.Links)
			}
		case ir.Log:
			err = unsayablePrefix(a.Prefix)
		case ir.NFLog:
			err = unsayablePrefix(a.Prefix)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

var familyWords = map[ir.Families]string{ir.V4: "ipv4", ir.V6: "ipv6"}

// not is what stands between a match and its value.
func not(invert bool) string {
	if invert {
		return " != "
	}
	return " "
}

func side(s ir.Side, source, dest string) string {
	if s == ir.Source {
		return source
	}
	return dest
}

// ipWord is the header that an address stands in.
func ipWord(a netip.Addr) string {
	if a.Is4() {
		return "ip"
	}
	return "ip6"
}

func prefixText(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.Masked().String()
}

// everyIface is compared with any interface, and also with none: a rule need not ask.
const everyIface = "+"

// everything says whether a match holds for every packet.
func everything(m ir.Match) bool {
	i, ok := m.(ir.Iface)
	return ok && i.Name == everyIface && !i.Invert
}

func appendMatch(b []byte, m ir.Match) []byte {
	switch m := m.(type) {
	case ir.NFProto:
		return fmt.Appendf(b, "meta nfproto %s", familyWords[m.Family])
	case ir.Iface:
		return fmt.Appendf(b, `%s%s"%s"`, side(m.Side, "iifname", "oifname"), not(m.Invert), wildcard(m.Name))
	case ir.Addr:
		b = append(b, ipWord(m.Prefix.Addr())...)
		b = append(b, side(m.Side, " saddr", " daddr")...)
		b = append(b, not(m.Invert)...)
		return append(b, prefixText(m.Prefix)...)
	case ir.EtherAddr:
		return fmt.Appendf(b, "%s%s%s", side(m.Side, "ether saddr", "ether daddr"), not(m.Invert), macText(m.MAC))
	case ir.Lookup:
		return fmt.Appendf(b, "%s%s@%s", keyText(m.Set, m.Side), not(m.Invert), m.Set.Name)
	case ir.L4Proto:
		return append(append(b, "meta l4proto "...), alternatives(m.Numbers, protocolText)...)
	case ir.Port:
		b = append(b, m.Protocol...)
		b = append(b, side(m.Side, " sport ", " dport ")...)
		return append(b, span(m.Low, m.High)...)
	case ir.ICMP:
		return appendICMP(b, m)
	case ir.ICMPTypes:
		return fmt.Appendf(b, "%s type %s", icmpWord(m.Family), alternatives(m.Types, func(t int) string { return icmpType(m.Family, t) }))
	case ir.SYN:
		return append(b, "tcp flags syn"...)
	case ir.ACK:
		return append(b, "tcp flags ack"...)
	case ir.MSS:
		return fmt.Appendf(b, "tcp option maxseg size %s", span(m.Low, m.High))
	case ir.CTState:
		return fmt.Appendf(b, "ct state %s", braces(m.States))
	case ir.CTDirection:
		return fmt.Appendf(b, "ct direction %s", direction(m))
	case ir.CTStatus:
		return append(b, "ct status dnat"...)
	case ir.CTOrigPort:
		return fmt.Appendf(b, "meta l4proto %s ct original proto-dst %s", m.Protocol, span(m.Low, m.High))
	case ir.Fib:
		if m.Loose {
			return append(b, "fib saddr . mark oif missing"...)
		}
		return append(b, "fib saddr . mark . iif oif missing"...)
	case ir.PktType:
		return fmt.Appendf(b, "meta pkttype %s", strings.Replace(m.Type, "unicast", "host", 1))
	case ir.AddrList:
		var list []string
		for _, prefix := range m.Prefixes {
			list = append(list, prefix.Masked().String())
		}
		return fmt.Appendf(b, "%s daddr %s", ipWord(m.Prefixes[0].Addr()), braces(list))
	case ir.Limit:
		return appendLimit(b, m)
	}
	panic(fmt.Sprintf("internal error: no nft text for match %T", m))
}

func direction(m ir.CTDirection) string {
	if m.Reply {
		return "reply"
	}
	return "original"
}

// macText is a MAC address as nft lists it.
func macText(text string) string {
	mac, err := macAddress(text)
	if err != nil {
		panic("internal error: " + err.Error()) // it was checked
	}
	return mac.String()
}

// beginning takes the beginning of a name from what an interface is compared with: "tun+" is all that begin with "tun". As no name
// is longer than 15 bytes, so many and "+" are one name, for which nft has no wildcard.
func beginning(pattern string) (name string, wild bool) {
	name, wild = strings.CutSuffix(pattern, "+")
	return name, wild && len(name) < maxIface
}

// wildcard is an interface name as nft has it: "tun+" is "tun*".
func wildcard(pattern string) string {
	name, wild := beginning(pattern)
	if wild {
		return name + "*"
	}
	return name
}

func protocolText(n int) string {
	switch name := grammar.ProtocolName(n); {
	case name == "ipv6-icmp":
		return "icmpv6"
	case name != "":
		return name
	}
	return strconv.Itoa(n)
}

// alternatives is one value, or several in braces.
func alternatives(values []int, text func(int) string) string {
	list := make([]string, len(values))
	for i, v := range values {
		list[i] = text(v)
	}
	return braces(list)
}

func braces(list []string) string {
	if len(list) == 1 {
		return list[0]
	}
	return "{ " + strings.Join(list, ", ") + " }"
}

var limitUnits = map[byte]string{'s': "second", 'm': "minute", 'h': "hour", 'd': "day"}

// appendLimit prints a limit. A burst of 5 is nft's own default, which it does not list.
func appendLimit(b []byte, l ir.Limit) []byte {
	b = fmt.Appendf(b, "limit rate %d/%s", l.Rate, limitUnits[l.Unit])
	if l.Burst != 0 && l.Burst != ir.DefaultBurst {
		b = fmt.Appendf(b, " burst %d packets", l.Burst)
	}
	return b
}

func icmpWord(f ir.Families) string {
	if f == ir.V4 {
		return "icmp"
	}
	return "icmpv6"
}

// icmpTypes are nft's names of ICMP types.
var icmpTypes = map[ir.Families]map[int]string{
	ir.V4: {0: "echo-reply", 3: "destination-unreachable", 4: "source-quench", 5: "redirect", 8: "echo-request",
		9: "router-advertisement", 10: "router-solicitation", 11: "time-exceeded", 12: "parameter-problem",
		13: "timestamp-request", 14: "timestamp-reply", 15: "info-request", 16: "info-reply",
		17: "address-mask-request", 18: "address-mask-reply"},
	ir.V6: {1: "destination-unreachable", 2: "packet-too-big", 3: "time-exceeded", 4: "parameter-problem",
		128: "echo-request", 129: "echo-reply", 130: "mld-listener-query", 131: "mld-listener-report",
		132: "mld-listener-done", 133: "nd-router-solicit", 134: "nd-router-advert", 135: "nd-neighbor-solicit",
		136: "nd-neighbor-advert", 137: "nd-redirect", 138: "router-renumbering", 143: "mld2-listener-report"},
}

func icmpType(f ir.Families, typ int) string {
	if name, ok := icmpTypes[f][typ]; ok {
		return name
	}
	return strconv.Itoa(typ)
}

func appendICMP(b []byte, m ir.ICMP) []byte {
	word := icmpWord(m.Family)
	b = fmt.Appendf(b, "%s type %s", word, icmpType(m.Family, m.Type))
	if m.Code != ir.AnyCode {
		b = fmt.Appendf(b, " %s code %d", word, m.Code)
	}
	return b
}

func appendAction(b []byte, a ir.Action) []byte {
	switch a := a.(type) {
	case ir.Verdict:
		return append(b, a...)
	case ir.Jump:
		word := "jump "
		if a.Goto {
			word = "goto "
		}
		return append(append(b, word...), a.Chain...)
	case ir.Decide:
		return fmt.Appendf(b, "%s vmap @%s", keyText(a.Map, ir.Source), a.Map.Name)
	case ir.Reject:
		return append(append(b, "reject"...), rejects[a.Word()]...)
	case ir.Log:
		b = append(b, "log"...)
		if a.Prefix != "" {
			b = append(append(append(b, ` prefix "`...), a.Prefix...), '"')
		}
		if level := logLevel(a.Level); level != "" {
			b = append(append(b, " level "...), level...)
		}
		return b
	case ir.NFLog:
		b = append(b, "log"...)
		if a.Prefix != "" {
			b = append(append(append(b, ` prefix "`...), a.Prefix...), '"')
		}
		b = fmt.Appendf(b, " group %d", a.Group)
		if a.QueueSize != 0 {
			b = fmt.Appendf(b, " queue-threshold %d", a.QueueSize)
		}
		return b
	case ir.Audit:
		return append(b, "log level audit"...)
	case ir.SetMark:
		if a.Masked {
			return fmt.Appendf(b, "meta mark set meta mark & 0x%08x ^ 0x%08x", ^a.Mask, a.Value)
		}
		return fmt.Appendf(b, "meta mark set 0x%08x", a.Value)
	case ir.ClampMSS:
		switch {
		case a.Links != "":
			return fmt.Appendf(b, "tcp option maxseg size set %s map @%s", side(a.Side, "iifname", "oifname"), a.Links)
		case a.Size == 0:
			return append(b, "tcp option maxseg size set rt mtu"...)
		}
		return fmt.Appendf(b, "tcp option maxseg size set %d", a.Size)
	case ir.Masquerade:
		return append(b, "masquerade"...)
	case ir.DNAT:
		return appendDNAT(b, a)
	case ir.SetHelper:
		return fmt.Appendf(b, `ct helper set "%s"`, a.Object)
	case ir.Offload:
		return append(b, "flow add @"+flowtable...)
	}
	panic(fmt.Sprintf("internal error: no nft text for action %T", a))
}

// rejects are nft's words for the answers, by ir.Reject.Word.
var rejects = map[string]string{
	ir.RejectDefault:         "",
	ir.RejectProhibited:      " with icmpx admin-prohibited",
	"port-unreach":           " with icmpx port-unreachable",
	"icmp-host-prohibited":   " with icmp host-prohibited",
	"icmp-net-unreachable":   " with icmp net-unreachable",
	"icmp-host-unreachable":  " with icmp host-unreachable",
	"icmp-port-unreachable":  " with icmp port-unreachable",
	"icmp-proto-unreachable": " with icmp prot-unreachable",
	"icmp-net-prohibited":    " with icmp net-prohibited",
	"icmp-admin-prohibited":  " with icmp admin-prohibited",
	"tcp-reset":              " with tcp reset",
	"icmp6-adm-prohibited":   " with icmpv6 admin-prohibited",
	"icmp6-no-route":         " with icmpv6 no-route",
	"icmp6-addr-unreachable": " with icmpv6 addr-unreachable",
	"icmp6-port-unreachable": " with icmpv6 port-unreachable",
}

// logLevel is nft's word for a level; empty for the default.
func logLevel(level string) string {
	switch level {
	case "", "warning":
		return ""
	case "error":
		return "err"
	}
	return level
}

func appendDNAT(b []byte, a ir.DNAT) []byte {
	switch {
	case !a.Addr.IsValid() && a.High == 0:
		return append(b, "redirect"...)
	case !a.Addr.IsValid():
		return fmt.Appendf(b, "redirect to :%s", span(a.Low, a.High))
	}
	addr := a.Addr.String()
	if a.High == 0 {
		return fmt.Appendf(b, "dnat %s to %s", ipWord(a.Addr), addr)
	}
	if a.Addr.Is6() {
		addr = "[" + addr + "]"
	}
	return fmt.Appendf(b, "dnat %s to %s:%s", ipWord(a.Addr), addr, span(a.Low, a.High))
}
