package capture

import (
	"encoding/binary"
	"maps"
	"slices"
)

// Decoder takes captured packets apart down to the IP packet, and counts what it cannot.
type Decoder struct {
	IP    func(data []byte) // is given each IP packet, which may be captured in part only
	Stats Stats
	depth int // layers that this packet had so far

	// What is known of the packet that IP is given.
	Sent      bool  // the machine that captured sent it, or forwarded it
	Time      int64 // nanoseconds since 1970; 0 if the file does not say
	Interface int   // live: the number of the interface
	Whole     int   // live: its length in bytes, before it was cut, with what stands behind it
	Segment   int   // live: it stands for several, of which each has so many bytes of data; 0 if it is itself
}

// deepest is how many layers below IP a packet may have. Real ones have a handful.
const deepest = 16

// linkTypes are the readers of link layers, by https://www.tcpdump.org/linktypes.html.
var linkTypes = map[int]func(*Decoder, []byte){
	0:   (*Decoder).loopback,    // NULL: BSD loopback, the family in the byte order of whoever captured
	1:   (*Decoder).ethernet,    // ETHERNET
	9:   (*Decoder).ppp,         // PPP
	12:  (*Decoder).raw,         // RAW, as OpenBSD and some writers number it
	14:  (*Decoder).raw,         // the same
	50:  (*Decoder).pppSerial,   // PPP_HDLC
	51:  (*Decoder).pppoe,       // PPP_ETHER
	100: (*Decoder).llc,         // ATM_RFC1483
	101: (*Decoder).raw,         // RAW
	104: (*Decoder).pppSerial,   // C_HDLC
	105: (*Decoder).wifi,        // IEEE802_11
	108: (*Decoder).loopback,    // LOOP: OpenBSD loopback
	113: (*Decoder).cooked,      // LINUX_SLL
	127: (*Decoder).radiotap,    // IEEE802_11_RADIOTAP
	204: (*Decoder).pppDirected, // PPP_WITH_DIR
	228: (*Decoder).raw,         // IPV4
	229: (*Decoder).raw,         // IPV6
	239: (*Decoder).nflog,       // NFLOG
	276: (*Decoder).cookedTwo,   // LINUX_SLL2
}

// LinkTypes are the numbers of the link types that are known here.
func LinkTypes() []int { return slices.Sorted(maps.Keys(linkTypes)) }

// Packet looks at a packet of a file.
func (d *Decoder) Packet(p Record) {
	d.begin(p.Sent)
	d.Time = p.Time
	layer := linkTypes[p.Link]
	switch {
	case p.Link == noInterface:
		d.Stats.unknown("an interface that the file does not describe", 0)
	case layer == nil:
		d.Stats.unknown("link type %d", p.Link)
	default:
		layer(d, p.Data)
	}
}

// begin starts a packet.
func (d *Decoder) begin(sent bool) {
	d.Stats.Packets++
	d.Sent, d.depth = sent, 0
}

// has tells whether data has n bytes. If not, the packet was not captured far enough.
func (d *Decoder) has(data []byte, n int) bool {
	if len(data) < n {
		d.Stats.Short++
		return false
	}
	return true
}

// raw is a packet without a link layer.
func (d *Decoder) raw(data []byte) {
	if len(data) > 0 && data[0]>>4 != 4 && data[0]>>4 != 6 {
		d.Stats.unknown("IP version %d", int(data[0]>>4))
		return
	}
	d.IP(data)
}

// loopback skips the address family: the packet itself says its version, and systems disagree about IPv6's number.
func (d *Decoder) loopback(data []byte) {
	if d.has(data, 4) {
		d.raw(data[4:])
	}
}

// Ethernet types (IEEE 802), and numbers that stand in their place.
const (
	etherIPv4      = 0x0800
	etherIPv6      = 0x86dd
	etherVLAN      = 0x8100
	etherQinQ      = 0x88a8
	etherOldQinQ   = 0x9100
	etherOlderQinQ = 0x9200
	etherPPPoE     = 0x8864 // a session's data
	etherMPLS      = 0x8847
	etherMPLSMany  = 0x8848 // multicast, or a label that upstream assigned (RFC 5332)
	etherLLC       = 4      // ETH_P_802_2 of linux/if_ether.h
	etherLongest   = 1500   // up to here the number is a length, and LLC follows
)

