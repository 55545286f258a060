package zones

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"richwall/grammar"
)

var directKind = &objectKind[Direct]{
	kind: KindDirect, title: "direct configuration",
	objects: func(c *Config) map[string]*Direct { return map[string]*Direct{"": c.Direct} },
	with:    Config.WithDirect,
	meta:    func(d *Direct) *Meta { return &Meta{Origin: d.Origin, lossy: d.lossy || d.passed} }, // which has no name or text to change
	settings: []attribute[Direct]{
		{KeyChain, list[Direct, DirectChain]{
			slice: func(d *Direct) *[]DirectChain { return &d.Chains }, same: func(a, b DirectChain) bool { return slices.Equal(chainArgs(a), chainArgs(b)) },
			args: chainArgs, parse: parseChain, state: chainState, order: chainOrder,
		}},
		{KeyDirectRule, list[Direct, DirectRule]{
			slice: func(d *Direct) *[]DirectRule { return &d.Rules },
			same:  func(a, b DirectRule) bool { return slices.Equal(ruleArgs(a), ruleArgs(b)) },
			args:  ruleArgs, parse: parseDirectRule, state: ruleState, order: ruleOrder,
		}},
		{KeyPassthrough, list[Direct, DirectPassthrough]{
			slice: func(d *Direct) *[]DirectPassthrough { return &d.Passthroughs },
			same:  func(a, b DirectPassthrough) bool { return slices.Equal(passArgs(a), passArgs(b)) },
			args:  passArgs, parse: parsePassthrough, state: passState, order: passOrder,
		}},
	},
	path:  func(string) string { return "direct.xml" },
	read:  func(_ string, data []byte, path string) (*Direct, Problems) { return ReadDirect(data, path) },
	write: WriteDirect,
}

// With is a direct interface of files, and behind it what is in a running one and was not in the files that it was made from.
// Passthroughs of the running one stay in any case, as in firewalld.
func (d *Direct) With(running, files *Direct) *Direct {
	with := *d
	with.Chains = chainOrder(joined(d.Chains, running.Chains, files.Chains, chainArgs))
	with.Rules = ruleOrder(joined(d.Rules, running.Rules, files.Rules, ruleArgs))
	with.Passthroughs = passOrder(joined(d.Passthroughs, running.Passthroughs, nil, passArgs))
	return &with
}

// Changed is a direct interface, changed as a running one was since it was made from files: With of both, without what those files had and
// the running one has no more.
func (d *Direct) Changed(running, files *Direct) *Direct {
	changed := d.With(running, files)
	changed.Chains = withoutGone(changed.Chains, running.Chains, files.Chains, chainArgs)
	changed.Rules = withoutGone(changed.Rules, running.Rules, files.Rules, ruleArgs)
	changed.Passthroughs = withoutGone(changed.Passthroughs, running.Passthroughs, files.Passthroughs, passArgs)
	return changed
}

// Without is what is not in another direct interface.
func (d *Direct) Without(other *Direct) *Direct {
	return &Direct{
		Chains:       withoutGone(slices.Clone(d.Chains), nil, other.Chains, chainArgs),
		Rules:        withoutGone(slices.Clone(d.Rules), nil, other.Rules, ruleArgs),
		Passthroughs: withoutGone(slices.Clone(d.Passthroughs), nil, other.Passthroughs, passArgs),
	}
}

// IsEmpty says whether there is nothing in it.
func (d *Direct) IsEmpty() bool { return len(d.Chains)+len(d.Rules)+len(d.Passthroughs) == 0 }

// withoutGone is a list without what is in files but not in running.
func withoutGone[T any](list, running, files []T, args func(T) []string) []T {
	gone := map[string]bool{}
	for _, v := range files {
		gone[JoinArgs(args(v))] = true
	}
	for _, v := range running {
		delete(gone, JoinArgs(args(v)))
	}
	return slices.DeleteFunc(list, func(v T) bool { return gone[JoinArgs(args(v))] })
}

