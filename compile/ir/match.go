package ir

import "net/netip"

// Match is a condition on a packet. Its members are NFProto, Iface, Addr, EtherAddr, Lookup, L4Proto, Port, ICMP, ICMPTypes, SYN, ACK, MSS,
// CTState, CTDirection, CTStatus, CTOrigPort, Fib, PktType, AddrList and Limit.
type Match interface{ match() }

// Side says which end of a packet a match looks at.
type Side uint8

// The ends of a packet. For interfaces, Source is where it came in and Dest where it goes out.
const (
	Source Side = iota
	Dest
)

// NFProto matches the IP version. Only nftables needs to be told; iptables has a tool for each.
type NFProto struct{ Family Families }

// Iface matches the incoming (Source) or outgoing (Dest) interface by name; a name that ends in "+" is a prefix.
type Iface struct {
	Side   Side
	Name   string
	Invert bool
}

// Addr matches an address.
type Addr struct {
	Side   Side
	Prefix netip.Prefix
	Invert bool
}

// EtherAddr matches a MAC address.
type EtherAddr struct {
	Side   Side
	MAC    string
	Invert bool
}

// Lookup matches membership in a set; the fields are those of the set's type, all taken from Side, or each as the Sides of a
// folded set say.
type Lookup struct {
	Side   Side
	Set    *Set
	Invert bool
}

// L4Proto matches the transport protocol by number; ICMP of both families are two numbers.
type L4Proto struct{ Numbers []int }

// Port matches a port range, inclusive, of a transport protocol.
type Port struct {
	Side      Side
	Protocol  string // tcp, udp, sctp or dccp
	Low, High int
}

// AnyCode is the code of an ICMP match that takes all codes.
const AnyCode = -1

// ICMP matches an ICMP message by type and code.
type ICMP struct {
	Family     Families // V4 or V6
	Type, Code int      // Code may be AnyCode
}

// ICMPTypes matches ICMP messages of any of the types.
type ICMPTypes struct {
	Family Families // V4 or V6
	Types  []int
}

// SYN matches TCP segments with the SYN flag set; iptables also wants RST clear.
type SYN struct{}

// ACK matches TCP segments with the ACK flag set.
type ACK struct{}

// MSS matches a TCP SYN's maximum segment size option, bytes, inclusive.
type MSS struct{ Low, High int }

// CTState matches connection tracking states: established, related, invalid; on iptables also dnat.
type CTState struct{ States []string }

// CTDirection matches packets of a connection's original direction, or of its reply direction.
type CTDirection struct{ Reply bool }

// CTStatus matches connections whose destination was translated.
type CTStatus struct{}

// CTOrigPort matches translated connections by the destination port they were opened to, in the original direction. Only
// nftables matches the protocol as well, as nft knows what a port is by it.
type CTOrigPort struct {
	Protocol  string // tcp, udp, sctp or dccp
	Low, High int
}

// Fib matches packets from addresses that the routing table would not send back the way they came.
type Fib struct {
	Loose bool // any interface will do
}

// PktType matches how a frame was addressed: host, broadcast or multicast.
type PktType struct{ Type string }

// AddrList matches a destination within any of the prefixes.
type AddrList struct{ Prefixes []netip.Prefix }

// Limit holds back packets beyond a rate.
type Limit struct {
	Rate  int
	Unit  byte // 's', 'm', 'h' or 'd'
	Burst int  // packets; 0 means the kernel's default, 5
}

func (NFProto) match()     {}
func (Iface) match()       {}
func (Addr) match()        {}
func (EtherAddr) match()   {}
func (Lookup) match()      {}
func (L4Proto) match()     {}
func (Port) match()        {}
func (ICMP) match()        {}
func (ICMPTypes) match()   {}
func (SYN) match()         {}
func (ACK) match()         {}
func (MSS) match()         {}
func (CTState) match()     {}
func (CTDirection) match() {}
func (CTStatus) match()    {}
func (CTOrigPort) match()  {}
func (Fib) match()         {}
func (PktType) match()     {}
func (AddrList) match()    {}
func (Limit) match()       {}
