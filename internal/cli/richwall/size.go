package richwall

import (
	"fmt"
	"slices"
	"strings"

	"richwall/grammar"
	"richwall/zones"
)

// How large the ruleset of a folder may be that is not trusted, by the reckoning of a sizer: some hundred megabytes; and for the lab,
// in which the back end's tools load it twice.
const (
	mostRules    = 150_000
	mostLabRules = 25_000
)

// rulesOfBinding is how many rules an interface or a source of a zone makes, one in each chain that finds the zone of a packet. There is one
// more for each zone that packets may come from, in the chain that finds where they go.
const rulesOfBinding = 6

// bounded is an error if the ruleset of a configuration would be larger than may be, unless its folder is trusted.
func (d *directories) bounded(cfg *zones.Config, most int) error {
	if d.dirs().Follow {
		return nil
	}
	s := sizer{Config: cfg, services: map[string]int{}}
	if s.measure(); s.size > most {
		return fmt.Errorf("cannot work out the rules of %s: there would be more than %d, of zones and policies between each other, what is bound to zones, entries of ipsets, and services in rules; "+
			"--trusted is for folders from which that is wanted", d.config, most)
	}
	return nil
}

// sizer reckons how large a ruleset is, in rules of the usual size. It stops when that is more than may be.
type sizer struct {
	*zones.Config
	services map[string]int // the rules of each service, once they are known
	size     int
}

func (s *sizer) measure() {
	used, bound := 0, 0
	for name, z := range s.Zones {
		bound += len(z.Interfaces) + len(z.Sources)
		if name == s.Conf.DefaultZone || len(z.Interfaces)+len(z.Sources) > 0 {
			used++
		}
		s.content(&z.Content)
	}
	s.size += bound * (rulesOfBinding + used)
	for _, set := range s.IPSets {
		s.size += entrySize(set)
	}
	s.size += 4 * used * used // each pair has chains of its own
	for _, p := range s.Policies {
		if !p.Disable {
			s.size += s.side(p.IngressZones, used) * s.side(p.EgressZones, used) * 3 / 2
		}
		s.content(&p.Content)
	}
}

// entrySize is how many rules the entries of a set weigh as much as. A range beside another field is up to thirty prefixes in the kernel
// (linux/net/netfilter/nft_set_pipapo.c).
func entrySize(set *zones.IPSet) int {
	eighths := len(set.Entries)
	if strings.Contains(set.Type, ",") {
		for _, entry := range set.Entries {
			if strings.Contains(entry, "-") {
				eighths += 7
			}
		}
	}
	return eighths / 8
}

// side is how many zones a side of a policy has.
func (s *sizer) side(names []string, used int) int {
	if slices.Contains(names, zones.ZoneAny) {
		return used
	}
	return len(names)
}

// content adds what a zone or policy allows and refuses. Rules that stand alone are small: many become one with a set.
func (s *sizer) content(c *zones.Content) {
	for _, name := range c.Services {
		s.size += s.service(name)
	}
	s.size += (len(c.Ports) + len(c.SourcePorts) + len(c.Rules)) / 2
	halves := 0 // of what does not become one with others
	for _, r := range c.Rules {
		if s.size > mostRules {
			return
		}
		switch e := r.Element.(type) {
		case *grammar.Service:
			s.size += s.service(e.Name) / 3 // rules of a priority each stand apart until they are folded
		case *grammar.TCPMSSClamp:
			halves += 3 // it is in a chain for each direction as well
		}
		if r.Log != nil || r.Priority != 0 {
			halves++
		}
	}
	s.size += halves / 2
}

// service is how many rules a service and those that it includes make.
func (s *sizer) service(name string) int {
	if n, known := s.services[name]; known {
		return n
	}
	n := 0
	seen := map[string]bool{name: true}
	for open := []string{name}; len(open) > 0 && n <= mostRules; {
		o := s.Services[open[len(open)-1]]
		open = open[:len(open)-1]
		if o == nil {
			continue
		}
		n += 1 + len(o.Ports) + len(o.Protocols) + len(o.SourcePorts)
		for _, include := range o.Includes {
			if !seen[include] {
				seen[include] = true
				open = append(open, include)
			}
		}
	}
	s.services[name] = n
	return n
}