// withoutIP are the Ethernet types below which there is never an IP packet: they say something to the neighbour.
var withoutIP = map[uint16]bool{
	0x0001: true,                             // 802.3 without LLC, as of Novell, in Linux's numbers
	0x0806: true,                             // ARP
	0x0842: true,                             // wake on LAN
	0x22ea: true,                             // stream reservation
	0x22f0: true,                             // audio and video transport
	0x22f5: true, 0x88f5: true, 0x88f6: true, // multiple registration
	0x8035: true,               // RARP
	0x80f3: true, 0x809b: true, // AppleTalk
	0x8137: true,                             // IPX
	0x8808: true,                             // pause
	0x8809: true,                             // LACP and other slow protocols
	0x8863: true,                             // PPPoE, discovery
	0x887b: true, 0x88e1: true, 0x8912: true, // power line
	0x888e: true, 0x88c7: true, // 802.1X
	0x8892: true,               // PROFINET
	0x8899: true,               // Realtek's loop detection
	0x88a2: true,               // ATA over Ethernet
	0x88a4: true,               // EtherCAT
	0x88cc: true,               // LLDP
	0x88d9: true,               // LLTD
	0x88f7: true,               // PTP
	0x8902: true,               // connectivity fault management
	0x8906: true, 0x8914: true, // Fibre Channel
	0x890d: true, // fast roaming, TDLS
	0x893a: true, // IEEE 1905
	0x9000: true, // loopback test
}

const etherHeader, vlanTag, pppoeHeader = 14, 4, 6 // bytes

func (d *Decoder) ethernet(data []byte) {
	if !d.has(data, etherHeader) {
		return
	}
	kind := binary.BigEndian.Uint16(data[12:])
	if data = data[etherHeader:]; kind <= etherLongest {
		d.llc(data[:min(int(kind), len(data))])
		return
	}
	d.payload(kind, data)
}

// payload is what stands behind an Ethernet type.
func (d *Decoder) payload(kind uint16, data []byte) {
	if d.depth++; d.depth > deepest {
		d.Stats.unknown("more than %d layers", deepest)
		return
	}
	switch kind {
	case etherIPv4, etherIPv6:
		d.IP(data)
	case etherVLAN, etherQinQ, etherOldQinQ, etherOlderQinQ: // IEEE 802.1Q
		if !d.has(data, vlanTag) {
			return
		}
		if kind = binary.BigEndian.Uint16(data[2:]); kind <= etherLongest {
			kind = etherLLC
		}
		d.payload(kind, data[vlanTag:])
	case etherPPPoE:
		d.pppoe(data)
	case etherMPLS, etherMPLSMany:
		d.mpls(data)
	case etherLLC:
		d.llc(data)
	default:
		if !withoutIP[kind] {
			d.Stats.unknown("Ethernet type 0x%04x", int(kind))
		}
	}
}

// Numbers of IEEE 802.2 and of SNAP (RFC 1042).
const (
	llcHeader, snapHeader = 3, 5 // bytes
	llcUnnumbered         = 3
	sapNull               = 0x00
	sapIP                 = 0x06
	sapSTP                = 0x42
	sapSNAP               = 0xaa
	sapIPX                = 0xe0
	sapNetBIOS            = 0xf0
	sapISO                = 0xfe // IS-IS
	sapGlobal             = 0xff // IPX without LLC
	ouiEthernet           = 0x000000
	ouiBridgeTunnel       = 0x0000f8 // IEEE 802.1H
	ouiCisco              = 0x00000c // CDP, VTP, PVST+
	ouiAppleTalk          = 0x080007
)

