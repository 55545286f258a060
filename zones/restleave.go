package zones

import (
	"fmt"
	"slices"
	"strings"
)

// LeaveOut is a configuration without what its problems of severity Error are about, such as those of a compiler or the kernel: the Rule,
// the item that Check found, or the whole Object; and without what Check refuses once that is gone. The losses are one for each of these
// problems.
//
// There are no losses, and the configuration is the same, if nothing of that can be left out. Otherwise there is less in it than before,
// so that whoever calls it again and again for what is left comes to an end.
func LeaveOut(c *Config, problems Problems) (*Config, []Loss) {
	next, losses := c.without(problems.errors())
	if len(losses) == 0 {
		return c, nil
	}
	r := &Rest{Losses: losses}
	return r.settle(next, Dirs{}), r.Losses
}

// without is the configuration without what problems are about, one after the other. The losses are one for each, or none if the
// configuration is the same.
func (c *Config) without(problems Problems) (*Config, []Loss) {
	left := leaving{from: c, costs: map[culprit]Way{}}
	next, gone := c, false
	var losses []Loss
	for _, p := range problems {
		about := culprit{p.Object, p.item, p.Rule}
		if _, known := left.costs[about]; !known {
			after, way := left.out(next, p)
			gone = gone || after != next
			next, left.costs[about] = after, way
		}
		losses = append(losses, Loss{p, left.costs[about]})
	}
	if !gone {
		return c, nil
	}
	return next, losses
}

// culprit is what a problem is about. Several problems may be about the same: a rule becomes several rules of the kernel.
type culprit struct {
	object Object
	item   string
	rule   fmt.Stringer
}

// leaving takes things out of a configuration. What refuses everything only since then is not taken out altogether.
type leaving struct {
	from  *Config
	costs map[culprit]Way // of what was taken out
}

