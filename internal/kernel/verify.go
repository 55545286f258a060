package kernel

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"richwall/compile/iptables"
	"richwall/compile/ir"
	"richwall/compile/nft"
)

// Limits of names, in bytes (linux/netfilter/nf_tables.h, linux/netfilter/x_tables.h, linux/netfilter/ipset/ip_set.h), and of
// how many chains may have jumped to one another (NFT_JUMP_STACK_SIZE).
const (
	maxNFTName   = 255
	maxChainName = ir.MaxChainName
	maxSetName   = 31
	maxJumps     = 16
)

// verifier looks for what a kernel would refuse in any case, whatever it has beside the ruleset: such errors can be told
// with a reason, and before anything is sent.
type verifier struct {
	rs     *ir.Ruleset
	known  *verified
	result *verified
	chains map[chainKey]*ir.Chain
	sets   map[string]*ir.Set
	state  map[chainKey]int // of the walk through jumps: 1 under way, 2 done
	below  map[chainKey]int // the most jumps on a way from a chain
	seen   map[visit]bool
	errs   []*RuleError
}

// verified is what was found out about chains and sets of a ruleset without errors. They do not change: in the next ruleset
// only those that are others need to be looked at.
type verified struct {
	chains map[*ir.Chain]*summary
	byName map[chainKey]*ir.Chain
	sets   map[string]*ir.Set // by name
}

// summary is what of a chain's rules concerns other chains, or where the chain is entered.
type summary struct {
	refers bool         // to sets, helpers or the flow table, which may go without the chain being another one
	jumps  []jump       // the first to each chain
	placed []restricted // the first of each kind
}

type jump struct {
	rule *ir.Rule
	to   string
}

// restricted is something that may not stand everywhere, by its name in the tables of places.
type restricted struct {
	rule *ir.Rule
	name string
}

type chainKey struct{ table, name string }

type visit struct {
	chain chainKey
	at    entry
}

// entry is where the kernel enters a base chain.
type entry struct{ kind, hook string } // kind: the type of the hook, or the table of iptables

// verify checks all that shall be in the kernel. known is what it returned for a ruleset before, and may be nil.
func verify(next *Desired, backend ir.Backend, known *verified) (*verified, error) {
	var errs []error
	now := &verified{}
	if next.Rules != nil {
		if next.Rules.Backend != backend {
			return nil, fmt.Errorf("the ruleset is laid out for %s, and this is %s", next.Rules.Backend, backend)
		}
		var err error
		now, err = verifyRuleset(next.Rules, known)
		errs = append(errs, err)
	}
	if next.Direct != nil {
		if backend != ir.NFTables {
			return nil, errors.New("rules of the direct interface are part of the ruleset with iptables")
		}
		_, err := verifyRuleset(next.Direct, nil)
		errs = append(errs, err)
	}
	return now, errors.Join(errs...)
}

func verifyRuleset(rs *ir.Ruleset, known *verified) (*verified, error) {
	if known == nil {
		known = &verified{}
	}
	v := &verifier{rs: rs, known: known, result: &verified{map[*ir.Chain]*summary{}, map[chainKey]*ir.Chain{}, map[string]*ir.Set{}},
		chains: map[chainKey]*ir.Chain{}, sets: map[string]*ir.Set{}, state: map[chainKey]int{}, below: map[chainKey]int{}, seen: map[visit]bool{}}
	for _, s := range rs.Sets {
		v.set(s)
	}
	for _, c := range rs.Chains {
		v.declare(c)
	}
	for _, c := range rs.Chains {
		v.chain(c)
	}
	if len(v.errs) == 0 && v.moved() { // jumps lead somewhere
		v.walk()
	}
	return v.result, joined(v.errs)
}

// moved says whether the ways through the chains are others than before, or what stands on them is.
func (v *verifier) moved() bool {
	if len(v.chains) != len(v.known.byName) {
		return true
	}
	for k, c := range v.chains {
		was := v.known.byName[k]
		if was == c {
			continue
		}
		if was == nil || (was.Hook == nil) != (c.Hook == nil) || c.Hook != nil && *was.Hook != *c.Hook || !v.known.chains[was].same(v.result.chains[c]) {
			return true
		}
	}
	return false
}

