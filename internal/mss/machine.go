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
	Rules    []RoutingRule // the whole routing policy, in ascending priority for each family; none means that of a machine that was not told otherwise
	Forward4 bool          // it forwards IPv4
	Forward6 bool
	Marks    bool     // packets that it forwards may have marks
	Notes    []string // what could not be read, a sentence each
}

// Link is a network interface.
type Link struct {
	Index    int
	Name     string
	Type     string // as the kernel has it: "", ppp, wireguard, vxlan, gre, sit, vlan, bridge …
	MTU      int    // bytes
	MTU6     int    // bytes, what IPv6 uses (net.ipv6.conf.NAME.mtu); 0 for that of the link
	Up       bool
	Loopback bool
	Parent   int        // index of the link below, or of a veth's other end; 0 if the kernel does not say, or if it is in another namespace
	Master   int        // index of the bridge, VRF or bond that it is a part of; 0 if of none
	Group    int        // ip link set … group
	Table    int        // of a VRF: its routing table
	Local    netip.Addr // a tunnel's own end; not valid if it has none
	Remote   netip.Addr // a tunnel's other end; not valid if it has none or many
	Outside6 bool       // a tunnel that goes over IPv6
	Extra    int        // bytes that options of a tunnel add: keys, checksums, UDP around it, the encapsulation limit
	Port     int        // UDP port that a tunnel sends to; 0 if it has none
	Mark     uint32     // that a tunnel's own packets have
	ID       uint32     // of an xfrm interface: if_id; of a vti: the key that it marks with; 0 if none
}

// Policy is outgoing IPsec for what its selector names.
type Policy struct {
	From, To  netip.Prefix
	Local     netip.Addr // the tunnel's own end; not valid if it is not said
	Remote    netip.Addr // the tunnel's other end; not valid in transport mode, if it is not said
	Transport bool       // transport mode, from end to end
	Protocol  int        // the selector's; 0 for any
	Port      int        // destination port of the selector; 0 for any
	ID        uint32     // if_id: it belongs to the xfrm interface of this ID; 0 if to none
	Mark      uint32     // only packets that have this mark, in the bits of Mask
	Mask      uint32
}

// linkKind is what a link's type means for the MTU.
type linkKind struct {
	words     string
	overhead4 int // bytes, over IPv4; −1 if it is no tunnel
	overhead6 int // the same over IPv6
	inside    carries
	protocol  int // that the tunnel's packets have (IANA); 0 if it is none or depends
}

// linkKinds are the types of links by the names that the kernel has for them. What is not here is taken at its MTU.
var linkKinds = map[string]linkKind{
	"ppp":       {"PPP", -1, -1, both, 0},
	"vlan":      {"VLAN", -1, -1, both, 0},
	"bridge":    {"bridge", -1, -1, both, 0},
	"bond":      {"bond", -1, -1, both, 0},
	"team":      {"bond", -1, -1, both, 0},
	"veth":      {"veth", -1, -1, both, 0},
	"tun":       {"tun/tap, such as OpenVPN", -1, -1, both, 0},
	"macsec":    {"MACsec", -1, -1, both, 0},
	nat46:       {"translation to IPv6, such as MAP-T", 20, 20, only4, 0},
	"ovpn":      {"OpenVPN in the kernel", 52, 72, both, 17}, // IP, UDP, and 24 bytes of AEAD (OpenVPN's data packet format, version 2)
	"wireguard": {"WireGuard", 60, 80, both, 17},             // the kernel does not say what its peers are reached by; see throughTunnel
	"vxlan":     {"VXLAN", 50, 70, both, 17},
	"geneve":    {"Geneve", 50, 70, both, 17},
	"gre":       {"GRE", 24, 44, both, 47},
	"ip6gre":    {"GRE over IPv6", 24, 44, both, 47},
	"gretap":    {"GRE with Ethernet", 38, 58, both, 47},
	"ip6gretap": {"GRE with Ethernet over IPv6", 38, 58, both, 47},
	"sit":       {"6in4", 20, 40, only6, 41},
	"ipip":      {"IPv4 in IPv4", 20, 40, only4, 4},
	"ip6tnl":    {"tunnel over IPv6, such as DS-Lite", 20, 40, both, 0},
	"vti":       {"IPsec", 100, 100, both, 0},
	"vti6":      {"IPsec over IPv6", 100, 100, both, 0},
	"xfrm":      {"IPsec", 100, 100, both, 0},
}

// nat46 is what links of the module nat46 (MAP-T, 464XLAT) are called here. The kernel has no type for them; their MTU gives them away.
const (
	nat46    = "nat46"
	nat46MTU = 16384 // nat46-netdev.c
)

func (l Link) kind() linkKind {
	if k, ok := linkKinds[l.Type]; ok {
		return k
	}
	return linkKind{"Ethernet or the like", -1, -1, both, 0}
}

// overhead is what a tunnel adds to a packet in bytes, −1 for what is no tunnel.
func (l Link) overhead() int {
	k := l.kind()
	n := k.overhead4
	if l.Outside6 {
		n = k.overhead6
	}
	if n < 0 {
		return n
	}
	return n + l.Extra
}

func (m *Machine) link(index int) (Link, bool) {
	i := slices.IndexFunc(m.Links, func(l Link) bool { return l.Index == index })
	if i < 0 {
		return Link{}, false
	}
	return m.Links[i], true
}

// Master is the bridge, VRF or other link that a link is a part of, false if it is of none.
func (m *Machine) Master(l Link) (Link, bool) {
	if l.Master == 0 {
		return Link{}, false
	}
	return m.link(l.Master)
}

// Ports are the links that are a bridge's ports.
func (m *Machine) Ports(bridge Link) []Link {
	var list []Link
	for _, l := range m.Links {
		if l.Master == bridge.Index {
			list = append(list, l)
		}
	}
	return list
}
