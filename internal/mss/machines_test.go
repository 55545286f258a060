package mss

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

func at(text string) netip.Addr { return netip.MustParseAddr(text) }

// asked is a rule of the routing policy that takes whatever prefix length, and links of any group.
func asked(r RoutingRule) RoutingRule {
	r.SuppressLength, r.SuppressGroup = -1, -1
	return r
}

// mainRule is the rule for the table main.
var mainRule = asked(RoutingRule{Priority: 32766, Table: tableMain})

// Machines with what many kernels have no module for: what fits a path, and what is advised, an empty advice for a path that needs none. Beside
// the links that are named there is a LAN of 1500 bytes, or of what the case says, and the machine forwards.
func TestMachines(t *testing.T) {
	ppp := Link{Index: 2, Name: "ppp0", Type: "ppp", MTU: 1400, Up: true}
	eth9 := Link{Index: 9, Name: "eth9", MTU: 1500, Up: true}
	byPPP, byEth9 := Route{To: to("0.0.0.0/0"), Link: 2}, Route{To: to("0.0.0.0/0"), Link: 9}
	marked := []RoutingRule{asked(RoutingRule{Priority: 10, Mark: 1, Mask: 0xffffffff, Table: 10}), mainRule}
	table10 := byEth9
	table10.Table = 10
	vxlan := Link{Index: 5, Name: "vx", Type: "vxlan", MTU: 1450, Up: true, Remote: at("198.51.100.9"), Port: 4789}
	inside := Route{To: to("10.7.0.0/24"), Link: 5}
	with := func(l Link, change func(*Link)) Link { change(&l); return l }
	policy := func(p Policy) Policy {
		if !p.To.IsValid() {
			p.From, p.To = to("0.0.0.0/0"), to("0.0.0.0/0")
		}
		if !p.Remote.IsValid() && !p.Transport {
			p.Remote = at("198.51.100.5")
		}
		return p
	}
	for _, tt := range []struct {
		name     string
		lan      int // MTU; 0 for 1500
		links    []Link
		routes   []Route
		rules    []RoutingRule
		policies []Policy
		path     string
		fits     int
		advice   string // rules with blanks between
	}{
		{"a tunnel's packets go by main, and not by a table for marks", 0, []Link{ppp, eth9, vxlan}, []Route{table10, byPPP, inside}, marked, nil, "vx", 1350, `rule tcp-mss-clamp mtu="1350"`},
		{"a tunnel whose packets have the mark", 0, []Link{ppp, eth9, with(vxlan, func(l *Link) { l.Mark = 1 })}, []Route{table10, byPPP, inside}, marked, nil, "vx", 1450, `rule tcp-mss-clamp value="pmtu"`},
		{"IPsec's packets go by main", 0, []Link{ppp, eth9}, []Route{table10, byPPP}, marked, []Policy{policy(Policy{To: to("10.9.0.0/16")})}, "IPsec to 10.9.0.0/16", 1300,
			`rule family="ipv4" destination address="10.9.0.0/16" tcp-mss-clamp value="1260" rule family="ipv4" source address="10.9.0.0/16" tcp-mss-clamp value="1260"`},
		{"a route with two next hops below", 0, []Link{ppp, eth9, vxlan}, []Route{byEth9, byPPP, inside}, nil, nil, "vx", 1350, `rule tcp-mss-clamp mtu="1350"`},
		{"a better metric below", 0, []Link{ppp, eth9, vxlan}, []Route{changed(byPPP, func(r *Route) { r.Metric = 600 }), byEth9, inside}, nil, nil, "vx", 1450, `rule tcp-mss-clamp value="pmtu"`},
		{"a route with an MTU below", 0, []Link{eth9, vxlan}, []Route{changed(byEth9, func(r *Route) { r.MTU = 1400 }), inside}, nil, nil, "vx", 1350, `rule tcp-mss-clamp mtu="1350"`},
		{"a tunnel that is bound to a link", 0, []Link{ppp, eth9, with(vxlan, func(l *Link) { l.Parent = 2 })}, []Route{byEth9, inside}, nil, nil, "vx", 1350, `rule tcp-mss-clamp mtu="1350"`},

		{"IPsec of an xfrm interface", 0, []Link{eth9}, []Route{byEth9}, nil, []Policy{policy(Policy{ID: 42})}, "eth9", 1500, ""},
		{"IPsec of a vti", 0, []Link{eth9, {Index: 6, Name: "vti1", Type: "vti", MTU: 1400, Up: true, ID: 42, Remote: at("198.51.100.5")}}, []Route{byEth9, {To: to("10.9.0.0/16"), Link: 6}}, nil,
			[]Policy{policy(Policy{Mark: 42, Mask: 0xffffffff})}, "vti1", 1400, `rule tcp-mss-clamp value="pmtu"`},
		{"IPsec for a mark", 0, []Link{eth9}, []Route{byEth9}, nil, []Policy{policy(Policy{Mark: 42, Mask: 0xffffffff})}, "IPsec to 0.0.0.0/0, mark 42", 1400, ""},
		{"IPsec from some sources", 0, []Link{eth9}, []Route{byEth9}, nil, []Policy{policy(Policy{From: to("10.1.0.0/24"), To: to("0.0.0.0/0")})}, "IPsec to 0.0.0.0/0", 1400,
			`rule family="ipv4" source address="10.1.0.0/24" tcp-mss-clamp value="1360" rule family="ipv4" destination address="10.1.0.0/24" tcp-mss-clamp value="1360"`},
		{"IPsec from some sources to some others", 0, []Link{eth9}, []Route{byEth9}, nil, []Policy{policy(Policy{From: to("10.1.0.0/24"), To: to("10.9.0.0/16")})}, "IPsec to 10.9.0.0/16", 1400,
			`rule family="ipv4" source address="10.1.0.0/24" destination address="10.9.0.0/16" tcp-mss-clamp value="1360" rule family="ipv4" source address="10.9.0.0/16" destination address="10.1.0.0/24" tcp-mss-clamp value="1360"`},
		{"IPsec for UDP alone", 0, []Link{eth9}, []Route{byEth9}, nil, []Policy{policy(Policy{Protocol: 17})}, "eth9", 1500, ""},

		{"IPsec from end to end around a tunnel", 0, []Link{eth9, vxlan}, []Route{byEth9, inside}, nil, []Policy{policy(Policy{Transport: true, Protocol: 17, Port: 4789})}, "vx", 1408, `rule tcp-mss-clamp mtu="1408"`},
		{"the same with a mark, as of swarms", 0, []Link{eth9, with(vxlan, func(l *Link) { l.Remote = netip.Addr{} })}, []Route{byEth9, inside}, nil,
			[]Policy{policy(Policy{Transport: true, Protocol: 17, Port: 4789, Mark: 0xd0c4e3, Mask: 0xffffffff})}, "vx", 1408, `rule tcp-mss-clamp mtu="1408"`},
		{"the same for another port", 0, []Link{eth9, vxlan}, []Route{byEth9, inside}, nil, []Policy{policy(Policy{Transport: true, Protocol: 17, Port: 4790})}, "vx", 1450, `rule tcp-mss-clamp value="pmtu"`},
		{"a tunnel within an IPsec tunnel", 0, []Link{eth9, vxlan}, []Route{byEth9, inside}, nil, []Policy{policy(Policy{To: to("198.51.100.0/24")})}, "vx", 1350, `rule tcp-mss-clamp mtu="1350"`},

		{"jumbo frames everywhere, and the Internet", 9001, []Link{with(eth9, func(l *Link) { l.MTU = 9001 })}, []Route{byEth9, {To: to("10.0.0.0/8"), Link: 9}}, nil, nil, "eth9 (default route)", 1500, `rule tcp-mss-clamp mtu="1500"`},
		{"the same by halves", 9001, []Link{with(eth9, func(l *Link) { l.MTU = 9001 })}, []Route{{To: to("0.0.0.0/1"), Link: 9}, {To: to("128.0.0.0/1"), Link: 9}}, nil, nil, "eth9 (default route)", 1500, `rule tcp-mss-clamp mtu="1500"`},
		{"jumbo frames inside alone", 9001, []Link{eth9}, []Route{byEth9}, nil, nil, "eth9", 1500, `rule tcp-mss-clamp value="pmtu"`},
		{"MAP-T", 0, []Link{eth9, {Index: 6, Name: "map0", Type: nat46, MTU: nat46MTU, Up: true}}, []Route{{To: to("0.0.0.0/0"), Link: 6}, {To: to("::/0"), Link: 9}}, nil, nil, "map0", 1480, `rule tcp-mss-clamp mtu="1480"`},

		{"OpenVPN in the kernel", 0, []Link{eth9, {Index: 6, Name: "ovpn0", Type: "ovpn", MTU: 1500, Up: true}}, []Route{byEth9, {To: to("10.8.0.0/24"), Link: 6}}, nil, nil, "ovpn0", 1448, `rule tcp-mss-clamp mtu="1448"`},
		{"a tunnel over one that is too large itself", 0, []Link{eth9, {Index: 6, Name: "wg0", Type: "wireguard", MTU: 1500, Up: true}, vxlan},
			[]Route{byEth9, {To: to("198.51.100.0/24"), Link: 6}, inside}, nil, nil, "vx", 1390, `rule tcp-mss-clamp mtu="1390"`},
		{"a tunnel over a bridge", 0, []Link{{Index: 9, Name: "br0", Type: "bridge", MTU: 1500, Up: true}, {Index: 10, Name: "port", MTU: 1450, Up: true, Master: 9}, vxlan}, []Route{byEth9, inside}, nil, nil, "vx", 1400, `rule tcp-mss-clamp mtu="1400"`},
		{"a tunnel over IPv6 with the encapsulation limit", 0, []Link{eth9, {Index: 6, Name: "tnl", Type: "ip6tnl", MTU: 1500, Up: true, Remote: at("2001:db8::1"), Outside6: true, Extra: limitOption(0, 4)}},
			[]Route{{To: to("::/0"), Link: 9}, {To: to("10.8.0.0/24"), Link: 6}}, nil, nil, "tnl", 1452, `rule tcp-mss-clamp mtu="1452"`},
		{"a tunnel over IPv6 without it", 0, []Link{eth9, {Index: 6, Name: "tnl", Type: "ip6tnl", MTU: 1500, Up: true, Remote: at("2001:db8::1"), Outside6: true, Extra: limitOption(1, 4)}},
			[]Route{{To: to("::/0"), Link: 9}, {To: to("10.8.0.0/24"), Link: 6}}, nil, nil, "tnl", 1460, `rule tcp-mss-clamp mtu="1460"`},
		{"WireGuard as wg-quick sets it", 0, []Link{eth9, {Index: 6, Name: "wg0", Type: "wireguard", MTU: 1420, Up: true}}, []Route{byEth9, {To: to("0.0.0.0/0"), Link: 6, Table: 51820}},
			[]RoutingRule{{Priority: 1, Table: tableMain, SuppressLength: 0, SuppressGroup: -1}, asked(RoutingRule{Priority: 2, Not: true, Mark: 51820, Mask: 0xffffffff, Table: 51820}), mainRule},
			nil, "wg0", 1420, `rule tcp-mss-clamp value="pmtu"`},
		{"a VRF", 0, []Link{{Index: 8, Name: "blue", Type: "vrf", MTU: 65575, Up: true, Table: 10}, eth9, {Index: 6, Name: "w2", MTU: 1400, Up: true, Master: 8}},
			[]Route{byEth9, {To: to("0.0.0.0/0"), Link: 6, Table: 10}}, []RoutingRule{asked(RoutingRule{Priority: 1000, VRF: true}), mainRule}, nil, "w2", 1400, `rule tcp-mss-clamp mtu="1400"`},
		{"a bridge with VXLAN as a port", 0, []Link{eth9, {Index: 6, Name: "br0", Type: "bridge", MTU: 1500, Up: true}, with(vxlan, func(l *Link) { l.MTU, l.Master = 1500, 6 })},
			[]Route{byEth9, {To: to("10.7.0.0/24"), Link: 6}}, nil, nil, "br0", 1450, `rule tcp-mss-clamp mtu="1450"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			lan := tt.lan
			if lan == 0 {
				lan = Ethernet
			}
			m := &Machine{Forward4: true, Links: append([]Link{{Index: 1, Name: "lan", MTU: lan, Up: true}}, tt.links...),
				Routes: append([]Route{{To: to("192.168.1.0/24"), Link: 1}}, tt.routes...), Rules: tt.rules, Policies: tt.policies}
			p := pathNamed(t, Advise(m, Options{}), tt.path)
			if p.Fit.MTU != tt.fits || strings.Join(p.Rules, " ") != tt.advice {
				t.Errorf("%d fits, and it advises %q; want %d, %q\n%+v", p.Fit.MTU, p.Rules, tt.fits, tt.advice, p)
			}
		})
	}
}

func changed(r Route, change func(*Route)) Route { change(&r); return r }

// A million routes, with a rule that asks for the source, are looked through once: the time is generous, and a way that is quadratic takes days.
func TestManyRoutes(t *testing.T) {
	m := &Machine{Forward4: true, Links: []Link{{Index: 1, Name: "lan", MTU: 1500, Up: true}, {Index: 2, Name: "w1", MTU: 1500, Up: true}, {Index: 3, Name: "w2", MTU: 1400, Up: true}}}
	m.Rules = []RoutingRule{asked(RoutingRule{Priority: 100, From: to("10.1.0.0/24"), Table: 200}), mainRule}
	m.Routes = append(m.Routes, Route{To: to("0.0.0.0/0"), Link: 3, Table: 200}, Route{To: to("10.0.0.0/8"), Link: 1})
	for i := range 1_000_000 {
		a := netip.AddrFrom4([4]byte{byte(11 + i>>16), byte(i >> 8), byte(i), 0})
		m.Routes = append(m.Routes, Route{To: netip.PrefixFrom(a, 24+i%9), Link: int32(2 + i%2)})
	}
	begin := time.Now()
	r := Advise(m, Options{})
	if took := time.Since(begin); took > time.Minute {
		t.Errorf("it took %s", took)
	}
	p := pathNamed(t, r, "w2")
	if len(p.Routes) != kept || p.More != 500_001-kept || !slices.Contains(p.Rules, `rule tcp-mss-clamp mtu="1400"`) {
		t.Errorf("%d routes and %d more, %v", len(p.Routes), p.More, p.Rules)
	}
}
