package compile

import (
	"errors"
	"net/netip"
	"slices"
	"strings"

	"richwall/compile/ir"
	"richwall/grammar"
	"richwall/zones"
)

// rich compiles one rich rule of a zone or policy.
func (s *state) rich(o *owner, r zones.RichRule) {
	c := &richRule{s: s, o: o, r: r.Rule, origin: &ir.Origin{Object: o.object, Path: o.path, Line: r.Line, Rule: r.Rule}, families: ir.Both}
	if r.Family != grammar.AnyFamily {
		c.families = familyNamed(string(r.Family))
		c.lead = []ir.Match{ir.NFProto{Family: c.families}}
	}
	if !c.addresses() {
		return
	}
	switch e := r.Element.(type) {
	case nil:
		c.filter(variant{families: c.families})
	case *grammar.Service:
		c.service(e)
	case *grammar.Port:
		c.port(ir.Dest, zones.Port(*e))
	case *grammar.SourcePort:
		c.port(ir.Source, zones.Port(*e))
	case *grammar.Protocol:
		if m, ok := s.protocolMatch(c.origin, e.Value); ok {
			c.filter(variant{families: c.families, element: []ir.Match{m}})
		}
	case *grammar.ICMPType:
		for _, m := range s.icmpMatches(c.origin, e.Name, c.families) {
			c.filter(variant{families: m.Family, element: []ir.Match{m}, addressFirst: true})
		}
	case *grammar.ICMPBlock:
		for _, m := range s.icmpMatches(c.origin, e.Name, c.families) {
			v := variant{families: m.Family, element: []ir.Match{m}, addressFirst: true}
			c.log(v, "filter", o.filter)
			c.put("filter", o.filter, "deny", v, nil, prohibited)
		}
	case *grammar.TCPMSS:
		c.mss(e)
	case *grammar.Masquerade:
		c.put("nat", o.post, "allow", variant{families: c.families, element: []ir.Match{notToLoopback}}, nil, ir.Masquerade{})
	case *grammar.ForwardPort:
		c.forwardPort(e)
	case *grammar.TCPMSSClamp:
		c.clamp(e)
	}
}

// richRule is a rich rule while it is compiled.
type richRule struct {
	s        *state
	o        *owner
	r        *grammar.Rule
	origin   *ir.Origin
	families ir.Families // that the rule can match
	lead     []ir.Match  // the family, where it is given
	ends     []ir.Match  // destination and source
}

// variant is one of the packets that an element stands for: a service's port, an ICMP type of one family …
type variant struct {
	families     ir.Families
	service      []ir.Match // where the service is limited to
	element      []ir.Match
	addressFirst bool // source and destination are compared before the element, with iptables too
}

// addresses reads source and destination; false means that the rule cannot match, or is wrong.
func (c *richRule) addresses() bool {
	if d := c.r.Destination; d != nil {
		if !c.end(ir.Dest, d.Address, d.IPSet, d.Invert) {
			return false
		}
	}
	src := c.r.Source
	if src == nil {
		return true
	}
	if src.MAC != "" {
		c.ends = append(c.ends, ir.EtherAddr{Side: ir.Source, MAC: src.MAC, Invert: src.Invert})
		return true
	}
	return c.end(ir.Source, src.Address, src.IPSet, src.Invert)
}

func (c *richRule) end(side ir.Side, address, ipset string, invert bool) bool {
	if ipset != "" {
		set := c.s.sets[ipset]
		if set == nil {
			c.s.fail(grammar.InvalidIPSet, c.origin, "there is no ipset %q", ipset)
			return false
		}
		c.families &= set.Family
		e := c.s.more()
		e.sets = append(e.sets, set)
		c.ends = append(c.ends, ir.Lookup{Side: side, Set: set, Invert: invert})
		return c.families != 0
	}
	p, err := grammar.ParseAddress(c.r.Family, address)
	if err != nil {
		c.s.fail(grammar.InvalidAddr, c.origin, "%s", message(err))
		return false
	}
	if invert && p.Bits() == 0 && c.s.layout.backend == ir.IPTables {
		c.s.fail(grammar.InvalidAddr, c.origin, "no address is outside of %s, and iptables takes no such rule", address)
		return false
	}
	c.ends = append(c.ends, ir.Addr{Side: side, Prefix: p.Masked(), Invert: invert})
	return true
}

