package zones

import (
	"slices"
	"strings"
)

// CheckChainsGone tells why chains that one direct interface makes cannot go in the next one: a direct rule or passthrough of the next
// one is in such a chain or jumps to it. iptables(8) and ebtables(8) delete no such chain (-X). The error has code COMMAND_FAILED; nil if
// every chain that goes is out of use.
func CheckChainsGone(old, next *Direct) error {
	if old == next {
		return nil
	}
	gone := old.made()
	for chain := range next.made() {
		delete(gone, chain)
	}
	if len(gone) == 0 {
		return nil
	}
	for _, u := range next.uses() {
		if gone[u.chain] {
			return refuse(CommandFailed, "cannot remove chain %s of %s:%s: the direct rule '%s' of chain %s %s",
				u.chain.Chain, u.chain.IPV, u.chain.Table, JoinArgs(u.rule), u.in, u.how())
		}
	}
	return nil
}

// made are the chains that a direct interface makes, by name alone: as chains and by passthroughs.
func (d *Direct) made() map[DirectChain]bool {
	made := map[DirectChain]bool{}
	for _, c := range d.Chains {
		made[DirectChain{IPV: c.IPV, Table: c.Table, Chain: c.Chain}] = true
	}
	for i := range d.Passthroughs {
		if c, ok := d.Passthroughs[i].adds(); ok && c.Kind == PassNew {
			made[DirectChain{IPV: d.Passthroughs[i].IPV, Table: c.Table, Chain: c.Chain}] = true
		}
	}
	return made
}

// chainUse is that a direct rule or passthrough is in a chain or jumps to it.
type chainUse struct {
	chain DirectChain
	in    string // the chain that the rule is in
	rule  []string
}

func (u *chainUse) how() string {
	if u.in == u.chain.Chain {
		return "is in it"
	}
	return "jumps to it"
}

// uses are the uses of chains by the rules and passthroughs of a direct interface.
func (d *Direct) uses() []chainUse {
	var uses []chainUse
	add := func(ipv, table, chain string, rule []string) {
		for _, name := range append([]string{chain}, jumps(rule)...) {
			uses = append(uses, chainUse{DirectChain{IPV: ipv, Table: table, Chain: name}, chain, rule})
		}
	}
	for _, r := range d.Rules {
		add(r.IPV, r.Table, r.Chain, r.Args)
	}
	for i := range d.Passthroughs {
		if c, ok := d.Passthroughs[i].adds(); ok && c.Kind != PassNew {
			add(d.Passthroughs[i].IPV, c.Table, c.Chain, c.Rule)
		}
	}
	return uses
}

// jumps are the targets of a rule: at most one where the rule is valid. A target that is written in another way than the usual ones is not
// found; the kernel refuses to delete its chain then.
func jumps(rule []string) []string {
	var targets []string
	for i := 0; i < len(rule); i++ {
		word := rule[i]
		switch {
		case slices.Contains(wordOptions, word): // what follows is text
			i++
		case slices.Contains([]string{"-j", "--jump", "-g", "--goto"}, word) && i+1 < len(rule):
			i++
			targets = append(targets, rule[i])
		default:
			for _, option := range []string{"-j", "-g", "--jump=", "--goto="} {
				if target, ok := strings.CutPrefix(word, option); ok && target != "" {
					targets = append(targets, target)
				}
			}
		}
	}
	return targets
}

// adds is what a passthrough adds; ok is false for one that cannot be used.
func (p *DirectPassthrough) adds() (c PassCommand, ok bool) {
	if p.IPV != "eb" {
		c, err := p.Command()
		return c, err == nil
	}
	c.Table = "filter"
	for i := 0; i+1 < len(p.Args); i++ {
		next := p.Args[i+1]
		switch p.Args[i] {
		case "-t", "--table":
			c.Table = next
		case "-N", "--new-chain":
			c.Kind, c.Chain = PassNew, next
		case "-A", "--append", "-I", "--insert":
			c.Kind, c.Chain, c.Rule = PassAppend, next, p.Args[i+2:]
		}
	}
	return c, c.Kind != ""
}
