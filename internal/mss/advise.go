package mss

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	"richwall/grammar"
)

// Report is what to set on a machine.
type Report struct {
	Forward4 bool     `json:"forwards_ipv4"`
	Forward6 bool     `json:"forwards_ipv6"`
	Paths    []Path   `json:"paths"`
	Notes    []string `json:"notes,omitempty"`
}

// State says whether a path is clamped.
type State string

// The states.
const (
	NotNeeded State = "not needed"
	Clamped   State = "yes"
	InPart    State = "in part"
	Unclamped State = "no"
	Unknown   State = "unknown" // the rules cannot be read
)

// Path is a link that packets are routed over, or an IPsec tunnel through one.
type Path struct {
	Name      string    `json:"name"` // the interface, or "IPsec to" a prefix
	Interface string    `json:"interface"`
	Kind      string    `json:"kind"`
	MTU       int       `json:"kernel_mtu"` // bytes, as the kernel has it
	Fit       Fit       `json:"fits"`
	Routes    []string  `json:"routes,omitempty"`
	Clamped   State     `json:"clamped"`
	Why       string    `json:"why,omitempty"` // if no clamp is needed
	Segments  []Meeting `json:"segments,omitempty"`
	Zone      string    `json:"zone,omitempty"`  // of the interface, if it is known
	Rules     []string  `json:"rules,omitempty"` // rich rules for that zone
	Notes     []string  `json:"notes,omitempty"`
	families  []bool    // that are routed over it: IPv6 or not
	to        netip.Prefix
}

// Meeting is what a kind of segment meets.
type Meeting struct {
	Family  grammar.Family `json:"family"`
	Segment string         `json:"segment"` // "SYN out", "SYN/ACK in", "SYN in" or "SYN/ACK out"
	Clamped State          `json:"clamped"` // InPart means some such segments
	By      []Found        `json:"by,omitempty"`
}

// Options are what Advise is told beside the machine.
type Options struct {
	Rules        []*Rules
	RulesUnknown bool                      // they could not be read, so that what is not found may be there
	Zone         func(iface string) string // the zone of an interface, "" if it is not known; nil if none are
}

// Advise says for each path of a machine what fits, whether it is clamped, and what to add.
func Advise(m *Machine, o Options) *Report {
	r := &Report{Forward4: m.Forward4, Forward6: m.Forward6, Notes: m.Notes, Paths: m.paths()}
	for i := range r.Paths {
		p := &r.Paths[i]
		if o.Zone != nil {
			p.Zone = o.Zone(p.Interface)
		}
		p.need(m, r.Paths, o)
	}
	return r
}

// paths are those of the links that are up and have routes, in the order of the links, each followed by its IPsec tunnels.
func (m *Machine) paths() []Path {
	list := []Path{}
	for _, l := range m.Links {
		if !l.Up || l.Loopback {
			continue
		}
		first := len(list)
		for _, r := range m.Routes {
			if r.Link != l.Index {
				continue
			}
			mtu := l.MTU
			if r.MTU != 0 {
				mtu = min(mtu, r.MTU)
			}
			at := slices.IndexFunc(list[first:], func(p Path) bool { return p.MTU == mtu })
			if at < 0 {
				list = append(list, m.linkPath(l, mtu))
				at = len(list) - 1 - first
			}
			list[first+at].add(r.To)
		}
		for _, p := range m.Policies {
			if under, ok := m.toward(p.Remote, 0); ok && under.Index == l.Index {
				list = append(list, policyPath(p, l))
			}
		}
	}
	return list
}

// add notes that a prefix is routed over a path.
func (p *Path) add(to netip.Prefix) {
	if text := routeText(to); !slices.Contains(p.Routes, text) {
		p.Routes = append(p.Routes, text)
	}
	if six := to.Addr().Is6(); !slices.Contains(p.families, six) {
		p.families = append(p.families, six)
	}
}

func routeText(to netip.Prefix) string {
	if to.Bits() > 0 {
		return to.String()
	}
	if to.Addr().Is6() {
		return "default (IPv6)"
	}
	return "default (IPv4)"
}

// linkPath is the path over a link whose MTU, or that of its routes, is given.
func (m *Machine) linkPath(l Link, mtu int) Path {
	k := l.kind()
	p := Path{Name: l.Name, Interface: l.Name, Kind: k.words, MTU: mtu}
	p.Fit = k.inside.fit(m.narrower(&p, l, mtu))
	if mtu < l.MTU {
		p.Name = fmt.Sprintf("%s (routes with mtu %d)", l.Name, mtu)
	}
	return p
}

// narrower is the MTU that really fits a link: less than its own where a tunnel does not fit what it goes over.
func (m *Machine) narrower(p *Path, l Link, mtu int) int {
	overhead := l.overhead()
	if overhead < 0 {
		return mtu
	}
	under, ok := m.below(l)
	if !ok {
		return mtu
	}
	fits := under.MTU - overhead
	if mtu > fits {
		p.Notes = append(p.Notes, fmt.Sprintf("Its MTU is too large for %s, which it goes over (%d − %d): ip link set dev %s mtu %d", under.Name, under.MTU, overhead, l.Name, fits))
		return fits
	}
	if l.Type == "wireguard" && mtu > under.MTU-l.kind().overhead6 {
		p.Notes = append(p.Notes, fmt.Sprintf("Its MTU fits only while all peers are reached by IPv4; by IPv6 it is %d.", under.MTU-l.kind().overhead6))
	}
	return mtu
}

