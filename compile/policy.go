package compile

import (
	"strings"

	"richwall/compile/ir"
	"richwall/grammar"
	"richwall/zones"
)

// owner is a zone or a policy as the thing that rules belong to: where its rules go, by what they are.
type owner struct {
	name   string // as in log prefixes and origins
	object string // "zone public"
	path   string
	suffix string        // its part of chains' names
	zone   *zones.Zone   // nil for a policy
	policy *zones.Policy // nil for a zone
	// The hooks of the chains that rules go to, in short form; empty where there is none.
	filter  string // most rules
	through string // what concerns forwarded packets: clamps, and the log of marks
	nat     string // forward-ports
	post    string // masquerading
	mangle  string // marks
	helpers string // iptables: connection tracking helpers

	before, next *ownerMemo
}

func zoneOwner(z *zones.Zone) *owner {
	return &owner{name: "zone_" + z.Name + "_HOST", object: "zone " + z.Name, path: z.Origin.Path, suffix: z.Name, zone: z,
		filter: "IN", through: "FWD", nat: "PRE", post: "POST", mangle: "PRE", helpers: "PRE"}
}

func policyOwner(s *state, p *zones.Policy) *owner {
	o := &owner{name: p.Name, object: "policy " + p.Name, path: p.Origin.Path, suffix: s.layout.policyPrefix + p.Name, policy: p}
	switch {
	case covers(p.EgressZones, zones.ZoneHost):
		o.filter, o.through, o.nat, o.mangle, o.helpers = "IN", "IN", "PRE", "PRE", "PRE"
	case covers(p.IngressZones, zones.ZoneHost):
		o.filter, o.through, o.nat = "OUT", "OUT", "OUT"
	default:
		o.filter, o.through, o.nat, o.post, o.mangle, o.helpers = "FWD", "FWD", "PRE", "POST", "PRE", "PRE"
	}
	return o
}

// hooked is a chain of an owner: its table and its hook in short form.
type hooked struct{ table, hook string }

// hooks are all chains of an owner. A policy has those of its direction; a zone has those of all directions.
func (o *owner) hooks() []hooked {
	if o.zone != nil {
		return []hooked{{"filter", "IN"}, {"nat", "PRE"}, {"mangle", "PRE"}, {"raw", "PRE"}, {"filter", "OUT"}, {"nat", "OUT"},
			{"filter", "FWD"}, {"nat", "POST"}}
	}
	list := []hooked{{"filter", o.filter}, {"nat", o.nat}}
	if o.post != "" {
		list = append(list, hooked{"nat", o.post})
	}
	if o.mangle != "" {
		list = append(list, hooked{"mangle", o.mangle}, hooked{"raw", o.mangle})
	}
	return list
}

// origin is the origin of a rule of the owner.
func (o *owner) origin(text string) *ir.Origin {
	return &ir.Origin{Object: o.object, Path: o.path, Text: text}
}

// sub is the name of one of an owner's sub-chains.
func (s *state) sub(o *owner, table, hook, sub string) string {
	return s.chain(table, hook, o.suffix+"_"+sub)
}

// declareOwner makes an owner's chains, with the jumps to their sub-chains.
func (s *state) declareOwner(o *owner) {
	origin := o.origin("")
	for _, h := range o.hooks() {
		if h.table == "raw" && s.layout.oneTable {
			continue
		}
		name := s.chain(h.table, h.hook, o.suffix)
		s.declare(h.table, name)
		for _, sub := range subChains {
			jump := ir.Jump{Chain: s.sub(o, h.table, h.hook, sub)}
			if long := h.hook + "_" + o.suffix; !s.layout.oneTable && name != long {
				jump.Long = long + "_" + sub // firewalld says it where the chain's own name is not readable either
			}
			s.declare(h.table, jump.Chain)
			s.add(h.table, name, rule(origin, jump))
		}
	}
}

func (s *state) compileZones() {
	for _, z := range s.applied {
		o := zoneOwner(z)
		s.declareOwner(o)
		s.content(o, &z.Content)
		s.intraZone(o, z)
		s.icmpDefault(o, z)
	}
}

func (s *state) compilePolicies() {
	for _, p := range s.active {
		o := policyOwner(s, p)
		s.declareOwner(o)
		s.content(o, &p.Content)
		s.policyTarget(o, p)
	}
}

// policyTarget is what becomes of a packet that the policy's rules did not decide about.
func (s *state) policyTarget(o *owner, p *zones.Policy) {
	chain := s.chain("filter", o.filter, o.suffix)
	origin := o.origin("target " + p.Target)
	prefix := s.layout.logPrefix + o.filter + "_" + o.suffix + "_" + p.Target
	switch p.Target {
	case zones.TargetAccept:
		s.add("filter", chain, rule(origin, ir.Accept))
	case zones.TargetDrop:
		s.add("filter", chain, s.refusal(origin, prefix, ir.Drop)...)
	case zones.PolicyReject:
		s.add("filter", chain, s.refusal(origin, prefix, s.targetReject())...)
	}
}

// content compiles what zones and policies have in common, in the order that firewalld applies it.
func (s *state) content(o *owner, c *zones.Content) {
	s.begin(o)
	for _, name := range c.Services {
		s.item(o, "service "+name, func() { s.plainService(o, name) })
	}
	s.ports(o, "port ", ir.Dest, c.Ports)
	if c.Masquerade {
		s.item(o, "masquerade", func() {
			s.emit(o, "nat", o.post, "allow", familyRule(ir.V4, o.origin("masquerade"), ir.Masquerade{}, ir.NFProto{Family: ir.V4}, notToLoopback))
		})
	}
	for _, f := range c.ForwardPorts {
		s.item(o, "forward-port "+strings.Join([]string{f.Port, f.Protocol, f.ToPort, f.ToAddr}, " "), func() { s.plainForward(o, f) })
	}
	s.ports(o, "source-port ", ir.Source, c.SourcePorts)
	for _, name := range c.ICMPBlocks {
		s.item(o, "icmp-block "+name, func() { s.icmpBlock(o, name) })
	}
	s.richRules(o, c.Rules)
	for _, value := range c.Protocols {
		text := "protocol " + value
		s.item(o, text, func() {
			if m, ok := s.protocolMatch(o.origin("protocol "+value), value); ok {
				s.emit(o, "filter", o.filter, "allow", rule(o.origin(text), ir.Accept, m))
			}
		})
	}
}

