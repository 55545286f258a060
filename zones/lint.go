package zones

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"richwall/grammar"
)

// The codes that only Lint reports.
const (
	NotApplied    grammar.Code = "NOT_APPLIED"    // it never has an effect
	PartlyApplied grammar.Code = "PARTLY_APPLIED" // it has an effect on less than it seems to
	ZoneConflict  grammar.Code = "ZONE_CONFLICT"  // two zones want the same packets
)

// Lint is what does nothing, or other than it looks like, in a configuration that Check has nothing against. All of it is
// of severity Warning, and says what to do. Only the administrator's objects are looked at, not the shipped ones.
func Lint(c *Config) Problems {
	l := &linter{checker: checker{Config: c}, parts: map[string][]*Meta{}, left: mostComparisons}
	for _, name := range Names(c.ZoneParts) {
		folder, _, _ := strings.Cut(name, "/")
		l.parts[folder] = append(l.parts[folder], &c.ZoneParts[name].Meta)
	}
	l.unusedObjects()
	l.unusedZones()
	l.overlappingSources()
	for _, name := range Names(c.Zones) {
		z := c.Zones[name]
		l.content(&z.Meta, &z.Content)
	}
	for _, name := range Names(c.Policies) {
		p := c.Policies[name]
		l.policy(p)
		l.content(&p.Meta, &p.Content)
	}
	if l.left < 0 {
		l.problems.add(&Problem{Severity: Warning, Code: PartlyApplied, Msg: fmt.Sprintf(
			"not all rules and sources were compared with each other: there are so many that more than %d comparisons would be needed", mostComparisons)})
	}
	return l.problems.report()
}

// mostComparisons is how many comparisons Lint makes, or rules' parts it looks at: some seconds' worth.
const mostComparisons = 20_000_000

// spend takes from the comparisons that are left, and is false if there are none.
func (l *linter) spend(n int) bool {
	l.left -= n
	return l.left >= 0
}

// linter collects warnings.
type linter struct {
	checker
	parts map[string][]*Meta // of the zones that are made up of several files
	left  int                // comparisons that may still be made
}

// warn reports something at an item of an object, such as "service ssh"; "" is the whole object. Shipped objects are
// passed over.
func (l *linter) warn(m *Meta, item string, code grammar.Code, format string, args ...any) {
	if !m.Origin.Builtin {
		l.add(l.part(m, item), item, Warning, code, format, args...)
	}
}

// part is the file of a zone made up of several that has an item.
func (l *linter) part(m *Meta, item string) *Meta {
	for _, part := range l.parts[m.Name] {
		if _, has := part.places[item]; has {
			return part
		}
	}
	return m
}

// warnRule reports something at a rule.
func (l *linter) warnRule(m *Meta, r RichRule, code grammar.Code, format string, args ...any) {
	l.refusedRule(m, r, Warning, refuse(code, format, args...))
}

// unusedObjects finds services, ipsets and helpers that nothing refers to.
func (l *linter) unusedObjects() {
	services, sets, helpers := l.usedServices(), l.usedSets(), l.usedHelpers()
	for _, name := range Names(l.Services) {
		if !services[name] {
			l.warn(&l.Services[name].Meta, "", NotApplied,
				"nothing uses service %s: no zone, policy or used service names it; add it to one, or delete the file", name)
		}
	}
	for _, name := range Names(l.IPSets) {
		if !sets[name] {
			l.warn(&l.IPSets[name].Meta, "", NotApplied,
				"nothing uses ipset %s: it is no zone's source, and no rule names it; use it, or delete the file", name)
		}
	}
	for _, name := range Names(l.Helpers) {
		if !helpers[name] {
			l.warn(&l.Helpers[name].Meta, "", NotApplied,
				"nothing uses helper %s: no service names it; add it to the service whose connections it follows, or delete the file", name)
		}
	}
}

