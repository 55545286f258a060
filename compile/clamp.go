package compile

import (
	"slices"
	"strings"

	"richwall/compile/ir"
	"richwall/grammar"
	"richwall/zones"
)

// What firewalld makes of a tcp-mss-clamp stands behind "ct state established accept", in the chain of the zone that a
// connection enters by: it never sees the SYN/ACK, nor a connection that was forwarded by a forward-port, nor one that
// another policy has accepted before. So there are chains of our own beside it, at mangle priority in forward, input and
// output, before any verdict. Connection tracking knows there which way a packet goes, and on both ways source and
// destination are the real ones, so what a rule says of a connection is asked of the reply with interfaces and addresses
// exchanged.
//
//	mangle_FORWARD           tcp flags syn → mangle_FORWARD_mss
//	mangle_FORWARD_mss       original direction → mangle_FORWARD_SYN, reply direction → mangle_FORWARD_SYNACK; without
//	                         a direction, as connection tracking leaves it out, by TCP's flags
//	mangle_FORWARD_SYN       by where it comes from → mangle_SYN_<I>_dispatch
//	mangle_SYN_<I>_dispatch  by where it goes → mangle_SYN_<I>_to_<E>
//	mangle_SYN_<I>_to_<E>    the clamps of zone I, of zone E, and of the policies from I to E
//	mangle_SYN_<zone>, mangle_SYN_policy_<policy>
//	                         the clamps themselves
//
// and mangle_SYNACK_… for the reply; mangle_INPUT_… and mangle_OUTPUT_… are the same for what this machine receives and sends,
// as its own connections are as much a zone's or policy's as others. The clamps themselves are the same chains unless a rule
// has to be left out: the kernel knows neither the path of what it receives, nor a MAC address of what it sends. A clamp is no
// verdict and only ever lowers the size, so priorities do not matter; neither does the order of clamps, unless one has a range,
// which is asked of what those before it have left. The chains exist only where there is a clamp.

// clamp is a tcp-mss-clamp of a zone or policy, or a tcp-mss.
type clamp struct {
	owner  *owner
	rule   *richRule
	sizes  []clampSize
	config *grammar.TCPMSSClamp
	match  *grammar.TCPMSS // of a tcp-mss; nil of a clamp
}

// kind is what the name of the rule's chain begins with.
func (c *clamp) kind() string {
	if c.match != nil {
		return segments
	}
	return ""
}

// concerns says whether a clamp is for connections from one zone to another; either may be zones.ZoneHost.
func (c *clamp) concerns(ingress, egress string) bool {
	if p := c.owner.policy; p != nil {
		return covers(p.IngressZones, ingress) && covers(p.EgressZones, egress)
	}
	return c.owner.zone.Name == ingress || c.owner.zone.Name == egress
}

// way is a direction of a connection's packets through one of the kernel's hooks.
type way struct {
	base  string // the chain that the hook enters
	name  string // in names of chains: after the first packet that goes that way
	reply bool
}

var ways = []way{
	{base: "FORWARD", name: "SYN"}, {base: "FORWARD", name: "SYNACK", reply: true},
	{base: "INPUT", name: "INPUT_SYN"}, {base: "INPUT", name: "INPUT_SYNACK", reply: true},
	{base: "OUTPUT", name: "OUTPUT_SYN"}, {base: "OUTPUT", name: "OUTPUT_SYNACK", reply: true},
}

// direction is the last part of the name of the chain in which a way begins.
func (w way) direction() string {
	if w.reply {
		return "SYNACK"
	}
	return "SYN"
}

// compileClamps makes the chains that clamp both directions.
func (s *state) compileClamps() {
	s.linkSets()
	if len(s.clamps) == 0 || s.cfg.Own.TCPMSSClamp != "both" {
		return
	}
	byIngress, byEgress := s.bound[ir.Source], s.bound[ir.Dest]
	for _, w := range ways {
		toHost := func(i string) string { return s.clampPair(i, zones.ZoneHost, w) }
		fromHost := func(e string) string { return s.clampPair(zones.ZoneHost, e, w) }
		switch {
		case w.base == "FORWARD":
			ingress, egress := ir.Source, ir.Dest
			if w.reply {
				ingress, egress = egress, ingress
			}
			for _, i := range s.applied {
				s.clampDispatch(w.name, i.Name+"_dispatch", egress, byEgress, func(e string) string { return s.clampPair(i.Name, e, w) })
			}
			s.clampDispatch(w.base, w.direction(), ingress, byIngress, func(i string) string { return s.filled(w.name, i+"_dispatch") })
		case w.base == "INPUT" && !w.reply:
			s.clampDispatch(w.base, w.direction(), ir.Source, byIngress, toHost)
		case w.base == "INPUT":
			s.clampDispatch(w.base, w.direction(), ir.Source, byEgress, fromHost)
		case w.reply:
			s.clampDispatch(w.base, w.direction(), ir.Dest, byIngress, toHost)
		default:
			s.clampDispatch(w.base, w.direction(), ir.Dest, byEgress, fromHost)
		}
	}
	for _, base := range []string{"FORWARD", "INPUT", "OUTPUT"} {
		s.clampBase(base)
	}
}

