package observe

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/net/bpf"
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
	kind := uint16(etherIPv4)
	if ip[0]>>4 == 6 {
		kind = etherIPv6
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
		"IPv4":                           {syn(four, plain), Offer{four, 1460}, offered},
		"IPv6":                           {syn(six, plain), Offer{six, 1460}, offered},
		"a SYN/ACK":                      {packet(four, tcp, segment(0x12, plain)), Offer{four, 1460}, offered},
		"ECN is asked for":               {packet(four, tcp, segment(0xc2, plain)), Offer{four, 1460}, offered},
		"an ACK":                         {packet(four, tcp, segment(0x10, plain)), none, other},
		"SYN and FIN, which is a probe":  {packet(four, tcp, segment(3, plain)), none, other},
		"SYN and RST":                    {packet(four, tcp, segment(6, plain)), none, other},
		"UDP":                            {packet(four, 17, segment(2, plain)), none, other},
		"no option":                      {syn(four, nil), Offer{four, None}, offered},
		"an MSS of 0":                    {syn(four, mssOption(0)), Offer{four, 0}, offered},
		"the largest":                    {syn(four, mssOption(65535)), Offer{four, 65535}, offered},
		"behind others":                  {syn(four, append([]byte{1, 4, 2, 3, 3, 7, 1}, plain...)), Offer{four, 1460}, offered},
		"behind the end of the list":     {syn(four, append([]byte{0}, plain...)), Offer{four, None}, offered},
		"a length that is not the MSS's": {syn(four, []byte{2, 3, 5}), Offer{four, None}, offered},
		"an option of no length":         {syn(four, append([]byte{8, 0}, plain...)), Offer{four, None}, offered},
		"an option that is too long":     {syn(four, append([]byte{8, 40}, plain...)), Offer{four, None}, offered},
		"the first of two":               {syn(four, append(mssOption(1300), plain...)), Offer{four, 1300}, offered},
		"a padded frame":                 {append(syn(four, nil), 2, 4, 5, 180), Offer{four, None}, offered},
		"a header of less than 20 bytes": {with(syn(four, plain), 32, 4<<4), none, malformed},
		"cut before the option":          {cut(syn(four, plain), 41), Offer{four, None}, truncated},
		"cut within the option":          {cut(syn(four, plain), 43), Offer{four, None}, truncated},
		"cut behind the option":          {cut(syn(four, append(slices.Clone(plain), 4, 2)), 44), Offer{four, 1460}, offered},
		"cut before the flags":           {cut(syn(four, plain), 33), none, other},
		"cut behind the flags":           {cut(syn(four, plain), 34), Offer{four, None}, truncated},
		"a later fragment":               {with(syn(four, plain), 7, 1), none, other},
		"a first fragment":               {with(syn(four, plain), 6, 0x20), Offer{four, 1460}, offered},
		"IPv6 options":                   {packet(six, 0, append(extension(60, 8), append(extension(tcp, 8), segment(2, plain)...)...)), Offer{six, 1460}, offered},
		"a first IPv6 fragment":          {packet(six, 44, append(with(extension(tcp, 8), 3, 1), segment(2, plain)...)), Offer{six, 1460}, offered},
		"a later IPv6 fragment":          {packet(six, 44, append(with(extension(tcp, 8), 3, 8), segment(2, plain)...)), none, other},
		"authenticated IPv6":             {packet(six, 51, append(with(extension(tcp, 24), 1, 4), segment(2, plain)...)), Offer{six, 1460}, offered},
		"IPv6 that is encrypted":         {packet(six, 50, segment(2, plain)), none, other},
		"IPv6 options beyond the packet": {packet(six, 0, with(extension(tcp, 8), 1, 255)), none, other},
		"ARP":                            {[]byte{0, 1, 8, 0, 6, 4, 0, 1}, none, other},
		"nothing":                        {nil, none, other},
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
	if got, v := parse(ip); v != offered || got != (Offer{four, 1460}) {
		t.Errorf("got %v, %d", got, v)
	}
}

