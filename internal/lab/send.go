package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// packet makes a probe's packet, and the firewall know the way to its addresses.
func (l *Lab) packet(p Probe) (*packet, error) {
	if p.Port < 0 || p.Port > 65535 {
		return nil, fmt.Errorf("port %d: the highest port is 65535", p.Port)
	}
	for _, mss := range []int{p.MSS, p.ReplyMSS} {
		if mss < 0 || mss > 65535 {
			return nil, fmt.Errorf("MSS %d: it is from 0 to 65535", mss)
		}
	}
	src, err := l.place(p.From, p.To, p.Family, p.Source)
	if err != nil {
		return nil, err
	}
	dst, err := l.place(p.To, p.From, p.Family, p.Destination)
	if err != nil {
		return nil, err
	}
	id := l.nextID
	if l.nextID += stepID; l.nextID-firstID >= idRange {
		l.nextID = firstID
	}
	out := &packet{src: src, dst: dst, dport: uint16(p.Port), sport: uint16(32768 + id/stepID%28000)}
	out.payload = make([]byte, max(4, p.Payload))
	binary.BigEndian.PutUint32(out.payload, id)
	switch p.Protocol {
	case TCP, "":
		out.protocol, out.seq, out.mss, out.flags = unix.IPPROTO_TCP, id, p.MSS, p.Flags
		out.payload = out.payload[:max(0, p.Payload)]
		if p.Flags == 0 {
			out.flags = SYN
		}
		if out.flags&ACK != 0 {
			out.ack = id + 1
		}
	case UDP:
		out.protocol = unix.IPPROTO_UDP
	case ICMP:
		out.protocol, out.kind, out.echo = unix.IPPROTO_ICMP, echoRequest4, out.sport
		if src.Is6() {
			out.protocol, out.kind = unix.IPPROTO_ICMPV6, echoRequest6
		}
	default:
		return nil, fmt.Errorf("protocol %q: it is tcp, udp or icmp", p.Protocol)
	}
	return out, nil
}

// place returns the address that a host uses towards its peer, or the one wanted, for which the firewall gets a route.
func (l *Lab) place(h, peer Host, f Family, wanted netip.Addr) (netip.Addr, error) {
	i, ok := map[Family]int{"": 0, IPv4: 0, IPv6: 1}[f]
	if !ok {
		return wanted, fmt.Errorf("family %q: it is ipv4 or ipv6", f)
	}
	if h == peer || !slices.Contains(l.hosts, h) || !slices.Contains(l.hosts, peer) {
		return wanted, fmt.Errorf("from %q to %q: they are two of %s", h, peer, join(l.hosts))
	}
	if wanted.IsValid() && wanted.Is6() != (i == 1) {
		return wanted, fmt.Errorf("address %s: it is not of the family of the probe", wanted)
	}
	var own netip.Addr
	if h == FirewallHost {
		own = l.firewallLink(peer).ends[1].own[i].Addr()
	} else {
		own = l.linkOf(h).ends[0].probed[i]
	}
	switch at, known := l.routed[wanted]; {
	case !wanted.IsValid() || wanted == own:
		return own, nil
	case h == FirewallHost || at == h:
		return wanted, nil
	case known:
		return wanted, fmt.Errorf("address %s: it belongs to the %s already", wanted, at)
	}
	l.routed[wanted] = h
	return wanted, l.routeTo(wanted, h, own)
}

// routeTo makes the firewall, and the routers before a server, find an address at a host's own one.
func (l *Lab) routeTo(wanted netip.Addr, h Host, own netip.Addr) error {
	to := single(wanted)
	routes := []route{{FirewallHost, to, own}}
	if h == Server && l.namespaces[Far] != nil {
		far := l.linkOf(Far).ends[0]
		routes = append(routes, route{Near, to, sameFamily(wanted, far)}, route{Far, to, own})
	}
	for _, r := range routes {
		if err := l.route(r); err != nil {
			return err
		}
	}
	return nil
}

func join(hosts []Host) string {
	var names []string
	for _, h := range hosts {
		names = append(names, string(h))
	}
	return strings.Join(names, ", ")
}

// linkOf is the link of a host with the firewall, or with the router that is before it.
func (l *Lab) linkOf(h Host) link {
	return l.links[slices.IndexFunc(l.links, func(k link) bool { return k.ends[0].host == h })]
}

// firewallLink is the firewall's link on the way to a host.
func (l *Lab) firewallLink(h Host) link {
	k := l.linkOf(h)
	for k.ends[1].host != FirewallHost {
		k = l.linkOf(k.ends[1].host)
	}
	return k
}

// listen opens the ports of the firewall that probes go to, so that its kernel answers a SYN by a SYN/ACK.
func (l *Lab) listen(probes []Probe) ([]io.Closer, error) {
	var open []io.Closer
	err := l.Firewall().Do(func() error {
		seen := map[Probe]bool{}
		for _, p := range probes {
			key := Probe{Protocol: p.Protocol, Port: p.Port}
			if p.To != FirewallHost || p.Port == 0 || p.Protocol == ICMP || seen[key] {
				continue
			}
			seen[key] = true
			c, err := listen(p.Protocol, p.Port)
			if errors.Is(err, unix.EADDRINUSE) { // whoever is there answers
				continue
			}
			if err != nil {
				return fmt.Errorf("cannot open port %d on the %s: %w", p.Port, FirewallHost, err)
			}
			open = append(open, c)
		}
		return nil
	})
	return open, err
}

// listen opens a port for both families.
func listen(p Protocol, port int) (io.Closer, error) {
	address := ":" + strconv.Itoa(port)
	if p == UDP {
		return net.ListenPacket("udp", address)
	}
	return net.Listen("tcp", address)
}
