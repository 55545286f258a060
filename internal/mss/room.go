package mss

import (
	"fmt"
	"net/netip"
)

// room is what a packet over a link may be long, in bytes: less than the link's MTU where a part of what it goes over carries less. The kernel
// drops what is larger without a word there: no route has such an MTU.
type room struct {
	mtu  int
	why  string // a sentence, "" where it is the link's own MTU
	note string // a sentence about what it depends on, "" for none
}

// less is the smaller of a room and another one.
func (r room) less(mtu int, why string, args ...any) room {
	if mtu >= r.mtu {
		return r
	}
	return room{mtu: mtu, why: fmt.Sprintf(why, args...)}
}

// Room is what fits a link, in bytes, and why, if it is less than the link's MTU.
func (m *Machine) Room(l Link) (mtu int, why string) {
	r := m.room(l, map[int]bool{})
	return r.mtu, r.why
}

// MSS is the most that a segment over a link can carry, in bytes; 0 if the link carries none of the IP version.
func (m *Machine) MSS(l Link, six bool) int {
	mtu, _ := m.Room(l)
	f := l.kind().inside.fit(mtu)
	if six {
		return f.IPv6
	}
	return f.IPv4
}

// room looks at a link and at all that it goes over. seen are the links that are being looked at.
func (m *Machine) room(l Link, seen map[int]bool) room {
	r := room{mtu: l.MTU}
	if seen[l.Index] {
		return r
	}
	seen[l.Index] = true
	defer delete(seen, l.Index)
	switch l.Type {
	case "bridge", "bond", "team":
		return m.throughPorts(l, r, seen)
	case "veth":
		return m.throughVeth(l, r, seen)
	case "vlan", "macvlan", "macvtap", "ipvlan", "ipvtap", "macsec":
		if under, ok := m.link(l.Parent); ok {
			fits := m.room(under, seen).mtu - besides[l.Type]
			return r.less(fits, "It goes over %s, which carries %d.", under.Name, fits)
		}
		return r
	}
	if l.overhead() >= 0 {
		return m.throughTunnel(l, r, seen)
	}
	return r
}

// besides is what links that are no tunnels add to a packet that the MTU of the link below counts, in bytes.
var besides = map[string]int{"macsec": 32} // macsec.c: header with SCI, and ICV

// throughPorts is the room of the smallest port that is up: a packet leaves a bridge by any.
func (m *Machine) throughPorts(l Link, r room, seen map[int]bool) room {
	for _, port := range m.Ports(l) {
		if port.Up && !seen[port.Index] {
			fits := m.room(port, seen).mtu
			r = r.less(fits, "Its port %s carries %d bytes, and what is larger vanishes there.", port.Name, fits)
		}
	}
	return r
}

// throughVeth is the room of a pair of interfaces of which both ends are here, and of the bridge that the other end is a port of.
func (m *Machine) throughVeth(l Link, r room, seen map[int]bool) room {
	peer, ok := m.link(l.Parent)
	if !ok || peer.Type != "veth" || seen[peer.Index] {
		return r
	}
	r = r.less(peer.MTU, "Its other end, %s, takes %d bytes, and what is larger vanishes there.", peer.Name, peer.MTU)
	if bridge, ok := m.Master(peer); ok && bridge.Type == "bridge" {
		seen[peer.Index] = true
		defer delete(seen, peer.Index)
		fits := m.room(bridge, seen).mtu
		r = r.less(fits, "Its other end, %s, is a port of %s, which carries %d bytes.", peer.Name, bridge.Name, fits)
	}
	return r
}

// throughTunnel is the room of a tunnel over the links that its packets may leave by, the smallest of them.
func (m *Machine) throughTunnel(l Link, r room, seen map[int]bool) room {
	k, overhead := l.kind(), l.overhead()
	for _, h := range m.below(l) {
		under, ok := m.link(h.link)
		if !ok || seen[under.Index] {
			continue
		}
		outer := m.room(under, seen).mtu
		if h.mtu != 0 {
			outer = min(outer, h.mtu)
		}
		by := under.Name
		if p, ok := m.encrypts(l); ok {
			outer, by = p.inside(outer, l.Outside6), by+" with IPsec"
		}
		fits := outer - overhead
		r = r.less(fits, "Its MTU is too large for %s, which it goes over (%d − %d): ip link set dev %s mtu %d", by, outer, overhead, l.Name, fits)
		if (l.Type == "wireguard" || l.Type == "ovpn") && r.why == "" && r.mtu > outer-k.overhead6 {
			r.note = fmt.Sprintf("Its MTU fits only while all peers are reached by IPv4; by IPv6 it is %d.", outer-k.overhead6)
		}
	}
	return r
}

// anyMark says whether a tunnel's own packets may have marks that the link does not say: those of peers, or of what they carry (vxlan_get_route,
// geneve_get_v4_rt, ip6_tnl_xmit).
func (m *Machine) anyMark(l Link) bool {
	switch l.Type {
	case "wireguard", "ovpn":
		return true
	case "vxlan", "geneve", "ip6tnl", "ip6gre", "ip6gretap":
		return m.Marks && l.Mark == 0
	}
	return false
}

// below are the ways that a tunnel's packets may take: those of the link that it is bound to, else those to its other end, else the default
// routes. A tunnel whose peers and marks the kernel does not say may take any.
func (m *Machine) below(l Link) []hop {
	f := flow{src: l.Local, mark: l.Mark, anyMark: m.anyMark(l), own: true, not: l.Index}
	to := l.Remote
	if l.Type == "xfrm" {
		for _, p := range m.Policies {
			if p.ID == l.ID && p.ID != 0 && p.Remote.IsValid() {
				to = p.Remote
			}
		}
	}
	known := to.IsValid() && !to.IsMulticast() && !to.IsUnspecified()
	if parent, ok := m.link(l.Parent); ok {
		if known {
			f.oif, f.bound = parent.Name, parent.Index
			if list := m.lookup(to, f); len(list) > 0 {
				return list
			}
		}
		return []hop{{link: parent.Index}}
	}
	if known {
		return m.lookup(to, f)
	}
	families := []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}
	if l.Outside6 || l.Type == nat46 {
		families = families[1:]
	}
	for _, a := range families {
		if list := m.lookup(a, f); len(list) > 0 {
			return list
		}
	}
	return nil
}