func (c *richRule) service(e *grammar.Service) {
	_, accepts := c.r.Action.(*grammar.Accept)
	for _, svc := range c.s.expand(c.origin, e.Name) {
		for _, d := range c.s.destinations(c.origin, svc, c.families) {
			if accepts {
				c.s.helperRules(c.o, c.origin, svc, d)
			}
			for _, m := range c.s.serviceMatches(c.o, svc) {
				c.filter(variant{families: d.families, service: d.match, element: []ir.Match{m}})
			}
		}
	}
}

func (c *richRule) port(side ir.Side, p zones.Port) {
	if m, ok := c.s.portMatch(c.o, side, p); ok {
		c.filter(variant{families: c.families, element: []ir.Match{m}})
	}
}

// filter adds the log, audit and action of a rule that decides about packets.
func (c *richRule) filter(v variant) {
	hook := c.o.filter
	mark, isMark := c.r.Action.(*grammar.Mark)
	if isMark {
		hook = c.o.through
	}
	c.log(v, "filter", hook)
	if c.r.Audit != nil {
		c.put("filter", hook, "log", v, c.r.Audit.Limit, ir.Audit{Type: c.r.Action.Keyword()})
	}
	switch a := c.r.Action.(type) {
	case *grammar.Accept:
		c.put("filter", hook, "allow", v, a.Limit, ir.Accept)
	case *grammar.Drop:
		c.put("filter", hook, "deny", v, a.Limit, ir.Drop)
	case *grammar.Reject:
		c.put("filter", hook, "deny", v, a.Limit, ir.Reject{With: a.Type})
	case *grammar.Mark:
		value, mask, masked, err := grammar.ParseMark(mark.Set)
		switch {
		case err != nil:
			c.s.fail(grammar.InvalidMark, c.origin, "%s", message(err))
		case c.o.mangle == "":
			c.s.fail(zones.InvalidPolicy, c.origin, "packets of this machine itself cannot be marked: the policy's ingress zone is HOST")
		default:
			c.put("mangle", c.o.mangle, "allow", v, a.Limit, ir.SetMark{Value: value, Mask: mask, Masked: masked})
		}
	}
}

// log adds the rule's log statement, if it has one.
func (c *richRule) log(v variant, table, hook string) {
	action, _ := c.logAction()
	switch l := c.r.Log.(type) {
	case *grammar.Log:
		c.put(table, hook, "log", v, l.Limit, action)
	case *grammar.NFLog:
		c.put(table, hook, "log", v, l.Limit, action)
	}
}

// logAction is the rule's log statement and its limit; nil if it has none.
func (c *richRule) logAction() (action ir.Action, limit []ir.Match) {
	var given *grammar.Limit
	switch l := c.r.Log.(type) {
	case *grammar.Log:
		action, given = ir.Log{Prefix: l.Prefix, Level: l.Level}, l.Limit
	case *grammar.NFLog:
		action, given = ir.NFLog{Group: l.Group, Prefix: l.Prefix, QueueSize: l.QueueSize}, l.Limit
	}
	if given != nil {
		limit = []ir.Match{ir.Limit(*given)}
	}
	return action, limit
}

// sub is the sub-chain that a part of the rule goes to: by its priority, or if that is 0 by what the part is.
func (c *richRule) sub(sub string) string {
	switch {
	case c.r.Priority < 0:
		return "pre"
	case c.r.Priority > 0:
		return "post"
	}
	return sub
}

// put adds a rule: the matches of a variant between the rule's own, its limit, and the actions, several of a clamp alone.
func (c *richRule) put(table, hook, sub string, v variant, limit *grammar.Limit, actions ...ir.Action) {
	if !c.sayable(hook, v, actions[0]) || !c.sayableLog(actions[0]) || !c.sayableLimit(limit) {
		return
	}
	n := len(c.lead) + len(v.service) + len(c.ends) + len(v.element)
	if limit != nil {
		n++
	}
	matches := make([]ir.Match, 0, n)
	if c.s.layout.elementFirst && !v.addressFirst {
		matches = append(append(append(append(matches, c.lead...), v.element...), v.service...), c.ends...)
	} else {
		matches = append(append(append(append(matches, c.lead...), v.service...), c.ends...), v.element...)
	}
	if limit != nil {
		matches = append(matches, ir.Limit(*limit))
	}
	r := &ir.Rule{Families: v.families, Order: c.r.Priority, Ranked: true, Matches: matches, Actions: actions, Origin: c.origin}
	if clamp, ok := c.r.Element.(*grammar.TCPMSSClamp); ok && c.s.cfg.Own.TCPMSSClamp == "initiator" && clamp.MTU == 0 && clamp.Range == nil && clamp.Value != "link" {
		c.asFirewalld(r)
	}
	c.s.emit(c.o, table, hook, c.sub(sub), r)
}

