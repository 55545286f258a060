package lab

import (
	"net"
	"net/netip"
)

// link is a pair of veth devices: first the end that is farther from the firewall.
type link struct {
	mtu  int // bytes
	ends [2]end
}

// end is one end of a link. A probed address is unknown to the host's kernel, so that nothing answers or resets what a
// probe sends but the probe itself; the other addresses are the kernel's, for the programs that run there.
type end struct {
	host   Host
	device string
	mac    net.HardwareAddr
	own    [2]netip.Prefix // IPv4, IPv6
	probed [2]netip.Addr   // IPv4, IPv6; not valid on the firewall and on routers, whose kernels answer themselves
	behind []netip.Addr    // of hosts further on, which the other end's kernel is made to take for this one's
}

// known are the addresses that the other end's kernel finds at this one.
func (e end) known() []netip.Addr {
	list := append([]netip.Addr{e.own[0].Addr(), e.own[1].Addr()}, e.behind...)
	if e.probed[0].IsValid() {
		list = append(list, e.probed[:]...)
	}
	return list
}

// route is a way by a neighbour.
type route struct {
	host Host
	to   netip.Prefix
	via  netip.Addr
}

// topology is the links between the hosts, and their routes.
func topology(o Options) ([]link, []route) {
	client := end{
		Client, "eth0", net.HardwareAddr{2, 0, 0, 0, 1, 2},
		prefixes("10.1.0.10/24", "fd00:1::10/64"), addresses("10.1.0.2", "fd00:1::2"), nil,
	}
	server := end{
		Server, "eth0", net.HardwareAddr{2, 0, 0, 0, 2, 2},
		prefixes("10.2.0.10/24", "fd00:2::10/64"), addresses("10.2.0.2", "fd00:2::2"), nil,
	}
	links := []link{
		{ClientMTU, [2]end{client, firewallEnd(ClientLink, 1, prefixes("10.1.0.1/24", "fd00:1::1/64"))}},
		{o.MTU, [2]end{server, firewallEnd(ServerLink, 2, prefixes("10.2.0.1/24", "fd00:2::1/64"))}},
	}
	var routes []route
	routes = append(routes, defaults(Client, "10.1.0.1", "fd00:1::1")...)
	routes = append(routes, defaults(Server, "10.2.0.1", "fd00:2::1")...)
	routes = append(routes, defaults(FirewallHost, "10.2.0.2", "fd00:2::2")...)
	if o.DMZ {
		dmz := end{
			DMZ, "eth0", net.HardwareAddr{2, 0, 0, 0, 3, 2},
			prefixes("10.3.0.10/24", "fd00:3::10/64"), addresses("10.3.0.2", "fd00:3::2"), nil,
		}
		links = append(links, link{DefaultMTU, [2]end{dmz, firewallEnd(DMZLink, 3, prefixes("10.3.0.1/24", "fd00:3::1/64"))}})
		routes = append(routes, defaults(DMZ, "10.3.0.1", "fd00:3::1")...)
	}
	if o.PathMTU == 0 {
		return links, routes
	}
	small, more := smallLink(links[1], o.PathMTU)
	return append(append(links[:1:1], small...), links[2:]...), append(routes, more...)
}

// smallLink puts two routers with a link of its own MTU between the ends of a link. To the hosts at the ends it looks as if
// nothing were there: each finds the other's addresses at the router next to it.
//
//	firewall s0 ──── n0 near n1 ──small── f0 far f1 ──── eth0 server
func smallLink(direct link, mtu int) ([]link, []route) {
	server, firewall := direct.ends[0], direct.ends[1]
	f1 := end{Far, "f1", net.HardwareAddr{2, 0, 0, 0, 4, 4}, prefixes("10.2.0.254/24", "fd00:2::254/64"), [2]netip.Addr{}, firewall.known()}
	f0 := end{Far, "f0", net.HardwareAddr{2, 0, 0, 0, 4, 3}, prefixes("10.4.0.2/24", "fd00:4::2/64"), [2]netip.Addr{}, nil}
	n1 := end{Near, "n1", net.HardwareAddr{2, 0, 0, 0, 4, 2}, prefixes("10.4.0.1/24", "fd00:4::1/64"), [2]netip.Addr{}, nil}
	n0 := end{Near, "n0", net.HardwareAddr{2, 0, 0, 0, 4, 1}, prefixes("10.2.0.253/24", "fd00:2::253/64"), [2]netip.Addr{}, server.known()}
	links := []link{
		{direct.mtu, [2]end{n0, firewall}},
		{mtu, [2]end{f0, n1}},
		{DefaultMTU, [2]end{server, f1}},
	}
	routes := append(defaults(Near, "10.2.0.1", "fd00:2::1"), defaults(Far, "10.4.0.1", "fd00:4::1")...)
	for _, a := range firewall.known() {
		routes = append(routes, route{Far, single(a), sameFamily(a, n1)})
	}
	for _, a := range server.known() {
		routes = append(routes, route{Near, single(a), sameFamily(a, f0)})
	}
	return links, routes
}

// sameFamily is an end's own address of the family of another.
func sameFamily(a netip.Addr, e end) netip.Addr {
	if a.Is6() {
		return e.own[1].Addr()
	}
	return e.own[0].Addr()
}

func firewallEnd(device string, network byte, own [2]netip.Prefix) end {
	return end{host: FirewallHost, device: device, mac: net.HardwareAddr{2, 0, 0, 0, network, 1}, own: own}
}

// defaults are a host's default routes.
func defaults(h Host, v4, v6 string) []route {
	a := addresses(v4, v6)
	return []route{{h, anywhere(a[0]), a[0]}, {h, anywhere(a[1]), a[1]}}
}

func prefixes(v4, v6 string) [2]netip.Prefix {
	return [2]netip.Prefix{netip.MustParsePrefix(v4), netip.MustParsePrefix(v6)}
}

func addresses(v4, v6 string) [2]netip.Addr {
	return [2]netip.Addr{netip.MustParseAddr(v4), netip.MustParseAddr(v6)}
}

// anywhere is the prefix that holds every address of a's family.
func anywhere(a netip.Addr) netip.Prefix {
	p, _ := a.Prefix(0)
	return p
}

// single is the prefix of one address.
func single(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }
