package compile

import (
	"fmt"
	"slices"
	"strings"

	"richwall/compile/ir"
	"richwall/zones"
)

// compileDirect adds the chains, rules and command lines of the direct interface that are for iptables and ip6tables. It
// runs after all else is in its place, because they say where they go by position. A chain that nothing here makes is
// another program's.
func (s *state) compileDirect() {
	if s.layout.oneTable {
		return // nftables has no place for them: they stay with iptables, beside the table
	}
	d := s.cfg.Direct
	for _, c := range d.Chains {
		if f := familyNamed(c.IPV); f != 0 {
			s.declareDirect(c.Table, c.Chain, f)
		}
	}
	var passes []pass
	for i := range d.Passthroughs {
		p := &d.Passthroughs[i]
		c, err := p.Command()
		f := familyNamed(p.IPV)
		if err != nil || f == 0 {
			continue // it cannot be used, which reading the file has warned of; or it is for bridges
		}
		passes = append(passes, pass{c, f, s.directOrigin(p, p.Line)})
		if c.Kind == zones.PassNew {
			s.declareDirect(c.Table, c.Chain, f)
		}
	}
	for i := range d.Rules {
		if f := familyNamed(d.Rules[i].IPV); f != 0 {
			s.directRule(f, &d.Rules[i])
		}
	}
	for _, p := range passes {
		if p.Kind != zones.PassNew {
			s.passthrough(p)
		}
	}
}

// pass is a passthrough that adds a rule or a chain.
type pass struct {
	zones.PassCommand
	family ir.Families
	origin *ir.Origin
}

// Direct makes the ruleset of the direct interface alone, for iptables and ip6tables beside nftables: rules for one of the
// kernel's chains go into that chain itself, and ipsets are sets of the kernel's ipset too, which direct rules can look up. It
// is nil where there is nothing direct. The history is that of Compile, and the one for the next time comes back.
func (h History) Direct(cfg *zones.Config) (*ir.Ruleset, History, error) {
	d := cfg.Direct
	if len(d.Chains)+len(d.Rules)+len(d.Passthroughs) == 0 {
		return nil, h, nil
	}
	var m memo
	if h.memo != nil {
		m = *h.memo
	}
	was := m.direct
	if was.def == d && sameMap(was.ipsets, cfg.IPSets) {
		return was.out, h, nil
	}
	s := &state{cfg: cfg, layout: layouts[ir.IPTables], out: &ir.Ruleset{Backend: ir.IPTables}, chains: map[chainKey]*ir.Chain{},
		sets: map[string]*ir.Set{}, before: &memo{sets: was.sets}, next: &memo{sets: map[string]*setMemo{}}, directOnly: true}
	s.compileSets()
	s.out.Sets = slices.DeleteFunc(s.out.Sets, func(set *ir.Set) bool { return len(set.Name) > maxIPSetName })
	for _, b := range iptablesBases {
		c := s.declare(b.table, b.hook)
		c.Builtin, c.Shared = true, true
	}
	s.compileDirect()
	if len(s.errs) > 0 {
		return nil, h, s.errs
	}
	s.out.Chains = slices.DeleteFunc(s.out.Chains, func(c *ir.Chain) bool { return c.Builtin && len(c.Rules) == 0 })
	m.direct = directMemo{def: d, ipsets: cfg.IPSets, sets: s.next.sets, out: s.out}
	h.memo = &m
	return s.out, h, nil
}

// Direct is that from nothing.
func Direct(cfg *zones.Config) (*ir.Ruleset, error) {
	rs, _, err := History{}.Direct(cfg)
	return rs, err
}

// directMemo is the direct interface as it was compiled last.
type directMemo struct {
	def    *zones.Direct
	ipsets map[string]*zones.IPSet
	sets   map[string]*setMemo
	out    *ir.Ruleset
}

// declareFor makes a chain for one family's tool, or for that one too.
func (s *state) declareFor(table, name string, f ir.Families) *ir.Chain {
	if c := s.chains[chainKey{table, name}]; c != nil {
		c.Families |= f
		return c
	}
	c := s.declare(table, name)
	c.Families = f
	return c
}

// declareDirect makes a chain of the direct interface, unless it is one of ours already. Others may put rules into it.
func (s *state) declareDirect(table, name string, f ir.Families) {
	known := s.chains[chainKey{table, name}] != nil
	if c := s.declareFor(table, name, f); !known {
		c.Shared, c.Declared = true, true
	}
}

// chainFor is the chain that a direct rule goes to, which is another program's if it is not declared.
func (s *state) chainFor(table, name string, f ir.Families) *ir.Chain {
	known := s.chains[chainKey{table, name}] != nil
	c := s.declareFor(table, name, f)
	c.Shared = c.Shared || !known
	return c
}

// directOrigin is where in direct.xml a rule or command is; line 0 means that it was added at runtime.
func (s *state) directOrigin(rule fmt.Stringer, line int) *ir.Origin {
	o := &ir.Origin{Object: "direct", Rule: rule}
	if line > 0 {
		o.Path, o.Line = s.cfg.Direct.Origin.Path, line
	}
	return o
}

// directRule puts a rule before all rules of its chain but direct ones of the same or a lower priority; rules for one of the
// kernel's chains go to a chain of ours that it jumps to, where there is one.
func (s *state) directRule(f ir.Families, r *zones.DirectRule) {
	name := r.Chain
	if builtin := strings.TrimSuffix(name, "_direct"); s.isBuiltin(r.Table, builtin) {
		name = builtin
		if own := s.chain(r.Table, builtin, ir.ChainDirect); !s.directOnly && s.chains[chainKey{r.Table, own}] != nil {
			name = own
		}
	}
	c := s.chainFor(r.Table, name, f)
	at := 0
	for at < len(c.Rules) && c.Rules[at].Direct && c.Rules[at].Order <= r.Priority {
		at++
	}
	for _, args := range splitAddresses(r.Args) {
		c.Rules = slices.Insert(c.Rules, at, &ir.Rule{Families: f, Order: r.Priority, Direct: true,
			Actions: []ir.Action{ir.Raw{Args: args}}, Origin: s.directOrigin(r, r.Line)})
		at++
	}
}

// isBuiltin says whether a chain is one of the kernel's own.
func (s *state) isBuiltin(table, name string) bool {
	c := s.chains[chainKey{table, name}]
	return c != nil && c.Builtin
}

// splitAddresses makes a rule of each address of a list behind -s or -d, as iptables itself does.
func splitAddresses(args []string) [][]string {
	for i := 1; i < len(args); i++ {
		if !slices.Contains([]string{"-s", "--source", "-d", "--destination"}, args[i-1]) || !strings.Contains(args[i], ",") {
			continue
		}
		var all [][]string
		for _, one := range strings.Split(args[i], ",") {
			with := slices.Clone(args)
			with[i] = one
			all = append(all, splitAddresses(with)...)
		}
		return all
	}
	return [][]string{args}
}

// passthrough does what a command line of iptables would: it appends or inserts a rule. In a chain that others share the rule
// knows where it goes among theirs.
func (s *state) passthrough(p pass) {
	c := s.chainFor(p.Table, p.Chain, p.family)
	index, place := len(c.Rules), ir.Behind
	if p.Kind == zones.PassInsert {
		index, place = 0, p.Number
		if p.Number > 0 { // rules are numbered from 1
			index = s.ruleNumber(c, p.family, p.Number)
		}
	}
	if !c.Shared {
		place = 0
	}
	for _, one := range splitAddresses(p.Rule) {
		c.Rules = slices.Insert(c.Rules, index, &ir.Rule{Families: p.family, Direct: true, Place: place,
			Actions: []ir.Action{ir.Raw{Args: one}}, Origin: p.origin})
	}
}

// ruleNumber is the index of a family's n-th rule in a chain, or behind the last.
func (s *state) ruleNumber(c *ir.Chain, f ir.Families, n int) int {
	for i, r := range c.Rules {
		if r.Families&f != 0 {
			if n--; n < 1 {
				return i
			}
		}
	}
	return len(c.Rules)
}
