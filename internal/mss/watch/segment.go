package watch

import "encoding/binary"

// Lengths in bytes.
const ipv4Header, ipv6Header, tcpHeader, icmpHeader = 20, 40, 20, 8

// Protocols (IANA), and flags and options of TCP (RFC 9293, RFC 7323, RFC 2018).
const (
	protoICMP     = 1
	protoTCP      = 6
	protoFragment = 44
	protoAH       = 51
	protoICMPv6   = 58

	flagFIN = 1
	flagSYN = 2
	flagRST = 4
	flagACK = 16

	optionEnd, optionNothing       = 0, 1
	optionMSS, lengthMSS           = 2, 4
	optionSACK, lengthBlock        = 5, 8
	optionTimestamp, lengthOfStamp = 8, 10
)

// noMSS stands for a segment without the option, and unseen for one that was not seen.
const noMSS, unseen = -1, -2

// end is one end of a connection.
type end struct {
	address [16]byte // IPv4 as IPv6 maps it
	port    uint16
}

// segment is what a packet says: a TCP segment, or one that an ICMP message is about.
type segment struct {
	src, dst end
	six      bool
	df       bool // Don't Fragment; always so over IPv6
	fragment bool // the first of several fragments: how large the whole is, it does not say
	flags    byte
	seq, ack uint32
	window   uint16
	size     int // bytes of the IP packet; of the largest of those that it stands for
	data     int // bytes behind the TCP header, of all that it stands for
	each     int // bytes of data in each of them
	options  int // bytes of TCP options
	mss      int // noMSS if there is none
	stamp    uint32
	sacks    [4][2]uint32
	sacked   int

	hops   uint8
	sender end // of an ICMP message
	mtu    int // bytes, that it tells; 0 if it does not
}

// kind is what a packet is.
type kind uint8

const (
	isOther   kind = iota
	isBroken       // it contradicts itself, or was not captured far enough
	isSegment      // of TCP
	isTooBig       // Fragmentation Needed (RFC 792, RFC 1191) or Packet Too Big (RFC 4443), about a TCP segment
)

// read takes an IP packet apart. whole is its length where it does not say it itself, and each the bytes of data in each of
// those that it stands for; 0 for none.
func read(ip []byte, whole, each int) (segment, kind) {
	var s segment
	protocol, at, total, what := s.header(ip, whole)
	if what != isSegment {
		return s, what
	}
	body := ip[min(at, len(ip)):min(total, len(ip))]
	switch {
	case protocol == protoTCP:
		return s, s.tcp(body, at, total, each)
	case protocol == protoICMP && !s.six, protocol == protoICMPv6 && s.six:
		return s, s.icmp(body)
	}
	return s, isOther
}

// header reads the IP header, and says what follows, where, and how long all is.
func (s *segment) header(ip []byte, whole int) (protocol byte, at, total int, what kind) {
	if len(ip) == 0 {
		return 0, 0, 0, isBroken
	}
	switch ip[0] >> 4 {
	case 4:
		return s.header4(ip, whole)
	case 6:
		return s.header6(ip, whole)
	}
	return 0, 0, 0, isOther
}

func (s *segment) header4(ip []byte, whole int) (protocol byte, at, total int, what kind) {
	if len(ip) < ipv4Header {
		return 0, 0, 0, isBroken
	}
	fragment := binary.BigEndian.Uint16(ip[6:])
	at, total = int(ip[0]&15)*4, int(binary.BigEndian.Uint16(ip[2:]))
	if total == 0 {
		total = whole // merged, and longer than the field has room for
	}
	if at < ipv4Header || total < at {
		return 0, 0, 0, isBroken
	}
	if fragment&0x1fff != 0 {
		return 0, 0, 0, isOther
	}
	s.src.address, s.dst.address = mapped(ip[12:16]), mapped(ip[16:20])
	s.df, s.fragment, s.hops = fragment&0x4000 != 0, fragment&0x2000 != 0, ip[8]
	return ip[9], at, total, isSegment
}

// mapped is an IPv4 address as IPv6 has it (RFC 4291, 2.5.5.2).
func mapped(a []byte) (m [16]byte) {
	m[10], m[11] = 0xff, 0xff
	copy(m[12:], a)
	return m
}

