package observe

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"
)

var (
	four = netip.MustParseAddr("192.0.2.1")
	six  = netip.MustParseAddr("2001:db8::1")
)

func mssOption(mss int) []byte { return binary.BigEndian.AppendUint16([]byte{2, 4}, uint16(mss)) }

// segment is a TCP header with flags and options, which are padded.
func segment(flags byte, options []byte) []byte {
	for len(options)%4 != 0 {
		options = append(slices.Clone(options), 0)
	}
	h := make([]byte, 20)
	binary.BigEndian.PutUint16(h, 50000)
	binary.BigEndian.PutUint16(h[2:], 443)
	h[12], h[13] = byte(5+len(options)/4)<<4, flags
	return append(h, options...)
}

// packet is an IP packet of a protocol, without checksums.
func packet(from netip.Addr, protocol byte, payload []byte) []byte {
	if from.Is4() {
		h := make([]byte, 20)
		h[0], h[8], h[9] = 0x45, 64, protocol
		binary.BigEndian.PutUint16(h[2:], uint16(20+len(payload)))
		copy(h[12:], from.AsSlice())
		return append(h, payload...)
	}
	h := make([]byte, 40)
	h[0], h[6], h[7] = 0x60, protocol, 64
	binary.BigEndian.PutUint16(h[4:], uint16(len(payload)))
	copy(h[8:], from.AsSlice())
	return append(h, payload...)
}

// syn is a SYN with options.
func syn(from netip.Addr, options []byte) []byte { return packet(from, tcp, segment(2, options)) }

// etherFrame is an Ethernet frame with an IP packet, below tags, each an Ethernet type with its content.
func etherFrame(ip []byte, tags ...[]byte) []byte {
	frame := make([]byte, 12)
	for _, tag := range tags {
		frame = append(frame, tag...)
	}
	kind := uint16(0x0800)
	if ip[0]>>4 == 6 {
		kind = 0x86dd
	}
	return append(binary.BigEndian.AppendUint16(frame, kind), ip...)
}

func TestParse(t *testing.T) {
	plain := mssOption(1460)
	cut := func(p []byte, n int) []byte { return p[:n] }
	with := func(p []byte, at int, b byte) []byte { p = slices.Clone(p); p[at] = b; return p }
	extension := func(next byte, length int) []byte { h := make([]byte, length); h[0] = next; return h }
	none := Offer{}
	for name, c := range map[string]struct {
		ip   []byte
		want Offer
		v    verdict
	}{
		"IPv4":                           {syn(four, plain), Offer{four, 1460, false}, offered},
		"IPv6":                           {syn(six, plain), Offer{six, 1460, false}, offered},
		"a SYN/ACK":                      {packet(four, tcp, segment(0x12, plain)), Offer{four, 1460, true}, offered},
		"ECN is asked for":               {packet(four, tcp, segment(0xc2, plain)), Offer{four, 1460, false}, offered},
		"an ACK":                         {packet(four, tcp, segment(0x10, plain)), none, other},
		"SYN and FIN, which is a probe":  {packet(four, tcp, segment(3, plain)), none, other},
		"SYN and RST":                    {packet(four, tcp, segment(6, plain)), none, other},
		"UDP":                            {packet(four, 17, segment(2, plain)), none, other},
		"no option":                      {syn(four, nil), Offer{four, None, false}, offered},
		"an MSS of 0":                    {syn(four, mssOption(0)), Offer{four, 0, false}, offered},
		"the largest":                    {syn(four, mssOption(65535)), Offer{four, 65535, false}, offered},
		"behind others":                  {syn(four, append([]byte{1, 4, 2, 3, 3, 7, 1}, plain...)), Offer{four, 1460, false}, offered},
		"behind the end of the list":     {syn(four, append([]byte{0}, plain...)), Offer{four, None, false}, offered},
		"a length that is not the MSS's": {syn(four, []byte{2, 3, 5}), Offer{four, None, false}, offered},
		"an option of no length":         {syn(four, append([]byte{8, 0}, plain...)), Offer{four, None, false}, offered},
		"an option that is too long":     {syn(four, append([]byte{8, 40}, plain...)), Offer{four, None, false}, offered},
		"the first of two":               {syn(four, append(mssOption(1300), plain...)), Offer{four, 1300, false}, offered},
		"a padded frame":                 {append(syn(four, nil), 2, 4, 5, 180), Offer{four, None, false}, offered},
		"a header of less than 20 bytes": {with(syn(four, plain), 32, 4<<4), none, malformed},
		"cut before the option":          {cut(syn(four, plain), 41), Offer{four, None, false}, truncated},
		"cut within the option":          {cut(syn(four, plain), 43), Offer{four, None, false}, truncated},
		"cut behind the option":          {cut(syn(four, append(slices.Clone(plain), 4, 2)), 44), Offer{four, 1460, false}, offered},
		"cut before the flags":           {cut(syn(four, plain), 33), none, short},
		"cut in the IPv4 header":         {cut(syn(four, plain), 19), none, short},
		"cut in the IPv6 header":         {cut(syn(six, plain), 39), none, short},
		"cut in an IPv6 extension":       {cut(packet(six, 60, append(extension(tcp, 8), segment(2, plain)...)), 44), none, short},
		"a fragment without flags":       {packet(four, tcp, segment(2, plain)[:8]), none, other},
		"cut behind the flags":           {cut(syn(four, plain), 34), Offer{four, None, false}, truncated},
		"a later fragment":               {with(syn(four, plain), 7, 1), none, other},
		"a first fragment":               {with(syn(four, plain), 6, 0x20), Offer{four, 1460, false}, offered},
		"IPv6 options":                   {packet(six, 0, append(extension(60, 8), append(extension(tcp, 8), segment(2, plain)...)...)), Offer{six, 1460, false}, offered},
		"a first IPv6 fragment":          {packet(six, 44, append(with(extension(tcp, 8), 3, 1), segment(2, plain)...)), Offer{six, 1460, false}, offered},
		"a later IPv6 fragment":          {packet(six, 44, append(with(extension(tcp, 8), 3, 8), segment(2, plain)...)), none, other},
		"authenticated IPv6":             {packet(six, 51, append(with(extension(tcp, 24), 1, 4), segment(2, plain)...)), Offer{six, 1460, false}, offered},
		"IPv6 that is encrypted":         {packet(six, 50, segment(2, plain)), none, other},
		"IPv6 options beyond the packet": {packet(six, 0, with(extension(tcp, 8), 1, 255)), none, other},
		"ARP":                            {[]byte{0, 1, 8, 0, 6, 4, 0, 1}, none, other},
		"nothing":                        {nil, none, short},
	} {
		got, v := parse(c.ip)
		if v != c.v || v == offered && got != c.want {
			t.Errorf("%s: got %v, %d; want %v, %d", name, got, v, c.want, c.v)
		}
	}
}

// IPv4 options stand before the TCP header.
func TestIPv4Options(t *testing.T) {
	ip := packet(four, tcp, append(make([]byte, 4), segment(2, mssOption(1460))...))
	ip[0] = 0x46
	if got, v := parse(ip); v != offered || got != (Offer{four, 1460, false}) {
		t.Errorf("got %v, %d", got, v)
	}
}

// offer is the segment that makes an offer.
func offer(o Offer) []byte {
	flags := byte(flagSYN)
	if o.ACK {
		flags |= flagACK
	}
	return packet(o.From, tcp, segment(flags, mssOption(o.MSS)))
}
