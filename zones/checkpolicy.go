package zones

import (
	"slices"
	"strings"

	"richwall/grammar"
)

// policies checks each policy.
func (k *checker) policies() {
	k.kind = KindPolicy
	for _, name := range Names(k.Policies) {
		k.policy(k.Policies[name])
	}
}

// policy checks what a policy refers to, and that its settings can work between its zones.
func (k *checker) policy(p *Policy) {
	k.content(&p.Meta, &p.Content)
	if slices.Contains(p.IngressZones, ZoneHost) && slices.Contains(p.EgressZones, ZoneHost) {
		k.reportAt(&p.Meta, "egress-zone "+ZoneHost)(refuse(InvalidZone, "cannot use HOST on both sides of a policy: packets to oneself pass no policy").
			worded("'%s' can only appear in either ingress or egress zones, but not both", ZoneHost))
	}
	k.policyZones(p, "ingress-zone", p.IngressZones)
	k.policyZones(p, "egress-zone", p.EgressZones)
	if p.Masquerade {
		k.policyMasquerade(p, k.reportAt(&p.Meta, "masquerade"))
	}
	for _, f := range p.ForwardPorts {
		k.policyForward(p, f.ToAddr, k.reportAt(&p.Meta, "forward-port "+f.String()))
	}
	for _, rule := range p.Rules {
		report := k.reportRule(&p.Meta, rule)
		switch e := rule.Element.(type) {
		case *grammar.Masquerade:
			k.policyMasquerade(p, report)
		case *grammar.ForwardPort:
			k.policyForward(p, e.ToAddr, report)
		}
		if _, ok := rule.Action.(*grammar.Mark); ok {
			k.policyMark(p, report)
		}
	}
}

// policyZones checks one side of a policy: any number of zones, or ANY, or HOST.
func (k *checker) policyZones(p *Policy, side string, zones []string) {
	for _, name := range zones {
		report := k.reportAt(&p.Meta, side+" "+name)
		symbolic := name == ZoneAny || name == ZoneHost
		switch {
		case symbolic && len(zones) > 1:
			report(refuse(InvalidZone, "cannot use %s beside another %s: it stands alone", name, side).
				worded("'%s' may only contain one of: many regular zones, ANY, or HOST", strings.ReplaceAll(side, "-", "_")+"s"))
		case !symbolic && k.Zones[name] == nil:
			p := refuse(InvalidZone, "cannot use zone %s: there is no such zone%s", name, k.nearZone(name))
			report(k.noSuch(p, name, "zones"))
		}
	}
}

// nearZone suggests what a policy can name: a zone, ANY or HOST.
func (k *checker) nearZone(name string) suggestion {
	near := near(k, name, k.Zones)
	if zones := near.known; zones != nil {
		near.known = func() []string { return append(zones(), ZoneAny, ZoneHost) }
	}
	return near
}

// withInterfaces is the first of some zones that has interfaces, "" when none has.
func (k *checker) withInterfaces(zones []string) string {
	for _, name := range zones {
		if z := k.Zones[name]; z != nil && len(z.Interfaces) > 0 {
			return name
		}
	}
	return ""
}

// policyMasquerade checks that masquerading knows the interface that packets leave by: it happens after routing, where
// iptables does not know any more which one they came in by.
func (k *checker) policyMasquerade(p *Policy, report report) {
	zone := k.withInterfaces(p.IngressZones)
	switch {
	case slices.Contains(p.EgressZones, ZoneHost):
		report(refuse(InvalidZone, "cannot masquerade towards HOST: only packets that leave get another source address").
			worded("'masquerade' is invalid for egress zone '%s'", ZoneHost))
	case slices.Contains(p.IngressZones, ZoneHost):
		report(refuse(InvalidZone, "cannot masquerade what comes from HOST: it has this machine's address already").
			worded("'masquerade' is invalid for ingress zone '%s'", ZoneHost))
	case zone != "" && k.Conf.FirewallBackend == "iptables":
		report(refuse(InvalidZone, "cannot masquerade from zone %s with iptables: the zone has interfaces, and iptables does not know them after routing", zone))
	}
}

// policyForward checks that forwarding a port, which happens before routing, does not need what routing finds out.
func (k *checker) policyForward(p *Policy, toAddr string, report report) {
	if len(p.EgressZones) == 0 || slices.Contains(p.EgressZones, ZoneHost) {
		return
	}
	if toAddr == "" {
		report(refuse(InvalidForward, "cannot forward a port to this machine in a policy towards other machines: give to-addr, or make the egress zone HOST").
			worded("'forward-port' requires 'to-addr' if egress zone is 'ANY' or a zone"))
	}
	if zone := k.withInterfaces(p.EgressZones); zone != "" {
		report(refuse(InvalidZone, "cannot forward a port in a policy towards zone %s: the zone has interfaces, and ports are forwarded before it is known by which one a packet leaves", zone))
	}
}

// policyMark checks that a mark, which is set before routing, does not need what routing finds out.
func (k *checker) policyMark(p *Policy, report report) {
	if zone := k.withInterfaces(p.EgressZones); zone != "" {
		report(refuse(InvalidZone, "cannot mark in a policy towards zone %s: the zone has interfaces, and marks are set before it is known by which one a packet leaves", zone))
	}
	if slices.Contains(p.IngressZones, ZoneHost) {
		report(refuse(InvalidPolicy, "cannot mark what comes from HOST: marks are set on packets that come in"))
	}
}
