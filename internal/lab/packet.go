package lab

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Flags are flags of a TCP segment (RFC 9293, 3.1).
type Flags uint8

// The flags.
const (
	FIN Flags = 1 << iota
	SYN
	RST
	PSH
	ACK
)

// ICMP types (RFC 792, RFC 4443).
const (
	echoReply4, echoRequest4 = 0, 8
	echoReply6, echoRequest6 = 129, 128
)

// Lengths in bytes.
const (
	ipv4Header, ipv6Header, tcpHeader, udpHeader, icmpHeader = 20, 40, 20, 8, 8
)

const optionMSS = 2 // the TCP option's kind (RFC 9293, 3.2)

// packet is an IP packet, as far as probes need it.
type packet struct {
	src, dst     netip.Addr // dst may be invalid when it was read from a socket that does not tell
	protocol     int        // unix.IPPROTO_TCP, _UDP, _ICMP or _ICMPV6
	sport, dport uint16     // TCP, UDP
	flags        Flags      // TCP
	seq, ack     uint32     // TCP
	mss          int        // TCP: 0 means no such option
	kind, code   uint8      // ICMP
	echo         uint16     // ICMP echo: its identifier, by which connections are tracked
	payload      []byte     // TCP, UDP, ICMP echo
	quote        *packet    // ICMP error: the packet that it is about
}

// firstID is the number of the first probe. Numbers are far from those that kernels or zero values have, and four apart:
// a TCP acknowledgement, one above the sequence number, names the same probe.
const (
	firstID = 0x72570000
	stepID  = 4
	idRange = 1 << 24
)

// id returns the number that a probe's packet, an answer to it or an error about it carries, rounded down to a multiple
// of stepID; only one in the range sent is a probe's. Addresses and ports do not tell, since rules may rewrite them.
func (p *packet) id() uint32 {
	var id uint32
	switch {
	case p.quote != nil:
		return p.quote.id()
	case p.protocol == unix.IPPROTO_TCP && p.flags&ACK != 0 && p.ack >= firstID && p.ack-firstID < idRange:
		id = p.ack
	case p.protocol == unix.IPPROTO_TCP:
		id = p.seq
	case len(p.payload) >= 4:
		id = binary.BigEndian.Uint32(p.payload)
	}
	return id &^ (stepID - 1)
}

// answer is what a host sends back to a packet, false for nothing. mss is the one it offers, 0 for none.
func (p *packet) answer(mss int) (*packet, bool) {
	a := &packet{src: p.dst, dst: p.src, protocol: p.protocol, sport: p.dport, dport: p.sport, echo: p.echo, payload: p.payload}
	switch {
	case p.protocol == unix.IPPROTO_TCP:
		a.payload = nil
		a.flags, a.seq, a.ack, a.mss = SYN|ACK, 1, p.seq+1, mss
		return a, p.flags&(SYN|ACK|RST|FIN) == SYN
	case p.protocol == unix.IPPROTO_UDP:
		return a, true
	case p.protocol == unix.IPPROTO_ICMP:
		a.kind = echoReply4
		return a, p.quote == nil && p.kind == echoRequest4
	default:
		a.kind = echoReply6
		return a, p.quote == nil && p.kind == echoRequest6
	}
}

// bytes is the packet on the wire, with Don't Fragment set.
func (p *packet) bytes() []byte {
	seg, sum := p.segment()
	if sum >= 0 {
		start := uint32(0)
		if p.protocol != unix.IPPROTO_ICMP {
			start = pseudoHeader(p, len(seg))
		}
		binary.BigEndian.PutUint16(seg[sum:], checksum(start, seg))
	}
	if p.src.Is6() {
		h := make([]byte, ipv6Header, ipv6Header+len(seg))
		h[0], h[6], h[7] = 6<<4, byte(p.protocol), 64
		binary.BigEndian.PutUint16(h[4:], uint16(len(seg)))
		copy(h[8:], p.src.AsSlice())
		copy(h[24:], p.dst.AsSlice())
		return append(h, seg...)
	}
	h := make([]byte, ipv4Header, ipv4Header+len(seg))
	h[0], h[6], h[8], h[9] = 4<<4|ipv4Header/4, 0x40, 64, byte(p.protocol)
	binary.BigEndian.PutUint16(h[2:], uint16(ipv4Header+len(seg)))
	copy(h[12:], p.src.AsSlice())
	copy(h[16:], p.dst.AsSlice())
	binary.BigEndian.PutUint16(h[10:], checksum(0, h))
	return append(h, seg...)
}