// usedSets are the ipsets that are a zone's source, or that a rule or a direct rule names.
func (l *linter) usedSets() map[string]bool {
	used := map[string]bool{}
	content := func(c *Content) {
		for _, r := range c.Rules {
			if r.Source != nil {
				used[r.Source.IPSet] = true
			}
			if r.Destination != nil {
				used[r.Destination.IPSet] = true
			}
		}
	}
	for _, z := range l.Zones {
		content(&z.Content)
		for _, source := range z.Sources {
			if name, ok := strings.CutPrefix(source, "ipset:"); ok {
				used[name] = true
			}
		}
	}
	for _, p := range l.Policies {
		content(&p.Content)
	}
	for _, r := range l.Direct.Rules {
		useAll(used, r.Args)
	}
	for _, p := range l.Direct.Passthroughs {
		useAll(used, p.Args)
	}
	return used
}

func useAll(used map[string]bool, names []string) {
	for _, name := range names {
		used[name] = true
	}
}

// usedHelpers are the helpers that a service names. A module without ports of its own stands for the helper that is named
// like it.
func (l *linter) usedHelpers() map[string]bool {
	used := map[string]bool{}
	for _, s := range l.Services {
		useAll(used, s.Helpers)
		useAll(used, s.Modules)
		for _, name := range s.Modules {
			if h := l.Helpers[name]; h != nil {
				used[strings.ReplaceAll(strings.TrimPrefix(h.Module, "nf_conntrack_"), "_", "-")] = true
			}
		}
	}
	return used
}

func (l *linter) unusedZones() {
	named := map[string]bool{}
	for _, p := range l.Policies {
		useAll(named, p.IngressZones)
		useAll(named, p.EgressZones)
	}
	for _, name := range Names(l.Zones) {
		if !l.zoneInUse(name) && !named[name] {
			l.warn(&l.Zones[name].Meta, "", NotApplied, "nothing is in zone %s: it is not the default zone, and these files bind nothing to it; "+
				"bind an interface or a source, unless NetworkManager does", name)
		}
	}
}

// policy finds out whether packets can come to a policy at all.
func (l *linter) policy(p *Policy) {
	if p.Disable {
		return
	}
	for _, side := range []struct {
		name  string
		zones []string
	}{{"ingress", p.IngressZones}, {"egress", p.EgressZones}} {
		switch {
		case slices.ContainsFunc(side.zones, l.zoneInUse):
		case len(side.zones) == 0:
			l.warn(&p.Meta, "", NotApplied, "policy %s never acts: it has no %s zone; add one, or ANY or HOST", p.Name, side.name)
		default:
			l.warn(&p.Meta, side.name+"-zone "+side.zones[0], NotApplied, "policy %s never acts: nothing is bound to %s of its %s side; "+
				"bind an interface or a source, unless NetworkManager does", p.Name, zoneList(side.zones), side.name)
		}
	}
}

// zoneList is "zone a" or "the zones a, b".
func zoneList(names []string) string {
	if len(names) == 1 {
		return "zone " + names[0]
	}
	return "the zones " + strings.Join(names, ", ")
}

// claim is a prefix that is the source of a zone.
type claim struct {
	prefix netip.Prefix
	text   string
	zone   *Zone
}

// overlappingSources finds sources whose packets all go to another zone, because it is asked first and has a prefix
// around them. Zones are asked by ingress priority, then by name.
func (l *linter) overlappingSources() {
	claims := map[netip.Prefix][]claim{}
	lengths := map[int]bool{}
	var all []claim
	for _, name := range Names(l.Zones) {
		for _, source := range l.Zones[name].Sources {
			if p, err := grammar.ParseAddress(grammar.AnyFamily, source); err == nil {
				c := claim{p.Masked(), source, l.Zones[name]}
				claims[c.prefix] = append(claims[c.prefix], c)
				lengths[p.Bits()] = true
				all = append(all, c)
			}
		}
	}
	for _, c := range all {
		for bits := range c.prefix.Bits() { // equal prefixes are no matter of order, and Check tells of them
			if !lengths[bits] {
				continue
			}
			around, _ := c.prefix.Addr().Prefix(bits)
			for _, w := range claims[around] {
				if !l.spend(1) {
					return
				}
				l.overlap(c, w)
			}
		}
	}
}

