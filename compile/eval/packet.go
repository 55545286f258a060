package eval

import (
	"net/netip"

	"richwall/compile/ir"
)

// Path is the way of a packet through the machine, after the routing decision.
type Path string

// The paths.
const (
	Input   Path = "input"   // to this machine
	Forward Path = "forward" // through it
	Output  Path = "output"  // from it
)

// hooks are what a packet passes on its path.
var hooks = map[Path][]string{
	Input:   {"prerouting", "input"},
	Forward: {"prerouting", "forward", "postrouting"},
	Output:  {"output", "postrouting"},
}

// State is what connection tracking says of a packet.
type State string

// The states.
const (
	StateNew         State = "" // the first packet of a connection, or one of a direction that was never answered
	StateEstablished State = "established"
	StateRelated     State = "related"
	StateInvalid     State = "invalid"
)

// Flags are flags of a TCP segment (RFC 9293, 3.1).
type Flags uint8

// The flags that rules ask for.
const (
	FIN Flags = 1 << iota
	SYN
	RST
	PSH
	ACK
)

// ReversePath is what the routing table says of a packet's source address.
type ReversePath uint8

// Where answers would go.
const (
	SameInterface  ReversePath = iota // back the way the packet came
	OtherInterface                    // out by another interface
	NoRoute                           // nowhere
)

// NoMAC is the MAC address of what came in without an Ethernet header.
const NoMAC = "none"

// Packet is a packet, and what the kernel knows of it. It is what enters the first hook, but for Path, which is as it is once
// its destination has been translated.
type Packet struct {
	Path    Path
	In, Out string      // interfaces; In is empty for Output, Out for Input
	Family  ir.Families // V4 or V6

	Source, Destination    netip.Addr // of Family; invalid means not known
	Protocol               int        // 0 to 255 (IANA, protocol numbers)
	SourcePort, DestPort   int        // of TCP, UDP, UDP-Lite, SCTP and DCCP, 1 to 65535; 0 means not known
	ICMPType, ICMPCode     int        // of ICMP and ICMPv6
	Flags                  Flags      // of TCP
	MSS                    int        // of TCP: the maximum segment size that it announces, in bytes; 0 means none
	Data                   bool       // of TCP: bytes follow the header
	PathMSS                int        // of TCP: the largest segment that its route allows, in bytes; 0 means not known
	State                  State
	Reply                  bool   // it is of its connection's reply direction
	Translated             bool   // the destination of its connection was translated before
	OriginalPort           int    // destination port that its connection was opened to; 0 means that of the packet
	EtherSource, EtherDest string // MAC addresses of the frame it came in, in any case of letters; empty means not known
	Type                   string // how the frame was addressed: broadcast or multicast; empty means unicast
	ReversePath            ReversePath
	Mark                   uint32
	Local                  netip.Addr // of the incoming interface, where a redirect sends it; invalid means that it is Destination
}

// ported are the protocols whose header starts with two ports (RFC 9293, 768, 3828, 9260, 4340).
var ported = map[int]bool{6: true, 17: true, 33: true, 132: true, 136: true}

// HasPorts says whether packets of a protocol, by its number, have ports.
func HasPorts(protocol int) bool { return ported[protocol] }

// protocols are the numbers of those that a rule has ports of.
var protocols = map[string]int{"tcp": 6, "udp": 17, "dccp": 33, "sctp": 132}

// isICMP says whether the packet is ICMP of its own family.
func (p *Packet) isICMP() bool { return p.Protocol == icmpOf[p.Family] }

var icmpOf = map[ir.Families]int{ir.V4: 1, ir.V6: 58}

func (p *Packet) address(s ir.Side) netip.Addr {
	if s == ir.Source {
		return p.Source
	}
	return p.Destination
}

func (p *Packet) port(s ir.Side) int {
	if s == ir.Source {
		return p.SourcePort
	}
	return p.DestPort
}

// openedTo is the destination port of the connection's first packet.
func (p *Packet) openedTo() int {
	switch {
	case p.OriginalPort != 0:
		return p.OriginalPort
	case p.Reply:
		return p.SourcePort
	}
	return p.DestPort
}

// Answer is what a rejected packet is answered with.
type Answer struct {
	Reset      bool // a TCP segment with the RST flag; otherwise ICMP, of the packet's family, with
	Type, Code int  // (RFC 792, RFC 4443)
}

// Types of ICMP that say that a destination cannot be reached (RFC 792, RFC 4443).
var unreachable = map[ir.Families]int{ir.V4: 3, ir.V6: 1}

// codes are those of the answers that rules have a name for.
var codes = map[ir.Families]map[string]int{
	ir.V4: {
		ir.RejectDefault: 3, ir.RejectProhibited: 13, "port-unreach": 3,
		"icmp-net-unreachable": 0, "net-unreach": 0, "icmp-host-unreachable": 1, "host-unreach": 1,
		"icmp-proto-unreachable": 2, "proto-unreach": 2, "icmp-port-unreachable": 3,
		"icmp-net-prohibited": 9, "net-prohib": 9, "icmp-host-prohibited": 10, "host-prohib": 10,
		"icmp-admin-prohibited": 13, "admin-prohib": 13,
	},
	ir.V6: {
		ir.RejectDefault: 4, ir.RejectProhibited: 1, "port-unreach": 4,
		"icmp6-no-route": 0, "no-route": 0, "icmp6-adm-prohibited": 1, "adm-prohibited": 1,
		"icmp6-addr-unreachable": 3, "addr-unreach": 3, "icmp6-port-unreachable": 4,
	},
}

const hostProhibited = 10 // what iptables has for ir.RejectProhibited with IPv4

// answer is what a packet is rejected with; false if it cannot be answered so.
func (p *Packet) answer(with string, backend ir.Backend) (Answer, bool) {
	if with == "tcp-reset" || with == "tcp-rst" {
		return Answer{Reset: true}, p.Protocol == 6
	}
	code, ok := codes[p.Family][with]
	if with == ir.RejectProhibited && backend == ir.IPTables && p.Family == ir.V4 {
		code = hostProhibited
	}
	return Answer{Type: unreachable[p.Family], Code: code}, ok
}