// same says whether two chains jump to the same ones and have the same restricted things.
func (s *summary) same(t *summary) bool {
	return slices.EqualFunc(s.jumps, t.jumps, func(a, b jump) bool { return a.to == b.to }) &&
		slices.EqualFunc(s.placed, t.placed, func(a, b restricted) bool { return a.name == b.name })
}

// chain checks the rules of a chain, unless that was done and they depend on nothing else.
func (v *verifier) chain(c *ir.Chain) {
	sum := v.known.chains[c]
	if sum == nil || sum.refers {
		sum = &summary{}
		seen := map[string]bool{}
		for _, r := range c.Rules {
			v.rule(c, r)
			sum.add(r, seen)
		}
	}
	v.result.chains[c] = sum
	for _, j := range sum.jumps {
		if v.chains[chainKey{c.Table, j.to}] == nil {
			v.fail(j.rule.Origin, c.Name, "there is no chain %s to jump to", j.to)
		}
	}
}

// add notes what a rule has that concerns others. seen are the names of chains and restricted things that are noted.
func (s *summary) add(r *ir.Rule, seen map[string]bool) {
	for _, m := range r.Matches {
		if l, ok := m.(ir.Lookup); ok {
			s.refers = s.refers || l.Set.Sides == nil // a folded set comes and goes with its rule
		}
		s.place(r, m, seen)
	}
	for _, a := range r.Actions {
		switch a := a.(type) {
		case ir.Jump:
			s.jump(r, a.Chain, seen)
		case ir.Decide:
			for _, e := range a.Map.Elements {
				if j, ok := e.Verdict().(ir.Jump); ok {
					s.jump(r, j.Chain, seen)
				}
			}
		case ir.ClampMSS:
			s.refers = s.refers || a.Links != ""
		case ir.SetHelper, ir.Offload:
			s.refers = true
		}
		s.place(r, a, seen)
	}
}

func (s *summary) jump(r *ir.Rule, to string, seen map[string]bool) {
	if !seen[to] {
		seen[to] = true
		s.jumps = append(s.jumps, jump{r, to})
	}
}

func (s *summary) place(r *ir.Rule, what any, seen map[string]bool) {
	if name := named(what); name != "" && !seen[" "+name] { // no chain's name begins with a blank
		seen[" "+name] = true
		s.placed = append(s.placed, restricted{r, name})
	}
}

func (v *verifier) nft() bool { return v.rs.Backend == ir.NFTables }

func (v *verifier) fail(origin *ir.Origin, chain, format string, args ...any) {
	v.errs = append(v.errs, &RuleError{Origin: origin, Chain: chain, Err: fmt.Errorf(format, args...)})
}

func key(c *ir.Chain) chainKey { return chainKey{c.Table, c.Name} }

func (v *verifier) declare(c *ir.Chain) {
	highest := maxChainName
	if v.nft() {
		highest = maxNFTName
	}
	switch {
	case v.chains[key(c)] != nil:
		v.fail(nil, "", "chain %s is there twice", c.Name)
	case c.Name == "" || len(c.Name) > highest:
		v.fail(nil, "", "cannot make chain %q: a name has 1 to %d characters, and this one %d", c.Name, highest, len(c.Name))
	case v.chainError(c) != nil:
		v.fail(nil, "", "cannot make chain %q: %w", c.Name, v.chainError(c))
	case c.Hook != nil && !slices.Contains(hookTypes[c.Hook.Type], c.Hook.Hook):
		v.fail(nil, "", "cannot make chain %s: there is no hook %s for chains of type %s", c.Name, c.Hook.Hook, c.Hook.Type)
	case c.Hook != nil && c.Hook.Type == "nat" && c.Hook.Priority <= conntrackPriority:
		v.fail(nil, "", "cannot make chain %s: the priority of chains of type nat is above %d", c.Name, conntrackPriority)
	}
	v.chains[key(c)] = c
	v.result.byName[key(c)] = c
}

