package zones

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"richwall/grammar"
)

// hidden warns about rules that can never act, because one that is asked before them decides about everything that they
// match. Only one such rule is looked for, not several that do it together.
func (l *linter) hidden(m *Meta, c *Content) {
	var deciders, rules []*asked
	for _, a := range l.asked(c) {
		if a.decides != "" {
			deciders = append(deciders, a)
		}
		if a.rule != nil {
			rules = append(rules, a)
		}
	}
	byTurn := func(a, b *asked) int { return a.verdict.compare(b.verdict) }
	slices.SortStableFunc(deciders, byTurn)
	slices.SortStableFunc(rules, func(a, b *asked) int { return a.first.compare(b.first) })
	before := newIndex(l)
	for _, r := range rules {
		for len(deciders) > 0 && deciders[0].verdict.compare(r.first) < 0 {
			before.add(deciders[0])
			deciders = deciders[1:]
		}
		if by := before.coverer(r.packets); by != nil {
			l.warnRule(m, *r.rule, NotApplied, "this rule never acts: %s comes first and %s all that it matches; %s", by.name, by.decides, remedy(r, by))
		}
	}
}

// remedy says what to do about a rule that another one hides.
func remedy(r, by *asked) string {
	if by.decides == r.decides || by.verdict.priority == grammar.MinPriority {
		return "remove one of them"
	}
	lower := by.verdict.priority - 1
	if lower == 0 {
		lower = -1 // where any rule may stand
	}
	return fmt.Sprintf("remove one of them, or give this one priority=%d", lower)
}

// stage is one of the chains that a zone or policy asks in turn.
type stage int

const (
	preStage stage = iota
	logStage
	denyStage
	allowStage
	postStage
)

// turn is when something is asked: by stage, in the first and last of them by priority, then in the order of the list.
type turn struct {
	stage    stage
	priority int
	index    int
}

func (t turn) compare(o turn) int {
	return cmp.Or(cmp.Compare(t.stage, o.stage), cmp.Compare(t.priority, o.priority), cmp.Compare(t.index, o.index))
}

// turnOf is the turn of a part of a rule that goes to a stage unless the rule has a priority.
func turnOf(s stage, priority, index int) turn {
	switch {
	case priority < 0:
		s = preStage
	case priority > 0:
		s = postStage
	}
	return turn{s, priority, index}
}

// asked is a rule, or an item such as a service, as packets come by it.
type asked struct {
	name    string    // for a message
	rule    *RichRule // nil for an item
	packets []packets // that it matches; all of it if any
	decides string    // what it does to all of them, so that nothing after it sees them: "accepts"; "" if it does not
	first   turn      // of the first thing that it does
	verdict turn      // of its decision
}

// asked are the rules and items that decide about packets or log them.
func (l *linter) asked(c *Content) []*asked {
	var list []*asked
	item := func(name string, e grammar.Element) {
		a := &asked{name: name, decides: "accepts", packets: l.packets(&grammar.Rule{Element: e})}
		a.first = turn{allowStage, 0, len(list)}
		a.verdict = a.first
		list = append(list, a)
	}
	for _, name := range c.Services {
		item("service "+name, &grammar.Service{Name: name})
	}
	for _, p := range c.Ports {
		item("port "+p.String(), (*grammar.Port)(&p))
	}
	for _, p := range c.SourcePorts {
		item("source-port "+p.String(), (*grammar.SourcePort)(&p))
	}
	for i := range c.Rules {
		if a := l.askedRule(&c.Rules[i], len(list)); a != nil {
			list = append(list, a)
		}
	}
	for _, value := range c.Protocols {
		item("protocol "+value, &grammar.Protocol{Value: value})
	}
	return list
}

// askedRule is a rule as packets come by it; nil for one that changes packets instead of deciding about them.
func (l *linter) askedRule(r *RichRule, index int) *asked {
	a := &asked{name: ruleName(r), rule: r}
	own := logStage
	var limit *grammar.Limit
	switch act := r.Action.(type) {
	case *grammar.Accept:
		own, limit, a.decides = allowStage, act.Limit, "accepts"
	case *grammar.Drop:
		own, limit, a.decides = denyStage, act.Limit, "drops"
	case *grammar.Reject:
		own, limit, a.decides = denyStage, act.Limit, "rejects"
		if act.Type == "tcp-reset" || act.Type == "tcp-rst" {
			a.decides = "" // only of TCP
		}
	case *grammar.Mark:
		return nil
	}
	switch r.Element.(type) {
	case *grammar.Masquerade, *grammar.ForwardPort, *grammar.TCPMSSClamp:
		return nil
	case *grammar.ICMPBlock:
		own, a.decides = denyStage, "rejects"
	}
	if limit != nil {
		a.decides = ""
	}
	a.verdict = turnOf(own, r.Priority, index)
	a.first = a.verdict
	if r.Log != nil || r.Audit != nil {
		a.first = turnOf(logStage, r.Priority, index)
	}
	a.packets = l.packets(r.Rule)
	return a
}

