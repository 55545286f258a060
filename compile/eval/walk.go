package eval

import (
	"fmt"

	"richwall/compile/ir"
)

// outcome is where the walk goes on.
type outcome uint8

const (
	next     outcome = iota // behind the rule, or where the chain was jumped to from
	back                    // to where the chain was jumped to from
	accepted                // with the next base chain
	ended                   // nowhere: the packet is gone, or unknown
)

// maxDepth is how many jumps deep the kernel goes (NFT_JUMP_STACK_SIZE of net/netfilter/nf_tables.h).
const maxDepth = 16

// walk is a packet on its way.
type walk struct {
	*Evaluator
	p          *Packet // Result.Packet
	r          Result
	hook       string
	translated bool        // by a chain of this hook
	element    *ir.Element // that the current rule has found
}

// Evaluate says what becomes of a packet.
func (e *Evaluator) Evaluate(p Packet) Result {
	w := &walk{Evaluator: e, r: Result{Packet: p, Verdict: Accept}}
	w.p = &w.r.Packet
	if hooks[p.Path] == nil || icmpOf[p.Family] == 0 {
		w.unknown("a packet is for input, forward or output, and of IPv4 or IPv6")
		return w.r
	}
	for i := 0; i < len(hooks[w.p.Path]); i++ { // the path changes behind its first hook, if at all
		w.hook, w.translated = hooks[w.p.Path][i], false
		for _, b := range e.bases[w.hook] {
			if b.nat && !w.translatable() {
				continue
			}
			if w.chain(b.Chain, 0) == ended {
				return w.r
			}
		}
	}
	return w.r
}

// translatable says whether chains of type nat see the packet: the first one that opens a connection, until one of them has
// translated it (the kernel's nf_nat_inet_fn).
func (w *walk) translatable() bool {
	opens := w.p.State == StateNew || w.p.State == StateRelated && !w.p.isICMP()
	return opens && !w.p.Reply && !w.translated
}

// unknown ends the walk without an answer.
func (w *walk) unknown(format string, args ...any) outcome {
	w.r.Verdict, w.r.Why = Unknown, fmt.Sprintf(format, args...)
	return ended
}

// chain runs through a chain. It never returns back.
func (w *walk) chain(c *ir.Chain, depth int) outcome {
	for _, r := range c.Rules {
		w.element = nil
		switch holds, missing := w.rule(r); {
		case holds == no:
			continue
		case holds == maybe:
			w.step(c, depth, r)
			return w.unknown("%s is not given, and a rule asks for it", missing)
		}
		w.step(c, depth, r)
		for _, a := range r.Actions {
			switch o := w.action(c, depth, a); o {
			case next:
			case back:
				return next
			default:
				return o
			}
		}
	}
	return next
}

// step notes a rule in the trace.
func (w *walk) step(c *ir.Chain, depth int, r *ir.Rule) {
	w.r.Trace = append(w.r.Trace, Step{Hook: w.hook, Chain: c, Depth: depth, Rule: r, Element: w.element})
}

// jump goes through another chain.
func (w *walk) jump(from *ir.Chain, depth int, j ir.Jump) outcome {
	c := w.chains[chainKey{from.Table, j.Chain}]
	switch {
	case c == nil:
		return w.unknown("there is no chain %s to jump to", j.Chain)
	case depth == maxDepth:
		return w.unknown("chain %s is more than %d jumps deep, which the kernel refuses", j.Chain, maxDepth)
	}
	o := w.chain(c, depth+1)
	if o == next && j.Goto {
		return back
	}
	return o
}
