package observe

import (
	"encoding/binary"
	"net/netip"
)

// Lengths in bytes.
const ipv4Header, ipv6Header, tcpHeader = 20, 40, 20

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
	flagACK       = 16
	optionEnd     = 0
	optionNothing = 1
	optionMSS     = 2
	lengthMSS     = 4 // bytes
)

// parse looks for the offer in an IP packet, which may be captured in part only.
func parse(ip []byte) (Offer, verdict) {
	if len(ip) == 0 {
		return Offer{}, short
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
	if len(ip) < ipv4Header {
		return Offer{}, short
	}
	if ip[9] != tcp || binary.BigEndian.Uint16(ip[6:])&0x1fff != 0 {
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
		return Offer{}, short
	}
	total := ipv6Header + int(binary.BigEndian.Uint16(ip[4:]))
	next, at := ip[6], ipv6Header
	for next != tcp {
		length := 0
		if !extends(next) || at+8 > total {
			return Offer{}, other
		}
		if at+8 > len(ip) {
			return Offer{}, short
		}
		switch next {
		case fragment:
			if binary.BigEndian.Uint16(ip[at+2:])&^7 != 0 {
				return Offer{}, other
			}
			length = 8
		case authentication: // RFC 4302, 2.2
			length = (int(ip[at+1]) + 2) * 4
		default:
			length = (int(ip[at+1]) + 1) * 8
		}
		next, at = ip[at], at+length
	}
	return parseTCP(netip.AddrFrom16([16]byte(ip[8:24])), ip, at, total)
}

// extends tells whether an IPv6 header is an extension behind which TCP may stand: hop-by-hop options, routing, fragment,
// authentication, destination options, mobility, HIP, shim6 (RFC 8200, RFC 6564).
func extends(header byte) bool {
	switch header {
	case 0, 43, fragment, authentication, 60, 135, 139, 140:
		return true
	}
	return false
}

// parseTCP looks at the TCP header that starts at a byte of an IP packet of so many bytes.
func parseTCP(from netip.Addr, ip []byte, at, total int) (Offer, verdict) {
	ip = ip[:min(total, len(ip))] // behind the packet is an Ethernet frame's padding
	if at+14 > total {
		return Offer{}, other // there are no flags, in this fragment or at all
	}
	if at+14 > len(ip) {
		return Offer{}, short
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
	return Offer{From: from, MSS: mss, ACK: segment[13]&flagACK != 0}, v
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
