package richwall

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"richwall/grammar"
	"richwall/internal/mss"
	"richwall/zones"
)

// onMachine warns about clamps that do less on a machine than they seem to. An interface that no zone names counts as one of
// the default zone; a zone with sources takes packets from any interface, and then no MTU says what is too large for it.
func onMachine(cfg *zones.Config, m *mss.Machine) zones.Problems {
	v := &machineCheck{cfg: cfg, machine: m, wrong: sync.OnceValue(func() [2]map[string]string {
		return [2]map[string]string{m.Misled(false), m.Misled(true)}
	})}
	for _, name := range zones.Names(cfg.Zones) {
		z := cfg.Zones[name]
		v.place("zone "+name, &z.Meta, &z.Content, v.side([]string{name}))
	}
	for _, name := range zones.Names(cfg.Policies) {
		if p := cfg.Policies[name]; !p.Disable {
			v.place("policy "+name, &p.Meta, &p.Content, v.side(p.IngressZones), v.side(p.EgressZones))
		}
	}
	return v.problems
}

// machineCheck collects warnings.
type machineCheck struct {
	cfg      *zones.Config
	machine  *mss.Machine
	wrong    func() [2]map[string]string // why pmtu is wrong for links, by their names, for IPv4 and IPv6
	problems zones.Problems
}

// side is where connections of a zone or policy come from or go to.
type side struct {
	links []mss.Link
	all   bool // by no other links
}

// side is that of some zones.
func (v *machineCheck) side(names []string) side {
	s := side{all: true}
	for _, name := range names {
		z := v.cfg.Zones[name]
		if name == zones.ZoneHost || name == zones.ZoneAny || z == nil || len(z.Sources) > 0 {
			s.all = false
		}
	}
	for _, l := range v.machine.Links {
		if l.Up && !l.Loopback && (slices.Contains(names, zones.ZoneAny) || slices.Contains(names, v.zoneOf(l.Name))) {
			s.links = append(s.links, l)
		}
	}
	s.all = s.all && len(s.links) > 0
	return s
}

// zoneOf is the zone of an interface: one that names it, or else the start of its name.
func (v *machineCheck) zoneOf(iface string) string {
	byStart := v.cfg.Conf.DefaultZone
	for _, name := range zones.Names(v.cfg.Zones) {
		for _, bound := range v.cfg.Zones[name].Interfaces {
			start, some := strings.CutSuffix(bound, "+")
			switch {
			case bound == iface:
				return name
			case some && strings.HasPrefix(iface, start):
				byStart = name
			}
		}
	}
	return byStart
}

// clampSite is a zone or policy with its clamps.
type clampSite struct {
	*machineCheck
	name  string
	path  string
	rules []zones.RichRule // clamps that lower
	sides []side
	links []mss.Link // of all sides
}

// place looks at a zone or policy.
func (v *machineCheck) place(name string, m *zones.Meta, c *zones.Content, sides ...side) {
	s := clampSite{machineCheck: v, name: name, path: m.Origin.Path, sides: sides}
	for _, r := range c.Rules {
		if e, ok := r.Element.(*grammar.TCPMSSClamp); ok && !e.Raise {
			s.rules = append(s.rules, r)
		}
	}
	if len(s.rules) == 0 {
		return
	}
	for _, one := range sides {
		for _, l := range one.links {
			if !slices.Contains(s.links, l) {
				s.links = append(s.links, l)
			}
		}
	}
	s.tooLarge()
	s.bridged()
	s.linked()
	s.uplinks()
	s.misled()
	s.datagrams()
}

// warn reports something at a rule.
func (s *clampSite) warn(r zones.RichRule, code grammar.Code, format string, args ...any) {
	p := &zones.Problem{Path: s.path, Line: r.Line, Code: code, Severity: zones.Warning, Msg: fmt.Sprintf(format, args...)}
	if r.Path != "" {
		p.Path = r.Path
	}
	s.problems = append(s.problems, p)
}

// sizeOf is what a clamp sets, in bytes; 0 for what the path allows, or if the rule is not for the family; grammar.LinkMSS for what links carry.
func sizeOf(r zones.RichRule, f grammar.Family) int {
	if r.Family != grammar.AnyFamily && r.Family != f {
		return 0
	}
	return zones.ClampSize(r.Element.(*grammar.TCPMSSClamp), f)
}

// firstToPath is the first clamp to the path's MTU that is for a family; false if there is none.
func (s *clampSite) firstToPath(six bool) (zones.RichRule, bool) {
	i := slices.IndexFunc(s.rules, func(r zones.RichRule) bool {
		f := familyOf(six)
		return (r.Family == grammar.AnyFamily || r.Family == f) && sizeOf(r, f) == 0
	})
	if i < 0 {
		return zones.RichRule{}, false
	}
	return s.rules[i], true
}

