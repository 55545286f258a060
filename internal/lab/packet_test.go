package lab

import (
	"encoding/hex"
	"net/netip"
	"reflect"
	"testing"

	"golang.org/x/sys/unix"
)

var (
	client4, server4 = netip.MustParseAddr("10.1.0.2"), netip.MustParseAddr("10.2.0.2")
	client6, server6 = netip.MustParseAddr("fd00:1::2"), netip.MustParseAddr("fd00:2::2")
)

// A packet that was written is read again as it was.
func TestPacketRoundTrip(t *testing.T) {
	for _, p := range []*packet{
		{src: client4, dst: server4, protocol: unix.IPPROTO_TCP, sport: 1, dport: 2, flags: SYN, seq: 3, mss: 1460},
		{src: client6, dst: server6, protocol: unix.IPPROTO_TCP, sport: 1, dport: 2, flags: SYN | ACK, seq: 3, ack: 4},
		{src: client4, dst: server4, protocol: unix.IPPROTO_UDP, sport: 1, dport: 2, payload: []byte("ping")},
		{src: client6, dst: server6, protocol: unix.IPPROTO_ICMPV6, kind: echoRequest6, payload: []byte("odd")},
	} {
		if got := parseIP(p.bytes()); !reflect.DeepEqual(got, p) {
			t.Errorf("wrote %+v, read %+v", p, got)
		}
	}
}

// A receiver adds a packet up, its checksum included, to nothing (RFC 1071, 1).
func TestChecksums(t *testing.T) {
	p := &packet{src: client6, dst: server6, protocol: unix.IPPROTO_TCP, sport: 1, dport: 2, flags: SYN, mss: 1460}
	seg := p.bytes()[ipv6Header:]
	if sum := checksum(pseudoHeader(p, len(seg)), seg); sum != 0 {
		t.Errorf("a TCP segment adds up to %#x", sum)
	}
	p = &packet{src: client4, dst: server4, protocol: unix.IPPROTO_ICMP, kind: echoRequest4, payload: []byte("odd")}
	b := p.bytes()
	if sum := checksum(0, b[:ipv4Header]); sum != 0 {
		t.Errorf("an IPv4 header adds up to %#x", sum)
	}
	if sum := checksum(0, b[ipv4Header:]); sum != 0 {
		t.Errorf("an ICMP message adds up to %#x", sum)
	}
}

// An ICMP error, or the answer to a packet, has the number of the packet that it is about.
func TestPacketID(t *testing.T) {
	const id = firstID + 5*stepID
	syn := &packet{src: client4, dst: server4, protocol: unix.IPPROTO_TCP, flags: SYN, seq: id}
	synack, _ := syn.answer(0)
	udp := &packet{src: client4, dst: server4, protocol: unix.IPPROTO_UDP, payload: []byte{0x72, 0x57, 0, 5 * stepID}}
	refused := &packet{src: server4, dst: client4, protocol: unix.IPPROTO_ICMP, kind: 3, code: 3, payload: syn.bytes()[:28]}
	for what, p := range map[string]*packet{
		"SYN": syn, "SYN/ACK": synack, "datagram": udp, "ICMP error": parseIP(refused.bytes()),
		"RST": {protocol: unix.IPPROTO_TCP, flags: RST | ACK, ack: id + 1},
	} {
		if p.id() != id {
			t.Errorf("%s: %#x, want %#x", what, p.id(), id)
		}
	}
}

func TestPacketAnswer(t *testing.T) {
	for _, p := range []*packet{
		{protocol: unix.IPPROTO_TCP, flags: SYN | ACK},
		{protocol: unix.IPPROTO_TCP, flags: RST},
		{protocol: unix.IPPROTO_ICMP, kind: echoReply4},
		{protocol: unix.IPPROTO_ICMPV6, kind: echoReply6},
	} {
		if a, ok := p.answer(1460); ok {
			t.Errorf("%+v is answered by %+v", p, a)
		}
	}
}

func TestFindMSS(t *testing.T) {
	for _, c := range []struct {
		options string // hexadecimal
		want    int
	}{
		{"", 0},
		{"020405b4", 1460},
		{"0101020405b4", 1460},     // after padding
		{"01030307020405b4", 1460}, // after window scale
		{"00020405b4", 0},          // after the end
		{"0204", 0},                // cut short
		{"0304", 0},                // cut short in another option
		{"0300020405b4", 0},        // a length that would go on for ever
		{"020305020405b4", 1460},   // a wrong length, then a right one
		{"08ff020405b4", 0},        // a length beyond the end
	} {
		b, err := hex.DecodeString(c.options)
		if err != nil {
			t.Fatal(err)
		}
		if got := findMSS(b); got != c.want {
			t.Errorf("%s: %d, want %d", c.options, got, c.want)
		}
	}
}

// What arrives may be anything, of any length.
func FuzzParseIP(f *testing.F) {
	syn := &packet{src: client6, dst: server6, protocol: unix.IPPROTO_TCP, flags: SYN, mss: 1460}
	refused := &packet{src: server6, dst: client6, protocol: unix.IPPROTO_ICMPV6, kind: 1, payload: syn.bytes()}
	f.Add(syn.bytes())
	f.Add(refused.bytes())
	f.Add([]byte{0x4f, 20: 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		if p := parseIP(b); p != nil {
			p.id()
		}
	})
}