// joined is a list, and behind it what is in running but not in files. Two are the same if their arguments are.
func joined[T any](list, running, files []T, args func(T) []string) []T {
	known := map[string]bool{}
	for _, v := range slices.Concat(list, files) {
		known[JoinArgs(args(v))] = true
	}
	list = slices.Clone(list)
	for _, v := range running {
		if !known[JoinArgs(args(v))] {
			list = append(list, v)
		}
	}
	return list
}

func chainArgs(c DirectChain) []string { return []string{c.IPV, c.Table, c.Chain} }

func ruleArgs(r DirectRule) []string {
	return append([]string{r.IPV, r.Table, r.Chain, strconv.Itoa(r.Priority)}, r.Args...)
}

func passArgs(p DirectPassthrough) []string { return append([]string{p.IPV}, p.Args...) }

// Chains of the same table, rules of the same chain, and passthroughs of the same IP version stand together, in the order in which they
// first occur.

func chainOrder(list []DirectChain) []DirectChain {
	return together(list, func(c DirectChain) [3]string { return [3]string{c.IPV, c.Table} })
}

func ruleOrder(list []DirectRule) []DirectRule {
	return together(list, func(r DirectRule) [3]string { return [3]string{r.IPV, r.Table, r.Chain} })
}

func passOrder(list []DirectPassthrough) []DirectPassthrough {
	return together(list, func(p DirectPassthrough) [3]string { return [3]string{p.IPV} })
}

// together is a list with the items of equal keys side by side, in the order in which the keys first occur.
func together[T any](list []T, key func(T) [3]string) []T {
	first := map[[3]string]int{}
	for i, item := range list {
		if _, ok := first[key(item)]; !ok {
			first[key(item)] = i
		}
	}
	return slices.SortedStableFunc(slices.Values(list), func(a, b T) int { return cmp.Compare(first[key(a)], first[key(b)]) })
}

// The messages are worded as firewalld's, with arguments as a shell takes them.

func chainState(c DirectChain, relation string) string {
	return fmt.Sprintf("chain '%s' %s '%s:%s'", c.Chain, relation, c.IPV, c.Table)
}

func ruleState(r DirectRule, relation string) string {
	return fmt.Sprintf("rule '%s' %s '%s:%s:%s'", JoinArgs(r.Args), relation, r.IPV, r.Table, r.Chain)
}

func passState(p DirectPassthrough, _ string) string {
	return fmt.Sprintf("passthrough '%s', '%s'", p.IPV, JoinArgs(p.Args))
}

// builtinChains are the chains that iptables(8), ip6tables(8) and ebtables(8) have in their tables, by the table or, where one of them has
// others, by it and the table.
var builtinChains = map[string][]string{
	"filter":   {"INPUT", "OUTPUT", "FORWARD"},
	"nat":      {"PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"},
	"mangle":   {"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"},
	"raw":      {"PREROUTING", "OUTPUT"},
	"security": {"INPUT", "OUTPUT", "FORWARD"},
	"broute":   {"BROUTING"},
	"eb nat":   {"PREROUTING", "OUTPUT", "POSTROUTING"},
}

// isBuiltin tells whether a table has a chain by itself.
func isBuiltin(ipv, table, chain string) bool {
	chains, ok := builtinChains[ipv+" "+table]
	if !ok {
		chains = builtinChains[table]
	}
	return slices.Contains(chains, chain)
}

// parseChain reads a chain of one's own.
func parseChain(e env, _ *Direct, args []string) (DirectChain, error) {
	if err := arguments(args, 3, 3); err != nil {
		return DirectChain{}, err
	}
	c := DirectChain{IPV: args[0], Table: args[1], Chain: args[2]}
	if err := CheckDirect(c.IPV, c.Table); err != nil {
		return c, err
	}
	if err := CheckChain(c.IPV, c.Chain); err != nil {
		return c, err
	}
	switch {
	case isBuiltin(c.IPV, c.Table, c.Chain):
		return c, refuse(BuiltinChain, "chain '%s' is built-in chain", c.Chain)
	case e.scope == Runtime && isBesideBuiltin(e.c, c):
		return c, refuse(BuiltinChain, "chain '%s' is reserved", c.Chain)
	case e.scope == Runtime && reserved(e.c, c.Chain):
		return c, refuse(InvalidChain, "cannot use chain %s: the chains of a zone or policy have that name", c.Chain)
	}
	return c, nil
}