// policyPath is the path through an IPsec tunnel that leaves by a link. What it adds depends on ciphers and on NAT; what is
// taken off is customary, and enough for all.
func policyPath(p Policy, under Link) Path {
	k, _ := KindNamed("ipsec")
	path := Path{Name: "IPsec to " + p.To.String(), Interface: under.Name, Kind: "IPsec, customary", MTU: under.MTU, Fit: k.Over(under.MTU), to: p.To}
	path.add(p.To)
	return path
}

// fits is the MSS that fits a path, 0 if it does not carry the family.
func (p *Path) fits(six bool) int {
	if six {
		return p.Fit.IPv6
	}
	return p.Fit.IPv4
}

// need finds out whether a path has to be clamped, whether it is, and what to add.
func (p *Path) need(m *Machine, all []Path, o Options) {
	p.Clamped = NotNeeded
	forwards, wider := false, false
	for _, six := range p.families {
		if p.fits(six) == 0 || six && !m.Forward6 || !six && !m.Forward4 {
			continue
		}
		forwards = true
		var wide []string
		for _, q := range all {
			if q.fits(six) > p.fits(six) && q.Interface != p.Interface && !slices.Contains(wide, q.Interface) {
				wide = append(wide, q.Interface)
			}
		}
		if wide == nil {
			continue
		}
		wider = true
		for _, w := range ways {
			met := p.meeting(w, wide, six, o.Rules)
			if met.Clamped == Unclamped && o.RulesUnknown {
				met.Clamped = Unknown
			}
			p.Segments = append(p.Segments, met)
		}
	}
	switch {
	case !forwards:
		p.Why = "nothing is forwarded over it, and connections of this machine itself take the MTU from the route"
		return
	case !wider:
		p.Why = "no other path carries more"
		return
	}
	var states []State
	for _, m := range p.Segments {
		states = append(states, m.Clamped)
	}
	p.Clamped = together(states)
	if p.Clamped == Clamped {
		return
	}
	p.Rules = p.rules()
}

// way is one of the segments that limit what goes over a path.
type way struct {
	name       string
	out, reply bool
}

// ways are those of connections from here, and from there.
var ways = []way{{"SYN out", true, false}, {"SYN/ACK in", false, true}, {"SYN in", false, false}, {"SYN/ACK out", true, true}}

// meeting is what segments of one way meet that come from, or go to, interfaces of wider paths.
func (p *Path) meeting(w way, wide []string, six bool, rules []*Rules) Meeting {
	m := Meeting{Family: grammar.IPv4, Segment: w.name}
	if six {
		m.Family = grammar.IPv6
	}
	var states []State
	for _, other := range wide {
		s := segment{in: p.Interface, src: p.to, out: other, reply: w.reply, six: six}
		if w.out {
			s = segment{in: other, out: p.Interface, dst: p.to, reply: w.reply, six: six}
		}
		state := Unclamped
		for _, r := range rules {
			for _, f := range r.meets(s) {
				f.Enough = p.enough(f, six)
				m.By = append(m.By, f)
				switch {
				case !f.Enough:
				case f.Sure:
					state = Clamped
				case state == Unclamped:
					state = InPart
				}
			}
		}
		states = append(states, state)
	}
	m.Clamped = together(states)
	return m
}

// enough says whether a clamp is to a size that fits. What the kernel makes of the path's MTU is that of its route.
func (p *Path) enough(f Found, six bool) bool {
	if f.Size != 0 {
		return f.Size <= p.fits(six)
	}
	return p.MTU <= p.Fit.MTU
}

// together is the state of several: InPart unless all are the same.
func together(list []State) State {
	for _, s := range list {
		if s != list[0] {
			return InPart
		}
	}
	return list[0]
}

// rules are the rich rules to add to the zone of a path's interface.
func (p *Path) rules() []string {
	clamp := &grammar.TCPMSSClamp{Value: "pmtu"}
	if p.Fit.MTU != p.MTU {
		clamp = &grammar.TCPMSSClamp{MTU: max(p.Fit.MTU, grammar.MinMTU)}
	}
	if !p.to.IsValid() {
		return []string{(&grammar.Rule{Element: clamp}).String()}
	}
	family, six := grammar.IPv4, p.to.Addr().Is6()
	if six {
		family = grammar.IPv6
	}
	clamp = &grammar.TCPMSSClamp{Value: strconv.Itoa(max(p.fits(six), grammar.MinMSS))}
	return []string{
		(&grammar.Rule{Family: family, Destination: &grammar.Destination{Address: p.to.String()}, Element: clamp}).String(),
		(&grammar.Rule{Family: family, Source: &grammar.Source{Address: p.to.String()}, Element: clamp}).String(),
	}
}
