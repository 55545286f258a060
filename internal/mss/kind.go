// Package mss finds out which maximum segment sizes (MSS) fit the paths of a machine. In come its links, routes, IPsec
// policies (Read) and rules (ReadRules, FromIR), out goes a Report (Advise): for each path the MSS that fits, whether
// something clamps TCP connections to it, and the rich rule to add.

// The commands import it; it imports grammar and the intermediate form. Its folder observe counts what other machines
// offer, watch follows connections, and capture fetches the packets for both.
package mss

// Headers in front of a segment's data, in bytes: MSS = MTU − header (RFC 9293, 3.7.1; RFC 8200, 8.3).
const (
	header4 = 20 + 20
	header6 = 40 + 20
)

// MTUs in bytes.
const (
	Ethernet = 1500
	minimum6 = 1280 // RFC 8200, 5: a link with less carries no IPv6
)

// carries is the IP versions that go through a tunnel.
type carries uint8

const (
	both carries = iota
	only4
	only6
)

// Kind is a kind of path, with what it takes away from the MTU of the links that it goes over.
type Kind struct {
	Name     string // as --for has it
	Words    string
	Overhead int // bytes; not used if Fixed is given
	Fixed    int // the MTU in bytes, whatever lies below; 0 if that counts
	inside   carries
}

// Kinds are the kinds of paths. Overheads are lengths of headers, the outer IP header included.
var Kinds = []Kind{
	{Name: "ethernet", Words: "Ethernet"},
	{Name: "pppoe", Words: "PPPoE", Overhead: 8},                            // RFC 2516, 7
	{Name: "wireguard", Words: "WireGuard, default", Overhead: 40 + 8 + 32}, // IPv6, UDP, WireGuard
	{Name: "wireguard4", Words: "WireGuard, IPv4 outside only", Overhead: 20 + 8 + 32},
	{Name: "ipsec", Words: "IPsec ESP tunnel, customary", Overhead: 100},      // 52 to 100, by cipher and NAT
	{Name: "openvpn", Words: "OpenVPN over UDP, AEAD", Overhead: 40 + 8 + 24}, // IPv6, UDP, opcode and peer, packet ID, tag
	{Name: "openvpn4", Words: "OpenVPN over UDP, AEAD, IPv4 outside only", Overhead: 20 + 8 + 24},
	{Name: "l2tp", Words: "L2TP over IPsec, customary", Overhead: 100},
	{Name: "gre", Words: "GRE over IPv4", Overhead: 20 + 4}, // RFC 2784
	{Name: "gre6", Words: "GRE over IPv6", Overhead: 40 + 4},
	{Name: "6in4", Words: "6in4", Overhead: 20, inside: only6},                                           // RFC 4213
	{Name: "ipip", Words: "IPv4 in IPv4", Overhead: 20, inside: only4},                                   // RFC 2003
	{Name: "dslite", Words: "DS-Lite (IPv4 in IPv6)", Overhead: 40, inside: only4},                       // RFC 6333
	{Name: "map-e", Words: "MAP-E (IPv4 in IPv6)", Overhead: 40, inside: only4},                          // RFC 7597
	{Name: "map-t", Words: "MAP-T, 464XLAT (IPv4 translated to IPv6)", Overhead: 40 - 20, inside: only4}, // RFC 7599, RFC 7915
	{Name: "vxlan", Words: "VXLAN over IPv4", Overhead: 20 + 8 + 8 + 14},                                 // RFC 7348: IP, UDP, VXLAN, Ethernet
	{Name: "vxlan6", Words: "VXLAN over IPv6", Overhead: 40 + 8 + 8 + 14},
	{Name: "geneve", Words: "Geneve over IPv4, no options", Overhead: 20 + 8 + 8 + 14}, // RFC 8926
	{Name: "tailscale", Words: "Tailscale", Fixed: 1280},
	{Name: "ipv6-minimum", Words: "IPv6's minimum", Fixed: minimum6},
}

// KindNamed is the kind of a name, false if there is none.
func KindNamed(name string) (Kind, bool) {
	for _, k := range Kinds {
		if k.Name == name {
			return k, true
		}
	}
	return Kind{}, false
}

// Fit is what fits a path, in bytes.
type Fit struct {
	MTU  int `json:"mtu"`
	IPv4 int `json:"ipv4,omitempty"` // MSS; 0 if the path carries no IPv4
	IPv6 int `json:"ipv6,omitempty"` // MSS; 0 if the path carries no IPv6
}

// Over is what fits a path of this kind over links of an MTU in bytes.
func (k Kind) Over(mtu int) Fit {
	if k.Fixed != 0 {
		mtu = min(mtu, k.Fixed)
	} else {
		mtu -= k.Overhead
	}
	return k.inside.fit(mtu)
}

// fit is what fits an MTU.
func (c carries) fit(mtu int) Fit {
	f := Fit{MTU: mtu}
	if c != only6 {
		f.IPv4 = max(mtu-header4, 0)
	}
	if c != only4 && mtu >= minimum6 {
		f.IPv6 = mtu - header6
	}
	return f
}
