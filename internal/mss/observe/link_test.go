package observe

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	"golang.org/x/net/bpf"

	"richwall/internal/mss/capture"
)

// captureOf is a pcap file of packets of one link type, as tcpdump writes it on a machine of a byte order.
func captureOf(order binary.AppendByteOrder, link int, packets ...[]byte) []byte {
	file := order.AppendUint32(nil, 0xa1b2c3d4)
	file = order.AppendUint16(file, 2)
	file = order.AppendUint16(file, 4)
	file = append(file, make([]byte, 8)...)
	file = order.AppendUint32(file, 65535)
	file = order.AppendUint32(file, uint32(link))
	for _, p := range packets {
		file = append(file, make([]byte, 8)...)
		file = order.AppendUint32(file, uint32(len(p)))
		file = order.AppendUint32(file, uint32(len(p)))
		file = append(file, p...)
	}
	return file
}

// join is layers one behind the other.
func join(parts ...[]byte) []byte { return slices.Concat(parts...) }

var (
	v4 = syn(four, mssOption(1460))
	v6 = syn(six, mssOption(1440))

	macs = make([]byte, 12)               // destination and source
	snap = []byte{0xaa, 0xaa, 3, 0, 0, 0} // LLC and SNAP before an Ethernet type
	ip4  = []byte{8, 0}
	ip6  = []byte{0x86, 0xdd}
)

// radiotapHeader is what a receiver says: the time, and flags.
func radiotapHeader(flags byte) []byte {
	return join([]byte{0, 0, 17, 0, 3, 0, 0, 0}, make([]byte, 8), []byte{flags})
}

// dot11 is an 802.11 data frame's header, its first two bytes given, with what the type needs behind the usual 24 bytes.
func dot11(first, second byte, more ...byte) []byte {
	return join([]byte{first, second}, make([]byte, 22), more)
}

// nflogAttributeOf is an attribute of NFLOG, filled up to four bytes.
func nflogAttributeOf(order binary.AppendByteOrder, number uint16, body []byte) []byte {
	a := order.AppendUint16(nil, uint16(4+len(body)))
	a = join(order.AppendUint16(a, number), body)
	return join(a, make([]byte, -len(a)&3))
}

// subframe is a packet in an 802.11 frame of several.
func subframe(body []byte) []byte {
	s := join(macs, binary.BigEndian.AppendUint16(nil, uint16(len(body))), body)
	return join(s, make([]byte, -len(s)&3))
}

// linkCase is a packet of a link type, and what is to be seen in it.
type linkCase struct {
	link    int
	data    []byte
	four    bool   // the offer of 1460 over IPv4
	six     bool   // the offer of 1440 over IPv6
	sent    bool   // by the machine that captured
	unknown string // what is not understood
}