func TestLinkTypes(t *testing.T) {
	v4, v6 := syn(four, mssOption(1460)), syn(six, mssOption(1440))
	vlan, qinq := []byte{0x81, 0, 0, 5}, []byte{0x88, 0xa8, 0, 7}
	cookedHead := func(direction byte, kind ...byte) []byte {
		return append(append([]byte{0, direction}, make([]byte, 12)...), kind...)
	}
	cooked2Head := func(direction byte, kind ...byte) []byte {
		h := append(kind, make([]byte, 18)...)
		h[10] = direction
		return h
	}
	pppoe := func(protocol byte, ip []byte) []byte {
		return append([]byte{12: 0x88, 13: 0x64, 14: 0x11, 21: protocol}, ip...)
	}
	for name, c := range map[string]struct {
		link int
		data []byte
		want Offer
	}{
		"Ethernet":           {1, etherFrame(v4), Offer{four, 1460}},
		"Ethernet, IPv6":     {1, etherFrame(v6), Offer{six, 1440}},
		"VLAN":               {1, etherFrame(v4, vlan), Offer{four, 1460}},
		"QinQ":               {1, etherFrame(v6, qinq, vlan), Offer{six, 1440}},
		"PPPoE":              {1, pppoe(0x21, v4), Offer{four, 1460}},
		"PPPoE, IPv6":        {1, pppoe(0x57, v6), Offer{six, 1440}},
		"raw":                {101, v4, Offer{four, 1460}},
		"raw, IPv6":          {101, v6, Offer{six, 1440}},
		"raw, another":       {12, v4, Offer{four, 1460}},
		"IPv4":               {228, v4, Offer{four, 1460}},
		"IPv6":               {229, v6, Offer{six, 1440}},
		"loopback":           {0, append([]byte{2, 0, 0, 0}, v4...), Offer{four, 1460}},
		"loopback of macOS":  {0, append([]byte{30, 0, 0, 0}, v6...), Offer{six, 1440}},
		"loopback, OpenBSD":  {108, append([]byte{0, 0, 0, 24}, v6...), Offer{six, 1440}},
		"Linux cooked":       {113, append(cookedHead(0, 8, 0), v4...), Offer{four, 1460}},
		"Linux cooked, VLAN": {113, append(append(cookedHead(0, 0x81, 0), 0, 5, 8, 0), v4...), Offer{four, 1460}},
		"Linux cooked, sent": {113, append(cookedHead(4, 8, 0), v4...), Offer{}},
		"cooked 2":           {276, append(cooked2Head(0, 0x86, 0xdd), v6...), Offer{six, 1440}},
		"cooked 2, sent":     {276, append(cooked2Head(4, 0x86, 0xdd), v6...), Offer{}},
	} {
		got, _ := parse(linkTypes[c.link](c.data))
		if got != c.want {
			t.Errorf("%s: got %v, want %v", name, got, c.want)
		}
		for n := range c.data { // no prefix is a panic
			parse(linkTypes[c.link](c.data[:n]))
		}
	}
}

// The kernel's filter lets through what the parser counts, and little else.
func TestFilter(t *testing.T) {
	vm, err := bpf.NewVM(synFilter())
	if err != nil {
		t.Fatal(err)
	}
	withOptions := packet(four, tcp, append(make([]byte, 4), segment(2, mssOption(1460))...))
	withOptions[0] = 0x46
	later := syn(four, mssOption(1460))
	later[7] = 1
	for name, c := range map[string]struct {
		ip   []byte
		want int
	}{
		"IPv4":                   {syn(four, mssOption(1460)), captured},
		"IPv4 with options":      {withOptions, captured},
		"IPv4, SYN/ACK":          {packet(four, tcp, segment(0x12, nil)), captured},
		"IPv4, ACK":              {packet(four, tcp, segment(0x10, nil)), 0},
		"IPv4, RST":              {packet(four, tcp, segment(6, nil)), 0},
		"IPv4, a late fragment":  {later, 0},
		"IPv4, UDP":              {packet(four, 17, segment(2, nil)), 0},
		"IPv6":                   {syn(six, mssOption(1460)), captured},
		"IPv6, ACK":              {packet(six, tcp, segment(0x10, nil)), 0},
		"IPv6 with an extension": {packet(six, 60, append([]byte{tcp, 0, 0, 0, 0, 0, 0, 0}, segment(2, nil)...)), captured},
		"IPv6, UDP":              {packet(six, 17, segment(2, nil)), 0},
		"IPv6, ICMP":             {packet(six, 58, segment(2, nil)), 0},
		"ARP":                    {make([]byte, 28), 0},
		"cut short":              {[]byte{0x45}, 0},
	} {
		if got, err := vm.Run(c.ip); err != nil || got != c.want {
			t.Errorf("%s: got %d, %v; want %d", name, got, err, c.want)
		}
	}
	if _, err := assembled(); err != nil {
		t.Error(err)
	}
}

func FuzzFrame(f *testing.F) {
	f.Add(uint16(1), etherFrame(syn(four, mssOption(1460)), []byte{0x81, 0, 0, 5}))
	f.Add(uint16(113), append([]byte{0, 0, 0, 1, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0}, syn(four, []byte{8, 0, 2})...))
	f.Add(uint16(101), packet(six, 0, append([]byte{44, 1, 15: 0}, segment(2, mssOption(536))...)))
	f.Fuzz(func(t *testing.T, link uint16, data []byte) {
		var s Stats
		c := NewCounter(10)
		s.frame(c, int(link), data)
		if s.Packets != 1 || int64(c.Endpoints()) != s.SYNs {
			t.Errorf("%+v, %d endpoints", s, c.Endpoints())
		}
	})
}
