package observe

import (
	"encoding/binary"
	"net/netip"
)

// Lengths in bytes.
const (
	ipv4Header, ipv6Header, tcpHeader = 20, 40, 20
	etherHeader, vlanTag, pppoeHeader = 14, 4, 8
	cookedHeader, cooked2Header       = 16, 20
)

// Ethernet types (IEEE 802), and protocols of PPP (RFC 2516).
const (
	etherIPv4    = 0x0800
	etherIPv6    = 0x86dd
	etherVLAN    = 0x8100
	etherQinQ    = 0x88a8
	etherOldQinQ = 0x9100
	etherPPPoE   = 0x8864 // a session's data
	pppIPv4      = 0x0021
	pppIPv6      = 0x0057
)

const cookedOutgoing = 4 // PACKET_OUTGOING of linux/if_packet.h

// IP protocols, and IPv6 extension headers whose length is counted in other units than the rest.
const (
	tcp            = 6
	fragment       = 44
	authentication = 51
)

// Flags and options of TCP (RFC 9293, 3.1 and 3.2).
const (
	flagFIN       = 1
	flagSYN       = 2
	flagRST       = 4
	optionEnd     = 0
	optionNothing = 1
	optionMSS     = 2
	lengthMSS     = 4 // bytes
)

// linkTypes are the readers of link layers, by https://www.tcpdump.org/linktypes.html. Each returns the IP packet, or nil
// if there is none or if this machine sent it.
var linkTypes = map[int]func([]byte) []byte{
	0:   loopback,  // NULL: BSD loopback, the family in the byte order of whoever captured
	1:   ethernet,  // ETHERNET
	12:  raw,       // RAW, as OpenBSD and some writers number it
	14:  raw,       // the same
	101: raw,       // RAW
	108: loopback,  // LOOP: OpenBSD loopback
	113: cooked,    // LINUX_SLL
	228: raw,       // IPV4
	229: raw,       // IPV6
	276: cookedTwo, // LINUX_SLL2
}

func raw(data []byte) []byte { return data }

// loopback skips the address family: the packet itself says its version, and systems disagree about IPv6's number.
func loopback(data []byte) []byte { return after(data, 4) }

func ethernet(data []byte) []byte {
	if len(data) < etherHeader {
		return nil
	}
	return payload(binary.BigEndian.Uint16(data[12:]), data[etherHeader:])
}

func cooked(data []byte) []byte {
	if len(data) < cookedHeader || binary.BigEndian.Uint16(data) == cookedOutgoing {
		return nil
	}
	return payload(binary.BigEndian.Uint16(data[14:]), data[cookedHeader:])
}

func cookedTwo(data []byte) []byte {
	if len(data) < cooked2Header || data[10] == cookedOutgoing {
		return nil
	}
	return payload(binary.BigEndian.Uint16(data), data[cooked2Header:])
}

// payload is the IP packet behind an Ethernet type, below VLAN tags (IEEE 802.1Q) and PPPoE.
func payload(kind uint16, data []byte) []byte {
	for {
		switch kind {
		case etherIPv4, etherIPv6:
			return data
		case etherVLAN, etherQinQ, etherOldQinQ:
			if len(data) < vlanTag {
				return nil
			}
			kind, data = binary.BigEndian.Uint16(data[2:]), data[vlanTag:]
		case etherPPPoE:
			if len(data) < pppoeHeader {
				return nil
			}
			if p := binary.BigEndian.Uint16(data[6:]); p != pppIPv4 && p != pppIPv6 {
				return nil
			}
			return data[pppoeHeader:]
		default:
			return nil
		}
	}
}

// after is data without its first n bytes; nil if there are not as many.
func after(data []byte, n int) []byte {
	if len(data) < n {
		return nil
	}
	return data[n:]
}

// parse looks for the offer in an IP packet, which may be captured in part only.
func parse(ip []byte) (Offer, verdict) {
	if len(ip) == 0 {
		return Offer{}, other
	}
	switch ip[0] >> 4 {
	case 4:
		return parseIPv4(ip)
	case 6:
		return parseIPv6(ip)
	}
	return Offer{}, other
}

func parseIPv4(ip []byte) (Offer, verdict) {
	if len(ip) < ipv4Header || ip[9] != tcp || binary.BigEndian.Uint16(ip[6:])&0x1fff != 0 {
		return Offer{}, other // a later fragment has no TCP header
	}
	header, total := int(ip[0]&15)*4, int(binary.BigEndian.Uint16(ip[2:]))
	if header < ipv4Header || total < header {
		return Offer{}, other
	}
	return parseTCP(netip.AddrFrom4([4]byte(ip[12:16])), ip, header, total)
}

func parseIPv6(ip []byte) (Offer, verdict) {
	if len(ip) < ipv6Header {
		return Offer{}, other
	}
	total := ipv6Header + int(binary.BigEndian.Uint16(ip[4:]))
	next, at := ip[6], ipv6Header
	for next != tcp {
		if at+8 > min(len(ip), total) {
			return Offer{}, other
		}
		length := 0
		switch next {
		case 0, 43, 60, 135, 139, 140: // hop-by-hop, routing, destination options, mobility, HIP, shim6: RFC 8200, RFC 6564
			length = (int(ip[at+1]) + 1) * 8
		case fragment:
			if binary.BigEndian.Uint16(ip[at+2:])&^7 != 0 {
				return Offer{}, other
			}
			length = 8
		case authentication: // RFC 4302, 2.2
			length = (int(ip[at+1]) + 2) * 4
		default:
			return Offer{}, other
		}
		next, at = ip[at], at+length
	}
	return parseTCP(netip.AddrFrom16([16]byte(ip[8:24])), ip, at, total)
}

// parseTCP looks at the TCP header that starts at a byte of an IP packet of so many bytes.
func parseTCP(from netip.Addr, ip []byte, at, total int) (Offer, verdict) {
	ip = ip[:min(total, len(ip))] // behind the packet is an Ethernet frame's padding
	if at+14 > len(ip) {
		return Offer{}, other // whether it is a SYN cannot be told
	}
	segment := ip[at:]
	if segment[13]&(flagFIN|flagSYN|flagRST) != flagSYN {
		return Offer{}, other
	}
	end := int(segment[12]>>4) * 4
	if end < tcpHeader {
		return Offer{}, malformed
	}
	mss, v := option(segment[min(tcpHeader, len(segment)):min(end, len(segment))], end > len(segment))
	return Offer{From: from, MSS: mss}, v
}

// option looks for the MSS among TCP options as receivers do: what stands behind a malformed option does not count. cut says
// that the options go on beyond what there is.
func option(list []byte, cut bool) (int, verdict) {
	for len(list) > 0 && list[0] != optionEnd {
		if list[0] == optionNothing {
			list = list[1:]
			continue
		}
		if len(list) < 2 || int(list[1]) > len(list) {
			break
		}
		switch length := int(list[1]); {
		case length < 2:
			return None, offered
		case list[0] == optionMSS && length == lengthMSS:
			return int(binary.BigEndian.Uint16(list[2:])), offered
		default:
			list = list[length:]
		}
	}
	if cut && (len(list) == 0 || list[0] != optionEnd) {
		return None, truncated
	}
	return None, offered
}
