package compile

import (
	"richwall/compile/ir"
	"richwall/grammar"
)

// What rich rules of tcp-mss decide about is announced by a SYN and by its SYN/ACK, whoever opens the connection and whether it is of this machine.
// The places of firewalld's rules see less: the SYN of what a zone lets in. So such rules stand beside the clamps, and before them, as they ask
// what a host has announced.
//
//	mangle_MSS_SYN_<zone>, mangle_MSS_SYNACK_<zone>, mangle_MSS_INPUT_SYN_<zone>, …
//
// A rule that accepts ends such a chain, so that rules behind it do not refuse; what it lets in, its rule in firewalld's place says. One that
// marks is in firewalld's place alone. iptables rejects in table filter alone: there a rule that rejects has its SYN in firewalld's place, and what
// that does not see is dropped.

// segments are rules of tcp-mss of a zone or policy.
const segments = "MSS_"

// mss compiles a tcp-mss.
func (c *richRule) mss(e *grammar.TCPMSS) {
	v := variant{families: c.families, element: []ir.Match{ir.SYN{}, ir.MSS(e.Value)}}
	_, marks := c.r.Action.(*grammar.Mark)
	if marks || c.s.cfg.Own.TCPMSSClamp != "both" {
		c.filter(v)
		return
	}
	if !c.sayableMSS() {
		return
	}
	c.s.more().clamp = &clamp{rule: c, match: e}
	switch {
	case c.rejectsElsewhere():
		c.filter(v)
	case accepts(c.r):
		quiet, rule := *c, *c.r
		rule.Log, rule.Audit = nil, nil
		quiet.r = &rule
		quiet.filter(v)
	}
}

func accepts(r *grammar.Rule) bool { _, ok := r.Action.(*grammar.Accept); return ok }

// rejectsElsewhere says whether the rule rejects, and chains beside the clamps cannot.
func (c *richRule) rejectsElsewhere() bool {
	_, rejects := c.r.Action.(*grammar.Reject)
	return rejects && c.s.layout.backend == ir.IPTables
}

// sayableMSS is what put finds out of other rules.
func (c *richRule) sayableMSS() bool {
	log, _ := c.logAction()
	limits := []*grammar.Limit{c.limitOfLog()}
	if c.r.Audit != nil {
		limits = append(limits, c.r.Audit.Limit)
	}
	action, limit := c.verdictMSS()
	for _, l := range append(limits, limit) {
		if !c.sayableLimit(l) {
			return false
		}
	}
	hook := c.o.filter
	return c.sayableLog(log) && c.sayable(hook, variant{element: []ir.Match{ir.SYN{}}}, action)
}

// limitOfLog is that of the rule's log statement; nil for none.
func (c *richRule) limitOfLog() *grammar.Limit {
	switch l := c.r.Log.(type) {
	case *grammar.Log:
		return l.Limit
	case *grammar.NFLog:
		return l.Limit
	}
	return nil
}

// verdictMSS is what becomes of a segment, and how often; nil for nothing.
func (c *richRule) verdictMSS() (ir.Action, *grammar.Limit) {
	switch a := c.r.Action.(type) {
	case *grammar.Accept:
		return ir.Return, a.Limit
	case *grammar.Drop:
		return ir.Drop, a.Limit
	case *grammar.Reject:
		if c.s.layout.backend == ir.IPTables {
			return ir.Drop, a.Limit
		}
		return ir.Reject{With: a.Type}, a.Limit
	}
	return nil, nil
}

// hookOf is the kernel's chain that leads to the chains of firewalld's rules.
var hookOf = map[string]string{"IN": "INPUT", "FWD": "FORWARD", "OUT": "OUTPUT"}

// segmentRules are the rules of a tcp-mss for one way.
func (c *clamp) segmentRules(w way) []*ir.Rule {
	r := c.rule
	ends, ok := r.endsOf(w)
	if !ok || r.rejectsElsewhere() && !w.reply && w.base == hookOf[r.o.filter] {
		return nil
	}
	matches := append(append(append([]ir.Match{}, r.lead...), ends...), ir.SYN{}, ir.MSS(c.match.Value))
	var rules []*ir.Rule
	add := func(place int, action ir.Action, limit *grammar.Limit) {
		all := matches
		if limit != nil {
			all = append(append([]ir.Match{}, matches...), ir.Limit(*limit))
		}
		if r.r.Priority != 0 {
			place = 0 // as they are written
		}
		rules = append(rules, &ir.Rule{Families: r.families, Order: 4*r.r.Priority + place, Ranked: true, Matches: all, Actions: []ir.Action{action}, Origin: r.origin})
	}
	if log, _ := r.logAction(); log != nil {
		add(1, log, r.limitOfLog())
	}
	if r.r.Audit != nil {
		add(1, ir.Audit{Type: r.r.Action.Keyword()}, r.r.Audit.Limit)
	}
	switch action, limit := r.verdictMSS(); {
	case action == nil:
	case accepts(r.r):
		add(3, action, limit)
	default:
		add(2, action, limit)
	}
	return rules
}