// clampBase makes the way from the kernel's hook to the chains of both directions, if they have any rules.
func (s *state) clampBase(base string) {
	var starts []*ir.Rule
	for _, w := range ways {
		if name := s.filled(base, w.direction()); w.base == base && name != "" {
			starts = append(starts, rule(confOrigin, ir.Jump{Chain: name, Goto: true}, ir.CTDirection{Reply: w.reply}))
		}
	}
	if len(starts) == 0 {
		return
	}
	starts = append(starts, s.untracked(base)...)
	name := s.chain("mangle", base, ir.ChainMSS)
	s.add("mangle", name, starts...)
	first := base
	if s.layout.oneTable {
		first = "mangle_" + base
		s.declare("mangle", first).Hook = &ir.Hook{Type: "filter", Hook: strings.ToLower(base), Priority: -150}
	}
	s.add("mangle", first, rule(confOrigin, ir.Jump{Chain: name}, ir.SYN{}))
}

// untracked are the rules by which a segment of no connection that is tracked goes to the chains of its direction: by NOTRACK, or as SYNPROXY
// makes it, it has no direction that could be asked for, and TCP's flags tell as much of what opens a connection.
func (s *state) untracked(base string) []*ir.Rule {
	to := func(direction string) ir.Action {
		if name := s.filled(base, direction); name != "" {
			return ir.Jump{Chain: name, Goto: true}
		}
		return ir.Return
	}
	rules := []*ir.Rule{rule(confOrigin, to("SYNACK"), ir.ACK{})}
	if to("SYN") != ir.Action(ir.Return) {
		rules = append(rules, rule(confOrigin, to("SYN")))
	}
	return rules
}

// filled is the name of a chain if it has rules, and else empty.
func (s *state) filled(hook, rest string) string {
	name := s.chain("mangle", hook, rest)
	table := "mangle"
	if s.layout.oneTable {
		table = ""
	}
	if c := s.chains[chainKey{table, name}]; c == nil || len(c.Rules) == 0 {
		return ""
	}
	return name
}

// clampDispatch makes a chain in which bindings choose the chain to go on in; bindings of zones that have none end here. Where
// no zone has one there is no chain.
func (s *state) clampDispatch(hook, rest string, side ir.Side, sorted []binding, to func(zone string) string) {
	var rules []*ir.Rule
	last := 0
	for _, b := range sorted {
		m := b.match[side]
		if _, mac := m.(ir.EtherAddr); m == nil && b.source != "" || mac && side == ir.Dest {
			continue // a frame's destination is not known yet
		}
		r := familyRule(b.families, zoneOrigin(b.zone, ""), ir.Return)
		if m != nil {
			r.Matches = []ir.Match{m}
		}
		if next := to(b.zone.Name); next != "" {
			r.Actions = []ir.Action{ir.Jump{Chain: next, Goto: true}}
			last = len(rules) + 1
		}
		rules = append(rules, r)
	}
	if last > 0 {
		s.add("mangle", s.chain("mangle", hook, rest), rules[:last]...) // those behind would only end here
	}
}

// clampPair makes the chain of connections from one zone to another, which asks the clamps that concern them; it is empty
// where none does.
func (s *state) clampPair(ingress, egress string, w way) string {
	rest := ingress + "_to_" + egress
	if name := s.filled(w.name, rest); name != "" {
		return name
	}
	name := s.chain("mangle", w.name, rest)
	var asked []string
	for _, kind := range []string{segments, ""} { // a clamp changes what tcp-mss asks for
		for _, c := range s.clamps {
			if c.kind() != kind || !c.concerns(ingress, egress) {
				continue
			}
			chain := s.clampChain(c.owner, w, kind)
			if chain == "" || slices.Contains(asked, chain) {
				continue
			}
			asked = append(asked, chain)
			s.add("mangle", name, rule(c.owner.origin(""), ir.Jump{Chain: chain}))
		}
	}
	if asked == nil {
		return ""
	}
	return name
}