// chainError, ruleError and setError are what the target has no words for: both forms of one refuse the same.
func (v *verifier) chainError(c *ir.Chain) error {
	if v.nft() {
		return nft.CheckChain(c)
	}
	return iptables.CheckChain(c)
}

func (v *verifier) ruleError(c *ir.Chain, r *ir.Rule) error {
	if v.nft() {
		return nft.CheckRule(r)
	}
	return iptables.CheckRule(c, r)
}

func (v *verifier) setError(s *ir.Set) error {
	if v.known.sets[s.Name] == s {
		return nil
	}
	if v.nft() {
		return nft.CheckSet(s)
	}
	return iptables.CheckSet(s)
}

const conntrackPriority = -200 // NF_IP_PRI_CONNTRACK (linux/netfilter_ipv4.h)

// hookTypes are the hooks of the types of nftables' base chains.
var hookTypes = map[string][]string{
	"filter": {"prerouting", "input", "forward", "output", "postrouting"},
	"nat":    {"prerouting", "input", "output", "postrouting"},
	"route":  {"output"},
}

func (v *verifier) set(s *ir.Set) {
	highest := maxSetName
	if v.nft() {
		highest = maxNFTName
	}
	switch {
	case v.sets[s.Name] != nil:
		v.fail(s.Origin, "", "set %s is there twice", s.Name)
	case s.Name == "" || len(s.Name) > highest:
		v.fail(s.Origin, "", "cannot make set %q: a name has 1 to %d characters, and this one %d", s.Name, highest, len(s.Name))
	case v.setError(s) != nil:
		v.fail(s.Origin, "", "%w", v.setError(s))
	case v.nft():
		if a, b, ok := s.Overlap(v.known.sets[s.Name]); ok {
			v.fail(s.Origin, "", "cannot make set %s: its elements %s and %s overlap", s.Name, a.Text, b.Text)
		}
	}
	v.sets[s.Name] = s
	v.result.sets[s.Name] = s
}

func (v *verifier) rule(c *ir.Chain, r *ir.Rule) {
	if err := v.ruleError(c, r); err != nil {
		v.fail(r.Origin, c.Name, "%w", err)
		return
	}
	for _, m := range r.Matches {
		if l, ok := m.(ir.Lookup); ok {
			switch s := v.sets[l.Set.Name]; {
			case s == nil:
				v.fail(r.Origin, c.Name, "there is no set %s", l.Set.Name)
			case s.Type != l.Set.Type || s.Family != l.Set.Family:
				v.fail(r.Origin, c.Name, "the rule looks up a set of type %s, and set %s is of type %s", l.Set.Type, s.Name, s.Type)
			}
		}
	}
	for _, a := range r.Actions {
		switch a := a.(type) {
		case ir.Decide:
			if s := v.sets[a.Map.Name]; s == nil || !s.Verdicts || !v.nft() {
				v.fail(r.Origin, c.Name, "there is no verdict map %s", a.Map.Name)
			}
		case ir.ClampMSS:
			if s := v.sets[a.Links]; a.Links != "" && (s == nil || !s.Sizes || !v.nft()) {
				v.fail(r.Origin, c.Name, "there is no map of segment sizes %s", a.Links)
			}
		case ir.SetHelper:
			if v.nft() && !slices.ContainsFunc(v.rs.Helpers, func(h ir.Helper) bool { return h.Name == a.Object }) {
				v.fail(r.Origin, c.Name, "there is no connection tracking helper %s", a.Object)
			}
		case ir.Offload:
			if v.rs.Flowtable == nil {
				v.fail(r.Origin, c.Name, "there is no flow table")
			}
		}
	}
}

// walk goes through all chains from where the kernel enters them.
func (v *verifier) walk() {
	for _, c := range v.rs.Chains {
		switch {
		case v.nft() && c.Hook != nil:
			v.depth(c)
			v.visit(c, entry{c.Hook.Type, c.Hook.Hook})
		case !v.nft() && isBuiltin(c.Table, c.Name):
			v.depth(c)
			v.visit(c, entry{c.Table, strings.ToLower(c.Name)})
		}
	}
}

