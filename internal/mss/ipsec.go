package mss

import (
	"fmt"
	"math"
	"net/netip"
	"strconv"

	"richwall/grammar"
)

// What ESP adds to a packet in transport mode (RFC 4303), in bytes, with AES-CBC and HMAC-SHA-256, the largest of the usual ciphers: the header
// with its IV, the block that it is padded to, padding's length and next header, and the ICV.
const (
	espHeader  = 8 + 16
	espBlock   = 16
	espTrailer = 2
	espICV     = 16
)

// outerHeader is the length of an IP header.
func outerHeader(six bool) int {
	if six {
		return 40
	}
	return 20
}

// inside is what is left of an MTU for a packet that IPsec makes larger; six says that the packet is one of IPv6.
func (p Policy) inside(mtu int, six bool) int {
	if !p.Transport {
		k, _ := KindNamed("ipsec")
		return k.Over(mtu).MTU
	}
	header := outerHeader(six)
	return header + (mtu-header-espHeader-espICV)/espBlock*espBlock - espTrailer
}

// encrypts is the policy that a tunnel's own packets meet, false if none is for them. Where a tunnel has many ends, or none that is known, one
// for its protocol and port counts. So does one for a mark, if it is for that port: whoever made it marks those packets.
func (m *Machine) encrypts(l Link) (Policy, bool) {
	k := l.kind()
	for _, p := range m.Policies {
		exact := p.Protocol != 0 && p.Protocol == k.protocol && p.Port != 0 && p.Port == l.Port
		switch {
		case p.ID != 0, p.To.Addr().Is6() != l.Outside6:
		case p.Mask != 0 && !exact && p.Mark&p.Mask != l.Mark&p.Mask:
		case p.Protocol != 0 && p.Protocol != k.protocol, p.Port != 0 && p.Port != l.Port:
		case l.Type == "xfrm", l.Type == "vti", l.Type == "vti6": // those are what encrypts
		case !l.Remote.IsValid() || l.Remote.IsMulticast():
			if exact {
				return p, true
			}
		case p.To.Contains(l.Remote) && (!l.Local.IsValid() || !p.From.IsValid() || p.From.Contains(l.Local)):
			return p, true
		}
	}
	return Policy{}, false
}

// belongs says whether a policy is that of an xfrm or vti interface, whose routes say what goes by it.
func (m *Machine) belongs(p Policy) bool {
	if p.ID != 0 {
		return true // without such an interface no packet meets it
	}
	for _, l := range m.Links {
		if (l.Type == "vti" || l.Type == "vti6") && p.Mask != 0 && l.ID != 0 && p.Mark&p.Mask == l.ID&p.Mask {
			return true
		}
	}
	return false
}

// Outside are the links by which an IPsec tunnel leaves.
func (m *Machine) Outside(p Policy) []Link {
	var list []Link
	for _, h := range m.lookup(p.Remote, flow{src: p.Local, own: true}) {
		if l, ok := m.link(h.link); ok {
			list = append(list, l)
		}
	}
	return list
}

// Tunnels are the policies that take forwarded TCP segments into an IPsec tunnel without an interface.
func (m *Machine) Tunnels() []Policy {
	var list []Policy
	for _, p := range m.Policies {
		if !p.Transport && (p.Protocol == 0 || p.Protocol == 6) && !m.belongs(p) && p.Remote.IsValid() {
			list = append(list, p)
		}
	}
	return list
}

// policyPaths are the paths through an IPsec tunnel, one for each link that it may leave by. What it adds depends on ciphers and on NAT; what is
// taken off is customary, and enough for all.
func (m *Machine) policyPaths(p Policy) []Path {
	var list []Path
	for _, under := range m.Outside(p) {
		mtu, _ := m.Room(under)
		path := Path{
			Name: "IPsec to " + p.To.String(), Interface: under.Name, Kind: "IPsec, customary", MTU: under.MTU, Fit: both.fit(p.inside(mtu, false)),
			to: p.To, from: p.From, mark: p.Mark & p.Mask, mask: p.Mask, tunnel: true,
		}
		if p.Mask != 0 {
			path.Name += fmt.Sprintf(", mark %d", p.Mark&p.Mask)
		}
		path.add(p.To)
		list = append(list, path)
	}
	return list
}

// policyRules are the rich rules for what goes through an IPsec tunnel: for connections into it, and out of it.
func (p *Path) policyRules() []string {
	family, six := grammar.IPv4, p.to.Addr().Is6()
	if six {
		family = grammar.IPv6
	}
	size := max(p.fits(six), grammar.MinMSS)
	if p.mask != 0 {
		match := fmt.Sprintf("meta mark %d", p.mark)
		if p.mask != math.MaxUint32 {
			match = fmt.Sprintf("meta mark & 0x%x == %d", p.mask, p.mark)
		}
		p.Notes = append(p.Notes, fmt.Sprintf("Only packets with the mark %d go by it, and no rich rule asks for a mark. In a chain of nft at hook forward: "+
			"%s tcp flags syn tcp option maxseg size set %d", p.mark, match, size))
		return nil
	}
	clamp := &grammar.TCPMSSClamp{Value: strconv.Itoa(size)}
	into, out := &grammar.Rule{Family: family, Element: clamp}, &grammar.Rule{Family: family, Element: clamp}
	if limited(p.to) {
		into.Destination, out.Source = &grammar.Destination{Address: p.to.String()}, &grammar.Source{Address: p.to.String()}
	}
	if limited(p.from) {
		into.Source, out.Destination = &grammar.Source{Address: p.from.String()}, &grammar.Destination{Address: p.from.String()}
	}
	if into.String() == out.String() {
		return []string{into.String()}
	}
	return []string{into.String(), out.String()}
}

// limited says whether a prefix names some addresses, and not all.
func limited(p netip.Prefix) bool { return p.IsValid() && p.Bits() > 0 }
