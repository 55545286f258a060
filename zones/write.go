package zones

import (
	"bytes"
	"cmp"
	"slices"
	"strconv"
	"strings"

	"richwall/grammar"
)

// writer writes a file as firewalld does: two blanks for each level, an element without content closes itself.
type writer struct{ bytes.Buffer }

// pairs are attributes: a name and a value by turns.
func pairs(list ...string) []string { return list }

// given are the attributes of a list of pairs whose value is not empty.
func given(list ...string) []string {
	var result []string
	for pair := range slices.Chunk(list, 2) {
		if pair[1] != "" {
			result = append(result, pair...)
		}
	}
	return result
}

// unless is a number's text, or "" when it is the one that is not written.
func unless(hidden, n int) string {
	if n == hidden {
		return ""
	}
	return strconv.Itoa(n)
}

func (w *writer) tag(level int, name string, attrs []string, end string) {
	w.WriteString(strings.Repeat("  ", level))
	w.WriteByte('<')
	w.WriteString(name)
	for pair := range slices.Chunk(attrs, 2) {
		w.WriteByte(' ')
		w.WriteString(pair[0])
		w.WriteByte('=')
		w.quoted(pair[1])
	}
	w.WriteString(end)
}

// empty writes an element without content.
func (w *writer) empty(level int, name string, attrs []string) { w.tag(level, name, attrs, "/>\n") }

// text writes an element with text in it.
func (w *writer) text(level int, name string, attrs []string, text string) {
	w.tag(level, name, attrs, ">")
	w.escaped(text)
	w.WriteString("</" + name + ">\n")
}

// file writes a whole file: content writes what is in its root.
func (w *writer) file(root string, attrs []string, content func()) []byte {
	w.WriteString(`<?xml version="1.0" encoding="utf-8"?>` + "\n")
	w.tag(0, root, attrs, ">\n")
	content()
	w.WriteString("</" + root + ">\n")
	return w.Bytes()
}

var textEscapes = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")

// escaped writes text without the characters that XML cannot hold (XML 1.0, 2.2).
func (w *writer) escaped(text string) {
	textEscapes.WriteString(w, strings.Map(func(c rune) rune {
		if isText(c) {
			return c
		}
		return -1
	}, strings.ToValidUTF8(text, "")))
}

var breaks = strings.NewReplacer("\n", "&#10;", "\r", "&#13;", "\t", "&#9;")

// quoted writes the value of an attribute in double quotes, or in single ones when it holds double ones alone.
func (w *writer) quoted(value string) {
	quote := `"`
	if strings.Contains(value, `"`) && !strings.Contains(value, "'") {
		quote = "'"
	}
	var b writer
	b.escaped(value)
	text := breaks.Replace(b.String())
	if quote == `"` {
		text = strings.ReplaceAll(text, `"`, "&quot;")
	}
	w.WriteString(quote + text + quote)
}

// names writes an element for each name.
func (w *writer) names(element, attr string, list []string) {
	for _, name := range list {
		w.empty(1, element, pairs(attr, name))
	}
}

func (w *writer) ports(element string, list []Port) {
	for _, p := range list {
		w.empty(1, element, pairs("port", p.Port, "protocol", p.Protocol))
	}
}

func (w *writer) flag(element string, set bool) {
	if set {
		w.empty(1, element, nil)
	}
}

func (w *writer) meta(m *Meta) {
	if m.Short != "" {
		w.text(1, "short", nil, m.Short)
	}
	if m.Description != "" {
		w.text(1, "description", nil, m.Description)
	}
}

// WriteZone is the file of a zone.
func WriteZone(z *Zone) []byte {
	var w writer
	w.Grow(128*len(z.Rules) + 1<<10) // more or less
	target := z.Target
	if target == TargetDefault {
		target = ""
	}
	attrs := given("version", z.Version, "target", target,
		"ingress-priority", unless(0, z.IngressPriority), "egress-priority", unless(0, z.EgressPriority))
	return w.file("zone", attrs, func() {
		w.content(&z.Meta, &z.Content)
		w.names("interface", "name", z.Interfaces)
		for _, source := range z.Sources {
			attr, value := "address", source
			if name, ok := strings.CutPrefix(source, "ipset:"); ok {
				attr, value = "ipset", name
			}
			w.empty(1, "source", pairs(attr, value))
		}
		w.flag("icmp-block-inversion", z.ICMPBlockInversion)
		w.flag("forward", z.Forward)
	})
}

