package zones

import (
	"slices"
	"strings"
)

// Beside are the losses that count for one who has used another configuration before: those of what is wrong, and those of what a load
// passes over, if more may be let in for that than by the other. That is so when an ipset or ICMP type by which something refuses has a
// hole, a service of a zone or policy has lost a destination, a key of firewalld.conf has its default where the line of that key cannot be
// used and its value before was stricter, a default zone does not exist, a rule of direct.xml is gone, or a zone that was made up of several files has none. What a load passed over
// is no loss where all of that is as it was. A start and a reload go by the same rule.
func (r *Rest) Beside(before *Config) []Loss {
	return slices.DeleteFunc(slices.Clone(r.Losses), func(l Loss) bool {
		return l.Problem.Severity == Warning && (l.Way != Doubtful || !r.mayLetInMore(l.Problem, before))
	})
}

// mayLetInMore tells whether something may be let in that another configuration refuses, because a part of an object was passed over for a
// problem. The zero object is firewalld.conf, too.
func (r *Rest) mayLetInMore(p *Problem, before *Config) bool {
	o := p.Object
	switch o.Kind {
	case KindIPSet, KindICMPType:
		return len(r.Config.relying(o)) > 0 || r.Config.directRelies(o)
	case KindConf, "":
		return slices.ContainsFunc(r.guessed(before.Conf), func(key string) bool { return r.mayBeOf(p, key, before.Conf) })
	case KindService: // what is lost of one is a destination
		was := before.Services[o.Name]
		return (was == nil || len(was.Destination) > 0) && r.Config.usedServices()[o.Name]
	case KindDirect:
		return before.Direct.lossy || slices.ContainsFunc(Difference(before, r.Config), func(c Change) bool { return c.Object.Kind == KindDirect && c.Removed != nil })
	case KindZone:
		return slices.ContainsFunc(Names(before.ZoneParts), func(part string) bool { return strings.HasPrefix(part, o.Name+"/") })
	}
	return true
}

// Unsaid are the keys of firewalld.conf that have another value than before although no line of the file sets them, each with its value
// before, as "Key=value".
func (r *Rest) Unsaid(before *Conf) []string {
	var list []string
	for _, key := range r.Config.Conf.differing(before) {
		if _, ok := r.conf.get(key); !ok {
			list = append(list, key+"="+before.Written(key))
		}
	}
	return list
}