// jumps calls f for each chain that a chain jumps to.
func (v *verifier) jumps(c *ir.Chain, f func(*ir.Rule, *ir.Chain)) {
	for _, j := range v.result.chains[c].jumps {
		f(j.rule, v.chains[chainKey{c.Table, j.to}])
	}
}

// depth is the most jumps on a way from a chain. It finds jumps that lead back.
func (v *verifier) depth(c *ir.Chain) int {
	k := key(c)
	if v.state[k] == 2 {
		return v.below[k]
	}
	v.state[k] = 1
	deepest := 0
	v.jumps(c, func(r *ir.Rule, to *ir.Chain) {
		if v.state[key(to)] == 1 {
			v.fail(r.Origin, c.Name, "the jump to chain %s leads back to where it comes from", to.Name)
			return
		}
		deepest = max(deepest, v.depth(to)+1)
	})
	v.state[k] = 2
	v.below[k] = deepest
	if v.nft() && c.Hook != nil && deepest >= maxJumps {
		v.fail(nil, c.Name, "%d chains jump to one another from here, and the highest number is %d", deepest, maxJumps-1)
	}
	return deepest
}

// visit checks whether the rules of a chain may stand where the kernel comes to them.
func (v *verifier) visit(c *ir.Chain, at entry) {
	this := visit{key(c), at}
	if v.seen[this] {
		return
	}
	v.seen[this] = true
	for _, p := range v.result.chains[c].placed {
		v.place(c, p, at)
	}
	v.jumps(c, func(_ *ir.Rule, to *ir.Chain) { v.visit(to, at) })
}

// place is where something may stand: blank-separated types of base chains or tables of iptables, and hooks; empty means
// all.
type place struct{ kinds, hooks string }

var (
	nftPlaces = map[string]place{
		"clamping to the path's MTU":      {hooks: "forward output postrouting"},
		"masquerading":                    {"nat", "postrouting"},
		"a new destination":               {"nat", "prerouting output"},
		"reject":                          {hooks: "prerouting input forward output"},
		"a look into the routing table":   {hooks: "prerouting input forward"},
		"handing flows to the flow table": {hooks: "forward"},
	}
	iptablesPlaces = map[string]place{
		// iptables-legacy knows by which chains a rule is reached, and refuses it towards the host (linux/net/netfilter/xt_TCPMSS.c, tcpmss_tg4_check).
		"clamping to the path's MTU":      {hooks: "input forward output postrouting"},
		"masquerading":                    {"nat", "postrouting"},
		"a new destination":               {"nat", "prerouting output"},
		"reject":                          {"filter", "input forward output"},
		"a look into the routing table":   {"raw mangle", "prerouting"},
		"assigning a connection's helper": {kinds: "raw"},
		"a MAC address":                   {hooks: "prerouting input forward"},
	}
)

// named is what a match or an action is called in the tables of places; empty if it may stand anywhere.
func named(v any) string {
	switch v := v.(type) {
	case ir.ClampMSS:
		if v.Size == 0 && v.Links == "" {
			return "clamping to the path's MTU"
		}
	case ir.Masquerade:
		return "masquerading"
	case ir.DNAT:
		return "a new destination"
	case ir.Reject:
		return "reject"
	case ir.Fib:
		return "a look into the routing table"
	case ir.Offload:
		return "handing flows to the flow table"
	case ir.SetHelper:
		return "assigning a connection's helper"
	case ir.EtherAddr:
		return "a MAC address"
	}
	return ""
}

func (v *verifier) place(c *ir.Chain, r restricted, at entry) {
	places := iptablesPlaces
	if v.nft() {
		places = nftPlaces
	}
	p := places[r.name]
	if p.kinds != "" && !slices.Contains(strings.Fields(p.kinds), at.kind) || p.hooks != "" && !slices.Contains(strings.Fields(p.hooks), at.hook) {
		v.fail(r.rule.Origin, c.Name, "%s cannot stand in a chain that is entered from %s %s", r.name, at.kind, at.hook)
	}
}