// linkCases are packets as each kind of link carries them.
func linkCases() map[string]linkCase {
	vlan, qinq, older := []byte{0x81, 0, 0, 5}, []byte{0x88, 0xa8, 0, 7}, []byte{0x91, 0, 0, 7}
	pppoe := func(ppp ...byte) []byte { return join(macs, []byte{0x88, 0x64, 0x11, 0, 0, 1, 0, 46}, ppp) }
	mpls := func(below ...[]byte) []byte {
		return join(macs, []byte{0x88, 0x47, 0, 1, 0x10, 64, 0, 2, 0x11, 64}, join(below...))
	}
	length := func(p []byte) []byte { return binary.BigEndian.AppendUint16(nil, uint16(len(p))) }
	byLLC := func(p []byte) []byte { return join(macs, length(p), p, []byte("padding")) }
	cooked := func(direction byte, kind ...byte) []byte {
		return join([]byte{0, direction}, make([]byte, 12), kind)
	}
	cooked2 := func(direction byte, kind ...byte) []byte {
		return join(kind, make([]byte, 8), []byte{direction}, make([]byte, 9))
	}
	nflog := func(order binary.AppendByteOrder, family, hook byte, kind []byte, ip []byte) []byte {
		return join([]byte{family, 0, 0, 5}, nflogAttributeOf(order, 1, join(kind, []byte{hook, 0})),
			nflogAttributeOf(order, 10, []byte("prefix\x00")), nflogAttributeOf(order, 9, ip))
	}
	little, big := binary.LittleEndian, binary.BigEndian
	return map[string]linkCase{
		"Ethernet":                        {link: 1, data: etherFrame(v4), four: true},
		"Ethernet, IPv6":                  {link: 1, data: etherFrame(v6), six: true},
		"Ethernet, a VLAN":                {link: 1, data: etherFrame(v4, vlan), four: true},
		"Ethernet, QinQ":                  {link: 1, data: etherFrame(v6, qinq, vlan), six: true},
		"Ethernet, older QinQ":            {link: 1, data: etherFrame(v6, older, vlan), six: true},
		"Ethernet, ARP":                   {link: 1, data: join(macs, []byte{8, 6}, make([]byte, 28))},
		"Ethernet, MACsec":                {link: 1, data: join(macs, []byte{0x88, 0xe5}, v4), unknown: "Ethernet type 0x88e5"},
		"Ethernet, 20 VLANs":              {link: 1, data: etherFrame(v4, slices.Repeat([][]byte{vlan}, 20)...), unknown: "more than 16 layers"},
		"Ethernet, LLC and SNAP":          {link: 1, data: byLLC(join(snap, ip4, v4)), four: true},
		"Ethernet, LLC alone":             {link: 1, data: byLLC(join([]byte{6, 6, 3}, v4)), four: true},
		"Ethernet, SNAP in a VLAN":        {link: 1, data: join(macs, vlan, length(join(snap, ip6, v6)), snap, ip6, v6), six: true},
		"Ethernet, spanning tree":         {link: 1, data: byLLC([]byte{0x42, 0x42, 3, 0, 0})},
		"Ethernet, CDP":                   {link: 1, data: byLLC([]byte{0xaa, 0xaa, 3, 0, 0, 0xc, 0x20, 0})},
		"Ethernet, an unknown LLC":        {link: 1, data: byLLC([]byte{0x18, 0x18, 3}), unknown: "LLC service 0x18"},
		"Ethernet, an unknown SNAP":       {link: 1, data: byLLC([]byte{0xaa, 0xaa, 3, 1, 2, 3, 0, 0}), unknown: "SNAP organization 0x010203"},
		"PPPoE":                           {link: 1, data: join(pppoe(0, 0x21), v4), four: true},
		"PPPoE, IPv6":                     {link: 1, data: join(pppoe(0, 0x57), v6), six: true},
		"PPPoE in a VLAN":                 {link: 1, data: join(macs, vlan, pppoe(0, 0x21)[12:], v4), four: true},
		"PPPoE, link control":             {link: 1, data: pppoe(0xc0, 0x21, 9, 1, 0, 4)},
		"MPLS":                            {link: 1, data: mpls(v4), four: true},
		"MPLS, IPv6":                      {link: 1, data: mpls(v6), six: true},
		"MPLS, a pseudowire":              {link: 1, data: mpls([]byte{0, 0, 0, 9}, etherFrame(v4)), four: true},
		"MPLS, one without control word":  {link: 1, data: mpls(etherFrame(v6, vlan)), six: true},
		"MPLS, something else":            {link: 1, data: mpls(bytes.Repeat([]byte{0x1f}, 40)), unknown: "MPLS without IP"},
		"PPP":                             {link: 9, data: join([]byte{0xff, 3, 0, 0x21}, v4), four: true},
		"PPP without address and control": {link: 9, data: join([]byte{0, 0x57}, v6), six: true},
		"PPP, a short protocol":           {link: 9, data: join([]byte{0x21}, v4), four: true},
		"PPP, MPLS":                       {link: 9, data: join([]byte{2, 0x81, 0, 1, 0x11, 64}, v4), four: true},
		"PPP, compressed":                 {link: 9, data: []byte{0, 0xfd, 1, 2}, unknown: "PPP protocol 0x00fd"},
		"PPP, echo":                       {link: 9, data: []byte{0xff, 3, 0xc0, 0x21, 9, 1, 0, 4}},
		"PPP on a serial line":            {link: 50, data: join([]byte{0xff, 3, 0, 0x21}, v4), four: true},
		"Cisco HDLC on a serial line":     {link: 50, data: join([]byte{0x0f, 0}, ip6, v6), six: true},
		"Cisco HDLC":                      {link: 104, data: join([]byte{0x8f, 0}, ip4, v4), four: true},
		"PPP with a direction, received":  {link: 204, data: join([]byte{0, 0xff, 3, 0, 0x21}, v4), four: true},
		"PPP with a direction, sent":      {link: 204, data: join([]byte{1, 0xff, 3, 0, 0x57}, v6), six: true, sent: true},
		"LLC alone, as over ATM":          {link: 100, data: join(snap, ip4, v4), four: true},
		"PPPoE without Ethernet":          {link: 51, data: join([]byte{0x11, 0, 0, 1, 0, 46, 0, 0x21}, v4), four: true},
		"PPPoE, discovery":                {link: 51, data: []byte{0x11, 9, 0, 0, 0, 0}},
		"802.11":                          {link: 105, data: join(dot11(0x08, 1), snap, ip4, v4), four: true},
		"802.11, quality of service":      {link: 105, data: join(dot11(0x88, 2, 0, 0), snap, ip6, v6), six: true},
		"802.11, four addresses":          {link: 105, data: join(dot11(0x88, 0x83, make([]byte, 6+2+4)...), snap, ip4, v4), four: true},
		"802.11, several in one":          {link: 105, data: join(dot11(0x88, 1, 0x80, 0), subframe(join(snap, ip4, v4)), subframe(join(snap, ip6, v6))), four: true, six: true},
		"802.11, a beacon":                {link: 105, data: dot11(0x80, 0)},
		"802.11, an acknowledgement":      {link: 105, data: []byte{0xd4, 0, 0, 0, 1, 2, 3, 4, 5, 6}},
		"802.11, no data":                 {link: 105, data: dot11(0x48, 1)},
		"802.11, encrypted":               {link: 105, data: join(dot11(0x08, 0x41), make([]byte, 60)), unknown: "an 802.11 frame that is encrypted"},
		"802.11 with radiotap":            {link: 127, data: join(radiotapHeader(0), dot11(0x08, 1), snap, ip4, v4, []byte("FCS!")), four: true},
		"802.11 with radiotap and pads":   {link: 127, data: join(radiotapHeader(0x20), dot11(0x88, 1, 0, 0), []byte{0, 0}, snap, ip6, v6), six: true},
		"802.11 below broken radiotap":    {link: 127, data: []byte{0, 0, 3, 0, 0, 0, 0, 0}, unknown: "a radiotap header of 3 bytes"},
		"raw":                             {link: 101, data: v4, four: true},
		"raw, IPv6":                       {link: 101, data: v6, six: true},
		"raw, something else":             {link: 101, data: []byte{0x50, 0}, unknown: "IP version 5"},
		"raw of OpenBSD":                  {link: 12, data: v4, four: true},
		"raw of others":                   {link: 14, data: v4, four: true},
		"IPv4":                            {link: 228, data: v4, four: true},
		"IPv6":                            {link: 229, data: v6, six: true},
		"loopback":                        {link: 0, data: join([]byte{2, 0, 0, 0}, v4), four: true},
		"loopback of macOS":               {link: 0, data: join([]byte{30, 0, 0, 0}, v6), six: true},
		"loopback of OpenBSD":             {link: 108, data: join([]byte{0, 0, 0, 24}, v6), six: true},
		"Linux cooked":                    {link: 113, data: join(cooked(0, ip4...), v4), four: true},
		"Linux cooked, a VLAN":            {link: 113, data: join(cooked(0, 0x81, 0), []byte{0, 5}, ip4, v4), four: true},
		"Linux cooked, SNAP":              {link: 113, data: join(cooked(0, 0, 4), snap, ip4, v4), four: true},
		"Linux cooked, sent":              {link: 113, data: join(cooked(4, ip4...), v4), four: true, sent: true},
		"Linux cooked 2":                  {link: 276, data: join(cooked2(0, ip6...), v6), six: true},
		"Linux cooked 2, sent":            {link: 276, data: join(cooked2(4, ip6...), v6), six: true, sent: true},
		"NFLOG":                           {link: 239, data: nflog(little, 2, 2, ip4, v4), four: true},
		"NFLOG, IPv6, on a big machine":   {link: 239, data: nflog(big, 10, 0, ip6, v6), six: true},
		"NFLOG, sent":                     {link: 239, data: nflog(little, 2, 3, ip4, v4), four: true, sent: true},
		"NFLOG of a bridge":               {link: 239, data: nflog(little, 7, 2, ip6, v6), six: true},
		"NFLOG of another family":         {link: 239, data: nflog(little, 3, 0, []byte{8, 6}, make([]byte, 28)), unknown: "NFLOG family 3"},
		"NFLOG, a broken attribute":       {link: 239, data: []byte{2, 0, 0, 5, 8, 0, 1, 0, 8, 0, 2, 0, 2, 0, 9, 0}, unknown: "an NFLOG attribute of 2 bytes"},
		"a link type that is not known":   {link: 147, data: v4, unknown: "link type 147"},
	}
}

