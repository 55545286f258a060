package watch

import (
	"net/netip"
	"testing"

	"golang.org/x/net/bpf"

	"richwall/internal/mss/capture"
)

// The kernel hands over what the Watcher reads, and keeps the rest.
func TestKernelFilter(t *testing.T) {
	from, to := netip.MustParseAddrPort("[2001:db8::1]:1000"), netip.MustParseAddrPort("[2001:db8::2]:443")
	four := tcpOf{from: client, to: server, flags: push, seq: 1, ack: 1, data: 1000}
	six := tcpOf{from: from, to: to, flags: push, seq: 1, ack: 1, data: 1000}
	later := four
	later.fragment = 100
	first := four
	first.fragment = 0x2000
	icmp := func(kind, code byte) []byte {
		return ipOf(client.Addr(), server.Addr(), protoICMP, 64, 0, []byte{kind, code, 0, 0, 0, 0, 0, 0}, 0)
	}
	for name, c := range map[string]struct {
		packet []byte
		want   int
	}{
		"TCP":                      {four.bytes(), capture.Captured},
		"TCP over IPv6":            {six.bytes(), capture.Captured},
		"a first fragment":         {first.bytes(), capture.Captured},
		"a later fragment":         {later.bytes(), 0},
		"UDP":                      {ipOf(client.Addr(), server.Addr(), 17, 64, 0, make([]byte, 20), 0), 0},
		"Fragmentation Needed":     {icmp(3, 4), capture.Captured},
		"port unreachable":         {icmp(3, 3), 0},
		"an echo":                  {icmp(8, 0), 0},
		"Packet Too Big":           {tooBigOf(to.Addr(), six, 1280), capture.Captured},
		"a neighbour":              {ipOf(from.Addr(), to.Addr(), protoICMPv6, 255, 0, []byte{135, 0, 0, 0}, 0), 0},
		"an extension header":      {ipOf(from.Addr(), to.Addr(), protoFragment, 64, 0, make([]byte, 30), 0), capture.Captured},
		"UDP over IPv6":            {ipOf(from.Addr(), to.Addr(), 17, 64, 0, make([]byte, 20), 0), 0},
		"neither IPv4 nor IPv6":    {[]byte{0x50, 0, 0, 0}, 0},
		"IPv4 that was cut at all": {[]byte{0x45, 0}, 0},
	} {
		const interfaceTest = 4 // instructions at the start, which the test's machine cannot run
		vm, err := bpf.NewVM(wanted(0)[interfaceTest:])
		if err != nil {
			t.Fatal(err)
		}
		if got, err := vm.Run(c.packet); err != nil || got != c.want {
			t.Errorf("%s: got %d, %v; want %d", name, got, err, c.want)
		}
	}
	if _, err := bpf.Assemble(capture.Filter(wanted)); err != nil {
		t.Error(err)
	}
}
