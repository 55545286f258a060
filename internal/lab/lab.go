// Package lab shows what rules do to real packets: a client, a firewall and a server in network namespaces of their own,
// joined by links, with packets sent from either side and looked for on the other.
//
//	client eth0 ──────── c0 firewall s0 ──────── eth0 server
//	10.1.0.2             10.1.0.1   10.2.0.1             10.2.0.2
//	fd00:1::2            fd00:1::1  fd00:2::1           fd00:2::2
//
// In come the texts of rules, which programs such as nft load in the firewall's namespace (Namespace.Run), and probes
// (Lab.Probe); out come what arrived and what came back, and a table of both before and after (Compare). It knows nothing
// of where rules come from and imports nothing of the project; internal/cli and tests import it.
//
// The machine's own network is neither touched nor seen. Namespaces have no names: they live as long as this process, or
// until Close, whatever happens.
package lab

import (
	"context"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Host is one of the machines of the lab.
type Host string

// The hosts.
const (
	Client       Host = "client"
	FirewallHost Host = "firewall"
	Server       Host = "server"
)

// The firewall's interfaces: what zones are bound to.
const (
	ClientLink = "c0" // towards the client
	ServerLink = "s0" // towards the server; everything that has no other route leaves by it
)

// MTUs in bytes.
const (
	DefaultMTU = 1500
	ClientMTU  = 9000  // of the link between client and firewall: no MSS is lowered for its sake
	minMTU     = 1280  // RFC 8200, 5: a link with less carries no IPv6
	maxMTU     = 65535 // of a veth device
)

// Options are what can be different about a lab.
type Options struct {
	MTU int // of the link between firewall and server, in bytes, 1280 to 65535; 0 means DefaultMTU
}

// Lab is a client, a firewall that forwards, and a server. It is for one goroutine at a time.
type Lab struct {
	links      []link
	namespaces map[Host]*Namespace
	taps       map[Host]tap
	nextID     uint32
	routed     map[netip.Addr]Host // further addresses of probes, and behind which host the firewall finds them
}

// link is a pair of veth devices: first the host that probes go to and come from, then the firewall.
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
	probed [2]netip.Addr   // IPv4, IPv6; not valid on the firewall, whose kernel answers itself
}

// route is a default route.
type route struct {
	host Host
	via  [2]netip.Addr
}

func topology(mtu int) ([]link, []route) {
	links := []link{
		{ClientMTU, [2]end{
			{
				Client, "eth0", net.HardwareAddr{2, 0, 0, 0, 1, 2},
				prefixes("10.1.0.10/24", "fd00:1::10/64"), addresses("10.1.0.2", "fd00:1::2"),
			},
			{
				FirewallHost, ClientLink, net.HardwareAddr{2, 0, 0, 0, 1, 1},
				prefixes("10.1.0.1/24", "fd00:1::1/64"), [2]netip.Addr{},
			},
		}},
		{mtu, [2]end{
			{
				Server, "eth0", net.HardwareAddr{2, 0, 0, 0, 2, 2},
				prefixes("10.2.0.10/24", "fd00:2::10/64"), addresses("10.2.0.2", "fd00:2::2"),
			},
			{
				FirewallHost, ServerLink, net.HardwareAddr{2, 0, 0, 0, 2, 1},
				prefixes("10.2.0.1/24", "fd00:2::1/64"), [2]netip.Addr{},
			},
		}},
	}
	routes := []route{
		{Client, addresses("10.1.0.1", "fd00:1::1")},
		{Server, addresses("10.2.0.1", "fd00:2::1")},
		{FirewallHost, addresses("10.2.0.2", "fd00:2::2")},
	}
	return links, routes
}

func prefixes(v4, v6 string) [2]netip.Prefix {
	return [2]netip.Prefix{netip.MustParsePrefix(v4), netip.MustParsePrefix(v6)}
}

func addresses(v4, v6 string) [2]netip.Addr {
	return [2]netip.Addr{netip.MustParseAddr(v4), netip.MustParseAddr(v6)}
}

// sysctls are the settings of a host, under /proc/sys/net; a new namespace may inherit others from the machine.
func sysctls(h Host) [][2]string {
	settings := [][2]string{
		{"ipv6/conf/all/disable_ipv6", "0"},
		{"ipv6/conf/default/disable_ipv6", "0"},
		{"ipv4/conf/all/rp_filter", "0"},
		{"ipv4/conf/default/rp_filter", "0"},
		{"ipv4/conf/all/arp_ignore", "0"},
		{"ipv4/icmp_ratemask", "0"}, // every rejected probe gets its ICMP error, however many there are
		{"ipv6/icmp/ratemask", "0"},
		{"ipv4/ip_forward", "0"},
		{"ipv6/conf/all/forwarding", "0"},
	}
	if h == FirewallHost {
		settings = append(settings, [2]string{"ipv4/ip_forward", "1"}, [2]string{"ipv6/conf/all/forwarding", "1"})
	}
	return settings
}

