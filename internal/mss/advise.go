package mss

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

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
	Routes    []string  `json:"routes,omitempty"`      // no more than 100
	More      int       `json:"more_routes,omitempty"` // how many are left out
	Clamped   State     `json:"clamped"`
	Why       string    `json:"why,omitempty"` // if no clamp is needed
	Segments  []Meeting `json:"segments,omitempty"`
	Zone      string    `json:"zone,omitempty"`  // of the interface, if it is known
	Rules     []string  `json:"rules,omitempty"` // rich rules for that zone
	Notes     []string  `json:"notes,omitempty"`
	families  []bool    // that are routed over it: IPv6 or not
	back      [2]span   // MTUs that the kernel finds for the way back over it, of IPv4 and IPv6; 0 if it was not asked
	internet  bool      // what lies beyond carries no more than an Ethernet
	vrf       string    // the VRF that the interface is a part of, "" for none
	tunnel    bool      // IPsec without an interface
	from, to  netip.Prefix
	mark      uint32 // that packets of an IPsec tunnel have, in the bits of mask
	mask      uint32
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
	m = m.with(o)
	r := &Report{Forward4: m.Forward4, Forward6: m.Forward6, Notes: m.Notes, Paths: m.paths()}
	rules := merge(o.Rules)
	for i := range r.Paths {
		p := &r.Paths[i]
		if o.Zone != nil {
			p.Zone = o.Zone(p.Interface)
		}
		p.need(m, r.Paths, rules, o.RulesUnknown)
	}
	if note := uplinks(r.Paths); note != "" {
		r.Notes = append(slices.Clone(r.Notes), note)
	}
	return r
}

// with is the machine with what rules say of it.
func (m *Machine) with(o Options) *Machine {
	next := *m
	next.Marks = m.Marks || o.RulesUnknown || slices.ContainsFunc(o.Rules, func(r *Rules) bool { return r.marks })
	return &next
}

// uplinks says that default routes go by links of several zones, where some of them are to be clamped: a connection that goes out by the one
// and is answered by the other has its SYN in the one zone and its SYN/ACK in the other.
func uplinks(paths []Path) string {
	var links, places []string
	needed := false
	for _, p := range paths {
		if p.Zone == "" || !slices.ContainsFunc(p.Routes, func(r string) bool { return strings.HasPrefix(r, "default (") }) {
			continue
		}
		needed = needed || p.Clamped != NotNeeded
		if !slices.Contains(links, p.Interface) {
			links = append(links, p.Interface)
		}
		if !slices.Contains(places, p.Zone) {
			places = append(places, p.Zone)
		}
	}
	if !needed || len(places) < 2 {
		return ""
	}
	return fmt.Sprintf("There are default routes by %s, in the zones %s. Of a connection that goes out by one and is answered by another each zone clamps its part alone: bind them all to one zone.",
		strings.Join(links, ", "), strings.Join(places, ", "))
}

// paths are those of the links that are up and have routes, in the order of the links, each followed by its IPsec tunnels.
func (m *Machine) paths() []Path {
	lead := m.lead()
	byLink := map[int][]wayKey{}
	for _, k := range lead.order {
		byLink[int(k.link)] = append(byLink[int(k.link)], k)
	}
	tunnels := map[string][]Path{}
	for _, p := range m.Tunnels() {
		for _, path := range m.policyPaths(p) {
			tunnels[path.Interface] = append(tunnels[path.Interface], path)
		}
	}
	list := []Path{}
	for _, l := range m.Links {
		list = append(list, m.linkPaths(l, byLink[l.Index], lead)...)
		if l.Up && !l.Loopback {
			list = append(list, tunnels[l.Name]...)
		}
	}
	return list
}