// out is a configuration without what a problem is about; the same one if that is not in it.
func (l *leaving) out(c *Config, p *Problem) (*Config, Way) {
	name := p.Object.Name
	switch p.Object.Kind {
	case KindZone:
		return l.zone(c, p)
	case KindPolicy:
		return l.policy(c, p)
	case KindService:
		if c.Services[name] != nil {
			c = c.WithoutService(name)
		}
	case KindIPSet:
		if c.IPSets[name] != nil {
			c = c.WithoutIPSet(name)
		}
	case KindICMPType:
		if c.ICMPTypes[name] != nil {
			c = c.WithoutICMPType(name)
		}
	case KindHelper:
		if c.Helpers[name] != nil {
			c = c.WithoutHelper(name)
		}
	case KindDirect:
		return c.directWithout(p)
	case KindConf:
		return c.confWithout()
	default:
		for _, name := range neededZones {
			if c.Zones[name] == nil {
				c = c.WithZone(builtin().Zones[name])
			}
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
	defaults.DefaultZone, defaults.FirewallBackend, defaults.missing = c.Conf.DefaultZone, c.Conf.FirewallBackend, c.Conf.missing
	if *defaults == *c.Conf {
		return c, Doubtful
	}
	return c.WithConf(defaults), Doubtful
}

// zone is the configuration with a zone that does without what a problem is about.
func (l *leaving) zone(c *Config, p *Problem) (*Config, Way) {
	name := p.Object.Name
	z := zoneFiles(c)[name]
	switch {
	case z == nil && c.Zones[name] != nil:
		return l.parts(c, p)
	case z == nil:
		return c, LeftOut
	}
	next := *z
	next.lossy = true
	found, way := next.Content.drop(p)
	if kind, text, _ := strings.Cut(p.item, " "); kind == "interface" || kind == "source" {
		list := &next.Interfaces
		if kind == "source" {
			list = &next.Sources
		}
		found, way = slices.Contains(*list, text), Doubtful
		*list = dropItem(*list, text)
	}
	switch {
	case p.Code == InvalidName || z.refuses() && !found:
		return l.withoutZone(c, name)
	case way > LeftOut:
		return c.WithZone(refusing(&next)), way
	}
	return c.WithZone(&next), way
}

// parts is the configuration with a zone that is made up of several files and does without what a problem is about: without an
// item that lets something in, or each part refuses everything. If they do so already, it is without the zone.
func (l *leaving) parts(c *Config, p *Problem) (*Config, Way) {
	if p.Code == InvalidName || c.Zones[p.Object.Name].refuses() {
		return l.withoutZone(c, p.Object.Name)
	}
	next := c
	for name, part := range c.ZoneParts {
		if !strings.HasPrefix(name, p.Object.Name+"/") {
			continue
		}
		without := *part
		without.lossy = true
		if found, way := without.Content.drop(p); found && way == LeftOut {
			next = next.WithZone(&without)
		}
	}
	if next == c {
		return c.refused(p.Object), Refuses
	}
	return next, LeftOut
}

// withoutZone is the configuration without a zone and the parts that make it up. The default zone is drop then. A zone that must be there
// stays, and so does one that did not refuse everything before.
func (l *leaving) withoutZone(c *Config, name string) (*Config, Way) {
	if was := l.from.Zones[name]; slices.Contains(neededZones, name) || was != nil && !was.refuses() && c.Zones[name].refuses() {
		return c, Refuses
	}
	next := c.WithoutZone(name)
	for _, part := range Names(c.ZoneParts) {
		if strings.HasPrefix(part, name+"/") {
			next = next.WithoutZone(part)
		}
	}
	if conf := *next.Conf; conf.DefaultZone == name {
		conf.DefaultZone, conf.missing = "drop", name
		next = next.WithConf(&conf)
	}
	return next, Doubtful
}

// policy is the configuration with a policy that does without what a problem is about.
func (l *leaving) policy(c *Config, p *Problem) (*Config, Way) {
	o := c.Policies[p.Object.Name]
	if o == nil {
		return c, LeftOut
	}
	next := *o
	next.lossy = true
	found, way := next.Content.drop(p)
	for kind, list := range map[string]*[]string{"ingress-zone ": &next.IngressZones, "egress-zone ": &next.EgressZones} {
		if text, ok := strings.CutPrefix(p.item, kind); ok {
			found, way = slices.Contains(*list, text), missed(o)
			*list = dropItem(*list, text)
		}
	}
	switch was := l.from.Policies[o.Name]; {
	case p.Code == InvalidName || p.Code == NameConflict:
		return c.WithoutPolicy(o.Name), missed(o)
	case o.refuses() && !found && was != nil && !was.refuses():
		return c, Refuses
	case o.refuses() && !found:
		return c.WithoutPolicy(o.Name), missed(o)
	case way > LeftOut:
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

// drop takes what a problem is about out of a zone's or policy's content, and says whether it was there and what that costs. Without what
// it does not have, the whole object is what the problem is about.
func (c *Content) drop(p *Problem) (found bool, way Way) {
	if p.Rule != nil {
		if c.refuses() { // the rule by which it does
			return false, Refuses
		}
		i := slices.IndexFunc(c.Rules, func(r RichRule) bool { return fmt.Stringer(r.Rule) == p.Rule })
		if i < 0 { // one that was read anew
			i = slices.IndexFunc(c.Rules, func(r RichRule) bool { return r.String() == p.Rule.String() })
		}
		if i < 0 {
			return false, Refuses
		}
		way = ruleCost(words(c.Rules[i].Rule))
		c.Rules = slices.Delete(slices.Clone(c.Rules), i, i+1)
		return true, way
	}
	kind, text, _ := strings.Cut(p.item, " ")
	switch kind {
	case "service":
		found, c.Services = slices.Contains(c.Services, text), dropItem(c.Services, text)
	case "masquerade":
		found, c.Masquerade = c.Masquerade, false
	case "forward-port":
		was := len(c.ForwardPorts)
		c.ForwardPorts = slices.DeleteFunc(slices.Clone(c.ForwardPorts), func(f ForwardPort) bool { return f.String() == text })
		found = len(c.ForwardPorts) < was
	}
	if !found {
		return false, Refuses
	}
	return true, cost(kind)
}

func dropItem(list []string, item string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return s == item })
}

// directWithout is the configuration without the direct chain, rule or command that a problem is about, or without all of them if it is not
// about one that is there. A chain alone does nothing, whichever way it is made: what is lost with it are the rules in it, each of which is
// a problem of its own.
func (c *Config) directWithout(p *Problem) (*Config, Way) {
	d, way := *c.Direct, Doubtful
	switch about := p.Rule.(type) {
	case *DirectChain:
		d.Chains, way = slices.DeleteFunc(slices.Clone(d.Chains), about.same), LeftOut
	case *DirectRule:
		d.Rules, way = slices.DeleteFunc(slices.Clone(d.Rules), about.same), argsCost(about.Table, about.Args)
	case *DirectPassthrough:
		d.Passthroughs = slices.DeleteFunc(slices.Clone(d.Passthroughs), about.same)
		if c, err := about.Command(); err == nil && c.Kind == PassNew {
			way = LeftOut
		}
	}
	had := len(c.Direct.Chains) + len(c.Direct.Rules) + len(c.Direct.Passthroughs)
	if len(d.Chains)+len(d.Rules)+len(d.Passthroughs) == had {
		if had == 0 {
			return c, Doubtful
		}
		d.Chains, d.Rules, d.Passthroughs, way = nil, nil, nil, Doubtful
	}
	d.lossy = true
	return c.WithDirect(&d), way
}
