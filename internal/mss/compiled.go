package mss

import (
	"slices"

	"richwall/compile/ir"
)

// FromIR is the rules that a configuration means, as compiled for a back end, with the machine's links filled in.
func FromIR(rs *ir.Ruleset) *Rules {
	rules := &Rules{chains: map[string][]rule{}}
	links := map[string][]ir.Element{}
	for _, s := range rs.Sets {
		if s.Sizes {
			links[s.Name] = s.Elements
		}
	}
	key := func(table, chain string) string { return table + " " + chain }
	for _, c := range rs.Chains {
		name := key(c.Table, c.Name)
		switch {
		case c.Hook != nil:
			rules.bases = append(rules.bases, base{chain: name, hook: c.Hook.Hook, priority: c.Hook.Priority})
		case c.Builtin:
			if priority, known := iptablesPriorities[c.Table]; known {
				rules.bases = append(rules.bases, base{chain: name, hook: builtinHooks[c.Name], priority: priority})
			}
		}
		for _, r := range c.Rules {
			rules.chains[name] = append(rules.chains[name], rules.compiled(r, links, func(chain string) string { return key(c.Table, chain) })...)
		}
	}
	return rules
}

// builtinHooks are the hooks of the kernel's own chains.
var builtinHooks = map[string]string{"PREROUTING": "prerouting", "FORWARD": "forward", "POSTROUTING": "postrouting"}

// compiled is the rules that one of the intermediate form is. links are the elements of maps of segment sizes, by their names.
func (rules *Rules) compiled(r *ir.Rule, links map[string][]ir.Element, key func(string) string) []rule {
	var before rule
	switch r.Families {
	case ir.V4:
		before.conditions = append(before.conditions, family(false))
	case ir.V6:
		before.conditions = append(before.conditions, family(true))
	}
	for _, m := range r.Matches {
		if size, is := m.(ir.MSS); is {
			bounds := sizes{ranges: [][2]int{{size.Low, size.High}}}
			before.sizes = append(before.sizes, bounds)
			rules.sizes = append(rules.sizes, bounds.edges()...)
			continue
		}
		before.conditions = append(before.conditions, compiledMatch(m))
	}
	var list []rule
	add := func(a ir.Action, more ...condition) {
		one, acts := compiledAction(a, r.Origin, key)
		if acts {
			one.conditions, one.sizes = append(slices.Clone(before.conditions), more...), before.sizes
			list = append(list, one)
		}
	}
	for _, a := range r.Actions {
		if _, is := a.(ir.SetMark); is {
			rules.marks = true
		}
		if clamp, is := a.(ir.ClampMSS); is && clamp.Links != "" {
			for _, e := range links[clamp.Links] {
				add(ir.ClampMSS{Size: e.Size()}, named(clamp.Side == ir.Dest, []string{e.Text}, "*"))
			}
			continue
		}
		if decide, is := a.(ir.Decide); is {
			for _, e := range decide.Map.Elements {
				add(e.Verdict(), compiledElement(decide.Map, e, ir.Source))
			}
			continue
		}
		add(a)
	}
	return list
}

// compiledAction is a rule without conditions; false for what decides nothing about an MSS.
func compiledAction(a ir.Action, origin *ir.Origin, key func(string) string) (rule, bool) {
	one := rule{action: end}
	switch a := a.(type) {
	case ir.ClampMSS:
		one.action, one.size = clamp, a.Size
		if a.Raise && a.Size != 0 {
			one.action = force
		}
		if origin != nil {
			one.text = "configuration: " + origin.String()
		}
	case ir.Verdict:
		if a == ir.Return {
			one.action = back
		}
	case ir.Reject:
	case ir.Jump:
		one.action, one.target = jump, key(a.Chain)
		if a.Goto {
			one.action = descend
		}
	default:
		return rule{}, false
	}
	return one, true
}

// compiledElement is the condition that a packet is an element of a set; side is where its fields are taken from, unless the set says it.
func compiledElement(set *ir.Set, e ir.Element, side ir.Side) condition {
	c := condition(func(segment) answer { return yes })
	for i, p := range e.Parts() {
		from := side
		if i < len(set.Sides) {
			from = set.Sides[i]
		}
		one := condition(depends)
		switch p.Kind {
		case ir.IfacePart:
			one = named(from == ir.Dest, []string{p.Name}, "*")
		case ir.AddrPart:
			if prefix, ok := p.Prefix(); ok {
				one = within(from == ir.Dest, prefix)
			}
		case ir.PortPart:
			if p.Name != "tcp" && p.Name != "6" {
				one = func(segment) answer { return no }
			}
		}
		c = bothHold(c, one)
	}
	return c
}

// compiledLookup is the condition that a packet is in a set.
func compiledLookup(m ir.Lookup) condition {
	var list []condition
	names := map[bool][]string{}
	for _, e := range m.Set.Elements {
		if parts := e.Parts(); len(parts) == 1 && parts[0].Kind == ir.IfacePart {
			side := m.Side
			if len(m.Set.Sides) > 0 {
				side = m.Set.Sides[0]
			}
			names[side == ir.Dest] = append(names[side == ir.Dest], parts[0].Name)
			continue
		}
		list = append(list, compiledElement(m.Set, e, m.Side))
	}
	for out, some := range names {
		list = append(list, named(out, some, "*"))
	}
	return anyOf(list)
}

func compiledMatch(m ir.Match) condition {
	c, invert := condition(depends), false
	switch m := m.(type) {
	case ir.Iface:
		c, invert = named(m.Side == ir.Dest, []string{m.Name}, "+"), m.Invert
	case ir.Addr:
		c, invert = within(m.Side == ir.Dest, m.Prefix), m.Invert
	case ir.Lookup:
		if m.Set.Sides != nil { // what is folded does not change by itself, as an ipset does
			c, invert = compiledLookup(m), m.Invert
		}
	case ir.NFProto:
		c = family(m.Family == ir.V6)
	case ir.L4Proto:
		c = func(segment) answer {
			return answered(slices.Contains(m.Numbers, 6))
		}
	case ir.SYN:
		c = flags([]string{"syn"}, []string{"syn"}, false)
	case ir.ACK:
		c = flags([]string{"ack"}, []string{"ack"}, false)
	case ir.CTState:
		c = state(m.States)
	case ir.CTDirection:
		c = direction(m.Reply)
	case ir.ICMP, ir.ICMPTypes:
		c = func(segment) answer { return no }
	case ir.Port:
		if m.Protocol != "tcp" {
			c = func(segment) answer { return no }
		}
	}
	if invert {
		return inverted(c)
	}
	return c
}
