package grammar

import (
	"errors"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Check is everything that is wrong with a rule that was not made by Parse: its values, and how they go together. The
// entries have no place. The code of the first is the code of the whole.
func (r *Rule) Check() ErrorList {
	c := &checker{places: func(slot, string) Pos { return Pos{} }}
	if r.Source != nil {
		c.source(r.Source)
	}
	if r.Destination != nil {
		c.destination(r.Destination)
	}
	if r.Element != nil {
		c.element(r.Element)
	}
	if r.Log != nil {
		c.limit(inLog, loggingLimit(r.Log))
		c.log(r.Log)
	}
	if r.Audit != nil {
		c.limit(inAudit, r.Audit.Limit)
	}
	if r.Action != nil {
		c.limit(inAction, actionLimit(r.Action))
		c.action(r.Action)
	}
	c.whole(r)
	return c.errs
}

// checker collects what is wrong with a rule.
type checker struct {
	errs   ErrorList
	places func(s slot, attr string) Pos // where an attribute stands; with "", where its part starts
}

func (c *checker) add(s slot, attr string, code Code, format string, args ...any) *Error {
	err := newError(code, format, args...)
	err.Pos = c.places(s, attr)
	c.errs = append(c.errs, err)
	return err
}

// value adds the error of a value parser, if there is one.
func (c *checker) value(s slot, attr string, err error) { c.valueAt(c.places(s, attr), err) }

func (c *checker) valueAt(pos Pos, err error) {
	var e *Error
	if errors.As(err, &e) {
		placed := *e
		placed.Pos = pos
		c.errs = append(c.errs, &placed)
	}
}

func (c *checker) source(s *Source) {
	given := nonEmpty("address", s.Address, "mac", s.MAC, "ipset", s.IPSet)
	switch {
	case len(given) == 0:
		c.add(inSource, "", InvalidRule, "cannot match a source without an address, mac or ipset: one of them says what the source is").
			worded("no address, mac and ipset")
	case len(given) > 1:
		c.add(inSource, given[1], InvalidRule, "cannot match a source by %s: a source has one of them", strings.Join(given, " and ")).
			worded("%s and %s", given[0], given[1])
	}
	c.ipset(inSource, s.IPSet)
	if s.MAC != "" {
		_, err := ParseMAC(s.MAC)
		c.value(inSource, "mac", err)
	}
}

func (c *checker) destination(d *Destination) {
	given := nonEmpty("address", d.Address, "ipset", d.IPSet)
	switch {
	case len(given) == 0:
		c.add(inDestination, "", InvalidDestination,
			"cannot match a destination without an address or ipset: one of them says what the destination is").
			worded("no address or ipset")
	case len(given) > 1:
		c.add(inDestination, given[1], InvalidDestination,
			"cannot match a destination by %s: a destination has one of them", strings.Join(given, " and ")).
			worded("address and ipset")
	}
	c.ipset(inDestination, d.IPSet)
}

// nonEmpty are the names of the pairs "name, value" that have a value.
func nonEmpty(pairs ...string) []string {
	var names []string
	for pair := range slices.Chunk(pairs, 2) {
		if pair[1] != "" {
			names = append(names, pair[0])
		}
	}
	return names
}

func (c *checker) ipset(s slot, name string) {
	switch {
	case utf8.RuneCountInString(name) > maxIPSetName:
		c.add(s, "ipset", InvalidIPSet, "cannot use ipset %s: a name has at most %d characters", quoteForMessage(name), maxIPSetName).
			worded("%s", name)
	case hasControl(name):
		c.add(s, "ipset", InvalidIPSet, "cannot use ipset %s: a name holds no control characters", quoteForMessage(name))
	}
}

// hasControl says whether a text holds what the language cannot write, or what nobody can see: control characters, and those that
// turn text round or hide it.
func hasControl(text string) bool {
	return !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) })
}

func (c *checker) element(e Element) {
	switch e := e.(type) {
	case *Service:
		c.name(e, e.Name)
	case *ICMPBlock:
		c.name(e, e.Name)
	case *ICMPType:
		c.name(e, e.Name)
	case *Port:
		c.port(e, e.Port, e.Protocol)
	case *SourcePort:
		c.port(e, e.Port, e.Protocol)
	case *ForwardPort:
		c.forwardPort(e)
	case *Protocol:
		c.protocol(e)
	case *TCPMSSClamp:
		c.clamp(e)
	case *TCPMSS:
		c.mssRange("value", e.Value)
	case *Masquerade:
	}
}

