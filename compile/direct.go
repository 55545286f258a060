package compile

import (
	"slices"
	"strconv"
	"strings"

	"richwall/compile/ir"
	"richwall/zones"
)

// compileDirect adds the chains, rules and command lines of the direct interface that are for iptables and ip6tables. It
// runs after all else is in its place, because they say where they go by position.
func (s *state) compileDirect() {
	if s.layout.oneTable {
		return // nftables has no place for them: they stay with iptables, beside the table
	}
	d := s.cfg.Direct
	for _, c := range d.Chains {
		if f := familyNamed(c.IPV); f != 0 {
			s.declareFor(c.Table, c.Chain, f)
		}
	}
	for _, r := range d.Rules {
		if f := familyNamed(r.IPV); f != 0 {
			s.directRule(f, r)
		}
	}
	for _, p := range d.Passthroughs {
		if f := familyNamed(p.IPV); f != 0 {
			s.passthrough(f, p.Args)
		}
	}
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
		s.declare(b.table, b.hook).Builtin = true
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

func directOrigin(args []string) *ir.Origin {
	return &ir.Origin{Object: "direct", Text: zones.JoinArgs(args)}
}

// directRule puts a rule before all rules of its chain but direct ones of the same or a lower priority; rules for one of the
// kernel's chains go to a chain of ours that it jumps to.
func (s *state) directRule(f ir.Families, r zones.DirectRule) {
	name := r.Chain
	if builtin := strings.TrimSuffix(name, "_direct"); s.isBuiltin(r.Table, builtin) {
		if name = builtin; !s.directOnly {
			name += "_direct"
		}
	}
	c := s.declareFor(r.Table, name, f)
	at := 0
	for at < len(c.Rules) && c.Rules[at].Direct && c.Rules[at].Order <= r.Priority {
		at++
	}
	for _, args := range splitAddresses(r.Args) {
		c.Rules = slices.Insert(c.Rules, at, &ir.Rule{Families: f, Order: r.Priority, Direct: true,
			Actions: []ir.Action{ir.Raw{Args: args}}, Origin: directOrigin(r.Args)})
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

// passthrough does what a command line of iptables would: it appends or inserts a rule, or makes a chain.
func (s *state) passthrough(f ir.Families, args []string) {
	table, command, chain := "filter", "", ""
	var rest []string
	for i := 0; i < len(args); i++ {
		more := i+1 < len(args)
		switch a := args[i]; {
		case (a == "-t" || a == "--table") && more:
			i++
			table = args[i]
		case passthroughCommands[a] != "" && more:
			i++
			command, chain = passthroughCommands[a], args[i]
		default:
			rest = append(rest, a)
		}
	}
	c := s.declareFor(table, chain, f)
	if command == "new" {
		return
	}
	at := len(c.Rules)
	if command == "insert" {
		at = 0
		if len(rest) > 0 {
			if n, err := strconv.Atoi(rest[0]); err == nil { // rules are numbered from 1
				at, rest = s.ruleNumber(c, f, n), rest[1:]
			}
		}
	}
	for _, one := range splitAddresses(rest) {
		c.Rules = slices.Insert(c.Rules, at, &ir.Rule{Families: f, Direct: true,
			Actions: []ir.Action{ir.Raw{Args: one}}, Origin: directOrigin(args)})
	}
}

var passthroughCommands = map[string]string{
	"-A": "append", "--append": "append", "-I": "insert", "--insert": "insert", "-N": "new", "--new-chain": "new",
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