// llc is a frame of IEEE 802.2, which has IP itself or by SNAP.
func (d *Decoder) llc(data []byte) {
	if !d.has(data, llcHeader) {
		return
	}
	switch sap, body := data[0], data[llcHeader:]; sap {
	case sapIP:
		d.IP(body)
	case sapSNAP:
		if data[2] == llcUnnumbered && d.has(body, snapHeader) {
			d.snap(body)
		}
	case sapNull, sapSTP, sapIPX, sapNetBIOS, sapISO, sapGlobal:
	default:
		d.Stats.unknown("LLC service 0x%02x", int(sap))
	}
}

func (d *Decoder) snap(data []byte) {
	switch oui := int(data[0])<<16 | int(data[1])<<8 | int(data[2]); oui {
	case ouiEthernet, ouiBridgeTunnel:
		d.payload(binary.BigEndian.Uint16(data[3:]), data[snapHeader:])
	case ouiCisco, ouiAppleTalk:
	default:
		d.Stats.unknown("SNAP organization 0x%06x", oui)
	}
}

// Protocols of PPP (https://www.iana.org/assignments/ppp-numbers), and the bytes that may stand before them (RFC 1662).
const (
	pppIPv4      = 0x0021
	pppVJ        = 0x002d // a compressed TCP header, which a SYN's never is (RFC 1144, 3.2.2)
	pppVJWhole   = 0x002f
	pppIPv6      = 0x0057
	pppMPLS      = 0x0281
	pppMPLSMany  = 0x0283
	pppControl   = 0x4000 // from here up: link and network control
	pppAddress   = 0xff
	pppUnnumber  = 0x03
	ciscoUnicast = 0x0f // Cisco's HDLC: address, control, Ethernet type
	ciscoMany    = 0x8f
)

// ppp is a frame of PPP, with or without address and control, with the protocol in one byte or in two.
func (d *Decoder) ppp(data []byte) {
	if !d.has(data, 2) {
		return
	}
	if data[0] == pppAddress && data[1] == pppUnnumber {
		data = data[2:]
	}
	if !d.has(data, 1) {
		return
	}
	protocol, size := int(data[0]), 1
	if protocol&1 == 0 {
		if !d.has(data, 2) {
			return
		}
		protocol, size = int(binary.BigEndian.Uint16(data)), 2
	}
	switch data = data[size:]; {
	case protocol == pppIPv4, protocol == pppIPv6:
		d.IP(data)
	case protocol == pppMPLS, protocol == pppMPLSMany:
		d.payload(etherMPLS, data)
	case protocol == pppVJ, protocol == pppVJWhole, protocol >= pppControl:
	default:
		d.Stats.unknown("PPP protocol 0x%04x", protocol)
	}
}

// pppSerial is a frame of PPP, or of Cisco's HDLC, from a serial line.
func (d *Decoder) pppSerial(data []byte) {
	if !d.has(data, 4) {
		return
	}
	if data[0] == ciscoUnicast || data[0] == ciscoMany {
		d.payload(binary.BigEndian.Uint16(data[2:]), data[4:])
		return
	}
	d.ppp(data)
}

// pppDirected is a frame of PPP behind a byte that tells the direction: 0 came in.
func (d *Decoder) pppDirected(data []byte) {
	if d.has(data, 1) {
		d.Sent = d.Sent || data[0] != 0
		d.ppp(data[1:])
	}
}

// pppoe is a packet of a PPPoE session (RFC 2516, 4), without its Ethernet header.
func (d *Decoder) pppoe(data []byte) {
	const sessionData = 0 // the code; all others are of the discovery
	if d.has(data, pppoeHeader) && data[1] == sessionData {
		d.ppp(data[pppoeHeader:])
	}
}

// mpls is a stack of labels (RFC 3032), below which is IP, or an Ethernet frame with or without a control word (RFC 4448).
// Nothing says which: the first bytes are guessed from, as routers do.
func (d *Decoder) mpls(data []byte) {
	const label, bottom = 4, 1
	for {
		if !d.has(data, label) {
			return
		}
		last := data[2]&bottom != 0
		if data = data[label:]; last {
			break
		}
	}
	if !d.has(data, 1) {
		return
	}
	const control = 4
	switch version := data[0] >> 4; {
	case version == 4 || version == 6:
		d.IP(data)
	case !d.has(data, control+etherHeader):
	case version == 0 && carriesFrame(data[control:]):
		d.ethernetBelow(data[control:])
	case carriesFrame(data):
		d.ethernetBelow(data)
	default:
		d.Stats.unknown("MPLS without IP", 0)
	}
}