// ruleName is a rule for a message about another one.
func ruleName(r *RichRule) string {
	if r.Line > 0 {
		return fmt.Sprintf("the rule of line %d", r.Line)
	}
	return "the rule"
}

// packets is a set of packets: those of a family that match all else. The zero end and a nil element match all.
type packets struct {
	family              grammar.Family // IPv4 or IPv6
	source, destination end
	element             grammar.Element // nil, *Port, *SourcePort, *Protocol, *ICMPType or *TCPMSS
}

// end is a source or a destination: an address, a MAC address or an ipset, or all but that.
type end struct {
	prefix netip.Prefix
	name   string // "mac …" or "ipset …"
	invert bool
}

func (e end) any() bool { return e.name == "" && !e.prefix.IsValid() }

// families are those that a rule can match.
func (l *linter) families(r *grammar.Rule) []grammar.Family {
	var list []grammar.Family
	var sets []string
	if r.Source != nil {
		sets = append(sets, r.Source.IPSet)
	}
	if r.Destination != nil {
		sets = append(sets, r.Destination.IPSet)
	}
	for _, f := range []grammar.Family{grammar.IPv4, grammar.IPv6} {
		other := func(g grammar.Family) bool { return g != grammar.AnyFamily && g != f }
		if !other(r.Family) && !slices.ContainsFunc(sets, func(name string) bool { return l.IPSets[name] != nil && other(l.IPSets[name].Family()) }) {
			list = append(list, f)
		}
	}
	return list
}

// packets are what a rule matches.
func (l *linter) packets(r *grammar.Rule) []packets {
	var list []packets
	for _, f := range l.families(r) {
		p := packets{family: f, element: r.Element}
		if s := r.Source; s != nil {
			p.source = newEnd(s.Address, s.MAC, s.IPSet, s.Invert)
		}
		if d := r.Destination; d != nil {
			p.destination = newEnd(d.Address, "", d.IPSet, d.Invert)
		}
		switch e := r.Element.(type) {
		case *grammar.Service:
			list = l.servicePackets(list, p, e.Name, map[string]bool{})
		case *grammar.ICMPBlock:
			p.element = &grammar.ICMPType{Name: e.Name}
			list = append(list, p)
		default:
			list = append(list, p)
		}
	}
	return list
}

func newEnd(address, mac, ipset string, invert bool) end {
	switch {
	case mac != "":
		return end{name: "mac " + strings.ToLower(mac), invert: invert}
	case ipset != "":
		return end{name: "ipset " + ipset, invert: invert}
	}
	p, _ := grammar.ParseAddress(grammar.AnyFamily, address) // Check has refused what is wrong
	return end{prefix: p.Masked(), invert: invert}
}

// servicePackets are a list and those of p that are of a service, or of one that it includes.
func (l *linter) servicePackets(list []packets, p packets, name string, seen map[string]bool) []packets {
	s := l.Services[name]
	if s == nil || seen[name] || !l.spend(len(s.Ports)+len(s.Protocols)+len(s.SourcePorts)+1) {
		return list
	}
	seen[name] = true
	for _, inner := range s.Includes {
		list = l.servicePackets(list, p, inner, seen)
	}
	if len(s.Destination) > 0 {
		text, ok := s.Destination[string(p.family)]
		if !ok {
			return list
		}
		p.destination = newEnd(text, "", "", false)
	}
	with := func(e grammar.Element) {
		p.element = e
		list = append(list, p)
	}
	for _, port := range s.Ports {
		if port.Port == "" {
			with(&grammar.Protocol{Value: port.Protocol})
		} else {
			with((*grammar.Port)(&port))
		}
	}
	for _, value := range s.Protocols {
		with(&grammar.Protocol{Value: value})
	}
	for _, port := range s.SourcePorts {
		with((*grammar.SourcePort)(&port))
	}
	return list
}

// covers says whether all packets of q are packets of p.
func (p packets) covers(q packets) bool {
	return p.family == q.family && p.source.covers(q.source) && p.destination.covers(q.destination) &&
		elementCovers(p.element, q.element, q.family)
}