func (c *checker) name(e Element, name string) {
	switch {
	case name == "":
		c.add(inElement, "", InvalidRule, "cannot use %s without a name: write %s name=NAME", e.Keyword(), e.Keyword()).
			worded("invalid '%s' element", e.Keyword())
	case hasControl(name):
		c.add(inElement, "name", InvalidRule, "cannot use %s %s: a name holds no control characters", e.Keyword(), quoteForMessage(name))
	}
}

func (c *checker) port(e Element, port, protocol string) {
	if port == "" {
		c.add(inElement, "", InvalidPort, "cannot match %s without its number: write port=NUMBER or port=LOW-HIGH", e.Keyword()).worded("")
	} else {
		_, _, err := ParsePort(port)
		c.value(inElement, "port", err)
	}
	switch {
	case protocol == "":
		c.add(inElement, "", InvalidProtocol, "cannot match %s without a protocol: write protocol=tcp, udp, sctp or dccp", e.Keyword()).worded("")
	case !slices.Contains(TransportProtocols, protocol):
		c.add(inElement, "protocol", InvalidProtocol, "%s", unknownWord("protocol", protocol, TransportProtocols)).worded("%s", protocol)
	}
}

func (c *checker) forwardPort(f *ForwardPort) {
	c.port(f, f.Port, f.Protocol)
	switch {
	case f.ToPort != "":
		_, _, err := ParsePort(f.ToPort)
		c.value(inElement, "to-port", err)
	case f.ToAddr == "":
		c.add(inElement, "", InvalidPort, "cannot forward a port to nowhere: write to-port, to-addr or both").worded("")
	}
}

func (c *checker) protocol(p *Protocol) {
	if p.Value == "" {
		c.add(inElement, "", InvalidRule, "cannot match a protocol without a value: write protocol value=NAME").
			worded("invalid 'protocol' element")
		return
	}
	_, err := ParseProtocol(p.Value)
	c.value(inElement, "value", err)
}

func (c *checker) clamp(t *TCPMSSClamp) {
	_, err := ParseMSS(t.Value)
	c.value(inElement, "value", err)
	if t.MTU != 0 && (t.MTU < MinMTU || t.MTU > MaxMTU) {
		c.add(inElement, "mtu", InvalidRule, "cannot clamp to MTU %d: an MTU is %d to %d bytes", t.MTU, MinMTU, MaxMTU)
	}
	if t.MTU != 0 && t.Value != "" {
		c.add(inElement, "mtu", InvalidRule, "cannot clamp to both a value and an MTU: the MTU is another way to say the value")
	}
	if t.Raise && t.MTU == 0 && t.Value == "link" {
		c.add(inElement, "raise", InvalidRule, "cannot raise an MSS to what links carry: value=link only lowers it: write value=N or mtu=M beside raise=yes")
	}
	if t.Raise && t.MTU == 0 && (t.Value == "" || t.Value == "pmtu") {
		c.add(inElement, "raise", InvalidRule, "cannot raise an MSS to what the path carries: the kernel only lowers it to that: write value=N or mtu=M beside raise=yes")
	}
	if t.Range != nil {
		c.mssRange("range", *t.Range)
	}
}

func (c *checker) mssRange(attr string, r MSSRange) {
	if err := r.check(); err != nil {
		c.value(inElement, attr, err)
	}
}

func (c *checker) log(l Logging) {
	switch l := l.(type) {
	case *Log:
		c.prefix(l.Prefix)
		if l.Level != "" && !slices.Contains(LogLevels, l.Level) {
			c.add(inLog, "level", InvalidLogLevel, "%s", unknownWord("log level", l.Level, LogLevels)).worded("%s", l.Level)
		}
	case *NFLog:
		c.number("group", l.Group, maxGroup, InvalidNFLogGroup)
		c.prefix(l.Prefix)
		c.number("queue-size", l.QueueSize, maxQueue, InvalidNFLogQueue)
	}
}

