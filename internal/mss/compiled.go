package mss

import (
	"slices"

	"richwall/compile/ir"
)

// FromIR is the rules that a configuration means, as compiled for a back end.
func FromIR(rs *ir.Ruleset) *Rules {
	rules := &Rules{chains: map[string][]rule{}}
	key := func(table, chain string) string { return table + " " + chain }
	for _, c := range rs.Chains {
		name := key(c.Table, c.Name)
		switch {
		case c.Hook != nil:
			rules.bases = append(rules.bases, base{name, c.Hook.Hook, c.Hook.Priority, both})
		case c.Builtin:
			if priority, known := iptablesPriorities[c.Table]; known {
				rules.bases = append(rules.bases, base{name, builtinHooks[c.Name], priority, both})
			}
		}
		for _, r := range c.Rules {
			rules.chains[name] = append(rules.chains[name], compiled(r, func(chain string) string { return key(c.Table, chain) })...)
		}
	}
	return rules
}

// builtinHooks are the hooks of the kernel's own chains.
var builtinHooks = map[string]string{"PREROUTING": "prerouting", "FORWARD": "forward", "POSTROUTING": "postrouting"}

// compiled is the rules that one of the intermediate form is.
func compiled(r *ir.Rule, key func(string) string) []rule {
	var conditions []condition
	switch r.Families {
	case ir.V4:
		conditions = append(conditions, family(false))
	case ir.V6:
		conditions = append(conditions, family(true))
	}
	for _, m := range r.Matches {
		conditions = append(conditions, compiledMatch(m))
	}
	var list []rule
	for _, a := range r.Actions {
		one := rule{conditions: conditions}
		switch a := a.(type) {
		case ir.ClampMSS:
			one.action, one.size = clamp, a.Size
			if r.Origin != nil {
				one.text = "configuration: " + r.Origin.String()
			}
		case ir.Verdict:
			one.action = end
			if a == ir.Return {
				one.action = back
			}
		case ir.Reject:
			one.action = end
		case ir.Jump:
			one.action, one.target = jump, key(a.Chain)
			if a.Goto {
				one.action = descend
			}
		default:
			continue
		}
		list = append(list, one)
	}
	return list
}

func compiledMatch(m ir.Match) condition {
	c, invert := condition(depends), false
	switch m := m.(type) {
	case ir.Iface:
		c, invert = named(m.Side == ir.Dest, []string{m.Name}, "+"), m.Invert
	case ir.Addr:
		c, invert = within(m.Side == ir.Dest, m.Prefix), m.Invert
	case ir.NFProto:
		c = family(m.Family == ir.V6)
	case ir.L4Proto:
		c = func(segment) answer {
			return answered(slices.Contains(m.Numbers, 6))
		}
	case ir.SYN:
		c = flags([]string{"syn"}, []string{"syn"}, false)
	case ir.MSS:
		c = offers(m.Low, m.High)
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