func familyOf(six bool) grammar.Family {
	if six {
		return grammar.IPv6
	}
	return grammar.IPv4
}

// forwarded are the IP versions, IPv6 or not, whose packets the machine forwards.
func (s *clampSite) forwarded() []bool {
	var list []bool
	if s.machine.Forward4 {
		list = append(list, false)
	}
	if s.machine.Forward6 {
		list = append(list, true)
	}
	return list
}

// widest is the most that a segment to or from here can carry, in bytes: the widest link of the side where that is less;
// 0 if any size is possible.
func (s *clampSite) widest(six bool) (size int, at mss.Link) {
	for _, one := range s.sides {
		if !one.all {
			continue
		}
		l := slices.MaxFunc(one.links, func(a, b mss.Link) int { return s.machine.MSS(a, six) - s.machine.MSS(b, six) })
		if n := s.machine.MSS(l, six); size == 0 || n < size {
			size, at = n, l
		}
	}
	return size, at
}

// tooLarge finds sizes that no link of the place carries.
func (s *clampSite) tooLarge() {
	for _, r := range s.rules {
		for _, six := range s.forwarded() {
			fits, at := s.widest(six)
			if set := sizeOf(r, familyOf(six)); fits > 0 && set > fits {
				room, why := s.machine.Room(at)
				carries, or := fmt.Sprintf("the MTU of %s, %d, carries %d", at.Name, at.MTU, fits), ", or value=pmtu"
				if why != "" {
					carries, or = fmt.Sprintf("%s carries %d (%s)", at.Name, fits, strings.TrimSuffix(why, ".")), ""
				}
				s.warn(r, zones.PartlyApplied, "%s are let through with up to %d bytes, which do not fit: %s, and nothing of %s has more; "+
					"write mtu=%d%s", segments(six), set, carries, s.name, room, or)
				break
			}
		}
	}
}

// header is the length of the headers before a segment's data, in bytes.
func header(six bool) int {
	if six {
		return 60
	}
	return 40
}

func segments(six bool) string {
	if six {
		return "IPv6 segments"
	}
	return "IPv4 segments"
}

// bridged finds interfaces whose packets, or some of them, are bridged instead of routed.
func (s *clampSite) bridged() {
	for _, l := range s.links {
		master, ok := s.machine.Master(l)
		if ok && master.Type == "bridge" {
			s.warn(s.rules[0], zones.NotApplied, "nothing is clamped by %s: it is a port of the bridge %s, and packets come in and go by the bridge; bind %s to a zone that clamps",
				l.Name, master.Name, master.Name)
		}
		var ports []string
		for _, port := range s.machine.Ports(l) {
			ports = append(ports, port.Name)
		}
		if l.Type == "bridge" && len(ports) > 1 {
			s.warn(s.rules[0], zones.PartlyApplied, "what the bridge %s passes on between its ports %s is not routed, and not clamped; "+
				"give the hosts on them the smallest MTU of their links", l.Name, strings.Join(ports, ", "))
		}
	}
}

// misled finds what leads the kernel to the wrong MTU when it looks for the path: a link that carries less than its MTU, and routes that are
// chosen by more than the address, by which alone it asks for the way back.
func (s *clampSite) misled() {
	for _, six := range s.forwarded() {
		r, ok := s.firstToPath(six)
		if !ok {
			continue
		}
		s.tunnels(r, six)
		why := ""
		for _, l := range s.links {
			if why == "" && six {
				why = s.wrong()[1][l.Name]
			} else if why == "" {
				why = s.wrong()[0][l.Name]
			}
		}
		if why != "" {
			s.warn(r, zones.PartlyApplied, "pmtu may be the MTU of another route: %s, and the way back of a packet is looked up by its address alone; write mtu=", why)
		}
		narrow := s.narrow(r)
		if why != "" || narrow {
			return
		}
	}
}

// linked finds links that carry less than value=link takes them to.
func (s *clampSite) linked() {
	i := slices.IndexFunc(s.rules, func(r zones.RichRule) bool {
		return sizeOf(r, familyOf(false)) == grammar.LinkMSS || sizeOf(r, familyOf(true)) == grammar.LinkMSS
	})
	if i < 0 {
		return
	}
	for _, l := range s.links {
		taken := l.MTU
		for _, port := range s.machine.Ports(l) {
			if port.Up {
				taken = min(taken, port.MTU)
			}
		}
		if mtu, why := s.machine.Room(l); why != "" && mtu < taken {
			s.warn(s.rules[i], zones.PartlyApplied, "value=link takes %s to carry %d, and only %d get through: %s; write mtu=%d", l.Name, taken, mtu, strings.TrimSuffix(why, "."), mtu)
		}
	}
}

