package mss

import (
	"flag"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"richwall/grammar"
)

var update = flag.Bool("update", false, "accept what comes out now as what should")

func compareGolden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s is different; go test ./internal/mss -update accepts it. Got:\n%s\nwant:\n%s", path, got, want)
	}
}

func to(text string) netip.Prefix { return netip.MustParsePrefix(text) }

// router is a machine with one of everything: PPPoE outside, a LAN, WireGuard whose MTU does not fit PPPoE, VXLAN in a data
// centre, 6in4, and an IPsec tunnel.
func router() *Machine {
	return &Machine{
		Forward4: true, Forward6: true,
		Links: []Link{
			{Index: 1, Name: "lo", MTU: 65536, Up: true, Loopback: true},
			{Index: 2, Name: "lan", Type: "device", MTU: 1500, Up: true},
			{Index: 3, Name: "ppp0", Type: "ppp", MTU: 1492, Up: true},
			{Index: 4, Name: "wg0", Type: "wireguard", MTU: 1440, Up: true},
			{Index: 5, Name: "vx7", Type: "vxlan", MTU: 1450, Up: true, Remote: netip.MustParseAddr("192.168.1.9")},
			{Index: 6, Name: "he", Type: "sit", MTU: 1280, Up: true},
			{Index: 7, Name: "off", Type: "wireguard", MTU: 1280},
			{Index: 8, Name: "gre1", Type: "gre", MTU: 1468, Up: true, Remote: netip.MustParseAddr("198.51.100.1"), Extra: 4},
		},
		Routes: []Route{
			{To: to("192.168.1.0/24"), Link: 2}, {To: to("2001:db8:1::/64"), Link: 2},
			{To: to("0.0.0.0/0"), Link: 3},
			{To: to("203.0.113.0/24"), Link: 3, MTU: 1400},
			{To: to("10.8.0.0/24"), Link: 4},
			{To: to("10.7.0.0/24"), Link: 5}, {To: to("10.6.0.0/24"), Link: 5}, {To: to("10.5.0.0/24"), Link: 5},
			{To: to("10.4.0.0/24"), Link: 5}, {To: to("10.3.0.0/24"), Link: 5},
			{To: to("::/0"), Link: 6},
			{To: to("10.1.0.0/24"), Link: 7},
			{To: to("10.2.0.0/24"), Link: 8},
		},
		Policies: []Policy{{To: to("10.9.0.0/16"), Remote: netip.MustParseAddr("198.51.100.7")}},
		Notes:    []string{"Something cannot be read."},
	}
}

func TestAdvise(t *testing.T) {
	zones := map[string]string{"lan": "internal", "ppp0": "external"}
	for name, o := range map[string]Options{
		"router":  {},
		"unknown": {RulesUnknown: true},
		"clamped": {
			Zone: func(iface string) string { return zones[iface] },
			Rules: []*Rules{ParseIPTables(`*mangle
:FORWARD ACCEPT [0:0]
-A FORWARD -i ppp0 -p tcp -m tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu
-A FORWARD -o ppp0 -p tcp -m tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu
-A FORWARD -o wg0 -p tcp -m tcp --tcp-flags SYN,RST SYN -j TCPMSS --set-mss 1300
-A FORWARD -d 10.9.0.0/16 -p tcp -m tcp --tcp-flags SYN,RST SYN -j TCPMSS --set-mss 1300
-A FORWARD -s 10.0.0.0/8 -p tcp -m tcp --tcp-flags SYN,RST SYN -j TCPMSS --set-mss 1300
`, false)},
		},
	} {
		var b strings.Builder
		r := Advise(router(), o)
		if err := r.Text(&b); err != nil {
			t.Fatal(err)
		}
		compareGolden(t, name, b.String())
		for _, p := range r.Paths {
			for _, text := range p.Rules {
				if parsed, err := grammar.Parse(text); err != nil || parsed.String() != text {
					t.Errorf("%s: %s: %v", p.Name, text, err)
				}
			}
		}
	}
}

// A machine that forwards nothing needs no clamp.
func TestHost(t *testing.T) {
	m := router()
	m.Forward4, m.Forward6 = false, false
	for _, p := range Advise(m, Options{}).Paths {
		if p.Clamped != NotNeeded || p.Rules != nil || !strings.HasPrefix(p.Why, "nothing is forwarded") {
			t.Errorf("%+v", p)
		}
	}
	if r := Advise(&Machine{}, Options{}); len(r.Paths) != 0 {
		t.Errorf("%+v", r)
	}
}

