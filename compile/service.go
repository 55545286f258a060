package compile

import (
	"strings"

	"richwall/compile/ir"
	"richwall/grammar"
	"richwall/zones"
)

// expand is a service with all that it includes, the included ones first, each once.
func (s *state) expand(origin *ir.Origin, name string) []*zones.Service {
	var list []*zones.Service
	seen := map[string]bool{}
	var visit func(string)
	visit = func(name string) {
		if seen[name] {
			return
		}
		seen[name] = true
		svc := s.cfg.Services[name]
		if svc == nil {
			s.fail(zones.InvalidService, origin, "there is no service %q", name)
			return
		}
		for _, inner := range svc.Includes {
			visit(inner)
		}
		list = append(list, svc)
	}
	visit(name)
	return list
}

// destination is where a service is limited to, for one family; a service that is not limited has one of both families
// without a match.
type destination struct {
	families ir.Families
	match    []ir.Match
}

// destinations are those of a service that concern families.
func (s *state) destinations(origin *ir.Origin, svc *zones.Service, families ir.Families) []destination {
	if len(svc.Destination) == 0 {
		return []destination{{families: families}}
	}
	var list []destination
	for _, f := range []ir.Families{ir.V4, ir.V6} {
		text, ok := svc.Destination[f.String()]
		if !ok || families&f == 0 {
			continue
		}
		p, err := parsePrefix(text)
		if err != nil {
			s.fail(grammar.InvalidAddr, origin, "service %q is limited to %q, which is neither an address nor a prefix", svc.Name, text)
			continue
		}
		list = append(list, destination{f, []ir.Match{ir.Addr{Side: ir.Dest, Prefix: p}}})
	}
	return list
}

// serviceMatches are the ports and protocols of a service, without those it includes.
func (s *state) serviceMatches(o *owner, svc *zones.Service) []ir.Match {
	var list []ir.Match
	protocol := func(value string) {
		if m, ok := s.protocolMatch(o.origin("service "+svc.Name), value); ok {
			list = append(list, m)
		}
	}
	for _, p := range svc.Ports {
		if p.Port == "" {
			protocol(p.Protocol)
		} else if m, ok := s.portMatch(o, ir.Dest, p); ok {
			list = append(list, m)
		}
	}
	for _, value := range svc.Protocols {
		protocol(value)
	}
	for _, p := range svc.SourcePorts {
		if m, ok := s.portMatch(o, ir.Source, p); ok {
			list = append(list, m)
		}
	}
	return list
}

// plainService lets a service in.
func (s *state) plainService(o *owner, name string) {
	origin := o.origin("service " + name)
	for _, svc := range s.expand(origin, name) {
		for _, d := range s.destinations(origin, svc, ir.Both) {
			s.helperRules(o, origin, svc, d)
			for _, m := range s.serviceMatches(o, svc) {
				s.emit(o, "filter", o.filter, "allow",
					familyRule(d.families, origin, ir.Accept, append(d.match[:len(d.match):len(d.match)], m)...))
			}
		}
	}
}

// serviceHelpers are the connection tracking helpers of a service, by name, however it names them.
func (s *state) serviceHelpers(origin *ir.Origin, svc *zones.Service) []*zones.Helper {
	found := map[string]*zones.Helper{}
	find := func(name string) *zones.Helper {
		h := s.cfg.Helpers[name]
		if h == nil {
			s.fail(zones.InvalidHelper, origin, "service %q needs the helper %q, which there is not", svc.Name, name)
		}
		return h
	}
	for _, module := range svc.Modules {
		h := find(module)
		if h != nil && len(h.Ports) == 0 {
			// A module that is no helper by itself stands for the one that is named like it.
			h = find(helperType(h))
		}
		if h != nil {
			found[h.Name] = h
		}
	}
	for _, name := range svc.Helpers {
		if h := find(name); h != nil {
			found[h.Name] = h
		}
	}
	list := make([]*zones.Helper, 0, len(found))
	for _, name := range zones.Names(found) {
		list = append(list, found[name])
	}
	return list
}

// helperType is the kernel's name of a helper: that of its module without nf_conntrack_, and with dashes.
func helperType(h *zones.Helper) string {
	return strings.ReplaceAll(strings.TrimPrefix(h.Module, "nf_conntrack_"), "_", "-")
}

// helperRules assigns a service's connection tracking helpers to its connections.
func (s *state) helperRules(o *owner, origin *ir.Origin, svc *zones.Service, d destination) {
	table, hook := "filter", o.filter
	if !s.layout.oneTable {
		table, hook = "raw", o.helpers // iptables assigns them before connection tracking
	}
	for _, h := range s.serviceHelpers(origin, svc) {
		families := d.families
		if f := familyNamed(h.Family); f != 0 && !s.layout.oneTable { // a rule of nftables is for all families, and the object for its own
			families &= f
		}
		if families == 0 {
			continue
		}
		if hook == "" && len(h.Ports) > 0 {
			s.fail(zones.InvalidPolicy, origin, "iptables assigns the helper %q to incoming packets only; leave service %q out of a policy whose ingress zone is HOST, or use nftables", h.Name, svc.Name)
			return
		}
		for _, p := range h.Ports {
			m, ok := s.portMatch(o, ir.Dest, p)
			if !ok {
				continue
			}
			object := ir.Helper{Name: "helper-" + h.Name + "-" + p.Protocol, Type: helperType(h), Protocol: p.Protocol}
			e := s.more()
			e.helpers = append(e.helpers, object)
			s.emit(o, table, hook, "allow",
				familyRule(families, origin, ir.SetHelper{Object: object.Name, Type: object.Type}, append(d.match[:len(d.match):len(d.match)], m)...))
		}
	}
}

// helperObject adds a helper to the ruleset, once.
func (s *state) helperObject(h ir.Helper) {
	if !s.layout.oneTable {
		return
	}
	for _, have := range s.out.Helpers {
		if have == h {
			return
		}
	}
	s.out.Helpers = append(s.out.Helpers, h)
}