// uplinks finds default routes of table main by links of another zone, if links of this one have some too. Connections that go out by the one and come in by the
// other have their SYN here and their SYN/ACK there, and are clamped by half.
func (s *clampSite) uplinks() {
	zone, is := strings.CutPrefix(s.name, "zone ")
	if !is {
		return
	}
	here, there := "", ""
	for _, r := range s.machine.Routes {
		if r.To.Bits() != 0 || r.Table != 0 {
			continue
		}
		i := slices.IndexFunc(s.machine.Links, func(l mss.Link) bool { return l.Index == int(r.Link) })
		if i < 0 || !s.machine.Links[i].Up || s.machine.Links[i].Loopback {
			continue
		}
		name := s.machine.Links[i].Name
		switch other := s.zoneOf(name); {
		case other == zone:
			here = name
		case !s.clampsToo(other):
			there = name
		}
	}
	if here != "" && there != "" {
		s.warn(s.rules[0], zones.PartlyApplied, "there are default routes by %s, and by %s, which is in zone %s, that does not clamp: of a connection that goes out by the one and "+
			"is answered by the other only one of SYN and SYN/ACK is clamped; bind both to one zone", here, there, s.zoneOf(there))
	}
}

// clampsToo says whether a zone has a clamp.
func (s *clampSite) clampsToo(name string) bool {
	z := s.cfg.Zones[name]
	return z != nil && slices.ContainsFunc(z.Rules, func(r zones.RichRule) bool {
		_, ok := r.Element.(*grammar.TCPMSSClamp)
		return ok
	})
}

// narrow finds links that carry less than the MTU which the kernel takes for theirs.
func (s *clampSite) narrow(r zones.RichRule) (any bool) {
	for _, l := range s.links {
		if mtu, why := s.machine.Room(l); why != "" {
			s.warn(r, zones.PartlyApplied, "pmtu is the MTU of %s, %d, of which only %d get through: %s; write mtu=%d", l.Name, l.MTU, mtu, strings.TrimSuffix(why, "."), mtu)
			any = true
		}
	}
	return any
}

// tunnels finds IPsec tunnels by links of the place that no clamp to a number is for.
func (s *clampSite) tunnels(r zones.RichRule, six bool) {
	for _, p := range s.machine.Tunnels() {
		for _, outside := range s.machine.Outside(p) {
			if p.To.Addr().Is6() != six || !slices.Contains(s.links, outside) || s.numbered(p) {
				continue
			}
			s.warn(r, zones.PartlyApplied, "pmtu does not see the IPsec tunnel to %s: the way back into it is taken for one by %s, with its whole MTU of %d; "+
				"add rules with a number, which richwall mss prints", p.To, outside.Name, outside.MTU)
			break
		}
	}
}

// numbered says whether any clamp to a number may be for what goes through a tunnel.
func (s *clampSite) numbered(p mss.Policy) bool {
	f := familyOf(p.To.Addr().Is6())
	is := func(r zones.RichRule) bool {
		if _, ok := r.Element.(*grammar.TCPMSSClamp); !ok || sizeOf(r, f) == 0 {
			return false
		}
		meets := func(address string) bool {
			to, err := grammar.ParseAddress(f, address)
			return address == "" || err != nil || to.Overlaps(p.To)
		}
		return r.Source != nil && meets(r.Source.Address) || r.Destination != nil && meets(r.Destination.Address) ||
			r.Source == nil && r.Destination == nil
	}
	for _, z := range s.cfg.Zones {
		if slices.ContainsFunc(z.Rules, is) {
			return true
		}
	}
	for _, p := range s.cfg.Policies {
		if slices.ContainsFunc(p.Rules, is) {
			return true
		}
	}
	return false
}

// datagrams finds a number below what all links of the place carry: something further on carries less, which the routes do
// not say, so that this machine lets larger datagrams through and fragments none. Whoever has set IPNoPMTUDisc knows.
func (s *clampSite) datagrams() {
	if s.cfg.Own.IPNoPMTUDisc != "keep" || len(s.links) == 0 {
		return
	}
	for _, six := range s.forwarded() {
		narrowest := slices.MinFunc(s.links, func(a, b mss.Link) int { return s.machine.MSS(a, six) - s.machine.MSS(b, six) })
		carries := s.machine.MSS(narrowest, six)
		for _, r := range s.rules {
			set := sizeOf(r, familyOf(six))
			if set <= 0 || set >= carries {
				continue
			}
			mtu := set + header(six)
			s.warn(r, zones.PartlyApplied, "a clamp is for TCP alone: %s still carries UDP packets (QUIC, DNS, WireGuard) of more than %d bytes; "+
				"give the routes there an MTU (ip route … mtu %d), and for what this machine sends over IPv4 see IPNoPMTUDisc of richwall.conf, "+
				"which is net.ipv4.ip_no_pmtu_disc", narrowest.Name, mtu, mtu)
			return
		}
	}
}