// Each kind of link is read from a file of its own: the offers in it are seen, and what is not understood is named.
func TestLinkTypes(t *testing.T) {
	tested := map[int]bool{}
	for name, want := range linkCases() {
		tested[want.link] = true
		for _, order := range []binary.AppendByteOrder{binary.LittleEndian, binary.BigEndian} {
			c, s, err := read(captureOf(order, want.link, want.data))
			if err != nil || s.Packets != 1 {
				t.Errorf("%s: %+v, %v", name, s, err)
			}
			r := c.Report("", s)
			got := linkCase{link: want.link, data: want.data, sent: s.Sent > 0}
			got.four = len(r.IPv4.Values) == 1 && r.IPv4.Values[0].MSS == 1460
			got.six = len(r.IPv6.Values) == 1 && r.IPv6.Values[0].MSS == 1440
			for _, u := range s.Unread.List() {
				got.unknown += u.What
			}
			if got.four != want.four || got.six != want.six || got.sent != want.sent || got.unknown != want.unknown {
				t.Errorf("%s: IPv4 %v, IPv6 %v, sent %v, not understood: %q", name, got.four, got.six, got.sent, got.unknown)
			}
		}
	}
	for _, link := range capture.LinkTypes() {
		if !tested[link] {
			t.Errorf("no case has link type %d", link)
		}
	}
}

