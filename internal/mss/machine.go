package mss

import (
	"net/netip"
	"slices"
)

// Machine is what decides which segments a machine's paths carry.
type Machine struct {
	Links    []Link
	Routes   []Route
	Policies []Policy
	Rules    []RoutingRule // of the routing policy, those that choose by more than the destination
	Forward4 bool          // it forwards IPv4
	Forward6 bool
	Notes    []string // what could not be read, a sentence each
}

// Link is a network interface.
type Link struct {
	Index    int
	Name     string
	Type     string // as the kernel has it: "", ppp, wireguard, vxlan, gre, sit, vlan, bridge …
	MTU      int    // bytes
	Up       bool
	Loopback bool
	Parent   int        // index of the link below; 0 if the kernel does not say
	Master   int        // index of the bridge, VRF or bond that it is a part of; 0 if of none
	Remote   netip.Addr // a tunnel's other end; not valid if it has none or many
	Outside6 bool       // a tunnel that goes over IPv6
	Keyed    bool       // GRE with a key
}

// Route is an entry of a routing table.
type Route struct {
	To   netip.Prefix
	Link int // index
	MTU  int // bytes; 0 if the link's counts
}

// Policy is IPsec for what goes to a prefix: a tunnel to Remote.
type Policy struct {
	To     netip.Prefix
	Remote netip.Addr
}

// linkKind is what a link's type means for the MTU.
type linkKind struct {
	words     string
	overhead4 int // bytes, over IPv4; −1 if the link's own MTU already is what fits
	overhead6 int // the same over IPv6
	inside    carries
}

// linkKinds are the types of links by the names that the kernel has for them. What is not here is taken at its MTU.
var linkKinds = map[string]linkKind{
	"ppp":       {"PPP", -1, -1, both},
	"vlan":      {"VLAN", -1, -1, both},
	"bridge":    {"bridge", -1, -1, both},
	"bond":      {"bond", -1, -1, both},
	"veth":      {"veth", -1, -1, both},
	"tun":       {"tun/tap, such as OpenVPN", -1, -1, both},
	"wireguard": {"WireGuard", 60, 80, both}, // the kernel does not say what its peers are reached by; see narrower
	"vxlan":     {"VXLAN", 50, 70, both},
	"geneve":    {"Geneve", 50, 70, both},
	"gre":       {"GRE", 24, 44, both},
	"ip6gre":    {"GRE over IPv6", 24, 44, both},
	"gretap":    {"GRE with Ethernet", 38, 58, both},
	"ip6gretap": {"GRE with Ethernet over IPv6", 38, 58, both},
	"sit":       {"6in4", 20, 40, only6},
	"ipip":      {"IPv4 in IPv4", 20, 40, only4},
	"ip6tnl":    {"tunnel over IPv6, such as DS-Lite", 20, 40, both},
	"vti":       {"IPsec", 100, 100, both},
	"vti6":      {"IPsec over IPv6", 100, 100, both},
	"xfrm":      {"IPsec", 100, 100, both},
}

func (l Link) kind() linkKind {
	if k, ok := linkKinds[l.Type]; ok {
		return k
	}
	return linkKind{"Ethernet or the like", -1, -1, both}
}

// keyLength is the length of a GRE key in bytes (RFC 2890).
const keyLength = 4

// overhead is what a tunnel adds to a packet in bytes, −1 for what is no tunnel.
func (l Link) overhead() int {
	k := l.kind()
	n := k.overhead4
	if l.Outside6 {
		n = k.overhead6
	}
	if n >= 0 && l.Keyed {
		n += keyLength
	}
	return n
}

func (m *Machine) link(index int) (Link, bool) {
	i := slices.IndexFunc(m.Links, func(l Link) bool { return l.Index == index })
	if i < 0 {
		return Link{}, false
	}
	return m.Links[i], true
}

// below is the link that a tunnel's packets leave by: the one on the way to its other end, or the one that it was made on,
// or that of the default route. Links in between that are tunnels themselves count with their own MTU.
func (m *Machine) below(l Link) (Link, bool) {
	if l.Remote.IsValid() && !l.Remote.IsMulticast() && !l.Remote.IsUnspecified() {
		return m.toward(l.Remote, l.Index)
	}
	if l.Parent != 0 {
		return m.link(l.Parent)
	}
	for _, address := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
		if under, ok := m.toward(address, l.Index); ok {
			return under, true
		}
	}
	return Link{}, false
}

// toward is the link that a packet to an address leaves by, other than one: that of the longest prefix.
func (m *Machine) toward(a netip.Addr, not int) (Link, bool) {
	best, index := -1, 0
	for _, r := range m.Routes {
		if r.Link != not && r.To.Contains(a) && r.To.Bits() > best {
			best, index = r.To.Bits(), r.Link
		}
	}
	if best < 0 {
		return Link{}, false
	}
	return m.link(index)
}
