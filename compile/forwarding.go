package compile

import (
	"net/netip"

	"richwall/compile/ir"
	"richwall/grammar"
	"richwall/zones"
)

// Forwarding tells which families the kernel must forward for a configuration to work, as far as the configuration asks for
// something that old does not ask for. Masquerade asks for it, and a forward-port to another address, in zones and policies
// that are in use. Masquerade outside of a rich rule is for IPv4 alone. A nil old asks for nothing.
//
// What stays in force is not counted again, so that an administrator who has switched forwarding off by hand keeps it off
// until something new asks for it.
func Forwarding(old, next *zones.Config) ir.Families {
	var families ir.Families
	for name, z := range next.Zones {
		o := zones.Object{Kind: zones.KindZone, Name: name}
		families |= forwardingOf(old, next, o, &z.Content)
	}
	for name, p := range next.Policies {
		o := zones.Object{Kind: zones.KindPolicy, Name: name}
		families |= forwardingOf(old, next, o, &p.Content)
	}
	return families
}

// forwardingOf is Forwarding for one zone or policy, whose content is next's.
func forwardingOf(old, next *zones.Config, o zones.Object, content *zones.Content) ir.Families {
	if !next.InUse(o) {
		return 0
	}
	var before *zones.Content
	if old != nil && old.InUse(o) {
		before = contentOf(old, o)
	}
	if before == content {
		return 0
	}
	asked := map[forwarder]bool{}
	if before != nil {
		for f := range forwarders(old, before) {
			asked[f] = true
		}
	}
	var families ir.Families
	for f, of := range forwarders(next, content) {
		if !asked[f] {
			families |= of
		}
	}
	return families
}

// contentOf is the content of a zone or policy; nil if there is none.
func contentOf(c *zones.Config, o zones.Object) *zones.Content {
	if z := c.Zones[o.Name]; o.Kind == zones.KindZone && z != nil {
		return &z.Content
	}
	if p := c.Policies[o.Name]; o.Kind == zones.KindPolicy && p != nil {
		return &p.Content
	}
	return nil
}

// forwarder is an item for which the kernel must forward: masquerade if it is the zero value.
type forwarder struct {
	port zones.ForwardPort
	rule string // the text of a rich rule
}

// forwarders are all of a zone or policy of c, each with the families it is for.
func forwarders(c *zones.Config, content *zones.Content) map[forwarder]ir.Families {
	found := map[forwarder]ir.Families{}
	if content.Masquerade {
		found[forwarder{}] = ir.V4
	}
	for _, p := range content.ForwardPorts {
		if p.ToAddr != "" {
			found[forwarder{port: p}] = familyOfAddress(p.ToAddr)
		}
	}
	for _, r := range content.Rules {
		switch e := r.Element.(type) {
		case *grammar.Masquerade:
			found[forwarder{rule: r.String()}] = familiesOf(c, r.Rule)
		case *grammar.ForwardPort:
			if e.ToAddr != "" {
				found[forwarder{rule: r.String()}] = familyOfAddress(e.ToAddr) & familiesOf(c, r.Rule)
			}
		}
	}
	return found
}

// familiesOf are the families of the packets that a rich rule can match: by its family, and by those of the ipsets of c that
// it looks up.
func familiesOf(c *zones.Config, r *grammar.Rule) ir.Families {
	families := ir.Both
	narrow := func(f grammar.Family) {
		if f != grammar.AnyFamily {
			families &= familyNamed(string(f))
		}
	}
	narrow(r.Family)
	var names []string
	if r.Source != nil {
		names = append(names, r.Source.IPSet)
	}
	if r.Destination != nil {
		names = append(names, r.Destination.IPSet)
	}
	for _, name := range names {
		if set := c.IPSets[name]; set != nil {
			narrow(set.Family())
		}
	}
	return families
}

// familyOfAddress is the family of an address that was checked, which may be in brackets.
func familyOfAddress(address string) ir.Families {
	if a, err := netip.ParseAddr(address); err == nil && a.Is4() {
		return ir.V4
	}
	return ir.V6
}