// WritePolicy is the file of a policy.
func WritePolicy(p *Policy) []byte {
	var w writer
	attrs := given("version", p.Version, "priority", unless(DefaultPolicyPriority, p.Priority), "target", p.Target)
	return w.file("policy", attrs, func() {
		w.content(&p.Meta, &p.Content)
		w.names("ingress-zone", "name", p.IngressZones)
		w.names("egress-zone", "name", p.EgressZones)
		w.flag("disable", p.Disable)
	})
}

// content writes what zones and policies have in common.
func (w *writer) content(m *Meta, c *Content) {
	w.meta(m)
	w.names("service", "name", c.Services)
	w.ports("port", c.Ports)
	w.names("protocol", "value", c.Protocols)
	w.names("icmp-block", "name", c.ICMPBlocks)
	w.flag("masquerade", c.Masquerade)
	for _, f := range c.ForwardPorts {
		w.empty(1, "forward-port", append(pairs("port", f.Port, "protocol", f.Protocol),
			given("to-port", f.ToPort, "to-addr", f.ToAddr)...))
	}
	w.ports("source-port", c.SourcePorts)
	for _, rule := range slices.SortedStableFunc(slices.Values(c.Rules), compareRules) {
		w.rule(rule.Rule)
	}
}

func (w *writer) rule(r *grammar.Rule) {
	w.tag(1, "rule", given("family", string(r.Family), "priority", unless(0, r.Priority)), ">\n")
	if s := r.Source; s != nil {
		w.empty(2, "source", given("address", s.Address, "mac", s.MAC, "ipset", s.IPSet, "invert", inversion(s.Invert)))
	}
	if d := r.Destination; d != nil {
		w.empty(2, "destination", given("address", d.Address, "ipset", d.IPSet, "invert", inversion(d.Invert)))
	}
	if r.Element != nil {
		w.empty(2, r.Element.Keyword(), elementAttrs(r.Element))
	}
	switch log := r.Log.(type) {
	case *grammar.Log:
		w.limited("log", given("prefix", log.Prefix, "level", log.Level), log.Limit)
	case *grammar.NFLog:
		w.limited("nflog", given("group", unless(0, log.Group), "prefix", log.Prefix, "queue-size", unless(0, log.QueueSize)), log.Limit)
	}
	if r.Audit != nil {
		w.limited("audit", nil, r.Audit.Limit)
	}
	switch action := r.Action.(type) {
	case *grammar.Accept:
		w.limited("accept", nil, action.Limit)
	case *grammar.Drop:
		w.limited("drop", nil, action.Limit)
	case *grammar.Reject:
		w.limited("reject", given("type", action.Type), action.Limit)
	case *grammar.Mark:
		w.limited("mark", pairs("set", action.Set), action.Limit)
	}
	w.WriteString("  </rule>\n")
}

func inversion(inverted bool) string {
	if inverted {
		return "True"
	}
	return ""
}

// elementAttrs are the attributes of what a rule is about.
func elementAttrs(element grammar.Element) []string {
	switch e := element.(type) {
	case *grammar.Service:
		return pairs("name", e.Name)
	case *grammar.Port:
		return pairs("port", e.Port, "protocol", e.Protocol)
	case *grammar.Protocol:
		return pairs("value", e.Value)
	case *grammar.SourcePort:
		return pairs("port", e.Port, "protocol", e.Protocol)
	case *grammar.ICMPBlock:
		return pairs("name", e.Name)
	case *grammar.ICMPType:
		return pairs("name", e.Name)
	case *grammar.ForwardPort:
		return append(pairs("port", e.Port, "protocol", e.Protocol), given("to-port", e.ToPort, "to-addr", e.ToAddr)...)
	case *grammar.TCPMSSClamp:
		return clampAttrs(e)
	case *grammar.TCPMSS:
		return pairs("value", e.Value.String())
	}
	return nil
}