// New makes a lab whose firewall forwards everything. It needs what Missing and Reexec are about. The context ends only
// the making of it.
func New(ctx context.Context, o Options) (*Lab, error) {
	if o.MTU == 0 {
		o.MTU = DefaultMTU
	}
	if o.MTU < minMTU || o.MTU > maxMTU {
		return nil, fmt.Errorf("cannot make a link with an MTU of %d: it is from %d, which IPv6 needs, to %d", o.MTU, minMTU, maxMTU)
	}
	l := &Lab{
		namespaces: map[Host]*Namespace{}, taps: map[Host]tap{}, routed: map[netip.Addr]Host{}, nextID: firstID,
	}
	if err := l.build(ctx, o.MTU); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

func (l *Lab) build(ctx context.Context, mtu int) error {
	links, routes := topology(mtu)
	l.links = links
	for _, h := range []Host{Client, FirewallHost, Server} {
		ns, err := NewNamespace()
		if err != nil {
			return err
		}
		l.namespaces[h] = ns
		for _, s := range sysctls(h) {
			if err := ns.sysctl(s[0], s[1]); err != nil {
				return err
			}
		}
	}
	for _, k := range links {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := l.connect(k); err != nil {
			return fmt.Errorf("cannot link the %s with the %s: %w", k.ends[0].host, k.ends[1].host, err)
		}
	}
	for _, r := range routes {
		for _, via := range r.via {
			if err := l.route(r.host, anywhere(via), via); err != nil {
				return err
			}
		}
	}
	return l.openTaps()
}

// anywhere is the prefix that holds every address of a's family.
func anywhere(a netip.Addr) netip.Prefix {
	p, _ := a.Prefix(0)
	return p
}

// connect makes a link, with its addresses, and tells each end's kernel where the other's addresses are, so that no packet
// waits for neighbour discovery nor depends on rules that let it through.
func (l *Lab) connect(k link) error {
	a, b := k.ends[0], k.ends[1]
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.HardwareAddr = a.device, k.mtu, a.mac
	veth := netlink.NewVeth(attrs)
	veth.PeerName, veth.PeerHardwareAddr, veth.PeerNamespace = b.device, b.mac, netlink.NsFd(l.namespaces[b.host].fd())
	if err := l.namespaces[a.host].netlink(func(h *netlink.Handle) error { return h.LinkAdd(veth) }); err != nil {
		return err
	}
	for i, e := range k.ends {
		other := k.ends[1-i]
		if err := l.namespaces[e.host].netlink(func(h *netlink.Handle) error { return configure(h, e, other) }); err != nil {
			return err
		}
	}
	return nil
}

// configure sets an end of a link up: its addresses, and the other end's as known neighbours.
func configure(h *netlink.Handle, e, other end) error {
	dev, err := h.LinkByName(e.device)
	if err != nil {
		return err
	}
	if err := h.LinkSetUp(dev); err != nil {
		return err
	}
	for _, p := range e.own {
		a := netlink.Addr{IPNet: ipNet(p)}
		if p.Addr().Is6() {
			a.Flags = unix.IFA_F_NODAD // usable at once
		}
		if err := h.AddrAdd(dev, &a); err != nil {
			return fmt.Errorf("address %s: %w", p, err)
		}
	}
	known := []netip.Addr{other.own[0].Addr(), other.own[1].Addr()}
	if other.probed[0].IsValid() {
		known = append(known, other.probed[:]...)
	}
	for _, a := range known {
		n := netlink.Neigh{LinkIndex: dev.Attrs().Index, State: netlink.NUD_PERMANENT, IP: a.AsSlice(), HardwareAddr: other.mac}
		if err := h.NeighSet(&n); err != nil {
			return fmt.Errorf("neighbour %s: %w", a, err)
		}
	}
	return nil
}

// route makes a host send what goes to a prefix by way of a neighbour.
func (l *Lab) route(h Host, to netip.Prefix, via netip.Addr) error {
	err := l.namespaces[h].netlink(func(n *netlink.Handle) error {
		return n.RouteReplace(&netlink.Route{Dst: ipNet(to), Gw: via.AsSlice()})
	})
	if err != nil {
		return fmt.Errorf("cannot route %s by way of %s on the %s: %w", to, via, h, err)
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// Namespace is the namespace of a host, nil for a host that there is not.
func (l *Lab) Namespace(h Host) *Namespace { return l.namespaces[h] }

// Firewall is the firewall's namespace, where rules are loaded.
func (l *Lab) Firewall() *Namespace { return l.namespaces[FirewallHost] }

// Close takes everything down. The lab cannot be used after it; closing again does nothing.
func (l *Lab) Close() {
	for h, t := range l.taps {
		t.close()
		delete(l.taps, h)
	}
	for _, ns := range l.namespaces {
		ns.Close()
	}
}