func (s *segment) header6(ip []byte, whole int) (protocol byte, at, total int, what kind) {
	if len(ip) < ipv6Header {
		return 0, 0, 0, isBroken
	}
	at, total = ipv6Header, ipv6Header+int(binary.BigEndian.Uint16(ip[4:]))
	if total == ipv6Header {
		total = whole
	}
	s.six, s.df, s.hops = true, true, ip[7]
	s.src.address, s.dst.address = [16]byte(ip[8:24]), [16]byte(ip[24:40])
	for protocol = ip[6]; protocol != protoTCP && protocol != protoICMPv6; {
		if !extends(protocol) {
			return 0, 0, 0, isOther
		}
		if at+8 > len(ip) || at+8 > total {
			return 0, 0, 0, isBroken
		}
		length := (int(ip[at+1]) + 1) * 8
		switch protocol {
		case protoFragment:
			field := binary.BigEndian.Uint16(ip[at+2:])
			if field&^7 != 0 {
				return 0, 0, 0, isOther
			}
			s.fragment, length = field&1 != 0, 8
		case protoAH:
			length = (int(ip[at+1]) + 2) * 4
		}
		protocol, at = ip[at], at+length
	}
	return protocol, at, total, isSegment
}

// extends tells whether an IPv6 header is an extension behind which TCP may stand (RFC 8200, RFC 6564).
func extends(header byte) bool {
	switch header {
	case 0, 43, protoFragment, protoAH, 60, 135, 139, 140:
		return true
	}
	return false
}

// tcp reads a TCP header that starts at a byte of an IP packet of so many bytes.
func (s *segment) tcp(header []byte, at, total, each int) kind {
	if len(header) < tcpHeader {
		return isBroken
	}
	length := int(header[12]>>4) * 4
	if length < tcpHeader || at+length > total {
		return isBroken
	}
	s.ports(header)
	s.ack, s.flags, s.window = binary.BigEndian.Uint32(header[8:]), header[13], binary.BigEndian.Uint16(header[14:])
	s.options, s.data = length-tcpHeader, total-at-length
	s.each = s.data
	if each > 0 {
		s.each = min(each, s.data)
	}
	s.size = min(at+length+s.each, 0xffff)
	s.mss = noMSS
	s.list(header[tcpHeader:min(length, len(header))])
	return isSegment
}

// ports reads what the first eight bytes of a TCP header say.
func (s *segment) ports(header []byte) {
	s.src.port, s.dst.port = binary.BigEndian.Uint16(header), binary.BigEndian.Uint16(header[2:])
	s.seq = binary.BigEndian.Uint32(header[4:])
}

// list reads the options of TCP. What stands behind a malformed one does not count.
func (s *segment) list(list []byte) {
	for len(list) > 0 && list[0] != optionEnd {
		if list[0] == optionNothing {
			list = list[1:]
			continue
		}
		if len(list) < 2 || list[1] < 2 || int(list[1]) > len(list) {
			return
		}
		s.option(list[0], list[2:list[1]])
		list = list[list[1]:]
	}
}

func (s *segment) option(number byte, value []byte) {
	switch {
	case number == optionMSS && len(value) == lengthMSS-2 && s.mss == noMSS:
		s.mss = int(binary.BigEndian.Uint16(value))
	case number == optionTimestamp && len(value) == lengthOfStamp-2:
		s.stamp = binary.BigEndian.Uint32(value)
	case number == optionSACK:
		for ; len(value) >= lengthBlock && s.sacked < len(s.sacks); value = value[lengthBlock:] {
			s.sacks[s.sacked] = [2]uint32{binary.BigEndian.Uint32(value), binary.BigEndian.Uint32(value[4:])}
			s.sacked++
		}
	}
}

// Types of ICMP messages, and a code (RFC 792, RFC 4443).
const unreachable, needsFragments, tooBig6 = 3, 4, 2

// icmp reads a message about a packet that was too large, and the start of that.
func (s *segment) icmp(message []byte) kind {
	if len(message) < icmpHeader {
		return isBroken
	}
	outer := *s
	switch {
	case s.six && message[0] == tooBig6:
		s.mtu = int(min(binary.BigEndian.Uint32(message[4:]), 1<<16))
	case !s.six && message[0] == unreachable && message[1] == needsFragments:
		s.mtu = int(binary.BigEndian.Uint16(message[6:])) // RFC 1191, 4
	default:
		return isOther
	}
	inside := message[icmpHeader:]
	if len(inside) == 0 || (inside[0]>>4 == 6) != s.six {
		return isBroken
	}
	protocol, at, _, what := s.header(inside, 1<<16)
	if what != isSegment || protocol != protoTCP {
		return isOther
	}
	if at+8 > len(inside) {
		return isBroken
	}
	s.ports(inside[at:])
	s.sender, s.hops = outer.src, outer.hops
	return isTooBig
}