// sayable records an error where the kernel would refuse a rule: it tells only "invalid argument", and after the fact.
func (c *richRule) sayable(hook string, v variant, action ir.Action) bool {
	iptables := c.s.layout.backend == ir.IPTables
	if src := c.r.Source; src != nil && src.MAC != "" && iptables && (hook == "OUT" || hook == "POST") {
		c.s.fail(grammar.InvalidRule, c.origin, "iptables knows the source MAC address of incoming packets only: leave it out of a policy whose ingress zone is HOST")
		return false
	}
	tcp := slices.ContainsFunc(v.element, isTCP)
	anyProtocol := len(v.element) == 0 && !iptables // nft sees by itself that only TCP can be meant
	if r, ok := action.(ir.Reject); ok && strings.HasPrefix(r.With, "tcp-r") && !tcp && !anyProtocol {
		c.s.fail(grammar.InvalidRule, c.origin, "only TCP can be answered with %s: say which port or protocol of TCP the rule is about", r.With)
		return false
	}
	if m, ok := action.(ir.ClampMSS); ok && m.Size == 0 && m.Links == "" && hook == "IN" && !iptables {
		c.s.fail(grammar.InvalidRule, c.origin, "the kernel does not know the path's MTU of packets that have arrived: give value=N or mtu=M in a policy whose egress zone is HOST")
		return false
	}
	return true
}

// sayableLog records an error where the back end cannot have a log prefix (linux/netfilter/xt_LOG.h and xt_NFLOG.h; nft has no
// escapes in its strings, so that what follows a quote would be read as more of the rule).
func (c *richRule) sayableLog(action ir.Action) bool {
	prefix, highest := "", 0
	switch a := action.(type) {
	case ir.Log:
		prefix, highest = a.Prefix, 29
	case ir.NFLog:
		prefix, highest = a.Prefix, 63
	}
	switch iptables := c.s.layout.backend == ir.IPTables; {
	case iptables && len(prefix) > highest:
		c.s.fail(grammar.InvalidLogPrefix, c.origin, "the prefix has %d bytes, and iptables takes %d", len(prefix), highest)
	case !iptables && strings.Contains(prefix, `"`):
		c.s.fail(grammar.InvalidLogPrefix, c.origin, `nftables has no way to write the " in the prefix %s: leave it out`, prefix)
	default:
		return true
	}
	return false
}

// maxIPTablesBurst is the largest burst that iptables takes (libxt_limit.c).
const maxIPTablesBurst = 10000

// sayableLimit records an error where the back end cannot have a limit.
func (c *richRule) sayableLimit(limit *grammar.Limit) bool {
	if limit != nil && limit.Burst > maxIPTablesBurst && c.s.layout.backend == ir.IPTables {
		c.s.fail(grammar.InvalidLimit, c.origin, "cannot limit with burst %d: iptables takes %d at most", limit.Burst, maxIPTablesBurst)
		return false
	}
	return true
}

// isTCP says whether a match is of TCP alone.
func isTCP(m ir.Match) bool {
	switch m := m.(type) {
	case ir.Port:
		return m.Protocol == "tcp"
	case ir.L4Proto:
		return len(m.Numbers) == 1 && m.Numbers[0] == 6
	case ir.SYN:
		return true
	}
	return false
}

func (c *richRule) forwardPort(e *grammar.ForwardPort) {
	c.log(variant{families: c.families, element: c.forwardMatch(e), addressFirst: true}, "nat", c.o.nat)
	c.s.forward(c.o, forwarding{ForwardPort: zones.ForwardPort(*e), origin: c.origin, family: c.families,
		sub: c.sub("allow"), rule: c.r, addresses: c.ends})
}

