package compile

import (
	"net/netip"
	"strconv"
	"strings"

	"richwall/compile/ir"
	"richwall/zones"
)

// compileBase makes the chains that the kernel enters, and what stands in them before and after the zones.
func (s *state) compileBase() { s.layout.base(s) }

var confOrigin = &ir.Origin{Object: "firewalld.conf"}

// rule is a rule for both families.
func rule(origin *ir.Origin, action ir.Action, matches ...ir.Match) *ir.Rule {
	return &ir.Rule{Families: ir.Both, Matches: matches, Actions: []ir.Action{action}, Origin: origin}
}

// familyRule is a rule for some families; nothing in it says so to nftables.
func familyRule(f ir.Families, origin *ir.Origin, action ir.Action, matches ...ir.Match) *ir.Rule {
	r := rule(origin, action, matches...)
	r.Families = f
	return r
}

var (
	ctEstablished = ir.CTState{States: []string{"established", "related"}}
	ctInvalid     = ir.CTState{States: []string{"invalid"}}
	fromLoopback  = ir.Iface{Side: ir.Source, Name: "lo"}
	toLoopback    = ir.Iface{Side: ir.Dest, Name: "lo"}
	notToLoopback = ir.Iface{Side: ir.Dest, Name: "lo", Invert: true}
	prohibited    = ir.Reject{With: ir.RejectProhibited}
)

// rfc3964 are the 6to4 and IPv4-embedding prefixes of IPv4 networks that have no place on the Internet (RFC 3964, 5.3.2).
var rfc3964 = prefixes("::0.0.0.0/96", "::ffff:0.0.0.0/96", "2002:0000::/24", "2002:0a00::/24", "2002:7f00::/24",
	"2002:ac10::/28", "2002:c0a8::/32", "2002:a9fe::/32", "2002:e000::/19")

func prefixes(texts ...string) []netip.Prefix {
	list := make([]netip.Prefix, len(texts))
	for i, text := range texts {
		addr, bits, _ := strings.Cut(text, "/")
		n, _ := strconv.Atoi(bits)
		list[i] = netip.PrefixFrom(netip.MustParseAddr(addr), n) // ParsePrefix refuses IPv4-mapped ones
	}
	return list
}

// logDenied is what must hold for a packet that is refused to be logged: nothing more, or how its frame was addressed.
// ok is false when none are logged.
func (s *state) logDenied() (matches []ir.Match, ok bool) {
	switch kind := s.cfg.Conf.LogDenied; kind {
	case "off":
		return nil, false
	case "all":
		return nil, true
	default:
		return []ir.Match{ir.PktType{Type: kind}}, true
	}
}

// refusal is a refusing rule, after a rule that logs it where that is asked for.
func (s *state) refusal(origin *ir.Origin, prefix string, action ir.Action, matches ...ir.Match) []*ir.Rule {
	refuse := rule(origin, action, matches...)
	kind, ok := s.logDenied()
	if !ok {
		return []*ir.Rule{refuse}
	}
	return []*ir.Rule{rule(origin, ir.Log{Prefix: prefix + ": "}, append(append([]ir.Match{}, matches...), kind...)...), refuse}
}

// logged is the actions of a rule that logs and refuses at once, if what it refuses is logged.
func (s *state) logged(prefix string, action ir.Action, kinds ...string) []ir.Action {
	for _, kind := range kinds {
		if s.cfg.Conf.LogDenied == kind {
			return []ir.Action{ir.Log{Prefix: prefix + ": "}, action}
		}
	}
	return []ir.Action{action}
}

// Hook priorities are the kernel's own plus 10, to run after other programs (linux/netfilter_ipv4.h).
var nftBases = []struct {
	table, hook string
	base        ir.Hook
	dispatch    bool
}{
	{"mangle", "PREROUTING", ir.Hook{Type: "filter", Hook: "prerouting", Priority: -150 + 10}, true},
	{"nat", "PREROUTING", ir.Hook{Type: "nat", Hook: "prerouting", Priority: -100 + 10}, true},
	{"nat", "POSTROUTING", ir.Hook{Type: "nat", Hook: "postrouting", Priority: 100 + 10}, true},
	{"nat", "OUTPUT", ir.Hook{Type: "nat", Hook: "output", Priority: -100 + 10}, true},
	{"filter", "PREROUTING", ir.Hook{Type: "filter", Hook: "prerouting", Priority: 0 + 10}, false},
	{"filter", "INPUT", ir.Hook{Type: "filter", Hook: "input", Priority: 0 + 10}, true},
	{"filter", "FORWARD", ir.Hook{Type: "filter", Hook: "forward", Priority: 0 + 10}, true},
	{"filter", "OUTPUT", ir.Hook{Type: "filter", Hook: "output", Priority: 0 + 10}, true},
}

