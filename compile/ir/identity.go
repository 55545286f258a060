package ir

import (
	"net"
	"strings"
)

// AppendIdentity appends what a rule is in nftables: rules of equal identity are one and the same there, whatever fields of the
// intermediate form they differ in.
func (r *Rule) AppendIdentity(b []byte) []byte {
	for _, m := range r.Matches {
		if m = plainMatch(m); m != nil {
			b = append(appendValue(b, m), ' ')
		}
	}
	b = append(b, "→"...)
	for _, a := range r.Actions {
		b = appendValue(append(b, ' '), plainAction(a))
	}
	return b
}

// plainMatch is a match without what makes no difference in nftables; nil for one that holds for every packet.
func plainMatch(m Match) Match {
	switch m := m.(type) {
	case Iface:
		const longest = 15 // bytes of a name: so many and "+" are one name
		switch prefix, wild := strings.CutSuffix(m.Name, "+"); {
		case wild && prefix == "" && !m.Invert:
			return nil
		case wild && len(prefix) == longest:
			m.Name = prefix
			return m
		}
	case Addr:
		if masked := m.Prefix.Masked(); masked != m.Prefix {
			m.Prefix = masked
			return m
		}
	case AddrList:
		if len(m.Prefixes) == 1 {
			return Addr{Side: Dest, Prefix: m.Prefixes[0].Masked()}
		}
	case EtherAddr:
		if mac, err := net.ParseMAC(m.MAC); err == nil {
			m.MAC = mac.String()
		}
		return m
	case PktType:
		if m.Type == "unicast" {
			return PktType{Type: "host"}
		}
	case Limit:
		if m.Burst == 0 {
			m.Burst = DefaultBurst
			return m
		}
	}
	return m
}

// DefaultBurst is the burst of a limit without one, with both back ends.
const DefaultBurst = 5

// plainAction is an action without what makes no difference in nftables.
func plainAction(a Action) Action {
	switch a := a.(type) {
	case Jump:
		if a.Long != "" {
			a.Long = ""
			return a
		}
	case Reject:
		return Reject{With: a.Word()}
	case Log:
		if a.Level == "warning" {
			a.Level = ""
			return a
		}
	case Audit:
		return Audit{} // it has a level there, and no type
	case SetMark:
		if !a.Masked {
			return SetMark{Value: a.Value}
		}
	case DNAT:
		if !a.Addr.IsValid() {
			a.Family = 0
			return a
		}
	case SetHelper:
		return SetHelper{Object: a.Object}
	}
	return a
}

// shortRejects are the short words of the rich language for answers that have a long one.
var shortRejects = map[string]string{
	"host-prohib": "icmp-host-prohibited", "net-unreach": "icmp-net-unreachable", "host-unreach": "icmp-host-unreachable",
	"proto-unreach": "icmp-proto-unreachable", "net-prohib": "icmp-net-prohibited", "tcp-rst": "tcp-reset", "admin-prohib": "icmp-admin-prohibited",
	"adm-prohibited": "icmp6-adm-prohibited", "no-route": "icmp6-no-route", "addr-unreach": "icmp6-addr-unreachable",
}

// Word is the one word for an answer that has several.
func (r Reject) Word() string {
	if long, ok := shortRejects[r.With]; ok {
		return long
	}
	return r.With
}