func (c *checker) number(attr string, n, highest int, code Code) {
	if n < 0 || n > highest {
		c.add(inLog, attr, code, "cannot use %s %d: it must be from 0 to %d", attr, n, highest)
	}
}

func (c *checker) prefix(prefix string) {
	if n := utf8.RuneCountInString(prefix); n > maxPrefix {
		c.add(inLog, "prefix", InvalidLogPrefix, "cannot log with a prefix of %d characters: the longest has %d", n, maxPrefix)
	}
	switch {
	case hasControl(prefix):
		c.add(inLog, "prefix", InvalidLogPrefix, "cannot log with prefix %s: a prefix holds no control characters", quoteForMessage(prefix))
	case strings.Contains(prefix, `"`):
		c.add(inLog, "prefix", InvalidLogPrefix, "cannot log with prefix %s: a prefix holds no double quote, as nft has no way to write one", quoteForMessage(prefix))
	}
}

func (c *checker) limit(s slot, l *Limit) {
	if l == nil {
		return
	}
	if err := l.check(); err != nil {
		c.value(s, "limit", err)
	}
}

func loggingLimit(l Logging) *Limit {
	switch l := l.(type) {
	case *Log:
		return l.Limit
	case *NFLog:
		return l.Limit
	}
	return nil
}

func actionLimit(a Action) *Limit {
	switch a := a.(type) {
	case *Accept:
		return a.Limit
	case *Drop:
		return a.Limit
	case *Reject:
		return a.Limit
	case *Mark:
		return a.Limit
	}
	return nil
}

func (c *checker) action(a Action) {
	mark, ok := a.(*Mark)
	switch {
	case !ok:
	case mark.Set == "":
		c.add(inAction, "", InvalidMark, "cannot mark without a value: write mark set=VALUE or set=VALUE/MASK").worded("no value set")
	default:
		_, _, _, err := ParseMark(mark.Set)
		c.value(inAction, "set", err)
	}
}

// whole checks how the parts of a rule go together, in the order in which firewalld does.
func (c *checker) whole(r *Rule) {
	c.family(r)
	if r.Priority < MinPriority || r.Priority > MaxPriority {
		c.add(inRule, "priority", InvalidPriority, "cannot use priority %d: priorities are %d to %d", r.Priority, MinPriority, MaxPriority).
			worded("'priority' attribute must be between %d and %d.", MinPriority, MaxPriority)
	}
	c.enough(r)
	c.addresses(r)
	c.exclusions(r)
	c.audit(r)
	c.rejectType(r)
}

// family checks the family, and that it is there where addresses need it.
func (c *checker) family(r *Rule) {
	forward, isForward := r.Element.(*ForwardPort)
	switch {
	case r.Family != AnyFamily && r.Family != IPv4 && r.Family != IPv6:
		c.add(inRule, "family", InvalidFamily, "%s", unknownWord("family", string(r.Family), []string{string(IPv4), string(IPv6)})).worded("%s", r.Family)
	case r.Family != AnyFamily:
	case r.Source != nil && r.Source.Address != "":
		c.add(inSource, "address", MissingFamily, "cannot match source address %s in a rule for both families: %s",
			quoteForMessage(r.Source.Address), familyHint(r.Source.Address)).worded("")
	case r.Destination != nil:
		c.add(inDestination, "", MissingFamily, "cannot match a destination in a rule for both families: %s", familyHint(r.Destination.Address)).
			worded("")
	case isForward:
		c.add(inElement, "", MissingFamily, "cannot forward a port in a rule for both families: %s", familyHint(forward.ToAddr)).
			worded("")
	}
}

// familyHint says which family to write for an address.
func familyHint(address string) string {
	prefix, err := ParseAddress(AnyFamily, address)
	switch {
	case err != nil:
		return "write family=ipv4 or family=ipv6"
	case prefix.Addr().Is4():
		return "write family=ipv4"
	}
	return "write family=ipv6"
}

