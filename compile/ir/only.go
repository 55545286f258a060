package ir

// Only is the ruleset with nothing but the rules that keep chooses, the chains they stand in, and the sets and helpers
// that they refer to. A nil keep chooses all, and returns the ruleset itself.
func (rs *Ruleset) Only(keep func(*Rule) bool) *Ruleset {
	if keep == nil {
		return rs
	}
	only := *rs
	only.Chains, only.Sets, only.Helpers = nil, nil, nil
	used := map[string]bool{}
	for _, c := range rs.Chains {
		some := *c
		some.Rules = nil
		for _, r := range c.Rules {
			if keep(r) {
				some.Rules = append(some.Rules, r)
				r.refersTo(used)
			}
		}
		if len(some.Rules) > 0 {
			only.Chains = append(only.Chains, &some)
		}
	}
	for _, s := range rs.Sets {
		if used["set "+s.Name] {
			only.Sets = append(only.Sets, s)
		}
	}
	for _, h := range rs.Helpers {
		if used["helper "+h.Name] {
			only.Helpers = append(only.Helpers, h)
		}
	}
	return &only
}

// refersTo adds the sets and helpers of a rule.
func (r *Rule) refersTo(used map[string]bool) {
	for _, m := range r.Matches {
		if l, ok := m.(Lookup); ok {
			used["set "+l.Set.Name] = true
		}
	}
	for _, a := range r.Actions {
		switch a := a.(type) {
		case SetHelper:
			used["helper "+a.Object] = true
		case ClampMSS:
			used["set "+a.Links] = true
		case Decide:
			used["set "+a.Map.Name] = true
		}
	}
}