// ethernetBelow is an Ethernet frame below other layers.
func (d *Decoder) ethernetBelow(data []byte) {
	if d.depth++; d.depth > deepest {
		d.Stats.unknown("more than %d layers", deepest)
		return
	}
	d.ethernet(data)
}

// carriesFrame tells whether data, which is as long as an Ethernet header or longer, looks like an Ethernet frame.
func carriesFrame(data []byte) bool {
	switch kind := binary.BigEndian.Uint16(data[12:]); kind {
	case etherIPv4, etherIPv6, etherVLAN, etherQinQ, etherPPPoE, etherMPLS:
		return true
	default:
		return withoutIP[kind] || kind <= etherLongest && kind > 0 && int(kind) <= len(data)-etherHeader
	}
}

// Lengths of the headers of Linux's cooked captures, in bytes, and what they say of a packet that was sent.
const (
	cookedHeader, cooked2Header = 16, 20
	packetOutgoing              = 4 // PACKET_OUTGOING of linux/if_packet.h
)

func (d *Decoder) cooked(data []byte) {
	if d.has(data, cookedHeader) {
		d.Sent = d.Sent || binary.BigEndian.Uint16(data) == packetOutgoing
		d.payload(binary.BigEndian.Uint16(data[14:]), data[cookedHeader:])
	}
}

func (d *Decoder) cookedTwo(data []byte) {
	if d.has(data, cooked2Header) {
		d.Sent = d.Sent || data[10] == packetOutgoing
		d.payload(binary.BigEndian.Uint16(data), data[cooked2Header:])
	}
}

// Numbers of NFLOG (linux/netfilter/nfnetlink_log.h and nfnetlink.h, https://www.tcpdump.org/linktypes/LINKTYPE_NFLOG.html).
const (
	nflogHeader, nflogAttribute = 4, 4 // bytes
	nflogPacket, nflogPayload   = 1, 9
	nflogKind                   = 0x7fff // of an attribute's number, without its flags
	familyIPv4, familyBridge    = 2, 7
	familyIPv6                  = 10
	hookOutput                  = 3 // and postrouting, which is 4
)

// nflog is what a rule with the target NFLOG wrote: attributes, in the byte order of the machine that captured. The first
// attribute's length tells which that is.
func (d *Decoder) nflog(data []byte) {
	if !d.has(data, nflogHeader+nflogAttribute) {
		return
	}
	family, list := data[0], data[nflogHeader:]
	var order binary.ByteOrder = binary.LittleEndian
	if n := order.Uint16(list); n < nflogAttribute || n > 0xff && list[0] == 0 {
		order = binary.BigEndian
	}
	kind := uint16(0)
	for d.has(list, nflogAttribute) {
		length, number := int(order.Uint16(list)), order.Uint16(list[2:])&nflogKind
		if length < nflogAttribute {
			d.Stats.unknown("an NFLOG attribute of %d bytes", length)
			return
		}
		body := list[nflogAttribute:min(length, len(list))]
		switch {
		case number == nflogPacket && len(body) >= 3:
			kind = binary.BigEndian.Uint16(body)
			d.Sent = d.Sent || body[2] >= hookOutput
		case number == nflogPayload:
			d.logged(family, kind, body)
			return
		}
		list = list[min((length+3)&^3, len(list)):]
	}
}

// logged is the content of a packet that NFLOG wrote. kind is its Ethernet type.
func (d *Decoder) logged(family byte, kind uint16, data []byte) {
	switch family {
	case familyIPv4, familyIPv6:
		d.IP(data)
	case familyBridge:
		d.payload(kind, data)
	default:
		d.Stats.unknown("NFLOG family %d", int(family))
	}
}
