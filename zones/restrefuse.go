package zones

import (
	"slices"

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

// refuses tells whether a zone or policy refuses everything already.
func (c *Content) refuses() bool { return len(c.Rules) > 0 && c.Rules[0].Rule == refusal.Rule }

// passedOver is what it costs that a part of an object was passed over. An ipset with fewer entries than are meant is a doubt where
// something refuses by it, or is bound to it; where it only lets in, less is let in.
func (c *Config) passedOver(o Object) Way {
	if o.Kind != KindIPSet || c.refusesBy(o.Name) {
		return Doubtful
	}
	return LeftOut
}

// refusesBy tells whether less may be refused when entries of an ipset are missing.
func (c *Config) refusesBy(set string) bool {
	rules := func(content *Content) bool {
		return slices.ContainsFunc(content.Rules, func(r RichRule) bool {
			from, to := r.Source != nil && r.Source.IPSet == set, r.Destination != nil && r.Destination.IPSet == set
			inverted := from && r.Source.Invert || to && r.Destination.Invert
			return (from || to) && (inverted || ruleCost(words(r.Rule)) > LeftOut)
		})
	}
	for _, z := range c.Zones {
		if slices.Contains(z.Sources, "ipset:"+set) || rules(&z.Content) {
			return true
		}
	}
	for _, p := range c.Policies {
		if rules(&p.Content) {
			return true
		}
	}
	return slices.ContainsFunc(c.Direct.Rules, func(r DirectRule) bool { return slices.Contains(r.Args, set) }) ||
		slices.ContainsFunc(c.Direct.Passthroughs, func(r DirectPassthrough) bool { return slices.Contains(r.Args, set) })
}