// segment is what the IP header is followed by, and where its checksum goes.
func (p *packet) segment() (seg []byte, sum int) {
	put := binary.BigEndian
	switch p.protocol {
	case unix.IPPROTO_TCP:
		seg = make([]byte, tcpHeader)
		put.PutUint16(seg, p.sport)
		put.PutUint16(seg[2:], p.dport)
		put.PutUint32(seg[4:], p.seq)
		put.PutUint32(seg[8:], p.ack)
		put.PutUint16(seg[14:], 65535) // window
		if p.mss != 0 {
			seg = put.AppendUint16(append(seg, optionMSS, 4), uint16(p.mss))
		}
		seg[12], seg[13] = byte(len(seg)/4)<<4, byte(p.flags)
		return append(seg, p.payload...), 16
	case unix.IPPROTO_UDP:
		seg = make([]byte, udpHeader)
		put.PutUint16(seg, p.sport)
		put.PutUint16(seg[2:], p.dport)
		put.PutUint16(seg[4:], uint16(udpHeader+len(p.payload)))
		return append(seg, p.payload...), 6
	default:
		seg = make([]byte, icmpHeader)
		seg[0], seg[1] = p.kind, p.code
		put.PutUint16(seg[4:], p.echo)
		return append(seg, p.payload...), 2
	}
}

// checksum is the Internet checksum (RFC 1071) of data, going on from the sum so far.
func checksum(sum uint32, data []byte) uint16 {
	for i, b := range data {
		if i%2 == 0 {
			sum += uint32(b) << 8
		} else {
			sum += uint32(b)
		}
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}

// pseudoHeader is the sum of what a checksum covers of the IP header (RFC 9293, 3.1; RFC 8200, 8.1).
func pseudoHeader(p *packet, length int) uint32 {
	addrs := append(p.src.AsSlice(), p.dst.AsSlice()...)
	return uint32(^checksum(uint32(length)+uint32(p.protocol), addrs))
}

// parseIP reads an IP packet, possibly cut short; nil for one that is none, or of a protocol that no probe has.
func parseIP(b []byte) *packet {
	switch {
	case len(b) >= ipv4Header && b[0]>>4 == 4:
		header := int(b[0]&15) * 4
		if len(b) < header {
			return nil
		}
		return parseSegment(int(b[9]), netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20])), b[header:])
	case len(b) >= ipv6Header && b[0]>>4 == 6:
		return parseSegment(int(b[6]), netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40])), b[ipv6Header:])
	}
	return nil
}

// parseSegment reads what follows an IP header.
func parseSegment(protocol int, src, dst netip.Addr, b []byte) *packet {
	p := &packet{src: src, dst: dst, protocol: protocol}
	if len(b) < 8 { // the least that an ICMP error quotes (RFC 792)
		return nil
	}
	get := binary.BigEndian
	switch protocol {
	case unix.IPPROTO_TCP:
		p.sport, p.dport, p.seq = get.Uint16(b), get.Uint16(b[2:]), get.Uint32(b[4:])
		if len(b) >= tcpHeader {
			p.ack, p.flags = get.Uint32(b[8:]), Flags(b[13])
			header := min(len(b), max(tcpHeader, int(b[12]>>4)*4))
			p.mss = findMSS(b[tcpHeader:header])
			if len(b) > header {
				p.payload = b[header:]
			}
		}
	case unix.IPPROTO_UDP:
		p.sport, p.dport, p.payload = get.Uint16(b), get.Uint16(b[2:]), b[udpHeader:]
	case unix.IPPROTO_ICMP, unix.IPPROTO_ICMPV6:
		p.kind, p.code, p.echo, p.payload = b[0], b[1], get.Uint16(b[4:]), b[icmpHeader:]
		if isError(protocol, p.kind) {
			if p.quote = parseIP(p.payload); p.quote == nil {
				return nil
			}
		}
	default:
		return nil
	}
	return p
}

// findMSS is the MSS among a segment's options, 0 when there is none.
func findMSS(options []byte) int {
	for len(options) > 0 {
		switch options[0] {
		case 0: // the end
			return 0
		case 1: // padding
			options = options[1:]
			continue
		}
		if len(options) < 2 || options[1] < 2 || int(options[1]) > len(options) {
			return 0
		}
		if options[0] == optionMSS && options[1] == 4 {
			return int(binary.BigEndian.Uint16(options[2:]))
		}
		options = options[options[1]:]
	}
	return 0
}

// isError tells the ICMP types that quote a packet.
func isError(protocol int, kind uint8) bool {
	if protocol == unix.IPPROTO_ICMPV6 {
		return kind < 128 // RFC 4443, 2.1
	}
	return kind == 3 || kind == 5 || kind == 11 || kind == 12 // RFC 792
}