// A packet that is cut short anywhere is no panic, and before its TCP flags it is said to be too short, never to be
// something else.
func TestPacketsCutShort(t *testing.T) {
	for name, c := range linkCases() {
		for n := range c.data {
			d := newDecoder(NewCounter(10))
			d.Packet(capture.Record{Link: c.link, Data: c.data[:n]})
			seen := d.result().Short + d.result().Truncated + d.result().SYNs
			if (c.four || c.six) && !(c.four && c.six) && c.unknown == "" && seen != 1 {
				t.Errorf("%s, %d of %d bytes: %+v", name, n, len(c.data), d.result())
			}
		}
	}
}

// The kernel's filter lets through what the decoder counts, on whatever link, and little else.
func TestFilter(t *testing.T) {
	withOptions := packet(four, tcp, append(make([]byte, 4), segment(2, mssOption(1460))...))
	withOptions[0] = 0x46
	later := syn(four, mssOption(1460))
	later[7] = 1
	acked4, acked6 := packet(four, tcp, segment(0x10, nil)), packet(six, tcp, segment(0x10, nil))
	shim, inner := []byte{0, 1, 0x10, 64}, []byte{0, 1, 0x11, 64}
	session := func(protocol byte) []byte { return []byte{0x11, 0, 0, 1, 0, 46, 0, protocol} }
	for name, c := range map[string]struct {
		kind uint16
		data []byte
		want int
	}{
		"IPv4":                    {0x0800, syn(four, mssOption(1460)), capture.Captured},
		"IPv4 with options":       {0x0800, withOptions, capture.Captured},
		"IPv4, SYN/ACK":           {0x0800, packet(four, tcp, segment(0x12, nil)), capture.Captured},
		"IPv4, ACK":               {0x0800, acked4, 0},
		"IPv4, RST":               {0x0800, packet(four, tcp, segment(6, nil)), 0},
		"IPv4, a late fragment":   {0x0800, later, 0},
		"IPv4, UDP":               {0x0800, packet(four, 17, segment(2, nil)), 0},
		"IPv6":                    {0x86dd, syn(six, mssOption(1460)), capture.Captured},
		"IPv6, ACK":               {0x86dd, acked6, 0},
		"IPv6 with an extension":  {0x86dd, packet(six, 60, append([]byte{tcp, 0, 0, 0, 0, 0, 0, 0}, segment(2, nil)...)), capture.Captured},
		"IPv6, UDP":               {0x86dd, packet(six, 17, segment(2, nil)), 0},
		"IPv6, ICMP":              {0x86dd, packet(six, 58, segment(2, nil)), 0},
		"ARP":                     {0x0806, make([]byte, 28), 0},
		"cut short":               {0x0800, []byte{0x45}, 0},
		"a VLAN":                  {0x8100, join([]byte{0, 5}, ip4, v4), capture.Captured},
		"a VLAN, ACK":             {0x8100, join([]byte{0, 5}, ip4, acked4), 0},
		"QinQ":                    {0x88a8, join([]byte{0, 5, 0x81, 0, 0, 6}, ip6, v6), capture.Captured},
		"QinQ, ACK":               {0x88a8, join([]byte{0, 5, 0x81, 0, 0, 6}, ip6, acked6), 0},
		"three VLANs, ACK":        {0x8100, join([]byte{0, 5, 0x81, 0, 0, 6, 0x81, 0, 0, 7}, ip4, acked4), capture.Captured}, // as deep as the filter looks
		"PPPoE":                   {0x8864, join(session(0x21), v4), capture.Captured},
		"PPPoE, ACK":              {0x8864, join(session(0x21), acked4), 0},
		"PPPoE, IPv6":             {0x8864, join(session(0x57), v6), capture.Captured},
		"PPPoE, compressed":       {0x8864, session(0xfd), capture.Captured}, // to be counted as not understood
		"PPPoE, link control":     {0x8864, []byte{0x11, 0, 0, 1, 0, 46, 0xc0, 0x21}, 0},
		"PPPoE in a VLAN":         {0x8100, join([]byte{0, 5, 0x88, 0x64}, session(0x21), v4), capture.Captured},
		"PPPoE in a VLAN, ACK":    {0x8100, join([]byte{0, 5, 0x88, 0x64}, session(0x21), acked4), 0},
		"MPLS":                    {0x8847, join(inner, v4), capture.Captured},
		"MPLS, ACK":               {0x8847, join(inner, acked4), 0},
		"MPLS, two labels":        {0x8847, join(shim, inner, v6), capture.Captured},
		"MPLS, two labels, ACK":   {0x8847, join(shim, inner, acked6), 0},
		"MPLS, a pseudowire, ACK": {0x8847, join(inner, []byte{0, 0, 0, 0}, etherFrame(acked4)), capture.Captured}, // only the decoder sees into it
		"SNAP":                    {0x0004, join(snap, ip4, v4), capture.Captured},
		"SNAP, ACK":               {0x0004, join(snap, ip4, acked4), 0},
		"MACsec":                  {0x88e5, make([]byte, 100), capture.Captured}, // to be counted as not understood
		"LLDP":                    {0x88cc, make([]byte, 100), 0},
	} {
		// What the kernel knows of a packet, its type and where it starts, the test's machine is given as numbers.
		vm, err := bpf.NewVM(slices.Concat([]bpf.Instruction{bpf.LoadConstant{Val: uint32(c.kind)}}, capture.ByType(0, syns)))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := vm.Run(c.data); err != nil || got != c.want {
			t.Errorf("%s: got %d, %v; want %d", name, got, err, c.want)
		}
	}
	if _, err := bpf.Assemble(capture.Filter(syns)); err != nil {
		t.Error(err)
	}
}

