package compile

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"richwall/compile/ir"
	"richwall/grammar"
	"richwall/zones"
)

// findInUse finds the zones and policies that get chains. A zone is in use when something is bound to it or was since the
// last reload, or when it is the default zone; a policy when it is not disabled and connects zones that something is bound to, the
// default zone, any zone, or this machine.
func (s *state) findInUse() {
	def := s.cfg.Zones[s.cfg.Conf.DefaultZone]
	s.applied = []*zones.Zone{def}
	for _, name := range s.history {
		if z := s.cfg.Zones[name]; z != nil && z != def {
			s.applied = append(s.applied, z)
		}
	}
	for _, name := range zones.Names(s.cfg.Zones) {
		z := s.cfg.Zones[name]
		if !slices.Contains(s.applied, z) && (s.all || z.Bound()) {
			s.applied = append(s.applied, z)
		}
	}
	for _, name := range zones.Names(s.cfg.Policies) {
		p := s.cfg.Policies[name]
		if !p.Disable && s.reaches(p.IngressZones) && s.reaches(p.EgressZones) {
			s.active = append(s.active, p)
		}
	}
	s.nameChains()
}

// reaches says whether one of a policy's zones gets packets.
func (s *state) reaches(list []string) bool {
	return slices.ContainsFunc(list, func(name string) bool {
		z := s.cfg.Zones[name]
		return s.all && z != nil || s.cfg.InUse(zones.Object{Kind: zones.KindZone, Name: name})
	})
}

// covers says whether a policy's list of zones includes a zone, or this machine for zones.ZoneHost.
func covers(list []string, zone string) bool {
	return slices.Contains(list, zone) || zone != zones.ZoneHost && slices.Contains(list, zones.ZoneAny)
}

// binding is an interface or a source of a zone: what sends a packet into that zone.
type binding struct {
	zone     *zones.Zone
	iface    string // empty for a source
	source   string // empty for an interface; both empty for the default zone's rest
	families ir.Families
	match    [2]ir.Match // as ingress (ir.Source) and egress (ir.Dest); nil where there is nothing to match
}

// bindings are all bindings of the zones in use; the last is the default zone's rest, for what nothing else matches.
func (s *state) bindings() []binding {
	var list []binding
	for _, z := range s.applied {
		for _, name := range z.Interfaces {
			list = append(list, binding{zone: z, iface: name, families: ir.Both, match: [2]ir.Match{
				ir.Iface{Side: ir.Source, Name: name}, ir.Iface{Side: ir.Dest, Name: name}}})
		}
		for _, source := range z.Sources {
			if b, ok := s.sourceBinding(z, source); ok {
				list = append(list, b)
			}
		}
	}
	return append(list, binding{zone: s.applied[0], families: ir.Both})
}

// sourceBinding is the binding of a zone's source: an address, a prefix, a MAC address or a set.
func (s *state) sourceBinding(z *zones.Zone, source string) (binding, bool) {
	b := binding{zone: z, source: source, families: ir.Both}
	if name, ok := strings.CutPrefix(source, "ipset:"); ok {
		set := s.sets[name]
		if set == nil {
			s.fail(grammar.InvalidIPSet, zoneOrigin(z, "source "+source), "there is no ipset %q", name)
			return b, false
		}
		b.families = set.Family
		b.match = [2]ir.Match{ir.Lookup{Side: ir.Source, Set: set}, ir.Lookup{Side: ir.Dest, Set: set}}
		return b, true
	}
	if isMAC(source) {
		b.source = strings.ToUpper(source) // firewalld sorts them so
		mac := strings.ToLower(source)
		b.match[ir.Source] = ir.EtherAddr{Side: ir.Source, MAC: mac}
		if s.layout.macEgress {
			b.match[ir.Dest] = ir.EtherAddr{Side: ir.Dest, MAC: mac}
		}
		return b, true
	}
	p, err := parsePrefix(source)
	if err != nil {
		s.fail(grammar.InvalidAddr, zoneOrigin(z, "source "+source), "%q is neither an address nor a prefix", source)
		return b, false
	}
	b.families = familyOf(p)
	b.match = [2]ir.Match{ir.Addr{Side: ir.Source, Prefix: p}, ir.Addr{Side: ir.Dest, Prefix: p}}
	return b, true
}

func familyOf(p netip.Prefix) ir.Families {
	if p.Addr().Is4() {
		return ir.V4
	}
	return ir.V6
}

