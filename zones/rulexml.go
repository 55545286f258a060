package zones

import (
	"strconv"
	"strings"

	"richwall/grammar"
)

// rule reads a <rule> and checks it as a whole.
func (r *reader) rule(c *Content, n *node) {
	before := r.problems.found[Error]
	b := ruleBuilder{reader: r, rule: &grammar.Rule{Family: grammar.Family(r.share(n.get("family")))}}
	if _, ok := n.attr("priority"); ok {
		b.rule.Priority = r.number(n, "priority", grammar.InvalidPriority, grammar.MinPriority, grammar.MaxPriority)
	}
	r.each(n, b.part)
	if r.misshapen[n] || r.problems.found[Error] > before {
		return // what the rule says is not known, so a check of the whole would only mislead
	}
	for _, e := range b.rule.Check() {
		r.fail(n, e.Code, "%s", e.Msg)
	}
	c.Rules = append(c.Rules, RichRule{Rule: b.rule, Line: int(n.line)})
}

// ruleBuilder puts the elements below <rule> together.
type ruleBuilder struct {
	*reader
	rule *grammar.Rule
}

// single reports a second part of a kind that a rule has once.
func (b *ruleBuilder) single(n *node, taken bool, kind string) {
	if taken {
		b.fail(n, grammar.InvalidRule, "cannot add <%s> to the rule: it has %s already", n.name, kind)
	}
}

func (b *ruleBuilder) part(n *node) {
	switch n.name {
	case "source":
		b.single(n, b.rule.Source != nil, "a source")
		b.rule.Source = &grammar.Source{
			Invert: inverted(n), Address: b.share(n.get("address")), MAC: b.share(n.get("mac")), IPSet: b.share(n.get("ipset")),
		}
	case "destination":
		b.single(n, b.rule.Destination != nil, "a destination")
		b.rule.Destination = &grammar.Destination{
			Invert: inverted(n), Address: b.share(n.get("address")), IPSet: b.share(n.get("ipset")),
		}
	case "log", "nflog":
		b.single(n, b.rule.Log != nil, "a log")
		b.rule.Log = b.logging(n)
	case "audit":
		b.single(n, b.rule.Audit != nil, "an audit")
		b.rule.Audit = &grammar.Audit{Limit: b.limit(n)}
	case "accept", "drop", "reject", "mark":
		b.single(n, b.rule.Action != nil, "an action")
		b.rule.Action = b.action(n)
	case "limit":
		b.fail(n, grammar.InvalidRule, "<limit> stands outside of a log, audit or action: it says how often one of these happens")
	default:
		element := b.element(n)
		if element == nil {
			b.fail(n, grammar.InvalidRule, "cannot use <%s> in a rule: it belongs to the %s itself", n.name, b.root)
			return
		}
		b.single(n, b.rule.Element != nil, "an element")
		b.rule.Element = element
	}
}

// inverted reads the attribute that turns a match round: only yes and true do.
func inverted(n *node) bool {
	value := strings.ToLower(n.get("invert"))
	return value == "yes" || value == "true"
}

// element is what the rule is about, nil when the element has no business in a rule.
func (b *ruleBuilder) element(n *node) grammar.Element {
	get := func(attr string) string { return b.share(n.get(attr)) }
	switch n.name {
	case "service":
		return &grammar.Service{Name: get("name")}
	case "port":
		return &grammar.Port{Port: get("port"), Protocol: get("protocol")}
	case "protocol":
		return &grammar.Protocol{Value: get("value")}
	case "source-port":
		return &grammar.SourcePort{Port: get("port"), Protocol: get("protocol")}
	case "icmp-block":
		return &grammar.ICMPBlock{Name: get("name")}
	case "icmp-type":
		return &grammar.ICMPType{Name: get("name")}
	case "masquerade":
		b.masquerade(n)
		return &grammar.Masquerade{}
	case "forward-port":
		return &grammar.ForwardPort{Port: get("port"), Protocol: get("protocol"), ToPort: get("to-port"), ToAddr: get("to-addr")}
	case "tcp-mss-clamp":
		return b.clamp(n)
	case "tcp-mss":
		return &grammar.TCPMSS{Value: b.mssRange(n, "value")}
	}
	return nil
}