// linkPaths are the paths over a link, by the MTUs of its routes. Default routes are one of their own where the link carries more than Ethernet.
func (m *Machine) linkPaths(l Link, keys []wayKey, lead *leading) []Path {
	if len(keys) == 0 {
		return nil
	}
	r := m.room(l, map[int]bool{})
	var list []Path
	index := map[wayKey]int{}
	for _, k := range keys {
		one := k
		one.internet = k.internet && min(r.mtu, int(k.mtu)) > Ethernet
		at, ok := index[one]
		if !ok {
			at = len(list)
			index[one] = at
			list = append(list, m.linkPath(l, r, one))
		}
		p := &list[at]
		for _, to := range lead.routes[k].list {
			if len(p.Routes) < kept {
				p.add(to)
			} else {
				p.More++
			}
		}
		p.More += lead.routes[k].more
		p.addFamilies(lead.routes[k].families)
		for i, six := range []bool{false, true} {
			if s := lead.back[six][k]; s != nil {
				p.back[i].add(s.low)
				p.back[i].add(s.high)
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
	p.addFamilies([2]bool{!to.Addr().Is6(), to.Addr().Is6()})
}

func (p *Path) addFamilies(have [2]bool) {
	for i, six := range []bool{false, true} {
		if have[i] && !slices.Contains(p.families, six) {
			p.families = append(p.families, six)
		}
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

// linkPath is the path over a link that has room for r, by routes of an MTU.
func (m *Machine) linkPath(l Link, r room, k wayKey) Path {
	kind, mtu := l.kind(), int(k.mtu)
	p := Path{Name: l.Name, Interface: l.Name, Kind: kind.words, MTU: mtu, internet: k.internet}
	if vrf, ok := m.Master(l); ok && vrf.Type == "vrf" {
		p.vrf = vrf.Name
	}
	switch {
	case k.internet:
		p.Name += " (default route)"
		p.Fit = kind.inside.fit(Ethernet)
		p.Notes = append(p.Notes, fmt.Sprintf("The Internet carries no more than %d bytes, whatever the first link does. If all that this route leads to carries more, no clamp is needed.", Ethernet))
		return p
	case mtu != l.MTU:
		p.Name = fmt.Sprintf("%s (routes with mtu %d)", l.Name, mtu)
	}
	p.Fit = kind.inside.fit(min(mtu, r.mtu))
	switch {
	case mtu > l.MTU && r.mtu == l.MTU:
		p.Notes = append(p.Notes, fmt.Sprintf("The MTU of these routes is more than the %d bytes of the link, and what is larger vanishes there.", l.MTU))
	case mtu > r.mtu:
		p.Notes = append(p.Notes, r.why)
	}
	if r.note != "" {
		p.Notes = append(p.Notes, r.note)
	}
	return p
}

// fits is the MSS that fits a path, 0 if it does not carry the family.
func (p *Path) fits(six bool) int {
	if six {
		return p.Fit.IPv6
	}
	return p.Fit.IPv4
}

// nothingForwarded is why no clamp is needed where no family is forwarded.
const nothingForwarded = "nothing is forwarded over it, and connections of this machine itself take the MTU from the route"

// need finds out whether a path has to be clamped, whether it is, and what to add.
func (p *Path) need(m *Machine, all []Path, rules *Rules, unknown bool) {
	p.Clamped = NotNeeded
	forwards, wider := false, false
	for _, six := range p.families {
		if p.fits(six) == 0 || six && !m.Forward6 || !six && !m.Forward4 {
			continue
		}
		forwards = true
		wide := p.wider(all, six)
		if wide == nil {
			continue
		}
		wider = true
		for _, w := range legs {
			met := p.meeting(w, wide, six, rules)
			if met.Clamped == Unclamped && unknown {
				met.Clamped = Unknown
			}
			p.Segments = append(p.Segments, met)
		}
	}
	switch {
	case !forwards:
		p.Why = nothingForwarded
	case !wider:
		p.Why = "no other path carries more"
	}
	if p.Why != "" {
		if p.internet {
			p.Notes = nil
		}
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
	p.Rules = p.rules(m)
}

// other is a wider path, by its interface: what comes from there, or goes there, may be too large.
type other struct {
	iface, vrf string
	mss        int // bytes, that it carries
	least      int // the smallest that the kernel may make of the path's MTU there, in bytes of MSS
}

// wider are the interfaces of paths that carry more, each with the most that a path over it does.
func (p *Path) wider(all []Path, six bool) []other {
	var list []other
	at := map[string]int{}
	for i := range all {
		q := &all[i]
		if q.fits(six) <= p.fits(six) || q.Interface == p.Interface && !p.internet {
			continue
		}
		k, ok := at[q.Interface]
		if !ok {
			k = len(list)
			at[q.Interface] = k
			list = append(list, other{q.Interface, q.vrf, 0, maxMSS})
		}
		list[k].mss = max(list[k].mss, q.fits(six))
		list[k].least = min(list[k].least, q.seen(true, six).low, q.seen(false, six).low)
	}
	return list
}

// leg is one of the segments that limit what goes over a path.
type leg struct {
	name       string
	out, reply bool
}

// legs are those of connections from here, and from there.
var legs = []leg{{"SYN out", true, false}, {"SYN/ACK in", false, true}, {"SYN in", false, false}, {"SYN/ACK out", true, true}}

// meeting is what segments of one direction meet that come from, or go to, interfaces of wider paths.
func (p *Path) meeting(w leg, wide []other, six bool, rules *Rules) Meeting {
	m := Meeting{Family: grammar.IPv4, Segment: w.name}
	if six {
		m.Family = grammar.IPv6
	}
	found := findings{}
	var states []State
	for _, o := range wide {
		s := segment{
			in: p.Interface, inVRF: p.vrf, src: p.to, out: o.iface, dst: p.from, reply: w.reply, six: six, pmtu: p.seen(w.out, six),
		}
		if w.out {
			s.in, s.inVRF, s.src, s.out, s.dst = o.iface, o.vrf, p.from, p.Interface, p.to
		}
		s.pmtu.low = min(s.pmtu.low, o.least) // the other side's MTU counts too
		states = append(states, rules.clamped(s, p.fits(six), o.mss, &found))
	}
	m.By = found.list
	m.Clamped = together(states)
	return m
}

// seen are the sizes that the kernel makes of the path's MTU, in bytes of MSS, for what goes out or comes in by it.
func (p *Path) seen(out, six bool) span {
	header, i := header4, 0
	if six {
		header, i = header6, 1
	}
	mtu := span{p.MTU, p.MTU}
	if !out && p.back[i].high != 0 {
		mtu = p.back[i]
	}
	return span{max(mtu.low-header, grammar.MinMSS), max(mtu.high-header, grammar.MinMSS)}
}

// misled says whether the kernel may find a larger MTU than fits for the way back.
func (p *Path) misled(six bool) bool {
	return slices.Contains(p.families, six) && p.fits(six) != 0 && p.seen(false, six).high > p.fits(six)
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
func (p *Path) rules(m *Machine) []string {
	if p.tunnel {
		return p.policyRules()
	}
	clamp := &grammar.TCPMSSClamp{Value: "pmtu"}
	if p.Fit.MTU != p.MTU {
		clamp = &grammar.TCPMSSClamp{MTU: max(p.Fit.MTU, grammar.MinMTU)}
	}
	for _, six := range []bool{false, true} {
		if p.misled(six) && p.Fit.MTU == p.MTU && (six && m.Forward6 || !six && m.Forward4) {
			p.Notes = append(p.Notes, p.elsewhere(m, six))
			clamp = &grammar.TCPMSSClamp{MTU: max(p.Fit.MTU, grammar.MinMTU)}
			break
		}
	}
	return []string{(&grammar.Rule{Element: clamp}).String()}
}

// elsewhere says what the kernel finds for the way back of what comes in, and why.
func (p *Path) elsewhere(m *Machine, six bool) string {
	back, finds := p.back[0], "no route"
	if six {
		back = p.back[1]
	}
	if back.high != noWay {
		finds = fmt.Sprintf("one of %d bytes", back.high)
	}
	return fmt.Sprintf("value=pmtu is too large for what comes in by it: the kernel looks for the route back by the address alone, and finds %s (%s).", finds, m.why(p, six))
}
