package zones

import (
	"fmt"
	"slices"

	"richwall/grammar"
)

// clampByMAC warns about a clamp by a source MAC address, which is not known of what is sent to it.
func (l *linter) clampByMAC(m *Meta, r RichRule) {
	s := r.Source
	if s == nil || l.Own.TCPMSSClamp != "both" {
		return
	}
	if set := l.IPSets[s.IPSet]; s.MAC != "" || set != nil && set.Type == "hash:mac" {
		l.warnRule(m, r, PartlyApplied, "only the SYN is clamped, which limits what is sent to that host, not what it sends: "+
			"the SYN/ACK goes to a MAC address, and which is not known yet when rules are asked; write source address= in its place")
	}
}

// idleClamps warns about clamps that can never change a size, because another one of the same zone or policy is for all that
// they match and lowers at least as far. Clamps lower what others leave of a size, so whichever comes first the least one
// decides; but one with a range looks at what the others have left, and one with raise=yes undoes it. Where there are such
// clamps nothing is said, and neither of a clamp to the MTU of the path or of links beside one to a number.
func (l *linter) idleClamps(m *Meta, c *Content) {
	var list []*asked
	lowering := newIndex(l)
	for i := range c.Rules {
		r := &c.Rules[i]
		if e, ok := r.Element.(*grammar.TCPMSSClamp); ok {
			matched := &grammar.Rule{Family: r.Family, Source: r.Source, Destination: r.Destination}
			a := &asked{name: ruleName(r), rule: r, packets: l.packets(matched), verdict: turnOf(allowStage, r.Priority, i)}
			list = append(list, a)
			if e.Range == nil {
				lowering.add(a)
			}
		}
	}
	if len(list) < 2 {
		return
	}
	raising := l.countClamps(func(e *grammar.TCPMSSClamp) bool { return e.Raise })
	ranges := l.countClamps(func(e *grammar.TCPMSSClamp) bool { return e.Range != nil })
	for _, a := range list {
		if a.rule.Log != nil || len(a.packets) == 0 || raising > 0 {
			continue
		}
		others := ranges
		if clampOf(a).Range != nil {
			others--
		}
		var found *asked
		lowering.around(a.packets[0], func(by *asked) bool {
			if l.makesIdle(by, a, others > 0) {
				found = by
			}
			return found != nil
		})
		if found != nil {
			l.warnRule(m, *a.rule, NotApplied, "this rule never acts: %s is for all that it matches and sets %s, which is as low or lower; "+
				"remove one of them", found.name, clampText(clampOf(found)))
		}
	}
}

// makesIdle says whether a clamp leaves nothing to another one. ranges says that a third one has a range.
func (l *linter) makesIdle(by, a *asked, ranges bool) bool {
	before := by.verdict.compare(a.verdict) < 0
	switch {
	case by == a || !lowersAll(by, a):
		return false
	case l.Own.TCPMSSClamp == "initiator":
		return before // something between them may accept
	case ranges:
		return false
	}
	return before || clampOf(a).Range != nil || !lowersAll(a, by)
}

// lowersAll says whether a clamp is for all packets of another and sets a size that is never above.
func lowersAll(by, a *asked) bool {
	for _, p := range a.packets {
		size, limit := ClampSize(clampOf(by), p.family), ClampSize(clampOf(a), p.family)
		if size != limit && (size <= 0 || limit <= 0 || size > limit) ||
			!slices.ContainsFunc(by.packets, func(q packets) bool { return q.covers(p) }) {
			return false
		}
	}
	return true
}

func clampOf(a *asked) *grammar.TCPMSSClamp { return a.rule.Element.(*grammar.TCPMSSClamp) }

// ClampSize is the MSS, in bytes, that a clamp that Check has nothing against sets in packets of a family, IPv4 or IPv6; 0 is
// what the path allows, and grammar.LinkMSS what the links carry.
func ClampSize(e *grammar.TCPMSSClamp, family grammar.Family) int {
	switch {
	case e.MTU != 0 && family == grammar.IPv6:
		return e.MTU - 60
	case e.MTU != 0:
		return e.MTU - 40
	}
	size, _ := grammar.ParseMSS(e.Value) // Check has refused what is wrong
	return size
}

// clampText is how a clamp says what it sets.
func clampText(e *grammar.TCPMSSClamp) string {
	switch {
	case e.MTU != 0:
		return fmt.Sprintf("mtu=%d", e.MTU)
	case e.Value == "":
		return "value=pmtu"
	}
	return "value=" + e.Value
}

// countClamps is how many clamps of all zones and policies there are of a kind.
func (l *linter) countClamps(is func(*grammar.TCPMSSClamp) bool) int {
	n := 0
	count := func(c *Content) {
		for _, r := range c.Rules {
			if e, ok := r.Element.(*grammar.TCPMSSClamp); ok && is(e) {
				n++
			}
		}
	}
	for _, z := range l.Zones {
		count(&z.Content)
	}
	for _, p := range l.Policies {
		count(&p.Content)
	}
	return n
}