func (e end) covers(o end) bool {
	switch {
	case e.any():
		return true
	case e.prefix.IsValid() && o.prefix.IsValid():
		switch {
		case e.invert && o.invert:
			return within(e.prefix, o.prefix)
		case e.invert:
			return !e.prefix.Overlaps(o.prefix)
		case o.invert:
			return false
		}
		return within(o.prefix, e.prefix)
	}
	return e == o
}

// within says whether all addresses of p are in q.
func within(p, q netip.Prefix) bool { return q.Bits() <= p.Bits() && q.Contains(p.Addr()) }

// elementCovers says whether packets of a family that match b all match a.
func elementCovers(a, b grammar.Element, family grammar.Family) bool {
	switch a := a.(type) {
	case nil:
		return true
	case *grammar.Protocol:
		n, err := grammar.ParseProtocol(a.Value)
		m := protocolOf(b, family)
		return err == nil && n == m
	case *grammar.Port:
		b, ok := b.(*grammar.Port)
		return ok && portCovers(Port(*a), Port(*b))
	case *grammar.SourcePort:
		b, ok := b.(*grammar.SourcePort)
		return ok && portCovers(Port(*a), Port(*b))
	case *grammar.ICMPType:
		b, ok := b.(*grammar.ICMPType)
		return ok && a.Name == b.Name
	case *grammar.TCPMSS:
		b, ok := b.(*grammar.TCPMSS)
		return ok && a.Value.Low <= b.Value.Low && b.Value.High <= a.Value.High
	}
	return false
}

func portCovers(a, b Port) bool {
	low, high, err := grammar.ParsePort(a.Port)
	low2, high2, err2 := grammar.ParsePort(b.Port)
	return err == nil && err2 == nil && a.Protocol == b.Protocol && low <= low2 && high2 <= high
}

// protocolOf is the number of the one IP protocol that an element is about, -1 when there is none.
func protocolOf(e grammar.Element, family grammar.Family) int {
	name := ""
	switch e := e.(type) {
	case *grammar.Port:
		name = e.Protocol
	case *grammar.SourcePort:
		name = e.Protocol
	case *grammar.Protocol:
		name = e.Value
	case *grammar.TCPMSS:
		name = "tcp"
	case *grammar.ICMPType:
		name = "icmp"
		if family == grammar.IPv6 {
			name = "ipv6-icmp"
		}
	}
	n, err := grammar.ParseProtocol(name)
	if err != nil {
		return -1
	}
	return n
}

// index finds those that cover a set of packets among many, by their sources.
type index struct {
	bySource map[end][]entry
	lengths  map[int]bool // of the prefixes in it
	inverted []entry      // sources that are given by what they are not
	linter   *linter      // whose comparisons are counted
}

// entry is a part of what something decides about.
type entry struct {
	packets
	by *asked
}

func newIndex(l *linter) *index {
	return &index{bySource: map[end][]entry{}, lengths: map[int]bool{}, linter: l}
}

func (x *index) add(a *asked) {
	for _, p := range a.packets {
		switch {
		case p.source.invert:
			x.inverted = append(x.inverted, entry{p, a})
		default:
			if p.source.prefix.IsValid() {
				x.lengths[p.source.prefix.Bits()] = true
			}
			x.bySource[p.source] = append(x.bySource[p.source], entry{p, a})
		}
	}
}

// coverer is the first that covers all of some packets; nil when none does, or there are none.
func (x *index) coverer(list []packets) *asked {
	if len(list) == 0 {
		return nil
	}
	var found *asked
	x.around(list[0], func(by *asked) bool {
		covered := func(p packets) bool {
			return slices.ContainsFunc(by.packets, func(q packets) bool { return q.covers(p) })
		}
		for _, p := range list[1:] {
			if !x.linter.spend(len(by.packets)) || !covered(p) {
				return false
			}
		}
		if found == nil || by.verdict.compare(found.verdict) < 0 {
			found = by
		}
		return true
	})
	return found
}

// around calls f for those that cover p, of each source until f takes one.
func (x *index) around(p packets, f func(*asked) bool) {
	try := func(list []entry) {
		for _, e := range list {
			if !x.linter.spend(1) {
				return
			}
			if e.covers(p) && f(e.by) {
				return
			}
		}
	}
	try(x.bySource[end{}])
	try(x.inverted)
	switch {
	case p.source.any() || p.source.invert:
	case p.source.prefix.IsValid():
		for bits := range p.source.prefix.Bits() + 1 {
			if x.lengths[bits] {
				around, _ := p.source.prefix.Addr().Prefix(bits)
				try(x.bySource[end{prefix: around}])
			}
		}
	default:
		try(x.bySource[p.source])
	}
}
