package zones

import (
	"slices"
	"strings"
)

// LeaveOut is a configuration without what its problems of severity Error are about, such as those of Check or of a compiler:
// the rule of the problem's Line, the item that Check found, or the whole Object. A problem without an Object costs nothing but
// for a zone that must be there. The losses are one for each of these problems; the configuration is the same if there are none.
func LeaveOut(c *Config, problems Problems) (*Config, []Loss) {
	var losses []Loss
	for _, p := range problems.errors() {
		var way Way
		c, way = leaveOut(c, p)
		losses = append(losses, Loss{p, way})
	}
	return c, losses
}

func leaveOut(c *Config, p *Problem) (*Config, Way) {
	name := p.Object.Name
	switch p.Object.Kind {
	case KindZone:
		return c.zoneWithout(p)
	case KindPolicy:
		return c.policyWithout(p)
	case KindService:
		return c.WithoutService(name), LeftOut
	case KindIPSet:
		return c.WithoutIPSet(name), LeftOut
	case KindICMPType:
		return c.WithoutICMPType(name), LeftOut
	case KindHelper:
		return c.WithoutHelper(name), LeftOut
	case KindDirect:
		return c.directWithout(p)
	case KindConf:
		return c.confWithout()
	}
	for _, z := range builtin().Zones {
		if c.Zones[z.Name] == nil {
			c = c.WithZone(z)
		}
	}
	return c, LeftOut
}

// confWithout is the configuration without the setting of firewalld.conf that a back end or the kernel is most likely to refuse: the
// flow table, whose devices may be missing. Where that is off already, all settings but the default zone and the back end are
// the defaults, which may let in more.
func (c *Config) confWithout() (*Config, Way) {
	defaults := DefaultConf()
	if c.Conf.NftablesFlowtable != defaults.NftablesFlowtable {
		conf := *c.Conf
		conf.NftablesFlowtable = defaults.NftablesFlowtable
		return c.WithConf(&conf), LeftOut
	}
	defaults.DefaultZone, defaults.FirewallBackend = c.Conf.DefaultZone, c.Conf.FirewallBackend
	return c.WithConf(defaults), Doubtful
}

// zoneWithout is the configuration with a zone that does without what a problem is about.
func (c *Config) zoneWithout(p *Problem) (*Config, Way) {
	name := p.Object.Name
	z := zoneFiles(c)[name]
	switch {
	case z == nil && c.Zones[name] != nil:
		return c.partsWithout(p)
	case z == nil:
		return c, LeftOut
	case p.Code == InvalidName || z.refuses() && p.item == "":
		return c.withoutZones(name), Doubtful
	}
	next := *z
	next.lossy = true
	way := next.Content.drop(p)
	if kind, text, _ := strings.Cut(p.item, " "); kind == "interface" || kind == "source" {
		list := &next.Interfaces
		if kind == "source" {
			list = &next.Sources
		}
		*list = dropItem(*list, text)
		way = Doubtful
	}
	if way > LeftOut {
		return c.WithZone(refusing(&next)), way
	}
	return c.WithZone(&next), way
}

// partsWithout is the configuration with a zone that refuses everything, as each part that makes it up does, or without a zone
// that does so already.
func (c *Config) partsWithout(p *Problem) (*Config, Way) {
	if p.Code == InvalidName || c.Zones[p.Object.Name].refuses() {
		return c.withoutZones(p.Object.Name), Doubtful
	}
	return c.refused(p.Object), Refuses
}

// withoutZones is the configuration without a zone and the parts that make it up.
func (c *Config) withoutZones(name string) *Config {
	next := c.WithoutZone(name)
	for _, part := range Names(c.ZoneParts) {
		if strings.HasPrefix(part, name+"/") {
			next = next.WithoutZone(part)
		}
	}
	return next
}

// policyWithout is the configuration with a policy that does without what a problem is about.
func (c *Config) policyWithout(p *Problem) (*Config, Way) {
	o := c.Policies[p.Object.Name]
	switch {
	case o == nil:
		return c, LeftOut
	case p.Code == InvalidName || p.Code == NameConflict || o.refuses() && p.item == "":
		return c.WithoutPolicy(o.Name), missed(o)
	}
	next := *o
	next.lossy = true
	way := next.Content.drop(p)
	switch kind, text, _ := strings.Cut(p.item, " "); kind {
	case "ingress-zone":
		next.IngressZones, way = dropItem(next.IngressZones, text), missed(o)
	case "egress-zone":
		next.EgressZones, way = dropItem(next.EgressZones, text), missed(o)
	}
	if way > LeftOut {
		return c.WithPolicy(refusingPolicy(&next)), way
	}
	return c.WithPolicy(&next), way
}

// missed is what it costs that a policy is not asked about some packets: nothing if it refuses none.
func missed(p *Policy) Way {
	if denies(p) {
		return Doubtful
	}
	return LeftOut
}

// drop takes what a problem is about out of a zone's or policy's content, and says what that costs.
func (c *Content) drop(p *Problem) Way {
	for i, rule := range c.Rules {
		if rule.Rule == p.rule || p.rule == nil && p.item == "" && p.Line > 0 && rule.Line == p.Line {
			c.Rules = slices.Delete(slices.Clone(c.Rules), i, i+1)
			return ruleCost(words(rule.Rule))
		}
	}
	kind, text, _ := strings.Cut(p.item, " ")
	switch kind {
	case "":
		return Refuses
	case "service":
		c.Services = dropItem(c.Services, text)
	case "masquerade":
		c.Masquerade = false
	case "forward-port":
		c.ForwardPorts = slices.DeleteFunc(slices.Clone(c.ForwardPorts), func(f ForwardPort) bool { return f.String() == text })
	}
	return cost(kind)
}

func dropItem(list []string, item string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return s == item })
}

// directWithout is the configuration without the direct rule, command or chain of a problem's line, or without all of them. A chain alone
// does nothing: what is lost with it are the rules in it, each of which is a problem of its own.
func (c *Config) directWithout(p *Problem) (*Config, Way) {
	d, way := *c.Direct, Doubtful
	chains, rules, passes := len(d.Chains), len(d.Rules), len(d.Passthroughs)
	d.Chains = slices.DeleteFunc(slices.Clone(d.Chains), func(ch DirectChain) bool {
		if ch.Line != p.Line || p.Line == 0 {
			return false
		}
		way = LeftOut
		return true
	})
	d.Rules = slices.DeleteFunc(slices.Clone(d.Rules), func(r DirectRule) bool {
		if r.Line != p.Line || p.Line == 0 {
			return false
		}
		way = argsCost(r.Table, r.Args)
		return true
	})
	d.Passthroughs = slices.DeleteFunc(slices.Clone(d.Passthroughs), func(r DirectPassthrough) bool { return r.Line == p.Line && p.Line > 0 })
	if len(d.Chains) == chains && len(d.Rules) == rules && len(d.Passthroughs) == passes {
		d.Chains, d.Rules, d.Passthroughs = nil, nil, nil
	}
	d.lossy = true
	return c.WithDirect(&d), way
}
