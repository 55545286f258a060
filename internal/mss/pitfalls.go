package mss

import (
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// RoutingRule is an entry of the routing policy (ip rule) that chooses a table by more than the destination. The kernel looks
// the way back of a packet up by the destination alone, and so passes such a rule by, or takes one that is for others.
type RoutingRule struct {
	Six      bool // IPv6
	Priority int
	Table    int
}

// readRoutingRules are the rules that choose by more than the destination; none of the three that every machine has does.
func readRoutingRules() ([]RoutingRule, error) {
	var list []RoutingRule
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		rules, err := netlink.RuleList(family)
		if err != nil {
			return nil, err
		}
		for _, r := range rules {
			if choosy(r) {
				list = append(list, RoutingRule{Six: family == netlink.FAMILY_V6, Priority: r.Priority, Table: r.Table})
			}
		}
	}
	return list, nil
}

// choosy says whether a rule asks more of a TCP segment than its destination.
func choosy(r netlink.Rule) bool {
	if r.IPProto > 0 && r.IPProto != unix.IPPROTO_TCP {
		return false
	}
	return r.Src != nil || r.IifName != "" || r.OifName != "" || r.Mark != 0 || r.Mask != nil || r.Tos != 0 || r.TunID != 0 ||
		r.Dport != nil || r.Sport != nil || r.IPProto > 0 || r.UIDRange != nil
}

// Master is the bridge, VRF or other link that a link is a part of, false if it is of none.
func (m *Machine) Master(l Link) (Link, bool) {
	if l.Master == 0 {
		return Link{}, false
	}
	return m.link(l.Master)
}

// Ports are the names of the links that are a bridge's ports.
func (m *Machine) Ports(bridge Link) []string {
	var names []string
	for _, l := range m.Links {
		if l.Master == bridge.Index {
			names = append(names, l.Name)
		}
	}
	return names
}

// Outside is the link by which an IPsec tunnel leaves.
func (m *Machine) Outside(p Policy) (Link, bool) { return m.toward(p.Remote, 0) }

// OneMTU says whether all routes have the same MTU, so that whichever is found is right.
func (m *Machine) OneMTU() bool {
	var found []int
	for _, r := range m.Routes {
		l, ok := m.link(r.Link)
		if !ok || l.Loopback || !l.Up {
			continue
		}
		mtu := l.MTU
		if r.MTU != 0 {
			mtu = min(mtu, r.MTU)
		}
		if !slices.Contains(found, mtu) {
			found = append(found, mtu)
		}
	}
	return len(found) <= 1
}

// MSS is the most that a segment over a link can carry, in bytes; 0 if the link carries none of the IP version.
func (l Link) MSS(six bool) int {
	f := l.kind().inside.fit(l.MTU)
	if six {
		return f.IPv6
	}
	return f.IPv4
}
