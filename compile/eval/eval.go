// Package eval says what a ruleset does to a packet: the verdict, what becomes of the packet, and the rules that led to it.
//
// In comes an *ir.Ruleset, indexed once by New, and a Packet, which is facts about it that the kernel would know: where it comes
// in and goes out, the state of its connection, what the routing table says of its source. Out goes a Result. Nothing is asked
// of the machine. It runs the base chains of each hook in the order of their priorities, as the kernel does (netfilter hooks,
// linux/netfilter_ipv4.h), with both back ends' own ideas of what a match is.
//
// Three things are simpler than in the kernel. Packets are taken to be within every limit's rate. A port range that a packet's
// destination is translated to is taken at its first port, unless the packet's own is in it. And what has no answer in the
// facts has none in the result, whose verdict is then Unknown: a rule of the direct interface, which is text for iptables; or
// a rule that asks for what the Packet leaves open.
//
// The command explain and tests of the compiler import it.
package eval

import (
	"cmp"
	"slices"
	"strings"

	"richwall/compile/ir"
)

// Verdict is what becomes of a packet.
type Verdict string

// The verdicts.
const (
	Accept  Verdict = "accept"
	Drop    Verdict = "drop"
	Reject  Verdict = "reject"  // dropped, and answered
	Unknown Verdict = "unknown" // Result.Why says what is missing
)

// Result is what a ruleset does to a packet.
type Result struct {
	Verdict    Verdict
	Answer     Answer      // of Reject
	Why        string      // of Unknown, a clause such as "the destination address is not given"
	Packet     Packet      // in its last state: with its mark, its MSS, and the destination it is sent to
	DNAT       *ir.DNAT    // what translated its destination; nil means nothing did
	Masquerade bool        // its source becomes the address of the outgoing interface
	PathClamp  bool        // the MSS is lowered to what its path allows, and Packet.PathMSS does not say how much that is
	LinkClamps []string    // the MSS is lowered to what these interfaces carry, which the ruleset does not say
	Helper     string      // the connection tracking helper it is given, by the helper's own name; empty means none
	Logs       []ir.Action // what is logged, in order: Log, NFLog and Audit
	Trace      []Step      // the rules that matched, in order
}

// Step is a rule that matched.
type Step struct {
	Hook    string // prerouting, input, forward, output or postrouting
	Chain   *ir.Chain
	Depth   int // of jumps; 0 in a base chain
	Rule    *ir.Rule
	Element *ir.Element // of the set that the rule looked up last and found the packet in; nil without one
}

// Decisive is the rule that dropped or rejected the packet, or left it Unknown; or the last one that accepted it in input, forward
// or output, where firewalls filter. It is nil where the packet passed because no rule said otherwise.
func (r *Result) Decisive() *Step {
	if n := len(r.Trace); r.Verdict != Accept {
		if n == 0 {
			return nil
		}
		return &r.Trace[n-1]
	}
	for i := len(r.Trace) - 1; i >= 0; i-- {
		if s := &r.Trace[i]; s.Hook != "prerouting" && s.Hook != "postrouting" && s.accepts() {
			return s
		}
	}
	return nil
}

// accepts says whether the rule ends the base chain with accept.
func (s *Step) accepts() bool {
	for _, a := range s.Rule.Actions {
		if _, decides := a.(ir.Decide); decides && s.Element != nil {
			a = s.Element.Verdict()
		}
		if a == ir.Action(ir.Accept) {
			return true
		}
	}
	return false
}

// Evaluator is a ruleset that packets can be tried on, any number of them and at the same time.
type Evaluator struct {
	backend ir.Backend
	bases   map[string][]base // by hook, in the order in which they run
	chains  map[chainKey]*ir.Chain
	sets    map[*ir.Set]*index
	links   map[string]*ir.Set // those of ir.LinkMaps, by name
	helpers map[string]string  // types by the name of the object
}

// base is a chain that the kernel enters.
type base struct {
	*ir.Chain
	nat      bool // it is for the first packet of a connection
	priority int
}

type chainKey struct{ table, name string }

// tables are the tables of iptables that each hook runs through, in this order (linux/netfilter_ipv4.h, nf_ip_hook_priorities).
var tables = map[string][]string{
	"prerouting":  {"raw", "mangle", "nat"},
	"input":       {"mangle", "filter", "security", "nat"},
	"forward":     {"mangle", "filter", "security"},
	"output":      {"raw", "mangle", "nat", "filter", "security"},
	"postrouting": {"mangle", "nat"},
}

// New indexes a ruleset, which must not change while the Evaluator is used.
func New(rs *ir.Ruleset) *Evaluator {
	e := &Evaluator{
		backend: rs.Backend, bases: map[string][]base{}, chains: make(map[chainKey]*ir.Chain, len(rs.Chains)),
		sets: make(map[*ir.Set]*index, len(rs.Sets)), links: map[string]*ir.Set{}, helpers: map[string]string{},
	}
	for _, h := range rs.Helpers {
		e.helpers[h.Name] = h.Type
	}
	for _, s := range rs.Sets {
		e.sets[s] = newIndex(s)
		if s.Sizes && len(s.Elements) > 0 {
			e.links[s.Name] = s
		}
	}
	for _, c := range rs.Chains {
		e.chains[chainKey{c.Table, c.Name}] = c
		if h := c.Hook; h != nil {
			e.bases[h.Hook] = append(e.bases[h.Hook], base{c, h.Type == "nat", h.Priority})
		}
	}
	for hook, list := range tables {
		for i, table := range list {
			if c := e.chains[chainKey{table, strings.ToUpper(hook)}]; c != nil && c.Builtin {
				e.bases[hook] = append(e.bases[hook], base{c, table == "nat", i})
			}
		}
	}
	for _, list := range e.bases {
		slices.SortStableFunc(list, func(a, b base) int { return cmp.Compare(a.priority, b.priority) })
	}
	return e
}

// Evaluate says what a ruleset does to a packet. Whoever has several packets makes an Evaluator.
func Evaluate(rs *ir.Ruleset, p Packet) Result { return New(rs).Evaluate(p) }