// clampChain makes the chain with the rules of one kind of a zone or policy for one way, or returns that of forwarded packets where the
// rules are the same; empty where there are none.
func (s *state) clampChain(o *owner, w way, kind string) string {
	key := clampKey{o, w, kind}
	if name, known := s.clampChains[key]; known {
		return name
	}
	name := s.newClampChain(o, w, kind)
	if s.clampChains == nil {
		s.clampChains = map[clampKey]string{}
	}
	s.clampChains[key] = name
	return name
}

// clampKey is whose clamps, for which way, and of which kind.
type clampKey struct {
	owner *owner
	way   way
	kind  string
}

func (s *state) newClampChain(o *owner, w way, kind string) string {
	var rules []*ir.Rule
	forwarded, left := way{base: "FORWARD", name: w.direction(), reply: w.reply}, 0
	for _, c := range s.clamps {
		if c.owner == o && c.kind() == kind {
			rules = append(rules, c.rules(w)...)
			left += len(c.rules(forwarded))
		}
	}
	if len(rules) == left {
		w = forwarded
	}
	if name := s.filled(kind+w.name, o.suffix); name != "" || rules == nil {
		return name
	}
	s.add("mangle", s.chain("mangle", kind+w.name, o.suffix), rules...)
	return s.filled(kind+w.name, o.suffix)
}

// endsOf are a rule's destination and source for one way; false where it is not for that way. A source MAC address cannot be asked of the reply,
// nor of what this machine sends: neither has one yet.
func (c *richRule) endsOf(w way) ([]ir.Match, bool) {
	switch {
	case w.reply:
		return exchanged(c.ends)
	case w.base == "OUTPUT" && slices.ContainsFunc(c.ends, isEtherAddr):
		return nil, false
	}
	return c.ends, true
}

// rules are a clamp's rules for one way.
func (c *clamp) rules(w way) []*ir.Rule {
	if c.match != nil {
		return c.segmentRules(w)
	}
	r := c.rule
	ends, ok := r.endsOf(w)
	if !ok {
		return nil
	}
	var rules []*ir.Rule
	add := func(f ir.Families, actions []ir.Action, more ...ir.Match) {
		var matches []ir.Match
		if f != ir.Both && len(ends) == 0 || len(r.lead) > 0 {
			matches = []ir.Match{ir.NFProto{Family: f}}
		}
		matches = append(append(matches, ends...), more...)
		rules = append(rules, &ir.Rule{Families: f, Matches: matches, Actions: actions, Origin: r.origin})
	}
	if log, limit := r.logAction(); log != nil && !w.reply {
		add(r.families, []ir.Action{log}, append([]ir.Match{ctNew}, limit...)...)
	}
	for _, size := range c.sizes {
		if size.toPath() && w.base == "INPUT" {
			continue // the kernel itself heeds the MTU of its way back
		}
		more := append([]ir.Match{ir.SYN{}}, c.rule.s.sizesAsked(c.config, size)...)
		add(size.families, size.actions(c.config.Raise), more...)
	}
	return rules
}

// sizesAsked is what is asked of an announced size before it is clamped: the range, if there is one; and with a counter in every rule, which
// is to count what is lowered, that it is more than the number that it is lowered to. With the MTU of a path or of links there is no such
// number, and the counter is of what is looked at.
func (s *state) sizesAsked(e *grammar.TCPMSSClamp, size clampSize) []ir.Match {
	asked := ir.MSS{Low: 0, High: mostMSS}
	if e.Range != nil {
		asked = ir.MSS(*e.Range)
	}
	if s.out.Counters && s.cfg.Own.TCPMSSClamp == "both" && size.bytes != 0 && !e.Raise {
		asked.Low = max(asked.Low, size.bytes+1)
	}
	if asked.Low > asked.High || asked.Low == 0 && asked.High == mostMSS {
		if e.Range == nil {
			return nil
		}
		return []ir.Match{ir.MSS(*e.Range)}
	}
	return []ir.Match{ir.MSS(asked)}
}

const mostMSS = 65535 // the option has 16 bits: RFC 9293, 3.2

var ctNew = ir.CTState{States: []string{"new"}}

func isEtherAddr(m ir.Match) bool { _, ok := m.(ir.EtherAddr); return ok }

// exchanged is matches with source and destination exchanged; false where one cannot be.
func exchanged(ends []ir.Match) ([]ir.Match, bool) {
	other := map[ir.Side]ir.Side{ir.Source: ir.Dest, ir.Dest: ir.Source}
	list := make([]ir.Match, len(ends))
	for i, m := range ends {
		switch m := m.(type) {
		case ir.Addr:
			m.Side = other[m.Side]
			list[i] = m
		case ir.Lookup:
			m.Side = other[m.Side]
			list[i] = m
		default:
			return nil, false
		}
	}
	return list, true
}