// enough checks that a rule says something and does something.
func (c *checker) enough(r *Rule) {
	nothingDone := r.Log == nil && r.Audit == nil && r.Action == nil
	switch r.Element.(type) {
	case nil:
		switch {
		case r.Log != nil && r.Priority != 0:
		case r.Action == nil:
			c.add(inRule, "", InvalidRule,
				"cannot use a rule without an element and without an action: write what it is about, or accept, drop, reject or mark").
				worded("no element, no action")
		case r.Source == nil && r.Destination == nil && r.Priority == 0:
			c.add(inAction, "", InvalidRule,
				"cannot %s everything: write an element, a source, a destination, or a priority other than 0", r.Action.Keyword()).
				worded("no element, no source, no destination")
		}
	case *ICMPBlock, *ForwardPort, *Masquerade, *TCPMSSClamp:
	case *Service, *Port, *Protocol, *SourcePort, *ICMPType, *TCPMSS:
		if nothingDone {
			c.add(inElement, "", InvalidRule,
				"cannot use %s alone: write what to do, one of accept, drop, reject, mark, log, nflog or audit", r.Element.Keyword()).
				worded("no action, no log, no audit")
		}
	}
}

// addresses checks addresses against the family.
func (c *checker) addresses(r *Rule) {
	if r.Family != IPv4 && r.Family != IPv6 {
		return
	}
	if r.Source != nil && r.Source.Address != "" {
		_, err := ParseAddress(r.Family, r.Source.Address)
		c.value(inSource, "address", err)
	}
	if r.Destination != nil && r.Destination.Address != "" {
		_, err := ParseAddress(r.Family, r.Destination.Address)
		c.value(inDestination, "address", err)
	}
	forward, isForward := r.Element.(*ForwardPort)
	if !isForward || forward.ToAddr == "" {
		return
	}
	_, err := ParseAddress(r.Family, forward.ToAddr)
	c.value(inElement, "to-addr", err)
	if err == nil && strings.Contains(forward.ToAddr, "/") {
		c.add(inElement, "to-addr", InvalidAddr, "cannot forward to %s: it must be a single address", forward.ToAddr).
			worded("%s", forward.ToAddr)
	}
}

// exclusions checks what may not stand together.
func (c *checker) exclusions(r *Rule) {
	switch r.Element.(type) {
	case *Masquerade:
		c.noAction(r)
		if r.Source != nil && r.Source.MAC != "" {
			c.add(inSource, "mac", InvalidRule, "cannot masquerade by source mac: where masquerading happens the MAC address is not known any more").
				worded("masquerade and mac source")
		}
	case *ICMPBlock, *ForwardPort, *TCPMSSClamp:
		c.noAction(r)
	case nil, *Service, *Port, *Protocol, *SourcePort, *ICMPType, *TCPMSS:
	}
}

func (c *checker) noAction(r *Rule) {
	if r.Action == nil {
		return
	}
	err := c.add(inAction, "", InvalidRule, "cannot %s beside %s: %s is what the rule does, so it has no other action",
		r.Action.Keyword(), r.Element.Keyword(), r.Element.Keyword())
	if _, ok := r.Element.(*TCPMSSClamp); ok {
		err.worded("%s and %s are mutually exclusive", r.Element.Keyword(), actionText(r.Action))
	} else {
		err.worded("%s and action", r.Element.Keyword())
	}
}

// audit checks that there is a verdict to be recorded.
func (c *checker) audit(r *Rule) {
	if r.Audit == nil {
		return
	}
	what := "a rule without an action"
	switch r.Action.(type) {
	case *Accept, *Drop, *Reject:
		return
	case *Mark:
		what = "a mark"
	case nil:
	}
	c.add(inAudit, "", InvalidAuditType, "cannot audit %s: what is audited is accept, drop or reject", what)
}

// rejectType checks the type of reject against the family.
func (c *checker) rejectType(r *Rule) {
	reject, ok := r.Action.(*Reject)
	types := RejectTypes(r.Family)
	switch {
	case !ok || reject.Type == "" || slices.Contains(types, reject.Type):
	case r.Family == AnyFamily:
		c.add(inAction, "type", InvalidRule, "cannot reject with %s in a rule for both families: types differ, write family=ipv4 or family=ipv6",
			quoteForMessage(reject.Type))
	default:
		c.add(inAction, "type", InvalidRule, "%s", unknownWord("reject type", reject.Type, types))
	}
}