// isBesideBuiltin tells whether the firewall makes a chain of that name by itself, to which one of the table's own jumps: for direct rules of
// ebtables, and with the iptables back end for those of iptables, and for zones.
func isBesideBuiltin(c *Config, chain DirectChain) bool {
	suffixes := []string{"_direct"}
	if chain.IPV != "eb" {
		if c.Conf.FirewallBackend != "iptables" {
			return false
		}
		suffixes = append(suffixes, "_dispatch")
	}
	return slices.ContainsFunc(suffixes, func(suffix string) bool {
		builtin, ok := strings.CutSuffix(chain.Chain, suffix)
		return ok && isBuiltin(chain.IPV, chain.Table, builtin)
	})
}

// reserved tells whether a chain has the name of one that the rules of a zone or policy are in.
func reserved(c *Config, chain string) bool {
	for _, prefix := range []string{"IN_", "OUT_", "FWD_", "PRE_", "POST_"} {
		name, ok := strings.CutPrefix(chain, prefix)
		for _, suffix := range []string{"", "_pre", "_log", "_deny", "_allow", "_post"} {
			inner, cut := strings.CutSuffix(name, suffix)
			if ok && cut && (c.Zones[inner] != nil || c.Policies[inner] != nil) {
				return true
			}
		}
	}
	return false
}

// parseDirectRule reads a rule of any chain: whether there is such a chain is for the kernel to say.
func parseDirectRule(_ env, _ *Direct, args []string) (DirectRule, error) {
	if len(args) < 4 {
		return DirectRule{}, arguments(args, 4, math.MaxInt)
	}
	r := DirectRule{IPV: args[0], Table: args[1], Chain: args[2], Args: args[4:]}
	if err := CheckDirect(r.IPV, r.Table); err != nil {
		return r, err
	}
	if err := CheckChain(r.IPV, r.Chain); err != nil {
		return r, err
	}
	priority, err := strconv.ParseInt(args[3], 10, 32)
	if err != nil {
		return r, refuse(grammar.InvalidPriority, "cannot use priority %s: it must be a whole number of 32 bits", args[3])
	}
	r.Priority = int(priority)
	if len(r.Args) == 0 {
		return r, refuse(grammar.InvalidRule, "cannot use a rule without arguments: it says nothing")
	}
	return r, nil
}

// parsePassthrough reads a command that adds a rule or a chain. What is permanent may be any command, as in firewalld: reading the file leaves
// out what adds nothing, with a warning. What no tool takes is refused.
func parsePassthrough(e env, _ *Direct, args []string) (DirectPassthrough, error) {
	if len(args) < 1 {
		return DirectPassthrough{}, arguments(args, 1, math.MaxInt)
	}
	p := DirectPassthrough{IPV: args[0], Args: args[1:]}
	err := p.Check()
	if err != nil && e.scope == Permanent && !problemOf(err, InvalidPass).byTool() {
		err = checkDirectIPV(p.IPV)
	}
	return p, err
}

// RemoveDirectRules removes all direct rules of a chain, of which there may be none. The error has code INVALID_IPV or
// INVALID_TABLE.
func RemoveDirectRules(ipv, table, chain string) Edit {
	return func(c *Config) (*Config, error) {
		if err := CheckDirect(ipv, table); err != nil {
			return nil, err
		}
		next := *c.Direct
		next.Rules = nil
		for _, r := range c.Direct.Rules {
			if r.IPV != ipv || r.Table != table || r.Chain != chain {
				next.Rules = append(next.Rules, r)
			}
		}
		return c.WithDirect(&next), nil
	}
}

// RemoveDirectPassthroughs removes all passthroughs.
func RemoveDirectPassthroughs() Edit {
	return func(c *Config) (*Config, error) {
		next := *c.Direct
		next.Passthroughs = nil
		return c.WithDirect(&next), nil
	}
}