// overlap warns if the wider of two sources takes all packets of the other.
func (l *linter) overlap(c, wider claim) {
	z, first := c.zone, wider.zone
	if first.IngressPriority > z.IngressPriority || first.IngressPriority == z.IngressPriority && first.Name >= z.Name {
		return
	}
	why := "by name"
	if first.IngressPriority < z.IngressPriority {
		why = fmt.Sprintf("by its ingress priority of %d", first.IngressPriority)
	}
	l.warn(&z.Meta, "source "+c.text, ZoneConflict, "packets from %s are in zone %s, not in %s: it has the source %s around it and comes first %s; "+
		"give zone %s an ingress priority below %d", c.text, first.Name, z.Name, wider.text, why, z.Name, first.IngressPriority)
}

// content looks at what zones and policies have in common.
func (l *linter) content(m *Meta, c *Content) {
	if m.Origin.Builtin {
		return
	}
	if c.Masquerade && !slices.ContainsFunc(c.Rules, masquerades) {
		l.warn(m, "masquerade", InvalidIPV, "masquerade is for IPv4: IPv6 packets keep their addresses; write rule family=ipv6 masquerade beside it, "+
			"or rule family=ipv4 masquerade in its place if that is meant")
	}
	for _, r := range c.Rules {
		clamp, isClamp := r.Element.(*grammar.TCPMSSClamp)
		_, isMasquerade := r.Element.(*grammar.Masquerade)
		if isClamp {
			l.clamp(m, r, clamp)
			l.clampByMAC(m, r)
		}
		if (isClamp && l.Own.TCPMSSClamp == "initiator" || isMasquerade) && r.Log != nil {
			l.warnRule(m, r, NotApplied, "this rule logs nothing: %s beside %s has no effect; remove it, or log in a rule of its own",
				r.Log.Keyword(), r.Element.Keyword())
		}
	}
	l.idleClamps(m, c)
	l.hidden(m, c)
}

// masquerades says whether a rule masquerades IPv6 packets.
func masquerades(r RichRule) bool {
	_, ok := r.Element.(*grammar.Masquerade)
	return ok && r.Family != grammar.IPv4
}

// Sizes in bytes: TCP's share of the smallest link that carries IPv6, of 1280 (RFC 8200, 5), and of Ethernet's 1500, with
// headers of 40 bytes for IPv4 and 60 for IPv6 (RFC 9293, 3.7.1).
const (
	leastIPv6   = 1280 - 60
	mostIPv4    = 1500 - 40
	mostIPv6    = 1500 - 60
	ethernetMTU = 1500
)

// clamp looks at the size that a clamp sets.
func (l *linter) clamp(m *Meta, r RichRule, e *grammar.TCPMSSClamp) {
	families := l.families(r.Rule)
	six := slices.Contains(families, grammar.IPv6)
	size, _ := grammar.ParseMSS(e.Value) // Check has refused what is wrong
	size6, most := size, mostIPv4
	if e.MTU != 0 {
		size6 = e.MTU - 60
	}
	if !slices.Contains(families, grammar.IPv4) {
		most = mostIPv6
	}
	if six && size6 > 0 && size6 < leastIPv6 {
		l.warnRule(m, r, InvalidValue, "IPv6 is clamped to %d bytes: every path of IPv6 carries %d, so less only costs speed; "+
			"write value=%d or mtu=1280 or more, or family=ipv4", size6, leastIPv6, leastIPv6)
	}
	switch {
	case e.Raise:
		l.warnRule(m, r, InvalidValue, "raise=yes makes hosts send more than the other side has room for: it is for tests of faulty paths; remove it anywhere else")
	case size > most:
		l.warnRule(m, r, InvalidValue, "nothing is clamped on Ethernet: with its MTU of %d no host announces more than %d bytes, and the rule lowers what is above %d; "+
			"write a lower value, or pmtu", ethernetMTU, most, size)
	case e.MTU > ethernetMTU:
		l.warnRule(m, r, InvalidValue, "nothing is clamped on Ethernet: hosts on it have an MTU of %d, and the rule lowers what is above %d; write a lower mtu, or value=pmtu",
			ethernetMTU, e.MTU)
	}
}