// sortBindings puts bindings into the order in which they are asked: by the zones' priorities, sources before interfaces,
// then by name. The default zone's rest stays last.
func sortBindings(list []binding, side ir.Side) []binding {
	priority := func(b binding) int {
		if side == ir.Source {
			return b.zone.IngressPriority
		}
		return b.zone.EgressPriority
	}
	rank := func(b binding) int {
		if b.source != "" {
			return 0
		}
		return 1
	}
	sorted := slices.Clone(list)
	slices.SortStableFunc(sorted[:len(sorted)-1], func(a, b binding) int {
		return cmp.Or(cmp.Compare(priority(a), priority(b)), cmp.Compare(rank(a), rank(b)),
			cmp.Compare(a.zone.Name, b.zone.Name), cmp.Compare(a.iface, b.iface), cmp.Compare(a.source, b.source))
	})
	return sorted
}

// dispatchPoint is a chain in which bindings on one side choose the chain to go on in.
type dispatchPoint struct {
	table, chain string
	hook         string // of the base chain, in the first stage
	side         ir.Side
	to           func(zone string) string // the chain to go on in
	noMAC        bool                     // iptables has no MAC address there any more
	withoutMAC   []*zones.Zone            // zones whose MAC addresses are not asked for
}

// compileDispatch makes the way from a base chain to the chains of zones and policies, in up to three stages: by where the
// packet comes from, by where it goes, and then through policies and the zone, by priority, to the zone's target. A check makes no
// way: nothing can be wrong with one, and its rules grow with the square of the zones, all of which a check takes as in use.
func (s *state) compileDispatch() {
	all := s.bindings()
	s.bound = [2][]binding{sortBindings(all, ir.Source), sortBindings(all, ir.Dest)}
	if s.all {
		return
	}
	toZone := func(table, hook, before, after string) func(string) string {
		return func(zone string) string { return s.chain(table, hook, before+zone+after) }
	}
	points := []dispatchPoint{
		{table: "filter", hook: "INPUT", side: ir.Source, to: toZone("filter", "IN", "", "_to_HOST")},
		{table: "filter", hook: "FORWARD", side: ir.Source, to: toZone("filter", "FWD", "", "_dispatch_stage2")},
		{table: "filter", hook: "OUTPUT", side: ir.Dest, to: toZone("filter", "OUT", "HOST_to_", "")},
		{table: "nat", hook: "POSTROUTING", side: ir.Source, to: toZone("nat", "POST", "", "_dispatch_stage2"), noMAC: !s.layout.macEgress},
		{table: "nat", hook: "OUTPUT", side: ir.Dest, to: toZone("nat", "OUT", "HOST_to_", "")},
	}
	for _, table := range s.layout.preTables {
		points = append(points, dispatchPoint{table: table, hook: "PREROUTING", side: ir.Source, to: toZone(table, "PRE", "", "_dispatch")})
	}
	for i, p := range points {
		points[i].chain = s.dispatchChain(p.table, p.hook)
	}
	for n, z := range s.applied {
		// A MAC address is no destination of a forwarded packet: the frame that it leaves in is not made yet. firewalld asks for
		// those of zones that come after all the same, and nobody can tell.
		for _, h := range []hooked{{"filter", "FWD"}, {"nat", "POST"}} {
			points = append(points, dispatchPoint{table: h.table, chain: s.chain(h.table, h.hook, z.Name+"_dispatch_stage2"), side: ir.Dest,
				to: toZone(h.table, h.hook, z.Name+"_to_", ""), withoutMAC: s.applied[:n]})
		}
	}
	for _, p := range points {
		for _, b := range s.bound[p.side] {
			s.dispatchBinding(p, b)
		}
	}
	for _, z := range s.applied {
		s.stage3(z)
	}
}

func (s *state) dispatchBinding(p dispatchPoint, b binding) {
	jump := familyRule(b.families, zoneOrigin(b.zone, ""), ir.Jump{Chain: p.to(b.zone.Name)})
	m := b.match[p.side]
	switch {
	case b.source == "" && b.iface == "": // the rest: no match
	case m == nil:
		return
	default:
		if _, mac := m.(ir.EtherAddr); mac && (p.noMAC || slices.Contains(p.withoutMAC, b.zone)) {
			return
		}
		jump.Matches = []ir.Match{m}
	}
	s.add(p.table, p.chain, jump)
}

// The order of what ends a stage 3 chain: after every policy, whose priorities end at 32767.
const (
	targetLogOrder = 32768
	targetOrder    = 32769
)