// What a tunnel adds depends on what its packets go over, and on its options.
func TestTunnels(t *testing.T) {
	m := &Machine{
		Links: []Link{{Index: 1, Name: "out", MTU: 1500, Up: true}, {Index: 2, Name: "small", MTU: 1400, Up: true}},
		Routes: []Route{
			{To: to("0.0.0.0/0"), Link: 1}, {To: to("::/0"), Link: 1},
			{To: to("192.0.2.0/24"), Link: 2}, {To: to("0.0.0.0/0"), Link: 9},
		},
	}
	far4, near4, far6 := netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	for _, c := range []struct {
		link Link
		want int
	}{
		{Link{Type: "gre", Remote: far4}, 1476},
		{Link{Type: "gre", Remote: far4, Extra: 4}, 1472},
		{Link{Type: "gre", Remote: near4}, 1376},
		{Link{Type: "ip6gre", Remote: far6, Outside6: true}, 1456},
		{Link{Type: "vxlan", Remote: far4}, 1450},
		{Link{Type: "vxlan", Remote: far6, Outside6: true}, 1430},
		{Link{Type: "vxlan", Remote: netip.MustParseAddr("239.1.1.1"), Parent: 2}, 1350},
		{Link{Type: "geneve", Remote: far4}, 1450},
		{Link{Type: "sit", Remote: far4}, 1480},
		{Link{Type: "ipip", Remote: far4}, 1480},
		{Link{Type: "ip6tnl", Remote: far6, Outside6: true}, 1460},
		{Link{Type: "wireguard"}, 1440},
		{Link{Type: "xfrm"}, 1400},
		{Link{Type: "ppp"}, 9000},
		{Link{Type: "of the future"}, 9000},
	} {
		c.link.Index, c.link.MTU = 9, 9000
		if got := m.room(c.link, map[int]bool{}).mtu; got != c.want {
			t.Errorf("%+v: got %d, want %d", c.link, got, c.want)
		}
	}
}

// Links are read as the kernel describes them.
func TestLinks(t *testing.T) {
	ip4, ip6 := net.ParseIP("192.0.2.1").To4(), net.ParseIP("2001:db8::1")
	four, six := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	attrs := netlink.LinkAttrs{Index: 5, Name: "x", MTU: 1400, Flags: net.FlagUp, ParentIndex: 2, NetNsID: -1}
	for _, c := range []struct {
		link netlink.Link
		want Link
	}{
		{&netlink.Dummy{LinkAttrs: attrs}, Link{Type: "dummy"}},
		{&netlink.Vlan{LinkAttrs: attrs}, Link{Type: "vlan"}},
		{&netlink.Wireguard{LinkAttrs: attrs}, Link{Type: "wireguard"}},
		{&netlink.GenericLink{LinkAttrs: attrs, LinkType: "ppp"}, Link{Type: "ppp"}},
		{&netlink.Vxlan{LinkAttrs: attrs, Group: ip4, VtepDevIndex: 2}, Link{Type: "vxlan", Remote: four}},
		{&netlink.Vxlan{LinkAttrs: attrs, SrcAddr: ip6, VtepDevIndex: 2}, Link{Type: "vxlan", Local: six, Outside6: true}},
		{&netlink.Geneve{LinkAttrs: attrs, Remote: ip6}, Link{Type: "geneve", Remote: six, Outside6: true}},
		{&netlink.Gretun{LinkAttrs: attrs, Remote: ip4, Local: ip4, OKey: 7, OFlags: 0x20}, Link{Type: "gre", Remote: four, Local: four, Extra: 4}},
		{&netlink.Gretap{LinkAttrs: attrs, Remote: ip4, Local: ip4}, Link{Type: "gretap", Remote: four, Local: four}},
		{&netlink.Sittun{LinkAttrs: attrs, Remote: ip4}, Link{Type: "sit", Remote: four}},
		{&netlink.Iptun{LinkAttrs: attrs, Remote: ip4}, Link{Type: "ipip", Remote: four}},
		{&netlink.Ip6tnl{LinkAttrs: attrs, Remote: ip6}, Link{Type: "ip6tnl", Remote: six, Outside6: true}},
		{&netlink.Vti{LinkAttrs: attrs, Remote: ip4, Local: ip4}, Link{Type: "vti", Remote: four, Local: four}},
	} {
		c.want.Index, c.want.Name, c.want.MTU, c.want.Up, c.want.Parent = 5, "x", 1400, true, 2
		if got := newLink(c.link); !reflect.DeepEqual(got, c.want) {
			t.Errorf("got %+v, want %+v", got, c.want)
		}
	}
}