// clamp reads a clamp. As in firewalld one without a value says pmtu from then on, and so does "None", which old
// versions wrote.
func (b *ruleBuilder) clamp(n *node) grammar.Element {
	clamp := &grammar.TCPMSSClamp{Value: b.share(n.get("value"))}
	if _, ok := n.attr("mtu"); ok {
		clamp.MTU = b.number(n, "mtu", grammar.InvalidRule, grammar.MinMTU, grammar.MaxMTU)
	}
	if clamp.Value == "None" {
		clamp.Value = ""
	}
	if clamp.Value == "" && clamp.MTU == 0 {
		clamp.Value = "pmtu"
	}
	if _, ok := n.attr("range"); ok {
		limits := b.mssRange(n, "range")
		clamp.Range = &limits
	}
	if raise, ok := n.attr("raise"); ok {
		switch raise {
		case "yes":
			clamp.Raise = true
		case "no":
		default:
			b.failAt(n, "raise", grammar.InvalidRule, "cannot use raise %q: it is yes or no", raise)
		}
	}
	return clamp
}

func (b *ruleBuilder) mssRange(n *node, attr string) grammar.MSSRange {
	limits, err := grammar.ParseMSSRange(n.get(attr))
	if err != nil {
		b.failWith(n, attr, grammar.InvalidRule, err)
	}
	return limits
}

func (b *ruleBuilder) logging(n *node) grammar.Logging {
	if n.name == "log" {
		return &grammar.Log{Prefix: b.share(n.get("prefix")), Level: b.share(n.get("level")), Limit: b.limit(n)}
	}
	return &grammar.NFLog{
		Group:     b.unsigned(n, "group", grammar.InvalidNFLogGroup),
		Prefix:    b.share(n.get("prefix")),
		QueueSize: b.unsigned(n, "queue-size", grammar.InvalidNFLogQueue),
		Limit:     b.limit(n),
	}
}

// unsigned is a number of 16 bits in decimal or behind 0x or 0o, 0 when it is missing.
func (b *ruleBuilder) unsigned(n *node, attr string, code grammar.Code) int {
	text, given := n.attr(attr)
	if !given {
		return 0
	}
	value, err := strconv.ParseUint(text, 0, 16)
	if err != nil {
		b.failAt(n, attr, code, "cannot use %s %q: it must be a whole number from 0 to 65535", attr, text)
	}
	return int(value)
}

func (b *ruleBuilder) action(n *node) grammar.Action {
	switch n.name {
	case "accept":
		return &grammar.Accept{Limit: b.limit(n)}
	case "drop":
		return &grammar.Drop{Limit: b.limit(n)}
	case "reject":
		return &grammar.Reject{Type: b.share(n.get("type")), Limit: b.limit(n)}
	}
	return &grammar.Mark{Set: b.share(n.get("set")), Limit: b.limit(n)}
}

// limit reads the limit below a log, audit or action; nil when there is none.
func (b *ruleBuilder) limit(n *node) *grammar.Limit {
	var limit *grammar.Limit
	b.each(n, func(c *node) {
		if c.name != "limit" {
			b.fail(c, grammar.InvalidRule, "cannot use <%s> in <%s>: it belongs to the rule", c.name, n.name)
			return
		}
		b.single(c, limit != nil, "a limit there")
		var err error
		if limit, err = grammar.ParseLimit(c.get("value"), b.burst(c)); err != nil {
			b.failWith(c, "value", grammar.InvalidLimit, err)
			limit = &grammar.Limit{}
		}
	})
	return limit
}

func (b *ruleBuilder) burst(n *node) int {
	if _, given := n.attr("burst"); !given {
		return 0
	}
	return b.number(n, "burst", grammar.InvalidLimit, 0, 10_000_000)
}