func (s *state) baseNFT() {
	conf := s.cfg.Conf
	if devices := strings.Fields(conf.NftablesFlowtable); len(devices) > 0 && conf.NftablesFlowtable != "off" {
		s.out.Flowtable = devices
	}
	for _, b := range nftBases {
		name, hook := b.table+"_"+b.hook, b.base
		s.declare(b.table, name).Hook = &hook
		if b.dispatch {
			s.declare(b.table, s.dispatchChain(b.table, b.hook))
		}
		if b.table != "filter" {
			s.add(b.table, name, rule(confOrigin, ir.Jump{Chain: s.dispatchChain(b.table, b.hook)}))
			continue
		}
		s.add("filter", name, s.baseFilterNFT(b.hook)...)
	}
}

// baseFilterNFT is the rules of a base chain of the filter table.
func (s *state) baseFilterNFT(hook string) []*ir.Rule {
	var rules []*ir.Rule
	put := func(more ...*ir.Rule) { rules = append(rules, more...) }
	forward, input := hook == "FORWARD", hook == "INPUT"
	rpfilter, forwarded := s.rpfilterNFT()
	if hook == "PREROUTING" {
		if rpfilter != nil && !forwarded {
			put(familyRule(ir.V6, confOrigin, ir.Accept, ir.ICMPTypes{Family: ir.V6, Types: []int{134, 135}}), rpfilter)
		}
		return rules
	}
	if forward && rpfilter != nil && forwarded {
		put(rpfilter)
	}
	if forward && s.out.Flowtable != nil {
		put(rule(confOrigin, ir.Offload{}, ctEstablished, ir.L4Proto{Numbers: []int{6, 17}}))
	}
	put(rule(confOrigin, ir.Accept, ctEstablished))
	put(rule(confOrigin, s.translatedAction(hook), ir.CTStatus{}))
	loopback := fromLoopback
	if hook == "OUTPUT" {
		loopback = toLoopback
	}
	put(rule(confOrigin, ir.Accept, loopback))
	if forward || input {
		put(s.refusal(confOrigin, "STATE_INVALID_DROP", ir.Drop, ctInvalid)...)
	}
	if !input && s.cfg.Conf.RFC3964IPv4 {
		put(&ir.Rule{Families: ir.V6, Origin: confOrigin, Matches: []ir.Match{ir.AddrList{Prefixes: rfc3964}},
			Actions: s.logged("RFC3964_IPv4_REJECT", ir.Reject{With: "icmp6-addr-unreachable"}, "unicast", "all")})
	}
	put(rule(confOrigin, ir.Jump{Chain: s.dispatchChain("filter", hook)}))
	if forward || input {
		put(s.refusal(confOrigin, "FINAL_REJECT", prohibited)...)
	}
	return rules
}

// rpfilterNFT is the rule that drops IPv6 packets from addresses that answers would not reach the way they came, and
// whether it is for forwarded packets alone; nil where it is switched off (RFC 3704).
func (s *state) rpfilterNFT() (r *ir.Rule, forwarded bool) {
	kind := s.cfg.Conf.IPv6RPFilter
	if kind == "no" {
		return nil, false
	}
	r = &ir.Rule{Families: ir.V6, Origin: confOrigin,
		Matches: []ir.Match{ir.NFProto{Family: ir.V6}, ir.Fib{Loose: strings.HasPrefix(kind, "loose")}},
		Actions: s.logged("rpfilter_DROP", ir.Drop, "unicast", "multicast", "broadcast", "all")}
	return r, strings.HasSuffix(kind, "-forward")
}

// translatedAction is what happens to packets whose destination was translated: they pass, whoever translated it; or, with
// StrictForwardPorts, they pass only if a forward-port of the configuration asked for it.
func (s *state) translatedAction(hook string) ir.Action {
	if !s.cfg.Conf.StrictForwardPorts {
		return ir.Accept
	}
	name := s.chain("filter", hook, ir.ChainDNAT)
	s.declare("filter", name)
	last := rule(confOrigin, prohibited)
	last.Order = 1 // forward-ports come before it
	s.add("filter", name, last)
	return ir.Jump{Chain: name}
}

