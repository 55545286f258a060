// Package lab shows what rules do to real packets: a client, a firewall and a server in network namespaces of their own,
// joined by links, with packets sent from either side and looked for on the other.
//
//	client eth0 ──────── c0 firewall s0 ──────── eth0 server
//	10.1.0.2             10.1.0.1   10.2.0.1             10.2.0.2
//	fd00:1::2            fd00:1::1  fd00:2::1           fd00:2::2
//
// Options add a second server, at the firewall's d0, and a path with a small link between s0 and the server.
//
// In come the texts of rules, which programs such as nft load in the firewall's namespace (Namespace.Run), and probes
// (Lab.Probe); out come what arrived and what came back, and a table of both before and after (Compare). Beside single
// packets there is real data, which the kernels' own TCP carries (Lab.Transfer, CompareTransfers). It knows nothing
// of where rules come from and imports nothing of the project; internal/cli and tests import it.
//
// The machine's own network is neither touched nor seen. Namespaces have no names: they live as long as this process, or
// until Close, whatever happens.
package lab

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

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
	DMZ          Host = "dmz"  // a second server; only with Options.DMZ
	Near         Host = "near" // the router at the firewall's end of a small link; only with Options.PathMTU
	Far          Host = "far"  // the router at the server's end
)

// The firewall's interfaces: what zones are bound to.
const (
	ClientLink = "c0" // towards the client
	ServerLink = "s0" // towards the server; everything that has no other route leaves by it
	DMZLink    = "d0" // towards the second server
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
	MTU     int  // of the link at ServerLink, in bytes, 1280 to 65535; 0 means DefaultMTU
	PathMTU int  // of a link further on, in bytes, 1280 to 65535, whose routers drop all ICMP; 0 means that there is none
	DMZ     bool // there is a second server
	Capture bool // results have the packets that passed the firewall's interfaces
}

// Lab is a client, a firewall that forwards, and a server. It is for one goroutine at a time.
type Lab struct {
	links      []link
	namespaces map[Host]*Namespace
	taps       map[Host]tap
	hosts      []Host // that packets are sent from and to
	hops       int    // links between the firewall and the host that has most of them
	capture    *sniffer
	nextID     uint32
	routed     map[netip.Addr]Host // further addresses of probes, and behind which host the firewall finds them
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
		{"ipv4/tcp_mtu_probing", "0"}, // a sender believes the MSS, and is told nothing else
	}
	if h == FirewallHost || h == Near || h == Far {
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
	for _, mtu := range []int{o.MTU, cmp.Or(o.PathMTU, minMTU)} {
		if mtu < minMTU || mtu > maxMTU {
			return nil, fmt.Errorf("cannot make a link with an MTU of %d: it is from %d, which IPv6 needs, to %d", mtu, minMTU, maxMTU)
		}
	}
	l := &Lab{
		namespaces: map[Host]*Namespace{}, taps: map[Host]tap{}, hosts: []Host{Client, FirewallHost, Server}, hops: 1,
		routed: map[netip.Addr]Host{}, nextID: firstID,
	}
	if o.DMZ {
		l.hosts = append(l.hosts, DMZ)
	}
	if err := l.build(ctx, o); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

func (l *Lab) build(ctx context.Context, o Options) error {
	links, routes := topology(o)
	l.links = links
	hosts := l.hosts
	if o.PathMTU != 0 {
		l.hops = 3
		hosts = append(slices.Clone(hosts), Near, Far)
	}
	for _, h := range hosts {
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
	if err := l.awaitLinks(ctx); err != nil {
		return err
	}
	for _, r := range routes {
		if err := l.route(r); err != nil {
			return err
		}
	}
	for _, h := range []Host{Near, Far} {
		if ns := l.namespaces[h]; ns != nil {
			if err := ns.netlink(dropICMP); err != nil {
				return fmt.Errorf("cannot make the router %s drop ICMP: %w", h, err)
			}
		}
	}
	if err := l.openTaps(); err != nil {
		return err
	}
	if o.Capture {
		return l.openCapture()
	}
	return nil
}

// dropICMP makes a router lose all ICMP, of others and its own, by having no route for it. That needs no program to load
// rules, and no rules that the firewall's could be confused with.
func dropICMP(h *netlink.Handle) error {
	for family, protocol := range map[int]int{unix.AF_INET: unix.IPPROTO_ICMP, unix.AF_INET6: unix.IPPROTO_ICMPV6} {
		r := netlink.NewRule()
		r.Family, r.IPProto, r.Type, r.Priority = family, protocol, unix.FR_ACT_BLACKHOLE, 1
		if err := h.RuleAdd(r); err != nil {
			return err
		}
	}
	return nil
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

// awaitLinks returns when every end of a link sends, and takes what is sent to its addresses. The kernel does either some time after it was
// told to, which a busy machine puts off; what is sent before that is lost. The end that was set up first sends when it has been looked at
// again (net/core/link_watch.c). An address of IPv6 has its local route when its turn for duplicate address detection has come, even if it
// asks for none (addrconf_dad_work in net/ipv6/addrconf.c).
func (l *Lab) awaitLinks(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for _, k := range l.links {
		for _, e := range k.ends {
			for up := false; !up; time.Sleep(time.Millisecond) {
				if err := ctx.Err(); err != nil {
					return fmt.Errorf("the interface %s of the %s does not come up: %w", e.device, e.host, err)
				}
				err := l.namespaces[e.host].netlink(func(h *netlink.Handle) (err error) {
					up, err = works(h, e)
					return err
				})
				if err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// works says whether an end of a link sends and takes what is sent to its addresses.
func works(h *netlink.Handle, e end) (bool, error) {
	dev, err := h.LinkByName(e.device)
	if err != nil || dev.Attrs().OperState != netlink.OperUp {
		return false, err
	}
	for _, p := range e.own {
		routes, err := h.RouteGet(p.Addr().AsSlice())
		if errors.Is(err, unix.ENETUNREACH) { // nor has the kernel the route to its network
			return false, nil
		}
		if err != nil || routes[0].Type != unix.RTN_LOCAL {
			return false, err
		}
	}
	return true, nil
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
	for _, a := range other.known() {
		n := netlink.Neigh{LinkIndex: dev.Attrs().Index, State: netlink.NUD_PERMANENT, IP: a.AsSlice(), HardwareAddr: other.mac}
		if err := h.NeighSet(&n); err != nil {
			return fmt.Errorf("neighbour %s: %w", a, err)
		}
	}
	return nil
}

// route makes a host send what goes to a prefix by way of a neighbour.
func (l *Lab) route(r route) error {
	err := l.namespaces[r.host].netlink(func(n *netlink.Handle) error {
		return n.RouteReplace(&netlink.Route{Dst: ipNet(r.to), Gw: r.via.AsSlice()})
	})
	if err != nil {
		return fmt.Errorf("cannot route %s by way of %s on the %s: %w", r.to, r.via, r.host, err)
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
	if l.capture != nil {
		l.capture.close()
		l.capture = nil
	}
	for _, ns := range l.namespaces {
		ns.Close()
	}
}
