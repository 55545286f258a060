package zones

import (
	"fmt"
	"slices"
	"strings"

	"richwall/grammar"
)

// passedOver is what it costs that a part of an object was passed over. An ipset with fewer entries than are meant is a doubt where
// something refuses by it, or is bound to it; where it only lets in, less is let in.
func (c *Config) passedOver(o Object) Way {
	if o.Kind != KindIPSet || len(c.relying(o)) > 0 || c.directRelies(o) {
		return Doubtful
	}
	return LeftOut
}

// Closed is the configuration and its losses for a start that has no earlier configuration to compare with. The zones and policies that
// may let in more because a part of an ipset or an ICMP type was passed over refuse everything, and each of them is a loss. Other
// warnings are no losses: the files may have been like that all the time.
func (r *Rest) Closed() (*Config, []Loss) {
	c := r.Config
	var losses []Loss
	holes := map[Object]bool{}
	for _, l := range r.Losses {
		o := l.Problem.Object
		switch {
		case l.Problem.Severity == Error:
			losses = append(losses, l)
		case o.Kind != KindIPSet && o.Kind != KindICMPType || holes[o]:
		default:
			holes[o] = true
			for _, user := range r.Config.relying(o) {
				p, way := *l.Problem, Refuses
				p.Object, p.Severity = user, Error
				if user.Kind == KindZone && r.Config.Zones[user.Name].takesFrom(o) {
					way = Doubtful // what the missing entries are for goes to another zone
				}
				c, losses = c.refused(user), append(losses, Loss{&p, way})
			}
			if r.Config.directRelies(o) {
				losses = append(losses, l)
			}
		}
	}
	return c, losses
}

// relying are the zones and policies that may refuse less, or be asked about fewer packets, when a part of an ipset or an ICMP type is
// missing.
func (c *Config) relying(o Object) []Object {
	var list []Object
	for _, name := range Names(c.Zones) {
		if z := c.Zones[name]; z.takesFrom(o) || z.Content.refusesBy(o) {
			list = append(list, Object{KindZone, name})
		}
	}
	for _, name := range Names(c.Policies) {
		if p := c.Policies[name]; !p.Disable && p.Content.refusesBy(o) {
			list = append(list, Object{KindPolicy, name})
		}
	}
	return list
}

// Leaning are the zones, policies and direct rules that rely, since an edit, on an ipset, an ICMP type or a service of which a part is missing:
// the next reload would refuse them. Each is an Error about the object whose file is to be mended first.
func Leaning(old, next *Config) Problems {
	var list Problems
	for _, m := range next.holes() {
		before := old.relying(m.object)
		users := slices.DeleteFunc(next.relying(m.object), func(o Object) bool { return slices.Contains(before, o) })
		who := "the direct interface"
		switch {
		case m.object.Kind == KindService:
			if was, is := old.usedServices()[m.object.Name], next.usedServices()[m.object.Name]; was || !is {
				continue
			}
			who = "a zone or policy"
		case len(users) > 0:
			who = fmt.Sprintf("%s %s", users[0].Kind, users[0].Name)
		case !next.directRelies(m.object) || old.directRelies(m.object):
			continue
		}
		list = append(list, &Problem{Path: m.path, Code: m.code, Object: m.object, Msg: fmt.Sprintf(
			"%s cannot rely on %s %s, whose file holds what could not be read or used: mend that first, and then run firewall-cmd --reload", who, m.object.Kind, m.object.Name)})
	}
	return list
}

// hole is an object of which a part is missing, its file, and the code of what is wrong with it.
type hole struct {
	object Object
	path   string
	code   grammar.Code
}

// holes are the ipsets, ICMP types and services of which a part is missing.
func (c *Config) holes() []hole {
	var list []hole
	for name, s := range c.IPSets {
		if s.lossy {
			list = append(list, hole{Object{KindIPSet, name}, s.Origin.Path, grammar.InvalidIPSet})
		}
	}
	for name, t := range c.ICMPTypes {
		if t.lossy {
			list = append(list, hole{Object{KindICMPType, name}, t.Origin.Path, InvalidICMPType})
		}
	}
	for name, s := range c.Services {
		if s.lossy {
			list = append(list, hole{Object{KindService, name}, s.Origin.Path, InvalidService})
		}
	}
	slices.SortFunc(list, func(a, b hole) int { return strings.Compare(a.path, b.path) })
	return list
}

// takesFrom tells whether an ipset is a source of the zone.
func (z *Zone) takesFrom(o Object) bool {
	return o.Kind == KindIPSet && slices.Contains(z.Sources, "ipset:"+o.Name)
}

// refusesBy tells whether a zone or policy may refuse less when a part of an ipset or an ICMP type is missing.
func (c *Content) refusesBy(o Object) bool {
	if o.Kind == KindICMPType {
		return slices.Contains(c.ICMPBlocks, o.Name) || slices.ContainsFunc(c.Rules, func(r RichRule) bool {
			return icmpTypeOf(r.Rule) == o.Name && ruleCost(words(r.Rule)) > LeftOut
		})
	}
	return slices.ContainsFunc(c.Rules, func(r RichRule) bool {
		from, to := r.Source != nil && r.Source.IPSet == o.Name, r.Destination != nil && r.Destination.IPSet == o.Name
		inverted := from && r.Source.Invert || to && r.Destination.Invert
		return (from || to) && (inverted || ruleCost(words(r.Rule)) > LeftOut)
	})
}

// icmpTypeOf is the ICMP type that a rule names; "" is none.
func icmpTypeOf(r *grammar.Rule) string {
	switch e := r.Element.(type) {
	case *grammar.ICMPBlock:
		return e.Name
	case *grammar.ICMPType:
		return e.Name
	}
	return ""
}

// directRelies tells whether the direct interface names an ipset.
func (c *Config) directRelies(o Object) bool {
	return o.Kind == KindIPSet &&
		(slices.ContainsFunc(c.Direct.Rules, func(r DirectRule) bool { return slices.Contains(r.Args, o.Name) }) ||
			slices.ContainsFunc(c.Direct.Passthroughs, func(r DirectPassthrough) bool { return slices.Contains(r.Args, o.Name) }))
}