// iptablesBases are the kernel's chains that are used, table by table; direct and dispatch say which chains of ours
// they jump to.
var iptablesBases = []struct {
	table, hook      string
	direct, dispatch bool
}{
	{"security", "INPUT", true, false}, {"security", "OUTPUT", true, false}, {"security", "FORWARD", true, false},
	{"raw", "PREROUTING", true, true}, {"raw", "OUTPUT", true, false},
	{"mangle", "PREROUTING", true, true}, {"mangle", "POSTROUTING", true, false}, {"mangle", "INPUT", true, false},
	{"mangle", "OUTPUT", true, false}, {"mangle", "FORWARD", true, false},
	{"nat", "PREROUTING", true, true}, {"nat", "INPUT", false, false}, {"nat", "POSTROUTING", true, true}, {"nat", "OUTPUT", true, true},
	{"filter", "INPUT", true, true}, {"filter", "FORWARD", true, true}, {"filter", "OUTPUT", true, true},
}

func (s *state) baseIPTables() {
	for _, b := range iptablesBases {
		s.declare(b.table, b.hook).Builtin = true
		var direct, dispatch *ir.Rule
		if b.direct {
			direct = s.jumpTo(b.table, s.chain(b.table, b.hook, ir.ChainDirect))
		}
		if b.dispatch {
			dispatch = s.jumpTo(b.table, s.dispatchChain(b.table, b.hook))
		}
		if b.table == "filter" {
			s.baseFilterIPTables(b.hook, direct, dispatch)
			continue
		}
		if b.table == "mangle" && b.hook == "PREROUTING" {
			s.rpfilterIPTables()
		}
		if b.direct {
			s.add(b.table, b.hook, direct)
		}
		if b.dispatch {
			s.add(b.table, b.hook, dispatch)
		}
	}
}

// jumpTo makes a chain, and the rule that leads there.
func (s *state) jumpTo(table, chain string) *ir.Rule {
	s.declare(table, chain)
	return rule(confOrigin, ir.Jump{Chain: chain})
}

func (s *state) baseFilterIPTables(hook string, direct, dispatch *ir.Rule) {
	put := func(rules ...*ir.Rule) { s.add("filter", hook, rules...) }
	if s.cfg.Conf.StrictForwardPorts {
		put(rule(confOrigin, ir.Accept, ctEstablished), rule(confOrigin, s.translatedAction(hook), ir.CTState{States: []string{"dnat"}}))
	} else {
		put(rule(confOrigin, ir.Accept, ir.CTState{States: []string{"established", "related", "dnat"}}))
	}
	if hook == "OUTPUT" {
		put(rule(confOrigin, ir.Accept, toLoopback))
	} else {
		put(rule(confOrigin, ir.Accept, fromLoopback))
		put(s.refusal(confOrigin, "STATE_INVALID_DROP", ir.Drop, ctInvalid)...)
	}
	put(direct)
	if hook != "INPUT" && s.cfg.Conf.RFC3964IPv4 {
		put(familyRule(ir.V6, confOrigin, ir.Jump{Chain: s.rfc3964Chain()}))
	}
	put(dispatch)
	if hook != "OUTPUT" {
		put(s.refusal(confOrigin, "FINAL_REJECT", prohibited)...)
	}
}

// rfc3964Chain makes the chain that refuses the prefixes of RFC 3964, once, and returns its name.
func (s *state) rfc3964Chain() string {
	const name = ir.ChainRFC3964
	c := s.declare("filter", name)
	if len(c.Rules) > 0 {
		return name
	}
	c.Families = ir.V6
	for i := len(rfc3964) - 1; i >= 0; i-- {
		match := ir.Addr{Side: ir.Dest, Prefix: rfc3964[i]}
		for _, a := range s.logged("RFC3964_IPv4_REJECT", ir.Reject{With: "icmp6-addr-unreachable"}, "unicast", "all") {
			s.add("filter", name, familyRule(ir.V6, confOrigin, a, match))
		}
	}
	return name
}

func (s *state) rpfilterIPTables() {
	kind := s.cfg.Conf.IPv6RPFilter
	if kind == "no" {
		return
	}
	if strings.HasSuffix(kind, "-forward") {
		s.fail(zones.InvalidValue, &ir.Origin{Object: "firewalld.conf", Text: "IPv6_rpfilter=" + kind},
			"iptables filters by reverse path before it knows whether a packet is forwarded; say %s, or FirewallBackend=nftables",
			strings.TrimSuffix(kind, "-forward"))
		return
	}
	put := func(a ir.Action, m ir.Match) { s.add("mangle", "PREROUTING", familyRule(ir.V6, confOrigin, a, m)) }
	put(ir.Accept, ir.ICMP{Family: ir.V6, Type: 134, Code: ir.AnyCode}) // router advertisement
	put(ir.Accept, ir.ICMP{Family: ir.V6, Type: 135, Code: ir.AnyCode}) // neighbour solicitation
	for _, a := range s.logged("rpfilter_DROP", ir.Drop, "unicast", "multicast", "broadcast", "all") {
		put(a, ir.Fib{Loose: kind == "loose"})
	}
}