// ports lets in what comes to ports, or from them.
func (s *state) ports(o *owner, what string, side ir.Side, list []zones.Port) {
	for _, p := range list {
		text := what + p.Port + "/" + p.Protocol
		s.item(o, text, func() {
			if m, ok := s.portMatch(o, side, p); ok {
				s.emit(o, "filter", o.filter, "allow", rule(o.origin(text), ir.Accept, m))
			}
		})
	}
}

// portMatch is a match of a port; ok is false, and the error recorded, where it is none.
func (s *state) portMatch(o *owner, side ir.Side, p zones.Port) (m ir.Match, ok bool) {
	low, high, err := grammar.ParsePort(p.Port)
	if err != nil {
		s.fail(grammar.InvalidPort, o.origin(p.Port+"/"+p.Protocol), "%s", message(err))
		return nil, false
	}
	return ir.Port{Side: side, Protocol: p.Protocol, Low: low, High: high}, true
}

func (s *state) protocolMatch(origin *ir.Origin, value string) (m ir.Match, ok bool) {
	n, err := grammar.ParseProtocol(value)
	if err != nil {
		s.fail(grammar.InvalidProtocol, origin, "%s", message(err))
		return nil, false
	}
	if n == 0 && s.layout.backend == ir.IPTables { // it would match every packet
		s.fail(grammar.InvalidProtocol, origin, "iptables takes protocol 0 for any protocol: it needs FirewallBackend=nftables")
		return nil, false
	}
	return ir.L4Proto{Numbers: []int{n}}, true
}

// plainForward compiles a forward-port: for IPv6 if the address it goes to is one, else for IPv4.
func (s *state) plainForward(o *owner, f zones.ForwardPort) {
	family := ir.V4
	if isIPv6(f.ToAddr) {
		family = ir.V6
	}
	origin := o.origin("forward-port " + f.Port + "/" + f.Protocol)
	s.forward(o, forwarding{ForwardPort: f, origin: origin, family: family, sub: "allow"})
}

// forwarding is a forward-port, plain or of a rich rule, with what it needs to become a rule.
type forwarding struct {
	zones.ForwardPort
	origin    *ir.Origin
	family    ir.Families
	sub       string        // of the chain for translations
	rule      *grammar.Rule // nil for a plain one
	addresses []ir.Match    // of the rich rule
}

// forward adds the translation that a forward-port makes, and where forward-ports are strict what lets its packets pass.
func (s *state) forward(o *owner, f forwarding) {
	in, ok := s.portMatch(o, ir.Dest, zones.Port{Port: f.Port, Protocol: f.Protocol})
	if !ok {
		return
	}
	action := ir.DNAT{Family: f.family}
	if f.ToPort != "" {
		low, high, err := grammar.ParsePort(f.ToPort)
		if err != nil {
			s.fail(grammar.InvalidPort, f.origin, "%s", message(err))
			return
		}
		action.Low, action.High = low, high
	}
	if f.ToAddr != "" {
		p, err := parsePrefix(f.ToAddr)
		if err != nil || familyOf(p) != f.family {
			s.fail(grammar.InvalidAddr, f.origin, "%q is not an address that %s packets can go to", f.ToAddr, f.family)
			return
		}
		action.Addr = p.Addr()
	}
	matches := append([]ir.Match{ir.NFProto{Family: f.family}}, f.addresses...) // before the port, with both back ends
	r := familyRule(f.family, f.origin, action, append(matches, in)...)
	if f.rule != nil {
		r.Order, r.Ranked = f.rule.Priority, true
	}
	s.emit(o, "nat", o.nat, f.sub, r)
	if s.cfg.Conf.StrictForwardPorts {
		s.acceptForwarded(o, f, in.(ir.Port), action)
	}
}

// acceptForwarded lets the packets pass that a forward-port has translated; the last one added stands first.
func (s *state) acceptForwarded(o *owner, f forwarding, port ir.Port, to ir.DNAT) {
	hook := "INPUT"
	switch {
	case o.filter == "OUT":
		hook = "OUTPUT"
	case to.Addr.IsValid():
		hook = "FORWARD"
	}
	e := s.more()
	e.strict = append(e.strict, strictRule{hook,
		familyRule(f.family, f.origin, ir.Accept, ir.CTOrigPort{Protocol: port.Protocol, Low: port.Low, High: port.High})})
}

// intraZone lets packets pass between the interfaces and sources of one zone.
func (s *state) intraZone(o *owner, z *zones.Zone) {
	if !z.Forward {
		return
	}
	chain := s.sub(o, "filter", "FWD", "allow")
	for _, name := range z.Interfaces {
		s.add("filter", chain, rule(o.origin("forward"), ir.Accept, ir.Iface{Side: ir.Dest, Name: name}))
	}
	for _, source := range z.Sources {
		b, ok := s.sourceBinding(z, source)
		if ok && b.match[ir.Dest] != nil {
			s.add("filter", chain, familyRule(b.families, o.origin("forward"), ir.Accept, b.match[ir.Dest]))
		}
	}
}
