package zones

import (
	"strings"

	"richwall/grammar"
)

// refusal is the only rule of a zone or policy that refuses everything: it is asked before all others, and before the policies
// that come behind the zone.
var refusal = RichRule{Rule: &grammar.Rule{Priority: grammar.MinPriority, Action: &grammar.Drop{}}}

// refusing is a zone that has what is bound to it, and drops all of that.
func refusing(z *Zone) *Zone {
	next := &Zone{Meta: z.Meta, Target: TargetDrop, IngressPriority: z.IngressPriority, EgressPriority: z.EgressPriority,
		Interfaces: z.Interfaces, Sources: z.Sources, Content: Content{Rules: []RichRule{refusal}}}
	next.lossy = true
	return next
}

// refusingPolicy is a policy that drops all that goes from and to its zones.
func refusingPolicy(p *Policy) *Policy {
	next := &Policy{Meta: p.Meta, Target: TargetDrop, Priority: p.Priority, IngressZones: p.IngressZones, EgressZones: p.EgressZones,
		Disable: p.Disable, Content: Content{Rules: []RichRule{refusal}}}
	if next.Priority == 0 {
		next.Priority = DefaultPolicyPriority
	}
	next.lossy = true
	return next
}

// Closed is the shipped configuration with zones that let nothing new in, whatever is bound to them, but the answers of DHCP servers (RFC
// 2131 and 8415). A shipped policy lets neighbour discovery in. Its rules stay in the kernel when the firewall is stopped.
func Closed(backend string) *Config {
	c, _ := Load(Dirs{})
	for _, name := range Names(c.Zones) {
		z := &Zone{Meta: c.Zones[name].Meta, Target: TargetDrop, Content: Content{Ports: []Port{{"68", "udp"}}, Services: []string{"dhcpv6-client"}}}
		z.lossy = true
		c = c.WithZone(z)
	}
	conf := DefaultConf()
	conf.DefaultZone, conf.FirewallBackend, conf.CleanupOnExit = "drop", backend, false
	return c.WithConf(conf)
}

// refuses tells whether a zone or policy refuses everything already.
func (c *Content) refuses() bool { return len(c.Rules) > 0 && c.Rules[0].Rule == refusal.Rule }

// refused is the configuration with a zone or policy that refuses everything. Of a zone that is made up of several files, each does.
func (c *Config) refused(o Object) *Config {
	if o.Kind == KindPolicy {
		return c.WithPolicy(refusingPolicy(c.Policies[o.Name]))
	}
	if z := zoneFiles(c)[o.Name]; z != nil {
		return c.WithZone(refusing(z))
	}
	for name, part := range c.ZoneParts {
		if strings.HasPrefix(name, o.Name+"/") {
			c = c.WithZone(refusing(part))
		}
	}
	return c
}