func (c *richRule) forwardMatch(e *grammar.ForwardPort) []ir.Match {
	if m, ok := c.s.portMatch(c.o, ir.Dest, zones.Port{Port: e.Port, Protocol: e.Protocol}); ok {
		return []ir.Match{m}
	}
	return nil
}

// clamp compiles a tcp-mss-clamp.
func (c *richRule) clamp(e *grammar.TCPMSSClamp) {
	if e.Raise && c.s.layout.backend == ir.IPTables {
		c.s.fail(grammar.InvalidRule, c.origin, "iptables can only lower a maximum segment size: raise=yes needs FirewallBackend=nftables")
		return
	}
	if e.Value == "link" {
		c.s.more().links |= c.families
	}
	both := c.s.cfg.Own.TCPMSSClamp == "both"
	if both {
		c.s.more().clamp = &clamp{rule: c, sizes: c.clampSizes(e, "FWD"), config: e}
	}
	for _, size := range c.clampSizes(e, c.o.through) {
		if both && size.toPath() && c.o.through == "IN" {
			continue // the kernel does not know the path of what has arrived; what is sent back is clamped in output
		}
		v := variant{families: size.families, element: []ir.Match{ir.SYN{}}}
		v.element = append(v.element, c.s.sizesAsked(e, size)...)
		if size.families != c.families {
			v.element = append([]ir.Match{ir.NFProto{Family: size.families}}, v.element...)
		}
		c.put("filter", c.o.through, "allow", v, nil, size.actions(e.Raise)...)
	}
}

// asFirewalld makes a clamp what firewalld makes of it with nftables: it is for both families whatever the rule says, and
// stands behind all rules that have a priority.
func (c *richRule) asFirewalld(r *ir.Rule) {
	if c.s.layout.backend != ir.NFTables {
		return
	}
	if len(c.lead) > 0 {
		r.Matches = r.Matches[1:]
		r.Families = ir.Both
	}
	r.Ranked = false
	if r.Order != 0 {
		r.Order = grammar.MaxPriority + 1
	}
}

// clampSize is what segments are clamped to: bytes; what the links on some sides carry, by a map; or else what the path allows.
type clampSize struct {
	families ir.Families
	bytes    int
	links    string // name of the map; empty for none
	sides    []ir.Side
}

// toPath says whether the size is what the path allows.
func (c clampSize) toPath() bool { return c.bytes == 0 && c.links == "" }

func (c clampSize) actions(raise bool) (list []ir.Action) {
	for _, side := range c.sides {
		list = append(list, ir.ClampMSS{Links: c.links, Side: side})
	}
	if list == nil {
		list = append(list, ir.ClampMSS{Size: c.bytes, Raise: raise})
	}
	return list
}

// clampSizes are those of a clamp in rules that are entered from a hook. mtu= gives each family its own: the MTU less the headers of IP and
// TCP (RFC 9293, 3.7.1).
func (c *richRule) clampSizes(e *grammar.TCPMSSClamp, hook string) []clampSize {
	if e.Value == "link" {
		return c.linkSizes(hook)
	}
	if e.MTU == 0 {
		return []clampSize{{families: c.families, bytes: zones.ClampSize(e, grammar.AnyFamily)}}
	}
	var list []clampSize
	for _, f := range []ir.Families{ir.V4, ir.V6} {
		if c.families&f != 0 {
			list = append(list, clampSize{families: f, bytes: zones.ClampSize(e, grammar.Family(f.String()))})
		}
	}
	return list
}

// message is an error's own words, without the code and position that stand beside it anyway.
func message(err error) string {
	var e *grammar.Error
	if errors.As(err, &e) {
		return e.Msg
	}
	return err.Error()
}

// isMAC tells a MAC address from an IP address, both as the files spell them.
func isMAC(text string) bool {
	_, err := grammar.ParseMAC(text)
	return err == nil
}

func isIPv6(text string) bool {
	p, err := parsePrefix(text)
	return err == nil && p.Addr().Is6()
}

// parsePrefix reads an address or prefix of either family.
func parsePrefix(text string) (netip.Prefix, error) {
	p, err := grammar.ParseAddress(grammar.IPv4, text)
	if err != nil {
		p, err = grammar.ParseAddress(grammar.IPv6, text)
	}
	return p.Masked(), err
}