// What others made of packets does no harm, on any link.
func FuzzFrame(f *testing.F) {
	for _, c := range linkCases() {
		f.Add(uint16(c.link), c.data)
	}
	f.Add(uint16(101), packet(six, 0, append([]byte{44, 1, 15: 0}, segment(2, mssOption(536))...)))
	f.Fuzz(func(t *testing.T, link uint16, data []byte) {
		d := newDecoder(NewCounter(10_000))
		d.Packet(capture.Record{Link: int(link), Data: data})
		if d.result().Packets != 1 || int64(d.counter.Endpoints()) > d.result().SYNs || len(d.result().Unread) > capture.MostUnknown+1 {
			t.Errorf("%+v, %d endpoints", d.result(), d.counter.Endpoints())
		}
	})
}

// Many kinds of unknown things take little memory.
func TestUnknownThingsAreBounded(t *testing.T) {
	d := newDecoder(NewCounter(10))
	for kind := range 1000 {
		d.Packet(capture.Record{Link: 1, Data: join(macs, binary.BigEndian.AppendUint16(nil, uint16(0xb000+kind)))})
	}
	if got := d.result().Unread[Unknown{Layer: "other things"}]; len(d.result().Unread) != capture.MostUnknown+1 || got != 1000-capture.MostUnknown {
		t.Errorf("%d kinds, %d of others", len(d.result().Unread), got)
	}
	if notes := (&Report{Stats: d.result(), Families: families(d.counter, func(k kept) (int, bool) { return k.first(), true })}).notes(); len(notes) != mostNotes+1 {
		t.Errorf("%q", notes)
	}
}
