package compile

import (
	"cmp"
	"fmt"
	"slices"

	"richwall/compile/ir"
)

// Rules that differ in nothing but an address, a port, an interface become one rule, which looks that up in a set; rules that
// also differ in their verdict become one with a verdict map. What a packet meets is the same.
//
// A chain is cut into runs of neighbours among which order has no effect, or could be given up: rules that do the same and end
// the walk through the chain, and rules of one shape of which a packet matches one at most, or the first can be given what
// several claim. In a run, the rules of one shape are a fold, and one that is large enough becomes a rule in the place of its
// first one.
//
//	foldshape.go    what of a rule can be in a set, and what it has in common with others
//	foldrun.go      the runs, and which rules of one are a fold
//	foldclaims.go   rules of one shape with different verdicts: which one a packet meets
//	foldset.go      the elements of a fold, and the sets and rules that are made of them
//	foldname.go     what these sets are called
//	foldedit.go     a run again, after few of its rules came or went

// leastFolded is from how many rules on a fold is made, by what richwall.conf says; without an entry none ever is. What
// people write by hand stays to the letter as firewalld has it.
var leastFolded = map[string]int{"auto": 64, "yes": 2}

// foldFault is nil but in tests of what becomes of rules that cannot be folded.
var foldFault func(*ir.Set) string

// folding is what folding a chain needs to know.
type folding struct {
	chain   *ir.Chain
	least   int
	classes classes
	fault   func(*ir.Set) string // for tests: what is wrong with a set; nil for what is
}

// folded is how the rules of a chain were folded, for the next time.
type folded struct {
	in      []*ir.Rule
	class   []*class // of each of in; nil for one that no other may pass
	classes classes
	runs    []run
	out     []*ir.Rule
	sets    []*ir.Set
	renamed map[*ir.Set]madeOne // sets, and their rules, whose name another set of the chain had already
	notes   []string            // which rules were not folded although they are enough, and why
}

// run is neighbours that can be looked at by themselves.
type run struct {
	from, to  int // in folded.in
	stretches []*stretch
}

// fold makes one rule of many. Base chains are left alone, and chains of which the counters are looked at.
func (s *state) fold() {
	least := leastFolded[s.cfg.Own.RuleFolding]
	if least == 0 || s.out.Counters {
		return
	}
	for _, c := range s.out.Chains {
		if c.Hook != nil || c.Builtin || len(c.Rules) < least {
			continue
		}
		f := &folding{chain: c, least: least, classes: classes{backend: s.layout.backend}, fault: foldFault}
		m := s.next.chains[chainKey{c.Table, c.Name}]
		m.folded = f.fold(c.Rules, s.chainBefore(c).folded)
		c.Rules = m.folded.out[:len(m.folded.out):len(m.folded.out)]
		s.out.Sets = append(s.out.Sets, m.folded.sets...)
		s.out.Notes = append(s.out.Notes, m.folded.notes...)
	}
	slices.SortStableFunc(s.out.Sets, func(a, b *ir.Set) int { return cmp.Compare(a.Name, b.Name) })
}

// fold folds a chain's rules. before is how it was done the last time, with the same settings, or nil. What comes out does not
// depend on it, but for what is a pointer to the same as the last time.
func (f *folding) fold(rules []*ir.Rule, before *folded) *folded {
	if before == nil {
		before = &folded{}
	}
	begin, end := aligned(before.in, rules)
	if len(rules) == len(before.in) && begin == len(rules) {
		return before
	}
	f.classes.list, f.classes.shapes = before.classes.list, before.classes.shapes
	next := &folded{in: rules, class: make([]*class, len(rules))}
	copy(next.class, before.class[:begin])
	copy(next.class[len(rules)-end:], before.class[len(before.in)-end:])
	for i := begin; i < len(rules)-end; i++ {
		next.class[i] = f.classes.of(rules[i])
	}
	e := &edit{folding: f, before: before, next: next, begin: begin, end: len(rules) - end, shift: len(rules) - len(before.in)}
	for _, r := range split(next.class, f.least) {
		next.runs = append(next.runs, e.run(r))
	}
	next.classes = f.classes
	next.classes.own, next.classes.last = false, nil
	c := &collector{folded: next, names: f.naming(), before: before.renamed}
	c.collect()
	next.notes = c.faults(f.chain.Name)
	return next
}

// collector puts together what comes out: the rules that stay, and in the place of each fold's first one those that it became.
type collector struct {
	*folded
	names  naming
	before map[*ir.Set]madeOne // renamed, of the last time
}

func (c *collector) collect() {
	room := len(c.in)
	for _, r := range c.runs {
		for _, st := range r.stretches {
			room -= st.saved()
		}
	}
	c.out = make([]*ir.Rule, 0, room)
	at := 0
	for _, r := range c.runs {
		c.out = append(c.out, c.in[at:r.from]...)
		at = r.from
		for _, st := range r.stretches {
			c.stretch(st, at)
			at += st.rules
		}
	}
	c.out = append(c.out, c.in[at:]...)
}

// faults says which folds were not made, and why.
func (c *collector) faults(chain string) (notes []string) {
	for _, r := range c.runs {
		for _, st := range r.stretches {
			for _, into := range st.folds {
				if into.fault != "" {
					notes = append(notes, fmt.Sprintf("chain %s: %d rules of %s are not folded, and stay as they are: set %s", chain, into.rules, into.object, into.fault))
				}
			}
		}
	}
	return notes
}

func (c *collector) stretch(st *stretch, from int) {
	if len(st.folds) == 0 {
		c.out = append(c.out, c.in[from:from+st.rules]...)
		return
	}
	done := make(map[*fold]bool, len(st.folds))
	var last *class
	var into *fold // what a rule goes into; nil if it stays
	for i, r := range c.in[from : from+st.rules] {
		if now := c.class[from+i]; now != last {
			last, into = now, st.of[now]
			if into != nil && !into.folded {
				into = nil
			}
		}
		if into == nil {
			c.out = append(c.out, r)
			continue
		}
		if !done[into] {
			done[into] = true
			c.add(into)
		}
	}
}

// add adds the sets and rules of a fold.
func (c *collector) add(into *fold) {
	for _, m := range into.made {
		if name := c.names.next(m.name); name != m.set.Name {
			again, ok := c.before[m.set]
			if !ok || again.set.Name != name {
				again = m.called(name)
			}
			if c.renamed == nil {
				c.renamed = map[*ir.Set]madeOne{}
			}
			c.renamed[m.set] = again
			m = again
		}
		c.out = append(c.out, m.rule)
		c.sets = append(c.sets, m.set)
	}
}