// stage3 makes the chains in which a zone's traffic goes through policies and zones by priority: to this machine, from it,
// and to each zone.
func (s *state) stage3(z *zones.Zone) {
	in := s.chain("filter", "IN", z.Name+"_to_HOST")
	s.policyJumps("filter", in, "IN", z.Name, zones.ZoneHost)
	s.zoneJump("filter", in, "IN", z, 1)
	s.add("filter", in, s.zoneTarget(z, "IN")...)

	for _, table := range []string{"filter", "nat"} {
		out := s.chain(table, "OUT", "HOST_to_"+z.Name)
		s.policyJumps(table, out, "OUT", zones.ZoneHost, z.Name)
		s.zoneJump(table, out, "OUT", z, 1)
		s.add(table, out, ordered(targetOrder, rule(zoneOrigin(z, ""), ir.Accept)))
	}
	for _, table := range s.layout.preTables {
		pre := s.chain(table, "PRE", z.Name+"_dispatch")
		s.policyJumps(table, pre, "PRE", z.Name, append(names(s.applied), zones.ZoneHost)...)
		s.zoneJump(table, pre, "PRE", z, 1+len(s.applied)) // firewalld has one for each zone it may go to, and one for the machine
		s.add(table, pre, ordered(targetOrder, rule(zoneOrigin(z, ""), ir.Accept)))
	}
	for _, e := range s.applied {
		fwd, post := s.chain("filter", "FWD", z.Name+"_to_"+e.Name), s.chain("nat", "POST", z.Name+"_to_"+e.Name)
		s.policyJumps("filter", fwd, "FWD", z.Name, e.Name)
		s.zoneJump("filter", fwd, "FWD", z, 1)
		s.add("filter", fwd, s.zoneTarget(z, "FWD")...)
		s.policyJumps("nat", post, "POST", z.Name, e.Name)
		s.zoneJump("nat", post, "POST", e, 1)
		s.add("nat", post, ordered(targetOrder, rule(zoneOrigin(e, ""), ir.Accept)))
	}
}

func names(list []*zones.Zone) []string {
	var names []string
	for _, z := range list {
		names = append(names, z.Name)
	}
	return names
}

// policyJumps adds a jump to each policy from one zone to others, at the policy's priority.
func (s *state) policyJumps(table, chain, hook, ingress string, egress ...string) {
	for _, p := range s.active {
		if !covers(p.IngressZones, ingress) {
			continue
		}
		for _, e := range egress {
			if !covers(p.EgressZones, e) {
				continue
			}
			s.add(table, chain, ordered(p.Priority, rule(policyOrigin(p, ""), ir.Jump{Chain: s.chain(table, hook, s.layout.policyPrefix+p.Name)})))
		}
	}
}

// zoneJump adds the jump to a zone's own chain, between policies of negative and of positive priority.
func (s *state) zoneJump(table, chain, hook string, z *zones.Zone, times int) {
	if s.layout.unique {
		times = 1
	}
	for range times {
		s.add(table, chain, rule(zoneOrigin(z, ""), ir.Jump{Chain: s.chain(table, hook, z.Name)}))
	}
}

// zoneTarget is what becomes of a packet that neither a policy nor the zone decided about.
func (s *state) zoneTarget(z *zones.Zone, hook string) []*ir.Rule {
	origin := zoneOrigin(z, "target "+z.Target)
	prefix := fmt.Sprintf("%s%s_%s_", s.layout.logPrefix, hook, z.Name)
	var rules []*ir.Rule
	switch z.Target {
	case zones.TargetAccept:
		rules = []*ir.Rule{rule(origin, ir.Accept)}
	case zones.TargetDrop:
		rules = s.refusal(origin, prefix+"DROP", ir.Drop)
	default:
		rules = s.refusal(origin, prefix+"REJECT", s.targetReject())
	}
	if len(rules) == 2 {
		ordered(targetLogOrder, rules[0])
	}
	ordered(targetOrder, rules[len(rules)-1])
	return rules
}

// targetReject is how targets reject: nftables says that it is prohibited, iptables that the port is unreachable.
func (s *state) targetReject() ir.Action {
	if s.layout.backend == ir.NFTables {
		return prohibited
	}
	return ir.Reject{With: ir.RejectDefault}
}

func ordered(order int, r *ir.Rule) *ir.Rule {
	r.Order = order
	return r
}

func zoneOrigin(z *zones.Zone, text string) *ir.Origin {
	return &ir.Origin{Object: "zone " + z.Name, Path: z.Origin.Path, Text: text}
}

func policyOrigin(p *zones.Policy, text string) *ir.Origin {
	return &ir.Origin{Object: "policy " + p.Name, Path: p.Origin.Path, Text: text}
}