// clampAttrs leaves out pmtu, which a clamp without a value means.
func clampAttrs(c *grammar.TCPMSSClamp) []string {
	value, limits, raise := c.Value, "", ""
	if value == "pmtu" {
		value = ""
	}
	if c.Range != nil {
		limits = c.Range.String()
	}
	if c.Raise {
		raise = "yes"
	}
	return given("value", value, "mtu", unless(0, c.MTU), "range", limits, "raise", raise)
}

// limited writes an element of a rule, with its limit in it if there is one. A burst is always written.
func (w *writer) limited(name string, attrs []string, limit *grammar.Limit) {
	if limit == nil {
		w.empty(2, name, attrs)
		return
	}
	w.tag(2, name, attrs, ">\n")
	w.empty(3, "limit", pairs("value", limit.Value(), "burst", strconv.Itoa(limit.Burst)))
	w.WriteString("    </" + name + ">\n")
}

// WriteService is the file of a service.
func WriteService(s *Service) []byte {
	var w writer
	return w.file("service", given("version", s.Version), func() {
		w.meta(&s.Meta)
		w.ports("port", s.Ports)
		w.names("protocol", "value", s.Protocols)
		w.ports("source-port", s.SourcePorts)
		w.names("module", "name", s.Modules)
		var destinations []string
		for _, family := range families {
			destinations = append(destinations, given(family, s.Destination[family])...)
		}
		if destinations != nil {
			w.empty(1, "destination", destinations)
		}
		w.names("include", "service", s.Includes)
		w.names("helper", "name", s.Helpers)
	})
}

// WriteIPSet is the file of an ipset.
func WriteIPSet(s *IPSet) []byte {
	var w writer
	room := 0 // for entries, of which there may be many: a buffer that grows takes several times as much
	for _, entry := range s.Entries {
		room += len("  <entry></entry>\n") + len(entry)
	}
	w.Grow(room + 1<<10)
	return w.file("ipset", append(pairs("type", s.Type), given("version", s.Version)...), func() {
		w.meta(&s.Meta)
		for _, name := range s.optionOrder() {
			w.empty(1, "option", append(pairs("name", name), given("value", s.Options[name])...))
		}
		for _, entry := range s.Entries {
			w.text(1, "entry", nil, entry)
		}
	})
}

// optionOrder is the names of all options: those of Order first.
func (s *IPSet) optionOrder() []string {
	place := func(name string) int {
		if i := slices.Index(s.Order, name); i >= 0 {
			return i
		}
		return len(s.Order)
	}
	return slices.SortedFunc(slices.Values(Names(s.Options)), func(a, b string) int {
		return cmp.Or(cmp.Compare(place(a), place(b)), strings.Compare(a, b))
	})
}

// WriteICMPType is the file of an ICMP type.
func WriteICMPType(t *ICMPType) []byte {
	var w writer
	return w.file("icmptype", given("version", t.Version), func() {
		w.meta(&t.Meta)
		var attrs []string
		for _, family := range t.Destinations {
			attrs = append(attrs, family, "yes")
		}
		if attrs != nil {
			w.empty(1, "destination", attrs)
		}
	})
}

// WriteHelper is the file of a connection tracking helper.
func WriteHelper(h *Helper) []byte {
	var w writer
	attrs := append(pairs("module", h.Module), given("version", h.Version, "family", h.Family)...)
	return w.file("helper", attrs, func() {
		w.meta(&h.Meta)
		w.ports("port", h.Ports)
	})
}

// WriteDirect is direct.xml.
func WriteDirect(d *Direct) []byte {
	var w writer
	return w.file("direct", nil, func() {
		for _, c := range d.Chains {
			w.empty(1, "chain", pairs("ipv", c.IPV, "table", c.Table, "chain", c.Chain))
		}
		for _, r := range d.Rules {
			attrs := pairs("ipv", r.IPV, "table", r.Table, "chain", r.Chain, "priority", strconv.Itoa(r.Priority))
			w.text(1, "rule", attrs, JoinArgs(r.Args))
		}
		for _, p := range d.Passthroughs {
			w.text(1, "passthrough", pairs("ipv", p.IPV), JoinArgs(p.Args))
		}
	})
}
